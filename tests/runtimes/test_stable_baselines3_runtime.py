"""Stable-Baselines3 as a runtime: it learns what a graph of workload `training` says, and says what it has learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from runtimes.protocol import RuntimeFailure
from runtimes.sequential import RUNTIME as SEQUENTIAL
from runtimes.stable_baselines3_runtime import RUNTIME
from workloads.broadcast_gather import WORKLOAD as BROADCAST_GATHER
from workloads.dataflow import TaskState
from workloads.training import WORKLOAD
from workloads.training.parameters import algorithm_of, arguments_of

SHORT = {"learning_starts": 20, "minibatch": 16, "hidden": "12,10", "capacity": 500}


def parameters_of(algorithm, **given):
    return msgspec.convert({"algorithm": algorithm, **SHORT, **given}, WORKLOAD.parameters)


def opened(parameters, runtime=RUNTIME, seed=1):
    return runtime.open(WORKLOAD.build(parameters, seed), runtime.options(), Path("unused"))


def learnt(session):
    return session.tallies()["optimiser"][0]


@pytest.mark.parametrize(("algorithm", "given"), [("td3", {}), ("ddpg", {"steps": 2}), ("sac", {}), ("dqn", {})])
def test_it_takes_as_many_steps_and_updates_as_the_graph_and_what_it_learns_acts_as_it_does(algorithm, given):
    parameters = parameters_of(algorithm, **given)
    with opened(parameters) as session, opened(parameters, SEQUENTIAL) as loop:
        before = learnt(session)
        durations = session.advance(5)
        assert (len(durations), durations.min() > 0) == (5, True)
        session.advance(4)
        loop.advance(9)
        after, model = learnt(session), session._model
        assert before["updates"] == 0
        assert after["updates"] == learnt(loop)["updates"] > 0
        assert model.num_timesteps == 9 * WORKLOAD.build(parameters, 1).units_per_round
        assert not np.array_equal(before["weights"], after["weights"])

        learner = algorithm_of(arguments_of(parameters))
        player = learner.player(1)
        player.load(after["weights"][: learner.layout.slices[learner.acts_with].stop])
        observation = np.random.default_rng(0).normal(size=(1, learner.interface.features)).astype(np.float32)
        ours = learner.interface.act_in(player.best(observation)[0])
        assert np.allclose(ours, model.predict(observation, deterministic=True)[0][0], atol=1e-5)
        assert len(WORKLOAD.evaluate(parameters, session.tallies(), 1, 0)) == 1


def test_its_model_is_set_up_as_the_graph_says():
    given = {"policy_rate": 2e-3, "critic_rate": 2e-3, "tau": 0.02, "gamma": 0.9, "noise": 0.3, "policy_period": 3}
    with opened(parameters_of("td3", actors=3, environments=2, steps=4, **given)) as session:
        model = session._model
        told = (model.learning_rate, model.tau, model.gamma, model.policy_delay, model.batch_size, model.n_envs)
        assert told == (2e-3, 0.02, 0.9, 3, 16, 6)
        assert (model.train_freq.frequency, model.gradient_steps) == (4, 1)
        assert [layer.out_features for layer in model.actor.mu if hasattr(layer, "out_features")] == [12, 10, 1]


def test_returns_of_several_steps_are_its_own():
    with opened(parameters_of("dqn", n_step=3)) as session:
        session.advance(12)
        assert session._model.replay_buffer.n_steps == 3
        assert learnt(session)["updates"] > 0


def test_rewards_are_stored_scaled_and_episodes_that_ended_are_counted():
    with opened(parameters_of("dqn", reward_scale=0.25, epsilon_steps=40)) as session:
        session.advance(30)
        assert set(np.unique(session._model.replay_buffer.rewards[:30])) == {0.25}
        assert session.tallies()["actor"][0]["resets"] > 0
        # It falls with what has been taken, however many rounds one asks for at a time.
        assert session._model.exploration_rate == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("algorithm", "given", "said"),
    [
        ("dqn", {"double": True}, "its DQN is not double"),
        ("dqn", {"dueling": True}, "its DQN is not dueling"),
        ("td3", {"replay": "prioritized"}, "its replay is uniform"),
        ("sac", {"temperature_rate": 1e-4}, "one learning rate"),
    ],
)
def test_what_it_cannot_learn_it_refuses(algorithm, given, said):
    graph = WORKLOAD.build(parameters_of(algorithm, **given), 0)

    assert said in RUNTIME.refuses(graph, RUNTIME.options())


def test_other_workloads_and_states_of_others_are_refused():
    graph = WORKLOAD.build(parameters_of("td3"), 1)
    tasks = {node.path: [TaskState(kept={}, in_flight={})] * node.members for node in graph.tasks}
    resumed = replace(
        graph, tasks=tuple(replace(node, resumes=tasks[node.path]) for node in graph.tasks), first_round=2
    )

    other = BROADCAST_GATHER.build(BROADCAST_GATHER.parameters(), 0)
    assert "'broadcast_gather' is another" in RUNTIME.refuses(other, RUNTIME.options())
    assert RUNTIME.refuses(graph, RUNTIME.options()) is None
    assert "goes on from a state after 2 rounds" in RUNTIME.refuses(resumed, RUNTIME.options())


def test_what_fails_names_the_round(monkeypatch):
    with opened(parameters_of("td3")) as session:
        session.advance(3)
        monkeypatch.setattr(session._environments, "step_wait", lambda: 1 / 0)
        with pytest.raises(RuntimeFailure, match=r"failed in round 3: ZeroDivisionError"):
            session.advance(2)
