"""Delayed connections: what is on its way, from being set until it arrives, or does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from runtimes.reactor import (
    AssemblyError,
    Input,
    Output,
    Program,
    Reactor,
    Timer,
    bank,
    first_difference,
    ms,
    reaction,
    shutdown,
    startup,
)
from tests.moving import force_moves
from tests.reactor.lines import Line, at
from tests.reactor.programs import Counter, Echo, Gather

if TYPE_CHECKING:
    from tests.reactor.conftest import Run


def of(log: list[Line], path: str) -> list[Line]:
    """The lines of one reaction."""
    return [line for line in log if line.path == path]


class Undecided(Reactor):
    """Sets one output again and again: in one reaction, and in another."""

    tick = Timer(2 * ms)
    sent = Output[str]()

    @reaction(tick, effects=[sent])
    def draft(self) -> None:
        self.sent.set("draft")
        self.sent.set("second draft")

    @reaction(tick, effects=[sent])
    def decide(self) -> None:
        if self.tag.time_ns:
            self.sent.set("final")


class HeardInManyWays(Reactor):
    """One output is heard at once, in the next microstep, and later."""

    def __init__(self) -> None:
        self.undecided, self.now, self.soon, self.later = Undecided(), Echo(), Echo(), Echo()
        self.connect(self.undecided.sent, self.now.heard)
        self.connect(self.undecided.sent, self.soon.heard, after_ns=0)
        self.connect(self.undecided.sent, self.later.heard, after_ns=1 * ms)


def test_the_last_value_set_in_a_tag_counts_for_everyone_now_and_later(run: Run) -> None:
    log = run(HeardInManyWays, timeout_ns=3 * ms)
    assert of(log, "now.say") == [at(0, 0, "now.say", said="second draft"), at(2 * ms, 0, "now.say", said="final")]
    assert of(log, "soon.say") == [at(0, 1, "soon.say", said="second draft"), at(2 * ms, 1, "soon.say", said="final")]
    assert of(log, "later.say") == [
        at(1 * ms, 0, "later.say", said="second draft"),
        at(3 * ms, 0, "later.say", said="final"),
    ]


class Parting(Reactor):
    """Sends in every tag, and once more when the program ends."""

    tick = Timer(1 * ms)
    sent = Output[str]()

    @reaction(tick, shutdown, effects=[sent])
    def send(self) -> None:
        self.sent.set(f"sent at {self.tag.time_ns // ms} ms")


@pytest.mark.parametrize("after_ns", [0, 1 * ms])
def test_at_the_last_tag_what_is_due_arrives_and_what_is_set_is_dropped(run: Run, after_ns: int) -> None:
    class Ending(Reactor):
        def __init__(self) -> None:
            self.parting, self.echo = Parting(), Echo()
            self.connect(self.parting.sent, self.echo.heard, after_ns=after_ns)

    said = of(run(Ending, timeout_ns=2 * ms), "echo.say")
    if after_ns:
        assert said == [at(time * ms, 0, "echo.say", said=f"sent at {time - 1} ms") for time in (1, 2)]
    else:
        assert said == [at(time * ms, 1, "echo.say", said=f"sent at {time} ms") for time in (0, 1)]


class Own(Reactor):
    """Changes what it hears, and says it."""

    heard = Input[list[int]](mutable=True)
    said = Output[Any]()

    @reaction(heard, effects=[said])
    def say(self) -> None:
        self.heard.value.append(-1)
        self.said.set(self.heard.value)


class Lists(Reactor):
    """Sends a new list now and then."""

    tick = Timer(1 * ms)
    other = Timer(3 * ms)
    sent = Output[list[int]]()

    @reaction(tick, effects=[sent])
    def send(self) -> None:
        self.sent.set([self.tag.time_ns // ms])

    @reaction(other)
    def rest(self) -> None:
        pass


class ManyReceivers(Reactor):
    """One delayed output at several inputs, a multiport and those that change what they hear among them."""

    def __init__(self) -> None:
        self.lists, self.owners, self.gather, self.echo = Lists(), bank(2, lambda _: Own()), Gather(2), Echo()
        self.connect(self.lists.sent, self.owners.heard, after_ns=0, broadcast=True)
        self.connect(self.lists.sent, self.gather.heard, after_ns=0, broadcast=True)
        self.connect(self.lists.sent, self.echo.heard, after_ns=0)


def test_a_delayed_value_reaches_every_kind_of_receiver(run: Run) -> None:
    log = run(ManyReceivers, timeout_ns=1 * ms)
    (arrived,) = of(log, "gather.say")
    assert arrived == at(0, 1, "gather.say", said=[[0], [0]])
    for path in ("owners[0].say", "owners[1].say"):
        assert of(log, path) == [at(0, 1, path, said=[0, -1])]
    assert of(log, "echo.say") == [at(0, 1, "echo.say", said=[0])]


class Ring(Reactor):
    """Numbers go round, without and with a delay, and through one delay into the next."""

    def __init__(self) -> None:
        self.first, self.second, self.far = Stage(start=1), Stage(start=100), Stage()
        self.box = Box()
        self.connect(self.first.sent, self.second.heard, after_ns=0)
        self.connect(self.second.sent, self.first.heard, after_ns=2 * ms)
        self.connect(self.second.sent, self.box.heard, after_ns=5 * ms)
        self.connect(self.box.said, self.far.heard, after_ns=0)


class Stage(Reactor):
    """Sends what it hears, larger by one."""

    heard = Input[int]()
    sent = Output[int]()

    def __init__(self, start: int | None = None) -> None:
        self.start = start

    @reaction(startup, effects=[sent])
    def begin(self) -> None:
        if self.start is not None:
            self.sent.set(self.start)

    @reaction(heard, effects=[sent])
    def go_on(self) -> None:
        self.sent.set(self.heard.value + 1)


class Box(Reactor):
    """Passes on what comes, delayed once more."""

    heard = Input[int]()
    said = Output[int]()

    def __init__(self) -> None:
        self.inner = Stage()
        self.connect(self.heard, self.inner.heard, after_ns=0)
        self.connect(self.inner.sent, self.said)


def test_delays_add_up_through_the_hierarchy(run: Run) -> None:
    log = run(Ring, timeout_ns=6 * ms)
    assert of(log, "box.inner.go_on") == [
        at(5 * ms, 1, "box.inner.go_on", sent=101),
        at(5 * ms, 2, "box.inner.go_on", sent=3),
    ]
    assert of(log, "far.go_on") == [at(5 * ms, 2, "far.go_on", sent=102), at(5 * ms, 3, "far.go_on", sent=4)]


@pytest.mark.parametrize("to_threads", [False, True], ids=["to processes", "to threads"])
@pytest.mark.parametrize("after_tags", [1, 2, 3, 4, 7])
def test_values_on_their_way_arrive_when_the_program_moves(
    after_tags: int, to_threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Program(Ring, executor="inline", fast=True, recording=True)
    alone.run(20 * ms)
    moved = force_moves(monkeypatch, after_tags=after_tags, to_threads=to_threads)
    placement = {"first": 0, "second": 1, "far": 0, "box": 1}
    moving = Program(Ring, workers=2, fast=True, recording=True, placement=placement)
    moving.run(20 * ms)
    assert len(moved) == 1
    assert first_difference(alone.trace(), moving.trace()) is None


class Handing(Reactor):
    """Sends an array that it keeps."""

    tick = Timer(1 * ms)
    sent = Output[Any]()

    def __init__(self) -> None:
        self.mine = np.zeros(2)

    @reaction(tick, effects=[sent])
    def send(self) -> None:
        self.sent.set(self.mine)


@pytest.mark.parametrize("after_ns", [0, 1 * ms])
def test_an_array_on_its_way_can_be_changed_by_nobody(after_ns: int) -> None:
    class Late(Reactor):
        def __init__(self) -> None:
            self.handing, self.echo = Handing(), Echo()
            self.connect(self.handing.sent, self.echo.heard, after_ns=after_ns)

    main = Late()
    with Program(main, executor="inline", fast=True) as program:
        program.advance(1)
        with pytest.raises(ValueError, match="read-only"):
            main.handing.mine[0] = 1.0


class Filling(Reactor):
    """Fills an array in two of three tags, in two reactions: its last tag stands in another slot than this one."""

    tick = Timer(1 * ms)
    filled = Output[Any](shape=(2,), dtype="int64")

    def __init__(self) -> None:
        self.tags = 0

    @reaction(tick, effects=[filled])
    def begin(self) -> None:
        self.tags += 1
        if self.tags % 3:
            self.filled.set(np.array([self.tags, 0]))

    @reaction(tick, effects=[filled])
    def finish(self) -> None:
        if self.tags % 3:
            self.filled.array()[1] = -self.tags


class Reading(Reactor):
    """Says what arrives, and what arrived before."""

    heard = Input[Any](shape=(2,), dtype="int64", retain=1)
    said = Output[Any]()

    def __init__(self) -> None:
        self.before: Any = None

    @reaction(heard, effects=[said])
    def read(self) -> None:
        before = None if self.before is None else self.before.tolist()
        self.before = self.heard.value
        self.said.set((before, self.heard.value.tolist()))


class Slow(Reactor):
    """A clock of another rate: with it the tags of a program are not known beforehand."""

    tick = Timer(7 * ms, offset_ns=7 * ms)

    @reaction(tick)
    def rest(self) -> None:
        pass


@pytest.mark.parametrize(("after_ns", "clocked"), [(0, False), (1 * ms, False), (1 * ms, True), (2 * ms, True)])
def test_a_delayed_array_arrives_as_it_was_at_the_end_of_its_tag(run: Run, after_ns: int, clocked: bool) -> None:
    class Delayed(Reactor):
        def __init__(self) -> None:
            self.filling, self.readings = Filling(), bank(2, lambda _: Reading())
            if not clocked:
                self.slow = Slow()
            self.connect(self.filling.filled, self.readings.heard, broadcast=True, after_ns=after_ns)

    log = run(Delayed, timeout_ns=6 * ms)
    for path in ("readings[0].read", "readings[1].read"):
        sent = [(time, [time + 1, -time - 1]) for time in (0, 1, 3, 4, 6)]
        before = [None, *(array for _, array in sent)]
        arrived = [
            at(time * ms + after_ns, 0 if after_ns else 1, path, said=(earlier, array))
            for (time, array), earlier in zip(sent, before, strict=False)
        ]
        assert of(log, path) == [line for line in arrived if (line.time_ns, line.microstep) <= (6 * ms, 0)]


def test_a_delayed_connection_cannot_be_placed() -> None:
    class Pair(Reactor):
        def __init__(self) -> None:
            self.counter, self.echo = Counter(), Echo()
            self.connect(self.counter.sent, self.echo.heard, after_ns=0)

    placement = {"counter.sent[0] after 0 ns": 1}
    with pytest.raises(AssemblyError, match=r"Placement 'counter\.sent\[0\] after 0 ns' .*the reactors counter, echo"):
        Program(Pair, executor="threads", workers=2, placement=placement, fast=True).run(1 * ms)


class Sending(Reactor):
    """Sends a value of every kind in each tag but every third, and says what is still on its way."""

    tick = Timer(1 * ms)
    text = Output[str]()
    array = Output[Any](shape=(1,), dtype="i8")
    steady = Output[Any](shape=(1,), dtype="i8", steady=True)
    alone = Output[str]()

    def __init__(self) -> None:
        self.count = 0

    @reaction(tick, effects=[text, array, steady, alone])
    def send(self) -> None:
        self.steady.array()[0] = self.count
        if self.count % 3 != 2:
            self.text.set(f"number {self.count}")
            self.array.array()[0] = self.count
            self.alone.set("heard at once")
        self.count += 1

    def on_its_way(self) -> dict[str, list[tuple[int, Any]]]:
        ports = {"text": self.text, "array": self.array, "steady": self.steady, "alone": self.alone}
        return {
            name: [
                (tag.time_ns // ms, value if isinstance(value, str) else int(value[0]))
                for tag, value in port.in_flight()
            ]
            for name, port in ports.items()
        }


class Hearing(Reactor):
    """Hears all of it, early and late."""

    text = Input[str]()
    array = Input[Any](shape=(1,), dtype="i8")
    steady = Input[Any](shape=(1,), dtype="i8")
    alone = Input[str]()

    @reaction(text, array, alone, sources=[steady])
    def hear(self) -> None:
        """Do nothing."""


class SentAndHeard(Reactor):
    def __init__(self) -> None:
        self.sending, self.early, self.late = Sending(), Hearing(), Hearing()
        for after_ns, hearing in ((1 * ms, self.early), (3 * ms, self.late)):
            for name in ("text", "array", "steady"):
                self.connect(getattr(self.sending, name), getattr(hearing, name), after_ns=after_ns)
            self.connect(self.sending.alone, hearing.alone)


@pytest.mark.parametrize(
    "how", [{"executor": "inline"}, {"executor": "threads", "workers": 2}, {"executor": "processes", "workers": 2}]
)
def test_an_output_says_what_has_not_arrived_yet_where_it_takes_longest(how: dict[str, Any]) -> None:
    with Program(SentAndHeard, fast=True, **how) as program:
        program.advance(1)
        assert program.ask("sending", "on_its_way") == {
            "text": [(3, "number 0")],
            "array": [(3, 0)],
            "steady": [(3, 0)],
            "alone": [],
        }
        program.advance(5)
        assert program.ask("sending", "on_its_way") == {
            "text": [(6, "number 3"), (7, "number 4")],
            "array": [(6, 3), (7, 4)],
            "steady": [(6, 3), (7, 4), (8, 5)],
            "alone": [],
        }
