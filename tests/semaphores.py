"""Semaphores whose names say which test run made them: other runs on the same machine have some, too.

`multiprocessing` takes the beginning of a name from the process that makes the semaphore, and a process
hands it on to its children. Named semaphores are a matter of started and served workers: forked ones need none.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["named_after_this_process", "prefix_of", "semaphores_of"]


def prefix_of(pid: int) -> str:
    """How the names of semaphores begin that the test run in process `pid` made, or a child of it."""
    return f"test-{pid}-"


@contextlib.contextmanager
def named_after_this_process() -> Iterator[None]:
    """Let this process, and the children that it starts meanwhile, name their semaphores so."""
    settings = multiprocessing.current_process()._config  # type: ignore[attr-defined]  # there is no public way
    before = settings["semprefix"]
    settings["semprefix"] = f"/{prefix_of(os.getpid())}"
    try:
        yield
    finally:
        settings["semprefix"] = before


def semaphores_of(pid: int) -> set[str]:
    """The names of the semaphores that are there of the test run in process `pid`."""
    return {path.name for path in Path("/dev/shm").glob(f"sem.{prefix_of(pid)}*")}
