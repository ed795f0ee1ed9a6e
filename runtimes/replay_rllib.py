"""RLlib: segment trees of Python lists, and a list of sample batches of one step each. For workload `replay`."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtimes.replay_peers import (
    ALPHA,
    BETA,
    FIELDS,
    Plugged,
    TreePeer,
    peer_runtime,
    plugged_notice,
    single_process,
    tree_is_not_plugged,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runtimes.replay_peers import Batch, Learner, Peer, Workplace

__all__ = ["RUNTIME"]

_LEAF_BYTES: Final = 80
"""A Python float and its place in a list, twice for a power of two."""
_ROW_BYTES: Final = 8_000
"""A sample batch, with an array for each field, and its leaves in two trees."""


class RllibTree(TreePeer):
    """`SumSegmentTree`."""

    def __init__(self, parameters: Mapping[str, Any], _rng: np.random.Generator) -> None:
        """Make it, empty; it wants a power of two."""
        from ray.rllib.execution.segment_tree import SumSegmentTree

        self._tree = SumSegmentTree(1 << (parameters["capacity"] - 1).bit_length())

    def sample(self, n: int) -> Callable[[], object]:
        """As `Peer`: what its buffer does to draw, but that the sum is taken once."""
        tree = self._tree

        def call() -> object:
            total = tree.sum()
            return [tree.find_prefixsum_idx(random.random() * total) for _ in range(n)]  # noqa: S311 - its own way

        return call

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`; numbers are Python's, which its lists take best."""
        tree, items = self._tree, list(zip(batch.indices.tolist(), batch.priorities.tolist(), strict=True))

        def call() -> None:
            for index, priority in items:
                tree[index] = priority

        return call


class RllibBuffer:
    """`PrioritizedReplayBuffer`, which stores steps."""

    def __init__(self, parameters: Mapping[str, Any], _rng: np.random.Generator) -> None:
        """Make it, empty."""
        from ray.rllib.utils.replay_buffers import PrioritizedReplayBuffer

        self._buffer: Any = PrioritizedReplayBuffer(parameters["capacity"], storage_unit="timesteps", alpha=ALPHA)

    def fill(self, batch: Batch) -> None:
        """As `Peer`."""
        self.insert(batch)()
        self.update(batch)()

    def insert(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._buffer.add, _sample_batch(batch.rows))

    def sample(self, n: int) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._buffer.sample, n, BETA)

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._buffer.update_priorities, batch.indices.tolist(), batch.priorities.tolist())

    def train(self, n: int, batch: Batch, learner: Learner) -> Callable[[], object]:
        """As `Peer`."""
        insert = self.insert(batch)

        def call() -> object:
            insert()
            drawn = self._buffer.sample(n, BETA)
            weights = drawn["weights"].astype(np.float32)
            errors = learner.learn_from_arrays({**{name: drawn[name] for name in FIELDS}, "weights": weights})
            # An error of exactly 0 is refused.
            self._buffer.update_priorities(drawn["batch_indexes"], errors + np.float32(1e-6))
            return drawn

        return call


class PluggedBuffer:
    """Our buffer where RLlib's would be: it takes and gives sample batches."""

    def __init__(self, place: Workplace, rng: np.random.Generator) -> None:
        """Make it, empty."""
        self._replay = place.our_buffer(rng)

    def fill(self, batch: Batch) -> None:
        """As `Peer`."""
        self._replay.add(**batch.rows, priorities=batch.priorities)

    def insert(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._add, _sample_batch(batch.rows))

    def sample(self, n: int) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._draw, n)

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._replay.update_priorities, batch.indices, batch.priorities)

    def train(self, n: int, batch: Batch, learner: Learner) -> Callable[[], object]:
        """As `Peer`."""
        insert = self.insert(batch)

        def call() -> object:
            insert()
            drawn = self._draw(n)
            self._replay.update_priorities(drawn["indices"], learner.learn_from_arrays(drawn), drawn["generations"])
            return drawn

        return call

    def _add(self, rows: Any) -> None:
        self._replay.add(**rows)

    def _draw(self, n: int) -> Any:
        return _sample_batch(self._replay.sample(n, BETA))


def _sample_batch(columns: Mapping[str, Any]) -> Any:
    from ray.rllib.policy import sample_batch

    # Through Any, since its methods have no types.
    kind: Any = sample_batch.SampleBatch
    return kind(dict(columns))


def _make(parameters: Mapping[str, Any], options: Plugged, place: Workplace) -> Callable[[np.random.Generator], Peer]:
    if options.plugged:
        return partial(PluggedBuffer, place)
    return partial(RllibTree if parameters["what"] == "tree" else RllibBuffer, parameters)


def _why_not(parameters: Mapping[str, Any], options: Plugged) -> str | None:
    return single_process("RLlib")(parameters) or tree_is_not_plugged(parameters, options)


RUNTIME = peer_runtime(
    name="replay-rllib",
    summary="RLlib: segment trees of Python lists, and a list of sample batches.",
    make=_make,
    why_not=_why_not,
    limits="workload replay, in one process",
    # What comes with ray[rllib], which asks for an older gymnasium.
    requires=("ray", "tree", "pyarrow", "tensorboardX", "lz4", "ormsgpack", "pydantic", "requests"),
    row_bytes=_ROW_BYTES,
    leaf_bytes=_LEAF_BYTES,
    options=Plugged,
    notice=plugged_notice("our buffer stands in place of RLlib's, and takes and gives sample batches"),
)
