"""The contract: validation when a graph is built, seeds by path, outputs, values and digests."""

from __future__ import annotations

import copy
import graphlib
import pickle
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from workloads.broadcast_gather import Source
from workloads.dataflow import (
    ArraySpec,
    Digest,
    Edge,
    EdgeShape,
    Gathered,
    Graph,
    GraphBuilder,
    GraphError,
    Input,
    Output,
    Outputs,
    PortRef,
    TaskContext,
    accept_array,
    item_of,
    read_only,
)


def new_builder(units_per_round: int = 1) -> GraphBuilder:
    return GraphBuilder(workload="test", parameters={}, seed=0, unit="round", units_per_round=units_per_round)


def digest_of(value: Any) -> str:
    digest = Digest()
    digest.add(value)
    return digest.hexdigest()


# ---------------------------------------------------------------------------------- array specs


def test_a_spec_is_equal_and_hashable_however_its_dtype_was_given():
    assert {ArraySpec([2, 3], "float32"), ArraySpec((2, 3), np.float32)} == {ArraySpec((2, 3), np.dtype("<f4"))}


def test_a_spec_knows_its_bytes_and_makes_zeroed_arrays():
    spec = ArraySpec((2, 3), np.float32)
    assert spec.nbytes == 24
    assert ArraySpec((), np.float64).nbytes == 8
    zeros = spec.zeros(4)
    assert (zeros.shape, zeros.dtype, zeros.any()) == ((4, 2, 3), np.float32, False)


def test_a_spec_rejects_a_negative_length():
    with pytest.raises(GraphError, match=r"\(2, -1\) has a negative length. Give lengths of 0 or more"):
        ArraySpec((2, -1), np.uint8)


def test_a_spec_rejects_objects_and_says_what_to_do_instead():
    with pytest.raises(GraphError, match=r"dtype object holds Python objects.*without an ArraySpec"):
        ArraySpec((2,), object)


# ----------------------------------------------------------------------------------- validation


def test_a_graph_without_tasks_is_rejected():
    with pytest.raises(GraphError, match=r"workload 'test' has no task. Add one"):
        new_builder().build()


def test_a_round_that_does_no_work_is_rejected():
    builder = new_builder(units_per_round=0)
    builder.task("a", Source)
    with pytest.raises(GraphError, match=r"does 0 units of work.*at least 1"):
        builder.build()


def test_an_unknown_port_is_rejected_with_the_nearest_name():
    task = new_builder().task("a", Source, outputs=["payload"])
    with pytest.raises(GraphError, match=r"Unknown port 'paylod' of a. Did you mean 'payload'?"):
        task["paylod"]


def test_an_unknown_port_that_is_like_none_is_rejected_with_all_names():
    task = new_builder().task("a", Source, outputs=["payload"])
    with pytest.raises(GraphError, match=r"Unknown port 'x' of a. Known: payload"):
        task["x"]


def test_a_port_of_a_task_of_another_graph_is_rejected():
    builder, other = new_builder(), new_builder()
    target = builder.task("sink", Source, inputs=["x"])
    foreign = other.task("sunk", Source, outputs=["x"])
    with pytest.raises(GraphError, match=r"Unknown task 'sunk' of the graph. Did you mean 'sink'?"):
        builder.connect(foreign["x"], target["x"])


def test_an_input_without_a_source_is_rejected():
    builder = new_builder()
    builder.task("a", Source, inputs=["x"])
    with pytest.raises(GraphError, match=r"Input 'a\.x' has no source. Connect one, or drop the port"):
        builder.build()


def test_two_sources_for_one_input_are_rejected_and_both_named():
    builder = new_builder()
    first, second = (builder.task(name, Source, outputs=["y"]) for name in ("first", "second"))
    target = builder.task("target", Source, inputs=["x"])
    builder.connect(first["y"], target["x"])
    with pytest.raises(GraphError, match=r"'target\.x' has two sources, 'first\.y' and 'second\.y'.*input of its own"):
        builder.connect(second["y"], target["x"])


def test_two_tasks_of_one_name_are_rejected():
    builder = new_builder()
    builder.task("a", Source)
    with pytest.raises(GraphError, match=r"Two tasks are named 'a'. Give each a name of its own"):
        builder.bank("a", 2, Source)


def test_two_ports_of_one_name_are_rejected():
    with pytest.raises(GraphError, match="Task 'a' has two ports named 'x'"):
        new_builder().task("a", Source, inputs=["x"], outputs=["x"])


