"""Buffers in files: written whole or not at all, checked when read, and without pickle.

A file is a preamble of 64 bytes, then arrays as they lie in memory (little-endian, each from a multiple of 64 bytes
on), then a directory in JSON: kind, configuration, and of each array its name, dtype, shape, offset and digest. The
preamble says the format's version, how long the file is, and where the directory lies, with its digest. So a change of
any byte that matters is noticed, and nothing is allocated that is larger than the file is.

`write` and `read` do all at once. `Saved` reads one array after the other, into memory that is there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import struct
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["FORMAT", "Saved", "SavedReplayError", "generator_from", "generator_state", "read", "restoring", "write"]

FORMAT = 1
"""The version of the format that is written; it and all before can be read."""

# Not a valid start in any text encoding; a transfer that translates ends of lines breaks it.
_MAGIC = b"\x89RPB\r\n\x1a\n"
_DIGEST_BYTES = 24
_PREAMBLE = struct.Struct(f"<8sI4xQQQ{_DIGEST_BYTES}s")  # magic, format; bytes of the file; offset and bytes of the
_ALIGNMENT = 64  # directory; its digest
_DIRECTORY_BYTES_MAX = 1 << 26
_PIECE_BYTES = 1 << 22  # arrays are copied and hashed in pieces that stay in the processor's caches
_KINDS = "biufc"
_DTYPE = re.compile(rf"[<|][{_KINDS}]\d{{1,2}}")  # as NumPy writes them, and no other of the many ways


class SavedReplayError(ValueError):
    """A file does not hold what was asked for: it is truncated, foreign, of a newer format, or corrupt."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)}: {reason}")


