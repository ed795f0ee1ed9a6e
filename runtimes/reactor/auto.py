"""The executor `auto`: runs the first tags in the calling thread, measures, and stays or moves.

Semantics make the choice invisible in the results. State that has been built moves by forking workers,
while that is safe, or to threads where those run in parallel; else the program stays, and says why.

The estimate is a list schedule: reactions in order of rank, each where it would live, beginning when
its worker is free and what it depends on is done. What a reaction costs is the median of what was
measured, times how often it ran in a tag.

A program that stayed is watched: where its tags take much longer later on, as those of a learner once
there is something to learn from, it is measured and chosen for again.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from runtimes.reactor.errors import OutOfSharedMemory
from runtimes.reactor.inline import InlineExecutor
from runtimes.reactor.interrupts import deferred_interrupts
from runtimes.reactor.partition import MOST_WORKERS, Partition
from runtimes.reactor.processes import ProcessesExecutor, fork_is_safe, processors
from runtimes.reactor.threads import ThreadsExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runtimes.reactor.assembly import Assembly
    from runtimes.reactor.conductor import Conductor
    from runtimes.reactor.home import Settings
    from runtimes.reactor.observe import Notes

__all__ = ["AutoExecutor", "Estimate", "estimate"]

_FEWEST_TAGS: Final = 3
_MOST_TAGS: Final = 16
_LONG_ENOUGH_NS: Final = 20_000_000
"""So many tags are measured: as few as may be, once they took this long together."""
_TIMING_NS: Final = 90
"""What timing adds to a reaction (two looks at the clock and a note), about."""
_RUN_NS: Final = 120
"""What running a reaction costs besides its body, in one thread, about."""
_HOP_NS: Final = 900
"""From one worker's publication until another has seen it, while both have a processor."""
_LETTER_NS: Final = 9_000
"""Pickling a small value, and opening it."""
_TAG_NS: Final = 1_500
"""Agreeing on the end of a tag."""
_TOO_FEW_REACTORS: Final = 2
_GAIN: Final = 0.9
"""A move is worth it if a tag would take this much of what it takes now, or less."""
_LONGER: Final = 2
_LONGER_BY_NS: Final = 20_000
"""Tags that take this many times what was measured, and this much more, on average, are measured again."""
_FEWEST_WATCHED: Final = 32
_MOST_WATCHED: Final = 4096
"""Tags over which that average is taken: twice as many whenever it found nothing."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a tag takes with a number of workers, by what was measured."""

    workers: int
    tag_ns: float


@dataclass(slots=True)
class _Watch:
    """How long the tags of a program take that stayed."""

    bound_ns: float
    """An average beyond this is a change."""
    window: int = _FEWEST_WATCHED
    tags: int = 0
    spent_ns: int = 0

    def finds_change(self, tags: int, spent_ns: int) -> bool:
        """Whether tags take too long, now that so many more took so much together."""
        self.tags += tags
        self.spent_ns += spent_ns
        if self.tags < self.window:
            return False
        if self.spent_ns > self.bound_ns * self.tags:
            return True
        self.window = min(2 * self.window, _MOST_WATCHED)
        self.tags = self.spent_ns = 0
        return False


