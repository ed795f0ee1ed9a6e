"""The runtime `ceiling`: the members' work alone, in pinned processes that do not wait for one another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from runtimes.ceiling import RUNTIME as CEILING
from runtimes.protocol import RuntimeFailure, processors
from runtimes.sequential import RUNTIME as SEQUENTIAL
from tests.runtimes.failing import failing_graph
from workloads.broadcast_gather import WORKLOAD as BROADCAST_GATHER
from workloads.dataflow import ArraySpec, GraphBuilder, Output, Task
from workloads.simulation import WORKLOAD as SIMULATION

GUARD_S = 60

several_processors = pytest.mark.skipif(processors() < 2, reason="needs two processors")


def opened(graph, runtime=CEILING):
    return runtime.open(graph, runtime.options(), Path("unused"))


def graph_of(factory, width=2):
    builder = GraphBuilder(workload="members", parameters={}, seed=0, unit="firing", units_per_round=width)
    builder.bank("member", width, factory)
    return builder.build()


class Member(Task):
    """What all members of these tests have in common."""

    def __init__(self, context):
        self.index = context.index
        self.rounds = 0

    def fire(self, inputs, outputs):
        self.rounds += 1


class Whereabouts(Member):
    def tallies(self):
        pinned = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [self.index]
        return {"process": os.getpid(), "processors": pinned}


class SleepsInTurn(Member):
    """Member i sleeps in round i."""

    def fire(self, inputs, outputs):
        if self.rounds == self.index:
            time.sleep(0.05)
        super().fire(inputs, outputs)


class FirstWaitsForLast(Member):
    """Member 0 waits in its first round for what the other does in its fifth."""

    def __init__(self, context, *, file):
        super().__init__(context)
        self.file = Path(file)

    def fire(self, inputs, outputs):
        end_s = time.monotonic() + GUARD_S
        while self.index == 0 and not self.file.exists():
            if time.monotonic() > end_s:
                raise TimeoutError("the other process waits too")
            time.sleep(0.01)
        super().fire(inputs, outputs)
        if self.index == 1 and self.rounds == 5:
            self.file.touch()


class Sleeps(Member):
    """Says where it lives, and does not return."""

    def __init__(self, context, *, folder):
        super().__init__(context)
        (Path(folder) / str(os.getpid())).touch()

    def fire(self, inputs, outputs):
        time.sleep(600)


class Delayed(Member):
    """Counts how often it is asked for the value before round 0; member 1 may have none."""

    def __init__(self, context, *, fails):
        super().__init__(context)
        self.asked = 0
        self.fails = fails

    def initial(self, port):
        if self.fails and self.index == 1:
            raise ArithmeticError("no value yet")
        self.asked += 1
        return np.zeros(())

    def fire(self, inputs, outputs):
        outputs["value"][...] = self.rounds

    def tallies(self):
        return {"asked": self.asked}


class ClosesBadly(Member):
    def close(self):
        if self.index == 0:
            raise ArithmeticError("stuck")


def delayed_graph(fails):
    builder = GraphBuilder(workload="delayed", parameters={}, seed=0, unit="firing", units_per_round=2)
    bank = builder.bank("member", 2, partial(Delayed, fails=fails), outputs=[Output("value", ArraySpec((), "f8"))])
    sink = builder.task("sink", Member, inputs=["values"], observed=True)
    builder.gather(bank["value"], sink["values"], delay=1)
    return builder.build()


CELLS = [
    {"env_id": "CartPole-v1", "envs": 5},
    {"env_id": "CartPole-v1", "envs": 3, "fragment": 16},
    {"env_id": "ALE/Pong-v5", "envs": 2},
]


@pytest.mark.usefixtures("start_method")
@pytest.mark.parametrize("parameters", CELLS, ids=str)
def test_members_do_what_they_do_in_the_plain_loop(parameters):
    graph = SIMULATION.build(SIMULATION.parameters(**parameters), 7)
    tallies = []
    for runtime in (SEQUENTIAL, CEILING):
        with opened(graph, runtime) as session:
            session.advance(40)
            session.advance(20)
            tallies.append(session.tallies()["env"])
    assert tallies[0] == tallies[1]


@pytest.mark.parametrize("width", [1, 2, 7])
def test_members_are_spread_evenly_over_pinned_processes(width):
    with opened(graph_of(Whereabouts, width)) as session:
        session.advance(1)
        members = session.tallies()["member"]
    homes = list(dict.fromkeys(member["process"] for member in members))
    sizes = [sum(member["process"] == home for member in members) for home in homes]
    assert len(homes) == min(processors(), width)
    assert max(sizes) - min(sizes) <= 1
    assert os.getpid() not in homes
    pins = {member["process"]: member["processors"] for member in members}
    assert sorted(len(pin) for pin in pins.values()) == [1] * len(homes)
    assert len({pin[0] for pin in pins.values()}) == len(homes)


def test_durations_are_those_of_each_round():
    with opened(graph_of(Member)) as session:
        for rounds in (1, 25):
            durations_ns = session.advance(rounds)
            assert durations_ns.shape == (rounds,)
            assert durations_ns.dtype == np.int64
            assert (durations_ns >= 0).all()


@several_processors
def test_a_round_lasts_as_long_as_that_of_its_slowest_process():
    with opened(graph_of(SleepsInTurn)) as session:
        durations_ns = session.advance(2)
    assert (durations_ns >= 50_000_000).all()


@several_processors
def test_no_process_waits_for_another(tmp_path):
    with opened(graph_of(partial(FirstWaitsForLast, file=str(tmp_path / "written")))) as session:
        session.advance(5)


def test_single_tasks_are_not_fired_and_receive_nothing():
    graph = SIMULATION.build(SIMULATION.parameters(envs=2), 0)
    with opened(graph) as session:
        session.advance(2)
        assert session.received() == {}
        assert set(session.tallies()) == {"env"}


def test_values_before_round_0_are_asked_for_once():
    with opened(delayed_graph(fails=False)) as session:
        session.advance(2)
        session.advance(2)
        assert session.tallies()["member"] == [{"asked": 1}] * 2


def test_a_failing_initial_value_names_its_task():
    with (
        pytest.raises(RuntimeFailure, match=r"Task 'member\[1\]' failed in round 0: ArithmeticError: no value yet"),
        opened(delayed_graph(fails=True)) as session,
    ):
        session.advance(1)


# ----------------------------------------------------------------------------- where it exists


@pytest.mark.parametrize("echo", ["copy", "same"])
def test_stateless_members_have_a_ceiling_though_they_receive(echo):
    graph = BROADCAST_GATHER.build(BROADCAST_GATHER.parameters(nbytes=800, actors=3, echo=echo), 0)
    assert CEILING.refuses(graph, CEILING.options()) is None
    with opened(graph) as session:
        session.advance(3)


def test_members_that_wait_for_actions_have_none():
    graph = SIMULATION.build(SIMULATION.parameters(envs=2, actions="driver"), 0)
    said = "what the members of 'env' do depends on 'action', which comes from 'driver.action'"
    assert said in CEILING.refuses(graph, CEILING.options())
    with pytest.raises(RuntimeFailure, match=said):
        opened(graph)


def test_a_graph_without_banks_has_none():
    builder = GraphBuilder(workload="alone", parameters={}, seed=0, unit="firing", units_per_round=1)
    builder.task("alone", Member)
    assert "it has no bank" in CEILING.refuses(builder.build(), CEILING.options())


def stateless_graph(outputs, shape):
    builder = GraphBuilder(workload="stateless", parameters={}, seed=0, unit="firing", units_per_round=2)
    source = builder.task("source", Member, outputs=outputs)
    bank = builder.bank("member", 2, Shaped, inputs=["value"], stateless=True)
    getattr(builder, shape)(source["value"], bank["value"])
    return builder.build()


class Shaped(Member):
    """Notes what it receives."""

    def fire(self, inputs, outputs):
        value = inputs["value"]
        self.received = [value.shape, str(value.dtype), float(value.sum()), value.flags.writeable]

    def tallies(self):
        return {"received": self.received}


@pytest.mark.parametrize(("shape", "received"), [("broadcast", (2, 3)), ("scatter", (3,))])
def test_stateless_members_receive_zeros_of_the_declared_shape(shape, received):
    graph = stateless_graph([Output("value", ArraySpec((2, 3), "float32"))], shape)
    with opened(graph) as session:
        session.advance(1)
        assert session.tallies()["member"] == [{"received": [received, "float32", 0.0, False]}] * 2


def test_stateless_members_that_receive_no_declared_array_have_none():
    graph = stateless_graph(["value"], "broadcast")
    assert "'source.value' declares no array" in CEILING.refuses(graph, CEILING.options())


# ------------------------------------------------------------------------------------- failure


@several_processors
@pytest.mark.parametrize("act", ["advance", "tallies", "close"])
def test_a_process_that_was_killed_is_named_by_whatever_comes_next(act):
    session = opened(failing_graph("nothing"))
    session.advance(2)
    worker = next(process for process in multiprocessing.active_children() if process.name == "worker-1")
    worker.kill()
    worker.join()
    with pytest.raises(RuntimeFailure, match=r"1 of the ceiling .*part\[1\] to part\[2\].*killed by SIGKILL.*round 2"):
        getattr(session, act)(*[1][: act == "advance"])
    session.close()
    assert multiprocessing.active_children() == []


def test_closing_closes_every_member_where_it_lives(tmp_path):
    session = opened(failing_graph(str(tmp_path)))
    session.advance(2)
    session.close()
    session.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]
    assert multiprocessing.active_children() == []


def test_a_member_that_cannot_be_closed_is_named_and_nothing_is_left():
    session = opened(graph_of(ClosesBadly))
    with pytest.raises(RuntimeFailure, match=r"Task 'member\[0\]' could not be closed: ArithmeticError: stuck"):
        session.close()
    assert multiprocessing.active_children() == []


PROGRAM = """
import sys
from functools import partial
from tests.runtimes.test_ceiling import Sleeps, graph_of, opened

