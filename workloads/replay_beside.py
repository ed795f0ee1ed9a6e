"""A second process that uses the same replay buffer while the first one is measured: an inserter, or a learner."""

from __future__ import annotations

import multiprocessing
import os
import time
from itertools import cycle
from multiprocessing.sharedctypes import RawArray
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from workloads.replay_material import Batch

__all__ = ["Beside", "Companion", "Places"]

Beside = Literal["none", "inserter", "learner"]

_START_S: Final = 120.0
"""Within so many seconds a second process has started."""
_END_S: Final = 10.0
_SETTLE_S: Final = 0.5
"""Nothing is said of its pace before it has run so long."""
_KEPT: Final = 0.95
"""So much of the pace that was asked for must be kept."""

_READY, _STOP, _CALLS = range(3)


class Places:
    """A processor of its own for each of two processes, where there are two.

    An inserter that sleeps between its calls wakes thousands of times a second. Left to itself, the kernel wakes it on
    the learner's processor whenever anything else runs on the other one for a moment, and each time the learner is
    stopped for longer than the insertion takes: that would be measured, and not the buffer.
    """

    def __init__(self) -> None:
        """Look which there are."""
        self._usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []

    def take(self, which: Literal["first", "last"]) -> None:
        """Let this thread run on that processor alone: neighbours are often two halves of one."""
        if len(self._usable) > 1:
            os.sched_setaffinity(0, {self._usable[0 if which == "first" else -1]})

    def leave(self) -> None:
        """Let this thread run where it could before."""
        if self._usable:
            os.sched_setaffinity(0, self._usable)


class Companion:
    """The second process. It runs until it is closed, or its parent has ended."""

    def __init__(self, subject: Any, beside: Beside, batches: Sequence[Batch], n: int, rows_per_s: int) -> None:
        """Start it, and wait until it is at work.

        Args:
            subject: What both use, picklable for a process that is started.
            beside: What it does.
            batches: What an inserter inserts in turn, or whose priorities a learner writes.
            n: How many rows a learner draws at a time.
            rows_per_s: The pace that an inserter keeps to; 0 for none.

        Raises:
            RuntimeError: if it does not start.
        """
        context = multiprocessing.get_context("spawn")
        self._rows_per_s, self._rows = rows_per_s, len(batches[0].indices)
        # Read and written without a lock: each number has one writer.
        self._board: Any = RawArray("q", 3)
        self._process = context.Process(
            target=_work, args=(subject, beside, batches, n, rows_per_s, self._board), daemon=True
        )
        self._process.start()
        self._wait_until_ready()
        self._began_s, self._began_calls = time.perf_counter(), int(self._board[_CALLS])

    def check(self) -> None:
        """Make sure that it is at work, and has kept its pace so far.

        Raises:
            RuntimeError: if it has ended, or was slower.
        """
        if not self._process.is_alive():
            raise RuntimeError(f"The second process has ended with status {self._process.exitcode}; its log says why.")
        seconds = time.perf_counter() - self._began_s
        rows_per_s = (int(self._board[_CALLS]) - self._began_calls) * self._rows / seconds
        if seconds > _SETTLE_S and rows_per_s < _KEPT * self._rows_per_s:
            raise RuntimeError(
                f"The inserter kept {rows_per_s:,.0f} of {self._rows_per_s:,} rows/s, so that the learner had it "
                "easier than asked for. Set a smaller beside_rows_per_s, or make room for two processes."
            )

    def close(self) -> None:
        """End it."""
        self._board[_STOP] = 1
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while not self._board[_READY]:
            if not self._process.is_alive() or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError("The second process did not start; its log says why.")
            time.sleep(0.01)


def _work(  # noqa: PLR0913, PLR0917 - as Companion
    subject: Any, beside: Beside, batches: Sequence[Batch], n: int, rows_per_s: int, board: Any
) -> None:
    """What the second process does."""
    Places().take("last")
    if beside == "inserter":
        calls: Iterable[Callable[[], object]] = [subject.insert(batch) for batch in batches]
    else:
        calls = [subject.loop(n, batch) for batch in batches]
    interval_s = len(batches[0].indices) / rows_per_s if rows_per_s else 0.0
    parent = multiprocessing.parent_process()
    assert parent is not None
    due_s = time.perf_counter()
    for number, call in enumerate(cycle(calls), start=1):
        call()
        board[_CALLS] = number
        board[_READY] = 1
        if board[_STOP] or (not number % 1024 and not parent.is_alive()):
            return
        # What comes late is made good: the time that the next one is due does not move.
        due_s += interval_s
        wait_s = due_s - time.perf_counter() if interval_s else 0.0
        if wait_s > 0:
            time.sleep(wait_s)
