"""Traces: what a run did, in the program's order, and what of it came from outside.

The steps say which reaction ran at which tag and what it set. The physical events, the late reactions and
the expired watchdogs are what depended on the clock: a replay takes them from the trace, and then gives
the same steps on every executor and any number of workers. `first_difference` compares two traces.
"""

from __future__ import annotations

import base64
import json
import pickle
from dataclasses import dataclass
from itertools import islice, takewhile, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self

from runtimes.reactor.digest import digest_of
from runtimes.reactor.errors import TraceUnreadable
from runtimes.reactor.tags import Tag
from runtimes.reactor.whole_file import written_whole

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

__all__ = [
    "DeadlineOutcome",
    "Difference",
    "PhysicalEvent",
    "SetOutput",
    "Step",
    "Trace",
    "WatchdogExpiry",
    "digest_of",
    "first_difference",
]

SCHEMA_VERSION: Final = 1

SetOutput = tuple[str, int, str]
"""Name of the port, channel (0 where the port has one only), digest of the value."""


@dataclass(frozen=True, slots=True)
class Step:
    """One reaction that ran."""

    time_ns: int
    microstep: int
    reactor: str
    """Path; empty for the main reactor."""
    reaction: str
    late: bool = False
    """Whether its deadline was violated, so that the handler ran instead."""
    outputs: tuple[SetOutput, ...] = ()
    """What it had set when it returned, sorted by port and channel."""


@dataclass(frozen=True, slots=True)
class PhysicalEvent:
    """The tag that an event from outside was given. Those of one action are in the order in which they came."""

    action: str
    """Path of the physical action, or of the hidden one behind a physical connection."""
    time_ns: int
    microstep: int
    payload: bytes | None = None
    """The value, pickled; None for a message, whose value the replay has again."""
    digest: str = ""
    """Of the value; pickles of equal values may differ."""

    @classmethod
    def of(cls, action: str, tag: tuple[int, int], value: Any) -> Self:
        """The event of `action` with `value` at `tag`.

        Raises:
            pickle.PicklingError, TypeError, AttributeError: if the value cannot be pickled.
        """
        return cls(action, tag[0], tag[1], pickle.dumps(value, protocol=5), digest_of(value))

    @property
    def value(self) -> Any:
        """The payload as a value. Unpickling runs what the file says: replay only what you trust."""
        return None if self.payload is None else pickle.loads(self.payload)  # noqa: S301 - as said above


@dataclass(frozen=True, slots=True)
class DeadlineOutcome:
    """A reaction whose deadline was violated."""

    time_ns: int
    microstep: int
    reactor: str
    reaction: str


@dataclass(frozen=True, slots=True)
class WatchdogExpiry:
    """A watchdog whose handler ran."""

    watchdog: str
    """Path."""
    time_ns: int
    """With `microstep`, the last tag of its worker before it ran."""
    microstep: int
    earliest: tuple[tuple[int, int], ...] = ()
    """Of each event that it scheduled, the earliest tag that the wall clock allowed: time and microstep."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A recorded run."""

    steps: tuple[Step, ...]
    """Ascending by tag, within a tag in the program's order."""
    physical: tuple[PhysicalEvent, ...] = ()
    expiries: tuple[WatchdogExpiry, ...] = ()

    @property
    def late(self) -> tuple[DeadlineOutcome, ...]:
        """The violated deadlines, in order; all others were met."""
        return tuple(DeadlineOutcome(s.time_ns, s.microstep, s.reactor, s.reaction) for s in self.steps if s.late)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trace to `path`, one JSON text a line; an older file there stays whole until this one is."""
        with written_whole(path) as file:
            file.writelines(_line(line) for line in self._lines())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The trace in the file at `path`.

        Raises:
            TraceUnreadable: if there is no such file, or a line of it breaks a rule.
        """
        return cls(**_Reader(Path(path)).read())

    def _lines(self) -> Iterable[dict[str, Any]]:
        yield {
            "reactor_trace": SCHEMA_VERSION,
            "steps": len(self.steps),
            "physical": len(self.physical),
            "expiries": len(self.expiries),
        }
        for step in self.steps:
            line: dict[str, Any] = {"tag": [step.time_ns, step.microstep], "reactor": step.reactor}
            line["reaction"] = step.reaction
            if step.late:
                line["late"] = True
            if step.outputs:
                line["outputs"] = step.outputs
            yield line
        for event in self.physical:
            line = {"tag": [event.time_ns, event.microstep], "physical": event.action}
            if event.payload is not None:
                line |= {"payload": base64.b64encode(event.payload).decode("ascii"), "digest": event.digest}
            yield line
        for expiry in self.expiries:
            line = {"tag": [expiry.time_ns, expiry.microstep], "watchdog": expiry.watchdog}
            if expiry.earliest:
                line["earliest"] = expiry.earliest
            yield line


