"""Ray as the paper uses it: one actor per member of a bank, one call a round to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from runtimes.protocol import Runtime, member_name
from runtimes.ray_cluster import RayCluster, object_store_bytes
from runtimes.ray_place import HOME, Layout, Piece
from runtimes.ray_session import RaySession

if TYPE_CHECKING:
    from pathlib import Path

    from workloads.dataflow import Graph, Session

__all__ = ["RUNTIME", "RayActorsOptions", "actor_per_member"]


class RayActorsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`ray` has no options."""


def actor_per_member(graph: Graph) -> Layout:
    """Every member of a bank in an actor of its own; single tasks with the driver, unless worth an own place."""
    names = ["driver"]
    pieces: dict[str, tuple[Piece, ...]] = {}
    for node in graph.tasks:
        if node.width is None and not node.own_place:
            pieces[node.path] = (Piece(HOME, range(1)),)
            continue
        pieces[node.path] = tuple(Piece(len(names) + i, range(i, i + 1)) for i in range(node.members))
        names += [member_name(node, index) for index in range(node.members)]
    return Layout(graph=graph, pieces=pieces, names=tuple(names), blocks=False)


def _open(graph: Graph, _options: RayActorsOptions, scratch: Path) -> Session:
    """Start Ray, and an actor for every member."""
    return RaySession(RayCluster(scratch, object_store_bytes(graph)), actor_per_member(graph))


RUNTIME = Runtime(
    name="ray",
    summary="Ray, one actor per member of a bank: the paper's shape, no private setting that bears on speed.",
    options=RayActorsOptions,
    open=_open,
    requires=("ray",),
)
