"""The parent's side of one invocation: start the child, watch it, and leave nothing of it behind.

The child runs in a session and a folder of its own, with the same thread limits for every runtime, and
reports through files. Whatever becomes of it, a record comes back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import site
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import msgspec

import harness
from harness.job import (
    CheckJob,
    CheckResult,
    Folder,
    LearnJob,
    LearnResult,
    MeasureJob,
    Pairing,
    Phase,
    TraceJob,
    TraceResult,
)
from harness.process_tree import ProcessTree
from harness.records import Measurement, Record
from harness.scratch import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harness.plan import Invocation
    from harness.records import Outcome
    from harness.versions import Version

__all__ = ["THREAD_LIMITS", "check_pairings", "environment", "learn", "measure", "skipped_record", "trace"]


Result = TypeVar("Result", bound=msgspec.Struct)

_SAMPLE_S = 0.2
_SAMPLE_MEASURING_S = 1.0
"""Looking at the process table takes milliseconds of a processor, which the rounds may want."""
_SETTLE_S = 3.0
"""What processes get to end by themselves after a child has ended."""
_CHECK_TIMEOUT_S = 180.0
_STACK_DUMP_S = 0.3
"""What a hung child gets to write its stacks to the log."""

_LAUNCHER = Path(__file__).with_name("regression") / "launch.py"

_LONGEST_LOG = 64 * 2**20
_KEPT_OF_LOG = 2**20
"""Bytes."""

_PAGE = 4096
"""Bytes, after which the layout of a stack repeats."""

THREAD_LIMITS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "NUMEXPR_NUM_THREADS": "1",
        "VECLIB_MAXIMUM_THREADS": "1",
    }
)
"""The same for every runtime: members are what runs in parallel, not the libraries inside one."""


def measure(  # noqa: PLR0913 - what an invocation depends on
    invocation: Invocation,
    *,
    log: Path,
    timeout_s: float,
    machine: Mapping[str, Any],
    watch: Callable[[str, float], None],
    version: Version | None = None,
    under: Sequence[str] = (),
    profile: str | None = None,
) -> Record:
    """Run `invocation` in a child process; its output is appended to `log`.

    `version` is the one that does it, which does not lack anything for it; this one if None. `under` is a command that
    starts the child's, a profiler; `profile`, where the child leaves what cProfile finds.

    Raises:
        HarnessError: if a process of it cannot be ended.
        KeyboardInterrupt: if one arrives meanwhile; everything of the invocation has been ended by then.
    """
    cell, runtime = invocation.cell, invocation.runtime
    job = MeasureJob(
        parent_pid=os.getpid(),
        workload=cell.workload,
        parameters=cell.parameters if version is None else version.parameters(invocation),
        runtime=runtime.name,
        options=runtime.options if version is None else version.options(invocation),
        seed=invocation.seed,
        warmup_rounds=cell.warmup_rounds,
        rounds=cell.rounds,
        measure_s=cell.measure_s,
        profile=profile,
        metrics=list(cell.metrics),
    )
    child = _Child(
        mode="measure",
        job=job,
        log=log,
        timeout_s=timeout_s,
        seed=invocation.seed,
        watch=watch,
        interpreter=None if version is None else version.interpreter,
        under=under,
    )
    record = _record(invocation, machine, log)
    ending, result = child.run(Measurement)
    if ending.timed_out_in is not None:
        reason = f"ended after {timeout_s:g} s, while {ending.timed_out_in}; --timeout-s sets the limit"
        return msgspec.structs.replace(record, outcome="timeout", reason=reason)
    if result is None:
        return msgspec.structs.replace(record, outcome="failed", reason=_way_it_died(ending.status))
    if result.reason is not None:
        return msgspec.structs.replace(record, outcome="failed", reason=result.reason)
    return msgspec.structs.replace(record, outcome="ok", **msgspec.structs.asdict(result))


def skipped_record(invocation: Invocation, reason: str, *, machine: Mapping[str, Any], lacked_memory: bool) -> Record:
    """The record of an invocation that cannot run here."""
    record = _record(invocation, machine, log=None)
    return msgspec.structs.replace(record, outcome="skipped", reason=reason, lacked_memory=lacked_memory)


def check_pairings(
    pairings: list[Pairing],
    *,
    seed: int,
    log: Path,
    watch: Callable[[str, float], None],
    interpreter: str | None = None,
) -> CheckResult | None:
    """What the check in a throw-away child finds; None if the child died over it, as `log` then says.

    `interpreter` is the one that it runs on; this one if None.
    """
    job = CheckJob(parent_pid=os.getpid(), seed=seed, pairings=pairings)
    child = _Child(
        mode="check",
        job=job,
        log=log,
        timeout_s=_CHECK_TIMEOUT_S,
        seed=seed,
        watch=watch,
        interpreter=interpreter,
    )
    return child.run(CheckResult)[1]


def trace(job: TraceJob, *, log: Path, timeout_s: float) -> TraceResult:
    """Do `job` in a child process, as an invocation is done; its output is appended to `log`.

    Raises:
        HarnessError: if a process of it cannot be ended.
    """
    child = _Child(mode="trace", job=job, log=log, timeout_s=timeout_s, seed=job.seed, watch=lambda _phase, _s: None)
    ending, result = child.run(TraceResult)
    if ending.timed_out_in is not None:
        return TraceResult(reason=f"ended after {timeout_s:g} s; --timeout-s sets the limit")
    return TraceResult(reason=_way_it_died(ending.status)) if result is None else result


def learn(
    job: LearnJob, *, log: Path, timeout_s: float, watch: Callable[[str, float], None]
) -> tuple[Outcome, LearnResult]:
    """Do `job`, a training, in a child process; its output is appended to `log`.

    Raises:
        HarnessError: if a process of it cannot be ended.
        KeyboardInterrupt: if one arrives meanwhile; everything of the training has been ended by then.
    """
    child = _Child(mode="learn", job=job, log=log, timeout_s=timeout_s, seed=job.seed, watch=watch)
    ending, result = child.run(LearnResult)
    if ending.timed_out_in is not None:
        reason = f"ended after {timeout_s:g} s, while {ending.timed_out_in}; timeout_s sets the limit"
        return "timeout", LearnResult(reason=reason)
    if result is None:
        return "failed", LearnResult(reason=_way_it_died(ending.status))
    return ("ok" if result.reason is None else "failed"), result


def environment(inherited: Mapping[str, str], seed: int, *, is_foreign: bool = False) -> dict[str, str]:
    """The environment of a child: `inherited`, one thread for every numerical library, no engine set up elsewhere.

    The hash seed and the size of the environment follow from `seed`: both shift where things lie in memory, and so
    must vary from block to block, lest one layout pass for the speed of a version, and be equal within one. A child
    that `is_foreign` finds its modules by itself: this project's must not come before those that it has installed.
    """
    variables = {name: value for name, value in inherited.items() if name != "RAY_ADDRESS"}
    variables |= THREAD_LIMITS
    variables |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "PYTHONHASHSEED": str(seed % 2**32),
        "PYTHONUNBUFFERED": "1",
    }
    if is_foreign:
        variables = {name: value for name, value in variables.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    elif path := _python_path(inherited.get("PYTHONPATH", "")):
        variables["PYTHONPATH"] = path
    # To the same place in a page whatever else there is, so that two versions of a block have it in common.
    place = Random(f"environment {seed}").randrange(_PAGE)  # noqa: S311 - to be reproduced
    size = sum(len(os.fsencode(name)) + len(os.fsencode(value)) + 2 for name, value in variables.items())
    return {**variables, "REACTORBENCH_PADDING": "." * ((place - size) % _PAGE)}


def _python_path(inherited: str) -> str:
    """`inherited` as seen from another folder; this project added where it is run without being installed."""
    folders = [str(Path(entry).resolve()) for entry in inherited.split(os.pathsep) if entry]
    root = str(Path(harness.__file__).resolve().parents[1])
    if root not in [*folders, *site.getsitepackages(), site.getusersitepackages()]:
        folders.append(root)
    return os.pathsep.join(folders)


# -------------------------------------------------------------------------------------------- child


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """How a child ended."""

    status: int
    """As `subprocess` has it: negative for a signal."""
    timed_out_in: str | None = None
    """The phase in which its time was up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """One child process of the harness, from start to the last trace of it."""

    mode: str
    job: msgspec.Struct
    log: Path
    timeout_s: float
    seed: int
    watch: Callable[[str, float], None]
    interpreter: str | None = None
    under: Sequence[str] = ()

    def run(self, result_type: type[Result]) -> tuple[_Ending, Result | None]:
        """Run it; how it ended, and its result if it left one."""
        with _shared_folder() as folder, self.log.open("ab") as log:
            folder.job.write_bytes(msgspec.json.encode(self.job))
            ending = self._run_and_clean(folder, log)
            _shorten(self.log)
            if not folder.result.exists():
                return ending, None
            return ending, msgspec.json.decode(folder.result.read_bytes(), type=result_type)

    def _run_and_clean(self, folder: Folder, log: BinaryIO) -> _Ending:
        tree = ProcessTree()
        process: subprocess.Popen[bytes] | None = None
        try:
            process = self._start(folder, log)
            ending = self._wait(process, tree, folder)
            if ending.timed_out_in is None:
                self._note_leftovers(tree.settle(process, _SETTLE_S), ending, folder, log)
            return ending
        finally:
            tree.end(process)
            if process is not None:
                process.wait()

    def _start(self, folder: Folder, log: BinaryIO) -> subprocess.Popen[bytes]:
        command = [self.interpreter or sys.executable, "-m", "harness.child", self.mode, str(folder.path)]
        if self.under:
            launcher = [sys.executable, "-I", str(_LAUNCHER), str(folder.job), str(os.getpid())]
            command = [*launcher, *self.under, *command]
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            cwd=folder.scratch,
            env=environment(os.environ, self.seed, is_foreign=self.interpreter is not None),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def _wait(self, process: subprocess.Popen[bytes], tree: ProcessTree, folder: Folder) -> _Ending:
        """Wait for the end of `process` or of its time, looking at its descendants now and then."""
        began_s = time.monotonic()
        while True:
            phase = folder.phase()
            elapsed_s = time.monotonic() - began_s
            if elapsed_s >= self.timeout_s:
                _dump_stacks(process)
                return _Ending(status=0, timed_out_in=phase)
            self.watch(phase, elapsed_s)
            _shorten(self.log)
            is_timed = phase in {Phase.MEASURING, Phase.TRAINING}
            pause_s = _SAMPLE_MEASURING_S if is_timed else _SAMPLE_S
            with contextlib.suppress(subprocess.TimeoutExpired):
                return _Ending(status=process.wait(min(pause_s, self.timeout_s - elapsed_s)))
            tree.sample()

    @staticmethod
    def _note_leftovers(names: list[str], ending: _Ending, folder: Folder, log: BinaryIO) -> None:
        """Say in the log what a child that did its job should not have left to the harness."""
        if not folder.result.exists():
            return
        if ending.status != 0:
            log.write(f"[harness] After leaving its result, {_way_it_died(ending.status)}.\n".encode())
        if names:
            log.write(f"[harness] It left processes that had to be ended: {', '.join(names)}.\n".encode())


