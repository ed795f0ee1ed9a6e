"""One worker of a running program: its view of the lanes, its reactions, and what it does in a tag.

The calling process is worker 0. A program with one worker is this alone: nothing to wait for and
nothing to publish. In a clocked program the whole plan of a tag is known, and is fused into generated
straight-line code (`fused`); in any other, what is present pushes the reactions it triggers.
"""

from __future__ import annotations

import threading
import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtimes.reactor.board import ABORTED, REACHED
from runtimes.reactor.declaration import (
    Input,
    LogicalAction,
    Mode,
    Output,
    PhysicalAction,
    Tag,
    Timer,
    Watchdog,
    shutdown,
    startup,
    stop,
)
from runtimes.reactor.errors import ReactionFailed, ReactorError
from runtimes.reactor.events import (
    NEVER_NS,
    EventQueue,
    EventSource,
    Gate,
    Inbox,
    LiveAction,
    LivePhysicalAction,
    LiveTimer,
    LiveWatchdog,
)
from runtimes.reactor.fused import Fused, fuse
from runtimes.reactor.live import (
    ArrayOut,
    Cell,
    Clock,
    Forbidden,
    GuardedOutput,
    Inlet,
    LiveInput,
    LiveOutput,
    LiveReactor,
    Log,
    MutableInput,
    Out,
    SteadyIn,
    SteadyOut,
    ValueOut,
    guarded,
    read_only,
)
from runtimes.reactor.memory import items_in
from runtimes.reactor.modes import LiveModes, ModeTable
from runtimes.reactor.observe import Notes
from runtimes.reactor.plan import script
from runtimes.reactor.relays import Hidden
from runtimes.reactor.timeline import DECIDING
from runtimes.reactor.trace import PhysicalEvent, WatchdogExpiry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from runtimes.reactor.assembly import Assembly, Lane, ReactionRow
    from runtimes.reactor.board import Board
    from runtimes.reactor.memory import Segment
    from runtimes.reactor.partition import Partition
    from runtimes.reactor.post import Post
    from runtimes.reactor.trace import Trace

__all__ = ["Aborted", "Settings", "Worker"]

WAIT_SLICE_S: Final = 0.05
"""How long a blocked worker sleeps before it looks whether the others live."""

_BEYOND: Final = 1 << 62
"""A rank that no reaction has."""

Step = Callable[[], object]


class Aborted(ReactorError):  # noqa: N818 - what happened
    """Another worker gave the program up; it has the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a program runs, the same for all of its workers."""

    recording: bool = False
    timeline: bool = False
    replay: Trace | None = None


