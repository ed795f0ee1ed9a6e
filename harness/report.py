"""What a run found, for people and for machines: the table, `summary.csv`, `table.md`, figures.

Everything is made anew from `records.jsonl`, which is only read: a report can be made while a run
still appends to it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ExitStatus, UsageError
from harness.plan import PlanFile, in_plan_order, key_of
from harness.records import BUSY, RecordFile
from harness.scaling import scalings
from harness.sections import Entry, Section, escaped, fits, in_markdown, on_terminal, write_csv
from harness.statistics import INTERVAL
from harness.summary import COLUMNS, SEQUENTIAL, cells_of, exit_status, finding, flat, summarise
from harness.totals import BEST_RAY, totals
from harness.totals import COLUMNS as TOTALS_COLUMNS
from harness.totals import flat as flat_totals
from harness.wording import (
    DASH,
    Labels,
    compact_json,
    in_bytes,
    in_count,
    in_fraction,
    in_ratio,
    in_seconds,
    in_si,
    mean_form,
    plural,
    plural_of,
    ratio_form,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from harness.records import Record
    from harness.scaling import Fit, Scaling
    from harness.statistics import Estimate
    from harness.summary import SummaryRow
    from harness.totals import Totals

__all__ = [
    "Report",
    "doubts",
    "machine_line",
    "markdown_table",
    "print_closing",
    "report_with",
    "summary_table",
    "warning_lines",
    "warnings_of",
    "write_report",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `write_report` found and wrote."""

    folder: Path
    rows: tuple[SummaryRow, ...]
    files: tuple[Path, ...]
    """What was written, below `folder`."""
    warnings: tuple[str, ...]
    """What is odd about the records."""

    @property
    def exit_status(self) -> ExitStatus:
        """3 for a failed or invalid row, else 124 for a timeout, else 4 if nothing was measured, else 0."""
        return exit_status(self.rows)

    def to_json(self) -> dict[str, Any]:
        """The report as plain values; each row has the columns of `summary.csv`, parameters and options as mappings."""
        return {
            "folder": str(self.folder),
            "exit_status": int(self.exit_status),
            "finding": finding(self.rows),
            "rows": [
                flat(row)
                | {"parameters": dict(row.parameters), "options": dict(row.options), "metrics": dict(row.metrics)}
                for row in self.rows
            ],
            "totals": flat_totals(totals(self.rows).values()),
            "files": [str(file.relative_to(self.folder)) for file in self.files],
            "warnings": list(self.warnings),
        }

    def print(self, console: Console) -> None:
        """Show the table, what it found and where the files are."""
        console.print(summary_table(self.rows, width=console.width))
        print_closing(console, finding(self.rows), self.warnings, self.folder, self.files)


def write_report(folder: Path, *, figures: bool = True) -> Report:
    """Summarise `folder/records.jsonl`; write `summary.csv`, `table.md` and, unless `figures` is false, `figures/`.

    `totals.csv` is written where some workload has two or more cells.

    Raises:
        UsageError: if there are no records, one of them cannot be read, or `folder` cannot be written.
    """
    file = RecordFile(folder)
    records = file.read()
    if not records:
        raise UsageError(
            f"There is nothing to report in {folder}: {file.path.name} is missing or holds no whole record. "
            f"Measure first: reactorbench run SUITE --out {shlex.quote(str(folder))}"
        )
    rows = summarise(in_plan_order(records, PlanFile(folder).read_if_there()))
    warnings = warnings_of(file, records)
    try:
        files = [_write_csv(rows, folder / "summary.csv"), _write_markdown(rows, warnings, folder / "table.md")]
        files += _write_totals(rows, folder / "totals.csv")
        files += _renew_figures(rows, records, folder / "figures", wanted=figures)
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError | IsADirectoryError | NotADirectoryError)
        remedy = "Move that away." if in_the_way else "Make room, or make it writable."
        raise UsageError(
            f"The report cannot be written: {error.filename or folder}: {error.strerror or error}. {remedy}"
        ) from error
    return Report(folder=folder, rows=tuple(rows), files=tuple(files), warnings=warnings)


def print_closing(console: Console, says: str, warnings: Sequence[str], folder: Path, files: Sequence[Path]) -> None:
    """Below the tables of a report: what they say, what is odd, and which `files` it wrote below `folder`."""
    console.print(f"\n{says}.", style="bold", highlight=False, markup=False)
    for warning in warnings:
        console.print(f"Warning: {warning}", style="yellow", highlight=False, markup=False)
    names = ", ".join(str(file.relative_to(folder)) for file in files)
    console.print(f"{folder}: {names}", style="dim", highlight=False, markup=False, soft_wrap=True)


