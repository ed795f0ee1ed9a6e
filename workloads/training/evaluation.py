"""Playing with what was learnt, without exploring: no part of a graph, and not timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.environments import make_environment
from workloads.policies import aligned_empty

if TYPE_CHECKING:
    from gymnasium import Env
    from numpy.typing import NDArray

    from workloads.training.algorithm import Algorithm, Player
    from workloads.training.spaces import Interface

__all__ = ["greedy_returns"]

EVALUATION = 2**32 - 1
"""Begins the spawn key of evaluations; that of a task is a hash of 128 bits."""


def greedy_returns(algorithm: Algorithm[Any], weights: NDArray[np.float32], episodes: int, seed: int) -> list[float]:
    """The undiscounted returns of so many episodes, each with a seed of its own, played with `weights`."""
    player = algorithm.player(1)
    player.load(weights[: algorithm.layout.slices[algorithm.acts_with].stop])
    env = make_environment(algorithm.arguments.env_id, "raw")
    try:
        return [
            _return_of(env, player, algorithm.interface, int(of_episode.generate_state(1)[0] >> 1))
            for of_episode in np.random.SeedSequence(seed, spawn_key=(EVALUATION,)).spawn(episodes)
        ]
    finally:
        env.close()


def _return_of(env: Env[Any, Any], player: Player, interface: Interface, seed: int) -> float:
    """The return of one episode."""
    features = aligned_empty((1, interface.features))
    features[0], _ = env.reset(seed=seed)
    total, ended = 0.0, False
    while not ended:
        observation, reward, terminated, truncated, _ = env.step(interface.act_in(player.best(features)[0]))
        features[0] = observation
        total += float(reward)
        ended = terminated or truncated
    return total
