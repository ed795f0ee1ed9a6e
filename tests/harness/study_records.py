"""Records as a run of a shipped suite leaves them, with round times that a test chooses."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from harness.plan import schedule
from harness.records import Record, RecordFile
from harness.suite import plan_of, read_suite
from tests.harness.records_of import MACHINE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.plan import Invocation


@cache
def planned(suite: str, invocations: int) -> tuple[Invocation, ...]:
    plan = plan_of(read_suite(suite), {"invocations": invocations}, [])
    cells = [cell.name for cell in plan.cells]
    # In the order of the suite, so that what a test expects does not hang on the order of measuring.
    return tuple(sorted(schedule(plan), key=lambda i: (cells.index(i.cell.name), i.cell.runtimes.index(i.runtime))))


def study_records(
    suite: str,
    round_s: Callable[[Invocation], float],
    *,
    invocations: int = 3,
    only: Callable[[Invocation], bool] = lambda _: True,
    change: Callable[[Invocation], dict] = lambda _: {},
) -> list[Record]:
    """The records of the invocations for which `only` holds; `change` gives fields that are otherwise.

    Each block is 2 % faster than the one before; warm-up rounds take three times as long as others.
    """
    return [
        Record(**(_fields(invocation, round_s(invocation) / 1.02**invocation.block) | change(invocation)))
        for invocation in planned(suite, invocations)
        if only(invocation)
    ]


def _fields(invocation: Invocation, round_s: float) -> dict:
    cell, runtime = invocation.cell, invocation.runtime
    return {
        "workload": cell.workload,
        "parameters": cell.parameters,
        "runtime": runtime.name,
        "options": runtime.options,
        "is_bound": runtime.is_bound,
        "seed": invocation.seed,
        "block": invocation.block,
        "outcome": "ok",
        "digest": None if runtime.is_bound else f"digest-{invocation.block}",
        "unit": "environment step",
        "units_per_round": 15,
        "warmup_rounds": cell.warmup_rounds,
        "rounds": cell.rounds,
        "warmup_s": cell.warmup_rounds * round_s * 3,
        "measured_rounds": 100,
        "measured_s": 100 * round_s,
        "machine": MACHINE,
    }


def stored(records: list[Record], folder: Path) -> Path:
    """A results folder with `records`."""
    folder.mkdir(exist_ok=True)
    file = RecordFile(folder)
    for record in records:
        file.append(record)
    return folder
