"""The sampler in torchrl's own replay buffers."""

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

# Or it writes a line for each storage to standard output.
os.environ.setdefault("RL_LOGGING_LEVEL", "WARNING")

pytestmark = pytest.mark.skipif(find_spec("torchrl") is None, reason="torchrl (extra replay-peers) is not installed")

adapter = Lazily("workloads.replay.adapters.torchrl")
data = Lazily("torchrl.data")
schedulers = Lazily("torchrl.data.replay_buffers.scheduler")
objectives = Lazily("torchrl.objectives")
tensordict = Lazily("tensordict")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "replay-frameworks.md"
EXAMPLES = examples_in(PAGE, "torchrl")


def filled(rows=6, *, capacity=50, **arguments):
    buffer = data.TensorDictReplayBuffer(
        storage=data.LazyTensorStorage(capacity), sampler=adapter.PrioritizedReplaySampler(capacity, **arguments)
    )
    if rows:
        buffer.extend(tensordict.TensorDict({"row": torch.arange(rows)}, [rows]))
    return buffer


def drawn(buffer, n):
    return buffer.sample(n)["index"].numpy()


def test_torchrls_dqn_trains_as_the_docs_show_on_weights_and_gives_priorities_back():
    [(example, command)] = EXAMPLES.items()
    printed, names = run_here(PAGE, example)

    assert printed == command.output
    buffer = names["buffer"]
    assert len(np.unique(buffer.sampler.priorities[np.arange(len(buffer))])) > 50
    batch = buffer.sample()
    loss_of = objectives.DQNLoss(names["actor"], action_space="categorical", delay_value=False, reduction="none")
    weights = batch["priority_weight"]
    unweighted = loss_of(batch.exclude("priority_weight"))["loss"]
    torch.testing.assert_close(names["loss_of"](batch)["loss"], (unweighted * weights).sum() / weights.sum())
    assert weights.unique().numel() > 10


def test_it_is_used_where_torchrls_own_sampler_is():
    assert isinstance(filled().sampler, data.PrioritizedSampler)


def test_rows_are_drawn_in_proportion_to_their_priorities_and_weighted_as_in_torchrl():
    buffer = filled(3, alpha=0.5, beta=0.7, eps=0.0)
    buffer.update_priority(torch.arange(3), torch.tensor([1.0, 4.0, 9.0]))
    batch = buffer.sample(30_000)

    counts = torch.bincount(batch["index"])
    np.testing.assert_allclose(counts / 30_000, np.array([1, 2, 3]) / 6, atol=0.01)
    # The largest weight in the buffer is 1.
    expected = (1.0 / (batch["index"] + 1)) ** 0.7
    torch.testing.assert_close(batch["priority_weight"], expected.float(), rtol=1e-5, atol=0)
    assert batch["row"].equal(batch["index"])


def test_a_row_with_priority_zero_is_never_drawn_without_eps():
    buffer = filled(4, eps=0.0)
    buffer.update_priority(torch.tensor([0, 2]), torch.zeros(2))

    assert set(drawn(buffer, 2000)) == {1, 3}


def test_eps_lets_a_row_with_error_zero_be_drawn():
    buffer = filled(2, alpha=1.0, eps=1.0)
    buffer.update_priority(torch.tensor([0, 1]), torch.tensor([0.0, 1.0]))

    assert np.count_nonzero(drawn(buffer, 30_000) == 0) == pytest.approx(10_000, rel=0.05)


def test_new_rows_get_the_largest_priority_or_the_one_they_bring():
    buffer = filled(2, alpha=1.0, eps=0.0)
    buffer.update_priority(0, 5.0)
    buffer.update_priority(0, 2.0)
    buffer.add(tensordict.TensorDict({"row": 2}, []))
    buffer.extend(tensordict.TensorDict({"row": torch.tensor([3, 4]), "td_error": torch.tensor([7.0, 3.0])}, [2]))

    assert buffer.sampler.priorities[np.arange(6)].tolist() == [2, 1, 5, 7, 3, 0]
    assert buffer.sampler.default_priority == 7


def test_a_row_that_is_overwritten_gets_a_new_priority():
    buffer = filled(3, capacity=3, eps=0.0)
    buffer.update_priority(torch.arange(3), torch.zeros(3))
    buffer.add(tensordict.TensorDict({"row": 3}, []))

    assert set(buffer.sample(50)["row"].tolist()) == {3}


def test_a_storage_of_several_dimensions_is_indexed_by_tuples():
    buffer = data.TensorDictReplayBuffer(
        storage=data.LazyTensorStorage(12, ndim=2), sampler=adapter.PrioritizedReplaySampler(12, alpha=1.0, eps=0.0)
    )
    buffer.extend(tensordict.TensorDict({"row": torch.arange(12).reshape(3, 4)}, [3, 4]))
    everything = buffer.sample(300)
    assert everything["row"].equal(everything["index"] @ torch.tensor([1, 4]))  # time comes first in a storage
    everything["td_error"] = (everything["row"] == 7).float()
    buffer.update_tensordict_priority(everything)

    assert set(buffer.sample(100)["row"].tolist()) == {7}