@contextlib.contextmanager
def _shared_folder() -> Iterator[Folder]:
    """A short-named folder that is gone afterwards, whatever a runtime put there."""
    with temporary_folder() as path:
        folder = Folder(path)
        folder.scratch.mkdir()
        yield folder


def _shorten(log: Path) -> None:
    """Cut a log that grows without bounds, so that it cannot fill the disk that records go to: its beginning stays.

    The child writes at the end of the file, wherever that is.
    """
    if log.stat().st_size <= _LONGEST_LOG:
        return
    with log.open("r+b") as file:
        file.truncate(_KEPT_OF_LOG)
        file.seek(0, os.SEEK_END)
        file.write(b"\n[harness] The log grew too long; what followed here was cut.\n")


def _dump_stacks(process: subprocess.Popen[bytes]) -> None:
    """Have a hung child write to its log where it is."""
    process.send_signal(signal.SIGUSR1)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STACK_DUMP_S)


def _way_it_died(status: int) -> str:
    """`the process of the invocation was killed by SIGKILL`."""
    if status < 0:
        known: Iterable[signal.Signals] = signal.Signals
        name = next((known_signal.name for known_signal in known if known_signal == -status), f"signal {-status}")
        return f"the process of the invocation was killed by {name}"
    return f"the process of the invocation ended with status {status}, without a result"


def _record(invocation: Invocation, machine: Mapping[str, Any], log: Path | None) -> Record:
    """What is known of `invocation` as it begins; `failed` until something better is known."""
    return Record(
        workload=invocation.cell.workload,
        parameters=invocation.cell.parameters,
        runtime=invocation.runtime.name,
        options=invocation.runtime.options,
        is_bound=invocation.runtime.is_bound,
        differs=invocation.runtime.differs,
        side=invocation.side,
        seed=invocation.seed,
        block=invocation.block,
        outcome="failed",
        warmup_rounds=invocation.cell.warmup_rounds,
        rounds=invocation.cell.rounds,
        machine=dict(machine),
        log=None if log is None else f"{log.parent.name}/{log.name}",
        started_at=datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
    )
