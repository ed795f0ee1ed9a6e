"""What runs each reaction of one worker: its method, with what it needs around it and nothing else.

From the inside out: inputs that it does not declare are out of reach; recordings and timelines note it;
its deadline is checked; its mode must be active.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtimes.reactor.live import Forbidden, guarded
from runtimes.reactor.reactions import shutdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtimes.reactor.assembly import ReactionRow
    from runtimes.reactor.home import Home
    from runtimes.reactor.modes import ModeTable
    from runtimes.reactor.ports import Ports

    Step = Callable[[], object]

__all__ = ["Bodies"]


class Bodies:
    """By rank, what runs the reactions of one worker."""

    def __init__(self, home: Home, ports: Ports, modes: ModeTable | None) -> None:
        """Make them."""
        self.by_rank: list[Step] = [_nothing] * len(home.assembly.reactions)
        self.shutting_down = False
        """Whether this is the last tag, in which reactions of inactive modes may run."""
        self._home = home
        self._ports = ports
        self._modes = modes
        for rank in home.ranks:
            declared = home.assembly.reactions[rank].declared
            if declared.prepare is None or home.clocked:
                self.by_rank[rank] = self._body(rank, declared.body)
            else:
                self.by_rank[rank] = self._preparing(rank)

    def prepared(self, rank: int) -> Step:
        """What runs a reaction from the second tag on."""
        row, watched = self._home.assembly.reactions[rank], self._home.watched
        prepare = row.declared.prepare
        if prepare is None:
            return self.by_rank[rank]
        if watched is not None:
            prepare = watched.around(prepare, (row.reactor, row.name), self._home.clock)
        return self._body(rank, prepare())

    def _preparing(self, rank: int) -> Step:
        """Runs a reaction's own method at the first tag; later what it has prepared."""
        body = self._body(rank, self._home.assembly.reactions[rank].declared.body)

        def run() -> None:
            if self._home.clock.number == 0:
                body()
            else:
                self.by_rank[rank] = self.prepared(rank)
                self.by_rank[rank]()

        return run

    def _body(self, rank: int, method: Step) -> Step:
        """`method` with all around it that the reaction needs."""
        row = self._home.assembly.reactions[rank]
        declared = row.declared
        body = self._guarded(row, method)
        if not row.hidden:
            body = self._noted(rank, body, late=False)
        if declared.deadline_ns is not None and declared.late is not None:
            late = self._noted(rank, self._guarded(row, declared.late), late=True)
            body = self._with_deadline(row, body, late)
        if row.mode is not None:
            body = self._in_mode(row, body)
        return body

    def _guarded(self, row: ReactionRow, method: Step) -> Step:
        """`method`, with the inputs that it does not declare out of its reach."""
        rows = self._home.assembly.reactions
        others = {port for rank in self._ports.siblings[row.reactor] for port in rows[rank].reads} - set(row.reads)
        if row.hidden or not others:
            return method
        return guarded(
            method,
            {
                port: Forbidden(
                    f"Reaction '{row.path}' reads '{port}' but does not declare it. Name it among its triggers or "
                    "sources."
                )
                for port in others
            },
        )

    def _noted(self, rank: int, body: Step, *, late: bool) -> Step:
        """`body`, noting what a recording or a timeline wants to know."""
        home = self._home
        row = home.assembly.reactions[rank]
        if home.settings.timeline:
            body = home.notes.timed(body, rank, home.clock)
        if home.settings.recording:
            outputs = [(port.name, self._ports.outputs[port]) for port in row.writes]
            body = home.notes.stepping(body, row, rank, home.clock, outputs, late=late)
        if home.watched is not None:
            body = home.watched.around(body, (row.reactor, row.name), home.clock)
        return body

    def _with_deadline(self, row: ReactionRow, body: Step, late: Step) -> Step:
        """`body`, or `late` if physical time is past the tag by more than the deadline."""
        deadline_ns, clock, trace = row.declared.deadline_ns, self._home.clock, self._home.settings.replay
        assert deadline_ns is not None
        if trace is not None:
            violated = {
                (o.time_ns, o.microstep) for o in trace.late if (o.reactor, o.reaction) == (row.reactor, row.name)
            }

            def run_again() -> None:
                (late if (clock.time_ns, clock.microstep) in violated else body)()

            return run_again

        def run() -> None:
            if deadline_ns == 0 or clock.physical_ns() - clock.time_ns > deadline_ns:
                late()
            else:
                body()

        return run

    def _in_mode(self, row: ReactionRow, body: Step) -> Step:
        """`body`, if its mode is active; at the end also if it ever was."""
        number, modes = row.mode, self._modes
        assert number is not None
        assert modes is not None
        ends = shutdown in row.declared.triggers

        def run() -> None:
            if modes.active[number] or (ends and self.shutting_down and modes.started[number]):
                body()

        return run


def _nothing() -> None:
    """In place of a reaction that lives elsewhere."""
