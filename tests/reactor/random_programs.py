"""Random reactor programs whose every output depends on all that came before.

A `CellPlan` describes a reactor with all that it contains, and `plan_of` draws one. Each reaction mixes
what it sees into a checksum that decides what it does: which outputs it sets, what it schedules, which
mode it enters, whether it stops the program. So a value that is late, stale, torn, out of order or
missing changes all that follows, and with it the trace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from zlib import crc32

import numpy as np

from runtimes.reactor import (
    Bank,
    Input,
    LogicalAction,
    Mode,
    Output,
    Port,
    PortBank,
    Reactor,
    State,
    Timer,
    bank,
    interleaved,
    reset,
    shutdown,
    startup,
    stop,
)
from tests.reactor.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from runtimes.reactor.elements import SpacingPolicy

__all__ = ["CellPlan", "Plan", "plan_of", "program_of"]

MODES: Final = ("mode0", "mode1", "mode2")
LAST_BUSY_MICROSTEP: Final = 5
"""From the next one on nothing is scheduled and nothing sent, so that time goes on."""
SCHEDULES: Final = 25
"""So often a reactor may schedule an action, so that a program ends."""
SENDS: Final = 80
"""So often it may set an output that others read, for the same reason."""
TRANSITIONS: Final = 12
"""So often it may ask for another mode, for the same reason."""
SPECIAL: Final = {"startup": startup, "shutdown": shutdown, "reset": reset, "stop": stop}


@dataclass(frozen=True, slots=True)
class PortPlan:
    """An input or output."""

    name: str
    width: int | None = None
    is_array: bool = False
    mutable: bool = False


@dataclass(frozen=True, slots=True)
class TimerPlan:
    """A timer."""

    name: str
    period_ns: int
    offset_ns: int
    mode: str | None


@dataclass(frozen=True, slots=True)
class ActionPlan:
    """A logical action."""

    name: str
    delay_ns: int
    spacing_ns: int | None
    policy: SpacingPolicy
    mode: str | None


@dataclass(frozen=True, slots=True)
class ReactionPlan:
    """A reaction, by the names of what it declares."""

    name: str
    triggers: tuple[str, ...]
    sources: tuple[str, ...]
    effects: tuple[str, ...]
    mode: str | None
    is_late: bool
    """Whether it has a deadline of 0."""


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """A contained reactor, or a bank of them."""

    name: str
    width: int | None
    cell: CellPlan
    mode: str | None


@dataclass(frozen=True, slots=True)
class SidePlan:
    """One side of a connection: a port of the child of that name, or of the reactor itself."""

    child: str
    port: str
    is_interleaved: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """A connection."""

    source: SidePlan
    target: SidePlan
    after_ns: int | None
    broadcast: bool
    mode: str | None


@dataclass(frozen=True, slots=True)
class CellPlan:
    """A reactor with all that it contains."""

    salt: int
    is_modal: bool
    inputs: tuple[PortPlan, ...]
    outputs: tuple[PortPlan, ...]
    timers: tuple[TimerPlan, ...]
    actions: tuple[ActionPlan, ...]
    reactions: tuple[ReactionPlan, ...]
    children: tuple[ChildPlan, ...] = ()
    connections: tuple[ConnectionPlan, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole program, and how long it runs."""

    main: CellPlan
    timeout_ns: int | None


