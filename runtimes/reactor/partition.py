"""A program cut into workers: who lives where, who publishes when, what is shared and at which offset.

Made from the same program and number of workers, it is the same in every process.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from runtimes.reactor.memory import aligned, item_stride
from runtimes.reactor.plan import place, publish_points

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtimes.reactor.assembly import Assembly

__all__ = [
    "DECIDED_WORDS",
    "EVERYONE",
    "INBOX_WORDS",
    "LETTER_WORDS",
    "MOST_WORKERS",
    "ORDER_WORDS",
    "PROPOSAL_WORDS",
    "Partition",
]

LETTER_WORDS: Final = 3
"""What a table says of a letter: the stamp of its tag, offset and length, 8 bytes each."""
ORDER_WORDS: Final = 6
"""What a worker is told: kind, number of the tag or limit, time, microstep, who takes part, whether it is the last."""
MOST_WORKERS: Final = 62
"""Who takes part in a tag is told as bits of a word."""
EVERYONE: Final = (1 << MOST_WORKERS) - 1
DECIDED_WORDS: Final = 3
"""The tag that was decided on last, time and microstep, and when the program started."""
PROPOSAL_WORDS: Final = 3
"""What a worker proposes: time and microstep of its next event, and whether it asks to stop."""
INBOX_WORDS: Final = 2
"""What came in from outside for a worker: time and microstep of the earliest event."""


class Partition:
    """How a program is cut."""

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
        self.writer = writer
        self.crossing = {lane.index for lane in assembly.lanes if readers[lane.index] - {writer[lane.index]}}
        """Lanes that are read in another worker than the one that writes them."""
        sent = [i for i in sorted(self.crossing) if assembly.lanes[i].block is None]
        self.groups = sorted({tuple(sorted(readers[i] - {writer[i]})) for i in sent})
        """Sets of workers that read the same values of others."""
        self.recipients = {i: self.groups.index(tuple(sorted(readers[i] - {writer[i]}))) for i in sent}
        """Value lanes that cross, with the number of the group that reads them."""
        self.mailers = sorted({writer[i] for i in sent})
        """Workers that send letters; each has a segment for them."""
        self.sparse = [i for i in sorted(self.crossing) if i not in self.recipients and not self._is_steady(i)]
        """Array lanes that cross and need not be present in a tag."""
        self.reach = [self._reach(worker, readers) for worker in range(workers)]
        """For each worker, as bits, who may have to act in a tag if it does."""
        self._lay_out()

    def table_words(self, worker: int) -> int:
        """Words of the table of letters of `worker`: an entry for each publication and group of readers."""
        return self.steps[worker] * len(self.groups) * LETTER_WORDS

    def log_words(self, worker: int) -> int:
        """Words of the log of array lanes that `worker` has set.

        For each publication a stamp and how many were set up to it; then lane and slot of each.
        """
        return 2 * self.steps[worker] + 2 * sum(self.writer[lane] == worker for lane in self.sparse)

    def _is_steady(self, lane: int) -> bool:
        block = self.assembly.lanes[lane].block
        return block is not None and self.assembly.blocks[block].steady

    def _reach(self, worker: int, readers: Mapping[int, set[int]]) -> int:
        """Bits of `worker` and of all that depend on it within a tag."""
        found, fresh = {worker}, {worker}
        while fresh:
            fresh = {r for lane in self.crossing if self.writer[lane] in fresh for r in readers[lane]} - found
            found |= fresh
        return sum(1 << number for number in found)

    def _lay_out(self) -> None:
        """Offsets in the shared segment: orders, proposals, what was decided, blocks, tables of letters, logs."""
        stride = aligned(8 * ORDER_WORDS)
        self.order_offsets = [stride * worker for worker in range(self.workers)]
        offset = stride * self.workers
        stride = aligned(8 * (PROPOSAL_WORDS + INBOX_WORDS))
        self.proposal_offsets = [offset + stride * worker for worker in range(self.workers)]
        self.inbox_offsets = [proposal + 8 * PROPOSAL_WORDS for proposal in self.proposal_offsets]
        offset += stride * self.workers
        self.decided_offset = offset
        offset = aligned(offset + 8 * DECIDED_WORDS)
        self.block_offsets: dict[int, int] = {}
        for block in self.assembly.blocks:
            if self.crossing.intersection(block.lanes):
                self.block_offsets[block.index] = offset
                items = block.slots * len(block.lanes)
                offset = aligned(offset + items * item_stride(block.shape, block.dtype))
        self.table_offsets: dict[int, int] = {}
        for worker in self.mailers:
            self.table_offsets[worker] = offset
            offset = aligned(offset + 8 * self.table_words(worker))
        self.log_offsets: list[int] = []
        for worker in range(self.workers):
            self.log_offsets.append(offset)
            offset = aligned(offset + 8 * self.log_words(worker))
        self.shared_nbytes = offset
