"""The programs of `reactor_programs` that `against-xronos` compares, written for xronos: same reactors, same work.

xronos knows neither banks nor multiports, so a gather is a reaction with one trigger for each channel.
Imports xronos, which is an extra of this project.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import xronos
import xronos.experimental

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Chain", "Fan", "Judged", "PingPong"]

PERIOD = timedelta(milliseconds=1)


class Source(xronos.Reactor):
    """Sends the number of the tag."""

    tick = xronos.PeriodicTimerDeclaration(period=PERIOD)
    number = xronos.OutputPortDeclaration[int]()

    def __init__(self) -> None:
        super().__init__()
        self.next = 0

    @xronos.reaction
    def send(self, context: xronos.ReactionContext) -> Callable[[], None]:
        """Send the next number."""
        context.add_trigger(self.tick)
        number = context.add_effect(self.number)

        def handle() -> None:
            number.set(self.next)
            self.next += 1

        return handle


class Relay(xronos.Reactor):
    """Passes a number on, one larger."""

    arrived = xronos.InputPortDeclaration[int]()
    passed = xronos.OutputPortDeclaration[int]()

    @xronos.reaction
    def relay(self, context: xronos.ReactionContext) -> Callable[[], None]:
        """Pass it on."""
        arrived = context.add_trigger(self.arrived)
        passed = context.add_effect(self.passed)

        def handle() -> None:
            passed.set(arrived.get() + 1)

        return handle


class Sink(xronos.Reactor):
    """Keeps the last number."""

    arrived = xronos.InputPortDeclaration[int]()

    def __init__(self) -> None:
        super().__init__()
        self.last = -1

    @xronos.reaction
    def keep(self, context: xronos.ReactionContext) -> Callable[[], None]:
        """Keep it."""
        arrived = context.add_trigger(self.arrived)

        def handle() -> None:
            self.last = arrived.get()

        return handle

    def answer(self) -> int:
        """The last number."""
        return self.last


class Sum(xronos.Reactor):
    """Adds up what arrives on all channels in a tag."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.arrived = [xronos.experimental.InputPort[int](f"arrived{channel}", self) for channel in range(width)]
        self.total = 0

    @xronos.reaction
    def add_up(self, context: xronos.ReactionContext) -> Callable[[], None]:
        """Add the numbers up."""
        arrived = [context.add_trigger(port) for port in self.arrived]

        def handle() -> None:
            self.total = sum([channel.get() for channel in arrived])

        return handle

    def answer(self) -> int:
        """The sum of the last tag."""
        return self.total


class Ping(xronos.Reactor):
    """Serves a number, and sends back what comes back."""

    returned = xronos.InputPortDeclaration[int]()
    ball = xronos.OutputPortDeclaration[int]()

    def __init__(self) -> None:
        super().__init__()
        self.last = 0

    @xronos.reaction
    def serve(self, context: xronos.ReactionContext) -> Callable[[], None]:
        """Begin with 0."""
        context.add_trigger(self.startup)
        ball = context.add_effect(self.ball)
        return lambda: ball.set(0)

    @xronos.reaction
    def hit(self, context: xronos.ReactionContext) -> Callable[[], None]:
        """Send it back."""
        returned = context.add_trigger(self.returned)
        ball = context.add_effect(self.ball)

        def handle() -> None:
            self.last = returned.get()
            ball.set(self.last)

        return handle

    def answer(self) -> int:
        """How often the ball has come back."""
        return self.last


class Judged(xronos.Reactor):
    """A program, one reactor of which can say what it has computed."""

    judge: Sink | Sum | Ping


class Chain(Judged):
    """A source, relays one after the other, a sink."""

    def __init__(self, length: int) -> None:
        super().__init__()
        source = self.create_reactor("source", Source)
        relays = [self.create_reactor(f"relay{number}", Relay) for number in range(length)]
        self.judge = self.create_reactor("sink", Sink)
        port = source.number
        for relay in relays:
            self.connect(port, relay.arrived)
            port = relay.passed
        self.connect(port, self.judge.arrived)


class Fan(Judged):
    """A source to relays side by side, and all of them to a sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        source = self.create_reactor("source", Source)
        self.judge = self.create_reactor("sum", Sum, width)
        for channel in range(width):
            relay = self.create_reactor(f"relay{channel}", Relay)
            self.connect(source.number, relay.arrived)
            self.connect(relay.passed, self.judge.arrived[channel])


class PingPong(Judged):
    """A number back and forth, once a tag."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = self.create_reactor("ping", Ping)
        pong = self.create_reactor("pong", Relay)
        self.connect(self.judge.ball, pong.arrived)
        self.connect(pong.passed, self.judge.returned, delay=PERIOD)
