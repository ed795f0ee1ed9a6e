"""The command `learn`: train, evaluate while that goes on, report; and what `run` and `report` do of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from harness.errors import ExitStatus, UsageError
from harness.options import Cells, Json, Set, Suite, console_on, folder_of, given_flags, new_folder, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.learning.report import LearningReport
    from harness.plan import Plan

__all__ = ["learn", "train"]

_SETTINGS = ("seeds", "every_rounds", "cap_rounds", "episodes", "target", "stop_at_target", "timeout_s")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LearningSelection:
    """What to train; what is given overrides the suite."""

    workload: str | None = None
    """A workload that learns, instead of a suite."""
    set_: Set = None
    """KEY=VALUE: a parameter of --workload; may be given several times."""
    runtime: Annotated[list[str] | None, Parameter(negative="")] = None
    """NAME or NAME:key=value,key=value: a runtime with its options; may be given several times."""
    seeds: int | None = None
    """How many trainings on each runtime (3)."""
    every_rounds: int | None = None
    """Rounds from one evaluation to the next (100)."""
    cap_rounds: int | None = None
    """Rounds after which a training ends (1000)."""
    episodes: int | None = None
    """Episodes of an evaluation (20)."""
    target: float | None = None
    """The mean return of an evaluation that is aimed at."""
    stop_at_target: Annotated[bool | None, Parameter(negative="--no-stop-at-target")] = None
    """End a training with the first evaluation that reaches the target."""
    timeout_s: float | None = None
    """Seconds after which a training is ended with all its processes (3600)."""
    seed: int | None = None
    """The first seed; the others follow."""

    def plan(self, suite_name: str | None) -> Plan:
        """The plan for this selection.

        Raises:
            UsageError: if it makes none, or trains nothing.
        """
        from harness.arguments import parse_assignments
        from harness.suite import plan_of, read_suite, suite_of_training

        if (suite_name is None) == (self.workload is None):
            raise UsageError(
                "Name either a suite or a workload: reactorbench learn training-learning, or reactorbench learn "
                "--workload NAME --runtime NAME. 'reactorbench list' shows what there is."
            )
        if self.workload is not None:
            suite = suite_of_training(self.workload, parse_assignments(self.set_ or [], flag="--set"))
        elif self.set_:
            raise UsageError("--set goes with --workload. To change parameters of a suite, copy its TOML file.")
        else:
            assert suite_name is not None
            suite = read_suite(suite_name)
        if not suite.learning:
            raise UsageError(f"Suite '{suite.name}' trains nothing: it has no [[learning]]. 'run' measures its cells.")
        overrides = {name: value for name in _SETTINGS if (value := getattr(self, name)) is not None}
        seed = {} if self.seed is None else {"seed": self.seed}
        return plan_of(suite, seed, self.runtime or [], overrides)


NOTHING = LearningSelection()


def learn(  # noqa: PLR0913 - one argument for each flag
    suite: Suite = None,
    /,
    *,
    selection: LearningSelection = NOTHING,
    cells: Cells = None,
    out: str | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    figures: bool = True,
    json: Json = False,
) -> ExitStatus:
    """Train what a suite says, or one workload, on several runtimes; show learning curves and times to a return.

    Parameters
    ----------
    out
        Folder for the results; results/runs/NAME-TIME if not given.
    resume
        Go on with what is in --out; what was interrupted goes on where it was. May name more seeds than it began with.
    figures
        Draw the learning curves at the end.
    """
    from harness.plan import PlanFile, select_learning
    from harness.runner import prepare_folder

    asked = folder_of(out)
    plan = _plan_to_train(suite, selection, asked, resume=resume)
    select_learning(plan, cells or [])
    folder = asked or new_folder(plan.name)
    prepare_folder(folder, resume=resume)
    PlanFile(folder).keep(plan, resume=resume)
    train(plan, folder, cells or [], to_stderr=json)
    return _show(folder, figures=figures, as_json=json)


def train(plan: Plan, folder: Path, cells: Sequence[str], *, to_stderr: bool, command: str = "learn") -> None:
    """Run the trainings of `plan` that have no good record in `folder`, which has been prepared.

    `cells` are patterns of the names of those to run; `command` is what goes on with it after an interruption.

    Raises:
        UsageError: if the input is bad.
        Interrupted: on Ctrl-C or SIGTERM.
    """
    from harness.learning.progress import LearningProgress
    from harness.learning.runner import LearningRunner

    progress = LearningProgress(console_on(to_stderr=to_stderr))
    LearningRunner(plan=plan, folder=folder, progress=progress, cells=cells, command=command).run()


def _plan_to_train(suite: str | None, selection: LearningSelection, out: Path | None, *, resume: bool) -> Plan:
    """The plan that was asked for, or on resume the one that the folder keeps."""
    from harness.plan import PlanFile

    if resume and out is None:
        raise UsageError("--resume needs the folder of the run. Add --out DIR.")
    if not resume or out is None or suite is not None or selection.workload is not None:
        return selection.plan(suite)
    given = given_flags(selection)
    if given:
        raise UsageError(
            f"What was begun goes on as it began; {', '.join(given)} cannot change it. Leave that out, or "
            "begin anew in another folder."
        )
    plan = PlanFile(out).read()
    if not plan.learning:
        raise UsageError(f"The run in {out} trains nothing. Go on with it by 'reactorbench run --resume --out {out}'.")
    return plan


def _show(folder: Path, *, figures: bool, as_json: bool) -> ExitStatus:
    from harness.learning.report import write_learning_report

    made: LearningReport = write_learning_report(folder, figures=figures)
    if as_json:
        print_json(made.to_json())
    else:
        made.print(console_on())
    return made.exit_status