Rule = Literal["steps", "reaction", "order", "late", "output", "digest", "physical", "watchdog"]
"""What differs: how far the steps go, which reaction ran, the order within a tag, whether it was late, which
outputs were set, their values; events from outside; expired watchdogs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where two traces part."""

    rule: Rule
    time_ns: int
    microstep: int
    reactor: str = ""
    reaction: str = ""
    """Empty where no reaction is at fault but an event."""
    port: str | None = None
    channel: int = 0
    first: str
    """What the first trace has there, in words."""
    second: str
    """What the second one has."""

    def __str__(self) -> str:
        """One sentence with tag, reaction and port."""
        parts = [f"At tag {Tag(self.time_ns, self.microstep)}"]
        if self.reaction:
            parts.append(f"reaction '{_joined(self.reactor, self.reaction)}'")
        if self.port is not None:
            parts.append(f"port '{self.port}'" + (f" channel {self.channel}" if self.channel else ""))
        return f"{', '.join(parts)}: {self.first} in the first trace, {self.second} in the second."


_Happenings = dict[str, list[tuple[Tag, str]]]
"""Name of an action or watchdog to tag and digest of what happened to it, in order."""


def first_difference(first: Trace, second: Trace) -> Difference | None:
    """Where `second` parts from `first`, or None if they are equal.

    Steps come first, then physical events (the k-th of an action with the k-th), then watchdogs.
    """
    for index, (one, other) in enumerate(zip(first.steps, second.steps, strict=False)):
        if one != other:
            return _between(index, first.steps, second.steps)
    return (
        _one_goes_on(first.steps, second.steps)
        or _of_happenings("physical", _physical(first), _physical(second))
        or _of_happenings("watchdog", _expiries(first), _expiries(second))
    )


def _between(index: int, first: tuple[Step, ...], second: tuple[Step, ...]) -> Difference:
    """The difference between two lists of steps that part at `index`."""
    one, other = first[index], second[index]
    if _place(one) == _place(other):
        return _within(one, other)
    if _tag(one) != _tag(other):
        return _only_in_one(one, is_first=True) if _tag(one) < _tag(other) else _only_in_one(other, is_first=False)
    if not _is_in_tag(one, second, index):
        return _only_in_one(one, is_first=True)
    if not _is_in_tag(other, first, index):
        return _only_in_one(other, is_first=False)
    return Difference(
        rule="order",
        time_ns=one.time_ns,
        microstep=one.microstep,
        reactor=one.reactor,
        reaction=one.reaction,
        first="it ran next",
        second=f"'{_joined(other.reactor, other.reaction)}' ran before it",
    )


