"""Random programs have one trace: that of the reference interpreter, on every executor."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reactor.fuzz import difference, placement_of, reference_lines, run_lines
from tests.reactor.random_programs import plan_of

if TYPE_CHECKING:
    from random import Random as Chooser

randoms = st.randoms(use_true_random=False)
some = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
few = settings(some, max_examples=12)


def check(chooser: Chooser, **way: Any) -> None:
    """Draw a program and a placement, and run it."""
    plan = plan_of(chooser)
    placement = placement_of(plan, way["workers"], chooser) if way.get("workers", 1) > 1 else None
    found = difference(reference_lines(plan), run_lines(plan, way, placement=placement))
    assert found is None, found


@some
@given(chooser=randoms)
def test_inline_gives_the_trace_of_the_reference_interpreter(chooser: Chooser) -> None:
    check(chooser, executor="inline")


@few
@given(chooser=randoms, workers=st.integers(2, 4))
def test_threads_give_the_trace_of_the_reference_interpreter_wherever_reactors_live(
    chooser: Chooser, workers: int
) -> None:
    check(chooser, executor="threads", workers=workers)


@few
@given(chooser=randoms, workers=st.integers(1, 4))
def test_processes_give_the_trace_of_the_reference_interpreter_wherever_reactors_live(
    chooser: Chooser, workers: int
) -> None:
    check(chooser, executor="processes", workers=workers, start_method="fork")


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_do_something(seed: int) -> None:
    """What is compared is no empty trace: most programs run for a while, and none runs for ever."""
    lengths = [len(reference_lines(plan_of(Random(1000 * seed + i)))) for i in range(10)]
    assert sum(length > 5 for length in lengths) >= 5
