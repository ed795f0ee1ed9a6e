"""What the reactor runtime raises.

ReactorError
 +-- AssemblyError       the program breaks a rule of the model; nothing has run
 |    +-- CausalityError      reactions wait for one another within a tag; the cycle is printed
 +-- ReactionFailed      a reaction raised; names reactor, reaction and tag
 +-- WorkerDied          a worker process ended without being asked to
"""

from __future__ import annotations

__all__ = ["AssemblyError", "CausalityError", "ReactionFailed", "ReactorError", "WorkerDied"]


class ReactorError(Exception):
    """The base of all errors of this library."""


class AssemblyError(ReactorError):
    """A program breaks a rule of the model; the message names ports or reactions, the rule and the remedy."""


class CausalityError(AssemblyError):
    """Reactions depend on one another within one tag."""


class ReactionFailed(ReactorError):  # noqa: N818 - what happened
    """A reaction raised an exception, here or in a worker process.

    The exception is the cause where it happened in this process; `remote_traceback` holds its text
    where it did not.
    """

    def __init__(self, reactor: str, reaction: str, tag_number: int, summary: str, remote_traceback: str = "") -> None:
        """Name the failure; `summary` is the exception's type and message."""
        super().__init__(reactor, reaction, tag_number, summary, remote_traceback)
        self.reactor = reactor
        self.reaction = reaction
        self.tag_number = tag_number
        self.summary = summary
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        """One line, and below it the traceback of the other process, if there was one."""
        line = f"Reaction '{self.reactor}.{self.reaction}' failed at tag {self.tag_number}: {self.summary}"
        return f"{line}\n\nTraceback in the worker:\n{self.remote_traceback}" if self.remote_traceback else line


class WorkerDied(ReactorError):  # noqa: N818 - what happened
    """A worker process ended without being asked to; the message says which, how and when."""
