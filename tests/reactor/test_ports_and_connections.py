"""The rules of ports, connections and the order of reactions, each with a program and its trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.reactor import (
    Input,
    LogicalAction,
    Mode,
    Output,
    Reactor,
    Timer,
    bank,
    interleaved,
    ms,
    reaction,
    startup,
)
from tests.reactor.lines import Line, at, late_at
from tests.reactor.programs import Counter, Echo, Gather

if TYPE_CHECKING:
    from tests.reactor.conftest import Run


def of(log: list[Line], path: str) -> list[Line]:
    """The lines of one reaction."""
    return [line for line in log if line.path == path]


class ManyTriggers(Reactor):
    """One reaction with triggers that are present at once."""

    one = Timer(2)
    two = Timer(3)

    @reaction(startup, one, two)
    def go(self) -> None:
        pass


def test_a_reaction_runs_once_a_tag_when_any_of_its_triggers_is_present(run: Run) -> None:
    assert run(ManyTriggers, timeout_ns=6) == [at(time_ns, 0, "go") for time_ns in (0, 2, 3, 4, 6)]


class Watcher(Reactor):
    """Is triggered by a timer and reads besides."""

    tick = Timer(2 * ms)
    heard = Input[int]()
    said = Output[Any]()

    @reaction(tick, sources=[heard], effects=[said])
    def look(self) -> None:
        self.said.set((self.heard.is_present, self.heard.get("nothing"), self.heard.value))


class Watching(Reactor):
    """A counter ticks more often than who reads it looks."""

    def __init__(self) -> None:
        self.watcher, self.counter = Watcher(), Counter(3 * ms)
        self.connect(self.counter.sent, self.watcher.heard)


def test_sources_never_trigger_and_an_absent_port_gives_the_last_value_received(run: Run) -> None:
    assert of(run(Watching, timeout_ns=8 * ms), "watcher.look") == [
        at(0, 0, "watcher.look", said=(True, 0, 0)),
        at(2 * ms, 0, "watcher.look", said=(False, "nothing", 0)),
        at(4 * ms, 0, "watcher.look", said=(False, "nothing", 1)),
        at(6 * ms, 0, "watcher.look", said=(True, 2, 2)),
        at(8 * ms, 0, "watcher.look", said=(False, "nothing", 2)),
    ]


class TooEarly(Reactor):
    """Reads what has not come yet."""

    heard = Input[int]()
    said = Output[Any]()

    @reaction(startup, sources=[heard], effects=[said])
    def look(self) -> None:
        try:
            self.said.set(self.heard.value)
        except LookupError:
            self.said.set("nothing yet")


class Empty(Reactor):
    """Something whose port has had no value, and something whose port is not even connected."""

    def __init__(self) -> None:
        self.counter, self.connected, self.alone = Counter(offset_ns=1), TooEarly(), TooEarly()
        self.connect(self.counter.sent, self.connected.heard)


def test_the_value_of_a_port_that_never_received_any_is_an_error(run: Run) -> None:
    log = run(Empty, timeout_ns=0)
    assert of(log, "connected.look") == [at(0, 0, "connected.look", said="nothing yet")]
    assert of(log, "alone.look") == [at(0, 0, "alone.look", said="nothing yet")]


class Twice(Reactor):
    """Two reactions set one port, one of them twice; the second looks whether it is set already."""

    tick = Timer(1 * ms)
    sent = Output[Any]()

    @reaction(startup, effects=[sent])
    def early(self) -> None:
        self.sent.set("first")
        self.sent.set("second")

    @reaction(tick, effects=[sent])
    def late(self) -> None:
        self.sent.set("third, first of its tag" if not self.sent.is_present else "third")


class SetTwice(Reactor):
    """Somebody hears a port that is set more than once."""

    def __init__(self) -> None:
        self.echo, self.twice = Echo(), Twice()
        self.connect(self.twice.sent, self.echo.heard)


def test_within_a_tag_the_last_value_set_wins_and_later_reactions_see_that_it_is_set(run: Run) -> None:
    assert run(SetTwice, timeout_ns=1 * ms) == [
        at(0, 0, "twice.early", sent="second"),
        at(0, 0, "twice.late", sent="third"),
        at(0, 0, "echo.say", said="third"),
        at(1 * ms, 0, "twice.late", sent="third, first of its tag"),
        at(1 * ms, 0, "echo.say", said="third, first of its tag"),
    ]


class Lists(Reactor):
    """Sends a list once, and then is silent."""

    sent = Output[list[int]]()

    @reaction(startup, effects=[sent])
    def begin(self) -> None:
        self.sent.set([1, 2])


class Changer(Reactor):
    """Changes what it gets, in two reactions."""

    tick = Timer(1 * ms)
    heard = Input[list[int]](mutable=True)
    said = Output[Any]()

    @reaction(heard, effects=[said])
    def change(self) -> None:
        mine = self.heard.value
        mine.append(3)
        self.said.set(list(mine))

    @reaction(tick, sources=[heard], effects=[said])
    def change_again(self) -> None:
        mine = self.heard.value
        mine.append(4)
        self.said.set(list(mine))


class Copies(Reactor):
    """Two reactors that change one value, and one that does not."""

    def __init__(self) -> None:
        self.lists, self.one, self.two, self.echo = Lists(), Changer(), Changer(), Echo()
        for port in (self.one.heard, self.two.heard, self.echo.heard):
            self.connect(self.lists.sent, port)


def test_a_mutable_input_gives_each_reaction_a_copy_of_its_own(run: Run) -> None:
    assert sorted(run(Copies, timeout_ns=1 * ms)[1:], key=lambda line: (line.time_ns, line.path)) == [
        at(0, 0, "echo.say", said=[1, 2]),
        at(0, 0, "one.change", said=[1, 2, 3]),
        at(0, 0, "one.change_again", said=[1, 2, 4]),
        at(0, 0, "two.change", said=[1, 2, 3]),
        at(0, 0, "two.change_again", said=[1, 2, 4]),
        at(1 * ms, 0, "one.change_again", said=[1, 2, 4]),
        at(1 * ms, 0, "two.change_again", said=[1, 2, 4]),
    ]


class Delays(Reactor):
    """One counter, heard at once, in the next microstep, and later."""

    def __init__(self) -> None:
        self.counter = Counter(2 * ms)
        self.plain, self.soon, self.later = Echo(), Echo(), Echo()
        self.connect(self.counter.sent, self.plain.heard)
        self.connect(self.counter.sent, self.soon.heard, after_ns=0)
        self.connect(self.counter.sent, self.later.heard, after_ns=3 * ms)


def test_a_delayed_connection_leads_to_a_later_time_and_one_without_a_delay_to_the_next_microstep(run: Run) -> None:
    assert run(Delays, timeout_ns=5 * ms) == [
        at(0, 0, "counter.send", sent=0),
        at(0, 0, "plain.say", said=0),
        at(0, 1, "soon.say", said=0),
        at(2 * ms, 0, "counter.send", sent=1),
        at(2 * ms, 0, "plain.say", said=1),
        at(2 * ms, 1, "soon.say", said=1),
        at(3 * ms, 0, "later.say", said=0),
        at(4 * ms, 0, "counter.send", sent=2),
        at(4 * ms, 0, "plain.say", said=2),
        at(4 * ms, 1, "soon.say", said=2),
        at(5 * ms, 0, "later.say", said=1),
    ]


class Burst(Reactor):
    """Sends in three microsteps of one time."""

    again = LogicalAction[int]()
    sent = Output[int]()

    def __init__(self) -> None:
        self.number = 0

    @reaction(startup, again, effects=[sent, again])
    def send(self) -> None:
        self.sent.set(self.number)
        self.number += 1
        if self.number < 3:
            self.again.schedule()


class Collisions(Reactor):
    """What is sent in three microsteps arrives at one time, the microsteps of the sender dropped."""

    def __init__(self) -> None:
        self.burst, self.echo = Burst(), Echo()
        self.connect(self.burst.sent, self.echo.heard, after_ns=5)


def test_messages_that_collide_take_successive_microsteps(run: Run) -> None:
    assert of(run(Collisions), "echo.say") == [
        at(5, 0, "echo.say", said=0),
        at(5, 1, "echo.say", said=1),
        at(5, 2, "echo.say", said=2),
    ]


class MicrostepDropped(Reactor):
    """Speaks in a microstep only."""

    again = LogicalAction[int]()
    sent = Output[int]()

    @reaction(startup, effects=[again])
    def begin(self) -> None:
        self.again.schedule(1)

    @reaction(again, effects=[sent])
    def send(self) -> None:
        self.sent.set(1)


class DelayFromMicrostep(Reactor):
    """A message that was sent in a microstep, with a delay."""

    def __init__(self) -> None:
        self.sender, self.echo = MicrostepDropped(), Echo()
        self.connect(self.sender.sent, self.echo.heard, after_ns=5)


def test_a_delay_drops_the_microstep_of_the_sender(run: Run) -> None:
    assert run(DelayFromMicrostep) == [
        at(0, 0, "sender.begin"),
        at(0, 1, "sender.send", sent=1),
        at(5, 0, "echo.say", said=1),
    ]


class Box(Reactor):
    """Passes on through an echo, with a delay on the way in and another on the way out."""

    heard = Input[int]()
    said = Output[int]()

    def __init__(self) -> None:
        self.echo = Echo()
        self.connect(self.heard, self.echo.heard, after_ns=1 * ms)
        self.connect(self.echo.said, self.said, after_ns=0)


class Boxes(Reactor):
    """A box in a box's way."""

    def __init__(self) -> None:
        self.counter, self.box, self.echo = Counter(5 * ms), Box(), Echo()
        self.connect(self.counter.sent, self.box.heard, after_ns=2 * ms)
        self.connect(self.box.said, self.echo.heard)


