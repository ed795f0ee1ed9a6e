"""A learner that is the same for all replay buffers: one step of DDPG on small networks, so that a loop is a real one.

Lillicrap et al., Continuous control with deep reinforcement learning (2016), with importance weights in the critic's
loss as in Schaul et al., Prioritized Experience Replay (2016). It is what surrounds the buffer, not what is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from workloads.replay_material import FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["Learner"]

_HIDDEN: Final = 64
_GAMMA, _TAU, _LEARNING_RATE = 0.99, 0.005, 1e-3


class Learner:
    """Actor and critic with two hidden layers of 64 units, their targets, and Adam for each."""

    def __init__(self, seed: int) -> None:
        """Make the networks; one thread computes, so that all frameworks have the same."""
        import torch

        torch.set_num_threads(1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._actor, self._target_actor = self._pair(self._observations, self._actions, torch.nn.Tanh())
            self._critic, self._target_critic = self._pair(self._observations + self._actions, 1, torch.nn.Identity())
        self._actor_steps = torch.optim.Adam(self._actor.parameters(), lr=_LEARNING_RATE)
        self._critic_steps = torch.optim.Adam(self._critic.parameters(), lr=_LEARNING_RATE)

    @property
    def _observations(self) -> int:
        return FIELDS["obs"][0][0]

    @property
    def _actions(self) -> int:
        return FIELDS["action"][0][0]

    def learn_from_arrays(self, drawn: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """As `learn`, from NumPy arrays of the workload's fields and `weights`; they are not copied."""
        import torch

        names = (*FIELDS, "weights")
        errors: NDArray[np.float32] = self.learn(**{name: torch.from_numpy(drawn[name]) for name in names}).numpy()
        return errors

    def learn(  # noqa: PLR0913 - the parts of a transition, and its weight
        self, *, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, done: Tensor, weights: Tensor
    ) -> Tensor:
        """One step of critic and actor; the absolute errors, shape `(n,)`.

        Rewards, ends and weights have shape `(n,)`.
        """
        import torch

        with torch.no_grad():
            future = self._target_critic(torch.cat([next_obs, self._target_actor(next_obs)], 1)).squeeze(1)
            wanted = reward + _GAMMA * (1 - done) * future
        errors = self._critic(torch.cat([obs, action], 1)).squeeze(1) - wanted
        self._critic_steps.zero_grad()
        (weights * errors.square()).mean().backward()
        self._critic_steps.step()
        self._actor_steps.zero_grad()
        (-self._critic(torch.cat([obs, self._actor(obs)], 1)).mean()).backward()
        self._actor_steps.step()
        with torch.no_grad():
            for online, target in ((self._actor, self._target_actor), (self._critic, self._target_critic)):
                for ours, theirs in zip(online.parameters(), target.parameters(), strict=True):
                    theirs.lerp_(ours, _TAU)
        absolute: Tensor = errors.detach().abs()
        return absolute

    @staticmethod
    def _pair(inputs: int, outputs: int, last: Any) -> tuple[Any, Any]:
        """A network, and its target with the same weights."""
        from copy import deepcopy

        from torch import nn

        online = nn.Sequential(
            nn.Linear(inputs, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, outputs),
            last,
        )
        return online, deepcopy(online)
