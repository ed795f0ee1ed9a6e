"""What a runtime is to the harness: a name, options, and a function that opens a session on a graph."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import msgspec

    from workloads.dataflow import Graph, Session, TaskNode

__all__ = [
    "Demands",
    "Runtime",
    "RuntimeFailure",
    "Tracing",
    "demands_here",
    "member_name",
    "not_resumed",
    "processors",
    "slices",
    "task_failure",
    "value_bytes",
]


_PROCESS_BYTES = 100_000_000
"""An interpreter with what the tasks import."""


class RuntimeFailure(RuntimeError):  # noqa: N818 - "RuntimeError" is taken, and this is what it reports
    """Something that the runtime needs has failed or died; the message names it and when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What a session will take: for the check of memory before it starts, and to guess how long its start takes."""

    processes: int
    """Processes besides the calling one that import the tasks' modules."""
    memory_bytes: int
    """At most, of all processes together."""
    shared_memory_bytes: int = 0
    """Of them in `/dev/shm`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """How a runtime shows what a run of it did, and when."""

    run: Callable[[Graph, Any, int, Path, Path | None], str]
    """`run(graph, options, rounds, timeline, trace)` runs the graph for so many rounds and sums up, for people, where
    the time went. It writes a file for Perfetto to `timeline`, and unless that is None, what was computed to `trace`.
    """
    compare: Callable[[Path, Path], str | None]
    """The first difference between two files that `run` wrote as `trace`, in one sentence; None if they are equal.

    Raises ValueError for a file that it cannot read; the message says why.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A runtime as the harness finds it, through the entry-point group `reactorbench.runtimes`.

    The module that holds it imports nothing heavy at its top (no engine), so that listing stays quick.
    """

    name: str
    summary: str
    """One line: what it is and how it runs a graph."""
    options: type[msgspec.Struct]
    """A frozen, keyword-only struct; every field annotated with `msgspec.Meta(description=...)` and a default."""
    open: Callable[[Graph, Any, Path], Session]
    """`open(graph, options, scratch)` starts the graph; `scratch` is an empty folder that is deleted afterwards.

    Everything from this call until it returns is start-up time.
    """
    refuses: Callable[[Graph, Any], str | None] | None = None
    """Why it cannot run this graph with these options, or None if it can."""
    notice: Callable[[Any], str | None] | None = None
    """Something that a reader of the results must know about these options (private settings, a missing part)."""
    demands: Callable[[Graph, Any], Demands] | None = None
    """What a session of this graph with these options will take; None where that is `demands_here`."""
    tracing: Tracing | None = None
    """Where the runtime can be traced."""
    is_bound: bool = False
    """No competitor but a bound on all of them: it does less than a whole round, and so has no digest."""
    differs: str | None = None
    """Why it computes something else than the plain loop, where it does so by its nature (random streams of its own).

    One sentence without a full stop. Such a runtime has no digest, and is compared on units of work only.
    """
    limits: str | None = None
    """What it can run, where that is not every workload; for those who choose, as `refuses` decides. No full stop."""
    requires: tuple[str, ...] = ()
    """Importable modules that it needs."""
    optional: tuple[tuple[str, str], ...] = ()
    """Modules that only some options need, or that make it faster: each with what it is for."""


def value_bytes(graph: Graph) -> int:
    """Bytes of all values that a round of `graph` declares, once for each that is valid at the same time."""
    from workloads.dataflow import PortRef

    return sum(
        node.members * port.array.nbytes * graph.slots_of(PortRef(node.path, port.name))
        for node in graph.tasks
        for port in node.outputs
        if port.array is not None
    )


def demands_here(graph: Graph) -> Demands:
    """The demands of a runtime that keeps every value once, in this process or in memory that it shares."""
    return Demands(processes=0, memory_bytes=_PROCESS_BYTES + value_bytes(graph) + graph.held_bytes)


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def slices(width: int, parts: int) -> Sequence[range]:
    """Cut the members 0..width-1 of a bank into `parts` runs of nearly equal length, in index order.

    The first run belongs to the driver, which also fires the single tasks: it is never longer than another.
    """
    bounds = [width * part // parts for part in range(parts + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


def member_name(node: TaskNode, index: int) -> str:
    """How messages name one task: `driver`, `env[3]`."""
    return node.path if node.width is None else f"{node.path}[{index}]"


def not_resumed(graph: Graph) -> str | None:
    """Why a runtime that always starts at the beginning cannot run `graph`, or None if it can."""
    if not graph.is_resumed:
        return None
    return f"it starts at the beginning, and this graph goes on from a state after {graph.first_round} rounds"


def task_failure(member: str, round_number: int, error: BaseException) -> RuntimeFailure:
    """The failure to raise, from `error`, when task `member` raised it in `round_number`."""
    return RuntimeFailure(f"Task '{member}' failed in round {round_number}: {type(error).__name__}: {error}")