def test_delays_add_up_on_the_way_through_the_ports_of_containing_reactors(run: Run) -> None:
    assert run(Boxes, timeout_ns=4 * ms) == [
        at(0, 0, "counter.send", sent=0),
        at(3 * ms, 0, "box.echo.say", said=0),
        at(3 * ms, 1, "echo.say", said=0),
    ]


class Wide(Reactor):
    """Sets its two channels to its index and the channel."""

    sent = Output[Any](width=2)

    def __init__(self, index: int) -> None:
        self.index = index

    @reaction(startup, effects=[sent])
    def send(self) -> None:
        for channel in range(2):
            self.sent.set(f"{self.index}.{channel}", channel)


class WideGather(Reactor):
    """Says all that it hears."""

    heard = Input[Any](width=3)
    said = Output[Any]()

    @reaction(heard, effects=[said])
    def say(self) -> None:
        self.said.set(list(self.heard.values))


class BankMajor(Reactor):
    """Three members with two channels each send to two members with three channels each."""

    def __init__(self) -> None:
        self.senders, self.gathers = bank(3, Wide), bank(2, lambda _: WideGather())
        self.connect(self.senders.sent, self.gathers.heard)


class Interleaved(Reactor):
    """As above, the left side taken channel by channel."""

    def __init__(self) -> None:
        self.senders, self.gathers = bank(3, Wide), bank(2, lambda _: WideGather())
        self.connect(interleaved(self.senders.sent), self.gathers.heard)


