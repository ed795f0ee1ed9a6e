"""Thousands of random programs, outside of pytest: `python -m tests.reactor.fuzz 0 1000`.

Runs the programs with these seeds on the reference interpreter and in several ways, says where a trace
differs, and ends with code 1 if one did.
"""

from __future__ import annotations

import random
import sys
import traceback
from typing import TYPE_CHECKING, Any

from runtimes.reactor import Program
from tests.reactor.lines import Line, lines_of_reference, lines_of_trace
from tests.reactor.random_programs import Plan, plan_of, program_of
from tests.reactor.reference import interpret

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WAYS", "difference", "in_order", "placement_of", "reference_lines", "run_lines"]

WAYS: tuple[dict[str, Any], ...] = (
    {"executor": "inline"},
    {"executor": "threads", "workers": 2},
    {"executor": "threads", "workers": 4},
    {"executor": "processes", "workers": 2, "start_method": "fork"},
    {"executor": "processes", "workers": 3, "start_method": "fork"},
)


def in_order(lines: Sequence[Line]) -> list[Line]:
    """By tag and path: who comes first in a tag is no part of what is compared, the values show it."""
    return sorted(lines, key=lambda line: (line.time_ns, line.microstep, line.path))


def reference_lines(plan: Plan) -> list[Line]:
    """What must happen."""
    return in_order(lines_of_reference(interpret(program_of(plan)(), timeout_ns=plan.timeout_ns)))


def run_lines(plan: Plan, way: dict[str, Any], *, placement: dict[str, int] | None = None) -> list[Line]:
    """What happens when it runs that way."""
    program = Program(program_of(plan), fast=True, recording=True, placement=placement, **way)
    program.run(plan.timeout_ns)
    return in_order(lines_of_trace(program.trace().steps))


def placement_of(plan: Plan, workers: int, chooser: random.Random) -> dict[str, int]:
    """A home for each reactor by chance; what a modal reactor contains stays with it."""
    placement: dict[str, int] = {}
    waiting = [("", plan.main)]
    while waiting:
        path, cell = waiting.pop()
        for child in [] if cell.is_modal else cell.children:
            below = f"{path}.{child.name}" if path else child.name
            for member in [below] if child.width is None else [f"{below}[{i}]" for i in range(child.width)]:
                placement[member] = chooser.randrange(workers)
                waiting.append((member, child.cell))
    return placement


def difference(expected: Sequence[Line], got: Sequence[Line]) -> str | None:
    """The first difference with what came before it, None without one."""
    if expected == got:
        return None
    same = next(
        (i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), min(len(expected), len(got))
    )
    before = "\n".join(f"  {line}" for line in expected[max(0, same - 6) : same])
    after_expected = "\n".join(f"- {line}" for line in expected[same : same + 3])
    after_got = "\n".join(f"+ {line}" for line in got[same : same + 3])
    return f"line {same} of {len(expected)} and {len(got)}:\n{before}\n{after_expected}\n{after_got}"


def fuzz(seeds: Sequence[int], ways: Sequence[dict[str, Any]] = WAYS) -> list[int]:
    """Run the programs with these seeds; the seeds of those that differ somewhere."""
    wrong = []
    for seed in seeds:
        plan = plan_of(random.Random(seed))
        expected = reference_lines(plan)
        for way in ways:
            chooser = random.Random(seed)
            placement = placement_of(plan, way["workers"], chooser) if "workers" in way and seed % 2 else None
            try:
                found = difference(expected, run_lines(plan, way, placement=placement))
            except Exception:  # noqa: BLE001 - a program that fails is a finding like another
                found = traceback.format_exc(limit=-4)
            if found is not None:
                print(f"Seed {seed}, {way}, placement {placement}: {found}", flush=True)  # noqa: T201 - a program
                wrong.append(seed)
                break
    return wrong


def main(arguments: Sequence[str]) -> int:
    """Run from the first seed to before the second; with names of executors after them, on those only."""
    first, last = int(arguments[0]), int(arguments[1])
    ways = [way for way in WAYS if not arguments[2:] or way["executor"] in arguments[2:]]
    wrong = fuzz(range(first, last), ways)
    print(f"{last - first} programs, {len(wrong)} differ: {wrong}")  # noqa: T201 - as above
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