def test_a_bank_without_members_is_rejected():
    with pytest.raises(GraphError, match=r"Bank 'a' has width 0. A bank has at least 1 member"):
        new_builder().bank("a", 0, Source)


def test_a_negative_retain_is_rejected():
    with pytest.raises(GraphError, match=r"Input 'a\.x' has retain=-1. Give 0 or more rounds"):
        new_builder().task("a", Source, inputs=[Input("x", retain=-1)])


def test_a_negative_delay_is_rejected():
    builder = new_builder()
    task = builder.task("a", Source, inputs=["x"], outputs=["y"])
    with pytest.raises(GraphError, match=r"'a\.y' -> 'a\.x' has delay=-1. Give 0 or more rounds"):
        builder.connect(task["y"], task["x"], delay=-1)


def test_an_observed_task_cannot_have_a_place_of_its_own():
    with pytest.raises(GraphError, match=r"'a' is observed, so it lives with the driver.*Drop one of the two"):
        new_builder().task("a", Source, observed=True, own_place=True)


def test_edges_run_from_outputs_to_inputs_only():
    builder = new_builder()
    task = builder.task("a", Source, inputs=["x"], outputs=["y"])
    with pytest.raises(GraphError, match=r"'a\.x' is an input and cannot be a source. Connect from an output"):
        builder.connect(task["x"], task["x"])
    with pytest.raises(GraphError, match=r"'a\.y' is an output and cannot be a target. Connect to an input"):
        builder.connect(task["y"], task["y"])


@pytest.mark.parametrize(
    ("shape", "source_width", "target_width", "remedy"),
    [
        ("connect", 4, 16, "Use broadcast"),
        ("connect", None, 16, "Use broadcast"),
        ("broadcast", 4, 16, r"broadcast\(\) goes from a single task to a bank"),
        ("broadcast", None, None, r"use connect\(\) or gather\(\)"),
        ("scatter", 4, 4, r"scatter\(\) goes from a single task to a bank"),
        ("gather", None, 4, r"gather\(\) goes from a bank to a single task"),
        ("gather", 4, 4, r"gather\(\) goes from a bank to a single task"),
    ],
)
def test_widths_that_do_not_suit_the_edge_are_rejected_with_the_remedy(shape, source_width, target_width, remedy):
    builder = new_builder()

    def add(path, width, **ports):
        return builder.task(path, Source, **ports) if width is None else builder.bank(path, width, Source, **ports)

    source = add("learner", source_width, outputs=["weights"])
    target = add("rollout", target_width, inputs=["weights"])
    widths = rf"Width of 'learner\.weights' is {source_width or 1} but 'rollout\.weights' has {target_width or 1} "
    with pytest.raises(GraphError, match=f"{widths}.*{remedy}"):
        getattr(builder, shape)(source["weights"], target["weights"])


def test_a_scattered_array_must_have_an_item_for_each_member():
    builder = new_builder()
    source = builder.task("a", Source, outputs=[Output("y", ArraySpec((3, 2), np.float32))])
    target = builder.bank("b", 4, Source, inputs=["x"])
    with pytest.raises(GraphError, match=r"scattered to 4 members but declares an array of shape \(3, 2\).*must be 4"):
        builder.scatter(source["y"], target["x"])


def test_an_unpicklable_factory_is_rejected_when_the_graph_is_built():
    builder = new_builder()
    builder.task("a", lambda _: Source)
    with pytest.raises(GraphError, match=r"factory of task 'a' cannot be pickled.*module-level class or function"):
        builder.build()


def test_a_factory_with_unpicklable_parameters_is_rejected():
    builder = new_builder()
    builder.task("a", partial(Source, (n for n in range(3))))
    with pytest.raises(GraphError, match="factory of task 'a' cannot be pickled"):
        builder.build()


def test_a_cycle_without_a_delay_is_rejected_and_named_in_its_direction():
    builder = new_builder()
    nodes = {name: builder.task(name, Source, inputs=["x"], outputs=["y"]) for name in "abc"}
    for before, after in ("ab", "bc", "ca"):
        builder.connect(nodes[before]["y"], nodes[after]["x"])
    with pytest.raises(GraphError, match=r"edges (a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c) form a cycle"):
        builder.build()


