"""Random graphs, many of them, on the executors below the runtimes, forced to move or with given workers.

What every runtime is held to stands in `harness.conformance`; `scripts/test` runs that on all of ours.
"""

from __future__ import annotations

import importlib.util
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.conformance.random_graphs import Mixer, Plan, graph_of
from runtimes.processes_pipes import PipesSession
from runtimes.ray_packed import packed
from runtimes.reactor import Program
from runtimes.reactor.plan import script
from runtimes.reactor_adapter import GraphReactor, ReactorSession, places_of_their_own
from runtimes.sequential import SequentialSession
from runtimes.xronos_runtime import RUNTIME as XRONOS
from tests.moving import force_moves
from tests.runtimes.plans import plans
from workloads.dataflow import ArraySpec, Digest, Graph, GraphBuilder, Inputs, Output, Outputs, Session

ROUNDS = 7


def trace_of(session: Session, graph: Graph) -> list[str]:
    """A digest of every round, and of the tallies at the end."""
    digests = []
    with session:
        for rounds in (1, 1, 2, ROUNDS - 4):
            assert session.advance(rounds).shape == (rounds,)
            digest = Digest()
            digest.add_received(graph, session.received())
            digests.append(digest.hexdigest())
        tallies = session.tallies()
        digest = Digest()
        digest.add(tallies)
        digests.append(digest.hexdigest())
        assert all(member["broken"] == 0 for members in tallies.values() for member in members)
        assert all(member["rounds"] == ROUNDS for members in tallies.values() for member in members)
    return digests


def reactor(graph: Graph, **how: Any) -> ReactorSession:
    placement = partial(places_of_their_own, graph)
    return ReactorSession(graph, Program(GraphReactor(graph), placement=placement, fast=True, **how))


needs_xronos = pytest.mark.skipif(
    importlib.util.find_spec("xronos") is None,
    reason="xronos has wheels for Linux on x86-64 and Arm only; install the extra 'xronos' there",
)


def xronos_session(graph: Graph) -> Session:
    return XRONOS.open(graph, XRONOS.options(), Path("unused"))


@given(plan=plans(), seed=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_inline_reactors_give_what_the_loop_gives(plan: Plan, seed: int) -> None:
    graph = graph_of(plan, seed)
    assert trace_of(reactor(graph, executor="inline"), graph) == trace_of(SequentialSession(graph), graph)


@pytest.mark.parametrize("workers", [2, 3, 4])
@given(plan=plans(), seed=st.integers(0, 3))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_reactors_in_processes_give_what_the_loop_gives(workers: int, plan: Plan, seed: int) -> None:
    graph = graph_of(plan, seed)
    parallel = reactor(graph, executor="processes", workers=workers, start_method="fork")
    assert trace_of(parallel, graph) == trace_of(SequentialSession(graph), graph)


@pytest.mark.parametrize("workers", [2, 3])
@given(plan=plans(), seed=st.integers(0, 3))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_reactors_in_threads_give_what_the_loop_gives(workers: int, plan: Plan, seed: int) -> None:
    graph = graph_of(plan, seed)
    parallel = reactor(graph, executor="threads", workers=workers)
    assert trace_of(parallel, graph) == trace_of(SequentialSession(graph), graph)


@pytest.mark.parametrize("driver_slice", [True, False], ids=["driver's slice", "no driver's slice"])
@given(plan=plans(), seed=st.integers(0, 3), places=st.integers(1, 4))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_processes_and_pipes_give_what_the_loop_gives(driver_slice: bool, plan: Plan, seed: int, places: int) -> None:
    graph = graph_of(plan, seed)
    piped = PipesSession(packed(graph, driver_slice=driver_slice, places=places))
    assert trace_of(piped, graph) == trace_of(SequentialSession(graph), graph)


@needs_xronos
@given(plan=plans(), seed=st.integers(0, 3))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_reactors_of_xronos_give_what_the_loop_gives(plan: Plan, seed: int) -> None:
    graph = graph_of(plan, seed)
    assert trace_of(xronos_session(graph), graph) == trace_of(SequentialSession(graph), graph)


@pytest.mark.parametrize("to_threads", [False, True], ids=["to processes", "to threads"])
@given(plan=plans(), seed=st.integers(0, 3), after_tags=st.integers(1, ROUNDS), workers=st.integers(2, 4))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_reactors_that_move_between_rounds_give_what_the_loop_gives(
    to_threads: bool, plan: Plan, seed: int, after_tags: int, workers: int
) -> None:
    graph = graph_of(plan, seed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        moves = force_moves(monkeypatch, after_tags=after_tags, to_threads=to_threads)
        assert trace_of(reactor(graph, workers=workers), graph) == trace_of(SequentialSession(graph), graph)
    tasks = sum(width or 1 for width in plan.widths)
    assert moves == (["threads" if to_threads else "processes"] if tasks > 1 else [])


class SlowMixer(Mixer):
    """The last member takes its time, so that who does not wait for it is early."""

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        time.sleep(0.05 * (self.checksum >= 3 and self.rounds == 0))
        super().fire(inputs, outputs)


def test_the_check_notices_a_wait_that_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = GraphBuilder(workload="slow", parameters={}, seed=0, unit="mix", units_per_round=1)
    slow = partial(SlowMixer, kinds={"o": (True, 0, False)}, retain={})
    source = builder.bank("source", 4, slow, outputs=[Output("o", ArraySpec((3,), "float64"))])
    sink = builder.task("sink", partial(Mixer, kinds={}, retain={"i": 0}), inputs=["i"], observed=True)
    builder.gather(source["o"], sink["i"])
    graph = builder.build()
    how = {"executor": "processes", "workers": 2, "start_method": "fork"}
    expected = trace_of(SequentialSession(graph), graph)
    assert trace_of(reactor(graph, **how), graph) == expected
    waitless = "runtimes.reactor.peers.script"
    monkeypatch.setattr(waitless, lambda *cut: [cue for cue in script(*cut) if cue.wait is None])
    assert trace_of(reactor(graph, **how), graph) != expected
