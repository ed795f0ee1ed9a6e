"""What trainings say together: times to the target, ratios, and what was not learnt alike."""

from __future__ import annotations

import csv
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.learning.records import Evaluation, LearningFile, TrainingRecord
from harness.learning.report import markdown_learning, write_learning_report
from harness.learning.summary import COLUMNS, curve_of, finding, flat, summarise_learning, time_ratio
from harness.pal_report import write_pal
from harness.statistics import differences_beyond, median_estimate, ratio_of_samples
from tests.harness.records_of import MACHINE

CURVE = (-5.0, -3.0, -1.0, 0.0)


def trained(folder, runtime="sequential", seed=0, *, curve=CURVE, round_s=0.1, **changes):
    """A training whose evaluations, every 10 rounds, gave the returns of `curve`; `digest` begins their digests."""
    digest = changes.pop("digest", "same")
    record = TrainingRecord(
        training=0,
        name="cell",
        workload="growing",
        parameters={"width": 3},
        runtime=runtime,
        options={},
        differs=None,
        seed=seed,
        every_rounds=10,
        cap_rounds=10 * (len(curve) - 1),
        episodes=1,
        target=-2.0,
        stop_at_target=False,
        outcome="ok",
        unit="step",
        units_per_round=4,
        machine=MACHINE,
    )
    record = msgspec.structs.replace(record, **changes)
    evaluations = [
        Evaluation(
            round=10 * number,
            units=40 * number,
            updates=20 * number,
            wall_s=10 * number * round_s,
            episodes=1,
            mean_return=value,
            returns=[value],
            digest=None if record.differs else f"{digest}-{seed}-{number}",
        )
        for number, value in enumerate(curve)
    ]
    return LearningFile(folder).add(record, evaluations)


def rows(folder):
    return {row.runtime: row for row in summarise_learning(LearningFile(folder).trainings())}


def test_the_first_evaluation_that_reached_the_target_and_the_last_one_are_both_told(tmp_path):
    trained(tmp_path, curve=(-5.0, -1.0, -4.0, -3.0))
    (row,) = rows(tmp_path).values()

    assert (row.rounds_to_target.point, row.units_to_target.point, row.updates_to_target.point) == (10, 40, 20)
    assert row.wall_s_to_target.point == pytest.approx(1.0)
    assert row.last_return.point == -3.0
    assert row.units_per_s.point == pytest.approx(40)
    assert row.updates_per_s.point == pytest.approx(20)


def test_what_is_good_before_any_training_has_not_learnt_it(tmp_path):
    (trained_row,) = [trained(tmp_path, curve=(-1.0, -3.0, -1.5))]

    assert trained_row.first_pass.round == 20


def test_a_seed_that_did_not_get_there_took_longer_than_can_be_said_and_forbids_a_ratio(tmp_path):
    for seed in range(3):
        trained(tmp_path, seed=seed)
        trained(tmp_path, "reactor", seed, round_s=0.05, curve=CURVE if seed else (-5.0, -4.0, -4.0, -4.0))
    found = rows(tmp_path)

    assert found["reactor"].reached == 2
    assert found["reactor"].rounds_to_target.high == math.inf
    assert found["reactor"].over_sequential is None
    text = markdown_learning(list(found.values()), [], "")
    assert "80 (80 to never)" in text
    assert "1 of 3 seeds did not reach the target" in text


def test_equal_learners_are_compared_seed_by_seed_and_others_as_samples(tmp_path):
    paces = (0.1, 0.4, 0.2, 0.3, 0.15, 0.25)
    for seed, pace in enumerate(paces):
        trained(tmp_path, seed=seed, round_s=pace)
        trained(tmp_path, "reactor", seed, round_s=pace / 2)
        trained(tmp_path, "other", seed, round_s=pace / 2, differs="it draws its numbers")
    found = rows(tmp_path)

    paired, unpaired = found["reactor"].over_sequential, found["other"].over_sequential
    assert (paired.point, paired.low, paired.high) == pytest.approx((2, 2, 2))
    assert unpaired.low < unpaired.point < unpaired.high
    assert (paired.kind, unpaired.kind) == ("95 % interval", "95 % interval")
    assert time_ratio(found["reactor"], found["other"]).point == pytest.approx(1)


def test_what_learnt_something_else_is_invalid_and_the_round_is_named(tmp_path):
    trained(tmp_path)
    trained(tmp_path, "reactor", digest="another")
    trained(tmp_path, "other", digest="another", differs="it draws its numbers")
    found = rows(tmp_path)

    assert [found[name].outcome for name in ("sequential", "reactor", "other")] == ["ok", "invalid", "ok"]
    assert "seed 0 it had learnt something else than sequential after 0 rounds" in found["reactor"].reasons[0]
    assert found["reactor"].over_sequential is None


def test_the_newest_training_of_a_seed_counts(tmp_path):
    trained(tmp_path, outcome="timeout", reason="too slow")
    trained(tmp_path)
    (row,) = rows(tmp_path).values()

    assert (row.outcome, len(row.trained), row.trainings) == ("ok", 1, 1)


def test_a_curve_is_the_mean_over_seeds_as_far_as_all_were_trained(tmp_path):
    trained(tmp_path, seed=0, curve=(-4.0, -2.0, 0.0))
    trained(tmp_path, seed=1, curve=(-2.0, 0.0))
    (row,) = rows(tmp_path).values()

    assert curve_of(row, lambda one: one.units) == [(0, -3.0), (40, -1.0)]


