"""The sum tree in Tianshou itself."""

from __future__ import annotations

import os
import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.lazily import Lazily
from tests.pages import examples_in, run_here

# Tianshou compiles some loops with numba in each process, which takes longer than all of these tests.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

pytestmark = pytest.mark.skipif(find_spec("tianshou") is None, reason="tianshou (extra replay-peers) is not installed")

adapter = Lazily("workloads.replay.adapters.tianshou")
data = Lazily("tianshou.data")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "replay-frameworks.md"
EXAMPLES = examples_in(PAGE, "tianshou")


def step(number):
    return data.Batch(
        obs=np.full(2, float(number)),
        act=number % 3,
        rew=float(number),
        terminated=False,
        truncated=False,
        obs_next=np.full(2, number + 1.0),
        info=data.Batch(),
    )


def filled(rows=6, **arguments):
    buffer = adapter.PrioritizedReplayBuffer(50, **arguments)
    for number in range(rows):
        buffer.add(step(number))
    return buffer


def filled_of_two(rows=4, **arguments):
    buffer = adapter.PrioritizedVectorReplayBuffer(10, 2, **arguments)
    for number in range(rows):
        buffer.add(data.Batch.stack([step(number), step(100 + number)]))
    return buffer


def test_tianshous_dqn_trains_as_the_docs_show_and_gives_priorities_back():
    [(example, command)] = EXAMPLES.items()
    printed, names = run_here(PAGE, example)

    assert printed == command.output
    buffer = names["buffer"]
    assert len(np.unique(buffer.weight[np.arange(buffer.maxsize)])) > 50
    assert len(np.unique(buffer.sample(100)[0].weight)) > 10


@pytest.mark.parametrize("weight_norm", [True, False])
def test_weights_are_those_of_the_paper(weight_norm):
    buffer = filled(4, alpha=0.5, beta=0.7, weight_norm=weight_norm)
    buffer.update_weight(np.arange(4), torch.tensor([1.0, -4.0, 9.0, 16.0]))
    batch, indices = buffer.sample(64)

    chances = np.sqrt([1.0, 4.0, 9.0, 16.0]) / 10
    expected = (4 * chances[indices]) ** -0.7
    divisor = expected.max() if weight_norm else ((4 * chances) ** -0.7).max()
    np.testing.assert_allclose(batch.weight, expected / divisor, rtol=1e-5)
    np.testing.assert_allclose(buffer.get_weight(np.array([2, 0])), [(1 / 3) ** 0.7, 1.0], rtol=1e-5)


@pytest.mark.parametrize("make", [filled, filled_of_two])
def test_a_batch_holds_the_transitions_that_its_indices_say(make):
    buffer = make()
    batch, indices = buffer.sample(40)

    assert len(set(indices)) == len(buffer)
    assert np.array_equal(batch.obs[:, 0], batch.rew)
    assert np.array_equal(batch.obs_next[:, 0], batch.rew + 1)
    assert np.array_equal(buffer[indices].rew, batch.rew)
    assert np.array_equal(buffer.rew[indices], batch.rew)


def test_transitions_are_drawn_in_proportion_to_their_errors():
    buffer = filled(3, alpha=1.0)
    buffer.update_weight(np.arange(3), np.array([0.0, -1.0, 2.0]))

    counts = np.bincount(buffer.sample_indices(30_000), minlength=3)
    assert counts[0] <= 3
    assert counts[2] / counts[1] == pytest.approx(2, rel=0.05)


def test_new_transitions_get_the_largest_priority_there_ever_was():
    buffer = filled(2, alpha=1.0)
    buffer.update_weight(np.array([0]), np.array([5.0]))
    buffer.update_weight(np.array([0]), np.array([1.0]))
    buffer.add(step(2))

    np.testing.assert_allclose(buffer.weight[np.arange(4)], [1 + adapter.EPS, 1, 5 + adapter.EPS, 0], rtol=1e-6)


@pytest.mark.parametrize("make", [filled, filled_of_two])
def test_a_transition_with_priority_zero_is_never_drawn_and_weighs_nothing(make):
    buffer = make()
    buffer.weight.update(np.array([1, 3]), [0.0, 0.0])

    assert not {1, 3} & set(buffer.sample_indices(2000))
    weights = buffer[np.array([0, 1, 2, 3])].weight
    assert weights.tolist() == [1, 0, 1, 0]


def test_transitions_of_before_a_reset_are_not_drawn():
    buffer = filled(6)
    buffer.reset()
    buffer.add(step(0))

    assert set(buffer.sample_indices(100)) == {0}


def test_a_buffer_takes_over_the_transitions_of_another():
    buffer = filled(2)
    buffer.update(filled(3))

    assert set(buffer.sample_indices(200)) == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("make", [filled, filled_of_two])
@pytest.mark.parametrize("way", ["pickle", "hdf5"])
def test_a_saved_buffer_draws_as_the_one_that_was_saved(make, way, tmp_path):
    buffer = make()
    buffer.update_weight(np.arange(4), np.arange(4.0))
    if way == "pickle":
        loaded = pickle.loads(pickle.dumps(buffer))
    else:
        buffer.save_hdf5(str(tmp_path / "buffer.hdf5"))
        loaded = type(buffer).load_hdf5(str(tmp_path / "buffer.hdf5"))

    (ours, ours_at), (theirs, theirs_at) = loaded.sample(30), buffer.sample(30)
    assert np.array_equal(ours_at, theirs_at)
    assert np.array_equal(ours.weight, theirs.weight)
    assert np.array_equal(ours.obs, theirs.obs)


@pytest.mark.parametrize("batch_size", [0, None, -1])
def test_special_sizes_of_batches_mean_what_they_mean_in_tianshou(batch_size):
    theirs = data.PrioritizedReplayBuffer(50, alpha=0.6, beta=0.4)
    for number in range(6):
        theirs.add(step(number))
    ours = filled(6)

    assert sorted(ours.sample_indices(batch_size)) == sorted(theirs.sample_indices(batch_size))
    if batch_size == 0:
        assert np.array_equal(ours.sample(0)[0].rew, theirs.sample(0)[0].rew)
        assert np.array_equal(ours[:].weight, theirs[:].weight)
        assert np.array_equal(ours[1:3].obs, theirs[1:3].obs)


def test_equal_seeds_draw_equal_transitions():
    assert np.array_equal(filled(random_seed=3).sample_indices(20), filled(random_seed=3).sample_indices(20))
    assert not np.array_equal(filled(random_seed=3).sample_indices(20), filled(random_seed=4).sample_indices(20))


def test_beta_may_change_while_training_goes_on():
    buffer = filled(3)
    buffer.update_weight(np.arange(3), np.arange(3.0))
    buffer.set_beta(0.0)

    assert set(buffer.sample(30)[0].weight) == {1}


def test_an_error_that_is_nan_is_refused():
    with pytest.raises(ValueError, match="Priority nan"):
        filled().update_weight(np.array([0, 1]), np.array([1.0, np.nan]))


def test_an_alpha_below_zero_is_refused():
    with pytest.raises(ValueError, match="alpha is -1"):
        adapter.PrioritizedReplayBuffer(10, alpha=-1)
