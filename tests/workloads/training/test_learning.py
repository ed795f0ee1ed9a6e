"""It learns: short runs to a lower bar than the curves that are published."""

from __future__ import annotations

from typing import Any

import numpy as np

from runtimes.sequential import SequentialSession
from workloads.training import WORKLOAD, Parameters, evaluate


def returns_after(parameters: Any, steps: int, episodes: int = 10) -> tuple[float, float]:
    """The mean return before, and after so many environment steps."""
    graph = WORKLOAD.build(parameters, 1)
    with SequentialSession(graph) as session:
        before = evaluate(parameters, session.tallies(), episodes, 5)
        session.advance(steps // graph.units_per_round)
        after = evaluate(parameters, session.tallies(), episodes, 5)
    return float(np.mean(before)), float(np.mean(after))


def test_a_pendulum_is_swung_up():
    before, after = returns_after(Parameters(algorithm="ddpg"), 8000)
    assert before < -900
    assert after > -500


def test_a_pole_is_balanced_for_a_while():
    faster = {"double": True, "dueling": True, "n_step": 3, "hidden": "64,64"}
    of_run = {"rate": 0.003, "reward_scale": 0.1, "capacity": 50_000, "epsilon_steps": 5000, "epsilon_end": 0.02}
    before, after = returns_after(Parameters(algorithm="dqn", **faster, **of_run), 8000)
    assert before < 60
    assert after > 120


def test_evaluations_follow_from_their_arguments_alone():
    parameters = Parameters(algorithm="sac", hidden="8")
    with SequentialSession(WORKLOAD.build(parameters, 0)) as session:
        tallies = session.tallies()
    first = evaluate(parameters, tallies, 3, 5)
    assert first == evaluate(parameters, tallies, 3, 5)
    assert first[:2] == evaluate(parameters, tallies, 2, 5)
    assert len(set(first)) == 3
    assert first != evaluate(parameters, tallies, 3, 6)
