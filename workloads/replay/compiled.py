"""The parts in C, where they were built; without them it is said once that NumPy does their work."""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from typing import Any

__all__ = ["compiled"]


@cache
def compiled(name: str) -> Any:
    """The extension module of this name in this package, or None."""
    try:
        return importlib.import_module(f"workloads.replay.{name}")
    except ImportError as error:
        _say_once(str(error))
        return None


@cache
def _warned() -> list[str]:
    return []


def _say_once(reason: str) -> None:
    if not _warned():
        warnings.warn(
            f"The replay buffer works in NumPy, several times slower, and for one process only: {reason}. Install a C "
            "compiler and Python's headers (gcc and python3-dev on Debian), then this package again.",
            RuntimeWarning,
            stacklevel=5,
        )
    _warned().append(reason)
