"""What a row promises: which records count, what is compared with what, and what makes a result invalid."""

import math

import pytest

from harness.errors import ExitStatus
from harness.summary import COLUMNS, default_options, exit_status, finding, flat, summarise
from tests.harness.records_of import CARTPOLE, record


def rows_of(records, **arguments):
    return {row.runtime: row for row in summarise(records, **arguments)}


def test_columns_that_others_rely_on_come_first_and_in_order():
    promised = (
        "workload,parameters,runtime,options,outcome,invocations,units_per_s,units_per_s_low,units_per_s_high,"
        "speedup_over_sequential,speedup_over_sequential_low,speedup_over_sequential_high,"
        "speedup_over_ray,speedup_over_ray_low,speedup_over_ray_high,"
        "speedup_over_best_ray,speedup_over_best_ray_low,speedup_over_best_ray_high,"
        "startup_s,pss_bytes,resets,emulator_frames,"
        "interval,measured_invocations,pairs_over_sequential,pairs_over_ray,pairs_over_best_ray,"
        "best_ray,unit,startup_earned_back_rounds,reason,notice"
    )
    assert ",".join(COLUMNS).startswith(promised + ",")


def test_new_columns_come_last():
    assert COLUMNS[-6:-3] == ("efficiency", "efficiency_per_core", "metrics")
    assert COLUMNS[-3:] == ("updates_per_s", "updates_per_s_low", "updates_per_s_high")


def test_a_row_has_every_column():
    (row,) = summarise([record("sequential", 1000)])
    assert tuple(flat(row)) == COLUMNS


def test_parameters_and_options_are_compact_json_with_sorted_keys():
    (row,) = summarise(
        [record("reactor", 1000, parameters={"envs": 2, "actions": "local"}, options={"b": 1, "a": None})]
    )
    assert flat(row)["parameters"] == '{"actions":"local","envs":2}'
    assert flat(row)["options"] == '{"a":null,"b":1}'


def test_throughput_is_units_over_summed_time():
    (row,) = summarise([record("reactor", 1000, 0), record("reactor", 3000, 1)])
    assert row.units_per_s.point == pytest.approx(3000 / (1.5 + 0.5))
    assert (row.units_per_s.low, row.units_per_s.high) == pytest.approx((1000, 3000))


def test_speedups_pair_invocations_of_the_same_block():
    # Each block is three times as fast as the one before on both sides: the paired ratio is 2 throughout.
    records = [record(name, rate * 3**b, b) for b in range(3) for name, rate in (("sequential", 100), ("reactor", 200))]
    speedup = rows_of(records)["reactor"].over_sequential
    assert (speedup.point, speedup.low, speedup.high, speedup.n) == pytest.approx((2, 2, 2, 3))


def test_blocks_with_different_seeds_are_no_pair():
    rows = rows_of([record("sequential", 100), record("reactor", 200, seed=7)])
    assert rows["reactor"].over_sequential is None


def test_fewer_than_six_pairs_are_called_a_range():
    records = [record(name, 100 + b, b) for b in range(5) for name in ("sequential", "reactor")]
    row = rows_of(records)["reactor"]
    assert (row.over_sequential.kind, row.units_per_s.kind) == ("range", "range")
    assert flat(row)["interval"] == "range"


def test_six_pairs_have_a_95_percent_interval():
    records = [record(name, 100 + b, b) for b in range(6) for name in ("sequential", "reactor")]
    assert rows_of(records)["reactor"].over_sequential.kind == "95 % interval"


def test_a_reference_is_1_over_itself():
    row = rows_of([record("sequential", 123.4, b) for b in range(3)])["sequential"]
    assert (row.over_sequential.point, row.over_sequential.low, row.over_sequential.high) == (1, 1, 1)


def test_best_ray_is_the_fastest_valid_runtime_whose_name_begins_with_ray():
    rates = {"sequential": 100, "ray": 1, "ray-packed": 10, "ray-compiled": 50, "reactor": 200}
    records = [record(name, rate) for name, rate in rates.items()]
    rows = rows_of(records)
    assert rows["reactor"].best_ray == ("ray-compiled", "{}")
    assert rows["reactor"].over_best_ray.point == pytest.approx(4)
    assert rows["reactor"].over_ray.point == pytest.approx(200)

    records[3] = record("ray-compiled", 50, digest="other")
    assert rows_of(records)["reactor"].best_ray == ("ray-packed", "{}")


