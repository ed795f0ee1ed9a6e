"""Stable-Baselines3's (2.9) algorithms with prioritized replay: weighted losses, and priorities given back.

They train on whatever their buffer draws, but know no weights and give no errors back. So `PrioritizedDQN`,
`PrioritizedDDPG`, `PrioritizedTD3` and `PrioritizedSAC` are the same algorithms with another `train`: each row's loss
of the value network is multiplied by its importance weight, and the absolute error is the row's new priority. Losses
of actors and of the entropy coefficient have no weights. All else (arguments, networks, logging, saving) is theirs.

References: Schaul et al., Prioritized Experience Replay (ICLR 2016); of the algorithms, see Stable-Baselines3.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import polyak_update
from torch.nn import functional

from workloads.replay.adapters.stable_baselines3.buffer import PrioritizedReplayBuffer, PrioritizedSamples

__all__ = ["PrioritizedDDPG", "PrioritizedDQN", "PrioritizedSAC", "PrioritizedTD3"]


class _Prioritized(OffPolicyAlgorithm):
    """What the algorithms here share: the buffer of this module by default, batches, and priorities given back."""

    def _setup_model(self) -> None:
        if self.replay_buffer_class is None:
            self.replay_buffer_class = PrioritizedReplayBuffer
        n_steps = self.n_steps
        if n_steps > 1 and issubclass(self.replay_buffer_class, PrioritizedReplayBuffer):
            self.replay_buffer_kwargs = {"n_steps": n_steps, "gamma": self.gamma, **self.replay_buffer_kwargs}
            self.n_steps = 1  # it is the buffer that knows it; otherwise Stable-Baselines3 would warn
        super()._setup_model()
        self.n_steps = n_steps

    def _draw(self, batch_size: int) -> PrioritizedSamples:
        buffer = self._prioritized_buffer()
        buffer.set_progress_remaining(self._current_progress_remaining)
        return buffer.sample(batch_size, env=self._vec_normalize_env)

    def _targets(self, batch: PrioritizedSamples, next_values: torch.Tensor) -> torch.Tensor:
        discounts = self.gamma if batch.discounts is None else batch.discounts
        return batch.rewards + (1 - batch.dones) * discounts * next_values

    def _give_back(self, batch: PrioritizedSamples, errors: list[torch.Tensor]) -> None:
        """Errors of one or several value networks, each (B, 1); priorities are their mean absolute values."""
        absolute = torch.cat([error.detach() for error in errors], dim=1).abs()
        self._prioritized_buffer().update_priorities(batch, absolute.mean(dim=1))

    def _prioritized_buffer(self) -> PrioritizedReplayBuffer:
        buffer = self.replay_buffer
        if not isinstance(buffer, PrioritizedReplayBuffer):
            raise TypeError(
                f"{type(self).__name__} trains on a PrioritizedReplayBuffer, not on {type(buffer).__name__}. Leave "
                "replay_buffer_class out, or use the algorithm of Stable-Baselines3."
            )
        return buffer


class PrioritizedDQN(_Prioritized, DQN):
    """`stable_baselines3.DQN` with prioritized replay."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take optimiser steps, each on a batch drawn by priority; the loss is Huber's, weighted.

        Args:
            gradient_steps: how many.
            batch_size: rows in each batch.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            batch = self._draw(batch_size)
            with torch.no_grad():
                next_values = self.q_net_target(batch.next_observations).amax(dim=1, keepdim=True)
                targets = self._targets(batch, next_values)
            values = self.q_net(batch.observations).gather(1, batch.actions.long())
            loss = (batch.weights * functional.smooth_l1_loss(values, targets, reduction="none")).mean()
            self.policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            self._give_back(batch, [values - targets])
            losses.append(loss.item())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))


