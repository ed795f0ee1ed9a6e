"""The tasks of a graph that live in one process, fired piece by piece; nothing here uses Ray.

A `Place` holds what lives in one of the processes of a `Layout`, hands values on between its own tasks, and is given
the others' values as arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.layout import HOME, Ring
from runtimes.protocol import RuntimeFailure, member_name, task_failure
from workloads.dataflow import EdgeShape, Gathered, Outputs, PortRef, accept_array, item_of, read_only, state_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from runtimes.layout import Layout
    from workloads.dataflow import Edge, GraphError, Task, TaskNode, TaskState

__all__ = ["BY_VALUE_BYTES", "Place", "of_member"]

BY_VALUE_BYTES = 102_400
"""Up to here Ray sends a value inside the call (`max_direct_call_object_size`); larger ones through its store."""


# -------------------------------------------------------------------------------------------- crews


class _Crew:
    """The tasks of one piece, with the memory of their outputs."""

    def __init__(self, layout: Layout, path: str, piece: int) -> None:
        """Build the tasks, here and now."""
        self._graph = layout.graph
        self.node = layout.graph.node(path)
        self.members = layout.pieces[path][piece].members
        self.is_block = layout.is_block(path)
        place = layout.pieces[path][piece].place
        needed = {port.name: _slots_of(layout, PortRef(path, port.name), piece, place) for port in self.node.outputs}
        self._phases = max(needed.values(), default=1)
        # All slots turn together: round r works on phase r modulo their number.
        self._slots = {port: 1 if slots == 1 else self._phases for port, slots in needed.items()}
        self._specs = {port.name: port.always for port in self.node.outputs if port.always is not None}
        self._scattered = {
            edge.source.name: layout.graph.node(edge.target.task).members
            for edge in layout.graph.edges
            if edge.source.task == path and edge.shape is EdgeShape.SCATTER
        }
        self._names = [member_name(self.node, index) for index in self.members]
        self.tasks = [_build(self.node, index, layout.graph.seed) for index in self.members]
        self.inputs: list[dict[str, Any]] = [dict.fromkeys(p.name for p in self.node.inputs) for _ in self.members]
        memory = {port: spec.zeros(self._slots[port], len(self.members)) for port, spec in self._specs.items()}
        self._outputs = [self._outputs_of(memory, phase) for phase in range(self._phases)]
        self._usual = [
            {port.name: self._usual_of(memory.get(port.name), phase) for port in self.node.outputs}
            for phase in range(self._phases)
        ]

    def fire(self, round_number: int) -> dict[str, Any]:
        """Fire every member; what the piece gives by port, valid as long as the port has slots.

        Raises:
            RuntimeFailure: if a task raises; names it and the round.
        """
        phase = round_number % self._phases
        values = self._usual[phase].copy()
        handed: dict[str, dict[int, NDArray[Any]]] = {}
        for position, (task, inputs, outputs) in enumerate(
            zip(self.tasks, self.inputs, self._outputs[phase], strict=True)
        ):
            try:
                task.fire(inputs, outputs)
                if outputs.assigned:
                    self._take(outputs, position, values, handed)
            except Exception as error:
                raise task_failure(self._names[position], round_number, error) from error
        for port, arrays in handed.items():
            if len(arrays) == len(self.tasks):
                values[port] = list(arrays.values())
            else:
                for position, array in arrays.items():
                    np.copyto(self._outputs[phase][position][port], array)
        return values

    def before(self, port: str) -> list[Any]:
        """What every member gave on `port` in the rounds before the first, one piece for each, the oldest first.

        Raises:
            RuntimeFailure: if a task raises.
        """
        by_member = []
        for task, index, name in zip(self.tasks, self.members, self._names, strict=True):
            try:
                values = self._graph.values_before(PortRef(self.node.path, port), index, task)
                by_member.append([self._accepted(port, value, name) for value in values])
            except Exception as error:
                raise task_failure(name, self._graph.first_round, error) from error
        if not self.is_block:
            return by_member[0]
        pieces = [list(values) for values in zip(*by_member, strict=True)]
        return [read_only(np.stack(piece)) for piece in pieces] if port in self._specs else pieces

    def states(self, in_flight: Mapping[str, Sequence[Any]]) -> list[TaskState | GraphError]:
        """The state of every member, given what is in flight of the piece: port to one piece for each round."""
        return [
            state_of(task, {port: of_member(pieces, at, is_block=self.is_block) for port, pieces in in_flight.items()})
            for at, task in enumerate(self.tasks)
        ]

    def forget_inputs(self) -> None:
        """Let go of what was received, so that its memory can be used again."""
        for inputs in self.inputs:
            inputs.update(dict.fromkeys(inputs))

    def _accepted(self, port: str, value: Any, name: str) -> Any:
        """`value`, which was given before the first round."""
        spec = self._specs.get(port)
        return value if spec is None else read_only(accept_array(value, spec, f"{name}.{port}").copy())

    def _take(
        self, outputs: Outputs, position: int, values: dict[str, Any], handed: dict[str, dict[int, NDArray[Any]]]
    ) -> None:
        """Sort what a member assigned into `values`, or large arrays into `handed`."""
        assigned, outputs.assigned = outputs.assigned, {}
        for port, value in assigned.items():
            spec = self._specs.get(port)
            if spec is not None:
                array = accept_array(value, spec, f"{self.node.path}.{port}")
                if self._slots[port] > 1 or (self.is_block and spec.nbytes <= BY_VALUE_BYTES):
                    np.copyto(outputs[port], array)
                elif self.is_block:
                    handed.setdefault(port, {})[position] = read_only(array)
                else:
                    values[port] = read_only(array)
            elif self.is_block:
                if values[port] is None:
                    values[port] = [None] * len(self.tasks)
                values[port][position] = value
            else:
                if port in self._scattered:
                    item_of(value, 0, self._scattered[port], f"{self.node.path}.{port}")
                values[port] = value

    def _outputs_of(self, memory: Mapping[str, NDArray[Any]], phase: int) -> list[Outputs]:
        ports = [port.name for port in self.node.outputs]
        return [
            Outputs(
                self.node.path,
                ports,
                {port: slots[phase % len(slots), i, ...] for port, slots in memory.items()},
                optional=self.node.optional_arrays,
            )
            for i in range(len(self.members))
        ]

    def _usual_of(self, slots: NDArray[Any] | None, phase: int) -> Any:
        """What the piece gives on a port to which nothing is assigned: its memory, or nothing."""
        if slots is None:
            return None
        block = slots[phase % len(slots)]
        return read_only(block if self.is_block else block[0, ...])


def _slots_of(layout: Layout, source: PortRef, piece: int, place: int) -> int:
    """How many slots the memory of `source` needs in `place`.

    What leaves an actor is copied when its call returns; only values that are read where they were
    made, or that the driver sends in a later round, must outlive theirs.
    """
    if place != HOME and place not in layout.readers(source, piece):
        return 1
    return layout.graph.slots_of(source) + layout.ahead


def of_member(pieces: Iterable[Any], at: int, *, is_block: bool) -> list[Any]:
    """What the member at `at` gave of each of `pieces`."""
    if not is_block:
        return list(pieces)
    return [
        piece[at, ...] if isinstance(piece, np.ndarray) else None if piece is None else piece[at] for piece in pieces
    ]


def _build(node: TaskNode, index: int, seed: int) -> Task:
    try:
        return node.build(index, seed)
    except Exception as error:
        raise RuntimeFailure(
            f"Task '{member_name(node, index)}' could not be built: {type(error).__name__}: {error}"
        ) from error


# ------------------------------------------------------------------------------------------- places


class _Reader:
    """Brings what one edge carries to the tasks of one crew."""

    __slots__ = (
        "_blocks",
        "_crew",
        "_cut",
        "_edge",
        "_members",
        "_name",
        "_port",
        "_rings",
        "_rows",
        "_spec",
        "_width",
    )

    def __init__(self, layout: Layout, edge: Edge, crew: _Crew, rings: Sequence[Ring | None], *, cut: bool) -> None:
        """Read from `rings`, in the order of the source's pieces; where there is None, from the arguments.

        With `cut`, what comes of a scatter is this crew's part alone.
        """
        source = layout.graph.node(edge.source.task)
        self._edge = edge
        self._crew = crew
        self._rings = rings
        self._cut = cut
        self._port = edge.target.name
        self._name = str(edge.source)
        self._spec = source.output(edge.source.name).always
        self._rows = layout.rows
        self._blocks = layout.is_block(source.path)
        self._members = [len(piece.members) for piece in layout.pieces[source.path]]
        self._width = layout.graph.node(edge.target.task).members

    def read(self, round_number: int, arguments: Iterator[Any]) -> None:
        """Set the inputs of the crew for `round_number`, taking from `arguments` what comes from elsewhere."""
        then = round_number - self._edge.delay
        values = [self._received(next(arguments)) if ring is None else ring.at(then) for ring in self._rings]
        shape, inputs, port = self._edge.shape, self._crew.inputs, self._port
        if shape is EdgeShape.GATHER:
            inputs[0][port] = self._gathered(values)
        elif shape is EdgeShape.SCATTER and (self._crew.is_block or not self._cut):
            first, width = (0, len(inputs)) if self._cut else (self._crew.members.start, self._width)
            for position, into in enumerate(inputs):
                into[port] = item_of(values[0], first + position, width, self._name)
        elif shape is EdgeShape.ONE_TO_ONE and self._blocks:
            for position, into in enumerate(inputs):
                into[port] = item_of(values[0], position, len(inputs), self._name)
        else:
            for into in inputs:
                into[port] = values[0]

    def _received(self, value: Any) -> Any:
        """`value` as it came from another place, its arrays read-only (small ones arrive writable)."""
        if self._spec is None:
            return value
        if self._rows:
            return read_only(np.array(value, self._spec.dtype))
        return [read_only(array) for array in value] if isinstance(value, list) else read_only(value)

    def _gathered(self, pieces: list[Any]) -> Any:
        """A bank's values in index order, from those of its pieces."""
        if not self._blocks:
            return pieces
        if self._spec is None:
            return [
                value
                for piece, members in zip(pieces, self._members, strict=True)
                for value in ([None] * members if piece is None else piece)
            ]
        blocks: list[NDArray[Any]] = []
        for piece in pieces:
            blocks += [array[None] for array in piece] if isinstance(piece, list) else [piece]
        return blocks[0] if len(blocks) == 1 else Gathered(blocks)


