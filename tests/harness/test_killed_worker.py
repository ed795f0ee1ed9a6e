"""A worker process of a real runtime is killed in mid-run: the record says so, and nothing is left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from harness.records import Record
from tests.semaphores import prefix_of

SHARED_MEMORY = Path("/dev/shm")
# Python runs this as it starts. The harness takes away what carries the id of a process of its own.
NAME_SEMAPHORES = f"""
import multiprocessing

multiprocessing.current_process()._config["semprefix"] = "/{prefix_of(os.getpid())}"
"""


@pytest.fixture
def reactorbench(reactorbench, tmp_path):
    """The command; its processes name their semaphores after this one."""
    folder = tmp_path / "start"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NAME_SEMAPHORES, encoding="utf-8")
    reactorbench.options["env"]["PYTHONPATH"] += f"{os.pathsep}{folder}"
    return reactorbench


def entries_of(pids):
    """What is in shared memory of these processes: others on the machine have entries, too."""
    names = {entry.name for entry in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.is_dir() else set()
    return {
        name
        for name in names
        if name.startswith(f"sem.{prefix_of(os.getpid())}") or pids & set(map(int, re.findall(r"\d+", name)))
    }


def is_worker_of_child(child, process):
    return process.ppid() == child.pid


def is_ray_actor(child, process):
    return process.name().startswith("ray::") or any("ray::" in word for word in process.cmdline())


def wait_for(found, process):
    """What `found` gives once it gives something; the guard is generous, since it is no measurement."""
    end_s = time.monotonic() + 120
    while not (made := found()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s
        time.sleep(0.05)
    return made


def measuring_child(reactorbench, process):
    """The child of the harness, once it measures."""
    if not any(p.read_text(encoding="ascii") == "measuring" for p in reactorbench.temporary.glob("rb-*/phase")):
        return None
    return next((c for c in psutil.Process(process.pid).children() if "harness.child" in c.cmdline()), None)


def worker_of(child, is_worker):
    for process in child.children(recursive=True):
        try:
            if is_worker(child, process):
                return process
        except psutil.NoSuchProcess:
            continue
    return None


HOLDS_A_SEMAPHORE = """
import multiprocessing

held = multiprocessing.get_context("spawn").Semaphore()
print("holding it", flush=True)
input()
"""


def test_a_semaphore_of_a_process_of_the_command_would_be_found(reactorbench):
    line = [sys.executable, "-c", HOLDS_A_SEMAPHORE]
    with subprocess.Popen(line, **reactorbench.options | {"stdin": subprocess.PIPE}) as holder:
        assert holder.stdout.readline() == "holding it\n"
        assert len(entries_of(set())) == 1
        holder.communicate("\n")
    assert entries_of(set()) == set()


@pytest.mark.parametrize(
    ("runtime", "is_worker", "says"),
    [
        ("reactor-processes:workers=2", is_worker_of_child, r"Worker 1 \(.* was killed by SIGKILL"),
        ("ceiling", is_worker_of_child, r"Process [01] of the ceiling \(.* was killed by SIGKILL"),
        ("processes-pipes", is_worker_of_child, r"Process 0 of processes-pipes \(.* was killed by SIGKILL"),
        ("gymnasium-async", is_worker_of_child, r"The process of 'env\[[01]\]' was killed by SIGKILL"),
        pytest.param("ray", is_ray_actor, r"Ray actor 'env\[[01]\]' died", marks=pytest.mark.ray),
        pytest.param("ray-packed", is_ray_actor, r"Ray actor 'host 1' died", marks=pytest.mark.ray),
    ],
)
def test_a_killed_worker_gives_a_failed_record_and_leaves_nothing(reactorbench, tmp_path, runtime, is_worker, says):
    process = reactorbench.start(
        *("run", "--workload", "simulation", "--set", "envs=2", "--runtime", runtime, "--runtime", "plain"),
        *("--invocations", "1", "--warmup-rounds", "5", "--rounds", "1000000", "--measure-s", "0"),
        *("--no-figures", "--out", "mine"),
    )
    child = wait_for(lambda: measuring_child(reactorbench, process), process)
    tree = [child, *child.children(recursive=True)]
    worker_of(child, is_worker).kill()
    killed_s = time.monotonic()
    records = tmp_path / "mine" / "records.jsonl"
    (line,) = wait_for(lambda: records.exists() and records.read_bytes().splitlines()[:1], process)
    took_s = time.monotonic() - killed_s
    process.terminate()
    process.communicate()

    record = msgspec.json.decode(line, type=Record)
    assert record.outcome == "failed"
    assert re.search(says, record.reason)
    assert took_s < 60  # promised are 10 seconds, of a machine that is not busy otherwise
    assert [p for p in tree if p.is_running()] == []
    assert list(reactorbench.temporary.iterdir()) == []
    assert entries_of({p.pid for p in tree}) == set()
