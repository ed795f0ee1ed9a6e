"""How a reactor is written: ports, timers, reactions, containment and connections.

A class body names ports and timers; reactions refer to them by those names. Every instance gets its
own copies. `__init__` says structure and parameters only: the `startup` reaction builds state, where
it will live. Nothing here runs; `assembly` turns what is declared into tables.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, final

import numpy as np

from runtimes.reactor.errors import AssemblyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import DTypeLike, NDArray

    from runtimes.reactor.running import InputChannels, OutputChannels

__all__ = [
    "Bank",
    "Connection",
    "Declared",
    "Element",
    "Input",
    "Output",
    "PortBank",
    "Reaction",
    "Reactor",
    "Timer",
    "Trigger",
    "bank",
    "ms",
    "ns",
    "reaction",
    "s",
    "shutdown",
    "startup",
    "us",
]

T = TypeVar("T")
R = TypeVar("R", bound="Reactor")

ns: Final = 1
"""One nanosecond; logical time is integer nanoseconds."""
us: Final = 1_000
ms: Final = 1_000_000
s: Final = 1_000_000_000


class Element:
    """Something a reactor class names: a port or a timer. Bound to a reactor when one is made."""

    name: str = ""
    owner: Reactor | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        """Take the name of the class attribute."""
        self.name = name

    def bound_to(self, owner: Reactor, name: str) -> Element:
        """A copy of this declaration that belongs to `owner`."""
        bound = copy.copy(self)
        bound.owner = owner
        bound.name = name
        return bound


@dataclass(frozen=True, slots=True)
class _Special:
    """The two triggers that are no element."""

    name: str


startup: Final = _Special("startup")
"""Triggers a reaction once, at the first tag."""
shutdown: Final = _Special("shutdown")
"""Triggers a reaction once, at the last tag."""


class _Port(Element, Generic[T]):
    """What inputs and outputs share: width, and the array they may declare."""

    def __init__(
        self, *, width: int | None = None, shape: Sequence[int] | None = None, dtype: DTypeLike = "float64"
    ) -> None:
        if width is not None and width < 1:
            raise AssemblyError(f"A multiport has width {width}. Give at least 1.")
        self.width = width
        self.shape = None if shape is None else tuple(shape)
        self.dtype = np.dtype(dtype)

    @property
    def channels(self) -> int:
        """How many channels the port has: its width, or one."""
        return 1 if self.width is None else self.width

    def __str__(self) -> str:
        owner = "?" if self.owner is None else self.owner.path
        return f"{owner}.{self.name}" if owner else self.name


@final
class Output(_Port[T]):
    """An output port. With `shape` and `dtype` it carries arrays, filled in place in shared memory.

    `steady=True` promises that every tag in which its reaction may run gives a value: then no presence
    is kept, and slots turn with the tags (saves about 0.2 us a port and tag).
    """

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
        self.live: OutputChannels | None = None

    def set(self, value: T, channel: int = 0) -> None:
        """Make `value` present in this tag; the last one set counts.

        An array port copies it. Any other value is handed over as it is: do not change it afterwards.
        """
        self._running().set(channel, value)

    def array(self, channel: int = 0) -> NDArray[Any]:
        """The memory of an array port in this tag, to be written whole; present from now on."""
        return self._running().array(channel)

    @property
    def room(self) -> Callable[[], NDArray[Any]]:
        """What gives `array()`, without looking the port up each time: saves 0.2 us a call."""
        return partial(self._running().array, 0)

    def slots(self) -> list[NDArray[Any]]:
        """The memory of a steady port, by tag number modulo the number of slots.

        Each is one array, or for a multiport all channels as one.
        """
        return self._running().slots()

    def _running(self) -> OutputChannels:
        if self.live is None:
            raise AssemblyError(
                f"Output '{self}' is an effect of no reaction, or the program does not run. Name it in `effects`."
            )
        return self.live


@final
class Input(_Port[T]):
    """An input port. With `retain=k` what it received stays valid for k more tags."""

    def __init__(self, *, width: int | None = None, retain: int = 0) -> None:
        """Declare the port.

        Raises:
            AssemblyError: for a width below 1, or a negative `retain`.
        """
        super().__init__(width=width)
        if retain < 0:
            raise AssemblyError(f"An input has retain={retain}. Give 0 or more tags.")
        self.retain = retain
        self.live: InputChannels | None = None

    @property
    def is_present(self) -> bool:
        """Whether a value arrived in this tag, on any channel."""
        return self._running().is_present()

    @property
    def value(self) -> T | None:
        """The value of this tag, read-only; None if there is none."""
        value: T | None = self._running().present(0)
        return value

    @property
    def values(self) -> list[T | None]:
        """The values of this tag on all channels, in order, None where there is none."""
        return self._running().all_present()

    @property
    def read(self) -> Callable[[], T | None]:
        """What gives `value`, without looking the port up each time: saves 0.2 us a call."""
        return partial(self._running().present, 0)

    @property
    def read_all(self) -> Callable[[], list[T | None]]:
        """What gives `values`, without looking the port up each time."""
        return self._running().all_present

    def slots(self) -> list[Any] | None:
        """What arrives from steady ports, by tag number modulo the number of slots; None from others.

        Each is one read-only array, or for a multiport whose channels lie side by side all as one.
        """
        return self._running().slots()

    def _running(self) -> InputChannels:
        if self.live is None:
            raise AssemblyError(
                f"Input '{self}' is read by no reaction, or the program does not run. Name it as a trigger or source."
            )
        return self.live


@final
class Timer(Element):
    """Triggers at `offset_ns` after the start, then every `period_ns`; a period of 0 means once."""

    def __init__(self, period_ns: int = 0, *, offset_ns: int = 0) -> None:
        """Declare the timer.

        Raises:
            AssemblyError: for a negative offset or period.
        """
        if offset_ns < 0 or period_ns < 0:
            raise AssemblyError(
                f"A timer has offset {offset_ns} ns and period {period_ns} ns. Neither may be negative."
            )
        self.offset_ns = offset_ns
        self.period_ns = period_ns


Trigger = Timer | Input[Any] | _Special


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """Code with what triggers it, what else it reads, and what it may write."""

    name: str
    body: Callable[[], None]
    triggers: tuple[Trigger, ...]
    sources: tuple[Input[Any], ...]
    effects: tuple[Output[Any], ...]
    prepare: Callable[[], Callable[[], None]] | None = None
    """Called after startup: gives what runs in place of `body` from then on, with its state at hand."""


class _ReactionMethod(Generic[R]):
    """A method of a reactor class that is a reaction of each of its instances."""

    def __init__(
        self,
        function: Callable[[R], None],
        triggers: Sequence[Trigger],
        sources: Sequence[Input[Any]],
        effects: Sequence[Output[Any]],
    ) -> None:
        self.function = function
        self.triggers = triggers
        self.sources = sources
        self.effects = effects

    def __get__(self, instance: R | None, owner: type[R]) -> Any:
        """The plain method, so that a subclass may call it."""
        return self if instance is None else self.function.__get__(instance, owner)


def reaction(
    *triggers: Trigger, sources: Iterable[Input[Any]] = (), effects: Iterable[Output[Any]] = ()
) -> Callable[[Callable[[R], None]], _ReactionMethod[R]]:
    """Make a method a reaction: it runs at most once a tag, when any of `triggers` is present.

    Raises:
        AssemblyError: without a trigger.
    """
    if not triggers:
        raise AssemblyError("A reaction has no trigger and would never run. Name a port, a timer, startup or shutdown.")
    return lambda function: _ReactionMethod(function, triggers, tuple(sources), tuple(effects))


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One `connect` call: ports on both sides, channels paired in order."""

    sources: tuple[_Port[Any], ...]
    targets: tuple[_Port[Any], ...]
    after_ns: int | None
    broadcast: bool


