"""UniformReplay: the buffer without priorities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from workloads.replay.buffer import Buffer
from workloads.replay.prioritized import PrioritizedReplay

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["UniformReplay"]

EXACT_IN_FLOAT32 = 2**24
"""Rows up to which a sum of ones is exact in float32; more need float64, or they would not be drawn alike."""


class UniformReplay(Buffer):
    """Stores transitions in a ring, and draws them all alike.

    It is `PrioritizedReplay` with alpha = 0, whose leaves are ones: of N rows, the row drawn is
    floor(N * u), the u being `rng.random(n)` of its PCG64. So its rows are gathered, saved and shared between
    processes by the same code.

    Attributes:
        capacity: rows that there is room for; the oldest is overwritten first.
        fields: shape and dtype of each field, by name.
        field_names: their names.
        seed: of the generator.
        shared: can it be used by several processes?
    """

    KIND = "uniform"

    def __init__(
        self,
        capacity: int,
        fields: Mapping[str, tuple[int | tuple[int, ...], DTypeLike]],
        seed: int = 0,
        shared: bool = False,  # noqa: FBT001, FBT002 - part of the interface
    ) -> None:
        """Make an empty buffer.

        Args:
            capacity: rows that there is room for, at least 1.
            fields: shape and dtype of each field, as `{"obs": ((11,), "float32"), "reward": ((), "float32")}`.
            seed: of the generator, PCG64; not negative.
            shared: whether several processes use it, as in `PrioritizedReplay`.

        Raises:
            TypeError: if an argument is of the wrong type.
            ValueError: if an argument is out of its range.
            RuntimeError: if it is to be shared and cannot be.
        """
        leaves = "float32" if capacity <= EXACT_IN_FLOAT32 else "float64"
        self._take(PrioritizedReplay(capacity, fields, alpha=0.0, seed=seed, shared=shared, tree_dtype=leaves))

    def _take(self, rows: PrioritizedReplay) -> None:
        """Be the buffer of these rows."""
        self._rows = rows
        self.capacity = self._rows.capacity
        self.fields = self._rows.fields
        self.field_names = self._rows.field_names
        self.seed = self._rows.seed
        self.shared = self._rows.shared

    def __len__(self) -> int:
        """Rows stored, `capacity` at most."""
        return len(self._rows)

    def __repr__(self) -> str:
        """Says what is stored, and how much of it."""
        return f"{type(self).__name__}({len(self)} of {self.capacity} rows of {', '.join(self.field_names)})"

    def add(self, **values: ArrayLike) -> NDArray[np.int64]:
        """Store one row, or N; the oldest rows make room.

        Args:
            values: every field, of shape `shape` for one row, or (N, *shape); cast as `same_kind`.

        Returns:
            Where the rows are, int64, of shape () for one row and (N,) for N.

        Raises:
            TypeError: if a field is missing, unknown, or of a dtype that cannot be cast, or for priorities.
            ValueError: if a shape does not fit.
        """
        if "priorities" in values:
            raise TypeError("Rows are drawn alike here, without priorities. PrioritizedReplay takes them.")
        return self._rows.add(**values)

    def sample(self, n: int, out: Mapping[str, NDArray[Any]] | None = None) -> dict[str, NDArray[Any]]:
        """Draw n rows independently of each other, with replacement.

        Args:
            n: how many, at least 1.
            out: C-contiguous arrays to write into, by name, of the shapes and dtypes below; others are made.

        Returns:
            Every field, shape (n, *shape); `indices` (n,), int64, where each row is; `weights` (n,), float32, ones;
            `generations` (n,), int64: the number of the insertion, which tells rows of one index apart.

        Raises:
            ValueError: if nothing is stored, or an argument is out of its range.
        """
        return self._rows.sample(n, out=out)

    def get_all_transitions(self) -> dict[str, NDArray[Any]]:
        """A copy of every complete row, of one moment, the oldest first: each field, shape (N, *shape)."""
        return self._rows.get_all_transitions()

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Everything of one moment, as `PrioritizedReplay.state`."""
        return self._rows.state()

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """As `Buffer.from_state` says."""
        rows = PrioritizedReplay.from_state(config, arrays)
        there = arrays["generations"] >= 0
        if rows.alpha != 0 or not np.array_equal(arrays["leaves"], there):
            raise ValueError("its rows have priorities.")
        replay = cls.__new__(cls)
        replay._take(rows)  # noqa: SLF001 - of this class
        return replay