def test_a_cycle_with_a_delayed_edge_is_accepted():
    builder = new_builder()
    env = builder.bank("env", 3, Source, inputs=["action"], outputs=["observation"])
    driver = builder.task("driver", Source, inputs=["observation"], outputs=["action"])
    builder.gather(env["observation"], driver["observation"], delay=1)
    builder.scatter(driver["action"], env["action"])
    assert [node.path for node in builder.build().tasks] == ["driver", "env"]


def test_a_delayed_output_without_an_initial_value_is_explained():
    task = Source(TaskContext(path="a", index=0, width=1, seed=0))
    with pytest.raises(GraphError, match=r"Source gives no initial value.*'payload'. Define initial\(self, port\)"):
        task.initial("payload")


# --------------------------------------------------------------------------------- random graphs

WIDTHS = st.lists(st.sampled_from([None, 3]), min_size=1, max_size=6)
EDGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 2), st.integers(0, 2)), max_size=10)


def random_graph(widths: list[int | None], edges: list[tuple[int, int, int, int]]) -> Graph:
    """Tasks and banks joined by `edges`: (source, target, delay, retain), numbers modulo the tasks."""
    builder = new_builder()
    ends = [(source % len(widths), target % len(widths), delay, retain) for source, target, delay, retain in edges]
    nodes = []
    for number, width in enumerate(widths):
        inputs = [Input(f"x{at}", retain) for at, (_, target, _, retain) in enumerate(ends) if target == number]
        outputs = [f"y{at}" for at, (source, *_) in enumerate(ends) if source == number]
        if width is None:
            nodes.append(builder.task(f"t{number}", Source, inputs=inputs, outputs=outputs))
        else:
            nodes.append(builder.bank(f"t{number}", width, Source, inputs=inputs, outputs=outputs))
    for at, (source, target, delay, _) in enumerate(ends):
        join = {
            (True, True): builder.connect,
            (False, False): builder.connect,
            (True, False): builder.broadcast if at % 2 else builder.scatter,
            (False, True): builder.gather,
        }[widths[source] is None, widths[target] is None]
        join(nodes[source][f"y{at}"], nodes[target][f"x{at}"], delay=delay)
    return builder.build()


def has_undelayed_cycle(tasks: int, edges: list[tuple[int, int, int, int]]) -> bool:
    sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
    for source, target, delay, _ in edges:
        if delay == 0:
            sorter.add(target % tasks, source % tasks)
    try:
        sorter.prepare()
    except graphlib.CycleError:
        return True
    return False


def acyclic_graph(widths: list[int | None], edges: list[tuple[int, int, int, int]]) -> Graph:
    assume(not has_undelayed_cycle(len(widths), edges))
    return random_graph(widths, edges)


@given(WIDTHS, EDGES)
def test_every_task_fires_once_and_after_all_that_it_waits_for(widths, edges):
    graph = acyclic_graph(widths, edges)
    order = [node.path for node in graph.tasks]
    assert sorted(order) == [f"t{number}" for number in range(len(widths))]
    for edge in graph.edges:
        if edge.delay == 0:
            assert order.index(edge.source.task) < order.index(edge.target.task)


@given(WIDTHS, EDGES)
def test_a_cycle_without_a_delay_is_always_found_and_named_by_real_edges(widths, edges):
    assume(has_undelayed_cycle(len(widths), edges))
    with pytest.raises(GraphError, match="form a cycle without a delay") as caught:
        random_graph(widths, edges)
    named = str(caught.value).split("The edges ")[1].split(" form a cycle")[0].split(" -> ")
    undelayed = {(f"t{s % len(widths)}", f"t{t % len(widths)}") for s, t, delay, _ in edges if delay == 0}
    assert named[0] == named[-1]
    assert len(named) > 1
    assert set(pairwise(named)) <= undelayed


@given(WIDTHS, EDGES)
def test_a_source_has_slots_for_as_long_as_any_consumer_may_read(widths, edges):
    graph = acyclic_graph(widths, edges)
    for node in graph.tasks:
        for port in node.outputs:
            assert graph.slots_of(PortRef(node.path, port.name)) >= 1
    for edge in graph.edges:
        assert graph.slots_of(edge.source) >= 1 + edge.delay + graph.retain_of(edge)


@given(WIDTHS, EDGES)
def test_a_graph_survives_pickling(widths, edges):
    graph = acyclic_graph(widths, edges)
    assert pickle.loads(pickle.dumps(graph)) == graph


