"""The plain loop as a runtime that can be made slower by a factor: what `scripts/check-power real` looks for.

The factor is real: after some rounds the processor is kept busy for that much longer, and it counts as their time.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from runtimes.protocol import Runtime
from runtimes.sequential import SequentialSession

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACTOR = 1.0
_AT_A_TIME = 50
"""Rounds, after which the rest of their time is spent."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """None."""


class SlowedSession(SequentialSession):
    """A loop whose rounds take `FACTOR` times as long."""

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run them, a few at a time, and wait after each few."""
        if FACTOR == 1.0:
            return super().advance(rounds)
        steps = []
        for done in range(0, rounds, _AT_A_TIME):
            durations = super().advance(min(_AT_A_TIME, rounds - done))
            began_ns = perf_counter_ns()
            wanted_ns = int(durations.sum() * (FACTOR - 1))
            while (spent_ns := perf_counter_ns() - began_ns) < wanted_ns:
                pass
            steps.append(durations + spent_ns // len(durations))
        return np.concatenate(steps) if steps else super().advance(0)


RUNTIME = Runtime(
    name="slowed",
    summary="The plain loop, slowed down on purpose.",
    options=Options,
    open=lambda graph, options, scratch: SlowedSession(graph),  # noqa: ARG005 - of the protocol
)
