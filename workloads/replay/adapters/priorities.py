"""Priorities of rows that somebody else stores: a sum tree with the rules of `PrioritizedReplay`.

For frameworks whose buffers keep the rows and ask only which to draw next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workloads.replay.importance import checked_priorities, leaves_of, weights_of
from workloads.replay.sum_tree import SumTree

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Normalise", "Priorities"]

Normalise = Literal["batch", "buffer"]
"""By what weights are divided: by the largest of the batch, or of the whole buffer."""


class Priorities:
    """A priority for each of `capacity` rows, 0 at first; a row is drawn in proportion to its priority^alpha.

    A row with priority 0 is never drawn. Can be pickled and copied, and draws the same afterwards.

    Attributes:
        capacity: number of rows.
        alpha: exponent of priorities.
        largest: the largest priority ever given, at least 1: what new rows get.
    """

    def __init__(self, capacity: int, alpha: float, seed: int) -> None:
        if not 0 <= alpha < np.inf:
            raise ValueError(f"alpha is {alpha}, but it must be finite and not negative.")
        self.capacity = capacity
        self.alpha = float(alpha)
        self.largest = 1.0
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._tree = SumTree(capacity)

    def __getitem__(self, indices: NDArray[np.integer[Any]]) -> NDArray[np.floating[Any]]:
        """priority^alpha of rows."""
        return self._tree[indices]

    def insert(self, indices: ArrayLike) -> None:
        """Give new rows the largest priority ever given."""
        self._tree.set(indices, leaves_of(np.array([self.largest]), self.alpha, 0.0, self._tree.limit)[0])

    def update(self, indices: NDArray[np.integer[Any]], priorities: ArrayLike) -> None:
        """Give rows new priorities; of an index given several times, the last counts.

        Raises:
            IndexError: if an index is not 0 to capacity - 1.
            TypeError: if priorities are no real numbers.
            ValueError: if a priority is NaN, negative, infinite or too large, or shapes differ.
        """
        given = checked_priorities(priorities, indices.shape)
        self._tree.set(indices, leaves_of(given, self.alpha, 0.0, self._tree.limit))
        self.largest = max(self.largest, float(given.max(initial=0.0)))

    def draw(self, n: int, beta: float, normalise: Normalise) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Indices of n rows, independently and with replacement, and their importance weights.

        Raises:
            ValueError: if no row has a positive priority, or beta is out of its range.
        """
        return self._tree.sample_weighted(n, self._rng, beta, normalise=normalise)

    def find(self, uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """As `draw` does, with numbers from 0 to 1 that somebody else drew."""
        return self._tree.find(uniform * self._tree.total)

    def weights(self, indices: ArrayLike, beta: float, normalise: Normalise) -> NDArray[np.float32]:
        """Importance weights of given rows, float32; 0 for a row that is never drawn."""
        leaves = np.asarray(self._tree[np.asarray(indices)], np.float64)
        drawable = leaves > 0
        least = self._tree.min if normalise == "buffer" else float(leaves.min(initial=np.inf, where=drawable))
        return np.where(drawable, weights_of(np.where(drawable, leaves, least), least, beta), np.float32(0))

    def clear(self) -> None:
        """Make all priorities 0; the largest one ever given stays."""
        self._tree = SumTree(self.capacity)

    def state(self) -> dict[str, Any]:
        """All of it, in arrays, numbers and dicts of them."""
        return {
            "alpha": self.alpha,
            "largest": self.largest,
            "leaves": self._tree[:],
            "generator": self._rng.bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` gave.

        Raises:
            ValueError: if it is of another number of rows.
        """
        leaves = np.asarray(state["leaves"], np.float32)
        if leaves.shape != (self.capacity,):
            raise ValueError(
                f"The state is of {len(leaves)} rows, but there are {self.capacity}. Make room for as many."
            )
        tree = SumTree(self.capacity)
        tree[:] = leaves
        self._rng.bit_generator.state = state["generator"]
        self.alpha, self.largest, self._tree = float(state["alpha"]), float(state["largest"]), tree

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy."""
        return {"capacity": self.capacity, **self.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` gave."""
        self.__init__(state["capacity"], state["alpha"], 0)  # type: ignore[misc]
        self.restore(state)