def test_a_training_that_was_cut_in_two_does_not_count_and_its_number_is_not_given_again(tmp_path):
    trained(tmp_path)
    file = LearningFile(tmp_path)
    file.append(
        Evaluation(
            training=2, round=0, units=0, updates=0, wall_s=0, episodes=1, mean_return=0, returns=[], digest=None
        )
    )

    assert len(file.trainings()) == 1
    assert trained(tmp_path, seed=1).record.training == 3


def test_a_report_has_tables_a_line_for_each_row_and_every_point_of_the_curves(tmp_path):
    for seed in range(2):
        trained(tmp_path, seed=seed)
        trained(tmp_path, "other", seed, differs="it draws its numbers", round_s=0.2)
    made = write_learning_report(tmp_path)

    assert {file.name for file in made.files} == {"learning.md", *(f"learning.{k}" for k in ("csv", "svg", "png"))}
    assert finding(made.rows) == "cell: a return of -2 after 80 steps, by every seed"
    with (tmp_path / "figures" / "learning.csv").open(encoding="utf-8", newline="") as file:
        points = list(csv.DictReader(file))
    assert len(points) == 16
    assert [float(p["mean_return"]) for p in points if p["runtime"] == "other" and p["seed"] == "1"] == list(CURVE)
    with (tmp_path / "learning.csv").open(encoding="utf-8", newline="") as file:
        assert [line["runtime"] for line in csv.DictReader(file)] == ["sequential", "other"]
    assert tuple(flat(made.rows[0])) == COLUMNS
    assert made.to_json()["rows"][0]["wall_s_to_target"] == pytest.approx(2.0)


def test_a_claim_of_convergence_is_judged_by_reactors_beside_every_other_runtime(tmp_path):
    for seed in range(6):
        trained(tmp_path, seed=seed)
        trained(tmp_path, "reactor", seed, round_s=0.05)
        trained(tmp_path, "stable-baselines3", seed, round_s=0.25, differs="it draws its numbers")
    never = {"parameters": {"width": 4}, "curve": (-5.0, -5.0)}
    trained(tmp_path, **never)
    trained(tmp_path, "reactor", **never)

    text, files = write_pal(tmp_path)

    assert {file.name for file in files} == {"claims-pal.md", "claims-pal.csv"}
    told = [line.split(" | ") for line in text.splitlines() if line.startswith("| time to converge")]
    assert [(cell, measured, verdict) for _, cell, _, measured, verdict, _ in told] == [
        ("width=3 to -2, over sequential", "2.00x (2.00x to 2.00x)", "not reproduced"),
        ("width=3 to -2, over stable-baselines3 (units only)", "5.00x (5.00x to 5.00x)", "reproduced"),
        ("width=4 to -2, over sequential", "-", "not measured"),
    ]
    assert "reactor reached the target with 0 of 1 seeds" in told[-1][-1]


def test_a_folder_without_a_training_has_nothing_to_report(tmp_path):
    with pytest.raises(UsageError, match="reactorbench learn SUITE"):
        write_learning_report(tmp_path)


# --------------------------------------------------------------------------------------- statistics


def test_the_interval_of_a_shift_is_that_of_the_tables_of_mann_and_whitney():
    # Two-sided 5 %: the largest U that rejects (Hollander, Wolfe, Chicken, table A.6).
    assert [differences_beyond(n, m) for n, m in ((6, 6), (6, 8), (10, 10), (20, 20))] == [5, 8, 23, 127]


def test_a_median_has_the_interval_of_the_sign_test_and_below_six_a_range():
    assert median_estimate([3.0, 1.0, 2.0, math.inf, 5.0]).kind == "range"
    six = median_estimate([1.0, 2.0, 3.0, 4.0, 5.0, math.inf])
    assert (six.point, six.low, six.high, six.kind) == (3.5, 1.0, math.inf, "95 % interval")
    nine = median_estimate([float(n) for n in range(9)])
    assert (nine.low, nine.high) == (1.0, 7.0)


SAMPLES = st.lists(st.floats(-3, 3), min_size=1, max_size=9)


@given(SAMPLES, SAMPLES, st.floats(-2, 2))
def test_a_ratio_of_samples_moves_with_either_and_contains_its_point(ours, theirs, shift):
    ratio, moved = ratio_of_samples(ours, theirs), ratio_of_samples([one + shift for one in ours], theirs)

    assert ratio.low <= ratio.point <= ratio.high
    assert moved.point == pytest.approx(ratio.point * math.exp(shift))
    back = ratio_of_samples(theirs, ours)
    assert (back.low * ratio.high, back.high * ratio.low) == pytest.approx((1, 1))


@given(st.lists(st.one_of(st.floats(0, 9), st.just(math.inf)), min_size=1, max_size=12))
def test_a_median_lies_between_its_ends(values):
    estimate = median_estimate(values)
    assert estimate.low <= estimate.point <= estimate.high


@pytest.mark.parametrize("empty", [lambda: median_estimate([]), lambda: ratio_of_samples([1.0], [])])
def test_nothing_has_no_estimate(empty):
    with pytest.raises(ValueError, match="Measure"):
        empty()
