"""What is done to a replay buffer when it is measured: transitions, priorities and indices, the same for all of them.

Everything is drawn before the first round, from streams that follow from the seed alone, and so much of it that what
is written and drawn lies all over the buffer: a few batches over and over would stay in the processor's caches. It
comes as contiguous arrays; whoever prefers another form makes it beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from workloads.dataflow import TaskContext

__all__ = ["FIELDS", "TRANSITION_BYTES", "Batch", "Rows", "consecutive", "filling", "scattered"]

Rows = dict[str, "NDArray[Any]"]
"""Transitions: of each field an array with a leading axis."""

FIELDS: Final[Mapping[str, tuple[tuple[int, ...], str]]] = {
    "obs": ((11,), "float32"),
    "action": ((3,), "float32"),
    "reward": ((), "float32"),
    "next_obs": ((11,), "float32"),
    "done": ((), "float32"),
}
"""Shape and dtype of a transition's fields: those of Hopper, in 108 bytes."""

TRANSITION_BYTES: Final = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in FIELDS.values())

_CHUNK: Final = 2**16
"""Rows that are written at a time to fill a buffer."""
_SCATTERED_BATCHES: Final = 512
_CONSECUTIVE_ROWS: Final = 2**14
"""All batches of rows together: 1.8 MB, which a cache of the last level holds, as it does what was just computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one operation writes."""

    indices: NDArray[np.int64]
    """Where: shape `(n,)`."""
    priorities: NDArray[np.float32]
    """Raw, above 0, as absolute errors are: exponentially distributed with mean 1; shape `(n,)`."""
    rows: Rows
    """The transitions; none for a tree, which holds priorities alone."""


def filling(context: TaskContext, capacity: int, *, with_rows: bool) -> Iterator[Batch]:
    """Batches that fill a buffer of `capacity` once, in order."""
    rng = context.rng("filling")
    for first in range(0, capacity, _CHUNK):
        yield _batch(rng, np.arange(first, min(first + _CHUNK, capacity)), with_rows=with_rows)


def consecutive(context: TaskContext, capacity: int, n: int, *, with_rows: bool) -> Sequence[Batch]:
    """Batches of `n` as a writer leaves them, one behind the other from the buffer's start."""
    rng = context.rng("consecutive")
    firsts = range(0, max(_CONSECUTIVE_ROWS, n), n)
    return [_batch(rng, np.arange(first, first + n) % capacity, with_rows=with_rows) for first in firsts]


def scattered(context: TaskContext, capacity: int, n: int) -> Sequence[Batch]:
    """Batches of `n` priorities for indices all over the buffer."""
    rng = context.rng("scattered")
    return [_batch(rng, rng.integers(capacity, size=n), with_rows=False) for _ in range(_SCATTERED_BATCHES)]


def _batch(rng: np.random.Generator, indices: NDArray[np.int64], *, with_rows: bool) -> Batch:
    n = len(indices)
    # Above 0 even where a draw rounds to it.
    priorities = rng.standard_exponential(n, dtype=np.float32) + np.float32(1e-6)
    return Batch(indices=indices, priorities=priorities, rows=_rows(rng, n) if with_rows else {})


def _rows(rng: np.random.Generator, n: int) -> Rows:
    rows = {name: rng.standard_normal((n, *shape), dtype=np.float32) for name, (shape, _) in FIELDS.items()}
    # One in fifty ends an episode.
    rows["done"] = (rng.random(n) < 1 / 50).astype(np.float32)
    return rows
