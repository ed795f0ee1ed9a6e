"""What `reactorbench plan` shows: every invocation in order, and about how long it will take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from harness.estimate import Estimator, in_minutes
from harness.learning.trainings import schedule_trainings
from harness.machine import available_memory
from harness.plan import schedule
from harness.progress import Names
from harness.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

    from harness.plan import Plan
    from harness.runner import Checked

__all__ = ["planned", "print_planned"]


def planned(plan: Plan, checked: Checked) -> dict[str, Any]:
    """The plan as plain values; `checked` is what the check found out."""
    skips = checked.skips(available_memory())
    estimator = Estimator(checked.loads, skips)
    invocations = [
        {
            "number": invocation.number,
            "cell": invocation.cell.name,
            "workload": invocation.cell.workload,
            "parameters": invocation.cell.parameters,
            "runtime": invocation.runtime.name,
            "options": invocation.runtime.options,
            "block": invocation.block,
            "seed": invocation.seed,
            "warmup_rounds": invocation.cell.warmup_rounds,
            "rounds": invocation.cell.rounds,
            "measure_s": invocation.cell.measure_s,
            "estimate_s": estimator.seconds(invocation),
            "skipped": skips.get(invocation.pairing),
        }
        for invocation in schedule(plan)
    ]
    trainings = [
        {
            "number": training.number,
            "cell": training.cell.name,
            "workload": training.cell.workload,
            "parameters": training.cell.parameters,
            "runtime": training.runtime.name,
            "options": training.runtime.options,
            "seed": training.seed,
            "cap_rounds": training.cell.cap_rounds,
            "at_most_s": estimator.seconds(training.at_most),
            "skipped": skips.get(training.pairing),
        }
        for training in schedule_trainings(plan)
    ]
    return {
        "name": plan.name,
        "title": plan.title,
        "timeout_s": plan.timeout_s,
        "estimate_s": sum(invocation["estimate_s"] for invocation in invocations),
        "invocations": invocations,
        "trainings_at_most_s": sum(training["at_most_s"] for training in trainings),
        "trainings": trainings,
    }


def print_planned(plan: Plan, checked: Checked, console: Console) -> None:
    """The same for people."""
    invocations, trainings = schedule(plan), [training.at_most for training in schedule_trainings(plan)]
    skips = checked.skips(available_memory())
    estimator, names = Estimator(checked.loads, skips), Names([*invocations, *trainings])
    table = Table(title=plan.title, title_justify="left", box=None, pad_edge=False)
    has_names = any(plan.names)
    for heading in ("#", *(["name"] if has_names else []), "cell", "runtime", "block", "seed", "about"):
        table.add_column(heading, justify="left" if heading in {"name", "cell", "runtime"} else "right")
    for invocation in (*invocations, *trainings):
        table.add_row(
            str(invocation.number),
            *([invocation.cell.name] if has_names else []),
            names.cell(invocation),
            names.runtime(invocation),
            "training" if invocation in trainings else str(invocation.block),
            str(invocation.seed),
            "skipped" if invocation.pairing in skips else in_minutes(estimator.seconds(invocation)),
        )
    console.print(table, markup=False)
    planned_all = [*invocations, *trainings]
    skipped = {(names.cell(i), names.runtime(i)): skips[i.pairing] for i in planned_all if i.pairing in skips}
    for (cell, runtime), reason in skipped.items():
        console.print(f"Skipped: {cell} on {runtime}: {reason}.", highlight=False, markup=False)
    total = in_minutes(sum(map(estimator.seconds, invocations)))
    console.print(
        f"\n{plural(len(invocations), 'invocation')}, about {total}. This is an estimate: the start of each runtime "
        "is guessed, and slow rounds take longer.",
        highlight=False,
    )
    if trainings:
        longest = in_minutes(sum(map(estimator.seconds, trainings)))
        console.print(
            f"{plural(len(trainings), 'training')}, about {longest} if none of them ends at its target; evaluations "
            "come on top.",
            highlight=False,
        )
