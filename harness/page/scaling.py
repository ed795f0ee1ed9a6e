"""Throughput against the number of workers, where a cell was measured with several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.page.model import PageScaling
from harness.scaling import OPTION
from harness.statistics import rate_estimate
from harness.summary import work_of
from harness.wording import compact_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.page.model import PageRow
    from harness.statistics import Estimate

__all__ = ["scaling_of"]


def scaling_of(
    rows: Sequence[PageRow], notes: Mapping[tuple[str, str], Sequence[str]] | None = None
) -> tuple[PageScaling, ...]:
    """A chart for each cell in which a runtime has two numbers of workers, all other options being equal.

    `notes` are what else is known of a cell's scaling, by workload and parameters as compact JSON.
    """
    cells: dict[tuple[str, str], list[PageRow]] = {}
    for row in rows:
        cells.setdefault((row.workload, compact_json(row.parameters)), []).append(row)
    found = []
    for cell, of_cell in cells.items():
        points = _points(of_cell)
        if len({workers for _, workers, _ in points}) > 1:
            first = of_cell[0]
            found.append(
                PageScaling(
                    title=f"{first.workload}, {first.cell}",
                    unit=first.unit,
                    points=tuple(points),
                    notes=tuple((notes or {}).get(cell, ())),
                )
            )
    return tuple(found)


def _points(of_cell: Sequence[PageRow]) -> list[tuple[str, int, Estimate]]:
    """Runtime, workers and rate of every row that belongs to a line of two or more."""
    lines: dict[tuple[str, str], dict[int, PageRow]] = {}
    for row in of_cell:
        workers = row.options.get(OPTION)
        others = compact_json({name: value for name, value in row.options.items() if name != OPTION})
        if isinstance(workers, int) and not isinstance(workers, bool) and workers > 0:
            lines.setdefault((row.runtime.partition(" (")[0], others), {})[workers] = row
    lines = {key: line for key, line in lines.items() if len(line) > 1}
    names = [runtime for runtime, _ in lines]
    points = []
    for (runtime, others), line in lines.items():
        name = runtime if names.count(runtime) == 1 else f"{runtime} {others}"
        for workers in sorted(line):
            work = [done for one in line[workers].head_records if (done := work_of(one.record)) is not None]
            if work:
                points.append((name, workers, rate_estimate([u for u, _ in work], [s for _, s in work])))
    return points
