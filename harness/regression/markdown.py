"""A comparison as Markdown: `verdicts.md`, and the summary that GitHub Actions shows of a step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from harness.regression.phrases import closing_lines, counts_line, decided_by, heading, sections_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness.regression.judged import Judged
    from harness.regression.phrases import Entry, Section

__all__ = ["escaped", "markdown"]

_CUT = "\nThe rest is cut off here: it would be larger than what is shown. `verdicts.md` has all of it.\n"


def markdown(judged: Judged, most_bytes: int | None = None) -> str:
    """All of `judged`, what decided first; cut off after a whole line, and saying so, where it exceeds `most_bytes`.

    Empty where `most_bytes` leave no room even to say so.
    """
    # Where it is cut, it is shown elsewhere than in its folder, where links to files of that lead nowhere.
    profiles = [one.profile for one in judged.judgements if one.profile and most_bytes is None]
    lines = list(_lines(judged, profiles))
    whole = "\n".join(lines) + "\n"
    if most_bytes is None or len(whole.encode()) <= most_bytes:
        return whole
    room = most_bytes - len(_CUT.encode())
    kept = []
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            break
        kept.append(line)
    return "\n".join([*kept, _CUT]) if kept else ""


def _lines(judged: Judged, profiles: Sequence[str]) -> Iterator[str]:
    yield f"## {escaped(heading(judged))}"
    yield ""
    yield f"{escaped(counts_line(judged))}. {escaped(decided_by(judged))}"
    yield ""
    # Before the tables: whatever is cut off, these must be seen.
    for line in closing_lines(judged):
        yield from (escaped(line), "")
    for section in sections_of(judged.judgements):
        yield f"### {escaped(section.title)}"
        yield ""
        yield from _pipes(section)
        yield ""
        for note in section.notes:
            yield f"- {_linked(escaped(note), profiles)}"
        yield ""


def _linked(note: str, profiles: Iterable[str]) -> str:
    """`note`, escaped, with a link wherever it names one of `profiles`, files of the folder."""
    for name in profiles:
        if re.fullmatch(r"[\w./-]+", name):
            note = note.replace(escaped(name), f"[{escaped(name)}]({name})")
    return note


def _pipes(section: Section) -> Iterable[str]:
    """An aligned pipe table, texts to the left and numbers to the right."""
    lines = [[_field(entry) for entry in line] for line in section.lines]
    widths = [max(map(len, column)) for column in zip(section.headings, *lines, strict=True)]

    def row(fields: Sequence[str]) -> str:
        padded = [
            field.ljust(width) if is_text else field.rjust(width)
            for field, width, is_text in zip(fields, widths, section.left, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        f":{'-' * (width - 1)}" if is_text else f"{'-' * (width - 1)}:"
        for width, is_text in zip(widths, section.left, strict=True)
    ]
    return [row(section.headings), row(rule), *(row(line) for line in lines)]


def _field(entry: Entry) -> str:
    remarks = escaped(", ".join(entry.remarks))
    text = escaped(entry.text)
    if "bold" in entry.style:
        text = f"**{text}**"
    return f"{text} ({remarks})" if remarks else text


def escaped(text: str) -> str:
    """`text`, a single line, with what Markdown would read as markup, or as the end of a field, made plain."""
    text = re.sub(r"[\\`*_\[\]<>&|~#$]", r"\\\g<0>", text)
    # At the start of a line these begin a list.
    return re.sub(r"^(\d*)([-+.)])(?=\s|$)", r"\1\\\2", text)
