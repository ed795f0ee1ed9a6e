"""Carries out a plan: prepares the results folder, checks the input, runs what has no `ok` record yet."""

from __future__ import annotations

import signal
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.errors import Interrupted, UsageError
from harness.invocation import check_pairings, measure, skipped_record
from harness.job import Load, Pairing
from harness.learning.records import LearningFile
from harness.learning.trainings import pairings_to_train, schedule_trainings, unfinished_in
from harness.machine import Memory, available_memory, busy_fraction, load_average, machine_facts
from harness.plan import key_of, resume_command, schedule, select_cells
from harness.process_tree import become_subreaper
from harness.records import RecordFile
from harness.scratch import remove_stale_folders, temporary_folder
from harness.wording import in_bytes, in_file_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from harness.plan import Invocation, Key, PairingKey, Plan
    from harness.progress import Progress
    from harness.records import Record
    from harness.versions import Version

__all__ = ["Checked", "Runner", "alone_in", "check_plan", "examined", "interruptible", "prepare_folder"]


def prepare_folder(folder: Path, *, resume: bool) -> None:
    """Make `folder` and make sure that it can be written, and holds nothing of a run that is not to go on.

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
    has_begun = RecordFile(folder).read() or LearningFile(folder).read() or unfinished_in(folder)
    if not resume and has_begun:
        raise UsageError(
            f"The results folder {folder} already has records. Add --resume to go on with that run, "
            "or choose another with --out."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What the check before a run found out."""

    refusals: Mapping[PairingKey, str] = field(default_factory=dict)
    """Why pairings of cell and runtime cannot run here."""
    loads: Mapping[PairingKey, Load] = field(default_factory=dict)
    """How much the pairings have to do, and take."""

    def skips(self, available: Memory) -> dict[PairingKey, str]:
        """Why pairings would be skipped with `available` memory: refused, or too large."""
        too_large = {key: reason for key, load in self.loads.items() if (reason := _too_large(load, available))}
        return too_large | dict(self.refusals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A run of `plan` into `folder`, which has been prepared."""

    plan: Plan
    folder: Path
    progress: Progress
    cells: Sequence[str] = ()
    """Patterns of the names of the cells to run; none for all."""
    versions: Mapping[str, Version] = field(default_factory=dict)
    """Of each side of the plan the version that runs it."""
    resume: str | None = None
    """What to type to go on after an interruption; `reactorbench run --resume ...` if None."""
    holds_folder: bool = False
    """Whether the caller is `alone_in` the folder already."""

    def run(self, chosen: Callable[[Invocation], bool] = lambda _invocation: True) -> None:
        """Run everything `chosen` that has no `ok` record, recording each invocation as soon as it has ended.

        Raises:
            UsageError: if the check finds bad input, or another run measures into the folder; nothing has been
                measured then.
            Interrupted: on Ctrl-C or SIGTERM; the invocation that ran has been ended and has no record.
        """
        become_subreaper()
        remove_stale_folders()
        with nullcontext() if self.holds_folder else alone_in(self.folder):
            self._run(chosen)

    def _run(self, chosen: Callable[[Invocation], bool]) -> None:
        file = RecordFile(self.folder)
        cut = file.set_aside_cut_line()
        records = file.read()
        done = _done(records, self.plan.sides)
        selected = select_cells(self.plan, self.cells)
        due = [i for i in schedule(self.plan) if i.key not in done and i.cell in selected and chosen(i)]
        if cut:
            self.progress.message(f"{cut} Its invocation runs again." if due else cut)
        with self.progress, interruptible(self.resume or resume_command(self.folder, self.cells)):
            checked = self._checked(due)
            self.progress.begin(records, due, next(reversed(checked.values()), Checked()))
            self._run_all(due, checked, file)

    def _run_all(self, due: list[Invocation], checked: Mapping[str, Checked], file: RecordFile) -> None:
        facts = machine_facts()
        for invocation in due:
            # Nothing of ours runs now: who is busy is somebody else.
            version = self.versions.get(invocation.side)
            own = {} if version is None else version.machine_facts()
            machine = {**facts, **own, "load_average": load_average(), "busy_before": busy_fraction()}
            self.progress.started(invocation)
            # Looked at anew each time: what is available changes.
            found = checked[invocation.side]
            reason = found.skips(available_memory()).get(invocation.pairing)
            if reason is not None:
                lacked_memory = invocation.pairing not in found.refusals
                record = skipped_record(invocation, reason, machine=machine, lacked_memory=lacked_memory)
            else:
                record = self._measure(invocation, machine)
            file.append(record)
            self.progress.finished(invocation, record)

    def _measure(self, invocation: Invocation, machine: dict[str, Any]) -> Record:
        log = self.folder / "logs" / _log_name(invocation)
        return measure(
            invocation,
            log=log,
            timeout_s=self.plan.timeout_s,
            machine=machine,
            watch=self.progress.phase,
            version=self.versions.get(invocation.side),
        )

    def _checked(self, due: list[Invocation]) -> dict[str, Checked]:
        """What pairings of cell and runtime can run here and take, by side, asked of throw-away child processes.

        Raises:
            UsageError: if it finds bad input.
        """
        sides = [side for side in self.plan.sides or ("",) if any(invocation.side == side for invocation in due)]
        return {side: self._checked_side(side, [i for i in due if i.side == side]) for side in sides}

    def _checked_side(self, side: str, due: list[Invocation]) -> Checked:
        log, seed, watch = self.folder / "logs" / "check.log", self.plan.seed, self.progress.checking
        version = self.versions.get(side)
        lacking = {i.pairing: why for i in due if version is not None and (why := version.lacks(i)) is not None}
        able = [invocation for invocation in due if invocation.pairing not in lacking]
        # The last side is the one whose program reads the input: what it calls bad is bad. Others may be older.
        is_lenient = side in self.plan.sides[:-1]
        try:
            checked = _check(able, seed, log, watch, version) if able else Checked()
        except UsageError:
            if not is_lenient:
                raise
            checked = None
        if checked is None and is_lenient:
            checked = _check_each(able, seed, log, watch, version)
        if checked is None:
            self.progress.message(f"The check before the run died; {log} says how. The invocations will tell.")
            checked = Checked()
        return replace(checked, refusals={**checked.refusals, **lacking})


def _check_each(
    invocations: Sequence[Invocation],
    seed: int,
    log: Path,
    watch: Callable[[str, float], None],
    version: Version | None,
) -> Checked:
    """What the check finds of each pairing alone; one that it calls bad input, or dies over, is refused."""
    refusals: dict[PairingKey, str] = {}
    loads: dict[PairingKey, Load] = {}
    for pairing, invocation in {invocation.pairing: invocation for invocation in invocations}.items():
        try:
            found = _check([invocation], seed, log, watch, version)
        except UsageError as error:
            refusals[pairing] = f"this version refuses the cell: {error}"
            continue
        if found is None:
            refusals[pairing] = f"this version dies over the cell; {log.parent.name}/{log.name} says how"
        else:
            refusals |= found.refusals
            loads |= found.loads
    return Checked(refusals=refusals, loads=loads)


def check_plan(plan: Plan) -> Checked:
    """Check the input of `plan` as a run of it would, and leave nothing behind.

    Raises:
        UsageError: if it finds bad input.
    """
    pairings = _pairings(schedule(plan)) | pairings_to_train(schedule_trainings(plan))
    with temporary_folder() as folder:
        checked = examined(pairings, plan.seed, folder / "check.log", lambda _phase, _elapsed_s: None)
    return checked or Checked()


def _check(
    invocations: Sequence[Invocation],
    seed: int,
    log: Path,
    watch: Callable[[str, float], None],
    version: Version | None = None,
) -> Checked | None:
    """What the check finds; None if the child that was asked died, as `log` then says.

    Raises:
        UsageError: if it finds bad input.
    """
    pairings = _pairings(invocations, version)
    return examined(pairings, seed, log, watch, None if version is None else version.interpreter)


def _pairings(invocations: Sequence[Invocation], version: Version | None = None) -> dict[PairingKey, Pairing]:
    """What the check is asked about `invocations`."""
    return {
        invocation.pairing: Pairing(
            workload=invocation.cell.workload,
            parameters=invocation.cell.parameters if version is None else version.parameters(invocation),
            runtime=invocation.runtime.name,
            options=invocation.runtime.options if version is None else version.options(invocation),
        )
        for invocation in invocations
    }


def examined(
    pairings: Mapping[PairingKey, Pairing],
    seed: int,
    log: Path,
    watch: Callable[[str, float], None],
    interpreter: str | None = None,
) -> Checked | None:
    """What a throw-away child process, run by `interpreter` if not by this one, finds out about `pairings`.

    None if it died, as `log` then says.

    Raises:
        UsageError: if it finds bad input.
    """
    result = check_pairings(list(pairings.values()), seed=seed, log=log, watch=watch, interpreter=interpreter)
    if result is None:
        return None
    if result.problem is not None:
        raise UsageError(result.problem)
    found = zip(pairings, result.refusals, strict=True)
    return Checked(
        refusals={key: refusal for key, refusal in found if refusal is not None},
        loads=dict(zip(pairings, result.loads, strict=True)),
    )


def _too_large(load: Load, available: Memory) -> str | None:
    """Why an invocation with this load does not fit into `available` memory, or None if it does."""
    if load.memory_bytes > available.nbytes:
        return (
            f"it may take {in_bytes(load.memory_bytes)} of memory, and {in_bytes(max(available.nbytes, 0))} are "
            "available; free some, or choose smaller parameters"
        )
    if available.shared_nbytes is not None and load.shared_memory_bytes > available.shared_nbytes:
        return (
            f"it needs {in_bytes(load.shared_memory_bytes)} of shared memory, and /dev/shm has "
            f"{in_bytes(available.shared_nbytes)} free; make it larger (in a container: --shm-size)"
        )
    return None


def _done(records: list[Record], sides: Sequence[str]) -> set[Key]:
    """The keys whose newest record is `ok`; where `sides` are compared, those of all of a pair.

    A side that ran again alone, on another day say, would not have taken turns with the other.
    """
    newest = {key_of(record): record for record in records}
    ok = {key for key, record in newest.items() if record.outcome == "ok"}
    return {key for key in ok if all((*key[:4], side, *key[5:]) in ok for side in sides)}


def _log_name(invocation: Invocation) -> str:
    """`007-simulation-ray-packed-1.log`."""
    plain = in_file_names(invocation.cell.workload, invocation.runtime.name)
    side = f"-{invocation.side}" if invocation.side else ""
    return f"{invocation.number:03d}-{plain}-{invocation.block}{side}.log"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of `folder`; the system lets go of it when the process ends, however it does.

    Raises:
        UsageError: if another run is in it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "logs" / ".lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"Another run measures into {folder}. Wait until it has ended, or choose another folder with --out."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def interruptible(resume: str) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into `Interrupted`; later ones do not disturb the cleaning up.

    `resume` is what to type to go on.

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
        raise Interrupted(f"Interrupted; what was measured is kept. Go on with: {resume}") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
