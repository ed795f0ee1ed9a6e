"""The noise between separate runs of the same thing, and the margin that comparisons of finished runs get from it.

A run has a state of its own: where its files lie in memory, what the machine is busy with, how fast its clock is that
day. The intervals of a comparison are made of what varies inside two runs and know nothing of that. Here it is
measured: the same version in several sessions, each a whole run, and how far these lie apart.
"""

from __future__ import annotations

import math
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from harness.errors import UsageError
from harness.regression.judging import INTERLEAVED
from harness.regression.pairs import rounds_of, time_of_rounds
from harness.statistics import LEAST_FOR_INTERVAL, hodges_lehmann
from harness.wording import compact_json, indented_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.plan import PairingKey
    from harness.records import Record
    from harness.regression.judged import Samples
    from harness.regression.pairs import Sample

__all__ = ["ENOUGH_SESSIONS", "NOT_INTERLEAVED", "CellNoise", "Noise", "NoiseFile", "noise_between", "percent"]

NOT_INTERLEAVED = 0.10
"""The margin for sides that did not take turns, where too little is known of the noise between runs."""

ENOUGH_SESSIONS = 4
"""From here on the noise that was found may make the margin smaller than that.

Two runs differ by the square root of two times the noise between runs, and 4.4 times the noise is 3.1 times that: the
97.5 % quantile of Student's t is as small as that from four sessions on (3.18 with 3 degrees of freedom).
"""

_NOISES_IN_MARGIN = 4.4
_MOST = 0.95
"""The margin of a cell that says nothing whatever comes out: a margin is less than 1."""


class CellNoise(msgspec.Struct, frozen=True, kw_only=True):
    """How far the sessions lay apart on one cell and runtime."""

    workload: str
    parameters: dict[str, Any]
    runtime: str
    options: dict[str, Any]
    is_bound: bool = False
    differs: str | None = None
    seeds: int
    """Invocations of each session that it comes from: those that every session has."""
    sessions: int
    degrees_of_freedom: int
    noise: Annotated[float, msgspec.Meta(ge=0)]
    """Standard deviation between sessions of the logarithm of the time."""
    margin: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    """What `compare --noise` will judge by, as a fraction."""

    @property
    def pairing(self) -> PairingKey:
        """Its cell and runtime."""
        return self.workload, compact_json(self.parameters), self.runtime, compact_json(self.options)


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """What `aa --sessions` found out about a machine."""

    schema_version: int = 1
    suite: str
    sessions: Annotated[int, msgspec.Meta(ge=2)]
    enough: int = ENOUGH_SESSIONS
    fingerprint: dict[str, Any] | None = None
    """Of the machine."""
    began_at: list[str | None] = []
    """When each session began: ISO 8601, UTC."""
    cells: list[CellNoise]


class NoiseFile:
    """The file `noise.json` of a folder that `aa --sessions` measured into."""

    def __init__(self, folder: Path) -> None:
        """Name the file below `folder`."""
        self.path = folder / "noise.json"

    def write(self, noise: Noise) -> None:
        """Store `noise`."""
        self.path.write_bytes(indented_json(noise))

    def read(self) -> Noise:
        """The stored one.

        Raises:
            UsageError: if there is none, or it cannot be read.
        """
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=Noise)
        except OSError as error:
            raise UsageError(
                f"There is no noise in {self.path.parent}: {self.path.name} cannot be read ({error.strerror}). Measure "
                f"it first: reactorbench aa --sessions {ENOUGH_SESSIONS} --out {self.path.parent}"
            ) from error
        except msgspec.DecodeError as error:
            raise UsageError(f"{self.path} is not the noise of a machine: {error}. Measure it anew.") from error
        if found.schema_version != 1:
            raise UsageError(f"{self.path} has schema {found.schema_version}; this version reads 1. Measure it anew.")
        return found


def noise_between(sessions: Sequence[Samples]) -> list[CellNoise]:
    """The noise of every cell and runtime that at least two `sessions` measured, over the seeds common to them.

    The logarithm of the time of a seed, over the rounds that it did in every session, is taken against its mean over
    the sessions; a session lies where the Hodges-Lehmann estimate of these is. What is called noise is the standard
    deviation of that over sessions. It has in it what the invocations of a session vary by themselves, divided by the
    square root of their number, so it errs on the side of too much.
    """
    pairings = dict.fromkeys(pairing for session in sessions for pairing in session)
    found = (_of_cell([session[pairing] for session in sessions if pairing in session]) for pairing in pairings)
    return [cell for cell in found if cell is not None]


def margin_of(noise: float, sessions: int) -> float:
    """4.4 times `noise`, as a fraction; from few sessions never less than if it were unknown.

    Nor is it ever less than what sides that took turns are judged by.
    """
    least = INTERLEAVED.same if sessions >= ENOUGH_SESSIONS else NOT_INTERLEAVED
    return min(max(math.expm1(_NOISES_IN_MARGIN * noise), least), _MOST)


def percent(fraction: float) -> str:
    """`6.2 %`, `0.34 %`, `12 %`."""
    number = fraction * 100
    # Two digits of a hundred would be written as a power of ten.
    return f"{number:.2g} %" if abs(number) < 99.5 else f"{number:.0f} %"  # noqa: PLR2004


def _of_cell(sessions: Sequence[Mapping[int, Sample]]) -> CellNoise | None:
    """The noise of one cell, or None where no two sessions have enough seeds in common."""
    ok = [{seed: s.record for seed, s in session.items() if s.record.outcome == "ok"} for session in sessions]
    # A session in which the cell failed must not take away the seeds of all others.
    ok = [records for records in ok if len(records) >= LEAST_FOR_INTERVAL]
    seeds = sorted(set.intersection(*map(set, ok))) if len(ok) > 1 else []
    logs = [times for seed in seeds if (times := _log_times([records[seed] for records in ok])) is not None]
    if len(logs) < LEAST_FOR_INTERVAL:
        return None
    centred = [[value - fmean(of_seed) for value in of_seed] for of_seed in logs]
    places = [hodges_lehmann(of_session) for of_session in zip(*centred, strict=True)]
    noise = stdev(places)
    record = ok[0][seeds[0]]
    return CellNoise(
        workload=record.workload,
        parameters=record.parameters,
        runtime=record.runtime,
        options=record.options,
        is_bound=record.is_bound,
        differs=record.differs,
        seeds=len(logs),
        sessions=len(ok),
        degrees_of_freedom=len(ok) - 1,
        noise=noise,
        margin=margin_of(noise, len(ok)),
    )


def _log_times(records: Iterable[Record]) -> list[float] | None:
    """The logarithms of the times of `records` over their common rounds; None where one took none."""
    records = list(records)
    rounds = min(map(rounds_of, records))
    times_s = [time_of_rounds(record, rounds) for record in records]
    return [math.log(time_s) for time_s in times_s] if min(times_s) > 0 else None
