"""`reactorbench doctor`: what on this machine is missing, noisy or mis-set for measuring, and how to mend it.

A finding is no error: one can measure with all of them, and intervals are wider or ratios are others than they
need be. Each check is a function of what `observed.py` saw.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from harness import registry
from harness.invocation import THREAD_LIMITS, environment
from harness.observed import Observed, observe
from harness.wording import in_bytes, in_seconds, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console

__all__ = ["Examination", "Finding", "Grade", "examine", "judge", "print_examination", "told_on"]


class Grade(IntEnum):
    """How much a finding matters."""

    OK = 0
    ADVICE = 1
    """Worth knowing, or worth mending for the last few percent."""
    WARNING = 2
    """Results will be noisy, wrong in their ratios, or not there."""

    @property
    def word(self) -> str:
        """As people and JSON have it."""
        return self.name.lower()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found."""

    check: str
    grade: Grade
    found: str
    why: str
    """Why it matters to whoever measures."""
    remedy: str = ""
    """What to do; empty for what is in order."""
    command: str | None = None
    """A command that does it, where there is one."""

    def to_json(self) -> dict[str, Any]:
        """As plain values, the grade as a word."""
        return msgspec.structs.asdict(self) | {"grade": self.grade.word}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a machine was seen to be like, and what that means."""

    seen: Observed
    findings: tuple[Finding, ...]
    """The gravest first, else in the order of the checks."""
    unknown: tuple[str, ...]
    """Checks that saw too little here to say anything."""

    def to_json(self) -> dict[str, Any]:
        """As plain values: nothing of the environment but what findings say."""
        measured = (
            *("load_average", "others_processors", "busiest", "stolen", "swapped_pages"),
            *("clock_step_s", "clock_cost_s", "noise", "wakeup_s"),
        )
        return {
            "fingerprint": msgspec.to_builtins(self.seen.fingerprint),
            "fingerprint_digest": self.seen.fingerprint.digest(),
            "findings": [finding.to_json() for finding in self.findings],
            "unknown": list(self.unknown),
            "measured": {name: msgspec.to_builtins(getattr(self.seen, name)) for name in measured},
        }


def examine(tell: Callable[[str], None] = lambda _text: None) -> Examination:
    """Look at this machine for about four seconds; `tell` hears what is looked at next."""
    return judge(observe(tell))


# ------------------------------------------------------------------------------------------ judging


class Verdict(NamedTuple):
    """A finding of a check that goes without saying which."""

    grade: Grade
    found: str
    remedy: str = ""
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at."""

    name: str
    why: str
    verdicts: Callable[[Observed], Iterable[Verdict]]
    """None at all where too little was seen."""


def judge(seen: Observed) -> Examination:
    """What `seen` means for measuring."""
    findings, unknown = [], []
    for check in _CHECKS:
        verdicts = list(check.verdicts(seen))
        findings += [Finding(check=check.name, why=check.why, **verdict._asdict()) for verdict in verdicts]
        if not verdicts:
            unknown.append(check.name)
    findings.sort(key=lambda finding: -finding.grade)
    return Examination(seen=seen, findings=tuple(findings), unknown=tuple(unknown))


def _graded(value: float, *, advice: float, warning: float) -> Grade:
    """The grade of a value of which less is better, by the least values that deserve one."""
    return Grade.WARNING if value >= warning else Grade.ADVICE if value >= advice else Grade.OK


def _unless_ok(grade: Grade, found: str, remedy: str, command: str | None = None) -> Verdict:
    """A verdict whose remedy goes without saying where nothing is to be mended."""
    return Verdict(grade, found) if grade is Grade.OK else Verdict(grade, found, remedy, command)


# Installed -------------------------------------------------------------------------------------


def _python(seen: Observed) -> Iterator[Verdict]:
    if not seen.is_cpython:
        yield Verdict(
            Grade.WARNING, seen.python, "Install CPython 3.11 or newer: the native part and Ray are made for it."
        )
    elif seen.slows_python:
        yield Verdict(
            Grade.WARNING,
            f"{seen.python}, with {', '.join(seen.slows_python)}",
            "Use a release build of CPython, without switches for debugging.",
        )
    else:
        yield Verdict(Grade.OK, seen.python)


