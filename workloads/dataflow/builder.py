"""What a workload's author calls: `GraphBuilder`, which makes a validated graph, and `Workload`, which offers it."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workloads.dataflow.graph import Edge, EdgeShape, Graph, Input, Output, PortRef, TaskNode
from workloads.dataflow.values import GraphError, unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import msgspec

    from workloads.dataflow.tasks import TaskFactory

__all__ = ["GraphBuilder", "Workload"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A workload as the harness finds it, through the entry-point group `reactorbench.workloads`.

    The module that holds it imports nothing heavy at its top, so that listing stays quick.
    """

    name: str
    summary: str
    """One line: what it does."""
    parameters: type[msgspec.Struct]
    """A frozen, keyword-only struct; every field annotated with `msgspec.Meta(description=...)` and a default."""
    build: Callable[[Any, int], Graph]
    """`build(parameters, seed)` gives the graph."""
    check: Callable[[Any], None] | None = None
    """Raises ValueError, with a remedy, for parameters that no graph can be built from (an unknown environment)."""
    requires: tuple[str, ...] = ()
    """Importable modules that it needs."""
    optional: tuple[tuple[str, str], ...] = ()
    """Modules that only some parameters need: each with which."""
    evaluate: Callable[[Any, Mapping[str, Sequence[Mapping[str, Any]]], int, int], Sequence[float]] | None = None
    """`evaluate(parameters, tallies, episodes, seed)` plays so many whole episodes with what has been learnt, without
    exploring, in environments of its own, and gives the undiscounted return of each; None where nothing is learnt.

    `tallies` are those of a session, on any runtime, before its first round or between rounds. The result follows from
    the arguments alone: equal episodes for equal seeds, and none of those that were trained on. Raises ValueError, with
    a remedy, for parameters whose result cannot be evaluated.
    """


