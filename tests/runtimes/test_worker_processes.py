"""What becomes of failures in the processes that `ceiling` and `processes-pipes` start, of whichever they are."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from runtimes.ceiling import RUNTIME as CEILING
from runtimes.processes_pipes import PipesSession
from runtimes.protocol import RuntimeFailure
from runtimes.ray_packed import packed
from tests.runtimes.failing import failing_graph

WAYS = {
    "ceiling": lambda graph: CEILING.open(graph, CEILING.options(), Path("unused")),
    "processes-pipes": lambda graph: PipesSession(packed(graph, driver_slice=True, places=3)),
}


@pytest.fixture(params=WAYS)
def opened(request):
    return WAYS[request.param]


@pytest.mark.usefixtures("start_method")
def test_a_member_that_fails_is_named_with_its_round_and_nothing_is_left(opened):
    with (
        pytest.raises(RuntimeFailure, match=r"Task 'part\[2\]' failed in round 4: ArithmeticError: four") as caught,
        opened(failing_graph("fire")) as session,
    ):
        session.advance(10)
    assert "in fire" in caught.value.__notes__[0]
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("start_method")
def test_a_member_that_cannot_be_built_is_named_and_nothing_is_left(opened):
    with pytest.raises(RuntimeFailure, match=r"Task 'part\[2\]' could not be built: ArithmeticError: built wrongly"):
        opened(failing_graph("build"))
    assert multiprocessing.active_children() == []
