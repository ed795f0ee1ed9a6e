"""Parameters: one flat list, from which each algorithm takes what is its own and refuses the rest."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from harness.arguments import fields_of
from workloads.training import WORKLOAD, Parameters
from workloads.training.parameters import STRUCTS, arguments_of


@pytest.mark.parametrize("name", STRUCTS)
def test_what_is_left_out_is_as_the_algorithm_says(name):
    assert arguments_of(Parameters(algorithm=name)) == STRUCTS[name]()


@pytest.mark.parametrize("name", STRUCTS)
def test_every_argument_can_be_given(name):
    told = msgspec.structs.asdict(STRUCTS[name](minibatch=64, actors=3))
    assert arguments_of(Parameters(algorithm=name, **told)) == STRUCTS[name](minibatch=64, actors=3)


def test_every_parameter_is_described_and_says_its_defaults():
    fields = {field.name: field for field in fields_of(Parameters)}
    assert all(field.description for field in fields.values())
    assert fields["minibatch"].default == 128
    assert fields["policy_period"].description.endswith("null: td3 2")
    assert fields["noise"].description.endswith("null: ddpg 0.2, td3 0.1")
    assert all(field.description.count("null: ") == (field.default is None) for field in fields.values())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"algorithm": "td3", "epsilon": 0.5},
            "epsilon=0.5 does not go with algorithm='td3': it is an argument of dqn.",
        ),
        (
            {"algorithm": "dqn", "tau": 0.5},
            "tau=0.5 does not go with algorithm='dqn': it is an argument of ddpg, td3 and sac.",
        ),
        ({"algorithm": "sac", "double": False}, "double=False does not go with algorithm='sac'"),
        (
            {"minibatch": 128, "learners": 3},
            "minibatch=128 cannot be shared equally by learners=3. Set learners=2, or minibatch=129.",
        ),
        ({"actors": 20, "steps": 100, "capacity": 1000}, "does not hold the 4000 transitions of a round"),
        ({"capacity": 500}, "is never filled with the learning_starts=1000"),
        (
            {"alpha": 0.7},
            "alpha=0.7 does not go with replay='uniform', which does not use it. Set replay='prioritized'",
        ),
        ({"algorithm": "dqn", "epsilon": 0.01}, "epsilon_end=0.05 is more than epsilon=0.01"),
    ],
)
def test_values_that_do_not_go_together_are_refused_with_a_remedy(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Parameters(**given)


@pytest.mark.parametrize("hidden", ["", "64,", "0", "64,-1", "a", "64, 64"])
def test_hidden_layers_are_numbers_with_commas_between(hidden):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"hidden": hidden}, Parameters)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"algorithm": "td3", "env_id": "CartPole-v1"},
            "Actions of 'CartPole-v1' are Discrete, but td3 needs a bounded vector",
        ),
        ({"algorithm": "dqn", "env_id": "Pendulum-v1"}, "Choose algorithm=ddpg, td3 or sac"),
        ({"env_id": "Blackjack-v1", "algorithm": "dqn"}, "the networks take a Box of one dimension"),
        ({"env_id": "Pendulum-v0"}, "'Pendulum-v0'"),
    ],
)
def test_an_environment_that_does_not_suit_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        WORKLOAD.check(Parameters(**given))


def test_cuda_is_refused_where_there_is_none(monkeypatch: Any):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device='cuda' cannot be used: .* sees no GPU here\. Set device='cpu'"):
        WORKLOAD.check(Parameters(device="cuda"))
