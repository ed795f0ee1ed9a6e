"""`q_learning`: transitions from real environments, a replay, a learner beside a textbook one, and equal bits."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import registry
from runtimes import processes_pipes, reactor_runtimes, sequential
from tests.moving import force_moves
from workloads.dataflow import Digest, EdgeShape, Gathered, Graph, Outputs, TaskContext
from workloads.q_learning import WORKLOAD, Learner, Parameters, Replay, Rollout, evaluate, network_of, transitions

if TYPE_CHECKING:
    from runtimes.protocol import Runtime
    from workloads.dataflow import Session

SMALL: dict[str, Any] = {"actors": 3, "steps": 20, "minibatch": 100, "capacity": 150, "hidden": 8, "updates": 2}


def graph_of(seed: int = 7, **parameters: Any) -> Graph:
    return WORKLOAD.build(Parameters(**parameters), seed)


def context_of(path: str, index: int = 0, seed: int = 7) -> TaskContext:
    return TaskContext(path=path, index=index, width=16, seed=seed)


def fired(task: Any, arrays: dict[str, Any], inputs: dict[str, Any]) -> dict[str, Any]:
    """What `task` fills of `arrays`, given `inputs`."""
    outputs = Outputs("task", arrays, {name: spec.zeros() for name, spec in arrays.items()})
    task.fire(inputs, outputs)
    return dict(outputs)


def rolled_out(parameters: Parameters, rounds: int = 1, weights: Any = None) -> list[dict[str, Any]]:
    """The transitions of actor 0, round by round; with random weights if none are given."""
    shape = network_of(parameters)
    rollout = Rollout(context_of("rollout"), parameters=parameters)
    if weights is None:
        weights = np.random.default_rng(5).normal(size=shape.weights).astype(np.float32)
    arrays = transitions((parameters.steps,), shape.features)
    gathered = [fired(rollout, arrays, {"weights": weights}) for _ in range(rounds)]
    rollout.close()
    return gathered


# -------------------------------------------------------------------------------------------- graph


@pytest.mark.parametrize("lag", [0, 2])
def test_weights_come_a_round_later_and_with_a_lag_so_many_more(lag):
    graph = graph_of(lag=lag)
    delays = {(str(edge.source), edge.shape, edge.delay) for edge in graph.edges if edge.delay}
    assert delays == {("learner.weights", EdgeShape.BROADCAST, 1 + lag)}
    assert [node.path for node in graph.tasks] == ["rollout", "replay", "learner"]


def test_a_unit_is_an_environment_step():
    graph = graph_of(actors=3, steps=20)
    assert (graph.unit, graph.units_per_round) == ("environment step", 60)


def test_every_edge_declares_its_array():
    graph = graph_of()
    assert all(port.array is not None for node in graph.tasks for port in node.outputs)


# ------------------------------------------------------------------------------------------ rollout


def features_of(env: Any, observation: Any) -> np.ndarray:
    if isinstance(env.observation_space, gymnasium.spaces.Discrete):
        return np.eye(env.observation_space.n, dtype=np.float32)[observation]
    return np.array(observation, np.float32)


@pytest.mark.parametrize("env_id", ["Blackjack-v1", "CartPole-v1", "FrozenLake-v1", "MountainCar-v0"])
def test_transitions_are_what_gymnasium_gives_for_the_same_actions(env_id):
    env = gymnasium.make(env_id)
    state, _ = env.reset(seed=context_of("rollout").seed_int("environment"))
    for transition in rolled_out(Parameters(env_id=env_id, steps=130), rounds=2):
        for at in range(130):
            assert np.array_equal(transition["observations"][at], features_of(env, state))
            state, reward, terminated, truncated, _ = env.step(int(transition["actions"][at]))
            assert np.array_equal(transition["next_observations"][at], features_of(env, state))
            assert transition["rewards"][at] == np.float32(reward)
            assert transition["terminated"][at] == terminated
            if terminated or truncated:
                state, _ = env.reset()
    env.close()


def test_a_truncated_episode_ends_in_its_own_last_observation_and_has_not_terminated():
    (transition,) = rolled_out(Parameters(env_id="MountainCar-v0", steps=201))
    assert not transition["terminated"].any()
    last, first = transition["next_observations"][199], transition["observations"][200]
    assert last[1] != 0
    assert first[1] == 0


def test_blackjack_has_the_rules_of_sutton_and_barto():
    rollout = Rollout(context_of("rollout"), parameters=Parameters())
    rules = rollout._env.env.unwrapped
    assert (rules.sab, rules.natural) == (True, False)


def test_without_exploration_every_action_is_the_best_of_the_network_in_torch():
    import torch

    parameters = Parameters(env_id="CartPole-v1", steps=300, epsilon=0)
    shape = network_of(parameters)
    weights = np.random.default_rng(0).normal(size=shape.weights).astype(np.float32)
    (transition,) = rolled_out(parameters, weights=weights)
    network = textbook_network(shape.features, shape.hidden, shape.actions)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(weights), network.parameters())
    with torch.no_grad():
        values = network(torch.from_numpy(transition["observations"])).numpy()
    chosen = np.take_along_axis(values, transition["actions"][:, np.newaxis], axis=1)[:, 0]
    assert np.allclose(chosen, values.max(axis=1), atol=1e-4)
    assert len(set(transition["actions"])) == 2


def test_as_many_actions_are_random_as_epsilon_says():
    shape = network_of(Parameters())
    always_stick = np.zeros(shape.weights, np.float32)
    always_stick[-2] = 1
    (transition,) = rolled_out(Parameters(steps=4000, epsilon=0.5, capacity=64_000), weights=always_stick)
    assert abs(transition["actions"].mean() - 0.25) < 0.03


def test_scale_divides_what_blackjack_shows():
    (plain,) = rolled_out(Parameters(epsilon=1))
    (scaled,) = rolled_out(Parameters(epsilon=1, scale=True))
    assert np.allclose(scaled["observations"], plain["observations"] / [32, 11, 1])


def test_actors_play_different_hands():
    graph = graph_of(**SMALL)
    with sequential.RUNTIME.open(graph, sequential.RUNTIME.options(), Path()) as session:
        session.advance(1)
        rewards = {member["reward"] for member in session.tallies()["rollout"]}
        first = [task.task._rng.random() for task in session._nodes["rollout"]]
    assert len(rewards) > 1
    assert len(set(first)) == 3


# ------------------------------------------------------------------------------------------- replay


def numbered(first: int, actors: int, steps: int) -> dict[str, Any]:
    """Transitions that can be told from one another: each field is made of the transition's number."""
    numbers = np.arange(first, first + actors * steps).reshape(actors, steps)
    return {
        "observations": numbers[..., np.newaxis].astype(np.float32),
        "actions": numbers,
        "rewards": numbers.astype(np.float32),
        "next_observations": numbers[..., np.newaxis].astype(np.float32) + 0.5,
        "terminated": numbers % 2 == 0,
    }


