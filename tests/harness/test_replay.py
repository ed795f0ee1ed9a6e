"""Replay buffers of a run: bars judged by it, and that every number leads to its records."""

from __future__ import annotations

import csv
from xml.etree import ElementTree as ET

import pytest

from harness.errors import UsageError
from harness.records import RecordFile
from harness.replay import BARS, PEERS, ReplayRun, Side, Sweep, verdict
from harness.replay_report import write_replay
from harness.statistics import RANGE, Estimate
from tests.harness.study_records import stored, study_records

TIMES_OURS = {
    "replay-cpprb": 60,
    "replay-rllib": 90,
    "replay-stable-baselines3": 70,
    "replay-tianshou": 12,
    "replay-torchrl": 4,
}
OPERATION_S = {"insert": 8e-6, "sample": 20e-6, "update": 7e-6, "loop": 27e-6, "train": 1e-3}


def round_s(invocation):
    """Ours is best with a fan-out of 16; others take so many times as long, and a loop with ours twice as fast."""
    parameters, runtime = invocation.cell.parameters, invocation.runtime
    seconds = OPERATION_S[parameters["operation"]] * 16 * (1.1 if parameters["fan_out"] != 16 else 1.0)
    if parameters["operation"] == "train":
        return seconds * (1 if runtime.name == "sequential" or runtime.options.get("plugged") else 2)
    return seconds * TIMES_OURS.get(runtime.name, 1) * (1.05 if parameters["beside"] != "none" else 1.0)


def of_peers(invocation):
    return {"units_per_round": 16, "unit": "operation", "differs": invocation.runtime.differs, "digest": None}


def records_of(suite="replay", change=lambda _: {}, **given):
    return study_records(suite, round_s, change=lambda one: of_peers(one) | change(one), **given)


@pytest.fixture(scope="module")
def run():
    return ReplayRun(records_of())


def judged(run):
    return {bar.name: run.judge(bar) for bar in BARS}


def test_every_bar_is_judged_by_the_records_of_its_cells(run):
    found = judged(run)

    assert len(found) == 7
    ratios = {name: one.compared.estimate.point for name, one in found.items()}
    assert ratios["tree alone, sample"] == pytest.approx(4)
    assert ratios["108-byte transitions, insert"] == pytest.approx(60)
    assert ratios["learner beside an inserter of 100,000 rows/s, of its rate alone"] == pytest.approx(1 / 1.05)
    assert {one.verdict for one in found.values()} == {"reached"}
    # torchrl's tree was measured, so that it counts, and not Tianshou's.
    assert (found["tree alone, sample"].compared.theirs.runtime, found["tree alone, sample"].ratio) == (
        "replay-torchrl",
        3.0,
    )


def test_where_torchrl_does_not_load_tianshou_takes_its_place_with_a_bar_of_its_own():
    def skipped(invocation):
        return {"outcome": "skipped", "reason": "no C++"} if invocation.runtime.name == "replay-torchrl" else {}

    found = judged(ReplayRun(records_of(change=skipped)))

    assert [found[f"tree alone, {one}"].ratio for one in ("sample", "update")] == [3.5, 10.0]
    assert found["tree alone, update"].compared.theirs.runtime == "replay-tianshou"
    assert {found[f"tree alone, {one}"].verdict for one in ("sample", "update")} == {"reached"}


def test_a_bar_that_cannot_be_judged_says_why():
    def without(invocation):
        return invocation.runtime.name != "replay-cpprb"

    found = judged(ReplayRun(records_of(only=without)))["108-byte transitions, sample"]

    assert (found.verdict, found.compared.problem) == ("not measured", "cpprb was not measured")


@pytest.mark.parametrize(("low", "high", "expected"), [(3.0, 4.0, "reached"), (2.0, 2.9, "missed"), (2.9, 3.1, "open")])
def test_a_verdict_on_a_bar_of_three(low, high, expected):
    assert verdict(3.0, Estimate(point=(low + high) / 2, low=low, high=high, n=3, kind=RANGE)) == expected


def test_nothing_measured_reaches_nothing():
    assert verdict(3.0, None) == "not measured"


def test_sides_of_different_blocks_are_not_compared(run):
    cells = {"operation": "sample", "what": "tree", "capacity": 1_000_000, "batch": 256}
    ours, theirs = Side(parameters=cells), Side(parameters=cells, runtime="replay-tianshou")
    apart = [one for one in records_of() if one.block == (0 if one.runtime == "sequential" else 1)]

    assert run.compare(ours, theirs).problem is None
    assert "no block" in ReplayRun(apart).compare(ours, theirs).problem