@dataclass(slots=True, kw_only=True)
class GraphBuilder:
    """Collects tasks and edges; `build` validates and freezes them into a `Graph`, whose fields are explained there."""

    workload: str
    parameters: Mapping[str, Any]
    seed: int
    unit: str
    units_per_round: int
    held_bytes: int = 0
    _nodes: dict[str, TaskNode] = field(default_factory=dict)
    _edges: list[Edge] = field(default_factory=list)

    def task(  # noqa: PLR0913 - the parts of a task; all but two are named at the call
        self,
        path: str,
        factory: TaskFactory,
        *,
        inputs: Iterable[str | Input] = (),
        outputs: Iterable[str | Output] = (),
        observed: bool = False,
        own_place: bool = False,
    ) -> TaskNode:
        """Add a single task; `factory` is called with a `TaskContext` where the task will live.

        Raises:
            GraphError: for a name used twice, or an observed task with a place of its own.
        """
        if observed and own_place:
            raise GraphError(
                f"Task '{path}' is observed, so it lives with the driver, and cannot have a place of its own. "
                "Drop one of the two."
            )
        return self._add(path, None, factory, inputs, outputs, observed=observed, own_place=own_place)

    def bank(  # noqa: PLR0913 - as `task`
        self,
        path: str,
        width: int,
        factory: TaskFactory,
        *,
        inputs: Iterable[str | Input] = (),
        outputs: Iterable[str | Output] = (),
        stateless: bool = False,
    ) -> TaskNode:
        """Add a bank of `width` like tasks; each knows its index through its context.

        With `stateless`, members promise to do the same work whatever they receive; of optional inputs, in every round
        in which they receive them.

        Raises:
            GraphError: for a width below 1, or a name used twice.
        """
        if width < 1:
            raise GraphError(f"Bank '{path}' has width {width}. A bank has at least 1 member.")
        return self._add(path, width, factory, inputs, outputs, stateless=stateless)

    def connect(self, source: PortRef, target: PortRef, *, delay: int = 0) -> None:
        """One to one: task to task, or member i to member i of banks of equal width."""
        self._join(source, target, EdgeShape.ONE_TO_ONE, delay)

    def broadcast(self, source: PortRef, target: PortRef, *, delay: int = 0) -> None:
        """The value of a single task to every member of a bank."""
        self._join(source, target, EdgeShape.BROADCAST, delay)

    def scatter(self, source: PortRef, target: PortRef, *, delay: int = 0) -> None:
        """The i-th item of a single task's value to member i of a bank."""
        self._join(source, target, EdgeShape.SCATTER, delay)

    def gather(self, source: PortRef, target: PortRef, *, delay: int = 0) -> None:
        """The values of a whole bank, in index order, to one input of a single task."""
        self._join(source, target, EdgeShape.GATHER, delay)

    def build(self) -> Graph:
        """Validate the whole and freeze it.

        Raises:
            GraphError: for an input without a source, a cycle without a delayed edge, a factory that
                cannot be pickled, or a graph without tasks or units of work.
        """
        if not self._nodes:
            raise GraphError(f"The graph of workload '{self.workload}' has no task. Add one.")
        if self.units_per_round < 1:
            raise GraphError(
                f"A round of workload '{self.workload}' does {self.units_per_round} units of work. "
                "A round does at least 1, or nothing could be measured."
            )
        fed = {edge.target for edge in self._edges}
        for node in self._nodes.values():
            for port in node.inputs:
                if PortRef(node.path, port.name) not in fed:
                    raise GraphError(f"Input '{node.path}.{port.name}' has no source. Connect one, or drop the port.")
            _check_picklable(node)
        return Graph(
            workload=self.workload,
            parameters=dict(self.parameters),
            seed=self.seed,
            unit=self.unit,
            units_per_round=self.units_per_round,
            tasks=_firing_order(self._nodes, self._edges),
            edges=tuple(self._edges),
            held_bytes=self.held_bytes,
        )

    def _add(  # noqa: PLR0913 - as `task`
        self,
        path: str,
        width: int | None,
        factory: TaskFactory,
        inputs: Iterable[str | Input],
        outputs: Iterable[str | Output],
        *,
        observed: bool = False,
        own_place: bool = False,
        stateless: bool = False,
    ) -> TaskNode:
        if path in self._nodes:
            raise GraphError(f"Two tasks are named '{path}'. Give each a name of its own.")
        node = TaskNode(
            path=path,
            width=width,
            factory=factory,
            inputs=tuple(Input(port) if isinstance(port, str) else port for port in inputs),
            outputs=tuple(Output(port) if isinstance(port, str) else port for port in outputs),
            observed=observed,
            own_place=own_place,
            stateless=stateless,
        )
        names = [*(port.name for port in node.inputs), *(port.name for port in node.outputs)]
        for name in names:
            if names.count(name) > 1:
                raise GraphError(f"Task '{path}' has two ports named '{name}'. Give each a name of its own.")
        for output in node.outputs:
            if output.optional and output.array is None:
                raise GraphError(
                    f"Output '{path}.{output.name}' is optional but declares no array. Declare one, or drop optional: "
                    "any undeclared output may be absent."
                )
        for port in node.inputs:
            if port.retain < 0:
                raise GraphError(f"Input '{path}.{port.name}' has retain={port.retain}. Give 0 or more rounds.")
        self._nodes[path] = node
        return node

    def _join(self, source: PortRef, target: PortRef, shape: EdgeShape, delay: int) -> None:
        origin, destination = self._end(source), self._end(target)
        if delay < 0:
            raise GraphError(f"The edge '{source}' -> '{target}' has delay={delay}. Give 0 or more rounds.")
        if source.name not in {port.name for port in origin.outputs}:
            raise GraphError(f"'{source}' is an input and cannot be a source. Connect from an output.")
        if target.name not in {port.name for port in destination.inputs}:
            raise GraphError(f"'{target}' is an output and cannot be a target. Connect to an input.")
        for edge in self._edges:
            if edge.target == target:
                raise GraphError(
                    f"Input '{target}' has two sources, '{edge.source}' and '{source}'. "
                    "An input has one; give the second source an input of its own."
                )
        _check_widths(origin, destination, source, target, shape)
        self._edges.append(Edge(source=source, target=target, shape=shape, delay=delay))

    def _end(self, port: PortRef) -> TaskNode:
        if port.task not in self._nodes:
            raise GraphError(unknown_name("task", port.task, "the graph", self._nodes))
        node = self._nodes[port.task]
        _ = node[port.name]
        return node


