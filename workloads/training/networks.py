"""Networks whose weights lie in one flat vector: how it is cut, how it begins, and what computes from it.

One vector is one array on each edge of the graph, one thing to average, to step and to save. It consists of named
*parts*, of which each is a `Perceptron` or a `Scalar`, one behind the other. `Layout` knows where they lie.

Who acts computes with NumPy (`ActingPerceptron`), who learns with PyTorch (`LearningPerceptron`): for a handful of
observations PyTorch's time is calls, five times NumPy's, and processes that only act need not load it. That their last
bits differ decides nothing: they are the same on every runtime.

All memory begins on a 64-byte boundary and belongs to who computes: a matrix product may round differently for memory
that is aligned otherwise, and where a runtime's values lie is its own affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from workloads.policies import aligned_empty

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["ActingPerceptron", "Layout", "Learning", "LearningPerceptron", "Perceptron", "Scalar", "joined"]

Vector = TypeVar("Vector", "NDArray[np.float32]", "Tensor")


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Fully connected layers, with ReLU between them and nothing after the last."""

    sizes: tuple[int, ...]
    """Length of the input, units of each hidden layer, length of the output."""
    last_bound: float | None = None
    """Weights and biases of the last layer are drawn within this; None: as those of the others."""

    @property
    def length(self) -> int:
        """How many weights and biases there are."""
        return sum(after * (before + 1) for before, after in pairwise(self.sizes))

    def initial(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """First values: uniform within 1 / sqrt(inputs) of their layer, as PyTorch draws those of `nn.Linear`."""
        drawn: list[NDArray[np.float64]] = []
        for before, after in pairwise(self.sizes):
            bound = 1 / np.sqrt(before)
            if self.last_bound is not None and len(drawn) == len(self.sizes) - 2:
                bound = self.last_bound
            drawn.append(rng.uniform(-bound, bound, after * (before + 1)))
        return np.concatenate(drawn).astype(np.float32)

    def layers(self, values: Vector) -> Iterator[tuple[Vector, Vector]]:
        """Of each layer the weights `(outputs, inputs)` and the biases: views of `values`, which are flat."""
        start = 0
        for before, after in pairwise(self.sizes):
            biases = start + after * before
            end = biases + after
            yield values[start:biases].reshape(after, before), values[biases:end]
            start = end


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number that is learnt."""

    value: float
    """What it is at first."""

    @property
    def length(self) -> int:
        """One."""
        return 1

    def initial(self, rng: np.random.Generator) -> NDArray[np.float32]:  # noqa: ARG002 - as of a perceptron
        """Its first value."""
        return np.array([self.value], np.float32)


class Layout:
    """Where the parts lie in the vector."""

    def __init__(self, parts: Mapping[str, Perceptron | Scalar]) -> None:
        """Put `parts` one behind the other."""
        self.parts = dict(parts)
        self.slices: dict[str, slice] = {}
        start = 0
        for name, part in self.parts.items():
            self.slices[name] = slice(start, start + part.length)
            start += part.length
        self.length = start
        """Of the whole vector."""

    def span(self, names: tuple[str, ...]) -> slice:
        """Where parts lie that are neighbours."""
        return slice(self.slices[names[0]].start, self.slices[names[-1]].stop)

    def initial(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """The vector at first; parts draw in order."""
        return np.concatenate([part.initial(rng) for part in self.parts.values()])

    def acting(self, values: NDArray[np.float32], rows: int) -> dict[str, ActingPerceptron]:
        """What computes from the networks in `values`, for so many observations at a time.

        `values` may end early, and parts that it does not hold are left out.
        """
        return {
            name: ActingPerceptron(part, values[self.slices[name]], rows)
            for name, part in self.parts.items()
            if isinstance(part, Perceptron) and self.slices[name].stop <= len(values)
        }


class ActingPerceptron:
    """A perceptron as one acts with it: `rows` observations at a time, in memory of its own; nothing is learnt."""

    def __init__(self, shape: Perceptron, values: NDArray[np.float32], rows: int) -> None:
        """Compute with `values`, whatever they are at the time."""
        self.outputs = shape.sizes[-1]
        self._layers = [
            (weights.T, biases, aligned_empty((rows, len(biases)))) for weights, biases in shape.layers(values)
        ]

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The outputs for a batch of shape `(rows, inputs)`; valid until the next call."""
        last = self._layers[-1][2]
        for weights, biases, sums in self._layers:
            np.dot(batch, weights, out=sums)
            np.add(sums, biases, out=sums)
            if sums is not last:
                np.maximum(sums, 0, out=sums)
            batch = sums
        return batch


class LearningPerceptron:
    """A perceptron as one learns it: PyTorch's view of its weights."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        """Compute with weights and biases of `layers`."""
        from torch.nn.functional import linear

        self._linear = linear
        self._hidden, self._last = layers[:-1], layers[-1]

    def __call__(self, batch: Tensor) -> Tensor:
        """The outputs for a batch of shape `(N, inputs)`."""
        for weights, biases in self._hidden:
            batch = self._linear(batch, weights, biases).relu_()
        return self._linear(batch, *self._last)


def joined(first: Tensor, second: Tensor) -> Tensor:
    """Both beside each other: `(N, a)` and `(N, b)` give `(N, a + b)`."""
    import torch

    return torch.cat((first, second), 1)


class Learning:
    """All parts of a vector as one learns them."""

    def __init__(self, layout: Layout, values: Tensor, gradient: Tensor | None) -> None:
        """Compute with `values`, whatever they are at the time; with `gradient`, going backward adds to that."""
        self._networks: dict[str, LearningPerceptron] = {}
        self._scalars: dict[str, Tensor] = {}
        for name, part in layout.parts.items():
            place = layout.slices[name]
            slopes = None if gradient is None else gradient[place]
            if isinstance(part, Scalar):
                self._scalars[name] = _leaf(values[place], slopes)
                continue
            layers = list(part.layers(values[place]))
            of_layers = [(None, None)] * len(layers) if slopes is None else list(part.layers(slopes))
            self._networks[name] = LearningPerceptron(
                [
                    (_leaf(weights, of_weights), _leaf(biases, of_biases))
                    for (weights, biases), (of_weights, of_biases) in zip(layers, of_layers, strict=True)
                ]
            )

    def __getitem__(self, name: str) -> LearningPerceptron:
        """The network called `name`."""
        return self._networks[name]

    def scalar(self, name: str) -> Tensor:
        """The number called `name`, shape `(1,)`."""
        return self._scalars[name]


def _leaf(values: Tensor, gradient: Tensor | None) -> Tensor:
    """`values`, as what a gradient is taken of; going backward adds it to `gradient`, in place."""
    if gradient is None:
        return values
    leaf = values.detach().requires_grad_()
    leaf.grad = gradient
    return leaf
