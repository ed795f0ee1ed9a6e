"""Draws a program without running it: nested reactors with all their parts, or its reactions by level.

Like members of a bank are drawn once. Hidden reactors are not drawn: a delayed connection is an arrow
with its delay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runtimes.reactor.declaration import Reactor
from runtimes.reactor.drawing import Box, Drawing, Line, Node, dot_of, mermaid_of, render
from runtimes.reactor.elements import Element, Input, LogicalAction, Mode, Output, PhysicalAction, Port, Timer, Watchdog
from runtimes.reactor.errors import ReactorError
from runtimes.reactor.reactions import Handler, Reaction, stop
from runtimes.reactor.tags import ms, s, us

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runtimes.reactor.assembly import Assembly, ReactionRow
    from runtimes.reactor.connections import Bank, Connection
    from runtimes.reactor.drawing import NodeShape, Stroke

__all__ = ["Diagram"]

_MAIN: Final = "main"
_INDEX: Final = re.compile(r"\[\d+\]")


class Diagram:
    """A drawing of a program, in several forms."""

    def __init__(self, assembly: Assembly, *, by_level: bool = False) -> None:
        """Draw `assembly`: nested reactors, or its reactions by level."""
        self._drawing = _by_level(assembly) if by_level else _nested(assembly)

    @property
    def dot(self) -> str:
        """Text in the DOT language."""
        return dot_of(self._drawing)

    @property
    def mermaid(self) -> str:
        """Text of a Mermaid flowchart."""
        return mermaid_of(self._drawing)

    def svg(self) -> str:
        """The drawing as SVG.

        Raises:
            ReactorError: if Graphviz is not installed.
        """
        return render(self.dot, "svg").decode()

    def save(self, path: str | Path) -> None:
        """Write a file in the form that its suffix names: .dot, .gv, .mmd, .md (a fenced block), .svg or .png.

        Raises:
            ReactorError: for another suffix, or if an image is asked for and Graphviz is not installed.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix in {".dot", ".gv"}:
            content = self.dot.encode()
        elif suffix == ".mmd":
            content = self.mermaid.encode()
        elif suffix == ".md":
            content = f"```mermaid\n{self.mermaid}```\n".encode()
        elif suffix == ".svg":
            content = render(self.dot, "svg")
        elif suffix == ".png":
            content = render(self.dot, "png")
        else:
            raise ReactorError(f"'{path}' does not end as a drawing does. Name it .dot, .gv, .mmd, .md, .svg or .png.")
        path.write_bytes(content)


# ----------------------------------------------------------------------------------- nested reactors


def _nested(assembly: Assembly) -> Drawing:
    """Reactors in reactors."""
    part = _Sketch(assembly.main, _MAIN).part(type(assembly.main).__name__)
    return Drawing(box=part.box, lines=part.lines)


@dataclass(frozen=True, slots=True)
class _Part:
    """A reactor as it is drawn. Members of a bank are alike if they are drawn alike."""

    box: Box
    lines: tuple[Line, ...]


@dataclass(slots=True)
class _Room:
    """What stands in a reactor, or in one of its modes."""

    nodes: list[Node] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Group:
    """Members of a bank that are drawn once; a single reactor has no indices."""

    key: str
    indices: tuple[int, ...] = ()


