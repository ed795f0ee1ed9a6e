"""The sum tree in torchrl: a sampler for its replay buffers.

`PrioritizedReplaySampler` takes the place of torchrl's (0.14) `PrioritizedSampler`, with the same arguments, keys and
weights, whatever stores the rows. It is pure Python around this project's tree and uses nothing of torchrl's C++
part; so it works also where that does not load and `PrioritizedSampler` cannot be made, as with wheels that were
built for another version of torch. `TensorDictPrioritizedReplayBuffer` makes a `PrioritizedSampler` by itself: use
`TensorDictReplayBuffer(sampler=PrioritizedReplaySampler(...), ...)`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchrl.data.replay_buffers.samplers import PrioritizedSampler
from torchrl.data.replay_buffers.utils import unravel_index

from workloads.replay.adapters.priorities import Priorities

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torchrl.data.replay_buffers.storages import Storage

__all__ = ["PrioritizedReplaySampler"]

LEAVES = "leaves.npy"
REST = "sampler.json"


class PrioritizedReplaySampler(PrioritizedSampler):  # type: ignore[misc]  # torchrl says nothing of its types
    """Draws rows in proportion to (priority + eps)^alpha, on the CPU; new rows get the largest priority ever given.

    It is a `PrioritizedSampler`, as `TensorDictReplayBuffer` asks for one before it updates priorities. With eps = 0,
    a row with priority 0 is never drawn. `beta` may be changed, as by torchrl's schedulers; `alpha` may not.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - arguments of torchrl's
        self,
        max_capacity: int,
        alpha: float = 0.6,
        beta: float = 0.4,
        eps: float = 1e-8,
        reduction: str = "max",
        seed: int = 0,
    ) -> None:
        """Make a sampler of an empty storage.

        Args:
            max_capacity: of the storage: all its rows, also where it has several dimensions.
            alpha: exponent of priorities.
            beta: exponent of importance weights; they are divided by the largest in the buffer, as torchrl does it.
            eps: added to every priority.
            reduction: makes one priority of several, of the steps of a row: "max", "min", "median" or "mean".
            seed: of the draws; a generator that the buffer was given (`generator=`, `set_rng`) comes before it.

        Raises:
            ValueError: if an argument is out of its range.
        """
        # PrioritizedSampler's own would want torchrl's trees.
        if not 0 <= beta < np.inf or not 0 <= eps < np.inf:
            raise ValueError(f"beta is {beta} and eps is {eps}, but both must be finite and not negative.")
        self._max_capacity = max_capacity
        self._alpha = float(alpha)
        self._beta = beta
        self._eps = eps
        self.reduction = reduction
        self.priorities = Priorities(max_capacity, alpha, seed)

    @property
    def alpha(self) -> float:  # pyright: ignore[reportIncompatibleMethodOverride]  # not to be set
        """Exponent of priorities."""
        return self._alpha

    @property
    def device(self) -> torch.device:
        """Where the tree is."""
        return torch.device("cpu")

    @property
    def default_priority(self) -> float:
        """The priority of new rows, without eps: the largest ever given."""
        return max(1.0, self.priorities.largest - self._eps)

    def sample(  # pyright: ignore[reportIncompatibleMethodOverride]  # whose hint is not what it returns
        self, storage: Storage, batch_size: int
    ) -> tuple[Any, dict[str, Any]]:
        """Draw rows.

        Returns:
            Indices, int64, (batch_size,), or a tuple of them for each dimension of the storage; and a dict with
            `priority_weight`, float32, (batch_size,).

        Raises:
            ValueError: if no row has a positive priority.
        """
        beta = float(self._beta)
        if self._rng is None:
            drawn, weights = self.priorities.draw(batch_size, beta, "buffer")
        else:
            uniform = torch.rand(batch_size, dtype=torch.float64, generator=self._rng).numpy()
            drawn = self.priorities.find(uniform)
            weights = self.priorities.weights(drawn, beta, "buffer")
        indices: Any = torch.from_numpy(drawn)
        if storage.ndim > 1:
            indices = unravel_index(indices, storage.shape)
        return indices, {"priority_weight": torch.from_numpy(weights)}

    def add(self, index: torch.Tensor | int) -> None:
        """Nothing: the writer says by `mark_update` which rows are new."""

    def extend(self, index: torch.Tensor | tuple[Any, ...]) -> None:
        """Nothing, as `add`."""

    def mark_update(self, index: int | torch.Tensor, *, storage: Storage | None = None) -> None:
        """Give rows that were just written the largest priority ever given; those at -1 are left out."""
        rows = _rows(index, storage)
        self.priorities.insert(rows[rows >= 0])

    def update_priority(
        self, index: int | torch.Tensor, priority: float | torch.Tensor, *, storage: Storage | None = None
    ) -> None:
        """Give rows new priorities.

        Args:
            index: of the rows, (n,), or (n, dimensions) for a storage of several; rows at -1 are left out.
            priority: (n,), or one for all.
            storage: that the rows are in, needed where it has several dimensions.

        Raises:
            ValueError: if a priority is NaN, negative or infinite, or shapes differ.
        """
        rows = _rows(index, storage)
        given = torch.as_tensor(priority).detach().cpu().to(torch.float64).numpy().reshape(-1) + self._eps
        priorities = np.broadcast_to(given, rows.shape) if given.size == 1 else given
        if len(priorities) == len(rows) and (rows < 0).any():
            rows, priorities = rows[rows >= 0], priorities[rows >= 0]
        self.priorities.update(rows, priorities)

    def state_dict(self) -> dict[str, Any]:
        """All of it: arrays, numbers and dicts of them."""
        return {"beta": float(self._beta), "eps": self._eps, **self.priorities.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` gave.

        Raises:
            ValueError: if it is of another capacity.
        """
        self.priorities.restore(state_dict)
        self._alpha, self._beta, self._eps = self.priorities.alpha, state_dict["beta"], state_dict["eps"]

    def dumps(self, path: Path | str) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # decorated there
        """Write all of it into a folder."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        state = self.state_dict()
        np.save(folder / LEAVES, state.pop("leaves"), allow_pickle=False)
        (folder / REST).write_text(json.dumps(state), encoding="utf-8")

    def loads(self, path: Path | str) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # as dumps
        """Take what `dumps` wrote.

        Raises:
            ValueError: if it is of another capacity.
        """
        folder = Path(path)
        state = json.loads((folder / REST).read_text(encoding="utf-8"))
        self.load_state_dict({**state, "leaves": np.load(folder / LEAVES, allow_pickle=False)})

    def _empty(self) -> None:
        self.priorities.clear()


def _rows(index: int | torch.Tensor, storage: Storage | None) -> NDArray[np.int64]:
    """Indices into the storage as one long row, (n,)."""
    given = torch.as_tensor(index, dtype=torch.int64).cpu().numpy()
    if given.ndim <= 1:
        return given.reshape(-1)
    if storage is None:
        raise ValueError(f"Indices have shape {given.shape}. Say of which storage they are, whose shape is needed.")
    rows: NDArray[np.int64] = np.ravel_multi_index(tuple(given.reshape(-1, given.shape[-1]).T), storage.shape)
    return rows
