"""Runtimes that have a library step all environments at once: what they compute, and what they refuse."""

from __future__ import annotations

import dataclasses
import importlib.util
import multiprocessing
import os
from functools import partial

import gymnasium
import numpy as np
import pytest

from runtimes import worker_processes
from runtimes.ale_vector import RUNTIME as ALE
from runtimes.envpool_vector import RUNTIME as ENVPOOL
from runtimes.gymnasium_vector import ASYNC, SYNC
from runtimes.protocol import RuntimeFailure
from runtimes.sequential import SequentialSession
from runtimes.vector_environments import out_of_step, random_batches
from workloads.broadcast_gather import WORKLOAD as BROADCAST_GATHER
from workloads.dataflow import Digest, Task, TaskContext
from workloads.environments import LocalEnvironment
from workloads.simulation import WORKLOAD as SIMULATION

needs_envpool = pytest.mark.skipif(
    importlib.util.find_spec("envpool") is None, reason="envpool is an extra; install 'reactorbench[envpool]'"
)
EVERY = pytest.mark.parametrize(
    "runtime",
    [SYNC, ASYNC, ALE, pytest.param(ENVPOOL, marks=needs_envpool)],
    ids=lambda runtime: runtime.name,
)
BREAKS = "tests.runtimes.breaking_environment:Breaks-v0"
GYMNASIUM = pytest.mark.parametrize("runtime", [SYNC, ASYNC], ids=lambda runtime: runtime.name)


def simulation(**parameters):
    return SIMULATION.build(SIMULATION.parameters(**parameters), 7)


def opened(runtime, graph):
    assert runtime.refuses(graph, runtime.options()) is None
    return runtime.open(graph, runtime.options(), None)


def digest_of(session, graph, rounds):
    """Of every round in turn, then of one after many, and of the tallies."""
    digest = Digest()
    with session:
        for _ in range(rounds):
            assert session.advance(1).shape == (1,)
            digest.add_received(graph, session.received())
        assert session.advance(30).shape == (30,)
        digest.add_received(graph, session.received())
        digest.add(session.tallies())
    return digest.hexdigest()


# -------------------------------------------------------------------------- Gymnasium's: the same results


@GYMNASIUM
@pytest.mark.parametrize(
    "parameters",
    [
        {"env_id": "CartPole-v1", "envs": 4},
        {"env_id": "CartPole-v1", "envs": 3, "actions": "driver", "lag": 2},
        {"env_id": "Blackjack-v1", "envs": 3, "actions": "driver"},
        {"env_id": "Pendulum-v1", "envs": 2},
        {"env_id": "ALE/Breakout-v5", "envs": 2, "actions": "driver", "observation": "gray84"},
    ],
    ids=lambda parameters: "-".join(map(str, parameters.values())),
)
def test_vector_environments_of_gymnasium_give_what_the_plain_loop_gives(runtime, parameters):
    graph = simulation(**parameters)
    assert digest_of(opened(runtime, graph), graph, 40) == digest_of(SequentialSession(graph), graph, 40)


def test_processes_are_started_afresh_where_a_copy_is_not_safe(monkeypatch):
    monkeypatch.setattr(
        "runtimes.gymnasium_vector.start_context", lambda: worker_processes.multiprocessing.get_context("spawn")
    )
    graph = simulation(envs=2)
    assert digest_of(opened(ASYNC, graph), graph, 5) == digest_of(SequentialSession(graph), graph, 5)


def test_episodes_end_while_digests_are_compared():
    graph = simulation(envs=4)
    with SequentialSession(graph) as session:
        session.advance(40)
        assert any(tallies["resets"] for tallies in session.tallies()["env"])


# ------------------------------------------------------------------- those with random streams of their own


def test_ale_shows_the_screens_of_the_plain_loop_where_nothing_is_random():
    graph = simulation(env_id="PongNoFrameskip-v4", envs=1, actions="driver")
    assert digest_of(opened(ALE, graph), graph, 60) == digest_of(SequentialSession(graph), graph, 60)