@given(WIDTHS, EDGES)
def test_every_input_has_one_edge_and_edges_come_in_the_order_of_inputs(widths, edges):
    graph = acyclic_graph(widths, edges)
    for node in graph.tasks:
        into = graph.edges_into(node.path)
        assert [edge.target.name for edge in into] == [port.name for port in node.inputs]
    assert {edge for node in graph.tasks for edge in graph.edges_into(node.path)} == set(graph.edges)


def test_firing_order_keeps_the_order_of_declaration_where_edges_leave_it_open():
    builder = new_builder()
    for name in ("zebra", "ant", "mole"):
        builder.task(name, Source)
    assert [node.path for node in builder.build().tasks] == ["zebra", "ant", "mole"]


# ------------------------------------------------------------------------------------ randomness


def numbers(path: str = "env", index: int = 0, width: int = 4, seed: int = 1, purpose: str = "actions") -> list[int]:
    context = TaskContext(path=path, index=index, width=width, seed=seed)
    return context.rng(purpose).integers(0, 2**62, 4).tolist()


def test_a_stream_depends_on_seed_path_index_and_purpose():
    streams = [
        numbers(),
        numbers(path="env2"),
        numbers(index=1),
        numbers(seed=2),
        numbers(purpose="environment"),
    ]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_a_stream_depends_on_nothing_else():
    assert numbers(width=4) == numbers(width=400) == numbers()


def test_path_and_purpose_are_told_apart_where_their_letters_join():
    assert numbers(path="ab", purpose="c") != numbers(path="a", purpose="bc")


def test_streams_are_the_same_in_every_version():
    # A change here changes every digest that was ever recorded.
    assert numbers() == [
        2_846_005_534_814_554_515,
        2_356_664_035_036_604_672,
        2_542_297_500_785_866_903,
        2_159_711_399_642_694_092,
    ]


def test_integer_seeds_fit_31_bits_and_differ_by_purpose():
    seeds = [
        TaskContext(path="env", index=index, width=50, seed=0).seed_int(purpose)
        for index in range(50)
        for purpose in ("environment", "actions")
    ]
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert len(set(seeds)) == len(seeds)


# --------------------------------------------------------------------------------------- outputs


def new_outputs() -> tuple[Outputs, np.ndarray]:
    memory = np.zeros(3, np.float32)
    return Outputs("a", ["declared", "free"], {"declared": memory}), memory


def test_a_declared_output_is_filled_in_place():
    outputs, memory = new_outputs()
    outputs["declared"][...] = 7
    assert memory.tolist() == [7, 7, 7]
    assert outputs.assigned == {}


def test_an_assigned_output_stands_in_assigned_and_leaves_the_memory_alone():
    outputs, memory = new_outputs()
    value = np.ones(3, np.float32)
    outputs["declared"] = value
    outputs["free"] = "anything"
    assert outputs.assigned["declared"] is value
    assert outputs.assigned["free"] == "anything"
    assert memory.tolist() == [0, 0, 0]


def test_assigning_an_unknown_output_is_rejected_with_the_nearest_name():
    outputs, _ = new_outputs()
    with pytest.raises(GraphError, match=r"Unknown output 'fre' of a. Did you mean 'free'?"):
        outputs["fre"] = 1


def test_filling_an_unknown_output_is_rejected_with_the_nearest_name():
    outputs, _ = new_outputs()
    with pytest.raises(GraphError, match=r"Unknown output 'declare' of a. Did you mean 'declared'?"):
        outputs["declare"][...] = 1


def test_filling_an_output_without_an_array_is_rejected_with_both_remedies():
    outputs, _ = new_outputs()
    with pytest.raises(GraphError, match=r"'a\.free' declares no array.*Assign it \(outputs\['free'\] = value\), or"):
        outputs["free"][...] = 1


# ---------------------------------------------------------------------------------------- values


def test_an_assigned_array_must_have_the_declared_shape_and_dtype():
    spec = ArraySpec((3,), np.float32)
    array = np.ones(3, np.float32)
    assert accept_array(array, spec, "a.y") is array
    with pytest.raises(GraphError, match=r"'a\.y' declares.*\(3,\) and dtype float32 but was given shape \(4,\)"):
        accept_array(np.ones(4, np.float32), spec, "a.y")
    with pytest.raises(GraphError, match=r"was given shape .* and dtype float64. Convert it"):
        accept_array([1.0, 2.0, 3.0], spec, "a.y")


def test_a_scatter_gives_each_member_its_item():
    assert item_of(["a", "b"], 1, 2, "a.y") == "b"
    assert item_of(np.array([[1, 2], [3, 4]]), 1, 2, "a.y").tolist() == [3, 4]


