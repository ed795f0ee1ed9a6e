"""Boards: how processes of one program wait for one another's progress.

A board has lines, each with one writer who publishes steps; anyone may wait until a line has reached a
step. What the writer stored before publishing is visible to whoever waited. There are two kinds with
one behaviour: counters in shared memory with spinning and a futex (native), and semaphores.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING, Any, Final, Protocol

from runtimes.reactor.errors import ReactorError
from runtimes.reactor.memory import Segment, out_of_memory_named

_native: Any = None
with contextlib.suppress(ImportError):  # built without a C compiler; `native_available` says so
    _native = importlib.import_module("runtimes.reactor._native")

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from multiprocessing.synchronize import Semaphore

__all__ = ["ABORTED", "REACHED", "TIMED_OUT", "Aborted", "Board", "BoardHandle", "native_available"]

REACHED: Final = 0
TIMED_OUT: Final = 1
ABORTED: Final = 2


class Aborted(ReactorError):  # noqa: N818 - what happened
    """Another worker gave the program up; it has the reason."""


def native_available() -> bool:
    """Whether the native part was built; without it, waiting takes tens of microseconds."""
    return _native is not None


class Board(Protocol):
    """What a process sees of a board."""

    def publish(self, line: int, /) -> None:
        """Advance `line` by one step; only its writer may."""
        ...

    def advance_to(self, line: int, step: int, /) -> None:
        """Advance `line` to `step`, by less than 2**31 steps; a line never goes back. Only its writer may."""
        ...

    def wait(self, line: int, target: int, timeout_s: float, /) -> int:
        """Wait until `line` has reached step `target`: REACHED, TIMED_OUT or ABORTED."""
        ...

    def abort(self) -> None:
        """Make every present and later wait of every process return ABORTED."""
        ...

    def aborted(self) -> bool:
        """Whether the board was given up."""
        ...


class BoardHandle:
    """A board before it is opened; it travels to the processes that will share it."""

    def __init__(  # noqa: PLR0913 - what a board must know of those who wait
        self,
        lines: int,
        processes: int,
        context: BaseContext,
        *,
        spin: bool,
        native: bool,
        threads: bool = False,
    ) -> None:
        """A board of `lines` lines for `processes` processes; `spin` if each has a processor of its own.

        With `threads`, they are threads of one process: none keeps the interpreter to itself while it waits.
        Each opens a board of its own.
        """
        self.lines = lines
        self.spin = spin
        self.native = native
        self.threads = threads
        # The semaphore board keeps one flag there; both kinds need the same descriptor passed on.
        self.segment = Segment(lines * (_native.LINE_BYTES if native else 1), purpose="the board of progress")
        with out_of_memory_named(32 * lines * processes, f"{lines * processes} semaphores"):
            self.permits: list[list[Semaphore]] = (
                [] if native else [[context.Semaphore(0) for _ in range(processes)] for _ in range(lines)]
            )

    def open(self, process: int) -> Board:
        """The board as process number `process` sees it."""
        if self.native:
            board: Board = _native.Board(self.segment.memory, self.lines, self.spin, self.threads)
            return board
        return _SemaphoreBoard(self.segment.memory, self.permits, process)

    def close(self) -> None:
        """Let go of memory and semaphores; spawned processes knew these by names, which go with them."""
        self.segment.close()
        for row in self.permits:
            row.clear()


class _SemaphoreBoard:
    """One semaphore for each line and process: a permit is a step. The semaphore orders memory."""

    def __init__(self, flag: memoryview, permits: list[list[Semaphore]], process: int) -> None:
        self._flag = flag
        self._permits = permits
        self._process = process
        self._reached = [0] * len(permits)

    def publish(self, line: int, /) -> None:
        self.advance_to(line, self._reached[line] + 1)

    def advance_to(self, line: int, step: int, /) -> None:
        for process, permit in enumerate(self._permits[line]):
            if process != self._process:
                for _ in range(step - self._reached[line]):
                    permit.release()
        self._reached[line] = max(self._reached[line], step)

    def wait(self, line: int, target: int, timeout_s: float, /) -> int:
        while self._reached[line] < target:
            if self.aborted():
                return ABORTED
            if not self._permits[line][self._process].acquire(timeout=timeout_s):
                return TIMED_OUT
            self._reached[line] += 1
        return ABORTED if self.aborted() else REACHED

    def abort(self) -> None:
        self._flag[0] = 1
        for row in self._permits:
            for permit in row:
                permit.release()

    def aborted(self) -> bool:
        return bool(self._flag[0])
