"""Workload `replay`: the same operations on whatever is measured, from the seed alone, and a second process."""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

import numpy as np
import pytest

from runtimes.sequential import SequentialSession
from workloads.dataflow import Digest, TaskContext
from workloads.replay import PrioritizedReplay, SumTree
from workloads.replay.compiled import compiled
from workloads.replay_material import FIELDS, TRANSITION_BYTES, consecutive, filling, scattered
from workloads.replay_operations import WORKLOAD, Operations, Parameters

SMALL = {"capacity": 1000, "batch": 8, "operations": 3}
TRAIN = {**SMALL, "operation": "train", "insert_rows": 2}

needs_native = pytest.mark.skipif(
    compiled("_ring") is None, reason="processes share buffers with the native part alone"
)


def context(seed=0):
    return TaskContext(path="replay", index=0, width=1, seed=seed)


def digest_after(parameters: dict[str, Any], seed: int, rounds: int = 4) -> str:
    graph = WORKLOAD.build(Parameters(**parameters), seed)
    with SequentialSession(graph) as session:
        session.advance(rounds)
        digest = Digest()
        digest.add(session.tallies())
        return digest.hexdigest()


@pytest.mark.parametrize(
    "parameters",
    [
        *(
            {**SMALL, "what": what, "operation": o}
            for what in ("tree", "buffer")
            for o in ("insert", "sample", "update")
        ),
        {**SMALL, "what": "tree", "fan_out": 2, "dtype": "float64"},
        {**SMALL, "operation": "loop"},
        TRAIN,
    ],
    ids=str,
)
def test_what_is_done_follows_from_the_seed(parameters):
    assert digest_after(parameters, 7) == digest_after(parameters, 7)


@pytest.mark.parametrize("parameters", [{**SMALL, "what": "tree"}, {**SMALL, "operation": "loop"}, TRAIN], ids=str)
def test_another_seed_draws_other_rows(parameters):
    assert digest_after(parameters, 7) != digest_after(parameters, 8)


def test_a_transition_has_108_bytes():
    replay = PrioritizedReplay(10, dict(FIELDS))

    rows = next(filling(context(), 10, with_rows=True)).rows
    replay.add(**rows)
    drawn = replay.sample(1)
    assert TRANSITION_BYTES == sum(drawn[name].nbytes for name in FIELDS) == 108


@pytest.mark.parametrize("capacity", [1, 1000, 2**16, 2**16 + 1])
def test_a_buffer_is_filled_once_and_in_order(capacity):
    batches = list(filling(context(), capacity, with_rows=False))

    assert np.array_equal(np.concatenate([batch.indices for batch in batches]), np.arange(capacity))
    assert all((batch.priorities > 0).all() and batch.rows == {} for batch in batches)


def test_batches_are_contiguous_and_lie_within_the_capacity_one_behind_the_other_or_all_over():
    behind = consecutive(context(), 1000, 64, with_rows=True)
    over = scattered(context(), 1000, 64)

    for batch in (*behind, *over):
        assert batch.indices.shape == batch.priorities.shape == (64,)
        assert 0 <= batch.indices.min() <= batch.indices.max() < 1000
        assert all(values.flags.c_contiguous and len(values) == 64 for values in batch.rows.values())
    assert np.array_equal(np.concatenate([batch.indices for batch in behind[:20]]), np.arange(20 * 64) % 1000)
    assert len(np.unique(np.concatenate([batch.indices for batch in over]))) > 990


