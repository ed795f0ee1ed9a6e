"""A graph on Ray: the driver's place in this process, every other place in an actor.

Here is what all of Ray's runtimes share: how actors start, fail and end, and what a round is. How the
values of a round travel is the part of `Rounds`: by calls of actors (`ray_calls.py`) or by executions of a
compiled graph (`ray_graphs.py`).
"""

from __future__ import annotations

import contextlib
import gc
import traceback
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.layout import HOME, Ring
from runtimes.place_states import state_from
from runtimes.places import Place
from runtimes.protocol import RuntimeFailure
from runtimes.sessions import ProcessSession
from workloads.dataflow import GraphError, PortRef

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from runtimes.layout import Exports, Layout
    from runtimes.ray_cluster import RayCluster
    from workloads.dataflow import State, TaskNode, TaskState

__all__ = ["Driver", "Host", "RaySession", "Rounds", "get"]

_READY_TIMEOUT_S = 60.0
"""Actors that are not there by then will never be."""
_DEATH_TIMEOUT_S = 5.0
"""By then Ray knows whether an actor has died; those that live may be too busy to answer."""
_CLOSE_TIMEOUT_S = 10.0
"""What tasks get to let go of what they hold, before their processes are killed."""
_CLOSE_TIMEOUT_AFTER_FAILURE_S = 1.0
"""The same once something has failed: those that still work need no longer, the others will never answer."""


# ------------------------------------------------------------------------------------------- actors


class _Turns:
    """Steps that an actor fires in turn, round after round.

    The calls of an actor are served in the order of submission, so neither step nor round need be sent
    (an argument costs some 20 us a call).
    """

    def __init__(self, steps: Iterable[int], first_round: int) -> None:
        self._steps = tuple(steps)
        self._calls = first_round * len(self._steps)

    def next(self) -> tuple[int, int]:
        """Step and round of the next call."""
        round_number, turn = divmod(self._calls, len(self._steps))
        self._calls += 1
        return self._steps[turn], round_number


