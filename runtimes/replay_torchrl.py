"""torchrl: segment trees in C++, and a buffer of tensordicts. For workload `replay`.

Its wheels are built for one version of torch. Where their C++ part does not load, nothing of it can be measured.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

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

    import numpy as np

    from runtimes.replay_peers import Batch, Learner, Peer, Workplace

__all__ = ["RUNTIME"]

_LEAF_BYTES: Final = 16
_ROW_BYTES: Final = 160


class TorchrlTree(TreePeer):
    """`SumSegmentTreeFp32` or `...Fp64`, without the sampler's Python around it."""

    def __init__(self, parameters: Mapping[str, Any], rng: np.random.Generator) -> None:
        """Make it, empty."""
        from torchrl import _torchrl  # pyright: ignore[reportAttributeAccessIssue] - compiled

        kind = _torchrl.SumSegmentTreeFp32 if parameters["dtype"] == "float32" else _torchrl.SumSegmentTreeFp64
        self._tree, self._capacity = kind(parameters["capacity"]), parameters["capacity"]
        self._dtype, self._rng = parameters["dtype"], rng

    def sample(self, n: int) -> Callable[[], object]:
        """As `Peer`: what its sampler does to draw."""
        tree, uniform, dtype, capacity = self._tree, self._rng.random, self._dtype, self._capacity
        return lambda: tree.scan_lower_bound((uniform(n) * tree.query(0, capacity)).astype(dtype))

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._tree.__setitem__, batch.indices, batch.priorities.astype(self._dtype))


class TorchrlBuffer:
    """`TensorDictReplayBuffer` on a `LazyTensorStorage`, with a sampler that draws by priority."""

    def __init__(self, parameters: Mapping[str, Any], sampler: Callable[..., Any], _rng: np.random.Generator) -> None:
        """Make it, empty, with what `sampler` makes: its own kind, or ours."""
        from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer

        self._buffer = TensorDictReplayBuffer(
            sampler=sampler(parameters["capacity"], alpha=ALPHA, beta=BETA),
            storage=LazyTensorStorage(parameters["capacity"]),
            batch_size=parameters["batch"],
            priority_key="td_error",
        )

    def fill(self, batch: Batch) -> None:
        """As `Peer`."""
        import torch

        indices = self._buffer.extend(_tensors(batch))
        self._buffer.update_priority(indices, torch.from_numpy(batch.priorities))

    def insert(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return partial(self._buffer.extend, _tensors(batch))

    def sample(self, n: int) -> Callable[[], object]:  # noqa: ARG002 - the buffer was told
        """As `Peer`."""
        return partial(self._buffer.sample)

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        import torch

        return partial(
            self._buffer.update_priority, torch.from_numpy(batch.indices), torch.from_numpy(batch.priorities)
        )

    def train(self, n: int, batch: Batch, learner: Learner) -> Callable[[], object]:  # noqa: ARG002 - as `sample`
        """As `Peer`."""
        rows = _tensors(batch)

        def call() -> object:
            self._buffer.extend(rows)
            drawn = self._buffer.sample()
            errors = learner.learn(**{name: drawn[name] for name in FIELDS}, weights=drawn["priority_weight"])
            drawn["td_error"] = errors
            self._buffer.update_tensordict_priority(drawn)
            return drawn

        return call


def _tensors(batch: Batch) -> Any:
    import torch
    from tensordict import TensorDict

    return TensorDict({name: torch.from_numpy(values) for name, values in batch.rows.items()}, [len(batch.indices)])


@cache
def _problem() -> str | None:
    """Why its C++ part does not load, or None if it does."""
    try:
        from torchrl._torchrl import SumSegmentTreeFp32
    except ImportError as error:
        # Behind the path of the file, which tells nothing and is different everywhere.
        return f"torchrl's C++ part does not load beside this torch: {str(error).rpartition('.so: ')[2][:80]}"
    return None if SumSegmentTreeFp32 is not None else "torchrl has no segment tree"


def _why_not(parameters: Mapping[str, Any], options: Plugged) -> str | None:
    why = single_process("torchrl")(parameters) or tree_is_not_plugged(parameters, options)
    # With our sampler, nothing of the C++ part is used.
    return why or (None if options.plugged else _problem())


def _make(parameters: Mapping[str, Any], options: Plugged, place: Workplace) -> Callable[[np.random.Generator], Peer]:
    if parameters["what"] == "tree":
        return partial(TorchrlTree, parameters)
    if options.plugged:
        return partial(TorchrlBuffer, parameters, place.adapter("torchrl").PrioritizedReplaySampler)
    from torchrl.data.replay_buffers.samplers import PrioritizedSampler

    return partial(TorchrlBuffer, parameters, PrioritizedSampler)


RUNTIME = peer_runtime(
    name="replay-torchrl",
    summary="torchrl: segment trees in C++, and a buffer of tensordicts.",
    make=_make,
    why_not=_why_not,
    limits="workload replay, in one process, where its C++ part loads",
    requires=("torchrl", "tensordict", "torch"),
    row_bytes=_ROW_BYTES,
    leaf_bytes=_LEAF_BYTES,
    options=Plugged,
    notice=plugged_notice("our sampler stands in torchrl's buffer, which still stores the rows"),
)
