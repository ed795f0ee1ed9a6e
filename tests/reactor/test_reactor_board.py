"""Boards: what waiting promises, whoever waits and whatever the board is made of."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from runtimes.reactor.board import ABORTED, REACHED, TIMED_OUT, Board, BoardHandle, native_available

LONG_S: Final = 60.0
MakeBoard = Callable[..., BoardHandle]


@pytest.fixture(params=[True, False], ids=["native", "semaphores"])
def native(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def make_board() -> Iterator[MakeBoard]:
    """Makes boards that are closed after the test."""
    made: list[BoardHandle] = []

    def make(*, native: bool = True, lines: int = 2, spin: bool = True, threads: bool = False) -> BoardHandle:
        context = multiprocessing.get_context("fork")
        made.append(BoardHandle(lines, 2, context, spin=spin, native=native, threads=threads))
        return made[-1]

    yield make
    for handle in made:
        handle.close()


def in_another_process(act: Callable[[], Any]) -> Any:
    """Start `act` in a forked process."""
    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    return process


def echo(board: Board, steps: int) -> None:
    """Answer every step of line 0 with one of line 1."""
    for step in range(1, steps + 1):
        assert board.wait(0, step, LONG_S) == REACHED
        board.publish(1)


def call(board: Board, steps: int) -> None:
    """Advance line 0, and wait each time for the answer on line 1."""
    for step in range(1, steps + 1):
        board.publish(0)
        assert board.wait(1, step, LONG_S) == REACHED


def test_a_line_advanced_to_a_step_has_reached_it_and_all_before(make_board: MakeBoard, native: bool) -> None:
    handle = make_board(native=native)
    mine, theirs = handle.open(0), handle.open(1)
    mine.advance_to(0, 5)
    assert [theirs.wait(0, step, 0.01) for step in (1, 5, 6)] == [REACHED, REACHED, TIMED_OUT]


def test_a_line_never_goes_back(make_board: MakeBoard, native: bool) -> None:
    handle = make_board(native=native)
    mine, theirs = handle.open(0), handle.open(1)
    mine.advance_to(0, 5)
    mine.advance_to(0, 3)
    mine.advance_to(0, 5)
    mine.publish(0)
    assert [theirs.wait(0, step, 0.01) for step in (5, 6, 7)] == [REACHED, REACHED, TIMED_OUT]


def test_publishing_and_advancing_go_on_from_one_another(make_board: MakeBoard, native: bool) -> None:
    handle = make_board(native=native)
    mine, theirs = handle.open(0), handle.open(1)
    mine.publish(0)
    mine.advance_to(0, 4)
    mine.publish(0)
    assert [theirs.wait(0, step, 0.01) for step in (5, 6)] == [REACHED, TIMED_OUT]


def test_lines_advance_on_their_own(make_board: MakeBoard, native: bool) -> None:
    handle = make_board(native=native)
    mine, theirs = handle.open(0), handle.open(1)
    mine.advance_to(0, 2)
    theirs.publish(1)
    assert mine.wait(1, 1, 0.01) == REACHED
    assert mine.wait(1, 2, 0.01) == TIMED_OUT


def test_steps_are_counted_beyond_what_a_counter_holds(make_board: MakeBoard) -> None:
    handle = make_board()
    mine, theirs = handle.open(0), handle.open(1)
    for step in (2**31 - 1, 2**32 - 2, 2**32 + 3):
        mine.advance_to(0, step)
    assert [theirs.wait(0, step, 0.01) for step in (2**32 + 3, 2**32 + 4)] == [REACHED, TIMED_OUT]


@pytest.mark.parametrize("spin", [True, False], ids=["spinning", "sleeping"])
def test_who_sleeps_is_woken_by_either_way_to_advance(make_board: MakeBoard, native: bool, spin: bool) -> None:
    handle = make_board(native=native, spin=spin)
    board = handle.open(0)

    def answer_late() -> None:
        mine = handle.open(1)
        time.sleep(0.05)
        mine.publish(1)
        time.sleep(0.05)
        mine.advance_to(1, 3)

    process = in_another_process(answer_late)
    assert [board.wait(1, step, LONG_S) for step in (1, 3)] == [REACHED, REACHED]
    process.join()


@pytest.mark.parametrize("spin", [True, False], ids=["spinning", "sleeping"])
@pytest.mark.parametrize("placed", ["together", "apart"])
def test_no_step_is_lost_wherever_the_two_run(make_board: MakeBoard, spin: bool, placed: str) -> None:
    allowed = os.sched_getaffinity(0)
    first = min(allowed)
    second = first if placed == "together" else max(allowed)
    handle = make_board(spin=spin)

    def answer() -> None:
        os.sched_setaffinity(0, {second})
        echo(handle.open(1), 2000)

    process = in_another_process(answer)
    try:
        os.sched_setaffinity(0, {first})
        call(handle.open(0), 2000)
    finally:
        os.sched_setaffinity(0, allowed)
    process.join()
    assert process.exitcode == 0


def test_who_waits_for_one_on_its_own_processor_sleeps_at_once(make_board: MakeBoard) -> None:
    """Told by the processor time: one that spins would burn as much as it waits."""
    allowed = os.sched_getaffinity(0)
    handle = make_board()
    mine, theirs = handle.open(0), handle.open(1)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        theirs.publish(1)
        burnt_s, waited_s = [], []
        for _ in range(20):
            burnt, begun = time.thread_time(), time.monotonic()
            assert mine.wait(1, 2, 0.0005) == TIMED_OUT
            burnt_s.append(time.thread_time() - burnt)
            waited_s.append(time.monotonic() - begun)
    finally:
        os.sched_setaffinity(0, allowed)
    assert sum(burnt_s) < sum(waited_s) / 4


def test_nobody_burns_a_processor_5_ms_after_the_last_step(make_board: MakeBoard) -> None:
    handle = make_board()
    process = in_another_process(lambda: echo(handle.open(1), 1000))
    board = handle.open(0)
    call(board, 1000)
    process.join()
    burnt = time.thread_time()
    for _ in range(4):
        assert board.wait(1, 1001, 0.1) == TIMED_OUT
    assert time.thread_time() - burnt < 4 * 0.005


def test_threads_of_one_process_answer_one_another(make_board: MakeBoard, native: bool) -> None:
    handle = make_board(native=native, threads=True)
    other = threading.Thread(target=echo, args=(handle.open(1), 300))
    other.start()
    call(handle.open(0), 300)
    other.join()


def test_giving_up_ends_present_and_later_waits(make_board: MakeBoard, native: bool) -> None:
    handle = make_board(native=native)
    board = handle.open(0)

    def give_up() -> None:
        time.sleep(0.05)
        handle.open(1).abort()

    process = in_another_process(give_up)
    assert board.wait(1, 1, LONG_S) == ABORTED
    process.join()
    assert board.aborted()
    assert board.wait(1, 1, LONG_S) == ABORTED


@pytest.mark.skipif(not native_available(), reason="built without a C compiler")
@pytest.mark.parametrize(
    ("act", "error", "said"),
    [
        (lambda board: board.publish(2), IndexError, "line 2 of a board of 2"),
        (lambda board: board.advance_to(-1, 1), IndexError, "line -1 of a board of 2"),
        (lambda board: board.advance_to(0), TypeError, "advance_to"),
        (lambda board: board.advance_to(0, "1"), TypeError, "int"),
        (lambda board: board.wait(0, 1, -1.0), ValueError, "timeout_s must be from 0 to 86400 seconds"),
        (lambda board: board.wait(0, 1, float("nan")), ValueError, "timeout_s"),
    ],
)
def test_what_no_board_can_do_is_an_error(
    make_board: MakeBoard, act: Callable[[Any], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        act(make_board().open(0))


@pytest.mark.skipif(not native_available(), reason="built without a C compiler")
def test_a_board_that_does_not_fit_its_memory_is_an_error() -> None:
    from runtimes.reactor import _native  # type: ignore[attr-defined]

    with pytest.raises(ValueError, match="a board of 2 lines needs 128 aligned bytes for each, not 128 in all"):
        _native.Board(bytearray(128), 2, True)
