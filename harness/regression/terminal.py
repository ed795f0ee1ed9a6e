"""A comparison on a terminal: a table for each workload, aligned with one another, and below them what decided."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from harness.errors import ExitStatus
from harness.regression.phrases import closing_lines, counts_line, decided_by, heading, sections_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from harness.regression.judged import Judged
    from harness.regression.judging import Judgement
    from harness.regression.phrases import Entry, Section

__all__ = ["plain_text", "print_judged", "verdict_table"]

_PLAIN_WIDTH = 120
_RULE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}"
_GAP = 2
"""Columns between two of a table."""


def verdict_table(judgements: Sequence[Judgement], *, width: int, with_notes: bool = False) -> Table:
    """A section for each workload, a line for each cell and runtime; `with_notes`, with what there is to say of each.

    Sections align with one another where that fits into `width` columns; nothing is cut off in narrower ones.
    """
    from rich.table import Table
    from rich.text import Text

    sections = sections_of(judgements, with_notes=with_notes)
    widths = _widths(sections, width)
    if not any(widths):
        sections = sections_of(judgements, with_notes=with_notes, is_narrow=True)
        widths = _widths(sections, width)
    page = Table.grid()
    for section in sections:
        page.add_row(Text(section.title, "bold cyan"))
        page.add_row(_table(section, widths))
        for note in section.notes:
            page.add_row(Text(note, "dim"))
        page.add_row()
    return page


def _table(section: Section, widths: Sequence[int]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True, header_style="bold")
    for name, is_text, least in zip(section.headings, section.left, widths, strict=True):
        table.add_column(name, justify="left" if is_text else "right", overflow="fold", min_width=least)
    for line in section.lines:
        table.add_row(*map(_field, line))
    return table


def _field(entry: Entry) -> Text:
    from rich.text import Text

    text = Text(entry.text, entry.style)
    for remark in entry.remarks:
        text.append(f"\n{remark}", "dim")
    return text


def _widths(sections: Sequence[Section], available: int) -> list[int]:
    """For each column the width that the widest entry of all sections asks for; zeros where that is too much."""
    from rich.cells import cell_len

    headings = sections[0].headings if sections else ()
    lines = [line for section in sections for line in section.lines]
    widths = [
        max([cell_len(name), *(cell_len(text) for entry in column for text in (entry.text, *entry.remarks))])
        for name, column in zip(headings, zip(*lines, strict=True), strict=True)
    ]
    return widths if sum(widths) + _GAP * (len(widths) - 1) <= available else [0] * len(headings)


def plain_text(judged: Judged) -> str:
    """What a terminal of a usual width would show, without colours or lines that are not ASCII."""
    from rich.console import Console

    stream = StringIO()
    print_judged(judged, Console(file=stream, width=_PLAIN_WIDTH, force_terminal=False))
    return "\n".join(line.rstrip().replace(_RULE, "-") for line in stream.getvalue().splitlines()) + "\n"


def print_judged(judged: Judged, console: Console) -> None:
    """Show the tables, what holds for all of it, the counts, and what decided over the exit status."""
    from rich.text import Text

    def line(text: str, style: str) -> None:
        # As `Text`, nothing of it is markup: names are foreign.
        console.print(Text(text, style))

    line(f"{heading(judged)}\n", "bold")
    console.print(verdict_table(judged.judgements, width=console.width, with_notes=True))
    for closing in closing_lines(judged):
        line(closing, "dim" if closing.startswith(("Machine", "Measure")) else "yellow")
    line(f"{counts_line(judged)}.", "bold")
    line(decided_by(judged), "green" if judged.exit_status is ExitStatus.OK else "bold red")
