"""What a transition consists of: named fields with a shape and a dtype, and the casting of what is added.

A field takes what NumPy casts to its dtype as `same_kind` (float64 to float32, integers to floats), never floats
to integers. All fields of one call stand for one transition, or for N with a leading axis.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["RESERVED", "Field", "columns_of", "fields_of", "outputs_of"]

RESERVED = frozenset({"indices", "weights", "generations", "priorities"})
"""Names that `sample` and `add` use themselves."""

_KINDS = "biufc"


@dataclass(frozen=True, slots=True)
class Field:
    """One named part of a transition.

    Attributes:
        name: what `add` and `sample` call it.
        shape: of one transition's value.
        dtype: of its items, in this machine's byte order.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of one transition's value."""
        return self.dtype.itemsize * math.prod(self.shape)


def fields_of(fields: Mapping[str, tuple[int | tuple[int, ...], DTypeLike]]) -> tuple[Field, ...]:
    """Read `{"obs": ((11,), "float32"), "reward": ((), "float32")}`, in this order.

    Raises:
        ValueError: if there is no field, or a name, shape or dtype is not possible.
    """
    if not fields:
        raise ValueError('There are no fields. Say what a transition consists of: fields={"obs": ((4,), "float32")}.')
    return tuple(_field(name, description) for name, description in fields.items())


def _field(name: str, description: tuple[int | tuple[int, ...], DTypeLike]) -> Field:
    if not isinstance(name, str) or not name or name in RESERVED:
        raise ValueError(
            f"Field {name!r}: a field's name is a text, as 'obs' or 'obs.camera', and none of "
            f"{', '.join(sorted(RESERVED))}, which add() and sample() use themselves. Choose another name."
        )
    try:
        given, dtype_like = description
        shape = tuple(operator.index(n) for n in (given if isinstance(given, tuple | list) else (given,)))
        dtype = np.dtype(dtype_like)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'Field {name!r} is {description!r}, but a field is (shape, dtype), as ((4,), "float32"): {error}.'
        ) from error
    if dtype.kind not in _KINDS:
        raise ValueError(f"Field {name!r} has dtype {dtype}, but only numbers and booleans are stored.")
    if min(shape, default=1) < 1:
        raise ValueError(f"Field {name!r} has shape {shape}, but every axis has 1 item at least.")
    # NumPy's own object for it: arrays have that one, and the native ring tells by it what need not be converted.
    return Field(name, shape, np.dtype(dtype.type))


def columns_of(fields: tuple[Field, ...], values: Mapping[str, ArrayLike]) -> tuple[list[NDArray[Any]], bool]:
    """Cast what was added to one contiguous array a field, shape (N, *shape); and: was it a single transition?

    Raises:
        TypeError: if a field is missing or unknown, or a value cannot be cast as `same_kind`.
        ValueError: if a shape does not fit, or the fields do not agree on N.
    """
    names = [field.name for field in fields]
    if values.keys() != set(names):
        missing = [name for name in names if name not in values]
        unknown = [name for name in values if name not in names]
        raise TypeError(
            f"A transition consists of {', '.join(names)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        )
    columns = [_column(field, values[field.name]) for field in fields]
    first, single = columns[0]
    for field, (column, is_single) in zip(fields, columns, strict=True):
        if is_single != single or len(column) != len(first):
            raise ValueError(
                f"{_amount(first, single)} in {names[0]!r}, but {_amount(column, is_single)} in {field.name!r}. "
                "Give every field one transition, or every field N of them along a leading axis."
            )
    return [column for column, _ in columns], single


def outputs_of(
    fields: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]], rows: int, out: Mapping[str, NDArray[Any]] | None
) -> dict[str, NDArray[Any]]:
    """An array for `rows` rows of each field: that of `out` where it has one, else a new one.

    Raises:
        ValueError: if an array of `out` is of no field, or not one to write that field's rows into.
    """
    given = {} if out is None else out
    for name, array in given.items():
        if name not in fields:
            raise ValueError(f"out has {name!r}, but a batch consists of {', '.join(fields)}.")
        shape, dtype = (rows, *fields[name][0]), fields[name][1]
        if array.shape != shape or array.dtype != dtype or not array.flags.carray:
            raise ValueError(
                f"out[{name!r}] is {array.dtype} of shape {array.shape}; {dtype} of shape {shape} is needed, "
                "C-contiguous and writeable."
            )
    return {
        name: given[name] if name in given else np.empty((rows, *shape), dtype)
        for name, (shape, dtype) in fields.items()
    }


def _amount(column: NDArray[Any], single: bool) -> str:  # noqa: FBT001 - private
    return "One transition without a leading axis" if single else f"{len(column)} transitions"


def _column(field: Field, value: ArrayLike) -> tuple[NDArray[Any], bool]:
    array = np.asarray(value)
    if not np.can_cast(array.dtype, field.dtype, "same_kind"):
        raise TypeError(
            f"Field {field.name!r} stores {field.dtype}, and {array.dtype} cannot be cast to that as same_kind. "
            f"Convert it first, as by .astype({field.dtype.name!r})."
        )
    if array.shape == field.shape:
        single = True
    elif array.shape[1:] == field.shape and array.ndim == len(field.shape) + 1:
        single = False
    else:
        raise ValueError(
            f"Field {field.name!r} has shape {field.shape}, so give {field.shape} for one transition, or "
            f"{('N', *field.shape)} for N of them, not {array.shape}.".replace("'N'", "N")
        )
    column = np.ascontiguousarray(array, field.dtype)
    return column.reshape(-1, *field.shape) if single else column, single
