"""The runtime `xronos`: what the loop gives, and what becomes of failures."""

from __future__ import annotations

import importlib.util
import threading

import pytest

from runtimes.protocol import RuntimeFailure
from runtimes.sequential import SequentialSession
from runtimes.xronos_runtime import RUNTIME
from tests.runtimes.failing import failing_graph
from workloads.broadcast_gather import WORKLOAD as BROADCAST_GATHER
from workloads.dataflow import Digest
from workloads.simulation import WORKLOAD as SIMULATION

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("xronos") is None,
    reason="xronos has wheels for Linux on x86-64 and Arm only; install the extra 'xronos' there",
)


def opened(graph):
    return RUNTIME.open(graph, RUNTIME.options(), None)


def digest_of(session, graph):
    digest = Digest()
    with session:
        for _ in range(5):
            assert session.advance(2).shape == (2,)
            digest.add_received(graph, session.received())
        digest.add(session.tallies())
    return digest.hexdigest()


@pytest.mark.parametrize(
    "parameters",
    [{"envs": 3}, {"envs": 3, "fragment": 4}, {"envs": 3, "actions": "driver", "lag": 1}],
    ids=["local", "fragment", "driver"],
)
def test_environments_give_what_they_give_in_the_plain_loop(parameters):
    graph = SIMULATION.build(SIMULATION.parameters(**parameters), 3)
    assert digest_of(opened(graph), graph) == digest_of(SequentialSession(graph), graph)


@pytest.mark.parametrize("echo", ["copy", "same"])
def test_arrays_come_back_as_they_were_sent(echo):
    graph = BROADCAST_GATHER.build(BROADCAST_GATHER.parameters(nbytes=800, actors=3, echo=echo), 0)
    assert digest_of(opened(graph), graph) == digest_of(SequentialSession(graph), graph)


def test_a_member_that_fails_is_named_with_its_round_and_no_thread_is_left():
    with (
        pytest.raises(RuntimeFailure, match=r"Task 'part\[2\]' failed in round 4: ArithmeticError: four"),
        opened(failing_graph("fire")) as session,
    ):
        session.advance(10)
    with pytest.raises(RuntimeFailure, match="Open another one"):
        session.advance(1)
    assert [thread.name for thread in threading.enumerate() if thread.name == "xronos"] == []


def test_a_member_that_cannot_be_built_is_named():
    with pytest.raises(RuntimeFailure, match=r"Task 'part\[2\]' could not be built: ArithmeticError: built wrongly"):
        opened(failing_graph("build"))


def test_closing_closes_every_member_once(tmp_path):
    session = opened(failing_graph(str(tmp_path)))
    session.advance(2)
    session.close()
    session.close()
    assert [len((tmp_path / str(index)).read_text(encoding="ascii").split()) for index in range(3)] == [1, 1, 1]


def test_a_session_that_never_ran_can_be_closed():
    session = opened(failing_graph("nothing"))
    session.close()
    assert [thread.name for thread in threading.enumerate() if thread.name == "xronos"] == []
