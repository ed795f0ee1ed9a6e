"""Ray as the paper uses it: one actor per member of a bank, one call a round to each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from runtimes.layout import HOME, Layout, Piece, rounds_ahead
from runtimes.protocol import Runtime, member_name
from runtimes.ray_calls import Calls
from runtimes.ray_cluster import RayCluster, demands_of, notice_of, object_store_bytes, private_settings
from runtimes.ray_session import RaySession

if TYPE_CHECKING:
    from pathlib import Path

    from workloads.dataflow import Graph, Session

__all__ = ["RUNTIME", "RayActorsOptions", "actor_per_member"]


class RayActorsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Ray's settings."""

    private_settings: Annotated[
        bool,
        msgspec.Meta(
            description="use settings that Ray does not document, as ray-packed does: values up to 8 MiB travel inside "
            "the call, no authentication, no task events"
        ),
    ] = False
    ahead: Annotated[
        bool,
        msgspec.Meta(description="begin rounds before the last one has ended, as many as the workload's lag allows"),
    ] = True


def actor_per_member(graph: Graph, *, ahead: int = 0) -> Layout:
    """Every member of a bank in an actor of its own; single tasks with the driver, unless worth an own place."""
    names = ["driver"]
    pieces: dict[str, tuple[Piece, ...]] = {}
    for node in graph.tasks:
        if node.width is None and not node.own_place:
            pieces[node.path] = (Piece(HOME, range(1)),)
            continue
        pieces[node.path] = tuple(Piece(len(names) + i, range(i, i + 1)) for i in range(node.members))
        names += [member_name(node, index) for index in range(node.members)]
    return Layout(graph=graph, pieces=pieces, names=tuple(names), blocks=False, ahead=ahead)


def _open(graph: Graph, options: RayActorsOptions, scratch: Path) -> Session:
    """Start Ray, and an actor for every member."""
    layout = _layout(graph, options)
    cluster = RayCluster(scratch, object_store_bytes(graph, layout.ahead), _settings(options))
    return RaySession(cluster, Calls(layout))


def _layout(graph: Graph, options: RayActorsOptions) -> Layout:
    return actor_per_member(graph, ahead=rounds_ahead(graph) if options.ahead else 0)


def _settings(options: RayActorsOptions) -> dict[str, str]:
    return private_settings() if options.private_settings else {}


RUNTIME = Runtime(
    name="ray",
    summary="Ray, one actor per member of a bank: the paper's shape, without private settings unless asked for.",
    options=RayActorsOptions,
    open=_open,
    notice=lambda options: notice_of(_settings(options)),
    demands=lambda graph, options: demands_of(_layout(graph, options)),
    requires=("ray",),
)
