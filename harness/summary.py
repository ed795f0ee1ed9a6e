"""From records to rows: one row for each cell (workload and parameters) and runtime (name and options).

Pure and quick, so that the table can grow while a run goes on: no pandas, no files. Every number and
verdict of a report is made here; `report` and `figures` only show them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec

from harness.errors import ExitStatus, UsageError
from harness.statistics import Estimate, rate_estimate, ratio_estimate
from harness.validity import Validity, check_digests
from harness.wording import Labels, compact_json, estimate_columns, in_ratio, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.learning.records import TrainingRecord
    from harness.records import Record

__all__ = [
    "COLUMNS",
    "RowOutcome",
    "SummaryRow",
    "cells_of",
    "exit_status",
    "failures",
    "finding",
    "flat",
    "outcome_of",
    "summarise",
    "usable",
    "work_of",
]

RowOutcome = Literal["ok", "failed", "timeout", "skipped", "invalid"]

SEQUENTIAL = "sequential"
RAY = "ray"
RAY_AS_PUBLISHED = "ray-by-value"
"""The paper's own use of Ray. It reproduces figures and is never the best Ray: nobody who wants speed would choose it,
and where it sends what `ray` sends, chance alone would make it the faster of two equal programs."""
SUBJECT = "reactor"
"""The runtime that the findings speak of, where it was measured."""

_FAR_APART_S = 3600.0
"""Runs of one pair that began further apart than this may have met different machines."""

RowKey = tuple[str, str]
"""Runtime and its options as compact JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryRow:
    """What all invocations of one runtime on one cell say together."""

    workload: str
    parameters: Mapping[str, Any]
    runtime: str
    options: Mapping[str, Any]
    outcome: RowOutcome
    """The worst of its invocations; `invalid` where what it computed is wrong."""
    invocations: int
    """Invocations that ran, whatever became of them."""
    measured: int
    """Invocations behind the numbers: those that ended `ok`."""
    unit: str | None
    units_per_s: Estimate | None
    """Shown for every row that measured something; speedups only for rows that are `ok`."""
    updates_per_s: Estimate | None = None
    """Updates of what is learnt a second, where something is and all of its invocations counted them."""
    over_sequential: Estimate | None = None
    over_ray: Estimate | None = None
    over_best_ray: Estimate | None = None
    best_ray: RowKey | None = None
    """The Ray runtime that `over_best_ray` refers to."""
    plain_loop: RowKey | None = None
    """The runtime that `over_sequential` refers to, whatever became of it."""
    seconds_per_unit: Mapping[tuple[int, int], float] = field(default_factory=dict[tuple[int, int], float])
    """Of each measured invocation, by block and seed."""
    units_per_round: int | None = None
    cores: int | None = None
    """Physical cores that it could use, at most as many as processors; None where its records do not say."""
    is_bound: bool = False
    """It is no competitor but a bound on all of them: it has no speedup, and is never the best of anything."""
    differs: str | None = None
    """Why it computes something else than the plain loop, where it does: its digests count for nothing."""
    efficiency: Estimate | None = None
    """Throughput as a fraction of the bound's, where the cell has one."""
    startup_s: float | None = None
    """Median."""
    startup_earned_back_rounds: int | None = None
    """Rounds after which its longer start-up than the sequential runtime's is made good; None if never."""
    pss_bytes: int | None = None
    """Median."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of each metric that was asked for, the median."""
    resets: int | None = None
    """Sum."""
    emulator_frames: int | None = None
    """Sum."""
    reasons: tuple[str, ...] = ()
    """Why the outcome is not `ok`, and what else went wrong."""
    notices: tuple[str, ...] = ()
    """What a reader must know about this runtime's options."""
    cell_notes: tuple[str, ...] = ()
    """What could not be checked in the cell, or compares what is far apart; the same in all its rows."""

    @property
    def cell(self) -> tuple[str, str]:
        """Workload and its parameters as compact JSON."""
        return self.workload, compact_json(self.parameters)

    @property
    def is_ray(self) -> bool:
        """Whether it is one of those of which the fastest is the best Ray."""
        return self.runtime.startswith(RAY) and self.runtime != RAY_AS_PUBLISHED and not self.is_bound

    @property
    def key(self) -> RowKey:
        """Runtime and its options as compact JSON."""
        return self.runtime, compact_json(self.options)

    @property
    def speedups(self) -> Mapping[str, Estimate | None]:
        """The three ratios by the name of what they refer to, as columns name it."""
        return {"sequential": self.over_sequential, "ray": self.over_ray, "best_ray": self.over_best_ray}

    @property
    def efficiency_per_core(self) -> float | None:
        """Speedup over the plain loop, which uses one core, by physical core: 1 where each does as much as that one."""
        return self.over_sequential.point / self.cores if self.over_sequential and self.cores else None


