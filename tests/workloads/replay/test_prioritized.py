"""PrioritizedReplay: what its arguments, rows, priorities, draws, weights and files are, over both rings alike."""

from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest

from tests.workloads.replay.buffers import FIELDS, KINDS, made, rows_of
from tests.workloads.replay.mutations import damaged
from workloads.replay import PrioritizedReplay, SavedReplayError
from workloads.replay.ring_arguments import changed_too_often

ONE = {"x": ((), "float32")}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def filled(kind, rows, capacity=100, *, fields=FIELDS, priorities=None, **options):
    buffer = made(kind, capacity, fields, **options)
    buffer.add(**rows_of(np.arange(rows)), priorities=priorities)
    return buffer


def numbered(kind, capacity=8, **options):
    """A buffer of rows that are a number each."""
    return made(kind, capacity, ONE, **options)


def leaves(buffer):
    return buffer.state()[1]["leaves"]


# ---- rows ----


def test_rows_come_back_as_they_were_added(kind):
    buffer = filled(kind, 40)

    batch = buffer.sample(500)

    assert set(batch) == {*FIELDS, "indices", "weights", "generations"}
    expected = rows_of(batch["indices"])
    for name, (shape, dtype) in FIELDS.items():
        assert batch[name].dtype == dtype
        assert batch[name].shape == (500, *shape)
        assert np.array_equal(batch[name], expected[name])
    assert batch["indices"].dtype == batch["generations"].dtype == np.int64
    assert batch["weights"].dtype == np.float32
    assert {batch[name].shape for name in ("indices", "generations", "weights")} == {(500,)}


def test_one_row_is_at_an_index_without_axes_and_several_are_at_a_vector_of_them(kind):
    buffer = made(kind, 10, FIELDS)

    one = buffer.add(**rows_of(np.int64(0)))
    several = buffer.add(**rows_of(np.arange(1, 4)))
    none = buffer.add(**rows_of(np.arange(0)))

    assert (one.shape, one.dtype, int(one)) == ((), np.int64, 0)
    assert (several.tolist(), several.dtype) == ([1, 2, 3], np.int64)
    assert (none.shape, none.dtype, len(buffer)) == ((0,), np.int64, 4)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", 0.1),
        ("float32", np.float64(0.1)),
        ("float64", 3),
        ("float32", True),
        ("bool", True),
        ("bool", np.bool_(1)),
        ("int64", 7),
        ("int32", np.int64(7)),
        ("uint8", np.uint8(7)),
        ("float32", np.float32(2).reshape(())),
        ("complex64", 1.5),
    ],
)
def test_a_single_number_is_stored_as_numpy_would_cast_it(kind, dtype, value):
    buffer = made(kind, 3, {"x": ((), dtype)})

    buffer.add(x=value)

    assert buffer.sample(1)["x"][0] == np.asarray(value).astype(dtype)


