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
import pickle
import signal
import threading
import time
import traceback
from dataclasses import dataclass
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from runtimes.reactor.assembly import Assembly, assemble
from runtimes.reactor.board import Aborted, BoardHandle, native_available
from runtimes.reactor.conductor import Common, Conductor, obey
from runtimes.reactor.errors import ReactionFailed, ReactorError, WorkerDied, not_answered, summary_of
from runtimes.reactor.interrupts import ignore_interrupts
from runtimes.reactor.memory import Segment
from runtimes.reactor.partition import Partition
from runtimes.reactor.post import SharedPost
from runtimes.reactor.watch import WATCH_WORDS, Watch, Watched, watching
from runtimes.reactor.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from runtimes.reactor.board import Board
    from runtimes.reactor.declaration import Reactor
    from runtimes.reactor.events import Gate
    from runtimes.reactor.home import Settings
    from runtimes.reactor.observe import Notes
    from runtimes.reactor.post import Post

__all__ = ["ProcessesExecutor", "StartMethod", "fork_is_safe", "processors"]

StartMethod = Literal["fork", "spawn", "forkserver"]

_GRACE_S: Final = 1.0
"""How long a worker may take to end by itself before it is told to."""
_GRACE_AFTER_FAILURE_S: Final = 0.3
"""The same in a program that has failed, where it may be in the midst of a long reaction."""
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
        fast: bool,
        kept_alive: bool,
        settings: Settings,
        before: Conductor | None = None,
    ) -> None:
        """Start the workers; they go on where the program was that `before` led in this process alone.

        Raises:
            ReactorError: if processes cannot be made from here.
        """
        self._partition = Partition(assembly, workers, placement)
        self.start_method, self.start_reason = _start_method(start_method, factory)
        context = multiprocessing.get_context(self.start_method)
        self._ties = _tied(self._partition, context, native=native, settings=settings)
        self._watch = self._make_watch(settings)
        self._open = True
        self._leader = threading.current_thread()
        self._pipes: list[Connection] = []
        self._processes: list[BaseProcess] = []
        source = assembly if self.start_method == "fork" else factory
        self._ties.common(self._partition).clear()
        try:
            for number in range(1, workers):
                self._start(
                    context,
                    source,
                    placement,
                    number,
                    fast=fast,
                    settings=settings,
                    before=None if before is None else before.worker,
                )
            self._lead(before, fast=fast, kept_alive=kept_alive, settings=settings)
        except BaseException:
            self._end_processes()
            raise

    def advance(self, tags: int) -> list[int]:
        """Run up to `tags` tags on all workers; when each was over for all, on `perf_counter_ns`."""
        with watching(self._watch):
            return cast("list[int]", self._or_failure(lambda: self.conductor.advance(tags)))

    def ask(self, path: str, method: str) -> Any:
        """Call `method` of the reactor at `path`, in the worker where it lives; what it gives is copied."""
        worker = self._partition.placement[path]
        if worker == 0:
            return self._worker.ask(path, method, self.conductor.now)
        answer = self._or_failure(lambda: self._question(worker, (path, method)))
        if isinstance(answer, ReactorError):
            raise answer
        return answer

    def notes(self) -> list[Notes]:
        """What all workers have noted of the run."""
        asked = [self._or_failure(lambda: self._question(w, None)) for w in range(1, self._partition.workers)]  # noqa: B023 - called at once
        return [self._worker.notes, *asked]

    def stop(self) -> None:
        """Run the last tag on all workers."""
        with watching(self._watch):
            self._or_failure(self.conductor.stop)

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        if self._open:
            self._open = False
            self._end_processes()

    def _make_watch(self, settings: Settings) -> Watch | None:
        """Who looks after the workers, if anybody is to."""
        if settings.watch_s is None:
            return None
        words = self._ties.watch_words()
        return Watch(self._partition, settings.watch_s, words, fate=self._fate, give_up=self._give_up)

    def _lead(self, before: Conductor | None, *, fast: bool, kept_alive: bool, settings: Settings) -> None:
        """Be worker 0, and lead the others."""
        self._board = self._ties.board.open(0)
        common, gate = self._ties.opened(self._partition, self._look_around_here)
        if before is not None:
            before.worker.let_go()
        self._worker = _worker(self._partition, 0, self._ties, self._board, self._look_around, gate, settings)
        self.conductor = Conductor(
            self._worker,
            common,
            board=self._board,
            gate=gate,
            fast=fast,
            kept_alive=kept_alive,
            look_around=self._look_around,
        )
        if before is not None:
            self.conductor.take_over(before)
            before.worker.leave_to(self._worker)

    def _start(  # noqa: PLR0913 - what a worker is told
        self,
        context: BaseContext,
        source: Any,
        placement: Mapping[str, int] | None,
        number: int,
        *,
        fast: bool,
        settings: Settings,
        before: Worker | None,
    ) -> None:
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
                self._ties,
                there,
                os.getpid(),
                # A forked worker must not hold the caller's ends, or it would not notice when the caller is gone.
                [*self._pipes, here] if self.start_method == "fork" else [],
                fast,
                settings,
                before,
            ),
            daemon=True,
        )
        # Known before it runs, so that an interrupt in between leaves no worker behind.
        self._pipes.append(here)
        self._processes.append(process)
        process.start()
        there.close()

    def _question(self, worker: int, question: tuple[str, str] | None) -> Any:
        """What a worker answers when asked for a method of the reactor at a path, or (None) for its notes."""
        pipe = self._pipes[worker - 1]
        try:
            pipe.send(question)
            self.conductor.ask(worker)
            while not pipe.poll(_REPLY_SLICE_S):
                self._look_around(awaiting=pipe)
            return pipe.recv()
        except (EOFError, OSError):
            self._look_around()
            raise

    def _or_failure(self, act: Callable[[], Any]) -> Any:
        """What `act` gives; if the program fails, the reason, wherever it failed first."""
        self._leader = threading.current_thread()
        try:
            return act()
        except Aborted:
            self._look_around()
            raise
        except BaseException:
            self._board.abort()
            raise

    def _fate(self, worker: int) -> str:
        """What becomes of a worker whose reaction is stuck."""
        if worker == 0:
            return "It is interrupted."
        return f"Worker {worker} (process {self._processes[worker - 1].pid}), where it runs, was killed."

    def _give_up(self, worker: int) -> None:
        """End a worker whose reaction is stuck, if it is another process."""
        if worker:
            self._processes[worker - 1].kill()

    def _look_around(self, awaiting: Connection | None = None) -> None:
        """Raise if a worker has failed or died; leave alone what comes through a pipe that is being awaited."""
        if self._watch is not None:
            self._watch.look_around()
        gone: list[int] = []
        for number, pipe in enumerate(self._pipes, start=1):
            if pipe is awaiting:
                continue
            try:
                if pipe.poll():
                    # Between orders, a worker says nothing but why it failed.
                    error = pipe.recv()
                    raise SystemExit(error.code) if isinstance(error, ExitAsked) else error
            except (EOFError, OSError):
                gone.append(number)
        if hasattr(self, "_worker") and self._worker.failure is not None:
            raise self._worker.failure
        for number, process in enumerate(self._processes, start=1):
            if number in gone:
                process.join(_GRACE_S)
            # One that ends in good order when the program was given up is not why it was.
            if process.exitcode is not None and (process.exitcode or not self._board.aborted()):
                raise WorkerDied(self._death_of(number, process))

    def _look_around_here(self) -> None:
        """The same in any thread: pipes are read by the one that leads alone."""
        if threading.current_thread() is self._leader:
            self._look_around()
        elif self._board.aborted():
            raise Aborted("The program has failed.")

    def _death_of(self, number: int, process: BaseProcess) -> str:
        """Which worker died, how and when."""
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"
        living = [path for path, worker in self._partition.placement.items() if worker == number]
        home = f"home of {living[0]}{f' to {living[-1]}' if living[1:] else ''}" if living else "home of nobody"
        return (
            f"Worker {number} (process {process.pid}, {home}) {how} at tag {self._worker.clock.tag}. "
            "The program cannot go on without it."
        )

    def _end_processes(self) -> None:
        """Let the workers end; then tell them to; then make them."""
        board = self._board if hasattr(self, "_board") else self._ties.board.open(0)
        failed = board.aborted() or not hasattr(self, "conductor")
        board.abort()
        started = [process for process in self._processes if process.pid is not None]
        try:
            for how in ("", "terminate", "kill"):
                if how:
                    for process in started:
                        if process.exitcode is None:
                            getattr(process, how)()
                deadline_s = time.monotonic() + (_GRACE_AFTER_FAILURE_S if failed else _GRACE_S)
                for process in started:
                    process.join(max(0.0, deadline_s - time.monotonic()))
            for process in started:
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
            del self._worker, self._board, self.conductor
        self._ties.close()


