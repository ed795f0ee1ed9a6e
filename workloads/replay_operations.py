"""Workload `replay`: what a replay buffer does in a training loop, one operation after the other.

A single task inserts, samples or updates, a few times a round, on a buffer of `workloads.replay` that is full from the
start. It is no parallel program but what the parallel ones need most: a unit of work is one operation on a whole batch.

The measured thing is a `Subject`. Ours is used unless another one is handed to the task before its first round: so
do runtimes that stand for other libraries, which then get the same batches, in the same loop.
"""

from __future__ import annotations

from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import msgspec
import numpy as np

from workloads.dataflow import GraphBuilder, Task, Workload
from workloads.replay_beside import Beside, Companion, Places
from workloads.replay_material import FIELDS, TRANSITION_BYTES, Batch, consecutive, filling, scattered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workloads.dataflow import Graph, Inputs, Outputs, TaskContext
    from workloads.replay import PrioritizedReplay
    from workloads.replay_learner import Learner

__all__ = ["WORKLOAD", "Buffer", "Operation", "Operations", "OurBuffer", "OurTree", "Parameters", "Subject"]

Operation = Literal["insert", "sample", "update", "loop", "train"]

ALPHA, BETA = 0.6, 0.4
"""As in Schaul et al., Prioritized Experience Replay (2016), for the proportional variant."""


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is measured, and how large it is."""

    operation: Annotated[
        Operation,
        msgspec.Meta(
            description="insert: a batch of rows; sample: draw a batch; update: set priorities all over; "
            "loop: sample, then update what was drawn; train: insert, sample, a step of a small network, update"
        ),
    ] = "sample"
    what: Annotated[
        Literal["tree", "buffer"],
        msgspec.Meta(description="tree: the sum tree alone; buffer: with transitions of 108 bytes"),
    ] = "buffer"
    capacity: Annotated[int, msgspec.Meta(description="rows that fit; all are filled", ge=2)] = 1_000_000
    batch: Annotated[int, msgspec.Meta(description="rows of one operation", ge=1)] = 256
    insert_rows: Annotated[
        int, msgspec.Meta(description="rows of one insertion in operation=train, and of one beside another", ge=1)
    ] = 32
    fan_out: Annotated[
        int, msgspec.Meta(description="children of a node of our tree: 2, 4, 8, 16, 32 or 64", ge=2, le=64)
    ] = 16
    dtype: Annotated[
        Literal["float32", "float64"], msgspec.Meta(description="of a tree alone, where a library leaves the choice")
    ] = "float32"
    beside: Annotated[
        Beside,
        msgspec.Meta(
            description="what a second process does on the same buffer meanwhile: none: there is no second process; "
            "inserter: inserts insert_rows rows at a time; learner: samples batch rows and updates them"
        ),
    ] = "none"
    beside_rows_per_s: Annotated[
        int, msgspec.Meta(description="rows a second that the inserter beside keeps to; 0: as many as it can", ge=0)
    ] = 0
    shared: Annotated[
        bool,
        msgspec.Meta(
            description="whether the buffer lies in memory that processes share, each of which then keeps to a "
            "processor of its own; with beside it must"
        ),
    ] = False
    operations: Annotated[int, msgspec.Meta(description="operations in a round", ge=1)] = 16

    def __post_init__(self) -> None:
        """Check the rules between parameters.

        Raises:
            ValueError: if a value does not go with another.
        """
        if self.what == "tree" and (self.operation in {"loop", "train"} or self.shared):
            raise ValueError(
                f"what='tree' does not go with operation='{self.operation}' and shared={str(self.shared).lower()}: a "
                "tree alone is inserted into, sampled or updated, in one process. Set what='buffer'."
            )
        if self.beside != "none" and not self.shared:
            raise ValueError(
                f"beside='{self.beside}' does not go with shared=false: two processes need a buffer that they share. "
                "Set shared=true."
            )
        if self.beside_rows_per_s and self.beside != "inserter":
            raise ValueError(
                f"beside_rows_per_s={self.beside_rows_per_s} does not go with beside='{self.beside}': nobody is there "
                "to keep to it. Set beside='inserter'."
            )
        if self.operation != "train" and self.beside == "none" and self.insert_rows != _DEFAULT_INSERT_ROWS:
            raise ValueError(
                f"insert_rows={self.insert_rows} does not go with operation='{self.operation}': where nothing is "
                "inserted beside, the rows of an operation are those of its batch. Set batch."
            )
        if self.fan_out & (self.fan_out - 1):
            raise ValueError(f"fan_out={self.fan_out} is no power of two. Set 2, 4, 8, 16, 32 or 64.")
        if self.batch > self.capacity or self.insert_rows > self.capacity:
            raise ValueError(
                f"batch={self.batch} and insert_rows={self.insert_rows} must fit into capacity={self.capacity}. "
                "Set a larger capacity."
            )


_DEFAULT_INSERT_ROWS = 32


class Subject(Protocol):
    """A buffer or a tree that is measured. What gives a call prepares all it needs, so that the call does nothing else.

    It must be picklable if a second process uses it.
    """

    def fill(self, batch: Batch) -> None:
        """Put in `batch`, with its priorities; all batches together fill the whole, in order."""

    def insert(self, batch: Batch) -> Callable[[], object]:
        """A call that puts in `batch`: a buffer with the priority that it gives to new rows, a tree with its own."""
        ...

    def sample(self, n: int) -> Callable[[], object]:
        """A call that draws `n` with replacement, each with a chance in proportion to its priority.

        A buffer gives transitions, indices and weights; a tree indices.
        """
        ...

    def update(self, batch: Batch) -> Callable[[], object]:
        """A call that sets priorities at the indices of `batch`."""
        ...


class Buffer(Subject, Protocol):
    """A whole buffer, which can do more."""

    def loop(self, n: int, batch: Batch) -> Callable[[], object]:
        """A call that draws `n`, then gives the drawn rows the priorities of `batch`."""
        ...

    def train(self, n: int, batch: Batch, learner: Learner) -> Callable[[], object]:
        """A call that inserts the rows of `batch`, draws `n`, has `learner` learn from them, and updates them."""
        ...


# ---------------------------------------------------------------------------------------------- ours


class OurTree:
    """The sum tree of `workloads.replay`."""

    def __init__(self, parameters: Parameters, rng: np.random.Generator) -> None:
        """Make it, empty."""
        from workloads.replay import SumTree

        self._tree = SumTree(parameters.capacity, fan_out=parameters.fan_out, dtype=parameters.dtype)
        self._rng = rng

    def fill(self, batch: Batch) -> None:
        """As `Subject`."""
        self._tree.set(batch.indices, batch.priorities)

    def insert(self, batch: Batch) -> Callable[[], object]:
        """As `Subject`."""
        return self.update(batch)

    def sample(self, n: int) -> Callable[[], object]:
        """As `Subject`."""
        return partial(self._tree.sample, n, self._rng)

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Subject`."""
        return partial(self._tree.set, batch.indices, batch.priorities.astype(np.float64))


