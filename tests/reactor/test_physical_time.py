"""The rules that have to do with physical time: waiting, physical actions and connections, watchdogs, deadlines.

Nothing here depends on how fast the machine is: tags are compared with what they must not come before.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from runtimes.reactor import (
    Input,
    LogicalAction,
    Mode,
    Output,
    PhysicalAction,
    Program,
    Reactor,
    Tag,
    Timer,
    Watchdog,
    ms,
    reaction,
    s,
    shutdown,
    startup,
    stop,
)
from tests.reactor.lines import Line, at, late_at, lines_of_reference, lines_of_trace
from tests.reactor.programs import Counter, Echo, ProducerConsumer
from tests.reactor.reference import Outside, interpret

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtimes.reactor import Trace


def run(way: dict[str, Any], make: Callable[[], Reactor], *, timeout_ns: int | None = None, **options: Any) -> Trace:
    """Run a program, by default in physical time; its recording."""
    program = Program(make, recording=True, **way, **options)
    program.run(timeout_ns)
    return program.trace()


def lines(trace: Trace, *paths: str) -> list[Line]:
    """The lines of some reactions, or of all."""
    return [line for line in lines_of_trace(trace.steps) if not paths or line.path in paths]


class Patient(Reactor):
    """Says whether physical time has reached the tag."""

    tick = Timer(3 * ms)
    said = Output[bool]()

    @reaction(tick, effects=[said])
    def look(self) -> None:
        self.said.set(self.physical_time_ns >= self.tag.time_ns)


class TwoPatients(Reactor):
    """Two of them."""

    def __init__(self) -> None:
        self.one, self.two = Patient(), Patient()


def test_a_tag_does_not_start_before_its_physical_time(way: dict[str, Any]) -> None:
    placement = {"two": 1} if "workers" in way else None
    began_s = time.monotonic()
    trace = run(way, TwoPatients, timeout_ns=9 * ms, placement=placement)
    assert time.monotonic() - began_s >= 0.009
    expected = [
        at(time_ns, 0, f"{who}.look", said=True) for time_ns in (0, 3 * ms, 6 * ms, 9 * ms) for who in ("one", "two")
    ]
    assert lines(trace) == expected


def test_a_fast_program_does_not_wait_for_physical_time(way: dict[str, Any]) -> None:
    began_s = time.monotonic()
    run(way, Slow, timeout_ns=100 * s, fast=True)
    assert time.monotonic() - began_s < 50


class Slow(Reactor):
    """Has a long way to go."""

    tick = Timer(20 * s)

    @reaction(tick)
    def go(self) -> None:
        pass


class Doorbell(Reactor):
    """A thread rings; the next thing to happen of itself is far away."""

    ring = PhysicalAction[str]()
    far = Timer(offset_ns=1000 * s)
    said = Output[Any]()

    @reaction(startup)
    def open(self) -> None:
        self.thread = threading.Thread(target=self.wait_and_ring)
        self.thread.start()

    def wait_and_ring(self) -> None:
        time.sleep(0.02)
        self.ring.schedule("ding")

    @reaction(ring, effects=[said, stop])
    def answer(self) -> None:
        self.said.set((self.ring.value, 20 * ms <= self.tag.time_ns < 1000 * s))
        self.request_stop()

    @reaction(far)
    def never(self) -> None:
        pass

    @reaction(shutdown)
    def close(self) -> None:
        self.thread.join()


class House(Reactor):
    """A doorbell in a house."""

    def __init__(self) -> None:
        self.idle, self.door = Counter(1000 * s), Doorbell()


def test_an_earlier_physical_event_interrupts_the_wait_for_a_later_tag(way: dict[str, Any]) -> None:
    trace = run(way, House, placement={"door": 1} if "workers" in way else None)
    assert [line.path for line in lines(trace)] == ["idle.send", "door.open", "door.answer", "door.close"] or [
        line.path for line in lines(trace)
    ] == ["door.open", "idle.send", "door.answer", "door.close"]
    (answer,) = lines(trace, "door.answer")
    assert answer.outputs == at(0, 0, "", said=("ding", True)).outputs


class OnlyRung(Reactor):
    """Nothing happens of itself."""

    ring = PhysicalAction[int]()

    @reaction(startup)
    def open(self) -> None:
        self.thread = threading.Timer(0.02, self.ring.schedule)
        self.thread.start()

    @reaction(ring, effects=[stop])
    def answer(self) -> None:
        self.request_stop()

    @reaction(shutdown)
    def close(self) -> None:
        self.thread.cancel()
        self.thread.join()


@pytest.mark.parametrize("fast", [False, True])
def test_a_physical_action_keeps_a_program_alive_in_fast_mode_too(way: dict[str, Any], fast: bool) -> None:
    trace = run(way, OnlyRung, fast=fast)
    assert [line.path for line in lines(trace)] == ["open", "answer", "close"]


class Unrung(Reactor):
    """Has a physical action that nobody schedules."""

    ring = PhysicalAction[int]()

    @reaction(startup, ring)
    def answer(self) -> None:
        pass

    @reaction(shutdown)
    def close(self) -> None:
        pass


@pytest.mark.parametrize("fast", [False, True])
def test_a_physical_action_does_not_keep_a_program_alive_that_is_not_to_be(way: dict[str, Any], fast: bool) -> None:
    assert lines(run(way, Unrung, fast=fast, keepalive=False)) == [at(0, 0, "answer"), at(0, 1, "close")]


def test_an_empty_queue_waits_for_the_timeout_where_a_program_is_kept_alive(way: dict[str, Any]) -> None:
    began_s = time.monotonic()
    assert lines(run(way, Unrung, timeout_ns=20 * ms, fast=True)) == [at(0, 0, "answer"), at(20 * ms, 0, "close")]
    assert time.monotonic() - began_s >= 0.02


class ByWire(Reactor):
    """Two reactors, joined by a physical connection."""

    def __init__(self, after_ns: int | None = None) -> None:
        self.burst, self.echo, self.clock = Once(), Stamp(), Stamp()
        self.connect(self.burst.sent, self.echo.heard, physical=True, after_ns=after_ns)
        self.connect(self.burst.sent, self.clock.heard)


class Once(Reactor):
    """Sends its physical time, once."""

    sent = Output[int]()

    @reaction(startup, effects=[sent])
    def send(self) -> None:
        self.sent.set(self.physical_time_ns)


class Stamp(Reactor):
    """Says whether what it hears was said before the tag of now, and whether this is a later tag."""

    heard = Input[int]()
    said = Output[Any]()

    @reaction(heard, effects=[said])
    def say(self) -> None:
        self.said.set((self.tag.time_ns >= self.heard.value, self.tag > (0, 0)))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("after_ns", [None, 0, 3 * ms])
def test_a_physical_connection_gives_a_new_tag_by_the_clock_and_does_not_keep_a_program_alive(
    way: dict[str, Any], fast: bool, after_ns: int | None
) -> None:
    trace = run(way, lambda: ByWire(after_ns), fast=fast, placement={"echo": 1} if "workers" in way else None)
    (heard,) = lines(trace, "echo.say")
    assert heard.outputs == at(0, 0, "", said=(True, True)).outputs
    assert heard.time_ns >= (after_ns or 0)


class Eager(Reactor):
    """Schedules a physical action from a reaction at a tag that is far ahead of physical time."""

    tick = Timer(offset_ns=1000 * s)
    now = PhysicalAction[None]()
    said = Output[bool]()

    @reaction(tick, effects=[now])
    def go(self) -> None:
        self.now.schedule()

    @reaction(now, effects=[said, stop])
    def hear(self) -> None:
        self.said.set((self.tag.time_ns, self.tag.microstep) == (1000 * s, 1))
        self.request_stop()


def test_in_fast_mode_a_physical_action_gets_at_least_the_next_microstep(way: dict[str, Any]) -> None:
    assert lines(run(way, Eager, fast=True)) == [at(1000 * s, 0, "go"), at(1000 * s, 1, "hear", said=True)]


class Delayed(Reactor):
    """Schedules physical actions with a delay of their own and one that is asked for."""

    soon = PhysicalAction[int](2 * ms)
    said = Output[bool]()

    @reaction(startup, effects=[soon])
    def begin(self) -> None:
        self.soon.schedule(self.physical_time_ns, delay_ns=3 * ms)

    @reaction(soon, effects=[said, stop])
    def hear(self) -> None:
        self.said.set(self.tag.time_ns >= self.soon.value + 5 * ms and self.tag.microstep == 0)
        self.request_stop()


def test_a_physical_action_gets_the_physical_time_of_now_plus_its_delays(way: dict[str, Any]) -> None:
    (heard,) = lines(run(way, Delayed), "hear")
    assert heard.outputs == at(0, 0, "", said=True).outputs


class Spaced(Reactor):
    """Schedules a physical action three times at once, with a spacing."""

    spaced = PhysicalAction[int](min_spacing_ns=2 * ms)
    said = Output[Any]()

    def __init__(self) -> None:
        self.before_ns = -1000 * s
        self.left = 3

    @reaction(startup, effects=[spaced])
    def begin(self) -> None:
        for number in range(3):
            self.spaced.schedule(number)

    @reaction(spaced, effects=[said, stop])
    def hear(self) -> None:
        self.said.set((self.spaced.value, self.tag.time_ns - self.before_ns >= 2 * ms))
        self.before_ns = self.tag.time_ns
        self.left -= 1
        if not self.left:
            self.request_stop()


def test_a_physical_action_keeps_its_spacing(way: dict[str, Any]) -> None:
    heard = lines(run(way, Spaced), "hear")
    assert [line.outputs for line in heard] == [at(0, 0, "", said=(number, True)).outputs for number in range(3)]


class Crowd(Reactor):
    """Many threads schedule one action, each in order."""

    THREADS = 4

    called = PhysicalAction[tuple[int, int]]()
    said = Output[Any]()

    def __init__(self, each: int) -> None:
        self.each = each
        self.count = 0
        self.heard: list[list[int]] = [[] for _ in range(self.THREADS)]

    @reaction(startup)
    def open(self) -> None:
        self.threads = [threading.Thread(target=self.call, args=(number,)) for number in range(self.THREADS)]
        for thread in self.threads:
            thread.start()

    def call(self, number: int) -> None:
        for turn in range(self.each):
            self.called.schedule((number, turn))

    @reaction(called, effects=[said, stop])
    def hear(self) -> None:
        number, turn = self.called.value
        self.heard[number].append(turn)
        self.count += 1
        if self.count == self.THREADS * self.each:
            assert all(turns == list(range(self.each)) for turns in self.heard), "one has overtaken another"
            self.said.set(True)
            self.request_stop()

    @reaction(shutdown)
    def close(self) -> None:
        for thread in self.threads:
            thread.join()


class Hall(Reactor):
    """A crowd, and somebody elsewhere."""

    def __init__(self, each: int) -> None:
        self.counter, self.crowd = Counter(), Crowd(each)


def test_a_physical_action_may_be_scheduled_from_any_thread_and_none_is_lost_or_overtaken(way: dict[str, Any]) -> None:
    trace = run(way, partial(Hall, 500), placement={"crowd": 1} if "workers" in way else None)
    assert len(lines(trace, "crowd.hear")) == Crowd.THREADS * 500
    assert lines(trace, "crowd.hear")[-1].outputs == at(0, 0, "", said=True).outputs


class ModalDoor(Reactor):
    """Rings, as an outsider would, for a mode that is not active."""

    here = Mode(initial=True)
    away = Mode()
    ring = PhysicalAction[int](mode=away)
    end = Timer(offset_ns=20 * ms)

    @reaction(startup, mode=here)
    def begin(self) -> None:
        thread = threading.Thread(target=self.ring.schedule, args=(1,))
        thread.start()
        thread.join()

    @reaction(ring, mode=away)
    def answer(self) -> None:
        pass

    @reaction(end, effects=[stop])
    def close(self) -> None:
        self.request_stop()


def test_a_physical_action_for_an_inactive_mode_is_dropped_with_a_warning() -> None:
    program = Program(ModalDoor, recording=True)
    with pytest.warns(RuntimeWarning, match="inactive mode 'away'"):
        program.run()
    assert [line.path for line in lines_of_trace(program.trace().steps)] == ["begin", "close"]


class Guarded(Reactor):
    """A watchdog that expires, and an action that its handler schedules."""

    dog = Watchdog(5 * ms)
    barked = LogicalAction[int]()
    alive = Timer(1 * ms)
    said = Output[Any]()

    def __init__(self) -> None:
        self.barks = 0

    @reaction(startup, effects=[dog])
    def begin(self) -> None:
        self.dog.start()

    @dog.handler(effects=[barked])
    def bark(self) -> None:
        self.barks += 1
        self.barked.schedule(self.barks)

    @reaction(alive)
    def stay(self) -> None:
        pass

    @reaction(barked, effects=[said])
    def hear(self) -> None:
        self.said.set((self.barked.value, self.tag.time_ns >= 5 * ms))
        self.until_ns = self.tag.time_ns + 20 * ms

    @reaction(alive, effects=[stop])
    def end(self) -> None:
        if self.barks and self.tag.time_ns > self.until_ns:
            self.request_stop()

    until_ns = 1000 * s


class Yard(Reactor):
    """A watchdog elsewhere."""

    def __init__(self) -> None:
        self.counter, self.guarded = Counter(), Guarded()


def test_a_watchdog_runs_its_handler_once_when_physical_time_reaches_its_expiry(way: dict[str, Any]) -> None:
    trace = run(way, Yard, placement={"guarded": 1} if "workers" in way else None)
    (heard,) = lines(trace, "guarded.hear")
    assert heard.outputs == at(0, 0, "", said=(1, True)).outputs


class Asleep(Reactor):
    """A watchdog whose reactor does nothing until it has expired."""

    dog = Watchdog(20 * ms)
    barked = LogicalAction[None]()

    @reaction(startup, effects=[dog])
    def begin(self) -> None:
        self.dog.start()

    @dog.handler(effects=[barked])
    def bark(self) -> None:
        self.barked.schedule()

    @reaction(barked, effects=[stop])
    def wake(self) -> None:
        self.request_stop()

    def now(self) -> Tag:
        return self.tag


class Night(Reactor):
    """It sleeps elsewhere."""

    def __init__(self) -> None:
        self.counter, self.asleep = Counter(), Asleep()


def test_asking_a_reactor_does_not_move_its_watchdogs_expiry_to_a_tag_at_which_nothing_happened_there(
    way: dict[str, Any],
) -> None:
    """A replay lets it expire after a tag in which its worker takes part."""
    placement = {"asleep": 1} if "workers" in way else None
    with Program(Night, recording=True, placement=placement, **way) as program:
        program.advance(5)
        assert program.ask("asleep", "now") == Tag(4 * ms, 0)
        while not program.ended:
            program.advance(1)
        program.stop()
    trace = program.trace()
    there = [line for line in lines(trace) if placement is None or line.path.startswith("asleep")]
    (expiry,) = trace.expiries
    assert (expiry.time_ns, expiry.microstep) in {(line.time_ns, line.microstep) for line in there}


@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
def test_a_replay_has_the_events_of_a_watchdogs_handler_at_their_tags_wherever_it_lives(
    way: dict[str, Any], executor: str
) -> None:
    """While it sleeps its worker takes part in no tag, and others go on: when it barks is the clock's choice."""
    trace = run(way, Night, placement={"asleep": 1} if "workers" in way else None)
    again: dict[str, Any] = {"executor": executor}
    if executor != "inline":
        again |= {"workers": 2, "placement": {"asleep": 1}}
    replayed = run(again, Night, replay=trace)
    assert lines(replayed) == lines(trace)
    assert replayed.expiries == trace.expiries
    # Later, as a rule; on a machine that just stood still it may be at that tag.
    assert trace.expiries[0].earliest[0] >= (trace.expiries[0].time_ns, trace.expiries[0].microstep)


