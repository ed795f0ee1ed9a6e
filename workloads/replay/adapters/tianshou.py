"""The sum tree in Tianshou: its two prioritized buffers with other draws, priorities and weights.

`PrioritizedReplayBuffer` and `PrioritizedVectorReplayBuffer` take the place of Tianshou's (2.0) classes of the same
names and arguments, also for its algorithms, which multiply losses by `batch.weight` and call `update_weight`. Rows
are stored by Tianshou's own buffers. What differs:

- draws come from a generator of the buffer's own, seeded by `random_seed`, not from NumPy's global one;
- a weight with `weight_norm=False` is divided by the largest in the buffer; Tianshou mixes priorities before and
  after the exponent there;
- `reset` forgets priorities too, so that rows of before are not drawn;
- a priority that is NaN or infinite is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from tianshou.data import ReplayBuffer, VectorReplayBuffer, to_numpy

from workloads.replay.adapters.priorities import Normalise, Priorities

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from tianshou.data.batch import IndexType
    from tianshou.data.types import PrioBatchProtocol, RolloutBatchProtocol

__all__ = ["PrioritizedReplayBuffer", "PrioritizedVectorReplayBuffer"]

EPS = float(np.finfo(np.float32).eps)
"""Added to absolute errors, as Tianshou does it, so that a row with none can still be drawn."""


class _ByPriority(ReplayBuffer):
    """Draws by priority what the next class in line stores.

    Attributes:
        weight: the priorities; `buffer.weight[indices]` gives them to the power of alpha.
    """

    def _prioritize(self, alpha: float, beta: float, weight_norm: bool, random_seed: int) -> None:  # noqa: FBT001
        self.options.update(alpha=alpha, beta=beta)
        self.weight = Priorities(self.maxsize, alpha, random_seed)
        self._beta = beta
        self._normalise: Normalise = "batch" if weight_norm else "buffer"

    def add(
        self, batch: RolloutBatchProtocol, buffer_ids: NDArray[Any] | list[int] | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Store a transition (or one for each of `buffer_ids`) with the largest priority ever given."""
        added = super().add(batch, buffer_ids)
        self.weight.insert(added[0])
        return added

    def update(self, buffer: ReplayBuffer) -> NDArray[Any]:
        """Store all transitions of another buffer."""
        indices = super().update(buffer)
        if len(indices):
            self.weight.insert(indices)
        return indices

    def reset(self, keep_statistics: bool = False) -> None:  # noqa: FBT001, FBT002 - Tianshou's interface
        """Forget all transitions and their priorities."""
        super().reset(keep_statistics)
        self.weight.clear()

    def sample_indices(self, batch_size: int | None) -> NDArray[Any]:
        """Draw by priority; all indices for 0, in random order for None, none for less, as Tianshou does."""
        if batch_size is None or batch_size <= 0 or len(self) == 0:
            return super().sample_indices(batch_size)
        return self.weight.draw(batch_size, self._beta, self._normalise)[0]

    def sample(self, batch_size: int | None) -> tuple[PrioBatchProtocol, NDArray[Any]]:
        """Draw by priority: a batch with importance weights in `weight`, float32, and indices."""
        if batch_size is None or batch_size <= 0 or len(self) == 0:
            indices = super().sample_indices(batch_size)
            return self[indices], indices
        indices, weights = self.weight.draw(batch_size, self._beta, self._normalise)
        return self._weighted(indices, weights), indices

    def get_weight(self, index: int | NDArray[Any]) -> float | NDArray[Any]:
        """Importance weights of given transitions, float32."""
        return self.weight.weights(index, self._beta, self._normalise)

    def update_weight(self, index: NDArray[Any], new_weight: NDArray[Any] | torch.Tensor) -> None:
        """Make |error| + EPS the priority of transitions.

        Args:
            index: of the transitions, integers, shape (n,).
            new_weight: their errors, shape (n,).

        Raises:
            ValueError: if one is NaN or infinite, or shapes differ.
        """
        self.weight.update(np.asarray(index), np.abs(cast("NDArray[Any]", to_numpy(new_weight))) + EPS)

    def set_beta(self, beta: float) -> None:
        """Set the exponent of importance weights."""
        self._beta = beta

    def __getitem__(self, index: IndexType) -> PrioBatchProtocol:
        """A batch of given transitions, with importance weights in `weight`."""
        if isinstance(index, slice):
            index = self.sample_indices(0) if index == slice(None) else np.arange(len(self))[index]
        return self._weighted(index, self.weight.weights(cast("NDArray[Any]", index), self._beta, self._normalise))

    def _weighted(self, index: IndexType, weights: NDArray[np.float32]) -> PrioBatchProtocol:
        batch = cast("PrioBatchProtocol", super().__getitem__(index))
        batch.weight = weights
        return batch


class PrioritizedReplayBuffer(_ByPriority):
    """In place of `tianshou.data.PrioritizedReplayBuffer`, for one environment."""

    def __init__(
        self,
        size: int,
        alpha: float = 0.6,
        beta: float = 0.4,
        weight_norm: bool = True,  # noqa: FBT001, FBT002 - Tianshou's interface
        *,
        random_seed: int = 42,
        **kwargs: Any,
    ) -> None:
        """Make an empty buffer.

        Args:
            size: transitions that there is room for.
            alpha: exponent of priorities.
            beta: exponent of importance weights.
            weight_norm: whether the largest weight of a batch is 1; otherwise that of the whole buffer would be.
            random_seed: of the draws.
            kwargs: of `tianshou.data.ReplayBuffer`.
        """
        super().__init__(size, random_seed=random_seed, **kwargs)
        self._prioritize(alpha, beta, weight_norm, random_seed)


class PrioritizedVectorReplayBuffer(_ByPriority, VectorReplayBuffer):
    """In place of `tianshou.data.PrioritizedVectorReplayBuffer`, for several environments."""

    def __init__(  # noqa: PLR0913 - arguments of Tianshou's
        self,
        total_size: int,
        buffer_num: int,
        alpha: float = 0.6,
        beta: float = 0.4,
        weight_norm: bool = True,  # noqa: FBT001, FBT002 - Tianshou's interface
        *,
        random_seed: int = 42,
        **kwargs: Any,
    ) -> None:
        """Make an empty buffer, of one part for each environment.

        Args:
            total_size: transitions that there is room for, at least.
            buffer_num: number of environments.
            alpha: exponent of priorities.
            beta: exponent of importance weights.
            weight_norm: whether the largest weight of a batch is 1; otherwise that of the whole buffer would be.
            random_seed: of the draws.
            kwargs: of `tianshou.data.ReplayBuffer`.
        """
        VectorReplayBuffer.__init__(self, total_size, buffer_num, random_seed=random_seed, **kwargs)
        self._prioritize(alpha, beta, weight_norm, random_seed)
