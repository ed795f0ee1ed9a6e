"""A `State` as a file, without pickle, written whole or not at all.

| bytes        | what                                                                                    |
|--------------|-----------------------------------------------------------------------------------------|
| 8            | `MAGIC`                                                                                 |
| 4            | the version of the format, little-endian, as all numbers here                           |
| 8            | length of the header                                                                    |
| so many      | the header, MessagePack: all of the state but its arrays, for which numbers stand       |
| to a multiple of 64, each | the arrays, C-contiguous                                                   |
| 16           | XXH3 (128 bits) of everything before, against damage, not against malice                |

In the header what has parts is a list that begins with a letter: `l` list, `t` tuple, `m` mapping (keys and values in
turn), `a` array (its number), `s` scalar of NumPy (the number of an array), `i` integer of more than 64 bits (in
hexadecimal).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import xxhash

from workloads.dataflow.state import State, TaskState
from workloads.dataflow.values import Gathered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

    from numpy.typing import NDArray

__all__ = ["FORMAT_VERSION", "MAGIC", "read_state", "write_state"]

MAGIC: Final = b"RBSTATE\n"
FORMAT_VERSION: Final = 1

_ALIGNMENT: Final = 64
_CHECKSUM_BYTES: Final = 16
_PREFIX_BYTES: Final = len(MAGIC) + 4 + 8
_BLOCK_BYTES: Final = 1 << 20
_NONSENSE: Final = (
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    MemoryError,
    RecursionError,
)
"""What reading a header raises whose checksum is right but which this program has not written."""
_LEAST_INT, _MOST_INT = -(1 << 63), (1 << 64) - 1
"""What MessagePack can hold."""


class _Header(msgspec.Struct, frozen=True, array_like=True):
    """What stands in the file before the arrays."""

    workload: str
    parameters: Any
    seed: Any
    round: int
    tasks: dict[str, list[tuple[Any, Any]]]
    """Of every member what it kept and what is in flight."""
    arrays: list[tuple[str, list[int]]]
    """Dtype and shape of each, in the order in which they follow."""


def write_state(path: Path, state: State) -> None:
    """Write `state` to `path`: beside it first, then in its place.

    Raises:
        TypeError: for a value that the format cannot hold; says where it is.
        OSError: if it cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    parts = _parts_of(state)
    try:
        with beside.open("wb") as file:
            checksum = xxhash.xxh3_128()
            for part in parts:
                file.write(part)
                checksum.update(part)
            file.write(checksum.digest())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    _settle(path.parent)


def read_state(path: Path) -> State:
    """What `write_state` wrote to `path`.

    Raises:
        ValueError: if it is no such file, damaged, or of another version of the format.
        OSError: if it cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        prefix = file.read(_PREFIX_BYTES)
        if not prefix.startswith(MAGIC):
            raise ValueError(f"'{path}' is no saved state: it begins with {prefix[: len(MAGIC)]!r}, not {MAGIC!r}.")
        version = int.from_bytes(prefix[len(MAGIC) : len(MAGIC) + 4], "little")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"'{path}' is a saved state in version {version} of the format, and this program reads version "
                f"{FORMAT_VERSION}. Read it with the program that wrote it."
            )
        end = _checked_end(file, path)
        try:
            return _decoded(file, int.from_bytes(prefix[len(MAGIC) + 4 :], "little"), end)
        except _NONSENSE as error:
            raise ValueError(f"'{path}' is a saved state that cannot be understood: {error}.") from error


# --------------------------------------------------------------------------------------------- writing


def _parts_of(state: State) -> list[Any]:
    """What the file consists of, but for the checksum: bytes and views of arrays."""
    writer = _Writer()
    tasks = {
        path: [
            (
                writer.coded(member.kept, f"what task '{path}' ({index}) keeps"),
                writer.coded(member.in_flight, f"what is in flight from task '{path}' ({index})"),
            )
            for index, member in enumerate(members)
        ]
        for path, members in state.tasks.items()
    }
    header = msgspec.msgpack.encode(
        _Header(
            workload=state.workload,
            parameters=writer.coded(state.parameters, "parameters"),
            seed=writer.coded(state.seed, "seed"),
            round=state.round,
            tasks=tasks,
            arrays=[(array.dtype.str, list(array.shape)) for array in writer.arrays],
        )
    )
    prefix = MAGIC + FORMAT_VERSION.to_bytes(4, "little") + len(header).to_bytes(8, "little")
    parts: list[Any] = [prefix, header]
    written = len(prefix) + len(header)
    for array in writer.arrays:
        padding = -written % _ALIGNMENT
        parts += [bytes(padding), _bytes_of(array)]
        written += padding + array.nbytes
    return parts


@dataclass(slots=True)
class _Writer:
    """Codes values, and collects their arrays."""

    arrays: list[NDArray[Any]] = field(default_factory=list)

    def coded(self, value: Any, where: str) -> Any:
        """`value` as the header holds it.

        Raises:
            TypeError: for one that it cannot hold.
        """
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "OV":
            self.arrays.append(np.ascontiguousarray(value).reshape(np.shape(value)))
            return ["a" if isinstance(value, np.ndarray) else "s", len(self.arrays) - 1]
        if value is None or isinstance(value, bool | float | str | bytes):
            return value
        if isinstance(value, int):
            return value if _LEAST_INT <= value <= _MOST_INT else ["i", hex(value)]
        if isinstance(value, Mapping):
            return ["m", *(self.coded(part, where) for item in value.items() for part in item)]
        if isinstance(value, list | tuple | Gathered):
            return ["t" if isinstance(value, tuple) else "l", *(self.coded(item, where) for item in value)]
        raise TypeError(
            f"A file cannot hold {where}: it has a {type(value).__name__} in it. It holds arrays, numbers, texts, "
            "bytes and None, and lists, tuples and mappings of these."
        )


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _settle(folder: Path) -> None:
    """Have the new name of a file outlast a loss of power, where folders can be told to."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


