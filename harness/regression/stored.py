"""`check --baseline`: one version measured alone, with the seeds of a stored baseline, and compared with that.

The baseline is read and checked before anything is measured. There is a single set of pairs, by seed with the stored
invocations: fresh pairs would need a fresh base. What is measured is a run like any other, in a folder of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from harness.fingerprint import fingerprint
from harness.plan import PlanFile, planned_pairings, select_cells
from harness.regression.check import side_facts
from harness.regression.compare import Finished, compare_finished, finished_run, forced_across_machines
from harness.runner import Runner, prepare_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.plan import Invocation, Plan
    from harness.progress import Progress
    from harness.regression.baseline import Baseline, BaselineFile
    from harness.regression.compare import Yardstick
    from harness.regression.judged import Judged
    from harness.versions import Version

__all__ = ["StoredCheck", "plan_of_stored_check"]


def plan_of_stored_check(plan: Plan, cells: Sequence[str], baseline: Baseline, file: BaselineFile) -> Plan:
    """`plan`, that of a whole suite, with the seeds of `baseline` and those of its `cells` that match.

    Raises:
        UsageError: if the baseline is of another suite, or no cell matches.
    """
    baseline.check_suite(plan, file.path)
    seeds = baseline.seeds
    chosen = tuple(select_cells(plan, cells))
    return msgspec.structs.replace(plan, cells=chosen, seed=seeds.start, invocations=len(seeds))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheck:
    """A check of `plan`, which `plan_of_stored_check` made, against `baseline`."""

    plan: Plan
    baseline: Baseline
    name: str
    """Of the baseline."""
    head_name: str
    yardstick: Yardstick
    force: bool
    version: Version | None = None
    """The one to measure; this one if None."""

    def refuse(self) -> None:
        """Make sure that this machine is the one of the baseline.

        Raises:
            UsageError: if it is not, and nobody forces it.
        """
        here = Finished(
            name="this machine",
            title="",
            samples={},
            machines=({"fingerprint": msgspec.to_builtins(fingerprint())},),
        )
        forced_across_machines(self._base, here, self.yardstick, force=self.force)

    def run(self, folder: Path, progress: Progress, *, is_resumed: bool, resume: str) -> Judged:
        """Measure what `folder` has no good record of, and judge it; `resume` is what to type to go on.

        Raises:
            UsageError: if `folder` has another run, or cannot be written; nothing has been measured then.
            Interrupted: on Ctrl-C; what was measured is kept.
        """
        prepare_folder(folder, resume=is_resumed)
        plans = PlanFile(folder)
        if is_resumed and plans.path.exists():
            plans.check_equal(self.plan)
        plans.write(self.plan)
        seeds = {cell.pairing: cell.seeds.keys() for cell in self.baseline.cells}

        def is_stored(invocation: Invocation) -> bool:
            return invocation.seed in seeds.get(invocation.pairing, self.baseline.seeds)

        versions = {} if self.version is None else {"": self.version}
        Runner(plan=self.plan, folder=folder, progress=progress, versions=versions, resume=resume).run(is_stored)
        head = replace(finished_run(folder), name=self.head_name)
        only = planned_pairings(self.plan).keys()
        judged = compare_finished(self._base, head, self.yardstick, force=self.force, only=only)
        if self.version is None:
            return judged
        # Records say which version measured, not which one was measured.
        facts = {**judged.facts, "head": msgspec.to_builtins(side_facts(self.head_name, self.version))}
        return replace(judged, facts=facts)

    @property
    def _base(self) -> Finished:
        return self.baseline.finished(self.name)
