"""From declared reactors to frozen tables: paths, modes, lanes, blocks, ranks.

A *lane* is one channel of an output port: one value a tag at most, with one writing reactor. A *block*
is the memory of lanes that lie side by side: a multiport's channels, or the like-named ports of a bank.
All rules of the model that can be checked before running are checked here.

A program is *clocked* if its tags are known beforehand: it runs in fast mode, all its timers share one
period, and its delays are whole periods. Then tag number n is logical time n * period, and nobody has
to agree on the next one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, cast

from runtimes.reactor.declaration import (
    Bank,
    Connection,
    Input,
    LogicalAction,
    Mode,
    Output,
    PhysicalAction,
    Port,
    Reaction,
    Reactor,
    Timer,
    Watchdog,
    stop,
)
from runtimes.reactor.errors import AssemblyError
from runtimes.reactor.ranks import ranked
from runtimes.reactor.relays import Hidden, Merge, Relay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Assembly", "Feed", "Lane", "LaneBlock", "ModeRow", "ReactionRow", "assemble"]

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
    """How many arrays are kept: as many as readers may still need, and the one being written."""
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
    """Where an input channel gets its values: a lane, so many tags later (steady lanes of clocked programs only)."""

    lane: int
    delay_tags: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeRow:
    """A mode of one reactor. Modes of containing reactors come before those of contained ones."""

    reactor: str
    mode: Mode
    parent: int | None
    """The mode that its reactor belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionRow:
    """A reaction in the program's order. Its rank is its position in `Assembly.reactions`."""

    reactor: str
    name: str
    declared: Reaction
    mode: int | None
    """The innermost mode that it belongs to."""
    hidden: bool
    """Whether nobody wrote it."""
    level: int = 0
    deadline_ns: int | None = None
    """The earliest deadline among its own and those that depend on it."""

    @property
    def path(self) -> str:
        """Its name in messages: `training.learner.update`."""
        return f"{self.reactor}.{self.name}" if self.reactor else self.name

    @property
    def reads(self) -> tuple[Input[Any], ...]:
        """Inputs that trigger it, and those that it only reads."""
        return tuple(p for p in (*self.declared.triggers, *self.declared.sources) if isinstance(p, Input))

    @property
    def writes(self) -> tuple[Output[Any], ...]:
        """Outputs that it may set."""
        return tuple(port for port in self.declared.effects if isinstance(port, Output))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A whole program, frozen."""

    main: Reactor
    reactors: Mapping[str, Reactor]
    """All reactors by path, hidden ones last."""
    banks: Mapping[str, tuple[str, int, int]]
    """Of reactors in a bank: path to (path of the bank, index, width)."""
    homes: Mapping[str, str]
    """Of hidden reactors: the reactor that they live with."""
    modes: tuple[ModeRow, ...]
    mode_of: Mapping[str, int | None]
    """The mode that a reactor belongs to."""
    reactions: tuple[ReactionRow, ...]
    before: tuple[tuple[int, ...], ...]
    """For each rank the ranks that come before it in a tag, directly."""
    lanes: tuple[Lane, ...]
    blocks: tuple[LaneBlock, ...]
    feeds: Mapping[Input[Any], tuple[Feed | None, ...]]
    period_ns: int
    """The period of a clocked program; 0 for any other."""
    phases: int
    """Slots of those steady ports that have more than one: a value written at tag n is in slot n % phases."""

    def feeds_of(self, row: ReactionRow) -> Iterator[Feed]:
        """Where everything that `row` reads comes from."""
        for port in row.reads:
            yield from (feed for feed in self.feeds[port] if feed is not None)

    def mode_index(self, reactor: str, mode: Mode | None) -> int | None:
        """The number of `mode` of the reactor; of no mode that of what contains the reactor."""
        if mode is None:
            return self.mode_of[reactor]
        return next(i for i, row in enumerate(self.modes) if row.mode is mode)

    @property
    def physical(self) -> bool:
        """Whether events may come from outside."""
        return any(
            isinstance(e, PhysicalAction | Watchdog)
            for r in self.reactors.values()
            for e in r.declared.elements.values()
        )

    @property
    def kept_alive(self) -> bool:
        """Whether an empty queue waits for events from outside: a physical action was declared."""
        return any(
            isinstance(e, PhysicalAction)
            for r in self.reactors.values()
            if not isinstance(r, Hidden)
            for e in r.declared.elements.values()
        )


def assemble(main: Reactor, *, fast: bool = True) -> Assembly:
    """Validate the program whose main reactor is `main`, and freeze it.

    Args:
        main: The main reactor.
        fast: Whether it runs without waiting for physical time; only then can it be clocked.

    Raises:
        AssemblyError: for a broken rule of the model.
    """
    reactors: dict[str, Reactor] = {}
    banks: dict[str, tuple[str, int, int]] = {}
    known: set[int] = set()
    for path, reactor, place in _walk(main, ""):
        reactor.path = path
        if id(reactor) in known:
            raise AssemblyError(f"One reactor stands in the program twice, the second time as '{path}'. Make another.")
        known.add(id(reactor))
        reactors[path] = reactor
        if place is not None:
            banks[path] = place
    modes, mode_of = _modes(reactors)
    _check_watchdogs(reactors)
    period_ns = _clock_of(reactors.values()) if fast else 0
    wiring = _Wiring(reactors, modes, mode_of, period_ns)
    feeds_by_channel = wiring.feeds()
    rows = [
        _row(reactor, declared, modes, mode_of)
        for reactor in reactors.values()
        for declared in reactor.declared.reactions
    ]
    if period_ns:
        _check_triggers(rows, feeds_by_channel)
    slots = _slots_needed(feeds_by_channel)
    lanes, blocks, phases = _lay_out(reactors, banks, slots, clocked=period_ns > 0)
    number = {(lane.port, lane.channel): lane.index for lane in lanes}
    feeds = {
        port: tuple(None if feed is None else Feed(number[feed[0]], feed[1]) for feed in channels)
        for port, channels in feeds_by_channel.items()
    }
    reactions, before = ranked(rows, feeds, lanes, modes)
    return Assembly(
        main=main,
        reactors=reactors,
        banks=banks,
        homes=wiring.homes,
        modes=modes,
        mode_of=mode_of,
        reactions=reactions,
        before=before,
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


def _modes(reactors: Mapping[str, Reactor]) -> tuple[tuple[ModeRow, ...], dict[str, int | None]]:
    """All modes, and the mode that each reactor belongs to."""
    rows: list[ModeRow] = []
    mode_of: dict[str, int | None] = {"": None}
    numbers: dict[int, int] = {}
    for path, reactor in reactors.items():
        declared = reactor.declared
        own = [element for element in declared.elements.values() if isinstance(element, Mode)]
        initial = [mode.name for mode in own if mode.initial]
        if own and len(initial) != 1:
            raise AssemblyError(
                f"Reactor '{path or 'main'}' has {len(initial)} initial modes ({', '.join(initial) or 'none'}). "
                "Exactly one of its modes is Mode(initial=True)."
            )
        for mode in own:
            numbers[id(mode)] = len(rows)
            rows.append(ModeRow(reactor=path, mode=mode, parent=mode_of[path]))
        for name, child in declared.children.items():
            inner = declared.modes_of_children.get(name)
            below = f"{path}.{name}" if path else name
            paths = [f"{below}[{i}]" for i in range(len(child))] if isinstance(child, Bank) else [below]
            mode_of.update(dict.fromkeys(paths, mode_of[path] if inner is None else numbers[id(inner)]))
    return tuple(rows), mode_of


def _check_watchdogs(reactors: Mapping[str, Reactor]) -> None:
    """Raise unless every watchdog has one handler."""
    for reactor in reactors.values():
        handled = [handler.watchdog for handler in reactor.declared.handlers]
        for element in reactor.declared.elements.values():
            if isinstance(element, Watchdog) and handled.count(element) != 1:
                raise AssemblyError(
                    f"Watchdog '{element}' has {handled.count(element) or 'no'} "
                    f"handler{'s' if handled.count(element) else ''}. Decorate one method with "
                    f"@{element.name}.handler()."
                )


def _clock_of(reactors: Iterable[Reactor]) -> int:
    """The period of a clocked program, 0 if it is none."""
    timers: list[Timer] = []
    for reactor in reactors:
        declared = reactor.declared
        for element in declared.elements.values():
            if isinstance(element, LogicalAction | PhysicalAction | Mode | Watchdog):
                return 0
            if isinstance(element, Timer):
                timers.append(element)
        if any(r.deadline_ns is not None or stop in r.effects for r in declared.reactions):
            return 0
        if any(c.physical or c.after_ns == 0 for c in declared.connections):
            return 0
    periods = {timer.period_ns for timer in timers if timer.period_ns}
    if len(periods) != 1:
        return 0
    period = periods.pop()
    delays = [c.after_ns for r in reactors for c in r.declared.connections if c.after_ns]
    if any(t.offset_ns % period for t in timers) or any(delay % period for delay in delays):
        return 0
    first = min(timer.offset_ns for timer in timers if timer.period_ns)
    single = {timer.offset_ns for timer in timers}
    # Without a gap: a tag that nothing happens at is no tag.
    gap = any(time_ns not in single for time_ns in range(period, first, period))
    return 0 if gap else period


class _Wiring:
    """Connections resolved: for every input channel the output channel that its values come from."""

    def __init__(
        self,
        reactors: dict[str, Reactor],
        modes: Sequence[ModeRow],
        mode_of: dict[str, int | None],
        period_ns: int,
    ) -> None:
        self.reactors = reactors
        self.modes = modes
        self.mode_of = mode_of
        self.period_ns = period_ns
        self.homes: dict[str, str] = {}
        self._direct: dict[Channel, list[tuple[Channel, Connection, Reactor]]] = {}
        self._relays: dict[tuple[Channel, int, bool, int | None], Channel] = {}
        self._roots: dict[Channel, tuple[Channel, int] | None] = {}
        written = {
            p for r in reactors.values() for x in r.declared.reactions for p in x.effects if isinstance(p, Output)
        }
        for reactor in list(reactors.values()):
            inside = {id(reactor), *(id(contained) for contained in _contained(reactor))}
            for connection in reactor.declared.connections:
                for source, target in _pairs(connection):
                    self._add(source, target, connection, reactor, inside, written)

    def feeds(self) -> dict[Input[Any], tuple[tuple[Channel, int] | None, ...]]:
        """For every input, channel by channel, what it is fed by, and the delay in tags."""
        found: dict[Input[Any], tuple[tuple[Channel, int] | None, ...]] = {}
        for reactor in list(self.reactors.values()):
            for port in reactor.declared.elements.values():
                if isinstance(port, Input):
                    found[port] = tuple(self._root((port, channel)) for channel in range(port.channels))
        # Also where nobody reads: what is delayed makes a tag all the same.
        for channel in list(self._direct):
            self._root(channel)
        for path in self.homes:
            for port in self.reactors[path].declared.elements.values():
                if isinstance(port, Input):
                    found[port] = (self._roots[port, 0],)
        return found

    def _add(  # noqa: PLR0913, PLR0917 - a pair, and where it stands
        self,
        source: Channel,
        target: Channel,
        connection: Connection,
        reactor: Reactor,
        inside: set[int],
        written: set[Output[Any]],
    ) -> None:
        """Take up one pair of channels that `connection` of `reactor` joins."""
        for port, _ in (source, target):
            if id(port.owner) not in inside:
                raise AssemblyError(
                    f"Connection '{source[0]}' -> '{target[0]}' is out of scope: '{port}' belongs neither to "
                    f"'{reactor.path or 'the main reactor'}' nor to a reactor directly inside it."
                )
        _check_direction(source[0], target[0], reactor)
        _check_types(source[0], target[0])
        if target[0] in written:
            raise AssemblyError(
                f"Port '{target[0]}' has two writers: a reaction of its own reactor and '{source[0]}'. A port has one."
            )
        others = self._direct.setdefault(target, [])
        for other, at, _ in others:
            if connection.mode is None or at.mode is None or connection.mode is at.mode:
                raise AssemblyError(
                    f"Port '{target[0]}' has two sources, '{other[0]}' and '{source[0]}'. A port has one, except in "
                    "different modes."
                )
        others.append((source, connection, reactor))

    def _root(self, channel: Channel) -> tuple[Channel, int] | None:
        """The output channel where the values of `channel` come from in the end, and the delay in tags."""
        if channel not in self._roots:
            self._roots[channel] = None
            self._roots[channel] = self._find_root(channel)
        return self._roots[channel]

    def _find_root(self, channel: Channel) -> tuple[Channel, int] | None:
        """As `_root`, for a channel that was not asked for before."""
        ways = self._direct.get(channel)
        if not ways:
            return (channel, 0) if isinstance(channel[0], Output) else None
        hops = [(self._hop(source, connection, reactor), connection, reactor) for source, connection, reactor in ways]
        moded = [(hop[0], c, r) for hop, c, r in hops if hop is not None and c.mode is not None]
        if not moded:
            return hops[0][0]
        return self._merge(channel, moded), 0

    def _hop(self, source: Channel, connection: Connection, reactor: Reactor) -> tuple[Channel, int] | None:
        """Where values come from that pass through `connection` from `source`."""
        root = self._root(source)
        if root is None or (connection.after_ns is None and not connection.physical):
            return root
        (port, number), delay = root
        if self.period_ns and port.steady:
            return (port, number), delay + (connection.after_ns or 0) // self.period_ns
        mode = self._mode_of(connection, reactor)
        key = ((port, number), connection.after_ns or 0, connection.physical, mode)
        if key not in self._relays:
            how = "physically" if connection.physical else "after"
            relay = Relay(port, after_ns=connection.after_ns or 0, physical=connection.physical)
            name = f"{port}[{number}] {how} {connection.after_ns or 0} ns" + (
                "" if mode is None else f" in mode {mode}"
            )
            self._install(name, relay, mode, reactor.path if mode is not None else port.owner.path)
            self._roots[relay.arriving, 0] = ((port, number), delay)
            self._relays[key] = (relay.leaving, 0)
        return self._relays[key], 0

    def _merge(self, target: Channel, ways: Sequence[tuple[Channel, Connection, Reactor]]) -> Channel:
        """What joins connections of different modes that lead to `target`."""
        merge = Merge([source[0] for source, _, _ in ways])
        owner = ways[0][2]
        self._install(f"{target[0]}[{target[1]}] by mode", merge, self.mode_of[owner.path], owner.path)
        for number, (source, connection, _) in enumerate(ways):
            declared = merge.declared
            self._roots[declared.elements[f"arriving_{number}"], 0] = (source, 0)
            old = declared.reactions[number]
            declared.reactions[number] = Reaction(
                name=old.name,
                body=old.body,
                triggers=old.triggers,
                sources=(),
                effects=old.effects,
                mode=connection.mode,
            )
        return (merge.merged, 0)

    def _install(self, path: str, hidden: Hidden, mode: int | None, home: str) -> None:
        """Put a hidden reactor into the program."""
        hidden.path = path
        self.reactors[path] = hidden
        self.mode_of[path] = mode
        self.homes[path] = self.homes.get(home, home)

    def _mode_of(self, connection: Connection, reactor: Reactor) -> int | None:
        """The mode that `connection` of `reactor` belongs to."""
        if connection.mode is None:
            return self.mode_of[reactor.path]
        return next(i for i, row in enumerate(self.modes) if row.mode is connection.mode)


def _contained(reactor: Reactor) -> list[Reactor]:
    """The reactors directly inside `reactor`."""
    return [m for child in reactor.declared.children.values() for m in (child if isinstance(child, Bank) else [child])]


def _pairs(connection: Connection) -> Iterator[tuple[Channel, Channel]]:
    """The channels that `connection` joins."""
    left, right = list(connection.sources), list(connection.targets)
    if connection.broadcast:
        left = list(islice(cycle(left), len(right)))
    if len(left) != len(right):
        raise AssemblyError(
            f"Width of '{left[0][0]}' is {len(left)} but '{right[0][0]}' has {len(right)} "
            "channels. Use broadcast=True to repeat the left side."
        )
    return zip(left, right, strict=True)


def _check_direction(source: Port[Any], target: Port[Any], reactor: Reactor) -> None:
    """Raise unless values can pass from `source` to `target` inside `reactor`."""
    sends = isinstance(source, Input) if source.owner is reactor else isinstance(source, Output)
    takes = isinstance(target, Output) if target.owner is reactor else isinstance(target, Input)
    if not sends or not takes:
        raise AssemblyError(
            f"Connection '{source}' -> '{target}' runs the wrong way. Inside '{reactor.path or 'the main reactor'}', "
            "connect outputs of contained reactors (or its own inputs) to their inputs (or its own outputs)."
        )


def _check_types(source: Port[Any], target: Port[Any]) -> None:
    """Raise if the two ports are declared with types or arrays that do not fit."""
    if target.shape is not None and (source.shape, source.dtype) != (target.shape, target.dtype):
        gives = "no array" if source.shape is None else f"{source.dtype}{list(source.shape)}"
        raise AssemblyError(
            f"Port '{target}' takes {target.dtype}{list(target.shape)} but '{source}' gives {gives}. Declare the same "
            "shape and dtype on both."
        )
    given, taken = source.carries, target.carries
    if isinstance(given, type) and isinstance(taken, type) and not {object, Any} & {given, taken}:
        promoted = (given, taken) in {(int, float), (int, complex), (float, complex)}
        if not promoted and not issubclass(given, taken):
            raise AssemblyError(
                f"Port '{target}' takes {taken.__name__} but '{source}' gives {given.__name__}. Give both one type."
            )


def _row(
    reactor: Reactor, declared: Reaction, modes: Sequence[ModeRow], mode_of: Mapping[str, int | None]
) -> ReactionRow:
    """The row of one reaction; its level comes later."""
    where = f"{reactor.path}.{declared.name}" if reactor.path else declared.name
    for part in (*declared.triggers, *declared.sources, *declared.effects, declared.mode):
        if part is not None and getattr(part, "owner", reactor) is not reactor:
            # A hidden reactor's reaction may belong to a mode of another.
            if isinstance(part, Mode) and isinstance(reactor, Hidden):
                continue
            raise AssemblyError(
                f"Reaction '{where}' names '{part}' of another reactor. Connect it to a port of its own."
            )
    for effect in declared.effects:
        if isinstance(effect, Input | Timer) or (effect in declared.triggers and isinstance(effect, Output)):
            raise AssemblyError(f"Reaction '{where}' has '{effect}' among its effects, which nobody can set.")
    if (declared.deadline_ns is None) != (declared.late is None):
        lacks = "no method to run when it is violated: decorate one with @NAME.late"
        raise AssemblyError(
            f"Reaction '{where}' has "
            + (
                f"a deadline but {lacks}."
                if declared.late is None
                else "a method for a violated deadline but no deadline."
            )
        )
    number = mode_of[reactor.path]
    if declared.mode is not None:
        number = next(i for i, row in enumerate(modes) if row.mode is declared.mode)
    return ReactionRow(
        reactor=reactor.path,
        name=declared.name,
        declared=declared,
        mode=number,
        hidden=isinstance(reactor, Hidden),
    )


def _check_triggers(
    rows: Sequence[ReactionRow], feeds: Mapping[Input[Any], Sequence[tuple[Channel, int] | None]]
) -> None:
    """Raise if a reaction is to be triggered by a port whose presence nobody keeps."""
    for row in rows:
        for port in row.declared.triggers:
            for feed in feeds[port] if isinstance(port, Input) else ():
                if feed is not None and feed[0][0].steady:
                    raise AssemblyError(
                        f"Reaction '{row.path}' is triggered by '{port}', which is fed by the steady "
                        f"output '{feed[0][0]}': no presence is kept for it. Trigger by a timer and read it."
                    )


def _slots_needed(feeds: Mapping[Input[Any], Sequence[tuple[Channel, int] | None]]) -> dict[Channel, int]:
    """How many values of each output channel are in use at once, the one being written included."""
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
    *,
    clocked: bool,
) -> tuple[tuple[Lane, ...], tuple[LaneBlock, ...], int]:
    """Number the lanes, and put those of array ports side by side: channels first, then a bank's members."""
    outputs = [
        (path, port)
        for path, reactor in reactors.items()
        for port in reactor.declared.elements.values()
        if isinstance(port, Output)
    ]
    members: dict[tuple[str, str], list[tuple[Output[Any], int]]] = {}
    for path, port in outputs:
        if port.shape is not None:
            home = banks[path][0] if path in banks else path
            first = members.get((home, port.name), [(port, 0)])[0][0]
            same = (first.shape, first.dtype, first.steady) == (port.shape, port.dtype, port.steady)
            members.setdefault((home if same else path, port.name), []).extend((port, c) for c in range(port.channels))
    phases = max((slots.get(c, 1) for channels in members.values() for c in channels if c[0].steady), default=1)
    places: dict[Channel, tuple[int, int]] = {}
    kept: list[int] = []
    for block, channels in enumerate(members.values()):
        places.update({channel: (block, item) for item, channel in enumerate(channels)})
        most = max(slots.get(channel, 1) for channel in channels)
        steady = clocked and channels[0][0].steady
        # A value stays valid until the next one is there, so a port that is not steady has one slot more.
        kept.append((phases if most > 1 else 1) if steady else most + 1)
    lanes: list[Lane] = []
    for path, port in outputs:
        for channel in range(port.channels):
            at, item = places.get((port, channel), (None, 0))
            lanes.append(
                Lane(
                    index=len(lanes),
                    port=port,
                    channel=channel,
                    block=at,
                    item=item,
                    slots=1 if at is None else kept[at],
                    reactor=path,
                )
            )
    number = {(lane.port, lane.channel): lane.index for lane in lanes}
    blocks = tuple(
        LaneBlock(
            index=index,
            name=".".join(part for part in key if part),
            lanes=tuple(number[channel] for channel in channels),
            shape=cast("tuple[int, ...]", channels[0][0].shape),
            dtype=channels[0][0].dtype.str,
            steady=clocked and channels[0][0].steady,
            slots=kept[index],
        )
        for index, (key, channels) in enumerate(members.items())
    )
    return tuple(lanes), blocks, phases if clocked else 1
