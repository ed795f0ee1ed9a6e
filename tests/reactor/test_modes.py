"""The rules of modes, each with a program and the trace that it must have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from runtimes.reactor import (
    Input,
    LogicalAction,
    Mode,
    Output,
    Reactor,
    State,
    Timer,
    ms,
    reaction,
    reset,
    shutdown,
    startup,
)
from tests.reactor.lines import Line, at
from tests.reactor.programs import Counter, Echo, Farewell

if TYPE_CHECKING:
    from tests.reactor.conftest import Run


def of(log: list[Line], *paths: str) -> list[Line]:
    """The lines of some reactions."""
    return [line for line in log if line.path in paths]


class LastWins(Reactor):
    """Two reactions want different modes at one tag."""

    begin = Mode(initial=True)
    left = Mode()
    right = Mode()
    tick = Timer(1 * ms)
    in_left = Timer(mode=left)
    in_right = Timer(mode=right)
    said = Output[str]()

    @reaction(tick, mode=begin, effects=[left, right])
    def choose(self) -> None:
        self.right.reset()
        self.left.reset()

    @reaction(tick, mode=begin, effects=[right, said])
    def choose_again(self) -> None:
        self.right.reset()
        self.said.set("still here" if self.begin.is_active else "gone")

    @reaction(in_left, mode=left)
    def be_left(self) -> None:
        pass

    @reaction(in_right, mode=right)
    def be_right(self) -> None:
        pass


def test_the_last_transition_of_a_tag_wins_and_acts_at_the_next_microstep(run: Run) -> None:
    assert run(LastWins, timeout_ns=0 + 1) == [
        at(0, 0, "choose"),
        at(0, 0, "choose_again", said="still here"),
        at(0, 1, "be_right"),
    ]


class FirstEntry(Reactor):
    """Everything that may happen when a mode is entered."""

    one = Mode(initial=True)
    two = Mode()
    tick = Timer(2 * ms, offset_ns=2 * ms)
    in_two = Timer(mode=two)

    @reaction(startup, mode=one)
    def start_one(self) -> None:
        pass

    @reaction(startup, mode=two)
    def start_two(self) -> None:
        pass

    @reaction(reset, mode=one)
    def reset_one(self) -> None:
        pass

    @reaction(reset, mode=two)
    def reset_two(self) -> None:
        pass

    @reaction(in_two, mode=two)
    def time_two(self) -> None:
        pass

    @reaction(tick, mode=one, effects=[two])
    def leave_one(self) -> None:
        self.two.reset()

    @reaction(tick, mode=two, effects=[one])
    def leave_two(self) -> None:
        self.one.reset()


def test_startup_fires_at_the_first_entry_and_reset_at_each_entry_by_reset(run: Run) -> None:
    assert run(FirstEntry, timeout_ns=6 * ms + 1) == [
        at(0, 0, "start_one"),
        at(2 * ms, 0, "leave_one"),
        at(2 * ms, 1, "start_two"),
        at(2 * ms, 1, "reset_two"),
        at(2 * ms, 1, "time_two"),
        at(4 * ms, 0, "leave_two"),
        at(4 * ms, 1, "reset_one"),
        at(6 * ms, 0, "leave_one"),
        at(6 * ms, 1, "reset_two"),
        at(6 * ms, 1, "time_two"),
    ]


class ByHistory(Reactor):
    """Two modes with clocks of their own; a third clock changes between them."""

    one = Mode(initial=True)
    two = Mode()
    change = Timer(5 * ms, offset_ns=5 * ms)
    clock_one = Timer(3 * ms, mode=one)
    clock_two = Timer(3 * ms, offset_ns=1 * ms, mode=two)

    def __init__(self, how: Literal["reset", "history"]) -> None:
        self.how = how

    @reaction(clock_one, mode=one)
    def tick_one(self) -> None:
        pass

    @reaction(clock_two, mode=two)
    def tick_two(self) -> None:
        pass

    @reaction(reset, mode=one)
    def reset_one(self) -> None:
        pass

    @reaction(change, mode=one, effects=[two])
    def leave_one(self) -> None:
        getattr(self.two, self.how)()

    @reaction(change, mode=two, effects=[one])
    def leave_two(self) -> None:
        getattr(self.one, self.how)()


class WithHistory(ByHistory):
    """Enters by history."""

    def __init__(self) -> None:
        super().__init__("history")


class WithReset(ByHistory):
    """Enters by reset."""

    def __init__(self) -> None:
        super().__init__("reset")


def test_the_time_of_an_inactive_mode_stands_still(run: Run) -> None:
    """Its timer goes on with the millisecond that was left."""
    assert run(WithHistory, timeout_ns=17 * ms) == [
        at(0, 0, "tick_one"),
        at(3 * ms, 0, "tick_one"),
        at(5 * ms, 0, "leave_one"),
        at(6 * ms, 0, "tick_two"),
        at(9 * ms, 0, "tick_two"),
        at(10 * ms, 0, "leave_two"),
        at(11 * ms, 0, "tick_one"),
        at(14 * ms, 0, "tick_one"),
        at(15 * ms, 0, "leave_one"),
        at(17 * ms, 0, "tick_two"),
    ]


def test_a_reset_restarts_the_timers_of_the_mode(run: Run) -> None:
    assert run(WithReset, timeout_ns=16 * ms) == [
        at(0, 0, "tick_one"),
        at(3 * ms, 0, "tick_one"),
        at(5 * ms, 0, "leave_one"),
        at(6 * ms, 0, "tick_two"),
        at(9 * ms, 0, "tick_two"),
        at(10 * ms, 0, "leave_two"),
        at(10 * ms, 1, "tick_one"),
        at(10 * ms, 1, "reset_one"),
        at(13 * ms, 0, "tick_one"),
        at(15 * ms, 0, "leave_one"),
        at(16 * ms, 0, "tick_two"),
    ]


class Parking(Reactor):
    """Schedules in a mode, leaves it, and comes back."""

    one = Mode(initial=True)
    two = Mode()
    planned = LogicalAction[str](mode=one)
    change = Timer(2 * ms, offset_ns=2 * ms)
    said = Output[str]()

    def __init__(self, how: Literal["reset", "history"]) -> None:
        self.how = how

    @reaction(startup, mode=one, effects=[planned])
    def begin(self) -> None:
        self.planned.schedule("soon", delay_ns=3 * ms)
        self.planned.schedule("soon too", delay_ns=3 * ms)
        self.planned.schedule("late", delay_ns=9 * ms)

    @reaction(planned, mode=one, effects=[said])
    def hear(self) -> None:
        self.said.set(self.planned.value)

    @reaction(change, mode=one, effects=[two, planned])
    def leave_one(self) -> None:
        if self.tag.time_ns == 2 * ms:
            self.planned.schedule("at once")
            self.two.reset()

    @reaction(change, mode=two, effects=[one])
    def leave_two(self) -> None:
        getattr(self.one, self.how)()


class ParkedThenResumed(Parking):
    """Comes back by history."""

    def __init__(self) -> None:
        super().__init__("history")


class ParkedThenReset(Parking):
    """Comes back by reset."""

    def __init__(self) -> None:
        super().__init__("reset")


def test_history_resumes_each_parked_event_with_its_remaining_time_in_order(run: Run) -> None:
    assert of(run(ParkedThenResumed, timeout_ns=20 * ms), "leave_two", "hear") == [
        at(4 * ms, 0, "leave_two"),
        at(4 * ms, 1, "hear", said="at once"),
        at(5 * ms, 0, "hear", said="soon"),
        at(5 * ms, 1, "hear", said="soon too"),
        at(11 * ms, 0, "hear", said="late"),
    ]


def test_a_reset_discards_the_pending_events_of_the_mode(run: Run) -> None:
    assert of(run(ParkedThenReset, timeout_ns=20 * ms), "leave_two", "hear") == [at(4 * ms, 0, "leave_two")]


class StarvesParked(Reactor):
    """Leaves a mode with an event pending, for ever."""

    one = Mode(initial=True)
    two = Mode()
    planned = LogicalAction[None](mode=one)

    @reaction(startup, mode=one, effects=[planned, two])
    def leave(self) -> None:
        self.planned.schedule(delay_ns=5 * ms)
        self.two.history()

    @reaction(planned, mode=one)
    def hear(self) -> None:
        pass

    @reaction(startup, mode=two)
    def arrive(self) -> None:
        pass

    @reaction(shutdown)
    def end(self) -> None:
        pass


def test_parked_events_do_not_keep_a_program_from_starving(run: Run) -> None:
    assert run(StarvesParked, timeout_ns=50 * ms) == [at(0, 0, "leave"), at(0, 1, "arrive"), at(0, 2, "end")]


class Inside(Reactor):
    """What a mode contains: a clock, an input, state."""

    heard = Input[int]()
    tick = Timer(2 * ms)
    said = Output[Any]()
    ticks = State(0)

    @reaction(startup, effects=[said])
    def begin(self) -> None:
        self.said.set("begin")

    @reaction(reset, effects=[said])
    def begin_again(self) -> None:
        self.said.set("reset")

    @reaction(tick, effects=[said])
    def go(self) -> None:
        self.ticks += 1
        self.said.set(self.ticks)

    @reaction(heard, effects=[said])
    def hear(self) -> None:
        self.said.set(f"heard {self.heard.value}")

    @reaction(shutdown, effects=[said])
    def end(self) -> None:
        self.said.set("end")


class Containing(Reactor):
    """Three modes; the second contains a reactor that hears a counter, the third is never entered."""

    one = Mode(initial=True)
    two = Mode()
    three = Mode()
    change = Timer(3 * ms, offset_ns=3 * ms)

    def __init__(self, how: Literal["reset", "history"]) -> None:
        self.how = how
        self.counter = Counter(1 * ms)
        with self.two:
            self.inside = Inside()
            self.connect(self.counter.sent, self.inside.heard)
        with self.three:
            self.never = Farewell()

    @reaction(change, mode=one, effects=[two])
    def leave_one(self) -> None:
        getattr(self.two, self.how)()

    @reaction(change, mode=two, effects=[one])
    def leave_two(self) -> None:
        getattr(self.one, self.how)()


class ContainingHistory(Containing):
    """Enters by history."""

    def __init__(self) -> None:
        super().__init__("history")


class ContainingReset(Containing):
    """Enters by reset."""

    def __init__(self) -> None:
        super().__init__("reset")


INSIDE = tuple(f"inside.{name}" for name in ("begin", "begin_again", "go", "hear", "end"))


def test_a_mode_that_is_entered_by_history_for_the_first_time_starts_fresh(run: Run) -> None:
    log = of(run(ContainingHistory, timeout_ns=4 * ms), *INSIDE)
    assert log[:2] == [at(3 * ms, 1, "inside.begin", said="begin"), at(3 * ms, 1, "inside.go", said=1)]


def test_inputs_of_an_inactive_mode_are_lost_and_its_clocks_stand_still(run: Run) -> None:
    assert of(run(ContainingHistory, timeout_ns=11 * ms), "inside.go", "inside.hear") == [
        at(3 * ms, 1, "inside.go", said=1),
        at(4 * ms, 0, "inside.hear", said="heard 4"),
        at(5 * ms, 0, "inside.go", said=2),
        at(5 * ms, 0, "inside.hear", said="heard 5"),
        at(6 * ms, 0, "inside.hear", said="heard 6"),
        at(10 * ms, 0, "inside.go", said=3),
        at(10 * ms, 0, "inside.hear", said="heard 10"),
        at(11 * ms, 0, "inside.hear", said="heard 11"),
    ]


def test_a_reset_restores_the_marked_state_of_what_the_mode_contains(run: Run) -> None:
    assert of(run(ContainingReset, timeout_ns=10 * ms), "inside.begin", "inside.begin_again", "inside.go") == [
        at(3 * ms, 1, "inside.begin", said="begin"),
        at(3 * ms, 1, "inside.begin_again", said="reset"),
        at(3 * ms, 1, "inside.go", said=1),
        at(5 * ms, 0, "inside.go", said=2),
        at(9 * ms, 1, "inside.begin_again", said="reset"),
        at(9 * ms, 1, "inside.go", said=1),
    ]


@pytest.mark.parametrize("timeout_ms", [5, 8])
def test_shutdown_reactions_run_in_modes_that_were_ever_active_and_in_no_others(run: Run, timeout_ms: int) -> None:
    log = run(ContainingReset, timeout_ns=timeout_ms * ms)
    assert of(log, "inside.end", "never.end") == [at(timeout_ms * ms, 0, "inside.end", said="end")]


def test_shutdown_reactions_of_a_mode_that_was_not_entered_do_not_run(run: Run) -> None:
    assert of(run(ContainingReset, timeout_ns=2 * ms), "inside.end", "never.end") == []


class Self(Reactor):
    """Enters the mode it is in, at four milliseconds."""

    only = Mode(initial=True)
    other = Mode()
    clock = Timer(3 * ms, offset_ns=2 * ms, mode=only)
    change = Timer(4 * ms, offset_ns=4 * ms)
    ticks = State(0, mode=only)
    planned = LogicalAction[None](mode=only)
    said = Output[int]()

    def __init__(self, how: Literal["reset", "history"]) -> None:
        self.how = how

    @reaction(startup, mode=only, effects=[planned])
    def begin(self) -> None:
        self.planned.schedule(delay_ns=7 * ms)

    @reaction(clock, mode=only, effects=[said])
    def tick(self) -> None:
        self.ticks += 1
        self.said.set(self.ticks)

    @reaction(planned, mode=only)
    def hear(self) -> None:
        pass

    @reaction(change, mode=only, effects=[only, other])
    def again(self) -> None:
        if self.tag.time_ns == 4 * ms:
            getattr(self.only, self.how)()


class SelfHistory(Self):
    """By history."""

    def __init__(self) -> None:
        super().__init__("history")


class SelfReset(Self):
    """By reset."""

    def __init__(self) -> None:
        super().__init__("reset")


def test_a_history_transition_to_oneself_does_nothing(run: Run) -> None:
    assert run(SelfHistory, timeout_ns=7 * ms) == [
        at(0, 0, "begin"),
        at(2 * ms, 0, "tick", said=1),
        at(4 * ms, 0, "again"),
        at(5 * ms, 0, "tick", said=2),
        at(7 * ms, 0, "hear"),
    ]


def test_a_reset_to_oneself_is_a_full_reset(run: Run) -> None:
    assert run(SelfReset, timeout_ns=9 * ms) == [
        at(0, 0, "begin"),
        at(2 * ms, 0, "tick", said=1),
        at(4 * ms, 0, "again"),
        at(6 * ms, 0, "tick", said=1),
        at(8 * ms, 0, "again"),
        at(9 * ms, 0, "tick", said=2),
    ]


class Nested(Reactor):
    """A modal reactor that a mode contains; it changes once, after two milliseconds of its own time."""

    first = Mode(initial=True)
    second = Mode()
    over = Timer(offset_ns=2 * ms, mode=first)
    clock = Timer(2 * ms, offset_ns=1 * ms, mode=second)

    @reaction(over, mode=first, effects=[second])
    def change(self) -> None:
        self.second.reset()

    @reaction(clock, mode=second)
    def tick(self) -> None:
        pass

    @reaction(startup, mode=second)
    def begin_second(self) -> None:
        pass

    @reaction(reset, mode=first)
    def reset_first(self) -> None:
        pass


class Nesting(Reactor):
    """A mode that contains a modal reactor, entered every eight milliseconds for four of them."""

    one = Mode(initial=True)
    two = Mode()
    change = Timer(4 * ms, offset_ns=4 * ms)

    def __init__(self, how: Literal["reset", "history"]) -> None:
        self.how = how
        with self.one:
            self.nested = Nested()

    @reaction(change, mode=one, effects=[two])
    def leave_one(self) -> None:
        self.two.reset()

    @reaction(change, mode=two, effects=[one])
    def leave_two(self) -> None:
        getattr(self.one, self.how)()


class NestingHistory(Nesting):
    """Enters by history."""

    def __init__(self) -> None:
        super().__init__("history")


class NestingReset(Nesting):
    """Enters by reset."""

    def __init__(self) -> None:
        super().__init__("reset")


NESTED = tuple(f"nested.{name}" for name in ("change", "tick", "begin_second", "reset_first"))


def test_a_reset_puts_contained_modal_reactors_into_their_initial_modes(run: Run) -> None:
    assert of(run(NestingReset, timeout_ns=11 * ms), *NESTED) == [
        at(2 * ms, 0, "nested.change"),
        at(2 * ms, 1, "nested.begin_second"),
        at(3 * ms, 0, "nested.tick"),
        at(8 * ms, 1, "nested.reset_first"),
        at(10 * ms, 0, "nested.change"),
        at(11 * ms, 0, "nested.tick"),
    ]


def test_history_leaves_contained_modal_reactors_in_their_modes_and_their_time_goes_on(run: Run) -> None:
    assert of(run(NestingHistory, timeout_ns=11 * ms), *NESTED) == [
        at(2 * ms, 0, "nested.change"),
        at(2 * ms, 1, "nested.begin_second"),
        at(3 * ms, 0, "nested.tick"),
        at(9 * ms, 0, "nested.tick"),
        at(11 * ms, 0, "nested.tick"),
    ]


class Fleeting(Reactor):
    """Changes its mode after two milliseconds."""

    first = Mode(initial=True)
    second = Mode()
    over = Timer(offset_ns=2 * ms, mode=first)
    clock = Timer(1 * ms, offset_ns=1 * ms, mode=second)

    @reaction(over, mode=first, effects=[second])
    def change(self) -> None:
        self.second.reset()

    @reaction(startup, mode=second)
    def begin(self) -> None:
        pass

    @reaction(reset, mode=second)
    def begin_again(self) -> None:
        pass

    @reaction(clock, mode=second)
    def tick(self) -> None:
        pass

    @reaction(shutdown, mode=second)
    def end(self) -> None:
        pass


class Overtaken(Reactor):
    """Leaves the mode that contains it in the same tag, and comes back by history."""

    one = Mode(initial=True)
    two = Mode()
    change = Timer(2 * ms, offset_ns=2 * ms)

    def __init__(self) -> None:
        with self.one:
            self.fleeting = Fleeting()

    @reaction(change, mode=one, effects=[two])
    def leave_one(self) -> None:
        if self.tag.time_ns == 2 * ms:
            self.two.reset()

    @reaction(change, mode=two, effects=[one])
    def leave_two(self) -> None:
        self.one.history()


FLEETING = tuple(f"fleeting.{name}" for name in ("change", "begin", "begin_again", "tick", "end"))


def test_a_mode_that_is_entered_while_the_one_around_it_is_left_has_not_been_active(run: Run) -> None:
    assert of(run(Overtaken, timeout_ns=3 * ms), *FLEETING) == [at(2 * ms, 0, "fleeting.change")]


def test_and_it_starts_when_the_one_around_it_is_entered_again(run: Run) -> None:
    assert of(run(Overtaken, timeout_ns=5 * ms), *FLEETING) == [
        at(2 * ms, 0, "fleeting.change"),
        at(4 * ms, 1, "fleeting.begin"),
        at(4 * ms, 1, "fleeting.begin_again"),
        at(5 * ms, 0, "fleeting.tick"),
        at(5 * ms, 0, "fleeting.end"),
    ]


class DelayedInMode(Reactor):
    """A delayed connection that belongs to a mode."""

    one = Mode(initial=True)
    two = Mode()
    change = Timer(2 * ms, offset_ns=2 * ms)

    def __init__(self) -> None:
        with self.one:
            self.counter, self.echo = Counter(5 * ms), Echo()
            self.connect(self.counter.sent, self.echo.heard, after_ns=3 * ms)

    @reaction(change, mode=one, effects=[two])
    def leave_one(self) -> None:
        self.two.history()

    @reaction(change, mode=two, effects=[one])
    def leave_two(self) -> None:
        self.one.history()


def test_what_is_on_its_way_over_a_delayed_connection_of_an_inactive_mode_is_parked(run: Run) -> None:
    """Sent at 0, under way for 2 ms, parked for 2 ms, 1 ms later there; the counter goes on likewise."""
    assert of(run(DelayedInMode, timeout_ns=10 * ms), "counter.send", "echo.say") == [
        at(0, 0, "counter.send", sent=0),
        at(5 * ms, 0, "echo.say", said=0),
        at(9 * ms, 0, "counter.send", sent=1),
    ]


class Switch(Reactor):
    """Connects one of two counters to the echo, by mode."""

    one = Mode(initial=True)
    two = Mode()
    change = Timer(2 * ms, offset_ns=2 * ms)

    def __init__(self) -> None:
        self.counters = Counter(1 * ms), Counter(1 * ms, first=100)
        self.left, self.right = self.counters
        self.echo = Echo()
        with self.one:
            self.connect(self.left.sent, self.echo.heard)
        with self.two:
            self.connect(self.right.sent, self.echo.heard)

    @reaction(change, mode=one, effects=[two])
    def leave_one(self) -> None:
        self.two.history()

    @reaction(change, mode=two, effects=[one])
    def leave_two(self) -> None:
        self.one.history()


def test_connections_of_different_modes_may_lead_to_one_port(run: Run) -> None:
    assert of(run(Switch, timeout_ns=4 * ms), "echo.say") == [
        at(0, 0, "echo.say", said=0),
        at(1 * ms, 0, "echo.say", said=1),
        at(2 * ms, 0, "echo.say", said=2),
        at(3 * ms, 0, "echo.say", said=103),
        at(4 * ms, 0, "echo.say", said=104),
    ]


class EnterAtTheEnd(Reactor):
    """Enters a mode at the last tag but a microstep."""

    one = Mode(initial=True)
    two = Mode()

    @reaction(startup, mode=one, effects=[two])
    def leave(self) -> None:
        self.two.reset()

    @reaction(startup, mode=two)
    def arrive(self) -> None:
        pass

    @reaction(shutdown, mode=two)
    def end_two(self) -> None:
        pass

    @reaction(shutdown, mode=one)
    def end_one(self) -> None:
        pass


def test_the_end_comes_after_a_mode_that_was_just_entered_has_started(run: Run) -> None:
    assert run(EnterAtTheEnd) == [
        at(0, 0, "leave"),
        at(0, 1, "arrive"),
        at(0, 2, "end_two"),
        at(0, 2, "end_one"),
    ]


def test_a_transition_in_the_last_tag_has_no_effect(run: Run) -> None:
    assert run(EnterAtTheEnd, timeout_ns=0) == [at(0, 0, "leave"), at(0, 0, "end_one")]
