"""What a child makes of the durations that a session gives, and how long it goes on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.child import _MAX_ROUNDS, _Durations, condense
from harness.job import MAX_VALUES


@given(st.integers(1, 60_000), st.integers(0, 2**32))
def test_condensed_durations_are_few_and_keep_their_sum(rounds, seed):
    durations = np.random.default_rng(seed).integers(0, 10**6, rounds)

    made = condense(durations)

    values, per_value = np.array(made["rounds_s"]), made["rounds_per_value"]
    lengths = np.full(len(values), per_value)
    lengths[-1] = rounds - per_value * (len(values) - 1)
    assert len(values) <= MAX_VALUES
    assert 1 <= lengths[-1] <= per_value
    assert per_value == math.ceil(rounds / MAX_VALUES)
    assert made["measured_rounds"] == rounds
    assert made["measured_s"] == pytest.approx(durations.sum() / 1e9)
    assert (values * lengths).sum() == pytest.approx(made["measured_s"])


def test_each_value_is_the_mean_of_its_own_rounds_in_order():
    made = condense(np.repeat([1, 3, 2, 4], MAX_VALUES // 2) * 1_000_000_000)

    assert made["rounds_per_value"] == 2
    assert made["rounds_s"][:: MAX_VALUES // 4] == [1.0, 3.0, 2.0, 4.0]


class Steady:
    """A session whose every round takes `round_ns`."""

    def __init__(self, round_ns):
        self.round_ns = round_ns
        self.steps = []

    def advance(self, rounds):
        self.steps.append(rounds)
        return np.full(rounds, self.round_ns, np.int64)


@given(st.integers(1_000, 10**8), st.integers(1, 50), st.floats(0, 0.5))
def test_rounds_go_on_until_the_time_is_filled_and_not_much_longer(round_ns, first, measure_s):
    session = Steady(round_ns)
    durations = _Durations([session.advance(first)])

    durations.fill(session, measure_s)

    total_s = sum(step.sum() for step in durations.steps) / 1e9
    assert total_s >= measure_s or sum(session.steps) == _MAX_ROUNDS
    assert total_s <= max(measure_s + 2 * round_ns / 1e9, first * round_ns / 1e9) + 1e-6


def test_a_runtime_that_has_filled_the_time_by_the_checkpoint_does_not_go_on():
    session = Steady(10**6)
    durations = _Durations([session.advance(10)])

    durations.fill(session, 0.005)

    assert session.steps == [10]


def test_rounds_that_take_no_time_end_at_the_hard_cap():
    session = Steady(0)
    durations = _Durations([session.advance(1_000_000)])

    durations.fill(session, 1.0)

    assert sum(session.steps) == _MAX_ROUNDS
