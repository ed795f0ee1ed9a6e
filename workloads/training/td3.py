"""TD3: Fujimoto, van Hoof, Meger, Addressing Function Approximation Error in Actor-Critic Methods, ICML 2018.

Two critics, of which the lower counts; target actions are smoothed by clipped noise; policy and targets move only
every `policy_period` updates. Networks take ReLU, the policy ends in tanh, and a critic is given the action beside the
observation, as in the authors' code.

In the paper an update steps the critics first, and the policy then climbs the critic that has just been stepped. Here
an update is one step of all parameters: the policy's gradient is that of the critics before their step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from workloads.training.algorithm import Algorithm, Group, Player
from workloads.training.arguments import Arguments, Rate, Tau
from workloads.training.networks import Layout, Perceptron, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from workloads.training.algorithm import Batch, Study
    from workloads.training.spaces import Interface

__all__ = ["TD3", "TD3Arguments"]


class TD3Arguments(Arguments, frozen=True, kw_only=True):
    """Arguments of TD3."""

    algorithm = "td3"

    policy_rate: Annotated[Rate, msgspec.Meta(description="learning rate of the policy")] = 1e-3
    critic_rate: Annotated[Rate, msgspec.Meta(description="learning rate of the critics")] = 1e-3
    tau: Tau = 0.01
    noise: Annotated[
        float, msgspec.Meta(description="standard deviation of exploration, of half an action's range", ge=0)
    ] = 0.1
    smoothing: Annotated[
        float, msgspec.Meta(description="standard deviation of the noise of target actions, likewise", ge=0)
    ] = 0.2
    smoothing_clip: Annotated[float, msgspec.Meta(description="most that noise of target actions may be", ge=0)] = 0.5
    policy_period: Annotated[
        int, msgspec.Meta(description="updates of the critics to one of policy and targets", ge=1)
    ] = 2


class TD3(Algorithm[TD3Arguments]):
    """Twin delayed deep deterministic policy gradient."""

    def __init__(self, arguments: TD3Arguments, interface: Interface) -> None:
        """Lay out policy and critics."""
        super().__init__(arguments, interface)
        hidden, features, actions = arguments.layers, interface.features, interface.actions
        critic = Perceptron((features + actions, *hidden, 1))
        self.layout = Layout(
            {"policy": Perceptron((features, *hidden, actions)), "critic_1": critic, "critic_2": critic}
        )
        self.groups = (
            Group(parts=("policy",), rate=arguments.policy_rate, period=arguments.policy_period),
            Group(parts=("critic_1", "critic_2"), rate=arguments.critic_rate),
        )

    def player(self, rows: int) -> TD3Player:
        """Who acts in so many environments."""
        return TD3Player(self.layout, rows, self.arguments)

    def targets(self, study: Study, batch: Batch) -> Tensor:
        """The lower of both target critics, at the target policy's action with noise."""
        clip = self.arguments.smoothing_clip
        noise = study.normal().mul_(self.arguments.smoothing).clamp_(-clip, clip)
        action = study.target["policy"](batch.next_observation).tanh_().add_(noise).clamp_(-1, 1)
        state = joined(batch.next_observation, action)
        value = study.target["critic_1"](state).minimum(study.target["critic_2"](state)).squeeze(1)
        return batch.reward + batch.discounts * value

    def losses(self, study: Study, batch: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Squared errors of both critics; when the policy is due, what the first critic thinks of its actions."""
        state = joined(batch.observation, batch.action)
        first = study.now["critic_1"](state).squeeze(1) - targets
        second = study.now["critic_2"](state).squeeze(1) - targets
        losses = batch.weights * (first.square() + second.square())
        if self._moves(study.update):
            action = study.now["policy"](batch.observation).tanh()
            losses = losses - study.fixed["critic_1"](joined(batch.observation, action)).squeeze(1)
        return losses, (first.detach().abs() + second.detach().abs()) / 2

    def follow(self, target: Tensor, now: Tensor, update: int) -> None:
        """Go a bit of the way, when the policy has moved."""
        if self._moves(update):
            target.lerp_(now, self.arguments.tau)

    def _moves(self, update: int) -> bool:
        """Whether policy and targets move in this update."""
        return self.groups[0].is_due(update)


class TD3Player(Player):
    """Acts with the policy, and explores with normal noise."""

    def __init__(self, layout: Layout, rows: int, arguments: TD3Arguments) -> None:
        """Act in so many environments."""
        super().__init__(layout, "policy", rows)
        self._policy = self.networks["policy"]
        self._deviation = arguments.noise
        self._noise = np.zeros((0,), np.float32)

    def best(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the policy says."""
        scores = self._policy(observations)
        return np.tanh(scores, out=scores)

    def plan(self, rng: np.random.Generator, steps: int, taken: int) -> None:  # noqa: ARG002 - the same at all times
        """Draw the noise."""
        shape = (steps, self.rows, self._policy.outputs)
        self._noise = rng.standard_normal(shape, np.float32) * np.float32(self._deviation)

    def explore(self, observations: NDArray[np.float32], at: int) -> NDArray[np.float32]:
        """The policy's action with noise, within the bounds."""
        actions = self.best(observations)
        actions += self._noise[at]
        np.maximum(actions, -1, out=actions)
        return np.minimum(actions, 1, out=actions)
