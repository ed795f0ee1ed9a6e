"""DDPG: Lillicrap et al., Continuous control with deep reinforcement learning, ICLR 2016.

A policy climbs a critic; targets follow slowly; noise of an Ornstein-Uhlenbeck process explores. As in the paper's
section 7, networks take ReLU, the policy ends in tanh, actions enter the critic at its second layer, and last layers
begin within 3e-3. Left out, as in most since: batch normalisation, and the decay of the critic's weights.

In the paper an update steps the critic first, and the policy then climbs the critic that has just been stepped. Here
an update is one step of all parameters: the policy's gradient is that of the critic before its step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from workloads.training.algorithm import Algorithm, Group, Player
from workloads.training.arguments import Arguments, Rate, Tau
from workloads.training.networks import Layout, Perceptron, joined

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from workloads.training.algorithm import Batch, Study
    from workloads.training.networks import Learning
    from workloads.training.spaces import Interface

__all__ = ["DDPG", "DDPGArguments"]

LAST_BOUND = 3e-3
"""Last layers begin within this, so that the first actions and values are near 0."""


class DDPGArguments(Arguments, frozen=True, kw_only=True):
    """Arguments of DDPG."""

    algorithm = "ddpg"

    policy_rate: Annotated[Rate, msgspec.Meta(description="learning rate of the policy")] = 1e-3
    critic_rate: Annotated[Rate, msgspec.Meta(description="learning rate of the critics")] = 1e-3
    tau: Tau = 0.01
    noise: Annotated[
        float, msgspec.Meta(description="standard deviation of exploration, of half an action's range", ge=0)
    ] = 0.2
    noise_reversion: Annotated[
        float, msgspec.Meta(description="share of its noise that exploration loses in a step", ge=0, le=1)
    ] = 0.15


class DDPG(Algorithm[DDPGArguments]):
    """Deep deterministic policy gradient."""

    def __init__(self, arguments: DDPGArguments, interface: Interface) -> None:
        """Lay out policy and critic; the latter's first layer sees the observation alone."""
        super().__init__(arguments, interface)
        (first, *more), features, actions = arguments.layers, interface.features, interface.actions
        self.layout = Layout(
            {
                "policy": Perceptron((features, first, *more, actions), LAST_BOUND),
                "critic_first": Perceptron((features, first)),
                "critic_rest": Perceptron((first + actions, *more, 1), LAST_BOUND),
            }
        )
        self.groups = (
            Group(parts=("policy",), rate=arguments.policy_rate),
            Group(parts=("critic_first", "critic_rest"), rate=arguments.critic_rate),
        )

    def player(self, rows: int) -> DDPGPlayer:
        """Who acts in so many environments."""
        return DDPGPlayer(self.layout, rows, self.arguments)

    def targets(self, study: Study, batch: Batch) -> Tensor:
        """What the target critic thinks of the target policy's action."""
        action = study.target["policy"](batch.next_observation).tanh_()
        return batch.reward + batch.discounts * value_of(study.target, batch.next_observation, action)

    def losses(self, study: Study, batch: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Squared errors of the critic, less what it thinks of the policy's actions."""
        errors = value_of(study.now, batch.observation, batch.action) - targets
        action = study.now["policy"](batch.observation).tanh()
        losses = batch.weights * errors.square() - value_of(study.fixed, batch.observation, action)
        return losses, errors.detach()

    def follow(self, target: Tensor, now: Tensor, update: int) -> None:  # noqa: ARG002 - always the same
        """Go a bit of the way."""
        target.lerp_(now, self.arguments.tau)


def value_of(networks: Learning, observation: Tensor, action: Tensor) -> Tensor:
    """What the critic thinks of actions, `(b,)`."""
    features = networks["critic_first"](observation).relu()
    return networks["critic_rest"](joined(features, action)).squeeze(1)


class DDPGPlayer(Player):
    """Acts with the policy, and explores with noise that lasts: Uhlenbeck and Ornstein, Physical Review 36, 1930."""

    def __init__(self, layout: Layout, rows: int, arguments: DDPGArguments) -> None:
        """Act in so many environments; there is no noise at first."""
        super().__init__(layout, "policy", rows)
        self._policy = self.networks["policy"]
        self._deviation, self._kept = arguments.noise, np.float32(1 - arguments.noise_reversion)
        self._noise = np.zeros((rows, self._policy.outputs), np.float32)
        self._pushes = np.zeros((0,), np.float32)

    def best(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the policy says."""
        scores = self._policy(observations)
        return np.tanh(scores, out=scores)

    def plan(self, rng: np.random.Generator, steps: int, taken: int) -> None:  # noqa: ARG002 - the same at all times
        """Draw what pushes the noise."""
        self._pushes = rng.standard_normal((steps, *self._noise.shape), np.float32) * np.float32(self._deviation)

    def explore(self, observations: NDArray[np.float32], at: int) -> NDArray[np.float32]:
        """The policy's action with noise, within the bounds."""
        self._noise *= self._kept
        self._noise += self._pushes[at]
        actions = self.best(observations)
        actions += self._noise
        np.maximum(actions, -1, out=actions)
        return np.minimum(actions, 1, out=actions)

    def ended(self, row: int) -> None:
        """An episode begins without noise."""
        self._noise[row] = 0

    def state(self) -> dict[str, Any]:
        """The noise."""
        return {"noise": self._noise}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with the same noise."""
        self._noise[...] = state["noise"]
