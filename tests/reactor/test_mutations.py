"""The checks on random programs and whole programs can fail: each seeded fault of the scheduler is caught.

A fault is planted in the library, and the same checks that pass without it must find a difference.
"""

from __future__ import annotations

import time
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from runtimes.reactor import (
    Input,
    Output,
    Reactor,
    ReactorError,
    Timer,
    assembly,
    conductor,
    events,
    live,
    modes,
    ms,
    partition,
    peers,
    plan,
    ranks,
    setters,
)
from tests.reactor.conftest import run_on
from tests.reactor.fuzz import difference, placement_of, reference_lines, run_lines
from tests.reactor.lines import Line, lines_of_reference
from tests.reactor.random_programs import plan_of
from tests.reactor.reference import interpret
from tests.reactor.test_modes import WithHistory
from tests.reactor.test_ports_and_connections import ByDeadline, Filler, Kept

if TYPE_CHECKING:
    from collections.abc import Callable

INLINE: dict[str, Any] = {"executor": "inline"}
THREADS: dict[str, Any] = {"executor": "threads", "workers": 2}
PROCESSES: dict[str, Any] = {"executor": "processes", "workers": 2, "start_method": "fork"}


def random_programs_differ(way: dict[str, Any], programs: int = 40) -> bool:
    """Whether the checks on random programs find a difference, or a program fails."""
    for seed in range(programs):
        drawn = plan_of(Random(seed))
        placement = placement_of(drawn, way["workers"], Random(seed)) if "workers" in way else None
        try:
            if difference(reference_lines(drawn), run_lines(drawn, way, placement=placement)) is not None:
                return True
        except ReactorError:
            return True
    return False


def program_differs(
    way: dict[str, Any], make: Callable[[], Reactor], *, timeout_ns: int = 4 * ms, **options: Any
) -> bool:
    """Whether one program has another trace than the reference interpreter says."""
    expected: list[Line] = lines_of_reference(interpret(make(), timeout_ns=timeout_ns))
    return run_on(way, make, timeout_ns=timeout_ns, **options) != expected


class SlowWriter(Reactor):
    """Takes its time before it sends."""

    tick = Timer(1 * ms)
    sent = Output[int]()

    def __init__(self) -> None:
        self.add_reaction("send", self.send, triggers=[self.tick], effects=[self.sent])

    def send(self) -> None:
        time.sleep(0.01)
        self.sent.set(self.tag.time_ns)


class QuickReader(Reactor):
    """Has the same clock, and reads what the other sends."""

    tick = Timer(1 * ms)
    heard = Input[int]()
    said = Output[Any]()

    def __init__(self) -> None:
        self.add_reaction("read", self.read, triggers=[self.tick], sources=[self.heard], effects=[self.said])

    def read(self) -> None:
        self.said.set(self.heard.get())


class Hurry(Reactor):
    """A slow writer and a quick reader; a clock of another rate, so that the tags are not known beforehand."""

    def __init__(self) -> None:
        self.writer, self.reader, self.filler = SlowWriter(), QuickReader(), Filler()
        self.other = Timer(3 * ms)
        self.connect(self.writer.sent, self.reader.heard)


@pytest.mark.parametrize("way", [THREADS, PROCESSES], ids=["threads", "processes"])
def test_a_skipped_wait_is_caught(monkeypatch: pytest.MonkeyPatch, way: dict[str, Any]) -> None:
    """A wait for one publication too few lets a reader go on while the writer is still at it."""
    options: dict[str, Any] = {"placement": {"writer": 1}}
    assert not program_differs(way, Hurry, **options)
    script = plan.script

    def hasty(*args: Any) -> list[plan.Cue]:
        cues = script(*args)
        return [cue if cue.wait is None else replace(cue, wait=(*cue.wait[:2], cue.wait[2] - 1)) for cue in cues]

    monkeypatch.setattr(peers, "script", hasty)
    assert program_differs(way, Hurry, **options)
    assert random_programs_differ(way)


def test_a_swapped_rank_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = ranks.ranked

    def swapped(*args: Any) -> Any:
        """The first two reactions of which one comes before the other change places."""
        reactions, before = ranked(*args)
        at = next((rank for rank in range(1, len(before)) if rank - 1 in before[rank]), None)
        if at is None:
            return reactions, before
        order = list(range(len(reactions)))
        order[at - 1], order[at] = order[at], order[at - 1]
        place = {old: new for new, old in enumerate(order)}
        return (
            tuple(reactions[old] for old in order),
            tuple(tuple(place[b] for b in before[old] if place[b] < new) for new, old in enumerate(order)),
        )

    monkeypatch.setattr(assembly, "ranked", swapped)
    assert random_programs_differ(INLINE)