def drawn_from(parameters: Parameters, rounds: int, *, in_blocks: bool = False) -> list[dict[str, Any] | None]:
    """What the replay draws, round by round, and None where it draws nothing."""
    replay = Replay(context_of("replay"), parameters=parameters, features=1)
    specs = {
        f"sampled_{name}": spec for name, spec in transitions((parameters.updates, parameters.minibatch), 1).items()
    }
    drawn: list[dict[str, Any] | None] = []
    for number in range(rounds):
        # From 1 on: what was never kept is 0.
        arrived = numbered(1 + number * parameters.actors * parameters.steps, parameters.actors, parameters.steps)
        if in_blocks:
            arrived = {name: Gathered([array[:1], array[1:]]) for name, array in arrived.items()}
        outputs = Outputs("replay", specs, {}, optional=specs)
        replay.fire(arrived, outputs)
        drawn.append(dict(outputs.assigned) or None)
    return drawn


@given(
    actors=st.integers(1, 3),
    steps=st.integers(1, 5),
    minibatch=st.integers(1, 12),
    more=st.integers(0, 20),
    in_blocks=st.booleans(),
)
def test_the_oldest_are_those_at_the_front_of_a_queue(actors, steps, minibatch, more, in_blocks):
    capacity = max(minibatch, actors * steps) + more
    parameters = Parameters(
        actors=actors, steps=steps, minibatch=minibatch, capacity=capacity, updates=2, sampling="oldest"
    )
    queue: deque[int] = deque(maxlen=capacity)
    for number, drawn in enumerate(drawn_from(parameters, 8, in_blocks=in_blocks)):
        queue.extend(range(1 + number * actors * steps, 1 + (number + 1) * actors * steps))
        if len(queue) < minibatch:
            assert drawn is None
        else:
            assert drawn is not None
            assert drawn["sampled_actions"].tolist() == [list(queue)[:minibatch]] * 2


