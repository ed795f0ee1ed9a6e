"""What quantiles and flags of rounds promise: algebra, few false flags, and few misses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.rounds import drifts, is_bimodal, quantiles_s

seconds = st.floats(1e-7, 1e3)
rounds = st.lists(seconds, min_size=1, max_size=80)


def noise(rng, size, width):
    return 1e-3 * rng.lognormal(sigma=width, size=size)


def two_modes(rng, size, share, apart=1.2):
    return noise(rng, size, 0.03) * np.where(rng.random(size) < share, apart, 1)


def spikes(rng, size):
    return noise(rng, size, 0.03) * np.where(rng.random(size) < 0.02, rng.uniform(2, 50, size), 1)


def long_tail(rng, size):
    return noise(rng, size, 0.03) + np.where(rng.random(size) < 0.2, rng.exponential(0.3e-3, size), 0)


def ticks(rng, size, mean, width):
    """Durations of `mean` ticks of a clock that ticks every microsecond."""
    return np.floor(mean * noise(rng, size, width) * 1e3 + rng.random(size)) * 1e-6


# ---------------------------------------------------------------------------------------- quantiles


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=300))
def test_the_median_is_that_of_all_rounds_in_seconds(durations_ns):
    p50 = quantiles_s(np.array(durations_ns))["p50"]
    assert p50 == pytest.approx(float(np.median(durations_ns)) / 1e9)


@given(st.integers(1_000, 3_000), st.integers(0, 2**32))
def test_quantiles_are_ordered_and_no_round_is_left_out(size, seed):
    durations = np.random.default_rng(seed).permutation(np.arange(1, size + 1)) * 1_000_000
    p50, p95, p99 = quantiles_s(durations).values()
    assert p50 < p95 < p99
    assert np.mean(durations * 1e-9 > p99) == pytest.approx(0.01, abs=0.001)


@pytest.mark.parametrize(
    ("size", "known"),
    [
        (0, []),
        (1, ["p50"]),
        (199, ["p50"]),
        (200, ["p50", "p95"]),
        (999, ["p50", "p95"]),
        (1_000, ["p50", "p95", "p99"]),
    ],
)
def test_a_quantile_stands_from_ten_rounds_beyond_it(size, known):
    quantiles = quantiles_s(np.arange(size, dtype=np.int64))
    assert list(quantiles) == ["p50", "p95", "p99"]
    assert [name for name, value in quantiles.items() if value is not None] == known


# -------------------------------------------------------------------------------------------- flags


@given(rounds, st.floats(0.5, 2))
def test_the_unit_of_time_raises_and_lowers_no_flag(values, factor):
    scaled = [value * 2.0 ** round(factor * 10) for value in values]
    assert drifts(scaled) == drifts(values)
    assert is_bimodal(scaled) == is_bimodal(values)


@given(rounds)
def test_a_rise_and_the_same_fall_are_judged_alike(values):
    assert drifts(values[::-1]) == drifts(values)


@given(rounds, st.randoms(use_true_random=False))
def test_modes_do_not_depend_on_the_order_of_rounds(values, random):
    shuffled = random.sample(values, len(values))
    assert is_bimodal(shuffled) == is_bimodal(values)


@given(seconds, st.integers(0, 200))
def test_equal_rounds_have_no_flag(value, size):
    assert not drifts([value] * size)
    assert not is_bimodal([value] * size)


@given(st.lists(st.floats(1.0, 1.04), max_size=200))
def test_what_stays_within_four_percent_neither_drifts_nor_has_modes(values):
    assert not drifts(sorted(values))
    assert not is_bimodal(values)


@given(st.lists(st.sampled_from([0.0, 1e-6, 2e-6]), max_size=200))
def test_rounds_within_a_tick_of_the_clock_do_no_harm(values):
    assert drifts(values) in {True, False}
    assert not is_bimodal(values)


def test_a_single_spike_at_either_end_is_no_drift_and_no_mode():
    for at in (0, -1):
        values = noise(np.random.default_rng(1), 100, 0.001)
        values[at] *= 1_000
        assert not drifts(values)
        assert not is_bimodal(values)


def test_a_trend_of_less_than_five_percent_is_too_small_to_be_said_however_significant():
    assert not drifts(np.linspace(1.0, 1.05, 10_000))
    assert drifts(np.linspace(1.0, 1.10, 10_000))


def test_six_rounds_cannot_drift_and_seven_can():
    assert not drifts([1, 2, 3, 4, 5, 6])
    assert drifts([1, 2, 3, 4, 5, 6, 7])


def test_modes_that_take_turns_are_found_in_many_rounds_too():
    values = noise(np.random.default_rng(2), 10_000, 0.03)
    values[::5] *= 1.3
    assert is_bimodal(values)


def test_a_second_mode_of_less_than_a_tenth_of_the_rounds_is_none():
    rng = np.random.default_rng(3)
    assert not is_bimodal(two_modes(rng, 2_000, 0.06, apart=2.0))
    assert is_bimodal(two_modes(rng, 2_000, 0.15, apart=2.0))


def test_two_modes_of_a_coarse_clock_are_found_where_ticks_are_free_between_them():
    rng = np.random.default_rng(4)
    assert is_bimodal(np.where(rng.random(1_000) < 0.5, ticks(rng, 1_000, 20, 0.03), ticks(rng, 1_000, 30, 0.03)))


# -------------------------------------------------------------------------------------- simulations

UNFLAGGED = {
    "noise of 3 %": lambda rng, size: noise(rng, size, 0.03),
    "noise of 10 %": lambda rng, size: noise(rng, size, 0.10),
    "noise of 30 %": lambda rng, size: noise(rng, size, 0.30),
    "an exponential tail": lambda rng, size: 1e-3 + rng.exponential(1e-4, size),
    "a long tail of a fifth": long_tail,
    "spikes": spikes,
    "5 ticks": lambda rng, size: ticks(rng, size, 5.5, 0.03),
    "20 ticks": lambda rng, size: ticks(rng, size, 20, 0.10),
}


def share_of(flag, make, trials=200):
    return np.mean([flag(make(np.random.default_rng([7, trial]))) for trial in range(trials)])


@pytest.mark.parametrize("size", [30, 100, 1_000])
@pytest.mark.parametrize("kind", UNFLAGGED)
@pytest.mark.parametrize("flag", [drifts, is_bimodal])
def test_fewer_than_one_in_a_hundred_is_flagged_for_nothing(flag, kind, size):
    assert share_of(flag, lambda rng: UNFLAGGED[kind](rng, size)) < 0.01


@pytest.mark.parametrize("size", [200, 1_000])
@pytest.mark.parametrize("ends", [(1.0, 1.1), (1.1, 1.0)])
def test_more_than_95_percent_of_drifts_by_a_tenth_are_found(ends, size):
    assert share_of(drifts, lambda rng: noise(rng, size, 0.03) * np.linspace(*ends, size)) > 0.95


@pytest.mark.parametrize("size", [200, 1_000])
@pytest.mark.parametrize("share", [0.5, 0.2, 0.8])
def test_more_than_95_percent_of_modes_a_fifth_apart_are_found(share, size):
    assert share_of(is_bimodal, lambda rng: two_modes(rng, size, share)) > 0.95


def test_a_drift_is_found_among_spikes():
    assert share_of(drifts, lambda rng: spikes(rng, 1_000) * np.linspace(1.0, 1.1, 1_000)) > 0.95
