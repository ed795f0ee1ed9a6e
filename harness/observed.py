"""What `doctor` sees of a machine: what is installed, set, there, and happening while it looks.

What it means is judged in `doctor.py`, so that tests can judge machines that are not there.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import psutil

from harness import probes, registry
from harness.fingerprint import Fingerprint, Roots, fingerprint
from harness.machine import available_memory, load_average

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.probes import BusyProcess, Noise, Ticks
    from harness.registry import Plugin
    from runtimes.protocol import Runtime
    from workloads.dataflow import Workload

__all__ = ["Missing", "Observed", "observe"]

Seen = TypeVar("Seen")

_OTHERS_SAMPLE_S = 0.5
_NOISE_S = 2.0
_BUSIEST = 3
"""Names of others that are kept."""


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A module that cannot be found."""

    module: str
    needed_for: str
    """A plug-in, or settings of one."""
    install: str | None
    """What pip is to install; None for a part of something installed that was not built."""


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What `observe` saw; None where it cannot be seen here."""

    fingerprint: Fingerprint
    # What is installed
    python: str
    is_cpython: bool = True
    slows_python: tuple[str, ...] = ()
    """What is unusual about the interpreter and makes it slow."""
    usable: int = 0
    """Plug-ins that can be loaded."""
    broken: tuple[str, ...] = ()
    """The others: name and reason."""
    missing: tuple[Missing, ...] = ()
    parts: tuple[str, ...] = ()
    """Parts of installed packages that plug-ins name, and that are built."""
    has_profiler: bool = True
    # What is set
    variables: dict[str, str] = {}
    """The environment; only names and a few values of it are ever shown."""
    online_processors: int | None = None
    core_kinds: int | None = None
    """Among the processors in the affinity set: those of one kind are equally fast."""
    frequency_driver: str | None = None
    on_battery: bool | None = None
    niceness: int | None = None
    clock_source: str | None = None
    clock_sources: tuple[str, ...] = ()
    """All that the kernel would take."""
    turbo_file: str | None = None
    """The switch of the kernel, below `/sys`."""
    # What there is
    available_bytes: int | None = None
    shared_free_bytes: int | None = None
    swap_used_bytes: int | None = None
    # What happens
    load_average: float | None = None
    others_processors: float | None = None
    """How many processors somebody else kept busy."""
    busiest: tuple[BusyProcess, ...] = ()
    swapped_pages: int | None = None
    stolen: float | None = None
    """Of the time in which virtual processors wanted to run, the fraction in which they could not."""
    clock_step_s: float | None = None
    clock_cost_s: float | None = None
    noise: Noise | None = None
    wakeup_s: float | None = None


def observe(tell: Callable[[str], None] = lambda _text: None, roots: Roots | None = None) -> Observed:
    """Look at everything, for about four seconds; leaves nothing behind."""
    roots = roots or Roots()
    tell("Looking who else is busy")
    swapped_before, ticks_before = probes.swapped_pages(roots), probes.ticks(roots)
    others, names = _observed_others(roots)
    tell("Looking at the machine and at what is installed")
    memory = available_memory()
    standing: dict[str, Any] = _observed_settings(roots) | _observed_installation()
    # Before the probes, which are load themselves.
    load = _or_none(load_average)
    tell("Timing a loop")
    noise = probes.timing_noise(_NOISE_S)
    tell("Waking a process up")
    wakeup_s = probes.wakeup_s()
    return Observed(
        **standing,
        fingerprint=fingerprint(roots),
        available_bytes=memory.nbytes,
        shared_free_bytes=memory.shared_nbytes,
        swap_used_bytes=_or_none(lambda: int(psutil.swap_memory().used)),
        load_average=load,
        others_processors=others,
        busiest=tuple(names[:_BUSIEST]),
        swapped_pages=_grown(swapped_before, probes.swapped_pages(roots)),
        stolen=_stolen(ticks_before, probes.ticks(roots)),
        clock_step_s=probes.clock_step_s(),
        clock_cost_s=probes.clock_cost_s(),
        noise=noise,
        wakeup_s=wakeup_s,
    )


def _observed_others(roots: Roots) -> tuple[float | None, list[BusyProcess]]:
    """How many processors others keep busy, and by which names."""
    before = _or_none(probes.process_times)
    ticks_before, own_before_s, began_s = probes.ticks(roots), time.process_time(), time.monotonic()
    time.sleep(_OTHERS_SAMPLE_S)
    ticks_after, own_s = probes.ticks(roots), time.process_time() - own_before_s
    elapsed_s = time.monotonic() - began_s
    after = _or_none(probes.process_times)
    names = probes.busiest(before, after, elapsed_s) if before is not None and after is not None else []
    if ticks_before is None or ticks_after is None:
        return (round(sum(one.processors for one in names), 3) if names else None), names
    busy_s = (ticks_after.busy - ticks_before.busy) / os.sysconf("SC_CLK_TCK")
    return round(max(busy_s - own_s, 0.0) / elapsed_s, 3), names


def _stolen(before: Ticks | None, after: Ticks | None) -> float | None:
    if before is None or after is None:
        return None
    stolen, busy = after.steal - before.steal, after.busy - before.busy
    return round(stolen / (stolen + busy), 4) if stolen + busy > 0 else 0.0


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _observed_settings(roots: Roots) -> dict[str, Any]:
    cores = roots.sys / "devices/system/cpu"
    clock = roots.sys / "devices/system/clocksource/clocksource0"
    battery = _or_none(lambda: psutil.sensors_battery())  # noqa: PLW0108 - some systems have no such function
    return {
        "variables": dict(os.environ),
        "online_processors": psutil.cpu_count(),
        "core_kinds": _core_kinds_in(cores),
        "frequency_driver": _word(cores / "cpu0/cpufreq/scaling_driver"),
        "on_battery": None if battery is None or battery.power_plugged is None else not battery.power_plugged,
        "niceness": _or_none(lambda: os.getpriority(os.PRIO_PROCESS, 0)),
        "clock_source": _word(clock / "current_clocksource"),
        "clock_sources": tuple((_word(clock / "available_clocksource") or "").split()),
        "turbo_file": next(
            (
                f"devices/system/cpu/{name}"
                for name in ("intel_pstate/no_turbo", "cpufreq/boost", "cpu0/cpufreq/boost")
                if (cores / name).exists()
            ),
            None,
        ),
    }


def _core_kinds_in(cores: Path) -> int | None:
    """How many different capacities the kernel gives the processors that this process may use."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    capacities = {_word(cores / f"cpu{number}/cpu_capacity") for number in mine}
    return None if None in capacities else len(capacities)


