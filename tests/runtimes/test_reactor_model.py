"""The rules of the reactor model, on the executor that is easiest to follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtimes.reactor import (
    AssemblyError,
    CausalityError,
    Input,
    Output,
    Program,
    Reactor,
    ReactorError,
    Timer,
    bank,
    ms,
    reaction,
    shutdown,
    startup,
)
from tests.runtimes.reactors import ArrayRecorder, Arrays, Counter, FanOutFanIn, Filler, Recorder, Scale


def run(main: Reactor, tags: int) -> Any:
    Program(main).run((tags - 1) * ms)
    return main


class Relay(Reactor):
    heard = Input[int]()
    said = Output[int]()

    @reaction(heard, effects=[said])
    def pass_on(self) -> None:
        value = self.heard.value
        assert value is not None
        self.said.set(value + 1)


def values_of(main: Any) -> list[list[Any]]:
    return [[None if v is None else v[0] for v in row] for row in main.recorder.log]


def test_a_gather_keeps_bank_order_and_shows_what_is_absent_as_none() -> None:
    main = run(FanOutFanIn(3), 4)
    assert values_of(main) == [[0, 0, 0], [0, 2, 4]]


def test_a_value_sent_after_two_periods_arrives_two_tags_later() -> None:
    class Main(Reactor):
        def __init__(self) -> None:
            self.counter = Counter()
            self.direct, self.late = Recorder(1), Recorder(1)
            self.connect(self.counter.count, self.direct.heard)
            self.connect(self.counter.count, self.late.heard, after_ns=2 * ms)

    main = run(Main(), 5)
    assert main.direct.log == [[0], [1], [2], [3], [4]]
    assert main.late.log == [[0], [1], [2]]


def test_startup_comes_before_the_first_timer_and_shutdown_once_at_the_end() -> None:
    class Main(Reactor):
        tick = Timer(1 * ms)

        def __init__(self) -> None:
            self.log: list[str] = []

        @reaction(startup)
        def begin(self) -> None:
            self.log.append("startup")

        @reaction(tick)
        def go(self) -> None:
            self.log.append("tick")

        @reaction(shutdown)
        def end(self) -> None:
            self.log.append("shutdown")

    assert run(Main(), 3).log == ["startup", "tick", "tick", "tick", "shutdown"]


def test_a_timer_begins_at_its_offset_and_a_period_of_zero_means_once() -> None:
    class Main(Reactor):
        often = Timer(1 * ms, offset_ns=2 * ms)
        once = Timer(offset_ns=1 * ms)

        def __init__(self) -> None:
            self.log: list[str] = []

        @reaction(once)
        def single(self) -> None:
            self.log.append("once")

        @reaction(often)
        def repeated(self) -> None:
            self.log.append("often")

    assert run(Main(), 5).log == ["once", "often", "often", "often"]


def test_reactions_of_one_reactor_run_in_order_of_declaration_those_of_the_base_class_first() -> None:
    class Base(Reactor):
        tick = Timer(1 * ms)

        def __init__(self) -> None:
            self.log: list[str] = []

        @reaction(tick)
        def first(self) -> None:
            self.log.append("base")

    class Derived(Base):
        @reaction(Base.tick)
        def a_second(self) -> None:
            self.log.append("derived")

    assert run(Derived(), 2).log == ["base", "derived"] * 2


def test_within_a_tag_the_last_value_set_wins() -> None:
    class Twice(Reactor):
        tick = Timer(1 * ms)
        said = Output[int]()

        @reaction(tick, effects=[said])
        def early(self) -> None:
            self.said.set(1)

        @reaction(tick, effects=[said])
        def late(self) -> None:
            self.said.set(2)

    class Main(Reactor):
        def __init__(self) -> None:
            self.twice, self.recorder = Twice(), Recorder(1)
            self.connect(self.twice.said, self.recorder.heard)

    assert run(Main(), 2).recorder.log == [[2], [2]]


def test_a_reaction_that_reads_through_a_chain_sees_the_values_of_its_own_tag() -> None:
    class Main(Reactor):
        def __init__(self) -> None:
            self.recorder = Recorder(1)
            self.relays = bank(4, lambda _: Relay())
            self.counter = Counter()
            self.connect(self.relays[3].said, self.recorder.heard)
            for before, after in zip(self.relays.members, self.relays.members[1:], strict=False):
                self.connect(before.said, after.heard)
            self.connect(self.counter.count, self.relays[0].heard)

    assert run(Main(), 3).recorder.log == [[4], [5], [6]]


def test_a_port_passed_on_through_a_containing_reactor_is_one_connection_whose_delays_add_up() -> None:
    class Box(Reactor):
        heard = Input[int]()
        said = Output[int]()

        def __init__(self) -> None:
            self.relay = Relay()
            self.connect(self.heard, self.relay.heard, after_ns=1 * ms)
            self.connect(self.relay.said, self.said, after_ns=1 * ms)

    class Main(Reactor):
        def __init__(self) -> None:
            self.counter, self.box, self.recorder = Counter(), Box(), Recorder(1)
            self.connect(self.counter.count, self.box.heard)
            self.connect(self.box.said, self.recorder.heard)

    assert run(Main(), 4).recorder.log == [[1], [2]]


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
    main = run(Arrays(3, steady=True), 3)
    slots = main.recorder.heard.slots()
    assert slots is not None
    assert np.shares_memory(slots[0], main.fillers[2].filled.slots()[0])
    assert slots[0].shape == (3, 5)


def test_a_program_without_a_timer_has_one_tag() -> None:
    class Main(Reactor):
        def __init__(self) -> None:
            self.log: list[int] = []

        @reaction(startup)
        def begin(self) -> None:
            self.log.append(1)

    main = Main()
    with Program(main) as program:
        assert len(program.advance(5)) == 1
        assert len(program.advance(5)) == 0
    assert main.log == [1]


def test_a_program_stops_at_a_boundary_and_continues() -> None:
    main = FanOutFanIn(2)
    with Program(main) as program:
        ends_ns = np.concatenate([program.advance(1), program.advance(3)])
    assert (np.diff(ends_ns) >= 0).all()
    assert values_of(main) == [[0, 0], [0, 2]]


class TestErrorsOfAssembly:
    """Each names the ports or reactions, the rule and the remedy, before anything runs."""

    def test_a_causality_loop_prints_its_cycle(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.a, self.b = Relay(), Relay()
                self.connect(self.a.said, self.b.heard)
                self.connect(self.b.said, self.a.heard)

        with pytest.raises(CausalityError, match=r"a\.pass_on -> b\.pass_on -> a\.pass_on.*after_ns"):
            Program(Main())

    def test_a_delay_breaks_the_loop(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.counter, self.a, self.b = Counter(), Relay(), Relay()
                self.connect(self.a.said, self.b.heard)
                self.connect(self.b.said, self.a.heard, after_ns=1 * ms)

        Program(Main())

    def test_two_sources_of_one_port(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.a, self.b, self.relay = Counter(), Counter(), Relay()
                self.connect(self.a.count, self.relay.heard)
                self.connect(self.b.count, self.relay.heard)

        with pytest.raises(AssemblyError, match=r"'relay\.heard' has two sources, 'a\.count' and 'b\.count'"):
            Program(Main())

    def test_widths_that_differ(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.counter, self.scales = Counter(), bank(3, Scale)
                self.connect(self.counter.count, self.scales.number)

        with pytest.raises(AssemblyError, match=r"'counter\.count' is 1 but 'scales\[0\]\.number' has 3.*broadcast"):
            Program(Main())

    def test_a_connection_out_of_scope(self) -> None:
        class Inner(Reactor):
            def __init__(self) -> None:
                self.counter = Counter()

        class Main(Reactor):
            def __init__(self) -> None:
                self.inner, self.relay = Inner(), Relay()
                self.connect(self.inner.counter.count, self.relay.heard)

        with pytest.raises(AssemblyError, match=r"out of scope: 'inner\.counter\.count'"):
            Program(Main())

    def test_a_reaction_without_a_trigger(self) -> None:
        with pytest.raises(AssemblyError, match="no trigger"):
            reaction()

    def test_a_reaction_on_the_port_of_another_reactor(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.counter, self.relay = Counter(), Relay()
                self.add_reaction("spy", lambda: None, triggers=[self.relay.heard])

        with pytest.raises(AssemblyError, match="of another reactor"):
            Program(Main())

    @pytest.mark.parametrize("after_ns", [0, -1])
    def test_a_delay_that_is_not_positive(self, after_ns: int) -> None:
        with pytest.raises(AssemblyError, match="more than 0"):
            FanOutFanIn(2, after_ns=after_ns)

    def test_a_delay_that_is_no_multiple_of_the_period(self) -> None:
        with pytest.raises(AssemblyError, match="no multiple of the program's period"):
            Program(FanOutFanIn(2, after_ns=ms // 2))

    def test_timers_of_different_periods(self) -> None:
        class Main(Reactor):
            fast, slow = Timer(1 * ms), Timer(2 * ms)

        with pytest.raises(AssemblyError, match="share one period"):
            Program(Main())

    def test_an_offset_that_is_no_multiple_of_the_period(self) -> None:
        class Main(Reactor):
            odd = Timer(2 * ms, offset_ns=1 * ms)

        with pytest.raises(AssemblyError, match="offset"):
            Program(Main())

    def test_a_negative_timer(self) -> None:
        with pytest.raises(AssemblyError, match="negative"):
            Timer(-1)

    def test_a_bank_without_members(self) -> None:
        with pytest.raises(AssemblyError, match="width 0"):
            bank(0, Scale)

    def test_a_port_without_channels(self) -> None:
        with pytest.raises(AssemblyError, match="width 0"):
            Input[int](width=0)

    def test_an_unknown_port_of_a_bank(self) -> None:
        with pytest.raises(AssemblyError, match="no port named 'nmber'"):
            bank(2, Scale).port("nmber")

    def test_a_steady_output_without_a_shape(self) -> None:
        with pytest.raises(AssemblyError, match="no shape"):
            Output[int](steady=True)

    def test_a_steady_output_triggers_nothing(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.filler, self.recorder = Filler(0, steady=True), Recorder(1)
                self.connect(self.filler.filled, self.recorder.heard)

        with pytest.raises(AssemblyError, match=r"'recorder\.hear' is triggered by .* steady output 'filler\.filled'"):
            Program(Main())

    def test_one_reactor_in_two_places(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.a = self.b = Counter()

        with pytest.raises(AssemblyError, match="twice"):
            Program(Main())

    def test_an_unknown_executor_or_too_few_workers(self) -> None:
        with pytest.raises(AssemblyError, match="Known: inline"):
            Program(Counter(), executor="magic")  # type: ignore[arg-type]
        with pytest.raises(AssemblyError, match="at least 1"):
            Program(Counter(), workers=0)


class TestMisuse:
    """Errors at once, where something is done that was not declared or comes too early."""

    def test_a_port_used_before_the_program_runs(self) -> None:
        with pytest.raises(AssemblyError, match=r"count' is an effect of no reaction, or the program does not run"):
            Counter().count.set(1)
        with pytest.raises(AssemblyError, match=r"heard' is read by no reaction, or the program does not run"):
            _ = Relay().heard.value

    def test_a_port_that_no_reaction_names_cannot_be_used(self) -> None:
        class Main(Reactor):
            said = Output[int]()

            @reaction(startup)
            def begin(self) -> None:
                self.said.set(1)

        with pytest.raises(ReactorError, match=r"said' is an effect of no reaction"):
            run(Main(), 1)

    def test_filling_an_output_that_declares_no_array(self) -> None:
        class Main(Reactor):
            said = Output[int]()

            @reaction(startup, effects=[said])
            def begin(self) -> None:
                self.said.array()

        with pytest.raises(ReactorError, match="TypeError: This output declares no array"):
            run(Main(), 1)

    def test_a_program_is_started_once(self) -> None:
        program = Program(Counter())
        with pytest.raises(ReactorError, match="not been started"):
            program.advance(1)
        program.start()
        with pytest.raises(ReactorError, match="started already"):
            program.start()
        with pytest.raises(ReactorError, match="Known: "):
            program.ask("nobody", "read")

    def test_a_negative_timeout(self) -> None:
        with pytest.raises(ReactorError, match="timeout"):
            Program(Counter()).run(-1)

    def test_an_array_of_another_shape_is_not_accepted(self) -> None:
        class Main(Reactor):
            said = Output[Any](shape=(2,))

            @reaction(startup, effects=[said])
            def begin(self) -> None:
                self.said.set(np.zeros(3))

        with pytest.raises(ReactorError, match="ValueError"):
            run(Main(), 1)


def test_a_recorder_of_arrays_sees_nothing_before_anything_was_sent() -> None:
    class Main(Reactor):
        def __init__(self) -> None:
            self.recorder = ArrayRecorder(2)

    assert run(Main(), 2).recorder.log == [[None, None]] * 2
