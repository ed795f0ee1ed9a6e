"""What the estimates promise: algebra, agreement with scipy's test, and coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.statistics import (
    INTERVAL,
    Estimate,
    detectable_change,
    hodges_lehmann,
    q_values,
    rate_estimate,
    ratio_estimate,
    wilcoxon_interval,
)

numbers = st.floats(-100, 100)
samples = st.lists(numbers, min_size=6, max_size=25)


def test_hodges_lehmann_is_the_median_of_walsh_averages():
    # Walsh averages of 1, 2, 6: 1, 1.5, 2, 3.5, 4, 6.
    assert hodges_lehmann([1.0, 2.0, 6.0]) == pytest.approx(2.75)


def test_hodges_lehmann_resists_one_wild_value():
    assert hodges_lehmann([1.0, 1.1, 0.9, 1.0, 1.05, 1e6]) < 2


@given(samples, numbers)
def test_adding_a_constant_moves_estimate_and_interval_by_it(values, shift):
    moved = [value + shift for value in values]
    low, high = wilcoxon_interval(values)
    assert hodges_lehmann(moved) == pytest.approx(hodges_lehmann(values) + shift, abs=1e-9)
    assert wilcoxon_interval(moved) == pytest.approx((low + shift, high + shift), abs=1e-9)


@given(samples)
def test_changing_all_signs_mirrors_estimate_and_interval(values):
    mirrored = [-value for value in values]
    low, high = wilcoxon_interval(values)
    assert hodges_lehmann(mirrored) == pytest.approx(-hodges_lehmann(values))
    assert wilcoxon_interval(mirrored) == pytest.approx((-high, -low))


@given(samples)
def test_interval_contains_the_estimate(values):
    low, high = wilcoxon_interval(values)
    assert low <= hodges_lehmann(values) <= high


@given(samples, st.randoms(use_true_random=False))
def test_order_of_the_pairs_does_not_matter(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    assert ratio_estimate([v / 100 for v in shuffled]).high == ratio_estimate([v / 100 for v in values]).high


@pytest.mark.parametrize("n", [6, 7, 10, 13, 20])
def test_interval_holds_exactly_the_centres_that_the_signed_rank_test_keeps(n):
    values = np.random.default_rng(n).normal(size=n).tolist()
    low, high = wilcoxon_interval(values)

    def p_value(centre):
        return stats.wilcoxon([value - centre for value in values], method="exact").pvalue

    assert p_value(low + 1e-9) > 0.05
    assert p_value(high - 1e-9) > 0.05
    assert p_value(low - 1e-9) <= 0.05
    assert p_value(high + 1e-9) <= 0.05


@pytest.mark.parametrize("noise", ["normal", "laplace", "standard_cauchy"])
@pytest.mark.parametrize("n", [6, 8, 10, 14, 20])
def test_coverage_is_at_least_93_percent(n, noise):
    rng = np.random.default_rng([n, len(noise)])
    draws = getattr(rng, noise)(size=(1_500, n))
    intervals = [wilcoxon_interval(row) for row in draws.tolist()]
    covered = np.mean([low <= 0.0 <= high for low, high in intervals])
    assert covered >= 0.93


def test_coverage_would_be_noticed_if_too_small():
    draws = np.random.default_rng(0).normal(size=(1_500, 10)).tolist()
    halved = [((3 * low + high) / 4, (low + 3 * high) / 4) for low, high in map(wilcoxon_interval, draws)]
    assert np.mean([low <= 0.0 <= high for low, high in halved]) < 0.93


def test_interval_of_a_large_sample_is_near_the_normal_one():
    values = np.random.default_rng(1).normal(size=100).tolist()
    low, high = wilcoxon_interval(values)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(100), rel=0.25)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_fewer_than_six_pairs_give_geometric_mean_and_range(n):
    ratios = [1.5 * 1.1**i for i in range(n)]
    estimate = ratio_estimate([math.log(ratio) for ratio in ratios])
    assert estimate.kind == "range"
    assert (estimate.low, estimate.high) == pytest.approx((ratios[0], ratios[-1]))
    assert estimate.point == pytest.approx(math.prod(ratios) ** (1 / n))


def test_six_pairs_give_a_95_percent_interval():
    assert ratio_estimate([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).kind == "95 % interval"


def test_interval_of_fewer_than_six_values_is_refused():
    with pytest.raises(ValueError, match=r"5 values does not exist.*range"):
        wilcoxon_interval([1.0, 2.0, 3.0, 4.0, 5.0])


@pytest.mark.parametrize("n", [1, 3, 6, 12])
def test_equal_times_in_all_pairs_give_a_ratio_of_exactly_one(n):
    estimate = ratio_estimate([0.0] * n)
    assert (estimate.low, estimate.point, estimate.high) == (1.0, 1.0, 1.0)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12))
def test_ratio_lies_between_its_ends(log_ratios):
    estimate = ratio_estimate(log_ratios)
    assert 0 < estimate.low <= estimate.point <= estimate.high


@pytest.mark.parametrize("estimator", [ratio_estimate, hodges_lehmann, lambda values: rate_estimate(values, values)])
def test_an_empty_sample_is_refused(estimator):
    with pytest.raises(ValueError, match="at least one"):
        estimator([])


def test_rate_is_summed_units_over_summed_time():
    # Not the mean of 10 and 40 units a second.
    assert rate_estimate([10, 40], [1.0, 1.0]).point == pytest.approx(25)
    assert rate_estimate([10, 40], [1.0, 4.0]).point == pytest.approx(10)


def test_rate_of_few_invocations_has_their_range():
    assert rate_estimate([10, 40], [1.0, 2.0]) == Estimate(point=50 / 3, low=10.0, high=20.0, n=2, kind="range")


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(0.001, 10)), min_size=1, max_size=12))
def test_rate_lies_between_its_ends(invocations):
    units, seconds = zip(*invocations, strict=True)
    estimate = rate_estimate(units, seconds)
    assert 0 < estimate.low <= estimate.point <= estimate.high


def test_rate_interval_covers_at_least_93_percent():
    rng = np.random.default_rng(5)
    seconds = rng.lognormal(mean=-0.5 * 0.05**2, sigma=0.05, size=(3_000, 8))  # expectation 1
    intervals = [rate_estimate([100.0] * 8, row) for row in seconds.tolist()]
    covered = np.mean([interval.low <= 100.0 <= interval.high for interval in intervals])
    assert covered >= 0.93


def interval_of(half_width, n=24):
    return Estimate(point=1.0, low=math.exp(-half_width), high=math.exp(half_width), n=n, kind=INTERVAL)


def test_the_smallest_detectable_change_follows_its_formula():
    assert detectable_change(interval_of(0.05)) == pytest.approx(1.03 * math.exp(1.43 * 0.05) - 1)
    assert detectable_change(interval_of(0.0)) == pytest.approx(0.03)
    assert detectable_change(interval_of(0.05, n=6)) == pytest.approx(1.03 * math.exp(1.43 * 0.025) - 1)


def test_a_range_says_nothing_about_what_could_have_been_detected():
    with pytest.raises(ValueError, match="measure 6"):
        detectable_change(ratio_estimate([0.0, 0.1]))


@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_a_slowdown_of_the_smallest_detectable_size_is_called_in_four_of_five_simulated_sets(noise):
    random = np.random.default_rng(20261121)
    typical = np.median([detectable_change(ratio_estimate(random.normal(0, noise, 24).tolist())) for _ in range(200)])
    called = [
        ratio_estimate(random.normal(-math.log1p(typical), noise, 24).tolist()).high < 1 / 1.03 for _ in range(400)
    ]

    assert np.mean(called) == pytest.approx(0.80, abs=0.06)


def test_q_values_are_scipys_false_discovery_rates_of_its_signed_rank_test():
    random = np.random.default_rng(7)
    many = [random.normal(shift, 1, 12).tolist() for shift in (0.0, 0.5, 1.0, 3.0)]
    p_values = [stats.wilcoxon(values).pvalue for values in many]

    assert q_values(many) == pytest.approx(stats.false_discovery_control(p_values).tolist())


def test_values_that_are_all_zero_have_the_q_value_one_and_too_few_have_none():
    assert q_values([[0.0] * 12, [0.1] * 3, []]) == [1.0, None, None]
    assert q_values([]) == []
