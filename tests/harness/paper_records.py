"""Records as a run of the suite `paper-small` leaves them, with times that a test chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.harness.study_records import study_records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness.plan import Cell, Invocation
    from harness.records import Record

SPEEDS = {"sequential": 1.0, "reactor": 2.0, "ray": 0.1, "ray-packed": 0.5, "ray-compiled": 0.4, "ray-by-value": 0.05}
"""Rounds in 10 ms; of other runtimes 1."""


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
    return study_records(
        "paper-small",
        lambda invocation: 0.01 / speeds.get(invocation.runtime.name, 1.0),
        invocations=invocations,
        only=lambda invocation: only(invocation.cell),
        change=change,
    )
