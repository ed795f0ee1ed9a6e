"""Claims: what each verdict takes, which Ray it is about, and that every number leads back to its records."""

from __future__ import annotations

import csv
import math

import pytest

from harness.claims import COLUMNS, claims, judge, markdown_claims, verdict, write_claims
from harness.errors import UsageError
from harness.records import RecordFile
from harness.statistics import Estimate
from tests.harness.paper_records import SPEEDS, paper_records


def estimate(low, high, point=None):
    return Estimate(point=point or (low * high) ** 0.5, low=low, high=high, n=3, kind="range")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.9, 2.1, "reproduced"),
        (2.4, 2.6, "reproduced"),
        (2.51, 2.6, "exceeded"),
        (1.5, 1.7, "reproduced"),
        (1.5, 1.59, "not reproduced"),
        (0.4, 0.6, "not reproduced"),
        (1.2, 2.5, "not comparable"),
        (2.6, 9.0, "exceeded"),
        (0.1, 1.5, "not reproduced"),
    ],
)
def test_a_verdict_on_a_published_ratio_of_two(low, high, expected):
    assert verdict(2.0, estimate(low, high)) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.01, 1.2, "reproduced"),
        (0.99, 1.2, "not reproduced"),
        (0.8, 0.98, "not reproduced"),
        (0.9, 2, "not comparable"),
    ],
)
def test_who_is_not_faster_for_sure_does_not_reproduce_a_small_ratio(low, high, expected):
    assert verdict(1.21, estimate(low, high)) == expected


def test_without_a_measurement_nothing_is_comparable():
    assert verdict(2.0, None) == "not comparable"


def by_name(records):
    return {by_value.claim.name: (by_value, best) for by_value, best in judge(records)}


def test_all_claims_are_judged_the_four_of_the_abstract_first():
    found = [claim.spell(claim.ratio) for claim in claims()[:4]]

    assert found == ["1.21x", "11.6x", "31.2 %", "5.12x"]
    assert [claim.figure for claim in claims()[4:]] == [1] * 4 + [2] * 6
    assert len(judge(paper_records())) == len(claims())


def test_a_claim_is_judged_against_ray_as_published_and_against_the_best_ray():
    by_value, best = by_name(paper_records())["Atari throughput, mean of three"]

    assert by_value.comparison.estimate.point == pytest.approx(2.0 / 0.05)
    assert by_value.verdict == "exceeded"
    assert best.comparison.estimate.point == pytest.approx(2.0 / 0.5)
    assert {row.runtime for row in best.comparison.theirs} == {"ray-packed"}
    assert best.verdict == "not reproduced"
    assert "the best Ray (ray-packed) is 10.0x ray-by-value" in best.reason
    assert "ray-by-value is the same program as ray" in by_value.reason
    assert "the same program" not in best.reason


def test_a_mean_over_points_is_geometric():
    factors = {"MsPacman-v4": 1.0, "Pong-v4": 2.0, "SpaceInvaders-v4": 4.0}

    def faster(invocation):
        factor = factors.get(invocation.cell.parameters.get("env_id"), 1.0)
        return {"measured_s": 1.0 / factor} if invocation.runtime.name == "reactor" else {"measured_s": 8.0}

    by_value, _ = by_name(paper_records(change=faster))["Atari throughput, mean of three"]

    assert by_value.comparison.estimate.point == pytest.approx(16.0)


def test_it_is_said_when_ray_is_faster():
    _, best = by_name(paper_records(speeds=SPEEDS | {"ray-packed": 3.0}))["Multi-agent inference, 10 agents"]

    assert best.verdict == "not reproduced"
    assert "Ray is faster here" in best.reason


def test_a_point_that_was_not_measured_makes_a_claim_not_comparable_by_name():
    judged = by_name(paper_records(only=lambda cell: cell.name != "figure4-Pong-v4"))

    by_value, _ = judged["Atari throughput, mean of three"]
    assert (by_value.verdict, by_value.reason) == ("not comparable", "Pong was not measured")


def test_a_wrong_digest_makes_a_claim_not_comparable():
    def wrong(invocation):
        return {"digest": "another"} if invocation.runtime.name == "reactor" else {}

    by_value, _ = by_name(paper_records(change=wrong))["Multi-agent inference, 10 agents"]

    assert by_value.verdict == "not comparable"
    assert "10 agents is invalid on reactor: digest differs" in by_value.reason