def test_banks_and_multiports_pair_bank_by_bank(run: Run) -> None:
    assert run(BankMajor)[3:] == [
        at(0, 0, "gathers[0].say", said=["0.0", "0.1", "1.0"]),
        at(0, 0, "gathers[1].say", said=["1.1", "2.0", "2.1"]),
    ]


def test_interleaved_ports_pair_channel_by_channel(run: Run) -> None:
    assert run(Interleaved)[3:] == [
        at(0, 0, "gathers[0].say", said=["0.0", "1.0", "2.0"]),
        at(0, 0, "gathers[1].say", said=["0.1", "1.1", "2.1"]),
    ]


class Broadcast(Reactor):
    """Two channels repeated over two members with three channels each."""

    def __init__(self) -> None:
        self.sender, self.gathers = Wide(0), bank(2, lambda _: WideGather())
        self.connect(self.sender.sent, self.gathers.heard, broadcast=True)


def test_a_broadcast_repeats_the_whole_left_side_cyclically(run: Run) -> None:
    assert run(Broadcast) == [
        at(0, 0, "sender.send", sent="0.0", **{"sent[1]": "0.1"}),
        at(0, 0, "gathers[0].say", said=["0.0", "0.1", "0.0"]),
        at(0, 0, "gathers[1].say", said=["0.1", "0.0", "0.1"]),
    ]


