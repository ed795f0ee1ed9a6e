"""A shared buffer whose users are killed at random: is every row whole, and is none lost?

`python -m tests.workloads.replay.stress 60 --seed 1` does so for a minute. Writers note which of their rows were
stored, as far as they saw. At the end, the rows of each are its last ones without a gap; all that anybody was given
is as it was made.
"""

from __future__ import annotations

import argparse
import mmap
import multiprocessing
import os
import random
import signal
import time

import numpy as np

from workloads.replay import PrioritizedReplay

WRITERS, READERS = 4, 2
FIELDS = {
    "writer": ((), "int64"),
    "number": ((), "int64"),
    "small": ((9,), "uint32"),
    "flag": ((), "bool"),
    "large": ((150,), "uint16"),
}
CONTEXT = multiprocessing.get_context("fork")


def rows_of(writer, numbers):
    """Rows that are made of their numbers alone."""
    base = (writer * 0x9E3779B1 + numbers * 0x85EBCA77)[:, None]
    return {
        "writer": np.full(len(numbers), writer),
        "number": numbers,
        "small": ((base + np.arange(9) * 0xC2B2AE3D) % 2**32).astype(np.uint32),
        "flag": numbers % 3 == 0,
        "large": ((base + np.arange(150) * 40503) % 2**16).astype(np.uint16),
    }


def check(rows):
    for writer in range(WRITERS):
        mine = rows["writer"] == writer
        expected = rows_of(writer, rows["number"][mine])
        for name, values in expected.items():
            assert np.array_equal(rows[name][mine], values), f"a row is torn: its {name} is not what was written"
    assert np.isin(rows["writer"], range(WRITERS)).all()


def write(buffer, writer, stored, seed):
    rng = random.Random(seed)
    while True:
        rows = rng.choice((1, 3, 32, 200))
        numbers = np.arange(stored[writer], stored[writer] + rows)
        priorities = None if rng.random() < 0.5 else np.linspace(0.1, 2, rows)
        buffer.add(**rows_of(writer, numbers), priorities=priorities)
        stored[writer] += rows


def read(buffer, seed):
    rng = np.random.default_rng(seed)
    while True:
        try:
            batch = buffer.sample(64, normalise=rng.choice(["batch", "buffer"]), stratified=bool(rng.random() < 0.5))
        except ValueError:  # nothing to draw, for a moment
            continue
        check(batch)
        assert (batch["indices"] == batch["generations"] % buffer.capacity).all()
        assert batch["indices"].max() < len(buffer)
        assert 0 < batch["weights"].min() <= batch["weights"].max() <= 1
        generations = batch["generations"] if rng.random() < 0.5 else None
        buffer.update_priorities(batch["indices"], rng.random(64) * (rng.random(64) < 0.9), generations)


def start(place, buffer, stored, seed):
    target, arguments = (write, (buffer, place, stored, seed)) if place < WRITERS else (read, (buffer, seed))
    process = CONTEXT.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def kill(process):
    assert process.exitcode is None, f"a process ended by itself with {process.exitcode}"
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def check_nothing_is_lost(buffer, stored):
    config, arrays = buffer.state()
    check({name: arrays[f"fields/{name}"][arrays["generations"] >= 0] for name in FIELDS})
    # Who dies as it takes slots may leave what was there, to be overwritten a round late.
    is_due = arrays["generations"] >= max(0, config["added"] - buffer.capacity)
    assert (arrays["generations"][is_due] % buffer.capacity == np.flatnonzero(is_due)).all()
    for writer in range(WRITERS):
        mine = is_due & (arrays["fields/writer"] == writer) & (arrays["fields/number"] < stored[writer])
        # Some are there twice, if a writer was killed before it could note that they were stored.
        numbers = np.unique(arrays["fields/number"][mine])
        expected = np.arange(stored[writer] - len(numbers), stored[writer])
        assert (numbers == expected).all(), f"a row is lost: of {expected}, only {numbers} are there"


def stress(seconds, seed, capacity):
    rng = random.Random(seed)
    buffer = PrioritizedReplay(capacity, FIELDS, eps=0.01, seed=seed, shared=True)
    stored = np.frombuffer(mmap.mmap(-1, 8 * WRITERS), np.int64)
    processes = [start(place, buffer, stored, rng.random()) for place in range(WRITERS)]
    while not stored.all():
        time.sleep(0.001)
    processes += [start(place, buffer, stored, rng.getrandbits(32)) for place in range(WRITERS, WRITERS + READERS)]
    deaths, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(rng.random() * 0.02)
        if rng.random() < 0.1:
            check(buffer.get_all_transitions())
        victim = rng.randrange(len(processes))
        kill(processes[victim])
        deaths += 1
        processes[victim] = start(victim, buffer, stored, rng.getrandbits(32))
    for process in processes:
        kill(process)
    check_nothing_is_lost(buffer, stored)
    for at in range(0, 2 * capacity + 1, 50):  # slots of the dead are taken over
        buffer.add(**rows_of(0, np.arange(at, at + 50)))
    check(buffer.sample(1000))
    assert (buffer.state()[1]["generations"] >= 0).all()
    return f"{stored.sum()} rows stored, {deaths} deaths, {buffer._ring.repaired} of them under the lock"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--capacities", type=int, nargs="+", default=[61, 3000])
    given = parser.parse_args()
    for each in given.capacities:
        print(f"capacity {each}:", stress(given.seconds / len(given.capacities), given.seed, each))  # noqa: T201 - a command
