"""What ends a program before its time: each is named, takes little time, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from runtimes.reactor import (
    AssemblyError,
    Input,
    Output,
    Program,
    ReactionFailed,
    ReactionStuck,
    Reactor,
    ReactorError,
    Timer,
    WorkerDied,
    ms,
    reaction,
    s,
)
from tests.reactor.conftest import WAYS_OF_TWO
from tests.reactor.failing_programs import (
    Build,
    Clocked,
    Closing,
    Eventful,
    Guarded,
    Late,
    Opening,
    crash,
    kill_me,
    kill_worker,
    leave_with_seven,
    leave_with_words,
    program_of,
    raise_mute,
    raise_unloadable,
    raise_unpicklable,
    raise_value_error,
    sleep_a_little,
    sleep_long,
    work_for_ever,
)
from tests.semaphores import semaphores_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPAWN: dict[str, Any] = {"executor": "processes", "workers": 2, "start_method": "spawn"}
GUARD_S = 60.0
"""A hang is what fails here, not a slow machine."""

pytestmark = pytest.mark.usefixtures("nothing_is_left")

KINDS: list[type[Any]] = [Clocked, Eventful, Opening, Closing, Late, Guarded]


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_ends_the_program_and_names_reactor_reaction_and_tag(
    kind: type[Any], home: int, way_of_two: dict[str, Any]
) -> None:
    program = program_of(kind, raise_value_error, home, way_of_two, keepalive=kind is Guarded)
    with pytest.raises(
        ReactionFailed, match=r"^Reaction 'failing\.act' failed at tag \(\d+ ns, \d+\): ValueError: three is too many"
    ) as failure:
        program.run(2 * ms if kind is not Guarded else 1000 * s)
    if home and way_of_two["executor"] == "processes":
        assert "in raise_value_error" in failure.value.remote_traceback
    else:
        assert isinstance(failure.value.__cause__, ValueError)


def test_failures_of_spawned_workers_are_told_like_others() -> None:
    with pytest.raises(ReactionFailed, match=r"'failing\.act' failed .* ValueError: three") as failure:
        program_of(Clocked, raise_value_error, 1, SPAWN).run(10 * ms)
    assert "in raise_value_error" in failure.value.remote_traceback
    with pytest.raises(SystemExit) as leaving:
        program_of(Eventful, leave_with_seven, 1, SPAWN).run(10 * ms)
    assert leaving.value.code == 7


@pytest.mark.parametrize(
    ("fail", "said"),
    [
        (raise_unpicklable, "Unpicklable: holds a lock"),
        (raise_unloadable, "Unloadable: 1 and 2"),
        (raise_mute, "Mute (its message cannot be had: __str__ raised RuntimeError)"),
    ],
)
def test_an_exception_that_does_not_travel_is_told_all_the_same(
    fail: Callable[[], object], said: str, home: int, way_of_two: dict[str, Any]
) -> None:
    with pytest.raises(ReactionFailed, match=re.escape(said)):
        program_of(Clocked, fail, home, way_of_two).run(10 * ms)


@pytest.mark.parametrize(
    ("kind", "leave", "code"), [(Clocked, leave_with_words, "enough"), *((kind, leave_with_seven, 7) for kind in KINDS)]
)
def test_system_exit_in_a_reaction_gives_the_program_its_code(
    kind: type[Any], leave: Callable[[], object], code: object, home: int, way_of_two: dict[str, Any]
) -> None:
    program = program_of(kind, leave, home, way_of_two, keepalive=kind is Guarded)
    with pytest.raises(SystemExit) as leaving:
        program.run(2 * ms if kind is not Guarded else 1000 * s)
    assert leaving.value.code == code


def test_a_program_that_failed_can_be_drawn_but_not_run_again() -> None:
    program = Program(Build(Clocked, raise_value_error), executor="inline", fast=True)
    with pytest.raises(ReactionFailed):
        program.run()
    assert "failing" in program.diagram().dot
    with pytest.raises(ReactorError, match="A program runs once"):
        program.run()


class Locks(Reactor):
    """Sends what cannot be pickled."""

    tick = Timer(1 * ms)
    lock = Output[Any]()

    @reaction(tick, effects=[lock])
    def send(self) -> None:
        self.lock.set(threading.Lock())


class Keeper(Reactor):
    lock = Input[Any]()

    @reaction(lock)
    def keep(self) -> None:
        pass


class Locksmith(Reactor):
    def __init__(self) -> None:
        self.locks, self.keeper = Locks(), Keeper()
        self.connect(self.locks.lock, self.keeper.lock)


@pytest.mark.parametrize("home", [0, 1])
@pytest.mark.parametrize("fast", [True, False])
def test_a_value_that_cannot_be_sent_to_another_process_names_port_and_reaction(home: int, fast: bool) -> None:
    placement = {"locks": home, "keeper": 1 - home}
    program = Program(Locksmith, executor="processes", workers=2, start_method="fork", placement=placement, fast=fast)
    with pytest.raises(
        ReactionFailed, match=r"'locks\.send' failed .*TypeError: cannot pickle.*What 'locks\.lock' sends"
    ):
        program.run(10 * ms)


class Sealed:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("sealed for good")


class Sealing(Reactor):
    """Sends what cannot be unpickled."""

    tick = Timer(1 * ms)
    sealed = Output[Any]()

    @reaction(tick, effects=[sealed])
    def send(self) -> None:
        self.sealed.set(Sealed())


class Sealer(Reactor):
    def __init__(self) -> None:
        self.sealing, self.keeper = Sealing(), Keeper()
        self.connect(self.sealing.sealed, self.keeper.lock)


@pytest.mark.parametrize("home", [0, 1])
@pytest.mark.parametrize("fast", [True, False])
def test_a_value_that_cannot_be_opened_in_another_process_names_port_and_reaction(home: int, fast: bool) -> None:
    placement = {"sealing": home, "keeper": 1 - home}
    program = Program(Sealer, executor="processes", workers=2, start_method="fork", placement=placement, fast=fast)
    with pytest.raises(
        ReactionFailed, match=r"'sealing\.send' failed .*RuntimeError: sealed for good.*What 'sealing\.sealed' has sent"
    ):
        program.run(10 * ms)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("die", "name"), [(kill_me, "SIGKILL"), (crash, "SIGSEGV")])
def test_a_worker_that_dies_in_a_reaction_ends_the_program(
    die: Callable[[], object], name: str, start_method: str, native: bool
) -> None:
    way = {"executor": "processes", "workers": 2, "start_method": start_method, "native": native}
    with pytest.raises(WorkerDied, match=rf"Worker 1 .*home of failing.* was killed by {name} at tag"):
        program_of(Clocked, die, 1, way).run()


@pytest.mark.parametrize("fast", [True, False])
def test_a_worker_killed_while_the_caller_waits_for_time_or_events_ends_the_program(fast: bool) -> None:
    way = {"executor": "processes", "workers": 2, "start_method": "fork"}
    program = program_of(Opening, int, 1, way, keepalive=True, fast=fast)
    killer = threading.Timer(0.3, kill_worker)
    with program:
        killer.start()
        with pytest.raises(WorkerDied, match="killed by SIGKILL"):
            program.advance(10)
    killer.join()


# The watch time


@pytest.mark.parametrize("fail", [sleep_long, work_for_ever])
@pytest.mark.parametrize("kind", [Clocked, Eventful, Late])
def test_a_reaction_that_never_returns_is_named_and_ends_the_program(
    kind: type[Any], fail: Callable[[], object], home: int, way_of_two: dict[str, Any]
) -> None:
    if home and way_of_two["executor"] == "threads":
        pytest.skip("the thread cannot be ended: the test below runs in a process of its own")
    began_s = time.monotonic()
    with pytest.raises(
        ReactionStuck, match=r"^Reaction 'failing\.act' has not returned for [\d.]+ s at tag \(\d+ ns, \d+\)\."
    ) as stuck:
        program_of(kind, fail, home, way_of_two, watch_s=0.2).run()
    assert stuck.value.running_s >= 0.2
    assert time.monotonic() - began_s < GUARD_S
    if home:
        assert "Worker 1 (process" in str(stuck.value)


def test_the_message_says_who_waits_for_which_port() -> None:
    program = Program(
        Chain, executor="processes", workers=2, start_method="fork", placement={"slow": 1}, fast=True, watch_s=0.2
    )
    with pytest.raises(ReactionStuck, match=r"'sink\.take' in worker 0 waits for 'slow\.out'\."):
        program.run()


class Slow(Reactor):
    tick = Timer(1 * ms)
    out = Output[int]()

    @reaction(tick, effects=[out])
    def make(self) -> None:
        time.sleep(1000)


class Sink(Reactor):
    taken = Input[int]()

    @reaction(taken)
    def take(self) -> None:
        pass


class Chain(Reactor):
    def __init__(self) -> None:
        self.slow, self.sink = Slow(), Sink()
        self.connect(self.slow.out, self.sink.taken)


def test_reactions_that_return_in_time_are_left_alone(way_of_two: dict[str, Any]) -> None:
    program_of(Clocked, sleep_a_little, 0, way_of_two, watch_s=30.0).run(20 * ms)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("watch_s", [0, -1.0])
def test_a_watch_time_that_is_not_positive_is_an_error(watch_s: float) -> None:
    with pytest.raises(AssemblyError, match="Give more than 0 seconds"):
        Program(Chain, watch_s=watch_s)


# In a process of its own


ALONE = """
import gc, json, os, sys, time
from multiprocessing import resource_tracker
from tests.reactor import failing_programs as here
from tests.semaphores import named_after_this_process

