"""Actors: transitions are what Gymnasium gives, episodes have seeds of their own, and each explores in its way."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from tests.workloads.training.kit import algorithm, context, fired
from workloads.training.actor import Actor, transitions


def played(rounds: int, weights: Any = None, seed: int = 3, index: int = 0, **parameters: Any) -> dict[str, Any]:
    """All transitions of an actor in so many rounds, `(rounds * steps, environments, ...)`; and the actor's tallies."""
    made_of = algorithm(**({"learning_starts": 1} | parameters))
    told = made_of.arguments
    actor = Actor(context("actor", index, seed), algorithm=made_of)
    if weights is None:
        weights = np.zeros(made_of.layout.slices[made_of.acts_with].stop, np.float32)
    specs = transitions((told.steps, told.environments), made_of.interface)
    given = [fired(actor, {"policy": weights}, specs, optional=False) for _ in range(rounds)]
    actor.close()
    return {name: np.concatenate([one[name] for one in given]) for name in specs} | {"tallies": actor.tallies()}


def episode_seed(environment: int, episode: int) -> int:
    seeds = context("actor").seed_sequence("environment").spawn(environment + 1)[environment]
    of_episode = np.random.SeedSequence(seeds.entropy, spawn_key=(*seeds.spawn_key, episode))
    return int(of_episode.generate_state(1)[0] >> 1)


@pytest.mark.parametrize(
    ("name", "env_id"),
    [("dqn", "CartPole-v1"), ("dqn", "Acrobot-v1"), ("td3", "Pendulum-v1"), ("sac", "MountainCarContinuous-v0")],
)
def test_transitions_are_what_gymnasium_gives_for_the_same_seeds_and_actions(name, env_id):
    made_of = algorithm(algorithm=name, env_id=env_id)
    both = played(4, algorithm=name, env_id=env_id, environments=2, steps=60, reward_scale=0.5)
    total = 0.0
    for row in range(2):
        env = gymnasium.make(env_id)
        episode = 0
        observation, _ = env.reset(seed=episode_seed(row, episode))
        for at in range(240):
            assert np.array_equal(both["observation"][at, row], np.float32(observation))
            observation, reward, terminated, truncated, _ = env.step(made_of.interface.act_in(both["action"][at, row]))
            assert np.array_equal(both["next_observation"][at, row], np.float32(observation))
            assert both["reward"][at, row] == np.float32(0.5 * reward)
            assert (both["terminated"][at, row], both["truncated"][at, row]) == (terminated, truncated)
            total += reward
            if terminated or truncated:
                episode += 1
                observation, _ = env.reset(seed=episode_seed(row, episode))
        env.close()
        assert episode > 0 or env_id in {"Acrobot-v1", "MountainCarContinuous-v0"}
    assert both["tallies"]["reward"] == pytest.approx(total)


def test_a_time_limit_truncates_and_does_not_terminate():
    both = played(2, algorithm="td3", steps=200)
    assert not both["terminated"].any()
    assert np.flatnonzero(both["truncated"][:, 0]).tolist() == [199, 399]
    last, first = both["next_observation"][199, 0], both["observation"][200, 0]
    assert not np.array_equal(last, first)


def test_actions_are_stretched_between_the_bounds():
    interface = algorithm(env_id="MountainCarContinuous-v0").interface
    assert [interface.act_in(np.float32([x])).tolist() for x in (-1, 0, 1)] == [[-1], [0], [1]]
    interface = algorithm(env_id="Pendulum-v1").interface
    action = interface.act_in(np.float32([0.25]))
    assert (action.tolist(), action.dtype) == ([0.5], np.float32)


def test_members_and_environments_play_episodes_of_their_own():
    first, second = (played(1, index=index)["observation"] for index in (0, 1))
    starts = [first[0, 0], first[0, 1], second[0, 0], second[0, 1]]
    assert len({start.tobytes() for start in starts}) == 4
    assert played(1)["observation"].tobytes() == first.tobytes()


@pytest.mark.parametrize("name", ["dqn", "ddpg", "td3", "sac"])
def test_actions_are_random_until_learning_starts_and_then_those_of_the_weights(name):
    made_of = algorithm(algorithm=name)
    weights = np.zeros(made_of.layout.slices[made_of.acts_with].stop, np.float32)
    how = {"noise": 0.0} if name in {"ddpg", "td3"} else {"epsilon": 0.0, "epsilon_end": 0.0} if name == "dqn" else {}
    if name == "dqn":
        weights[-1] = 1.0
    if name == "sac":
        weights[-1] = -20.0
    # Two actors with two environments each: 4 steps a round.
    actions = played(200, weights, algorithm=name, learning_starts=400, **how)["action"]
    assert len(np.unique(actions[:100])) > (1 if name == "dqn" else 150)
    expected = 1 if name == "dqn" else 0
    assert np.allclose(actions[100:], expected, atol=1e-6)


def test_random_actions_cover_the_range_evenly():
    actions = played(1, steps=2000, environments=1, learning_starts=4000)["action"]
    counts, _ = np.histogram(actions, 4, (-1, 1))
    assert np.abs(counts - 500).max() < 100


def test_epsilon_falls_linearly_with_the_steps_of_all_actors():
    explored = played(
        4,
        algorithm="dqn",
        actors=10,
        environments=1,
        steps=1000,
        epsilon=1.0,
        epsilon_end=0.2,
        epsilon_steps=20_000,
        capacity=10_000,
    )["action"]
    # After the random round: taken 10,000 of 20,000, then 20,000, then 30,000. Weights of 0 choose action 0.
    shares = [2 * explored[start : start + 1000].mean() for start in (0, 1000, 2000, 3000)]
    assert np.allclose(shares, [1.0, 0.6, 0.2, 0.2], atol=0.08)


def test_noise_of_td3_is_normal_and_independent():
    values = played(3, steps=2000, environments=1, noise=0.1, learning_starts=4000)["action"][2000:, 0, 0]
    assert abs(values.std() - 0.1) < 0.01
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.1


def test_noise_of_ddpg_lasts_and_begins_anew_with_an_episode():
    values = played(21, algorithm="ddpg", steps=200, environments=1, noise=0.1, learning_starts=400)["action"][
        400:, 0, 0
    ]
    # Without bounds the deviation would be 0.1 / sqrt(1 - 0.85^2) = 0.19.
    assert abs(values.std() - 0.19) < 0.03
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1] - 0.85) < 0.05
    firsts = values[::200]
    assert abs(firsts.std() - 0.1) < 0.05


def test_actions_of_sac_are_drawn_from_the_policy():
    made_of = algorithm(algorithm="sac")
    weights = np.zeros(made_of.layout.slices["policy"].stop, np.float32)
    weights[-2:] = [0.5, np.log(0.3)]
    values = played(3, weights, algorithm="sac", steps=1000, environments=2, learning_starts=2000)["action"][1000:]
    raw = np.arctanh(values)
    assert abs(raw.mean() - 0.5) < 0.03
    assert abs(raw.std() - 0.3) < 0.03
