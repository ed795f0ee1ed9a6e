"""Records as a run of the suite `paper-small` leaves them, with times that a test chooses."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from harness.plan import schedule
from harness.records import Record
from harness.suite import plan_of, read_suite
from tests.harness.records_of import MACHINE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.plan import Cell, Invocation

SPEEDS = {"sequential": 1.0, "reactor": 2.0, "ray": 0.1, "ray-packed": 0.5, "ray-compiled": 0.4, "ray-by-value": 0.05}
"""Rounds in 10 ms; of other runtimes 1."""


@cache
def planned(invocations: int) -> tuple[Invocation, ...]:
    return tuple(schedule(plan_of(read_suite("paper-small"), {"invocations": invocations}, [])))


def paper_records(
    *,
    invocations: int = 3,
    speeds: Mapping[str, float] = SPEEDS,
    only: Callable[[Cell], bool] = lambda _: True,
    change: Callable[[Invocation], dict] = lambda _: {},
) -> list[Record]:
    """The records of the cells for which `only` holds; `change` gives fields that are otherwise.

    Each block is 2 % faster than the one before, on every runtime.
    """
    return [
        Record(**(_fields(invocation, speeds) | change(invocation)))
        for invocation in planned(invocations)
        if only(invocation.cell)
    ]


def _fields(invocation: Invocation, speeds: Mapping[str, float]) -> dict:
    cell, runtime = invocation.cell, invocation.runtime
    rounds = 100
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
        "unit": "unit",
        "units_per_round": 15,
        "warmup_rounds": cell.warmup_rounds,
        "rounds": cell.rounds,
        "measured_rounds": rounds,
        "measured_s": rounds * 0.01 / speeds.get(runtime.name, 1.0) / 1.02**invocation.block,
        "machine": MACHINE,
    }
