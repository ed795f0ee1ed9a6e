"""The rules of time and tags, each with a program and the trace that it must have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtimes.reactor import (
    Input,
    LogicalAction,
    Output,
    Reactor,
    Timer,
    ms,
    reaction,
    s,
    shutdown,
    startup,
    stop,
)
from tests.reactor.lines import at
from tests.reactor.programs import Counter, Echo, Farewell

if TYPE_CHECKING:
    from tests.reactor.conftest import Run


class Beginning(Reactor):
    """Says its tag in the first tag and when its timers fire."""

    now = Timer()
    soon = Timer(offset_ns=2)
    said = Output[Any]()

    @reaction(startup, effects=[said])
    def begin(self) -> None:
        self.said.set(tuple(self.tag))

    @reaction(now, effects=[said])
    def go(self) -> None:
        self.said.set(tuple(self.tag))

    @reaction(soon, effects=[said])
    def go_on(self) -> None:
        self.said.set(tuple(self.tag))


def test_startup_and_timers_without_an_offset_fire_at_the_first_tag(run: Run) -> None:
    assert run(Beginning) == [
        at(0, 0, "begin", said=(0, 0)),
        at(0, 0, "go", said=(0, 0)),
        at(2, 0, "go_on", said=(2, 0)),
    ]


class Clocks(Reactor):
    """Timers with an offset, with a period, with both."""

    def __init__(self) -> None:
        self.once = Timer(offset_ns=3 * ms)
        self.often = Timer(2 * ms)
        self.later = Timer(2 * ms, offset_ns=1 * ms)
        for timer in ("once", "often", "later"):
            self.add_reaction(f"by_{timer}", self.nothing, triggers=[getattr(self, timer)])

    def nothing(self) -> None:
        pass


def test_a_timer_fires_at_its_offset_then_every_period_and_a_period_of_zero_means_once(run: Run) -> None:
    assert run(Clocks, timeout_ns=5 * ms) == [
        at(0, 0, "by_often"),
        at(1 * ms, 0, "by_later"),
        at(2 * ms, 0, "by_often"),
        at(3 * ms, 0, "by_once"),
        at(3 * ms, 0, "by_later"),
        at(4 * ms, 0, "by_often"),
        at(5 * ms, 0, "by_later"),
    ]


class MultiRate(Reactor):
    """Three clocks whose tags coincide now and then, gathered."""

    def __init__(self) -> None:
        self.slow, self.fast = Counter(6), Counter(4)
        self.both = Both()
        self.connect(self.slow.sent, self.both.slow)
        self.connect(self.fast.sent, self.both.fast)


class Both(Reactor):
    """Says what it hears from two sides."""

    slow = Input[int]()
    fast = Input[int]()
    said = Output[Any]()

    @reaction(slow, fast, effects=[said])
    def say(self) -> None:
        self.said.set((self.slow.get(), self.fast.get()))


def test_timers_of_different_periods_share_the_tags_at_which_they_meet(run: Run) -> None:
    assert [line for line in run(MultiRate, timeout_ns=12) if line.path == "both.say"] == [
        at(0, 0, "both.say", said=(0, 0)),
        at(4, 0, "both.say", said=(None, 1)),
        at(6, 0, "both.say", said=(1, None)),
        at(8, 0, "both.say", said=(None, 2)),
        at(12, 0, "both.say", said=(2, 3)),
    ]


class Stopper(Reactor):
    """Asks to stop at its second tick; ticks go on in the last tag if there is one then."""

    tick = Timer(1 * ms)
    again = LogicalAction[int]()
    said = Output[str]()

    def __init__(self) -> None:
        self.ticks = 0

    @reaction(tick, effects=[again, stop])
    def go(self) -> None:
        self.ticks += 1
        self.again.schedule()
        self.again.schedule()
        if self.ticks == 2:
            self.request_stop()
            self.request_stop()

    @reaction(again, effects=[said])
    def go_again(self) -> None:
        self.said.set("again")

    @reaction(shutdown, effects=[said])
    def end(self) -> None:
        self.said.set("end")


def test_a_stop_that_is_requested_makes_the_next_microstep_the_last_and_what_comes_after_is_dropped(run: Run) -> None:
    assert run(Stopper, timeout_ns=9 * ms) == [
        at(0, 0, "go"),
        at(0, 1, "go_again", said="again"),
        at(0, 2, "go_again", said="again"),
        at(1 * ms, 0, "go"),
        at(1 * ms, 1, "go_again", said="again"),
        at(1 * ms, 1, "end", said="end"),
    ]


class LateStopper(Reactor):
    """Asks to stop in what is its last tag anyway."""

    tick = Timer(1 * ms)

    @reaction(tick, effects=[stop])
    def go(self) -> None:
        if self.tag.time_ns == 1 * ms:
            self.request_stop()

    @reaction(shutdown)
    def end(self) -> None:
        pass


def test_a_stop_that_is_requested_in_the_last_tag_does_not_move_it(run: Run) -> None:
    assert run(LateStopper, timeout_ns=1 * ms) == [
        at(0, 0, "go"),
        at(1 * ms, 0, "go"),
        at(1 * ms, 0, "end"),
    ]


class TwoStoppers(Reactor):
    """Two reactors that ask to stop, one of them a microstep later."""

    def __init__(self) -> None:
        self.early, self.late = LateStopper(), LateStopper()
        self.farewell = Farewell()


def test_several_stops_that_are_requested_in_one_tag_are_one(run: Run) -> None:
    assert run(TwoStoppers) == [
        at(0, 0, "early.go"),
        at(0, 0, "late.go"),
        at(1 * ms, 0, "early.go"),
        at(1 * ms, 0, "late.go"),
        at(1 * ms, 1, "farewell.end", said="goodbye"),
        at(1 * ms, 1, "early.end"),
        at(1 * ms, 1, "late.end"),
    ]


class TickAndEnd(Reactor):
    """Ticks, and notes the end."""

    tick = Timer(1 * ms)

    @reaction(tick)
    def go(self) -> None:
        pass

    @reaction(shutdown)
    def end(self) -> None:
        pass


def test_a_timeout_stops_at_its_time_together_with_what_else_is_present_there(run: Run) -> None:
    assert run(TickAndEnd, timeout_ns=2 * ms) == [
        at(0, 0, "go"),
        at(1 * ms, 0, "go"),
        at(2 * ms, 0, "go"),
        at(2 * ms, 0, "end"),
    ]


def test_a_timeout_between_two_ticks_has_a_tag_of_its_own(run: Run) -> None:
    assert run(TickAndEnd, timeout_ns=1_500_000) == [
        at(0, 0, "go"),
        at(1 * ms, 0, "go"),
        at(1_500_000, 0, "end"),
    ]


def test_a_timeout_of_zero_makes_the_first_tag_the_last(run: Run) -> None:
    assert run(TickAndEnd, timeout_ns=0) == [at(0, 0, "go"), at(0, 0, "end")]


class MicrostepsAtTheTimeout(Reactor):
    """Schedules microsteps for ever."""

    again = LogicalAction[int]()

    @reaction(startup, effects=[again])
    def begin(self) -> None:
        self.again.schedule(delay_ns=1)

    @reaction(again, effects=[again])
    def go(self) -> None:
        self.again.schedule()


def test_microsteps_after_the_time_of_the_timeout_are_dropped(run: Run) -> None:
    assert run(MicrostepsAtTheTimeout, timeout_ns=1) == [at(0, 0, "begin"), at(1, 0, "go")]


class StartAndEnd(Reactor):
    """Has nothing to do between."""

    @reaction(startup)
    def begin(self) -> None:
        pass

    @reaction(shutdown)
    def end(self) -> None:
        pass


def test_an_empty_queue_stops_the_program_at_the_next_microstep(run: Run) -> None:
    assert run(StartAndEnd) == [at(0, 0, "begin"), at(0, 1, "end")]


def test_an_empty_queue_stops_the_program_before_its_timeout(run: Run) -> None:
    assert run(StartAndEnd, timeout_ns=100 * s) == [at(0, 0, "begin"), at(0, 1, "end")]


def test_a_program_that_is_kept_alive_goes_on_to_its_timeout(run: Run) -> None:
    assert run(StartAndEnd, timeout_ns=2 * ms, keepalive=True) == [at(0, 0, "begin"), at(2 * ms, 0, "end")]


class Finishing(Reactor):
    """An action that triggers nothing, at 5 ns, is the last event."""

    unheard = LogicalAction[int]()

    @reaction(startup, effects=[unheard])
    def begin(self) -> None:
        self.unheard.schedule(delay_ns=5)

    @reaction(shutdown)
    def end(self) -> None:
        pass


def test_an_event_without_a_reaction_still_makes_a_tag(run: Run) -> None:
    assert run(Finishing) == [at(0, 0, "begin"), at(5, 1, "end")]


class UnreadMessages(Reactor):
    """A delayed message to somebody who is triggered by nothing."""

    def __init__(self) -> None:
        self.sender, self.farewell, self.deaf = Once(), Farewell(), Deaf()
        self.connect(self.sender.said, self.deaf.heard, after_ns=7)


class Once(Reactor):
    """Speaks once."""

    said = Output[int]()

    @reaction(startup, effects=[said])
    def begin(self) -> None:
        self.said.set(1)


class Deaf(Reactor):
    """Hears, and does nothing."""

    heard = Input[int]()

    @reaction(shutdown, sources=[heard])
    def end(self) -> None:
        pass


def test_a_delayed_message_that_triggers_nothing_still_makes_a_tag(run: Run) -> None:
    assert run(UnreadMessages) == [
        at(0, 0, "sender.begin", said=1),
        at(7, 1, "farewell.end", said="goodbye"),
        at(7, 1, "deaf.end"),
    ]


class MicrostepAfterGlobalTag(Reactor):
    """One reactor is at microsteps of its own while others rest; the end counts all of them."""

    def __init__(self) -> None:
        self.stepper, self.farewell = Stepper(), Farewell()


class Stepper(Reactor):
    """Goes three microsteps."""

    again = LogicalAction[int]()

    def __init__(self) -> None:
        self.left = 3

    @reaction(startup, again, effects=[again])
    def step(self) -> None:
        self.left -= 1
        if self.left:
            self.again.schedule()


def test_the_last_microstep_follows_the_last_tag_of_the_whole_program(run: Run) -> None:
    assert run(MicrostepAfterGlobalTag) == [
        at(0, 0, "stepper.step"),
        at(0, 1, "stepper.step"),
        at(0, 2, "stepper.step"),
        at(0, 3, "farewell.end", said="goodbye"),
    ]


class LastWords(Reactor):
    """What is said at the end is still heard."""

    def __init__(self) -> None:
        self.farewell, self.echo, self.late_echo = Farewell(), Echo(), Echo()
        self.connect(self.farewell.said, self.echo.heard)
        self.connect(self.farewell.said, self.late_echo.heard, after_ns=0)


def test_what_is_set_at_the_last_tag_is_heard_there_but_not_later(run: Run) -> None:
    assert run(LastWords) == [
        at(0, 1, "farewell.end", said="goodbye"),
        at(0, 1, "echo.say", said="goodbye"),
    ]
