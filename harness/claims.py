"""What the paper claims, judged by a run: `reactorbench claims`.

Every claim is a ratio of Lingua Franca to Ray. Here `reactor` is compared with two Rays: `ray-by-value`, which is how
the paper's programs use it, and the fastest other Ray of the cell. A ratio is paired by block and seed (see
`harness.statistics`); over several points it is the geometric mean. Verdicts, with a quarter as tolerance since the
machines differ:

| verdict | when |
|---|---|
| exceeded | the whole interval lies above 1.25 times the published ratio |
| not reproduced | the whole interval lies below the published ratio divided by 1.25, or reaches down to 1: reactors are not faster for sure |
| reproduced | the interval reaches into the band between the two, and lies above 1 |
| not comparable | one side has no valid measurement, or the interval reaches into the band, but its ends are more than a factor of two apart |

With fewer than six pairs, the range of the pairs takes the place of the interval, and the verdict says so.
"""  # noqa: E501 - a table

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UsageError, writing
from harness.paper import experiment, experiments, headline, published_machine
from harness.records import RecordFile
from harness.report import machine_line, warning_lines
from harness.reproduction import Reproduction
from harness.sections import pipe_table, write_csv
from harness.statistics import RANGE
from harness.wording import DASH, in_ratio, ratio_columns, ratio_form

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.paper import Point
    from harness.records import Record
    from harness.reproduction import Comparison, Reference
    from harness.statistics import Estimate

__all__ = [
    "TOLERANCE",
    "Claim",
    "Judgement",
    "Verdict",
    "claims",
    "judge",
    "markdown_claims",
    "verdict",
    "write_claims",
]

Verdict = Literal["reproduced", "exceeded", "not reproduced", "not comparable"]

