"""Values while a program runs: lanes as one worker sees them, and the channels that ports look through.

An array lane keeps a few arrays, each with a stamp that tells the tag it belongs to (tag number + 1; 0
means never), so that presence needs no clearing. Where others read it, both lie in shared memory. Other
values stand in boxes, one for each worker; to other workers they travel as letters, pickled once a tag
and opened once by each worker that reads them.
"""

from __future__ import annotations

import marshal
import pickle
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from runtimes.reactor.memory import Segment, aligned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Words = list[int] | memoryview[int]
    """Stamps: private, or shared 8-byte words."""

__all__ = [
    "LETTER_WORDS",
    "ArrayLane",
    "ArrayLog",
    "Box",
    "Clock",
    "InputChannels",
    "LiveLane",
    "Mail",
    "Mailbox",
    "OutputChannels",
    "OwnBox",
    "ValueLane",
    "block_views",
]

LETTER_WORDS: Final = 3
"""What a table says of a letter: the stamp of its tag, offset and length, 8 bytes each."""

_TWO_WORDS: Final = struct.Struct("=qq")
_IN_BAND_BYTES: Final = 4096
"""Buffers up to this size are pickled with the rest: cheaper than a part of their own."""


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


@dataclass(frozen=True, slots=True)
class ArrayLog:
    """Which array lanes one worker has set, tag by tag: one look at it instead of one at every lane.

    For each of some turns (tag n uses number n modulo their number) the words are: the stamp of the tag,
    how many lanes, and which. A reader that comes while the writer goes on may see lanes too many, so it
    looks at the stamps of those it finds; it never sees too few of those it has waited for.
    """

    turns: Sequence[Words]

    def note(self, number: int, lane: int) -> None:
        """`lane` has been set at tag `number`."""
        words = self.turns[number % len(self.turns)]
        if words[0] != number + 1:
            words[1] = 0
            words[0] = number + 1
        count = words[1]
        words[2 + count] = lane
        words[1] = count + 1

    def at(self, number: int) -> Sequence[int]:
        """The lanes that were set at tag `number`."""
        words = self.turns[number % len(self.turns)]
        if number < 0 or words[0] != number + 1:
            return ()
        return words[2 : 2 + words[1]]


class ArrayLane:
    """An array in slots, private or shared."""

    __slots__ = ("_position", "_stamps", "index", "log", "slots", "steady", "views")

    def __init__(self, slots: Sequence[NDArray[Any]], stamps: Words | None, log: ArrayLog, index: int) -> None:
        """Write into `slots`; without `stamps` the lane is steady: tag n is in slot n modulo their number.

        A lane that is not steady notes in `log`, by its `index`, when it is set.
        """
        self.log = log
        self.index = index
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
            self.log.note(number, self.index)
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


class Box(Protocol):
    """What one worker has set on its value lanes, tag by tag."""

    def at(self, number: int) -> Mapping[int, Any]:
        """The values of tag `number`, by index of the lane."""
        ...


@dataclass(frozen=True, slots=True)
class ValueLane:
    """Any object, or nothing at all, in a tag."""

    box: Box
    index: int

    def present(self, number: int) -> Any:
        """The value of tag `number`, None if there was none."""
        return self.box.at(number).get(self.index)

    def is_present(self, number: int) -> bool:
        """Whether there was a value at tag `number`."""
        return self.index in self.box.at(number)


@dataclass(frozen=True, slots=True)
class Mail:
    """One worker's way to send values: tables of letters, and the segments that the letters lie in.

    Both take turns: tag n uses number n modulo `turns`. By the time that comes round again, every
    reader has fetched what it needs. A table has an entry for each publication of the tag and each group
    of readers, so that nobody looks at an entry before it has waited for its publication.
    """

    tables: Sequence[memoryview[int]]
    segments: Sequence[Segment]


class OwnBox:
    """What this worker has set; it goes out with the next flush where others read it."""

    __slots__ = ("_groups", "_mail", "_numbers", "_offset", "_outgoing", "_recipients", "_sent", "_values")

    def __init__(self, turns: int, recipients: Mapping[int, int], groups: int, mail: Mail | None) -> None:
        """Keep the values of `turns` tags; send those of the lanes in `recipients` (to one of so many groups)."""
        self._values: list[dict[int, Any]] = [{} for _ in range(turns)]
        self._numbers = [-1] * turns
        self._recipients = recipients
        self._outgoing: dict[int, dict[int, Any]] = {}
        self._groups = groups
        self._mail = mail
        self._sent = -1
        self._offset = 0

    def at(self, number: int) -> Mapping[int, Any]:
        """The values of tag `number`."""
        turn = number % len(self._numbers)
        return self._values[turn] if self._numbers[turn] == number else _NOTHING

    def put(self, number: int, lane: int, value: Any) -> None:
        """Make `value` the one of `lane` at tag `number`; the last one put counts."""
        turn = number % len(self._numbers)
        if self._numbers[turn] != number:
            self._numbers[turn] = number
            self._values[turn] = {}
        self._values[turn][lane] = value
        group = self._recipients.get(lane)
        if group is not None:
            self._outgoing.setdefault(group, {})[lane] = value

    def flush(self, number: int, step: int) -> None:
        """Send everything that waits with publication `step` of the tag, one letter for each group of readers."""
        if not self._outgoing:
            return
        assert self._mail is not None
        turn = number % len(self._numbers)
        table, segment = self._mail.tables[turn], self._mail.segments[turn]
        if self._sent != number:
            self._sent = number
            self._offset = 0
        for group, values in self._outgoing.items():
            length = _write_letter(segment, self._offset, values)
            word = (step * self._groups + group) * LETTER_WORDS
            table[word], table[word + 1], table[word + 2] = number + 1, self._offset, length
            self._offset = aligned(self._offset + length)
        self._outgoing = {}