def test_the_papers_own_use_of_ray_is_never_the_best_ray():
    rows = rows_of([record("sequential", 100), record("ray", 50), record("ray-by-value", 60), record("reactor", 200)])
    assert rows["reactor"].best_ray == ("ray", "{}")
    assert rows["ray-by-value"].over_best_ray.point == pytest.approx(1.2)
    assert rows_of([record("ray-by-value", 60), record("reactor", 200)])["reactor"].best_ray is None


def test_a_ray_that_computes_something_else_is_never_the_best_ray():
    other = record("ray-async", 70, digest=None, differs="it has no lock-step")
    rows = rows_of([record("sequential", 100), record("ray", 50), other, record("reactor", 200)])
    assert rows["reactor"].best_ray == ("ray", "{}")
    assert rows["ray-async"].over_best_ray.point == pytest.approx(1.4)


def bound(rate, block=0, runtime="ceiling", **changes):
    return record(runtime, rate, block, is_bound=True, **({"digest": None} | changes))


def test_efficiency_is_the_paired_rate_over_that_of_the_bound():
    records = [r for b in range(3) for r in (record("reactor", 180 * 3**b, b), bound(200 * 3**b, b))]
    rows = rows_of(records)
    efficiency = rows["reactor"].efficiency
    assert (efficiency.point, efficiency.low, efficiency.high, efficiency.n) == pytest.approx((0.9, 0.9, 0.9, 3))
    assert flat(rows["reactor"])["efficiency"] == pytest.approx(0.9)
    assert rows["ceiling"].efficiency.point == 1


def test_without_a_bound_there_is_no_efficiency():
    (row,) = summarise([record("reactor", 100)])
    assert flat(row)["efficiency"] is None
    assert flat(row)["bound"] is False


@pytest.mark.parametrize("change", [{"outcome": "failed"}, {"seed": 7}, {"measured_s": 0.0}])
def test_a_bound_that_is_no_pair_gives_no_efficiency(change):
    rows = rows_of([record("sequential", 100), record("reactor", 200), bound(300, **change)])
    assert rows["reactor"].efficiency is None
    assert rows["reactor"].over_sequential.point == pytest.approx(2)


def test_an_invalid_result_has_no_efficiency():
    rows = rows_of([record("sequential", 100), record("reactor", 200, digest="other"), bound(300)])
    assert rows["reactor"].efficiency is None
    assert rows["sequential"].efficiency.point == pytest.approx(1 / 3)


def test_a_bound_needs_no_digest_and_invalidates_nobody():
    rows = rows_of([record("sequential", 100), record("reactor", 200), bound(300), bound(310, 1)])
    assert {row.outcome for row in rows.values()} == {"ok"}
    assert all(row.cell_notes == () for row in rows.values())
    assert exit_status(list(rows.values())) is ExitStatus.OK


def test_a_bound_has_no_speedup_and_is_never_the_best_ray():
    rows = rows_of([record("sequential", 100), record("ray", 50), bound(300, runtime="ray-bound")])
    assert set(rows["ray-bound"].speedups.values()) == {None}
    assert rows["ray-bound"].startup_earned_back_rounds is None
    assert rows["sequential"].best_ray == ("ray", "{}")


def test_a_bound_is_no_finding():
    rows = summarise([record("sequential", 100), record("plain", 50), bound(300)])
    assert finding(rows) == "plain is 0.50x the plain loop on CartPole-v1 x 15"
    assert finding(summarise([bound(300)])) == "No speedup can be shown"


def test_of_several_bounds_the_hardest_to_reach_counts():
    rows = rows_of([record("reactor", 100), bound(125), bound(200, runtime="other-bound")])
    assert rows["reactor"].efficiency.point == pytest.approx(0.5)
    assert rows["ceiling"].efficiency is None


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"physical_cores": 4, "processors": 8}, 0.5),
        ({"physical_cores": 64, "processors": 2}, 1.0),
        ({"physical_cores": 4, "processors": None}, 0.5),
        ({"physical_cores": None, "processors": 4}, None),
        ({"physical_cores": 0, "processors": 4}, None),
        ({}, None),
    ],
)
def test_efficiency_per_core_is_the_speedup_over_the_cores_that_may_be_used(facts, expected):
    rows = rows_of([record("sequential", 100, machine=facts), record("reactor", 200, machine=facts)])
    assert flat(rows["reactor"])["efficiency_per_core"] == (expected and pytest.approx(expected))


