"""Records: one JSON object per invocation, appended to `records.jsonl` as soon as it has ended.

The file is the only source of every report. Reading tolerates a last line that was cut in two (the
harness was killed while writing): it is set aside and its invocation counts as not run.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import msgspec

from harness.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["BUSY", "SCHEMA_VERSION", "LineFile", "Measurement", "Outcome", "Record", "RecordFile", "busy_share"]

BUSY = 0.2
"""Of all processors: from here on a report says that other programs ran."""

SCHEMA_VERSION = 2
"""2 added `round_quantiles_s`, `side` and `metrics`. Records of every version are read."""

Outcome = Literal["ok", "failed", "timeout", "skipped"]


def busy_share(machine: dict[str, Any]) -> float:
    """The fraction of all processors that was busy before something began; 0 where its facts do not say."""
    busy = machine.get("busy_before")
    return float(busy) if isinstance(busy, int | float) else 0.0


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """What the child process of an invocation measured. With `reason`, it failed."""

    reason: str | None = None
    """Why the outcome is not `ok`."""
    digest: str | None = None
    """Fingerprint of what was computed up to the checkpoint."""
    unit: str | None = None
    """What one unit of work is."""
    units_per_round: int | None = None
    startup_s: float | None = None
    warmup_s: float | None = None
    """Sum of the durations of the warm-up rounds; None in records of versions that did not keep it."""
    rounds_s: list[float] = []
    """At most 10,000 durations in seconds, in order, each the mean over `rounds_per_value` rounds."""
    rounds_per_value: int = 1
    measured_rounds: int = 0
    """Rounds that were measured: the last value of `rounds_s` may stand for fewer than `rounds_per_value`."""
    measured_s: float = 0.0
    """Sum of the durations of all measured rounds."""
    round_quantiles_s: dict[str, float | None] | None = None
    """`p50`, `p95` and `p99` over every single measured round; None for one that so few rounds cannot tell."""
    resets: int | None = None
    """Episodes that ended in measured rounds."""
    emulator_frames: int | None = None
    """Frames that emulators computed in measured rounds."""
    updates: int | None = None
    """Updates of what is learnt in measured rounds; None where nothing is, and in records of versions without it."""
    teardown_s: float | None = None
    pss_bytes: int | None = None
    """Sum of the proportional set sizes of all processes of the invocation, after the last measured round."""
    notice: str | None = None
    """What a reader must know about this runtime's options (private settings, a missing native part)."""
    metrics: dict[str, float] = {}
    """What the metrics that were asked for measured, by name; one that failed is missing."""


class Record(Measurement, frozen=True, kw_only=True):
    """One invocation: one cell (workload, parameters, runtime, options), run once, in a process of its own."""

    schema_version: int = SCHEMA_VERSION
    workload: str
    parameters: dict[str, Any]
    """All parameters, defaults included."""
    runtime: str
    options: dict[str, Any]
    """All options, defaults included."""
    is_bound: bool = False
    """The runtime is no competitor but a bound on all of them; it has no digest."""
    differs: str | None = None
    """Why the runtime computes something else than the plain loop, where it does; it has no digest."""
    side: str = ""
    """The version of the program that ran, where versions are compared: `base` or `head`."""
    seed: int
    block: int
    outcome: Outcome
    warmup_rounds: int = 0
    rounds: int = 0
    """Measured rounds up to the checkpoint of the digest: the least number, the same for all runtimes."""
    lacked_memory: bool = False
    """It was skipped for want of memory, not since it cannot run."""
    machine: dict[str, Any] = {}
    """Facts about the machine and the software, without host name, user name or path."""
    log: str | None = None
    """File name of the output of the child, below the results folder."""
    started_at: str | None = None
    """When it began: ISO 8601, UTC, whole seconds."""

    @property
    def busy_before(self) -> float:
        """The fraction of all processors that was busy before it began."""
        return busy_share(self.machine)


Line = TypeVar("Line", bound=msgspec.Struct)


class LineFile(Generic[Line]):
    """A file of one JSON object a line, which is only ever appended to."""

    def __init__(self, path: Path, kind: Any, version: int) -> None:
        """Name the file; nothing is read or written yet.

        `kind` is what a line holds, a struct or a union of structs; `version` the newest schema that can be read.
        """
        self.path = path
        self._kind = kind
        self._version = version

    def append(self, *lines: Line) -> None:
        """Write `lines`, one below the other, and have them on disk when this returns."""
        with self.path.open("ab") as file:
            file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Line]:
        """All whole lines, oldest first; an empty list if there is no file.

        Raises:
            UsageError: for a line other than the last that is not what it should be.
        """
        return self._parse()[0]

    def set_aside_cut_line(self) -> str | None:
        """Move a last line that was cut in two into a file beside this, and say so; None if there is none."""
        whole_end = self._parse()[1]
        raw = self.path.read_bytes() if self.path.exists() else b""
        cut = raw[whole_end:]
        if not cut:
            return None
        aside = self.path.with_suffix(".cut")
        with aside.open("ab") as file:
            file.write(cut + b"\n")
        with self.path.open("r+b") as file:
            file.truncate(whole_end)
            os.fsync(file.fileno())
        return f"The last line of {self.path.name} was cut in two ({len(cut)} bytes); it is kept in {aside.name}."

    def _parse(self) -> tuple[list[Line], int]:
        """The lines, and the offset at which the last whole one ends."""
        if not self.path.exists():
            return [], 0
        found: list[Line] = []
        end = 0
        lines = self.path.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            try:
                one: Line = msgspec.json.decode(line, type=self._kind)
            except msgspec.DecodeError as error:
                if number == len(lines) and not line.endswith(b"\n"):
                    break
                raise UsageError(
                    f"Line {number} of {self.path} is not a record: {error}. Move the file away, or take that line out."
                ) from error
            version = getattr(one, "schema_version", self._version)
            if version > self._version:
                raise UsageError(
                    f"Line {number} of {self.path} has schema {version}; this version reads up to "
                    f"{self._version}. Update reactorbench."
                )
            if not line.endswith(b"\n"):
                break
            found.append(one)
            end += len(line)
        return found, end


class RecordFile(LineFile[Record]):
    """The file `records.jsonl` of a results folder."""

    def __init__(self, folder: Path) -> None:
        """Name the file below `folder`; nothing is read or written yet."""
        super().__init__(folder / "records.jsonl", Record, SCHEMA_VERSION)
