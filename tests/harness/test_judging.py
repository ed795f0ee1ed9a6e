"""Verdicts: from pairs, and what a command that shows them exits with."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ExitStatus, UsageError
from harness.regression.judging import (
    INTERLEAVED,
    Judgement,
    Margins,
    Verdict,
    exit_status,
    judge_pairs,
    with_q_values,
)
from harness.regression.pairs import Pair
from harness.statistics import INTERVAL, Estimate

BARE = Judgement(workload="w", parameters={}, runtime="r", options={}, verdict=Verdict.MISSING)


def pairs(log_ratios, first_seed=0):
    return [
        Pair(block=seed, seed=seed, rounds=1, base_s=1.0, head_s=math.exp(x), base_line=1, head_line=2)
        for seed, x in enumerate(log_ratios, start=first_seed)
    ]


def around(percent, spread, n=12):
    """`n` log-ratios around a change of the head's time by `percent`, `spread` percent apart."""
    return [math.log1p(percent / 100) + spread / 100 * (i / (n - 1) - 0.5) for i in range(n)]


def verdict_of(first, second=()):
    return judge_pairs(BARE, pairs(first), pairs(second, 100), INTERLEAVED).verdict


@pytest.mark.parametrize(
    ("percent", "spread", "expected"),
    [
        (0, 2, Verdict.SAME),
        (3, 2, Verdict.SAME),
        (10, 2, Verdict.INCONCLUSIVE),
        (-10, 2, Verdict.INCONCLUSIVE),
        (0, 40, Verdict.INCONCLUSIVE),
    ],
)
def test_the_first_set_can_only_find_a_cell_the_same(percent, spread, expected):
    assert verdict_of(around(percent, spread)) is expected


@pytest.mark.parametrize(
    ("percent", "spread", "expected"),
    [
        (10, 2, Verdict.SLOWER),
        (4.2, 1, Verdict.SLOWER),
        (-10, 2, Verdict.FASTER),
        (0, 2, Verdict.SAME),
        (4, 12, Verdict.INCONCLUSIVE),
        (0, 60, Verdict.INCONCLUSIVE),
    ],
)
def test_the_second_set_decides_alone(percent, spread, expected):
    slower_at_first = around(30, 2)

    judged = judge_pairs(BARE, pairs(slower_at_first), pairs(around(percent, spread, 24), 100), INTERLEAVED)

    assert judged.verdict is expected
    assert {pair.seed for pair in judged.pairs} == set(range(100, 124))
    assert len(judged.first_pairs) == 12


def test_a_cell_that_is_the_same_is_judged_by_its_first_set_whatever_came_after():
    judged = judge_pairs(BARE, pairs(around(0, 1)), pairs(around(50, 1, 24), 100), INTERLEAVED)

    assert judged.verdict is Verdict.SAME
    assert len(judged.pairs) == 12


def test_without_a_second_set_a_single_one_decides():
    assert judge_pairs(BARE, pairs(around(10, 2)), None, INTERLEAVED).verdict is Verdict.SLOWER


@pytest.mark.parametrize("n", [0, 1, 5])
def test_fewer_than_six_pairs_cannot_be_compared(n):
    judged = judge_pairs(BARE, pairs([0.0] * n), None, INTERLEAVED)

    assert judged.verdict is Verdict.NOT_COMPARABLE
    assert f"{n} common seeds" in judged.reasons[0]


def test_equal_times_are_the_same_with_a_ratio_of_exactly_one():
    judged = judge_pairs(BARE, pairs([0.0] * 12), (), INTERLEAVED)

    assert (judged.ratio.low, judged.ratio.point, judged.ratio.high) == (1.0, 1.0, 1.0)
    assert judged.detectable == pytest.approx(0.03)


def test_the_ratio_is_one_of_speeds_so_that_a_slower_head_is_below_one():
    judged = judge_pairs(BARE, pairs(around(25, 1)), None, INTERLEAVED)

    assert judged.ratio.point == pytest.approx(0.8, rel=0.01)


