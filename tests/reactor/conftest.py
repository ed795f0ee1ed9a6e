"""Runs one program on every executor and on the reference interpreter, and looks at what is left of it."""

from __future__ import annotations

import gc
import os
import threading
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psutil
import pytest

from runtimes.reactor import Program
from tests.moving import force_moves
from tests.reactor.lines import Line, lines_of_reference, lines_of_trace
from tests.reactor.reference import interpret
from tests.semaphores import named_after_this_process, semaphores_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runtimes.reactor import Reactor

WAYS: dict[str, dict[str, Any]] = {
    "inline": {"executor": "inline"},
    "2 threads": {"executor": "threads", "workers": 2},
    "3 threads": {"executor": "threads", "workers": 3},
    "2 processes": {"executor": "processes", "workers": 2, "start_method": "fork"},
    "3 processes": {"executor": "processes", "workers": 3, "start_method": "fork"},
}

WAYS_OF_TWO: dict[str, dict[str, Any]] = {
    "inline": {"executor": "inline"},
    "threads": {"executor": "threads", "workers": 2},
    "processes": {"executor": "processes", "workers": 2, "start_method": "fork"},
    "semaphores": {"executor": "processes", "workers": 2, "start_method": "fork", "native": False},
}
"""Executors for a program of two reactors; both kinds of boards. Spawned workers take a second to start, so the tests
that need them say so."""


class Run(Protocol):
    """Runs the program that `make` builds, in fast mode, and gives what ran."""

    def __call__(
        self, make: Callable[[], Reactor], *, timeout_ns: int | None = None, keepalive: bool | None = None
    ) -> list[Line]: ...


def run_on(
    way: dict[str, Any],
    make: Callable[[], Reactor],
    *,
    timeout_ns: int | None = None,
    keepalive: bool | None = None,
    **options: Any,
) -> list[Line]:
    """Run a program on an executor; what it has recorded."""
    program = Program(make, fast=True, keepalive=keepalive, recording=True, **way, **options)
    program.run(timeout_ns)
    return lines_of_trace(program.trace().steps)


@pytest.fixture(params=list(WAYS))
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How to run: an executor with a number of workers."""
    return dict(WAYS[request.param])


@pytest.fixture(params=list(WAYS_OF_TWO))
def way_of_two(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How to run a program of two reactors."""
    return dict(WAYS_OF_TWO[request.param])


@pytest.fixture(params=[0, 1], ids=["in the caller", "in another worker"])
def home(request: pytest.FixtureRequest, way_of_two: dict[str, Any]) -> int:
    """The worker in which the reactor that matters lives."""
    if request.param and way_of_two["executor"] == "inline":
        pytest.skip("there is one worker")
    return int(request.param)


@pytest.fixture(params=["reference", *WAYS])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a program: on the reference interpreter, then on each executor."""
    if request.param == "reference":
        return _run_reference
    way = WAYS[request.param]
    return lambda make, **options: run_on(way, make, **options)


def _run_reference(
    make: Callable[[], Reactor], *, timeout_ns: int | None = None, keepalive: bool | None = None
) -> list[Line]:
    return lines_of_reference(interpret(make(), timeout_ns=timeout_ns, keepalive=keepalive))


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs of the executor `auto` move after some tags; where they moved to."""
    return force_moves(monkeypatch, after_tags=4)


def traces() -> set[str]:
    """What shows that a program runs in this process: its processes, threads, semaphores and shared memory."""
    processes = {f"process {child.pid}" for child in psutil.Process().children(recursive=True)}
    threads = {f"thread {thread.name}" for thread in threading.enumerate() if thread.name.startswith("reactor")}
    named = {f"semaphore {name}" for name in semaphores_of(os.getpid())}
    links = {link.name: str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    memory = {f"descriptor {number} {to}" for number, to in links.items() if "memfd:reactor" in to}
    return processes | threads | named | memory


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """No process, no thread and no shared memory outlives the programs of a test."""
    # Both are started once for all programs of a process; they end with it.
    resource_tracker.ensure_running()
    forkserver.ensure_running()
    before = traces()
    with named_after_this_process():
        yield
    if traces() - before:
        gc.collect()  # an exception that a test has caught holds the frames it came through
    assert traces() - before == set()
