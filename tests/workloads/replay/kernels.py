"""Every implementation of the sum tree that this machine has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workloads.replay.compiled import compiled
from workloads.replay.numpy_tree import NumpyTree

if TYPE_CHECKING:
    from collections.abc import Callable

    from workloads.replay.sum_tree import Kernel

__all__ = ["FAN_OUTS", "MAKERS", "NATIVE", "SCALAR", "every_kernel"]

FAN_OUTS = (2, 4, 8, 16, 32, 64)

NATIVE = compiled("_tree")
SCALAR, AVX2 = 0, 1


def native(capacity: int, fan_out: int, dtype: str, simd: int) -> Kernel:
    tree: Kernel = NATIVE.Tree(capacity, fan_out, np.dtype(dtype))
    assert tree.use(simd)
    return tree


MAKERS: dict[str, Callable[[int, int, str], Kernel]] = {
    "numpy": lambda capacity, fan_out, dtype: NumpyTree(capacity, fan_out, np.dtype(dtype))
}
if NATIVE is not None:
    MAKERS["scalar"] = lambda capacity, fan_out, dtype: native(capacity, fan_out, dtype, SCALAR)
    if NATIVE.Tree(1, 2, np.dtype("float32")).use(AVX2):
        MAKERS["avx2"] = lambda capacity, fan_out, dtype: native(capacity, fan_out, dtype, AVX2)


def every_kernel(capacity: int, fan_out: int, dtype: str) -> list[Kernel]:
    """The same tree in each of them, NumPy's first."""
    return [make(capacity, fan_out, dtype) for make in MAKERS.values()]
