"""How a reactor is written: ports, actions, timers, modes, watchdogs, reactions, containment, connections.

A class body names its elements; reactions refer to them by those names. Every instance gets its own
copies. `__init__` says structure and parameters only: the `startup` reaction builds state, where it
will live. Nothing here runs; `assembly` turns what is declared into tables, and a worker gives ports
and actions something to act on.
"""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    TypeVar,
    cast,
    final,
    overload,
)

import numpy as np

from runtimes.reactor.errors import AssemblyError, UndeclaredError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

    from runtimes.reactor.events import LiveAction, LivePhysicalAction, LiveWatchdog
    from runtimes.reactor.live import (
        Cell,
        LiveInput,
        LiveOutput,
        LiveReactor,
    )
    from runtimes.reactor.senders import Sender

__all__ = [
    "Bank",
    "Connection",
    "Declared",
    "Effect",
    "Element",
    "Input",
    "LogicalAction",
    "Mode",
    "Output",
    "PhysicalAction",
    "Port",
    "PortBank",
    "Reaction",
    "Reactor",
    "Source",
    "SpacingPolicy",
    "State",
    "Tag",
    "Timer",
    "Trigger",
    "Watchdog",
    "bank",
    "interleaved",
    "ms",
    "ns",
    "reaction",
    "reset",
    "s",
    "shutdown",
    "startup",
    "stop",
    "us",
]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R = TypeVar("R", bound="Reactor")
R_contra = TypeVar("R_contra", bound="Reactor", contravariant=True)
U = TypeVar("U")

ns: Final = 1
"""One nanosecond; time is integer nanoseconds."""
us: Final = 1_000
"""One microsecond."""
ms: Final = 1_000_000
"""One millisecond."""
s: Final = 1_000_000_000
"""One second."""

SpacingPolicy = Literal["defer", "drop", "replace", "update"]
"""What becomes of an event that comes too soon after the one before."""


class Tag(NamedTuple):
    """A point in logical time: nanoseconds since the program's start, then microsteps."""

    time_ns: int
    microstep: int = 0

    def __str__(self) -> str:
        """As people write it: (5000000 ns, 1)."""
        return f"({self.time_ns} ns, {self.microstep})"


class Element:
    """Something a reactor class names. Bound to a reactor when one is made."""

    # Slots here and below, as ports are looked into in every reaction: an attribute saves 20 ns.
    __slots__ = ("__orig_class__", "mode", "name", "owner")

    def __init__(self, mode: Mode | None = None) -> None:
        """Belong to `mode`, or to all modes."""
        self.name = ""
        self.owner: Reactor | None = None
        self.mode = mode

    def bound_to(self, owner: Reactor, name: str) -> Self:
        """A copy of this declaration that belongs to `owner`."""
        bound = copy.copy(self)
        bound.owner = owner
        bound.name = name
        if self.mode is not None and self.mode.owner is not owner:
            bound.mode = cast("Mode", owner.declared.elements[self.mode.name])
        return bound

    def __str__(self) -> str:
        """Its path in the program."""
        owner = "?" if self.owner is None else self.owner.path
        return f"{owner}.{self.name}" if owner else self.name


@dataclass(frozen=True, slots=True)
class _Special:
    """A trigger or effect that is no element."""

    name: str


startup: Final = _Special("startup")
"""Triggers a reaction once: at the first tag, or when its mode is entered for the first time."""
shutdown: Final = _Special("shutdown")
"""Triggers a reaction once, at the last tag."""
reset: Final = _Special("reset")
"""Triggers a reaction of a mode when that is entered by a reset."""
stop: Final = _Special("stop")
"""The effect of a reaction that may call `request_stop`."""


class Port(Element, Generic[T]):
    """What inputs and outputs share: width, and the array they may declare."""

    __slots__ = ("dtype", "shape", "width")

    def __init__(self, *, width: int | None, shape: Sequence[int] | None, dtype: DTypeLike) -> None:
        """Declare the port.

        Raises:
            AssemblyError: for a width below 1.
        """
        super().__init__()
        if width is not None and width < 1:
            raise AssemblyError(f"A multiport has width {width}. Give at least 1.")
        self.width = width
        self.shape = None if shape is None else tuple(shape)
        self.dtype = np.dtype(dtype)

    @property
    def channels(self) -> int:
        """How many channels the port has: its width, or one."""
        return 1 if self.width is None else self.width

    @property
    def carries(self) -> Any:
        """The type it was declared with (`Output[int]()`), None without one."""
        alias = getattr(self, "__orig_class__", None)
        return None if alias is None else alias.__args__[0]


