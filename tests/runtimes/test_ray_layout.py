"""Who lives where on Ray, what crosses, and what is taken away; no cluster is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtimes.ray_actors import actor_per_member
from runtimes.ray_cluster import _unlink_semaphores, nbytes_of, object_store_bytes
from runtimes.ray_packed import RayPackedOptions, packed
from workloads.dataflow import ArraySpec, GraphBuilder, Output, PortRef, Task


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
