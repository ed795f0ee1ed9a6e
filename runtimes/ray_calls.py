"""Rounds by calls of actors: Ray's remote methods.

How an expert runs them: all calls of a step are submitted before the driver does its own part and before
anything is awaited; one `ray.get` on a whole list; values between actors go as references that the
driver never opens; a large value for several actors is put once; the references and arrays of the
round before are dropped before the next is submitted, so that the object store uses its memory again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from runtimes.layout import HOME
from runtimes.places import BY_VALUE_BYTES
from runtimes.ray_cluster import nbytes_of
from runtimes.ray_session import Rounds, get
from workloads.dataflow import EdgeShape, item_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtimes.layout import Exports, Feed, Layout, Ring
    from runtimes.ray_session import Driver
    from workloads.dataflow import PortRef, TaskNode

__all__ = ["Call", "Calls", "Fetched", "put_once", "value_for"]

Fetched = tuple[Any, "Sequence[Ring]", bool]
"""What is to be fetched: a reference, rings for its values, and whether they come as a bundle."""


@dataclass(slots=True)
class Call:
    """One actor's part of a step: where its arguments come from, and where its results go."""

    submit: Callable[..., Any]
    arguments: list[Callable[[int], Any]]
    bundled: list[Ring]
    passed: list[tuple[Ring, Ring | None]]
    """For each port that is passed on: its references, and its values if the driver reads them."""

    def fire(self, round_number: int) -> list[Fetched]:
        """Submit it; what is to be fetched."""
        refs = self.submit(*[argument(round_number) for argument in self.arguments])
        if not self.passed:
            return [(refs, self.bundled, True)]
        fetched: list[Fetched] = [(refs[0], self.bundled, True)]
        for ref, (references, values) in zip(refs[1:], self.passed, strict=True):
            references.put(round_number, ref)
            if values is not None:
                fetched.append((ref, (values,), False))
        return fetched