def _plugins(seen: Observed) -> Iterator[Verdict]:
    for reason in seen.broken:
        yield Verdict(Grade.WARNING, f"cannot be used: {reason}", "Repair or uninstall what provides it.")
    if not seen.broken:
        yield Verdict(Grade.OK, f"{seen.usable} runtimes and workloads can be loaded")


def _modules(seen: Observed) -> Iterator[Verdict]:
    installs = dict.fromkeys(missing.install for missing in seen.missing if missing.install is not None)
    for install in installs:
        wanting = [missing for missing in seen.missing if missing.install == install]
        modules = ", ".join(dict.fromkeys(missing.module for missing in wanting))
        needed_for = ", ".join(dict.fromkeys(missing.needed_for for missing in wanting))
        yield Verdict(
            Grade.ADVICE,
            f"not installed: {modules}; for {needed_for}",
            "Install it if you want to measure that.",
            f'python -m pip install "{install}"',
        )
    if not installs:
        yield Verdict(Grade.OK, "all that runtimes and workloads name is installed")


def _native(seen: Observed) -> Iterator[Verdict]:
    for missing in seen.missing:
        if missing.install is None:
            yield Verdict(
                Grade.WARNING,
                f"{missing.module} is not built; for {missing.needed_for}",
                "Install a C compiler and Python's headers (gcc and python3-dev on Debian), then, in the folder of the "
                "project, this once more.",
                "python -m pip install --force-reinstall --no-deps --editable .",
            )
    for part in seen.parts:
        yield Verdict(Grade.OK, f"{part} is built")


def _profiler(seen: Observed) -> Iterator[Verdict]:
    yield (
        Verdict(Grade.OK, "py-spy is installed")
        if seen.has_profiler
        else Verdict(
            Grade.ADVICE,
            "py-spy is not installed",
            "Install it if you want profiles.",
            f'python -m pip install "{registry.installable("py_spy")}"',
        )
    )


# Set -------------------------------------------------------------------------------------------

