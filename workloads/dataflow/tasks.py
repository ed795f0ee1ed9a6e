"""What a workload's tasks are: code that fires once a round, with memory for its outputs and its own randomness."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.dataflow.values import ArraySpec, GraphError, accept_array, unknown_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Inputs", "Outputs", "Task", "TaskContext", "TaskFactory"]

Inputs = Mapping[str, Any]
"""What a firing receives: port name to value, read-only, valid until the firing returns."""


class Outputs(dict[str, Any]):
    """What a firing gives: port name to value.

    `outputs["x"][...] = v` fills the array of a declared port in place; a declared port must be
    written whole in every round. `outputs["x"] = v` hands over a value instead: on a declared port an
    array that the task holds (its input, say; the runtime copies it if it must), on any other port
    anything picklable, which must not be changed afterwards: consumers may be given the object itself.
    A port without a declaration, or with an optional one, that is neither assigned nor filled is absent
    in that round.

    Runtimes read `assigned` after each firing and clear it.
    """

    __slots__ = ("assigned", "optional", "path", "ports", "rooms")

    def __init__(
        self,
        path: str,
        ports: Iterable[str],
        arrays: Mapping[str, NDArray[Any]],
        *,
        optional: Mapping[str, ArraySpec] | None = None,
        rooms: Mapping[str, Callable[[], NDArray[Any]]] | None = None,
    ) -> None:
        """Offer memory to the task at `path`, which has output `ports`.

        Args:
            path: The task, for messages.
            ports: Names of all outputs.
            arrays: Writable memory of the ports that carry an array in every round.
            optional: What the ports carry that do so in some rounds. Touched, they get a fresh array,
                which counts as assigned.
            rooms: For optional ports, what gives memory of the runtime's own instead, and notes that.
        """
        super().__init__(arrays)
        self.path = path
        self.ports = frozenset(ports)
        self.optional = optional or {}
        self.rooms = rooms or {}
        self.assigned: dict[str, Any] = {}

    def __setitem__(self, port: str, value: Any) -> None:
        """Hand over `value` on `port`."""
        if port not in self.ports:
            raise GraphError(unknown_name("output", port, self.path, self.ports))
        if port in self.optional:
            value = accept_array(value, self.optional[port], f"{self.path}.{port}")
        self.assigned[port] = value

    def __missing__(self, port: str) -> Any:
        """Memory for an optional port; otherwise explain that only declared arrays can be filled in place."""
        if port in self.rooms:
            return self.rooms[port]()
        if port in self.optional:
            # A runtime may have left a mark of its own there.
            if not isinstance(self.assigned.get(port), np.ndarray):
                self.assigned[port] = self.optional[port].zeros()
            return self.assigned[port]
        if port in self.ports:
            raise GraphError(
                f"Output '{self.path}.{port}' declares no array, so there is nothing to fill in place. "
                f"Assign it (outputs[{port!r}] = value), or declare an ArraySpec."
            )
        raise GraphError(unknown_name("output", port, self.path, self.ports))


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """Where a task stands in its graph, and the source of its randomness."""

    path: str
    """Name of the task or bank in the graph."""
    index: int
    """Position in the bank, 0 for a single task."""
    width: int
    """Members of the bank, 1 for a single task."""
    seed: int
    """The graph's seed."""

    def seed_sequence(self, purpose: str) -> np.random.SeedSequence:
        """The seed of the stream for `purpose`: a function of seed, path, index and purpose alone.

        Never of the worker or of the order of construction, so the same graph and seed give the same
        bits on every runtime and any number of workers.
        """
        label = hashlib.sha256(f"{self.path}\0{purpose}".encode()).digest()[:16]
        words = np.frombuffer(label, "<u4").tolist()
        return np.random.SeedSequence(self.seed, spawn_key=(*words, self.index))

    def rng(self, purpose: str) -> np.random.Generator:
        """A PCG64 generator on the stream for `purpose`."""
        return np.random.Generator(np.random.PCG64(self.seed_sequence(purpose)))

    def seed_int(self, purpose: str) -> int:
        """A seed in [0, 2**31) on the stream for `purpose`, for libraries that take an int."""
        return int(self.seed_sequence(purpose).generate_state(1, np.uint32)[0] >> 1)


class Task(ABC):
    """A stateful component of a graph. It is built where it will live, and never travels."""

    def initial(self, port: str) -> Any:
        """The value that a delayed edge from `port` carries in the rounds before there is a real one.

        Called once for each such port, at the beginning of round 0; never if the task goes on from a state. `None`
        makes it absent, which a declared array port cannot be.
        """
        raise GraphError(
            f"{type(self).__name__} gives no initial value for its delayed output '{port}'. Define initial(self, port)."
        )

    @abstractmethod
    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Do one round's work: read `inputs`, fill or assign `outputs`."""

    def tallies(self) -> Mapping[str, Any]:
        """Counts and totals that the task keeps anyway; they are part of the digest.

        The harness adds up and reports those named `resets`, `emulator_frames` and `updates`; where several tasks
        take part in an update, one of them counts it.
        """
        return {}

    def state(self) -> Mapping[str, Any]:
        """All that the task keeps from one round to the next and does not make anew when it is built.

        Asked for between two rounds. Arrays, numbers (of any size), texts, bytes and None, and lists, tuples and
        mappings (with texts as keys) of these; the task's own memory may be among them, since it is copied. A task
        that keeps nothing gives an empty mapping: there is no default, so that none is resumed wrongly unawares.

        Raises:
            GraphError: if the task cannot be resumed.
        """
        raise GraphError(
            f"{type(self).__name__} does not say what it keeps from one round to the next. Define state(self) and "
            "restore(self, state); for a task that keeps nothing, let state give {}."
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`, which `state` gave: called once, when the task has been built.

        Afterwards it must give the same bits as the task that gave it. Arrays are read-only and must not be kept:
        others may be given the same.
        """
        if state:
            raise GraphError(
                f"{type(self).__name__} gives a state ({', '.join(state)}) but cannot go on from it. "
                "Define restore(self, state)."
            )

    def close(self) -> None:  # noqa: B027 - a hook, empty by intent
        """Let go of what the task holds (an environment, a file)."""


TaskFactory = Callable[[TaskContext], Task]
