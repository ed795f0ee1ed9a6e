"""Records as an invocation leaves them, for tests of what is made of them."""

from __future__ import annotations

from harness.records import Record

MACHINE = {"cpu_model": "Testium 3", "processors": 2}
CARTPOLE = {"env_id": "CartPole-v1", "envs": 15, "fragment": 1}


def record(runtime, rate, block=0, **changes):
    """An invocation that did 100 rounds of 15 steps at `rate` steps a second."""
    fields = {
        "workload": "simulation",
        "parameters": CARTPOLE,
        "runtime": runtime,
        "options": {},
        "seed": block,
        "block": block,
        "outcome": "ok",
        "digest": f"digest-{block}",
        "unit": "environment step",
        "units_per_round": 15,
        "warmup_rounds": 50,
        "rounds": 50,
        "measured_rounds": 100,
        "measured_s": 1500 / rate,
        "machine": MACHINE,
    }
    return Record(**(fields | changes))
