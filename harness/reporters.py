"""Reporters: other forms that a report is written in, by name. Others can be plugged in."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.wording import Labels, indented_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from harness.records import Record
    from harness.summary import SummaryRow

__all__ = ["GITHUB_ACTION_BENCHMARK", "Reported", "Reporter", "checked_names", "write_with"]

_FILE = "github-action-benchmark.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """A reporter as the harness finds it, through the entry-point group `reactorbench.reporters`.

    The module that holds it imports nothing heavy at its top, so that listing stays quick.
    """

    name: str
    summary: str
    """One line: what it writes, and for whom."""
    write: Callable[[Path, Sequence[Record], Sequence[SummaryRow]], Sequence[Path]]
    """`write(folder, records, rows)` writes into the results folder, and gives the files that it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What became of all reporters that were asked for."""

    files: tuple[Path, ...] = ()
    failures: tuple[str, ...] = ()
    """A message for each that failed."""


def checked_names(names: Iterable[str]) -> list[str]:
    """`names`, each once.

    Raises:
        UsageError: for one that is unknown or cannot be used.
    """
    from harness.registry import reporters

    known = reporters()
    return [known.get(name).name for name in dict.fromkeys(names)]


def write_with(names: Iterable[str], folder: Path, records: Sequence[Record], rows: Sequence[SummaryRow]) -> Reported:
    """Have each of the reporters called `names` write; one that fails keeps no other from it.

    Raises:
        UsageError: for one that is unknown or cannot be used.
    """
    from harness.registry import reporters

    known = reporters()
    files: list[Path] = []
    failures = []
    for name in names:
        reporter = known.get(name)
        try:
            files += reporter.write(folder, records, rows)
        except Exception as error:  # noqa: BLE001 - a foreign reporter may fail in any way
            failures.append(f"Reporter '{name}' failed: {type(error).__name__}: {error}{_place_of(error)}")
    return Reported(files=tuple(files), failures=tuple(failures))


def _place_of(error: Exception) -> str:
    """Where it was raised, for whoever repairs it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""


# ------------------------------------------------------------------------- github-action-benchmark


def _write_github_action_benchmark(
    folder: Path, _records: Sequence[Record], rows: Sequence[SummaryRow]
) -> Sequence[Path]:
    """The time of a unit of work, start-up and memory of every row that is `ok`: of all these, less is better."""
    labels = Labels(rows)
    entries = [entry for row in rows if row.outcome == "ok" for entry in _entries(row, labels)]
    path = folder / _FILE
    path.write_bytes(indented_json(entries))
    return [path]


def _entries(row: SummaryRow, labels: Labels) -> Iterable[dict[str, Any]]:
    name = f"{row.workload} {labels.cell(row)} / {labels.runtime(row)}"
    rate = row.units_per_s
    if rate is not None:
        yield {
            "name": f"{name}: time of a unit",
            "unit": f"us/{(row.unit or 'unit').replace(' ', '-')}",
            "value": 1e6 / rate.point,
            "range": f"{1e6 / rate.high:.4g} to {1e6 / rate.low:.4g}",
            "extra": f"{rate.kind} of {rate.n} invocations",
        }
    if row.startup_s is not None:
        yield {"name": f"{name}: start-up", "unit": "s", "value": row.startup_s}
    if row.pss_bytes is not None:
        yield {"name": f"{name}: memory", "unit": "MB", "value": row.pss_bytes / 1e6}


GITHUB_ACTION_BENCHMARK = Reporter(
    name="github-action-benchmark",
    summary=f"{_FILE}: what github-action-benchmark reads as customSmallerIsBetter, to draw a history.",
    write=_write_github_action_benchmark,
)
