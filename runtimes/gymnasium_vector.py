"""Gymnasium's vector environments: all in this process, or each in a process of its own.

They are given the members' own environments, seeds and actions, so they compute what the plain loop
computes. Set up as an expert does: reset in the same step, observations in shared memory, and copied
only where the driver needs them for longer than a round.
"""

from __future__ import annotations

import contextlib
import multiprocessing
from functools import partial
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from runtimes.protocol import Runtime, RuntimeFailure
from runtimes.vector_environments import LIMITS, Options, VectorSession, why_not
from runtimes.worker_processes import start_context, way_it_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from gymnasium import Env

    from workloads.dataflow import Graph, TaskNode

__all__ = ["ASYNC", "SYNC"]

_ROUNDS_PER_DRAW: Final = 1024
_GRACE_S: Final = 1.0
"""How long a process that has stopped answering may take to end."""


class _EnvironmentTask(Protocol):
    """A task whose environment can be stepped by others."""

    def member(self) -> Env[Any, Any]:
        """The environment, which knows its `actions` and `tallies`."""
        ...


def _member(node: TaskNode, index: int, seed: int) -> Env[Any, Any]:
    task: Any = node.build(index, seed)
    environment_task: _EnvironmentTask = task
    return environment_task.member()


def _makers(graph: Graph) -> list[Callable[[], Env[Any, Any]]]:
    node = graph.node("env")
    return [partial(_member, node, index, graph.seed) for index in range(node.members)]


def _copies(graph: Graph) -> bool:
    """Whether what a step gives must outlive the next one."""
    return any(edge.delay for edge in graph.edges)


class _SyncSession(VectorSession):
    """Environments in a vector environment of Gymnasium."""

    def _begin(self) -> Any:
        return self._vector.reset()[0]

    def _drawn(self) -> Iterator[Any]:
        while True:
            yield from np.stack(self._vector.call("actions", _ROUNDS_PER_DRAW), axis=1)

    def _environment_tallies(self) -> Sequence[Mapping[str, Any]]:
        return list(self._vector.call("tallies"))


class _AsyncSession(_SyncSession):
    """The same in processes."""

    def _failure_of(self, error: Exception) -> RuntimeFailure:
        if isinstance(error, EOFError | ConnectionError):
            ended = connection.wait([process.sentinel for process in self._vector.processes], _GRACE_S)
            for index, process in enumerate(self._vector.processes):
                if process.sentinel in ended:
                    # Its files are closed a moment before its exit code can be had.
                    process.join(_GRACE_S)
                    return RuntimeFailure(
                        f"The process of 'env[{index}]' {way_it_ended(process.exitcode)} in round {self._round}. "
                        "The others cannot go on without it."
                    )
        return super()._failure_of(error)

    def _close_vector(self) -> None:
        if not self._failed:
            self._vector.close()
            return
        # Gymnasium's own way asks those that will not answer.
        _end(self._vector.processes)
        for pipe in self._vector.parent_pipes:
            with contextlib.suppress(AttributeError):
                pipe.close()
        self._vector.closed = True


def _end(processes: Sequence[BaseProcess]) -> None:
    """Tell `processes` to end; then make them."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_GRACE_S)
        process.kill()
        process.join()


def _open_sync(graph: Graph, _options: Options, _scratch: Path) -> VectorSession:
    """Make all environments here."""
    from gymnasium.vector import AutoresetMode, SyncVectorEnv

    vector = SyncVectorEnv(_makers(graph), copy=_copies(graph), autoreset_mode=AutoresetMode.SAME_STEP)
    return _SyncSession(graph, vector)


def _open_async(graph: Graph, _options: Options, _scratch: Path) -> VectorSession:
    """Start a process for each environment."""
    from gymnasium.vector import AsyncVectorEnv, AutoresetMode

    try:
        vector = AsyncVectorEnv(
            _makers(graph),
            shared_memory=True,
            copy=_copies(graph),
            context=start_context().get_start_method(),
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
    except (EOFError, ConnectionError) as error:
        # What is there of the vector environment cannot be had; its processes can.
        _end([process for process in multiprocessing.active_children() if "AsyncVectorEnv" in process.name])
        raise RuntimeFailure("An environment could not be made in its process; the log says why.") from error
    return _AsyncSession(graph, vector)


def _refuses(graph: Graph, _options: Options) -> str | None:
    return why_not(graph)


SYNC = Runtime(
    name="gymnasium-sync",
    summary="Gymnasium's SyncVectorEnv: all environments in one process, one after the other.",
    options=Options,
    open=_open_sync,
    refuses=_refuses,
    limits=LIMITS,
    requires=("gymnasium",),
)

ASYNC = Runtime(
    name="gymnasium-async",
    summary="Gymnasium's AsyncVectorEnv: a process for each environment, observations in shared memory.",
    options=Options,
    open=_open_async,
    refuses=_refuses,
    limits=LIMITS,
    requires=("gymnasium",),
)
