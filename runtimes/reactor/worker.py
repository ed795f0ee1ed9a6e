"""One worker of a running program: its lanes, its steps, and the loop over tags.

The calling process is worker 0. A program with one worker is this loop alone: nothing to wait for and
nothing to publish.
"""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtimes.reactor.board import ABORTED, REACHED
from runtimes.reactor.declaration import Input, Output
from runtimes.reactor.errors import ReactionFailed, ReactorError
from runtimes.reactor.memory import Segment, aligned, item_stride, items_in
from runtimes.reactor.plan import place, publish_points, script
from runtimes.reactor.running import (
    LETTER_WORDS,
    ArrayLane,
    ArrayLog,
    Clock,
    InputChannels,
    Mail,
    Mailbox,
    OutputChannels,
    OwnBox,
    ValueLane,
    block_views,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from runtimes.reactor.assembly import Assembly, Lane, ReactionRow
    from runtimes.reactor.board import Board
    from runtimes.reactor.running import Box

__all__ = ["Aborted", "Partition", "Worker"]

WAIT_SLICE_S: Final = 0.05
"""How long a blocked worker sleeps before it looks whether the others live."""

Step = Callable[[], object]


class Aborted(ReactorError):  # noqa: N818 - what happened
    """Another worker gave the program up; it has the reason."""


@dataclass(frozen=True, slots=True)
class _TagPlan:
    """What to do at a tag: callables in order, and the reaction behind each, if there is one."""

    steps: tuple[Step, ...]
    rows: tuple[ReactionRow | None, ...]


class Partition:
    """A program cut into workers: who lives where, who publishes when, what is shared and at which offset.

    Made from the same program and number of workers, it is the same in every process.
    """

    def __init__(self, assembly: Assembly, workers: int, chosen: Mapping[str, int] | None) -> None:
        """Cut `assembly` into `workers`, with `chosen` reactors where they were put."""
        self.assembly = assembly
        self.workers = workers
        self.placement = place(assembly, workers, chosen)
        self.points = publish_points(assembly, self.placement, workers)
        self.steps = [len(points) + 1 for points in self.points]
        """How often each worker publishes in a tag: its points, and the end."""
        writer = [self.placement[lane.reactor] for lane in assembly.lanes]
        readers: dict[int, set[int]] = defaultdict(set)
        for row in assembly.reactions:
            for feed in assembly.feeds_of(row):
                readers[feed.lane].add(self.placement[row.reactor])
        self.crossing = {lane.index for lane in assembly.lanes if readers[lane.index] - {writer[lane.index]}}
        self.turns = max((lane.slots for lane in assembly.lanes if lane.block is None), default=1)
        """For how many tags values that are no arrays may be needed."""
        sent = [i for i in sorted(self.crossing) if assembly.lanes[i].block is None]
        self.groups = sorted({tuple(sorted(readers[i] - {writer[i]})) for i in sent})
        """Sets of workers that read the same values of others."""
        self.recipients = {i: self.groups.index(tuple(sorted(readers[i] - {writer[i]}))) for i in sent}
        """Value lanes that cross, with the number of the group that reads them."""
        self.mailers = sorted({writer[i] for i in sent})
        """Workers that send letters; each has `turns` segments for them."""
        sparse = [lane for lane in assembly.lanes if lane.block is not None and not assembly.blocks[lane.block].steady]
        self.log_turns = max((lane.slots for lane in sparse), default=1)
        self.log_words = [2 + sum(writer[lane.index] == worker for lane in sparse) for worker in range(workers)]
        """Of each worker's log of the array lanes that it has set: how many turns, and words in each."""
        self.reach = 1 + max((lane.slots for lane in assembly.lanes), default=1)
        """So many tags after a value was set, nobody can read it any more."""
        self._lay_out()

    def _lay_out(self) -> None:
        """Offsets in the shared segment: the limit, blocks, stamps, tables of letters."""
        offset = aligned(8)
        self.block_offsets: dict[int, int] = {}
        self.word_offsets: dict[int, int] = {}
        for block in self.assembly.blocks:
            if self.crossing.intersection(block.lanes):
                self.block_offsets[block.index] = offset
                items = block.slots * len(block.lanes)
                offset = aligned(offset + items * item_stride(block.shape, block.dtype))
        for index in sorted(self.crossing):
            lane = self.assembly.lanes[index]
            if lane.block is not None and not self.assembly.blocks[lane.block].steady:
                self.word_offsets[index] = offset
                offset = aligned(offset + 8 * lane.slots)
        self.table_offsets: dict[int, list[int]] = {}
        for worker in self.mailers:
            stride = aligned(8 * self.table_words(worker))
            self.table_offsets[worker] = [offset + turn * stride for turn in range(self.turns)]
            offset += self.turns * stride
        self.log_offsets: list[list[int]] = []
        for worker in range(self.workers):
            stride = aligned(8 * self.log_words[worker])
            self.log_offsets.append([offset + turn * stride for turn in range(self.log_turns)])
            offset += self.log_turns * stride
        self.shared_nbytes = offset

    def table_words(self, worker: int) -> int:
        """Words of one table of letters of `worker`: an entry for each publication and group of readers."""
        return self.steps[worker] * len(self.groups) * LETTER_WORDS


class Worker:
    """Runs the reactions that live here, tag after tag."""

    def __init__(  # noqa: PLR0913, PLR0917 - a worker and everything it shares
        self,
        partition: Partition,
        number: int,
        shared: Segment | None,
        mail: Mapping[int, list[Segment]],
        board: Board | None,
        look_around: Callable[[], None],
    ) -> None:
        """Make worker `number`. `look_around` is called while it waits, and raises if a peer has died."""
        self.partition = partition
        self.number = number
        self.clock = Clock()
        self._board = board
        self._peers = [peer for peer in range(partition.workers) if peer != number]
        self._look_around = look_around
        self._shared = shared
        letters = {worker: Mail(self._tables(worker), segments) for worker, segments in mail.items()}
        self._box = OwnBox(partition.turns, partition.recipients, len(partition.groups), letters.get(number))
        self._mailboxes: dict[int, Mailbox] = {}
        self._bind_ports(letters)
        self._cues = script(partition.assembly, partition.placement, partition.points, number)
        starts = [first for row in partition.assembly.reactions for first, _ in row.timers]
        self._usual_from = 1 + max(starts, default=0)
        """From this tag on, every tag does the same."""
        self._usual: _TagPlan | None = None
        self._bodies: dict[int, Step] = {}

    def let_go(self) -> None:
        """Take from ports and plans what they look through, so that the memory behind it goes at once."""
        self._usual = None
        self._bodies.clear()
        for path in self.partition.assembly.reactors:
            for port in _named_ports(self.partition.assembly, path):
                port.live = None

    def run_until(self, limit: int, ends_ns: list[int] | None = None) -> None:
        """Run tags up to number `limit`, that one excluded; append to `ends_ns` when each was over for all.

        Raises:
            ReactionFailed: if a reaction of this worker raised.
            Aborted: if another worker gave up.
        """
        clock = self.clock
        while clock.number < limit:
            if clock.number < self._usual_from:
                plan = self._plan(clock.number)
            else:
                plan = self._usual = self._usual or self._plan(clock.number)
            self._run_tag(plan)
            clock.number += 1
            clock.tags_run += 1
            if ends_ns is not None:
                ends_ns.append(perf_counter_ns())

    def run_last(self) -> None:
        """Run the last tag: shutdown reactions, and what they trigger.

        It comes a microstep after the one before: no value that is delayed by a period arrives, so its
        number lies beyond the reach of every delay.
        """
        self.clock.number += self.partition.reach
        self._run_tag(self._plan(None))

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

    def _run_tag(self, plan: _TagPlan) -> None:
        """Run one tag, and wait until everyone has."""
        step: Step | None = None
        try:
            for step in plan.steps:
                step()
        except ReactorError:
            raise
        except Exception as error:
            raise self._failure(plan, step, error) from error
        if self._peers:
            assert self._board is not None
            self._box.flush(self.clock.number, self.partition.steps[self.number] - 1)
            self._board.publish(self.number)
            for peer in self._peers:
                target = (self.clock.tags_run + 1) * self.partition.steps[peer]
                if self._board.wait(peer, target, WAIT_SLICE_S) != REACHED:
                    self.wait(peer, target)

    def _failure(self, plan: _TagPlan, step: Step | None, error: Exception) -> ReactionFailed:
        """The failure to report when `step` of `plan` raised `error`."""
        row = next((row for known, row in zip(plan.steps, plan.rows, strict=True) if known is step), None)
        where = (row.reactor, row.name) if row is not None else ("the runtime", f"worker {self.number}")
        text = "".join(traceback.format_exception(error)) if self.number else ""
        return ReactionFailed(*where, self.clock.tags_run, f"{type(error).__name__}: {error}", text)

    def _plan(self, tag: int | None) -> _TagPlan:
        """What to do at tag number `tag`, or at the last one."""
        steps: list[Step] = []
        rows: list[ReactionRow | None] = []
        published = 0
        for cue in self._cues:
            step: Step | None = None
            if cue.wait is not None:
                step = self._waiting(*cue.wait)
            elif cue.row is not None:
                step = _running(cue.row, tag, self._body_of(cue.row, tag))
            else:
                step = self._publishing(published)
                published += 1
            if step is not None:
                steps.append(step)
                rows.append(cue.row)
        return _TagPlan(tuple(steps), tuple(rows))

    def _body_of(self, row: ReactionRow, tag: int | None) -> Step:
        """What runs `row` at `tag`: what it has prepared, once startup is over."""
        if row.declared.prepare is None or tag == 0:
            return row.declared.body
        if id(row) not in self._bodies:
            self._bodies[id(row)] = row.declared.prepare()
        return self._bodies[id(row)]

    def _waiting(self, peer: int, published: int) -> Step:
        """A step that waits until `peer` has published so many steps of the tag at hand."""
        board, clock, each = self._board, self.clock, self.partition.steps[peer]
        mailbox = self._mailboxes.get(peer)
        assert board is not None

        def wait() -> None:
            target = clock.tags_run * each + published
            if board.wait(peer, target, WAIT_SLICE_S) != REACHED:
                self.wait(peer, target)
            if mailbox is not None:
                mailbox.cover(published)

        return wait

    def _publishing(self, step: int) -> Step:
        """The `step`-th publication of the tag: send what waits, then say how far this worker is."""
        board, clock, box, line = self._board, self.clock, self._box, self.number
        assert board is not None

        def publish() -> None:
            box.flush(clock.number, step)
            board.publish(line)

        return publish

    def _bind_ports(self, letters: Mapping[int, Mail]) -> None:
        """Make this worker's view of all lanes, and let its reactors' ports look through them."""
        assembly, placement = self.partition.assembly, self.partition.placement
        arrays = {block.index: self._block_arrays(block.index) for block in assembly.blocks}
        groups = self.partition.groups
        mine = [number for number, group in enumerate(groups) if self.number in group]
        self._mailboxes = {
            worker: Mailbox(mail, self.clock, mine, len(groups), self.partition.steps[worker])
            for worker, mail in letters.items()
            if worker != self.number
        }
        boxes: dict[int, Box] = dict(self._mailboxes)
        boxes[self.number] = self._box
        logs = [self._log(worker) for worker in range(self.partition.workers)]
        lanes = [self._lane(lane, arrays, boxes, logs) for lane in assembly.lanes]
        of_port: dict[Output[Any], list[int]] = defaultdict(list)
        for lane in assembly.lanes:
            of_port[lane.port].append(lane.index)
        for path in assembly.reactors:
            if placement[path] != self.number:
                continue
            for port in _named_ports(assembly, path):
                if isinstance(port, Output):
                    own = [lanes[index] for index in of_port[port]]
                    first = assembly.lanes[of_port[port][0]]
                    block = None
                    if first.block is not None and port.width is not None:
                        stop = first.item + port.channels
                        block = [slot[first.item : stop] for slot in arrays[first.block]]
                    port.live = OutputChannels(own, self._box, block, self.clock)
                else:
                    feeds = assembly.feeds[port]
                    port.live = InputChannels(
                        [None if feed is None else (lanes[feed.lane], feed.delay_tags) for feed in feeds],
                        self._whole(port, arrays),
                        self.clock,
                        phases=assembly.phases,
                        wide=port.width is not None,
                    )

    def _whole(self, port: Input[Any], arrays: Mapping[int, list[NDArray[Any]]]) -> list[NDArray[Any]] | None:
        """What arrives at a multiport as one array a phase, where it lies side by side."""
        assembly = self.partition.assembly
        feeds = assembly.feeds[port]
        if port.width is None or any(feed is None for feed in feeds):
            return None
        places = [(assembly.lanes[f.lane], f.delay_tags) for f in feeds if f is not None]
        block = places[0][0].block
        if block is None or not assembly.blocks[block].steady or any(lane.block != block for lane, _ in places):
            return None
        items = [(lane.item, delay) for lane, delay in places]
        return block_views(arrays[block], items, assembly.phases)

    def _block_arrays(self, index: int) -> list[NDArray[Any]]:
        """The slots of a block, each of shape `(items, *shape)`: shared if any of its lanes crosses."""
        block = self.partition.assembly.blocks[index]
        lead = (block.slots, len(block.lanes))
        offset = self.partition.block_offsets.get(index)
        if offset is None:
            return list(np.zeros((*lead, *block.shape), block.dtype))
        assert self._shared is not None
        return list(items_in(self._shared.memory, offset, lead, block.shape, block.dtype))

    def _log(self, worker: int) -> ArrayLog:
        """The log of `worker`, shared if there are others."""
        words = self.partition.log_words[worker]
        if self._shared is None:
            return ArrayLog([[0] * words for _ in range(self.partition.log_turns)])
        return ArrayLog([self._words(offset, words) for offset in self.partition.log_offsets[worker]])

    def _lane(
        self,
        lane: Lane,
        arrays: Mapping[int, list[NDArray[Any]]],
        boxes: Mapping[int, Box],
        logs: Sequence[ArrayLog],
    ) -> Any:
        """This worker's view of `lane`; None if nothing of it comes here."""
        if lane.block is None:
            box = boxes.get(self.partition.placement[lane.reactor])
            return None if box is None else ValueLane(box, lane.index)
        slots = [slot[lane.item, ...] for slot in arrays[lane.block]]
        log = logs[self.partition.placement[lane.reactor]]
        if self.partition.assembly.blocks[lane.block].steady:
            return ArrayLane(slots, None, log, lane.index)
        offset = self.partition.word_offsets.get(lane.index)
        stamps = [0] * lane.slots if offset is None else self._words(offset, lane.slots)
        return ArrayLane(slots, stamps, log, lane.index)

    def _tables(self, worker: int) -> list[memoryview[int]]:
        """The tables of letters of `worker`, one for each turn."""
        return [
            self._words(offset, self.partition.table_words(worker)) for offset in self.partition.table_offsets[worker]
        ]

    def _words(self, offset: int, count: int) -> memoryview[int]:
        """`count` shared words of 8 bytes."""
        assert self._shared is not None
        return self._shared.memory[offset : offset + 8 * count].cast("q")


def _running(row: ReactionRow, tag: int | None, body: Step) -> Step | None:
    """The callable that runs `row` by `body` at `tag` (None: the last one), or None if it cannot run then."""
    due = any(tag is not None and (tag == first or (tag > first and repeats)) for first, repeats in row.timers)
    if due or (row.at_startup and tag == 0) or (row.at_shutdown and tag is None):
        return body
    if not row.inputs:
        return None
    triggers = row.inputs

    def run_if_triggered() -> None:
        for port in triggers:
            if port.is_present:
                body()
                return

    return run_if_triggered


def _named_ports(assembly: Assembly, path: str) -> list[Input[Any] | Output[Any]]:
    """The ports that reactions of the reactor at `path` name; waits are made for these alone."""
    named: dict[Input[Any] | Output[Any], None] = {}
    for row in assembly.reactions:
        if row.reactor == path:
            named.update(dict.fromkeys([*row.reads, *row.declared.effects]))
    return list(named)
