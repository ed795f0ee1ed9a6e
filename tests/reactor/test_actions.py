"""The rules of actions, each with a program and the trace that it must have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runtimes.reactor import LogicalAction, Output, Program, Reactor, ReactorError, reaction, startup
from tests.reactor.lines import Line, at

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtimes.reactor.elements import SpacingPolicy
    from tests.reactor.conftest import Run


class Planner(Reactor):
    """Schedules at startup as it is told: (value, delay)."""

    said = Output[Any]()

    def __init__(
        self,
        plan: list[tuple[str, int]],
        *,
        delay_ns: int = 0,
        spacing_ns: int | None = None,
        policy: SpacingPolicy = "defer",
    ) -> None:
        self.plan = plan
        self.planned = LogicalAction[str](delay_ns, min_spacing_ns=spacing_ns, policy=policy)
        self.add_reaction("begin", self.begin, triggers=[startup], effects=[self.planned])
        self.add_reaction("hear", self.hear, triggers=[self.planned], effects=[self.said])

    def begin(self) -> None:
        for value, delay_ns in self.plan:
            self.planned.schedule(value, delay_ns=delay_ns)

    def hear(self) -> None:
        self.said.set(self.planned.value)


def planner(*plan: tuple[str, int], **options: Any) -> Callable[[], Reactor]:
    return lambda: Planner(list(plan), **options)


def heard(log: list[Line]) -> list[Line]:
    """What the planner heard."""
    assert log[0] == at(0, 0, "begin")
    return log[1:]


def test_a_delay_leads_to_microstep_zero_of_a_later_time_and_no_delay_to_the_next_microstep(run: Run) -> None:
    assert heard(run(planner(("later", 5), ("soon", 0)))) == [
        at(0, 1, "hear", said="soon"),
        at(5, 0, "hear", said="later"),
    ]


def test_the_delay_of_an_action_is_added_to_what_is_asked_for(run: Run) -> None:
    assert heard(run(planner(("later", 5), ("soon", 0), delay_ns=3))) == [
        at(3, 0, "hear", said="soon"),
        at(8, 0, "hear", said="later"),
    ]


class Stepping(Reactor):
    """Schedules from a microstep."""

    first = LogicalAction[None]()
    second = LogicalAction[None]()

    @reaction(startup, effects=[first])
    def begin(self) -> None:
        self.first.schedule()

    @reaction(first, effects=[second])
    def go(self) -> None:
        self.second.schedule(delay_ns=4)

    @reaction(second)
    def end(self) -> None:
        pass


def test_a_delay_from_a_microstep_drops_the_microstep(run: Run) -> None:
    assert run(Stepping) == [at(0, 0, "begin"), at(0, 1, "go"), at(4, 0, "end")]


def test_without_a_spacing_a_second_event_for_the_same_tag_takes_the_next_free_microstep(run: Run) -> None:
    assert heard(run(planner(("a", 5), ("b", 5), ("c", 5), ("d", 0), ("e", 0)))) == [
        at(0, 1, "hear", said="d"),
        at(0, 2, "hear", said="e"),
        at(5, 0, "hear", said="a"),
        at(5, 1, "hear", said="b"),
        at(5, 2, "hear", said="c"),
    ]


def test_a_spacing_of_zero_differs_from_none_it_keeps_events_a_microstep_apart_in_the_order_of_scheduling(
    run: Run,
) -> None:
    assert heard(run(planner(("a", 5), ("b", 2)))) == [at(2, 0, "hear", said="b"), at(5, 0, "hear", said="a")]
    assert heard(run(planner(("a", 5), ("b", 2), spacing_ns=0))) == [
        at(5, 0, "hear", said="a"),
        at(5, 1, "hear", said="b"),
    ]


def test_defer_moves_an_event_to_the_earliest_tag_that_keeps_the_spacing_from_the_one_scheduled_last(run: Run) -> None:
    plan = (("a", 5), ("b", 6), ("c", 7), ("d", 40))
    assert heard(run(planner(*plan, spacing_ns=10, policy="defer"))) == [
        at(5, 0, "hear", said="a"),
        at(15, 0, "hear", said="b"),
        at(25, 0, "hear", said="c"),
        at(40, 0, "hear", said="d"),
    ]


def test_drop_ignores_an_event_that_comes_too_soon_and_remembers_the_one_before(run: Run) -> None:
    plan = (("a", 5), ("b", 14), ("c", 15), ("d", 16))
    assert heard(run(planner(*plan, spacing_ns=10, policy="drop"))) == [
        at(5, 0, "hear", said="a"),
        at(15, 0, "hear", said="c"),
    ]


def test_replace_puts_the_value_into_the_pending_event(run: Run) -> None:
    plan = (("a", 5), ("b", 9), ("c", 30))
    assert heard(run(planner(*plan, spacing_ns=10, policy="replace"))) == [
        at(5, 0, "hear", said="b"),
        at(30, 0, "hear", said="c"),
    ]


def test_update_removes_the_pending_event_and_takes_the_tag_asked_for(run: Run) -> None:
    plan = (("a", 5), ("b", 9), ("c", 3))
    assert heard(run(planner(*plan, spacing_ns=10, policy="update"))) == [at(3, 0, "hear", said="c")]


class TooSoon(Reactor):
    """Schedules again while the event before is no longer pending, and before the spacing is over."""

    said = Output[Any]()

    def __init__(self, policy: SpacingPolicy) -> None:
        self.spaced = LogicalAction[str](min_spacing_ns=10, policy=policy)
        self.add_reaction("begin", self.begin, triggers=[startup], effects=[self.spaced])
        self.add_reaction("hear", self.hear, triggers=[self.spaced], effects=[self.said, self.spaced])

    def begin(self) -> None:
        self.spaced.schedule("a", delay_ns=5)

    def hear(self) -> None:
        self.said.set(self.spaced.value)
        if self.spaced.value == "a":
            self.spaced.schedule("b", delay_ns=1)


@pytest.mark.parametrize("policy", ["defer", "replace"])
def test_what_comes_too_soon_after_an_event_that_is_over_is_deferred(run: Run, policy: SpacingPolicy) -> None:
    assert heard(run(lambda: TooSoon(policy))) == [at(5, 0, "hear", said="a"), at(15, 0, "hear", said="b")]


def test_what_comes_too_soon_after_an_event_that_is_over_is_dropped_where_the_policy_is_to_drop(run: Run) -> None:
    assert heard(run(lambda: TooSoon("drop"))) == [at(5, 0, "hear", said="a")]


class Reader(Reactor):
    """Reads an action in a later tag."""

    first = LogicalAction[int]()
    second = LogicalAction[None]()
    said = Output[Any]()

    @reaction(startup, effects=[first, second])
    def begin(self) -> None:
        self.first.schedule(7, delay_ns=1)
        self.second.schedule(delay_ns=2)

    @reaction(first, sources=[second], effects=[said])
    def at_one(self) -> None:
        self.said.set((self.first.is_present, self.second.is_present))

    @reaction(second, sources=[first], effects=[said])
    def at_two(self) -> None:
        self.said.set((self.first.is_present, self.second.is_present, self.first.value))


def test_an_action_that_is_absent_gives_its_last_value(run: Run) -> None:
    assert run(Reader) == [
        at(0, 0, "begin"),
        at(1, 0, "at_one", said=(True, False)),
        at(2, 0, "at_two", said=(False, True, 7)),
    ]


class TwoSchedulers(Reactor):
    """Two reactions schedule one action."""

    planned = LogicalAction[str]()
    said = Output[str]()

    @reaction(startup, effects=[planned])
    def one(self) -> None:
        self.planned.schedule("one", delay_ns=3)

    @reaction(startup, effects=[planned])
    def two(self) -> None:
        self.planned.schedule("two", delay_ns=3)

    @reaction(planned, effects=[said])
    def hear(self) -> None:
        self.said.set(self.planned.value)


def test_reactions_that_schedule_one_action_at_one_tag_keep_their_order(run: Run) -> None:
    assert run(TwoSchedulers)[2:] == [at(3, 0, "hear", said="one"), at(3, 1, "hear", said="two")]


class NegativeDelay(Reactor):
    """Schedules into the past."""

    planned = LogicalAction[None]()

    @reaction(startup, effects=[planned])
    def begin(self) -> None:
        self.planned.schedule(delay_ns=-1)


def test_a_negative_delay_is_an_error_at_once() -> None:
    with pytest.raises(ReactorError, match="ValueError"):
        Program(NegativeDelay, fast=True).run()
