"""The executor `auto`: it stays or moves by what it measured, and nobody can see which from the results."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.reactor import Program, ReactionFailed, ReactionStuck, first_difference, ms
from runtimes.reactor import auto as auto_module
from runtimes.reactor.assembly import assemble
from runtimes.reactor.auto import estimate
from tests.moving import force_moves
from tests.reactor.fuzz import difference, placement_of, reference_lines, run_lines
from tests.reactor.moving_programs import (
    PROGRAMS,
    FromOutside,
    Later,
    Leaving,
    Patient,
    Slow,
    Stateful,
    Sticky,
    WithEnd,
)
from tests.reactor.programs import Counter
from tests.reactor.random_programs import plan_of
from tests.reactor.reactors import Arrays, Bombs, FanOutFanIn, Sleepy, SleepyBank

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random as Chooser

    from runtimes.reactor import Trace

DESTINATIONS = pytest.mark.parametrize("to_threads", [False, True], ids=["to processes", "to threads"])
EVERY_PROGRAM = pytest.mark.parametrize("pending", list(PROGRAMS))


@pytest.fixture(autouse=True)
def no_process_is_left() -> Any:
    """No worker outlives its program."""
    yield
    assert multiprocessing.active_children() == []


def trace_of(make: Any, timeout_ns: int | None, **how: Any) -> Trace:
    """What a program does, to its end."""
    program = Program(make, fast=True, recording=True, **how)
    program.run(timeout_ns)
    return program.trace()


# What the results show


@EVERY_PROGRAM
@DESTINATIONS
@pytest.mark.parametrize("after_tags", [1, 2, 5])
def test_a_program_that_moves_takes_along(
    pending: str, to_threads: bool, after_tags: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, timeout_ns = PROGRAMS[pending]
    expected = trace_of(make, timeout_ns, executor="inline")
    moved = force_moves(monkeypatch, after_tags=after_tags, to_threads=to_threads)
    got = trace_of(make, timeout_ns, workers=2 + after_tags % 2)
    assert moved == ["threads" if to_threads else "processes"]
    assert first_difference(expected, got) is None


@EVERY_PROGRAM
def test_a_program_that_stays_gives_what_inline_gives(pending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, timeout_ns = PROGRAMS[pending]
    expected = trace_of(make, timeout_ns, executor="inline")
    moved = force_moves(monkeypatch, after_tags=3)
    monkeypatch.setattr(auto_module, "_busy_elsewhere", lambda: 7)
    assert first_difference(expected, trace_of(make, timeout_ns)) is None
    assert moved == []


@DESTINATIONS
@given(
    chooser=st.randoms(use_true_random=False),
    workers=st.integers(2, 4),
    after_tags=st.integers(1, 12),
    anywhere=st.booleans(),
)
@settings(max_examples=25)
def test_random_programs_that_move_at_some_tag_give_the_trace_of_the_reference_interpreter(
    to_threads: bool, chooser: Chooser, workers: int, after_tags: int, anywhere: bool
) -> None:
    plan = plan_of(chooser)
    homes = {count: placement_of(plan, count, chooser) for count in range(2, workers + 1)}
    with pytest.MonkeyPatch.context() as monkeypatch:
        force_moves(monkeypatch, after_tags=after_tags, to_threads=to_threads)
        lines = run_lines(plan, {"workers": workers}, placement=homes.get if anywhere else None)  # type: ignore[arg-type]  # a function will do
    found = difference(reference_lines(plan), lines)
    assert found is None, found


@DESTINATIONS
@pytest.mark.parametrize("pending", ["pending events of actions", "values of a clocked program"])
def test_a_program_that_is_stopped_as_soon_as_it_has_moved_ends_a_microstep_later(
    pending: str, to_threads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, _ = PROGRAMS[pending]
    moved = force_moves(monkeypatch, after_tags=5, to_threads=to_threads)
    traces = []
    for how in ({"executor": "inline"}, {"workers": 2}):
        program = Program(partial(WithEnd, make), fast=True, recording=True, **how)
        with program:
            program.advance(5)
            program.stop()
        traces.append(program.trace())
    assert len(moved) == 1
    assert "end" in {step.reaction for step in traces[0].steps}
    assert first_difference(*traces) is None


@DESTINATIONS
def test_a_recorded_run_can_be_replayed_by_one_that_moves(to_threads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    make, timeout_ns = PROGRAMS["deadlines that are missed, or not"]
    expected = trace_of(make, timeout_ns, executor="inline")
    moved = force_moves(monkeypatch, to_threads=to_threads)
    assert first_difference(expected, trace_of(make, timeout_ns, replay=expected)) is None
    assert len(moved) == 1


# Where it is


def test_what_is_asked_for_comes_from_where_a_reactor_lives_now(moves: list[str]) -> None:
    with Program(SleepyBank, workers=2, fast=True) as program:
        program.advance(2)
        assert program.workers == 1
        used_s = program.ask("members[1]", "busy_s")
        program.advance(20)
        assert program.workers == 2
        assert program.ask("members[0]", "busy_s") >= used_s
        assert program.ask("members[1]", "busy_s") < used_s  # another process, which has just begun
        program.stop()
    assert moves == ["processes"]


def test_a_reactor_is_told_that_it_has_moved_away_where_it_was_alone(moves: list[str]) -> None:
    with Program(SleepyBank, workers=2, fast=True) as program:
        program.advance(10)
        copies = [program.assembly.reactors[f"members[{index}]"] for index in range(2)]
        assert [member.is_copy() for member in copies if isinstance(member, Sleepy)] == [False, True]
        assert [program.ask(f"members[{index}]", "is_copy") for index in range(2)] == [False, False]
    assert moves == ["processes"]


@pytest.mark.parametrize("steady", [True, False])
def test_a_move_leaves_no_second_copy_of_the_arrays(steady: bool, moves: list[str]) -> None:
    with Program(partial(Arrays, steady=steady, length=2_000_000), workers=2, fast=True) as program:
        program.advance(3)
        before_bytes = memory_bytes()
        program.advance(5)
        after_bytes = memory_bytes()
    assert moves == ["processes"]
    # There are 64 MB of them.
    assert after_bytes - before_bytes < 32e6


def memory_bytes() -> int:
    """Of this process and all that it has started; what they share counts once."""
    me = psutil.Process()
    return sum(process.memory_full_info().pss for process in [me, *me.children(recursive=True)])


def test_tags_are_counted_and_timed_across_a_move(moves: list[str]) -> None:
    with Program(FanOutFanIn, workers=2, fast=True) as program:
        ends_ns = [*program.advance(2), *program.advance(9), *program.advance(5)]
        log = program.ask("recorder", "read")
        program.stop()
    assert len(ends_ns) == 16
    assert ends_ns == sorted(ends_ns)
    assert [row[1][0] for row in log] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert moves == ["processes"]


def test_a_timeline_goes_on_across_a_move(moves: list[str]) -> None:
    program = Program(FanOutFanIn, workers=2, fast=True, timeline=True)
    program.run(19 * ms)
    spans = [span for worker in program.timeline().spans.values() for span in worker]
    rows = [row.path for row in program.assembly.reactions]
    counted = [number for what, number, *_ in spans if what == rows.index("counter.step")]
    assert counted == list(range(20))
    assert moves == ["processes"]


def test_nothing_is_measured_once_the_choice_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    force_moves(monkeypatch, after_tags=3)
    monkeypatch.setattr(auto_module, "_busy_elsewhere", lambda: 7)
    # However busy the machine is, its tags do not pass for longer ones.
    monkeypatch.setattr(auto_module, "_LONGER_BY_NS", 10**9)
    with Program(FanOutFanIn, workers=2, fast=True) as program:
        program.advance(3)
        assert program.execution.startswith("inline: other processes")
        program.advance(50)
        executor = program._executor
        assert executor is not None
        assert executor.notes()[0].spans == []


def test_an_exception_after_a_move_names_reactor_reaction_and_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = force_moves(monkeypatch, after_tags=2)
    with pytest.raises(ReactionFailed, match=r"'members\[\d\]\.go_off' failed at tag \(2000000 ns, 0\): ValueError"):
        Program(partial(Bombs, width=3), workers=3, fast=True).run()
    assert moved == ["processes"]


def test_shutdown_reactions_run_where_their_reactors_live_now(moves: list[str]) -> None:
    with Program(FanOutFanIn, workers=2, fast=True, placement={"recorder": 1}, recording=True) as program:
        program.advance(10)
        program.stop()
    ended = [step for step in program.trace().steps if step.reaction == "end"]
    assert [(step.reactor, step.time_ns, step.microstep) for step in ended] == [("recorder", 9 * ms, 1)]
    assert moves == ["processes"]


def test_an_explicit_placement_is_kept_when_a_program_moves(moves: list[str]) -> None:
    placement = {f"members[{index}]": 1 - index for index in range(2)}
    with Program(SleepyBank, workers=2, fast=True, placement=placement) as program:
        program.advance(10)
        executor = program._executor
        assert executor is not None
        assert dict(executor.conductor.worker.partition.placement) == {"": 0, **placement}


def test_state_that_cannot_be_pickled_moves_by_fork(moves: list[str]) -> None:
    here = Stateful()
    there = Stateful()
    expected = trace_of(here, 20 * ms, executor="inline")
    got = trace_of(there, 20 * ms, workers=2)
    here.close()
    there.close()
    assert first_difference(expected, got) is None
    assert moves == ["processes"]


@DESTINATIONS
def test_physical_time_goes_on_across_a_move(to_threads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = force_moves(monkeypatch, after_tags=3, to_threads=to_threads)
    before_ns = time.perf_counter_ns()
    with Program(partial(Bombs, Patient), workers=2) as program:
        program.advance(8)
        seen = [program.ask(f"members[{index}]", "read") for index in range(2)]
    elapsed_ns = time.perf_counter_ns() - before_ns
    assert len(moved) == 1
    for times in seen:
        assert [tag_ns for tag_ns, _ in times] == [index * ms for index in range(8)]
        assert all(tag_ns <= physical_ns < elapsed_ns for tag_ns, physical_ns in times)


def test_the_status_that_a_reaction_ends_with_after_a_move_is_that_of_the_program(moves: list[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        Program(partial(Bombs, Leaving), workers=2, fast=True).run()
    assert leaving.value.code == 7
    assert moves == ["processes"]


def test_a_reaction_that_is_stuck_after_a_move_is_named(moves: list[str]) -> None:
    with pytest.raises(ReactionStuck, match=r"members\[1\]\.stick"):
        Program(partial(Bombs, Sticky), workers=2, fast=True, watch_s=0.5).run()
    assert moves == ["processes"]


# What it decides


def reason(main: Any, tags: int = 40, **how: Any) -> str:
    """What a program says of where it runs after so many tags."""
    with Program(main, fast=True, **how) as program:
        program.advance(tags)
        return program.execution


def test_until_it_has_seen_enough_it_says_that_it_measures() -> None:
    assert reason(FanOutFanIn, tags=1, workers=2) == "inline: measuring"


def test_with_one_worker_there_is_nothing_to_choose(moves: list[str]) -> None:
    assert reason(FanOutFanIn, workers=1) == "inline: there is one worker to use"
    assert moves == []


def test_a_lone_reactor_has_nothing_to_run_beside(moves: list[str]) -> None:
    assert reason(Counter, workers=2) == "inline: there are no two reactors to run side by side"
    assert moves == []


def test_a_program_with_physical_actions_stays(moves: list[str]) -> None:
    assert reason(FromOutside, tags=4, workers=2).startswith("inline: it has physical actions")
    assert moves == []


def test_a_process_with_several_threads_is_not_forked(moves: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_module, "fork_is_safe", lambda: False)
    assert reason(FanOutFanIn, workers=2).startswith("inline: this process has several threads")
    assert moves == []


def test_a_program_that_would_gain_too_little_stays_and_says_what_it_expected(
    moves: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_module, "estimate", lambda *cut: auto_module.Estimate(cut[2], 100_000 - 5_000 * cut[2]))
    said = reason(FanOutFanIn, workers=2)
    assert said == "inline: a tag takes about 95.0 us in one thread and would take 90.0 us with 2 workers"
    assert moves == []


def test_a_program_stays_while_other_processes_keep_the_processors_busy(
    moves: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_module, "_busy_elsewhere", lambda: 7)
    assert reason(FanOutFanIn, workers=2).startswith(
        "inline: other processes keep the other processors busy (8 in all)"
    )
    assert moves == []


def test_as_many_workers_are_used_as_processors_are_free(moves: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_module, "_busy_elsewhere", lambda: 5)
    monkeypatch.setattr(auto_module.os, "cpu_count", lambda: 8)
    with Program(FanOutFanIn, fast=True) as program:
        program.advance(10)
        assert program.workers == 3
    assert moves == ["processes"]


def test_a_program_that_has_ended_does_not_move(moves: list[str]) -> None:
    Program(FanOutFanIn, workers=2, fast=True).run(3 * ms)
    assert moves == []


def test_slow_reactions_are_measured_and_the_program_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_module, "_busy_elsewhere", lambda: 0)
    monkeypatch.setattr(auto_module, "processors", lambda: 2)
    monkeypatch.setattr(auto_module, "fork_is_safe", lambda: True)
    said = reason(partial(Bombs, Slow, width=4), tags=8)
    assert said.startswith(("processes: a tag takes about", "threads: a tag takes about"))
    assert said.endswith("with 2 workers")
    assert 12_000 <= float(said.split("about ")[1].split(" us")[0]) < 1_000_000


@pytest.mark.parametrize("at_once", [True, False], ids=["in one call", "tag by tag"])
def test_a_program_whose_tags_become_slow_is_measured_again_and_moves(
    at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_module, "_busy_elsewhere", lambda: 0)
    monkeypatch.setattr(auto_module, "processors", lambda: 2)
    monkeypatch.setattr(auto_module, "fork_is_safe", lambda: True)
    how: dict[str, Any] = {"workers": 2, "fast": True, "recording": True}
    with Program(partial(Bombs, Later, width=4), **how) as program:
        program.advance(20)
        before = program.execution
        for tags in [80] if at_once else [1] * 80:
            program.advance(tags)
        after = program.execution
        program.stop()
    assert before.startswith("inline: a tag takes about")
    assert after.startswith(("processes: a tag takes about", "threads: a tag takes about"))
    with Program(partial(Bombs, Later, width=4), executor="inline", fast=True, recording=True) as alone:
        alone.advance(100)
        alone.stop()
    assert first_difference(program.trace(), alone.trace()) is None


def test_a_program_whose_tags_stay_as_they_are_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_module, "_busy_elsewhere", lambda: 0)
    monkeypatch.setattr(auto_module, "processors", lambda: 2)
    # However busy the machine is.
    monkeypatch.setattr(auto_module, "_LONGER_BY_NS", 10**9)
    with Program(FanOutFanIn, workers=2, fast=True, timeline=True) as program:
        program.advance(20)
        executor = program._executor
        assert isinstance(executor, auto_module.AutoExecutor)
        program.advance(2000)
        assert not executor._measuring
        assert executor._window == auto_module._FEWEST_WATCHED


MOVES_FOR_REAL = """
from functools import partial
from runtimes.reactor import Program, auto
from tests.reactor.reactors import Bombs
from tests.reactor.moving_programs import Slow
auto._busy_elsewhere = lambda: 0
auto.processors = lambda: 2
with Program(partial(Bombs, Slow, width=4), fast=True) as program:
    program.advance(8)
    print(program.execution)
