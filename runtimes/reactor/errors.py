"""What the reactor runtime raises.

ReactorError
 +-- AssemblyError       the program breaks a rule of the model; nothing has run
 |    +-- CausalityError      reactions wait for one another within a tag; the cycle is printed
 +-- UndeclaredError     a reaction did what it did not declare, or something is used outside a running program
 +-- ReactionFailed      a reaction raised; names reactor, reaction and tag
 +-- ReactionStuck       a reaction took longer than the watch time
 +-- WorkerDied          a worker process ended without being asked to
 +-- OutOfSharedMemory   there is not as much shared memory as the program wants
 +-- TraceUnreadable     a file that should hold a trace does not; names line and rule
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "AssemblyError",
    "CausalityError",
    "OutOfSharedMemory",
    "ReactionFailed",
    "ReactionStuck",
    "ReactorError",
    "TraceUnreadable",
    "UndeclaredError",
    "WorkerDied",
    "did_you_mean",
    "not_answered",
    "summary_of",
]


class ReactorError(Exception):
    """The base of all errors of this library."""


class AssemblyError(ReactorError):
    """A program breaks a rule of the model; the message names ports or reactions, the rule and the remedy."""


class CausalityError(AssemblyError):
    """Reactions depend on one another within one tag."""


class UndeclaredError(ReactorError):
    """A reaction did something that it does not declare; the message says what to declare."""


class ReactionFailed(ReactorError):  # noqa: N818 - what happened
    """A reaction raised an exception, here or in a worker process.

    The exception is the cause where it happened in this process; `remote_traceback` holds its text
    where it did not.
    """

    def __init__(
        self, reactor: str, reaction: str, tag: tuple[int, int], summary: str, remote_traceback: str = ""
    ) -> None:
        """Name the failure; `tag` is (nanoseconds, microstep), `summary` the exception's type and message."""
        super().__init__(reactor, reaction, tag, summary, remote_traceback)
        self.reactor = reactor
        self.reaction = reaction
        self.tag = tag
        self.summary = summary
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        """One line, and below it the traceback of the other process, if there was one."""
        where = f"{self.reactor}.{self.reaction}" if self.reactor else self.reaction
        line = f"Reaction '{where}' failed at tag ({self.tag[0]} ns, {self.tag[1]}): {self.summary}"
        return f"{line}\n\nTraceback in the worker:\n{self.remote_traceback}" if self.remote_traceback else line


class ReactionStuck(ReactorError):  # noqa: N818 - what happened
    """A reaction had not returned when the watch time was over."""

    def __init__(self, reactor: str, reaction: str, tag: tuple[int, int], running_s: float, circumstances: str) -> None:
        """Name it, with how long it was running then, in seconds, and where, and who waits for it."""
        super().__init__(reactor, reaction, tag, running_s, circumstances)
        self.reactor = reactor
        self.reaction = reaction
        self.tag = tag
        self.running_s = running_s
        self.circumstances = circumstances

    def __str__(self) -> str:
        """One line."""
        where = f"{self.reactor}.{self.reaction}" if self.reactor else self.reaction
        return (
            f"Reaction '{where}' has not returned for {self.running_s:.3g} s at tag ({self.tag[0]} ns, {self.tag[1]}). "
            f"{self.circumstances}"
        )


class WorkerDied(ReactorError):  # noqa: N818 - what happened
    """A worker process ended without being asked to; the message says which, how and when."""


class OutOfSharedMemory(ReactorError):  # noqa: N818 - what happened
    """There is not as much shared memory as wanted; the message says how much, for what, and what helps."""


class TraceUnreadable(ReactorError):  # noqa: N818 - what happened
    """A file that should hold a trace cannot be read as one; the message names the line and the rule."""


def summary_of(error: BaseException) -> str:
    """The type and message of an exception, also of one whose message cannot be had."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as another:  # noqa: BLE001 - whatever its __str__ raises
        return f"{type(error).__name__} (its message cannot be had: __str__ raised {type(another).__name__})"


def not_answered(path: str, method: str, error: Exception) -> ReactorError:
    """What to raise where the reactor at `path` was asked for `method`, which raised `error`."""
    return ReactorError(f"'{method}' of reactor '{path}' failed: {summary_of(error)}")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A sentence that suggests the nearest known name, or lists all."""
    names = list(known)
    near = get_close_matches(given, names, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(names) or 'none'}."
