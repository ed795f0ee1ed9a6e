"""From trainings to rows: one for each cell and runtime, with what it took to the target and where it ended.

Pure: no files. Over seeds the median is given, since a training that has not reached its target has taken longer
than can be said; what has not come is infinite. The plain loop's time over a runtime's is paired by seed where both
compute the same, bit for bit; two runtimes with random streams of their own are compared as samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.learning.trainings import key_of
from harness.plan import pairing_with
from harness.statistics import Estimate, median_estimate, rate_estimate, ratio_estimate, ratio_of_samples
from harness.summary import SEQUENTIAL, cells_of, failures, outcome_of
from harness.wording import Labels, compact_json, estimate_columns, in_count, plural, plural_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.learning.records import Evaluation, Trained
    from harness.plan import Plan
    from harness.summary import RowOutcome

__all__ = [
    "COLUMNS",
    "LearningRow",
    "curve_of",
    "finding",
    "flat",
    "summarise_learning",
    "time_ratio",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRow:
    """What all trainings of one runtime on one cell say together."""

    name: str
    """How the suite calls the cell; may be empty."""
    workload: str
    parameters: Mapping[str, Any]
    runtime: str
    options: Mapping[str, Any]
    differs: str | None
    outcome: RowOutcome
    target: float | None
    trained: tuple[Trained, ...]
    """The newest training of each seed that ended `ok`, in order of seeds."""
    trainings: int
    """Seeds that were trained, whatever became of it."""
    rounds_to_target: Estimate | None
    """Of training before the first evaluation that reached the target; None without target or training, as below."""
    units_to_target: Estimate | None
    updates_to_target: Estimate | None
    wall_s_to_target: Estimate | None
    """Seconds of rounds, without starts and evaluations."""
    last_return: Estimate | None
    """The mean return of the last evaluation."""
    units_per_s: Estimate | None
    updates_per_s: Estimate | None
    over_sequential: Estimate | None = None
    """The plain loop's seconds to the target over its own; None where a seed of either did not get there."""
    reasons: tuple[str, ...] = ()
    """Why the outcome is not `ok`."""
    notices: tuple[str, ...] = ()

    is_bound = False

    @property
    def cell(self) -> tuple[str, str]:
        """Workload and its parameters as compact JSON."""
        return self.workload, compact_json(self.parameters)

    @property
    def measured(self) -> int:
        """Seeds behind the numbers: those whose newest training ended `ok`."""
        return len(self.trained)

    @property
    def first_passes(self) -> list[Evaluation | None]:
        """Of each seed the first evaluation that reached the target; None where none did."""
        return [trained.first_pass for trained in self.trained]

    @property
    def reached(self) -> int:
        """How many seeds reached the target."""
        return sum(one is not None for one in self.first_passes)

    @property
    def has_reached(self) -> bool:
        """Whether there is a target, and all seeds reached it."""
        return self.target is not None and bool(self.trained) and self.reached == len(self.trained)

    @property
    def unit(self) -> str:
        """What one unit of work is."""
        return next((trained.record.unit for trained in self.trained if trained.record.unit), "unit")


def summarise_learning(trainings: Iterable[Trained], plan: Plan | None = None) -> list[LearningRow]:
    """Rows in the order of `plan`, else of appearance; of several trainings of one seed the last counts."""
    newest = {key_of(trained.record): trained for trained in trainings}
    cells: dict[tuple[str, str], dict[tuple[str, str], list[Trained]]] = {}
    for workload, parameters, runtime, options, _ in sorted(newest, key=_place_in(plan)):
        rows = cells.setdefault((workload, parameters), {})
        rows.setdefault((runtime, options), [])
    for (workload, parameters, runtime, options, _), trained in sorted(newest.items(), key=lambda item: item[0][-1]):
        cells[workload, parameters][runtime, options].append(trained)
    return [row for cell in cells.values() for row in _compared(list(cell.values()))]


