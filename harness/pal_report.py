"""What a run says of PAL's claims, for people: `reactorbench claims` writes it where a run has something of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import writing
from harness.learning.convergence import convergences
from harness.learning.records import LearningFile
from harness.learning.summary import summarise_learning
from harness.pal import judge_pal
from harness.plan import PlanFile
from harness.records import RecordFile
from harness.report import machine_line, warning_lines
from harness.sections import pipe_table, write_csv
from harness.statistics import RANGE
from harness.wording import DASH, in_ratio, in_spread, ratio_columns, ratio_form

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.pal import PalJudgement

__all__ = ["COLUMNS", "markdown_pal", "write_pal"]

_TITLE = "# What the paper on PAL claims, judged by this run"
_LEGEND = (
    "Zhang, Kuppannagari, Prasanna, Parallel Actors and Learners (arXiv 2110.01101). How many times as fast, with the "
    "interval of the pairs, or with fewer than six their range. Verdicts are those of the first paper's claims, with a "
    "quarter as tolerance; *not measured* where this machine or this run cannot show it, as with more cores than there "
    "are. A projection is no measurement."
)


def write_pal(folder: Path) -> tuple[str, list[Path]]:
    """Judge the run in `folder`; write `claims-pal.md` and `claims-pal.csv` there. The Markdown, and the files.

    Raises:
        UsageError: if `folder` cannot be written.
    """
    file = RecordFile(folder)
    records, trainings = file.read(), LearningFile(folder).trainings()
    judged = judge_pal(records, convergences(summarise_learning(trainings, PlanFile(folder).read_if_there())))
    machines = [record.machine for record in records] + [trained.record.machine for trained in trainings]
    text = markdown_pal(judged, machine_line(machines)) + (warning_lines(file, records) if records else "")
    table, lines = folder / "claims-pal.md", folder / "claims-pal.csv"
    with writing("The claims", folder):
        table.write_text(text, encoding="utf-8")
        write_csv(lines, COLUMNS, map(_flat, judged))
    return text, [table, lines]


def markdown_pal(judged: Sequence[PalJudgement], machine: str) -> str:
    """The table for people."""
    headings = ("claim", "cell", "published", "measured", "verdict", "reason")
    estimates = [one.estimate for one in judged if one.estimate is not None]
    parts = [
        _TITLE,
        "",
        _LEGEND,
        "",
        *pipe_table(headings, map(_entries, judged)),
        "",
        *([f"Ratios: {ratio_form(estimates)}.", ""] if estimates else []),
        f"Measured on: {machine or 'a machine that the records do not name'}.",
    ]
    return "\n".join(parts) + "\n"


def _entries(one: PalJudgement) -> list[str]:
    ranged = " (range)" if one.estimate is not None and one.estimate.kind == RANGE else ""
    reason = " ".join(one.reason.split()).replace("|", "\\|")
    return [one.claim, one.cell, _published(one), _measured(one), f"{one.verdict}{ranged}", reason]


def _published(one: PalJudgement) -> str:
    if one.published is None:
        return DASH
    low, high = one.published
    return in_ratio(low) if low == high else f"{in_ratio(low)} to {in_ratio(high)}"


def _measured(one: PalJudgement) -> str:
    """`5.12x (4.90x to 5.30x)`."""
    alone = one.estimate is not None and one.estimate.n == 1
    return in_spread(one.estimate, in_ratio) + (", one pair" if alone else "")


COLUMNS: tuple[str, ...] = (
    "claim",
    "cell",
    "published_low",
    "published_high",
    "ratio",
    "ratio_low",
    "ratio_high",
    "interval",
    "pairs",
    "verdict",
    "reason",
    "record_lines",
)
"""The columns of `claims-pal.csv`. `record_lines` are lines of `records.jsonl`, from 1."""


def _flat(one: PalJudgement) -> dict[str, Any]:
    low, high = one.published or (None, None)
    return {
        "claim": one.claim,
        "cell": one.cell,
        "published_low": low,
        "published_high": high,
        **ratio_columns(one.estimate),
        "verdict": one.verdict,
        "reason": one.reason,
        "record_lines": " ".join(map(str, one.lines)),
    }
