"""A bound on every runtime: the members of each bank in pinned processes that exchange nothing.

There are as many processes as processors (no more than members), each pinned to one of them. The
members of a bank are spread evenly over them, in index order. Members of several banks, which take
longer or shorter, are spread so that all processes have as much to do: the one that has least gets the
next, those that take longest first; how long they take is tried before, in a process of its own. A
process fires its members round after round and notes how long each of its rounds takes; nobody waits
for anybody. The duration of round r is that of the process whose round r took longest, whenever it ran
it: no runtime that fires these tasks and ends a round only when all of them are done can be faster on
these processors.

It exists where members can do their work without anybody else: their bank has no inputs, or the graph
says that it is stateless, and then its members are given zeros, also where in some rounds they would be
given nothing. It fires the members alone, none of the single tasks, so it receives nothing and has no
digest.
"""

from __future__ import annotations

from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from runtimes.protocol import Runtime, RuntimeFailure, member_name, not_resumed, processors, slices, task_failure
from runtimes.worker_processes import WorkerProcesses
from workloads.dataflow import ArraySpec, EdgeShape, Outputs, PortRef, Session, read_only

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workloads.dataflow import Edge, Graph, Inputs, Task, TaskNode

__all__ = ["RUNTIME", "CeilingSession"]

_TRIED_ROUNDS: Final = 20

# -------------------------------------------------------------------------------------- the caller


class CeilingSession(Session):
    """The members of the banks of a graph, in processes that know nothing of one another."""

    def __init__(self, graph: Graph) -> None:
        """Start the processes and have them build their members.

        Raises:
            RuntimeFailure: if the graph has no ceiling, or a member cannot be built.
        """
        reason = _why_not(graph)
        if reason is not None:
            raise RuntimeFailure(f"Workload '{graph.workload}' has no ceiling: {reason}")
        self._banks = [node for node in graph.tasks if node.width is not None]
        self._workers = WorkerProcesses("the ceiling")
        self._open = True
        self._broken = False
        try:
            for number, members in enumerate(_spread(graph, self._banks)):
                names = [member_name(node, index) for node in self._banks for index in members[node.path]]
                self._workers.start(partial(_Crew, graph, members), members=names, processor=number)
            self._workers.answers()
        except BaseException:
            self._broken = True
            self.close()
            raise

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds in every process; of each round the longest duration among them, in nanoseconds."""
        durations_WR: NDArray[np.int64] = np.stack(self._ask("advance", rounds))  # noqa: N806 - workers by rounds
        self._workers.rounds += rounds
        longest: NDArray[np.int64] = durations_WR.max(axis=0)
        return longest

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """Nothing: no task is fired that would receive anything."""
        return {}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every bank the tallies of its members; single tasks are not there."""
        parts: list[dict[str, dict[int, Mapping[str, Any]]]] = self._ask("tallies")
        kept = {node.path: {i: tally for part in parts for i, tally in part[node.path].items()} for node in self._banks}
        return {path: [tallies[index] for index in sorted(tallies)] for path, tallies in kept.items()}

    def close(self) -> None:
        """Close every member and end all processes; after a failure, whatever they are doing."""
        if not self._open:
            return
        self._open = False
        try:
            if not self._broken:
                self._ask("close")
        finally:
            self._workers.end()

    def _ask(self, order: str, *arguments: Any) -> list[Any]:
        """Give every process the same order; their answers."""
        try:
            return self._workers.ask(order, *arguments)
        except BaseException:
            self._broken = True
            raise


def _spread(graph: Graph, banks: Sequence[TaskNode]) -> list[Mapping[str, Sequence[int]]]:
    """Who lives in which process: for each of them path to indices."""
    parts = min(processors(), sum(node.members for node in banks))
    if len(banks) == 1:
        (node,) = banks
        return [{node.path: part} for part in slices(node.members, parts)]
    costs_ns = _tried(graph, banks)
    homes: list[dict[str, list[int]]] = [{node.path: [] for node in banks} for _ in range(parts)]
    loads = [0.0] * parts
    for node in sorted(banks, key=lambda node: -costs_ns[node.path]):
        for index in range(node.members):
            home = loads.index(min(loads))
            homes[home][node.path].append(index)
            loads[home] += costs_ns[node.path]
    return list(homes)


def _tried(graph: Graph, banks: Sequence[TaskNode]) -> Mapping[str, float]:
    """What a firing of a member of each bank takes, in nanoseconds."""
    trial = WorkerProcesses("the ceiling's trial")
    try:
        members = {node.path: range(1) for node in banks}
        trial.start(partial(_Crew, graph, members), members=[member_name(node, 0) for node in banks], processor=0)
        trial.answers()
        (costs_ns,) = trial.ask("costs_ns")
        trial.ask("close")
    finally:
        trial.end()
    found: Mapping[str, float] = costs_ns
    return found


# -------------------------------------------------------------------------------------- the worker


