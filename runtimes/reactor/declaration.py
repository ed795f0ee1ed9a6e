"""How a reactor is written: its class, what that names, and what an instance consists of.

A class body names its elements; reactions refer to them by those names. Every instance gets its own
copies. `__init__` says structure and parameters only: the `startup` reaction builds state, where it
will live. Nothing here runs; `assembly` turns what is declared into tables, and a worker gives ports
and actions something to act on.
"""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from runtimes.reactor.connections import Bank, Connection, channels_of
from runtimes.reactor.elements import Element, HandlerMethod, Mode, State
from runtimes.reactor.errors import AssemblyError, UndeclaredError, did_you_mean
from runtimes.reactor.reactions import Handler, Reaction, ReactionMethod

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtimes.reactor.connections import PortBank
    from runtimes.reactor.elements import Port
    from runtimes.reactor.live import LiveReactor
    from runtimes.reactor.reactions import Effect, Source, Trigger
    from runtimes.reactor.tags import Tag

__all__ = ["Declared", "Reactor", "ReactorType"]

T = TypeVar("T")


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
        handlers = {name: method for name, method in methods if isinstance(method, HandlerMethod)}
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
                sources=channels_of(sources),
                targets=channels_of(targets),
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

    def moved_away(self) -> None:
        """Called where this reactor was, once it lives in another process: what is left here is its copy.

        Does nothing unless overridden: to drop memory that is not needed here any more. What was opened must stay
        open, since it is shared with the process where the reactor lives.
        """

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

    def _bind_handler(self, name: str, method: HandlerMethod) -> Handler:
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


def replace_mode(state: State[Any], owner: Reactor) -> State[Any]:
    """`state` with the mode that is `owner`'s own."""
    if state.mode is None:
        return state
    bound = copy.copy(state)
    bound.mode = cast("Mode", owner.declared.elements[state.mode.name])
    return bound