@dataclass(slots=True)
class Declared:
    """What a reactor consists of."""

    elements: dict[str, Element] = field(default_factory=dict)
    children: dict[str, Reactor | Bank[Any]] = field(default_factory=dict)
    reactions: list[Reaction] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)


class Reactor:
    """A component with ports, reactions and state that nobody else touches. Subclass it."""

    path: str = ""
    """Where it stands in the program: `training.rollouts[3]`; set at assembly, empty for the main reactor."""

    declared: Declared
    """What this instance consists of; assembly reads it."""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:
        """Give the instance its own copies of what the class bodies declare, base classes first."""
        self = super().__new__(cls)
        self.__dict__["declared"] = Declared()
        for base in reversed(cls.__mro__):
            for name, element in vars(base).items():
                if isinstance(element, Element):
                    setattr(self, name, element)
        for base in reversed(cls.__mro__):
            for name, method in vars(base).items():
                if isinstance(method, _ReactionMethod):
                    self.declared.reactions.append(self._bind(name, method))
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """Bind ports, timers, reactors and banks to this reactor under their attribute's name."""
        if isinstance(value, Element):
            value = value.bound_to(self, name)
            self.declared.elements[name] = value
        elif isinstance(value, Reactor | Bank):
            self.declared.children[name] = value
        self.__dict__[name] = value

    def add_reaction(  # noqa: PLR0913 - the parts of a reaction; all but two are named at the call
        self,
        name: str,
        body: Callable[[], None],
        *,
        triggers: Sequence[Trigger],
        sources: Sequence[Input[Any]] = (),
        effects: Sequence[Output[Any]] = (),
        prepare: Callable[[], Callable[[], None]] | None = None,
    ) -> None:
        """Add a reaction to this instance; it runs after those of the class. For ports known only here.

        `prepare` is called once, after startup, where the reactor lives; what it gives runs in place of
        `body`. A closure that holds its state in local variables saves 0.1 us a reaction.
        """
        if not triggers:
            raise AssemblyError(f"Reaction '{name}' has no trigger and would never run. Name one.")
        self.declared.reactions.append(
            Reaction(
                name=name,
                body=body,
                triggers=tuple(triggers),
                sources=tuple(sources),
                effects=tuple(effects),
                prepare=prepare,
            )
        )

    def connect(
        self,
        sources: _Port[Any] | PortBank,
        targets: _Port[Any] | PortBank,
        *,
        after_ns: int | None = None,
        broadcast: bool = False,
    ) -> None:
        """Join ports of contained reactors (or own ports); channels pair in order, bank by bank.

        With `after_ns` a value arrives that much later. With `broadcast` the left side is repeated.

        Raises:
            AssemblyError: for a delay that is not positive.
        """
        if after_ns is not None and after_ns <= 0:
            raise AssemblyError(f"A connection has a delay of {after_ns} ns. Give more than 0, or leave it out.")
        self.declared.connections.append(
            Connection(
                sources=tuple(sources) if isinstance(sources, PortBank) else (sources,),
                targets=tuple(targets) if isinstance(targets, PortBank) else (targets,),
                after_ns=after_ns,
                broadcast=broadcast,
            )
        )

    def _bind(self, name: str, method: _ReactionMethod[Any]) -> Reaction:
        """The reaction that `method` of the class is on this instance."""

        def own(element: Any) -> Any:
            return self.declared.elements[element.name] if isinstance(element, Element) else element

        return Reaction(
            name=name,
            body=method.function.__get__(self, type(self)),
            triggers=tuple(own(trigger) for trigger in method.triggers),
            sources=tuple(own(source) for source in method.sources),
            effects=tuple(own(effect) for effect in method.effects),
        )


class PortBank(tuple["_Port[Any]", ...]):
    """The like-named ports of all members of a bank, in index order."""

    __slots__ = ()


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

    def port(self, name: str) -> PortBank:
        """The port `name` of all members, for names that are only known at run time."""
        ports = [member.__dict__.get(name) for member in self.members]
        if not all(isinstance(port, _Port) for port in ports):
            raise AssemblyError(f"The reactors of this bank have no port named '{name}'.")
        return PortBank(ports)  # type: ignore[arg-type]  # checked in the line above

    def __getattr__(self, name: str) -> PortBank:
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