def test_rows_that_a_storage_held_before_can_be_drawn():
    storage = data.LazyTensorStorage(20)
    data.TensorDictReplayBuffer(storage=storage).extend(tensordict.TensorDict({"row": torch.arange(5)}, [5]))
    buffer = data.TensorDictReplayBuffer(storage=storage, sampler=adapter.PrioritizedReplaySampler(20))

    assert set(buffer.sample(100)["row"].tolist()) == {0, 1, 2, 3, 4}


def test_a_plain_buffer_gives_weights_beside_what_it_holds():
    buffer = data.ReplayBuffer(storage=data.ListStorage(10), sampler=adapter.PrioritizedReplaySampler(10))
    buffer.extend([torch.tensor(1.0), torch.tensor(2.0)])
    buffer.update_priority(torch.tensor([0]), torch.tensor([1e6]))
    rows, info = buffer.sample(4, return_info=True)

    assert rows.tolist() == [1] * 4
    assert info["priority_weight"].shape == (4,)


def test_draws_follow_the_seed_or_the_generator_of_the_buffer():
    def first(seed, generator):
        buffer = filled(40, seed=seed)
        if generator is not None:
            buffer.set_rng(torch.Generator().manual_seed(generator))
        return drawn(buffer, 30).tolist()

    assert first(1, None) == first(1, None) != first(2, None)
    assert first(1, 5) == first(2, 5) != first(2, 6)


@pytest.mark.parametrize(
    ("way", "generator"),
    [("state_dict", False), ("state_dict", True), ("dumps", False), ("dumps", True), ("pickle", False)],
)
def test_a_saved_buffer_draws_as_the_one_that_was_saved(way, generator, tmp_path):
    buffer = filled(8, seed=3)
    buffer.update_priority(torch.arange(8), torch.arange(8.0))
    if generator:
        buffer.set_rng(torch.Generator().manual_seed(5))
    loaded = filled(3, seed=9)
    if way == "state_dict":
        loaded.load_state_dict(buffer.state_dict())
    elif way == "dumps":
        buffer.dumps(tmp_path)
        loaded.loads(tmp_path)
    else:
        loaded = pickle.loads(pickle.dumps(buffer))

    ours, theirs = loaded.sample(30), buffer.sample(30)
    assert ours["index"].equal(theirs["index"])
    assert ours["priority_weight"].equal(theirs["priority_weight"])
    assert loaded.sampler.default_priority == buffer.sampler.default_priority == 7


def test_a_state_of_another_capacity_is_refused():
    with pytest.raises(ValueError, match="The state is of 50 rows, but there are 20"):
        adapter.PrioritizedReplaySampler(20).load_state_dict(filled().sampler.state_dict())


def test_beta_may_be_scheduled():
    buffer = filled(3)
    scheduler = schedulers.LinearScheduler(buffer, "beta", final_value=0.0, num_steps=2)
    buffer.update_priority(torch.arange(3), torch.arange(3.0))
    for _ in range(2):
        scheduler.step()

    assert set(buffer.sample(20)["priority_weight"].tolist()) == {1}


def test_an_emptied_buffer_draws_nothing_of_before():
    buffer = filled(5)
    buffer.empty()
    buffer.add(tensordict.TensorDict({"row": 0}, []))

    assert set(drawn(buffer, 30)) == {0}


@pytest.mark.parametrize(
    ("index", "priority", "message"),
    [
        (torch.tensor([0, 1]), torch.tensor([1.0, torch.nan]), "Priority nan"),
        (torch.tensor([0, 1]), torch.tensor([1.0, -2.0]), "is negative"),
        (torch.tensor([0, 1]), torch.tensor([1.0, 2.0, 3.0]), "give one for each row"),
    ],
)
def test_a_priority_that_cannot_be_is_refused(index, priority, message):
    with pytest.raises(ValueError, match=message):
        filled().update_priority(index, priority)


def test_rows_that_a_writer_left_out_keep_their_priority():
    buffer = filled(3, alpha=1.0, eps=0.0)
    buffer.update_priority(torch.tensor([2, -1, 0]), torch.tensor([3.0, 9.0, 4.0]))

    assert buffer.sampler.priorities[np.arange(3)].tolist() == [4, 1, 3]


@pytest.mark.parametrize("arguments", [{"alpha": -1.0}, {"beta": -1.0}, {"eps": float("nan")}])
def test_arguments_out_of_their_range_are_refused(arguments):
    with pytest.raises(ValueError, match="must be finite and not negative"):
        adapter.PrioritizedReplaySampler(10, **arguments)
