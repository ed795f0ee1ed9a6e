"""Connections, and banks of like reactors, whose ports connect as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from runtimes.reactor.elements import Mode, Port
from runtimes.reactor.errors import AssemblyError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from runtimes.reactor.declaration import Reactor

__all__ = ["Bank", "Connection", "PortBank", "bank", "channels_of", "interleaved"]

T = TypeVar("T")
R = TypeVar("R", bound="Reactor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One `connect` call: channels on both sides, in the order in which they pair."""

    sources: tuple[tuple[Port[Any], int], ...]
    targets: tuple[tuple[Port[Any], int], ...]
    after_ns: int | None
    broadcast: bool
    physical: bool
    mode: Mode | None

    def pairs(self) -> Iterator[tuple[tuple[Port[Any], int], tuple[Port[Any], int]]]:
        """The channels that it joins.

        Raises:
            AssemblyError: if one side has more than the other.
        """
        left, right = list(self.sources), list(self.targets)
        if self.broadcast:
            left = list(islice(cycle(left), len(right)))
        if len(left) != len(right):
            raise AssemblyError(
                f"Width of '{left[0][0]}' is {len(left)} but '{right[0][0]}' has {len(right)} "
                "channels. Use broadcast=True to repeat the left side."
            )
        return zip(left, right, strict=True)


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


def channels_of(side: Port[Any] | PortBank[Any]) -> tuple[tuple[Port[Any], int], ...]:
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
