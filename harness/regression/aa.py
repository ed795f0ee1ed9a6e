"""`aa`: both sides the same. What then differs is noise, and whatever is called slower or faster is a false alarm.

The pairs of one long A/A check tell three things of every cell: how noisy it is, how small a change would show, and,
by thousands of checks simulated from them, how often `check` would call a change where there is none.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from statistics import median, stdev
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from harness.errors import UsageError
from harness.regression.commands import FIRST_PAIRS, SECOND_PAIRS
from harness.regression.judging import Verdict, exit_status
from harness.regression.noise import percent
from harness.regression.simulate import simulate_checks
from harness.wording import DASH, Labels, compact_json, in_fraction, indented_json, plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import Console

    from harness.errors import ExitStatus
    from harness.regression.judged import Judged
    from harness.regression.judging import Judgement, Margins
    from harness.regression.pairs import Pair
    from harness.regression.simulate import Counts

__all__ = ["CellNoiseWithin", "aa_cells", "aa_json", "check_pairs", "false_alarms", "print_aa", "status_of", "write_aa"]

SIMULATED_CHECKS = 2_000
_LEAST_PAIRS = FIRST_PAIRS
_MAD_TO_SD = 1.4826
"""Of a normal distribution, the standard deviation over the median absolute deviation."""
_RULE_OF_THREE = 3
"""What never happened in n trials has a rate below 3 / n, with 95 % confidence."""


class CellNoiseWithin(msgspec.Struct, frozen=True, kw_only=True):
    """What an A/A check says of one cell and runtime; fractions, None where too few pairs are there to tell."""

    workload: str
    parameters: dict[str, Any]
    runtime: str
    options: dict[str, Any]
    is_bound: bool
    differs: str | None
    verdict: Verdict
    pairs: int
    noise: float | None
    """Standard deviation of the log-ratios of pairs."""
    robust_noise: float | None
    """The same from their median absolute deviation, which single disturbed pairs do not move."""
    half_width: float | None
    """Of the interval."""
    ratio: float | None
    detectable: float | None
    """The smallest slowdown that 24 such pairs show with a power of 80 %."""
    false_alarms: float | None
    """The share of simulated checks that ended *slower* or *faster*."""
    inconclusive: float | None
    """The share of them that ended *inconclusive*."""
    reasons: list[str]


def check_pairs(pairs: int) -> None:
    """Make sure that `pairs` are enough to simulate checks from.

    Raises:
        UsageError: if they are not.
    """
    if pairs < _LEAST_PAIRS:
        raise UsageError(
            f"--pairs {pairs} are too few: {_LEAST_PAIRS} or more tell how noisy a cell is. Leave it out for "
            f"{SECOND_PAIRS}."
        )


def aa_cells(judged: Judged) -> list[CellNoiseWithin]:
    """What `judged`, a check of a version against itself by a single set of pairs, says of each cell."""
    return [_of_cell(one, judged.margins) for one in judged.judgements]


def false_alarms(pairs: Sequence[Pair], margins: Margins, name: str) -> Counts | None:
    """What becomes of two-stage checks whose pairs are drawn from `pairs`; None for fewer than six twos of blocks.

    Blocks come in twos, the one in the order A B and the other in the order B A, so that a drift cancels: twos are
    drawn, with replacement, and of each a coin decides which side is the base. `name` seeds what is drawn.
    """
    by_block = {pair.block: pair.log_ratio for pair in pairs}
    twos = np.array(
        [
            [by_block[block], by_block[block + 1]]
            for block in sorted(by_block)
            if block % 2 == 0 and block + 1 in by_block
        ]
    )
    if len(twos) < _LEAST_PAIRS // 2:
        return None
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    random = np.random.default_rng(seed)

    def drawn(number: int) -> NDArray[np.float64]:
        picked = twos[random.integers(len(twos), size=(SIMULATED_CHECKS, number // 2))]
        signs = random.choice([-1.0, 1.0], size=(SIMULATED_CHECKS, number // 2, 1))
        return np.asarray(picked * signs, dtype=np.float64).reshape(SIMULATED_CHECKS, -1)

    return simulate_checks(drawn(FIRST_PAIRS), drawn(SECOND_PAIRS), margins)


def status_of(judged: Judged) -> ExitStatus:
    """What `aa` exits with: a false alarm is what it looks for, and no failure; what was not measured is one."""
    harmless = [
        one if one.ratio is None or one.verdict is Verdict.NOT_COMPARABLE else replace(one, verdict=Verdict.SAME)
        for one in judged.judgements
    ]
    return exit_status(harmless)


def aa_json(judged: Judged) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "exit_status": int(status_of(judged)),
        "simulated_checks": SIMULATED_CHECKS,
        "margins": msgspec.to_builtins(judged.margins),
        "machine": judged.machine,
        "warnings": list(judged.warnings),
        "cells": msgspec.to_builtins(aa_cells(judged)),
    }


def write_aa(judged: Judged, folder: Path) -> Path:
    """Write `aa.json` to `folder`."""
    path = folder / "aa.json"
    path.write_bytes(indented_json(aa_json(judged)))
    return path


def print_aa(judged: Judged, console: Console) -> None:
    """A line for each cell and runtime, and how often a check of all of them raises a false alarm."""
    from rich.table import Table

    cells = aa_cells(judged)
    labels = Labels(cells)
    table = Table(box=None, pad_edge=False)
    for heading in ("cell", "runtime", "noise", "robust", "half-width", "detectable", "false alarms", "inconclusive"):
        table.add_column(heading, justify="left" if heading in {"cell", "runtime"} else "right")
    for heading in ("this time", "ratio", "pairs"):
        table.add_column(heading, justify="left" if heading == "this time" else "right")
    for cell in cells:
        shares = [_share(share) for share in (cell.false_alarms, cell.inconclusive)]
        sizes = [_size(size) for size in (cell.noise, cell.robust_noise, cell.half_width, cell.detectable)]
        ratio = DASH if cell.ratio is None else in_fraction(cell.ratio)
        table.add_row(
            labels.full_cell(cell), labels.runtime(cell), *sizes, *shares, cell.verdict.value, ratio, str(cell.pairs)
        )
    console.print(table, markup=False, highlight=False)
    for line in (*_reasons(cells, labels), _summary(cells), *(f"Warning: {warning}" for warning in judged.warnings)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _of_cell(one: Judgement, margins: Margins) -> CellNoiseWithin:
    log_ratios = [pair.log_ratio for pair in one.pairs]
    counts = false_alarms(one.pairs, margins, compact_json([one.workload, dict(one.parameters), *one.key]))
    return CellNoiseWithin(
        workload=one.workload,
        parameters=dict(one.parameters),
        runtime=one.runtime,
        options=dict(one.options),
        is_bound=one.is_bound,
        differs=one.differs,
        verdict=one.verdict,
        pairs=len(log_ratios),
        noise=stdev(log_ratios) if len(log_ratios) > 1 else None,
        robust_noise=_robust(log_ratios) if len(log_ratios) > 1 else None,
        half_width=None if one.ratio is None else math.log(one.ratio.high / one.ratio.low) / 2,
        ratio=None if one.ratio is None else one.ratio.point,
        detectable=one.detectable,
        false_alarms=None if counts is None else counts.share(Verdict.SLOWER, Verdict.FASTER),
        inconclusive=None if counts is None else counts.share(Verdict.INCONCLUSIVE),
        reasons=list(one.reasons),
    )


def _robust(values: Sequence[float]) -> float:
    centre = median(values)
    return _MAD_TO_SD * median(abs(value - centre) for value in values)


def _size(size: float | None) -> str:
    return DASH if size is None else percent(size)


def _share(share: float | None) -> str:
    if share is None:
        return DASH
    return percent(share) if share else f"<{percent(_RULE_OF_THREE / SIMULATED_CHECKS)}"


def _reasons(cells: Sequence[CellNoiseWithin], labels: Labels) -> list[str]:
    return [
        f"{labels.full_cell(cell)} on {labels.runtime(cell)}: {'; '.join(cell.reasons)}"
        for cell in cells
        if cell.reasons
    ]


def _summary(cells: Sequence[CellNoiseWithin]) -> str:
    """How often a check of all cells calls a change where there is none."""
    known = [cell.false_alarms for cell in cells if cell.false_alarms is not None]
    if not known:
        return "Too few pairs to simulate checks."
    any_alarm = 1 - math.prod(1 - share for share in known)
    return (
        f"\nOf {SIMULATED_CHECKS:,} simulated checks without a change, one of {plural(len(known), 'cell')} ends in "
        f"slower or faster in {_share(any_alarm)}, were cells independent; {FIRST_PAIRS} pairs of each, and "
        f"{SECOND_PAIRS} fresh ones where these do not decide."
    )
