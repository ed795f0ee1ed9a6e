"""Hidden reactors that carry what a plain connection cannot: delays, physical time, connections of modes.

A delayed connection is a reactor that lives with the sender: it schedules an action of its own when a
value comes, and gives the value when the action is due. So every event a worker has sent stands in its
own queue, and the tag of a message is agreed upon like that of any other event.

Where nothing but a delay stands between the two (`Home.delays`), who sets the value puts the event there itself, and
the reactions never run: they keep the place in the program's order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from runtimes.reactor.declaration import Reactor
from runtimes.reactor.elements import Input, LogicalAction, Output, PhysicalAction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Hidden", "Merge", "Relay"]


class Hidden(Reactor):
    """A reactor that nobody wrote; it is in no trace and in no diagram."""


class Relay(Hidden):
    """Gives what it gets, later."""

    def __init__(self, source: Output[Any], *, after_ns: int, physical: bool) -> None:
        """Carry what `source` sends."""
        self.arriving = Input[Any](shape=source.shape, dtype=source.dtype)
        self.leaving = Output[Any](shape=source.shape, dtype=source.dtype)
        self.carried: Any = PhysicalAction[Any](after_ns) if physical else LogicalAction[Any](after_ns)
        self.copies = source.shape is not None
        self.after_ns = None if physical else after_ns
        """The delay in logical time, if it is one."""
        # Giving comes first: what arrives in a tag never leaves in it.
        self.add_reaction("give", self.give, triggers=[self.carried], effects=[self.leaving], prepare=self.prepare_give)
        self.add_reaction("take", self.take, triggers=[self.arriving], effects=[self.carried])

    def give(self) -> None:
        """Hand on what is due."""
        self.leaving.set(self.carried.value)

    def take(self) -> None:
        """Keep what came until it is due; an array's memory is the sender's, so it is copied."""
        value = self.arriving.value
        self.carried.schedule(np.copy(value) if self.copies else value)

    def prepare_give(self) -> Callable[[], None]:
        """What hands on, with all that it needs at hand: saves 0.2 us a message."""
        assert self.carried.live is not None
        hand_on, cell = self.leaving.set, self.carried.live.cell
        return lambda: hand_on(cell.value)


class Merge(Hidden):
    """Passes on what comes through connections that belong to modes, of which one is active at a time."""

    def __init__(self, sources: Sequence[Output[Any]]) -> None:
        """Join what comes from `sources`; as arrays if all declare the same one."""
        first = sources[0]
        same = all((source.shape, source.dtype) == (first.shape, first.dtype) for source in sources)
        self.merged = Output[Any](shape=first.shape if same else None, dtype=first.dtype)
        for number, source in enumerate(sources):
            port = self.add(f"arriving_{number}", Input[Any](shape=source.shape, dtype=source.dtype))
            copies = source.shape is not None and not same
            body = _passing(port, self.merged, copies=copies)
            self.add_reaction(f"pass_{number}", body, triggers=[port], effects=[self.merged])


def _passing(port: Input[Any], merged: Output[Any], *, copies: bool) -> Callable[[], None]:
    """What passes on the value of `port`; a copy where the array's memory would be the sender's."""
    return (lambda: merged.set(np.copy(port.value))) if copies else (lambda: merged.set(port.value))