@pytest.mark.parametrize("sampling", ["uniform", "oldest"])
def test_what_is_drawn_of_a_transition_belongs_together(sampling):
    parameters = Parameters(actors=2, steps=5, minibatch=7, capacity=25, updates=3, sampling=sampling)
    drawn = drawn_from(parameters, 6)[-1]
    assert drawn is not None
    numbers = drawn["sampled_actions"]
    assert np.array_equal(drawn["sampled_observations"][..., 0], numbers)
    assert np.array_equal(drawn["sampled_rewards"], numbers)
    assert np.array_equal(drawn["sampled_next_observations"][..., 0], numbers + 0.5)
    assert np.array_equal(drawn["sampled_terminated"], numbers % 2 == 0)


def test_uniform_draws_all_that_is_kept_and_nothing_else():
    parameters = Parameters(actors=2, steps=5, minibatch=500, capacity=1000)
    draws = [drawn["sampled_actions"] for drawn in drawn_from(parameters, 110) if drawn]
    assert set(draws[0].ravel()) <= set(range(1, 501))
    later = np.concatenate(draws[-10:]).ravel()
    counts = np.bincount(later, minlength=1101)[101:1001]
    assert later.min() > 10
    assert abs(counts.mean() - 5) < 0.3
    assert (np.bincount(draws[-1].ravel()) > 1).any()


def test_uniform_minibatches_of_a_round_differ():
    drawn = drawn_from(Parameters(actors=2, steps=5, minibatch=10, capacity=10, updates=2), 1)[0]
    assert drawn is not None
    first, second = drawn["sampled_actions"]
    assert first.tolist() != second.tolist()


# ------------------------------------------------------------------------------------------ learner


def textbook_network(features: int, hidden: int, actions: int) -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, actions))


def minibatches(rng: np.random.Generator, parameters: Parameters) -> dict[str, Any]:
    lead = (parameters.updates, parameters.minibatch)
    return {
        "observations": rng.normal(size=(*lead, 3)).astype(np.float32),
        "actions": rng.integers(2, size=lead),
        "rewards": rng.normal(size=lead).astype(np.float32),
        "next_observations": rng.normal(size=(*lead, 3)).astype(np.float32),
        "terminated": rng.random(lead) < 0.3,
    }


def first_weights(parameters: Parameters) -> Any:
    return Learner(context_of("learner"), parameters=parameters, shape=network_of(parameters)).initial("weights")


def learnt(parameters: Parameters, rounds: list[dict[str, Any] | None]) -> tuple[Any, Any, int]:
    """First and last weights of a learner that is sent so much, and how many updates it tallies."""
    shape = network_of(parameters)
    learner = Learner(context_of("learner"), parameters=parameters, shape=shape)
    weights = np.zeros(shape.weights, np.float32)
    first = learner.initial("weights")
    nothing = dict.fromkeys(transitions((), 3))
    for minibatch in rounds:
        learner.fire(minibatch or nothing, Outputs("learner", ["weights"], {"weights": weights}))
    assert np.array_equal(learner.tallies()["weights"], weights)
    return first, weights, learner.tallies()["updates"]


