"""Random programs have one trace: that of the reference interpreter, on every executor.

`python -m tests.reactor.fuzz SEED SEED+1` runs again what failed here.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.reactor.fuzz import difference, placement_of, reference_lines, run_lines
from tests.reactor.random_programs import plan_of

if TYPE_CHECKING:
    from tests.reactor.lines import Line

seeds = st.integers(0, 2**32)
# A smaller seed makes no smaller program, so there is nothing to shrink.
some = settings(
    max_examples=60, phases=[Phase.explicit, Phase.reuse, Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)
few = settings(some, max_examples=15)


def check(seed: int, **way: Any) -> None:
    """Draw a program and a placement, and run it."""
    chooser = Random(seed)
    plan = plan_of(chooser)
    placement = placement_of(plan, way["workers"], chooser) if way.get("workers", 1) > 1 else None
    found = difference(reference_lines(plan), run_lines(plan, way, placement=placement))
    assert found is None, f"seed {seed}, {way}, placement {placement}: {found}"


@some
@given(seed=seeds)
def test_inline_gives_the_trace_of_the_reference_interpreter(seed: int) -> None:
    check(seed, executor="inline")


@few
@given(seed=seeds, workers=st.integers(2, 4))
def test_threads_give_the_trace_of_the_reference_interpreter_wherever_reactors_live(seed: int, workers: int) -> None:
    check(seed, executor="threads", workers=workers)


@few
@given(seed=seeds, workers=st.integers(1, 4), native=st.booleans())
def test_processes_give_the_trace_of_the_reference_interpreter_wherever_reactors_live(
    seed: int, workers: int, native: bool
) -> None:
    check(seed, executor="processes", workers=workers, start_method="fork", native=native)


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_spawned_workers_give_it_too(start_method: str) -> None:
    for seed in range(2):
        check(seed, executor="processes", workers=2, start_method=start_method)


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Any, list[Line]]]:
    """Some random programs with their traces."""
    plans = [plan_of(Random(seed)) for seed in range(150)]
    return [(plan, reference_lines(plan)) for plan in plans]


def test_random_programs_do_something_and_differ(drawn: list[tuple[Any, list[Line]]]) -> None:
    """What is compared is no empty trace: most programs run for a while, and each has a trace of its own."""
    long = [tuple(lines) for _, lines in drawn if len(lines) > 5]
    assert len(long) >= 90
    assert len(set(long)) == len(long)


def test_random_programs_use_everything_that_they_may(drawn: list[tuple[Any, list[Line]]]) -> None:
    """Late handlers, microsteps, modes that change, arrays, several channels, stops: each occurs in some of them."""
    lines = [line for _, trace in drawn for line in trace]
    text = " ".join(repr(plan) for plan, _ in drawn)
    assert any(line.late for line in lines)
    assert any(line.microstep >= 3 for line in lines)
    assert any(channel == 2 for line in lines for _, channel, _ in line.outputs)
    for part in (
        "is_array=True",
        "mutable=True",
        "is_interleaved=True",
        "broadcast=True",
        "after_ns=0",
        "'reset'",
        "'stop'",
    ):
        assert part in text
    for policy in ("defer", "drop", "replace", "update"):
        assert f"policy='{policy}'" in text


def test_a_trace_that_differs_anywhere_is_not_taken_for_equal() -> None:
    """The comparison itself can fail: one line left out, one output changed, two lines swapped."""
    lines = reference_lines(plan_of(Random(3)))
    assert len(lines) > 3
    assert difference(lines, lines) is None
    assert difference(lines, lines[:-1]) is not None
    assert difference(lines, [*lines[:1], lines[2], lines[1], *lines[3:]]) is not None
