"""Replay buffers in a run of the suites `replay` and `replay-sweep`: bars, the plug-in row, the tree by its size.

Everything is read from records of workload `replay`, where the plain loop stands for our own buffer and every other
runtime for a library. Nothing is drawn or written here. What the paper on PAL claims is judged in `pal`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness.plan import in_plan_order
from harness.row_records import RowRecords
from harness.statistics import Estimate, ratio_estimate
from harness.summary import SEQUENTIAL, summarise, work_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.plan import Plan
    from harness.records import Record
    from harness.summary import SummaryRow

__all__ = [
    "BARS",
    "PEERS",
    "WORKLOAD",
    "Bar",
    "Compared",
    "Judged",
    "ReplayRun",
    "Side",
    "Sweep",
    "Verdict",
    "distinct",
    "seconds_of",
]

WORKLOAD = "replay"

PEERS: Mapping[str, str] = {
    SEQUENTIAL: "ours",
    "replay-cpprb": "cpprb",
    "replay-rllib": "RLlib",
    "replay-stable-baselines3": "Stable-Baselines3",
    "replay-tianshou": "Tianshou",
    "replay-torchrl": "torchrl",
}
"""Whose buffer a runtime measures."""

Verdict = Literal["reached", "missed", "open", "not measured"]
"""The whole interval lies at or above the bar; below it; on both sides; there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One row of a run: a runtime on a cell."""

    parameters: Mapping[str, Any]
    """Those that tell the cell from others; of several cells that have them the last counts."""
    runtime: str = SEQUENTIAL
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """How many times as fast one side is as another."""

    ours: Side
    theirs: Side
    estimate: Estimate | None
    """Paired by block and seed."""
    problem: str | None
    """Why there is none."""
    lines: tuple[int, ...] = ()
    """The lines of `records.jsonl` that it was computed from, counted from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """How many times as fast as another our buffer has to be."""

    name: str
    ours: Side
    choices: tuple[tuple[Side, float], ...]
    """Whom it is compared with, and the least ratio; the first that could be measured counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A bar as a run shows it."""

    bar: Bar
    ratio: float
    """The least one, over whom `compared` says."""
    compared: Compared
    verdict: Verdict


# --------------------------------------------------------------------------------------------- bars


_LARGE: Mapping[str, Any] = {"capacity": 1_000_000, "batch": 256}
_TREE = {**_LARGE, "what": "tree", "fan_out": 16, "dtype": "float32"}
_BUFFER = {**_LARGE, "what": "buffer", "shared": False}
_SHARED = {**_LARGE, "what": "buffer", "shared": True, "operation": "loop"}
_ALONE = {**_SHARED, "beside": "none"}
_PACED = {**_SHARED, "beside": "inserter", "beside_rows_per_s": 100_000}
_UNPACED = {**_SHARED, "beside": "inserter", "beside_rows_per_s": 0}


def _against(parameters: Mapping[str, Any], **ratios: float) -> tuple[tuple[Side, float], ...]:
    return tuple((Side(parameters=parameters, runtime=f"replay-{name}"), ratio) for name, ratio in ratios.items())


def _bar(name: str, cell: Mapping[str, Any], **ratios: float) -> Bar:
    return Bar(name=name, ours=Side(parameters=cell), choices=_against(cell, **ratios))


BARS: tuple[Bar, ...] = (
    _bar("tree alone, sample", {**_TREE, "operation": "sample"}, torchrl=3.0, tianshou=3.5),
    _bar("tree alone, update", {**_TREE, "operation": "update"}, torchrl=2.0, tianshou=10.0),
    _bar("108-byte transitions, sample", {**_BUFFER, "operation": "sample"}, cpprb=8.0),
    _bar("108-byte transitions, update", {**_BUFFER, "operation": "update"}, cpprb=5.0),
    _bar("108-byte transitions, insert", {**_BUFFER, "operation": "insert"}, cpprb=3.0),
    Bar(
        name="learner beside an inserter of 100,000 rows/s, of its rate alone",
        ours=Side(parameters=_PACED),
        choices=((Side(parameters=_ALONE), 0.9),),
    ),
    _bar("learner beside an inserter without pace", _UNPACED, cpprb=50.0),
)
"""At a capacity of 1,000,000 and a batch of 256; torchrl's tree in C++ where it loads, else Tianshou's.

No other buffer keeps to 100,000 rows/s beside a learner, so that the last one is on inserters that do what they can.
"""


# ---------------------------------------------------------------------------------------------- run


