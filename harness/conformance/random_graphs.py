"""Random dataflow graphs whose every value depends on everything that came before.

A `Plan` describes a graph. Its tasks mix what they receive into a checksum, so a value that is late,
stale, torn, out of order or missing changes all that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.dataflow import (
    ArraySpec,
    EdgeShape,
    GraphBuilder,
    Input,
    Output,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workloads.dataflow import Graph, Inputs, Outputs, TaskContext

__all__ = ["Mixer", "Plan", "graph_of", "random_plan"]


@dataclass(frozen=True)
class Plan:
    """Nodes with their widths, and edges (source, target, delay, declared array, retain, scattered)."""

    widths: tuple[int | None, ...]
    edges: tuple[tuple[int, int, int, bool, int, bool], ...]
    optional: frozenset[int] = frozenset()
    """Edges whose source carries an array in some rounds, where it does not in all."""
    apart: frozenset[int] = frozenset()
    """Single tasks with a place of their own; all others are observed."""


def random_plan(number: int) -> Plan:
    """Plan `number`: two to four nodes with banks of two; undelayed edges run forwards, delayed ones anywhere."""
    random = Random(f"conformance {number}")  # noqa: S311 - the same plans everywhere
    count = random.randint(2, 4)
    edges = []
    for _ in range(random.randint(3, 8)):
        source, target = random.randrange(count), random.randrange(count)
        delay = random.randint(0, 3) if source < target else random.randint(1, 3)
        edges.append((source, target, delay, random.random() < 0.5, random.randint(0, 1), random.random() < 0.5))
    return Plan(
        widths=tuple(random.choice([None, 2]) for _ in range(count)),
        edges=tuple(edges),
        optional=frozenset(number for number in range(len(edges)) if random.random() < 0.5),
        apart=frozenset(number for number in range(count) if random.random() < 0.3),
    )


def _shape_of(source: int | None, target: int | None, *, scattered: bool) -> EdgeShape:
    if (source is None) == (target is None):
        return EdgeShape.ONE_TO_ONE
    if target is None:
        return EdgeShape.GATHER
    return EdgeShape.SCATTER if scattered else EdgeShape.BROADCAST


def graph_of(plan: Plan, seed: int) -> Graph:
    """The graph that `plan` describes; every single task is observed, or lives apart."""
    builder = GraphBuilder(workload="random", parameters={}, seed=seed, unit="mix", units_per_round=1)
    shapes = [_shape_of(plan.widths[s], plan.widths[t], scattered=scattered) for s, t, _, _, _, scattered in plan.edges]
    nodes = []
    for number, width in enumerate(plan.widths):
        outputs: list[Output] = []
        kinds: dict[str, tuple[bool, int, bool]] = {}
        for at, (source, target, _, declared, _, _) in enumerate(plan.edges):
            if source == number:
                items = (plan.widths[target] or 0,) if shapes[at] is EdgeShape.SCATTER else ()
                spec = ArraySpec((*items, 3), "float64") if declared or at in plan.optional else None
                optional = at in plan.optional and not declared
                outputs.append(Output(f"o{at}", spec, optional=optional))
                kinds[f"o{at}"] = (declared, items[0] if items else 0, optional)
        inputs = [Input(f"i{at}", edge[4]) for at, edge in enumerate(plan.edges) if edge[1] == number]
        factory = partial(Mixer, kinds=kinds, retain={port.name: port.retain for port in inputs})
        if width is None:
            apart = number in plan.apart
            nodes.append(
                builder.task(f"n{number}", factory, inputs=inputs, outputs=outputs, observed=not apart, own_place=apart)
            )
        else:
            nodes.append(builder.bank(f"n{number}", width, factory, inputs=inputs, outputs=outputs))
    join = {
        EdgeShape.ONE_TO_ONE: builder.connect,
        EdgeShape.BROADCAST: builder.broadcast,
        EdgeShape.SCATTER: builder.scatter,
        EdgeShape.GATHER: builder.gather,
    }
    for at, (source, target, delay, _, _, _) in enumerate(plan.edges):
        join[shapes[at]](nodes[source][f"o{at}"], nodes[target][f"i{at}"], delay=delay)
    return builder.build()


def _total(value: Any) -> float:
    """A number that depends on every part of `value` and on their order."""
    if value is None:
        return 0.25
    if isinstance(value, np.ndarray) and value.ndim <= 1:
        return float(np.dot(np.atleast_1d(value), np.arange(1, value.size + 1)))
    if isinstance(value, float | int):
        return float(value)
    return float(sum((place + 1) * _total(item) for place, item in enumerate(value)))


def _parts(value: Any) -> Any:
    """`value`, the same however a runtime stores what it gathers."""
    if isinstance(value, str | float | int | None) or (isinstance(value, np.ndarray) and value.ndim <= 1):
        return value
    return [_parts(item) for item in value]


class Mixer(Task):
    """Mixes what it receives into a checksum, and gives what depends on it."""

    def __init__(self, context: TaskContext, kinds: dict[str, tuple[bool, int, bool]], retain: dict[str, int]) -> None:
        """Of every output: whether it declares an array, to how many it is scattered, whether it is optional."""
        self.kinds = kinds
        self.retain = retain
        self.rng = context.rng("mix")
        self.checksum = float(context.index)
        self.rounds = 0
        self.own: NDArray[np.float64] = np.zeros(3)
        self.kept: dict[str, list[tuple[Any, float]]] = {port: [] for port in retain}
        self.broken = 0

    def initial(self, port: str) -> Any:
        """What depends on its index alone."""
        declared, items, optional = self.kinds[port]
        if declared or (optional and self.checksum != 1):
            return np.full((items, 3) if items else (3,), self.checksum + 1)
        if optional:
            return None
        return [self.checksum] * items if items else None

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Mix, and give what depends on the checksum."""
        self.rounds += 1
        for port in sorted(inputs):
            self._check_kept(port)
            value = inputs[port]
            self.checksum = (self.checksum * 1.0625 + _total(value) + 0.125) % 1024.0
            self.kept[port].append((value, _total(value)))
        for port in sorted(self.kinds):
            self._give(port, outputs)

    def state(self) -> dict[str, Any]:
        """Everything."""
        return {
            "checksum": self.checksum,
            "rounds": self.rounds,
            "own": self.own,
            "kept": {port: [(_parts(value), total) for value, total in kept] for port, kept in self.kept.items()},
            "broken": self.broken,
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """All of it."""
        self.checksum, self.rounds, self.broken = state["checksum"], state["rounds"], state["broken"]
        self.own = state["own"].copy()
        self.kept = {port: list(kept) for port, kept in state["kept"].items()}
        self.rng.bit_generator.state = state["rng"]

    def _check_kept(self, port: str) -> None:
        """What was received up to `retain` rounds ago must be as it was."""
        self.kept[port] = self.kept[port][-self.retain[port] :] if self.retain[port] else []
        self.broken += sum(_total(value) != total for value, total in self.kept[port])

    def _give(self, port: str, outputs: Outputs) -> None:
        declared, items, optional = self.kinds[port]
        draw = float(self.rng.integers(0, 8))
        # What it does is drawn anew in every round: the numbers below are chances of eight.
        if declared and (items or draw < 4):
            outputs[port][...] = self.checksum + np.arange(3)
        elif declared:
            # An array that the task holds and goes on changing.
            self.own[:] = self.checksum + draw
            outputs[port] = self.own
        elif optional and draw < 3:
            outputs[port][...] = self.checksum + np.arange(3)
        elif optional and draw < 6:
            outputs[port] = np.full((items, 3) if items else (3,), draw)
        elif optional:
            pass
        elif items:
            outputs[port] = [self.checksum + item for item in range(items)]
        elif draw < 5:
            outputs[port] = {"a": self.checksum}["a"] if draw < 3 else [self.checksum, np.full(2, draw)]

    def tallies(self) -> dict[str, Any]:
        """The checksum, and how often a retained value was not as it had been."""
        return {"checksum": self.checksum, "rounds": self.rounds, "broken": self.broken}
