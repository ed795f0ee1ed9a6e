"""All trainings of a plan in their order, and the files with which an interrupted one goes on."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from harness.job import Pairing
from harness.learning.records import Evaluation
from harness.plan import Cell, Invocation, LearningCell, RuntimeChoice, mirrored, pairing_of, pairing_with
from harness.records import LineFile
from harness.wording import compact_json, in_file_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.learning.records import TrainingRecord
    from harness.plan import PairingKey, Plan

__all__ = [
    "UNFINISHED",
    "Key",
    "Training",
    "Unfinished",
    "key_of",
    "pairing_to_train",
    "pairings_to_train",
    "schedule_trainings",
    "unfinished_in",
]

UNFINISHED = "unfinished"
"""Folder below the results folder, there while a training goes on or was interrupted."""

Key = tuple[str, str, str, str, int]
"""What tells trainings of one results folder apart: workload, parameters, runtime, options, seed."""


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """One cell on one runtime with one seed."""

    number: int
    """Position in the run, from 1."""
    cell: LearningCell
    runtime: RuntimeChoice
    seed: int

    @property
    def pairing(self) -> PairingKey:
        """Its cell and runtime."""
        return pairing_with(self.cell, self.runtime)

    @property
    def at_most(self) -> Invocation:
        """An invocation that takes as long as it does if it never stops at its target; without evaluations."""
        cell = self.cell
        same = Cell(
            workload=cell.workload,
            parameters=cell.parameters,
            runtimes=cell.runtimes,
            warmup_rounds=0,
            rounds=cell.cap_rounds,
            measure_s=0.0,
            name=cell.name,
            round_s=cell.round_s,
        )
        return Invocation(number=self.number, cell=same, runtime=self.runtime, block=0, seed=self.seed)

    @property
    def key(self) -> Key:
        """What tells it apart."""
        return *self.pairing, self.seed


def key_of(record: TrainingRecord) -> Key:
    """The key of the training that `record` came from."""
    return *pairing_of(record), record.seed


def schedule_trainings(plan: Plan) -> list[Training]:
    """All trainings in order: of each cell two seeds, the second a mirror image of the first, then two more."""
    order = mirrored([(cell, cell.seeds, cell.runtimes) for cell in plan.learning], f"learning {plan.seed}")
    return [
        Training(number=number, cell=cell, runtime=runtime, seed=plan.seed + block)
        for number, (cell, runtime, block) in enumerate(order, start=1)
    ]


def pairings_to_train(trainings: Sequence[Training]) -> dict[PairingKey, Pairing]:
    """What the check before `trainings` is asked."""
    return {one.pairing: pairing_to_train(one) for one in trainings}


def pairing_to_train(training: Training) -> Pairing:
    """Its cell and runtime, as a child process is told."""
    return Pairing(
        workload=training.cell.workload,
        parameters=training.cell.parameters,
        runtime=training.runtime.name,
        options=training.runtime.options,
    )


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The files of a training that goes on: evaluations as they are made, and where the program stood lately."""

    journal: Path
    """A line for every evaluation."""
    checkpoint: Path
    """A `State`; not of every evaluation."""

    @classmethod
    def of(cls, training: Training, folder: Path) -> Unfinished:
        """Those of `training` below the results folder `folder`, which is absolute."""
        plain = in_file_names(training.cell.workload, training.runtime.name)
        spelt = sha256(compact_json(training.key).encode()).hexdigest()[:12]
        stem = f"{plain}-{training.seed}-{spelt}"
        return cls(folder / UNFINISHED / f"{stem}.jsonl", folder / UNFINISHED / f"{stem}.state")

    def evaluations(self) -> Sequence[Evaluation]:
        """All that were made."""
        return _file(self.journal).read()

    def add(self, evaluation: Evaluation) -> None:
        """Take note of one more."""
        _file(self.journal).append(evaluation)

    def keep_until(self, round_number: int) -> list[Evaluation]:
        """Forget the evaluations after `round_number`, which will be made again; those that are left."""
        kept = [one for one in self.evaluations() if one.round <= round_number]
        self.journal.unlink(missing_ok=True)
        if kept:
            _file(self.journal).append(*kept)
        return kept

    def remove(self) -> None:
        """Leave nothing of it."""
        self.journal.unlink(missing_ok=True)
        self.checkpoint.unlink(missing_ok=True)


def unfinished_in(folder: Path) -> bool:
    """Whether the results folder has something of a training that was interrupted."""
    return any((folder / UNFINISHED).glob("*"))


def _file(journal: Path) -> LineFile[Evaluation]:
    return LineFile(journal, Evaluation, 0)
