"""The script that measures under load: what it prints, and that it leaves no load behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from pathlib import Path

BRIEFLY = ("--samples", "2", "--sample-s", "0.02")


def start(repository: Path, *arguments: str) -> subprocess.Popen[str]:
    """The script, in a session of its own, so that what it starts can be told."""
    return subprocess.Popen(
        [sys.executable, repository / "scripts" / "load-overhead", *arguments],
        env=os.environ | {"PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def living_of(session: int) -> list[psutil.Process]:
    """The processes of a session that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_speed_is_shown_for_each_cell_and_number_of_busy_processes_and_none_of_them_is_left(repository: Path) -> None:
    script = start(repository, "--busy", "0,2", *BRIEFLY)
    output, errors = script.communicate()

    assert script.returncode == 0, errors
    rows = [line.split() for line in output.splitlines()[2:]]
    assert [row[:4] for row in rows] == [
        [env_id, "x", envs, busy] for env_id, envs in (("CartPole-v1", "15"), ("ALE/Pong-v5", "8")) for busy in "02"
    ]
    for row in rows:
        speed, low, high = float(row[6]), float(row[7]), float(row[9])
        assert 0 < low <= speed <= high
        if speed != 0.8:  # as printed: rounded
            assert row[10] == ("reached" if speed > 0.8 else "missed")
    assert living_of(script.pid) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_busy_processes_end_with_the_script_however_it_ends(repository: Path, how: signal.Signals) -> None:
    script = start(repository, "--busy", "1", "--samples", "100000")
    while not any("os.getppid()" in " ".join(process.cmdline()) for process in living_of(script.pid)):
        assert script.poll() is None
        time.sleep(0.1)
    script.send_signal(how)
    script.communicate()

    assert psutil.wait_procs(living_of(script.pid), timeout=60)[1] == []


def test_a_load_that_is_no_list_of_numbers_is_refused(repository: Path) -> None:
    script = start(repository, "--busy", "1;2")
    _, errors = script.communicate()

    assert script.returncode == 2
    assert "'1;2' is no list of numbers like 0,1,2" in errors
