"""Anonymous shared memory: a file that no path leads to, so that nothing is left behind however its users end."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sys
from pathlib import Path

__all__ = ["memory_file"]

_REMEDIES = {
    errno.ENOSPC: "Lower the capacity, or give the file system of shared memory more room.",
    errno.ENOMEM: "Lower the capacity, or raise the limit of memory (ulimit -v, or the container's).",
    errno.EFBIG: "Lower the capacity, or raise the limit of the size of files (ulimit -f).",
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
}


_LOOK_FIRST_BYTES = 64 << 20
"""Linux kills a process, any process, rather than tell one that there is not as much: from here on it is looked up."""


def memory_file(nbytes: int) -> int:
    """The descriptor of a new file of zeros in memory. It takes all of its memory now: a later lack would kill.

    Raises:
        MemoryError: if there is not as much.
        OSError: for other reasons.
        RuntimeError: on systems other than Linux.
    """
    if sys.platform != "linux":
        raise RuntimeError(
            "shared=True needs memory and locks that outlive a process that is killed, which are Linux's. "
            "Use shared=False, in one process with any number of threads."
        )
    try:
        return _filled(nbytes)
    except OSError as error:
        if error.errno not in _REMEDIES:
            raise
        raise MemoryError(
            f"{nbytes} bytes of shared memory were wanted: {error.strerror}. {_REMEDIES[error.errno]}"
        ) from error


def _filled(nbytes: int) -> int:
    if nbytes >= _LOOK_FIRST_BYTES and nbytes > _available_bytes():
        raise OSError(errno.ENOMEM, f"{_available_bytes()} bytes are available")
    descriptor = os.memfd_create("replay", os.MFD_CLOEXEC)
    try:
        os.posix_fallocate(descriptor, 0, nbytes)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _available_bytes() -> float:
    """How much memory may be taken without others having to make room; infinite where nobody tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return math.inf
