"""A simple, slow interpreter of the reactor model, to compare the real executors with.

It works on what reactors declare and on nothing else of the library: one thread, one queue keyed by tag,
no tables, no time but logical time. Whatever may be searched anew is searched anew. Physical events and
violated deadlines are given as a list, as in a replay; a deadline of 0 is always violated, no other is.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from itertools import cycle, islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.reactor.connections import Bank
from runtimes.reactor.elements import Input, LogicalAction, Mode, Output, PhysicalAction, Timer, Watchdog
from runtimes.reactor.reactions import reset, shutdown, startup
from runtimes.reactor.tags import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from runtimes.reactor.connections import Connection
    from runtimes.reactor.declaration import Reactor
    from runtimes.reactor.reactions import Reaction

__all__ = ["Outside", "Ran", "Reference", "interpret"]

Node = tuple[Any, int]
"""A port and one of its channels."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A reaction that ran, with those of its outputs that were present after it: port, channel, value."""

    time_ns: int
    microstep: int
    reactor: str
    reaction: str
    late: bool
    outputs: tuple[tuple[str, int, Any], ...]


@dataclass(frozen=True, slots=True)
class Outside:
    """An event from outside: the physical action `action` of the reactor at `path` is present at `tag`."""

    tag: Tag
    path: str
    action: str
    value: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """A pair of channels that a connection joins. In a `mode`, it carries only while that is active."""

    source: Node
    target: Node
    after_ns: int | None
    mode: Mode | None


@dataclass(frozen=True, slots=True)
class Special:
    """`startup` or `reset` for all that belongs to a mode, or to none."""

    trigger: Any
    mode: Mode | None