def test_ale_gives_the_last_screen_of_an_episode_as_the_plain_loop_does():
    graph = simulation(env_id="BoxingNoFrameskip-v4", envs=1, actions="driver")
    with opened(ALE, graph) as vector, SequentialSession(graph) as plain:
        for session in (vector, plain):
            # An episode takes two minutes of 60 frames a second, whatever is done.
            session.advance(7000)
        for _ in range(400):
            vector.advance(1)
            plain.advance(1)
            ours, theirs = (s.received()["driver"]["final_observation"][0] for s in (vector, plain))
            assert (ours is None) == (theirs is None)
            if theirs is not None:
                np.testing.assert_array_equal(ours, theirs)
                return
    pytest.fail("no episode ended")


def test_sticky_actions_of_ale_are_drawn_from_the_seed_in_every_emulator():
    graph = simulation(env_id="ALE/Pong-v5", envs=4)
    once, again, otherwise = (
        digest_of(opened(ALE, one), one, 20) for one in (graph, graph, dataclasses.replace(graph, seed=8))
    )
    assert once == again != otherwise


def test_ale_knows_an_environment_by_the_module_that_registers_it():
    graph = simulation(env_id="ale_py:ALE/Pong-v5", envs=2)
    assert ALE.refuses(graph, ALE.options()) is None
    with opened(ALE, graph) as session:
        assert session.advance(2).shape == (2,)


@pytest.mark.parametrize(
    "parameters",
    [
        {"env_id": "ALE/Pong-v5", "envs": 3},
        {"env_id": "ALE/Pong-v5", "envs": 3, "actions": "driver"},
        {"env_id": "ALE/Pong-v5", "envs": 3, "observation": "gray84", "actions": "driver"},
    ],
    ids=["raw", "driven", "gray84"],
)
@pytest.mark.parametrize("runtime", [ALE, pytest.param(ENVPOOL, marks=needs_envpool)], ids=lambda runtime: runtime.name)
def test_others_give_values_of_the_same_shape(runtime, parameters):
    graph = simulation(**parameters)
    with opened(runtime, graph) as session, SequentialSession(graph) as plain:
        assert session.advance(5).shape == (5,)
        plain.advance(5)
        ours, theirs = session.received()["driver"], plain.received()["driver"]
    for port in ("observation", "reward", "ended"):
        assert np.shape(ours[port]) == np.shape(theirs[port])
    assert ours["observation"].dtype == theirs["observation"].dtype


@needs_envpool
@pytest.mark.filterwarnings("ignore:.*precision lowered by casting:UserWarning")
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Blackjack-v1", "FrozenLake-v1"])
def test_envpool_counts_episodes(env_id):
    with opened(ENVPOOL, simulation(env_id=env_id, envs=3)) as session:
        session.advance(250)
        assert all(tallies["resets"] > 0 for tallies in session.tallies()["env"])


def test_ale_counts_the_frames_of_its_emulators():
    with opened(ALE, simulation(env_id="ALE/Pong-v5", envs=2)) as session:
        session.advance(1)
        before = session.tallies()["env"]
        session.advance(10)
        after = session.tallies()["env"]
    assert [there["emulator_frames"] - here["emulator_frames"] for here, there in zip(before, after, strict=True)] == [
        40,
        40,
    ]


def test_members_are_out_of_step_as_in_the_tasks():
    steps = list(out_of_step(iter(range(1000)), 15))
    begun = {int(index): len(steps) - at - 1 for at, (_, who) in enumerate(steps) for index in np.flatnonzero(who)}
    farthest = {13: len(steps)}  # begins before the first of the steps, and is not restarted
    assert begun | farthest == {index: 37 * index % 500 for index in range(15)}


def test_random_actions_stay_in_their_space_and_depend_on_the_seed():
    contexts = [TaskContext(path="env", index=i, width=3, seed=1) for i in range(3)]
    for space in (gymnasium.spaces.Discrete(3, start=2), gymnasium.spaces.Box(-2, 1, (2,), np.float32)):
        batch = next(random_batches(space, contexts, "actions"))
        assert batch.shape == (3, *space.shape)
        assert all(space.contains(action) for action in batch)
        others = [TaskContext(path="env", index=i, width=3, seed=2) for i in range(3)]
        several = [next(random_batches(space, who, "actions")) for who in (contexts, contexts, others)]
        np.testing.assert_array_equal(several[0], batch)
    assert not np.array_equal(several[0], several[2])


# -------------------------------------------------------------------------------------- what is refused