def _check_widths(origin: TaskNode, destination: TaskNode, source: PortRef, target: PortRef, shape: EdgeShape) -> None:
    """Raise unless the widths on both sides suit the shape of the edge."""
    remedy = {
        EdgeShape.ONE_TO_ONE: "Use broadcast() or scatter() from one to many, gather() from many to one.",
        EdgeShape.BROADCAST: "broadcast() goes from a single task to a bank; use connect() or gather().",
        EdgeShape.SCATTER: "scatter() goes from a single task to a bank; use connect() or gather().",
        EdgeShape.GATHER: "gather() goes from a bank to a single task; use connect(), broadcast() or scatter().",
    }[shape]
    fits = {
        EdgeShape.ONE_TO_ONE: origin.width == destination.width,
        EdgeShape.BROADCAST: origin.width is None and destination.width is not None,
        EdgeShape.SCATTER: origin.width is None and destination.width is not None,
        EdgeShape.GATHER: origin.width is not None and destination.width is None,
    }[shape]
    if not fits:
        raise GraphError(
            f"Width of '{source}' is {origin.members} but '{target}' has {destination.members} "
            f"({_kind(origin)} to {_kind(destination)}, {shape.value}). {remedy}"
        )
    spec = origin.output(source.name).array
    if shape is EdgeShape.SCATTER and spec is not None and spec.shape[:1] != (destination.members,):
        raise GraphError(
            f"Output '{source}' is scattered to {destination.members} members but declares an array of shape "
            f"{spec.shape}. Its first length must be {destination.members}."
        )


def _kind(node: TaskNode) -> str:
    return "a single task" if node.width is None else f"a bank of {node.width}"


def _check_picklable(node: TaskNode) -> None:
    """Raise unless the factory of `node` can be sent to another process."""
    try:
        pickle.dumps(node.factory)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise GraphError(
            f"The factory of task '{node.path}' cannot be pickled, so it cannot be built in another process: {error}. "
            "Use a module-level class or function, with functools.partial for its parameters."
        ) from error


def _firing_order(nodes: Mapping[str, TaskNode], edges: Sequence[Edge]) -> tuple[TaskNode, ...]:
    """Nodes sorted so that every undelayed edge runs forwards; ties keep the order of declaration."""
    upstream: dict[str, set[str]] = {path: set() for path in nodes}
    for edge in edges:
        if edge.delay == 0:
            upstream[edge.target.task].add(edge.source.task)
    ordered: list[TaskNode] = []
    waiting = dict(upstream)
    while waiting:
        ready = next((path for path, before in waiting.items() if not before & waiting.keys()), None)
        if ready is None:
            raise GraphError(
                f"The edges {' -> '.join(_cycle(waiting))} form a cycle without a delay, so none of these tasks "
                "can fire first. Delay one of the edges by a round (delay=1)."
            )
        ordered.append(nodes[ready])
        del waiting[ready]
    return tuple(ordered)


def _cycle(waiting: Mapping[str, set[str]]) -> list[str]:
    """One cycle among `waiting` (each waits for another of them), in the direction of the edges."""
    trail = [next(iter(waiting))]
    while True:
        before = next(path for path in waiting if path in waiting[trail[-1]])
        if before in trail:
            return [before, *reversed(trail[trail.index(before) :])]
        trail.append(before)