class Gathered(Reactor):
    """Three counters of different periods, gathered."""

    def __init__(self) -> None:
        self.gather = Gather(3)
        self.counters = bank(3, lambda index: Counter(index + 1))
        self.connect(self.counters.sent, self.gather.heard)


def test_gathering_many_channels_fires_a_reaction_once_a_tag_and_keeps_their_order(run: Run) -> None:
    assert of(run(Gathered, timeout_ns=4), "gather.say") == [
        at(0, 0, "gather.say", said=[0, 0, 0]),
        at(1, 0, "gather.say", said=[1, None, None]),
        at(2, 0, "gather.say", said=[2, 1, None]),
        at(3, 0, "gather.say", said=[3, None, 1]),
        at(4, 0, "gather.say", said=[4, 2, None]),
    ]


class ChannelReader(Reactor):
    """Reads the last value of each channel."""

    heard = Input[int](width=2)
    said = Output[Any]()

    @reaction(heard, effects=[said])
    def say(self) -> None:
        self.said.set((self.heard[0], self.heard[1], list(self.heard.values)))


class Channels(Reactor):
    """Two counters of different periods."""

    def __init__(self) -> None:
        self.counters, self.reader = bank(2, lambda index: Counter(index + 1)), ChannelReader()
        self.connect(self.counters.sent, self.reader.heard)


def test_each_channel_keeps_its_own_last_value(run: Run) -> None:
    assert of(run(Channels, timeout_ns=3), "reader.say") == [
        at(0, 0, "reader.say", said=(0, 0, [0, 0])),
        at(1, 0, "reader.say", said=(1, 0, [1, None])),
        at(2, 0, "reader.say", said=(2, 1, [2, 1])),
        at(3, 0, "reader.say", said=(3, 1, [3, None])),
    ]


class Base(Reactor):
    """Two reactions."""

    tick = Timer()

    @reaction(tick)
    def zebra(self) -> None:
        pass

    @reaction(tick)
    def apple(self) -> None:
        pass


class Derived(Base):
    """Two more."""

    @reaction(Base.tick)
    def melon(self) -> None:
        pass

    @reaction(Base.tick)
    def banana(self) -> None:
        pass


def test_reactions_run_in_declaration_order_those_of_the_base_class_first(run: Run) -> None:
    assert run(Derived) == [at(0, 0, name) for name in ("zebra", "apple", "melon", "banana")]


class Overridden(Base):
    """Redefines the body of a reaction of the base class."""

    said = Output[str]()

    @reaction(Base.tick, effects=[said])
    def zebra(self) -> None:
        self.said.set("stripes")


def test_a_reaction_that_a_subclass_redefines_keeps_its_place(run: Run) -> None:
    assert run(Overridden) == [at(0, 0, "zebra", said="stripes"), at(0, 0, "apple")]


class Diamond(Reactor):
    """A short way and a long way to one reaction; what is merely read counts."""

    def __init__(self) -> None:
        self.join = Join()
        self.long = bank(3, lambda _: Echo())
        self.counter = Counter()
        self.connect(self.counter.sent, self.join.short)
        self.connect(self.counter.sent, self.long[0].heard)
        self.connect(self.long[0].said, self.long[1].heard)
        self.connect(self.long[1].said, self.long[2].heard)
        self.connect(self.long[2].said, self.join.long)


class Join(Reactor):
    """Is triggered by the short way, reads the long one."""

    short = Input[int]()
    long = Input[int]()
    said = Output[Any]()

    @reaction(short, sources=[long], effects=[said])
    def say(self) -> None:
        self.said.set((self.short.value, self.long.get()))


def test_a_reaction_runs_after_the_longest_path_to_it_through_what_it_merely_reads_too(run: Run) -> None:
    assert run(Diamond, timeout_ns=0) == [
        at(0, 0, "counter.send", sent=0),
        at(0, 0, "long[0].say", said=0),
        at(0, 0, "long[1].say", said=0),
        at(0, 0, "long[2].say", said=0),
        at(0, 0, "join.say", said=(0, 0)),
    ]


class ByTurns(Reactor):
    """Its first reaction is far down, in a mode that is never active; its second has a clock."""

    here = Mode(initial=True)
    never = Mode()
    heard = Input[int]()
    tick = Timer()

    @reaction(heard, mode=never)
    def first(self) -> None:
        pass

    @reaction(tick, mode=here)
    def second(self) -> None:
        pass


