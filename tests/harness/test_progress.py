"""What a run shows while it goes on, on a terminal and elsewhere."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from harness.estimate import Estimator, in_minutes
from harness.job import Load
from harness.plan import Cell, Plan, RuntimeChoice, schedule
from harness.progress import LiveProgress, PlainProgress, progress_on
from harness.records import Record
from harness.runner import Checked

PLAN = Plan(
    name="example",
    title="Example",
    invocations=1,
    timeout_s=10.0,
    seed=0,
    cells=(
        Cell(
            workload="counting",
            parameters={"width": 2},
            runtimes=(RuntimeChoice(name="plain", options={}), RuntimeChoice(name="ray", options={})),
            warmup_rounds=1,
            rounds=4,
            measure_s=1.0,
        ),
    ),
)


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


def record_of(invocation, outcome="ok"):
    return Record(
        workload=invocation.cell.workload,
        parameters=invocation.cell.parameters,
        runtime=invocation.runtime.name,
        options=invocation.runtime.options,
        seed=invocation.seed,
        block=invocation.block,
        outcome=outcome,
        reason=None if outcome == "ok" else "a bad day",
        digest="0",
        unit="count",
        units_per_round=2,
        rounds=4,
        startup_s=0.5,
        rounds_s=[0.001] * 4,
        measured_rounds=4,
        measured_s=0.004,
    )


@pytest.fixture
def clock():
    return Clock()


def shown_by(kind, clock, outcome="ok"):
    """What is written when the first of two invocations takes ten seconds."""
    output = io.StringIO()
    progress = kind(Console(file=output, force_terminal=kind is LiveProgress, width=150), clock)
    first, second = schedule(PLAN)
    with progress:
        progress.checking("starting", 0.0)
        progress.begin([], [first, second], Checked())
        progress.started(first)
        clock.now_s += 10
        progress.phase("measuring", 10.0)
        progress.finished(first, record_of(first, outcome))
        progress.started(second)
    return output.getvalue()


def test_elsewhere_than_on_a_terminal_every_invocation_is_one_line(clock):
    lines = shown_by(PlainProgress, clock).splitlines()

    assert lines == [
        "2 invocations to run, about 12 s.",
        "[1/2] counting width=2 on plain, block 0: 2.00k counts/s, started in 500 ms; about 10 s left",
    ]


def test_one_invocation_is_not_spoken_of_as_several():
    output = io.StringIO()
    first, second = schedule(PLAN)
    PlainProgress(Console(file=output, width=150)).begin([record_of(first)], [second], Checked())

    assert output.getvalue().startswith("1 invocation to run, about")
    assert "; 1 record there already." in output.getvalue()


def test_what_went_wrong_is_said_with_its_reason(clock):
    assert "failed: a bad day" in shown_by(PlainProgress, clock, "failed")
    assert "failed: a bad day" in shown_by(LiveProgress, clock, "failed")


def test_a_terminal_shows_what_runs_now_and_the_table_as_it_grows(clock):
    shown = shown_by(LiveProgress, clock)

    assert "checking the input" in shown
    assert "[1/2] counting width=2 on plain, block 0: measuring, 10 s" in shown
    assert "[2/2] counting width=2 on ray, block 0: starting" in shown
    assert "2.00k" in shown


def test_a_terminal_is_drawn_on_at_most_once_a_second(clock):
    output = io.StringIO()
    progress = LiveProgress(Console(file=output, force_terminal=True, width=150), clock)
    first, second = schedule(PLAN)
    with progress:
        progress.begin([], [first, second], Checked())
        progress.started(first)
        for _ in range(50):
            clock.now_s += 0.1
            progress.phase("measuring", clock.now_s - 100)

    assert 4 <= output.getvalue().count("measuring") <= 6


def test_of_a_table_higher_than_the_terminal_the_end_is_shown(clock):
    output = io.StringIO()
    progress = LiveProgress(Console(file=output, force_terminal=True, width=150, height=7), clock)
    first, second = schedule(PLAN)
    with progress:
        progress.begin([], [first, second], Checked())
        progress.finished(first, record_of(first))
        progress.started(second)

    assert "[2/2] counting width=2 on ray" in output.getvalue()
    assert "Rates:" in output.getvalue()
    assert "units/s" not in output.getvalue()


def test_only_a_terminal_is_drawn_on():
    assert type(progress_on(Console(file=io.StringIO()))) is PlainProgress
    assert type(progress_on(Console(file=io.StringIO(), force_terminal=True))) is LiveProgress


def test_an_estimate_learns_first_from_its_runtime_and_then_from_its_cell():
    estimator = Estimator()
    plain, ray = schedule(PLAN)
    guess_s = estimator.seconds(plain)
    estimator.learn(ray, 30.0)
    assert estimator.seconds(plain) == guess_s < estimator.seconds(ray) == 30.0
    estimator.learn(plain, 1.0)
    estimator.learn(plain, 3.0)
    assert estimator.seconds(plain) == 2.0


def loaded(load, **cell):
    """What an invocation with this load is guessed to take, on `plain` and on `ray`."""
    plan = msgspec.structs.replace(PLAN, cells=(msgspec.structs.replace(PLAN.cells[0], **cell),))
    invocations = schedule(plan)
    return [Estimator({i.pairing: load for i in invocations}).seconds(i) for i in invocations]


def test_more_actors_more_bytes_and_more_rounds_are_guessed_to_take_longer():
    least = loaded(Load(units=15, members=2, processes=2))

    assert least[0] < least[1]
    assert loaded(Load(units=15, members=2, processes=20))[1] > least[1] + 1
    for other in (
        loaded(Load(units=15, members=2, processes=2, value_bytes=10**10)),
        loaded(Load(units=15, members=2, processes=2), rounds=10**6),
        loaded(Load(units=15, members=2, processes=2), round_s=3.0),
    ):
        assert all(long > short + 1 for long, short in zip(other, least, strict=True))


def test_what_was_seen_of_a_runtime_corrects_the_guess_for_its_other_cells():
    other = msgspec.structs.replace(PLAN.cells[0], parameters={"width": 3}, rounds=10**6)
    planned = schedule(msgspec.structs.replace(PLAN, cells=(PLAN.cells[0], other)))
    first = next(i for i in planned if i.cell != other)
    second = next(i for i in planned if i.cell == other and i.runtime == first.runtime)
    loads = {i.pairing: Load(units=15, members=2) for i in (first, second)}
    guess_s = Estimator(loads).seconds(second)
    estimator = Estimator(loads)
    estimator.learn(first, 2 * estimator.seconds(first))

    assert estimator.seconds(second) == pytest.approx(2 * guess_s)


def test_what_will_be_skipped_takes_no_time():
    plain, _ = schedule(PLAN)

    assert Estimator({}, {plain.pairing}).seconds(plain) < 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3599, "59 min 59 s"), (34_000, "9 h 26 min")],
)
def test_a_time_is_shown_in_minutes_and_seconds(seconds, shown):
    assert in_minutes(seconds) == shown
