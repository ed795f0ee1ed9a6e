"""What the paper on PAL claims, judged by runs: Zhang, Kuppannagari, Prasanna, Parallel Actors and Learners.

Its numbers are read from `harness.reference`. Each claim is judged cell by cell, by the rule of `harness.claims`: a
quarter around what was published, and faster for sure. What a machine cannot show, a number of cores that it does not
have above all, is *not measured*; where the measured points allow it, Amdahl's law says what would come, and that is
called a projection and is no verdict. Pure: works on records that are there.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from harness.claims import verdict
from harness.replay import PEERS, WORKLOAD, ReplayRun, Side
from harness.scaling import scalings
from harness.summary import SEQUENTIAL, cells_of, summarise
from harness.wording import Labels, in_ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.records import Record
    from harness.replay import Compared
    from harness.scaling import Scaling
    from harness.statistics import Estimate
    from harness.summary import SummaryRow

__all__ = [
    "BATCHES",
    "FRAMEWORKS",
    "Convergence",
    "PalJudgement",
    "PalVerdict",
    "SumTreePoint",
    "is_on_pal",
    "judge_pal",
    "plugged_in",
    "published_trees",
    "tree_side",
]

PalVerdict = Literal["reproduced", "exceeded", "not reproduced", "not comparable", "not measured"]

FRAMEWORKS = ("replay-stable-baselines3", "replay-rllib", "replay-tianshou", "replay-torchrl")
"""Into whose loops our buffer is plugged."""
BATCHES = (32, 256)

TRAINING = "training"
_ALGORITHM = "algorithm"
_DATA = "pal2021.toml"
_OPERATIONS: Mapping[str, str] = {"insert": "insertions", "sample": "draws"}
_CAPACITIES = (2**10, 2**14, 2**17, 2**20)
"""The columns of the published table."""
_TREE_BATCH = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class PalJudgement:
    """A claim on one cell."""

    claim: str
    """Which one: of the headline, or of the table of sum trees."""
    cell: str
    published: tuple[float, float] | None
    """The least and the largest ratio; equal for a single one; None where no ratio was published."""
    estimate: Estimate | None
    verdict: PalVerdict
    reason: str
    lines: tuple[int, ...] = ()
    """The lines of `records.jsonl` behind it, counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convergence:
    """How many times as fast as a baseline approach a training came to its target."""

    cell: str
    baseline: str
    estimate: Estimate | None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SumTreePoint:
    """What was published of a sum tree: seconds for 128 operations."""

    operation: str
    capacity: int
    seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """By `rllib`, `tianshou` and `pal`."""


def is_on_pal(record: Record) -> bool:
    """Whether it measured something that the paper is about."""
    return record.workload in {WORKLOAD, TRAINING}


def judge_pal(records: Sequence[Record], convergences: Iterable[Convergence] = ()) -> list[PalJudgement]:
    """All claims that `records` have a cell for, and those of the headline in any case.

    Args:
        records: In the order of their file, oldest first.
        convergences: What trainings to a target came to.
    """
    run = ReplayRun(records)
    rows = [row for row in summarise(records) if row.workload == TRAINING]
    return [
        *_scaling(rows),
        *_convergence(convergences),
        *_plugged(run),
        *_algorithms(rows),
        *_trees(run),
    ]


# ------------------------------------------------------------------------------------------ plug-in


def plugged_in(run: ReplayRun) -> list[tuple[str, int, Compared]]:
    """Framework, batch, and how many times as fast its loop is with our buffer in place of its own."""
    return [
        (framework, batch, run.compare(_loop(framework, batch, plugged=True), _loop(framework, batch, plugged=False)))
        for framework, batch in product(FRAMEWORKS, BATCHES)
    ]


def _loop(framework: str, batch: int, *, plugged: bool) -> Side:
    return Side(
        parameters={"operation": "train", "what": "buffer", "batch": batch},
        runtime=framework,
        options={"plugged": plugged},
    )


def _plugged(run: ReplayRun) -> list[PalJudgement]:
    low, high = _headline("replay_plugged_into_existing_frameworks_speedup")
    return [
        _judged(
            "our buffer plugged into another framework",
            f"{PEERS[framework]}, batch {batch}",
            (low, high),
            compared.estimate,
            compared.problem,
            compared.lines,
        )
        for framework, batch, compared in plugged_in(run)
    ]


# -------------------------------------------------------------------------------------------- trees


def published_trees() -> list[SumTreePoint]:
    """The published table."""
    table = _data()["sum_tree"]
    return [
        SumTreePoint(
            operation=operation,
            capacity=capacity,
            seconds={who: table[f"{operation}_{who}"][column] / 1e3 for who in ("rllib", "tianshou", "pal")},
        )
        for operation in _OPERATIONS
        for column, capacity in enumerate(_CAPACITIES)
    ]


def tree_side(point: SumTreePoint, runtime: str = SEQUENTIAL) -> Side:
    """What measures `point`."""
    parameters = {"what": "tree", "operation": point.operation, "capacity": point.capacity, "batch": _TREE_BATCH}
    return Side(parameters={**parameters, "fan_out": 16, "dtype": "float32"}, runtime=runtime)