@final
class Output(Port[T]):
    """An output port. With `shape` and `dtype` it carries arrays, filled in place in shared memory.

    `steady=True` promises that every tag in which its reaction may run gives a value: then no presence
    is kept, and slots turn with the tags (saves about 0.2 us a port and tag).
    """

    __slots__ = ("live", "set", "steady")

    def __init__(
        self,
        *,
        width: int | None = None,
        shape: Sequence[int] | None = None,
        dtype: DTypeLike = "float64",
        steady: bool = False,
    ) -> None:
        """Declare the port.

        Raises:
            AssemblyError: for a width below 1, or a steady port without a shape.
        """
        super().__init__(width=width, shape=shape, dtype=dtype)
        if steady and shape is None:
            raise AssemblyError("A steady output has no shape. Declare shape and dtype, or drop steady.")
        self.steady = steady
        self.live: LiveOutput | None = None
        self.set: Setter[T] = _NotLive(self)
        """`set(value, channel=0)` makes `value` present in this tag; the last one set counts.

        An array port copies it. Any other value is handed over as it is: do not change it afterwards.
        """

    def bound_to(self, owner: Reactor, name: str) -> Self:
        """A copy of this declaration that belongs to `owner`."""
        bound = super().bound_to(owner, name)
        bound.set = _NotLive(bound)
        return bound

    def act_on(self, live: LiveOutput | None, setter: Setter[T] | None = None) -> None:
        """Write through `live` from now on; values by `setter`, where there is a shorter way."""
        self.live = live
        self.set = _NotLive(self) if live is None else setter or live.set

    def array(self, channel: int = 0) -> NDArray[Any]:
        """The memory of an array port in this tag, to be written whole; present from now on."""
        return self._live().array(channel)

    @property
    def is_present(self) -> bool:
        """Whether a value was set in this tag, on any channel."""
        return self._live().is_present()

    def slots(self) -> list[NDArray[Any]]:
        """The memory of a steady port, by tag number modulo the number of slots.

        Each is one array, or for a multiport all channels as one.
        """
        return self._live().slots()

    def _live(self) -> LiveOutput:
        if self.live is None:
            raise UndeclaredError(
                f"Output '{self}' is an effect of no reaction, or the program does not run. Name it in `effects`."
            )
        return self.live


class Setter(Protocol[T_contra]):
    """What sets a value."""

    def __call__(self, value: T_contra, channel: int = 0) -> None:
        """Make `value` present on `channel`."""
        ...


class _NotLive:
    """In place of what sets a value, while there is none."""

    def __init__(self, port: Output[Any]) -> None:
        self._port = port

    def __call__(self, value: Any, channel: int = 0) -> None:
        self._port._live().set(value, channel)  # noqa: SLF001 - raises the port's own error