class _Crew:
    """The members that live in one process, with the memory of their outputs."""

    def __init__(self, graph: Graph, members: Mapping[str, Sequence[int]]) -> None:
        """Build `members` of the banks of `graph`: path to indices.

        Raises:
            RuntimeFailure: if a factory raises; names the member.
        """
        self._paths = list(members)
        self._living: list[tuple[TaskNode, int, Task]] = []
        self._firings: list[tuple[Callable[[Inputs, Outputs], None], Inputs, Outputs, str]] = []
        self._delayed = {edge.source for edge in graph.edges if edge.delay and edge.source.task in members}
        for path, indices in members.items():
            self._settle(graph, graph.node(path), indices)
        self._round = 0

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Fire every member once a round; the durations of the rounds in nanoseconds.

        Raises:
            RuntimeFailure: if a member raises; names it and the round.
        """
        if self._round == 0:
            self._ask_initial_values()
        stamps = [perf_counter_ns()]
        name = ""
        try:
            for _ in range(rounds):
                for fire, inputs, outputs, name in self._firings:  # noqa: B007 - named in the error
                    fire(inputs, outputs)
                    if outputs.assigned:
                        outputs.assigned = {}
                self._round += 1
                stamps.append(perf_counter_ns())
        except Exception as error:
            raise task_failure(name, self._round, error) from error
        return np.diff(np.array(stamps)).astype(np.int64, copy=False)

    def costs_ns(self) -> dict[str, float]:
        """Of every bank what a firing of the member that lives here takes, in nanoseconds: the median of some.

        Raises:
            RuntimeFailure: as `advance`.
        """
        costs = {}
        everybody = self._firings
        for path, firing in zip(self._paths, everybody, strict=True):
            self._firings = [firing]
            costs[path] = float(np.median(self.advance(_TRIED_ROUNDS)))
        return costs

    def tallies(self) -> dict[str, dict[int, Mapping[str, Any]]]:
        """Of every bank the tallies of the members that live here, by index."""
        tallies: dict[str, dict[int, Mapping[str, Any]]] = {path: {} for path in self._paths}
        for node, index, task in self._living:
            tallies[node.path][index] = task.tallies()
        return tallies

    def close(self) -> None:
        """Close every member.

        Raises:
            RuntimeFailure: if a member raises; names the first. All are closed.
        """
        failures: list[RuntimeFailure] = []
        for node, index, task in self._living:
            try:
                task.close()
            except Exception as error:  # noqa: BLE001 - the others are closed all the same
                failures.append(_failure(node, index, "could not be closed", error))
        if failures:
            raise failures[0]

    def _settle(self, graph: Graph, node: TaskNode, indices: Sequence[int]) -> None:
        """Build the members `indices` of `node`, with inputs that stay as they are and memory for their outputs."""
        specs = {edge.target.name: _carried(graph, edge) for edge in graph.edges_into(node.path)}
        inputs = {port: read_only(spec.zeros()) for port, spec in specs.items() if spec is not None}
        blocks = {port.name: port.always.zeros(len(indices)) for port in node.outputs if port.always is not None}
        ports = [port.name for port in node.outputs]
        for at, index in enumerate(indices):
            arrays = {port: block[at, ...] for port, block in blocks.items()}
            outputs = Outputs(node.path, ports, arrays, optional=node.optional_arrays)
            task = _built(node, index, graph.seed)
            self._living.append((node, index, task))
            self._firings.append((task.fire, inputs, outputs, member_name(node, index)))

    def _ask_initial_values(self) -> None:
        """Ask for the values before round 0, as every runtime does; they go nowhere."""
        for node, index, task in self._living:
            for port in node.outputs:
                if PortRef(node.path, port.name) in self._delayed:
                    try:
                        task.initial(port.name)
                    except Exception as error:
                        raise task_failure(member_name(node, index), 0, error) from error


def _built(node: TaskNode, index: int, seed: int) -> Task:
    try:
        return node.build(index, seed)
    except Exception as error:
        raise _failure(node, index, "could not be built", error) from error


def _failure(node: TaskNode, index: int, what: str, error: Exception) -> RuntimeFailure:
    return RuntimeFailure(f"Task '{member_name(node, index)}' {what}: {type(error).__name__}: {error}")


# ------------------------------------------------------------------------------------ the runtime


def _carried(graph: Graph, edge: Edge) -> ArraySpec | None:
    """The array that a member receives over `edge`, if it is one."""
    spec = graph.node(edge.source.task).output(edge.source.name).array
    return spec and ArraySpec(spec.shape[1:] if edge.shape is EdgeShape.SCATTER else spec.shape, spec.dtype)


def _why_not(graph: Graph) -> str | None:
    """Why `graph` has no ceiling, or None if it has one."""
    banks = [node for node in graph.tasks if node.width is not None]
    if not banks:
        return "it has no bank whose members could run side by side. Choose a workload that has one."
    for node in banks:
        for edge in graph.edges_into(node.path):
            if not node.stateless:
                return (
                    f"what the members of '{node.path}' do depends on '{edge.target.name}', which comes from "
                    f"'{edge.source}'. A ceiling needs members that get nothing from elsewhere, or a bank "
                    "declared stateless."
                )
            if _carried(graph, edge) is None:
                return (
                    f"the stateless members of '{node.path}' receive '{edge.target.name}', but '{edge.source}' "
                    "declares no array, so nothing can stand in for it. Declare one."
                )
    return not_resumed(graph)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The ceiling has no options."""


def _open(graph: Graph, _options: Options, _scratch: Path) -> CeilingSession:
    return CeilingSession(graph)


def _refuses(graph: Graph, _options: Options) -> str | None:
    return _why_not(graph)


RUNTIME = Runtime(
    name="ceiling",
    summary="The members of each bank in pinned processes, one for each processor, without any communication.",
    options=Options,
    open=_open,
    refuses=_refuses,
    is_bound=True,
    limits="workloads whose members do the same work whatever others give them",
)
