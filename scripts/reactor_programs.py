"""The reactor programs that `reactor-overhead` and `against-xronos` measure.

Each is as a person would write it after reading the documentation: nothing is tuned for the benchmark.
One reactor of each program can say what it has computed, so that no figure is printed for a program
that did something else. Imports the reactor library and NumPy only: it runs where nothing else is installed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runtimes.reactor import Input, LogicalAction, Output, Reactor, Timer, bank, ms, reaction, startup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CHAIN", "FAN", "PING_PONG", "PROGRAMS", "Benchmark"]

FAN_WIDTH = 15
CHAIN_LENGTH = 100
ACTORS = 16
PAYLOAD_BYTES = 1024
BUSY_STEPS = 10_000


class Source(Reactor):
    """Sends the number of the tag."""

    tick = Timer(1 * ms)
    number = Output[int]()

    def __init__(self) -> None:
        self.next = 0

    @reaction(tick, effects=[number])
    def send(self) -> None:
        """Send the next number."""
        self.number.set(self.next)
        self.next += 1


class Scheduler(Reactor):
    """Sends the number of the tag, but by an action: nobody knows its tags before it runs."""

    due = LogicalAction[int](1 * ms)
    number = Output[int]()

    @reaction(startup, effects=[due])
    def begin(self) -> None:
        """Begin with 0, in the next tag."""
        self.due.schedule(0)

    @reaction(due, effects=[number, due])
    def send(self) -> None:
        """Send the number, and go on."""
        number = self.due.value
        self.number.set(number)
        self.due.schedule(number + 1)


class Relay(Reactor):
    """Passes a number on, one larger: one input, one output, and nothing else."""

    arrived = Input[int]()
    passed = Output[int]()

    @reaction(arrived, effects=[passed])
    def relay(self) -> None:
        """Pass it on."""
        self.passed.set(self.arrived.value + 1)


class Sink(Reactor):
    """Keeps the last number."""

    arrived = Input[int]()

    def __init__(self) -> None:
        self.last = -1

    @reaction(arrived)
    def keep(self) -> None:
        """Keep it."""
        self.last = self.arrived.value

    def answer(self) -> int:
        """The last number."""
        return self.last


class Chain(Reactor):
    """A source, relays one after the other, a sink."""

    def __init__(self, length: int = CHAIN_LENGTH, source: type[Source | Scheduler] = Source) -> None:
        self.source = source()
        self.relays = bank(length, lambda _: Relay())
        self.sink = Sink()
        ports = [self.source.number, *(relay.passed for relay in self.relays)]
        for port, relay in zip(ports, self.relays, strict=False):
            self.connect(port, relay.arrived)
        self.connect(ports[-1], self.sink.arrived)


class EventChain(Chain):
    """The same, driven by an action in place of a timer."""

    def __init__(self) -> None:
        super().__init__(source=Scheduler)


class Sum(Reactor):
    """Adds up what arrives on all channels in a tag."""

    def __init__(self, width: int) -> None:
        self.arrived = Input[int](width=width)
        self.total = 0
        self.add_reaction("add_up", self.add_up, triggers=[self.arrived])

    def add_up(self) -> None:
        """Add the numbers up."""
        self.total = sum(filter(None, self.arrived.values))

    def answer(self) -> int:
        """The sum of the last tag."""
        return self.total


class Fan(Reactor):
    """A source to a bank of relays, and all of them to a sum."""

    def __init__(self, width: int = FAN_WIDTH) -> None:
        self.source = Source()
        self.relays = bank(width, lambda _: Relay())
        self.sum = Sum(width)
        self.connect(self.source.number, self.relays.arrived, broadcast=True)
        self.connect(self.relays.passed, self.sum.arrived)


class Ping(Reactor):
    """Serves a number, and sends back what comes back."""

    returned = Input[int]()
    ball = Output[int]()

    def __init__(self) -> None:
        self.last = 0

    @reaction(startup, effects=[ball])
    def serve(self) -> None:
        """Begin with 0."""
        self.ball.set(0)

    @reaction(returned, effects=[ball])
    def hit(self) -> None:
        """Send it back."""
        self.last = self.returned.value
        self.ball.set(self.last)

    def answer(self) -> int:
        """How often the ball has come back."""
        return self.last


class PingPong(Reactor):
    """A number back and forth, once a tag."""

    def __init__(self) -> None:
        self.ping = Ping()
        self.pong = Relay()
        self.connect(self.ping.ball, self.pong.arrived)
        self.connect(self.pong.passed, self.ping.returned, after_ns=1 * ms)


class Hub(Reactor):
    """Calls once a tag, and counts the answers. Neither carries a value."""

    tick = Timer(1 * ms)
    call = Output[None]()
    reply = Input[None]()

    def __init__(self) -> None:
        self.replies = 0

    @reaction(tick, effects=[call])
    def ask(self) -> None:
        """Call."""
        self.call.set(None)

    @reaction(reply)
    def count(self) -> None:
        """Count."""
        self.replies += 1

    def answer(self) -> int:
        """How many answers have come."""
        return self.replies


class Echo(Reactor):
    """Answers every call."""

    call = Input[None]()
    reply = Output[None]()

    @reaction(call, effects=[reply])
    def respond(self) -> None:
        """Answer."""
        self.reply.set(None)


class HubAndRemote(Reactor):
    """A hub, and one reactor in another worker: there and back once a tag."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.remote = Echo()
        self.connect(self.hub.call, self.remote.call)
        self.connect(self.remote.reply, self.hub.reply)


