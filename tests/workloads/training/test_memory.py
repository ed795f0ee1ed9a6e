"""The replay's task: the order of what it keeps, what it draws and when, and priorities that come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.training.kit import algorithm, context
from workloads.dataflow import Gathered, Outputs
from workloads.training.actor import transitions
from workloads.training.memory import DRAWN, Replay, minibatch

NOTHING = {"errors": [None, None]}


def replay_of(**parameters: Any) -> tuple[Replay, Any]:
    made_of = algorithm(**({"algorithm": "dqn", "learning_starts": 1, "capacity": 5000} | parameters))
    return Replay(context("replay"), told=made_of.arguments, interface=made_of.interface), made_of


def numbered(told: Any, interface: Any, first: int) -> dict[str, Any]:
    """The transitions of a round, of which each field is made of the transition's number."""
    lead = (told.actors, told.steps, told.environments)
    numbers = np.arange(first, first + told.steps_per_round).reshape(lead)
    arrays = {name: spec.zeros() for name, spec in transitions(lead, interface).items()}
    for name in ("observation", "next_observation"):
        arrays[name][...] = numbers[..., np.newaxis]
    arrays["next_observation"] += 0.5
    arrays["action"][...] = numbers
    arrays["reward"][...] = numbers
    arrays["terminated"][...] = numbers % 3 == 0
    return arrays


def run(replay: Replay, made_of: Any, rounds: list[dict[str, Any]], errors: Any = None) -> list[dict[str, Any] | None]:
    """What is drawn in each of `rounds`, which are what actors did in the round before."""
    told = made_of.arguments
    share = (told.learners, told.minibatch // told.learners)
    specs = {DRAWN + name: spec for name, spec in minibatch(share, made_of.interface).items()}
    drawn: list[dict[str, Any] | None] = []
    for arrived in rounds:
        outputs = Outputs("replay", specs, {}, optional=specs)
        replay.fire(arrived | (errors or NOTHING), outputs)
        drawn.append({name.removeprefix(DRAWN): array for name, array in outputs.assigned.items()} or None)
    return drawn


def stored(replay: Replay) -> dict[str, Any]:
    return replay._rows.get_all_transitions()


@settings(max_examples=25)
@given(actors=st.integers(1, 3), environments=st.integers(1, 3), steps=st.integers(1, 3), blocks=st.booleans())
def test_transitions_are_kept_by_actor_then_by_time(actors, environments, steps, blocks):
    replay, made_of = replay_of(actors=actors, environments=environments, steps=steps, replay="prioritized")
    told = made_of.arguments
    rounds = [numbered(told, made_of.interface, 0), *(numbered(told, made_of.interface, 100 * r) for r in (1, 2))]
    if blocks:
        rounds = [{name: Gathered([array[:1], array[1:]]) for name, array in one.items()} for one in rounds]
    run(replay, made_of, rounds)
    # Before the first round nothing was done, whatever arrives.
    expected = [100 * r + number for r in (1, 2) for number in range(told.steps_per_round)]
    assert stored(replay)["action"].tolist() == expected


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_what_is_drawn_of_a_transition_belongs_together_and_is_shared_in_order(kind):
    replay, made_of = replay_of(replay=kind, learners=2, minibatch=32, gamma=0.5)
    told = made_of.arguments
    rounds = [numbered(told, made_of.interface, 4 * r) for r in range(30)]
    (drawn,) = run(replay, made_of, rounds)[-1:]
    assert drawn is not None
    numbers = drawn["action"]
    assert numbers.shape == (2, 16)
    assert np.array_equal(drawn["observation"][..., 0], numbers)
    assert np.array_equal(drawn["next_observation"][..., 0], numbers + 0.5)
    assert np.array_equal(drawn["reward"], numbers)
    assert np.array_equal(drawn["discounts"], np.where(numbers % 3 == 0, 0, 0.5))
    assert (drawn["weights"] == 1).all() == (kind == "uniform" or len(set(drawn["weights"].ravel())) == 1)
    assert set(numbers.ravel()) <= set(range(4, 120))


def test_nothing_is_drawn_before_there_are_enough():
    replay, made_of = replay_of(learning_starts=9)
    drawn = run(replay, made_of, [numbered(made_of.arguments, made_of.interface, 4 * r) for r in range(6)])
    assert [one is not None for one in drawn] == [False, False, False, True, True, True]
    assert replay.tallies() == {"stored": 20}


def test_a_return_of_n_steps_is_that_of_one_environment():
    replay, made_of = replay_of(actors=1, environments=2, n_step=3, gamma=0.5, replay="prioritized", learning_starts=8)
    rounds = [numbered(made_of.arguments, made_of.interface, 2 * r) for r in range(8)]
    for one in rounds:
        one["terminated"][...] = False
    # In environment 0 (even numbers) the step numbered 8 ends an episode for good, and 12 is cut off in environment 0.
    rounds[4]["terminated"][0, 0, 0] = True
    rounds[6]["truncated"][0, 0, 0] = True
    run(replay, made_of, rounds)
    kept = stored(replay)
    rows = {
        int(a): (r, n, d)
        for a, r, n, d in zip(
            *(kept[name] for name in ("action", "reward", "next_observation", "discounts")), strict=True
        )
    }
    summed = {number: (reward, following[0], discount) for number, (reward, following, discount) in rows.items()}
    assert summed[3] == (3 + 5 / 2 + 7 / 4, 7.5, 0.125)
    assert summed[4] == (4 + 6 / 2 + 8 / 4, 8.5, 0.0)
    assert summed[8] == (8, 8.5, 0.0)
    assert summed[10] == (10 + 12 / 2, 12.5, 0.25)
    # Environment 1 still waits for the successors of its last two.
    assert sorted(summed) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]


