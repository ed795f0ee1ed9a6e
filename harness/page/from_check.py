"""The page of a comparison of two versions: verdicts of `harness.regression` as rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.page.model import QUANTILES, Page, PagePair, PageRecord, PageRow
from harness.page.scaling import scaling_of
from harness.page.telling import (
    fairness_of_check,
    machine_rows,
    measuring_arguments,
    method_of_check,
    settings_arguments,
    wrapped,
)
from harness.plan import pairing_of
from harness.regression.judging import Verdict
from harness.wording import Labels, compact_json, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.plan import PairingKey, Plan
    from harness.records import Record
    from harness.regression.judged import Judged
    from harness.regression.judging import Judgement, Side
    from harness.regression.pairs import Pair

__all__ = ["check_page"]


def check_page(  # noqa: PLR0913 - what two kinds of folders know
    judged: Judged,
    base: Sequence[Record],
    head: Sequence[Record],
    *,
    plan: Plan | None = None,
    second_pairs: int = 0,
    is_two_folders: bool = False,
) -> Page:
    """What `judged` says, with the records of both sides behind it, each in the order of their file.

    For one folder that holds both, `base` and `head` are the same and a record's `side` tells; with `is_two_folders`
    each is a side of its own. `plan` is that of the head, and `second_pairs` how many a second set has.
    """
    sides = {name: _by_pairing(records, "" if is_two_folders else name) for name, records in _named(base, head)}
    labels = Labels(judged.judgements)
    rows = tuple(
        _row(number, one, labels, sides["base"].get(_key(one), ()), sides["head"].get(_key(one), ()), plan)
        for number, one in enumerate(judged.judgements, start=1)
    )
    newest = next((record.machine for record in reversed(head) if record.machine), {})
    return Page(
        kind="check",
        title=judged.title,
        finding=_finding(judged),
        base_name=judged.base_name,
        head_name=judged.head_name,
        rows=rows,
        band=judged.margins.same,
        stamps=judged.stamps,
        warnings=judged.warnings,
        scaling=scaling_of(rows),
        fairness=(*fairness_of_check(plan), *_unlike(judged.judgements)),
        machine=(*machine_rows(newest), *_versions(judged)),
        method=method_of_check(judged.margins, interleaved=judged.interleaved, second_pairs=second_pairs),
        command=judged.command,
        measured_on=judged.machine,
        measured_at=next((record.started_at for record in reversed(head) if record.started_at), ""),
    )


def _named(base: Sequence[Record], head: Sequence[Record]) -> tuple[tuple[str, Sequence[Record]], ...]:
    return ("base", base), ("head", head)


def _key(one: Judgement) -> PairingKey:
    return one.workload, compact_json(one.parameters), one.runtime, compact_json(one.options)


def _by_pairing(records: Sequence[Record], side: str) -> dict[PairingKey, tuple[PageRecord, ...]]:
    """The newest record of each seed."""
    found: dict[PairingKey, dict[int, PageRecord]] = {}
    for line, record in enumerate(records, start=1):
        if record.side == side:
            found.setdefault(pairing_of(record), {})[record.seed] = PageRecord(line=line, record=record)
    return {pairing: tuple(of_seed.values()) for pairing, of_seed in found.items()}


def _row(  # noqa: PLR0913, PLR0917 - all that a row is made of
    number: int,
    one: Judgement,
    labels: Labels,
    base: tuple[PageRecord, ...],
    head: tuple[PageRecord, ...],
    plan: Plan | None,
) -> PageRow:
    lines = {found.line: found.record for found in base}, {found.line: found.record for found in head}
    pairs = [
        *(_pair(pair, *lines, counts=False) for pair in one.first_pairs),
        *(_pair(pair, *lines, counts=True) for pair in one.pairs),
    ]
    sample = next((found.record for found in (*head, *base)), None)
    return PageRow(
        number=number,
        verdict=one.verdict.value,
        workload=one.workload,
        cell=labels.cell(one),
        parameters=one.parameters,
        runtime=labels.runtime(one),
        options=one.options,
        unit=one.unit,
        base_units_per_s=one.base.units_per_s if one.base else None,
        head_units_per_s=one.head.units_per_s if one.head else None,
        ratio=one.ratio,
        detectable=one.detectable,
        quantiles_s=_quantiles(one.head),
        base_quantiles_s=_quantiles(one.base),
        q_value=one.q_value,
        flags=one.flags,
        reasons=(*one.reasons, *_hidden(one)),
        remarks=_remarks(one, head),
        pairs=tuple(pair for pair in pairs if pair is not None),
        base_records=base,
        head_records=head,
        command=_command(one, plan, sample),
        profile=one.profile,
    )


def _pair(pair: Pair, base: dict[int, Record], head: dict[int, Record], *, counts: bool) -> PagePair | None:
    """`pair` as rates; None where its records are not at hand, as of a baseline that keeps no rounds."""
    before, after = base.get(pair.base_line), head.get(pair.head_line)
    units = (after and after.units_per_round) or (before and before.units_per_round) or 1
    return PagePair(
        block=pair.block,
        seed=pair.seed,
        base_units_per_s=pair.rounds * units / pair.base_s,
        head_units_per_s=pair.rounds * units / pair.head_s,
        base_line=pair.base_line,
        head_line=pair.head_line,
        counts=counts,
    )


def _quantiles(side: Side | None) -> dict[str, float | None]:
    return {name: None if side is None else side.quantiles_s.get(name) for name in QUANTILES}


def _hidden(one: Judgement) -> list[str]:
    return ["a slowdown that must not pass unseen may hide in the interval"] if one.hides_target else []


def _remarks(one: Judgement, head: Sequence[PageRecord]) -> tuple[str, ...]:
    remarks = [found.record.notice for found in head if found.record.notice]
    if one.is_bound:
        remarks.append("it is a bound, not a competitor: it does less than a whole round and has no digest")
    if one.differs:
        remarks.append(f"it computes something else than the plain loop: {one.differs}")
    if not one.interleaved:
        remarks.append("the two sides did not take turns, so the machine may have changed between them")
    return tuple(dict.fromkeys(remarks))


def _command(one: Judgement, plan: Plan | None, sample: Record | None) -> str:
    groups = measuring_arguments(one.workload, one.parameters, [(one.runtime, one.options)])
    # A check has its own number of pairs, whatever the plan has.
    groups += settings_arguments(plan, sample, None)
    return wrapped(["reactorbench", "check"], [*groups, ["--base", "PYTHON-OF-BASE"], ["--head", "PYTHON-OF-HEAD"]])


def _finding(judged: Judged) -> str:
    """`1 of 12 cells is slower, 1 failed; 9 are the same`."""
    counts, total = judged.counts, len(judged.judgements)
    if not total:
        return "Nothing was compared"
    bad = [_told(verdict, counts[verdict]) for verdict in _TROUBLES if verdict in counts]
    if bad:
        return f"Of {plural(total, 'cell')}, {', '.join(bad)}"
    if counts.get(Verdict.SAME, 0) == total:
        return f"{'The one cell is' if total == 1 else f'All {total} cells are'} the same"
    words = [f"{number} {verdict.value}" for verdict, number in counts.items()]
    return f"Nothing is slower and nothing failed: {', '.join(words)}"


def _told(verdict: Verdict, number: int) -> str:
    """`1 is slower`, `2 timed out`."""
    if verdict in _ADJECTIVES:
        return f"{number} {'is' if number == 1 else 'are'} {verdict.value}"
    return f"{number} {'timed out' if verdict is Verdict.TIMEOUT else verdict.value}"


_ADJECTIVES = (Verdict.SLOWER, Verdict.INVALID, Verdict.MISSING, Verdict.NOT_COMPARABLE)
_TROUBLES = (Verdict.FAILED, Verdict.INVALID, Verdict.TIMEOUT, Verdict.SLOWER, Verdict.MISSING, Verdict.NOT_COMPARABLE)


def _unlike(judgements: Sequence[Judgement]) -> list[str]:
    """Who is not like the others."""
    others = dict.fromkeys((one.runtime, one.differs) for one in judgements if one.differs)
    return [
        f"{name} is compared on units of work only, since it computes something else: {why}" for name, why in others
    ]


def _versions(judged: Judged) -> list[tuple[str, str]]:
    """What each side's version says of itself."""
    rows = []
    for side, facts in judged.facts.items():
        parts = [f"{facts['reactorbench']}" if facts.get("reactorbench") else "", str(facts.get("python") or "")]
        packages = facts.get("packages") or {}
        parts += [f"{name} {version}" for name, version in packages.items()]
        rows.append((f"{side.capitalize()}: {facts.get('name', side)}", ", ".join(filter(None, parts))))
    return rows
