"""A dataflow graph as a program of xronos, and the session that runs it. Imports xronos, which is an extra.

Every task is a reactor with one reaction. A conductor begins a round at each tick of its timer by a
message to all, which stops at the end of an `advance`: the program runs in a thread of its own, whose
tags wait there. A delayed edge is a connection with a delay of so many ticks.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xronos
import xronos.experimental

from runtimes.protocol import RuntimeFailure, member_name, task_failure
from workloads.dataflow import EdgeShape, Outputs, PortRef, Session, State, accept_array, item_of, read_only, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from workloads.dataflow import Edge, Graph, TaskNode

__all__ = ["XronosSession"]

_TICK: Final = timedelta(milliseconds=1)


class _Gate:
    """Where the program's thread waits until more rounds are asked for."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self._left = 0
        self._closing = False
        self._go = threading.Semaphore(0)
        self._drained = threading.Semaphore(0)

    def ask(self, rounds: int) -> list[int]:
        """Have the program run `rounds` rounds, unless it fails; when the first began, and when each ended."""
        self.stamps = []
        if rounds == 0:
            return self.stamps
        self._left = rounds
        self._go.release()
        self._drained.acquire()
        return self.stamps

    def enter(self) -> bool:
        """End a round, and wait until the next may begin; false if there will be none."""
        self.stamps.append(perf_counter_ns())
        if self._left == 0:
            self._drained.release()
            self._go.acquire()
            if self._closing:
                return False
            self.stamps.append(perf_counter_ns())
        self._left -= 1
        return True

    def await_program(self) -> None:
        """Wait until the program stands before its first round, or has ended."""
        self._drained.acquire()

    def close(self) -> None:
        """Let the program end."""
        self._closing = True
        self._go.release()

    def give_up(self) -> None:
        """The program has ended: nobody need wait for it."""
        self._drained.release()


class _Conductor(xronos.Reactor):
    """Begins the rounds."""

    beat = xronos.PeriodicTimerDeclaration(period=_TICK)
    begins = xronos.OutputPortDeclaration[int]()

    def __init__(self, gate: _Gate, first_round: int) -> None:
        super().__init__()
        self.gate = gate
        self.round = first_round

    @xronos.reaction
    def begin(self, context: xronos.ReactionContext) -> Callable[[], None]:
        """Begin a round, or end the program."""
        context.add_trigger(self.beat)
        begins, end = context.add_effect(self.begins), context.add_effect(self.shutdown)

        def handle() -> None:
            if self.gate.enter():
                begins.set(self.round)
                self.round += 1
            else:
                end.trigger_shutdown()

        return handle


class _Firing(xronos.Reactor):
    """One task, which fires once a round, in memory that turns by phases as in the plain loop."""

    def __init__(self, graph: Graph, node: TaskNode, index: int) -> None:
        super().__init__()
        self.name_in_graph = member_name(node, index)
        self.task = _built(graph, node, index)
        self.begins = xronos.experimental.InputPort[int]("begins", self)
        self.incoming = [_Incoming(self, graph, edge, index, number) for number, edge in _numbered(graph, node)]
        sources = [PortRef(node.path, port.name) for port in node.outputs]
        phases = max(map(graph.slots_of, sources), default=1)
        self.outgoing = [_Outgoing(self, graph, source, phases) for source in sources]
        self.inputs: dict[str, Any] = dict.fromkeys(port.name for port in node.inputs)
        self.outputs = [
            Outputs(
                node.path,
                [port.name for port in node.outputs],
                {out.name: out.slots[phase % len(out.slots)] for out in self.outgoing if out.slots},
                optional=node.optional_arrays,
            )
            for phase in range(phases)
        ]

    @xronos.reaction
    def fire(self, context: xronos.ReactionContext) -> Callable[[], None]:
        """Fire it."""
        begins = context.add_trigger(self.begins)
        reads = [incoming.reads(context) for incoming in self.incoming]
        sends = [outgoing.sends(context) for outgoing in self.outgoing]
        inputs, all_outputs = self.inputs, self.outputs

        def handle() -> None:
            if not begins.is_present():
                return  # a delayed value, when the program ends
            number = begins.get()
            outputs = all_outputs[number % len(all_outputs)]
            try:
                for port, read in reads:
                    inputs[port] = read(number)
                self.task.fire(inputs, outputs)
                assigned = outputs.assigned
                if assigned:
                    outputs.assigned = {}
                for send in sends:
                    send(number, assigned)
            except Exception as error:
                raise task_failure(self.name_in_graph, number, error) from error

        return handle


def _numbered(graph: Graph, node: TaskNode) -> Sequence[tuple[int, Edge]]:
    return list(enumerate(graph.edges_into(node.path)))