class Sender(Reactor):
    """Fills an array with the number of the tag."""

    tick = Timer(1 * ms)
    payload = Output[Any](shape=(PAYLOAD_BYTES,), dtype="uint8")

    def __init__(self) -> None:
        self.next = 0

    @reaction(tick, effects=[payload])
    def send(self) -> None:
        """Fill the next array."""
        self.payload.array()[...] = self.next % 256
        self.next += 1


class Actor(Reactor):
    """Gives back a copy of what it receives."""

    payload = Input[Any]()
    copy = Output[Any](shape=(PAYLOAD_BYTES,), dtype="uint8")

    @reaction(payload, effects=[copy])
    def give_back(self) -> None:
        """Copy it."""
        self.copy.array()[...] = self.payload.value


class Gatherer(Reactor):
    """Receives all copies, and leaves it at that."""

    def __init__(self, width: int) -> None:
        self.copies = Input[Any](width=width)
        self.last: list[Any] = []
        self.add_reaction("keep", self.keep, triggers=[self.copies])

    def keep(self) -> None:
        """Keep the views of this tag."""
        self.last = self.copies.values

    def answer(self) -> int:
        """The sum of the first byte of each copy of the last tag."""
        return sum(int(copy[0]) for copy in self.last)


class BroadcastGather(Reactor):
    """An array to a bank of actors, and a copy back from each."""

    def __init__(self, actors: int = ACTORS) -> None:
        self.sender = Sender()
        self.actors = bank(actors, lambda _: Actor())
        self.gatherer = Gatherer(actors)
        self.connect(self.sender.payload, self.actors.payload, broadcast=True)
        self.connect(self.actors.copy, self.gatherer.copies)


class Busy(Reactor):
    """Computes in pure Python, and needs nothing from others."""

    tick = Timer(1 * ms)

    def __init__(self) -> None:
        self.tags = 0
        self.state = 1

    @reaction(tick)
    def compute(self) -> None:
        """Step a linear congruential generator.

        Its constants are below 257, of which Python has one object each that is not counted. CPython 3.13 without the
        GIL counts references to the larger constants of imported code, in one place for all threads: with those, two
        threads take turns (1.2x instead of 1.9x).
        """
        state = self.state
        for _ in range(BUSY_STEPS):
            state = (171 * state + 11) % 253
        self.state = state
        self.tags += 1

    def answer(self) -> int:
        """How often it has computed."""
        return self.tags


class Independent(Reactor):
    """Two busy reactors that know nothing of each other."""

    def __init__(self) -> None:
        self.busy = bank(2, lambda _: Busy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A program, what it does in a tag, and what it must have computed."""

    name: str
    make: Callable[[], Reactor]
    """The main reactor."""
    reactions: int
    """How many reactions a tag runs."""
    judge: str
    """Path of the reactor whose `answer` is checked."""
    expected: Callable[[int], int]
    """Its answer after so many tags."""
    placement: Mapping[str, int] | None = None
    """Who must live in which worker."""
    most_calls: Mapping[str, float] = field(default_factory=dict)
    """By executor: the aim for one reaction with one input and one output, in empty method calls: 20, and 8 where
    timers drive the program, so that the plan of every tag is known before it runs."""
    most_us: Mapping[str, float] = field(default_factory=dict)
    """By executor: the aim for one tag, in microseconds."""
    speedup: bool = False
    """Whether it can gain from a second worker, so that executors are to be compared."""


PING_PONG = Benchmark(
    name="ping-pong",
    make=PingPong,
    reactions=2,
    judge="ping",
    expected=lambda tags: tags - 1,
    most_calls={"inline": 20},
)
FAN = Benchmark(
    name="fan",
    make=Fan,
    reactions=FAN_WIDTH + 2,
    judge="sum",
    expected=lambda tags: FAN_WIDTH * tags,
)
CHAIN = Benchmark(
    name="chain",
    make=Chain,
    reactions=CHAIN_LENGTH + 2,
    judge="sink",
    expected=lambda tags: CHAIN_LENGTH + tags - 1,
    most_calls={"inline": 8},
)
EVENT_CHAIN = Benchmark(
    name="event-chain",
    make=EventChain,
    reactions=CHAIN_LENGTH + 2,
    judge="sink",
    expected=lambda tags: CHAIN_LENGTH + tags - 2,
    most_calls={"inline": 20},
)
HUB = Benchmark(
    name="hub",
    make=HubAndRemote,
    reactions=3,
    judge="hub",
    expected=lambda tags: tags,
    placement={"hub": 0, "remote": 1},
    most_us={"processes": 6},
)
BROADCAST = Benchmark(
    name="broadcast",
    make=BroadcastGather,
    reactions=ACTORS + 2,
    judge="gatherer",
    expected=lambda tags: ACTORS * ((tags - 1) % 256),
    most_us={"processes": 30},
)
BUSY = Benchmark(
    name="busy",
    make=Independent,
    reactions=2,
    judge="busy[1]",
    expected=lambda tags: tags,
    speedup=True,
)
PROGRAMS = (PING_PONG, FAN, CHAIN, EVENT_CHAIN, HUB, BROADCAST, BUSY)
