"""The parts of a graph in processes without a common clock: they share memory and progress, but no lock-step.

The memory and the board are those of the reactor library; who goes when is said in `parts.py`. A place is a process,
the calling one among them. It fires its tasks round after round, writes what others read into slots that they share,
and publishes that it has done a round; before each it waits until those that it depends on have done theirs. Nobody
tells anybody what to do: orders go out at the beginning of an `advance`, and answers come at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import numpy as np

from runtimes.layout import HOME
from runtimes.parts import DIFFERS, Pace, is_newest, parts_layout, why_in_one
from runtimes.place_states import state_from
from runtimes.places import Place
from runtimes.protocol import Demands, Runtime, RuntimeFailure, demands_here, processors
from runtimes.sessions import ProcessSession, close_tasks
from runtimes.worker_processes import WorkerProcesses
from workloads.dataflow import EdgeShape, PortRef, read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from runtimes.layout import Feed, Layout
    from runtimes.reactor.board import Board, BoardHandle
    from runtimes.reactor.memory import Segment
    from workloads.dataflow import ArraySpec, Graph, GraphError, State, TaskState

__all__ = ["RUNTIME", "AsyncSession", "Options"]

_LOOK_S: Final = 0.05
"""How long a process waits before it looks whether others are still there."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many processes there are, and how far they may drift apart."""

    workers: Annotated[
        int,
        msgspec.Meta(
            description="how many processes run parts of the graph, the calling one counted; 0: one for each "
            "processor, and at least two. A part that is no bank's and not observed has one of its own in any case",
            ge=0,
        ),
    ] = 0
    staleness: Annotated[
        int,
        msgspec.Meta(
            description="how many rounds a process may be ahead of another that it gives to or receives from, and how "
            "many rounds older than in lock-step what is broadcast may be",
            ge=0,
        ),
    ] = 4


# --------------------------------------------------------------------------------------------- slots


