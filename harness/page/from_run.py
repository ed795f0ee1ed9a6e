"""The page of a run: rows of `harness.summary`, each runtime against the plain loop of its cell."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from harness.page.model import QUANTILES, Page, PageClaim, PagePair, PageRecord, PageRow, round_quantiles
from harness.page.scaling import scaling_of
from harness.page.telling import (
    fairness_of_run,
    machine_rows,
    measuring_arguments,
    method_of_run,
    settings_arguments,
    wrapped,
)
from harness.regression.judged import flags_of
from harness.regression.judging import INTERLEAVED
from harness.report import machine_line
from harness.row_records import RowRecords
from harness.scaling import scalings
from harness.statistics import INTERVAL, detectable_change
from harness.summary import SEQUENTIAL, cells_of, finding, work_of
from harness.wording import Labels, in_fraction, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.plan import Plan
    from harness.records import Record
    from harness.scaling import Scaling
    from harness.statistics import Estimate
    from harness.summary import SummaryRow

__all__ = ["run_page"]


def run_page(
    rows: Sequence[SummaryRow], records: Sequence[Record], *, plan: Plan | None, warnings: Sequence[str]
) -> Page:
    """What `rows` say, with `records` behind them, in the order of their file."""
    behind, labels = RowRecords(records), Labels(rows)
    shown: list[PageRow] = []
    for cell in cells_of(rows):
        base = _plain_loop(cell)
        shown += [_row(len(shown) + n, row, base, behind, labels, plan) for n, row in enumerate(cell, start=1)]
    newest = next((record.machine for record in reversed(records) if record.machine), {})
    return Page(
        kind="run",
        title=plan.title if plan is not None else "A run",
        finding=finding(rows),
        base_name="plain loop",
        head_name="runtime",
        rows=tuple(shown),
        band=INTERLEAVED.same,
        warnings=tuple(warnings),
        claims=_claims(records),
        scaling=scaling_of(shown, _laws(rows)),
        fairness=(*fairness_of_run(plan), *_unlike(rows)),
        machine=machine_rows(newest),
        method=method_of_run(INTERLEAVED),
        measured_on=machine_line(record.machine for record in records),
        measured_at=next((record.started_at for record in reversed(records) if record.started_at), "") or "",
    )


def _plain_loop(cell: Sequence[SummaryRow]) -> SummaryRow | None:
    """The row that the ratios of `cell` refer to: of several the one whose own ratio is 1 by definition."""
    loops = [row for row in cell if row.runtime == SEQUENTIAL]
    own = [r for r in loops if r.over_sequential is not None and r.over_sequential.low == r.over_sequential.high == 1]
    return next(iter([*own, *loops]), None)


def _row(  # noqa: PLR0913, PLR0917 - all that a row is made of
    number: int, row: SummaryRow, base: SummaryRow | None, behind: RowRecords, labels: Labels, plan: Plan | None
) -> PageRow:
    head_records = _records(behind, row)
    base_records = () if base is None or base is row else _records(behind, base)
    compared = base is not None and base is not row and row.over_sequential is not None
    ratio = row.over_sequential if compared else None
    measured = [one.record for one in head_records if one.record.outcome == "ok"]
    return PageRow(
        number=number,
        verdict=_verdict(row, is_reference=base is row),
        workload=row.workload,
        cell=labels.cell(row),
        parameters=row.parameters,
        runtime=labels.runtime(row),
        options=row.options,
        unit=row.unit or "unit",
        base_units_per_s=base.units_per_s.point if base is not None and base.units_per_s is not None else None,
        head_units_per_s=row.units_per_s.point if row.units_per_s is not None else None,
        ratio=ratio,
        detectable=detectable_change(ratio) if ratio is not None and ratio.kind == INTERVAL else None,
        quantiles_s=_quantiles(measured),
        base_quantiles_s=_quantiles([one.record for one in base_records if one.record.outcome == "ok"]),
        over_best_ray=row.over_best_ray,
        efficiency=row.efficiency,
        flags=tuple(flags_of(measured)) if measured else (),
        reasons=row.reasons,
        remarks=_remarks(row),
        pairs=tuple(_pairs(base_records, head_records)) if compared else (),
        base_records=base_records,
        head_records=head_records,
        command=_command(row, plan, next((one.record for one in head_records), None)),
    )


def _records(behind: RowRecords, row: SummaryRow) -> tuple[PageRecord, ...]:
    return tuple(PageRecord(line=line, record=record) for line, record in behind.newest(row).items())


def _verdict(row: SummaryRow, *, is_reference: bool) -> str:
    """A word of `LOOKS`."""
    ratio = row.over_sequential
    if row.outcome != "ok":
        return row.outcome
    if is_reference:
        return "reference"
    if row.is_bound:
        return "bound"
    if ratio is None:
        return "measured"
    return _of_ratio(ratio) if ratio.kind == INTERVAL else "range"


def _of_ratio(ratio: Estimate) -> str:
    if INTERLEAVED.is_slower(ratio):
        return "slower"
    if INTERLEAVED.is_faster(ratio):
        return "faster"
    return "same" if INTERLEAVED.is_same(ratio) else "inconclusive"


def _quantiles(records: Sequence[Record]) -> dict[str, float | None]:
    """Of each invocation, then their median; None where most do not have it."""
    found: dict[str, float | None] = {}
    each = [round_quantiles(record) for record in records]
    for name in QUANTILES:
        known = [value for one in each if (value := one.get(name)) is not None]
        found[name] = median(known) if 2 * len(known) > len(records) else None
    return found


def _remarks(row: SummaryRow) -> tuple[str, ...]:
    remarks = [*row.notices]
    if row.is_bound:
        remarks.append("it is a bound, not a competitor: it does less than a whole round and has no digest")
    if row.differs:
        remarks.append(f"it computes something else than the plain loop: {row.differs}")
    return (*remarks, *row.cell_notes)


def _pairs(base: Sequence[PageRecord], head: Sequence[PageRecord]) -> list[PagePair]:
    """The pairs behind the row's ratio, as `summary` makes them: by block and seed."""
    before = {(one.record.block, one.record.seed): one for one in base if one.record.outcome == "ok"}
    pairs = []
    for one in head:
        other = before.get((one.record.block, one.record.seed))
        if other is None or one.record.outcome != "ok":
            continue
        ours, theirs = work_of(one.record), work_of(other.record)
        if ours is not None and theirs is not None:
            pairs.append(
                PagePair(
                    block=one.record.block,
                    seed=one.record.seed,
                    base_units_per_s=theirs[0] / theirs[1],
                    head_units_per_s=ours[0] / ours[1],
                    base_line=other.line,
                    head_line=one.line,
                )
            )
    return sorted(pairs, key=lambda pair: pair.seed)