# -------------------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return stored(records_of(), tmp_path_factory.mktemp("replay"))


@pytest.fixture(scope="module")
def written(folder):
    text, files = write_replay(folder)
    return text, {file.name: file for file in files}


def test_the_tables_have_a_section_for_everything_that_was_measured(written):
    text, files = written

    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "Bars",
        "Operations",
        "Two processes",
        "Plugged into other frameworks",
        "The published sum tree",
    ]
    figures = {f"{name}.{kind}" for name in ("buffers", "loops", "sum-tree") for kind in ("svg", "png", "csv")}
    assert set(files) == {"replay.md", "replay.csv", *figures}
    assert "| learner alone | 37,7" in text
    # The published time of 128 insertions into PAL's tree of 2^20, and ours.
    assert "| insert | 1,048,576 | 18.0 us / 7.8" in text
    assert "Testium 3, 2 processors" in text


def test_every_ratio_follows_from_the_records_that_its_line_names(written, folder):
    records = RecordFile(folder).read()
    with written[1]["replay.csv"].open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))

    assert len(lines) == len(BARS) + 8
    for line in lines:
        named = [records[int(number) - 1] for number in line["record_lines"].split()]
        first = [one for one in named if one.block == 0]
        seconds = [one.measured_s / one.measured_rounds for one in first]
        assert len(first) == 2
        assert float(line["ratio"]) == pytest.approx(max(seconds) / min(seconds), rel=1e-6) or float(
            line["ratio"]
        ) == pytest.approx(min(seconds) / max(seconds), rel=1e-6)
        assert {one.runtime for one in first} <= {line["ours"].split()[0], line["theirs"].split()[0]}


def test_a_figure_says_what_it_found_and_whose_buffers_it_shows(written):
    def words(name):
        return [one.text for one in ET.parse(written[1][name]).iter("{http://www.w3.org/2000/svg}text")]

    assert set(PEERS.values()) - {"RLlib"} <= set(words("buffers.svg"))
    assert "Ours over the quickest other buffer: sample 4.00x, update 4.00x, insert 4.00x" in words("buffers.svg")
    assert any("loops of other frameworks are 2.00x" in word for word in words("loops.svg"))
    assert {"PAL, published", "ours", "RLlib, published"} <= set(words("sum-tree.svg"))


def test_a_folder_without_replay_buffers_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(UsageError, match="reactorbench replay --out"):
        write_replay(tmp_path)


# -------------------------------------------------------------------------------------------- sweep


@pytest.fixture(scope="module")
def sweep_folder(tmp_path_factory):
    def too_large(invocation):
        is_it = invocation.cell.parameters["capacity"] == 10**8
        return {"outcome": "skipped", "reason": "it needs 1.2 GB"} if is_it else {}

    records = records_of("replay-sweep", change=too_large, invocations=1)
    return stored(records, tmp_path_factory.mktemp("sweep"))


def test_the_sweep_shows_the_fastest_fan_out_and_says_what_did_not_fit(sweep_folder):
    text, files = write_replay(sweep_folder)

    assert "## Bars" not in text
    assert "| 1,000,000 | 22.0 us | 22.0 us | 22.0 us | 20.0 us | 22.0 us | 22.0 us | 32: 16, 64: 16" in text
    assert "| 100,000,000 | - | - | - | - | - | - |  |" in text
    assert "capacity 100,000,000, batch 32, fan-out 2: ours: skipped in 1 of 1 invocation: it needs 1.2 GB." in text
    assert {file.name for file in files} == {"replay.md", "replay.csv", "fan-out.svg", "fan-out.png", "fan-out.csv"}


def test_a_sweep_knows_its_axes(sweep_folder):
    sample, update = Sweep.all_of(ReplayRun(RecordFile(sweep_folder).read()))

    assert (sample.operation, update.operation) == ("sample", "update")
    assert (sample.fan_outs, sample.batches) == ([2, 4, 8, 16, 32, 64], [32, 64, 128, 256, 512])
    assert sample.capacities == [10**n for n in range(3, 9)]
    assert (sample.fastest(1000, 256), sample.fastest(10**8, 256)) == (16, None)
