"""The tasks of the suite's graphs: what a speaker says is known beforehand, so any error of a runtime shows.

They live in a module of their own, since processes of a runtime have to import them.
"""

from __future__ import annotations

import os
import signal
import time
import zlib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.dataflow import ArraySpec, Task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from workloads.dataflow import Inputs, Outputs, TaskContext, TaskFactory

__all__ = ["Failing", "Kind", "Marked", "Port", "Speaker", "Stated", "array_of", "draws", "plain", "said"]

_PURPOSES = ("words", "numbers")


class Kind(Enum):
    """What an edge carries."""

    TEXT = "text"
    OBJECT = "anything picklable"
    SOMETIMES = "a text, absent in some rounds"
    ARRAY = "a declared array, filled in place"
    HANDED = "a declared array, filled in place or handed over"
    SCALAR = "a declared array without dimensions"
    FLAGS = "a declared array of truth values"
    LARGE = "a declared array of 200 kB"
    OPTIONAL = "a declared array, absent in some rounds"


_SPECS = {
    Kind.ARRAY: ArraySpec((3,), "f8"),
    Kind.HANDED: ArraySpec((2, 2), "i8"),
    Kind.SCALAR: ArraySpec((), "i8"),
    Kind.FLAGS: ArraySpec((5,), "?"),
    Kind.LARGE: ArraySpec((50_000,), "f4"),
    Kind.OPTIONAL: ArraySpec((3,), "f8"),
}


@dataclass(frozen=True)
class Marked:
    """An object of a class that no runtime knows."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a speaker, by what travels there."""

    kind: Kind
    items: int = 0
    """Of an output that is scattered: to how many."""
    gathers: bool = False
    """Of an input: it receives a whole bank."""
    retain: int = 0


def array_of(kind: Kind, items: int = 0) -> ArraySpec | None:
    """What an output of `kind` declares, if it declares anything; scattered to so many `items`."""
    spec = _SPECS.get(kind)
    return spec and (ArraySpec((items, *spec.shape), spec.dtype) if items else spec)


def said(kind: Kind, speaker: str, round_number: int, items: int = 0) -> Any:
    """What `speaker`, the name of a task with its index, says in a round; None where it says nothing.

    Before round 0, in round -1, it has something to say of every kind but those that may be absent.
    """
    number = zlib.crc32(f"{speaker} {round_number}".encode()) % 1000
    if kind in {Kind.SOMETIMES, Kind.OPTIONAL} and (number + round_number) % 3 == 0:
        return None
    if items:
        parts = [_said_once(kind, f"{speaker}/{item}", round_number, number + item) for item in range(items)]
        return np.stack(parts) if kind in _SPECS else parts
    return _said_once(kind, speaker, round_number, number)


def _said_once(kind: Kind, speaker: str, round_number: int, number: int) -> Any:
    spec = _SPECS.get(kind)
    if spec is not None:
        size = int(np.prod(spec.shape))
        values = (np.arange(size) + number) % (2 if kind is Kind.FLAGS else 1000)
        return values.reshape(spec.shape).astype(spec.dtype)
    if kind is not Kind.OBJECT:
        return f"{speaker} in round {round_number}"
    objects: Sequence[Any] = (
        {"speaker": speaker, "round": round_number, "inner": [1, (2, b"three")]},
        Marked(speaker, (round_number, number)),
        [speaker, np.arange(number % 7), {"set": frozenset({number})}],
        (number, float(number), True, speaker * 50),
        b"\0" * number,
    )
    return objects[number % len(objects)]


def plain(value: Any) -> Any:
    """`value` as what can be compared with `==`; arrays count with dtype, shape and bytes."""
    if isinstance(value, np.ndarray | np.generic):
        return "array", value.dtype.str, np.shape(value), value.tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value).__name__, [plain(item) for item in value]
    return value


def draws(context: TaskContext, rounds: int) -> list[list[int]]:
    """The first numbers of the streams that a speaker draws from, one of each in a round."""
    return [context.rng(purpose).integers(1 << 60, size=rounds).tolist() for purpose in _PURPOSES]