class OurBuffer:
    """`workloads.replay.PrioritizedReplay`."""

    def __init__(self, parameters: Parameters, rng: np.random.Generator) -> None:
        """Make it, empty."""
        from workloads.replay import PrioritizedReplay

        seed = int(rng.integers(2**31))
        self.replay: PrioritizedReplay = PrioritizedReplay(
            parameters.capacity, dict(FIELDS), alpha=ALPHA, seed=seed, shared=parameters.shared
        )

    def fill(self, batch: Batch) -> None:
        """As `Subject`."""
        self.replay.add(**batch.rows, priorities=batch.priorities)

    def insert(self, batch: Batch) -> Callable[[], object]:
        """As `Subject`."""
        return partial(self.replay.add, **batch.rows)

    def sample(self, n: int) -> Callable[[], object]:
        """As `Subject`."""
        return partial(self.replay.sample, n, BETA)

    def update(self, batch: Batch) -> Callable[[], object]:
        """As `Subject`."""
        return partial(self.replay.update_priorities, batch.indices, batch.priorities)

    def loop(self, n: int, batch: Batch) -> Callable[[], object]:
        """As `Subject`; rows that were overwritten meanwhile keep their priority."""

        def call() -> object:
            drawn = self.replay.sample(n, BETA)
            self.replay.update_priorities(drawn["indices"], batch.priorities, drawn["generations"])
            return drawn

        return call

    def train(self, n: int, batch: Batch, learner: Learner) -> Callable[[], object]:
        """As `Subject`."""

        def call() -> object:
            self.replay.add(**batch.rows)
            drawn = self.replay.sample(n, BETA)
            errors = learner.learn_from_arrays(drawn)
            self.replay.update_priorities(drawn["indices"], errors, drawn["generations"])
            return drawn

        return call


# ------------------------------------------------------------------------------------------ the task