if __name__ == "__main__":
    kind, fail, home, way, options = json.loads(sys.argv[1])
    resource_tracker.ensure_running()  # it stays until the process ends
    program = here.program_of(getattr(here, kind), getattr(here, fail), home, way, **options)
    descriptors = len(os.listdir("/proc/self/fd"))
    try:
        with named_after_this_process():
            print("ready", flush=True)
            program.run()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
    del program
    gc.collect()  # the exception held the frames it came through
    print(len(os.listdir("/proc/self/fd")) - descriptors, "descriptors")
"""


def run_alone(  # noqa: PLR0913, PLR0917 - a program, and where it runs
    tmp_path: Path, repository: Path, kind: str, fail: str, home: int, way: dict[str, Any], **options: Any
) -> subprocess.Popen[str]:
    """Start a program in a session of its own."""
    script = tmp_path / "alone.py"
    script.write_text(ALONE, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, str(script), json.dumps([kind, fail, home, way, options])],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def all_ended(group: int) -> bool:
    """Whether no process of a session lives any more."""
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return False
        except (psutil.Error, OSError):
            continue
    return True


def wait_until_all_ended(group: int) -> None:
    """The same, and no semaphore has its name any more."""
    deadline_s = time.monotonic() + GUARD_S
    while not all_ended(group):
        assert time.monotonic() < deadline_s, "a process outlived its program"
        time.sleep(0.02)
    assert semaphores_of(group) == set()


def test_a_thread_that_never_returns_is_named_and_left_to_the_end_of_the_process(
    tmp_path: Path, repository: Path
) -> None:
    with run_alone(tmp_path, repository, "Clocked", "sleep_long", 1, WAYS_OF_TWO["threads"], watch_s=0.2) as process:
        said, complained = process.communicate(timeout=GUARD_S)
    assert "ReactionStuck: Reaction 'failing.act' has not returned" in said
    assert "Thread 'reactor-worker-1', where it runs, cannot be ended" in said
    assert complained == ""


def test_a_caller_that_cannot_be_interrupted_ends_with_a_message(tmp_path: Path, repository: Path) -> None:
    with run_alone(tmp_path, repository, "Clocked", "deaf", 0, WAYS_OF_TWO["processes"], watch_s=0.2) as process:
        _, complained = process.communicate(timeout=GUARD_S)
    assert process.returncode == 1
    assert "Reaction 'failing.act' has not returned" in complained
    assert "It could not be interrupted, so the process ends." in complained
    wait_until_all_ended(process.pid)


LOOPS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a fast loop": ("Running", "nothing", {"fast": True}),
    "a timed wait": ("Running", "nothing", {"fast": False}),
    "an empty queue": ("Idle", "nothing", {"fast": True, "keepalive": True}),
    "a long reaction": ("Running", "sleep_long", {"fast": True}),
    "a watched reaction": ("Running", "sleep_long", {"fast": True, "watch_s": 1000}),
}


@pytest.mark.parametrize(
    ("how", "loop", "whole_group"),
    [
        *((how, loop, False) for how in ("inline", "threads", "processes") for loop in LOOPS),
        *(("processes", loop, True) for loop in LOOPS),
        ("spawn", "a fast loop", True),
    ],
)
def test_ctrl_c_ends_the_program_without_shutdown_reactions(
    how: str, loop: str, whole_group: bool, tmp_path: Path, repository: Path
) -> None:
    kind, fail, options = LOOPS[loop]
    with run_alone(tmp_path, repository, kind, fail, 0, (WAYS_OF_TWO | {"spawn": SPAWN})[how], **options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.0 if how == "spawn" else 0.3)
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
        said, complained = process.communicate(timeout=GUARD_S)
    assert said.splitlines() == ["KeyboardInterrupt: ", "0 descriptors"]
    assert complained == ""
    wait_until_all_ended(process.pid)


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_ctrl_c_while_workers_are_started_leaves_none(start_method: str, tmp_path: Path, repository: Path) -> None:
    way = {"executor": "processes", "workers": 4, "start_method": start_method}
    for delay_s in (0.0, 0.003, 0.01, 0.03, 0.1):
        with run_alone(tmp_path, repository, "Running", "nothing", 0, way) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(delay_s)
            os.killpg(process.pid, signal.SIGINT)
            said, complained = process.communicate(timeout=GUARD_S)
        assert "KeyboardInterrupt" in said
        assert "shut down" not in said
        assert complained == ""
        wait_until_all_ended(process.pid)


@pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])
def test_workers_in_a_long_wait_end_when_the_caller_is_killed(
    start_method: str, tmp_path: Path, repository: Path
) -> None:
    way = {"executor": "processes", "workers": 3, "start_method": start_method}
    with run_alone(tmp_path, repository, "Idle", "nothing", 0, way, keepalive=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.0)
        process.kill()
    wait_until_all_ended(process.pid)


# Shared memory


SHORT = """
import resource, sys
import psutil
from runtimes.reactor import Program
from tests.reactor import failing_programs as here

