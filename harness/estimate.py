"""How long a run will take, roughly.

An invocation takes the start and end of its runtime, warm-up, and measuring. Before anything has run,
the first is guessed from the kind of runtime and the warm-up counts half of `measure_s`; what has been
seen in the run takes the place of the guess.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.plan import Invocation

__all__ = ["Estimator", "in_minutes"]

_RAY_START_AND_END_S = 8.0
"""A local cluster with its actors: 4 to 9 s on two processors."""
_START_AND_END_S = 1.5
"""An interpreter, its imports and a few worker processes."""
_WARM_UP_SHARE = 0.5


class Estimator:
    """Guesses, and learns from what has ended."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._same_cell: dict[tuple[str, ...], list[float]] = {}
        self._same_runtime: dict[str, list[float]] = {}

    def learn(self, invocation: Invocation, elapsed_s: float) -> None:
        """Take note of how long `invocation` took."""
        self._same_cell.setdefault(invocation.key[:4], []).append(elapsed_s)
        self._same_runtime.setdefault(invocation.runtime.name, []).append(elapsed_s)

    def seconds(self, invocation: Invocation) -> float:
        """How long `invocation` will take: as before in its cell, else as its runtime elsewhere, else a guess."""
        seen = self._same_cell.get(invocation.key[:4]) or self._same_runtime.get(invocation.runtime.name)
        if seen:
            return fmean(seen)
        fixed_s = _RAY_START_AND_END_S if invocation.runtime.name.startswith("ray") else _START_AND_END_S
        return fixed_s + (1 + _WARM_UP_SHARE) * invocation.cell.measure_s


def in_minutes(seconds: float) -> str:
    """`3 min 20 s`, `45 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
