"""The paper's points as a run measured them: which rows belong to a point, and reactors against Ray over several.

Pure: works on records that are there. `paper` says what was published, `claims` judges, `paper_figures` draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal, get_args

from harness.row_records import RowRecords
from harness.statistics import Estimate, ratio_estimate
from harness.summary import RAY, RAY_AS_PUBLISHED, SUBJECT, cells_of, summarise, usable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.paper import Experiment, Point
    from harness.records import Record
    from harness.summary import SummaryRow

__all__ = ["REFERENCES", "Comparison", "Reference", "Reproduction"]

Reference = Literal["ray-by-value", "ray", "best Ray"]
"""What reactors are compared with: the paper's own use of Ray, Ray in the paper's shape, the fastest Ray."""

REFERENCES: tuple[Reference, ...] = get_args(Reference)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Reactors against one Ray, over one or several points."""

    reference: Reference
    estimate: Estimate | None
    """How many times as fast as that Ray: paired, and over several points their geometric mean."""
    problem: str | None
    """Why there is no estimate."""
    ours: tuple[SummaryRow, ...]
    """Of each point the reactors' row; shorter where some point has none."""
    theirs: tuple[SummaryRow, ...]
    lines: tuple[int, ...]
    """The lines of `records.jsonl` that it was computed from, counted from 1."""


class Reproduction:
    """The records of one run, by the paper's points."""

    def __init__(self, records: Sequence[Record]) -> None:
        """Take `records` in the order of their file, oldest first; of several of one block the last counts."""
        self._cells = cells_of(summarise(records))
        self.records = RowRecords(records).measured
        """The records behind a row that count, by their line in `records.jsonl`."""

    def rows(self, point: Point) -> list[SummaryRow]:
        """The rows of the cell that measures `point`; none if there is no such cell.

        Of its choices of parameters the first that was measured counts, of several cells that have them the last.
        """
        for choice in point.choices:
            fitting = [
                cell
                for cell in self._cells
                if cell[0].workload == point.workload and choice.items() <= dict(cell[0].parameters).items()
            ]
            if fitting:
                return fitting[-1]
        return []

    def compare(self, experiment: Experiment, points: Sequence[Point], reference: Reference) -> Comparison:
        """Reactors against `reference` over `points` of `experiment`."""
        pairs = [self._pair(point, reference) for point in points]
        ours = tuple(our for our, _ in pairs if our is not None)
        theirs = tuple(their for _, their in pairs if their is not None)
        problem = next((found for point in points if (found := self._problem(point, reference))), None)
        if problem is not None:
            return Comparison(reference=reference, estimate=None, problem=problem, ours=ours, theirs=theirs, lines=())
        ratios = [self._log_ratios(experiment, our, their) for our, their in zip(ours, theirs, strict=True)]
        shared = set.intersection(*(set(of_point) for of_point in ratios))
        means = [fmean(of_point[pair] for of_point in ratios) for pair in sorted(shared)]
        return Comparison(
            reference=reference,
            estimate=ratio_estimate(means) if means else None,
            problem=None if means else "no block was measured on both sides, or not beyond what the actors slept",
            ours=ours,
            theirs=theirs,
            lines=tuple(
                sorted(
                    line
                    for row in (*ours, *theirs)
                    for line, record in self.records(row).items()
                    if (record.block, record.seed) in shared
                )
            ),
        )

    def _pair(self, point: Point, reference: Reference) -> tuple[SummaryRow | None, SummaryRow | None]:
        """The reactors' row of `point` and that of `reference`, where they are usable."""
        rows = self.rows(point)
        return _subject(usable(rows)), _reference(usable(rows), reference)

    def _problem(self, point: Point, reference: Reference) -> str | None:
        """Why reactors cannot be compared with `reference` at `point`."""
        rows = self.rows(point)
        if not rows:
            return f"{point.label} was not measured"
        for who, pick in ((SUBJECT, _subject(rows)), (reference, _reference(rows, reference))):
            if pick is None:
                return f"{point.label} was not measured on {who}"
        ours, theirs = self._pair(point, reference)
        for who, good, pick in (
            (SUBJECT, ours, _subject(rows)),
            (reference, theirs, _reference(rows, reference)),
        ):
            if good is None:
                assert pick is not None
                why = f": {pick.reasons[0]}" if pick.reasons else ""
                return f"{point.label} is {pick.outcome} on {who}{why}"
        return None

    def _log_ratios(
        self, experiment: Experiment, ours: SummaryRow, theirs: SummaryRow
    ) -> Mapping[tuple[int, int], float]:
        """Logarithms of how many times as fast, by block and seed."""
        reference = {(r.block, r.seed): speed for r in self.records(theirs).values() if (speed := experiment.speed(r))}
        return {
            (record.block, record.seed): math.log(speed / reference[record.block, record.seed])
            for record in self.records(ours).values()
            if (record.block, record.seed) in reference and (speed := experiment.speed(record))
        }


def _subject(rows: Sequence[SummaryRow]) -> SummaryRow | None:
    """The reactors of a cell: the runtime `reactor`, or the fastest of those that fix an executor."""
    own = [row for row in rows if row.runtime == SUBJECT]
    others = [row for row in rows if row.runtime.startswith(f"{SUBJECT}-")]
    return _fastest(own or others)


def _reference(rows: Sequence[SummaryRow], reference: Reference) -> SummaryRow | None:
    if reference == "best Ray":
        return _fastest([row for row in rows if row.is_ray])
    wanted = RAY_AS_PUBLISHED if reference == "ray-by-value" else RAY
    return _fastest([row for row in rows if row.runtime == wanted])


def _fastest(rows: Sequence[SummaryRow]) -> SummaryRow | None:
    return max(rows, key=lambda row: row.units_per_s.point if row.units_per_s else 0.0, default=None)