@final
class Input(Port[T]):
    """An input port. What it received stays valid until the next value, with `retain=k` for k more tags.

    `mutable=True` gives each reaction a copy of its own, to be changed at will. With `shape` and `dtype`
    it accepts only outputs that declare the same array.
    """

    __slots__ = ("cell", "live", "mutable", "retain")

    def __init__(
        self,
        *,
        width: int | None = None,
        shape: Sequence[int] | None = None,
        dtype: DTypeLike = "float64",
        retain: int = 0,
        mutable: bool = False,
    ) -> None:
        """Declare the port.

        Raises:
            AssemblyError: for a width below 1, or a negative `retain`.
        """
        super().__init__(width=width, shape=shape, dtype=dtype)
        if retain < 0:
            raise AssemblyError(f"An input has retain={retain}. Give 0 or more tags.")
        self.retain = retain
        self.mutable = mutable
        self.live: LiveInput | None = None
        self.cell: Cell | None = None
        """What `value` is looked up in first: saves 0.1 us against asking `live`."""

    @property
    def value(self) -> T:
        """The value received last, in this tag or before; read-only unless the port is mutable.

        Raises:
            LookupError: if nothing has arrived yet.
        """
        cell = self.cell
        if cell is not None and cell.stamp >= 0:
            value: T = cell.value
            return value
        last: T = self._live().last(0)
        return last

    @property
    def is_present(self) -> bool:
        """Whether a value arrived in this tag, on any channel."""
        return self._live().is_present()

    def act_on(self, live: LiveInput | None, cell: Cell | None = None) -> None:
        """Read through `live` from now on; the value from `cell`, where that is the shorter way."""
        self.live = live
        self.cell = cell

    @overload
    def get(self) -> T | None: ...
    @overload
    def get(self, default: U) -> T | U: ...
    def get(self, default: Any = None) -> Any:
        """The value of this tag, `default` if there is none."""
        live = self._live()
        if self.width is None:
            return live.last(0) if live.is_present() else default
        value = live.all_present()[0]
        return default if value is None else value

    @property
    def values(self) -> list[T | None]:
        """The values of this tag on all channels, in order, None where there is none."""
        return self._live().all_present()

    def reading(self) -> Callable[[], list[T | None]]:
        """What gives `values`, without looking the port up each time: saves 0.15 us."""
        return self._live().all_present

    def __getitem__(self, channel: int) -> T:
        """The value received last on a channel.

        Raises:
            LookupError: if nothing has arrived there yet.
        """
        value: T = self._live().last(channel)
        return value

    def slots(self) -> list[Any] | None:
        """What arrives from steady ports, by tag number modulo the number of slots; None from others.

        Each is one read-only array, or for a multiport whose channels lie side by side all as one.
        """
        return self._live().slots()

    def _live(self) -> LiveInput:
        if self.live is None:
            raise UndeclaredError(
                f"Input '{self}' is read by no reaction, or the program does not run. Name it as a trigger or source."
            )
        return self.live


@final
class Timer(Element):
    """Triggers at `offset_ns` after the start, then every `period_ns`; a period of 0 means once."""

    __slots__ = ("offset_ns", "period_ns")

    def __init__(self, period_ns: int = 0, *, offset_ns: int = 0, mode: Mode | None = None) -> None:
        """Declare the timer; in a `mode`, time counts from the entry and stands still outside.

        Raises:
            AssemblyError: for a negative offset or period.
        """
        if offset_ns < 0 or period_ns < 0:
            raise AssemblyError(
                f"A timer has offset {offset_ns} ns and period {period_ns} ns. Neither may be negative."
            )
        super().__init__(mode)
        self.offset_ns = offset_ns
        self.period_ns = period_ns


class _Action(Element, Generic[T]):
    """What both kinds of action share."""

    __slots__ = ("delay_ns", "live", "min_spacing_ns", "policy")

    def __init__(
        self,
        delay_ns: int = 0,
        *,
        min_spacing_ns: int | None = None,
        policy: SpacingPolicy = "defer",
        mode: Mode | None = None,
    ) -> None:
        """Declare the action.

        Args:
            delay_ns: Added to what is asked for when it is scheduled.
            min_spacing_ns: The least time between two of its events; zero means one microstep.
            policy: What becomes of an event that comes too soon: `defer` moves it to the earliest tag that
                keeps the spacing; `drop` ignores it; `replace` puts its value into the pending event, else
                defers; `update` removes the pending event and takes the tag asked for.
            mode: The mode it belongs to, if any.

        Raises:
            AssemblyError: for a negative delay or spacing, or an unknown policy.
        """
        super().__init__(mode)
        if delay_ns < 0 or (min_spacing_ns is not None and min_spacing_ns < 0):
            raise AssemblyError(
                f"An action has a delay of {delay_ns} ns and a spacing of {min_spacing_ns} ns. Neither may be negative."
            )
        if policy not in {"defer", "drop", "replace", "update"}:
            raise AssemblyError(
                f"Unknown spacing policy '{policy}'. {did_you_mean(policy, ['defer', 'drop', 'replace', 'update'])}"
            )
        self.delay_ns = delay_ns
        self.min_spacing_ns = min_spacing_ns
        self.policy: SpacingPolicy = policy
        self.live: LiveAction | None = None

    @property
    def value(self) -> T:
        """What the action was scheduled with, last.

        Raises:
            LookupError: if it was never present.
        """
        value: T = self._live().last()
        return value

    @property
    def is_present(self) -> bool:
        """Whether an event of it is present in this tag."""
        return self._live().is_present()

    def _live(self) -> LiveAction:
        if self.live is None:
            raise UndeclaredError(
                f"Action '{self}' is named by no reaction, or the program does not run. Name it as a trigger, source "
                "or effect."
            )
        return self.live


