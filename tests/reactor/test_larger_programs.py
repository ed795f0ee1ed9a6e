"""Larger programs in the spirit of the reactor literature, with the traces that they must have."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from runtimes.reactor import Program, ms
from tests.reactor.lines import Line, at, late_at, lines_of_trace
from tests.reactor.programs import Crossing, DeadlineMonitor, PingPong, Pipeline, ProducerConsumer, Sieve

if TYPE_CHECKING:
    from tests.reactor.conftest import Run


def of(log: list[Line], *paths: str) -> list[Line]:
    return [line for line in log if line.path in paths]


def test_a_pipeline_works_on_several_numbers_at_once(run: Run) -> None:
    log = of(run(Pipeline, timeout_ns=4 * ms), *(f"stages[{i}].add_number" for i in range(3)))
    assert sorted(log, key=lambda line: (line.time_ns, line.path)) == [
        at(0, 0, "stages[0].add_number", said=1),
        at(1 * ms, 0, "stages[0].add_number", said=2),
        at(1 * ms, 0, "stages[1].add_number", said=11),
        at(2 * ms, 0, "stages[0].add_number", said=3),
        at(2 * ms, 0, "stages[1].add_number", said=12),
        at(2 * ms, 0, "stages[2].add_number", said=111),
        at(3 * ms, 0, "stages[0].add_number", said=4),
        at(3 * ms, 0, "stages[1].add_number", said=13),
        at(3 * ms, 0, "stages[2].add_number", said=112),
        at(4 * ms, 0, "stages[0].add_number", said=5),
        at(4 * ms, 0, "stages[1].add_number", said=14),
        at(4 * ms, 0, "stages[2].add_number", said=113),
    ]


def test_ping_pong_takes_a_microstep_a_round(run: Run) -> None:
    assert run(PingPong) == [
        at(0, 0, "ping.serve", served=3),
        at(0, 0, "pong.say", said=3),
        at(0, 0, "ping.receive"),
        at(0, 1, "ping.serve", served=2),
        at(0, 1, "pong.say", said=2),
        at(0, 1, "ping.receive"),
        at(0, 2, "ping.serve", served=1),
        at(0, 2, "pong.say", said=1),
        at(0, 2, "ping.receive"),
    ]


def test_a_traffic_light_turns_green_when_the_button_is_pressed_while_it_is_red(run: Run) -> None:
    """Presses at 6 and 9 ms fall into green, and so are lost."""
    assert of(run(Crossing, timeout_ns=13 * ms), "display.say") == [
        at(0, 0, "display.say", said="red"),
        at(3 * ms, 0, "display.say", said="green"),
        at(7 * ms, 0, "display.say", said="yellow"),
        at(8 * ms, 0, "display.say", said="red"),
        at(9 * ms, 0, "display.say", said="green"),
        at(13 * ms, 0, "display.say", said="yellow"),
    ]


def test_a_monitor_ends_the_program_at_the_second_missed_deadline(run: Run) -> None:
    assert run(DeadlineMonitor) == [
        at(0, 0, "counter.send", sent=0),
        late_at(0, 0, "strict.work", missed=0),
        at(0, 0, "monitor.note", count=1),
        at(1 * ms, 0, "counter.send", sent=1),
        late_at(1 * ms, 0, "strict.work", missed=1),
        at(1 * ms, 0, "monitor.note", count=2),
    ]


def test_the_sieve_of_eratosthenes_finds_the_primes(run: Run) -> None:
    found = of(run(partial(Sieve, 5), timeout_ns=12 * ms), "primes.say")
    nothing: list[Any] = [None] * 5
    primes = [2, 3, 5, 7, 11]
    assert found == [
        at((prime - 2) * ms, 0, "primes.say", said=[*nothing[:i], prime, *nothing[i + 1 :]])
        for i, prime in enumerate(primes)
    ]


def test_a_consumer_takes_what_a_producer_brings_in_from_outside_in_order(way: dict[str, Any]) -> None:
    """When they come is physical, and so not known; what comes, and in which order, is."""
    program = Program(ProducerConsumer, fast=True, recording=True, **way)
    program.run()
    taken = of(lines_of_trace(program.trace().steps), "consumer.take")
    expected = [at(0, 0, "consumer.take", taken=(f"item {number}", 3 - number)) for number in range(4)]
    assert [line.outputs for line in taken] == [line.outputs for line in expected]
    assert [line.time_ns // ms >= number for number, line in enumerate(taken)] == [True] * 4
