"""Damaged and forged copies of a file, for tests of what restores it.

`python -m tests.workloads.replay.mutations 20000` makes so many of each, and counts what became of them.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import struct
import sys
import tempfile
from collections import Counter
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from workloads.replay import PrioritizedReplay
from workloads.replay.saving import SavedReplayError

__all__ = ["damaged", "forged", "saved_buffer"]

_PREAMBLE = struct.Struct("<8sI4xQQQ24s")


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """A copy in which bits were flipped, or bytes cut out, inserted, overwritten or swapped; sometimes several."""
    copy = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        rng.choice((_flip, _cut, _end, _insert, _overwrite, _swap))(copy, rng)
    return bytes(copy)


def _place(copy: bytearray, rng: random.Random) -> int:
    """Anywhere, but often in the first 64 bytes or the last 2048, where the structure of files is."""
    last = max(len(copy) - 1, 0)
    return rng.choice((rng.randint(0, last), rng.randint(0, min(63, last)), rng.randint(max(0, last - 2048), last)))


def _flip(copy: bytearray, rng: random.Random) -> None:
    if copy:
        copy[_place(copy, rng)] ^= 1 << rng.randrange(8)


def _cut(copy: bytearray, rng: random.Random) -> None:
    at = _place(copy, rng)
    del copy[at : at + rng.choice((1, 8, 64, 500))]


def _end(copy: bytearray, rng: random.Random) -> None:
    del copy[_place(copy, rng) :]


def _insert(copy: bytearray, rng: random.Random) -> None:
    at = _place(copy, rng)
    copy[at:at] = rng.randbytes(rng.choice((1, 8, 64)))


def _overwrite(copy: bytearray, rng: random.Random) -> None:
    at, size = _place(copy, rng), rng.choice((1, 2, 4, 8))
    copy[at : at + size] = rng.choice((b"\x00", b"\xff", rng.randbytes(1))) * min(size, len(copy) - at)


def _swap(copy: bytearray, rng: random.Random) -> None:
    size, one, other = rng.choice((1, 8, 64)), _place(copy, rng), _place(copy, rng)
    if abs(one - other) >= size and max(one, other) + size <= len(copy):
        copy[one : one + size], copy[other : other + size] = copy[other : other + size], copy[one : one + size]


def forged(whole: bytes, rng: random.Random) -> bytes:
    """A copy whose digests are right but whose directory or arrays say something else."""
    magic, version, _, offset, length, _ = _PREAMBLE.unpack_from(whole)
    directory, arrays = json.loads(whole[offset : offset + length]), bytearray(whole[:offset])
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice((_forge_directory, _forge_array))(directory, arrays, rng)
    for entry in directory["arrays"]:
        start, size = entry.get("offset"), _size(entry)
        if isinstance(start, int) and size is not None:
            entry["digest"] = blake2b(arrays[start : start + size], digest_size=24).hexdigest()
    text = json.dumps(directory).encode()
    preamble = (magic, version, offset + len(text), offset, len(text), blake2b(text, digest_size=24).digest())
    arrays[: _PREAMBLE.size] = _PREAMBLE.pack(*preamble)
    return bytes(arrays) + text


def _size(entry: dict[str, Any]) -> int | None:
    """Bytes of an array, or None if its entry was forged already."""
    try:
        size = math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
    except (LookupError, TypeError):
        return None
    return size if isinstance(size, int) else None


def _forge_directory(directory: dict[str, Any], _: bytearray, rng: random.Random) -> None:
    inside: Any = rng.choice((directory["config"], directory["config"], rng.choice(directory["arrays"])))
    while True:
        key: Any = rng.choice(list(inside)) if isinstance(inside, dict) else rng.randrange(len(inside))
        if not isinstance(inside[key], dict | list) or not inside[key] or rng.random() < 0.2:
            break
        inside = inside[key]
    if rng.random() < 0.2:
        del inside[key]
    else:
        inside[key] = rng.choice((None, True, 0, 1, -1, 7, 3.5, -0.5, 1e308, 2**63, 10**30, "", "float32", "O", [], {}))


def _forge_array(directory: dict[str, Any], arrays: bytearray, rng: random.Random) -> None:
    entry = rng.choice(directory["arrays"])
    size, start = _size(entry), entry.get("offset")
    if size and isinstance(start, int):
        at = start + rng.randrange(size)
        value = rng.choice(
            (bytes(8), b"\xff" * 8, struct.pack("<d", math.nan), struct.pack("<d", -1), rng.randbytes(8))
        )
        arrays[at : at + 8] = value[: max(0, len(arrays) - at)]


def saved_buffer(path: Path) -> None:
    """Saves a small buffer that was used for a while."""
    fields = {"obs": ((3,), "float32"), "reward": ((), "float64"), "done": ((), "bool")}
    buffer = PrioritizedReplay(20, fields)
    for number in range(33):
        priority = None if number % 3 else number / 10
        buffer.add(obs=np.full(3, number), reward=number, done=number % 2 == 0, priorities=priority)
    buffer.sample(5)
    buffer.save(path)


def main(count: int) -> None:
    """Restores so many damaged files, and as many forged ones; counts what became of them."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "saved")
        saved_buffer(path)
        whole, undamaged = path.read_bytes(), repr(PrioritizedReplay.load(path).state())
        for change, seed in itertools.product((damaged, forged), range(count)):
            path.write_bytes(change(whole, random.Random(seed)))
            try:
                restored = PrioritizedReplay.load(path)
            except (SavedReplayError, MemoryError) as error:
                outcomes[f"{change.__name__}: {type(error).__name__}"] += 1
            else:
                equal = repr(restored.state()) == undamaged
                restored.sample(3)
                assert equal or change is forged, f"seed {seed}: damage went unnoticed"
                outcomes[f"{change.__name__}: {'equal' if equal else 'works'}"] += 1
    for outcome, times in outcomes.most_common():
        print(f"{times:8} {outcome}")  # noqa: T201 - a command


if __name__ == "__main__":
    main(int(sys.argv[1]))