def test_rows_of_other_dtypes_and_strides_are_cast_as_same_kind(kind):
    buffer = made(kind, 10, {"x": ((2, 3), "float32"), "y": ((), ">i4")})
    wide = np.arange(36.0).reshape(6, 2, 3)

    buffer.add(x=wide[::2], y=[1, 2, 3])
    buffer.add(x=wide.transpose(0, 2, 1).reshape(6, 3, 2).transpose(0, 2, 1), y=np.arange(6, dtype=np.int16))

    assert buffer.fields["y"][1] == np.int32
    stored = buffer.get_all_transitions()
    assert np.array_equal(stored["x"][:3], wide[::2].astype(np.float32))
    assert np.array_equal(stored["x"][3:], wide.transpose(0, 2, 1).reshape(6, 3, 2).transpose(0, 2, 1))
    assert stored["y"].tolist() == [1, 2, 3, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"x": np.zeros(3), "n": np.array(0.5)}, TypeError, r"'n' stores int64, and float64 cannot be cast"),
        ({"x": np.zeros(3)}, TypeError, "missing: n; unknown: none"),
        ({"x": np.zeros(3), "n": 1, "z": 1}, TypeError, "missing: none; unknown: z"),
        ({"x": np.zeros(4), "n": 1}, ValueError, r"'x' has shape \(3,\), so give \(3,\) for one .* not \(4,\)"),
        ({"x": np.zeros((2, 3)), "n": 1}, ValueError, "2 transitions in 'x', but One transition without"),
        ({"x": np.zeros((2, 3)), "n": [1, 2, 3]}, ValueError, "2 transitions in 'x', but 3 transitions in 'n'"),
        ({"x": np.zeros(3, np.complex64), "n": 1}, TypeError, "complex64 cannot be cast"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_field(kind, values, error, words):
    buffer = made(kind, 4, {"x": ((3,), "float32"), "n": ((), "int64")})

    with pytest.raises(error, match=words):
        buffer.add(**values)
    assert len(buffer) == 0


def test_the_oldest_rows_are_overwritten(kind):
    buffer = filled(kind, 7, capacity=10)

    assert buffer.add(**rows_of(np.arange(7, 12))).tolist() == [7, 8, 9, 0, 1]
    assert len(buffer) == 10
    assert buffer.get_all_transitions()["action"].tolist() == [3 * n for n in range(2, 12)]


def test_of_more_rows_than_there_is_room_for_the_last_are_kept(kind):
    buffer = filled(kind, 3, capacity=7)

    indices = buffer.add(**rows_of(np.arange(3, 3000)), priorities=np.linspace(0.5, 2, 2997))

    assert indices.tolist() == [n % 7 for n in range(3, 3000)]
    assert buffer.get_all_transitions()["action"].tolist() == [3 * n for n in range(2993, 3000)]
    assert set(buffer.sample(50)["generations"]) <= set(range(2993, 3000))
    assert buffer.max_priority == 2


@pytest.mark.parametrize("count", [1, 128])
def test_rows_may_have_many_fields_and_large_ones(kind, count):
    fields = {f"f{n}": ((n % 90 + 1,), "uint8") for n in range(count)}
    buffer = made(kind, 3, fields)
    values = {name: np.full((5, *shape), int(name[1:]) % 251, np.uint8) for name, (shape, _) in fields.items()}

    buffer.add(**values)

    assert all((column == int(name[1:]) % 251).all() for name, column in buffer.get_all_transitions().items())


# ---- arguments ----


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"capacity": 0}, ValueError, "capacity is 0, but there must be room for 1 row"),
        ({"capacity": 1e6}, TypeError, "capacity is 1000000.0, but it must be an integer: 1_000_000"),
        ({"fields": {}}, ValueError, "There are no fields"),
        ({"fields": {"weights": ((), "f4")}}, ValueError, "'weights'.*Choose another name"),
        ({"fields": {"x": ((), "O")}}, ValueError, "'x' has dtype object"),
        ({"fields": {"x": ((0,), "f4")}}, ValueError, "'x' has shape \\(0,\\)"),
        ({"fields": {"x": "f4"}}, ValueError, "'x' is 'f4', but a field is \\(shape, dtype\\)"),
        ({"alpha": -1}, ValueError, "alpha is -1"),
        ({"eps": np.nan}, ValueError, "eps is nan"),
        ({"seed": -1}, ValueError, "seed is -1"),
        ({"seed": None}, TypeError, "seed is None, but it must be an integer"),
        ({"fan_out": 5}, ValueError, "fan_out is 5"),
        ({"tree_dtype": "float16"}, ValueError, "tree_dtype is float16"),
        ({"alpha": 1e4, "eps": 1.0}, ValueError, "Priority 1.0 .* too large"),
    ],
)
def test_arguments_out_of_their_range_are_refused_by_name(kind, arguments, error, words):
    with pytest.raises(error, match=words):
        made(kind, **{"capacity": 4, "fields": ONE, **arguments})


def test_more_fields_than_a_row_can_have_are_refused():
    if "native" not in KINDS:
        pytest.skip("the ring in NumPy has no bound")
    with pytest.raises(ValueError, match="129 fields, but a row has at most 128"):
        PrioritizedReplay(4, {f"f{n}": ((), "float32") for n in range(129)})


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n": 0}, ValueError, "n is 0"),
        ({"n": 2.0}, TypeError, "n is 2.0, but it must be an integer"),
        ({"beta": -0.5}, ValueError, "beta is -0.5"),
        ({"normalise": "all"}, ValueError, "normalise is 'all'"),
        ({"out": {"y": np.zeros(2)}}, ValueError, "out has 'y'"),
        ({"out": {"x": np.zeros(2)}}, ValueError, r"out\['x'\] is float64 of shape \(2,\); float32 of shape"),
        ({"out": {"x": np.zeros(4, "f4")[::2]}}, ValueError, "C-contiguous and writeable"),
    ],
)
def test_a_batch_that_cannot_be_made_is_refused_by_argument(kind, arguments, error, words):
    buffer = numbered(kind)
    buffer.add(x=[1, 2])

    with pytest.raises(error, match=words):
        buffer.sample(**{"n": 2, **arguments})