class Place:
    """The tasks that live in one process."""

    def __init__(self, layout: Layout, number: int, steps: Sequence[Iterable[TaskNode]] | None = None) -> None:
        """Build every task of place `number`; without `steps` it fires in those of the layout.

        Raises:
            RuntimeFailure: if a factory raises; names the task.
        """
        self._layout = layout
        self._number = number
        self._crews: dict[str, _Crew] = {}
        self._rings: dict[PortRef, Ring] = {}
        for node in layout.graph.tasks:
            piece = layout.piece_at(node.path, number)
            if piece is not None:
                self._crews[node.path] = _Crew(layout, node.path, piece)
                self._make_rings(node, piece)
        self._steps = [
            [self._plan(node) for node in layout.nodes_at(step, number)]
            for step in (layout.steps() if steps is None else steps)
        ]

    def fire(self, step: int, round_number: int, arguments: Iterable[Any]) -> dict[str, dict[str, Any]]:
        """Fire what lives here of `step`; path to port to what the piece gives.

        `arguments` are the values of `Layout.feeds`, in that order.

        Raises:
            RuntimeFailure: if a task raises; names it and the round.
        """
        coming = iter(arguments)
        results: dict[str, dict[str, Any]] = {}
        for crew, readers, rings in self._steps[step]:
            for reader in readers:
                reader.read(round_number, coming)
            values = results[crew.node.path] = crew.fire(round_number)
            for port, ring in rings:
                ring.put(round_number, values[port])
        return results

    def begin(self) -> dict[str, dict[str, list[Any]]]:
        """Before the first round: path to port to what the piece gave in the rounds before, of delayed ports alone.

        Raises:
            RuntimeFailure: if a task raises.
        """
        graph = self._layout.graph
        results: dict[str, dict[str, list[Any]]] = {}
        for path, crew in self._crews.items():
            ports = [port.name for port in crew.node.outputs if graph.delay_of(PortRef(path, port.name))]
            results[path] = {port: crew.before(port) for port in ports}
            for port, pieces in results[path].items():
                if PortRef(path, port) in self._rings:
                    self._rings[PortRef(path, port)].begin(graph.first_round, pieces)
        return results

    def states(self, round_number: int) -> dict[str, list[TaskState | GraphError]]:
        """Of every task that lives here its state before `round_number`; of delayed outputs, those kept here."""
        graph = self._layout.graph
        found = {}
        for path, crew in self._crews.items():
            kept = {
                port.name: ring.before(round_number, graph.delay_of(source))
                for port in crew.node.outputs
                if (ring := self._rings.get(source := PortRef(path, port.name))) and graph.delay_of(source)
            }
            found[path] = crew.states(kept)
        return found

    def value(self, source: PortRef, round_number: int) -> Any:
        """What the piece that lives here gave on `source` in `round_number`."""
        return self._rings[source].at(round_number)

    def inputs(self, path: str) -> Mapping[str, Any]:
        """What the single task `path` received last."""
        return self._crews[path].inputs[0]

    def forget_inputs(self) -> None:
        """Let go of what was received last."""
        for crew in self._crews.values():
            crew.forget_inputs()

    def forget(self) -> None:
        """Let go of every value and task, when all is over."""
        self.forget_inputs()
        for ring in self._rings.values():
            ring.clear()
        for crew in self._crews.values():
            crew.tasks.clear()

    def tallies(self) -> dict[str, list[Mapping[str, Any]]]:
        """Of every task that lives here its tallies."""
        return {path: [task.tallies() for task in crew.tasks] for path, crew in self._crews.items()}

    def close(self) -> None:
        """Close every task.

        Raises:
            ExceptionGroup: of what tasks raised; all are closed.
        """
        errors = []
        for crew in self._crews.values():
            for task in crew.tasks:
                try:
                    task.close()
                except Exception as error:  # noqa: BLE001 - the others are closed all the same
                    errors.append(error)
        if errors:
            raise ExceptionGroup(f"tasks of {self._layout.names[self._number]} could not be closed", errors)

    def _make_rings(self, node: TaskNode, piece: int) -> None:
        """Keep the outputs that are read here; the driver keeps what it has to send later as well."""
        for port in node.outputs:
            source = PortRef(node.path, port.name)
            readers = self._layout.readers(source, piece)
            if self._number in readers or (self._number == HOME and readers):
                self._rings[source] = self._layout.ring_for(source)

    def _plan(self, node: TaskNode) -> tuple[_Crew, list[_Reader], list[tuple[str, Ring]]]:
        """The crew of `node`, what brings its inputs, and where its outputs are kept."""
        crew = self._crews[node.path]
        kept = [(port.name, self._rings.get(PortRef(node.path, port.name))) for port in node.outputs]
        return (
            crew,
            [self._reader(edge, crew) for edge in self._layout.graph.edges_into(node.path)],
            [(port, ring) for port, ring in kept if ring is not None],
        )

    def _reader(self, edge: Edge, crew: _Crew) -> _Reader:
        target = self._layout.piece_at(crew.node.path, self._number)
        assert target is not None
        pieces = self._layout.pieces[edge.source.task]
        rings = [
            self._rings[edge.source] if pieces[source].place == self._number else None
            for source in self._layout.sources(edge, target)
        ]
        cut = rings[0] is None and pieces[0].place == HOME
        return _Reader(self._layout, edge, crew, rings, cut=cut)
