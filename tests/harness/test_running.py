"""Whole runs, of real child processes: what is recorded, what is left behind, and how a run goes on."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import sys
import time
from datetime import datetime, timedelta

import msgspec
import psutil
import pytest

from harness.records import Record
from tests.harness.conftest import Command

QUICK = ("--warmup-rounds", "3", "--rounds", "4", "--measure-s", "0", "--invocations", "1", "--no-figures")


def records_in(folder):
    lines = (folder / "records.jsonl").read_bytes().splitlines() if (folder / "records.jsonl").exists() else []
    return [msgspec.json.decode(line, type=Record) for line in lines]


def outcomes_in(folder):
    return [(record.runtime, record.block, record.outcome) for record in records_in(folder)]


def children_of(reactorbench):
    """The child processes of the harness whose folders lie in that command's own temporary folder."""
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if any(str(reactorbench.temporary) in word for word in line)]


def wait_until(condition, process, seconds=60):
    """Wait for `condition`; the guard is generous, since it is no measurement."""
    end_s = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_a_run_leaves_a_record_a_log_and_a_report_for_every_invocation(in_this_process, tmp_path):
    done = in_this_process(
        *("run", "--workload", "counting", "--set", "width=5", "--runtime", "plain", "--runtime", "other:workers=2"),
        *("--warmup-rounds", "3", "--rounds", "4", "--measure-s", "0.01", "--invocations", "2", "--seed", "7"),
        *("--out", "mine"),
    )

    assert done.returncode == 0, done.stderr
    folder = tmp_path / "mine"
    first, second, *mirrored = [r.runtime for r in records_in(folder)]
    assert {first, second} == {"plain", "other"}
    assert mirrored == [second, first]
    assert [(r.block, r.seed) for r in records_in(folder)] == [(0, 7), (0, 7), (1, 8), (1, 8)]
    began = [datetime.fromisoformat(record.started_at) for record in records_in(folder)]
    assert began == sorted(began)
    assert all(moment.utcoffset() == timedelta(0) and moment.microsecond == 0 for moment in began)
    first = records_in(folder)[0]
    assert first.parameters == {"width": 5, "step": 1.0, "direction": "up", "target": "here", "offsets": []}
    assert (first.unit, first.units_per_round, first.warmup_rounds, first.rounds) == ("count", 5, 3, 4)
    assert first.measured_rounds >= 4
    assert first.measured_s >= 0.01
    assert first.warmup_s > 0
    assert first.resets == 5 * first.measured_rounds
    assert first.emulator_frames is None
    assert first.pss_bytes is None or first.pss_bytes > 0
    assert all((folder / record.log).is_file() for record in records_in(folder))
    assert {"summary.csv", "table.md", "plan.json"} <= {path.name for path in folder.iterdir()}


def test_runtimes_that_compute_the_same_have_the_same_digest_and_seeds_alone_do_not_change_it(
    in_this_process, tmp_path
):
    in_this_process(
        *("run", "--workload", "counting", "--runtime", "plain", "--runtime", "other", *QUICK, "--out", "mine")
    )

    plain, other = records_in(tmp_path / "mine")
    assert plain.digest == other.digest
    assert plain.digest is not None


def test_a_bound_is_measured_without_a_digest_and_the_run_is_sound(in_this_process, tmp_path):
    done = in_this_process(
        *("run", "--workload", "counting", "--runtime", "sequential", "--runtime", "ceiling", *QUICK, "--out", "mine")
    )

    assert done.returncode == 0, done.stdout + done.stderr
    sequential, bound = records_in(tmp_path / "mine")
    assert (sequential.is_bound, bound.is_bound) == (False, True)
    assert sequential.digest is not None
    assert bound.digest is None
    assert bound.resets == sequential.resets == 3 * 4
    summary = (tmp_path / "mine" / "summary.csv").read_text(encoding="utf-8").splitlines()
    lines = list(csv.DictReader(summary))
    assert [line["bound"] for line in lines] == ["False", "True"]
    assert float(lines[0]["efficiency"]) > 0
    assert float(lines[1]["efficiency"]) == 1


def test_a_bound_that_failed_is_still_marked_as_one(in_this_process, tmp_path):
    done = in_this_process("run", "--workload", "failing_task", "--runtime", "ceiling", *QUICK, "--out", "mine")

    (bound,) = records_in(tmp_path / "mine")
    assert (done.returncode, bound.outcome, bound.is_bound) == (3, "failed", True)
    assert bound.reason.startswith("RuntimeFailure: Task 'counter[")


