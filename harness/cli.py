"""The command line: `reactorbench run`, `learn`, `report`, `list`, `plan`, `doctor`, `trace`, `verify`, and ten more.

One draws a graph. Five are on the papers: `claims`, `reproduce`, `ladder`, `amortisation` and `replay`. Four, in
`harness.regression`, say whether something changed: `check`, `compare`, `baseline` and `aa`. Exit statuses are those
of `harness.errors.ExitStatus`. Bad input ends in one message on standard error and nothing else; with
`--json`, standard output holds JSON and nothing else. Modules that take time to import wait for the
command that needs them.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, cast

import msgspec
from cyclopts import App, CycloptsError, Parameter

from harness import __version__
from harness.errors import ExitStatus, HarnessError, UsageError, worst_of
from harness.learning.commands import learn
from harness.options import (
    NOTHING,
    Cells,
    Json,
    Reporters,
    Selection,
    Set,
    Suite,
    WorkloadName,
    console_on,
    folder_of,
    given_flags,
    new_folder,
    print_json,
)
from harness.regression import commands as regression
from harness.regression import finished_commands as finished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.learning.report import LearningReport
    from harness.plan import Plan
    from harness.report import Report

__all__ = ["app", "main"]

app = App(
    name="reactorbench",
    help="Compare reactors with Ray and others on parallel reinforcement learning.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)


@app.command
def run(  # noqa: PLR0913 - one argument for each flag
    suite: Suite = None,
    /,
    *,
    selection: Selection = NOTHING,
    cells: Cells = None,
    out: str | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    figures: bool = True,
    reporter: Reporters = None,
    json: Json = False,
) -> ExitStatus:
    """Measure a suite, or one workload, on several runtimes, train what the suite says, and report.

    Parameters
    ----------
    out
        Folder for the results; results/runs/NAME-TIME if not given.
    resume
        Go on with the run in --out: what has no good record yet runs again. May name more blocks than it began with.
    figures
        Draw figures at the end.
    """
    from harness.learning.commands import train
    from harness.plan import PlanFile, select_cells, select_learning
    from harness.progress import progress_on, rows_of
    from harness.reporters import checked_names
    from harness.runner import Runner, prepare_folder

    reporters = checked_names(reporter or [])
    asked = folder_of(out)
    plan = _plan_to_run(suite, selection, asked, resume=resume)
    measured, trained = select_cells(plan, cells or []), select_learning(plan, cells or [])
    folder = asked or new_folder(plan.name)
    prepare_folder(folder, resume=resume)
    PlanFile(folder).keep(plan, resume=resume)
    if measured:
        Runner(
            plan=plan, folder=folder, progress=progress_on(console_on(to_stderr=json), rows_of(plan)), cells=cells or []
        ).run()
    if trained:
        train(plan, folder, cells or [], to_stderr=json, command="run")
    return _reported(folder, reporters, figures=figures, as_json=json)


app.command(learn)


@app.command
def report(  # noqa: PLR0913 - one argument for each flag
    folder: Annotated[Path, Parameter(help="Results folder of a run, of trainings, or of a check.")],
    /,
    *,
    figures: bool = True,
    margin: float | None = None,
    beyond: float | None = None,
    target: float | None = None,
    html: Annotated[bool, Parameter(negative="")] = False,
    reporter: Reporters = None,
    json: Json = False,
) -> ExitStatus:
    """Make the tables and figures of a run or of trainings, or the verdicts of a check, anew from their records.

    Parameters
    ----------
    figures
        Draw figures too; a check has none.
    margin
        Judge a check again: a cell is the same within this fraction of no change. The check's own if not given.
    beyond
        Judge a check again: slower or faster wholly beyond this fraction.
    target
        Judge a check again: the slowdown that must not pass unseen.
    html
        Write report.html too: one file for a browser.
    """
    from harness.regression.check import DesignFile
    from harness.reporters import checked_names

    reporters = checked_names(reporter or [])
    if DesignFile(folder).path.exists() and reporters:
        raise UsageError(f"{folder} holds a check, and reporters are given the rows of a run. Leave --reporter out.")
    if DesignFile(folder).path.exists():
        return regression.report_check(folder, margin=margin, beyond=beyond, target=target, html=html, as_json=json)
    if any(given is not None for given in (margin, beyond, target)):
        raise UsageError(
            f"{folder} holds no check, so there are no verdicts to judge by other margins. Name the folder of a check, "
            "or compare two runs: reactorbench compare A B --margin ..."
        )
    return _reported(folder, reporters, figures=figures, html=html, as_json=json)


@app.command
def claims(
    folder: Annotated[
        Path, Parameter(help="Results folder of a run of the suite paper, paper-small or replay, or of training.")
    ],
    /,
) -> ExitStatus:
    """Judge the papers' claims by a run: tables on standard output, and claims.md and claims.csv in the folder.

    What PAL claims, of replay buffers and training, goes into claims-pal.md and claims-pal.csv.
    """
    from harness.claims import write_claims
    from harness.learning.records import LearningFile
    from harness.pal import is_on_pal
    from harness.pal_report import write_pal
    from harness.records import RecordFile

    on_pal = [is_on_pal(record) for record in RecordFile(folder).read()]
    on_pal += [True for _ in LearningFile(folder).trainings()]
    tables = [write_claims] if not all(on_pal) or not on_pal else []
    for write in [*tables, *([write_pal] if any(on_pal) else [])]:
        text, files = write(folder)
        sys.stdout.write(text)
        sys.stderr.write(f"{folder}: {', '.join(file.name for file in files)}\n")
    return ExitStatus.OK


@app.command
def reproduce(
    *figures: Annotated[int, Parameter(help="Figures of the paper, 1 to 6; all if none is named.")],
    suite: str = "paper-small",
    invocations: int | None = None,
    out: str | None = None,
    run: bool = True,
) -> ExitStatus:
    """Draw figures of the paper anew: measure their cells, but for those that are there already, then draw.

    Parameters
    ----------
    suite
        The suite to measure with: paper-small, or paper with the published rounds.
    invocations
        Blocks; more than the suite's or those that are there add to them (6 or more give intervals).
    out
        Folder for the results; results/runs/SUITE if not given.
    run
        Measure what is not there; without, only draw.
    """
    from harness.claims import write_claims
    from harness.paper import experiments
    from harness.paper_figures import cells_of_figures, write_paper_figures

    numbers = list(figures) or [one.number for one in experiments()]
    cells = cells_of_figures(numbers)
    folder = _measured(suite, cells, invocations, out, run=run)
    written = write_paper_figures(folder, numbers)
    _, tables = write_claims(folder)
    sys.stdout.write("".join(f"{file}\n" for file in [*written, *tables]))
    return ExitStatus.OK


_Small = Annotated[bool, Parameter(negative="", help="One block, for a quick look; others can be added later.")]
_Invocations = Annotated[
    int | None,
    Parameter(help="Blocks; more than the suite's or those that are there add to them (6 or more give intervals)."),
]
_Measured = Annotated[bool, Parameter(help="Measure what is not there; without, only draw.")]


@app.command
def ladder(
    *figures: Annotated[int, Parameter(help="Figures of the paper, 1 to 6; all if none is named.")],
    suite: str = "ladder",
    invocations: _Invocations = None,
    small: _Small = False,
    out: str | None = None,
    run: _Measured = True,
) -> ExitStatus:
    """From the published Ray program to the best one, step by step: measure what is not there, then table and figure.

    Parameters
    ----------
    suite
        The suite to measure with: ladder, or a copy of it as a TOML file with other rounds, say.
    out
        Folder for the results; results/runs/SUITE if not given.
    """
    from harness.ladder_report import write_ladder
    from harness.paper_figures import cells_of_figures

    cells = cells_of_figures(list(figures))
    folder = _measured(suite, cells, _blocks(invocations, small=small), out, run=run)
    return _show_written(*write_ladder(folder))


@app.command
def amortisation(  # noqa: PLR0913 - one argument for each flag
    *,
    suite: str = "amortisation",
    cells: Cells = None,
    invocations: _Invocations = None,
    small: _Small = False,
    out: str | None = None,
    run: _Measured = True,
) -> ExitStatus:
    """How much batching makes Ray free: measure what is not there, then table and figure.

    Parameters
    ----------
    suite
        The suite to measure with: amortisation, or a TOML file with other environments or numbers of steps, say.
    out
        Folder for the results; results/runs/SUITE if not given.
    """
    from harness.amortisation_report import write_amortisation

    folder = _measured(suite, cells or [], _blocks(invocations, small=small), out, run=run)
    return _show_written(*write_amortisation(folder))


@app.command
def replay(  # noqa: PLR0913 - one argument for each flag
    *,
    suite: str = "replay",
    cells: Cells = None,
    invocations: _Invocations = None,
    small: _Small = False,
    out: str | None = None,
    run: _Measured = True,
) -> ExitStatus:
    """Replay buffers, ours against other libraries': measure what is not there, then tables, bars and figures.

    Parameters
    ----------
    suite
        The suite to measure with: replay, replay-sweep for our tree by its size, or a TOML file with other sizes.
    out
        Folder for the results; results/runs/SUITE if not given.
    """
    from harness.replay_report import write_replay

    folder = _measured(suite, cells or [], _blocks(invocations, small=small), out, run=run)
    return _show_written(*write_replay(folder))


def _blocks(invocations: int | None, *, small: bool) -> int | None:
    """How many blocks were asked for, if any number was.

    Raises:
        UsageError: if two numbers were.
    """
    if small and invocations is not None:
        raise UsageError(
            f"--small is --invocations 1, and does not go with --invocations {invocations}. Leave one out."
        )
    return 1 if small else invocations


def _show_written(text: str, files: Sequence[Path]) -> ExitStatus:
    sys.stdout.write(text)
    sys.stderr.write("".join(f"{file}\n" for file in files))
    return ExitStatus.OK


def _measured(suite: str, cells: Sequence[str], invocations: int | None, out: str | None, *, run: bool) -> Path:
    """The folder of a run of `suite`; what of `cells` it has no good record of is measured, unless `run` is false.

    Raises:
        UsageError: as `_measure_cells`.
    """
    folder = folder_of(out) or Path("results", "runs", Path(suite).stem)
    if run:
        _measure_cells(suite, cells, invocations, folder)
    return folder


def _measure_cells(suite: str, cells: Sequence[str], invocations: int | None, folder: Path) -> None:
    """Measure those `cells` of `suite` that `folder` has no good record of; begin a run there if there is none.

    Raises:
        UsageError: if `folder` holds another run, or the input is bad.
    """
    from harness.plan import PlanFile, select_cells
    from harness.progress import progress_on, rows_of
    from harness.report import write_report
    from harness.runner import Runner, prepare_folder

    file = PlanFile(folder)
    stored = file.read().invocations if file.path.exists() else None
    plan = Selection(invocations=invocations).plan(suite)
    if stored is not None and stored > plan.invocations:
        plan = Selection(invocations=stored).plan(suite)
    select_cells(plan, cells)
    prepare_folder(folder, resume=True)
    file.keep(plan, resume=True)
    Runner(plan=plan, folder=folder, progress=progress_on(console_on(to_stderr=True), rows_of(plan)), cells=cells).run()
    write_report(folder, figures=False)


@app.command(name="list")
def list_all(*, json: Json = False) -> ExitStatus:
    """Show suites, workloads and runtimes, with their parameters and options, metrics and reporters."""
    from harness.listing import listing, print_listing

    if json:
        print_json(listing())
    else:
        print_listing(console_on())
    return ExitStatus.OK


@app.command
def doctor(*, json: Json = False) -> ExitStatus:
    """Say what is missing, noisy or mis-set on this machine for measuring, and how to mend it; takes four seconds."""
    from harness.doctor import examine, print_examination, told_on

    with told_on(console_on(to_stderr=True)) as tell:
        examination = examine(tell)
    if json:
        print_json(examination.to_json())
    else:
        print_examination(examination, console_on())
    return ExitStatus.OK


@app.command
def plan(
    suite: Suite = None, /, *, selection: Selection = NOTHING, cells: Cells = None, json: Json = False
) -> ExitStatus:
    """Check the input as `run` does, and show what it would do, in order, with an estimate of the time."""
    from harness.plan import select_cells, select_learning
    from harness.planned import planned, print_planned
    from harness.runner import check_plan

    found = selection.plan(suite)
    measured, trained = select_cells(found, cells or []), select_learning(found, cells or [])
    found = msgspec.structs.replace(found, cells=tuple(measured), learning=tuple(trained))
    checked = check_plan(found)
    if json:
        print_json(planned(found, checked))
    else:
        print_planned(found, checked, console_on())
    return ExitStatus.OK


@app.command
def trace(  # noqa: PLR0913 - one argument for each flag
    workload: WorkloadName,
    /,
    *,
    set_: Set = None,
    runtime: str | None = None,
    rounds: int = 100,
    seed: int = 0,
    timeout_s: float = 300.0,
    output: Path | None = None,
    record: Path | None = None,
) -> ExitStatus:
    """Run a workload with a timeline: shows where its time goes, and writes a file for ui.perfetto.dev.

    Parameters
    ----------
    set_
        KEY=VALUE: a parameter of the workload; may be given several times.
    runtime
        NAME or NAME:key=value,key=value: a runtime that can be traced; the first one if not given.
    rounds
        How many rounds.
    seed
        Seed of the workload.
    timeout_s
        Seconds after which the run is ended with all its processes.
    output
        File for the timeline; WORKLOAD-timeline.json if not given.
    record
        File for what was computed, which `verify` compares with that of another run; its digests take time too.
    """
    from harness.tracing import trace_workload

    timeline = output or Path(f"{workload}-timeline.json")
    summary = trace_workload(
        workload,
        set_ or [],
        runtime,
        rounds=rounds,
        seed=seed,
        timeout_s=timeout_s,
        timeline=timeline,
        recording=record,
    )
    sys.stdout.write(f"{summary}\n\nOpen {timeline} in https://ui.perfetto.dev to see it.\n")
    return ExitStatus.OK


@app.command
def verify(
    first: Annotated[Path, Parameter(help="What `trace --record` wrote.")],
    second: Annotated[Path, Parameter(help="What it wrote in another run.")],
    /,
    *,
    runtime: str | None = None,
) -> ExitStatus:
    """Compare what two runs computed; name the first difference. Exit status 1 if there is one.

    Parameters
    ----------
    runtime
        The runtime that wrote both; the first that can be traced if not given.
    """
    from harness.tracing import difference

    found = difference(first, second, runtime)
    sys.stdout.write(f"{found or 'The traces are equal.'}\n")
    return ExitStatus.OK if found is None else ExitStatus.DIFFERENT


@app.command
def graph(
    workload: WorkloadName,
    /,
    *,
    set_: Set = None,
    format_: Annotated[Literal["mermaid", "dot", "svg"] | None, Parameter(name="--format")] = None,
    output: Path | None = None,
) -> ExitStatus:
    """Draw a workload's dataflow graph: tasks, banks, edges and what they carry. SVG needs Graphviz.

    Parameters
    ----------
    set_
        KEY=VALUE: a parameter of the workload; may be given several times.
    format_
        What to draw it as; what the suffix of --output says if not given, else mermaid.
    output
        File for the drawing; standard output if not given.
    """
    from harness.graphing import draw_workload

    text = draw_workload(workload, set_ or [], format_, output)
    if output is None:
        sys.stdout.write(text)
    return ExitStatus.OK


app.command(regression.check)
app.command(regression.aa)
app.command(finished.compare)
app.command(finished.baseline)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    with redirect_stdout(cast("TextIO", _Unbroken(sys.stdout))):
        status = _status_of(sys.argv[1:] if arguments is None else list(arguments))
    sys.exit(int(status))


class _Unbroken:
    """Standard output that may close while it is written to: what a command found is no different for that."""

    def __init__(self, stream: TextIO | None) -> None:
        """Write to `stream`; None where there is none from the first."""
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or drop it if nobody reads."""
        self._carefully(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Have it written."""
        self._carefully(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _carefully(self, act: Callable[[TextIO], object]) -> None:
        if self._stream is None:
            return
        try:
            act(self._stream)
        except BrokenPipeError:
            # Python would complain once more when it closes the stream.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _status_of(tokens: list[str]) -> ExitStatus:
    """Run one command; errors become a message on standard error."""
    try:
        status = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except HarnessError as error:
        return _failed(error, error.status)
    except CycloptsError as error:
        return _failed(f"{str(error).strip()} 'reactorbench --help' shows the usage.", ExitStatus.USAGE)
    except KeyboardInterrupt:
        return _failed("Interrupted.", ExitStatus.INTERRUPTED)
    except OSError as error:
        return _failed(f"{error}. Make room or repair that, then go on with --resume.", ExitStatus.FAILED_OR_INVALID)
    except Exception:  # noqa: BLE001 - Python's own status for it, 1, means a confirmed regression
        traceback.print_exc()
        return _failed("This is a defect of reactorbench.", ExitStatus.FAILED_OR_INVALID)
    return status if isinstance(status, ExitStatus) else ExitStatus.OK


def _failed(message: object, status: ExitStatus) -> ExitStatus:
    sys.stderr.write(f"{message}\n")
    return status


def _plan_to_run(suite: str | None, selection: Selection, out: Path | None, *, resume: bool) -> Plan:
    """The plan that was asked for, or on resume the one that the folder keeps."""
    from harness.plan import PlanFile

    if resume and out is None:
        raise UsageError("--resume needs the folder of the run. Add --out DIR.")
    if not resume or out is None or suite is not None or selection.workload is not None:
        return selection.plan(suite)
    given = given_flags(selection)
    if given:
        raise UsageError(
            f"A run is resumed with the plan it began with; {', '.join(given)} cannot change it. "
            "Leave that out, or begin a new run in another folder."
        )
    return PlanFile(out).read()


def _reported(
    folder: Path, reporters: Sequence[str], *, figures: bool, as_json: bool, html: bool = False
) -> ExitStatus:
    """Write the report on `folder`, also in the forms of `reporters`, and show it; what was trained comes last."""
    from harness.learning.records import LearningFile
    from harness.learning.report import write_learning_report
    from harness.records import RecordFile
    from harness.report import report_with

    was_trained, was_measured = (file(folder).path.exists() for file in (LearningFile, RecordFile))
    trained = write_learning_report(folder, figures=figures) if was_trained else None
    if trained is not None and not was_measured:
        if reporters or html:
            raise UsageError(
                f"{folder} holds trainings alone, and other forms of a report show what was measured. "
                "Leave --reporter and --html out."
            )
        return _show(trained, None, as_json=as_json)
    made, failures = report_with(folder, reporters, figures=figures)
    if html:
        from harness.page import write_run_page

        made = replace(made, files=(*made.files, write_run_page(folder)))
    status = _show(made, trained, as_json=as_json)
    return _failed("\n".join(failures), ExitStatus.FAILED_OR_INVALID) if failures else status


def _show(made: Report | LearningReport, also: LearningReport | None, *, as_json: bool) -> ExitStatus:
    reports = [made] if also is None else [made, also]
    if as_json:
        print_json(made.to_json() if also is None else made.to_json() | {"learning": also.to_json()})
    else:
        for one in reports:
            one.print(console_on())
    statuses = {one.exit_status for one in reports}
    # One part that did nothing does not spoil what the other did.
    return worst_of(statuses - {ExitStatus.NOTHING_MEASURED} or statuses)
