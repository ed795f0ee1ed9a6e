"""Rounds by executions of a Ray compiled graph: Ray's answer to a topology that never changes.

A graph is compiled once: every actor then runs a loop that waits for its inputs in shared memory, and a
round is one execution, without a call, a lease or a reference. What the driver gives goes in at the
beginning and what it reads comes out at the end; between actors a value goes from loop to loop. The driver
is no part of a compiled graph, so it cannot fire a task between two of actors: such a graph is refused.

How an expert runs it: one channel for each actor's own values, and one for what several actors read; as many
buffers as rounds for which a value may be held, for a value that is read in place blocks its buffer until it
is dropped; nothing of a channel is held when the graph is torn down.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runtimes.layout import HOME, Exports
from runtimes.ray_calls import value_for
from runtimes.ray_session import Rounds, get
from workloads.dataflow import EdgeShape, PortRef

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from runtimes.layout import Feed, Layout, Ring
    from runtimes.ray_session import Driver
    from workloads.dataflow import Graph, TaskNode

__all__ = ["Executions", "buffers_for", "channel_store_bytes", "problem_of"]

_CHANNEL_BYTES = 1_000_000
"""What Ray makes a buffer at first; it grows to what is written."""

BEFORE, MEANWHILE, AFTER = range(3)
"""When the driver fires a task: before an execution begins, while it runs, or with its results."""


def buffers_for(graph: Graph, ahead: int) -> int:
    """How many buffers every channel needs, so that no value is held in one that is to be written."""
    held = max((edge.delay + graph.retain_of(edge) for edge in graph.edges), default=0)
    # One is written, and one is read.
    return 2 + held + ahead


def channel_store_bytes(layout: Layout) -> int:
    """How large an object store the channels of `layout` need besides the values: most begin larger than they need.

    A value goes through one channel in each direction; a buffer that has grown keeps what it had before.
    """
    graph = layout.graph
    buffers = buffers_for(graph, layout.ahead)
    declared = sum(
        node.members * port.array.nbytes for node in graph.tasks for port in node.outputs if port.array is not None
    )
    channels = len(layout.actors()) * (1 + len(layout.steps())) + len(graph.edges)
    return buffers * (declared * 5 // 4 + channels * _CHANNEL_BYTES)


def problem_of(layout: Layout) -> str | None:
    """Why `layout` cannot be compiled, or None if it can."""
    if not layout.actors():
        return "no task of this graph lives in an actor, so there is nothing to compile"
    before, after = _before_and_after(layout)
    between = [node.path for node in layout.graph.tasks if node.path in before & after]
    if not between:
        return None
    return (
        f"task '{between[0]}' of the driver fires between tasks of actors, and the driver is no part of a compiled "
        "graph: it gives before an execution and receives after it"
    )


def _before_and_after(layout: Layout) -> tuple[set[str], set[str]]:
    """The tasks that the driver fires before an execution, since actors need them, and after, since it needs actors."""
    links = {
        (
            (edge.source.task, layout.pieces[edge.source.task][source].place == HOME),
            (edge.target.task, there.place == HOME),
        )
        for edge in layout.graph.edges
        if edge.delay == 0
        for target, there in enumerate(layout.pieces[edge.target.task])
        for source in layout.sources(edge, target)
    }
    order = {node.path: place for place, node in enumerate(layout.graph.tasks)}
    before: set[str] = set()
    after: set[str] = set()
    for (path, at_home), (target, target_at_home) in sorted(links, key=lambda link: order[link[0][0]]):
        if target_at_home and (not at_home or path in after):
            after.add(target)
    for (path, at_home), (target, target_at_home) in sorted(links, key=lambda link: -order[link[1][0]]):
        if at_home and (not target_at_home or target in before):
            before.add(path)
    return before, after


@dataclass(slots=True)
class _Channel:
    """What the driver gives to the same actors: one value, several as a tuple, or nothing but the sign to begin."""

    keys: list[Hashable] = field(default_factory=list)
    values: list[Callable[[int], Any]] = field(default_factory=list)

    def of_round(self, number: int) -> Any:
        """What it carries in a round."""
        if len(self.values) == 1:
            return self.values[0](number)
        return tuple([value(number) for value in self.values]) or None

    def item_of(self, key: Hashable) -> int | None:
        """Where in what it carries a value is found; None if it is all of it."""
        return None if len(self.values) == 1 else self.keys.index(key)


class Executions(Rounds):
    """One execution of a compiled graph for each round."""

    def __init__(self, layout: Layout, timeout_s: float) -> None:
        """Plan executions of `layout`, which has no problem, and of which none may take longer than `timeout_s`."""
        super().__init__(layout)
        self.timeout_s = timeout_s
        self._compiled: Any = None
        self._running: dict[int, Any] = {}
        self._channels: dict[frozenset[int], _Channel] = {}
        self._outputs: list[list[Ring]] = []

    def home_steps(self) -> Sequence[Sequence[TaskNode]]:
        """What the driver fires before, while and after an execution runs."""
        before, after = _before_and_after(self.layout)
        steps: tuple[list[TaskNode], ...] = ([], [], [])
        for node in self.layout.graph.tasks:
            steps[BEFORE if node.path in before else AFTER if node.path in after else MEANWHILE].append(node)
        return steps

    def exports(self, step: Sequence[TaskNode], place: int) -> Exports:
        """What an actor gives in a step: to the driver what it reads or passes on later, to other actors the rest."""
        bundled, passed = [], []
        for node in self.layout.nodes_at(step, place):
            for source in [PortRef(node.path, port.name) for port in node.outputs]:
                piece = self.layout.piece_in(node.path, place)
                now = self.layout.readers(source, piece, delayed=False) - {HOME, place}
                later = self.layout.readers(source, piece, delayed=True) - {HOME, place}
                if later or HOME in self.layout.readers(source, piece):
                    bundled.append(source)
                if now:
                    passed.append(source)
        return Exports(tuple(bundled), tuple(passed), ())

    def attach(self, driver: Driver) -> None:
        """Compile the graph."""
        self._driver = driver
        self._coming = [driver.coming(step) for step in self.home_steps()]
        outputs = self._bind()
        _ray_log().addFilter(_is_news)
        self._compiled = outputs.experimental_compile(
            _submit_timeout=self.timeout_s,
            _buffer_size_bytes=_CHANNEL_BYTES,
            _max_inflight_executions=buffers_for(self.layout.graph, self.layout.ahead),
        )

    def begin_with(self, source: PortRef, piece: int, values: Sequence[Any]) -> None:
        """Make `values` those of the rounds before the first."""
        if (source, piece) in self._driver.values:
            self._driver.values[source, piece].begin(self.layout.graph.first_round, values)

    def before(self, source: PortRef, piece: int, number: int) -> list[Any]:
        """What an actor gave in the rounds before, as the driver has it."""
        return self._driver.values[source, piece].before(number, self.layout.graph.delay_of(source))

    def begin(self, number: int) -> None:
        """Begin an execution, and fire what the driver fires meanwhile."""
        self._driver.home.forget_inputs()
        for ring in self._driver.values.values():
            ring.put(number, None)
        self._driver.fire(BEFORE, number, self._coming[BEFORE])
        self._running[number] = self._compiled.execute(
            *[channel.of_round(number) for channel in self._channels.values()]
        )
        self._driver.fire(MEANWHILE, number, self._coming[MEANWHILE])

    def end(self, number: int) -> None:
        """Await the execution, and fire what reads its results."""
        bundles = get(self._running[number], self.timeout_s)
        del self._running[number]
        for bundle, rings in zip(bundles, self._outputs, strict=True):
            for ring, value in zip(rings, bundle if rings else (), strict=True):
                ring.put(number, value)
        self._driver.fire(AFTER, number, self._coming[AFTER])

    def forget(self) -> None:
        """Let go of all values: one that outlives its channel ends the process."""
        self._running.clear()

    def close(self) -> None:
        """Tear the graph down, with its actors."""
        import ray.exceptions

        compiled, self._compiled = self._compiled, None
        if compiled is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                compiled.teardown(kill_actors=True)
        _ray_log().removeFilter(_is_news)

    # ------------------------------------------------------------------------------------- compiling

    def _bind(self) -> Any:
        """One round as nodes of Ray: what the actors fire, step by step."""
        from ray.dag import InputNode, MultiOutputNode

        feeds = {
            (step, place): self.layout.feeds(nodes, place)
            for step, nodes in enumerate(self.layout.steps())
            for place in self._driver.actors
            if self.layout.nodes_at(nodes, place)
        }
        self._open_channels(feeds)
        passed: dict[tuple[PortRef, int], Any] = {}
        outputs = []
        with InputNode() as given:
            inputs = {places: given[number] for number, places in enumerate(self._channels)}
            for (step, place), wanted in feeds.items():
                arguments, picks = self._arguments(wanted, place, inputs, passed)
                exports = self.exports(self.layout.steps()[step], place)
                count = bool(exports.bundled) + len(exports.passed)
                fire = self._driver.actors[place].fire_step.options(num_returns=max(count, 1))
                bound = fire.bind(step, picks, *arguments)
                results = list(bound) if count > 1 else [bound]
                if exports.bundled or not exports.passed:
                    # Also without values: what a task raises reaches the driver by the outputs of its step alone.
                    outputs.append(results.pop(0))
                    self._outputs.append([self._driver.ring_at(source, place) for source in exports.bundled])
                for source, result in zip(exports.passed, results, strict=True):
                    passed[source, self.layout.piece_in(source.task, place)] = result
        return MultiOutputNode(outputs)

    def _open_channels(self, feeds: Mapping[tuple[int, int], Iterable[Feed]]) -> None:
        """Make a channel for every set of actors to which the driver gives the same values."""
        readers: dict[Hashable, set[int]] = {}
        values: dict[Hashable, Callable[[int], Any]] = {}
        for (_, place), wanted in feeds.items():
            for feed in wanted:
                if not self._is_passed(feed):
                    readers.setdefault(self._key_of(feed), set()).add(place)
                    values.setdefault(self._key_of(feed), self._value(feed))
        for key, places in readers.items():
            channel = self._channels.setdefault(frozenset(places), _Channel())
            channel.keys.append(key)
            channel.values.append(values[key])
        fed = {place for places in self._channels for place in places}
        unfed = {place for (_, place), wanted in feeds.items() if not wanted and place not in fed}
        if unfed:
            self._channels[frozenset(unfed)] = _Channel()

    def _arguments(
        self,
        wanted: Iterable[Feed],
        place: int,
        inputs: Mapping[frozenset[int], Any],
        passed: Mapping[tuple[PortRef, int], Any],
    ) -> tuple[list[Any], list[tuple[int, int | None]]]:
        """What a step of an actor is bound to, and where in that it finds its arguments."""
        arguments: dict[Hashable, Any] = {}
        picks: list[tuple[int, int | None]] = []
        for feed in wanted:
            item = None
            if self._is_passed(feed):
                key: Hashable = (feed.edge.source, feed.source)
                arguments.setdefault(key, passed[feed.edge.source, feed.source])
            else:
                key = next(
                    places
                    for places, channel in self._channels.items()
                    if place in places and self._key_of(feed) in channel.keys
                )
                arguments.setdefault(key, inputs[key])
                item = self._channels[key].item_of(self._key_of(feed))
            picks.append((list(arguments).index(key), item))
        if not arguments:
            # A step begins when something arrives, be it what another step of this actor reads.
            places = next(places for places in inputs if place in places)
            arguments[places] = inputs[places]
        return list(arguments.values()), picks

    def _is_passed(self, feed: Feed) -> bool:
        """Whether `feed` goes from actor to actor within an execution."""
        return feed.edge.delay == 0 and not self._is_home(feed)

    def _key_of(self, feed: Feed) -> Hashable:
        """What is the same for all who read the same of the driver."""
        if feed.edge.shape is EdgeShape.SCATTER and self._is_home(feed):
            return feed
        return (feed.edge.source, feed.source, feed.edge.delay)

    def _is_home(self, feed: Feed) -> bool:
        return self.layout.pieces[feed.edge.source.task][feed.source].place == HOME

    def _value(self, feed: Feed) -> Callable[[int], Any]:
        """What gives the value of `feed` in a round: a task of the driver, or an actor in a round before."""
        if self._is_home(feed):
            return value_for(self._driver, feed)
        ring, delay = self._driver.ring(feed.edge.source, feed.source), feed.edge.delay
        return lambda number: ring.at(number - delay)


def _ray_log() -> logging.Logger:
    return logging.getLogger("ray.dag.compiled_dag_node")


def _is_news(record: logging.LogRecord) -> bool:
    """Whether Ray says more than that the loop of an actor that was killed cannot be cancelled, with a traceback."""
    return record.msg != "Error cancelling worker task"
