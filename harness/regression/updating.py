"""What goes into a stored baseline: a finished run that is sound, or one that is no worse than what is stored.

`update` refuses every cell that `compare` would not end well for, unless it is accepted by name and with a reason,
which then stays in the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from harness.errors import ExitStatus, UsageError, did_you_mean
from harness.plan import PlanFile
from harness.regression.baseline import (
    Baseline,
    Change,
    Environment,
    StoredCell,
    stored_seed,
    suite_hash,
)
from harness.regression.compare import Finished, compare_finished, finished_run
from harness.regression.judged import judge
from harness.regression.judging import Verdict
from harness.report import machine_line
from harness.statistics import LEAST_FOR_INTERVAL
from harness.wording import Labels, compact_json, in_ratio, in_si, plural, plural_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from rich.console import Console

    from harness.plan import PairingKey, Plan
    from harness.regression.baseline import BaselineFile
    from harness.regression.compare import Yardstick
    from harness.regression.judged import Judged
    from harness.regression.judging import Judgement

__all__ = ["Acceptance", "cell_name", "print_baseline", "save", "update"]

_NO_TIMES = {Verdict.FAILED, Verdict.TIMEOUT, Verdict.MISSING, Verdict.INVALID}
"""Verdicts whose cell has nothing that could be stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Which cells may get worse, and why."""

    cells: Sequence[str] = ()
    """Their names, or patterns that fit one name only."""
    reason: str = ""

    def check(self) -> None:
        """Make sure that there is a reason exactly where there are cells.

        Raises:
            UsageError: if there is not.
        """
        if self.cells and not self.reason.strip():
            raise UsageError(
                f"--accept {self.cells[0]!r} needs a reason, which is kept in the baseline. Add --reason TEXT."
            )
        if self.reason and not self.cells:
            raise UsageError("--reason is why a cell is accepted, and none is. Add --accept CELL, or leave it out.")


def save(file: BaselineFile, run: Path) -> Baseline:
    """Store the run in folder `run` as a new baseline.

    Raises:
        UsageError: if there is one of that name, or the run is not sound: a cell failed or was not measured, computed
            something else, or has fewer than six seeds; it is of several commits or machines.
    """
    if file.path.exists():
        raise UsageError(
            f"There is a baseline '{file.name}' already. Choose another name, or: "
            f"reactorbench baseline update {file.name} {run}"
        )
    finished, plan = finished_run(run), _plan_of(run)
    # Against nothing, every cell is new, or there is a reason why it cannot be stored.
    judgements = judge({}, finished.samples, order=finished.pairings, interleaved=False)
    wrong = [one for one in judgements if one.verdict is not Verdict.NEW]
    if wrong:
        names = Labels(judgements)
        listed = "\n".join(f"  {cell_name(names, one)}: {_why(one)}" for one in wrong)
        raise UsageError(
            f"{plural(len(wrong), 'cell')} of {run} cannot be a baseline:\n{listed}\n"
            f"Repair that and measure it again (reactorbench run --resume --out {run}), or leave it out of the suite."
        )
    baseline = _made(finished, plan, finished.samples, history=[])
    file.write(baseline)
    return baseline


def update(  # noqa: PLR0913 - what decides over an update
    file: BaselineFile, run: Path, acceptance: Acceptance, yardstick: Yardstick, *, now: datetime, force: bool = False
) -> tuple[Baseline, Judged]:
    """Store the run in folder `run` in place of the baseline in `file`, and return it and how the two compare.

    Raises:
        UsageError: if a cell is worse and not accepted, or one is accepted that is not; if the run cannot be stored,
            or is of another machine and `force` is false.
    """
    acceptance.check()
    stored, finished, plan = file.read(), finished_run(run), _plan_of(run)
    judged = compare_finished(stored.finished(file.name), finished, yardstick, force=force)
    labels = Labels(judged.judgements)
    names = {cell_name(labels, one): one for one in judged.judgements}
    worse = {name: one for name, one in names.items() if one.status is not ExitStatus.OK}
    accepted = _accepted(acceptance.cells, names, worse)
    refused = {name: one for name, one in worse.items() if name not in accepted}
    if refused:
        listed = "\n".join(f"  {name}: {_why(one)}" for name, one in refused.items())
        raise UsageError(
            f"{plural(len(refused), 'cell')} of {run} cannot take the place of what baseline '{file.name}' has:\n"
            f"{listed}\nRepair that, or accept each of them: --accept '{next(iter(refused))}' --reason TEXT"
        )
    commit = finished.facts["commit"]
    changes = [
        Change(
            date=now.isoformat(timespec="seconds"),
            commit=commit,
            cell=name,
            verdict=one.verdict.value,
            ratio=None if one.ratio is None else float(f"{one.ratio.point:.4g}"),
            reason=acceptance.reason.strip(),
        )
        for name, one in accepted.items()
    ]
    kept = {
        pairing: finished.samples[pairing]
        for pairing, one in _by_pairing(judged.judgements).items()
        if one.verdict not in _NO_TIMES
    }
    baseline = _made(finished, plan, kept, history=[*stored.history, *changes])
    file.write(baseline)
    return baseline, judged


def print_baseline(baseline: Baseline, console: Console) -> None:
    """Where it comes from, a line for each cell and runtime, and what was accepted."""
    from rich.table import Table

    state = {True: "", False: ", with changes", None: ", changes unknown"}[baseline.tree_clean]
    software = ", ".join(filter(None, [baseline.environment.python, baseline.environment.kernel]))
    lines = [
        f"{baseline.title} (suite {baseline.suite}, {baseline.suite_hash})",
        f"commit {baseline.commit or 'unknown'}{state if baseline.commit else ''}",
        f"{machine_line([baseline.machine])}; {software or 'software unknown'}",
    ]
    _print(console, *lines)
    finished = baseline.finished("")
    judged = judge({}, finished.samples, order=finished.pairings, interleaved=False)
    labels = Labels(judged)
    table = Table(box=None, pad_edge=False)
    for heading in ("cell", "runtime", "speed", "rounds", "seeds"):
        table.add_column(heading, justify="left" if heading in {"cell", "runtime"} else "right")
    for one, cell in zip(judged, baseline.cells, strict=True):
        stored = cell.seeds.values()
        units = (cell.units_per_round or 0) * sum(one_seed.measured_rounds for one_seed in stored)
        speed = f"{in_si(units / math.fsum(s.measured_s for s in stored))} {plural_of(cell.unit or 'unit')}/s"
        seeds = f"{min(cell.seeds)}-{max(cell.seeds)}" if len(cell.seeds) > 1 else str(min(cell.seeds))
        table.add_row(labels.full_cell(one), labels.runtime(one), speed, str(cell.rounds), seeds)
    console.print(table, markup=False, highlight=False)
    for change in baseline.history:
        ratio = "" if change.ratio is None else f", {in_ratio(change.ratio)}"
        _print(console, f"{change.date}: {change.cell} accepted as {change.verdict}{ratio}: {change.reason}")


def _print(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def cell_name(labels: Labels, one: Judgement) -> str:
    """`simulation: CartPole-v1 x 15 on reactor`: how a cell is named here, and accepted."""
    return f"{labels.full_cell(one)} on {labels.runtime(one)}"


def _accepted(
    patterns: Sequence[str], names: Mapping[str, Judgement], worse: Mapping[str, Judgement]
) -> dict[str, Judgement]:
    """The cells that `patterns` name.

    Raises:
        UsageError: for a pattern that fits none or several of `names`, or one that need not be accepted.
    """
    found: dict[str, Judgement] = {}
    for pattern in patterns:
        fitting = [pattern] if pattern in names else [name for name in names if _fits(pattern, name)]
        if not fitting:
            raise UsageError(f"--accept '{pattern}' fits no cell. {did_you_mean(pattern, names)}")
        if len(fitting) > 1:
            listed = ", ".join(f"'{name}'" for name in fitting)
            raise UsageError(f"--accept '{pattern}' fits {len(fitting)} cells: {listed}. Name one at a time.")
        (name,) = fitting
        if name not in worse:
            raise UsageError(
                f"--accept '{pattern}': '{name}' is {names[name].verdict.value}, so there is nothing to accept. "
                "Leave it out."
            )
        found[name] = worse[name]
    return found


def _fits(pattern: str, name: str) -> bool:
    return pattern in name or fnmatchcase(name, pattern)


def _by_pairing(judgements: Sequence[Judgement]) -> dict[PairingKey, Judgement]:
    return {(one.workload, compact_json(one.parameters), *one.key): one for one in judgements}


def _why(one: Judgement) -> str:
    """Verdict, ratio and reasons in a line."""
    ratio = f", {in_ratio(one.ratio.point)} the speed" if one.ratio else ""
    hides = ", and may be slower" if one.hides_target else ""
    reasons = f": {'; '.join(one.reasons)}" if one.reasons else ""
    return f"{one.verdict.value}{ratio}{hides}{reasons}"


def _plan_of(run: Path) -> Plan:
    """The plan of the run in folder `run`.

    Raises:
        UsageError: if it has none.
    """
    plan = PlanFile(run).read_if_there()
    if plan is None:
        raise UsageError(
            f"{run} has no plan.json, so what it measured has no name and cannot be measured again. Save the folder "
            "of a run that reactorbench made."
        )
    return plan


def _made(
    finished: Finished, plan: Plan, samples: Mapping[PairingKey, Mapping[int, Any]], *, history: list[Change]
) -> Baseline:
    """The baseline of `samples`, in the order of the plan.

    Raises:
        UsageError: if the run is of several commits or machines, or a cell has too few seeds.
    """
    machine = _only_machine(finished)
    cells = [_cell(samples[pairing]) for pairing in dict.fromkeys([*finished.pairings, *samples]) if pairing in samples]
    few = [cell for cell in cells if len(cell.seeds) < LEAST_FOR_INTERVAL]
    if few:
        raise UsageError(
            f"{finished.name} has {plural(len(few[0].seeds), 'seed')} of {few[0].workload} on {few[0].runtime}; a "
            f"baseline needs {LEAST_FOR_INTERVAL} or more. Measure more blocks: reactorbench run ... --invocations 12"
        )
    packages = machine.get("packages") or {}
    return Baseline(
        suite=plan.name,
        title=plan.title,
        suite_hash=suite_hash(plan),
        commit=machine.get("commit"),
        tree_clean=machine.get("tree_clean"),
        fingerprint=machine["fingerprint"],
        environment=Environment(
            kernel=machine.get("kernel"),
            python=machine.get("python"),
            packages={name: version for name, version in packages.items() if version is not None},
            thread_limits=machine.get("thread_limits") or {},
        ),
        cells=cells,
        history=history,
    )


def _only_machine(finished: Finished) -> Mapping[str, Any]:
    """The facts about the machine and the software that all records share.

    Raises:
        UsageError: if they do not, or have no fingerprint.
    """
    for name, what in (("fingerprint", "machines"), ("commit", "commits"), ("packages", "sets of packages")):
        found = {compact_json(machine.get(name)) for machine in finished.machines}
        if len(found) > 1:
            raise UsageError(
                f"The records of {finished.name} come from {len(found)} different {what}; a baseline is of one. "
                "Measure into a new folder, without a break."
            )
    if not finished.fingerprints:
        raise UsageError(
            f"The records of {finished.name} have no fingerprint of their machine, without which nobody can tell "
            "where a baseline holds. Measure again with this version of reactorbench."
        )
    states = [machine.get("tree_clean") for machine in finished.machines]
    clean = False if False in states else states[-1]
    return {**finished.machines[-1], "tree_clean": clean}


def _cell(samples: Mapping[int, Any]) -> StoredCell:
    """The `ok` ones of `samples`, by seed."""
    records = {seed: sample.record for seed, sample in sorted(samples.items()) if sample.record.outcome == "ok"}
    first = next(iter(records.values()))
    return StoredCell(
        workload=first.workload,
        parameters=first.parameters,
        runtime=first.runtime,
        options=first.options,
        is_bound=first.is_bound,
        differs=first.differs,
        warmup_rounds=first.warmup_rounds,
        rounds=first.rounds,
        unit=first.unit,
        units_per_round=first.units_per_round,
        seeds={seed: stored_seed(record) for seed, record in records.items()},
    )
