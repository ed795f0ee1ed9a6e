"""Programs in worker processes: the same values, loud failures, nothing left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from runtimes.reactor import AssemblyError, Program, ReactionFailed, Reactor, ReactorError, WorkerDied, ms
from runtimes.reactor.board import ABORTED, REACHED, TIMED_OUT, BoardHandle
from runtimes.reactor.processes import fork_is_safe
from tests.reactor.conftest import traces
from tests.reactor.reactors import Arrays, Bombs, Counter, FanOutFanIn, Post, Recorder, SleepyBank

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_a_running_program_leaves_traces_that_the_checks_here_would_find() -> None:
    before = traces()
    with Program(SleepyBank, executor="processes", workers=2, start_method="spawn", native=False, fast=True) as program:
        program.advance(1)
        kinds = {trace.split()[0] for trace in traces() - before}
    assert kinds == {"process", "semaphore", "descriptor"}


FORKED: list[dict[str, Any]] = [
    {"workers": 2, "start_method": "fork"},
    {"workers": 4, "start_method": "fork"},
    {"workers": 2, "start_method": "fork", "native": False},
]
STARTED: list[dict[str, Any]] = [
    {"workers": 2, "start_method": "spawn"},
    {"workers": 3, "start_method": "forkserver"},
    {"workers": 3, "start_method": "spawn", "native": False},
]


def _name(way: dict[str, Any]) -> str:
    return f"{way['workers']} workers, {way['start_method']}{'' if way.get('native', True) else ', semaphores'}"


@pytest.fixture(params=[*FORKED, *STARTED], ids=_name)
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture(params=FORKED, ids=_name)
def forked(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.fixture(params=STARTED, ids=_name)
def started(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Workers that begin with nothing: each takes a second."""
    return dict(request.param)


def log_of(main: Any, tags: int, **how: Any) -> Any:
    """What the recorder of the program has heard, without the numbers of processes."""
    with Program(main, **how, fast=True) as program:
        program.advance(tags)
        log = program.assembly.reactors["recorder"].log  # type: ignore[attr-defined]
        program.stop()
    return [[v[0] if isinstance(v, tuple) else v for v in row] for row in log]


@pytest.mark.parametrize("after_ns", [None, 1 * ms, 3 * ms])
def test_values_are_the_same_in_processes_as_inline(forked: dict[str, Any], after_ns: int | None) -> None:
    main = partial(FanOutFanIn, 5, after_ns)
    assert log_of(main, 40, executor="processes", **forked) == log_of(main, 40)


@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize("after_ns", [None, 2 * ms])
def test_arrays_are_the_same_in_processes_as_inline(forked: dict[str, Any], after_ns: int | None, steady: bool) -> None:
    main = partial(Arrays, 5, after_ns, steady=steady)
    assert log_of(main, 40, executor="processes", **forked) == log_of(main, 40)


@pytest.mark.parametrize("main", [partial(FanOutFanIn, 5, 1 * ms), partial(Arrays, 5, None)], ids=["values", "arrays"])
def test_values_and_arrays_are_the_same_in_workers_that_begin_with_nothing(started: dict[str, Any], main: Any) -> None:
    assert log_of(main, 40, executor="processes", **started) == log_of(main, 40)


def test_messages_may_outgrow_the_memory_they_began_with_and_live_as_long_as_they_are_held(way: dict[str, Any]) -> None:
    with Program(Post, executor="processes", **way, fast=True) as program:
        program.advance(30)
        for member in range(3):
            assert program.ask(f"unpackers[{member}]", "sound") == [True] * 30


def test_members_of_a_bank_are_spread_and_the_caller_counts_as_a_worker() -> None:
    with Program(SleepyBank(), executor="processes", workers=2, start_method="fork", fast=True) as program:
        program.advance(1)
        homes = [program.ask(f"members[{i}]", "where") for i in range(2)]
    assert homes[0] == os.getpid()
    assert homes[1] != os.getpid()


def test_a_reactor_lives_where_it_is_placed() -> None:
    placement = {"members[0]": 1, "members[1]": 0}
    with Program(
        SleepyBank(), executor="processes", workers=2, start_method="fork", placement=placement, fast=True
    ) as program:
        program.advance(1)
        assert program.ask("members[1]", "where") == os.getpid()
        assert program.ask("members[0]", "where") != os.getpid()


def test_a_placement_that_is_not_possible_is_an_error() -> None:
    with pytest.raises(AssemblyError, match=r"unknown reactor 'member\[0\]'. Did you mean 'members\[0\]'"):
        Program(SleepyBank(), executor="inline", placement={"member[0]": 1}, fast=True)
    with pytest.raises(AssemblyError, match=r"'members\[0\]' on worker 2 is not possible"):
        Program(SleepyBank(), executor="processes", workers=2, placement={"members[0]": 2}, fast=True).start()


def test_an_exception_in_a_worker_names_reactor_reaction_and_tag_and_carries_the_traceback(way: dict[str, Any]) -> None:
    placement = {"members[0]": 1}
    with (
        pytest.raises(
            ReactionFailed, match=r"'members\[[01]\]\.go_off' failed at tag \(2000000 ns, 0\): ValueError: three"
        ) as failure,
        Program(Bombs, executor="processes", placement=placement, **way, fast=True) as program,
    ):
        program.advance(10)
    assert 'raise ValueError("three is too many")' in failure.value.remote_traceback


def test_an_exception_in_the_calling_process_is_the_cause() -> None:
    program = Program(
        Bombs(), executor="processes", workers=3, start_method="fork", placement={"members[1]": 0}, fast=True
    )
    with pytest.raises(ReactionFailed, match=r"failed at tag .2000000 ns, 0.") as failure, program:
        program.advance(10)
    assert isinstance(failure.value.__cause__, ValueError)


