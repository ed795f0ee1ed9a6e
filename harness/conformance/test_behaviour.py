"""What a runtime computes, and when: order, edges, delays, values, seeds, digests, durations, and what it leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.conformance.evidence import ROUNDS, Part, Subject, sequential_part, uninterrupted_tallies
from harness.conformance.graphs import NATIVE_CELLS, expected
from harness.conformance.tasks import draws
from workloads.dataflow import TaskContext

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workloads.dataflow import Graph


def unless_bound(subject: Subject) -> None:
    """Skip what cannot be said of a bound."""
    if subject.runtime.is_bound:
        pytest.skip(f"{subject.runtime.name} is a bound: it fires members alone, and nothing is received")


def unless_it_differs(subject: Subject) -> None:
    """Skip what is said of those that compute what the plain loop computes, in lock-step."""
    if subject.runtime.differs is not None:
        pytest.skip(f"{subject.runtime.name} computes something else: {subject.runtime.differs}")


def heard_wrongly(part: Part) -> list[str]:
    """Every input of a speaker that did not hear what was said to it, with the first round in which it did not."""
    wrong = []
    for node in part.graph.tasks:
        for edge in part.graph.edges_into(node.path):
            for index, tally in enumerate(part.ran.tallies[node.path]):
                heard, said = tally["heard"][edge.target.name], expected(part.graph, edge, index, ROUNDS)
                if heard != said:
                    at = next((at for at, (a, b) in enumerate(zip(heard, said, strict=False)) if a != b), len(heard))
                    wrong.append(
                        f"{node.path}[{index}] in round {at}, {edge.shape.value} from {edge.source}, delay "
                        f"{edge.delay}: {str(heard[at : at + 1])[:200]} instead of {str(said[at : at + 1])[:200]}"
                    )
    return wrong


def spans_of(part: Part) -> dict[str, list[list[tuple[int, int]]]]:
    """Of every path and member when each firing began and ended."""
    return {path: [tally["spans_ns"] for tally in part.ran.tallies[path]] for path in paths_of(part.graph)}


def paths_of(graph: Graph) -> Iterable[str]:
    return [node.path for node in graph.tasks]


# ------------------------------------------------------------------------------------------- order


def test_every_task_fires_once_a_round(subject: Subject) -> None:
    part = subject.streams()
    firings = {len(tally["spans_ns"]) for tallies in part.ran.tallies.values() for tally in tallies if "name" in tally}
    assert firings == {ROUNDS}


def test_a_task_fires_after_those_that_it_hears_in_the_same_round(subject: Subject) -> None:
    part = subject.speakers("shapes")
    spans = spans_of(part)
    early = [
        f"{edge.target.task} fired before {edge.source.task} had ended, in round {number}"
        for edge in part.graph.edges
        if edge.delay == 0
        for pairs in _joined(spans, edge)
        for number, (before, after) in enumerate(zip(*pairs, strict=True))
        if after[0] < before[1]
    ]
    assert sorted(set(early)) == []


def _joined(spans: dict[str, list[list[tuple[int, int]]]], edge: Any) -> list[tuple[Any, Any]]:
    """The spans of sources and targets that `edge` joins."""
    sources, targets = spans[edge.source.task], spans[edge.target.task]
    if edge.shape.value == "one to one":
        return list(zip(sources, targets, strict=True))
    return [(source, target) for source in sources for target in targets]


def test_no_task_starts_a_round_before_all_have_finished_the_one_before(subject: Subject) -> None:
    unless_it_differs(subject)
    part = subject.speakers("shapes")
    members = [spans for path in spans_of(part).values() for spans in path]
    early = [
        number
        for number in range(1, ROUNDS)
        if min(spans[number][0] for spans in members) < max(spans[number - 1][1] for spans in members)
    ]
    assert early == []


# ------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("group", ["shapes", "delays", "cycles", "retained", "absent", "arrays", "anything picklable"])
def test_every_task_hears_what_was_said_to_it(subject: Subject, group: str) -> None:
    assert heard_wrongly(subject.speakers(group)) == []


def test_inputs_are_read_only_and_stay_valid_and_outputs_are_memory_of_their_shape(subject: Subject) -> None:
    tallies = subject.speakers("retained").ran.tallies
    assert [fault for members in tallies.values() for tally in members for fault in tally.get("faults", [])] == []


def test_observed_tasks_received_what_they_heard_last(subject: Subject) -> None:
    part = subject.speakers("shapes")
    observed = [node.path for node in part.graph.tasks if node.observed]
    ends = np.cumsum([len(durations) for durations in part.ran.durations]) - 1
    wrong = [
        f"{path}.{port} after round {end}"
        for end, received in zip(ends, part.ran.received, strict=True)
        for path in observed
        for port, heard in part.ran.tallies[path][0]["heard"].items()
        if received[path][port] != heard[end]
    ]
    assert wrong == []


def test_only_observed_tasks_are_told_of(subject: Subject) -> None:
    unless_bound(subject)
    ran = subject.any_part().ran
    assert set(ran.received[-1]) == {node.path for node in ran.graph.tasks if node.observed}


def test_tallies_are_those_of_every_member_in_index_order(subject: Subject) -> None:
    part = subject.streams()
    named = {
        path: [tally["name"] for tally in part.ran.tallies[path]]
        for path in paths_of(part.graph)
        if path in part.ran.tallies
    }
    singles = {} if not subject.runtime.is_bound else {node.path for node in part.graph.tasks if node.width is None}
    assert named == {
        node.path: [f"{node.path}[{index}]" for index in range(node.members)]
        for node in part.graph.tasks
        if node.path not in singles
    }


# --------------------------------------------------------------------------------- seeds and digests


def test_randomness_comes_from_the_seed_by_path_and_index(subject: Subject) -> None:
    part = subject.streams()
    for node in part.graph.tasks:
        for index, tally in enumerate(part.ran.tallies.get(node.path, ())):
            context = TaskContext(path=node.path, index=index, width=node.members, seed=part.graph.seed)
            assert tally["drawn"] == draws(context, ROUNDS)


def test_random_graphs_give_what_the_plain_loop_gives(subject: Subject) -> None:
    unless_it_differs(subject)
    for part in subject.random():
        assert part.digests() == sequential_part(part).digests()
        own = [tally for node in part.graph.tasks for tally in part.ran.tallies.get(node.path, ())]
        assert [tally["broken"] for tally in own if tally["broken"]] == []


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_what_the_plain_loop_gives(subject: Subject, workers: int) -> None:
    unless_it_differs(subject)
    if "workers" not in type(subject.options).__struct_fields__:
        pytest.skip(f"{subject.runtime.name} has no option 'workers'")
    for part in subject.random(workers):
        assert part.digests() == sequential_part(part).digests()


@pytest.mark.parametrize("name", [cell.name for cell in NATIVE_CELLS])
def test_a_workload_gives_the_digest_that_it_gives_in_the_plain_loop(subject: Subject, name: str) -> None:
    unless_bound(subject)
    part = subject.cell(name)
    unless_it_differs(subject)
    assert part.digests() == sequential_part(part).digests()


# ------------------------------------------------------------------------------------------ going on


def test_a_graph_goes_on_from_a_state_as_if_it_had_never_stopped(subject: Subject) -> None:
    unless_it_differs(subject)
    part = subject.resumed()
    assert part.digests() == sequential_part(part).digests()
    assert part.tallies() == uninterrupted_tallies(part)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_graph_goes_on_from_a_state_with_any_number_of_workers(subject: Subject, workers: int) -> None:
    unless_it_differs(subject)
    if "workers" not in type(subject.options).__struct_fields__:
        pytest.skip(f"{subject.runtime.name} has no option 'workers'")
    part = subject.resumed(workers)
    assert part.tallies() == uninterrupted_tallies(part)


def test_a_state_is_the_same_wherever_it_is_asked_for(subject: Subject) -> None:
    unless_it_differs(subject)
    parts = subject.stating()
    assert [name for name, part in parts.items() if part.state() != sequential_part(part).state()] == []


# --------------------------------------------------------------------------------------- durations


def test_durations_are_those_of_each_round_in_nanoseconds(subject: Subject) -> None:
    ran = subject.any_part().ran
    for durations, wall_ns in zip(ran.durations, ran.walls_ns, strict=True):
        assert isinstance(durations, np.ndarray)
        assert durations.dtype == np.int64
        assert durations.ndim == 1
        assert (durations > 0).all()
        assert subject.runtime.is_bound or durations.sum() <= wall_ns
    assert sum(map(len, ran.durations)) == ROUNDS


def test_a_round_lasts_as_long_as_its_tasks_take(subject: Subject) -> None:
    unless_it_differs(subject)
    part = subject.streams()
    durations_ns = np.concatenate(part.ran.durations)
    slept_ns = 1_000_000
    assert (durations_ns >= slept_ns).all()


# ------------------------------------------------------------------------------------------ the end


def test_closing_closes_every_task_once_where_it_lives(subject: Subject) -> None:
    ran = subject.streams().ran
    homes = {
        tally["name"]: [tally["process"]] for members in ran.tallies.values() for tally in members if "name" in tally
    }
    assert ran.closed == homes


def test_closing_twice_is_closing_once(subject: Subject) -> None:
    assert subject.any_part().ran.closed_again is None


def test_nothing_is_left_after_closing(subject: Subject) -> None:
    assert [what for ran in subject.runs() for what in ran.left] == []
