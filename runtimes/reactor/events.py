"""Events of one worker: a queue keyed by tag, and what puts events there: timers, actions, watchdogs.

A logical event goes straight into the queue. A physical one comes from any thread, so it goes through
the gate: reading the clock, comparing with the tag that was decided on last, and inserting are one step
together with the decision on the next tag.
"""

from __future__ import annotations

import threading
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from runtimes.reactor.declaration import LogicalAction, PhysicalAction, Tag
from runtimes.reactor.errors import UndeclaredError
from runtimes.reactor.live import frozen
from runtimes.reactor.senders import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableSequence
    from contextlib import AbstractContextManager

    from runtimes.reactor.declaration import Timer
    from runtimes.reactor.live import Cell, Clock
    from runtimes.reactor.modes import ModeTable
    from runtimes.reactor.senders import Sender

__all__ = [
    "ENDED",
    "NEVER_NS",
    "Event",
    "EventQueue",
    "EventSource",
    "Gate",
    "Inbox",
    "LiveAction",
    "LivePhysicalAction",
    "LiveTimer",
    "LiveWatchdog",
]

NEVER_NS: Final = 1 << 62
"""The time of an event that there is not."""

_GRACE_S: Final = 0.5
"""How long a thread may take to end."""

Holder = list[Any]
"""The value of a scheduled event, alone in a list; empty once the event was taken back."""


class EventSource(Protocol):
    """What events come from."""

    mode: int | None
    element: Any
    """The timer or action; of what starts up in a mode, the mode."""

    def fire(self, time_ns: int, microstep: int, holder: Holder, /) -> None:
        """The tag of an event has come."""
        ...

    def moved(self, old: Tag, new: Tag | None, /) -> None:
        """An event was parked (`new` is None), or put back at another tag than it was parked from."""
        ...


Event = tuple[int, int, int, EventSource, Holder]
"""Time, microstep, the order of scheduling, where it comes from, and its value."""


class EventQueue:
    """The events of one worker, in the order of their tags."""

    def __init__(self) -> None:
        """Begin empty."""
        self.heap: list[Event] = []
        self._order = count()

    def put(self, time_ns: int, microstep: int, source: EventSource, holder: Holder) -> None:
        """Insert an event."""
        heappush(self.heap, (time_ns, microstep, next(self._order), source, holder))

    def next_tag(self) -> tuple[int, int]:
        """The tag of the earliest event, or never."""
        heap = self.heap
        while heap and not heap[0][4]:
            heappop(heap)
        return heap[0][:2] if heap else (NEVER_NS, 0)

    def fire(self, time_ns: int, microstep: int) -> None:
        """Take out and fire all events of this tag."""
        heap = self.heap
        while heap and heap[0][0] == time_ns and heap[0][1] == microstep:
            event = heappop(heap)
            if event[4]:
                event[3].fire(time_ns, microstep, event[4])

    def take(self, modes: frozenset[int]) -> Iterator[Event]:
        """Take out all events whose sources belong to one of `modes`, in order."""
        taken = sorted(e for e in self.heap if e[3].mode in modes)
        self.heap = [e for e in self.heap if e[3].mode not in modes]
        heapify(self.heap)
        return (e for e in taken if e[4])


class LiveTimer:
    """A timer that runs."""

    def __init__(
        self, timer: Timer, queue: EventQueue, ready: list[int], triggers: Iterable[int], mode: int | None
    ) -> None:
        """Trigger reactions by rank when it fires."""
        self.mode = mode
        self.element = timer
        self._timer = timer
        self._queue = queue
        self._ready = ready
        self._triggers = tuple(triggers)

    def start(self, time_ns: int, microstep: int) -> None:
        """Count its offset from `time_ns`; without one, fire in `microstep`."""
        offset_ns = self._timer.offset_ns
        self._queue.put(time_ns + offset_ns, 0 if offset_ns else microstep, self, [None])

    def fire(self, time_ns: int, _microstep: int, holder: Holder) -> None:
        """Trigger, and go on."""
        for rank in self._triggers:
            heappush(self._ready, rank)
        if self._timer.period_ns:
            self._queue.put(time_ns + self._timer.period_ns, 0, self, holder)

    def moved(self, old: Tag, new: Tag | None) -> None:
        """Timers keep no account of their events."""


class Gate:
    """Where events from outside come in: one step together with the decision on the next tag."""

    def __init__(
        self,
        lock: AbstractContextManager[Any],
        decided: MutableSequence[int],
        inboxes: list[MutableSequence[int]],
        ring: Callable[[], None],
    ) -> None:
        """Guard `decided` (time, microstep) and the earliest tag in each worker's inbox; `ring` wakes who decides."""
        self.lock = lock
        self.decided = decided
        self.inboxes = inboxes
        self.ring = ring


