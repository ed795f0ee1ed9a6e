"""The contract between workloads and runtimes: a dataflow graph of tasks.

A workload builds a `Graph` with a `GraphBuilder`; a runtime opens a `Session` on it. Neither knows
the other, and this module knows nothing of this project. A graph has *tasks* and *banks* (N like
tasks), joined by edges of four shapes. Every task fires once a *round*, in dependency order, and no
task starts a round before all have finished the one before.

What a value may be: a port that declares an `ArraySpec` carries that array in every round, and the
runtime hands the task memory to fill in place; any other port carries anything picklable, or
nothing at all in a round (`None` where it is received).
"""

from __future__ import annotations

import difflib
import hashlib
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import xxhash

if TYPE_CHECKING:
    from types import TracebackType

    import msgspec
    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "ArraySpec",
    "Digest",
    "Edge",
    "EdgeShape",
    "Gathered",
    "Graph",
    "GraphBuilder",
    "GraphError",
    "Input",
    "Inputs",
    "Output",
    "Outputs",
    "PortRef",
    "Session",
    "Task",
    "TaskContext",
    "TaskNode",
    "Workload",
    "accept_array",
    "item_of",
    "read_only",
]


class GraphError(ValueError):
    """A graph breaks a rule of the contract; the message names the value, the rule and the remedy."""


# ------------------------------------------------------------------------------------------- values


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Shape and dtype of the array that a port carries in every round.

    `shape` is a tuple of lengths (`()` for a scalar), `dtype` anything that `numpy.dtype` accepts;
    it is stored as its string, so that a spec is hashable and prints well.
    """

    shape: tuple[int, ...]
    dtype: str

    def __init__(self, shape: Iterable[int], dtype: DTypeLike) -> None:
        """Normalise `shape` to a tuple of ints and `dtype` to its string.

        Raises:
            GraphError: for a negative length, or a dtype that holds Python objects.
        """
        lengths = tuple(int(length) for length in shape)
        resolved = np.dtype(dtype)
        if any(length < 0 for length in lengths):
            raise GraphError(f"Array shape {lengths} has a negative length. Give lengths of 0 or more.")
        if resolved.fields is not None:
            raise GraphError(f"Array dtype {resolved} has fields. Declare a port for each, or none.")
        if resolved.hasobject:
            raise GraphError(
                f"Array dtype {resolved} holds Python objects, which have no fixed size. "
                "Declare the output without an ArraySpec; any picklable value can then travel."
            )
        object.__setattr__(self, "shape", lengths)
        object.__setattr__(self, "dtype", resolved.str)

    @property
    def nbytes(self) -> int:
        """Bytes of one array of this spec."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def zeros(self, *lead: int) -> NDArray[Any]:
        """A zeroed array of shape `(*lead, *shape)`."""
        return np.zeros((*lead, *self.shape), self.dtype)


class Gathered(Sequence[Any]):
    """The values of a bank in index order, held in several contiguous blocks.

    Indexing gives the i-th member's value; `numpy.asarray` joins the blocks (a copy; the view of a
    single block is the array itself, which a runtime then hands over instead of this class).
    """

    __slots__ = ("_blocks", "_starts")

    def __init__(self, blocks: Iterable[NDArray[Any]]) -> None:
        """Hold `blocks`, each of shape `(members, *shape)`, in index order."""
        self._blocks = [block for block in blocks if len(block)]
        self._starts = np.cumsum([0, *(len(block) for block in self._blocks)])

    def __len__(self) -> int:
        """The width of the bank."""
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """The value of member `index`; a slice gives a list."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} is outside a bank of {len(self)} members")
        block = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._blocks[block][position - int(self._starts[block]), ...]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001 - NumPy's protocol
        """All values as one array of shape `(width, *shape)`."""
        if copy is False:
            raise ValueError("values in several blocks can only be joined by a copy")
        joined = np.concatenate(self._blocks)
        return joined if dtype is None else joined.astype(dtype, copy=False)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view of `array` that cannot be written through: what a consumer is given."""
    view = array.view()
    view.flags.writeable = False
    return view


def item_of(values: Any, index: int, width: int, port: str) -> Any:
    """The item that a scatter sends to member `index`; an absent value scatters as `None`.

    Items of an array are views, also where they are scalars (shape `()`), on every runtime.

    Raises:
        GraphError: if `values` does not have exactly `width` items.
    """
    if values is None:
        return None
    if len(values) != width:
        raise GraphError(
            f"Output '{port}' is scattered to {width} members but has {len(values)} items. "
            "Give one item for each member, in index order."
        )
    return values[index, ...] if isinstance(values, np.ndarray) else values[index]