class Mailbox:
    """What another worker has set, as far as this one reads it: each letter is opened once."""

    __slots__ = (
        "_clock",
        "_covered",
        "_covered_at",
        "_groups",
        "_mail",
        "_mine",
        "_numbers",
        "_opened",
        "_steps",
        "_values",
    )

    def __init__(self, mail: Mail, clock: Clock, mine: Sequence[int], groups: int, steps: int) -> None:
        """Open the letters in `mail` that are for `mine` of `groups`; the sender publishes `steps` times a tag."""
        turns = len(mail.tables)
        self._mail = mail
        self._clock = clock
        self._mine = mine
        self._groups = groups
        self._steps = steps
        self._covered = 0
        self._covered_at = -1
        self._values: list[dict[int, Any]] = [{} for _ in range(turns)]
        self._numbers = [-1] * turns
        self._opened = [0] * turns

    def cover(self, steps: int) -> None:
        """So many publications of the tag at hand have been waited for."""
        self._covered = steps
        self._covered_at = self._clock.number

    def at(self, number: int) -> Mapping[int, Any]:
        """The values of tag `number`, as far as their publication has been waited for."""
        if number < 0:
            return _NOTHING
        turn = number % len(self._numbers)
        if self._numbers[turn] != number:
            self._numbers[turn] = number
            self._values[turn] = {}
            self._opened[turn] = 0
        readable = self._steps
        if number == self._clock.number:
            readable = self._covered if self._covered_at == number else 0
        if self._opened[turn] < readable:
            self._open(turn, number, readable)
        return self._values[turn]

    def _open(self, turn: int, number: int, readable: int) -> None:
        """Open the letters of the publications that are `readable` now."""
        table, segment = self._mail.tables[turn], self._mail.segments[turn]
        for step in range(self._opened[turn], readable):
            for group in self._mine:
                word = (step * self._groups + group) * LETTER_WORDS
                if table[word] == number + 1:
                    self._values[turn].update(_read_letter(segment, table[word + 1], table[word + 2]))
        self._opened[turn] = readable


_NOTHING: Mapping[int, Any] = {}


class OutputChannels:
    """What an output port writes through."""

    __slots__ = ("_block", "_box", "_clock", "_lanes")

    def __init__(
        self, lanes: Sequence[ArrayLane | ValueLane], box: OwnBox, block: Sequence[NDArray[Any]] | None, clock: Clock
    ) -> None:
        """Write to `lanes`, values into `box`; `block` has the slots of a multiport as one array each."""
        self._lanes = lanes
        self._box = box
        self._block = block
        self._clock = clock

    def set(self, channel: int, value: Any) -> None:
        """Make `value` present on `channel`."""
        lane = self._lanes[channel]
        if isinstance(lane, ArrayLane):
            lane.set(self._clock.number, value)
        else:
            self._box.put(self._clock.number, lane.index, value)

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

    __slots__ = ("_boxes", "_clock", "_feeds", "_logs", "_nothing", "_phases", "_steady", "_whole", "_wide")

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
        self._steady = any(feed is not None and isinstance(feed[0], ArrayLane) and feed[0].steady for feed in feeds)
        self._boxes = _boxes(feeds)
        self._logs = _logs(feeds)

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
        if self._steady:
            return [None if feed is None else feed[0].present(number - feed[1]) for feed in self._feeds]
        found = self._nothing.copy()
        for log, delay, lanes_of in self._logs:
            for index in log.at(number - delay):
                for channel, lane in lanes_of.get(index, ()):
                    found[channel] = lane.present(number - delay)
        for box, delay, channels_of in self._boxes:
            for index, value in box.at(number - delay).items():
                for channel in channels_of.get(index, ()):
                    found[channel] = value
        return found

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
    arrays: Sequence[NDArray[Any]], feeds: Sequence[tuple[int, int]], phases: int
) -> list[NDArray[Any]] | None:
    """All channels of a multiport as one read-only array a phase, if they lie side by side in a steady block.

    `arrays` are the slots of the block; `feeds` has the item in it and the delay of every channel.
    """
    first, delay = feeds[0]
    if any(feed != (first + i, delay) for i, feed in enumerate(feeds)):
        return None
    stop = first + len(feeds)
    return [_read_only(arrays[(phase - delay) % len(arrays)][first:stop]) for phase in range(phases)]