def test_what_cpprb_calls_its_sizes_is_answered(kind):
    buffer = filled(kind, 4, capacity=9)
    buffer.update_priorities([1], [7])

    assert (buffer.get_stored_size(), buffer.get_buffer_size(), buffer.get_max_priority()) == (4, 9, 7)


def test_it_says_what_it_is(kind):
    buffer = filled(kind, 4, capacity=9, alpha=0.5, eps=0.1)

    assert repr(buffer) == (
        "PrioritizedReplay(4 of 9 rows of obs, action, image, reward, done; alpha=0.5, eps=0.1, shared=False)"
    )
    assert buffer.field_names == tuple(FIELDS)
    assert buffer.nbytes > 9 * (44 + 8 + 105 + 4 + 1)


def test_the_memory_that_it_takes_is_that_of_its_rows(kind):
    fields = {"obs": ((11,), "f4"), "action": ((3,), "f4"), "next_obs": ((11,), "f4"), "r": ((), "f4"), "d": ((), "f4")}

    assert made(kind, 100_000, fields).nbytes <= 100_000 * 108 * 1.3


# ---- priorities ----


def test_a_leaf_is_the_priority_and_eps_to_the_alpha(kind):
    buffer = numbered(kind, alpha=0.7, eps=0.25, tree_dtype="float64")
    priorities = np.array([0.5, 1.0, 3.0, 1e-3])

    buffer.add(x=np.zeros(4), priorities=priorities)
    buffer.update_priorities([1], [9.0])

    priorities[1] = 9
    assert np.allclose(leaves(buffer), (priorities + 0.25) ** 0.7, rtol=1e-14, atol=0)


@pytest.mark.parametrize(("alpha", "eps"), [(0.0, 0.0), (0.6, 0.0), (1.0, 0.5), (0.0, 0.5)])
def test_a_priority_of_zero_is_never_drawn_whatever_alpha_and_eps(kind, alpha, eps):
    buffer = numbered(kind, alpha=alpha, eps=eps)
    buffer.add(x=np.arange(6), priorities=[0, 1, 0, 1, 1, 0])
    buffer.update_priorities([4], [0.0])

    assert set(buffer.sample(500)["indices"]) == {1, 3}
    assert leaves(buffer)[[0, 2, 4, 5]].tolist() == [0, 0, 0, 0]


def test_alpha_zero_is_uniform(kind):
    buffer = numbered(kind, alpha=0.0)
    buffer.add(x=np.arange(8), priorities=np.geomspace(1e-9, 1e9, 8))

    assert leaves(buffer).tolist() == [1] * 8


def test_new_rows_take_the_largest_raw_priority_ever_given(kind):
    buffer = numbered(kind, capacity=4, alpha=1.0, tree_dtype="float64")
    buffer.add(x=1)
    assert (buffer.max_priority, leaves(buffer)[0]) == (1, 1)

    buffer.update_priorities([0], [0.25])
    buffer.add(x=2)
    assert (buffer.max_priority, leaves(buffer)[1]) == (1, 1)

    buffer.update_priorities([0, 1], [7, 3])
    buffer.add(x=np.arange(5))  # overwrites the row that had it
    assert buffer.max_priority == 7
    assert leaves(buffer).tolist() == [7] * 4

    buffer.add(x=3, priorities=np.float32(11))
    assert buffer.max_priority == 11


