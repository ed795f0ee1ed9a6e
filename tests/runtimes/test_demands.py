"""What runtimes say before they start about the memory and the processes that they will take."""

from __future__ import annotations

import pytest

from harness import registry
from runtimes.protocol import demands_here, processors, value_bytes

NBYTES = 1_000_000
ACTORS = 6


def graph():
    workload = registry.workloads().get("broadcast_gather")
    return workload.build(workload.parameters(nbytes=NBYTES, actors=ACTORS), 0)


def demands(name, **options):
    runtime = registry.runtimes().get(name)
    if runtime.demands is None:
        return demands_here(graph())
    return runtime.demands(graph(), runtime.options(**options))


def test_the_values_of_a_round_are_its_payload_and_all_echoes():
    assert value_bytes(graph()) == (1 + ACTORS) * NBYTES


@pytest.mark.parametrize("name", ["sequential", "reactor-inline", "reactor-processes", "reactor-threads"])
def test_a_runtime_that_shares_memory_keeps_every_value_once(name):
    base = demands(name).memory_bytes - value_bytes(graph())

    assert 0 < base < 500_000_000


def test_reactors_that_may_move_have_every_value_twice_while_they_do():
    assert demands("reactor").memory_bytes == demands("reactor-inline").memory_bytes + value_bytes(graph())


def test_ray_has_a_process_for_each_actor_and_packed_one_less_than_processors():
    assert demands("ray").processes == demands("ray-by-value").processes == ACTORS
    assert demands("ray-packed").processes == demands("ray-compiled").processes == max(processors() - 1, 0)
    assert demands("ray-packed", driver_slice=False).processes == processors()


@pytest.mark.parametrize("name", ["ray", "ray-packed", "ray-compiled", "ray-by-value"])
def test_what_ray_keeps_of_large_arrays_must_be_in_shared_memory(name):
    workload = registry.workloads().get("broadcast_gather")
    runtime = registry.runtimes().get(name)
    small, large = (
        runtime.demands(workload.build(workload.parameters(nbytes=nbytes, actors=ACTORS), 0), runtime.options())
        for nbytes in (1_000, 100_000_000)
    )
    assert small.shared_memory_bytes == 0
    assert 2 * (1 + ACTORS) * 100_000_000 <= large.shared_memory_bytes <= large.memory_bytes


def test_ray_keeps_values_in_actors_and_twice_in_its_store_and_by_value_copies_more():
    assert demands("ray").memory_bytes > 3 * value_bytes(graph())
    assert demands("ray-by-value").memory_bytes >= demands("ray").memory_bytes + ACTORS * NBYTES
