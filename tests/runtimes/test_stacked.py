"""The runtime `stacked`: the same actions as the loop's, whatever the batch's rounding; and what it cannot run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes import stacked
from runtimes.protocol import RuntimeFailure
from runtimes.sequential import SequentialSession
from runtimes.stacked import RUNTIME, StackedOptions, StackedSession
from workloads.broadcast_gather import WORKLOAD as BROADCAST_GATHER
from workloads.dataflow import Digest, Graph, Session
from workloads.inference import WORKLOAD, Parameters
from workloads.traffic_junction import TrafficJunction


def graph_of(seed: int = 7, **parameters: Any) -> Graph:
    return WORKLOAD.build(Parameters(**parameters), seed)


def run(session: Session, graph: Graph, rounds: int) -> tuple[list[str], Any]:
    """A digest of the actions of each round, and the tallies at the end."""
    digests = []
    with session:
        for _ in range(rounds):
            assert session.advance(1).shape == (1,)
            digest = Digest()
            digest.add_received(graph, session.received())
            digests.append(digest.hexdigest())
        return digests, session.tallies()


@pytest.mark.parametrize("batching", ["bmm", "vmap"])
@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("agents", [1, 4, 10])
def test_a_batch_gives_the_actions_of_single_agents_for_hundreds_of_rounds(agents, seed, lag, batching):
    graph = graph_of(seed, agents=agents, lag=lag)
    assert run(StackedSession(graph, batching), graph, 400) == run(SequentialSession(graph), graph, 400)


@pytest.mark.parametrize("batching", ["bmm", "vmap"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"env": "simple_spread", "agents": 3},
        {"env": "lbforaging", "agents": 2, "hidden": 16, "layers": 3},
        {"agents": 4, "hidden": 200, "layers": 2},
    ],
    ids=str,
)
def test_a_batch_gives_the_actions_of_other_networks_and_environments(parameters, batching):
    graph = graph_of(**parameters)
    assert run(StackedSession(graph, batching), graph, 100) == run(SequentialSession(graph), graph, 100)


def test_rounds_can_be_run_many_at_a_time():
    graph = graph_of()
    with StackedSession(graph, "bmm") as session:
        assert session.advance(150).shape == (150,)
        assert (session.advance(150) > 0).all()
        tallies = session.tallies()
    assert tallies == run(SequentialSession(graph), graph, 300)[1]


def test_an_agent_whose_scores_are_close_is_asked_itself():
    graph = graph_of(agents=4)
    with SequentialSession(graph) as session:
        session.advance(1)
        asked = list(session.received()["environment"]["action"])
    with StackedSession(graph, "bmm") as session:
        observation = session._environment.initial("observation")
        for wrong in ([0.5, 0.50001], [0.50001, 0.5]):
            session._actions[...] = 9
            session._choose(np.array([wrong] * 4, np.float32), observation)
            assert session._actions.tolist() == asked


def test_an_agent_whose_scores_are_apart_is_not_asked():
    with StackedSession(graph_of(agents=3), "bmm") as session:
        session._agents = []
        session._choose(np.array([[0.5, 0.6], [0.6, 0.5], [-9.0, -8.0]], np.float32), np.zeros(1))
        assert session._actions.tolist() == [1, 0, 1]


def test_all_agents_asked_themselves_do_what_the_batch_does(monkeypatch):
    graph = graph_of(agents=4)
    batch = run(StackedSession(graph, "bmm"), graph, 200)
    monkeypatch.setattr(stacked, "_MARGIN", 1e9)
    assert run(StackedSession(graph, "bmm"), graph, 200) == batch


def test_without_the_margin_rounding_would_show(monkeypatch):
    """Scores that are off by more than the margin change actions, so the other tests can fail."""
    graph = graph_of(agents=4)
    expected = run(SequentialSession(graph), graph, 100)
    session = StackedSession(graph, "bmm")
    scores = session._scores
    noise = np.random.default_rng(0).normal(0, 1.0, (4, 2)).astype(np.float32)
    monkeypatch.setattr(session, "_scores", lambda: scores() + noise)
    assert run(session, graph, 100) != expected


@pytest.mark.parametrize("options", [StackedOptions(), StackedOptions(batching="vmap")])
def test_only_inference_can_be_run(options):
    other = BROADCAST_GATHER.build(BROADCAST_GATHER.parameters(nbytes=8, actors=1), 0)
    assert RUNTIME.refuses is not None
    assert RUNTIME.refuses(graph_of(agents=1), options) is None
    reason = RUNTIME.refuses(other, options)
    assert reason is not None
    assert "'broadcast_gather' has none. Choose another runtime" in reason


def test_a_failure_names_the_task_and_the_round(monkeypatch):
    def fail(*_):
        raise ArithmeticError("stuck")

    session = RUNTIME.open(graph_of(), RUNTIME.options(), Path("unused"))
    session.advance(3)
    monkeypatch.setattr(TrafficJunction, "step", fail)
    with pytest.raises(RuntimeFailure, match="Task 'environment' failed in round 3: ArithmeticError: stuck"):
        session.advance(2)
    session.close()


def test_closing_twice_closes_the_environment_once(monkeypatch):
    closed = []

    def close(env):
        closed.append(env)

    monkeypatch.setattr(TrafficJunction, "close", close)
    session = RUNTIME.open(graph_of(), RUNTIME.options(), Path("unused"))
    closed.clear()
    session.close()
    session.close()
    assert len(closed) == 1
