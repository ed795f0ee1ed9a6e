"""Stable-Baselines3: its replay buffer, which draws uniformly, with trees of Python lists for priorities.

It has no prioritized buffer. What is proposed for it, and written for it by its users, is its own buffer with two
segment trees in Python lists, as in OpenAI's Baselines: one of sums, one of minima. That is what stands here, with
nothing in it that such code does not need. With `plugged`, our adapter takes its place. For workload `replay`.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtimes.replay_peers import ALPHA, BETA, FIELDS, Plugged, no_tree, peer_runtime, plugged_notice, single_process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runtimes.replay_peers import Batch, Learner, Peer, Workplace

__all__ = ["RUNTIME"]

_ROW_BYTES: Final = 300
"""A transition, and leaves in two trees of Python's floats."""
_EPS: Final = 1e-6


class ListTrees:
    """Sums and minima of leaves, in lists in which node i has the children 2 i and 2 i + 1."""

    def __init__(self, capacity: int) -> None:
        """No leaf has a value yet."""
        self.leaves = 1 << (capacity - 1).bit_length()
        self.sums = [0.0] * (2 * self.leaves)
        self.minima = [float("inf")] * (2 * self.leaves)

    def set(self, index: int, value: float) -> None:
        """Give a leaf its value."""
        sums, minima = self.sums, self.minima
        node = index + self.leaves
        sums[node] = minima[node] = value
        node >>= 1
        while node:
            left, right = 2 * node, 2 * node + 1
            sums[node] = sums[left] + sums[right]
            minima[node] = min(minima[right], minima[left])
            node >>= 1

    def set_all(self, first: int, values: Sequence[float]) -> None:
        """Give the leaves from `first` on their values, and all nodes above theirs, level by level."""
        start = first + self.leaves
        self.sums[start : start + len(values)] = values
        self.minima[start : start + len(values)] = values
        low, high = start, start + len(values) - 1
        while low > 1:
            low, high = low >> 1, high >> 1
            for node in range(low, high + 1):
                self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1]
                self.minima[node] = min(self.minima[2 * node], self.minima[2 * node + 1])

    def find(self, mass: float) -> int:
        """The first leaf whose sum with all before it exceeds `mass`."""
        sums, node = self.sums, 1
        while node < self.leaves:
            node *= 2
            if sums[node] <= mass:
                mass -= sums[node]
                node += 1
        return node - self.leaves