def test_a_scattered_scalar_is_a_view_of_its_array():
    values = np.array([1, 2])
    assert np.shares_memory(item_of(values, 1, 2, "a.y"), values)


def test_an_absent_value_scatters_as_absent():
    assert item_of(None, 0, 2, "a.y") is None


def test_a_scatter_with_the_wrong_number_of_items_is_rejected():
    with pytest.raises(GraphError, match=r"'a\.y' is scattered to 2 members but has 3 items.*in index order"):
        item_of([1, 2, 3], 0, 2, "a.y")


def test_a_consumers_view_cannot_be_written_through():
    array = np.zeros(3)
    view = read_only(array)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    array[0] = 5
    assert view[0] == 5


@given(st.lists(st.integers(0, 4), max_size=5), st.data())
def test_gathered_blocks_read_as_one_sequence(lengths, data):
    assume(sum(lengths))
    whole = np.arange(2 * sum(lengths)).reshape(-1, 2)
    gathered = Gathered(np.split(whole, np.cumsum(lengths)[:-1]))
    index = data.draw(st.integers(-len(whole), len(whole) - 1))
    assert len(gathered) == len(whole)
    assert gathered[index].tolist() == whole[index].tolist()
    assert np.asarray(gathered).tolist() == whole.tolist()
    assert [item.tolist() for item in gathered] == whole.tolist()
    assert [item.tolist() for item in gathered[1:]] == whole[1:].tolist()


def test_an_index_outside_a_gather_is_an_index_error():
    gathered = Gathered([np.zeros((2, 3)), np.zeros((1, 3))])
    for index in (3, -4):
        with pytest.raises(IndexError, match="outside a bank of 3 members"):
            gathered[index]


def test_a_gather_of_several_blocks_cannot_be_joined_without_a_copy():
    with pytest.raises(ValueError, match="only be joined by a copy"):
        np.asarray(Gathered([np.zeros(2), np.zeros(2)]), copy=False)


def test_a_gathered_scalar_is_a_view_of_its_block():
    block = np.zeros(2)
    assert np.shares_memory(Gathered([block])[1], block)


