"""Values while a program runs: lanes as one worker sees them, and the channels that ports look through.

A lane keeps a few values, each with a stamp that tells the tag it belongs to (tag number + 1; 0 means
never), so that presence needs no clearing. Where writer and reader live in different workers, stamps
and arrays lie in shared memory, and other values travel as messages: pickled once a tag by the writer,
unpickled once by each worker that reads them.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from runtimes.reactor.memory import Segment, aligned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from runtimes.reactor.assembly import LaneBlock

    Words = list[int] | memoryview[int]
    """Stamps: private, or shared 8-byte words."""

__all__ = [
    "HEADER_WORDS",
    "Activity",
    "ArrayLane",
    "Clock",
    "InputChannels",
    "LiveLane",
    "Outbox",
    "OutputChannels",
    "ReceivedLane",
    "SentLane",
    "ValueLane",
]

HEADER_WORDS: Final = 3
"""A message's header: stamp, offset and length in the sender's mail, 8 bytes each."""


@dataclass(slots=True)
class Clock:
    """Which tag a worker is at."""

    number: int = 0
    """Logical time in periods."""
    tags_run: int = 0
    """How many tags are over; differs from `number` at the last tag, which follows the one before at once."""


class LiveLane(Protocol):
    """A lane as readers in one worker see it."""

    def present(self, number: int) -> Any:
        """The value of tag `number`, None if there was none."""
        ...

    def is_present(self, number: int) -> bool:
        """Whether there was a value at tag `number`."""
        ...


class ArrayLane:
    """An array in slots, private or shared."""

    __slots__ = ("_position", "_stamps", "slots", "steady", "views")

    def __init__(self, slots: Sequence[NDArray[Any]], stamps: Words | None) -> None:
        """Write into `slots`; without `stamps` the lane is steady: tag n is in slot n modulo their number."""
        self.slots = list(slots)
        self.views = [_read_only(slot) for slot in slots]
        self.steady = stamps is None
        self._stamps: Words = stamps if stamps is not None else []
        self._position = 0

    def array(self, number: int) -> NDArray[Any]:
        """The slot to fill at tag `number`."""
        if self.steady:
            return self.slots[number % len(self.slots)]
        if self._stamps[self._position] != number + 1:
            self._position = (self._position + 1) % len(self.slots)
            self._stamps[self._position] = number + 1
        return self.slots[self._position]

    def set(self, number: int, value: Any) -> None:
        """Copy `value` into the slot of tag `number`."""
        np.copyto(self.array(number), value, casting="no")

    def present(self, number: int) -> Any:
        """The value of tag `number`, None if there was none."""
        if self.steady:
            return self.views[number % len(self.slots)]
        index = _find(self._stamps, number)
        return None if index is None else self.views[index]

    def is_present(self, number: int) -> bool:
        """Whether there was a value at tag `number`."""
        return self.steady or _find(self._stamps, number) is not None


@dataclass(frozen=True, slots=True)
class Activity:
    """In which of the last tags one worker has set any value lane: one look instead of one for each lane."""

    words: Words
    """Stamps, by tag number modulo their count; shared where another worker reads the lanes."""

    def mark(self, number: int) -> None:
        """Something was set at tag `number`."""
        self.words[number % len(self.words)] = number + 1

    def any_at(self, number: int) -> bool:
        """Whether anything was set at tag `number`."""
        return self.words[number % len(self.words)] == number + 1


class ValueLane:
    """Any object, for readers in the worker that wrote it."""

    __slots__ = ("_position", "_stamps", "_values", "activity")

    def __init__(self, slots: int, activity: Activity) -> None:
        """Keep `slots` values."""
        self.activity = activity
        self._stamps = [0] * slots
        self._values: list[Any] = [None] * slots
        self._position = 0

    def set(self, number: int, value: Any) -> None:
        """Make `value` the one of tag `number`."""
        if self._stamps[self._position] != number + 1:
            self._position = (self._position + 1) % len(self._stamps)
            self._stamps[self._position] = number + 1
            self.activity.mark(number)
        self._values[self._position] = value

    def present(self, number: int) -> Any:
        """The value of tag `number`, None if there was none."""
        index = _find(self._stamps, number)
        return None if index is None else self._values[index]

    def is_present(self, number: int) -> bool:
        """Whether there was a value at tag `number`."""
        return _find(self._stamps, number) is not None


class Outbox:
    """What a worker has set in this tag for other workers, and the mail it goes out with.

    Mail for tag n is written into segment n modulo their number, from its start: by the time that comes
    round again every reader has fetched it.
    """

    __slots__ = ("_mail", "_number", "_offset", "_waiting")

    def __init__(self, mail: Sequence[Segment]) -> None:
        """Write into the segments `mail`."""
        self._mail = mail
        self._waiting: dict[SentLane, Any] = {}
        self._number = -1
        self._offset = 0

    def put(self, lane: SentLane, value: Any) -> None:
        """Send `value` on `lane` with the next flush; the last one put counts."""
        self._waiting[lane] = value

    def flush(self, number: int) -> None:
        """Write everything that waits; the worker publishes its progress after this."""
        if not self._waiting:
            return
        if number != self._number:
            self._number = number
            self._offset = 0
        mail = self._mail[number % len(self._mail)]
        for lane, value in self._waiting.items():
            length = _write_message(mail, self._offset, value)
            lane.announce(number, self._offset, length)
            self._offset = aligned(self._offset + length)
        self._waiting.clear()


class SentLane(ValueLane):
    """A value lane with readers in other workers."""

    __slots__ = ("_header", "_outbox", "_slot")

    def __init__(self, slots: int, activity: Activity, header: memoryview[int], outbox: Outbox) -> None:
        """Announce messages in `header`, `HEADER_WORDS` words for each of `slots`."""
        super().__init__(slots, activity)
        self._header = header
        self._outbox = outbox
        self._slot = 0

    def set(self, number: int, value: Any) -> None:
        """Make `value` the one of tag `number`, here and for the other workers."""
        super().set(number, value)
        self._outbox.put(self, value)

    def announce(self, number: int, offset: int, length: int) -> None:
        """Say where the message of tag `number` lies."""
        if self._header[self._slot * HEADER_WORDS] != number + 1:
            self._slot = (self._slot + 1) % len(self._stamps)
        word = self._slot * HEADER_WORDS
        self._header[word + 1] = offset
        self._header[word + 2] = length
        self._header[word] = number + 1


class ReceivedLane:
    """A value lane whose writer lives in another worker."""

    __slots__ = ("_header", "_mail", "_read", "activity")

    def __init__(self, slots: int, activity: Activity, header: memoryview[int], mail: Sequence[Segment]) -> None:
        """Read messages announced in `header` from the writer's `mail`."""
        self.activity = activity
        self._header = header
        self._mail = mail
        self._read: list[tuple[int, Any]] = [(0, None)] * slots

    def present(self, number: int) -> Any:
        """The value of tag `number`, None if there was none."""
        index = self._index(number)
        return None if index is None else self._value(index)

    def is_present(self, number: int) -> bool:
        """Whether there was a value at tag `number`."""
        return self._index(number) is not None

    def _index(self, number: int) -> int | None:
        header = self._header
        for index in range(len(self._read) if number >= 0 else 0):
            if header[index * HEADER_WORDS] == number + 1:
                return index
        return None

    def _value(self, index: int) -> Any:
        stamp, offset, length = self._header[index * HEADER_WORDS : (index + 1) * HEADER_WORDS]
        if self._read[index][0] != stamp:
            mail = self._mail[(stamp - 1) % len(self._mail)]
            self._read[index] = (stamp, _read_message(mail, offset, length))
        return self._read[index][1]