class _TwinDelayed(_Prioritized, TD3):
    """TD3 and what is a special case of it."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take optimiser steps, each on a batch drawn by priority; the critics' squared errors are weighted.

        Args:
            gradient_steps: how many.
            batch_size: rows in each batch.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        actor_losses, critic_losses = [], []
        for _ in range(gradient_steps):
            self._n_updates += 1
            batch = self._draw(batch_size)
            critic_losses.append(self._train_critics(batch))
            if self._n_updates % self.policy_delay == 0:
                actor_losses.append(self._train_actor(batch))
                self._follow()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if actor_losses:
            self.logger.record("train/actor_loss", np.mean(actor_losses))
        self.logger.record("train/critic_loss", np.mean(critic_losses))

    def _train_critics(self, batch: PrioritizedSamples) -> float:
        with torch.no_grad():
            noise = torch.randn_like(batch.actions) * self.target_policy_noise
            noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
            actions = (self.actor_target(batch.next_observations) + noise).clamp(-1, 1)
            next_values = torch.cat(self.critic_target(batch.next_observations, actions), dim=1)
            targets = self._targets(batch, next_values.amin(dim=1, keepdim=True))
        errors = [values - targets for values in self.critic(batch.observations, batch.actions)]
        loss = torch.stack([(batch.weights * error**2).mean() for error in errors]).sum()
        _descend(self.critic.optimizer, loss)
        self._give_back(batch, errors)
        return loss.item()

    def _train_actor(self, batch: PrioritizedSamples) -> float:
        loss = -self.critic.q1_forward(batch.observations, self.actor(batch.observations)).mean()
        _descend(self.actor.optimizer, loss)
        return loss.item()

    def _follow(self) -> None:
        """Move the targets towards the networks; running statistics of batch normalisation are copied."""
        polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        polyak_update(self.actor.parameters(), self.actor_target.parameters(), self.tau)
        polyak_update(self.critic_batch_norm_stats, self.critic_batch_norm_stats_target, 1.0)
        polyak_update(self.actor_batch_norm_stats, self.actor_batch_norm_stats_target, 1.0)


class PrioritizedTD3(_TwinDelayed):
    """`stable_baselines3.TD3` with prioritized replay; a priority is the mean absolute error of the critics."""


class PrioritizedDDPG(_TwinDelayed, DDPG):
    """`stable_baselines3.DDPG` with prioritized replay."""


class PrioritizedSAC(_Prioritized, SAC):
    """`stable_baselines3.SAC` with prioritized replay; a priority is the mean absolute error of the critics."""

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Take optimiser steps, each on a batch drawn by priority; the critics' squared errors are weighted.

        Args:
            gradient_steps: how many.
            batch_size: rows in each batch.
        """
        self.policy.set_training_mode(True)
        optimizers = [self.actor.optimizer, self.critic.optimizer]
        if self.ent_coef_optimizer is not None:
            optimizers.append(self.ent_coef_optimizer)
        self._update_learning_rate(optimizers)
        recorded: dict[str, list[float]] = {}
        for step in range(gradient_steps):
            batch = self._draw(batch_size)
            for name, value in self._train_once(batch).items():
                recorded.setdefault(name, []).append(value)
            if step % self.target_update_interval == 0:
                polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
                polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, values in recorded.items():
            self.logger.record(f"train/{name}", np.mean(values))

    def _train_once(self, batch: PrioritizedSamples) -> dict[str, float]:
        """One step of the entropy coefficient, of the critics and of the actor; what is to be recorded of them."""
        if self.use_sde:
            self.actor.reset_noise()
        actions, log_prob = self.actor.action_log_prob(batch.observations)
        log_prob = log_prob.reshape(-1, 1)
        recorded = {}
        entropy = self.ent_coef_tensor if self.log_ent_coef is None else self.log_ent_coef.detach().exp()
        if self.log_ent_coef is not None:
            recorded["ent_coef_loss"] = self._train_entropy(log_prob)
        recorded["ent_coef"] = entropy.item()
        recorded["critic_loss"] = self._train_critics(batch, entropy)
        values = torch.cat(self.critic(batch.observations, actions), dim=1).amin(dim=1, keepdim=True)
        loss = (entropy * log_prob - values).mean()
        _descend(self.actor.optimizer, loss)
        recorded["actor_loss"] = loss.item()
        return recorded

    def _train_entropy(self, log_prob: torch.Tensor) -> float:
        assert self.log_ent_coef is not None
        assert self.ent_coef_optimizer is not None
        loss = -(self.log_ent_coef * (log_prob + cast("float", self.target_entropy)).detach()).mean()
        _descend(self.ent_coef_optimizer, loss)
        return loss.item()

    def _train_critics(self, batch: PrioritizedSamples, entropy: torch.Tensor) -> float:
        with torch.no_grad():
            actions, log_prob = self.actor.action_log_prob(batch.next_observations)
            next_values = torch.cat(self.critic_target(batch.next_observations, actions), dim=1)
            next_values = next_values.amin(dim=1, keepdim=True) - entropy * log_prob.reshape(-1, 1)
            targets = self._targets(batch, next_values)
        errors = [values - targets for values in self.critic(batch.observations, batch.actions)]
        loss = 0.5 * torch.stack([(batch.weights * error**2).mean() for error in errors]).sum()
        _descend(self.critic.optimizer, loss)
        self._give_back(batch, errors)
        return loss.item()


def _descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
