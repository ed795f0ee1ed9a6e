"""Ray at its best where members outnumber processors: host actors that each fire a slice of every bank in one call.

The driver, which would otherwise wait, fires a slice of its own between submitting and getting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from runtimes.protocol import Runtime, processors, slices
from runtimes.ray_cluster import RayCluster, object_store_bytes
from runtimes.ray_place import HOME, Layout, Piece
from runtimes.ray_session import RaySession

if TYPE_CHECKING:
    from pathlib import Path

    from workloads.dataflow import Graph, Session

__all__ = ["RUNTIME", "RayPackedOptions", "packed"]


_INLINE_BYTES = 8_388_608


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
    ] = _INLINE_BYTES
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
        if not self.private_settings and self.inline_bytes != _INLINE_BYTES:
            raise ValueError(
                f"inline_bytes={self.inline_bytes} is one of Ray's private settings, and private_settings=false "
                "uses none. Leave one of the two out."
            )


def packed(graph: Graph, *, driver_slice: bool, places: int) -> Layout:
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
    return Layout(graph=graph, pieces=pieces, names=tuple(names), blocks=True)


def _settings(options: RayPackedOptions) -> dict[str, str]:
    """Ray's private settings, as environment variables."""
    if not options.private_settings:
        return {}
    return {
        "RAY_max_direct_call_object_size": str(options.inline_bytes),
        "RAY_AUTH_MODE": "disabled",
        "RAY_task_events_report_interval_ms": "0",
    }


def _open(graph: Graph, options: RayPackedOptions, scratch: Path) -> Session:
    """Start Ray and the host actors."""
    layout = packed(graph, driver_slice=options.driver_slice, places=processors())
    return RaySession(RayCluster(scratch, object_store_bytes(graph), _settings(options)), layout)


def _notice(options: RayPackedOptions) -> str | None:
    """Say that Ray runs with settings that it does not document."""
    if not options.private_settings:
        return None
    settings = ", ".join(f"{name}={value}" for name, value in _settings(options).items())
    return f"private settings of Ray: {settings}"


RUNTIME = Runtime(
    name="ray-packed",
    summary="Ray, host actors that each fire a slice of every bank in one call, and a slice fired by the driver.",
    options=RayPackedOptions,
    open=_open,
    notice=_notice,
    requires=("ray",),
)
