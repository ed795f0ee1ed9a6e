"""Amortisation: where a runtime crosses the loop and 90 % of the ceiling, and that every value leads to its records."""

from __future__ import annotations

import csv
from xml.etree import ElementTree as ET

import pytest

from harness.amortisation import amortisation, crossing
from harness.amortisation_report import write_amortisation
from harness.errors import UsageError
from harness.records import RecordFile
from tests.harness.study_records import stored, study_records

STEP_S = {"CartPole-v1": 10e-6, "Blackjack-v1": 40e-6, "ALE/Pong-v5": 400e-6}
CALL_S = {"reactor": 0.0, "ray": 20e-3, "ray-packed": 2e-3, "ray-compiled": 1e-3}
"""What a round takes beyond the ceiling's; the loop takes twice the ceiling's."""


def round_s(invocation):
    parameters = invocation.cell.parameters
    bound_s = STEP_S[parameters["env_id"]] * parameters["envs"] * parameters["fragment"] / 2
    name = invocation.runtime.name
    return bound_s * 2 if name == "sequential" else bound_s + CALL_S.get(name, 0.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([(1, 0.1), (4, 0.4), (16, 1.6)], 10.0),
        ([(1, 0.5), (4, 2.0)], 2.0),
        ([(1, 0.5), (4, 1.0)], 4.0),
        ([(1, 1.0), (4, 1.5)], 1),
        ([(1, 0.5), (4, 0.9)], None),
        ([(1, 2.0), (4, 0.9)], None),
        ([(1, 0.5), (4, 2.0), (16, 0.5), (64, 2.0)], 32.0),
        ([(8, 2.0)], 8),
        ([(8, 0.2)], None),
    ],
)
def test_a_crossing_is_where_values_stay_above_if_a_call_has_a_fixed_part(values, expected):
    found = crossing(values, 1.0)

    assert found.steps == (None if expected is None else pytest.approx(expected))
    assert found.is_from_start == (min(value for _, value in values) >= 1)


def test_a_crossing_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no points"):
        crossing([], 1.0)


@pytest.fixture(scope="module")
def records():
    return study_records("amortisation", round_s)


def by_name(records):
    return {(one.environment.partition(" ")[0], one.runtime): one for one in amortisation(records)}


def test_every_environment_has_a_series_for_the_loop_reactors_and_every_form_of_ray(records):
    found = amortisation(records)

    environments = ["CartPole-v1 x 15", "Blackjack-v1 x 15", "ALE/Pong-v5 x 8, gray84"]
    runtimes = ["sequential", "reactor", "ray", "ray-packed", "ray-compiled"]
    assert [(one.environment, one.runtime) for one in found] == [(e, r) for e in environments for r in runtimes]
    assert {tuple(place.steps for place in one.places) for one in found} == {(1, 4, 16, 64, 256, 1024)}
    assert {one.left_out for one in found} == {()}


def test_shares_of_the_ceiling_and_crossings_follow_from_the_times(records):
    found = by_name(records)
    loop, reactor, ray = (found["CartPole-v1", name] for name in ("sequential", "reactor", "ray"))

    assert [place.of_ceiling.point for place in loop.places] == pytest.approx([0.5] * 6)
    assert (loop.as_the_loop, loop.nearly_all.steps) == (None, None)
    assert reactor.as_the_loop.is_from_start
    assert reactor.nearly_all.is_from_start
    # A step of all takes 75 us of the ceiling and 150 us of the loop: with 20 ms of its own, Ray needs 267 steps.
    assert ray.as_the_loop.steps == pytest.approx(20e-3 / 75e-6)
    assert ray.nearly_all.steps is None
    compiled = found["Blackjack-v1", "ray-compiled"]
    # 300 us of the ceiling a step, and 1 ms: 90 % from 30 steps on.
    assert compiled.nearly_all.steps == pytest.approx(30)
    assert compiled.as_the_loop.steps == pytest.approx(1e-3 / 300e-6)
    assert compiled.of_ceiling_at(compiled.nearly_all.steps) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outcome": "failed", "reason": "no answer"}, "64 steps: failed: failed in 3 of 3 invocations: no answer"),
        ({"digest": "another"}, "64 steps: invalid: digest differs"),
    ],
)
def test_a_value_that_does_not_count_is_left_out_with_the_reason(change, said):
    def wrong(invocation):
        is_it = invocation.runtime.name == "ray" and invocation.cell.name == "CartPole-v1-64"
        return change if is_it else {}

    ray = by_name(study_records("amortisation", round_s, change=wrong))["CartPole-v1", "ray"]

    assert [place.steps for place in ray.places] == [1, 4, 16, 256, 1024]
    assert len(ray.left_out) == 1
    assert ray.left_out[0].startswith(said)


