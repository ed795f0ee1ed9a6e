"""The sum tree: what is drawn, how sums and minima stay right, and what is rejected."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workloads.replay.kernels import FAN_OUTS, MAKERS, NATIVE, every_kernel
from workloads.replay import SumTree

DTYPES = ("float32", "float64")
ULP = {"float32": 2.0**-24, "float64": 2.0**-53}

needs_native = pytest.mark.skipif(NATIVE is None, reason="the native part was not built")


@pytest.fixture(params=list(MAKERS))
def make(request):
    """Makes trees of one kernel."""
    return MAKERS[request.param]


def seeded(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def levels_of(capacity, fan_out):
    nodes, levels = capacity, 0
    while levels == 0 or nodes > 1:
        nodes, levels = -(-nodes // fan_out), levels + 1
    return levels


def error_bound(capacity, fan_out, dtype):
    """What the total may differ by, relative to the sum of leaves; the promise for float64 is far wider."""
    return levels_of(capacity, fan_out) * math.log2(fan_out) * ULP[dtype]


SURPRISING = 3.1  # standard deviations: chance makes it once in a thousand times


def surprise(counts, expected):
    """How far chi-square lies above its mean, in standard deviations; for hundreds of counts it is about normal."""
    freedom = len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom)


@st.composite
def geometries(draw):
    return draw(st.integers(1, 300)), draw(st.sampled_from(FAN_OUTS)), draw(st.sampled_from(DTYPES))


@st.composite
def batches(draw, capacity, values):
    entries = draw(st.lists(st.tuples(st.integers(0, capacity - 1), values), max_size=40))
    return np.array([index for index, _ in entries], np.int64), np.array([value for _, value in entries], np.float64)


INTEGERS = st.integers(0, 1000).map(float)
FLOATS = st.one_of(st.just(0.0), st.floats(1e-30, 1e30), st.sampled_from([1.0, 5e-324, 1e-40, 1.1754943e-38]))
MASSES = st.floats(0, 1) | st.sampled_from([0.0, 1.0, np.nextafter(1.0, 0), 5e-324])


@given(st.data())
def test_all_kernels_are_equal_in_every_bit(data):
    capacity, fan_out, dtype = data.draw(geometries())
    trees = every_kernel(capacity, fan_out, dtype)
    asks_for_minima_early = data.draw(st.booleans())
    for _ in range(data.draw(st.integers(1, 3))):
        indices, values = data.draw(batches(capacity, FLOATS))
        for tree in trees:
            tree.set(indices, values)
            if asks_for_minima_early:
                assert tree.min == trees[0].min
    every = np.arange(capacity)
    assert len({(tree.total, tree.min, tree.get(every).tobytes()) for tree in trees}) == 1
    if trees[0].total > 0:
        masses = np.array(data.draw(st.lists(MASSES, min_size=1, max_size=20))) * trees[0].total
        beta = data.draw(st.floats(0, 2))
        how = (data.draw(st.integers(1, 20)), data.draw(st.booleans()), beta, data.draw(st.booleans()))
        outcomes = [(*tree.find(masses), *tree.sample_weighted(seeded(), *how)) for tree in trees]
        assert len({b"".join(array.tobytes() for array in outcome) for outcome in outcomes}) == 1


@needs_native
@pytest.mark.parametrize(("fan_out", "dtype"), [*itertools.product(FAN_OUTS, DTYPES)])
def test_all_kernels_are_equal_in_a_tree_of_many_levels_and_large_batches(fan_out, dtype):
    capacity, rng = 20_000, seeded()
    trees = every_kernel(capacity, fan_out, dtype)
    for size in (40_000, 700, 3):
        indices, values = rng.integers(0, capacity, size), 10.0 ** rng.uniform(-4, 3, size)
        for tree in trees:
            tree.set(indices, values)

    assert len({(tree.total, tree.min) for tree in trees}) == 1
    drawn = [tree.sample_weighted(seeded(), 3000, False, 0.4, False) for tree in trees]
    assert len({indices.tobytes() + weights.tobytes() for indices, weights in drawn}) == 1


@given(st.data())
def test_a_mass_finds_the_first_leaf_up_to_which_the_sum_exceeds_it_but_none_past_the_last_positive(data):
    capacity, fan_out, dtype = data.draw(geometries())
    make = MAKERS[data.draw(st.sampled_from(list(MAKERS)))]
    indices, values = data.draw(batches(capacity, INTEGERS))
    tree, leaves = make(capacity, fan_out, dtype), np.zeros(capacity)
    tree.set(indices, values)
    for index, value in zip(indices, values, strict=True):
        leaves[index] = value
    prefixes = np.cumsum(leaves)  # exact, as all of these sums of integers are
    assert tree.total == prefixes[-1]
    if tree.total > 0:
        edges = np.concatenate([prefixes, np.nextafter(prefixes, 0), np.nextafter(prefixes, np.inf)])
        inside = np.array(data.draw(st.lists(MASSES, max_size=20))) * tree.total
        masses = np.concatenate([edges, inside, [0.0, tree.total, 2 * tree.total, np.inf]])
        last = int(leaves.nonzero()[0][-1])
        expected = np.minimum(np.searchsorted(prefixes, masses, side="right"), last)

        assert tree.find(masses)[0].tolist() == expected.tolist()


@given(st.data())
def test_what_is_drawn_is_positive_and_the_total_and_the_minimum_are_right(data):
    capacity, fan_out, dtype = data.draw(geometries())
    make = MAKERS[data.draw(st.sampled_from(list(MAKERS)))]
    indices, values = data.draw(batches(capacity, FLOATS))
    tree = make(capacity, fan_out, dtype)
    tree.set(indices, values)
    leaves = tree.get(np.arange(capacity))
    total = math.fsum(leaves)

    assert abs(tree.total - total) <= error_bound(capacity, fan_out, dtype) * total
    assert tree.min == min(leaves[leaves > 0], default=0.0)
    if total > 0:
        found, of_found = tree.find(np.array([0.0, *data.draw(st.lists(MASSES)), 1.0]) * tree.total)
        assert (leaves[found] == of_found).all()
        assert (of_found > 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_last_of_equal_indices_wins(make, dtype):
    tree = make(100, 16, dtype)

    tree.set(np.array([7, 50, 7, 7]), np.array([1.0, 2.0, 3.0, 4.0]))

    assert tree.get([7, 50]).tolist() == [4.0, 2.0]
    assert tree.total == 6.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stratified", [False, True])
def test_leaves_are_drawn_as_often_as_their_values_say(dtype, stratified):
    tree, rng, draws = SumTree(1000, dtype=dtype), seeded(3), 200_000
    values = rng.uniform(0.1, 5, 1000) * (rng.random(1000) < 0.8)
    tree.set(np.arange(1000), values)

    drawn = np.concatenate([tree.sample(2000, rng, stratified=stratified) for _ in range(draws // 2000)])

    counts = np.bincount(drawn, minlength=1000)
    assert counts[values == 0].sum() == 0
    positive = values > 0
    assert surprise(counts[positive], draws * values[positive] / values.sum()) < SURPRISING


def test_equal_values_are_drawn_uniformly():
    tree, rng = SumTree(999), seeded(4)
    tree[:] = 0.7

    drawn = np.concatenate([tree.sample(1000, rng) for _ in range(200)])

    assert surprise(np.bincount(drawn, minlength=999), len(drawn) / 999) < SURPRISING


def test_draws_that_favour_some_leaves_by_a_tenth_are_found_surprising():
    drawn = seeded(4).choice(1000, 200_000, p=np.tile([0.0011, 0.0009], 500))

    assert surprise(np.bincount(drawn, minlength=1000), 200) > SURPRISING


def test_a_leaf_of_a_large_float32_tree_is_as_likely_as_any_other():
    # A mass rounded to float32 would have steps of 1/16 of a leaf here, and never meet some halves of them.
    tree, capacity = SumTree(1_000_000), 1_000_000
    tree[:] = 1.0
    masses = np.arange(999_000, 1_000_000, 1 / 64)

    assert tree.find(masses).tolist() == masses.astype(np.int64).tolist()
    assert tree.total == capacity


def test_drawing_uses_up_exactly_the_numbers_that_random_gives(make):
    tree, rng, twin = make(1000, 16, "float32"), seeded(1), seeded(1)
    tree.set(np.arange(1000), seeded().random(1000))
    for rows in (1, 256, 1500):
        indices = tree.sample(rng, rows, False)
        assert indices.tolist() == tree.find(twin.random(rows) * tree.total)[0].tolist()
        strata = tree.sample(rng, rows, True)
        assert strata.tolist() == tree.find((np.arange(rows) + twin.random(rows)) / rows * tree.total)[0].tolist()
    assert rng.random() == twin.random()


def test_weights_are_those_of_the_paper(make):
    tree, leaves = make(100, 16, "float64"), seeded().random(100)
    tree.set(np.arange(100), leaves)

    by_batch, batch_weights = tree.sample_weighted(seeded(), 10, False, 0.5, False)
    by_buffer, buffer_weights = tree.sample_weighted(seeded(), 10, False, 0.5, True)

    probabilities = leaves / leaves.sum()
    raw, largest = (100 * probabilities[by_batch]) ** -0.5, (100 * probabilities.min()) ** -0.5
    assert by_batch.tolist() == by_buffer.tolist()
    assert batch_weights.dtype == np.float32
    assert batch_weights.tolist() == pytest.approx((raw / raw.max()).tolist(), rel=1e-6)
    assert buffer_weights.tolist() == pytest.approx((raw / largest).tolist(), rel=1e-6)


@needs_native
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_total_does_not_drift_in_ten_million_updates_over_seven_orders_of_magnitude(dtype):
    capacity, rng, batch = 1_000_000, seeded(5), 4000
    tree = SumTree(capacity, dtype=dtype)
    indices, values = rng.integers(0, capacity, 1_000_000), 10.0 ** rng.uniform(-4, 3, 1_000_003)
    for round_ in range(10_000_000 // batch):
        at = round_ * batch % len(indices)
        tree.set(indices[at : at + batch], values[round_ % 1000 : round_ % 1000 + batch])

    leaves = tree[:].astype(np.float64)
    promise = error_bound(capacity, 16, dtype) if dtype == "float32" else 1e-12
    assert abs(tree.total - math.fsum(leaves)) <= promise * math.fsum(leaves)


def test_the_mass_that_equals_the_total_falls_on_the_last_positive_leaf(make):
    tree = make(1000, 16, "float32")
    tree.set([3, 500], [0.1, 0.2])

    indices, _ = tree.find(np.array([0.0, tree.total, np.nextafter(tree.total, 0)]))

    assert indices.tolist() == [3, 500, 500]


@pytest.mark.parametrize("fan_out", FAN_OUTS)
def test_zero_leaves_are_not_drawn_even_where_a_mass_lies_on_their_edge(make, fan_out):
    tree = make(256, fan_out, "float32")
    tree.set(np.arange(256), np.tile([0.0, 1.0], 128))

    assert tree.find(np.arange(129.0))[0].tolist() == [*range(1, 256, 2), 255]


def test_what_is_positive_stays_so_however_small(make):
    for dtype, normal in [("float32", 2.0**-126), ("float64", 2.0**-1022)]:
        tree = make(20, 16, dtype)
        tree.set([5, 6], [5e-324, -0.0])

        assert tree.get([5, 6]).tolist() == [normal, 0.0]
        assert tree.total == tree.min == normal
        assert tree.sample(seeded(), 3, False).tolist() == [5, 5, 5]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capacity", [1, 2, 16, 17, 1000])
def test_no_sum_overflows_where_all_leaves_are_as_large_as_may_be(make, capacity, dtype):
    tree = make(capacity, 4, dtype)

    tree.set(np.arange(capacity), np.full(capacity, tree.limit))

    assert tree.total == pytest.approx(capacity * tree.limit)
    assert math.isfinite(tree.total)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, r"Value nan \(at position 1\) is NaN"),
        (-1.0, r"Value -1 \(at position 1\) is negative"),
        (math.inf, r"Value inf \(at position 1\) is infinite"),
        (1e38, r"Value 1e\+38 \(at position 1\) is above .* take dtype float64"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_value_that_no_leaf_may_have_is_rejected_and_nothing_changes(make, value, said, dtype):
    tree = make(10, 16, "float32")
    tree.set([0, 1], [1.0, 2.0])

    with pytest.raises(ValueError, match=said):
        tree.set(np.array([0, 1]), np.array([5.0, value], dtype))

    assert tree.get([0, 1]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("index", [-1, 10, 2**62])
def test_an_index_outside_of_the_tree_is_rejected_and_nothing_changes(make, index):
    tree = make(10, 16, "float32")

    with pytest.raises(IndexError, match=rf"Index {index} \(at position 1\) is outside of the tree: .* 0 to 9"):
        tree.set(np.array([0, index]), np.array([5.0, 1.0]))
    with pytest.raises(IndexError, match="outside"):
        tree.get([index])

    assert tree.total == 0


@pytest.mark.parametrize(
    ("indices", "values", "error", "said"),
    [
        ([0, 1], [1.0], ValueError, "There are 2 indices but 1 values"),
        ([[0, 1]], [1.0, 2.0], ValueError, r"Indices have shape \(1, 2\)"),
        ([0, 1], [[1.0, 2.0]], ValueError, r"Values have shape \(1, 2\)"),
        ([0.5], [1.0], TypeError, "Indices are integers, not float64"),
        ([True], [1.0], TypeError, "Indices are integers, not bool"),
        ([0], ["a"], TypeError, "Values are real numbers, not <U1"),
        ([0], [1j], TypeError, "Values are real numbers, not complex128"),
        (np.array([2**64 - 1], np.uint64), [1.0], IndexError, "outside of any tree"),
    ],
)
def test_arrays_that_do_not_fit_are_rejected(make, indices, values, error, said):
    with pytest.raises(error, match=said):
        make(10, 16, "float32").set(indices, values)


@pytest.mark.parametrize(
    ("indices", "values"),
    [
        ([1, 3, 5], [1.0, 2.0, 0.5]),
        ((1, 3, 5), (1, 2, 0.5)),
        (np.array([1, 3, 5], np.int32), np.array([1, 2, 0.5], np.float16)),
        (np.array([1, 3, 5], np.uint64), np.array([1, 2, 0.5], np.float32)),
        (np.array([1, 0, 3, 0, 5, 0])[::2], np.array([1, 0, 2, 0, 0.5, 0])[::2]),
        (np.array([1, 3, 5], ">i8"), np.array([1, 2, 0.5], ">f8")),
        (np.array([5, 3, 1])[::-1], np.array([0.5, 2, 1])[::-1]),
        (np.array([1, 3, 5], np.longlong), np.array([1, 2, 0.5], np.longdouble)),
    ],
)
def test_arrays_of_any_kind_and_strides_are_taken(make, indices, values):
    tree = make(10, 16, "float32")

    tree.set(indices, values)

    assert tree.get(np.arange(10)).tolist() == [0, 1, 0, 2, 0, 0.5, 0, 0, 0, 0]


def test_arrays_that_are_read_only_and_batches_of_nothing_are_taken(make):
    tree, indices, values = make(10, 16, "float32"), np.array([4]), np.array([2.0])
    indices.flags.writeable = values.flags.writeable = False

    tree.set(indices, values)
    tree.set([], [])
    tree.set(np.empty(0, np.int64), np.empty(0))

    assert tree.total == 2.0
    assert tree.get([]).shape == (0,)


def test_nothing_is_drawn_from_an_empty_mass(make):
    tree = make(10, 16, "float32")
    tree.set([3], [1.0])
    tree.set([3], [0.0])

    for draw in (
        lambda: tree.sample(seeded(), 1, False),
        lambda: tree.sample_weighted(seeded(), 1, False, 0.4, True),
        lambda: tree.find(np.zeros(1)),
    ):
        with pytest.raises(ValueError, match="Nothing can be drawn: no leaf is positive"):
            draw()
    assert tree.min == 0.0


@pytest.mark.parametrize("rng", [None, 5, np.random.RandomState(0)])
def test_what_is_no_generator_is_rejected(make, rng):
    tree = make(10, 16, "float32")
    tree.set([3], [1.0])

    with pytest.raises(TypeError, match="default_rng"):
        tree.sample(rng, 1, False)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ((0,), ValueError, "capacity is 0"),
        ((2**40 + 1,), ValueError, "2\\^40"),
        ((10, 3), ValueError, "fan_out is 3"),
        ((10, 128), ValueError, "fan_out is 128"),
        ((10, 16, "float16"), ValueError, "dtype is float16"),
        ((10, 16, "int64"), ValueError, "dtype is int64"),
        ((1e6,), TypeError, "capacity is 1000000.0, but it must be an integer: 1_000_000"),
    ],
)
def test_a_tree_that_cannot_be_is_rejected(arguments, error, said):
    with pytest.raises(error, match=said):
        SumTree(*arguments)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"n": 0}, "n is 0"),
        ({"beta": -0.5}, "beta is -0.5"),
        ({"beta": math.nan}, "beta is nan"),
        ({"normalise": "sum"}, "normalise is 'sum'"),
    ],
)
def test_draws_that_cannot_be_are_rejected(how, said):
    tree = SumTree(10)
    tree[3] = 1.0

    with pytest.raises(ValueError, match=said):
        tree.sample_weighted(**{"n": 3, "rng": seeded()} | how)


def test_a_mass_below_zero_is_rejected():
    tree = SumTree(10)
    tree[3] = 1.0

    with pytest.raises(ValueError, match=r"Mass -1.0 \(at position 1\)"):
        tree.find([0.5, -1.0])


def test_leaves_are_read_and_written_by_index():
    tree = SumTree(10)

    tree[2] = 1.5
    tree[5:8] = 2.0
    tree[[0, 9]] = [0.25, 0.5]

    assert tree[2] == 1.5
    assert isinstance(tree[2], float)
    assert tree[4:7].tolist() == [0.0, 2.0, 2.0]
    assert tree[[9, 0]].dtype == np.float32
    assert tree[np.array([9, 0])].tolist() == [0.5, 0.25]
    assert len(tree) == 10
    assert repr(tree) == "SumTree(10, fan_out=16, dtype='float32', total=8.25)"
    assert tree.min == 0.25
    with pytest.raises(IndexError, match="Index 10"):
        tree[10]


@needs_native
@pytest.mark.parametrize(("fan_out", "dtype"), [*itertools.product(FAN_OUTS, DTYPES)])
def test_every_level_begins_at_a_cache_line(fan_out, dtype):
    addresses = NATIVE.Tree(1000, fan_out, np.dtype(dtype)).addresses()

    assert len(addresses) == levels_of(1000, fan_out) + 1
    assert [address % 64 for address in addresses] == [0] * len(addresses)


@needs_native
def test_a_tree_takes_little_more_memory_than_its_leaves():
    for capacity in (1_000_000, 1_048_577):
        assert SumTree(capacity).nbytes < 1.15 * 4 * capacity


@needs_native
@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no lock to release")
def test_other_threads_run_during_large_batches_and_not_during_small_ones():
    tree, rng, go, ran = SumTree(100_000), seeded(), threading.Event(), threading.Event()
    tree[:] = 1.0
    other = threading.Thread(target=lambda: go.wait() and ran.set())
    other.start()
    time.sleep(0.05)  # it waits by then, and asks for the lock of the interpreter only when told to go
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        go.set()
        tree.sample(256, rng)
        ran_in_small_batch = ran.is_set()
        for _ in range(100):
            tree.sample(200_000, rng)
            if ran.is_set():
                break
        ran_in_large_batch = ran.is_set()
    finally:
        sys.setswitchinterval(interval)
        other.join()

    assert (ran_in_small_batch, ran_in_large_batch) == (False, True)


@pytest.mark.parametrize("parts", [["_tree"], ["_tree", "_ring"]])
def test_without_the_native_part_numpy_works_and_it_is_said_once(parts, tmp_path):
    hidden = "".join(f"sys.modules['workloads.replay.{part}'] = None\n" for part in parts)
    program = (
        f"import sys, warnings\n{hidden}"
        "from workloads.replay import SumTree\nfrom workloads.replay.compiled import compiled\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    tree = SumTree(5)\n    SumTree(5)\n    compiled('_ring')\n"
        "tree[3] = 2.0\nprint(tree.total, type(tree._kernel).__name__)\n"
        "for warning in caught:\n    print(warning.category.__name__, warning.message)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], check=True, text=True, capture_output=True, cwd=tmp_path, env=None
    )

    lines = done.stdout.splitlines()
    assert lines[0] == "2.0 NumpyTree"
    assert len(lines) == 2
    assert lines[1].startswith("RuntimeWarning The replay buffer works in NumPy")
