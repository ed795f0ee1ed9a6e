"""Who lives where on Ray, what crosses, and what is taken away; no cluster is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtimes.layout import rounds_ahead
from runtimes.ray_actors import actor_per_member
from runtimes.ray_by_value import RUNTIME as BY_VALUE
from runtimes.ray_calls import Calls
from runtimes.ray_cluster import _unlink_semaphores, nbytes_of, object_store_bytes
from runtimes.ray_compiled import RUNTIME as COMPILED
from runtimes.ray_compiled import RayCompiledOptions
from runtimes.ray_graphs import Executions, buffers_for, problem_of
from runtimes.ray_packed import RayPackedOptions, packed
from workloads.dataflow import ArraySpec, GraphBuilder, Input, Output, PortRef, Task


class Nothing(Task):
    def __init__(self, context):
        pass

    def fire(self, inputs, outputs):
        pass


def pipeline():
    """A source broadcasts to a bank, which feeds a second bank, which a driver gathers; a learner has its own place."""
    builder = GraphBuilder(workload="test", parameters={}, seed=0, unit="firing", units_per_round=1)
    source = builder.task("source", Nothing, outputs=[Output("x", ArraySpec((1000,), "f8"))])
    first = builder.bank("first", 5, Nothing, inputs=["x"], outputs=["y"])
    second = builder.bank("second", 5, Nothing, inputs=["y"], outputs=["z"])
    learner = builder.task("learner", Nothing, inputs=["z"], own_place=True)
    driver = builder.task("driver", Nothing, inputs=["z"], observed=True)
    builder.broadcast(source["x"], first["x"])
    builder.connect(first["y"], second["y"])
    builder.gather(second["z"], learner["z"])
    builder.gather(second["z"], driver["z"])
    return builder.build()


def loop(*delays, retain=0, observed=True):
    """A bank feeds a driver, which feeds the bank; one edge for each delay leads back."""
    builder = GraphBuilder(workload="test", parameters={}, seed=0, unit="firing", units_per_round=1)
    ports = [f"x{number}" for number in range(len(delays))]
    bank = builder.bank("bank", 4, Nothing, inputs=[Input(port, retain) for port in ports], outputs=["y"])
    driver = builder.task("driver", Nothing, inputs=["y"], outputs=ports, observed=observed)
    builder.gather(bank["y"], driver["y"])
    for port, delay in zip(ports, delays, strict=True):
        builder.broadcast(driver[port], bank[port], delay=delay)
    return builder.build()


def sandwich(*, delay=0):
    """The driver fires between a bank and a second bank, and after it."""
    builder = GraphBuilder(workload="test", parameters={}, seed=0, unit="firing", units_per_round=1)
    first = builder.bank("first", 4, Nothing, outputs=["y"])
    middle = builder.task("middle", Nothing, inputs=["y"], outputs=["x"])
    second = builder.bank("second", 4, Nothing, inputs=["x"], outputs=["z"])
    last = builder.task("last", Nothing, inputs=["z"], observed=True)
    builder.gather(first["y"], middle["y"])
    builder.broadcast(middle["x"], second["x"], delay=delay)
    builder.gather(second["z"], last["z"])
    return builder.build()


def steps_of(layout):
    return [[node.path for node in step] for step in layout.steps()]


def test_consecutive_banks_are_fired_in_one_call_where_they_are_packed():
    layout = packed(pipeline(), driver_slice=True, places=2)
    assert steps_of(layout) == [["source"], ["first", "second"], ["learner", "driver"]]


def test_banks_are_fired_one_after_the_other_where_members_are_actors():
    assert steps_of(actor_per_member(pipeline())) == [["source"], ["first"], ["second"], ["learner", "driver"]]


def test_single_tasks_live_with_the_driver_unless_they_are_worth_a_place():
    for layout in (actor_per_member(pipeline()), packed(pipeline(), driver_slice=True, places=2)):
        assert [layout.pieces[path][0].place for path in ("source", "driver")] == [0, 0]
        assert layout.names[layout.pieces["learner"][0].place] == "learner"


@pytest.mark.parametrize(
    ("driver_slice", "places", "expected"),
    [
        (True, 2, [("driver", 2), ("host 1", 3)]),
        (True, 1, [("driver", 2), ("host 1", 3)]),
        (False, 2, [("host 1", 2), ("host 2", 3)]),
        (False, 1, [("host 1", 5)]),
        (True, 8, [("host 1", 1), ("host 3", 1), ("host 4", 1), ("host 6", 1), ("host 7", 1)]),
    ],
)
def test_hosts_are_one_fewer_than_processors_if_the_driver_has_a_slice_and_at_least_one(driver_slice, places, expected):
    layout = packed(pipeline(), driver_slice=driver_slice, places=places)
    assert [(layout.names[piece.place], len(piece.members)) for piece in layout.pieces["first"]] == expected


def test_what_only_actors_read_is_passed_on_without_the_driver():
    layout = actor_per_member(pipeline())
    first, second = layout.steps()[1:3]
    member = layout.pieces["first"][3].place
    assert layout.exports(first, member).passed == (PortRef("first", "y"),)
    assert layout.exports(first, member).fetched == ()
    assert layout.exports(second, layout.pieces["second"][3].place).fetched == (PortRef("second", "z"),)


def test_what_banks_in_a_host_hand_each_other_does_not_leave_it():
    layout = packed(pipeline(), driver_slice=True, places=2)
    exports = layout.exports(layout.steps()[1], place=1)
    assert PortRef("first", "y") not in (*exports.bundled, *exports.passed)


def test_the_object_store_holds_two_rounds_of_inputs_and_returns():
    builder = GraphBuilder(workload="test", parameters={}, seed=0, unit="firing", units_per_round=1)
    builder.bank("bank", 8, Nothing, outputs=[Output("x", ArraySpec((10_000_000,), "u1"))])
    assert object_store_bytes(builder.build()) >= 2 * 8 * 10_000_000


def test_the_size_of_a_value_counts_arrays_wherever_they_are():
    array = np.zeros(100)
    assert nbytes_of({"a": [array, (array, b"12345")], "n": 3}) == 1605


def test_semaphores_of_ended_processes_alone_are_taken_away():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    mine = Path(f"/dev/shm/sem.hdr{ended.pid}-reactorbench-test")
    others = Path(f"/dev/shm/sem.hdr{ended.pid}0-reactorbench-test")
    for entry in (mine, others):
        entry.touch()
    try:
        _unlink_semaphores([ended.pid])
        assert not mine.exists()
        assert others.exists()
    finally:
        mine.unlink(missing_ok=True)
        others.unlink(missing_ok=True)


def test_a_private_setting_without_private_settings_is_refused():
    with pytest.raises(ValueError, match="inline_bytes=100 is one of Ray's private settings"):
        RayPackedOptions(private_settings=False, inline_bytes=100)
    assert not RayPackedOptions(private_settings=False).private_settings


# --------------------------------------------------------------------------------- rounds in flight


@pytest.mark.parametrize(("delays", "expected"), [((1,), 0), ((2,), 1), ((3, 2), 1), ((4,), 3)])
def test_as_many_rounds_may_be_in_flight_ahead_as_the_shortest_delay_is_longer_than_one(delays, expected):
    assert rounds_ahead(loop(*delays)) == expected


def test_without_delayed_edges_no_round_is_ahead():
    assert rounds_ahead(pipeline()) == 0


def test_only_what_follows_the_drivers_first_wait_is_submitted_late():
    layout = packed(sandwich(), driver_slice=True, places=2)
    assert steps_of(layout) == [["first"], ["middle"], ["second"], ["last"]]
    assert Calls(layout).first_late_step() == 2


# ---------------------------------------------------------------------------------- compiled graphs


def test_a_driver_between_two_banks_cannot_be_compiled_and_is_named():
    reason = problem_of(packed(sandwich(), driver_slice=True, places=2))
    assert reason is not None
    assert reason.startswith("task 'middle' of the driver fires between tasks of actors")
    assert COMPILED.refuses is not None
    assert COMPILED.refuses(sandwich(), RayCompiledOptions()) == reason


@pytest.mark.parametrize("driver_slice", [True, False])
def test_a_delay_frees_the_driver_from_standing_between(driver_slice):
    assert problem_of(packed(sandwich(delay=1), driver_slice=driver_slice, places=2)) is None


def test_a_graph_without_actors_has_nothing_to_compile():
    builder = GraphBuilder(workload="test", parameters={}, seed=0, unit="firing", units_per_round=1)
    builder.task("alone", Nothing, observed=True)
    assert "nothing to compile" in (problem_of(packed(builder.build(), driver_slice=True, places=2)) or "")


def test_the_driver_fires_what_actors_need_first_its_slice_meanwhile_and_what_needs_actors_last():
    before, meanwhile, after = Executions(packed(loop(1), driver_slice=True, places=2), 1.0).home_steps()
    assert [[node.path for node in step] for step in (before, meanwhile, after)] == [[], ["bank"], ["driver"]]
    before, _, after = Executions(packed(pipeline(), driver_slice=True, places=2), 1.0).home_steps()
    assert [node.path for node in before] == ["source", "first", "second"]
    assert [node.path for node in after] == ["driver"]


@pytest.mark.parametrize(("delay", "retain", "ahead", "expected"), [(1, 0, 0, 3), (1, 2, 0, 5), (3, 0, 2, 7)])
def test_channels_have_a_buffer_for_every_round_that_a_value_is_held(delay, retain, ahead, expected):
    assert buffers_for(loop(delay, retain=retain), ahead) == expected


def test_a_drivers_slice_is_refused_where_every_member_has_an_actor():
    with pytest.raises(ValueError, match="per_member=true, where the driver has no slice"):
        RayCompiledOptions(per_member=True, driver_slice=False)


# ----------------------------------------------------------------------------------------- by value


def test_the_papers_style_is_labelled_wherever_it_is_shown():
    assert "for reproducing its figures only" in BY_VALUE.summary
    assert BY_VALUE.notice is not None
    assert "the paper's own use of Ray" in (BY_VALUE.notice(BY_VALUE.options()) or "")
    assert "observations printed" in (BY_VALUE.notice(BY_VALUE.options(print=True)) or "")
