"""How values that are no declared arrays get from one worker to others: letters.

What a worker has set for others goes out with its next publication, one letter for each group of
workers that read the same. To another process a letter travels through shared memory, pickled once a
tag and opened once by each process; to another thread it is handed over as it is.
"""

from __future__ import annotations

import marshal
import pickle
import struct
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from runtimes.reactor.memory import Segment, aligned
from runtimes.reactor.partition import LETTER_WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LocalPost", "Post", "SharedPost"]

_TWO_WORDS: Final = struct.Struct("=qq")
_IN_BAND_BYTES: Final = 4096
"""Buffers up to this size are pickled with the rest: cheaper than a part of their own."""


_LARGE: Final = 1 << 62
"""Integers below this, and nothing at all, travel in the table of letters itself."""
_SIMPLE: Final = frozenset({type(None), bool, int, float, str, bytes})
"""Values of these very types go in Python's own plain form: a pickle takes twice as long."""


class Post(Protocol):
    """The letters of one worker."""

    def send(self, number: int, step: int, group: int, values: Mapping[int, Any]) -> None:
        """Send the values of some lanes with publication `step` of tag `number`."""
        ...

    def fetch(self, number: int, step: int, group: int) -> Mapping[int, Any] | None:
        """What came with that publication, None if nothing did."""
        ...


class LocalPost:
    """Letters between threads."""

    def __init__(self, steps: int, groups: int) -> None:
        """Have a place for each publication and group of readers."""
        self._groups = groups
        self._places: list[tuple[int, Mapping[int, Any]]] = [(-1, {})] * (steps * groups)

    def send(self, number: int, step: int, group: int, values: Mapping[int, Any]) -> None:
        """Put the letter where it is looked for."""
        self._places[step * self._groups + group] = (number, values)

    def fetch(self, number: int, step: int, group: int) -> Mapping[int, Any] | None:
        """The letter that was put there in this tag."""
        sent, values = self._places[step * self._groups + group]
        return values if sent == number else None


class SharedPost:
    """Letters between processes: a table in shared memory says where in a segment each one lies.

    A table has an entry for each publication and group, so that nobody looks at one before it has
    waited for its publication.
    """

    def __init__(self, table: memoryview[int], segment: Segment, groups: int) -> None:
        """Write to, or read from, `segment`."""
        self._table = table
        self._segment = segment
        self._groups = groups
        self._sent = -1
        self._offset = 0

    def send(self, number: int, step: int, group: int, values: Mapping[int, Any]) -> None:
        """Write a letter, and say where."""
        table, word = self._table, (step * self._groups + group) * LETTER_WORDS
        if len(values) == 1:
            ((lane, value),) = values.items()
            if value is None or (type(value) is int and -_LARGE < value < _LARGE):
                # Fits into the words themselves: saves 1 us a letter.
                table[word], table[word + 1] = number + 1, -1 - lane
                table[word + 2] = _LARGE if value is None else value
                return
        if self._sent != number:
            self._sent = number
            self._offset = 0
        length = _write_letter(self._segment, self._offset, values)
        table[word], table[word + 1], table[word + 2] = number + 1, self._offset, length
        self._offset = aligned(self._offset + length)

    def fetch(self, number: int, step: int, group: int) -> Mapping[int, Any] | None:
        """Open the letter, if there is one."""
        word = (step * self._groups + group) * LETTER_WORDS
        table = self._table
        if table[word] != number + 1:
            return None
        offset, length = table[word + 1], table[word + 2]
        if offset < 0:
            return {-1 - offset: None if length == _LARGE else length}
        return _read_letter(self._segment, offset, length)


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
    """`values` in the plain form, or None unless all are simple values or small arrays of numbers."""
    if all(type(value) in _SIMPLE for value in values.values()):
        return marshal.dumps(dict(values))
    arrays: dict[int, Any] = {}
    for lane, value in values.items():
        if type(value) is not np.ndarray or value.nbytes > _IN_BAND_BYTES or value.dtype.kind not in "biufc":
            return None
        arrays[lane] = (value.dtype.str, value.shape, value.tobytes())
    return marshal.dumps(arrays)


def _from_plain(data: memoryview) -> dict[int, Any]:
    """What `_as_plain` was given; the arrays are read-only."""
    plain: dict[int, Any] = marshal.loads(data)  # noqa: S302 - from a worker of this program
    for lane, value in plain.items():
        if type(value) is tuple:
            dtype, shape, raw = value
            plain[lane] = np.frombuffer(raw, dtype).reshape(shape)
    return plain
