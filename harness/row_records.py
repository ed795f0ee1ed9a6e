"""Which records are behind a row of a summary, by their line in `records.jsonl`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.wording import compact_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.records import Record
    from harness.summary import RowKey, SummaryRow

__all__ = ["RowRecords"]


class RowRecords:
    """The records of a run by row; of several of one block the last."""

    def __init__(self, records: Sequence[Record]) -> None:
        """Take `records` in the order of their file, oldest first."""
        self._by_row: dict[tuple[tuple[str, str], RowKey], dict[int, tuple[int, Record]]] = {}
        for line, record in enumerate(records, start=1):
            cell = record.workload, compact_json(record.parameters)
            key = record.runtime, compact_json(record.options)
            self._by_row.setdefault((cell, key), {})[record.block] = line, record

    def newest(self, row: SummaryRow) -> dict[int, Record]:
        """Of each block the last record, whatever became of it; lines count from 1."""
        return dict(self._by_row[row.cell, row.key].values())

    def measured(self, row: SummaryRow) -> dict[int, Record]:
        """Those of them that count."""
        return {line: record for line, record in self.newest(row).items() if record.outcome == "ok"}
