"""How much batching makes Ray free? Throughput against the steps that an environment takes in one call.

From the records of the suite `amortisation`: of every environment and runtime the share of the ceiling at each number
of steps, and from where on it is as fast as the plain loop, and from where on it has 90 % of the ceiling. Nothing is
drawn or written here.

Between two measured numbers of steps, the time of a step is taken to be a + b / steps: a call has a fixed part, which
its steps share. A line in logarithms would be some 20 % off where a curve bends towards the ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.plan import in_plan_order
from harness.row_records import RowRecords
from harness.summary import SEQUENTIAL, summarise, usable
from harness.wording import Labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from harness.plan import Plan
    from harness.records import Record
    from harness.statistics import Estimate
    from harness.summary import SummaryRow

__all__ = ["NEARLY_ALL", "Crossing", "Place", "Series", "amortisation", "crossing"]

NEARLY_ALL = 0.9
"""The share of the ceiling from which on a runtime counts as free."""

_WORKLOAD = "simulation"
_STEPS = "fragment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One runtime at one number of steps."""

    steps: int
    of_ceiling: Estimate
    """Throughput as a fraction of the ceiling's, paired by block and seed."""
    over_loop: Estimate | None
    """How many times as fast as the plain loop."""
    row: SummaryRow
    lines: tuple[int, ...]
    """The lines of `records.jsonl` that are its runtime's, counted from 1."""
    ceiling_lines: tuple[int, ...]
    """Those of the ceiling beside it."""
    loop_lines: tuple[int, ...]
    """Those of the plain loop beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """From how many steps a call on a value is no longer below a threshold."""

    steps: float | None
    """None if it is below at the largest number that was measured."""
    is_from_start: bool = False
    """It is never below: `steps` is the smallest number that was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One runtime in one environment."""

    environment: str
    """As its cells are called: id, number of environments, observation."""
    runtime: str
    places: tuple[Place, ...]
    """In order of their steps; at least one."""
    left_out: tuple[str, ...]
    """At how many steps there is no value, and why."""

    @property
    def nearly_all(self) -> Crossing:
        """From where on it has 90 % of the ceiling."""
        return crossing([(place.steps, place.of_ceiling.point) for place in self.places], NEARLY_ALL)

    @property
    def as_the_loop(self) -> Crossing | None:
        """From where on it is as fast as the plain loop; None of the loop itself, or where that was not measured."""
        ratios = [(place.steps, place.over_loop.point) for place in self.places if place.over_loop is not None]
        is_loop = self.places[0].row.runtime == SEQUENTIAL
        return None if is_loop or not ratios else crossing(ratios, 1.0)

    def of_ceiling_at(self, steps: float) -> float:
        """The share of the ceiling at `steps`, which lie between the smallest and the largest that were measured."""
        for left, right in pairwise(self.places):
            if steps <= right.steps:
                low, high = 1 / left.of_ceiling.point, 1 / right.of_ceiling.point
                return 1 / _between(1 / steps, (1 / left.steps, 1 / right.steps), (low, high))
        return self.places[-1].of_ceiling.point


def crossing(points: Sequence[tuple[float, float]], threshold: float) -> Crossing:
    """From where on the values of `points` (steps > 0 in ascending order, value > 0) reach `threshold` and stay there.

    Raises:
        ValueError: for no points.
    """
    if not points:
        raise ValueError("A crossing of no points is undefined. Give at least one.")
    below = [number for number, (_, value) in enumerate(points) if value < threshold]
    if not below:
        return Crossing(steps=points[0][0], is_from_start=True)
    if below[-1] == len(points) - 1:
        return Crossing(steps=None)
    (left, low), (right, high) = points[below[-1]], points[below[-1] + 1]
    return Crossing(steps=1 / _between(1 / threshold, (1 / low, 1 / high), (1 / left, 1 / right)))


def _between(x: float, xs: tuple[float, float], ys: tuple[float, float]) -> float:
    """The height at `x` of the line through two points that are not one above the other."""
    return ys[0] + (x - xs[0]) / (xs[1] - xs[0]) * (ys[1] - ys[0])


def amortisation(records: Sequence[Record], plan: Plan | None = None) -> list[Series]:
    """The series of `records` (in the order of their file, oldest first), environment by environment as in `plan`.

    A runtime that has no value at any number of steps has no series; nor has the ceiling.
    """
    rows = [row for row in summarise(in_plan_order(records, plan)) if row.workload == _WORKLOAD]
    labels, behind = Labels(rows), RowRecords(records)
    found: dict[tuple[str, str], list[SummaryRow]] = {}
    for row in rows:
        if not row.is_bound:
            found.setdefault((_environment(row.parameters), labels.runtime(row)), []).append(row)
    environments = list(dict.fromkeys(environment for environment, _ in found))
    series = []
    for (environment, runtime), own in sorted(found.items(), key=lambda item: environments.index(item[0][0])):
        ordered = sorted(own, key=lambda row: row.parameters[_STEPS])
        places = tuple(
            _place(row, row.efficiency, rows, behind) for row in usable(ordered) if row.efficiency is not None
        )
        if places:
            left_out = tuple(_why_not(row) for row in ordered if row not in [place.row for place in places])
            series.append(Series(environment=environment, runtime=runtime, places=places, left_out=left_out))
    return series


def _place(row: SummaryRow, of_ceiling: Estimate, rows: Sequence[SummaryRow], behind: RowRecords) -> Place:
    return Place(
        steps=row.parameters[_STEPS],
        of_ceiling=of_ceiling,
        over_loop=row.over_sequential,
        row=row,
        lines=tuple(behind.newest(row)),
        ceiling_lines=_lines_beside(row, behind, [other for other in rows if other.is_bound]),
        loop_lines=_lines_beside(row, behind, [other for other in rows if other.runtime == SEQUENTIAL]),
    )


def _lines_beside(row: SummaryRow, behind: RowRecords, others: Sequence[SummaryRow]) -> tuple[int, ...]:
    """Those of `others` in the cell of `row`."""
    return tuple(line for other in others if other.cell == row.cell for line in behind.newest(other))


def _why_not(row: SummaryRow) -> str:
    """Why `row` is at no place."""
    why = "no ceiling was measured beside it" if row.outcome == "ok" else ": ".join([row.outcome, *row.reasons[:1]])
    return f"{row.parameters[_STEPS]} steps: {why}"


def _environment(parameters: Mapping[str, Any]) -> str:
    """`CartPole-v1 x 15`, `ALE/Pong-v5 x 8, gray84`."""
    observation = parameters["observation"]
    name = f"{parameters['env_id']} x {parameters['envs']}"
    return name if observation == "raw" else f"{name}, {observation}"
