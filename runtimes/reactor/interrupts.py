"""Ctrl-C while something is being made or taken down that must not be left half done."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["deferred_interrupts", "ignore_interrupts"]


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Let SIGINT take effect at the end of the block only; for short blocks.

    Python runs signal handlers in the main thread alone, so other threads need nothing. Processes started in the
    block begin with SIGINT blocked: else Ctrl-C, which goes to the whole group, would end one that has not said yet
    that it ignores it (`ignore_interrupts`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, Any]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    mask = _block()
    try:
        yield
    finally:
        # Blocked ones arrive here, while they are still only noted.
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # None: the handler was not set from Python, and cannot be put back from there.
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if came:
            signal.raise_signal(signal.SIGINT)


def ignore_interrupts() -> None:
    """Leave SIGINT to the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _block() -> set[int] | None:
    """Block SIGINT for this thread, where signals can be; which were blocked before."""
    if not hasattr(signal, "pthread_sigmask"):
        return None
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})}
