"""What runs of a runtime gave: each is made once, when it is first asked for, and many tests look at it.

A session of some runtimes takes seconds to start, so what can run side by side does, as one graph. Where that
fails, each part runs alone: a test then sees the failure of its own part only.
"""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness import registry
from harness.conformance.graphs import (
    CELLS,
    GROUPS,
    NATIVE_CELLS,
    RANDOM,
    ROUNDS_BEFORE,
    alone,
    cell_graph,
    failing_graph,
    parts_of,
    random_graphs,
    resumed,
    speakers,
    stated,
    union,
    whole,
)
from harness.conformance.leftovers import GRACE_S, watched
from harness.conformance.tasks import plain
from workloads.dataflow import Digest, EdgeShape, Session, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runtimes.protocol import Runtime
    from workloads.dataflow import Graph

__all__ = ["OTHER_SEED", "ROUNDS", "SEED", "Part", "Ran", "Subject", "sequential_part", "uninterrupted_tallies"]

SEED, OTHER_SEED = 3, 4
_STEPS = (1, 1, 2, 4)
"""Rounds of the calls of `advance`, in order."""
ROUNDS = sum(_STEPS)
_ASKED_AFTER = 2
"""Rounds after which a session is asked for its state; it then goes on."""
_LIMIT_S = 120.0
"""No run takes longer; starting a cluster on a busy machine may take half a minute."""

RESUMED = "resumed"
"""The name of a graph that goes on from a state."""

Graphs = dict[str, "Graph | str"]
"""Graphs by name, or why one cannot be built here."""


class TooLong(Exception):  # noqa: N818 - it is what has happened
    """A runtime has not returned within its time."""


@dataclass(slots=True, repr=False)
class Ran:
    """One session, from before it was opened until after it was closed, twice."""

    graph: Graph
    error: BaseException | None = None
    raised_by: str = ""
    """What raised the error: `open`, `advance`, `close`..."""
    after_s: float = 0.0
    """How long that took."""
    durations: list[Any] = field(default_factory=list)
    """What each call of `advance` gave."""
    walls_ns: list[int] = field(default_factory=list)
    """What each call took, seen from outside."""
    received: list[dict[str, dict[str, Any]]] = field(default_factory=list)
    """After each call, in a plain form."""
    tallies: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    state: State | Exception | None = None
    """What it gave when it was asked for its state, or raised; None if it never gives one."""
    closed: dict[str, list[int]] = field(default_factory=dict)
    """Of each speaker the numbers of the processes that closed it."""
    closed_again: Exception | None = None
    """What the second call of `close` raised."""
    left: list[str] = field(default_factory=list)
    """What was left behind."""


@dataclass(frozen=True, slots=True, repr=False)
class Part:
    """A part of a run: the tasks of `graph`, under the paths that they had there."""

    graph: Graph
    ran: Ran
    references: list[Part] = field(default_factory=list)
    """The same on the plain loop, once it has been asked for."""

    def digests(self) -> list[str]:
        """Of what the observed tasks received after each call of `advance`, and of all tallies at the end."""
        values = [{node.path: step.get(node.path) for node in self.graph.tasks} for step in self.ran.received]
        tallies = {node.path: plain(list(self.ran.tallies.get(node.path, ()))) for node in self.graph.tasks}
        return [_digest(repr(value)) for value in (*values, tallies)]

    def tallies(self) -> list[list[Mapping[str, Any]]]:
        """Of every task and member the tallies."""
        return [list(self.ran.tallies[node.path]) for node in self.graph.tasks]

    def state(self) -> str:
        """A digest of where this part stood when the session was asked.

        Raises:
            Exception: what the session raised then.
        """
        state = self.ran.state
        if isinstance(state, Exception):
            raise state
        assert state is not None
        members = {node.path: [(m.kept, m.in_flight) for m in state.tasks[node.path]] for node in self.graph.tasks}
        return _digest(repr((state.round - self.graph.first_round, _sorted(plain(members)))))