class Recorder:
    """A subject that notes what is done to it."""

    def __init__(self):
        self.filled = 0
        self.done = []

    def fill(self, batch):
        self.filled += len(batch.indices)

    def insert(self, batch):
        return lambda: self.done.append(("insert", len(batch.indices), sorted(batch.rows)))

    def sample(self, n):
        return lambda: self.done.append(("sample", n))

    def update(self, batch):
        return lambda: self.done.append(("update", len(batch.indices)))


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("insert", ("insert", 8, sorted(FIELDS))), ("sample", ("sample", 8)), ("update", ("update", 8))],
)
def test_another_subject_is_filled_and_then_has_the_same_done_to_it(operation, expected):
    task, subject = Operations(context(), parameters=Parameters(**SMALL, operation=operation)), Recorder()
    task.use(lambda _rng: subject)

    assert (subject.filled, subject.done) == (1000, [])
    task.fire({}, {})
    assert subject.done == [expected] * 3
    task.close()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"what": "tree", "operation": "loop"}, "a tree alone is inserted into, sampled or updated"),
        ({"what": "tree", "shared": True}, "Set what='buffer'"),
        ({"beside": "inserter", "operation": "loop"}, "Set shared=true"),
        ({"beside_rows_per_s": 5}, "Set beside='inserter'"),
        ({"shared": True, "beside": "learner", "beside_rows_per_s": 5}, "Set beside='inserter'"),
        ({"insert_rows": 5}, "Set batch"),
        ({"fan_out": 12}, "no power of two"),
        ({"capacity": 10}, "Set a larger capacity"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused_with_what_to_do(parameters, said):
    with pytest.raises(ValueError, match=said):
        Parameters(**parameters)


@pytest.mark.parametrize(("what", "fan_out"), [("tree", 2), ("tree", 16), ("buffer", 16)])
def test_a_graph_says_about_how_much_memory_its_buffer_takes(what, fan_out):
    graph = WORKLOAD.build(Parameters(what=what, fan_out=fan_out, capacity=100_000), 0)

    made = SumTree(100_000, fan_out) if what == "tree" else PrioritizedReplay(100_000, dict(FIELDS))
    assert graph.held_bytes == pytest.approx(made.nbytes, rel=0.15)


# ------------------------------------------------------------------------------------ second process


BESIDE = {"capacity": 4096, "batch": 64, "operations": 4, "shared": True}


@needs_native
@pytest.mark.parametrize(
    "parameters",
    [
        {"operation": "loop", "beside": "inserter", "beside_rows_per_s": 1000},
        {"operation": "insert", "beside": "learner"},
    ],
    ids=str,
)
def test_a_second_process_works_on_the_same_buffer_until_it_is_closed(parameters):
    graph = WORKLOAD.build(Parameters(**BESIDE, **parameters), 0)
    with SequentialSession(graph) as session:
        session.advance(1)
        time.sleep(0.6)
        session.advance(5)
        # It raises where the second process has ended or is too slow; what it does is in no digest.
        assert session.tallies() == {"replay": [{}]}


@needs_native
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be told where to run")
def test_processes_on_one_buffer_have_a_processor_each_until_it_is_closed():
    usable = sorted(os.sched_getaffinity(0))
    parameters = Parameters(**BESIDE, operation="loop", beside="inserter", beside_rows_per_s=1000)
    with SequentialSession(WORKLOAD.build(parameters, 0)) as session:
        session.advance(1)
        (inserter,) = multiprocessing.active_children()

        assert os.sched_getaffinity(0) == {usable[0]}
        assert os.sched_getaffinity(inserter.pid) == {usable[-1]}
    assert os.sched_getaffinity(0) == set(usable)


@needs_native
def test_an_inserter_that_cannot_keep_its_pace_is_an_error_that_says_how_fast_it_was():
    parameters = Parameters(**BESIDE, operation="loop", beside="inserter", beside_rows_per_s=2_000_000_000)
    with SequentialSession(WORKLOAD.build(parameters, 0)) as session:
        session.advance(1)
        time.sleep(0.6)
        with pytest.raises(RuntimeError, match=r"kept [\d,]+ of 2,000,000,000 rows/s"):
            session.tallies()


class _Broken:
    """A subject whose second process ends at once."""

    def fill(self, _batch):
        pass

    def loop(self, _n, _batch):
        return lambda: None

    def insert(self, _batch):
        raise ValueError("nothing can be inserted")


def test_a_second_process_that_does_not_start_is_an_error():
    task = Operations(context(), parameters=Parameters(**BESIDE, operation="loop", beside="inserter"))
    with pytest.raises(RuntimeError, match="did not start"):
        task.use(lambda _rng: _Broken())


# ------------------------------------------------------------------------------------------- learner


def test_the_learner_learns_what_comes_again_and_again():
    from workloads.replay_learner import Learner

    rows = dict(next(filling(context(), 64, with_rows=True)).rows)
    rows["done"] = np.ones(64, np.float32)
    learner = Learner(0)
    errors = [learner.learn_from_arrays({**rows, "weights": np.ones(64, np.float32)}) for _ in range(200)]
    assert errors[0].shape == (64,)
    assert all((one >= 0).all() for one in errors)
    assert errors[-1].mean() < 0.7 * errors[0].mean()
