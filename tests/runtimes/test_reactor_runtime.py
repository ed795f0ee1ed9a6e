"""The reactor runtimes on the real workloads: the same digests for each of them and any number of workers."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from runtimes.protocol import RuntimeFailure
from runtimes.reactor_runtimes import AUTO, INLINE, PROCESSES, THREADS
from runtimes.sequential import RUNTIME as SEQUENTIAL
from tests.runtimes.failing import FailsAt, failing_graph
from workloads.broadcast_gather import WORKLOAD as BROADCAST_GATHER
from workloads.dataflow import Digest
from workloads.simulation import WORKLOAD as SIMULATION

CELLS = [
    (SIMULATION, {"env_id": "CartPole-v1", "envs": 5}, 60),
    (SIMULATION, {"env_id": "CartPole-v1", "envs": 5, "actions": "driver", "policy": "mlp64"}, 60),
    (SIMULATION, {"env_id": "Pendulum-v1", "envs": 4, "actions": "driver"}, 30),
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


MOVING = [CELLS[0], CELLS[1], CELLS[3], CELLS[5]]
"""One of each kind: who plays, who is told what to do, images, large arrays."""
ACTING = [cell for cell in CELLS if cell[1].get("actions") == "driver" or cell[0] is BROADCAST_GATHER]
"""Those in which values travel both ways."""
WAYS = [(THREADS, {"workers": 3}), (PROCESSES, {"workers": 1}), (PROCESSES, {"workers": 4}), (AUTO, {"workers": 1})]
"""Numbers of workers that the conformance suite does not run all workloads with."""
ALONE_AND_TOGETHER = pytest.mark.parametrize(
    ("runtime", "options"),
    [(INLINE, {}), (THREADS, {"workers": 2}), (PROCESSES, {"workers": 2})],
    ids=lambda value: getattr(value, "name", str(value)),
)


@pytest.mark.parametrize(("workload", "parameters", "rounds"), ACTING, ids=lambda value: str(value)[:60])
def test_every_reactor_runtime_computes_what_the_loop_computes_with_any_number_of_workers(workload, parameters, rounds):
    graph = workload.build(workload.parameters(**parameters), 11)
    expected = digest_of(SEQUENTIAL, {}, graph, rounds)
    digests = {(way.name, *options.values()): digest_of(way, options, graph, rounds) for way, options in WAYS}
    assert digests == dict.fromkeys(digests, expected)


@pytest.mark.parametrize(
    ("workload", "parameters", "rounds", "workers"),
    [*((*cell, 2) for cell in MOVING), (*CELLS[1], 3)],
    ids=lambda value: str(value)[:60],
)
def test_what_was_built_in_one_process_computes_the_same_once_it_has_moved_to_others(
    workload, parameters, rounds, workers, moves
):
    graph = workload.build(workload.parameters(**parameters), 11)
    expected = digest_of(SEQUENTIAL, {}, graph, rounds)
    assert digest_of(AUTO, {"workers": workers}, graph, rounds) == expected
    assert moves == ["processes"]


def test_another_seed_gives_another_digest():
    graphs = [SIMULATION.build(SIMULATION.parameters(envs=2), seed) for seed in (1, 2)]
    assert digest_of(AUTO, {}, graphs[0], 20) != digest_of(AUTO, {}, graphs[1], 20)


@ALONE_AND_TOGETHER
def test_a_task_that_fails_is_named_with_its_round(runtime, options):
    with (
        pytest.raises(RuntimeFailure, match=r"Task 'part\[2\]' failed in round 4: ArithmeticError: four"),
        runtime.open(failing_graph("fire"), runtime.options(**options), Path("unused")) as session,
    ):
        session.advance(10)


@ALONE_AND_TOGETHER
def test_a_task_that_cannot_be_built_is_named_and_nothing_is_left(runtime, options):
    with pytest.raises(RuntimeFailure, match=r"Task 'part\[2\]' failed before round 0: ArithmeticError: built"):
        runtime.open(failing_graph("build"), runtime.options(**options), Path("unused"))
    assert multiprocessing.active_children() == []


def test_a_worker_that_was_killed_between_rounds_is_named_by_whatever_comes_next():
    for act in ("advance", "tallies"):
        with PROCESSES.open(failing_graph("nothing"), PROCESSES.options(workers=2), Path("unused")) as session:
            session.advance(2)
            (worker,) = multiprocessing.active_children()
            worker.kill()
            worker.join()
            with pytest.raises(RuntimeFailure, match=r"Worker 1 .*part\[1\] to part\[2\].*killed by SIGKILL"):
                session.advance(1) if act == "advance" else session.tallies()


def closings_of(folder, index):
    """The numbers of the processes that have closed a task."""
    return [int(line) for line in (folder / str(index)).read_text(encoding="ascii").split()]


@ALONE_AND_TOGETHER
def test_closing_closes_every_task_where_it_lives(runtime, options, tmp_path):
    session = runtime.open(failing_graph(str(tmp_path)), runtime.options(**options), Path("unused"))
    session.advance(2)
    session.close()
    session.close()
    assert [len(closings_of(tmp_path, index)) for index in range(3)] == [1, 1, 1]


def test_tasks_that_have_moved_are_closed_where_they_live_now_and_nowhere_else(moves, tmp_path):
    session = AUTO.open(failing_graph(str(tmp_path)), AUTO.options(workers=2), Path("unused"))
    session.advance(8)
    session.close()
    (here,), (there,), (also_there,) = (closings_of(tmp_path, index) for index in range(3))
    assert here == os.getpid()
    assert there == also_there != here
    assert moves == ["processes"]


def test_durations_are_those_of_each_round():
    graph = SIMULATION.build(SIMULATION.parameters(envs=2), 0)
    with AUTO.open(graph, AUTO.options(), Path("unused")) as session:
        durations_ns = session.advance(25)
    assert durations_ns.shape == (25,)
    assert durations_ns.dtype == np.int64
    assert (durations_ns > 0).all()


def test_the_failing_task_does_nothing_else_wrong():
    task = FailsAt(None, what="fire", index=0)
    for _ in range(10):
        task.fire({}, {})


def test_one_thread_has_no_number_of_workers():
    with pytest.raises(TypeError, match="workers"):
        INLINE.options(workers=4)