class Calls(Rounds):
    """One call for each actor and step, until the driver needs what came of them."""

    timeout_s = 300.0
    """No round of any workload takes that long; a longer one hangs."""

    def __init__(self, layout: Layout) -> None:
        """Plan rounds for `layout`."""
        super().__init__(layout)
        self._references: dict[tuple[PortRef, int], Ring] = {}
        self._pending: dict[int, list[Fetched]] = {}
        self._puts: dict[int, dict[tuple[PortRef, int], Any]] = {}
        self._early: list[Callable[[int], None]] = []
        """What a round does before the driver waits for the first time."""
        self._late: list[Callable[[int], None]] = []

    def exports(self, step: Sequence[TaskNode], place: int) -> Exports:
        """What an actor gives in a step: bundled for the driver, one by one for other actors."""
        return self.layout.exports(step, place)

    def first_late_step(self) -> int:
        """The first step whose calls are submitted after the driver has waited."""
        for number, step in enumerate(self.layout.steps()):
            if self.calls_wait(step):
                return number
            if self._driver_waits(step):
                return number + 1
        return len(self.layout.steps())

    def calls_wait(self, _step: Sequence[TaskNode]) -> bool:
        """Whether the driver must know results of this round before it can submit the calls of a step."""
        return False

    def attach(self, driver: Driver) -> None:
        """Make the calls of every step."""
        self._driver = driver
        actions = self._early
        for number, step in enumerate(self.layout.steps()):
            if self.calls_wait(step):
                actions = self._late
                actions.append(self._fetch)
            calls = [self._call(number, step, place) for place in driver.actors if self.layout.nodes_at(step, place)]
            if calls:
                actions.append(partial(self._submit, calls))
            if self._driver_waits(step):
                actions = self._late
                actions.append(self._fetch)
            if self.layout.nodes_at(step, HOME):
                actions.append(partial(_fire, driver, number, driver.coming(step)))
        self._late.append(self._fetch)

    def begin_with(self, source: PortRef, piece: int, values: Sequence[Any]) -> None:
        """Make `values` those of the rounds before the first."""
        import ray

        first_round = self.layout.graph.first_round
        if (source, piece) in self._driver.values:
            self._driver.values[source, piece].begin(first_round, values)
        if (source, piece) in self._references:
            self._references[source, piece].begin(first_round, [ray.put(value) for value in values])

    def before(self, source: PortRef, piece: int, number: int) -> list[Any]:
        """What an actor gave in the rounds before, as the driver has it or got a reference to it."""
        rounds = self.layout.graph.delay_of(source)
        if (source, piece) in self._references:
            return get(self._references[source, piece].before(number, rounds), self.timeout_s)
        return self._driver.values[source, piece].before(number, rounds)

    def begin(self, number: int) -> None:
        """Submit round `number`, and fire what of it the driver can fire without waiting."""
        self._driver.home.forget_inputs()
        self._pending[number] = []
        self._puts[number] = {}
        for ring in (*self._driver.values.values(), *self._references.values()):
            ring.put(number, None)
        for action in self._early:
            action(number)

    def end(self, number: int) -> None:
        """Await the results of round `number`, and fire the rest of it."""
        for action in self._late:
            action(number)
        del self._pending[number], self._puts[number]

    def forget(self) -> None:
        """Let go of all values."""
        self._pending.clear()
        self._puts.clear()
        self._references.clear()

    def close(self) -> None:
        """Nothing runs in actors besides calls."""

    def argument(self, feed: Feed) -> Callable[[int], Any]:
        """What gives the argument for `feed` in a round: a reference to another actor's value, or the driver's own."""
        source, delay = feed.edge.source, feed.edge.delay
        if self.layout.pieces[source.task][feed.source].place != HOME:
            ring = self._reference_ring(source, feed.source)
            return lambda number: ring.at(number - delay)
        value = value_for(self._driver, feed)
        if feed.edge.shape is EdgeShape.SCATTER or len(self.layout.readers(source, feed.source) - {HOME}) == 1:
            return value
        return lambda number: put_once(self._puts[number], (source, number - delay), value(number))

    def _driver_waits(self, step: Sequence[TaskNode]) -> bool:
        """Whether the driver's own part of a step reads what actors gave in this round."""
        return any(feed.edge.delay == 0 for feed in self.layout.feeds(step, HOME))

    def _submit(self, calls: list[Call], number: int) -> None:
        pending = self._pending[number]
        for call in calls:
            pending += call.fire(number)

    def _fetch(self, number: int) -> None:
        """Await all that was submitted for a round, and put what came where the driver reads it."""
        pending, self._pending[number] = self._pending[number], []
        if not pending:
            return
        values = get([ref for ref, _, _ in pending], self.timeout_s)
        for value, (_, rings, is_bundle) in zip(values, pending, strict=True):
            for ring, item in zip(rings, (value or ()) if is_bundle else (value,), strict=True):
                ring.put(number, item)

    def _call(self, number: int, step: Sequence[TaskNode], place: int) -> Call:
        exports, driver, layout = self.exports(step, place), self._driver, self.layout
        actor = driver.actors[place]
        fire = actor.fire if number < self.first_late_step() else actor.fire_late
        if exports.passed:
            fire = fire.options(num_returns=1 + len(exports.passed))
        return Call(
            submit=fire.remote,
            arguments=[self.argument(feed) for feed in layout.feeds(step, place)],
            bundled=[driver.ring_at(source, place) for source in exports.bundled],
            passed=[
                (
                    self._reference_ring(source, layout.piece_in(source.task, place)),
                    driver.ring_at(source, place) if source in exports.fetched else None,
                )
                for source in exports.passed
            ],
        )

    def _reference_ring(self, source: PortRef, piece: int) -> Ring:
        """Where references to the values of a piece are kept; made when first asked for."""
        return self._references.setdefault((source, piece), self.layout.ring_for(source))


def value_for(driver: Driver, feed: Feed) -> Callable[[int], Any]:
    """What gives, in a round, the value that `feed` carries from the driver's own tasks: of a scatter its part."""
    layout, home, source, delay = driver.layout, driver.home, feed.edge.source, feed.edge.delay
    if feed.edge.shape is not EdgeShape.SCATTER:
        return lambda number: home.value(source, number - delay)
    part = layout.pieces[feed.edge.target.task][feed.target].members
    width = layout.graph.node(feed.edge.target.task).members
    is_block = layout.is_block(feed.edge.target.task)
    return lambda number: _part_of(home.value(source, number - delay), part, width, source, is_block=is_block)


def put_once(puts: dict[Any, Any], key: Any, value: Any) -> Any:
    """A value for several actors: itself if it is small, else a reference that `puts` keeps under `key`."""
    import ray

    if nbytes_of(value) <= BY_VALUE_BYTES:
        return value
    if key not in puts:
        puts[key] = ray.put(value)
    return puts[key]


def _fire(driver: Driver, step: int, coming: list[tuple[Ring, int]], number: int) -> None:
    driver.fire(step, number, coming)


def _part_of(values: Any, part: range, width: int, source: PortRef, *, is_block: bool) -> Any:
    """What a scatter of `values` sends to a piece with the members `part`."""
    if not is_block or values is None:
        return item_of(values, part.start, width, str(source))
    return values[part.start : part.stop]
