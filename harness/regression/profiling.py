"""`check --profile`: where the slower side of a cell spends its time, by one more run of it that counts for nothing.

With py-spy, which looks at all processes of the run from outside, as a flame graph: of what runs and of what waits,
since waiting makes a round slower too. Where there is none, or the system forbids it, cProfile watches the one process
that drives the rounds. The files lie in `profiles/` of the results folder, each under a name that follows from its cell
and runtime, so that whoever judges the folder again finds them.
"""

from __future__ import annotations

import re
import shutil
import sys
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.errors import Interrupted, writing
from harness.invocation import measure
from harness.machine import machine_facts
from harness.regression.judging import Judgement, Verdict
from harness.wording import Labels, compact_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.plan import Invocation, PairingKey, Plan
    from harness.progress import Progress
    from harness.regression.judged import Judged
    from harness.versions import Version

__all__ = ["Profiler", "py_spy", "to_be_profiled", "with_profiles"]

_FOLDER = "profiles"
_SUFFIXES = (".svg", ".txt")
"""Of a flame graph, and of cProfile's table; the first that is there is shown."""

_RATE = 200
"""Samples a second."""
_REST_S = 60.0
"""What a profiler may take for itself beyond the timeout of an invocation."""


def to_be_profiled(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Those that are slower, or may be by as much as must not pass unseen."""
    return [one for one in judgements if one.verdict is Verdict.SLOWER or one.hides_target]


def with_profiles(judged: Judged, folder: Path) -> Judged:
    """`judged` with the profile of each cell that has one below `folder`."""
    found = [replace(one, profile=_profile_in(folder, _key_of(one)) or one.profile) for one in judged.judgements]
    return replace(judged, judgements=tuple(found))


def py_spy() -> str | None:
    """The path of py-spy: that of this environment, or of the system."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _key_of(one: Judgement) -> PairingKey:
    return one.workload, compact_json(one.parameters), one.runtime, compact_json(one.options)


def _name_of(pairing: PairingKey) -> str:
    """A name that tells `pairing` from all others, with nothing that a file name had better not have."""
    plain = "-".join(re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:50] for name in (pairing[0], pairing[2]))
    return f"{plain}-{zlib.crc32(msgspec.json.encode(pairing)):08x}"


def _profile_in(folder: Path, pairing: PairingKey) -> str | None:
    names = [f"{_FOLDER}/{_name_of(pairing)}{suffix}" for suffix in _SUFFIXES]
    return next((name for name in names if (folder / name).is_file()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiler:
    """Profiles one side of cells of a check into its results folder."""

    folder: Path
    plan: Plan
    side: str
    """The side of `plan` that is profiled: the head, which is the one that may be slower."""
    version: Version
    progress: Progress
    spy: str | None
    """The path of py-spy, where there is one."""
    resume: str
    """What to type to go on after an interruption."""
    least_s: float = 3.0
    """Measured seconds: fewer give too few samples beside those of the start."""

    def profile(self, judged: Judged, planned: Mapping[PairingKey, Invocation]) -> None:
        """Profile all of `judged` that are to be, which are `planned`.

        Raises:
            UsageError: if the files cannot be written.
            Interrupted: on Ctrl-C; the verdicts stand.
        """
        labels = Labels(judged.judgements)
        with writing("Profiles", self.folder):
            (self.folder / _FOLDER).mkdir(exist_ok=True)
        try:
            for one in to_be_profiled(judged.judgements):
                self.progress.message(f"Profiling {labels.full_cell(one)} on {labels.runtime(one)} ({self.side}).")
                self.progress.message(self._profiled(planned[_key_of(one)]))
        except KeyboardInterrupt:
            raise Interrupted(f"Interrupted; what was measured is kept. Go on with: {self.resume} --profile") from None

    def _profiled(self, invocation: Invocation) -> str:
        """Profile one; what became of it."""
        # As a whole path: the child has a folder of its own.
        target = (self.folder / _FOLDER / _name_of(invocation.pairing)).resolve()
        for suffix in (*_SUFFIXES, ".pstats"):
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        why = "py-spy is not installed"
        if self.spy is not None:
            graph = target.with_name(target.name + ".svg")
            options = ["--subprocesses", "--idle", "--rate", str(_RATE), "--format", "flamegraph"]
            self._run(invocation, under=[self.spy, "record", *options, "--output", str(graph), "--"])
            if graph.is_file():
                return f"A flame graph: {graph}"
            why = f"py-spy gave none, perhaps since the system forbids it to look at processes ({self._log})"
        self._run(invocation, profile=str(target))
        table = target.with_name(target.name + ".txt")
        if table.is_file():
            return f"Since {why}: cProfile's table of the process that drives the rounds alone: {table}"
        return f"There is no profile: {why}, and that version of the project knows no other way, or its run failed."

    @property
    def _log(self) -> Path:
        return self.folder / "logs" / "profile.log"

    def _run(self, invocation: Invocation, *, under: Sequence[str] = (), profile: str | None = None) -> None:
        """Run `invocation` once more, for longer; its record counts for nothing."""
        cell = msgspec.structs.replace(invocation.cell, measure_s=max(invocation.cell.measure_s, self.least_s))
        measure(
            msgspec.structs.replace(invocation, cell=cell, side=self.side),
            log=self._log,
            timeout_s=self.plan.timeout_s + _REST_S,
            machine=machine_facts(),
            watch=lambda _phase, _elapsed_s: None,
            version=self.version,
            under=under,
            profile=profile,
        )