class Leashed(Reactor):
    """Starts a watchdog, and cancels it, with its expiry long past, in the reaction that started it."""

    dog = Watchdog(1)
    barked = LogicalAction[None]()
    alive = Timer(2 * ms)

    @reaction(startup, effects=[dog])
    def begin(self) -> None:
        self.dog.start()
        time.sleep(0.005)
        self.dog.stop()

    @dog.handler(effects=[barked])
    def bark(self) -> None:
        self.barked.schedule()

    @reaction(alive)
    def stay(self) -> None:
        pass

    @reaction(barked)
    def hear(self) -> None:
        pass


def test_a_watchdog_never_runs_beside_a_reaction_and_stop_cancels_it(way: dict[str, Any]) -> None:
    assert lines(run(way, Leashed, timeout_ns=10 * ms), "hear") == []


class Moved(Reactor):
    """Starts a watchdog again in time."""

    dog = Watchdog(1 * s)
    barked = LogicalAction[None]()
    again = Timer(offset_ns=100 * ms)
    alive = Timer(10 * ms)
    said = Output[bool]()

    @reaction(startup, again, effects=[dog])
    def begin(self) -> None:
        self.dog.start()

    @dog.handler(effects=[barked])
    def bark(self) -> None:
        self.barked.schedule()

    @reaction(alive)
    def stay(self) -> None:
        pass

    @reaction(barked, effects=[said, stop])
    def hear(self) -> None:
        self.said.set(self.tag.time_ns >= 1100 * ms)
        self.request_stop()


