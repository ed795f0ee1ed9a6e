"""What the harness raises, and the exit status each means.

HarnessError
 +-- UsageError        2   bad input: names the value, the rule and the remedy
 +-- Interrupted     130   Ctrl-C; what was measured is kept
"""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

__all__ = [
    "WORST_FIRST",
    "ExitStatus",
    "HarnessError",
    "Interrupted",
    "UsageError",
    "did_you_mean",
    "worst_of",
    "writing",
]


class ExitStatus(IntEnum):
    """Exit statuses of every command."""

    OK = 0
    REGRESSION = 1
    DIFFERENT = 1
    """What the same status means for `verify`."""
    USAGE = 2
    FAILED_OR_INVALID = 3
    NOTHING_MEASURED = 4
    TIMED_OUT = 124
    INTERRUPTED = 130


WORST_FIRST = (
    ExitStatus.INTERRUPTED,
    ExitStatus.FAILED_OR_INVALID,
    ExitStatus.TIMED_OUT,
    ExitStatus.REGRESSION,
    ExitStatus.USAGE,
    ExitStatus.NOTHING_MEASURED,
)
"""Which one is told where several hold: the first of these."""


def worst_of(statuses: Collection[ExitStatus]) -> ExitStatus:
    """The status that is told where all of `statuses` hold."""
    return next((status for status in WORST_FIRST if status in statuses), ExitStatus.OK)


class HarnessError(Exception):
    """Something that the harness reports in one message, without a traceback."""

    status = ExitStatus.FAILED_OR_INVALID


class UsageError(HarnessError):
    """The input breaks a rule; nothing has been done yet."""

    status = ExitStatus.USAGE


class Interrupted(HarnessError):  # noqa: N818 - what happened, not an error
    """The user pressed Ctrl-C; the records of finished invocations are on disk."""

    status = ExitStatus.INTERRUPTED


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, else all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(names) or 'none'}."


@contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Say of a full disk, or of whatever else the system refuses, what could not be written where.

    Raises:
        UsageError: in place of the operating system's error.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"{what} cannot be written to {folder}: {error.strerror or error}. Make room.") from error
