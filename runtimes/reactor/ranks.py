"""The order of reactions within a tag: levels, inferred deadlines, ranks, and causality loops.

A reaction's level is the longest path to it over {the reaction before it in its reactor; whoever may
write what triggers it or is read by it}. Its inferred deadline is the earliest among its own and those
of all that come after it. Ranks follow (inferred deadline, level, declaration): who comes before
another in a tag has the lower rank.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from runtimes.reactor.errors import CausalityError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runtimes.reactor.assembly import Feed, Lane, ModeRow, ReactionRow
    from runtimes.reactor.elements import Input

__all__ = ["ranked"]

_NEVER: Final = 1 << 62


def ranked(
    rows: Sequence[ReactionRow],
    feeds: Mapping[Input[Any], Sequence[Feed | None]],
    lanes: Sequence[Lane],
    modes: Sequence[ModeRow],
) -> tuple[tuple[ReactionRow, ...], tuple[tuple[int, ...], ...]]:
    """The reactions in the program's order, and for each the ranks that come directly before it.

    Raises:
        CausalityError: if reactions wait for one another within a tag.
    """
    before = _predecessors(rows, feeds, lanes, modes)
    levels = _levels(rows, before)
    deadlines = _inferred_deadlines(rows, before, levels)
    order = sorted(range(len(rows)), key=lambda i: (deadlines[i], levels[i], i))
    rank = {index: position for position, index in enumerate(order)}
    return (
        tuple(
            replace(rows[i], level=levels[i], deadline_ns=None if deadlines[i] == _NEVER else deadlines[i])
            for i in order
        ),
        tuple(tuple(sorted(rank[b] for b in before[i])) for i in order),
    )


def _predecessors(
    rows: Sequence[ReactionRow],
    feeds: Mapping[Input[Any], Sequence[Feed | None]],
    lanes: Sequence[Lane],
    modes: Sequence[ModeRow],
) -> list[set[int]]:
    """For each row the rows that come directly before it in a tag."""
    writers: dict[Any, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        for output in row.writes:
            writers[output].append(index)
    chains = [_chain(row.mode, modes) for row in rows]
    before: list[set[int]] = [set() for _ in rows]
    for index, (earlier, later) in enumerate(pairwise(rows), start=1):
        if earlier.reactor == later.reactor:
            before[index].add(index - 1)
    for index, row in enumerate(rows):
        lanes_read = {f.lane for port in row.reads for f in feeds[port] if f is not None and f.delay_tags == 0}
        sources = {writer for lane in lanes_read for writer in writers[lanes[lane].port]}
        before[index] |= {writer for writer in sources if not _exclusive(chains[writer], chains[index])}
    return before


def _chain(mode: int | None, modes: Sequence[ModeRow]) -> dict[str, int]:
    """The modes that must be active for something in `mode`, by path of their reactors."""
    chain: dict[str, int] = {}
    while mode is not None:
        chain[modes[mode].reactor] = mode
        mode = modes[mode].parent
    return chain


def _exclusive(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    """Whether the two are in different modes of one reactor."""
    return any(other.get(reactor, mode) != mode for reactor, mode in one.items())


def _levels(rows: Sequence[ReactionRow], before: Sequence[set[int]]) -> list[int]:
    """The longest path to each reaction; raises if reactions wait for one another."""
    after: list[list[int]] = [[] for _ in rows]
    missing = [len(earlier) for earlier in before]
    for index, earlier in enumerate(before):
        for other in earlier:
            after[other].append(index)
    levels = [0] * len(rows)
    ready = [index for index, count in enumerate(missing) if count == 0]
    done = 0
    while ready:
        index = ready.pop()
        done += 1
        for later in after[index]:
            levels[later] = max(levels[later], levels[index] + 1)
            missing[later] -= 1
            if missing[later] == 0:
                ready.append(later)
    if done < len(rows):
        waiting = {index for index, count in enumerate(missing) if count}
        raise CausalityError(
            "These reactions wait for one another within a tag: "
            f"{' -> '.join(_cycle(rows, before, waiting))}. Delay one of the connections (after_ns=...)."
        )
    return levels


def _inferred_deadlines(rows: Sequence[ReactionRow], before: Sequence[set[int]], levels: Sequence[int]) -> list[int]:
    """The earliest deadline of each reaction and of all that come after it."""
    deadlines = [_NEVER if row.declared.deadline_ns is None else row.declared.deadline_ns for row in rows]
    for index in sorted(range(len(rows)), key=lambda i: -levels[i]):
        for earlier in before[index]:
            deadlines[earlier] = min(deadlines[earlier], deadlines[index])
    return deadlines


def _cycle(rows: Sequence[ReactionRow], before: Sequence[set[int]], waiting: set[int]) -> list[str]:
    """One cycle among `waiting`, as names in the direction of the flow."""
    trail = [min(waiting)]
    while True:
        previous = min(before[trail[-1]] & waiting)
        if previous in trail:
            loop = [previous, *reversed(trail[trail.index(previous) :])]
            return [rows[i].path for i in loop]
        trail.append(previous)
