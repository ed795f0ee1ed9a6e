"""The commands that say whether something changed."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path  # noqa: TC003 - the command line is made of annotations
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from harness.errors import ExitStatus, UsageError
from harness.options import NOTHING, Cells, Json, Selection, Suite, console_on, folder_of, new_folder, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from harness.plan import Plan
    from harness.progress import Progress
    from harness.records import Record
    from harness.regression.check import Design
    from harness.regression.judged import Judged
    from harness.versions import Version

__all__ = ["FIRST_PAIRS", "SECOND_PAIRS", "Force", "aa", "check", "report_check", "show"]

_DEFAULT_SUITE = "ci"
_TARGET = 0.10
_PAIRS = 24
_SEEDS = 12
"""Of a session, where nobody says otherwise; they are so many invocations each."""

Force = Annotated[
    bool,
    Parameter(negative="", help="Compare with what another machine measured; every form of the report says so."),
]

FIRST_PAIRS = 12
SECOND_PAIRS = 24
"""Fixed before anything is measured; docs/measuring.md says what they find."""


def check(  # noqa: PLR0913 - one argument for each flag
    suite: Suite = None,
    /,
    *,
    base: str | None = None,
    baseline: str | None = None,
    head: str | None = None,
    selection: Selection = NOTHING,
    cells: Cells = None,
    out: str | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    base_name: str | None = None,
    head_name: str = "head",
    margin: float | None = None,
    beyond: float | None = None,
    target: float | None = None,
    noise: Path | None = None,
    force: Force = False,
    budget_s: float | None = None,
    profile: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> ExitStatus:
    """Compare two versions: 12 interleaved pairs of each cell, and 24 fresh ones where they do not find it the same.

    Exit status 1 for a cell that became slower, 3 for one that failed, 4 where too little was measured to tell.
    With --baseline, the head alone is measured and compared with what is stored, by wider margins.

    Parameters
    ----------
    base
        A Python that has the version to compare with installed.
    baseline
        A stored baseline to compare with, by name, instead of --base.
    head
        A Python that has the version to judge installed; this one if not given.
    out
        Folder for the results; results/runs/check-NAME-TIME if not given.
    resume
        Go on with the check in --out, given the same suite and sides.
    base_name
        What reports call the base, a revision say.
    head_name
        What reports call the head.
    margin
        A cell is the same if its interval lies within this fraction of no change; 0.05, or 0.10 with --baseline.
    beyond
        It is slower or faster if its interval lies wholly beyond this fraction; 0.03, or --margin with --baseline.
    target
        The slowdown that must not pass unseen (0.10): status 4 if an inconclusive interval contains it.
    noise
        With --baseline: folder of aa --sessions, whose margins take the place of --margin.
    budget_s
        Seconds that the check may take; one that could take longer is refused before any pair is measured.
    profile
        Run each cell that is slower, or may be, once more on the head, and show where the time goes.
    """
    from harness.regression.check import (
        BASE,
        HEAD,
        Check,
        Design,
        DesignFile,
        judged_folder,
        plan_of_check,
        side_facts,
    )
    from harness.regression.judging import Margins
    from harness.runner import alone_in, prepare_folder
    from harness.versions import this_version, version_at

    if selection.invocations is not None:
        raise UsageError("--invocations does not go with check: the number of pairs is fixed. Leave it out.")
    if (base is None) == (baseline is None):
        raise UsageError(
            "Name what to compare with, once: --base PYTHON, which is measured in turns with the head, or "
            "--baseline NAME, which is stored ('reactorbench baseline save')."
        )
    asked = folder_of(out)
    if resume and asked is None:
        raise UsageError("--resume needs the folder of the check. Add --out DIR.")
    if baseline is not None:
        _refuse(
            "--baseline",
            base_name=base_name,
            beyond=beyond,
            budget_s=budget_s,
            seed=selection.seed,
            profile=profile or None,
        )
        return _check_stored(
            suite,
            selection,
            baseline,
            sought=Sought(folder=asked, resume=resume, cells=tuple(cells or ()), head=head, head_name=head_name),
            by=Yardsticks(margin=margin, target=_TARGET if target is None else target, noise=noise, force=force),
            as_json=json,
        )
    assert base is not None
    _refuse("--base", noise=noise, force=force or None)
    base_name = base_name or "base"
    plan = _whole_plan(suite, selection, cells)
    # A check goes on by the margins that it began with.
    own = DesignFile(asked).read().margins if resume and asked and DesignFile(asked).path.exists() else Margins()
    margins = own.but(same=margin, beyond=beyond, target=target)
    if resume:
        _refuse("--resume", budget_s=budget_s)
    versions = {BASE: version_at(base, "--base"), HEAD: version_at(head, "--head") if head else this_version()}
    _check_paths(versions[BASE], versions[HEAD])
    design = Design(
        first_pairs=FIRST_PAIRS,
        second_pairs=SECOND_PAIRS,
        same=margins.same,
        beyond=margins.beyond,
        target=margins.target,
        sides={
            BASE: side_facts(base_name, versions[BASE]),
            HEAD: side_facts(head_name, versions[HEAD]),
        },
    )
    plan = plan_of_check(plan, design)
    folder = asked or new_folder(f"check-{plan.name}")
    prepare_folder(folder, resume=resume)
    progress = _progress(plan, design, to_stderr=json)
    flags = [f"--base={base}", *([f"--head={head}"] if head else [])]
    flags += [f"--base-name={base_name}", f"--head-name={head_name}", *(f"--cells={cell}" for cell in cells or ())]
    flags += _given(margin=margin, beyond=beyond, target=target)
    flags += ["--profile"] if profile else []
    again = _command("check", suite, selection, flags)
    go_on = _resumed(again, folder)
    with alone_in(folder):
        _begin(folder, plan, design, resume=resume)
        Check(
            plan=plan,
            design=design,
            folder=folder,
            progress=progress,
            versions=versions,
            resume=go_on,
            budget_s=budget_s,
        ).run()
    if profile:
        from harness.plan import planned_pairings
        from harness.regression.profiling import Profiler, py_spy

        Profiler(
            folder=folder,
            plan=plan,
            side=HEAD,
            version=versions[HEAD],
            progress=progress,
            spy=py_spy(),
            resume=go_on,
        ).profile(judged_folder(folder), planned_pairings(plan))
    return show(replace(judged_folder(folder), command=again), folder, as_json=json)


def aa(  # noqa: PLR0913 - one argument for each flag
    suite: Suite = None,
    /,
    *,
    selection: Selection = NOTHING,
    pairs: int | None = None,
    sessions: int | None = None,
    head: str | None = None,
    cells: Cells = None,
    out: str | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> ExitStatus:
    """Compare this version with itself: how noisy each cell is here, and how often `check` would raise a false alarm.

    Parameters
    ----------
    pairs
        Interleaved pairs of each cell (24); with --sessions, seeds of each session (12). At least 12.
    sessions
        Measure separate runs instead, until the folder has so many: the noise between them, for compare --noise.
    head
        A Python that has the version to measure installed; this one if not given.
    out
        Folder for the results; results/runs/aa-NAME-TIME if not given.
    resume
        Go on in the folder --out, or with more --sessions than it has, add some.
    """
    from harness.regression.aa import check_pairs
    from harness.versions import version_at

    if selection.invocations is not None:
        raise UsageError("--invocations does not go with aa: --pairs says how many pairs. Leave it out.")
    asked = folder_of(out)
    if resume and asked is None:
        raise UsageError("--resume needs the folder that it began with. Add --out DIR.")
    if pairs is None:
        pairs = _PAIRS if sessions is None else _SEEDS
    check_pairs(pairs)
    plan = _whole_plan(suite, selection, cells)
    version = version_at(head, "--head") if head else None
    folder = asked or new_folder(f"aa-{plan.name}")
    flags = [f"--pairs={pairs}", *([f"--head={head}"] if head else []), *(f"--cells={cell}" for cell in cells or ())]
    flags += [] if sessions is None else [f"--sessions={sessions}"]
    again = _resumed(_command("aa", suite, selection, flags), folder)
    if sessions is not None:
        plan = msgspec.structs.replace(plan, invocations=pairs)
        return _measure_sessions(plan, folder, version, sessions, resume=resume, again=again, as_json=json)
    return _measure_aa(plan, folder, version, pairs, resume=resume, again=again, as_json=json)


def _measure_aa(  # noqa: PLR0913 - all that decides over what is measured
    plan: Plan, folder: Path, version: Version | None, pairs: int, *, resume: bool, again: str, as_json: bool
) -> ExitStatus:
    from harness.regression.aa import aa_json, print_aa, status_of, write_aa
    from harness.regression.check import BASE, HEAD, Check, Design, judged_folder, plan_of_check, side_facts
    from harness.runner import alone_in, prepare_folder
    from harness.versions import this_version

    version = version or this_version()
    design = Design(
        first_pairs=pairs,
        second_pairs=0,
        sides={BASE: side_facts("A", version), HEAD: side_facts("A again", version)},
    )
    plan = plan_of_check(plan, design)
    prepare_folder(folder, resume=resume)
    with alone_in(folder):
        _begin(folder, plan, design, resume=resume)
        Check(
            plan=plan,
            design=design,
            folder=folder,
            progress=_progress(plan, design, to_stderr=as_json),
            versions={BASE: version, HEAD: version},
            resume=again,
        ).run()
    judged = judged_folder(folder)
    file = write_aa(judged, folder)
    if as_json:
        print_json(aa_json(judged))
    else:
        print_aa(judged, console_on())
        sys.stdout.write(f"{file}\n")
    return status_of(judged)


def _measure_sessions(  # noqa: PLR0913 - all that decides over what is measured
    plan: Plan, folder: Path, version: Version | None, number: int, *, resume: bool, again: str, as_json: bool
) -> ExitStatus:
    from harness.progress import progress_on
    from harness.regression.sessions import Sessions, print_noise, without_noise

    sessions = Sessions(
        plan=plan,
        folder=folder,
        number=number,
        progress=lambda: progress_on(console_on(to_stderr=as_json)),
        resume=again,
        version=version,
    )
    noise = sessions.run(is_resumed=resume)
    if as_json:
        print_json(noise)
    else:
        print_noise(noise, plan, console_on())
        sys.stdout.write(f"{folder / 'noise.json'}\n")
    return ExitStatus.NOTHING_MEASURED if without_noise(noise, plan) else ExitStatus.OK


def report_check(  # noqa: PLR0913 - one argument for each flag
    folder: Path, *, margin: float | None, beyond: float | None, target: float | None, html: bool, as_json: bool
) -> ExitStatus:
    """Judge the check in `folder` again; by its own margins where none are given. With `html` write its page."""
    from harness.regression.check import DesignFile, judged_folder

    margins = DesignFile(folder).read().margins.but(same=margin, beyond=beyond, target=target)
    return show(judged_folder(folder, margins), folder, as_json=as_json, html=html)


def show(judged: Judged, folder: Path | None, *, as_json: bool, html: bool = False) -> ExitStatus:
    """Write every form of `judged` to `folder`, if there is one, and print it; GitHub Actions gets its forms too."""
    from harness.regression.outputs import annotate, print_judged, to_json, write_outputs

    files = [] if folder is None else write_outputs(judged, folder)
    if html and folder is not None:
        from harness.page import write_check_page

        files.append(write_check_page(folder, judged))
    if as_json:
        print_json(to_json(judged))
    else:
        print_judged(judged, console_on())
        if files:
            sys.stdout.write(f"{folder}: {', '.join(file.name for file in files)}\n")
    annotate(judged, os.environ, sys.stderr if as_json else sys.stdout)
    return judged.exit_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What is to be measured, and where."""

    folder: Path | None
    resume: bool
    cells: tuple[str, ...]
    head: str | None
    head_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardsticks:
    """What options say about how to judge."""

    margin: float | None
    target: float
    noise: Path | None
    force: bool


