"""The fingerprint of a machine: what must be equal for runs on two machines, or two days, to be comparable.

It holds what the hardware and its settings are, and nothing that changes by itself (clock speed, load) or that
is software (kernel, Python, packages). What cannot be read is None, and nothing here raises. There is no host
name, user name or path in it: whatever the machine could have been named with is matched, never copied.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import platform
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Fingerprint", "Roots", "differences", "fingerprint"]

_DIGEST_LENGTH = 12
"""Hexadecimal digits: two of a million machines have the same with a chance of 0.2 %."""


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What must be equal for two runs to be comparable; None where it cannot be read."""

    architecture: str | None = None
    """As the kernel names it: `x86_64`, `aarch64`."""
    cpu_model: str | None = None
    """As the kernel names it; of Arm processors, which it gives no name, their numbers."""
    physical_cores: int | None = None
    """Of the machine, in use or not."""
    processors: int | None = None
    """In the affinity set."""
    affinity: str | None = None
    """Which these are: `0-3,8`."""
    smt: str | None = None
    """`on` or `off`: whether a core is several processors."""
    l1d_kib: int | None = None
    """The cache of this level that the first processor of the affinity set uses, alone or with others."""
    l2_kib: int | None = None
    l3_kib: int | None = None
    memory_gib: int | None = None
    """Of the machine, rounded up: what the kernel takes for itself when it starts is a part of it."""
    numa_nodes: int | None = None
    hypervisor: str | None = None
    """`none`, or which one: `kvm`, `vmware`, ...; `other` for one without a name here."""
    cpu_quota: float | None = None
    """Processors' worth of time that the control groups allow; None for no limit."""
    governor: str | None = None
    """Of the processors in the affinity set; several separated by commas."""
    turbo: str | None = None
    """`on` or `off`: whether the clock may exceed its nominal speed."""

    def digest(self) -> str:
        """The whole in a few hexadecimal digits, equal for equal fingerprints everywhere."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:_DIGEST_LENGTH]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where a machine is read from; tests put trees of other machines here."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")
    architecture: str = field(default_factory=platform.machine)
    system: str = field(default_factory=platform.system)

    @property
    def is_linux(self) -> bool:
        """Whether there is anything below `sys` and `proc`."""
        return self.system == "Linux"


def fingerprint(roots: Roots | None = None) -> Fingerprint:
    """The fingerprint of this machine; takes a few milliseconds."""
    roots = roots or Roots()
    return _of_linux(roots) if roots.is_linux else _of_another_system(roots)


def differences(stored: Fingerprint | Mapping[str, Any], here: Fingerprint) -> list[str]:
    """How `here` differs from `stored`, a sentence for each field: `memory_gib: 16 there, 8 here`.

    `stored` may be a fingerprint as a record keeps it. A field that it does not have at all, because it was
    stored before there was one, is not compared.
    """
    there = msgspec.structs.asdict(stored) if isinstance(stored, Fingerprint) else stored
    return [
        f"{name}: {_said(name, there[name])} there, {_said(name, value)} here"
        for name, value in msgspec.structs.asdict(here).items()
        if name in there and there[name] != value
    ]


def _said(name: str, value: Any) -> str:
    if value is None:
        return "none" if name == "cpu_quota" else "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------------------- systems


def _of_linux(roots: Roots) -> Fingerprint:
    cpuinfo = _text(roots.proc / "cpuinfo") or ""
    affinity = _affinity(roots)
    cores = roots.sys / "devices/system/cpu"
    mine = [cores / f"cpu{number}" for number in affinity]
    cache_kib = _caches_kib(mine[0]) if mine else {}
    return Fingerprint(
        architecture=roots.architecture or None,
        cpu_model=_cpu_model(cpuinfo),
        physical_cores=_physical_cores(cores),
        processors=len(affinity) or None,
        affinity=_compact(affinity) or None,
        smt=_smt(cores),
        l1d_kib=cache_kib.get(1),
        l2_kib=cache_kib.get(2),
        l3_kib=cache_kib.get(3),
        memory_gib=_memory_gib(roots),
        numa_nodes=len(list(_folders(roots.sys / "devices/system/node", r"node\d+"))) or None,
        hypervisor=_hypervisor(roots, cpuinfo),
        cpu_quota=_cpu_quota(roots),
        governor=_governor(mine),
        turbo=_turbo(cores),
    )


def _of_another_system(roots: Roots) -> Fingerprint:
    """What the standard library and psutil know everywhere."""
    cores, memory = None, None
    # On a system that psutil knows little of, it raises one thing or another.
    with contextlib.suppress(Exception):
        cores = psutil.cpu_count(logical=False)
    with contextlib.suppress(Exception):
        memory = math.ceil(psutil.virtual_memory().total / 2**30)
    return Fingerprint(
        architecture=roots.architecture or None,
        cpu_model=_plain(platform.processor()),
        physical_cores=cores,
        processors=os.cpu_count(),
        memory_gib=memory,
    )


# ------------------------------------------------------------------------------------------ fields


def _cpu_model(cpuinfo: str) -> str | None:
    """`AMD EPYC 7763 64-Core Processor`, or on Arm `implementer 0x41, part 0xd0c`."""
    named = re.search(r"^model name\s*:(.*)$", cpuinfo, re.MULTILINE)
    if named:
        return _plain(named[1])
    implementers = sorted(set(re.findall(r"^CPU implementer\s*:\s*(0x[0-9a-fA-F]+)", cpuinfo, re.MULTILINE)))
    parts = sorted(set(re.findall(r"^CPU part\s*:\s*(0x[0-9a-fA-F]+)", cpuinfo, re.MULTILINE)))
    if not implementers or not parts:
        return None
    return f"implementer {'+'.join(implementers)}, part {'+'.join(parts)}"


def _affinity(roots: Roots) -> list[int]:
    """The processors that this process may use."""
    status = _text(roots.proc / "self/status") or ""
    listed = re.search(r"^Cpus_allowed_list:\s*(\S+)", status, re.MULTILINE)
    return _expanded(listed[1]) if listed else []


def _physical_cores(cores: Path) -> int | None:
    siblings = {_siblings(cpu) for cpu in _folders(cores, r"cpu\d+")} - {None}
    return len(siblings) or None


def _siblings(cpu: Path) -> str | None:
    """The processors of the core of `cpu`; kernels before 5.0 know the second name only."""
    return _word(cpu / "topology/core_cpus_list") or _word(cpu / "topology/thread_siblings_list")


def _smt(cores: Path) -> str | None:
    active = _word(cores / "smt/active")
    if active in {"0", "1"}:
        return "on" if active == "1" else "off"
    siblings = {_siblings(cpu) for cpu in _folders(cores, r"cpu\d+")} - {None}
    if not siblings:
        return None
    return "on" if any(len(_expanded(text or "")) > 1 for text in siblings) else "off"


def _governor(processors: Iterable[Path]) -> str | None:
    words = {_word(cpu / "cpufreq/scaling_governor") or "" for cpu in processors}
    return ", ".join(sorted(word for word in words if re.fullmatch(r"[a-z_]+", word))) or None


def _caches_kib(cpu: Path) -> dict[int, int]:
    """Level to size of the caches that hold data."""
    found = {}
    for index in _folders(cpu / "cache", r"index\d+"):
        level, size = _number(index / "level"), re.fullmatch(r"(\d{1,9})([KM])", _word(index / "size") or "")
        if level is not None and size and _word(index / "type") in {"Data", "Unified"}:
            found[level] = int(size[1]) * (1024 if size[2] == "M" else 1)
    return found


def _memory_gib(roots: Roots) -> int | None:
    total_kib = re.search(r"^MemTotal:\s*(\d{1,18}) kB", _text(roots.proc / "meminfo") or "", re.MULTILINE)
    return math.ceil(int(total_kib[1]) / 2**20) if total_kib else None


def _turbo(cores: Path) -> str | None:
    if (forbidden := _word(cores / "intel_pstate/no_turbo")) in {"0", "1"}:
        return "off" if forbidden == "1" else "on"
    # The first is of the whole machine; drivers of kernels from 6.11 on may have it for each processor instead.
    for file in (cores / "cpufreq/boost", cores / "cpu0/cpufreq/boost"):
        if (allowed := _word(file)) in {"0", "1"}:
            return "on" if allowed == "1" else "off"
    return None


# -------------------------------------------------------------------------------------- hypervisor

_FIRMWARE = {
    "kvm": "kvm",
    "openstack": "kvm",
    "kubevirt": "kvm",
    "google compute engine": "kvm",
    "amazon ec2": "kvm",
    "qemu": "qemu",
    "bochs": "bochs",
    "vmware": "vmware",
    "virtualbox": "virtualbox",
    "innotek": "virtualbox",
    "xen": "xen",
    "parallels": "parallels",
    "bhyve": "bhyve",
    "hyper-v": "hyperv",
    "microsoft corporation virtual machine": "hyperv",
    "apple virtualization": "apple",
}
"""What the firmware calls the machine, and who that is; systemd's src/basic/virt.c has most of these.

