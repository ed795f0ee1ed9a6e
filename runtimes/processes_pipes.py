"""What one writes by hand with `multiprocessing`: a process for each processor, and pipes between them.

Each process has a slice of every bank. This one is among them: it drives the others, and fires the
single tasks and a slice of its own where it would otherwise wait. In a round it sends each of the others
one message with all that its members read, and gets one back with all that they give; arrays are sent as
they are, anything else is pickled. Whatever goes from one of them to another passes through this process,
since nobody else holds a pipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from runtimes.places import HOME, Place
from runtimes.protocol import Demands, Runtime, RuntimeFailure, demands_here, member_name, processors, value_bytes
from runtimes.ray_packed import packed
from runtimes.worker_processes import WorkerProcesses
from workloads.dataflow import EdgeShape, PortRef, Session, item_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from runtimes.places import Feed, Layout, Ring
    from workloads.dataflow import Graph, TaskNode

__all__ = ["RUNTIME", "PipesSession"]


class _Host:
    """What a process holds: one place of the layout."""

    def __init__(self, layout: Layout, place: int) -> None:
        """Build every task of `place`."""
        self._place = Place(layout, place)
        steps = layout.steps()
        self._turns = [number for number, step in enumerate(steps) if layout.nodes_at(step, place)]
        self._given = [_given(layout, steps[number], place) for number in self._turns]
        self._calls = 0

    def initial(self) -> list[list[Any]]:
        """The values before round 0 that the driver reads, of every turn; None where there is no delay."""
        values = self._place.initial()
        return [[values[source.task].get(source.name) for source in given] for given in self._given]

    def fire(self, *arguments: Any) -> list[Any]:
        """Fire the next step; what the driver reads of it. The steps come in the same order in every round."""
        round_number, turn = divmod(self._calls, len(self._turns))
        self._calls += 1
        values = self._place.fire(self._turns[turn], round_number, arguments)
        return [values[source.task][source.name] for source in self._given[turn]]

    def tallies(self) -> dict[str, list[Mapping[str, Any]]]:
        """Of every task here its tallies."""
        return self._place.tallies()

    def close(self) -> None:
        """Close every task here."""
        self._place.close()


def _given(layout: Layout, step: Iterable[TaskNode], place: int) -> tuple[PortRef, ...]:
    """What `place` gives in `step` that is read elsewhere."""
    exports = layout.exports(step, place)
    return (*exports.bundled, *exports.passed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One process's part of a step: where what it reads comes from, and where what it gives goes."""

    worker: int
    arguments: Sequence[Callable[[int], Any]]
    results: Sequence[Ring]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A step as the driver sees it."""

    number: int
    calls: Sequence[_Call]
    waits: bool
    """It needs what processes give in earlier steps of the same round, or one that is still at work."""
    coming: Sequence[Callable[[int], Any]] | None
    """What the driver's own part reads of processes; None if it has no part."""


