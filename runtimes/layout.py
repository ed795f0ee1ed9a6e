"""Who lives where: which members of every task and bank of a graph are in which process, and what follows from it.

A place is one process: the driver is place 0; every other place is inside an actor of Ray's, or a process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtimes.protocol import member_name
from workloads.dataflow import EdgeShape, PortRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workloads.dataflow import Edge, Graph, TaskNode

__all__ = ["HOME", "Exports", "Feed", "Layout", "Piece", "Ring", "rounds_ahead"]

HOME = 0
"""The place of the driver."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The members of one task or bank that live in one place."""

    place: int
    members: range


@dataclass(frozen=True, slots=True)
class Feed:
    """What `edge` carries from piece `source` of its source to piece `target` of its target, in another place."""

    edge: Edge
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Exports:
    """The outputs of one place, in one step, that others read."""

    bundled: tuple[PortRef, ...]
    """Read by the driver alone: they come back together, as one object."""
    passed: tuple[PortRef, ...]
    """Read by other actors: each comes back as an object of its own, whose reference is passed on."""
    fetched: tuple[PortRef, ...]
    """Those of `passed` that the driver reads too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where every member of a graph lives, and what follows from it."""

    graph: Graph
    pieces: Mapping[str, tuple[Piece, ...]]
    """Path to pieces, which cover the members in index order; a place holds one piece of a path at most."""
    names: tuple[str, ...]
    """Of every place its name, for messages; that of the driver comes first."""
    blocks: bool
    """A piece of a bank travels as one block, `(members, *shape)` or a list. Otherwise it has one member, as is."""
    ahead: int = 0
    """So many rounds may have begun before a round has ended, and values are kept for so many more.

    In lock-step never more than `rounds_ahead` of the graph.
    """

    rows: bool = False
    """An array travels between places as a list of its rows, not in one piece; never with `blocks`."""

    def actors(self) -> tuple[int, ...]:
        """The places in which something lives, but for the driver's."""
        return tuple(sorted({piece.place for pieces in self.pieces.values() for piece in pieces} - {HOME}))

    def sent(self, source: PortRef, value: Any) -> Any:
        """How `value` of a port travels from place to place."""
        if not self.rows or self.graph.node(source.task).output(source.name).always is None:
            return value
        return list(value) if value.ndim > 1 else value.tolist()

    def members_at(self, place: int) -> list[str]:
        """The names of the tasks that live in `place`."""
        return [
            member_name(node, index)
            for node in self.graph.tasks
            for piece in self.pieces[node.path]
            if piece.place == place
            for index in piece.members
        ]

    def is_block(self, path: str) -> bool:
        """Whether pieces of `path` travel as blocks."""
        return self.blocks and self.graph.node(path).width is not None

    def piece_at(self, path: str, place: int) -> int | None:
        """Which piece of `path` lives in `place`, if one does."""
        return next((i for i, piece in enumerate(self.pieces[path]) if piece.place == place), None)

    def in_order(self, by_place: Mapping[int, Mapping[str, Sequence[Any]]]) -> dict[str, list[Any]]:
        """Of every task what the places that have members of it say of them, in index order."""
        return {
            path: [item for piece in pieces for item in by_place[piece.place][path]]
            for path, pieces in self.pieces.items()
        }

    def piece_in(self, path: str, place: int) -> int:
        """Which piece of `path` lives in `place`, which must have one."""
        return next(i for i, piece in enumerate(self.pieces[path]) if piece.place == place)

    def sources(self, edge: Edge, target: int) -> Sequence[int]:
        """The pieces of the edge's source that piece `target` of its target reads, in index order."""
        if edge.shape is EdgeShape.GATHER:
            return range(len(self.pieces[edge.source.task]))
        return (target,) if edge.shape is EdgeShape.ONE_TO_ONE else (0,)

    def readers(self, source: PortRef, piece: int, *, delayed: bool | None = None) -> set[int]:
        """The places that read what piece `piece` gives on port `source`: delayed, undelayed or at all."""
        return {
            there.place
            for edge in self.graph.edges_from(source)
            if delayed is None or delayed == bool(edge.delay)
            for target, there in enumerate(self.pieces[edge.target.task])
            if piece in self.sources(edge, target)
        }

    def ring_for(self, source: PortRef) -> Ring:
        """A ring that keeps the values of `source` for as long as they are read."""
        return Ring(self.graph.delay_of(source) + self.ahead)

    def steps(self) -> tuple[tuple[TaskNode, ...], ...]:
        """The firing order cut into runs in which no task needs another place's result of the same run.

        Each place fires its part of a step in one call.
        """
        steps: list[tuple[TaskNode, ...]] = []
        current: list[TaskNode] = []
        for node in self.graph.tasks:
            fired = {before.path for before in current}
            if any(e.delay == 0 and e.source.task in fired and self._crosses(e) for e in self._into(node)):
                steps.append(tuple(current))
                current = []
            current.append(node)
        return (*steps, tuple(current))

    def nodes_at(self, step: Iterable[TaskNode], place: int) -> tuple[TaskNode, ...]:
        """Those of `step` that have a piece in `place`."""
        return tuple(node for node in step if self.piece_at(node.path, place) is not None)

    def feeds(self, step: Iterable[TaskNode], place: int) -> tuple[Feed, ...]:
        """What `place` needs from other places in `step`, in the order in which it takes it."""
        return tuple(
            Feed(edge, source, target)
            for node in step
            if (target := self.piece_at(node.path, place)) is not None
            for edge in self._into(node)
            for source in self.sources(edge, target)
            if self.pieces[edge.source.task][source].place != place
        )

    def exports(self, step: Iterable[TaskNode], place: int) -> Exports:
        """What others read of that which `place` gives in `step`."""
        bundled, passed, fetched = [], [], []
        for node in step:
            piece = self.piece_at(node.path, place)
            for source in [PortRef(node.path, port.name) for port in node.outputs] if piece is not None else []:
                assert piece is not None
                elsewhere = self.readers(source, piece) - {place}
                if elsewhere - {HOME}:
                    passed.append(source)
                    fetched += [source] if HOME in elsewhere else []
                elif elsewhere:
                    bundled.append(source)
        return Exports(tuple(bundled), tuple(passed), tuple(fetched))

    def _into(self, node: TaskNode) -> list[Edge]:
        return self.graph.edges_into(node.path)

    def _crosses(self, edge: Edge) -> bool:
        """Whether any value of `edge` goes from one place to another."""
        return any(
            self.pieces[edge.source.task][source].place != there.place
            for target, there in enumerate(self.pieces[edge.target.task])
            for source in self.sources(edge, target)
        )


