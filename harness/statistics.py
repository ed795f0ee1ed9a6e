"""Estimates with an interval: a throughput, and the ratio of two runtimes that were measured in pairs.

The sample is always the invocation, never a round: rounds of one invocation share its process, its
memory layout and its moment, so they are no independent samples. With six or more there is a 95 %
interval; five pairs cannot exclude anything at that level (2 / 2**5 = 6.3 %), so with fewer than six
the range is given, and called a range.

Ratios: the Hodges-Lehmann estimate of the paired log-ratios with the exact interval that inverts
Wilcoxon's signed-rank test (Hollander, Wolfe, Chicken, Nonparametric Statistical Methods, 3rd
edition, sections 3.2 and 3.3). scipy has the test, but neither the interval nor, in public, the null
distribution, which is therefore counted here. Where nothing pairs the values of two samples, the shift between
them takes their place, with the interval that inverts the rank-sum test (the same, sections 4.2 and 4.3).

Times until something happens, some of which may never end: the median, with the interval that inverts the
sign test (the same, section 3.6), since neither asks for more than an order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from statistics import fmean, median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "INTERVAL",
    "LEAST_FOR_INTERVAL",
    "RANGE",
    "Estimate",
    "IntervalKind",
    "averages_beyond",
    "detectable_change",
    "hodges_lehmann",
    "median_estimate",
    "q_values",
    "rate_estimate",
    "ratio_estimate",
    "ratio_of_samples",
    "wilcoxon_interval",
]

IntervalKind = Literal["95 % interval", "range"]

INTERVAL: IntervalKind = "95 % interval"
RANGE: IntervalKind = "range"

LEAST_FOR_INTERVAL = 6
"""The smallest sample from which the signed-rank test can reject at 5 %: 2 / 2**6 = 3.1 %."""

_TAIL = 0.025

_PAIRS_OF_REFERENCE = 24
"""In the second set of `check`, for which the smallest change that shows is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with the two ends of its interval or range, from a sample of `n`."""

    point: float
    low: float
    high: float
    n: int
    kind: IntervalKind


def rate_estimate(units: Sequence[float], seconds: Sequence[float]) -> Estimate:
    """Units a second from invocations that did `units[i]` in `seconds[i]` > 0: summed units over summed time.

    The 95 % interval is Student's t on the logarithm of that ratio of sums (linearised: Cochran, Sampling
    Techniques, 3rd edition, section 6.3), so it belongs to the figure printed and contains it. The range
    is that of the single invocations.

    Raises:
        ValueError: for no invocations.
    """
    if not units:
        raise ValueError("A rate needs at least one invocation; there is none. Measure one first.")
    n = len(units)
    point = math.fsum(units) / math.fsum(seconds)
    if n < LEAST_FOR_INTERVAL:
        rates = [u / s for u, s in zip(units, seconds, strict=True)]
        # A single invocation's rate can differ from the ratio of sums in the last bit.
        return Estimate(point=point, low=min(*rates, point), high=max(*rates, point), n=n, kind=RANGE)
    residuals = [u - point * s for u, s in zip(units, seconds, strict=True)]
    variance = math.fsum(r * r for r in residuals) / (n * (n - 1))
    relative_error = math.sqrt(variance) / fmean(units)
    width = math.exp(_t_quantile(n - 1) * relative_error)
    return Estimate(point=point, low=point / width, high=point * width, n=n, kind=INTERVAL)


def ratio_estimate(log_ratios: Sequence[float]) -> Estimate:
    """The ratio behind paired `log_ratios` (natural logarithms), one for each pair.

    With six or more pairs: Hodges-Lehmann estimate and exact 95 % interval; with fewer: geometric mean
    and range. Both ends are 1 where all pairs are equal.

    Raises:
        ValueError: for no pairs.
    """
    if not log_ratios:
        raise ValueError("A ratio needs at least one pair; there is none. Measure both runtimes with the same seed.")
    n = len(log_ratios)
    if n < LEAST_FOR_INTERVAL:
        low, high = min(log_ratios), max(log_ratios)
        # The mean of equal numbers can leave their range in the last bit.
        point = min(max(fmean(log_ratios), low), high)
        return Estimate(point=math.exp(point), low=math.exp(low), high=math.exp(high), n=n, kind=RANGE)
    low, high = wilcoxon_interval(log_ratios)
    return Estimate(
        point=math.exp(hodges_lehmann(log_ratios)), low=math.exp(low), high=math.exp(high), n=n, kind=INTERVAL
    )


def ratio_of_samples(logs: Sequence[float], reference_logs: Sequence[float]) -> Estimate:
    """The ratio of two unpaired samples of finite values, from their natural logarithms.

    With six or more in each: the shift's Hodges-Lehmann estimate and exact 95 % interval; with fewer: the same estimate
    and the range of all ratios of one to another. `n` is the size of the smaller sample.

    Raises:
        ValueError: for an empty sample.
    """
    if not logs or not reference_logs:
        raise ValueError("A ratio needs both samples; one has no value. Measure both.")
    differences = sorted(ours - theirs for ours in logs for theirs in reference_logs)
    n = min(len(logs), len(reference_logs))
    kind = INTERVAL if n >= LEAST_FOR_INTERVAL else RANGE
    beyond = differences_beyond(len(logs), len(reference_logs)) if kind == INTERVAL else 0
    low, high = differences[beyond], differences[-1 - beyond]
    return Estimate(point=math.exp(median(differences)), low=math.exp(low), high=math.exp(high), n=n, kind=kind)


def median_estimate(values: Sequence[float]) -> Estimate:
    """The median of `values`, infinity among them for what never came, with its exact 95 % interval.

    With fewer than six values the range takes the interval's place. Ends may be infinite, as may be the median.

    Raises:
        ValueError: for no values.
    """
    if not values:
        raise ValueError("A median needs at least one value; there is none. Measure one first.")
    ordered = sorted(values)
    n = len(ordered)
    if n < LEAST_FOR_INTERVAL:
        return Estimate(point=median(ordered), low=ordered[0], high=ordered[-1], n=n, kind=RANGE)
    # The most that may lie beyond each end: heads in n throws of a fair coin, at 2.5 %.
    beyond = max(k for k in range(n) if 40 * sum(math.comb(n, heads) for heads in range(k + 1)) <= 2**n)
    return Estimate(point=median(ordered), low=ordered[beyond], high=ordered[-1 - beyond], n=n, kind=INTERVAL)


def hodges_lehmann(values: Sequence[float]) -> float:
    """The median of the Walsh averages: the mean of every pair of values, each with itself included.

    Raises:
        ValueError: for no values.
    """
    if not values:
        raise ValueError("The Hodges-Lehmann estimate of no values is undefined. Give at least one.")
    return median(_walsh_averages(values))


def wilcoxon_interval(values: Sequence[float]) -> tuple[float, float]:
    """The exact interval, of 95 % or the next level above that n allows, for the centre of a symmetric population.

    It is conservative where values are equal (ties).

    Raises:
        ValueError: for fewer than six values, for which no such interval exists.
    """
    if len(values) < LEAST_FOR_INTERVAL:
        raise ValueError(
            f"A 95 % interval of {len(values)} values does not exist: the signed-rank test needs at least "
            f"{LEAST_FOR_INTERVAL}. Give their range, and call it a range."
        )
    averages = sorted(_walsh_averages(values))
    beyond = averages_beyond(len(values))
    return averages[beyond], averages[-1 - beyond]


def detectable_change(estimate: Estimate, beyond: float = 0.03) -> float:
    """The smallest slowdown that 24 pairs as noisy as those of `estimate`, a ratio, show with a power of 80 %.

    As a fraction: 0.05 for 5 %. A slowdown is called where the whole interval lies `beyond` a margin, 3 % say; for that
    it must exceed the margin by (1.96 + 0.84) / 1.96 = 1.43 half-widths of the interval, on the scale of logarithms:
    1.03 exp(1.43 h) - 1. The half-width of another number of pairs is taken to the one at 24 by the square root.

    Raises:
        ValueError: for an estimate that has a range and no interval.
    """
    if estimate.kind != INTERVAL:
        raise ValueError(f"A range of {estimate.n} pairs has no half-width; measure {LEAST_FOR_INTERVAL} or more.")
    half_width = math.log(estimate.high / estimate.low) / 2 * math.sqrt(estimate.n / _PAIRS_OF_REFERENCE)
    return (1 + beyond) * math.exp(1.43 * half_width) - 1


def q_values(samples: Sequence[Sequence[float]]) -> list[float | None]:
    """For each sample of paired log-ratios the share of false discoveries if it and all clearer ones were called.

    Benjamini and Hochberg (1995) on the p-values of Wilcoxon's signed-rank test. None for fewer than six values;
    1 where all of them are zero.
    """
    from scipy.stats import false_discovery_control

    tested = {number: _p_value(sample) for number, sample in enumerate(samples) if len(sample) >= LEAST_FOR_INTERVAL}
    if not tested:
        return [None] * len(samples)
    adjusted = dict(zip(tested, false_discovery_control(list(tested.values())), strict=True))
    return [float(adjusted[number]) if number in adjusted else None for number in range(len(samples))]


def _p_value(values: Sequence[float]) -> float:
    """Of the two-sided signed-rank test; exact where no two values are tied, as times never are."""
    from scipy.stats import wilcoxon

    if not any(values):
        return 1.0
    sizes = [abs(value) for value in values]
    exact = len(set(sizes)) == len(sizes) and 0.0 not in sizes
    return float(wilcoxon(list(values), zero_method="zsplit", method="exact" if exact else "approx").pvalue)


def _walsh_averages(values: Sequence[float]) -> list[float]:
    # Halves before adding: the mean of two values of one sign cannot overflow, and of equal ones is exact.
    return [a / 2 + b / 2 for a, b in combinations_with_replacement(values, 2)]


@cache
def averages_beyond(n: int) -> int:
    """How many Walsh averages of n values lie beyond each end of the interval.

    The largest k with P(T <= k) <= 2.5 % where T is the signed-rank statistic under the null: the sum
    of those of the ranks 1..n that a fair coin picks. Subsets with a given sum are counted in exact integers.
    """
    most = n * (n + 1) // 4  # the distribution is symmetric about half of its largest value
    subsets = [1] + [0] * most
    for rank in range(1, n + 1):
        for total in range(most, rank - 1, -1):
            subsets[total] += subsets[total - rank]
    allowed = 2**n // 40  # 2.5 %
    counted = 0
    for total, count in enumerate(subsets):
        counted += count
        if counted > allowed:
            return total - 1
    raise AssertionError("half of all subsets have at most half of the largest sum, which is more than 2.5 %")


@cache
def differences_beyond(n: int, m: int) -> int:
    """How many differences of two samples of n and m >= 6 values lie beyond each end of the shift's interval.

    The largest k with P(U <= k) <= 2.5 % where U is the Mann-Whitney statistic under the null: how many of the n m
    pairs are in one order. Arrangements of the samples with so many are counted in exact integers.
    """
    # Of i values of one sample and j of the other, by the number of pairs: what comes last is of one or of the other.
    counts: dict[tuple[int, int], list[int]] = {}
    for i in range(n + 1):
        for j in range(m + 1):
            if i == 0 or j == 0:
                counts[i, j] = [1]
                continue
            ways = [0] * (i * j + 1)
            for pairs, number in enumerate(counts[i, j - 1]):
                ways[pairs] += number
            for pairs, number in enumerate(counts[i - 1, j]):
                ways[pairs + j] += number
            counts[i, j] = ways
    allowed, counted = math.comb(n + m, n) // 40, 0  # 2.5 %
    for pairs, number in enumerate(counts[n, m]):
        counted += number
        if counted > allowed:
            return pairs - 1
    raise AssertionError("half of all arrangements have at most half of the pairs, which is more than 2.5 %")


def _t_quantile(degrees: int) -> float:
    """The 97.5 % quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 1 - _TAIL))
