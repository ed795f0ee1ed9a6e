"""Carries out a plan: prepares the results folder, checks the input, runs what has no `ok` record yet."""

from __future__ import annotations

import re
import signal
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Interrupted, UsageError
from harness.invocation import check_pairings, measure, skipped_record
from harness.job import Pairing
from harness.machine import busy_fraction, load_average, machine_facts
from harness.plan import key_of, resume_command, schedule
from harness.process_tree import become_subreaper
from harness.records import RecordFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness.plan import Invocation, Key, Plan
    from harness.progress import Progress
    from harness.records import Record

__all__ = ["Runner", "check_plan", "prepare_folder"]

PairingKey = tuple[str, str, str, str]
"""A cell on a runtime: workload, parameters, runtime, options."""


def prepare_folder(folder: Path, *, resume: bool) -> None:
    """Make `folder` and make sure that it can be written, and holds no records of a run that is not to go on.

    Raises:
        UsageError: if it cannot be made or written, or has records and `resume` is false.
    """
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder), tempfile.TemporaryFile(dir=folder / "logs"):
            pass
    except OSError as error:
        raise UsageError(
            f"The results folder {folder} cannot be written: {error.strerror or error}. Choose another with --out."
        ) from error
    if not resume and RecordFile(folder).read():
        raise UsageError(
            f"The results folder {folder} already has records. Add --resume to go on with that run, "
            "or choose another with --out."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A run of `plan` into `folder`, which has been prepared."""

    plan: Plan
    folder: Path
    progress: Progress

    def run(self) -> None:
        """Run everything that has no `ok` record, recording each invocation as soon as it has ended.

        Raises:
            UsageError: if the check finds bad input; nothing has been measured then.
            Interrupted: on Ctrl-C or SIGTERM; the invocation that ran has been ended and has no record.
        """
        become_subreaper()
        file = RecordFile(self.folder)
        cut = file.set_aside_cut_line()
        records = file.read()
        done = _done(records)
        due = [invocation for invocation in schedule(self.plan) if invocation.key not in done]
        if cut:
            self.progress.message(f"{cut} Its invocation runs again." if due else cut)
        with self.progress, _interruptible(self.folder):
            refusals = self._refusals(due) if due else {}
            self.progress.begin(records, due)
            self._run_all(due, refusals, file)

    def _run_all(self, due: list[Invocation], refusals: Mapping[PairingKey, str], file: RecordFile) -> None:
        facts = machine_facts()
        for invocation in due:
            # Nothing of ours runs now: who is busy is somebody else.
            machine = facts | {"load_average": load_average(), "busy_before": busy_fraction()}
            self.progress.started(invocation)
            refusal = refusals.get(_pairing_key(invocation))
            if refusal is not None:
                record = skipped_record(invocation, refusal, machine=machine)
            else:
                record = self._measure(invocation, machine)
            file.append(record)
            self.progress.finished(invocation, record)

    def _measure(self, invocation: Invocation, machine: dict[str, Any]) -> Record:
        log = self.folder / "logs" / _log_name(invocation)
        return measure(invocation, log=log, timeout_s=self.plan.timeout_s, machine=machine, watch=self.progress.phase)

    def _refusals(self, due: list[Invocation]) -> dict[PairingKey, str]:
        """Why pairings of cell and runtime cannot run here, asked of a throw-away child process.

        Raises:
            UsageError: if it finds bad input.
        """
        log = self.folder / "logs" / "check.log"
        refusals = _check(due, self.plan.seed, log, self.progress.checking)
        if refusals is None:
            self.progress.message(f"The check before the run died; {log} says how. The invocations will tell.")
        return refusals or {}


def check_plan(plan: Plan) -> None:
    """Check the input of `plan` as a run of it would, and leave nothing behind.

    Raises:
        UsageError: if it finds bad input.
    """
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        _check(schedule(plan), plan.seed, Path(folder, "check.log"), lambda _phase, _elapsed_s: None)


def _check(
    invocations: Sequence[Invocation], seed: int, log: Path, watch: Callable[[str, float], None]
) -> dict[PairingKey, str] | None:
    """Why pairings of cell and runtime cannot run here; None if the child that was asked died, as `log` then says.

    Raises:
        UsageError: if it finds bad input.
    """
    pairings = {
        _pairing_key(invocation): Pairing(
            workload=invocation.cell.workload,
            parameters=invocation.cell.parameters,
            runtime=invocation.runtime.name,
            options=invocation.runtime.options,
        )
        for invocation in invocations
    }
    result = check_pairings(list(pairings.values()), seed=seed, log=log, watch=watch)
    if result is None:
        return None
    if result.problem is not None:
        raise UsageError(result.problem)
    found = zip(pairings, result.refusals, strict=True)
    return {key: refusal for key, refusal in found if refusal is not None}


def _done(records: list[Record]) -> set[Key]:
    """The keys whose newest record is `ok`."""
    newest = {key_of(record): record for record in records}
    return {key for key, record in newest.items() if record.outcome == "ok"}


def _pairing_key(invocation: Invocation) -> PairingKey:
    return invocation.key[:4]


def _log_name(invocation: Invocation) -> str:
    """`007-simulation-ray-packed-1.log`, with nothing in it that a file name had better not have."""
    names = (invocation.cell.workload, invocation.runtime.name)
    plain = "-".join(re.sub(r"[^A-Za-z0-9_-]+", "_", name) for name in names)
    return f"{invocation.number:03d}-{plain[:100]}-{invocation.block}.log"


@contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into `Interrupted`; later ones do not disturb the cleaning up.

    Raises:
        Interrupted: with how to go on.
    """
    was_asked = False

    def ask(_number: int, _frame: Any) -> None:
        nonlocal was_asked
        if not was_asked:
            was_asked = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"Interrupted; what was measured is kept. Go on with: {resume_command(folder)}") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
