"""What a session has left behind: processes, threads, shared memory, temporary files, settings of this process."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["GRACE_S", "Leftovers", "watched"]

GRACE_S = 10.0
"""What is on its way out gets so long.

Shared memory that a killed process of somebody else had open belongs to nobody until that one's resource tracker
takes it away: about a second, or several where the machine is busy."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - it is what is looked at
_ENTRY = "shared memory "
_NAMED_AFTER = re.compile(_ENTRY + r"(?:sem\.)?(?!mp-|psm_)[A-Za-z_-]+(\d+)(?![0-9A-Za-z])")
"""A name of letters and a process id, as `sem.obj1234-5`; those that Python draws at random are named after nobody."""
_OF_PYTHON = ("pymp-",)
"""Prefixes of temporary files that Python itself keeps until this process ends."""


@dataclass(slots=True)
class Leftovers:
    """What is new since a session was opened, in words; known when the block of `watched` has ended."""

    found: list[str] = field(default_factory=list)


@contextlib.contextmanager
def watched(grace_s: float) -> Iterator[Leftovers]:
    """Give temporary files a folder of their own; at the end, look what is left, and end processes among that."""
    looks: tuple[Callable[[], set[str]], ...] = (_processes, _threads, _shared_memory, _settings)
    left = Leftovers()
    with tempfile.TemporaryDirectory(prefix="t", ignore_cleanup_errors=True) as folder, _temporary_in(Path(folder)):
        before = [look() for look in looks]
        yield left
        end_s = time.monotonic() + grace_s
        # What a session held may refer to itself; semaphores go only with the objects that made them.
        gc.collect()
        while found := _without_others(
            [new for look, old in zip(looks, before, strict=True) for new in sorted(look() - old)]
            + sorted(_files(Path(folder)))
        ):
            if time.monotonic() > end_s:
                break
            time.sleep(0.05)
        left.found += found
    for process in _living():
        if f"process {process.pid}" in " ".join(found):
            with contextlib.suppress(psutil.Error):
                process.kill()


@contextlib.contextmanager
def _temporary_in(folder: Path) -> Iterator[None]:
    """Have this process and its children make temporary files in `folder`."""
    name, told, known = "TMPDIR", os.environ.get("TMPDIR"), tempfile.tempdir
    os.environ[name], tempfile.tempdir = str(folder), str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = known
        os.environ.pop(name)
        if told is not None:
            os.environ[name] = told


def _living() -> list[psutil.Process]:
    """The descendants of this process, but for those that Python keeps for all its children."""
    servants = {
        getattr(resource_tracker, "_resource_tracker")._pid,  # noqa: B009, SLF001 - nowhere else
        getattr(forkserver, "_forkserver")._forkserver_pid,  # noqa: B009, SLF001 - as above
    }
    return [process for process in psutil.Process().children(recursive=True) if process.pid not in servants]


def _processes() -> set[str]:
    found = set()
    for process in _living():
        with contextlib.suppress(psutil.Error):
            found.add(f"process {process.pid} ({process.name()})")
    return found


def _threads() -> set[str]:
    return {f"thread '{thread.name}' ({thread.ident})" for thread in threading.enumerate()}


def _shared_memory() -> set[str]:
    if not _SHARED_MEMORY.is_dir():
        return set()
    return {f"{_ENTRY}{path.name}" for path in _SHARED_MEMORY.iterdir()}


def _without_others(found: list[str]) -> list[str]:
    """`found`, but for shared memory that living processes besides ours use, or that is named after one of them."""
    entries = {what: what.removeprefix(_ENTRY) for what in found if what.startswith(_ENTRY)}
    if not entries:
        return found
    others = set(psutil.pids()) - {os.getpid(), *(process.pid for process in _living())}
    # By inode: who makes a semaphore has it mapped by the name that it had before it was complete.
    inodes = set()
    for pid in others:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
                if f" {_SHARED_MEMORY}/" in line:
                    inodes.add(int(line.split(maxsplit=5)[4]))
    not_left = set()
    for what, name in entries.items():
        if (named := _NAMED_AFTER.match(what)) and int(named[1]) in others:
            not_left.add(what)
        try:
            if (_SHARED_MEMORY / name).stat().st_ino in inodes:
                not_left.add(what)
        except FileNotFoundError:
            not_left.add(what)
    return [what for what in found if what not in not_left]


def _files(folder: Path) -> set[str]:
    return {f"temporary file {path.name}" for path in folder.iterdir() if not path.name.startswith(_OF_PYTHON)}


def _settings() -> set[str]:
    """The environment of this process, where it is, and what it does on signals."""
    variables = {
        f"environment variable {name}={value}" for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"
    }
    signals = {
        f"handler of {one.name}: {signal.getsignal(one)}" for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
    }
    return variables | signals | {f"working directory {Path.cwd()}"}
