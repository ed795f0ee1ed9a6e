"""Shipped workloads that are stopped, kept in a file and resumed; those that have no state say why."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness import registry
from runtimes import reactor_runtimes, sequential
from workloads.dataflow import Digest, Graph, GraphError, State

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runtimes.protocol import Runtime
    from workloads.dataflow import Session

PARALLEL = partial(msgspec.structs.replace, reactor_runtimes.PROCESSES.options(), workers=2)
SMALL = {"actors": 2, "steps": 15, "minibatch": 40, "capacity": 100}
LEARNING = {
    "broadcast": ("broadcast_gather", {"actors": 2, "nbytes": 80}),
    "table": ("q_table", {"actors": 2, "steps": 15}),
    "table with a lag": ("q_table", {"actors": 3, "steps": 15, "lag": 2, "env_id": "CliffWalking-v1"}),
    "blackjack": ("q_learning", SMALL),
    "oldest first": ("q_learning", {**SMALL, "sampling": "oldest", "updates": 2}),
    "cart pole with a lag": ("q_learning", {**SMALL, "env_id": "CartPole-v1", "lag": 1}),
}


def graph_of(workload: str, parameters: Mapping[str, Any], seed: int = 5) -> Graph:
    found = registry.workloads().get(workload)
    return found.build(msgspec.convert(dict(parameters), found.parameters), seed)


def opened(runtime: Runtime, graph: Graph, scratch: Path) -> Session:
    options = PARALLEL() if runtime is reactor_runtimes.PROCESSES else runtime.options()
    return runtime.open(graph, options, scratch)


def end_of(session: Session, graph: Graph, rounds: int) -> str:
    """A digest of all that was received in the last of so many rounds, and of all tallies."""
    with session:
        session.advance(rounds)
        digest = Digest()
        digest.add_received(graph, session.received())
        digest.add(session.tallies())
        return digest.hexdigest()


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("cut", [1, 6])
def test_a_workload_goes_on_from_a_file_on_another_runtime_bit_for_bit(name: str, cut: int, tmp_path: Path) -> None:
    graph = graph_of(*LEARNING[name])
    whole = end_of(opened(sequential.RUNTIME, graph, tmp_path), graph, 13)
    other = reactor_runtimes.PROCESSES if name == "table" else reactor_runtimes.INLINE
    first, second = (sequential.RUNTIME, other)[:: 1 if cut == 1 else -1]
    with opened(first, graph, tmp_path) as session:
        session.advance(cut)
        session.state().save(tmp_path / "stopped.state")
    resumed = graph_of(*LEARNING[name]).resumed(State.load(tmp_path / "stopped.state"))
    assert end_of(opened(second, resumed, tmp_path), graph, 13 - cut) == whole


def test_a_learner_that_has_not_learnt_yet_can_be_resumed(tmp_path: Path) -> None:
    graph = graph_of("q_learning", {**SMALL, "minibatch": 80})
    whole = end_of(opened(sequential.RUNTIME, graph, tmp_path), graph, 6)
    with opened(sequential.RUNTIME, graph, tmp_path) as session:
        session.advance(1)
        assert session.state().tasks["learner"][0].kept["adam"] == {}
        resumed = graph.resumed(session.state())
    assert end_of(opened(sequential.RUNTIME, resumed, tmp_path), graph, 5) == whole


@pytest.mark.parametrize(
    ("workload", "parameters", "task"),
    [("simulation", {"envs": 2}, r"env\[0\]"), ("inference", {"agents": 2, "env": "traffic_junction"}, "environment")],
)
def test_what_only_measures_says_why_it_has_no_state(
    workload: str, parameters: dict[str, Any], task: str, tmp_path: Path
) -> None:
    with (
        opened(sequential.RUNTIME, graph_of(workload, parameters), tmp_path) as session,
        pytest.raises(GraphError, match=rf"'{task}' has no state .* keeps no record of its actions"),
    ):
        session.state()
