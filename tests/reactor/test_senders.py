"""Physical actions from many threads and from other processes: none is lost, and nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from runtimes.reactor import (
    PhysicalAction,
    Program,
    ReactionFailed,
    Reactor,
    ReactorError,
    UndeclaredError,
    reaction,
    shutdown,
    startup,
    stop,
)
from tests.reactor.conftest import WAYS_OF_TWO

THREADS = 4
OF_A_THREAD = 1_000
PROCESSES = 2
OF_A_PROCESS = 2_000
REPOSITORY = Path(__file__).resolve().parents[2]


class Counting(Reactor):
    """Counts what arrives from each source; stops when all has come, and says whether it came in order."""

    arrived = PhysicalAction[tuple[int, int]]()

    def __init__(self, sources: int, of_each: int) -> None:
        self.sources, self.of_each = sources, of_each

    def open(self) -> None:
        self.next = [0] * self.sources
        self.total = 0
        self.in_order = True

    @reaction(arrived, effects=[stop])
    def count(self) -> None:
        source, number = self.arrived.value
        self.in_order &= number == self.next[source]
        self.next[source] = number + 1
        self.total += 1
        if self.total == self.sources * self.of_each:
            self.request_stop()

    @reaction(shutdown)
    def check(self) -> None:
        assert self.in_order
        assert self.next == [self.of_each] * self.sources


class FromThreads(Counting):
    """Starts threads that schedule."""

    @reaction(startup)
    def start(self) -> None:
        self.open()
        self.threads = [threading.Thread(target=self.produce, args=(source,)) for source in range(self.sources)]
        for thread in self.threads:
            thread.start()

    def produce(self, source: int) -> None:
        for number in range(self.of_each):
            self.arrived.schedule((source, number))

    @reaction(shutdown)
    def wait(self) -> None:
        for thread in self.threads:
            thread.join()


SEND = """
import pickle, sys
sender = pickle.load(sys.stdin.buffer)
source, amount = int(sys.argv[1]), int(sys.argv[2])
for number in range(amount):
    sender.schedule((source, number))
"""


class FromProcesses(Counting):
    """Starts processes that schedule."""

    @reaction(startup)
    def start(self) -> None:
        self.open()
        self.processes = [self.process(source) for source in range(self.sources)]

    def process(self, source: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", SEND, str(source), str(self.of_each)],
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        assert process.stdin is not None
        with process.stdin:
            process.stdin.write(pickle.dumps(self.arrived.sender()))
        return process

    @reaction(shutdown)
    def wait(self) -> None:
        assert [process.wait() for process in self.processes] == [0] * self.sources


class Resting(Reactor):
    """Something for the other worker."""

    @reaction(startup)
    def open(self) -> None:
        pass


class Pair(Reactor):
    def __init__(self, counting: Reactor) -> None:
        self.counting, self.resting = counting, Resting()


def program_of(counting: Reactor, home: int, way: dict[str, Any], **options: Any) -> Program:
    """A program whose reactor `counting` lives in worker `home`."""
    placement = {} if way["executor"] == "inline" else {"placement": {"counting": home, "resting": 1 - home}}
    return Program(Pair(counting), **{**way, **placement, **options})


def left() -> list[str]:
    """Threads and sockets of this process; without what earlier tests have left to the garbage collector."""
    gc.collect()
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sorted(
        [t.name for t in threading.enumerate()] + [link for link in links if "socket" in link or "pipe" in link]
    )


def test_none_of_a_hundred_thousand_concurrent_schedules_is_lost_and_each_thread_keeps_its_order() -> None:
    program_of(FromThreads(THREADS, 100_000 // THREADS), 1, WAYS_OF_TWO["processes"]).run()


@pytest.mark.parametrize("fast", [True, False])
def test_none_of_some_concurrent_schedules_is_lost_on_any_executor(
    home: int, way_of_two: dict[str, Any], fast: bool
) -> None:
    program_of(FromThreads(THREADS, OF_A_THREAD), home, way_of_two, fast=fast).run()


def test_what_other_processes_schedule_arrives_all_of_it_and_in_the_order_of_each(
    home: int, way_of_two: dict[str, Any]
) -> None:
    before = left()
    program_of(FromProcesses(PROCESSES, OF_A_PROCESS), home, way_of_two).run()
    assert left() == before


class Handing(Reactor):
    """Gives a sender to whoever asks."""

    arrived = PhysicalAction[Any]()

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @reaction(arrived, effects=[stop])
    def hear(self) -> None:
        self.heard.append(self.arrived.value)
        self.request_stop()


def test_a_sender_may_be_forked_along() -> None:
    main = Handing()
    with Program(main, executor="inline") as program:
        sender = main.arrived.sender()
        child = os.fork()
        if not child:
            sender.schedule("from a child")
            os._exit(0)
        while not program.ended:
            program.advance(1)
        assert os.waitpid(child, 0)[1] == 0
    assert main.heard == ["from a child"]


def test_a_sender_says_that_the_program_has_ended() -> None:
    main = Handing()
    before = left()
    with Program(main, executor="inline"):
        first, second = main.arrived.sender(), pickle.loads(pickle.dumps(main.arrived.sender()))
        first.schedule("before")
    for sender in (first, second):
        with pytest.raises(ReactorError, match=r"'arrived' cannot be scheduled: its program has ended\."):
            sender.schedule("too late")
    first.close()
    assert left() == before


def test_there_is_no_sender_before_the_program_runs() -> None:
    with pytest.raises(UndeclaredError, match="the program does not run"):
        Handing().arrived.sender()


def test_a_sender_refuses_what_cannot_be_sent() -> None:
    main = Handing()
    with Program(main, executor="inline"):
        sender = main.arrived.sender()
        with pytest.raises(ReactorError, match="cannot be scheduled with what cannot be pickled: TypeError"):
            sender.schedule(threading.Lock())
        with pytest.raises(ValueError, match="Give a delay of 0 ns or more"):
            sender.schedule(1, delay_ns=-1)


def test_what_is_scheduled_between_the_start_and_the_first_tag_is_not_lost(way_of_two: dict[str, Any]) -> None:
    main = Handing()
    with program_of(main, 0, way_of_two) as program:
        main.arrived.schedule("early")
        while not program.ended:
            program.advance(1)
    assert main.heard == ["early"]


class Broken:
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _fail, ()


def _fail() -> None:
    raise RuntimeError("not here")


def test_a_value_that_cannot_be_unpickled_ends_the_program_and_names_the_action() -> None:
    main = Handing()
    with Program(main, executor="inline") as program:
        main.arrived.sender().schedule(Broken())
        with pytest.raises(ReactionFailed, match=r"'arrived' failed .*RuntimeError: not here"):
            program.advance(2)


def test_who_does_not_know_the_key_is_not_listened_to() -> None:
    from runtimes.reactor.senders import Sender

    main = Handing()
    with Program(main, executor="inline") as program:
        known = main.arrived.sender()
        stranger = Sender("arrived", known._address, b"a guess")
        with contextlib.suppress(ReactorError):  # it may hear already that nobody listens
            stranger.schedule("from a stranger")
        known.schedule("from a friend")
        while not program.ended:
            program.advance(1)
    assert main.heard == ["from a friend"]
