"""The command as people type it: help, lists, plans, and what it says to bad input."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import __version__

HEAVY = ("ray", "torch", "gymnasium", "ale_py", "pandas", "matplotlib", "seaborn", "scipy", "cv2")

WITHOUT_PLUGINS = """
import sys
from harness.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("|".join(sorted(set({heavy!r}) & set(sys.modules))), file=sys.stderr)
"""


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["list"], ["list", "--json"], ["plan", "quick"]])
def test_quick_commands_import_nothing_heavy(command):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PLUGINS.format(heavy=HEAVY), *command],
        check=True,
        capture_output=True,
        text=True,
    )

    assert done.stderr.strip() == ""


def test_version_is_that_of_the_package(in_this_process):
    assert in_this_process("--version").stdout.strip() == __version__


def test_help_names_every_command(in_this_process):
    shown = in_this_process("--help").stdout

    assert all(f" {command} " in shown for command in ("run", "report", "list", "plan", "doctor"))


def test_list_shows_parameters_with_defaults_and_whether_dependencies_are_there(in_this_process):
    listed = json.loads(in_this_process("list", "--json").stdout)

    runtimes = {entry["name"]: entry for entry in listed["runtimes"]}
    workloads = {entry["name"]: entry for entry in listed["workloads"]}
    assert workloads["counting"]["parameters"][0] == {
        "name": "width",
        "type": "int >= 1",
        "default": 3,
        "description": "number of counters",
    }
    assert runtimes["needy"]["requires"] == [
        {"module": "a_module_that_is_not_there", "installed": False, "version": None}
    ]
    assert runtimes["plain"]["optional"] == [
        {"module": "a_module.that_is_not_there", "installed": False, "version": None, "needed_for": "workers=2"}
    ]
    assert {need["module"] for need in workloads["simulation"]["optional"]} == {"ale_py", "cv2", "torch"}
    assert [need["module"] for need in runtimes["reactor"]["optional"]] == ["runtimes.reactor._native"]
    assert {"sequential", "reactor", "ray", "ray-packed"} <= runtimes.keys()
    assert {"simulation", "broadcast_gather"} <= workloads.keys()
    assert {"quick", "simulation"} <= {suite["name"] for suite in listed["suites"]}
    assert [name for name, entry in runtimes.items() if entry.get("is_bound")] == ["ceiling"]
    differing = {name: entry["differs"] for name, entry in runtimes.items() if entry.get("differs")}
    assert {"ale-vector", "differing", "envpool", "reactor-async", "ray-async", "stable-baselines3"} <= differing.keys()
    assert not {"sequential", "reactor", "ray", "ray-packed", "processes-pipes"} & differing.keys()
    assert (runtimes["differing"]["differs"], runtimes["differing"]["limits"]) == ("it draws its numbers", "counting")
    assert {"processes-pipes", "gymnasium-sync", "gymnasium-async"} <= runtimes.keys()


def test_a_plugin_that_cannot_be_imported_is_listed_with_the_reason(in_this_process):
    listed = json.loads(in_this_process("list", "--json").stdout)

    broken = {entry["name"]: entry["broken"] for entry in listed["runtimes"] if "broken" in entry}
    assert "plugin_kit_that_is_not_there" in broken["broken"]
    assert "calls itself 'plain'" in broken["misnamed"]
    assert "no Runtime" in broken["no_runtime"]


def test_list_for_people_says_the_same(in_this_process):
    done = in_this_process("list")

    assert done.returncode == 0
    assert "width=3  int >= 1" in done.stdout
    assert "needs a_module_that_is_not_there, which is not installed" in done.stdout
    assert "workers=2: a_module.that_is_not_there, not installed" in done.stdout
    assert "broken: cannot be used: " in done.stdout
    assert "ceiling (bound): " in done.stdout
    assert "runs only counting" in done.stdout
    assert "compared on units of work only: it draws its numbers" in done.stdout
    assert "sequential: " in done.stdout


def test_plan_shows_the_order_and_says_that_the_time_is_an_estimate(in_this_process):
    done = in_this_process("plan", "--workload", "counting", "--runtime", "plain", "--runtime", "other")

    rows = [line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [row[-5] for row in rows[:4]] == ["plain", "other", "other", "plain"]
    assert "This is an estimate" in done.stdout


def test_plan_as_json_adds_its_estimates_up(in_this_process):
    done = in_this_process("plan", "--workload", "counting", "--runtime", "plain", "--invocations", "3", "--json")

    planned = json.loads(done.stdout)
    assert [invocation["seed"] for invocation in planned["invocations"]] == [0, 1, 2]
    assert planned["estimate_s"] == sum(invocation["estimate_s"] for invocation in planned["invocations"])


COUNTING = ("run", "--workload", "counting", "--runtime", "plain")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "quik"], "Did you mean 'quick'?"),
        (["run"], "Name either a suite or a workload"),
        (["run", "quick", "--workload", "counting"], "Name either a suite or a workload"),
        (["run", "quick", "--set", "envs=1"], "--set goes with --workload"),
        (["run", "--workload", "countng", "--runtime", "plain"], "Did you mean 'counting'?"),
        (["run", "--workload", "counting"], "names no runtime"),
        (["run", "--workload", "counting", "--runtime", "plian"], "Did you mean 'plain'?"),
        (["run", "--workload", "counting", "--runtime", "broken"], "cannot be used"),
        (["run", "--workload", "counting", "--runtime", "plain:worker=2"], "Did you mean 'workers'?"),
        (["run", "--workload", "counting", "--runtime", "plain:workers=two"], "int >= 0"),
        ([*COUNTING, "--set", "widht=2"], "Did you mean 'width'?"),
        ([*COUNTING, "--set", "width=0"], "int >= 1 (number of counters)"),
        ([*COUNTING, "--set", "width=many"], "int >= 1 (number of counters)"),
        ([*COUNTING, "--set", "width"], "Write NAME=VALUE"),
        ([*COUNTING, "--set", "direction=down", "--set", "step=0"], "needs a step that is not 0"),
        ([*COUNTING, "--set", "target=nowhere"], "Target 'nowhere' does not exist. Use 'here'."),
        ([*COUNTING, "--rounds", "0"], "Setting 'rounds'"),
        ([*COUNTING, "--rounds", "ten"], "--rounds"),
        ([*COUNTING, "--round", "10"], "--round"),
        ([*COUNTING, "--invocations", "0"], "Setting 'invocations' of the run cannot be 0"),
        ([*COUNTING, "--measure-s", "inf"], "Setting 'measure_s' of the run cannot be inf: it takes float >= 0"),
        ([*COUNTING, "--timeout-s", "nan"], "cannot be nan"),
        ([*COUNTING, "--timeout-s", "86401"], "<= 86400"),
        ([*COUNTING, "--set", "step=inf"], "cannot be 'inf': it takes float, finite"),
        ([*COUNTING, "--out", ""], "--out has an empty name"),
        (["plan", *COUNTING[1:], "--set", "target=nowhere"], "Target 'nowhere' does not exist. Use 'here'."),
        (["plan", "--workload", "simulation", "--set", "env_id=NoSuch-v9", "--runtime", "sequential"], "NoSuch"),
        ([*COUNTING, "--timeout-s", "0"], "Setting 'timeout_s'"),
        ([*COUNTING, "--resume"], "Add --out DIR"),
        (["run", "--resume", "--out", "nowhere"], "no run to resume"),
        (["run", "--workload", "simulation", "--set", "env_id=CartPole-v9", "--runtime", "sequential"], "CartPole-v"),
        (["run", "--workload", "simulation", "--set", "envs=0", "--runtime", "sequential"], "int >= 1"),
        (["report", "nowhere"], "nothing to report"),
        (["rnu"], "Did you mean"),
        (["list", "--bogus"], "--bogus"),
        (["plan", "missing.toml"], "cannot be read"),
    ],
)
def test_bad_input_ends_in_one_short_message(in_this_process, tmp_path, arguments, said):
    done = in_this_process(*arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.rglob("records.jsonl")) == []


def test_a_suite_with_a_misspelt_key_is_refused(in_this_process, tmp_path):
    (tmp_path / "mine.toml").write_text('runtime = ["plain"]\n[[cell]]\nworkload = "counting"\n', encoding="utf-8")

    done = in_this_process("run", "mine.toml")

    assert done.returncode == 2
    assert "unknown key 'runtime'. Did you mean 'runtimes'?" in done.stderr


@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_a_results_folder_that_cannot_be_written_is_refused(in_this_process, tmp_path, place):
    (tmp_path / "taken").write_text("", encoding="utf-8")

    done = in_this_process(*COUNTING, "--out", "taken" if place == "a file" else "taken/run")

    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_results_folder_without_permission_is_refused(in_this_process, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)

    done = in_this_process(*COUNTING, "--out", locked / "run")

    assert done.returncode == 2
    assert "Permission denied" in done.stderr


def test_a_reader_that_goes_away_changes_no_status(reactorbench, tmp_path):
    """A closed pipe must neither hide a failure nor make one."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path, status in (("schema-2.jsonl", 0), ("schema-1.jsonl", 3)):
        shutil.copy(Path(__file__).with_name("earlier_records") / path, folder / "records.jsonl")
        line = shlex.join([sys.executable, "-m", "harness", "report", str(folder), "--no-figures"])
        for rest in ("--json | true", ">&-"):
            done = subprocess.run(
                ["bash", "-c", f"set -o pipefail; {line} {rest}"],
                env=reactorbench.options["env"],
                capture_output=True,
                check=False,
            )
            assert (done.returncode, done.stderr) == (status, b""), rest


def test_a_defect_of_ours_is_no_confirmed_slowdown(in_this_process, monkeypatch):
    def broken():
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("harness.listing.listing", broken)

    done = in_this_process("list", "--json")

    assert done.returncode == 3
    assert "ZeroDivisionError: a defect" in done.stderr
