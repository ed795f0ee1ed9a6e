"""Timelines: when every reaction ran and every worker waited, on the clock of the machine.

A trace says what a program did; a timeline says how long it took. It is measured only if asked for, is
shown by Perfetto (`save`), and is summed up (`summary`): which reactions cost most, how much of its time
each worker waited, and which chain of reactions made a tag as long as it was.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from runtimes.reactor.whole_file import written_whole

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from runtimes.reactor.tags import Tag

__all__ = ["DECIDING", "CriticalPath", "ReactionSummary", "Summary", "Timeline", "WorkerSummary", "waiting_for"]

DECIDING: Final = -1000
"""What a worker did while it took part in choosing the next tag, or waited to be told it."""

Span = tuple[int, int, int, int]
"""What was done (the rank of a reaction, `waiting_for(peer)` or `DECIDING`), the number of the tag, and when it
began and ended in nanoseconds on a clock that all workers share. Spans of one worker do not overlap."""

ROWS_SHOWN: Final = 20
PATHS_SHOWN: Final = 5


class _Run(NamedTuple):
    """One execution of a reaction."""

    worker: int
    begin_ns: int
    end_ns: int


def waiting_for(peer: int) -> int:
    """What a worker did while it waited for worker `peer`."""
    return -1 - peer


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionSummary:
    """What one reaction cost."""

    reaction: str
    """Path of the reactor and name, as in `driver.fire`."""
    worker: int
    count: int
    total_s: float
    p50_s: float
    p99_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSummary:
    """How one worker spent the time of the program."""

    worker: int
    busy_s: float
    """In reactions."""
    waiting_s: float
    """For other workers, and for the next tag."""
    other_s: float
    """The rest: the runtime's own work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalPath:
    """Reactions that wait for one another within a tag, and together took longer than any other such chain."""

    reactions: tuple[str, ...]
    tags: int
    """At how many tags this chain was the longest."""
    median_s: float
    """Of what its reactions took together at these tags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A timeline in numbers."""

    tags: int
    elapsed_s: float
    """From the first beginning to the last end."""
    reactions: tuple[ReactionSummary, ...]
    """Those that ran, the costliest first."""
    workers: tuple[WorkerSummary, ...]
    critical_paths: tuple[CriticalPath, ...]
    """The most frequent first. What no tag can be shorter than, however many workers there are."""

    def __str__(self) -> str:
        """Tables for a terminal; the longest lists are cut."""
        reactions = [
            (r.reaction, r.worker, r.count, _milli(r.total_s), _micro(r.p50_s), _micro(r.p99_s)) for r in self.reactions
        ]
        workers = [
            (f"worker {w.worker}", _milli(w.busy_s), _milli(w.waiting_s), _milli(w.other_s)) for w in self.workers
        ]
        paths = [(" > ".join(p.reactions), p.tags, _micro(p.median_s)) for p in self.critical_paths]
        return "\n\n".join(
            [
                f"{self.tags} tags in {_milli(self.elapsed_s)} ms",
                _table(("reaction", "worker", "count", "total ms", "p50 us", "p99 us"), reactions, ROWS_SHOWN),
                _table(("", "busy ms", "waiting ms", "other ms"), workers, ROWS_SHOWN),
                _table(("critical path of a tag", "tags", "median us"), paths, PATHS_SHOWN),
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What every worker did, and when."""

    spans: Mapping[int, Sequence[Span]]
    """By worker, each in ascending order."""
    reactions: Sequence[str]
    """Path of the reactor and name of every reaction, by rank."""
    home: Sequence[int]
    """The worker of every reaction, by rank."""
    tags: Mapping[int, Tag] | Sequence[Tag]
    """By number."""
    predecessors: Sequence[Sequence[int]]
    """By rank, the lower ranks that a reaction depends on within a tag."""

    def summary(self) -> Summary:
        """The timeline in numbers."""
        durations_ns: dict[int, list[int]] = defaultdict(list)
        for what, _, begin_ns, end_ns in self._all():
            durations_ns[what].append(end_ns - begin_ns)
        reactions = [self._reaction(rank, durations_ns[rank]) for rank in sorted(durations_ns) if rank >= 0]
        first_ns, last_ns = self._bounds_ns()
        elapsed_ns = last_ns - first_ns
        return Summary(
            tags=len({number for what, number, _, _ in self._all() if what >= 0}),
            elapsed_s=elapsed_ns / 1e9,
            reactions=tuple(sorted(reactions, key=lambda reaction: -reaction.total_s)),
            workers=tuple(_worker(worker, self.spans[worker], elapsed_ns) for worker in sorted(self.spans)),
            critical_paths=self._critical_paths(),
        )

    def of_tags(self, numbers: Container[int]) -> Timeline:
        """The part of the timeline that belongs to the tags with these numbers."""
        spans = {worker: [span for span in spans if span[1] in numbers] for worker, spans in self.spans.items()}
        return replace(self, spans=spans)

    def perfetto(self) -> dict[str, Any]:
        """The timeline in the trace event format, which https://ui.perfetto.dev and chrome://tracing show.

        Workers are its processes, their reactors and their waiting its threads; flows lead from a reaction
        to those that depended on it in the same tag.
        """
        tracks = _Tracks(self)
        origin_ns, _ = self._bounds_ns()
        events = [*tracks.names(), *self._tag_slices(tracks.tags, origin_ns), *self._slices(tracks, origin_ns)]
        return {"traceEvents": [*events, *self._flows(tracks, origin_ns)], "displayTimeUnit": "ns"}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `perfetto()` to `path` as JSON."""
        with written_whole(path) as file:
            json.dump(self.perfetto(), file, separators=(",", ":"))

    def _all(self) -> Iterator[Span]:
        return (span for spans in self.spans.values() for span in spans)

    def _bounds_ns(self) -> tuple[int, int]:
        """The first beginning and the last end; zeros where there is nothing."""
        begins = (span[2] for span in self._all())
        return min(begins, default=0), max((span[3] for span in self._all()), default=0)

    def _reaction(self, rank: int, durations_ns: list[int]) -> ReactionSummary:
        p50_ns, p99_ns = np.quantile(durations_ns, [0.5, 0.99])
        return ReactionSummary(
            reaction=self.reactions[rank],
            worker=self.home[rank],
            count=len(durations_ns),
            total_s=sum(durations_ns) / 1e9,
            p50_s=float(p50_ns) / 1e9,
            p99_s=float(p99_ns) / 1e9,
        )

    def _by_tag(self) -> dict[int, dict[int, _Run]]:
        """The executions by number of the tag and by rank, both ascending."""
        ran: dict[int, dict[int, _Run]] = defaultdict(dict)
        for worker, spans in self.spans.items():
            for what, number, begin_ns, end_ns in spans:
                if what >= 0:
                    ran[number][what] = _Run(worker, begin_ns, end_ns)
        return {number: dict(sorted(ran[number].items())) for number in sorted(ran)}

    def _critical_paths(self) -> tuple[CriticalPath, ...]:
        lengths_ns: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for ran in self._by_tag().values():
            path, length_ns = self._longest(ran)
            lengths_ns[path].append(length_ns)
        paths = [
            CriticalPath(
                reactions=tuple(self.reactions[rank] for rank in path),
                tags=len(lengths),
                median_s=float(np.median(lengths)) / 1e9,
            )
            for path, lengths in lengths_ns.items()
        ]
        return tuple(sorted(paths, key=lambda path: (-path.tags, -path.median_s, path.reactions)))

    def _longest(self, ran: Mapping[int, _Run]) -> tuple[tuple[int, ...], int]:
        """The longest chain of reactions among those that ran in a tag, by rank, and its length in nanoseconds."""
        length_ns: dict[int, int] = {}
        chain: dict[int, tuple[int, ...]] = {}
        for rank, run in ran.items():
            length_ns[rank], chain[rank] = run.end_ns - run.begin_ns, (rank,)
            sources = [source for source in self.predecessors[rank] if source in ran]
            if sources:
                source = max(sources, key=length_ns.__getitem__)
                length_ns[rank] += length_ns[source]
                chain[rank] = (*chain[source], rank)
        last = max(length_ns, key=length_ns.__getitem__)
        return chain[last], length_ns[last]

    def _slices(self, tracks: _Tracks, origin_ns: int) -> Iterator[dict[str, Any]]:
        """A slice for everything that a worker did."""
        for worker, spans in self.spans.items():
            for what, number, begin_ns, end_ns in spans:
                pid, tid = tracks.track(worker, what)
                name, category = self._wording(what)
                yield {
                    "ph": "X",
                    "name": name,
                    "cat": category,
                    "pid": pid,
                    "tid": tid,
                    "ts": (begin_ns - origin_ns) / 1e3,
                    "dur": _shown_ns(begin_ns, end_ns) / 1e3,
                    "args": self._about(number),
                }

    def _wording(self, what: int) -> tuple[str, str]:
        """Name and category of a slice."""
        if what >= 0:
            return _split(self.reactions[what])[1], "reaction"
        return ("next tag" if what == DECIDING else f"wait for worker {-1 - what}"), "waiting"

    def _tag_slices(self, track: tuple[int, int], origin_ns: int) -> Iterator[dict[str, Any]]:
        """A slice for every tag, from its first reaction to its last; cut where the next one begins."""
        by_tag = self._by_tag()
        begins_ns = [min(run.begin_ns for run in ran.values()) for ran in by_tag.values()]
        for (number, ran), begin_ns, next_ns in zip_longest(by_tag.items(), begins_ns, begins_ns[1:]):
            end_ns = max(run.end_ns for run in ran.values())
            yield {
                "ph": "X",
                "name": f"tag {self.tags[number]}",
                "cat": "tag",
                "pid": track[0],
                "tid": track[1],
                "ts": (begin_ns - origin_ns) / 1e3,
                "dur": _shown_ns(begin_ns, end_ns if next_ns is None else min(end_ns, next_ns)) / 1e3,
                "args": self._about(number) | self._critical(ran),
            }

    def _flows(self, tracks: _Tracks, origin_ns: int) -> Iterator[dict[str, Any]]:
        """Two events for every dependency between reactors that both ran: where one ended and the other began."""
        identity = 0
        for number, ran in self._by_tag().items():
            for rank, run in ran.items():
                for source in self.predecessors[rank]:
                    if source not in ran or _split(self.reactions[source])[0] == _split(self.reactions[rank])[0]:
                        continue
                    identity += 1
                    common = {"name": f"tag {self.tags[number]}", "cat": "dependency", "id": identity}
                    worker, begin_ns, end_ns = ran[source]
                    # Inside the slice: at its very end, it would bind to none.
                    last_ns = begin_ns + _shown_ns(begin_ns, end_ns) - 1
                    pid, tid = tracks.track(worker, source)
                    yield common | {"ph": "s", "pid": pid, "tid": tid, "ts": (last_ns - origin_ns) / 1e3}
                    pid, tid = tracks.track(run.worker, rank)
                    ts = (run.begin_ns - origin_ns) / 1e3
                    yield common | {"ph": "f", "bp": "e", "pid": pid, "tid": tid, "ts": ts}

    def _critical(self, ran: Mapping[int, _Run]) -> dict[str, Any]:
        path, length_ns = self._longest(ran)
        names = " > ".join(self.reactions[rank] for rank in path)
        return {"critical_path": names, "critical_path_us": length_ns / 1e3}

    def _about(self, number: int) -> dict[str, Any]:
        tag = self.tags[number]
        return {"tag_number": number, "time_ns": tag.time_ns, "microstep": tag.microstep}


class _Tracks:
    """Numbers of the processes and threads of a timeline. None is 0, which Perfetto takes for the idle thread."""

    def __init__(self, timeline: Timeline) -> None:
        self.tags = (1, 1)
        self._workers = {worker: 2 + place for place, worker in enumerate(sorted(timeline.spans))}
        self._reactors = [_split(reaction)[0] for reaction in timeline.reactions]
        # Unlike that of any process: a thread with its number would count as its main thread.
        first = 2 + len(self._workers)
        self._threads: dict[tuple[int, str | None], int] = {}
        for worker in self._workers:
            ranks = sorted({span[0] for span in timeline.spans[worker] if span[0] >= 0})
            for reactor in (None, *dict.fromkeys(self._reactors[rank] for rank in ranks)):
                self._threads[worker, reactor] = first + len(self._threads)

    def track(self, worker: int, what: int) -> tuple[int, int]:
        """Process and thread that show what `worker` did."""
        return self._workers[worker], self._threads[worker, self._reactors[what] if what >= 0 else None]

    def names(self) -> Iterator[dict[str, Any]]:
        """Events that name processes and threads, and put them in order."""
        yield from _name("process", self.tags, "tags")
        yield from _name("thread", self.tags, "tags")
        for worker, pid in self._workers.items():
            yield from _name("process", (pid, pid), f"worker {worker}")
        for (worker, reactor), tid in self._threads.items():
            name = "waiting" if reactor is None else reactor or "main reactor"
            yield from _name("thread", (self._workers[worker], tid), name)


def _name(kind: str, track: tuple[int, int], name: str) -> Iterator[dict[str, Any]]:
    """The events that name the process or thread of `track`, and give it its place."""
    pid, tid = track
    place = pid if kind == "process" else tid
    yield {"ph": "M", "name": f"{kind}_name", "pid": pid, "tid": tid, "args": {"name": name}}
    yield {"ph": "M", "name": f"{kind}_sort_index", "pid": pid, "tid": tid, "args": {"sort_index": place}}


def _worker(worker: int, spans: Iterable[Span], elapsed_ns: int) -> WorkerSummary:
    busy_ns = waiting_ns = 0
    for what, _, begin_ns, end_ns in spans:
        if what >= 0:
            busy_ns += end_ns - begin_ns
        else:
            waiting_ns += end_ns - begin_ns
    return WorkerSummary(
        worker=worker,
        busy_s=busy_ns / 1e9,
        waiting_s=waiting_ns / 1e9,
        other_s=(elapsed_ns - busy_ns - waiting_ns) / 1e9,
    )


def _split(reaction: str) -> tuple[str, str]:
    """Path of the reactor, and name of the reaction."""
    reactor, _, name = reaction.rpartition(".")
    return reactor, name


def _shown_ns(begin_ns: int, end_ns: int) -> int:
    """How long a slice is drawn: one nanosecond at least, or it would hold nothing."""
    return max(end_ns - begin_ns, 1)


def _milli(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:.1f}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]], shown: int) -> str:
    """Columns under `head`, the first to the left and the others to the right; `shown` rows at most."""
    texts = [head, *(tuple(map(str, row)) for row in rows[:shown])]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in texts
    ]
    if len(rows) > shown:
        lines.append(f"and {len(rows) - shown} more")
    return "\n".join(lines)