def default_options(runtime: str) -> Mapping[str, Any] | None:
    """The defaults of an installed runtime's options, or None where it is not, or not soundly, installed here."""
    from harness.registry import runtimes

    try:
        options = runtimes().get(runtime).options
    except UsageError:
        return None
    defaults: dict[str, Any] = msgspec.to_builtins(options())
    return defaults


def summarise(
    records: Iterable[Record], *, defaults: Callable[[str], Mapping[str, Any] | None] = default_options
) -> list[SummaryRow]:
    """Rows in the order in which cells, and then runtimes, first appear in `records` (oldest first).

    Of several records of one cell, runtime and block, the last counts. `defaults` is asked for a
    runtime's default options where a cell has that runtime with several, to find the one that others
    are compared with.
    """
    cells: dict[tuple[str, str], dict[RowKey, dict[int, Record]]] = {}
    for record in records:
        rows = cells.setdefault((record.workload, compact_json(record.parameters)), {})
        rows.setdefault((record.runtime, compact_json(record.options)), {})[record.block] = record
    return [
        row
        for rows in cells.values()
        for row in _cell_rows({key: list(blocks.values()) for key, blocks in rows.items()}, defaults)
    ]


class Row(Protocol):
    """What rows of a run and of trainings have in common."""

    @property
    def cell(self) -> tuple[str, str]:
        """Workload and its parameters as compact JSON."""
        ...

    @property
    def outcome(self) -> RowOutcome:
        """The worst of what is behind it."""
        ...

    @property
    def measured(self) -> int:
        """How much of what is behind it ended `ok`."""
        ...


AnyRow = TypeVar("AnyRow", bound=Row)


def cells_of(rows: Iterable[AnyRow]) -> list[list[AnyRow]]:
    """`rows` of each cell, cells in order of appearance."""
    cells: dict[tuple[str, str], list[AnyRow]] = {}
    for row in rows:
        cells.setdefault(row.cell, []).append(row)
    return list(cells.values())


def usable(rows: Iterable[SummaryRow]) -> list[SummaryRow]:
    """Those of `rows` that can be compared with one another: `ok`, with a throughput, and no bounds."""
    return [row for row in _measured(rows) if not row.is_bound]


def _measured(rows: Iterable[SummaryRow]) -> list[SummaryRow]:
    """Those of `rows` that are `ok` and have a throughput, bounds included."""
    return [row for row in rows if row.outcome == "ok" and row.units_per_s is not None]


def exit_status(rows: Sequence[Row]) -> ExitStatus:
    """What a command that shows these rows exits with."""
    outcomes = {row.outcome for row in rows}
    if outcomes & {"failed", "invalid"}:
        return ExitStatus.FAILED_OR_INVALID
    if "timeout" in outcomes:
        return ExitStatus.TIMED_OUT
    if not any(row.measured for row in rows):
        return ExitStatus.NOTHING_MEASURED
    return ExitStatus.OK


def finding(rows: Sequence[SummaryRow]) -> str:
    """The result in one sentence, for the title of a figure: how much faster, than what, where."""
    subject = SUBJECT if any(row.runtime == SUBJECT for row in rows) else None
    own = [row for row in rows if row.runtime == subject]
    shown = _compared(usable(own) if subject else _fastest(rows))
    if not shown and not subject:
        shown = _compared(_fastest([row for row in rows if row.runtime != SEQUENTIAL]))
    wrong = _wrong_cells(own)
    if not shown:
        return " ".join(filter(None, ["No speedup", subject and f"of {subject}", "can be shown"])) + wrong
    clauses = (
        _times([row.over_sequential for row in shown if row.runtime != SEQUENTIAL], "the plain loop"),
        _times([row.over_best_ray for row in shown if not row.is_ray], "the best Ray"),
    )
    names = {row.runtime for row in shown}
    name = names.pop() if len(names) == 1 else "The fastest runtime"
    cells, all_cells = {row.cell for row in shown}, {row.cell for row in own or shown}
    of_all = f" of {len(all_cells)}" if all_cells > cells else ""
    where = f"on {Labels(rows).cell(shown[0])}" if len(cells) == 1 else f"across {len(cells)}{of_all} cells"
    return f"{name} is {' and '.join(filter(None, clauses))} {where}{wrong}"


