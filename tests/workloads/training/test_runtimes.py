"""Every runtime learns the same bits, with any number of workers, and with either store of the replay."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness import registry
from runtimes import processes_pipes, reactor_runtimes, sequential
from tests.moving import force_moves
from tests.workloads.training.kit import graph
from workloads.dataflow import Digest
from workloads.replay import rings

if TYPE_CHECKING:
    from runtimes.protocol import Runtime
    from workloads.dataflow import Graph

VARIANTS: dict[str, dict[str, Any]] = {
    "dqn": {"algorithm": "dqn", "replay": "prioritized", "n_step": 3, "dueling": True, "double": True},
    "ddpg": {"algorithm": "ddpg", "steps": 3},
    "td3": {"algorithm": "td3"},
    "sac": {"algorithm": "sac", "replay": "prioritized", "learners": 3},
}


def digest_on(runtime: Runtime, built: Graph, **options: Any) -> str:
    """Of what the optimiser received in all rounds looked at, and of the tallies."""
    digest = Digest()
    # Shorter than pytest's tmp_path: Ray keeps sockets in it.
    scratch = Path(tempfile.mkdtemp(prefix="t-"))
    try:
        with runtime.open(built, runtime.options(**options), scratch) as session:
            for rounds in (1, 4, 1, 10, 1):
                session.advance(rounds)
                digest.add_received(built, session.received())
            tallies = session.tallies()
    finally:
        shutil.rmtree(scratch)
    digest.add(tallies)
    assert tallies["optimiser"][0]["updates"] > 8
    return digest.hexdigest()


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """What the plain loop learns, by variant."""
    return {name: digest_on(sequential.RUNTIME, graph(**variant)) for name, variant in VARIANTS.items()}


@pytest.mark.parametrize(
    ("name", "runtime", "options"),
    [
        ("td3", reactor_runtimes.INLINE, {}),
        ("td3", reactor_runtimes.PROCESSES, {"workers": 2}),
        ("dqn", reactor_runtimes.PROCESSES, {"workers": 3}),
        ("sac", processes_pipes.RUNTIME, {}),
        *((name, reactor_runtimes.THREADS, {"workers": 2}) for name in VARIANTS),
    ],
)
def test_every_runtime_learns_the_same_bits_with_any_number_of_workers(name, runtime, options, expected):
    assert digest_on(runtime, graph(**VARIANTS[name]), **options) == expected[name]


@pytest.mark.parametrize("name", VARIANTS)
def test_learners_that_have_gone_backward_move_to_a_forked_process(name, expected, monkeypatch):
    moved = force_moves(monkeypatch, after_tags=12)
    assert digest_on(reactor_runtimes.AUTO, graph(**VARIANTS[name]), workers=2) == expected[name]
    assert moved == ["processes"]


@pytest.mark.parametrize("name", ["dqn", "td3"])
def test_either_store_of_the_replay_gives_the_same_bits(name, expected, monkeypatch):
    asked_for: list[str] = []
    monkeypatch.setattr(rings, "compiled", asked_for.append)
    assert digest_on(sequential.RUNTIME, graph(**VARIANTS[name])) == expected[name]
    assert asked_for


def test_another_seed_learns_other_bits(expected):
    assert digest_on(sequential.RUNTIME, graph(0, **VARIANTS["td3"])) != expected["td3"]


@pytest.mark.ray
@pytest.mark.parametrize(("runtime", "name"), [("ray", "td3"), ("ray-packed", "dqn"), ("ray-compiled", "sac")])
def test_ray_learns_the_same_bits(runtime, name, expected):
    assert digest_on(registry.runtimes().get(runtime), graph(**VARIANTS[name])) == expected[name]