def test_what_computes_something_else_is_measured_without_a_digest_and_the_run_is_sound(in_this_process, tmp_path):
    done = in_this_process(
        *("run", "--workload", "counting", "--runtime", "sequential", "--runtime", "differing", *QUICK, "--out", "mine")
    )

    assert done.returncode == 0, done.stdout + done.stderr
    sequential, differing = records_in(tmp_path / "mine")
    assert (sequential.differs, differing.differs) == (None, "it draws its numbers")
    assert sequential.digest is not None
    assert differing.digest is None
    assert "it draws its numbers" in (tmp_path / "mine" / "table.md").read_text(encoding="utf-8")


def test_without_a_folder_the_results_go_below_results_runs(in_this_process, tmp_path):
    in_this_process("run", "--workload", "counting", "--runtime", "plain", *QUICK)

    (folder,) = (tmp_path / "results" / "runs").iterdir()
    assert folder.name.startswith("counting-")
    assert len(records_in(folder)) == 1


def test_with_json_standard_output_is_json_and_nothing_else(reactorbench, tmp_path):
    done = reactorbench("run", "--workload", "counting", "--runtime", "plain", *QUICK, "--out", "mine", "--json")

    assert json.loads(done.stdout)["rows"][0]["runtime"] == "plain"
    assert "[1/1]" in done.stderr
    assert json.loads(reactorbench("report", "mine", "--json", "--no-figures").stdout)["exit_status"] == 0


def test_records_do_not_say_whose_machine_it_was(in_this_process, tmp_path):
    in_this_process("run", "--workload", "counting", "--runtime", "plain", *QUICK, "--out", "mine")

    machine = records_in(tmp_path / "mine")[0].machine
    assert {"cpu_model", "processors", "physical_cores", "memory_gib", "kernel", "python", "packages"} <= machine.keys()
    assert {"fingerprint", "thread_limits", "commit", "tree_clean"} <= machine.keys()
    assert 0 <= machine["busy_before"] <= 1
    said = json.dumps(machine)
    # As a word: a host may be called "vm", and its hypervisor "kvm".
    assert not re.search(rf"\b{re.escape(os.uname().nodename)}\b", said)
    assert "/home" not in said
    assert str(tmp_path) not in said


def test_global_randomness_is_caught_and_shows_no_speedup(in_this_process, tmp_path):
    done = in_this_process(
        *("run", "--workload", "global_randomness", "--runtime", "sequential", "--runtime", "plain", *QUICK),
        *("--out", "mine", "--json"),
    )

    assert done.returncode == 3
    rows = {row["runtime"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["plain"]["outcome"] == "invalid"
    assert rows["plain"]["speedup_over_sequential"] is None


def test_a_child_that_is_killed_is_a_failed_record_and_the_rest_goes_on(in_this_process, tmp_path):
    done = in_this_process(
        "run", "--workload", "counting", "--runtime", "dying", "--runtime", "plain", *QUICK, "--out", "mine"
    )

    assert done.returncode == 3
    dying, plain = records_in(tmp_path / "mine")
    assert (dying.outcome, dying.reason) == ("failed", "the process of the invocation was killed by SIGKILL")
    assert plain.outcome == "ok"


def test_an_exception_is_the_reason_and_its_traceback_is_in_the_log(in_this_process, tmp_path):
    done = in_this_process("run", "--workload", "failing_task", "--runtime", "plain", *QUICK, "--out", "mine")

    assert done.returncode == 3
    (record,) = records_in(tmp_path / "mine")
    assert record.outcome == "failed"
    assert "ArithmeticError: the counter overflowed" in record.reason
    assert "second line" not in record.reason
    assert "Traceback" in (tmp_path / "mine" / record.log).read_text(encoding="utf-8")


def test_a_workload_that_cannot_be_built_for_no_fault_of_the_input_fails_in_its_record(in_this_process, tmp_path):
    done = in_this_process("run", "--workload", "unbuildable", "--runtime", "plain", *QUICK, "--out", "mine")

    assert done.returncode == 3
    assert records_in(tmp_path / "mine")[0].reason == "LookupError: no graph today"


def test_a_timeout_ends_the_whole_process_tree_and_says_in_which_phase(reactorbench, tmp_path):
    done = reactorbench(
        *("run", "--workload", "counting", "--runtime", f"hanging:where={tmp_path / 'pid'}", "--runtime", "plain"),
        *(*QUICK, "--timeout-s", "4", "--out", "mine"),
    )

    assert done.returncode == 124
    hanging, plain = records_in(tmp_path / "mine")
    assert hanging.outcome == "timeout"
    assert "warming up" in hanging.reason
    assert plain.outcome == "ok"
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text(encoding="ascii")))
    assert list(reactorbench.temporary.iterdir()) == []
    assert "in advance" in (tmp_path / "mine" / hanging.log).read_text(encoding="utf-8")