@EVERY
def test_other_workloads_are_refused(runtime):
    graph = BROADCAST_GATHER.build(BROADCAST_GATHER.parameters(), 0)
    assert "'broadcast_gather' has none" in runtime.refuses(graph, runtime.options())


@EVERY
def test_a_restart_at_every_step_is_refused(runtime):
    graph = simulation(env_id="ALE/Pong-v5", envs=2, restart="every_step")
    assert "restart='every_step'" in runtime.refuses(graph, runtime.options())


@EVERY
def test_fragments_are_refused(runtime):
    graph = simulation(env_id="ALE/Pong-v5", envs=2, fragment=4)
    assert "fragment=4" in runtime.refuses(graph, runtime.options())


@pytest.mark.parametrize(
    ("env_id", "said"),
    [
        ("CartPole-v1", "is no Atari environment"),
        ("Pong-v4", "skips a random number of frames, (2, 5)"),
    ],
)
def test_ale_refuses_what_it_cannot_set_up(env_id, said):
    assert said in ALE.refuses(simulation(env_id=env_id, envs=2), ALE.options())


def test_ale_refuses_what_an_environment_is_registered_with_and_it_does_not_know(monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec(
        "HardPong-v0", entry_point="ale_py.env:AtariEnv", kwargs={"game": "pong", "frameskip": 4, "difficulty": 1}
    )
    monkeypatch.setitem(gymnasium.registry, "HardPong-v0", spec)
    assert "registered with difficulty" in ALE.refuses(simulation(env_id="HardPong-v0", envs=2), ALE.options())


@needs_envpool
def test_envpool_refuses_an_environment_that_it_does_not_have():
    graph = simulation(env_id="PongNoFrameskip-v4", envs=2)
    assert "EnvPool has no 'PongNoFrameskip-v4'" in ENVPOOL.refuses(graph, ENVPOOL.options())


@EVERY
def test_only_those_with_streams_of_their_own_say_that_they_differ(runtime):
    assert bool(runtime.differs) == (runtime not in {SYNC, ASYNC})


# ---------------------------------------------------------------------------------------------- failure


def test_a_killed_process_of_gymnasium_is_named_and_nothing_is_left():
    session = opened(ASYNC, simulation(envs=3))
    session.advance(2)
    worker = next(process for process in multiprocessing.active_children() if process.name.endswith("-1"))
    worker.kill()
    worker.join()
    with pytest.raises(RuntimeFailure, match=r"process of 'env\[1\]' was killed by SIGKILL in round 2"):
        session.advance(1)
    with pytest.raises(RuntimeFailure, match="Open another one"):
        session.advance(1)
    session.close()
    session.close()
    assert multiprocessing.active_children() == []


@GYMNASIUM
@pytest.mark.filterwarnings("ignore::UserWarning")  # how Gymnasium logs what a process raised
def test_an_environment_that_fails_is_reported_with_its_round_and_nothing_is_left(runtime):
    session = opened(runtime, simulation(env_id=BREAKS, envs=1))
    with pytest.raises(RuntimeFailure, match="'env' failed in round 3: ArithmeticError: three are enough"):
        session.advance(10)
    session.close()
    assert multiprocessing.active_children() == []


class Unmade(Task):
    """An environment's task that cannot be built in another process than the one that it is told of."""

    def __init__(self, context, *, process):
        if os.getpid() != process and context.index == 1:
            raise ArithmeticError("not here")
        self.task = LocalEnvironment(context, env_id="CartPole-v1", observation="raw")

    def member(self):
        return self.task.member()

    def fire(self, inputs, outputs):
        pass


def test_an_environment_that_cannot_be_made_is_reported_and_nothing_is_left():
    graph = simulation(envs=3)
    env = dataclasses.replace(graph.node("env"), factory=partial(Unmade, process=os.getpid()))
    graph = dataclasses.replace(graph, tasks=(env, graph.node("driver")))
    with pytest.raises(RuntimeFailure, match="An environment could not be made in its process"):
        opened(ASYNC, graph)
    assert multiprocessing.active_children() == []


@EVERY
def test_closing_twice_does_nothing_more(runtime):
    session = opened(runtime, simulation(env_id="ALE/Pong-v5", envs=2))
    session.advance(1)
    session.close()
    session.close()
    assert multiprocessing.active_children() == []
