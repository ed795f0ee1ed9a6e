"""What each worker does in a tag: run its reactions in rank order, wait, publish.

Every reaction has one global rank, fixed before anything is partitioned. A worker runs its reactions in
ascending rank and waits before one of them until every worker that may write its inputs has passed the
writer's rank; so no cycle of waits can form. Progress is published also where nothing ran: after the
last reaction of a level that others wait for, and at the end of the tag, when all wait for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtimes.reactor.errors import AssemblyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtimes.reactor.assembly import Assembly, ReactionRow

__all__ = ["Cue", "Placement", "place", "publish_points", "script"]

Placement = Mapping[str, int]
"""Reactor path to worker; worker 0 is the caller."""


@dataclass(frozen=True, slots=True)
class Cue:
    """One thing a worker does in a tag; exactly one of the three is set."""

    rank: int | None = None
    """Run that reaction."""
    wait: tuple[int, int, int] | None = None
    """Wait until that worker has published so many steps of this tag (the last); the first so many are known of."""
    publish: bool = False


def place(assembly: Assembly, workers: int, chosen: Mapping[str, int] | None = None) -> dict[str, int]:
    """Which worker each reactor lives in: banks are spread in runs of members, the rest stays with the caller.

    A reactor inside another lives with it; one with modes keeps all that it contains. The caller's run is
    never the longest: it has the rest to do.

    Raises:
        AssemblyError: if `chosen` names an unknown reactor or worker.
    """
    chosen = chosen or {}
    for path, worker in chosen.items():
        if path not in assembly.reactors or path in assembly.homes or not 0 <= worker < workers:
            raise AssemblyError(
                f"Placement '{path}' on worker {worker} is not possible. There are {workers} workers from 0, and "
                f"the reactors {', '.join(p for p in assembly.reactors if p and p not in assembly.homes)}."
            )
    modal = {row.reactor for row in assembly.modes}
    placement: dict[str, int] = {}
    together: dict[str, str] = {}
    for path in assembly.reactors:
        parent = assembly.homes.get(path, path.rpartition(".")[0])
        inherited = placement.get(parent, 0)
        if parent in together:
            together[path] = together[parent]
        elif path in modal:
            together[path] = path
        if path in chosen:
            placement[path] = chosen[path]
        elif path in assembly.banks and inherited == 0 and parent not in together:
            _, index, width = assembly.banks[path]
            # Members width*w//workers up to width*(w+1)//workers belong to worker w.
            placement[path] = ((index + 1) * workers - 1) // width
        else:
            placement[path] = inherited
        if path in together and placement[path] != placement[together[path]]:
            raise AssemblyError(
                f"Placement '{path}' on worker {placement[path]} is not possible: it is part of '{together[path]}', "
                f"which has modes and lives on worker {placement[together[path]]} with all that it contains."
            )
    return placement


def publish_points(assembly: Assembly, placement: Placement, workers: int) -> list[list[int]]:
    """For each worker the ranks after which it publishes, besides the end of the tag."""
    writers = _writers(assembly)
    points: list[dict[tuple[int | None, int], int]] = [{} for _ in range(workers)]
    last = [-1] * workers
    for rank, row in enumerate(assembly.reactions):
        here = placement[row.reactor]
        last[here] = rank
        for source in _direct_sources(assembly, writers, row):
            there = placement[assembly.reactions[source].reactor]
            if there != here:
                # Those of one level and deadline come before whatever depends on any of them: one point does for all.
                key = (assembly.reactions[source].deadline_ns, assembly.reactions[source].level)
                points[there][key] = max(points[there].get(key, -1), source)
    # What its last reaction has done, the end of the tag says.
    return [sorted(set(by_key.values()) - {last[worker]}) for worker, by_key in enumerate(points)]


def script(assembly: Assembly, placement: Placement, points: Sequence[Sequence[int]], worker: int) -> list[Cue]:
    """Everything `worker` may do in a tag, in order, without the end of the tag."""
    writers = _writers(assembly)
    cues: list[Cue] = []
    seen: dict[int, int] = {}
    for rank, row in enumerate(assembly.reactions):
        if placement[row.reactor] != worker:
            continue
        needed: dict[int, int] = {}
        for source in _direct_sources(assembly, writers, row):
            there = placement[assembly.reactions[source].reactor]
            if there != worker:
                steps = sum(1 for point in points[there] if point < source) + 1
                needed[there] = max(needed.get(there, 0), steps)
        for there, steps in needed.items():
            before = seen.get(there, 0)
            if before < steps:
                seen[there] = steps
                cues.append(Cue(wait=(there, before, steps)))
        cues.append(Cue(rank=rank))
        if rank in points[worker]:
            cues.append(Cue(publish=True))
    return cues


def _writers(assembly: Assembly) -> dict[int, list[int]]:
    """For each lane the ranks of the reactions that may write it."""
    by_port = defaultdict(list)
    for rank, row in enumerate(assembly.reactions):
        for port in row.writes:
            by_port[port].append(rank)
    return {lane.index: by_port[lane.port] for lane in assembly.lanes}


def _direct_sources(assembly: Assembly, writers: Mapping[int, Sequence[int]], row: ReactionRow) -> set[int]:
    """Ranks of the reactions that may write, in the same tag, what `row` reads."""
    return {rank for feed in assembly.feeds_of(row) if feed.delay_tags == 0 for rank in writers[feed.lane]}
