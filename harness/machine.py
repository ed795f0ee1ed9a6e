"""Facts about the machine and the software that stand in every record: no host name, user name or path."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import psutil

__all__ = ["Memory", "available_memory", "busy_fraction", "load_average", "machine_facts"]

_PACKAGES = ("reactorbench", "numpy", "ray", "gymnasium", "ale-py", "opencv-python-headless", "torch", "msgspec")
"""Distributions whose version may change a result."""
_CGROUP = Path("/sys/fs/cgroup")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder itself, not a file in it
_BUSY_SAMPLE_S = 0.2


def machine_facts() -> dict[str, Any]:
    """What does not change during a run."""
    return {
        "cpu_model": _cpu_model(),
        "architecture": platform.machine(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
    }


class Memory(NamedTuple):
    """What programs can still get."""

    nbytes: int
    """Without swapping, within the limit of the control group if there is one."""
    shared_nbytes: int | None
    """Of it in `/dev/shm`; None where there is no such folder."""


def available_memory() -> Memory:
    """What is available now."""
    shared = psutil.disk_usage(str(_SHARED_MEMORY)).free if _SHARED_MEMORY.is_dir() else None
    return Memory(_available_bytes(), shared)


def _available_bytes() -> int:
    available = int(psutil.virtual_memory().available)
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        fields = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # no control groups, or no limit: "max"
        return available
    return min(available, limit - used + int(fields.get("inactive_file", 0)))


def busy_fraction() -> float:
    """How busy all processors together are, 0 to 1, over the next fifth of a second."""
    return round(psutil.cpu_percent(interval=_BUSY_SAMPLE_S) / 100, 3)


def load_average() -> float:
    """Processes that ran or waited to run, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def _cpu_model() -> str | None:
    """As the kernel names it; Arm kernels often do not."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