The names themselves are for anyone to choose, and so stay out of the fingerprint.
"""


def _hypervisor(roots: Roots, cpuinfo: str) -> str | None:
    """Which hypervisor this runs on; `none` only where it is known that there is none."""
    if _word(roots.sys / "hypervisor/type") == "xen":
        return "xen"
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo, re.MULTILINE)
    # On x86 the flag decides: the firmware of a bare cloud machine bears the same names as that of its virtual ones.
    if flags and "hypervisor" not in flags[1].split():
        return "none"
    firmware = _firmware(roots)
    in_firmware = next((name for said, name in _FIRMWARE.items() if said in firmware), None)
    named = _of_clock(roots) or in_firmware or _of_device_tree(roots)
    if named or flags:
        return named or "other"
    return "none" if firmware else None


def _of_clock(roots: Roots) -> str | None:
    """Which hypervisor lends the kernel a clock; some machines have no firmware that could say more."""
    clocks = _text(roots.sys / "devices/system/clocksource/clocksource0/available_clocksource") or ""
    if "kvm-clock" in clocks.split():
        return "kvm"
    return "hyperv" if "hyperv_clocksource" in clocks else None


def _of_device_tree(roots: Roots) -> str | None:
    """Which hypervisor says so in the device tree, as on Arm."""
    compatible = _text(roots.sys / "firmware/devicetree/base/hypervisor/compatible")
    return next((name for name in ("kvm", "xen") if name in compatible), "other") if compatible else None


def _firmware(roots: Roots) -> str:
    """What the firmware calls the machine, in small letters."""
    names = ("sys_vendor", "product_name", "board_vendor", "bios_vendor")
    return " ".join(filter(None, [_word(roots.sys / "class/dmi/id" / name) for name in names])).lower()


# ------------------------------------------------------------------------------------------- quota


def _cpu_quota(roots: Roots) -> float | None:
    """The least that any control group around this process allows, in processors."""
    quotas = [quota for folder in _control_groups(roots) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _quota_of(folder: Path) -> float | None:
    """What version 2 says in one file, and version 1 in two."""
    words = (_text(folder / "cpu.max") or "").split()
    if not words:
        words = [_word(folder / name) or "" for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    try:
        quota_us, period_us = map(int, words)
        quota = round(quota_us / period_us, 3)
    except (ValueError, ArithmeticError):  # no such files, or no limit: "max"
        return None
    # Version 1 says -1 for no limit.
    return quota if quota > 0 else None


def _control_groups(roots: Roots) -> Iterator[Path]:
    """The folders of this process's control groups and of all around them, of version 2 and of 1.

    In a container the names in `/proc/self/cgroup` may be those outside, which are not there; the top is.
    """
    top = roots.sys / "fs/cgroup"
    for line in (_text(roots.proc / "self/cgroup") or "0::/").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        parts = [part for part in name.split("/") if part not in {"", ".", ".."}]
        for mount in [top / controllers, top / "cpu"] if controllers else [top, top / "unified"]:
            yield from (mount.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


# ----------------------------------------------------------------------------------------- reading


def _text(file: Path) -> str | None:
    """What `file` holds; None where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # a name from a file may hold a zero
        return None


def _word(file: Path) -> str | None:
    """What a file of one line holds; None for an empty one too."""
    return (_text(file) or "").strip() or None


def _number(file: Path) -> int | None:
    word = _word(file) or ""
    return int(word) if re.fullmatch(r"[0-9]{1,18}", word) else None


def _folders(above: Path, pattern: str) -> Iterator[Path]:
    """What lies in `above` by a name of this `pattern`."""
    with contextlib.suppress(OSError):
        yield from (entry for entry in above.iterdir() if re.fullmatch(pattern, entry.name))


def _plain(text: str) -> str | None:
    """`text` in printable ASCII, with single spaces."""
    return " ".join("".join(c if c.isascii() and c.isprintable() else " " for c in text).split()) or None


def _expanded(listed: str) -> list[int]:
    """`0-2,5` as [0, 1, 2, 5]; nothing for what is no such list."""
    if not re.fullmatch(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*", listed, re.ASCII):
        return []
    ends = [part.partition("-") for part in listed.split(",")]
    return sorted({number for first, _, last in ends for number in range(int(first), int(last or first) + 1)})


def _compact(numbers: Iterable[int]) -> str:
    """[0, 1, 2, 5] as `0-2,5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