class Speaker(Task):
    """Says what is known beforehand, and notes what it hears, and when."""

    def __init__(
        self,
        context: TaskContext,
        *,
        hears: Mapping[str, Port],
        says: Mapping[str, Port],
        diary: str,
        sleep_s: float = 0.0,
    ) -> None:
        """Note into the folder `diary` where it is closed; the last of a bank sleeps `sleep_s` in every firing."""
        self._name = f"{context.path}[{context.index}]"
        self._hears, self._says = hears, says
        self._diary = Path(diary)
        self._sleep_s = sleep_s if context.index == context.width - 1 else 0.0
        self._streams = [context.rng(purpose) for purpose in _PURPOSES]
        self._round = 0
        self._heard: dict[str, list[Any]] = {port: [] for port in hears}
        self._kept: dict[str, list[tuple[Any, Any]]] = {port: [] for port in hears}
        self._own: dict[str, NDArray[Any]] = {}
        self._drawn: list[list[int]] = [[] for _ in _PURPOSES]
        self._spans_ns: list[tuple[int, int]] = []
        self._faults: set[str] = set()

    def initial(self, port: str) -> Any:
        """What it says before round 0."""
        said_as = self._says[port]
        return said(said_as.kind, self._name, -1, said_as.items)

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Hear, sleep, speak."""
        began_ns = time.monotonic_ns()
        for name, port in self._hears.items():
            self._hear(name, port, inputs[name])
        for stream, drawn in zip(self._streams, self._drawn, strict=True):
            drawn.append(int(stream.integers(1 << 60)))
        if self._sleep_s:
            time.sleep(self._sleep_s)
        for name, port in self._says.items():
            self._say(name, port, outputs)
        self._round += 1
        self._spans_ns.append((began_ns, time.monotonic_ns()))

    def state(self) -> dict[str, Any]:
        """What it says next; its notes are none."""
        return {"round": self._round, "streams": [stream.bit_generator.state for stream in self._streams]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Say that."""
        self._round = state["round"]
        for stream, at in zip(self._streams, state["streams"], strict=True):
            stream.bit_generator.state = at

    def tallies(self) -> dict[str, Any]:
        """All notes."""
        return {
            "name": self._name,
            "heard": self._heard,
            "drawn": self._drawn,
            "spans_ns": self._spans_ns,
            "faults": sorted(self._faults),
            "process": os.getpid(),
        }

    def close(self) -> None:
        """Note where; a run that is only there to compare with has no folder."""
        if self._diary.is_dir():
            with (self._diary / self._name).open("a", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")

    def _hear(self, name: str, port: Port, value: Any) -> None:
        items = list(value) if port.gathers else value
        heard = _plain_input(items, port)
        self._heard[name].append(heard)
        # An array that is there in some rounds only may be the very object that was handed over.
        declared = port.kind in _SPECS and port.kind is not Kind.OPTIONAL
        arrays = items if port.gathers else [items]
        if declared and any(isinstance(array, np.ndarray) and array.flags.writeable for array in arrays):
            self._faults.add(f"input '{name}' ({port.kind.value}) can be written to")
        kept = self._kept[name]
        if any(_plain_input(earlier, port) != as_it_was for earlier, as_it_was in kept):
            self._faults.add(f"input '{name}' ({port.kind.value}) changed within the {port.retain} rounds it retains")
        kept.append((items, heard))
        del kept[: len(kept) - port.retain]

    def _say(self, name: str, port: Port, outputs: Outputs) -> None:
        value = said(port.kind, self._name, self._round, port.items)
        spec = array_of(port.kind, port.items)
        if value is None:
            return
        if spec is None:
            outputs[name] = value
        elif port.kind in {Kind.HANDED, Kind.OPTIONAL} and self._round % 2:
            # Its own array, which it overwrites when it fires next.
            own = self._own.setdefault(name, spec.zeros())
            own[...] = value
            outputs[name] = own if port.kind is Kind.HANDED else value
        else:
            offered = outputs[name]
            if offered.shape != spec.shape or offered.dtype != np.dtype(spec.dtype):
                self._faults.add(f"output '{name}' is offered an array of {offered.shape}, {offered.dtype}")
            offered[...] = value


def _plain_input(value: Any, port: Port) -> Any:
    return [plain(item) for item in value] if port.gathers else plain(value)


class Stated(Task):
    """A task of a workload that has no state, with an empty one: beside others, it must not keep these from theirs."""

    def __init__(self, context: TaskContext, *, factory: TaskFactory) -> None:
        """Do what the task of `factory` does."""
        self._task = factory(context)

    def initial(self, port: str) -> Any:
        """Its own."""
        return self._task.initial(port)

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Fire it."""
        self._task.fire(inputs, outputs)

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def tallies(self) -> Mapping[str, Any]:
        """Its own."""
        return self._task.tallies()

    def close(self) -> None:
        """Close it."""
        self._task.close()


class Failing(Task):
    """Does nothing, until member 2 fails in the way of `how`."""

    def __init__(self, context: TaskContext, *, how: str, caller: int) -> None:
        """Fail when `built`, in `fire` in round 4, or there with its whole process unless that is `caller`."""
        self._index, self._how, self._caller = context.index, how, caller
        self._round = 0
        if how == "built" and context.index == 2:
            raise ArithmeticError("two is too many")

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:  # noqa: ARG002 - it has no ports
        """Fail in round 4."""
        if self._index == 2 and self._round == 4:
            if self._how == "fire":
                raise ArithmeticError("four is too many")
            if self._how == "killed" and os.getpid() != self._caller:
                os.kill(os.getpid(), signal.SIGKILL)
        self._round += 1

    def tallies(self) -> dict[str, Any]:
        """Where it lives."""
        return {"process": os.getpid()}
