"""The parts of a graph in Ray actors without lock-step: who goes when is said in `parts.py`.

How an expert runs it: the driver never waits for a certain actor but for whichever is done first (`ray.wait`), and has
given each its next call before, so that none is idle while the driver fires tasks of its own. Values travel as in the
other forms: those for other actors as references that the driver never opens, a large value for several put once.
"""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from runtimes.layout import HOME
from runtimes.parts import DIFFERS, Pace, is_newest, parts_layout, why_in_one
from runtimes.protocol import Runtime, RuntimeFailure
from runtimes.ray_calls import Calls, put_once, value_for
from runtimes.ray_cluster import RayCluster, demands_of, notice_of, object_store_bytes, private_settings
from runtimes.ray_session import RaySession, get
from workloads.dataflow import EdgeShape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runtimes.layout import Feed
    from runtimes.ray_calls import Call, Fetched
    from runtimes.ray_session import Driver
    from workloads.dataflow import Graph, Session

__all__ = ["RUNTIME", "AsyncCalls", "RayAsyncOptions"]


_GIVEN_UP_S = 0.5
"""What calls that are still running after a failure get to end."""


class RayAsyncOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How many actors there are, how far they may drift apart, and Ray's settings."""

    workers: Annotated[
        int,
        msgspec.Meta(
            description="how many processes run parts of the graph, the driver counted; 0: one for each processor, and "
            "at least two. A part that is no bank's and not observed has an actor of its own in any case",
            ge=0,
        ),
    ] = 0
    staleness: Annotated[
        int,
        msgspec.Meta(
            description="how many rounds an actor or the driver may be ahead of another that it gives to or receives "
            "from, and how many rounds older than in lock-step what is broadcast may be",
            ge=0,
        ),
    ] = 4
    in_flight: Annotated[
        int,
        msgspec.Meta(
            description="calls that an actor has been given and has not answered; with 1 it is idle until the driver "
            "has seen its answer",
            ge=1,
        ),
    ] = 2
    private_settings: Annotated[
        bool,
        msgspec.Meta(
            description="use settings that Ray does not document, as ray-packed does: values up to 8 MiB travel inside "
            "the call, no authentication, no task events"
        ),
    ] = True


@dataclass(slots=True)
class _Going:
    """An actor, and how far it is."""

    call: Call
    done: int
    """The number of the round that follows those that are done."""
    running: deque[list[Fetched]] = field(default_factory=deque)
    """What is to be fetched of the calls that it was given, the first one first."""

    @property
    def next(self) -> int:
        """The number of the round that it would be given next."""
        return self.done + len(self.running)