class _Sketch:
    """Draws one reactor and what it contains. Keys are paths, so they differ between reactors."""

    def __init__(self, reactor: Reactor, key: str) -> None:
        self.reactor = reactor
        self.key = key
        self.declared = reactor.declared
        self.modes = [element for element in self.declared.elements.values() if isinstance(element, Mode)]
        self.rooms: dict[str | None, _Room] = {None: _Room(), **{mode.name: _Room() for mode in self.modes}}
        self.lines: list[Line] = []
        self.groups: dict[int, tuple[_Group, int]] = {}
        """Of contained reactors, by identity: where they are drawn, and their index."""

    def part(self, title: str) -> _Part:
        """The whole reactor in a box."""
        for element in self.declared.elements.values():
            if not isinstance(element, Mode):
                self.room(element.mode).nodes.append(_element_node(element, self.key_of(element)))
        for number, declared in enumerate(self.declared.reactions, start=1):
            self.add_reaction(number, declared)
        for handler in self.declared.handlers:
            self.add_handler(handler)
        for name, child in self.declared.children.items():
            self.add_child(name, child)
        self.add_connections()
        room = self.rooms[None]
        modes = (
            Box(
                key=self.key_of(mode),
                title=f"mode {mode.name}{', initial' if mode.initial else ''}",
                dashed=True,
                nodes=tuple(self.rooms[mode.name].nodes),
                boxes=tuple(self.rooms[mode.name].boxes),
            )
            for mode in self.modes
        )
        box = Box(key=self.key, title=title, nodes=tuple(room.nodes), boxes=(*modes, *room.boxes))
        return _Part(box, tuple(dict.fromkeys(self.lines)))

    def room(self, mode: Mode | None) -> _Room:
        """Where what belongs to `mode` is drawn."""
        return self.rooms[None if mode is None else mode.name]

    def key_of(self, element: Element) -> str:
        """The key of an element of this reactor."""
        return f"{self.key}.{element.name}"

    def line(self, source: str, target: str, label: str = "") -> None:
        """An arrow between parts of this reactor."""
        self.lines.append(Line(source=source, target=target, stroke="cause", label=label))

    def add_reaction(self, number: int, declared: Reaction) -> None:
        """Draw a reaction, what triggers it, what it reads and what it may do."""
        key = f"{self.key}.{declared.name}()"
        text = [f"{number} {declared.name}"]
        if declared.deadline_ns is not None:
            text.append(f"deadline {_duration(declared.deadline_ns)}")
        if stop in declared.effects:
            text.append("may stop the program")
        self.room(declared.mode).nodes.append(Node(key=key, shape="reaction", text=tuple(text)))
        for trigger in declared.triggers:
            source = self.key_of(trigger) if isinstance(trigger, Element) else self.special(trigger, declared.mode)
            self.line(source, key)
        for read in declared.sources:
            self.lines.append(Line(source=self.key_of(read), target=key, stroke="read", label="reads"))
        for effect in declared.effects:
            if isinstance(effect, Mode):
                target = self.entry(effect)
                self.lines.append(Line(source=key, target=target, stroke="transition", label="mode change"))
            elif isinstance(effect, Element):
                self.line(key, self.key_of(effect))

    def special(self, trigger: Any, mode: Mode | None) -> str:
        """The key of `startup`, `shutdown` or `reset` of this reactor or one of its modes; drawn if it was not yet."""
        within = self.key if mode is None else self.key_of(mode)
        return self.once(Node(key=f"{within}.({trigger.name})", shape="trigger", text=(trigger.name,)), mode)

    def entry(self, mode: Mode) -> str:
        """The key of where arrows into `mode` end; drawn if it was not yet."""
        return self.once(Node(key=f"{self.key_of(mode)}.(enter)", shape="entry", text=("enter",)), mode)

    def once(self, node: Node, mode: Mode | None) -> str:
        """The key of `node`, which is drawn if it was not yet."""
        nodes = self.room(mode).nodes
        if node not in nodes:
            nodes.append(node)
        return node.key

    def add_handler(self, handler: Handler) -> None:
        """Draw what runs when a watchdog expires."""
        key = f"{self.key}.{handler.name} (handler)"
        self.room(handler.watchdog.mode).nodes.append(
            Node(key=key, shape="reaction", text=(f"handler {handler.name}",))
        )
        self.line(self.key_of(handler.watchdog), key, "expires")
        for effect in handler.effects:
            self.line(key, self.key_of(effect))

    def add_child(self, name: str, child: Reactor | Bank[Any]) -> None:
        """Draw a contained reactor, or a bank with like members drawn once."""
        room = self.room(self.declared.modes_of_children.get(name))
        key = f"{self.key}.{name}"
        if isinstance(child, Reactor):
            self.groups[id(child)] = (_Group(key), 0)
            self.take(_Sketch(child, key).part(f"{name}: {type(child).__name__}"), room)
            return
        alike: dict[_Part, list[int]] = {}
        for index, member in enumerate(child):
            alike.setdefault(_Sketch(member, key).part(type(member).__name__), []).append(index)
        for part, indices in alike.items():
            kind = part.box.title
            if len(alike) == 1:
                group = _Group(key, tuple(indices))
                titled = _Part(replace(part.box, title=f"{name}: {kind}, bank of {len(child)}"), part.lines)
            else:
                members = f"[{_ranges(indices)}]"
                group = _Group(key + members, tuple(indices))
                titled = _Sketch(child[indices[0]], group.key).part(f"{name}{members}: {kind}")
            self.take(titled, room)
            self.groups.update({id(child[index]): (group, index) for index in indices})

    def take(self, part: _Part, room: _Room) -> None:
        """Draw a contained reactor in `room`."""
        room.boxes.append(part.box)
        self.lines += part.lines

    def add_connections(self) -> None:
        """Draw an arrow for all channels that are joined in the same way between the same two ports as drawn."""
        joined: dict[_Way, list[tuple[_End, _End]]] = {}
        for connection in self.declared.connections:
            said = tuple(_sayings(connection))
            for source, target in connection.pairs():
                ends = self.end(*source), self.end(*target)
                way = _Way(ends[0].key, ends[1].key, connection.physical, said)
                joined.setdefault(way, []).append(ends)
        for way, pairs in joined.items():
            places = [_places(side, way) for side in zip(*pairs, strict=True)]
            which = [" to ".join(place or "all" for place in places)] if any(places) else []
            self.lines.append(
                Line(
                    source=way.source_key,
                    target=way.target_key,
                    stroke="physical" if way.physical else "connection",
                    label=", ".join([*which, *way.said]),
                )
            )

    def end(self, port: Port[Any], channel: int) -> _End:
        """Where a connection of this reactor begins or ends."""
        owner = port.owner
        assert owner is not None
        group, index = self.groups.get(id(owner), (_Group(self.key), 0))
        return _End(key=f"{group.key}.{port.name}", group=group, index=index, channel=channel, channels=port.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    """One end of one channel of a connection."""

    key: str
    group: _Group
    index: int
    channel: int
    channels: int


class _Way(NamedTuple):
    """How channels of two ports, as drawn, are joined."""

    source_key: str
    target_key: str
    physical: bool
    said: tuple[str, ...]


def _places(ends: Sequence[_End], way: _Way) -> str:
    """Which members and channels `ends` are, in the order in which they pair; nothing for all in their own order."""
    first = ends[0]
    members = list(dict.fromkeys(end.index for end in ends))
    channels = list(dict.fromkeys(end.channel for end in ends))
    if {"broadcast", "interleaved"} & set(way.said):
        members.sort()
        channels.sort()
    words = []
    if first.group.indices and members != list(first.group.indices):
        words.append(f"[{_ranges(members)}]")
    if channels != list(range(first.channels)):
        words.append(f"channel {_ranges(channels)}")
    return " ".join(words)


def _sayings(connection: Connection) -> Iterable[str]:
    """What is to be said of a connection as a whole."""
    if connection.broadcast and len(connection.sources) < len(connection.targets):
        yield "broadcast"
    if any(_is_interleaved(side) for side in (connection.sources, connection.targets)):
        yield "interleaved"
    if connection.physical:
        yield "physical"
    if connection.after_ns is not None:
        yield f"after {_duration(connection.after_ns)}" if connection.after_ns else "after a microstep"
    if connection.mode is not None:
        yield f"in mode {connection.mode.name}"


def _is_interleaved(side: Sequence[tuple[Port[Any], int]]) -> bool:
    """Whether another port follows before the first one's channels are used up."""
    return len(side) > 1 and side[0][0].channels > 1 and side[1][0] is not side[0][0]


def _element_node(element: Element, key: str) -> Node:
    """A port, timer, action or watchdog with what it declares."""
    if isinstance(element, Input | Output):
        return Node(key=key, shape="input" if isinstance(element, Input) else "output", text=tuple(_port_text(element)))
    if isinstance(element, Timer):
        period = f"period {_duration(element.period_ns)}" if element.period_ns else "once"
        text = (f"timer {element.name}", f"offset {_duration(element.offset_ns)}, {period}")
        return Node(key=key, shape="timer", text=text)
    if isinstance(element, Watchdog):
        return Node(key=key, shape="watchdog", text=(f"watchdog {element.name}", _duration(element.timeout_ns)))
    assert isinstance(element, LogicalAction | PhysicalAction)
    details = [f"delay {_duration(element.delay_ns)}"] if element.delay_ns else []
    if element.min_spacing_ns is not None:
        details.append(f"min spacing {_duration(element.min_spacing_ns)} ({element.policy})")
    kind: NodeShape = "logical action" if isinstance(element, LogicalAction) else "physical action"
    return Node(key=key, shape=kind, text=(f"{kind} {element.name}", *details))


def _port_text(port: Input[Any] | Output[Any]) -> Iterable[str]:
    """A port's name with its width, and what it carries."""
    width = "" if port.width is None else f"[{port.width}]"
    kind = f": {port.carries.__name__}" if isinstance(port.carries, type) and port.carries not in {object, Any} else ""
    yield f"{port.name}{width}{kind}"
    if port.shape is not None:
        yield f"{port.dtype}{list(port.shape) or ''}"
    if isinstance(port, Input):
        details = ["mutable"] if port.mutable else []
        details += [f"retain {port.retain}"] if port.retain else []
    else:
        details = ["steady"] if port.steady else []
    if details:
        yield ", ".join(details)


# ------------------------------------------------------------------------------------------ by level


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alike:
    """What reactions have in common that are drawn once: those of a bank's members on one level."""

    level: int
    pattern: str
    """The reactor's path without indices."""
    name: str
    own_deadline_ns: int | None
    deadline_ns: int | None

    @classmethod
    def of(cls, row: ReactionRow) -> _Alike:
        """What `row` is drawn with."""
        return cls(
            level=row.level,
            pattern=_INDEX.sub("", row.reactor),
            name=row.name,
            own_deadline_ns=row.declared.deadline_ns,
            deadline_ns=row.deadline_ns,
        )

    @property
    def key(self) -> str:
        """The key of its node."""
        home = f"{_MAIN}.{self.pattern}" if self.pattern else _MAIN
        deadlines = "" if self.deadline_ns is None else f", deadlines {self.own_deadline_ns} {self.deadline_ns}"
        return f"{home}.{self.name}() level {self.level}{deadlines}"


def _by_level(assembly: Assembly) -> Drawing:
    """Reactions in a box for each level, in the program's order, with what must come before what in a tag."""
    members: dict[_Alike, list[str]] = {}
    for row in assembly.reactions:
        if not row.hidden:
            members.setdefault(_Alike.of(row), []).append(row.reactor)
    sizes: dict[str, int] = {}
    for path in assembly.reactors:
        pattern = _INDEX.sub("", path)
        sizes[pattern] = sizes.get(pattern, 0) + 1
    levels = sorted({alike.level for alike in members})
    boxes = tuple(
        Box(
            key=f"{_MAIN} level {level}",
            title=f"level {level}",
            nodes=tuple(
                _level_node(alike, paths, sizes[alike.pattern])
                for alike, paths in members.items()
                if alike.level == level
            ),
        )
        for level in levels
    )
    box = Box(key=_MAIN, title=f"{type(assembly.main).__name__}, by level", boxes=boxes)
    return Drawing(box=box, lines=tuple(_level_lines(assembly)))


def _level_node(alike: _Alike, paths: Sequence[str], size: int) -> Node:
    """One reaction, or that of several members of a bank."""
    home = paths[0] if len(paths) == 1 else alike.pattern
    text = [f"{home}.{alike.name}" if home else alike.name]
    if len(paths) == size > 1:
        text.append(f"all {size} members")
    elif len(paths) > 1:
        text.append(_some_members(paths, size))
    if alike.deadline_ns is not None:
        inferred = "" if alike.deadline_ns == alike.own_deadline_ns else ", inferred"
        text.append(f"deadline {_duration(alike.deadline_ns)}{inferred}")
    return Node(key=alike.key, shape="reaction", text=tuple(text))


def _some_members(paths: Sequence[str], size: int) -> str:
    """Which members: by index if one index tells them apart."""
    indices = [[int(index[1:-1]) for index in _INDEX.findall(path)] for path in paths]
    if len(indices[0]) == 1:
        return f"members {_ranges(index for (index,) in indices)}"
    return f"{len(paths)} of {size} members"


def _level_lines(assembly: Assembly) -> Iterable[Line]:
    """From each reaction to those that come after it directly; what only the order of declaration says is dashed."""
    rows = assembly.reactions
    lines: dict[Line, None] = {}
    for rank, row in enumerate(rows):
        if row.hidden:
            continue
        for before in sorted(_visible_before(assembly, rank)):
            source, target = _Alike.of(rows[before]), _Alike.of(row)
            stroke: Stroke = "order" if rows[before].reactor == row.reactor else "cause"
            lines[Line(source=source.key, target=target.key, stroke=stroke)] = None
    return lines


def _visible_before(assembly: Assembly, rank: int) -> set[int]:
    """The ranks directly before `rank` that somebody wrote; hidden ones are looked through."""
    found: set[int] = set()
    waiting = list(assembly.before[rank])
    seen: set[int] = set()
    while waiting:
        before = waiting.pop()
        if before in seen:
            continue
        seen.add(before)
        if assembly.reactions[before].hidden:
            waiting.extend(assembly.before[before])
        else:
            found.add(before)
    return found


# ------------------------------------------------------------------------------------------- wording


def _duration(time_ns: int) -> str:
    """Nanoseconds in the largest unit that fits, exactly: `1.5 ms`."""
    for unit_ns, name in ((s, "s"), (ms, "ms"), (us, "us")):
        if time_ns >= unit_ns:
            whole, rest = divmod(time_ns, unit_ns)
            digits = f"{rest:0{len(str(unit_ns)) - 1}d}".rstrip("0")
            return f"{whole}.{digits} {name}" if digits else f"{whole} {name}"
    return f"{time_ns} ns" if time_ns else "0"


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers in their order, runs of them joined: `0, 2..4`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)
