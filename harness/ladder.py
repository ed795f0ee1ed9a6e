"""Was Ray slow, or used badly? From the published Ray program to the best one, in steps that build on each other.

For one point of each figure of the paper: what the step is, which row of a run of the suite `ladder` measures it, or
why it is left out; and of a run how long a round takes at each step, how many times as fast that is as the step
before, and which share of the published ratio of Lingua Franca to Ray it explains: log(factor) / log(published ratio).
Shares of steps that follow each other add up. Nothing is drawn or written here.

The published programs do not warm up. Up to the step that does, a round's time is what the published number of rounds
would take on average: the warm-up rounds of the invocation, which are timed too, and for the rest its measured rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.paper import Experiment, Point, experiment
from harness.row_records import RowRecords
from harness.statistics import Estimate, rate_estimate, ratio_estimate
from harness.summary import RAY, RAY_AS_PUBLISHED, SEQUENTIAL, SUBJECT, summarise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.records import Record
    from harness.summary import SummaryRow

__all__ = ["AS_PUBLISHED", "Ladder", "Program", "Rung", "Step", "ladders", "programs", "steps_of"]

AS_PUBLISHED = "as published"

_PACKED = "ray-packed"
_COMPILED = "ray-compiled"
_CEILING = "ceiling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program of the paper that uses Ray, at one point of its figure, and how it uses Ray."""

    figure: int
    label: str
    """Of the point."""
    rounds: int = 0
    """Its rounds, the first included; 0 where it leaves its first rounds out, as a warm-up does."""
    prints: bool = False
    """It prints what it receives while it is timed."""
    sends_rows: bool = False
    """It sends arrays as lists of their rows."""
    sends_large: bool = False
    """What it sends is larger than 100 KiB."""
    feeds_back: bool = False
    """A round uses what the one before gave, so that a lag may separate them."""
    has_bound: bool = True
    """Its members do the same work whatever others give them, so that there is a ceiling."""
    resets_always: bool = False
    """It resets its environments at every step."""
    has_environments: bool = True

    @property
    def experiment(self) -> Experiment:
        """The figure."""
        return experiment(self.figure)

    @property
    def point(self) -> Point:
        """The point of the figure."""
        return next(point for point in self.experiment.points if point.label == self.label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One way to run the program; each differs from the one before in what its name says."""

    name: str
    runtime: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Those that tell it apart from other steps of this runtime."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Those of the workload that differ from the experiment's own."""
    cold_rounds: int = 0
    """Rounds over which the first, slower ones are spread; 0 where rounds are warm."""
    mends_both: bool = False
    """It mends a fault that both sides of the paper had, which explains nothing of their ratio."""
    left_out: str | None = None
    """Why there is no such step here."""

    @property
    def is_ray(self) -> bool:
        """Whether it is Ray, used in whichever way."""
        return self.runtime.startswith(RAY)

    @property
    def is_experiment(self) -> bool:
        """Whether it computes what the steps after it compute: with a lag, what is fed back is older."""
        return "lag" not in self.parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A step as a run measured it."""

    step: Step
    problem: str | None
    """Why it was not measured, or does not count."""
    round_s: Estimate | None = None
    factor: Estimate | None = None
    """How many times as fast as `over`, paired by block and seed."""
    over: str | None = None
    """The last step before that was measured."""
    share: float | None = None
    """Of the published ratio, of which all steps together explain 1 if they are what was published.

    None of a step that mends a fault of both sides.
    """
    row: SummaryRow | None = None
    lines: tuple[int, ...] = ()
    """The lines of `records.jsonl` behind `round_s`, counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """All steps of one program."""

    program: Program
    rungs: tuple[Rung, ...]
    from_published_to_best: Estimate | None
    """How many times as fast as Ray as published Ray is at its fastest step."""
    from_best_to_reactor: Estimate | None
    best: str | None
    """The fastest step of Ray; none that computes something else."""

    @property
    def published_ratio(self) -> float:
        """How many times as fast as Ray Lingua Franca was."""
        return self.program.experiment.published_ratio(self.program.point)

    @property
    def share_of_use(self) -> float | None:
        """How much of the published ratio using Ray well explains: the shares of all steps up to the best one."""
        if self.from_published_to_best is None:
            return None
        names = [rung.step.name for rung in self.rungs]
        up_to_best = self.rungs[: names.index(self.best or AS_PUBLISHED) + 1]
        return math.fsum(rung.share for rung in up_to_best if rung.share is not None and rung.step.is_experiment)

    @property
    def is_measured(self) -> bool:
        """Whether any step of it was."""
        return any(rung.round_s is not None for rung in self.rungs)


# -------------------------------------------------------------------------------------------- steps


_RESTARTING: Mapping[str, Any] = {"restart": "every_step"}
_EXPERIMENT: Mapping[str, Any] = {"lag": 0, "restart": "ended"}
"""What the workload's parameters are unless a step says otherwise."""
_FAULTS_OF_BOTH = ("no printing", "resets and actions mended", "warm-up")
"""The published programs for Lingua Franca print, reset and begin cold as those for Ray do."""


def programs() -> tuple[Program, ...]:
    """One of each figure: where the claims of the abstract are, and of figures 1 and 2 a large and a small array."""
    return (
        Program(figure=1, label="16 actors", sends_large=True, has_environments=False),
        Program(figure=2, label="1 kB", has_environments=False),
        Program(figure=3, label="CartPole-v1", rounds=10_000, prints=True),
        Program(figure=4, label="Pong", rounds=1_000, prints=True, resets_always=True),
        Program(figure=5, label="minibatch 500", rounds=500, sends_rows=True, feeds_back=True, has_bound=False),
        Program(figure=6, label="10 agents", rounds=100_000, sends_rows=True, feeds_back=True, has_bound=False),
    )


def steps_of(program: Program) -> tuple[Step, ...]:
    """All steps in order, those that are left out for `program` included."""
    return (*_mended(program), *_ray(program), *_beyond_ray(program))


def _mended(program: Program) -> list[Step]:
    """The habits of the published program, left one by one."""
    habits = {"print": program.prints, "put": False, "contiguous": not program.sends_rows}
    faults = _RESTARTING if program.resets_always else {}
    steps = [_by_value(AS_PUBLISHED, habits, program.rounds, faults)]
    habits |= {"print": False}
    steps += [
        _by_value("no printing", habits, program.rounds, faults)
        if program.prints
        else Step(name="no printing", left_out="the published program prints nothing while it is timed"),
        _by_value("resets and actions mended", habits, program.rounds)
        if program.resets_always
        else Step(
            name="resets and actions mended",
            left_out="no such fault of the published program is known"
            if program.has_environments
            else "there is no environment",
        ),
        _by_value("warm-up", habits, 0)
        if program.rounds
        else Step(name="warm-up", left_out="the published program leaves its first rounds out too"),
    ]
    habits |= {"put": program.sends_large}
    steps.append(
        _by_value("one put above 100 KiB", habits, 0)
        if program.sends_large
        else Step(name="one put above 100 KiB", left_out="nothing that is sent is as large")
    )
    habits |= {"contiguous": True}
    steps.append(
        _by_value("contiguous arrays", habits, 0)
        if program.sends_rows
        else Step(name="contiguous arrays", left_out="the published program sends arrays whole")
    )
    return steps


def _by_value(
    name: str, habits: Mapping[str, bool], cold_rounds: int, faults: Mapping[str, Any] = MappingProxyType({})
) -> Step:
    return Step(
        name=name,
        runtime=RAY_AS_PUBLISHED,
        options=dict(habits),
        parameters=faults,
        cold_rounds=cold_rounds,
        mends_both=name in _FAULTS_OF_BOTH,
    )


def _ray(program: Program) -> list[Step]:
    """Ray in the paper's shape, and then in better ones."""
    return [
        Step(name="references between actors", runtime=RAY, options={"private_settings": False}),
        Step(name="private settings", runtime=RAY, options={"private_settings": True}),
        Step(name="packed", runtime=_PACKED, options={"driver_slice": False}),
        Step(name="driver slice", runtime=_PACKED, options={"driver_slice": True}),
        Step(name="compiled", runtime=_COMPILED),
        Step(name="one round ahead", runtime=_COMPILED, parameters={"lag": 1})
        if program.feeds_back
        else Step(name="one round ahead", left_out="nothing is fed back that could be delayed"),
    ]


def _beyond_ray(program: Program) -> list[Step]:
    return [
        Step(name="loop", runtime=SEQUENTIAL),
        Step(name=SUBJECT, runtime=SUBJECT),
        Step(name=_CEILING, runtime=_CEILING)
        if program.has_bound
        else Step(name=_CEILING, left_out="what its members do depends on others, so that there is no such bound"),
    ]


# ------------------------------------------------------------------------------------------- a run


_Work = dict[tuple[int, int], tuple[float, float]]
"""By block and seed: rounds, and the seconds that they take."""


def ladders(records: Sequence[Record]) -> list[Ladder]:
    """All six, as far as `records` (in the order of their file, oldest first) measured them."""
    run = _Run(records)
    return [_ladder(program, run) for program in programs()]


class _Run:
    """The records of a run, by step."""

    def __init__(self, records: Sequence[Record]) -> None:
        """Take `records`; of several of one block the last counts."""
        self._rows = summarise(records)
        self.records = RowRecords(records).measured
        """The records behind a row that count, by their line."""

    def row(self, point: Point, step: Step) -> SummaryRow | None:
        """The row that measures `step` at `point`; of several the last, and None if there is none."""
        wanted = {**_EXPERIMENT, **step.parameters}
        fitting = [
            row
            for row in self._rows
            if row.workload == point.workload
            and any(
                {**choice, **wanted}.items() <= {**_EXPERIMENT, **row.parameters}.items() for choice in point.choices
            )
            and row.runtime == step.runtime
            and step.options.items() <= dict(row.options).items()
        ]
        return fitting[-1] if fitting else None


def _ladder(program: Program, run: _Run) -> Ladder:
    ratio = program.experiment.published_ratio(program.point)
    rungs: list[Rung] = []
    works: dict[str, _Work] = {}
    for step in steps_of(program):
        row = None if step.left_out else run.row(program.point, step)
        problem = step.left_out or _problem(row)
        work = _work(run.records(row).values(), step.cold_rounds) if row is not None and problem is None else {}
        if row is not None and problem is None and not work:
            problem = "its records do not say how long the first rounds took"
        over = next(reversed(works), None)
        factor = None if over is None else _factor(works[over], work)
        rungs.append(
            Rung(
                step=step,
                problem=problem,
                round_s=_round_s(work),
                factor=factor,
                over=over if factor else None,
                share=_share(factor, ratio) if factor and not step.mends_both else None,
                row=row,
                lines=tuple(run.records(row)) if row is not None and work else (),
            )
        )
        if work and step.is_experiment:
            works[step.name] = work
    return _summed_up(program, rungs, works)


def _summed_up(program: Program, rungs: Sequence[Rung], works: Mapping[str, _Work]) -> Ladder:
    """The ladder with what lies between its ends."""
    times = {
        rung.step.name: rung.round_s.point
        for rung in rungs
        if rung.step.is_ray and rung.round_s and rung.step.name in works
    }
    best = min(times, key=lambda name: times[name], default=None)
    published, reactor = works.get(AS_PUBLISHED, {}), works.get(SUBJECT, {})
    return Ladder(
        program=program,
        rungs=tuple(rungs),
        from_published_to_best=None if best is None else _factor(published, works[best]),
        from_best_to_reactor=None if best is None else _factor(works[best], reactor),
        best=best,
    )


def _share(factor: Estimate, published_ratio: float) -> float:
    return math.log(factor.point) / math.log(published_ratio)


def _problem(row: SummaryRow | None) -> str | None:
    """Why `row` does not count, or None if it does."""
    if row is None:
        return "not measured"
    if row.outcome == "ok" and row.units_per_s is not None:
        return None
    return f"{row.outcome}: {row.reasons[0]}" if row.reasons else row.outcome


def _work(records: Iterable[Record], cold_rounds: int) -> _Work:
    """Rounds and seconds of `records`: as measured, or of `cold_rounds` that begin with the warm-up's.

    Records that do not know how long their warm-up took say nothing of cold rounds.
    """
    work: _Work = {}
    for record in records:
        rounds, seconds = record.measured_rounds, record.measured_s
        if not rounds or not seconds:
            continue
        if cold_rounds:
            if record.warmup_s is None:
                continue
            later = max(cold_rounds - record.warmup_rounds, 0)
            rounds, seconds = record.warmup_rounds + later, record.warmup_s + later * seconds / rounds
        work[record.block, record.seed] = rounds, seconds
    return work


def _round_s(work: _Work) -> Estimate | None:
    """Seconds of a round."""
    if not work:
        return None
    rate = rate_estimate([rounds for rounds, _ in work.values()], [seconds for _, seconds in work.values()])
    return Estimate(point=1 / rate.point, low=1 / rate.high, high=1 / rate.low, n=rate.n, kind=rate.kind)


def _factor(before: _Work, after: _Work) -> Estimate | None:
    """How many times as fast as `before` the work `after` is; None without a pair."""
    logs = []
    for pair in sorted(before.keys() & after.keys()):
        (rounds_before, s_before), (rounds_after, s_after) = before[pair], after[pair]
        logs.append(math.log(s_before / rounds_before) - math.log(s_after / rounds_after))
    return ratio_estimate(logs) if logs else None
