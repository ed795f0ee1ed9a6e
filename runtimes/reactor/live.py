"""What ports, actions, modes and watchdogs act on while a program runs, as one worker sees it.

A cell holds the last value of a lane and a stamp that tells which tag it belongs to, so that presence
needs no clearing. Who sets a value also says which reactions of this worker it triggers.
"""

from __future__ import annotations

import copy
from heapq import heappush
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtimes.reactor.errors import ReactorError, UndeclaredError
from runtimes.reactor.tags import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from runtimes.reactor.elements import Input, Mode
    from runtimes.reactor.events import LiveDelay
    from runtimes.reactor.modes import LiveModes
    from runtimes.reactor.post import Fetch

    Words = list[int] | memoryview[int]
    """Private, or shared 8-byte words."""
    Views = Mapping[int, Sequence[NDArray[Any]]]

__all__ = [
    "NOTHING",
    "ArrayOut",
    "Cell",
    "Clock",
    "Forbidden",
    "LiveInput",
    "LiveOutput",
    "LiveReactor",
    "Log",
    "Out",
    "SteadyIn",
    "SteadyOut",
    "ValueOut",
    "frozen",
    "read_only",
    "taking",
]

NOTHING: Final[Any] = object()
"""In a cell that never had a value."""


class Clock:
    """Which tag a worker is at, and which reaction it runs."""

    __slots__ = ("microstep", "number", "rank", "start_ns", "stop_requested", "time_ns", "turn")

    def __init__(self) -> None:
        """Before the first tag."""
        self.number = -1
        """How many tags were before; in a clocked program logical time in periods."""
        self.turn = 0
        """How many tags are over; what peers publish is counted from there."""
        self.time_ns = 0
        self.microstep = 0
        self.rank = -1
        self.start_ns = 0
        """When the program started, on `perf_counter_ns`."""
        self.stop_requested = False

    @property
    def tag(self) -> Tag:
        """The tag at hand."""
        return Tag(self.time_ns, self.microstep)

    def physical_ns(self) -> int:
        """Physical time since the program's start."""
        return perf_counter_ns() - self.start_ns


class Cell:
    """The last value of a lane, and the number of the tag it was set at."""

    __slots__ = ("listeners", "stamp", "triggers", "value")

    def __init__(self, triggers: Sequence[int]) -> None:
        """A cell whose values trigger reactions of this worker, by rank."""
        self.value = NOTHING
        self.stamp = -2
        self.triggers = triggers
        self.listeners: tuple[Cell, ...] = ()
        """Cells that get the stamp too: of inputs with many channels, which are present if any of them is."""


class Log:
    """Which array lanes one worker has set in a tag, and in which slots: one look instead of one at every lane.

    The words are: for each publication a stamp and how many were set up to it; then lane and slot of each.
    """

    def __init__(self, words: Words, steps: int) -> None:
        """Write to, or read from, `words`."""
        self._words = words
        self._steps = steps
        self._number = -1
        self._count = 0

    def note(self, number: int, lane: int, slot: int) -> None:
        """`lane` has been set at tag `number`."""
        if self._number != number:
            self._number = number
            self._count = 0
        word = 2 * (self._steps + self._count)
        self._words[word], self._words[word + 1] = lane, slot
        self._count += 1

    def flush(self, number: int, step: int) -> None:
        """Tell what was noted so far, with publication `step`."""
        if self._number == number:
            self._words[2 * step], self._words[2 * step + 1] = number + 1, self._count

    def fetch(self, number: int, step: int) -> Sequence[tuple[int, int]]:
        """Lane and slot of what was set up to publication `step`."""
        words = self._words
        if words[2 * step] != number + 1:
            return ()
        places = range(2 * self._steps, 2 * (self._steps + words[2 * step + 1]), 2)
        return [(words[word], words[word + 1]) for word in places]


class ValueOut:
    """One channel of an output that carries any object."""

    def __init__(self, cell: Cell, outgoing: dict[int, Any] | None, lane: int) -> None:
        """Write to `cell`, and into `outgoing` where other workers read the lane."""
        self.cell = cell
        self.outgoing = outgoing
        self.lane = lane
        self.set: Callable[..., None]
        """Made when all inputs of this worker have been bound."""

    def room(self) -> NDArray[Any]:
        """There is none.

        Raises:
            TypeError: always.
        """
        raise TypeError("This output declares no array, so there is nothing to fill in place. Use set(value).")