class PipesSession(Session):
    """A graph in this process and in others, with a pipe to each."""

    def __init__(self, layout: Layout) -> None:
        """Start a process for every place of `layout` but the driver's, and build all tasks.

        Raises:
            RuntimeFailure: if a task cannot be built; names it.
        """
        self._layout = layout
        self._round = 0
        self._open = True
        self._failed = False
        self._home: Place | None = None
        self._values: dict[tuple[PortRef, int], Ring] = {}
        self._outstanding: list[_Call] = []
        self._places = sorted({p.place for pieces in layout.pieces.values() for p in pieces} - {HOME})
        self._workers = WorkerProcesses("processes-pipes")
        try:
            for place in self._places:
                self._workers.start(partial(_Host, layout, place), members=_members(layout, place))
            self._home = Place(layout, HOME)
            self._workers.answers()
            self._steps = self._plan()
        except BaseException:
            self._failed = True
            self.close()
            raise

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds; their durations in nanoseconds.

        Raises:
            RuntimeFailure: if a task raises or a process dies; names it and the round.
        """
        if self._failed or not self._open:
            raise RuntimeFailure("This session has failed or is closed. Open another one.")
        try:
            if self._round == 0:
                self._give_initial_values()
            stamps = [perf_counter_ns()]
            for _ in range(rounds):
                self._fire_round()
                stamps.append(perf_counter_ns())
        except BaseException:
            self._failed = True
            raise
        at_ns = np.array(stamps, np.int64)
        return at_ns[1:] - at_ns[:-1]

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """What the observed tasks received in the last round."""
        assert self._home is not None
        return {node.path: self._home.inputs(node.path) for node in self._layout.graph.tasks if node.observed}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every task its tallies.

        Raises:
            RuntimeFailure: if a task raises or a process has died.
        """
        assert self._home is not None
        by_place = {HOME: self._home.tallies()}
        by_place.update(zip(self._places, self._ask("tallies"), strict=True))
        return self._layout.in_order(by_place)

    def close(self) -> None:
        """Close every task and end all processes; after a failure, whatever they are doing.

        Raises:
            RuntimeFailure: if a task could not be closed, and nothing had failed before; all is cleaned up first.
        """
        if not self._open:
            return
        self._open = False
        error: Exception | None = None
        try:
            error = self._close_tasks()
        finally:
            self._workers.end()
        if error is not None and not self._failed:
            raise RuntimeFailure(f"Not every task could be closed: {error}") from error

    # ---------------------------------------------------------------------------------------- rounds

    def _fire_round(self) -> None:
        number = self._round
        assert self._home is not None
        for step in self._steps:
            if step.waits:
                self._collect()
            for call in step.calls:
                self._workers.tell(call.worker, "fire", *[argument(number) for argument in call.arguments])
                self._outstanding.append(call)
            if step.coming is not None:
                self._home.fire(step.number, number, [value(number) for value in step.coming])
        self._collect()
        self._round += 1
        self._workers.rounds = self._round

    def _collect(self) -> None:
        """Await what processes were told to do, and put what they give where the driver reads it."""
        for call in self._outstanding:
            for ring, value in zip(call.results, self._workers.answer(call.worker), strict=True):
                ring.put(self._round, value)
        self._outstanding.clear()

    def _give_initial_values(self) -> None:
        """Have every task say once what its delayed outputs carried before round 0."""
        assert self._home is not None
        self._home.initial()
        steps = self._layout.steps()
        for place, answer in zip(self._places, self._ask("initial"), strict=True):
            turns = [step for step in steps if self._layout.nodes_at(step, place)]
            for step, values in zip(turns, answer, strict=True):
                for source, value in zip(_given(self._layout, step, place), values, strict=True):
                    if self._layout.delay_of(source):
                        self._ring_at(source, place).fill(value)

    def _ask(self, order: str) -> list[Any]:
        try:
            return self._workers.ask(order)
        except BaseException:
            self._failed = True
            raise

    def _close_tasks(self) -> Exception | None:
        """Close what can still be closed; what a task raised."""
        error: Exception | None = None
        if self._home is not None:
            try:
                self._home.close()
            except Exception as raised:  # noqa: BLE001 - raised when all is cleaned up
                error = raised
        if not self._failed:
            try:
                self._workers.ask("close")
            except RuntimeFailure as raised:
                error = error or raised
        return error

    # ------------------------------------------------------------------------------------------ plan

    def _plan(self) -> list[_Step]:
        """Who does what in every step."""
        plan: list[_Step] = []
        at_work: set[int] = set()
        for number, step in enumerate(self._layout.steps()):
            places = [place for place in self._places if self._layout.nodes_at(step, place)]
            at_home = bool(self._layout.nodes_at(step, HOME))
            feeds = [feed for place in (HOME, *places) for feed in self._layout.feeds(step, place)]
            waits = not at_work.isdisjoint(places) or any(
                feed.edge.delay == 0 and self._place_of(feed) != HOME for feed in feeds
            )
            at_work = set(places) | (set() if waits else at_work)
            plan.append(
                _Step(
                    number=number,
                    calls=[self._call(step, place) for place in places],
                    waits=waits,
                    coming=[self._argument(feed) for feed in self._layout.feeds(step, HOME)] if at_home else None,
                )
            )
        return plan

    def _call(self, step: Iterable[TaskNode], place: int) -> _Call:
        return _Call(
            worker=self._places.index(place),
            arguments=[self._argument(feed) for feed in self._layout.feeds(step, place)],
            results=[self._ring_at(source, place) for source in _given(self._layout, step, place)],
        )

    def _argument(self, feed: Feed) -> Callable[[int], Any]:
        """What gives the value of `feed` in a round: another process's, or the driver's own."""
        layout, source, delay = self._layout, feed.edge.source, feed.edge.delay
        if self._place_of(feed) != HOME:
            ring = self._ring(source, feed.source)
            return lambda number: ring.at(number - delay)
        home = self._home
        assert home is not None
        if feed.edge.shape is not EdgeShape.SCATTER:
            return lambda number: home.value(source, number - delay)
        members = layout.pieces[feed.edge.target.task][feed.target].members
        width = layout.graph.node(feed.edge.target.task).members
        return lambda number: _part_of(home.value(source, number - delay), members, width, str(source))

    def _place_of(self, feed: Feed) -> int:
        return self._layout.pieces[feed.edge.source.task][feed.source].place

    def _ring_at(self, source: PortRef, place: int) -> Ring:
        piece = self._layout.piece_at(source.task, place)
        assert piece is not None
        return self._ring(source, piece)

    def _ring(self, source: PortRef, piece: int) -> Ring:
        """The ring of a piece, made when first asked for."""
        return self._values.setdefault((source, piece), self._layout.ring_for(source))


def _members(layout: Layout, place: int) -> list[str]:
    """The names of the tasks that live in `place`."""
    return [
        member_name(node, index)
        for node in layout.graph.tasks
        for piece in layout.pieces[node.path]
        if piece.place == place
        for index in piece.members
    ]


def _part_of(values: Any, members: range, width: int, port: str) -> Any:
    """What a scatter of `values` to a bank of `width` sends to `members` of it."""
    item_of(values, members.start, width, port)
    return None if values is None else values[members.start : members.stop]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`processes-pipes` has no options."""


def _open(graph: Graph, _options: Options, _scratch: Path) -> PipesSession:
    """Start the processes."""
    return PipesSession(packed(graph, driver_slice=True, places=processors()))


def _demands(graph: Graph, _options: Options) -> Demands:
    """What it takes: values where they are given and where they are read, and once more as what a pipe carries."""
    here = demands_here(graph)
    return Demands(processes=processors() - 1, memory_bytes=here.memory_bytes + 2 * value_bytes(graph))


RUNTIME = Runtime(
    name="processes-pipes",
    summary="multiprocessing as written by hand: a process for each processor, the driver's among them, with a "
    "slice of every bank; pipes, one message a round each way.",
    options=Options,
    open=_open,
    demands=_demands,
)