class FarDown(Reactor):
    """What is declared after another reaction comes after all that leads to that one."""

    def __init__(self) -> None:
        self.by_turns, self.counter, self.echo = ByTurns(), Counter(), Echo()
        self.connect(self.counter.sent, self.echo.heard)
        self.connect(self.echo.said, self.by_turns.heard)


def test_declaration_order_counts_between_different_modes_too(run: Run) -> None:
    assert run(FarDown, timeout_ns=0) == [
        at(0, 0, "counter.send", sent=0),
        at(0, 0, "echo.say", said=0),
        at(0, 0, "by_turns.second"),
    ]


class Reuser(Reactor):
    """Sends one array again and again, changed after it was sent."""

    tick = Timer(1 * ms)
    sent = Output[Any](shape=(2,), dtype="int64")

    def __init__(self) -> None:
        self.mine = np.zeros(2, "int64")

    @reaction(tick, effects=[sent])
    def send(self) -> None:
        self.sent.set(self.mine)
        self.mine += 1


class Reusing(Reactor):
    """Somebody hears the array at once, and somebody later."""

    def __init__(self) -> None:
        self.reuser, self.now, self.later = Reuser(), Pair(), Pair()
        self.connect(self.reuser.sent, self.now.heard)
        self.connect(self.reuser.sent, self.later.heard, after_ns=2 * ms)


class Pair(Reactor):
    """Says an array as a list."""

    heard = Input[Any](shape=(2,), dtype="int64")
    said = Output[Any]()

    @reaction(heard, effects=[said])
    def say(self) -> None:
        self.said.set(self.heard.value.tolist())


def test_an_array_is_frozen_once_it_is_set(run: Run) -> None:
    log = run(Reusing, timeout_ns=3 * ms)
    assert of(log, "now.say") == [at(n * ms, 0, "now.say", said=[n, n]) for n in range(4)]
    assert of(log, "later.say") == [at((n + 2) * ms, 0, "later.say", said=[n, n]) for n in range(2)]


class Unset(Reactor):
    """Might set a port, and does so every other time."""

    tick = Timer(1)
    sent = Output[int]()

    def __init__(self) -> None:
        self.ticks = 0

    @reaction(tick, effects=[sent])
    def send(self) -> None:
        if self.ticks % 2 == 0:
            self.sent.set(self.ticks)
        self.ticks += 1


class Halved(Reactor):
    """Something that is sent now and then."""

    def __init__(self) -> None:
        self.unset, self.echo = Unset(), Echo()
        self.connect(self.unset.sent, self.echo.heard)


def test_a_port_that_is_not_set_triggers_nothing(run: Run) -> None:
    assert of(run(Halved, timeout_ns=3), "echo.say") == [at(0, 0, "echo.say", said=0), at(2, 0, "echo.say", said=2)]


class Urgent(Reactor):
    """Has a deadline that is never violated, however slow the machine."""

    heard = Input[int]()

    @reaction(heard, deadline_ns=10**15)
    def hurry(self) -> None:
        pass

    @hurry.late
    def too_late(self) -> None:
        pass


class ByDeadline(Reactor):
    """Two independent chains; the one declared last has a deadline at its end."""

    def __init__(self) -> None:
        self.slow_counter, self.slow_echo = Counter(), Echo()
        self.counter, self.echo, self.urgent = Counter(), Echo(), Urgent()
        self.connect(self.slow_counter.sent, self.slow_echo.heard)
        self.connect(self.counter.sent, self.echo.heard)
        self.connect(self.echo.said, self.urgent.heard)


def test_a_deadline_is_inherited_upstream_and_comes_before_the_level_in_the_order(run: Run) -> None:
    assert run(ByDeadline, timeout_ns=0) == [
        at(0, 0, "counter.send", sent=0),
        at(0, 0, "echo.say", said=0),
        at(0, 0, "urgent.hurry"),
        at(0, 0, "slow_counter.send", sent=0),
        at(0, 0, "slow_echo.say", said=0),
    ]


class UrgentLast(Reactor):
    """The second reaction has a deadline: the first, which it has to wait for, inherits it."""

    tick = Timer()

    @reaction(tick)
    def first(self) -> None:
        pass

    @reaction(tick, deadline_ns=10**15)
    def second(self) -> None:
        pass

    @second.late
    def too_late(self) -> None:
        pass


