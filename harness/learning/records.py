"""What is kept of trainings: `learning.jsonl`, a line for every evaluation, and after them one for their training.

As with `records.jsonl`, the file is the only source of every report. A training whose own line is missing has not
been finished: its evaluations do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from harness.records import LineFile, Outcome, busy_share

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["MOST_RETURNS", "SCHEMA_VERSION", "Evaluation", "LearningFile", "Trained", "TrainingRecord"]

SCHEMA_VERSION = 1

MOST_RETURNS = 1000
"""Returns that an evaluation keeps; of more episodes there is the mean alone."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="evaluation"):
    """What had been learnt after some rounds, as so many whole episodes show it."""

    training: int = 0
    """The number of its training in the file."""
    round: int
    """Rounds of training before it."""
    units: int
    """Of work, in these rounds."""
    updates: int | None
    """Of what is learnt, in these rounds; None where no task counts them."""
    wall_s: float
    """Seconds of these rounds alone: neither starts nor evaluations."""
    episodes: int
    mean_return: float
    """Undiscounted, as all returns here."""
    returns: list[float]
    """Of each episode, in order; empty for more than 1,000."""
    digest: str | None
    """Fingerprint of all tallies, what has been learnt among them; None where the runtime computes something else."""


class TrainingRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="training"):
    """One training: one cell on one runtime with one seed."""

    schema_version: int = SCHEMA_VERSION
    training: int
    """Its number in the file, from 1."""
    name: str
    """How the suite calls the cell; may be empty."""
    workload: str
    parameters: dict[str, Any]
    """All parameters, defaults included."""
    runtime: str
    options: dict[str, Any]
    """All options, defaults included."""
    differs: str | None
    """Why the runtime computes something else than the plain loop, where it does."""
    seed: int
    every_rounds: int
    cap_rounds: int
    episodes: int
    target: float | None
    stop_at_target: bool
    outcome: Outcome
    reason: str | None = None
    """Why the outcome is not `ok`."""
    unit: str | None = None
    units_per_round: int | None = None
    startup_s: float | None = None
    """Of the last start, where it was interrupted."""
    resumed_at: int = 0
    """The round at which it went on after its last interruption; 0 where it ran from the beginning."""
    notice: str | None = None
    """What a reader must know about this runtime's options."""
    machine: dict[str, Any] = {}
    log: str | None = None
    started_at: str | None = None
    """When it began, or went on after an interruption: ISO 8601, UTC, whole seconds."""

    @property
    def busy_before(self) -> float:
        """As of a `Record`."""
        return busy_share(self.machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A training with its evaluations, in order of rounds."""

    record: TrainingRecord
    evaluations: tuple[Evaluation, ...]

    @property
    def first_pass(self) -> Evaluation | None:
        """The first evaluation that reached the target; None if none did, or there is none.

        That before the first round does not count: nothing had been learnt then.
        """
        target = self.record.target
        if target is None:
            return None
        return next((one for one in self.evaluations if one.round > 0 and one.mean_return >= target), None)


class LearningFile(LineFile[Evaluation | TrainingRecord]):
    """The file `learning.jsonl` of a results folder."""

    def __init__(self, folder: Path) -> None:
        """Name the file below `folder`; nothing is read or written yet."""
        super().__init__(folder / "learning.jsonl", Evaluation | TrainingRecord, SCHEMA_VERSION)

    def trainings(self) -> list[Trained]:
        """All finished trainings, oldest first.

        Raises:
            UsageError: as `read`.
        """
        evaluations: dict[int, list[Evaluation]] = {}
        found = []
        for line in self.read():
            if isinstance(line, Evaluation):
                evaluations.setdefault(line.training, []).append(line)
            else:
                found.append(Trained(record=line, evaluations=tuple(evaluations.pop(line.training, ()))))
        return found

    def add(self, record: TrainingRecord, evaluations: Sequence[Evaluation]) -> Trained:
        """Append a finished training, whatever became of it, under the next number; its own line last."""
        number = 1 + max((line.training for line in self.read()), default=0)
        record = msgspec.structs.replace(record, training=number)
        numbered = tuple(msgspec.structs.replace(one, training=number) for one in evaluations)
        self.append(*numbered, record)
        return Trained(record=record, evaluations=numbered)
