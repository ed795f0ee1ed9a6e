"""Fields of a replay buffer from the spaces of an environment.

Nothing is imported for it: a space is recognised by the names of its class and of those it derives from, so that it
works with Gymnasium, its forks and subclasses. What a space holds inside another is one field, named by the way to it:
`obs.camera`, `obs.arm.0`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike, NDArray

__all__ = ["named_arrays", "space_fields", "transition_fields"]

T = TypeVar("T")

ARRAY_SPACES = frozenset({"Box", "Discrete", "MultiDiscrete", "MultiBinary"})
"""Spaces whose values are arrays of one shape and dtype."""

UNBOUNDED_SPACES = {
    "Sequence": "the length of its values differs",
    "Graph": "the number of nodes and edges of its values differs",
    "Text": "the length of its values differs",
    "OneOf": "its values are of one space or of another",
}


def transition_fields(
    observation_space: Any, action_space: Any, *, reward_dtype: DTypeLike = "float32"
) -> dict[str, tuple[tuple[int, ...], str]]:
    """The fields of a transition: `obs`, `action`, `reward`, `next_obs`, `terminated`, `truncated`.

    They are made of the spaces of one environment: those of a vector environment are its `single_observation_space`
    and `single_action_space`. Of a `Dict` or `Tuple` each part is a field: `obs.camera`, `next_obs.camera`.

    Returns:
        Shape and dtype by name, as `PrioritizedReplay` and the others take them. The dtypes are those of the spaces;
        `fields | {"obs": ((11,), "float32")}` stores what an environment gives as float64 in half the memory.

    Raises:
        TypeError: for a space whose values have no fixed shape.
        ValueError: for two parts of a space that get the same name.
    """
    return {
        **space_fields("obs", observation_space),
        **space_fields("action", action_space),
        "reward": ((), np.dtype(reward_dtype).name),
        **space_fields("next_obs", observation_space),
        "terminated": ((), "bool"),
        "truncated": ((), "bool"),
    }


def space_fields(name: str, space: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each array that a value of `space` consists of, by its name, which begins with `name`.

    Box, Discrete, MultiDiscrete and MultiBinary are one array, called `name`; each part of a Dict is called
    `name.key`, and of a Tuple `name.0`, `name.1` and so on.

    Raises:
        TypeError: for a space whose values have no fixed shape (Sequence, Graph, Text, OneOf), or for no space.
        ValueError: for two parts that get the same name.
    """
    classes = [base.__name__ for base in type(space).__mro__]
    if not ARRAY_SPACES.isdisjoint(classes):
        return {name: (tuple(int(length) for length in space.shape), np.dtype(space.dtype).name)}
    if "Dict" in classes or "Tuple" in classes:
        parts = space.spaces
        return _joined(name, parts if isinstance(parts, Mapping) else dict(enumerate(parts)), space_fields)
    reason = next((UNBOUNDED_SPACES[kind] for kind in classes if kind in UNBOUNDED_SPACES), "it is no such space")
    raise TypeError(
        f"Space {space!r} of '{name}' has no arrays of fixed shape: {reason}. A buffer stores Box, Discrete, "
        "MultiDiscrete, MultiBinary, and Dict and Tuple of them. Convert what the environment gives to one of these, "
        "or give the fields yourself: {'obs': ((11,), 'float32')}."
    )


def named_arrays(name: str, value: Any) -> dict[str, NDArray[Any]]:
    """The arrays that `value`, an observation or an action, consists of, by the names that `space_fields` gives them.

    `replay.add(**named_arrays("obs", obs), **named_arrays("next_obs", next_obs), ...)` adds what a Dict or Tuple
    space gave, of one environment or of a vector environment (then every array has a leading axis).

    Raises:
        ValueError: for two parts that get the same name.
    """
    if isinstance(value, Mapping):
        return _joined(name, value, named_arrays)
    if isinstance(value, tuple):
        return _joined(name, dict(enumerate(value)), named_arrays)
    return {name: np.asarray(value)}


def _joined(name: str, parts: Mapping[Any, Any], named: Callable[[str, Any], dict[str, T]]) -> dict[str, T]:
    """What `named` makes of all `parts`, each called by its key after `name`."""
    joined: dict[str, T] = {}
    for key, part in parts.items():
        inner = named(f"{name}.{key}", part)
        twice = sorted(joined.keys() & inner.keys())
        if twice:
            raise ValueError(
                f"Two parts of '{name}' are both called '{twice[0]}', which must name one array. "
                "Rename a key, so that keys joined by dots differ."
            )
        joined |= inner
    return joined
