"""Updates find out which rows are still those without a look at them; NumPy's ring looks, and both agree."""

from __future__ import annotations

import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.replay.buffers import needs_native
from workloads.replay import PrioritizedReplay
from workloads.replay.numpy_ring import NumpyRing

pytestmark = needs_native

CAPACITY = 7
FIELDS = {"x": ((), "int64")}


def buffers():
    """The same buffer twice: native, and NumPy's."""
    native, numpy = PrioritizedReplay(CAPACITY, FIELDS), PrioritizedReplay(CAPACITY, FIELDS)
    numpy._ring = NumpyRing(numpy._settings)
    return native, numpy


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 10)),
        st.tuples(st.just("update"), st.lists(st.tuples(st.integers(0, 6), st.integers(-2, 30)), min_size=1)),
        st.tuples(st.just("copy"), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(steps)
def test_rows_that_are_still_those_are_the_same_for_both_rings(taken):
    pair = buffers()
    added = 0
    for what, how in taken:
        if what == "add":
            for one in pair:
                one.add(x=np.arange(added, added + how))
            added += how
        elif what == "copy":
            pair = (pickle.loads(pickle.dumps(pair[0])), pair[1])
        elif stored := min(added, CAPACITY):
            indices = np.array([index % stored for index, _ in how])
            generations = np.array([generation for _, generation in how])
            values = np.linspace(0.5, 3.0, len(how))
            for given_generations in (None, generations):
                kept = [one.update_priorities(indices, values, given_generations) for one in pair]
                assert kept[0] == kept[1]
                values = values[::-1].copy()
    contents = [one._ring.content() for one in pair]
    assert np.array_equal(contents[0].leaves, contents[1].leaves)
    assert np.array_equal(contents[0].generations, contents[1].generations)
