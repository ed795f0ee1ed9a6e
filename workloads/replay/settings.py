"""What a prioritized buffer is made with: checked once, compared, sent to other processes, saved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from workloads.replay.fields import Field, fields_of
from workloads.replay.tree_arguments import integer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import DTypeLike

__all__ = ["Settings", "not_negative"]

_FAN_OUTS = (2, 4, 8, 16, 32, 64)
_TREE_DTYPES = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of `PrioritizedReplay`, which says what they mean."""

    capacity: int
    fields: tuple[Field, ...]
    alpha: float
    eps: float
    seed: int
    shared: bool
    fan_out: int
    tree_dtype: np.dtype[Any]

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - the arguments of a buffer
        cls,
        capacity: int,
        fields: Mapping[str, tuple[int | tuple[int, ...], DTypeLike]],
        alpha: float,
        eps: float,
        seed: int,
        shared: bool,  # noqa: FBT001
        fan_out: int,
        tree_dtype: DTypeLike,
    ) -> Self:
        """Check arguments.

        Raises:
            TypeError: if one is of the wrong type.
            ValueError: if one is out of its range.
        """
        rows, children, start = integer("capacity", capacity), integer("fan_out", fan_out), integer("seed", seed)
        dtype = np.dtype(tree_dtype)
        if rows < 1:
            raise ValueError(f"capacity is {capacity}, but there must be room for 1 row at least.")
        if children not in _FAN_OUTS:
            raise ValueError(f"fan_out is {fan_out}, but a node has 2, 4, 8, 16, 32 or 64 children.")
        if dtype.name not in _TREE_DTYPES:
            raise ValueError(f"tree_dtype is {dtype}, but leaves and sums are float32 or float64.")
        if start < 0:
            raise ValueError(f"seed is {seed}, but it must not be negative.")
        return cls(
            capacity=rows,
            fields=fields_of(fields),
            alpha=not_negative("alpha", alpha),
            eps=not_negative("eps", eps),
            seed=start,
            shared=bool(shared),
            fan_out=children,
            tree_dtype=dtype,
        )

    def as_config(self) -> dict[str, Any]:
        """As JSON knows it."""
        return {
            "capacity": self.capacity,
            "fields": [[field.name, list(field.shape), field.dtype.name] for field in self.fields],
            "alpha": self.alpha,
            "eps": self.eps,
            "seed": self.seed,
            "shared": self.shared,
            "fan_out": self.fan_out,
            "tree_dtype": self.tree_dtype.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """What `as_config` gave.

        Raises:
            KeyError, TypeError, ValueError: if it is something else.
        """
        fields = {name: (tuple(shape), dtype) for name, shape, dtype in config["fields"]}
        names = ("alpha", "eps", "seed", "shared", "fan_out", "tree_dtype")
        return cls.of(config["capacity"], fields, *(config[name] for name in names))


def not_negative(name: str, value: float) -> float:
    """The value as a float.

    Raises:
        ValueError: if it is negative, infinite or NaN.
    """
    number = float(value)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} is {value}, but it must be finite and not negative.")
    return number
