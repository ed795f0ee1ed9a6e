"""The watch time: a reaction that does not return ends the program.

Each worker says in four words what it runs and since when. While the program advances, a thread of the calling
process looks at them. A worker process that is stuck is killed; the calling thread is told where it waits, or is
interrupted if it is itself what is stuck. Without a watch time none of this exists.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from runtimes.reactor.errors import ReactionStuck, ReactorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from runtimes.reactor.assembly import Assembly
    from runtimes.reactor.live import Clock, Words
    from runtimes.reactor.partition import Partition

__all__ = ["WATCH_WORDS", "Watch", "Watched", "watch_threads", "watching"]

WATCH_WORDS: Final = 4
"""What a worker says: since when it runs something (`perf_counter_ns`; 0 if it does not), what, time, microstep."""
_LOOKS: Final = 10
"""How often to look within a watch time."""
_LONGEST_SLICE_S: Final = 0.05
_PATIENCE_S: Final = 0.1
"""How long the calling thread may take to look around by itself before it is interrupted."""
_NAMED: Final = 3
"""So many of those who wait are named."""
_LAST_RESORT_S: Final = 1.0
"""How long it may take to end when interrupted."""


class Watched:
    """What one worker says of what it runs."""

    def __init__(self, assembly: Assembly, words: Words) -> None:
        """Say it in `words`."""
        self._index = {where: index for index, where in enumerate(_places(assembly))}
        self._words = words

    def around(self, body: Callable[[], Any], where: tuple[str, str], clock: Clock) -> Callable[[], Any]:
        """`body`, saying while it runs that it does; `where` names reactor and reaction."""
        words, index = self._words, self._index[where]

        def run() -> Any:
            words[1], words[2], words[3] = index, clock.time_ns, clock.microstep
            words[0] = perf_counter_ns()
            try:
                return body()
            finally:
                words[0] = 0

        return run


class Watch:
    """Looks after all workers of a program, from the calling process."""

    def __init__(
        self,
        partition: Partition,
        watch_s: float,
        words: Sequence[Words],
        *,
        fate: Callable[[int], str],
        give_up: Callable[[int], None],
    ) -> None:
        """Look at the `words` of each worker.

        Args:
            partition: How the program is cut.
            watch_s: How long a reaction may run, in seconds.
            words: Of each worker, `WATCH_WORDS` of them.
            fate: Says what becomes of a worker that is stuck, by its number.
            give_up: Ends such a worker where that can be done.
        """
        self._partition = partition
        self._places = _places(partition.assembly)
        self._watch_ns = round(watch_s * 1e9)
        self._slice_s = min(watch_s / _LOOKS, _LONGEST_SLICE_S)
        self._words = words
        self._fate = fate
        self._give_up = give_up
        self.stuck: ReactionStuck | None = None
        """What was found."""
        self._raised = threading.Event()
        self._over = threading.Event()

    def watched(self, worker: int) -> Watched:
        """What a worker of this process says of what it runs."""
        return Watched(self._partition.assembly, self._words[worker])

    def look_around(self) -> None:
        """Raise what was found; called where the calling thread waits.

        Raises:
            ReactionStuck: if a reaction is stuck.
        """
        if self.stuck is not None and threading.current_thread() is self._caller:
            self._raised.set()
            raise self.stuck

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """Watch while the calling thread is in the block.

        Raises:
            ReactionStuck: if a reaction is stuck.
        """
        self._caller = threading.current_thread()
        self._over.clear()
        try:
            with self._signals_taken():
                thread = threading.Thread(target=self._look, name="reactor-watch", daemon=True)
                thread.start()
                try:
                    yield
                finally:
                    self._over.set()
                    thread.join()
        except (ReactorError, _Interrupted):
            if self.stuck is None:
                raise
        finally:
            self._over.set()
        if self.stuck is not None:
            raise self.stuck

    @contextlib.contextmanager
    def _signals_taken(self) -> Iterator[None]:
        """Have SIGINT come here, if this is the thread that signals go to."""
        if self._caller is not threading.main_thread():
            yield
            return
        self._before: Any = signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.SIG_DFL if self._before is None else self._before)

    def _look(self) -> None:
        """Look at all workers now and then; end the program if a reaction runs for too long."""
        while not self._over.wait(self._slice_s):
            for worker, words in enumerate(self._words):
                begin_ns, index, time_ns, microstep = words
                running_ns = perf_counter_ns() - begin_ns
                # If it still runs since then, what was read in between belongs to it.
                if begin_ns and running_ns > self._watch_ns and words[0] == begin_ns:
                    circumstances = " ".join(filter(None, [self._fate(worker), self._waiting_for(worker, index)]))
                    self.stuck = ReactionStuck(
                        *self._places[index], (time_ns, microstep), running_ns / 1e9, circumstances
                    )
                    self._give_up(worker)
                    self._tell_caller()
                    return

    def _waiting_for(self, worker: int, index: int) -> str:
        """Which reactions of other workers wait for a port that the stuck one may set."""
        assembly, home = self._partition.assembly, self._partition.placement
        if index >= len(assembly.reactions):
            return ""
        ports = assembly.reactions[index].writes
        lanes = {lane.index: lane for lane in assembly.lanes if lane.port in ports}
        waiting = [
            f"'{row.path}' in worker {home[row.reactor]} waits for '{lanes[feed.lane].port}'"
            for row in assembly.reactions
            if home[row.reactor] != worker and not row.hidden
            for feed in assembly.feeds_of(row)
            if feed.lane in lanes and not feed.delay_tags
        ]
        named = list(dict.fromkeys(waiting))
        more = f", and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        return f"{', '.join(named[:_NAMED])}{more}." if named else ""

    def _tell_caller(self) -> None:
        """Let the calling thread raise what was found."""
        if self._raised.wait(_PATIENCE_S) or self._over.is_set():
            return
        if self._caller is threading.main_thread():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        if self._over.wait(_LAST_RESORT_S):
            return
        sys.stderr.write(f"{self.stuck} It could not be interrupted, so the process ends.\n")
        sys.stderr.flush()
        os._exit(1)

    def _on_signal(self, number: int, frame: Any) -> None:
        """Be interrupted: by the watch, or by what SIGINT means otherwise."""
        if self.stuck is not None:
            if not self._over.is_set():
                raise _Interrupted
        elif callable(self._before):
            self._before(number, frame)


def watch_threads(partition: Partition, watch_s: float | None, fate: Callable[[int], str]) -> Watch | None:
    """Who looks after workers that are threads of one process, and cannot be ended; None without a watch time."""
    if watch_s is None:
        return None
    words = [[0] * WATCH_WORDS for _ in range(partition.workers)]
    return Watch(partition, watch_s, words, fate=fate, give_up=lambda _: None)


def watching(watch: Watch | None) -> AbstractContextManager[None]:
    """A block in which `watch` looks, if there is one."""
    return contextlib.nullcontext() if watch is None else watch.on()


class _Interrupted(BaseException):
    """The calling thread is to stop what it does; nothing that a reaction catches by accident."""


def _places(assembly: Assembly) -> list[tuple[str, str]]:
    """Reactor and name of all that is watched: reactions by rank, then handlers of watchdogs."""
    return [(row.reactor, row.name) for row in assembly.reactions] + [
        (path, handler.name) for path, reactor in assembly.reactors.items() for handler in reactor.declared.handlers
    ]