def report_with(folder: Path, reporters: Sequence[str], *, figures: bool) -> tuple[Report, tuple[str, ...]]:
    """As `write_report`, and the same in the forms of `reporters`; what those say that failed."""
    from dataclasses import replace

    from harness.reporters import write_with

    made = write_report(folder, figures=figures)
    records = RecordFile(folder).read() if reporters else []
    also = write_with(reporters, folder, records, made.rows)
    return replace(made, files=(*made.files, *also.files)), also.failures


def _renew_figures(rows: Sequence[SummaryRow], records: Sequence[Record], folder: Path, *, wanted: bool) -> list[Path]:
    """Take old figures away, which would show something else, and draw new ones where they are wanted."""
    from harness.figures import remove_figures, write_figures

    remove_figures(folder)
    return write_figures(rows, folder, machine_line(record.machine for record in records)) if wanted else []


def machine_line(machines: Iterable[Mapping[str, Any]]) -> str:
    """The machine in a few words, from the newest record that knows: `Intel Xeon, 2 processors`; else empty."""
    known: Mapping[str, Any] = next((machine for machine in reversed(list(machines)) if machine), {})
    model = known.get("cpu_model") or known.get("architecture")
    processors = known.get("processors")
    parts = [
        str(model) if model else "",
        plural(processors, "processor") if isinstance(processors, int) else "",
    ]
    return ", ".join(part for part in parts if part)


def warnings_of(file: RecordFile, records: Sequence[Record]) -> tuple[str, ...]:
    """What makes the numbers of `records`, which are those of `file`, doubtful."""
    newest = {key_of(record): record for record in records}.values()
    return doubts(
        file.path,
        # The sides of a check are meant to differ.
        [(record.side, record.machine) for record in records],
        [record.busy_before for record in newest if record.outcome != "skipped"],
        noun="invocation",
    )


def doubts(
    path: Path, machines: Sequence[tuple[str, Mapping[str, Any]]], busy_before: Sequence[float], *, noun: str
) -> tuple[str, ...]:
    """What makes the numbers of a file of records doubtful.

    `machines` are those of all lines, each with the version of the program that ran; `busy_before` what others did
    before each `noun` that counts.
    """
    warnings = []
    if not path.read_bytes().endswith(b"\n"):
        warnings.append(f"The last line of {path.name} was cut in two; it does not count.")
    known = [(side, machine) for side, machine in machines if machine]
    if len({machine_line([machine]) for _, machine in known}) > 1:
        warnings.append("The records come from different machines; ratios across them mean little.")
    versions = {compact_json([side, machine.get("python"), machine.get("packages")]) for side, machine in known}
    if len(versions) > len({side for side, _ in known}):
        warnings.append("The records come from different versions of Python or of packages; pairs may mix them.")
    busy = [share for share in busy_before if share > BUSY]
    if busy:
        warnings.append(
            f"{len(busy)} of {plural(len(busy_before), noun)} began while other programs were busy, with up to "
            f"{max(busy) * 100:.0f} % of all processors; parallel runtimes suffer most from that. "
            "Measure again on a quiet machine."
        )
    return tuple(warnings)


def warning_lines(file: RecordFile, records: Sequence[Record]) -> str:
    """The same as paragraphs of Markdown, to stand below a table; empty if there are none."""
    return "".join(f"\nWarning: {warning}\n" for warning in warnings_of(file, records))


# ------------------------------------------------------------------------------------------- tables


_NO_TERMINAL = 80
"""Columns that rich assumes where there is no terminal."""


def summary_table(rows: Sequence[SummaryRow], *, width: int = _NO_TERMINAL, cells_only: bool = False) -> Table:
    """The table for a terminal: a section for each cell, low and high below each number, notes below the section.

    `cells_only` leaves out what sums up several, as suits a run that goes on. Where not everything fits into `width`
    columns, the column "per core" gives way, which other columns imply.
    """
    sections = _sections(rows, cells_only=cells_only)
    if not fits(sections, width):
        sections = _sections(rows, cells_only=cells_only, without=("per core",))
    return on_terminal(sections, _closing_notes(rows, sections), width=width)


def markdown_table(rows: Sequence[SummaryRow], warnings: Sequence[str] = ()) -> str:
    """The same table as Markdown: a heading, a pipe table and the notes for each cell; `warnings` below them."""
    sections = _sections(rows)
    parts = [f"{finding(rows)}.", *(block for section in sections for block in in_markdown(section))]
    parts += [escaped(note) for note in _closing_notes(rows, sections)]
    parts += [escaped(f"Warning: {warning}") for warning in warnings]
    return "\n\n".join(parts) + "\n"


