"""What travels on edges: arrays of a declared shape, and the values of a bank as one sequence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

__all__ = ["ArraySpec", "Gathered", "GraphError", "accept_array", "item_of", "read_only", "unknown_name"]


class GraphError(ValueError):
    """A graph breaks a rule of the contract; the message names the value, the rule and the remedy."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """Shape and dtype of the array that a port carries in every round.

    `shape` is a tuple of lengths (`()` for a scalar), `dtype` anything that `numpy.dtype` accepts;
    it is stored as its string, so that a spec is hashable and prints well.
    """

    shape: tuple[int, ...]
    dtype: str

    def __init__(self, shape: Iterable[int], dtype: DTypeLike) -> None:
        """Normalise `shape` to a tuple of ints and `dtype` to its string.

        Raises:
            GraphError: for a negative length, or a dtype that holds Python objects.
        """
        lengths = tuple(int(length) for length in shape)
        resolved = np.dtype(dtype)
        if any(length < 0 for length in lengths):
            raise GraphError(f"Array shape {lengths} has a negative length. Give lengths of 0 or more.")
        if resolved.fields is not None:
            raise GraphError(f"Array dtype {resolved} has fields. Declare a port for each, or none.")
        if resolved.hasobject:
            raise GraphError(
                f"Array dtype {resolved} holds Python objects, which have no fixed size. "
                "Declare the output without an ArraySpec; any picklable value can then travel."
            )
        object.__setattr__(self, "shape", lengths)
        object.__setattr__(self, "dtype", resolved.str)

    @property
    def nbytes(self) -> int:
        """Bytes of one array of this spec."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def zeros(self, *lead: int) -> NDArray[Any]:
        """A zeroed array of shape `(*lead, *shape)`."""
        return np.zeros((*lead, *self.shape), self.dtype)


class Gathered(Sequence[Any]):
    """The values of a bank in index order, held in several contiguous blocks.

    Indexing gives the i-th member's value; `numpy.asarray` joins the blocks (a copy; the view of a
    single block is the array itself, which a runtime then hands over instead of this class).
    """

    __slots__ = ("_blocks", "_starts")

    def __init__(self, blocks: Iterable[NDArray[Any]]) -> None:
        """Hold `blocks`, each of shape `(members, *shape)`, in index order."""
        self._blocks = [block for block in blocks if len(block)]
        self._starts = np.cumsum([0, *(len(block) for block in self._blocks)])

    def __len__(self) -> int:
        """The width of the bank."""
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """The value of member `index`; a slice gives a list."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} is outside a bank of {len(self)} members")
        block = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._blocks[block][position - int(self._starts[block]), ...]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001 - NumPy's protocol
        """All values as one array of shape `(width, *shape)`."""
        if copy is False:
            raise ValueError("values in several blocks can only be joined by a copy")
        joined = np.concatenate(self._blocks)
        return joined if dtype is None else joined.astype(dtype, copy=False)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view of `array` that cannot be written through: what a consumer is given."""
    view = array.view()
    view.flags.writeable = False
    return view


def item_of(values: Any, index: int, width: int, port: str) -> Any:
    """The item that a scatter sends to member `index`; an absent value scatters as `None`.

    Items of an array are views, also where they are scalars (shape `()`), on every runtime.

    Raises:
        GraphError: if `values` does not have exactly `width` items.
    """
    if values is None:
        return None
    if len(values) != width:
        raise GraphError(
            f"Output '{port}' is scattered to {width} members but has {len(values)} items. "
            "Give one item for each member, in index order."
        )
    return values[index, ...] if isinstance(values, np.ndarray) else values[index]


def accept_array(value: Any, spec: ArraySpec, port: str) -> NDArray[Any]:
    """`value`, which a task assigned to the declared array port `port`, as an array of `spec`.

    Raises:
        GraphError: if shape or dtype differ from what the port declares.
    """
    array = np.asarray(value)
    if array.shape != spec.shape or array.dtype != np.dtype(spec.dtype):
        raise GraphError(
            f"Output '{port}' declares an array of shape {spec.shape} and dtype {np.dtype(spec.dtype)} but "
            f"was given shape {array.shape} and dtype {array.dtype}. Convert it, or change the declaration."
        )
    return array


def unknown_name(kind: str, name: str, owner: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(names) or 'none'}."
    return f"Unknown {kind} '{name}' of {owner}.{hint}"