def textbook_weights(first: Any, rounds: list[dict[str, Any]], *, target_after: range | list[int]) -> Any:
    """What the textbook's deep Q-learning makes of weights `first`; the target is copied after those updates."""
    import torch

    network, target = textbook_network(3, 32, 2), textbook_network(3, 32, 2)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(first.copy()), network.parameters())
    target.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    updates = 0
    for minibatch in rounds:
        tensors = {name: torch.from_numpy(array) for name, array in minibatch.items()}
        for number in range(len(tensors["actions"])):
            part = {name: tensor[number] for name, tensor in tensors.items()}
            with torch.no_grad():
                follows = target(part["next_observations"]).max(1)[0]
            wanted = part["rewards"] + 0.99 * follows * (1 - part["terminated"].float())
            values = network(part["observations"]).gather(1, part["actions"].unsqueeze(-1)).squeeze(-1)
            optimizer.zero_grad()
            torch.nn.MSELoss()(values, wanted).backward()
            optimizer.step()
            if updates in target_after:
                target.load_state_dict(network.state_dict())
            updates += 1
    return torch.nn.utils.parameters_to_vector(network.parameters()).detach().numpy()


def test_the_learner_learns_what_the_textbook_learns():
    parameters = Parameters(minibatch=64, updates=3)
    rng = np.random.default_rng(3)
    rounds = [minibatches(rng, parameters) for _ in range(9)]
    first, weights, updates = learnt(parameters, [*rounds])
    assert updates == 27
    expected = textbook_weights(first, rounds, target_after=[0, 10, 20])
    assert np.allclose(weights, expected, atol=1e-4)
    assert np.abs(weights - first).max() > 0.05


def test_the_comparison_with_the_textbook_notices_a_target_that_is_copied_an_update_early():
    parameters = Parameters(minibatch=64, updates=3)
    rng = np.random.default_rng(3)
    rounds = [minibatches(rng, parameters) for _ in range(9)]
    first, weights, _ = learnt(parameters, [*rounds])
    for wrong in ([9, 19], [0, 9, 19], [0, 10], range(27)):
        assert not np.allclose(weights, textbook_weights(first, rounds, target_after=wrong), atol=1e-3)


def test_without_a_minibatch_nothing_is_learnt():
    first, weights, updates = learnt(Parameters(), [None, None])
    assert np.array_equal(first, weights)
    assert updates == 0


def test_what_follows_counts_unless_the_environment_terminated():
    parameters = Parameters(minibatch=50)
    minibatch = minibatches(np.random.default_rng(1), parameters)
    elsewhere = minibatch | {"next_observations": minibatch["next_observations"] + 1}
    for terminated in (True, False):
        flags = {"terminated": np.full((1, 50), terminated)}
        _, here, _ = learnt(parameters, [minibatch | flags])
        _, there, _ = learnt(parameters, [elsewhere | flags])
        assert np.array_equal(here, there) == terminated


def test_first_weights_are_drawn_as_torch_draws_those_of_linear_layers():
    parts = np.split(np.abs(first_weights(Parameters(hidden=1000))), np.cumsum([3000, 1000, 2000]))
    assert all(
        0.99 * bound < part.max() <= bound
        for part, bound in zip(parts[:3], np.float32([3**-0.5, 3**-0.5, 1000**-0.5]), strict=True)
    )


# ----------------------------------------------------------------------------------------- runtimes


def digest_of(session: Session, graph: Graph) -> str:
    """Of what the learner received in all rounds, and of the tallies."""
    digest = Digest()
    with session:
        for rounds in (1, 1, 2, 1):
            session.advance(rounds)
            digest.add_received(graph, session.received())
        digest.add(session.tallies())
        assert session.tallies()["learner"][0]["updates"] > 0
    return digest.hexdigest()


def digest_on(runtime: Runtime, graph: Graph, **options: Any) -> str:
    # Shorter than pytest's tmp_path: Ray keeps sockets in it.
    scratch = Path(tempfile.mkdtemp(prefix="q-"))
    try:
        return digest_of(runtime.open(graph, runtime.options(**options), scratch), graph)
    finally:
        shutil.rmtree(scratch)


VARIANTS: list[dict[str, Any]] = [{}, {"lag": 2, "sampling": "oldest"}, {"env_id": "CartPole-v1"}]