class Cell(Reactor):
    """A reactor as its plan says."""

    said = Output[int]()
    """The checksum after every reaction; connected to nothing."""
    marked = State(0)

    def __init__(self, plan: CellPlan, index: int = 0) -> None:
        self.plan = plan
        self.checksum = crc32(repr((plan.salt, index)).encode())
        self.schedules_left = SCHEDULES
        self.sends_left = SENDS
        self.transitions_left = TRANSITIONS
        for port in plan.inputs:
            array = {"shape": (3,), "dtype": "int64"} if port.is_array else {}
            self.add(port.name, Input[Any](width=port.width, mutable=port.mutable, **array))  # type: ignore[arg-type]
        for port in plan.outputs:
            array = {"shape": (3,), "dtype": "int64"} if port.is_array else {}
            self.add(port.name, Output[Any](width=port.width, **array))  # type: ignore[arg-type]
        for timer in plan.timers:
            self.add(timer.name, Timer(timer.period_ns, offset_ns=timer.offset_ns, mode=self.part(timer.mode)))
        for action in plan.actions:
            planned = LogicalAction[Any](
                action.delay_ns,
                min_spacing_ns=action.spacing_ns,
                policy=action.policy,
                mode=self.part(action.mode),
            )
            self.add(action.name, planned)
        for number, planned_reaction in enumerate(plan.reactions):
            self._add_reaction(number, planned_reaction)
        for child in plan.children:
            self._inside(child.mode, partial(self._add_child, child))
        for connection in plan.connections:
            self._inside(connection.mode, partial(self._add_connection, connection))

    def part(self, name: str | None) -> Any:
        """The element or special trigger of that name."""
        if name is None:
            return None
        return SPECIAL.get(name) or self.declared.elements[name]

    def _inside(self, mode: str | None, make: Callable[[], None]) -> None:
        if mode is None:
            make()
        else:
            with self.part(mode):
                make()

    def _add_reaction(self, number: int, plan: ReactionPlan) -> None:
        def add() -> None:
            self.add_reaction(
                plan.name,
                partial(self.react, number, "in time"),
                triggers=[self.part(name) for name in plan.triggers],
                sources=[self.part(name) for name in plan.sources],
                effects=[self.said, *(self.part(name) for name in plan.effects)],
                deadline_ns=0 if plan.is_late else None,
                late=partial(self.react, number, "late") if plan.is_late else None,
            )

        self._inside(plan.mode, add)

    def _add_child(self, plan: ChildPlan) -> None:
        kind = ModalCell if plan.cell.is_modal else Cell
        if plan.width is None:
            self.add(plan.name, kind(plan.cell))
        else:
            self.add(plan.name, bank(plan.width, lambda index: kind(plan.cell, index)))

    def _add_connection(self, plan: ConnectionPlan) -> None:
        self.connect(self._side(plan.source), self._side(plan.target), after_ns=plan.after_ns, broadcast=plan.broadcast)

    def _side(self, plan: SidePlan) -> Port[Any] | PortBank[Any]:
        if not plan.child:
            port: Port[Any] = self.part(plan.port)
            return port
        child = self.declared.children[plan.child]
        if isinstance(child, Bank):
            ports: PortBank[Any] = child.port(plan.port)
            return interleaved(ports) if plan.is_interleaved else ports
        only: Port[Any] = cast("Port[Any]", child.declared.elements[plan.port])
        return only

    def react(self, number: int, how: str) -> None:
        """Mix everything that can be seen into the checksum, then do what that decides."""
        plan = self.plan.reactions[number]
        seen = [self._look_at(name) for name in (*plan.triggers, *plan.sources)]
        set_before = [self.part(name).is_present for name in plan.effects if isinstance(self.part(name), Output)]
        modes = [self.part(name).is_active for name in plan.effects if name in MODES]
        parts = (number, how, tuple(self.tag), self.checksum, self.marked, seen, set_before, modes)
        self.checksum = crc32(repr(parts).encode())
        self.marked += 1
        for name in plan.effects:
            self._act_on(name)
        self.said.set(self.checksum)

    def _decide(self, *about: Any) -> int:
        """A number that the checksum decides."""
        return crc32(repr((self.checksum, *about)).encode())

    def _look_at(self, name: str) -> Any:
        """What can be seen of a trigger or source, read the way a port or action is read."""
        part = self.part(name)
        if isinstance(part, Input):
            last = [_plain(_last(partial(part.__getitem__, channel))) for channel in range(part.channels)]
            now = [_plain(value) for value in part.values]
            return part.is_present, now, _plain(part.get(-1)) if part.channels == 1 else None, last
        if isinstance(part, LogicalAction):
            return part.is_present, _last(lambda: part.value)
        return None

    def _act_on(self, name: str) -> None:
        """Set, schedule, enter or stop, or do not."""
        part = self.part(name)
        decision = self._decide(name)
        if name == "stop":
            if decision % 32 == 0:
                self.request_stop()
        elif isinstance(part, Mode):
            if self.transitions_left and decision % 3 == 0:
                self.transitions_left -= 1
                (part.reset if decision % 2 else part.history)()
        elif self.tag.microstep <= LAST_BUSY_MICROSTEP:
            if isinstance(part, Output):
                if not self.sends_left:
                    return
                self.sends_left -= 1
                for channel in range(part.channels):
                    self._send(part, channel, self._decide(name, channel))
            elif self.schedules_left and decision % 3:
                self.schedules_left -= 1
                part.schedule(self._decide(name, "value"), delay_ns=decision % 4)

    def _send(self, port: Output[Any], channel: int, decision: int) -> None:
        if decision % 4 == 0:
            return
        if port.shape is None:
            if decision % 5 == 0:
                port.set("overwritten", channel)
            port.set([decision, self.checksum], channel)
        elif decision % 2:
            port.array(channel)[...] = [decision, self.checksum, channel]
        else:
            port.set(np.array([decision, channel, self.checksum]), channel)


