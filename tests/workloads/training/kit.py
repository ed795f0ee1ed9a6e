"""What the tests of `training` share: small programs, and one task fired alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.dataflow import Outputs, TaskContext
from workloads.training import WORKLOAD, Parameters
from workloads.training.parameters import algorithm_of, arguments_of

if TYPE_CHECKING:
    from workloads.dataflow import ArraySpec, Graph, Task
    from workloads.training.algorithm import Algorithm

SMALL: dict[str, Any] = {
    "actors": 3,
    "environments": 2,
    "learners": 2,
    "minibatch": 12,
    "hidden": "16,8",
    "learning_starts": 24,
    "capacity": 64,
}
"""Learns from round 5 on: 24 transitions are there after 4 rounds, and arrive one later."""


def algorithm(**parameters: Any) -> Algorithm[Any]:
    return algorithm_of(arguments_of(Parameters(**parameters)))


def graph(seed: int = 3, **parameters: Any) -> Graph:
    return WORKLOAD.build(Parameters(**(SMALL | parameters)), seed)


def context(path: str, index: int = 0, seed: int = 3) -> TaskContext:
    return TaskContext(path=path, index=index, width=3, seed=seed)


def fired(task: Task, inputs: dict[str, Any], specs: dict[str, ArraySpec], *, optional: bool) -> dict[str, Any]:
    """What `task` gives, of arrays that it gives always, or in some rounds."""
    arrays = {} if optional else {name: spec.zeros() for name, spec in specs.items()}
    outputs = Outputs("task", specs, arrays, optional=specs if optional else {})
    task.fire(inputs, outputs)
    return dict(outputs.assigned) if optional else {name: np.array(array) for name, array in arrays.items()}
