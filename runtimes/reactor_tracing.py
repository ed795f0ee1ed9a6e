"""How the reactor runtime shows what a run of a graph did, and when: its side of `runtimes.protocol.Tracing`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtimes.reactor import Trace, TraceUnreadable, first_difference
from runtimes.reactor_adapter import ReactorSession, first_round_tag

if TYPE_CHECKING:
    from pathlib import Path

    from runtimes.reactor import Program
    from workloads.dataflow import Graph

__all__ = ["compare_traces", "run_traced"]


def run_traced(graph: Graph, program: Program, rounds: int, timeline: Path, trace: Path | None) -> str:
    """Run `program`, made of `graph` with a timeline, for `rounds` rounds; writes the files, and gives a summary.

    The timeline is that of the rounds alone; the trace, for which the program needs a recording, begins with
    the building of the tasks.
    """
    session = ReactorSession(graph, program)
    try:
        session.advance(rounds)
    finally:
        session.close()
    first = first_round_tag(graph)
    of_rounds = program.timeline().of_tags(range(first, first + rounds))
    of_rounds.save(timeline)
    if trace is not None:
        program.trace().save(trace)
    return str(of_rounds.summary())


def compare_traces(first: Path, second: Path) -> str | None:
    """The first difference between two traces, in one sentence; None if they are equal.

    Raises:
        ValueError: for a file that is no trace.
    """
    try:
        found = first_difference(Trace.load(first), Trace.load(second))
    except TraceUnreadable as error:
        raise ValueError(str(error)) from error
    return None if found is None else str(found)