def test_starting_a_watchdog_again_moves_its_expiry() -> None:
    (heard,) = lines(run({"executor": "inline"}, Moved), "hear")
    assert heard.outputs == at(0, 0, "", said=True).outputs


class Sleeper(Reactor):
    """Its first reaction takes longer than the deadline of its second, in every other tag."""

    tick = Timer(20 * ms)
    said = Output[str]()

    @reaction(tick)
    def sleep(self) -> None:
        if self.tag.time_ns == 0:
            time.sleep(0.003)

    @reaction(tick, effects=[said], deadline_ns=2 * ms)
    def work(self) -> None:
        self.said.set("in time")

    @work.late
    def give_up(self) -> None:
        self.said.set("too late")


@pytest.mark.parametrize("fast", [False, True])
def test_a_deadline_is_violated_if_physical_time_exceeds_the_tag_by_more(way: dict[str, Any], fast: bool) -> None:
    trace = run(way, Sleeper, timeout_ns=0, fast=fast)
    assert lines(trace, "work") == [late_at(0, 0, "work", said="too late")]


class FarAhead(Reactor):
    """Has a tight deadline at a tag that physical time has not reached."""

    tick = Timer(offset_ns=1000 * s)

    @reaction(tick, deadline_ns=1)
    def work(self) -> None:
        pass

    @work.late
    def give_up(self) -> None:
        pass


