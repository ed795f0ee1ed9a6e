"""Anonymous shared memory: it has no name in the file system, so nothing can be left behind.

A segment is a file without a name that all processes of a program map; it goes when the last of them
does, however they end. A segment may grow: who wrote past the end says so, others map it anew.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sys
import tempfile
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtimes.reactor.errors import OutOfSharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["ALIGNMENT", "Segment", "aligned", "item_stride", "items_in", "out_of_memory_named"]

ALIGNMENT = 128
"""Arrays begin at multiples of this: two cache lines, as neighbours are often fetched in pairs."""


CACHE_LINE = 64

_LOOK_FIRST_BYTES: Final = 64 << 20
"""Linux kills a process that takes more than there is, rather than tell it; from here on it is looked up before."""

_REMEDIES: Final = {
    errno.ENOSPC: "Give the file system of shared memory more room (mount -o remount,size=... /dev/shm), or send less.",
    errno.ENOMEM: "Use fewer workers or smaller values, or raise the limit of memory (ulimit -v, or the container's).",
    errno.EFBIG: "Raise the limit of the size of files (ulimit -f), or send less.",
    errno.EMFILE: "Raise the limit of open files (ulimit -n), or use fewer workers.",
    errno.ENFILE: "Raise the system's limit of open files (fs.file-max), or use fewer workers.",
}
"""What helps when the operating system has no more to give."""


def aligned(offset: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


class Segment:
    """Zeroed memory that processes share through an inherited or duplicated file descriptor."""

    def __init__(self, nbytes: int, *, purpose: str = "a segment", descriptor: int | None = None) -> None:
        """Make a segment of at least `nbytes` for `purpose`, or map the one behind `descriptor`.

        Raises:
            OutOfSharedMemory: if there is not as much.
        """
        self.descriptor = -1
        self._purpose = purpose
        with out_of_memory_named(nbytes, purpose):
            if descriptor is None:
                self.descriptor = _nameless_file()
                _reserve(self.descriptor, max(mmap.PAGESIZE, nbytes))
            else:
                self.descriptor = descriptor
            self._map_anew()

    def __len__(self) -> int:
        """Bytes mapped in this process."""
        return len(self.memory)

    def grow(self, nbytes: int) -> None:
        """Make the segment at least `nbytes` long. Views of the old mapping stay valid.

        Raises:
            OutOfSharedMemory: if there is not as much.
        """
        with out_of_memory_named(nbytes, self._purpose):
            try:
                _reserve(self.descriptor, max(nbytes, 2 * len(self)))
            except OSError:
                _reserve(self.descriptor, nbytes)
            self._map_anew()

    def reach(self, nbytes: int) -> memoryview:
        """The segment's memory, mapped anew if another process made it grow past what is mapped here."""
        if nbytes > len(self):
            with out_of_memory_named(nbytes, self._purpose):
                self._map_anew()
        return self.memory

    def __reduce__(self) -> tuple[Callable[[Any, str], Segment], tuple[Any, str]]:
        """Travel to a process that is being spawned, as a duplicate of the descriptor."""
        return _attach, (DupFd(self.descriptor), self._purpose)

    def __del__(self, is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        """Let go of what an error or an interrupt has left half made.

        When the interpreter ends everything goes anyway, and the modules that this needs may have gone before.
        """
        if not is_ending():
            self.close()

    def close(self) -> None:
        """Let go of memory and descriptor; where arrays still show the memory, it goes with the last of them."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            with contextlib.suppress(BufferError, AttributeError):  # mapped nothing, if the making failed
                self.memory.release()
                self._map.close()

    def _map_anew(self) -> None:
        self._map = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
        self.memory = memoryview(self._map)


@contextlib.contextmanager
def out_of_memory_named(nbytes: int, purpose: str) -> Iterator[None]:
    """Say of a shortage of memory or descriptors how much was wanted for what, which limit was met, and what helps.

    Raises:
        OutOfSharedMemory: in place of the operating system's error.
    """
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        raise OutOfSharedMemory(
            f"{nbytes} bytes of shared memory were wanted for {purpose}: {error.strerror}. {remedy}"
        ) from error


def _reserve(descriptor: int, nbytes: int) -> None:
    """Make a file in memory `nbytes` long, and have the memory now: a write to what is not there kills a process.

    Raises:
        OSError: if there is not as much.
    """
    held = os.fstat(descriptor).st_size
    if nbytes <= held:
        return
    if (
        nbytes - held >= _LOOK_FIRST_BYTES
        and (available := _available_bytes()) is not None
        and nbytes - held > available
    ):
        raise OSError(errno.ENOMEM, f"{available} bytes are available")
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, held, nbytes - held)
    else:
        os.ftruncate(descriptor, nbytes)


def _available_bytes() -> int | None:
    """How much memory may be taken without others having to make room; None where nobody tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def _attach(descriptor: Any, purpose: str) -> Segment:
    """The segment behind a descriptor that came with this process (a `DupFd`, whose class depends on the context)."""
    return Segment(0, purpose=purpose, descriptor=descriptor.detach())


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
