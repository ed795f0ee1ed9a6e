"""What a run shows while it goes on: a live table on a terminal, one plain line for each invocation elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.segment import Segment, Segments
from rich.text import Text

from harness.estimate import Estimator, in_minutes
from harness.machine import available_memory
from harness.plan import in_plan_order
from harness.records import Record
from harness.report import summary_table
from harness.summary import SummaryRow, summarise
from harness.wording import Labels, in_seconds, in_si, plural, plural_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from harness.plan import Invocation, Plan
    from harness.runner import Checked

__all__ = ["LiveProgress", "Names", "PlainProgress", "Progress", "Tabulate", "progress_on", "rows_of"]

_REFRESH_S = 1.0
"""Drawing takes a processor some milliseconds, which the rounds may want."""
_STATUS_LINES = 4
"""Room below the table: what runs now, on narrow terminals in several lines."""


class Progress(Protocol):
    """What a run tells while it goes on; a context in which something may be drawn."""

    def begin(self, records: Sequence[Record], due: Sequence[Invocation], checked: Checked) -> None:
        """Said once: what is there already, what will run, and what the check found out about it."""
        ...

    def checking(self, phase: str, elapsed_s: float) -> None:
        """The input is being checked."""
        ...

    def started(self, invocation: Invocation) -> None:
        """`invocation` runs next."""
        ...

    def phase(self, phase: str, elapsed_s: float) -> None:
        """What the invocation does now, `elapsed_s` after it was started."""
        ...

    def finished(self, invocation: Invocation, record: Record) -> None:
        """`invocation` has ended and is on record."""
        ...

    def message(self, text: str) -> None:
        """Something that the user should know."""
        ...

    def __enter__(self) -> Self:
        """Begin to draw."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        ...


Tabulate = Callable[[Sequence[Record], int], RenderableType]
"""Makes a table of records for a terminal of so many columns."""


def rows_of(plan: Plan | None) -> Tabulate:
    """The table of a report, rows in the order of `plan`; of appearance without one."""
    return lambda records, width: summary_table(summarise(in_plan_order(records, plan)), width=width, cells_only=True)


