"""From records to verdicts: the cells of two sides matched, checked for doing the same work, paired and judged.

Pure: no files. `check`, `compare` and the report of what they left all come here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import msgspec

from harness.plan import pairing_of
from harness.records import BUSY
from harness.regression.judging import (
    INTERLEAVED,
    Judgement,
    Margins,
    Side,
    Verdict,
    exit_status,
    gravity,
    judge_pairs,
    with_q_values,
)
from harness.regression.pairs import Sample, pairs_of
from harness.rounds import drifts, is_bimodal
from harness.summary import SEQUENTIAL
from harness.validity import check_digests
from harness.wording import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.errors import ExitStatus
    from harness.plan import PairingKey
    from harness.records import Outcome, Record
    from harness.regression.pairs import Pair

__all__ = ["Judged", "Samples", "Sets", "flags_of", "judge", "samples_of"]

Samples = dict["PairingKey", dict[int, Sample]]
"""The record of each seed that counts, whatever became of it, by cell and runtime."""

_LOOKED_AT = 8
"""Invocations of a side whose rounds are looked at for flags; each takes some milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """The seeds of pairs whose number was fixed before measuring."""

    first: range
    second: range | None
    """Of the fresh pairs that decide where the first set did not; None where a single set decides."""
    is_finished: bool = True
    """Whether the measuring is over, so that what is not there is missing."""
    second_is_due: bool = True
    """Whether a cell that the first set leaves open has been measured again: not if it was judged otherwise then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Everything that a comparison found, for whichever form it is shown in."""

    title: str
    """What was compared, for people: a suite."""
    base_name: str
    head_name: str
    judgements: tuple[Judgement, ...]
    margins: Margins = INTERLEAVED
    interleaved: bool = True
    """Whether the sides took turns on one machine."""
    machine: str = ""
    """In a few words."""
    warnings: tuple[str, ...] = ()
    """What makes the numbers doubtful."""
    stamps: tuple[str, ...] = ()
    """What must stand on every form of this report: a comparison that was forced."""
    command: str | None = None
    """What measures it again."""
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of each side what its version says of itself."""

    @property
    def exit_status(self) -> ExitStatus:
        """What the command that shows it exits with."""
        return exit_status(self.judgements)

    @property
    def counts(self) -> dict[Verdict, int]:
        """How often each verdict occurs; those that do not are left out."""
        return {
            verdict: number for verdict in Verdict if (number := sum(j.verdict is verdict for j in self.judgements))
        }


def samples_of(records: Sequence[Record], side: str = "", *, prefer_ok: bool = False) -> Samples:
    """Those of `records`, in the order of their file, that are of `side`: of each seed the last.

    With `prefer_ok` the last that is `ok`, and the last of all only where none is: of a finished run, which may have
    been resumed in between, a seed counts as failed only if it never succeeded.
    """
    found: Samples = defaultdict(dict)
    for line, record in enumerate(records, start=1):
        if record.side != side:
            continue
        of_seed = found[pairing_of(record)]
        there = of_seed.get(record.seed)
        if prefer_ok and record.outcome != "ok" and there is not None and there.record.outcome == "ok":
            continue
        of_seed[record.seed] = Sample(record=record, line=line)
    return dict(found)


def judge(  # noqa: PLR0913 - all that decides over verdicts
    base: Samples,
    head: Samples,
    *,
    order: Iterable[PairingKey] = (),
    sets: Sets | None = None,
    margins: Margins | Callable[[PairingKey], Margins] = INTERLEAVED,
    interleaved: bool = True,
    with_flags: bool = True,
) -> list[Judgement]:
    """A judgement for every cell and runtime of `order`, then of `head`, then of `base`.

    `sets` are the seeds that were planned; without, all that the two have in common are one set. `margins` are for
    all, or a function that gives each its own.
    """
    pairings = dict.fromkeys([*order, *head, *base])
    wrong = {side: _invalid(samples) for side, samples in (("base", base), ("head", head))}
    judged = []
    for pairing in pairings:
        before, after = base.get(pairing, {}), head.get(pairing, {})
        bare = _bare(pairing, before, after, interleaved=interleaved)
        refused = _refused(before, after, wrong["base"].get(pairing), wrong["head"].get(pairing))
        if refused is not None:
            judged.append(replace(bare, verdict=refused[0], reasons=refused[1]))
            continue
        own = margins if isinstance(margins, Margins) else margins(pairing)
        if own is not margins:
            bare = replace(bare, margins=own)
        pairs = pairs_of(before, after)
        verdict = judge_pairs(bare, pairs, None, own) if sets is None else _judged_sets(bare, pairs, sets, own)
        if verdict.verdict is Verdict.MISSING and (skipped := _skipped(before, after)):
            verdict = replace(verdict, reasons=(*verdict.reasons, skipped))
        judged.append(_with_sides(verdict, before, after, with_flags=with_flags))
    return with_q_values(judged)


def _judged_sets(bare: Judgement, pairs: Sequence[Pair], sets: Sets, margins: Margins) -> Judgement:
    """`bare`, judged by planned sets of pairs; *missing* where a set that decides is not whole."""
    first = [pair for pair in pairs if pair.seed in sets.first]
    second = [pair for pair in pairs if pair.seed in sets.second] if sets.second else None
    if sets.is_finished and len(first) < len(sets.first):
        return _unfinished(bare, len(first), sets.first)
    judged = judge_pairs(bare, first, second, margins)
    by_first = judged.verdict is Verdict.SAME and not judged.first_pairs
    if second is None or by_first or not sets.is_finished:
        return judged
    is_whole = len(second) == len(sets.second or ())
    return judged if is_whole or not (second or sets.second_is_due) else _unfinished(bare, len(second), sets.second)


def _unfinished(bare: Judgement, number: int, planned: range | None) -> Judgement:
    # Whoever judges by what is there so far has chosen, by when he looks, what he sees.
    why = (
        f"{number} of {len(planned or ())} pairs that decide were measured, which count when all are; --resume goes on"
    )
    return replace(bare, verdict=Verdict.MISSING, reasons=(*bare.reasons, why))


def _skipped(before: Mapping[int, Sample], after: Mapping[int, Sample]) -> str | None:
    """Which side was skipped in some invocations, and why."""
    found = [f"{side} {why}" for side, of in (("base", before), ("head", after)) if (why := _ended(of, "skipped"))]
    return "; ".join(found) or None


def _bare(
    pairing: PairingKey, before: Mapping[int, Sample], after: Mapping[int, Sample], *, interleaved: bool
) -> Judgement:
    """The judgement of `pairing` before anything is known."""
    newest = next((sample.record for side in (after, before) for sample in reversed(list(side.values()))), None)
    workload, parameters, runtime, options = pairing
    return Judgement(
        workload=workload,
        parameters=msgspec.json.decode(parameters) if newest is None else newest.parameters,
        runtime=runtime,
        options=msgspec.json.decode(options) if newest is None else newest.options,
        is_bound=newest is not None and newest.is_bound,
        differs=None if newest is None else newest.differs,
        unit=next((s.record.unit for side in (after, before) for s in side.values() if s.record.unit), "unit"),
        verdict=Verdict.MISSING,
        interleaved=interleaved,
    )


def _refused(
    before: Mapping[int, Sample], after: Mapping[int, Sample], base_wrong: str | None, head_wrong: str | None
) -> tuple[Verdict, tuple[str, ...]] | None:
    """The verdict where there is nothing to compare, the gravest that holds, and all reasons; else None."""
    found: list[tuple[Verdict, str]] = []
    ended: tuple[tuple[Verdict, Outcome], ...] = ((Verdict.FAILED, "failed"), (Verdict.TIMEOUT, "timeout"))
    for side, samples in (("head", after), ("base", before)):
        found += [(verdict, f"{side} {why}") for verdict, outcome in ended if (why := _ended(samples, outcome))]
    if head_wrong is not None:
        found.append((Verdict.INVALID, f"head: {head_wrong}"))
    if base_wrong is not None:
        found.append((Verdict.NOT_COMPARABLE, f"base: {base_wrong}"))
    unlike = _unlike(before, after)
    if unlike is not None:
        found.append((Verdict.NOT_COMPARABLE, unlike))
    if not _ok(after) and not _ended(after, "failed") and not _ended(after, "timeout"):
        found.append((Verdict.MISSING, f"head {_ended(after, 'skipped') or 'was not measured'}"))
    elif not _ok(before) and not _ended(before, "failed") and not _ended(before, "timeout"):
        # It lacks the cell, or refuses it: the head can do more. For want of memory it was merely not measured.
        lacked_memory = any(sample.record.lacked_memory for sample in before.values())
        verdict = Verdict.MISSING if lacked_memory else Verdict.NEW
        found.append((verdict, f"base {_ended(before, 'skipped') or 'was not measured'}"))
    if not found:
        return None
    return min((verdict for verdict, _ in found), key=gravity), tuple(why for _, why in found)


def _ok(samples: Mapping[int, Sample]) -> list[Record]:
    return [sample.record for sample in samples.values() if sample.record.outcome == "ok"]


def _ended(samples: Mapping[int, Sample], outcome: Outcome) -> str | None:
    """`failed in 2 of 12 invocations: ... (log: ...)`, or None where none did."""
    such = [sample.record for sample in samples.values() if sample.record.outcome == outcome]
    if not such:
        return None
    reason = " ".join((such[-1].reason or "no reason was recorded").split())
    log = f" (log: {such[-1].log})" if such[-1].log else ""
    words = {"timeout": "timed out", "skipped": "was skipped"}
    return f"{words.get(outcome, outcome)} in {len(such)} of {plural(len(samples), 'invocation')}: {reason}{log}"


def _unlike(before: Mapping[int, Sample], after: Mapping[int, Sample]) -> str | None:
    """In what the work of two invocations of one seed differs, or None."""
    common = [
        (before[seed].record, after[seed].record)
        for seed in sorted(before.keys() & after.keys())
        if before[seed].record.outcome == after[seed].record.outcome == "ok"
    ]
    for name, what in (("rounds", "rounds"), ("warmup_rounds", "warm-up rounds"), ("units_per_round", "units a round")):
        for base, head in common:
            there, here = getattr(base, name), getattr(head, name)
            if there != here:
                return f"the base has {there} {what} and the head {here}"
    seeds = [head.seed for base, head in common if base.digest != head.digest]
    if seeds:
        shown = ", ".join(map(str, seeds[:3])) + (" and more" if len(seeds) > 3 else "")  # noqa: PLR2004 - a few
        return f"the two computed different things: digests differ for seed {shown}"
    return None


def _invalid(samples: Samples) -> dict[PairingKey, str]:
    """Who, on one side, computed something else than that side's plain loop."""
    cells: dict[tuple[str, str], dict[PairingKey, list[Record]]] = defaultdict(dict)
    for pairing, of_seed in samples.items():
        records = _ok(of_seed)
        if records and not any(record.is_bound or record.differs for record in records):
            cells[pairing[:2]][pairing] = records
    found: dict[PairingKey, str] = {}
    for measured in cells.values():
        reference = next((pairing for pairing in measured if pairing[2] == SEQUENTIAL), None)
        invalid = check_digests(measured, reference).invalid
        found |= {pairing: invalid[pairing] for pairing in measured if pairing in invalid}
    return found