def _sections(rows: Sequence[SummaryRow], *, cells_only: bool = False, without: Collection[str] = ()) -> list[Section]:
    """One for each cell, and below the last cell of a workload one for all of them; `without` are optional columns."""
    labels = Labels(rows)
    columns = {heading for row in rows for heading, known in _optional(row).items() if known is not None} - {*without}
    cells = cells_of(rows)
    last = {cell[0].workload: number for number, cell in enumerate(cells)}
    across = {} if cells_only else totals(rows)
    sections = []
    for number, cell in enumerate(cells):
        lines = [_columns(row, labels, columns) for row in cell]
        growing = [] if cells_only else scalings(cell)
        sections.append(
            Section(
                title=f"{cell[0].workload}: {labels.cell(cell[0])}",
                details=labels.other_parameters(cell[0]),
                headings=tuple(lines[0]),
                lines=tuple(tuple(line.values()) for line in lines),
                notes=tuple(_notes(cell, labels, growing)),
            )
        )
        sections += [_scaling_section(cell[0], one, growing, labels) for one in growing if one.problem is None]
        workload = cell[0].workload
        if number == last[workload] and workload in across:
            sections.append(_totals_section(across[workload], labels))
    return sections


def _totals_section(found: Totals, labels: Labels) -> Section:
    """The table of all cells of a workload."""
    lines = [
        {
            "runtime": Entry(text=line.row.runtime, remark=labels.remarks(line.row)),
            "total over best Ray": _ratio(line.over[BEST_RAY].total),
            "mean over best Ray": _ratio(line.over[BEST_RAY].mean),
            "total over sequential": _ratio(line.over[SEQUENTIAL].total),
            "mean over sequential": _ratio(line.over[SEQUENTIAL].mean),
        }
        for line in found.lines
    ]
    notes = [f"Ratios: {ratio_form(found.estimates)}."] if found.estimates else []
    notes += [f"Nothing is compared with {_REFERENCES[name]}: {why}." for name, why in found.problems.items()]
    for line in found.lines:
        own = [line.problem, *(a.problem for n, a in line.over.items() if n not in found.problems)]
        notes += [f"{labels.runtime(line.row)}: {why}." for why in dict.fromkeys(own) if why is not None]
    return Section(
        title=f"{found.workload}: all {found.cells} cells",
        details="",
        headings=tuple(lines[0]),
        lines=tuple(tuple(line.values()) for line in lines),
        notes=tuple(notes),
    )


def _scaling_section(row: SummaryRow, found: Scaling, all_found: Sequence[Scaling], labels: Labels) -> Section:
    """The table of one runtime's throughput by its workers, on the cell of `row`."""
    assert found.amdahl is not None
    assert found.universal is not None
    lines = [
        {
            "workers": Entry(text=str(point.workers)),
            "over 1 worker": _ratio(point.over_one),
            "Amdahl": Entry(text=in_ratio(found.amdahl.at(point.workers))),
            "Universal Scalability Law": Entry(text=in_ratio(found.universal.at(point.workers))),
        }
        for point in found.points
    ]
    most = found.points[-1].workers
    costs = f"sigma {in_fraction(found.universal.sigma)}, kappa {in_fraction(found.universal.kappa)}"
    notes = [
        f"Ratios: {ratio_form([point.over_one for point in found.points])}. The other columns are fitted to them.",
        f"Amdahl: serial fraction {in_fraction(found.amdahl.sigma)}{_r_squared(found.amdahl)}.",
        f"Universal Scalability Law: {costs}, {_peak(found.universal, most)}{_r_squared(found.universal)}.",
    ]
    if found.cores is not None and most > found.cores:
        notes.append(f"There are {found.cores} physical cores: where there are more workers, they take turns.")
    return Section(
        title=f"{row.workload}: {labels.cell(row)}, {_series(found, all_found)} by workers",
        details="",
        headings=tuple(lines[0]),
        lines=tuple(tuple(line.values()) for line in lines),
        notes=tuple(notes),
    )


def _series(found: Scaling, all_found: Sequence[Scaling]) -> str:
    """The runtime's name, with its other options where that name stands for several series of the cell."""
    is_alone = sum(one.runtime == found.runtime for one in all_found) == 1
    return found.runtime if is_alone else f"{found.runtime} {compact_json(found.options)}"


def _peak(fit: Fit, most: int) -> str:
    if fit.peak is None:
        return "no peak"
    return f"peak at {plural(fit.peak, 'worker')}{' (beyond what was measured)' if fit.peak > most else ''}"


