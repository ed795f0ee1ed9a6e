"""How values that are no declared arrays get from one worker to others: letters.

What a worker has set for others goes out with its next publication, one letter for each group of
workers that read the same. To another process a letter travels through shared memory, pickled once a
tag and opened once by each process; to another thread it is handed over as it is.
"""

from __future__ import annotations

import marshal
import pickle
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from runtimes.reactor.memory import Segment, aligned
from runtimes.reactor.partition import LETTER_WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Fetch", "LocalPost", "Post", "Send", "SharedPost"]

_TWO_WORDS: Final = struct.Struct("=qq")
_IN_BAND_BYTES: Final = 4096
"""Buffers up to this size are pickled with the rest: cheaper than a part of their own."""


_LARGE: Final = 1 << 62
"""Integers below this, and nothing at all, travel in the table of letters itself."""
_SIMPLE: Final = frozenset({type(None), bool, int, float, str, bytes})
"""Values of these very types go in Python's own plain form: a pickle takes twice as long."""


Send = Callable[[int, "dict[int, Any]"], None]
"""Sends values of lanes at a tag, by its number."""
Fetch = Callable[[int], "Mapping[int, Any] | None"]
"""What was sent at a tag, None if nothing was."""


class Post(Protocol):
    """The letters of one worker.

    Senders and fetchers are made once for each publication and group, as the place of a letter is known before
    anything runs: this saves 0.5 us a letter.
    """

    def sender(self, step: int, group: int) -> Send:
        """What sends with publication `step` to a group of readers."""
        ...

    def fetcher(self, step: int, group: int) -> Fetch:
        """What fetches that."""
        ...


class LocalPost:
    """Letters between threads."""

    def __init__(self, groups: int) -> None:
        """Have a place for each publication and group of readers."""
        self._groups = groups
        self._places: dict[tuple[int, int], tuple[int, Mapping[int, Any]]] = {}

    def sender(self, step: int, group: int) -> Send:
        """What puts a letter where it is looked for."""
        places, place = self._places, (step, group)

        def send(number: int, values: dict[int, Any]) -> None:
            places[place] = number, values.copy()

        return send

    def fetcher(self, step: int, group: int) -> Fetch:
        """What looks there."""
        places, place = self._places, (step, group)

        def fetch(number: int) -> Mapping[int, Any] | None:
            sent, values = places.get(place, _NEVER)
            return values if sent == number else None

        return fetch


_NEVER: Final[tuple[int, Mapping[int, Any]]] = (-1, {})


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

    def sender(self, step: int, group: int) -> Send:
        """What writes a letter, and says where."""
        table, word = self._table, (step * self._groups + group) * LETTER_WORDS

        def send(number: int, values: dict[int, Any]) -> None:
            if len(values) == 1:
                ((lane, value),) = values.items()
                if value is None or (type(value) is int and -_LARGE < value < _LARGE):
                    # Fits into the words themselves: saves 1 us a letter.
                    table[word], table[word + 1] = number + 1, -1 - lane
                    table[word + 2] = _LARGE if value is None else value
                    return
            offset = self._offset if self._sent == number else 0
            length = _write_letter(self._segment, offset, values)
            table[word], table[word + 1], table[word + 2] = number + 1, offset, length
            self._sent, self._offset = number, aligned(offset + length)

        return send

    def fetcher(self, step: int, group: int) -> Fetch:
        """What opens a letter, if there is one."""
        table, word = self._table, (step * self._groups + group) * LETTER_WORDS

        def fetch(number: int) -> Mapping[int, Any] | None:
            if table[word] != number + 1:
                return None
            offset, length = table[word + 1], table[word + 2]
            if offset < 0:
                return {-1 - offset: None if length == _LARGE else length}
            return _read_letter(self._segment, offset, length)

        return fetch


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
        if (
            type(value) is not np.ndarray
            or value.nbytes > _IN_BAND_BYTES
            or value.dtype.kind not in "biufc"
            or not value.flags.c_contiguous
        ):
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
