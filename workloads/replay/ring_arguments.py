"""What both stores of a prioritized buffer share: what they give, what they are given, and what they say is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.replay.importance import checked_priorities

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DRAWN", "changed_too_often", "nothing_to_draw", "update_arguments"]

DRAWN: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
    "indices": ((), np.dtype(np.int64)),
    "weights": ((), np.dtype(np.float32)),
    "generations": ((), np.dtype(np.int64)),
}
"""What a batch says of each row besides its fields."""

_PCG64_PERIOD = 1 << 128


def nothing_to_draw(rng: np.random.Generator, drawn: int) -> ValueError:
    """The sum of leaves is 0; what was drawn from the generator for nothing, it will give again."""
    bits = rng.bit_generator
    assert isinstance(bits, np.random.PCG64)
    bits.advance(_PCG64_PERIOD - drawn)
    return ValueError(
        "Nothing can be drawn: no row has a positive priority. Add rows first; if there are some, all have priority 0."
    )


def changed_too_often(changed: int, rows: int, rounds: int) -> RuntimeError:
    """Writers overwrite rows faster than a reader copies them."""
    return RuntimeError(
        f"{changed} of {rows} rows were overwritten while they were copied, {rounds} times in a row: writers go round "
        "the whole ring meanwhile. Raise the capacity, or add less at a time."
    )


def update_arguments(
    indices: ArrayLike, priorities: ArrayLike, generations: ArrayLike | None, stored: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64] | None]:
    """What was given to `update_priorities`, as contiguous arrays of shape (N,).

    Raises:
        IndexError: if an index is not inside what is stored.
        TypeError: if indices or generations are no integers, or priorities no real numbers.
        ValueError: if shapes differ, or a priority is NaN, negative or infinite.
    """
    where = _integers("indices", indices)
    outside = (where < 0) | (where >= stored)
    if outside.any():
        place = int(outside.argmax())
        raise IndexError(f"Index {where.flat[place]} (number {place}) is outside of the {stored} rows that are stored.")
    given = checked_priorities(priorities, where.shape)
    versions = None if generations is None else _integers("generations", generations)
    if versions is not None and versions.shape != where.shape:
        raise ValueError(f"There are {where.shape} indices, but {versions.shape} generations: give one for each.")
    return where.reshape(-1), given, None if versions is None else versions.reshape(-1)


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} are integers, not {array.dtype}.")
    return np.asarray(array, np.int64, order="C")