@pytest.mark.parametrize("native", [True, False])
def test_a_killed_worker_ends_the_program_and_is_named(native: bool) -> None:
    program = Program(SleepyBank(), executor="processes", workers=2, start_method="fork", native=native, fast=True)
    with program:
        program.advance(3)
        os.kill(program.ask("members[1]", "where"), signal.SIGKILL)
        with pytest.raises(
            WorkerDied, match=r"Worker 1 .*home of members\[1\].*killed by SIGKILL at tag .3000000 ns, 0."
        ):
            program.advance(10)


def test_a_worker_that_cannot_build_its_program_says_why() -> None:
    with (
        pytest.raises(ReactorError, match="only here"),
        Program(partial(_only_in, os.getpid()), executor="processes", workers=2, start_method="spawn") as program,
    ):
        program.advance(1)


def _only_in(pid: int) -> Reactor:
    if os.getpid() != pid:
        raise RuntimeError("only here")
    return SleepyBank()


def test_workers_sleep_when_there_is_nothing_to_do() -> None:
    with Program(SleepyBank(), executor="processes", workers=2, start_method="fork", fast=True) as program:
        program.advance(200)
        before_s = program.ask("members[1]", "busy_s")
        time.sleep(1)
        used_s = program.ask("members[1]", "busy_s") - before_s
    assert used_s < 0.2, "a worker kept its processor busy while it had nothing to do"


def test_a_reactor_cannot_be_sent_to_spawned_workers_and_the_error_says_what_can() -> None:
    with pytest.raises(ReactorError, match="picklable function"):
        Program(SleepyBank(), executor="processes", workers=2, start_method="spawn", fast=True).start()


def test_a_process_with_threads_is_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtimes.reactor.processes.fork_is_safe", lambda: False)
    program = Program(SleepyBank, executor="processes", workers=2, fast=True)
    with program:
        assert program._executor.start_method == "spawn"  # type: ignore[union-attr]
        program.advance(2)


def test_threads_are_counted() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    try:
        assert not fork_is_safe()
    finally:
        go.set()
        thread.join()


def test_more_workers_than_members_change_nothing() -> None:
    main = partial(FanOutFanIn, 2)
    assert log_of(main, 10, executor="processes", workers=5, start_method="fork") == log_of(main, 10)


def test_one_worker_needs_no_process() -> None:
    with Program(Counter(), executor="processes", workers=1, fast=True) as program:
        program.advance(3)
        assert program.workers == 1
        assert program._executor.__class__.__name__ == "InlineExecutor"


@pytest.mark.parametrize("native", [True, False])
def test_a_board_orders_waits_and_ends_them_when_given_up(native: bool) -> None:
    handle = BoardHandle(2, 2, multiprocessing.get_context("fork"), spin=True, native=native)
    mine, theirs = handle.open(0), handle.open(1)
    assert theirs.wait(0, 1, 0.01) == TIMED_OUT
    mine.publish(0)
    mine.publish(0)
    assert theirs.wait(0, 1, 0.01) == REACHED
    assert theirs.wait(0, 2, 0.01) == REACHED
    assert theirs.wait(0, 3, 0.01) == TIMED_OUT
    mine.abort()
    assert theirs.aborted()
    assert theirs.wait(0, 3, 10.0) == ABORTED
    handle.close()


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("path", ["members[1]", "members[0]"])
def test_asking_a_reactor_that_raises_gives_its_error_and_the_program_goes_on(path: str, native: bool) -> None:
    with Program(SleepyBank, executor="processes", workers=2, start_method="fork", native=native, fast=True) as program:
        program.advance(1)
        if path == "members[1]":
            with pytest.raises(ReactorError, match=r"'nothing' of reactor 'members\[1\]' failed: AttributeError"):
                program.ask(path, "nothing")
        assert program.ask(path, "where")
        program.advance(1)


def test_asking_a_worker_that_was_killed_says_that_it_died() -> None:
    with Program(SleepyBank, executor="processes", workers=2, start_method="fork", fast=True) as program:
        program.advance(1)
        (worker,) = multiprocessing.active_children()
        os.kill(program.ask("members[1]", "where"), signal.SIGKILL)
        worker.join()
        with pytest.raises(WorkerDied, match="killed by SIGKILL"):
            program.ask("members[1]", "where")


ORPHANS = """
import os, sys, time
from runtimes.reactor import Program
from tests.reactor.reactors import SleepyBank

if __name__ == "__main__":
    program = Program(SleepyBank, executor="processes", workers=2, start_method=sys.argv[1], fast=True)
    program.start()
    program.advance(1)
    print(program.ask("members[1]", "where"), flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_a_worker_ends_when_its_caller_was_killed(start_method: str, tmp_path: Path, repository: Path) -> None:
    script = tmp_path / "orphans.py"
    script.write_text(ORPHANS, encoding="utf-8")
    command = [sys.executable, str(script), start_method]
    with subprocess.Popen(
        command, cwd=repository, env=os.environ | {"PYTHONPATH": str(repository)}, stdout=subprocess.PIPE, text=True
    ) as caller:
        assert caller.stdout is not None
        worker = int(caller.stdout.readline())
        caller.kill()
    deadline_s = time.monotonic() + 60
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline_s, "the worker outlived its caller"
        time.sleep(0.05)


def test_a_program_runs_once() -> None:
    program = Program(SleepyBank, executor="processes", workers=2, start_method="fork", fast=True)
    with program:
        program.advance(1)
        program.stop()
        with pytest.raises(ReactorError, match="has ended"):
            program.advance(1)


def test_stopping_before_the_first_tag_runs_no_reaction() -> None:
    main = Recorder(1)
    with Program(main, fast=True) as program:
        program.stop()
    assert main.ended == 0