class _PatientLock:
    """A lock of processes: who waits for it looks around now and then, as its holder may have died."""

    def __init__(self, lock: Any, look_around: Callable[[], None]) -> None:
        self._lock = lock
        self._look_around = look_around

    def __enter__(self) -> None:
        while not self._lock.acquire(timeout=_REPLY_SLICE_S):
            self._look_around()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _start_method(chosen: StartMethod | None, factory: Callable[[], Reactor] | None) -> tuple[StartMethod, str]:
    """How to start workers from this process, and why so."""
    safe = fork_is_safe() and "fork" in multiprocessing.get_all_start_methods()
    if chosen is not None:
        method, why = chosen, "as asked for"
    elif safe:
        method, why = "fork", "this process has a single thread, so a copy of it is whole"
    else:
        method, why = (
            "spawn",
            "this process has several threads (NumPy starts some, unless OPENBLAS_NUM_THREADS=1) or cannot fork",
        )
    if method != "fork" and factory is None:
        raise ReactorError(
            f"Workers are to be started with '{method}' ({why}), but the program was made from a reactor. Make it from "
            "a picklable function that makes the reactor."
        )
    return method, f"workers started with '{method}', {why}"


def _worker_main(  # noqa: PLR0913, PLR0917 - all that a worker shares with the others
    source: Assembly | Callable[[], Reactor],
    workers: int,
    placement: Mapping[str, int] | None,
    number: int,
    ties: _Ties,
    pipe: Connection,
    caller: int,
    ends_of_caller: list[Connection],
    fast: bool,  # noqa: FBT001 - a process gets its arguments by position
    settings: Settings,
    before: Worker | None,
) -> None:
    """Run worker `number` until the program ends, or the caller is gone."""
    for end in ends_of_caller:
        end.close()
    # Ctrl-C goes to the whole group; the caller decides what becomes of it.
    ignore_interrupts()
    gc.freeze()
    board = ties.board.open(number)
    forked_by_server = os.getppid() != caller
    workers_here: list[Worker] = []

    def look_around() -> None:
        # The fork server lives as long as its workers do, so it cannot tell; forked siblings hold one another's
        # sentinel, so that cannot tell elsewhere.
        server = multiprocessing.parent_process() if forked_by_server else None
        if not server.is_alive() if server is not None else os.getppid() != caller:
            os._exit(1)
        if workers_here and workers_here[0].failure is not None:
            raise workers_here[0].failure

    def run() -> None:
        assembly = source if isinstance(source, Assembly) else assemble(source(), fast=fast)
        partition = Partition(assembly, workers, placement)
        common, gate = ties.opened(partition, look_around)
        if before is not None:
            before.let_go()
        worker = _worker(partition, number, ties, board, look_around, gate, settings)
        workers_here.append(worker)
        if before is not None:
            worker.adopt(before)
            before.leave_to(worker)
        obey(worker, common, partial(_answer, pipe, worker), begun=before is not None)

    try:
        run()
    except Aborted:
        pass
    except BaseException as error:  # noqa: BLE001 - whatever it is, the caller must hear of it
        _report(pipe, _to_report(error, number))
        board.abort()
    pipe.close()