def finding(rows: Sequence[LearningRow]) -> str:
    """The result in one sentence, for the title of the figure: where the target was reached, and after how much."""
    aimed = [cell for cell in cells_of(rows) if any(row.target is not None and row.trained for row in cell)]
    if not aimed:
        return "Returns by what was trained" if any(row.trained for row in rows) else "Nothing was trained"
    there = [cell for cell in aimed if all(row.has_reached for row in cell if row.trained)]
    if len(aimed) > 1:
        return f"Every training reached its target in {len(there)} of {len(aimed)} cells"
    row = next(row for row in aimed[0] if row.trained)
    what = f"{row.name or Labels(rows).cell(row)}: a return of {row.target:g}"
    if there and row.units_to_target is not None:
        return f"{what} after {in_count(round(row.units_to_target.point))} {plural_of(row.unit)}, by every seed"
    reached = [one.reached for one in aimed[0] if one.trained]
    share = f"{min(reached)}" if min(reached) == max(reached) else f"{min(reached)} to {max(reached)}"
    return f"{what} was reached by {share} of {plural(len(row.trained), 'seed')}"


def time_ratio(ours: LearningRow, theirs: LearningRow) -> Estimate | None:
    """The seconds that `theirs` took to the target over those of `ours`; None where a seed of either did not get there.

    None too where one of them is not `ok`. A ratio above 1 says that `ours` was faster.
    """
    if not all(row.outcome == "ok" and row.has_reached for row in (ours, theirs)):
        return None
    times = [
        {t.record.seed: math.log(t.first_pass.wall_s) for t in row.trained if t.first_pass and t.first_pass.wall_s > 0}
        for row in (theirs, ours)
    ]
    if ours.differs or theirs.differs:
        return ratio_of_samples(list(times[0].values()), list(times[1].values())) if all(times) else None
    both = sorted(times[0].keys() & times[1].keys())
    return ratio_estimate([times[0][seed] - times[1][seed] for seed in both]) if both else None


def curve_of(row: LearningRow, what: Callable[[Evaluation], float]) -> list[tuple[float, float]]:
    """The mean over seeds at every evaluation that all of them had: of `what`, and of the return."""
    evaluations = zip(*(trained.evaluations for trained in row.trained), strict=False)
    return [(fmean(map(what, at)), fmean(one.mean_return for one in at)) for at in evaluations]


# ---------------------------------------------------------------------------------------- one cell


def _place_in(plan: Plan | None) -> Callable[[tuple[str, str, str, str, int]], int]:
    planned = (
        [] if plan is None else [pairing_with(cell, runtime) for cell in plan.learning for runtime in cell.runtimes]
    )
    places = {one: place for place, one in enumerate(planned)}
    return lambda key: places.get(key[:4], len(places))


def _compared(cell: Sequence[Sequence[Trained]]) -> list[LearningRow]:
    rows = _checked([_row(trainings) for trainings in cell])
    loop = next((row for row in rows if row.runtime == SEQUENTIAL), None)
    return [
        replace(row, over_sequential=None if loop is None or row is loop else time_ratio(row, loop)) for row in rows
    ]


