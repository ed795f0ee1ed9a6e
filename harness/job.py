"""What the harness and the child process of an invocation tell each other, through files in a folder of their own.

The child reads its job, keeps the name of its phase up to date, and leaves one result. Nothing goes
through standard output: engines print there as they please.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "MAX_VALUES",
    "PROTOCOL",
    "CheckJob",
    "CheckResult",
    "Folder",
    "LearnJob",
    "LearnResult",
    "Load",
    "MeasureJob",
    "Pairing",
    "Phase",
    "TraceJob",
    "TraceResult",
]

PROTOCOL = 2
"""What a job and a result of `measure` and `check` look like, raised when an older child could not do a newer
harness's job, or the other way round. `check` drives children of two versions; a harness drives all from 1 up to its
own. 1 did not say so itself; 2 does, and gives `round_quantiles_s`."""

MAX_VALUES = 10_000
"""Durations that a record holds at most."""


class Phase(StrEnum):
    """What a child does; a timeout says in which it came."""

    STARTING = "starting"
    WARMING_UP = "warming up"
    MEASURING = "measuring"
    TRAINING = "training"
    EVALUATING = "evaluating"
    CLOSING = "closing"


class MeasureJob(msgspec.Struct, frozen=True, kw_only=True):
    """One invocation, as its child process is told."""

    parent_pid: int
    workload: str
    parameters: dict[str, Any]
    runtime: str
    options: dict[str, Any]
    seed: int
    warmup_rounds: int
    rounds: int
    measure_s: float
    profile: str | None = None
    """Where to leave what cProfile finds, a path without its suffix: `.txt` and `.pstats`. Older versions do not."""
    metrics: list[str] = []
    """What else to measure, by name. A child of a version without metrics measures none."""


class Pairing(msgspec.Struct, frozen=True, kw_only=True):
    """A cell on a runtime, as the check before a run is asked about it."""

    workload: str
    parameters: dict[str, Any]
    runtime: str
    options: dict[str, Any]


class CheckJob(msgspec.Struct, frozen=True, kw_only=True):
    """All pairings of a run."""

    parent_pid: int
    seed: int
    pairings: list[Pairing]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How much a pairing has to do and takes, as far as that is known before it runs."""

    units: int = 0
    """Of work, in a round."""
    members: int = 0
    """Tasks that fire in a round."""
    value_bytes: int = 0
    """Of all arrays that a round declares."""
    processes: int = 0
    """That its runtime starts besides its own."""
    memory_bytes: int = 0
    """That all its processes together take at most."""
    shared_memory_bytes: int = 0
    """Of them in `/dev/shm`, which may be smaller than the memory."""


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the check found."""

    problem: str | None = None
    """Bad input: why a graph cannot be built. The run does not begin."""
    refusals: list[str | None] = []
    """For each pairing why it cannot run here, or None. Shorter than the pairings after a problem."""
    loads: list[Load] = []
    """Of each pairing; as many as there are refusals."""


class LearnJob(msgspec.Struct, frozen=True, kw_only=True):
    """One training."""

    parent_pid: int
    pairing: Pairing
    seed: int
    every_rounds: int
    cap_rounds: int
    episodes: int
    target: float | None
    stop_at_target: bool
    journal: str
    """Where evaluations go as they are made; absolute, as is `checkpoint`."""
    checkpoint: str
    """Where the program's state is kept, and where one may lie to go on from."""
    checkpoint_s: float
    """Seconds between two states at least."""


class LearnResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it, beside the evaluations. With `reason`, it failed."""

    reason: str | None = None
    unit: str | None = None
    units_per_round: int | None = None
    startup_s: float | None = None
    resumed_at: int = 0
    """The round from which it went on; 0 where it began anew."""
    notice: str | None = None


class TraceJob(msgspec.Struct, frozen=True, kw_only=True):
    """One run with a timeline."""

    parent_pid: int
    pairing: Pairing
    seed: int
    rounds: int
    timeline: str
    """Where the timeline goes; absolute, as is `trace`."""
    trace: str | None


class TraceResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it; one of the three is there."""

    summary: str | None = None
    """For people."""
    problem: str | None = None
    """Bad input: why nothing ran."""
    reason: str | None = None
    """Why it failed."""


class Folder:
    """The folder that harness and child share; short, since engines keep sockets below it."""

    def __init__(self, path: Path) -> None:
        """Name the files below `path`."""
        self.path = path
        self.job = path / "job.json"
        self.result = path / "result.json"
        self.phase_file = path / "phase"
        self.scratch = path / "s"
        """Empty at first, the working directory of the child, and what runtimes are given."""

    def phase(self) -> Phase:
        """What the child does now."""
        text = self.phase_file.read_text(encoding="ascii") if self.phase_file.exists() else ""
        return Phase(text) if text else Phase.STARTING

    def enter(self, phase: Phase) -> None:
        """Say what the child does from now on."""
        partial = self.phase_file.with_suffix(".part")
        partial.write_text(phase, encoding="ascii")
        partial.replace(self.phase_file)

    def write_result(self, result: msgspec.Struct) -> None:
        """Leave the result, whole or not at all."""
        partial = self.result.with_suffix(".part")
        partial.write_bytes(msgspec.json.encode(result))
        partial.replace(self.result)
