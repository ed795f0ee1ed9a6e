"""Programs that end before their time, and what makes them: in a module that a process imports quickly."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Never

from runtimes.reactor import (
    Input,
    LogicalAction,
    Output,
    Program,
    Reactor,
    Timer,
    Watchdog,
    ms,
    reaction,
    shutdown,
    startup,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def raise_value_error() -> Never:
    raise ValueError("three is too many")


class Unpicklable(Exception):  # noqa: N818 - for a test
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class Unloadable(Exception):  # noqa: N818 - for a test
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


class Mute(Exception):  # noqa: N818 - for a test
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raise_unpicklable() -> Never:
    raise Unpicklable


def raise_unloadable() -> Never:
    raise Unloadable(1, 2)


def raise_mute() -> Never:
    raise Mute


def leave_with_seven() -> Never:
    sys.exit(7)


def leave_with_words() -> Never:
    sys.exit("enough")


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_worker() -> None:
    multiprocessing.active_children()[0].kill()


def crash() -> None:
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def sleep_long() -> None:
    time.sleep(1000)


def sleep_a_little() -> None:
    time.sleep(0.01)


def work_for_ever() -> None:
    while True:
        pass


def deaf() -> None:
    """Never return, and let nothing interrupt it."""
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(1000)


def nothing() -> None:
    pass


class Clocked(Reactor):
    """One timer: its plan is known, and fused."""

    tick = Timer(1 * ms)

    def __init__(self, fail: Callable[[], object]) -> None:
        self.fail = fail
        self.tags = 0

    @reaction(tick)
    def act(self) -> None:
        self.tags += 1
        if self.tags == 3:
            self.fail()


class Eventful(Reactor):
    """Lives on events."""

    again = LogicalAction[None](delay_ns=1 * ms)

    def __init__(self, fail: Callable[[], object]) -> None:
        self.fail = fail
        self.tags = 0

    @reaction(startup, again, effects=[again])
    def act(self) -> None:
        self.tags += 1
        if self.tags == 3:
            self.fail()
        self.again.schedule()


class Opening(Reactor):
    """Fails as it starts up."""

    def __init__(self, fail: Callable[[], object]) -> None:
        self.fail = fail

    @reaction(startup)
    def act(self) -> None:
        self.fail()


class Closing(Reactor):
    """Fails as it shuts down."""

    def __init__(self, fail: Callable[[], object]) -> None:
        self.fail = fail

    @reaction(shutdown)
    def act(self) -> None:
        self.fail()


class Late(Reactor):
    """Fails in the handler of a deadline."""

    def __init__(self, fail: Callable[[], object]) -> None:
        self.fail = fail

    @reaction(startup, deadline_ns=0)
    def act(self) -> None:
        pass

    @act.late
    def too_late(self) -> None:
        self.fail()


class Guarded(Reactor):
    """Fails in the handler of a watchdog."""

    dog = Watchdog(1 * ms)

    def __init__(self, fail: Callable[[], object]) -> None:
        self.fail = fail

    @reaction(startup, effects=[dog])
    def open(self) -> None:
        self.dog.start()

    @dog.handler()
    def act(self) -> None:
        self.fail()


class Other(Reactor):
    """Something for the other worker."""

    @reaction(startup)
    def open(self) -> None:
        pass


class Pair(Reactor):
    """One that fails, and another."""

    def __init__(self, kind: type[Any], fail: Callable[[], object]) -> None:
        self.failing = kind(fail)
        self.other = Other()


class Build:
    """Makes a pair; it can be pickled."""

    def __init__(self, kind: type[Any], fail: Callable[[], object]) -> None:
        self.kind, self.fail = kind, fail

    def __call__(self) -> Pair:
        return Pair(self.kind, self.fail)


class Running(Reactor):
    """Runs until someone interrupts it, and would say so if it shut down."""

    tick = Timer(1 * ms)

    def __init__(self, fail: Callable[[], object]) -> None:
        self.fail = fail

    @reaction(tick)
    def act(self) -> None:
        self.fail()

    @reaction(shutdown)
    def close(self) -> None:
        sys.stdout.write("shut down\n")


class Idle(Reactor):
    def __init__(self, fail: Callable[[], object]) -> None:
        self.fail = fail

    @reaction(startup)
    def open(self) -> None:
        self.fail()

    @reaction(shutdown)
    def close(self) -> None:
        sys.stdout.write("shut down\n")


class Parcel(Reactor):
    """Sends more and more."""

    tick = Timer(1 * ms)
    parcel = Output[Any]()

    def __init__(self, amount: int) -> None:
        self.amount = amount

    @reaction(startup)
    def open(self) -> None:
        pass

    @reaction(tick, effects=[parcel])
    def send(self) -> None:
        self.amount = min(2 * self.amount, 1 << 27)
        self.parcel.set(bytearray(self.amount))


class Receiving(Reactor):
    parcel = Input[Any]()

    @reaction(parcel)
    def take(self) -> None:
        pass


class Parcels(Reactor):
    def __init__(self, amount: int) -> None:
        self.sender, self.receiver = Parcel(amount), Receiving()
        self.connect(self.sender.parcel, self.receiver.parcel)


def program_of(kind: type[Any], fail: Callable[[], object], home: int, way: dict[str, Any], **options: Any) -> Program:
    """A program whose reactor `failing` lives in worker `home`."""
    placement = {} if way["executor"] == "inline" else {"placement": {"failing": home, "other": 1 - home}}
    return Program(Build(kind, fail), **{"fast": True, **way, **placement, **options})
