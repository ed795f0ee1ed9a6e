"""How a judged cell reads, in whichever form: its verdict, its change in words, its numbers, what stands below it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.errors import ExitStatus
from harness.regression.judging import INTERLEAVED, Verdict
from harness.wording import DASH, Labels, in_fraction, in_ratio, in_seconds, in_si, plural, plural_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.regression.judged import Judged
    from harness.regression.judging import Judgement, Margins, Side
    from harness.statistics import Estimate

__all__ = [
    "Entry",
    "Section",
    "change_in_words",
    "closing_lines",
    "counts_line",
    "decided_by",
    "heading",
    "interval_in_words",
    "notes_of",
    "one_line",
    "percent",
    "sections_of",
    "visible",
]

NOT_INTERLEAVED = "not interleaved: the machine may have changed between the two"

_STYLES = {
    Verdict.FASTER: "green",
    Verdict.SLOWER: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.NEW: "cyan",
    Verdict.MISSING: "bold yellow",
    Verdict.FAILED: "bold red",
    Verdict.TIMEOUT: "bold red",
    Verdict.INVALID: "bold red",
    Verdict.NOT_COMPARABLE: "bold yellow",
}

_NAMED = 3
"""Cells that a line names; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One field of a table: what it says, and remarks that stand below or behind it."""

    text: str
    remarks: tuple[str, ...] = ()
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The table of one workload."""

    title: str
    headings: tuple[str, ...]
    """The same in all sections of a page; `left` are texts, the others numbers."""
    left: tuple[bool, ...]
    lines: tuple[tuple[Entry, ...], ...]
    """Each with an entry for every heading."""
    notes: tuple[str, ...]


def visible(text: str) -> str:
    r"""`text` on one line, with every character that a terminal would act on, or that XML forbids, spelt out: `\x1b`.

    Allowed by XML 1.0, section 2.2, are all of Unicode but control characters, surrogates, U+FFFE and U+FFFF.
    """
    return re.sub(
        "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]",
        lambda found: found[0].encode("unicode_escape").decode(),
        text,
    )


def percent(fraction: float) -> str:
    """At least two digits, and no more than one after the point: `3.1 %`, `12.5 %`, `110 %`."""
    value = abs(fraction) * 100
    return f"{value:,.0f} %" if value >= 100 else f"{value:.1f} %"  # noqa: PLR2004 - three digits are enough


def change_in_words(ratio: float) -> str:
    """What a ratio of speeds means for the time: `takes 10.0 % longer`."""
    times = 1 / ratio
    if times >= 2:  # noqa: PLR2004 - from here on a factor reads better
        return f"takes {in_fraction(times)} times as long"
    if percent(times - 1) == "0.0 %":
        return "takes as long"
    return f"takes {percent(times - 1)} {'longer' if times > 1 else 'less time'}"


def interval_in_words(ratio: Estimate) -> str:
    """The interval as changes of the time, the smaller first: `-1.2 % to +15.3 %`; factors where it is large."""
    low, high = 1 / ratio.high, 1 / ratio.low
    if low >= 2:  # noqa: PLR2004 - as above
        return f"{in_fraction(low)} to {in_fraction(high)} times"
    return f"{_signed(low - 1)} to {_signed(high - 1)}"


def _signed(fraction: float) -> str:
    return f"{'-' if fraction < 0 else '+'}{percent(fraction)}"


def heading(judged: Judged) -> str:
    """`Regression check: main (base) and feature (head)`."""
    return visible(f"{judged.title}: {judged.base_name} (base) and {judged.head_name} (head)")


def counts_line(judged: Judged) -> str:
    """`1 slower, 3 same`."""
    return ", ".join(f"{number} {verdict.value}" for verdict, number in judged.counts.items()) or "no cells"


