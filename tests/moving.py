"""Makes the executor `auto` move, after so many tags and whether it pays or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtimes.reactor import auto
from runtimes.reactor.auto import AutoExecutor, Estimate

if TYPE_CHECKING:
    import pytest

__all__ = ["force_moves"]


def force_moves(monkeypatch: pytest.MonkeyPatch, *, after_tags: int = 2, to_threads: bool = False) -> list[str]:
    """Let every program that can move do so after `after_tags` tags; what is returned tells where they moved to."""
    moved: list[str] = []
    move = AutoExecutor._move

    def move_and_tell(self: AutoExecutor, *estimates: Estimate, threads: bool) -> None:
        move(self, *estimates, threads=threads)
        moved.append(self.chosen)

    def less_with_more(_assembly: Any, _costs: Any, workers: int, _placement: Any) -> Estimate:
        return Estimate(workers, 1.0 / workers)

    changes: dict[str, Any] = {
        "estimate": less_with_more,
        "processors": lambda: 8,
        "_busy_elsewhere": lambda: 0,
        # pytest has a thread of its own, which ends a test that hangs; it holds no lock.
        "fork_is_safe": lambda: True,
        "_threads_are_parallel": lambda: to_threads,
    }
    for name, value in changes.items():
        monkeypatch.setattr(auto, name, value)
    monkeypatch.setattr(AutoExecutor, "_has_seen_enough", lambda self: self._tags >= after_tags)
    monkeypatch.setattr(AutoExecutor, "_move", move_and_tell)
    return moved
