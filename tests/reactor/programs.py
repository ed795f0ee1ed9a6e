"""Small reactors that several tests put together, and the larger programs."""

from __future__ import annotations

from typing import Any

from runtimes.reactor import (
    Input,
    LogicalAction,
    Mode,
    Output,
    PhysicalAction,
    Reactor,
    Timer,
    bank,
    ms,
    reaction,
    shutdown,
    startup,
    stop,
)

__all__ = [
    "Counter",
    "DeadlineMonitor",
    "Echo",
    "PingPong",
    "Pipeline",
    "ProducerConsumer",
    "Sieve",
    "TrafficLight",
]


class Counter(Reactor):
    """Sends 0, 1, 2, ... with a period."""

    sent = Output[int]()

    def __init__(self, period_ns: int = 1 * ms, offset_ns: int = 0, first: int = 0) -> None:
        self.tick = Timer(period_ns, offset_ns=offset_ns)
        self.next = first
        self.add_reaction("send", self.send, triggers=[self.tick], effects=[self.sent])

    def send(self) -> None:
        self.sent.set(self.next)
        self.next += 1


class Echo(Reactor):
    """Says what it hears."""

    heard = Input[Any]()
    said = Output[Any]()

    @reaction(heard, effects=[said])
    def say(self) -> None:
        self.said.set(self.heard.value)


class Gather(Reactor):
    """Says what it hears on all channels."""

    said = Output[Any]()

    def __init__(self, width: int) -> None:
        self.heard = Input[Any](width=width)
        self.add_reaction("say", self.say, triggers=[self.heard], effects=[self.said])

    def say(self) -> None:
        self.said.set(list(self.heard.values))


class Stage(Reactor):
    """Adds its number to what passes."""

    heard = Input[int]()
    said = Output[int]()

    def __init__(self, number: int) -> None:
        self.number = number

    @reaction(heard, effects=[said])
    def add_number(self) -> None:
        self.said.set(self.heard.value + self.number)


class Pipeline(Reactor):
    """Numbers pass through stages; between stages they wait for the next millisecond."""

    def __init__(self, stages: int = 3) -> None:
        self.counter = Counter()
        self.stages = bank(stages, lambda index: Stage(10**index))
        self.connect(self.counter.sent, self.stages[0].heard)
        for before, after in zip(self.stages.members, self.stages.members[1:], strict=False):
            self.connect(before.said, after.heard, after_ns=1 * ms)


class Ping(Reactor):
    """Serves, and returns what comes back, so many times."""

    returned = Input[int]()
    served = Output[int]()
    again = LogicalAction[int]()

    def __init__(self, rounds: int) -> None:
        self.left = rounds

    @reaction(startup, again, effects=[served])
    def serve(self) -> None:
        self.served.set(self.left)
        self.left -= 1

    @reaction(returned, effects=[again, stop])
    def receive(self) -> None:
        if self.left == 0:
            self.request_stop()
        else:
            self.again.schedule()


class PingPong(Reactor):
    """Two players; a round takes a microstep."""

    def __init__(self, rounds: int = 3) -> None:
        self.ping = Ping(rounds)
        self.pong = Echo()
        self.connect(self.ping.served, self.pong.heard)
        self.connect(self.pong.said, self.ping.returned)


class TrafficLight(Reactor):
    """Red, then green for a while after the button was pressed, then yellow, then red."""

    red = Mode(initial=True)
    green = Mode()
    yellow = Mode()
    pressed = Input[Any]()
    colour = Output[str]()
    long_enough = Timer(offset_ns=4 * ms, mode=green)
    nearly_over = Timer(offset_ns=1 * ms, mode=yellow)

    @reaction(startup, effects=[colour])
    def switch_on(self) -> None:
        self.colour.set("red")

    @reaction(pressed, mode=red, effects=[colour, green])
    def let_go(self) -> None:
        self.colour.set("green")
        self.green.reset()

    @reaction(long_enough, mode=green, effects=[colour, yellow])
    def warn(self) -> None:
        self.colour.set("yellow")
        self.yellow.reset()

    @reaction(nearly_over, mode=yellow, effects=[colour, red])
    def halt(self) -> None:
        self.colour.set("red")
        self.red.reset()