def _compared(rows: Iterable[SummaryRow]) -> list[SummaryRow]:
    """Those of `rows` with a speedup that a finding can speak of: no reference over itself."""
    return [
        row
        for row in rows
        if (row.over_sequential is not None and row.runtime != SEQUENTIAL)
        or (row.over_best_ray is not None and not row.is_ray)
    ]


def _wrong_cells(rows: Sequence[SummaryRow]) -> str:
    """`; invalid on 1 cell, failed on 2 cells`; nothing where all went well."""
    words: Mapping[RowOutcome, str] = {
        "invalid": "invalid",
        "failed": "failed",
        "timeout": "timed out",
        "skipped": "skipped",
    }
    counts = {word: len({row.cell for row in rows if row.outcome == outcome}) for outcome, word in words.items()}
    parts = [f"{word} on {plural(count, 'cell')}" for word, count in counts.items() if count]
    return f"; {', '.join(parts)}" if parts else ""


def _fastest(rows: Sequence[SummaryRow]) -> list[SummaryRow]:
    """Of each cell the valid row with the highest throughput."""
    return [max(valid, key=_units_per_s) for cell in cells_of(rows) if (valid := usable(cell))]


def _times(estimates: Sequence[Estimate | None], what: str) -> str | None:
    points = [estimate.point for estimate in estimates if estimate is not None]
    if not points:
        return None
    low, high = _two_digits(min(points)), _two_digits(max(points))
    return f"{low} {what}" if low == high else f"{low} to {high} {what}"


def _two_digits(value: float) -> str:
    """A title's precision: `1.8x`, `12x`, `0.018x`."""
    return in_ratio(value) if value >= 100 else f"{float(f'{value:.2g}'):#.2g}x".replace(".x", "x")  # noqa: PLR2004 - all digits shown


# ---------------------------------------------------------------------------------------- one cell


def _cell_rows(
    rows: Mapping[RowKey, Sequence[Record]], defaults: Callable[[str], Mapping[str, Any] | None]
) -> list[SummaryRow]:
    measured = {key: [record for record in records if record.outcome == "ok"] for key, records in rows.items()}
    sequential = _reference(SEQUENTIAL, rows, defaults)
    undigested = {key for key, records in rows.items() if any(r.is_bound or r.differs for r in records)}
    validity = check_digests({key: records for key, records in measured.items() if key not in undigested}, sequential)
    bare = {key: _row(key, records, validity) for key, records in rows.items()}
    valid = usable(bare.values())
    valid_keys = {row.key for row in valid}
    ray = _reference(RAY, rows, defaults)
    # What computes something else might do less.
    rays = [row for row in valid if row.is_ray and not row.differs]
    best_ray = max(rays, key=_units_per_s).key if rays else None
    # Of several bounds the one that is hardest to reach.
    bound = max((row for row in _measured(bare.values()) if row.is_bound), key=_units_per_s, default=None)
    bound_key = None if bound is None else bound.key

    def over(key: RowKey, reference: RowKey | None) -> Estimate | None:
        if reference is None or not {key, reference} <= valid_keys:
            return None
        return _speedup(measured[key], measured[reference])

    def efficiency(key: RowKey) -> Estimate | None:
        if bound_key is None or key not in valid_keys | {bound_key}:
            return None
        return _speedup(measured[key], measured[bound_key])

    compared = {key: measured[key] for key in (*valid_keys, bound_key) if key is not None}
    apart = _pairs_far_apart(compared, (sequential, ray, best_ray, bound_key))
    notes = [f"{plural(apart, 'pair')} {'was' if apart == 1 else 'were'} measured more than an hour apart."]
    return [
        replace(
            row,
            cell_notes=(*row.cell_notes, *notes) if apart else row.cell_notes,
            over_sequential=over(key, sequential),
            over_ray=over(key, ray),
            over_best_ray=over(key, best_ray),
            best_ray=best_ray,
            plain_loop=sequential,
            efficiency=efficiency(key),
            startup_earned_back_rounds=_earned_back(row, bare[sequential])
            if sequential is not None and {key, sequential} <= valid_keys
            else None,
        )
        for key, row in bare.items()
    ]


def _pairs_far_apart(measured: Mapping[RowKey, Sequence[Record]], references: Iterable[RowKey | None]) -> int:
    """How many pairs of a runtime and a reference, of one block and seed, began long after one another."""
    far = {
        (frozenset({key, reference}), record.block)
        for reference in references
        for other in measured.get(reference or ("", ""), ())
        for key, records in measured.items()
        for record in records
        if (record.block, record.seed) == (other.block, other.seed)
        and abs(_began_s(record, other) - _began_s(other, record)) > _FAR_APART_S
    }
    return len(far)


