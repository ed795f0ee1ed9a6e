"""Whatever the graph, all Ray runtimes compute what the plain loop computes; on one Ray cluster."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from harness.conformance.graphs import union
from runtimes.layout import rounds_ahead
from runtimes.protocol import RuntimeFailure
from runtimes.ray_actors import actor_per_member
from runtimes.ray_by_value import ByValueCalls
from runtimes.ray_calls import Calls
from runtimes.ray_cluster import RayCluster
from runtimes.ray_graphs import Executions
from runtimes.ray_packed import packed
from runtimes.ray_session import RaySession
from runtimes.sequential import SequentialSession
from workloads.dataflow import ArraySpec, Digest, EdgeShape, Gathered, GraphBuilder, Input, Output, Task

pytestmark = pytest.mark.ray


def by_value(graph, ahead, **options):
    """The paper's style has no round ahead."""
    return ByValueCalls(replace(actor_per_member(graph), rows="rows" in options), put="rows" in options, printed=True)


def calls_to_hosts(graph, ahead, **how):
    return Calls(packed(graph, ahead=ahead, **how))


def compiled_hosts(graph, ahead, **how):
    return Executions(packed(graph, ahead=ahead, **how), timeout_s=60.0)


ROUNDS = {
    "ray": lambda graph, ahead: Calls(actor_per_member(graph, ahead=ahead)),
    "ray-packed": partial(calls_to_hosts, driver_slice=True, places=3),
    "ray-packed without a driver slice": partial(calls_to_hosts, driver_slice=False, places=2),
    "ray-compiled": partial(compiled_hosts, driver_slice=True, places=2),
    "ray-compiled without a driver slice": partial(compiled_hosts, driver_slice=False, places=2),
    "ray-by-value": by_value,
    "ray-by-value, put once, row by row": partial(by_value, rows=True),
}
LARGE = ArraySpec((15_000,), "f8")
"""Above what Ray sends inside a call."""


SEEDS = (17, 25, 41)
"""Small random graphs that cover all edges between them."""


@pytest.fixture(scope="module")
def cluster():
    import ray.cloudpickle

    # Tasks are defined here, in a module that Ray's workers cannot import.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    scratch = Path(tempfile.mkdtemp(prefix="ray-"))
    with RayCluster(scratch, store_bytes=400_000_000) as running:
        yield running
    shutil.rmtree(scratch)


BESIDES_DEFAULTS = [
    "ray-packed without a driver slice",
    "ray-compiled without a driver slice",
    "ray-by-value, put once, row by row",
]
"""What the conformance suite does not run on random graphs, and does not have fail."""


@pytest.fixture(params=BESIDES_DEFAULTS)
def open_on_ray(request, cluster):
    def opened(graph):
        return RaySession(cluster, ROUNDS[request.param](graph, rounds_ahead(graph)), stops_cluster=False)

    return opened


# ------------------------------------------------------------------------------------- random graphs


@dataclass(frozen=True)
class OutPort:
    spec: ArraySpec | None
    scattered_to: int | None


class Mixer(Task):
    """Mixes all it receives into its state, and gives values of every kind that depend on it."""

    def __init__(self, context, outs, gathers, retains):
        self.outs = outs
        self.gathers = gathers
        self.state = context.seed_int("mixer")
        self.held = {name: np.zeros(out.spec.shape, out.spec.dtype) for name, out in outs.items() if out.spec}
        self.kept = {port: deque(maxlen=rounds) for port, rounds in retains.items()}
        self.initials = 0

    def initial(self, port):
        self.initials += 1
        return self.value_of(port, self.state + len(port))

    def fire(self, inputs, outputs):
        for port, value in inputs.items():
            assert not isinstance(value, np.ndarray) or port.startswith("v") or not value.flags.writeable
            self.mix(self.plain(port, value))
        for port, kept in self.kept.items():
            for value in kept:
                self.mix(self.plain(port, value))
            kept.append(inputs[port])
        for port, out in self.outs.items():
            value = self.value_of(port, self.state)
            if out.spec is None:
                if value is not None:
                    outputs[port] = value
            elif self.state % 2:
                outputs[port][...] = value
            else:
                self.held[port][...] = value
                outputs[port] = self.held[port]

    def plain(self, port, value):
        return list(value) if port in self.gathers and value is not None else value

    def mix(self, value):
        digest = Digest()
        digest.add([self.state, value])
        self.state = int(digest.hexdigest()[:12], 16)

    def value_of(self, port, state):
        out = self.outs[port]
        if out.spec is not None:
            numbers = np.arange(np.prod(out.spec.shape, dtype=int)) * (state % 1009)
            return (numbers % 251).reshape(out.spec.shape).astype(out.spec.dtype)
        if state % 3 == 0:
            return None
        if out.scattered_to is not None:
            return [{"item": i, "of": state} for i in range(out.scattered_to)]
        return {"state": state, "array": np.arange(state % 5)}

    def tallies(self):
        return {"state": self.state, "initials": self.initials}


