"""How long a run will take, roughly.

An invocation takes the start and end of its runtime, warm-up, and measuring. Before anything has run, all
three are guessed: the start from the number of processes, a round from the suite's hint or the units of work,
the tasks and the bytes of a graph. What has been seen in the run takes the place of the guess, or corrects it.
"""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from runtimes.protocol import processors

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from harness.job import Load
    from harness.plan import Invocation, PairingKey

__all__ = ["Estimator", "in_minutes"]

# Seen on two processors; a guess needs to be right within a factor of two.
_RAY_START_AND_END_S = 5.0
"""A local cluster, without its actors."""
_START_AND_END_S = 1.2
"""An interpreter and its imports."""
_ACTOR_START_S = 0.4
"""An actor of Ray's: an interpreter and its imports, two of them at a time."""
_CALL_S = 0.8e-3
"""A round of Ray's, and each call in it."""
_TASK_S = 3e-6
"""A task of any other runtime."""
_UNIT_S = 10e-6
"""A unit of work, as a step of a small environment."""
_RAY_BYTES_PER_S = 2e9
_BYTES_PER_S = 8e9
"""Arrays filled and handed on."""
_SKIPPED_S = 0.2
"""A look at how busy the machine is."""

_RAY_WITH_ACTORS_S = 8.0
_WITH_WORKERS_S = 1.5
_WARM_UP_SHARE = 0.5
"""Start and end, and warm-up as a share of `measure_s`, where nothing is known of a graph."""


class Estimator:
    """Guesses, and learns from what has ended."""

    def __init__(
        self,
        loads: Mapping[PairingKey, Load] | None = None,
        skipped: Collection[PairingKey] = (),
    ) -> None:
        """Know the `loads` of pairings of cell and runtime, and which of them will be `skipped`."""
        self._loads = loads or {}
        self._skipped = skipped
        self._same_cell: dict[PairingKey, list[float]] = {}
        self._same_runtime: dict[str, list[tuple[float, float]]] = {}

    def learn(self, invocation: Invocation, elapsed_s: float) -> None:
        """Take note of how long `invocation` took."""
        self._same_cell.setdefault(invocation.pairing, []).append(elapsed_s)
        seen = self._same_runtime.setdefault(invocation.runtime.name, [])
        seen.append((elapsed_s, self._guess_s(invocation)))

    def seconds(self, invocation: Invocation) -> float:
        """How long `invocation` will take: as before in its cell, else a guess, corrected by its runtime elsewhere."""
        if invocation.pairing in self._skipped:
            return _SKIPPED_S
        same_cell = self._same_cell.get(invocation.pairing)
        if same_cell:
            return fmean(same_cell)
        guess_s = self._guess_s(invocation)
        same_runtime = self._same_runtime.get(invocation.runtime.name)
        if same_runtime:
            elapsed_s, guessed_s = map(sum, zip(*same_runtime, strict=True))
            return guess_s * elapsed_s / guessed_s
        return guess_s

    def _guess_s(self, invocation: Invocation) -> float:
        """How long it takes, from what is known before anything runs."""
        cell, is_ray = invocation.cell, invocation.runtime.name.startswith("ray")
        load = self._loads.get(invocation.pairing)
        if load is None:
            return (_RAY_WITH_ACTORS_S if is_ray else _WITH_WORKERS_S) + (1 + _WARM_UP_SHARE) * cell.measure_s
        round_s = max(cell.round_s, load.units * _UNIT_S)
        if is_ray:
            start_s = _RAY_START_AND_END_S + load.processes * _ACTOR_START_S * 2 / processors()
            round_s += (1 + load.processes) * _CALL_S + load.value_bytes / _RAY_BYTES_PER_S
        else:
            start_s = 0.0
            round_s += load.members * _TASK_S + load.value_bytes / _BYTES_PER_S
        measured_s = max(cell.rounds * round_s, cell.measure_s)
        return _START_AND_END_S + start_s + cell.warmup_rounds * round_s + measured_s


def in_minutes(seconds: float) -> str:
    """`1 h 05 min`, `3 min 20 s`, `45 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:  # noqa: PLR2004 - an hour's
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
