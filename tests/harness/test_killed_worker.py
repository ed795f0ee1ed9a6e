"""A worker process of a real runtime is killed in mid-run: the record says so, and nothing is left behind."""

from __future__ import annotations

import re
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from harness.records import Record

SHARED_MEMORY = Path("/dev/shm")


def entries():
    return set(SHARED_MEMORY.iterdir()) if SHARED_MEMORY.is_dir() else set()


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


@pytest.mark.parametrize(
    ("runtime", "is_worker", "says"),
    [
        ("reactor-processes:workers=2", is_worker_of_child, r"Worker 1 \(.* was killed by SIGKILL"),
        ("ceiling", is_worker_of_child, r"Process [01] of the ceiling \(.* was killed by SIGKILL"),
        pytest.param("ray", is_ray_actor, r"Ray actor 'env\[[01]\]' died", marks=pytest.mark.ray),
        pytest.param("ray-packed", is_ray_actor, r"Ray actor 'host 1' died", marks=pytest.mark.ray),
    ],
)
def test_a_killed_worker_gives_a_failed_record_and_leaves_nothing(reactorbench, tmp_path, runtime, is_worker, says):
    before = entries()
    process = reactorbench.start(
        *("run", "--workload", "simulation", "--set", "envs=2", "--runtime", runtime, "--runtime", "plain"),
        *("--invocations", "1", "--warmup-rounds", "5", "--rounds", "1000000", "--measure-s", "0"),
        *("--no-figures", "--out", "mine"),
    )
    child = wait_for(lambda: measuring_child(reactorbench, process), process)
    tree = child.children(recursive=True)
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
    assert {entry for entry in entries() - before if not entry.name.startswith("pytest")} == set()
