"""A prioritized replay buffer: rows in a ring, drawn in proportion to a power of their priority.

Schaul, Quan, Antonoglou, Silver, Prioritized Experience Replay (ICLR 2016), proportional variant. Rows are made
visible in the order of Zhang, Kuppannagari, Prasanna, Parallel Actors and Learners (arXiv 2110.01101): first
written, then drawable. docs/replay.md shows how to use it, and what it promises to threads and processes.
"""

from __future__ import annotations

import os
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from weakref import WeakSet

import numpy as np

from workloads.replay.buffer import Buffer
from workloads.replay.content import Content
from workloads.replay.rings import new_ring
from workloads.replay.saving import generator_from, generator_state
from workloads.replay.settings import Settings, not_negative
from workloads.replay.tree_arguments import integer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from workloads.replay.rings import Ring

__all__ = ["PrioritizedReplay"]

_Buffer = TypeVar("_Buffer", bound="PrioritizedReplay")

_LIVE: WeakSet[PrioritizedReplay] = WeakSet()
"""Buffers of this process, which a child of it has to look after."""

_FORKING = RLock()
"""Held while the process forks: what is done before is then done after to the same buffers."""


class PrioritizedReplay(Buffer):
    """Stores transitions in a ring, and draws them in proportion to (priority + eps)^alpha.

    Attributes:
        capacity: rows that there is room for; the oldest is overwritten first.
        field_names: names of the fields, in the order given.
        fields: shape and dtype of each field, by name.
        alpha: exponent of priorities; 0 draws uniformly.
        eps: added to every priority that is not 0.
        seed: of the generator.
        shared: can it be used by several processes?
    """

    KIND = "prioritized"

    def __init__(  # noqa: PLR0913, PLR0917 - the interface
        self,
        capacity: int,
        fields: Mapping[str, tuple[int | tuple[int, ...], DTypeLike]],
        alpha: float = 0.6,
        eps: float = 0.0,
        seed: int = 0,
        shared: bool = False,  # noqa: FBT001, FBT002 - part of the interface
        *,
        fan_out: int = 16,
        tree_dtype: DTypeLike = "float32",
    ) -> None:
        """Make an empty buffer.

        Args:
            capacity: rows that there is room for, at least 1.
            fields: shape and dtype of each field, as `{"obs": ((11,), "float32"), "reward": ((), "float32")}`.
            alpha: exponent of priorities, at least 0.
            eps: added to every priority that is not 0, at least 0.
            seed: of the generator, PCG64; not negative.
            shared: whether several processes use it (Linux, with the native part): inherited by those that are
                forked, and sent as an argument to those that are spawned.
            fan_out: children of a node of the sum tree, a power of two from 2 to 64.
            tree_dtype: dtype of leaves and sums, float32 or float64.

        Raises:
            TypeError: if an argument is of the wrong type.
            ValueError: if an argument is out of its range.
            RuntimeError: if it is to be shared and cannot be.
        """
        settings = Settings.of(capacity, fields, alpha, eps, seed, shared, fan_out, tree_dtype)
        self._set_up(settings, new_ring(settings), np.random.Generator(np.random.PCG64(settings.seed)))

    def _set_up(self, settings: Settings, ring: Ring, rng: np.random.Generator | None) -> None:
        """Take over a ring, and a generator; without one, a stream of its own is taken when it is needed."""
        self.fields = {field.name: (field.shape, field.dtype) for field in settings.fields}
        self.field_names = tuple(self.fields)
        self.capacity = settings.capacity
        self.alpha = settings.alpha
        self.eps = settings.eps
        self.seed = settings.seed
        self.shared = settings.shared
        self._settings = settings
        self._ring = ring
        self._rng = rng
        with _FORKING:
            _LIVE.add(self)

    def __len__(self) -> int:
        """Rows stored, `capacity` at most."""
        return min(self._ring.added, self.capacity)

    def __repr__(self) -> str:
        """Says what is stored, and how much of it."""
        return (
            f"{type(self).__name__}({len(self)} of {self.capacity} rows of {', '.join(self.field_names)}; "
            f"alpha={self.alpha}, eps={self.eps}, shared={self.shared})"
        )

    @property
    def max_priority(self) -> float:
        """The largest raw priority ever given, at least 1: what rows get that are added without one."""
        return self._ring.max_priority

    def get_max_priority(self) -> float:
        """As `max_priority`; cpprb's name for it."""
        return self.max_priority

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is stored, when all room is taken."""
        return self._ring.nbytes

    def add(self, *, priorities: ArrayLike | None = None, **values: ArrayLike) -> NDArray[np.int64]:
        """Store one row, or N; the oldest rows make room.

        Args:
            priorities: of the row, or of each, shape (N,); without them, the largest raw priority ever given.
            values: every field, of shape `shape` for one row, or (N, *shape); cast as `same_kind`.

        Returns:
            Where the rows are, int64, of shape () for one row and (N,) for N.

        Raises:
            TypeError: if a field is missing, unknown, or of a dtype that cannot be cast.
            ValueError: if a shape does not fit, or a priority is NaN, negative or infinite.
        """
        return self._ring.add(values, priorities)

    def sample(
        self,
        n: int,
        beta: float = 0.4,
        normalise: Literal["batch", "buffer"] = "batch",
        stratified: bool = False,  # noqa: FBT001, FBT002 - part of the interface
        out: Mapping[str, NDArray[Any]] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Draw n rows, each in proportion to its (priority + eps)^alpha, with replacement.

        Args:
            n: how many, at least 1.
            beta: exponent of the importance weights, at least 0.
            normalise: "batch": the largest weight of the batch is 1; "buffer": that of the whole buffer would be.
            stratified: draw one row of each n-th of the priorities' sum.
            out: C-contiguous arrays to write into, by name, of the shapes and dtypes below; others are made.

        Returns:
            Every field, shape (n, *shape); `indices` (n,), int64, where each row is; `weights` (n,), float32;
            `generations` (n,), int64: the number of the insertion, which tells rows of one index apart.

        Raises:
            ValueError: if no row has a positive priority, or an argument is out of its range.
        """
        rows = integer("n", n)
        if rows < 1:
            raise ValueError(f"n is {n}, but at least 1 row is drawn.")
        if normalise not in {"batch", "buffer"}:
            raise ValueError(f'normalise is {normalise!r}, but weights are normalised by "batch" or "buffer".')
        rng = self._rng or self._own_stream()
        return self._ring.sample(rng, rows, not_negative("beta", beta), normalise == "buffer", bool(stratified), out)

    def update_priorities(self, indices: ArrayLike, priorities: ArrayLike, generations: ArrayLike | None = None) -> int:
        """Give rows new priorities; of an index given several times, the last counts.

        Args:
            indices: of the rows, integers, shape (N,), as `sample` and `add` give them; or of one row, a number.
            priorities: one for each, of the same shape; 0 means never to be drawn.
            generations: as `sample` gives them, of the same shape: rows overwritten since keep their priority.

        Returns:
            How many of the N were still those rows.

        Raises:
            IndexError: if an index is not inside what is stored.
            TypeError: if indices or generations are no integers, or priorities no real numbers.
            ValueError: if shapes differ, or a priority is NaN, negative or infinite.
        """
        return self._ring.update(indices, priorities, generations)

    def get_all_transitions(self) -> dict[str, NDArray[Any]]:
        """A copy of every complete row, of one moment, the oldest first: each field, shape (N, *shape)."""
        content = self._ring.content()
        order = np.argsort(content.generations)[np.count_nonzero(content.generations < 0) :]
        return {name: column[order] for name, column in zip(self.fields, content.columns, strict=True)}

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Everything of one moment, the generator's state too: what JSON knows, and arrays by name."""
        rng = self._rng or self._own_stream()  # counted in the content
        content = self._ring.content()
        config = {**self._settings.as_config(), **content.numbers(), "generator": generator_state(rng)}
        return config, content.arrays(self._settings)

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """As `Buffer.from_state` says."""
        settings = Settings.from_config(config)
        content = Content.of(settings, config, arrays)
        return _copied(cls, settings, content, generator_from(config["generator"]))

    def __reduce__(self) -> tuple[Callable[..., PrioritizedReplay], tuple[Any, ...]]:
        """A shared buffer travels to another process as it is, through its file's descriptor; others as a copy."""
        if not self.shared:
            return _copied, (type(self), self._settings, self._ring.content(), self._rng)
        from multiprocessing.reduction import DupFd

        return _joined, (type(self), self._settings, DupFd(self._ring.descriptor))

    def _own_stream(self) -> np.random.Generator:
        """Process number k that joined draws from a stream of its own, made of the seed and the spawn key (k,)."""
        number = self._ring.join()
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(number,))))
        return self._rng