def _to_report(error: BaseException, number: int) -> ReactorError:
    """What the caller is told when `error` ended worker `number`."""
    if isinstance(error, SystemExit):
        return ExitAsked(error.code if isinstance(error.code, int | None) else str(error.code))
    if isinstance(error, ReactorError):
        return error
    text = "".join(traceback.format_exception(error))
    return ReactionFailed("the runtime", f"worker {number}", (0, 0), summary_of(error), text)


class ExitAsked(ReactorError):  # noqa: N818 - what happened
    """A reaction of a worker raised SystemExit."""

    def __init__(self, code: Any) -> None:
        """Carry the program's exit status."""
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ties:
    """What the processes of a program share; it travels to each."""

    board: BoardHandle
    shared: Segment
    mail: Mapping[int, Segment]
    lock: Any
    bell: Any
    watch: Segment | None

    def common(self, partition: Partition) -> Common:
        """The shared words as one process sees them."""
        memory = self.shared.memory

        def words(offset: int, count: int) -> Any:
            return memory[offset : offset + 8 * count].cast("q")

        return Common(partition, words)

    def opened(self, partition: Partition, look_around: Callable[[], None]) -> tuple[Common, Gate | None]:
        """The shared words, and the way in for events from outside, if there is one."""
        common = self.common(partition)
        if self.bell is None:
            return common, None
        return common, common.gate(_PatientLock(self.lock, look_around), self.bell)

    def watch_words(self) -> list[Any]:
        """What each worker says of what it runs; nothing without a watch time."""
        if self.watch is None:
            return []
        words = self.watch.memory.cast("q")
        return [words[at : at + WATCH_WORDS] for at in range(0, len(words), WATCH_WORDS)]

    def close(self) -> None:
        """Let go of all of it."""
        self.board.close()
        for segment in (self.shared, *self.mail.values(), *(() if self.watch is None else (self.watch,))):
            segment.close()


