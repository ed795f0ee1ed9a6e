"""Many checks at once, of simulated pairs: how often which verdict comes out.

The rules are those of `harness.regression.judging`, for thousands of checks in some tenths of a second. `aa` asks
here how often this machine would raise a false alarm. What is drawn is for the caller to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import UsageError
from harness.regression.judging import INTERLEAVED, Margins, Verdict
from harness.statistics import LEAST_FOR_INTERVAL, averages_beyond

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

__all__ = ["Counts", "simulate_checks", "wilcoxon_intervals"]

_AT_A_TIME = 4_096
"""Checks; their Walsh averages are in memory together, 300 for each set of 24 pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of simulated checks of one cell."""

    checks: int
    verdicts: Mapping[Verdict, int]
    """How many ended *faster*, *slower*, *same* or *inconclusive*; all four are there."""
    by_first: int
    """How many the first set of pairs decided, by finding them the same."""
    hiding: int
    """How many are inconclusive so that the slowdown that must not pass unseen may be there."""

    def share(self, *verdicts: Verdict) -> float:
        """The fraction of checks that ended in one of `verdicts`."""
        return sum(self.verdicts[verdict] for verdict in verdicts) / self.checks

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            checks=self.checks + other.checks,
            verdicts={verdict: number + other.verdicts[verdict] for verdict, number in self.verdicts.items()},
            by_first=self.by_first + other.by_first,
            hiding=self.hiding + other.hiding,
        )


def simulate_checks(draw_first: Floats, draw_second: Floats | None, margins: Margins = INTERLEAVED) -> Counts:
    """Judge as many checks as there are rows, as `judge_pairs` would each of them.

    `draw_first` has the log-ratios of times of the first set of pairs of each check, positive where the head is
    slower, and `draw_second` those of the second set; None where a single set decides.

    Raises:
        UsageError: for no rows, unequal numbers of rows, or too few columns for an interval.
    """
    sets = [draw_first] if draw_second is None else [draw_first, draw_second]
    if any(pairs.ndim != 2 or pairs.shape[1] < LEAST_FOR_INTERVAL for pairs in sets):  # noqa: PLR2004 - rows, columns
        shapes = " and ".join(str(pairs.shape) for pairs in sets)
        raise UsageError(
            f"Draws of shape {shapes} are no checks: a row is a set of at least {LEAST_FOR_INTERVAL} pairs. "
            "Draw (checks, pairs)."
        )
    rows = {len(pairs) for pairs in sets}
    if len(rows) != 1 or not len(draw_first):
        raise UsageError(f"Draws of {' and '.join(map(str, rows))} checks do not go together. Draw as many, but some.")
    starts = range(0, len(draw_first), _AT_A_TIME)
    parts = [_judged(*(pairs[start : start + _AT_A_TIME] for pairs in sets), margins=margins) for start in starts]
    return sum(parts[1:], start=parts[0])


def wilcoxon_intervals(values: Floats) -> tuple[Floats, Floats]:
    """`harness.statistics.wilcoxon_interval` of each row: the lower ends and the upper ones."""
    pairs = values.shape[1]
    one, other = np.triu_indices(pairs)
    averages = values[:, one] / 2 + values[:, other] / 2
    beyond = averages_beyond(pairs)
    last = averages.shape[1] - 1 - beyond
    averages.partition((beyond, last), axis=1)
    return averages[:, beyond], averages[:, last]


def _judged(first: Floats, second: Floats | None = None, *, margins: Margins) -> Counts:
    low, high = wilcoxon_intervals(-first)
    by_first = np.zeros(len(first), dtype=np.bool_) if second is None else _is_same(low, high, margins)
    if second is not None:
        # Looked at only where the first set left it open; drawn for all, so that the draws of a check stay its own.
        low, high = wilcoxon_intervals(-second)
    beyond = math.log1p(margins.beyond)
    slower = ~by_first & (high < -beyond)
    faster = ~by_first & (low > beyond)
    same = by_first | (_is_same(low, high, margins) & ~slower & ~faster)
    inconclusive = ~(slower | faster | same)
    hiding = inconclusive & (low <= -math.log1p(margins.target))
    return Counts(
        checks=len(first),
        verdicts={
            Verdict.FASTER: int(faster.sum()),
            Verdict.SLOWER: int(slower.sum()),
            Verdict.SAME: int(same.sum()),
            Verdict.INCONCLUSIVE: int(inconclusive.sum()),
        },
        by_first=int(by_first.sum()),
        hiding=int(hiding.sum()),
    )


def _is_same(low: Floats, high: Floats, margins: Margins) -> Flags:
    same = math.log1p(margins.same)
    hiding = low <= -math.log1p(margins.target)
    return np.asarray((low >= -same) & (high <= same) & ~hiding, dtype=np.bool_)
