"""Tables: sections with a heading, entries and notes, for a terminal or as Markdown; and lines of a CSV file.

What stands in them is made elsewhere; here it is only laid out.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from rich.table import Table

__all__ = ["Entry", "Section", "escaped", "fits", "in_markdown", "on_terminal", "pipe_table", "write_csv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One field of a table: what it says, and below or behind it the interval or a remark."""

    text: str
    remark: str = ""
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The table of one cell, or of all cells of a workload, for whichever form it is shown in."""

    title: str
    details: str
    headings: tuple[str, ...]
    """The same in all sections of a page that are of one kind."""
    lines: tuple[tuple[Entry, ...], ...]
    """Each with an entry for every heading."""
    notes: tuple[str, ...]


def on_terminal(sections: Sequence[Section], closing_notes: Sequence[str], *, width: int) -> Table:
    """The page for a terminal: low and high below each number, notes below each section.

    Sections of one kind align with one another where that fits into `width` columns; nothing is cut off in narrower
    ones.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    page = Table.grid()
    for section in sections:
        (alike,) = (kind for kind in _kinds(sections) if kind[0].headings == section.headings)
        widths = _widths(alike) if _fits(alike, width) else [0] * len(section.headings)
        table = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
            header_style="bold",
        )
        for position, (heading, least) in enumerate(zip(section.headings, widths, strict=True)):
            table.add_column(
                _in_lines(heading),
                justify="right" if position else "left",
                overflow="fold",
                min_width=least,
            )
        for line in section.lines:
            entries = [Text(entry.text, entry.style) for entry in line]
            for text, entry in zip(entries, line, strict=True):
                if entry.remark:
                    text.append(f"\n{entry.remark}", "dim")
            table.add_row(*entries)
        page.add_row(Text.assemble((section.title, "bold cyan"), (f"  {section.details}", "dim")))
        page.add_row(table)
        for note in section.notes:
            page.add_row(Text(note, "dim"))
        page.add_row()
    for note in closing_notes:
        page.add_row(Text(note, "dim"))
    return page


def in_markdown(section: Section) -> list[str]:
    """The section as Markdown, block by block: a heading, a pipe table and the notes."""
    lines = [[escaped(f"{e.text} ({e.remark})" if e.remark else e.text) for e in line] for line in section.lines]
    return [
        f"### {escaped(section.title)}",
        *([escaped(section.details)] if section.details else []),
        _pipes(section.headings, lines),
        "\n".join(f"- {escaped(note)}" for note in section.notes),
    ]


def pipe_table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    """A pipe table as Markdown, line by line, as narrow as can be."""
    rows = [f"| {' | '.join(entries)} |" for entries in (headings, *lines)]
    return [rows[0], f"|{'---|' * len(headings)}", *rows[1:]]


def write_csv(path: Path, columns: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> None:
    """Write `lines`, which have a value for each of `columns`, as CSV."""
    with path.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, columns)
        writer.writeheader()
        writer.writerows(lines)


def escaped(text: str) -> str:
    """`text` with what Markdown would read as markup or as the end of a field made plain."""
    for character in "\\|<*_`":
        text = text.replace(character, f"\\{character}")
    return text


def fits(sections: Sequence[Section], width: int) -> bool:
    """Whether sections of one kind can all align in so many columns; where not, columns wrap as each section needs."""
    return all(_fits(alike, width) for alike in _kinds(sections))


def _in_lines(heading: str) -> str:
    """A narrow form of `heading`."""
    # Names of metrics have underscores in place of spaces.
    return heading.replace("over ", "over\n").replace("per ", "per\n").replace("_", "_\n")


def _kinds(sections: Sequence[Section]) -> list[list[Section]]:
    """`sections` by their headings."""
    kinds: dict[tuple[str, ...], list[Section]] = {}
    for section in sections:
        kinds.setdefault(section.headings, []).append(section)
    return list(kinds.values())


def _widths(alike: Sequence[Section]) -> list[int]:
    """For each column the width that the widest entry of all sections, which have the same headings, asks for."""
    lines = [line for section in alike for line in section.lines]
    return [
        max([*map(len, _in_lines(heading).split("\n")), *(max(len(e.text), len(e.remark)) for e in column)])
        for heading, column in zip(alike[0].headings, zip(*lines, strict=True), strict=True)
    ]


def _fits(alike: Sequence[Section], available: int) -> bool:
    """Whether sections can align; where not, columns wrap as each section needs."""
    widths = _widths(alike)
    return sum(widths) + 2 * (len(widths) - 1) <= available


def _pipes(headings: Sequence[str], lines: list[list[str]]) -> str:
    """An aligned pipe table, the first column to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *lines, strict=True)]
    rule = [f":{'-' * (widths[0] - 1)}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]

    def row(fields: Sequence[str]) -> str:
        padded = [fields[0].ljust(widths[0]), *(f.rjust(w) for f, w in zip(fields[1:], widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    return "\n".join([row(headings), row(rule), *(row(line) for line in lines)])
