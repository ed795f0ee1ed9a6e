"""`check`: two versions take turns on every cell, and each cell is judged by pairs fixed in number beforehand.

A first set of pairs finds the cells that are the same. Every other cell gets a second set of fresh pairs and is
judged by that alone. What is measured lies in a results folder like that of a run: `plan.json`, `records.jsonl`,
logs; and in `check.json` what was compared.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from harness.errors import UsageError
from harness.estimate import in_minutes
from harness.plan import PlanFile, planned_pairings, schedule
from harness.records import RecordFile
from harness.regression.judged import Judged, Sets, judge, samples_of
from harness.regression.judging import INTERLEAVED, Judgement, Margins, Verdict
from harness.regression.profiling import with_profiles
from harness.report import machine_line, warnings_of
from harness.runner import Runner, prepare_folder
from harness.wording import indented_json, plural

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.plan import PairingKey, Plan
    from harness.progress import Progress
    from harness.records import Record
    from harness.versions import Version

__all__ = ["BASE", "HEAD", "Check", "Design", "DesignFile", "judged_folder", "plan_of_check"]

BASE, HEAD = "base", "head"


class SideFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a side is, for people and to notice that it is another one on resume."""

    name: str
    """As it was given, a revision say; `base` or `head` otherwise."""
    reactorbench: str
    protocol: int
    python: str
    packages: dict[str, str | None]
    sources: str = ""
    """A digest of the project's files there."""


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """What a check fixed before it measured."""

    schema_version: int = 1
    first_pairs: int
    second_pairs: int
    """0 where a single set decides."""
    same: float = INTERLEAVED.same
    beyond: float = INTERLEAVED.beyond
    target: float = INTERLEAVED.target
    sides: dict[str, SideFacts]

    @property
    def margins(self) -> Margins:
        """What the verdicts go by."""
        return Margins(same=self.same, beyond=self.beyond, target=self.target)


