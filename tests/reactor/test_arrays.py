"""Arrays in slots of their own: banks, delays, steady ports, what others still hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtimes.reactor import Input, Output, Program, Reactor, Timer, ms, reaction
from tests.reactor.reactors import ArrayRecorder, Arrays, FanOutFanIn


def run(main: Reactor, tags: int) -> Any:
    Program(main, fast=True).run((tags - 1) * ms)
    return main


def test_arrays_are_filled_in_place_and_readers_get_read_only_views() -> None:
    main = run(Arrays(2), 4)
    assert main.recorder.log == [[1, 101], [2, None], [None, 103], [4, 104]]
    assert main.recorder.writable == {False}


@pytest.mark.parametrize("steady", [False, True])
def test_a_delayed_array_is_the_one_of_the_tag_before_although_a_new_one_is_being_filled(steady: bool) -> None:
    main = run(Arrays(3, after_ns=1 * ms, steady=steady), 6)
    direct = run(Arrays(3, steady=steady), 6)
    assert main.recorder.log[1:] == direct.recorder.log[:-1]


def test_steady_members_of_a_bank_arrive_as_one_array() -> None:
    main = Arrays(3, steady=True)
    with Program(main, fast=True) as program:
        program.advance(3)
        slots = main.recorder.heard.slots()
        assert slots is not None
        assert np.shares_memory(slots[0], main.fillers[2].filled.slots()[0])
        assert slots[0].shape == (3, 5)


def test_steady_ports_carry_the_same_whether_tags_are_known_beforehand_or_not() -> None:
    """In physical time nothing is known beforehand, so presence is kept for them as for others."""
    fast, slow = Arrays(3, steady=True), Arrays(3, steady=True)
    Program(fast, fast=True).run(5 * ms)
    Program(slow).run(5 * ms)
    assert fast.recorder.log == slow.recorder.log


def test_a_recorder_of_arrays_sees_nothing_before_anything_was_sent() -> None:
    class Main(Reactor):
        def __init__(self) -> None:
            self.recorder = ArrayRecorder(2)

    assert run(Main(), 2).recorder.log == [[None, None]] * 2


def test_a_program_stops_at_a_boundary_and_continues(way: dict[str, Any]) -> None:
    with Program(FanOutFanIn(2), fast=True, **way) as program:
        ends_ns = np.concatenate([program.advance(1), program.advance(3)])
        heard = program.ask("recorder", "read")
    assert (np.diff(ends_ns) >= 0).all()
    assert [[value[0] for value in row] for row in heard] == [[0, 0], [0, 2]]


class Reused(Reactor):
    """Sends an array of its own that no port declares, and goes on writing into it; then a view of one."""

    tick = Timer(1 * ms)
    plain = Output[Any]()
    view = Output[Any]()

    def __init__(self) -> None:
        self.own = np.zeros(3)
        self.base = np.zeros(6)
        self.refused = 0

    @reaction(tick, effects=[plain, view])
    def send(self) -> None:
        try:
            self.own[0] += 1
        except ValueError:
            self.refused += 1
        self.base += 1
        self.plain.set(self.own)
        self.view.set(self.base[:3])


class Hoarder(Reactor):
    """Keeps what it receives."""

    plain = Input[Any]()
    view = Input[Any]()

    def __init__(self) -> None:
        self.kept: list[Any] = []

    @reaction(plain, view)
    def keep(self) -> None:
        assert not self.plain.value.flags.writeable
        self.kept.append(self.view.value)

    def firsts(self) -> list[float]:
        return [float(array[0]) for array in self.kept]


class Reuse(Reactor):
    def __init__(self) -> None:
        self.reused, self.hoarder = Reused(), Hoarder()
        self.connect(self.reused.plain, self.hoarder.plain)
        self.connect(self.reused.view, self.hoarder.view)


@pytest.mark.parametrize("fast", [True, False])
def test_an_array_that_was_set_is_frozen_and_a_view_is_copied(way: dict[str, Any], fast: bool) -> None:
    with Program(Reuse, fast=fast, placement={"hoarder": 1} if "workers" in way else None, **way) as program:
        program.advance(4)
        assert program.ask("hoarder", "firsts") == [1, 2, 3, 4]
