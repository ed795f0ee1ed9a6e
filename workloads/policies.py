"""Policies that compute the actions of N environments from one batch of their observations.

Each is seeded and fixed: nothing is learnt. Weights are drawn as PyTorch draws those of a linear or
convolutional layer, uniform within 1 / sqrt(inputs), from a NumPy stream of the driver's, so that they
are the same bits on every runtime. Biases are zero, as is usual at the start in RL: what is done then
depends on what is observed, where drawn biases would often make it the same action for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gymnasium import Space
    from numpy.typing import NDArray

    from workloads.dataflow import ArraySpec

__all__ = ["Policy", "PolicyName", "aligned_empty", "check_policy", "make_policy"]

PolicyName = Literal["linear", "mlp64", "nature_cnn"]

ALIGNMENT_BYTES = 64
"""A cache line, and the widest vector register."""
HIDDEN_UNITS = 64
NATURE_CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""(filters, kernel, stride): Mnih et al., Human-level control through deep reinforcement learning, Nature 2015."""
NATURE_UNITS = 512
NATURE_LEAST_SIDE = 36
"""The smallest image side that leaves one pixel after the three convolutions."""


class Policy(Protocol):
    """Computes a batch of actions."""

    def __call__(self, batch: NDArray[np.float32], actions: NDArray[Any]) -> None:
        """Fill `actions`, shape `(N, *action shape)`, from observations `batch`, shape `(N, *shape)`."""
        ...


