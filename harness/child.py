"""The child process of the harness: `python -m harness.child measure|check|trace|learn FOLDER`.

It alone imports and runs what is measured. `measure` runs one cell on one runtime, once: start,
warm-up rounds, measured rounds up to the checkpoint of the digest, more of them until the time asked
for is filled, close. `check` builds graphs without running them, so that bad input shows before
anything is measured. `trace` runs a cell for a number of rounds, and has the runtime say where the time went. `learn`,
in `harness.learning.training`, trains a cell and evaluates what it learns.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import math
import signal
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from harness import registry
from harness.child_tools import closed_on_error, first_line, notice_of, summed
from harness.job import (
    MAX_VALUES,
    CheckJob,
    CheckResult,
    Folder,
    LearnJob,
    LearnResult,
    Load,
    MeasureJob,
    Pairing,
    Phase,
    TraceJob,
    TraceResult,
)
from harness.process_tree import die_with_parent
from harness.records import Measurement
from harness.rounds import quantiles_s
from runtimes.protocol import demands_here, value_bytes
from workloads.dataflow import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from harness.metrics import Metric
    from workloads.dataflow import Graph, Session

__all__ = [
    "check",
    "condense",
    "main",
    "measure",
    "trace",
]

_MAX_ROUNDS = 5_000_000
"""Keeps the durations of a very cheap round within 40 MB."""
_GROWTH = 4
"""No step of the open end has more rounds than this times those before it, lest a slow round be misjudged."""


def main(arguments: Sequence[str]) -> int:
    """Do the job in the folder; the result lies there, also of a failure."""
    mode, folder = arguments[0], Folder(Path(arguments[1]))
    # The harness asks a child that hangs where it is; the answer goes to the log.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    text = folder.job.read_bytes()
    if mode == "check":
        check_job = msgspec.json.decode(text, type=CheckJob)
        die_with_parent(check_job.parent_pid)
        folder.write_result(check(check_job))
        return 0
    if mode == "trace":
        trace_job = msgspec.json.decode(text, type=TraceJob)
        die_with_parent(trace_job.parent_pid)
        folder.write_result(trace(trace_job))
        return 0
    if mode == "learn":
        from harness.learning.training import learn

        learn_job = msgspec.json.decode(text, type=LearnJob)
        die_with_parent(learn_job.parent_pid)
        try:
            folder.write_result(learn(learn_job, folder))
        except Exception as error:  # noqa: BLE001 - as below
            traceback.print_exc()
            folder.write_result(LearnResult(reason=first_line(error)))
        return 0
    job = msgspec.json.decode(text, type=MeasureJob)
    die_with_parent(job.parent_pid)
    try:
        with _profiled(job.profile):
            result = measure(job, folder)
    except Exception as error:  # noqa: BLE001 - whatever a task or an engine raises is the outcome
        traceback.print_exc()
        result = Measurement(reason=first_line(error))
    folder.write_result(result)
    return 0


# ------------------------------------------------------------------------------------------ measure


def measure(job: MeasureJob, folder: Folder) -> Measurement:
    """Run one cell on one runtime.

    Raises:
        Exception: whatever the workload, the runtime or a task raises.
    """
    graph = _build(job.workload, job.parameters, job.seed)
    runtime = registry.runtimes().get(job.runtime)
    options = msgspec.convert(job.options, runtime.options)
    folder.enter(Phase.STARTING)
    began = perf_counter()
    session = runtime.open(graph, options, folder.scratch)
    startup_s = perf_counter() - began
    with closed_on_error(session):
        measured = _Measured.of(session, graph, job, folder)
        folder.enter(Phase.CLOSING)
        began = perf_counter()
        session.close()
    return Measurement(
        # What a bound computed, or one that computes something else, cannot be compared.
        digest=None if runtime.is_bound or runtime.differs else measured.digest,
        unit=graph.unit,
        units_per_round=graph.units_per_round,
        startup_s=startup_s,
        warmup_s=measured.warmup_s,
        teardown_s=perf_counter() - began,
        notice=notice_of(runtime, options),
        **condense(measured.durations_ns),
        resets=measured.counts["resets"],
        emulator_frames=measured.counts["emulator_frames"],
        updates=measured.counts["updates"],
        pss_bytes=measured.pss_bytes,
        metrics=measured.metrics,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What a living session gave."""

    digest: str
    warmup_s: float
    durations_ns: NDArray[np.int64]
    counts: Mapping[str, int | None]
    pss_bytes: int | None
    metrics: dict[str, float]

    @classmethod
    def of(cls, session: Session, graph: Graph, job: MeasureJob, folder: Folder) -> _Measured:
        """Warm up, measure up to the checkpoint, then fill the time."""
        digest = Digest()
        folder.enter(Phase.WARMING_UP)
        warmup_s = 0.0
        for _ in range(job.warmup_rounds):
            warmup_s += float(session.advance(1).sum()) / 1e9
            digest.add_received(graph, session.received())
        before = summed(session.tallies())
        folder.enter(Phase.MEASURING)
        # What was built so far is not looked at again by the collector while rounds are timed.
        gc.collect()
        gc.freeze()
        metrics = _Metrics()
        metrics.begin(job.metrics)
        durations = _Durations([session.advance(job.rounds)])
        digest.add_received(graph, session.received())
        digest.add(session.tallies())
        durations.fill(session, job.measure_s)
        values = metrics.end()
        after = summed(session.tallies())
        return cls(
            digest=digest.hexdigest(),
            warmup_s=warmup_s,
            durations_ns=np.concatenate(durations.steps),
            counts={name: _difference(after[name], before[name]) for name in after},
            pss_bytes=_pss_bytes(),
            metrics=values,
        )


