"""Traces that people write down and read: one line for each reaction that ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtimes.reactor.digest import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.reactor.reference import Ran

__all__ = ["Line", "at", "late_at", "lines_of_reference", "lines_of_trace"]

_VALUES: dict[str, str] = {}
"""What digests stand for, as far as it was written down or interpreted here: makes a difference readable."""


@dataclass(frozen=True, slots=True)
class Line:
    """A reaction that ran at a tag, and digests of the outputs that it set: port, channel, digest."""

    time_ns: int
    microstep: int
    path: str
    late: bool
    outputs: tuple[tuple[str, int, str], ...]

    def __repr__(self) -> str:
        """As people write it."""
        outputs = "".join(f" {port}[{channel}]={_VALUES.get(digest, digest)}" for port, channel, digest in self.outputs)
        return f"<({self.time_ns}, {self.microstep}) {self.path}{' late' if self.late else ''}{outputs}>"


def at(time_ns: int, microstep: int, path: str, **outputs: Any) -> Line:
    """The line that is expected; channels other than the first are given as `**{"port[1]": value}`."""
    return _line(time_ns, microstep, path, outputs, late=False)


def late_at(time_ns: int, microstep: int, path: str, **outputs: Any) -> Line:
    """As `at`, for the handler of a violated deadline."""
    return _line(time_ns, microstep, path, outputs, late=True)


def _line(time_ns: int, microstep: int, path: str, outputs: dict[str, Any], *, late: bool) -> Line:
    named = []
    for key, value in outputs.items():
        port, _, channel = key.removesuffix("]").partition("[")
        named.append((port, int(channel or 0), _known(value)))
    return Line(time_ns, microstep, path, late, tuple(sorted(named)))


def lines_of_trace(steps: Iterable[Any]) -> list[Line]:
    """What a program has recorded."""
    return [Line(s.time_ns, s.microstep, _path(s.reactor, s.reaction), s.late, tuple(s.outputs)) for s in steps]


def lines_of_reference(log: Iterable[Ran]) -> list[Line]:
    """What the reference interpreter has run."""
    return [
        Line(
            ran.time_ns,
            ran.microstep,
            _path(ran.reactor, ran.reaction),
            ran.late,
            tuple((port, channel, _known(value)) for port, channel, value in ran.outputs),
        )
        for ran in log
    ]


def _path(reactor: str, reaction: str) -> str:
    return f"{reactor}.{reaction}" if reactor else reaction


def _known(value: Any) -> str:
    digest = digest_of(value)
    _VALUES[digest] = repr(value)
    return digest
