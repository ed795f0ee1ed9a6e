"""Workload `broadcast_gather`: one array to N actors, and an array back from each.

`source -broadcast-> actor[N] -gather-> sink`. The source fills a float64 array with the number of the
round, so that no two rounds carry the same. The sink does not touch what it gathers. A unit of work is
one echo: the payload's way to one actor and back, two payloads carried; a round does `actors` of them.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np

from workloads.dataflow import ArraySpec, GraphBuilder, Output, Task, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workloads.dataflow import Graph, Inputs, Outputs, TaskContext

__all__ = ["WORKLOAD", "Parameters"]

Echo = Literal["copy", "same"]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to send, and to how many."""

    nbytes: Annotated[int, msgspec.Meta(description="bytes of the payload, a multiple of 8 (float64)", ge=8)] = (
        10_000_000
    )
    actors: Annotated[int, msgspec.Meta(description="number of actors", ge=1)] = 8
    sleep_s: Annotated[
        float,
        msgspec.Meta(description="seconds that each actor sleeps a round; 0.5 is the paper's protocol", ge=0),
    ] = 0.0
    echo: Annotated[
        Echo,
        msgspec.Meta(description="copy: each actor gives a copy of its input; same: the input itself"),
    ] = "copy"

    def __post_init__(self) -> None:
        """Check what a range cannot say.

        Raises:
            ValueError: for a payload that is not a whole number of float64.
        """
        if self.nbytes % 8:
            raise ValueError(
                f"nbytes={self.nbytes} is not a multiple of 8, and the payload holds float64. "
                f"Set nbytes={self.nbytes // 8 * 8 or 8} or {self.nbytes // 8 * 8 + 8}."
            )


class Source(Task):
    """Fills the payload with the number of the round."""

    def __init__(self, _context: TaskContext) -> None:
        """Begin with round 0."""
        self._round = 0

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:  # noqa: ARG002 - it has no input
        """Send the next round's payload."""
        outputs["payload"][...] = self._round
        self._round += 1

    def state(self) -> Mapping[str, Any]:
        """The number of the next round."""
        return {"round": self._round}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with it."""
        self._round = state["round"]


class Actor(Task):
    """Gives back what it receives."""

    def __init__(self, _context: TaskContext, *, sleep_s: float, echo: Echo) -> None:
        """Keep how long to sleep, and how to give back."""
        self._sleep_s = sleep_s
        self._copies = echo == "copy"

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Give back a copy of the payload, or the payload itself."""
        if self._sleep_s > 0:
            time.sleep(self._sleep_s)
        if self._copies:
            outputs["echo"][...] = inputs["payload"]
        else:
            outputs["echo"] = inputs["payload"]

    def state(self) -> Mapping[str, Any]:
        """It keeps nothing."""
        return {}


class Sink(Task):
    """Receives all echoes, and leaves it at that."""

    def __init__(self, _context: TaskContext) -> None:
        """Keep nothing."""

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Do nothing."""

    def state(self) -> Mapping[str, Any]:
        """It keeps nothing."""
        return {}


def build(parameters: Parameters, seed: int) -> Graph:
    """The graph for `parameters`; nothing in it is random."""
    builder = GraphBuilder(
        workload="broadcast_gather",
        parameters=msgspec.to_builtins(parameters),
        seed=seed,
        unit="echo",
        units_per_round=parameters.actors,
    )
    payload = ArraySpec((parameters.nbytes // 8,), np.float64)
    source = builder.task("source", Source, outputs=[Output("payload", payload)])
    factory = partial(Actor, sleep_s=parameters.sleep_s, echo=parameters.echo)
    actor = builder.bank(
        "actor", parameters.actors, factory, inputs=["payload"], outputs=[Output("echo", payload)], stateless=True
    )
    sink = builder.task("sink", Sink, inputs=["echo"], observed=True)
    builder.broadcast(source["payload"], actor["payload"])
    builder.gather(actor["echo"], sink["echo"])
    return builder.build()


WORKLOAD = Workload(
    name="broadcast_gather",
    summary="One float64 array to N actors and back from each: what communication alone costs.",
    parameters=Parameters,
    build=build,
)
