"""Where a program stands between two rounds: what a later session needs to go on from there, bit for bit.

A `State` holds, of every task, what the task says of itself and what was on its way on its delayed outputs. A session
gives one (`Session.state`); a graph with one (`Graph.resumed`) is opened by any runtime, not only by that which gave
it. It can be kept as a file: `State.save` and `State.load`.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.dataflow.values import Gathered, GraphError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from workloads.dataflow.graph import Graph
    from workloads.dataflow.tasks import Task

__all__ = ["State", "TaskState", "state_of"]

_DIFFERENCES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """Where one task stands."""

    kept: Mapping[str, Any]
    """What its `state()` gave; a copy, in which arrays are read-only."""
    in_flight: Mapping[str, Sequence[Any]]
    """Of each delayed output what it gave in the last rounds, one value for each round of its longest delay.

    The oldest comes first; None stands for an output that was absent.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a program stands between two rounds; see the module."""

    workload: str
    parameters: Mapping[str, Any]
    seed: int
    round: int
    """How many rounds have been run, those before an earlier state counted."""
    tasks: Mapping[str, Sequence[TaskState]]
    """Path to the members' states, in index order."""

    @classmethod
    def of(cls, graph: Graph, round_number: int, members: Mapping[str, Sequence[TaskState | GraphError]]) -> State:
        """The state of a session on `graph` after `round_number` rounds, from what `state_of` gave of each member.

        Raises:
            GraphError: if a task could not tell its state; names it.
        """
        tasks: dict[str, list[TaskState]] = {}
        for node in graph.tasks:
            tasks[node.path] = []
            for index, member in enumerate(members[node.path]):
                if isinstance(member, GraphError):
                    name = node.path if node.width is None else f"{node.path}[{index}]"
                    raise GraphError(f"Task '{name}' has no state to resume from: {member}") from member
                tasks[node.path].append(member)
        return cls(
            workload=graph.workload,
            parameters=_as_kept(graph.parameters, "parameters"),
            seed=graph.seed,
            round=round_number,
            tasks=tasks,
        )

    def check(self, graph: Graph) -> None:
        """Raise unless a session on `graph` can go on from here.

        Raises:
            GraphError: for another workload, parameters, seed, tasks, widths or delays; says which differ.
        """
        given = {"workload": graph.workload, "seed": graph.seed, **_named(graph.parameters, "parameter")}
        kept = {"workload": self.workload, "seed": self.seed, **_named(self.parameters, "parameter")}
        _check_equal(kept, given, "Build the graph with what the state was made with.")
        _check_equal(
            {f"width of '{path}'": len(members) for path, members in self.tasks.items()},
            {f"width of '{node.path}'": node.members for node in graph.tasks},
            "The workload has changed since; resume with the version that made the state.",
        )
        _check_equal(
            _delays_of_state(self),
            _delays_of_graph(graph),
            "The workload has changed since; resume with the version that made the state.",
        )

    def save(self, path: Path) -> None:
        """Write it to `path`, whole or not at all: beside it first, then in its place.

        Raises:
            TypeError: for a value that a file cannot hold (an object of some class on an edge); says where it is.
            OSError: if it cannot be written.
        """
        from workloads.dataflow.state_file import write_state

        write_state(path, self)

    @staticmethod
    def load(path: Path) -> State:
        """What `save` wrote to `path`.

        Raises:
            ValueError: if it is no such file, damaged, or of a version that this one does not read.
            OSError: if it cannot be read.
        """
        from workloads.dataflow.state_file import read_state

        return read_state(path)


def state_of(task: Task, in_flight: Mapping[str, Sequence[Any]]) -> TaskState | GraphError:
    """The state of `task`, given what is on its way from it; or why there is none, for `State.of` to raise.

    It is copied, so that the task and its outputs may go on.
    """
    try:
        return TaskState(
            kept=_as_kept(task.state(), "state"),
            in_flight={port: copy.deepcopy(list(values)) for port, values in in_flight.items()},
        )
    except GraphError as error:
        return GraphError(str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller has to know of which task
        told = GraphError(f"{type(error).__name__}: {error}")
        told.add_note(traceback.format_exc())
        return told


def _as_kept(value: Any, where: str) -> Any:
    """A copy of `value`, whose arrays are read-only.

    Raises:
        GraphError: for something that is neither an array nor a number, text, bytes or None, nor made of these.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind not in "OV":
        array = np.array(value, order="C")
        array.flags.writeable = False
        return array
    if value is None or isinstance(value, np.generic | bool | int | float | str | bytes):
        return value
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _as_kept(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple | Gathered):
        items = [_as_kept(item, f"{where}[{at}]") for at, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    raise GraphError(
        f"{where} is {_kind_of(value)}. A state holds arrays, numbers, texts, bytes and None, and lists, tuples "
        "and mappings (with texts as keys) of these: give what it consists of."
    )


def _kind_of(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of dtype {value.dtype}"
    return "a mapping with other keys than texts" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def _check_equal(kept: Mapping[str, Any], given: Mapping[str, Any], remedy: str) -> None:
    names = [name for name in {**kept, **given} if _shown(kept, name) != _shown(given, name)]
    if names:
        shown = [f"{name} {_shown(kept, name)}, not {_shown(given, name)}" for name in names[:_DIFFERENCES_SHOWN]]
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        raise GraphError(f"The state does not belong to this graph. It is of {'; '.join(shown)}{more}. {remedy}")


def _shown(values: Mapping[str, Any], name: str) -> str:
    return repr(_as_lists(values[name])) if name in values else "(none)"


def _as_lists(value: Any) -> Any:
    """`value` with lists for tuples, since a parameter may have been either."""
    if isinstance(value, Mapping):
        return {key: _as_lists(value[key]) for key in sorted(value, key=str)}
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _named(parameters: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {f"{kind} '{name}'": value for name, value in parameters.items()}


def _delays_of_state(state: State) -> dict[str, int]:
    return {
        f"delay of '{path}.{port}'": len(values)
        for path, members in state.tasks.items()
        for port, values in members[0].in_flight.items()
    }


def _delays_of_graph(graph: Graph) -> dict[str, int]:
    delays = {(edge.source.task, edge.source.name): 0 for edge in graph.edges if edge.delay}
    for edge in graph.edges:
        if edge.delay:
            key = edge.source.task, edge.source.name
            delays[key] = max(delays[key], edge.delay)
    return {f"delay of '{path}.{port}'": delay for (path, port), delay in delays.items()}