class AutoExecutor:
    """Runs in the calling thread until it knows better."""

    def __init__(  # noqa: PLR0913 - whatever executor it becomes
        self,
        assembly: Assembly,
        *,
        workers: int | None,
        placement: Callable[[int], Mapping[str, int] | None],
        native: bool | None,
        fast: bool,
        kept_alive: bool,
        settings: Settings,
    ) -> None:
        """Begin inline, measuring if there is anything to choose."""
        self._assembly = assembly
        self._most = workers if workers is not None else min(processors(), MOST_WORKERS)
        self._placement = placement
        self._native = native
        self._how: dict[str, Any] = {"fast": fast, "kept_alive": kept_alive, "settings": settings}
        self.chosen = "inline"
        self.reason = self._nothing_to_choose()
        """Why it stayed, or moved."""
        self._measuring = not self.reason
        self._since = 0
        """The number of the first tag that is measured."""
        self._tags = 0
        self._busy: list[int] = []
        self._watch: _Watch | None = None
        self._window = _FEWEST_WATCHED
        timed = replace(settings, timeline=settings.timeline or self._measuring)
        self._executor: InlineExecutor | ThreadsExecutor | ProcessesExecutor = InlineExecutor(
            assembly, **{**self._how, "settings": timed}
        )

    @property
    def conductor(self) -> Conductor:
        """Who leads now."""
        return self._executor.conductor

    def advance(self, tags: int) -> list[int]:
        """Run up to `tags` tags; when each was over, on `perf_counter_ns`."""
        ends_ns: list[int] = []
        while (self._measuring or self._watch is not None) and len(ends_ns) < tags and not self.conductor.ended:
            ends_ns += self._advance_measured() if self._measuring else self._advance_watched(tags - len(ends_ns))
        if len(ends_ns) < tags and not self.conductor.ended:
            ends_ns += self._executor.advance(tags - len(ends_ns))
        return ends_ns

    def _advance_measured(self) -> list[int]:
        """Run a tag, and choose if that was enough of them."""
        ends_ns = self._executor.advance(1)
        self._tags += 1
        self._busy.append(_busy_elsewhere())
        if not self.conductor.ended and self._has_seen_enough():
            self._choose()
        return ends_ns

    def _advance_watched(self, most: int) -> list[int]:
        """Run up to `most` tags, not many, and measure again if they take longer than they did."""
        watch = self._watch
        assert watch is not None
        began_ns = perf_counter_ns()
        ends_ns = self._executor.advance(min(watch.window - watch.tags, most))
        if ends_ns and watch.finds_change(len(ends_ns), ends_ns[-1] - began_ns) and not self.conductor.ended:
            self._window = min(2 * watch.window, _MOST_WATCHED)
            self._measure_again()
        return ends_ns

    def ask(self, path: str, method: str) -> Any:
        """Call `method` of the reactor at `path` where it lives."""
        return self._executor.ask(path, method)

    def stop(self) -> None:
        """Run the last tag."""
        self._executor.stop()

    def notes(self) -> list[Notes]:
        """What each worker has noted."""
        return self._executor.notes()

    def close(self) -> None:
        """End whatever was started."""
        self._executor.close()

    def _nothing_to_choose(self) -> str:
        """Why the program stays inline whatever it costs, empty if it may move."""
        if self._most == 1:
            return "there is one worker to use"
        # The main reactor and one other.
        if len(self._assembly.reactors) - len(self._assembly.homes) <= _TOO_FEW_REACTORS:
            return "there are no two reactors to run side by side"
        if self._assembly.physical:
            return (
                "it has physical actions, physical connections or watchdogs, and what is under way outside of tags "
                "cannot move. Choose another executor to run it with workers"
            )
        return ""

    def _has_seen_enough(self) -> bool:
        """Whether what was measured will do."""
        tags = self._tags - max(self._assembly.usual_from - self._since, 0)
        spent_ns = [end - begin for _, number, begin, end in self.conductor.worker.notes.spans if number >= self._since]
        if tags < _FEWEST_TAGS or not spent_ns:
            return False
        return tags >= _MOST_TAGS or sum(spent_ns) >= _LONG_ENOUGH_NS

    def _choose(self) -> None:
        """Stay, or move."""
        self._measuring = False
        costs = self._costs()
        alone = estimate(self._assembly, costs, 1, None)
        # Others may keep any processor of the machine busy, also one that this process may not use.
        free = min(processors(), max(1, (os.cpu_count() or 1) - int(statistics.median(self._busy))))
        candidates = [
            estimate(self._assembly, costs, workers, self._placement(workers))
            for workers in range(2, min(self._most, free) + 1)
            if max((self._placement(workers) or {}).values(), default=0) < workers
        ]
        best = min(candidates, key=lambda candidate: candidate.tag_ns, default=alone)
        parallel = _threads_are_parallel()
        if not candidates:
            self._stay(f"other processes keep the other processors busy ({processors()} in all)")
        elif best.tag_ns > _GAIN * alone.tag_ns:
            self._stay(
                f"a tag takes about {alone.tag_ns / 1e3:.1f} us in one thread and would take "
                f"{best.tag_ns / 1e3:.1f} us with {best.workers} workers"
            )
        elif not parallel and (not fork_is_safe() or not hasattr(os, "fork")):
            self._stay(
                "this process has several threads, so what was built cannot be forked off. NumPy starts some: run with "
                "OPENBLAS_NUM_THREADS=1. Or choose executor='processes', which builds everything where it will live"
            )
        else:
            self._move(alone, best, threads=parallel)
        # In real time a tag takes as long as one waits for it.
        if self.chosen == "inline" and self._how["fast"]:
            self._watch = _Watch(_LONGER * alone.tag_ns + _LONGER_BY_NS, self._window)

    def _stay(self, reason: str) -> None:
        """Go on inline, without measuring."""
        self.reason = reason
        self._executor = InlineExecutor(self._assembly, **self._how, before=self._executor.conductor)

    def _measure_again(self) -> None:
        """Go on inline, measuring what is coming."""
        self._watch, self._measuring = None, True
        self._since, self._tags, self._busy = self.conductor.worker.clock.turn, 0, []
        timed = replace(self._how["settings"], timeline=True)
        how = {**self._how, "settings": timed}
        self._executor = InlineExecutor(self._assembly, **how, before=self._executor.conductor)

    def _move(self, alone: Estimate, best: Estimate, *, threads: bool) -> None:
        """Go on with workers."""
        self.chosen = "threads" if threads else "processes"
        self.reason = (
            f"a tag takes about {alone.tag_ns / 1e3:.1f} us in one thread and should take {best.tag_ns / 1e3:.1f} us "
            f"with {best.workers} workers"
        )
        before = self._executor.conductor
        more = self._how | {"placement": self._placement(best.workers), "native": self._native, "before": before}
        if threads:
            self._executor = ThreadsExecutor(self._assembly, best.workers, spin=True, **more)
            return
        gc.collect()
        try:
            with deferred_interrupts():
                self._executor = ProcessesExecutor(self._assembly, None, best.workers, start_method="fork", **more)
        except (OSError, OutOfSharedMemory) as error:
            self.chosen = "inline"
            self._stay(f"workers could not be started: {error}")

    def _costs(self) -> list[float]:
        """What each reaction costs in a tag, in nanoseconds."""
        notes = self.conductor.worker.notes
        first = max(self._assembly.usual_from, self._since)
        durations: dict[int, list[int]] = defaultdict(list)
        for what, number, begin, end in notes.spans:
            if what >= 0 and number >= first:
                durations[what].append(end - begin - _TIMING_NS)
        tags = max(self._tags - (first - self._since), 1)
        return [
            max(0.0, statistics.median(durations[rank])) * min(1.0, len(durations[rank]) / tags)
            if rank in durations
            else 0.0
            for rank in range(len(self._assembly.reactions))
        ]


