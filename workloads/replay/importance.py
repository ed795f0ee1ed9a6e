"""From raw priorities to leaves of the sum tree, and from leaves to importance weights.

Schaul, Quan, Antonoglou, Silver, Prioritized Experience Replay (ICLR 2016): P(i) = p_i^alpha / sum of p_k^alpha, and
w_i = (N P(i))^-beta, divided by the largest weight. What is divided by cancels the sum and N: the weight is
(least leaf / leaf)^beta, where the least leaf is the batch's or the whole buffer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workloads.replay.power import power

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["checked_priorities", "leaves_of", "weights_of"]


def checked_priorities(priorities: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """As a contiguous array of float64 of shape (N,).

    Raises:
        TypeError: if they are no real numbers.
        ValueError: if there are more or fewer than `shape` says, or one is NaN, infinite or negative.
    """
    array = np.asarray(priorities)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"Priorities are real numbers, not {array.dtype}.")
    if array.shape != shape:
        raise ValueError(f"Priorities have shape {array.shape}, but there are {shape}: give one for each row.")
    array = np.ascontiguousarray(array, np.float64).reshape(-1)
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        place = int(bad.argmax())
        what = "NaN" if np.isnan(array[place]) else "negative" if array[place] < 0 else "infinite"
        raise ValueError(
            f"Priority {array[place]} (number {place}) is {what}, but a priority is finite and not negative. "
            "Look for what made it: a loss that overflowed, or an error without abs()."
        )
    return array


def leaves_of(priorities: NDArray[np.float64], alpha: float, eps: float, limit: float) -> NDArray[np.float64]:
    """(p + eps)^alpha, and 0 where p is 0, whatever alpha and eps: such a row is never drawn.

    Raises:
        ValueError: if one is above `limit`.
    """
    leaves = power(np.where(priorities > 0, priorities + eps, 0.0), alpha)
    above = leaves > limit
    if above.any():
        place = int(above.argmax())
        raise ValueError(
            f"Priority {priorities[place]} (number {place}) is too large: (priority + {eps})^{alpha} is above "
            f"{limit:.4g}, so that the tree's sums could overflow. Clip priorities, lower alpha, or take "
            'tree_dtype="float64".'
        )
    return leaves


def weights_of(leaves: NDArray[np.float64], least: float, beta: float) -> NDArray[np.float32]:
    """(least / leaf)^beta, float32; at most 1 where `least` is the least of them, or of more."""
    return power(least / leaves, beta).astype(np.float32)