def _observed_installation() -> dict[str, Any]:
    plugins: list[tuple[str, Plugin[Runtime] | Plugin[Workload]]] = [
        *(("runtime", plugin) for plugin in registry.runtimes()),
        *(("workload", plugin) for plugin in registry.workloads()),
    ]
    loaded = [(f"{kind} {plugin.name}", plugin.loaded) for kind, plugin in plugins if plugin.loaded is not None]
    wanted = [(module, name) for name, one in loaded for module in one.requires]
    wanted += [need for _, one in loaded for need in one.optional]
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "is_cpython": sys.implementation.name == "cpython",
        "slows_python": tuple(_slowing_interpreter()),
        "usable": len(loaded),
        "broken": tuple(f"{kind} {plugin.name}: {plugin.broken}" for kind, plugin in plugins if plugin.broken),
        "missing": tuple(
            dict.fromkeys(
                Missing(
                    module=module,
                    needed_for=needed_for,
                    install=None if _is_part(module) else registry.installable(module),
                )
                for module, needed_for in wanted
                if registry.missing_module([module]) is not None
            )
        ),
        "parts": tuple(dict.fromkeys(m for m, _ in wanted if _is_part(m) and registry.missing_module([m]) is None)),
        "has_profiler": _has_command("py-spy"),
    }


def _is_part(module: str) -> bool:
    """Whether `module` belongs into a package that is there, so that no other installation could bring it."""
    package, dot, _ = module.partition(".")
    return bool(dot) and registry.missing_module([package]) is None


def _has_command(name: str) -> bool:
    """Whether `name` is in PATH, or lies beside the interpreter of an environment that is not activated."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name) is not None or shutil.which(name, path=beside) is not None


def _slowing_interpreter() -> Iterator[str]:
    if sysconfig.get_config_var("Py_DEBUG"):
        yield "a build for debugging"
    if sys.flags.dev_mode:
        yield "development mode"


def _word(file: Path) -> str | None:
    """What a file of one line holds, in printable ASCII."""
    with contextlib.suppress(OSError):
        text = file.read_text(encoding="utf-8", errors="replace")
        return "".join(c for c in text if c.isascii() and c.isprintable()).strip() or None
    return None


def _or_none(look: Callable[[], Seen]) -> Seen | None:
    """What `look` sees; None where the system does not show it, whichever way it says so."""
    try:
        return look()
    except Exception:  # noqa: BLE001 - psutil raises one thing here and another there
        return None
