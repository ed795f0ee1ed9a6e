"""The runtime `reactor`: its name and options; `reactor_adapter` does the work, and is imported when it must."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from runtimes.protocol import Runtime, Tracing, processors

if TYPE_CHECKING:
    from pathlib import Path

    from runtimes.reactor import Program
    from workloads.dataflow import Graph, Session

__all__ = ["RUNTIME", "Options"]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the reactor program runs."""

    executor: Annotated[
        Literal["processes", "inline"],
        msgspec.Meta(description="processes: reactors spread over worker processes; inline: all in the calling thread"),
    ] = "processes"
    workers: Annotated[
        int,
        msgspec.Meta(
            description="processes that run reactors, the calling one counted; 0: one for each processor, no more "
            "than members",
            ge=0,
        ),
    ] = 0

    def __post_init__(self) -> None:
        """Check that no option is set in vain.

        Raises:
            ValueError: for workers that the inline executor has no use for.
        """
        if self.executor == "inline" and self.workers > 1:
            raise ValueError(
                f"workers={self.workers} goes with executor=processes; inline runs all in the calling thread. "
                "Leave one of the two out."
            )


def _program(graph: Graph, options: Options, *, timeline: bool = False, recording: bool = False) -> Program:
    from runtimes.reactor import Program
    from runtimes.reactor_adapter import GraphReactor, places_of_their_own, useful_workers

    workers = 1 if options.executor == "inline" else options.workers or min(processors(), useful_workers(graph))
    return Program(
        partial(GraphReactor, graph),
        executor=options.executor,
        workers=workers,
        placement=places_of_their_own(graph, workers),
        fast=True,
        timeline=timeline,
        recording=recording,
    )


def _open(graph: Graph, options: Options, _scratch: Path) -> Session:
    from runtimes.reactor_adapter import ReactorSession

    return ReactorSession(graph, _program(graph, options))


def _run_traced(graph: Graph, options: Options, rounds: int, timeline: Path, trace: Path | None) -> str:
    from runtimes.reactor_tracing import run_traced

    program = _program(graph, options, timeline=True, recording=trace is not None)
    return run_traced(graph, program, rounds, timeline, trace)


def _compare(first: Path, second: Path) -> str | None:
    from runtimes.reactor_tracing import compare_traces

    return compare_traces(first, second)


def _notice(_options: Options) -> str | None:
    from runtimes.reactor import native_available

    if native_available():
        return None
    return "The native part was not built: workers wait on semaphores, which is slower."


RUNTIME = Runtime(
    name="reactor",
    summary="Reactors in worker processes: declared edges in shared memory, no locks, no message per actor.",
    options=Options,
    open=_open,
    notice=_notice,
    tracing=Tracing(run=_run_traced, compare=_compare),
    optional=(("runtimes.reactor._native", "waiting on shared counters instead of semaphores"),),
)
