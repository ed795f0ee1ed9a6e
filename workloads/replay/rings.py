"""The store behind a prioritized buffer: what is asked of it, and which one it is.

`NumpyRing` is the reference, and what runs where nothing was compiled; `NativeRing` (`_ring.pyx` over `native/`) gives
the same bits, faster, and can be shared between processes. Both take what callers gave, and check it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from workloads.replay.compiled import compiled
from workloads.replay.memory_file import memory_file
from workloads.replay.numpy_ring import NumpyRing

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from workloads.replay._ring import NativeRing
    from workloads.replay.content import Content
    from workloads.replay.settings import Settings

__all__ = ["Ring", "new_ring"]


class Ring(Protocol):
    """Rows, the tree over them, and the lock around both."""

    @property
    def added(self) -> int:
        """Insertions so far."""
        ...

    @property
    def joined(self) -> int:
        """Other processes that it was given to so far."""
        ...

    @property
    def max_priority(self) -> float:
        """The largest raw priority so far, at least 1."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of everything, when all room is taken."""
        ...

    @property
    def descriptor(self) -> int:
        """Of the file in memory that processes share it through; -1 without one."""
        ...

    def join(self) -> int:
        """Become one more process that uses it; its number, from 1 on."""
        ...

    def before_fork(self) -> None:
        """A thread of this process is about to fork."""
        ...

    def after_fork(self, is_child: bool) -> None:  # noqa: FBT001
        """It has, and this is the parent or the child, in which other threads are no more."""
        ...

    def add(self, values: dict[str, ArrayLike], priorities: ArrayLike | None) -> NDArray[np.int64]:
        """Store one row, or N, and say where: shape () or (N,)."""
        ...

    def sample(  # noqa: PLR0913, PLR0917 - one call of native code
        self,
        rng: np.random.Generator,
        n: int,
        beta: float,
        by_buffer: bool,  # noqa: FBT001
        stratified: bool,  # noqa: FBT001
        out: Mapping[str, NDArray[Any]] | None,
    ) -> dict[str, NDArray[Any]]:
        """Draw n rows; weights are relative to the batch's least leaf, or to that of the whole buffer."""
        ...

    def update(self, indices: ArrayLike, priorities: ArrayLike, generations: ArrayLike | None) -> int:
        """Give complete rows new priorities, if they still are those, and say to how many."""
        ...

    def content(self) -> Content:
        """A copy of everything, of one moment."""
        ...

    def restore(self, content: Content) -> None:
        """Take over `content`, in a ring that nobody has used.

        Raises:
            ValueError: if a leaf, or that of the largest priority, is above the limit of the tree.
        """
        ...


def new_ring(settings: Settings, descriptor: int = -1) -> Ring:
    """An empty one; or another process's, by the descriptor of its file, which it takes over.

    Raises:
        MemoryError: if there is not enough memory.
        RuntimeError: if it is to be shared and cannot be.
    """
    module = compiled("_ring")
    if module is None and settings.shared:
        raise RuntimeError(
            "shared=True needs the native part of the replay buffer, which is not built. Install a C compiler and "
            "Python's headers, then this package again; or use shared=False, in one process with any number of threads."
        )
    if module is None:
        return NumpyRing(settings)
    native: type[NativeRing] = module.NativeRing
    return native(settings, memory_file if settings.shared and descriptor < 0 else None, descriptor)
