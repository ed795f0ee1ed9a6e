"""The processes of one invocation, and how to be sure that none is left.

Runtimes start daemons that leave their process group and session. On Linux the harness therefore makes
itself a *child subreaper*: whatever loses its parent becomes a child of the harness, so that every
process of an invocation stays a descendant. Elsewhere, those that were seen while it ran are followed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from harness.errors import HarnessError

if TYPE_CHECKING:
    import subprocess

__all__ = ["ProcessTree", "become_subreaper", "die_with_parent"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_TERMINATE_GRACE_S = 3.0
_KILL_GRACE_S = 15.0
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory and semaphores lie, not a place for files of ours
_ENTRY_WITH_PID = re.compile(r"(?:sem\.)?[A-Za-z_-]+(\d+)(?!\d)")
"""A name that begins with letters and a process id, as those of Ray do: `sem.hdr1234-...`, `sem.obj1234-...`."""


def become_subreaper() -> None:
    """Have every orphaned descendant handed to this process; does nothing where there is no such thing."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent_pid: int) -> None:
    """Have this process killed when its parent, `parent_pid`, ends; at once if that has happened already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class ProcessTree:
    """Every process that has come to descend from this one since the tree was made."""

    def __init__(self) -> None:
        """Leave out what is there already."""
        self._self = psutil.Process()
        self._before = set(self._self.children(recursive=True))
        self._shared_before = _shared_memory()
        self._seen: set[psutil.Process] = set()

    def sample(self) -> None:
        """Take note of what there is now. Costs one look at the table of processes."""
        self._seen.update(set(self._self.children(recursive=True)) - self._before)

    def living(self, child: subprocess.Popen[bytes] | None) -> list[psutil.Process]:
        """What still runs; what has ended is reaped, `child` through its own object, which keeps its status."""
        self.sample()
        if child is not None:
            child.poll()
        for process in self._seen:
            if child is None or process.pid != child.pid:
                _reap(process)
        return [process for process in self._seen if _runs(process)]

    def settle(self, child: subprocess.Popen[bytes], seconds: float) -> list[str]:
        """Wait until nothing is left, for at most `seconds`; the names of what is."""
        end_s = time.monotonic() + seconds
        while (left := self.living(child)) and time.monotonic() < end_s:
            time.sleep(0.02)
        return [_name(process) for process in left]

    def end(self, child: subprocess.Popen[bytes] | None) -> None:
        """End everything: politely first, then by force; then remove its entries in shared memory.

        Raises:
            HarnessError: if a process survives even that.
        """
        began_s = time.monotonic()
        told: set[psutil.Process] = set()
        while left := self.living(child):
            waited_s = time.monotonic() - began_s
            if waited_s > _KILL_GRACE_S:
                names = ", ".join(f"{_name(process)} ({process.pid})" for process in left)
                raise HarnessError(
                    f"These processes cannot be ended: {names}. End them, then go on with reactorbench run --resume."
                )
            by_force = waited_s > _TERMINATE_GRACE_S
            for process in left:
                if by_force or process not in told:
                    _end(process, by_force=by_force)
                    told.add(process)
            time.sleep(0.02)
        self._remove_shared_memory()

    def _remove_shared_memory(self) -> None:
        """Unlink what a killed process left in shared memory: new entries that carry its id in their name."""
        pids = {process.pid for process in self._seen}
        for name in _shared_memory() - self._shared_before:
            named = _ENTRY_WITH_PID.match(name)
            if named is None or int(named[1]) not in pids:
                continue
            entry = _SHARED_MEMORY / name
            # It may have gone meanwhile, or belong to another user's process that has the same number elsewhere.
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == os.getuid():
                    entry.unlink()


def _shared_memory() -> set[str]:
    """The names of all entries that there are."""
    return {entry.name for entry in _SHARED_MEMORY.iterdir()} if _SHARED_MEMORY.is_dir() else set()


def _reap(process: psutil.Process) -> None:
    """Take note of the end of a child of this process that nobody else waits for."""
    with contextlib.suppress(psutil.Error, OSError):
        if process.ppid() == os.getpid() and process.status() == psutil.STATUS_ZOMBIE:
            os.waitpid(process.pid, os.WNOHANG)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end(process: psutil.Process, *, by_force: bool) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        if by_force:
            process.kill()
        else:
            process.terminate()


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "a process that has ended"
