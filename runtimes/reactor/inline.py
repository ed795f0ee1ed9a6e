"""The `inline` executor: the whole program in the calling thread. The least overhead, and the easiest to debug."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from runtimes.reactor.conductor import Common, Conductor
from runtimes.reactor.partition import Partition
from runtimes.reactor.watch import watch_threads, watching
from runtimes.reactor.worker import Worker

if TYPE_CHECKING:
    from runtimes.reactor.assembly import Assembly
    from runtimes.reactor.home import Settings
    from runtimes.reactor.observe import Notes

__all__ = ["InlineExecutor"]


class InlineExecutor:
    """Runs every reaction in the thread that calls `advance`."""

    def __init__(
        self,
        assembly: Assembly,
        *,
        fast: bool,
        kept_alive: bool,
        settings: Settings,
        before: Conductor | None = None,
    ) -> None:
        """Bind the ports of `assembly`; go on where the program was that `before` led."""
        partition = Partition(assembly, 1, None)
        common = Common(partition)
        gate = common.gate(threading.Lock(), threading.Semaphore(0)) if assembly.physical else None
        if before is not None:
            before.worker.let_go()
        self._watch = watch_threads(partition, settings.watch_s, _fate)
        watched = None if self._watch is None else self._watch.watched(0)
        self._worker = Worker(partition, 0, gate=gate, settings=settings, watched=watched)
        self.conductor = Conductor(
            self._worker,
            common,
            board=None,
            gate=gate,
            fast=fast,
            kept_alive=kept_alive,
            look_around=self._look_around,
        )
        if before is not None:
            self.conductor.take_over(before)
            before.worker.drop_lanes()

    def advance(self, tags: int) -> list[int]:
        """Run up to `tags` tags; when each ended, on `perf_counter_ns`."""
        with watching(self._watch):
            return self.conductor.advance(tags)

    def ask(self, path: str, method: str) -> Any:
        """Call `method` of the reactor at `path`."""
        return self._worker.ask(path, method, self.conductor.now)

    def stop(self) -> None:
        """Run the last tag."""
        with watching(self._watch):
            self.conductor.stop()

    def notes(self) -> list[Notes]:
        """What was noted of the run."""
        return [self._worker.notes]

    def close(self) -> None:
        """Let go of ports and threads."""
        self._worker.let_go()

    def _look_around(self) -> None:
        """Raise what failed in a watchdog's thread, or is stuck there."""
        if self._worker.failure is not None:
            raise self._worker.failure
        if self._watch is not None:
            self._watch.look_around()


def _fate(_worker: int) -> str:
    """What becomes of a stuck reaction."""
    return "It is interrupted where that can be done; one in a watchdog's thread is left to the process's end."
