"""Environments that can be resumed in the middle of an episode, though no environment can be saved in general.

What can be saved is how one got there: from where the episode began, by which actions. Resuming makes the environment
anew, begins that episode and takes these actions again, which no learner sees. That gives the same state wherever an
environment is a function of its seed and its actions, as Gymnasium asks of it; what is observed last is compared, so
that one that is not (a simulator on the network, a wrapper that keeps something over episodes) is an error and not a
wrong result.

An episode begins in one of two ways. `Episodes` seeds each by its number. `Continued` seeds the first alone, and goes
on with the environment's own stream, which is kept where an episode begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.dataflow import Digest, GraphError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gymnasium import Env

__all__ = ["Continued", "Episodes"]


class Episodes:
    """An environment in which every episode begins with a seed of its own, a function of its number alone."""

    def __init__(self, env: Env[Any, Any], seeds: np.random.SeedSequence) -> None:
        """Play in `env`, episode k with the k-th seed of `seeds` (`TaskContext.seed_sequence("environment")`)."""
        self.env = env
        self.number = -1
        """Of the episode that is played, from 0; -1 before the first."""
        self._seeds = seeds
        self._actions: list[Any] = []
        self._observation: Any = None

    def begin(self) -> Any:
        """Begin the next episode; its first observation."""
        self.number += 1
        self._actions.clear()
        self._observation, _ = self.env.reset(seed=self._seed())
        return self._observation

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take one step, as `env.step`; when it ends the episode, `begin` the next."""
        self._actions.append(action.copy() if isinstance(action, np.ndarray) else action)
        result = self.env.step(action)
        self._observation = result[0]
        return result

    def state(self) -> dict[str, Any]:
        """The episode's number, the actions since it began, and a digest of what was observed last."""
        return {
            "episode": self.number,
            "actions": _stacked(self._actions),
            "observed": _digest_of(self._observation),
        }

    def restore(self, state: Mapping[str, Any]) -> Any:
        """Get to where `state` was given, in an environment just made; the last observation, None before the first.

        Raises:
            GraphError: if the same actions have led elsewhere.
        """
        if state["episode"] >= 0:
            self.number = state["episode"] - 1
            self.begin()
            for action in _unstacked(state["actions"]):
                self.step(action)
        _check_observed(self.env, self._observation, state["observed"])
        return self._observation

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def _seed(self) -> int:
        """The seed of the episode, in [0, 2**31)."""
        seeds = self._seeds
        of_episode = np.random.SeedSequence(seeds.entropy, spawn_key=(*seeds.spawn_key, self.number))
        return int(of_episode.generate_state(1, np.uint32)[0] >> 1)


class Continued:
    """An environment that is seeded once; later episodes go on with its own stream of random numbers.

    To keep that stream takes as long as some steps, so it is kept at most once in a call of `took`: where the first
    episode begins that began since the call before.
    """

    def __init__(self, env: Env[Any, Any], seed: int) -> None:
        """Play in `env`, whose stream is `env.unwrapped.np_random`, from `seed`."""
        self.env = env
        self._seed = seed
        self._base = env.unwrapped
        self._stream: Mapping[str, Any] | None = None
        """As it was before the episode that all is counted from; None for the first."""
        self._since: list[int] = []
        """Actions from there on."""
        self._begun_at: int | None = None
        self._observation: Any = None

    def begin(self) -> Any:
        """Begin the first episode; its first observation."""
        self._observation, _ = self.env.reset(seed=self._seed)
        return self._observation

    def begin_next(self, after: int) -> Any:
        """Begin another episode; its first observation. `after` steps were taken since the last call of `took`."""
        if self._begun_at is None:
            self._begun_at = after
            self._stream = self._base.np_random.bit_generator.state
        return self.env.reset()[0]

    def took(self, actions: Sequence[int], observation: Any) -> None:
        """Note the `actions` of all steps since the last call, and the last `observation`, of a step or an episode."""
        if self._begun_at is not None:
            self._since.clear()
        self._since += actions[self._begun_at or 0 :]
        self._begun_at = None
        self._observation = observation

    def state(self) -> dict[str, Any]:
        """The stream before an episode, the actions since that began, and digests of what it has come to."""
        return {
            "stream": self._stream,
            "actions": self._since,
            "observed": _digest_of(self._observation),
            "stream_now": self._base.np_random.bit_generator.state,
        }

    def restore(self, state: Mapping[str, Any]) -> Any:
        """Get to where `state` was given, in an environment just made; the last observation.

        Raises:
            GraphError: if the same actions have led elsewhere.
        """
        observation = self.begin()
        if state["stream"] is not None:
            self._base.np_random.bit_generator.state = state["stream"]
            observation, _ = self.env.reset()
        for action in state["actions"]:
            observation, _, terminated, truncated, _ = self.env.step(action)
            if terminated or truncated:
                observation, _ = self.env.reset()
        self._stream, self._since, self._observation = state["stream"], list(state["actions"]), observation
        same_stream = self._base.np_random.bit_generator.state == state["stream_now"]
        _check_observed(self.env, observation if same_stream else None, state["observed"])
        return observation

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _stacked(actions: list[Any]) -> Any:
    """`actions`, as one array where they are arrays."""
    return np.stack(actions) if actions and isinstance(actions[0], np.ndarray) else actions


def _unstacked(actions: Any) -> list[Any]:
    return [actions[at, ...].copy() for at in range(len(actions))] if isinstance(actions, np.ndarray) else actions


def _digest_of(observation: Any) -> str:
    digest = Digest()
    digest.add(observation)
    return digest.hexdigest()


def _check_observed(env: Env[Any, Any], observation: Any, expected: str) -> None:
    if _digest_of(observation) != expected:
        name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
        raise GraphError(
            f"Environment '{name}' cannot be resumed: from the same seed the same actions have led elsewhere. It must "
            "be a function of these alone (no clock, no network, nothing kept from one episode to the next)."
        )