class ModalCell(Cell):
    """A reactor with three modes; one has marked state."""

    mode0 = Mode(initial=True)
    mode1 = Mode()
    mode2 = Mode()
    in_one = State(0, mode=mode1)

    def react(self, number: int, how: str) -> None:
        if self.part("mode1").is_active:
            self.in_one += 1
        self.checksum = crc32(repr((self.checksum, self.in_one)).encode())
        super().react(number, how)


def _last(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except LookupError:
        return "nothing yet"


def _plain(value: Any) -> Any:
    return ("array", value.tolist()) if isinstance(value, np.ndarray) else value


def program_of(plan: Plan) -> Callable[[], Reactor]:
    """What makes the program's main reactor; picklable."""
    return partial(ModalCell if plan.main.is_modal else Cell, plan.main)


# Drawing plans


@dataclass(frozen=True, slots=True)
class Style:
    """What a program is made of."""

    periods: tuple[int, ...]
    offsets: tuple[int, ...]
    delays: tuple[int, ...]
    actions: tuple[int, ...]
    modal: float
    """The share of reactors with modes."""
    late: float
    """The share of reactions with a deadline of 0."""
    stop: float
    """The share of reactions that may stop the program."""


FREE: Final = Style((1, 2, 3, 5, 0), (0, 0, 1, 2, 4), (0, 1, 2, 3), (1, 1, 2), modal=0.35, late=0.1, stop=0.08)
STYLES: Final = (
    FREE,
    FREE,
    replace(FREE, modal=0.0),
    replace(FREE, periods=(2, 3, 4), actions=(0, 1)),
    # Ends of itself.
    replace(FREE, periods=(0,)),
    # Clocked: its tags are known beforehand.
    Style((3,), (0, 0, 0, 3, 6), (3, 6), (0,), modal=0.0, late=0.0, stop=0.0),
)


def plan_of(random: Random) -> Plan:
    """Draw a program."""
    main = _cell(random, random.choice(STYLES), depth=random.choice([1, 1, 1, 2, 2, 3]), is_main=True)
    timeout_ns = random.choice([0, 4, 8, 9, 12, 14, 20])
    return Plan(main, timeout_ns if _has_period(main) else random.choice([None, timeout_ns]))


def _has_period(cell: CellPlan) -> bool:
    return any(timer.period_ns for timer in cell.timers) or any(_has_period(child.cell) for child in cell.children)


def _some(random: Random, of: list[Any], most: int, least: int = 0) -> list[Any]:
    """Some of them, each once."""
    count = random.randint(min(least, len(of)), min(most, len(of)))
    return random.sample(of, count)


def _cell(random: Random, style: Style, depth: int, *, is_main: bool = False) -> CellPlan:
    """Draw a reactor."""
    is_modal = random.random() < style.modal
    modes: list[str | None] = [None, *MODES] if is_modal else [None]
    inputs = [] if is_main else [_port(random, f"in{i}") for i in range(random.randint(1, 3))]
    outputs = [] if is_main else [replace(_port(random, f"out{i}"), mutable=False) for i in range(random.randint(1, 3))]
    timers = [
        TimerPlan(f"timer{i}", random.choice(style.periods), random.choice(style.offsets), random.choice(modes))
        for i in range(random.choice([0, 1, 2, 2]))
    ]
    actions = [_action(random, f"action{i}", modes) for i in range(random.choice(style.actions))]
    children = [
        _child(random, style, f"child{i}", depth - 1, modes) for i in range(random.randint(2, 3) if depth else 0)
    ]
    relayed = _some(random, [port.name for port in outputs], 2) if children else []
    cell = CellPlan(
        salt=random.randrange(1 << 16),
        is_modal=is_modal,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        timers=tuple(timers),
        actions=tuple(actions),
        reactions=(),
        children=tuple(children),
    )
    cell = replace(cell, reactions=tuple(_reactions(random, style, cell, modes, relayed)))
    connections = _connections(random, style, cell, relayed, modes)
    # A zero-delay loop is no program: delay what closes one.
    kept: list[ConnectionPlan] = []
    for connection in connections:
        is_loop = _runs_back(cell, connection) and not _is_causal(replace(cell, connections=(*kept, connection)))
        kept.append(replace(connection, after_ns=random.choice(style.delays)) if is_loop else connection)
    if any(_runs_back(cell, connection) for connection in kept) and not _is_causal(
        replace(cell, connections=tuple(kept))
    ):
        kept = [replace(c, after_ns=style.delays[-1]) if _runs_back(cell, c) else c for c in kept]
    return replace(cell, connections=tuple(kept))


def _runs_back(cell: CellPlan, connection: ConnectionPlan) -> bool:
    """Whether it leads without delay to a child that is declared before, or to the child itself."""
    siblings = [child.name for child in cell.children]
    source, target = connection.source.child, connection.target.child
    return connection.after_ns is None and bool(source and target) and siblings.index(source) >= siblings.index(target)


def _is_causal(cell: CellPlan) -> bool:
    try:
        Reference((ModalCell if cell.is_modal else Cell)(cell))
    except RecursionError:
        return False
    return True


def _port(random: Random, name: str) -> PortPlan:
    return PortPlan(
        name,
        width=random.choice([None, None, None, 1, 2, 3]),
        is_array=random.random() < 0.25,
        mutable=random.random() < 0.25,
    )


def _action(random: Random, name: str, modes: list[str | None]) -> ActionPlan:
    mode = random.choice(modes)
    return ActionPlan(
        name,
        delay_ns=random.choice([0, 0, 1, 3]),
        spacing_ns=random.choice([None, None, 0, 2, 4]) if mode is None else None,
        policy=random.choice(["defer", "drop", "replace", "update"]),
        mode=mode,
    )


def _child(random: Random, style: Style, name: str, depth: int, modes: list[str | None]) -> ChildPlan:
    width = random.choice([None, None, None, 2, 3] if depth == 0 else [None, None, None, 2])
    return ChildPlan(name, width, _cell(random, style, depth), random.choice([None, *modes]))


def _reactions(
    random: Random, style: Style, cell: CellPlan, modes: list[str | None], relayed: list[str]
) -> list[ReactionPlan]:
    """Draw reactions: every timer, action and input has a chance to trigger one."""
    own = [port.name for port in cell.outputs if port.name not in relayed]
    inputs = [port.name for port in cell.inputs]
    timers = [timer.name for timer in cell.timers]
    reactions: list[ReactionPlan] = []
    for number in range(random.randint(1, 4)):
        mode = random.choice(modes)
        readable = [*inputs, *(action.name for action in cell.actions)]
        special = ["startup", "shutdown", *(["reset"] if cell.is_modal and mode else [])]
        candidates = [*timers, *timers, *readable, *(special if random.random() < 0.4 else [])] or ["startup"]
        triggers = sorted(set(_some(random, candidates, 3, least=1)))
        sources = _some(random, [name for name in readable if name not in triggers], 2)
        sends = own
        if "shutdown" in triggers and style.modal:
            # At the end those of inactive modes run too: what passes between them and other modes has no order there.
            sends = []
            triggers = [name for name in triggers if name not in inputs]
            sources = [name for name in sources if name not in inputs]
        effects = [
            *_some(random, sends, 2),
            *(a.name for a in cell.actions if _may_schedule(a, mode) and random.random() < 0.6),
        ]
        if cell.is_modal and random.random() < 0.7:
            effects += _some(random, list(MODES), 2, least=1)
        if random.random() < style.stop:
            effects.append("stop")
        reactions.append(
            ReactionPlan(
                f"reaction{number}",
                tuple(triggers),
                tuple(sources),
                tuple(effects),
                mode,
                is_late=random.random() < style.late,
            )
        )
    for action in cell.actions:
        may = [i for i, planned in enumerate(reactions) if _may_schedule(action, planned.mode)]
        if may and not any(action.name in planned.effects for planned in reactions):
            at = random.choice(may)
            reactions[at] = replace(reactions[at], effects=(*reactions[at].effects, action.name))
    for name in [*inputs, *timers, *(action.name for action in cell.actions)]:
        may = [i for i, r in enumerate(reactions) if not (name in inputs and style.modal and "shutdown" in r.triggers)]
        if may and not any(name in planned.triggers for planned in reactions):
            at = random.choice(may)
            rest = tuple(source for source in reactions[at].sources if source != name)
            reactions[at] = replace(reactions[at], triggers=(*reactions[at].triggers, name), sources=rest)
    return reactions


def _may_schedule(action: ActionPlan, mode: str | None) -> bool:
    """Whether a reaction in `mode` may schedule it: not while its mode is inactive."""
    return action.mode is None or action.mode == mode


def _connections(
    random: Random, style: Style, cell: CellPlan, relayed: list[str], modes: list[str | None]
) -> list[ConnectionPlan]:
    """Draw connections: at most one to each input (two, of different modes) and to each output that is passed on."""
    sources = [SidePlan("", port.name) for port in cell.inputs]
    sources += [SidePlan(child.name, port.name) for child in cell.children for port in child.cell.outputs]
    targets = [SidePlan(child.name, port.name) for child in cell.children for port in child.cell.inputs]
    targets += [SidePlan("", name) for name in relayed]
    connections = []
    for target in targets:
        mode = random.choice(modes)
        found = _connection(random, style, cell, random.choice(sources), target, mode) if sources else None
        if found is not None and random.random() < 0.85:
            connections.append(found)
            if mode is not None and random.random() < 0.5:
                other = random.choice([m for m in MODES if m != mode])
                second = _connection(random, style, cell, random.choice(sources), target, other)
                if second is not None:
                    connections.append(second)
    return connections


def _connection(  # noqa: PLR0913, PLR0917 - where it is, what it joins
    random: Random, style: Style, cell: CellPlan, source: SidePlan, target: SidePlan, mode: str | None
) -> ConnectionPlan | None:
    """A connection from `source` to `target`, None if they do not fit."""
    left, right = _facts(cell, source), _facts(cell, target)
    if left[0] > right[0] or (right[1] and not left[1]):
        return None
    siblings = [child.name for child in cell.children]
    is_forward = not source.child or not target.child or siblings.index(source.child) < siblings.index(target.child)
    delays: list[int | None] = [None] * (max(1, len(style.delays) // 2) if is_forward else 1) + list(style.delays)
    if source.child == target.child:
        delays = list(style.delays)
    return ConnectionPlan(
        replace(source, is_interleaved=random.random() < 0.3),
        replace(target, is_interleaved=random.random() < 0.3),
        random.choice(delays),
        broadcast=left[0] != right[0],
        mode=mode,
    )


def _facts(cell: CellPlan, side: SidePlan) -> tuple[int, bool]:
    """How many channels a side has, and whether they carry arrays."""
    members = 1
    if side.child:
        child = next(child for child in cell.children if child.name == side.child)
        cell, members = child.cell, child.width or 1
    port = next(port for port in (*cell.inputs, *cell.outputs) if port.name == side.port)
    return members * (port.width or 1), port.is_array
