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

from runtimes.reactor.errors import UndeclaredError
from runtimes.reactor.live import frozen
from runtimes.reactor.senders import Receiver, not_negative
from runtimes.reactor.tags import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
    from contextlib import AbstractContextManager

    from runtimes.reactor.elements import LogicalAction, PhysicalAction, Timer
    from runtimes.reactor.live import Cell, Clock
    from runtimes.reactor.modes import ModeTable
    from runtimes.reactor.senders import Sender

__all__ = [
    "ENDED",
    "NEVER_NS",
    "Bell",
    "Event",
    "EventQueue",
    "EventSource",
    "Gate",
    "Inbox",
    "LiveAction",
    "LiveDelay",
    "LivePhysicalAction",
    "LiveTimer",
    "LiveWatchdog",
    "Semaphore",
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
        """The same list for good: who runs tags keeps it at hand."""
        self.order = count()
        """Numbers events of one tag."""

    def put(self, time_ns: int, microstep: int, source: EventSource, holder: Holder) -> None:
        """Insert an event."""
        heappush(self.heap, (time_ns, microstep, next(self.order), source, holder))

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
        self.heap[:] = [e for e in self.heap if e[3].mode not in modes]
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
        self._queue = queue
        self._ready = ready
        self._triggers = tuple(triggers)

    def start(self, time_ns: int, microstep: int) -> None:
        """Count its offset from `time_ns`; without one, fire in `microstep`."""
        offset_ns = self.element.offset_ns
        self._queue.put(time_ns + offset_ns, 0 if offset_ns else microstep, self, [None])

    def fire(self, time_ns: int, _microstep: int, holder: Holder) -> None:
        """Trigger, and go on."""
        for rank in self._triggers:
            heappush(self._ready, rank)
        if self.element.period_ns:
            self._queue.put(time_ns + self.element.period_ns, 0, self, holder)

    def moved(self, old: Tag, new: Tag | None) -> None:
        """Timers keep no account of their events."""


class Semaphore(Protocol):
    """Of threads or of processes."""

    def acquire(self, block: bool = True, timeout: float | None = None, /) -> bool:  # noqa: FBT001, FBT002 - theirs
        """Take a permit."""
        ...

    def release(self) -> None:
        """Give one."""
        ...


class Bell:
    """Wakes who decides, when something came from outside."""

    def __init__(self, semaphore: Semaphore) -> None:
        """Count rings in `semaphore`."""
        self._semaphore = semaphore

    def ring(self) -> None:
        """Something came."""
        self._semaphore.release()

    def clear(self) -> None:
        """Forget the rings so far: they will be looked into now."""
        while self._semaphore.acquire(False):  # noqa: FBT003 - the two kinds name it differently
            pass

    def wait(self, timeout_s: float) -> None:
        """Until it rings, or the time is over."""
        self._semaphore.acquire(True, timeout_s)  # noqa: FBT003 - as above


class Gate:
    """Where events from outside come in: one step together with the decision on the next tag."""

    def __init__(
        self,
        lock: AbstractContextManager[Any],
        decided: MutableSequence[int],
        inboxes: list[MutableSequence[int]],
        bell: Bell,
    ) -> None:
        """Guard `decided` (time, microstep) and the earliest tag in each worker's inbox; `bell` wakes who decides."""
        self.lock = lock
        self.decided = decided
        self.inboxes = inboxes
        self.bell = bell


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
        self.expiry: Expiry | None = None
        """While a watchdog's handler runs that may schedule it."""
        self.on_fire: Callable[[Tag, Any], None] | None = None
        """Told of every event; for recordings."""

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
        total_ns = self._delay_ns + not_negative(delay_ns) if delay_ns else self._delay_ns
        if self.expiry is not None:
            self._schedule_from_handler(value, total_ns)
            return
        clock = self._clock
        if clock.rank not in self._may_schedule:
            raise UndeclaredError(
                f"This reaction schedules '{self.element}' but does not declare it. Name it in `effects`."
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
                policy = self.element.policy
                waiting = bool(holder) and last in self._pending and self._may_change(last)
                if policy == "drop":
                    return None
                if policy == "replace" and waiting:
                    holder[0] = frozen(value)
                    return None
                if policy == "update" and waiting:
                    holder.clear()
                    self._pending.discard(last)
                else:
                    asked = earliest
        asked = asked[0], self.free_from(*asked)
        holder = [frozen(value)]
        self._pending.add(asked)
        if spacing is not None:
            self._last = asked, holder
        return asked, holder

    def _may_change(self, _tag: tuple[int, int]) -> bool:
        """Whether a pending event has not been taken up yet."""
        return True

    def _schedule_from_handler(self, value: Any, total_ns: int) -> None:
        """Schedule an event while a watchdog's handler runs, which is outside of any tag."""
        assert self.expiry is not None
        inbox = self.expiry.inbox
        with inbox.gate.lock:
            earliest = self.expiry.next_earliest()
            placed = self._place((earliest[0] + total_ns, 0) if total_ns else earliest, value)
            if placed is not None:
                inbox.put(placed[0], self, placed[1])
        inbox.gate.bell.ring()


class LiveDelay:
    """A delayed connection that runs: who sets its source puts the event into the queue, and firing sets what it feeds.

    Against an action that is scheduled by one hidden reaction and read by another this saves 1 us a message.
    """

    def __init__(self, action: LogicalAction[Any], clock: Clock, queue: EventQueue) -> None:
        """Delay as `action` does, which belongs to the connection's relay."""
        self.mode: int | None = None
        self.element = action
        self.delay_ns = action.delay_ns
        self.fire: Callable[[int, int, Holder], None]
        self._clock = clock
        self._queue = queue

    def to_next_tag(self, array: Any) -> None:
        """Put an event at the next tag into the queue; until then the memory of `array` is nobody else's."""
        clock, delay_ns = self._clock, self.delay_ns
        if delay_ns:
            self._queue.put(clock.time_ns + delay_ns, 0, self, [array])
        else:
            self._queue.put(clock.time_ns, clock.microstep + 1, self, [array])

    def moved(self, old: Tag, new: Tag | None) -> None:
        """Connections of modes are none of these."""


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
        total_ns = self._delay_ns + not_negative(delay_ns)
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
        gate.bell.ring()

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
                self._receiver = Receiver(str(self.element), self.schedule, self.on_failure)
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


class Expiry:
    """One run of a watchdog's handler. It is outside of any tag, so when its events happen depends on the clock."""

    def __init__(self, time_ns: int, inbox: Inbox, recorded: Iterable[tuple[int, int]]) -> None:
        """Let events happen from `time_ns` on, or where they were `recorded`; they come in through `inbox`."""
        self.inbox = inbox
        self.earliest: list[tuple[int, int]] = []
        """Of each event so far, the earliest tag that it could have had."""
        self._time_ns = time_ns
        self._recorded = iter(recorded)

    def next_earliest(self) -> tuple[int, int]:
        """The earliest tag for the next event; the gate is held."""
        time_ns, microstep = self.inbox.gate.decided[0], self.inbox.gate.decided[1]
        earliest = next(self._recorded, None) or max((self._time_ns, 0), (time_ns, microstep + 1))
        self.earliest.append(earliest)
        return earliest


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
        self.on_expiry: Callable[[Tag, Sequence[tuple[int, int]]], None] | None = None
        """Told after which tag the handler ran, and the earliest tags of its events; for recordings."""

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

    def expire(self, recorded: Iterable[tuple[int, int]] = ()) -> None:
        """Run the handler; no reaction of this worker runs. `recorded` are the earliest tags of its events."""
        assert self._expiry_ns is not None
        expiry, self._expiry_ns = Expiry(self._expiry_ns, self._inbox, recorded), None
        self._expiring = True
        for action in self._effects:
            action.expiry = expiry
        try:
            self._handler()
        finally:
            self._expiring = False
            for action in self._effects:
                action.expiry = None
        if self.on_expiry is not None:
            self.on_expiry(self._clock.tag, expiry.earliest)

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
