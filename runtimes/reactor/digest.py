"""A short fingerprint of a value, the same in every process: what a trace keeps of an output.

A pickle would not do: it remembers which objects are shared, and orders sets by hashes that differ from
process to process. So values are walked here, each part fed with its type and length. Types count: 1, 1.0
and True differ, and so do a list and a tuple. Numbers count bit by bit: 0.0 and -0.0 differ.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from hashlib import blake2b
from pickle import PickleBuffer
from struct import pack
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np

__all__ = ["digest_of"]

Update = Callable[[Any], None]
"""Takes the next bytes of a value."""

_DIGEST_BYTES = 8


def digest_of(value: Any) -> str:
    """The digest of `value`: 16 hexadecimal digits.

    Containers, arrays, tensors and whatever can be pickled count with all they hold; functions and classes
    by name; what cannot be taken apart (a generator, a lock) by its type alone.
    """
    hasher = blake2b(digest_size=_DIGEST_BYTES)
    _feed(hasher.update, value, ())
    return hasher.hexdigest()


def _feed(update: Update, value: Any, around: tuple[int, ...]) -> None:
    """Feed `value`, which lies within the objects with the ids `around`, outermost first."""
    kind = type(value)
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        update(scalar(value))
    elif kind is np.ndarray:
        _feed_array(update, value, around)
    elif id(value) in around:
        update(b"cycle:%d;" % around.index(id(value)))
    else:
        _feed_compound(update, value, (*around, id(value)))


def _feed_compound(update: Update, value: Any, around: tuple[int, ...]) -> None:
    """Feed a value that has parts."""
    kind = type(value)
    if kind is tuple or kind is list:
        update(b"%s:%d;" % (b"tuple" if kind is tuple else b"list", len(value)))
        for item in value:
            _feed(update, item, around)
    elif kind is dict:
        update(b"dict:%d;" % len(value))
        for item in value.items():
            _feed(update, item[0], around)
            _feed(update, item[1], around)
    elif isinstance(value, set | frozenset):
        _feed_set(update, value, around)
    elif isinstance(value, np.generic):
        update(b"scalar;")
        _feed_array(update, np.asarray(value), around)
    elif (named := _named(value)) is not None:
        update(named)
    elif _is_dense_tensor(value):
        _feed_tensor(update, value)
    else:
        _feed_object(update, value, around)


def _named(value: Any) -> bytes | None:
    """What counts of a buffer, and of things that count by name; None for anything else."""
    match value:
        case bytearray() | memoryview() | PickleBuffer():
            return _text(b"buffer", bytes(value))
        case type() | FunctionType() | BuiltinFunctionType():
            return _text(b"name", _name_of(value))
        case Enum():
            return _text(b"enum", _name_of(type(value))) + _text(b"member", str(value.name).encode())
        case ModuleType():
            return _text(b"module", value.__name__.encode())
    return None


def _feed_array(update: Update, array: np.ndarray[Any, Any], around: tuple[int, ...]) -> None:
    """Feed an array: type, shape, and what it holds in C order."""
    dtype = array.dtype
    update(_text(b"array", f"{dtype.str}{array.shape}".encode()))
    if dtype.names is not None:
        # Field by field: the bytes between fields are nobody's.
        for name in dtype.names:
            update(_text(b"field", name.encode()))
            _feed_array(update, array[name], around)
    elif dtype.hasobject:
        for item in array.ravel().tolist():
            _feed(update, item, around)
    else:
        update(np.ascontiguousarray(array).reshape(-1).view(np.uint8) if array.nbytes else b"")


def _feed_set(update: Update, items: set[Any] | frozenset[Any], around: tuple[int, ...]) -> None:
    """Feed a set; its items by their digests in ascending order, as their own order differs between processes."""
    digests = []
    for item in items:
        hasher = blake2b(digest_size=_DIGEST_BYTES)
        _feed(hasher.update, item, around)
        digests.append(hasher.digest())
    update(_text(b"set", _name_of(type(items))) + b"".join(sorted(digests)))


def _is_dense_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor; torch is not imported to find out."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(value, tensor) and str(value.layout) == "torch.strided"


def _feed_tensor(update: Update, tensor: Any) -> None:
    """Feed a torch tensor: type, shape, and its bytes in C order, wherever it lies."""
    torch = sys.modules["torch"]
    update(_text(b"tensor", f"{tensor.dtype}{tuple(tensor.shape)}".encode()))
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    # As bytes, since numpy lacks some of torch's types.
    update(plain.view(torch.uint8).numpy() if tensor.numel() else b"")


def _feed_object(update: Update, value: Any, around: tuple[int, ...]) -> None:
    """Feed any other object by what pickle would rebuild it from, or its type if it cannot."""
    try:
        parts = value.__reduce_ex__(5)
    except Exception:  # noqa: BLE001 - a foreign class may refuse in any way
        update(_text(b"opaque", _name_of(type(value))))
        return
    if isinstance(parts, str):
        update(_text(b"global", parts.encode()))
        return
    update(_text(b"object", _name_of(type(value))))
    make, arguments, state, items, pairs = (*parts, None, None, None)[:5]
    _feed(update, make, around)
    _feed(update, arguments, around)
    _feed(update, state, around)
    _feed(update, None if items is None else list(items), around)
    _feed(update, None if pairs is None else list(pairs), around)


def _text(what: bytes, text: bytes) -> bytes:
    """`text` with its length before it, so that no two values are fed as the same bytes."""
    return b"%s:%d;%s" % (what, len(text), text)


def _name_of(named: Any) -> bytes:
    """Module and name; the script that was started is called the same in spawned processes too."""
    module = getattr(named, "__module__", None)
    return f"{'__main__' if module == '__mp_main__' else module}.{named.__qualname__}".encode()


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"none;",
    type(...): lambda _: b"ellipsis;",
    bool: lambda value: b"true;" if value else b"false;",
    int: lambda value: _text(b"int", b"%x" % value),
    float: lambda value: b"float:" + pack("<d", value),
    complex: lambda value: b"complex:" + pack("<dd", value.real, value.imag),
    str: lambda value: _text(b"str", value.encode("utf-8", "surrogatepass")),
    bytes: lambda value: _text(b"bytes", value),
}
"""How values without parts are fed; types exactly, not their subclasses."""
