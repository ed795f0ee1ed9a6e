"""Simulated checks: they are judged exactly as measured ones."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from harness.errors import UsageError
from harness.regression.judging import Judgement, Margins, Verdict, judge_pairs
from harness.regression.pairs import Pair
from harness.regression.simulate import simulate_checks, wilcoxon_intervals
from harness.statistics import wilcoxon_interval

MARGINS = Margins()


def pairs(log_ratios):
    return [
        Pair(block=n, seed=n, rounds=1, base_s=1.0, head_s=math.exp(x), base_line=n, head_line=n)
        for n, x in enumerate(log_ratios)
    ]


def judged(first, second, margins=MARGINS):
    bare = Judgement(workload="w", parameters={}, runtime="r", options={}, verdict=Verdict.MISSING)
    return judge_pairs(bare, pairs(first), None if second is None else pairs(second), margins)


@pytest.mark.parametrize("has_second", [True, False])
@pytest.mark.parametrize("noise", [0.01, 0.05, 0.15])
def test_simulated_checks_get_the_verdicts_that_measured_ones_would(has_second, noise):
    random = np.random.default_rng(7)
    shifts = random.choice([-0.1, -0.03, 0.0, 0.03, 0.05, 0.1], size=(120, 1))
    first = shifts + noise * random.standard_t(4, size=(120, 12))
    second = shifts + noise * random.standard_t(4, size=(120, 24)) if has_second else None

    counts = simulate_checks(first, second, MARGINS)

    one_by_one = [judged(first[n], second[n] if has_second else None) for n in range(120)]
    assert counts.verdicts == {
        verdict: Counter(one.verdict for one in one_by_one)[verdict]
        for verdict in (Verdict.FASTER, Verdict.SLOWER, Verdict.SAME, Verdict.INCONCLUSIVE)
    }
    assert counts.hiding == sum(one.hides_target for one in one_by_one)
    assert counts.checks == 120
    if has_second:
        assert counts.by_first == sum(one.verdict is Verdict.SAME and not one.first_pairs for one in one_by_one)


def test_where_the_margins_overlap_a_clear_small_change_is_slower_and_not_the_same():
    small = np.full((1, 12), 0.04) + np.linspace(-1e-4, 1e-4, 12)

    assert judged(small[0], None).verdict is Verdict.SLOWER
    assert simulate_checks(small, None, MARGINS).verdicts[Verdict.SLOWER] == 1


@pytest.mark.parametrize("number", [6, 12, 24])
def test_intervals_of_many_samples_are_those_of_each(number):
    values = np.random.default_rng(3).normal(size=(40, number))

    low, high = wilcoxon_intervals(values)

    assert [(a, b) for a, b in zip(low, high, strict=True)] == [wilcoxon_interval(list(row)) for row in values]


def test_many_checks_are_judged_in_parts_and_counted_together():
    random = np.random.default_rng(0)
    first, second = random.normal(0, 0.03, (5_000, 12)), random.normal(0, 0.03, (5_000, 24))

    counts = simulate_checks(first, second)

    assert sum(counts.verdicts.values()) == counts.checks == 5_000
    assert counts.share(*counts.verdicts) == 1
    assert (
        counts.verdicts
        == (simulate_checks(first[:99], second[:99]) + simulate_checks(first[99:], second[99:])).verdicts
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.zeros((3, 5)), None),
        (np.zeros(12), None),
        (np.zeros((3, 12)), np.zeros((3, 5))),
        (np.zeros((3, 12)), np.zeros((2, 24))),
        (np.zeros((0, 12)), None),
    ],
)
def test_draws_that_are_no_checks_are_refused(first, second):
    with pytest.raises(UsageError, match="Draw"):
        simulate_checks(first, second)
