"""All cells of a workload in two numbers for each runtime: the ratio of total times, and the mean of the ratios.

Both are against the plain loop and against the best Ray, which is the best one of each cell, and both are paired by
block and seed like every ratio here (see `harness.statistics`). A runtime that is not `ok` in every cell has neither,
and the reason is said: numbers over different cells cannot be compared. Pure: works on rows that are there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.statistics import Estimate, ratio_estimate
from harness.summary import SEQUENTIAL, cells_of, usable
from harness.wording import Labels, compact_json, estimate_columns, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.summary import RowKey, SummaryRow

__all__ = ["COLUMNS", "Across", "Line", "Totals", "flat", "totals"]

BEST_RAY = "best_ray"
_NAMES = {BEST_RAY: "Ray", SEQUENTIAL: "plain loop"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """One runtime over one reference, across all cells of a workload."""

    total: Estimate | None = None
    """Time that the reference takes for one round of every cell, over the time of the runtime. The cells with the
    longest rounds decide it."""
    mean: Estimate | None = None
    """Geometric mean of the cells' speedups: every cell counts alike, however short its rounds."""
    problem: str | None = None
    """Why there is neither; None also where no cell has the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One runtime across all cells of a workload."""

    row: SummaryRow
    """Of the first cell that has it: says what it is called."""
    over: Mapping[str, Across]
    """By the name of the reference, as columns name it: `best_ray`, `sequential`."""
    problem: str | None
    """Why the runtime itself cannot be compared, whatever the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What all cells of one workload say together."""

    workload: str
    cells: int
    lines: tuple[Line, ...]
    problems: Mapping[str, str]
    """Why nothing is compared with a reference, by its name; absent where it is, or where no cell has it."""

    @property
    def estimates(self) -> list[Estimate]:
        """All that there are."""
        both = [across for line in self.lines for across in line.over.values()]
        return [estimate for across in both for estimate in (across.total, across.mean) if estimate is not None]


def totals(rows: Sequence[SummaryRow]) -> dict[str, Totals]:
    """By workload, for those with two or more cells and something that others are compared with.

    Bounds are left out: they have no speedup in any cell either.
    """
    labels = Labels(rows)
    by_workload: dict[str, list[list[SummaryRow]]] = {}
    for cell in cells_of(rows):
        by_workload.setdefault(cell[0].workload, []).append(cell)
    found = {
        workload: _totals(workload, cells, labels)
        for workload, cells in by_workload.items()
        if len(cells) > 1 and any(row.plain_loop or row.is_ray for cell in cells for row in cell)
    }
    return {workload: one for workload, one in found.items() if one.lines}


def _totals(workload: str, cells: Sequence[Sequence[SummaryRow]], labels: Labels) -> Totals:
    references = {
        BEST_RAY: [_row_of(cell, cell[0].best_ray) for cell in cells],
        SEQUENTIAL: [_row_of(cell, cell[0].plain_loop) for cell in cells],
    }
    is_there = {
        BEST_RAY: any(row.is_ray for cell in cells for row in cell),
        SEQUENTIAL: any(references[SEQUENTIAL]),
    }
    problems = {
        name: f"no valid {_NAMES[name]} {_where(lacking, len(cells), labels)}"
        for name, rows in references.items()
        if is_there[name]
        and (lacking := [cell[0] for cell, row in zip(cells, rows, strict=True) if not _is_usable(row)])
    }
    compared = {
        name: [row for row in rows if row is not None]
        for name, rows in references.items()
        if is_there[name] and name not in problems
    }
    first_rows: dict[RowKey, SummaryRow] = {}
    for row in (row for cell in cells for row in cell if not row.is_bound):
        first_rows.setdefault(row.key, row)
    return Totals(
        workload=workload,
        cells=len(cells),
        lines=tuple(_line(row, cells, compared, problems, labels) for row in first_rows.values()),
        problems=problems,
    )


