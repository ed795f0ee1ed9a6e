"""Programs with something pending when they move: what `auto` must take along."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.reactor import (
    Input,
    LogicalAction,
    Mode,
    Output,
    PhysicalAction,
    Reactor,
    State,
    Timer,
    bank,
    ms,
    reaction,
    s,
    startup,
    stop,
)
from tests.reactor.programs import Counter, Crossing, Echo, Farewell, Gather, Pipeline, Sieve, Stage
from tests.reactor.reactors import Post

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PROGRAMS", "FromOutside", "Later", "Leaving", "Patient", "Slow", "Stateful", "Sticky", "WithEnd"]


class Scheduler(Reactor):
    """Schedules events at its start for long after, and says their values as they come."""

    later = LogicalAction[Any]()
    said = Output[Any]()

    def __init__(self, index: int) -> None:
        self.index = index

    @reaction(startup, effects=[later])
    def plan(self) -> None:
        for number in range(8):
            self.later.schedule((self.index, number), delay_ns=(number + self.index % 2) * ms)
            self.later.schedule([self.index, -number], delay_ns=number * ms)

    @reaction(later, effects=[said, later])
    def tell(self) -> None:
        self.said.set(self.later.value)
        if self.tag.microstep == 0 and isinstance(self.later.value, tuple):
            self.later.schedule(str(self.later.value))


class Spaced(Reactor):
    """Schedules one event after another, each too soon after the one before, which is then moved or taken back."""

    tick = Timer(1 * ms)
    said = Output[Any]()

    def __init__(self, index: int) -> None:
        self.later = LogicalAction[int](
            2 * ms, min_spacing_ns=5 * ms, policy=("defer", "drop", "replace", "update")[index % 4]
        )
        self.ticks = 0
        self.add_reaction("plan", self.plan, triggers=[self.tick], effects=[self.later])
        self.add_reaction("tell", self.tell, triggers=[self.later], effects=[self.said])

    def plan(self) -> None:
        self.ticks += 1
        self.later.schedule(self.ticks)

    def tell(self) -> None:
        self.said.set(self.later.value)


class Remembering(Reactor):
    """Says again and again with which value its action was present last."""

    once = LogicalAction[int](1)
    tick = Timer(1 * ms, offset_ns=2)
    said = Output[Any]()

    def __init__(self, index: int) -> None:
        self.index = index

    @reaction(startup, effects=[once])
    def plan(self) -> None:
        self.once.schedule(self.index)

    @reaction(tick, once, effects=[said])
    def tell(self) -> None:
        self.said.set((self.once.is_present, self.once.value))


class Sparse(Reactor):
    """Fills an array early on, then no more."""

    filled = Output[Any](shape=(3,), dtype="int64")
    tick = Timer(1 * ms)

    def __init__(self, index: int) -> None:
        self.index, self.ticks = index, 0

    @reaction(tick, effects=[filled])
    def fill(self) -> None:
        if self.ticks == self.index % 3:
            self.filled.array()[...] = 10 * self.index + self.ticks
        self.ticks += 1


class LastReader(Reactor):
    """Says again and again what arrived last, however long ago that was."""

    array = Input[Any]()
    number = Input[int]()
    tick = Timer(1 * ms, offset_ns=500)
    said = Output[Any]()

    @reaction(tick, sources=[array, number], effects=[said])
    def look(self) -> None:
        seen = [np.array(port.get(-1)).tolist() for port in (self.array, self.number)]
        last = [
            np.array(port.value).tolist() if self.tag.time_ns > 3 * ms else None for port in (self.array, self.number)
        ]
        self.said.set((seen, last))


class Once(Reactor):
    """Sends one number, at its start."""

    sent = Output[int]()

    def __init__(self, number: int) -> None:
        self.number = number

    @reaction(startup, effects=[sent])
    def send(self) -> None:
        self.sent.set(self.number)


class LastValues(Reactor):
    """Arrays and numbers that are read long after they were set, by a neighbour."""

    def __init__(self) -> None:
        self.arrays = bank(4, Sparse)
        self.numbers = bank(4, Once)
        self.readers = bank(4, lambda _: LastReader())
        for index, reader in enumerate(self.readers.members):
            self.connect(self.arrays[3 - index].filled, reader.array)
            self.connect(self.numbers[3 - index].sent, reader.number)


class Phases(Reactor):
    """Goes from mode to mode, with history and with resets, while timers and actions of the modes are under way."""

    calm = Mode(initial=True)
    busy = Mode()
    tick = Timer(3 * ms)
    beat = Timer(2 * ms, offset_ns=1 * ms, mode=busy)
    pause = Timer(5 * ms, mode=calm)
    later = LogicalAction[int](4 * ms, mode=busy)
    said = Output[Any]()
    beats = State(0, mode=busy)

    def __init__(self, index: int) -> None:
        self.index = index
        self.ticks = 0

    @reaction(tick, effects=[calm, busy])
    def switch(self) -> None:
        self.ticks += 1
        turn = (self.ticks + self.index) % 4
        if turn == 0:
            self.busy.reset()
        elif turn == 2:
            self.busy.history()
        else:
            self.calm.history()

    @reaction(beat, mode=busy, effects=[said, later])
    def pound(self) -> None:
        self.beats += 1
        self.later.schedule(self.beats)
        self.said.set(("beat", self.beats))

    @reaction(later, mode=busy, effects=[said])
    def recall(self) -> None:
        self.said.set(("later", self.later.value))

    @reaction(pause, startup, mode=calm, effects=[said])
    def rest(self) -> None:
        self.said.set("rest")


class Listeners(Reactor):
    """Reactors that each have somebody who listens."""

    def __init__(self, make: Callable[[int], Any], width: int = 4, after_ns: int | None = None) -> None:
        self.speakers = bank(width, make)
        self.listeners = bank(width, lambda _: Echo())
        self.connect(self.speakers.said, self.listeners.heard, after_ns=after_ns)


class Kept(Reactor):
    """Keeps the arrays of some tags back, and says what stands in them now."""

    heard = Input[Any](retain=3)
    tick = Timer(1 * ms)
    said = Output[Any]()

    def __init__(self) -> None:
        self.kept: list[Any] = []

    @reaction(tick, sources=[heard], effects=[said])
    def keep(self) -> None:
        self.kept = [*self.kept[-3:], self.heard.get()]
        self.said.set([None if array is None else array.tolist() for array in self.kept])


class Filling(Reactor):
    """Fills an array in every tag, or in most."""

    tick = Timer(1 * ms)

    def __init__(self, index: int, *, steady: bool) -> None:
        self.index, self.steady, self.ticks = index, steady, 0
        self.filled = Output[Any](shape=(2,), steady=steady)
        self.add_reaction("fill", self.fill, triggers=[self.tick], effects=[self.filled])

    def fill(self) -> None:
        self.ticks += 1
        if self.steady or (self.ticks + self.index) % 4:
            self.filled.array()[...] = (self.index, self.ticks)


class Retained(Reactor):
    """Arrays that are read tags after they arrived, perhaps later than they were sent."""

    def __init__(self, after_ns: int | None = None, *, steady: bool) -> None:
        self.fillers = bank(4, lambda index: Filling(index, steady=steady))
        self.keepers = bank(4, lambda _: Kept())
        for index, keeper in enumerate(self.keepers.members):
            self.connect(self.fillers[3 - index].filled, keeper.heard, after_ns=after_ns)


class ArrayGather(Reactor):
    """Says what stands in the arrays that arrive."""

    tick = Timer(1 * ms)
    said = Output[Any]()

    def __init__(self, width: int) -> None:
        self.heard = Input[Any](width=width)
        self.add_reaction("say", self.say, triggers=[self.tick], sources=[self.heard], effects=[self.said])

    def say(self) -> None:
        self.said.set([None if array is None else array.tolist() for array in self.heard.values])


class GatheredArrays(Reactor):
    """Arrays of a bank in one place."""

    def __init__(self, after_ns: int | None = None, *, steady: bool) -> None:
        self.fillers = bank(4, lambda index: Filling(index, steady=steady))
        self.gather = ArrayGather(4)
        self.connect(self.fillers.filled, self.gather.heard, after_ns=after_ns)


class Prepared(Reactor):
    """A reaction that prepares what it does in all tags but the first, from state that has changed since."""

    tick = Timer(1 * ms)
    said = Output[Any]()

    def __init__(self, index: int) -> None:
        self.count = [index]
        self.add_reaction(
            "tell",
            self.tell,
            triggers=[self.tick],
            effects=[self.said],
            prepare=lambda: partial(self.tell_on, self.count),
        )

    def tell(self) -> None:
        self.said.set("first")

    def tell_on(self, count: list[int]) -> None:
        count[0] += 1
        self.said.set(count[0])


class Hurried(Reactor):
    """Misses all deadlines, or none."""

    tick = Timer(1 * ms)
    said = Output[Any]()

    def __init__(self, index: int) -> None:
        self.add_reaction(
            "tell",
            partial(self.tell, "in time"),
            triggers=[self.tick],
            effects=[self.said],
            deadline_ns=0 if index % 2 else 3600 * s,
            late=partial(self.tell, "late"),
        )

    def tell(self, how: str) -> None:
        self.said.set(how)


class Stopper(Reactor):
    """Requests a stop when it has heard enough."""

    heard = Input[int]()
    said = Output[Any]()

    def __init__(self, index: int) -> None:
        self.index = index

    @reaction(heard, effects=[said, stop])
    def hear(self) -> None:
        self.said.set(self.heard.value)
        if self.heard.value == 6 + self.index:
            self.request_stop()


class Stopping(Reactor):
    """A counter, and a bank of which the last member to live elsewhere ends the program."""

    def __init__(self) -> None:
        self.counter = Counter()
        self.stoppers = bank(4, lambda index: Stopper(3 - index))
        self.connect(self.counter.sent, self.stoppers.heard, broadcast=True)


class FromOutside(Reactor):
    """Has reactors to run side by side, but also a physical action."""

    knock = PhysicalAction[Any]()

    def __init__(self) -> None:
        self.speakers = bank(4, Scheduler)


class Unpicklable(Reactor):
    """State that no other process can be sent: a generator, a lock, an open file, a function."""

    tick = Timer(1 * ms)
    said = Output[Any]()

    def __init__(self, index: int) -> None:
        self.index = index

    @reaction(startup)
    def open(self) -> None:
        self.numbers: Iterator[int] = (number * number + self.index for number in range(1000))
        self.lock = threading.Lock()
        self.null = open("/dev/zero", "rb", buffering=0)  # noqa: SIM115, PTH123 - it is the state
        self.double: Callable[[int], int] = lambda number: 2 * number

    @reaction(tick, effects=[said])
    def count(self) -> None:
        with self.lock:
            self.said.set((self.double(next(self.numbers)), self.null.read(2)))

    def close(self) -> None:
        """Close the file."""
        self.null.close()


class Stateful(Reactor):
    """A bank of reactors with such state."""

    def __init__(self) -> None:
        self.members = bank(4, Unpicklable)

    def close(self) -> None:
        """Close all files, in this process."""
        for member in self.members.members:
            member.close()


class Fan(Reactor):
    """A counter broadcasts to a bank, whose values are gathered, perhaps later."""

    def __init__(self, after_ns: int | None = None) -> None:
        self.counter = Counter()
        self.stages = bank(5, lambda index: Stage(100 * index))
        self.gather = Gather(5)
        self.connect(self.counter.sent, self.stages.heard, broadcast=True)
        self.connect(self.stages.said, self.gather.heard, after_ns=after_ns)


class WithEnd(Reactor):
    """Another program, and somebody who says goodbye."""

    def __init__(self, make: Callable[[], Reactor]) -> None:
        self.inner = make()
        self.farewells = bank(2, lambda _: Farewell())


class Slow(Reactor):
    """Takes its time, without a processor."""

    tick = Timer(1 * ms)

    @reaction(tick)
    def sleep(self) -> None:
        time.sleep(0.003)


class Later(Slow):
    """Takes its time from its 30th tag on."""

    def __init__(self) -> None:
        self.tags = 0

    @reaction(Slow.tick)
    def sleep(self) -> None:
        self.tags += 1
        if self.tags > 30:
            time.sleep(0.003)


class Patient(Reactor):
    """Notes the physical time of its tags."""

    tick = Timer(1 * ms)

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    @reaction(tick)
    def look(self) -> None:
        self.seen.append((self.tag.time_ns, self.physical_time_ns))

    def read(self) -> list[tuple[int, int]]:
        """Tags and physical times."""
        return self.seen


class Leaving(Reactor):
    """Ends the program with a status, from a process that is not the first one if there are several."""

    tick = Timer(1 * ms)

    @reaction(startup)
    def open(self) -> None:
        self.pid = os.getpid()

    @reaction(tick)
    def leave(self) -> None:
        if os.getpid() != self.pid:
            raise SystemExit(7)


class Sticky(Reactor):
    """Gets stuck, in a process that is not the first one."""

    tick = Timer(1 * ms)

    @reaction(startup)
    def open(self) -> None:
        self.pid = os.getpid()

    @reaction(tick)
    def stick(self) -> None:
        if os.getpid() != self.pid:
            time.sleep(60)


PROGRAMS: dict[str, tuple[Callable[[], Reactor], int | None]] = {
    "steady arrays": (partial(Retained, steady=True), 20 * ms),
    "delayed steady arrays": (partial(Retained, 3 * ms, steady=True), 20 * ms),
    "arrays that are not always there": (partial(Retained, steady=False), 20 * ms),
    "delayed arrays that are not always there": (partial(Retained, 3 * ms, steady=False), 20 * ms),
    "steady arrays, gathered": (partial(GatheredArrays, steady=True), 20 * ms),
    "delayed steady arrays, gathered": (partial(GatheredArrays, 2 * ms, steady=True), 20 * ms),
    "delayed arrays that are not always there, gathered": (partial(GatheredArrays, 2 * ms, steady=False), 20 * ms),
    "values of a clocked program": (Fan, 20 * ms),
    "delayed values of a clocked program": (partial(Fan, 4 * ms), 20 * ms),
    "reactions that prepare what they do": (partial(Listeners, Prepared), 20 * ms),
    "pending events of actions": (partial(Listeners, Scheduler), None),
    "pending events with a spacing": (partial(Listeners, Spaced), 40 * ms),
    "values of actions that are read long after": (partial(Listeners, Remembering), 12 * ms),
    "messages that are under way": (partial(Listeners, Scheduler, 4, 5 * ms), None),
    "a chain with delays": (partial(Pipeline, 4), 20 * ms),
    "a timeout at a tag": (partial(Listeners, Scheduler), 5 * ms),
    "a timeout between tags": (partial(Listeners, Scheduler), 5 * ms + 1),
    "a timeout between tags of a clocked program": (partial(Fan, 4 * ms), 9 * ms + 1),
    "a stop that is requested": (Stopping, None),
    "events of modes that are not active": (partial(Listeners, Phases), 60 * ms),
    "a traffic light": (Crossing, 60 * ms),
    "values and arrays that are read long after": (LastValues, 12 * ms),
    "deadlines that are missed, or not": (partial(Listeners, Hurried), 20 * ms),
    "a chain of filters": (Sieve, 30 * ms),
    "large values": (Post, 6 * ms),
}
"""What is under way in a program when it moves, the program, and its timeout."""
