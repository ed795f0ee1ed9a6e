"""The behaviour suite finds what each of many broken runtimes does wrong, and nothing in a sound one."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.conformance.leftovers import watched

KIT = Path(__file__).with_name("mutant_kit.py")
VALUES = "test_every_task_hears_what_was_said_to_it"
ORDER = "test_a_task_fires_after_those_that_it_hears_in_the_same_round"
ROUND_ENDS = "test_no_task_starts_a_round_before_all_have_finished_the_one_before"
FIRINGS = "test_every_task_fires_once_a_round"
SEEDS = "test_randomness_comes_from_the_seed_by_path_and_index"
FAULTS = "test_inputs_are_read_only_and_stay_valid_and_outputs_are_memory_of_their_shape"
RAISED = "test_an_exception_in_a_round_reaches_the_caller_and_names_the_task_and_the_round"
STATE = "test_a_state_is_the_same_wherever_it_is_asked_for"
RESUMED = "test_a_graph_goes_on_from_a_state_as_if_it_had_never_stopped"
LEFT = "test_nothing_is_left_after_closing"
LEFT_LATER = "test_nothing_is_left_after_a_failure"

CAUGHT = {
    "backwards": {ORDER, VALUES},
    "hasty": {ROUND_ENDS},
    "delayless": {VALUES},
    "forgetful": {FIRINGS},
    "misseeded": {SEEDS},
    "stale": {VALUES},
    "writable": {FAULTS},
    "swallowing": {RAISED},
    "nameless": {RAISED},
    "in-seconds": {"test_durations_are_those_of_each_round_in_nanoseconds"},
    "closes-once": {"test_closing_twice_is_closing_once"},
    "unclosed": {"test_closing_closes_every_task_once_where_it_lives"},
    "leaves-process": {LEFT},
    "leaves-process-after-failure": {LEFT_LATER},
    "leaves-thread": {LEFT},
    "leaves-memory": {LEFT},
    "leaves-file": {LEFT},
    "unasked": {STATE},
    "shared": {STATE},
    "one-value": {RESUMED},
    "anew": {RESUMED},
    "refusing": {"test_what_is_refused_cannot_be_opened"},
    "undescribed": {"test_options_have_defaults_and_descriptions_and_travel"},
    "modest": {"test_demands_are_plausible"},
}
"""Of each mutant the tests that must fail, among others maybe."""
LEAVERS = [name for name in CAUGHT if name.startswith("leaves-")]
PATIENT = ["sound", *(name for name in CAUGHT if name not in LEAVERS)]


def run_suite(folder, *arguments):
    """The suite, from a folder that has nothing to do with the project, with the mutants installed."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    without = {"PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-v",
            "-rfs",
            "--tb=no",
            "-p",
            "no:cacheprovider",
            "--pyargs",
            "harness.conformance",
            *arguments,
        ],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in without} | {"PYTHONPATH": path},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutants")
    text = KIT.read_text(encoding="utf-8")
    (folder / "mutant_kit.py").write_text(text, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    info = folder / "mutant_kit-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mutant-kit\nVersion: 1.0\n", encoding="utf-8")
    names = re.findall(r'^(\w+) = mutant\("([\w-]+)"', text, re.MULTILINE)
    entries = "".join(f"{name} = mutant_kit:{variable}\n" for variable, name in names)
    (info / "entry_points.txt").write_text(f"[reactorbench.runtimes]\n{entries}", encoding="utf-8")
    return folder


def failed_tests(folder, names, *arguments):
    """Of each runtime in `names` the tests that it failed; all in one run, which takes long."""
    done = run_suite(folder, *arguments, *(f"--runtime={name}" for name in names))
    for left in Path("/dev/shm").glob("mutant-*"):
        left.unlink(missing_ok=True)
    assert done.returncode == 1, done.stdout + done.stderr
    found = {name: set() for name in names}
    for test, name in re.findall(r"^FAILED \S*::(\w+)\[(.*?)\]", done.stdout, re.MULTILINE):
        runtime = max((one for one in found if name.startswith(one)), key=len)
        found[runtime].add(test)
    return found


def test_a_broken_runtime_fails_what_it_breaks_and_a_sound_one_nothing(folder):
    failed = failed_tests(folder, PATIENT, "-k", "not workload and not loop")

    assert failed["sound"] == set()
    assert {name: missed for name in PATIENT[1:] if (missed := CAUGHT[name] - failed[name])} == {}
    # What a broken runtime keeps is not held against it.
    kept = {RAISED, LEFT, "test_demands_are_plausible"}
    assert {name: wrong for name in PATIENT[1:] if (wrong := failed[name] & (kept - CAUGHT[name]))} == {}


def test_a_runtime_that_leaves_something_is_caught(folder):
    # None of it goes by itself, so there is nothing to wait for; what other tests are about to take away may count.
    failed = failed_tests(folder, LEAVERS, "--grace-s=0.1", "-k", "nothing_is_left")

    assert {name: missed for name in LEAVERS if (missed := CAUGHT[name] - failed[name])} == {}


def test_runtimes_and_options_are_checked_before_anything_runs(folder):
    done = run_suite(folder, "--runtime", "seqential")
    assert done.returncode == 4
    assert "Unknown runtime 'seqential'. Did you mean 'sequential'?" in done.stdout + done.stderr
    done = run_suite(folder, "--runtime", "reactor-processes", "--option", "wokers=2")
    assert done.returncode == 4
    assert (
        "Unknown option 'wokers' of runtime 'reactor-processes'. Did you mean 'workers'?" in done.stdout + done.stderr
    )


def test_an_option_reaches_the_runtime_and_what_cannot_apply_is_skipped_with_its_reason(folder):
    chosen = ["--runtime", "reactor-processes:workers=2", "--runtime", "ceiling"]
    done = run_suite(folder, *chosen, "-k", "(process and killed) or (ceiling and hears)")
    assert done.returncode == 0, done.stdout
    assert "[reactor-processes:workers=2] PASSED" in done.stdout
    assert "ceiling: what the members of 'left' do depends on" in done.stdout


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no /dev/shm; run it on Linux")
def test_shared_memory_counts_unless_it_is_named_after_a_process_of_somebody_else():
    # As those that pytest-xdist starts, this process has a parent.
    ours, theirs = [Path(f"/dev/shm/watched-{pid}-of-{os.getpid()}") for pid in (os.getpid(), os.getppid())]
    drawn = Path(f"/dev/shm/sem.mp-{os.getppid()}-of-{os.getpid()}")
    try:
        with watched(grace_s=0.0) as left:
            for entry in (ours, theirs, drawn):
                entry.touch()
    finally:
        for entry in (ours, theirs, drawn):
            entry.unlink(missing_ok=True)

    found = {name for name in left.found if f"-of-{os.getpid()}" in name}
    assert found == {f"shared memory {ours.name}", f"shared memory {drawn.name}"}


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no /dev/shm; run it on Linux")
def test_a_semaphore_that_another_living_process_made_does_not_count():
    watching = """
from harness.conformance.leftovers import watched
with watched(grace_s=0.0) as left:
    print("watching", flush=True)
    input()
print(left.found)
"""
    with subprocess.Popen(
        [sys.executable, "-c", watching], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "watching\n"
        held = multiprocessing.get_context("spawn").Semaphore()
        said, _ = process.communicate("\n")

    assert Path(f"/dev/shm/sem.{held._semlock.name.lstrip('/')}").exists()
    assert said == "[]\n"