class OutputChannels:
    """What an output port writes through."""

    __slots__ = ("_block", "_clock", "_lanes")

    def __init__(
        self, lanes: Sequence[ArrayLane | ValueLane], block: Sequence[NDArray[Any]] | None, clock: Clock
    ) -> None:
        """Write to `lanes`; `block` has the slots of a multiport as one array each."""
        self._lanes = lanes
        self._block = block
        self._clock = clock

    def set(self, channel: int, value: Any) -> None:
        """Make `value` present on `channel`."""
        self._lanes[channel].set(self._clock.number, value)

    def array(self, channel: int) -> NDArray[Any]:
        """The memory of `channel` in this tag.

        Raises:
            TypeError: if the port declares no array.
        """
        lane = self._lanes[channel]
        if not isinstance(lane, ArrayLane):
            raise TypeError("This output declares no array, so there is nothing to fill in place. Use set(value).")
        return lane.array(self._clock.number)

    def slots(self) -> list[NDArray[Any]]:
        """The memory of a steady port, by tag number modulo the number of slots.

        Raises:
            TypeError: if the port is not steady.
        """
        lane = self._lanes[0]
        if not isinstance(lane, ArrayLane) or not lane.steady:
            raise TypeError("This output is not steady, so its slots do not turn with the tags. Use array().")
        return lane.slots if self._block is None else list(self._block)