@final
class LogicalAction(_Action[T]):
    """Something a reactor schedules for itself, later in logical time."""

    __slots__ = ()

    def schedule(self, value: T | None = None, *, delay_ns: int = 0) -> None:
        """Schedule an event: at (t + d, 0) for a total delay d > 0, else in the next microstep.

        Raises:
            ValueError: for a negative delay.
            UndeclaredError: in a reaction that does not name it as an effect.
        """
        self._live().schedule(value, delay_ns)


@final
class PhysicalAction(_Action[T]):
    """Something that happens outside: it gets its tag from the physical clock. Keeps the program alive."""

    __slots__ = ()

    def schedule(self, value: T | None = None, *, delay_ns: int = 0) -> None:
        """Schedule an event at the physical time of now plus the delays. From any thread where its reactor lives.

        Raises:
            ValueError: for a negative delay.
        """
        self._live().schedule(value, delay_ns)

    def sender(self) -> Sender:
        """What other processes schedule it with: it can be pickled, forked along, and outlives no program.

        Raises:
            UndeclaredError: if the program does not run, or the reactor lives in another process.
        """
        return cast("LivePhysicalAction", self._live()).sender()


@final
class Mode(Element):
    """A mode of a reactor: what belongs to it acts only while it is active. One mode is active at a time.

    In `__init__`, reactors, connections and reactions made inside `with self.mode:` belong to the mode.
    """

    __slots__ = ("initial", "live")

    def __init__(self, *, initial: bool = False) -> None:
        """Declare the mode; exactly one of a reactor is its `initial` mode."""
        super().__init__()
        self.initial = initial
        self.live: LiveReactor | None = None

    def reset(self) -> None:
        """Enter this mode after the tag and start it afresh; the last transition of a tag counts.

        Raises:
            UndeclaredError: in a reaction that does not name the mode as an effect.
        """
        self._live().enter(self, history=False)

    def history(self) -> None:
        """Enter this mode after the tag, and go on where it was left.

        Raises:
            UndeclaredError: in a reaction that does not name the mode as an effect.
        """
        self._live().enter(self, history=True)

    @property
    def is_active(self) -> bool:
        """Whether the reactor is in this mode."""
        return self._live().mode is self

    def __enter__(self) -> Self:
        """What the reactor declares until the end of the block belongs to this mode."""
        assert self.owner is not None
        self.owner.declared.entered = self
        return self

    def __exit__(self, *_: object) -> None:
        assert self.owner is not None
        self.owner.declared.entered = None

    def _live(self) -> LiveReactor:
        if self.live is None:
            raise UndeclaredError(f"Mode '{self}' is named by no reaction, or the program does not run.")
        return self.live


@final
class Watchdog(Element):
    """Runs a handler when physical time gets past a logical expiry that nobody moved or cancelled."""

    __slots__ = ("live", "timeout_ns")

    def __init__(self, timeout_ns: int) -> None:
        """Declare the watchdog.

        Raises:
            AssemblyError: for a timeout that is not positive.
        """
        super().__init__()
        if timeout_ns <= 0:
            raise AssemblyError(f"A watchdog has a timeout of {timeout_ns} ns. Give more than 0.")
        self.timeout_ns = timeout_ns
        self.live: LiveWatchdog | None = None

    def start(self) -> None:
        """Let it expire `timeout_ns` after the logical time of now; if it was running, that is moved."""
        self._live().start()

    def stop(self) -> None:
        """Cancel it."""
        self._live().stop()

    def handler(self, *, effects: Iterable[LogicalAction[Any]] = ()) -> Callable[[Callable[[R], None]], _HandlerMethod]:  # pyright: ignore[reportInvalidTypeVarUse] - what it gives is the decorator, which R belongs to
        """Make a method the handler; it never runs beside the reactor's reactions, and may schedule `effects`."""
        return lambda function: _HandlerMethod(cast("Callable[[Any], None]", function), self, tuple(effects))

    def _live(self) -> LiveWatchdog:
        if self.live is None:
            raise UndeclaredError(f"Watchdog '{self}' is an effect of no reaction, or the program does not run.")
        return self.live


