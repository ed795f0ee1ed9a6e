"""What a reactor class names: ports, timers, actions, modes, watchdogs, state.

A worker gives each something to act on; before that, reading or setting it is an error.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, Self, TypeVar, cast, final, overload

import numpy as np

from runtimes.reactor.errors import AssemblyError, UndeclaredError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import DTypeLike, NDArray

    from runtimes.reactor.declaration import Reactor
    from runtimes.reactor.events import LiveAction, LivePhysicalAction, LiveWatchdog
    from runtimes.reactor.live import Cell, LiveInput, LiveOutput, LiveReactor
    from runtimes.reactor.senders import Sender
    from runtimes.reactor.tags import Tag

__all__ = [
    "Element",
    "HandlerMethod",
    "Input",
    "LogicalAction",
    "Mode",
    "Output",
    "PhysicalAction",
    "Port",
    "SpacingPolicy",
    "State",
    "Timer",
    "Watchdog",
]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
R = TypeVar("R", bound="Reactor")
U = TypeVar("U")

SpacingPolicy = Literal["defer", "drop", "replace", "update"]
"""What becomes of an event that comes too soon after the one before."""


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

    def in_flight(self, channel: int = 0) -> list[tuple[Tag, Any]]:
        """What was set and has not arrived yet through the delayed connection that takes longest.

        The oldest first, each with the tag at which it arrives; nothing without a delayed connection. Arrays are
        views of memory that later tags use again.
        """
        return self._live().in_flight(channel)

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
        return self._live().reading()

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

    def handler(self, *, effects: Iterable[LogicalAction[Any]] = ()) -> Callable[[Callable[[R], None]], HandlerMethod]:  # pyright: ignore[reportInvalidTypeVarUse] - what it gives is the decorator, which R belongs to
        """Make a method the handler; it never runs beside the reactor's reactions, and may schedule `effects`."""
        return lambda function: HandlerMethod(cast("Callable[[Any], None]", function), self, tuple(effects))

    def _live(self) -> LiveWatchdog:
        if self.live is None:
            raise UndeclaredError(f"Watchdog '{self}' is an effect of no reaction, or the program does not run.")
        return self.live


class HandlerMethod:
    """A method that handles a watchdog's expiry."""

    def __init__(
        self, function: Callable[[Any], None], watchdog: Watchdog, effects: tuple[LogicalAction[Any], ...]
    ) -> None:
        self.function = function
        self.watchdog = watchdog
        self.effects = effects

    def __get__(self, instance: Any, owner: type) -> Any:
        return self if instance is None else self.function.__get__(instance, owner)


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
