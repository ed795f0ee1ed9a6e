"""The sum tree in NumPy: what the native one must equal bit for bit, and what works where nothing was compiled.

Level 0 holds the leaves, a node of the level above is the sum of K neighbours, the last level is the root alone.
Every level is padded with zeros to whole groups of K, never to a power of K. native/tree.h says the rest: the order
of summation, what a search does in a node, and why.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.replay import tree_arguments
from workloads.replay.power import power

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.floating[Any]]

__all__ = ["NumpyTree"]

_BLOCK = 4  # prefix sums are made in blocks of so many children


class NumpyTree:
    """A sum tree; its arguments are what `SumTree` has checked already.

    Attributes:
        capacity: number of leaves.
        fan_out: children of a node.
        dtype: float32 or float64, of leaves and sums.
        limit: the largest value a leaf may have: no sum of such overflows.
    """

    def __init__(self, capacity: int, fan_out: int, dtype: np.dtype[Any]) -> None:
        self.capacity = capacity
        self.fan_out = fan_out
        self.dtype = dtype
        self.limit = 2.0 ** (np.finfo(dtype).maxexp - 2 - (capacity - 1).bit_length())
        self._bits = fan_out.bit_length() - 1
        self._sums = [np.zeros((-(-capacity // fan_out), fan_out), dtype)]
        while len(self._sums[-1]) > 1:
            self._sums.append(np.zeros((-(-len(self._sums[-1]) // fan_out), fan_out), dtype))
        self._sums.append(np.zeros((1, 1), dtype))
        self._minima: list[Floats] | None = None

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(level.nbytes for level in self._sums + (self._minima or []))

    @property
    def total(self) -> float:
        """The root: the sum of all leaves."""
        return float(self._sums[-1][0, 0])

    @property
    def min(self) -> float:
        """The smallest positive leaf; 0 if there is none. The first time all leaves are looked at."""
        if self._minima is None:
            self._minima = [np.full_like(level, np.inf) for level in self._sums[1:]]
            try:
                self._renew_minima(None)
            except BaseException:  # of a signal's handler
                self._minima = None
                raise
        least = float(self._minima[-1][0, 0])
        return 0.0 if math.isinf(least) else least

    def get(self, indices: ArrayLike) -> NDArray[np.float64]:
        """Leaves, shape (n,).

        Raises:
            IndexError: if an index is outside of the tree.
        """
        where = self._checked_indices(indices)
        return self._sums[0].reshape(-1)[where].astype(np.float64)

    def set(self, indices: ArrayLike, values: ArrayLike) -> None:
        """Give leaves their values; of equal indices the last counts.

        Raises:
            IndexError: if an index is outside of the tree.
            ValueError: if a value is NaN, negative, infinite, or above `limit`, or there are not as many as indices.
        """
        where = tree_arguments.index_array(indices)
        given = tree_arguments.value_array(values, len(where))
        self._checked_indices(where)
        if len(given) != len(where):
            raise tree_arguments.wrong_lengths(len(where), len(given))
        bad = ~((given >= 0) & (given <= np.float64(self.limit)))
        if bad.any():
            place = int(bad.argmax())
            raise tree_arguments.value_not_allowed(float(given[place]), place, self.limit)
        if len(where):
            try:
                self._store(where, given)
                self._renew(where)
            except BaseException:  # of a signal's handler, between two levels
                self._renew(np.arange(self.capacity))
                raise

    def find(self, masses: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The leaf that each mass falls on, and its value, both of shape (n,).

        Raises:
            ValueError: if no leaf is positive.
        """
        if not self.total > 0:
            raise tree_arguments.empty_mass()
        nodes = np.zeros(len(masses), np.int64)
        rest = masses.astype(np.float64)
        for level in reversed(self._sums[:-1]):
            children = level[nodes]
            chosen, before = _choose(children, rest)
            nodes = nodes * self.fan_out + chosen
            rest = np.fmax(rest - before, 0.0)
        return nodes, self._sums[0].reshape(-1)[nodes].astype(np.float64)

    def sample(self, rng: np.random.Generator, n: int, stratified: bool) -> NDArray[np.int64]:  # noqa: FBT001
        """Draw n leaves in proportion to their values, shape (n,).

        Raises:
            TypeError: if rng is no generator.
            ValueError: if no leaf is positive.
        """
        return self._draw(rng, n, stratified)[0]

    def sample_weighted(
        self,
        rng: np.random.Generator,
        n: int,
        stratified: bool,  # noqa: FBT001
        beta: float,
        by_buffer: bool,  # noqa: FBT001
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The same, and their importance weights."""
        indices, leaves = self._draw(rng, n, stratified)
        least = self.min if by_buffer else leaves.min(initial=np.inf)
        return indices, power(least / leaves, beta).astype(np.float32)

    def _draw(
        self,
        rng: np.random.Generator,
        n: int,
        stratified: bool,  # noqa: FBT001
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if not self.total > 0:
            raise tree_arguments.empty_mass()
        if not isinstance(rng, np.random.Generator):
            raise tree_arguments.no_generator(rng)
        uniforms = rng.random(n)
        if stratified:
            uniforms = (np.arange(n) + uniforms) / n
        return self.find(uniforms * self.total)

    def _checked_indices(self, indices: ArrayLike) -> NDArray[np.int64]:
        where = tree_arguments.index_array(indices)
        outside = (where < 0) | (where >= self.capacity)
        if outside.any():
            place = int(outside.argmax())
            raise tree_arguments.index_outside(int(where[place]), place, self.capacity)
        return where

    def _store(self, where: NDArray[np.int64], given: Floats) -> None:
        smallest = np.finfo(self.dtype).smallest_normal  # smaller ones would be lost to flushing and rounding
        raised = np.where((given > 0) & (given < smallest), smallest, given + 0.0)
        self._sums[0].reshape(-1)[where] = raised  # of equal indices, NumPy assigns the last one last

    def _renew(self, leaves: NDArray[np.int64]) -> None:
        nodes = leaves
        for below, level in zip(self._sums, self._sums[1:], strict=False):
            nodes = np.unique(nodes >> self._bits)
            level.reshape(-1)[nodes] = _fold(below[nodes], np.add)
        if self._minima is not None:
            self._renew_minima(leaves)

    def _renew_minima(self, leaves: NDArray[np.int64] | None) -> None:
        assert self._minima is not None
        below, nodes = self._sums[0], leaves
        for level in self._minima:
            nodes = np.arange(len(below)) if nodes is None or leaves is None else np.unique(nodes >> self._bits)
            children = below[nodes]
            if below is self._sums[0]:
                children[children == 0] = np.inf
            level.reshape(-1)[nodes] = _fold(children, np.minimum)
            below = level


def _fold(children: Floats, together: np.ufunc) -> Floats:
    """Of each row, child i with child i + K/2, then of what is left the same, down to one."""
    while children.shape[1] > 1:
        half = children.shape[1] // 2
        children = together(children[:, :half], children[:, half:])
    return children[:, 0]


def _choose(children: Floats, masses: NDArray[np.float64]) -> tuple[NDArray[np.int64], Floats]:
    """Of each row, the first positive child whose prefix sum exceeds the mass, or else the last positive one.

    Also the sum of what lies before it. All sums are made in the order that native/tree.h gives.
    """
    rows, fan_out = children.shape
    c = children.reshape(rows, -1, min(fan_out, _BLOCK))
    s = c.copy()
    s[:, :, 1:] += c[:, :, :-1]
    prefix = s.copy()
    prefix[:, :, 2:] += s[:, :, :-2]
    carry = np.zeros(rows, children.dtype)
    for block in range(c.shape[1]):
        whole = prefix[:, block, -1].copy()
        prefix[:, block] += carry[:, None]
        carry += whole
    prefixes = np.concatenate([np.zeros((rows, 1), children.dtype), prefix.reshape(rows, fan_out)], axis=1)
    positive = children > 0
    exceeds = positive & (prefixes[:, 1:] > masses[:, None])
    last = fan_out - 1 - positive[:, ::-1].argmax(axis=1)
    chosen = np.where(exceeds.any(axis=1), exceeds.argmax(axis=1), last)
    return chosen, prefixes[np.arange(rows), chosen]
