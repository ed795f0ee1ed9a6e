"""A dataflow graph as a reactor program, and the session on it.

Every task becomes a reactor with one reaction, triggered once a round by a timer; edges become
connections, delayed ones `after` as many rounds. Tag 0 builds the tasks where they live. The tags up
to the longest delay *prime* the program: sources of delayed edges give their initial values. Round r
is the r-th tag after those.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from itertools import cycle, islice
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.protocol import RuntimeFailure, member_name
from runtimes.reactor import (
    Input,
    Output,
    PortBank,
    ReactionFailed,
    Reactor,
    ReactorError,
    Timer,
    bank,
    ns,
    reaction,
    shutdown,
    startup,
)
from workloads.dataflow import (
    Edge,
    EdgeShape,
    Graph,
    Outputs,
    PortRef,
    Session,
    State,
    accept_array,
    item_of,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from runtimes.reactor import Program
    from workloads.dataflow import GraphError, Task, TaskNode, TaskState

__all__ = ["GraphReactor", "ReactorSession", "TaskReactor", "first_round_tag", "places_of_their_own", "useful_workers"]

ROUND_NS = 1 * ns
"""Logical time between rounds; programs of rounds run in fast mode, so its length does not matter."""


class TaskReactor(Reactor):
    """One task of a graph."""

    def __init__(self, graph: Graph, node: TaskNode, index: int) -> None:
        """Declare the ports of member `index` of `node`."""
        self.graph, self.node, self.index = graph, node, index
        self.edges = graph.edges_into(node.path)
        self.before: dict[str, list[Any]] | None = None
        self.task: Task | None = None
        self.inputs: list[dict[str, Any]] = []
        self.outputs: list[Outputs] = []
        self.arriving: list[tuple[str, Callable[[], Any]]] = []
        self.receivers = [
            self.add(
                f"in_{edge.target.name}",
                Input(
                    width=graph.node(edge.source.task).members if edge.shape is EdgeShape.GATHER else None,
                    retain=graph.retain_of(edge),
                ),
            )
            for edge in self.edges
        ]
        self.senders = {
            port.name: self.add(
                f"out_{port.name}",
                Output[Any]()
                if port.array is None
                else Output[Any](shape=port.array.shape, dtype=port.array.dtype, steady=not port.optional),
            )
            for port in node.outputs
        }
        self.always = {port.name: port.always for port in node.outputs}
        self.delayed = [
            port for port in self.senders if any(e.delay for e in graph.edges_from(PortRef(node.path, port)))
        ]
        self.priming_tags = _longest_delay(graph)
        effects = list(self.senders.values())
        self.add_reaction("build", self.build, triggers=[startup], sources=self.receivers, effects=effects)
        self.round = Timer(ROUND_NS, offset_ns=(1 + self.priming_tags) * ROUND_NS)
        if self.delayed:
            tags = range(1, self.priming_tags + 1)
            before = [self.add(f"before_round_{tag}", Timer(offset_ns=tag * ROUND_NS)) for tag in tags]
            late = [self.senders[port] for port in self.delayed]
            self.add_reaction("prime", self.prime, triggers=before, effects=late)
        self.add_reaction(
            "fire",
            self.fire,
            triggers=[self.round],
            sources=self.receivers,
            effects=effects,
            prepare=self.prepare_fire,
        )

    def build(self) -> None:
        """Build the task."""
        self.task = self.node.build(self.index, self.graph.seed)
        self.attach()
        self.primed = 0

    @property
    def phase(self) -> int:
        """Which slots are those of the tag at hand."""
        return self.tag.time_ns // ROUND_NS % self.phases

    def attach(self) -> None:
        """Make the mappings that the task is fired with, one for each phase of the slots."""
        slots = {name: self.senders[name].slots() for name, spec in self.always.items() if spec is not None}
        optional = self.node.optional_arrays
        rooms = {name: self.senders[name].array for name in optional}
        arrivals = {
            edge.target.name: (edge, port, _items(edge, port.slots(), self.index))
            for edge, port in zip(self.edges, self.receivers, strict=True)
        }
        self.phases = max([len(s) for s in slots.values()] + [len(v) for _, _, v in arrivals.values() if v], default=1)
        self.inputs = [
            {name: views[phase % len(views)] if views else None for name, (_, _, views) in arrivals.items()}
            for phase in range(self.phases)
        ]
        self.outputs = [
            Outputs(
                self.node.path,
                self.senders,
                {name: s[phase % len(s)] for name, s in slots.items()},
                optional=optional,
                rooms=rooms,
            )
            for phase in range(self.phases)
        ]
        self.arriving = [
            (name, self.arrival(edge, port)) for name, (edge, port, views) in arrivals.items() if views is None
        ]

    @reaction(shutdown)
    def end(self) -> None:
        """Close the task."""
        task, self.task = self.task, None
        assert task is not None
        task.close()

    def moved_away(self) -> None:
        """Drop the mappings, and with them the memory of a whole program that has been moved to workers."""
        self.inputs, self.outputs, self.arriving = [], [], []

    def let_go(self, *, failed: bool) -> None:
        """Let go of all memory; close the task if it is here and the program has failed.

        One that is here in any other case has moved and was closed elsewhere: what is left is its copy.
        """
        task, self.task = self.task, None
        self.moved_away()
        if task is not None and failed:
            with suppress(Exception):
                task.close()

    def fire(self) -> None:
        """Fire the task."""
        self.prepare_fire()()

    def prepare_fire(self) -> Callable[[], None]:
        """What fires the task, with all that it needs at hand."""
        assert self.task is not None
        self.attach()
        fire, arriving, send = self.task.fire, self.arriving, self.send
        if self.phases == 1:
            only_inputs, only_outputs = self.inputs[0], self.outputs[0]

            def fire_in_one_slot() -> None:
                fire(only_inputs, only_outputs)
                if only_outputs.assigned:
                    send(only_outputs)

            def take_and_fire() -> None:
                for name, arrived in arriving:
                    only_inputs[name] = arrived()
                fire_in_one_slot()

            return take_and_fire if arriving else fire_in_one_slot

        # From the tag at hand on the task fires once a tag.
        slots = cycle(zip(self.inputs, self.outputs, strict=True))
        following = islice(slots, self.phase, None).__next__

        def fire_in_turn() -> None:
            inputs, outputs = following()
            for name, arrived in arriving:
                inputs[name] = arrived()
            fire(inputs, outputs)
            if outputs.assigned:
                send(outputs)

        return fire_in_turn

    def arrival(self, edge: Edge, port: Input[Any]) -> Callable[[], Any]:
        """What tells what came through `edge` in this tag, where that is no declared array."""
        if edge.shape is EdgeShape.GATHER:
            return port.reading()
        if edge.shape is EdgeShape.SCATTER:
            return lambda: item_of(port.get(), self.index, self.node.members, str(edge.source))
        return port.get

    def prime(self) -> None:
        """Give on delayed outputs what the rounds before the first gave, or would have given."""
        assert self.task is not None
        if self.before is None:
            sources = [PortRef(self.node.path, name) for name in self.delayed]
            self.before = {s.name: self.graph.values_before(s, self.index, self.task) for s in sources}
        self.primed += 1
        outputs = self.outputs[self.primed % self.phases]
        for name, values in self.before.items():
            at = self.primed - 1 - self.priming_tags + len(values)
            if at >= 0 and (values[at] is not None or self.always[name] is not None):
                outputs[name] = values[at]
        self.send(outputs)

    def send(self, outputs: Outputs) -> None:
        """Hand on what the task assigned."""
        for name, value in outputs.assigned.items():
            spec = self.always[name]
            if spec is None:
                self.senders[name].set(value)
            else:
                np.copyto(outputs[name], accept_array(value, spec, f"{self.node.path}.{name}"))
        outputs.assigned.clear()

    def tallies(self) -> Mapping[str, Any]:
        """The task's tallies, asked for between rounds."""
        assert self.task is not None
        return self.task.tallies()

    def state(self) -> TaskState | GraphError:
        """Where the task stands, asked for between rounds."""
        assert self.task is not None
        return state_of(self.task, {name: self.in_flight(name) for name in self.delayed})

    def in_flight(self, name: str) -> list[Any]:
        """What the task gave on a delayed output in the last rounds, the oldest first."""
        first = self.tag.time_ns // ROUND_NS + 1
        due = {tag.time_ns // ROUND_NS: value for tag, value in self.senders[name].in_flight()}
        return [due.get(first + later) for later in range(self.graph.delay_of(PortRef(self.node.path, name)))]

    def received(self) -> Mapping[str, Any]:
        """What the task received in the last round."""
        return self.inputs[self.phase]


class GraphReactor(Reactor):
    """A whole graph."""

    def __init__(self, graph: Graph) -> None:
        """Make a reactor of every task, and a connection of every edge."""
        for node in graph.tasks:
            make = partial(TaskReactor, graph, node)
            # Not as attributes: a task may have any name, that of a method too.
            self.declared.children[node.path] = make(0) if node.width is None else bank(node.width, make)
        for edge in graph.edges:
            self.connect(
                self.ports(edge.source.task, f"out_{edge.source.name}"),
                self.ports(edge.target.task, f"in_{edge.target.name}"),
                after_ns=edge.delay * ROUND_NS or None,
                broadcast=edge.shape in {EdgeShape.BROADCAST, EdgeShape.SCATTER},
            )

    def ports(self, path: str, name: str) -> PortBank[Any]:
        """The port `name` of a task, or of all members of a bank."""
        home = self.declared.children[path]
        return PortBank([getattr(home, name)]) if isinstance(home, Reactor) else home.port(name)


def first_round_tag(graph: Graph) -> int:
    """The number of the tag at which round 0 runs."""
    return 1 + _longest_delay(graph)


def _longest_delay(graph: Graph) -> int:
    return max((edge.delay for edge in graph.edges), default=0)


def _items(edge: Edge, views: list[Any] | None, index: int) -> list[Any] | None:
    """What member `index` sees of the slots behind `edge`: of a scatter its own item."""
    if views is None or edge.shape is not EdgeShape.SCATTER:
        return views
    return [view[index, ...] for view in views]


def useful_workers(graph: Graph) -> int:
    """How many workers the graph can keep busy at most: one more would only be waited for."""
    widest = max(node.members for node in graph.tasks)
    return max(widest, 1 + sum(node.own_place for node in graph.tasks))


def places_of_their_own(graph: Graph, workers: int) -> dict[str, int]:
    """A worker for each single task that is worth one: the last one first, never the driver's if there is another."""
    marked = [node.path for node in graph.tasks if node.own_place]
    return {path: workers - 1 - number % max(workers - 1, 1) for number, path in enumerate(marked)}


class ReactorSession(Session):
    """A graph as a reactor program that has been started, and has built its tasks."""

    def __init__(self, graph: Graph, program: Program) -> None:
        """Start `program`, made of a `GraphReactor` of `graph`."""
        self._graph = graph
        self._program = program
        self._primed = False
        self._round = graph.first_round
        self._open = True
        self._failed = False
        try:
            program.start()
            self._run(1)
        except BaseException:
            self._failed = True
            self.close()
            raise

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds; their durations in nanoseconds."""
        self._prime()
        begin_ns = perf_counter_ns()
        ends_ns = self._run(rounds)
        self._round += rounds
        return np.diff(ends_ns, prepend=begin_ns)

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """What the observed tasks received in the last round."""
        return {node.path: self._ask(node.path, "received") for node in self._graph.tasks if node.observed}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every task its tallies."""
        return {
            node.path: [self._ask(member_name(node, index), "tallies") for index in range(node.members)]
            for node in self._graph.tasks
        }

    def state(self) -> State:
        """Where the program stands: what the tasks keep, and the events of delayed connections.

        Raises:
            GraphError: if a task has no state; names it.
            RuntimeFailure: if a worker has died.
        """
        self._prime()
        members = {
            node.path: [self._ask(member_name(node, index), "state") for index in range(node.members)]
            for node in self._graph.tasks
        }
        return State.of(self._graph, self._round, members)

    def close(self) -> None:
        """Close every task, and end the workers."""
        if not self._open:
            return
        self._open = False
        try:
            if not self._failed:
                self._program.stop()
        except ReactorError as error:
            self._failed = True
            raise RuntimeFailure(f"The program could not be stopped: {error}") from error
        finally:
            self._program.close()
            for reactor in self._program.assembly.reactors.values():
                if isinstance(reactor, TaskReactor):
                    reactor.let_go(failed=self._failed)

    def _prime(self) -> None:
        """Run the tags before the first round, once."""
        if not self._primed:
            self._primed = True
            self._run(_longest_delay(self._graph))

    def _ask(self, path: str, method: str) -> Any:
        """What `method` of the reactor at `path` gives."""
        with self._telling_failures():
            return self._program.ask(path, method)

    def _run(self, tags: int) -> NDArray[np.int64]:
        """Run `tags` tags; when each ended."""
        with self._telling_failures():
            return self._program.advance(tags)

    @contextmanager
    def _telling_failures(self) -> Iterator[None]:
        """Tell what fails in terms of tasks and rounds."""
        try:
            yield
        except ReactionFailed as error:
            self._failed = True
            first = self._graph.first_round
            number = error.tag[0] // ROUND_NS - 1 - _longest_delay(self._graph) + first
            when = f"failed before round {first}" if number < first else f"failed in round {number}"
            raise RuntimeFailure(f"Task '{error.reactor}' {when}: {error.summary}") from error
        except ReactorError as error:
            self._failed = True
            raise RuntimeFailure(str(error)) from error
        except BaseException:
            self._failed = True
            raise
