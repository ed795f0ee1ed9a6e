"""Hidden reactors that carry what a plain connection cannot: delays, physical time, connections of modes.

A delayed connection is a reactor that lives with the sender: it schedules an action of its own when a
value comes, and gives the value when the action is due. So every event a worker has sent stands in its
own queue, and the tag of a message is agreed upon like that of any other event.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from runtimes.reactor.declaration import Input, LogicalAction, Output, PhysicalAction, Reactor

__all__ = ["Hidden", "Merge", "Relay"]


class Hidden(Reactor):
    """A reactor that nobody wrote; it is in no trace and in no diagram."""


class Relay(Hidden):
    """Gives what it gets, later."""

    def __init__(self, source: Output[Any], *, after_ns: int, physical: bool) -> None:
        """Carry what `source` sends."""
        self.arriving = Input[Any](shape=source.shape, dtype=source.dtype)
        self.leaving = Output[Any](shape=source.shape, dtype=source.dtype)
        self.carried = (PhysicalAction if physical else LogicalAction)[Any](after_ns)
        self.copies = source.shape is not None
        # Giving comes first: what arrives in a tag never leaves in it.
        self.add_reaction("give", self.give, triggers=[self.carried], effects=[self.leaving])
        self.add_reaction("take", self.take, triggers=[self.arriving], effects=[self.carried])

    def give(self) -> None:
        """Hand on what is due."""
        self.leaving.set(self.carried.value)

    def take(self) -> None:
        """Keep what came until it is due; an array's memory is the sender's, so it is copied."""
        value = self.arriving.value
        self.carried.schedule(np.copy(value) if self.copies else value)


class Merge(Hidden):
    """Passes on what comes through connections that belong to modes, of which one is active at a time."""

    def __init__(self, source: Output[Any], sources: int) -> None:
        """Join so many connections; the value of each is like that of `source`."""
        self.merged = Output[Any](shape=source.shape, dtype=source.dtype)
        for number in range(sources):
            port = self.add(f"arriving_{number}", Input[Any](shape=source.shape, dtype=source.dtype))
            self.add_reaction(
                f"pass_{number}", _passing(port, self.merged), triggers=[port], effects=[self.merged]
            )


def _passing(port: Input[Any], merged: Output[Any]) -> Any:
    """What passes on the value of `port`."""
    return lambda: merged.set(port.value)