def accept_array(value: Any, spec: ArraySpec, port: str) -> NDArray[Any]:
    """`value`, which a task assigned to the declared array port `port`, as an array of `spec`.

    Raises:
        GraphError: if shape or dtype differ from what the port declares.
    """
    array = np.asarray(value)
    if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
        raise GraphError(
            f"Output '{port}' declares an array of shape {spec.shape} and dtype {np.dtype(spec.dtype)} but "
            f"was given shape {array.shape} and dtype {array.dtype}. Convert it, or change the declaration."
        )
    return array


# -------------------------------------------------------------------------------------------- tasks

Inputs = Mapping[str, Any]
"""What a firing receives: port name to value, read-only, valid until the firing returns."""


class Outputs(dict[str, Any]):
    """What a firing gives: port name to value.

    `outputs["x"][...] = v` fills the array of a declared port in place; a declared port must be
    written whole in every round. `outputs["x"] = v` hands over a value instead: on a declared port an
    array that the task holds (its input, say; the runtime copies it if it must), on any other port
    anything picklable, which must not be changed afterwards: consumers may be given the object itself.
    A port without a declaration, or with an optional one, that is neither assigned nor filled is absent
    in that round.

    Runtimes read `assigned` after each firing and clear it.
    """

    __slots__ = ("assigned", "optional", "path", "ports", "rooms")

    def __init__(
        self,
        path: str,
        ports: Iterable[str],
        arrays: Mapping[str, NDArray[Any]],
        *,
        optional: Mapping[str, ArraySpec] | None = None,
        rooms: Mapping[str, Callable[[], NDArray[Any]]] | None = None,
    ) -> None:
        """Offer memory to the task at `path`, which has output `ports`.

        Args:
            path: The task, for messages.
            ports: Names of all outputs.
            arrays: Writable memory of the ports that carry an array in every round.
            optional: What the ports carry that do so in some rounds. Touched, they get a fresh array,
                which counts as assigned.
            rooms: For optional ports, what gives memory of the runtime's own instead, and notes that.
        """
        super().__init__(arrays)
        self.path = path
        self.ports = frozenset(ports)
        self.optional = optional or {}
        self.rooms = rooms or {}
        self.assigned: dict[str, Any] = {}

    def __setitem__(self, port: str, value: Any) -> None:
        """Hand over `value` on `port`."""
        if port not in self.ports:
            raise GraphError(_unknown("output", port, self.path, self.ports))
        if port in self.optional:
            value = accept_array(value, self.optional[port], f"{self.path}.{port}")
        self.assigned[port] = value

    def __missing__(self, port: str) -> Any:
        """Memory for an optional port; otherwise explain that only declared arrays can be filled in place."""
        if port in self.rooms:
            return self.rooms[port]()
        if port in self.optional:
            # A runtime may have left a mark of its own there.
            if not isinstance(self.assigned.get(port), np.ndarray):
                self.assigned[port] = self.optional[port].zeros()
            return self.assigned[port]
        if port in self.ports:
            raise GraphError(
                f"Output '{self.path}.{port}' declares no array, so there is nothing to fill in place. "
                f"Assign it (outputs[{port!r}] = value), or declare an ArraySpec."
            )
        raise GraphError(_unknown("output", port, self.path, self.ports))


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """Where a task stands in its graph, and the source of its randomness."""

    path: str
    """Name of the task or bank in the graph."""
    index: int
    """Position in the bank, 0 for a single task."""
    width: int
    """Members of the bank, 1 for a single task."""
    seed: int
    """The graph's seed."""

    def seed_sequence(self, purpose: str) -> np.random.SeedSequence:
        """The seed of the stream for `purpose`: a function of seed, path, index and purpose alone.

        Never of the worker or of the order of construction, so the same graph and seed give the same
        bits on every runtime and any number of workers.
        """
        label = hashlib.sha256(f"{self.path}\0{purpose}".encode()).digest()[:16]
        words = np.frombuffer(label, "<u4").tolist()
        return np.random.SeedSequence(self.seed, spawn_key=(*words, self.index))

    def rng(self, purpose: str) -> np.random.Generator:
        """A PCG64 generator on the stream for `purpose`."""
        return np.random.Generator(np.random.PCG64(self.seed_sequence(purpose)))

    def seed_int(self, purpose: str) -> int:
        """A seed in [0, 2**31) on the stream for `purpose`, for libraries that take an int."""
        return int(self.seed_sequence(purpose).generate_state(1, np.uint32)[0] >> 1)


class Task(ABC):
    """A stateful component of a graph. It is built where it will live, and never travels."""

    def initial(self, port: str) -> Any:
        """The value that a delayed edge from `port` carries in the rounds before there is a real one.

        Called once for each such port, at the beginning of round 0. `None` makes it absent, which a
        declared array port cannot be.
        """
        raise GraphError(
            f"{type(self).__name__} gives no initial value for its delayed output '{port}'. Define initial(self, port)."
        )

    @abstractmethod
    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Do one round's work: read `inputs`, fill or assign `outputs`."""

    def tallies(self) -> Mapping[str, Any]:
        """Counts and totals that the task keeps anyway; they are part of the digest.

        The harness adds up and reports those named `resets` and `emulator_frames`.
        """
        return {}

    def close(self) -> None:  # noqa: B027 - a hook, empty by intent
        """Let go of what the task holds (an environment, a file)."""


