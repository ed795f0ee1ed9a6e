"""Small reactors that several tests put together."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from runtimes.reactor import Input, Output, Reactor, Timer, bank, ms, reaction, shutdown, startup


class Counter(Reactor):
    """Counts tags."""

    tick = Timer(1 * ms)
    count = Output[int]()

    def __init__(self) -> None:
        self.next = 0

    @reaction(tick, effects=[count])
    def step(self) -> None:
        self.count.set(self.next)
        self.next += 1


class Scale(Reactor):
    """Multiplies what it gets by its index, and tells in which process; gives nothing for odd numbers."""

    number = Input[int]()
    scaled = Output[tuple[int, int]]()

    def __init__(self, index: int) -> None:
        self.index = index

    @reaction(number, effects=[scaled])
    def scale(self) -> None:
        value = self.number.value
        assert value is not None
        if value % 2 == 0:
            self.scaled.set((value * self.index, os.getpid()))


class Recorder(Reactor):
    """Keeps what arrives on all channels."""

    def __init__(self, width: int) -> None:
        self.heard = Input[Any](width=width)
        self.add_reaction("hear", self.hear, triggers=[self.heard])
        self.log: list[list[Any]] = []
        self.ended = 0

    def hear(self) -> None:
        self.log.append(list(self.heard.values))

    @reaction(shutdown)
    def end(self) -> None:
        self.ended += 1

    def read(self) -> list[list[Any]]:
        return self.log


class FanOutFanIn(Reactor):
    """A counter broadcasts to a bank, whose values are gathered, perhaps later."""

    def __init__(self, width: int = 4, after_ns: int | None = None) -> None:
        self.counter = Counter()
        self.scales = bank(width, Scale)
        self.recorder = Recorder(width)
        self.connect(self.counter.count, self.scales.number, broadcast=True)
        self.connect(self.scales.scaled, self.recorder.heard, after_ns=after_ns)


class Filler(Reactor):
    """Fills an array in place in some tags."""

    tick = Timer(1 * ms)

    def __init__(self, index: int, *, steady: bool = False, length: int = 5) -> None:
        self.index, self.steady = index, steady
        self.filled = Output[Any](shape=(length,), steady=steady)
        self.tags = 0
        self.add_reaction("fill", self.fill, triggers=[self.tick], effects=[self.filled])

    def fill(self) -> None:
        self.tags += 1
        if self.steady or (self.tags + self.index) % 3:
            self.filled.array()[...] = 100 * self.index + self.tags


class ArrayRecorder(Reactor):
    """Keeps copies of the arrays that arrive."""

    tick = Timer(1 * ms)

    def __init__(self, width: int) -> None:
        self.heard = Input[Any](width=width)
        self.add_reaction("hear", self.hear, triggers=[self.tick], sources=[self.heard])
        self.log: list[list[float | None]] = []
        self.writable: set[bool] = set()

    def hear(self) -> None:
        values = self.heard.values
        self.writable.update(v.flags.writeable for v in values if v is not None)
        assert all(v is None or np.ptp(v) == 0 for v in values)
        self.log.append([None if v is None else float(v[0]) for v in values])


class Arrays(Reactor):
    """A bank of fillers, gathered, perhaps later."""

    def __init__(self, width: int = 4, after_ns: int | None = None, *, steady: bool = False, length: int = 5) -> None:
        self.fillers = bank(width, lambda index: Filler(index, steady=steady, length=length))
        self.recorder = ArrayRecorder(width)
        self.connect(self.fillers.filled, self.recorder.heard, after_ns=after_ns)


class Bomb(Reactor):
    """Raises in its third tag."""

    tick = Timer(1 * ms)

    def __init__(self) -> None:
        self.tags = 0

    @reaction(tick)
    def go_off(self) -> None:
        self.tags += 1
        if self.tags == 3:
            raise ValueError("three is too many")


class Sleepy(Reactor):
    """Does nothing, in a process whose number it tells."""

    tick = Timer(1 * ms)

    @reaction(startup)
    def open(self) -> None:
        self.pid = os.getpid()
        self.has_left = False

    @reaction(tick)
    def rest(self) -> None:
        pass

    def moved_away(self) -> None:
        self.has_left = True

    def where(self) -> int:
        return self.pid

    def is_copy(self) -> bool:
        """Whether it has been told that it lives elsewhere."""
        return self.has_left

    def busy_s(self) -> float:
        """Processor time that this process has used."""
        times = os.times()
        return times.user + times.system


class Bombs(Reactor):
    """A bank whose members all fail in their third tag."""

    def __init__(self, kind: type[Reactor] = Bomb, width: int = 2) -> None:
        self.members = bank(width, lambda _: kind())


class SleepyBank(Bombs):
    """A bank that idles."""

    def __init__(self) -> None:
        super().__init__(Sleepy)


class Payload(Reactor):
    """Sends objects of growing size."""

    tick = Timer(1 * ms)
    parcel = Output[Any]()

    def __init__(self) -> None:
        self.tags = 0

    @reaction(tick, effects=[parcel])
    def send(self) -> None:
        self.tags += 1
        self.parcel.set({"tag": self.tags, "array": np.full(self.tags * 4000, self.tags, np.int32)})


class Unpack(Reactor):
    """Checks parcels, and keeps them."""

    parcel = Input[Any]()

    def __init__(self) -> None:
        self.kept: list[Any] = []

    @reaction(parcel)
    def open(self) -> None:
        self.kept.append(self.parcel.value)

    def sound(self) -> list[bool]:
        """Whether each parcel that was kept is still what was sent."""
        return [
            p["tag"] == at and len(p["array"]) == at * 4000 and bool((p["array"] == at).all())
            for at, p in enumerate(self.kept, start=1)
        ]


class Post(Reactor):
    """Sends parcels to a bank."""

    def __init__(self) -> None:
        self.sender = Payload()
        self.unpackers = bank(3, lambda _: Unpack())
        self.connect(self.sender.parcel, self.unpackers.parcel, broadcast=True)
