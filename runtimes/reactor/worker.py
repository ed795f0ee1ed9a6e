"""One worker of a running program: what it does in a tag.

The calling process is worker 0. A program with one worker is this alone: nothing to wait for and
nothing to publish. In a clocked program the whole plan of a tag is known, and is fused into generated
straight-line code (`fused`); in any other, what is present pushes the reactions it triggers.
"""

from __future__ import annotations

from heapq import heappop, heappush
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from runtimes.reactor.board import ABORTED, REACHED
from runtimes.reactor.bodies import Bodies
from runtimes.reactor.declaration import Input, LogicalAction, PhysicalAction, Timer, shutdown, startup
from runtimes.reactor.errors import ReactionFailed, ReactorError
from runtimes.reactor.fused import Fused, fuse
from runtimes.reactor.home import Home, Settings
from runtimes.reactor.lanes import Lanes
from runtimes.reactor.live import Cell, Clock
from runtimes.reactor.plan import script
from runtimes.reactor.ports import Ports
from runtimes.reactor.sources import Sources
from runtimes.reactor.timeline import DECIDING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runtimes.reactor.board import Board
    from runtimes.reactor.events import Gate
    from runtimes.reactor.memory import Segment
    from runtimes.reactor.observe import Notes
    from runtimes.reactor.partition import Partition
    from runtimes.reactor.post import Post
    from runtimes.reactor.watch import Watched

    Step = Callable[[], object]

__all__ = ["Aborted", "Worker"]

WAIT_SLICE_S: Final = 0.05
"""How long a blocked worker sleeps before it looks whether the others live."""


