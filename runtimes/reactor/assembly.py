"""From declared reactors to frozen tables: paths, lanes, blocks, delays, levels.

A *lane* is one channel of an output port: one value a tag at most, with one writing reactor. A *block*
is the memory of lanes that lie side by side: a multiport's channels, or the like-named ports of a bank.
All rules of the model that can be checked before running are checked here.

This version runs programs with one clock: all timers share one period, connections are delayed by
whole periods, and tag number n is logical time n * period.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from typing import TYPE_CHECKING, Any, cast

from runtimes.reactor.declaration import (
    Bank,
    Connection,
    Input,
    Output,
    Reaction,
    Reactor,
    Timer,
    shutdown,
    startup,
)
from runtimes.reactor.errors import AssemblyError, CausalityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Assembly", "Feed", "Lane", "LaneBlock", "ReactionRow", "assemble"]

Channel = tuple[Any, int]
"""A port and the number of one of its channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One channel of an output port."""

    index: int
    port: Output[Any]
    channel: int
    block: int | None
    """Its block if the port declares an array, and there the item."""
    item: int
    slots: int
    """How many values are kept: as many as readers may still need, and the one being written."""
    reactor: str
    """Path of the reactor that writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneBlock:
    """Memory of array lanes side by side: shape `(slots, items, *shape)`."""

    index: int
    name: str
    lanes: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    steady: bool
    slots: int


