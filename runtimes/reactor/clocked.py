"""What a worker of a clocked program does: its tags are known beforehand, so nobody decides on the next one.

The whole plan of a tag is known too, and fused into generated straight-line code (`fused`). From a
certain tag on, all have the same plan.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

from runtimes.reactor.elements import Input, LogicalAction, PhysicalAction, Timer
from runtimes.reactor.fused import Fused, fuse
from runtimes.reactor.live import Cell
from runtimes.reactor.partition import EVERYONE
from runtimes.reactor.reactions import shutdown, startup
from runtimes.reactor.timeline import DECIDING

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtimes.reactor.bodies import Bodies
    from runtimes.reactor.home import Home
    from runtimes.reactor.peers import Peers
    from runtimes.reactor.ports import Ports
    from runtimes.reactor.sources import Sources

__all__ = ["ClockedTags"]


class ClockedTags:
    """Runs the reactions of one worker at the tags of a clocked program."""

    def __init__(self, home: Home, ports: Ports, sources: Sources, bodies: Bodies, peers: Peers) -> None:
        """Run what `bodies` has; ask the cells of `ports` and `sources` what is present."""
        self._home = home
        self._ports = ports
        self._sources = sources
        self._bodies = bodies
        self._peers = peers
        self._noted = home.settings.timeline
        self._usual: Fused | None = None
        """What every tag does from a certain one on."""

    def run(self, limit: int, ends_ns: list[int] | None = None, *, last_aligned: bool = False) -> None:
        """Run tags up to number `limit`, that one excluded; append to `ends_ns` when each was over for all.

        With `last_aligned` the tag at `limit` follows as the last one: shutdown reactions with all else that is due.
        """
        clock, period_ns, queue = self._home.clock, self._home.assembly.period_ns, self._home.queue
        while (number := clock.turn) < limit or last_aligned:
            if self._usual is not None and number < limit and not self._noted:
                self._run_usual(self._usual, limit, ends_ns)
                continue
            last = number >= limit
            clock.number = number
            clock.time_ns = number * period_ns
            if queue.heap:
                queue.fire(clock.time_ns, 0)
            plan = None if last else self._usual
            self._run_plan(plan or self._plan_at(number, last=last))
            if ends_ns is not None:
                ends_ns.append(perf_counter_ns())
            if last:
                return

    def run_last(self, time_ns: int, microstep: int) -> None:
        """Run the last tag where nothing else is: shutdown reactions, and what they trigger.

        No value that is delayed by a period arrives; steady inputs show what they showed before.
        """
        clock = self._home.clock
        clock.number += self._home.assembly.phases
        clock.time_ns = time_ns
        clock.microstep = microstep
        self._run_plan(self._plan_at(None, last=True))

    def let_go(self) -> None:
        """Take from plans what they look through."""
        self._usual = None

    def _run_usual(self, plan: Fused, limit: int, ends_ns: list[int] | None) -> None:
        """Run usual tags: what `_run_plan` does, in one loop."""
        clock, period_ns, queue = self._home.clock, self._home.assembly.period_ns, self._home.queue
        heap = queue.heap
        run, number, meet = plan.run, clock.turn, self._peers.meeting()
        note_end = (lambda _end_ns: None) if ends_ns is None else ends_ns.append
        try:
            while number < limit:
                clock.number = number
                clock.time_ns = time_ns = number * period_ns
                if heap:
                    queue.fire(time_ns, 0)
                run()
                number += 1
                clock.turn = number
                if meet is not None:
                    meet(number)
                note_end(perf_counter_ns())
        except Exception as error:  # noqa: BLE001 - it is raised with its place
            self._home.fail(plan.rank_of(error), error)

    def _run_plan(self, plan: Fused) -> None:
        """Run one tag, and wait until everyone has."""
        clock, peers = self._home.clock, self._peers
        try:
            plan.run()
        except Exception as error:  # noqa: BLE001 - it is raised with its place
            self._home.fail(plan.rank_of(error), error)
        clock.turn += 1
        if peers.others:
            peers.finish_tag()
            begin = perf_counter_ns() if self._noted else 0
            peers.wait_for_all(EVERYONE)
            if self._noted:
                self._home.notes.spans.append((DECIDING, clock.number, begin, perf_counter_ns()))

    def _plan_at(self, tag: int | None, *, last: bool) -> Fused:
        """What to do at tag number `tag` (None: a microstep after the one before)."""
        home, peers, cues = self._home, self._peers, self._peers.cues
        due = {rank for rank in home.ranks if self._is_due(rank, tag, last=last)}
        plan = fuse(
            cues,
            home.assembly,
            {rank: self._body_at(rank, tag) for rank in home.ranks},
            due,
            self._cells_of,
            [peers.waiting(*cue.wait) for cue in cues if cue.wait is not None],
            [peers.publishing(step) for step in range(sum(cue.publish for cue in cues))],
            home.clock,
        )
        if not last and tag is not None and tag >= home.assembly.usual_from:
            self._usual = plan
        return plan

    def _is_due(self, rank: int, tag: int | None, *, last: bool) -> bool:
        """Whether a reaction runs at a tag whatever is present."""
        triggers = self._home.assembly.reactions[rank].declared.triggers
        if (last and shutdown in triggers) or (tag == 0 and startup in triggers):
            return True
        period_ns = self._home.assembly.period_ns
        starts = [(t.offset_ns // period_ns, t.period_ns) for t in triggers if isinstance(t, Timer)]
        return tag is not None and any(tag == first or (tag > first and repeats) for first, repeats in starts)

    def _body_at(self, rank: int, tag: int | None) -> Callable[[], object]:
        """What runs a reaction at a tag: what it has prepared, once startup is over."""
        if tag == 0:
            return self._bodies.by_rank[rank]
        try:
            return self._bodies.prepared(rank)
        except Exception as error:  # noqa: BLE001 - it is raised with its place
            self._home.fail(rank, error)

    def _cells_of(self, rank: int) -> list[Cell]:
        """The cells whose presence triggers a reaction."""
        cells: list[Cell] = []
        for trigger in self._home.assembly.reactions[rank].declared.triggers:
            if isinstance(trigger, Input):
                live = self._ports.inputs[trigger]
                cells += [feed for feed in live.feeds if isinstance(feed, Cell)]
            elif isinstance(trigger, LogicalAction | PhysicalAction):
                cells.append(self._sources.actions[trigger].cell)
        return cells
