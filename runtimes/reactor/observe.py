"""What one worker notes of a run, if asked to: steps with digests for a trace, spans for a timeline.

Nothing here is called unless a recording or a timeline was asked for: bodies are wrapped, or they are not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from runtimes.reactor.trace import PhysicalEvent, Step, WatchdogExpiry, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtimes.reactor.assembly import ReactionRow
    from runtimes.reactor.live import Clock, LiveOutput
    from runtimes.reactor.tags import Tag

__all__ = ["Notes"]


@dataclass(slots=True)
class Notes:
    """What one worker has noted; it travels to the caller when the program has ended."""

    steps: list[tuple[int, int, Step]] = field(default_factory=list)
    """Number of the tag, rank, and the step."""
    physical: list[PhysicalEvent] = field(default_factory=list)
    expiries: list[WatchdogExpiry] = field(default_factory=list)
    spans: list[tuple[int, int, int, int]] = field(default_factory=list)
    """What (a rank; -1 - w: waiting for worker w; DECIDING), number of the tag, begin and end in nanoseconds."""
    tags: dict[int, Tag] = field(default_factory=dict)
    """Of the numbers in `spans`."""

    def take(self, other: Notes, *, spans: bool) -> None:
        """Take over what another worker has noted."""
        self.steps += other.steps
        self.physical += other.physical
        self.expiries += other.expiries
        self.tags |= other.tags
        if spans:
            self.spans += other.spans

    def stepping(  # noqa: PLR0913 - what a step is made of
        self,
        body: Callable[[], object],
        row: ReactionRow,
        rank: int,
        clock: Clock,
        outputs: Sequence[tuple[str, LiveOutput]],
        *,
        late: bool,
    ) -> Callable[[], None]:
        """`body`, noting that it ran and what it had set then."""

        def run() -> None:
            body()
            present = tuple(
                sorted(
                    (name, channel, digest_of(value))
                    for name, live in outputs
                    for channel, value in live.present_values()
                )
            )
            step = Step(clock.time_ns, clock.microstep, row.reactor, row.name, late, present)
            self.steps.append((clock.number, rank, step))

        return run

    def timed(self, body: Callable[[], object], what: int, clock: Clock) -> Callable[[], Any]:
        """`body`, noting when it began and ended."""
        spans = self.spans

        def run() -> Any:
            begin = perf_counter_ns()
            result = body()
            spans.append((what, clock.number, begin, perf_counter_ns()))
            return result

        return run
