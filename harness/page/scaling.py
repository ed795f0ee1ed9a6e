"""Throughput against the number of workers, where a cell was measured with several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.page.model import PageScaling
from harness.statistics import rate_estimate
from harness.summary import work_of
from harness.wording import compact_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.page.model import PageRow

__all__ = ["scaling_of"]

_OPTION = "workers"


def scaling_of(rows: Sequence[PageRow]) -> tuple[PageScaling, ...]:
    """A chart for each cell in which a runtime has two numbers of workers, all other options being equal."""
    cells: dict[tuple[str, str], list[PageRow]] = {}
    for row in rows:
        cells.setdefault((row.workload, compact_json(row.parameters)), []).append(row)
    found = []
    for of_cell in cells.values():
        lines: dict[tuple[str, str], dict[int, PageRow]] = {}
        for row in of_cell:
            workers = row.options.get(_OPTION)
            others = compact_json({name: value for name, value in row.options.items() if name != _OPTION})
            if isinstance(workers, int) and not isinstance(workers, bool) and workers > 0:
                lines.setdefault((row.runtime.partition(" (")[0], others), {})[workers] = row
        points = []
        names = [runtime for (runtime, _), line in lines.items() if len(line) > 1]
        for (runtime, others), line in lines.items():
            if len(line) < 2:  # noqa: PLR2004 - a line has two ends
                continue
            name = runtime if names.count(runtime) == 1 else f"{runtime} {others}"
            for workers in sorted(line):
                work = [done for one in line[workers].head_records if (done := work_of(one.record)) is not None]
                if work:
                    points.append((name, workers, rate_estimate([u for u, _ in work], [s for _, s in work])))
        if len({workers for _, workers, _ in points}) > 1:
            first = of_cell[0]
            found.append(PageScaling(title=f"{first.workload}, {first.cell}", unit=first.unit, points=tuple(points)))
    return tuple(found)