def _with_sides(
    judged: Judgement, before: Mapping[int, Sample], after: Mapping[int, Sample], *, with_flags: bool
) -> Judgement:
    """`judged` with what each side did in the pairs that count."""
    seeds = [pair.seed for pair in judged.pairs]
    if not seeds:
        return judged
    base, head = ([samples[seed].record for seed in seeds] for samples in (before, after))
    flags = (*flags_of(base, "base "), *flags_of(head, "head ")) if with_flags else ()
    return replace(
        judged,
        base=_side(base, [pair.base_s for pair in judged.pairs], judged.pairs),
        head=_side(head, [pair.head_s for pair in judged.pairs], judged.pairs),
        flags=(*judged.flags, *flags),
    )


def _side(records: Sequence[Record], seconds: Sequence[float], pairs: Sequence[Pair]) -> Side:
    units = sum(pair.rounds * (record.units_per_round or 0) for pair, record in zip(pairs, records, strict=True))
    quantiles: dict[str, float | None] = {}
    for name in ("p50", "p95", "p99"):
        known = [value for record in records if (value := (record.round_quantiles_s or {}).get(name)) is not None]
        # Of most invocations or of none: the median of a few long ones would be that of another sample.
        quantiles[name] = median(known) if 2 * len(known) > len(records) else None
    return Side(units_per_s=units / sum(seconds), quantiles_s=quantiles)


def flags_of(records: Sequence[Record], side: str = "") -> list[str]:
    """What is odd in at least half of the invocations looked at, and how many began while others were busy.

    `side`, with a space behind it, says in the flags whose invocations they are.
    """
    looked_at = records[:: max(1, len(records) // _LOOKED_AT)]
    of = f"in {{}} of {len(looked_at)} {side}invocations"
    drifting = sum(drifts(record.rounds_s) for record in looked_at)
    split = sum(is_bimodal(record.rounds_s) for record in looked_at)
    busy = sum(record.busy_before > BUSY for record in records)
    flags = []
    if 2 * drifting >= len(looked_at):
        flags.append(f"rounds drift {of.format(drifting)}")
    if 2 * split >= len(looked_at):
        flags.append(f"rounds take one of two times {of.format(split)}")
    if busy:
        flags.append(f"other programs were busy before {busy} of {len(records)} {side}invocations")
    return flags
