"""n-step returns: against a plain loop over each episode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.replay import NStep, PrioritizedReplay

FIELDS = {
    "obs": ((2,), "float32"),
    "action": ((), "int64"),
    "reward": ((), "float32"),
    "next_obs": ((2,), "float32"),
    "terminated": ((), "bool"),
    "truncated": ((), "bool"),
}


def steps_of(kinds):
    """Steps of several environments: step i has i in all that tells it from others; kinds are (environment, end)."""
    number = np.arange(len(kinds))
    env = np.array([env for env, _ in kinds], np.int64).reshape(-1)
    ends = [end for _, end in kinds]
    return env, {
        "obs": np.stack([number, number], 1).astype(np.float32).reshape(-1, 2),
        "action": number,
        "reward": (number % 7 - 2.3).astype(np.float32),
        "next_obs": np.stack([number, -number], 1).astype(np.float32).reshape(-1, 2),
        "terminated": np.array([end in {"terminated", "both"} for end in ends], bool),
        "truncated": np.array([end in {"truncated", "both"} for end in ends], bool),
    }


def naive_rows(env, steps, n, gamma):
    """First and last step, return and discount of every whole row, in the order in which they become whole."""
    rows = []
    for first in range(len(env)):
        later = [i for i in range(first, len(env)) if env[i] == env[first]]
        total, discount = 0.0, 1.0
        for count, i in enumerate(later[:n], 1):
            total += discount * float(steps["reward"][i])
            discount *= gamma
            ended = steps["terminated"][i] or steps["truncated"][i]
            if ended or count == n:
                rows.append((i, first, np.float32(total), np.float32(0 if steps["terminated"][i] else discount)))
                break
    return sorted(rows)


KINDS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["", "", "", "terminated", "truncated", "both"])), max_size=40
)


@given(KINDS, st.integers(1, 5), st.sampled_from([0.0, 0.9, 1.0]), st.integers(1, 40))
def test_rows_are_those_of_a_plain_loop_however_many_steps_are_pushed_at_once(kinds, n, gamma, at_once):
    env, steps = steps_of(kinds)
    n_step = NStep(FIELDS, n, gamma, environments=3)

    pushed = [
        n_step.push(env=env[i : i + at_once], **{name: column[i : i + at_once] for name, column in steps.items()})
        for i in range(0, len(env), at_once)
    ]
    rows = {name: np.concatenate([part[name] for part in pushed]) for name in pushed[0]} if pushed else {}

    expected = naive_rows(env, steps, n, gamma)
    last, first = ([row[i] for row in expected] for i in (0, 1))
    for name, column in rows.items():
        assert column.dtype == np.dtype(n_step.fields[name][1])
        if name == "reward":
            assert column.tolist() == [row[2] for row in expected]
        elif name == "discounts":
            assert column.tolist() == [row[3] for row in expected]
        else:
            assert np.array_equal(
                column, steps[name][last if name in {"next_obs", "terminated", "truncated"} else first]
            )
    assert len(n_step) == len(env) - len(expected)


def pushed_one_by_one(n_step, kinds):
    env, steps = steps_of(kinds)
    return [n_step.push(env=env[i], **{name: c[i] for name, c in steps.items()}) for i in range(len(env))]


def test_a_step_waits_for_its_successors_and_the_end_of_an_episode_frees_all_that_wait():
    n_step = NStep(FIELDS, 3, 0.5)

    pushed = pushed_one_by_one(n_step, [(0, ""), (0, ""), (0, ""), (0, "truncated"), (0, "")])

    assert [rows["action"].tolist() for rows in pushed] == [[], [], [0], [1, 2, 3], []]
    assert [rows["next_obs"][:, 0].tolist() for rows in pushed] == [[], [], [2], [3, 3, 3], []]


def test_only_termination_stops_bootstrapping():
    n_step = NStep(FIELDS, 2, 0.5, environments=3)

    pushed = pushed_one_by_one(n_step, [(0, "truncated"), (1, "terminated"), (2, "both")])

    assert [rows["discounts"].tolist() for rows in pushed] == [[0.5], [0.0], [0.0]]
    assert [rows["truncated"].tolist() for rows in pushed] == [[True], [False], [True]]


def test_rows_fit_a_buffer_made_with_their_fields():
    n_step = NStep(FIELDS, 2)
    replay = PrioritizedReplay(8, n_step.fields)

    for rows in pushed_one_by_one(n_step, [(0, ""), (0, ""), (0, "terminated")]):
        replay.add(**rows)

    assert len(replay) == 3
    assert set(replay.sample(1)) == {*FIELDS, "discounts", "indices", "weights", "generations"}


def test_what_waits_goes_on_after_it_was_kept_and_restored():
    kinds = [(i % 2, "truncated" if i == 9 else "") for i in range(16)]
    env, steps = steps_of(kinds)
    whole, before, after = (NStep(FIELDS, 3, 0.9, environments=2) for _ in range(3))
    halves = [(env[k], {name: column[k] for name, column in steps.items()}) for k in (slice(0, 7), slice(7, None))]

    expected = [whole.push(env=env, **part) for env, part in halves]
    before.push(env=halves[0][0], **halves[0][1])
    after.restore(before.state())
    rows = after.push(env=halves[1][0], **halves[1][1])

    assert {name: column.tolist() for name, column in rows.items()} == {
        name: column.tolist() for name, column in expected[1].items()
    }
    with pytest.raises(ValueError, match=r"More than 0 steps of one environment wait, but n_steps is 1"):
        NStep(FIELDS, 1, environments=2).restore(whole.state())


def test_what_is_pushed_need_not_be_kept_by_who_pushed_it():
    _, steps = steps_of([(0, ""), (0, "")])
    n_step = NStep(FIELDS, 2)
    first = {name: column[0:1].copy() for name, column in steps.items()}

    n_step.push(**first)
    for column in first.values():
        column[...] = 1
    rows = n_step.push(**{name: column[1:] for name, column in steps.items()})

    assert rows["obs"].tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": ((), "int64")}, r"Field 'reward' is \(\(\), dtype\('int64'\)\). .* a float of shape \(\)"),
        ({"terminated": ((), "float32")}, r"Field 'terminated' is .*a boolean of shape \(\)"),
        ({"truncated": ((1,), "bool")}, r"Field 'truncated' is .*a boolean of shape \(\)"),
        ({"discounts": ((), "float32")}, r"Field 'discounts' has a name that n-step returns use themselves"),
        ({"env": ((), "int64")}, r"Field 'env' has a name that n-step returns use themselves"),
    ],
)
def test_fields_that_no_returns_can_be_made_of_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        NStep(FIELDS | change)


def test_a_field_that_is_missing_is_named():
    with pytest.raises(ValueError, match="Field 'truncated' is missing"):
        NStep({name: field for name, field in FIELDS.items() if name != "truncated"})


@pytest.mark.parametrize("change", [{"n_steps": 0}, {"gamma": 1.1}, {"gamma": float("nan")}, {"environments": 0}])
def test_numbers_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match="A row goes 1 step or more"):
        NStep(FIELDS, **change)


@pytest.mark.parametrize(
    ("env", "steps", "error", "message"),
    [
        (None, 3, ValueError, "Of 2 environments, 3 steps came, and env does not say whose"),
        ([0, 2], 2, ValueError, "env has numbers from 0 to 2, but there are 2 environments: 0 to 1"),
        ([-1, 0], 2, ValueError, "env has numbers from -1 to 0"),
        ([0], 2, ValueError, r"env has shape \(1,\) for 2 steps"),
        ([0.0, 1.0], 2, TypeError, "env is of dtype float64"),
    ],
)
def test_environments_that_there_are_not_are_refused(env, steps, error, message):
    _, columns = steps_of([(0, "")] * steps)
    with pytest.raises(error, match=message):
        NStep(FIELDS, environments=2).push(env=env, **columns)


def test_steps_of_all_environments_in_order_need_not_say_whose_they_are():
    _, columns = steps_of([(0, ""), (1, "truncated")])
    rows = NStep(FIELDS, 2, environments=2).push(**columns)

    assert rows["action"].tolist() == [1]