# --------------------------------------------------------------------------------------- digests

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.builds(np.array, st.lists(st.integers(0, 255), max_size=4), st.sampled_from([np.uint8, np.float32]))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def plain(value: Any) -> Any:
    """`value` in a form whose `repr` says everything that a digest should tell apart."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, value.tolist())
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    return [plain(item) for item in value] if isinstance(value, list) else value


@given(VALUES, VALUES)
def test_digests_are_equal_exactly_where_values_are(one, other):
    assert (digest_of(one) == digest_of(other)) == (repr(plain(one)) == repr(plain(other)))


@given(VALUES)
def test_a_copy_has_the_same_digest(value):
    assert digest_of(copy.deepcopy(value)) == digest_of(value)


@given(st.lists(VALUES, max_size=3))
def test_values_taken_in_one_by_one_are_told_from_their_neighbours(values):
    joined, split = Digest(), Digest()
    joined.add(values)
    for value in values:
        split.add(value)
    assert joined.hexdigest() != split.hexdigest()


def test_strides_do_not_change_a_digest():
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    assert digest_of(np.asfortranarray(array)) == digest_of(array) == digest_of(array.repeat(2, axis=1)[:, ::2])


@pytest.mark.parametrize(
    "other",
    [
        np.arange(6, dtype=np.int64),
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.arange(6, dtype=np.int32)[::-1],
        np.arange(6, dtype=np.uint32),
        list(range(6)),
    ],
    ids=["dtype", "shape", "order", "sign", "list"],
)
def test_dtype_shape_and_order_change_a_digest(other):
    assert digest_of(other) != digest_of(np.arange(6, dtype=np.int32))


def test_one_bit_changes_a_digest():
    array = np.zeros(1000)
    changed = array.copy()
    changed.view(np.uint8)[4321] ^= 1
    assert digest_of(changed) != digest_of(array)


def test_minus_zero_is_told_from_zero():
    assert digest_of(-0.0) != digest_of(0.0)
    assert digest_of(np.array(-0.0)) != digest_of(np.array(0.0))


def test_values_cannot_run_into_each_other():
    assert digest_of(["ab", "c"]) != digest_of(["a", "bc"])
    assert digest_of([[1], 2]) != digest_of([1, [2]])
    assert digest_of("1") != digest_of(b"1")
    assert digest_of("a") != digest_of(["a"])


def test_lists_and_tuples_count_the_same_and_so_do_scalars_and_arrays_without_axes():
    assert digest_of((1, "a")) == digest_of([1, "a"])
    assert digest_of(np.float64(2.5)) == digest_of(np.array(2.5))


def test_the_order_of_a_mapping_does_not_count():
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})


def test_an_empty_array_has_a_digest_that_knows_its_shape():
    assert digest_of(np.zeros((0, 3))) != digest_of(np.zeros((3, 0)))


@pytest.mark.parametrize("value", [{1, 2}, object(), 1j], ids=["set", "object", "complex"])
def test_a_value_without_a_fingerprint_is_rejected(value):
    with pytest.raises(TypeError, match=f"type {type(value).__name__} has no fingerprint. Observe arrays"):
        digest_of(value)


def test_a_gather_has_one_digest_however_it_is_stored():
    builder = new_builder()
    bank = builder.bank("bank", 3, Source, outputs=["y"])
    sink = builder.task("sink", Source, inputs=["x"], observed=True)
    builder.gather(bank["y"], sink["x"])
    graph = builder.build()
    whole = np.arange(6.0).reshape(3, 2)
    digests = set()
    for stored in (whole, list(whole), tuple(whole), Gathered([whole[:1], whole[1:]])):
        digest = Digest()
        digest.add_received(graph, {"sink": {"x": stored}})
        digests.add(digest.hexdigest())
    assert len(digests) == 1


def test_a_gather_within_a_value_counts_as_a_list():
    blocks = [np.zeros((2, 3)), np.ones((1, 3))]
    assert digest_of([Gathered(blocks)]) == digest_of([[*blocks[0], *blocks[1]]])


def test_what_is_received_counts_by_port():
    builder = new_builder()
    source = builder.task("source", Source, outputs=["y", "z"])
    sink = builder.task("sink", Source, inputs=["a", "b"], observed=True)
    builder.connect(source["y"], sink["a"])
    builder.connect(source["z"], sink["b"])
    graph = builder.build()
    digests = []
    for received in ({"a": 1, "b": None}, {"a": None, "b": 1}):
        digest = Digest()
        digest.add_received(graph, {"sink": received})
        digests.append(digest.hexdigest())
    assert digests[0] != digests[1]


def test_an_edge_knows_its_ends_by_name():
    builder = new_builder()
    source = builder.task("source", Source, outputs=["y"])
    target = builder.bank("target", 2, Source, inputs=["x"])
    builder.broadcast(source["y"], target["x"], delay=2)
    (edge,) = builder.build().edges
    assert edge == Edge(
        source=PortRef("source", "y"), target=PortRef("target", "x"), shape=EdgeShape.BROADCAST, delay=2
    )
    assert f"{edge.source} -> {edge.target}" == "source.y -> target.x"


def test_an_optional_output_is_absent_unless_it_is_filled_or_assigned():
    outputs = Outputs("a", ["maybe"], {}, optional={"maybe": ArraySpec((2,), "float32")})
    assert outputs.assigned == {}
    outputs["maybe"][...] = 3
    outputs["maybe"][0] = 4
    assert outputs.assigned["maybe"].tolist() == [4, 3]
    assert outputs.assigned["maybe"].dtype == np.float32


def test_an_array_assigned_to_an_optional_output_must_be_as_declared():
    outputs = Outputs("a", ["maybe"], {}, optional={"maybe": ArraySpec((2,), "float32")})
    with pytest.raises(GraphError, match=r"'a.maybe' declares an array of shape \(2,\)"):
        outputs["maybe"] = np.zeros(3, np.float32)


def test_a_runtime_may_give_memory_of_its_own_for_an_optional_output():
    room = np.zeros(2, np.float32)
    spec = {"maybe": ArraySpec((2,), "float32")}
    outputs = Outputs("a", ["maybe"], {}, optional=spec, rooms={"maybe": lambda: room})
    outputs["maybe"][...] = 1
    assert room.tolist() == [1, 1]
    assert outputs.assigned == {}


def test_an_optional_output_without_an_array_is_rejected():
    builder = GraphBuilder(workload="w", parameters={}, seed=0, unit="u", units_per_round=1)
    with pytest.raises(GraphError, match=r"'a.maybe' is optional but declares no array"):
        builder.task("a", int, outputs=[Output("maybe", optional=True)])