TOLERANCE = 1.25
"""Around the published ratio: other machines give other ratios."""
_TOO_WIDE = 2.0
"""Ends of an interval further apart than this tell nothing about a ratio that lies between them."""
_JUDGED_BY: tuple[Reference, Reference] = ("ray-by-value", "best Ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A ratio of the paper."""

    name: str
    figure: int
    ratio: float
    """How many times as fast as Ray."""
    points: tuple[Point, ...]
    is_reduction: bool = False
    """The paper states it as time saved: 31.2 %."""

    def spell(self, ratio: float) -> str:
        """`ratio` as the paper states it."""
        return f"{(1 - 1 / ratio) * 100:.3g} %" if self.is_reduction else in_ratio(ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A claim against one Ray."""

    claim: Claim
    comparison: Comparison
    verdict: Verdict
    reason: str


def claims() -> list[Claim]:
    """The headline claims, then the points of the broadcast and gather curves."""
    gym, atari, learning, inference = (experiment(number) for number in (3, 4, 5, 6))
    headlines = [
        Claim(
            name="Gymnasium throughput, mean of three",
            figure=3,
            ratio=headline("gym_throughput_ratio"),
            points=gym.points,
        ),
        Claim(
            name="Atari throughput, mean of three",
            figure=4,
            ratio=headline("atari_throughput_ratio"),
            points=atari.points,
        ),
        Claim(
            name="Q-learning, time saved, minibatch 500",
            figure=5,
            ratio=1 / (1 - headline("q_learning_time_reduction")),
            points=learning.points[:1],
            is_reduction=True,
        ),
        Claim(
            name="Multi-agent inference, 10 agents",
            figure=6,
            ratio=headline("multi_agent_inference_speedup"),
            points=inference.points[-1:],
        ),
    ]
    curves = [
        Claim(
            name=f"{one.title}: {point.label}{'' if point.is_plotted else ' (measured in the paper, not plotted)'}",
            figure=one.number,
            ratio=one.published_ratio(point),
            points=(point,),
        )
        for one in experiments()
        if one.quantity == "overhead"
        for point in one.points
    ]
    return headlines + curves


def judge(records: Sequence[Record]) -> list[tuple[Judgement, Judgement]]:
    """Every claim against `ray-by-value` and against the best Ray, from the records of a run."""
    run = Reproduction(records)
    judged = []
    for claim in claims():
        by_value, best = (run.compare(experiment(claim.figure), claim.points, name) for name in _JUDGED_BY)
        judged.append((_judgement(claim, by_value, None), _judgement(claim, best, by_value)))
    return judged


def verdict(published: float, measured: Estimate | None, largest: float | None = None) -> Verdict:
    """What `measured` says of the `published` ratio; the module's text has the definitions.

    Of several published ratios, `published` is the least and `largest` the largest one.
    """
    if measured is None:
        return "not comparable"
    if measured.low > (published if largest is None else largest) * TOLERANCE:
        return "exceeded"
    if measured.high < published / TOLERANCE:
        return "not reproduced"
    if measured.high > _TOO_WIDE * measured.low:
        return "not comparable"
    return "reproduced" if measured.low > 1 else "not reproduced"


def _judgement(claim: Claim, comparison: Comparison, as_published: Comparison | None) -> Judgement:
    found = verdict(claim.ratio, comparison.estimate)
    return Judgement(
        claim=claim,
        comparison=comparison,
        verdict=found,
        reason=_reason(claim, comparison, found)
        + _what_good_use_gives(comparison, as_published)
        + _mended(comparison, claim),
    )


def _reason(claim: Claim, comparison: Comparison, found: Verdict) -> str:
    """Why `found` is the verdict, and who is faster."""
    estimate = comparison.estimate
    if estimate is None:
        return f"{comparison.problem}"
    share = f"{in_ratio(estimate.point / claim.ratio)} the published ratio"
    if found == "not comparable":
        return f"{share}, but the {estimate.kind} is too wide to tell"
    if estimate.high < 1:
        return f"{share}: Ray is faster here"
    if estimate.low <= 1:
        return f"{share}: neither is faster for sure"
    return f"{share}: reactor is faster"


def _mended(comparison: Comparison, claim: Claim) -> str:
    """Which faults of the published program are gone where it would be the reference, if that changes the ratio."""
    one = experiment(claim.figure)
    is_other = comparison.reference == "ray-by-value" and one.quantity == "rate" and comparison.estimate is not None
    return f"; here {one.here}" if is_other else ""


def _what_good_use_gives(best: Comparison, as_published: Comparison | None) -> str:
    """What using Ray well takes off the ratio; nothing where that is not known."""
    if as_published is None or best.estimate is None or as_published.estimate is None:
        return ""
    factor = as_published.estimate.point / best.estimate.point
    names = ", ".join(dict.fromkeys(row.runtime for row in best.theirs))
    return f"; the best Ray ({names}) is {in_ratio(factor)} ray-by-value"


# ------------------------------------------------------------------------------------------- tables


def write_claims(folder: Path) -> tuple[str, list[Path]]:
    """Judge the run in `folder`; write `claims.md` and `claims.csv` there. The Markdown, and the files.

    Raises:
        UsageError: if there are no records, or `folder` cannot be written.
    """
    file = RecordFile(folder)
    records = file.read()
    if not records:
        raise UsageError(
            f"There is nothing to judge in {folder}: it has no records. "
            f"Measure first: reactorbench run paper-small --out {folder}"
        )
    judged = judge(records)
    text = markdown_claims(judged, machine_line(record.machine for record in records)) + warning_lines(file, records)
    table, lines = folder / "claims.md", folder / "claims.csv"
    with writing("The claims", folder):
        table.write_text(text, encoding="utf-8")
        write_csv(lines, COLUMNS, (_flat(one) for pair in judged for one in pair))
    return text, [table, lines]


_LEGEND = (
    "How many times as fast as Ray, with the interval of the pairs, or with fewer than six their range. `ray-by-value` "
    "is the paper's own use of Ray; the best Ray is the fastest other one of the cell."
)


def markdown_claims(judged: Sequence[tuple[Judgement, Judgement]], machine: str) -> str:
    """The table for people, with what was measured otherwise below it."""
    headings = (
        "claim",
        "figure",
        "published",
        "over ray-by-value",
        "verdict",
        "over the best Ray",
        "verdict",
        "reason",
    )
    lines = [
        "# The paper's claims, judged by this run",
        "",
        _LEGEND,
        "",
        *pipe_table(headings, (_entries(*pair) for pair in judged)),
        "",
        *_notes(judged, machine),
    ]
    return "\n".join(lines) + "\n"


def _entries(by_value: Judgement, best: Judgement) -> list[str]:
    claim = by_value.claim
    return [
        claim.name,
        str(claim.figure),
        claim.spell(claim.ratio),
        _measured(by_value),
        _verdict(by_value),
        _measured(best),
        _verdict(best),
        best.reason if by_value.reason == best.reason else f"ray-by-value: {by_value.reason}; best: {best.reason}",
    ]


def _verdict(one: Judgement) -> str:
    """Its verdict, and whether a range decided it."""
    estimate = one.comparison.estimate
    return f"{one.verdict} (range)" if estimate is not None and estimate.kind == RANGE else one.verdict


def _measured(one: Judgement) -> str:
    """`5.12x (4.90x to 5.30x)`."""
    estimate, spell = one.comparison.estimate, one.claim.spell
    if estimate is None:
        return DASH
    if estimate.n == 1:
        return f"{spell(estimate.point)}, one pair"
    return f"{spell(estimate.point)} ({spell(estimate.low)} to {spell(estimate.high)})"


def _notes(judged: Sequence[tuple[Judgement, Judgement]], machine: str) -> list[str]:
    estimates = [one.comparison.estimate for pair in judged for one in pair if one.comparison.estimate is not None]
    notes = []
    if estimates:
        notes += [f"Ratios: {ratio_form(estimates)}."]
    if any(estimate.kind == RANGE for estimate in estimates):
        notes += ["A range is no interval: with six pairs or more there is one of 95 %."]
    notes += [
        (
            "Ratios over `ray-by-value` depend on how many processors there are: the paper had 32 for 15 or 16 actors, "
            "each a process of its own. On fewer they take turns, while reactors use as many processes as there are "
            "processors."
        ),
        f"Measured on: {machine or 'a machine that the records do not name'}. Published on: {published_machine()}.",
    ]
    protocol: dict[str, list[int]] = {}
    for one in experiments():
        for note in one.protocol:
            protocol.setdefault(note, []).append(one.number)
    differing = [f"- figure {', '.join(map(str, numbers))}: {note}" for note, numbers in protocol.items()]
    return [*(f"{note}\n" for note in notes), "What the paper did, and what is done here:", "", *differing]


COLUMNS: tuple[str, ...] = (
    "claim",
    "figure",
    "published_ratio",
    "reference",
    "ratio",
    "ratio_low",
    "ratio_high",
    "interval",
    "pairs",
    "verdict",
    "reason",
    "reactor_runtimes",
    "reference_runtimes",
    "cells",
    "record_lines",
)
"""The columns of `claims.csv`: two lines for each claim. `record_lines` are lines of `records.jsonl`, from 1."""


def _flat(one: Judgement) -> dict[str, Any]:
    comparison = one.comparison
    return {
        "claim": one.claim.name,
        "figure": one.claim.figure,
        "published_ratio": one.claim.ratio,
        "reference": comparison.reference,
        **ratio_columns(comparison.estimate),
        "verdict": one.verdict,
        "reason": one.reason,
        "reactor_runtimes": "; ".join(f"{name} {options}" for name, options in (r.key for r in comparison.ours)),
        "reference_runtimes": "; ".join(f"{name} {options}" for name, options in (r.key for r in comparison.theirs)),
        "cells": "; ".join(f"{workload} {parameters}" for workload, parameters in (r.cell for r in comparison.ours)),
        "record_lines": " ".join(map(str, comparison.lines)),
    }
