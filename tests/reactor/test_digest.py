"""Digests of values: equal for equal values in every process, different for different ones."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import os
import pickle
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.reactor.digest import digest_of

Point = namedtuple("Point", "x y")  # noqa: PYI024 - the plain kind


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Batch:
    observations: np.ndarray
    names: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Weight:
    value: float


class Message:
    """Says itself what it is made of, and shares nothing with its dictionary."""

    __slots__ = ("text",)

    def __init__(self, text) -> None:
        self.text = text

    def __reduce__(self):
        return Message, (self.text,)


class Plain:
    def __init__(self, value) -> None:
        self.value = value


class Rounds(dict):
    pass


def values():
    """Values that all differ; made anew at every call."""
    return [
        None, ..., True, False, 0, 1, -1, 2**80, -(2**80), 0.0, -0.0, 1.0, float("inf"), float("nan"), 1j,
        "", "1", "é\ud800", b"", b"1", bytearray(b"1"), (), [], {}, set(), frozenset(),
        (1, 2), (2, 1), [1, 2], [[1], 2], [1, [2]], [[1, 2]], {1, 2}, frozenset({1, 2}), {"a", "b", "c", "d"},
        {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": {"b": 2}}, OrderedDict(a=1, b=2), Rounds(a=1, b=2),
        defaultdict(list, a=[1]), Counter("aab"), deque([1, 2]), deque([1, 2], maxlen=3),
        np.zeros(3), np.zeros(4), np.zeros((1, 3)), np.zeros((3, 1)), np.zeros(3, "f4"), np.zeros(0), np.zeros((0, 3)),
        np.zeros(3, "i8"), np.zeros(3, ">f8"), np.array(1.0), np.float64(1.0), np.float32(1.0), np.int64(1),
        np.array(["a", "bc"]), np.array([{1: 2}, None], object), np.array(["2020-01-01"], "M8[D]"),
        np.array([(1, 2.0)], [("a", "i1"), ("b", "f8")]), np.array([(1, 2.0)], [("a", "i1"), ("c", "f8")]),
        Point(1, 2), Colour.RED, Colour.BLUE, Weight(1.0), Weight(2.0), Message("a"), Message("b"),
        Batch(np.zeros(2)), Batch(np.ones(2)), Batch(np.zeros(2), {"a"}), Plain(1), Plain(2), Plain([1]),
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.timedelta(1), Decimal("1.0"), Fraction(1, 3),
        PurePosixPath("a"), slice(1, 2), range(3), np.random.default_rng(1), np.random.default_rng(2),
        Plain, Point, digest_of, len, np, int, list[int], 1 .__add__, KeyError("a"), KeyError("b"),
    ]  # fmt: skip


def named(value):
    return f"{type(value).__name__} {value!r}"[:60]


PAIRS = list(zip(values(), values(), strict=True))


# The names of tests hold no text of a value: it may tell an address, or the order of a set, and no test runs again
# under such a name.
@pytest.mark.parametrize(
    ("one", "other"), PAIRS, ids=[f"{at}-{type(one).__name__}" for at, (one, _) in enumerate(PAIRS)]
)
def test_equal_values_that_were_made_apart_have_one_digest(one, other):
    assert digest_of(one) == digest_of(other)


def test_different_values_have_different_digests():
    by_digest = {}
    for value in values():
        by_digest.setdefault(digest_of(value), []).append(named(value))

    assert [same for same in by_digest.values() if len(same) > 1] == []


def test_a_digest_is_sixteen_hexadecimal_digits():
    assert int(digest_of([1, "two"]), 16) < 2**64
    assert {len(digest_of(value)) for value in values()} == {16}


def test_digests_are_the_same_in_a_process_with_another_hash_seed():
    program = (
        "import sys; sys.path[:0] = sys.argv[1:]; import test_digest; "
        "print('\\n'.join(map(test_digest.digest_of, test_digest.values())))"
    )
    folders = [os.path.dirname(__file__), os.getcwd()]  # noqa: PTH109, PTH120 - plain texts for a command
    printed = [
        subprocess.run(
            [sys.executable, "-c", program, *folders],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert printed[0] == printed[1]
    assert len(printed[0].split()) == len(values())


def test_a_value_has_the_digest_of_its_copy_from_a_pickle():
    pickled = [value for value in values() if not callable(value) and value is not np]

    assert [digest_of(pickle.loads(pickle.dumps(v, protocol=5))) for v in pickled] == [digest_of(v) for v in pickled]


def test_shared_parts_count_like_equal_ones():
    part = ["a"]

    assert digest_of([part, part]) == digest_of([["a"], ["a"]])
    assert pickle.dumps([part, part]) != pickle.dumps([["a"], ["a"]])


def test_a_value_that_holds_itself_has_a_digest():
    one, other = [1], [1]
    one.append(one)
    other.append([1, other])

    assert digest_of(one) != digest_of(other)


def test_bytes_between_the_fields_of_an_array_do_not_count():
    padded = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    one, other = np.frombuffer(b"\0" * 16, padded), np.frombuffer(b"\0" + b"\1" * 7 + b"\0" * 8, padded)

    assert digest_of(one) == digest_of(other)


def test_an_array_counts_by_its_items_and_not_by_its_memory():
    array = np.arange(12.0).reshape(3, 4)

    assert digest_of(array[:, ::2]) == digest_of(array[:, ::2].copy())
    assert digest_of(np.asfortranarray(array)) == digest_of(array)


def test_what_cannot_be_taken_apart_counts_by_its_type():
    assert digest_of(iter_of(1)) == digest_of(iter_of(2)) != digest_of(PLAIN_LOCK)


def iter_of(value):
    return (value for _ in range(3))


PLAIN_LOCK = __import__("threading").Lock()


def test_tensors_count_by_type_shape_and_items():
    torch = pytest.importorskip("torch")
    ones = torch.ones(2, 3)
    tensors = [ones, torch.ones(3, 2), torch.ones(6), torch.ones(2, 3, dtype=torch.bfloat16), torch.tensor(1.0)]
    tensors += [torch.ones(0), torch.zeros(2, 3), torch.ones(1, dtype=torch.complex64) * 1j]

    assert len(set(map(digest_of, tensors))) == len(tensors)
    assert [digest_of(tensor.clone()) for tensor in tensors] == [digest_of(tensor) for tensor in tensors]
    assert digest_of(torch.ones(3, 2).T) == digest_of(ones)
    assert digest_of(torch.nn.Parameter(ones)) == digest_of(ones)
    assert digest_of(tensors[-1].conj()) == digest_of(tensors[-1].conj().clone())


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(plain, plain)
def test_plain_values_have_one_digest_if_and_only_if_they_are_written_alike(one, other):
    assert (digest_of(one) == digest_of(other)) == (repr(one) == repr(other))


def test_digests_of_many_small_values_are_spread_out():
    assert len({digest_of(pair) for pair in itertools.product(range(100), range(100))}) == 10_000