TaskFactory = Callable[[TaskContext], Task]


# -------------------------------------------------------------------------------------------- graph


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
        """Build member `index` here and now."""
        return self.factory(TaskContext(path=self.path, index=index, width=self.members, seed=seed))

    def __getitem__(self, port: str) -> PortRef:
        """The port named `port`, input or output.

        Raises:
            GraphError: if there is none; the nearest name is suggested.
        """
        names = [*(p.name for p in self.inputs), *(p.name for p in self.outputs)]
        if port not in names:
            raise GraphError(_unknown("port", port, self.path, names))
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

    def retain_of(self, edge: Edge) -> int:
        """How many rounds longer than its own firing the consumer of `edge` keeps a value."""
        return self.node(edge.target.task).input(edge.target.name).retain

    def slots_of(self, source: PortRef) -> int:
        """How many buffers `source` needs so that no value is overwritten while it is still valid.

        A value of round r is read until round r + delay + retain has ended, also by tasks that run
        while the source fills its next one.
        """
        return 1 + max((edge.delay + self.retain_of(edge) for edge in self.edges_from(source)), default=0)


@dataclass(slots=True, kw_only=True)
class GraphBuilder:
    """Collects tasks and edges; `build` validates and freezes them into a `Graph`."""

    workload: str
    parameters: Mapping[str, Any]
    seed: int
    unit: str
    units_per_round: int
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

        With `stateless`, members promise to do the same work whatever they receive.

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
            raise GraphError(_unknown("task", port.task, "the graph", self._nodes))
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


def _unknown(kind: str, name: str, owner: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(names) or 'none'}."
    return f"Unknown {kind} '{name}' of {owner}.{hint}"


# ------------------------------------------------------------------------------------------ running


class Session(ABC):
    """A living program of a graph, as a runtime opens it: it advances by rounds and closes."""

    @abstractmethod
    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds, return drained; shape `(rounds,)`, nanoseconds, each as the driver saw it.

        Raises:
            Exception: whatever a task raised, or that a process of the runtime died; the message names
                what failed. The session can then only be closed.
        """

    @abstractmethod
    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """What the observed tasks received in the last round: path to port to value.

        Valid until the next `advance`.
        """

    @abstractmethod
    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every task its tallies: path to one mapping for each member, in index order."""

    @abstractmethod
    def close(self) -> None:
        """End the program. Leaves no process, temporary file or shared memory. May be called twice."""

    def __enter__(self) -> Self:
        """The session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class Digest:
    """A fingerprint of values that is the same wherever and however they were computed.

    Arrays count with dtype, shape and bytes, whatever their strides; sequences and mappings with their
    items. XXH3 (128 bits), since 80 MB a round may have to be hashed; it guards against mistakes, not
    against malice.
    """

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        """Start with nothing."""
        self._hash = xxhash.xxh3_128()

    def add(self, value: Any) -> None:
        """Take `value` in.

        Raises:
            TypeError: for a value without a defined fingerprint (a set, an object of some class).
        """
        for part in _canonical(value):
            self._hash.update(part)

    def add_received(self, graph: Graph, received: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in what observed tasks received, a gather member by member however it is stored."""
        for path in sorted(received):
            for edge in graph.edges_into(path):
                value = received[path][edge.target.name]
                self.add(str(edge.target))
                self.add(list(value) if edge.shape is EdgeShape.GATHER else value)

    def hexdigest(self) -> str:
        """32 hexadecimal digits."""
        return self._hash.hexdigest()


def _canonical(value: Any) -> Iterator[Any]:
    """Bytes-like parts that determine `value`, each preceded by a tag of its kind and length."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        yield f"a{array.dtype.str}{np.shape(value)}".encode()
        yield array.reshape(-1).view(np.uint8).data
    elif isinstance(value, Mapping):
        yield f"m{len(value)}".encode()
        for key in sorted(value):
            yield from _canonical(str(key))
            yield from _canonical(value[key])
    elif isinstance(value, Gathered):
        yield from _canonical(list(value))
    elif isinstance(value, list | tuple):
        yield f"l{len(value)}".encode()
        for item in value:
            yield from _canonical(item)
    elif isinstance(value, bytes | str):
        raw = value.encode() if isinstance(value, str) else value
        yield f"{'s' if isinstance(value, str) else 'b'}{len(raw)}".encode()
        yield raw
    elif value is None or isinstance(value, bool | int | float):
        yield f"{type(value).__name__}{value!r}".encode()
    else:
        raise TypeError(
            f"A value of type {type(value).__name__} has no fingerprint. Observe arrays, numbers, strings, "
            "and lists, tuples or mappings of these."
        )


# ---------------------------------------------------------------------------------------- workloads


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
