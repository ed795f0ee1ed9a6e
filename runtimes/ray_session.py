"""A graph on Ray: the driver's place in this process, every other place in an actor.

How an expert runs it: all calls of a step are submitted before the driver does its own part and before
anything is awaited; one `ray.get` on a whole list; values between actors go as references that the
driver never opens; a large value for several actors is put once; the references and arrays of the
round before are dropped before the next is submitted, so that the object store uses its memory again.
"""

from __future__ import annotations

import contextlib
import gc
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.protocol import RuntimeFailure, processors
from runtimes.ray_cluster import nbytes_of
from runtimes.ray_place import BY_VALUE_BYTES, HOME, Place, Ring
from workloads.dataflow import EdgeShape, PortRef, Session, item_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from runtimes.ray_cluster import RayCluster
    from runtimes.ray_place import Exports, Feed, Layout
    from workloads.dataflow import TaskNode

__all__ = ["RaySession"]

_READY_TIMEOUT_S = 60.0
"""Actors that are not there by then will never be."""
_ROUND_TIMEOUT_S = 300.0
"""No round of any workload takes that long; a longer one hangs."""
_CLOSE_TIMEOUT_S = 10.0
"""What tasks get to let go of what they hold, before their processes are killed."""
_CLOSE_TIMEOUT_AFTER_FAILURE_S = 1.0
"""The same once something has failed: those that still work need no longer, the others will never answer."""

_Source = tuple[PortRef, int]
"""A piece of an output: port and number of the piece."""


class _Host:
    """What an actor is: one place of the layout."""

    def __init__(self, layout: Layout, number: int) -> None:
        self._place = Place(layout, number)
        # As the harness does in the driver: what was built here is for good, and no collection need look at it.
        gc.collect()
        gc.freeze()
        steps = layout.steps()
        self._steps = [number_of for number_of, step in enumerate(steps) if layout.nodes_at(step, number)]
        self._exports = [layout.exports(steps[step], number) for step in self._steps]
        self._calls = 0

    def initial(self) -> list[tuple[list[Any], list[Any]]]:
        """The values before round 0 of every step: those bundled and those passed on; None where there is no delay."""
        values = self._place.initial()
        return [
            (
                [values[source.task].get(source.name) for source in exports.bundled],
                [values[source.task].get(source.name) for source in exports.passed],
            )
            for exports in self._exports
        ]

    def fire(self, *arguments: Any) -> Any:
        """Fire the next step: what the driver reads, then one value for each port that is passed on.

        Steps come in the same order in every round, and the calls of an actor in the order of submission,
        so neither step nor round need be sent (an argument costs some 20 us a call).
        """
        round_number, turn = divmod(self._calls, len(self._steps))
        self._calls += 1
        values = self._place.fire(self._steps[turn], round_number, arguments)
        self._place.forget_inputs()
        exports = self._exports[turn]
        bundle = tuple(values[source.task][source.name] for source in exports.bundled) or None
        if not exports.passed:
            return bundle
        return (bundle, *(values[source.task][source.name] for source in exports.passed))

    def tallies(self) -> dict[str, list[Mapping[str, Any]]]:
        """Of every task here its tallies."""
        return self._place.tallies()

    def close(self) -> None:
        """Close every task here."""
        self._place.close()


@dataclass(slots=True)
class _Call:
    """One actor's part of a step: where its arguments come from, and where its results go."""

    submit: Callable[..., Any]
    arguments: list[Callable[[int], Any]]
    bundled: list[Ring]
    passed: list[tuple[Ring, Ring | None]]
    """For each port that is passed on: its references, and its values if the driver reads them."""

    def fire(self, round_number: int) -> list[tuple[Any, Sequence[Ring], bool]]:
        """Submit it; what is to be fetched: reference, rings for the values, whether they come as a bundle."""
        refs = self.submit(*[argument(round_number) for argument in self.arguments])
        if not self.passed:
            return [(refs, self.bundled, True)]
        pending: list[tuple[Any, Sequence[Ring], bool]] = [(refs[0], self.bundled, True)]
        for ref, (references, values) in zip(refs[1:], self.passed, strict=True):
            references.put(round_number, ref)
            if values is not None:
                pending.append((ref, (values,), False))
        return pending


