"""Two invocations of one seed, compared over the rounds that both did."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.child import condense
from harness.records import Record
from harness.regression.pairs import Sample, common_times, pairs_of, time_of_rounds

import numpy as np  # isort: skip


def record_with(durations_s, *, seed=0, block=0, **changes):
    fields = condense(np.array([round(s * 1e9) for s in durations_s], dtype=np.int64))
    return Record(
        workload="counting",
        parameters={},
        runtime="plain",
        options={},
        seed=seed,
        block=block,
        outcome="ok",
        **fields | changes,
    )


def test_the_faster_one_is_compared_over_the_rounds_of_the_slower_one():
    slow, fast = record_with([0.2] * 5), record_with([0.1] * 5 + [9.0] * 5)

    assert common_times(slow, fast) == (5, pytest.approx(1.0), pytest.approx(0.5))


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=60), st.data())
def test_the_time_of_the_first_rounds_is_their_sum_where_every_round_has_a_value(microseconds, data):
    durations = [n / 1e6 for n in microseconds]
    rounds = data.draw(st.integers(0, len(durations)))

    assert time_of_rounds(record_with(durations), rounds) == pytest.approx(math.fsum(durations[:rounds]))


@given(st.integers(2, 7), st.integers(1, 50), st.data())
def test_a_value_that_stands_for_several_rounds_counts_in_proportion(per_value, values, data):
    rounds = data.draw(st.integers(0, per_value * values))
    record = record_with(
        [1.0],
        rounds_s=[0.25] * values,
        rounds_per_value=per_value,
        measured_rounds=per_value * values,
        measured_s=0.25 * per_value * values,
    )

    assert time_of_rounds(record, rounds) == pytest.approx(0.25 * rounds)


def test_the_whole_of_an_invocation_is_its_sum_even_where_the_last_value_stands_for_fewer_rounds():
    record = record_with([1.0], rounds_s=[0.1, 0.2], rounds_per_value=3, measured_rounds=4, measured_s=0.5)

    assert time_of_rounds(record, 4) == 0.5


def test_records_of_the_first_versions_which_have_no_sums_can_be_paired():
    record = record_with([1.0], rounds_s=[0.1, 0.2], rounds_per_value=3, measured_rounds=0, measured_s=0.0)

    assert common_times(record, record) == (6, pytest.approx(0.9), pytest.approx(0.9))


def test_pairs_are_of_one_seed_and_say_where_their_records_are():
    base = {seed: Sample(record=record_with([0.1], seed=seed, block=seed), line=seed + 1) for seed in (3, 1, 2)}
    head = {seed: Sample(record=record_with([0.2], seed=seed, block=seed), line=seed + 9) for seed in (1, 3, 4)}

    first, second = pairs_of(base, head)

    assert (first.seed, first.base_line, first.head_line, first.rounds) == (1, 2, 10, 1)
    assert second.seed == 3
    assert first.log_ratio == pytest.approx(math.log(2))


def test_what_measured_nothing_makes_no_pair():
    nothing = record_with([0.1], rounds_s=[], measured_rounds=0, measured_s=0.0)

    assert pairs_of({0: Sample(record=nothing, line=1)}, {0: Sample(record=record_with([0.1]), line=2)}) == []