def test_a_process_that_a_good_child_left_is_ended_and_noted_in_the_log(reactorbench, tmp_path):
    done = reactorbench(
        *("run", "--workload", "counting", "--runtime", f"littering:where={tmp_path / 'pid'}", *QUICK),
        *("--out", "mine"),
    )

    assert done.returncode == 0
    (record,) = records_in(tmp_path / "mine")
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text(encoding="ascii")))
    assert "left processes that had to be ended" in (tmp_path / "mine" / record.log).read_text(encoding="utf-8")


def test_what_refuses_or_lacks_a_dependency_is_skipped_with_the_reason(in_this_process, tmp_path):
    done = in_this_process(
        *("run", "--workload", "counting", "--runtime", "refusing", "--runtime", "needy", "--runtime", "plain"),
        *(*QUICK, "--out", "mine"),
    )

    assert done.returncode == 0
    of = {record.runtime: record for record in records_in(tmp_path / "mine")}
    refusing, needy, plain = of["refusing"], of["needy"], of["plain"]
    assert (refusing.outcome, refusing.reason) == ("skipped", "it runs on Sundays only")
    assert (needy.outcome, plain.outcome) == ("skipped", "ok")
    assert "'a_module_that_is_not_there', which is not installed" in needy.reason


def test_a_run_that_measured_nothing_does_not_succeed(in_this_process):
    done = in_this_process("run", "--workload", "counting", "--runtime", "refusing", *QUICK, "--out", "mine")

    assert done.returncode == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_records_and_is_finished_by_resume(reactorbench, tmp_path, number):
    folder = tmp_path / "mine"
    process = reactorbench.start(
        *("run", "--workload", "counting", "--runtime", "plain", "--runtime", f"pausing:where={tmp_path / 'go'}"),
        *(*QUICK, "--out", folder),
    )
    wait_until(lambda: len(records_in(folder)) == 1 and list((folder / "logs").glob("002-*")), process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert f"reactorbench run --resume --out {folder}" in said
    assert "Traceback" not in said
    assert outcomes_in(folder) == [("plain", 0, "ok")]
    assert list(reactorbench.temporary.iterdir()) == []
    assert children_of(reactorbench) == []

    (tmp_path / "go").touch()
    done = reactorbench("run", "--resume", "--out", folder, "--no-figures")

    assert done.returncode == 0
    assert outcomes_in(folder) == [("plain", 0, "ok"), ("pausing", 0, "ok")]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_no_child_outlives_a_harness_that_is_killed(reactorbench, tmp_path):
    process = reactorbench.start("run", "--workload", "counting", "--runtime", "hanging", *QUICK, "--out", "mine")
    wait_until(lambda: list((tmp_path / "mine" / "logs").glob("001-*")) and children_of(reactorbench), process)
    process.kill()
    process.communicate()

    end_s = time.monotonic() + 60
    while children_of(reactorbench):
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.fixture(scope="module")
def one_run(plugins, tmp_path_factory):
    """A finished run of two invocations, for all tests."""
    folder = tmp_path_factory.mktemp("run")
    reactorbench = Command(plugins, folder, folder)
    reactorbench("run", "--workload", "counting", "--runtime", "plain", "--runtime", "other", *QUICK, "--out", "mine")
    assert len(records_in(folder / "mine")) == 2
    return folder / "mine"


@pytest.fixture
def finished(one_run, tmp_path):
    """A finished run of two invocations."""
    return shutil.copytree(one_run, tmp_path / "mine")


def test_a_finished_run_has_nothing_to_resume_and_is_reported_again(in_this_process, finished):
    done = in_this_process("run", "--resume", "--out", finished, "--no-figures")

    assert done.returncode == 0
    assert "0 invocations to run" in done.stdout
    assert len(records_in(finished)) == 2


def test_a_last_line_that_was_cut_is_set_aside_and_its_invocation_runs_again(in_this_process, finished):
    whole = (finished / "records.jsonl").read_bytes()
    (finished / "records.jsonl").write_bytes(whole[:-40])

    done = in_this_process("run", "--resume", "--out", finished, "--no-figures")

    assert done.returncode == 0
    assert done.stdout.count("was cut in two") == 1
    assert "Its invocation runs again." in done.stdout
    assert outcomes_in(finished) == [("plain", 0, "ok"), ("other", 0, "ok")]
    assert (finished / "records.cut").exists()


def test_a_cut_line_of_an_invocation_that_has_a_record_does_not_run_again(in_this_process, finished):
    with (finished / "records.jsonl").open("ab") as file:
        file.write(b'{"schema_version"')

    done = in_this_process("run", "--resume", "--out", finished, "--no-figures")

    assert done.stdout.count("was cut in two") == 1
    assert "runs again" not in done.stdout


def test_an_invocation_that_failed_runs_again_on_resume_and_the_newest_record_counts(in_this_process, finished):
    plain, other = records_in(finished)
    failed = msgspec.structs.replace(other, outcome="failed", reason="a bad day")
    lines = [msgspec.json.encode(record) + b"\n" for record in (plain, failed)]
    (finished / "records.jsonl").write_bytes(b"".join(lines))
    assert in_this_process("report", finished, "--no-figures").returncode == 3

    done = in_this_process("run", "--resume", "--out", finished, "--no-figures")

    assert done.returncode == 0
    assert outcomes_in(finished) == [("plain", 0, "ok"), ("other", 0, "failed"), ("other", 0, "ok")]


def test_a_folder_with_records_is_not_measured_into_by_accident(in_this_process, finished):
    before = (finished / "records.jsonl").read_bytes()

    done = in_this_process("run", "--workload", "counting", "--runtime", "plain", *QUICK, "--out", finished)

    assert done.returncode == 2
    assert "--resume" in done.stderr
    assert (finished / "records.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("--rounds", "5"),
        ("--workload", "counting", "--runtime", "plain", *QUICK),
    ],
)
def test_a_run_is_not_resumed_with_another_plan(in_this_process, finished, arguments):
    done = in_this_process("run", "--resume", "--out", finished, *arguments)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(records_in(finished)) == 2