@pytest.mark.parametrize(("seed", "variant"), list(enumerate(VARIANTS)))
def test_every_runtime_learns_the_same_bits_with_any_number_of_workers(seed, variant, monkeypatch):
    graph = graph_of(seed, **(SMALL | variant))
    expected = digest_on(sequential.RUNTIME, graph)
    runs: list[tuple[Runtime, dict[str, int]]] = [
        (reactor_runtimes.INLINE, {}),
        (reactor_runtimes.THREADS, {"workers": 2}),
        (reactor_runtimes.PROCESSES, {"workers": 2}),
        (reactor_runtimes.PROCESSES, {"workers": 3}),
        (processes_pipes.RUNTIME, {}),
    ]
    assert [digest_on(runtime, graph, **options) for runtime, options in runs] == [expected] * len(runs)
    # The learner has gone backward by then, and stays; only rollouts move to the forked process.
    moved = force_moves(monkeypatch, after_tags=4)
    assert digest_on(reactor_runtimes.AUTO, graph, workers=2) == expected
    assert moved == ["processes"]


def test_another_seed_learns_other_bits():
    digests = {digest_on(sequential.RUNTIME, graph_of(seed, **SMALL)) for seed in (0, 1)}
    assert len(digests) == 2


@pytest.mark.ray
@pytest.mark.parametrize(
    ("name", "options", "variant"),
    [
        ("ray-compiled", {}, {"lag": 1, "updates": 1}),
        ("ray-by-value", {"contiguous": False}, {"sampling": "oldest"}),
    ],
)
def test_ray_learns_the_same_bits(name, options, variant):
    graph = graph_of(0, **(SMALL | variant))
    assert digest_on(registry.runtimes().get(name), graph, **options) == digest_on(sequential.RUNTIME, graph)


# ----------------------------------------------------------------------------------------- learning


def mean_return(parameters, weights, seed=0):
    return np.mean(evaluate(parameters, {"learner": [{"weights": weights}]}, 20_000, seed))


def test_blackjack_is_learnt():
    parameters = Parameters(actors=8, steps=50, minibatch=400, updates=8)
    with sequential.RUNTIME.open(WORKLOAD.build(parameters, 0), sequential.RUNTIME.options(), Path()) as session:
        session.advance(25)
        ((learner),) = session.tallies()["learner"]
    # The bar of scripts/learning, with more steps and hands, is -0.10; random play gives -0.39.
    assert mean_return(parameters, learner["weights"]) > -0.15
    assert mean_return(parameters, first_weights(parameters)) < -0.15


def test_an_evaluation_deals_the_same_hands_for_the_same_seed_only():
    parameters = Parameters()
    weights = np.random.default_rng(0).normal(size=network_of(parameters).weights).astype(np.float32)
    assert mean_return(parameters, weights) == mean_return(parameters, weights) != mean_return(parameters, weights, 1)


def test_only_blackjack_is_played_in_hands():
    parameters = Parameters(env_id="CartPole-v1")
    weights = np.zeros(network_of(parameters).weights, np.float32)
    with pytest.raises(ValueError, match="env_id='CartPole-v1' cannot be evaluated in hands"):
        mean_return(parameters, weights)


# --------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"capacity": 1000}, "capacity=1000 does not hold the 1600 transitions of a round"),
        ({"capacity": 1700, "minibatch": 2000}, "does not hold the 2000 transitions of a minibatch"),
        ({"env_id": "CartPole-v1", "scale": True}, "scale=true does not go with env_id='CartPole-v1'"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(parameters, said):
    with pytest.raises(ValueError, match=said):
        Parameters(**parameters)


@pytest.mark.parametrize(
    ("env_id", "said"),
    [
        ("Pendulum-v1", "Q-learning chooses among Discrete actions"),
        ("ALE/Pong-v5", "the network takes a vector"),
        ("Blackjack-v9", "Did you mean"),
    ],
)
def test_an_environment_that_does_not_suit_is_refused(env_id, said):
    assert WORKLOAD.check is not None
    with pytest.raises(ValueError, match=said):
        WORKLOAD.check(Parameters(env_id=env_id))