def aligned_empty(shape: Sequence[int]) -> NDArray[np.float32]:
    """An uninitialised float32 array that begins on a 64-byte boundary.

    A matrix product may take another path, and round differently, for memory that is aligned otherwise.
    """
    nbytes = int(np.prod(shape, dtype=np.int64)) * 4
    memory = np.empty(nbytes + ALIGNMENT_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT_BYTES
    return memory[start : start + nbytes].view(np.float32).reshape(tuple(shape))


def check_policy(name: str, env_id: str, observation: ArraySpec | None, action: Space[Any]) -> None:
    """Raise unless policy `name` can act in an environment with these observations and actions.

    Raises:
        ValueError: for observations that are no arrays, actions that are neither Discrete nor a bounded
            Box of floats, or `nature_cnn` without images.
    """
    from gymnasium.spaces import Box, Discrete

    if observation is None:
        raise ValueError(
            f"Observations of '{env_id}' are no arrays of fixed shape, which policy '{name}' needs. "
            "Use actions='local', or another environment."
        )
    continuous = isinstance(action, Box) and action.is_bounded() and np.issubdtype(action.dtype, np.floating)
    if not (isinstance(action, Discrete) or continuous):
        raise ValueError(
            f"Actions of '{env_id}' are {action}, but policy '{name}' gives Discrete or bounded Box of float actions. "
            "Use actions='local', or another environment."
        )
    if name == "nature_cnn" and not _is_image(observation):
        raise ValueError(
            f"Observations of '{env_id}' have shape {observation.shape} and dtype {np.dtype(observation.dtype)}, but "
            f"policy 'nature_cnn' needs uint8 images of {NATURE_LEAST_SIDE} x {NATURE_LEAST_SIDE} pixels or more. "
            "Use policy 'linear' or 'mlp64', or an ALE environment."
        )


def make_policy(name: PolicyName, rng: np.random.Generator, batch_shape: tuple[int, ...], action: Space[Any]) -> Policy:
    """The policy `name` for batches of `batch_shape` `(N, *shape)`, with parameters drawn from `rng`."""
    head = _head_for(action)
    if name == "nature_cnn":
        return _NatureCNN(rng, batch_shape, head)
    hidden = {"linear": (), "mlp64": (HIDDEN_UNITS, HIDDEN_UNITS)}[name]
    return _Perceptron(rng, batch_shape, hidden, head)


def _is_image(observation: ArraySpec) -> bool:
    shape = observation.shape
    return (
        np.dtype(observation.dtype) == np.uint8
        and len(shape) in {2, 3}
        and min(shape[:2], default=0) >= NATURE_LEAST_SIDE
    )


# -------------------------------------------------------------------------------------------- heads


class _Head(Protocol):
    """Turns a row of scores into an action."""

    @property
    def scores(self) -> int:
        """How many scores it needs for an action."""
        ...

    def write(self, scores: NDArray[np.float32], actions: NDArray[Any]) -> None:
        """Fill `actions` from `scores`, shape `(N, self.scores)`."""
        ...


@dataclass(frozen=True, slots=True)
class _Choice:
    """The action with the highest score."""

    scores: int
    first: int

    def write(self, scores: NDArray[np.float32], actions: NDArray[Any]) -> None:
        actions[...] = np.argmax(scores, axis=1)
        if self.first:
            actions += self.first


@dataclass(frozen=True, slots=True)
class _Bounded:
    """Scores squashed between the bounds of each dimension."""

    centre: NDArray[np.float32]
    half: NDArray[np.float32]

    @property
    def scores(self) -> int:
        return len(self.centre)

    def write(self, scores: NDArray[np.float32], actions: NDArray[Any]) -> None:
        actions[...] = (self.centre + self.half * np.tanh(scores)).reshape(actions.shape)


def _head_for(action: Space[Any]) -> _Head:
    from gymnasium.spaces import Box, Discrete

    if isinstance(action, Discrete):
        return _Choice(int(action.n), int(action.start))
    assert isinstance(action, Box)
    low, high = action.low.ravel().astype(np.float64), action.high.ravel().astype(np.float64)
    return _Bounded(((high + low) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32))


# ----------------------------------------------------------------------------------------- networks


def _weights(rng: np.random.Generator, shape: tuple[int, ...], inputs: int) -> NDArray[np.float32]:
    """Weights of a layer with `inputs` inputs to each unit."""
    weights = aligned_empty(shape)
    bound = 1 / np.sqrt(inputs)
    weights[...] = rng.uniform(-bound, bound, shape)
    return weights


def _zeros(units: int) -> NDArray[np.float32]:
    """Biases of a layer of `units` units."""
    biases = aligned_empty((units,))
    biases[...] = 0
    return biases


class _Perceptron:
    """Layers of weighted sums with tanh between them; none between gives a linear policy."""

    def __init__(
        self, rng: np.random.Generator, batch_shape: tuple[int, ...], hidden: tuple[int, ...], head: _Head
    ) -> None:
        members, inputs = batch_shape[0], int(np.prod(batch_shape[1:], dtype=np.int64))
        widths = (inputs, *hidden, head.scores)
        self._head = head
        self._flat = (members, inputs)
        self._layers = [
            (_weights(rng, (before, after), before), _zeros(after), aligned_empty((members, after)))
            for before, after in pairwise(widths)
        ]

    def __call__(self, batch: NDArray[np.float32], actions: NDArray[Any]) -> None:
        values = batch.reshape(self._flat)
        last = self._layers[-1][2]
        for weights, biases, sums in self._layers:
            np.matmul(values, weights, out=sums)
            np.add(sums, biases, out=sums)
            if sums is not last:
                np.tanh(sums, out=sums)
            values = sums
        self._head.write(values, actions)


class _NatureCNN:
    """The network of Mnih et al. 2015, on images of any size, with a channel for each of theirs."""

    def __init__(self, rng: np.random.Generator, batch_shape: tuple[int, ...], head: _Head) -> None:
        import torch

        torch.set_num_threads(1)  # every side of a comparison gets one thread
        self._torch = torch
        self._head = head
        self._gray = len(batch_shape) == len(("N", "height", "width"))
        height, width = batch_shape[1:3]
        channels = 1 if self._gray else batch_shape[3]
        self._convolutions = []
        for filters, kernel, stride in NATURE_CONVOLUTIONS:
            weights = _weights(rng, (filters, channels, kernel, kernel), channels * kernel**2)
            self._convolutions.append((torch.from_numpy(weights), torch.from_numpy(_zeros(filters)), stride))
            height, width, channels = (height - kernel) // stride + 1, (width - kernel) // stride + 1, filters
        features = height * width * channels
        self._dense = [
            (torch.from_numpy(_weights(rng, (after, before), before)), torch.from_numpy(_zeros(after)))
            for before, after in ((features, NATURE_UNITS), (NATURE_UNITS, head.scores))
        ]

    def __call__(self, batch: NDArray[np.float32], actions: NDArray[Any]) -> None:
        torch = self._torch
        functional = torch.nn.functional
        with torch.no_grad():
            images = torch.from_numpy(batch)
            values = images.unsqueeze(1) if self._gray else images.permute(0, 3, 1, 2)
            values = values / 255
            for weights, biases, stride in self._convolutions:
                values = functional.relu(functional.conv2d(values, weights, biases, stride))
            (weights, biases), (last_weights, last_biases) = self._dense
            values = functional.relu(functional.linear(values.flatten(1), weights, biases))
            scores = functional.linear(values, last_weights, last_biases)
        self._head.write(scores.numpy(), actions)