def decided_by(judged: Judged) -> str:
    """What the exit status is, and what made it so: `Exit status 1: 1 cell is slower (small-values, reactor).`."""
    status = judged.exit_status
    if status is ExitStatus.OK:
        doubtful = sum(one.verdict is Verdict.INCONCLUSIVE for one in judged.judgements)
        but = f"; {plural(doubtful, 'cell')} inconclusive" if doubtful else ""
        return f"Exit status 0: no cell is slower{but}."
    because = [one for one in judged.judgements if one.status is status]
    if not because:
        return f"Exit status {int(status)}: nothing was compared."
    labels = Labels(judged.judgements)
    named = [visible(f"{labels.full_cell(one)}, {labels.runtime(one)}") for one in because[:_NAMED]]
    more = f"; {len(because) - _NAMED} more" if len(because) > _NAMED else ""
    words = dict.fromkeys(_became(one, judged.margins, number=len(because)) for one in because)
    what = f"{plural(len(because), 'cell')} {' or '.join(words)}"
    return f"Exit status {int(status)}: {what} ({'; '.join(named)}{more})."


_BECAME = {Verdict.FAILED: "failed", Verdict.TIMEOUT: "timed out"}


def _became(one: Judgement, margins: Margins, *, number: int = 1) -> str:
    """`is slower`; `are slower` of several."""
    target = (one.margins or margins).target
    hides = f" and may hide a slowdown of {percent(target)}" if one.hides_target else ""
    return _BECAME.get(one.verdict, f"{'is' if number == 1 else 'are'} {one.verdict.value}{hides}")


def sections_of(judgements: Sequence[Judgement], *, with_notes: bool = True, is_narrow: bool = False) -> list[Section]:
    """A section for each workload, in the order in which they occur; with fewer and higher columns if `is_narrow`."""
    labels = Labels(judgements)
    workloads = dict.fromkeys(one.workload for one in judgements)
    with_q = sum(one.q_value is not None for one in judgements) > 1
    sections = []
    for workload in workloads:
        chosen = [one for one in judgements if one.workload == workload]
        lines = [_columns(one, labels, with_q=with_q) for one in chosen]
        if is_narrow:
            lines = [_narrow(line) for line in lines]
        others = visible(labels.other_parameters(chosen[0]))
        notes = [f"All with {others}."] if others else []
        notes += [_what_they_are(chosen)]
        notes += [note for one in chosen for note in notes_of(one, labels)]
        sections.append(
            Section(
                title=visible(workload),
                headings=tuple(lines[0]),
                left=tuple(name in _TEXTS for name in lines[0]),
                lines=tuple(tuple(line.values()) for line in lines),
                notes=tuple(notes) if with_notes else (),
            )
        )
    return sections


_TEXTS = ("cell", "verdict", "time")


def _columns(one: Judgement, labels: Labels, *, with_q: bool) -> dict[str, Entry]:
    """The line of `one`: heading to entry."""
    ratio = one.ratio
    doubts = [*(["may be slower"] if one.hides_target else []), *([] if one.interleaved else ["not interleaved"])]
    return {
        "cell": Entry(text=visible(labels.cell(one)), remarks=(visible(labels.runtime(one)),)),
        "verdict": Entry(text=one.verdict.value, remarks=tuple(doubts), style=_STYLES.get(one.verdict, "")),
        "time": _NONE if ratio is None else _numbers(change_in_words(ratio.point), interval_in_words(ratio)),
        "speed": _NONE if ratio is None else _numbers(in_ratio(ratio.point), _ends(ratio)),
        "shows": _numbers(None if one.detectable is None else percent(one.detectable)),
        **({"q": _numbers(None if one.q_value is None else _q(one.q_value))} if with_q else {}),
        "pairs": _numbers(str(len(one.pairs)), f"after {len(one.first_pairs)}" if one.first_pairs else None),
        "base": _side(one.base),
        "head": _side(one.head),
    }


def _narrow(line: Mapping[str, Entry]) -> dict[str, Entry]:
    """`line` with what stands side by side on top of one another."""

    def stacked(name: str, *prefixes: tuple[str, str]) -> Entry:
        below = [f"{prefix}{text}" for other, prefix in prefixes if other in line for text in _texts(line[other])]
        return replace(line[name], remarks=(*line[name].remarks, *below))

    return {
        "verdict": stacked("verdict", ("cell", "")),
        "time": stacked("time", ("speed", "speed ")),
        "pairs": stacked("pairs", ("shows", "shows "), ("q", "q ")),
        "base": line["base"],
        "head": line["head"],
    }