if __name__ == "__main__":
    limit, amount, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    which = {"file": resource.RLIMIT_FSIZE, "address": resource.RLIMIT_AS, "open": resource.RLIMIT_NOFILE}[how]
    if how == "address":
        limit += psutil.Process().memory_info().vms
    resource.setrlimit(which, (limit, limit))
    try:
        Program(
            lambda: here.Parcels(amount), executor="processes", workers=2, start_method="fork",
            native=sys.argv[4] == "native", fast=True,
            placement={"sender": int(sys.argv[5]), "receiver": 1 - int(sys.argv[5])},
        ).run(50_000_000)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
"""


def run_short(tmp_path: Path, repository: Path, *arguments: object) -> str:
    """What a program says that has less than it wants."""
    script = tmp_path / "short.py"
    script.write_text(SHORT, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=repository,
        env=os.environ | {"PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": "1", "COVERAGE_PROCESS_START": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        said, _ = process.communicate(timeout=GUARD_S)
    wait_until_all_ended(process.pid)
    return said


@pytest.mark.parametrize("home", [0, 1])
def test_values_that_outgrow_the_limit_of_files_say_how_much_was_wanted_for_what(
    home: int, tmp_path: Path, repository: Path
) -> None:
    said = run_short(tmp_path, repository, 4 << 20, 1 << 10, "file", "native", home)
    assert re.match(
        rf"OutOfSharedMemory: \d+ bytes of shared memory were wanted for values that worker {home} sends: "
        r"File too large\. "
        r"Raise the limit of the size of files \(ulimit -f\)",
        said,
    )


def test_too_little_address_space_says_how_much_was_wanted(tmp_path: Path, repository: Path) -> None:
    said = run_short(tmp_path, repository, 300 << 20, 1 << 16, "address", "native", 0)
    shared = (
        r"OutOfSharedMemory: \d+ bytes of shared memory were wanted for .*: Cannot allocate memory\. Use fewer workers"
    )
    private = r"ReactionFailed: Reaction 'sender\.send' failed at tag \(\d+ ns, 0\): MemoryError"
    assert re.match(f"{shared}|{private}", said)


def test_no_room_for_semaphores_says_so(tmp_path: Path, repository: Path) -> None:
    said = run_short(tmp_path, repository, 0, 1, "file", "semaphores", 0)
    assert re.match(r"OutOfSharedMemory: \d+ bytes of shared memory were wanted for", said)


def test_too_few_descriptors_say_so(tmp_path: Path, repository: Path) -> None:
    said = run_short(tmp_path, repository, 5, 1, "open", "native", 0)
    assert re.match(r"OutOfSharedMemory: .* Too many open files\. Raise the limit of open files", said)


def test_more_memory_than_there_is_is_refused_before_it_is_taken() -> None:
    from runtimes.reactor import OutOfSharedMemory
    from runtimes.reactor.memory import Segment

    with pytest.raises(OutOfSharedMemory, match=r"^1125899906842624 bytes of shared memory were wanted for a test: "):
        Segment(1 << 50, purpose="a test")
    segment = Segment(1, purpose="a test")
    with pytest.raises(OutOfSharedMemory, match="Use fewer workers or smaller values"):
        segment.grow(1 << 50)
    segment.memory[0] = 1  # what was there is still there
    segment.close()
