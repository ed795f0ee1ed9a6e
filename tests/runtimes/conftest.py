"""What tests of runtimes share."""

from __future__ import annotations

import pytest

from tests.moving import force_moves


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs of the executor `auto` move after some rounds; where they moved to."""
    return force_moves(monkeypatch, after_tags=4)
