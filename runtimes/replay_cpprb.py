"""cpprb: replay buffers in C++ behind Cython, and one that processes share. For workload `replay`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtimes.replay_peers import ALPHA, BETA, FIELDS, no_tree, peer_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from runtimes.replay_peers import Batch, Learner, Peer

__all__ = ["RUNTIME"]

_ROW_BYTES: Final = 160
"""A transition, and an entry of its trees of sums and minima in float32, rounded up to a power of two."""


class CpprbBuffer:
    """`PrioritizedReplayBuffer`, or `MPPrioritizedReplayBuffer` where processes share it."""

    def __init__(self, parameters: Mapping[str, Any], _rng: np.random.Generator) -> None:
        """Make it, empty; fields have the library's default dtype, float32."""
        import cpprb

        fields = {name: {"shape": length} for name, length in FIELDS.items()}
        if parameters["shared"]:
            from multiprocessing import get_context

            self._buffer = cpprb.MPPrioritizedReplayBuffer(
                parameters["capacity"], fields, alpha=ALPHA, ctx=get_context("spawn")
            )
        else:
            self._buffer = cpprb.PrioritizedReplayBuffer(parameters["capacity"], fields, alpha=ALPHA)

    def fill(self, batch: Batch) -> None:
        """As `Peer`."""
        self._buffer.add(**_columns(batch), priorities=batch.priorities)

    def insert(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._buffer.add, **_columns(batch))

    def sample(self, n: int) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._buffer.sample, n, BETA)

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`; indices as it gives them itself."""
        return partial(self._buffer.update_priorities, batch.indices.astype(np.uint64), batch.priorities)

    def loop(self, n: int, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""

        def call() -> object:
            drawn = self._buffer.sample(n, BETA)
            self._buffer.update_priorities(drawn["indexes"], batch.priorities)
            return drawn

        return call

    def train(self, n: int, batch: Batch, learner: Learner) -> Callable[[], object]:
        """As `Peer`."""
        columns = _columns(batch)

        def call() -> object:
            self._buffer.add(**columns)
            drawn = self._buffer.sample(n, BETA)
            flat = {name: drawn[name].reshape(-1) if FIELDS[name] == 1 else drawn[name] for name in FIELDS}
            errors = learner.learn_from_arrays({**flat, "weights": drawn["weights"]})
            self._buffer.update_priorities(drawn["indexes"], errors)
            return drawn

        return call


def _columns(batch: Batch) -> dict[str, NDArray[np.float32]]:
    """The rows of `batch` as the buffer stores them: a scalar field has an axis of length 1."""
    return {name: values.reshape(len(values), -1) for name, values in batch.rows.items()}


def _make(parameters: Mapping[str, Any], _options: Any, _place: Any) -> Callable[[np.random.Generator], Peer]:
    return partial(CpprbBuffer, parameters)


RUNTIME = peer_runtime(
    name="replay-cpprb",
    summary="cpprb: replay buffers in C++, and one that processes share.",
    make=_make,
    why_not=lambda parameters, _options: no_tree("cpprb")(parameters),
    limits="workload replay, with what=buffer",
    requires=("cpprb",),
    row_bytes=_ROW_BYTES,
)
