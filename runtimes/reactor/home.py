"""What everything in one worker shares: the program, which part of it lives here, its clock and its queue."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtimes.reactor.errors import ReactionFailed, summary_of
from runtimes.reactor.events import EventQueue, Gate, Inbox
from runtimes.reactor.live import Clock
from runtimes.reactor.observe import Notes

if TYPE_CHECKING:
    from runtimes.reactor.assembly import Assembly
    from runtimes.reactor.partition import Partition
    from runtimes.reactor.trace import Trace
    from runtimes.reactor.watch import Watched

__all__ = ["Home", "Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a program runs, the same for all of its workers."""

    recording: bool = False
    timeline: bool = False
    replay: Trace | None = None
    watch_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Home:
    """One worker's part of a program."""

    partition: Partition
    number: int
    settings: Settings
    gate: Gate | None
    """The way in for events from outside, if there is one."""
    watched: Watched | None = None
    """What tells the watch what runs here, if there is one."""
    assembly: Assembly = field(init=False)
    clocked: bool = field(init=False)
    paths: list[str] = field(init=False)
    """The reactors that live here."""
    ranks: list[int] = field(init=False)
    """Their reactions."""
    inbox: Inbox | None = field(init=False)
    clock: Clock = field(default_factory=Clock)
    queue: EventQueue = field(default_factory=EventQueue)
    notes: Notes = field(default_factory=Notes)
    ready: list[int] = field(default_factory=list)
    """A heap of the ranks that are to run in this tag."""

    def __post_init__(self) -> None:
        """Find out what lives here."""
        self.assembly = self.partition.assembly
        self.clocked = self.assembly.period_ns > 0
        placement = self.partition.placement
        self.paths = [path for path in self.assembly.reactors if placement[path] == self.number]
        rows = enumerate(self.assembly.reactions)
        self.ranks = [rank for rank, row in rows if placement[row.reactor] == self.number]
        self.inbox = None if self.gate is None else Inbox(self.gate, self.number)

    def failure_in(self, where: tuple[str, str], error: BaseException, remedy: str = "") -> ReactionFailed:
        """The failure to report when `where`, reactor and reaction, raised `error`; with a remedy, if one is known."""
        text = "".join(traceback.format_exception(error)) if self.number else ""
        summary = f"{summary_of(error)}. {remedy}" if remedy else summary_of(error)
        return ReactionFailed(*where, (self.clock.time_ns, self.clock.microstep), summary, text)
