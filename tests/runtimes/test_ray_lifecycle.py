"""How a Ray session begins and ends where `harness.conformance` does not look: settings, names of actors, a raylet."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from harness.conformance.leftovers import GRACE_S, watched
from runtimes import ray_actors, ray_compiled, ray_packed
from runtimes.protocol import RuntimeFailure
from runtimes.ray_cluster import PRIVATE_SETTINGS
from workloads.dataflow import ArraySpec, GraphBuilder, Output, Task

pytestmark = pytest.mark.ray

RUNTIMES = {runtime.name: runtime for runtime in (ray_actors.RUNTIME, ray_packed.RUNTIME, ray_compiled.RUNTIME)}


@pytest.fixture(autouse=True)
def _tasks_travel_by_value():
    import ray.cloudpickle

    # Tasks are defined here, in a module that Ray's workers cannot import.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def scratch():
    # Shorter than pytest's tmp_path: Ray keeps sockets in it.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def leaves_nothing():
    """Whatever the test does, no process, thread, shared memory, setting or token may be left of it."""
    token = Path.home() / ".ray" / "auth_token"
    had_token = token.exists()
    with watched(GRACE_S) as left:
        yield
    assert left.found == []
    assert token.exists() == had_token


class Worker(Task):
    """Says where it lives."""

    def __init__(self, context):
        pass

    def fire(self, inputs, outputs):
        outputs["pid"][...] = os.getpid()


class Sink(Task):
    def __init__(self, context):
        pass

    def fire(self, inputs, outputs):
        self.pids = [int(pid) for pid in inputs["pids"]]


def graph_of():
    builder = GraphBuilder(workload="test", parameters={}, seed=0, unit="firing", units_per_round=3)
    bank = builder.bank("bank", 3, Worker, outputs=[Output("pid", ArraySpec((), "i8"))])
    sink = builder.task("sink", Sink, inputs=["pids"], observed=True)
    builder.gather(bank["pid"], sink["pids"])
    return builder.build()


def pids_of(session):
    return [int(pid) for pid in session.received()["sink"]["pids"]]


@pytest.mark.parametrize(
    ("name", "victim"), [("ray", r"bank\[2\]"), ("ray-packed", "host [0-9]+"), ("ray-compiled", "host [0-9]+")]
)
def test_a_killed_actor_is_named_and_leaves_nothing(name, victim, scratch, leaves_nothing):
    runtime = RUNTIMES[name]
    with runtime.open(graph_of(), runtime.options(), scratch) as session:
        session.advance(2)
        os.kill(pids_of(session)[2], signal.SIGKILL)
        with pytest.raises(RuntimeFailure, match=rf"Ray actor '{victim}' died in round 2"):
            session.advance(1)


def test_a_raylet_that_is_killed_is_named_and_leaves_nothing(scratch, leaves_nothing):
    runtime = RUNTIMES["ray-packed"]
    with runtime.open(graph_of(), runtime.options(), scratch) as session:
        session.advance(2)
        raylet = next(child for child in psutil.Process().children() if child.name() == "raylet")
        raylet.kill()
        # A process is told to die long before it is dead; a short round would be over by then, and rightly.
        os.waitid(os.P_PID, raylet.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(RuntimeFailure, match=r"'raylet' .* has died"):
            session.advance(1)


def test_private_settings_are_set_for_ray_packed_alone_and_said(scratch):
    packed = RUNTIMES["ray-packed"]
    assert RUNTIMES["ray"].notice(RUNTIMES["ray"].options()) is None
    assert packed.notice(packed.options(private_settings=False)) is None
    assert "RAY_max_direct_call_object_size=1000" in packed.notice(packed.options(inline_bytes=1000))
    with packed.open(graph_of(), packed.options(inline_bytes=1000), scratch):
        settings = dict(os.environ)
    assert settings["RAY_max_direct_call_object_size"] == "1000"
    assert settings["RAY_AUTH_MODE"] == "disabled"
    assert settings["RAY_task_events_report_interval_ms"] == "0"
    assert not set(PRIVATE_SETTINGS) & set(os.environ)


def test_a_scratch_folder_that_is_too_long_for_sockets_is_said_to_be(scratch, leaves_nothing):
    deep = scratch / ("x" * 60)
    deep.mkdir()
    with pytest.raises(RuntimeFailure, match="bytes too long: Ray keeps sockets"):
        RUNTIMES["ray"].open(graph_of(), RUNTIMES["ray"].options(), deep)


def test_a_foreign_ray_address_is_not_joined(scratch, leaves_nothing, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    runtime = RUNTIMES["ray-packed"]
    with runtime.open(graph_of(), runtime.options(), scratch) as session:
        session.advance(1)
    assert os.environ["RAY_ADDRESS"] == "192.0.2.1:6379"
