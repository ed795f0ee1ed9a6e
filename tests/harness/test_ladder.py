"""The ladder: which steps there are, what a step is worth, and what is said where there is none."""

from __future__ import annotations

import csv
import math
from xml.etree import ElementTree as ET

import pytest

from harness.errors import UsageError
from harness.ladder import AS_PUBLISHED, ladders, programs, steps_of
from harness.ladder_report import write_ladder
from harness.records import RecordFile
from harness.suite import plan_of, read_suite
from tests.harness.study_records import stored, study_records

RESETS = "resets and actions mended"
ORDER = [
    AS_PUBLISHED,
    "no printing",
    RESETS,
    "warm-up",
    "one put above 100 KiB",
    "contiguous arrays",
    "references between actors",
    "private settings",
    "packed",
    "driver slice",
    "compiled",
    "one round ahead",
    "loop",
    "reactor",
    "ceiling",
]
MILLISECONDS = {
    "ray-by-value": 20,
    "ray": 16,
    "ray-packed": 4,
    "ray-compiled": 2,
    "sequential": 1,
    "reactor": 0.5,
    "ceiling": 0.4,
}


def round_s(invocation):
    """A habit of the published program doubles the time, and private settings halve that of `ray`."""
    options = invocation.runtime.options
    parameters = invocation.cell.parameters
    resets_always = parameters.get("restart") == "every_step"
    habits = [options.get("print", False), not options.get("contiguous", True), resets_always]
    factor = 2 ** sum(habits) / (2 if invocation.runtime.name == "ray" and options["private_settings"] else 1)
    return MILLISECONDS[invocation.runtime.name] * factor / 1000 / (1 + parameters.get("lag", 0))


def rungs_of(records, figure):
    (ladder,) = [one for one in ladders(records) if one.program.figure == figure]
    return {rung.step.name: rung for rung in ladder.rungs}


@pytest.fixture(scope="module")
def records():
    return study_records("ladder", round_s)


@pytest.mark.parametrize("program", programs(), ids=lambda program: program.label)
def test_every_program_has_all_steps_in_order(program):
    assert [step.name for step in steps_of(program)] == ORDER


def test_the_suite_measures_exactly_the_steps_that_are_not_left_out(records):
    for ladder in ladders(records):
        for rung in ladder.rungs:
            assert (rung.round_s is None) == (rung.step.left_out is not None), rung

    used = {
        (rung.row.cell, rung.row.key) for ladder in ladders(records) for rung in ladder.rungs if rung.row is not None
    }
    plan = plan_of(read_suite("ladder"), {}, [])
    pairings = [
        (cell.name, choice.name)
        for cell in plan.cells
        for choice in cell.runtimes
        # Of what computes something else than the published experiment, the loop is measured only for its digest.
        if choice.name != "sequential" or not cell.name.endswith(("-ahead", "-restarting"))
    ]
    assert len(used) == len(pairings)


@pytest.mark.parametrize(
    ("figure", "left_out"),
    [
        (1, {"no printing", RESETS, "warm-up", "contiguous arrays", "one round ahead"}),
        (2, {"no printing", RESETS, "warm-up", "contiguous arrays", "one round ahead", "one put above 100 KiB"}),
        (3, {RESETS, "one put above 100 KiB", "contiguous arrays", "one round ahead"}),
        (4, {"one put above 100 KiB", "contiguous arrays", "one round ahead"}),
        (5, {"no printing", RESETS, "one put above 100 KiB", "ceiling"}),
        (6, {"no printing", RESETS, "one put above 100 KiB", "ceiling"}),
    ],
)
def test_a_step_that_does_not_apply_is_left_out_with_the_reason(records, figure, left_out):
    rungs = rungs_of(records, figure)

    absent = {name: rung.problem for name, rung in rungs.items() if rung.round_s is None}
    assert set(absent) == left_out
    assert all(absent.values())


def test_programs_that_reset_at_every_step_are_measured_with_that_fault_until_it_is_mended(records):
    rungs = rungs_of(records, 4)

    steps = [AS_PUBLISHED, "no printing", RESETS, "warm-up"]
    assert [rungs[step].row.parameters["restart"] for step in steps] == ["every_step", "every_step", "ended", "ended"]
    assert rungs[RESETS].factor.point == pytest.approx(2)


def test_a_factor_is_over_the_last_step_that_was_measured(records):
    rungs = rungs_of(records, 3)

    assert rungs["no printing"].over == AS_PUBLISHED
    assert rungs["no printing"].factor.point == pytest.approx(2)
    assert rungs["references between actors"].over == "warm-up"
    assert rungs["references between actors"].factor.point == pytest.approx(20 / 16)
    assert rungs["private settings"].factor.point == pytest.approx(2)
    assert rungs["loop"].over == "compiled"
    assert rungs["ceiling"].factor.point == pytest.approx(0.5 / 0.4)
    assert rungs[AS_PUBLISHED].factor is None


def test_factors_pair_blocks(records):
    factor = rungs_of(records, 6)["contiguous arrays"].factor

    assert (factor.low, factor.high, factor.n, factor.kind) == (pytest.approx(2), pytest.approx(2), 3, "range")


def test_six_blocks_give_an_interval():
    rungs = rungs_of(study_records("ladder", round_s, invocations=6), 5)

    assert rungs["packed"].factor.kind == "95 % interval"
    assert rungs["packed"].round_s.kind == "95 % interval"


