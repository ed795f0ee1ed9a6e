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
from typing import TYPE_CHECKING, Any, cast

from runtimes.reactor.connections import Bank
from runtimes.reactor.elements import Input, LogicalAction, Mode, Output, PhysicalAction, Timer, Watchdog
from runtimes.reactor.errors import AssemblyError
from runtimes.reactor.ranks import ranked
from runtimes.reactor.reactions import Reaction, stop
from runtimes.reactor.relays import Hidden
from runtimes.reactor.wiring import Channel, Wiring, mode_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runtimes.reactor.declaration import Reactor

__all__ = ["Assembly", "Feed", "Lane", "LaneBlock", "ModeRow", "ReactionRow", "assemble"]


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
        return mode_number(self.modes, self.mode_of, reactor, mode)

    @property
    def usual_from(self) -> int:
        """The first tag that is as all after it: startup is over and, in a clocked program, every timer has fired."""
        if not self.period_ns:
            return 1
        timers = [t for row in self.reactions for t in row.declared.triggers if isinstance(t, Timer)]
        return 1 + max((timer.offset_ns for timer in timers), default=0) // self.period_ns

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
    wiring = Wiring(reactors, modes, mode_of, period_ns)
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
    return ReactionRow(
        reactor=reactor.path,
        name=declared.name,
        declared=declared,
        mode=mode_number(modes, mode_of, reactor.path, declared.mode),
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
