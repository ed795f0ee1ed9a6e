"""How programs end that do not end of themselves, and how they stop between two tags and go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from runtimes.reactor import (
    LogicalAction,
    Program,
    ReactionFailed,
    Reactor,
    ReactorError,
    Timer,
    UndeclaredError,
    ms,
    reaction,
    shutdown,
    startup,
)
from tests.reactor.conftest import run_on
from tests.reactor.lines import lines_of_trace
from tests.reactor.programs import Counter, Crossing, Farewell, PingPong, Pipeline, Sieve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Raiser(Reactor):
    """Raises something at its third tick."""

    tick = Timer(1 * ms)

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.ticks = 0

    @reaction(tick)
    def go(self) -> None:
        self.ticks += 1
        if self.ticks == 3:
            raise self.error


class Raising(Reactor):
    """Somebody who raises, next to others."""

    def __init__(self, error: BaseException) -> None:
        self.counter, self.raiser, self.farewell = Counter(), Raiser(error), Farewell()


def elsewhere(way: dict[str, Any], path: str) -> dict[str, int] | None:
    """Let the reactor at `path` live in a worker of its own, where there are workers."""
    return {path: 1} if "workers" in way else None


@pytest.mark.parametrize("home", ["raiser", "counter"])
def test_an_exception_ends_the_program_and_names_reactor_reaction_and_tag(way: dict[str, Any], home: str) -> None:
    program = Program(partial(Raising, ValueError("three")), fast=True, placement=elsewhere(way, home), **way)
    with pytest.raises(
        ReactionFailed, match=r"Reaction 'raiser\.go' failed at tag \(2000000 ns, 0\): ValueError: three"
    ) as failure:
        program.run(10 * ms)
    assert (failure.value.reactor, failure.value.reaction, failure.value.tag) == ("raiser", "go", (2 * ms, 0))


@pytest.mark.parametrize("home", ["raiser", "counter"])
@pytest.mark.parametrize("code", [0, 3, None, "a reason"])
def test_system_exit_in_a_reaction_gives_the_program_its_code(way: dict[str, Any], home: str, code: Any) -> None:
    program = Program(partial(Raising, SystemExit(code)), fast=True, placement=elsewhere(way, home), **way)
    with pytest.raises(SystemExit) as end:
        program.run(10 * ms)
    assert end.value.code == code


INTERRUPTED = """
import sys
from runtimes.reactor import Program, Reactor, Timer, ms, reaction, shutdown, startup
from tests.reactor.programs import Counter

class Loud(Reactor):
    tick = Timer(5 * ms)

    @reaction(startup)
    def begin(self) -> None:
        print("started", flush=True)

    @reaction(tick)
    def go(self) -> None:
        pass

    @reaction(shutdown)
    def end(self) -> None:
        print("shut down", flush=True)

class Main(Reactor):
    def __init__(self) -> None:
        self.counter, self.loud = Counter(5 * ms), Loud()

if __name__ == "__main__":
    workers = 1 if sys.argv[1] == "inline" else 2
    Program(Main, executor=sys.argv[1], workers=workers, placement={"loud": 1} if workers > 1 else None).run()
"""


@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
def test_an_interrupt_from_the_keyboard_ends_the_program_without_shutdown_reactions(
    executor: str, tmp_path: Path, repository: Path
) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(repository)}
    with subprocess.Popen(
        [sys.executable, str(script), executor],
        cwd=repository,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "started\n"
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to all of its processes
        out, error = program.communicate(timeout=60)
    assert "shut down" not in out
    assert "KeyboardInterrupt" in error
    assert program.returncode not in {0, None}


@pytest.mark.parametrize("make", [Pipeline, Sieve, Crossing, PingPong])
def test_a_program_that_stops_at_tag_boundaries_and_goes_on_has_the_trace_of_one_that_does_not(
    way: dict[str, Any], make: Callable[[], Reactor]
) -> None:
    whole = run_on(way, make, timeout_ns=60 * ms)
    program = Program(make, fast=True, recording=True, **way)
    with program:
        ends_ns = [program.advance(tags) for tags in (1, 2, 1, 3)]
        program.stop()
        pieces = lines_of_trace(program.trace().steps)
    assert (np.diff(np.concatenate(ends_ns)) >= 0).all()
    stopped_at = max((line.time_ns, line.microstep) for line in pieces)
    assert [line for line in whole if (line.time_ns, line.microstep) <= stopped_at] == pieces


class Diary(Reactor):
    """Can be asked what happened."""

    tick = Timer(1 * ms)

    def __init__(self) -> None:
        self.pages: list[str] = []

    @reaction(startup)
    def begin(self) -> None:
        self.pages.append("startup")

    @reaction(tick)
    def go(self) -> None:
        self.pages.append(str(self.tag))

    @reaction(shutdown)
    def end(self) -> None:
        self.pages.append("shutdown")

    def read(self) -> list[str]:
        return self.pages


class Library(Reactor):
    """A diary that is kept elsewhere."""

    def __init__(self) -> None:
        self.counter, self.diary = Counter(), Diary()


def test_a_reactor_can_be_asked_between_tags_wherever_it_lives(way: dict[str, Any]) -> None:
    with Program(Library, fast=True, placement=elsewhere(way, "diary"), **way) as program:
        program.advance(2)
        assert program.ask("diary", "read") == ["startup", "(0 ns, 0)", "(1000000 ns, 0)"]
        program.advance(1)
        assert program.ask("diary", "read")[-1] == "(2000000 ns, 0)"


class Once(Reactor):
    """Acts at one millisecond, never again, and says what it knows of the tag that was last."""

    waited = LogicalAction[None](delay_ns=1 * ms)

    @reaction(startup, effects=[waited])
    def begin(self) -> None:
        self.waited.schedule()

    @reaction(waited)
    def act(self) -> None:
        pass

    def present(self) -> tuple[str, bool]:
        return str(self.tag), self.waited.is_present

    def break_a_rule(self) -> None:
        self.request_stop()

    def fail(self) -> None:
        raise ValueError("with this")


class OnceAndOften(Reactor):
    """Two of whom one does nothing in most tags."""

    def __init__(self) -> None:
        self.once, self.often = Once(), Counter()


@pytest.mark.parametrize("home", ["once", "often"])
def test_who_is_asked_knows_the_last_tag_though_nothing_happened_there_then(way: dict[str, Any], home: str) -> None:
    with Program(OnceAndOften, fast=True, placement=elsewhere(way, home), **way) as program:
        assert program.ask("once", "present") == ("(0 ns, 0)", False)
        program.advance(2)
        assert program.ask("once", "present") == ("(1000000 ns, 0)", True)
        program.advance(2)
        assert program.ask("once", "present") == ("(3000000 ns, 0)", False)


@pytest.mark.parametrize("home", ["once", "often"])
def test_what_a_method_raises_that_is_asked_for_is_told_alike_wherever_it_lives(way: dict[str, Any], home: str) -> None:
    with Program(OnceAndOften, fast=True, placement=elsewhere(way, home), **way) as program:
        program.advance(1)
        with pytest.raises(ReactorError, match=r"^'fail' of reactor 'once' failed: ValueError: with this$"):
            program.ask("once", "fail")
        with pytest.raises(UndeclaredError, match="requests a stop but does not declare it"):
            program.ask("once", "break_a_rule")
        assert program.advance(2).size == 2