def _boxes(feeds: Sequence[tuple[LiveLane, int] | None]) -> list[tuple[Box, int, dict[int, list[int]]]]:
    """From which boxes, how much later, which lane arrives on which channels.

    Most values are absent in most tags: looking at what a box has beats asking every lane.
    """
    found: dict[tuple[int, int], tuple[Box, int, dict[int, list[int]]]] = {}
    for channel, feed in enumerate(feeds):
        if feed is None:
            continue
        lane, delay = feed
        if not isinstance(lane, ValueLane):
            continue
        channels_of = found.setdefault((id(lane.box), delay), (lane.box, delay, {}))[2]
        channels_of.setdefault(lane.index, []).append(channel)
    return list(found.values())


def _logs(
    feeds: Sequence[tuple[LiveLane, int] | None],
) -> list[tuple[ArrayLog, int, dict[int, list[tuple[int, ArrayLane]]]]]:
    """The same for array lanes that are not steady: from which logs, how much later, which lane, on which channels."""
    found: dict[tuple[int, int], tuple[ArrayLog, int, dict[int, list[tuple[int, ArrayLane]]]]] = {}
    for channel, feed in enumerate(feeds):
        if feed is None:
            continue
        lane, delay = feed
        if isinstance(lane, ArrayLane) and not lane.steady:
            channels_of = found.setdefault((id(lane.log), delay), (lane.log, delay, {}))[2]
            channels_of.setdefault(lane.index, []).append((channel, lane))
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


def _write_letter(segment: Segment, offset: int, values: Mapping[int, Any]) -> int:
    """Write `values` at `offset` of `segment`, which grows if it must; the length in bytes.

    Layout: number of parts, length of each, then the parts: the pickle, and its large buffers, aligned.
    Small arrays alone go as one part marked -1, in Python's own plain form: a pickle of NumPy's takes
    11 us and 20 us cold, this 2 and 5, which a round of CartPole notices at every end of an episode.
    """
    plain = _as_plain(values)
    if plain is not None:
        start = offset + 16 + len(plain)
        if start > len(segment):
            segment.grow(start)
        _TWO_WORDS.pack_into(segment.memory, offset, -1, len(plain))
        segment.memory[offset + 16 : start] = plain
        return start - offset
    buffers: list[pickle.PickleBuffer] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes <= _IN_BAND_BYTES:
            return True
        buffers.append(buffer)
        return False

    parts: list[Any] = [pickle.dumps(values, protocol=5, buffer_callback=in_band)]
    parts += [buffer.raw() for buffer in buffers]
    start = offset + 8 * (len(parts) + 1)
    places = []
    for part in parts:
        places.append(start)
        start = aligned(start + len(part))
    if start > len(segment):
        segment.grow(start)
    memory = segment.memory
    struct.pack_into(f"={len(parts) + 1}q", memory, offset, len(parts), *map(len, parts))
    for place, part in zip(places, parts, strict=True):
        memory[place : place + len(part)] = part
    return start - offset


def _read_letter(segment: Segment, offset: int, length: int) -> Mapping[int, Any]:
    """The values written at `offset`; buffers are copied, so that they live as long as anyone holds them."""
    memory = segment.reach(offset + length)
    count, size = _TWO_WORDS.unpack_from(memory, offset)
    if count == -1:
        return _from_plain(memory[offset + 16 : offset + 16 + size])
    parts = []
    start = offset + 8 * (count + 1)
    for size in struct.unpack_from(f"={count}q", memory, offset + 8):
        parts.append(bytes(memory[start : start + size]))
        start = aligned(start + size)
    values: Mapping[int, Any] = pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - from a worker of this program
    return values


def _as_plain(values: Mapping[int, Any]) -> bytes | None:
    """`values` in the plain form, or None unless all are small arrays of numbers."""
    plain = {}
    for lane, value in values.items():
        if type(value) is not np.ndarray or value.nbytes > _IN_BAND_BYTES or value.dtype.kind not in "biufc":
            return None
        plain[lane] = (value.dtype.str, value.shape, value.tobytes())
    return marshal.dumps(plain)


def _from_plain(data: memoryview) -> dict[int, Any]:
    """What `_as_plain` was given; the arrays are read-only."""
    plain = marshal.loads(data)  # noqa: S302 - from a worker of this program
    return {lane: np.frombuffer(raw, dtype).reshape(shape) for lane, (dtype, shape, raw) in plain.items()}
