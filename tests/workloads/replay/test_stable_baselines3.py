"""The buffer in Stable-Baselines3 itself."""

from __future__ import annotations

import functools
import warnings
from importlib.util import find_spec
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.lazily import Lazily
from tests.pages import examples_in, run_here

pytestmark = pytest.mark.skipif(
    find_spec("stable_baselines3") is None, reason="stable-baselines3 (extra replay-peers) is not installed"
)

adapter = Lazily("workloads.replay.adapters.stable_baselines3")
algorithms = Lazily("stable_baselines3")
buffers = Lazily("stable_baselines3.common.buffers")
vec_env = Lazily("stable_baselines3.common.vec_env")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "replay-frameworks.md"
EXAMPLES = examples_in(PAGE, "stable_baselines3")

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (2,), np.float32)
ACTIONS = spaces.Discrete(3)

ALGORITHMS = [("DQN", "CartPole-v1"), ("DDPG", "Pendulum-v1"), ("TD3", "Pendulum-v1"), ("SAC", "Pendulum-v1")]


@functools.cache
def seen():
    """A class of buffers that keep what comes back."""

    class Seen(adapter.PrioritizedReplayBuffer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.seen = []

        def update_priorities(self, samples, errors):
            self.seen.append((samples, errors.numpy().copy()))
            return super().update_priorities(samples, errors)

    return Seen


class TwoSenses(gym.Env):
    """Observes a dict; an episode ends after five steps, by its time limit."""

    observation_space = spaces.Dict(
        {"eye": spaces.Box(0, 255, (3,), np.uint8), "ear": spaces.Box(-1, 1, (2,)), "taste": spaces.Discrete(4)}
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.observation(), {}

    def step(self, action):
        self.time += 1
        return self.observation(), float(action), False, self.time == 5, {}

    def observation(self):
        return {
            "eye": np.full(3, self.time, np.uint8),
            "ear": np.full(2, self.time / 10, np.float32),
            "taste": np.int64(self.time % 4),
        }


def made(algorithm, env, *, policy="MlpPolicy", **arguments):
    defaults = {"learning_starts": 20, "batch_size": 8, "train_freq": 1, "buffer_size": 300, "seed": 1, "device": "cpu"}
    module = adapter if algorithm.startswith("Prioritized") else algorithms
    return getattr(module, algorithm)(policy, env, policy_kwargs={"net_arch": [8]}, **(defaults | arguments))


def filled(rows=6, n_envs=1, *, capacity=60, **arguments):
    """A buffer whose k-th step of environment e has reward 100 e + k and observations that hold it."""
    buffer = adapter.PrioritizedReplayBuffer(
        capacity, OBSERVATIONS, ACTIONS, device="cpu", n_envs=n_envs, seed=0, **arguments
    )
    for step in range(rows):
        add(buffer, step)
    return buffer


def add(buffer, step, *, done=False, truncated=False):
    rewards = np.array([100 * env + step for env in range(buffer.n_envs)], np.float32)
    observations = np.stack([rewards, rewards], axis=1)
    buffer.add(
        observations,
        observations + 1,
        np.full(buffer.n_envs, step % 3),
        rewards,
        np.full(buffer.n_envs, done),
        [{"TimeLimit.truncated": truncated}] * buffer.n_envs,
    )


@pytest.mark.parametrize(
    ("name", "env", "arguments"),
    [*((name, env, {}) for name, env in ALGORITHMS), ("SAC", "Pendulum-v1", {"ent_coef": 0.1, "use_sde": True})],
)
def test_with_equal_priorities_an_algorithm_learns_what_that_of_stable_baselines3_learns(name, env, arguments):
    uniform = {"replay_buffer_class": adapter.PrioritizedReplayBuffer, "replay_buffer_kwargs": {"alpha": 0.0}}
    prioritized = made(f"Prioritized{name}", env, **uniform, **arguments).learn(40)
    plain = made(name, env, **uniform, **arguments).learn(40)

    expected = plain.policy.state_dict()
    for key, value in prioritized.policy.state_dict().items():
        torch.testing.assert_close(value, expected[key], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("name", "env"), ALGORITHMS)
def test_losses_are_weighted_and_errors_become_priorities(name, env):
    arguments = {"replay_buffer_class": seen(), "replay_buffer_kwargs": {"alpha": 1.0, "beta": 1.0}}
    model = made(f"Prioritized{name}", env, **arguments)
    if name != "DQN":
        model.policy_kwargs["n_critics"] = 1
        model.replay_buffer = None
        model._setup_model()
    model.learn(45)
    model.logger.name_to_value.clear()
    model.train(gradient_steps=1, batch_size=32)

    samples, errors = model.replay_buffer.seen[-1]
    weights = samples.weights.numpy().ravel()
    assert weights.max() == 1
    assert weights.min() < 0.9
    squares = errors**2
    losses = {"DQN": np.where(errors < 1, squares / 2, errors - 0.5), "SAC": squares / 2}.get(name, squares)
    logged = {
        name: value for name, value in model.logger.name_to_value.items() if name.endswith(("critic_loss", "/loss"))
    }
    assert list(logged.values()) == [pytest.approx((weights * losses).mean(), rel=1e-5)]
    # With alpha and beta of 1, a weight is the least priority of a batch divided by the row's own.
    again = model.replay_buffer.sample(500)
    last = dict(zip(samples.indices.tolist(), (errors + model.replay_buffer.eps).tolist(), strict=True))
    found = np.array([last.get(index, np.nan) for index in again.indices])
    products = (found * again.weights.numpy().ravel())[np.isfinite(found)]
    assert len(products) > 100
    np.testing.assert_allclose(products, products[0], rtol=1e-4)


def test_the_gradient_is_that_of_the_weighted_loss():
    arguments = {"replay_buffer_class": seen(), "replay_buffer_kwargs": {"alpha": 1.0, "beta": 1.0}}
    model = adapter.PrioritizedDQN(
        "MlpPolicy",
        "CartPole-v1",
        learning_starts=1000,
        policy_kwargs={"net_arch": [8], "optimizer_class": torch.optim.SGD},
        learning_rate=0.1,
        max_grad_norm=1e9,
        buffer_size=100,
        seed=1,
        device="cpu",
        **arguments,
    ).learn(50)
    model.replay_buffer.replay.update_priorities(np.arange(50), np.linspace(1, 5, 50))
    before = [parameter.detach().clone() for parameter in model.q_net.parameters()]
    model.train(gradient_steps=1, batch_size=16)
    moved = [(old - new.detach()) / 0.1 for old, new in zip(before, model.q_net.parameters(), strict=True)]

    samples, _ = model.replay_buffer.seen[-1]
    for old, parameter in zip(before, model.q_net.parameters(), strict=True):
        parameter.data.copy_(old)
    with torch.no_grad():
        best = model.q_net_target(samples.next_observations).max(dim=1).values
        targets = samples.rewards[:, 0] + (1 - samples.dones[:, 0]) * model.gamma * best
    total = torch.zeros(())
    for row in range(16):
        value = model.q_net(samples.observations)[row, samples.actions[row, 0]]
        total = total + samples.weights[row, 0] * torch.nn.functional.smooth_l1_loss(value, targets[row])
    expected = torch.autograd.grad(total / 16, list(model.q_net.parameters()))

    assert samples.weights.min() < 0.5
    for one, other in zip(moved, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_the_docs_show_trains_on_weights(example):
    printed, names = run_here(PAGE, example)

    assert printed == EXAMPLES[example].output
    buffer = names["model"].replay_buffer
    assert len(np.unique(buffer.sample(200).weights)) > 20
    if example == "stable_baselines3_dqn.py":
        assert buffer.beta > 0.99
        assert np.isfinite(names["model"].logger.name_to_value["train/loss"])


def test_rows_are_drawn_in_proportion_to_their_errors():
    buffer = filled(3, alpha=1.0)
    samples = buffer.sample(30)
    buffer.update_priorities(samples, samples.rewards)  # errors of 0, 1 and 2

    counts = np.bincount(buffer.sample(30_000).indices, minlength=3)
    assert counts[0] <= 3
    assert counts[2] / counts[1] == pytest.approx(2, rel=0.05)


def test_a_row_with_priority_zero_is_never_drawn():
    buffer = filled(5)
    buffer.replay.update_priorities([0, 3], [0.0, 0.0])

    assert set(buffer.sample(2000).indices) == {1, 2, 4}


def test_errors_of_rows_that_were_overwritten_are_left_out():
    buffer = filled(4, capacity=4)
    samples = buffer.sample(50)
    add(buffer, 4)

    drawn_first = np.count_nonzero(samples.indices == 0)
    assert drawn_first > 0
    assert buffer.update_priorities(samples, torch.ones(50, 1)) == 50 - drawn_first


def test_an_error_that_is_nan_is_refused():
    buffer = filled()
    samples = buffer.sample(2)

    with pytest.raises(ValueError, match="Priority nan"):
        buffer.update_priorities(samples, torch.tensor([1.0, torch.nan]))


def test_an_algorithm_that_gives_no_priorities_back_is_told_of():
    with pytest.warns(UserWarning, match="no priorities came back") as told:
        made("DQN", "CartPole-v1", replay_buffer_class=adapter.PrioritizedReplayBuffer).learn(130)

    assert len(told) == 1


@pytest.mark.parametrize("handled", [True, False])
def test_values_are_bootstrapped_beyond_a_time_limit_if_that_is_handled(handled):
    buffer = filled(0, handle_timeout_termination=handled)
    add(buffer, 0, done=True, truncated=True)
    add(buffer, 1, done=True)
    add(buffer, 2)

    samples = buffer.sample(60)
    expected = {0: 0.0 if handled else 1.0, 1: 1.0, 2: 0.0}
    assert {int(row): float(done) for row, done in zip(samples.indices, samples.dones, strict=True)} == expected


def test_rows_of_several_environments_are_whole_and_counted_as_stable_baselines3_counts_them():
    buffer = filled(25, n_envs=3, capacity=62)
    theirs = buffers.ReplayBuffer(62, OBSERVATIONS, ACTIONS, device="cpu", n_envs=3)

    assert buffer.buffer_size == theirs.buffer_size == 20
    assert (buffer.size(), buffer.pos, buffer.full) == (20, 5, True)
    samples = buffer.sample(500)
    assert len(set(samples.indices)) == 60
    rewards = samples.rewards[:, 0]
    assert torch.equal(samples.observations, torch.stack([rewards, rewards], dim=1))
    assert torch.equal(samples.next_observations, samples.observations + 1)
    assert torch.equal(samples.actions[:, 0], rewards.long() % 100 % 3)
    assert samples.rewards.shape == samples.dones.shape == samples.weights.shape == samples.actions.shape == (500, 1)


def test_two_environments_train_as_one_does():
    model = made("PrioritizedSAC", vec_env.DummyVecEnv([lambda: gym.make("Pendulum-v1")] * 2), gradient_steps=-1).learn(
        100
    )

    assert len(model.replay_buffer.replay) == 100
    assert model.replay_buffer.pos == 50


def test_observations_that_are_dicts_are_stored_part_by_part():
    model = made("PrioritizedDQN", TwoSenses(), policy="MultiInputPolicy").learn(60)
    samples = model.replay_buffer.sample(40)

    theirs = buffers.DictReplayBuffer(10, TwoSenses.observation_space, TwoSenses.action_space, device="cpu")
    env = TwoSenses()
    before, _ = env.reset()
    after, *_ = env.step(0)
    batched = [{key: np.asarray(value)[None] for key, value in part.items()} for part in (before, after)]
    theirs.add(*batched, np.zeros(1, np.int64), np.zeros(1), np.zeros(1), [{}])
    expected = theirs.sample(40)
    for name in ("observations", "next_observations"):
        ours = getattr(samples, name)
        assert {key: (part.shape, part.dtype) for key, part in ours.items()} == {
            key: (part.shape, part.dtype) for key, part in getattr(expected, name).items()
        }
    times = samples.observations["eye"][:, 0]
    assert torch.equal(samples.next_observations["eye"][:, 0], times + 1)
    assert torch.equal(samples.observations["taste"].reshape(-1), times.long() % 4)
    assert not samples.dones.any()


def test_observations_and_rewards_are_normalised_when_they_are_drawn():
    model = made("PrioritizedDQN", vec_env.VecNormalize(vec_env.DummyVecEnv([lambda: gym.make("CartPole-v1")]))).learn(
        60
    )
    drawn = model.replay_buffer
    raw = drawn.replay.get_all_transitions()
    samples = drawn.sample(20, env=model.get_vec_normalize_env())

    env = model.get_vec_normalize_env()
    np.testing.assert_allclose(samples.observations, env.normalize_obs(raw["obs"][samples.indices]), rtol=1e-6)
    np.testing.assert_allclose(samples.rewards[:, 0], env.normalize_reward(raw["reward"][samples.indices]), rtol=1e-6)


def test_returns_of_several_steps_are_those_of_stable_baselines3():
    ours = filled(0, n_steps=3, gamma=0.5)
    theirs = buffers.NStepReplayBuffer(60, OBSERVATIONS, ACTIONS, device="cpu", n_steps=3, gamma=0.5)
    for buffer in (ours, theirs):
        for step in range(12):
            add(buffer, step, done=step in {4, 9}, truncated=step == 9)

    samples = ours.sample(300)
    expected = theirs._get_samples(np.arange(10))
    for row in range(10):
        where = np.flatnonzero(samples.observations[:, 0] == row)[0]
        ended = bool(expected.dones[row])
        assert samples.rewards[where] == expected.rewards[row]
        assert bool(samples.dones[where]) == ended
        assert torch.equal(samples.next_observations[where], expected.next_observations[row])
        assert ended or samples.discounts[where] == expected.discounts[row]
    assert set(samples.observations[:, 0].tolist()) == set(range(10))


def test_an_algorithm_hands_its_number_of_steps_to_the_buffer():
    with warnings.catch_warnings(action="error"):
        model = made("PrioritizedTD3", "Pendulum-v1", n_steps=3, gamma=0.9).learn(40)

    discounts = model.replay_buffer.sample(30).discounts
    assert model.n_steps == 3
    torch.testing.assert_close(discounts, torch.full((30, 1), 0.9**3))


def test_a_saved_replay_buffer_draws_as_the_one_that_was_saved(tmp_path):
    model = made("PrioritizedDQN", "CartPole-v1", n_steps=2).learn(60)
    model.save_replay_buffer(tmp_path / "buffer")
    model.save(tmp_path / "model")
    loaded = adapter.PrioritizedDQN.load(tmp_path / "model", env=gym.make("CartPole-v1"), device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer")

    assert isinstance(loaded.replay_buffer, adapter.PrioritizedReplayBuffer)
    ours, theirs = loaded.replay_buffer.sample(50), model.replay_buffer.sample(50)
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one, other)
    loaded.learn(30, reset_num_timesteps=False)


def test_the_seed_of_an_algorithm_is_that_of_the_draws():
    drawn = [made("PrioritizedDQN", "CartPole-v1", seed=seed).learn(40).replay_buffer.sample(20) for seed in (7, 7, 8)]

    assert np.array_equal(drawn[0].indices, drawn[1].indices)
    assert not np.array_equal(drawn[0].indices, drawn[2].indices)


def test_a_buffer_that_was_reset_is_empty():
    buffer = filled(5, n_steps=2)
    buffer.reset()

    assert (buffer.size(), buffer.pos, buffer.full, len(buffer.replay)) == (0, 0, False, 0)
    with pytest.raises(ValueError, match="Nothing can be drawn"):
        buffer.sample(1)
    add(buffer, 7)
    assert len(buffer.replay) == 0  # it waits for its successor, not for one of before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"optimize_memory_usage": True}, "optimize_memory_usage=True is not supported"), ({"eps": 0.0}, "eps is 0.0")],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        filled(**arguments)


def test_an_algorithm_with_another_buffer_is_refused_by_name():
    model = made("PrioritizedDQN", "CartPole-v1", replay_buffer_class=buffers.ReplayBuffer)

    with pytest.raises(TypeError, match="not on ReplayBuffer"):
        model.learn(40)