def _r_squared(fit: Fit) -> str:
    return "" if fit.r_squared is None else f", R2 {in_fraction(fit.r_squared)}"


_REFERENCES: Mapping[str, str] = {BEST_RAY: "the best Ray", SEQUENTIAL: "the plain loop"}


_OPTIONAL = ("updates/s", "per core", "efficiency")


def _optional(row: SummaryRow) -> dict[str, Estimate | float | None]:
    """What a page has a column for only where some row knows it."""
    own = {"updates/s": row.updates_per_s, "per core": row.efficiency_per_core, "efficiency": row.efficiency}
    return {**own, **row.metrics}


def _columns(row: SummaryRow, labels: Labels, optional: Collection[str]) -> dict[str, Entry]:
    """The line of `row`: heading to entry."""
    wrong = row.outcome != "ok"
    remarks = [labels.remarks(row), row.outcome if wrong else ""]
    earned_back = row.startup_earned_back_rounds
    return {
        "runtime": Entry(
            text=row.runtime,
            remark=", ".join(filter(None, remarks)),
            style="red" if wrong else "italic" if row.is_bound else "",
        ),
        "units/s": _rate(row.units_per_s),
        **({"updates/s": _rate(row.updates_per_s)} if "updates/s" in optional else {}),
        "over best Ray": _ratio(row.over_best_ray),
        "over ray": _ratio(row.over_ray),
        "over sequential": _ratio(row.over_sequential),
        **({"per core": _fraction(row.efficiency_per_core)} if "per core" in optional else {}),
        **({"efficiency": _efficiency(row.efficiency)} if "efficiency" in optional else {}),
        "start-up": Entry(
            text=DASH if row.startup_s is None else in_seconds(row.startup_s),
            remark=f"{in_count(earned_back)} rounds" if earned_back else "",
        ),
        "memory": Entry(text=DASH if row.pss_bytes is None else in_bytes(row.pss_bytes)),
        **{name: _metric(row.metrics.get(name)) for name in sorted({*optional} - {*_OPTIONAL})},
    }


def _metric(value: float | None) -> Entry:
    if value is None:
        return Entry(text=DASH)
    return Entry(text=in_si(value) if abs(value) >= 1 else in_fraction(value))


def _rate(estimate: Estimate | None) -> Entry:
    if estimate is None:
        return Entry(text=DASH)
    remark = "" if estimate.n == 1 else f"{in_si(estimate.low)}-{in_si(estimate.high)}"
    return Entry(text=in_si(estimate.point), remark=remark)


def _ratio(estimate: Estimate | None) -> Entry:
    if estimate is None:
        return Entry(text=DASH)
    style = ""
    if estimate.kind == INTERVAL:  # a range says nothing about the next pair
        style = "green" if estimate.low > 1 else "red" if estimate.high < 1 else ""
    return Entry(text=in_ratio(estimate.point), remark=_ends(estimate), style=style)


def _fraction(value: float | None) -> Entry:
    return Entry(text=DASH if value is None else in_fraction(value))


def _efficiency(estimate: Estimate | None) -> Entry:
    return Entry(text=DASH) if estimate is None else Entry(text=in_fraction(estimate.point), remark=_ends(estimate))


def _ends(estimate: Estimate) -> str:
    """Low and high of a ratio; nothing for one pair, nor for the reference itself, which is 1 by definition."""
    own = estimate.low == estimate.high == 1
    return "" if own or estimate.n == 1 else f"{in_fraction(estimate.low)}-{in_fraction(estimate.high)}"


def _notes(cell: Sequence[SummaryRow], labels: Labels, growing: Sequence[Scaling]) -> list[str]:
    """What stands below the table of a cell: what the numbers are, what went wrong, what was not checked."""
    best = next((row for row in cell if row.key == row.best_ray), None)
    best_units_per_s = best.units_per_s.point if best is not None and best.units_per_s is not None else None
    notes = [_what_they_are(cell, labels)]
    notes += [f"{labels.runtime(row)}: {reason.removesuffix('.')}." for row in cell for reason in row.reasons]
    notes += [_left_out(row, best_units_per_s, labels) for row in cell if row.is_ray and row.outcome in _LEFT_OUT]
    notes += [
        f"{labels.runtime(row)} was faster than the bound, which cannot be: something slowed the bound down. "
        "Measure again on a quiet machine."
        for row in cell
        if row.efficiency is not None and row.efficiency.low > 1 and not row.differs
    ]
    notes += [f"{_series(one, growing)}: {one.problem}." for one in growing if one.problem is not None]
    notes += dict.fromkeys(note for row in cell for note in row.cell_notes)
    return notes


