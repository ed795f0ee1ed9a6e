"""`broadcast_gather`: what the sink receives, and which parameters are accepted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from workloads.broadcast_gather import WORKLOAD, Actor, Parameters
from workloads.dataflow import EdgeShape, Graph, Outputs, TaskContext

RoundsOf = Callable[[Graph, int], list[dict[str, list[Any]]]]


@pytest.mark.parametrize("echo", ["copy", "same"])
def test_the_sink_receives_the_rounds_number_from_every_actor(echo: str, rounds_of: RoundsOf):
    received = rounds_of(WORKLOAD.build(Parameters(nbytes=800, actors=3, echo=echo), 1), 4)
    for number, ports in enumerate(received):
        assert [echoed.tolist() for echoed in ports["echo"]] == [[float(number)] * 100] * 3


def fire_actor(echo: str) -> tuple[np.ndarray, np.ndarray, Outputs]:
    payload, memory = np.full(4, 5.0), np.zeros(4)
    outputs = Outputs("actor", ["echo"], {"echo": memory})
    actor = Actor(TaskContext(path="actor", index=0, width=1, seed=0), sleep_s=0.0, echo=echo)
    actor.fire({"payload": payload}, outputs)
    return payload, memory, outputs


def test_copy_fills_the_memory_of_the_output():
    payload, memory, outputs = fire_actor("copy")
    assert memory.tolist() == payload.tolist()
    assert outputs.assigned == {}


def test_same_hands_over_the_input_itself():
    payload, memory, outputs = fire_actor("same")
    assert outputs.assigned["echo"] is payload
    assert not memory.any()


def test_actors_sleep_as_long_as_they_are_told(open_session):
    with open_session(WORKLOAD.build(Parameters(nbytes=8, actors=2, sleep_s=0.05), 1)) as session:
        assert session.advance(1)[0] >= 2 * 0.05e9


def test_the_graph_is_a_broadcast_and_a_gather_and_counts_echoes():
    graph = WORKLOAD.build(Parameters(nbytes=800, actors=3), 1)
    assert [(str(edge.source), edge.shape) for edge in graph.edges] == [
        ("source.payload", EdgeShape.BROADCAST),
        ("actor.echo", EdgeShape.GATHER),
    ]
    assert (graph.unit, graph.units_per_round) == ("echo", 3)
    assert graph.node("source").output("payload").array.nbytes == 800


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"nbytes": 1001}, "nbytes=1001 is not a multiple of 8.*Set nbytes=1000 or 1008"),
        ({"nbytes": 0}, r"Expected `int` >= 8 - at `\$.nbytes`"),
        ({"actors": 0}, r"Expected `int` >= 1 - at `\$.actors`"),
        ({"sleep_s": -1.0}, r"Expected `float` >= 0.0 - at `\$.sleep_s`"),
        ({"echo": "none"}, "Invalid enum value 'none'"),
    ],
)
def test_parameters_that_break_a_rule_are_rejected(parameters, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(parameters, Parameters)


def test_every_parameter_has_a_description_and_a_default():
    for field in msgspec.structs.fields(WORKLOAD.parameters):
        assert field.type.__metadata__[0].description
        assert field.default is not msgspec.NODEFAULT