def _command(row: SummaryRow, plan: Plan | None, sample: Record | None) -> str:
    runtimes = [(row.runtime, row.options)]
    if row.runtime != SEQUENTIAL:
        runtimes.append((SEQUENTIAL, {}))
    groups = measuring_arguments(row.workload, row.parameters, runtimes)
    invocations = plan.invocations if plan is not None else max(1, row.invocations)
    return wrapped(["reactorbench", "run"], [*groups, *settings_arguments(plan, sample, invocations)])


def _unlike(rows: Sequence[SummaryRow]) -> list[str]:
    """Who is not like the others, and what a reader must know about options, once each."""
    told = [f"{name}: {notice}" for name, notice in dict.fromkeys((r.runtime, n) for r in rows for n in r.notices)]
    told += [
        f"{name} is a bound, not a competitor: it does less than a whole round, and has no digest and no ratio"
        for name in dict.fromkeys(row.runtime for row in rows if row.is_bound)
    ]
    told += [
        f"{name} is compared on units of work only, since it computes something else: {why}"
        for name, why in dict.fromkeys((row.runtime, row.differs) for row in rows if row.differs)
    ]
    return [*told, *dict.fromkeys(note for row in rows for note in row.cell_notes)]


def _laws(rows: Sequence[SummaryRow]) -> dict[tuple[str, str], list[str]]:
    """What is known of how a cell's runtimes scale, by cell: the laws fitted to them, or why there is none."""
    return {cell[0].cell: [_law(found) for found in scalings(cell)] for cell in cells_of(rows)}


def _law(found: Scaling) -> str:
    if found.amdahl is None or found.universal is None:
        return f"{found.runtime}: {found.problem}."
    both = found.universal
    peak = "no peak" if both.peak is None else f"peak at {plural(both.peak, 'worker')}"
    return (
        f"{found.runtime}: serial fraction {in_fraction(found.amdahl.sigma)} by Amdahl's law; by the Universal "
        f"Scalability Law sigma {in_fraction(both.sigma)}, kappa {in_fraction(both.kappa)}, {peak}."
    )


def _claims(records: Sequence[Record]) -> tuple[PageClaim, ...]:
    """The paper's claims, where this run has measured any of them."""
    from harness.claims import judge

    judged = [one for pair in judge(records) for one in pair]
    if all(one.comparison.estimate is None for one in judged):
        return ()
    shown = []
    for one in judged:
        ours, spell = one.comparison.estimate, one.claim.spell
        if ours is None:
            text = "-"
        elif ours.n == 1:
            text = f"{spell(ours.point)}, one pair"
        else:
            text = f"{spell(ours.point)} ({spell(ours.low)} to {spell(ours.high)})"
        shown.append(
            PageClaim(
                name=one.claim.name,
                figure=one.claim.figure,
                reference=one.comparison.reference,
                published=one.claim.ratio,
                published_text=spell(one.claim.ratio),
                ours=ours,
                ours_text=text,
                verdict=one.verdict,
                reason=one.reason,
            )
        )
    return tuple(shown)
