"""Carries out the trainings of a plan: all that have no `ok` line yet, each in a process of its own.

As the runner of invocations does it: alone in the folder, the input checked first, one after the other. What was
interrupted goes on from where its program's state was kept last.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from harness.invocation import learn
from harness.job import LearnJob
from harness.learning.records import LearningFile, TrainingRecord
from harness.learning.trainings import (
    UNFINISHED,
    Unfinished,
    key_of,
    pairing_to_train,
    pairings_to_train,
    schedule_trainings,
)
from harness.machine import available_memory, busy_fraction, load_average, machine_facts
from harness.plan import resume_command, select_learning
from harness.process_tree import become_subreaper
from harness.runner import Checked, alone_in, examined, interruptible
from harness.scratch import remove_stale_folders
from harness.wording import in_file_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.job import LearnResult
    from harness.learning.progress import LearningProgress
    from harness.learning.records import Trained
    from harness.learning.trainings import Training
    from harness.plan import Plan
    from harness.records import Outcome

__all__ = ["CHECKPOINT_S", "LearningRunner"]

CHECKPOINT_S = 5.0
"""Seconds between two states that are kept: what an interruption costs at most, beside the evaluations since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRunner:
    """The trainings of `plan` into `folder`, which has been prepared."""

    plan: Plan
    folder: Path
    progress: LearningProgress
    cells: Sequence[str] = ()
    """Patterns of the names of the cells to train; none for all."""
    command: str = "learn"
    """Of `reactorbench`, to type to go on after an interruption."""
    checkpoint_s: float = field(default=CHECKPOINT_S)

    def run(self) -> None:
        """Train all that has no `ok` line; each is on record as soon as it has ended.

        Raises:
            UsageError: if the check finds bad input, or another run measures into the folder; nothing has been
                trained then.
            Interrupted: on Ctrl-C or SIGTERM; the training goes on from its last state another time.
        """
        become_subreaper()
        remove_stale_folders()
        with alone_in(self.folder):
            file = LearningFile(self.folder)
            cut = file.set_aside_cut_line()
            newest = {key_of(trained.record): trained for trained in file.trainings()}
            done = {key for key, trained in newest.items() if trained.record.outcome == "ok"}
            selected = select_learning(self.plan, self.cells)
            due = [one for one in schedule_trainings(self.plan) if one.key not in done and one.cell in selected]
            if cut:
                self.progress.message(cut)
            with self.progress, interruptible(resume_command(self.folder, self.cells, command=self.command)):
                checked = self._checked(due)
                self.progress.begin(due, checked, there=len(done))
                self._train_all(due, checked, file)
        with suppress(OSError):
            (self.folder / UNFINISHED).rmdir()

    def _checked(self, due: Sequence[Training]) -> Checked:
        pairings = pairings_to_train(due)
        if not pairings:
            return Checked()
        log = self.folder / "logs" / "check-learning.log"
        return examined(pairings, self.plan.seed, log, self.progress.checking) or Checked()

    def _train_all(self, due: Sequence[Training], checked: Checked, file: LearningFile) -> None:
        facts = machine_facts()
        (self.folder / UNFINISHED).mkdir(exist_ok=True)
        for training in due:
            machine = {**facts, "load_average": load_average(), "busy_before": busy_fraction()}
            self.progress.started(training, self.folder)
            record = _record(training, machine)
            unfinished = Unfinished.of(training, self.folder.resolve())
            reason = checked.skips(available_memory()).get(training.pairing)
            if reason is not None:
                trained = file.add(_with(record, "skipped", reason=reason), ())
            else:
                trained = self._train(training, record, unfinished, file)
            self.progress.finished(training, trained)

    def _train(self, training: Training, record: TrainingRecord, unfinished: Unfinished, file: LearningFile) -> Trained:
        cell = training.cell
        plain = in_file_names(cell.workload, training.runtime.name)
        log = self.folder / "logs" / f"learning-{training.number:03d}-{plain}-{training.seed}.log"
        job = LearnJob(
            parent_pid=os.getpid(),
            pairing=pairing_to_train(training),
            seed=training.seed,
            every_rounds=cell.every_rounds,
            cap_rounds=cell.cap_rounds,
            episodes=cell.episodes,
            target=cell.target,
            stop_at_target=cell.stop_at_target,
            journal=str(unfinished.journal),
            checkpoint=str(unfinished.checkpoint),
            checkpoint_s=self.checkpoint_s,
        )
        outcome, result = learn(job, log=log, timeout_s=cell.timeout_s, watch=self.progress.phase)
        record = _with(record, outcome, result=result, log=f"{log.parent.name}/{log.name}")
        trained = file.add(record, unfinished.evaluations())
        if outcome != "timeout":
            # One that failed would go on to fail again; one that was too slow only needs more time.
            unfinished.remove()
        return trained


def _with(
    record: TrainingRecord,
    outcome: Outcome,
    *,
    result: LearnResult | None = None,
    reason: str | None = None,
    log: str | None = None,
) -> TrainingRecord:
    """`record` with what became of it."""
    found: dict[str, Any] = {"reason": reason}
    found |= {} if result is None else msgspec.structs.asdict(result)
    return msgspec.structs.replace(record, outcome=outcome, log=log, **found)


def _record(training: Training, machine: Mapping[str, Any]) -> TrainingRecord:
    """What is known of `training` as it begins; `failed` until something better is known."""
    cell, runtime = training.cell, training.runtime
    return TrainingRecord(
        training=0,
        name=cell.name,
        workload=cell.workload,
        parameters=cell.parameters,
        runtime=runtime.name,
        options=runtime.options,
        differs=runtime.differs,
        seed=training.seed,
        every_rounds=cell.every_rounds,
        cap_rounds=cell.cap_rounds,
        episodes=cell.episodes,
        target=cell.target,
        stop_at_target=cell.stop_at_target,
        outcome="failed",
        machine=dict(machine),
        started_at=datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
    )
