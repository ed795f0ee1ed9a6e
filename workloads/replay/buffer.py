"""What all replay buffers have: files, and those of cpprb's names that another way of saying it does not take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from workloads.replay.saving import read, restoring, write

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Buffer"]


class Buffer(ABC):
    """A buffer that can be kept as a file."""

    KIND: ClassVar[str]
    """What saved buffers are told apart by."""

    capacity: int

    @abstractmethod
    def __len__(self) -> int:
        """Rows stored."""

    @abstractmethod
    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Everything of one moment, the generator's state too: what JSON knows, and arrays by name."""

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What `state` gives, for a file: arrays may be views."""
        return self.state()

    @classmethod
    @abstractmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """A buffer that goes on, bit by bit, from what `state` gave.

        Raises:
            LookupError, TypeError, ValueError: if that is something else, or does not fit together.
            MemoryError: if there is not enough memory.
            RuntimeError: if it was shared, and cannot be here.
        """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a file, of one moment even where others may use the buffer; whole, or not at all.

        Raises:
            OSError: if it cannot be written; what was there is as it was.
        """
        write(path, self.KIND, *self._state())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """A buffer that goes on, bit by bit, from where one was saved; shared if that was.

        Raises:
            OSError: if there is no such file, or it cannot be read.
            SavedReplayError: if it holds something else, or is damaged; a ValueError.
            MemoryError: if there is not enough memory.
            RuntimeError: if it was shared, and cannot be here.
        """
        config, arrays = read(path, cls.KIND)
        with restoring(path):
            return cls.from_state(config, arrays)

    def get_stored_size(self) -> int:
        """Rows stored, as `len`; cpprb's name for it."""
        return len(self)

    def get_buffer_size(self) -> int:
        """The capacity; cpprb's name for it."""
        return self.capacity