def test_without_a_speedup_over_the_plain_loop_there_is_no_efficiency_per_core():
    facts = {"physical_cores": 2, "processors": 2}
    rows = rows_of([record("ray", 100, machine=facts), bound(300, machine=facts)])
    assert [row.efficiency_per_core for row in rows.values()] == [None, None]


@pytest.mark.parametrize("outcome", ["failed", "timeout", "skipped"])
def test_a_bound_is_marked_whatever_became_of_it(outcome):
    (row,) = summarise([bound(1, outcome=outcome)])
    assert flat(row)["bound"] is True
    assert row.efficiency is None


def differing(rate, block=0, runtime="envpool", **changes):
    return record(runtime, rate, block, differs="streams of its own", **({"digest": None} | changes))


@pytest.mark.parametrize("digest", [None, "other"])
def test_what_computes_something_else_is_never_invalid_and_has_speedups(digest):
    rows = rows_of([record("sequential", 100), record("ray", 50), differing(300, digest=digest)])
    assert {row.outcome for row in rows.values()} == {"ok"}
    assert all(row.cell_notes == () for row in rows.values())
    assert rows["envpool"].over_sequential.point == pytest.approx(3)
    assert rows["envpool"].over_best_ray.point == pytest.approx(6)
    assert flat(rows["envpool"])["differs"] == "streams of its own"
    assert flat(rows["sequential"])["differs"] is None


def test_what_computes_something_else_vouches_for_nobody():
    rows = rows_of([record("reactor", 100), record("ray", 50, digest="other"), differing(300, digest="other")])
    assert [rows[name].outcome for name in ("reactor", "ray", "envpool")] == ["invalid", "invalid", "ok"]


def test_what_computes_something_else_is_marked_whatever_became_of_it():
    (row,) = summarise([differing(1, outcome="failed")])
    assert row.differs == "streams of its own"


def test_cells_with_other_parameters_are_not_compared():
    rows = summarise([record("sequential", 100), record("reactor", 200, parameters=CARTPOLE | {"fragment": 128})])
    assert [row.over_sequential is None for row in rows] == [False, True]


def test_the_last_record_of_a_block_counts():
    records = [record("reactor", 1, outcome="failed", digest=None), record("reactor", 100)]
    (row,) = summarise(records)
    assert (row.outcome, row.invocations, row.units_per_s.point) == ("ok", 1, pytest.approx(100))


def test_a_digest_unlike_the_sequential_one_makes_the_row_invalid_without_speedups():
    records = [record(name, 100, b) for b in range(3) for name in ("sequential", "ray", "reactor")]
    records[-1] = record("reactor", 100, 2, digest="other")
    rows = rows_of(records)
    assert rows["reactor"].outcome == "invalid"
    assert rows["reactor"].units_per_s is not None
    assert set(rows["reactor"].speedups.values()) == {None}
    assert "seed 2" in rows["reactor"].reasons[0]
    assert rows["ray"].outcome == "ok"
    assert exit_status(list(rows.values())) is ExitStatus.FAILED_OR_INVALID


def test_a_missing_digest_does_not_pass_for_a_right_one():
    rows = rows_of([record("sequential", 100), record("reactor", 200, digest=None)])
    assert rows["reactor"].outcome == "invalid"


def test_without_a_sequential_result_digests_at_odds_invalidate_all():
    rows = rows_of([record("ray", 100), record("ray-packed", 100), record("reactor", 200, digest="other")])
    assert {row.outcome for row in rows.values()} == {"invalid"}
    assert "no sequential result" in rows["ray"].reasons[0]


def test_without_a_sequential_result_digests_that_agree_are_valid_and_noted():
    rows = rows_of([record("ray", 100), record("reactor", 200)])
    assert rows["reactor"].over_ray.point == pytest.approx(2)
    assert "No sequential result" in rows["reactor"].cell_notes[0]


