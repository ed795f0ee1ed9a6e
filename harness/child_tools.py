"""What all that a child process does with a session has in common."""

from __future__ import annotations

import contextlib
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runtimes.protocol import Runtime
    from workloads.dataflow import Session

__all__ = ["closed_on_error", "first_line", "notice_of", "summed"]


@contextlib.contextmanager
def closed_on_error(session: Session) -> Iterator[None]:
    """Close `session` if the block raises; what closing a broken session raises then is only printed."""
    try:
        yield
    except BaseException:
        try:
            session.close()
        except Exception:  # noqa: BLE001 - the first error is the one to report
            traceback.print_exc()
        raise


def summed(tallies: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, int | None]:
    """The sums over all tasks of the tallies that the harness reports; None where no task keeps one."""
    members = [member for bank in tallies.values() for member in bank]
    counts: dict[str, int | None] = {}
    for name in ("resets", "emulator_frames", "updates"):
        kept = [int(member[name]) for member in members if name in member]
        counts[name] = sum(kept) if kept else None
    return counts


def notice_of(runtime: Runtime, options: Any) -> str | None:
    """What a reader must know about these options of `runtime`."""
    return None if runtime.notice is None else runtime.notice(options)


def first_line(error: BaseException) -> str:
    """`ValueError: what it says first`."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
