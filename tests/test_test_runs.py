"""How the tests themselves run: one that hangs leaves no process, and a run in the background is like any other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from pathlib import Path

HANGS = """
import signal, subprocess, sys

SLEEP = [sys.executable, "-c", "import time; time.sleep(1000)"]
ORPHAN = f"import subprocess; print(subprocess.Popen({SLEEP}, start_new_session=True, stdout=-3, stderr=-3).pid)"


def test_hangs(tmp_path):
    child = subprocess.Popen(SLEEP, start_new_session=True)
    orphan = subprocess.run([sys.executable, "-c", ORPHAN], check=True, capture_output=True, text=True).stdout
    with open("started", "w") as file:
        file.write(f"{child.pid} {orphan}")
    signal.setitimer(signal.ITIMER_REAL, 0.2)  # the timer of pytest-timeout: its time is up soon
    child.wait()


def test_the_next_one():
    pass
"""
INTERRUPTS = """
import signal, subprocess, sys

WAITS = "import time; print('waiting', flush=True); time.sleep(1000)"


def test_interrupts():
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in child.communicate()[1]
"""


@pytest.fixture
def folder(tmp_path, repository):
    """A project whose tests run as those here do."""
    shutil.copy(repository / "tests" / "conftest.py", tmp_path)
    (tmp_path / "tests").mkdir()
    shutil.copy(repository / "tests" / "servants.py", tmp_path / "tests")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 180\n", encoding="utf-8")
    return tmp_path


def run_pytest(folder: Path, test: str, *before: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(test, encoding="utf-8")
    without = {"PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"}
    return subprocess.run(
        [*before, sys.executable, "-m", "pytest"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in without},
        check=False,
        capture_output=True,
        text=True,
    )


def test_a_test_that_hangs_ends_with_its_stack_and_leaves_no_process(folder):
    done = run_pytest(folder, HANGS)

    assert "1 failed, 1 passed" in done.stdout
    assert ">       child.wait()" in done.stdout
    assert "Timeout" in done.stdout
    started = [int(pid) for pid in (folder / "started").read_text(encoding="ascii").split()]
    assert len(started) == 2
    assert [pid for pid in started if is_alive(pid)] == []


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_programs_can_be_interrupted_by_tests_that_run_in_the_background(folder):
    done = run_pytest(folder, INTERRUPTS, "bash", "-c", 'trap "" INT; exec "$@"', "bash")

    assert done.returncode == 0, done.stdout
