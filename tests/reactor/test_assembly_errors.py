"""A program that breaks a rule is refused before anything runs; the message names ports, rule and remedy."""

from __future__ import annotations

from typing import Any

import pytest

from runtimes.reactor import (
    AssemblyError,
    CausalityError,
    Input,
    LogicalAction,
    Mode,
    Output,
    Program,
    Reactor,
    Timer,
    Watchdog,
    bank,
    ms,
    reaction,
    shutdown,
    startup,
)
from tests.reactor.programs import Echo
from tests.reactor.reactors import Counter, FanOutFanIn, Filler, Recorder, Scale


class Relay(Reactor):
    heard = Input[int]()
    said = Output[int]()

    @reaction(heard, effects=[said])
    def pass_on(self) -> None:
        self.said.set(self.heard.value)


class TestCausality:
    def test_a_loop_without_a_delay_is_an_error_that_prints_the_cycle(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.a, self.b = Relay(), Relay()
                self.connect(self.a.said, self.b.heard)
                self.connect(self.b.said, self.a.heard)

        with pytest.raises(CausalityError, match=r"a\.pass_on -> b\.pass_on -> a\.pass_on.*after_ns"):
            Program(Main())

    def test_the_cycle_is_printed_without_what_merely_leads_to_it(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.first, self.join, self.b = Counter(), Join(), Relay()
                self.last = Relay()
                self.connect(self.first.count, self.join.one)
                self.connect(self.b.said, self.join.other)
                self.connect(self.join.said, self.b.heard)
                self.connect(self.b.said, self.last.heard)

        with pytest.raises(CausalityError) as error:
            Program(Main())
        assert "b.pass_on -> join.say -> b.pass_on" in str(error.value) or (
            "join.say -> b.pass_on -> join.say" in str(error.value)
        )
        assert "first" not in str(error.value)
        assert "last" not in str(error.value)

    def test_a_reaction_that_reads_what_it_sets_is_a_loop(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.a = Relay()
                self.connect(self.a.said, self.a.heard)

        with pytest.raises(CausalityError, match=r"a\.pass_on -> a\.pass_on"):
            Program(Main())

    def test_what_is_merely_read_closes_a_loop_too(self) -> None:
        class Reader(Reactor):
            tick = Timer()
            heard = Input[int]()
            said = Output[int]()

            @reaction(tick, sources=[heard], effects=[said])
            def look(self) -> None:
                pass

        class Main(Reactor):
            def __init__(self) -> None:
                self.a, self.b = Reader(), Reader()
                self.connect(self.a.said, self.b.heard)
                self.connect(self.b.said, self.a.heard)

        with pytest.raises(CausalityError, match=r"a\.look -> b\.look -> a\.look"):
            Program(Main())

    def test_the_order_of_declaration_closes_a_loop_too(self) -> None:
        class Backwards(Reactor):
            """Its first reaction reads what its second has sent around."""

            tick = Timer()
            back = Input[int]()
            said = Output[int]()

            @reaction(back)
            def read(self) -> None:
                pass

            @reaction(tick, effects=[said])
            def send(self) -> None:
                pass

        class Main(Reactor):
            def __init__(self) -> None:
                self.a = Backwards()
                self.connect(self.a.said, self.a.back)

        with pytest.raises(CausalityError, match=r"a\.read"):
            Program(Main())

    @pytest.mark.parametrize("after_ns", [0, 1 * ms])
    def test_a_delay_breaks_the_loop(self, after_ns: int) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.a, self.b = Relay(), Relay()
                self.connect(self.a.said, self.b.heard)
                self.connect(self.b.said, self.a.heard, after_ns=after_ns)

        Program(Main())


class Join(Reactor):
    one = Input[int]()
    other = Input[int]()
    said = Output[int]()

    @reaction(one, other, effects=[said])
    def say(self) -> None:
        pass


class TestConnections:
    def test_two_sources_of_one_port(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.a, self.b, self.relay = Counter(), Counter(), Relay()
                self.connect(self.a.count, self.relay.heard)
                self.connect(self.b.count, self.relay.heard)

        with pytest.raises(AssemblyError, match=r"'relay\.heard' has two sources, 'a\.count' and 'b\.count'"):
            Program(Main())

    def test_two_sources_of_one_channel_of_a_multiport(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.counters, self.extra, self.recorder = (
                    bank(2, lambda _: Counter()),
                    bank(2, lambda _: Counter()),
                    Recorder(2),
                )
                self.connect(self.counters.count, self.recorder.heard)
                self.connect(self.extra.count, self.recorder.heard)

        with pytest.raises(AssemblyError, match=r"'recorder\.heard' has two sources"):
            Program(Main())

    def test_a_reaction_and_a_connection_that_write_one_port(self) -> None:
        class Box(Reactor):
            said = Output[int]()

            def __init__(self) -> None:
                self.counter = Counter()
                self.connect(self.counter.count, self.said)

            @reaction(startup, effects=[said])
            def begin(self) -> None:
                self.said.set(1)

        class Main(Reactor):
            def __init__(self) -> None:
                self.box = Box()

        with pytest.raises(AssemblyError, match=r"'box\.said' has two writers.*'counter\.count'|'box\.counter\.count'"):
            Program(Main())

    def test_a_connection_of_a_mode_and_one_of_none_that_lead_to_one_port(self) -> None:
        class Main(Reactor):
            only = Mode(initial=True)

            def __init__(self) -> None:
                self.a, self.b, self.relay = Counter(), Counter(), Relay()
                self.connect(self.a.count, self.relay.heard)
                with self.only:
                    self.connect(self.b.count, self.relay.heard)

        with pytest.raises(AssemblyError, match=r"has two sources.*except in different modes"):
            Program(Main())

    def test_widths_that_differ(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.counter, self.scales = Counter(), bank(3, Scale)
                self.connect(self.counter.count, self.scales.number)

        with pytest.raises(AssemblyError, match=r"'counter\.count' is 1 but 'scales\[0\]\.number' has 3.*broadcast"):
            Program(Main())

    def test_types_that_differ(self) -> None:
        class Words(Reactor):
            said = Output[str]()

        class Main(Reactor):
            def __init__(self) -> None:
                self.words, self.relay = Words(), Relay()
                self.connect(self.words.said, self.relay.heard)  # type: ignore[misc, unused-ignore]

        with pytest.raises(AssemblyError, match=r"'relay\.heard' takes int but 'words\.said' gives str.*one type"):
            Program(Main())

    def test_a_type_that_is_a_kind_of_the_other_fits_and_so_does_any(self) -> None:
        class Truth(Reactor):
            said = Output[bool]()

        class Main(Reactor):
            def __init__(self) -> None:
                self.truth, self.relay, self.echo = Truth(), Relay(), Echo()
                self.connect(self.truth.said, self.relay.heard)  # type: ignore[misc, unused-ignore]
                self.connect(self.truth.said, self.echo.heard)

        Program(Main())

    @pytest.mark.parametrize("port", [{"shape": (4,)}, {"shape": (5,), "dtype": "float32"}])
    def test_arrays_that_differ(self, port: dict[str, Any]) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.filler, self.reader = Filler(0, length=5), ArrayReader(**port)
                self.connect(self.filler.filled, self.reader.heard)

        with pytest.raises(AssemblyError, match=r"'reader\.heard' takes .* but 'filler\.filled' gives float64\[5\]"):
            Program(Main())

    def test_an_array_is_not_taken_from_a_port_that_declares_none(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.counter, self.reader = Counter(), ArrayReader(shape=(1,))
                self.connect(self.counter.count, self.reader.heard)

        with pytest.raises(AssemblyError, match=r"'reader\.heard' takes .* but 'counter\.count' gives no array"):
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

    def test_a_connection_of_a_reactor_that_is_not_part_of_the_program(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.relay = Relay()
                self.connect(Counter().count, self.relay.heard)

        with pytest.raises(AssemblyError, match="out of scope"):
            Program(Main())

    def test_a_connection_that_runs_the_wrong_way(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.a, self.b = Relay(), Relay()
                self.connect(self.a.heard, self.b.heard)

        with pytest.raises(AssemblyError, match=r"'a\.heard' -> 'b\.heard' runs the wrong way"):
            Program(Main())

    @pytest.mark.parametrize("after_ns", [-1, -5 * ms])
    def test_a_negative_delay(self, after_ns: int) -> None:
        with pytest.raises(AssemblyError, match=f"delay of {after_ns} ns"):
            FanOutFanIn(2, after_ns=after_ns)

    def test_an_unknown_port_of_a_bank(self) -> None:
        with pytest.raises(AssemblyError, match=r"no port named 'nmber'.*'number'"):
            bank(2, Scale).port("nmber")
        with pytest.raises(AssemblyError, match=r"no port named 'nmber'.*'number'"):
            _ = bank(2, Scale).nmber

    def test_steady_outputs_trigger_nothing_where_the_tags_are_known_beforehand(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.filler, self.recorder = Filler(0, steady=True), Recorder(1)
                self.connect(self.filler.filled, self.recorder.heard)

        with pytest.raises(AssemblyError, match=r"'recorder\.hear' is triggered by .* steady output 'filler\.filled'"):
            Program(Main(), fast=True)


class ArrayReader(Reactor):
    def __init__(self, **port: Any) -> None:
        self.heard = Input[Any](**port)


class TestReactions:
    def test_a_reaction_without_a_trigger(self) -> None:
        with pytest.raises(AssemblyError, match="no trigger"):
            reaction()

    def test_a_reaction_without_a_trigger_that_is_added_at_run_time(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.add_reaction("idle", lambda: None, triggers=[])

        with pytest.raises(AssemblyError, match="'idle' has no trigger"):
            Main()

    def test_a_reaction_on_the_port_of_another_reactor(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.counter, self.relay = Counter(), Relay()
                self.add_reaction("spy", lambda: None, triggers=[self.relay.heard])

        with pytest.raises(AssemblyError, match=r"'spy' names 'relay\.heard' of another reactor"):
            Program(Main())

    def test_a_reaction_that_names_an_element_of_another_class(self) -> None:
        class Main(Reactor):
            @reaction(Counter.tick)
            def go(self) -> None:
                pass

        with pytest.raises(AssemblyError, match="names 'tick' in a reaction, which is no part of it"):
            Main()

    def test_two_reactions_of_one_name(self) -> None:
        class Main(Reactor):
            tick = Timer(1)

            def __init__(self) -> None:
                for _ in range(2):
                    self.add_reaction("go", lambda: None, triggers=[self.tick])

        with pytest.raises(AssemblyError, match="two reactions named 'go'"):
            Main()

    def test_an_effect_that_nobody_can_set(self) -> None:
        class Main(Reactor):
            heard = Input[int]()

            def __init__(self) -> None:
                self.add_reaction("go", lambda: None, triggers=[startup], effects=[self.heard])  # type: ignore[list-item]

        with pytest.raises(AssemblyError, match="'go' has 'heard' among its effects"):
            Program(Main())

    def test_a_deadline_without_a_handler(self) -> None:
        class Main(Reactor):
            tick = Timer(1)

            @reaction(tick, deadline_ns=5)
            def go(self) -> None:
                pass

        with pytest.raises(AssemblyError, match=r"'go' has a deadline but no method"):
            Program(Main())

    def test_a_handler_without_a_deadline(self) -> None:
        class Main(Reactor):
            tick = Timer(1)

            @reaction(tick)
            def go(self) -> None:
                pass

            @go.late
            def too_late(self) -> None:
                pass

        with pytest.raises(AssemblyError, match=r"'go' has a method for a violated deadline but no deadline"):
            Program(Main())

    def test_a_negative_deadline(self) -> None:
        with pytest.raises(AssemblyError, match="deadline of -1 ns"):
            reaction(startup, deadline_ns=-1)


class TestNames:
    def test_two_parts_of_one_name(self) -> None:
        class Main(Reactor):
            part = Timer(1)

            def __init__(self) -> None:
                self.part = Counter()  # type: ignore[assignment]

        with pytest.raises(AssemblyError, match="two parts named 'part'"):
            Main()

    def test_a_part_that_is_assigned_twice(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.part = Counter()
                self.part = Counter()

        with pytest.raises(AssemblyError, match="two parts named 'part'"):
            Main()

    def test_one_reactor_in_two_places(self) -> None:
        class Main(Reactor):
            def __init__(self) -> None:
                self.a = self.b = Counter()

        with pytest.raises(AssemblyError, match=r"twice, the second time as 'b'"):
            Program(Main())


class TestElements:
    @pytest.mark.parametrize("times", [{"period_ns": -1}, {"offset_ns": -1}])
    def test_a_negative_timer(self, times: dict[str, int]) -> None:
        with pytest.raises(AssemblyError, match=r"-1 ns.*negative"):
            Timer(**times)  # type: ignore[arg-type]

    @pytest.mark.parametrize("times", [{"delay_ns": -1}, {"min_spacing_ns": -1}])
    def test_a_negative_action(self, times: dict[str, int]) -> None:
        with pytest.raises(AssemblyError, match=r"-1 ns.*negative"):
            LogicalAction[int](**times)  # type: ignore[arg-type]

    def test_an_unknown_spacing_policy(self) -> None:
        with pytest.raises(AssemblyError, match=r"'replaced'.*Did you mean 'replace'"):
            LogicalAction[int](policy="replaced")  # type: ignore[arg-type]

    def test_a_watchdog_that_expires_at_once(self) -> None:
        with pytest.raises(AssemblyError, match="timeout of 0 ns"):
            Watchdog(0)

    def test_a_watchdog_without_a_handler(self) -> None:
        class Main(Reactor):
            dog = Watchdog(1)

            @reaction(startup, effects=[dog])
            def go(self) -> None:
                pass

        with pytest.raises(AssemblyError, match="'dog' has no handler"):
            Program(Main())

    def test_a_bank_without_members(self) -> None:
        with pytest.raises(AssemblyError, match="width 0"):
            bank(0, Scale)

    def test_a_port_without_channels(self) -> None:
        with pytest.raises(AssemblyError, match="width 0"):
            Input[int](width=0)

    def test_a_port_that_is_to_retain_less_than_nothing(self) -> None:
        with pytest.raises(AssemblyError, match="retain=-1"):
            Input[int](retain=-1)

    def test_a_steady_output_without_a_shape(self) -> None:
        with pytest.raises(AssemblyError, match="no shape"):
            Output[int](steady=True)

    def test_modes_of_which_none_or_two_are_initial(self) -> None:
        class Nowhere(Reactor):
            one = Mode()

        class Torn(Reactor):
            one = Mode(initial=True)
            two = Mode(initial=True)

        with pytest.raises(AssemblyError, match=r"0 initial modes"):
            Program(Nowhere())
        with pytest.raises(AssemblyError, match=r"2 initial modes \(one, two\)"):
            Program(Torn())


class TestPrograms:
    def test_an_unknown_executor(self) -> None:
        with pytest.raises(AssemblyError, match=r"'magic'.*inline"):
            Program(Counter(), executor="magic")  # type: ignore[arg-type]

    @pytest.mark.parametrize("workers", [0, 63])
    def test_too_few_or_too_many_workers(self, workers: int) -> None:
        with pytest.raises(AssemblyError, match=rf"workers={workers}\. Give 1 to 62"):
            Program(Counter(), workers=workers)

    def test_what_is_no_reactor(self) -> None:
        with pytest.raises(AssemblyError, match=r"made from 3\. Give a reactor"):
            Program(lambda: 3)  # type: ignore[arg-type, return-value]

    def test_an_unknown_start_method(self) -> None:
        with pytest.raises(AssemblyError, match=r"'frok'\. Did you mean 'fork'"):
            Program(Counter(), start_method="frok")  # type: ignore[arg-type]

    def test_a_placement_that_would_tear_a_modal_reactor_apart(self) -> None:
        class Torn(Reactor):
            only = Mode(initial=True)

            def __init__(self) -> None:
                with self.only:
                    self.counter = Counter()

        class Main(Reactor):
            def __init__(self) -> None:
                self.torn = Torn()

        program = Program(Main(), executor="threads", workers=2, placement={"torn": 0, "torn.counter": 1}, fast=True)
        with pytest.raises(AssemblyError, match=r"'torn\.counter' on worker 1 is not possible.*has modes"):
            program.start()

    def test_nothing_of_a_refused_program_runs(self) -> None:
        ran: list[str] = []

        class Main(Reactor):
            heard = Input[int]()

            def __init__(self) -> None:
                self.a = self.b = Counter()

            @reaction(startup, shutdown)
            def go(self) -> None:
                ran.append("go")

        with pytest.raises(AssemblyError):
            Program(Main()).run()
        assert not ran
