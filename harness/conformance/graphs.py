"""The graphs of the suite: speakers with edges of every shape, delay and kind; what fails; real workloads; unions."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness import registry
from harness.conformance.random_graphs import Plan, graph_of, random_plan
from harness.conformance.tasks import Failing, Kind, Port, Speaker, Stated, array_of, plain, said
from workloads.dataflow import EdgeShape, Graph, GraphBuilder, Input, Output, PortRef, TaskNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workloads.dataflow import Edge

__all__ = [
    "CELLS",
    "GROUPS",
    "NATIVE_CELLS",
    "RANDOM",
    "ROUNDS_BEFORE",
    "Cell",
    "Link",
    "alone",
    "cell_graph",
    "expected",
    "failing_graph",
    "parts_of",
    "random_graphs",
    "resumed",
    "speakers",
    "stated",
    "union",
    "whole",
]

_BANKS = {"left": 2, "right": 2}
_SLEEP_S = 0.001
RANDOM = "random"
"""What names of random graphs begin with."""
_RANDOM_GRAPHS = 1
"""The one that goes on from a state is another, and larger."""

ONE, BROADCAST, SCATTER, GATHER = (
    EdgeShape.ONE_TO_ONE,
    EdgeShape.BROADCAST,
    EdgeShape.SCATTER,
    EdgeShape.GATHER,
)


@dataclass(frozen=True, slots=True)
class Link:
    """An edge between two of the nodes `source`, `left`, `right` and `sink`; each has ports of its own."""

    source: str
    target: str
    shape: EdgeShape
    kind: Kind
    delay: int = 0
    retain: int = 0


def _everywhere(kind: Kind, delay: int = 0) -> tuple[Link, ...]:
    """Edges of every shape that carry `kind`."""
    return (
        Link("source", "left", BROADCAST, kind, delay),
        Link("source", "left", SCATTER, kind, delay),
        Link("left", "right", ONE, kind, delay),
        Link("right", "sink", GATHER, kind, delay),
    )


GROUPS: Mapping[str, tuple[Link, ...]] = {
    "shapes": (*_everywhere(Kind.TEXT), *_everywhere(Kind.ARRAY), Link("source", "sink", ONE, Kind.TEXT)),
    "delays": (
        *_everywhere(Kind.TEXT, 1),
        *_everywhere(Kind.ARRAY, 2),
        *_everywhere(Kind.SOMETIMES, 3),
        Link("source", "sink", ONE, Kind.HANDED, 1),
    ),
    # What is said does not depend on what is heard, but who hears must wait: these run backwards.
    "cycles": (
        Link("source", "left", BROADCAST, Kind.TEXT),
        Link("left", "left", ONE, Kind.ARRAY, 1),
        Link("right", "left", ONE, Kind.TEXT, 1),
        Link("left", "right", ONE, Kind.HANDED),
        Link("right", "sink", GATHER, Kind.TEXT),
        Link("sink", "left", BROADCAST, Kind.ARRAY, 1),
        Link("sink", "right", SCATTER, Kind.TEXT, 2),
        Link("sink", "sink", ONE, Kind.OBJECT, 2),
    ),
    "retained": (
        Link("source", "left", BROADCAST, Kind.ARRAY, retain=2),
        Link("left", "right", ONE, Kind.HANDED, retain=1),
        Link("right", "sink", GATHER, Kind.ARRAY, retain=2),
        Link("right", "sink", GATHER, Kind.OPTIONAL, 1, retain=1),
    ),
    "absent": (*_everywhere(Kind.SOMETIMES), *_everywhere(Kind.OPTIONAL), *_everywhere(Kind.OPTIONAL, 1)),
    "arrays": (
        *_everywhere(Kind.HANDED),
        *_everywhere(Kind.SCALAR),
        *_everywhere(Kind.FLAGS),
        Link("source", "left", BROADCAST, Kind.LARGE),
        Link("right", "sink", GATHER, Kind.LARGE),
    ),
    "anything picklable": _everywhere(Kind.OBJECT),
}
"""Edges by what they are there to show."""


def speakers(groups: Iterable[str], seed: int, diary: Path) -> Graph:
    """Speakers joined by the edges of `groups`; the two sides and a loner take their time."""
    links = [link for group in groups for link in GROUPS[group]]
    builder = GraphBuilder(workload="speakers", parameters={}, seed=seed, unit="firing", units_per_round=1)
    nodes: dict[str, TaskNode] = {}
    for path in ("source", "left", "right", "sink", "loner"):
        hears = {
            f"i{at}": Port(link.kind, gathers=link.shape is GATHER, retain=link.retain)
            for at, link in enumerate(links)
            if link.target == path
        }
        says = {
            f"o{at}": Port(link.kind, items=_BANKS[link.target] if link.shape is SCATTER else 0)
            for at, link in enumerate(links)
            if link.source == path
        }
        factory = partial(Speaker, hears=hears, says=says, diary=str(diary), sleep_s=_SLEEP_S)
        inputs = [Input(name, port.retain) for name, port in hears.items()]
        outputs = [
            Output(name, array_of(port.kind, port.items), optional=port.kind is Kind.OPTIONAL)
            for name, port in says.items()
        ]
        if path in _BANKS:
            nodes[path] = builder.bank(path, _BANKS[path], factory, inputs=inputs, outputs=outputs)
        else:
            nodes[path] = builder.task(path, factory, inputs=inputs, outputs=outputs, observed=path == "sink")
    join = {ONE: builder.connect, BROADCAST: builder.broadcast, SCATTER: builder.scatter, GATHER: builder.gather}
    for at, link in enumerate(links):
        join[link.shape](nodes[link.source][f"o{at}"], nodes[link.target][f"i{at}"], delay=link.delay)
    return builder.build()


def alone(seed: int, diary: Path) -> Graph:
    """A bank whose members hear and say nothing: what remains for runtimes that run no others."""
    builder = GraphBuilder(workload="speakers", parameters={}, seed=seed, unit="firing", units_per_round=1)
    builder.bank("part", 3, partial(Speaker, hears={}, says={}, diary=str(diary), sleep_s=_SLEEP_S))
    return builder.build()


def expected(graph: Graph, edge: Edge, index: int, rounds: int) -> list[Any]:
    """What member `index` of the target of `edge`, in a graph of speakers, hears in so many rounds."""
    source, port = graph.node(edge.source.task), edge.source.name
    says: Port = source.factory.keywords["says"][port]  # type: ignore[attr-defined] # a partial of Speaker
    heard = []
    for number in range(rounds):
        values = [
            plain(said(says.kind, f"{source.path}[{i}]", max(number - edge.delay, -1), says.items))
            if edge.shape is not SCATTER
            else _part(said(says.kind, f"{source.path}[{i}]", max(number - edge.delay, -1), says.items), index)
            for i in range(source.members)
        ]
        heard.append(values if edge.shape is GATHER else values[index if edge.shape is ONE else 0])
    return heard


def _part(values: Sequence[Any] | None, index: int) -> Any:
    return None if values is None else plain(values[index])


def failing_graph(how: str) -> Graph:
    """A bank with a member that fails in the way of `how`: see `Failing`."""
    builder = GraphBuilder(workload="failing", parameters={}, seed=0, unit="firing", units_per_round=3)
    builder.bank("part", 3, partial(Failing, how=how, caller=os.getpid()))
    return builder.build()


# ------------------------------------------------------------------------------------ going on

ROUNDS_BEFORE = 4
"""How many rounds the plain loop has run before a graph goes on."""
_IN_FLIGHT = Plan(
    widths=(None, 2, None),
    edges=(
        # source, target, delay, declared, retain, scattered
        (0, 1, 2, True, 0, False),
        (0, 1, 1, False, 0, True),
        (0, 1, 3, True, 1, True),
        (1, 0, 1, True, 0, False),
        (1, 0, 3, False, 0, False),
        (1, 1, 2, False, 0, False),
        (1, 1, 1, True, 0, False),
        (1, 2, 2, False, 0, False),
        (2, 0, 2, False, 0, False),
        (2, 1, 1, True, 0, False),
        (0, 2, 0, True, 0, False),
    ),
    optional=frozenset({1, 5, 7, 8}),
    apart=frozenset({2}),
)
"""Delayed edges of every shape, declared, not declared and optional, by one to three rounds."""


def whole(seed: int) -> Graph:
    """A graph with values in flight on edges of every kind, from its beginning."""
    return graph_of(_IN_FLIGHT, seed)


def resumed(seed: int) -> Graph:
    """The same, to go on from where the plain loop stood after some rounds."""
    runtime = registry.runtimes().get("sequential")
    graph = whole(seed)
    with (
        tempfile.TemporaryDirectory() as scratch,
        runtime.open(graph, runtime.options(), Path(scratch)) as session,
    ):
        session.advance(ROUNDS_BEFORE)
        return graph.resumed(session.state())


# ---------------------------------------------------------------------------------- real workloads


@dataclass(frozen=True, slots=True)
class Cell:
    """A workload with parameters, by the name of its part in a union."""

    name: str
    workload: str
    parameters: Mapping[str, Any]
    has_state: bool = True


CELLS = (
    Cell("broadcasts", "broadcast_gather", {"actors": 2, "nbytes": 80_000}),
    Cell("returned", "broadcast_gather", {"actors": 2, "nbytes": 800, "echo": "same"}),
    Cell("simulated", "simulation", {"envs": 2}, has_state=False),
    Cell("driven", "simulation", {"envs": 2, "actions": "driver"}, has_state=False),
    Cell("learnt", "q_table", {"actors": 2, "steps": 20}),
)
"""What any graph engine runs."""
NATIVE_CELLS = (
    *CELLS,
    Cell("inferred", "inference", {}),
    Cell("atari", "simulation", {"envs": 2, "env_id": "ALE/Pong-v5"}),
)
"""What is offered to those that are none, in turn."""


def cell_graph(cell: Cell, seed: int) -> Graph | str:
    """The graph of `cell`, or why it cannot be built here."""
    workload = registry.workloads().get(cell.workload)
    missing = registry.missing_module(workload.requires)
    if missing is not None:
        return f"workload '{cell.workload}' needs the module '{missing}', which is not installed"
    return workload.build(msgspec.convert(dict(cell.parameters), workload.parameters), seed)


def stated(cell: Cell, seed: int) -> Graph | str:
    """The same, with an empty state where the workload has none, so that what runs beside it can tell its own."""
    graph = cell_graph(cell, seed)
    if isinstance(graph, str) or cell.has_state:
        return graph
    return replace(graph, tasks=tuple(replace(n, factory=partial(Stated, factory=n.factory)) for n in graph.tasks))


# ------------------------------------------------------------------------------------------ unions


def union(parts: Mapping[str, Graph]) -> Graph:
    """All `parts` side by side as one graph, so that one session runs them all; paths become `part_path`."""
    first = next(iter(parts.values()))
    return Graph(
        workload="union",
        parameters={},
        seed=first.seed,
        unit="firing",
        units_per_round=1,
        tasks=tuple(replace(node, path=f"{name}_{node.path}") for name, part in parts.items() for node in part.tasks),
        edges=tuple(
            replace(edge, source=_inside(name, edge.source), target=_inside(name, edge.target))
            for name, part in parts.items()
            for edge in part.edges
        ),
        first_round=max(part.first_round for part in parts.values()),
    )


def parts_of(graph: Graph, names: Iterable[str]) -> dict[str, Graph]:
    """The parts of a union again, with the paths that they have there."""
    return {
        name: replace(
            graph,
            tasks=tuple(node for node in graph.tasks if node.path.startswith(f"{name}_")),
            edges=tuple(edge for edge in graph.edges if edge.source.task.startswith(f"{name}_")),
        )
        for name in names
    }


def random_graphs(seed: int) -> dict[str, Graph]:
    """Some random graphs by name."""
    return {f"{RANDOM}{number}": graph_of(random_plan(number), seed) for number in range(_RANDOM_GRAPHS)}


def _inside(part: str, port: PortRef) -> PortRef:
    return PortRef(f"{part}_{port.task}", port.name)
