"""Metrics: what else is measured of an invocation, besides the durations of its rounds. Others can be plugged in.

A metric begins right before the first measured round and ends right after the last one, in the main process of the
invocation and outside every timed round. What is received at the checkpoint is hashed in between.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psutil

__all__ = ["CONTEXT_SWITCHES", "CPU_S", "Metric"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric as the harness finds it, through the entry-point group `reactorbench.metrics`.

    The module that holds it imports nothing heavy at its top, so that listing stays quick.
    """

    name: str
    summary: str
    """What it means, in one line."""
    unit: str
    less_is_better: bool
    begin: Callable[[], Any]
    """Called right before the first measured round; what it gives is handed to `end`."""
    end: Callable[[Any], float]
    """Called right after the last measured round. Where either raises, the value is missing; the log says why."""


def _cpu_s() -> float:
    """Processor seconds of all processes so far, with those of children that have ended and been waited for."""
    return sum(sum(process.cpu_times()[:4]) for process in _living())


def _switches() -> int:
    """Context switches of all threads of all processes so far."""
    total = 0
    for process in _living():
        total += _switches_of_threads(process) if sys.platform == "linux" else sum(process.num_ctx_switches())
    return total


def _switches_of_threads(process: psutil.Process) -> int:
    """Those of `process`, thread by thread: the process's own count is that of its first thread."""
    from pathlib import Path

    return sum(_switches_in(file) for file in Path(f"/proc/{process.pid}/task").glob("*/status"))


def _switches_in(file: Path) -> int:
    # A thread that has ended meanwhile has none.
    with contextlib.suppress(OSError):
        lines = file.read_text(encoding="utf-8").splitlines()
        return sum(int(line.rpartition(":")[2]) for line in lines if "ctxt_switches" in line)
    return 0


def _living() -> list[psutil.Process]:
    """This process and its descendants."""
    import psutil

    this = psutil.Process()
    return [process for process in (this, *this.children(recursive=True)) if process.is_running()]


CPU_S = Metric(
    name="cpu_s",
    summary="processor seconds of all processes over the measured rounds, to a hundredth each",
    unit="s",
    less_is_better=True,
    begin=_cpu_s,
    end=lambda before: _cpu_s() - before,
)

CONTEXT_SWITCHES = Metric(
    name="context_switches",
    summary="how often threads of all processes were taken off a processor, or left it, over the measured rounds",
    unit="switches",
    less_is_better=True,
    begin=_switches,
    end=lambda before: _switches() - before,
)