def _began_s(record: Record, other: Record) -> float:
    """When `record` began, in seconds of the epoch; 0 where it or `other` does not say."""
    if record.started_at is None or other.started_at is None:
        return 0.0
    return datetime.fromisoformat(record.started_at).timestamp()


def _units_per_s(row: SummaryRow) -> float:
    return row.units_per_s.point if row.units_per_s is not None else 0.0


def _reference(
    runtime: str,
    rows: Mapping[RowKey, Sequence[Record]],
    defaults: Callable[[str], Mapping[str, Any] | None],
) -> RowKey | None:
    """The row of `runtime` that others are compared with: of several the one with default options, else the first."""
    keys = [key for key in rows if key[0] == runtime]
    if len(keys) > 1:
        options = defaults(runtime)
        if options is not None and (runtime, compact_json(options)) in keys:
            return runtime, compact_json(options)
    return keys[0] if keys else None


def _row(key: RowKey, records: Sequence[Record], validity: Validity) -> SummaryRow:
    """The row of one runtime, without what compares it with others."""
    newest = records[-1]
    ok = [record for record in records if record.outcome == "ok"]
    work = {(record.block, record.seed): done for record in ok if (done := work_of(record)) is not None}
    updates = [record.updates for record in ok if work_of(record) is not None and record.updates]
    unmeasured = len(ok) - len(work)
    reasons = [validity.invalid[key]] if key in validity.invalid else []
    reasons += failures(records, "invocation")
    if unmeasured:
        reasons.append(f"{plural(unmeasured, 'invocation')} ended well but recorded no measured round")
    return SummaryRow(
        workload=newest.workload,
        parameters=newest.parameters,
        runtime=newest.runtime,
        options=newest.options,
        outcome=outcome_of(records, invalid=key in validity.invalid),
        invocations=sum(record.outcome != "skipped" for record in records),
        measured=len(work),
        unit=next((record.unit for record in reversed(records) if record.unit), None),
        units_per_s=rate_estimate(*zip(*work.values(), strict=True)) if work else None,
        updates_per_s=rate_estimate(updates, [seconds for _, seconds in work.values()])
        if work and len(updates) == len(work)
        else None,
        seconds_per_unit={pair: seconds / units for pair, (units, seconds) in work.items()},
        units_per_round=ok[-1].units_per_round if ok else None,
        cores=_cores(newest.machine),
        startup_s=_median([record.startup_s for record in ok]),
        pss_bytes=_rounded(_median([record.pss_bytes for record in ok])),
        metrics={
            name: median([record.metrics[name] for record in ok if name in record.metrics])
            for name in dict.fromkeys(name for record in ok for name in record.metrics)
        },
        resets=_sum([record.resets for record in ok]),
        emulator_frames=_sum([record.emulator_frames for record in ok]),
        reasons=tuple(reasons),
        notices=tuple(dict.fromkeys(record.notice for record in records if record.notice)),
        cell_notes=validity.notes,
        is_bound=any(record.is_bound for record in records),
        differs=next((record.differs for record in reversed(records) if record.differs), None),
    )


def work_of(record: Record) -> tuple[int, float] | None:
    """Units done and seconds taken in the measured rounds of `record`, or None if it measured none.

    Records that lack the sums, which not every schema had, have them made good from the list of durations.
    """
    rounds = record.measured_rounds or len(record.rounds_s) * record.rounds_per_value
    seconds = record.measured_s or math.fsum(record.rounds_s) * record.rounds_per_value
    units = rounds * (record.units_per_round or 0)
    return (units, seconds) if units > 0 and seconds > 0 else None


def _cores(machine: Mapping[str, Any]) -> int | None:
    """Physical cores, or processors where these are fewer: a process may be allowed to use some only."""
    known = [machine.get("physical_cores"), machine.get("processors")]
    cores, processors = (n if isinstance(n, int) and n > 0 else None for n in known)
    return cores if cores is None or processors is None else min(cores, processors)


def outcome_of(records: Iterable[Record | TrainingRecord], *, invalid: bool = False) -> RowOutcome:
    """The worst first: a wrong result, a failure, a timeout; skipped only if nothing ran."""
    outcomes = {record.outcome for record in records}
    if invalid:
        return "invalid"
    ordered: tuple[RowOutcome, ...] = ("failed", "timeout", "ok", "skipped")
    return next(outcome for outcome in ordered if outcome in outcomes)


