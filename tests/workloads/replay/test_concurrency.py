"""A prioritized buffer with several threads and processes, some of which are slow, and some of which die."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from harness.conformance.leftovers import GRACE_S, watched
from tests.workloads.replay.buffers import C_COMPILER, FIELDS, KINDS, NATIVE, made, needs_sharing, rows_of
from workloads.replay import PrioritizedReplay, memory_file, rings

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

ROW = {"x": ((), "int64")}
FORK = multiprocessing.get_context("fork") if sys.platform != "win32" else None
LARGE = {"frame": ((1 << 23,), "uint8")}
"""Copying a row of this takes long enough to be stopped within."""


def own_stream(seed, number):
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,))))


def in_child(function, *arguments, method="fork"):
    """What the function gives in a process of its own."""
    context = multiprocessing.get_context(method)
    results, answer = context.Pipe(duplex=False)
    process = context.Process(target=call, args=(answer, function, arguments))
    process.start()
    assert results.poll(60)
    result = results.recv()
    process.join()
    assert process.exitcode == 0
    return result


def call(answer, function, arguments):
    answer.send(function(*arguments))


def use(buffer):
    """Adds, draws and updates a row, and says what came of it."""
    where = buffer.add(x=7)
    drawn = buffer.sample(3)
    touched = buffer.update_priorities([where], [9.0])
    return int(where), drawn["indices"].tolist(), touched, buffer.max_priority


# ---- processes ----


@needs_sharing
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_shared_buffer_is_one_buffer_in_all_processes_and_each_draws_from_its_own_stream(method):
    buffer = PrioritizedReplay(1000, ROW, alpha=1.0, seed=5, shared=True)
    buffer.add(x=np.arange(9))

    for number in (1, 2) if method == "fork" else (1,):
        u = own_stream(5, number).random(3)
        before = buffer.state()[1]["leaves"].astype(float)
        where, indices, touched, largest = in_child(use, buffer, method=method)
        total = np.append(before, 1 if number == 1 else 9).cumsum()
        assert (where, touched, largest) == (8 + number, 1, 9)
        assert indices == np.searchsorted(total, u * total[-1], side="right").tolist()

    assert buffer.max_priority == 9
    first = buffer.sample(50)
    u = np.random.Generator(np.random.PCG64(5)).random(50)
    total = buffer.state()[1]["leaves"].astype(float).cumsum()
    assert first["indices"].tolist() == np.searchsorted(total, u * total[-1], side="right").tolist()


@needs_sharing
def test_the_streams_of_processes_that_come_later_are_new_ones_after_a_restart(tmp_path):
    buffer = PrioritizedReplay(10, ROW, seed=5, shared=True)
    buffer.add(x=np.arange(9))
    in_child(use, buffer)
    buffer.save(tmp_path / "buffer")

    again = PrioritizedReplay.load(tmp_path / "buffer")

    assert again.shared
    assert len(again) == 10
    in_child(use, again)
    assert again.state()[0]["joined"] == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_copy_of_a_buffer_that_is_not_shared_is_whole_whatever_other_threads_did(kind):
    buffer = made(kind, 300, FIELDS)
    buffer.add(**rows_of(np.arange(300)))
    stop = threading.Event()

    def keep_adding():
        while not stop.is_set():
            buffer.add(**rows_of(np.arange(64)))

    threads = [threading.Thread(target=keep_adding) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            assert in_child(add_and_check, buffer)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def add_and_check(buffer):
    buffer.add(**rows_of(np.arange(300)))
    batch = buffer.sample(100)
    return bool((batch["obs"][:, 0] == batch["action"] / 3 * 11).all()) and len(buffer) == 300


@pytest.mark.parametrize(
    ("platform", "module", "words"),
    [("darwin", "there", "Linux's. Use shared=False"), (sys.platform, None, "native part .* is not built")],
)
def test_a_buffer_that_cannot_be_shared_says_why(monkeypatch, platform, module, words):
    if module is None:
        monkeypatch.setattr(rings, "compiled", lambda _: None)
    elif not NATIVE:
        pytest.skip("the native part of the replay buffer is not built; install again with a C compiler")
    monkeypatch.setattr(memory_file.sys, "platform", platform)

    with pytest.raises(RuntimeError, match=words):
        PrioritizedReplay(10, ROW, shared=True)


@needs_sharing
def test_memory_that_is_not_there_is_an_error_before_any_is_taken():
    huge = {"x": ((1 << 16,), "float64")}  # more than there are addresses
    with pytest.raises(MemoryError, match=r"bytes of shared memory were wanted: .* Lower the capacity"):
        PrioritizedReplay(1 << 36, huge, shared=True)
    with pytest.raises(MemoryError, match="Lower the capacity"):
        PrioritizedReplay(1 << 36, huge)


@needs_sharing
def test_nothing_is_left_behind_by_processes_that_are_killed():
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with watched(GRACE_S) as left:
        buffer = PrioritizedReplay(10, ROW, shared=True)
        child = FORK.Process(target=use_for_ever, args=(buffer,))
        child.start()
        while len(buffer) < 10:
            time.sleep(0.001)
        child.kill()
        child.join()
        del buffer, child

    assert left.found == []
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def use_for_ever(buffer):
    while True:
        use(buffer)


@needs_sharing
def test_rows_are_whole_and_none_is_lost_when_processes_are_killed_at_random(repository):
    command = [sys.executable, "-m", "tests.workloads.replay.stress", "1.6"]

    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=repository, timeout=120)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rows stored") == 2


# ---- writers that are slow, or die ----


class SlowWriter:
    """A process that was stopped while it copied a row into a buffer of three."""

    def __init__(self):
        self.buffer = PrioritizedReplay(3, LARGE, shared=True)
        self.buffer.add(frame=np.zeros((3, 1 << 23), np.uint8))
        self.process = FORK.Process(target=write_for_ever, args=(self.buffer,), daemon=True)
        self.process.start()
        self.stop()
        while self.unfinished() is None:
            self.signal(signal.SIGCONT)
            time.sleep(0.005)
            self.stop()

    def stop(self):
        self.signal(signal.SIGSTOP)
        while Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").split()[2] != "T":
            time.sleep(0.001)

    def unfinished(self):
        """The slot that it writes to."""
        generations = self.buffer._ring.content().generations
        return int(generations.argmin()) if generations.min() < 0 else None

    def signal(self, number):
        os.kill(self.process.pid, number)

    def end(self):
        self.process.kill()
        self.process.join()


@pytest.fixture
def slow():
    writer = SlowWriter()
    yield writer
    writer.end()


def write_for_ever(buffer):
    for number in range(1, 1 << 40):
        buffer.add(frame=np.full(1 << 23, number % 251, np.uint8))


def add_round(buffer, done):
    """Goes round the ring, over every slot."""
    for _ in range(3):
        buffer.add(frame=np.full(1 << 23, 255, np.uint8))
    done.set()


@needs_sharing
def test_a_row_that_is_being_written_is_not_drawn_nor_given_a_priority_and_is_waited_for(slow):
    where, done = slow.unfinished(), threading.Event()
    rows = slow.buffer.sample(8)
    assert where not in rows["indices"]
    assert slow.buffer.update_priorities([where], [5.0]) == 0
    assert where not in slow.buffer.sample(8)["indices"]

    thread = threading.Thread(target=add_round, args=(slow.buffer, done))
    thread.start()
    assert not done.wait(0.2)
    slow.signal(signal.SIGCONT)

    assert done.wait(30)
    thread.join()


@needs_sharing
def test_the_slot_of_a_writer_that_died_is_taken_over(slow):
    slow.end()
    assert slow.unfinished() is not None

    add_round(slow.buffer, threading.Event())

    assert slow.unfinished() is None
    assert (slow.buffer.sample(6)["frame"] == 255).all()


@needs_sharing
def test_waiting_for_a_slow_writer_can_be_interrupted(slow):
    def interrupt(*_):
        raise InterruptedError("enough")

    def add_for_a_while():
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        add_round(slow.buffer, threading.Event())

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(InterruptedError, match="enough"):  # also if it rings before the next line
            add_for_a_while()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    slow.end()
    add_round(slow.buffer, threading.Event())
    assert (slow.buffer.sample(6)["frame"] == 255).all()


# ---- threads ----


@pytest.mark.parametrize("kind", KINDS)
def test_threads_add_draw_update_and_save_at_a_time(kind, tmp_path):
    buffer = made(kind, 100, FIELDS)
    buffer.add(**rows_of(np.arange(100)))
    failures, end = [], time.monotonic() + 0.4

    def add(seed):
        rng = np.random.default_rng(seed)
        buffer.add(**rows_of(rng.integers(0, 50, rng.integers(1, 30))))

    def draw(seed):
        batch = buffer.sample(40, normalise="buffer")
        assert all(np.array_equal(batch[name], values) for name, values in rows_of(batch["action"] // 3).items())
        buffer.update_priorities(batch["indices"], np.random.default_rng(seed).random(40), batch["generations"])

    def save(seed):
        buffer.save(tmp_path / f"buffer{seed}")
        rows = PrioritizedReplay.load(tmp_path / f"buffer{seed}").get_all_transitions()
        assert all(np.array_equal(rows[name], values) for name, values in rows_of(rows["action"] // 3).items())

    def keep(doing, seed):
        try:
            while time.monotonic() < end:
                doing(seed)
        except BaseException as error:  # noqa: BLE001 - for the main thread
            failures.append(error)

    threads = [threading.Thread(target=keep, args=(doing, n)) for n, doing in enumerate([add, add, draw, draw, save])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(buffer) == 100


# ---- without Python ----


@pytest.fixture(scope="module")
def compiler():
    if C_COMPILER is None:
        pytest.skip("there is no C compiler here; install gcc or clang")
    if not NATIVE:
        pytest.skip("the native part of the replay buffer is not built; install again with a C compiler")
    return C_COMPILER


@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_the_native_part_is_clean_under_sanitizers(repository, compiler, sanitizer):
    command = [str(repository / "scripts/check-sanitizers"), "--only", sanitizer, "--seconds", "0.2"]

    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=150)

    if done.returncode == 2:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("none was lost\nNothing was found.\n")
    assert "WARNING" not in done.stdout


def test_the_driver_notices_readers_that_do_not_look_twice(repository, compiler, tmp_path):
    shutil.copytree(repository / "workloads/replay/native", tmp_path / "native")
    reading = tmp_path / "native/ring_read.c"
    text = reading.read_text(encoding="utf-8")
    looking = "if (state != d->states[j] || !is_complete(state)) {"
    assert looking in text
    reading.write_text(text.replace(looking, "if (0) {"), encoding="utf-8")
    sources = [path for path in (tmp_path / "native").glob("*.c") if path.name != "memory.c"]
    driver = [str(repository / "tests/workloads/replay/driver.c"), "-o", str(tmp_path / "driver")]
    options = ["-std=c11", "-O0", "-w", "-pthread", f"-I{tmp_path}"]
    subprocess.run([compiler, *options, *map(str, sources), *driver, "-lm"], check=True)

    for seed in range(20):  # a race is not lost every time
        command = [tmp_path / "driver", "threads", "0.6", str(seed)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            break
    assert "not so: is_whole" in done.stderr or "not so: indices[i]" in done.stderr