def _tied(partition: Partition, context: BaseContext, *, native: bool | None, settings: Settings) -> _Ties:
    """What the processes of a program will share."""
    workers, physical = partition.workers, partition.assembly.physical
    watch_nbytes = 8 * WATCH_WORDS * workers
    return _Ties(
        board=BoardHandle(
            2 * workers,
            workers,
            context,
            spin=workers <= processors(),
            native=native_available() if native is None else native,
        ),
        shared=Segment(partition.shared_nbytes, purpose="the arrays of the program"),
        mail={worker: Segment(0, purpose=f"values that worker {worker} sends") for worker in partition.mailers},
        lock=context.Lock() if physical else None,
        bell=context.Semaphore(0) if physical else None,
        watch=None if settings.watch_s is None else Segment(watch_nbytes, purpose="the watch time"),
    )


def _worker(  # noqa: PLR0913, PLR0917 - as many as a worker shares
    partition: Partition,
    number: int,
    ties: _Ties,
    board: Board,
    look_around: Callable[[], None],
    gate: Gate | None,
    settings: Settings,
) -> Worker:
    """Worker `number` in this process."""
    memory = ties.shared.memory
    posts: dict[int, Post] = {}
    for worker, segment in ties.mail.items():
        offset = partition.table_offsets[worker]
        table = memory[offset : offset + 8 * partition.table_words(worker)].cast("q")
        posts[worker] = SharedPost(table, segment, len(partition.groups))
    return Worker(
        partition,
        number,
        shared=ties.shared,
        posts=posts,
        board=board,
        look_around=look_around,
        gate=gate,
        settings=settings,
        watched=Watched(partition.assembly, ties.watch_words()[number]) if ties.watch is not None else None,
    )


def _answer(pipe: Connection, worker: Worker, now: tuple[int, int, int]) -> None:
    """Answer what the caller asks: what a method of a reactor gives, or the error to raise where it was asked for.

    `now` is number, time and microstep of the last tag.
    """
    question = pipe.recv()
    if question is None:
        pipe.send(worker.notes)
        return
    path, method = question
    try:
        answer = ForkingPickler.dumps(worker.ask(path, method, now))
    except Exception as error:  # noqa: BLE001 - it is the caller's to handle
        _report(pipe, error if isinstance(error, ReactorError) else not_answered(path, method, error))
        return
    pipe.send_bytes(answer)


def _report(pipe: Connection, error: ReactorError) -> None:
    """Send `error` to the caller, if it still listens; of one that does not travel, its type and message."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    except Exception:  # noqa: BLE001 - whatever its own way of being pickled raises
        error = ReactorError(summary_of(error))
    with contextlib.suppress(OSError):
        pipe.send(error)
