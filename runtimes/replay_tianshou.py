"""Tianshou: a segment tree compiled by Numba, and a buffer in NumPy around it. For workload `replay`."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtimes.replay_peers import (
    ALPHA,
    BETA,
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

_LEAF_BYTES: Final = 32
"""Two float64 for each of a power of two."""
_ROW_BYTES: Final = 200
"""A transition, ends, and a leaf; the reward in float64."""


class TianshouTree(TreePeer):
    """`SegmentTree`; its functions are compiled when it is made."""

    def __init__(self, parameters: Mapping[str, Any], rng: np.random.Generator) -> None:
        """Make it, empty; it is of float64."""
        from tianshou.data import SegmentTree

        _keep_compiled()
        self._tree = SegmentTree(parameters["capacity"])
        self._rng = rng

    def sample(self, n: int) -> Callable[[], object]:
        """As `Peer`: what its buffer does to draw."""
        tree, random = self._tree, self._rng.random
        return lambda: tree.get_prefix_sum_idx(random(n) * tree.reduce())

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._tree.__setitem__, batch.indices, batch.priorities.astype(np.float64))


class TianshouBuffer:
    """`PrioritizedVectorReplayBuffer`, which takes as many rows in a call as it has parts: one for each environment."""

    def __init__(self, parameters: Mapping[str, Any], module: Any, _rng: np.random.Generator) -> None:
        """Make it, empty, of the classes in `module`, with a part for each row of an insertion."""
        rows = parameters["insert_rows"] if parameters["operation"] == "train" else parameters["batch"]
        _keep_compiled()
        settings = {"alpha": ALPHA, "beta": BETA}
        self._parts = np.arange(rows)
        # Of one part, the vector buffer would only stand in the way.
        self._buffer: Any = (
            module.PrioritizedReplayBuffer(parameters["capacity"], **settings)
            if rows == 1
            else module.PrioritizedVectorReplayBuffer(parameters["capacity"], rows, **settings)
        )

    def fill(self, batch: Batch) -> None:
        """As `Peer`; a last insertion that is not whole is left out."""
        rows = len(self._parts)
        for first in range(0, len(batch.indices) - rows + 1, rows):
            part = slice(first, first + rows)
            indices = self._add(_transitions({name: values[part] for name, values in batch.rows.items()}))[0]
            self._buffer.update_weight(indices, batch.priorities[part])

    def insert(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._add, _transitions(batch.rows))

    def sample(self, n: int) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._buffer.sample, n)

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        # Its parts need not fill the whole capacity.
        return partial(self._buffer.update_weight, batch.indices % len(self._buffer), batch.priorities)

    def train(self, n: int, batch: Batch, learner: Learner) -> Callable[[], object]:
        """As `Peer`; tensors are made of what is drawn as Tianshou's algorithms do it."""
        from tianshou.data import to_torch

        rows = _transitions(batch.rows)

        def call() -> object:
            import torch

            self._add(rows)
            drawn, indices = self._buffer.sample(n)
            names = {"obs": "obs", "action": "act", "reward": "rew", "next_obs": "obs_next", "done": "terminated"}
            tensors = {ours: to_torch(drawn[theirs], torch.float32) for ours, theirs in names.items()}
            errors = learner.learn(**tensors, weights=to_torch(drawn.weight, torch.float32))
            self._buffer.update_weight(indices, errors)
            return indices

        return call

    def _add(self, rows: Any) -> Any:
        if len(self._parts) == 1:
            return self._buffer.add(rows)
        return self._buffer.add(rows, self._parts)


def _keep_compiled() -> None:
    """Have Numba keep what it compiles of the tree, as Python keeps bytecode: or each start takes 10 s longer."""
    from tianshou.data.utils import segtree

    for function in (segtree._setitem, segtree._reduce, segtree._get_prefix_sum_idx):  # noqa: SLF001 - not public
        # Not there without just-in-time compilation; a folder that cannot be written to is no reason to stop.
        with contextlib.suppress(AttributeError, RuntimeError):
            function.enable_caching()


def _transitions(rows: Mapping[str, Any]) -> Any:
    """`rows` as a Batch; one row has no leading axis."""
    from tianshou.data import Batch as TianshouBatch

    ended = rows["done"] > 0
    columns = {
        "obs": rows["obs"],
        "act": rows["action"],
        "rew": rows["reward"],
        "terminated": ended,
        "truncated": np.zeros_like(ended),
        "obs_next": rows["next_obs"],
    }
    if len(ended) == 1:
        columns = {name: values[0] for name, values in columns.items()}
    return TianshouBatch(**columns, info={})


def _make(parameters: Mapping[str, Any], options: Plugged, place: Workplace) -> Callable[[np.random.Generator], Peer]:
    if parameters["what"] == "tree":
        return partial(TianshouTree, parameters)
    import tianshou.data

    return partial(TianshouBuffer, parameters, place.adapter("tianshou") if options.plugged else tianshou.data)


def _why_not(parameters: Mapping[str, Any], options: Plugged) -> str | None:
    return single_process("Tianshou")(parameters) or tree_is_not_plugged(parameters, options)


RUNTIME = peer_runtime(
    name="replay-tianshou",
    summary="Tianshou: a segment tree compiled by Numba, in float64, and a buffer in NumPy.",
    make=_make,
    why_not=_why_not,
    limits="workload replay, in one process",
    requires=("tianshou", "numba"),
    row_bytes=_ROW_BYTES,
    leaf_bytes=_LEAF_BYTES,
    options=Plugged,
    notice=plugged_notice("our tree stands in Tianshou's buffer, which still stores the rows"),
)
