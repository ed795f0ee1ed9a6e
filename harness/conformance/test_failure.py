"""What a runtime does when a task fails, is not built, or takes its process with it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from harness.conformance.evidence import TooLong
from workloads.dataflow import GraphError

if TYPE_CHECKING:
    from harness.conformance.evidence import Ran, Subject

SOON_S = 60.0
"""Within this an error has arrived; a cluster looks for the dead only now and then, and the machine may be busy."""
WHOLE_S = 90.0
"""The same where the session had to be opened first."""


def told_by(ran: Ran) -> str:
    """All that the error of `ran` says, with its notes and causes."""
    told, error = [], ran.error
    while error is not None:
        told += [str(error), *getattr(error, "__notes__", [])]
        error = error.__cause__ or error.__context__
    return "\n".join(told)


def test_an_exception_in_a_round_reaches_the_caller_and_names_the_task_and_the_round(subject: Subject) -> None:
    ran = subject.failure("fire")
    assert ran.error is not None, "nothing was raised"
    assert ran.raised_by == "advance"
    assert "four is too many" in told_by(ran)
    assert re.search(r"\bpart\[2\]", str(ran.error))
    assert re.search(r"round 4\b", str(ran.error))
    assert ran.after_s < SOON_S


def test_a_task_that_cannot_be_built_is_named(subject: Subject) -> None:
    ran = subject.failure("built")
    assert ran.error is not None, "nothing was raised"
    assert ran.raised_by in {"open", "advance"}
    assert "two is too many" in told_by(ran)
    assert re.search(r"\bpart\[2\]", str(ran.error))
    assert ran.after_s < WHOLE_S


def test_a_task_without_a_state_is_named_and_rounds_go_on(subject: Subject) -> None:
    ran = subject.failure("fire")
    if ran.state is None:
        pytest.skip(f"{subject.runtime.name} does not tell where it stands")
    assert isinstance(ran.state, GraphError)
    assert re.search(r"\bpart\[0\].* Failing does not say what it keeps", str(ran.state))
    assert re.search(r"round 4\b", str(ran.error))


def test_a_killed_process_is_noticed(subject: Subject) -> None:
    ran = subject.failure("killed")
    if ran.error is None and {t["process"] for tallies in ran.tallies.values() for t in tallies} == {os.getpid()}:
        pytest.skip(f"{subject.runtime.name} has the task in the calling process, which cannot be killed")
    assert ran.error is not None, "nothing was raised"
    assert not isinstance(ran.error, TooLong)
    assert str(ran.error)
    assert ran.after_s < SOON_S


@pytest.mark.parametrize("how", ["fire", "built", "killed"])
def test_nothing_is_left_after_a_failure(subject: Subject, how: str) -> None:
    assert subject.failure(how).left == []