class Inbox:
    """Events of one worker that came through the gate and have not been taken into its queue."""

    def __init__(self, gate: Gate, worker: int) -> None:
        """Nothing yet."""
        self.gate = gate
        self._words = gate.inboxes[worker]
        self._events: list[tuple[tuple[int, int], EventSource, Holder]] = []

    def put(self, tag: tuple[int, int], source: EventSource, holder: Holder) -> None:
        """Insert; the gate is held."""
        self._events.append((tag, source, holder))
        self._words[0], self._words[1] = min((self._words[0], self._words[1]), tag)

    def empty_into(self, queue: EventQueue) -> None:
        """Move everything into the queue of this worker."""
        if self._words[0] == NEVER_NS:
            return
        with self.gate.lock:
            events, self._events = self._events, []
            self._words[0], self._words[1] = NEVER_NS, 0
        for tag, source, holder in events:
            queue.put(tag[0], tag[1], source, holder)


class LiveAction:
    """A logical action that runs."""

    def __init__(  # noqa: PLR0913, PLR0917 - what an action is made of
        self,
        action: LogicalAction[Any] | PhysicalAction[Any],
        cell: Cell,
        clock: Clock,
        ready: list[int],
        queue: EventQueue,
        mode: int | None,
        may_schedule: frozenset[int],
    ) -> None:
        """Reactions with a rank in `may_schedule` may schedule it."""
        self.mode = mode
        self.element = action
        self.action = action
        self._delay_ns = action.delay_ns
        self._spacing_ns = action.min_spacing_ns
        self.cell = cell
        self._clock = clock
        self._ready = ready
        self._queue = queue
        self._may_schedule = may_schedule
        self._pending: set[tuple[int, int]] = set()
        self._last: tuple[tuple[int, int], Holder] | None = None
        self.modes: ModeTable | None = None
        """Where events go while its mode is not active, if it belongs to one."""
        self.expiry: tuple[Tag, Inbox] | None = None
        """While a watchdog's handler runs: the earliest tag it may schedule at, and the way in."""
        self.on_fire: Callable[[Tag, Any], None] | None = None
        """Told of every event; for recordings."""
        simple = isinstance(action, LogicalAction) and self._spacing_ns is None and mode is None
        self.keep = self._keeper() if simple else None
        """`schedule` for relays, without what they need not ask."""

    def _keeper(self) -> Callable[[Any], None]:
        """A closure that schedules with the declared delay, for an action without spacing and mode."""
        clock, queue, pending, delay_ns = self._clock, self._queue, self._pending, self._delay_ns

        def keep(value: Any) -> None:
            tag = (clock.time_ns + delay_ns, 0) if delay_ns else (clock.time_ns, clock.microstep + 1)
            while tag in pending:
                tag = (tag[0], tag[1] + 1)
            pending.add(tag)
            queue.put(*tag, self, [value])

        return keep

    def last(self) -> Any:
        """What it was scheduled with, last.

        Raises:
            LookupError: if it was never present.
        """
        if self.cell.stamp < 0:
            raise LookupError("The action was never present. Ask is_present first.")
        return self.cell.value

    def is_present(self) -> bool:
        """Whether an event of it is present."""
        return self.cell.stamp == self._clock.number

    def schedule(self, value: Any, delay_ns: int) -> None:
        """Schedule an event, in logical time.

        Raises:
            UndeclaredError: in a reaction that may not.
        """
        total_ns = self._delay_ns + _checked(delay_ns) if delay_ns else self._delay_ns
        if self.expiry is not None:
            self._schedule_from_handler(value, total_ns)
            return
        clock = self._clock
        if clock.rank not in self._may_schedule:
            raise UndeclaredError(
                f"This reaction schedules '{self.action}' but does not declare it. Name it in `effects`."
            )
        asked = (clock.time_ns + total_ns, 0) if total_ns else (clock.time_ns, clock.microstep + 1)
        placed = self._place(asked, value)
        if placed is None:
            return
        tag, holder = placed
        if self.modes is not None and not self.modes.active[self.mode or 0]:
            self.moved(Tag(*tag), None)
            self.modes.park(Tag(*tag), self, holder, clock.tag)
        else:
            self._queue.put(tag[0], tag[1], self, holder)

    def fire(self, time_ns: int, microstep: int, holder: Holder) -> None:
        """Become present, and trigger."""
        cell = self.cell
        cell.value = holder[0]
        cell.stamp = self._clock.number
        self._pending.discard((time_ns, microstep))
        for rank in cell.triggers:
            heappush(self._ready, rank)
        if self.on_fire is not None:
            self.on_fire(Tag(time_ns, microstep), holder[0])

    def moved(self, old: Tag, new: Tag | None) -> None:
        """Keep account of what is pending."""
        if new is None:
            self._pending.discard(old)
        else:
            self._pending.add(new)

    def adopt(self, other: LiveAction) -> None:
        """Be where `other` was, which ran the same action in another worker."""
        self.cell.value, self.cell.stamp = other.cell.value, other.cell.stamp
        self._pending.update(other._pending)
        self._last = other._last

    def free_from(self, time_ns: int, microstep: int) -> int:
        """The first microstep from this one on at which no event of it is pending."""
        while (time_ns, microstep) in self._pending:
            microstep += 1
        return microstep

    def _place(self, asked: tuple[int, int], value: Any) -> tuple[tuple[int, int], Holder] | None:
        """The tag that an event asked for gets, by the rules of spacing; None if there is no new event."""
        spacing = self._spacing_ns
        if spacing is not None and self._last is not None:
            last, holder = self._last
            earliest = (last[0] + spacing, 0) if spacing else (last[0], last[1] + 1)
            if asked < earliest:
                policy = self.action.policy
                waiting = bool(holder) and last in self._pending and self._may_change(last)
                if policy == "drop":
                    return None
                if policy == "replace" and waiting:
                    holder[0] = frozen(value) if isinstance(value, np.ndarray) else value
                    return None
                if policy == "update" and waiting:
                    holder.clear()
                    self._pending.discard(last)
                else:
                    asked = earliest
        pending = self._pending
        while asked in pending:
            asked = (asked[0], asked[1] + 1)
        if isinstance(value, np.ndarray):
            value = frozen(value)
        holder = [value]
        pending.add(asked)
        if spacing is not None:
            self._last = asked, holder
        return asked, holder

    def _may_change(self, _tag: tuple[int, int]) -> bool:
        """Whether a pending event has not been taken up yet."""
        return True

    def _schedule_from_handler(self, value: Any, total_ns: int) -> None:
        """Schedule an event while a watchdog's handler runs, which is outside of any tag."""
        assert self.expiry is not None
        earliest, inbox = self.expiry
        with inbox.gate.lock:
            decided = inbox.gate.decided
            asked = max(earliest, (decided[0], decided[1] + 1))
            placed = self._place((asked[0] + total_ns, 0) if total_ns else asked, value)
            if placed is not None:
                inbox.put(placed[0], self, placed[1])
        inbox.gate.ring()


