"""A sum tree: numbers that are drawn in proportion to their values, and change all the time.

`SumTree` checks what it is given and chooses who does the work: native/tree.c where it was compiled, otherwise
`numpy_tree`. Both give the same bits. docs/replay.md shows the design.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from workloads.replay.compiled import compiled
from workloads.replay.numpy_tree import NumpyTree
from workloads.replay.tree_arguments import integer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from workloads.replay._tree import Tree

    Kernel = Tree | NumpyTree

__all__ = ["SumTree", "new_kernel"]

FAN_OUTS = (2, 4, 8, 16, 32, 64)
CAPACITY_MAX = 1 << 40


def new_kernel(capacity: int, fan_out: int, dtype: DTypeLike) -> Kernel:
    """An empty tree: native, or NumPy's where nothing was compiled, which is said once.

    Raises:
        TypeError: if capacity or fan_out is no integer.
        ValueError: if one of the three is out of its range.
    """
    leaves, children = integer("capacity", capacity), integer("fan_out", fan_out)
    if not 1 <= leaves <= CAPACITY_MAX:
        raise ValueError(f"capacity is {capacity}, but a tree has from 1 to 2^40 leaves.")
    if children not in FAN_OUTS:
        raise ValueError(f"fan_out is {fan_out}, but a node has 2, 4, 8, 16, 32 or 64 children.")
    of = np.dtype(dtype)
    if of not in {np.dtype(np.float32), np.dtype(np.float64)}:
        raise ValueError(f"dtype is {of}, but leaves and sums are float32 or float64.")
    native = compiled("_tree")
    made: Kernel = NumpyTree(leaves, children, of) if native is None else native.Tree(leaves, children, of)
    return made


class SumTree:
    """Numbers in a fixed number of leaves, drawn in proportion to their values; all are 0 at first.

    A value is finite, not negative, and at most `limit`. One that is positive but below the smallest normal number of
    the dtype (1.2e-38 in float32) becomes that number. A leaf of 0 is never drawn.

    The sum of all leaves is made again from the leaves below whenever one changes, so it does not drift: its relative
    error is at most levels * log2(fan_out) * 2^-24 in float32, and 1e-12 in float64.

    Several threads may use a tree only under a lock of the caller's: calls that take long let other threads run, and a
    free-threaded Python has nothing else that keeps calls apart.
    """

    __slots__ = ("_kernel", "capacity", "dtype", "fan_out")

    def __init__(self, capacity: int, fan_out: int = 16, dtype: DTypeLike = "float32") -> None:
        """Make a tree of zeros.

        Args:
            capacity: number of leaves, from 1 to 2^40.
            fan_out: children of a node: 2, 4, 8, 16, 32 or 64. 16 floats are one cache line.
            dtype: of leaves and sums, float32 or float64.

        Raises:
            TypeError: if capacity or fan_out is no integer.
            ValueError: if an argument is out of its range.
            MemoryError: if there is not enough memory.
        """
        self._kernel = new_kernel(capacity, fan_out, dtype)
        self.capacity = self._kernel.capacity
        self.fan_out = self._kernel.fan_out
        self.dtype = self._kernel.dtype

    def __len__(self) -> int:
        """The capacity: leaves that were never set are 0."""
        return self.capacity

    def __repr__(self) -> str:
        """Says what it holds."""
        return f"SumTree({self.capacity}, fan_out={self.fan_out}, dtype={self.dtype.name!r}, total={self.total:g})"

    @property
    def total(self) -> float:
        """The sum of all leaves."""
        return self._kernel.total

    @property
    def min(self) -> float:
        """The smallest positive leaf; 0 if there is none.

        The first time all leaves are looked at. From then on the tree keeps minima beside its sums, so that this takes
        no time and `set` takes somewhat longer.
        """
        return self._kernel.min

    @property
    def limit(self) -> float:
        """The largest value a leaf may have: no sum of such overflows."""
        return self._kernel.limit

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the tree takes."""
        return self._kernel.nbytes

    def set(self, indices: ArrayLike, values: ArrayLike) -> None:
        """Give leaves their values; of equal indices the last counts. All are set, or after an error none.

        Args:
            indices: integers, shape (n,) or a single one; quickest as a contiguous array of int64.
            values: real numbers, shape (n,) or a single one for all; quickest as a contiguous array of floats.

        Raises:
            IndexError: if an index is not 0 to capacity - 1.
            TypeError: if indices are no integers, or values no real numbers.
            ValueError: if a value is NaN, negative, infinite or above `limit`, or shapes do not fit.
        """
        self._kernel.set(indices, values)

    def sample(self, n: int, rng: np.random.Generator, *, stratified: bool = False) -> NDArray[np.int64]:
        """Draw n leaves independently, with replacement, each in proportion to its value.

        Uses up exactly the numbers of `rng.random(n)`: number u finds the first leaf up to which the sum of leaves
        exceeds u * total, and never one past the last positive leaf.

        Args:
            n: how many, at least 1.
            rng: where randomness comes from.
            stratified: draw one leaf of each n-th of the total: (i + u_i) / n takes the place of u_i.

        Returns:
            Their indices, int64, shape (n,).

        Raises:
            TypeError: if rng is no generator of NumPy.
            ValueError: if no leaf is positive, or n is below 1.
        """
        return self._kernel.sample(rng, _rows(n), bool(stratified))

    def sample_weighted(
        self,
        n: int,
        rng: np.random.Generator,
        beta: float = 0.4,
        *,
        normalise: Literal["batch", "buffer"] = "batch",
        stratified: bool = False,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Draw as `sample` does, and give importance weights too.

        The weight of a leaf p is (least / p)^beta, which is (N P)^-beta divided by the largest of such weights: of
        those drawn (normalise="batch"), or of all in the tree ("buffer").

        Args:
            n: how many, at least 1.
            rng: where randomness comes from.
            beta: exponent of the weights, finite and not negative.
            normalise: whether `least` is the least leaf drawn, or the least positive one of the tree.
            stratified: as in `sample`.

        Returns:
            Indices, int64, and weights, float32, both of shape (n,).

        Raises:
            TypeError: if rng is no generator of NumPy.
            ValueError: if no leaf is positive, or an argument is out of its range.
        """
        exponent = float(beta)
        if not (math.isfinite(exponent) and exponent >= 0):
            raise ValueError(f"beta is {beta}, but it must be finite and not negative.")
        if normalise not in {"batch", "buffer"}:
            raise ValueError(f'normalise is {normalise!r}, but weights are normalised by "batch" or "buffer".')
        return self._kernel.sample_weighted(rng, _rows(n), bool(stratified), exponent, normalise == "buffer")

    def find(self, masses: ArrayLike) -> NDArray[np.int64]:
        """The leaves that masses between 0 and `total` fall on, int64, shape (n,).

        A mass finds the first leaf up to which the sum of leaves exceeds it, and never one past the last positive leaf.

        Raises:
            ValueError: if no leaf is positive, or a mass is negative or NaN.
        """
        given = np.ascontiguousarray(masses, np.float64).reshape(-1)
        bad = ~(given >= 0)
        if bad.any():
            raise ValueError(
                f"Mass {given[bad.argmax()]} (at position {bad.argmax()}) is not allowed: it is at least 0."
            )
        return self._kernel.find(given)[0]

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice | NDArray[np.integer[Any]] | list[int]) -> NDArray[np.floating[Any]]: ...
    def __getitem__(self, index: Any) -> Any:
        """The leaf at an index, a float; or those of a slice or of several indices, an array of the tree's dtype."""
        if isinstance(index, slice):
            index = np.arange(self.capacity)[index]
        leaves = self._kernel.get(index)
        return float(leaves[0]) if np.ndim(index) == 0 else leaves.astype(self.dtype)

    def __setitem__(self, index: int | slice | NDArray[np.integer[Any]] | list[int], values: ArrayLike) -> None:
        """As `set`, of one index, a slice, or several indices."""
        self._kernel.set(np.arange(self.capacity)[index] if isinstance(index, slice) else index, values)


def _rows(n: int) -> int:
    rows = integer("n", n)
    if rows < 1:
        raise ValueError(f"n is {n}, but at least 1 leaf is drawn.")
    return rows