@dataclass(eq=False, repr=False)
class Subject:
    """A runtime with its options, and what its runs gave."""

    runtime: Runtime
    options: msgspec.Struct
    label: str
    _runs: dict[Any, dict[str, Part | str]] = field(default_factory=dict)
    _failures: dict[str, Ran] = field(default_factory=dict)
    grace_s: float = GRACE_S
    """What a session's processes get to end; nothing more for one that has been found to leave things behind."""

    # ------------------------------------------------------------------------------ what tests ask for

    def refusal(self, graph: Graph) -> str | None:
        """Why it does not run `graph`, or None."""
        return None if self.runtime.refuses is None else self.runtime.refuses(graph, self.options)

    def speakers(self, group: str) -> Part:
        """What speakers said and heard, joined by the edges of `group` and maybe others; skips where refused."""
        parts = self._main()
        return self._taken(parts.get("speakers") or parts[group])

    def streams(self) -> Part:
        """Speakers; where all their edges are refused, a bank without any."""
        parts = self._main()
        return self._taken(parts["alone"] if "alone" in parts else parts.get("speakers") or parts["shapes"])

    def any_part(self) -> Part:
        """Whatever it runs first."""
        parts = list(self._main().values())
        return self._taken(next((part for part in parts if isinstance(part, Part)), parts[0]))

    def cell(self, name: str) -> Part:
        """What a workload gave; skips where it is refused."""
        return self._taken(self._main().get(name, "it runs others, which are enough"))

    def random(self, workers: int | None = None) -> list[Part]:
        """What random graphs gave, with so many workers where that is an option; skips where all are refused."""
        if workers is None:
            parts = {name: part for name, part in self._main().items() if name.startswith(RANDOM)}
        else:
            chosen, key = replace(self, options=_with_workers(self.options, workers)), ("random", workers)
            if key not in self._runs:
                self._runs[key] = chosen._run(lambda _: {**random_graphs(OTHER_SEED), RESUMED: resumed(OTHER_SEED)})  # noqa: SLF001 - its own class
            parts = self._runs[key]
        if not any(isinstance(part, Part) for part in parts.values()):
            self._taken(next(iter(parts.values())))
        return [self._taken(part) for part in parts.values() if isinstance(part, Part)]

    def resumed(self, workers: int | None = None) -> Part:
        """What a graph gave that goes on from a state, with so many workers where that is an option."""
        if workers is None:
            return self._taken(self._main().get(RESUMED, "it runs none of its graphs"))
        self.random(workers)
        return self._taken(self._runs["random", workers][RESUMED])

    def stating(self) -> dict[str, Part]:
        """All parts of its sessions that can tell a state, by name; skips where it gives none."""
        found = {name: part for name, part in self._main().items() if isinstance(part, Part) and part.ran.error is None}
        told = {name: part for name, part in found.items() if part.ran.state is not None}
        if not told:
            pytest.skip(f"{self.runtime.name} does not tell where it stands")
        return told

    def failure(self, how: str) -> Ran:
        """What became of a graph whose member fails in the way of `how`; skips where it is refused."""
        graph = failing_graph(how)
        reason = self.refusal(graph)
        if reason is not None:
            pytest.skip(f"{self.runtime.name} refuses: {reason}")
        if how not in self._failures:
            self._failures[how] = _run_of(self, graph)
        return self._failures[how]

    def runs(self) -> list[Ran]:
        """All runs that are not meant to fail, so far as they have been made for other tests."""
        parts = [*self._main().values(), *(part for parts in self._runs.values() for part in parts.values())]
        return list({id(part.ran): part.ran for part in parts if isinstance(part, Part)}.values())

    def forget(self) -> None:
        """Let go of everything."""
        self._runs.clear()
        self._failures.clear()

    # --------------------------------------------------------------------------------------- runs

    def _main(self) -> dict[str, Part | str]:
        """The speakers, random graphs and the workloads, in one session if possible: with Ray each starts a cluster."""
        if "main" not in self._runs:
            self._runs["main"] = self._run_main()
        return self._runs["main"]

    def _run_main(self) -> dict[str, Part | str]:
        with tempfile.TemporaryDirectory() as folder:
            reason = self.refusal(speakers(["shapes"], SEED, Path(folder)))
        if reason is not None:
            native = self._run_native()
            others = self._run(lambda diary: {"alone": alone(SEED, diary)})
            return native | others | dict.fromkeys((*GROUPS, RANDOM, RESUMED), reason)
        found = self._run(
            lambda diary: {
                "speakers": speakers(GROUPS, SEED, diary),
                **{cell.name: stated(cell, SEED) for cell in CELLS},
                **random_graphs(SEED),
                RESUMED: resumed(SEED),
            }
        )
        whole = found["speakers"]
        if isinstance(whole, str) or whole.ran.error is not None:
            del found["speakers"]
            found |= self._run(lambda diary: {group: speakers([group], SEED, diary) for group in GROUPS}, apart=True)
        return found

    def _run_native(self) -> dict[str, Part | str]:
        """Workloads, each alone; of a bound, which has no digest, one, and the last only if no other is run."""
        found: dict[str, Part | str] = {}
        for cell in NATIVE_CELLS:
            enough = any(isinstance(part, Part) for part in found.values())
            if enough and (self.runtime.is_bound or cell is NATIVE_CELLS[-1]):
                found[cell.name] = "it runs others, which are enough"
            else:
                graphs: Graphs = {cell.name: cell_graph(cell, SEED)}
                found |= self._run(partial(_as_it_is, graphs))
        return found

    def _run(self, build: Callable[[Path], Graphs], *, apart: bool = False) -> dict[str, Part | str]:
        """Run what `build` gives for a folder that speakers write to; of what is refused, the reason."""
        with tempfile.TemporaryDirectory() as folder:
            diary = Path(folder)
            graphs = {name: self._refused_or(graph) for name, graph in build(diary).items()}
            accepted = {name: graph for name, graph in graphs.items() if not isinstance(graph, str)}
            found: dict[str, Part | str] = {name: graph for name, graph in graphs.items() if isinstance(graph, str)}
            if len(accepted) > 1 and not apart:
                whole = union(accepted)
                ran = None if self.refusal(whole) else _run_of(self, whole, diary)
                if ran is not None and ran.error is None:
                    return found | {name: Part(part, ran) for name, part in parts_of(whole, accepted).items()}
            return found | {name: Part(graph, _run_of(self, graph, diary)) for name, graph in accepted.items()}

    def _refused_or(self, graph: Graph | str) -> Graph | str:
        return graph if isinstance(graph, str) else self.refusal(graph) or graph

    def _taken(self, part: Part | str) -> Part:
        """`part`, if there is one.

        Raises:
            Exception: what its run raised.
        """
        if isinstance(part, str):
            pytest.skip(f"{self.runtime.name}: {part}")
        if part.ran.error is not None:
            raise part.ran.error
        return part


