"""Returns of n steps: single steps of episodes go in, rows that are ready to be stored come out.

A row is made when its n successors are there, or its episode has ended: before it is written, not when it is drawn.
So a row in a buffer is whole. It needs no neighbour that may be overwritten, any buffer can hold it, shared or not,
and what makes it runs beside the environments, where those steps come from anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workloads.replay.fields import columns_of, fields_of
from workloads.replay.tree_arguments import integer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["NStep"]

OF_THE_LAST_STEP = ("terminated", "truncated")
"""Fields that a row takes from its last step, as all those that begin with `next_`."""


class NStep:
    """Turns steps into rows with n-step returns, for several environments, each a stream of its own.

    A row begins at one step and goes k steps on: k = n, or fewer if the episode ended (`terminated` or `truncated`)
    at the k-th. Then

    - `reward` is the sum of gamma^i times the i-th reward, i = 0 ... k - 1, added up in this order in float64;
    - fields that begin with `next_`, and `terminated` and `truncated`, are those of the k-th step;
    - `discounts`, a field that is added (float32), is gamma^k, and 0 if that step terminated: a target is
      `reward + discounts * value(next_obs)`. A truncated episode goes on as far as values are concerned;
    - all other fields are those of the first step.

    Args:
        fields: of one step, as `PrioritizedReplay` takes them; `reward` (a float), `terminated` and `truncated` are
            among them.
        n_steps: the most steps that a row goes, n.
        gamma: the discount of one step, 0 to 1.
        environments: how many streams there are.

    Attributes:
        fields: of a row: those of a step, and `discounts`. Make the buffer with these.

    Raises:
        ValueError: for a field that is missing or cannot be summed, or a number out of its range.
    """

    def __init__(
        self,
        fields: Mapping[str, tuple[int | tuple[int, ...], DTypeLike]],
        n_steps: int = 3,
        gamma: float = 0.99,
        environments: int = 1,
    ) -> None:
        self._steps = fields_of(fields)
        _check_fields({field.name: (field.shape, field.dtype) for field in self._steps})
        self.n_steps = integer("n_steps", n_steps)
        self.gamma = float(gamma)
        self.environments = integer("environments", environments)
        if self.n_steps < 1 or self.environments < 1 or not 0 <= self.gamma <= 1:
            raise ValueError(
                f"n_steps is {n_steps}, environments is {environments} and gamma {gamma}. A row goes 1 step or more, "
                "there is 1 environment or more, and a discount is from 0 to 1."
            )
        self.fields = {field.name: (field.shape, field.dtype.name) for field in self._steps} | {
            "discounts": ((), "float32")
        }
        # By repeated multiplication, so that all machines have the same bits; a library's power may differ.
        self._powers = np.cumprod([1.0, *[self.gamma] * self.n_steps])
        self._kept = [f for f in self._steps if not (f.name.startswith("next_") or f.name in OF_THE_LAST_STEP)]
        self._pending: dict[str, NDArray[Any]] = {
            "env": np.empty(0, np.int64),
            **{field.name: np.empty((0, *field.shape), field.dtype) for field in self._kept},
        }

    def __len__(self) -> int:
        """Steps that wait for their successors: at most n - 1 of each environment."""
        return len(self._pending["env"])

    def push(self, *, env: ArrayLike | None = None, **step: ArrayLike) -> dict[str, NDArray[Any]]:
        """Take one step or N, and return the rows that are whole now, to be added to a buffer: `add(**rows)`.

        Args:
            env: which environment each step is of, 0 ... environments - 1; steps of one environment are given in the
                order in which they were made. May be left out for a single environment, and for one step of each.
            step: every field, of shape (*shape) or (N, *shape).

        Returns:
            M rows, each field of shape (M, *shape), M >= 0: ordered by the step that made them whole, then by their
            first. To push N steps at once gives the rows that pushing them one by one gives.

        Raises:
            TypeError: for a field that is missing, unknown or of another kind of dtype.
            ValueError: for a shape that does not fit, or an environment that there is not.
        """
        columns, _ = columns_of(self._steps, step)
        new = {field.name: column for field, column in zip(self._steps, columns, strict=True)}
        held = len(self)
        envs = environments_of(env, len(columns[0]), self.environments)
        stream = {
            name: np.concatenate((column, envs if name == "env" else new[name]))
            for name, column in self._pending.items()
        }
        # What waits has not ended, or it would be whole.
        ended = np.concatenate((np.zeros(held, np.bool_), new["terminated"] | new["truncated"]))
        found = self._windows(stream["env"], stream["reward"], ended)
        self._pending = {name: column[found.waiting] for name, column in stream.items()}
        # A step that makes a row whole has only just come.
        last = found.last - held
        rows = {name: stream[name][found.first] if name in stream else column[last] for name, column in new.items()}
        rows["reward"] = found.returns.astype(new["reward"].dtype)
        rows["discounts"] = (self._powers[found.steps] * ~rows["terminated"]).astype(np.float32)
        return rows

    def state(self) -> dict[str, NDArray[Any]]:
        """The steps that wait, as arrays by name: all that `restore` needs."""
        return {name: column.copy() for name, column in self._pending.items()}

    def restore(self, state: Mapping[str, ArrayLike]) -> None:
        """Go on from what `state` gave, of an object made with the same arguments.

        Raises:
            TypeError: for a field that is missing, unknown or of another kind of dtype.
            ValueError: for a shape that does not fit, or an environment that there is not.
        """
        given = dict(state)
        env = given.pop("env", np.empty(0, np.int64))
        columns, _ = columns_of(tuple(self._kept), given)
        envs = environments_of(env, len(columns[0]), self.environments)
        if len(envs) and np.bincount(envs).max() >= self.n_steps:
            raise ValueError(
                f"More than {self.n_steps - 1} steps of one environment wait, but n_steps is {self.n_steps}."
            )
        self._pending = {"env": envs} | {f.name: c for f, c in zip(self._kept, columns, strict=True)}

    def _windows(self, envs: NDArray[Any], rewards: NDArray[Any], ended: NDArray[Any]) -> _Windows:
        """Which steps are whole, and how far each goes; positions are those of the arguments, in order of arrival."""
        order = np.argsort(envs, kind="stable")
        envs, rewards, ended = envs[order], rewards[order].astype(np.float64), ended[order]
        positions = np.arange(len(order))
        going = np.ones(len(order), np.bool_)
        returns, steps, last = np.zeros(len(order)), np.zeros_like(positions), positions
        for i in range(self.n_steps):
            at = np.minimum(positions + i, len(order) - 1)
            going = going & (envs[at] == envs) & (at == positions + i)
            returns[going] += self._powers[i] * rewards[at[going]]
            steps[going] += 1
            last = np.where(going, at, last)
            going &= ~ended[at]
        whole = (steps == self.n_steps) | ended[last]
        first, last = order[whole], order[last[whole]]
        by_arrival = np.lexsort((first, last))
        return _Windows(
            first=first[by_arrival],
            last=last[by_arrival],
            returns=returns[whole][by_arrival],
            steps=steps[whole][by_arrival],
            waiting=np.sort(order[~whole]),
        )


class _Windows(NamedTuple):
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    returns: NDArray[np.float64]
    steps: NDArray[np.int64]
    waiting: NDArray[np.int64]


def environments_of(env: ArrayLike | None, steps: int, environments: int) -> NDArray[np.int64]:
    """Which environment each of `steps` steps is of, as `env` says it.

    Raises:
        TypeError: for numbers that are no integers.
        ValueError: for an environment that there is not, or a number of steps that leaves it open whose they are.
    """
    if env is None:
        if environments == 1:
            return np.zeros(steps, np.int64)
        if steps == environments:
            return np.arange(steps)
        raise ValueError(
            f"Of {environments} environments, {steps} steps came, and env does not say whose. "
            "Give env, one number a step, or one step of each environment in order."
        )
    given = np.atleast_1d(np.asarray(env))
    if given.dtype.kind not in "iu":
        raise TypeError(f"env is of dtype {given.dtype}. Environments are numbered by integers from 0.")
    if given.shape != (steps,):
        raise ValueError(f"env has shape {given.shape} for {steps} steps. Give one number a step.")
    if steps and (given.min() < 0 or given.max() >= environments):
        raise ValueError(
            f"env has numbers from {given.min()} to {given.max()}, but there are {environments} environments: "
            f"0 to {environments - 1}."
        )
    return given.astype(np.int64)


def _check_fields(fields: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
    """Raise where n-step returns cannot be made of these."""
    for name, kind in (("reward", "f"), *((name, "b") for name in OF_THE_LAST_STEP)):
        if name not in fields or fields[name][0] != () or fields[name][1].kind != kind:
            found = f"is {fields[name]}" if name in fields else "is missing"
            wanted = "a float" if kind == "f" else "a boolean"
            raise ValueError(f"Field '{name}' {found}. For n-step returns it is {wanted} of shape ().")
    for name in ("env", "discounts"):
        if name in fields:
            raise ValueError(f"Field '{name}' has a name that n-step returns use themselves. Choose another name.")