def test_sampled_rows_stay_drawable(kind):
    buffer = numbered(kind)
    buffer.add(x=5)

    assert [buffer.sample(2)["x"].tolist() for _ in range(3)] == [[5, 5]] * 3


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "NaN"), (-1e-9, "negative"), (np.inf, "infinite"), (1e39, "too large")]
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_priorities_that_cannot_be_are_refused_by_name_and_change_nothing(kind, value, word, dtype):
    if dtype == "float32" and value == 1e39:
        word = "infinite"  # as it is in float32
    buffer = numbered(kind, alpha=1.0)
    buffer.add(x=np.arange(3))
    with np.errstate(over="ignore"):
        priorities = np.array([2.0, value, 1.0]).astype(dtype)

    for attempt in (
        lambda: buffer.add(x=np.arange(3), priorities=priorities),
        lambda: buffer.update_priorities([0, 1, 2], priorities),
        lambda: buffer.update_priorities(np.arange(3), priorities, np.arange(3)),
    ):
        with pytest.raises(ValueError, match=rf"Priority .* \(number 1\) is {word}"):
            attempt()
    assert (len(buffer), buffer.max_priority, leaves(buffer).tolist()) == (3, 1, [1, 1, 1])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([0, 3], [1, 1]), IndexError, r"Index 3 \(number 1\) is outside of the 3 rows that are stored"),
        ((np.array([-1, 0]), np.ones(2)), IndexError, r"Index -1 \(number 0\) is outside"),
        (([0.0], [1]), TypeError, "indices are integers, not float64"),
        (([0], ["high"]), TypeError, "Priorities are real numbers"),
        (([0], [1j]), TypeError, "Priorities are real numbers"),
        (([0, 1], [1]), ValueError, r"Priorities have shape \(1,\), but there are \(2,\)"),
        ((np.arange(2), np.ones(3)), ValueError, r"Priorities have shape \(3,\), but there are \(2,\)"),
        (([0, 1], [1, 1], [0]), ValueError, r"There are \(2,\) indices, but \(1,\) generations"),
        (([0], [1], [0.5]), TypeError, "generations are integers"),
    ],
)
def test_an_update_that_does_not_fit_is_refused_and_changes_nothing(kind, arguments, error, words):
    buffer = numbered(kind)
    buffer.add(x=np.arange(3))

    with pytest.raises(error, match=words):
        buffer.update_priorities(*arguments)
    assert leaves(buffer).tolist() == [1, 1, 1]


def test_of_an_index_given_several_times_the_last_priority_counts(kind):
    buffer = numbered(kind, alpha=1.0)
    buffer.add(x=np.arange(3))

    assert buffer.update_priorities([2, 0, 2, 2], [9, 5, 8, 4]) == 4
    assert leaves(buffer).tolist() == [5, 1, 4]
    assert buffer.max_priority == 9


def test_the_row_that_was_just_added_is_given_a_priority_by_its_index_and_a_number(kind):
    buffer = numbered(kind, alpha=1.0)
    buffer.add(x=np.arange(3))
    index = buffer.add(x=3)

    assert buffer.update_priorities(index, 5) == 1
    assert buffer.update_priorities(1, 0.5, generations=1) == 1
    assert buffer.update_priorities(2, 9, generations=7) == 0
    assert leaves(buffer).tolist() == [1, 0.5, 1, 5]


def test_an_update_with_generations_touches_only_rows_that_are_still_those(kind):
    buffer = numbered(kind, capacity=4, alpha=1.0)
    buffer.add(x=np.arange(4))
    batch = buffer.sample(16)
    buffer.add(x=[10, 11])  # at 0 and 1

    touched = buffer.update_priorities(batch["indices"], np.full(16, 0.5), batch["generations"])

    assert touched == (batch["indices"] >= 2).sum()
    assert leaves(buffer)[:2].tolist() == [1, 1]
    assert all(leaf in {0.5, 1} for leaf in leaves(buffer)[2:])
    assert buffer.update_priorities([0, 1], [50, 3], [0, 5]) == 1
    assert (leaves(buffer)[:2].tolist(), buffer.max_priority) == ([1, 3], 3)
    assert buffer.update_priorities([0], [2]) == 1


# ---- draws ----


@pytest.mark.parametrize("stratified", [False, True])
def test_draws_are_the_generators_numbers_times_the_sum_of_leaves(kind, stratified):
    buffer = numbered(kind, capacity=300, alpha=1.0, tree_dtype="float64", seed=7)
    priorities = np.random.default_rng(0).integers(0, 9, 300).astype(float)
    buffer.add(x=np.arange(300), priorities=priorities)
    expected_of = np.random.Generator(np.random.PCG64(7))

    for n in (1, 5, 1000):
        batch = buffer.sample(n, stratified=stratified)
        u = expected_of.random(n)
        if stratified:
            u = (np.arange(n) + u) / n
        expected = np.searchsorted(np.cumsum(priorities), u * priorities.sum(), side="right")
        assert batch["indices"].tolist() == expected.tolist()


