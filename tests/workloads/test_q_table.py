"""`q_table`: the textbook's Q-learning in each actor, averaged; equal bits on every runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest

from runtimes import reactor_runtimes, sequential
from tests.moving import force_moves
from workloads.dataflow import Digest, EdgeShape, Gathered, Graph, Outputs, TaskContext
from workloads.q_table import WORKLOAD, Actor, Average, Parameters, _best

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtimes.protocol import Runtime

CONTEXT = TaskContext(path="actor", index=0, width=16, seed=3)


def graph_of(seed: int = 3, **parameters: Any) -> Graph:
    return WORKLOAD.build(Parameters(**parameters), seed)


def learnt(parameters: Parameters, table: Any, rounds: int = 1) -> Any:
    """What actor 0 makes of `table`, sent to it again and again; its last answer."""
    actor = Actor(CONTEXT, parameters=parameters)
    answer = np.zeros_like(table)
    for _ in range(rounds):
        actor.fire({"table": table}, Outputs("actor", ["learnt"], {"learnt": answer}))
    actor.close()
    return answer


@pytest.mark.parametrize("lag", [0, 2])
def test_the_table_comes_a_round_later_and_with_a_lag_so_many_more(lag):
    delays = {(str(edge.source), edge.shape, edge.delay) for edge in graph_of(lag=lag).edges}
    assert delays == {
        ("actor.learnt", EdgeShape.GATHER, 0),
        ("average.table", EdgeShape.BROADCAST, 1 + lag),
    }


def test_a_unit_is_an_environment_step():
    graph = graph_of(actors=3, steps=20)
    assert (graph.unit, graph.units_per_round) == ("environment step", 60)


@pytest.fixture
def short_lake() -> Iterator[str]:
    """FrozenLake, truncated after three steps."""
    entry_point = gymnasium.spec("FrozenLake-v1").entry_point
    gymnasium.register("ShortLake-v0", entry_point, max_episode_steps=3)
    yield "ShortLake-v0"
    del gymnasium.registry["ShortLake-v0"]


@pytest.mark.parametrize(("env_id", "end"), [("FrozenLake-v1", "terminated"), ("ShortLake-v0", "truncated")])
def test_an_actor_learns_what_the_textbook_learns_of_its_random_actions(env_id, end, short_lake):
    """With epsilon 1 the actions are known."""
    env = gymnasium.make(env_id)
    steps = 250
    ends = set()
    table = np.random.default_rng(0).random((env.observation_space.n, env.action_space.n))
    rng = CONTEXT.rng("exploration")
    rng.random(steps)
    actions = rng.integers(env.action_space.n, size=steps).tolist()
    expected = table.copy()
    state, _ = env.reset(seed=CONTEXT.seed_int("environment"))
    for action in actions:
        after, reward, terminated, truncated, _ = env.step(action)
        target = reward + 0.99 * expected[after].max() * (not terminated)
        expected[state, action] += 0.5 * (target - expected[state, action])
        state = env.reset()[0] if terminated or truncated else after
        ends |= {name for name, ended in (("terminated", terminated), ("truncated", truncated)) if ended}
    env.close()
    assert end in ends
    assert np.allclose(learnt(Parameters(env_id=env_id, steps=steps, epsilon=1), table), expected, rtol=1e-12)


def test_an_actor_leaves_the_table_that_it_is_sent():
    table = np.random.default_rng(0).random((16, 4))
    table.flags.writeable = False
    assert not np.array_equal(learnt(Parameters(), table), table)


def test_among_equal_values_chance_decides():
    assert [_best([1.0, 2.0, 0.0, 2.0], choice) for choice in (0.0, 0.49, 0.5, 0.99)] == [1, 1, 3, 3]
    assert {_best([5.0, 2.0], choice) for choice in (0.0, 0.99)} == {0}


def test_from_a_table_of_zeros_an_actor_takes_more_than_one_action():
    learnt_values = learnt(Parameters(env_id="CliffWalking-v1", epsilon=0, steps=30), np.zeros((48, 4)))
    assert len(set(np.nonzero(learnt_values)[1])) > 1


@pytest.mark.parametrize("in_blocks", [False, True])
def test_tables_are_averaged_in_index_order(in_blocks):
    tables = np.random.default_rng(1).random((5, 16, 4)) * [[[1e8]], [[1]], [[1e-8]], [[1]], [[1e8]]]
    average = Average(CONTEXT, shape=(16, 4))
    out = np.zeros((16, 4))
    sent = Gathered([tables[:2], tables[2:]]) if in_blocks else tables
    average.fire({"tables": sent}, Outputs("average", ["table"], {"table": out}))
    expected = ((((tables[0] + tables[1]) + tables[2]) + tables[3]) + tables[4]) / 5
    assert np.array_equal(out, expected)
    assert np.array_equal(average.tallies()["table"], expected)


def digest_on(runtime: Runtime, graph: Graph, **options: Any) -> str:
    digest = Digest()
    with runtime.open(graph, runtime.options(**options), Path()) as session:
        for rounds in (1, 1, 4):
            session.advance(rounds)
            digest.add_received(graph, session.received())
        digest.add(session.tallies())
    return digest.hexdigest()


@pytest.mark.parametrize(("seed", "lag"), [(0, 0), (1, 2)])
def test_every_runtime_learns_the_same_bits_with_any_number_of_workers(seed, lag, monkeypatch):
    graph = graph_of(seed, actors=5, steps=60, lag=lag)
    expected = digest_on(sequential.RUNTIME, graph)
    runs: list[tuple[Runtime, dict[str, int]]] = [
        (reactor_runtimes.INLINE, {}),
        (reactor_runtimes.THREADS, {"workers": 2}),
        (reactor_runtimes.PROCESSES, {"workers": 3}),
    ]
    assert [digest_on(runtime, graph, **options) for runtime, options in runs] == [expected] * len(runs)
    moved = force_moves(monkeypatch, after_tags=4)
    assert digest_on(reactor_runtimes.AUTO, graph, workers=2) == expected
    assert moved == ["processes"]
    assert digest_on(sequential.RUNTIME, graph_of(seed + 1, actors=5, steps=60, lag=lag)) != expected


def test_frozen_lake_is_learnt():
    graph = graph_of(0)
    with sequential.RUNTIME.open(graph, sequential.RUNTIME.options(), Path()) as session:
        session.advance(40)
        before = session.tallies()["actor"]
        session.advance(10)
        after = session.tallies()["actor"]
    won, played = (
        sum(late[name] - early[name] for early, late in zip(before, after, strict=True))
        for name in ("reward", "resets")
    )
    # Random play crosses the lake in one of 70 episodes.
    assert won / played > 0.2


@pytest.mark.parametrize(
    ("env_id", "said"),
    [
        ("Blackjack-v1", "a table has a row for each of Discrete observations"),
        ("Pendulum-v1", "Q-learning chooses among Discrete actions"),
    ],
)
def test_an_environment_that_does_not_suit_is_refused(env_id, said):
    assert WORKLOAD.check is not None
    with pytest.raises(ValueError, match=said):
        WORKLOAD.check(Parameters(env_id=env_id))
