"""UniformReplay: draws all rows alike, and none by priority."""

from __future__ import annotations

import numpy as np
import pytest

from workloads.replay import UniformReplay

FIELDS = {"obs": ((3,), "float32"), "action": ((), "int64")}


def filled(rows, capacity=10, seed=0):
    replay = UniformReplay(capacity, FIELDS, seed)
    replay.add(obs=np.outer(np.arange(rows), np.ones(3)).astype(np.float32), action=np.arange(rows))
    return replay


@pytest.mark.parametrize(("rows", "capacity"), [(7, 10), (10, 10), (25, 10), (1, 1), (1000, 1 << 20)])
def test_the_rows_drawn_are_the_generators_numbers_times_the_rows_stored(rows, capacity):
    replay = filled(rows, capacity, seed=5)
    stored = min(rows, capacity)

    batch = replay.sample(1000)

    expected = np.floor(np.random.Generator(np.random.PCG64(5)).random(1000) * stored).astype(np.int64)
    assert np.array_equal(batch["indices"], expected)
    assert np.array_equal(batch["action"] % capacity, expected)
    assert np.array_equal(batch["generations"], batch["action"])
    assert np.array_equal(batch["obs"][:, 2], batch["action"])
    assert (batch["weights"] == 1).all()
    assert len(replay) == stored


def test_frequencies_are_those_of_equal_chances():
    counts = np.bincount(filled(25).sample(10_000)["indices"], minlength=10)

    assert ((counts - 1000) ** 2 / 1000).sum() < 29.7  # 99.95 % of chi-square with 9 degrees of freedom


def test_batches_are_written_into_the_arrays_that_are_given_and_become_tensors_without_a_copy():
    import torch

    out = {"obs": np.zeros((4, 3), np.float32), "indices": np.zeros(4, np.int64)}

    batch = filled(8).sample(4, out=out)

    assert all(batch[name] is array for name, array in out.items())
    for array in batch.values():
        assert array.flags.carray
        assert torch.from_numpy(array).data_ptr() == array.ctypes.data


def test_there_are_no_priorities_to_give():
    with pytest.raises(TypeError, match="drawn alike here, without priorities"):
        filled(1).add(obs=np.zeros(3), action=0, priorities=1.0)
    assert not hasattr(UniformReplay, "update_priorities")


def test_nothing_is_drawn_from_an_empty_buffer():
    with pytest.raises(ValueError, match="Nothing can be drawn"):
        UniformReplay(3, FIELDS).sample(1)
