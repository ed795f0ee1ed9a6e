"""What tests of runtimes share."""

from __future__ import annotations

import multiprocessing

import pytest

from runtimes import worker_processes
from tests.moving import force_moves


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs of the executor `auto` move after some rounds; where they moved to."""
    return force_moves(monkeypatch, after_tags=4)


@pytest.fixture(params=["fork", "spawn"])
def start_method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of `ceiling` and `processes-pipes` start in this way."""
    monkeypatch.setattr(worker_processes, "start_context", lambda: multiprocessing.get_context(request.param))
