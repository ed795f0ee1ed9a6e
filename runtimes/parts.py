"""The parts of a graph that can run at their own pace, and how far one may be ahead of another.

Tasks that are joined by an edge without a delay belong together: none of them can begin a round before the others have
done theirs. Cut at its delayed edges, a graph falls into parts. Parts that share a place (a process) go together; so
do all in which a task is observed, since that lives with the driver. Between places

- an array that is broadcast in every round, as weights are, is the newest there is, and no older than a bound allows;
- every other value arrives exactly once and in order, from one round to the one that lies its delay later, as
  transitions do: who needs one that is not there yet waits for it;
- no place is more rounds ahead of another that it gives to or receives from than the staleness that is allowed.

So what a round does is not determined by the seed alone, but each does what it does in lock-step, and as often.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from runtimes.layout import HOME, Layout, Piece
from runtimes.protocol import processors, slices
from workloads.dataflow import EdgeShape, PortRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runtimes.layout import Feed
    from workloads.dataflow import Edge, Graph, TaskNode

__all__ = ["DIFFERS", "Pace", "is_newest", "parts_layout", "why_in_one"]

DIFFERS = (
    "parts of the graph run at their own pace, so what is broadcast from one to another is the newest value and not "
    "that of a certain round"
)


@dataclass(frozen=True, slots=True)
class _Part:
    """Tasks and banks that belong together; of a `sliced` one, each index by itself."""

    paths: tuple[str, ...]
    sliced: bool
    width: int
    observed: bool


def parts_layout(graph: Graph, places: int) -> Layout:
    """Who lives where: what is observed with the driver, banks in slices, at most so many `places` with the driver's.

    Zero `places` are one for each processor, and at least two.

    Each part that is no bank's and not observed has a place of its own, also where these are more.
    """
    places = places or max(2, processors())
    pieces: dict[str, tuple[Piece, ...]] = {}
    names = ["driver"]
    parts = _parts(graph)
    sliced = _sliced(graph, parts)
    wholes = [part for part in parts if part not in sliced and not part.observed]
    for part in parts:
        if part.observed:
            pieces |= {path: (Piece(HOME, range(graph.node(path).members)),) for path in part.paths}
    for part in wholes:
        pieces |= {path: (Piece(len(names), range(graph.node(path).members)),) for path in part.paths}
        names.append(part.paths[0])
    at_work = len(names) - 1 + any(part.observed for part in parts)
    hosts = max(1, min(places - at_work, max((part.width for part in sliced), default=1)))
    for part in sliced:
        cut = [members for members in slices(part.width, min(hosts, part.width)) if members]
        for path in part.paths:
            pieces[path] = tuple(Piece(len(names) + at, members) for at, members in enumerate(cut))
    if sliced:
        names += [f"host {number}" for number in range(1, hosts + 1)]
    return Layout(graph=graph, pieces=pieces, names=tuple(names), blocks=True)


def _sliced(graph: Graph, parts: list[_Part]) -> list[_Part]:
    """The parts that are cut into slices: those of banks, but for who is joined index by index with what is not cut."""
    sliced = [part for part in parts if part.sliced and not part.observed]
    joined = [{edge.source.task, edge.target.task} for edge in graph.edges if edge.shape is EdgeShape.ONE_TO_ONE]
    while True:
        cut = {path for part in sliced for path in part.paths}
        uneven = {path for pair in joined if pair & cut and not pair <= cut for path in pair}
        if not uneven:
            return sliced
        sliced = [part for part in sliced if uneven.isdisjoint(part.paths)]


def why_in_one(layout: Layout) -> str | None:
    """Why nothing in a graph could run at its own pace, or None if something can."""
    taken = {piece.place for pieces in layout.pieces.values() for piece in pieces}
    if len(taken) > 1:
        return None
    parts = _parts(layout.graph)
    if len(parts) == 1 and not (parts[0].sliced and parts[0].width > 1):
        return "all its tasks are joined by edges without a delay, so no part of it can run at its own pace"
    if taken == {HOME}:
        return "all its parts are observed, and live with the driver"
    return "all its parts would live in one process. Give more workers"


def is_newest(graph: Graph, edge: Edge) -> bool:
    """Whether who reads `edge` from another place gets the newest value, not that of a certain round.

    Something that is told to all, in every round: it says how things are. What is there in some rounds only is an
    event, which nobody must miss.
    """
    source = graph.node(edge.source.task).output(edge.source.name)
    return edge.shape is EdgeShape.BROADCAST and source.always is not None


@dataclass(frozen=True)
class Pace:
    """When the places of `layout` may begin their rounds, and how long values are kept."""

    layout: Layout
    staleness: int
    """How many rounds a place may be ahead of another that it gives to or receives from."""

    def waits_of(self, place: int) -> Mapping[int, int]:
        """Other places, each with how many rounds fewer than this place it must have done when this begins one."""
        return self._waits[place]

    def slots_of(self, source: PortRef) -> int:
        """For how many rounds what `source` gives is kept, so that nobody reads what is overwritten."""
        graph, bound = self.layout.graph, self.staleness
        edges = graph.edges_from(source)
        oldest = [bound if is_newest(graph, edge) else edge.delay - 1 for edge in edges]
        kept = [rounds + graph.retain_of(edge) for rounds, edge in zip(oldest, edges, strict=True)]
        # The round that a reader is in, those that the source is ahead of it, and those that lie behind.
        return 2 + bound + max([*kept, graph.delay_of(source)])

    def links(self) -> dict[tuple[PortRef, int], list[Feed]]:
        """What goes from one place to another: port and piece to who reads it."""
        return self._links

    @cached_property
    def _links(self) -> dict[tuple[PortRef, int], list[Feed]]:
        found: dict[tuple[PortRef, int], list[Feed]] = {}
        for place in range(len(self.layout.names)):
            for feed in self.layout.feeds(self.layout.graph.tasks, place):
                found.setdefault((feed.edge.source, feed.source), []).append(feed)
        return found

    @cached_property
    def _waits(self) -> dict[int, dict[int, int]]:
        waits: dict[int, dict[int, int]] = {place: {} for place in range(len(self.layout.names))}
        for feeds in self._links.values():
            for feed in feeds:
                giver = self.layout.pieces[feed.edge.source.task][feed.source].place
                taker = self.layout.pieces[feed.edge.target.task][feed.target].place
                newest = is_newest(self.layout.graph, feed.edge)
                behind = self.staleness if newest else min(self.staleness, feed.edge.delay - 1)
                waits[taker][giver] = min(behind, waits[taker].get(giver, behind))
                waits[giver].setdefault(taker, self.staleness)
        return waits


def _parts(graph: Graph) -> list[_Part]:
    """The parts of `graph`, in the order of their first tasks."""
    joined = [edge for edge in graph.edges if edge.delay == 0]
    found: list[_Part] = []
    seen: set[str] = set()
    for node in graph.tasks:
        if node.path not in seen:
            paths = _reached(node.path, joined)
            seen |= paths
            found.append(_part([other for other in graph.tasks if other.path in paths], joined))
    return found


def _part(nodes: list[TaskNode], joined: Iterable[Edge]) -> _Part:
    paths = {node.path for node in nodes}
    inside = [edge for edge in joined if edge.source.task in paths]
    alone = all(edge.shape is EdgeShape.ONE_TO_ONE for edge in inside) and nodes[0].width is not None
    return _Part(
        paths=tuple(node.path for node in nodes),
        sliced=alone,
        width=nodes[0].members,
        observed=any(node.observed for node in nodes),
    )


def _reached(path: str, joined: Iterable[Edge]) -> set[str]:
    """What is joined with `path`, itself among it."""
    found, waiting = {path}, [path]
    while waiting:
        at = waiting.pop()
        near = {edge.target.task for edge in joined if edge.source.task == at}
        near |= {edge.source.task for edge in joined if edge.target.task == at}
        waiting += near - found
        found |= near
    return found