def _built(graph: Graph, node: TaskNode, index: int) -> Any:
    try:
        return node.build(index, graph.seed)
    except Exception as error:
        name = member_name(node, index)
        raise RuntimeFailure(f"Task '{name}' could not be built: {type(error).__name__}: {error}") from error


class _Incoming:
    """What one task receives over one edge: a port, or for a gather one for each member."""

    def __init__(self, reactor: _Firing, graph: Graph, edge: Edge, index: int, number: int) -> None:
        self.edge = edge
        self._index = index
        self._width = graph.node(edge.target.task).members
        self.senders: Sequence[int] = (
            range(graph.node(edge.source.task).members)
            if edge.shape is EdgeShape.GATHER
            else (index if edge.shape is EdgeShape.ONE_TO_ONE else 0,)
        )
        self.ports = [xronos.experimental.InputPort[Any](f"in{number}_{sender}", reactor) for sender in self.senders]
        self._first_round = graph.first_round
        self.before: list[list[Any]] = [[] for _ in self.ports]
        """Of each port what its sender gave in the rounds before the first, the last of them last."""

    def reads(self, context: xronos.ReactionContext) -> tuple[str, Callable[[int], Any]]:
        """The name of the input, and what gives its value in a round."""
        triggers = [context.add_trigger(port) for port in self.ports]
        delay, before, edge = self.edge.delay, self.before, self.edge
        first_of_sender = self._first_round + delay

        def one(number: int, at: int = 0) -> Any:
            trigger = triggers[at]
            if trigger.is_present():
                return trigger.get()
            return before[at][number - first_of_sender] if number < first_of_sender else None

        if edge.shape is EdgeShape.GATHER:
            return edge.target.name, lambda number: [one(number, at) for at in range(len(triggers))]
        if edge.shape is EdgeShape.SCATTER:
            source, index, width = str(edge.source), self._index, self._width
            return edge.target.name, lambda number: item_of(one(number), index, width, source)
        return edge.target.name, one


class _Outgoing:
    """One output of one task, with its memory where it declares an array for every round."""

    def __init__(self, reactor: _Firing, graph: Graph, source: PortRef, phases: int) -> None:
        self.source = source
        self.name = source.name
        self.spec = graph.node(source.task).output(source.name).always
        # One slot if no value outlives its round, else one for each phase, so that all turn together.
        number = 1 if graph.slots_of(source) == 1 else phases
        scattered = any(edge.shape is EdgeShape.SCATTER for edge in graph.edges_from(source))
        self._by_reference = number == 1 and not scattered
        self.slots: list[NDArray[Any]] = [self.spec.zeros() for _ in range(number)] if self.spec is not None else []
        self.port = xronos.experimental.OutputPort[Any](f"out_{self.name}", reactor)
        self._delay = graph.delay_of(source)
        self._kept: list[Any] = [None] * (0 if self.slots else self._delay)
        """Without memory of its own, what it gave in the last rounds."""

    def give_before(self, first_round: int, values: Sequence[Any]) -> None:
        """Keep `values` as those of the rounds before the first."""
        for number, value in enumerate(values, first_round - len(values)):
            if self.slots:
                np.copyto(self.slots[number % len(self.slots)], value)
            else:
                self._kept[number % self._delay] = value

    def in_flight(self, following: int) -> list[Any]:
        """What it gave in as many rounds before round `following` as its longest delay, the oldest first."""
        values = self.slots or self._kept
        return [values[number % len(values)] for number in range(following - self._delay, following)]

    def sends(self, context: xronos.ReactionContext) -> Callable[[int, Mapping[str, Any]], None]:
        """What sends the value of a round, given what the task assigned."""
        effect, name = context.add_effect(self.port), self.name
        spec, kept, delay = self.spec, self._kept, self._delay
        if spec is None:

            def send(number: int, assigned: Mapping[str, Any]) -> None:
                if assigned.get(name) is not None:
                    effect.set(assigned[name])
                if delay:
                    kept[number % delay] = assigned.get(name)

            return send
        slots, views = self.slots, [read_only(slot) for slot in self.slots]

        def send_array(number: int, assigned: Mapping[str, Any]) -> None:
            at = number % len(slots)
            view = views[at]
            if name in assigned:
                array = accept_array(assigned[name], spec, str(self.source))
                if self._by_reference:
                    view = read_only(array)
                else:
                    np.copyto(slots[at], array)
            effect.set(view)

        return send_array


