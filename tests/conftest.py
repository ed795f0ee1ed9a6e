"""What all tests share: the settings of hypothesis and of the libraries, the top of the repository, and an end
of what a failed test has started."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import psutil
import pytest

from tests.servants import KEPT

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# As the harness sets it for what it measures: two libraries with a thread for each processor make tests
# on small machines slow, and the child processes of tests inherit it. Set before anything reads it.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Tells what these tests start from what others start on the same machine.
os.environ["REACTORBENCH_TESTS"] = str(os.getpid())

# What is started in the background ignores Ctrl-C, and so do all its children: the tests that interrupt
# a program would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test fails because the machine is slow: examples have no deadline.
hypothesis.settings.register_profile(
    "reactorbench", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("reactorbench")


@pytest.fixture(autouse=True, scope="module")
def _what_is_there_by_now_is_not_searched_for_garbage() -> None:
    """What pytest has collected and libraries keep is millions of objects: to look through them takes a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The top of the working tree."""
    return Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """End what a test has left running that failed, as one that hung has."""
    report = yield
    if call.when == "call" and report.failed:
        for process in _left_by_this_test():
            with contextlib.suppress(psutil.Error):
                process.kill()
    return report


def _left_by_this_test() -> Iterator[psutil.Process]:
    """Descendants of this process, and orphans: those are known by the environment that they were started in."""
    # Python's own, which serve all tests.
    servants = {resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_pid}  # type: ignore[attr-defined]
    descendants = set(psutil.Process().children(recursive=True))
    kept = {one.pid for one in descendants if KEPT & {one.pid, *(parent.pid for parent in one.parents())}}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid not in servants | kept and (process in descendants or _is_of_this_test(process)):
                yield process


def _is_of_this_test(process: psutil.Process) -> bool:
    names = ("REACTORBENCH_TESTS", "PYTEST_CURRENT_TEST")
    started_in = process.environ()
    return process.pid != os.getpid() and all(started_in.get(name) == os.environ[name] for name in names)
