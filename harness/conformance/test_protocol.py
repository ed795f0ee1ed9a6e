"""What a runtime says of itself: options, demands, notices, refusals. Nothing is run but what is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from harness.arguments import fields_of
from harness.conformance.evidence import SEED
from harness.conformance.graphs import (
    CELLS,
    GROUPS,
    NATIVE_CELLS,
    cell_graph,
    failing_graph,
    resumed,
    speakers,
)
from runtimes.protocol import Demands, value_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from harness.conformance.evidence import Subject
    from workloads.dataflow import Graph


@pytest.fixture
def graphs(tmp_path: Path) -> list[Graph]:
    built = [cell_graph(cell, SEED) for cell in CELLS]
    whole = [speakers(GROUPS, SEED, tmp_path), failing_graph("never")]
    return [*whole, *(graph for graph in built if not isinstance(graph, str))]


def test_options_have_defaults_and_descriptions_and_travel(subject: Subject) -> None:
    kind = subject.runtime.options
    assert msgspec.structs.astuple(kind()) is not None
    assert [field.name for field in fields_of(kind) if not field.description] == []
    assert kind.__struct_config__.frozen
    assert pickle.loads(pickle.dumps(subject.options)) == subject.options  # noqa: S301 - what it has just written
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(subject.options)), kind) == subject.options


def test_what_it_says_of_itself_is_text_for_people(subject: Subject) -> None:
    runtime = subject.runtime
    texts = [runtime.summary, runtime.differs, runtime.limits, runtime.notice and runtime.notice(subject.options)]
    assert runtime.summary.strip()
    assert [text for text in texts if text is not None and (not text.strip() or "\n" in text)] == []


def test_a_refusal_is_a_reason(subject: Subject, graphs: list[Graph]) -> None:
    reasons = [reason for graph in graphs if (reason := subject.refusal(graph)) is not None]
    assert [reason for reason in reasons if not reason.strip()] == []


def test_what_is_refused_cannot_be_opened(subject: Subject, graphs: list[Graph], tmp_path: Path) -> None:
    refused = [graph for graph in graphs if subject.refusal(graph) is not None]
    if not refused:
        pytest.skip(f"{subject.runtime.name} refuses none of these graphs")
    for graph in refused:
        with pytest.raises(Exception):  # noqa: B017, PT011 - however it says so
            subject.runtime.open(graph, subject.options, tmp_path).close()


def test_who_starts_at_the_beginning_refuses_a_graph_that_goes_on(subject: Subject) -> None:
    if subject.runtime.refuses is None or subject.refusal(resumed(SEED)) is None:
        pytest.skip(f"{subject.runtime.name} runs such graphs")
    for cell in NATIVE_CELLS:
        graph = cell_graph(cell, SEED)
        if not isinstance(graph, str) and subject.refusal(graph) is None:
            going_on = replace(graph, tasks=tuple(replace(node, resumes=()) for node in graph.tasks))
            assert subject.refusal(going_on) is not None


def test_demands_are_plausible(subject: Subject, graphs: list[Graph]) -> None:
    demanded: Any = subject.runtime.demands
    if demanded is None:
        pytest.skip(f"{subject.runtime.name} states none: those of a loop in one process are taken for its own")
    for graph in graphs:
        if subject.refusal(graph) is None:
            demands = demanded(graph, subject.options)
            assert isinstance(demands, Demands)
            assert demands.processes >= 0
            assert demands.memory_bytes >= max(value_bytes(graph), demands.shared_memory_bytes)
            assert demands.shared_memory_bytes >= 0
