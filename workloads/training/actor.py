"""An actor: takes some steps in each of its environments, with the weights that it is sent.

A step is taken in all environments side by side, with one pass of the network for all of them: its shape is fixed by
the program, so it rounds in one way whatever runs it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.dataflow import ArraySpec, Task
from workloads.environments import make_environment
from workloads.episodes import Episodes
from workloads.policies import aligned_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workloads.dataflow import Inputs, Outputs, TaskContext
    from workloads.training.algorithm import Algorithm
    from workloads.training.spaces import Interface

__all__ = ["Actor", "transitions"]


def transitions(lead: tuple[int, ...], interface: Interface) -> dict[str, ArraySpec]:
    """The arrays of transitions, by port; the first axes are `lead`."""
    return {
        "observation": ArraySpec((*lead, interface.features), np.float32),
        "action": ArraySpec((*lead, *interface.action_shape), interface.action_dtype),
        "reward": ArraySpec(lead, np.float32),
        "next_observation": ArraySpec((*lead, interface.features), np.float32),
        "terminated": ArraySpec(lead, np.bool_),
        "truncated": ArraySpec(lead, np.bool_),
    }


class Actor(Task):
    """Plays, explores, and gives its transitions: `(steps, environments, ...)`.

    `next_observation` is what a step gave, also where that was the last of an episode; `observation` of the step after
    is then the first of the next one.
    """

    def __init__(self, context: TaskContext, *, algorithm: Algorithm[Any]) -> None:
        """Make the environments, and begin an episode in each."""
        told = algorithm.arguments
        self._told, self._interface = told, algorithm.interface
        self._rng = context.rng("exploration")
        self._player = algorithm.player(told.environments)
        seeds = context.seed_sequence("environment").spawn(told.environments)
        self._environments = [Episodes(make_environment(told.env_id, "raw"), of_one) for of_one in seeds]
        # Always the same memory, so that the network rounds in the same way wherever transitions are written to.
        self._features = aligned_empty((told.environments, self._interface.features))
        for row, environment in enumerate(self._environments):
            self._features[row] = environment.begin()
        self._rounds = 0
        self._resets = 0
        self._reward = 0.0

    def initial(self, port: str) -> Any:
        """Zeros, which the replay knows not to keep."""
        return transitions((self._told.steps, self._told.environments), self._interface)[port].zeros()

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Take the steps of one round."""
        told, features, player = self._told, self._features, self._player
        taken = self._rounds * told.steps_per_round
        choose: Callable[[int], Any]
        if taken < told.learning_starts:
            choose = self._interface.random_actions(self._rng, (told.steps, told.environments)).__getitem__
        else:
            player.load(inputs["policy"])
            player.plan(self._rng, told.steps, taken)
            choose = partial(player.explore, features)
        observations, actions = outputs["observation"], outputs["action"]
        for at in range(told.steps):
            observations[at] = features
            chosen = choose(at)
            actions[at] = chosen
            self._step(chosen, at, outputs)
        self._rounds += 1

    def _step(self, chosen: Any, at: int, outputs: Outputs) -> None:
        """Take one step in each environment."""
        features, act_in, scale = self._features, self._interface.act_in, self._told.reward_scale
        next_observations, rewards = outputs["next_observation"][at], outputs["reward"][at]
        terminations, truncations = outputs["terminated"][at], outputs["truncated"][at]
        for row, environment in enumerate(self._environments):
            observation, reward, terminated, truncated, _ = environment.step(act_in(chosen[row]))
            next_observations[row] = observation
            rewards[row] = scale * float(reward)
            terminations[row], truncations[row] = terminated, truncated
            self._reward += float(reward)
            if terminated or truncated:
                self._resets += 1
                self._player.ended(row)
                observation = environment.begin()
            features[row] = observation

    def tallies(self) -> Mapping[str, Any]:
        """Episodes that ended, and the sum of all rewards, as the environments gave them."""
        return {"resets": self._resets, "reward": self._reward}

    def state(self) -> Mapping[str, Any]:
        """Rounds and tallies, the stream, the player's, and of each environment how it got where it is."""
        return {
            "rounds": self._rounds,
            "resets": self._resets,
            "reward": self._reward,
            "exploration": self._rng.bit_generator.state,
            "player": self._player.state(),
            "environments": [environment.state() for environment in self._environments],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the actions of the episodes at hand again, and go on."""
        self._rounds, self._resets, self._reward = state["rounds"], state["resets"], state["reward"]
        self._rng.bit_generator.state = state["exploration"]
        self._player.restore(state["player"])
        for row, (environment, kept) in enumerate(zip(self._environments, state["environments"], strict=True)):
            self._features[row] = environment.restore(kept)

    def close(self) -> None:
        """Close the environments."""
        for environment in self._environments:
            environment.close()