class Worker:
    """Runs the reactions that live here, tag after tag."""

    def __init__(  # noqa: PLR0913 - a worker and everything it shares
        self,
        partition: Partition,
        number: int,
        *,
        shared: Segment | None = None,
        posts: Mapping[int, Post] | None = None,
        board: Board | None = None,
        look_around: Callable[[], None] = lambda: None,
        gate: Gate | None = None,
        settings: Settings | None = None,
    ) -> None:
        """Make worker `number`. `look_around` is called while it waits, and raises if a peer has died."""
        self.partition = partition
        self.number = number
        self.clock = Clock()
        self.turn = 0
        """How many tags are over; what peers publish is counted from there."""
        self.notes = Notes()
        self.queue = EventQueue()
        self.failure: BaseException | None = None
        """What went wrong in a thread of this worker other than its own."""
        self._assembly = partition.assembly
        self._settings = settings or Settings()
        self._clocked = self._assembly.period_ns > 0
        self._board = board
        self._peers = [peer for peer in range(partition.workers) if peer != number]
        self._look_around = look_around
        self._shared = shared
        self._posts = dict(posts or {})
        self._gate = gate
        self._inbox = None if gate is None else Inbox(gate, number)
        self._ready: list[int] = []
        self._outgoing: list[dict[int, Any]] = [{} for _ in partition.groups]
        self._here = [
            path for path in self._assembly.reactors if partition.placement[path] == number
        ]
        self._mine = [
            rank for rank, row in enumerate(self._assembly.reactions) if partition.placement[row.reactor] == number
        ]
        self._watchdogs: dict[str, LiveWatchdog] = {}
        self._busy: threading.Lock | None = None
        """Held in a tag if there are watchdogs, whose handlers run in threads of their own."""
        self._replayed_expiries: dict[tuple[int, int], list[str]] = defaultdict(list)
        self._bind_lanes()
        self._bind_actions()
        self._bind_reactors()
        self._bodies: list[Step] = []
        self._make_bodies()
        self._usual: Fused | None = None
        """What every tag of a clocked program does from a certain one on."""
        self._usual_from = self._first_usual()
        self._segments = [] if self._clocked else self._cut()

    # Running

    def begin(self, start_ns: int) -> None:
        """Be at the beginning: what happens at the first tag stands in the queue."""
        self.clock.start_ns = start_ns
        if self.modes is not None:
            self.modes.begin()
        if self._clocked:
            return
        for timer in self._timers:
            if timer.mode is None or self._is_active(timer.mode):
                timer.start(0, 0)
        trace = self._settings.replay
        if trace is not None:
            self._insert_recorded(trace)

    def adopt(self, other: Worker) -> None:
        """Go on where `other` was, which ran the whole program so far: take over what belongs to reactors here.

        What both share in memory is copied by worker 0 alone, before anyone runs.
        """
        for name in Clock.__slots__:
            setattr(self.clock, name, getattr(other.clock, name))
        self.turn = other.turn
        if self.number == 0:
            self.notes.take(other.notes, spans=self._settings.timeline)
        for lane, out in other._outs.items():
            cell = self._outs[lane].cell if lane in self._outs else self._foreign.get(lane)
            if cell is not None:
                cell.value, cell.stamp = out.cell.value, out.cell.stamp
        for block, slots in other._arrays.items():
            if self._assembly.blocks[block].steady and (self.number == 0 or block not in self.partition.block_offsets):
                for mine, theirs in zip(self._arrays[block], slots, strict=True):
                    mine[...] = theirs
        for action, live in self._actions.items():
            live.adopt(other._actions[action])
        if self.modes is not None and other.modes is not None:
            self.modes.adopt(other.modes, self._counterpart)
        for time_ns, microstep, _, source, holder in sorted(other.queue.heap):
            mine = self._counterpart(source)
            if mine is not None and holder:
                self.queue.put(time_ns, microstep, mine, holder)

    def _counterpart(self, source: EventSource) -> EventSource | None:
        """What is here what `source` was in another worker; None if its reactor lives elsewhere."""
        if isinstance(source, _Start):
            assert source.mode is not None
            home = self._assembly.modes[source.mode].reactor
            return self._start_in(source.mode, source.ranks) if home in self._here else None
        if isinstance(source, LiveAction):
            return self._actions.get(source.element)
        return next((timer for timer in self._timers if timer.element is source.element), None)

    def next_tag(self) -> tuple[int, int]:
        """The tag of this worker's earliest event."""
        if self.turn == 0:
            return (0, 0)
        return self.queue.next_tag()

    def earliest_by_worker(self, partition: Partition) -> dict[int, tuple[int, int]]:
        """The earliest event of each worker that is to take over reactors of this one."""
        earliest: dict[int, tuple[int, int]] = {}
        for time_ns, microstep, _, source, holder in sorted(self.queue.heap):
            if holder:
                earliest.setdefault(partition.placement[source.element.owner.path], (time_ns, microstep))
        return earliest

    @property
    def timeline(self) -> bool:
        """Whether spans are noted."""
        return self._settings.timeline

    @property
    def wants_stop(self) -> bool:
        """Whether one of its reactions has requested a stop."""
        return self.clock.stop_requested

    def run_tag(self, number: int, time_ns: int, microstep: int, taking_part: int, *, last: bool) -> None:
        """Run tag `number` of the program with the workers whose bits are set in `taking_part`.

        Raises:
            ReactionFailed: if a reaction of this worker raised.
            Aborted: if another worker gave up.
        """
        clock = self.clock
        self.turn = clock.number = number
        clock.time_ns = time_ns
        clock.microstep = microstep
        if self._busy is None:
            self._run_events(number, taking_part, last=last)
        else:
            with self._busy:
                self._run_events(number, taking_part, last=last)
        self.turn = number + 1

    def _run_events(self, number: int, taking_part: int, *, last: bool) -> None:
        """Run what the events of the tag trigger, in order of rank."""
        clock, ready = self.clock, self._ready
        if self._inbox is not None:
            self._inbox.empty_into(self.queue)
        self.queue.fire(clock.time_ns, clock.microstep)
        if number == 0:
            self._push(self._ranks_with(startup))
        if last:
            self._push(self._ranks_with(shutdown))
        for limit, then in self._segments:
            self._drain(limit)
            then(taking_part)
        bodies = self._bodies
        rank = clock.rank
        try:
            while ready:
                following = heappop(ready)
                # One that was triggered twice; or whose turn was before, in a mode that excludes this one's.
                if following > rank:
                    rank = clock.rank = following
                    bodies[following]()
        except ReactorError as error:
            raise self._located(error, rank) from error
        except Exception as error:
            raise self._failure_of(rank, error) from error
        clock.rank = -1
        if self.modes is not None:
            self.modes.apply(clock.tag)
        if self._replayed_expiries:
            for path in self._replayed_expiries.pop((clock.time_ns, clock.microstep), ()):
                self._watchdogs[path].expire()

    def run_alone(self, tags: int, stop_at: tuple[int, int], ends_ns: list[int]) -> None:
        """Run up to `tags` tags before `stop_at`, while there are events and nobody requests a stop.

        For a worker without peers, modes and events from outside, in fast mode: what `run_tag` does, with nobody
        to ask in between. Saves 2 us a tag.
        """
        clock, ready, bodies, heap, rank = self.clock, self._ready, self._bodies, self.queue.heap, -1
        number = self.turn
        end = number + tags
        try:
            while number < end and not clock.stop_requested:
                while heap and not heap[0][4]:
                    heappop(heap)
                if not heap or heap[0][:2] >= stop_at:
                    break
                time_ns, microstep, _, source, holder = heappop(heap)
                clock.number, clock.time_ns, clock.microstep = number, time_ns, microstep
                source.fire(time_ns, microstep, holder)
                while heap and heap[0][0] == time_ns and heap[0][1] == microstep:
                    event = heappop(heap)
                    if event[4]:
                        event[3].fire(time_ns, microstep, event[4])
                rank = -1
                while ready:
                    following = heappop(ready)
                    if following > rank:
                        rank = clock.rank = following
                        bodies[following]()
                clock.rank = -1
                number += 1
                ends_ns.append(perf_counter_ns())
        except ReactorError as error:
            raise self._located(error, rank) from error
        except Exception as error:
            raise self._failure_of(rank, error) from error
        finally:
            self.turn = number

    def finish_tag(self) -> None:
        """Send what waits, and say that this worker is through with the tag."""
        assert self._board is not None
        step = self.partition.steps[self.number]
        self._flush(step - 1)
        self._board.advance_to(self.number, self.turn * step)

    def wait_for_all(self, taking_part: int) -> None:
        """Wait until those peers that take part in the tag are through with it."""
        for peer in self._peers:
            if taking_part >> peer & 1:
                self.wait(peer, self.turn * self.partition.steps[peer])

    def run_clocked(self, limit: int, ends_ns: list[int] | None = None, *, last_aligned: bool = False) -> None:
        """Run tags up to number `limit`, that one excluded; append to `ends_ns` when each was over for all.

        With `last_aligned` the tag at `limit` follows as the last one: shutdown reactions with all else that is due.
        """
        clock, period_ns, queue = self.clock, self._assembly.period_ns, self.queue
        while (number := self.turn) < limit or last_aligned:
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

    def run_clocked_last(self, time_ns: int, microstep: int) -> None:
        """Run the last tag where nothing else is: shutdown reactions, and what they trigger.

        No value that is delayed by a period arrives; steady inputs show what they showed before.
        """
        self.clock.number += self._assembly.phases
        self.clock.time_ns = time_ns
        self.clock.microstep = microstep
        self._run_plan(self._plan_at(None, last=True))

    def wait(self, line: int, target: int) -> None:
        """Wait until `line` has reached `target`, looking around now and then.

        Raises:
            Aborted: if the program was given up.
        """
        assert self._board is not None
        while (outcome := self._board.wait(line, target, WAIT_SLICE_S)) != REACHED:
            if outcome == ABORTED:
                raise Aborted("Another worker has failed.")
            try:
                self._look_around()
            except ReactorError:
                # A peer that has done all we wait for may end before we look.
                if self._board.wait(line, target, 0.0) != REACHED:
                    raise
                return

    def let_go(self) -> None:
        """Take from ports and plans what they look through, so that the memory behind it goes at once."""
        for watchdog in self._watchdogs.values():
            watchdog.end()
        self._usual = None
        self._bodies.clear()
        for path in self._here:
            reactor = self._assembly.reactors[path]
            reactor.live = None
            for element in reactor.declared.elements.values():
                if isinstance(element, Input | Output):
                    element.act_on(None)
                elif not isinstance(element, Timer):
                    element.live = None

    # Steps of a tag

    def _push(self, ranks: Sequence[int]) -> None:
        for rank in ranks:
            heappush(self._ready, rank)

    def _drain(self, limit: int) -> None:
        """Run what is ready and comes before rank `limit`."""
        ready, clock, bodies = self._ready, self.clock, self._bodies
        rank = clock.rank
        try:
            while ready and ready[0] < limit:
                following = heappop(ready)
                if following > rank:
                    rank = clock.rank = following
                    bodies[following]()
        except ReactorError as error:
            raise self._located(error, rank) from error
        except Exception as error:
            raise self._failure_of(rank, error) from error

    def _cut(self) -> list[tuple[int, Callable[[int], None]]]:
        """Where a tag that is not clocked is cut: up to which rank to run, and what to do then."""
        segments: list[tuple[int, Callable[[int], None]]] = []
        cues = script(self._assembly, self.partition.placement, self.partition.points, self.number)
        published = 0
        done = 0
        for at, cue in enumerate(cues):
            if cue.wait is not None:
                following = next(c.rank for c in cues[at:] if c.rank is not None)
                segments.append((following, self._waiting(*cue.wait)))
            elif cue.publish:
                segments.append((done + 1, self._publishing(published)))
                published += 1
            else:
                assert cue.rank is not None
                done = cue.rank
        return segments

    def _waiting(self, peer: int, published: int) -> Callable[[int], None]:
        """A step that waits until `peer` has published so many steps of the tag at hand, if it takes part."""
        board, each, bit = self._board, self.partition.steps[peer], 1 << peer
        assert board is not None
        noted, clock = self._settings.timeline, self.clock
        inlet = self._inlets.get(peer)

        def wait(taking_part: int) -> None:
            if taking_part & bit:
                begin = perf_counter_ns() if noted else 0
                target = self.turn * each + published
                if board.wait(peer, target, WAIT_SLICE_S) != REACHED:
                    self.wait(peer, target)
                if noted:
                    self.notes.spans.append((-1 - peer, clock.number, begin, perf_counter_ns()))
                if inlet is not None:
                    inlet.take(clock.number, published)

        return wait

    def _publishing(self, step: int) -> Callable[[int], None]:
        """The `step`-th publication of the tag: send what waits, then say how far this worker is."""
        board, line, each = self._board, self.number, self.partition.steps[self.number]
        assert board is not None

        def publish(_taking_part: int) -> None:
            self._flush(step)
            board.advance_to(line, self.turn * each + step + 1)

        return publish

    def _flush(self, step: int) -> None:
        """Send what waits with publication `step`."""
        for group, values in enumerate(self._outgoing):
            if values:
                self._posts[self.number].send(self.clock.number, step, group, values.copy())
                values.clear()
        if self._log is not None:
            self._log.flush(self.clock.number, step)

    def _run_plan(self, plan: Fused) -> None:
        """Run one tag of a clocked program, and wait until everyone has."""
        try:
            plan.run()
        except Aborted:
            raise
        except ReactorError as error:
            raise self._located(error, plan.rank_of(error)) from error
        except Exception as error:
            raise self._failure_of(plan.rank_of(error), error) from error
        self.turn += 1
        if self._peers:
            assert self._board is not None
            self.finish_tag()
            begin = perf_counter_ns() if self._settings.timeline else 0
            for peer in self._peers:
                target = self.turn * self.partition.steps[peer]
                if self._board.wait(peer, target, WAIT_SLICE_S) != REACHED:
                    self.wait(peer, target)
            if self._settings.timeline:
                self.notes.spans.append((DECIDING, self.clock.number, begin, perf_counter_ns()))

    def _plan_at(self, tag: int | None, *, last: bool) -> Fused:
        """What to do at tag number `tag` of a clocked program (None: a microstep after the one before)."""
        due = [rank for rank in self._mine if self._is_due(rank, tag, last=last)]
        cues = script(self._assembly, self.partition.placement, self.partition.points, self.number)
        plan = fuse(
            cues,
            self._assembly,
            {rank: self._body_at(rank, tag) for rank in self._mine},
            set(due),
            self._cells_of,
            [self._waiting(*cue.wait) for cue in cues if cue.wait is not None],
            [self._publishing(step) for step in range(sum(cue.publish for cue in cues))],
            self.clock,
        )
        if not last and tag is not None and tag >= self._usual_from:
            self._usual = plan
        return plan

    def _first_usual(self) -> int:
        """From this tag on, every tag of a clocked program does the same."""
        period_ns = self._assembly.period_ns
        timers = [t for row in self._assembly.reactions for t in row.declared.triggers if isinstance(t, Timer)]
        return 1 + max((timer.offset_ns // max(period_ns, 1) for timer in timers), default=0)

    def _is_due(self, rank: int, tag: int | None, *, last: bool) -> bool:
        """Whether a reaction runs at a tag whatever is present."""
        triggers = self._assembly.reactions[rank].declared.triggers
        if (last and shutdown in triggers) or (tag == 0 and startup in triggers):
            return True
        period_ns = self._assembly.period_ns
        starts = [(t.offset_ns // period_ns, t.period_ns) for t in triggers if isinstance(t, Timer)]
        return tag is not None and any(tag == first or (tag > first and repeats) for first, repeats in starts)

    def _body_at(self, rank: int, tag: int | None) -> Step:
        """What runs a reaction at a tag of a clocked program: what it has prepared, once startup is over."""
        if tag == 0 or self._assembly.reactions[rank].declared.prepare is None:
            return self._bodies[rank]
        return self._prepared(rank)

    def _cells_of(self, rank: int) -> list[Cell]:
        """The cells whose presence triggers a reaction."""
        cells: list[Cell] = []
        for trigger in self._assembly.reactions[rank].declared.triggers:
            if isinstance(trigger, Input):
                live = self._inputs[trigger]
                cells += [feed for feed in live.feeds if isinstance(feed, Cell)]
            elif isinstance(trigger, LogicalAction | PhysicalAction):
                cells.append(self._actions[trigger].cell)
        return cells

    # Failures

    def _failure_of(self, rank: int, error: Exception) -> ReactionFailed:
        """The failure to report when a reaction raised `error`."""
        tag = (self.clock.time_ns, self.clock.microstep)
        where = ("the runtime", f"worker {self.number}")
        if rank >= 0:
            row = self._assembly.reactions[rank]
            where = (row.reactor, row.name)
        text = "".join(traceback.format_exception(error)) if self.number else ""
        return ReactionFailed(*where, tag, f"{type(error).__name__}: {error}", text)

    def _located(self, error: ReactorError, rank: int) -> ReactorError:
        """`error` as it is if the runtime raised it, else (something undeclared was done) with its place."""
        if isinstance(error, Aborted | ReactionFailed) or rank < 0:
            return error
        return self._failure_of(rank, error)

    # Making it all

    def _ranks_with(self, trigger: object) -> list[int]:
        """Reactions with that trigger whose mode is, or for shutdown ever was, active."""
        rows = self._assembly.reactions
        found = [rank for rank in self._mine if trigger in rows[rank].declared.triggers]
        if self.modes is None:
            return found
        counts = self.modes.started if trigger is shutdown else self.modes.active
        self._shutting_down = trigger is shutdown
        return [rank for rank in found if (mode := rows[rank].mode) is None or counts[mode]]

    def _is_active(self, mode: int) -> bool:
        return self.modes is not None and self.modes.active[mode]

    def _bind_lanes(self) -> None:
        """Make this worker's view of all lanes: cells, slots, logs."""
        partition, assembly = self.partition, self._assembly
        triggered: dict[int, list[int]] = defaultdict(list)
        if not self._clocked:
            for rank in self._mine:
                for port in assembly.reactions[rank].declared.triggers:
                    if isinstance(port, Input):
                        for feed in assembly.feeds[port]:
                            if feed is not None and rank not in triggered[feed.lane]:
                                triggered[feed.lane].append(rank)
        self._arrays = {block.index: self._block_arrays(block.index) for block in assembly.blocks}
        self._logs: dict[int, Log] = {
            worker: Log(self._log_words(worker), partition.steps[worker])
            for worker in range(partition.workers)
            if any(partition.writer[lane] == worker for lane in partition.sparse)
        }
        self._log = self._logs.pop(self.number, None)
        groups = [index for index, group in enumerate(partition.groups) if self.number in group]
        self._foreign: dict[int, Cell] = {}
        self._foreign_views: dict[int, list[NDArray[Any]]] = {}
        self._outs: dict[int, Out] = {}
        for lane in assembly.lanes:
            if partition.writer[lane.index] == self.number:
                self._outs[lane.index] = self._out(lane, triggered[lane.index])
            elif lane.block is None or not assembly.blocks[lane.block].steady:
                self._foreign[lane.index] = Cell(tuple(triggered[lane.index]))
                if lane.block is not None:
                    self._foreign_views[lane.index] = [read_only(s[lane.item, ...]) for s in self._arrays[lane.block]]
        self._inlets = {
            peer: Inlet(
                post=self._posts.get(peer),
                log=self._logs.get(peer),
                groups=groups,
                cells=self._foreign,
                views=self._foreign_views,
                ready=self._ready,
            )
            for peer in self._peers
            if peer in self._posts or peer in self._logs
        }

    def _out(self, lane: Lane, triggers: Sequence[int]) -> Out:
        """What a lane of this worker is written through."""
        cell = Cell(tuple(triggers))
        if lane.block is None:
            group = self.partition.recipients.get(lane.index)
            outgoing = None if group is None else self._outgoing[group]
            return ValueOut(cell, self.clock, self._ready, outgoing, lane.index)
        slots = [slot[lane.item, ...] for slot in self._arrays[lane.block]]
        if self._assembly.blocks[lane.block].steady:
            return SteadyOut(slots, self.clock)
        log = self._log if lane.index in self.partition.sparse else None
        return ArrayOut(slots, cell, self.clock, self._ready, log, lane.index)

    def _bind_actions(self) -> None:
        """Make the timers, actions, modes and watchdogs of this worker."""
        assembly = self._assembly
        triggered: dict[Any, list[int]] = defaultdict(list)
        named: dict[Any, set[int]] = defaultdict(set)
        for rank in self._mine:
            declared = assembly.reactions[rank].declared
            for trigger in declared.triggers:
                triggered[trigger].append(rank)
            for effect in declared.effects:
                named[effect].add(rank)
        self._timers: list[LiveTimer] = []
        self._actions: dict[Any, LiveAction] = {}
        modal: dict[str, LiveModes] = {}
        for path in self._here:
            reactor = assembly.reactors[path]
            own: dict[int, Mode] = {}
            for element in reactor.declared.elements.values():
                if isinstance(element, Timer) and not self._clocked:
                    mode = assembly.mode_index(path, element.mode)
                    self._timers.append(LiveTimer(element, self.queue, self._ready, triggered[element], mode))
                elif isinstance(element, LogicalAction | PhysicalAction):
                    mode = assembly.mode_index(path, element.mode)
                    cell = Cell(() if self._clocked else tuple(triggered[element]))
                    parts = (element, cell, self.clock, self._ready, self.queue, mode, frozenset(named[element]))
                    self._actions[element] = self._action(path, element, parts)
                elif isinstance(element, Mode):
                    own[assembly.mode_index(path, element) or 0] = element
            if own:
                may_enter = {mode: frozenset(named[mode]) for mode in own.values()}
                modal[path] = LiveModes(own, may_enter)
        self._modal = modal
        self.modes: ModeTable | None = None
        if modal:
            self.modes = ModeTable(assembly, modal, self.queue, self._timers, self._trigger_at)
            for action in self._actions.values():
                action.modes = None if action.mode is None else self.modes
        self._bind_watchdogs()

    def _action(self, path: str, element: Any, parts: tuple[Any, ...]) -> LiveAction:
        """What one action runs as."""
        trace = self._settings.replay
        name = f"{path}.{element.name}" if path else element.name
        if isinstance(element, LogicalAction):
            return LiveAction(*parts)
        assert self._inbox is not None
        hidden = isinstance(self._assembly.reactors[path], Hidden)
        tags = None
        if trace is not None and hidden:
            tags = [Tag(e.time_ns, e.microstep) for e in trace.physical if e.action == name]
        action = LivePhysicalAction(*parts, inbox=self._inbox, replayed=trace is not None, tags=tags)
        if self._settings.recording:
            physical = self.notes.physical

            def note(tag: Tag, value: Any) -> None:
                physical.append(PhysicalEvent(name, *tag) if hidden else PhysicalEvent.of(name, tag, value))

            action.on_fire = note
        return action

    def _bind_watchdogs(self) -> None:
        """Make the watchdogs of this worker."""
        for path in self._here:
            reactor = self._assembly.reactors[path]
            handlers = {handler.watchdog: handler for handler in reactor.declared.handlers}
            for element in reactor.declared.elements.values():
                if not isinstance(element, Watchdog):
                    continue
                assert self._inbox is not None
                if not self._watchdogs:
                    self._busy = threading.Lock()
                handler = handlers[element]
                name = f"{path}.{element.name}" if path else element.name
                live = LiveWatchdog(
                    element.timeout_ns,
                    handler.body,
                    clock=self.clock,
                    busy=self._busy,
                    inbox=self._inbox,
                    effects=[self._actions[effect] for effect in handler.effects],
                    on_failure=self._fail_outside(path, handler.name),
                )
                live.replayed = self._settings.replay is not None
                if self._settings.recording:
                    live.on_expiry = lambda tag, name=name: self.notes.expiries.append(WatchdogExpiry(name, *tag))  # type: ignore[misc]  # the default carries the name
                self._watchdogs[name] = live
                element.live = live

    def _fail_outside(self, path: str, name: str) -> Callable[[BaseException], None]:
        """What a watchdog's thread does with an exception: keep it, and give the program up."""

        def fail(error: BaseException) -> None:
            text = "".join(traceback.format_exception(error)) if self.number else ""
            self.failure = ReactionFailed(path, name, self.clock.tag, f"{type(error).__name__}: {error}", text)
            self.failure.__cause__ = error
            assert self._gate is not None
            self._gate.ring()

        return fail

    def _insert_recorded(self, trace: Trace) -> None:
        """Put what came from outside in a recorded run into the queue."""
        by_name = {f"{a.owner.path}.{a.name}" if a.owner.path else a.name: live for a, live in self._actions.items()}
        for event in trace.physical:
            live = by_name.get(event.action)
            if isinstance(live, LivePhysicalAction) and event.payload is not None:
                live.insert(Tag(event.time_ns, event.microstep), event.value)
        for expiry in trace.expiries:
            if expiry.watchdog in self._watchdogs:
                self._replayed_expiries[expiry.time_ns, expiry.microstep].append(expiry.watchdog)

    def _trigger_at(self, ranks: Sequence[int], mode: int, tag: Tag) -> None:
        """Let reactions of a mode run at a tag."""
        if ranks:
            self.queue.put(tag.time_ns, tag.microstep, self._start_in(mode, ranks), [None])

    def _start_in(self, mode: int, ranks: Sequence[int]) -> EventSource:
        """What lets reactions of a mode start up, or react to a reset."""
        return _Start(self._ready, tuple(ranks), mode, self._assembly.modes[mode].mode)

    def _bind_reactors(self) -> None:
        """Let the ports, actions and modes of this worker's reactors act on what was made."""
        assembly = self._assembly
        named = self._named()
        self._inputs: dict[Input[Any], LiveInput] = {}
        self._outputs: dict[Output[Any], LiveOutput] = {}
        self._reactors: list[LiveReactor] = []
        of_port: dict[Output[Any], list[int]] = defaultdict(list)
        for lane in assembly.lanes:
            of_port[lane.port].append(lane.index)
        for path in self._here:
            reactor = assembly.reactors[path]
            stops = frozenset(r for r in self._mine if assembly.reactions[r].reactor == path and stop in assembly.reactions[r].declared.effects)
            live = LiveReactor(self.clock, stops, self._modal.get(path))
            self._reactors.append(live)
            reactor.live = live
            for element in reactor.declared.elements.values():
                if isinstance(element, Mode):
                    element.live = live
                elif isinstance(element, LogicalAction | PhysicalAction):
                    element.live = self._actions[element]
                elif isinstance(element, Output) and element in named:
                    self._bind_output(element, of_port[element])
                elif isinstance(element, Input) and element in named:
                    self._bind_input(element)

    def _named(self) -> set[Any]:
        """The ports that reactions of this worker name; waits are made for these alone."""
        rows = [self._assembly.reactions[rank] for rank in self._mine]
        return {port for row in rows for port in (*row.reads, *row.writes)}

    def _bind_output(self, port: Output[Any], lanes: Sequence[int]) -> None:
        """Let an output write."""
        outs = [self._outs[lane] for lane in lanes]
        first = self._assembly.lanes[lanes[0]]
        block = None
        if first.block is not None and port.width is not None:
            stop_at = first.item + port.channels
            block = [slot[first.item : stop_at] for slot in self._arrays[first.block]]
        live = self._outputs[port] = LiveOutput(outs, block, self.clock)
        rows = self._assembly.reactions
        siblings = [rank for rank in self._mine if rows[rank].reactor == first.reactor]
        allowed = frozenset(rank for rank in siblings if port in rows[rank].writes)
        if len(allowed) < len(siblings):
            checked = GuardedOutput(live, self.clock, allowed, str(port))
            port.act_on(checked, checked.setter() if port.width is None else None)
        else:
            # Without looking up the channel: saves 0.1 us a value.
            port.act_on(live, outs[0].set if port.width is None and isinstance(outs[0], ValueOut) else None)

    def _bind_input(self, port: Input[Any]) -> None:
        """Let an input read."""
        assembly = self._assembly
        feeds: list[Cell | SteadyIn | None] = []
        for feed in assembly.feeds[port]:
            if feed is None:
                feeds.append(None)
                continue
            lane = assembly.lanes[feed.lane]
            if lane.block is not None and assembly.blocks[lane.block].steady:
                feeds.append(SteadyIn([s[lane.item, ...] for s in self._arrays[lane.block]], feed.delay_tags))
            elif lane.index in self._outs:
                feeds.append(self._outs[lane.index].cell)
            else:
                feeds.append(self._foreign[lane.index])
        wide = port.width is not None
        if port.mutable:
            live: LiveInput = MutableInput(feeds, self.clock, phases=assembly.phases, wide=wide)
        else:
            live = LiveInput(feeds, self._whole(port), self.clock, phases=assembly.phases, wide=wide)
        self._inputs[port] = live
        port.act_on(live, feeds[0] if not wide and not port.mutable and isinstance(feeds[0], Cell) else None)

    def _whole(self, port: Input[Any]) -> list[NDArray[Any]] | None:
        """What arrives at a multiport as one array a phase, where it lies side by side in a steady block."""
        assembly = self._assembly
        feeds = assembly.feeds[port]
        if port.width is None or any(feed is None for feed in feeds):
            return None
        places = [(assembly.lanes[f.lane], f.delay_tags) for f in feeds if f is not None]
        first, delay = places[0]
        if first.block is None or not assembly.blocks[first.block].steady:
            return None
        if any((lane.block, lane.item, d) != (first.block, first.item + i, delay) for i, (lane, d) in enumerate(places)):
            return None
        arrays = self._arrays[first.block]
        stop_at = first.item + len(places)
        return [
            read_only(arrays[(phase - delay) % len(arrays)][first.item : stop_at]) for phase in range(assembly.phases)
        ]

    def _block_arrays(self, index: int) -> list[NDArray[Any]]:
        """The slots of a block, each of shape `(items, *shape)`: shared if any of its lanes crosses."""
        block = self._assembly.blocks[index]
        lead = (block.slots, len(block.lanes))
        offset = self.partition.block_offsets.get(index)
        if offset is None:
            return list(np.zeros((*lead, *block.shape), block.dtype))
        assert self._shared is not None
        return list(items_in(self._shared.memory, offset, lead, block.shape, block.dtype))

    def _log_words(self, worker: int) -> memoryview[int]:
        """The words of the log of `worker`."""
        assert self._shared is not None
        offset = self.partition.log_offsets[worker]
        return self._shared.memory[offset : offset + 8 * self.partition.log_words(worker)].cast("q")

    def _make_bodies(self) -> None:
        """Make of every reaction what runs it: its method, with what it needs around it."""
        self._bodies = [_nothing] * len(self._assembly.reactions)
        self._shutting_down = False
        for rank in self._mine:
            declared = self._assembly.reactions[rank].declared
            if declared.prepare is None or self._clocked:
                self._bodies[rank] = self._body(rank, declared.body)
            else:
                self._bodies[rank] = self._preparing(rank)

    def _preparing(self, rank: int) -> Step:
        """Runs a reaction's own method at the first tag; later what it has prepared."""
        body = self._body(rank, self._assembly.reactions[rank].declared.body)

        def run() -> None:
            if self.turn == 0:
                body()
            else:
                self._bodies[rank] = self._prepared(rank)
                self._bodies[rank]()

        return run

    def _prepared(self, rank: int) -> Step:
        """What runs a reaction from the second tag on."""
        prepare = self._assembly.reactions[rank].declared.prepare
        assert prepare is not None
        try:
            return self._body(rank, prepare())
        except Exception as error:
            raise self._failure_of(rank, error) from error

    def _body(self, rank: int, method: Step) -> Step:
        """`method` with guards, deadline, modes and notes around it, as far as the reaction needs them."""
        row = self._assembly.reactions[rank]
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
        others = [p for p in self._inputs if p.owner is not None and p.owner.path == row.reactor and p not in row.reads]
        if row.hidden or not others:
            return method
        return guarded(
            method,
            {
                port: Forbidden(
                    f"Reaction '{row.path}' reads '{port}' but does not declare it. Name it among its triggers or sources."
                )
                for port in others
            },
        )

    def _noted(self, rank: int, body: Step, *, late: bool) -> Step:
        """`body`, noting what a recording or a timeline wants to know."""
        row = self._assembly.reactions[rank]
        if self._settings.timeline:
            body = self.notes.timed(body, rank, self.clock)
        if self._settings.recording:
            outputs = [(port.name, self._outputs[port]) for port in row.writes]
            body = self.notes.stepping(body, row, rank, self.clock, outputs, late=late)
        return body

    def _with_deadline(self, row: ReactionRow, body: Step, late: Step) -> Step:
        """`body`, or `late` if physical time is past the tag by more than the deadline."""
        deadline_ns = row.declared.deadline_ns
        assert deadline_ns is not None
        clock = self.clock
        trace = self._settings.replay
        if trace is not None:
            violated = {(o.time_ns, o.microstep) for o in trace.late if (o.reactor, o.reaction) == (row.reactor, row.name)}

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
        number = row.mode
        assert number is not None
        ends = shutdown in row.declared.triggers

        def run() -> None:
            assert self.modes is not None
            if self.modes.active[number] or (ends and self._shutting_down and self.modes.started[number]):
                body()

        return run


class _Start:
    """Startup and reset reactions of a mode that was entered."""

    def __init__(self, ready: list[int], ranks: Sequence[int], mode: int, element: Mode) -> None:
        self.mode: int | None = mode
        self.element = element
        self.ranks = ranks
        self._ready = ready

    def fire(self, _time_ns: int, _microstep: int, _holder: Any) -> None:
        for rank in self.ranks:
            heappush(self._ready, rank)

    def moved(self, old: Tag, new: Tag | None) -> None:
        pass


def _nothing() -> None:
    """In place of a reaction that lives elsewhere."""
