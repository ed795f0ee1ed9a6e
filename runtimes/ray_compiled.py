"""Ray compiled graphs: the topology is declared once, and values go through shared memory without calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from runtimes.layout import rounds_ahead
from runtimes.protocol import Runtime, processors
from runtimes.ray_actors import actor_per_member
from runtimes.ray_cluster import RayCluster, demands_of, object_store_bytes
from runtimes.ray_graphs import Executions, channel_store_bytes, problem_of
from runtimes.ray_packed import packed
from runtimes.ray_session import RaySession

if TYPE_CHECKING:
    from pathlib import Path

    from runtimes.layout import Layout
    from runtimes.protocol import Demands
    from workloads.dataflow import Graph, Session

__all__ = ["RUNTIME", "RayCompiledOptions", "layout_of"]

_TIMEOUT_S = 60.0
"""How long an execution may take before it is given up: loops that outnumber the processors may never end one."""


class RayCompiledOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part in the compiled graph."""

    driver_slice: Annotated[
        bool,
        msgspec.Meta(description="the driver fires a slice of every bank too, and there is one host actor fewer"),
    ] = True
    per_member: Annotated[
        bool,
        msgspec.Meta(
            description="an actor for every member instead; where actors outnumber processors a round takes very long, "
            "or fails with a time-out, since each of them waits by spinning"
        ),
    ] = False
    ahead: Annotated[
        bool,
        msgspec.Meta(description="begin rounds before the last one has ended, as many as the workload's lag allows"),
    ] = True

    def __post_init__(self) -> None:
        """Check that no option is set in vain.

        Raises:
            ValueError: for an actor for every member and no driver's slice.
        """
        if self.per_member and not self.driver_slice:
            raise ValueError(
                "driver_slice=false does not go with per_member=true, where the driver has no slice anyway. "
                "Leave one of the two out."
            )


def layout_of(graph: Graph, options: RayCompiledOptions) -> Layout:
    """Who lives where."""
    ahead = rounds_ahead(graph) if options.ahead else 0
    if options.per_member:
        return actor_per_member(graph, ahead=ahead)
    return packed(graph, driver_slice=options.driver_slice, places=processors(), ahead=ahead)


def _open(graph: Graph, options: RayCompiledOptions, scratch: Path) -> Session:
    """Start Ray and the actors, and compile the graph."""
    layout = layout_of(graph, options)
    store_bytes = object_store_bytes(graph, layout.ahead) + channel_store_bytes(layout)
    return RaySession(RayCluster(scratch, store_bytes), Executions(layout, _TIMEOUT_S))


def _refuses(graph: Graph, options: RayCompiledOptions) -> str | None:
    """Why a graph cannot be compiled, or None if it can."""
    return problem_of(layout_of(graph, options))


def _demands(graph: Graph, options: RayCompiledOptions) -> Demands:
    """What it takes: as any other Ray, and the buffers of its channels."""
    layout = layout_of(graph, options)
    return demands_of(layout, channel_store_bytes(layout))


RUNTIME = Runtime(
    name="ray-compiled",
    summary=(
        "Ray compiled graph: host actors that each fire a slice of every bank, and a slice fired by the driver. "
        "Cannot run a graph in which a task of the driver fires between tasks of actors."
    ),
    options=RayCompiledOptions,
    open=_open,
    refuses=_refuses,
    demands=_demands,
    requires=("ray",),
)
