"""Becomes another program, a sampling profiler say, that starts the child process of an invocation in our place.

    python launch.py JOB PARENT_PID PROGRAM...

A child dies with its parent, whose id stands in its job: that is this process then, which in turn dies with the
harness. A file of its own, without imports of the project, as it runs where the project may not be on the path.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; it stays when another program takes over


def main(job: Path, parent_pid: int, program: list[str]) -> None:
    """Take over as the parent that `job` names, and become `program`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
    told = json.loads(job.read_bytes())
    job.write_text(json.dumps(told | {"parent_pid": os.getpid()}), encoding="utf-8")
    os.execvp(program[0], program)  # noqa: S606 - what the harness asked for


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
