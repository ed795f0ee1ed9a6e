"""The networks of all agents as one batch, in one process: what a user would write for workload `inference` by hand.

It is no graph engine: it takes environment and networks from the graph's tasks, and runs them in a loop of its own.
A product of stacked weights adds up in another order than that of one agent, so that scores differ in their last
digits. Where two scores of an agent are too close for that, the agent is asked itself: actions are then the same
as everywhere, to the bit.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Protocol

import msgspec
import numpy as np

from runtimes.protocol import Runtime, not_resumed, task_failure
from workloads.dataflow import Outputs, Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from workloads.dataflow import Graph, Task

__all__ = ["RUNTIME", "StackedSession"]

Batching = Literal["bmm", "vmap"]
Layers = list[tuple["Tensor", "Tensor"]]
"""Of each layer the weights, shape `(outputs, inputs)`, and the biases, `(outputs,)`; stacked with the agents first."""

_WORKLOAD: Final = "inference"
_MARGIN: Final = 1e-4
"""Scores are close if they differ by less than this, or than this part of the largest; rounding does a hundredth."""


class _HasNetwork(Protocol):
    """What the tasks of the bank `agent` are, beside tasks."""

    layers: Layers


# ---------------------------------------------------------------------------------------- networks


class _Batched:
    """All networks as batched matrix products, into memory of their own."""

    def __init__(self, layers: Layers, batch: Tensor) -> None:
        """Prepare `layers`, stacked, for what stands in `batch`, shape `(N, inputs)`, at every call."""
        import torch

        self._weighted_sum = torch.baddbmm
        values = batch.unsqueeze(1)
        self._steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for weights, biases in layers:
            sums = torch.empty(len(biases), 1, biases.shape[1])
            self._steps.append((biases.unsqueeze(1), values, weights.transpose(1, 2), sums))
            values = sums
        self._scores: NDArray[np.float32] = values.squeeze(1).numpy()

    def __call__(self) -> NDArray[np.float32]:
        """The scores, shape `(N, actions)`."""
        *hidden, (biases, values, weights, last_sums) = self._steps
        for inner_biases, inner_values, inner_weights, sums in hidden:
            self._weighted_sum(inner_biases, inner_values, inner_weights, out=sums).relu_()
        self._weighted_sum(biases, values, weights, out=last_sums)
        return self._scores


class _Mapped:
    """One network as a function of its parameters, mapped over all of them by `torch.func.vmap`."""

    def __init__(self, layers: Layers, batch: Tensor) -> None:
        """As `_Batched`."""
        import torch

        self._mapped = torch.func.vmap(_perceptron)
        self._layers, self._batch = layers, batch

    def __call__(self) -> NDArray[np.float32]:
        """The scores, shape `(N, actions)`."""
        scores: NDArray[np.float32] = self._mapped(self._layers, self._batch).numpy()
        return scores


def _perceptron(layers: Layers, values: Tensor) -> Tensor:
    """The scores of one agent."""
    from torch.nn.functional import linear, relu

    for weights, biases in layers[:-1]:
        values = relu(linear(values, weights, biases))
    weights, biases = layers[-1]
    return linear(values, weights, biases)


_NETWORKS: Final[Mapping[Batching, type[_Batched | _Mapped]]] = {"bmm": _Batched, "vmap": _Mapped}


# ----------------------------------------------------------------------------------------- session


class StackedSession(Session):
    """An environment and the stacked networks of its agents."""

    def __init__(self, graph: Graph, batching: Batching) -> None:
        """Build the tasks of `graph`, one of workload `inference`, and stack their networks."""
        import torch

        environment, agent = graph.node("environment"), graph.node("agent")
        (edge,) = graph.edges_into("agent")
        self._environment: Task = environment.build(0, graph.seed)
        self._agents: list[Task] = [agent.build(index, graph.seed) for index in range(agent.members)]
        observation = environment.output("observation").always
        assert observation is not None
        # The observation that is read in a round was written `delay` rounds before, into the same slot as it will be.
        self._observations: NDArray[Any] = observation.zeros(edge.delay)
        self._outputs = [Outputs("environment", ["observation"], {"observation": o}) for o in self._observations]
        self._batch = torch.zeros(agent.members, observation.shape[-1])
        self._actions = np.zeros(agent.members, np.int64)
        self._scores = _NETWORKS[batching](_stacked(self._agents), self._batch)
        self._begun = False
        self._round = 0
        self._open = True

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run `rounds` rounds; their durations in nanoseconds."""
        name = "environment"
        stamps = [perf_counter_ns()]
        try:
            if not self._begun:
                self._begun = True
                self._observations[...] = self._environment.initial("observation")
                stamps = [perf_counter_ns()]
            inputs, batch = {"action": self._actions}, self._batch.numpy()
            for _ in range(rounds):
                slot = self._round % len(self._observations)
                name = "agent"
                batch[...] = self._observations[slot]
                self._choose(self._scores(), self._observations[slot])
                name = "environment"
                self._environment.fire(inputs, self._outputs[slot])
                self._round += 1
                stamps.append(perf_counter_ns())
        except Exception as error:
            raise task_failure(name, self._round, error) from error
        return np.diff(np.array(stamps)).astype(np.int64, copy=False)

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """The actions of the last round."""
        return {"environment": {"action": self._actions}}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Of every task its tallies."""
        return {
            "environment": [self._environment.tallies()],
            "agent": [agent.tallies() for agent in self._agents],
        }

    def close(self) -> None:
        """Close every task."""
        if self._open:
            self._open = False
            for task in (self._environment, *self._agents):
                task.close()

    def _choose(self, scores: NDArray[np.float32], observation: NDArray[Any]) -> None:
        """Fill in the actions with the highest of `scores`, shape `(N, actions)`.

        Lists, since there are few: NumPy's overhead alone would take three times as long.
        """
        chosen = self._actions
        for index, row in enumerate(scores.tolist()):
            ascending = sorted(row)
            lowest, second, highest = ascending[0], ascending[-2], ascending[-1]
            if highest - second > _MARGIN * (1.0 + max(highest, -lowest)):
                chosen[index] = row.index(highest)
            else:
                outputs = Outputs("agent", ["action"], {"action": chosen[index, ...]})
                self._agents[index].fire({"observation": observation}, outputs)


def _stacked(agents: Sequence[Any]) -> Layers:
    """The layers of all `agents`, one on the other."""
    import torch

    networks: list[_HasNetwork] = list(agents)
    return [
        (torch.stack([weights for weights, _ in same]), torch.stack([biases for _, biases in same]))
        for same in zip(*(network.layers for network in networks), strict=True)
    ]


# ------------------------------------------------------------------------------------- the runtime


class StackedOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the networks are run as one."""

    batching: Annotated[
        Batching,
        msgspec.Meta(
            description="bmm: batched matrix products, written out; vmap: torch.func.vmap over the network of one "
            "agent, which takes some 0.3 ms a round to trace it"
        ),
    ] = "bmm"


def _open(graph: Graph, options: StackedOptions, _scratch: Path) -> StackedSession:
    return StackedSession(graph, options.batching)


def _refuses(graph: Graph, _options: StackedOptions) -> str | None:
    if graph.workload == _WORKLOAD:
        return not_resumed(graph)
    return (
        f"it stacks the networks of workload '{_WORKLOAD}', and '{graph.workload}' has none. "
        "Choose another runtime, as sequential or reactor."
    )


RUNTIME = Runtime(
    name="stacked",
    summary="The networks of all agents as one batch, in one process; no graph engine.",
    options=StackedOptions,
    open=_open,
    refuses=_refuses,
    limits=f"workload {_WORKLOAD}",
    requires=("torch",),
)
