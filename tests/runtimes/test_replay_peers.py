"""Runtimes that stand for other replay buffers: they do what the workload asks for, and say what they cannot do."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest

from harness import registry
from runtimes.replay_peers import FIELDS as LENGTHS
from runtimes.replay_peers import PeerSession
from runtimes.replay_stable_baselines3 import ListTrees
from workloads.broadcast_gather import WORKLOAD as BROADCAST_GATHER
from workloads.replay_material import FIELDS
from workloads.replay_operations import ALPHA, BETA, WORKLOAD, Parameters

PEERS = ("replay-cpprb", "replay-rllib", "replay-stable-baselines3", "replay-tianshou", "replay-torchrl")
WITH_TREES = ("replay-rllib", "replay-tianshou", "replay-torchrl")
SMALL = {"capacity": 1024, "batch": 64, "operations": 2}
HEAVY = 17
"""A row that gets much more priority than all others together."""


def runtime_of(name):
    runtime = registry.runtimes().get(name)
    missing = [module for module in runtime.requires if find_spec(module) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    return runtime


def opened(name, parameters, tmp_path, **options):
    """A session, unless the runtime cannot do that here."""
    runtime = runtime_of(name)
    graph, chosen = WORKLOAD.build(Parameters(**parameters), 3), runtime.options(**options)
    refusal = runtime.refuses(graph, chosen)
    if refusal is not None:
        pytest.skip(refusal)
    return runtime.open(graph, chosen, tmp_path)


@pytest.mark.parametrize("operation", ["insert", "sample", "update"])
@pytest.mark.parametrize("name", PEERS)
def test_a_buffer_does_what_is_asked_for(name, operation, tmp_path):
    with opened(name, {**SMALL, "operation": operation}, tmp_path) as session:
        assert session.advance(3).shape == (3,)
        assert session.tallies()["replay"][0]["operations"] == 6


@pytest.mark.parametrize("operation", ["insert", "sample", "update"])
@pytest.mark.parametrize("name", WITH_TREES)
def test_a_tree_alone_does_what_is_asked_for(name, operation, tmp_path):
    with opened(name, {**SMALL, "what": "tree", "operation": operation}, tmp_path) as session:
        assert session.advance(3).shape == (3,)


@pytest.mark.parametrize("plugged", [False, True])
@pytest.mark.parametrize("name", [name for name in PEERS if name != "replay-cpprb"])
def test_a_loop_trains_with_the_library_s_own_buffer_and_with_ours(name, plugged, tmp_path):
    with opened(name, {**SMALL, "operation": "train", "insert_rows": 1}, tmp_path, plugged=plugged) as session:
        session.advance(2)


def indices_of(drawn):
    """The indices in what a peer draws, wherever it has them, as they are now: cpprb fills the same array again."""
    indices = _indices_of(drawn)
    return np.array(indices.numpy() if hasattr(indices, "numpy") else indices)


def _indices_of(drawn):
    if hasattr(drawn, "indices"):
        return drawn.indices
    if isinstance(drawn, tuple):  # a batch of Tianshou, or of Stable-Baselines3 with weights
        return drawn[1]
    named = list(drawn.keys()) if hasattr(drawn, "keys") else []
    key = next((key for key in ("indexes", "batch_indexes", "index", "indices") if key in named), None)
    return drawn if key is None else drawn[key]


SETTING = SimpleNamespace(indices=np.array([HEAVY]), priorities=np.array([1e6], np.float32), rows={})
"""What an update writes: one row far above the others."""


@pytest.mark.parametrize("what", ["tree", "buffer"])
@pytest.mark.parametrize("plugged", [False, True])
@pytest.mark.parametrize("name", PEERS)
def test_what_has_more_priority_is_drawn_more_often(name, plugged, what, tmp_path):
    options = {"plugged": True} if plugged else {}
    if plugged and (name == "replay-cpprb" or what == "tree"):
        pytest.skip("there is nothing that ours could be plugged into")
    with opened(name, {**SMALL, "what": what, "batch": 64}, tmp_path, **options) as session:
        subject = session._task._subject
        before = indices_of(subject.sample(64)())
        subject.update(SETTING)()
        after = np.concatenate([indices_of(subject.sample(64)()) for _ in range(8)])
        assert len(np.unique(before)) > 40
        # To the power of 0.6, 1e6 is 4,000; a thousand others have 0.9 on the average.
        share = (after == HEAVY).mean()
        assert share > (0.99 if what == "tree" else 0.7)


def test_a_process_may_share_the_buffer_of_cpprb(tmp_path):
    parameters = {**SMALL, "operation": "loop", "shared": True, "beside": "inserter"}
    with opened("replay-cpprb", parameters, tmp_path) as session:
        session.advance(2)
        assert session.tallies() == {"replay": [{}]}


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_refuses_what_it_is_not_for(name):
    runtime = registry.runtimes().get(name)
    other = BROADCAST_GATHER.build(BROADCAST_GATHER.parameters(), 0)
    assert "workload 'replay'" in runtime.refuses(other, runtime.options())
    if name == "replay-cpprb":
        tree = WORKLOAD.build(Parameters(what="tree"), 0)
        assert "Set what=buffer" in runtime.refuses(tree, runtime.options())
    else:
        shared = WORKLOAD.build(Parameters(shared=True), 0)
        assert "Set shared=false" in runtime.refuses(shared, runtime.options())


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_has_no_digest_and_says_what_memory_it_takes(name):
    runtime = registry.runtimes().get(name)
    small, large = (WORKLOAD.build(Parameters(capacity=n), 0) for n in (10_000, 1_000_000))
    taken = [runtime.demands(graph, runtime.options()).memory_bytes for graph in (small, large)]
    assert runtime.differs
    assert taken[1] - taken[0] > 990_000 * 108


def test_peers_know_the_workload_s_fields_and_exponents():
    from runtimes import replay_peers

    assert {name: int(np.prod(shape)) for name, (shape, _) in FIELDS.items()} == LENGTHS
    assert (replay_peers.ALPHA, replay_peers.BETA) == (ALPHA, BETA)


def test_a_session_says_in_which_round_a_peer_failed(tmp_path):
    class Failing:
        def fill(self, batch):
            pass

        def sample(self, _n):
            def call():
                raise ValueError("no row")

            return call

    graph = WORKLOAD.build(Parameters(**SMALL), 0)
    with PeerSession(graph, lambda _task: lambda _rng: Failing()) as session, pytest.raises(Exception, match="round 0"):
        session.advance(1)


# ---------------------------------------------------------------------------------------- list trees


@pytest.mark.parametrize("capacity", [1, 2, 5, 64, 100])
def test_lists_are_filled_at_once_as_leaf_by_leaf(capacity):
    values = np.random.default_rng(0).random(capacity).tolist()
    at_once, one_by_one = ListTrees(capacity), ListTrees(capacity)
    at_once.set_all(0, values)
    for index, value in enumerate(values):
        one_by_one.set(index, value)

    assert at_once.sums[1:] == one_by_one.sums[1:]
    assert at_once.minima[1:] == one_by_one.minima[1:]
    assert at_once.minima[1] == min(values)


def test_lists_find_the_first_leaf_whose_sum_exceeds_the_mass():
    trees = ListTrees(4)
    trees.set_all(0, [1.0, 0.0, 2.0, 3.0])

    assert [trees.find(mass) for mass in (0.0, 0.9, 1.0, 2.9, 3.0, 5.9)] == [0, 0, 2, 2, 3, 3]


def test_every_option_has_a_description():
    for name in PEERS:
        for field in msgspec.structs.fields(registry.runtimes().get(name).options):
            assert "description" in str(field.type)