def _texts(entry: Entry) -> list[str]:
    return [] if entry.text == DASH else [entry.text, *entry.remarks]


def _numbers(text: str | None, remark: str | None = None) -> Entry:
    return Entry(text=text or DASH, remarks=(remark,) if remark else ())


_NONE = _numbers(None)


def _ends(ratio: Estimate) -> str:
    return f"{in_fraction(ratio.low)}-{in_fraction(ratio.high)}"


def _q(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"  # noqa: PLR2004 - three digits after the point


def _side(side: Side | None) -> Entry:
    if side is None:
        return Entry(text=DASH)
    known = [f"{name} {in_seconds(value)}" for name, value in side.quantiles_s.items() if value is not None]
    return Entry(text=f"{in_si(side.units_per_s)}/s", remarks=tuple(known))


def _what_they_are(chosen: Sequence[Judgement]) -> str:
    """What the numbers of a section are, in a sentence or two."""
    if all(one.ratio is None for one in chosen):
        return "Nothing was compared."
    unit = next((one.unit for one in chosen if one.ratio is not None), "unit")
    sentences = [
        "Time: of the head on the same rounds, and its 95 % interval. Speed: head over base.",
        "Shows: the smallest slowdown that 24 such pairs would have shown.",
        f"Base, head: {visible(plural_of(unit))} a second"
        + (", and quantiles of a round." if any(_has_quantiles(one) for one in chosen) else "."),
    ]
    if sum(one.q_value is not None for one in chosen):
        sentences.append("q: share of false discoveries if this cell and all clearer ones were called changed.")
    return " ".join(sentences)


def _has_quantiles(one: Judgement) -> bool:
    return any(value is not None for side in (one.base, one.head) if side for value in side.quantiles_s.values())


def notes_of(one: Judgement, labels: Labels) -> list[str]:
    """What stands below the table about `one`: reasons, flags, where its profile is."""
    name = visible(f"{labels.cell(one)}, {labels.runtime(one)}")
    notes = [visible(text).removesuffix(".") for text in (*one.reasons, *one.flags)]
    if one.profile:
        notes.append(f"where the slower side spends its time: {visible(one.profile)}")
    if one.verdict is Verdict.NEW and not one.reasons:
        notes.append("the base has no result")
    return [f"{name}: {note}." for note in notes]


def closing_lines(judged: Judged) -> list[str]:
    """What holds for all of it: stamps first, then how it was measured, warnings, and how to measure it again."""
    lines = [f"{visible(stamp).removesuffix('.')}." for stamp in judged.stamps]
    if not judged.interleaved or any(not one.interleaved for one in judged.judgements):
        lines.append(f"{NOT_INTERLEAVED.capitalize()}.")
    if judged.interleaved and judged.margins != INTERLEAVED:
        by = judged.margins
        lines.append(
            f"Judged by other margins: same within {by.same:.3g}, changed beyond {by.beyond:.3g}, "
            f"target {by.target:.3g}."
        )
    lines += [f"Warning: {visible(warning)}" for warning in judged.warnings]
    if judged.machine:
        lines.append(f"Machine: {visible(judged.machine)}.")
    if judged.command:
        lines.append(f"Measure again: {visible(judged.command)}")
    return lines


def one_line(one: Judgement, labels: Labels, margins: Margins) -> str:
    """`one` as a sentence: `1 kB x 8, reactor is slower: takes 10.0 % longer (+8.1 % to +12.2 %), 24 pairs.`."""
    name = visible(f"{labels.full_cell(one)}, {labels.runtime(one)}")
    parts = [f"{name} {_became(one, margins)}"]
    if one.ratio is not None:
        pairs = plural(len(one.pairs), "pair")
        parts[0] += f": {change_in_words(one.ratio.point)} ({interval_in_words(one.ratio)}), {pairs}"
    if not one.interleaved:
        parts.append(NOT_INTERLEAVED)
    parts += [visible(text).removesuffix(".") for text in (*one.reasons, *one.flags)]
    if one.profile:
        parts.append(f"profile: {visible(one.profile)}")
    return "; ".join(parts) + "."
