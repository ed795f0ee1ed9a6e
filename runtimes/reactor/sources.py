"""Where the events of one worker come from: its timers, actions, modes and watchdogs."""

from __future__ import annotations

import pickle
import threading
from collections import defaultdict
from heapq import heappush
from typing import TYPE_CHECKING, Any

from runtimes.reactor.elements import LogicalAction, Mode, PhysicalAction, Timer, Watchdog
from runtimes.reactor.errors import ReactorError
from runtimes.reactor.events import LiveAction, LiveDelay, LivePhysicalAction, LiveTimer, LiveWatchdog
from runtimes.reactor.live import Cell
from runtimes.reactor.modes import LiveModes, ModeTable
from runtimes.reactor.relays import Hidden
from runtimes.reactor.tags import Tag
from runtimes.reactor.trace import PhysicalEvent, WatchdogExpiry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtimes.reactor.events import EventSource
    from runtimes.reactor.home import Home
    from runtimes.reactor.reactions import Handler
    from runtimes.reactor.trace import Trace

__all__ = ["Sources"]


class Sources:
    """Timers, actions, modes and watchdogs of one worker."""

    def __init__(self, home: Home) -> None:
        """Make them."""
        self.timers: list[LiveTimer] = []
        self.actions: dict[Any, LiveAction] = {}
        self.delays: dict[Any, LiveDelay] = {}
        """Delayed connections, by the actions of their relays."""
        self.modal: dict[str, LiveModes] = {}
        """Of reactors with modes, which."""
        self.modes: ModeTable | None = None
        self.busy: threading.Lock | None = None
        """Held in a tag if there are watchdogs, whose handlers run in threads of their own."""
        self.failure: BaseException | None = None
        """What went wrong in such a thread."""
        self._home = home
        self._watchdogs: dict[str, LiveWatchdog] = {}
        self._expired: list[WatchdogExpiry] = []
        """Of a recorded run, those after the tag at hand."""
        self._triggered: dict[Any, list[int]] = defaultdict(list)
        self._effect_of: dict[Any, set[int]] = defaultdict(set)
        for rank in home.ranks:
            declared = home.assembly.reactions[rank].declared
            for trigger in declared.triggers:
                self._triggered[trigger].append(rank)
            for effect in declared.effects:
                self._effect_of[effect].add(rank)
        for path in home.paths:
            self._bind(path)
        for relay in home.delays:
            self.delays[relay.carried] = LiveDelay(relay.carried, home.clock, home.queue)
        if self.modal:
            self.modes = ModeTable(home.assembly, self.modal, home.queue, self.timers, self._trigger_at)
            for action in self.actions.values():
                action.modes = None if action.mode is None else self.modes
        for path in home.paths:
            self._bind_watchdogs(path)

    def begin(self) -> None:
        """Be at the beginning: what timers do, and what was recorded from outside, stands in the queue."""
        if self.modes is not None:
            self.modes.begin()
        if self._home.clocked:
            return
        for timer in self.timers:
            if timer.mode is None or (self.modes is not None and self.modes.active[timer.mode]):
                timer.start(0, 0)
        if self._home.settings.replay is not None:
            self._insert(self._home.settings.replay)

    def adopt(self, other: Sources) -> None:
        """Be where `other` was, whose worker ran the whole program."""
        for action, live in self.actions.items():
            live.adopt(other.actions[action])
        if self.modes is not None and other.modes is not None:
            self.modes.adopt(other.modes, self._counterpart)
        for time_ns, microstep, _, source, holder in sorted(other._home.queue.heap):
            mine = self._counterpart(source)
            if mine is not None and holder:
                self._home.queue.put(time_ns, microstep, mine, holder)

    def after_tag(self) -> None:
        """Carry out transitions, and let watchdogs expire that did so here in a recorded run."""
        clock = self._home.clock
        if self.modes is not None:
            self.modes.apply(clock.tag)
        for expiry in self._expired:
            self._watchdogs[expiry.watchdog].expire(expiry.earliest)
        self._expired.clear()

    def end(self) -> None:
        """End the threads of watchdogs, and of actions that other processes schedule."""
        for action in self.actions.values():
            if isinstance(action, LivePhysicalAction):
                action.end()
        for watchdog in self._watchdogs.values():
            watchdog.end()

    def _bind(self, path: str) -> None:
        """Make the timers, actions and modes of one reactor."""
        home, assembly = self._home, self._home.assembly
        own: dict[int, Mode] = {}
        for element in assembly.reactors[path].declared.elements.values():
            mode = assembly.mode_index(path, element if isinstance(element, Mode) else element.mode)
            if isinstance(element, Timer) and not home.clocked:
                self.timers.append(LiveTimer(element, home.queue, home.ready, self._triggered[element], mode))
            elif isinstance(element, LogicalAction | PhysicalAction):
                self.actions[element] = self._action(path, element, mode)
            elif isinstance(element, Mode):
                assert mode is not None
                own[mode] = element
        if own:
            may_enter = {mode: frozenset(self._effect_of[mode]) for mode in own.values()}
            self.modal[path] = LiveModes(own, may_enter)

    def _action(self, path: str, element: LogicalAction[Any] | PhysicalAction[Any], mode: int | None) -> LiveAction:
        """What one action runs as."""
        home = self._home
        cell = Cell(() if home.clocked else tuple(self._triggered[element]))
        parts = (element, cell, home.clock, home.ready, home.queue, mode, frozenset(self._effect_of[element]))
        if isinstance(element, LogicalAction):
            return LiveAction(*parts)
        assert home.inbox is not None
        trace = home.settings.replay
        hidden = isinstance(home.assembly.reactors[path], Hidden)
        tags = None
        if trace is not None and hidden:
            tags = [Tag(e.time_ns, e.microstep) for e in trace.physical if e.action == str(element)]

        def fail(error: BaseException) -> None:
            self._fail_outside(home.failure_in((path, element.name), error))

        action = LivePhysicalAction(*parts, inbox=home.inbox, replayed=trace is not None, tags=tags, on_failure=fail)
        if home.settings.recording:
            name, physical = str(element), home.notes.physical

            def note(tag: Tag, value: Any) -> None:
                try:
                    physical.append(PhysicalEvent(name, *tag) if hidden else PhysicalEvent.of(name, tag, value))
                except (pickle.PicklingError, TypeError, AttributeError) as error:
                    raise ReactorError(
                        f"Physical action '{name}' was scheduled with a value that cannot be recorded ({error}). "
                        "Give one that can be pickled."
                    ) from error

            action.on_fire = note
        return action

    def _bind_watchdogs(self, path: str) -> None:
        """Make the watchdogs of one reactor."""
        declared = self._home.assembly.reactors[path].declared
        handlers = {handler.watchdog: handler for handler in declared.handlers}
        for element in declared.elements.values():
            if isinstance(element, Watchdog):
                self._watchdogs[str(element)] = element.live = self._watchdog(path, element, handlers[element])

    def _watchdog(self, path: str, watchdog: Watchdog, handler: Handler) -> LiveWatchdog:
        """What one watchdog runs as."""
        home = self._home
        assert home.inbox is not None
        self.busy = self.busy or threading.Lock()
        live = LiveWatchdog(
            watchdog.timeout_ns,
            self._handler(path, handler),
            clock=home.clock,
            busy=self.busy,
            inbox=home.inbox,
            effects=[self.actions[effect] for effect in handler.effects],
            may_start=frozenset(self._effect_of[watchdog]),
            on_failure=self._fail_outside,
        )
        live.replayed = home.settings.replay is not None
        if home.settings.recording:
            expiries, name = home.notes.expiries, str(watchdog)
            live.on_expiry = lambda tag, earliest: expiries.append(WatchdogExpiry(name, *tag, tuple(earliest)))
        return live

    def _handler(self, path: str, handler: Handler) -> Callable[[], None]:
        """What a watchdog runs: its handler, whose exceptions name it."""
        home = self._home
        body: Callable[[], object] = handler.body
        if home.watched is not None:
            body = home.watched.around(body, (path, handler.name), home.clock)

        def run() -> None:
            try:
                body()
            except Exception as error:
                raise home.failure_in((path, handler.name), error) from error

        return run

    def _fail_outside(self, failure: BaseException) -> None:
        """Give the program up for what happened in a watchdog's thread."""
        self.failure = failure
        assert self._home.gate is not None
        self._home.gate.bell.ring()

    def _insert(self, trace: Trace) -> None:
        """Put what came from outside in a recorded run into the queue."""
        by_name = {str(action): live for action, live in self.actions.items()}
        for event in trace.physical:
            live = by_name.get(event.action)
            if isinstance(live, LivePhysicalAction) and event.payload is not None:
                live.insert(Tag(event.time_ns, event.microstep), event.value)
        for expiry in trace.expiries:
            if expiry.watchdog in self._watchdogs:
                # An event, as this worker may have nothing else to do in that tag, and then would take no part in it.
                self._home.queue.put(expiry.time_ns, expiry.microstep, _RecordedExpiry(expiry, self._expired), [None])

    def _trigger_at(self, ranks: Sequence[int], mode: int, tag: Tag) -> None:
        """Let reactions of a mode run at a tag."""
        if ranks:
            self._home.queue.put(tag.time_ns, tag.microstep, self._start_in(mode, ranks), [None])

    def _start_in(self, mode: int, ranks: Sequence[int]) -> EventSource:
        """What lets reactions of a mode start up, or react to a reset."""
        return _Start(self._home.ready, tuple(ranks), mode, self._home.assembly.modes[mode].mode)

    def _counterpart(self, source: EventSource) -> EventSource | None:
        """What is here what `source` was in another worker; None if its reactor lives elsewhere."""
        if isinstance(source, _Start):
            assert source.mode is not None
            path = self._home.assembly.modes[source.mode].reactor
            return self._start_in(source.mode, source.ranks) if path in self._home.paths else None
        if isinstance(source, LiveAction):
            return self.actions.get(source.element)
        if isinstance(source, LiveDelay):
            return self.delays.get(source.element)
        return next((timer for timer in self.timers if timer.element is source.element), None)


class _Start:
    """Startup and reset reactions of a mode that was entered."""

    def __init__(self, ready: list[int], ranks: Sequence[int], mode: int, element: Mode) -> None:
        self.mode: int | None = mode
        self.element = element
        self.ranks = ranks
        self._ready = ready

    def fire(self, _time_ns: int, _microstep: int, _holder: Any) -> None:
        for rank in self.ranks:
            heappush(self._ready, rank)

    def moved(self, old: Tag, new: Tag | None) -> None:
        pass


class _RecordedExpiry:
    """A watchdog that expired in a recorded run: told at the tag after which it did."""

    def __init__(self, expiry: WatchdogExpiry, expired: list[WatchdogExpiry]) -> None:
        self.mode: int | None = None
        self.element = None
        self._expiry = expiry
        self._expired = expired

    def fire(self, _time_ns: int, _microstep: int, _holder: Any) -> None:
        self._expired.append(self._expiry)

    def moved(self, old: Tag, new: Tag | None) -> None:
        pass
