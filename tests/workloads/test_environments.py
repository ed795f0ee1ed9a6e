"""Random actions, and what of a space fits in an array."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from gymnasium import spaces

from workloads.dataflow import ArraySpec, Digest, Outputs, TaskContext
from workloads.environments import ACTIONS_PER_BLOCK, LocalEnvironment, action_stream, array_of, is_ale

PORTS = {
    "observation": ArraySpec((4,), "float32"),
    "reward": ArraySpec((), "float64"),
    "ended": ArraySpec((), "uint8"),
    "final_observation": ArraySpec((4,), "float32"),
}
CONTEXT = TaskContext(path="env", index=2, width=4, seed=9)
SPACES = [
    spaces.Discrete(4),
    spaces.Discrete(3, start=-1),
    spaces.Box(np.array([-2, 0], np.float32), np.array([2, 10], np.float32)),
    spaces.Box(-1, 1, (2, 3), np.float64),
    spaces.Box(0, 3, (2,), np.int64),
    spaces.Box(-np.inf, np.inf, (2,), np.float32),
    spaces.MultiDiscrete([2, 5]),
    spaces.MultiBinary(3),
    spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1)]),
    spaces.Dict({"a": spaces.Discrete(2)}),
]


def draw(space, count, purpose="actions", context=CONTEXT):
    return list(islice(action_stream(space, context, purpose), count))


def digest_of(values):
    digest = Digest()
    digest.add(values)
    return digest.hexdigest()


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_random_actions_lie_in_the_space_and_go_on_beyond_a_block(space):
    actions = draw(space, ACTIONS_PER_BLOCK + 10)
    assert len(actions) == ACTIONS_PER_BLOCK + 10
    assert all(space.contains(action) for action in actions)
    assert digest_of(actions[:10]) != digest_of(actions[ACTIONS_PER_BLOCK:])


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_random_actions_depend_on_the_tasks_stream_and_not_on_the_space(space):
    again = draw(space, 50)
    space.seed(1)
    space.sample()
    assert digest_of(draw(space, 50)) == digest_of(again)
    assert digest_of(draw(space, 50, purpose="advance")) != digest_of(again)
    other = TaskContext(path="env", index=3, width=4, seed=9)
    assert digest_of(draw(space, 50, context=other)) != digest_of(again)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_drawing_leaves_the_space_of_the_environment_alone(space):
    space.seed(1)
    expected = digest_of([space.sample()])
    space.seed(1)
    draw(space, 5)
    assert digest_of([space.sample()]) == expected


def test_discrete_actions_are_plain_ints_drawn_uniformly():
    actions = draw(spaces.Discrete(4), 4000)
    assert {type(action) for action in actions} == {int}
    # 4000 draws of probability 1/4: standard deviation 27.
    assert np.abs(np.bincount(actions, minlength=4) - 1000).max() < 5 * 27


def test_bounded_actions_are_uniform_between_their_bounds():
    actions = np.array(draw(SPACES[2], 4000))
    # Quarters of each range: probability 1/4 each, as above.
    for column, low, high in ((0, -2, 2), (1, 0, 10)):
        counts, _ = np.histogram(actions[:, column], bins=4, range=(low, high))
        assert np.abs(counts - 1000).max() < 5 * 27


@pytest.mark.parametrize(
    ("space", "spec"),
    [
        (spaces.Box(0, 1, (2, 3), np.float32), ArraySpec((2, 3), np.float32)),
        (spaces.Discrete(5), ArraySpec((), np.int64)),
        (spaces.MultiDiscrete([2, 3]), ArraySpec((2,), np.int64)),
        (spaces.MultiBinary((2, 2)), ArraySpec((2, 2), np.int8)),
        (spaces.Tuple([spaces.Discrete(2)] * 3), ArraySpec((3,), np.int64)),
        (spaces.Tuple([]), None),
        (spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1)]), None),
        (spaces.Dict({"a": spaces.Discrete(2)}), None),
        (spaces.Text(4), None),
        (spaces.Sequence(spaces.Discrete(2)), None),
    ],
    ids=str,
)
def test_spaces_of_fixed_shape_fit_in_an_array_and_others_do_not(space, spec):
    assert array_of(space) == spec


@pytest.mark.parametrize(
    ("env_id", "expected"),
    [("ALE/Pong-v5", True), ("ale_py:ALE/Pong-v5", True), ("CartPole-v1", False), ("ALE:CartPole-v1", False)],
)
def test_atari_environments_are_known_by_their_namespace(env_id, expected):
    assert is_ale(env_id) is expected


# ------------------------------------------------------------------------- stepped by somebody else


def test_an_environment_that_others_step_goes_on_as_its_task_would():
    stepped, fired = (LocalEnvironment(CONTEXT, env_id="CartPole-v1", observation="raw") for _ in range(2))
    member = stepped.member()
    outputs = Outputs("env", PORTS, {port: spec.zeros() for port, spec in PORTS.items()})
    member.reset()
    for action in member.actions(100):
        observation, reward, terminated, truncated, _ = member.step(action)
        if terminated or truncated:
            observation, _ = member.reset()
        fired.fire({}, outputs)
        np.testing.assert_array_equal(observation, outputs["observation"])
        assert (reward, bool(terminated or truncated)) == (outputs["reward"], outputs["ended"] > 0)
    assert member.tallies() == fired.tallies()
    assert member.tallies()["resets"] > 0
    member.close()
    fired.close()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_actions_for_others_are_those_of_the_tasks_stream_whatever_the_blocks(env_id):
    member, other = (LocalEnvironment(CONTEXT, env_id=env_id, observation="raw").member() for _ in range(2))
    several = np.concatenate([member.actions(3), member.actions(4)])
    np.testing.assert_array_equal(several, other.actions(7))
    np.testing.assert_array_equal(several, draw(member.action_space, 7))
    assert several.dtype == member.action_space.dtype
    member.close()
    other.close()
