"""What the runtimes share that stand for other replay buffers, in workload `replay`.

Such a library is no graph engine. A runtime makes its buffer or tree of the workload's parameters and hands it to the
graph's task, which fills it and then makes the same calls, on the same batches, as on ours.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import msgspec
import numpy as np

from runtimes.protocol import Demands, Runtime, demands_here, task_failure
from workloads.dataflow import Outputs, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workloads.dataflow import Graph

__all__ = [
    "ALPHA",
    "BETA",
    "FIELDS",
    "Batch",
    "Learner",
    "Options",
    "Peer",
    "PeerSession",
    "Plugged",
    "Workplace",
    "no_tree",
    "peer_runtime",
    "plugged_notice",
    "single_process",
    "tree_is_not_plugged",
]

WORKLOAD: Final = "replay"
_DIFFERS: Final = "it draws from random streams of its own"
ALPHA, BETA = 0.6, 0.4
"""Those of the workload."""

FIELDS: Final[Mapping[str, int]] = {"obs": 11, "action": 3, "reward": 1, "next_obs": 11, "done": 1}
"""How many float32 each field of the workload's transitions has."""


class Batch(Protocol):
    """What the workload hands over to be written."""

    @property
    def indices(self) -> NDArray[np.int64]:
        """Where."""
        ...

    @property
    def priorities(self) -> NDArray[np.float32]:
        """Raw, above 0."""
        ...

    @property
    def rows(self) -> Mapping[str, NDArray[np.float32]]:
        """The transitions, by field; none for a tree."""
        ...


class Learner(Protocol):
    """What learns from drawn rows: arguments by name are the fields and `weights`, with a leading axis."""

    def learn(self, **drawn: Any) -> Any:
        """One step, on tensors; the absolute errors, a tensor."""
        ...

    def learn_from_arrays(self, drawn: Mapping[str, Any]) -> NDArray[np.float32]:
        """One step, on arrays; the absolute errors."""
        ...


class Workplace(Protocol):
    """What the workload's task has for those who plug our buffer into their library."""

    def adapter(self, library: str) -> Any:
        """The module with our adapter for it."""
        ...

    def our_buffer(self, rng: np.random.Generator) -> Any:
        """Our buffer, empty, with the fields of the workload."""
        ...


class Peer(Protocol):
    """A tree or a buffer as the workload wants it; what gives a call prepares all that the call needs.

    There are two more, where parameters may ask for them: `loop(n, batch)` samples and updates, and
    `train(n, batch, learner)` inserts, samples, learns and updates.
    """

    def fill(self, batch: Batch) -> None:
        """Put in `batch` with its priorities."""

    def insert(self, batch: Batch) -> Callable[[], object]:
        """A call that puts in `batch`."""
        ...

    def sample(self, n: int) -> Callable[[], object]:
        """A call that draws `n`."""
        ...

    def update(self, batch: Batch) -> Callable[[], object]:
        """A call that sets the priorities of `batch`."""
        ...


class TreePeer(Peer):
    """A tree alone: putting rows in is setting their priorities."""

    def fill(self, batch: Batch) -> None:
        """As `Peer`."""
        self.update(batch)()

    def insert(self, batch: Batch) -> Callable[[], object]:
        """As `Peer`."""
        return self.update(batch)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """A library is used as its authors advise: there are no options."""


