"""The `inline` executor: the whole program in the calling thread. The least overhead, and the easiest to debug."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.reactor.worker import Partition, Worker

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runtimes.reactor.assembly import Assembly

__all__ = ["InlineExecutor"]


class InlineExecutor:
    """Runs every reaction in the thread that calls `advance`."""

    def __init__(self, assembly: Assembly) -> None:
        """Bind the ports of `assembly`."""
        self._assembly = assembly
        self._worker = Worker(Partition(assembly, 1, None), 0, None, {}, None, _nobody_to_look_for)

    def advance(self, tags: int) -> NDArray[np.int64]:
        """Run `tags` tags; when each ended, on `perf_counter_ns`."""
        ends_ns: list[int] = []
        self._worker.run_until(self._worker.clock.tags_run + tags, ends_ns)
        return np.array(ends_ns, np.int64)

    def ask(self, path: str, method: str) -> Any:
        """Call `method` of the reactor at `path`."""
        return getattr(self._assembly.reactors[path], method)()

    def stop(self) -> None:
        """Run the last tag."""
        self._worker.run_last()

    def close(self) -> None:
        """Nothing is left to end."""


def _nobody_to_look_for() -> None:
    """There is no other worker that could have died."""
