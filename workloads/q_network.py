"""The network of `q_learning`: features -> hidden units (ReLU) -> the value of each action.

All weights are one flat float32 vector: the weight matrix and the biases of the first layer, then those of the
second, matrices as `(outputs, inputs)`, row by row, as PyTorch flattens them. So what is broadcast is one array,
and the optimizer has one parameter.

Who acts computes with NumPy, who learns with PyTorch. For one observation and 32 units a forward pass takes NumPy
5 us and PyTorch 25 us (`functional.linear` under `inference_mode`): PyTorch's time is calls, not arithmetic, and it
would be most of a step of a quick environment. Without it, processes that only act need not load PyTorch either,
which is more than a second of start-up and some 200 MB. The values differ in the last bits from PyTorch's, which
decides nothing: they are the same on every runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workloads.policies import aligned_empty

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ActingNetwork", "NetworkShape", "initial_weights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """How many features, hidden units and actions."""

    features: int
    hidden: int
    actions: int

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Lengths of the parts of the flat vector: weights and biases of the first layer, then of the second."""
        return self.hidden * self.features, self.hidden, self.actions * self.hidden, self.actions

    @property
    def weights(self) -> int:
        """Length of the flat vector."""
        return sum(self.sizes)


def initial_weights(rng: np.random.Generator, shape: NetworkShape) -> NDArray[np.float32]:
    """Weights and biases uniform within 1 / sqrt(inputs) of their layer, as PyTorch draws those of `nn.Linear`."""
    inputs = np.repeat([shape.features, shape.features, shape.hidden, shape.hidden], shape.sizes)
    bounds = 1 / np.sqrt(inputs)
    weights: NDArray[np.float32] = rng.uniform(-bounds, bounds).astype(np.float32)
    return weights


class ActingNetwork:
    """The network as one acts with it: an observation at a time, or many; nothing is learnt."""

    def __init__(self, shape: NetworkShape) -> None:
        """Make room for weights, all zero."""
        # A matrix product may round differently for memory that is aligned otherwise.
        self._weights = aligned_empty((shape.weights,))
        self._weights[...] = 0
        first, biases, second, last_biases = np.split(self._weights, np.cumsum(shape.sizes)[:-1])
        self._first, self._biases = first.reshape(shape.hidden, shape.features), biases
        self._second, self._last_biases = second.reshape(shape.actions, shape.hidden), last_biases
        self._hidden = aligned_empty((shape.hidden,))
        self._values = aligned_empty((shape.actions,))

    def load(self, weights: NDArray[np.float32]) -> None:
        """Take over `weights`, the flat vector."""
        self._weights[...] = weights

    def best_action(self, features: NDArray[np.float32]) -> int:
        """The action of the highest value, the first of equals; `features` has shape `(features,)`."""
        hidden, values = self._hidden, self._values
        self._first.dot(features, hidden)
        np.add(hidden, self._biases, out=hidden)
        np.maximum(hidden, 0, out=hidden)
        self._second.dot(hidden, values)
        np.add(values, self._last_biases, out=values)
        return int(values.argmax())

    def best_actions(self, batch: NDArray[np.float32]) -> NDArray[np.int64]:
        """The same for a batch of shape `(N, features)`: shape `(N,)`."""
        hidden = np.maximum(batch @ self._first.T + self._biases, 0)
        best: NDArray[np.int64] = (hidden @ self._second.T + self._last_biases).argmax(axis=1)
        return best
