"""The validated graph that runtimes read: tasks and banks with their ports, and the edges between these."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from workloads.dataflow.tasks import Task, TaskContext, TaskFactory
from workloads.dataflow.values import ArraySpec, GraphError, unknown_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workloads.dataflow.state import State, TaskState

__all__ = ["Edge", "EdgeShape", "Graph", "Input", "Output", "PortRef", "TaskNode"]


@dataclass(frozen=True, slots=True)
class Input:
    """An input port. With `retain=k` a value stays valid until the firing k rounds later returns."""

    name: str
    retain: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """An output port; with `array` it carries an array of that spec in every round, or with `optional` in some."""

    name: str
    array: ArraySpec | None = None
    optional: bool = False

    @property
    def always(self) -> ArraySpec | None:
        """The array that it carries in every round, if it does."""
        return None if self.optional else self.array


@dataclass(frozen=True, slots=True)
class PortRef:
    """A port of a task or bank, as edges name it."""

    task: str
    name: str

    def __str__(self) -> str:
        """`task.port`."""
        return f"{self.task}.{self.name}"


class EdgeShape(Enum):
    """How the members on both sides of an edge pair."""

    ONE_TO_ONE = "one to one"
    BROADCAST = "broadcast"
    SCATTER = "scatter"
    GATHER = "gather"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """`target` receives in round r what `source` gave in round r - `delay`."""

    source: PortRef
    target: PortRef
    shape: EdgeShape
    delay: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNode:
    """A task (`width` is None) or a bank of `width` like tasks."""

    path: str
    width: int | None
    factory: TaskFactory
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    observed: bool
    """What it receives goes into the digest; such a task lives with the driver."""
    own_place: bool
    """It is worth a worker of its own; a single task lives with the driver otherwise."""
    stateless: bool = False
    """Its members do the same work whatever they receive, and whatever they received before."""
    resumes: Sequence[TaskState] | None = field(default=None, repr=False, compare=False)
    """Where its members go on from, in index order, if that is not the beginning."""

    @property
    def members(self) -> int:
        """How many tasks this node stands for."""
        return 1 if self.width is None else self.width

    def output(self, name: str) -> Output:
        """The output port `name`."""
        return next(port for port in self.outputs if port.name == name)

    def input(self, name: str) -> Input:
        """The input port `name`."""
        return next(port for port in self.inputs if port.name == name)

    @property
    def optional_arrays(self) -> dict[str, ArraySpec]:
        """What the outputs carry that carry an array in some rounds."""
        return {port.name: port.array for port in self.outputs if port.optional and port.array is not None}

    def build(self, index: int, seed: int) -> Task:
        """Build member `index` here and now, and have it go on from its state if there is one."""
        task = self.factory(TaskContext(path=self.path, index=index, width=self.members, seed=seed))
        if self.resumes is not None:
            try:
                task.restore(self.resumes[index].kept)
            except BaseException:
                task.close()
                raise
        return task

    def __getitem__(self, port: str) -> PortRef:
        """The port named `port`, input or output.

        Raises:
            GraphError: if there is none; the nearest name is suggested.
        """
        names = [*(p.name for p in self.inputs), *(p.name for p in self.outputs)]
        if port not in names:
            raise GraphError(unknown_name("port", port, self.path, names))
        return PortRef(self.path, port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A validated, picklable dataflow graph. `tasks` stand in firing order."""

    workload: str
    parameters: Mapping[str, Any]
    seed: int
    unit: str
    """What one unit of work is, in the singular: "environment step"."""
    units_per_round: int
    tasks: tuple[TaskNode, ...]
    edges: tuple[Edge, ...]
    held_bytes: int = 0
    """About what its tasks hold in memory beside the values on edges, where that is much: a replay buffer, say."""
    first_round: int = 0
    """The number of the round with which a session begins: so many were run before the state that it goes on from."""

    @property
    def is_resumed(self) -> bool:
        """Whether it goes on from a state."""
        return any(node.resumes is not None for node in self.tasks)

    def resumed(self, state: State) -> Graph:
        """The same graph, for sessions that go on from `state`; any runtime that resumes opens it as any other.

        Raises:
            GraphError: if `state` is of another workload, or of other parameters, another seed or other tasks.
        """
        state.check(self)
        nodes = (replace(node, resumes=tuple(state.tasks[node.path])) for node in self.tasks)
        return replace(self, tasks=tuple(nodes), first_round=state.round)

    def node(self, path: str) -> TaskNode:
        """The task or bank at `path`."""
        return next(node for node in self.tasks if node.path == path)

    def edges_into(self, path: str) -> list[Edge]:
        """The edges that end at `path`, one for each of its inputs, in the order of its inputs."""
        by_port = {edge.target.name: edge for edge in self.edges if edge.target.task == path}
        return [by_port[port.name] for port in self.node(path).inputs]

    def edges_from(self, source: PortRef) -> list[Edge]:
        """The edges that begin at `source`."""
        return [edge for edge in self.edges if edge.source == source]

    def delay_of(self, source: PortRef) -> int:
        """The longest delay of the edges that begin at `source`."""
        return max((edge.delay for edge in self.edges_from(source)), default=0)

    def values_before(self, source: PortRef, index: int, task: Task) -> list[Any]:
        """What member `index`, which is `task`, gave on `source` in the rounds before a session's first.

        One value for each round of the longest delay, the oldest first: what was in flight where the graph goes on
        from a state, else what `task.initial` gives, which is asked once. A runtime calls this once for each member
        and delayed output, at the beginning of its first round.
        """
        resumes = self.node(source.task).resumes
        if resumes is not None:
            return list(resumes[index].in_flight[source.name])
        return [task.initial(source.name)] * self.delay_of(source)

    def retain_of(self, edge: Edge) -> int:
        """How many rounds longer than its own firing the consumer of `edge` keeps a value."""
        return self.node(edge.target.task).input(edge.target.name).retain

    def slots_of(self, source: PortRef) -> int:
        """How many buffers `source` needs so that no value is overwritten while it is still valid.

        A value of round r is read until round r + delay + retain has ended, also by tasks that run
        while the source fills its next one.
        """
        return 1 + max((edge.delay + self.retain_of(edge) for edge in self.edges_from(source)), default=0)