def _line(
    first: SummaryRow,
    cells: Sequence[Sequence[SummaryRow]],
    compared: Mapping[str, Sequence[SummaryRow]],
    problems: Mapping[str, str],
    labels: Labels,
) -> Line:
    found = [_row_of(cell, first.key) for cell in cells]
    rows = [row for row in found if row is not None]
    problem = _problem(rows, len(cells), labels)
    over = {}
    for name in _NAMES:
        if name in problems or problem is not None:
            over[name] = Across(problem=problem or problems[name])
        else:
            over[name] = _across(rows, compared[name]) if name in compared else Across()
    return Line(row=first, over=over, problem=problem)


def _problem(rows: Sequence[SummaryRow], cells: int, labels: Labels) -> str | None:
    """Why the runtime of `rows` cannot be compared across `cells`."""
    if len(rows) < cells:
        return f"measured in {len(rows)} of {cells} cells"
    for outcome in dict.fromkeys(row.outcome for row in rows if row.outcome != "ok"):
        return f"{outcome} {_where([row for row in rows if row.outcome == outcome], cells, labels)}"
    empty = [row for row in rows if row.units_per_s is None]
    return f"no round was measured {_where(empty, cells, labels)}" if empty else None


def _across(rows: Sequence[SummaryRow], references: Sequence[SummaryRow]) -> Across:
    """`rows` over `references`, cell by cell; blocks count that both have in every cell."""
    sides = [*rows, *references]
    blocks = sorted(set.intersection(*(set(row.seconds_per_unit) for row in sides)))
    if not blocks:
        return Across(problem="no block was measured with both in every cell")
    pairs = list(zip(rows, references, strict=True))
    log_totals, log_means = [], []
    for block in blocks:
        # The same work on both sides, whatever a round of either comprises.
        work = [reference.units_per_round or 1 for reference in references]
        ours = math.fsum(n * row.seconds_per_unit[block] for n, row in zip(work, rows, strict=True))
        theirs = math.fsum(n * row.seconds_per_unit[block] for n, row in zip(work, references, strict=True))
        log_totals.append(math.log(theirs / ours))
        log_means.append(fmean(math.log(r.seconds_per_unit[block] / o.seconds_per_unit[block]) for o, r in pairs))
    return Across(total=ratio_estimate(log_totals), mean=ratio_estimate(log_means))


def _row_of(cell: Sequence[SummaryRow], key: RowKey | None) -> SummaryRow | None:
    return next((row for row in cell if row.key == key), None)


def _is_usable(row: SummaryRow | None) -> bool:
    return row is not None and usable([row]) != []


def _where(rows: Sequence[SummaryRow], cells: int, labels: Labels) -> str:
    """`on 10 MB x 8`, or `in 3 of 13 cells`, which stays short."""
    return f"on {labels.cell(rows[0])}" if len(rows) == 1 else f"in {len(rows)} of {plural(cells, 'cell')}"


# -------------------------------------------------------------------------------------- totals.csv


COLUMNS: tuple[str, ...] = (
    "workload",
    "cells",
    "runtime",
    "options",
    "reference",
    "total",
    "total_low",
    "total_high",
    "mean",
    "mean_low",
    "mean_high",
    "interval",
    "pairs",
    "reason",
)
"""The columns of `totals.csv`: a line for each workload, runtime and reference."""


def flat(found: Iterable[Totals]) -> list[dict[str, Any]]:
    """`found` as the lines of `totals.csv`, by column."""
    return [
        {
            "workload": one.workload,
            "cells": one.cells,
            "runtime": line.row.runtime,
            "options": compact_json(line.row.options),
            "reference": name,
            **estimate_columns("total", across.total),
            **estimate_columns("mean", across.mean),
            "interval": across.total.kind if across.total else None,
            "pairs": across.total.n if across.total else None,
            "reason": across.problem,
        }
        for one in found
        for line in one.lines
        for name, across in line.over.items()
    ]