"""


def costs_of(program: Any, **by_reaction: float) -> tuple[Any, list[float]]:
    """An assembled program, and a cost for each reaction by its name."""
    assembly = assemble(program)
    return assembly, [by_reaction.get(row.name, 0.0) for row in assembly.reactions]


def test_reactions_of_a_millisecond_on_eight_members_take_half_the_time_with_two_workers() -> None:
    assembly, costs = costs_of(FanOutFanIn(8), scale=1e6, step=1e3, hear=1e3)
    alone, two, four = (estimate(assembly, costs, workers, None).tag_ns for workers in (1, 2, 4))
    assert 8e6 < alone < 8.1e6
    assert 0.5 < two / alone < 0.52
    assert 0.25 < four / alone < 0.27


def test_a_hub_of_trivial_reactions_would_take_longer_with_workers() -> None:
    assembly, costs = costs_of(FanOutFanIn(8), scale=200.0, step=200.0, hear=500.0)
    alone, two = (estimate(assembly, costs, workers, None).tag_ns for workers in (1, 2))
    assert two > 2 * alone


def test_reactions_that_follow_one_another_gain_nothing_from_workers() -> None:
    make, _ = PROGRAMS["a chain of filters"]
    assembly, costs = costs_of(make(), sift=1e6)
    alone, two = (estimate(assembly, costs, workers, None).tag_ns for workers in (1, 2))
    assert two > 0.99 * alone


def test_the_estimate_counts_where_reactors_are_put() -> None:
    assembly, costs = costs_of(FanOutFanIn(8), scale=1e6)
    badly = {f"scales[{index}]": 1 for index in range(8)}
    assert estimate(assembly, costs, 2, badly).tag_ns > 8e6


def test_a_process_of_one_thread_forks_its_state_for_real(repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "moves.py"
    script.write_text(MOVES_FOR_REAL, encoding="utf-8")
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("processes: a tag takes about", "threads: a tag takes about"))