def test_frequencies_are_those_of_the_priorities(kind):
    buffer = numbered(kind, capacity=50, alpha=0.6, eps=0.01, seed=3)
    priorities = np.geomspace(1e-3, 1e3, 50)
    buffer.add(x=np.arange(50), priorities=priorities)

    counts = np.bincount(buffer.sample(200_000)["indices"], minlength=50)

    shares = (priorities + 0.01) ** 0.6
    expected = 200_000 * shares / shares.sum()
    assert ((counts - expected) ** 2 / expected).sum() < 89.5  # 99.96 % of chi-square with 49 degrees of freedom


def test_an_empty_mass_is_an_error_that_uses_up_no_randomness(kind):
    buffer = numbered(kind, seed=4)
    with pytest.raises(ValueError, match="Nothing can be drawn"):
        buffer.sample(5)
    buffer.add(x=np.arange(8), priorities=np.zeros(8))
    with pytest.raises(ValueError, match="all have priority 0"):
        buffer.sample(700)
    buffer.update_priorities(np.arange(8), np.ones(8))

    drawn = buffer.sample(100)["indices"]

    assert drawn.tolist() == np.floor(np.random.Generator(np.random.PCG64(4)).random(100) * 8).tolist()


def test_weights_are_those_of_the_definition(kind):
    buffer = numbered(kind, capacity=20, alpha=0.8, tree_dtype="float64")
    priorities = np.linspace(0.1, 3, 20)
    buffer.add(x=np.arange(20), priorities=priorities)
    shares = priorities**0.8 / (priorities**0.8).sum()

    for beta in (0.0, 0.4, 1.0):
        of_batch = buffer.sample(7, beta=beta)
        of_buffer = buffer.sample(7, beta=beta, normalise="buffer")
        raw = (20 * shares) ** -beta
        chosen = raw[of_batch["indices"]]
        assert np.allclose(of_batch["weights"], chosen / chosen.max(), rtol=1e-6)
        assert of_batch["weights"].max() == 1
        assert np.allclose(of_buffer["weights"], raw[of_buffer["indices"]] / raw.max(), rtol=1e-6)


def test_weights_of_the_buffer_follow_its_smallest_positive_leaf(kind):
    buffer = numbered(kind, alpha=1.0)
    buffer.add(x=np.arange(3), priorities=[4, 2, 0])
    assert set(buffer.sample(50, beta=1, normalise="buffer")["weights"]) == {0.5, 1}

    buffer.update_priorities([2], [1])
    assert set(buffer.sample(50, beta=1, normalise="buffer")["weights"]) == {0.25, 0.5, 1}

    buffer.update_priorities([2, 1], [0, 0])
    assert set(buffer.sample(50, beta=1, normalise="buffer")["weights"]) == {1}


def test_batches_are_written_into_the_arrays_that_are_given(kind):
    buffer = filled(kind, 9)
    out = {"obs": np.zeros((6, 11), np.float32), "weights": np.zeros(6, np.float32), "indices": np.zeros(6, np.int64)}

    batch = buffer.sample(6, out=out)

    assert all(batch[name] is array for name, array in out.items())
    assert np.array_equal(batch["obs"], rows_of(batch["indices"])["obs"])


def test_writers_that_are_faster_than_a_reader_are_an_error_that_says_so():
    assert str(changed_too_often(3, 8, 100)) == (
        "3 of 8 rows were overwritten while they were copied, 100 times in a row: writers go round the whole ring "
        "meanwhile. Raise the capacity, or add less at a time."
    )


# ---- copies and files ----


def goes_on_alike(one, other):
    """Do both do the same, whatever comes?"""
    for _ in range(3):
        batch, again = one.sample(30, normalise="buffer"), other.sample(30, normalise="buffer")
        assert all(np.array_equal(batch[name], again[name]) for name in batch)
        for buffer in (one, other):
            buffer.update_priorities(batch["indices"], np.linspace(0, 12, 30), batch["generations"])
            buffer.add(**rows_of(np.arange(50, 57)))
    assert one.max_priority == other.max_priority
    return True


