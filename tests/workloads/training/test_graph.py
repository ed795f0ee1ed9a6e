"""The graph of `training`: who sends what to whom, and when."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from runtimes import sequential
from tests.workloads.training.kit import SMALL, graph
from workloads.dataflow import EdgeShape

DELAYED = {"optimiser.policy", "optimiser.parameters", "learner.errors"}
TRANSITION = {"observation", "action", "reward", "next_observation", "terminated", "truncated"}


def test_weights_transitions_and_errors_come_a_round_later_and_the_rest_at_once():
    edges = graph().edges
    delayed = {str(edge.source) for edge in edges if edge.delay}
    assert delayed == DELAYED | {f"actor.{name}" for name in TRANSITION}
    assert {edge.delay for edge in edges} == {0, 1}
    shapes = {(edge.source.task, edge.shape, edge.target.task) for edge in edges}
    assert shapes == {
        ("replay", EdgeShape.SCATTER, "learner"),
        ("learner", EdgeShape.GATHER, "optimiser"),
        ("optimiser", EdgeShape.BROADCAST, "actor"),
        ("optimiser", EdgeShape.BROADCAST, "learner"),
        ("actor", EdgeShape.GATHER, "replay"),
        ("learner", EdgeShape.GATHER, "replay"),
    }


def test_a_unit_is_an_environment_step():
    built = graph(actors=3, environments=2, steps=5)
    assert (built.unit, built.units_per_round) == ("environment step", 30)


def test_every_edge_declares_its_array():
    assert all(port.array is not None for node in graph().tasks for port in node.outputs)


def test_actors_are_sent_the_policy_alone():
    built = graph(algorithm="sac")
    sizes = {port.name: port.array.shape[0] for port in built.node("optimiser").outputs}
    # 3 -> 16 -> 8 -> 2, and two critics 4 -> 16 -> 8 -> 1 with a temperature.
    assert sizes["policy"] == 16 * 4 + 8 * 17 + 2 * 9
    assert sizes["parameters"] == sizes["policy"] + 2 * (16 * 5 + 8 * 17 + 9) + 1


def test_the_graph_says_every_argument_also_those_left_out():
    told = graph(algorithm="dqn").parameters
    assert (told["algorithm"], told["env_id"], told["n_step"]) == ("dqn", "CartPole-v1", told["n_step"])
    assert None not in told.values()
    assert "tau" not in told


@pytest.mark.parametrize("algorithm", ["dqn", "ddpg", "td3", "sac"])
def test_nothing_is_learnt_before_there_are_enough_steps_and_then_once_a_round(algorithm, open_session):
    built = graph(algorithm=algorithm)
    with open_session(built) as session:
        updates = []
        for _ in range(8):
            session.advance(1)
            updates.append(session.tallies()["optimiser"][0]["updates"])
    # 6 steps a round, which the replay receives a round later: it has 24 in round 4.
    assert updates == [0, 0, 0, 0, 1, 2, 3, 4]


def test_before_the_first_update_weights_are_the_first_ones(open_session):
    with open_session(graph()) as session:
        before = session.tallies()["optimiser"][0]["weights"]
        session.advance(4)
        assert np.array_equal(session.tallies()["optimiser"][0]["weights"], before)
        session.advance(1)
        assert not np.array_equal(session.tallies()["optimiser"][0]["weights"], before)


def test_only_one_task_counts_updates(open_session):
    with open_session(graph()) as session:
        tallies = session.tallies()
    assert [path for path, members in tallies.items() if "updates" in members[0]] == ["optimiser"]


def test_factories_survive_a_pickle():
    built = graph()
    assert [node.path for node in pickle.loads(pickle.dumps(built)).tasks] == [node.path for node in built.tasks]


def test_learners_of_a_program_give_what_one_would_but_for_rounding(open_session):
    weights = []
    for learners in (1, 2, 4):
        # DDPG draws no noise in its learners, which would be other noise for others.
        with open_session(graph(algorithm="ddpg", learners=learners)) as session:
            session.advance(30)
            weights.append(session.tallies()["optimiser"][0]["weights"])
    assert np.allclose(weights[1], weights[0], atol=1e-4)
    assert np.allclose(weights[2], weights[0], atol=1e-4)


def test_another_seed_is_another_run():
    ends = []
    for seed in (0, 1):
        with sequential.SequentialSession(graph(seed, **SMALL)) as session:
            session.advance(8)
            ends.append(session.tallies())
    assert not np.array_equal(ends[0]["optimiser"][0]["weights"], ends[1]["optimiser"][0]["weights"])
    assert ends[0]["actor"][0]["reward"] != ends[1]["actor"][0]["reward"]
