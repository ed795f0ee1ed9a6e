"""What the tests of workloads share: run a graph on the plain loop and keep what its driver received."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workloads.dataflow import Graph, Session

Received = list[dict[str, list[Any]]]


@pytest.fixture
def open_session(tmp_path: Path) -> Callable[[Graph], Session]:
    """Opens the plain loop on a graph."""
    from runtimes.sequential import RUNTIME

    return lambda graph: RUNTIME.open(graph, RUNTIME.options(), tmp_path)


@pytest.fixture
def rounds_of(open_session: Callable[[Graph], Session]) -> Callable[[Graph, int], Received]:
    """Runs a graph for so many rounds; of each, what its one observed task received, port by port."""

    def run(graph: Graph, rounds: int) -> Received:
        received = []
        with open_session(graph) as session:
            for _ in range(rounds):
                session.advance(1)
                (ports,) = session.received().values()
                received.append({port: copy.deepcopy(list(values)) for port, values in ports.items()})
        return received

    return run