class XronosSession(Session):
    """A graph as a program of xronos, in a thread of this process."""

    def __init__(self, graph: Graph) -> None:
        """Build every task, connect the reactors and start the program, which waits before its first round.

        Raises:
            RuntimeFailure: if a task cannot be built, or the program does not start.
        """
        self._graph = graph
        self._round = graph.first_round
        self._begun = False
        self._open = True
        self._error: BaseException | None = None
        self._gate = _Gate()
        self._environment = xronos.Environment(fast=True)
        # For each port and reaction xronos reads the source of every frame of the stack: a thread has few of them.
        with ThreadPoolExecutor(1) as builder:
            self._firings = builder.submit(self._reactors).result()
        self._connect()
        self._thread = threading.Thread(target=self._execute, name="xronos", daemon=True)
        self._thread.start()
        self._gate.await_program()
        self._check()

    def _reactors(self) -> dict[str, list[_Firing]]:
        """A reactor for each member, by path."""
        return {
            node.path: [
                self._environment.create_reactor(f"{node.path}-{index}", _Firing, self._graph, node, index)
                for index in range(node.members)
            ]
            for node in self._graph.tasks
        }

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds; their durations in nanoseconds.

        Raises:
            RuntimeFailure: if a task raises; names it and the round.
        """
        if not self._open or self._error is not None:
            raise RuntimeFailure("This session has failed or is closed. Open another one.")
        self._begin()
        at_ns = np.array(self._gate.ask(rounds), np.int64)
        self._check()
        self._round += rounds
        return at_ns[1:] - at_ns[:-1]

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """What the observed tasks received in the last round."""
        return {node.path: self._firings[node.path][0].inputs for node in self._graph.tasks if node.observed}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every task its tallies."""
        return {path: [firing.task.tallies() for firing in firings] for path, firings in self._firings.items()}

    def state(self) -> State:
        """Where the program stands: what the tasks keep, and what they gave in the last rounds.

        Raises:
            GraphError: if a task has no state; names it.
        """
        if not self._open or self._error is not None:
            raise RuntimeFailure("This session has failed or is closed. Open another one.")
        self._begin()
        members = {
            path: [
                state_of(firing.task, {o.name: o.in_flight(self._round) for o in _delayed(self._graph, firing)})
                for firing in firings
            ]
            for path, firings in self._firings.items()
        }
        return State.of(self._graph, self._round, members)

    def close(self) -> None:
        """End the program and close every task."""
        if not self._open:
            return
        self._open = False
        self._gate.close()
        self._thread.join()
        for firings in self._firings.values():
            for firing in firings:
                firing.task.close()
                # xronos holds its reactors for good, but need not hold an emulator.
                firing.task = None

    def _execute(self) -> None:
        try:
            self._environment.execute()
        except BaseException as error:  # noqa: BLE001 - raised where rounds are asked for
            self._error = error
        finally:
            self._gate.give_up()

    def _check(self) -> None:
        """Raise what has ended the program, if something has."""
        if isinstance(self._error, RuntimeFailure):
            raise self._error
        if self._error is not None:
            what = f"{type(self._error).__name__}: {self._error}"
            raise RuntimeFailure(f"The program of xronos failed in round {self._round}: {what}") from self._error

    def _connect(self) -> None:
        conductor = self._environment.create_reactor("conductor", _Conductor, self._gate, self._graph.first_round)
        for firings in self._firings.values():
            for firing in firings:
                self._environment.connect(conductor.begins, firing.begins)
                for incoming in firing.incoming:
                    source, delay = incoming.edge.source, incoming.edge.delay
                    for sender, port in zip(incoming.senders, incoming.ports, strict=True):
                        (outgoing,) = (o for o in self._firings[source.task][sender].outgoing if o.name == source.name)
                        self._environment.connect(outgoing.port, port, delay=_TICK * delay if delay else None)

    def _begin(self) -> None:
        """Before the first round have every task say what its delayed outputs carried in those before."""
        if self._begun:
            return
        self._begun = True
        first_round = self._graph.first_round
        values: dict[tuple[PortRef, int], list[Any]] = {}
        for node in self._graph.tasks:
            for index, firing in enumerate(self._firings[node.path]):
                for outgoing in _delayed(self._graph, firing):
                    before = values[outgoing.source, index] = _before(self._graph, firing, index, outgoing)
                    outgoing.give_before(first_round, before)
        for firings in self._firings.values():
            for firing in firings:
                for incoming in firing.incoming:
                    if incoming.edge.delay:
                        incoming.before[:] = [values[incoming.edge.source, sender] for sender in incoming.senders]


def _delayed(graph: Graph, firing: _Firing) -> list[_Outgoing]:
    return [outgoing for outgoing in firing.outgoing if graph.delay_of(outgoing.source)]


def _before(graph: Graph, firing: _Firing, index: int, outgoing: _Outgoing) -> list[Any]:
    """What `firing` gave in the rounds before the first."""
    try:
        values = graph.values_before(outgoing.source, index, firing.task)
        if outgoing.spec is None:
            return values
        return [read_only(accept_array(value, outgoing.spec, str(outgoing.source)).copy()) for value in values]
    except Exception as error:
        raise task_failure(firing.name_in_graph, graph.first_round, error) from error
