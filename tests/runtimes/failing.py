"""A bank with a member that fails, or whose members tell where they are closed."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from workloads.dataflow import GraphBuilder, Task


class FailsAt(Task):
    """Member 2 fails in its fifth firing, or when built; or all leave a file with the process's number when closed."""

    def __init__(self, context, *, what, index=None):
        self.index = context.index if index is None else index
        self.what = what
        self.rounds = 0
        if what == "build" and self.index == 2:
            raise ArithmeticError("built wrongly")

    def fire(self, inputs, outputs):
        if self.what == "fire" and self.index == 2 and self.rounds == 4:
            raise ArithmeticError("four is too many")
        self.rounds += 1

    def close(self):
        if "/" in self.what:
            with (Path(self.what) / str(self.index)).open("a", encoding="ascii") as told:
                told.write(f"{os.getpid()}\n")


def failing_graph(what):
    builder = GraphBuilder(workload="failing", parameters={}, seed=0, unit="firing", units_per_round=3)
    builder.bank("part", 3, partial(FailsAt, what=what))
    return builder.build()
