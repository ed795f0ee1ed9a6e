"""Results folders as a check and a run leave them, with whatever became of a cell, for tests of their page."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import msgspec

from harness.plan import Cell, Plan, PlanFile, RuntimeChoice
from harness.records import RecordFile
from harness.regression.check import BASE, HEAD, Design, DesignFile, SideFacts
from tests.harness.records_of import record

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = {
    "cpu_model": "Testium 3",
    "processors": 2,
    "memory_gib": 23.5,
    "kernel": "Linux 6.1",
    "python": "CPython 3.11.7",
    "packages": {"numpy": "2.4.6", "ray": "2.60.0"},
    "busy_before": 0.02,
    "fingerprint": {"governor": "performance", "caches": [32, 512], "container": None},
}
NASTY = "</script><img src=x onerror=alert(1)> \"quoted\" 'single' & \U0001f680 [bold] {{ 7 * 7 }}"
LONG = "x" * 300

VERDICTS = {
    "steady": "same",
    "slow": "slower",
    "quick": "faster",
    "noisy": "inconclusive",
    "crashing": "failed",
    "hanging": "timeout",
    "wrong": "invalid",
    "absent": "missing",
    "fresh": "new",
    "unlike": "not comparable",
}
"""By the name of a cell: what becomes of it in `write_check`."""


def invocation(runtime, name, block, *, rate=1000.0, values=240, **changes):
    """An invocation of the cell `name` at about `rate` units a second, with every round."""
    random = Random(f"{runtime} {name} {block} {changes.get('side')}")
    noise = changes.pop("noise", 0.002)
    mean_s = 15 / rate * random.lognormvariate(0, noise)
    rounds_s = [mean_s * random.lognormvariate(0, 0.05) for _ in range(values)]
    fields = {
        "workload": "simulation",
        "parameters": {"env_id": name, "envs": 15, "fragment": 1},
        "rounds_s": rounds_s,
        "measured_rounds": values,
        "measured_s": sum(rounds_s),
        "machine": MACHINE,
        "startup_s": 0.2,
        "started_at": "2026-03-01T12:00:00+00:00",
        "round_quantiles_s": {"p50": mean_s, "p95": 1.08 * mean_s, "p99": None},
    }
    return record(runtime, rate, block, **(fields | changes))


SIDES = {
    "slow": ({}, {"rate": 870.0}),
    "quick": ({}, {"rate": 1180.0}),
    "noisy": ({"noise": 0.3}, {"noise": 0.3}),
    "wrong": ({}, {"digest": "wrong"}),
    "unlike": ({}, {"digest": "another"}),
}
"""What base and head of a cell do otherwise."""
ENDINGS = {
    "crashing": {"outcome": "failed", "reason": f"RuntimeError: {NASTY}", "log": "logs/7.log", "rounds_s": []},
    "hanging": {"outcome": "timeout", "reason": "longer than 300 s", "rounds_s": []},
}
"""How an invocation of the head ends."""
BLOCKS = {"steady": 12, "absent": 1, "fresh": 1}
"""Those of a cell that has fewer than the others: one that is the same needs no second set."""


def check_records(names=tuple(VERDICTS), *, pairs=36, values=240):
    """The records of a check of one runtime on the cells `names`, in the order in which they would be measured."""
    return [
        one
        for block in range(pairs)
        for name in names
        if block < BLOCKS.get(name, pairs)
        for one in _pair(name, block, values)
    ]


def _pair(name, block, values):
    """The invocations of a cell in a block; a plain loop too where a digest is compared with its own."""
    common = {"digest": f"{name}-{block}", "values": values}
    base, head = SIDES.get(name, ({}, {}))
    if block == 3:
        head = head | ENDINGS.get(name, {})
    invocations = []
    if name != "fresh":
        invocations.append(invocation("reactor", name, block, side=BASE, **(common | base)))
    if name == "wrong":
        invocations += [invocation("sequential", name, block, side=side, **common) for side in (HEAD, BASE)]
    if name != "absent":
        invocations.append(invocation("reactor", name, block, side=HEAD, **(common | head)))
    return invocations


def write_check(folder: Path, records=None, *, base_name="v1.0", head_name="feature/faster-lanes") -> Path:
    """A results folder of a check, with a cell for each verdict."""
    records = check_records() if records is None else records
    cells = {}
    for one in records:
        key = one.workload, str(one.parameters)
        choice = RuntimeChoice(name=one.runtime, options=one.options)
        cell = cells.setdefault(key, {"workload": one.workload, "parameters": one.parameters, "runtimes": []})
        if choice not in cell["runtimes"]:
            cell["runtimes"].append(choice)
    plan = Plan(
        name="ci",
        title="What every change is checked by",
        invocations=36,
        timeout_s=300,
        seed=0,
        sides=(BASE, HEAD),
        cells=tuple(
            Cell(**(cell | {"runtimes": tuple(cell["runtimes"])}), warmup_rounds=50, rounds=50, measure_s=0.5)
            for cell in cells.values()
        ),
    )
    facts = {"reactorbench": "0.1.0", "protocol": 2, "python": "CPython 3.11.7", "packages": {"numpy": "2.4.6"}}
    return write_folder(
        folder,
        records,
        plan,
        Design(
            first_pairs=12,
            second_pairs=24,
            same=0.05,
            beyond=0.03,
            target=0.1,
            sides={BASE: SideFacts(name=base_name, **facts), HEAD: SideFacts(name=head_name, **facts)},
        ),
    )


def write_folder(folder: Path, records, plan=None, design=None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = RecordFile(folder)
    # As `append` does, without waiting for the disk every time.
    file.path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in records))
    if plan is not None:
        PlanFile(folder).write(plan)
    if design is not None:
        DesignFile(folder).write(design)
    return folder


def run_records(*, pairs=6, rates=None, **changes):
    """A run of some runtimes on one cell."""
    rates = rates or {"sequential": 1000, "reactor": 1800, "ray": 90, "ray-packed": 400}
    return [
        invocation(name, "CartPole-v1", block, rate=rate, digest=f"d{block}", **changes)
        for block in range(pairs)
        for name, rate in rates.items()
    ]