@dataclass
class Plan:
    """A node of a random graph before its ports are known."""

    width: int | None
    own_place: bool = False
    inputs: list[Input] = field(default_factory=list)
    gathers: set[str] = field(default_factory=set)
    outs: dict[str, OutPort] = field(default_factory=dict)


def random_graph(seed):
    """A graph with every shape of edge, delays, retained inputs, absent, large, held and declared values."""
    rng = np.random.default_rng(seed)
    plans = {f"n{i}": Plan(width=[None, 3, 2, None][int(rng.integers(4))]) for i in range(int(rng.integers(2, 4)))}
    plans["own"] = Plan(width=None, own_place=True)
    plans["bank"] = Plan(width=3)
    plans["sink"] = Plan(width=None)
    order = list(plans)
    edges = []
    for place, target in enumerate(order):
        sources = order[:-1] if target == "sink" else rng.choice(order[:-1], size=2, replace=False)
        for source in map(str, sources):
            shape = shape_between(plans[source].width, plans[target].width, rng)
            if shape is None:
                continue
            delay = int(rng.integers(0, 3)) if order.index(source) < place else int(rng.integers(1, 3))
            port, out = port_for(plans[source], shape, plans[target].width, rng)
            plans[source].outs[port] = out
            name = f"{'v' if out.spec is None else 'a'}{len(plans[target].inputs)}"
            plans[target].inputs.append(Input(name, retain=int(rng.integers(0, 3))))
            if shape is EdgeShape.GATHER:
                plans[target].gathers.add(name)
            edges.append((source, port, target, name, shape, delay))
    return assemble(plans, edges, seed)


def shape_between(source, target, rng):
    if source == target:
        return EdgeShape.ONE_TO_ONE
    if source is None:
        return EdgeShape.BROADCAST if rng.integers(2) else EdgeShape.SCATTER
    return EdgeShape.GATHER if target is None else None


def port_for(source, shape, width, rng):
    """A port of the source that suits the edge: one that it has, or a new one."""
    scattered_to = width if shape is EdgeShape.SCATTER else None
    fitting = [item for item in source.outs.items() if item[1].scattered_to == scattered_to]
    if fitting and rng.integers(2):
        return fitting[int(rng.integers(len(fitting)))]
    spec = [None, ArraySpec((3,), "f8"), ArraySpec((), "i4"), LARGE][int(rng.integers(4))]
    if spec is not None and scattered_to is not None:
        spec = ArraySpec((scattered_to, *spec.shape), spec.dtype)
    return f"o{len(source.outs)}", OutPort(spec, scattered_to)


def assemble(plans, edges, seed):
    builder = GraphBuilder(workload="random", parameters={}, seed=seed, unit="firing", units_per_round=1)
    for path, plan in plans.items():
        retains = {port.name: port.retain for port in plan.inputs if port.retain}
        factory = partial(Mixer, outs=plan.outs, gathers=frozenset(plan.gathers), retains=retains)
        outputs = [Output(name, out.spec) for name, out in plan.outs.items()]
        if plan.width is not None:
            builder.bank(path, plan.width, factory, inputs=plan.inputs, outputs=outputs)
        else:
            observed = path == "sink"
            builder.task(
                path, factory, inputs=plan.inputs, outputs=outputs, observed=observed, own_place=plan.own_place
            )
    join = {
        EdgeShape.ONE_TO_ONE: builder.connect,
        EdgeShape.BROADCAST: builder.broadcast,
        EdgeShape.SCATTER: builder.scatter,
        EdgeShape.GATHER: builder.gather,
    }
    for source, port, target, name, shape, delay in edges:
        join[shape](builder._nodes[source][port], builder._nodes[target][name], delay=delay)
    return builder.build()


