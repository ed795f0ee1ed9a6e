"""SAC: Haarnoja et al., Soft Actor-Critic Algorithms and Applications, 2018 (arXiv 1812.05905).

A policy draws its actions, and is rewarded for their entropy too; a temperature, learnt, keeps that entropy near minus
the number of an action's dimensions. Two critics, of which the lower counts; their targets follow slowly, the policy
has none. An action is the tanh of a normal number, whose logarithm of the deviation is kept within -20 and 2, as in
the authors' code, from where the loss of the temperature is too.

In the paper an update steps the critics first, and the policy then climbs the critics that have just been stepped.
Here an update is one step of all parameters: the policy's gradient is that of the critics before their step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from workloads.training.algorithm import Algorithm, Group, Player
from workloads.training.arguments import Arguments, Rate, Tau
from workloads.training.networks import Layout, Perceptron, Scalar, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from workloads.training.algorithm import Batch, Study
    from workloads.training.networks import Learning
    from workloads.training.spaces import Interface

__all__ = ["SAC", "SACArguments"]

LOWEST, HIGHEST = -20.0, 2.0
"""What the logarithm of a deviation is kept within."""
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class SACArguments(Arguments, frozen=True, kw_only=True):
    """Arguments of SAC."""

    algorithm = "sac"

    policy_rate: Annotated[Rate, msgspec.Meta(description="learning rate of the policy")] = 1e-3
    critic_rate: Annotated[Rate, msgspec.Meta(description="learning rate of the critics")] = 1e-3
    temperature_rate: Annotated[Rate, msgspec.Meta(description="learning rate of the temperature")] = 1e-3
    temperature: Annotated[float, msgspec.Meta(description="weight of the entropy at first", gt=0)] = 1.0
    tau: Tau = 0.01


class SAC(Algorithm[SACArguments]):
    """Soft actor-critic."""

    def __init__(self, arguments: SACArguments, interface: Interface) -> None:
        """Lay out policy, critics and temperature."""
        super().__init__(arguments, interface)
        hidden, features, actions = arguments.layers, interface.features, interface.actions
        critic = Perceptron((features + actions, *hidden, 1))
        self.layout = Layout(
            {
                "policy": Perceptron((features, *hidden, 2 * actions)),
                "critic_1": critic,
                "critic_2": critic,
                "log_temperature": Scalar(math.log(arguments.temperature)),
            }
        )
        self.groups = (
            Group(parts=("policy",), rate=arguments.policy_rate),
            Group(parts=("critic_1", "critic_2"), rate=arguments.critic_rate),
            Group(parts=("log_temperature",), rate=arguments.temperature_rate),
        )
        self._entropy = -float(actions)

    def player(self, rows: int) -> SACPlayer:
        """Who acts in so many environments."""
        return SACPlayer(self.layout, rows)

    def targets(self, study: Study, batch: Batch) -> Tensor:
        """The lower of both target critics at an action that the policy draws, and that action's entropy."""
        action, log_density = drawn_action(study.fixed, batch.next_observation, study.normal())
        state = joined(batch.next_observation, action)
        value = study.target["critic_1"](state).minimum(study.target["critic_2"](state)).squeeze(1)
        temperature = study.fixed.scalar("log_temperature").exp()
        return batch.reward + batch.discounts * (value - temperature * log_density)

    def losses(self, study: Study, batch: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Squared errors of the critics; value and entropy of the policy's actions; how far the entropy is off."""
        state = joined(batch.observation, batch.action)
        first = study.now["critic_1"](state).squeeze(1) - targets
        second = study.now["critic_2"](state).squeeze(1) - targets
        action, log_density = drawn_action(study.now, batch.observation, study.normal())
        state = joined(batch.observation, action)
        value = study.fixed["critic_1"](state).minimum(study.fixed["critic_2"](state)).squeeze(1)
        temperature = study.fixed.scalar("log_temperature").exp()
        losses = (
            batch.weights * 0.5 * (first.square() + second.square())
            + (temperature * log_density - value)
            - study.now.scalar("log_temperature") * (log_density.detach() + self._entropy)
        )
        return losses, (first.detach().abs() + second.detach().abs()) / 2

    def follow(self, target: Tensor, now: Tensor, update: int) -> None:  # noqa: ARG002 - always the same
        """Go a bit of the way."""
        target.lerp_(now, self.arguments.tau)


def drawn_action(networks: Learning, observation: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """The policy's actions, `(b, length)`, made of normal numbers; and the logarithms of their densities, `(b,)`."""
    mean, log_deviation = networks["policy"](observation).chunk(2, 1)
    log_deviation = log_deviation.clamp(LOWEST, HIGHEST)
    raw = mean + log_deviation.exp() * normal
    action = raw.tanh()
    # log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2 x)), which does not overflow: appendix C and the authors' code.
    squash = 2 * (math.log(2) - raw - (-2 * raw).logaddexp(raw.new_zeros(())))
    log_density = (-0.5 * normal.square() - log_deviation - HALF_LOG_TWO_PI - squash).sum(1)
    return action, log_density


class SACPlayer(Player):
    """Acts with what the policy draws; what is thought best is the middle."""

    def __init__(self, layout: Layout, rows: int) -> None:
        """Act in so many environments."""
        super().__init__(layout, "policy", rows)
        self._policy = self.networks["policy"]
        self._length = self._policy.outputs // 2
        self._normal = np.zeros((0,), np.float32)

    def best(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """The middle of what the policy draws."""
        return np.tanh(self._policy(observations)[:, : self._length])

    def plan(self, rng: np.random.Generator, steps: int, taken: int) -> None:  # noqa: ARG002 - the same at all times
        """Draw normal numbers."""
        self._normal = rng.standard_normal((steps, self.rows, self._length), np.float32)

    def explore(self, observations: NDArray[np.float32], at: int) -> NDArray[np.float32]:
        """What the policy draws."""
        scores = self._policy(observations)
        mean, log_deviation = scores[:, : self._length], scores[:, self._length :]
        deviation = np.exp(np.clip(log_deviation, LOWEST, HIGHEST))
        actions: NDArray[np.float32] = np.tanh(mean + deviation * self._normal[at])
        return actions
