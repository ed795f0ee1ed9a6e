"""A prioritized buffer whose users die, wait or are interrupted at a chosen moment."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.workloads.replay.buffers import C_COMPILER, made, needs_sharing
from workloads.replay import PrioritizedReplay

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

ROW = {"x": ((), "int64")}
PREDECESSORS = ["none", "one that died", "one that died with the same sign of life", "one that died with the lock"]
TWICE = {"x": ((), "int64"), "again": ((), "int64")}


@pytest.fixture(scope="module")
def steps(repository, tmp_path_factory):
    if C_COMPILER is None or platform.machine() != "x86_64":
        pytest.skip("needs a C compiler, and a processor whose atomic operations are one instruction each")
    sources = [path for path in (repository / "workloads/replay/native").glob("*.c") if path.name != "memory.c"]
    program = tmp_path_factory.mktemp("steps") / "steps"
    options = ["-std=c11", "-O1", "-w", "-ffp-contract=off", "-pthread", f"-I{repository / 'workloads/replay'}"]
    main = repository / "tests/workloads/replay/steps.c"
    subprocess.run([C_COMPILER, *options, str(main), *map(str, sources), "-o", str(program), "-lm"], check=True)
    return program


@needs_sharing
@pytest.mark.parametrize("predecessor", PREDECESSORS)
def test_every_promise_is_kept_whatever_instruction_a_process_is_killed_after(steps, predecessor):
    number = str(PREDECESSORS.index(predecessor))

    done = subprocess.run([steps, number], check=False, capture_output=True, text=True, timeout=120)

    if done.returncode == 77:
        pytest.skip("processes may not be traced here")
    assert done.returncode == 0, done.stderr
    assert "every promise was kept" in done.stdout


class Lock:
    """The lock of a buffer, in the hands of the thread that enters this."""

    def __init__(self, buffer):
        self.memory = mmap.mmap(buffer._ring.descriptor, mmap.PAGESIZE)
        self.mutex = ctypes.byref(ctypes.c_char.from_buffer(self.memory))
        self.library = ctypes.CDLL(None)

    def __enter__(self):
        assert self.library.pthread_mutex_lock(self.mutex) == 0

    def __exit__(self, *_):
        assert self.library.pthread_mutex_unlock(self.mutex) == 0


@needs_sharing
def test_a_signal_that_comes_as_the_wait_for_a_lock_ends_leaves_no_slot_behind():
    buffer = PrioritizedReplay(3, ROW, shared=True)
    lock, held, me = Lock(buffer), threading.Event(), threading.get_ident()

    def interrupt(*_):
        raise InterruptedError("enough")

    def add_meanwhile(thread):
        thread.start()
        held.wait()
        buffer.add(x=1)
        time.sleep(10)

    def hold():
        with lock:
            held.set()
            time.sleep(0.1)
            signal.pthread_kill(me, signal.SIGALRM)  # what it does waits until the add below can run Python

    before = signal.signal(signal.SIGALRM, interrupt)
    thread = threading.Thread(target=hold)
    try:
        with pytest.raises(InterruptedError, match="enough"):
            add_meanwhile(thread)
        thread.join()
        signal.alarm(20)
        for _ in range(2):
            buffer.add(x=np.arange(3))  # would wait for what was left behind for ever
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

    assert sorted(buffer.get_all_transitions()["x"]) == [0, 1, 2]


@needs_sharing
def test_indices_that_another_thread_changes_while_an_update_waits_are_looked_at_again():
    buffer = PrioritizedReplay(3, ROW, shared=True)
    buffer.add(x=np.arange(3))

    def update(indices, kept):
        with contextlib.suppress(IndexError):  # had it not begun to wait
            kept.append(buffer.update_priorities(indices, [2.0, 3.0]))

    def change_indices():
        indices, kept = np.array([0, 1]), []
        thread = threading.Thread(target=update, args=(indices, kept))
        with Lock(buffer):
            thread.start()
            time.sleep(0.1)
            indices[0] = 1 << 38
        thread.join()
        assert kept in ([1], [])

    in_child(change_indices)  # which would be killed by the system


@needs_sharing
def test_a_process_that_only_saves_leaves_its_stream_to_nobody_else(tmp_path):
    buffer = PrioritizedReplay(1000, ROW, seed=5, shared=True)
    buffer.add(x=np.arange(1000))
    in_child(lambda: buffer.save(tmp_path / "buffer"))

    again = PrioritizedReplay.load(tmp_path / "buffer")
    in_child(lambda: (tmp_path / "drawn").write_bytes(again.sample(20)["indices"].tobytes()))

    assert not np.array_equal(np.frombuffer((tmp_path / "drawn").read_bytes(), np.int64), again.sample(20)["indices"])


def in_child(function):
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            function()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


@needs_sharing
@pytest.mark.parametrize("shape", [(1 << 32, 1 << 32), (1 << 62, 1 << 62), (1 << 60,)])
def test_rows_of_more_bytes_than_can_be_counted_are_refused(shape):
    with pytest.raises(ValueError, match=r"There cannot be room for 3 rows: .* 2\^62 bytes"):
        PrioritizedReplay(3, {"x": (shape, "float32"), "again": (shape, "float32")}, shared=True)


# ---- the ring in NumPy ----


class Raise:
    """Raises after a number of lines of the ring in NumPy, as the handler of a signal may."""

    def __init__(self, lines):
        self.left = lines

    def __call__(self, frame, *_):
        if "numpy_" not in frame.f_code.co_filename:
            return None
        self.left -= 1
        if self.left == 0:
            raise InterruptedError
        return self

    def __enter__(self):
        self.before = sys.gettrace()
        sys.settrace(self)

    def __exit__(self, *_):
        sys.settrace(self.before)


def test_rows_are_whole_and_sums_right_wherever_a_signal_interrupts_the_ring_in_numpy():
    lines, is_done = 0, False
    while not is_done:
        lines += 1
        buffer = made("numpy", 4, TWICE, alpha=1.0)
        buffer.add(x=np.arange(4), again=np.arange(4))
        buffer.sample(1, normalise="buffer")
        with contextlib.suppress(InterruptedError), Raise(lines):
            buffer.add(x=np.array([7, 8]), again=np.array([7, 8]), priorities=np.array([5.0, 6.0]))
            is_done = True
        rows, tree = buffer.sample(50), buffer._ring._tree
        assert np.array_equal(rows["x"], rows["again"])
        assert np.array_equal(rows["x"] >= 7, rows["generations"] >= 4)
        assert tree.total == tree.get(range(4)).sum()
        assert tree.min == min(leaf for leaf in tree.get(range(4)) if leaf > 0)
    assert lines > 50


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_buffer_that_is_made_as_its_process_forks_does_not_keep_others_locked():
    buffers, threads = [made("numpy", 4, ROW) for _ in range(3)], []

    def make():
        buffers.append(PrioritizedReplay(4, ROW))

    def fork_slowly(buffer, before):
        before()
        threads.append(threading.Thread(target=make))
        threads[-1].start()
        threads[-1].join(0.05)

    for buffer in buffers[:3]:
        before = buffer._ring.before_fork
        buffer._ring.before_fork = lambda buffer=buffer, before=before: fork_slowly(buffer, before)
    in_child(lambda: [buffer.add(x=1) for buffer in buffers[:3]])
    adding = threading.Thread(target=lambda: [buffer.add(x=1) for buffer in buffers], daemon=True)
    adding.start()
    adding.join(20)

    assert not adding.is_alive()
    for thread in threads:
        thread.join()
