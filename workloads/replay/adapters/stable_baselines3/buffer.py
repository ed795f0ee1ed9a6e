"""The prioritized buffer as a `ReplayBuffer` of Stable-Baselines3 (2.9), for `replay_buffer_class=`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer

from workloads.replay import NStep, PrioritizedReplay, named_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from numpy.typing import ArrayLike, NDArray
    from stable_baselines3.common.vec_env import VecNormalize

__all__ = ["PrioritizedReplayBuffer", "PrioritizedSamples"]

BATCHES_WITHOUT_UPDATE = 100
"""So many batches are drawn in a row without any new priority before it is said that something is missing."""


class PrioritizedSamples(NamedTuple):
    """A batch of B transitions: what Stable-Baselines3 calls `ReplayBufferSamples`, and what is needed for priorities.

    Attributes:
        observations: (B, ...), or a dict of such tensors.
        actions: (B, action_dim).
        next_observations: as `observations`; those n steps on, with n-step returns.
        dones: (B, 1), float32: 1 where the episode terminated, so that nothing is bootstrapped.
        rewards: (B, 1), float32; the sum over n steps, with n-step returns.
        discounts: (B, 1), float32, of the value of `next_observations`; None without n-step returns.
        weights: (B, 1), float32: importance weights; the largest is 1.
        indices: (B,), int64: where the rows are.
        generations: (B,), int64: which rows those are.
    """

    observations: Any
    actions: torch.Tensor
    next_observations: Any
    dones: torch.Tensor
    rewards: torch.Tensor
    discounts: torch.Tensor | None
    weights: torch.Tensor
    indices: NDArray[np.int64]
    generations: NDArray[np.int64]


class PrioritizedReplayBuffer(ReplayBuffer):
    """A `ReplayBuffer` of Stable-Baselines3 that draws by priority, for observations that are arrays or dicts of them.

    Give it to any off-policy algorithm as `replay_buffer_class`, and arguments after `handle_timeout_termination` as
    `replay_buffer_kwargs`. An algorithm that gives no priorities back draws rows uniformly, and a warning says so:
    use those of this module, or call `update_priorities` in a `train` of your own.

    Attributes:
        replay: the buffer itself.
        eps: added to absolute errors, so that a row with none can still be drawn.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - Stable-Baselines3's interface
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,  # noqa: FBT001, FBT002
        handle_timeout_termination: bool = True,  # noqa: FBT001, FBT002
        *,
        alpha: float = 0.6,
        beta: float | Callable[[float], float] = 0.4,
        eps: float = 1e-6,
        n_steps: int = 1,
        gamma: float = 0.99,
        seed: int | None = None,
    ) -> None:
        """Make an empty buffer of `buffer_size // n_envs * n_envs` rows.

        Args:
            buffer_size: rows that there is room for.
            observation_space: of one environment.
            action_space: of one environment.
            device: where batches are put.
            n_envs: environments that `add` gets a transition of.
            optimize_memory_usage: must be False.
            handle_timeout_termination: whether a time limit is told from an end (`TimeLimit.truncated`), so that
                values are bootstrapped beyond it.
            alpha: exponent of priorities.
            beta: exponent of importance weights; or a function of what remains of the training, from 1 to 0, as
                `LinearSchedule(0.4, 1.0, 1.0)` of `stable_baselines3.common.utils`, which the algorithms here tell it.
            eps: added to absolute errors, more than 0.
            n_steps: steps that rewards are summed over; give `gamma` with it. Without this argument, it is the
                algorithms here that set both, by their own `n_steps` and `gamma`.
            gamma: discount of one step.
            seed: of the draws; without it, one from NumPy's global generator, which an algorithm's `seed` sets.

        Raises:
            ValueError: if an argument is out of its range.
        """
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        if optimize_memory_usage:
            raise ValueError(
                "optimize_memory_usage=True is not supported: rows are drawn one by one, and each holds its next "
                "observation. Use optimize_memory_usage=False."
            )
        if not eps > 0:
            raise ValueError(f"eps is {eps}, but a row with error 0 must still be drawn. Use a small number, as 1e-6.")
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.eps = eps
        self._alpha = alpha
        self._beta = beta
        self._progress_remaining = 1.0
        self._seed = int(np.random.randint(2**31)) if seed is None else seed  # noqa: NPY002 - what SB3 seeds
        self._fields = _fields(self.obs_shape, observation_space, action_space, self.action_dim)
        self._shapes = {name: ((n_envs, *shape), dtype) for name, (shape, dtype) in self._fields.items()}
        self._ongoing = np.zeros(n_envs, np.bool_)
        self._n_steps = n_steps
        self._gamma = gamma
        self._clear()

    @property
    def beta(self) -> float:
        """Exponent of importance weights now."""
        return self._beta(self._progress_remaining) if callable(self._beta) else self._beta

    def set_progress_remaining(self, progress_remaining: float) -> None:
        """Say how much of the training is left, from 1 to 0: what `beta` depends on if it is a function."""
        self._progress_remaining = progress_remaining

    def size(self) -> int:
        """Rows stored of each environment."""
        return len(self.replay) // self.n_envs

    def reset(self) -> None:
        """Forget all rows and priorities; the seed is the one that the buffer was made with."""
        super().reset()
        self._clear()

    def add(  # noqa: PLR0913, PLR0917 - Stable-Baselines3's interface
        self,
        obs: Any,
        next_obs: Any,
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Store a transition of each environment, with the largest priority ever given.

        Args:
            obs: (n_envs, ...), or a dict of such arrays.
            next_obs: as `obs`.
            action: (n_envs, ...).
            reward: (n_envs,).
            done: (n_envs,): whether the episode ended, by whatever.
            infos: of each environment; `TimeLimit.truncated` is read.
        """
        terminated = np.asarray(done, np.bool_)
        truncated = self._ongoing
        if self.handle_timeout_termination and terminated.any():
            truncated = np.array([info.get("TimeLimit.truncated", False) for info in infos], np.bool_) & terminated
            terminated = terminated & ~truncated
        step = {
            **named_arrays("obs", obs),
            **named_arrays("next_obs", next_obs),
            "action": action,
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
        }
        rows: Mapping[str, ArrayLike] = {
            name: np.asarray(step[name], dtype).reshape(shape) for name, (shape, dtype) in self._shapes.items()
        }
        if self._returns is not None:
            rows = self._returns.push(**rows)
        self._written += len(self.replay.add(**rows))
        self.full = len(self.replay) == self.replay.capacity
        self.pos = self._written // self.n_envs % self.buffer_size

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> PrioritizedSamples:  # type: ignore[override]
        """Draw `batch_size` transitions by priority, with replacement.

        Args:
            batch_size: how many.
            env: normalises observations and rewards, if given.

        Raises:
            ValueError: if nothing is stored.
        """
        self._look_for_updates()
        batch = self.replay.sample(batch_size, beta=self.beta)
        return PrioritizedSamples(
            observations=self._observations("obs", batch, env),
            actions=self._tensor(batch["action"]),
            next_observations=self._observations("next_obs", batch, env),
            dones=self._tensor(batch["terminated"].astype(np.float32).reshape(-1, 1)),
            rewards=self._tensor(self._normalize_reward(batch["reward"].reshape(-1, 1), env)),
            discounts=self._tensor(batch["discounts"].reshape(-1, 1)) if "discounts" in batch else None,
            weights=self._tensor(batch["weights"].reshape(-1, 1)),
            indices=batch["indices"],
            generations=batch["generations"],
        )

    def update_priorities(self, samples: PrioritizedSamples, errors: torch.Tensor) -> int:
        """Make |error| + eps the priority of each row of a batch that is still stored.

        Args:
            samples: a batch, as `sample` gave it.
            errors: of its B rows, (B,) or (B, 1).

        Returns:
            How many rows still were those of the batch.

        Raises:
            ValueError: if there are more or fewer errors, or one is NaN or infinite.
        """
        self._batches_without_update = 0
        priorities = errors.detach().abs().reshape(-1).cpu().numpy() + self.eps
        return self.replay.update_priorities(samples.indices, priorities, samples.generations)

    def _clear(self) -> None:
        self._batches_without_update = 0
        self._written = 0
        self._returns = NStep(self._fields, self._n_steps, self._gamma, self.n_envs) if self._n_steps > 1 else None
        self.replay = PrioritizedReplay(
            self.buffer_size * self.n_envs,
            self._fields if self._returns is None else self._returns.fields,
            alpha=self._alpha,
            seed=self._seed,
        )

    def _observations(self, name: str, batch: Mapping[str, NDArray[Any]], env: VecNormalize | None) -> Any:
        if isinstance(self.observation_space, spaces.Dict):
            observations: Any = {key: batch[f"{name}.{key}"] for key in self.observation_space.spaces}
        else:
            observations = batch[name]
        normalised = self._normalize_obs(observations, env)
        if isinstance(normalised, dict):
            return {key: self._tensor(value) for key, value in normalised.items()}
        return self._tensor(normalised)

    def _tensor(self, array: NDArray[Any]) -> torch.Tensor:
        return self.to_torch(array, copy=False)  # arrays of a batch belong to it

    def _look_for_updates(self) -> None:
        self._batches_without_update += 1
        if self._batches_without_update == BATCHES_WITHOUT_UPDATE + 1:
            warnings.warn(
                f"{BATCHES_WITHOUT_UPDATE} batches were drawn, and no priorities came back: rows are drawn as if "
                "uniformly, and nobody uses their weights. Train with PrioritizedDQN, PrioritizedDDPG, PrioritizedTD3 "
                "or PrioritizedSAC, or call update_priorities(samples, errors).",
                stacklevel=3,
            )

    def _get_samples(self, batch_inds: NDArray[Any], env: VecNormalize | None = None) -> NoReturn:
        del batch_inds, env
        raise NotImplementedError("Rows are drawn by priority. Use sample(), or replay.sample() for arrays.")


def _fields(
    obs_shape: Any, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], action_dim: int
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """What a row consists of, in the shapes and dtypes of Stable-Baselines3's own buffer."""
    if isinstance(observation_space, spaces.Dict):
        parts = {f".{key}": (shape, observation_space[key].dtype) for key, shape in obs_shape.items()}
    else:
        parts = {"": (obs_shape, observation_space.dtype)}
    action_dtype = np.dtype(np.float32) if action_space.dtype == np.float64 else np.dtype(action_space.dtype)
    return {
        **{f"obs{name}": (shape, np.dtype(dtype)) for name, (shape, dtype) in parts.items()},
        **{f"next_obs{name}": (shape, np.dtype(dtype)) for name, (shape, dtype) in parts.items()},
        "action": ((action_dim,), action_dtype),
        "reward": ((), np.dtype(np.float32)),
        "terminated": ((), np.dtype(np.bool_)),
        "truncated": ((), np.dtype(np.bool_)),
    }