_PINNING = ("OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
_SLOWING = (
    *("PYTHONDEVMODE", "PYTHONMALLOC", "PYTHONTRACEMALLOC", "PYTHONPROFILEIMPORTTIME"),
    *("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "LD_PRELOAD", "MALLOC_CHECK_", "MALLOC_PERTURB_"),
)
"""What every child takes over and what changes how fast it is."""


def _thread_limits(seen: Observed) -> Iterator[Verdict]:
    other = [name for name, limit in THREAD_LIMITS.items() if seen.variables.get(name, limit) != limit]
    yield (
        Verdict(
            Grade.ADVICE,
            f"set to something else: {', '.join(other)}",
            "Nothing to mend for reactorbench, which sets them to 1. Do the same before you compare with a program of "
            "your own.",
            f"unset {' '.join(other)}",
        )
        if other
        else Verdict(Grade.OK, "not set, or as reactorbench sets them")
    )


def _pinning(seen: Observed) -> Iterator[Verdict]:
    found = [name for name in _PINNING if seen.variables.get(name)]
    if seen.variables.get("OMP_PROC_BIND", "false").lower() != "false":
        found.append("OMP_PROC_BIND")
    yield (
        Verdict(Grade.WARNING, f"set: {', '.join(found)}", "Unset it.", f"unset {' '.join(found)}")
        if found
        else Verdict(Grade.OK, "no variable ties threads to processors")
    )


def _inherited(seen: Observed) -> Iterator[Verdict]:
    found = [name for name in _SLOWING if seen.variables.get(name)]
    yield (
        Verdict(Grade.WARNING, f"set: {', '.join(found)}", "Unset it.", f"unset {' '.join(found)}")
        if found
        else Verdict(Grade.OK, "no variable slows interpreters down")
    )


def _ray_address(seen: Observed) -> Iterator[Verdict]:
    yield (
        Verdict(
            Grade.ADVICE,
            "RAY_ADDRESS is set",
            "Nothing to mend for reactorbench, which starts a cluster of its own. If the other one runs here, end it.",
            "ray stop",
        )
        if seen.variables.get("RAY_ADDRESS")
        else Verdict(Grade.OK, "RAY_ADDRESS is not set")
    )


def _ray_settings(seen: Observed) -> Iterator[Verdict]:
    # Those that the harness sets itself do not count.
    known = {"RAY_ADDRESS", *environment({}, 0)}
    found = sorted(name for name in seen.variables if name.startswith("RAY_") and name not in known)
    yield (
        Verdict(
            Grade.ADVICE,
            f"set: {', '.join(found)}",
            "Unset it, or say so beside the results.",
            f"unset {' '.join(found)}",
        )
        if found
        else Verdict(Grade.OK, "no variable sets Ray up otherwise")
    )


def _processors(seen: Observed) -> Iterator[Verdict]:
    machine = seen.fingerprint
    if machine.processors is None:
        return
    of_cores = "" if machine.physical_cores is None else f", on a machine of {plural(machine.physical_cores, 'core')}"
    found = f"{plural(machine.processors, 'processor')}{of_cores}"
    if machine.processors == 1:
        yield Verdict(Grade.WARNING, found, "Take a machine, or an affinity set, with more of them.")
    elif seen.online_processors is not None and machine.processors < seen.online_processors:
        yield Verdict(
            Grade.ADVICE,
            f"{found}; {plural(seen.online_processors, 'processor')} are online",
            "Fine if you meant to. Otherwise give this process all of them, or the container no --cpuset-cpus.",
            f"taskset --all-tasks --cpu-list --pid 0-{seen.online_processors - 1} $$",
        )
    else:
        yield Verdict(Grade.OK, found)


def _core_kinds(seen: Observed) -> Iterator[Verdict]:
    if seen.core_kinds is None:
        return
    grade = _graded(seen.core_kinds, advice=2, warning=float("inf"))
    yield _unless_ok(
        grade,
        f"{plural(seen.core_kinds, 'kind')} of core",
        "Measure on cores of one kind: lscpu --extended shows which are the fast ones.",
        "taskset --cpu-list 0-3 reactorbench run quick",
    )


def _cpu_quota(seen: Observed) -> Iterator[Verdict]:
    quota, processors = seen.fingerprint.cpu_quota, seen.fingerprint.processors
    if quota is None:
        yield Verdict(Grade.OK, "no limit of processor time")
    elif processors is None or quota < processors:
        yield Verdict(
            Grade.WARNING,
            f"{quota:g} processors' worth of time, on {processors or 'some'} of them",
            "Give the container whole processors instead of a quota.",
            f"docker run --cpuset-cpus 0-{max(int(quota), 1) - 1} ...",
        )
    else:
        yield Verdict(Grade.OK, f"{quota:g} processors' worth of time, which is no less than there are processors")


def _smt(seen: Observed) -> Iterator[Verdict]:
    if seen.fingerprint.smt is None:
        return
    grade = Grade.ADVICE if seen.fingerprint.smt == "on" else Grade.OK
    yield _unless_ok(
        grade,
        f"SMT is {seen.fingerprint.smt}",
        "Turn it off while you measure, or take one processor of each core with taskset.",
        "echo off | sudo tee /sys/devices/system/cpu/smt/control",
    )


def _governor(seen: Observed) -> Iterator[Verdict]:
    governor = seen.fingerprint.governor
    if governor is None:
        return
    yield _unless_ok(
        Grade.OK if governor == "performance" else Grade.WARNING,
        governor,
        "Keep the clock up.",
        "sudo cpupower frequency-set --governor performance",
    )


def _frequency_driver(seen: Observed) -> Iterator[Verdict]:
    if seen.frequency_driver is not None:
        yield Verdict(Grade.OK, seen.frequency_driver)
    elif seen.fingerprint.hypervisor == "none":
        yield Verdict(
            Grade.ADVICE,
            "none, although no hypervisor is in between",
            "Let the system control the clock (firmware: EIST, Cool'n'Quiet or CPPC), or fix it there.",
        )
    elif seen.fingerprint.hypervisor is not None:
        yield Verdict(Grade.OK, "none: the host of this virtual machine sets the clock")


def _turbo(seen: Observed) -> Iterator[Verdict]:
    if seen.fingerprint.turbo is None:
        return
    file = seen.turbo_file
    yield _unless_ok(
        Grade.ADVICE if seen.fingerprint.turbo == "on" else Grade.OK,
        f"turbo is {seen.fingerprint.turbo}",
        "Turn it off while you measure.",
        None if file is None else f"echo {1 if file.endswith('no_turbo') else 0} | sudo tee /sys/{file}",
    )


def _power(seen: Observed) -> Iterator[Verdict]:
    if seen.on_battery is None:
        return
    yield _unless_ok(
        Grade.WARNING if seen.on_battery else Grade.OK,
        "runs on its battery" if seen.on_battery else "runs on mains power",
        "Plug it in.",
    )


def _priority(seen: Observed) -> Iterator[Verdict]:
    if seen.niceness is None:
        return
    yield _unless_ok(
        Grade.WARNING if seen.niceness > 0 else Grade.OK,
        f"niceness {seen.niceness}",
        "Start from a shell with the usual niceness, 0.",
    )


_GOOD_CLOCKS: Final = (
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
    "timebase",
    "riscv_clocksource",
)
"""Those that a program reads without a call of the kernel."""


def _clock_source(seen: Observed) -> Iterator[Verdict]:
    if seen.clock_source is None:
        return
    better = next((name for name in _GOOD_CLOCKS if name in seen.clock_sources), None)
    where = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
    yield _unless_ok(
        Grade.OK if seen.clock_source in _GOOD_CLOCKS else Grade.WARNING,
        seen.clock_source,
        "Take a faster one; the kernel's log says why it did not (dmesg | grep -i clocksource)."
        if better
        else "The kernel offers no faster one: its log says why (dmesg | grep -i clocksource).",
        f"echo {better} | sudo tee {where}" if better else None,
    )


# There -----------------------------------------------------------------------------------------


def _memory(seen: Observed) -> Iterator[Verdict]:
    if seen.available_bytes is None:
        return
    yield _unless_ok(
        # A cluster of Ray takes 1 GB before the first actor, each process with torch 0.2 GB.
        _graded(-seen.available_bytes, advice=-4e9, warning=-1e9),
        f"{in_bytes(max(seen.available_bytes, 0))} available",
        "Close what takes much, or raise the limit of the container.",
    )


def _shared_memory(seen: Observed) -> Iterator[Verdict]:
    if seen.shared_free_bytes is None:
        return
    yield _unless_ok(
        # Containers have 64 MB unless told otherwise.
        _graded(-seen.shared_free_bytes, advice=-2e9, warning=-500e6),
        f"{in_bytes(seen.shared_free_bytes)} free in /dev/shm",
        "Make it larger; for a container: docker run --shm-size 8g.",
        "sudo mount -o remount,size=50% /dev/shm",
    )


def _swap(seen: Observed) -> Iterator[Verdict]:
    if seen.swap_used_bytes is None:
        return
    moving = bool(seen.swapped_pages)
    used = in_bytes(seen.swap_used_bytes)
    yield _unless_ok(
        Grade.WARNING if moving else _graded(seen.swap_used_bytes, advice=1e6, warning=float("inf")),
        f"{used} in swap" + (f", {plural(seen.swapped_pages or 0, 'page')} moved while looking" if moving else ""),
        "Close what takes much memory, then bring back what was swapped out.",
        "sudo swapoff --all && sudo swapon --all",
    )


_MICROSECOND_S = 1e-6

# Happening -------------------------------------------------------------------------------------

_OTHERS_ADVICE, _OTHERS_WARNING = 0.05, 0.2
"""Of all processors; from the second on reports warn of foreign load."""
_SHOWN = 0.01
"""Of one processor; less would read 0.00."""


def _others(seen: Observed) -> Iterator[Verdict]:
    if seen.others_processors is None:
        return
    processors = seen.online_processors or seen.fingerprint.processors or 1
    names = [f"{one.name} {one.processors:.2f}" for one in seen.busiest if one.processors >= _SHOWN]
    grade = _graded(seen.others_processors / processors, advice=_OTHERS_ADVICE, warning=_OTHERS_WARNING)
    if grade is not Grade.OK and sum(one.processors for one in seen.busiest) < seen.others_processors / 2:
        names.append("most by programs that ended meanwhile or cannot be seen from here")
    yield _unless_ok(
        grade,
        f"others keep {seen.others_processors:.2f} of {plural(processors, 'processor')} busy"
        + (f" ({', '.join(names)})" if names else ""),
        "End them, or wait until they are done.",
    )


def _load(seen: Observed) -> Iterator[Verdict]:
    if seen.load_average is None:
        return
    processors = seen.fingerprint.processors or 1
    yield _unless_ok(
        _graded(seen.load_average / processors, advice=0.5, warning=float("inf")),
        f"{seen.load_average:.2f} over the last minute, on {plural(processors, 'processor')}",
        "If that was not you, find out who it was before a long run begins.",
    )


def _steal(seen: Observed) -> Iterator[Verdict]:
    if seen.stolen is None:
        return
    hypervisor = seen.fingerprint.hypervisor or "unknown"
    yield _unless_ok(
        _graded(seen.stolen, advice=0.005, warning=0.02),
        f"{seen.stolen * 100:.1f} % of the time that processors wanted to run (hypervisor: {hypervisor})",
        "Others use the same host. Take a machine with processors of its own, or measure at another time, with more "
        "blocks: --invocations 10.",
    )


def _clock(seen: Observed) -> Iterator[Verdict]:
    if seen.clock_step_s is None or seen.clock_cost_s is None:
        return
    yield _unless_ok(
        # A clock read by calls of the kernel takes 0.3 us and more.
        max(
            _graded(seen.clock_cost_s, advice=3e-7, warning=1e-6), _graded(seen.clock_step_s, advice=1e-6, warning=1e-5)
        ),
        f"perf_counter takes {_in_seconds(seen.clock_cost_s)}, and tells {_in_seconds(seen.clock_step_s)} apart",
        "See the clock source.",
    )


def _in_seconds(seconds: float) -> str:
    """As `in_seconds`, which ends at microseconds, and with nanoseconds: `57 ns`."""
    return f"{seconds * 1e9:.0f} ns" if seconds < _MICROSECOND_S else in_seconds(seconds)


def _noise(seen: Observed) -> Iterator[Verdict]:
    if seen.noise is None:
        return
    noise = seen.noise
    drift = abs(noise.second_over_first - 1)
    yield _unless_ok(
        max(_graded(noise.p95_over_p50, advice=1.05, warning=1.25), _graded(drift, advice=0.03, warning=0.1)),
        f"a loop of {in_seconds(noise.p50_s)}, {noise.loops} times: p95 is {noise.p95_over_p50:.2f} of the median, the "
        f"second half {noise.second_over_first:.2f} of the first",
        "Mend what else is found here, then look again; what stays asks for more blocks: --invocations 10.",
        "reactorbench doctor",
    )


def _wakeup(seen: Observed) -> Iterator[Verdict]:
    if seen.wakeup_s is None:
        return
    is_virtual = seen.fingerprint.hypervisor not in {None, "none"}
    yield _unless_ok(
        # Usual are 10 to 30 us where processors do not sleep deeply; the loop in Python is 2 us of it.
        _graded(seen.wakeup_s, advice=50e-6, warning=150e-6),
        f"{seen.wakeup_s * 1e6:.1f} us there and back between two processes (median)",
        "Only the host of this virtual machine can keep its processors from sleeping."
        if is_virtual
        else "Keep processors from sleeping deeply while you measure.",
        None if is_virtual else "sudo cpupower idle-set --disable-by-latency 10",
    )


_CHECKS: Final = (
    Check("python", "Debugging switches slow everything, and not equally.", _python),
    Check("plug-ins", "What cannot be loaded cannot be measured.", _plugins),
    Check("modules", "Without them some cells are skipped.", _modules),
    Check(
        "native parts",
        "Without them workers wait for one another tens of microseconds longer, and NumPy is the replay buffer.",
        _native,
    ),
    Check("profiler", "Profiles of all processes of a run come from it.", _profiler),
    Check("thread limits", "Numerical libraries would compete with the members for processors.", _thread_limits),
    Check("pinning", "All processes of a runtime would be tied to the same processors.", _pinning),
    Check("inherited settings", "What is measured takes them over and becomes slower, or another program.", _inherited),
    Check("Ray's address", "A cluster on the same machine wants its processors and memory.", _ray_address),
    Check("Ray's settings", "What is measured takes them over, and is no longer Ray as others have it.", _ray_settings),
    Check("processors", "Speedups end at the number of processors.", _processors),
    Check("kinds of core", "Who is fast depends on where the kernel puts it.", _core_kinds),
    Check("CPU quota", "When it is used up all stand still, up to a tenth of a second at a time.", _cpu_quota),
    Check("SMT", "Two processors of one core slow each other down: the second adds little.", _smt),
    Check("governor", "The clock follows the load: short rounds run slower than long ones.", _governor),
    Check("frequency driver", "It decides who sets the clock.", _frequency_driver),
    Check("turbo", "The clock depends on how many cores are busy and how warm they are.", _turbo),
    Check("power", "On a battery the clock is held down.", _power),
    Check("priority", "Everything else goes first.", _priority),
    Check("memory", "What does not fit is skipped, or swaps.", _memory),
    Check(
        "shared memory", "Arrays of reactors and Ray's objects lie there; what does not fit is skipped.", _shared_memory
    ),
    Check("swap", "A page that has to come back takes milliseconds.", _swap),
    Check("others", "They take processors away, most of all from parallel runtimes.", _others),
    Check("load average", "Somebody may come back.", _load),
    Check("steal", "The hypervisor ran other machines while this one wanted to run.", _steal),
    Check("clock source", "Every time that is measured is read from it.", _clock_source),
    Check("clock", "Rounds may be as short as microseconds.", _clock),
    Check("timing noise", "No interval can become narrower than the machine is even.", _noise),
    Check("wake-up", "No runtime of several processes can pass a message on any faster, unless it spins.", _wakeup),
)


# ------------------------------------------------------------------------------------------ showing

_STYLES: Final = {Grade.OK: "green", Grade.ADVICE: "yellow", Grade.WARNING: "red"}


@contextmanager
def told_on(console: Console) -> Iterator[Callable[[str], None]]:
    """What `examine` tells is one line on `console` that goes away; nothing where that is no terminal."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield lambda _text: None
        return
    from rich.live import Live
    from rich.text import Text

    # Drawn only between the probes, never by a thread beside them.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda text: live.update(Text(f"{text} ..."), refresh=True)


def print_examination(examination: Examination, console: Console) -> None:
    """Show the machine, the table of findings and what they come to."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    for heading in ("grade", "check", "found, why it matters, what to do"):
        table.add_column(heading, overflow="fold")
    for finding in examination.findings:
        said = Text(finding.found)
        if finding.grade is not Grade.OK:
            said.append(f"\n{finding.why} {finding.remedy}".rstrip(), "dim")
            said.append("" if finding.command is None else f"\n$ {finding.command}", "cyan")
        table.add_row(Text(finding.grade.word, _STYLES[finding.grade]), finding.check, said)
    console.print(f"{_machine(examination.seen)}\n", style="bold", highlight=False, markup=False)
    console.print(table, markup=False)
    console.print(f"\n{summed_up(examination)}", style="bold", highlight=False, markup=False)


def summed_up(examination: Examination) -> str:
    """`2 warnings, 3 pieces of advice, 20 in order. Not to be told here: turbo.`."""
    numbers = {grade: sum(finding.grade is grade for finding in examination.findings) for grade in Grade}
    text = (
        f"{plural(numbers[Grade.WARNING], 'warning')}, {plural(numbers[Grade.ADVICE], 'piece')} of advice, "
        f"{numbers[Grade.OK]} in order."
    )
    return f"{text} Not to be told here: {', '.join(examination.unknown)}." if examination.unknown else text


def _machine(seen: Observed) -> str:
    """The machine in one line, and its fingerprint."""
    machine = seen.fingerprint
    parts = [
        machine.cpu_model or machine.architecture or "Unknown processor",
        "" if machine.processors is None else plural(machine.processors, "processor"),
        "" if machine.memory_gib is None else f"{machine.memory_gib} GiB",
        "" if machine.hypervisor in {None, "none"} else f"virtual ({machine.hypervisor})",
        f"fingerprint {machine.digest()}",
    ]
    return ", ".join(filter(None, parts))