class ByDeclaration(Reactor):
    """Somebody without a deadline is declared before."""

    def __init__(self) -> None:
        self.counter, self.urgent = Counter(), UrgentLast()


def test_a_deadline_is_inherited_by_the_reactions_declared_before(run: Run) -> None:
    assert run(ByDeclaration, timeout_ns=0) == [
        at(0, 0, "urgent.first"),
        at(0, 0, "urgent.second"),
        at(0, 0, "counter.send", sent=0),
    ]


class Missing(Reactor):
    """Misses a deadline of zero."""

    heard = Input[int]()
    done = Output[str]()

    @reaction(heard, effects=[done], deadline_ns=0)
    def work(self) -> None:
        self.done.set("in time")

    @work.late
    def give_up(self) -> None:
        self.done.set(f"too late for {self.heard.value}")


class Missed(Reactor):
    """Somebody hears of a missed deadline."""

    def __init__(self) -> None:
        self.counter, self.missing, self.echo = Counter(), Missing(), Echo()
        self.connect(self.counter.sent, self.missing.heard)
        self.connect(self.missing.done, self.echo.heard)


def test_a_deadline_of_zero_is_always_violated_and_what_its_handler_sets_propagates_in_the_tag(run: Run) -> None:
    assert run(Missed, timeout_ns=1 * ms) == [
        at(0, 0, "counter.send", sent=0),
        late_at(0, 0, "missing.work", done="too late for 0"),
        at(0, 0, "echo.say", said="too late for 0"),
        at(1 * ms, 0, "counter.send", sent=1),
        late_at(1 * ms, 0, "missing.work", done="too late for 1"),
        at(1 * ms, 0, "echo.say", said="too late for 1"),
    ]


class ByMode(Reactor):
    """Two reactions in different modes set one port, and a connection leads back to the reactor."""

    one = Mode(initial=True)
    two = Mode()
    tick = Timer(1 * ms)
    back = Input[str]()
    sent = Output[str]()

    @reaction(tick, mode=one, effects=[sent, two])
    def in_one(self) -> None:
        self.sent.set("one")
        self.two.reset()

    @reaction(tick, mode=two, effects=[sent, one])
    def in_two(self) -> None:
        self.sent.set("two")
        self.one.reset()

    @reaction(back, mode=two)
    def never(self) -> None:
        pass


class Modal(Reactor):
    """A reader, and a way back from what one mode sets to what another reads; no loop at any tag."""

    def __init__(self) -> None:
        self.by_mode, self.echo = ByModeWithoutLoop(), Echo()
        self.connect(self.by_mode.sent, self.echo.heard)
        self.connect(self.by_mode.sent, self.by_mode.back)


class ByModeWithoutLoop(Reactor):
    """The first mode reads what the second sets: never in one tag."""

    one = Mode(initial=True)
    two = Mode()
    tick = Timer(1 * ms)
    back = Input[str]()
    sent = Output[str]()

    @reaction(back, mode=one)
    def read(self) -> None:
        pass

    @reaction(tick, mode=one, effects=[two])
    def leave(self) -> None:
        self.two.reset()

    @reaction(tick, mode=two, effects=[sent])
    def write(self) -> None:
        self.sent.set("two")


def test_what_one_mode_sets_does_not_come_before_what_another_reads(run: Run) -> None:
    assert run(Modal, timeout_ns=1 * ms) == [
        at(0, 0, "by_mode.leave"),
        at(1 * ms, 0, "by_mode.write", sent="two"),
        at(1 * ms, 0, "echo.say", said="two"),
    ]


class ModalWriters(Reactor):
    """Reads a port that both modes of a reactor set."""

    def __init__(self) -> None:
        self.by_mode, self.echo = ByMode(), Echo()
        self.connect(self.by_mode.sent, self.echo.heard)


def test_reactions_in_different_modes_may_set_one_port(run: Run) -> None:
    assert of(run(ModalWriters, timeout_ns=2 * ms), "echo.say") == [
        at(0, 0, "echo.say", said="one"),
        at(1 * ms, 0, "echo.say", said="two"),
        at(2 * ms, 0, "echo.say", said="one"),
    ]


