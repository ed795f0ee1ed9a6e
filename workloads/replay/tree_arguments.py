"""What callers give a sum tree, as arrays of the types that both kernels take, and what is said where they cannot be.

Kernels that get such arrays already check them themselves, and call the makers of errors here.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "empty_mass",
    "index_array",
    "index_outside",
    "integer",
    "no_generator",
    "value_array",
    "value_not_allowed",
    "wrong_lengths",
]


def index_array(indices: ArrayLike) -> NDArray[np.int64]:
    """As a contiguous vector; a single index becomes one of length 1.

    Raises:
        TypeError: if they are no integers.
        ValueError: if there are more axes than one.
    """
    array = np.asarray(indices)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"Indices are integers, not {array.dtype}.")
    if array.ndim > 1:
        raise ValueError(f"Indices have shape {array.shape}, but they are a vector. Give indices.ravel().")
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise IndexError(f"Index {array.max()} is outside of any tree.")
    return np.ascontiguousarray(array, np.int64).reshape(-1)


def integer(name: str, value: int) -> int:
    """The value of an argument that is an integer.

    Raises:
        TypeError: if it is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, but it must be an integer: 1_000_000, say, not 1e6.") from None


def value_array(values: ArrayLike, length: int) -> NDArray[np.float64] | NDArray[np.float32]:
    """As a contiguous vector of float32 or float64; a single value stands for `length` of them.

    Raises:
        TypeError: if they are no real numbers.
        ValueError: if there are more axes than one.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" and array.size:
        raise TypeError(f"Values are real numbers, not {array.dtype}.")
    if array.ndim > 1:
        raise ValueError(f"Values have shape {array.shape}, but they are a vector, one value for each index.")
    if array.ndim == 0:
        array = np.broadcast_to(array, (length,))
    if array.dtype == np.float32:
        return np.ascontiguousarray(array, np.float32)
    return np.ascontiguousarray(array, np.float64)


def wrong_lengths(indices: int, values: int) -> ValueError:
    """There are not as many values as indices."""
    return ValueError(f"There are {indices} indices but {values} values. Give one for each, or one for all.")


def index_outside(index: int, place: int, capacity: int) -> IndexError:
    """The index at `place` of a batch is not one of the tree."""
    return IndexError(f"Index {index} (at position {place}) is outside of the tree: indices are 0 to {capacity - 1}.")


def value_not_allowed(value: float, place: int, limit: float) -> ValueError:
    """No leaf may have the value at `place` of a batch."""
    if value > limit and np.isfinite(value):
        return ValueError(
            f"Value {value:g} (at position {place}) is above {limit:.3g}, the largest that cannot make a sum of this "
            "tree overflow. Give smaller values, or take dtype float64."
        )
    what = "NaN" if np.isnan(value) else "negative" if value < 0 else "infinite"
    return ValueError(
        f"Value {value:g} (at position {place}) is {what}, but a leaf is finite and not negative. Look for what made "
        "it: a loss that overflowed, or an error without abs()."
    )


def empty_mass() -> ValueError:
    """Nothing can be drawn."""
    return ValueError("Nothing can be drawn: no leaf is positive. Set some first.")


def no_generator(rng: Any) -> TypeError:
    """What was given to draw with is no generator of NumPy."""
    return TypeError(f"rng is {type(rng).__name__}, but draws come from a numpy.random.Generator: default_rng(seed).")
