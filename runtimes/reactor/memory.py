"""Anonymous shared memory: it has no name in the file system, so nothing can be left behind.

A segment is a file without a name that all processes of a program map; it goes when the last of them
does, however they end. A segment may grow: who wrote past the end says so, others map it anew.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile
from multiprocessing.reduction import DupFd
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["ALIGNMENT", "Segment", "aligned", "item_stride", "items_in"]

ALIGNMENT = 128
"""Arrays begin at multiples of this: two cache lines, as neighbours are often fetched in pairs."""


CACHE_LINE = 64


def aligned(offset: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


class Segment:
    """Zeroed memory that processes share through an inherited or duplicated file descriptor."""

    def __init__(self, nbytes: int, *, descriptor: int | None = None) -> None:
        """Make a segment of at least `nbytes`, or map the one behind `descriptor`."""
        if descriptor is None:
            self.descriptor = _nameless_file()
            os.ftruncate(self.descriptor, max(mmap.PAGESIZE, nbytes))
        else:
            self.descriptor = descriptor
        self._map_anew()

    def __len__(self) -> int:
        """Bytes mapped in this process."""
        return len(self.memory)

    def grow(self, nbytes: int) -> None:
        """Make the segment at least `nbytes` long. Views of the old mapping stay valid."""
        os.ftruncate(self.descriptor, max(nbytes, 2 * len(self)))
        self._map_anew()

    def reach(self, nbytes: int) -> memoryview:
        """The segment's memory, mapped anew if another process made it grow past what is mapped here."""
        if nbytes > len(self):
            self._map_anew()
        return self.memory

    def __reduce__(self) -> tuple[Callable[[Any], Segment], tuple[Any]]:
        """Travel to a process that is being spawned, as a duplicate of the descriptor."""
        return _attach, (DupFd(self.descriptor),)

    def close(self) -> None:
        """Let go of memory and descriptor; where arrays still show the memory, it goes with the last of them."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            with contextlib.suppress(BufferError):
                self.memory.release()
                self._map.close()

    def _map_anew(self) -> None:
        self._map = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
        self.memory = memoryview(self._map)


def _attach(descriptor: Any) -> Segment:
    """The segment behind a descriptor that came with this process (a `DupFd`, whose class depends on the context)."""
    return Segment(0, descriptor=descriptor.detach())


def item_stride(shape: Sequence[int], dtype: str) -> int:
    """Bytes from one item to the next: workers that write neighbouring items share no cache line."""
    nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return -(-nbytes // CACHE_LINE) * CACHE_LINE


def items_in(memory: memoryview, offset: int, lead: tuple[int, int], shape: Sequence[int], dtype: str) -> NDArray[Any]:
    """The array of shape `(*lead, *shape)` at `offset` of `memory`, its items `item_stride` bytes apart."""
    stride = item_stride(shape, dtype)
    inner = np.empty(shape, dtype).strides
    buffer = memory[offset : offset + lead[0] * lead[1] * stride]
    return np.ndarray((*lead, *shape), dtype, buffer, strides=(lead[1] * stride, stride, *inner))


def _nameless_file() -> int:
    """A descriptor of an empty file in memory that no path leads to."""
    if sys.platform == "linux":
        return os.memfd_create("reactor", os.MFD_CLOEXEC)
    descriptor, path = tempfile.mkstemp(prefix="reactor-")
    os.unlink(path)  # noqa: PTH108 - the descriptor is what counts
    return descriptor