def _trees(run: ReplayRun) -> list[PalJudgement]:
    """Our tree over the others', against theirs over the others', where a run has these cells."""
    judged = []
    for point in published_trees():
        if run.row(tree_side(point)) is None:
            continue
        for who in ("rllib", "tianshou"):
            compared = run.compare(tree_side(point), tree_side(point, f"replay-{who}"))
            ratio = point.seconds[who] / point.seconds["pal"]
            exponent = point.capacity.bit_length() - 1
            cell = f"{_TREE_BATCH} {_OPERATIONS[point.operation]} at 2^{exponent}, over {PEERS[f'replay-{who}']}"
            judged.append(
                _judged("sum tree", cell, (ratio, ratio), compared.estimate, compared.problem, compared.lines)
            )
    return judged


# ----------------------------------------------------------------------------------------- training


def _scaling(rows: Sequence[SummaryRow]) -> list[PalJudgement]:
    """Linear in the number of cores: as many times as fast with N workers as with one."""
    claim, judged = "throughput grows linearly with cores", []
    for cell in cells_of(rows):
        for growing in scalings(cell):
            name = f"{Labels(rows).cell(cell[0])} on {growing.runtime}"
            judged += [
                _judged(claim, f"{name}, {point.workers} workers", (point.workers, point.workers), point.over_one, None)
                for point in growing.points
                if point.workers > 1 and (growing.cores is None or point.workers <= growing.cores)
            ]
            judged += [_beyond(claim, name, cores, growing) for cores in _published_cores()]
    return judged or [_judged(claim, "every algorithm", None, None, "no training was measured with several workers")]


def _beyond(claim: str, name: str, cores: int, growing: Scaling) -> PalJudgement:
    """More workers than there are cores: what Amdahl's law would have, from the most that were measured."""
    there = "" if growing.cores is None else f" ({growing.cores})"
    most = max(
        (p for p in growing.points if growing.cores is None or p.workers <= growing.cores), key=lambda p: p.workers
    )
    if most.workers < 2:  # noqa: PLR2004 - one worker says nothing of others
        projected = "nothing to project from"
    else:
        # C = N / (1 + sigma (N - 1)), solved for sigma, a fraction.
        sigma = min(max((most.workers / most.over_one.point - 1) / (most.workers - 1), 0.0), 1.0)
        times = cores / (1 + sigma * (cores - 1))
        projected = f"projection by Amdahl's law from {most.workers} workers, no measurement: {in_ratio(times)}"
    return _judged(
        claim, f"{name}, {cores} workers", (cores, cores), None, f"more cores than there are{there}; {projected}"
    )


def _convergence(convergences: Iterable[Convergence]) -> list[PalJudgement]:
    claim, published = "time to converge, over a baseline approach", _headline("convergence_time_reduction")
    judged = [
        _judged(claim, f"{one.cell}, over {one.baseline}", published, one.estimate, one.problem) for one in convergences
    ]
    return judged or [_judged(claim, "every algorithm", published, None, "no training to a target is here")]


def _algorithms(rows: Sequence[SummaryRow]) -> list[PalJudgement]:
    """Whether each of the published algorithms runs in parallel, and gives the same on every runtime that was asked.

    What computes something else, and what could not be run here, says nothing of it.
    """
    judged = []
    for name in _data()["headline"]["algorithms"]:
        own = [
            row
            for row in rows
            if str(row.parameters.get(_ALGORITHM, "")).lower() == name.lower()
            and row.outcome != "skipped"
            and row.differs is None
            and not row.is_bound
        ]
        bad = next((row for row in own if row.outcome != "ok"), None)
        parallel = sorted({row.runtime for row in own if row.runtime != SEQUENTIAL and row.options.get("workers") != 1})
        found: PalVerdict
        if bad is not None:
            found, reason = "not reproduced", f"{bad.outcome} on {bad.runtime}: {'; '.join(bad.reasons[:1])}"
        elif not parallel:
            found, reason = "not measured", "it was not run on several processes"
        else:
            found, reason = "reproduced", f"runs on {', '.join(parallel)}, each with the digest of the plain loop"
        judged.append(
            PalJudgement(
                claim="parallel algorithms", cell=name, published=None, estimate=None, verdict=found, reason=reason
            )
        )
    return judged


# ------------------------------------------------------------------------------------------ judging


def _judged(  # noqa: PLR0913, PLR0917 - the parts of a judgement
    claim: str,
    cell: str,
    published: tuple[float, float] | None,
    estimate: Estimate | None,
    problem: str | None,
    lines: tuple[int, ...] = (),
) -> PalJudgement:
    if estimate is None or published is None:
        return PalJudgement(
            claim=claim,
            cell=cell,
            published=published,
            estimate=None,
            verdict="not measured",
            reason=problem or "no two sides of it were measured",
        )
    low, high = published
    return PalJudgement(
        claim=claim,
        cell=cell,
        published=published,
        estimate=estimate,
        verdict=verdict(low, estimate, high),
        reason=_place(estimate, low, high),
        lines=lines,
    )


def _place(estimate: Estimate, low: float, high: float) -> str:
    """Where the point lies, in words."""
    if estimate.point < low:
        return f"{in_ratio(estimate.point / low)} the {'least ' if high > low else ''}published ratio"
    if estimate.point > high:
        return f"{in_ratio(estimate.point / high)} the {'largest ' if high > low else ''}published ratio"
    return "within what was published"


def _headline(name: str) -> tuple[float, float]:
    low, high = _data()["headline"][name]
    return low, high


def _published_cores() -> list[int]:
    """The numbers of actors of the published benchmark, as numbers of cores beyond what small machines have."""
    text: str = _data()["protocol"]["synchronisation_benchmark"]
    return [int(word.strip(" ,;")) for word in text.partition("actors ")[2].partition(";")[0].split(",")]


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(resources.files("harness.reference").joinpath(_DATA).read_text(encoding="utf-8"))