@given(
    st.lists(st.floats(-0.3, 0.3), min_size=12, max_size=12), st.lists(st.floats(-0.3, 0.3), min_size=24, max_size=24)
)
def test_base_and_head_exchanged_exchange_slower_and_faster_and_nothing_else(first, second):
    mirrored = {Verdict.SLOWER: Verdict.FASTER, Verdict.FASTER: Verdict.SLOWER}
    there = verdict_of(first, second)

    back = verdict_of([-x for x in first], [-x for x in second])

    assert back is mirrored.get(there, there)


@pytest.mark.parametrize(
    ("percent", "spread", "hides"),
    [(0, 100, True), (8, 50, True), (4, 12, False), (-6, 40, False)],
)
def test_an_inconclusive_cell_is_an_error_only_where_the_target_may_be_there(percent, spread, hides):
    judged = judge_pairs(BARE, pairs(around(30, 2)), pairs(around(percent, spread, 24), 100), INTERLEAVED)

    assert judged.verdict is Verdict.INCONCLUSIVE
    assert judged.hides_target is hides
    assert judged.status is (ExitStatus.NOTHING_MEASURED if hides else ExitStatus.OK)


@pytest.mark.parametrize(("name", "value"), [("same", 0.0), ("beyond", -0.03), ("target", 10.0), ("same", math.nan)])
def test_a_margin_that_is_no_fraction_is_refused(name, value):
    with pytest.raises(UsageError, match=f"margin '{name}'"):
        Margins(**{name: value})


# ---------------------------------------------------------------------------------------------- status


RATIO = Estimate(point=1.0, low=0.99, high=1.01, n=12, kind=INTERVAL)


def judged_as(verdict, *, hides=False):
    measured = {Verdict.FASTER, Verdict.SLOWER, Verdict.SAME, Verdict.INCONCLUSIVE}
    ratio = RATIO if verdict in measured else None
    return Judgement(
        workload="w", parameters={}, runtime="r", options={}, verdict=verdict, ratio=ratio, hides_target=hides
    )


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict.FASTER, 0),
        (Verdict.SAME, 0),
        (Verdict.INCONCLUSIVE, 0),
        (Verdict.SLOWER, 1),
        (Verdict.NOT_COMPARABLE, 2),
        (Verdict.FAILED, 3),
        (Verdict.INVALID, 3),
        (Verdict.MISSING, 4),
        (Verdict.TIMEOUT, 124),
    ],
)
def test_each_verdict_has_its_status(verdict, status):
    assert exit_status([judged_as(verdict), judged_as(Verdict.SAME)]) == status


def test_nothing_compared_is_never_a_success():
    assert exit_status([]) == 4
    assert exit_status([judged_as(Verdict.NEW)]) == 4
    assert exit_status([judged_as(Verdict.NEW), judged_as(Verdict.SAME)]) == 0


@pytest.mark.parametrize(("first", "second"), list(product(Verdict, Verdict)))
def test_the_gravest_of_several_is_told(first, second):
    gravity = [3, 124, 1, 2, 4, 0]
    one, other = (
        exit_status([judged_as(first), judged_as(Verdict.SAME)]),
        exit_status([judged_as(second), judged_as(Verdict.SAME)]),
    )

    both = exit_status([judged_as(first), judged_as(second), judged_as(Verdict.SAME)])

    assert both == min(one, other, key=gravity.index)


# -------------------------------------------------------------------------------------------- q-values


def test_q_values_are_those_of_benjamini_and_hochberg_and_change_no_verdict():
    judgements = [judge_pairs(BARE, pairs(around(p, 4)), None, INTERLEAVED) for p in (0.1, 30, 1)]

    with_q = with_q_values(judgements)

    assert [j.verdict for j in with_q] == [j.verdict for j in judgements]
    assert with_q[1].q_value < 0.01 < with_q[0].q_value <= 1
    assert with_q[1].q_value == pytest.approx(3 * 2 / 2**12)


def test_a_single_cell_and_one_without_pairs_have_no_q_value():
    measured = judge_pairs(BARE, pairs(around(0, 4)), None, INTERLEAVED)

    assert with_q_values([measured])[0].q_value is None
    assert [j.q_value for j in with_q_values([BARE, BARE])] == [None, None]
    assert with_q_values([measured, BARE])[0].q_value is not None