def estimate(assembly: Assembly, costs: Sequence[float], workers: int, placement: Mapping[str, int] | None) -> Estimate:
    """How long a tag would take with so many workers, if its reactions cost so much."""
    partition = Partition(assembly, workers, placement)
    home = [partition.placement[row.reactor] for row in assembly.reactions]
    free = [0.0] * workers
    done: list[float] = []
    for rank, cost in enumerate(costs):
        here = home[rank]
        begin = free[here]
        for earlier in assembly.before[rank]:
            begin = max(begin, done[earlier] + (_HOP_NS if home[earlier] != here else 0))
        free[here] = begin + cost + (_RUN_NS if cost else 0)
        done.append(free[here])
    if workers == 1:
        return Estimate(1, free[0])
    letters = sum(1 for lane in partition.recipients if any(costs[r] for r in _writers(assembly, lane)))
    return Estimate(workers, max(free) + _TAG_NS + _LETTER_NS * min(letters, 2))


def _writers(assembly: Assembly, lane: int) -> list[int]:
    """Ranks of the reactions that set a lane in most of their tags; one that also fills arrays sets it rarely."""
    port = assembly.lanes[lane].port
    return [
        rank
        for rank, row in enumerate(assembly.reactions)
        if port in row.writes and all(other.shape is None for other in row.writes)
    ]


def _threads_are_parallel() -> bool:
    """Whether this interpreter runs threads side by side."""
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is not None and not enabled()


def _busy_elsewhere() -> int:
    """How many other processes want a processor now, 0 where nobody tells."""
    try:
        running = Path("/proc/loadavg").read_text(encoding="ascii").split()[3].split("/")[0]
    except OSError:
        return 0
    return max(0, int(running) - 1)
