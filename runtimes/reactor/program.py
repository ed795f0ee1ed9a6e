"""Programs: a main reactor with an executor; they run at once, or advance tag by tag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, get_args

import numpy as np

from runtimes.reactor.assembly import assemble
from runtimes.reactor.auto import AutoExecutor
from runtimes.reactor.declaration import Reactor
from runtimes.reactor.errors import AssemblyError, ReactorError, did_you_mean, not_answered
from runtimes.reactor.home import Settings
from runtimes.reactor.inline import InlineExecutor
from runtimes.reactor.interrupts import deferred_interrupts
from runtimes.reactor.partition import MOST_WORKERS
from runtimes.reactor.processes import ProcessesExecutor, StartMethod, processors
from runtimes.reactor.tags import Tag
from runtimes.reactor.threads import ThreadsExecutor
from runtimes.reactor.timeline import Timeline
from runtimes.reactor.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from numpy.typing import NDArray

    from runtimes.reactor.conductor import Conductor
    from runtimes.reactor.diagram import Diagram
    from runtimes.reactor.observe import Notes
    from runtimes.reactor.partition import Partition

__all__ = ["ExecutorName", "Program"]

ExecutorName = Literal["auto", "inline", "threads", "processes"]

_TAGS_AT_ONCE: Final = 4096
"""A run to the end goes in stretches of so many tags: what is noted of each tag is let go in between."""


class Executor(Protocol):
    """What runs a program; all executors behave alike."""

    @property
    def conductor(self) -> Conductor:
        """Who leads its workers."""
        ...

    def advance(self, tags: int) -> list[int]:
        """Run up to `tags` tags; when each ended, on `perf_counter_ns`."""
        ...

    def ask(self, path: str, method: str) -> Any:
        """Call `method` of the reactor at `path` where it lives."""
        ...

    def stop(self) -> None:
        """Run the last tag."""
        ...

    def notes(self) -> list[Notes]:
        """What each worker has noted."""
        ...

    def close(self) -> None:
        """End whatever was started."""
        ...


class Program:
    """A program: assembled when made, started by `start` (or `with`), run to its end or tag by tag.

    The same program gives the same values with every executor and any number of workers.
    """

    def __init__(  # noqa: PLR0913 - where and how it runs; all but the first are named at the call
        self,
        main: Reactor | Callable[[], Reactor],
        *,
        executor: ExecutorName = "auto",
        workers: int | None = None,
        placement: Mapping[str, int] | Callable[[int], Mapping[str, int]] | None = None,
        start_method: StartMethod | None = None,
        native: bool | None = None,
        fast: bool = False,
        keepalive: bool | None = None,
        recording: bool = False,
        timeline: bool = False,
        replay: Trace | None = None,
        watch_s: float | None = None,
    ) -> None:
        """Assemble the program.

        Args:
            main: The main reactor, or a function that makes it (picklable, where workers are spawned).
            executor: `inline` (the calling thread), `threads`, `processes`, or `auto`, which runs the first tags
                inline, measures, and moves to workers if that is faster.
            workers: How many threads or processes, the calling one counted; by default one for each processor. For
                `auto`, how many at most.
            placement: Reactor path to worker, for reactors that are to live in a certain one; or a function that
                gives it for a number of workers.
            start_method: How workers are started; by default `fork` where that is safe, else `spawn`.
            native: Whether to wait with the native part; by default if it was built.
            fast: Do not wait for physical time.
            keepalive: Whether an empty queue waits for events from outside; by default if there are physical
                actions.
            recording: Keep a trace of what happens.
            timeline: Keep when what ran.
            replay: Take what comes from outside from this trace; implies `fast`.
            watch_s: How long a reaction may run, in seconds; one that runs for longer ends the program. Where it is
                the calling thread that cannot be interrupted, the process ends with status 1, after a message.

        Raises:
            AssemblyError: if the program breaks a rule of the model, `workers` is below 1, or `watch_s` not above 0.
        """
        if executor not in get_args(ExecutorName):
            raise AssemblyError(f"Unknown executor '{executor}'. {did_you_mean(executor, get_args(ExecutorName))}")
        if workers is not None and not 1 <= workers <= MOST_WORKERS:
            raise AssemblyError(f"A program has workers={workers}. Give 1 to {MOST_WORKERS}; the caller counts.")
        if start_method is not None and start_method not in get_args(StartMethod):
            known = get_args(StartMethod)
            raise AssemblyError(f"Unknown start method '{start_method}'. {did_you_mean(start_method, known)}")
        if watch_s is not None and watch_s <= 0:
            raise AssemblyError(f"A program has watch_s={watch_s}. Give more than 0 seconds, or None.")
        self._factory = None if isinstance(main, Reactor) else main
        self._fast = fast or replay is not None
        made = main if isinstance(main, Reactor) else main()
        if not isinstance(made, Reactor):
            raise AssemblyError(f"A program was made from {made!r}. Give a reactor, or a function that makes one.")
        self.assembly = assemble(made, fast=self._fast)
        self._check_placement(placement)
        self._executor_name = executor
        self._workers = workers
        self._placement = placement if callable(placement) else lambda _workers: placement
        self._start_method: StartMethod | None = start_method
        self._native = native
        self._kept_alive = (self.assembly.kept_alive if keepalive is None else keepalive) and replay is None
        self._settings = Settings(recording=recording, timeline=timeline, replay=replay, watch_s=watch_s)
        self._executor: Executor | None = None
        self._notes: list[Notes] = []
        self._partition: Partition | None = None
        self._closed = False
        self._failed = False
        self._workers_at_the_end = 1

    def _check_placement(self, placement: object) -> None:
        """Raise if a placement names a reactor that there is not, whatever executor is to run."""
        for path in placement if isinstance(placement, Mapping) else ():
            if path not in self.assembly.reactors:
                known = [known for known in self.assembly.reactors if known and known not in self.assembly.homes]
                raise AssemblyError(f"Placement names the unknown reactor '{path}'. {did_you_mean(str(path), known)}")

    @property
    def workers(self) -> int:
        """How many threads or processes run the program, the calling one counted; 1 before the start."""
        if self._executor is None or self._closed:
            return self._workers_at_the_end
        return self._executor.conductor.worker.partition.workers

    @property
    def execution(self) -> str:
        """Which executor runs the program, and for `auto` why."""
        if isinstance(self._executor, AutoExecutor):
            return f"{self._executor.chosen}: {self._executor.reason or 'measuring'}"
        if isinstance(self._executor, ProcessesExecutor):
            return f"processes: {self._executor.start_reason}"
        if isinstance(self._executor, InlineExecutor):
            return "inline" if self._executor_name == "inline" else "inline: there is one worker"
        return self._executor_name

    @property
    def ended(self) -> bool:
        """Whether the last tag has run."""
        return self._closed or (self._executor is not None and self._executor.conductor.ended)

    def start(self) -> None:
        """Start the workers; no tag has run yet.

        Raises:
            OutOfSharedMemory: if there is not as much as the program wants.
            ReactorError: if it has been started before, or workers cannot be started from here.
        """
        if self._executor is not None:
            raise ReactorError("The program has been started already. A program runs once; make another.")
        try:
            with deferred_interrupts():
                self._executor = self._make_executor()
        except BaseException:
            self.close()
            raise

    def _make_executor(self) -> Executor:
        """The executor asked for, its workers waiting."""
        how: dict[str, Any] = {"fast": self._fast, "kept_alive": self._kept_alive, "settings": self._settings}
        if self._executor_name == "auto":
            return AutoExecutor(
                self.assembly, workers=self._workers, placement=self._placement, native=self._native, **how
            )
        workers = min(processors(), MOST_WORKERS) if self._workers is None else self._workers
        where: dict[str, Any] = {"placement": self._placement(workers), "native": self._native}
        if self._executor_name == "inline" or workers == 1:
            return InlineExecutor(self.assembly, **how)
        if self._executor_name == "threads":
            return ThreadsExecutor(self.assembly, workers, spin=workers <= processors(), **where, **how)
        return ProcessesExecutor(self.assembly, self._factory, workers, start_method=self._start_method, **where, **how)

    def advance(self, tags: int) -> NDArray[np.int64]:
        """Run `tags` more tags and stop at the boundary, the workers asleep; fewer if the program ends.

        Returns when each tag was over on all workers: shape `(tags,)`, nanoseconds on `perf_counter_ns`.

        Raises:
            ReactionFailed: if a reaction raised.
            ReactionStuck: if a reaction ran for longer than the watch time.
            WorkerDied: if a worker process ended.
            SystemExit: if a reaction raised it.
        """
        executor = self._running()
        try:
            return np.array(executor.advance(tags), np.int64)
        except BaseException:
            self._failed = True
            raise

    def ask(self, path: str, method: str) -> Any:
        """Call `method` (no arguments) of the reactor at `path`, where it lives, between tags.

        Raises:
            ReactorError: for an unknown reactor, or if the method raises.
        """
        if path not in self.assembly.reactors:
            raise ReactorError(f"Unknown reactor '{path}'. {did_you_mean(path, self.assembly.reactors)}")
        try:
            return self._running().ask(path, method)
        except ReactorError:
            raise
        except Exception as error:
            raise not_answered(path, method, error) from error

    def stop(self) -> None:
        """Run the last tag, a microstep after the one before (none if nothing has started up), and end the workers."""
        executor = self._running()
        try:
            if executor.conductor.worker.clock.turn:
                executor.stop()
            self._keep_notes()
        finally:
            self.close()

    def run(self, timeout_ns: int | None = None) -> None:
        """Start, run to the end, that is at most to time `timeout_ns`, that one included, and end the workers.

        Raises:
            ReactorError: for a negative timeout; whatever `advance` raises.
            SystemExit: if a reaction raised it.
        """
        if timeout_ns is not None and timeout_ns < 0:
            raise ReactorError(f"A program has a timeout of {timeout_ns} ns. Give 0 or more.")
        with self:
            executor = self._running()
            if timeout_ns is not None:
                executor.conductor.stop_at = (timeout_ns, 0)
            while not executor.conductor.ended:
                executor.advance(_TAGS_AT_ONCE)
            self._keep_notes()

    def trace(self) -> Trace:
        """What happened, after a run with `recording=True`.

        Raises:
            ReactorError: without a recording, or before the end.
        """
        if not self._settings.recording or not self._notes:
            raise ReactorError("There is no trace. Make the program with recording=True, and run it to its end.")
        steps = sorted((step for notes in self._notes for step in notes.steps), key=lambda step: step[:2])
        physical = sorted(
            (event for notes in self._notes for event in notes.physical),
            key=lambda event: (event.time_ns, event.microstep, event.action),
        )
        # Those of one reactor stay in the order in which they ran.
        expiries = sorted(
            (expiry for notes in self._notes for expiry in notes.expiries),
            key=lambda expiry: (expiry.time_ns, expiry.microstep, expiry.watchdog.rpartition(".")[0]),
        )
        return Trace(tuple(step for _, _, step in steps), tuple(physical), tuple(expiries))

    def timeline(self) -> Timeline:
        """When what ran, after a run with `timeline=True`.

        Raises:
            ReactorError: without one, or before the end.
        """
        if not self._settings.timeline or not self._notes:
            raise ReactorError("There is no timeline. Make the program with timeline=True, and run it to its end.")
        rows = self.assembly.reactions
        period_ns = self.assembly.period_ns
        partition = self._partition
        assert partition is not None
        last = max((span[1] for notes in self._notes for span in notes.spans), default=-1)
        noted = self._notes[0].tags
        return Timeline(
            spans={worker: notes.spans for worker, notes in enumerate(self._notes)},
            reactions=[row.path for row in rows],
            home=[partition.placement[row.reactor] for row in rows],
            tags=[noted.get(number, Tag(number * period_ns, 0)) for number in range(last + 1)],
            predecessors=self.assembly.before,
        )

    def diagram(self, *, by_level: bool = False) -> Diagram:
        """A drawing of the program: nested reactors, or its reactions by level."""
        from runtimes.reactor.diagram import Diagram

        return Diagram(self.assembly, by_level=by_level)

    def close(self) -> None:
        """End the workers, whatever they are doing. May be called twice."""
        if self._executor is not None and not self._closed:
            self._workers_at_the_end = self.workers
            self._closed = True
            with deferred_interrupts():
                self._executor.close()

    def _keep_notes(self) -> None:
        """Fetch what the workers have noted, while they are there."""
        if self._settings.recording or self._settings.timeline:
            executor = self._running()
            self._notes = executor.notes()
            self._partition = executor.conductor.worker.partition

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
        if self._failed:
            raise ReactorError("The program has failed, so it cannot go on. Make another.")
        return self._executor
