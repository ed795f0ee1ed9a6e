"""The ring in C and the one in NumPy give the same bits, whatever is done to both."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.replay.buffers import FIELDS, made, needs_native, rows_of

pytestmark = needs_native

PRIORITIES = st.sampled_from(["none", "some", "with zeros", "wide"])

STEPS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 40), PRIORITIES),
    st.tuples(st.just("add one"), st.just(1), PRIORITIES),
    st.tuples(st.just("sample"), st.integers(1, 600), st.booleans(), st.booleans(), st.sampled_from([0.0, 0.4, 1.0])),
    st.tuples(st.just("update"), st.integers(0, 40), st.booleans(), PRIORITIES),
)


def priorities_of(rng, rows, how):
    if how == "none":
        return None
    if how == "wide":
        return np.exp(rng.uniform(-40, 40, rows)).astype(rng.choice(["float32", "float64"]))
    drawn = rng.random(rows)
    return np.where(rng.random(rows) < 0.5, 0, drawn) if how == "with zeros" else drawn


class Twins:
    """Two buffers to which the same is done, and which must do the same."""

    def __init__(self, **options):
        self.both = [made(kind, fields=FIELDS, **options) for kind in ("native", "numpy")]
        self.added = 0
        self.rng = np.random.default_rng(0)

    def do(self, step):
        name, *arguments = step
        results = [
            self.outcome(buffer, *call) for buffer, call in zip(self.both, self.calls(name, *arguments), strict=True)
        ]
        assert repr(results[0]) == repr(results[1])
        states = [buffer.state() for buffer in self.both]
        assert states[0][0] == states[1][0]
        assert all(np.array_equal(states[0][1][key], states[1][1][key]) for key in states[0][1])

    def calls(self, name, count, *arguments):
        if name == "sample":
            by_buffer, stratified, beta = arguments
            return [("sample", (count, beta, "buffer" if by_buffer else "batch", stratified), {})] * 2
        if name == "update":
            with_generations, how = arguments
            stored = max(1, len(self.both[0]))
            indices = self.rng.integers(0, stored, count)
            generations = self.rng.integers(max(0, self.added - 2 * stored), self.added + 1, count)
            raw = priorities_of(self.rng, count, how)
            raw = np.ones(count) if raw is None else raw
            return [("update_priorities", (indices, raw, generations if with_generations else None), {})] * 2
        numbers = np.int64(self.added) if name == "add one" else np.arange(self.added, self.added + count)
        self.added += count
        raw = priorities_of(self.rng, count, *arguments)
        raw = raw[0] if raw is not None and name == "add one" else raw
        return [("add", (), {**rows_of(numbers), "priorities": raw})] * 2

    @staticmethod
    def outcome(buffer, method, positional, named):
        try:
            result = getattr(buffer, method)(*positional, **named)
        except (ValueError, IndexError) as error:
            return type(error), str(error)
        if isinstance(result, dict):
            return {name: (array.dtype, array.shape, array.tobytes()) for name, array in result.items()}
        return result


OPTIONS = st.fixed_dictionaries(
    {
        "capacity": st.integers(1, 70),
        "fan_out": st.sampled_from([2, 16]),
        "tree_dtype": st.sampled_from(["float32", "float64"]),
        "alpha": st.sampled_from([0.0, 0.6, 1.0]),
        "eps": st.sampled_from([0.0, 0.01]),
    }
)


@settings(max_examples=40)
@given(options=OPTIONS, steps=st.lists(STEPS, max_size=12))
def test_both_rings_give_the_same_bits(options, steps):
    twins = Twins(**options, seed=5)
    for step in steps:
        twins.do(step)


def test_both_rings_give_the_same_bits_in_a_long_run():
    twins = Twins(capacity=5000, alpha=0.6)
    for turn in range(12):
        twins.do(("add", 1500, "some"))
        twins.do(("sample", 300, turn % 2 == 0, turn % 3 == 0, 0.4))
        twins.do(("update", 300, turn % 2 == 0, "wide"))