@dataclass(slots=True)
class _Metrics:
    """Metrics under way. What one of them raises goes to the log, and its value is missing."""

    begun: list[tuple[Metric, Any]] = field(default_factory=list)

    def begin(self, names: Sequence[str]) -> None:
        """Begin those called `names`; all are loaded before the first begins."""
        for metric in [metric for name in names if (metric := _attempt(name, _metric, name)) is not None]:
            state = _attempt(metric.name, _begun, metric)
            if state is not None:
                self.begun.append((metric, *state))

    def end(self) -> dict[str, float]:
        """What they measured; the last one to begin is the first to end."""
        values = {metric.name: _attempt(metric.name, _ended, metric, state) for metric, state in reversed(self.begun)}
        return {name: value for name, value in sorted(values.items()) if value is not None}


Given = TypeVar("Given")


def _attempt(name: str, what: Callable[..., Given], *arguments: Any) -> Given | None:
    """What `what` gives, or None where it raises: the log then says that metric `name` did."""
    try:
        return what(*arguments)
    except Exception:  # noqa: BLE001 - a foreign metric may fail in any way, and the rounds count all the same
        traceback.print_exc()
        sys.stderr.write(f"Metric '{name}' failed; its value is missing.\n")
        return None


def _metric(name: str) -> Metric:
    return registry.metrics().get(name)


def _begun(metric: Metric) -> tuple[Any]:
    """What it hands to its end, which may be None."""
    return (metric.begin(),)


def _ended(metric: Metric, state: Any) -> float:
    """The value of `metric`.

    Raises:
        ValueError: if it is not finite, which JSON has no number for.
    """
    value = float(metric.end(state))
    if not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    return value


@dataclass(slots=True)
class _Durations:
    """Nanoseconds of rounds, one array for each call of `advance`."""

    steps: list[NDArray[np.int64]] = field(default_factory=list)

    def fill(self, session: Session, measure_s: float) -> None:
        """Go on in a few large steps until the rounds' durations add up to `measure_s`."""
        rounds = sum(map(len, self.steps))
        summed_s = sum(float(step.sum()) for step in self.steps) / 1e9
        while summed_s < measure_s and rounds < _MAX_ROUNDS:
            missing = math.ceil((measure_s - summed_s) / max(summed_s / rounds, 1e-9))
            step = session.advance(max(1, min(missing, _GROWTH * rounds, _MAX_ROUNDS - rounds)))
            self.steps.append(step)
            rounds += len(step)
            summed_s += float(step.sum()) / 1e9


def condense(durations_ns: NDArray[np.int64]) -> dict[str, Any]:
    """The fields of a result for `durations_ns`, shape `(rounds,)`: at most `MAX_VALUES` means, in order, in seconds.

    Each value is the mean over `rounds_per_value` rounds; the last may stand for fewer.
    """
    rounds = len(durations_ns)
    per_value = max(1, math.ceil(rounds / MAX_VALUES))
    starts = np.arange(0, rounds, per_value)
    lengths = np.diff(np.append(starts, rounds))
    means_s = np.add.reduceat(durations_ns, starts) / lengths / 1e9
    return {
        "rounds_s": means_s.tolist(),
        "rounds_per_value": per_value,
        "measured_rounds": rounds,
        "measured_s": float(durations_ns.sum()) / 1e9,
        "round_quantiles_s": quantiles_s(durations_ns),
    }


@contextlib.contextmanager
def _profiled(target: str | None) -> Iterator[None]:
    """Have cProfile watch the block, if `target` says where to leave what it finds."""
    if target is None:
        yield
        return
    import cProfile
    import pstats

    profile = cProfile.Profile()
    try:
        with profile:
            yield
    finally:
        profile.dump_stats(f"{target}.pstats")
        with Path(f"{target}.txt").open("w", encoding="utf-8") as file:
            pstats.Stats(profile, stream=file).sort_stats("cumulative").print_stats()


