"""Ray as the paper's programs use it: every value by value into each call, and back to the driver.

For reproducing the paper's figures, and for telling what each of its habits costs. Whoever wants to know
what Ray can do measures `ray-packed` and `ray-compiled`.
"""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import msgspec

from runtimes.layout import HOME, Exports
from runtimes.protocol import Runtime
from runtimes.ray_actors import actor_per_member
from runtimes.ray_calls import Calls, put_once, value_for
from runtimes.ray_cluster import RayCluster, demands_of, object_store_bytes
from runtimes.ray_session import RaySession
from workloads.dataflow import EdgeShape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from runtimes.layout import Feed, Layout
    from runtimes.protocol import Demands
    from runtimes.ray_session import Driver
    from workloads.dataflow import Edge, Graph, Session, TaskNode

__all__ = ["RUNTIME", "ByValueCalls", "RayByValueOptions"]


class RayByValueOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the published programs' habits are kept."""

    put: Annotated[
        bool,
        msgspec.Meta(
            description="put a value above 100 KiB once, and give its reference to all actors; without, Ray puts it "
            "anew for every call"
        ),
    ] = False
    contiguous: Annotated[
        bool,
        msgspec.Meta(
            description="an array travels as one; without, as a list of its rows, each an object of its own "
            "(the published learners send transitions and joint observations so)"
        ),
    ] = True
    print: Annotated[
        bool,
        msgspec.Meta(
            description="print what the driver received, member by member, within every measured round, to the null "
            "device (the published simulations print to the terminal)"
        ),
    ] = False


class ByValueCalls(Calls):
    """Calls whose arguments are values, also those that come from another actor: the driver gets and sends them."""

    def __init__(self, layout: Layout, *, put: bool, printed: bool) -> None:
        """Plan rounds for `layout`; `put` large values once, and print what the driver received if `printed`."""
        super().__init__(layout)
        self._put = put
        # What printing costs is to make the text; nothing is stored.
        self._null = Path(os.devnull).open("w", encoding="utf-8") if printed else None  # noqa: SIM115 - closed in `close`

    def exports(self, step: Sequence[TaskNode], place: int) -> Exports:
        """What an actor gives in a step: everything that others read, to the driver."""
        given = self.layout.exports(step, place)
        return Exports((*given.bundled, *given.passed), (), ())

    def calls_wait(self, step: Sequence[TaskNode]) -> bool:
        """Whether an actor of this step reads what another gave in this round."""
        return any(
            feed.edge.delay == 0 and self.layout.pieces[feed.edge.source.task][feed.source].place != HOME
            for place in self.layout.actors()
            for feed in self.layout.feeds(step, place)
        )

    def attach(self, driver: Driver) -> None:
        """Make the calls of every step."""
        super().attach(driver)
        if self._null is not None:
            self._late.append(partial(self._print, self._null))

    def close(self) -> None:
        """Close what was printed to."""
        if self._null is not None:
            self._null.close()

    def argument(self, feed: Feed) -> Callable[[int], Any]:
        """What gives the argument for `feed` in a round."""
        source, delay = feed.edge.source, feed.edge.delay
        value = self._value(feed)
        if not self._put or feed.edge.shape is EdgeShape.SCATTER:
            return value
        return lambda number: put_once(self._puts[number], (source, feed.source, number - delay), value(number))

    def _value(self, feed: Feed) -> Callable[[int], Any]:
        source, delay = feed.edge.source, feed.edge.delay
        if self.layout.pieces[source.task][feed.source].place == HOME:
            value = value_for(self._driver, feed)
            return lambda number: self.layout.sent(source, value(number))
        ring = self._driver.ring(source, feed.source)
        return lambda number: ring.at(number - delay)

    def _print(self, file: IO[str], _number: int) -> None:
        """Print what the observed tasks received in this round."""
        graph = self.layout.graph
        for node in graph.tasks:
            if node.observed:
                _print_received(graph.edges_into(node.path), self._driver.home.inputs(node.path), file)


def _print_received(edges: Iterable[Edge], inputs: Mapping[str, Any], file: IO[str]) -> None:
    """Print `inputs`, what came of a bank in a line for each of its members."""
    ports: dict[str, list[str]] = {}
    for edge in edges:
        if edge.shape is EdgeShape.GATHER:
            ports.setdefault(edge.source.task, []).append(edge.target.name)
        else:
            print(f"{edge.target.name}={inputs[edge.target.name]}", file=file)
    for bank, gathered in ports.items():
        for index, values in enumerate(zip(*(inputs[port] for port in gathered), strict=True)):
            line = ", ".join(f"{port}={value}" for port, value in zip(gathered, values, strict=True))
            print(f"{bank} {index}: {line}", file=file)


def _open(graph: Graph, options: RayByValueOptions, scratch: Path) -> Session:
    """Start Ray, and an actor for every member."""
    layout = dataclasses.replace(actor_per_member(graph), rows=not options.contiguous)
    calls = ByValueCalls(layout, put=options.put, printed=options.print)
    # What is sent by value lies in the object store once for every actor that it is sent to.
    store_bytes = object_store_bytes(graph) + _sent_bytes(layout)
    return RaySession(RayCluster(scratch, store_bytes), calls)


def _sent_bytes(layout: Layout) -> int:
    """Bytes of all values that the driver sends in a round, with a quarter more, as for the object store."""
    feeds = [feed for place in layout.actors() for feed in layout.feeds(layout.graph.tasks, place)]
    specs = [layout.graph.node(feed.edge.source.task).output(feed.edge.source.name).array for feed in feeds]
    return sum(spec.nbytes for spec in specs if spec is not None) * 5 // 4


def _demands(graph: Graph, _options: RayByValueOptions) -> Demands:
    """What it takes: as any other Ray, and what is sent by value besides."""
    layout = actor_per_member(graph)
    return demands_of(layout, _sent_bytes(layout))


def _notice(options: RayByValueOptions) -> str:
    """Say what this is for."""
    habits = ["every value by value" if not options.put else "values above 100 KiB put once"]
    habits += [] if options.contiguous else ["arrays row by row"]
    habits += ["observations printed"] if options.print else []
    return (
        f"the paper's own use of Ray ({', '.join(habits)}): it reproduces figures and says nothing of what Ray can do"
    )


RUNTIME = Runtime(
    name="ray-by-value",
    summary=(
        "Ray as the paper's programs use it, for reproducing its figures only: one actor per member of a bank, and "
        "every value by value into each call."
    ),
    options=RayByValueOptions,
    open=_open,
    notice=_notice,
    demands=_demands,
    requires=("ray",),
)