class ListTreeBuffer:
    """`ReplayBuffer` with these trees."""

    def __init__(self, parameters: Mapping[str, Any], _rng: np.random.Generator) -> None:
        """Make it, empty."""
        from stable_baselines3.common.buffers import ReplayBuffer

        self._buffer = ReplayBuffer(parameters["capacity"], *_spaces(), device="cpu", handle_timeout_termination=False)
        self._trees = ListTrees(parameters["capacity"])
        self._largest = 1.0

    def fill(self, batch: Batch) -> None:
        """As `Peer`; written into its arrays at once, since row by row would take a minute."""
        buffer, first, rows = self._buffer, self._buffer.pos, batch.rows
        part = slice(first, first + len(batch.indices))
        for array, name in (
            (buffer.observations, "obs"),
            (buffer.next_observations, "next_obs"),
            (buffer.actions, "action"),
            (buffer.rewards, "reward"),
            (buffer.dones, "done"),
        ):
            array[part] = rows[name].reshape(array[part].shape)
        buffer.pos = part.stop % buffer.buffer_size
        buffer.full = buffer.full or not buffer.pos
        self._trees.set_all(first, (batch.priorities.astype(np.float64) ** ALPHA).tolist())
        self._largest = max(self._largest, float(batch.priorities.max()))

    def insert(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`: one row at a time, as from one environment."""
        return partial(self._add, _steps(batch))

    def sample(self, n: int) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._draw, n)

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._set, batch.indices.tolist(), batch.priorities.tolist())

    def train(self, n: int, batch: Batch, learner: Learner) -> Callable[[], object]:
        """As `Peer`."""
        steps = _steps(batch)

        def call() -> object:
            import torch

            self._add(steps)
            drawn, indices, weights = self._draw(n)
            errors = _learn(learner, drawn, torch.from_numpy(weights))
            self._set(indices, (errors.numpy() + _EPS).tolist())
            return drawn

        return call

    def _add(self, steps: Sequence[tuple[Any, ...]]) -> None:
        for step in steps:
            index = self._buffer.pos
            self._buffer.add(*step)
            self._trees.set(index, self._largest**ALPHA)

    def _draw(self, n: int) -> tuple[Any, list[int], Any]:
        """Tensors, indices and weights of `n` rows."""
        trees, stored = self._trees, self._buffer.size()
        total, find = trees.sums[1], trees.find
        indices = [find(random.random() * total) for _ in range(n)]  # noqa: S311 - as in such code
        chances = np.array([trees.sums[trees.leaves + index] for index in indices]) / total
        largest = (trees.minima[1] / total * stored) ** -BETA
        weights = ((chances * stored) ** -BETA / largest).astype(np.float32)
        return self._buffer._get_samples(np.array(indices)), indices, weights  # noqa: SLF001 - where its subclasses hook in

    def _set(self, indices: Sequence[int], priorities: Sequence[float]) -> None:
        for index, priority in zip(indices, priorities, strict=True):
            self._trees.set(index, priority**ALPHA)
            self._largest = max(self._largest, priority)


class PluggedBuffer:
    """Our adapter, as Stable-Baselines3 uses it."""

    def __init__(self, parameters: Mapping[str, Any], adapter: Any, rng: np.random.Generator) -> None:
        """Make it, empty."""
        self._buffer = adapter.PrioritizedReplayBuffer(
            parameters["capacity"],
            *_spaces(),
            device="cpu",
            handle_timeout_termination=False,
            alpha=ALPHA,
            beta=BETA,
            eps=_EPS,
            seed=int(rng.integers(2**31)),
        )

    def fill(self, batch: Batch) -> None:
        """As `Peer`."""
        for step in _steps(batch):
            self._buffer.add(*step)
        self.update(batch)()

    def insert(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`: one row at a time, as from one environment."""
        return partial(self._add, _steps(batch))

    def sample(self, n: int) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._buffer.sample, n)

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`; past the adapter, which takes what it drew."""
        return partial(self._buffer.replay.update_priorities, batch.indices, batch.priorities)

    def train(self, n: int, batch: Batch, learner: Learner) -> Callable[[], object]:
        """As `Peer`."""
        steps = _steps(batch)

        def call() -> object:
            self._add(steps)
            drawn = self._buffer.sample(n)
            self._buffer.update_priorities(drawn, _learn(learner, drawn, drawn.weights.reshape(-1)))
            return drawn

        return call

    def _add(self, steps: Sequence[tuple[Any, ...]]) -> None:
        for step in steps:
            self._buffer.add(*step)


def _spaces() -> tuple[Any, Any]:
    """Those of observations and actions."""
    from gymnasium.spaces import Box

    return Box(-np.inf, np.inf, (FIELDS["obs"],)), Box(-1.0, 1.0, (FIELDS["action"],))


def _steps(batch: Batch) -> list[tuple[Any, ...]]:
    """What its algorithms hand to `add`, row by row, from one environment."""
    rows, infos = batch.rows, [dict[str, Any]()]
    names = ("obs", "next_obs", "action", "reward", "done")
    return [(*(rows[name][at : at + 1] for name in names), infos) for at in range(len(batch.indices))]


def _learn(learner: Learner, drawn: Any, weights: Any) -> Any:
    return learner.learn(
        obs=drawn.observations,
        action=drawn.actions,
        reward=drawn.rewards.reshape(-1),
        next_obs=drawn.next_observations,
        done=drawn.dones.reshape(-1),
        weights=weights,
    )


def _make(parameters: Mapping[str, Any], options: Plugged, place: Workplace) -> Callable[[np.random.Generator], Peer]:
    if options.plugged:
        return partial(PluggedBuffer, parameters, place.adapter("stable_baselines3"))
    return partial(ListTreeBuffer, parameters)


def _why_not(parameters: Mapping[str, Any], _options: Plugged) -> str | None:
    return no_tree("Stable-Baselines3")(parameters) or single_process("Stable-Baselines3")(parameters)


RUNTIME = peer_runtime(
    name="replay-stable-baselines3",
    summary="Stable-Baselines3's replay buffer with segment trees in Python lists, or ours plugged into it.",
    make=_make,
    why_not=_why_not,
    limits="workload replay, with what=buffer, in one process",
    requires=("stable_baselines3",),
    row_bytes=_ROW_BYTES,
    options=Plugged,
    notice=plugged_notice("its place is taken by our adapter for Stable-Baselines3"),
)
