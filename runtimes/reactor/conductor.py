"""How the workers of a program move together: worker 0 decides on each tag and orders it, the others obey.

A clocked program needs one order for many tags. In any other, each worker proposes the tag of its
earliest event when it is through with a tag; what it has sent with a delay stands in its own queue. The
earliest proposal is the next tag, and only those with events then, and who depends on them, take part.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from runtimes.reactor.events import NEVER_NS, Bell, Gate
from runtimes.reactor.partition import DECIDED_WORDS, EVERYONE, INBOX_WORDS, ORDER_WORDS, PROPOSAL_WORDS
from runtimes.reactor.tags import Tag
from runtimes.reactor.timeline import DECIDING

if TYPE_CHECKING:
    from collections.abc import Callable, MutableSequence

    from runtimes.reactor.board import Board
    from runtimes.reactor.events import Semaphore
    from runtimes.reactor.partition import Partition
    from runtimes.reactor.worker import Worker

__all__ = ["Common", "Conductor", "obey"]

RUN: Final = 1
"""Run a clocked program up to a limit of tags."""
RUN_LAST: Final = 2
"""The same, and the tag at the limit as the last one."""
LAST: Final = 3
"""Run the last tag of a clocked program at a time and microstep where nothing else is."""
TAG: Final = 4
"""Run one tag."""
LOOK: Final = 5
"""Answer what was asked through the pipe, after the last tag: number, time and microstep."""

_LOOK_S: Final = 0.05
"""How long to wait for an event from outside before looking whether the others live."""


class Common:
    """The words that all workers share: orders, proposals, and what was decided."""

    def __init__(self, partition: Partition, words: Callable[[int, int], MutableSequence[int]] | None = None) -> None:
        """Lay them out in shared memory by `words(offset, count)`, or privately."""
        make = words if words is not None else lambda _offset, count: [0] * count
        self.orders = [make(offset, ORDER_WORDS) for offset in partition.order_offsets]
        self.proposals = [make(offset, PROPOSAL_WORDS) for offset in partition.proposal_offsets]
        self.inboxes = [make(offset, INBOX_WORDS) for offset in partition.inbox_offsets]
        self.decided = make(partition.decided_offset, DECIDED_WORDS)
        if words is None:
            self.clear()

    def clear(self) -> None:
        """No event anywhere, nothing decided."""
        for inbox in self.inboxes:
            inbox[0], inbox[1] = NEVER_NS, 0
        self.decided[0], self.decided[1] = 0, -1

    def gate(self, lock: Any, semaphore: Semaphore) -> Gate:
        """The way in for events from outside."""
        return Gate(lock, self.decided, self.inboxes, Bell(semaphore))


class Conductor:
    """Worker 0, and what it decides for all."""

    def __init__(  # noqa: PLR0913 - all that a decision depends on
        self,
        worker: Worker,
        common: Common,
        *,
        board: Board | None,
        gate: Gate | None,
        fast: bool,
        kept_alive: bool,
        look_around: Callable[[], None],
    ) -> None:
        """Lead `worker` and its peers."""
        self.worker = worker
        self.ended = False
        self.stop_at: tuple[int, int] = (NEVER_NS, 0)
        self._common = common
        self._board = board
        self._gate = gate
        self._lock: Any = nullcontext() if gate is None else gate.lock
        self._bell = Bell(threading.Semaphore(0)) if gate is None else gate.bell
        self._fast = fast
        self._kept_alive = kept_alive
        self._look_around = look_around
        self._partition = worker.partition
        self._peers = range(1, self._partition.workers)
        self._period_ns = self._partition.assembly.period_ns
        self._now: tuple[int, int] = (0, -1)
        self._alone = fast and gate is None and not self._peers and worker.sources.modes is None and not worker.timeline
        """Nobody to ask, nothing to wait for, nothing to note."""
        self._timeline = worker.timeline

    def take_over(self, other: Conductor) -> None:
        """Go on where `other` was, whose worker ran the whole program so far."""
        self.ended, self.stop_at, self._now = other.ended, other.stop_at, other._now
        earliest = other.worker.earliest_by_worker(self._partition)
        for peer in self._peers:
            words = self._common.proposals[peer]
            words[0], words[1] = earliest.get(peer, (NEVER_NS, 0))
        self.worker.adopt(other.worker)

    def advance(self, tags: int) -> list[int]:
        """Run up to `tags` tags; when each was over for all, on `perf_counter_ns`. Fewer if the program ends."""
        ends_ns: list[int] = []
        worker = self.worker
        if worker.clock.turn == 0 and not worker.clock.start_ns:
            self._begin()
        if self._period_ns:
            self._advance_clocked(worker.clock.turn + tags, ends_ns)
        else:
            while len(ends_ns) < tags and not self.ended:
                if self._alone and worker.clock.turn and not worker.wants_stop:
                    worker.run_alone(tags - len(ends_ns), self.stop_at, ends_ns)
                    self._now = (worker.clock.time_ns, worker.clock.microstep)
                    if worker.wants_stop:
                        self.stop_at = self._soonest_end
                    if len(ends_ns) == tags:
                        break
                self._run_next()
                ends_ns.append(perf_counter_ns())
        return ends_ns

    def stop(self) -> None:
        """Run the last tag, a microstep after the one before."""
        if self.ended:
            return
        if not self._period_ns:
            self.stop_at = self._soonest_end
            self._run_next()
            return
        self._order(EVERYONE, LAST, self._now[0], self._now[1] + 1)
        self.worker.clocked.run_last(self._now[0], self._now[1] + 1)
        self.ended = True

    @property
    def now(self) -> tuple[int, int, int]:
        """Number, time and microstep of the last tag, whoever took part in it."""
        clock = self.worker.clock
        if self._period_ns or not clock.turn:
            return clock.number, clock.time_ns, clock.microstep
        return clock.turn - 1, *self._now

    def ask(self, worker: int) -> None:
        """Let a worker look for a question."""
        self._order(1 << worker, LOOK, *self.now)

    @property
    def _soonest_end(self) -> tuple[int, int]:
        """The last tag, if no other is to come before it."""
        return min(self.stop_at, (self._now[0], self._now[1] + 1))

    def _begin(self) -> None:
        start_ns = perf_counter_ns()
        self._common.decided[2] = start_ns
        self.worker.begin(start_ns)

    def _advance_clocked(self, limit: int, ends_ns: list[int]) -> None:
        """Run a clocked program up to tag number `limit`, or to its end."""
        period_ns = self._period_ns
        stop_ns, step = self.stop_at
        before_stop = -(-stop_ns // period_ns)
        whole = min(limit, before_stop)
        last = limit > before_stop
        aligned = last and stop_ns == whole * period_ns
        if whole > self.worker.clock.turn or aligned:
            self._order(EVERYONE, RUN_LAST if aligned else RUN, whole)
            self.worker.clocked.run(whole, ends_ns, last_aligned=aligned)
            self._now = (self.worker.clock.time_ns, 0)
        if last and not aligned:
            self._order(EVERYONE, LAST, stop_ns, step)
            self.worker.clocked.run_last(stop_ns, step)
            ends_ns.append(perf_counter_ns())
        self.ended = self.ended or last

    def _run_next(self) -> None:
        """Decide on the next tag, and run it with all who take part."""
        worker = self.worker
        number = worker.clock.turn
        begin = perf_counter_ns() if self._timeline else 0
        time_ns, microstep, taking_part, last = self._decide()
        if self._timeline:
            worker.notes.spans.append((DECIDING, number, begin, perf_counter_ns()))
            worker.notes.tags[number] = Tag(time_ns, microstep)
        if self._peers:
            self._order(taking_part, TAG, number, time_ns, microstep, taking_part, int(last))
        if taking_part & 1:
            worker.run_tag(number, time_ns, microstep, taking_part, last=last)
            if self._peers:
                worker.peers.finish_tag()
        else:
            worker.clock.turn = number + 1
        if self._peers:
            worker.peers.wait_for_all(taking_part)
        self._now = (time_ns, microstep)
        self.ended = last
        if self._stop_requested(taking_part):
            self.stop_at = self._soonest_end

    def _stop_requested(self, taking_part: int) -> bool:
        """Whether anyone who took part has requested a stop."""
        if taking_part & 1 and self.worker.wants_stop:
            return True
        return bool(self._peers) and any(
            taking_part >> peer & 1 and self._common.proposals[peer][2] for peer in self._peers
        )

    def _decide(self) -> tuple[int, int, int, bool]:
        """The next tag, who takes part, and whether it is the last; waits until its time has come."""
        while True:
            if self._gate is not None:
                self._bell.clear()
                self._look_around()
            with self._lock:
                tag, taking_part = self._earliest()
                empty = tag[0] >= NEVER_NS
                waits = not self._fast or (empty and self._kept_alive)
                last = tag >= self.stop_at
                if empty and not self._kept_alive:
                    tag, last = self._soonest_end, True
                elif last:
                    tag = self.stop_at
                    # In fast mode only the time that events from outside may still come in is waited for.
                    waits = waits and (not self._fast or tag[0] > self._now[0])
                left_ns = tag[0] - self.worker.clock.physical_ns() if waits else 0
                if left_ns <= 0:
                    self._common.decided[0], self._common.decided[1] = tag
                    return tag[0], tag[1], EVERYONE if last else taking_part, last
            self._look_around()
            # In slices, so that a dead worker is noticed; a program without events from outside never rings.
            self._bell.wait(min(left_ns / 1e9, _LOOK_S))

    def _earliest(self) -> tuple[tuple[int, int], int]:
        """The earliest tag that anyone has an event at, and who takes part in it, as bits."""
        worker = self.worker
        tag = worker.next_tag()
        reach = self._partition.reach
        if self._gate is None and not self._peers:
            return tag, 1
        if worker.clock.turn == 0:
            return tag, EVERYONE
        inboxes, proposals = self._common.inboxes, self._common.proposals
        taking_part = reach[0]
        for number in range(self._partition.workers):
            inbox = inboxes[number]
            found = (inbox[0], inbox[1])
            if number:
                words = proposals[number]
                found = min(found, (words[0], words[1]))
            if found < tag:
                tag, taking_part = found, reach[number]
            elif found == tag:
                taking_part |= reach[number]
        return tag, taking_part

    def _order(self, to: int, *words: int) -> None:
        """Tell those workers whose bits are set."""
        for peer in self._peers:
            if to >> peer & 1:
                order = self._common.orders[peer]
                for index, word in enumerate(words):
                    order[index] = word
                assert self._board is not None
                self._board.publish(self._partition.workers + peer)


def obey(
    worker: Worker, common: Common, answer: Callable[[tuple[int, int, int]], None], *, begun: bool = False
) -> None:
    """Do what worker 0 orders, until the program is given up; one that has `begun` goes on.

    `answer` is told number, time and microstep of the last tag.

    Raises:
        Aborted: at the end, or if another worker failed.
    """
    order, proposal = common.orders[worker.number], common.proposals[worker.number]
    line = worker.partition.workers + worker.number
    orders = 0
    while True:
        orders += 1
        begin = perf_counter_ns() if worker.timeline else 0
        worker.peers.wait(line, orders)
        kind = order[0]
        if worker.timeline and kind == TAG:
            worker.notes.spans.append((DECIDING, order[1], begin, perf_counter_ns()))
        if kind == LOOK:
            answer((order[1], order[2], order[3]))
            continue
        if not begun:
            begun = True
            worker.begin(common.decided[2])
        if kind == TAG:
            worker.run_tag(order[1], order[2], order[3], order[4], last=bool(order[5]))
            proposal[0], proposal[1] = worker.next_tag()
            proposal[2] = worker.wants_stop
            worker.peers.finish_tag()
        elif kind == LAST:
            worker.clocked.run_last(order[1], order[2])
        else:
            worker.clocked.run(order[1], last_aligned=kind == RUN_LAST)
