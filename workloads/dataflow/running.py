"""A graph that runs: the session that a runtime opens, and the fingerprint of what it computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import xxhash

from workloads.dataflow.graph import EdgeShape, Graph
from workloads.dataflow.values import Gathered, GraphError

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from workloads.dataflow.state import State

__all__ = ["Digest", "Session"]


class Session(ABC):
    """A living program of a graph, as a runtime opens it: it advances by rounds and closes."""

    @abstractmethod
    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds, return drained; shape `(rounds,)`, nanoseconds, each as the driver saw it.

        Raises:
            Exception: whatever a task raised, or that a process of the runtime died; the message names
                what failed. The session can then only be closed.
        """

    @abstractmethod
    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """What the observed tasks received in the last round: path to port to value.

        Valid until the next `advance`.
        """

    @abstractmethod
    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every task its tallies: path to one mapping for each member, in index order."""

    def state(self) -> State:
        """Where the program stands now: a session on `graph.resumed(state)` goes on from here, bit for bit.

        Asked for between two calls of `advance`, or before the first. It is a copy, and asking changes nothing: this
        session may go on, also where a task has no state.

        Raises:
            GraphError: if a task does not say what it keeps, or this runtime does not say where it stands.
        """
        raise GraphError(
            f"{type(self).__name__} does not say where its program stands, so it cannot be resumed. "
            "Run the graph on a runtime that does: sequential, reactor, ray..."
        )

    @abstractmethod
    def close(self) -> None:
        """End the program. Leaves no process, temporary file or shared memory. May be called twice."""

    def __enter__(self) -> Self:
        """The session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


class Digest:
    """A fingerprint of values that is the same wherever and however they were computed.

    Arrays count with dtype, shape and bytes, whatever their strides; sequences and mappings with their
    items. XXH3 (128 bits), since 80 MB a round may have to be hashed; it guards against mistakes, not
    against malice.
    """

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        """Start with nothing."""
        self._hash = xxhash.xxh3_128()

    def add(self, value: Any) -> None:
        """Take `value` in.

        Raises:
            TypeError: for a value without a defined fingerprint (a set, an object of some class).
        """
        for part in _canonical(value):
            self._hash.update(part)

    def add_received(self, graph: Graph, received: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in what observed tasks received, a gather member by member however it is stored."""
        for path in sorted(received):
            for edge in graph.edges_into(path):
                value = received[path][edge.target.name]
                self.add(str(edge.target))
                self.add(list(value) if edge.shape is EdgeShape.GATHER else value)

    def hexdigest(self) -> str:
        """32 hexadecimal digits."""
        return self._hash.hexdigest()


def _canonical(value: Any) -> Iterator[Any]:
    """Bytes-like parts that determine `value`, each preceded by a tag of its kind and length."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        yield f"a{array.dtype.str}{np.shape(value)}".encode()
        yield array.reshape(-1).view(np.uint8).data
    elif isinstance(value, Mapping):
        yield f"m{len(value)}".encode()
        for key in sorted(value):
            yield from _canonical(str(key))
            yield from _canonical(value[key])
    elif isinstance(value, Gathered):
        yield from _canonical(list(value))
    elif isinstance(value, list | tuple):
        yield f"l{len(value)}".encode()
        for item in value:
            yield from _canonical(item)
    elif isinstance(value, bytes | str):
        raw = value.encode() if isinstance(value, str) else value
        yield f"{'s' if isinstance(value, str) else 'b'}{len(raw)}".encode()
        yield raw
    elif value is None or isinstance(value, bool | int | float):
        yield f"{type(value).__name__}{value!r}".encode()
    else:
        raise TypeError(
            f"A value of type {type(value).__name__} has no fingerprint. Observe arrays, numbers, strings, "
            "and lists, tuples or mappings of these."
        )