def failures(records: Sequence[Record] | Sequence[TrainingRecord], noun: str) -> list[str]:
    """What became of what did not end `ok`, each a `noun`: every different reason once, with its number and log."""
    others = [record for record in records if record.outcome != "ok"]
    kinds = dict.fromkeys((record.outcome, record.reason) for record in others)
    lines = []
    for outcome, reason in kinds:
        same = [record for record in others if (record.outcome, record.reason) == (outcome, reason)]
        log = f" (log: {same[-1].log})" if same[-1].log else ""
        why = " ".join((reason or "no reason was recorded").split())
        lines.append(f"{outcome} in {len(same)} of {plural(len(records), noun)}: {why}{log}")
    return lines


def _speedup(records: Sequence[Record], reference: Sequence[Record]) -> Estimate | None:
    """The ratio of throughputs over pairs of one block and seed; None without a pair."""
    others = {(record.block, record.seed): work for record in reference if (work := work_of(record)) is not None}
    log_ratios = []
    for record in records:
        ours, theirs = work_of(record), others.get((record.block, record.seed))
        if ours is not None and theirs is not None:
            log_ratios.append(math.log(ours[0] / ours[1]) - math.log(theirs[0] / theirs[1]))
    return ratio_estimate(log_ratios) if log_ratios else None


def _earned_back(row: SummaryRow, sequential: SummaryRow) -> int | None:
    """Rounds from which the time gained on the sequential runtime outweighs the longer start-up."""
    gained = 1 / _units_per_s(sequential) - 1 / _units_per_s(row)
    if row.startup_s is None or sequential.startup_s is None or not row.units_per_round or gained <= 0:
        return None
    return max(0, math.ceil((row.startup_s - sequential.startup_s) / (gained * row.units_per_round)))


def _median(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return median(present) if present else None


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _sum(values: Iterable[int | None]) -> int | None:
    present = [value for value in values if value is not None]
    return sum(present) if present else None


# ------------------------------------------------------------------------------------- summary.csv


_RATIOS = ("sequential", "ray", "best_ray")

COLUMNS = (
    "workload",
    "parameters",
    "runtime",
    "options",
    "outcome",
    "invocations",
    "units_per_s",
    "units_per_s_low",
    "units_per_s_high",
    *(f"speedup_over_{reference}{end}" for reference in _RATIOS for end in ("", "_low", "_high")),
    "startup_s",
    "pss_bytes",
    "resets",
    "emulator_frames",
    # Other people's scripts rely on the columns above; new ones are added below, at the end.
    "interval",
    "measured_invocations",
    *(f"pairs_over_{reference}" for reference in _RATIOS),
    "best_ray",
    "unit",
    "startup_earned_back_rounds",
    "reason",
    "notice",
    "bound",
    "differs",
    "efficiency_low",
    "efficiency_high",
    "efficiency",
    "efficiency_per_core",
    "metrics",
    *(f"updates_per_s{end}" for end in ("", "_low", "_high")),
)
"""The columns of `summary.csv`, in order."""


def flat(row: SummaryRow) -> dict[str, str | int | float | None]:
    """`row` as one line of `summary.csv`, by column.

    `interval` says what low and high of the throughput are; those of a speedup are a 95 % interval from
    six pairs up, a range below.
    """
    values: dict[str, str | int | float | None] = {
        "workload": row.workload,
        "parameters": compact_json(row.parameters),
        "runtime": row.runtime,
        "options": compact_json(row.options),
        "outcome": row.outcome,
        "invocations": row.invocations,
        **estimate_columns("units_per_s", row.units_per_s),
    }
    for reference, estimate in row.speedups.items():
        values |= estimate_columns(f"speedup_over_{reference}", estimate)
        values[f"pairs_over_{reference}"] = estimate.n if estimate else None
    values |= {
        "startup_s": row.startup_s,
        "pss_bytes": row.pss_bytes,
        "resets": row.resets,
        "emulator_frames": row.emulator_frames,
        "interval": row.units_per_s.kind if row.units_per_s else None,
        "measured_invocations": row.measured,
        "best_ray": _name(row.best_ray),
        "unit": row.unit,
        "startup_earned_back_rounds": row.startup_earned_back_rounds,
        "reason": "; ".join(row.reasons) or None,
        "notice": "; ".join(row.notices) or None,
        "bound": row.is_bound,
        **estimate_columns("efficiency", row.efficiency),
        "differs": row.differs,
        "efficiency_per_core": row.efficiency_per_core,
        "metrics": compact_json(row.metrics) if row.metrics else None,
        **estimate_columns("updates_per_s", row.updates_per_s),
    }
    return {column: values[column] for column in COLUMNS}


def _name(key: RowKey | None) -> str | None:
    return None if key is None else f"{key[0]} {key[1]}"