class DesignFile:
    """The file `check.json` of a results folder."""

    def __init__(self, folder: Path) -> None:
        """Name the file below `folder`."""
        self.path = folder / "check.json"

    def write(self, design: Design) -> None:
        """Store `design`."""
        self.path.write_bytes(indented_json(design))

    def read(self) -> Design:
        """The stored one.

        Raises:
            UsageError: if there is none, or it is none.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Design)
        except OSError as error:
            raise UsageError(
                f"There is no check in {self.path.parent}: {self.path.name} cannot be read ({error.strerror}). "
                "Name the --out folder of a check that was begun."
            ) from error
        except msgspec.DecodeError as error:
            raise UsageError(
                f"{self.path} is not the design of a check: {error}. Check into another folder."
            ) from error


def plan_of_check(plan: Plan, design: Design) -> Plan:
    """`plan` for two sides and as many blocks as `design` may need."""
    pairs = design.first_pairs + design.second_pairs
    return msgspec.structs.replace(plan, sides=(BASE, HEAD), invocations=pairs)


def side_facts(name: str, version: Version) -> SideFacts:
    """What is kept of `version`."""
    facts = version.facts
    return SideFacts(
        name=name,
        reactorbench=facts.reactorbench,
        protocol=facts.protocol,
        python=facts.python,
        packages=facts.packages,
        sources=facts.sources,
    )


def judged_records(
    records: Sequence[Record], plan: Plan, design: Design, margins: Margins, *, is_finished: bool = True
) -> tuple[Judgement, ...]:
    """The judgements of `records`, those of a check, in the order of `plan`.

    While it goes on, `is_finished` is false: then what is there is judged, and nothing is looked up that takes time.
    """
    first = range(plan.seed, plan.seed + design.first_pairs)
    second = range(first.stop, first.stop + design.second_pairs) if design.second_pairs else None
    return tuple(
        judge(
            samples_of(records, BASE),
            samples_of(records, HEAD),
            order=planned_pairings(plan),
            sets=Sets(first=first, second=second, is_finished=is_finished, second_is_due=margins == design.margins),
            margins=margins,
            with_flags=is_finished,
        )
    )


def judged_folder(folder: Path, margins: Margins | None = None) -> Judged:
    """What the check in `folder` says, by other `margins` than its own if given; nothing is measured.

    Raises:
        UsageError: if there is no check, or its files cannot be read.
    """
    plan, design, file = PlanFile(folder).read(), DesignFile(folder).read(), RecordFile(folder)
    records = file.read()
    if not records:
        raise UsageError(f"There is nothing to judge in {folder}: {file.path.name} holds no whole record.")
    margins = margins or design.margins
    base, head = design.sides[BASE], design.sides[HEAD]
    judged = Judged(
        title=plan.title,
        base_name=base.name,
        head_name=head.name,
        judgements=judged_records(records, plan, design, margins),
        margins=margins,
        machine=machine_line(record.machine for record in records),
        warnings=(*warnings_of(file, records), *_unlike_packages(base, head)),
        facts={side: msgspec.to_builtins(facts) for side, facts in design.sides.items()},
    )
    return with_profiles(judged, folder)


def _unlike_packages(base: SideFacts, head: SideFacts) -> list[str]:
    """That the sides differ in more than this project."""
    unlike = [
        f"{name} {base.packages.get(name)} and {version}"
        for name, version in head.packages.items()
        if base.packages.get(name) != version
    ]
    if base.python != head.python:
        unlike.insert(0, f"{base.python} and {head.python}")
    return [f"The sides have different versions: {', '.join(unlike)}. A change may come from there."] if unlike else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check of `plan`, which `plan_of_check` made, into `folder`, which has been prepared and is held alone."""

    plan: Plan
    design: Design
    folder: Path
    progress: Progress
    versions: Mapping[str, Version]
    resume: str
    """What to type to go on after an interruption."""
    budget_s: float | None = None

    def run(self) -> None:
        """Measure what has no good record yet.

        Raises:
            UsageError: if the input is bad or the budget too small; nothing has been measured then.
            Interrupted: on Ctrl-C; what was measured is kept.
        """
        if not RecordFile(self.folder).read():
            self._pilot()
        runner = Runner(
            plan=self.plan,
            folder=self.folder,
            progress=self.progress,
            versions=self.versions,
            resume=self.resume,
            holds_folder=True,
        )
        runner.run(lambda invocation: invocation.block < self.design.first_pairs)
        if not self.design.second_pairs:
            return
        undecided = self._undecided()
        if undecided:
            self.progress.message(
                f"{plural(len(undecided), 'cell')} not found the same by {self.design.first_pairs} pairs: "
                f"{self.design.second_pairs} fresh pairs of each decide."
            )
            runner.run(lambda invocation: invocation.pairing in undecided)

    def _undecided(self) -> set[PairingKey]:
        """The cells that the first set of pairs compared and did not find the same."""
        blocks = self.design.first_pairs
        records = [record for record in RecordFile(self.folder).read() if record.block < blocks]
        judgements = judged_records(records, self.plan, self.design, self.design.margins, is_finished=False)
        # Judgements come in the order of the plan; records that are none of its cells would follow.
        return {
            pairing
            for pairing, judgement in zip(planned_pairings(self.plan), judgements, strict=False)
            if judgement.verdict is Verdict.INCONCLUSIVE
        }

    def _pilot(self) -> None:
        """Run every cell once on both sides, to say how long the check takes; nothing of it is kept.

        Raises:
            UsageError: if the budget is too small.
        """
        self._refuse_budget(self._least_s(), "at the very least")
        # A seed that is not measured with: nothing that the pilot saw is looked at again.
        pilot = msgspec.structs.replace(self.plan, invocations=1, seed=self.plan.seed + self.plan.invocations)
        folder = self.folder / "pilot"
        shutil.rmtree(folder, ignore_errors=True)
        prepare_folder(folder, resume=False)
        began = perf_counter()
        try:
            Runner(
                plan=pilot,
                folder=folder,
                progress=self.progress,
                versions=self.versions,
                resume=self.resume,
            ).run()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        once_s = perf_counter() - began
        first_s, second_s = (pairs * once_s for pairs in (self.design.first_pairs, self.design.second_pairs))
        self.progress.message(
            f"{self.design.first_pairs} pairs of each cell take about {in_minutes(first_s)}"
            + (f"; should none be found the same, fresh pairs take {in_minutes(second_s)} more." if second_s else ".")
        )
        self._refuse_budget(first_s + second_s, "by a pilot")

    def _least_s(self) -> float:
        """How long all pairs take if nothing but the time asked for passes."""
        return sum(invocation.cell.measure_s for invocation in schedule(self.plan))

    def _refuse_budget(self, needed_s: float, how: str) -> None:
        if self.budget_s is not None and needed_s > self.budget_s:
            raise UsageError(
                f"The budget of {in_minutes(self.budget_s)} is too small: {self.design.first_pairs} pairs of each "
                f"cell, and {self.design.second_pairs} more where they do not decide, take {in_minutes(needed_s)} "
                f"{how}. "
                "Give more with --budget-s, or choose fewer cells with --cells."
            )
