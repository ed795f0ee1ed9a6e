"""Where PyTorch computes: in the memory that NumPy sees, or in a copy, as on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from runtimes.sequential import SequentialSession
from tests.workloads.training.kit import graph
from workloads.dataflow import ArraySpec
from workloads.training.device import Mirror


def learnt(rounds: int = 20, **parameters: Any) -> tuple[Any, Any]:
    """Weights and targets, half-way resumed."""
    built = graph(algorithm="sac", replay="prioritized", **parameters)
    with SequentialSession(built) as session:
        session.advance(rounds // 2)
        state = session.state()
    with SequentialSession(built.resumed(state)) as session:
        session.advance(rounds // 2)
        tallies = session.tallies()
    return tallies["optimiser"][0]["weights"], tallies["learner"][1]["targets"]


def test_on_the_processor_there_is_one_copy_on_a_boundary_of_64_bytes():
    mirror = Mirror(ArraySpec((5,), "float32"), "cpu")
    mirror.array[2] = 7
    assert mirror.tensor.tolist() == [0, 0, 7, 0, 0]
    assert mirror.tensor.data_ptr() % 64 == 0


def test_with_two_copies_of_everything_as_on_a_gpu_the_same_is_learnt(monkeypatch):
    expected = learnt()
    monkeypatch.setattr(torch.Tensor, "to", lambda self, _device: self.clone())
    mirror = Mirror(ArraySpec((2,), "float32"), "cpu")
    mirror.array[...] = 1
    assert mirror.tensor.tolist() == [0, 0]
    assert all(np.array_equal(*pair) for pair in zip(learnt(), expected, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_learns_what_the_processor_learns():
    assert all(np.allclose(*pair, atol=1e-4) for pair in zip(learnt(10, device="cuda"), learnt(10), strict=True))