def write(
    path: str | os.PathLike[str], kind: str, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> None:
    """Write a file whole, or leave what was there as it is.

    The file is written beside its place, brought to the disk, and renamed.

    Args:
        path: where to; a file that is there is replaced.
        kind: what it is, for `read` to check.
        config: everything but arrays, as JSON knows it; numbers are finite.
        arrays: numbers or booleans, of any shape and strides.

    Raises:
        OSError: if it cannot be written.
        TypeError: if something in config is not JSON, or an array holds neither numbers nor booleans.
        ValueError: if a number in config is not finite.
    """
    target = Path(path).resolve()
    beside = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    json.dumps(config, allow_nan=False)  # says what is wrong before anything is written
    try:
        with beside.open("xb") as file:
            _write_into(file, kind, config, arrays)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name, too
    finally:
        os.close(folder)


def read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The configuration and the arrays that `write` was given.

    Raises:
        OSError: if there is no such file, or it cannot be read.
        SavedReplayError: if it holds something else, or is damaged.
    """
    with Saved(path, kind) as saved:
        return saved.config, {name: saved.read(name) for name in saved.arrays}


@contextlib.contextmanager
def restoring(path: str | os.PathLike[str]) -> Iterator[None]:
    """Says of errors within that the file's contents do not fit together, so that a made-up file is told so, too."""
    try:
        yield
    except SavedReplayError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise SavedReplayError(path, f"what it holds does not fit together: {error}") from error


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a PCG64 generator, as JSON knows it."""
    state: dict[str, Any] = dict(rng.bit_generator.state)
    return state


def generator_from(state: Mapping[str, Any]) -> np.random.Generator:
    """A PCG64 generator that goes on from `state`.

    Raises:
        LookupError, TypeError, ValueError, OverflowError: if it is no such state.
    """
    bits = np.random.PCG64(0)
    at, step = int(state["state"]["state"]), int(state["state"]["inc"])
    half, has_half = int(state["uinteger"]), int(state["has_uint32"])
    if not (0 <= at < 1 << 128 and 0 <= step < 1 << 128 and step % 2 and 0 <= half < 1 << 32 and has_half in {0, 1}):
        raise ValueError("the generator's state is none of a PCG64")
    if state["bit_generator"] != "PCG64":
        raise ValueError(f"the generator is a {state['bit_generator']}, not a PCG64")
    whole: Any = {"state": at, "inc": step}
    bits.state = {"bit_generator": "PCG64", "state": whole, "has_uint32": has_half, "uinteger": half}
    return np.random.Generator(bits)


class Saved:
    """A file that is open for reading; a context manager that closes it.

    Attributes:
        config: what `write` was given.
        arrays: shape and dtype of each array, by name.
    """

    def __init__(self, path: str | os.PathLike[str], kind: str) -> None:
        """Read all but the arrays.

        Raises:
            OSError: if there is no such file, or it cannot be read.
            SavedReplayError: if it holds something else, or is damaged.
        """
        self._path = path
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed by __exit__
        try:
            self._directory = self._read_directory()
            with restoring(path):
                self._check_kind(kind)
                self.config: dict[str, Any] = dict(self._directory["config"])
                self._places = {entry["name"]: self._place(entry) for entry in self._directory["arrays"]}
        except BaseException:
            self._file.close()
            raise
        self.arrays = {name: (shape, dtype) for name, (shape, dtype, _, _) in self._places.items()}

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self._file.close()

    def read(self, name: str) -> NDArray[Any]:
        """An array.

        Raises:
            SavedReplayError: if there is none of this name, or it is damaged.
        """
        with restoring(self._path):
            shape, dtype, _, _ = self._places[name]
        array = np.empty(shape, dtype)
        self.read_into(name, array)
        return array

    def read_into(self, name: str, out: NDArray[Any]) -> None:
        """Fill an array of any strides; after an error its contents are undefined.

        Raises:
            SavedReplayError: if there is none of this name, `out` has another shape or dtype, or it is damaged.
        """
        with restoring(self._path):
            shape, dtype, offset, digest = self._places[name]
        if out.shape != shape or out.dtype != dtype:
            raise SavedReplayError(
                self._path, f"{name!r} is {dtype} of shape {shape}, not {out.dtype} of shape {out.shape} as expected."
            )
        self._file.seek(offset)
        seen = blake2b(digest_size=_DIGEST_BYTES)
        for piece in _pieces(out):
            part = np.empty(piece.shape, _stored(dtype))
            if self._file.readinto(_raw(part)) != part.nbytes:
                raise SavedReplayError(self._path, f"it ends within {name!r}: it was cut while it was read.")
            seen.update(_raw(part))
            if dtype.kind == "b" and part.view(np.uint8).max(initial=0) > 1:
                raise SavedReplayError(self._path, f"{name!r} holds something that is neither true nor false.")
            piece[...] = part
        if seen.hexdigest() != digest:
            raise SavedReplayError(self._path, f"{name!r} is corrupt: it is not what was written.")

    def _check_kind(self, kind: str) -> None:
        found = self._directory["kind"]
        if found != kind:
            raise SavedReplayError(self._path, f"it holds a {found} buffer, not a {kind} one: load it as that.")

    def _read_directory(self) -> dict[str, Any]:
        size = os.fstat(self._file.fileno()).st_size
        preamble = self._file.read(_PREAMBLE.size)
        if not preamble.startswith(_MAGIC):
            raise SavedReplayError(self._path, "it is no saved replay buffer.")
        if len(preamble) < _PREAMBLE.size:
            raise SavedReplayError(self._path, f"it is truncated: it ends after {size} bytes.")
        _, version, whole, offset, length, digest = _PREAMBLE.unpack(preamble)
        if version > FORMAT:
            raise SavedReplayError(
                self._path, f"it has format {version}, and this version reads up to {FORMAT}. Install a newer one."
            )
        if version < 1:
            raise SavedReplayError(self._path, f"it is corrupt: there is no format {version}.")
        if size < whole:
            raise SavedReplayError(self._path, f"it is truncated: {size} of {whole} bytes are there.")
        if size > whole or offset + length > whole or length > _DIRECTORY_BYTES_MAX:
            raise SavedReplayError(self._path, f"it is corrupt: its {size} bytes do not fit its preamble.")
        self._file.seek(offset)
        text = self._file.read(length)
        if blake2b(text, digest_size=_DIGEST_BYTES).digest() != digest:
            raise SavedReplayError(self._path, "its directory is corrupt: it is not what was written.")
        self._size = size
        try:
            directory = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SavedReplayError(self._path, f"its directory is no JSON: {error}") from error
        if not isinstance(directory, dict):
            raise SavedReplayError(self._path, "its directory is none.")
        return directory

    def _place(self, entry: Mapping[str, Any]) -> tuple[tuple[int, ...], np.dtype[Any], int, str]:
        """Shape, dtype, offset and digest of an array."""
        name, shape, offset = entry["name"], tuple(entry["shape"]), entry["offset"]
        if not _DTYPE.fullmatch(entry["dtype"]):
            raise SavedReplayError(self._path, f"{name!r} has dtype {entry['dtype']}, which is none of numbers.")
        dtype = np.dtype(entry["dtype"])
        if not isinstance(name, str) or not all(type(number) is int and number >= 0 for number in (*shape, offset)):
            raise SavedReplayError(self._path, f"{name!r} has shape {shape} at {offset}, which is none.")
        if offset + math.prod(shape) * dtype.itemsize > self._size:
            raise SavedReplayError(self._path, f"{name!r} would reach beyond the end of the file.")
        return shape, dtype.newbyteorder("="), offset, str(entry["digest"])


def _write_into(file: BinaryIO, kind: str, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    file.write(bytes(_PREAMBLE.size))
    entries = []
    for name, array in arrays.items():
        if array.dtype.kind not in _KINDS:
            raise TypeError(f"Array {name!r} has dtype {array.dtype}, but only numbers and booleans are saved.")
        offset = _pad(file)
        seen = blake2b(digest_size=_DIGEST_BYTES)
        for piece in _pieces(array):
            part = np.ascontiguousarray(piece, _stored(array.dtype))
            file.write(_raw(part))
            seen.update(_raw(part))
        dtype = _stored(array.dtype).str
        entries.append(
            {"name": name, "dtype": dtype, "shape": array.shape, "offset": offset, "digest": seen.hexdigest()}
        )
    offset = _pad(file)
    directory = {"kind": kind, "config": dict(config), "arrays": entries}
    text = json.dumps(directory, allow_nan=False).encode()
    file.write(text)
    digest = blake2b(text, digest_size=_DIGEST_BYTES).digest()
    file.seek(0)
    file.write(_PREAMBLE.pack(_MAGIC, FORMAT, offset + len(text), offset, len(text), digest))


def _pad(file: BinaryIO) -> int:
    """Zeros up to where something may begin."""
    file.write(bytes(-file.tell() % _ALIGNMENT))
    return file.tell()


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


def _pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views of rows of `array`, of about _PIECE_BYTES each."""
    rows = array.reshape(-1) if array.flags.c_contiguous else array
    if rows.size == 0:
        return
    step = max(1, _PIECE_BYTES * len(rows) // rows.nbytes)
    for at in range(0, len(rows), step):
        yield rows[at : at + step]


def _raw(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