class AsyncCalls(Calls):
    """Calls that are submitted to each actor as soon as its pace allows."""

    def __init__(self, pace: Pace, in_flight: int) -> None:
        """Plan rounds for the layout of `pace`, with so many calls `in_flight` to each actor."""
        super().__init__(pace.layout)
        self._pace = pace
        self._in_flight = in_flight
        self._actors: dict[int, _Going] = {}
        self._home = self.layout.graph.first_round
        """The number of the round that follows those that the driver has done."""
        self._kept: dict[Any, Any] = {}
        """References to large values of the driver."""

    def attach(self, driver: Driver) -> None:
        """Make the calls of every actor, and find out what the driver's own tasks read."""
        self._driver = driver
        (step,) = self.layout.steps()
        for place in driver.actors:
            self._actors[place] = _Going(self._call(0, step, place), self._home)
        self._coming = [self._received(feed) for feed in self.layout.feeds(step, HOME)]
        self._at_home = bool(self.layout.nodes_at(step, HOME))

    def run(self, begin: int, end: int) -> Iterator[int]:
        """Run the rounds from `begin` to `end`: one ends when the driver has seen that all have done it."""
        ended = begin
        while ended < end:
            for place, actor in self._actors.items():
                while actor.next < end and len(actor.running) < self._in_flight and self._may_begin(place, actor.next):
                    actor.running.append(actor.call.fire(actor.next))
            if not self._at_home:
                self._home = end
            if self._home < end and self._may_begin(HOME, self._home):
                self._fire_home()
                self._collect(0.0)
            else:
                self._collect(self.timeout_s)
            while ended < min(self._done_by(place) for place in (HOME, *self._actors)):
                ended += 1
                yield ended

    def argument(self, feed: Feed) -> Callable[[int], Any]:
        """What gives the argument for `feed` in a round: a reference to another actor's value, or the driver's own."""
        source = feed.edge.source
        giver = self.layout.pieces[source.task][feed.source].place
        if giver != HOME:
            return self._of_round(feed, self._reference_ring(source, feed.source).at)
        value = value_for(self._driver, feed)
        # It gives what the driver gave as many rounds before as the edge's delay.
        delay = feed.edge.delay
        if feed.edge.shape is EdgeShape.SCATTER:
            return value
        return self._of_round(feed, lambda number: put_once(self._kept, (source, number), value(number + delay)))

    def forget(self) -> None:
        """Let go of all values."""
        super().forget()
        self._kept.clear()
        given_up = [ref for a in self._actors.values() for fetched in a.running for ref, _, _ in fetched]
        for actor in self._actors.values():
            actor.running.clear()
        _look_at(given_up)

    def _received(self, feed: Feed) -> Callable[[int], Any]:
        """What gives the value that the driver's tasks read of `feed` in a round."""
        return self._of_round(feed, self._driver.ring(feed.edge.source, feed.source).at)

    def _of_round(self, feed: Feed, at: Callable[[int], Any]) -> Callable[[int], Any]:
        """What gives for a round what `feed` carries then: by `at`, of the round a delay before, or the newest."""
        giver, delay = self.layout.pieces[feed.edge.source.task][feed.source].place, feed.edge.delay
        if is_newest(self.layout.graph, feed.edge):
            return lambda _number: at(self._done_by(giver) - 1)
        return lambda number: at(number - delay)

    def _may_begin(self, place: int, number: int) -> bool:
        """Whether others are far enough for `place` to begin round `number`."""
        return all(self._done_by(other) >= number - behind for other, behind in self._pace.waits_of(place).items())

    def _done_by(self, place: int) -> int:
        return self._home if place == HOME else self._actors[place].done

    def _fire_home(self) -> None:
        number = self._home
        self._driver.home.fire(0, number, [value(number) for value in self._coming])
        self._home += 1
        oldest = self._home - self.layout.ahead
        for key in [key for key in self._kept if key[1] < oldest]:
            del self._kept[key]

    def _collect(self, timeout_s: float) -> None:
        """Take up what actors have answered, waiting for the first if there is time; an actor answers in order.

        Raises:
            RuntimeFailure: if none answers within a time that is not 0.
        """
        import ray

        first = {actor.running[0][0][0]: actor for actor in self._actors.values() if actor.running}
        if not first:
            return
        ready, _ = ray.wait(list(first), num_returns=1, timeout=timeout_s)
        while ready:
            for ref in ready:
                self._take(first[ref])
            first = {actor.running[0][0][0]: actor for actor in self._actors.values() if actor.running}
            ready = ray.wait(list(first), num_returns=len(first), timeout=0)[0] if first else []
            timeout_s = 0.0
        if timeout_s:
            raise RuntimeFailure(f"No answer from Ray actors within {self.timeout_s:.0f} s after round {self._home}.")

    def _take(self, actor: _Going) -> None:
        """Put what the first call of `actor` gave where the driver reads it."""
        fetched = actor.running[0]
        values = get([ref for ref, _, _ in fetched], self.timeout_s)
        for value, (_, rings, is_bundle) in zip(values, fetched, strict=True):
            for ring, item in zip(rings, (value or ()) if is_bundle else (value,), strict=True):
                ring.put(actor.done, item)
        actor.running.popleft()
        actor.done += 1


def _look_at(refs: list[Any]) -> None:
    """Take note of what else has failed: errors that nobody looks at Ray prints, from a thread of its own."""
    import ray
    import ray.exceptions

    ready, _ = ray.wait(refs, num_returns=len(refs), timeout=_GIVEN_UP_S) if refs else ([], [])
    for ref in ready:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(ref)


def _pace(graph: Graph, options: RayAsyncOptions) -> Pace:
    """Who lives where, and when each may go on; values are kept for as long as anybody may read them."""
    layout = parts_layout(graph, options.workers)
    pace = Pace(layout, options.staleness)
    kept = max((pace.slots_of(source) for source, _ in pace.links()), default=0)
    return replace(pace, layout=replace(layout, ahead=kept))


def _settings(options: RayAsyncOptions) -> dict[str, str]:
    return private_settings() if options.private_settings else {}


def _open(graph: Graph, options: RayAsyncOptions, scratch: Path) -> Session:
    """Start Ray, and an actor for every place but the driver's.

    Raises:
        RuntimeFailure: for a graph that it refuses.
    """
    reason = _refuses(graph, options)
    if reason is not None:
        raise RuntimeFailure(f"ray-async cannot run workload '{graph.workload}': {reason}.")
    pace = _pace(graph, options)
    cluster = RayCluster(scratch, object_store_bytes(graph, pace.layout.ahead), _settings(options))
    return RaySession(cluster, AsyncCalls(pace, options.in_flight))


def _refuses(graph: Graph, options: RayAsyncOptions) -> str | None:
    """Why it does not run `graph`, or None."""
    return why_in_one(_pace(graph, options).layout)


RUNTIME = Runtime(
    name="ray-async",
    summary="Ray actors for parts of the graph, each called again as soon as it may be, no lock-step; staleness is "
    "bounded.",
    options=RayAsyncOptions,
    open=_open,
    refuses=_refuses,
    notice=lambda options: notice_of(_settings(options)),
    demands=lambda graph, options: demands_of(_pace(graph, options).layout),
    differs=DIFFERS,
    limits="workloads with parts that only delayed edges join, as training has",
    requires=("ray",),
)