class _Slots:
    """What one piece of a port gave in the last rounds, in memory that all share: round r in slot r modulo so many."""

    def __init__(self, arrays: NDArray[Any], present: NDArray[np.uint8], *, is_block: bool, always: bool) -> None:
        """`arrays` has shape `(slots, members, *shape)`; `present` tells of each member whether it gave one."""
        self._arrays = arrays
        self._views = read_only(arrays)
        self._present = present
        self._is_block = is_block
        self._always = always

    def write(self, number: int, value: Any) -> None:
        """Keep what the piece gave in round `number`: an array of all members, a list, or of a single task its own."""
        at = number % len(self._arrays)
        if self._always and isinstance(value, np.ndarray):
            self._arrays[at] = value
            return
        values = value if self._is_block else [value]
        for member in range(self._arrays.shape[1]):
            given = None if value is None else values[member]
            self._present[at, member] = given is not None
            if given is not None:
                self._arrays[at, member] = given

    def read(self, number: int) -> Any:
        """What the piece gave in round `number`, as it was written; views, which hold as long as rounds need them."""
        at = number % len(self._arrays)
        if self._always:
            return self._views[at] if self._is_block else self._views[at, 0, ...]
        values = [self._views[at, member, ...] if there else None for member, there in enumerate(self._present[at])]
        return values if self._is_block else values[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What all processes know and share; it travels to each when it starts."""

    pace: Pace
    memory: Segment
    offsets: Mapping[tuple[PortRef, int], tuple[int, int]]
    """Of what goes from place to place where the arrays begin, and where it is noted which are there."""
    progress: BoardHandle
    """A line for each place: its steps are rounds."""

    @classmethod
    def of(cls, pace: Pace, workers: WorkerProcesses) -> _Shared:
        """Take the memory that rounds at `pace` need."""
        from runtimes.reactor import native_available
        from runtimes.reactor.board import BoardHandle
        from runtimes.reactor.memory import Segment, aligned, item_stride

        offsets: dict[tuple[PortRef, int], tuple[int, int]] = {}
        nbytes = 0
        for source, piece in pace.links():
            spec, (slots, members) = _spec_of(pace.layout.graph, source), _lead_of(pace, source, piece)
            there = aligned(nbytes + slots * members * item_stride(spec.shape, spec.dtype))
            offsets[source, piece] = nbytes, there
            nbytes = aligned(there + slots * members)
        places = len(pace.layout.names)
        progress = BoardHandle(places, places, workers.context, spin=places <= processors(), native=native_available())
        return cls(pace=pace, memory=Segment(nbytes, purpose="values"), offsets=offsets, progress=progress)

    def slots(self, source: PortRef, piece: int) -> _Slots:
        """The slots of a piece of a port."""
        from runtimes.reactor.memory import items_in

        layout, spec, lead = (
            self.pace.layout,
            _spec_of(self.pace.layout.graph, source),
            _lead_of(self.pace, source, piece),
        )
        offset, there = self.offsets[source, piece]
        present = np.frombuffer(self.memory.memory, np.uint8, lead[0] * lead[1], there).reshape(lead)
        always = layout.graph.node(source.task).output(source.name).always is not None
        arrays = items_in(self.memory.memory, offset, lead, spec.shape, spec.dtype)
        return _Slots(arrays, present, is_block=layout.is_block(source.task), always=always)

    def close(self) -> None:
        """Let go of memory and progress."""
        self.memory.close()
        self.progress.close()


def _spec_of(graph: Graph, source: PortRef) -> ArraySpec:
    spec = graph.node(source.task).output(source.name).array
    assert spec is not None
    return spec


def _lead_of(pace: Pace, source: PortRef, piece: int) -> tuple[int, int]:
    """Of the memory of a piece of a port how many slots and members it has."""
    return pace.slots_of(source), len(pace.layout.pieces[source.task][piece].members)


# -------------------------------------------------------------------------------------------- places


class _Runner:
    """One place, and what it shares with the others."""

    def __init__(self, shared: _Shared, number: int) -> None:
        """Build the tasks of place `number`."""
        layout = shared.pace.layout
        self.place = Place(layout, number)
        self.round = layout.graph.first_round
        self.board: Board = shared.progress.open(number)
        self._first_round = self.round
        self._number = number
        self._graph = layout.graph
        self._waits = list(shared.pace.waits_of(number).items())
        self._done = dict.fromkeys(shared.pace.waits_of(number), 0)
        """Of other places how many rounds we know them to have done."""
        self._takes = [self._take(shared, feed) for feed in layout.feeds(layout.graph.tasks, number)]
        self._gives = [
            (source, shared.slots(source, piece))
            for source, piece in shared.pace.links()
            if layout.pieces[source.task][piece].place == number
        ]

    def begin(self) -> None:
        """Give what the rounds before the first gave."""
        before = self.place.begin()
        for source, slots in self._gives:
            values = before[source.task].get(source.name, [])
            for number, value in enumerate(values, self._first_round - len(values)):
                slots.write(number, value)

    def run(self, rounds: int, look: Callable[[], None]) -> list[int]:
        """Run so many rounds; when each was done. While it waits it calls `look` now and then.

        Raises:
            Aborted: if another place has given up.
            RuntimeFailure: if a task raises.
        """
        stamps = []
        fire, begin = self.place.fire, self._first_round
        for number in range(self.round, self.round + rounds):
            for other, behind in self._waits:
                self._wait(other, number - behind - begin, look)
            values = fire(0, number, [take(number) for take in self._takes])
            for source, slots in self._gives:
                slots.write(number, values[source.task][source.name])
            self.round += 1
            self.board.publish(self._number)
            stamps.append(perf_counter_ns())
        return stamps

    def _wait(self, other: int, rounds: int, look: Callable[[], None]) -> None:
        """Wait until place `other` has done so many rounds of this session."""
        from runtimes.reactor.board import ABORTED, REACHED, Aborted

        while self._done[other] < rounds:
            answer = self.board.wait(other, rounds, _LOOK_S)
            if answer == REACHED:
                self._done[other] = rounds
            elif answer == ABORTED:
                raise Aborted("another process has given up")
            else:
                look()

    def _newest(self, other: int) -> int:
        """The number of the last round that place `other` has done."""
        from runtimes.reactor.board import REACHED

        while self.board.wait(other, self._done[other] + 1, 0.0) == REACHED:
            self._done[other] += 1
        return self._first_round + self._done[other] - 1

    def _take(self, shared: _Shared, feed: Feed) -> Callable[[int], Any]:
        """What gives the value of `feed` for a round."""
        layout, edge = shared.pace.layout, feed.edge
        slots, giver = shared.slots(edge.source, feed.source), layout.pieces[edge.source.task][feed.source].place
        if is_newest(layout.graph, edge):
            return lambda _number: slots.read(self._newest(giver))
        if edge.shape is EdgeShape.SCATTER and giver == HOME:
            # From the driver comes the part of a place alone.
            members = layout.pieces[edge.target.task][feed.target].members
            return lambda number: _part_of(slots.read(number - edge.delay), members)
        return lambda number: slots.read(number - edge.delay)


def _part_of(values: Any, members: range) -> Any:
    return None if values is None else values[members.start : members.stop]


class _Host:
    """A place in a process of its own, as `WorkerProcesses` holds it."""

    def __init__(self, shared: _Shared, number: int) -> None:
        """Build the tasks of place `number`."""
        self._runner = _Runner(shared, number)

    def begin(self) -> None:
        """Give what the rounds before the first gave."""
        self._runner.begin()

    def advance(self, rounds: int) -> NDArray[np.int64] | None:
        """When each of so many rounds was done; None if another place has given up."""
        from runtimes.reactor.board import Aborted

        try:
            return np.array(self._runner.run(rounds, _look_nowhere), np.int64)
        except Aborted:
            return None
        except BaseException:
            self._runner.board.abort()
            raise

    def states(self, round_number: int) -> dict[str, list[TaskState | GraphError]]:
        """Of every task here its state before `round_number`."""
        return self._runner.place.states(round_number)

    def tallies(self) -> dict[str, list[Mapping[str, Any]]]:
        """Of every task here its tallies."""
        return self._runner.place.tallies()

    def close(self) -> None:
        """Close every task here."""
        self._runner.place.close()


def _look_nowhere() -> None:
    """A process ends with the one that started it, whatever it waits for."""


# ------------------------------------------------------------------------------------------- session


class AsyncSession(ProcessSession):
    """A graph whose parts run at their own pace, in this process and others."""

    def __init__(self, layout: Layout, staleness: int) -> None:
        """Start a process for every place of `layout` but the driver's, and build all tasks.

        Raises:
            RuntimeFailure: if a task cannot be built; names it.
        """
        super().__init__()
        self._layout = layout
        self._round = layout.graph.first_round
        self._begun = False
        self._home: _Runner | None = None
        self._shared: _Shared | None = None
        self._places = layout.actors()
        self._workers = WorkerProcesses("reactor-async")
        try:
            self._shared = shared = _Shared.of(Pace(layout, staleness), self._workers)
            for place in self._places:
                self._workers.start(partial(_Host, shared, place), members=layout.members_at(place))
            self._home = _Runner(shared, HOME)
            self._workers.answers()
        except BaseException:
            self._failed = True
            self.close()
            raise

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds of every part; their durations in nanoseconds.

        A round ends when the last part has done it.

        Raises:
            RuntimeFailure: if a task raises or a process dies; names it and the round.
        """
        self._check_usable()
        self._begin()
        begin_ns = perf_counter_ns()
        ends_ns = self._run(rounds)
        self._round += rounds
        self._workers.rounds = self._round
        durations_ns: NDArray[np.int64] = np.diff(ends_ns.max(axis=0), prepend=begin_ns)
        return durations_ns

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """What the observed tasks received in the last round."""
        assert self._home is not None
        return {node.path: self._home.place.inputs(node.path) for node in self._layout.graph.tasks if node.observed}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every task its tallies.

        Raises:
            RuntimeFailure: if a task raises or a process has died.
        """
        assert self._home is not None
        return self._layout.in_order({HOME: self._home.place.tallies(), **self._ask("tallies")})

    def state(self) -> State:
        """Where the program stands: all parts have done as many rounds.

        What goes on from it does not repeat what this session does then, which nothing determines.

        Raises:
            GraphError: if a task has no state; names it.
            RuntimeFailure: if a process has died.
        """
        self._check_usable()
        self._begin()
        assert self._home is not None
        by_place = {HOME: self._home.place.states(self._round), **self._ask("states", self._round)}
        return state_from(self._layout, self._round, by_place, self._before)

    def _run(self, rounds: int) -> NDArray[np.int64]:
        """Have all places run so many rounds; when each was done, shape `(places, rounds)`."""
        from runtimes.reactor.board import Aborted

        home = self._home
        assert home is not None
        try:
            for number in range(len(self._places)):
                self._workers.tell(number, "advance", rounds)
            here = home.run(rounds, self._workers.look)
            return np.array([here, *self._workers.answers()], np.int64)
        except Aborted as error:
            self._failed = True
            raise self._failure() from error
        except BaseException:
            self._failed = True
            home.board.abort()
            raise

    def _failure(self) -> RuntimeFailure:
        """What a process says that has given up; the others answer when they notice."""
        try:
            self._workers.answers()
        except RuntimeFailure as failure:
            return failure
        return RuntimeFailure("A process of reactor-async has given up and does not say why.")

    def _begin(self) -> None:
        """Before the first round have every task say what its delayed outputs carried in those before."""
        if self._begun:
            return
        self._begun = True
        assert self._home is not None
        try:
            self._home.begin()
        except BaseException:
            self._failed = True
            raise
        self._ask("begin")

    def _before(self, source: PortRef, piece: int) -> list[Any]:
        """What a piece gave in the last rounds, as many as its longest delay."""
        assert self._shared is not None
        slots = self._shared.slots(source, piece)
        return [slots.read(self._round - before) for before in range(self._layout.graph.delay_of(source), 0, -1)]

    def _ask(self, order: str, *arguments: Any) -> dict[int, Any]:
        """What the processes answer, by place."""
        try:
            return dict(zip(self._places, self._workers.ask(order, *arguments), strict=True))
        except BaseException:
            self._failed = True
            raise

    def _close_tasks(self) -> Exception | None:
        home = None if self._home is None else self._home.place
        return close_tasks(home, None if self._failed else self._workers)

    def _end(self) -> None:
        self._workers.end()
        self._home = None
        if self._shared is not None:
            self._shared.close()


# ------------------------------------------------------------------------------------------- runtime


def _layout(graph: Graph, options: Options) -> Layout:
    return parts_layout(graph, options.workers)


def _open(graph: Graph, options: Options, _scratch: Path) -> AsyncSession:
    """Start the processes.

    Raises:
        RuntimeFailure: for a graph that it refuses.
    """
    reason = _refuses(graph, options)
    if reason is not None:
        raise RuntimeFailure(f"reactor-async cannot run workload '{graph.workload}': {reason}.")
    return AsyncSession(_layout(graph, options), options.staleness)


def _refuses(graph: Graph, options: Options) -> str | None:
    """Why it does not run `graph`, or None."""
    layout = _layout(graph, options)
    for source, _ in Pace(layout, options.staleness).links():
        if graph.node(source.task).output(source.name).array is None:
            return f"'{source}' goes from one part of the graph to another and declares no array"
    return why_in_one(layout)


def _demands(graph: Graph, options: Options) -> Demands:
    """What it takes: every value where it is given, and as many as there are slots in the memory that is shared."""
    here, pace = demands_here(graph), Pace(_layout(graph, options), options.staleness)
    shared = sum(
        slots * members * _spec_of(graph, source).nbytes
        for source, piece in pace.links()
        if graph.node(source.task).output(source.name).array is not None
        for slots, members in [_lead_of(pace, source, piece)]
    )
    return Demands(processes=len(pace.layout.actors()), memory_bytes=here.memory_bytes + shared)


def _notice(_options: Options) -> str | None:
    from runtimes.reactor import native_available

    if native_available():
        return None
    return "The native part was not built: processes wait on semaphores, which is slower."


RUNTIME = Runtime(
    name="reactor-async",
    summary="Parts of the graph in processes that share memory and progress but no lock-step; staleness is bounded.",
    options=Options,
    open=_open,
    refuses=_refuses,
    notice=_notice,
    demands=_demands,
    differs=DIFFERS,
    limits="workloads with parts that only delayed edges join, which carry arrays, as training has",
    optional=(("runtimes.reactor._native", "waiting on shared counters instead of semaphores"),),
)
