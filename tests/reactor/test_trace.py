"""Traces: kept in files that people can read, and compared up to the first difference."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.reactor import (
    Input,
    Output,
    PhysicalAction,
    Program,
    Reactor,
    Timer,
    TraceUnreadable,
    ms,
    reaction,
    startup,
    stop,
)
from runtimes.reactor.trace import (
    DeadlineOutcome,
    PhysicalEvent,
    Step,
    Trace,
    WatchdogExpiry,
    digest_of,
    first_difference,
)

ONE, TWO = digest_of(1), digest_of(2)

STEPS = (
    Step(0, 0, "", "begin"),
    Step(5, 0, "clock", "tell", outputs=(("time", 0, ONE),)),
    Step(5, 0, "rollout[1]", "roll", late=True, outputs=(("batch", 0, ONE), ("batch", 2, TWO))),
    Step(5, 1, "rollout[1]", "roll"),
)

TRACE = Trace(
    STEPS,
    physical=(PhysicalEvent.of("keys.press", (5, 0), {"key": "ä"}), PhysicalEvent("sink.in.relay[0]", 5, 1)),
    expiries=(WatchdogExpiry("guard.dog", 5, 0, ((6, 0), (6, 1))),),
)


def changed(index, **fields):
    """TRACE with another step at `index`."""
    return replace(TRACE, steps=(*STEPS[:index], replace(STEPS[index], **fields), *STEPS[index + 1 :]))


def without(index):
    return replace(TRACE, steps=STEPS[:index] + STEPS[index + 1 :])


# ------------------------------------------------------------------------------------------ files


def test_a_trace_comes_back_from_its_file(tmp_path):
    TRACE.save(tmp_path / "a.trace")

    assert Trace.load(tmp_path / "a.trace") == TRACE
    assert [path.name for path in tmp_path.iterdir()] == ["a.trace"]


def test_an_empty_trace_comes_back_from_its_file(tmp_path):
    Trace(()).save(tmp_path / "a.trace")

    assert Trace.load(tmp_path / "a.trace") == Trace(())


def test_a_file_has_a_line_for_each_step_that_people_can_read(tmp_path):
    TRACE.save(tmp_path / "a.trace")
    lines = (tmp_path / "a.trace").read_text(encoding="utf-8").splitlines()

    assert len(lines) == 1 + 4 + 2 + 1
    assert json.loads(lines[0]) == {"reactor_trace": 1, "steps": 4, "physical": 2, "expiries": 1}
    assert lines[1] == '{"tag": [0, 0], "reactor": "", "reaction": "begin"}'
    assert lines[2] == f'{{"tag": [5, 0], "reactor": "clock", "reaction": "tell", "outputs": [["time", 0, "{ONE}"]]}}'
    assert '"late": true' in lines[3]


names = st.text(max_size=5)
whole = st.integers(0, 2**63)


@given(
    st.lists(
        st.builds(Step, whole, whole, names, names, st.booleans(), st.lists(st.tuples(names, whole, names)).map(tuple))
    ),
    st.lists(st.builds(PhysicalEvent.of, names, st.tuples(whole, whole), st.none() | names)),
)
def test_any_trace_comes_back_from_its_file(tmp_path_factory, steps, physical):
    path = tmp_path_factory.mktemp("traces") / "a.trace"
    trace = Trace(tuple(sorted(steps, key=lambda step: (step.time_ns, step.microstep))), tuple(physical))
    trace.save(path)

    assert Trace.load(path) == trace


def test_an_older_file_stays_whole_when_a_trace_cannot_be_written(tmp_path):
    TRACE.save(tmp_path / "a.trace")
    unwritable = Trace((replace(STEPS[0], reaction={1}),))  # type: ignore[arg-type]

    with pytest.raises(TypeError):
        unwritable.save(tmp_path / "a.trace")
    assert Trace.load(tmp_path / "a.trace") == TRACE
    assert [path.name for path in tmp_path.iterdir()] == ["a.trace"]


HEADER = '{"reactor_trace": 1, "steps": 1, "physical": 0, "expiries": 0}'
STEP = '{"tag": [0, 0], "reactor": "a", "reaction": "b"}'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([""], "line 1: it is not JSON"),
        (["[]"], "line 1: it is no JSON object"),
        (['{"reactor_trace": 2}'], 'line 1: it does not begin with {"reactor_trace": 1}'),
        ([STEP], 'line 1: it does not begin with {"reactor_trace": 1}'),
        ([HEADER], "line 1: the header promises 1 steps, the file holds 0"),
        ([HEADER, STEP, STEP], "line 3: the header promises 1 steps, the file holds 2"),
        ([HEADER, STEP[:-3]], "line 2: it is not JSON"),
        ([HEADER, STEP.replace("[0, 0]", "[0]")], "line 2: its tag is [0] and not [nanoseconds, microstep]"),
        ([HEADER, STEP.replace('"a"', "1")], "line 2: its reactor is 1 and not a text"),
        ([HEADER, STEP.replace("reaction", "reakt")], "line 2: its reaction is None and not a text"),
        ([HEADER, STEP.replace('"b"', '"b", "late": 1')], "line 2: late is 1 and not true or false"),
        ([HEADER, STEP.replace('"b"', '"b", "outputs": [["c", 0]]')], "line 2: an output is ['c', 0] and not [port"),
        ([HEADER, STEP.replace('"b"', '"b", "outputs": 7')], "line 2: an output is 7 and not [port"),
        ([HEADER, STEP.replace("[0, 0]", "[1, 0]"), STEP], "line 3: its tag comes before that of the step before it"),
        ([HEADER, '{"tag": [0, 0], "physical": "a", "payload": "?"}'], "line 2: its payload is not in base 64"),
        ([HEADER, '{"tag": [0, 0], "physical": "a", "payload": 7}'], "line 2: its payload is not in base 64"),
        ([HEADER, '{"tag": [0, 0], "watchdog": "a", "earliest": 7}'], "line 2: its earliest is 7 and not a list"),
        ([HEADER, '{"tag": [0, 0], "watchdog": "a", "earliest": [7]}'], "line 2: its tag is 7 and not [nanoseconds"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_line_and_rule(tmp_path, lines, said):
    path = tmp_path / "a.trace"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    with pytest.raises(TraceUnreadable) as raised:
        Trace.load(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path):
    (tmp_path / "b.trace").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(TraceUnreadable, match=r"a\.trace cannot be read: No such file or directory"):
        Trace.load(tmp_path / "a.trace")
    with pytest.raises(TraceUnreadable, match=r"b\.trace is not UTF-8 text"):
        Trace.load(tmp_path / "b.trace")


def test_the_value_of_a_physical_event_comes_back():
    assert PhysicalEvent.of("a", (0, 0), {"key": [1]}).value == {"key": [1]}
    assert PhysicalEvent.of("a", (0, 0), None).value is None
    assert PhysicalEvent("a", 0, 0).value is None


def test_the_late_reactions_are_those_of_the_steps():
    assert TRACE.late == (DeadlineOutcome(5, 0, "rollout[1]", "roll"),)


# ------------------------------------------------------------------------------------- comparison


def test_equal_traces_have_no_difference():
    assert first_difference(TRACE, TRACE) is None
    assert first_difference(Trace(()), Trace(())) is None


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            changed(1, outputs=(("time", 0, TWO),)),
            (
                f"At tag (5 ns, 0), reaction 'clock.tell', port 'time': digest {ONE} in the first trace, "
                f"digest {TWO} in the second."
            ),
        ),
        (
            changed(2, outputs=(("batch", 0, ONE),)),
            (
                "At tag (5 ns, 0), reaction 'rollout[1].roll', port 'batch' channel 2: set in the first trace, "
                "not set in the second."
            ),
        ),
        (
            changed(3, outputs=(("batch", 0, ONE),)),
            (
                "At tag (5 ns, 1), reaction 'rollout[1].roll', port 'batch': not set in the first trace, "
                "set in the second."
            ),
        ),
        (
            changed(2, late=False),
            (
                "At tag (5 ns, 0), reaction 'rollout[1].roll': its deadline was violated in the first trace, "
                "its deadline was met in the second."
            ),
        ),
        (
            without(1),
            "At tag (5 ns, 0), reaction 'clock.tell': it ran in the first trace, it did not run in the second.",
        ),
        (without(0), "At tag (0 ns, 0), reaction 'begin': it ran in the first trace, it did not run in the second."),
        (
            replace(TRACE, steps=STEPS[:2]),
            (
                "At tag (5 ns, 0), reaction 'rollout[1].roll': it runs in the first trace, "
                "the steps have ended in the second."
            ),
        ),
        (
            replace(TRACE, steps=(*STEPS[:1], STEPS[2], STEPS[1], *STEPS[3:])),
            (
                "At tag (5 ns, 0), reaction 'clock.tell': it ran next in the first trace, "
                "'rollout[1].roll' ran before it in the second."
            ),
        ),
        (
            replace(TRACE, physical=TRACE.physical[:1]),
            (
                "At tag (5 ns, 1): number 0 of 'sink.in.relay[0]' has tag (5 ns, 1) in the first trace, "
                "it does not exist in the second."
            ),
        ),
        (
            replace(TRACE, physical=(replace(TRACE.physical[0], digest=ONE), TRACE.physical[1])),
            (
                f"At tag (5 ns, 0): number 0 of 'keys.press' has tag (5 ns, 0) and digest {TRACE.physical[0].digest} "
                f"in the first trace, it has tag (5 ns, 0) and digest {ONE} in the second."
            ),
        ),
        (
            replace(TRACE, expiries=(WatchdogExpiry("guard.dog", 7, 0),)),
            (
                "At tag (5 ns, 0): number 0 of 'guard.dog' has tag (5 ns, 0) in the first trace, "
                "it has tag (7 ns, 0) in the second."
            ),
        ),
    ],
)
def test_the_first_difference_is_told_in_one_sentence(other, said):
    assert str(first_difference(TRACE, other)) == said


@pytest.mark.parametrize("index", range(len(STEPS)))
def test_a_step_that_only_one_trace_has_is_found_from_both_sides(index):
    forth, back = first_difference(TRACE, without(index)), first_difference(without(index), TRACE)

    assert (forth.time_ns, forth.microstep) == (back.time_ns, back.microstep)
    assert (
        (forth.reactor, forth.reaction)
        == (back.reactor, back.reaction)
        == (STEPS[index].reactor, STEPS[index].reaction)
    )
    assert (forth.first, forth.second) == (back.second, back.first)


def test_the_first_of_several_differences_is_named():
    other = replace(changed(3, reaction="another"), expiries=())
    other = replace(other, steps=(STEPS[0], replace(STEPS[1], outputs=(("time", 0, TWO),)), *other.steps[2:]))

    difference = first_difference(TRACE, other)

    assert (difference.rule, difference.reactor, difference.port) == ("digest", "clock", "time")


def test_the_first_differing_port_is_named():
    difference = first_difference(TRACE, changed(2, outputs=(("batch", 0, TWO), ("batch", 2, ONE))))

    assert (difference.port, difference.channel) == ("batch", 0)


def test_the_earliest_of_several_differing_events_is_named():
    first = Trace((), physical=(PhysicalEvent("a", 9, 0), PhysicalEvent("b", 3, 0), PhysicalEvent("b", 4, 0)))
    second = Trace((), physical=(PhysicalEvent("a", 8, 0), PhysicalEvent("b", 3, 0), PhysicalEvent("b", 5, 0)))

    difference = first_difference(first, second)

    assert (difference.time_ns, difference.first) == (4, "number 1 of 'b' has tag (4 ns, 0)")


def test_events_of_different_actions_may_be_recorded_in_any_order():
    assert first_difference(TRACE, replace(TRACE, physical=TRACE.physical[::-1])) is None


def test_payloads_that_were_pickled_differently_are_equal_if_their_digests_are():
    part = "x" * 3
    other = PhysicalEvent.of("a", (0, 0), [part, part])
    one = replace(other, payload=b"another pickle")

    assert first_difference(Trace((), physical=(one,)), Trace((), physical=(other,))) is None


# --------------------------------------------------------------------------------------- programs


class Counter(Reactor):
    """Counts in every way in which an output can be given its value."""

    tick = Timer(1 * ms)
    in_place = Output(shape=(3,), steady=True)
    sometimes = Output(shape=(3,))
    plain = Output[int]()

    def __init__(self, step):
        self.step = step

    @reaction(startup)
    def begin(self):
        self.ticks = 0

    @reaction(tick, effects=[in_place, sometimes, plain])
    def count(self):
        number = self.ticks * self.step
        slots = self.in_place.slots()
        slots[self.ticks % len(slots)][...] = number
        if self.ticks % 2:
            self.sometimes.array()[...] = number
        self.plain.set(number)
        self.ticks += 1


class Listener(Reactor):
    in_place = Input(shape=(3,))
    sometimes = Input(shape=(3,))
    plain = Input[int]()

    @reaction(sometimes, plain, sources=[in_place])
    def listen(self):
        pass


class Listening(Reactor):
    def __init__(self, step):
        self.counter = Counter(step)
        self.listener = Listener()
        for name in ("in_place", "sometimes", "plain"):
            self.connect(getattr(self.counter, name), getattr(self.listener, name))


def recorded(step, way):
    """The trace of a program that counts in steps of `step`."""
    apart = {} if way["executor"] == "inline" else {"placement": {"listener": 1}}
    program = Program(partial(Listening, step), recording=True, fast=True, **way, **apart)
    program.run(3 * ms)
    return program.trace()


def test_a_run_records_what_was_set_however_it_was_set(way):
    steps = [step for step in recorded(2, way).steps if step.reaction == "count"]
    outputs = [{(port, channel): digest for port, channel, digest in step.outputs} for step in steps]

    assert outputs == [
        {("in_place", 0): digest_of(np.full(3, 2.0 * tick)), ("plain", 0): digest_of(2 * tick)}
        | ({("sometimes", 0): digest_of(np.full(3, 2.0 * tick))} if tick % 2 else {})
        for tick in range(4)
    ]


def test_a_run_has_the_same_trace_however_it_is_executed(way, tmp_path):
    recorded(2, way).save(tmp_path / "a.trace")

    assert first_difference(Trace.load(tmp_path / "a.trace"), recorded(2, {"executor": "inline"})) is None


def test_runs_that_compute_something_else_have_different_traces(way):
    difference = first_difference(recorded(2, way), recorded(3, way))

    assert (difference.rule, difference.time_ns, difference.reactor) == ("digest", 1 * ms, "counter")
    assert (difference.reaction, difference.port) == ("count", "in_place")


class Keys(Reactor):
    press = PhysicalAction[str]()
    key = Output[str]()

    @reaction(startup, effects=[press])
    def begin(self):
        for key in "abc":
            self.press.schedule(key)

    @reaction(press, effects=[key, stop])
    def tell(self):
        self.key.set(self.press.value)
        if self.press.value == "c":
            self.request_stop()


class Screen(Reactor):
    key = Input[str]()

    @reaction(key, deadline_ns=0)
    def show(self):
        pass

    @show.late
    def show_late(self):
        pass


class Typing(Reactor):
    def __init__(self):
        self.keys = Keys()
        self.screen = Screen()
        self.connect(self.keys.key, self.screen.key)


def test_a_run_is_replayed_from_the_file_of_its_trace(way, tmp_path):
    program = Program(Typing, recording=True)
    program.run()
    program.trace().save(tmp_path / "a.trace")
    recording = Trace.load(tmp_path / "a.trace")

    apart = {} if way["executor"] == "inline" else {"placement": {"screen": 1}}
    replay = Program(Typing, recording=True, replay=recording, **way, **apart)
    replay.run()

    assert first_difference(recording, replay.trace()) is None
    assert [event.value for event in recording.physical] == ["a", "b", "c"]
    assert [outcome.reaction for outcome in recording.late] == ["show"] * 3
