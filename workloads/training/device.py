"""Arrays that a task fills with NumPy and computes on with PyTorch.

On the processor both see the same memory, PyTorch's own, which begins on a 64-byte boundary on every runtime. With
CUDA there are two copies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workloads.dataflow import ArraySpec

__all__ = ["Mirror", "one_thread"]


class Mirror:
    """One array, as NumPy and as PyTorch have it."""

    def __init__(self, spec: ArraySpec, device: str) -> None:
        """Make it of zeros; `device` is where PyTorch computes."""
        import torch

        self._here = torch.from_numpy(spec.zeros()).clone()
        self.tensor = self._here.to(device)
        """What PyTorch computes on."""
        self.array: NDArray[Any] = self._here.numpy()
        """What NumPy reads and writes."""
        self._is_shared = self.tensor is self._here

    def load(self, values: Any) -> None:
        """Take over `values`."""
        self.array[...] = values
        self.push()

    def push(self) -> None:
        """Let PyTorch see what NumPy wrote."""
        if not self._is_shared:
            self.tensor.copy_(self._here)

    def pull(self) -> NDArray[Any]:
        """Let NumPy see what PyTorch computed."""
        if not self._is_shared:
            self._here.copy_(self.tensor)
        return self.array


def one_thread() -> None:
    """Have PyTorch compute in one thread: every side of a comparison gets one, and more would add up otherwise."""
    import torch

    torch.set_num_threads(1)