def test_priorities_come_back_to_what_was_drawn_the_round_before():
    replay, made_of = replay_of(replay="prioritized", minibatch=4, learners=2, alpha=1.0)
    told = made_of.arguments
    rounds = [numbered(told, made_of.interface, 4 * r) for r in range(40)]
    (drawn,) = run(replay, made_of, rounds)[-1:]
    assert drawn is not None
    # So large an error that nothing else is drawn from then on.
    errors = {"errors": [np.float32([-1e9, 0]), np.float32([0, 0])]}
    chosen = drawn["action"].ravel()[0]
    (again,) = run(replay, made_of, [numbered(told, made_of.interface, 200)], errors)
    assert again is not None
    # New transitions have the largest priority so far, so those may be drawn too.
    assert set(again["action"].ravel()) <= {chosen, 200, 201, 202, 203}


def test_transitions_without_any_error_can_be_drawn_again():
    replay, made_of = replay_of(replay="prioritized", minibatch=4, learners=2, capacity=40, learning_starts=40)
    told = made_of.arguments
    rounds = [numbered(told, made_of.interface, 4 * r) for r in range(12)]
    run(replay, made_of, rounds)
    run(replay, made_of, rounds[:1], {"errors": [np.zeros(2, np.float32)] * 2})

    assert (replay.state()["rows"]["arrays"]["leaves"] > 0).all()


def test_weights_are_relative_to_the_largest_of_the_whole_minibatch():
    replay, made_of = replay_of(replay="prioritized", minibatch=4, learners=2, alpha=1.0, beta=1.0)
    told = made_of.arguments
    run(replay, made_of, [numbered(told, made_of.interface, 4 * r) for r in range(40)])
    rng = np.random.default_rng(0)
    weights = []
    for number in range(20):
        errors = {"errors": list(rng.uniform(1, 3, (2, 2)).astype(np.float32))}
        (drawn,) = run(replay, made_of, [numbered(told, made_of.interface, 200 + number)], errors)
        assert drawn is not None
        weights.append(drawn["weights"])
    assert all(one.max() == 1 for one in weights)
    assert any(half.max() < 1 for one in weights for half in one)


@pytest.mark.parametrize(("rounds", "beta"), [(0, 0.4), (5, 0.55), (20, 1.0), (40, 1.0)])
def test_beta_rises_to_one_with_the_steps_of_all_actors(rounds, beta):
    replay, _ = replay_of(replay="prioritized", beta_steps=80)
    replay._rounds = rounds
    assert replay._beta() == pytest.approx(beta)
