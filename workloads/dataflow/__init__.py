"""The contract between workloads and runtimes: a dataflow graph of tasks.

A workload builds a `Graph` with a `GraphBuilder`; a runtime opens a `Session` on it. Neither knows
the other, and this package knows nothing of this project. A graph has *tasks* and *banks* (N like
tasks), joined by edges of four shapes. Every task fires once a *round*, in dependency order, and no
task starts a round before all have finished the one before.

What a value may be: a port that declares an `ArraySpec` carries that array in every round, and the
runtime hands the task memory to fill in place; any other port carries anything picklable, or
nothing at all in a round (`None` where it is received).

A program can be resumed: `Session.state` tells where it stands between two rounds, and any runtime opens
`Graph.resumed(state)`. Tasks say what they keep (`Task.state`) and take it up again (`Task.restore`).
"""

from workloads.dataflow.builder import GraphBuilder, Workload
from workloads.dataflow.graph import Edge, EdgeShape, Graph, Input, Output, PortRef, TaskNode
from workloads.dataflow.running import Digest, Session
from workloads.dataflow.state import State, TaskState, state_of
from workloads.dataflow.tasks import Inputs, Outputs, Task, TaskContext, TaskFactory
from workloads.dataflow.values import ArraySpec, Gathered, GraphError, accept_array, item_of, read_only

__all__ = [
    "ArraySpec",
    "Digest",
    "Edge",
    "EdgeShape",
    "Gathered",
    "Graph",
    "GraphBuilder",
    "GraphError",
    "Input",
    "Inputs",
    "Output",
    "Outputs",
    "PortRef",
    "Session",
    "State",
    "Task",
    "TaskContext",
    "TaskFactory",
    "TaskNode",
    "TaskState",
    "Workload",
    "accept_array",
    "item_of",
    "read_only",
    "state_of",
]
