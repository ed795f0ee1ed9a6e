"""What trainings show while they go on: a line on a terminal that follows them, one plain line for each elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.live import Live
from rich.text import Text

from harness.errors import UsageError
from harness.estimate import Estimator, in_minutes
from harness.learning.trainings import Unfinished
from harness.machine import available_memory
from harness.wording import Labels, in_si, plural, plural_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from rich.console import Console

    from harness.learning.records import Evaluation, Trained
    from harness.learning.trainings import Training
    from harness.runner import Checked

__all__ = ["LearningProgress"]

_REFRESH_S = 1.0


class LearningProgress:
    """Follows trainings on a console; a context in which something may be drawn."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `console`; what goes on now is drawn only where that can be redrawn."""
        self._console = console
        self._clock = clock
        can_redraw = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, auto_refresh=False, transient=True) if can_redraw else None
        self._labels = Labels([])
        self._estimator = Estimator()
        self._due: list[Training] = []
        self._total = 0
        self._current: tuple[Training, Unfinished] | None = None
        self._began_s = 0.0
        self._drawn_s = 0.0

    def begin(self, due: Sequence[Training], checked: Checked, *, there: int) -> None:
        """Say how much there is to do, what the check found out about it, and how many are `there` already."""
        self._labels = Labels(map(_Labelled, due))
        self._estimator = Estimator(checked.loads, checked.skips(available_memory()))
        self._due, self._total = list(due), len(due)
        already = f"; {there} finished already" if there else ""
        self.message(f"{plural(len(due), 'training')} to run, about {self._remaining()}{already}.")

    def checking(self, phase: str, elapsed_s: float) -> None:
        """The input is being checked."""
        del phase
        self._draw(f"checking the input, {in_minutes(elapsed_s)}")

    def started(self, training: Training, folder: Path) -> None:
        """`training` into `folder` runs next."""
        self._current = training, Unfinished.of(training, folder)
        self._began_s = self._clock()
        self._drawn_s = 0.0

    def phase(self, phase: str, elapsed_s: float) -> None:
        """What the training does now, `elapsed_s` after it was started."""
        if self._live is None or self._current is None or self._clock() - self._drawn_s < _REFRESH_S:
            return
        training, unfinished = self._current
        place = f"[{self._total - len(self._due) + 1}/{self._total}]"
        latest = _latest(training, unfinished)
        self._draw(f"{place} {self._name(training)}: {phase}, {in_minutes(elapsed_s)}{latest}")

    def finished(self, training: Training, trained: Trained) -> None:
        """It has ended and is on record."""
        elapsed_s = self._clock() - self._began_s
        if trained.record.outcome != "skipped":
            self._estimator.learn(training.at_most, elapsed_s)
        self._due.remove(training)
        self.message(
            f"[{self._total - len(self._due)}/{self._total}] {self._name(training)}: {_outcome(trained)}; "
            f"took {in_minutes(elapsed_s)}, about {self._remaining()} left"
        )

    def message(self, text: str) -> None:
        """Something that the user should know."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def _name(self, training: Training) -> str:
        row = _Labelled(training)
        cell = training.cell.name or f"{training.cell.workload} {self._labels.cell(row)}"
        return f"{cell} on {self._labels.runtime(row)}, seed {training.seed}"

    def _remaining(self) -> str:
        return in_minutes(sum(self._estimator.seconds(training.at_most) for training in self._due))

    def _draw(self, status: str) -> None:
        if self._live is not None:
            self._drawn_s = self._clock()
            self._live.update(Text(status, style="bold"), refresh=True)


class _Labelled:
    """A training as `Labels` know it."""

    is_bound = False

    def __init__(self, training: Training) -> None:
        self.workload, self.parameters = training.cell.workload, training.cell.parameters
        self.runtime, self.options = training.runtime.name, training.runtime.options
        self.differs = training.runtime.differs


def _latest(training: Training, unfinished: Unfinished) -> str:
    """`; round 500 of 7,500, return -312`."""
    try:
        evaluations = unfinished.evaluations()
    except UsageError:  # it is being written
        return ""
    if not evaluations:
        return ""
    last = evaluations[-1]
    return f"; round {last.round:,} of {training.cell.cap_rounds:,}, return {_in_return(last)}"


def _outcome(trained: Trained) -> str:
    record = trained.record
    if record.outcome != "ok" or not trained.evaluations:
        return f"{record.outcome}: {record.reason}"
    last, first = trained.evaluations[-1], trained.first_pass
    units = plural_of(record.unit or "unit")
    reached = ""
    if record.target is not None:
        reached = (
            "did not reach the target; " if first is None else f"reached {record.target:g} after {first.units:,}; "
        )
    rate = f", {in_si(last.units / last.wall_s)} {units}/s" if last.wall_s else ""
    return f"{reached}return {_in_return(last)} after {last.units:,} {units}{rate}"


def _in_return(evaluation: Evaluation) -> str:
    return f"{evaluation.mean_return:.4g}"