class Aborted(ReactorError):  # noqa: N818 - what happened
    """Another worker gave the program up; it has the reason."""


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
        watched: Watched | None = None,
    ) -> None:
        """Make worker `number`. `look_around` is called while it waits, and raises if a peer has died."""
        self.partition = partition
        self.number = number
        self.turn = 0
        """How many tags are over; what peers publish is counted from there."""
        self.home = home = Home(
            partition=partition, number=number, settings=settings or Settings(), gate=gate, watched=watched
        )
        self.clock = home.clock
        self._assembly = partition.assembly
        self._board = board
        self._peers = [peer for peer in range(partition.workers) if peer != number]
        self._look_around = look_around
        self._lanes = Lanes(home, shared, dict(posts or {}))
        self.sources = Sources(home)
        self._ports = Ports(home, self._lanes, self.sources)
        self._bodies = Bodies(home, self._ports, self.sources.modes, lambda: self.turn)
        self._usual: Fused | None = None
        """What every tag of a clocked program does from a certain one on."""
        self._usual_from = self._first_usual()
        self._segments = [] if home.clocked else self._cut()
        self._steps = partition.steps[number]
        self._flush_last = self._lanes.flushing(self._steps - 1)

    @property
    def notes(self) -> Notes:
        """What was noted of the run."""
        return self.home.notes

    @property
    def failure(self) -> BaseException | None:
        """What went wrong in a thread of this worker other than its own."""
        return self.sources.failure

    @property
    def timeline(self) -> bool:
        """Whether spans are noted."""
        return self.home.settings.timeline

    @property
    def wants_stop(self) -> bool:
        """Whether one of its reactions has requested a stop."""
        return self.clock.stop_requested

    # Running

    def begin(self, start_ns: int) -> None:
        """Be at the beginning: what happens at the first tag stands in the queue."""
        self.clock.start_ns = start_ns
        self.sources.begin()

    def adopt(self, other: Worker) -> None:
        """Go on where `other` was, which ran the whole program so far: take over what belongs to reactors here."""
        for name in Clock.__slots__:
            setattr(self.clock, name, getattr(other.clock, name))
        self.turn = other.turn
        if self.number == 0:
            self.notes.take(other.notes, spans=self.timeline)
        self._lanes.adopt(other._lanes)
        self.sources.adopt(other.sources)

    def next_tag(self) -> tuple[int, int]:
        """The tag of this worker's earliest event."""
        if self.turn == 0:
            return (0, 0)
        return self.home.queue.next_tag()

    def earliest_by_worker(self, partition: Partition) -> dict[int, tuple[int, int]]:
        """The earliest event of each worker that is to take over reactors of this one."""
        earliest: dict[int, tuple[int, int]] = {}
        for time_ns, microstep, _, source, holder in sorted(self.home.queue.heap):
            if holder:
                earliest.setdefault(partition.placement[source.element.owner.path], (time_ns, microstep))
        return earliest

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
        busy = self.sources.busy
        if busy is None:
            self._run_events(number, taking_part, last=last)
        else:
            with busy:
                self._run_events(number, taking_part, last=last)
        self.turn = number + 1

    def _run_events(self, number: int, taking_part: int, *, last: bool) -> None:
        """Run what the events of the tag trigger, in order of rank."""
        home, clock = self.home, self.clock
        if home.inbox is not None:
            home.inbox.empty_into(home.queue)
        home.queue.fire(clock.time_ns, clock.microstep)
        if number == 0:
            self._push(self._ranks_with(startup))
        if last:
            self._bodies.shutting_down = True
            self._push(self._ranks_with(shutdown))
        for limit, then in self._segments:
            self._drain(limit)
            then(taking_part)
        self._drain(len(self._assembly.reactions))
        clock.rank = -1
        self.sources.after_tag()

    def run_alone(self, tags: int, stop_at: tuple[int, int], ends_ns: list[int]) -> None:
        """Run up to `tags` tags before `stop_at`, while there are events and nobody requests a stop.

        For a worker without peers, modes and events from outside, in fast mode: what `run_tag` does, with nobody
        to ask in between. Saves 2 us a tag.
        """
        clock, ready, heap, rank = self.clock, self.home.ready, self.home.queue.heap, -1
        bodies = self._bodies.by_rank
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
        if self._flush_last is not None:
            self._flush_last()
        self._board.advance_to(self.number, self.turn * self._steps)

    def wait_for_all(self, taking_part: int) -> None:
        """Wait until those peers that take part in the tag are through with it."""
        for peer in self._peers:
            if taking_part >> peer & 1:
                self.wait(peer, self.turn * self.partition.steps[peer])

    def run_clocked(self, limit: int, ends_ns: list[int] | None = None, *, last_aligned: bool = False) -> None:
        """Run tags up to number `limit`, that one excluded; append to `ends_ns` when each was over for all.

        With `last_aligned` the tag at `limit` follows as the last one: shutdown reactions with all else that is due.
        """
        clock, period_ns, queue = self.clock, self._assembly.period_ns, self.home.queue
        while (number := self.turn) < limit or last_aligned:
            if self._usual is not None and number < limit and not queue.heap and not self.timeline:
                self._run_usual(limit, ends_ns)
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

    def _run_usual(self, limit: int, ends_ns: list[int] | None) -> None:
        """Run usual tags, as long as there are no events besides.

        What `_run_plan` and `finish_tag` do, in one loop: saves 0.5 us a tag, and more where two workers share a
        processor and find nothing in its caches.
        """
        clock, period_ns, heap, plan = self.clock, self._assembly.period_ns, self.home.queue.heap, self._usual
        assert plan is not None
        run, number = plan.run, self.turn
        flush, board, line, steps = self._flush_last, self._board, self.number, self._steps
        peers = [(peer, self.partition.steps[peer]) for peer in self._peers]
        note_end = (lambda _end_ns: None) if ends_ns is None else ends_ns.append
        try:
            while number < limit and not heap:
                clock.number = number
                clock.time_ns = number * period_ns
                run()
                number += 1
                self.turn = number
                if board is not None:
                    if flush is not None:
                        flush()
                    board.advance_to(line, number * steps)
                    for peer, each in peers:
                        if board.wait(peer, number * each, WAIT_SLICE_S) != REACHED:
                            self.wait(peer, number * each)
                note_end(perf_counter_ns())
        except Aborted:
            raise
        except ReactorError as error:
            raise self._located(error, plan.rank_of(error)) from error
        except Exception as error:
            raise self._failure_of(plan.rank_of(error), error) from error

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
        self.sources.end()
        self._usual = None
        self._bodies.by_rank.clear()
        self._ports.let_go()

    # Steps of a tag

    def _push(self, ranks: Sequence[int]) -> None:
        for rank in ranks:
            heappush(self.home.ready, rank)

    def _drain(self, limit: int) -> None:
        """Run what is ready and comes before rank `limit`."""
        ready, clock, bodies = self.home.ready, self.clock, self._bodies.by_rank
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

    def _waiting(self, peer: int, before: int, published: int) -> Callable[[int], None]:
        """A step that waits until `peer` has published so many steps of the tag at hand, if it takes part.

        What came with its steps up to number `before` has been taken up already.
        """
        board, each, bit = self._board, self.partition.steps[peer], 1 << peer
        assert board is not None
        noted, clock = self.timeline, self.clock
        take = self._lanes.taking(peer, before, published)

        def wait(taking_part: int) -> None:
            if taking_part & bit:
                begin = perf_counter_ns() if noted else 0
                target = self.turn * each + published
                if board.wait(peer, target, WAIT_SLICE_S) != REACHED:
                    self.wait(peer, target)
                if noted:
                    self.notes.spans.append((-1 - peer, clock.number, begin, perf_counter_ns()))
                if take is not None:
                    take(clock.number)

        return wait

    def _publishing(self, step: int) -> Callable[[int], None]:
        """The `step`-th publication of the tag: send what waits, then say how far this worker is."""
        board, line, each = self._board, self.number, self.partition.steps[self.number]
        assert board is not None
        flush = self._lanes.flushing(step)

        def publish(_taking_part: int) -> None:
            if flush is not None:
                flush()
            board.advance_to(line, self.turn * each + step + 1)

        return publish

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
            begin = perf_counter_ns() if self.timeline else 0
            for peer in self._peers:
                target = self.turn * self.partition.steps[peer]
                if self._board.wait(peer, target, WAIT_SLICE_S) != REACHED:
                    self.wait(peer, target)
            if self.timeline:
                self.notes.spans.append((DECIDING, self.clock.number, begin, perf_counter_ns()))

    def _plan_at(self, tag: int | None, *, last: bool) -> Fused:
        """What to do at tag number `tag` of a clocked program (None: a microstep after the one before)."""
        due = [rank for rank in self.home.ranks if self._is_due(rank, tag, last=last)]
        cues = script(self._assembly, self.partition.placement, self.partition.points, self.number)
        plan = fuse(
            cues,
            self._assembly,
            {rank: self._body_at(rank, tag) for rank in self.home.ranks},
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
        if tag == 0:
            return self._bodies.by_rank[rank]
        try:
            return self._bodies.prepared(rank)
        except Exception as error:
            raise self._failure_of(rank, error) from error

    def _cells_of(self, rank: int) -> list[Cell]:
        """The cells whose presence triggers a reaction."""
        cells: list[Cell] = []
        for trigger in self._assembly.reactions[rank].declared.triggers:
            if isinstance(trigger, Input):
                live = self._ports.inputs[trigger]
                cells += [feed for feed in live.feeds if isinstance(feed, Cell)]
            elif isinstance(trigger, LogicalAction | PhysicalAction):
                cells.append(self.sources.actions[trigger].cell)
        return cells

    # Failures

    def _failure_of(self, rank: int, error: Exception) -> ReactionFailed:
        """The failure to report when a reaction raised `error`."""
        if rank < 0:
            return self.home.failure_in(("the runtime", f"worker {self.number}"), error)
        row = self._assembly.reactions[rank]
        return self.home.failure_in((row.reactor, row.name), error)

    def _located(self, error: ReactorError, rank: int) -> ReactorError:
        """`error` as it is if the runtime raised it, else (something undeclared was done) with its place."""
        if isinstance(error, Aborted | ReactionFailed) or rank < 0:
            return error
        return self._failure_of(rank, error)

    def _ranks_with(self, trigger: object) -> list[int]:
        """Reactions with that trigger whose mode is, or for shutdown ever was, active."""
        rows, modes = self._assembly.reactions, self.sources.modes
        found = [rank for rank in self.home.ranks if trigger in rows[rank].declared.triggers]
        if modes is None:
            return found
        counts = modes.started if trigger is shutdown else modes.active
        return [rank for rank in found if (mode := rows[rank].mode) is None or counts[mode]]