def fingerprints(session, graph, rounds):
    """One digest for each round of what was received, and the tallies at the end."""
    digests = []
    with session:
        for _ in range(rounds):
            assert session.advance(1).shape == (1,)
            digest = Digest()
            digest.add_received(graph, session.received())
            digests.append(digest.hexdigest())
        return digests, session.tallies()


def test_random_graphs_give_in_every_round_what_the_plain_loop_gives(open_on_ray):
    graph = union({f"seed{seed}": random_graph(seed) for seed in SEEDS})  # each session would start actors of its own
    assert fingerprints(open_on_ray(graph), graph, 7) == fingerprints(SequentialSession(graph), graph, 7)


def test_a_compiled_graph_with_an_actor_for_each_member_gives_what_the_plain_loop_gives(cluster):
    graph = random_graph(SEEDS[0])
    session = RaySession(cluster, Executions(actor_per_member(graph), timeout_s=60.0), stops_cluster=False)
    assert fingerprints(session, graph, 7) == fingerprints(SequentialSession(graph), graph, 7)


def lengthened(graph, lag):
    """The graph with every delayed edge so many rounds longer."""
    edges = tuple(replace(edge, delay=edge.delay + lag) if edge.delay else edge for edge in graph.edges)
    return replace(graph, edges=edges)


@pytest.mark.parametrize(
    ("form", "seed", "lag"),
    [
        ("ray", SEEDS[0], 1),
        ("ray-packed", SEEDS[2], 2),
        ("ray-packed without a driver slice", SEEDS[0], 1),
        ("ray-compiled", SEEDS[2], 2),
        ("ray-compiled without a driver slice", SEEDS[0], 1),
    ],
)
def test_with_rounds_in_flight_ahead_a_random_graph_gives_what_the_plain_loop_gives(cluster, form, seed, lag):
    graph = lengthened(random_graph(seed), lag)
    rounds = ROUNDS[form](graph, rounds_ahead(graph))
    assert rounds.layout.ahead >= lag
    session = RaySession(cluster, rounds, stops_cluster=False)
    assert in_strides(session, graph) == in_strides(SequentialSession(graph), graph)


def in_strides(session, graph):
    """Digests of what was received after strides that are shorter and longer than any lag, and the tallies."""
    digests = []
    with session:
        for rounds in (1, 2, 5, 3):
            durations_ns = session.advance(rounds)
            assert durations_ns.shape == (rounds,)
            assert (durations_ns > 0).all()
            digest = Digest()
            digest.add_received(graph, session.received())
            digests.append(digest.hexdigest())
        return digests, session.tallies()


def test_the_random_graphs_cover_every_edge_shape_delayed_and_not():
    edges = [edge for seed in SEEDS for edge in random_graph(seed).edges]
    assert {(edge.shape, edge.delay) for edge in edges} == {(s, d) for s in EdgeShape for d in range(3)}


# --------------------------------------------------------------------------------------- what arrives


class Echo(Task):
    """Gives its index, and holds on to nothing."""

    def __init__(self, context, *, failing_round=None, sleeping_s=0.0):
        self.index = context.index
        self.failing_round = failing_round
        self.sleeping_s = sleeping_s
        self.fired = 0

    def fire(self, inputs, outputs):
        if self.index == 2 and self.fired == self.failing_round:
            raise KeyError("lost key")
        time.sleep(self.sleeping_s)
        self.fired += 1
        outputs["index"][...] = self.index


class Sink(Task):
    def __init__(self, context):
        pass

    def fire(self, inputs, outputs):
        pass