TWO_CELLS = """
invocations = 1
warmup_rounds = 1
rounds = 2
measure_s = 0.0
runtimes = ["plain"]

[[cell]]
name = "narrow"
workload = "counting"
parameters = { width = 1 }

[[cell]]
name = "wide"
workload = "counting"
parameters = { width = 9 }
"""


def widths_in(folder):
    return [record.parameters["width"] for record in records_in(folder)]


def test_some_cells_of_a_suite_run_and_the_others_later_in_the_same_folder(in_this_process, tmp_path):
    (tmp_path / "two.toml").write_text(TWO_CELLS, encoding="utf-8")

    first = in_this_process("run", "two.toml", "--cells", "wi*", "--out", "mine", "--no-figures")
    assert first.returncode == 0, first.stderr
    assert widths_in(tmp_path / "mine") == [9]
    assert in_this_process("run", "--resume", "--out", "mine", "--no-figures").returncode == 0
    assert widths_in(tmp_path / "mine") == [9, 1]


def test_a_run_is_resumed_with_more_blocks(in_this_process, tmp_path):
    (tmp_path / "two.toml").write_text(TWO_CELLS, encoding="utf-8")
    in_this_process("run", "two.toml", "--out", "mine", "--no-figures")

    done = in_this_process("run", "two.toml", "--invocations", "2", "--resume", "--out", "mine", "--no-figures")

    assert done.returncode == 0, done.stderr
    assert [(r.parameters["width"], r.block) for r in records_in(tmp_path / "mine")] == [(1, 0), (9, 0), (1, 1), (9, 1)]


def test_what_does_not_fit_into_memory_is_skipped_with_what_it_takes_and_what_there_is(in_this_process, tmp_path):
    huge = (
        "--workload",
        "broadcast_gather",
        "--set",
        f"nbytes={10**15}",
        "--runtime",
        "sequential",
        "--runtime",
        "ray",
    )

    done = in_this_process("run", *huge, "--invocations", "1", "--out", "mine", "--no-figures")

    assert done.returncode == 4, done.stderr
    assert {(r.outcome, r.runtime) for r in records_in(tmp_path / "mine")} == {
        ("skipped", "sequential"),
        ("skipped", "ray"),
    }
    assert all("of memory, and" in r.reason for r in records_in(tmp_path / "mine"))
    planned = in_this_process("plan", *huge)
    assert planned.stdout.count("Skipped: broadcast_gather") == 2
