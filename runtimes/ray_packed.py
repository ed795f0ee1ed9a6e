"""Ray at its best where members outnumber processors: host actors that each fire a slice of every bank in one call.

The driver, which would otherwise wait, fires a slice of its own between submitting and getting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from runtimes.layout import HOME, Layout, Piece, rounds_ahead
from runtimes.protocol import Runtime, processors, slices
from runtimes.ray_calls import Calls
from runtimes.ray_cluster import (
    INLINE_BYTES,
    RayCluster,
    demands_of,
    notice_of,
    object_store_bytes,
    private_settings,
)
from runtimes.ray_session import RaySession

if TYPE_CHECKING:
    from pathlib import Path

    from workloads.dataflow import Graph, Session

__all__ = ["RUNTIME", "RayPackedOptions", "packed"]


class RayPackedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How members are packed, and Ray's settings."""

    driver_slice: Annotated[
        bool,
        msgspec.Meta(description="the driver fires a slice of every bank too, and there is one host actor fewer"),
    ] = True
    inline_bytes: Annotated[
        int,
        msgspec.Meta(
            description="values up to this size travel inside the call instead of through the object store "
            "(RAY_max_direct_call_object_size; needs private_settings)",
            ge=0,
        ),
    ] = INLINE_BYTES
    ahead: Annotated[
        bool,
        msgspec.Meta(description="begin rounds before the last one has ended, as many as the workload's lag allows"),
    ] = True
    private_settings: Annotated[
        bool,
        msgspec.Meta(
            description="use settings that Ray does not document: inline_bytes, no authentication, no task events"
        ),
    ] = True

    def __post_init__(self) -> None:
        """Check that no option is set in vain.

        Raises:
            ValueError: for a size without the private settings that it is one of.
        """
        if not self.private_settings and self.inline_bytes != INLINE_BYTES:
            raise ValueError(
                f"inline_bytes={self.inline_bytes} is one of Ray's private settings, and private_settings=false "
                "uses none. Leave one of the two out."
            )


def packed(graph: Graph, *, driver_slice: bool, places: int, ahead: int = 0) -> Layout:
    """Every bank in slices over `places` processors, the driver's included if it has one; at least one host actor."""
    parts = [HOME] * driver_slice + list(range(1, max(places - driver_slice, 1) + 1))
    names = ["driver", *(f"host {number}" for number in parts if number != HOME)]
    pieces: dict[str, tuple[Piece, ...]] = {}
    for node in graph.tasks:
        if node.width is not None:
            cut = zip(parts, slices(node.width, len(parts)), strict=True)
            pieces[node.path] = tuple(Piece(place, members) for place, members in cut if members)
        elif node.own_place:
            pieces[node.path] = (Piece(len(names), range(1)),)
            names.append(node.path)
        else:
            pieces[node.path] = (Piece(HOME, range(1)),)
    return Layout(graph=graph, pieces=pieces, names=tuple(names), blocks=True, ahead=ahead)


def _settings(options: RayPackedOptions) -> dict[str, str]:
    """Ray's private settings, as environment variables."""
    return private_settings(options.inline_bytes) if options.private_settings else {}


def _open(graph: Graph, options: RayPackedOptions, scratch: Path) -> Session:
    """Start Ray and the host actors."""
    layout = _layout(graph, options)
    cluster = RayCluster(scratch, object_store_bytes(graph, layout.ahead), _settings(options))
    return RaySession(cluster, Calls(layout))


def _layout(graph: Graph, options: RayPackedOptions) -> Layout:
    ahead = rounds_ahead(graph) if options.ahead else 0
    return packed(graph, driver_slice=options.driver_slice, places=processors(), ahead=ahead)


RUNTIME = Runtime(
    name="ray-packed",
    summary="Ray, host actors that each fire a slice of every bank in one call, and a slice fired by the driver.",
    options=RayPackedOptions,
    open=_open,
    notice=lambda options: notice_of(_settings(options)),
    demands=lambda graph, options: demands_of(_layout(graph, options)),
    requires=("ray",),
)