class InputChannels:
    """What an input port reads through."""

    __slots__ = ("_activities", "_clock", "_feeds", "_nothing", "_phases", "_whole", "_wide")

    def __init__(
        self,
        feeds: Sequence[tuple[LiveLane, int] | None],
        whole: Sequence[NDArray[Any]] | None,
        clock: Clock,
        *,
        phases: int,
        wide: bool,
    ) -> None:
        """Read from `feeds`: each a lane and a delay. `whole` has all channels of steady feeds as one array a phase."""
        self._feeds = feeds
        self._whole = whole
        self._clock = clock
        self._phases = phases
        self._wide = wide
        self._nothing: list[Any] = [None] * len(feeds)
        self._activities = _activities(feeds)

    def is_present(self) -> bool:
        """Whether anything arrived in this tag."""
        number = self._clock.number
        return any(feed is not None and feed[0].is_present(number - feed[1]) for feed in self._feeds)

    def present(self, channel: int) -> Any:
        """What arrived on `channel` in this tag, or None."""
        feed = self._feeds[channel]
        return None if feed is None else feed[0].present(self._clock.number - feed[1])

    def all_present(self) -> list[Any]:
        """What arrived in this tag, channel by channel."""
        number = self._clock.number
        if self._activities is not None:
            for activity, delay in self._activities:
                if activity.any_at(number - delay):
                    break
            else:
                return self._nothing
        return [None if feed is None else feed[0].present(number - feed[1]) for feed in self._feeds]

    def slots(self) -> list[Any] | None:
        """What arrives from steady lanes, by tag number modulo the number of phases; None from others."""
        if self._whole is not None:
            return list(self._whole)
        steady: list[tuple[ArrayLane, int]] = []
        for feed in self._feeds:
            if feed is None or not isinstance(feed[0], ArrayLane) or not feed[0].steady:
                return None
            steady.append((feed[0], feed[1]))
        by_phase = [[lane.views[(p - d) % len(lane.views)] for lane, d in steady] for p in range(self._phases)]
        return list(by_phase) if self._wide else [values[0] for values in by_phase]


def block_views(
    block: LaneBlock, arrays: Sequence[NDArray[Any]], feeds: Sequence[tuple[int, int]], phases: int
) -> list[NDArray[Any]] | None:
    """All channels of a multiport as one read-only array a phase, if they lie side by side in `block`.

    `feeds` has the item in the block and the delay of every channel.
    """
    first, delay = feeds[0]
    if not block.steady or any(feed != (first + i, delay) for i, feed in enumerate(feeds)):
        return None
    stop = first + len(feeds)
    return [_read_only(arrays[(phase - delay) % len(arrays)][first:stop]) for phase in range(phases)]


def _activities(feeds: Sequence[tuple[LiveLane, int] | None]) -> list[tuple[Activity, int]] | None:
    """Whose activity tells whether anything arrives through `feeds`, and how much later; None if arrays may."""
    found: dict[tuple[int, int], tuple[Activity, int]] = {}
    for feed in feeds:
        if feed is None:
            continue
        lane, delay = feed
        if isinstance(lane, ArrayLane):
            return None
        assert isinstance(lane, ValueLane | ReceivedLane)
        found[id(lane.activity), delay] = (lane.activity, delay)
    return list(found.values())


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _find(stamps: Words, number: int) -> int | None:
    """The slot that holds the value of tag `number`."""
    if number >= 0:
        for index, stamp in enumerate(stamps):
            if stamp == number + 1:
                return index
    return None


def _write_message(mail: Segment, offset: int, value: Any) -> int:
    """Write `value` at `offset` of `mail`, which grows if it must; its length in bytes.

    Layout: number of parts, length of each, then the parts, aligned: the pickle, and its buffers.
    """
    buffers: list[pickle.PickleBuffer] = []
    parts = [memoryview(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))]
    parts += [buffer.raw() for buffer in buffers]
    head = np.array([len(parts), *(len(part) for part in parts)], np.int64)
    starts = [aligned(offset + head.nbytes)]
    for part in parts:
        starts.append(aligned(starts[-1] + len(part)))
    if starts[-1] > len(mail):
        mail.grow(starts[-1])
    memory = mail.memory
    memory[offset : offset + head.nbytes] = head.tobytes()
    for start, part in zip(starts, parts, strict=False):
        memory[start : start + len(part)] = part
    return starts[-1] - offset


def _read_message(mail: Segment, offset: int, length: int) -> Any:
    """The value written at `offset`; buffers are copied, so that it lives as long as anyone holds it."""
    memory = mail.reach(offset + length)
    count = memory[offset : offset + 8].cast("q")[0]
    lengths = memory[offset + 8 : offset + 8 * (count + 1)].cast("q").tolist()
    parts = []
    start = aligned(offset + 8 * (count + 1))
    for part in lengths:
        parts.append(bytes(memory[start : start + part]))
        start = aligned(start + part)
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - written by a worker of this very program
