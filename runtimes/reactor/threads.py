"""The `threads` executor: reactors partitioned over threads of one process.

Really parallel on a free-threaded interpreter, and elsewhere as far as reactions let go of the
interpreter. Values are handed over as they are; arrays lie in slots as between processes.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from runtimes.reactor.board import Aborted, BoardHandle, native_available
from runtimes.reactor.conductor import Common, Conductor, obey
from runtimes.reactor.memory import Segment
from runtimes.reactor.partition import Partition
from runtimes.reactor.post import LocalPost
from runtimes.reactor.watch import watch_threads, watching
from runtimes.reactor.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtimes.reactor.assembly import Assembly
    from runtimes.reactor.events import Gate
    from runtimes.reactor.home import Settings
    from runtimes.reactor.observe import Notes

__all__ = ["ThreadsExecutor"]

_GRACE_S: Final = 0.5
"""How long threads may take to end when the program has ended or failed."""


class ThreadsExecutor:
    """Runs a program in the calling thread and `workers - 1` others."""

    def __init__(  # noqa: PLR0913 - what a program can be told about its threads
        self,
        assembly: Assembly,
        workers: int,
        *,
        placement: Mapping[str, int] | None,
        native: bool | None,
        fast: bool,
        kept_alive: bool,
        spin: bool,
        settings: Settings,
        before: Conductor | None = None,
    ) -> None:
        """Start the threads, which wait for orders; they go on where the program was that `before` led alone."""
        partition = Partition(assembly, workers, placement)
        self._board_handle = BoardHandle(
            2 * workers,
            workers,
            multiprocessing.get_context("spawn"),
            spin=spin,
            native=native_available() if native is None else native,
            threads=True,
        )
        self._shared = Segment(partition.shared_nbytes, purpose="the arrays of the program")
        self._boards = [self._board_handle.open(number) for number in range(workers)]
        self._failures: list[BaseException] = []
        self._watch = watch_threads(partition, settings.watch_s, _fate)
        if before is not None:
            before.worker.let_go()
        common = Common(partition)
        gate = common.gate(threading.Lock(), threading.Semaphore(0)) if assembly.physical else None
        self._workers = self._make_workers(partition, gate, settings)
        self.conductor = Conductor(
            self._workers[0],
            common,
            board=self._boards[0],
            gate=gate,
            fast=fast,
            kept_alive=kept_alive,
            look_around=self._look_around,
        )
        if before is not None:
            self.conductor.take_over(before)
            for worker in self._workers[1:]:
                worker.adopt(before.worker)
            before.worker.drop_lanes()
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(worker, common, before is not None),
                name=f"reactor-worker-{worker.number}",
                daemon=True,
            )
            for worker in self._workers[1:]
        ]
        for thread in self._threads:
            thread.start()

    def advance(self, tags: int) -> list[int]:
        """Run up to `tags` tags on all workers; when each was over for all, on `perf_counter_ns`."""
        ends_ns: list[int] = self._or_failure(lambda: self.conductor.advance(tags))
        return ends_ns

    def ask(self, path: str, method: str) -> Any:
        """Call `method` of the reactor at `path`; its worker sleeps."""
        conductor = self.conductor
        worker = self._workers[conductor.worker.partition.placement[path]]
        return worker.ask(path, method, conductor.now)

    def stop(self) -> None:
        """Run the last tag on all workers."""
        self._or_failure(self.conductor.stop)

    def notes(self) -> list[Notes]:
        """What all workers have noted of the run."""
        return [worker.notes for worker in self._workers]

    def close(self) -> None:
        """End all threads that can be ended: one whose reaction never returns is left to the process's end."""
        self._boards[0].abort()
        deadline_s = time.monotonic() + _GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        for worker in self._workers:
            worker.let_go()
        if not any(thread.is_alive() for thread in self._threads):
            self._boards.clear()
            self._board_handle.close()
            self._shared.close()

    def _make_workers(self, partition: Partition, gate: Gate | None, settings: Settings) -> list[Worker]:
        """The workers, in order of number."""
        posts = {worker: LocalPost(len(partition.groups)) for worker in partition.mailers}
        return [
            Worker(
                partition,
                number,
                shared=self._shared,
                posts=posts,
                board=board,
                look_around=self._look_around,
                gate=gate,
                settings=settings,
                watched=None if self._watch is None else self._watch.watched(number),
            )
            for number, board in enumerate(self._boards)
        ]

    def _run(self, worker: Worker, common: Common, begun: bool) -> None:  # noqa: FBT001 - a thread's arguments
        """Be a worker."""
        try:
            obey(worker, common, lambda _now: None, begun=begun)
        except Aborted:
            pass
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            self._failures.append(error)
            self._boards[worker.number].abort()

    def _or_failure(self, act: Callable[[], Any]) -> Any:
        """What `act` gives; if the program fails, the reason, wherever it failed first."""
        try:
            with watching(self._watch):
                return act()
        except Aborted:
            self._look_around()
            raise
        except BaseException:
            self._boards[0].abort()
            raise

    def _look_around(self) -> None:
        """Raise what failed in another thread."""
        for worker in self._workers:
            if worker.failure is not None:
                raise worker.failure
        if self._failures and threading.current_thread() not in self._threads:
            raise self._failures[0]
        if self._watch is not None:
            self._watch.look_around()


def _fate(worker: int) -> str:
    """What becomes of a worker whose reaction is stuck."""
    if worker == 0:
        return "It is interrupted."
    return f"Thread 'reactor-worker-{worker}', where it runs, cannot be ended and is left to the process's end."
