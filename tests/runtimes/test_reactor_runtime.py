"""The runtime `reactor` on the real workloads: the same digests for any executor and number of workers."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from runtimes.protocol import RuntimeFailure
from runtimes.reactor_runtimes import RUNTIME as REACTOR
from runtimes.sequential import RUNTIME as SEQUENTIAL
from tests.runtimes.failing import FailsAt, failing_graph
from workloads.broadcast_gather import WORKLOAD as BROADCAST_GATHER
from workloads.dataflow import Digest
from workloads.simulation import WORKLOAD as SIMULATION

CELLS = [
    (SIMULATION, {"env_id": "CartPole-v1", "envs": 5}, 60),
    (SIMULATION, {"env_id": "CartPole-v1", "envs": 5, "fragment": 32}, 4),
    (SIMULATION, {"env_id": "CartPole-v1", "envs": 5, "actions": "driver", "policy": "mlp64"}, 60),
    (SIMULATION, {"env_id": "Blackjack-v1", "envs": 4}, 30),
    (SIMULATION, {"env_id": "Pendulum-v1", "envs": 4, "actions": "driver"}, 30),
    (SIMULATION, {"env_id": "ALE/Pong-v5", "envs": 3}, 10),
    (SIMULATION, {"env_id": "ALE/Breakout-v5", "envs": 3, "observation": "gray84", "actions": "driver"}, 10),
    (BROADCAST_GATHER, {"nbytes": 1000, "actors": 5}, 20),
    (BROADCAST_GATHER, {"nbytes": 800_000, "actors": 5, "echo": "same"}, 5),
]


def digest_of(runtime, options, graph, rounds):
    with runtime.open(graph, runtime.options(**options), Path("unused")) as session:
        digest = Digest()
        for _ in range(rounds):
            session.advance(1)
            digest.add_received(graph, session.received())
        session.advance(rounds)
        digest.add_received(graph, session.received())
        digest.add(session.tallies())
        return digest.hexdigest()


@pytest.mark.parametrize(("workload", "parameters", "rounds"), CELLS, ids=lambda value: str(value)[:60])
def test_one_two_and_four_workers_compute_what_the_loop_computes(workload, parameters, rounds):
    graph = workload.build(workload.parameters(**parameters), 11)
    expected = digest_of(SEQUENTIAL, {}, graph, rounds)
    ways = [{"executor": "inline"}, {"workers": 1}, {"workers": 2}, {"workers": 4}]
    assert [digest_of(REACTOR, way, graph, rounds) for way in ways] == [expected] * 4


def test_another_seed_gives_another_digest():
    graphs = [SIMULATION.build(SIMULATION.parameters(envs=2), seed) for seed in (1, 2)]
    assert digest_of(REACTOR, {}, graphs[0], 20) != digest_of(REACTOR, {}, graphs[1], 20)


@pytest.mark.parametrize("options", [{"executor": "inline"}, {"workers": 2}], ids=str)
def test_a_task_that_fails_is_named_with_its_round(options):
    with (
        pytest.raises(RuntimeFailure, match=r"Task 'part\[2\]' failed in round 4: ArithmeticError: four"),
        REACTOR.open(failing_graph("fire"), REACTOR.options(**options), Path("unused")) as session,
    ):
        session.advance(10)


@pytest.mark.parametrize("options", [{"executor": "inline"}, {"workers": 2}], ids=str)
def test_a_task_that_cannot_be_built_is_named_and_nothing_is_left(options):
    with pytest.raises(RuntimeFailure, match=r"Task 'part\[2\]' failed before round 0: ArithmeticError: built"):
        REACTOR.open(failing_graph("build"), REACTOR.options(**options), Path("unused"))
    assert multiprocessing.active_children() == []


def test_a_worker_that_was_killed_between_rounds_is_named_by_whatever_comes_next():
    for act in ("advance", "tallies"):
        with REACTOR.open(failing_graph("nothing"), REACTOR.options(workers=2), Path("unused")) as session:
            session.advance(2)
            (worker,) = multiprocessing.active_children()
            worker.kill()
            worker.join()
            with pytest.raises(RuntimeFailure, match=r"Worker 1 .*part\[1\] to part\[2\].*killed by SIGKILL"):
                session.advance(1) if act == "advance" else session.tallies()


@pytest.mark.parametrize("options", [{"executor": "inline"}, {"workers": 2}], ids=str)
def test_closing_closes_every_task_where_it_lives(options, tmp_path):
    session = REACTOR.open(failing_graph(str(tmp_path)), REACTOR.options(**options), Path("unused"))
    session.advance(2)
    session.close()
    session.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1", "2"]


def test_durations_are_those_of_each_round():
    graph = SIMULATION.build(SIMULATION.parameters(envs=2), 0)
    with REACTOR.open(graph, REACTOR.options(), Path("unused")) as session:
        durations_ns = session.advance(25)
    assert durations_ns.shape == (25,)
    assert durations_ns.dtype == np.int64
    assert (durations_ns > 0).all()


def test_the_failing_task_does_nothing_else_wrong():
    task = FailsAt(None, what="fire", index=0)
    for _ in range(10):
        task.fire({}, {})


def test_workers_for_the_inline_executor_are_refused():
    with pytest.raises(ValueError, match="workers=4 goes with executor=processes"):
        REACTOR.options(executor="inline", workers=4)