class State(Generic[T]):
    """State that a mode restores: when `mode` is entered by reset it gets its first value again.

    On a reactor that is contained in a mode, leave `mode` out. On the instance it is a plain attribute.
    """

    name = ""

    def __init__(self, first: T, *, mode: Mode | None = None) -> None:
        """Declare it with its first value; every reactor gets a copy."""
        self.first = first
        self.mode = mode

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> T: ...
        def __get__(self, instance: object | None, owner: type) -> Any: ...
        def __set__(self, instance: object, value: T) -> None: ...


Trigger = Timer | Input[Any] | LogicalAction[Any] | PhysicalAction[Any] | _Special
Source = Input[Any] | LogicalAction[Any] | PhysicalAction[Any]
Effect = Output[Any] | LogicalAction[Any] | PhysicalAction[Any] | Mode | Watchdog | _Special


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """Code with what triggers it, what else it reads, and what it may do."""

    name: str
    body: Callable[[], None]
    triggers: tuple[Trigger, ...]
    sources: tuple[Source, ...]
    effects: tuple[Effect, ...]
    mode: Mode | None = None
    deadline_ns: int | None = None
    late: Callable[[], None] | None = None
    """Runs instead of the body when the deadline is violated."""
    prepare: Callable[[], Callable[[], None]] | None = None
    """Called after startup, and whenever the reactor has moved: gives what runs in place of `body` from then on."""


class ReactionMethod(Generic[R_contra]):
    """A method of a reactor class that is a reaction of each of its instances."""

    def __init__(  # noqa: PLR0913 - the parts of a reaction, all named at the call
        self,
        function: Callable[[R_contra], None],
        *,
        triggers: tuple[Trigger, ...],
        sources: tuple[Source, ...],
        effects: tuple[Effect, ...],
        mode: Mode | None,
        deadline_ns: int | None,
    ) -> None:
        """Remember the method and what it declares."""
        self.function = function
        self.triggers = triggers
        self.sources = sources
        self.effects = effects
        self.mode = mode
        self.deadline_ns = deadline_ns
        self.late_function: Callable[[R_contra], None] | None = None

    def late(self, function: Callable[[R_contra], None]) -> Callable[[R_contra], None]:
        """Make a method the handler of the reaction's deadline; it runs instead, and may set the same effects."""
        self.late_function = function
        return function

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, instance: R_contra, owner: type[Any]) -> Callable[[], None]: ...
    def __get__(self, instance: R_contra | None, owner: type[Any]) -> Any:
        """The plain method, so that a subclass may call it."""
        return self if instance is None else self.function.__get__(instance, owner)


class _HandlerMethod:
    """A method that handles a watchdog's expiry."""

    def __init__(
        self, function: Callable[[Any], None], watchdog: Watchdog, effects: tuple[LogicalAction[Any], ...]
    ) -> None:
        self.function = function
        self.watchdog = watchdog
        self.effects = effects

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self.function.__get__(instance, owner)