class PlainProgress:
    """A line when an invocation has ended: for pipes, logs and CI."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to `console`."""
        self._console = console
        self._clock = clock
        self._estimator = Estimator()
        self._names = Names([])
        self._due: list[Invocation] = []
        self._total = 0
        self._began_s = 0.0

    def begin(self, records: Sequence[Record], due: Sequence[Invocation], checked: Checked) -> None:
        """Say how much there is to do."""
        self._estimator = Estimator(checked.loads, checked.skips(available_memory()))
        self._due, self._total, self._names = list(due), len(due), Names(due)
        there = f"; {plural(len(records), 'record')} there already" if records else ""
        self.message(f"{plural(len(due), 'invocation')} to run, about {in_minutes(self._remaining_s())}{there}.")

    def checking(self, phase: str, elapsed_s: float) -> None:
        """Nothing to say."""

    def started(self, invocation: Invocation) -> None:
        """Remember when."""
        del invocation
        self._began_s = self._clock()

    def phase(self, phase: str, elapsed_s: float) -> None:
        """Nothing to say."""

    def finished(self, invocation: Invocation, record: Record) -> None:
        """One line: which, and what became of it."""
        self._take_note(invocation, record)
        done = self._total - len(self._due)
        self.message(
            f"[{done}/{self._total}] {self._name(invocation)}, block {invocation.block}: "
            f"{_outcome(record)}; about {in_minutes(self._remaining_s())} left"
        )

    def message(self, text: str) -> None:
        """Write `text`."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def _take_note(self, invocation: Invocation, record: Record) -> None:
        """One less to do, and one more whose time is known."""
        if record.outcome != "skipped":
            self._estimator.learn(invocation, self._clock() - self._began_s)
        self._due.remove(invocation)

    def _name(self, invocation: Invocation) -> str:
        return f"{self._names.cell(invocation)} on {self._names.runtime(invocation)}"

    def _remaining_s(self) -> float:
        return sum(map(self._estimator.seconds, self._due))


class LiveProgress(PlainProgress):
    """The table as it grows, and below it what runs now."""

    def __init__(
        self, console: Console, clock: Callable[[], float] = time.monotonic, tabulate: Tabulate | None = None
    ) -> None:
        """Draw on `console`, a terminal; `tabulate` makes the table of the records so far, for so many columns."""
        super().__init__(console, clock)
        self._tabulate = tabulate or rows_of(None)
        self._records: list[Record] = []
        self._current: Invocation | None = None
        self._table: RenderableType = Text("")
        # Drawn only between looks at the child, never by a thread beside it.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn_s = 0.0

    def begin(self, records: Sequence[Record], due: Sequence[Invocation], checked: Checked) -> None:
        """Take the records that are there into the table."""
        self._records = list(records)
        super().begin(records, due, checked)
        self._remake_table()

    def checking(self, phase: str, elapsed_s: float) -> None:
        """Say so."""
        del phase
        self._draw(f"checking the input, {in_minutes(elapsed_s)}")

    def started(self, invocation: Invocation) -> None:
        """Name it."""
        super().started(invocation)
        self._current = invocation
        self._drawn_s = 0.0
        self.phase("starting", 0.0)

    def phase(self, phase: str, elapsed_s: float) -> None:
        """Say what it does, and how much is left."""
        invocation = self._current
        if invocation is None:
            return
        left_s = max(self._remaining_s() - elapsed_s, 0.0)
        self._draw(
            f"[{self._total - len(self._due) + 1}/{self._total}] {self._name(invocation)}, "
            f"block {invocation.block}: {phase}, {in_minutes(elapsed_s)}; about {in_minutes(left_s)} left"
        )

    def finished(self, invocation: Invocation, record: Record) -> None:
        """Let the table grow; a line only for what went wrong."""
        self._records.append(record)
        self._take_note(invocation, record)
        if record.outcome != "ok":
            self.message(f"{self._name(invocation)}: {_outcome(record)}")
        self._remake_table()

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def _remake_table(self) -> None:
        table = self._tabulate(self._records, self._console.width) if self._records else Text("")
        # Of a table that is higher than the terminal the end: what is above could not be redrawn.
        lines = self._console.render_lines(table, pad=False)[-max(self._console.height - _STATUS_LINES, 1) :]
        newline = Segment.line()
        self._table = Segments([segment for line in lines for segment in (*line, newline)])

    def _draw(self, status: str) -> None:
        now_s = self._clock()
        if now_s - self._drawn_s >= _REFRESH_S:
            self._drawn_s = now_s
            self._live.update(Group(self._table, Text(status, style="bold")), refresh=True)


def progress_on(console: Console, tabulate: Tabulate | None = None) -> PlainProgress:
    """Live where `console` is a terminal that can redraw, with the table that `tabulate` makes; plain elsewhere."""
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveProgress(console, tabulate=tabulate)
    return PlainProgress(console)


class Names:
    """Short names of invocations, as the table has them: `CartPole-v1 x 15, fragment=128`, `reactor (workers=2)`."""

    def __init__(self, invocations: Iterable[Invocation]) -> None:
        """Learn from `invocations` what tells them apart."""
        self._labels = Labels(map(_bare_row, invocations))

    def cell(self, invocation: Invocation) -> str:
        """Workload, and the parameters that matter."""
        return f"{invocation.cell.workload} {self._labels.cell(_bare_row(invocation))}"

    def runtime(self, invocation: Invocation) -> str:
        """Runtime, and the options that vary."""
        return self._labels.runtime(_bare_row(invocation))


def _bare_row(invocation: Invocation) -> SummaryRow:
    """`invocation` as a row of the table that has no numbers yet."""
    return SummaryRow(
        workload=invocation.cell.workload,
        parameters=invocation.cell.parameters,
        runtime=invocation.runtime.name,
        options=invocation.runtime.options,
        is_bound=invocation.runtime.is_bound,
        differs=invocation.runtime.differs,
        outcome="ok",
        invocations=0,
        measured=0,
        unit=None,
        units_per_s=None,
    )


def _outcome(record: Record) -> str:
    if record.outcome != "ok":
        return f"{record.outcome}: {record.reason}"
    units = (record.units_per_round or 0) * record.measured_rounds
    rate = (
        f"{in_si(units / record.measured_s)} {plural_of(record.unit or 'unit')}/s"
        if record.measured_s
        else "no time measured"
    )
    return f"{rate}, started in {in_seconds(record.startup_s or 0.0)}"
