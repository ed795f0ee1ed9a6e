"""Other forms of a report: reporters by name, our own and those of a plug-in."""

from __future__ import annotations

import json

import pytest

from harness.records import RecordFile
from tests.harness.records_of import record


@pytest.fixture
def folder(tmp_path):
    file = RecordFile(tmp_path)
    for block in range(3):
        file.append(record("sequential", 1000 + block, block=block, startup_s=0.5, pss_bytes=20_000_000))
        file.append(record("reactor", 2000, block=block, digest="wrong", startup_s=0.5))
    return tmp_path


def test_the_json_of_github_action_benchmark_has_a_number_for_each_thing_of_which_less_is_better(
    in_this_process, folder
):
    done = in_this_process("report", folder, "--no-figures", "--reporter", "github-action-benchmark")

    assert done.returncode == 3  # a row is invalid
    assert "github-action-benchmark.json" in done.stdout
    entries = json.loads((folder / "github-action-benchmark.json").read_text(encoding="utf-8"))
    # What that action reads: https://github.com/benchmark-action/github-action-benchmark
    assert all(
        {"name", "unit", "value"} <= entry.keys() <= {"name", "unit", "value", "range", "extra"} for entry in entries
    )
    assert all(isinstance(entry["value"], float | int) and isinstance(entry["unit"], str) for entry in entries)
    assert {entry["name"].rpartition(": ")[2]: entry["unit"] for entry in entries} == {
        "time of a unit": "us/environment-step",
        "start-up": "s",
        "memory": "MB",
    }
    assert entries[0]["value"] == pytest.approx(999, rel=0.01)
    assert not any("reactor" in entry["name"] for entry in entries)


def test_a_reporter_that_fails_is_named_and_keeps_no_other_from_writing(in_this_process, tmp_path):
    RecordFile(tmp_path).append(record("sequential", 1000))

    done = in_this_process("report", tmp_path, "--no-figures", "--reporter", "failing", "--reporter", "lines")

    assert done.returncode == 3
    assert "Reporter 'failing' failed: ArithmeticError: no number today" in done.stderr
    assert (tmp_path / "lines.txt").read_text(encoding="utf-8") == "1 records, 1 rows\n"
    assert (tmp_path / "summary.csv").exists()


def test_a_run_writes_with_reporters_too(reactorbench, tmp_path):
    rounds = ["--invocations", "1", "--warmup-rounds", "0", "--rounds", "2", "--measure-s", "0"]
    cell = ["--workload", "counting", "--runtime", "plain"]

    done = reactorbench("run", *cell, *rounds, "--no-figures", "--reporter", "lines", "--out", tmp_path / "out")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "lines.txt").exists()
    assert "lines.txt" in done.stdout


@pytest.mark.parametrize("command", [["run", "quick", "--out", "out"], ["report", "."]])
def test_an_unknown_reporter_is_said_before_anything_happens(in_this_process, tmp_path, command):
    done = in_this_process(*command, "--reporter", "line")

    assert done.returncode == 2
    assert "Unknown reporter 'line'. Did you mean 'lines'?" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_list_shows_metrics_and_reporters(in_this_process):
    listed = json.loads(in_this_process("list", "--json").stdout)

    metrics = {entry["name"]: entry for entry in listed["metrics"]}
    assert {"cpu_s", "context_switches", "fired"} <= metrics.keys()
    assert metrics["fired"] == {
        "name": "fired",
        "summary": "Is for tests.",
        "unit": "firings",
        "less_is_better": False,
    }
    assert {"github-action-benchmark", "lines"} <= {entry["name"] for entry in listed["reporters"]}
    assert "cpu_s: processor seconds" in in_this_process("list").stdout
