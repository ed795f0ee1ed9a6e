"""Results folders as a run leaves them, made without measuring."""

from __future__ import annotations

from random import Random

import msgspec

from harness.fingerprint import fingerprint
from harness.plan import Cell, Plan, PlanFile, RuntimeChoice
from harness.records import RecordFile
from harness.runner import Checked
from tests.harness.records_of import CARTPOLE, MACHINE, record

HERE = msgspec.to_builtins(fingerprint())
ELSEWHERE = HERE | {"memory_gib": 1, "cpu_model": "Testium 4"}


def machine(**changes):
    software = {"kernel": "Linux 9", "python": "CPython 3.99", "packages": {"numpy": "9.9"}, "commit": "c0ffee"}
    return MACHINE | software | {"tree_clean": True, "fingerprint": HERE} | changes


def rates(number=8, speed=1.0, noise=0.01, name="a"):
    """Steps a second of so many invocations."""
    random = Random(name)
    return [10_000 * speed * (1 + random.uniform(-noise, noise)) for _ in range(number)]


def plan_of(runtimes, invocations=8, rounds=50):
    cell = Cell(
        workload="simulation",
        parameters=CARTPOLE,
        runtimes=tuple(RuntimeChoice(name=name, options={}) for name in runtimes),
        warmup_rounds=50,
        rounds=rounds,
        measure_s=1.0,
        name="cartpole",
    )
    return Plan(name="tiny", title="Tiny", invocations=invocations, timeout_s=9.0, seed=0, cells=(cell,))


def run_folder(folder, runtimes, *, facts=None, plan=None, **changes):
    """A run whose `runtimes` did so many steps a second, or whose records are as given; and the folder's path."""
    folder.mkdir(parents=True)
    PlanFile(folder).write(plan or plan_of(runtimes))
    file = RecordFile(folder)
    for runtime, measured in runtimes.items():
        for block, rate in enumerate(measured):
            file.append(record(runtime, rate, block, **({"machine": facts or machine()} | changes)))
    return folder


def without_measuring(monkeypatch, rate=lambda _invocation, _number: 10_000):
    """Have a run in this process take no time; the list of what it measured, and by which version.

    `rate` says how many steps a second the so manieth invocation did.
    """
    made = []

    def measure(invocation, *, version, machine, **_):
        made.append((invocation, version))
        cell = invocation.cell
        fields = {"workload": cell.workload, "parameters": cell.parameters, "options": invocation.runtime.options}
        fields |= {"warmup_rounds": cell.warmup_rounds, "rounds": cell.rounds, "machine": machine}
        fields |= {"seed": invocation.seed, "side": invocation.side, "digest": f"digest-{invocation.seed}"}
        return record(invocation.runtime.name, rate(invocation, len(made)), invocation.block, **fields)

    monkeypatch.setattr("harness.runner.measure", measure)
    monkeypatch.setattr("harness.runner._check", lambda *_: Checked())
    monkeypatch.setattr("harness.runner.busy_fraction", lambda: 0.0)
    return made