@dataclass(frozen=True, slots=True)
class Feed:
    """Where an input channel gets its values: a lane, so many tags later."""

    lane: int
    delay_tags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionRow:
    """A reaction in the program's order. Its rank is its position in `Assembly.reactions`."""

    reactor: str
    name: str
    level: int
    declared: Reaction
    timers: tuple[tuple[int, bool], ...]
    """Timers that trigger it: the first tag number, and whether it goes on every tag."""
    at_startup: bool
    at_shutdown: bool
    inputs: tuple[Input[Any], ...]
    """Inputs that trigger it."""

    @property
    def reads(self) -> tuple[Input[Any], ...]:
        """Inputs that trigger it, and those that it only reads."""
        return (*self.inputs, *self.declared.sources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A whole program, frozen."""

    reactors: Mapping[str, Reactor]
    banks: Mapping[str, tuple[str, int, int]]
    """Of reactors in a bank: path to (path of the bank, index, width)."""
    reactions: tuple[ReactionRow, ...]
    lanes: tuple[Lane, ...]
    blocks: tuple[LaneBlock, ...]
    feeds: Mapping[Input[Any], tuple[Feed | None, ...]]
    period_ns: int
    """0 if the program has no periodic timer, and so only a first tag."""
    phases: int
    """Slots of those steady ports that have more than one: a value written at tag n is in slot n % phases."""

    def feeds_of(self, row: ReactionRow) -> Iterator[Feed]:
        """Where everything that `row` reads comes from."""
        for port in row.reads:
            yield from (feed for feed in self.feeds[port] if feed is not None)


def assemble(main: Reactor) -> Assembly:
    """Validate the program whose main reactor is `main`, and freeze it.

    Raises:
        AssemblyError: for a broken rule of the model.
    """
    reactors: dict[str, Reactor] = {}
    banks: dict[str, tuple[str, int, int]] = {}
    for path, reactor, place in _walk(main, ""):
        reactor.path = path
        if reactor in reactors.values():
            raise AssemblyError(f"One reactor stands in the program twice, the second time as '{path}'. Make another.")
        reactors[path] = reactor
        if place is not None:
            banks[path] = place
    period_ns = _common_period(reactors.values())
    sources = _resolve_connections(reactors, period_ns)
    feeds_by_channel = {
        port: tuple(sources.get((port, channel)) for channel in range(port.channels))
        for reactor in reactors.values()
        for port in reactor.declared.elements.values()
        if isinstance(port, Input)
    }
    rows = [
        _row(reactor, declared, period_ns) for reactor in reactors.values() for declared in reactor.declared.reactions
    ]
    slots = _slots_needed(feeds_by_channel)
    phases = max(slots.values(), default=1)
    _check_triggers(rows, feeds_by_channel)
    lanes, blocks = _lay_out(reactors, banks, slots, phases)
    number = {(lane.port, lane.channel): lane.index for lane in lanes}
    feeds = {
        port: tuple(None if feed is None else Feed(number[feed[0]], feed[1]) for feed in channels)
        for port, channels in feeds_by_channel.items()
    }
    return Assembly(
        reactors=reactors,
        banks=banks,
        reactions=_ranked(rows, feeds, lanes),
        lanes=lanes,
        blocks=blocks,
        feeds=feeds,
        period_ns=period_ns,
        phases=phases,
    )


def _walk(reactor: Reactor, path: str) -> Iterator[tuple[str, Reactor, tuple[str, int, int] | None]]:
    """All reactors with their paths, containers first, in order of declaration."""
    if not path:
        yield path, reactor, None
    for name, child in reactor.declared.children.items():
        below = f"{path}.{name}" if path else name
        if isinstance(child, Bank):
            for index, member in enumerate(child):
                yield f"{below}[{index}]", member, (below, index, len(child))
                yield from _walk(member, f"{below}[{index}]")
        else:
            yield below, child, None
            yield from _walk(child, below)


def _common_period(reactors: Iterable[Reactor]) -> int:
    """The period that all repeating timers share, 0 if there is none."""
    timers = [e for reactor in reactors for e in reactor.declared.elements.values() if isinstance(e, Timer)]
    periods = sorted({timer.period_ns for timer in timers if timer.period_ns})
    if len(periods) > 1:
        raise AssemblyError(
            f"Timers have the periods {', '.join(map(str, periods))} ns. All timers of a program share one period; "
            "count tags in the slower reactors."
        )
    period = periods[0] if periods else 0
    for timer in timers:
        if timer.offset_ns % period if period else timer.offset_ns:
            raise AssemblyError(
                f"Timer '{timer.name}' has an offset of {timer.offset_ns} ns, which is no multiple of the program's "
                f"period of {period} ns. Give a multiple."
            )
    return period


def _resolve_connections(reactors: Mapping[str, Reactor], period_ns: int) -> dict[Channel, tuple[Channel, int]]:
    """For every input channel that is fed: the output channel it comes from, and the delay in tags."""
    direct: dict[Channel, tuple[Channel, int]] = {}
    for reactor in reactors.values():
        inside = {id(reactor), *(id(r) for r in _contained(reactor))}
        for connection in reactor.declared.connections:
            delay = _delay_tags(connection, period_ns)
            for source, target in _pairs(connection):
                for port, _ in (source, target):
                    if id(port.owner) not in inside:
                        raise AssemblyError(
                            f"Connection '{source[0]}' -> '{target[0]}' is out of scope: '{port}' belongs neither to "
                            f"'{reactor.path or 'the main reactor'}' nor to a reactor directly inside it."
                        )
                if target in direct:
                    raise AssemblyError(
                        f"Port '{target[0]}' has two sources, '{direct[target][0][0]}' and '{source[0]}'. "
                        "A port has one."
                    )
                direct[target] = (source, delay)
    return _roots(direct)


def _roots(direct: Mapping[Channel, tuple[Channel, int]]) -> dict[Channel, tuple[Channel, int]]:
    """For every input channel the output channel that it comes from in the end, and the delays on the way."""
    resolved: dict[Channel, tuple[Channel, int]] = {}
    for target, (source, delay) in direct.items():
        if isinstance(target[0], Input):
            while source in direct:
                source, more = direct[source]  # noqa: PLW2901 - follow the ports that pass it on
                delay += more  # noqa: PLW2901 - as above
            if isinstance(source[0], Output):
                resolved[target] = (source, delay)
    return resolved


def _contained(reactor: Reactor) -> list[Reactor]:
    """The reactors directly inside `reactor`."""
    return [m for child in reactor.declared.children.values() for m in (child if isinstance(child, Bank) else [child])]


def _delay_tags(connection: Connection, period_ns: int) -> int:
    """The delay of `connection` in periods."""
    if connection.after_ns is None:
        return 0
    if period_ns == 0 or connection.after_ns % period_ns:
        raise AssemblyError(
            f"Connection '{connection.sources[0]}' -> '{connection.targets[0]}' has a delay of {connection.after_ns} "
            f"ns, which is no multiple of the program's period of {period_ns} ns. Give a multiple."
        )
    return connection.after_ns // period_ns


def _pairs(connection: Connection) -> Iterator[tuple[Channel, Channel]]:
    """The channels that `connection` joins."""
    left = [(port, c) for port in connection.sources for c in range(port.channels)]
    right = [(port, c) for port in connection.targets for c in range(port.channels)]
    if connection.broadcast:
        left = list(islice(cycle(left), len(right)))
    if len(left) != len(right):
        raise AssemblyError(
            f"Width of '{connection.sources[0]}' is {len(left)} but '{connection.targets[0]}' has {len(right)} "
            "channels. Use broadcast=True to repeat the left side."
        )
    return zip(left, right, strict=True)


def _row(reactor: Reactor, declared: Reaction, period_ns: int) -> ReactionRow:
    """The row of one reaction; its level comes later."""
    for port in (*declared.triggers, *declared.sources, *declared.effects):
        owner = getattr(port, "owner", reactor)
        if owner is not reactor:
            raise AssemblyError(
                f"Reaction '{reactor.path}.{declared.name}' names '{getattr(port, 'name', port)}' of another reactor. "
                "Connect it to a port of its own."
            )
    timers = [t for t in declared.triggers if isinstance(t, Timer)]
    return ReactionRow(
        reactor=reactor.path,
        name=declared.name,
        level=0,
        declared=declared,
        timers=tuple((t.offset_ns // period_ns if period_ns else 0, bool(t.period_ns)) for t in timers),
        at_startup=startup in declared.triggers,
        at_shutdown=shutdown in declared.triggers,
        inputs=tuple(t for t in declared.triggers if isinstance(t, Input)),
    )


def _check_triggers(
    rows: Sequence[ReactionRow], feeds: Mapping[Input[Any], Sequence[tuple[Channel, int] | None]]
) -> None:
    """Raise if a reaction is to be triggered by a port whose presence nobody keeps."""
    for row in rows:
        for port in row.inputs:
            for feed in feeds[port]:
                if feed is not None and feed[0][0].steady:
                    raise AssemblyError(
                        f"Reaction '{row.reactor}.{row.name}' is triggered by '{port}', which is fed by the steady "
                        f"output '{feed[0][0]}': no presence is kept for it. Trigger by a timer and read it."
                    )


def _slots_needed(feeds: Mapping[Input[Any], Sequence[tuple[Channel, int] | None]]) -> dict[Channel, int]:
    """How many values of each output channel are in use at once."""
    needed: dict[Channel, int] = {}
    for port, channels in feeds.items():
        for feed in channels:
            if feed is not None:
                source, delay = feed
                needed[source] = max(needed.get(source, 1), 1 + delay + port.retain)
    return needed


def _lay_out(
    reactors: Mapping[str, Reactor],
    banks: Mapping[str, tuple[str, int, int]],
    slots: Mapping[Channel, int],
    phases: int,
) -> tuple[tuple[Lane, ...], tuple[LaneBlock, ...]]:
    """Number the lanes, and put those of array ports side by side: channels first, then a bank's members."""
    lanes: list[Lane] = []
    members: dict[tuple[str, str], list[tuple[Output[Any], int]]] = {}
    for path, reactor in reactors.items():
        for port in reactor.declared.elements.values():
            if isinstance(port, Output):
                home = banks[path][0] if path in banks else path
                if port.shape is not None:
                    first = members.get((home, port.name), [(port, 0)])[0][0]
                    same = (first.shape, first.dtype, first.steady) == (port.shape, port.dtype, port.steady)
                    key = (home if same else path, port.name)
                    members.setdefault(key, []).extend((port, c) for c in range(port.channels))
    places = {channel: (block, item) for block, key in enumerate(members) for item, channel in enumerate(members[key])}
    most = [max(slots.get(channel, 1) for channel in channels) for channels in members.values()]
    for path, reactor in reactors.items():
        for port in reactor.declared.elements.values():
            if isinstance(port, Output):
                for channel in range(port.channels):
                    block, item = places.get((port, channel), (None, 0))
                    wanted = slots.get((port, channel), 1) if block is None else most[block]
                    if port.steady and wanted > 1:
                        wanted = phases
                    lanes.append(
                        Lane(
                            index=len(lanes),
                            port=port,
                            channel=channel,
                            block=block,
                            item=item,
                            slots=wanted,
                            reactor=path,
                        )
                    )
    number = {(lane.port, lane.channel): lane for lane in lanes}
    blocks = tuple(
        LaneBlock(
            index=index,
            name=".".join(part for part in key if part),
            lanes=tuple(number[channel].index for channel in channels),
            shape=cast("tuple[int, ...]", channels[0][0].shape),
            dtype=channels[0][0].dtype.str,
            steady=channels[0][0].steady,
            slots=number[channels[0]].slots,
        )
        for index, (key, channels) in enumerate(members.items())
    )
    return tuple(lanes), blocks


def _ranked(
    rows: Sequence[ReactionRow], feeds: Mapping[Input[Any], Sequence[Feed | None]], lanes: Sequence[Lane]
) -> tuple[ReactionRow, ...]:
    """Give every reaction its level, the longest path to it, and sort by (level, order of declaration)."""
    writers: dict[int, list[int]] = {lane.index: [] for lane in lanes}
    by_port = {(lane.port, lane.channel): lane.index for lane in lanes}
    for index, row in enumerate(rows):
        for effect in row.declared.effects:
            for channel in range(effect.channels):
                writers[by_port[effect, channel]].append(index)
    before: list[set[int]] = [set() for _ in rows]
    for index, (earlier, later) in enumerate(pairwise(rows), start=1):
        if earlier.reactor == later.reactor:
            before[index].add(index - 1)
    for index, row in enumerate(rows):
        for port in row.reads:
            for feed in feeds[port]:
                if feed is not None and feed.delay_tags == 0:
                    before[index].update(writers[feed.lane])
    levels = _levels(rows, before)
    order = sorted(range(len(rows)), key=lambda index: (levels[index], index))
    return tuple(
        ReactionRow(
            reactor=rows[i].reactor,
            name=rows[i].name,
            level=levels[i],
            declared=rows[i].declared,
            timers=rows[i].timers,
            at_startup=rows[i].at_startup,
            at_shutdown=rows[i].at_shutdown,
            inputs=rows[i].inputs,
        )
        for i in order
    )


def _levels(rows: Sequence[ReactionRow], before: Sequence[set[int]]) -> list[int]:
    """The longest path to each reaction; raises if reactions wait for one another."""
    levels = [-1] * len(rows)
    waiting = set(range(len(rows)))
    level = 0
    while waiting:
        ready = {i for i in waiting if not before[i] & waiting}
        if not ready:
            raise CausalityError(
                "These reactions wait for one another within a tag: "
                f"{' -> '.join(_cycle(rows, before, waiting))}. Delay one of the connections (after_ns=...)."
            )
        for i in ready:
            levels[i] = level
        waiting -= ready
        level += 1
    return levels


def _cycle(rows: Sequence[ReactionRow], before: Sequence[set[int]], waiting: set[int]) -> list[str]:
    """One cycle among `waiting`, as names in the direction of the flow."""
    trail = [min(waiting)]
    while True:
        previous = min(before[trail[-1]] & waiting)
        if previous in trail:
            loop = [previous, *reversed(trail[trail.index(previous) :])]
            return [f"{rows[i].reactor}.{rows[i].name}" for i in loop]
        trail.append(previous)
