"""Where a program stands whose tasks live in places: what each place tells, and what the driver adds."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.places import of_member
from workloads.dataflow import PortRef, State, TaskState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runtimes.layout import Layout, Piece
    from workloads.dataflow import GraphError

__all__ = ["state_from"]


def state_from(
    layout: Layout,
    round_number: int,
    by_place: Mapping[int, Mapping[str, Sequence[TaskState | GraphError]]],
    pieces_before: Callable[[PortRef, int], Sequence[Any]],
) -> State:
    """The state of a session before `round_number`, from what every place told (`Place.states`).

    `pieces_before` gives what a piece of a port gave in the rounds of its delay, where the driver alone knows.

    Raises:
        GraphError: if a task has no state; names it.
    """
    members = layout.in_order(by_place)
    for node in layout.graph.tasks:
        for source in [PortRef(node.path, port.name) for port in node.outputs]:
            if not layout.graph.delay_of(source):
                continue
            for number, piece in enumerate(layout.pieces[node.path]):
                _complete(layout, members[node.path], piece, source, partial(pieces_before, source, number))
    return State.of(layout.graph, round_number, members)


def _complete(
    layout: Layout,
    members: list[TaskState | GraphError],
    piece: Piece,
    source: PortRef,
    pieces_before: Callable[[], Sequence[Any]],
) -> None:
    """Add what is in flight from the members of `piece` on `source` to those that do not know it."""
    pieces: Sequence[Any] | None = None
    spec = layout.graph.node(source.task).output(source.name).always
    for at, index in enumerate(piece.members):
        member = members[index]
        if not isinstance(member, TaskState) or source.name in member.in_flight:
            continue
        pieces = pieces_before() if pieces is None else pieces
        values = copy.deepcopy(of_member(pieces, at, is_block=layout.is_block(source.task)))
        if layout.rows and spec is not None:
            values = [np.array(value, spec.dtype) for value in values]
        members[index] = replace(member, in_flight={**member.in_flight, source.name: values})
