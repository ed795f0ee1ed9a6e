"""The surroundings of a child: its environment, its log, and its processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.invocation import environment
from harness.plan import Cell, Invocation, RuntimeChoice
from harness.process_tree import ProcessTree
from harness.runner import _log_name


def test_every_numerical_library_gets_one_thread_whatever_was_set_before():
    made = environment({"OMP_NUM_THREADS": "8", "HOME": "/root"}, seed=0)

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    assert [made[name] for name in names] == ["1"] * 4
    assert made["HOME"] == "/root"


def test_no_cluster_of_somebody_else_is_joined():
    assert "RAY_ADDRESS" not in environment({"RAY_ADDRESS": "10.0.0.1:6379"}, seed=0)


def test_the_order_of_sets_is_the_same_for_all_runtimes_of_a_block():
    assert environment({}, seed=3)["PYTHONHASHSEED"] == environment({"PYTHONHASHSEED": "9"}, seed=3)["PYTHONHASHSEED"]
    assert environment({}, seed=3)["PYTHONHASHSEED"] != environment({}, seed=4)["PYTHONHASHSEED"]


def test_the_size_of_the_environment_varies_from_block_to_block_and_is_equal_within_one():
    sizes = [sum(map(len, environment({"HOME": "/root"}, seed=seed).values())) for seed in range(20)]

    assert len(set(sizes)) > 15
    assert max(sizes) - min(sizes) < 4100
    assert environment({"HOME": "/root"}, seed=3) == environment({"HOME": "/root"}, seed=3)


def test_another_version_does_not_find_the_modules_of_this_one():
    foreign = environment({"PYTHONPATH": "/mine", "PYTHONHOME": "/home"}, seed=0, is_foreign=True)

    assert not {"PYTHONPATH", "PYTHONHOME"} & foreign.keys()
    assert foreign["PYTHONHASHSEED"] == "0"


def test_relative_folders_of_the_path_hold_from_another_working_directory():
    entries = environment({"PYTHONPATH": f"plugins{os.pathsep}"}, seed=0)["PYTHONPATH"].split(os.pathsep)

    assert str(Path("plugins").resolve()) in entries
    assert all(Path(entry).is_absolute() for entry in entries)


@pytest.mark.parametrize("name", ["a/b", "..", "x y:z", "ä" * 300])
def test_a_log_has_a_plain_file_name_whatever_the_workload_is_called(name):
    cell = Cell(workload=name, parameters={}, runtimes=(), warmup_rounds=0, rounds=1, measure_s=0.0)
    runtime = RuntimeChoice(name="ray-packed", options={})

    made = _log_name(Invocation(number=7, cell=cell, runtime=runtime, block=1, seed=1))

    assert made.startswith("007-")
    assert made.endswith("-1.log")
    assert Path(made).name == made
    assert len(made) < 150
    assert made.isascii()


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"


@pytest.fixture
def stubborn():
    """A process that ignores SIGTERM, started after the tree was made."""
    tree = ProcessTree()
    process = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield tree, process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_process_that_ignores_a_polite_request_is_ended_by_force(stubborn):
    tree, process = stubborn

    tree.end(process)

    assert process.returncode == -9


def test_processes_that_were_there_before_are_left_alone(stubborn):
    _, process = stubborn

    ProcessTree().end(None)

    assert process.poll() is None


def test_shared_memory_of_ended_processes_goes_and_that_of_others_stays(stubborn, tmp_path, monkeypatch):
    # Not where it really is: other tests look there for what was left.
    monkeypatch.setattr("harness.process_tree._SHARED_MEMORY", tmp_path)
    tree, process = stubborn
    mine = tmp_path / f"sem.hdr{process.pid}-1"
    others = [tmp_path / f"sem.hdr{process.pid}9-1", tmp_path / f"rb{os.getpid()}-1"]
    for entry in (mine, *others):
        entry.touch()

    tree.end(process)

    assert not mine.exists()
    assert all(entry.exists() for entry in others)