class ReplayRun:
    """The records of a run, by what they say of replay buffers."""

    def __init__(self, records: Sequence[Record], plan: Plan | None = None) -> None:
        """Take `records` in the order of their file, oldest first; rows come in the order of `plan`."""
        self.rows = [row for row in summarise(in_plan_order(records, plan)) if row.workload == WORKLOAD]
        self._records = RowRecords(records)

    def row(self, side: Side) -> SummaryRow | None:
        """The row of `side`, whatever became of it."""
        fitting = [
            row
            for row in self.rows
            if row.runtime == side.runtime
            and side.parameters.items() <= dict(row.parameters).items()
            and side.options.items() <= dict(row.options).items()
        ]
        return fitting[-1] if fitting else None

    def lines(self, row: SummaryRow) -> tuple[int, ...]:
        """The lines of the records behind `row` that count."""
        return tuple(self._records.measured(row))

    def compare(self, ours: Side, theirs: Side) -> Compared:
        """How many times as fast `ours` is as `theirs`, operation by operation."""
        rows = [self.row(ours), self.row(theirs)]
        problem = next(
            (found for side, row in zip((ours, theirs), rows, strict=True) if (found := _why(side, row))), None
        )
        if problem is not None:
            return Compared(ours=ours, theirs=theirs, estimate=None, problem=problem)
        (fast, fast_lines), (slow, slow_lines) = (self._seconds(row) for row in rows if row is not None)
        shared = sorted(fast.keys() & slow.keys())
        if not shared:
            return Compared(ours=ours, theirs=theirs, estimate=None, problem="no block was measured on both sides")
        return Compared(
            ours=ours,
            theirs=theirs,
            estimate=ratio_estimate([math.log(slow[pair] / fast[pair]) for pair in shared]),
            problem=None,
            lines=tuple(sorted({lines[pair] for pair in shared for lines in (fast_lines, slow_lines)})),
        )

    def judge(self, bar: Bar) -> Judged:
        """`bar` against the first of its choices that was measured."""
        found = [(ratio, self.compare(bar.ours, theirs)) for theirs, ratio in bar.choices]
        ratio, compared = next(((r, c) for r, c in found if c.estimate is not None), found[0])
        return Judged(bar=bar, ratio=ratio, compared=compared, verdict=verdict(ratio, compared.estimate))

    def _seconds(self, row: SummaryRow) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], int]]:
        """Seconds of an operation, and the line of its record, by block and seed."""
        seconds, lines = {}, {}
        for line, record in self._records.measured(row).items():
            done = work_of(record)
            if done is not None:
                pair = record.block, record.seed
                seconds[pair], lines[pair] = done[1] / done[0], line
        return seconds, lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One operation on our tree alone, by capacity, batch and fan-out, in float32."""

    operation: str
    places: Mapping[tuple[int, int, int], SummaryRow]
    """By capacity, batch and fan-out; only where all three vary among the cells of the operation."""

    @classmethod
    def all_of(cls, run: ReplayRun) -> list[Sweep]:
        """One of each operation whose cells vary in fan-out."""
        by_operation: dict[str, dict[tuple[int, int, int], SummaryRow]] = {}
        for row in run.rows:
            p = row.parameters
            if row.runtime == SEQUENTIAL and p["what"] == "tree" and p["dtype"] == "float32":
                by_operation.setdefault(p["operation"], {})[p["capacity"], p["batch"], p["fan_out"]] = row
        found = [cls(operation=operation, places=places) for operation, places in by_operation.items()]
        return [sweep for sweep in found if len(sweep.fan_outs) > 1]

    @property
    def capacities(self) -> list[int]:
        """In ascending order."""
        return distinct(capacity for capacity, _, _ in self.places)

    @property
    def batches(self) -> list[int]:
        """In ascending order."""
        return distinct(batch for _, batch, _ in self.places)

    @property
    def fan_outs(self) -> list[int]:
        """In ascending order."""
        return distinct(fan_out for _, _, fan_out in self.places)

    @property
    def usual_batch(self) -> int:
        """The one that tables and figures are of: 256 where it was measured, else the largest."""
        return _USUAL_BATCH if _USUAL_BATCH in self.batches else self.batches[-1]

    @property
    def missing(self) -> list[str]:
        """What has no value, and why."""
        return [
            f"capacity {capacity:,}, batch {batch}, fan-out {fan_out}: {_why(Side(parameters={}), row)}."
            for (capacity, batch, fan_out), row in self.places.items()
            if row.outcome != "ok" or row.units_per_s is None
        ]

    def seconds(self, capacity: int, batch: int, fan_out: int) -> Estimate | None:
        """Of an operation; None where it was not measured well."""
        row = self.places.get((capacity, batch, fan_out))
        return seconds_of(row) if row is not None and row.outcome == "ok" else None

    def fastest(self, capacity: int, batch: int) -> int | None:
        """The fan-out with which an operation takes least time."""
        times = {f: seconds.point for f in self.fan_outs if (seconds := self.seconds(capacity, batch, f)) is not None}
        return min(times, key=lambda fan_out: times[fan_out], default=None)


_USUAL_BATCH = 256


def verdict(least: float, measured: Estimate | None) -> Verdict:
    """What `measured` says of a bar of `least`."""
    if measured is None:
        return "not measured"
    if measured.low >= least:
        return "reached"
    return "missed" if measured.high < least else "open"


def seconds_of(row: SummaryRow) -> Estimate | None:
    """Seconds of an operation."""
    rate = row.units_per_s
    if rate is None:
        return None
    return Estimate(point=1 / rate.point, low=1 / rate.high, high=1 / rate.low, n=rate.n, kind=rate.kind)


def _why(side: Side, row: SummaryRow | None) -> str | None:
    """Why `row` does not count, or None if it does."""
    who = PEERS.get(side.runtime, side.runtime)
    if row is None:
        return f"{who} was not measured"
    if row.outcome == "ok" and row.units_per_s is not None:
        return None
    return f"{who}: {row.reasons[0]}" if row.reasons else f"{who} was {row.outcome}"


def distinct(values: Iterable[Any]) -> list[Any]:
    """`values` in ascending order, each once."""
    return sorted(set(values))