def _within(one: Step, other: Step) -> Difference:
    """The difference between two runs of the same reaction at the same tag."""
    if one.late != other.late:
        words = {True: "its deadline was violated", False: "its deadline was met"}
        return _at(one, "late", words[one.late], words[other.late])
    here = {(port, channel): digest for port, channel, digest in one.outputs}
    there = {(port, channel): digest for port, channel, digest in other.outputs}
    port, channel = min(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    digests = (here.get((port, channel)), there.get((port, channel)))
    rule: Rule = "output" if None in digests else "digest"
    if rule == "output":
        words_of = tuple("not set" if digest is None else "set" for digest in digests)
    else:
        words_of = tuple(f"digest {digest}" for digest in digests)
    return _at(one, rule, *words_of, port=port, channel=channel)


def _only_in_one(step: Step, *, is_first: bool) -> Difference:
    ran, did_not = "it ran", "it did not run"
    return _at(step, "reaction", *((ran, did_not) if is_first else (did_not, ran)))


def _one_goes_on(first: tuple[Step, ...], second: tuple[Step, ...]) -> Difference | None:
    """The difference where one list of steps is the beginning of the other."""
    if len(first) == len(second):
        return None
    longer = max(first, second, key=len)
    step = longer[min(len(first), len(second))]
    goes_on, ends = "it runs", "the steps have ended"
    return _at(step, "steps", *((goes_on, ends) if longer is first else (ends, goes_on)))


def _at(step: Step, rule: Rule, first: str, second: str, **port: Any) -> Difference:
    return Difference(
        rule=rule,
        time_ns=step.time_ns,
        microstep=step.microstep,
        reactor=step.reactor,
        reaction=step.reaction,
        first=first,
        second=second,
        **port,
    )


def _of_happenings(rule: Literal["physical", "watchdog"], first: _Happenings, second: _Happenings) -> Difference | None:
    """The earliest difference between the k-th happenings of one name in both traces."""
    found: list[tuple[Tag, str, str, str]] = []
    for name in sorted(first.keys() | second.keys()):
        for index, (one, other) in enumerate(zip_longest(first.get(name, ()), second.get(name, ()))):
            if one != other:
                tag = min(happening[0] for happening in (one, other) if happening is not None)
                found.append((tag, name, f"number {index} of '{name}' {_words(one)}", f"it {_words(other)}"))
                break
    if not found:
        return None
    tag, _, words, other_words = min(found)
    return Difference(rule=rule, time_ns=tag.time_ns, microstep=tag.microstep, first=words, second=other_words)


def _words(happening: tuple[Tag, str] | None) -> str:
    if happening is None:
        return "does not exist"
    tag, digest = happening
    return f"has tag {tag}" + (f" and digest {digest}" if digest else "")


def _physical(trace: Trace) -> _Happenings:
    """Tags and digests of the physical events, by action."""
    by_action: _Happenings = {}
    for event in trace.physical:
        by_action.setdefault(event.action, []).append((Tag(event.time_ns, event.microstep), event.digest))
    return by_action


def _expiries(trace: Trace) -> _Happenings:
    """Tags of the expired watchdogs, by watchdog."""
    by_watchdog: _Happenings = {}
    for expiry in trace.expiries:
        by_watchdog.setdefault(expiry.watchdog, []).append((Tag(expiry.time_ns, expiry.microstep), ""))
    return by_watchdog


def _place(step: Step) -> tuple[int, int, str, str]:
    return step.time_ns, step.microstep, step.reactor, step.reaction


def _tag(step: Step) -> tuple[int, int]:
    return step.time_ns, step.microstep


def _is_in_tag(step: Step, steps: tuple[Step, ...], start: int) -> bool:
    """Whether the reaction of `step` runs among `steps` from `start` on, at the same tag."""
    same_tag = takewhile(lambda candidate: _tag(candidate) == _tag(step), islice(steps, start, None))
    return any(_place(candidate) == _place(step) for candidate in same_tag)


def _joined(reactor: str, reaction: str) -> str:
    return f"{reactor}.{reaction}" if reactor else reaction


def _line(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False) + "\n"


class _Reader:
    """Reads the file of a trace, and says which line breaks which rule."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        """Of the line at hand, from 1."""

    def read(self) -> dict[str, Any]:
        """The fields of the trace."""
        try:
            lines = self.path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except OSError as error:
            raise TraceUnreadable(f"Trace {self.path} cannot be read: {error.strerror}. Name another file.") from error
        except UnicodeDecodeError as error:
            raise TraceUnreadable(f"Trace {self.path} is not UTF-8 text. Name another file.") from error
        header = self.fields(lines[0])
        if header.get("reactor_trace") != SCHEMA_VERSION:
            self.refuse(f'it does not begin with {{"reactor_trace": {SCHEMA_VERSION}}}')
        found: dict[str, list[Any]] = {"steps": [], "physical": [], "expiries": []}
        for line in lines[1:]:
            kind, entry = self.entry(self.fields(line))
            found[kind].append(entry)
            if kind == "steps" and list(map(_tag, found[kind][-2:])) != sorted(map(_tag, found[kind][-2:])):
                self.refuse("its tag comes before that of the step before it")
        for kind, entries in found.items():
            if header.get(kind) != len(entries):
                self.refuse(f"the header promises {header.get(kind)} {kind}, the file holds {len(entries)}")
        return {kind: tuple(entries) for kind, entries in found.items()}

    def fields(self, line: str) -> dict[str, Any]:
        """The object on the next line."""
        self.number += 1
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            self.refuse(f"it is not JSON: {error.msg}")
        return fields if isinstance(fields, dict) else self.refuse("it is no JSON object")

    def entry(self, fields: dict[str, Any]) -> tuple[str, Step | PhysicalEvent | WatchdogExpiry]:
        """What a line after the header holds, and which field of the trace that belongs to."""
        time_ns, microstep = self.tag(fields.get("tag"))
        if "physical" in fields:
            payload, digest = fields.get("payload"), self.text(fields, "digest", "")
            pickled = None if payload is None else self.payload(payload)
            return "physical", PhysicalEvent(self.text(fields, "physical"), time_ns, microstep, pickled, digest)
        if "watchdog" in fields:
            earliest = fields.get("earliest", [])
            if not isinstance(earliest, list):
                self.refuse(f"its earliest is {earliest!r} and not a list of tags")
            return "expiries", WatchdogExpiry(
                self.text(fields, "watchdog"), time_ns, microstep, tuple(self.tag(tag) for tag in earliest)
            )
        late = fields.get("late", False)
        if not isinstance(late, bool):
            self.refuse(f"late is {late!r} and not true or false")
        names = self.text(fields, "reactor"), self.text(fields, "reaction")
        return "steps", Step(time_ns, microstep, *names, late, self.outputs(fields.get("outputs", [])))

    def tag(self, value: Any) -> tuple[int, int]:
        match value:
            case [int(time_ns), int(microstep)]:
                return time_ns, microstep
        return self.refuse(f"its tag is {value!r} and not [nanoseconds, microstep]")

    def outputs(self, value: Any) -> tuple[SetOutput, ...]:
        outputs: list[SetOutput] = []
        for output in value if isinstance(value, list) else [value]:
            match output:
                case [str(port), int(channel), str(digest)]:
                    outputs.append((port, channel, digest))
                case _:
                    self.refuse(f"an output is {output!r} and not [port, channel, digest]")
        return tuple(outputs)

    def payload(self, value: Any) -> bytes:
        try:
            return base64.b64decode(value, validate=True)
        except (TypeError, ValueError):
            return self.refuse("its payload is not in base 64")

    def text(self, fields: dict[str, Any], name: str, default: str | None = None) -> str:
        value = fields.get(name, default)
        return value if isinstance(value, str) else self.refuse(f"its {name} is {value!r} and not a text")

    def refuse(self, rule: str) -> NoReturn:
        raise TraceUnreadable(
            f"Trace {self.path}, line {self.number}: {rule}. Record it again, or name a file that Trace.save wrote."
        )
