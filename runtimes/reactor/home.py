"""What everything in one worker shares: the program, which part of it lives here, its clock and its queue."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from runtimes.reactor.board import Aborted
from runtimes.reactor.errors import ReactionFailed, ReactorError, summary_of
from runtimes.reactor.events import EventQueue, Gate, Inbox
from runtimes.reactor.live import Clock
from runtimes.reactor.observe import Notes
from runtimes.reactor.relays import Relay

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
    """The reactors that live here, without `delays`."""
    delays: list[Relay] = field(init=False)
    """Connections of senders that live here: they do nothing but delay, so their reactions never run."""
    ranks: list[int] = field(init=False)
    """The reactions that run here."""
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
        here = [reactor for path, reactor in self.assembly.reactors.items() if placement[path] == self.number]
        self.delays = [reactor for reactor in here if isinstance(reactor, Relay) and self._only_delays(reactor)]
        running = {reactor.path for reactor in here} - {relay.path for relay in self.delays}
        self.paths = [reactor.path for reactor in here if reactor.path in running]
        self.ranks = [rank for rank, row in enumerate(self.assembly.reactions) if row.reactor in running]
        self.inbox = None if self.gate is None else Inbox(self.gate, self.number)

    def _only_delays(self, relay: Relay) -> bool:
        """Whether an event alone can hand on what `relay` delays. An array may stay in its slot for one tag."""
        if relay.after_ns is None or self.assembly.mode_of[relay.path] is not None:
            return False
        return not relay.copies or relay.after_ns == self.assembly.period_ns

    def failure_in(self, where: tuple[str, str], error: BaseException, remedy: str = "") -> ReactionFailed:
        """The failure to report when `where`, reactor and reaction, raised `error`; with a remedy, if one is known."""
        text = "".join(traceback.format_exception(error)) if self.number else ""
        summary = f"{summary_of(error)}. {remedy}" if remedy else summary_of(error)
        return ReactionFailed(*where, (self.clock.time_ns, self.clock.microstep), summary, text)

    def fail(self, rank: int, error: Exception) -> NoReturn:
        """Raise what to report: `error` if the runtime raised it, else which reaction (-1: none) raised it.

        Raises:
            ReactionFailed: where a reaction raised, or did what it does not declare.
            ReactorError: what the runtime raised.
        """
        if isinstance(error, Aborted | ReactionFailed) or (rank < 0 and isinstance(error, ReactorError)):
            raise error
        row = None if rank < 0 else self.assembly.reactions[rank]
        where = ("the runtime", f"worker {self.number}") if row is None else (row.reactor, row.name)
        raise self.failure_in(where, error) from error
