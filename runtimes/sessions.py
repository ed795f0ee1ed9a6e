"""What sessions have in common whose tasks live in several processes: when they are usable, and how they end."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from runtimes.protocol import RuntimeFailure
from workloads.dataflow import Session

if TYPE_CHECKING:
    from runtimes.places import Place
    from runtimes.worker_processes import WorkerProcesses

__all__ = ["ProcessSession", "close_tasks"]


class ProcessSession(Session):
    """A session that holds processes, and lets go of all of them however it ends."""

    def __init__(self) -> None:
        """Be open; nothing has failed yet."""
        self._open = True
        self._failed = False

    def close(self) -> None:
        """Close every task and end all that was started; after a failure, whatever it is doing.

        Raises:
            RuntimeFailure: if a task could not be closed, and nothing had failed before; all is cleaned up first.
        """
        if not self._open:
            return
        self._open = False
        error: Exception | None = None
        try:
            error = self._close_tasks()
        finally:
            self._end()
        if error is not None and not self._failed:
            raise RuntimeFailure(f"Not every task could be closed: {error}") from error

    def _check_usable(self) -> None:
        """Raise if it has failed or is closed.

        Raises:
            RuntimeFailure: if so.
        """
        if self._failed or not self._open:
            raise RuntimeFailure("This session has failed or is closed. Open another one.")

    @abstractmethod
    def _close_tasks(self) -> Exception | None:
        """Close what can still be closed; what a task raised."""

    @abstractmethod
    def _end(self) -> None:
        """End what was started."""


def close_tasks(home: Place | None, workers: WorkerProcesses | None) -> Exception | None:
    """Close the tasks of this process and of `workers`, of those that are there; what one of them raised first."""
    error: Exception | None = None
    if home is not None:
        try:
            home.close()
        except Exception as raised:  # noqa: BLE001 - raised when all is cleaned up
            error = raised
    if workers is not None:
        try:
            workers.ask("close")
        except RuntimeFailure as raised:
            error = error or raised
    return error
