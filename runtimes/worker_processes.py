"""Processes that do what they are told over a pipe, one order after another; none of them outlives its owner.

Arrays and other large buffers cross a pipe as they are, beside the pickle that refers to them.
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
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runtimes.protocol import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkContext, SpawnContext
    from multiprocessing.process import BaseProcess

__all__ = ["WorkerProcesses", "start_context", "way_it_ended"]

_GRACE_S: Final = 1.0
"""How long a process may take to end by itself before it is told to."""
_APART_BYTES: Final = 65_536
"""Buffers from here on cross as they are: a copy into the pickle would cost more than a message of its own."""
_COUNT_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    """A process, as its owner sees it."""

    process: BaseProcess
    pipe: Connection
    home: str
    """Who lives there, for messages."""


class WorkerProcesses:
    """Processes that each hold an object and call the methods of it that they are told to."""

    def __init__(self, owner: str) -> None:
        """Have no process yet; messages call them processes of `owner`."""
        self.rounds = 0
        """How many rounds are done, for messages."""
        self._owner = owner
        self.context = start_context()
        self._workers: list[_Worker] = []
        self._early: dict[int, Any] = {}
        """Answers that came before they were awaited."""

    def start(self, make: Callable[[], Any], *, members: Sequence[str], processor: int | None = None) -> None:
        """Start a process that calls `make`; `members` live there. It answers None when that is done.

        With `processor` it runs on that one alone, of those that this process may use.
        """
        ours, theirs = self.context.Pipe()
        process = self.context.Process(
            target=_main, name=f"worker-{len(self._workers)}", args=(make, processor, theirs), daemon=True
        )
        process.start()
        # Held here as well, the end of the process would not be seen.
        theirs.close()
        home = f"home of {members[0]}{f' to {members[-1]}' if members[1:] else ''}"
        self._workers.append(_Worker(process=process, pipe=ours, home=home))

    def tell(self, number: int, order: str, *arguments: Any) -> None:
        """Have process `number` call the method `order`; it answers with what that gives."""
        # One that has died is found out by the answer that it does not give.
        with contextlib.suppress(ConnectionError):
            _send(self._workers[number].pipe, (order, arguments))

    def answer(self, number: int) -> Any:
        """The next answer of process `number`, awaited.

        Raises:
            RuntimeFailure: what it says has failed, or that it has died.
        """
        return self._early.pop(number) if number in self._early else self._received(number)

    def answers(self) -> list[Any]:
        """One answer of each process, in their order; a failure is raised as soon as it is known.

        Raises:
            RuntimeFailure: as `answer`.
        """
        while len(self._early) < len(self._workers):
            self.look(None)
        answers, self._early = self._early, {}
        return [answers[number] for number in sorted(answers)]

    def look(self, timeout_s: float | None = 0.0) -> None:
        """Take up answers that have come, or come within `timeout_s` (None: whenever), before they are awaited.

        Each process has been given at most one order that it has not answered.

        Raises:
            RuntimeFailure: as `answer`.
        """
        pipes: dict[Any, int] = {w.pipe: number for number, w in enumerate(self._workers) if number not in self._early}
        for pipe in connection.wait(list(pipes), timeout_s):
            self._early[pipes[pipe]] = self._received(pipes[pipe])

    def ask(self, order: str, *arguments: Any) -> list[Any]:
        """Tell every process the same; their answers.

        Raises:
            RuntimeFailure: as `answer`.
        """
        for number in range(len(self._workers)):
            self.tell(number, order, *arguments)
        return self.answers()

    def end(self) -> None:
        """Let the processes end; then tell them to; then make them."""
        for number in range(len(self._workers)):
            self.tell(number, "close")
        for how in ("", "terminate", "kill"):
            if how:
                for worker in self._workers:
                    if worker.process.exitcode is None:
                        getattr(worker.process, how)()
            deadline_s = time.monotonic() + _GRACE_S
            for worker in self._workers:
                worker.process.join(max(0.0, deadline_s - time.monotonic()))
        for worker in self._workers:
            worker.process.join()
            worker.process.close()
            worker.pipe.close()
        self._workers = []

    def _received(self, number: int) -> Any:
        """What process `number` answers next.

        Raises:
            RuntimeFailure: as `answer`.
        """
        try:
            answer = _receive(self._workers[number].pipe)
        except (EOFError, ConnectionError):
            answer = self._death_of(number)
        if isinstance(answer, RuntimeFailure):
            raise answer
        return answer

    def _death_of(self, number: int) -> RuntimeFailure:
        worker = self._workers[number]
        worker.process.join(_GRACE_S)
        return RuntimeFailure(
            f"Process {number} of {self._owner} (process {worker.process.pid}, {worker.home}) "
            f"{way_it_ended(worker.process.exitcode)} after round {self.rounds}. It cannot go on without it."
        )


def start_context() -> ForkContext | SpawnContext:
    """Copies of this process where it has a single thread, so that a copy is whole; else fresh interpreters."""
    threads = Path("/proc/self/task")
    alone = threads.exists() and len(list(threads.iterdir())) == 1
    return multiprocessing.get_context("fork") if alone else multiprocessing.get_context("spawn")


def way_it_ended(code: int | None) -> str:
    """How a process with exit code `code` ended: `was killed by SIGKILL`."""
    return f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with status {code}"


# -------------------------------------------------------------------------------------- the process


def _main(make: Callable[[], Any], processor: int | None, pipe: Connection) -> None:
    """Make the object and do what its owner orders, until it closes it or is gone."""
    # Ctrl-C goes to the whole group; the owner decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if processor is not None:
        _pin(processor)
    try:
        held = make()
        # What was built so far is for good, and no collection need look at it.
        gc.collect()
        gc.freeze()
        _send(pipe, None)
        _obey(held, pipe)
    except (EOFError, ConnectionError):
        pass  # the owner is gone
    except Exception as error:  # noqa: BLE001 - whatever it is, the owner has to know
        known = isinstance(error, RuntimeFailure)
        failure = error if known else RuntimeFailure(f"{type(error).__name__}: {error}")
        failure.add_note(traceback.format_exc())
        _send(pipe, failure)


def _end_with_parent() -> None:
    """End this process when its parent does, whatever it is doing.

    A forked sibling holds the sentinel of those before it, but it ends first: the last one has none of them.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _pin(number: int) -> None:
    """Let this process run on the `number`-th of the processors that it may use, where that can be said."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})


def _obey(held: Any, pipe: Connection) -> None:
    """Answer every order with what the method of its name gives; the last is `close`."""
    order = ""
    while order != "close":
        order, arguments = _receive(pipe)
        _send(pipe, getattr(held, order)(*arguments))


# -------------------------------------------------------------------------------------- the messages


def _send(pipe: Connection, value: Any) -> None:
    """Send `value`: a count and a pickle in one message, then so many buffers in one message each."""
    buffers: list[memoryview] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < _APART_BYTES:
            return True
        buffers.append(raw)
        return False

    pickled = pickle.dumps(value, protocol=5, buffer_callback=is_small)
    pipe.send_bytes(len(buffers).to_bytes(_COUNT_BYTES) + pickled)
    for buffer in buffers:
        pipe.send_bytes(buffer)


def _receive(pipe: Connection) -> Any:
    """What `_send` sent at the other end; large arrays in it are read-only."""
    message = memoryview(pipe.recv_bytes())
    count = int.from_bytes(message[:_COUNT_BYTES])
    return pickle.loads(message[_COUNT_BYTES:], buffers=[pipe.recv_bytes() for _ in range(count)])  # noqa: S301 - from a process of ours
