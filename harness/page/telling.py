"""What a page says in words: how it was measured, what all sides got alike, the machine, and commands to copy."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import msgspec

from harness.wording import in_fraction, in_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.plan import Plan
    from harness.records import Record
    from harness.regression.judging import Margins

__all__ = [
    "fairness_of_check",
    "fairness_of_run",
    "machine_rows",
    "measuring_arguments",
    "method_of_check",
    "method_of_run",
    "wrapped",
]

_SAMPLE = (
    "The sample is the invocation, a process of its own, and never the round: rounds of one invocation share its "
    "process, its place in memory and its moment."
)
_ESTIMATE = (
    "A ratio is the Hodges-Lehmann estimate of the pairs: the median of the means of every two of them, on the scale "
    "of logarithms. Its interval has 95 % and is exact, from Wilcoxon's signed-rank test; no bell curve is assumed. "
    "Six pairs are the least that allow one. With fewer, the geometric mean and the range of the pairs are shown, and "
    "called a range."
)
_DETECTABLE = (
    "The smallest detectable change is the slowdown that 24 such pairs would have shown in 80 of 100 checks: "
    "1.03 x exp(1.43 h) - 1, where 3 % is the margin for slower, and h the half-width of the interval on the scale of "
    "logarithms. A cell where it is large says little, whatever its verdict."
)
_QUANTILES = (
    "p50, p95 and p99 are quantiles of the durations of single rounds: of each invocation, then their median. p95 "
    "needs 200 rounds and p99 needs 1,000. No verdict depends on them. A flag says that rounds drifted, that they are "
    "of two kinds, or that other programs were busy; nothing is left out because of a flag."
)


def method_of_check(margins: Margins, *, interleaved: bool, second_pairs: int) -> tuple[str, ...]:
    """How a comparison of two versions is measured and judged, a paragraph each."""
    turns = (
        "Base and head take turns, A B B A, on one machine, so that a slow drift falls on both alike."
        if interleaved
        else "Base and head were measured apart, so the machine may have changed between them: the margins are wider."
    )
    two_sets = (
        (
            "Two sets of pairs, fixed in number beforehand: 12 pairs can only find a cell the same. Every other cell "
            f"gets {second_pairs} fresh pairs, and is judged by those alone; the first set then counts for nothing, "
            "since it was looked at before."
        )
        if second_pairs
        else "A single set of pairs decides."
    )
    return (
        (
            f"A pair is one invocation of each side with the same cell, runtime, block and seed, so both do the same "
            f"work. What is compared is the time of the rounds that both did. {turns}"
        ),
        _SAMPLE,
        "The ratio is the head's speed over the base's: 0.91 where the head takes 10 % longer. " + _ESTIMATE,
        (
            f"A cell is the same if its interval lies within {margins.same:.0%} of 1, and slower or faster if it lies "
            f"wholly beyond {margins.beyond:.0%}. Otherwise it is inconclusive, which is an error where a slowdown of "
            f"{margins.target:.0%} may hide in the interval."
        ),
        two_sets,
        _DETECTABLE,
        (
            "q-values (Benjamini and Hochberg) say how many false discoveries to expect among so many cells. They are "
            "for reading: no verdict and no exit status depends on them."
        ),
        _QUANTILES,
    )


def method_of_run(margins: Margins) -> tuple[str, ...]:
    """How a run compares runtimes, a paragraph each."""
    return (
        (
            "Base is the plain loop, sequential; head is the runtime of the row. A pair is one invocation of each with "
            "the same cell, block and seed. What is compared is their throughput, units of work a second."
        ),
        "Runtimes of a cell take turns, A B B A, so that a slow drift of the machine falls on all alike.",
        _SAMPLE,
        "The ratio is the runtime's speed over the plain loop's: above 1 it is faster. " + _ESTIMATE,
        (
            f"With six pairs or more a runtime is called faster or slower if the whole interval lies beyond "
            f"{margins.beyond:.0%}, the same if it lies within {margins.same:.0%} of 1, and inconclusive otherwise. "
            "With fewer it is called range: there is no verdict."
        ),
        _DETECTABLE,
        _QUANTILES,
    )


_ALIKE = (
    "Every invocation is a fresh process, in a session and a folder of its own.",
    "Libraries get one thread each on every side: OMP_NUM_THREADS and its kin are 1.",
    "Invocation b has seed + b on every side, so environments and policies do the same things in the same order.",
    "The hash seed and the size of the environment vary from block to block, and are equal within one.",
)


def _design(plan: Plan | None) -> list[str]:
    if plan is None:
        return []
    warm = sorted({cell.warmup_rounds for cell in plan.cells})
    least = sorted({cell.rounds for cell in plan.cells})
    seconds = sorted({cell.measure_s for cell in plan.cells})
    return [
        (
            f"Warm-up rounds, equal for all: {_span(warm)}. Then at least {_span(least)} measured rounds, until "
            f"{' to '.join(f'{s:g}' for s in dict.fromkeys((seconds[0], seconds[-1])))} s are filled."
        ),
        f"Whoever takes longer than {in_seconds(plan.timeout_s)} is ended, on every side.",
    ]


def _span(values: Sequence[int]) -> str:
    return " to ".join(f"{value:,}" for value in dict.fromkeys((values[0], values[-1])))


def fairness_of_check(plan: Plan | None) -> tuple[str, ...]:
    """What base and head got alike."""
    return (
        *_ALIKE,
        "Each side has an interpreter of its own, at paths of equal length.",
        "Base and head run right after one another, and who is first changes from block to block.",
        *_design(plan),
        (
            "What both computed up to a checkpoint is hashed; a difference makes the cell not comparable, and one to "
            "the side's own plain loop makes it invalid."
        ),
    )


def fairness_of_run(plan: Plan | None) -> tuple[str, ...]:
    """What all runtimes got alike."""
    return (
        *_ALIKE,
        "All runtimes have the same interpreter.",
        "The runtimes of a cell run right after one another, in an order drawn anew for every two blocks.",
        *_design(plan),
        (
            "What a runtime computed up to a checkpoint is hashed and must equal the plain loop's; otherwise its row "
            "is invalid and has no ratio."
        ),
    )


# ------------------------------------------------------------------------------------------ machine

_FACTS = {
    "cpu_model": "Processor",
    "architecture": "Architecture",
    "processors": "Processors that may be used",
    "physical_cores": "Physical cores",
    "memory_gib": "Memory (GiB)",
    "kernel": "Kernel",
    "python": "Python",
}
_OF_A_MOMENT = ("load_average", "busy_before")


def machine_rows(machine: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The facts of a record as name and value: known ones first, then whatever else is there."""
    rows = [(label, _fact(machine[name])) for name, label in _FACTS.items() if machine.get(name) is not None]
    packages = machine.get("packages")
    if isinstance(packages, dict):
        rows.append(("Packages", ", ".join(f"{name} {version}" for name, version in packages.items())))
    rows += [
        (_title(name), _fact(value))
        for name, value in machine.items()
        if name not in _FACTS and name not in ("packages", "fingerprint", *_OF_A_MOMENT) and value is not None
    ]
    fingerprint = machine.get("fingerprint")
    if isinstance(fingerprint, dict):
        rows += [(_title(name), _fact(value)) for name, value in fingerprint.items() if value is not None]
    elif fingerprint is not None:
        rows.append(("Fingerprint", _fact(fingerprint)))
    return tuple(rows)