def test_without_a_ceiling_there_is_no_value():
    without = study_records("amortisation", round_s, only=lambda invocation: not invocation.runtime.is_bound)

    assert amortisation(without) == []


def test_a_ceiling_that_was_beaten_is_named_as_a_fault_of_the_measurement(tmp_path, written):
    def slow(invocation):
        return round_s(invocation) * (4 if invocation.runtime.is_bound else 1)

    text, _ = write_amortisation(stored(study_records("amortisation", slow, invocations=1), tmp_path / "busy"))

    assert "Faster than the ceiling, which cannot be: sequential (CartPole-v1 x 15), reactor" in text
    assert "cannot be" not in written[0]


@pytest.fixture(scope="module")
def folder(records, tmp_path_factory):
    return stored(records, tmp_path_factory.mktemp("amortisation"))


@pytest.fixture(scope="module")
def written(folder):
    text, files = write_amortisation(folder)
    return text, {file.name: file for file in files}


def test_the_table_has_both_crossings_and_never_where_there_is_none(written):
    text, files = written

    assert set(files) == {"amortisation.md", *(f"amortisation.{kind}" for kind in ("svg", "png", "csv"))}
    rows = {line.split(" | ")[0]: line.split(" | ")[-2:] for line in text.splitlines() if line.startswith("| ")}
    assert rows["| reactor"] == ["the start", "the start |"]
    assert rows["| sequential"] == ["-", "never |"]
    assert "| ray | 0.374 % |" in text
    assert "range of 3 pairs" in text
    assert "Testium 3, 2 processors" in text


def test_every_value_follows_from_the_records_that_its_line_names(written, folder):
    records = RecordFile(folder).read()
    with written[1]["amortisation.csv"].open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))

    assert len(lines) == 3 * 5 * 6
    for line in lines:
        named = [records[int(number) - 1] for number in line["record_lines"].split()]
        parameters = named[0].parameters
        assert {one.runtime for one in named} == {line["runtime"]}
        bound_s = STEP_S[parameters["env_id"]] * parameters["envs"] * int(line["steps"]) / 2
        seconds = named[0].measured_s / named[0].measured_rounds
        assert named[0].block == 0
        assert float(line["of_ceiling"]) == pytest.approx(bound_s / seconds)
        references = (("ceiling_lines", "ceiling", "of_ceiling"), ("loop_lines", "sequential", "over_loop"))
        for column, runtime, ratio in references:
            beside = [records[int(number) - 1] for number in line[column].split()]
            assert {one.runtime for one in beside} == {runtime}
            assert [one.parameters for one in beside] == [parameters] * len(named)
            if line[ratio]:
                assert float(line[ratio]) == pytest.approx(beside[0].measured_s / beside[0].measured_rounds / seconds)


def test_the_figure_has_a_panel_for_each_environment_and_says_where_ray_crosses(written):
    words = [
        element.text for element in ET.parse(written[1]["amortisation.svg"]).iter("{http://www.w3.org/2000/svg}text")
    ]

    assert {"CartPole-v1 x 15", "Blackjack-v1 x 15", "ALE/Pong-v5 x 8, gray84"} <= set(words)
    assert words.count("ray-compiled") == 3
    assert any(word.startswith("Ray is as fast as the loop, and has 90 %") for word in words)


def test_a_folder_without_any_value_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match="reactorbench amortisation --out"):
        write_amortisation(tmp_path)
