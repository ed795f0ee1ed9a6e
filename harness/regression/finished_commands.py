"""The commands on what has been measured already: `compare`, and `baseline` with what it can do."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import App, Parameter

from harness.errors import ExitStatus, UsageError, did_you_mean
from harness.options import Json, console_on, folder_of, print_json
from harness.regression.commands import Force, show

if TYPE_CHECKING:
    from harness.regression.baseline import BaselineFile
    from harness.regression.compare import Finished

__all__ = ["baseline", "compare"]

_Run = Annotated[Path, Parameter(help="Results folder of a finished run.")]
_Name = Annotated[str, Parameter(help="Name of the baseline: letters, digits, '.', '_' and '-'.")]
_Folder = Annotated[Path | None, Parameter(help="Folder of the baselines; results/baselines if not given.")]
_Margin = Annotated[
    float | None,
    Parameter(help="The same within this fraction of no change, slower or faster beyond it; 0.10 if not given."),
]
_Target = Annotated[
    float,
    Parameter(help="The slowdown that must not pass unseen: status 4 if an inconclusive interval contains it."),
]
_Noise = Annotated[
    Path | None, Parameter(help="Folder of aa --sessions: each cell gets the margin that was found for it.")
]


def compare(  # noqa: PLR0913 - one argument for each flag
    base: Annotated[str, Parameter(help="Results folder of a finished run, or the name of a stored baseline.")],
    head: _Run,
    /,
    *,
    margin: _Margin = None,
    target: _Target = 0.10,
    noise: _Noise = None,
    force: Force = False,
    out: str | None = None,
    json: Json = False,
) -> ExitStatus:
    """Compare two finished runs, by pairs of invocations of one seed; nothing in their folders changes.

    Exit status 1 for a cell that became slower, 3 for one that failed, 4 where too little was measured to tell.

    Parameters
    ----------
    out
        Folder for the verdicts as files; they are only printed if not given.
    """
    from harness.regression.compare import Yardstick, compare_finished, finished_run
    from harness.runner import prepare_folder

    folder = folder_of(out)
    yardstick = Yardstick.asked(margin, target, noise)
    before, after = _base(base), finished_run(head)
    if before.name == after.name:
        # Folders of one name, in different places.
        before, after = replace(before, name=base), replace(after, name=str(head))
    judged = compare_finished(before, after, yardstick, force=force)
    if folder is not None:
        # Verdicts in the folder of a run would pass for what that run found.
        prepare_folder(folder, resume=False)
    return show(judged, folder, as_json=json)


baseline = App(name="baseline", help="Keep what a finished run measured, to compare others with it.")


@baseline.command(name="save")
def save_baseline(name: _Name, run: _Run, /, *, folder: _Folder = None) -> ExitStatus:
    """Store a finished run, with six or more blocks and nothing failed, as a new baseline."""
    from harness.regression.updating import save

    file = _file(name, folder)
    _say(file, save(file, run).tree_clean)
    return ExitStatus.OK


@baseline.command(name="show")
def show_baseline(name: _Name, /, *, folder: _Folder = None, json: Json = False) -> ExitStatus:
    """Check a stored baseline, and show what it holds."""
    from harness.regression.updating import print_baseline

    found = _file(name, folder).read()
    if json:
        print_json(msgspec.to_builtins(found))
    else:
        print_baseline(found, console_on())
    return ExitStatus.OK


@baseline.command(name="update")
def update_baseline(  # noqa: PLR0913 - one argument for each flag
    name: _Name,
    run: _Run,
    /,
    *,
    accept: Annotated[list[str] | None, Parameter(negative="")] = None,
    reason: str = "",
    margin: _Margin = None,
    target: _Target = 0.10,
    noise: _Noise = None,
    force: Force = False,
    folder: _Folder = None,
) -> ExitStatus:
    """Put a finished run in the place of a stored baseline, unless a cell is slower, invalid, failed or missing.

    Parameters
    ----------
    accept
        A cell that may be worse all the same, by the name that is printed, or a part or pattern of it that fits no
        other; may be given several times.
    reason
        Why; it stays in the baseline.
    """
    from harness.regression.compare import Yardstick
    from harness.regression.outputs import print_judged
    from harness.regression.updating import Acceptance, update

    file = _file(name, folder)
    updated, judged = update(
        file,
        run,
        Acceptance(cells=accept or (), reason=reason),
        Yardstick.asked(margin, target, noise),
        now=datetime.now(tz=UTC),
        force=force,
    )
    print_judged(judged, console_on())
    _say(file, updated.tree_clean)
    return ExitStatus.OK


def _file(name: str, folder: Path | None) -> BaselineFile:
    from harness.regression.baseline import FOLDER, BaselineFile

    return BaselineFile(name, folder or FOLDER)


def _say(file: BaselineFile, tree_clean: bool | None) -> None:  # noqa: FBT001 - a fact, no flag
    sys.stdout.write(f"{file.path}\n")
    if tree_clean is False:
        sys.stderr.write("Warning: the files measured were not those of the commit; the baseline says so.\n")


def _base(name: str) -> Finished:
    """The finished run or stored baseline called `name`; a folder wins.

    Raises:
        UsageError: if there is neither.
    """
    from harness.regression.baseline import BaselineFile
    from harness.regression.compare import finished_run

    is_baseline = BaselineFile.is_name(name)
    if Path(name).is_dir():
        found = finished_run(Path(name))
        if not is_baseline:
            return found
        both = f"There is a baseline '{name}' too; compared was the folder. Rename one of the two to compare the other."
        return replace(found, warnings=(both, *found.warnings))
    if is_baseline:
        return BaselineFile(name).read().finished(name)
    known = BaselineFile.names()
    raise UsageError(
        f"'{name}' is neither the results folder of a run nor a stored baseline. "
        f"{did_you_mean(name, known) if known else 'No baseline is stored here.'}"
    )
