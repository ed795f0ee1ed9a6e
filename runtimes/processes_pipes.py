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

from runtimes.layout import HOME
from runtimes.place_states import state_from
from runtimes.places import Place
from runtimes.protocol import Demands, Runtime, demands_here, processors, value_bytes
from runtimes.ray_packed import packed
from runtimes.sessions import ProcessSession, close_tasks
from runtimes.worker_processes import WorkerProcesses
from workloads.dataflow import EdgeShape, PortRef, item_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from runtimes.layout import Feed, Layout, Ring
    from workloads.dataflow import Graph, GraphError, State, TaskNode, TaskState

__all__ = ["RUNTIME", "PipesSession"]


class _Host:
    """What a process holds: one place of the layout."""

    def __init__(self, layout: Layout, place: int) -> None:
        """Build every task of `place`."""
        self._place = Place(layout, place)
        steps = layout.steps()
        self._turns = [number for number, step in enumerate(steps) if layout.nodes_at(step, place)]
        self._given = [_given(layout, steps[number], place) for number in self._turns]
        self._calls = layout.graph.first_round * len(self._turns)

    def begin(self) -> list[list[list[Any]]]:
        """What the driver reads of the rounds before the first, of every turn; nothing where there is no delay."""
        values = self._place.begin()
        return [[values[source.task].get(source.name, []) for source in given] for given in self._given]

    def states(self, round_number: int) -> dict[str, list[TaskState | GraphError]]:
        """Of every task here its state before `round_number`."""
        return self._place.states(round_number)

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


class PipesSession(ProcessSession):
    """A graph in this process and in others, with a pipe to each."""

    def __init__(self, layout: Layout) -> None:
        """Start a process for every place of `layout` but the driver's, and build all tasks.

        Raises:
            RuntimeFailure: if a task cannot be built; names it.
        """
        super().__init__()
        self._layout = layout
        self._round = layout.graph.first_round
        self._begun = False
        self._home: Place | None = None
        self._values: dict[tuple[PortRef, int], Ring] = {}
        self._outstanding: list[_Call] = []
        self._places = layout.actors()
        self._workers = WorkerProcesses("processes-pipes")
        try:
            for place in self._places:
                self._workers.start(partial(_Host, layout, place), members=layout.members_at(place))
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
        self._check_usable()
        try:
            self._begin()
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

    def state(self) -> State:
        """Where the program stands: what the tasks of every process keep, and what is in flight between them.

        Raises:
            GraphError: if a task has no state; names it.
            RuntimeFailure: if a process has died.
        """
        self._check_usable()
        self._begin()
        assert self._home is not None
        by_place = {HOME: self._home.states(self._round)}
        by_place.update(zip(self._places, self._ask("states", self._round), strict=True))
        return state_from(self._layout, self._round, by_place, self._pieces_before)

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

    def _begin(self) -> None:
        """Before the first round have every task say what its delayed outputs carried in those before."""
        if self._begun:
            return
        self._begun = True
        assert self._home is not None
        self._home.begin()
        steps = self._layout.steps()
        for place, answer in zip(self._places, self._ask("begin"), strict=True):
            turns = [step for step in steps if self._layout.nodes_at(step, place)]
            for step, values in zip(turns, answer, strict=True):
                for source, pieces in zip(_given(self._layout, step, place), values, strict=True):
                    self._ring_at(source, place).begin(self._round, pieces)

    def _pieces_before(self, source: PortRef, piece: int) -> list[Any]:
        """What a piece gave in the last rounds, as many as its longest delay."""
        return self._ring(source, piece).before(self._round, self._layout.graph.delay_of(source))

    def _ask(self, order: str, *arguments: Any) -> list[Any]:
        try:
            return self._workers.ask(order, *arguments)
        except BaseException:
            self._failed = True
            raise

    def _close_tasks(self) -> Exception | None:
        return close_tasks(self._home, None if self._failed else self._workers)

    def _end(self) -> None:
        self._workers.end()

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
