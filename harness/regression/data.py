"""A comparison for machines: `verdicts.json` with everything, `verdicts.csv` with a line for each cell and runtime."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import msgspec

from harness.regression.phrases import change_in_words, decided_by, visible
from harness.wording import compact_json

if TYPE_CHECKING:
    from harness.regression.judged import Judged
    from harness.regression.judging import Judgement, Side

__all__ = ["CSV_COLUMNS", "SCHEMA_VERSION", "csv_text", "to_json"]

SCHEMA_VERSION = 1
"""Of `verdicts.json`: raised when a reader of an older one would misread it. New keys do not raise it."""

_QUANTILES = ("p50", "p95", "p99")

CSV_COLUMNS = (
    "workload",
    "parameters",
    "runtime",
    "options",
    "is_bound",
    "differs",
    "base_name",
    "head_name",
    "verdict",
    "exit_status",
    "hides_target",
    "interleaved",
    "speed_ratio",
    "speed_ratio_low",
    "speed_ratio_high",
    "time_change",
    "time_change_low",
    "time_change_high",
    "detectable_slowdown",
    "q_value",
    "pairs",
    "first_pairs",
    "unit",
    "base_units_per_s",
    "head_units_per_s",
    *(f"{side}_{name}_s" for side in ("base", "head") for name in _QUANTILES),
    "reasons",
    "flags",
    "stamps",
    "profile",
)
"""The columns of `verdicts.csv`; new ones come at the end only. `docs/measuring.md` says what they hold."""


def to_json(judged: Judged) -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "title": judged.title,
        "base_name": judged.base_name,
        "head_name": judged.head_name,
        "exit_status": int(judged.exit_status),
        "decided_by": decided_by(judged),
        "interleaved": judged.interleaved,
        "counts": {verdict.value: number for verdict, number in judged.counts.items()},
        "margins": msgspec.to_builtins(judged.margins),
        "machine": judged.machine,
        "warnings": list(judged.warnings),
        "stamps": list(judged.stamps),
        "command": judged.command,
        "facts": msgspec.to_builtins(dict(judged.facts)),
        "judgements": [_judgement(one) for one in judged.judgements],
    }


def _judgement(one: Judgement) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(one)
    ratio = one.ratio
    return plain | {
        "exit_status": int(one.status),
        "time_change": None if ratio is None else _change(ratio.point),
        "time_change_low": None if ratio is None else _change(ratio.high),
        "time_change_high": None if ratio is None else _change(ratio.low),
        "in_words": None if ratio is None else change_in_words(ratio.point),
    }


def _change(ratio: float) -> float:
    """Of the time, as a fraction, from a ratio of speeds: 0.1 for one that takes 10 % longer."""
    return 1 / ratio - 1


def csv_text(judged: Judged) -> str:
    """The table of `CSV_COLUMNS`; empty fields where there is no number."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_line(one, judged) for one in judged.judgements)
    return stream.getvalue()


def _line(one: Judgement, judged: Judged) -> dict[str, Any]:
    ratio = one.ratio
    return {
        "workload": visible(one.workload),
        "parameters": compact_json(one.parameters),
        "runtime": visible(one.runtime),
        "options": compact_json(one.options),
        "is_bound": one.is_bound,
        "differs": visible(one.differs or ""),
        "base_name": visible(judged.base_name),
        "head_name": visible(judged.head_name),
        "verdict": one.verdict.value,
        "exit_status": int(one.status),
        "hides_target": one.hides_target,
        "interleaved": one.interleaved,
        "speed_ratio": None if ratio is None else ratio.point,
        "speed_ratio_low": None if ratio is None else ratio.low,
        "speed_ratio_high": None if ratio is None else ratio.high,
        "time_change": None if ratio is None else _change(ratio.point),
        "time_change_low": None if ratio is None else _change(ratio.high),
        "time_change_high": None if ratio is None else _change(ratio.low),
        "detectable_slowdown": one.detectable,
        "q_value": one.q_value,
        "pairs": len(one.pairs),
        "first_pairs": len(one.first_pairs),
        "unit": visible(one.unit),
        **_side("base", one.base),
        **_side("head", one.head),
        "reasons": visible("; ".join(one.reasons)),
        "flags": visible("; ".join(one.flags)),
        "stamps": visible("; ".join(judged.stamps)),
        "profile": visible(one.profile or ""),
    }


def _side(name: str, side: Side | None) -> dict[str, float | None]:
    return {
        f"{name}_units_per_s": None if side is None else side.units_per_s,
        **{f"{name}_{q}_s": None if side is None else side.quantiles_s.get(q) for q in _QUANTILES},
    }