def _row(trainings: Sequence[Trained]) -> LearningRow:
    newest = trainings[-1].record
    ok = tuple(trained for trained in trainings if trained.record.outcome == "ok" and trained.evaluations)
    target = newest.target
    passes = [trained.first_pass for trained in ok]
    ends = [trained.evaluations[-1] for trained in ok if trained.evaluations[-1].wall_s > 0]
    updates = [end.updates for end in ends if end.updates]
    seconds = [end.wall_s for end in ends]

    def to_target(what: Callable[[Evaluation], float | None]) -> Estimate | None:
        values = [math.inf if one is None else what(one) for one in passes]
        known = [value for value in values if value is not None]
        return None if target is None or not known or len(known) < len(values) else median_estimate(known)

    return LearningRow(
        name=newest.name,
        workload=newest.workload,
        parameters=newest.parameters,
        runtime=newest.runtime,
        options=newest.options,
        differs=newest.differs,
        outcome=outcome_of(trained.record for trained in trainings),
        target=target,
        trained=ok,
        trainings=sum(trained.record.outcome != "skipped" for trained in trainings),
        rounds_to_target=to_target(lambda one: one.round),
        units_to_target=to_target(lambda one: one.units),
        updates_to_target=to_target(lambda one: one.updates),
        wall_s_to_target=to_target(lambda one: one.wall_s),
        last_return=median_estimate([trained.evaluations[-1].mean_return for trained in ok]) if ok else None,
        units_per_s=rate_estimate([end.units for end in ends], seconds) if ends else None,
        updates_per_s=rate_estimate(updates, seconds) if updates and len(updates) == len(ends) else None,
        reasons=tuple(failures([trained.record for trained in trainings], "training")),
        notices=tuple(dict.fromkeys(t.record.notice for t in trainings if t.record.notice)),
    )


def _checked(rows: Sequence[LearningRow]) -> list[LearningRow]:
    """`rows`, those marked `invalid` that should have learnt what the plain loop learnt, and did not.

    Without the plain loop, the first row that computes the same takes its place.
    """
    alike = [row for row in rows if not row.differs and row.trained]
    reference = next((row for row in alike if row.runtime == SEQUENTIAL), alike[0] if alike else None)
    found = []
    for row in rows:
        wrong = None if reference is None or row is reference or row.differs else _difference(row, reference)
        found.append(row if wrong is None else replace(row, outcome="invalid", reasons=(wrong, *row.reasons)))
    return found


def _difference(row: LearningRow, reference: LearningRow) -> str | None:
    """Where `row` first had learnt something else than `reference`, if it had."""
    theirs = {(t.record.seed, one.round): one.digest for t in reference.trained for one in t.evaluations}
    for trained in row.trained:
        for one in trained.evaluations:
            expected = theirs.get((trained.record.seed, one.round))
            if expected is not None and one.digest != expected:
                return (
                    f"with seed {trained.record.seed} it had learnt something else than {reference.runtime} after "
                    f"{plural(one.round, 'round')}"
                )
    return None


# ------------------------------------------------------------------------------------- learning.csv


_ESTIMATES = (
    "rounds_to_target",
    "units_to_target",
    "updates_to_target",
    "wall_s_to_target",
    "last_return",
    "units_per_s",
    "updates_per_s",
    "over_sequential",
)

COLUMNS = (
    "name",
    "workload",
    "parameters",
    "runtime",
    "options",
    "outcome",
    "trainings",
    "measured_trainings",
    "target",
    "reached",
    *(f"{name}{end}" for name in _ESTIMATES for end in ("", "_low", "_high")),
    "interval",
    "unit",
    "differs",
    "reason",
    "notice",
    "training_numbers",
)
"""The columns of `learning.csv`, in order. `inf` stands for a target that was not reached."""


def flat(row: LearningRow) -> dict[str, Any]:
    """`row` as one line of `learning.csv`, by column; `training_numbers` are those in `learning.jsonl`."""
    values: dict[str, Any] = {
        "name": row.name,
        "workload": row.workload,
        "parameters": compact_json(row.parameters),
        "runtime": row.runtime,
        "options": compact_json(row.options),
        "outcome": row.outcome,
        "trainings": row.trainings,
        "measured_trainings": row.measured,
        "target": row.target,
        "reached": None if row.target is None else row.reached,
        "interval": row.last_return.kind if row.last_return else None,
        "unit": row.unit,
        "differs": row.differs,
        "reason": "; ".join(row.reasons) or None,
        "notice": "; ".join(row.notices) or None,
        "training_numbers": " ".join(str(trained.record.training) for trained in row.trained),
    }
    for name in _ESTIMATES:
        values |= estimate_columns(name, getattr(row, name))
    return {column: values[column] for column in COLUMNS}