def test_a_seed_that_only_other_runtimes_have_is_judged_by_their_agreement():
    records = [
        record("sequential", 100),
        record("sequential", 100, 1, outcome="failed", digest=None),
        *(record(name, 100, b) for b in range(2) for name in ("ray", "reactor")),
    ]
    rows = rows_of(records)
    assert (rows["ray"].outcome, rows["reactor"].outcome) == ("ok", "ok")
    assert "seed 1" in rows["ray"].cell_notes[0]


@pytest.mark.parametrize(
    ("outcomes", "row_outcome", "status"),
    [
        (["ok", "failed", "timeout"], "failed", ExitStatus.FAILED_OR_INVALID),
        (["ok", "timeout", "skipped"], "timeout", ExitStatus.TIMED_OUT),
        (["skipped", "skipped"], "skipped", ExitStatus.NOTHING_MEASURED),
        (["skipped", "ok"], "ok", ExitStatus.OK),
    ],
)
def test_the_worst_invocation_decides_outcome_and_status(outcomes, row_outcome, status):
    (row,) = rows = summarise([record("reactor", 100, b, outcome=outcome) for b, outcome in enumerate(outcomes)])
    assert (row.outcome, exit_status(rows)) == (row_outcome, status)


def test_no_rows_mean_that_nothing_was_measured():
    assert exit_status([]) is ExitStatus.NOTHING_MEASURED


def test_a_failure_anywhere_outranks_a_timeout():
    rows = summarise([record("ray", 1, outcome="timeout"), record("reactor", 1, outcome="failed")])
    assert exit_status(rows) is ExitStatus.FAILED_OR_INVALID


def test_a_failed_row_shows_what_it_measured_but_no_speedup():
    records = [record(name, 100, b) for b in range(3) for name in ("sequential", "ray")]
    records[3] = record("ray", 1, 1, outcome="failed", reason="Actor died:\n  killed", log="logs/7.log")
    rows = rows_of(records)
    assert (rows["ray"].invocations, rows["ray"].measured) == (3, 2)
    assert rows["ray"].units_per_s.point == pytest.approx(100)
    assert set(rows["ray"].speedups.values()) == {None}
    assert rows["ray"].reasons == ("failed in 1 of 3 invocations: Actor died: killed (log: logs/7.log)",)
    assert rows["sequential"].over_ray is None


def test_startup_and_memory_are_medians_and_counts_are_sums_over_ok_invocations():
    figures = [(1.0, 10, 1, 4), (9.0, 30, 2, 8), (2.0, 20, 3, 12)]
    records = [
        record("reactor", 100, b, startup_s=s, pss_bytes=p, resets=r, emulator_frames=f)
        for b, (s, p, r, f) in enumerate(figures)
    ]
    records.append(record("reactor", 100, 3, outcome="failed", startup_s=99.0, resets=99))
    (row,) = summarise(records)
    assert (row.startup_s, row.pss_bytes, row.resets, row.emulator_frames) == (2.0, 20, 6, 24)


def test_rounds_that_earn_back_a_longer_startup():
    # 0.1 s against 0.05 s a round: 1 s more of start-up is earned back after 20 rounds.
    rows = rows_of([record("sequential", 150, startup_s=1.0), record("reactor", 300, startup_s=2.0)])
    assert rows["reactor"].startup_earned_back_rounds == 20
    assert rows["sequential"].startup_earned_back_rounds is None


def test_a_slower_runtime_never_earns_its_startup_back():
    rows = rows_of([record("sequential", 300, startup_s=1.0), record("ray", 150, startup_s=2.0)])
    assert rows["ray"].startup_earned_back_rounds is None


def test_of_several_rays_the_one_with_default_options_is_the_reference():
    records = [record("ray", 10, options={"x": 1}), record("ray", 50, options={"x": 0}), record("reactor", 100)]
    assert rows_of(records, defaults=lambda _: {"x": 0})["reactor"].over_ray.point == pytest.approx(2)
    assert rows_of(records, defaults=lambda _: None)["reactor"].over_ray.point == pytest.approx(10)


def test_default_options_are_those_of_the_installed_runtime():
    assert default_options("ray-packed")["private_settings"] is True
    assert default_options("no-such-runtime") is None


def test_options_make_rows_of_their_own():
    rows = summarise([record("reactor", 100, options={"workers": n}) for n in (1, 2)])
    assert [row.options["workers"] for row in rows] == [1, 2]


