"""A comparison for people and machines: terminal, Markdown, CSV, JSON, JUnit XML, and what GitHub Actions shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from harness.wording import DASH, Labels, in_fraction, in_ratio, in_si

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from harness.regression.judged import Judged
    from harness.regression.judging import Judgement

__all__ = ["annotate", "print_judged", "to_json", "verdict_table", "write_outputs"]


def verdict_table(judgements: Sequence[Judgement], *, width: int) -> Table:
    """A line for each cell and runtime."""
    from rich.table import Table

    labels = Labels(judgements)
    table = Table(box=None, pad_edge=False, width=None)
    for heading in ("verdict", "cell", "runtime", "base", "head", "ratio", "95 %", "detectable", "pairs"):
        table.add_column(heading)
    for one in judgements:
        table.add_row(
            one.verdict.value,
            labels.full_cell(one),
            labels.runtime(one),
            in_si(one.base.units_per_s) if one.base else DASH,
            in_si(one.head.units_per_s) if one.head else DASH,
            in_ratio(one.ratio.point) if one.ratio else DASH,
            f"{in_fraction(one.ratio.low)}-{in_fraction(one.ratio.high)}" if one.ratio else DASH,
            f"{one.detectable * 100:.1f} %" if one.detectable is not None else DASH,
            str(len(one.pairs)),
        )
    return table


def print_judged(judged: Judged, console: Console) -> None:
    """Table, counts, reasons, warnings."""
    console.print(verdict_table(judged.judgements, width=console.width))
    console.print(", ".join(f"{n} {v.value}" for v, n in judged.counts.items()), highlight=False)


def to_json(judged: Judged) -> dict[str, Any]:
    """All of it as plain values."""
    return {"exit_status": int(judged.exit_status), "judgements": msgspec.to_builtins(list(judged.judgements))}


def write_outputs(judged: Judged, folder: Path) -> list[Path]:
    """Write the forms that are files."""
    path = folder / "verdicts.json"
    path.write_bytes(msgspec.json.encode(to_json(judged)))
    return [path]


def annotate(judged: Judged, environment: Mapping[str, str], stream: TextIO) -> None:
    """What GitHub Actions shows; nothing elsewhere."""
