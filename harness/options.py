"""What commands have in common: the options that several of them take, and where their output goes."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from harness.errors import UsageError
from harness.wording import indented_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from harness.plan import Plan

__all__ = [
    "NOTHING",
    "Cells",
    "Json",
    "Reporters",
    "Selection",
    "Set",
    "Suite",
    "WorkloadName",
    "console_on",
    "folder_of",
    "given_flags",
    "new_folder",
    "print_json",
]

_NUMBERS = ("invocations", "warmup_rounds", "rounds", "measure_s", "timeout_s", "seed")
"""What overrides a suite's settings."""
_UNBOUNDED_WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON on standard output, nothing else.")]
Cells = Annotated[
    list[str] | None,
    Parameter(negative="", help="Only the cells of the suite whose names match, as 'figure1-*'; several times."),
]
Reporters = Annotated[
    list[str] | None,
    Parameter(name="--reporter", negative="", help="NAME: another form to write the report in; several times."),
]
Suite = Annotated[str | None, Parameter(help="A shipped suite by name, or the path of a TOML file.")]
WorkloadName = Annotated[str, Parameter(help="A workload by name.")]
Set = Annotated[list[str] | None, Parameter(name="--set", negative="")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to run; what is given overrides the suite."""

    workload: str | None = None
    """A workload, instead of a suite."""
    set_: Set = None
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
    metric: Annotated[list[str] | None, Parameter(negative="")] = None
    """NAME: what else to measure, as cpu_s; may be given several times."""

    def words(self) -> list[str]:
        """The command line that makes this selection."""
        found = [f"--workload={self.workload}"] if self.workload is not None else []
        found += [f"--set={setting}" for setting in self.set_ or ()]
        found += [f"--runtime={runtime}" for runtime in self.runtime or ()]
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        given = {name.replace("_", "-"): value for name, value in numbers.items() if value is not None}
        found += [f"--metric={metric}" for metric in self.metric or ()]
        return [*found, *(f"--{name}={value}" for name, value in given.items())]

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
        overrides = {name: value for name in _NUMBERS if (value := getattr(self, name)) is not None}
        of_learning = {"timeout_s": self.timeout_s} if self.timeout_s is not None else {}
        if self.metric:
            overrides["metrics"] = self.metric
        return plan_of(suite, overrides, self.runtime or [], of_learning)


NOTHING = Selection()


def given_flags(selection: DataclassInstance) -> list[str]:
    """The flags of `selection` that were given."""
    return ["--" + name.strip("_").replace("_", "-") for name, value in asdict(selection).items() if value is not None]


def new_folder(name: str) -> Path:
    """Where results go if nobody says where: a folder of this name and moment."""
    return Path("results", "runs", f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")


def folder_of(out: str | None) -> Path | None:
    """The folder that --out names.

    Raises:
        UsageError: for an empty name, which a path would take for the current folder.
    """
    if out is not None and not out.strip():
        raise UsageError("The folder after --out has an empty name. Name one, or leave --out away.")
    return None if out is None else Path(out)


def print_json(value: Any) -> None:
    """Print `value` on standard output, as JSON for people to read too."""
    sys.stdout.write(indented_json(value).decode())


def console_on(*, to_stderr: bool = False) -> Console:
    """Standard output, or standard error; wide where it is no terminal."""
    console = Console(stderr=to_stderr)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(stderr=to_stderr, width=_UNBOUNDED_WIDTH)