def test_a_cell_that_did_not_fit_is_not_comparable_with_the_reason():
    def skipped(invocation):
        reason = "it may take 26 GB of memory"
        return {"outcome": "skipped", "reason": reason} if invocation.runtime.name.startswith("ray") else {}

    by_value, _ = by_name(paper_records(change=skipped))["An array to 16 actors and back: 500 MB"]

    assert by_value.verdict == "not comparable"
    assert "skipped on ray-by-value" in by_value.reason
    assert "26 GB" in by_value.reason


def test_what_actors_sleep_is_taken_off_before_rounds_are_compared():
    def asleep(invocation):
        parameters = invocation.cell.parameters | {"sleep_s": 0.5}
        overhead_s = {"reactor": 0.01}.get(invocation.runtime.name, 0.03)
        return {"parameters": parameters, "measured_rounds": 10, "measured_s": 10 * (0.5 + overhead_s)}

    records = paper_records(change=asleep, only=lambda cell: cell.name == "figure1-16-actors")
    by_value, _ = by_name(records)["10.5 MB to N actors and back: 16 actors"]

    assert by_value.comparison.estimate.point == pytest.approx(3.0)
    assert by_value.verdict == "reproduced"


def written(records, folder):
    file = RecordFile(folder)
    for record in records:
        file.append(record)
    text, (_, lines) = write_claims(folder)
    with lines.open(newline="", encoding="utf-8") as opened:
        return text, list(csv.DictReader(opened))


def test_every_ratio_follows_from_the_records_that_its_line_names(tmp_path):
    records = paper_records(only=lambda cell: cell.name.startswith(("figure5", "figure6")))
    _, lines = written(records, tmp_path)

    (line,) = [
        one for one in lines if one["claim"] == "Multi-agent inference, 10 agents" and one["reference"] == "best Ray"
    ]
    assert tuple(line) == COLUMNS
    named = [records[int(number) - 1] for number in line["record_lines"].split()]
    assert {record.runtime for record in named} == {"reactor", "ray-packed"}
    assert all(record.parameters["agents"] == 10 for record in named)
    ours, theirs = (
        {record.block: record.measured_s for record in named if record.runtime == runtime}
        for runtime in ("reactor", "ray-packed")
    )
    mean = math.exp(sum(math.log(theirs[block] / ours[block]) for block in ours) / len(ours))
    assert float(line["ratio"]) == pytest.approx(mean)


def test_fewer_than_six_pairs_give_a_range_that_is_called_so_and_six_an_interval(tmp_path):
    small, large = tmp_path / "three", tmp_path / "six"
    small.mkdir()
    large.mkdir()
    only = {"only": lambda cell: cell.name.startswith("figure6")}
    three, three_lines = written(paper_records(**only), small)
    six, six_lines = written(paper_records(**only, invocations=6), large)

    assert "range of 3 pairs" in three
    assert "A range is no interval" in three
    assert "exceeded (range)" in three
    assert "(range)" not in six
    assert "95 % interval of 6 pairs" in six
    assert {line["interval"] for line in three_lines} == {"range", ""}
    assert {line["interval"] for line in six_lines} == {"95 % interval", ""}


def test_the_table_says_where_and_what_was_measured_otherwise():
    text = markdown_claims(judge(paper_records()), "Testium 3, 2 processors")

    assert "Measured on: Testium 3, 2 processors. Published on: AWS" in text
    assert "- figure 1, 2: the 0.5 s sleep" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count(" | ") for line in rows}) == 1


def test_what_makes_the_measurements_doubtful_stands_below_the_table(tmp_path):
    busy = {"machine": {"cpu_model": "Testium 3", "processors": 2, "busy_before": 0.9}}
    text, _ = written(paper_records(change=lambda _: busy, only=lambda cell: cell.name == "figure6-4-agents"), tmp_path)

    assert "\nWarning: " in text
    assert "while other programs were busy" in text


def test_a_single_pair_is_called_one_and_has_no_range():
    records = paper_records(invocations=1, only=lambda cell: cell.name == "figure6-10-agents")

    assert "| 40.0x, one pair |" in markdown_claims(judge(records), "")


def test_a_folder_without_records_cannot_be_judged(tmp_path):
    with pytest.raises(UsageError, match="nothing to judge"):
        write_claims(tmp_path)
