"""Reactors of another library: xronos, whose scheduler is C++ under Python. It fires one reaction after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from runtimes.protocol import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from workloads.dataflow import Graph, Session

__all__ = ["RUNTIME"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`xronos` has no options."""


def _open(graph: Graph, _options: Options, _scratch: Path) -> Session:
    """Start the program."""
    from runtimes.xronos_reactors import XronosSession

    return XronosSession(graph)


RUNTIME = Runtime(
    name="xronos",
    summary="Reactors of xronos (a scheduler in C++ under Python): a reactor for each task, one reaction at a time.",
    options=Options,
    open=_open,
    requires=("xronos",),
)