@pytest.mark.parametrize("rows", [20, 64, 1000])
@pytest.mark.parametrize("tree_dtype", ["float32", "float64"])
def test_a_buffer_that_was_saved_goes_on_bit_by_bit(kind, tmp_path, rows, tree_dtype):
    rng = np.random.default_rng(rows)
    buffer = made(kind, 64, FIELDS, alpha=0.7, eps=0.1, seed=9, fan_out=4, tree_dtype=tree_dtype)
    buffer.add(**rows_of(np.arange(rows)), priorities=rng.random(rows))
    buffer.sample(17)

    buffer.save(tmp_path / "buffer")
    again = PrioritizedReplay.load(tmp_path / "buffer")

    assert (len(again), again.fields, repr(again)) == (len(buffer), buffer.fields, repr(buffer))
    assert goes_on_alike(buffer, again)


def test_a_buffer_without_rows_is_saved_too(kind, tmp_path):
    buffer = made(kind, 5, FIELDS, seed=2)
    buffer.save(tmp_path / "buffer")
    again = PrioritizedReplay.load(tmp_path / "buffer")
    for one in (buffer, again):
        one.add(**rows_of(np.arange(5)))

    assert goes_on_alike(buffer, again)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda buffer: pickle.loads(pickle.dumps(buffer))])
def test_a_copy_is_another_buffer_that_goes_on_alike(kind, copied):
    buffer = filled(kind, 30)
    other = copied(buffer)

    assert goes_on_alike(buffer, other)
    other.add(**rows_of(np.arange(4)))
    assert len(other.get_all_transitions()["obs"]) == len(buffer.get_all_transitions()["obs"]) + 4


def test_any_damage_to_a_file_is_noticed_or_does_not_matter(kind, tmp_path):
    path = tmp_path / "buffer"
    buffer = filled(kind, 12, capacity=10, priorities=np.linspace(0, 2, 12))
    buffer.save(path)
    whole, expected = path.read_bytes(), buffer.sample(20)
    noticed = 0
    for seed in range(150):
        path.write_bytes(damaged(whole, random.Random(seed)))
        try:
            batch = PrioritizedReplay.load(path).sample(20)
        except SavedReplayError:
            noticed += 1
        else:
            assert all(np.array_equal(batch[name], expected[name]) for name in batch)
    assert noticed > 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("added", 9),
        ("added", -1),
        ("added", 2.0),
        ("added", 1 << 70),
        ("joined", -1),
        ("joined", 1 << 63),
        ("max_priority", 0.5),
        ("max_priority", float("inf")),
        ("max_priority", 1e300),
        ("capacity", 3),
        ("capacity", 1 << 50),
        ("fan_out", 3),
        ("alpha", -1.0),
        ("fields", []),
        ("fields", [["obs", [11], "float64"]]),
        ("generator", {}),
        ("tree_dtype", "float64"),
        ("leaves", np.full(10, np.nan, np.float32)),
        ("leaves", np.full(10, -1, np.float32)),
        ("leaves", np.full(10, 3e38, np.float32)),
        ("leaves", np.ones(9, np.float32)),
        ("generations", np.arange(10)[::-1].copy()),
        ("generations", np.arange(10) + 20),
        ("generations", np.arange(10) - 10),
        ("generations", np.full(10, -1)),
        ("fields/obs", np.zeros((10, 12), np.float32)),
        ("fields/done", np.zeros(10, np.int8)),
    ],
)
def test_what_could_not_have_been_in_a_buffer_is_not_restored(kind, name, value):
    config, arrays = filled(kind, 12, capacity=10).state()
    changed = {**(config if name in config else arrays), name: value}
    state = (changed, arrays) if name in config else (config, changed)

    with pytest.raises((LookupError, TypeError, ValueError, MemoryError)):
        PrioritizedReplay.from_state(*state)


def test_a_file_with_numbers_that_do_not_fit_together_is_said_to_be_damaged(kind, tmp_path, monkeypatch):
    buffer = filled(kind, 12, capacity=10)
    config, arrays = buffer.state()
    monkeypatch.setattr(buffer, "state", lambda: ({**config, "added": 3}, arrays))
    buffer.save(tmp_path / "buffer")

    with pytest.raises(SavedReplayError, match="does not fit together"):
        PrioritizedReplay.load(tmp_path / "buffer")