def _check_stored(  # noqa: PLR0913, PLR0917 - all that decides over what is measured
    suite: str | None,
    selection: Selection,
    name: str,
    sought: Sought,
    by: Yardsticks,
    as_json: bool,  # noqa: FBT001
) -> ExitStatus:
    """Measure the head alone and compare it with the baseline called `name`."""
    from harness.progress import progress_on
    from harness.regression.baseline import BaselineFile
    from harness.regression.compare import Yardstick
    from harness.regression.stored import StoredCheck, plan_of_stored_check
    from harness.versions import version_at

    file = BaselineFile(name)
    baseline = file.read()
    plan = plan_of_stored_check(_whole_plan(suite, selection), sought.cells, baseline, file)
    check_of = StoredCheck(
        plan=plan,
        baseline=baseline,
        name=name,
        head_name=sought.head_name,
        yardstick=Yardstick.asked(by.margin, by.target, by.noise),
        force=by.force,
        version=version_at(sought.head, "--head") if sought.head else None,
    )
    check_of.refuse()
    folder = sought.folder or new_folder(f"check-{plan.name}")
    flags = [f"--baseline={name}", *(["--force"] if by.force else []), f"--head-name={sought.head_name}"]
    flags += [*([f"--head={sought.head}"] if sought.head else []), *(f"--cells={cell}" for cell in sought.cells)]
    flags += _given(margin=by.margin, target=by.target, noise=by.noise)
    again = _command("check", suite, selection, flags)
    progress = progress_on(console_on(to_stderr=as_json))
    judged = check_of.run(folder, progress, is_resumed=sought.resume, resume=_resumed(again, folder))
    return show(replace(judged, command=again), folder, as_json=as_json)


