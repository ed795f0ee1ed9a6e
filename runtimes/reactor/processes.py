"""The `processes` executor: reactors partitioned over worker processes that share memory.

Worker 0 is the calling process. Edges are slots in shared memory; progress is published on a board.
The caller raises the limit of tags and everyone runs up to it; in between the workers sleep. Nothing
here has a name in the file system, and a worker ends by itself when its parent is gone.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from runtimes.reactor.assembly import Assembly, assemble
from runtimes.reactor.board import BoardHandle, native_available
from runtimes.reactor.errors import ReactionFailed, ReactorError, WorkerDied
from runtimes.reactor.memory import Segment
from runtimes.reactor.worker import Aborted, Partition, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from numpy.typing import NDArray

    from runtimes.reactor.declaration import Reactor

__all__ = ["ProcessesExecutor", "StartMethod", "fork_is_safe", "processors"]

StartMethod = Literal["fork", "spawn", "forkserver"]

_STOP: Final = -1
"""In place of a limit: run the last tag, and end."""
_GRACE_S: Final = 1.0
"""How long a worker may take to end by itself before it is told to."""
_REPLY_SLICE_S: Final = 0.05


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fork_is_safe() -> bool:
    """Whether this process has a single thread, so that a copy of it is whole."""
    tasks = Path("/proc/self/task")
    count = len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()
    return count == 1


class ProcessesExecutor:
    """Runs a program in the calling process and `workers - 1` others."""

    def __init__(  # noqa: PLR0913 - what a program can be told about its processes
        self,
        assembly: Assembly,
        factory: Callable[[], Reactor] | None,
        workers: int,
        *,
        placement: Mapping[str, int] | None,
        start_method: StartMethod | None,
        native: bool | None,
    ) -> None:
        """Start the workers.

        Raises:
            ReactorError: if processes cannot be made from here.
        """
        self._assembly = assembly
        self._partition = Partition(assembly, workers, placement)
        self.start_method = _start_method(start_method, factory)
        context = multiprocessing.get_context(self.start_method)
        self._go = workers
        self._board_handle = BoardHandle(
            workers + 1,
            workers,
            context,
            spin=workers <= processors(),
            native=native_available() if native is None else native,
        )
        self._shared = Segment(self._partition.shared_nbytes)
        self._mail = {w: [Segment(0) for _ in range(self._partition.turns)] for w in self._partition.mailers}
        self._limit = self._shared.memory[:8].cast("q")
        self._open = True
        self._stopping = False
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        source = assembly if self.start_method == "fork" else factory
        try:
            for number in range(1, workers):
                self._start(context, source, placement, number)
            self._board = self._board_handle.open(0)
            self._worker = Worker(self._partition, 0, self._shared, self._mail, self._board, self._look_around)
        except BaseException:
            self._end_processes()
            raise

    def advance(self, tags: int) -> NDArray[np.int64]:
        """Run `tags` tags on all workers; when each was over for all, on `perf_counter_ns`."""
        ends_ns: list[int] = []
        limit = self._worker.clock.tags_run + tags
        self._limit[0] = limit
        self._board.publish(self._go)
        self._or_failure(lambda: self._worker.run_until(limit, ends_ns))
        return np.array(ends_ns, np.int64)

    def ask(self, path: str, method: str) -> Any:
        """Call `method` of the reactor at `path`, in the worker where it lives; what it gives is copied."""
        worker = self._partition.placement[path]
        if worker == 0:
            return getattr(self._assembly.reactors[path], method)()
        answer = self._or_failure(lambda: self._question(self._pipes[worker - 1], path, method))
        if isinstance(answer, ReactorError):
            raise answer
        return answer

    def stop(self) -> None:
        """Run the last tag on all workers."""
        self._stopping = True
        self._limit[0] = _STOP
        self._board.publish(self._go)
        self._or_failure(self._worker.run_last)

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        if self._open:
            self._open = False
            self._end_processes()

    def _start(self, context: BaseContext, source: Any, placement: Mapping[str, int] | None, number: int) -> None:
        """Start worker `number`."""
        here, there = context.Pipe()
        process = context.Process(  # type: ignore[attr-defined]  # every context has it; the base class does not say so
            target=_worker_main,
            name=f"reactor-worker-{number}",
            args=(
                source,
                self._partition.workers,
                placement,
                number,
                self._shared,
                self._mail,
                self._board_handle,
                there,
                os.getpid(),
                # A forked worker must not hold the caller's ends, or it would not notice when the caller is gone.
                [*self._pipes, here] if self.start_method == "fork" else [],
            ),
            daemon=True,
        )
        process.start()
        there.close()
        self._pipes.append(here)
        self._processes.append(process)

    def _question(self, pipe: Connection, path: str, method: str) -> Any:
        """What the worker behind `pipe` answers when asked for `method` of the reactor at `path`."""
        try:
            pipe.send((path, method))
            self._board.publish(self._go)
            while not pipe.poll(_REPLY_SLICE_S):
                self._look_around(awaiting=pipe)
            return pipe.recv()
        except (EOFError, OSError):
            self._look_around()
            raise

    def _or_failure(self, act: Callable[[], Any]) -> Any:
        """What `act` gives; if the program fails, the reason, wherever it failed first."""
        try:
            return act()
        except Aborted:
            self._look_around()
            raise
        except BaseException:
            self._board.abort()
            raise

    def _look_around(self, awaiting: Connection | None = None) -> None:
        """Raise if a worker has failed or died; leave alone what comes through a pipe that is being awaited."""
        gone: list[int] = []
        for number, pipe in enumerate(self._pipes, start=1):
            if pipe is awaiting:
                continue
            try:
                if pipe.poll():
                    # Between orders, a worker says nothing but why it failed.
                    raise pipe.recv()
            except (EOFError, OSError):
                gone.append(number)
        for number, process in enumerate(self._processes, start=1):
            if number in gone:
                process.join(_GRACE_S)
            # One that ends in good order when the program stops or was given up is not why it did.
            expected = self._stopping or self._board.aborted()
            if process.exitcode is not None and (process.exitcode or not expected):
                raise WorkerDied(self._death_of(number, process))

    def _death_of(self, number: int, process: BaseProcess) -> str:
        """Which worker died, how and when."""
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"
        living = [path for path, worker in self._partition.placement.items() if worker == number]
        home = f"home of {living[0]}{f' to {living[-1]}' if living[1:] else ''}" if living else "home of nobody"
        return (
            f"Worker {number} (process {process.pid}, {home}) {how} at tag {self._worker.clock.tags_run}. "
            "The program cannot go on without it."
        )

    def _end_processes(self) -> None:
        """Let the workers end; then tell them to; then make them."""
        if hasattr(self, "_board"):
            self._board.abort()
        else:
            self._board_handle.open(0).abort()
        try:
            for how in ("", "terminate", "kill"):
                if how:
                    for process in self._processes:
                        if process.exitcode is None:
                            getattr(process, how)()
                deadline_s = time.monotonic() + _GRACE_S
                for process in self._processes:
                    process.join(max(0.0, deadline_s - time.monotonic()))
            for process in self._processes:
                process.join()
                process.close()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Let go of pipes, memory and semaphores."""
        for pipe in self._pipes:
            pipe.close()
        self._processes, self._pipes = [], []
        if hasattr(self, "_worker"):
            self._worker.let_go()
            del self._worker, self._board
        self._limit.release()
        self._board_handle.close()
        for segment in (self._shared, *(m for mail in self._mail.values() for m in mail)):
            segment.close()


