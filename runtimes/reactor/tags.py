"""Time and tags: the units of logical time, and a point in it."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Tag", "ms", "ns", "s", "us"]

ns: Final = 1
"""One nanosecond; time is integer nanoseconds."""
us: Final = 1_000
"""One microsecond."""
ms: Final = 1_000_000
"""One millisecond."""
s: Final = 1_000_000_000
"""One second."""


class Tag(NamedTuple):
    """A point in logical time: nanoseconds since the program's start, then microsteps."""

    time_ns: int
    microstep: int = 0

    def __str__(self) -> str:
        """As people write it: (5000000 ns, 1)."""
        return f"({self.time_ns} ns, {self.microstep})"
