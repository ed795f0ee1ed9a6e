"""What a machine does right now: who else is busy, how even its timing is, how soon a sleeper wakes up.

Each probe takes from milliseconds to two seconds, needs no privileges and leaves nothing behind. What the
numbers mean is judged in `doctor.py`.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import psutil

from harness.fingerprint import Roots

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "BusyProcess",
    "Noise",
    "Ticks",
    "busiest",
    "clock_cost_s",
    "clock_step_s",
    "noise_of",
    "process_times",
    "swapped_pages",
    "ticks",
    "timing_noise",
    "wakeup_s",
]

_SPIN_S = 2e-3
"""Longer than a switch between processes takes, shorter than a slice of the scheduler."""
_CALIBRATION_TURNS = 20_000
_WAKEUPS = 2000
_NAME_LENGTH = 30

_ECHO = """
import os
while message := os.read(0, 1):
    os.write(1, message)
"""


# ----------------------------------------------------------------------------------------- others


class Ticks(NamedTuple):
    """Time of all processors since the start of the machine, as the kernel counts it."""

    busy: int
    """For any program or the kernel."""
    steal: int
    """In which a virtual processor wanted to run and the hypervisor ran another machine."""


def ticks(roots: Roots | None = None) -> Ticks | None:
    """The counters of `/proc/stat`; None where there are none."""
    try:
        first = (roots or Roots()).proc.joinpath("stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, first[1:9])
    except (OSError, ValueError):
        return None
    return Ticks(busy=user + nice + system + irq + softirq, steal=steal)


def swapped_pages(roots: Roots | None = None) -> int | None:
    """Pages that went to swap or came back since the start of the machine; None where nobody counts."""
    try:
        lines = (roots or Roots()).proc.joinpath("vmstat").read_text(encoding="ascii").splitlines()
        counters = dict(line.split() for line in lines)
        return int(counters["pswpin"]) + int(counters["pswpout"])
    except (OSError, ValueError, KeyError):
        return None


class BusyProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process of somebody else, by its bare name."""

    name: str
    processors: float
    """How many it kept busy."""


def process_times() -> dict[tuple[int, float], tuple[str, float]]:
    """Number and start of every other process, to its name and the processor time that it has used, in seconds."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid():
                used = process.cpu_times()
                found[process.pid, process.create_time()] = (process.name(), used.user + used.system)
    return found


def busiest(
    before: dict[tuple[int, float], tuple[str, float]],
    after: dict[tuple[int, float], tuple[str, float]],
    elapsed_s: float,
) -> list[BusyProcess]:
    """Who used a processor between two looks at `process_times`, the busiest first; one entry for each name.

    What began after the first look counts from its start.
    """
    used_s: dict[str, float] = {}
    for key, (name, now_s) in after.items():
        bare = _bare(name)
        used_s[bare] = used_s.get(bare, 0.0) + now_s - before.get(key, (name, 0.0))[1]
    order = sorted(used_s, key=lambda name: (-used_s[name], name))
    return [BusyProcess(name=name, processors=round(used_s[name] / elapsed_s, 3)) for name in order if used_s[name] > 0]


def _bare(name: str) -> str:
    """A process's name without a path or what a kernel thread is about: `kworker/0:1` is `kworker`."""
    last = os.path.basename(name) if name.startswith("/") else name.split("/", 1)[0]  # noqa: PTH119 - no file of ours
    plain = "".join(c for c in last if c.isascii() and c.isprintable())
    return plain[:_NAME_LENGTH] or "a process without a name"


# ----------------------------------------------------------------------------------------- timing


class Noise(msgspec.Struct, frozen=True, kw_only=True):
    """How evenly one and the same loop was done, again and again."""

    loops: int
    p50_s: float
    p95_over_p50: float
    """1 for a perfectly even machine."""
    second_over_first: float
    """The median of the second half over that of the first: 1 unless the machine became slower or faster."""


def timing_noise(seconds: float, clock: Callable[[], float] = time.perf_counter) -> Noise:
    """Do a loop of about 2 ms in pure Python for so many seconds."""
    turns = _turns(clock)
    durations_s: list[float] = []
    began_s = now_s = clock()
    while now_s - began_s < seconds or len(durations_s) < 2:  # noqa: PLR2004 - one for each half
        _spin(turns)
        end_s = clock()
        durations_s.append(end_s - now_s)
        now_s = end_s
    return noise_of(durations_s)


def noise_of(durations_s: Sequence[float]) -> Noise:
    """What at least two durations in order come to."""
    half = len(durations_s) // 2
    p50_s = statistics.median(durations_s)
    p95_s = sorted(durations_s)[min(len(durations_s) - 1, round(0.95 * len(durations_s)))]
    first_s, second_s = statistics.median(durations_s[:half]), statistics.median(durations_s[half:])
    return Noise(
        loops=len(durations_s),
        p50_s=p50_s,
        p95_over_p50=round(p95_s / p50_s, 4) if p50_s else 1.0,
        second_over_first=round(second_s / first_s, 4) if first_s else 1.0,
    )


def _turns(clock: Callable[[], float]) -> int:
    """How many turns of the loop take about 2 ms, by the fastest of some attempts: others may interrupt the rest."""
    fastest_s = float("inf")
    for _ in range(5):
        began_s = clock()
        _spin(_CALIBRATION_TURNS)
        fastest_s = min(fastest_s, clock() - began_s)
    return max(1, round(_CALIBRATION_TURNS * _SPIN_S / max(fastest_s, 1e-6)))


def _spin(turns: int) -> int:
    total = 0
    for turn in range(turns):
        total += turn
    return total


def clock_step_s(clock: Callable[[], float] = time.perf_counter) -> float:
    """The smallest step that the clock is seen to take."""
    steps = []
    for _ in range(200):
        began_s = now_s = clock()
        while now_s == began_s:
            now_s = clock()
        steps.append(now_s - began_s)
    return min(steps)


def clock_cost_s(clock: Callable[[], float] = time.perf_counter) -> float:
    """What reading the clock takes: the median of a few hundred times a hundred readings, the loop included."""
    costs_s = []
    for _ in range(300):
        began_s = clock()
        for _ in range(98):
            clock()
        costs_s.append((clock() - began_s) / 99)
    return statistics.median(costs_s)


def wakeup_s(rounds: int = _WAKEUPS) -> float | None:
    """How long a byte takes there and back between two processes that sleep on pipes: the median of so many rounds.

    None if the second process cannot be started, or dies.
    """
    command = [sys.executable, "-I", "-S", "-c", _ECHO]
    try:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
    except OSError:
        return None
    with child:  # closes the pipes, at which the child ends, and waits for it
        assert child.stdin is not None
        assert child.stdout is not None
        there, back = child.stdin.fileno(), child.stdout.fileno()
        durations_s = []
        with contextlib.suppress(BrokenPipeError):
            for _ in range(rounds):
                began_s = time.perf_counter()
                os.write(there, b"!")
                if not os.read(back, 1):
                    break
                durations_s.append(time.perf_counter() - began_s)
    # The first ones wait for the child to start.
    return statistics.median(durations_s[rounds // 10 :]) if len(durations_s) == rounds else None
