"""Verdicts: what the pairs of a cell say about it, and what a command that shows verdicts exits with.

A verdict is never merged with another. The rules are those of `docs/measuring.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from harness.errors import WORST_FIRST, ExitStatus, UsageError, worst_of
from harness.statistics import (
    INTERVAL,
    LEAST_FOR_INTERVAL,
    Estimate,
    detectable_change,
    q_values,
    ratio_estimate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.regression.pairs import Pair

__all__ = [
    "INTERLEAVED",
    "Judgement",
    "Margins",
    "Side",
    "Verdict",
    "exit_status",
    "gravity",
    "judge_pairs",
    "with_q_values",
]


class Verdict(StrEnum):
    """What became of a cell; `StrEnum` values are what people read."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"
    NEW = "new"
    """Only the head has a result."""
    MISSING = "missing"
    """The head has no result though it was planned: it was skipped, or never run."""
    FAILED = "failed"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    """The head computed something else than its own plain loop."""
    NOT_COMPARABLE = "not comparable"
    """The two did different work, or have too little in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """How far a ratio may lie from 1; all are fractions, applied alike to both sides on the scale of logarithms."""

    same: float = 0.05
    """An interval wholly within is *same*."""
    beyond: float = 0.03
    """An interval wholly beyond is *slower* or *faster*."""
    target: float = 0.10
    """The slowdown that must not pass unseen: an *inconclusive* interval that contains it is an error."""

    def __post_init__(self) -> None:
        """Check all three.

        Raises:
            UsageError: for one that is no fraction above zero.
        """
        for name in ("same", "beyond", "target"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise UsageError(f"The margin '{name}' cannot be {value:g}; it is a fraction of 1, as 0.05 for 5 %.")

    def but(self, *, same: float | None = None, beyond: float | None = None, target: float | None = None) -> Margins:
        """These, with what is given in place of theirs.

        Raises:
            UsageError: for one that is no fraction above zero.
        """
        given = {"same": same, "beyond": beyond, "target": target}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def is_same(self, ratio: Estimate) -> bool:
        """Whether the whole interval lies within; never where it contains the slowdown that must not pass unseen."""
        within = -math.log1p(self.same) <= math.log(ratio.low) and math.log(ratio.high) <= math.log1p(self.same)
        return within and not self.may_hide_target(ratio)

    def is_slower(self, ratio: Estimate) -> bool:
        """Whether the whole interval lies beyond the margin, below 1."""
        return math.log(ratio.high) < -math.log1p(self.beyond)

    def is_faster(self, ratio: Estimate) -> bool:
        """Whether the whole interval lies beyond the margin, above 1."""
        return math.log(ratio.low) > math.log1p(self.beyond)

    def may_hide_target(self, ratio: Estimate) -> bool:
        """Whether the interval contains, or lies beyond, the slowdown that must not pass unseen."""
        return math.log(ratio.low) <= -math.log1p(self.target)


INTERLEAVED = Margins()
"""What `check` judges by, for sides that took turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one of the two did on a cell: of the invocations that are in pairs, for people."""

    units_per_s: float
    """Summed units over summed seconds."""
    quantiles_s: Mapping[str, float | None]
    """`p50`, `p95`, `p99` of a round's duration: of each invocation, then their median."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A cell on a runtime, judged."""

    workload: str
    parameters: Mapping[str, Any]
    runtime: str
    options: Mapping[str, Any]
    is_bound: bool = False
    differs: str | None = None
    verdict: Verdict
    unit: str = "unit"
    base: Side | None = None
    head: Side | None = None
    ratio: Estimate | None = None
    """The head's speed over the base's on the same rounds: 0.91 where the head takes 10 % longer."""
    pairs: tuple[Pair, ...] = ()
    """Those that it was judged by."""
    first_pairs: tuple[Pair, ...] = ()
    """Those of a first set that did not decide; they count for nothing more."""
    detectable: float | None = None
    """The smallest slowdown that 24 such pairs would have shown with a power of 80 %, as a fraction."""
    q_value: float | None = None
    """Benjamini and Hochberg's, among all cells judged with it. For reading; no verdict depends on it."""
    interleaved: bool = True
    """Whether the two took turns; else the machine may have changed between them."""
    hides_target: bool = False
    """It is *inconclusive*, and the slowdown that must not pass unseen may be there."""
    reasons: tuple[str, ...] = ()
    """Why the verdict is what it is, where it is no comparison; and what else went wrong."""
    flags: tuple[str, ...] = ()
    """What is odd about the rounds or the machine: drift, two modes, other programs."""
    margins: Margins | None = None
    """What it was judged by, where cells have margins of their own; else those of the whole comparison."""
    profile: str | None = None
    """A file below the results folder: where the slower side spends its time."""

    @property
    def key(self) -> tuple[str, str]:
        """Runtime and its options as compact JSON."""
        from harness.wording import compact_json

        return self.runtime, compact_json(self.options)

    @property
    def status(self) -> ExitStatus:
        """What a command that shows nothing but this exits with."""
        if self.verdict is Verdict.INCONCLUSIVE:
            return ExitStatus.NOTHING_MEASURED if self.hides_target else ExitStatus.OK
        return _STATUSES.get(self.verdict, ExitStatus.OK)