def _whole_plan(suite: str | None, selection: Selection, cells: Sequence[str] | None = None) -> Plan:
    """The plan that was asked for, with those of its cells that match, and nothing that is trained.

    Raises:
        UsageError: if no cell is left.
    """
    from harness.plan import select_cells

    plan = selection.plan(suite if suite or selection.workload else _DEFAULT_SUITE)
    plan = msgspec.structs.replace(plan, cells=tuple(select_cells(plan, cells or [])), learning=())
    if not plan.cells:
        raise UsageError(f"Of '{plan.name}' there is no cell to measure: what is only trained cannot be compared.")
    return plan


def _command(name: str, suite: str | None, selection: Selection, flags: Sequence[str]) -> str:
    """What to type to have it once more."""
    return shlex.join(["reactorbench", name, *([suite] if suite else []), *selection.words(), *flags])


def _resumed(command: str, folder: Path) -> str:
    """What to type to go on in `folder`."""
    return f"{command} --resume --out {shlex.quote(str(folder))}"


def _refuse(flag: str, **given: object) -> None:
    """Refuse the options `given`, if any is, beside `flag`.

    Raises:
        UsageError: if one is given.
    """
    wrong = ["--" + name.replace("_", "-") for name, value in given.items() if value is not None]
    if wrong:
        raise UsageError(f"{', '.join(wrong)} cannot go with {flag}. Leave one of the two out.")


