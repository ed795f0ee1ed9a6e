"""Reactions: code with what triggers it, what it reads and what it may do; handlers of watchdogs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, overload

from runtimes.reactor.elements import Input, LogicalAction, Mode, Output, PhysicalAction, Timer, Watchdog
from runtimes.reactor.errors import AssemblyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runtimes.reactor.declaration import Reactor

__all__ = [
    "Effect",
    "Handler",
    "Reaction",
    "ReactionMethod",
    "Source",
    "Trigger",
    "reaction",
    "reset",
    "shutdown",
    "startup",
    "stop",
]

R = TypeVar("R", bound="Reactor")
R_contra = TypeVar("R_contra", bound="Reactor", contravariant=True)


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
class Handler:
    """What runs when a watchdog expires."""

    watchdog: Watchdog
    name: str
    body: Callable[[], None]
    effects: tuple[LogicalAction[Any], ...]
