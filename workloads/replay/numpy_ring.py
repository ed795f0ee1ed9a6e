"""The rows of a prioritized buffer in plain NumPy: the reference in tests, and what runs where nothing was compiled.

One column a field, a sum tree, and the generation of each slot. One lock is held throughout each call, so threads may
use it; processes may not.
"""

from __future__ import annotations

from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.replay.content import Content
from workloads.replay.fields import columns_of, outputs_of
from workloads.replay.importance import checked_priorities, leaves_of, weights_of
from workloads.replay.numpy_tree import NumpyTree
from workloads.replay.ring_arguments import DRAWN, nothing_to_draw, update_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from workloads.replay.settings import Settings

__all__ = ["NumpyRing"]


class NumpyRing:
    """A `workloads.replay.rings.Ring`, which says what each method does."""

    descriptor = -1
    joined = 0

    def __init__(self, settings: Settings) -> None:
        self.added = 0
        self.max_priority = 1.0
        self._capacity = settings.capacity
        self._fields = settings.fields
        self._alpha = settings.alpha
        self._eps = settings.eps
        self._outputs = {field.name: (field.shape, field.dtype) for field in self._fields} | DRAWN
        self._tree = NumpyTree(settings.capacity, settings.fan_out, settings.tree_dtype)
        self._columns = [np.zeros((settings.capacity, *field.shape), field.dtype) for field in self._fields]
        self._generations = np.full(settings.capacity, -1, np.int64)
        self._lock = RLock()
        self._leaves(np.ones(1))  # that of the running maximum is possible

    @property
    def nbytes(self) -> int:
        """Bytes of rows, generations and tree."""
        return sum(array.nbytes for array in (*self._columns, self._generations)) + self._tree.nbytes

    def join(self) -> int:
        """Not to be had: no other process can."""
        raise NotImplementedError  # one process alone has it

    def before_fork(self) -> None:
        """Keep other threads out: a child gets no half of what one of them is doing."""
        self._lock.acquire()

    def after_fork(self, is_child: bool) -> None:  # noqa: ARG002, FBT001
        """Let them in again."""
        self._lock.release()

    def add(self, values: dict[str, ArrayLike], priorities: ArrayLike | None) -> NDArray[np.int64]:
        """Store one row, or N, and say where."""
        columns, single = columns_of(self._fields, values)
        rows = len(columns[0])
        raw = None if priorities is None else checked_priorities(priorities, () if single else (rows,))
        leaves = None if raw is None else self._leaves(raw)
        with self._lock:
            tickets = np.arange(self.added, self.added + rows)
            self.added += rows
            if raw is not None:
                self._raise_maximum(raw)
            if leaves is None:
                leaves = np.broadcast_to(self._leaves(np.array([self.max_priority])), (rows,))
            kept = slice(max(0, rows - self._capacity), rows)  # a ring shorter than what is added keeps the last
            indices = tickets[kept] % self._capacity
            # A signal's handler may raise anywhere here: what is half written is not drawn.
            self._tree.set(indices, np.zeros(len(indices)))
            self._generations[indices] = -1
            for column, added in zip(self._columns, columns, strict=True):
                column[indices] = added[kept]
            self._generations[indices] = tickets[kept]
            self._tree.set(indices, leaves[kept])
        where: NDArray[np.int64] = tickets % self._capacity
        return where.reshape(()) if single else where

    def sample(  # noqa: PLR0913, PLR0917 - as the protocol has it
        self,
        rng: np.random.Generator,
        n: int,
        beta: float,
        by_buffer: bool,  # noqa: FBT001
        stratified: bool,  # noqa: FBT001
        out: Mapping[str, NDArray[Any]] | None,
    ) -> dict[str, NDArray[Any]]:
        """Draw n rows."""
        batch = outputs_of(self._outputs, n, out)
        uniforms = rng.random(n)
        if stratified:
            uniforms = (np.arange(n) + uniforms) / n
        with self._lock:
            total = self._tree.total
            if not total > 0:
                raise nothing_to_draw(rng, n)
            indices, leaves = self._tree.find(uniforms * total)
            least = self._tree.min if by_buffer else float(leaves.min())
            for field, column in zip(self._fields, self._columns, strict=True):
                column.take(indices, axis=0, out=batch[field.name], mode="clip")
            self._generations.take(indices, out=batch["generations"], mode="clip")
        batch["indices"][:] = indices
        batch["weights"][:] = weights_of(leaves, least, beta)
        return batch

    def update(self, indices: ArrayLike, priorities: ArrayLike, generations: ArrayLike | None) -> int:
        """Give rows new priorities, and say to how many."""
        where, raw, versions = update_arguments(indices, priorities, generations, min(self.added, self._capacity))
        leaves = self._leaves(raw)
        with self._lock:
            there = self._generations[where]
            kept = there >= 0 if versions is None else there == versions
            where, raw, leaves = where[kept], raw[kept], leaves[kept]
            if len(where):
                self._raise_maximum(raw)
                self._tree.set(where, leaves)
        return len(where)

    def content(self) -> Content:
        """A copy of everything."""
        with self._lock:
            stored = min(self.added, self._capacity)
            return Content(
                columns=tuple(column[:stored].copy() for column in self._columns),
                leaves=self._tree.get(np.arange(stored)),
                generations=self._generations[:stored].copy(),
                added=self.added,
                joined=0,
                max_priority=self.max_priority,
            )

    def restore(self, content: Content) -> None:
        """Take over `content`."""
        self._leaves(np.array([content.max_priority]))  # that it is possible
        stored = len(content.leaves)
        for column, restored in zip(self._columns, content.columns, strict=True):
            column[:stored] = restored
        self._generations[:stored] = content.generations
        self._tree.set(np.arange(stored), content.leaves)
        self.added = content.added
        self.max_priority = content.max_priority

    def _leaves(self, priorities: NDArray[np.float64]) -> NDArray[np.float64]:
        return leaves_of(priorities, self._alpha, self._eps, self._tree.limit)

    def _raise_maximum(self, priorities: NDArray[np.float64]) -> None:
        self.max_priority = max(self.max_priority, float(priorities.max(initial=0.0)))