def _copied(cls: type[_Buffer], settings: Settings, content: Content, rng: np.random.Generator) -> _Buffer:
    ring = new_ring(settings)
    ring.restore(content)
    return _made(cls, settings, ring, rng)


def _joined(cls: type[_Buffer], settings: Settings, duplicate: Any) -> _Buffer:
    """The buffer of another process; `duplicate` was a `DupFd` there, whose class depends on how it came here."""
    return _made(cls, settings, new_ring(settings, duplicate.detach()), None)


def _made(cls: type[_Buffer], settings: Settings, ring: Ring, rng: np.random.Generator | None) -> _Buffer:
    buffer = cls.__new__(cls)
    buffer._set_up(settings, ring, rng)  # noqa: SLF001 - of this module
    return buffer


def _before_fork() -> None:
    _FORKING.acquire()
    for buffer in _LIVE:
        buffer._ring.before_fork()  # noqa: SLF001


def _after_fork(*, is_child: bool) -> None:
    for buffer in _LIVE:
        buffer._ring.after_fork(is_child)  # noqa: SLF001
        if is_child and buffer.shared:
            buffer._rng = None  # noqa: SLF001 - the parent goes on with it
    _FORKING.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=partial(_after_fork, is_child=False),
    after_in_child=partial(_after_fork, is_child=True),
)
