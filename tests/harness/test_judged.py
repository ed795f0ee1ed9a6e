"""Records of two sides become verdicts: what is compared, what is not, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from harness.plan import pairing_of
from harness.regression.judged import Sets, judge, samples_of
from harness.regression.judging import INTERLEAVED, Margins, Verdict
from tests.harness.records_of import record

BLOCKS = range(12)


def records(side, rate=1000.0, runtime="reactor", blocks=BLOCKS, **changes):
    fields = {"side": side, "rounds_s": [0.01] * 100} | changes
    return [record(runtime, rate * (1 + 0.002 * (b % 3)), b, **fields) for b in blocks]


def judged(base, head, **options):
    both = [*base, *head]
    return judge(samples_of(both, "base"), samples_of(both, "head"), **options)


def verdict(base, head, **options):
    (only,) = judged(base, head, **options)
    return only


@pytest.mark.parametrize(
    ("rate", "expected"), [(1000, Verdict.SAME), (900, Verdict.SLOWER), (1100, Verdict.FASTER), (955, Verdict.SLOWER)]
)
def test_the_same_work_at_another_rate_is_slower_or_faster(rate, expected):
    found = verdict(records("base"), records("head", rate))

    assert found.verdict is expected
    assert found.ratio.point == pytest.approx(rate / 1000, rel=1e-3)
    assert found.base.units_per_s == pytest.approx(1002, rel=1e-3)
    assert found.head.units_per_s == pytest.approx(1.002 * rate, rel=1e-3)


def test_of_a_seed_the_newest_record_counts_and_its_line_is_kept():
    base = [*records("base", 5.0), *records("base")]
    found = verdict(base, records("head"))

    assert found.verdict is Verdict.SAME
    assert [pair.base_line for pair in found.pairs] == list(range(13, 25))
    assert [pair.head_line for pair in found.pairs] == list(range(25, 37))


def with_outcome(side, outcome, number, **changes):
    made = records(side)
    bad = records(
        side,
        outcome=outcome,
        digest=None,
        measured_s=0.0,
        rounds_s=[],
        reason="a bad\nday",
        log="logs/1.log",
        **changes,
    )
    return [*bad[:number], *made[number:]]


@pytest.mark.parametrize(
    ("base", "head", "expected", "reason"),
    [
        (
            records("base"),
            with_outcome("head", "failed", 1),
            Verdict.FAILED,
            "head failed in 1 of 12 invocations: a bad day (log: logs/1.log)",
        ),
        (records("base"), with_outcome("head", "timeout", 12), Verdict.TIMEOUT, "head timed out in 12 of 12"),
        (records("base"), with_outcome("head", "skipped", 12), Verdict.MISSING, "head was skipped in 12 of 12"),
        (records("base"), [], Verdict.MISSING, "head was not measured"),
        ([], records("head"), Verdict.NEW, "base was not measured"),
        (with_outcome("base", "failed", 12), records("head"), Verdict.FAILED, "base failed in 12 of 12"),
        (with_outcome("base", "timeout", 12), records("head"), Verdict.TIMEOUT, "base timed out in 12 of 12"),
        (with_outcome("base", "skipped", 12), records("head"), Verdict.NEW, "base was skipped in 12 of 12"),
        (
            with_outcome("base", "skipped", 12, lacked_memory=True),
            records("head"),
            Verdict.MISSING,
            "base was skipped in 12 of 12",
        ),
        (with_outcome("base", "failed", 2), records("head"), Verdict.FAILED, "base failed in 2 of 12"),
        (with_outcome("base", "timeout", 2), records("head"), Verdict.TIMEOUT, "base timed out in 2 of 12"),
        (with_outcome("base", "failed", 2), with_outcome("head", "timeout", 2), Verdict.FAILED, "head timed out"),
        (
            records("base"),
            records("head", digest="another"),
            Verdict.NOT_COMPARABLE,
            "digests differ for seed 0, 1, 2 and more",
        ),
        (records("base"), records("head", rounds=60), Verdict.NOT_COMPARABLE, "the base has 50 rounds and the head 60"),
        (records("base"), records("head", warmup_rounds=1), Verdict.NOT_COMPARABLE, "50 warm-up rounds and the head 1"),
        (
            records("base"),
            records("head", units_per_round=16),
            Verdict.NOT_COMPARABLE,
            "15 units a round and the head 16",
        ),
        (records("base"), records("head", blocks=range(8, 20)), Verdict.NOT_COMPARABLE, "4 common seeds; 6 are needed"),
    ],
)
def test_what_is_no_comparison_has_a_verdict_of_its_own_and_says_why(base, head, expected, reason):
    found = verdict(base, head)

    assert found.verdict is expected
    assert reason in found.reasons[0]
    assert found.ratio is None


def test_a_head_that_computed_something_else_than_its_own_loop_is_invalid():
    base = [*records("base", runtime="sequential"), *records("base")]
    head = [*records("head", runtime="sequential"), *records("head", digest="wrong")]
    loop, reactor = judged(base, head)

    assert (loop.verdict, reactor.verdict) == (Verdict.SAME, Verdict.INVALID)
    assert "digest differs from the sequential runtime's" in reactor.reasons[0]


def test_a_base_that_computed_something_else_than_its_own_loop_cannot_be_compared():
    base = [*records("base", runtime="sequential"), *records("base", digest="wrong")]
    head = [*records("head", runtime="sequential"), *records("head")]

    assert judged(base, head)[1].verdict is Verdict.NOT_COMPARABLE


def test_a_bound_has_no_digest_and_is_compared_all_the_same():
    fields = {"runtime": "ceiling", "is_bound": True, "digest": None}

    assert verdict(records("base", **fields), records("head", **fields)).verdict is Verdict.SAME


def test_a_first_set_of_seeds_and_a_second_one_are_told_apart():
    base = records("base", blocks=range(36))
    head = [*records("head", 800.0), *records("head", 1000.0, blocks=range(12, 36))]
    found = verdict(base, head, sets=SETS)

    assert found.verdict is Verdict.SAME
    assert len(found.pairs) == 24
    assert len(found.first_pairs) == 12


SETS = Sets(first=range(12), second=range(12, 36))


@pytest.mark.parametrize(
    ("blocks", "rate", "reason"),
    [
        (range(6), 1000, "6 of 12 pairs that decide"),
        (range(12), 800, "0 of 24 pairs that decide"),
        (range(20), 800, "8 of 24 pairs that decide"),
    ],
)
def test_pairs_that_are_not_all_there_decide_nothing(blocks, rate, reason):
    base, head = records("base", blocks=blocks), records("head", rate, blocks=blocks)
    found = verdict(base, head, sets=SETS)

    assert found.verdict is Verdict.MISSING
    assert reason in found.reasons[0]
    assert found.ratio is None
    going_on = verdict(base, head, sets=replace(SETS, is_finished=False))
    assert going_on.verdict in {Verdict.SAME, Verdict.INCONCLUSIVE, Verdict.SLOWER}


def test_pairs_that_were_skipped_are_told():
    head = [r if r.block % 2 else structs.replace(r, outcome="skipped", reason="no room") for r in records("head")]
    found = verdict(records("base"), head, sets=SETS)

    assert found.verdict is Verdict.MISSING
    assert "6 of 12 pairs" in found.reasons[0]
    assert found.reasons[1] == "head was skipped in 6 of 12 invocations: no room"


def test_a_cell_that_other_margins_leave_open_is_inconclusive_as_nobody_measured_it_again():
    base, head = records("base"), records("head", 950)
    found = verdict(base, head, sets=replace(SETS, second_is_due=False))

    assert found.verdict is Verdict.INCONCLUSIVE


def test_of_several_troubles_the_gravest_is_the_verdict_and_all_are_told():
    head = [*records("head", digest="wrong")[:-1], *with_outcome("head", "timeout", 12)[-1:]]
    head = [*head[:-1], structs.replace(head[-1], outcome="timeout", reason="slow")]
    loops = [*records("base", runtime="sequential"), *records("head", runtime="sequential")]
    _, found = judged([*loops[:12], *records("base")], [*loops[12:], *head])

    assert found.verdict is Verdict.INVALID
    assert len(found.reasons) >= 2


@pytest.mark.parametrize("same", [0.15, 0.9])
def test_a_margin_wider_than_the_target_lets_no_such_slowdown_pass(same):
    found = verdict(records("base"), records("head", 880), margins=Margins(same=same, beyond=same, target=0.1))

    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.status == 4


def test_cells_come_in_the_order_asked_for_and_those_that_nobody_measured_are_missing():
    measured = records("head", runtime="b")
    planned = [pairing_of(records("head", runtime=name)[0]) for name in "ab"]
    found = judged(records("base", runtime="b"), measured, order=planned)

    assert [(j.runtime, j.verdict) for j in found] == [("a", Verdict.MISSING), ("b", Verdict.SAME)]


def test_drift_two_modes_and_busy_machines_are_flagged_and_change_nothing():
    drifting = [0.01 * (1 + 0.004 * i) for i in range(100)]
    base = records("base")
    plain, flagged = (
        verdict(base, [record("reactor", 1000, b, side="head", **fields) for b in BLOCKS])
        for fields in (
            {"rounds_s": [0.01] * 100},
            {"rounds_s": drifting, "machine": {"busy_before": 0.5}},
        )
    )

    assert plain.flags == ()
    assert any("rounds drift in 12 of 12 head invocations" in flag for flag in flagged.flags)
    assert any("other programs were busy before 12 of 12 head" in flag for flag in flagged.flags)
    assert flagged.ratio == plain.ratio


def test_quantiles_of_a_side_are_medians_over_its_invocations_or_none():
    quantiles = {"p50": 0.01, "p95": None, "p99": None}
    head = [
        record("reactor", 1000, b, side="head", round_quantiles_s=quantiles | {"p50": 0.01 * (1 + b)}) for b in BLOCKS
    ]
    found = verdict(records("base"), head)

    assert found.head.quantiles_s == {"p50": pytest.approx(0.065), "p95": None, "p99": None}
    assert found.base.quantiles_s["p50"] is None


@settings(max_examples=30)
@given(st.lists(st.floats(100.0, 10_000.0), min_size=12, max_size=12))
def test_a_side_compared_with_itself_is_the_same_with_a_ratio_of_one(rates):
    base = [record("reactor", rate, b, side="base") for b, rate in enumerate(rates)]
    head = [record("reactor", rate, b, side="head") for b, rate in enumerate(rates)]
    found = verdict(base, head, margins=INTERLEAVED)

    assert found.verdict is Verdict.SAME
    assert (found.ratio.low, found.ratio.point, found.ratio.high) == (1, 1, 1)