@dataclass(slots=True)
class _Step:
    """A step as the driver sees it."""

    number: int
    calls: list[_Call]
    awaited: bool
    """The driver's own part reads results of this round that actors gave in earlier steps."""
    at_home: bool
    """The driver has a part of its own."""
    coming: list[tuple[Ring, int]] = field(default_factory=list)
    """What that part needs of actors: ring and delay."""


class RaySession(Session):
    """A graph that runs in this process and in Ray actors."""

    def __init__(self, cluster: RayCluster, layout: Layout, *, stops_cluster: bool = True) -> None:
        """Build the driver's tasks here and start an actor for every other place of `layout` on `cluster`.

        Raises:
            RuntimeFailure: if a task cannot be built or an actor does not start. The cluster is stopped then,
                as it is when the session closes, if `stops_cluster`.
        """
        self._cluster = cluster
        self._layout = layout
        self._stops_cluster = stops_cluster
        self._round = 0
        self._open = True
        self._failed = False
        self._actors: dict[int, Any] = {}
        self._home: Place | None = None
        self._pending: list[tuple[Any, Sequence[Ring], bool]] = []
        self._values: dict[_Source, Ring] = {}
        self._references: dict[_Source, Ring] = {}
        self._puts: dict[tuple[PortRef, int], Any] = {}
        try:
            self._start_actors()
            self._home = Place(layout, HOME)
            self._await_actors()
            self._steps = [self._plan(number, step) for number, step in enumerate(layout.steps())]
        except BaseException:
            self._failed = True
            self.close()
            raise

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds; their durations in nanoseconds.

        Raises:
            RuntimeFailure: if a task raises, an actor dies or none answers; names it and the round.
        """
        if self._failed or not self._open:
            raise RuntimeFailure("This session has failed or is closed. Open another one.")
        try:
            if self._round == 0:
                self._give_initial_values()
            stamps = [perf_counter_ns()]
            for _ in range(rounds):
                self._fire_round()
                stamps.append(perf_counter_ns())
            self._cluster.check()
        except BaseException:
            self._failed = True
            raise
        at_ns = np.array(stamps, np.int64)
        return at_ns[1:] - at_ns[:-1]

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """What the observed tasks received in the last round."""
        assert self._home is not None
        return {node.path: self._home.inputs(node.path) for node in self._layout.graph.tasks if node.observed}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every task its tallies.

        Raises:
            RuntimeFailure: if a task raises or an actor has died.
        """
        assert self._home is not None
        by_place = {HOME: self._home.tallies()}
        remote = self._get([actor.tallies.remote() for actor in self._actors.values()])
        by_place.update(zip(self._actors, remote, strict=True))
        return {
            path: [tallies for piece in pieces for tallies in by_place[piece.place][path]]
            for path, pieces in self._layout.pieces.items()
        }

    def close(self) -> None:
        """Close every task and end every actor, and the cluster if it is this session's.

        Raises:
            RuntimeFailure: if a task could not be closed, and nothing had failed before; all is cleaned up first.
        """
        if not self._open:
            return
        self._open = False
        self._pending.clear()
        self._values.clear()
        self._references.clear()
        self._puts.clear()
        error: Exception | None = None
        try:
            error = self._close_tasks()
        finally:
            self._end_actors()
            if self._stops_cluster:
                self._cluster.stop()
        if error is not None and not self._failed:
            raise RuntimeFailure(f"Not every task could be closed: {error}") from error

    # ---------------------------------------------------------------------------------------- rounds

    def _fire_round(self) -> None:
        number = self._round
        assert self._home is not None
        self._home.forget_inputs()
        self._puts.clear()
        for ring in (*self._values.values(), *self._references.values()):
            ring.put(number, None)
        for step in self._steps:
            for call in step.calls:
                self._pending += call.fire(number)
            if step.awaited:
                self._fetch()
            if step.at_home:
                self._home.fire(step.number, number, [ring.at(number - delay) for ring, delay in step.coming])
        if self._pending:
            self._fetch()
        self._round += 1

    def _fetch(self) -> None:
        """Await all that was submitted, and put what came where the driver reads it."""
        pending, self._pending = self._pending, []
        for value, (_, rings, is_bundle) in zip(self._get([ref for ref, _, _ in pending]), pending, strict=True):
            for ring, item in zip(rings, (value or ()) if is_bundle else (value,), strict=True):
                ring.put(self._round, item)

    def _give_initial_values(self) -> None:
        """Have every task say once what its delayed outputs carried before round 0."""
        assert self._home is not None
        self._home.initial()
        graph = self._layout.graph
        delayed = {edge.source.task for edge in graph.edges if edge.delay}
        places = sorted({p.place for path in delayed for p in self._layout.pieces[path]} - {HOME})
        answers = self._get([self._actors[place].initial.remote() for place in places])
        steps = self._layout.steps()
        for place, answer in zip(places, answers, strict=True):
            exported = [self._layout.exports(step, place) for step in steps if self._layout.nodes_at(step, place)]
            for exports, (bundled, passed) in zip(exported, answer, strict=True):
                self._fill(place, exports, bundled, passed)

    def _fill(self, place: int, exports: Exports, bundled: list[Any], passed: list[Any]) -> None:
        """Make what an actor gave as initial values those of the rounds before round 0."""
        import ray

        for source, value in zip((*exports.bundled, *exports.passed), (*bundled, *passed), strict=True):
            piece = self._layout.piece_at(source.task, place)
            assert piece is not None
            if (source, piece) in self._values:
                self._values[source, piece].fill(value)
            if (source, piece) in self._references:
                self._references[source, piece].fill(ray.put(value))

    def _get(self, refs: list[Any]) -> list[Any]:
        """The values of `refs`.

        Raises:
            RuntimeFailure: for anything that Ray raises.
        """
        import ray.exceptions

        try:
            return list(ray.get(refs, timeout=_ROUND_TIMEOUT_S))
        except ray.exceptions.RayError as error:
            self._failed = True
            raise self._failure_of(error) from error

    def _failure_of(self, error: BaseException) -> RuntimeFailure:
        """What `error`, which Ray raised, says about this graph."""
        import ray.exceptions

        cause = error
        while isinstance(cause, ray.exceptions.RayTaskError) and isinstance(cause.cause, BaseException):
            cause = cause.cause
        if isinstance(cause, RuntimeFailure):
            return RuntimeFailure(str(cause))
        if isinstance(cause, ray.exceptions.RayActorError):
            name = self._name_of(cause)
            return RuntimeFailure(f"The process of Ray actor '{name}' died in round {self._round}: {cause}")
        if isinstance(cause, ray.exceptions.GetTimeoutError):
            return RuntimeFailure(
                f"No answer from Ray actors within {_ROUND_TIMEOUT_S:.0f} s in round {self._round}: {cause}"
            )
        return RuntimeFailure(f"Ray failed in round {self._round}: {type(cause).__name__}: {cause}")

    def _name_of(self, error: Any) -> str:
        """The place whose actor `error` is about."""
        for place, actor in self._actors.items():
            if actor._actor_id.hex() == error.actor_id:  # noqa: SLF001 - Ray has no public way from an error to a handle
                return self._layout.names[place]
        return str(error.actor_id)

    # -------------------------------------------------------------------------------- start and stop

    def _start_actors(self) -> None:
        import ray

        places = sorted({p.place for pieces in self._layout.pieces.values() for p in pieces} - {HOME})
        # With a whole CPU each, those that outnumber the processors would never be placed.
        num_cpus = 1 if len(places) <= processors() else 0
        remote = ray.remote(_Host).options(num_cpus=num_cpus, max_restarts=0, max_task_retries=0)
        layout = ray.put(self._layout)
        for place in places:
            self._actors[place] = remote.remote(layout, place)

    def _await_actors(self) -> None:
        import ray.exceptions

        try:
            ray.get([actor.__ray_ready__.remote() for actor in self._actors.values()], timeout=_READY_TIMEOUT_S)
        except ray.exceptions.GetTimeoutError as error:
            raise RuntimeFailure(
                f"{len(self._actors)} Ray actors were not ready within {_READY_TIMEOUT_S:.0f} s. "
                "Is the machine short of memory or processors?"
            ) from error
        except ray.exceptions.RayError as error:
            raise self._start_failure_of(error) from error
        finally:
            self._cluster.note_processes()

    def _start_failure_of(self, error: BaseException) -> RuntimeFailure:
        name = self._name_of(error) if hasattr(error, "actor_id") else "of this graph"
        return RuntimeFailure(f"Ray actor '{name}' did not start: {error}")

    def _close_tasks(self) -> Exception | None:
        """Close what can still be closed; what a task raised."""
        import ray.exceptions

        error: Exception | None = None
        if self._home is not None:
            try:
                self._home.close()
            except Exception as raised:  # noqa: BLE001 - raised when all is cleaned up
                error = raised
        refs = [actor.close.remote() for actor in self._actors.values()]
        timeout_s = _CLOSE_TIMEOUT_AFTER_FAILURE_S if self._failed else _CLOSE_TIMEOUT_S
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=timeout_s) if refs else ([], [])
        for ref in ready:
            try:
                ray.get(ref)
            except ray.exceptions.RayError as raised:
                error = error or raised
        return error

    def _end_actors(self) -> None:
        import ray.exceptions

        self._cluster.note_processes()
        for actor in self._actors.values():
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor, no_restart=True)
        self._actors.clear()

    # ------------------------------------------------------------------------------------------ plan

    def _plan(self, number: int, step: Iterable[TaskNode]) -> _Step:
        """Who does what in step `number`."""
        feeds = self._layout.feeds(step, HOME)
        return _Step(
            number=number,
            calls=[self._call(step, place) for place in self._actors if self._layout.nodes_at(step, place)],
            awaited=any(feed.edge.delay == 0 for feed in feeds),
            at_home=bool(self._layout.nodes_at(step, HOME)),
            coming=[(self._ring(self._values, feed.edge.source, feed.source), feed.edge.delay) for feed in feeds],
        )

    def _call(self, step: Iterable[TaskNode], place: int) -> _Call:
        exports = self._layout.exports(step, place)
        fire = self._actors[place].fire
        if exports.passed:
            fire = fire.options(num_returns=1 + len(exports.passed))
        return _Call(
            submit=fire.remote,
            arguments=[self._argument(feed) for feed in self._layout.feeds(step, place)],
            bundled=[self._ring_at(self._values, source, place) for source in exports.bundled],
            passed=[
                (
                    self._ring_at(self._references, source, place),
                    self._ring_at(self._values, source, place) if source in exports.fetched else None,
                )
                for source in exports.passed
            ],
        )

    def _argument(self, feed: Feed) -> Callable[[int], Any]:
        """What gives the argument for `feed` in a round: a reference to another actor's value, or the driver's own."""
        edge, layout = feed.edge, self._layout
        source, delay = edge.source, edge.delay
        if layout.pieces[source.task][feed.source].place != HOME:
            ring = self._ring(self._references, source, feed.source)
            return lambda number: ring.at(number - delay)
        home = self._home
        assert home is not None
        if edge.shape is EdgeShape.SCATTER:
            part = layout.pieces[edge.target.task][feed.target].members
            width = layout.graph.node(edge.target.task).members
            is_block = layout.is_block(edge.target.task)
            return lambda number: _part_of(home.value(source, number - delay), part, width, source, is_block=is_block)
        elsewhere = layout.readers(source, feed.source) - {HOME}
        if len(elsewhere) == 1:
            return lambda number: home.value(source, number - delay)
        return lambda number: self._value_or_reference(source, number - delay)

    def _value_or_reference(self, source: PortRef, number: int) -> Any:
        """The driver's value of `source` for several actors: itself if small, else a reference, put once."""
        import ray

        assert self._home is not None
        value = self._home.value(source, number)
        if nbytes_of(value) <= BY_VALUE_BYTES:
            return value
        if (source, number) not in self._puts:
            self._puts[source, number] = ray.put(value)
        return self._puts[source, number]

    def _ring_at(self, rings: dict[_Source, Ring], source: PortRef, place: int) -> Ring:
        piece = self._layout.piece_at(source.task, place)
        assert piece is not None
        return self._ring(rings, source, piece)

    def _ring(self, rings: dict[_Source, Ring], source: PortRef, piece: int) -> Ring:
        """The ring of a piece, made when first asked for."""
        return rings.setdefault((source, piece), Ring(self._layout.delay_of(source)))


def _part_of(values: Any, part: range, width: int, source: PortRef, *, is_block: bool) -> Any:
    """What a scatter of `values` sends to a piece with the members `part`."""
    if not is_block or values is None:
        return item_of(values, part.start, width, str(source))
    return values[part.start : part.stop]
