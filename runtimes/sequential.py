"""The plain loop: one thread fires every task in order, into preallocated arrays.

It is the reference for digests and for speed, so it does nothing that a plain loop would not do: all
views and mappings are made when the session opens; a round calls each task and looks once whether it
assigned something. A value lives in a slot; a port whose values must outlive a round has several, and
all slots turn together: round r works on *phase* r modulo their number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from runtimes.protocol import Runtime, RuntimeFailure, member_name, task_failure
from workloads.dataflow import EdgeShape, Outputs, PortRef, Session, State, accept_array, item_of, read_only, state_of

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workloads.dataflow import ArraySpec, Edge, Graph, Task, TaskNode

__all__ = ["RUNTIME", "SequentialSession"]

_ABSENT: Any = object()
"""Stands in `Outputs.assigned` for "was there when this slot was last used: take it away"."""


@dataclass(slots=True)
class _Member:
    """One task with what it reads and writes, by phase."""

    name: str
    task: Task
    inputs: list[dict[str, Any]]
    outputs: list[Outputs]
    senders: list[dict[str, _Sender]]


@dataclass(slots=True)
class _Sender:
    """Carries what one member assigns to one port, in one phase, to the consumers."""

    port: PortRef
    spec: ArraySpec | None
    slot: NDArray[Any] | None
    """The memory of a declared port."""
    by_reference: bool
    """Consumers may be handed an assigned array itself: they are done with it before the task fires again."""
    targets: list[_Target] = field(default_factory=list)

    def send(self, value: Any) -> bool:
        """Deliver `value`; true if it must be taken away when this phase comes round again."""
        if self.slot is None:
            absent = value is _ABSENT
            for target in self.targets:
                target.put(None if absent else value)
            return not absent
        if value is _ABSENT:
            for target in self.targets:
                target.restore()
            return False
        assert self.spec is not None
        array = accept_array(value, self.spec, str(self.port))
        if not self.by_reference:
            np.copyto(self.slot, array)
            return False
        for target in self.targets:
            target.put(read_only(array))
        return True

    def sent(self) -> Any:
        """What was sent last; only of a delayed port, whose values are not given by reference."""
        if self.slot is not None:
            return self.slot
        return next(target.value for target in self.targets if isinstance(target, _Kept))


@dataclass(slots=True)
class _Target:
    """A place in a consumer's inputs: the value itself, or one member's item of a gather."""

    inputs: MutableMapping[str, Any]
    port: str
    usual: Any
    """What stands there while declared memory is filled in place."""
    item: int | None = None
    whole: list[Any] = field(default_factory=list)
    """Of a gather: the members' values, which stand in for the contiguous block once one was assigned."""

    def put(self, value: Any) -> None:
        if self.item is None:
            self.inputs[self.port] = value
        else:
            self.whole[self.item] = value
            self.inputs[self.port] = self.whole

    def restore(self) -> None:
        if self.item is None:
            self.inputs[self.port] = self.usual
        else:
            self.whole[self.item] = self.usual[self.item, ...]


class _Kept(_Target):
    """What a delayed port without declared memory gave: read when the state is asked for."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        super().__init__(inputs={}, port="", usual=None)
        self.value: Any = None

    def put(self, value: Any) -> None:
        self.value = value


class _ScatterTarget(_Target):
    """All members' places of a scatter without declared memory."""

    __slots__ = ("members", "name")

    def __init__(self, members: Sequence[MutableMapping[str, Any]], port: str, name: str) -> None:
        super().__init__(inputs={}, port=port, usual=None)
        self.members = members
        self.name = name

    def put(self, value: Any) -> None:
        for index, inputs in enumerate(self.members):
            inputs[self.port] = item_of(value, index, len(self.members), self.name)


