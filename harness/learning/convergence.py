"""How many times as fast reactors came to a return as others did: what the paper on PAL claims of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.learning.summary import time_ratio
from harness.pal import Convergence
from harness.summary import cells_of
from harness.wording import Labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.learning.summary import LearningRow

__all__ = ["convergences"]

_OURS = "reactor"


def convergences(rows: Sequence[LearningRow]) -> list[Convergence]:
    """Of every cell with a target, `reactor` against every runtime that is not of ours, in the order of `rows`.

    Of several rows called `reactor` (with other options) the first stands for it.
    """
    labels = Labels(rows)
    found: list[Convergence] = []
    for cell in cells_of(row for row in rows if row.target is not None):
        ours = next((row for row in cell if row.runtime == _OURS), None)
        found += [
            Convergence(
                cell=f"{labels.cell(theirs)} to {theirs.target:g}",
                baseline=labels.runtime(theirs),
                estimate=None if ours is None else time_ratio(ours, theirs),
                problem=_problem(ours, theirs),
            )
            for theirs in cell
            if not theirs.runtime.startswith(_OURS)
        ]
    return found


def _problem(ours: LearningRow | None, theirs: LearningRow) -> str | None:
    """Why there is no ratio, if there is none."""
    if ours is None:
        return f"the runtime {_OURS} was not trained on it"
    for row in (ours, theirs):
        if row.outcome != "ok":
            return f"{row.runtime} is {row.outcome}: {'; '.join(row.reasons[:1])}"
        if not row.has_reached:
            return f"{row.runtime} reached the target with {row.reached} of {len(row.trained)} seeds"
    return None
