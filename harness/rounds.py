"""The rounds inside one invocation: their quantiles, and flags for a trend and for two modes.

Rounds of one invocation are no samples of their own (see `harness.statistics`), so nothing here makes an interval
narrower or takes a round away. A flag tells a reader that one number says less than it seems to: the invocation had
not settled, or its rounds are of two kinds.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Values = NDArray[np.float64]

__all__ = ["drifts", "is_bimodal", "quantiles_s"]

_LEAST_ROUNDS: dict[str, tuple[float, int]] = {"p50": (0.50, 1), "p95": (0.95, 200), "p99": (0.99, 1_000)}
"""Quantile, and from how many rounds it stands: ten rounds lie beyond it then, so no single one decides it."""

_BATCHES = 60
_TREND_P = 0.001
_TREND_LEAST = 0.05
"""A change between the first and the last quarter that is worth a reader's time."""

_THINNED = 2_000
_GRID = 256
_LEAST_FOR_MODES = 30
_MODES_APART = 0.10
_MODE_SHARE = 0.10
_VALLEY = 0.5
_VALLEY_Z = 2.0
"""Standard deviations; without this, chance makes two modes of one long tail in 7 of 100 samples of 30 rounds."""
_TRIMMED = 0.025
"""At each end: a few spikes far away would widen the kernels until they hide everything else."""
_COMMON_SHARE = 0.01


def quantiles_s(durations_ns: NDArray[np.int64]) -> dict[str, float | None]:
    """`p50`, `p95` and `p99` in seconds over every single round of `durations_ns` (nanoseconds).

    p95 is None below 200 rounds and p99 below 1,000, since fewer than ten rounds would lie beyond them; p50 is None
    for no round. Linear interpolation between order statistics: definition 7 of Hyndman and Fan, Sample Quantiles in
    Statistical Packages, The American Statistician 50 (1996).
    """
    return {
        name: float(np.quantile(durations_ns, quantile)) * 1e-9 if durations_ns.size >= least else None
        for name, (quantile, least) in _LEAST_ROUNDS.items()
    }


def drifts(rounds_s: Sequence[float]) -> bool:
    """Whether the duration of a round has a trend over the invocation; `rounds_s` are seconds, in order.

    Rule: Kendall's tau of time and the medians of at most 60 consecutive batches has p < 0.001, and the median of the
    last quarter of the rounds differs from that of the first by more than 5 %. The first says that the trend is no
    chance, the second that it matters: with enough rounds every trend is significant. Medians and ranks make single
    spikes harmless. Six rounds or fewer cannot be significant at that level (2 / 6! = 0.3 %), so they never drift.

    Source: Mann, Nonparametric Tests Against Trend, Econometrica 13 (1945); that a benchmark's rounds need not settle:
    Barrett and others, Virtual Machine Warmup Blows Hot and Cold, OOPSLA 2017.
    """
    values = np.asarray(rounds_s, dtype=np.float64)
    quarter = math.ceil(values.size / 4)
    if quarter == 0:
        return False
    first, last = float(np.median(values[:quarter])), float(np.median(values[-quarter:]))
    # The smaller one is the reference, so that a rise and the same fall are judged alike.
    if abs(last - first) <= _TREND_LEAST * min(first, last):
        return False
    from scipy.stats import kendalltau

    medians = [float(np.median(batch)) for batch in np.array_split(values, min(_BATCHES, values.size))]
    # The p-value is no number where all medians are equal, and no number is not below anything.
    return bool(kendalltau(range(len(medians)), medians).pvalue < _TREND_P)


def is_bimodal(rounds_s: Sequence[float]) -> bool:
    """Whether the rounds are of two kinds; `rounds_s` are seconds, in any order.

    Rule: the density of the logarithms of durations has two modes at least 10 % apart, each with at least 10 % of the
    rounds; between them it falls to at most half of the lower peak, and by more than twice what chance does (counts of
    rounds in the width of the kernel, as Poisson's). Density: Gaussian kernels with Scott's bandwidth over the middle
    95 % of at most 2,000 evenly spaced order statistics. Where a clock ticks coarsely, the rounds of one tick are
    spread over it first: two neighbouring ticks are one mode. With fewer than 30 rounds nothing is said.

    Where each value is a mean of several rounds, modes of single rounds can be hidden; that is no proof of one mode.

    Source: Silverman, Using Kernel Density Estimates to Investigate Multimodality, JRSS B 43 (1981); the bandwidth:
    Scott, Multivariate Density Estimation (1992).
    """
    values = np.sort(np.asarray(rounds_s, dtype=np.float64))
    values = values[values > 0]  # a clock may not have ticked within a round
    if values.size < _LEAST_FOR_MODES:
        return False
    values = _spread_over_ticks(values)
    # Order statistics, not every n-th round: modes may take turns.
    picked = np.linspace(0, values.size - 1, min(values.size, _THINNED)).round().astype(np.intp)
    logs = np.log(values[picked])
    low, high = np.quantile(logs, [_TRIMMED, 1 - _TRIMMED])
    # Rounds that are all within a tenth of one another cannot have modes that are a tenth apart.
    return bool(high - low >= math.log1p(_MODES_APART)) and _has_two_modes(logs, logs[(logs >= low) & (logs <= high)])


def _has_two_modes(logs: Values, middle: Values) -> bool:
    """The rule of `is_bimodal` for sorted logarithms of durations and those of them that make the density."""
    from scipy.signal import find_peaks
    from scipy.stats import gaussian_kde

    density = gaussian_kde(middle)
    bandwidth = math.sqrt(float(density.covariance[0, 0]))
    grid = np.linspace(middle[0] - 3 * bandwidth, middle[-1] + 3 * bandwidth, _GRID)
    heights = density(grid)
    peaks, properties = find_peaks(heights, prominence=0.0)
    # Prominence is the height above the valley towards a higher peak: what is left below it is that valley.
    tops, bottoms = heights[peaks], heights[peaks] - properties["prominences"]
    rounds_in_height = 2 * bandwidth * middle.size
    is_chance = (tops - bottoms) * math.sqrt(rounds_in_height) < _VALLEY_Z * np.sqrt(tops + bottoms)
    peaks = peaks[(bottoms <= _VALLEY * tops) & ~is_chance]
    valleys = [a + int(np.argmin(heights[a : b + 1])) for a, b in pairwise(peaks)]
    ends = np.searchsorted(logs, grid[valleys])
    shares = np.diff([0, *ends, logs.size]) / logs.size
    modes = grid[peaks[shares >= _MODE_SHARE]]
    return modes.size > 1 and bool(modes[-1] - modes[0] >= math.log1p(_MODES_APART))


def _spread_over_ticks(values: Values) -> Values:
    """Sorted `values`, those that are equal because of a coarse clock spread evenly over its tick.

    The clock counts as coarse where values of at least 1 % of the rounds each make up half of the rounds; the tick is
    the least distance of two such values.
    """
    distinct, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    is_common = counts >= max(2, _COMMON_SHARE * values.size)
    if np.count_nonzero(is_common) < 2 or counts[is_common].sum() < values.size / 2:  # noqa: PLR2004 - a distance needs two
        return values
    tick = float(np.diff(distinct[is_common]).min())
    number_in_tick = np.arange(values.size) - np.repeat(np.cumsum(counts) - counts, counts)
    offsets = (number_in_tick + 0.5) / counts[inverse] - 0.5
    # The shortest durations of all may be less than half a tick: no duration becomes negative.
    return np.sort(np.maximum(values + tick * offsets, values / 2))
