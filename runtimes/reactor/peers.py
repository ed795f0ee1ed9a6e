"""How far the workers of a program are: each publishes its steps of a tag, and waits for those of the others.

A step is a point after which others may go on, or the end of the tag. A worker that takes part in a tag
publishes all of its steps, also where nothing ran.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from runtimes.reactor.board import ABORTED, REACHED, Aborted
from runtimes.reactor.errors import ReactorError
from runtimes.reactor.plan import script
from runtimes.reactor.timeline import waiting_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtimes.reactor.board import Board
    from runtimes.reactor.home import Home
    from runtimes.reactor.lanes import Lanes

    TagStep = Callable[[int], None]
    """Is given who takes part in the tag, as bits."""

__all__ = ["Peers"]

_WAIT_SLICE_S: Final = 0.05
"""How long a blocked worker sleeps before it looks whether the others live."""


class Peers:
    """The other workers, as one of them sees them; in a program with one worker there are none."""

    def __init__(self, home: Home, lanes: Lanes, board: Board | None, look_around: Callable[[], None]) -> None:
        """Meet on `board`. `look_around` is called in a long wait, and raises if a peer has died."""
        partition = home.partition
        self.others = [peer for peer in range(partition.workers) if peer != home.number]
        self.cues = script(home.assembly, partition.placement, partition.points, home.number)
        """Everything this worker may do in a tag, in order, without the end of the tag."""
        self._home = home
        self._lanes = lanes
        self._board = board
        self._look_around = look_around
        self._steps = partition.steps
        self._own_steps = partition.steps[home.number]
        self._flush_last = lanes.flushing(self._own_steps - 1)

    def wait(self, line: int, target: int) -> None:
        """Wait until `line` has reached `target`, looking around now and then.

        Raises:
            Aborted: if the program was given up.
        """
        assert self._board is not None
        while (outcome := self._board.wait(line, target, _WAIT_SLICE_S)) != REACHED:
            if outcome == ABORTED:
                raise Aborted("Another worker has failed.")
            try:
                self._look_around()
            except ReactorError:
                # A peer that has done all we wait for may end before we look.
                if self._board.wait(line, target, 0.0) != REACHED:
                    raise
                return

    def finish_tag(self) -> None:
        """Send what waits, and say that this worker is through with the tag."""
        assert self._board is not None
        if self._flush_last is not None:
            self._flush_last()
        self._board.advance_to(self._home.number, self._home.clock.turn * self._own_steps)

    def wait_for_all(self, taking_part: int) -> None:
        """Wait until those peers that take part in the tag are through with it."""
        for peer in self.others:
            if taking_part >> peer & 1:
                self.wait(peer, self._home.clock.turn * self._steps[peer])

    def meeting(self) -> Callable[[int], None] | None:
        """What does both, in which everyone takes part, given how many tags are over; None without peers.

        In one function: saves 0.5 us a tag, and more where two workers share a processor and find nothing in its
        caches.
        """
        board, flush, line, steps = self._board, self._flush_last, self._home.number, self._own_steps
        if board is None:
            return None
        others = [(peer, self._steps[peer]) for peer in self.others]

        def meet(turn: int) -> None:
            if flush is not None:
                flush()
            board.advance_to(line, turn * steps)
            for peer, each in others:
                if board.wait(peer, turn * each, _WAIT_SLICE_S) != REACHED:
                    self.wait(peer, turn * each)

        return meet

    def waiting(self, peer: int, before: int, published: int) -> TagStep:
        """A step that waits until `peer` has published so many steps of the tag at hand, if it takes part.

        What came with its steps up to number `before` has been taken up already.
        """
        board, each, bit = self._board, self._steps[peer], 1 << peer
        assert board is not None
        noted, clock, spans = self._home.settings.timeline, self._home.clock, self._home.notes.spans
        take = self._lanes.taking(peer, before, published)

        def wait(taking_part: int) -> None:
            if taking_part & bit:
                begin = perf_counter_ns() if noted else 0
                target = clock.turn * each + published
                if board.wait(peer, target, _WAIT_SLICE_S) != REACHED:
                    self.wait(peer, target)
                if noted:
                    spans.append((waiting_for(peer), clock.number, begin, perf_counter_ns()))
                if take is not None:
                    take(clock.number)

        return wait

    def publishing(self, step: int) -> TagStep:
        """The `step`-th publication of the tag: send what waits, then say how far this worker is."""
        board, line, each, clock = self._board, self._home.number, self._own_steps, self._home.clock
        assert board is not None
        flush = self._lanes.flushing(step)

        def publish(_taking_part: int) -> None:
            if flush is not None:
                flush()
            board.advance_to(line, clock.turn * each + step + 1)

        return publish
