"""Hypothesis draws the plans of random graphs."""

from __future__ import annotations

from hypothesis import strategies as st

from harness.conformance.random_graphs import Plan


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A graph of two to five nodes; undelayed edges run forwards, delayed ones anywhere."""
    count = draw(st.integers(2, 5))
    bank_width = draw(st.integers(1, 5))
    widths = tuple(draw(st.sampled_from([None, bank_width])) for _ in range(count))
    edges = []
    for _ in range(draw(st.integers(1, 7))):
        source, target = draw(st.integers(0, count - 1)), draw(st.integers(0, count - 1))
        delay = draw(st.integers(0, 3)) if source < target else draw(st.integers(1, 3))
        edges.append((source, target, delay, draw(st.booleans()), draw(st.integers(0, 1)), draw(st.booleans())))
    optional = draw(st.frozensets(st.integers(0, len(edges) - 1)))
    return Plan(widths, tuple(edges), optional, draw(st.frozensets(st.integers(0, count - 1))))
