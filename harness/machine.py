"""Facts about the machine and the software that stand in every record: no host name, user name or path."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import psutil

import harness
from harness.fingerprint import fingerprint
from harness.invocation import THREAD_LIMITS

__all__ = ["Memory", "available_memory", "busy_fraction", "load_average", "machine_facts"]

_PACKAGES = ("reactorbench", "numpy", "ray", "gymnasium", "ale-py", "opencv-python-headless", "torch", "msgspec")
"""Distributions whose version may change a result."""
_CGROUP = Path("/sys/fs/cgroup")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder itself, not a file in it
_BUSY_SAMPLE_S = 0.2
_GIT_TIMEOUT_S = 1.0
"""It takes some milliseconds; on a file system that hangs, nobody is to wait for it."""


def machine_facts() -> dict[str, Any]:
    """What does not change during a run.

    `fingerprint` is what must be equal for runs to be comparable; all else is there to be read.
    """
    found = fingerprint()
    return {
        "cpu_model": found.cpu_model,
        "architecture": platform.machine(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "thread_limits": dict(THREAD_LIMITS),
        **_checkout_facts(Path(harness.__file__).resolve().parents[1]),
        "fingerprint": msgspec.to_builtins(found),
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


def _checkout_facts(root: Path) -> dict[str, Any]:
    """The commit of the git checkout whose top is `root`, and whether its files are those of the commit.

    Files that git does not know do not count: results may lie there, and no program comes to use a new
    module without a change in a known file.
    """
    status = _git_status(root) if (root / ".git").exists() else None
    if status is None:
        return {"commit": None, "tree_clean": None}
    heading = "# branch.oid "
    commit = next((line.removeprefix(heading) for line in status if line.startswith(heading)), None)
    return {
        "commit": None if commit == "(initial)" else commit,
        "tree_clean": all(line.startswith("# ") for line in status),
    }


def _git_status(root: Path) -> list[str] | None:
    """The lines of `git status`, which writes nothing and runs no program; None where it fails."""
    # A hook that runs us says here which repository it is about, and git would believe it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ("git", "-C", str(root), "-c", "core.fsmonitor=", "status", "--porcelain=v2", "--branch")
    try:
        done = subprocess.run(  # noqa: S603 - fixed words and our own folder
            [*command, "--untracked-files=no", "--ignore-submodules"],
            env=environment | {"GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=_GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").splitlines()


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