class Host:
    """What an actor is: one place of the layout."""

    def __init__(self, layout: Layout, number: int, exports: Sequence[Exports], first_late: int) -> None:
        """Build the tasks of place `number`, which gives `exports`, one for each step.

        Steps from `first_late` on are called after the driver has waited. With rounds in flight ahead, the calls
        of the next round's other steps come first.
        """
        self._place = Place(layout, number)
        # As the harness does in the driver: what was built here is for good, and no collection need look at it.
        gc.collect()
        gc.freeze()
        steps = [step for step, nodes in enumerate(layout.steps()) if layout.nodes_at(nodes, number)]
        self._layout = layout
        self._exports = exports
        first_round = layout.graph.first_round
        self._early = _Turns((step for step in steps if step < first_late), first_round)
        self._late = _Turns((step for step in steps if step >= first_late), first_round)
        self._rounds = dict.fromkeys(steps, first_round)

    def begin(self) -> dict[str, dict[str, list[Any]]]:
        """The values of the rounds before the first: path to port to pieces, of delayed ports alone."""
        return self._place.begin()

    def states(self, round_number: int) -> dict[str, list[TaskState | GraphError]]:
        """Of every task here its state before `round_number`."""
        return self._place.states(round_number)

    def fire(self, *arguments: Any) -> Any:
        """Fire the next of the early steps: what the driver reads, then one value for each port that is passed on."""
        return self._called(self._early, arguments)

    def fire_late(self, *arguments: Any) -> Any:
        """Fire the next of the late steps."""
        return self._called(self._late, arguments)

    def fire_step(self, step: int, picks: Sequence[tuple[int, int | None]], *received: Any) -> Any:
        """Fire `step` as a node of a compiled graph, which gives no value, one, or a tuple of several.

        `picks` finds the arguments in what was received: which, and which item of it.
        """
        round_number = self._rounds[step]
        self._rounds[step] += 1
        arguments = [received[at] if item is None else received[at][item] for at, item in picks]
        bundle, passed = self._fire(step, round_number, arguments)
        values = ((bundle,) if bundle else ()) + passed
        return values if len(values) > 1 else next(iter(values), None)

    def tallies(self) -> dict[str, list[Mapping[str, Any]]]:
        """Of every task here its tallies."""
        return self._place.tallies()

    def close(self) -> None:
        """Close every task here."""
        self._place.close()

    def _called(self, turns: _Turns, arguments: Iterable[Any]) -> Any:
        bundle, passed = self._fire(*turns.next(), arguments)
        return (bundle or None, *passed) if passed else bundle or None

    def _fire(self, step: int, round_number: int, arguments: Iterable[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values = self._place.fire(step, round_number, arguments)
        self._place.forget_inputs()
        exports, sent = self._exports[step], self._layout.sent
        return (
            tuple([sent(source, values[source.task][source.name]) for source in exports.bundled]),
            tuple([values[source.task][source.name] for source in exports.passed]),
        )


# ------------------------------------------------------------------------------------------- driver


@dataclass(slots=True)
class Driver:
    """What the driver holds while rounds run."""

    layout: Layout
    actors: Mapping[int, Any]
    """Place to handle."""
    home: Place
    values: dict[tuple[PortRef, int], Ring] = field(default_factory=dict)
    """What came from actors: of a port and a piece of its task."""

    def ring(self, source: PortRef, piece: int) -> Ring:
        """Where values of a piece are kept; made when first asked for."""
        return self.values.setdefault((source, piece), self.layout.ring_for(source))

    def ring_at(self, source: PortRef, place: int) -> Ring:
        """The same for the piece that lives in `place`."""
        return self.ring(source, self.layout.piece_in(source.task, place))

    def coming(self, step: Iterable[TaskNode]) -> list[tuple[Ring, int]]:
        """Where the driver's tasks of `step` find what comes from actors, and how many rounds before."""
        feeds = self.layout.feeds(step, HOME)
        return [(self.ring(feed.edge.source, feed.source), feed.edge.delay) for feed in feeds]

    def forget(self) -> None:
        """Let go of all that came from actors: what is read in place must not outlive its memory."""
        self.home.forget()
        for ring in self.values.values():
            ring.clear()

    def fire(self, step: int, number: int, coming: Iterable[tuple[Ring, int]]) -> None:
        """Fire the driver's tasks of a step."""
        self.home.fire(step, number, [ring.at(number - delay) for ring, delay in coming])


class Rounds(ABC):
    """How the values of a round travel between the places of `layout`."""

    timeout_s: float
    """How long a round may take."""

    def __init__(self, layout: Layout) -> None:
        """Plan rounds for `layout`."""
        self.layout = layout

    def home_steps(self) -> Sequence[Sequence[TaskNode]]:
        """The steps in which the driver fires."""
        return self.layout.steps()

    @abstractmethod
    def exports(self, step: Sequence[TaskNode], place: int) -> Exports:
        """What an actor gives in a step."""

    def first_late_step(self) -> int:
        """The first step that is called after the driver has waited."""
        return len(self.layout.steps())

    @abstractmethod
    def attach(self, driver: Driver) -> None:
        """Make all that rounds need, now that every actor is there."""

    @abstractmethod
    def begin_with(self, source: PortRef, piece: int, values: Sequence[Any]) -> None:
        """Make `values`, which an actor gave, those of the rounds before the first."""

    @abstractmethod
    def before(self, source: PortRef, piece: int, number: int) -> list[Any]:
        """What an actor gave on `source`, which the actor itself does not keep, in the rounds before round `number`.

        One value for each round of the longest delay, the oldest first.

        Raises:
            RayError: whatever Ray raises.
        """

    def run(self, begin: int, end: int) -> Iterator[int]:
        """Run the rounds from `begin` to `end`, without that one; as each ends, the number of the one that follows.

        Raises:
            RayError: whatever Ray raises.
            RuntimeFailure: if a task of the driver raises.
        """
        ahead = self.layout.ahead
        for number in range(begin, end + ahead):
            if number < end:
                self.begin(number)
            if number - ahead >= begin:
                self.end(number - ahead)
                yield number - ahead + 1

    @abstractmethod
    def begin(self, number: int) -> None:
        """Submit round `number`, and fire what of it the driver can fire without waiting.

        Raises:
            RayError: whatever Ray raises.
            RuntimeFailure: if a task of the driver raises.
        """

    @abstractmethod
    def end(self, number: int) -> None:
        """Await the results of round `number`, and fire the rest of it.

        Raises:
            RayError: whatever Ray raises.
            RuntimeFailure: if a task of the driver raises.
        """

    @abstractmethod
    def forget(self) -> None:
        """Let go of all values."""

    @abstractmethod
    def close(self) -> None:
        """End what runs in actors besides calls."""


# ------------------------------------------------------------------------------------------ session


class RaySession(ProcessSession):
    """A graph that runs in this process and in Ray actors.

    Where the layout is `ahead` by some rounds, so many are begun before one is ended, and all are ended when
    `advance` returns. A round then lasts from the end of the one before: the first of an `advance` the longest,
    the last ones hardly at all, and all together as long as it took.
    """

    def __init__(self, cluster: RayCluster, rounds: Rounds, *, stops_cluster: bool = True) -> None:
        """Build the driver's tasks here and start an actor for every other place on `cluster`.

        Raises:
            RuntimeFailure: if a task cannot be built or an actor does not start. The cluster is stopped then,
                as it is when the session closes, if `stops_cluster`.
        """
        super().__init__()
        self._cluster = cluster
        self._rounds = rounds
        self._layout = rounds.layout
        self._stops_cluster = stops_cluster
        self._round = self._layout.graph.first_round
        self._begun = False
        self._actors: dict[int, Any] = {}
        self._driver: Driver | None = None
        try:
            self._start_actors()
            self._driver = Driver(self._layout, self._actors, Place(self._layout, HOME, rounds.home_steps()))
            self._await_actors()
            with self._telling_failures():
                rounds.attach(self._driver)
        except BaseException:
            self._failed = True
            self.close()
            raise

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds; their durations in nanoseconds.

        Raises:
            RuntimeFailure: if a task raises, an actor dies or none answers; names it and the round.
        """
        self._check_usable()
        with self._telling_failures():
            self._begin()
            stamps = [perf_counter_ns()]
            for following in self._rounds.run(self._round, self._round + rounds):
                self._round = following
                stamps.append(perf_counter_ns())
            self._cluster.check()
        at_ns = np.array(stamps, np.int64)
        return at_ns[1:] - at_ns[:-1]

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """What the observed tasks received in the last round."""
        assert self._driver is not None
        return {node.path: self._driver.home.inputs(node.path) for node in self._layout.graph.tasks if node.observed}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every task its tallies.

        Raises:
            RuntimeFailure: if a task raises or an actor has died.
        """
        assert self._driver is not None
        by_place = {HOME: self._driver.home.tallies()}
        with self._telling_failures():
            remote = get([actor.tallies.remote() for actor in self._actors.values()], self._rounds.timeout_s)
        by_place.update(zip(self._actors, remote, strict=True))
        return self._layout.in_order(by_place)

    def state(self) -> State:
        """Where the program stands: what the tasks of every place keep, and what is in flight between them.

        Raises:
            GraphError: if a task has no state; names it.
            RuntimeFailure: if an actor has died.
        """
        self._check_usable()
        assert self._driver is not None
        number = self._round
        with self._telling_failures():
            self._begin()
            by_place = {HOME: self._driver.home.states(number)}
            remote = get([actor.states.remote(number) for actor in self._actors.values()], self._rounds.timeout_s)
            by_place.update(zip(self._actors, remote, strict=True))
            try:
                return state_from(self._layout, number, by_place, partial(self._rounds.before, number=number))
            except GraphError as error:
                refusal = error
        # Not a failure: rounds may go on.
        raise refusal

    # ---------------------------------------------------------------------------------------- rounds

    def _begin(self) -> None:
        """Before the first round have every task say what its delayed outputs carried in those before."""
        if self._begun:
            return
        self._begun = True
        assert self._driver is not None
        self._driver.home.begin()
        delayed = {edge.source.task for edge in self._layout.graph.edges if edge.delay}
        places = sorted({piece.place for path in delayed for piece in self._layout.pieces[path]} - {HOME})
        answers = get([self._actors[place].begin.remote() for place in places], self._rounds.timeout_s)
        for place, answer in zip(places, answers, strict=True):
            for path, values in answer.items():
                piece = self._layout.piece_in(path, place)
                for port, of_rounds in values.items():
                    self._rounds.begin_with(PortRef(path, port), piece, of_rounds)

    # -------------------------------------------------------------------------------------- failures

    @contextlib.contextmanager
    def _telling_failures(self) -> Iterator[None]:
        """Tell what fails in terms of tasks, actors and rounds; after that the session can only be closed."""
        import ray.exceptions

        try:
            yield
        except ray.exceptions.RayError as error:
            self._failed = True
            _forget_locals(error)
            raise self._failure_of(error) from error
        except BaseException as error:
            self._failed = True
            _forget_locals(error)
            raise

    def _failure_of(self, error: BaseException) -> RuntimeFailure:
        """What `error`, which Ray raised, says about this graph."""
        import ray.exceptions

        cause = error
        while isinstance(cause, ray.exceptions.RayTaskError) and isinstance(cause.cause, BaseException):
            cause = cause.cause
        if isinstance(cause, RuntimeFailure):
            return RuntimeFailure(str(cause))
        if isinstance(cause, ray.exceptions.RayChannelError):
            # A channel that is closed or silent does not tell why.
            cause = self._death() or cause
        if isinstance(cause, ray.exceptions.RayActorError):
            name = self._name_of(cause)
            return RuntimeFailure(f"The process of Ray actor '{name}' died in round {self._round}: {cause}")
        if isinstance(cause, (ray.exceptions.GetTimeoutError, ray.exceptions.RayChannelTimeoutError)):
            return RuntimeFailure(
                f"No answer from Ray actors within {self._rounds.timeout_s:.0f} s in round {self._round}: {cause}"
            )
        return RuntimeFailure(f"Ray failed in round {self._round}: {type(cause).__name__}: {cause}")

    def _death(self) -> Exception | None:
        """What Ray says of an actor that has died, if one has."""
        import ray.exceptions

        try:
            ray.get([actor.__ray_ready__.remote() for actor in self._actors.values()], timeout=_DEATH_TIMEOUT_S)
        except ray.exceptions.RayActorError as error:
            return error
        except ray.exceptions.RayError:
            return None
        return None

    def _name_of(self, error: Any) -> str:
        """The place whose actor `error` is about."""
        for place, actor in self._actors.items():
            if actor._actor_id.hex() == error.actor_id:  # noqa: SLF001 - Ray has no public way from an error to a handle
                return self._layout.names[place]
        return str(error.actor_id)

    # -------------------------------------------------------------------------------- start and stop

    def _start_actors(self) -> None:
        import ray

        places = self._layout.actors()
        # With a whole CPU each, those that outnumber the cores would never be placed.
        num_cpus = 1 if len(places) <= self._cluster.num_cpus else 0
        remote = ray.remote(Host).options(num_cpus=num_cpus, max_restarts=0, max_task_retries=0)
        layout = ray.put(self._layout)
        steps, first_late = self._layout.steps(), self._rounds.first_late_step()
        for place in places:
            exports = [self._rounds.exports(step, place) for step in steps]
            self._actors[place] = remote.remote(layout, place, exports, first_late)

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
        """Close what can still be closed, and let go of all values; what a task raised."""
        import ray.exceptions

        error: Exception | None = None
        self._rounds.forget()
        if self._driver is not None:
            try:
                self._driver.home.close()
            except Exception as raised:  # noqa: BLE001 - raised when all is cleaned up
                error = raised
            self._driver.forget()
        refs = [actor.close.remote() for actor in self._actors.values()]
        timeout_s = _CLOSE_TIMEOUT_AFTER_FAILURE_S if self._failed else _CLOSE_TIMEOUT_S
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=timeout_s) if refs else ([], [])
        for ref in ready:
            try:
                ray.get(ref)
            except ray.exceptions.RayError as raised:
                error = error or raised
        return error

    def _end(self) -> None:
        """End every actor, and the cluster if it is this session's."""
        import ray.exceptions

        self._cluster.note_processes()
        if not self._failed:
            self._rounds.close()
        for actor in self._actors.values():
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(actor, no_restart=True)
        if self._failed:
            # With an actor that never answers, nothing ends in good order before it is killed.
            self._rounds.close()
        self._actors.clear()
        if self._stops_cluster:
            self._cluster.stop()


def _forget_locals(error: BaseException | None) -> None:
    """Have the frames that `error` went through let go of values: what is read in place must not outlive its memory."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def get(refs: Sequence[Any], timeout_s: float) -> list[Any]:
    """The values of `refs`, all at once.

    Raises:
        RayError: whatever Ray raises.
    """
    import ray

    return list(ray.get(refs, timeout=timeout_s))
