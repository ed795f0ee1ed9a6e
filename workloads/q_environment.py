"""Environments for Q-learning: a vector of features to observe, and a number to act with.

Observations are vectors (a Box of one dimension, a MultiDiscrete, a Tuple of Discrete as Blackjack's) or one
Discrete, which becomes a one-hot vector. Actions are Discrete. Unlike in `environments`, a task here decides
for itself, so what a step and a reset give is handed back and not written to ports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from workloads.environments import array_of, make_environment, spaces_of

if TYPE_CHECKING:
    from gymnasium import Env, Space
    from numpy.typing import NDArray

__all__ = [
    "BLACKJACK",
    "BLACKJACK_SCALE",
    "Encoder",
    "Interface",
    "discrete_interface_of",
    "encoder_of",
    "interface_of",
    "make_raw",
]

BLACKJACK = "Blackjack-v1"
"""Registered with `sab=True, natural=False`: the rules of Sutton and Barto, Reinforcement Learning, example 5.1."""
BLACKJACK_SCALE = (32.0, 11.0, 1.0)
"""What the player's sum, the dealer's card and the usable ace are divided by."""


class Encoder(Protocol):
    """Writes features."""

    def __call__(self, observation: Any, features: NDArray[np.float32]) -> None:
        """Fill `features`, shape `(features,)`, from an observation; of vectors also `(N, features)` from N."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """What passes between an environment and who acts in it."""

    features: int
    """Length of the vector that stands for an observation."""
    actions: int
    first_action: int
    """The environment's name for action 0."""


def make_raw(env_id: str) -> Env[Any, Any]:
    """The environment as it is registered."""
    return make_environment(env_id, "raw")


def interface_of(env_id: str) -> Interface:
    """What passes between the environment `env_id` and who acts in it.

    Raises:
        ValueError: for an environment that cannot be made here, or whose observations are no vectors and not
            Discrete, or whose actions are not Discrete.
    """
    from gymnasium.spaces import Discrete

    spaces = spaces_of(env_id, "raw")
    if not isinstance(spaces.action, Discrete):
        raise ValueError(  # noqa: TRY004 - the value of env_id is wrong
            f"Actions of '{env_id}' are {spaces.action}, but Q-learning chooses among Discrete actions. "
            "Choose another environment."
        )
    return Interface(
        features=_feature_count(env_id, spaces.observation),
        actions=int(spaces.action.n),
        first_action=int(spaces.action.start),
    )


def discrete_interface_of(env_id: str) -> Interface:
    """As `interface_of`, for an environment whose observations are Discrete: `features` is how many there are.

    Raises:
        ValueError: as `interface_of`, and for observations that are not Discrete.
    """
    from gymnasium.spaces import Discrete

    interface = interface_of(env_id)
    space = spaces_of(env_id, "raw").observation
    if not isinstance(space, Discrete):
        raise ValueError(  # noqa: TRY004 - the value of env_id is wrong
            f"Observations of '{env_id}' are {space}, but a table has a row for each of Discrete observations. "
            "Choose another environment, or the workload q_learning."
        )
    return interface


def encoder_of(space: Space[Any], scale: tuple[float, ...] | None) -> Encoder:
    """What writes the features of an observation of `space` into an array, each divided by its part of `scale`."""
    from gymnasium.spaces import Discrete

    if isinstance(space, Discrete):
        one_hot = np.eye(int(space.n), dtype=np.float32)
        first = int(space.start)

        def encode_discrete(observation: Any, features: NDArray[np.float32]) -> None:
            features[...] = one_hot[observation - first]

        return encode_discrete
    if scale is None:
        return _encode_vector
    factors = 1 / np.array(scale, np.float32)

    def encode_scaled(observation: Any, features: NDArray[np.float32]) -> None:
        features[...] = observation
        np.multiply(features, factors, out=features)

    return encode_scaled


def _encode_vector(observation: Any, features: NDArray[np.float32]) -> None:
    features[...] = observation


def _feature_count(env_id: str, space: Space[Any]) -> int:
    from gymnasium.spaces import Discrete

    if isinstance(space, Discrete):
        return int(space.n)
    array = array_of(space)
    if array is None or len(array.shape) != 1:
        raise ValueError(
            f"Observations of '{env_id}' are {space}, but the network takes a vector, or a Discrete observation as a "
            "one-hot vector. Choose another environment."
        )
    return array.shape[0]
