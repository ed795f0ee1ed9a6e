"""A resumed run equals one that was never interrupted, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runtimes import reactor_runtimes, sequential
from tests.workloads.training.kit import graph
from workloads.dataflow import Digest, Graph, State

if TYPE_CHECKING:
    from pathlib import Path

    from runtimes.protocol import Runtime
    from workloads.dataflow import Session

PROGRAMS: dict[str, dict[str, Any]] = {
    # Episodes of 200 steps: 20 rounds of 15 steps end one, and the second is under way.
    "td3": {"algorithm": "td3", "steps": 15, "capacity": 2000},
    "dqn": {
        "algorithm": "dqn",
        "replay": "prioritized",
        "beta_steps": 200,
        "n_step": 3,
        "dueling": True,
        "double": True,
        "target_period": 4,
        "epsilon_steps": 200,
    },
    "ddpg": {"algorithm": "ddpg", "replay": "prioritized"},
    "sac": {"algorithm": "sac"},
}


def finished(session: Session, built: Graph, rounds: int) -> str:
    digest = Digest()
    for _ in range(rounds):
        session.advance(1)
        digest.add_received(built, session.received())
    digest.add(session.tallies())
    return digest.hexdigest()


def resumed(built: Graph, state: State, runtime: Runtime, scratch: Path, rounds: int, **options: Any) -> str:
    with runtime.open(built.resumed(state), runtime.options(**options), scratch) as session:
        return finished(session, built, rounds)


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("interrupted_after", [0, 2, 19])
def test_a_resumed_run_equals_one_that_was_never_interrupted(name, interrupted_after, tmp_path):
    built = graph(**PROGRAMS[name])
    with sequential.SequentialSession(built) as session:
        session.advance(interrupted_after)
        session.state().save(tmp_path / "state")
        expected = finished(session, built, 12)
        assert session.tallies()["optimiser"][0]["updates"] > 0
    state = State.load(tmp_path / "state")
    assert resumed(built, state, sequential.RUNTIME, tmp_path, 12) == expected


def test_a_run_goes_on_on_another_runtime(tmp_path):
    built = graph(**PROGRAMS["dqn"])
    with reactor_runtimes.PROCESSES.open(built, reactor_runtimes.PROCESSES.options(workers=2), tmp_path) as session:
        session.advance(19)
        state = session.state()
        expected = finished(session, built, 6)
    assert resumed(built, state, sequential.RUNTIME, tmp_path, 6) == expected
    assert resumed(built, state, reactor_runtimes.THREADS, tmp_path, 6, workers=2) == expected