def _as_it_is(graphs: Graphs, _diary: Path) -> Graphs:
    return graphs


def sequential_part(part: Part) -> Part:
    """The same on the plain loop, one round at a time; what was received at the ends of the same steps."""
    if not part.references:
        part.references.append(_sequential_part(part))
    return part.references[0]


def _sequential_part(part: Part) -> Part:
    runtime = registry.runtimes().get("sequential")
    reference = Subject(runtime, runtime.options(), label=runtime.name)
    ran = _run_of(reference, part.graph, steps=(1,) * ROUNDS)
    if ran.error is not None:
        raise ran.error
    ends = [sum(_STEPS[: count + 1]) - 1 for count in range(len(_STEPS))]
    ran.received = [ran.received[end] for end in ends]
    return Part(part.graph, ran)


def uninterrupted_tallies(part: Part) -> list[list[Mapping[str, Any]]]:
    """Those of the graph that `part` went on with, where the plain loop has run it from its beginning."""
    runtime = registry.runtimes().get("sequential")
    reference = Subject(runtime, runtime.options(), label=runtime.name)
    graph = whole(part.graph.seed)
    ran = _run_of(reference, graph, steps=(ROUNDS_BEFORE + ROUNDS,))
    if ran.error is not None:
        raise ran.error
    return Part(graph, ran).tallies()