class Operations(Task):
    """Carries out the operations of a round on a subject: ours, or the one that it was handed."""

    def __init__(self, context: TaskContext, *, parameters: Parameters) -> None:
        """Nothing is made before the first round, so that another subject can be handed over."""
        self._context = context
        self._parameters = parameters
        self._subject: Any = None
        self._calls: Iterator[Callable[[], object]] = iter(())
        self._done = 0
        self._last: object = None
        self._companion: Companion | None = None
        self._places: Places | None = None

    def use(self, make: Callable[[np.random.Generator], Any]) -> None:
        """Fill the subject that `make` gives, and measure that; `make` is given the stream of a tree's draws."""
        parameters, context = self._parameters, self._context
        subject = self._subject = make(context.rng("sampling"))
        for batch in filling(context, parameters.capacity, with_rows=parameters.what == "buffer"):
            subject.fill(batch)
        self._calls = cycle(self._calls_on(subject))
        if parameters.beside != "none":
            p = parameters
            batches = self._rows(p.insert_rows) if p.beside == "inserter" else scattered(context, p.capacity, p.batch)
            self._companion = Companion(subject, p.beside, batches, p.batch, p.beside_rows_per_s)
        if parameters.shared:
            # Also without a second process: with and without differ in nothing else then.
            self._places = Places()
            self._places.take("first")

    def our_buffer(self, rng: np.random.Generator) -> PrioritizedReplay:
        """Our buffer, empty, for who plugs it into another library."""
        return OurBuffer(self._parameters, rng).replay

    @staticmethod
    def adapter(library: str) -> Any:
        """The module with our adapter for `library`, which plugs our buffer into it."""
        from importlib import import_module

        return import_module(f"workloads.replay.adapters.{library}")

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:  # noqa: ARG002 - it has no ports
        """Carry out the operations of a round."""
        if self._subject is None:
            self.use(partial(OurTree if self._parameters.what == "tree" else OurBuffer, self._parameters))
        count = self._parameters.operations
        result: object = None
        for call in islice(self._calls, count):
            result = call()
        self._done += count
        self._last = result

    def tallies(self) -> Mapping[str, Any]:
        """The number of operations, and what the last one drew; nothing where a second process interferes.

        Raises:
            RuntimeError: if the second process has ended, or does not keep the pace that was asked for.
        """
        if self._companion is not None:
            self._companion.check()
            return {}
        return {"operations": self._done, "last": _indices(self._last)}

    def close(self) -> None:
        """End the second process, and let go of the subject."""
        if self._places is not None:
            self._places.leave()
        if self._companion is not None:
            self._companion.close()
        self._subject, self._calls = None, iter(())

    def _calls_on(self, subject: Any) -> Sequence[Callable[[], object]]:
        """All calls that are made in turn."""
        p = self._parameters
        if p.operation == "insert":
            return [subject.insert(batch) for batch in self._rows(p.batch if p.beside == "none" else p.insert_rows)]
        if p.operation == "sample":
            return [subject.sample(p.batch)]
        if p.operation == "train":
            from workloads.replay_learner import Learner

            learner = Learner(self._context.seed_int("learner"))
            return [subject.train(p.batch, batch, learner) for batch in self._rows(p.insert_rows)]
        batches = scattered(self._context, p.capacity, p.batch)
        if p.operation == "update":
            return [subject.update(batch) for batch in batches]
        return [subject.loop(p.batch, batch) for batch in batches]

    def _rows(self, n: int) -> Sequence[Batch]:
        return consecutive(self._context, self._parameters.capacity, n, with_rows=self._parameters.what == "buffer")


def _indices(result: object) -> int:
    """The sum of the indices that an operation gave, if it gave any."""
    drawn = result.get("indices") if isinstance(result, dict) else result
    first = drawn[0] if isinstance(drawn, tuple) else drawn
    return int(first.sum()) if isinstance(first, np.ndarray) else 0


# -------------------------------------------------------------------------------------- the workload


def build(parameters: Parameters, seed: int) -> Graph:
    """The graph for `parameters`."""
    builder = GraphBuilder(
        workload="replay",
        parameters=msgspec.to_builtins(parameters),
        seed=seed,
        unit="operation",
        units_per_round=parameters.operations,
        held_bytes=_held_bytes(parameters),
    )
    builder.task("replay", partial(Operations, parameters=parameters), observed=True)
    return builder.build()


def _held_bytes(parameters: Parameters) -> int:
    """About what our buffer takes: rows, and a tree that has a sum and a minimum in every inner node."""
    leaf = np.dtype(parameters.dtype).itemsize
    tree = leaf * (1 + 2 / (parameters.fan_out - 1))
    # Besides its transition, a row has a state, and fills whole lines of the processor's cache.
    row = tree if parameters.what == "tree" else tree + TRANSITION_BYTES + 16
    return int(parameters.capacity * row)


WORKLOAD = Workload(
    name="replay",
    summary="A prioritized replay buffer, or its sum tree alone: what inserting, sampling and updating cost.",
    parameters=Parameters,
    build=build,
    optional=(
        ("torch", "operation=train"),
        ("workloads.replay._tree", "the tree in C instead of NumPy"),
        ("workloads.replay._ring", "the buffer in C instead of NumPy, and shared=true"),
    ),
)