class Plugged(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose buffer stands in the library's loop."""

    plugged: Annotated[
        bool, msgspec.Meta(description="our buffer, plugged into the library in place of its own; with what=buffer")
    ] = False


class PeerSession(Session):
    """The task of workload `replay`, with a buffer that is not ours, or not ours alone."""

    def __init__(self, graph: Graph, make: Callable[[Workplace], Callable[[np.random.Generator], Peer]]) -> None:
        """Build the task, and have it fill the peer that `make` leads to, which is handed a stream for its draws."""
        (node,) = graph.tasks
        self._name = node.path
        task: Any = node.build(0, graph.seed)
        task.use(make(task))
        self._task = task
        self._round = 0

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds; their durations in nanoseconds."""
        fire, outputs = self._task.fire, Outputs(self._name, [], {})
        stamps = [perf_counter_ns()]
        try:
            for _ in range(rounds):
                fire({}, outputs)
                self._round += 1
                stamps.append(perf_counter_ns())
        except Exception as error:
            raise task_failure(self._name, self._round, error) from error
        return np.diff(np.array(stamps)).astype(np.int64, copy=False)

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """The task receives nothing."""
        return {self._name: {}}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Those of the task."""
        return {self._name: [self._task.tallies()]}

    def close(self) -> None:
        """Close the task."""
        self._task.close()


def peer_runtime(  # noqa: PLR0913 - what tells peers apart
    *,
    name: str,
    summary: str,
    make: Callable[[Mapping[str, Any], Any, Workplace], Callable[[np.random.Generator], Peer]],
    why_not: Callable[[Mapping[str, Any], Any], str | None],
    limits: str,
    requires: tuple[str, ...],
    row_bytes: int,
    leaf_bytes: int | None = None,
    options: type[msgspec.Struct] = Options,
    notice: Callable[[Any], str | None] | None = None,
) -> Runtime:
    """A runtime of workload `replay`.

    Args:
        name: Of the runtime.
        summary: Of the runtime, one line.
        make: Gives, for parameters, options and the task, what makes the peer of a stream for draws.
        why_not: Why the library cannot do what parameters and options ask for, or None if it can.
        limits: What it can run, in words.
        requires: Modules that it needs.
        row_bytes: What a row takes in memory.
        leaf_bytes: The same in a tree alone, where the library's can be used so.
        options: Of the runtime.
        notice: What a reader must know about the options.
    """

    def refuses(graph: Graph, chosen: Any) -> str | None:
        if graph.workload != WORKLOAD:
            return f"it is a replay buffer of workload '{WORKLOAD}', and '{graph.workload}' is no such. Leave it out."
        return why_not(graph.parameters, chosen)

    def start(graph: Graph, chosen: Any, _scratch: Path) -> PeerSession:
        return PeerSession(graph, lambda task: make(graph.parameters, chosen, task))

    def demands(graph: Graph, _options: Any) -> Demands:
        here = demands_here(graph)
        if graph.workload != WORKLOAD:
            return here
        bytes_each = leaf_bytes if leaf_bytes is not None and graph.parameters["what"] == "tree" else row_bytes
        rows_bytes = graph.parameters["capacity"] * bytes_each
        return Demands(processes=0, memory_bytes=here.memory_bytes - graph.held_bytes + rows_bytes)

    return Runtime(
        name=name,
        summary=summary,
        options=options,
        open=start,
        refuses=refuses,
        notice=notice,
        demands=demands,
        differs=_DIFFERS,
        limits=limits,
        requires=requires,
    )


def single_process(library: str) -> Callable[[Mapping[str, Any]], str | None]:
    """Why `library`, which has no buffer that processes share, cannot do what parameters ask for."""

    def why_not(parameters: Mapping[str, Any]) -> str | None:
        if parameters["shared"]:
            return f"{library} has no prioritized buffer that processes share. Set shared=false"
        if parameters["operation"] == "loop":
            return f"{library} is not measured with operation=loop, which is for buffers that processes share"
        return None

    return why_not


def no_tree(library: str) -> Callable[[Mapping[str, Any]], str | None]:
    """Why `library`, whose tree cannot be used alone, cannot do what parameters ask for."""

    def why_not(parameters: Mapping[str, Any]) -> str | None:
        if parameters["what"] == "tree":
            return f"{library} offers no sum tree without a buffer. Set what=buffer"
        return None

    return why_not


def tree_is_not_plugged(parameters: Mapping[str, Any], options: Plugged) -> str | None:
    """That our tree alone takes nothing's place, if that was asked for."""
    if parameters["what"] == "tree" and options.plugged:
        return "what=tree is the library's own tree, and plugged=true would be ours. Set what=buffer"
    return None


def plugged_notice(what: str) -> Callable[[Any], str | None]:
    """The notice of a runtime with the options `Plugged`: `what` is done where our buffer is plugged in."""
    return lambda options: f"with plugged=true {what}" if options.plugged else None
