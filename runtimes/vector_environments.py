"""What the runtimes share that have a library step all environments of workload `simulation` at once.

Such a library is no graph engine: of the graph these runtimes read the workload's parameters, who the
members are and what is observed, and they fire the driver's task. A round is what one writes with the
library: draw the actions of all, or have the driver compute them; step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from runtimes.protocol import RuntimeFailure, not_resumed
from workloads.dataflow import Outputs, PortRef, Session, TaskContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from workloads.dataflow import Graph

__all__ = ["LIMITS", "Options", "Stepped", "VectorSession", "out_of_step", "random_batches", "why_not"]

WORKLOAD: Final = "simulation"
LIMITS: Final = f"workload {WORKLOAD}, with fragment=1, restart=ended, and observations and actions that are arrays"
_TERMINATED, _TRUNCATED = 1, 2
"""Bits of the workload's port `ended`."""
_ADVANCE_STRIDE, _ADVANCE_MODULUS = 37, 500
"""The workload's environment i begins (37 i) mod 500 steps after its reset."""
_ROUNDS_PER_DRAW: Final = 1024

Stepped = tuple[Any, Any, Any, Any, "Mapping[str, Any]"]
"""What a step gives: observations, rewards, who was terminated, who was truncated, infos."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """A library is set up as the workload asks: there are no options."""


def why_not(graph: Graph) -> str | None:
    """Why no library can step the environments of `graph`, or None if one can."""
    if graph.workload != WORKLOAD:
        return f"it steps the environments of workload '{WORKLOAD}', and '{graph.workload}' has none"
    if graph.parameters["fragment"] > 1:
        return (
            f"fragment={graph.parameters['fragment']}: all environments take one step a round here, with the actions "
            "of all. Set fragment=1"
        )
    if graph.parameters["restart"] != "ended":
        return f"restart='{graph.parameters['restart']}': only an ended episode is reset here. Set restart='ended'"
    if graph.node("env").output("observation").array is None:
        return f"observations of '{graph.parameters['env_id']}' are no arrays, which cannot be put into one"
    return not_resumed(graph)


def random_batches(space: Any, contexts: Sequence[TaskContext], purpose: str) -> Iterator[Any]:
    """Random actions of all environments, round by round, uniform over `space`, Discrete or a bounded Box.

    Each row is an array of shape `(environments, *action shape)`, drawn many at a time from the first
    environment's stream for `purpose`.
    """
    rng = contexts[0].rng(purpose)
    shape = (_ROUNDS_PER_DRAW, len(contexts), *space.shape)
    while True:
        if np.issubdtype(space.dtype, np.integer):
            yield from rng.integers(space.start, space.start + space.n, shape, dtype=space.dtype)
        else:
            yield from rng.uniform(space.low, space.high, shape).astype(space.dtype)


def out_of_step(batches: Iterator[Any], environments: int) -> Iterator[tuple[Any, NDArray[np.bool_]]]:
    """Steps before the first round: the actions of each, and which environments are restarted after it.

    Environment i is restarted as many steps before the first round as the tasks advance it, so that episodes do
    not end in step. One that is not ahead must begin with the first round.
    """
    ahead = np.arange(environments) * _ADVANCE_STRIDE % _ADVANCE_MODULUS
    for left in range(int(ahead.max()), 0, -1):
        # Those that are as far ahead as there are steps had begun before the first of them.
        yield next(batches), ahead == left - 1


class VectorSession(Session):
    """All environments of a graph in one object, `vector`, which has the methods `step` and `close`."""

    def __init__(self, graph: Graph, vector: Any) -> None:
        """Build the driver's task; `vector` is reset only at its first use, which is no part of start-up."""
        self._graph = graph
        self._vector = vector
        self._round = 0
        self._open = True
        self._failed = False
        driver, env = graph.node("driver"), graph.node("env")
        self._contexts = [
            TaskContext(path=env.path, index=i, width=env.members, seed=graph.seed) for i in range(env.members)
        ]
        self._driver = driver.build(0, graph.seed)
        arrays = {port.name: port.array.zeros() for port in driver.outputs if port.array is not None}
        self._outputs = Outputs(driver.path, arrays, arrays) if arrays else None
        self._observation = env.output("observation").array
        self._delay = max(edge.delay for edge in graph.edges_from(PortRef(env.path, "observation")))
        self._coming: deque[Stepped] = deque()
        self._received: Stepped | None = None
        self._actions = self._drawn()

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds; their durations in nanoseconds.

        Raises:
            RuntimeFailure: if an environment raises, or a process of the library dies; says in which round.
        """
        if self._failed or not self._open:
            raise RuntimeFailure("This session has failed or is closed. Open another one.")
        try:
            if not self._round:
                self._coming.extend([self._stepped(self._begin())] * self._delay)
            fire = self._fire_round if self._outputs is None else self._fire_driven_round
            stamps = [perf_counter_ns()]
            for _ in range(rounds):
                fire()
                self._round += 1
                stamps.append(perf_counter_ns())
        except Exception as error:
            self._failed = True
            raise self._failure_of(error) from error
        at_ns = np.array(stamps, np.int64)
        return at_ns[1:] - at_ns[:-1]

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """What the driver received in the last round."""
        assert self._received is not None
        observations, rewards, terminated, truncated, infos = self._received
        assert self._observation is not None
        finals: list[Any] = [None] * len(self._contexts)
        # Only who resets in the same step gives the last observation of an episode.
        for index in np.flatnonzero(terminated | truncated) if "final_obs" in infos else ():
            final = np.asarray(infos["final_obs"][index], self._observation.dtype)
            finals[index] = final.reshape(self._observation.shape)
        values = {
            "observation": self._batch(observations),
            "reward": np.asarray(rewards, np.float64),
            "ended": (_TERMINATED * terminated | _TRUNCATED * truncated).astype(np.uint8),
            "final_observation": finals,
        }
        return {"driver": values}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every environment its tallies, and those of the driver."""
        return {"env": self._environment_tallies(), "driver": [self._driver.tallies()]}

    def close(self) -> None:
        """Close the driver's task and all environments."""
        if not self._open:
            return
        self._open = False
        try:
            self._driver.close()
        finally:
            self._close_vector()

    # ----------------------------------------------------------------------- what libraries differ in

    @abstractmethod
    def _begin(self) -> Any:
        """Reset every environment, and leave them out of step with one another; their observations."""

    @abstractmethod
    def _drawn(self) -> Iterator[Any]:
        """The random actions of all environments, round by round, without end."""

    @abstractmethod
    def _environment_tallies(self) -> Sequence[Mapping[str, Any]]:
        """Of every environment its tallies."""

    def _step(self, actions: Any) -> Stepped:
        """Step all environments."""
        stepped: Stepped = self._vector.step(actions)
        return stepped

    def _batch(self, observations: Any) -> NDArray[Any]:
        """The observations of all environments as one array, as the workload declares them."""
        assert self._observation is not None
        if isinstance(observations, tuple):
            observations = np.stack(observations, axis=-1)
        batch: NDArray[Any] = observations.reshape(-1, *self._observation.shape)
        return batch

    def _failure_of(self, error: Exception) -> RuntimeFailure:
        """What `error`, raised in a round, says."""
        return RuntimeFailure(f"Bank 'env' failed in round {self._round}: {type(error).__name__}: {error}")

    def _close_vector(self) -> None:
        """Close all environments, whatever has failed."""
        self._vector.close()

    # ---------------------------------------------------------------------------------------- rounds

    def _fire_round(self) -> None:
        self._received = self._step(next(self._actions))

    def _fire_driven_round(self) -> None:
        self._received = self._coming.popleft()
        outputs = self._outputs
        assert outputs is not None
        self._driver.fire({"observation": self._batch(self._received[0])}, outputs)
        self._coming.append(self._step(outputs.assigned.pop("action", outputs["action"])))

    def _stepped(self, observations: Any) -> Stepped:
        """What stands for the steps before round 0."""
        nobody = np.zeros(len(self._contexts), np.bool_)
        return observations, np.zeros(len(self._contexts)), nobody, nobody, {}