def test_a_share_is_that_of_the_logarithm_of_the_published_ratio_and_shares_add_up(records):
    (ladder,) = [one for one in ladders(records) if one.program.figure == 4]
    rungs = {rung.step.name: rung for rung in ladder.rungs}

    assert ladder.published_ratio == pytest.approx(878 / 75.9)
    assert rungs["private settings"].share == pytest.approx(math.log(2) / math.log(878 / 75.9))
    of_ray = [rung.share for rung in ladder.rungs if rung.share is not None and rung.step.is_ray]
    assert sum(of_ray) == pytest.approx(ladder.share_of_use)
    assert ladder.best == "compiled"


def test_mending_what_both_sides_of_the_paper_had_wrong_explains_nothing_of_their_ratio(records):
    rungs = rungs_of(records, 4)

    for step in ("no printing", RESETS, "warm-up"):
        assert rungs[step].factor.point > 1
        assert rungs[step].share is None


def test_a_round_ahead_is_no_part_of_ray_at_its_best_nor_what_the_loop_is_compared_with(records):
    (ladder,) = [one for one in ladders(records) if one.program.figure == 5]
    rungs = {rung.step.name: rung for rung in ladder.rungs}

    assert rungs["one round ahead"].round_s.point < rungs["compiled"].round_s.point
    assert ladder.best == "compiled"
    assert rungs["loop"].over == "compiled"


def test_without_a_warm_up_the_first_rounds_count_as_many_in_all_as_were_published(records):
    rungs = rungs_of(records, 5)

    # Five warm-up rounds of 500, each three times as slow as the others.
    assert rungs["warm-up"].factor.point == pytest.approx((495 + 5 * 3) / 500)
    assert rungs[AS_PUBLISHED].round_s.point == pytest.approx(rungs["warm-up"].round_s.point * 510 / 500)


def test_records_that_do_not_know_their_warm_up_say_nothing_of_a_program_without_one():
    rungs = rungs_of(study_records("ladder", round_s, change=lambda _: {"warmup_s": None}), 3)

    assert "how long the first rounds took" in rungs[AS_PUBLISHED].problem
    assert rungs["warm-up"].round_s.point > 0
    assert rungs["warm-up"].factor is None


def test_one_round_ahead_is_measured_with_a_lag_and_computes_something_of_its_own(records):
    rung = rungs_of(records, 5)["one round ahead"]

    assert rung.row.parameters["lag"] == 1
    assert rung.factor.point == pytest.approx(2)
    assert rungs_of(records, 5)["compiled"].row.parameters["lag"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outcome": "failed", "reason": "TimeoutError: no answer"}, "failed: failed in 3 of 3"),
        ({"outcome": "skipped", "reason": "it does not fit"}, "skipped"),
        ({"digest": "another"}, "invalid: digest differs"),
    ],
)
def test_a_step_that_failed_is_named_with_the_reason_and_the_next_is_compared_with_the_one_before(change, said):
    def compiled(invocation):
        return change if invocation.runtime.name == "ray-compiled" else {}

    rungs = rungs_of(study_records("ladder", round_s, change=compiled), 1)

    assert rungs["compiled"].problem.startswith(said)
    assert rungs["compiled"].lines == ()
    assert rungs["loop"].over == "driver slice"


@pytest.fixture(scope="module")
def folder(records, tmp_path_factory):
    return stored(records, tmp_path_factory.mktemp("ladder"))


@pytest.fixture(scope="module")
def written(folder):
    text, files = write_ladder(folder)
    return text, {file.name: file for file in files}


def test_there_is_a_table_and_a_figure_as_svg_png_and_csv(written):
    assert set(written[1]) == {"ladder.md", "ladder.svg", "ladder.png", "ladder.csv"}


def test_every_time_and_factor_follows_from_the_records_that_its_line_names(written, folder):
    records = RecordFile(folder).read()
    with written[1]["ladder.csv"].open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))

    assert len(lines) == 6 * len(ORDER)
    steps = {(line["figure"], line["step"]): line for line in lines}
    for line in lines:
        named = [records[int(number) - 1] for number in line["record_lines"].split()]
        assert bool(named) == bool(line["round_s"]) == (not line["remark"])
        if named and not line["rounds_with_the_first"]:
            seconds = sum(one.measured_s for one in named) / sum(one.measured_rounds for one in named)
            assert float(line["round_s"]) == pytest.approx(seconds)
        if line["over"]:
            before = steps[line["figure"], line["over"]]
            assert float(line["factor"]) == pytest.approx(float(before["round_s"]) / float(line["round_s"]))


def test_the_table_says_what_using_ray_well_comes_to(written):
    text, _ = written

    assert "Ray at its best (compiled) is 20.1x Ray as published; reactor is 4.00x that. How Ray was used expl" in text
    assert "of the published ratio (published: 1.16x)." in text
    assert "| a fault of both sides |" in text
    assert "| no printing | - | - | - | - | the published program prints nothing while it is timed |" in text
    assert "range of 3 pairs" in text
    assert "Testium 3, 2 processors" in text


def test_the_figure_shows_every_step_of_every_program(written):
    words = [element.text for element in ET.parse(written[1]["ladder.svg"]).iter("{http://www.w3.org/2000/svg}text")]

    assert set(ORDER) <= set(words)
    assert {f"Figure {one.figure}: {one.label}" for one in programs()} == {
        word.partition(" (")[0] for word in words if word.startswith("Figure ")
    }


def test_a_run_of_some_figures_has_tables_of_those_alone(tmp_path):
    some = study_records("ladder", round_s, only=lambda invocation: invocation.cell.name.startswith("figure6"))
    text, _ = write_ladder(stored(some, tmp_path / "some"))

    assert [line.partition(":")[0] for line in text.splitlines() if line.startswith("## ")] == ["## Figure 6"]


def test_a_folder_without_any_step_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match="reactorbench ladder --out"):
        write_ladder(tmp_path)
