"""Programs: a main reactor with an executor; they run at once, or advance tag by tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from runtimes.reactor.assembly import assemble
from runtimes.reactor.declaration import Reactor
from runtimes.reactor.errors import AssemblyError, ReactorError
from runtimes.reactor.inline import InlineExecutor
from runtimes.reactor.processes import ProcessesExecutor, StartMethod, processors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ExecutorName", "Program"]

ExecutorName = Literal["inline", "processes"]


class Executor(Protocol):
    """What runs a program; all executors behave alike."""

    def advance(self, tags: int) -> NDArray[np.int64]:
        """Run `tags` tags; when each ended, on `perf_counter_ns`."""
        ...

    def ask(self, path: str, method: str) -> Any:
        """Call `method` of the reactor at `path` where it lives."""
        ...

    def stop(self) -> None:
        """Run the last tag."""
        ...

    def close(self) -> None:
        """End whatever was started."""
        ...


class Program:
    """A program: assembled when made, started by `start` (or `with`), advanced in fast mode.

    The same program gives the same values with every executor and any number of workers.
    """

    def __init__(  # noqa: PLR0913 - where and how it runs; all but the first are named at the call
        self,
        main: Reactor | Callable[[], Reactor],
        *,
        executor: ExecutorName = "inline",
        workers: int | None = None,
        placement: Mapping[str, int] | None = None,
        start_method: StartMethod | None = None,
        native: bool | None = None,
    ) -> None:
        """Assemble the program.

        Args:
            main: The main reactor, or a function that makes it (picklable, where workers are spawned).
            executor: `inline` (the calling thread) or `processes`.
            workers: How many processes, the calling one counted; by default one for each processor.
            placement: Reactor path to worker, for reactors that are to live in a certain one.
            start_method: How workers are started; by default `fork` where that is safe, else `spawn`.
            native: Whether to wait with the native part; by default if it was built.

        Raises:
            AssemblyError: if the program breaks a rule of the model, or `workers` is below 1.
        """
        if executor not in {"inline", "processes"}:
            raise AssemblyError(f"Unknown executor '{executor}'. Known: inline, processes.")
        if workers is not None and workers < 1:
            raise AssemblyError(f"A program has workers={workers}. Give at least 1; the calling process counts.")
        self._factory = None if isinstance(main, Reactor) else main
        self.assembly = assemble(main if isinstance(main, Reactor) else main())
        self._executor_name = executor
        self._workers = workers if workers is not None else processors()
        self._placement = placement
        self._start_method: StartMethod | None = start_method
        self._native = native
        self._executor: Executor | None = None
        self._tags_run = 0
        self._closed = False

    @property
    def workers(self) -> int:
        """How many processes run the program, the calling one counted."""
        return 1 if self._executor_name == "inline" else self._workers

    def start(self) -> None:
        """Start the workers; no tag has run yet."""
        if self._executor is not None:
            raise ReactorError("The program has been started already. A program runs once; make another.")
        if self.workers == 1:
            self._executor = InlineExecutor(self.assembly)
        else:
            self._executor = ProcessesExecutor(
                self.assembly,
                self._factory,
                self._workers,
                placement=self._placement,
                start_method=self._start_method,
                native=self._native,
            )

    def advance(self, tags: int) -> NDArray[np.int64]:
        """Run `tags` more tags and stop at the boundary, the workers asleep.

        Returns when each tag was over on all workers: shape `(tags,)`, nanoseconds on `perf_counter_ns`.

        Raises:
            ReactionFailed: if a reaction raised.
            WorkerDied: if a worker process ended.
        """
        left = tags if self.assembly.period_ns else min(tags, 1 - self._tags_run)
        ends_ns = self._running().advance(max(left, 0))
        self._tags_run += len(ends_ns)
        return ends_ns

    def ask(self, path: str, method: str) -> Any:
        """Call `method` (no arguments) of the reactor at `path`, where it lives, between tags."""
        if path not in self.assembly.reactors:
            raise ReactorError(f"Unknown reactor '{path}'. Known: {', '.join(self.assembly.reactors)}.")
        return self._running().ask(path, method)

    def stop(self) -> None:
        """Run the last tag (shutdown reactions; none if nothing has started up), and end the workers."""
        executor = self._running()
        if self._tags_run:
            executor.stop()
        self.close()

    def run(self, timeout_ns: int) -> None:
        """Start, run all tags from time 0 to `timeout_ns`, that one included, and stop.

        Raises:
            ReactorError: for a negative timeout.
        """
        if timeout_ns < 0:
            raise ReactorError(f"A program has a timeout of {timeout_ns} ns. Give 0 or more.")
        with self:
            self.advance(1 + (timeout_ns // self.assembly.period_ns if self.assembly.period_ns else 0))
            self.stop()

    def close(self) -> None:
        """End the workers, whatever they are doing. May be called twice."""
        if self._executor is not None:
            self._closed = True
            self._executor.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> Executor:
        if self._executor is None:
            raise ReactorError("The program has not been started. Call start(), or use it in a with statement.")
        if self._closed:
            raise ReactorError("The program has ended. A program runs once; make another.")
        return self._executor