class SequentialSession(Session):
    """A graph in one thread of this process."""

    def __init__(self, graph: Graph) -> None:
        """Build every task and all memory of `graph`."""
        self._graph = graph
        self._phases = max((graph.slots_of(PortRef(n.path, p.name)) for n in graph.tasks for p in n.outputs), default=1)
        self._blocks: dict[PortRef, NDArray[Any]] = {}
        self._nodes: dict[str, list[_Member]] = {node.path: self._members_of(node) for node in graph.tasks}
        for node in graph.tasks:
            for port in node.outputs:
                self._wire(node, PortRef(node.path, port.name))
        members = [member for node in graph.tasks for member in self._nodes[node.path]]
        self._plans = [
            [(m.task.fire, m.inputs[phase], m.outputs[phase], m.senders[phase], m) for m in members]
            for phase in range(self._phases)
        ]
        self._begun = False
        self._round = graph.first_round
        self._open = True

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds; their durations in nanoseconds."""
        self._begin()
        stamps = [perf_counter_ns()]
        member = None
        try:
            for number in range(self._round, self._round + rounds):
                for fire, inputs, outputs, senders, member in self._plans[number % self._phases]:  # noqa: B007 - named in the error
                    fire(inputs, outputs)
                    if outputs.assigned:
                        _send(senders, outputs)
                self._round += 1
                stamps.append(perf_counter_ns())
        except Exception as error:
            assert member is not None
            raise task_failure(member.name, self._round, error) from error
        return np.diff(np.array(stamps)).astype(np.int64, copy=False)

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """What the observed tasks received in the last round."""
        phase = (self._round - 1) % self._phases
        return {n.path: self._nodes[n.path][0].inputs[phase] for n in self._graph.tasks if n.observed}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every task its tallies."""
        return {path: [member.task.tallies() for member in members] for path, members in self._nodes.items()}

    def state(self) -> State:
        """Where the loop stands: what the tasks keep, and what the slots hold of delayed outputs."""
        self._begin()
        members = {
            node.path: [state_of(member.task, self._in_flight(node, member)) for member in self._nodes[node.path]]
            for node in self._graph.tasks
        }
        return State.of(self._graph, self._round, members)

    def close(self) -> None:
        """Close every task."""
        if self._open:
            self._open = False
            for members in self._nodes.values():
                for member in members:
                    member.task.close()

    def _members_of(self, node: TaskNode) -> list[_Member]:
        """Build the tasks of `node`, and the contiguous memory of its declared outputs."""
        blocks = {}
        for port in node.outputs:
            if port.always is not None:
                source = PortRef(node.path, port.name)
                # One slot if no value outlives its round, else one for each phase, so that all turn together.
                slots = 1 if self._graph.slots_of(source) == 1 else self._phases
                blocks[port.name] = self._blocks[source] = port.always.zeros(slots, node.members)
        phases = range(self._phases)
        ports = [port.name for port in node.outputs]
        members = []
        for index in range(node.members):
            arrays = [{port: b[p % len(b), index, ...] for port, b in blocks.items()} for p in phases]
            members.append(
                _Member(
                    name=member_name(node, index),
                    task=_built(node, index, self._graph.seed),
                    inputs=[{port.name: None for port in node.inputs} for _ in phases],
                    outputs=[Outputs(node.path, ports, arrays[p], optional=node.optional_arrays) for p in phases],
                    senders=[{} for _ in phases],
                )
            )
        return members

    def _wire(self, node: TaskNode, source: PortRef) -> None:
        """Make the senders of `source` and show its memory to the consumers, in every phase."""
        edges = self._graph.edges_from(source)
        spec = node.output(source.name).always
        by_reference = self._graph.slots_of(source) == 1 and all(e.shape is not EdgeShape.SCATTER for e in edges)
        for phase in range(self._phases):
            members = self._nodes[node.path]
            slots = [m.outputs[phase][source.name] if spec is not None else None for m in members]
            senders = [_Sender(source, spec, slot, by_reference) for slot in slots]
            for member, sender in zip(members, senders, strict=True):
                member.senders[phase][source.name] = sender
                if spec is None and self._graph.delay_of(source):
                    sender.targets.append(_Kept())
            for edge in edges:
                self._wire_edge(edge, senders, (phase + edge.delay) % self._phases)

    def _wire_edge(self, edge: Edge, senders: list[_Sender], phase: int) -> None:
        """Join `senders` to what the consumers of `edge` read in `phase`."""
        port = edge.target.name
        consumers = [member.inputs[phase] for member in self._nodes[edge.target.task]]
        declared = senders[0].slot is not None
        if edge.shape is EdgeShape.GATHER:
            whole: list[Any] = [None] * len(senders)
            block = self._gathered_block(edge.source, phase - edge.delay) if declared else None
            if block is not None:
                whole = [block[i, ...] for i in range(len(senders))]
            consumers[0][port] = whole if block is None else block
            for index, sender in enumerate(senders):
                sender.targets.append(_Target(consumers[0], port, block, index, whole))
        elif edge.shape is EdgeShape.SCATTER and not declared:
            senders[0].targets.append(_ScatterTarget(consumers, port, str(edge.source)))
        else:
            broadcast = edge.shape is not EdgeShape.ONE_TO_ONE
            for index, inputs in enumerate(consumers):
                sender = senders[0 if broadcast else index]
                usual = None if sender.slot is None else read_only(sender.slot)
                if usual is not None and edge.shape is EdgeShape.SCATTER:
                    usual = usual[index, ...]
                inputs[port] = usual
                sender.targets.append(_Target(inputs, port, usual))

    def _gathered_block(self, source: PortRef, phase: int) -> NDArray[Any]:
        """What all members of `source` write in `phase`, as one read-only array in index order."""
        block = self._blocks[source]
        return read_only(block[phase % self._phases % len(block)])

    def _begin(self) -> None:
        """Before the first round put what came before it where those rounds would have put it."""
        if self._begun:
            return
        self._begun = True
        for node in self._graph.tasks:
            for index, member in enumerate(self._nodes[node.path]):
                try:
                    self._give_values_before(node, index, member)
                except Exception as error:
                    raise task_failure(member.name, self._round, error) from error

    def _give_values_before(self, node: TaskNode, index: int, member: _Member) -> None:
        values = {source.name: self._graph.values_before(source, index, member.task) for source in self._delayed(node)}
        for before in range(1, max(map(len, values.values()), default=0) + 1):
            phase = (self._round - before) % self._phases
            outputs = member.outputs[phase]
            for port, of_port in values.items():
                if before <= len(of_port) and (of_port[-before] is not None or node.output(port).always is not None):
                    outputs[port] = of_port[-before]
            _send(member.senders[phase], outputs)

    def _in_flight(self, node: TaskNode, member: _Member) -> dict[str, list[Any]]:
        """What `member` gave on its delayed ports in the last rounds, the oldest first."""
        return {
            source.name: [
                member.senders[(self._round - before) % self._phases][source.name].sent()
                for before in range(self._graph.delay_of(source), 0, -1)
            ]
            for source in self._delayed(node)
        }

    def _delayed(self, node: TaskNode) -> list[PortRef]:
        """The outputs of `node` with delayed edges."""
        sources = [PortRef(node.path, port.name) for port in node.outputs]
        return [source for source in sources if self._graph.delay_of(source)]


def _built(node: TaskNode, index: int, seed: int) -> Task:
    """Member `index` of `node`.

    Raises:
        RuntimeFailure: if its factory raises; names it.
    """
    try:
        return node.build(index, seed)
    except Exception as error:
        name = member_name(node, index)
        raise RuntimeFailure(f"Task '{name}' could not be built: {type(error).__name__}: {error}") from error


def _send(senders: Mapping[str, _Sender], outputs: Outputs) -> None:
    """Deliver everything that a firing assigned, and take away what it no longer gives."""
    assigned, outputs.assigned = outputs.assigned, {}
    for port, value in assigned.items():
        if senders[port].send(value):
            outputs.assigned[port] = _ABSENT


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The plain loop has no options."""


def _open(graph: Graph, _options: Options, _scratch: Path) -> SequentialSession:
    return SequentialSession(graph)


RUNTIME = Runtime(
    name="sequential",
    summary="The plain loop: one thread fires every task in order. The reference for digests and for speed.",
    options=Options,
    open=_open,
)
