"""`reactorbench trace` and `reactorbench verify`: what a run did and when, and whether two did the same.

The runtime does the work (`runtimes.protocol.Tracing`); any installed one that can may be named.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from harness import registry
from harness.arguments import check_writable, chosen_runtime, chosen_workload, parse_assignments
from harness.errors import HarnessError, UsageError
from harness.invocation import trace
from harness.job import Pairing, TraceJob
from harness.process_tree import become_subreaper
from harness.scratch import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runtimes.protocol import Runtime, Tracing

__all__ = ["difference", "trace_workload"]

_LOG_LINES = 20
"""What is shown of the output of a run that failed."""


def trace_workload(  # noqa: PLR0913 - one argument for each flag
    workload_name: str,
    assignments: Sequence[str],
    runtime_text: str | None,
    *,
    rounds: int,
    seed: int,
    timeout_s: float,
    timeline: Path,
    recording: Path | None,
) -> str:
    """Run a workload for some rounds, write its timeline, and its trace if a path for it is given; a summary.

    Raises:
        UsageError: for bad input; nothing has run then.
        HarnessError: if the run fails.
    """
    _check_numbers(rounds, seed, timeout_s)
    for path in filter(None, [timeline, recording]):
        check_writable(path)
    runtime, options = chosen_runtime(_first_traced().name if runtime_text is None else runtime_text)
    _tracing(runtime)
    workload, parameters = chosen_workload(workload_name, parse_assignments(assignments, flag="--set"), is_text=True)
    job = TraceJob(
        parent_pid=os.getpid(),
        pairing=Pairing(
            workload=workload.name,
            parameters=msgspec.to_builtins(parameters),
            runtime=runtime.name,
            options=msgspec.to_builtins(options),
        ),
        seed=seed,
        rounds=rounds,
        timeline=str(timeline.absolute()),
        trace=None if recording is None else str(recording.absolute()),
    )
    return _done(job, timeout_s)


def difference(first: Path, second: Path, runtime_name: str | None) -> str | None:
    """The first difference between two traces, in one sentence; None if they are equal.

    Raises:
        UsageError: for a file that is no trace, or a runtime that has none.
    """
    tracing = _tracing(_first_traced() if runtime_name is None else registry.runtimes().get(runtime_name))
    try:
        return tracing.compare(first, second)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _done(job: TraceJob, timeout_s: float) -> str:
    """The summary that `job` ends with."""
    become_subreaper()
    with temporary_folder() as folder:
        log = folder / "log"
        result = trace(job, log=log, timeout_s=timeout_s)
        if result.problem is not None:
            raise UsageError(result.problem)
        if result.summary is None:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
            raise HarnessError("\n".join([*lines, f"The run failed: {result.reason}"]))
        return result.summary


def _check_numbers(rounds: int, seed: int, timeout_s: float) -> None:
    if rounds < 1:
        raise UsageError(f"--rounds cannot be {rounds}: there is nothing to show. Give at least 1.")
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed cannot be {seed}: it takes int >= 0, < 4294967296. Give another.")
    if not timeout_s > 0:
        raise UsageError(f"--timeout-s cannot be {timeout_s:g}: no run is over before it begins. Give more than 0.")


def _first_traced() -> Runtime:
    """The first runtime by name that can be traced."""
    for plugin in registry.runtimes():
        if plugin.loaded is not None and plugin.loaded.tracing is not None:
            return plugin.loaded
    raise UsageError("No installed runtime can be traced. Install one that offers it.")


def _tracing(runtime: Runtime) -> Tracing:
    """How `runtime` is traced; raises if it cannot be."""
    if runtime.tracing is None:
        plugins = registry.runtimes()
        able = [plugin.name for plugin in plugins if plugin.loaded is not None and plugin.loaded.tracing is not None]
        raise UsageError(f"The runtime '{runtime.name}' cannot be traced. Those that can: {', '.join(able) or 'none'}.")
    return runtime.tracing