def _start_method(chosen: StartMethod | None, factory: Callable[[], Reactor] | None) -> StartMethod:
    """How to start workers from this process."""
    if chosen is None and fork_is_safe() and "fork" in multiprocessing.get_all_start_methods():
        return "fork"
    method = chosen or "spawn"
    if method != "fork" and factory is None:
        raise ReactorError(
            f"Workers are to be started with '{method}' (a process with several threads cannot be forked), but the "
            "program was made from a reactor. Make it from a picklable function that makes the reactor."
        )
    return method


def _worker_main(  # noqa: PLR0913, PLR0917 - all that a worker shares with the others
    source: Assembly | Callable[[], Reactor],
    workers: int,
    placement: Mapping[str, int] | None,
    number: int,
    shared: Segment,
    mail: Mapping[int, list[Segment]],
    board_handle: BoardHandle,
    pipe: Connection,
    caller: int,
    ends_of_caller: list[Connection],
) -> None:
    """Run worker `number` until the program ends, or the caller is gone."""
    for end in ends_of_caller:
        end.close()
    # Ctrl-C goes to the whole group; the caller decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    board = board_handle.open(number)

    forked_by_server = os.getppid() != caller

    def look_around() -> None:
        # The fork server lives as long as its workers do, so it cannot tell; forked siblings hold one another's
        # sentinel, so that cannot tell elsewhere.
        server = multiprocessing.parent_process() if forked_by_server else None
        if not server.is_alive() if server is not None else os.getppid() != caller:
            os._exit(1)

    try:
        assembly = source if isinstance(source, Assembly) else assemble(source())
        worker = Worker(Partition(assembly, workers, placement), number, shared, mail, board, look_around)
        _obey(worker, assembly, shared.memory[:8].cast("q"), pipe)
    except Aborted:
        pass
    except ReactorError as error:
        _report(pipe, error)
        board.abort()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller must hear of it
        text = traceback.format_exc()
        _report(pipe, ReactionFailed("the runtime", f"worker {number}", 0, f"{type(error).__name__}: {error}", text))
        board.abort()
    pipe.close()


def _obey(worker: Worker, assembly: Assembly, limit: memoryview, pipe: Connection) -> None:
    """Run up to every limit that the caller sets, and answer what it asks."""
    orders = 0
    while True:
        orders += 1
        worker.wait(worker.partition.workers, orders)
        while pipe.poll():
            pipe.send(_answer(assembly, *pipe.recv()))
        if limit[0] == _STOP:
            worker.run_last()
            return
        worker.run_until(limit[0])


def _answer(assembly: Assembly, path: str, method: str) -> Any:
    """What `method` of the reactor at `path` gives, or the error to raise where it was asked for."""
    try:
        return getattr(assembly.reactors[path], method)()
    except Exception as error:  # noqa: BLE001 - it is the caller's to handle
        return ReactorError(f"'{method}' of reactor '{path}' failed: {type(error).__name__}: {error}")


def _report(pipe: Connection, error: ReactorError) -> None:
    """Send `error` to the caller, if it still listens."""
    with contextlib.suppress(OSError):
        pipe.send(error)
