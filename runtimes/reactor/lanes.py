"""One worker's view of all lanes: what its own reactors write, what comes from others, and what it sends."""

from __future__ import annotations

import pickle
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.reactor.elements import Input
from runtimes.reactor.errors import ReactorError
from runtimes.reactor.live import NOTHING, ArrayOut, Cell, Log, Out, SteadyOut, ValueOut, read_only, taking
from runtimes.reactor.memory import items_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from runtimes.reactor.assembly import Lane
    from runtimes.reactor.home import Home
    from runtimes.reactor.memory import Segment
    from runtimes.reactor.post import Post

__all__ = ["Lanes"]


class Lanes:
    """Cells, slots, letters and logs of one worker."""

    def __init__(self, home: Home, shared: Segment | None, posts: Mapping[int, Post]) -> None:
        """Make them; what crosses workers lies in `shared`, or goes through `posts`, one for each sender."""
        self.outs: dict[int, Out] = {}
        """Lanes that are written here."""
        self.foreign: dict[int, Cell] = {}
        """Lanes that are written elsewhere and are not steady."""
        self._home = home
        self._shared = shared
        self._posts = posts
        self._outgoing: list[dict[int, Any]] = [{} for _ in home.partition.groups]
        self.arrays = {block.index: self._block_arrays(block.index) for block in home.assembly.blocks}
        """The slots of each block, each of shape `(items, *shape)`."""
        self._logs = self._make_logs()
        self._own_log = self._logs.get(home.number)
        self._views = self._bind()

    def flushing(self, step: int) -> Callable[[], None] | None:
        """What sends what waits with publication `step` of a tag; None if this worker sends nothing."""
        home, log = self._home, self._own_log
        clock, number = home.clock, home.number
        groups = sorted({g for lane, g in home.partition.recipients.items() if home.partition.writer[lane] == number})
        if not groups and log is None:
            return None
        sends = [(self._outgoing[group], self._posts[number].sender(step, group)) for group in groups]

        def flush() -> None:
            for values, send in sends:
                if values:
                    try:
                        send(clock.number, values)
                    except ReactorError:
                        raise
                    except Exception as error:
                        raise self._not_sent(values, error) from error
                    values.clear()
            if log is not None:
                log.flush(clock.number, step)

        return flush

    def _not_sent(self, values: Mapping[int, Any], error: Exception) -> ReactorError:
        """The failure to report if `values`, by lane, cannot be pickled: it names the first reaction that may be it."""
        assembly = self._home.assembly
        lanes = [lane for lane, value in values.items() if not _can_be_pickled(value)] or list(values)
        port = assembly.lanes[lanes[0]].port
        row = next(row for row in assembly.reactions if port in row.writes)
        remedy = f"What '{port}' sends to another worker must be picklable, or both reactors live in one worker."
        return self._home.failure_in((row.reactor, row.name), error, remedy)

    def taking(self, peer: int, before: int, published: int) -> Callable[[int], None] | None:
        """What takes up what `peer` has sent with its publications from number `before` to `published`.

        None if it sends nothing that is read here.
        """
        partition, here = self._home.partition, self._home.number
        sent: dict[int, list[int]] = defaultdict(list)
        for lane, group in partition.recipients.items():
            if partition.writer[lane] == peer and here in partition.groups[group]:
                sent[group].append(lane)
        log = self._logs.get(peer)
        if not sent and log is None:
            return None
        letters = [
            (self._posts[peer].fetcher(step, group), partial(self._not_opened, sent[group]))
            for step in range(before, published)
            for group in sorted(sent)
        ]
        logged = None if log is None else (log, published - 1)
        return taking(letters, logged, self.foreign, self._views, self._home.ready)

    def _not_opened(self, lanes: Sequence[int], error: Exception) -> ReactorError:
        """The failure to report if a letter cannot be opened that may have values of `lanes`."""
        assembly = self._home.assembly
        ports = list(dict.fromkeys(assembly.lanes[lane].port for lane in lanes))
        row = next(row for row in assembly.reactions if ports[0] in row.writes)
        names = " or ".join(f"'{port}'" for port in ports)
        remedy = (
            f"What {names} has sent to another worker could not be unpickled there. Send what can be, or let both "
            "reactors live in one worker."
        )
        return self._home.failure_in((row.reactor, row.name), error, remedy)

    def adopt(self, other: Lanes) -> None:
        """Have the last values of `other`, whose worker ran the whole program."""
        for lane, out in other.outs.items():
            cell = self.outs[lane].cell if lane in self.outs else self.foreign.get(lane)
            if cell is not None:
                cell.stamp = out.cell.stamp
                cell.value = self._adopted(lane, out) if isinstance(out, ArrayOut) else out.cell.value
        for block in self._home.assembly.blocks:
            if block.steady and self._copies(block.index):
                for slot, before in zip(self.arrays[block.index], other.arrays[block.index], strict=True):
                    slot[...] = before

    def _adopted(self, lane: int, before: ArrayOut) -> Any:
        """The last array of `before`, where it lies from now on."""
        if before.cell.value is NOTHING:
            return NOTHING
        block, item = self._home.assembly.lanes[lane].block, self._home.assembly.lanes[lane].item
        assert block is not None
        slot = self.arrays[block][before.position][item, ...]
        if self._copies(block):
            slot[...] = before.cell.value
        own = self.outs.get(lane)
        if isinstance(own, ArrayOut):
            own.position = before.position
        return read_only(slot)

    def _copies(self, block: int) -> bool:
        """Whether this worker copies what it adopts of `block`: what all share worker 0 does, before anyone runs."""
        return self._home.number == 0 or block not in self._home.partition.block_offsets

    def let_go(self) -> None:
        """Drop all memory: who holds this worker for a while longer must not hold that."""
        self.outs.clear()
        self.foreign.clear()
        self._views.clear()
        self.arrays.clear()

    def _bind(self) -> dict[int, list[NDArray[Any]]]:
        """Make the cells; the views of array lanes that are written elsewhere."""
        home, blocks = self._home, self._home.assembly.blocks
        triggered = self._triggered()
        views: dict[int, list[NDArray[Any]]] = {}
        for lane in home.assembly.lanes:
            if home.partition.writer[lane.index] == home.number:
                self.outs[lane.index] = self._out(lane, triggered[lane.index])
            elif lane.block is None or not blocks[lane.block].steady:
                self.foreign[lane.index] = Cell(tuple(triggered[lane.index]))
                if lane.block is not None:
                    views[lane.index] = [read_only(slot[lane.item, ...]) for slot in self.arrays[lane.block]]
        return views

    def _triggered(self) -> dict[int, list[int]]:
        """The reactions here that each lane triggers; none in a clocked program, which asks cells instead."""
        triggered: dict[int, list[int]] = defaultdict(list)
        home = self._home
        for rank in () if home.clocked else home.ranks:
            ports = [port for port in home.assembly.reactions[rank].declared.triggers if isinstance(port, Input)]
            for lane in {feed.lane for port in ports for feed in home.assembly.feeds[port] if feed is not None}:
                triggered[lane].append(rank)
        return triggered

    def _out(self, lane: Lane, triggers: Sequence[int]) -> Out:
        """What a lane of this worker is written through."""
        home = self._home
        cell = Cell(tuple(triggers))
        if lane.block is None:
            group = home.partition.recipients.get(lane.index)
            outgoing = None if group is None else self._outgoing[group]
            return ValueOut(cell, outgoing, lane.index)
        slots = [slot[lane.item, ...] for slot in self.arrays[lane.block]]
        if home.assembly.blocks[lane.block].steady:
            return SteadyOut(slots, home.clock)
        log = self._own_log if lane.index in home.partition.sparse else None
        return ArrayOut(slots, cell, home.clock, home.ready, log, lane.index)

    def _block_arrays(self, index: int) -> list[NDArray[Any]]:
        """The slots of a block: shared if any of its lanes crosses."""
        block = self._home.assembly.blocks[index]
        lead = (block.slots, len(block.lanes))
        offset = self._home.partition.block_offsets.get(index)
        if offset is None:
            return list(np.zeros((*lead, *block.shape), block.dtype))
        assert self._shared is not None
        return list(items_in(self._shared.memory, offset, lead, block.shape, block.dtype))

    def _make_logs(self) -> dict[int, Log]:
        """The logs of all workers that set array lanes for others."""
        partition = self._home.partition
        logs: dict[int, Log] = {}
        for worker in {partition.writer[lane] for lane in partition.sparse}:
            assert self._shared is not None
            offset = partition.log_offsets[worker]
            words = self._shared.memory[offset : offset + 8 * partition.log_words(worker)].cast("q")
            logs[worker] = Log(words, partition.steps[worker])
        return logs


def _can_be_pickled(value: Any) -> bool:
    """Whether a value can be sent to another process; asked when something could not."""
    try:
        pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001 - whatever its own way of being pickled raises
        return False
    return True