def test_durations_stand_in_for_sums_that_a_record_lacks():
    (row,) = summarise(
        [record("reactor", 1, measured_rounds=0, measured_s=0.0, rounds_s=[0.1, 0.2], rounds_per_value=5)]
    )
    assert row.units_per_s.point == pytest.approx(10 * 15 / 1.5)


@pytest.mark.parametrize("oddity", [{"measured_s": 0.0, "measured_rounds": 0}, {"units_per_round": None}])
def test_an_ok_record_that_measured_nothing_is_said_and_does_no_harm(oddity):
    rows = rows_of([record("sequential", 100), record("reactor", 100, **oddity)])
    assert rows["reactor"].units_per_s is None
    assert rows["reactor"].reasons == ("1 invocation ended well but recorded no measured round",)
    assert rows["sequential"].over_sequential.point == 1


def test_rows_keep_the_order_in_which_runtimes_first_appear():
    order = ["sequential", "ray", "reactor"]
    records = [record(name, 1, b) for b in range(2) for name in (order if b == 0 else reversed(order))]
    assert [row.runtime for row in summarise(records)] == order


def test_the_finding_names_the_only_cell():
    rows = summarise([record("sequential", 100), record("ray", 10), record("reactor", 172)])
    assert finding(rows) == "reactor is 1.7x the plain loop and 17x the best Ray on CartPole-v1 x 15"


def test_the_finding_spans_several_cells_and_hides_no_loss():
    other = {"parameters": CARTPOLE | {"envs": 1}}
    records = [record("sequential", 100), record("reactor", 200)]
    records += [record("sequential", 100, **other), record("reactor", 34, **other)]
    assert finding(summarise(records)) == "reactor is 0.34x to 2.0x the plain loop across 2 cells"


def test_an_invalid_result_is_no_finding():
    rows = summarise([record("sequential", 100), record("reactor", 999, digest="other")])
    assert finding(rows) == "No speedup of reactor can be shown; invalid on 1 cell"


def test_the_finding_counts_the_cells_without_a_speedup_too():
    records = [record(name, rate) for name, rate in (("sequential", 100), ("reactor", 172))]
    for envs, change in ((1, {"outcome": "failed"}), (2, {"digest": "other"})):
        other = {"parameters": CARTPOLE | {"envs": envs}}
        records += [record("sequential", 100, **other), record("reactor", 200, **(other | change))]
    assert finding(summarise(records[:4])) == "reactor is 1.7x the plain loop on CartPole-v1 x 15; failed on 1 cell"
    assert finding(summarise(records)).endswith("on CartPole-v1 x 15; invalid on 1 cell, failed on 1 cell")
    records += [record(name, 100, parameters=CARTPOLE | {"envs": 3}) for name in ("sequential", "reactor")]
    assert "across 2 of 4 cells; invalid on 1 cell, failed on 1 cell" in finding(summarise(records))


def test_without_the_subject_a_speedup_below_one_is_found_too():
    rows = summarise([record("sequential", 100), record("plain", 50)])
    assert finding(rows) == "plain is 0.50x the plain loop on CartPole-v1 x 15"


@pytest.mark.parametrize(
    ("began", "noted"),
    [
        (("2026-01-01T00:00:00+00:00", "2026-01-01T01:00:01+00:00"), True),
        (("2026-01-01T01:00:01+00:00", "2026-01-01T00:00:00+00:00"), True),
        (("2026-01-01T00:00:00+00:00", "2026-01-01T01:00:00+00:00"), False),
        ((None, "2026-01-01T01:00:01+00:00"), False),
    ],
)
def test_a_pair_that_was_measured_far_apart_is_noted(began, noted):
    rows = rows_of([record(n, 100, started_at=s) for n, s in zip(("sequential", "reactor"), began, strict=True)])
    assert rows["reactor"].cell_notes == (("1 pair was measured more than an hour apart.",) if noted else ())


def test_intervals_of_a_steady_machine_are_narrow_and_of_a_noisy_one_wide():
    def width(noise):
        rates = [1 + noise * math.sin(5 * b) for b in range(8)]
        records = [record("sequential", 100, b) for b in range(8)]
        records += [record("reactor", 200 * rate, b) for b, rate in enumerate(rates)]
        estimate = rows_of(records)["reactor"].over_sequential
        return estimate.high / estimate.low

    assert width(0.01) < 1.03 < width(0.2)