class LivePhysicalAction(LiveAction):
    """A physical action that runs: any thread may schedule it."""

    def __init__(
        self,
        *args: Any,
        inbox: Inbox,
        replayed: bool,
        tags: list[Tag] | None,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Come in through `inbox`; if `replayed`, events come from a recording, or get the recorded `tags`."""
        super().__init__(*args)
        self.on_failure = on_failure
        """Told if what another process has sent cannot be taken up."""
        self._inbox = inbox
        self._replayed = replayed
        self._tags = None if tags is None else iter(tags)
        self._receiver: Receiver | None = None
        self._receiver_lock = threading.Lock()

    def schedule(self, value: Any, delay_ns: int) -> None:
        """Schedule an event at the physical time of now plus the delays."""
        total_ns = self.action.delay_ns + _checked(delay_ns)
        if self._replayed:
            tag = None if self._tags is None else next(self._tags, None)
            if tag is not None:
                self.insert(tag, value)
            return
        gate = self._inbox.gate
        with gate.lock:
            now_ns = max(self._clock.physical_ns(), 0) if self._clock.start_ns else 0  # it has not begun yet
            asked = max((now_ns + total_ns, 0), (gate.decided[0], gate.decided[1] + 1))
            placed = self._place(asked, value)
            if placed is not None:
                self._inbox.put(placed[0], self, placed[1])
        gate.ring()

    def fire(self, time_ns: int, microstep: int, holder: Holder) -> None:
        """Become present; an event for a mode that is not active is dropped."""
        if self.modes is None or self.modes.accepts(self):
            super().fire(time_ns, microstep, holder)
        else:
            self._pending.discard((time_ns, microstep))

    def sender(self) -> Sender:
        """What other processes schedule it with; the first one starts a thread that listens."""
        with self._receiver_lock:
            if self._receiver is None:
                self._receiver = Receiver(str(self.action), self.schedule, self.on_failure)
            return self._receiver.sender

    def end(self) -> None:
        """Listen to other processes no longer."""
        if self._receiver is not None:
            self._receiver.close()

    def _may_change(self, tag: tuple[int, int]) -> bool:
        """Whether a pending event has not been taken up yet; the gate is held."""
        decided = self._inbox.gate.decided
        return tag > (decided[0], decided[1])

    def insert(self, tag: Tag, value: Any) -> None:
        """Put an event of a recording into the queue."""
        self._queue.put(tag.time_ns, tag.microstep, self, [value])


class _Ended:
    """In place of a physical action whose program has ended: a thread outside need not know that."""

    def schedule(self, value: Any, delay_ns: int) -> None:
        """Nobody is there to react."""

    def sender(self) -> Sender:
        """Nobody is there to listen.

        Raises:
            UndeclaredError: always.
        """
        raise UndeclaredError("The program has ended, so nothing can be sent to it.")


ENDED: Final[Any] = _Ended()


class LiveWatchdog:
    """A watchdog that runs: a thread waits for its expiry, and runs the handler when no reaction runs here."""

    def __init__(  # noqa: PLR0913 - what a watchdog is made of, all named at the call
        self,
        timeout_ns: int,
        handler: Callable[[], object],
        *,
        clock: Clock,
        busy: threading.Lock,
        inbox: Inbox,
        effects: Iterable[LiveAction],
        may_start: frozenset[int],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """Run `handler` while `busy` is held, which reactions of this worker hold while they run.

        Reactions with a rank in `may_start` may start and stop it.
        """
        self._timeout_ns = timeout_ns
        self._handler = handler
        self._clock = clock
        self._busy = busy
        self._inbox = inbox
        self._effects = tuple(effects)
        self._may_start = may_start
        self._on_failure = on_failure
        self._expiry_ns: int | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._expiring = False
        """Whether the handler runs, which may start it again."""
        self.replayed = False
        self.on_expiry: Callable[[Tag], None] | None = None
        """Told after which tag the handler ran; for recordings."""

    def start(self) -> None:
        """Expire a timeout after the logical time of now.

        Raises:
            UndeclaredError: in a reaction that may not start it.
        """
        self._check()
        self._expiry_ns = self._clock.time_ns + self._timeout_ns
        if self.replayed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="reactor-watchdog", daemon=True)
            self._thread.start()
        else:
            with self._changed:
                self._changed.notify()

    def stop(self) -> None:
        """Do not expire.

        Raises:
            UndeclaredError: in a reaction that may not stop it.
        """
        self._check()
        self._expiry_ns = None

    def _check(self) -> None:
        if self._clock.rank not in self._may_start and not self._expiring:
            raise UndeclaredError(
                "This reaction starts or stops a watchdog but does not declare it. Name it in `effects`."
            )

    def end(self) -> None:
        """Stop watching for good."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            # A handler that never returns is left to the process's end.
            self._thread.join(_GRACE_S)

    def expire(self) -> None:
        """Run the handler; no reaction of this worker runs."""
        assert self._expiry_ns is not None
        expiry, self._expiry_ns = Tag(self._expiry_ns, 0), None
        self._expiring = True
        for action in self._effects:
            action.expiry = expiry, self._inbox
        try:
            self._handler()
        finally:
            self._expiring = False
            for action in self._effects:
                action.expiry = None
        if self.on_expiry is not None:
            self.on_expiry(self._clock.tag)

    def _watch(self) -> None:
        """Wait until the expiry has passed, again and again."""
        while not self._ended:
            with self._changed:
                expiry_ns = self._expiry_ns
                left_ns = None if expiry_ns is None else expiry_ns - self._clock.physical_ns()
                if left_ns is None or left_ns > 0:
                    self._changed.wait(None if left_ns is None else left_ns / 1e9)
                    continue
            with self._busy:
                # It may have been moved while a reaction ran.
                still = self._expiry_ns is not None and self._expiry_ns <= self._clock.physical_ns()
                if still and not self._ended:
                    try:
                        self.expire()
                    except BaseException as error:  # noqa: BLE001 - it ends the program, in whose thread
                        self._on_failure(error)
                        return


def _checked(delay_ns: int) -> int:
    """`delay_ns`, unless it is negative.

    Raises:
        ValueError: if it is.
    """
    if delay_ns < 0:
        raise ValueError(f"An event was asked for {-delay_ns} ns in the past. Give a delay of 0 ns or more.")
    return delay_ns