def gather_of_five(**keywords):
    builder = GraphBuilder(workload="test", parameters={}, seed=0, unit="firing", units_per_round=5)
    bank = builder.bank("bank", 5, partial(Echo, **keywords), outputs=[Output("index", ArraySpec((2,), "i8"))])
    sink = builder.task("sink", Sink, inputs=["indices"], observed=True)
    builder.gather(bank["index"], sink["indices"])
    return builder.build()


def test_a_gather_of_packed_hosts_holds_one_block_for_each_place(cluster):
    graph = gather_of_five()
    with RaySession(cluster, Calls(packed(graph, driver_slice=True, places=2)), stops_cluster=False) as session:
        session.advance(1)
        value = session.received()["sink"]["indices"]
    assert isinstance(value, Gathered)
    assert [len(block) for block in value._blocks] == [2, 3]
    assert np.asarray(value)[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_a_gather_of_a_single_host_is_its_block(cluster):
    graph = gather_of_five()
    with RaySession(cluster, Calls(packed(graph, driver_slice=False, places=1)), stops_cluster=False) as session:
        session.advance(1)
        value = session.received()["sink"]["indices"]
    assert isinstance(value, np.ndarray)
    assert value.shape == (5, 2)
    assert not value.flags.writeable


def test_durations_are_one_for_each_round_and_positive(cluster):
    graph = gather_of_five()
    with RaySession(cluster, Calls(packed(graph, driver_slice=True, places=2)), stops_cluster=False) as session:
        durations_ns = session.advance(4)
    assert durations_ns.dtype == np.int64
    assert durations_ns.shape == (4,)
    assert (durations_ns > 0).all()


def test_an_exception_in_an_actor_names_task_index_and_round_and_carries_the_remote_traceback(open_on_ray):
    with open_on_ray(gather_of_five(failing_round=3)) as session:
        session.advance(3)
        with pytest.raises(RuntimeFailure, match=r"'bank\[2\]' failed in round 3: KeyError: 'lost key'") as caught:
            session.advance(1)
        assert 'raise KeyError("lost key")' in str(caught.value.__cause__)
        with pytest.raises(RuntimeFailure, match="Open another"):
            session.advance(1)


def test_an_execution_that_takes_too_long_is_given_up_and_the_session_ends(cluster):
    # Whoever waited for the task itself would be ended by the tests' own time limit.
    graph = gather_of_five(sleeping_s=600.0)
    with (
        RaySession(
            cluster,
            Executions(packed(graph, driver_slice=False, places=1), timeout_s=1.0),
            stops_cluster=False,
        ) as session,
        pytest.raises(RuntimeFailure, match=r"No answer from Ray actors within 1 s in round 0"),
    ):
        session.advance(1)


class Assigner(Task):
    """Fills or assigns a large array that says which member gave it in which round."""

    def __init__(self, context, *, assigning):
        self.index = context.index
        self.assigns = context.index in assigning
        self.held = np.zeros(LARGE.shape)
        self.rounds = 0

    def fire(self, inputs, outputs):
        self.rounds += 1
        array = self.held if self.assigns else outputs["array"]
        array[...] = 10 * self.rounds + self.index
        if self.assigns:
            outputs["array"] = array


@pytest.mark.parametrize("assigning", [range(5), (1, 3), ()], ids=["all", "some", "none"])
def test_large_arrays_arrive_whether_all_members_or_some_or_none_assign_theirs(cluster, assigning):
    builder = GraphBuilder(workload="test", parameters={}, seed=0, unit="firing", units_per_round=5)
    bank = builder.bank("bank", 5, partial(Assigner, assigning=assigning), outputs=[Output("array", LARGE)])
    sink = builder.task("sink", Sink, inputs=["arrays"], observed=True)
    builder.gather(bank["array"], sink["arrays"])
    layout = packed(builder.build(), driver_slice=True, places=2)
    with RaySession(cluster, Calls(layout), stops_cluster=False) as session:
        for number in (1, 2, 3):
            session.advance(1)
            arrays = session.received()["sink"]["arrays"]
            assert [array.min() for array in arrays] == [array.max() for array in arrays]
            assert [array[0] for array in arrays] == [10 * number + i for i in range(5)]
            assert not any(array.flags.writeable for array in arrays)