def rounds_ahead(graph: Graph) -> int:
    """How many rounds may have begun before a round has ended: one fewer than every delayed edge is long.

    A graph without delayed edges has none, as every task waits for the round before to end.
    """
    return min((edge.delay for edge in graph.edges if edge.delay), default=1) - 1


class Ring:
    """The values of one piece of a port in the last rounds, as far back as an edge reaches."""

    __slots__ = ("_values",)

    def __init__(self, rounds: int) -> None:
        """Keep the value of this round and of `rounds` rounds before."""
        self._values: list[Any] = [None] * (rounds + 1)

    def clear(self) -> None:
        """Let go of all values."""
        self._values = [None] * len(self._values)

    def begin(self, first_round: int, values: Sequence[Any]) -> None:
        """Make `values` those of the rounds before the first, the last of them that of the round just before."""
        for before, value in enumerate(reversed(values), 1):
            self.put(first_round - before, value)

    def put(self, round_number: int, value: Any) -> None:
        """Keep `value` for `round_number`, in place of the oldest."""
        self._values[round_number % len(self._values)] = value

    def at(self, round_number: int) -> Any:
        """The value of `round_number`."""
        return self._values[round_number % len(self._values)]

    def before(self, round_number: int, rounds: int) -> list[Any]:
        """The values of so many rounds before `round_number`, the oldest first."""
        return [self.at(number) for number in range(round_number - rounds, round_number)]
