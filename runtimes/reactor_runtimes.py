"""The reactor runtimes: their names and options; `reactor_adapter` does the work, and is imported when it must."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from runtimes.protocol import Demands, Runtime, Tracing, demands_here, processors, value_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from runtimes.reactor import Program
    from workloads.dataflow import Graph, Session

__all__ = ["AUTO", "INLINE", "PROCESSES", "THREADS", "NoOptions", "Options"]

Executor = Literal["auto", "inline", "threads", "processes"]


class NoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thread has nothing to choose."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many run the program."""

    workers: Annotated[
        int,
        msgspec.Meta(
            description="how many threads or processes run reactors, the calling one counted (auto: at most); 0: one "
            "for each processor, no more than members",
            ge=0,
        ),
    ] = 0


def _program(
    executor: Executor, graph: Graph, options: Options | NoOptions, *, timeline: bool = False, recording: bool = False
) -> Program:
    from runtimes.reactor import Program
    from runtimes.reactor_adapter import GraphReactor, places_of_their_own, useful_workers

    asked = options.workers if isinstance(options, Options) else 1
    return Program(
        partial(GraphReactor, graph),
        executor=executor,
        workers=asked or min(processors(), useful_workers(graph)),
        placement=partial(places_of_their_own, graph),
        fast=True,
        timeline=timeline,
        recording=recording,
    )


def _open(executor: Executor, graph: Graph, options: Options | NoOptions, _scratch: Path) -> Session:
    from runtimes.reactor_adapter import ReactorSession

    return ReactorSession(graph, _program(executor, graph, options))


def _run_traced(  # noqa: PLR0913, PLR0917 - what a traced run is told
    executor: Executor, graph: Graph, options: Options | NoOptions, rounds: int, timeline: Path, trace: Path | None
) -> str:
    from runtimes.reactor_tracing import run_traced

    program = _program(executor, graph, options, timeline=True, recording=trace is not None)
    return run_traced(graph, program, rounds, timeline, trace)


def _compare(first: Path, second: Path) -> str | None:
    from runtimes.reactor_tracing import compare_traces

    return compare_traces(first, second)


def _notice(_options: Options | NoOptions) -> str | None:
    from runtimes.reactor import native_available

    if native_available():
        return None
    return "The native part was not built: workers wait on semaphores, which is slower."


def _demands_with_a_move(graph: Graph, _options: Options | NoOptions) -> Demands:
    """Reactors that move have every value twice for a moment: where they were, and in what the workers share."""
    here = demands_here(graph)
    return Demands(processes=here.processes, memory_bytes=here.memory_bytes + value_bytes(graph))


def _runtime(name: str, executor: Executor, summary: str, options: type[Options | NoOptions] = Options) -> Runtime:
    return Runtime(
        name=name,
        summary=summary,
        options=options,
        open=partial(_open, executor),
        notice=_notice,
        demands=_demands_with_a_move if executor == "auto" else None,
        tracing=Tracing(run=partial(_run_traced, executor), compare=_compare),
        optional=(("runtimes.reactor._native", "waiting on shared counters instead of semaphores"),),
    )


AUTO = _runtime(
    "reactor", "auto", "Reactors: the first rounds are measured in one thread, then they stay there or move to workers."
)
INLINE = _runtime("reactor-inline", "inline", "Reactors, all in the calling thread.", NoOptions)
THREADS = _runtime(
    "reactor-threads", "threads", "Reactors in threads of one process: parallel where the interpreter lets them."
)
PROCESSES = _runtime(
    "reactor-processes",
    "processes",
    "Reactors in worker processes: declared edges in shared memory, no locks, no message per actor.",
)
