"""Random graphs that stop between two rounds and go on, on each runtime without a cluster; Ray's have the suite."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conformance.random_graphs import Plan, graph_of
from runtimes.processes_pipes import PipesSession
from runtimes.ray_packed import packed
from runtimes.reactor import Program
from runtimes.reactor_adapter import GraphReactor, ReactorSession, places_of_their_own
from runtimes.sequential import SequentialSession
from runtimes.xronos_runtime import RUNTIME as XRONOS
from tests.moving import force_moves
from tests.runtimes.plans import plans
from workloads.dataflow import Digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from workloads.dataflow import Graph, Session, State

ROUNDS = 7


def reactor(graph: Graph, **how: Any) -> ReactorSession:
    placement = partial(places_of_their_own, graph)
    return ReactorSession(graph, Program(GraphReactor(graph), placement=placement, fast=True, **how))


def piped(graph: Graph) -> Session:
    return PipesSession(packed(graph, driver_slice=True, places=2))


def on_xronos(graph: Graph) -> Session:
    return XRONOS.open(graph, XRONOS.options(), Path("unused"))


RUNTIMES: dict[str, tuple[Callable[[Graph], Session], int]] = {
    "inline": (partial(reactor, executor="inline"), 25),
    "threads": (partial(reactor, executor="threads", workers=2), 5),
    "processes": (partial(reactor, executor="processes", workers=2, start_method="fork"), 5),
    "pipes": (piped, 2),
    "xronos": (on_xronos, 4),
}
"""Of each how it is opened, and how many examples it is worth."""


def digest_of(state: State) -> str:
    digest = Digest()
    digest.add({path: [[m.kept, m.in_flight] for m in members] for path, members in state.tasks.items()})
    return digest.hexdigest()


def end_of(session: Session, rounds: int) -> tuple[Any, str]:
    """The tallies and the state after `rounds` more rounds."""
    with session:
        session.advance(rounds)
        return session.tallies(), digest_of(session.state())


def check(open_session: Callable[[Graph], Session], plan: Plan, seed: int, cut: int) -> None:
    """A session that stops after `cut` rounds stands where the plain loop stands, and another goes on from there."""
    graph = graph_of(plan, seed)
    whole = end_of(SequentialSession(graph), ROUNDS)
    with open_session(graph) as session:
        session.advance(cut)
        state = session.state()
        session.advance(ROUNDS - cut)
        assert (session.tallies(), digest_of(session.state())) == whole
    with SequentialSession(graph) as session:
        session.advance(cut)
        assert digest_of(session.state()) == digest_of(state)
    assert end_of(open_session(graph.resumed(state)), ROUNDS - cut) == whole


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_session_goes_on_where_another_stood(name: str) -> None:
    open_session, examples = RUNTIMES[name]
    if name == "xronos" and importlib.util.find_spec("xronos") is None:
        pytest.skip("xronos has wheels for Linux on x86-64 and Arm only; install the extra 'xronos' there")

    @given(plan=plans(), seed=st.integers(0, 3), cut=st.integers(0, 4))
    @settings(max_examples=examples, deadline=None)
    def goes_on(plan: Plan, seed: int, cut: int) -> None:
        check(open_session, plan, seed, cut)

    goes_on()


@pytest.mark.parametrize("to_threads", [False, True], ids=["to processes", "to threads"])
@given(plan=plans(), cut=st.integers(0, 4), after_tags=st.integers(1, ROUNDS))
@settings(max_examples=4, deadline=None)
def test_reactors_that_move_can_be_asked_before_and_after(
    to_threads: bool, plan: Plan, cut: int, after_tags: int
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        force_moves(monkeypatch, after_tags=after_tags, to_threads=to_threads)
        check(partial(reactor, workers=2), plan, 1, cut)