if __name__ == "__main__":
    opened(graph_of(partial(Sleeps, folder=sys.argv[1]))).advance(1)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_one_that_is_ended_in_mid_round(repository, tmp_path, number):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    (tmp_path / "homes").mkdir()
    path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, program, tmp_path / "homes"], env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.DEVNULL
    )
    end_s = time.monotonic() + GUARD_S
    while len(list((tmp_path / "homes").iterdir())) < min(2, processors()):
        assert process.poll() is None
        assert time.monotonic() < end_s
        time.sleep(0.05)
    homes = [int(path.name) for path in (tmp_path / "homes").iterdir()]
    process.send_signal(number)
    process.wait()
    while any(map(is_alive, homes)):
        assert time.monotonic() < end_s
        time.sleep(0.05)


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# -------------------------------------------------------------------------------------- several banks


class Sleeper(Whereabouts):
    """Takes its time, if it is given what it waits for."""

    def __init__(self, context, *, seconds):
        super().__init__(context)
        self.seconds = seconds

    def fire(self, inputs, outputs):
        if all(value is not None for value in inputs.values()):
            time.sleep(self.seconds)

    def tallies(self):
        return {**super().tallies(), "index": self.index}


class Giver(Task):
    """Gives nothing."""

    def __init__(self, context):
        pass

    def fire(self, inputs, outputs):
        pass


@several_processors
def test_members_that_take_long_have_a_process_of_their_own_and_optional_inputs_are_there():
    builder = GraphBuilder(workload="members", parameters={}, seed=0, unit="firing", units_per_round=1)
    giver = builder.task("giver", Giver, outputs=[Output("work", ArraySpec((3,), "f4"), optional=True)])
    builder.bank("light", 2, partial(Sleeper, seconds=0.001))
    heavy = builder.bank("heavy", 1, partial(Sleeper, seconds=0.02), inputs=["work"], stateless=True)
    builder.broadcast(giver["work"], heavy["work"])

    with opened(builder.build()) as session:
        durations = session.advance(3)
        tallies = session.tallies()

    homes = {path: {tally["process"] for tally in members} for path, members in tallies.items()}
    assert len(homes["light"]) == 1
    assert not homes["light"] & homes["heavy"]
    assert [tally["index"] for tally in tallies["light"]] == [0, 1]
    assert durations.min() > 0.02e9
