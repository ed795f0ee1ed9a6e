"""What a page shows, whichever results it is made of: rows with their pairs, invocations and words about them.

Pure data without files. `from_check` and `from_run` make it; `charts` and `render` show it. Two sides are compared in
every row: the base and the head of a check, or the plain loop and a runtime of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from harness.rounds import quantiles_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.records import Record
    from harness.statistics import Estimate

__all__ = [
    "LOOKS",
    "QUANTILES",
    "Page",
    "PageClaim",
    "PagePair",
    "PageRecord",
    "PageRow",
    "PageScaling",
    "VerdictLook",
    "counts_of",
    "round_quantiles",
]

QUANTILES = ("p50", "p95", "p99")

Tone = Literal["good", "bad", "calm", "unsure", "wrong", "plain"]


@dataclass(frozen=True, slots=True)
class VerdictLook:
    """How a verdict looks: never by colour alone."""

    tone: Tone
    """Chooses the colours; the style sheet has them."""
    icon: str
    """A symbol of the page's sprite."""
    shape: str
    """The mark in the forest plot, as Vega names it."""
    meaning: str
    """For the list of verdicts in the method section."""


LOOKS: Mapping[str, VerdictLook] = {
    "slower": VerdictLook("bad", "down", "triangle-down", "the whole interval lies beyond the margin, below 1"),
    "failed": VerdictLook("wrong", "cross", "cross", "an invocation failed"),
    "timeout": VerdictLook("wrong", "clock", "cross", "an invocation took longer than it may"),
    "invalid": VerdictLook("wrong", "bang", "cross", "it computed something else than its plain loop"),
    "missing": VerdictLook("wrong", "dash", "cross", "it was planned, and the head has no result"),
    "not comparable": VerdictLook("unsure", "unequal", "diamond", "the two sides did different work"),
    "inconclusive": VerdictLook("unsure", "question", "diamond", "the interval is too wide to tell"),
    "faster": VerdictLook("good", "up", "triangle-up", "the whole interval lies beyond the margin, above 1"),
    "same": VerdictLook("calm", "equal", "circle", "the whole interval lies within the margin around 1"),
    "range": VerdictLook("plain", "span", "square", "fewer than six pairs: they have a range, and no verdict"),
    "new": VerdictLook("plain", "plus", "circle", "only the head has a result"),
    "reference": VerdictLook("plain", "dot", "circle", "what the others of its cell are compared with"),
    "bound": VerdictLook("plain", "bar", "circle", "no competitor, but a bound on all of them"),
    "measured": VerdictLook("plain", "dot", "circle", "measured, with nothing to compare it with"),
    "skipped": VerdictLook("plain", "dash", "circle", "it was not run here"),
}
"""By verdict, worst first: the order of counts and filters."""

BAD = ("slower", "failed", "timeout", "invalid", "missing", "not comparable")
"""What a reader must look at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRecord:
    """An invocation and the line of `records.jsonl` that it is on, from 1."""

    line: int
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePair:
    """Two invocations of one block and seed."""

    block: int
    seed: int
    base_units_per_s: float
    head_units_per_s: float
    base_line: int
    head_line: int
    counts: bool = True
    """Whether the ratio of the row was made of it; pairs of a first set that did not decide do not count."""

    @property
    def ratio(self) -> float:
        """Of speeds: above 1 where the head is faster."""
        return self.head_units_per_s / self.base_units_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRow:
    """A cell on a runtime."""

    number: int
    """From 1, in the order of the page; names the row in the address."""
    verdict: str
    """One of `LOOKS`."""
    workload: str
    cell: str
    """The parameters that tell cells apart."""
    parameters: Mapping[str, Any]
    runtime: str
    """With the options that tell rows apart."""
    options: Mapping[str, Any]
    unit: str
    base_units_per_s: float | None
    head_units_per_s: float | None
    ratio: Estimate | None
    detectable: float | None
    quantiles_s: Mapping[str, float | None]
    """Of the head's rounds."""
    base_quantiles_s: Mapping[str, float | None]
    over_best_ray: Estimate | None = None
    efficiency: Estimate | None = None
    """The rate as a fraction of the bound's."""
    q_value: float | None = None
    flags: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a reader must know about the runtime, and notes on the cell."""
    pairs: tuple[PagePair, ...] = ()
    base_records: tuple[PageRecord, ...] = ()
    head_records: tuple[PageRecord, ...] = ()
    """Whatever became of them."""
    command: str
    """What measures it again."""
    profile: str | None = None
    """A file below the results folder."""

    @property
    def name(self) -> str:
        """For figures and headings."""
        return f"{self.workload}, {self.cell}, {self.runtime}" if self.cell != self.workload else self.full_runtime

    @property
    def full_runtime(self) -> str:
        """Workload and runtime."""
        return f"{self.workload}, {self.runtime}"

    @property
    def look(self) -> VerdictLook:
        """How its verdict looks."""
        return LOOKS[self.verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageClaim:
    """A claim of the paper against one Ray."""

    name: str
    figure: int
    reference: str
    published: float
    published_text: str
    ours: Estimate | None
    ours_text: str
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PageScaling:
    """A cell with its throughput at several numbers of workers."""

    title: str
    unit: str
    points: tuple[tuple[str, int, Estimate], ...]
    """Runtime, workers and units a second."""
    notes: tuple[str, ...] = ()
    """The laws fitted to them, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that a page says."""

    kind: Literal["check", "run"]
    title: str
    finding: str
    """The result in one sentence."""
    base_name: str
    head_name: str
    rows: tuple[PageRow, ...]
    band: float
    """Around 1, as a fraction: an interval wholly within is *same*."""
    stamps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    claims: tuple[PageClaim, ...] = ()
    scaling: tuple[PageScaling, ...] = ()
    fairness: tuple[str, ...] = ()
    machine: tuple[tuple[str, str], ...] = ()
    method: tuple[str, ...] = ()
    command: str | None = None
    """What measures all of it again, where that is one command."""
    measured_on: str = ""
    """The machine in a few words."""
    measured_at: str = ""


def counts_of(rows: Sequence[PageRow]) -> dict[str, int]:
    """How often each verdict occurs, worst first; those that do not are left out."""
    return {verdict: count for verdict in LOOKS if (count := sum(row.verdict == verdict for row in rows))}


def round_quantiles(record: Record) -> Mapping[str, float | None]:
    """`p50`, `p95` and `p99` of single rounds; computed where an old record has every round, else None."""
    if record.round_quantiles_s is not None:
        return record.round_quantiles_s
    if record.rounds_per_value != 1 or not record.rounds_s:
        return dict.fromkeys(QUANTILES)
    import numpy as np

    return quantiles_s((np.asarray(record.rounds_s) * 1e9).round().astype(np.int64))
