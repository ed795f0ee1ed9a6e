"""Everything in a ring at one moment: what is copied to another buffer, and saved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workloads.replay.settings import Settings

__all__ = ["Content", "array_of"]

_ADDED_MAX = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The N slots that were ever taken, and what the ring knows besides.

    Attributes:
        columns: one for each field, of shape (N, *shape).
        leaves: (N,), float64.
        generations: (N,), int64; -1 where there is no complete row.
        added: insertions so far.
        joined: other processes that the ring was given to so far.
        max_priority: the largest raw priority so far, at least 1.
    """

    columns: tuple[NDArray[Any], ...]
    leaves: NDArray[np.float64]
    generations: NDArray[np.int64]
    added: int
    joined: int
    max_priority: float

    @classmethod
    def room(cls, settings: Settings) -> Self:
        """Of zeros, for as many rows as there can be: memory that is not written to takes none."""
        rows = settings.capacity
        return cls(
            columns=tuple(np.zeros((rows, *field.shape), field.dtype) for field in settings.fields),
            leaves=np.zeros(rows),
            generations=np.zeros(rows, np.int64),
            added=0,
            joined=0,
            max_priority=1.0,
        )

    def numbers(self) -> dict[str, Any]:
        """What is no array, as JSON knows it."""
        return {"added": self.added, "joined": self.joined, "max_priority": self.max_priority}

    def arrays(self, settings: Settings) -> dict[str, NDArray[Any]]:
        """What is; leaves as the tree has them."""
        named = {f"fields/{field.name}": column for field, column in zip(settings.fields, self.columns, strict=True)}
        return {**named, "leaves": self.leaves.astype(settings.tree_dtype), "generations": self.generations}

    @classmethod
    def of(cls, settings: Settings, numbers: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `numbers` and `arrays` gave, looked at closely: it may come from a file that somebody made up.

        Raises:
            KeyError, TypeError, ValueError: if it is something else, or could not have been in such a ring.
        """
        added, joined, maximum = (numbers[name] for name in ("added", "joined", "max_priority"))
        if any(type(count) is not int or not 0 <= count < _ADDED_MAX for count in (added, joined)):
            raise ValueError(f"{added} insertions by {joined} more processes are not possible.")
        if not (math.isfinite(maximum) and maximum >= 1):
            raise ValueError(f"the largest priority is {maximum}, but at least 1.")
        rows = min(added, settings.capacity)
        columns = [
            array_of(arrays, f"fields/{field.name}", (rows, *field.shape), field.dtype) for field in settings.fields
        ]
        leaves = array_of(arrays, "leaves", (rows,), settings.tree_dtype)
        generations = array_of(arrays, "generations", (rows,), np.dtype(np.int64))
        is_there = generations >= 0
        of_slot = generations % settings.capacity == np.arange(rows)
        if not np.all(np.where(is_there, of_slot & (generations < added), generations == -1)):
            raise ValueError("rows do not lie where they were inserted.")
        if not np.all(np.isfinite(leaves) & (leaves >= 0) & (is_there | (leaves == 0))):
            raise ValueError("leaves are negative, not finite, or of rows that are not there.")
        return cls(
            columns=tuple(columns),
            leaves=leaves.astype(np.float64),
            generations=generations,
            added=added,
            joined=joined,
            max_priority=float(maximum),
        )


def array_of(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """One of `arrays`, which must be of this shape and dtype.

    Raises:
        KeyError: if there is none of this name.
        ValueError: if it is of another shape or dtype.
    """
    array = arrays[name]
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name!r} is {array.dtype} of shape {array.shape}, not {dtype} of shape {shape}.")
    return np.ascontiguousarray(array)