def reaction(
    *triggers: Trigger,
    sources: Iterable[Source] = (),
    effects: Iterable[Effect] = (),
    mode: Mode | None = None,
    deadline_ns: int | None = None,
) -> Callable[[Callable[[R], None]], ReactionMethod[R]]:
    """Make a method a reaction: it runs at most once a tag, when any of `triggers` is present.

    Args:
        triggers: Ports, timers, actions, `startup`, `shutdown` or `reset`.
        sources: What it reads besides; their presence does not trigger it.
        effects: What it may set, schedule, start or enter; `stop` to be allowed to call `request_stop`.
        mode: It runs only while the reactor is in this mode.
        deadline_ns: If physical time is past the tag by more than this when it is its turn, the method that
            is decorated with `<reaction>.late` runs instead.

    Raises:
        AssemblyError: without a trigger, or for a negative deadline.
    """
    if not triggers:
        raise AssemblyError("A reaction has no trigger and would never run. Name a port, a timer, startup or shutdown.")
    if deadline_ns is not None and deadline_ns < 0:
        raise AssemblyError(f"A reaction has a deadline of {deadline_ns} ns. Give 0 or more.")
    return lambda function: ReactionMethod(
        function,
        triggers=triggers,
        sources=tuple(sources),
        effects=tuple(effects),
        mode=mode,
        deadline_ns=deadline_ns,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One `connect` call: channels on both sides, in the order in which they pair."""

    sources: tuple[tuple[Port[Any], int], ...]
    targets: tuple[tuple[Port[Any], int], ...]
    after_ns: int | None
    broadcast: bool
    physical: bool
    mode: Mode | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """What runs when a watchdog expires."""

    watchdog: Watchdog
    name: str
    body: Callable[[], None]
    effects: tuple[LogicalAction[Any], ...]


@dataclass(slots=True)
class Declared:
    """What a reactor consists of."""

    elements: dict[str, Element] = field(default_factory=dict)
    children: dict[str, Reactor | Bank[Any]] = field(default_factory=dict)
    modes_of_children: dict[str, Mode] = field(default_factory=dict)
    """Of contained reactors that belong to a mode: which."""
    reactions: list[Reaction] = field(default_factory=list)
    handlers: list[Handler] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    states: dict[str, State[Any]] = field(default_factory=dict)
    entered: Mode | None = None
    """The mode that what is declared now belongs to."""


class ReactorType(type):
    """The type of reactor classes: keeps what a class body names apart from the class, and knows when one is made.

    CPython looks up `self.port` two to three times as fast if the class has no attribute of that name, and stores
    state (`self.count += 1`) twenty times as fast if the class has no `__setattr__`: it has one only while
    reactors are being made.
    """

    declared_parts: dict[str, Element | State[Any]]
    _being_made = 0
    _lock = threading.Lock()

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any], **more: Any) -> ReactorType:
        """Make a class, and take elements and marked state out of its body."""
        parts = {key: part for key, part in body.items() if isinstance(part, Element | State)}
        for key, part in parts.items():
            del body[key]
            part.name = key
            _check_name(key, name)
        made = super().__new__(mcs, name, bases, body, **more)
        made.declared_parts = parts
        return made

    # Type checkers take the attributes of class and instance from the class body, and need not know of these.
    if not TYPE_CHECKING:

        def __getattr__(cls, name: str) -> Any:
            """What a class body names: `Base.port`."""
            for base in cls.__mro__:
                part = vars(base).get("declared_parts", {}).get(name)
                if part is not None:
                    return part
            raise AttributeError(f"Reactor class '{cls.__name__}' has no part or method '{name}'.")

        def __call__(cls, *args: Any, **more: Any) -> Any:
            """Make a reactor; while that goes on, parts that are assigned to it are bound."""
            with ReactorType._lock:
                ReactorType._being_made += 1
                Reactor.__setattr__ = _bind_part
            try:
                return super().__call__(*args, **more)
            finally:
                with ReactorType._lock:
                    ReactorType._being_made -= 1
                    if not ReactorType._being_made:
                        del Reactor.__setattr__


class Reactor(metaclass=ReactorType):
    """A component with ports, reactions and state that nobody else touches. Subclass it.

    Elements, reactors and banks assigned to attributes in `__init__` become parts of it.
    """

    path: str = ""
    """Where it stands in the program: `training.rollouts[3]`; set at assembly, empty for the main reactor."""

    declared: Declared
    """What this instance consists of; assembly reads it."""

    live: LiveReactor | None = None
    """What it can ask while the program runs."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """Give the instance its own copies of what the class bodies declare, base classes first."""
        self = super().__new__(cls)
        self.declared = Declared()
        bases = list(reversed(cls.__mro__))
        named = [item for base in bases for item in vars(base).get("declared_parts", {}).items()]
        # A mode first: what belongs to it is bound to the reactor's own copy of it.
        for kind in (Mode, Element):
            for name, element in named:
                if isinstance(element, kind) and name not in self.declared.elements:
                    self.add(name, getattr(cls, name))
        for name, state in named:
            if isinstance(state, State):
                self.declared.states[name] = replace_mode(state, self)
                setattr(self, name, copy.deepcopy(state.first))
        methods = [item for base in bases for item in vars(base).items()]
        reactions = {name: method for name, method in methods if isinstance(method, ReactionMethod)}
        self.declared.reactions += [self._bind(name, method) for name, method in reactions.items()]
        handlers = {name: method for name, method in methods if isinstance(method, _HandlerMethod)}
        self.declared.handlers += [self._bind_handler(name, method) for name, method in handlers.items()]
        return self

    def add(self, name: str, part: Any) -> Any:
        """Add a port, timer, action, reactor or bank under a name that is only known at run time; gives it, bound.

        Raises:
            AssemblyError: if the name is taken.
        """
        declared = self.declared
        if part is declared.elements.get(name):
            return part
        _check_name(name, type(self).__name__)
        if name in declared.elements or name in declared.children:
            raise AssemblyError(f"'{type(self).__name__}' has two parts named '{name}'. Give one another name.")
        if isinstance(part, Element):
            part = part.bound_to(self, name)
            if part.mode is None and not isinstance(part, Mode):
                part.mode = declared.entered
            declared.elements[name] = part
        else:
            declared.children[name] = part
            if declared.entered is not None:
                declared.modes_of_children[name] = declared.entered
        object.__setattr__(self, name, part)
        return part

    def add_reaction(  # noqa: PLR0913 - the parts of a reaction; all but two are named at the call
        self,
        name: str,
        body: Callable[[], None],
        *,
        triggers: Sequence[Trigger],
        sources: Sequence[Source] = (),
        effects: Sequence[Effect] = (),
        deadline_ns: int | None = None,
        late: Callable[[], None] | None = None,
        prepare: Callable[[], Callable[[], None]] | None = None,
    ) -> None:
        """Add a reaction to this instance; it runs after those of the class. For ports known only here.

        `prepare` is called after startup, where the reactor lives; what it gives runs in place of
        `body`. A closure that holds its state in local variables saves 0.1 us a reaction.

        Raises:
            AssemblyError: without a trigger, or if the name is taken by another reaction.
        """
        if not triggers:
            raise AssemblyError(f"Reaction '{name}' has no trigger and would never run. Name one.")
        if any(known.name == name for known in self.declared.reactions):
            raise AssemblyError(f"'{type(self).__name__}' has two reactions named '{name}'. Give one another name.")
        self.declared.reactions.append(
            Reaction(
                name=name,
                body=body,
                triggers=tuple(triggers),
                sources=tuple(sources),
                effects=tuple(effects),
                mode=self.declared.entered,
                deadline_ns=deadline_ns,
                late=late,
                prepare=prepare,
            )
        )

    def connect(
        self,
        sources: Port[T] | PortBank[T],
        targets: Port[T] | PortBank[T],
        *,
        after_ns: int | None = None,
        broadcast: bool = False,
        physical: bool = False,
    ) -> None:
        """Join ports of contained reactors (or own ports); channels pair in order, bank by bank.

        Args:
            sources: What is sent from.
            targets: What receives.
            after_ns: A value arrives that much later; 0 means in the next microstep.
            broadcast: The left side is repeated.
            physical: A value gets its tag anew, from the physical clock on arrival (plus `after_ns`).

        Raises:
            AssemblyError: for a negative delay.
        """
        if after_ns is not None and after_ns < 0:
            raise AssemblyError(f"A connection has a delay of {after_ns} ns. Give 0 or more, or leave it out.")
        self.declared.connections.append(
            Connection(
                sources=_channels(sources),
                targets=_channels(targets),
                after_ns=after_ns,
                broadcast=broadcast,
                physical=physical,
                mode=self.declared.entered,
            )
        )

    @property
    def tag(self) -> Tag:
        """The tag at hand."""
        return self._live().tag()

    @property
    def physical_time_ns(self) -> int:
        """Physical time since the program's start."""
        return self._live().physical_time_ns()

    def request_stop(self) -> None:
        """End the program with the next microstep; a reaction that calls it names `stop` as an effect.

        Raises:
            UndeclaredError: in a reaction that does not.
        """
        self._live().request_stop()

    def _live(self) -> LiveReactor:
        if self.live is None:
            raise UndeclaredError(f"Reactor '{self.path or type(self).__name__}' is in no program that runs.")
        return self.live

    def _own(self, part: Any) -> Any:
        """What `part` of the class is on this instance."""
        if isinstance(part, Element):
            known = self.declared.elements.get(part.name)
            if known is None:
                raise AssemblyError(
                    f"'{type(self).__name__}' names '{part.name}' in a reaction, which is no part of it. "
                    f"{did_you_mean(part.name, self.declared.elements)}"
                )
            return known
        return part

    def _bind(self, name: str, method: ReactionMethod[Any]) -> Reaction:
        """The reaction that `method` of the class is on this instance."""
        late = method.late_function
        return Reaction(
            name=name,
            body=method.function.__get__(self, type(self)),
            triggers=tuple(self._own(trigger) for trigger in method.triggers),
            sources=tuple(self._own(source) for source in method.sources),
            effects=tuple(self._own(effect) for effect in method.effects),
            mode=self._own(method.mode),
            deadline_ns=method.deadline_ns,
            late=None if late is None else late.__get__(self, type(self)),
        )

    def _bind_handler(self, name: str, method: _HandlerMethod) -> Handler:
        """The handler that `method` of the class is on this instance."""
        return Handler(
            watchdog=self._own(method.watchdog),
            name=name,
            body=method.function.__get__(self, type(self)),
            effects=tuple(self._own(effect) for effect in method.effects),
        )


def _check_name(name: str, owner: str) -> None:
    """Raise if a part of that name would hide what every reactor has.

    Raises:
        AssemblyError: if it would.
    """
    if name in _RESERVED:
        raise AssemblyError(f"'{owner}' has a part named '{name}', as every reactor has. Give it another name.")


_RESERVED: Final = frozenset(
    {"add", "add_reaction", "connect", "declared", "live", "path", "physical_time_ns", "request_stop", "tag"}
)


def _bind_part(self: Reactor, name: str, value: Any) -> None:
    """Bind elements, reactors and banks to a reactor under their attribute's name."""
    if isinstance(value, Element | Reactor | Bank):
        self.add(name, value)
    else:
        object.__setattr__(self, name, value)


class PortBank(Generic[T]):
    """The like-named ports of all members of a bank, in index order."""

    def __init__(self, ports: Iterable[Port[T]], *, interleaved: bool = False) -> None:
        """The ports, paired bank by bank, or if `interleaved` channel by channel."""
        self.ports = tuple(ports)
        self.interleaved = interleaved

    def __iter__(self) -> Iterator[Port[T]]:
        return iter(self.ports)

    def __len__(self) -> int:
        return len(self.ports)


def interleaved(ports: PortBank[T]) -> PortBank[T]:
    """The same ports, their channels in another order: channel 0 of all members, then channel 1 of all."""
    return PortBank(ports, interleaved=True)


def _channels(side: Port[Any] | PortBank[Any]) -> tuple[tuple[Port[Any], int], ...]:
    """The channels of one side of a connection, in the order in which they pair."""
    ports = (side,) if isinstance(side, Port) else side.ports
    channels = [(port, channel) for port in ports for channel in range(port.channels)]
    if isinstance(side, PortBank) and side.interleaved:
        channels.sort(key=lambda place: place[1])
    return tuple(channels)


@dataclass(slots=True)
class Bank(Generic[R]):
    """Like reactors; `bank.port` is that port of all of them."""

    members: list[R] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[R]:
        return iter(self.members)

    def __getitem__(self, index: int) -> R:
        return self.members[index]

    def each(self, port: Callable[[R], Port[T]]) -> PortBank[T]:
        """That port of all members, seen by type checkers: `rollouts.each(lambda rollout: rollout.batch)`."""
        return PortBank(port(member) for member in self.members)

    def port(self, name: str) -> PortBank[Any]:
        """The port `name` of all members, for names that are only known at run time.

        Raises:
            AssemblyError: if they have no such port.
        """
        ports = [member.declared.elements.get(name) for member in self.members]
        if not all(isinstance(port, Port) for port in ports):
            known = [key for key, element in self.members[0].declared.elements.items() if isinstance(element, Port)]
            raise AssemblyError(f"The reactors of this bank have no port named '{name}'. {did_you_mean(name, known)}")
        return PortBank(cast("list[Port[Any]]", ports))

    def __getattr__(self, name: str) -> PortBank[Any]:
        """The port `name` of all members."""
        if name.startswith("_"):
            raise AttributeError(name)
        return self.port(name)


def bank(width: int, make: Callable[[int], R]) -> Bank[R]:
    """`width` reactors, each made by `make(index)`.

    Raises:
        AssemblyError: for a width below 1.
    """
    if width < 1:
        raise AssemblyError(f"A bank has width {width}. Give at least 1.")
    return Bank([make(index) for index in range(width)])


def replace_mode(state: State[Any], owner: Reactor) -> State[Any]:
    """`state` with the mode that is `owner`'s own."""
    if state.mode is None:
        return state
    bound = copy.copy(state)
    bound.mode = cast("Mode", owner.declared.elements[state.mode.name])
    return bound