def test_levels_that_ignore_what_is_merely_read_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        assembly.ReactionRow,
        "reads",
        property(lambda row: tuple(port for port in row.declared.triggers if isinstance(port, Input))),
    )
    assert random_programs_differ(INLINE)


def test_a_lost_inheritance_of_deadlines_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not program_differs(INLINE, ByDeadline)
    ranked = ranks.ranked

    def by_level(*args: Any) -> Any:
        rows = [replace(row, declared=replace(row.declared, deadline_ns=None)) for row in args[0]]
        names = {(row.reactor, row.name): row.declared for row in args[0]}
        reactions, before = ranked(rows, *args[1:])
        return tuple(replace(row, declared=names[row.reactor, row.name]) for row in reactions), before

    monkeypatch.setattr(assembly, "ranked", by_level)
    assert program_differs(INLINE, ByDeadline)


@pytest.mark.parametrize("way", [INLINE, THREADS, PROCESSES], ids=["inline", "threads", "processes"])
def test_a_lost_flip_of_buffers_is_caught(monkeypatch: pytest.MonkeyPatch, way: dict[str, Any]) -> None:
    """The array that somebody still holds would be the one that is being filled."""
    options: dict[str, Any] = {"placement": {"keeper": 1}} if "workers" in way else {}
    assert not program_differs(way, Kept, **options)
    room = live.ArrayOut.room

    def without_flip(self: Any) -> Any:
        self.position = -1
        return room(self)

    monkeypatch.setattr(live.ArrayOut, "room", without_flip)
    assert program_differs(way, Kept, **options)


def test_stale_presence_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        live.LiveInput,
        "is_present",
        lambda self: any(cell.stamp >= 0 for cell in self._cells),
    )
    assert random_programs_differ(INLINE)


@pytest.mark.parametrize("way", [THREADS, PROCESSES], ids=["threads", "processes"])
def test_a_value_from_another_worker_that_triggers_nothing_is_caught(
    monkeypatch: pytest.MonkeyPatch, way: dict[str, Any]
) -> None:
    def arrive(cell: Any, value: Any, number: int, _ready: Any) -> None:
        cell.value, cell.stamp = value, number

    monkeypatch.setattr(live, "_arrive", arrive)
    assert random_programs_differ(way)


@pytest.mark.parametrize("way", [THREADS, PROCESSES], ids=["threads", "processes"])
def test_an_agreement_that_forgets_the_events_of_other_workers_is_caught(
    monkeypatch: pytest.MonkeyPatch, way: dict[str, Any]
) -> None:
    monkeypatch.setattr(
        conductor.Conductor, "_earliest", lambda self: (self.worker.next_tag(), (1 << self._partition.workers) - 1)
    )
    assert random_programs_differ(way)


def test_workers_that_do_not_take_part_where_they_are_reached_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition.Partition, "_reach", lambda _self, number, _readers: 1 << number)
    assert random_programs_differ(THREADS)


def test_colliding_events_that_do_not_take_another_microstep_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    place = events.LiveAction._place

    def forgetful(self: Any, asked: tuple[int, int], value: Any) -> Any:
        if self._spacing_ns is None:
            self._pending.clear()
        return place(self, asked, value)

    monkeypatch.setattr(events.LiveAction, "_place", forgetful)
    assert random_programs_differ(INLINE)


def test_delayed_values_that_do_not_take_another_microstep_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setters, "_following", lambda *_: 0)
    assert random_programs_differ(INLINE)


def test_parked_time_that_goes_on_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not program_differs(INLINE, WithHistory, timeout_ns=17 * ms)
    parked = modes._parked

    def late(tag: Any, source: Any, holder: Any, now: Any) -> Any:
        left_ns, *rest = parked(tag, source, holder, now)
        return left_ns + 1, *rest

    monkeypatch.setattr(modes, "_parked", late)
    assert program_differs(INLINE, WithHistory, timeout_ns=17 * ms)


def test_a_transition_that_comes_a_microstep_early_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    enter = modes.LiveModes.enter

    def at_once(self: Any, mode: Any, rank: int, *, history: bool) -> None:
        enter(self, mode, rank, history=history)
        self.now = self._number[id(mode)]

    monkeypatch.setattr(modes.LiveModes, "enter", at_once)
    assert random_programs_differ(INLINE)


def test_without_a_fault_nothing_differs() -> None:
    for way in (INLINE, THREADS, PROCESSES):
        assert not random_programs_differ(way, programs=20)