class Crossing(Reactor):
    """A traffic light with a button that is pressed every three milliseconds."""

    def __init__(self) -> None:
        self.button = Counter(3 * ms, offset_ns=3 * ms)
        self.light = TrafficLight()
        self.display = Echo()
        self.connect(self.button.sent, self.light.pressed)
        self.connect(self.light.colour, self.display.heard)


class Strict(Reactor):
    """Has a deadline that is always violated, or none."""

    heard = Input[int]()
    done = Output[int]()
    missed = Output[int]()

    @reaction(heard, effects=[done, missed], deadline_ns=0)
    def work(self) -> None:
        self.done.set(self.heard.value)

    @work.late
    def give_up(self) -> None:
        self.missed.set(self.heard.value)


class Monitor(Reactor):
    """Counts missed deadlines, and ends the program at the second."""

    missed = Input[int]()
    count = Output[int]()

    def __init__(self) -> None:
        self.seen = 0

    @reaction(missed, effects=[count, stop])
    def note(self) -> None:
        self.seen += 1
        self.count.set(self.seen)
        if self.seen == 2:
            self.request_stop()


class DeadlineMonitor(Reactor):
    """Somebody who misses every deadline, and somebody who watches."""

    def __init__(self) -> None:
        self.counter, self.strict, self.monitor = Counter(), Strict(), Monitor()
        self.connect(self.counter.sent, self.strict.heard)
        self.connect(self.strict.missed, self.monitor.missed)


class Filter(Reactor):
    """Keeps the first number that it hears as its prime, and passes on what that does not divide."""

    number = Input[int]()
    passed = Output[int]()
    found = Output[int]()

    def __init__(self) -> None:
        self.prime = 0

    @reaction(number, effects=[passed, found])
    def sift(self) -> None:
        number = self.number.value
        if self.prime == 0:
            self.prime = number
            self.found.set(number)
        elif number % self.prime:
            self.passed.set(number)


class Sieve(Reactor):
    """The sieve of Eratosthenes: a chain of filters, one for each prime."""

    def __init__(self, filters: int = 5) -> None:
        self.numbers = Counter(first=2)
        self.filters = bank(filters, lambda _: Filter())
        self.primes = Gather(filters)
        self.connect(self.numbers.sent, self.filters[0].number)
        for before, after in zip(self.filters.members, self.filters.members[1:], strict=False):
            self.connect(before.passed, after.number)
        self.connect(self.filters.found, self.primes.heard)


class Producer(Reactor):
    """Brings in what comes from outside: a physical action, scheduled at startup as an outsider would."""

    item = PhysicalAction[str]()
    made = Output[str]()

    def __init__(self, items: int) -> None:
        self.items = items

    @reaction(startup, effects=[item])
    def open(self) -> None:
        for number in range(self.items):
            self.item.schedule(f"item {number}", delay_ns=number * ms)

    @reaction(item, effects=[made])
    def make(self) -> None:
        self.made.set(self.item.value)


class Consumer(Reactor):
    """Takes items, and ends the program with the last."""

    item = Input[str]()
    taken = Output[Any]()

    def __init__(self, items: int) -> None:
        self.left = items

    @reaction(item, effects=[taken, stop])
    def take(self) -> None:
        self.left -= 1
        self.taken.set((self.item.value, self.left))
        if self.left == 0:
            self.request_stop()


class ProducerConsumer(Reactor):
    """A producer whose items arrive in physical time, and a consumer."""

    def __init__(self, items: int = 4) -> None:
        self.producer, self.consumer = Producer(items), Consumer(items)
        self.connect(self.producer.made, self.consumer.item)


class Farewell(Reactor):
    """Says goodbye."""

    said = Output[str]()

    @reaction(shutdown, effects=[said])
    def end(self) -> None:
        self.said.set("goodbye")