def _progress(plan: Plan, design: Design, *, to_stderr: bool) -> Progress:
    """Progress with a table of the verdicts so far."""
    from harness.progress import progress_on
    from harness.regression.check import judged_records
    from harness.regression.outputs import verdict_table

    def tabulate(records: Sequence[Record], width: int) -> Table:
        judgements = judged_records(records, plan, design, design.margins, is_finished=False)
        return verdict_table(judgements, width=width)

    return progress_on(console_on(to_stderr=to_stderr), tabulate)


def _given(**flags: object) -> list[str]:
    """The command line of those `flags` that have a value."""
    return [f"--{name}={value}" for name, value in flags.items() if value is not None]


def _check_paths(base: Version, head: Version) -> None:
    """Refuse sides that lie at paths of different length: where they are installed, or their interpreters.

    Raises:
        UsageError: if they do.
    """
    there, here = ((side.facts.path_length, len(side.interpreter or sys.executable)) for side in (base, head))
    if there != here:
        lengths = " and ".join(
            f"{installed} for the project, {python} for Python" for installed, python in (there, here)
        )
        raise UsageError(
            f"Base and head are installed at paths of different length ({lengths} characters), which shifts "
            "where things lie in memory and can pass for a change of speed. Install them into folders with names of "
            "equal length, or let scripts/compare-revisions do it."
        )


def _check_machine(folder: Path) -> None:
    """Refuse to go on with what another machine began.

    Raises:
        UsageError: if the newest record in `folder` names another one.
    """
    from harness.fingerprint import differences, fingerprint
    from harness.records import RecordFile

    known = [found for record in RecordFile(folder).read() if (found := record.machine.get("fingerprint"))]
    unlike = differences(known[-1], fingerprint()) if known else []
    if unlike:
        raise UsageError(
            f"The check in {folder} was begun on another machine ({'; '.join(unlike)}). Finish it there, or check into "
            "another folder."
        )


def _begin(folder: Path, plan: Plan, design: Design, *, resume: bool) -> None:
    """Store what is about to be measured, or make sure that it is what the folder holds.

    Raises:
        UsageError: if the folder holds something else.
    """
    from harness.plan import PlanFile
    from harness.regression.check import DesignFile

    plans, designs = PlanFile(folder), DesignFile(folder)
    if resume and plans.path.exists():
        plans.check_equal(plan)
        _check_machine(folder)
        stored = designs.read()
        if msgspec.structs.replace(stored, same=design.same, beyond=design.beyond, target=design.target) != design:
            raise UsageError(
                f"The check in {folder} compares other versions than these. Give the same --base, --head and their "
                "names, or check into another folder."
            )
    plans.write(plan)
    designs.write(design)
