"""`aa --sessions`: the same version in several separate runs, and how far these lie apart.

Each session is a results folder like that of a run, `session-01` and so on. More can be added on another day, which is
when the machine differs most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.fingerprint import differences, fingerprint
from harness.plan import PlanFile, planned_pairings
from harness.records import RecordFile
from harness.regression.compare import finished_run
from harness.regression.noise import ENOUGH_SESSIONS, Noise, NoiseFile, noise_between, percent
from harness.runner import Runner, prepare_folder
from harness.statistics import LEAST_FOR_INTERVAL
from harness.wording import Labels, plural

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

    from harness.plan import Invocation, Plan
    from harness.progress import Progress
    from harness.versions import Version

__all__ = ["LEAST_SESSIONS", "Sessions", "print_noise", "session_folders", "without_noise"]

LEAST_SESSIONS = 2


def session_folders(folder: Path) -> list[Path]:
    """The sessions that `folder` has, oldest first."""
    return sorted(found for found in folder.glob("session-*") if (found / "records.jsonl").exists())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """So many sessions of `plan` below `folder`."""

    plan: Plan
    """Of one session."""
    folder: Path
    number: int
    """How many sessions `folder` is to have in the end."""
    progress: Callable[[], Progress]
    """Makes one for each session."""
    resume: str
    """What to type to go on after an interruption."""
    version: Version | None = None
    """The one to measure; this one if None."""

    def run(self, *, is_resumed: bool) -> Noise:
        """Measure what is not there, and store and return what it says.

        Raises:
            UsageError: for fewer than two sessions, or if `folder` has others, of another plan or machine.
            Interrupted: on Ctrl-C; what was measured is kept.
        """
        self._begin(is_resumed=is_resumed)
        versions = {} if self.version is None else {"": self.version}
        for number in range(1, self.number + 1):
            folder = self.folder / f"session-{number:02d}"
            prepare_folder(folder, resume=True)
            PlanFile(folder).write(self.plan)
            progress = self.progress()
            progress.message(f"Session {number} of {self.number}")
            Runner(plan=self.plan, folder=folder, progress=progress, versions=versions, resume=self.resume).run()
        return self._stored()

    def _begin(self, *, is_resumed: bool) -> None:
        """Make sure that `folder` is new, or has sessions of this very plan and machine.

        Raises:
            UsageError: if it is not.
        """
        there = session_folders(self.folder)
        if self.number < max(LEAST_SESSIONS, len(there)):
            have = f", and {self.folder} has {len(there)} already" if there else ""
            raise UsageError(
                f"--sessions {self.number} are too few: noise between sessions needs {LEAST_SESSIONS}{have}. "
                f"{ENOUGH_SESSIONS} or more give comparisons a margin of their own."
            )
        plans = PlanFile(self.folder)
        if there and not is_resumed:
            raise UsageError(
                f"{self.folder} has {plural(len(there), 'session')} already. Add --resume to add to them, or choose "
                "another folder with --out."
            )
        prepare_folder(self.folder, resume=is_resumed)
        if is_resumed and plans.path.exists():
            plans.check_equal(self.plan)
        plans.write(self.plan)
        stored = next((found for folder in there for found in finished_run(folder).fingerprints), None)
        unlike = [] if stored is None else differences(stored, fingerprint())
        if unlike:
            raise UsageError(
                f"The sessions in {self.folder} are of another machine ({'; '.join(unlike)}). Measure this one into "
                "another folder."
            )

    def _stored(self) -> Noise:
        """The noise of all sessions, written to `noise.json`."""
        folders = session_folders(self.folder)
        sessions = [finished_run(folder) for folder in folders]
        began = [min((r.started_at for r in RecordFile(f).read() if r.started_at), default=None) for f in folders]
        noise = Noise(
            suite=self.plan.name,
            sessions=len(sessions),
            fingerprint=next((dict(found) for one in sessions for found in one.fingerprints), None),
            began_at=began,
            cells=noise_between([one.samples for one in sessions]),
        )
        NoiseFile(self.folder).write(noise)
        return noise


def without_noise(noise: Noise, plan: Plan) -> list[Invocation]:
    """The first invocation of every cell and runtime of `plan` that has no noise."""
    known = {cell.pairing for cell in noise.cells}
    return [invocation for pairing, invocation in planned_pairings(plan).items() if pairing not in known]


def print_noise(noise: Noise, plan: Plan, console: Console) -> None:
    """A line for each cell and runtime, and what of `plan` has none."""
    from rich.table import Table

    labels = Labels(noise.cells)
    table = Table(box=None, pad_edge=False)
    for heading in ("cell", "runtime", "noise between sessions", "margin", "sessions", "seeds"):
        table.add_column(heading, justify="left" if heading in {"cell", "runtime"} else "right")
    for cell in noise.cells:
        table.add_row(
            labels.full_cell(cell),
            labels.runtime(cell),
            percent(cell.noise),
            percent(cell.margin),
            str(cell.sessions),
            str(cell.seeds),
        )
    console.print(table, markup=False, highlight=False)
    for invocation in without_noise(noise, plan):
        console.print(
            f"{invocation.cell.workload} on {invocation.runtime.name}: no two sessions have {LEAST_FOR_INTERVAL} good "
            "invocations of the same seeds; their logs say why",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if noise.sessions < ENOUGH_SESSIONS:
        console.print(
            f"\n{noise.sessions} sessions say little: from {ENOUGH_SESSIONS} on a margin may be below 10 %. Add some "
            "on other days: --resume with more --sessions.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
