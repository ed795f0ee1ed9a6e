"""Reactors for Python: deterministic, in logical time, really parallel on stock CPython.

A reactor is a component that shares nothing: it reacts to what is present on its inputs and sets its
outputs. Who is connected to whom is declared before the program runs, so no locks and no coordination
messages are needed. This package imports nothing of the project around it.
"""

from runtimes.reactor.board import native_available
from runtimes.reactor.connections import Bank, PortBank, bank, interleaved
from runtimes.reactor.declaration import Reactor
from runtimes.reactor.elements import Input, LogicalAction, Mode, Output, PhysicalAction, Port, State, Timer, Watchdog
from runtimes.reactor.errors import (
    AssemblyError,
    CausalityError,
    OutOfSharedMemory,
    ReactionFailed,
    ReactionStuck,
    ReactorError,
    TraceUnreadable,
    UndeclaredError,
    WorkerDied,
)
from runtimes.reactor.program import Program
from runtimes.reactor.reactions import reaction, reset, shutdown, startup, stop
from runtimes.reactor.tags import Tag, ms, ns, s, us
from runtimes.reactor.timeline import Timeline
from runtimes.reactor.trace import Trace, first_difference

__all__ = [
    "AssemblyError",
    "Bank",
    "CausalityError",
    "Input",
    "LogicalAction",
    "Mode",
    "OutOfSharedMemory",
    "Output",
    "PhysicalAction",
    "Port",
    "PortBank",
    "Program",
    "ReactionFailed",
    "ReactionStuck",
    "Reactor",
    "ReactorError",
    "State",
    "Tag",
    "Timeline",
    "Timer",
    "Trace",
    "TraceUnreadable",
    "UndeclaredError",
    "Watchdog",
    "WorkerDied",
    "bank",
    "first_difference",
    "interleaved",
    "ms",
    "native_available",
    "ns",
    "reaction",
    "reset",
    "s",
    "shutdown",
    "startup",
    "stop",
    "us",
]
