"""Reactors for Python: deterministic, in logical time, really parallel on stock CPython.

A reactor is a component that shares nothing: it reacts to what is present on its inputs and sets its
outputs. Who is connected to whom is declared before the program runs, so no locks and no coordination
messages are needed. This package imports nothing of the project around it.
"""

from runtimes.reactor.board import native_available
from runtimes.reactor.declaration import (
    Bank,
    Input,
    Output,
    PortBank,
    Reactor,
    Timer,
    bank,
    ms,
    ns,
    reaction,
    s,
    shutdown,
    startup,
    us,
)
from runtimes.reactor.errors import AssemblyError, CausalityError, ReactionFailed, ReactorError, WorkerDied
from runtimes.reactor.program import Program

__all__ = [
    "AssemblyError",
    "Bank",
    "CausalityError",
    "Input",
    "Output",
    "PortBank",
    "Program",
    "ReactionFailed",
    "Reactor",
    "ReactorError",
    "Timer",
    "WorkerDied",
    "bank",
    "ms",
    "native_available",
    "ns",
    "reaction",
    "s",
    "shutdown",
    "startup",
    "us",
]
