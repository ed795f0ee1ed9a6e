"""Modes while a program runs: which are active, and the events of those that are not.

A modal reactor and all that it contains live in one worker. Transitions take effect after the tag,
before the worker proposes its next one. The time of an inactive mode stands still: its events are taken
out of the queue and parked with the time that is left.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

from runtimes.reactor.errors import UndeclaredError
from runtimes.reactor.reactions import reset, startup
from runtimes.reactor.tags import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runtimes.reactor.assembly import Assembly
    from runtimes.reactor.elements import Mode
    from runtimes.reactor.events import EventQueue, EventSource, Holder, LiveTimer

__all__ = ["LiveModes", "ModeTable"]


class LiveModes:
    """The modes of one reactor."""

    def __init__(self, modes: Mapping[int, Mode], may_enter: Mapping[Mode, frozenset[int]]) -> None:
        """Modes by number; reactions by rank may enter them."""
        self.modes = modes
        self._may_enter = may_enter
        self._number = {id(mode): number for number, mode in modes.items()}
        self.initial = next(number for number, mode in modes.items() if mode.initial)
        self.now = self.initial
        self.next: tuple[int, bool] | None = None
        """What was asked for last in this tag: the mode, and whether its history counts."""

    @property
    def current(self) -> Mode:
        """The mode it is in."""
        return self.modes[self.now]

    def enter(self, mode: Mode, rank: int, *, history: bool) -> None:
        """Enter `mode` after the tag.

        Raises:
            UndeclaredError: in a reaction that may not.
        """
        if rank not in self._may_enter[mode]:
            raise UndeclaredError(f"This reaction enters mode '{mode}' but does not declare it. Name it in `effects`.")
        self.next = self._number[id(mode)], history


class ModeTable:
    """All modes of one worker."""

    def __init__(
        self,
        assembly: Assembly,
        live: Mapping[str, LiveModes],
        queue: EventQueue,
        timers: Sequence[LiveTimer],
        trigger: Callable[[Sequence[int], int, Tag], None],
    ) -> None:
        """Modes of the reactors in `live`; `trigger` lets reactions of a mode run at a tag, by rank."""
        rows = assembly.modes
        self._assembly = assembly
        self._live = live
        self._queue = queue
        self._timers = timers
        self._trigger = trigger
        self._parents = [row.parent for row in rows]
        self._within = [
            frozenset(other for other in range(len(rows)) if number in self._chain(other))
            for number in range(len(rows))
        ]
        self.active = [False] * len(rows)
        self.started = [False] * len(rows)
        self._parked: list[list[tuple[int, int, Tag, EventSource, Holder]]] = [[] for _ in rows]
        self._startups = [_ranks(assembly, number, startup) for number in range(len(rows))]
        self._resets = [_ranks(assembly, number, reset) for number in range(len(rows))]

    def begin(self) -> None:
        """Be in the initial modes; what starts up in them is up to the first tag."""
        self._refresh()
        self.started = list(self.active)

    def apply(self, now: Tag) -> None:
        """Carry out the transitions of the tag that is over; contained reactors first."""
        changing = [modes for modes in reversed(list(self._live.values())) if modes.next is not None]
        if not changing:
            return
        started = self.started.copy()
        for modes in changing:
            assert modes.next is not None
            (number, history), modes.next = modes.next, None
            if history and number == modes.now:
                continue
            if self.active[modes.now]:
                self._leave(modes.now, now)
            modes.now = number
            self._enter(number, now, history=history)
        # One that was entered while a mode around it was left has never been active.
        facts = zip(self.started, started, self.active, strict=True)
        self.started = [begun and (before or active) for begun, before, active in facts]

    def adopt(self, other: ModeTable, counterpart: Callable[[EventSource], EventSource | None]) -> None:
        """Be where `other` was; parked events come from the counterparts of their sources."""
        for path, modes in self._live.items():
            modes.now, modes.next = other._live[path].now, other._live[path].next
        self.started = list(other.started)
        for number, parked in enumerate(other._parked):
            for left_ns, steps, tag, source, holder in parked:
                mine = counterpart(source)
                if mine is not None:
                    self._parked[number].append((left_ns, steps, tag, mine, holder))
        self._refresh()

    def park(self, tag: Tag, source: EventSource, holder: Holder, now: Tag) -> None:
        """Park an event that was scheduled for an inactive mode."""
        assert source.mode is not None
        self._parked[source.mode].append(_parked(tag, source, holder, now))

    def accepts(self, source: EventSource) -> bool:
        """Whether the mode of `source` is active; an event from outside is dropped with a warning if not."""
        if source.mode is None or self.active[source.mode]:
            return True
        row = self._assembly.modes[source.mode]
        warnings.warn(f"An event for the inactive mode '{row.mode}' was dropped.", RuntimeWarning, stacklevel=2)
        return False

    def _chain(self, number: int | None) -> list[int]:
        """The mode and all that contain it."""
        chain = []
        while number is not None:
            chain.append(number)
            number = self._parents[number]
        return chain

    def _refresh(self) -> None:
        """Find out which modes are active."""
        current = {modes.now for modes in self._live.values()}
        for number, parent in enumerate(self._parents):
            self.active[number] = number in current and (parent is None or self.active[parent])

    def _leave(self, number: int, now: Tag) -> None:
        """Park the events of a mode and of all modes in it."""
        for time_ns, microstep, _, source, holder in self._queue.take(self._within[number]):
            tag = Tag(time_ns, microstep)
            source.moved(tag, None)
            self.park(tag, source, holder, now)

    def _enter(self, number: int, now: Tag, *, history: bool) -> None:
        """Go on where the mode was left, or begin anew."""
        after = Tag(now.time_ns, now.microstep + 1)
        fresh = not self.started[number]
        if history and not fresh:
            self._refresh()
            parked = sorted(
                (event for mode in self._active_in(number) for event in self._parked[mode]), key=lambda event: event[:2]
            )
            for mode in self._active_in(number):
                self._parked[mode] = []
            for left_ns, steps, _, source, holder in parked:
                self._put_back(
                    Tag(now.time_ns + left_ns, steps if left_ns else now.microstep + max(steps, 1)), source, holder
                )
        else:
            self._reset(number, now, after)
        for mode in self._active_in(number):
            if not history:
                self._trigger(self._resets[mode], mode, after)
            if not self.started[mode]:
                self.started[mode] = True
                self._trigger(self._startups[mode], mode, after)

    def _reset(self, number: int, now: Tag, after: Tag) -> None:
        """Put contained reactors into their initial modes; of what is active then, begin anew.

        A contained mode that is not entered keeps its events and its state: it is history.
        """
        for path, modes in self._live.items():
            if self._assembly.mode_of[path] in self._within[number]:
                modes.now, modes.next = modes.initial, None
        self._refresh()
        active = set(self._active_in(number))
        for mode in active:
            self._parked[mode] = []
        self._restore(active)
        for timer in self._timers:
            if timer.mode in active:
                timer.start(now.time_ns, after.microstep)

    def _restore(self, active: set[int]) -> None:
        """Give marked state its first value: that of modes, and that of reactors in modes."""
        for path, reactor in self._assembly.reactors.items():
            for name, state in reactor.declared.states.items():
                if self._assembly.mode_index(path, state.mode) in active:
                    setattr(reactor, name, copy.deepcopy(state.first))

    def _active_in(self, number: int) -> list[int]:
        """The active ones among the mode and those in it."""
        return [mode for mode in sorted(self._within[number]) if self.active[mode]]

    def _put_back(self, tag: Tag, source: EventSource, holder: Holder) -> None:
        """Insert a parked event again."""
        free: Any = getattr(source, "free_from", None)
        if free is not None:
            tag = Tag(tag.time_ns, free(*tag))
        source.moved(tag, tag)
        self._queue.put(tag.time_ns, tag.microstep, source, holder)


def _ranks(assembly: Assembly, number: int, trigger: object) -> list[int]:
    """Reactions of a mode with that trigger."""
    rows = enumerate(assembly.reactions)
    return [rank for rank, row in rows if row.mode == number and trigger in row.declared.triggers]


def _parked(tag: Tag, source: EventSource, holder: Holder, now: Tag) -> tuple[int, int, Tag, EventSource, Holder]:
    """The event with the time and, for none, the microsteps that are left."""
    left_ns = tag.time_ns - now.time_ns
    return left_ns, tag.microstep if left_ns else tag.microstep - now.microstep, tag, source, holder
