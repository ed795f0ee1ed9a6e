"""Policies: fixed by their seed, within the bounds of the action space, indifferent to how they are fed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary

from workloads.dataflow import ArraySpec, Gathered, TaskContext
from workloads.policies import aligned_empty, check_policy, make_policy
from workloads.simulation import Driver

BATCH = 64


def actions_of(name, action, batch, seed=0):
    policy = make_policy(name, np.random.default_rng(seed), batch.shape, action)
    actions = np.zeros((len(batch), *action.shape), action.dtype)
    policy(batch, actions)
    return actions


def random_batch(*shape, scale=1.0):
    batch = aligned_empty((BATCH, *shape))
    batch[...] = np.random.default_rng(5).normal(0, scale, batch.shape)
    return batch


def random_images(*shape):
    batch = aligned_empty((3, *shape))
    batch[...] = np.random.default_rng(5).integers(0, 256, batch.shape)
    return batch


@pytest.mark.parametrize("name", ["linear", "mlp64"])
@pytest.mark.parametrize("action", [Discrete(3), Discrete(3, start=-1)], ids=["from 0", "from -1"])
def test_choices_stay_in_the_space_and_all_are_made(name, action):
    actions = actions_of(name, action, random_batch(8))
    assert all(action.contains(int(value)) for value in actions)
    assert len(set(actions.tolist())) == 3


@pytest.mark.parametrize("name", ["linear", "mlp64"])
def test_continuous_actions_stay_within_bounds_that_differ_by_dimension(name):
    action = Box(np.array([[-2, 0]], np.float32), np.array([[2, 10]], np.float32))
    actions = actions_of(name, action, random_batch(8, scale=100))
    assert actions.shape == (BATCH, 1, 2)
    assert all(action.contains(value) for value in actions)
    assert np.ptp(actions[:, 0, 0]) > 1
    assert np.ptp(actions[:, 0, 1]) > 2


def test_the_linear_policy_takes_the_action_of_the_highest_weighted_sum():
    batch = random_batch(4)
    weights = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 2)).astype(np.float32)
    assert actions_of("linear", Discrete(2), batch).tolist() == np.argmax(batch @ weights, axis=1).tolist()


def test_the_hidden_layers_are_two_of_64_with_tanh():
    batch = random_batch(4)
    rng = np.random.default_rng(0)
    values = batch
    for before, after in ((4, 64), (64, 64), (64, 2)):
        weights = rng.uniform(-1 / np.sqrt(before), 1 / np.sqrt(before), (before, after)).astype(np.float32)
        values = values @ weights
        if after == 64:
            values = np.tanh(values)
    assert actions_of("mlp64", Discrete(2), batch).tolist() == np.argmax(values, axis=1).tolist()


@pytest.mark.parametrize("shape", [(84, 84), (84, 84, 3), (40, 100, 2)])
def test_the_nature_network_is_that_of_the_paper(shape):
    batch = random_images(*shape)
    rng = np.random.default_rng(0)
    values = torch.from_numpy(batch.copy()) / 255
    values = values[:, None] if len(shape) == 2 else values.permute(0, 3, 1, 2)
    layers = []
    channels, height, width = values.shape[1:]
    for filters, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
        layers += [torch.nn.Conv2d(channels, filters, kernel, stride), torch.nn.ReLU()]
        height, width, channels = (height - kernel) // stride + 1, (width - kernel) // stride + 1, filters
    features = channels * height * width
    layers += [torch.nn.Flatten(), torch.nn.Linear(features, 512), torch.nn.ReLU(), torch.nn.Linear(512, 4)]
    network = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
                continue
            bound = 1 / np.sqrt(parameter[0].numel())
            parameter.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(parameter.shape))))
        scores = network(values).numpy()
    box = Box(-1, 1, (4,), np.float32)
    assert np.allclose(actions_of("nature_cnn", box, batch), np.tanh(scores), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "batch"),
    [("linear", random_batch(8)), ("mlp64", random_batch(8)), ("nature_cnn", random_images(84, 84))],
    ids=["linear", "mlp64", "nature_cnn"],
)
def test_a_policy_is_fixed_by_its_seed(name, batch):
    action = Box(-1, 1, (5,), np.float32)
    one, again, other = (actions_of(name, action, batch, seed) for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes() != other.tobytes()


def test_a_policy_computes_the_same_at_every_call():
    action, batch = Box(-1, 1, (5,), np.float32), random_batch(8)
    policy = make_policy("mlp64", np.random.default_rng(1), batch.shape, action)
    calls = [np.zeros((BATCH, 5), np.float32) for _ in range(2)]
    for actions in calls:
        policy(batch, actions)
        policy(batch[::-1].copy(), np.zeros_like(actions))
    assert calls[0].tobytes() == calls[1].tobytes()


@pytest.mark.parametrize("shape", [(1,), (15, 4), (3, 84, 84)])
def test_aligned_memory_begins_on_a_cache_line(shape):
    memory = aligned_empty(shape)
    assert (memory.shape, memory.dtype, memory.ctypes.data % 64) == (shape, np.float32, 0)
    assert memory.flags.c_contiguous


def driver_of(observation_shape, action):
    context = TaskContext(path="driver", index=0, width=1, seed=3)
    return Driver(context, policy="mlp64", batch_shape=(BATCH, *observation_shape), action=action)


@pytest.mark.parametrize(
    "stored",
    [
        list,
        lambda batch: Gathered([batch[:10], batch[10:]]),
        np.asfortranarray,
        lambda batch: np.frombuffer(b"1234567" + batch.tobytes(), np.uint8)[7:].view(np.float32).reshape(batch.shape),
    ],
    ids=["list", "blocks", "other strides", "unaligned"],
)
def test_actions_do_not_depend_on_how_observations_are_stored(stored):
    batch = np.random.default_rng(5).normal(size=(BATCH, 11)).astype(np.float32)
    action = Box(-1, 1, (5,), np.float32)
    actions = [np.zeros((BATCH, 5), np.float32) for _ in range(2)]
    for values, target in zip((batch, stored(batch)), actions, strict=True):
        driver_of((11,), action).fire({"observation": values}, {"action": target})
    assert actions[0].tobytes() == actions[1].tobytes()


@pytest.mark.parametrize("dtype", [np.int64, np.float64, np.uint8, np.bool_])
def test_observations_of_every_dtype_are_taken(dtype):
    action = Discrete(2)
    observations = np.ones((BATCH, 3), dtype)
    actions = np.zeros(BATCH, np.int64)
    driver_of((3,), action).fire({"observation": observations}, {"action": actions})
    assert len(set(actions.tolist())) == 1


VECTOR = ArraySpec((4,), np.float32)


@pytest.mark.parametrize(
    ("name", "observation", "action", "message"),
    [
        ("linear", None, Discrete(2), r"'Env-v0' are no arrays of fixed shape, which policy 'linear' needs"),
        ("linear", VECTOR, MultiBinary(2), r"Actions of 'Env-v0' are MultiBinary\(2\).*Discrete or bounded Box"),
        ("linear", VECTOR, Box(-np.inf, np.inf, (2,)), r"Actions of 'Env-v0' are Box\(-inf.*Use actions='local'"),
        ("linear", VECTOR, Box(0, 9, (2,), np.int64), "Discrete or bounded Box of float actions"),
        ("nature_cnn", VECTOR, Discrete(2), r"shape \(4,\) and dtype float32.*uint8 images of 36 x 36.*Use policy"),
        ("nature_cnn", ArraySpec((35, 84), np.uint8), Discrete(2), r"shape \(35, 84\)"),
        ("nature_cnn", ArraySpec((84, 84), np.float32), Discrete(2), "dtype float32"),
        ("nature_cnn", ArraySpec((84, 84, 3, 2), np.uint8), Discrete(2), r"shape \(84, 84, 3, 2\)"),
        ("nature_cnn", ArraySpec((), np.uint8), Discrete(2), r"shape \(\)"),
    ],
)
def test_a_policy_that_cannot_act_is_rejected_with_the_reason(name, observation, action, message):
    with pytest.raises(ValueError, match=message):
        check_policy(name, "Env-v0", observation, action)


def test_the_smallest_image_for_the_nature_network_works():
    check_policy("nature_cnn", "Env-v0", ArraySpec((36, 36), np.uint8), Discrete(2))
    assert actions_of("nature_cnn", Discrete(2), random_images(36, 36)).shape == (3,)
