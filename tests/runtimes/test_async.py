"""Parts that run at their own pace: what arrives, how old it is, who is ahead, and what a failure ends."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import runtimes.reactor
from harness import registry
from runtimes import worker_processes
from runtimes.protocol import RuntimeFailure
from workloads.dataflow import ArraySpec, GraphBuilder, Input, Output, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workloads.dataflow import Graph, Inputs, Outputs, Session, TaskContext

ROUNDS = 150


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes start as copies of this one, in a tenth of the time."""
    monkeypatch.setattr(worker_processes, "start_context", lambda: multiprocessing.get_context("fork"))


RETAINED = 2


class Actor(Task):
    """Notes what it is told, and gives its round."""

    def __init__(self, context: TaskContext, *, fails_in: int = -1) -> None:
        self.index, self.fails_in = context.index, fails_in
        self.round = 0
        self.told: list[float] = []
        self.faults = 0
        self.kept: list[tuple[Any, float]] = []

    def initial(self, port: str) -> Any:
        return np.full(3, -1.0) if port == "seen" else None

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        told = inputs["told"]
        self.kept = [*self.kept, (told, float(told[0]))][-RETAINED - 1 :]
        self.faults += sum(bool((array != value).any()) for array, value in self.kept)
        self.told.append(float(told[0]))
        if self.round == self.fails_in:
            raise ArithmeticError("enough")
        outputs["seen"][...] = 100 * self.round + self.index
        if self.round % 3 == 0:
            outputs["event"][...] = self.round
        self.round += 1

    def tallies(self) -> Mapping[str, Any]:
        return {"told": self.told, "faults": self.faults}

    def state(self) -> Mapping[str, Any]:
        return {"round": self.round}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.round = state["round"]


class Learner(Task):
    """Notes what the actors give, takes its time, and tells them its round."""

    def __init__(self, _context: TaskContext, *, pause_s: float, fails_in: int = -1) -> None:
        self.pause_s, self.fails_in = pause_s, fails_in
        self.round = 0
        self.seen: list[list[float]] = []
        self.events: list[list[float | None]] = []

    def initial(self, port: str) -> Any:
        return np.full(50_000, -1.0)

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        self.seen.append([float(array[0]) for array in inputs["seen"]])
        self.events.append([None if array is None else float(array[0]) for array in inputs["event"]])
        time.sleep(self.pause_s)
        if self.round == self.fails_in:
            raise ArithmeticError("enough")
        outputs["told"][...] = self.round
        self.round += 1

    def tallies(self) -> Mapping[str, Any]:
        return {"seen": self.seen, "events": self.events}

    def state(self) -> Mapping[str, Any]:
        return {"round": self.round}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.round = state["round"]


def graph_of(pause_s: float = 0.0, *, learner_fails_in: int = -1, actor_fails_in: int = -1) -> Graph:
    """Three actors, whose events arrive two rounds later, and a learner that all of them hear."""
    builder = GraphBuilder(workload="async", parameters={}, seed=0, unit="round", units_per_round=1)
    actor = builder.bank(
        "actor",
        3,
        partial(Actor, fails_in=actor_fails_in),
        inputs=[Input("told", RETAINED)],
        outputs=[Output("seen", ArraySpec((3,), "f8")), Output("event", ArraySpec((1,), "i8"), optional=True)],
    )
    learner = builder.task(
        "learner",
        partial(Learner, pause_s=pause_s, fails_in=learner_fails_in),
        inputs=["seen", "event"],
        outputs=[Output("told", ArraySpec((50_000,), "f8"))],
        observed=True,
    )
    builder.gather(actor["seen"], learner["seen"], delay=1)
    builder.gather(actor["event"], learner["event"], delay=2)
    builder.broadcast(learner["told"], actor["told"], delay=1)
    return builder.build()


def opened(name: str, graph: Graph, scratch: Path, **options: Any) -> Session:
    runtime = registry.runtimes().get(name)
    return runtime.open(graph, runtime.options(**options), scratch)


def check_what_arrived(tallies: Mapping[str, Any], staleness: int) -> list[float]:
    """Everything once and in order; what is told never older than it may be, whole, and kept. How old it was."""
    (learner,) = tallies["learner"]
    assert learner["seen"] == [
        [-1.0] * 3 if number == 0 else [100.0 * (number - 1) + index for index in range(3)] for number in range(ROUNDS)
    ]
    assert learner["events"] == [
        [float(number - 2) if number >= 2 and (number - 2) % 3 == 0 else None] * 3 for number in range(ROUNDS)
    ]
    late = []
    for actor in tallies["actor"]:
        told = np.array(actor["told"])
        assert actor["faults"] == 0
        assert (np.diff(told) >= 0).all()
        late += (np.arange(ROUNDS) - 1 - told).tolist()
    assert max(late) <= staleness
    return late


