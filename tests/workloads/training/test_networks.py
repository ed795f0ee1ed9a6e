"""Networks in a flat vector: as one acts with them and as one learns them they are PyTorch's own."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workloads.training.networks import Layout, Learning, Perceptron, Scalar

SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=5).map(tuple)


def textbook(sizes: tuple[int, ...], values: Any) -> Any:
    modules: list[Any] = []
    for before, after in pairwise(sizes):
        modules += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    network = torch.nn.Sequential(*modules[:-1])
    torch.nn.utils.vector_to_parameters(torch.from_numpy(values), network.parameters())
    return network


@given(first=SIZES, second=SIZES, rows=st.integers(1, 6), seed=st.integers(0, 99))
def test_parts_compute_what_a_network_of_torch_computes(first, second, rows, seed):
    rng = np.random.default_rng(seed)
    layout = Layout({"first": Perceptron(first), "number": Scalar(0.5), "second": Perceptron(second)})
    vector = layout.initial(rng)
    acting, learning = layout.acting(vector, rows), Learning(layout, torch.from_numpy(vector), None)
    for name, sizes in (("first", first), ("second", second)):
        batch = rng.normal(size=(rows, sizes[0])).astype(np.float32)
        with torch.no_grad():
            expected = textbook(sizes, vector[layout.slices[name]].copy())(torch.from_numpy(batch)).numpy()
            learnt = learning[name](torch.from_numpy(batch)).numpy()
        assert np.allclose(acting[name](batch), expected, atol=1e-5)
        assert np.allclose(learnt, expected, atol=1e-5)
    assert learning.scalar("number").item() == 0.5


def test_going_backward_fills_the_part_of_the_gradient_that_belongs_to_a_layer():
    layout = Layout({"other": Perceptron((3, 2)), "number": Scalar(2.0), "values": Perceptron((3, 4, 2))})
    vector = torch.from_numpy(layout.initial(np.random.default_rng(0)))
    gradient = torch.zeros(layout.length)
    now = Learning(layout, vector, gradient)
    batch = torch.randn(5, 3)
    (now["values"](batch).square().sum() + 3 * now.scalar("number").sum()).backward()
    place = layout.slices["values"]
    network = textbook((3, 4, 2), vector[place].numpy().copy())
    network(batch).square().sum().backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    assert torch.allclose(gradient[place], expected, atol=1e-5)
    assert gradient[layout.slices["number"]].tolist() == [3.0]
    assert not gradient[layout.slices["other"]].any()


def test_views_follow_the_vector():
    layout = Layout({"values": Perceptron((2, 1))})
    vector = layout.initial(np.random.default_rng(0))
    acting = layout.acting(vector, 1)["values"]
    vector[:] = [1, 2, 3]
    assert acting(np.ones((1, 2), np.float32)).tolist() == [[6.0]]


def test_who_acts_holds_only_the_parts_up_to_the_last_one_needed():
    layout = Layout({"policy": Perceptron((2, 1)), "critic": Perceptron((3, 1))})
    assert set(layout.acting(np.zeros(3, np.float32), 1)) == {"policy"}


@pytest.mark.parametrize(("last", "bound"), [(None, 1 / 20), (3e-3, 3e-3)])
def test_weights_begin_as_torch_draws_those_of_linear_layers_the_last_as_it_is_told(last, bound):
    perceptron = Perceptron((100, 400, 50), last)
    first, second = np.split(np.abs(perceptron.initial(np.random.default_rng(0))), [400 * 101])
    assert 0.099 < first.max() <= 0.1
    assert 0.99 * bound < second.max() <= bound