def _difference(after: int | None, before: int | None) -> int | None:
    return None if after is None else after - (before or 0)


def _pss_bytes() -> int | None:
    """The proportional set sizes of this process and its descendants, added up; None where that cannot be read."""
    if sys.platform != "linux":
        return None
    import psutil

    total = 0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.AccessDenied:
            return None
        except psutil.NoSuchProcess:
            continue
    return total


def _build(workload_name: str, parameters: Mapping[str, Any], seed: int) -> Graph:
    workload = registry.workloads().get(workload_name)
    return workload.build(msgspec.convert(parameters, workload.parameters), seed)


# -------------------------------------------------------------------------------------------- check


def check(job: CheckJob) -> CheckResult:
    """Build the graph of every pairing and ask its runtime; stops at the first problem of the input."""
    refusals: list[str | None] = []
    loads: list[Load] = []
    graphs: dict[bytes, Graph | None] = {}
    for pairing in job.pairings:
        try:
            refusal = _refusal(pairing, job.seed, graphs)
            load = Load() if refusal is not None else _load(pairing, graphs[_cell_key(pairing)])
        except ValueError as error:
            return CheckResult(problem=f"Workload '{pairing.workload}': {error}", refusals=refusals, loads=loads)
        refusals.append(refusal)
        loads.append(load)
    return CheckResult(refusals=refusals, loads=loads)


def _load(pairing: Pairing, graph: Graph | None) -> Load:
    """What `pairing` has to do and takes; nothing where its graph could not be built."""
    if graph is None:
        return Load()
    runtime = registry.runtimes().get(pairing.runtime)
    options = msgspec.convert(pairing.options, runtime.options)
    demands = demands_here(graph) if runtime.demands is None else runtime.demands(graph, options)
    return Load(
        units=graph.units_per_round,
        members=sum(node.members for node in graph.tasks),
        value_bytes=value_bytes(graph),
        processes=demands.processes,
        memory_bytes=demands.memory_bytes,
        shared_memory_bytes=demands.shared_memory_bytes,
    )


def _cell_key(pairing: Pairing) -> bytes:
    return msgspec.json.encode([pairing.workload, pairing.parameters], order="sorted")


def _refusal(pairing: Pairing, seed: int, graphs: dict[bytes, Graph | None]) -> str | None:
    """Why `pairing` cannot run here.

    Raises:
        ValueError: if no graph can be built from its parameters.
    """
    workload = registry.workloads().get(pairing.workload)
    runtime = registry.runtimes().get(pairing.runtime)
    for owner, modules in ((f"workload '{workload.name}'", workload.requires), (runtime.name, runtime.requires)):
        missing = registry.missing_module(modules)
        if missing is not None:
            return f"{owner} needs the module '{missing}', which is not installed"
    cell = _cell_key(pairing)
    if cell not in graphs:
        if workload.check is not None:
            workload.check(msgspec.convert(pairing.parameters, workload.parameters))
        graphs[cell] = _built(pairing, seed)
    graph = graphs[cell]
    if graph is None or runtime.refuses is None:
        return None
    return runtime.refuses(graph, msgspec.convert(pairing.options, runtime.options))


def _built(pairing: Pairing, seed: int) -> Graph | None:
    """The graph, or None if building it fails for another reason than its parameters: its invocations will tell."""
    try:
        return _build(pairing.workload, pairing.parameters, seed)
    except ValueError:
        raise
    except Exception:  # noqa: BLE001 - a foreign workload may fail in any way
        traceback.print_exc()
        return None


# -------------------------------------------------------------------------------------------- trace


def trace(job: TraceJob) -> TraceResult:
    """Run a cell on a runtime that can be traced."""
    try:
        refusal = _refusal(job.pairing, job.seed, {})
    except ValueError as error:
        return TraceResult(problem=f"Workload '{job.pairing.workload}': {error}")
    if refusal is not None:
        return TraceResult(problem=f"This cannot run here: {refusal}.")
    runtime = registry.runtimes().get(job.pairing.runtime)
    assert runtime.tracing is not None
    try:
        graph = _build(job.pairing.workload, job.pairing.parameters, job.seed)
        options = msgspec.convert(job.pairing.options, runtime.options)
        recorded = None if job.trace is None else Path(job.trace)
        return TraceResult(summary=runtime.tracing.run(graph, options, job.rounds, Path(job.timeline), recorded))
    except Exception as error:  # noqa: BLE001 - as in `main`
        traceback.print_exc()
        return TraceResult(reason=first_line(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