def _run_of(subject: Subject, graph: Graph, diary: Path | None = None, steps: Sequence[int] = _STEPS) -> Ran:
    """Open a session, advance it in `steps`, close it twice, and look what is left."""
    ran = Ran(graph)
    began_s = time.monotonic()
    with (
        watched(subject.grace_s) as left,
        tempfile.TemporaryDirectory(prefix="s", ignore_cleanup_errors=True) as scratch,
    ):
        try:
            with _bounded(_LIMIT_S):
                for step in _stages(subject, graph, Path(scratch), ran, steps):
                    began_s, ran.raised_by = time.monotonic(), step
        except Exception as error:  # noqa: BLE001 - whatever it raises is what tests look at
            # Without its traceback, which would keep the session alive.
            ran.error, ran.after_s = error.with_traceback(None), time.monotonic() - began_s
    ran.left = left.found
    if ran.left:
        subject.grace_s = 0.0
    if diary is not None:
        ran.closed = {
            path.name: [int(line) for line in path.read_text(encoding="ascii").split()] for path in diary.iterdir()
        }
        for path in diary.iterdir():
            path.unlink()
    return ran


def _stages(subject: Subject, graph: Graph, scratch: Path, ran: Ran, steps: Sequence[int]) -> Iterator[str]:
    """Do it; gives the name of what comes next."""
    yield "open"
    session = subject.runtime.open(graph, subject.options, scratch)
    done = 0
    try:
        for rounds in steps:
            yield "advance"
            began_ns = time.monotonic_ns()
            ran.durations.append(session.advance(rounds))
            ran.walls_ns.append(time.monotonic_ns() - began_ns)
            yield "received"
            ran.received.append(_plain_received(graph, session))
            done += rounds
            if done == _ASKED_AFTER and type(session).state is not Session.state:
                yield "state"
                ran.state = _state_or_error(session)
        yield "tallies"
        ran.tallies = session.tallies()
    except BaseException:
        _close_quietly(session)
        raise
    yield "close"
    session.close()
    try:
        session.close()
    except Exception as error:  # noqa: BLE001 - for a test of its own
        ran.closed_again = error


def _state_or_error(session: Session) -> State | Exception:
    """Where it stands, or why it does not say so: rounds go on all the same."""
    try:
        return session.state()
    except Exception as error:  # noqa: BLE001 - for tests of their own
        return error.with_traceback(None)


def _close_quietly(session: Session) -> None:
    """Close what has failed: only the first error counts."""
    with contextlib.suppress(Exception):
        session.close()


def _plain_received(graph: Graph, session: Session) -> dict[str, dict[str, Any]]:
    """What observed tasks received, a gather member by member however it is stored."""
    found: dict[str, dict[str, Any]] = {}
    for path, values in session.received().items():
        gathers = {edge.target.name for edge in graph.edges_into(path) if edge.shape is EdgeShape.GATHER}
        found[path] = {
            port: [plain(item) for item in value] if port in gathers else plain(value)
            for port, value in sorted(values.items())
        }
    return found


@contextlib.contextmanager
def _bounded(limit_s: float) -> Iterator[None]:
    """Raise `TooLong` in the main thread if the block takes longer; another's alarm goes on afterwards."""

    def give_up(*_: object) -> None:
        raise TooLong(f"it has not returned within {limit_s:g} s")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGALRM, give_up)
    began_s = time.monotonic()
    left_s, interval_s = signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        spent_s = time.monotonic() - began_s
        signal.setitimer(signal.ITIMER_REAL, max(left_s - spent_s, 0.001) if left_s else 0.0, interval_s)
        signal.signal(signal.SIGALRM, handler)


def _with_workers(options: msgspec.Struct, workers: int) -> msgspec.Struct:
    return msgspec.structs.replace(options, workers=workers)


def _sorted(value: Any) -> Any:
    """`value` with mappings in the order of their keys."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list | tuple) else value


def _digest(text: str) -> str:
    digest = Digest()
    digest.add(text)
    return digest.hexdigest()