def _title(name: str) -> str:
    words = str(name).replace("_", " ")
    return words[:1].upper() + words[1:]


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return in_fraction(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_fact(one) for one in value)
    return str(value)


# ----------------------------------------------------------------------------------------- commands


def _spelt(value: Any) -> str:
    """As the command line takes it: strings bare, all else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def runtime_argument(name: str, options: Mapping[str, Any]) -> str:
    """`ray-packed:driver_slice=false,inline_bytes=0`."""
    settings = ",".join(f"{key}={_spelt(value)}" for key, value in options.items())
    return f"{name}:{settings}" if settings else name


def measuring_arguments(
    workload: str, parameters: Mapping[str, Any], runtimes: Iterable[tuple[str, Mapping[str, Any]]]
) -> list[list[str]]:
    """What measures one cell on `runtimes`, in the groups that stay on a line."""
    return [
        ["--workload", workload],
        *(["--set", f"{name}={_spelt(value)}"] for name, value in parameters.items()),
        *(["--runtime", runtime_argument(name, options)] for name, options in runtimes),
    ]


def settings_arguments(plan: Plan | None, sample: Record | None, invocations: int | None) -> list[list[str]]:
    """How it was measured: from the plan, and what the plan does not know from a record."""
    cell = None
    if plan is not None and sample is not None:
        fitting = [c for c in plan.cells if c.workload == sample.workload and c.parameters == sample.parameters]
        cell = fitting[0] if fitting else None
    groups: list[list[str]] = []
    if plan is not None:
        groups.append(["--seed", str(plan.seed)])
    elif sample is not None:
        groups.append(["--seed", str(sample.seed - sample.block)])
    if cell is not None:
        groups.append(["--warmup-rounds", str(cell.warmup_rounds)])
        groups.append(["--rounds", str(cell.rounds)])
        groups.append(["--measure-s", f"{cell.measure_s:g}"])
    elif sample is not None:
        groups.append(["--warmup-rounds", str(sample.warmup_rounds)])
        groups.append(["--rounds", str(max(1, sample.rounds))])
    if invocations is not None:
        groups.append(["--invocations", str(invocations)])
    return groups


def wrapped(words: Sequence[str], groups: Iterable[Sequence[str]]) -> str:
    """A shell command with a line for each group, ready to be pasted."""
    lines = [" ".join(words), *(" ".join([group[0], *map(shlex.quote, group[1:])]) for group in groups)]
    return " \\\n    ".join(lines)