class ArrayOut:
    """One channel of an output that carries arrays, in slots that turn when it is set."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a lane is made of
        self, slots: Sequence[NDArray[Any]], cell: Cell, clock: Clock, ready: list[int], log: Log | None, lane: int
    ) -> None:
        """Write into `slots`; note in `log` where other workers read the lane."""
        self.cell = cell
        self._slots = list(slots)
        self._views = [read_only(slot) for slot in slots]
        self._clock = clock
        self._ready = ready
        self._log = log
        self._lane = lane
        self.position = 0
        """The slot of the last array."""
        self.delays: Sequence[LiveDelay] = ()
        """Connections that hand on an array at the next tag, from the slot where it is."""

    def room(self) -> NDArray[Any]:
        """The array of this tag, present from now on; the first call in a tag turns to the next slot."""
        cell, number = self.cell, self._clock.number
        if cell.stamp != number:
            self.position = (self.position + 1) % len(self._slots)
            cell.stamp = number
            cell.value = self._views[self.position]
            for listener in cell.listeners:
                listener.stamp = number
            for rank in cell.triggers:
                heappush(self._ready, rank)
            if self._log is not None:
                self._log.note(number, self._lane, self.position)
            for delay in self.delays:
                delay.to_next_tag(cell.value)
        return self._slots[self.position]

    def set(self, value: Any) -> None:
        """Copy `value`."""
        array = _fitting(value, self._slots[0])
        np.copyto(self.room(), array)

    def fire(self, _time_ns: int, _microstep: int, due: list[Any]) -> None:
        """Copy the array of an event of a delayed connection, whose tag has come."""
        np.copyto(self.room(), due[0])


def _fitting(value: Any, slot: NDArray[Any]) -> NDArray[Any]:
    """`value` as an array.

    Raises:
        ValueError: unless it has the shape and dtype of `slot`.
    """
    array = np.asarray(value)
    if array.shape != slot.shape or array.dtype != slot.dtype:
        raise ValueError(
            f"The port carries {slot.dtype}{list(slot.shape)}, not {array.dtype}{list(array.shape)}. Set an array of "
            "that shape and dtype."
        )
    return array


def frozen(value: Any) -> Any:
    """`value`; an array read-only for everyone from now on, or a copy if others may write to it through its base."""
    if not isinstance(value, np.ndarray):
        return value
    if value.base is not None:
        value = value.copy(order="K")
    value.flags.writeable = False
    return value


class SteadyOut:
    """One channel of a steady output: tag n is in slot n modulo their number."""

    def __init__(self, slots: Sequence[NDArray[Any]], clock: Clock) -> None:
        """Write into `slots`."""
        self.slots = list(slots)
        self._clock = clock
        self.cell = Cell(())

    def room(self) -> NDArray[Any]:
        """The array of this tag."""
        self.cell.stamp = self._clock.number
        return self.slots[self._clock.number % len(self.slots)]

    def set(self, value: Any) -> None:
        """Copy `value`."""
        array = _fitting(value, self.slots[0])
        np.copyto(self.room(), array)


class SteadyIn:
    """One channel of an input fed by a steady lane of a clocked program."""

    def __init__(self, slots: Sequence[NDArray[Any]], delay: int) -> None:
        """Read from `slots`, `delay` tags back."""
        self.views = [read_only(slot) for slot in slots]
        self.delay = delay

    def at(self, number: int) -> NDArray[Any]:
        """What arrives at tag `number`."""
        return self.views[(number - self.delay) % len(self.views)]


Out = ValueOut | ArrayOut | SteadyOut


def _nothing_in_flight(_channel: int) -> list[tuple[Tag, Any]]:
    return []


class LiveOutput:
    """What an output port writes through."""

    def __init__(self, channels: Sequence[Out], block: Sequence[NDArray[Any]] | None, clock: Clock) -> None:
        """Write to `channels`; `block` has the slots of a multiport as one array each."""
        self.channels = channels
        self.in_flight: Callable[[int], list[tuple[Tag, Any]]] = _nothing_in_flight
        """What has been set and is still on its way from a channel."""
        self._block = block
        self._clock = clock

    def set(self, value: Any, channel: int = 0) -> None:
        """Make `value` present on `channel`."""
        self.channels[channel].set(value)

    def array(self, channel: int) -> NDArray[Any]:
        """The memory of `channel` in this tag.

        Raises:
            TypeError: if the port declares no array.
        """
        return self.channels[channel].room()

    def is_present(self) -> bool:
        """Whether a value was set in this tag."""
        number = self._clock.number
        return any(out.cell.stamp == number for out in self.channels)

    def slots(self) -> list[NDArray[Any]]:
        """The memory of a steady port, by tag number modulo the number of slots.

        Raises:
            TypeError: if the port is not steady, or the program not clocked.
        """
        first = self.channels[0]
        if not isinstance(first, SteadyOut):
            raise TypeError("The slots of this output do not turn with the tags. Use array().")
        return first.slots if self._block is None else list(self._block)

    def present_values(self) -> list[tuple[int, Any]]:
        """The channels set in this tag, each with its value; for recordings."""
        number = self._clock.number
        found = []
        for channel, out in enumerate(self.channels):
            if isinstance(out, SteadyOut):
                # Always present: whoever keeps `slots()` writes there without a word to us.
                found.append((channel, out.slots[number % len(out.slots)]))
            elif out.cell.stamp == number:
                found.append((channel, out.cell.value))
        return found


class LiveInput:
    """What an input port reads through."""

    def __init__(
        self,
        feeds: Sequence[Cell | SteadyIn | None],
        whole: Sequence[NDArray[Any]] | None,
        clock: Clock,
        *,
        phases: int,
        wide: bool,
    ) -> None:
        """Read from `feeds`; `whole` has all channels of steady feeds as one array a phase."""
        self.feeds = feeds
        self._cells = [feed if isinstance(feed, Cell) else Cell(()) for feed in feeds]
        self._steady = any(isinstance(feed, SteadyIn) for feed in feeds)
        self._any = self._cells[0]
        """Present if any channel is."""
        if len(self._cells) > 1:
            self._any = Cell(())
            for cell in self._cells:
                cell.listeners = (*cell.listeners, self._any)
        self._nothing: list[Any] = [None] * len(feeds)
        self._whole = whole
        self._clock = clock
        self._phases = phases
        self._wide = wide

    def last(self, channel: int) -> Any:
        """What arrived on `channel` last.

        Raises:
            LookupError: if nothing has.
        """
        feed = self.feeds[channel]
        if isinstance(feed, SteadyIn):
            return feed.at(self._clock.number)
        if feed is None or feed.value is NOTHING:
            raise LookupError("Nothing has arrived at this port yet. Ask is_present first, or use get().")
        return feed.value

    def is_present(self) -> bool:
        """Whether anything arrived in this tag."""
        return self._steady or self._any.stamp == self._clock.number

    def all_present(self) -> list[Any]:
        """What arrived in this tag, channel by channel."""
        number = self._clock.number
        if self._steady:
            return [self._now(feed, number) for feed in self.feeds]
        if self._any.stamp != number:
            # Most optional values are absent in most tags: one look instead of one at every channel.
            return self._nothing.copy()
        return [cell.value if cell.stamp == number else None for cell in self._cells]

    def reading(self) -> Callable[[], list[Any]]:
        """What gives `all_present`; with what it looks at first at hand, as most optional values are absent."""
        if self._steady:
            return self.all_present
        any_present, clock, nothing, all_present = self._any, self._clock, self._nothing, self.all_present

        def read() -> list[Any]:
            return nothing.copy() if any_present.stamp != clock.number else all_present()

        return read

    def slots(self) -> list[Any] | None:
        """What arrives from steady lanes, by tag number modulo the number of phases; None from others."""
        if self._whole is not None:
            return list(self._whole)
        steady = [feed for feed in self.feeds if isinstance(feed, SteadyIn)]
        if len(steady) < len(self.feeds):
            return None
        by_phase = [[feed.at(phase) for feed in steady] for phase in range(self._phases)]
        return list(by_phase) if self._wide else [values[0] for values in by_phase]

    @staticmethod
    def _now(feed: Cell | SteadyIn | None, number: int) -> Any:
        if isinstance(feed, SteadyIn):
            return feed.at(number)
        return feed.value if feed is not None and feed.stamp == number else None


class MutableInput(LiveInput):
    """An input that gives each reaction copies of its own."""

    def __init__(self, feeds: Sequence[Cell | SteadyIn | None], clock: Clock, *, phases: int, wide: bool) -> None:
        """Read from `feeds`."""
        super().__init__(feeds, None, clock, phases=phases, wide=wide)
        self._copies: dict[int, Any] = {}
        self._copied_at = (-1, -1)

    def last(self, channel: int) -> Any:
        """A copy of what arrived on `channel` last, the same one all through a reaction."""
        self._renew()
        if channel not in self._copies:
            self._copies[channel] = _copied(super().last(channel))
        return self._copies[channel]

    def all_present(self) -> list[Any]:
        """Copies of what arrived in this tag, channel by channel."""
        return [None if value is None else self.last(at) for at, value in enumerate(super().all_present())]

    def slots(self) -> list[Any] | None:
        """None: copies have no slots."""
        return None

    def _renew(self) -> None:
        """Forget the copies of another reaction."""
        now = (self._clock.number, self._clock.rank)
        if self._copied_at != now:
            self._copied_at = now
            self._copies = {}


class LiveReactor:
    """What a reactor can ask and request."""

    def __init__(self, clock: Clock, may_stop: frozenset[int], modes: LiveModes | None) -> None:
        """Reactions with a rank in `may_stop` may end the program."""
        self._clock = clock
        self._may_stop = may_stop
        self._modes = modes

    @property
    def mode(self) -> Mode | None:
        """The mode the reactor is in."""
        return None if self._modes is None else self._modes.current

    def tag(self) -> Tag:
        """The tag at hand."""
        return self._clock.tag

    def physical_time_ns(self) -> int:
        """Physical time since the start."""
        return self._clock.physical_ns()

    def request_stop(self) -> None:
        """End with the next microstep.

        Raises:
            UndeclaredError: in a reaction that may not.
        """
        if self._clock.rank not in self._may_stop:
            raise UndeclaredError("This reaction requests a stop but does not declare it. Name `stop` in `effects`.")
        self._clock.stop_requested = True

    def enter(self, mode: Mode, *, history: bool) -> None:
        """Enter `mode` after the tag."""
        assert self._modes is not None
        self._modes.enter(mode, self._clock.rank, history=history)


class Forbidden:
    """In place of what a port acts on, while a reaction runs that does not declare the port."""

    def __init__(self, message: str) -> None:
        """Say what is not allowed."""
        self._message = message

    def __getattr__(self, name: str) -> Any:
        """Refuse.

        Raises:
            UndeclaredError: always.
        """
        raise UndeclaredError(self._message)

    def __call__(self, *_: Any, **__: Any) -> None:
        """Refuse, in place of `set`.

        Raises:
            UndeclaredError: always.
        """
        raise UndeclaredError(self._message)


def guarded(body: Callable[[], object], ports: Mapping[Input[Any], Forbidden]) -> Callable[[], None]:
    """`body`, with inputs out of its reach that it does not declare.

    Reactions that declare all inputs of their reactor go without: this costs 0.1 us and 0.05 us an input.
    """
    kept = [(port, port.live, port.cell, forbidden) for port, forbidden in ports.items()]

    def run() -> None:
        for port, _, _, forbidden in kept:
            port.live = forbidden  # type: ignore[assignment]  # refuses whatever it is asked
            port.cell = None
        try:
            body()
        finally:
            for port, live, cell, _ in kept:
                port.live = live
                port.cell = cell

    return run


class GuardedOutput(LiveOutput):
    """What an output writes through that not all reactions of its reactor declare."""

    def __init__(self, live: LiveOutput, clock: Clock, allowed: frozenset[int], name: str) -> None:
        """Let reactions with a rank in `allowed` write as `live` does."""
        super().__init__(live.channels, live._block, clock)  # noqa: SLF001 - its own kind
        self._allowed = allowed
        self._name = name

    def set(self, value: Any, channel: int = 0) -> None:
        """Make `value` present on `channel`."""
        self.check()
        self.channels[channel].set(value)

    def array(self, channel: int) -> NDArray[Any]:
        """The memory of `channel` in this tag."""
        self.check()
        return self.channels[channel].room()

    def check(self) -> None:
        """Refuse what was not declared.

        Raises:
            UndeclaredError: in a reaction that does not name the port as an effect.
        """
        if self._clock.rank not in self._allowed:
            raise UndeclaredError(
                f"This reaction sets '{self._name}' but does not declare it. Name it among its effects."
            )

    def setter(self) -> Callable[..., None]:
        """`set` for a single channel, with all that it needs at hand."""
        clock, allowed, check, set_value = self._clock, self._allowed, self.check, self.channels[0].set

        def set_checked(value: Any, channel: int = 0) -> None:  # noqa: ARG001 - the port has one
            if clock.rank not in allowed:
                check()
            set_value(value)

        return set_checked


def taking(
    letters: Sequence[tuple[Fetch, Callable[[Exception], ReactorError]]],
    log: tuple[Log, int] | None,
    cells: Mapping[int, Cell],
    views: Views,
    ready: list[int],
) -> Callable[[int], None]:
    """What takes up what another worker has sent up to one of its publications: letters, and arrays by its log.

    Args:
        letters: What fetches each letter, and the failure to report if it cannot be opened.
        log: Its log, and the publication up to which to read it.
        cells: Of lanes that are written elsewhere.
        views: Of those that carry arrays, the slots.
        ready: Where triggered reactions go.
    """

    def take(number: int) -> None:
        for fetch, failure in letters:
            try:
                values = fetch(number)
            except ReactorError:
                raise
            except Exception as error:
                raise failure(error) from error
            if values is not None:
                for lane, value in values.items():
                    _arrive(cells[lane], value, number, ready)
        if log is not None:
            for lane, slot in log[0].fetch(number, log[1]):
                if lane in views:
                    _arrive(cells[lane], views[lane][slot], number, ready)

    return take


def _arrive(cell: Cell, value: Any, number: int, ready: list[int]) -> None:
    """A value has come from another worker."""
    cell.value = value
    if cell.stamp != number:
        cell.stamp = number
        for listener in cell.listeners:
            listener.stamp = number
        for rank in cell.triggers:
            heappush(ready, rank)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view of `array` that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view


def _copied(value: Any) -> Any:
    return np.array(value) if isinstance(value, np.ndarray) else copy.deepcopy(value)
