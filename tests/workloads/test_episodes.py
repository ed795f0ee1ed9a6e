"""Environments resumed in the middle of an episode: from the same seed and actions, or with an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest

from workloads.dataflow import GraphError
from workloads.episodes import Continued, Episodes

if TYPE_CHECKING:
    from collections.abc import Callable

CONTINUOUS, DISCRETE, STOCHASTIC = "Pendulum-v1", "CartPole-v1", "FrozenLake-v1"


class Drifting(gymnasium.Wrapper):  # type: ignore[type-arg]
    """Something that no seed determines: it counts what happens in its process."""

    count = 0

    def step(self, action: Any) -> Any:
        Drifting.count += 1
        observation, *rest = self.env.step(action)
        return observation + Drifting.count, *rest


def seeds() -> np.random.SeedSequence:
    return np.random.SeedSequence(7, spawn_key=(1, 2))


def played(episodes: Episodes, actions: np.random.Generator, steps: int) -> list[Any]:
    """What is observed in so many steps with random actions."""
    space = episodes.env.action_space
    observed = []
    for _ in range(steps):
        if isinstance(space, gymnasium.spaces.Discrete):
            action: Any = int(actions.integers(space.n))
        else:
            action = actions.uniform(-2, 2, space.shape).astype(np.float32)
        observation, reward, terminated, truncated, _ = episodes.step(action)
        observed.append((np.array(observation), float(reward)))
        if terminated or truncated:
            observed.append((np.array(episodes.begin()), 0.0))
    return observed


@pytest.mark.parametrize("env_id", [CONTINUOUS, DISCRETE, STOCHASTIC])
@pytest.mark.parametrize("steps", [0, 1, 317])
def test_a_restored_episode_goes_on_as_the_one_that_was_left(env_id: str, steps: int) -> None:
    left, restored = (Episodes(gymnasium.make(env_id), seeds()) for _ in range(2))
    observation = left.begin()
    seen = played(left, np.random.default_rng(0), steps)
    observation = seen[-1][0] if seen else observation
    assert np.array_equal(restored.restore(left.state()), observation)
    ahead = (played(one, np.random.default_rng(1), 300) for one in (left, restored))
    for (first, reward), (second, other) in zip(*ahead, strict=True):
        assert np.array_equal(first, second)
        assert reward == other
    assert left.number == restored.number


def test_every_episode_begins_with_a_seed_of_its_own_that_nothing_before_changes():
    one, other = (Episodes(gymnasium.make(DISCRETE), seeds()) for _ in range(2))
    first, second = one.begin(), one.begin()
    other.begin()
    played(other, np.random.default_rng(0), 5)
    assert not np.array_equal(first, second)
    assert np.array_equal(other.begin(), second)


def test_a_state_before_the_first_episode_is_one_too():
    restored = Episodes(gymnasium.make(DISCRETE), seeds())
    assert restored.restore(Episodes(gymnasium.make(DISCRETE), seeds()).state()) is None
    assert np.array_equal(restored.begin(), Episodes(gymnasium.make(DISCRETE), seeds()).begin())


def test_actions_that_are_arrays_are_kept_as_they_were_when_they_were_taken():
    episodes = Episodes(gymnasium.make(CONTINUOUS), seeds())
    episodes.begin()
    action = np.zeros(1, np.float32)
    for value in (1, 2):
        action[0] = value
        episodes.step(action)
    kept = episodes.state()["actions"]
    assert (kept.dtype, kept.tolist()) == (np.float32, [[1], [2]])


@pytest.mark.parametrize("make", [lambda env: Episodes(env, seeds()), lambda env: Continued(env, 3)])
def test_an_environment_that_comes_out_elsewhere_is_an_error(make: Callable[[Any], Any]) -> None:
    env = make(Drifting(gymnasium.make(DISCRETE)))
    env.begin()
    if isinstance(env, Episodes):
        env.step(0)
    else:
        env.took([0], env.env.step(0)[0])
    with pytest.raises(GraphError, match=r"Environment 'CartPole-v1' cannot be resumed: .* led elsewhere"):
        make(Drifting(gymnasium.make(DISCRETE))).restore(env.state())


# --------------------------------------------------------------------------------- with one stream


def rounds_of(env: Continued, actions: np.random.Generator, rounds: int) -> list[Any]:
    """What is observed in rounds of 20 steps."""
    observed = []
    for _ in range(rounds):
        taken: list[int] = []
        observation = None
        for _ in range(20):
            taken.append(int(actions.integers(2)))
            observation, _, terminated, truncated, _ = env.env.step(taken[-1])
            observed.append(observation)
            if terminated or truncated:
                observation = env.begin_next(len(taken))
                observed.append(observation)
        env.took(taken, observation)
    return observed


@pytest.mark.parametrize("env_id", [DISCRETE, STOCHASTIC, "Blackjack-v1"])
@pytest.mark.parametrize("rounds", [0, 1, 2, 9])
def test_a_restored_stream_goes_on_as_the_one_that_was_left(env_id: str, rounds: int) -> None:
    left, restored = (Continued(gymnasium.make(env_id), 3) for _ in range(2))
    left.begin()
    rounds_of(left, np.random.default_rng(0), rounds)
    state = left.state()
    restored.restore(state)
    assert restored.state() == state
    ahead = [rounds_of(one, np.random.default_rng(1), 6) for one in (left, restored)]
    assert np.array_equal(*ahead)
    assert left.state() == restored.state()


def test_only_actions_since_an_episode_in_the_last_round_are_kept():
    env = Continued(gymnasium.make("Blackjack-v1"), 3)
    env.begin()
    rounds_of(env, np.random.default_rng(0), 50)
    assert len(env.state()["actions"]) < 20