_STATUSES = {
    Verdict.SLOWER: ExitStatus.REGRESSION,
    Verdict.FAILED: ExitStatus.FAILED_OR_INVALID,
    Verdict.INVALID: ExitStatus.FAILED_OR_INVALID,
    Verdict.TIMEOUT: ExitStatus.TIMED_OUT,
    Verdict.NOT_COMPARABLE: ExitStatus.USAGE,
    Verdict.MISSING: ExitStatus.NOTHING_MEASURED,
}


def gravity(verdict: Verdict) -> int:
    """The place of `verdict` among those of which several hold: the smallest is told."""
    status = _STATUSES.get(verdict, ExitStatus.OK)
    return WORST_FIRST.index(status) if status in WORST_FIRST else len(WORST_FIRST)


def exit_status(judgements: Sequence[Judgement]) -> ExitStatus:
    """What a command that shows `judgements` exits with; without a single comparison never 0."""
    statuses = {judgement.status for judgement in judgements}
    worst = worst_of(statuses)
    if worst is ExitStatus.OK and all(judgement.ratio is None for judgement in judgements):
        return ExitStatus.NOTHING_MEASURED
    return worst


def judge_pairs(
    bare: Judgement,
    first: Sequence[Pair],
    second: Sequence[Pair] | None,
    margins: Margins,
) -> Judgement:
    """`bare` with the verdict that its pairs give.

    With `second` None a single set decides. Otherwise the first set can only find *same*; for any other cell the
    second one, of fresh pairs, decides alone, since whatever was looked at before it was chosen would favour
    chance. An empty second set leaves the cell *inconclusive*.
    """
    if len(first) < LEAST_FOR_INTERVAL:
        why = f"{len(first)} common seeds; {LEAST_FOR_INTERVAL} are needed for an interval"
        return replace(bare, verdict=Verdict.NOT_COMPARABLE, pairs=tuple(first), reasons=(*bare.reasons, why))
    ratio = _ratio(first)
    judged = _with_estimate(bare, first, ratio, margins)
    if second is None:
        return _decided(judged, ratio, margins)
    if margins.is_same(ratio):
        return replace(judged, verdict=Verdict.SAME)
    if len(second) < LEAST_FOR_INTERVAL:
        why = "the first set of pairs did not find it the same, and there is no second set to judge it by"
        undecided = replace(judged, verdict=Verdict.INCONCLUSIVE, reasons=(*bare.reasons, why))
        return replace(undecided, hides_target=margins.may_hide_target(ratio))
    ratio = _ratio(second)
    return _decided(replace(_with_estimate(bare, second, ratio, margins), first_pairs=tuple(first)), ratio, margins)


def with_q_values(judgements: Sequence[Judgement]) -> list[Judgement]:
    """`judgements` with the q-value of each that has pairs enough, where there are several."""
    if len(judgements) < 2:  # noqa: PLR2004 - one alone has nothing to be corrected for
        return list(judgements)
    found = q_values([[pair.log_ratio for pair in judgement.pairs] for judgement in judgements])
    return [replace(judgement, q_value=q) for judgement, q in zip(judgements, found, strict=True)]


def _ratio(pairs: Sequence[Pair]) -> Estimate:
    """Of speeds: the base's time over the head's."""
    return ratio_estimate([-pair.log_ratio for pair in pairs])


def _with_estimate(bare: Judgement, pairs: Sequence[Pair], ratio: Estimate, margins: Margins) -> Judgement:
    assert ratio.kind == INTERVAL
    return replace(bare, pairs=tuple(pairs), ratio=ratio, detectable=detectable_change(ratio, margins.beyond))


def _decided(judged: Judgement, ratio: Estimate, margins: Margins) -> Judgement:
    if margins.is_slower(ratio):
        return replace(judged, verdict=Verdict.SLOWER)
    if margins.is_faster(ratio):
        return replace(judged, verdict=Verdict.FASTER)
    if margins.is_same(ratio):
        return replace(judged, verdict=Verdict.SAME)
    return replace(judged, verdict=Verdict.INCONCLUSIVE, hides_target=margins.may_hide_target(ratio))