def test_a_deadline_is_not_violated_by_a_tag_that_is_ahead_of_physical_time(way: dict[str, Any]) -> None:
    assert lines(run(way, FarAhead, fast=True)) == [at(1000 * s, 0, "work")]


class Observed(Reactor):
    """What comes from outside goes through delays, and misses deadlines now and then."""

    def __init__(self) -> None:
        self.pair, self.sleeper, self.echo, self.guarded = ProducerConsumer(), Sleeper(), Echo(), Guarded()
        self.wire = Stamp()
        self.connect(self.sleeper.said, self.echo.heard)


def test_a_replay_gives_the_trace_that_was_recorded_wherever_it_runs(way: dict[str, Any]) -> None:
    recorded = run({"executor": "inline"}, Observed)
    program = Program(Observed, recording=True, replay=recorded, **way)
    program.run()
    assert lines(program.trace()) == lines(recorded)


def test_a_recording_agrees_with_the_reference_interpreter_given_the_same_physical_tags(way: dict[str, Any]) -> None:
    recorded = run(way, ProducerConsumer)
    events = [event for event in recorded.physical if event.action == "producer.item"]
    outside = [
        Outside(Tag(event.time_ns, event.microstep), "producer", "item", f"item {number}")
        for number, event in enumerate(events)
    ]
    assert lines(recorded) == lines_of_reference(interpret(ProducerConsumer(), outside=outside))
