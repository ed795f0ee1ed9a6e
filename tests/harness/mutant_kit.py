"""Runtimes that each break one promise, and one that breaks none: what the behaviour suite is tested with."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from functools import partial
from multiprocessing import resource_tracker, shared_memory

import msgspec
import numpy as np

from runtimes.protocol import Demands, Runtime
from runtimes.sequential import SequentialSession
from workloads.dataflow import Task


class Options(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Undescribed(msgspec.Struct, frozen=True, kw_only=True):
    level: int = 0


class Wrapped(Task):
    """A task that a mutant treats badly."""

    def __init__(self, context, *, factory):
        self.context = context
        self.task = factory(context)

    def initial(self, port):
        return self.task.initial(port)

    def fire(self, inputs, outputs):
        self.task.fire(inputs, outputs)

    def tallies(self):
        return self.task.tallies()

    def close(self):
        self.task.close()


class Swallowing(Wrapped):
    def fire(self, inputs, outputs):
        with contextlib.suppress(ArithmeticError):
            super().fire(inputs, outputs)


class Stale(Wrapped):
    """What is absent is what was there before."""

    def fire(self, inputs, outputs):
        super().fire(inputs, outputs)
        self.last = getattr(self, "last", {}) | outputs.assigned
        outputs.assigned.update(self.last)


class Writable(Wrapped):
    def fire(self, inputs, outputs):
        copies = {port: value.copy() if isinstance(value, np.ndarray) else value for port, value in inputs.items()}
        super().fire(copies, outputs)


class Unclosed(Wrapped):
    def close(self):
        pass


def with_tasks(kind, graph):
    """`graph` with every task inside one of `kind`."""
    return replace(graph, tasks=tuple(replace(n, factory=partial(kind, factory=n.factory)) for n in graph.tasks))


class WithStreams(Wrapped):
    """Its streams are those of a worker, whoever it is."""

    def __init__(self, context, *, factory):
        super().__init__(context, factory=factory)
        if hasattr(self.task, "_streams"):
            elsewhere = replace(context, path="worker")
            self.task._streams = [elsewhere.rng(purpose) for purpose in ("words", "numbers")]


class Backwards(SequentialSession):
    """Who should fire last fires first."""

    def __init__(self, graph):
        super().__init__(graph)
        self._plans = [plan[::-1] for plan in self._plans]


class Hasty(SequentialSession):
    """Who waits for nobody does not wait for the end of the round either."""

    def __init__(self, graph):
        super().__init__(graph)
        self._early = [entry for entry in self._plans[0] if "loner" in entry[-1].name]
        self._plans = [[entry for entry in plan if "loner" not in entry[-1].name] for plan in self._plans]

    def advance(self, rounds):
        for _ in range(rounds):
            for fire, inputs, outputs, *_ in self._early:
                fire(inputs, outputs)
        return super().advance(rounds)


class Forgetful(SequentialSession):
    """Two rounds are one to it, if they are asked for at once."""

    def advance(self, rounds):
        return np.resize(super().advance(max(1, rounds - 1)), rounds)


class InSeconds(SequentialSession):
    def advance(self, rounds):
        return super().advance(rounds) / 1e9


class ClosesOnce(SequentialSession):
    def close(self):
        if not self._open:
            raise ValueError("closed already")
        super().close()


class LeavesProcess(SequentialSession):
    def close(self):
        if self._open:
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        super().close()


class LeavesThread(SequentialSession):
    def close(self):
        if self._open:
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        super().close()


class LeavesMemory(SequentialSession):
    def close(self):
        if self._open:
            left = shared_memory.SharedMemory(create=True, size=8, name=f"mutant-{os.getpid()}-{time.monotonic_ns()}")
            resource_tracker.unregister(left._name, "shared_memory")
            left.close()
        super().close()


class LeavesFile(SequentialSession):
    def close(self):
        if self._open:
            os.close(tempfile.mkstemp()[0])
        super().close()


class LeavesProcessAfterFailure(SequentialSession):
    def advance(self, rounds):
        try:
            return super().advance(rounds)
        except Exception:
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            raise


class Unasked(SequentialSession):
    """Its state is that of the tasks alone: what was on its way is what they say of the beginning."""

    def state(self):
        state = super().state()
        tasks = {
            path: [replace(m, in_flight=self._initial(path, i, m)) for i, m in enumerate(members)]
            for path, members in state.tasks.items()
        }
        return replace(state, tasks=tasks)

    def _initial(self, path, index, member):
        task = self._nodes[path][index].task
        return {port: [task.initial(port)] * len(values) for port, values in member.in_flight.items()}


class Shared(SequentialSession):
    """What it gives as its state goes on changing."""

    def state(self):
        state = super().state()
        for path, members in self._nodes.items():
            for member, told in zip(members, state.tasks[path], strict=True):
                for port, values in self._in_flight(self._graph.node(path), member).items():
                    told.in_flight[port][:] = values
        return state


def with_one_value(graph):
    """`graph` with the last value in flight in place of all others."""
    return replace(
        graph,
        tasks=tuple(
            replace(
                node,
                resumes=node.resumes
                and [
                    replace(m, in_flight={port: values[-1:] * len(values) for port, values in m.in_flight.items()})
                    for m in node.resumes
                ],
            )
            for node in graph.tasks
        ),
    )


class Anew(SequentialSession):
    """Every session begins at the beginning."""

    def __init__(self, graph):
        super().__init__(replace(graph, tasks=tuple(replace(node, resumes=None) for node in graph.tasks)))


def without_delays(graph):
    return replace(graph, edges=tuple(replace(edge, delay=min(edge.delay, 1)) for edge in graph.edges))


def nameless(session):
    class Nameless(SequentialSession):
        def advance(self, rounds):
            try:
                return super().advance(rounds)
            except RuntimeError as error:
                raise RuntimeError("something went wrong") from error.__cause__

    return Nameless(session)


def mutant(name, opener, options=Options, **more):
    return Runtime(
        name=name,
        summary="Breaks a promise.",
        options=options,
        open=lambda graph, options, scratch: opener(graph),
        **more,
    )


def around(kind):
    return lambda graph: SequentialSession(with_tasks(kind, graph))


SOUND = mutant("sound", SequentialSession)
BACKWARDS = mutant("backwards", Backwards)
HASTY = mutant("hasty", Hasty)
DELAYLESS = mutant("delayless", lambda graph: SequentialSession(without_delays(graph)))
FORGETFUL = mutant("forgetful", Forgetful)
MISSEEDED = mutant("misseeded", around(WithStreams))
STALE = mutant("stale", around(Stale))
WRITABLE = mutant("writable", around(Writable))
SWALLOWING = mutant("swallowing", around(Swallowing))
NAMELESS = mutant("nameless", nameless)
IN_SECONDS = mutant("in-seconds", InSeconds)
CLOSES_ONCE = mutant("closes-once", ClosesOnce)
UNCLOSED = mutant("unclosed", around(Unclosed))
LEAVES_PROCESS = mutant("leaves-process", LeavesProcess)
LEAVES_PROCESS_LATER = mutant("leaves-process-after-failure", LeavesProcessAfterFailure)
LEAVES_THREAD = mutant("leaves-thread", LeavesThread)
LEAVES_MEMORY = mutant("leaves-memory", LeavesMemory)
LEAVES_FILE = mutant("leaves-file", LeavesFile)
UNASKED = mutant("unasked", Unasked)
SHARED = mutant("shared", Shared)
ONE_VALUE = mutant("one-value", lambda graph: SequentialSession(with_one_value(graph)))
ANEW = mutant("anew", Anew)
REFUSING = mutant("refusing", SequentialSession, refuses=lambda graph, options: "it does not feel like it")
UNDESCRIBED = mutant("undescribed", SequentialSession, Undescribed)
MODEST = mutant("modest", SequentialSession, demands=lambda graph, options: Demands(processes=-1, memory_bytes=1))
