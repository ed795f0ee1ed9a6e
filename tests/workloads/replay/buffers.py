"""Prioritized buffers of both kinds: over the ring in C, and over the one in NumPy."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from workloads.replay import PrioritizedReplay, rings
from workloads.replay.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["C_COMPILER", "FIELDS", "KINDS", "NATIVE", "made", "needs_native", "needs_sharing", "rows_of"]

NATIVE = compiled("_ring") is not None
needs_native = pytest.mark.skipif(
    not NATIVE, reason="the native part of the replay buffer is not built; install again with a C compiler"
)
needs_sharing = pytest.mark.skipif(
    not NATIVE or sys.platform != "linux",
    reason="processes share buffers on Linux, where the native part is built; install again there with a C compiler",
)
C_COMPILER = next((name for name in ("gcc", "clang") if shutil.which(name)), None)
KINDS = ("native", "numpy") if NATIVE else ("numpy",)

FIELDS: dict[str, tuple[tuple[int, ...], str]] = {
    "obs": ((11,), "float32"),
    "action": ((), "int64"),
    "image": ((5, 7, 3), "uint8"),
    "reward": ((), "float32"),
    "done": ((), "bool"),
}


def made(kind: str, *arguments: Any, **options: Any) -> PrioritizedReplay:
    """A buffer over the ring of this kind."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == "numpy":
            patch.setattr(rings, "compiled", lambda _: None)
        return PrioritizedReplay(*arguments, **options)


def rows_of(numbers: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Rows of FIELDS, each of which is made of its number alone."""
    n = np.asarray(numbers, np.int64)
    return {
        "obs": (n[..., None] * 11 + np.arange(11)).astype(np.float32),
        "action": n * 3,
        "image": (n[..., None, None, None] + np.arange(105).reshape(5, 7, 3)).astype(np.uint8),
        "reward": n.astype(np.float32) / 2,
        "done": n % 3 == 0,
    }
