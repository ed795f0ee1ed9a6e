"""Runs one program on every executor and on the reference interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from runtimes.reactor import Program
from tests.moving import force_moves
from tests.reactor.lines import Line, lines_of_reference, lines_of_trace
from tests.reactor.reference import interpret

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtimes.reactor import Reactor

WAYS: dict[str, dict[str, Any]] = {
    "inline": {"executor": "inline"},
    "2 threads": {"executor": "threads", "workers": 2},
    "3 threads": {"executor": "threads", "workers": 3},
    "2 processes": {"executor": "processes", "workers": 2, "start_method": "fork"},
    "3 processes": {"executor": "processes", "workers": 3, "start_method": "fork"},
}


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
