"""The runtime `processes-pipes`: who lives where, what crosses the pipes, and what becomes of failures."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import pytest

from runtimes.processes_pipes import RUNTIME, PipesSession
from runtimes.protocol import RuntimeFailure
from runtimes.ray_packed import packed
from runtimes.sequential import SequentialSession
from tests.runtimes.failing import failing_graph
from workloads.broadcast_gather import WORKLOAD as BROADCAST_GATHER
from workloads.dataflow import ArraySpec, Digest, GraphBuilder, Output, Task
from workloads.simulation import WORKLOAD as SIMULATION


def opened(graph, places=3):
    return PipesSession(packed(graph, driver_slice=True, places=places))


def digest_of(session, graph, rounds=5):
    digest = Digest()
    with session:
        for _ in range(rounds):
            session.advance(1)
            digest.add_received(graph, session.received())
        digest.add(session.tallies())
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------- results


@pytest.mark.usefixtures("start_method")
@pytest.mark.parametrize(
    "parameters",
    [{"envs": 5}, {"envs": 5, "fragment": 3}, {"envs": 5, "actions": "driver", "lag": 1}],
    ids=["local", "fragment", "driver"],
)
def test_environments_give_what_they_give_in_the_plain_loop(parameters):
    graph = SIMULATION.build(SIMULATION.parameters(**parameters), 3)
    assert digest_of(opened(graph), graph) == digest_of(SequentialSession(graph), graph)


@pytest.mark.parametrize("echo", ["copy", "same"])
@pytest.mark.parametrize("nbytes", [8, 65_536, 1_000_000])
def test_arrays_of_any_size_arrive_as_they_were_sent(nbytes, echo):
    graph = BROADCAST_GATHER.build(BROADCAST_GATHER.parameters(nbytes=nbytes, actors=5, echo=echo), 0)
    assert digest_of(opened(graph), graph) == digest_of(SequentialSession(graph), graph)


def test_the_runtime_uses_every_processor_and_no_more(monkeypatch):
    monkeypatch.setattr("runtimes.processes_pipes.processors", lambda: 3)
    graph = SIMULATION.build(SIMULATION.parameters(envs=5), 0)
    with RUNTIME.open(graph, RUNTIME.options(), None):
        assert len(multiprocessing.active_children()) == 2


# ------------------------------------------------------------------------------------- who lives where


class Placed(Task):
    """Tells where it lives, and adds up what it receives."""

    def __init__(self, context):
        self.total = 0.0

    def fire(self, inputs, outputs):
        for value in inputs.values():
            self.total += float(np.sum(np.asarray(value)))
        for port in outputs.ports:
            outputs[port][...] = self.total + 1

    def initial(self, port):
        return np.zeros(3)

    def tallies(self):
        return {"process": os.getpid(), "total": self.total}


def learning_graph():
    """Members feed a learner with a place of its own, whose weights come back to them a round later."""
    builder = GraphBuilder(workload="learning", parameters={}, seed=0, unit="firing", units_per_round=4)
    spec = ArraySpec((3,), "f8")
    members = builder.bank("member", 4, Placed, inputs=["weights"], outputs=[Output("batch", spec)])
    learner = builder.task("learner", Placed, inputs=["batches"], outputs=[Output("weights", spec)], own_place=True)
    driver = builder.task("driver", Placed, inputs=["weights"], observed=True)
    builder.gather(members["batch"], learner["batches"])
    builder.broadcast(learner["weights"], members["weights"], delay=1)
    builder.connect(learner["weights"], driver["weights"])
    return builder.build()


def test_a_task_worth_a_place_has_a_process_of_its_own_and_its_values_reach_the_others():
    graph = learning_graph()
    with opened(graph) as session, SequentialSession(graph) as plain:
        session.advance(4)
        plain.advance(4)
        tallies, expected = session.tallies(), plain.tallies()
        np.testing.assert_array_equal(session.received()["driver"]["weights"], plain.received()["driver"]["weights"])
    totals = {path: [member["total"] for member in members] for path, members in tallies.items()}
    assert totals == {path: [member["total"] for member in members] for path, members in expected.items()}
    homes = {path: {member["process"] for member in members} for path, members in tallies.items()}
    assert homes["driver"] == {os.getpid()}
    assert len(homes["member"]) == 3
    assert homes["learner"].isdisjoint(homes["member"] | homes["driver"])


# ------------------------------------------------------------------------------------- failure


@pytest.mark.parametrize("act", ["advance", "tallies", "close"])
def test_a_process_that_was_killed_is_named_by_whatever_comes_next(act):
    session = opened(failing_graph("nothing"))
    session.advance(2)
    worker = next(process for process in multiprocessing.active_children() if process.name == "worker-1")
    worker.kill()
    worker.join()
    said = r"Process 1 of processes-pipes .*home of part\[2\].*killed by SIGKILL after round 2"
    with pytest.raises(RuntimeFailure, match=said):
        getattr(session, act)(*[1][: act == "advance"])
    session.close()
    assert multiprocessing.active_children() == []


def test_a_session_that_has_failed_refuses_to_go_on():
    session = opened(failing_graph("fire"))
    with pytest.raises(RuntimeFailure, match="four is too many"):
        session.advance(10)
    with pytest.raises(RuntimeFailure, match="Open another one"):
        session.advance(1)
    session.close()


def test_closing_closes_every_member_where_it_lives(tmp_path):
    session = opened(failing_graph(str(tmp_path)))
    session.advance(2)
    session.close()
    session.close()
    homes = [(tmp_path / str(index)).read_text(encoding="ascii").split() for index in range(3)]
    assert [len(closed) for closed in homes] == [1, 1, 1]
    assert homes[0] == [str(os.getpid())]
    assert len({closed[0] for closed in homes}) == 3
    assert multiprocessing.active_children() == []


class Unsendable(Task):
    def __init__(self, context):
        pass

    def fire(self, inputs, outputs):
        outputs["value"] = lambda: None


def test_a_value_that_cannot_be_pickled_is_a_failure_and_no_hang():
    builder = GraphBuilder(workload="unsendable", parameters={}, seed=0, unit="firing", units_per_round=2)
    bank = builder.bank("part", 2, Unsendable, outputs=["value"])
    sink = builder.task("sink", Placed, inputs=["value"], observed=True)
    builder.gather(bank["value"], sink["value"])
    with pytest.raises(RuntimeFailure, match="pickle"), opened(builder.build(), places=2) as session:
        session.advance(1)
