"""What passes between an environment and who acts in it: vectors to observe, and choices or vectors to act with.

Networks see observations as float32 vectors. A Discrete action is a number from 0; a Box action is a vector between
-1 and 1, which `act_in` stretches between the bounds of each dimension: so networks, noise and what is stored mean the
same in every environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.environments import spaces_of

if TYPE_CHECKING:
    from gymnasium import Space
    from numpy.typing import NDArray

__all__ = ["Interface", "interface_of"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interface:
    """What an environment observes and does."""

    features: int
    """Length of an observation."""
    actions: int
    """How many actions there are to choose from, or, where they are vectors, their length."""
    first: int = 0
    """The environment's name for choice 0."""
    centre: NDArray[np.float64] | None = None
    """Of vectors: the action that 0 stands for; None where actions are choices."""
    half: NDArray[np.float64] | None = None
    """Of vectors: how far from there 1 and -1 are."""
    dtype: str = "int64"
    """What the environment's actions are made of."""

    @property
    def chooses(self) -> bool:
        """Whether an action is a choice, not a vector."""
        return self.centre is None

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Shape of an action as it is stored."""
        return () if self.chooses else (self.actions,)

    @property
    def action_dtype(self) -> str:
        """Dtype of an action as it is stored."""
        return "int64" if self.chooses else "float32"

    def random_actions(self, rng: np.random.Generator, lead: tuple[int, ...]) -> NDArray[Any]:
        """Actions that are equally likely, `(*lead, *action_shape)`."""
        if self.chooses:
            return rng.integers(self.actions, size=lead)
        return rng.uniform(-1, 1, (*lead, self.actions)).astype(np.float32)

    def act_in(self, action: Any) -> Any:
        """The environment's action for a choice or a vector between -1 and 1, in memory of its own."""
        if self.centre is None:
            return self.first + int(action)
        return (self.centre + self.half * action).astype(self.dtype)


def interface_of(env_id: str) -> Interface:
    """What passes between the environment `env_id` and who acts in it.

    Raises:
        ValueError: for an environment that cannot be made here, whose observations are no vectors, or whose actions
            are neither Discrete nor bounded vectors of floats.
    """
    from gymnasium.spaces import Discrete

    spaces = spaces_of(env_id, "raw")
    features = _features(env_id, spaces.observation)
    action = spaces.action
    if isinstance(action, Discrete):
        return Interface(features=features, actions=int(action.n), first=int(action.start))
    bounds = _bounds(action)
    if bounds is None:
        raise ValueError(
            f"Actions of '{env_id}' are {action}, but the algorithms choose among Discrete actions or give vectors of "
            "floats within bounds. Choose another environment."
        )
    low, high = bounds
    return Interface(
        features=features,
        actions=len(low),
        centre=(high + low) / 2,
        half=(high - low) / 2,
        dtype=str(np.dtype(action.dtype)),
    )


def _features(env_id: str, space: Space[Any]) -> int:
    from gymnasium.spaces import Box

    if not isinstance(space, Box) or len(space.shape) != 1:
        raise ValueError(
            f"Observations of '{env_id}' are {space}, but the networks take a Box of one dimension. "
            "Choose another environment."
        )
    return int(space.shape[0])


def _bounds(space: Space[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Lowest and highest value in each dimension of a bounded vector of floats."""
    from gymnasium.spaces import Box

    if not (isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)):
        return None
    return (space.low.astype(np.float64), space.high.astype(np.float64)) if space.is_bounded() else None
