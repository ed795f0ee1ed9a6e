"""The commands that say whether something changed."""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from harness.errors import ExitStatus, UsageError
from harness.options import NOTHING, Cells, Json, Selection, Suite, console_on, folder_of, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from harness.plan import Plan
    from harness.progress import Progress
    from harness.records import Record
    from harness.regression.check import Design
    from harness.regression.judged import Judged

__all__ = ["check", "report_check", "show"]

_DEFAULT_SUITE = "ci"

FIRST_PAIRS = 12
SECOND_PAIRS = 24
"""Fixed before anything is measured; docs/measuring.md says what they find."""


def check(  # noqa: PLR0913 - one argument for each flag
    suite: Suite = None,
    /,
    *,
    base: str,
    head: str | None = None,
    selection: Selection = NOTHING,
    cells: Cells = None,
    out: str | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    base_name: str = "base",
    head_name: str = "head",
    margin: float = 0.05,
    beyond: float = 0.03,
    target: float = 0.10,
    budget_s: float | None = None,
    json: Json = False,
) -> ExitStatus:
    """Compare two versions: 12 interleaved pairs of each cell, and 24 fresh ones where they do not find it the same.

    Exit status 1 for a cell that became slower, 3 for one that failed, 4 where too little was measured to tell.

    Parameters
    ----------
    base
        A Python that has the version to compare with installed.
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
        A cell is the same if its interval lies within this fraction of no change.
    beyond
        It is slower or faster if its interval lies wholly beyond this fraction.
    target
        The slowdown that must not pass unseen: status 4 if an inconclusive interval contains it.
    budget_s
        Seconds that the check may take; one that could take longer is refused before anything runs.
    """
    from harness.regression.check import (
        BASE,
        HEAD,
        Check,
        Design,
        judged_folder,
        plan_of_check,
        resume_command,
        side_facts,
    )
    from harness.regression.judging import Margins
    from harness.runner import prepare_folder
    from harness.versions import this_version, version_at

    if selection.invocations is not None:
        raise UsageError("--invocations does not go with check: the number of pairs is fixed. Leave it out.")
    plan = selection.plan(suite if suite or selection.workload else _DEFAULT_SUITE)
    asked = folder_of(out)
    if resume and asked is None:
        raise UsageError("--resume needs the folder of the check. Add --out DIR.")
    margins = Margins(same=margin, beyond=beyond, target=target)
    versions = {BASE: version_at(base, "--base"), HEAD: version_at(head, "--head") if head else this_version()}
    _check_paths(versions[BASE].facts.path_length, versions[HEAD].facts.path_length)
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
    folder = asked or Path("results", "runs", f"check-{plan.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    prepare_folder(folder, resume=resume)
    _begin(folder, plan, design, resume=resume)
    Check(
        plan=plan,
        design=design,
        folder=folder,
        progress=_progress(plan, design, to_stderr=json),
        versions=versions,
        resume=resume_command(folder, suite or _DEFAULT_SUITE, base, head),
        cells=cells or [],
        budget_s=budget_s,
    ).run()
    return show(judged_folder(folder), folder, as_json=json)


def report_check(  # noqa: PLR0913 - one argument for each flag
    folder: Path, *, margin: float | None, beyond: float | None, target: float | None, html: bool, as_json: bool
) -> ExitStatus:
    """Judge the check in `folder` again; by its own margins where none are given. With `html` write its page."""
    from harness.regression.check import DesignFile, judged_folder
    from harness.regression.judging import Margins

    own = DesignFile(folder).read().margins
    margins = Margins(
        same=own.same if margin is None else margin,
        beyond=own.beyond if beyond is None else beyond,
        target=own.target if target is None else target,
    )
    return show(judged_folder(folder, margins), folder, as_json=as_json, html=html)


def show(judged: Judged, folder: Path, *, as_json: bool, html: bool = False) -> ExitStatus:
    """Write every form of `judged` to `folder`, and print it; GitHub Actions gets its forms where it runs this."""
    from harness.regression.outputs import annotate, print_judged, to_json, write_outputs

    files = write_outputs(judged, folder)
    if html:
        from harness.page import write_check_page

        files.append(write_check_page(folder, judged))
    if as_json:
        print_json(to_json(judged))
    else:
        print_judged(judged, console_on())
        sys.stdout.write(f"{folder}: {', '.join(file.name for file in files)}\n")
    annotate(judged, os.environ, sys.stderr if as_json else sys.stdout)
    return judged.exit_status


def _progress(plan: Plan, design: Design, *, to_stderr: bool) -> Progress:
    """Progress with a table of the verdicts so far."""
    from harness.progress import progress_on
    from harness.regression.check import judged_records
    from harness.regression.outputs import verdict_table

    def tabulate(records: Sequence[Record], width: int) -> Table:
        judgements = judged_records(records, plan, design, design.margins, with_flags=False)
        return verdict_table(judgements, width=width)

    return progress_on(console_on(to_stderr=to_stderr), tabulate)


def _check_paths(base: int, head: int) -> None:
    """Refuse sides that lie at paths of different length.

    Raises:
        UsageError: if they do.
    """
    if base != head:
        raise UsageError(
            f"Base and head are installed at paths of different length ({base} and {head} characters), which shifts "
            "where things lie in memory and can pass for a change of speed. Install them into folders with names of "
            "equal length, or let scripts/compare-revisions do it."
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
        stored = designs.read()
        if msgspec.structs.replace(stored, same=design.same, beyond=design.beyond, target=design.target) != design:
            raise UsageError(
                f"The check in {folder} compares other versions than these. Give the same --base, --head and their "
                "names, or check into another folder."
            )
    plans.write(plan)
    designs.write(design)