class Filler(Reactor):
    """Fills an array in place, not in every tag."""

    tick = Timer(1 * ms)
    filled = Output[Any](shape=(3,), dtype="int64")

    def __init__(self) -> None:
        self.tags = 0

    @reaction(tick, effects=[filled])
    def fill(self) -> None:
        if self.tags != 1:
            self.filled.array()[...] = self.tags
        self.tags += 1


class ArrayReader(Reactor):
    """Looks at an array, whether it is new or not."""

    tick = Timer(1 * ms)
    heard = Input[Any](shape=(3,), dtype="int64")
    said = Output[Any]()

    @reaction(tick, sources=[heard], effects=[said])
    def look(self) -> None:
        array = self.heard.value
        self.said.set((self.heard.is_present, array.flags.writeable, array.tolist()))


class ArrayNow(Reactor):
    """An array in the tag in which it was filled."""

    def __init__(self) -> None:
        self.filler, self.reader = Filler(), ArrayReader()
        self.connect(self.filler.filled, self.reader.heard)


def test_an_array_is_filled_in_place_and_read_through_a_view_that_nobody_can_write(run: Run) -> None:
    assert run(ArrayNow, timeout_ns=2 * ms) == [
        at(0, 0, "filler.fill", filled=np.array([0, 0, 0])),
        at(0, 0, "reader.look", said=(True, False, [0, 0, 0])),
        at(1 * ms, 0, "filler.fill"),
        at(1 * ms, 0, "reader.look", said=(False, False, [0, 0, 0])),
        at(2 * ms, 0, "filler.fill", filled=np.array([2, 2, 2])),
        at(2 * ms, 0, "reader.look", said=(True, False, [2, 2, 2])),
    ]


class LaterReader(ArrayReader):
    """Looks a little later."""

    def __init__(self) -> None:
        self.after = Timer(1 * ms, offset_ns=1 * ms)
        self.add_reaction(
            "look_later", self.look_later, triggers=[self.after], sources=[self.heard], effects=[self.said]
        )

    def look_later(self) -> None:
        self.look()


class ArrayLater(Reactor):
    """An array that is under way while the next one is filled."""

    def __init__(self) -> None:
        self.filler, self.gather = Filler(), Listing()
        self.connect(self.filler.filled, self.gather.heard, after_ns=1 * ms)


class Listing(Reactor):
    """Says an array as a list."""

    heard = Input[Any](shape=(3,), dtype="int64")
    said = Output[Any]()

    @reaction(heard, effects=[said])
    def say(self) -> None:
        self.said.set(self.heard.value.tolist())


def test_a_delayed_array_is_the_one_that_was_filled_although_a_new_one_is_being_filled(run: Run) -> None:
    assert of(run(ArrayLater, timeout_ns=4 * ms), "gather.say") == [
        at(1 * ms, 0, "gather.say", said=[0, 0, 0]),
        at(3 * ms, 0, "gather.say", said=[2, 2, 2]),
        at(4 * ms, 0, "gather.say", said=[3, 3, 3]),
    ]


class Keeper(Reactor):
    """Holds views of the last two arrays."""

    heard = Input[Any](shape=(3,), dtype="int64", retain=1)
    said = Output[Any]()

    def __init__(self) -> None:
        self.before: Any = None

    @reaction(heard, effects=[said])
    def keep(self) -> None:
        now = self.heard.value
        self.said.set((None if self.before is None else self.before.tolist(), now.tolist()))
        self.before = now


class Kept(Reactor):
    """An array is filled in every tag, and somebody holds on to it for a tag."""

    def __init__(self) -> None:
        self.filler, self.keeper = Filler(), Keeper()
        self.connect(self.filler.filled, self.keeper.heard)


def test_a_view_stays_valid_until_the_next_value_and_longer_where_that_is_declared(run: Run) -> None:
    assert of(run(Kept, timeout_ns=4 * ms), "keeper.keep") == [
        at(0, 0, "keeper.keep", said=(None, [0, 0, 0])),
        at(2 * ms, 0, "keeper.keep", said=([0, 0, 0], [2, 2, 2])),
        at(3 * ms, 0, "keeper.keep", said=([2, 2, 2], [3, 3, 3])),
        at(4 * ms, 0, "keeper.keep", said=([3, 3, 3], [4, 4, 4])),
    ]