@pytest.mark.parametrize("native", [True, False], ids=["native", "semaphores"])
@pytest.mark.parametrize("staleness", [0, 1, 4])
def test_all_arrives_once_and_what_is_told_is_as_new_as_promised(
    native: bool, staleness: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr(runtimes.reactor, "native_available", lambda: False)
    with opened("reactor-async", graph_of(), tmp_path, workers=4, staleness=staleness) as session:
        began_ns = time.perf_counter_ns()
        durations = np.concatenate([session.advance(rounds) for rounds in (1, 0, 99, ROUNDS - 100)])
        assert durations.sum() <= time.perf_counter_ns() - began_ns
        check_what_arrived(session.tallies(), staleness)
        assert np.array_equal(
            np.asarray(session.received()["learner"]["seen"])[:, 0], 100 * (ROUNDS - 2) + np.arange(3)
        )
    assert durations.shape == (ROUNDS,)
    assert (durations > 0).all()


def test_actors_go_on_while_the_learner_takes_its_time(tmp_path: Path) -> None:
    with opened("reactor-async", graph_of(0.002), tmp_path, staleness=3) as session:
        session.advance(ROUNDS)
        late = check_what_arrived(session.tallies(), 3)
    assert max(late) == 3


def test_a_session_can_be_stopped_and_go_on(tmp_path: Path) -> None:
    graph = graph_of()
    with opened("reactor-async", graph, tmp_path) as session:
        session.advance(40)
        state = session.state()
    assert state.round == 40
    assert [len(values) for values in state.tasks["actor"][2].in_flight.values()] == [1, 2]
    for name in ("reactor-async", "sequential"):
        with opened(name, graph.resumed(state), tmp_path) as session:
            session.advance(3)
            (learner,) = session.tallies()["learner"]
            assert learner["seen"] == [[100.0 * number + index for index in range(3)] for number in (39, 40, 41)]
            assert learner["events"] == [[None] * 3, [39.0] * 3, [None] * 3]
            # The learner may have done its next round before.
            assert session.tallies()["actor"][0]["told"][0] in {39, 40 if name == "reactor-async" else 39}
            assert session.state().round == 43


@pytest.mark.parametrize(
    ("fails", "task"), [({"learner_fails_in": 20}, "learner"), ({"actor_fails_in": 20}, r"actor\[\d\]")]
)
def test_a_failure_ends_all_soon_wherever_it_is(fails: dict[str, int], task: str, tmp_path: Path) -> None:
    session = opened("reactor-async", graph_of(**fails), tmp_path, workers=3)
    began_s = time.monotonic()
    with pytest.raises(RuntimeFailure, match=rf"Task '{task}' failed in round 20: ArithmeticError: enough"):
        session.advance(ROUNDS)
    with pytest.raises(RuntimeFailure, match="failed or is closed"):
        session.state()
    session.close()
    assert time.monotonic() - began_s < 5


def test_values_that_are_no_arrays_cannot_be_shared(tmp_path: Path) -> None:
    builder = GraphBuilder(workload="async", parameters={}, seed=0, unit="round", units_per_round=1)
    actor = builder.bank("actor", 2, partial(Learner, pause_s=0), outputs=["anything"])
    sink = builder.task("sink", partial(Learner, pause_s=0), inputs=["anything"], observed=True)
    builder.gather(actor["anything"], sink["anything"], delay=1)
    with pytest.raises(
        RuntimeFailure, match=r"cannot run workload 'async': 'actor.anything' goes .* declares no array"
    ):
        opened("reactor-async", builder.build(), tmp_path)


@pytest.mark.ray
def test_all_arrives_once_with_ray_too_and_actors_go_on() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="s", ignore_cleanup_errors=True) as scratch,
        opened("ray-async", graph_of(0.002), Path(scratch), workers=3, staleness=3) as session,
    ):
        durations = np.concatenate([session.advance(rounds) for rounds in (1, 0, ROUNDS - 1)])
        late = check_what_arrived(session.tallies(), 3)
        state = session.state()
    assert state.round == ROUNDS
    assert durations.shape == (ROUNDS,)
    assert (durations > 0).all()
    assert max(late) > 0
