"""Learners and optimiser, fed by hand, learn what a textbook's implementation learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.training.kit import algorithm, context, fired
from tests.workloads.training.textbook import Textbook
from workloads.dataflow import ArraySpec
from workloads.training.learner import Learner, results
from workloads.training.memory import minibatch
from workloads.training.optimiser import Optimiser

VARIANTS: dict[str, dict[str, Any]] = {
    "dqn": {"algorithm": "dqn", "target_period": 3, "rate": 0.01},
    "double dqn": {"algorithm": "dqn", "double": True, "target_period": 3, "rate": 0.01},
    "dueling dqn": {"algorithm": "dqn", "dueling": True, "target_period": 3, "rate": 0.01},
    "ddpg": {"algorithm": "ddpg"},
    "td3": {"algorithm": "td3"},
    "sac": {"algorithm": "sac", "temperature_rate": 0.01},
}
UPDATES = 9
B = 16


def made(name: str, **more: Any) -> Any:
    return algorithm(**(VARIANTS[name] | {"hidden": "16,8", "minibatch": B} | more))


def batches(made_of: Any, updates: int = UPDATES) -> list[dict[str, Any]]:
    """Minibatches that differ from one another, with weights and ends of episodes."""
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(updates):
        batch = {
            name: rng.normal(size=s.shape).astype(s.dtype) for name, s in minibatch((B,), made_of.interface).items()
        }
        batch["action"] = made_of.interface.random_actions(rng, (B,))
        batch["discounts"] = (0.9 * (rng.random(B) < 0.8)).astype(np.float32)
        batch["weights"] = rng.random(B).astype(np.float32)
        drawn.append(batch)
    return drawn


def learnt(made_of: Any, drawn: list[dict[str, Any]]) -> tuple[Any, Any, list[Any]]:
    """First and last weights, and the errors of each update."""
    told = made_of.arguments
    optimiser = Optimiser(context("optimiser"), algorithm=made_of)
    learners = [Learner(context("learner", index), algorithm=made_of) for index in range(told.learners)]
    first = weights = optimiser.initial("parameters")
    specs, errors = results(made_of), []
    sent = {
        "parameters": specs["gradient"],
        "policy": ArraySpec((made_of.layout.slices[made_of.acts_with].stop,), "float32"),
    }
    for batch in drawn:
        shares = [
            {name: array.reshape(told.learners, -1, *array.shape[1:])[index] for name, array in batch.items()}
            for index in range(told.learners)
        ]
        given_back = [
            fired(learner, {"parameters": weights, **share}, specs, optional=True)
            for learner, share in zip(learners, shares, strict=True)
        ]
        inputs = {"gradient": [one["gradient"] for one in given_back]}
        weights = fired(optimiser, inputs, sent, optional=False)["parameters"]
        errors.append(np.concatenate([np.abs(one["errors"]) for one in given_back]))
    return first, weights, errors


def noise(made_of: Any) -> Any:
    """What the only learner of a program draws."""
    rng = context("learner").rng("noise")
    return lambda: torch.from_numpy(rng.standard_normal((B, made_of.interface.actions), np.float32))


def textbook(made_of: Any, first: Any, drawn: list[dict[str, Any]], **how: Any) -> tuple[Any, list[Any]]:
    book, normal = Textbook(made_of, first, **how), noise(made_of)
    errors = [book.update({name: torch.from_numpy(array) for name, array in b.items()}, normal) for b in drawn]
    return book.weights, errors


@pytest.mark.parametrize("name", VARIANTS)
def test_an_algorithm_learns_what_the_textbook_learns(name):
    made_of = made(name)
    drawn = batches(made_of)
    first, weights, errors = learnt(made_of, drawn)
    expected, expected_errors = textbook(made_of, first, drawn)
    assert np.allclose(weights, expected, atol=2e-5)
    assert np.allclose(errors, expected_errors, atol=1e-4)
    assert np.abs(weights - first).max() > 1e-3


def test_the_comparison_notices_a_policy_that_climbs_critics_already_stepped():
    made_of = made("td3")
    drawn = batches(made_of)
    first, weights, _ = learnt(made_of, drawn)
    published, _ = textbook(made_of, first, drawn, critic_first=True)
    assert not np.allclose(weights, published, atol=2e-5)
    # What differs is the policy's gradient alone; within a few updates the two are still close.
    assert np.allclose(weights, published, atol=0.02)


@pytest.mark.parametrize("name", ["td3", "dqn"])
def test_the_comparison_notices_a_target_that_follows_at_another_time(name):
    made_of = made(name)
    drawn = batches(made_of)
    first, weights, _ = learnt(made_of, drawn)
    other = {"policy_period": 1} if name == "td3" else {"target_period": 2}
    assert not np.allclose(weights, textbook(made(name, **other), first, drawn)[0], atol=2e-5)


@pytest.mark.parametrize("name", ["dueling dqn", "ddpg"])
@pytest.mark.parametrize("learners", [2, 4])
def test_learners_that_share_a_minibatch_learn_what_one_learns(name, learners):
    drawn = batches(made(name))
    _, one, errors = learnt(made(name), drawn)
    _, several, errors_of_several = learnt(made(name, learners=learners), drawn)
    assert np.allclose(several, one, atol=2e-5)
    assert np.allclose(errors_of_several, errors, atol=1e-4)


@settings(max_examples=20)
@given(order=st.permutations(range(3)))
def test_gradients_are_added_up_in_index_order(order):
    made_of = made("td3", learners=1)
    optimiser = Optimiser(context("optimiser"), algorithm=made_of)
    length = made_of.layout.length
    gradients = [np.full(length, value, np.float32) for value in np.float32([1e8, 1.0, -1e8])[list(order)]]
    optimiser._step(gradients)
    # In float32, 1e8 + 1 is 1e8: what is left of the 1 says in which order they were added.
    assert optimiser._gradient.array[0] == (gradients[0][0] + gradients[1][0]) + gradients[2][0]


def test_what_follows_does_not_count_where_the_environment_terminated():
    made_of = made("sac")
    batch = batches(made_of, 1)[0]
    elsewhere = batch | {"next_observation": batch["next_observation"] + 1}
    for discount in (0.0, 0.9):
        same = {"discounts": np.full(B, discount, np.float32)}
        here, there = (learnt(made_of, [one | same])[1] for one in (batch, elsewhere))
        critics = slice(made_of.layout.slices["critic_1"].start, made_of.layout.slices["critic_2"].stop)
        assert np.array_equal(here[critics], there[critics]) == (discount == 0)


def test_a_transition_without_weight_teaches_the_values_nothing():
    made_of = made("dqn")
    batch = batches(made_of, 1)[0]
    weights = batch["weights"].copy()
    weights[3] = 0
    ends = []
    for reward in (0.0, 100.0):
        rewards = batch["reward"].copy()
        rewards[3] = reward
        ends.append(learnt(made_of, [batch | {"weights": weights, "reward": rewards}])[1])
    assert np.array_equal(*ends)
