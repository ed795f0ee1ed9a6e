"""What an algorithm says of itself, for the tasks, which are the same for all of them.

An `Algorithm` says which networks there are, what is minimised and how targets follow; a `Player` how one acts. The
rest is the tasks': where transitions come from, who computes on which part of a minibatch, the step of the optimiser.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from workloads.policies import aligned_empty
from workloads.training.arguments import Arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from workloads.training.networks import Layout, Learning
    from workloads.training.spaces import Interface

__all__ = ["Algorithm", "Batch", "Group", "Player", "Study"]

AnyArguments = TypeVar("AnyArguments", bound=Arguments)


@dataclass(frozen=True, slots=True)
class Batch:
    """The transitions of a learner, b of them."""

    observation: Tensor
    """`(b, features)`."""
    action: Tensor
    """`(b,)` int64 for choices, `(b, length)` between -1 and 1 for vectors."""
    reward: Tensor
    """`(b,)`; of n steps their discounted sum."""
    next_observation: Tensor
    """`(b, features)`: what was observed after the last of these steps, also where that ended an episode."""
    discounts: Tensor
    """`(b,)`: what the value of `next_observation` counts: gamma^n, and 0 where the environment terminated."""
    weights: Tensor
    """`(b,)`: importance weights."""


@dataclass(frozen=True, slots=True)
class Study:
    """What a learner learns with, in one update."""

    update: int
    """The number of this update, from 1."""
    now: Learning
    """What is learnt: gradients are taken of it."""
    fixed: Learning
    """The same values, of which no gradient is taken."""
    target: Learning
    """What the targets have come to."""
    normal: Callable[[], Tensor]
    """Standard normal numbers, `(b, length of an action)`, from the learner's own stream; others at each call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parts of the weights, neighbours in the layout, that the optimiser steps together."""

    parts: tuple[str, ...]
    rate: float
    """Learning rate."""
    period: int = 1
    """They are stepped in every so many-th update."""

    def is_due(self, update: int) -> bool:
        """Whether they are stepped in this update, counted from 1."""
        return update % self.period == 0


class Player(ABC):
    """Acts in several environments at a time, an observation of each in a row."""

    def __init__(self, layout: Layout, last_part: str, rows: int) -> None:
        """Make room for the weights up to those of `last_part`, all zero."""
        self._weights = aligned_empty((layout.slices[last_part].stop,))
        self._weights[...] = 0
        self.networks = layout.acting(self._weights, rows)
        self.rows = rows

    def load(self, weights: NDArray[np.float32]) -> None:
        """Take over the first `weights`."""
        self._weights[...] = weights

    @abstractmethod
    def best(self, observations: NDArray[np.float32]) -> NDArray[Any]:
        """The actions thought best, `(rows, *action shape)`, for observations `(rows, features)`."""

    @abstractmethod
    def plan(self, rng: np.random.Generator, steps: int, taken: int) -> None:
        """Draw all that exploring takes in so many steps; all actors together have `taken` steps so far.

        Drawn one by one, random numbers would cost as much as the network.
        """

    @abstractmethod
    def explore(self, observations: NDArray[np.float32], at: int) -> NDArray[Any]:
        """As `best`, but explores with what was drawn for step `at` of the plan."""

    def ended(self, row: int) -> None:  # noqa: B027 - a hook, empty by intent
        """An episode has ended in environment `row`."""

    def state(self) -> dict[str, Any]:
        """What is kept from round to round, besides weights."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - as above
        """Go on from `state`."""


class Algorithm(ABC, Generic[AnyArguments]):
    """What is learnt, and how."""

    chooses: ClassVar[bool] = False
    """Whether actions are choices."""

    acts_with: str = "policy"
    """The last part of the weights that one acts with."""
    layout: Layout
    """The parts of what is learnt."""
    groups: tuple[Group, ...]
    """What the optimiser steps together; all parts of the layout, in order."""

    def __init__(self, arguments: AnyArguments, interface: Interface) -> None:
        """Lay out the networks."""
        self.arguments = arguments
        self.interface = interface

    @abstractmethod
    def player(self, rows: int) -> Player:
        """Who acts in so many environments."""

    @abstractmethod
    def targets(self, study: Study, batch: Batch) -> Tensor:
        """What the values of `batch` should be, `(b,)`; called where no gradients are taken."""

    @abstractmethod
    def losses(self, study: Study, batch: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each transition, `(b,)`, of which gradients are taken; temporal-difference errors, `(b,)`.

        What is minimised is the sum of the losses over the minibatch of all learners, divided by its length.
        """

    @abstractmethod
    def follow(self, target: Tensor, now: Tensor, update: int) -> None:
        """Let `target` follow `now`, both the whole vector, after this update, counted from 1."""
