"""What a reaction did not declare is an error at once, and so is what comes too early or too late."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtimes.reactor import (
    Input,
    LogicalAction,
    Mode,
    Output,
    Program,
    ReactionFailed,
    Reactor,
    ReactorError,
    UndeclaredError,
    Watchdog,
    reaction,
    startup,
)
from tests.reactor.reactors import Counter, Scale


class OtherPort(Reactor):
    said = Output[int]()

    @reaction(startup, effects=[said])
    def allowed(self) -> None:
        self.said.set(1)

    @reaction(startup)
    def begin(self) -> None:
        self.said.set(1)


class OtherChannel(Reactor):
    said = Output[int](width=2)
    array = Output[Any](shape=(2,))

    @reaction(startup, effects=[said, array])
    def allowed(self) -> None:
        self.said.set(1, 1)

    @reaction(startup, effects=[said])
    def begin(self) -> None:
        self.array.array()[...] = 1


class OtherAction(Reactor):
    planned = LogicalAction[int]()

    @reaction(planned)
    def begin_later(self) -> None:
        pass

    @reaction(startup, sources=[planned])
    def begin(self) -> None:
        self.planned.schedule(1)


class OtherInput(Reactor):
    heard = Input[int]()

    @reaction(heard)
    def allowed(self) -> None:
        pass

    @reaction(startup)
    def begin(self) -> None:
        self.heard.get()


class OtherMode(Reactor):
    one = Mode(initial=True)
    two = Mode()

    @reaction(startup, mode=two, effects=[one, two])
    def allowed(self) -> None:
        pass

    @reaction(startup)
    def begin(self) -> None:
        self.two.reset()


class OtherStop(Reactor):
    @reaction(startup)
    def begin(self) -> None:
        self.request_stop()


class OtherWatchdog(Reactor):
    dog = Watchdog(1)

    @dog.handler()
    def bark(self) -> None:
        pass

    @reaction(startup)
    def begin(self) -> None:
        self.dog.start()


class Inside(Reactor):
    """The other kinds, in another worker than the caller's."""

    def __init__(self, kind: type[Reactor]) -> None:
        self.first, self.second = Counter(), kind()


KINDS = [OtherPort, OtherChannel, OtherAction, OtherInput, OtherMode, OtherStop, OtherWatchdog]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_reaction_did_not_declare_is_an_error_at_once(kind: type[Reactor]) -> None:
    with pytest.raises(
        ReactionFailed, match=r"'begin' failed at tag \(0 ns, 0\): UndeclaredError: .*[Nn]ame"
    ) as failure:
        Program(kind(), fast=True).run(0)
    assert isinstance(failure.value.__cause__, UndeclaredError)


@pytest.mark.parametrize("kind", KINDS)
def test_so_it_is_in_a_worker(kind: type[Reactor], way: dict[str, Any]) -> None:
    placement = {"second": 1} if "workers" in way else None
    program = Program(Inside(kind), fast=True, placement=placement, **way)
    with pytest.raises(ReactionFailed, match=r"'second\.begin' failed at tag \(0 ns, 0\): UndeclaredError: "):
        program.run(0)


def test_a_port_that_no_reaction_names_cannot_be_used() -> None:
    class Main(Reactor):
        said = Output[int]()

        @reaction(startup)
        def begin(self) -> None:
            self.said.set(1)

    with pytest.raises(ReactorError, match=r"UndeclaredError.*effect"):
        Program(Main(), fast=True).run(0)


def test_a_port_cannot_be_used_before_the_program_runs() -> None:
    with pytest.raises(UndeclaredError, match=r"count' is an effect of no reaction, or the program does not run"):
        Counter().count.set(1)
    with pytest.raises(UndeclaredError, match=r"number' is read by no reaction, or the program does not run"):
        _ = Scale(0).number.value


def test_an_output_that_declares_no_array_cannot_be_filled() -> None:
    class Main(Reactor):
        said = Output[int]()

        @reaction(startup, effects=[said])
        def begin(self) -> None:
            self.said.array()

    with pytest.raises(ReactorError, match="TypeError: This output declares no array"):
        Program(Main(), fast=True).run(0)


@pytest.mark.parametrize("value", [np.zeros(3), np.zeros(2, "int64"), 1.0, [1.0, 2.0]])
def test_an_array_of_another_shape_or_dtype_is_not_accepted(value: Any) -> None:
    class Main(Reactor):
        said = Output[Any](shape=(2,))

        @reaction(startup, effects=[said])
        def begin(self) -> None:
            self.said.set(value)

    if isinstance(value, list):
        Program(Main(), fast=True).run(0)  # a list of floats is such an array
    else:
        with pytest.raises(ReactorError, match="ValueError"):
            Program(Main(), fast=True).run(0)


def test_a_program_is_started_once() -> None:
    program = Program(Counter(), fast=True)
    with pytest.raises(ReactorError, match="not been started"):
        program.advance(1)
    program.start()
    with pytest.raises(ReactorError, match="started already"):
        program.start()
    with pytest.raises(ReactorError, match="Known: "):
        program.ask("nobody", "read")
    program.close()


def test_a_negative_timeout_is_an_error() -> None:
    with pytest.raises(ReactorError, match="timeout of -1 ns"):
        Program(Counter()).run(-1)