_LEFT_OUT: Mapping[str, str] = {"failed": "failed", "timeout": "timed out", "invalid": "is invalid"}


def _left_out(row: SummaryRow, best_units_per_s: float | None, labels: Labels) -> str:
    """That `row`, a Ray runtime, is not the best one even where it was faster, so that nobody takes it for slower."""
    faster = row.units_per_s is not None and best_units_per_s is not None and row.units_per_s.point > best_units_per_s
    note = f"{labels.runtime(row)} {_LEFT_OUT[row.outcome]} and is not counted among the best Ray"
    return f"{note}, though its measured rate was higher." if faster else f"{note}."


def _closing_notes(rows: Sequence[SummaryRow], sections: Sequence[Section]) -> list[str]:
    """What holds for the whole page, once: what a reader must know about a runtime's options."""
    notes = [f"{name}: {notice}" for name, notice in dict.fromkeys((r.runtime, n) for r in rows for n in r.notices)]
    if any(row.startup_earned_back_rounds for row in rows):
        notes.insert(0, "Rounds below a start-up: after so many it is earned back against sequential.")
    bounds = dict.fromkeys(row.runtime for row in rows if row.is_bound)
    notes += [
        f"{name} is a bound, not a competitor: it does less than a whole round, so it has no digest and no speedup. "
        "Efficiency is a rate as a fraction of the bound's."
        for name in bounds
    ]
    notes += _metric_notes(rows)
    headings = {heading for section in sections for heading in section.headings}
    cores = sorted({row.cores for row in rows if row.efficiency_per_core is not None and row.cores is not None})
    if "per core" in headings:
        notes.append(
            "Per core: the speedup over sequential, which uses one core, divided by the physical cores that there "
            f"are ({', '.join(map(str, cores))})."
        )
    if "total over sequential" in headings:
        notes.append(
            "Total: time that the reference takes for one round of every cell, over the runtime's; the cells with long "
            "rounds decide it. Mean: geometric, of the cells' speedups; every cell counts alike. The best Ray is that "
            "of each cell."
        )
    others = dict.fromkeys((row.runtime, row.differs) for row in rows if row.differs)
    notes += [
        f"{name} computes something else than the plain loop, so it has no digest and is compared on units of work "
        f"only: {why}."
        for name, why in others
    ]
    return notes


def _metric_notes(rows: Sequence[SummaryRow]) -> list[str]:
    """What the columns of metrics mean, as far as these are installed here."""
    from harness.registry import metrics

    known = {plugin.name: plugin.loaded for plugin in metrics() if plugin.loaded is not None}
    shown = sorted({name for row in rows for name in row.metrics} & known.keys())
    return [
        f"{name}: {known[name].summary} ({known[name].unit}; "
        f"{'less' if known[name].less_is_better else 'more'} is better), the median."
        for name in shown
    ]


def _what_they_are(cell: Sequence[SummaryRow], labels: Labels) -> str:
    """`Ratios: geometric mean and range of 3 pairs. Rates: environment steps a second, ... Best Ray: ray-packed.`."""
    rates = [row.units_per_s for row in cell if row.units_per_s is not None]
    ratios = [e for row in cell for e in (*row.speedups.values(), row.efficiency) if e is not None]
    best = next((row for row in cell if row.key == row.best_ray), None)
    unit = next((row.unit for row in cell if row.unit), "unit")
    sentences = []
    if ratios:
        sentences.append(f"Ratios: {ratio_form(ratios)}.")
    if rates:
        sentences.append(f"Rates: {plural_of(unit)} a second, {mean_form(rates)}.")
    if best is not None:
        sentences.append(f"Best Ray: {labels.runtime(best)}.")
    return " ".join(sentences) or "Nothing was measured."


# -------------------------------------------------------------------------------------------- files


def _write_csv(rows: Sequence[SummaryRow], path: Path) -> Path:
    import pandas as pd

    # As objects: a column of whole numbers with gaps would become one of floats.
    pd.DataFrame([flat(row) for row in rows], columns=list(COLUMNS), dtype=object).to_csv(path, index=False)
    return path


def _write_totals(rows: Sequence[SummaryRow], path: Path) -> list[Path]:
    """The totals as a file where there are any; one of an earlier report goes where there are none."""
    lines = flat_totals(totals(rows).values())
    if not lines:
        path.unlink(missing_ok=True)
        return []
    write_csv(path, TOTALS_COLUMNS, lines)
    return [path]


def _write_markdown(rows: Sequence[SummaryRow], warnings: Sequence[str], path: Path) -> Path:
    path.write_text(markdown_table(rows, warnings), encoding="utf-8")
    return path
