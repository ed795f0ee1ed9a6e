"""What trainings found, for people and for machines: tables, `learning.csv`, `learning.md`, and the learning curves.

Everything is made anew from `learning.jsonl`, which is only read.
"""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ExitStatus, UsageError, writing
from harness.learning.records import LearningFile
from harness.learning.summary import COLUMNS, finding, flat, summarise_learning
from harness.learning.trainings import key_of
from harness.plan import PlanFile
from harness.report import doubts, machine_line, print_closing
from harness.sections import Entry, Section, escaped, in_markdown, on_terminal, write_csv
from harness.statistics import RANGE
from harness.summary import cells_of, exit_status
from harness.wording import (
    DASH,
    Labels,
    in_count,
    in_ratio,
    in_seconds,
    in_si,
    plural,
    plural_of,
    sample_form,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rich.console import Console

    from harness.learning.summary import LearningRow
    from harness.statistics import Estimate

__all__ = ["LearningReport", "markdown_learning", "write_learning_report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningReport:
    """What `write_learning_report` found and wrote."""

    folder: Path
    rows: tuple[LearningRow, ...]
    files: tuple[Path, ...]
    """What was written, below `folder`."""
    warnings: tuple[str, ...]
    """What is odd about the records."""

    @property
    def exit_status(self) -> ExitStatus:
        """3 for a failed or invalid row, else 124 for a timeout, else 4 if nothing was trained, else 0."""
        return exit_status(self.rows)

    def to_json(self) -> dict[str, Any]:
        """The report as plain values; what was not reached is null."""
        return {
            "folder": str(self.folder),
            "exit_status": int(self.exit_status),
            "finding": finding(self.rows),
            "rows": [
                {column: _finite(value) for column, value in flat(row).items()}
                | {"parameters": dict(row.parameters), "options": dict(row.options)}
                for row in self.rows
            ],
            "files": [str(file.relative_to(self.folder)) for file in self.files],
            "warnings": list(self.warnings),
        }

    def print(self, console: Console) -> None:
        """Show the tables, what they say and where the files are."""
        console.print(on_terminal(_sections(self.rows), _closing_notes(self.rows), width=console.width))
        print_closing(console, finding(self.rows), self.warnings, self.folder, self.files)


def write_learning_report(folder: Path, *, figures: bool = True) -> LearningReport:
    """Summarise `folder/learning.jsonl`; write `learning.csv`, `learning.md` and, if wanted, `figures/learning.*`.

    Raises:
        UsageError: if there is no finished training, a line cannot be read, or `folder` cannot be written.
    """
    from harness.learning.figure import remove_learning_figure, write_learning_figure

    file = LearningFile(folder)
    trainings = file.trainings()
    if not trainings:
        raise UsageError(
            f"There is nothing to report in {folder}: {file.path.name} is missing or holds no finished training. "
            f"Train first: reactorbench learn SUITE --out {shlex.quote(str(folder))}"
        )
    rows = tuple(summarise_learning(trainings, PlanFile(folder).read_if_there()))
    records = [trained.record for trained in trainings]
    newest = {key_of(record): record for record in records}.values()
    warnings = doubts(
        file.path,
        [("", record.machine) for record in records],
        [record.busy_before for record in newest if record.outcome != "skipped"],
        noun="training",
    )
    machine = machine_line(record.machine for record in records)
    table, lines = folder / "learning.md", folder / "learning.csv"
    with writing("The report", folder):
        table.write_text(markdown_learning(rows, warnings, machine), encoding="utf-8")
        write_csv(lines, COLUMNS, map(flat, rows))
        remove_learning_figure(folder / "figures")
        drawn = write_learning_figure(rows, folder / "figures", machine) if figures else []
    return LearningReport(folder=folder, rows=rows, files=(lines, table, *drawn), warnings=warnings)


def markdown_learning(rows: Sequence[LearningRow], warnings: Sequence[str], machine: str) -> str:
    """The tables as Markdown; `warnings` below them."""
    parts = [f"{finding(rows)}.", *(block for section in _sections(rows) for block in in_markdown(section))]
    parts += [escaped(note) for note in _closing_notes(rows)]
    parts += [f"Trained on: {machine or 'a machine that the records do not name'}."]
    parts += [escaped(f"Warning: {warning}") for warning in warnings]
    return "\n\n".join(parts) + "\n"


# ------------------------------------------------------------------------------------------ tables


def _sections(rows: Sequence[LearningRow]) -> list[Section]:
    """One for each cell."""
    labels = Labels(rows)
    sections = []
    for cell in cells_of(rows):
        has_updates = any(row.updates_per_s for row in cell)
        has_target = any(row.target is not None for row in cell)
        lines = [_columns(row, labels, has_target=has_target, has_updates=has_updates) for row in cell]
        name = f"{cell[0].name}: " if cell[0].name else ""
        sections.append(
            Section(
                title=f"{name}{cell[0].workload}, {labels.cell(cell[0])}",
                details=labels.other_parameters(cell[0]),
                headings=tuple(lines[0]),
                lines=tuple(tuple(line.values()) for line in lines),
                notes=tuple(_notes(cell, labels)),
            )
        )
    return sections


def _columns(row: LearningRow, labels: Labels, *, has_target: bool, has_updates: bool) -> dict[str, Entry]:
    """The line of `row`: heading to entry."""
    wrong = row.outcome != "ok"
    units, updates = row.units_to_target, row.updates_to_target
    to_target = {
        "reached": Entry(text=f"{row.reached} of {len(row.trained)}" if row.trained else DASH),
        f"{plural_of(row.unit)} to target": _entry(units, _in_whole),
        **({"updates to target": _entry(updates, _in_whole)} if has_updates else {}),
        "time to target": _entry(row.wall_s_to_target, in_seconds),
        "over sequential": _entry(row.over_sequential, in_ratio),
    }
    return {
        "runtime": Entry(
            text=row.runtime,
            remark=", ".join(filter(None, [labels.remarks(row), row.outcome if wrong else ""])),
            style="red" if wrong else "",
        ),
        **(to_target if has_target else {}),
        "last return": _entry(row.last_return, in_return),
        "units/s": _entry(row.units_per_s, in_si),
        **({"updates/s": _entry(row.updates_per_s, in_si)} if has_updates else {}),
    }


def _entry(estimate: Estimate | None, name: Callable[[float], str]) -> Entry:
    if estimate is None:
        return Entry(text=DASH)
    ends = "" if estimate.n == 1 or estimate.low == estimate.high else f"{_named(estimate.low, name)} to "
    return Entry(text=_named(estimate.point, name), remark=f"{ends}{_named(estimate.high, name)}" if ends else "")


def in_return(value: float) -> str:
    """Four significant digits, so that -200.3 does not pass for a target of -200."""
    return f"{value:.4g}"


def _named(value: float, name: Callable[[float], str]) -> str:
    return name(value) if math.isfinite(value) else "never"


def _in_whole(value: float) -> str:
    return in_count(round(value))


def _notes(cell: Sequence[LearningRow], labels: Labels) -> list[str]:
    """What stands below the table of a cell: how it was trained, what the numbers are, what went wrong."""
    record = next((trained.record for row in cell for trained in row.trained), None)
    notes = []
    if record is not None:
        aim = "" if record.target is None else f" The target is a mean return of {record.target:g}."
        until = " or the target" if record.stop_at_target else ""
        notes.append(
            f"Evaluated every {plural(record.every_rounds, 'round')}, {plural(record.episodes, 'episode')} each, until "
            f"{plural(record.cap_rounds, 'round')}{until}.{aim}"
        )
        notes.append(_what_they_are(cell))
    unlike = [row for row in cell if row.target is not None and row.trained and not row.has_reached]
    notes += [
        f"{labels.runtime(row)}: {len(row.trained) - row.reached} of {plural(len(row.trained), 'seed')} did not reach "
        "the target, so there is no ratio of times."
        for row in unlike
    ]
    resumed = sum(trained.record.resumed_at > 0 for row in cell for trained in row.trained)
    notes += [f"{plural(resumed, 'training')} went on after an interruption."] if resumed else []
    return notes + [f"{labels.runtime(row)}: {reason.removesuffix('.')}." for row in cell for reason in row.reasons]


def _what_they_are(cell: Sequence[LearningRow]) -> str:
    medians = [row.last_return for row in cell if row.last_return is not None]
    sentences = [f"Values: {sample_form(medians, 'median', 'median', 'seed')}."]
    ratios = [row.over_sequential for row in cell if row.over_sequential is not None]
    if ratios:
        sentences.append(f"Ratios of times: {sample_form(ratios, 'estimate', 'Hodges-Lehmann estimate', 'seed')}.")
    if any(estimate.kind == RANGE and estimate.n > 1 for estimate in (*medians, *ratios)):
        sentences.append("A range is no interval: with six seeds or more there is one of 95 %.")
    return " ".join(sentences)


def _closing_notes(rows: Sequence[LearningRow]) -> list[str]:
    """What holds for the whole page, once."""
    notes = [f"{name}: {notice}" for name, notice in dict.fromkeys((r.runtime, n) for r in rows for n in r.notices)]
    notes.append(
        "Times are those of training alone, without starts and evaluations. Rates are those of whole trainings."
    )
    others = dict.fromkeys((row.runtime, row.differs) for row in rows if row.differs)
    notes += [
        f"{name} learns something else than the plain loop, so what it learnt is not compared bit for bit, and its "
        f"times are compared as a sample, not seed by seed: {why}."
        for name, why in others
    ]
    return notes


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