@dataclass(slots=True, eq=False)
class Event:
    """Something in the queue: what becomes present, with which value."""

    cause: Any
    mode: Mode | None
    value: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A reaction with where it stands."""

    reactor: Reactor
    reaction: Reaction
    mode: Mode | None


def interpret(
    main: Reactor,
    *,
    timeout_ns: int | None = None,
    keepalive: bool | None = None,
    outside: Iterable[Outside] = (),
    late: Collection[tuple[Tag, str, str]] = (),
) -> list[Ran]:
    """Run the program whose main reactor is `main` to its end; what ran, in order.

    Args:
        main: The main reactor, made for this run alone.
        timeout_ns: Where it stops at the latest.
        keepalive: Whether an empty queue waits for the timeout; by default if there is a physical action.
        outside: Events of physical actions.
        late: Deadlines that are violated besides those of 0: tag, reactor, reaction.
    """
    return Reference(main, timeout_ns=timeout_ns, keepalive=keepalive, outside=outside, late=late).run()


@dataclass(slots=True)
class Spacing:
    """What an action remembers of the event scheduled last."""

    tag: Tag
    event: Event


@dataclass(slots=True)
class AtTag:
    """What is so in one tag only."""

    present: dict[Node, Any] = field(default_factory=dict)
    triggers: set[Any] = field(default_factory=set)
    transitions: dict[Reactor, tuple[Mode, bool]] = field(default_factory=dict)
    """Reactor to the mode to enter, and whether by history."""


class Reference:
    """One run of one program."""

    def __init__(
        self,
        main: Reactor,
        *,
        timeout_ns: int | None = None,
        keepalive: bool | None = None,
        outside: Iterable[Outside] = (),
        late: Collection[tuple[Tag, str, str]] = (),
    ) -> None:
        self.reactors = dict(_walk(main, ""))
        self.modes_of_reactors: dict[Reactor, Mode | None] = {main: None}
        self.current: dict[Reactor, Mode] = {}
        self.edges: list[Edge] = []
        for path, reactor in self.reactors.items():
            reactor.path = path
            self._look_at(reactor)
        rows = [
            Row(reactor, reaction, reaction.mode or self.modes_of_reactors[reactor])
            for reactor in self.reactors.values()
            for reaction in reactor.declared.reactions
        ]
        self.rows = self._in_order(rows)
        self.bodies: dict[Row, Callable[[], None]] = {row: row.reaction.body for row in rows}
        self.queue: dict[Tag, list[Event]] = {}
        self.parked: dict[Mode, list[tuple[int, Event]]] = {}
        self.entered: set[Mode] = set()
        self.restarting: set[Mode] = set()
        self.reset_due: set[Mode] = set()
        self.outside = sorted(outside, key=lambda event: event.tag)
        self.late = set(late)
        self.now = Tag(0, 0)
        self.stop_tag = None if timeout_ns is None else Tag(timeout_ns, 0)
        self.keepalive = self._has_physical_action() if keepalive is None else keepalive
        self.last: dict[Any, Any] = {}
        self.spacings: dict[Any, Spacing] = {}
        self.at = AtTag()
        self.own_copies: dict[Node, Any] = {}
        self.steady: dict[Output[Any], Any] = {}
        self.steady_views: dict[Input[Any], Any] = {}
        self.log: list[Ran] = []
        self._bind()

    # What the program consists of

    def _look_at(self, reactor: Reactor) -> None:
        """Note the modes, the containment and the connections of `reactor`."""
        declared = reactor.declared
        for element in declared.elements.values():
            if isinstance(element, Mode) and element.initial:
                self.current[reactor] = element
        for name, child in declared.children.items():
            for member in child if isinstance(child, Bank) else [child]:
                self.modes_of_reactors[member] = declared.modes_of_children.get(name, self.modes_of_reactors[reactor])
        for connection in declared.connections:
            self.edges += self._edges(reactor, connection)

    def _edges(self, reactor: Reactor, connection: Connection) -> Iterator[Edge]:
        if connection.physical:
            raise NotImplementedError("The reference interpreter knows no physical time, so no physical connection.")
        left, right = list(connection.sources), list(connection.targets)
        if connection.broadcast:
            left = list(islice(cycle(left), len(right)))
        mode = connection.mode
        if mode is None and connection.after_ns is not None:
            mode = self.modes_of_reactors[reactor]  # what is on its way waits with the reactor; what is not, does not
        for source, target in zip(left, right, strict=True):
            yield Edge(source, target, connection.after_ns, mode)

    def _in_order(self, rows: list[Row]) -> list[Row]:
        """By inferred deadline, level, declaration.

        Raises:
            RecursionError: if reactions wait for one another.
        """
        before = self._before(rows)
        levels: dict[Row, int] = {}
        deadlines = {row: row.reaction.deadline_ns for row in rows}
        declared = {row: number for number, row in enumerate(rows)}

        def level_of(row: Row) -> int:
            if row not in levels:
                levels[row] = 1 + max((level_of(other) for other in before[row]), default=-1)
            return levels[row]

        for row in sorted(rows, key=level_of, reverse=True):
            for earlier in before[row]:
                known = [ns for ns in (deadlines[earlier], deadlines[row]) if ns is not None]
                deadlines[earlier] = min(known, default=None)

        def order_of(row: Row) -> tuple[float, int, int]:
            deadline_ns = deadlines[row]
            return float("inf") if deadline_ns is None else deadline_ns, level_of(row), declared[row]

        return sorted(rows, key=order_of)

    def _before(self, rows: list[Row]) -> dict[Row, set[Row]]:
        """What comes before each reaction: the one declared before it, and all that may write what it reads."""
        before: dict[Row, set[Row]] = {row: set() for row in rows}
        for earlier, later in pairwise(rows):
            if earlier.reactor is later.reactor:
                before[later].add(earlier)
        writers: dict[Any, list[Row]] = {}
        for row in rows:
            for port in row.reaction.effects:
                writers.setdefault(port, []).append(row)
        for reader in rows:
            roots = {
                root for port in _reads(reader) for c in range(port.channels) for root, _ in self._roots((port, c))
            }
            for writer in (row for root in roots for row in writers.get(root, [])):
                if not self._exclusive(writer.mode, reader.mode):
                    before[reader].add(writer)
        return before

    def _roots(self, node: Node) -> Iterator[Node]:
        """The channels whose values come to `node` without delay, itself included."""
        yield node
        for edge in self.edges:
            if edge.target == node and edge.after_ns is None:
                yield from self._roots(edge.source)

    def _exclusive(self, one: Mode | None, other: Mode | None) -> bool:
        """Whether the two are, or lie, in different modes of one reactor."""
        mine = {mode.owner: mode for mode in self._chain(one)}
        return any(mine.get(mode.owner, mode) is not mode for mode in self._chain(other))

    def _chain(self, mode: Mode | None) -> Iterator[Mode]:
        """`mode` and the modes around it."""
        while mode is not None:
            yield mode
            assert mode.owner is not None
            mode = self.modes_of_reactors[mode.owner]

    def _has_physical_action(self) -> bool:
        return any(isinstance(e, PhysicalAction) for r in self.reactors.values() for e in r.declared.elements.values())

    def _bind(self) -> None:
        """Let ports, actions and the rest act on this interpreter."""
        for reactor in self.reactors.values():
            reactor.live = ReferenceReactor(self, reactor)  # type: ignore[assignment]
            for element in reactor.declared.elements.values():
                if isinstance(element, Output):
                    element.live = ReferenceOutput(self, element)  # type: ignore[assignment]
                elif isinstance(element, Input):
                    element.live = ReferenceInput(self, element)  # type: ignore[assignment]
                elif isinstance(element, LogicalAction | PhysicalAction):
                    element.live = ReferenceAction(self, element)  # type: ignore[assignment]
                elif isinstance(element, Mode):
                    element.live = reactor.live
                elif isinstance(element, Watchdog):
                    element.live = ReferenceWatchdog()  # type: ignore[assignment]

    # Running

    def run(self) -> list[Ran]:
        """Tag after tag, to the end."""
        self.put(Tag(0, 0), Event(Special(startup, None), None))
        for timer, mode in self._timers():
            if self.is_active(mode):
                self.put(Tag(timer.offset_ns, 0), Event(timer, mode))
        for mode in self._all_modes():
            if self.is_active(mode):
                self.entered.add(mode)
                self.put(Tag(0, 0), Event(Special(startup, mode), mode))
        while True:
            tag = self._next_tag()
            is_last = tag == self.stop_tag
            self._execute(tag, is_last=is_last)
            if is_last:
                return self.log
            if tag == (0, 0):
                for row in self.rows:
                    if row.reaction.prepare is not None:
                        self.bodies[row] = row.reaction.prepare()

    def _next_tag(self) -> Tag:
        candidates = [*self.queue, *(event.tag for event in self.outside)]
        if not candidates and not self.keepalive:
            candidates = [Tag(self.now.time_ns, self.now.microstep + 1)]
            self.stop_tag = candidates[0] if self.stop_tag is None else min(self.stop_tag, candidates[0])
        if self.stop_tag is not None:
            candidates.append(self.stop_tag)
        if not candidates:
            raise RuntimeError("This program waits for ever. Give a timeout.")
        return min(candidates)

    def _execute(self, tag: Tag, *, is_last: bool) -> None:
        self.now = tag
        self.at = AtTag()
        for event in self.queue.pop(tag, []):
            self._happen(event)
        while self.outside and self.outside[0].tag == tag:
            come = self.outside.pop(0)
            action = self.reactors[come.path].declared.elements[come.action]
            if self.is_active(self._mode_of(action)):
                self._happen(Event(action, None, come.value))
        for row in self.rows:
            ends = is_last and shutdown in row.reaction.triggers and self._was_active(row.mode)
            if ends or (self.is_active(row.mode) and any(self._is_present(t, row) for t in row.reaction.triggers)):
                self._react(row)
        for edge in self.edges:
            if edge.after_ns is not None and edge.source in self.at.present and self.is_active(edge.mode):
                value = _copied_array(self.at.present[edge.source])
                self.put_free(self.later(edge.after_ns), Event(edge, edge.mode, value))
        if not is_last:
            self._change_modes()

    def _happen(self, event: Event) -> None:
        """Make present what `event` says."""
        cause = event.cause
        self.at.triggers.add(cause)
        if isinstance(cause, Edge):
            self.deliver(cause.target, event.value)
        elif isinstance(cause, Timer):
            if cause.period_ns:
                self.put(Tag(self.now.time_ns + cause.period_ns, 0), Event(cause, event.mode))
        elif not isinstance(cause, Special):
            self.last[cause] = event.value

    def _is_present(self, trigger: Any, row: Row) -> bool:
        if isinstance(trigger, Input):
            return any((trigger, channel) in self.at.present for channel in range(trigger.channels))
        if trigger is startup or trigger is reset:
            return Special(trigger, row.mode) in self.at.triggers
        return trigger in self.at.triggers

    def _was_active(self, mode: Mode | None) -> bool:
        return mode is None or mode in self.entered

    def _react(self, row: Row) -> None:
        """Run one reaction, or what stands in for it if its deadline is violated."""
        reaction = row.reaction
        late = reaction.deadline_ns == 0 or (self.now, row.reactor.path, reaction.name) in self.late
        self.own_copies = {}
        body = reaction.late if late else self.bodies[row]
        if body is not None:
            body()
        for port in reaction.effects:
            if port in self.steady:
                for channel in range(port.channels):
                    self.deliver((port, channel), np.copy(_part(self.steady[port], port, channel)))
        nodes = sorted(
            ((port, c) for port in reaction.effects if isinstance(port, Output) for c in range(port.channels)),
            key=lambda node: (node[0].name, node[1]),
        )
        outputs = [(p.name, c, _copied_array(self.at.present[p, c])) for p, c in nodes if (p, c) in self.at.present]
        self.log.append(Ran(*self.now, row.reactor.path, reaction.name, late, tuple(outputs)))

    def deliver(self, node: Node, value: Any) -> None:
        """A value comes to `node`, and at once to all that is connected without delay."""
        self.at.present[node] = value
        self.last[node] = value
        port, channel = node
        if port in self.steady_views:
            _part(self.steady_views[port], port, channel)[...] = value
        for edge in self.edges:
            if edge.source == node and edge.after_ns is None and self.is_active(edge.mode):
                self.deliver(edge.target, value)

    # The queue

    def later(self, delay_ns: int) -> Tag:
        """The tag that is `delay_ns` from now."""
        return Tag(self.now.time_ns + delay_ns, 0) if delay_ns else Tag(self.now.time_ns, self.now.microstep + 1)

    def put(self, tag: Tag, event: Event) -> None:
        """Put an event into the queue."""
        self.queue.setdefault(tag, []).append(event)

    def put_free(self, tag: Tag, event: Event) -> Tag:
        """Put an event into the queue, or if that tag has one of the same cause at the next free microstep."""
        if not self.is_active(event.mode):
            assert event.mode is not None
            self.parked.setdefault(event.mode, []).append((tag.time_ns - self.now.time_ns, event))
            return tag
        while any(other.cause is event.cause for other in self.queue.get(tag, [])):
            tag = Tag(tag.time_ns, tag.microstep + 1)
        self.put(tag, event)
        return tag

    def remove(self, event: Event) -> bool:
        """Take an event out of the queue; whether it was there."""
        for tag, events in list(self.queue.items()):
            if event in events:
                events.remove(event)
                if not events:
                    del self.queue[tag]
                return True
        return False

    def schedule(self, action: Any, value: Any, delay_ns: int) -> None:
        """A reaction schedules an action. When a physical one is present is given, not computed."""
        if isinstance(action, PhysicalAction):
            return
        asked = self.later(action.delay_ns + delay_ns)
        event = Event(action, self._mode_of(action), _copied_array(value))
        if action.min_spacing_ns is None:
            self.put_free(asked, event)
            return
        before = self.spacings.get(action)
        if before is not None:
            earliest = Tag(before.tag.time_ns + action.min_spacing_ns, 0)
            if action.min_spacing_ns == 0:
                earliest = Tag(before.tag.time_ns, before.tag.microstep + 1)
            if asked < earliest:
                is_pending = any(before.event in events for events in self.queue.values())
                if action.policy == "drop":
                    return
                if action.policy == "replace" and is_pending:
                    before.event.value = event.value
                    return
                if action.policy == "update" and is_pending:
                    self.remove(before.event)
                else:
                    asked = earliest
        self.spacings[action] = Spacing(self.put_free(asked, event), event)

    # Modes

    def is_active(self, mode: Mode | None) -> bool:
        """Whether `mode` and all modes around it are the current ones."""
        return all(self.current[inner.owner] is inner for inner in self._chain(mode) if inner.owner is not None)

    def _mode_of(self, element: Any) -> Mode | None:
        mode: Mode | None = element.mode
        return self.modes_of_reactors[element.owner] if mode is None else mode

    def _all_modes(self) -> list[Mode]:
        """All modes, those of containing reactors first."""
        return [e for r in self.reactors.values() for e in r.declared.elements.values() if isinstance(e, Mode)]

    def _timers(self) -> list[tuple[Timer, Mode | None]]:
        elements = [e for r in self.reactors.values() for e in r.declared.elements.values()]
        return [(timer, self._mode_of(timer)) for timer in elements if isinstance(timer, Timer)]

    def _change_modes(self) -> None:
        """Let the transitions of this tag take effect."""
        if not self.at.transitions:
            return
        was_active = {mode for mode in self._all_modes() if self.is_active(mode)}
        for reactor in self.reactors.values():
            self._transit(reactor)
        is_active = {mode for mode in self._all_modes() if self.is_active(mode)}
        for mode in was_active - is_active:
            leaving = [(tag, e) for tag in sorted(self.queue) for e in self.queue[tag] if e.mode is mode]
            for tag, event in leaving:
                self.remove(event)
                self.parked.setdefault(mode, []).append((tag.time_ns - self.now.time_ns, event))
        for mode in self._all_modes():
            if mode in is_active and (mode not in was_active or mode in self.restarting):
                self._enter(mode)

    def _transit(self, reactor: Reactor) -> None:
        """Make the mode of `reactor` the one that was asked for last."""
        around = self.modes_of_reactors[reactor]
        if reactor not in self.current:
            return
        assert around is None or around.owner is not None
        transitions = self.at.transitions
        if around is not None and around.owner is not None and transitions.get(around.owner) == (around, False):
            initial = next(m for m in reactor.declared.elements.values() if isinstance(m, Mode) and m.initial)
            transitions[reactor] = (initial, False)
        if reactor not in transitions:
            return
        mode, by_history = transitions[reactor]
        if by_history:
            if mode is not self.current[reactor]:
                self.reset_due.discard(mode)
        else:
            self._reset(mode)
        self.current[reactor] = mode

    def _reset(self, mode: Mode) -> None:
        """Forget what `mode` had to come, and restore its state."""
        self.restarting.add(mode)
        self.reset_due.add(mode)
        self.parked.pop(mode, None)
        for event in [e for events in self.queue.values() for e in events if e.mode is mode]:
            self.remove(event)
        for reactor in self.reactors.values():
            for name, state in reactor.declared.states.items():
                if (state.mode or self.modes_of_reactors[reactor]) is mode:
                    setattr(reactor, name, copy.deepcopy(state.first))

    def _enter(self, mode: Mode) -> None:
        """Start `mode` afresh, or let it go on where it was left."""
        soon = self.later(0)
        for trigger, is_due in ((startup, mode not in self.entered), (reset, mode in self.reset_due)):
            # Where nothing waits for it, it makes no tag.
            if is_due and any(row.mode is mode and trigger in row.reaction.triggers for row in self.rows):
                self.put(soon, Event(Special(trigger, mode), mode))
        if mode not in self.entered or mode in self.restarting:
            for timer, around in self._timers():
                if around is mode:
                    self.put(self.later(timer.offset_ns), Event(timer, mode))
        for remaining_ns, event in self.parked.pop(mode, []):
            self.put_free(self.later(remaining_ns), event)
        self.entered.add(mode)
        self.restarting.discard(mode)
        self.reset_due.discard(mode)


@dataclass(frozen=True, slots=True)
class ReferenceOutput:
    """What an output writes through."""

    world: Reference
    port: Output[Any]

    def set(self, value: Any, channel: int) -> None:
        if self.port.shape is not None:
            self.array(channel)[...] = value
        else:
            self.world.deliver((self.port, channel), value)

    def array(self, channel: int) -> Any:
        if self.port.shape is None:
            raise TypeError("This output declares no array, so there is nothing to fill in place. Use set(value).")
        node = (self.port, channel)
        array = self.world.at.present.get(node)
        if array is None:
            array = np.full(self.port.shape, 77, self.port.dtype)  # what is not written shows
        self.world.deliver(node, array)
        return array

    def is_present(self) -> bool:
        return any((self.port, channel) in self.world.at.present for channel in range(self.port.channels))

    def slots(self) -> list[Any]:
        return [self.world.steady.setdefault(self.port, _steady_memory(self.port))]


@dataclass(frozen=True, slots=True)
class ReferenceInput:
    """What an input reads through."""

    world: Reference
    port: Input[Any]

    def last(self, channel: int) -> Any:
        node = (self.port, channel)
        if node not in self.world.last:
            raise LookupError(f"Nothing has arrived at '{self.port}' yet.")
        return self._seen(node)

    def is_present(self) -> bool:
        return any((self.port, channel) in self.world.at.present for channel in range(self.port.channels))

    def all_present(self) -> list[Any]:
        nodes = [(self.port, channel) for channel in range(self.port.channels)]
        return [self._seen(node) if node in self.world.at.present else None for node in nodes]

    def slots(self) -> list[Any]:
        return [self.world.steady_views.setdefault(self.port, _steady_memory(self.port))]

    def _seen(self, node: Node) -> Any:
        """The value as the reaction that runs may have it."""
        value = self.world.last[node]
        if self.port.mutable:
            if node not in self.world.own_copies:
                self.world.own_copies[node] = copy.deepcopy(value)
            return self.world.own_copies[node]
        if isinstance(value, np.ndarray):
            value = value.view()
            value.flags.writeable = False
        return value


@dataclass(frozen=True, slots=True)
class ReferenceAction:
    """What an action schedules through."""

    world: Reference
    action: Any

    def schedule(self, value: Any, delay_ns: int) -> None:
        self.world.schedule(self.action, value, delay_ns)

    def last(self) -> Any:
        if self.action not in self.world.last:
            raise LookupError(f"Action '{self.action}' was never present.")
        return self.world.last[self.action]

    def is_present(self) -> bool:
        return self.action in self.world.at.triggers


@dataclass(frozen=True, slots=True)
class ReferenceReactor:
    """What a reactor asks."""

    world: Reference
    reactor: Reactor

    def tag(self) -> Tag:
        return self.world.now

    def physical_time_ns(self) -> int:
        return self.world.now.time_ns

    def request_stop(self) -> None:
        soon = self.world.later(0)
        if self.world.stop_tag is None or soon < self.world.stop_tag:
            self.world.stop_tag = soon

    def enter(self, mode: Mode, *, history: bool) -> None:
        self.world.at.transitions[self.reactor] = (mode, history)

    @property
    def mode(self) -> Mode:
        return self.world.current[self.reactor]


@dataclass(frozen=True, slots=True)
class ReferenceWatchdog:
    """A watchdog that never expires: there is no physical time."""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


def _walk(reactor: Reactor, path: str) -> Iterator[tuple[str, Reactor]]:
    """All reactors with their paths, containers first."""
    yield path, reactor
    for name, child in reactor.declared.children.items():
        below = f"{path}.{name}" if path else name
        if isinstance(child, Bank):
            for index, member in enumerate(child):
                yield from _walk(member, f"{below}[{index}]")
        else:
            yield from _walk(child, below)


def _reads(row: Row) -> list[Input[Any]]:
    return [port for port in (*row.reaction.triggers, *row.reaction.sources) if isinstance(port, Input)]


def _copied_array(value: Any) -> Any:
    """The value; of an array a copy, since its memory may be filled anew."""
    return np.copy(value) if isinstance(value, np.ndarray) else value


def _steady_memory(port: Any) -> Any:
    shape = port.shape if port.width is None else (port.width, *port.shape)
    return np.zeros(shape, port.dtype)


def _part(memory: Any, port: Any, channel: int) -> Any:
    return memory if port.width is None else memory[channel]
