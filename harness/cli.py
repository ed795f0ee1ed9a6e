"""The command line: `reactorbench run`, `report`, `list`, `plan`, `trace`, `verify` and `graph`.

Exit statuses are those of `harness.errors.ExitStatus`. Bad input ends in one message on standard error
and nothing else; with `--json`, standard output holds JSON and nothing else. Modules that take time to
import wait for the command that needs them.
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from harness import __version__
from harness.errors import ExitStatus, HarnessError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.plan import Plan
    from harness.report import Report

__all__ = ["app", "main"]

_UNBOUNDED_WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""

app = App(
    name="reactorbench",
    help="Compare reactors with Ray and others on parallel reinforcement learning.",
    version=__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)

_Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON on standard output, nothing else.")]
_Suite = Annotated[str | None, Parameter(help="A shipped suite by name, or the path of a TOML file.")]
_Workload = Annotated[str, Parameter(help="A workload by name.")]
_Set = Annotated[list[str] | None, Parameter(name="--set", negative="")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to run; what is given overrides the suite."""

    workload: str | None = None
    """A workload, instead of a suite."""
    set_: _Set = None
    """KEY=VALUE: a parameter of --workload; may be given several times."""
    runtime: Annotated[list[str] | None, Parameter(negative="")] = None
    """NAME or NAME:key=value,key=value: a runtime with its options; may be given several times."""
    invocations: int | None = None
    """Blocks: passes over the runtimes of each cell."""
    warmup_rounds: int | None = None
    """Unmeasured rounds at first, equal for all runtimes (50 where no suite says otherwise)."""
    rounds: int | None = None
    """Least number of measured rounds; the digest is taken after them."""
    measure_s: float | None = None
    """Seconds of measured rounds; a runtime that is done with the rounds sooner goes on (1)."""
    timeout_s: float | None = None
    """Seconds after which an invocation is ended with all its processes."""
    seed: int | None = None
    """Seed of block 0; block b uses seed + b."""

    def given(self) -> list[str]:
        """The flags that were given."""
        names = {name: "--" + name.strip("_").replace("_", "-") for name in asdict(self)}
        return [names[name] for name, value in asdict(self).items() if value is not None]

    def plan(self, suite_name: str | None) -> Plan:
        """The plan for this selection.

        Raises:
            UsageError: if it makes none.
        """
        from harness.arguments import parse_assignments
        from harness.suite import plan_of, read_suite, suite_of_workload

        if (suite_name is None) == (self.workload is None):
            raise UsageError(
                "Name either a suite or a workload: reactorbench run quick, or reactorbench run --workload NAME "
                "--runtime NAME. 'reactorbench list' shows what there is."
            )
        if self.workload is not None:
            suite = suite_of_workload(self.workload, parse_assignments(self.set_ or [], flag="--set"))
        elif self.set_:
            raise UsageError("--set goes with --workload. To change parameters of a suite, copy its TOML file.")
        else:
            assert suite_name is not None
            suite = read_suite(suite_name)
        numbers = ("invocations", "warmup_rounds", "rounds", "measure_s", "timeout_s", "seed")
        overrides = {name: value for name in numbers if (value := getattr(self, name)) is not None}
        return plan_of(suite, overrides, self.runtime or [])


_NOTHING = Selection()


@app.command
def run(  # noqa: PLR0913 - one argument for each flag
    suite: _Suite = None,
    /,
    *,
    selection: Selection = _NOTHING,
    out: str | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    figures: bool = True,
    json: _Json = False,
) -> ExitStatus:
    """Measure a suite, or one workload, on several runtimes, and report.

    Parameters
    ----------
    out
        Folder for the results; results/runs/NAME-TIME if not given.
    resume
        Go on with the run in --out: what has no good record yet runs again.
    figures
        Draw figures at the end.
    """
    from harness.plan import PlanFile
    from harness.progress import progress_on
    from harness.report import write_report
    from harness.runner import Runner, prepare_folder

    asked = _folder(out)
    plan = _plan_to_run(suite, selection, asked, resume=resume)
    folder = asked or Path("results", "runs", f"{plan.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    prepare_folder(folder, resume=resume)
    file = PlanFile(folder)
    if resume and file.path.exists():
        file.check_equal(plan)
    else:
        file.write(plan)
    Runner(plan=plan, folder=folder, progress=progress_on(_console(to_stderr=json))).run()
    return _show(write_report(folder, figures=figures), as_json=json)


@app.command
def report(
    folder: Annotated[Path, Parameter(help="Results folder of a run.")],
    /,
    *,
    figures: bool = True,
    json: _Json = False,
) -> ExitStatus:
    """Make the tables and figures of a run anew from its records.

    Parameters
    ----------
    figures
        Draw figures too.
    """
    from harness.report import write_report

    return _show(write_report(folder, figures=figures), as_json=json)


@app.command(name="list")
def list_all(*, json: _Json = False) -> ExitStatus:
    """Show suites, workloads and runtimes, with their parameters and options."""
    from harness.listing import listing, print_listing

    if json:
        _print_json(listing())
    else:
        print_listing(_console())
    return ExitStatus.OK


@app.command
def plan(suite: _Suite = None, /, *, selection: Selection = _NOTHING, json: _Json = False) -> ExitStatus:
    """Check the input as `run` does, and show what it would do, in order, with an estimate of the time."""
    from harness.planned import planned, print_planned
    from harness.runner import check_plan

    found = selection.plan(suite)
    check_plan(found)
    if json:
        _print_json(planned(found))
    else:
        print_planned(found, _console())
    return ExitStatus.OK


@app.command
def trace(  # noqa: PLR0913 - one argument for each flag
    workload: _Workload,
    /,
    *,
    set_: _Set = None,
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
    workload: _Workload,
    /,
    *,
    set_: _Set = None,
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    status = _status_of(sys.argv[1:] if arguments is None else list(arguments))
    sys.exit(int(status))


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
    except BrokenPipeError:
        # Whoever read the output has enough; Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    except OSError as error:
        return _failed(f"{error}. Make room or repair that, then go on with --resume.", ExitStatus.FAILED_OR_INVALID)
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
    if selection.given():
        raise UsageError(
            f"A run is resumed with the plan it began with; {', '.join(selection.given())} cannot change it. "
            "Leave that out, or begin a new run in another folder."
        )
    return PlanFile(out).read()


def _folder(out: str | None) -> Path | None:
    """The folder that --out names.

    Raises:
        UsageError: for an empty name, which a path would take for the current folder.
    """
    if out is not None and not out.strip():
        raise UsageError("The folder after --out has an empty name. Name one, or leave --out away.")
    return None if out is None else Path(out)


def _show(made: Report, *, as_json: bool) -> ExitStatus:
    if as_json:
        _print_json(made.to_json())
    else:
        made.print(_console())
    return made.exit_status


def _print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _console(*, to_stderr: bool = False) -> Console:
    """Standard output, or standard error; wide where it is no terminal."""
    console = Console(stderr=to_stderr)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(stderr=to_stderr, width=_UNBOUNDED_WIDTH)
