"""Connections resolved: which output channel the values of each input channel come from.

Every pair of channels that a connection joins is checked here. Where a plain connection will not do, for
a delay, physical time or connections of several modes, a hidden reactor is put into the program.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runtimes.reactor.connections import Bank, Connection
from runtimes.reactor.elements import Input, Mode, Output, Port
from runtimes.reactor.errors import AssemblyError
from runtimes.reactor.relays import Hidden, Merge, Relay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runtimes.reactor.assembly import ModeRow
    from runtimes.reactor.declaration import Reactor

__all__ = ["Channel", "Wiring", "mode_number"]

Channel = tuple[Any, int]
"""A port and the number of one of its channels."""


class Wiring:
    """Connections resolved: for every input channel the output channel that its values come from."""

    def __init__(
        self,
        reactors: dict[str, Reactor],
        modes: Sequence[ModeRow],
        mode_of: dict[str, int | None],
        period_ns: int,
    ) -> None:
        """Take up the connections of all `reactors`; hidden reactors are added to these and to `mode_of`.

        Raises:
            AssemblyError: for a connection that breaks a rule.
        """
        self.reactors = reactors
        self.modes = modes
        self.mode_of = mode_of
        self.period_ns = period_ns
        self.homes: dict[str, str] = {}
        self._direct: dict[Channel, list[tuple[Channel, Connection, Reactor]]] = {}
        self._relays: dict[tuple[Channel, int, bool, int | None], Channel] = {}
        self._roots: dict[Channel, tuple[Channel, int] | None] = {}
        written = {
            p for r in reactors.values() for x in r.declared.reactions for p in x.effects if isinstance(p, Output)
        }
        for reactor in list(reactors.values()):
            inside = {id(reactor), *(id(contained) for contained in _contained(reactor))}
            for connection in reactor.declared.connections:
                for source, target in connection.pairs():
                    self._add(source, target, connection, reactor, inside, written)

    def feeds(self) -> dict[Input[Any], tuple[tuple[Channel, int] | None, ...]]:
        """For every input, channel by channel, what it is fed by, and the delay in tags."""
        found: dict[Input[Any], tuple[tuple[Channel, int] | None, ...]] = {}
        for reactor in list(self.reactors.values()):
            for port in reactor.declared.elements.values():
                if isinstance(port, Input):
                    found[port] = tuple(self._root((port, channel)) for channel in range(port.channels))
        # Also where nobody reads: what is delayed makes a tag all the same.
        for channel in list(self._direct):
            self._root(channel)
        for path in self.homes:
            for port in self.reactors[path].declared.elements.values():
                if isinstance(port, Input):
                    found[port] = (self._roots[port, 0],)
        return found

    def _add(  # noqa: PLR0913, PLR0917 - a pair, and where it stands
        self,
        source: Channel,
        target: Channel,
        connection: Connection,
        reactor: Reactor,
        inside: set[int],
        written: set[Output[Any]],
    ) -> None:
        """Take up one pair of channels that `connection` of `reactor` joins."""
        for port, _ in (source, target):
            if id(port.owner) not in inside:
                raise AssemblyError(
                    f"Connection '{source[0]}' -> '{target[0]}' is out of scope: '{port}' belongs neither to "
                    f"'{reactor.path or 'the main reactor'}' nor to a reactor directly inside it."
                )
        _check_direction(source[0], target[0], reactor)
        _check_types(source[0], target[0])
        if target[0] in written:
            raise AssemblyError(
                f"Port '{target[0]}' has two writers: a reaction of its own reactor and '{source[0]}'. A port has one."
            )
        others = self._direct.setdefault(target, [])
        for other, at, _ in others:
            if connection.mode is None or at.mode is None or connection.mode is at.mode:
                raise AssemblyError(
                    f"Port '{target[0]}' has two sources, '{other[0]}' and '{source[0]}'. A port has one, except in "
                    "different modes."
                )
        others.append((source, connection, reactor))

    def _root(self, channel: Channel) -> tuple[Channel, int] | None:
        """The output channel where the values of `channel` come from in the end, and the delay in tags."""
        if channel not in self._roots:
            self._roots[channel] = None
            self._roots[channel] = self._find_root(channel)
        return self._roots[channel]

    def _find_root(self, channel: Channel) -> tuple[Channel, int] | None:
        """As `_root`, for a channel that was not asked for before."""
        ways = self._direct.get(channel)
        if not ways:
            return (channel, 0) if isinstance(channel[0], Output) else None
        hops = [(self._hop(source, connection, reactor), connection, reactor) for source, connection, reactor in ways]
        moded = [(hop[0], c, r) for hop, c, r in hops if hop is not None and c.mode is not None]
        if not moded:
            return hops[0][0]
        return self._merge(channel, moded), 0

    def _hop(self, source: Channel, connection: Connection, reactor: Reactor) -> tuple[Channel, int] | None:
        """Where values come from that pass through `connection` from `source`."""
        root = self._root(source)
        if root is None or (connection.after_ns is None and not connection.physical):
            return root
        (port, number), delay = root
        if self.period_ns and port.steady:
            return (port, number), delay + (connection.after_ns or 0) // self.period_ns
        mode = mode_number(self.modes, self.mode_of, reactor.path, connection.mode)
        key = ((port, number), connection.after_ns or 0, connection.physical, mode)
        if key not in self._relays:
            how = "physically" if connection.physical else "after"
            relay = Relay(port, after_ns=connection.after_ns or 0, physical=connection.physical)
            name = f"{port}[{number}] {how} {connection.after_ns or 0} ns" + (
                "" if mode is None else f" in mode {mode}"
            )
            self._install(name, relay, mode, reactor.path if mode is not None else port.owner.path)
            self._roots[relay.arriving, 0] = ((port, number), delay)
            self._relays[key] = (relay.leaving, 0)
        return self._relays[key], 0

    def _merge(self, target: Channel, ways: Sequence[tuple[Channel, Connection, Reactor]]) -> Channel:
        """What joins connections of different modes that lead to `target`."""
        merge = Merge([source[0] for source, _, _ in ways])
        owner = ways[0][2]
        self._install(f"{target[0]}[{target[1]}] by mode", merge, self.mode_of[owner.path], owner.path)
        for number, (source, connection, _) in enumerate(ways):
            declared = merge.declared
            self._roots[declared.elements[f"arriving_{number}"], 0] = (source, 0)
            declared.reactions[number] = replace(declared.reactions[number], mode=connection.mode)
        return (merge.merged, 0)

    def _install(self, path: str, hidden: Hidden, mode: int | None, home: str) -> None:
        """Put a hidden reactor into the program."""
        hidden.path = path
        self.reactors[path] = hidden
        self.mode_of[path] = mode
        self.homes[path] = self.homes.get(home, home)


def mode_number(
    modes: Sequence[ModeRow], mode_of: Mapping[str, int | None], reactor: str, mode: Mode | None
) -> int | None:
    """The number of `mode` of the reactor; of no mode that of what contains the reactor."""
    if mode is None:
        return mode_of[reactor]
    return next(number for number, row in enumerate(modes) if row.mode is mode)


def _contained(reactor: Reactor) -> list[Reactor]:
    """The reactors directly inside `reactor`."""
    return [m for child in reactor.declared.children.values() for m in (child if isinstance(child, Bank) else [child])]


def _check_direction(source: Port[Any], target: Port[Any], reactor: Reactor) -> None:
    """Raise unless values can pass from `source` to `target` inside `reactor`."""
    sends = isinstance(source, Input) if source.owner is reactor else isinstance(source, Output)
    takes = isinstance(target, Output) if target.owner is reactor else isinstance(target, Input)
    if not sends or not takes:
        raise AssemblyError(
            f"Connection '{source}' -> '{target}' runs the wrong way. Inside '{reactor.path or 'the main reactor'}', "
            "connect outputs of contained reactors (or its own inputs) to their inputs (or its own outputs)."
        )


def _check_types(source: Port[Any], target: Port[Any]) -> None:
    """Raise if the two ports are declared with types or arrays that do not fit."""
    if target.shape is not None and (source.shape, source.dtype) != (target.shape, target.dtype):
        gives = "no array" if source.shape is None else f"{source.dtype}{list(source.shape)}"
        raise AssemblyError(
            f"Port '{target}' takes {target.dtype}{list(target.shape)} but '{source}' gives {gives}. Declare the same "
            "shape and dtype on both."
        )
    given, taken = source.carries, target.carries
    if isinstance(given, type) and isinstance(taken, type) and not {object, Any} & {given, taken}:
        promoted = (given, taken) in {(int, float), (int, complex), (float, complex)}
        if not promoted and not issubclass(given, taken):
            raise AssemblyError(
                f"Port '{target}' takes {taken.__name__} but '{source}' gives {given.__name__}. Give both one type."
            )