# --------------------------------------------------------------------------------------------- reading


def _checked_end(file: BufferedReader, path: Path) -> int:
    """Where the checksum begins, if it is right."""
    end = file.seek(0, os.SEEK_END) - _CHECKSUM_BYTES
    file.seek(0)
    checksum = xxhash.xxh3_128()
    for block in _blocks(file, end):
        checksum.update(block)
    if end < _PREFIX_BYTES or checksum.digest() != file.read():
        raise ValueError(f"'{path}' is a damaged saved state: its checksum is not that of its content.")
    return end


def _blocks(file: BufferedReader, end: int) -> Iterator[bytes]:
    for begin in range(0, end, _BLOCK_BYTES):
        yield file.read(min(_BLOCK_BYTES, end - begin))


def _decoded(file: BufferedReader, header_bytes: int, end: int) -> State:
    """What the file says.

    Raises:
        ValueError: if something in it does not fit.
    """
    if header_bytes > end - _PREFIX_BYTES:
        raise ValueError(f"a header of {header_bytes} bytes in a file of {end}")
    file.seek(_PREFIX_BYTES)
    header = msgspec.msgpack.decode(file.read(header_bytes), type=_Header)
    reader = _Reader(_arrays(file, header, end))
    return State(
        workload=header.workload,
        parameters=reader.mapping(header.parameters),
        seed=reader.value(header.seed),
        round=header.round,
        tasks={
            path: [TaskState(kept=reader.mapping(kept), in_flight=reader.mapping(sent)) for kept, sent in members]
            for path, members in header.tasks.items()
        },
    )


def _arrays(file: BufferedReader, header: _Header, end: int) -> list[NDArray[Any]]:
    """All arrays of the file, read-only."""
    arrays = []
    for name, shape in header.arrays:
        dtype = np.dtype(name)
        count = int(np.prod(shape, dtype=object)) if shape else 1
        begin = file.tell() + -file.tell() % _ALIGNMENT
        if dtype.hasobject or min(shape, default=0) < 0 or begin + count * dtype.itemsize > end:
            raise ValueError(f"an array of shape {shape} and dtype {name} in a file of {end} bytes")
        file.seek(begin)
        array = np.empty(shape, dtype)
        file.readinto(_bytes_of(array))
        array.flags.writeable = False
        arrays.append(array)
    return arrays


@dataclass(slots=True)
class _Reader:
    """Makes values again of what stands in the header."""

    arrays: list[NDArray[Any]]

    def mapping(self, coded: Any) -> dict[str, Any]:
        """The mapping that was coded.

        Raises:
            ValueError: if it was something else.
        """
        value = self.value(coded)
        if not isinstance(value, dict):
            raise ValueError(f"a {type(value).__name__} in place of a mapping")  # noqa: TRY004 - of the file, not of a call
        return value

    def value(self, coded: Any) -> Any:
        """The value that was coded."""
        if not isinstance(coded, list):
            return coded
        kind, *parts = coded
        if kind in {"a", "s"}:
            array = self.arrays[parts[0]]
            return array if kind == "a" else array[()]
        if kind == "i":
            return int(parts[0], 16)
        values = [self.value(part) for part in parts]
        if kind == "m":
            return dict(zip(values[::2], values[1::2], strict=True))
        return {"l": list, "t": tuple}[kind](values)
