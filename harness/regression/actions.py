"""What GitHub Actions shows of a comparison: annotations beside a run, and the summary of a step.

Nothing happens elsewhere. Each limit stands with where it is from; what exceeds one is dropped by the platform
without a word, so it is kept here, and said.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from harness.errors import ExitStatus
from harness.regression.judging import Verdict
from harness.regression.markdown import markdown
from harness.regression.phrases import counts_line, decided_by, one_line, visible
from harness.wording import Labels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.regression.judged import Judged
    from harness.regression.judging import Judgement

__all__ = ["MOST_ANNOTATIONS", "MOST_CHARACTERS", "MOST_SUMMARY_BYTES", "annotate", "workflow_commands"]

Level = Literal["error", "warning", "notice"]

MOST_ANNOTATIONS = 10
"""Of each level that a step shows; 50 of a job (GitHub's documentation of workflow commands and annotations)."""
MOST_CHARACTERS = 4096
"""Of a message (`_maxIssueMessageLength` in `ExecutionContext.cs` of actions/runner)."""
MOST_SUMMARY_BYTES = 1024 * 1024
"""Of a step; the upload of a larger summary is refused altogether."""

_WORST_FIRST = (
    ExitStatus.FAILED_OR_INVALID,
    ExitStatus.TIMED_OUT,
    ExitStatus.REGRESSION,
    ExitStatus.USAGE,
    ExitStatus.NOTHING_MEASURED,
    ExitStatus.OK,
)


def annotate(judged: Judged, environment: Mapping[str, str], stream: TextIO) -> None:
    """Where `environment` is that of GitHub Actions, write annotations to `stream`, and the summary of the step."""
    if environment.get("GITHUB_ACTIONS") != "true":
        return
    stream.writelines(line + "\n" for line in workflow_commands(judged))
    stream.flush()
    if path := environment.get("GITHUB_STEP_SUMMARY"):
        _append_summary(judged, Path(path), stream)


def workflow_commands(judged: Judged) -> list[str]:
    """The workflow commands for `judged`: of each level the worst first, and the last one says how many more."""
    labels = Labels(judged.judgements)
    messages: dict[Level, list[tuple[str, str]]] = {"error": [], "warning": [], "notice": []}
    for one in sorted(judged.judgements, key=_badness):
        level = _level(one)
        if level is not None:
            messages[level].append((_title(one), one_line(one, labels, judged.margins)))
    if judged.exit_status is not ExitStatus.OK and not messages["error"]:
        messages["error"].append(("nothing compared", decided_by(judged)))
    doubts = [("stamp", visible(stamp)) for stamp in judged.stamps]
    if not judged.interleaved:
        doubts.append(("not interleaved", "The two did not take turns: the machine may have changed between them."))
    messages["warning"] = [
        *doubts,
        *messages["warning"],
        *(("measurement", visible(warning)) for warning in judged.warnings),
    ]
    messages["notice"].insert(0, ("performance", f"{counts_line(judged)}. {decided_by(judged)}"))
    return [_command(level, title, message) for level, found in messages.items() for title, message in _at_most(found)]


def _badness(one: Judgement) -> tuple[int, float]:
    return _WORST_FIRST.index(one.status), one.ratio.point if one.ratio is not None else 0.0


def _level(one: Judgement) -> Level | None:
    if one.status is not ExitStatus.OK:
        return "error"
    if one.verdict is Verdict.INCONCLUSIVE:
        return "warning"
    return "notice" if one.verdict in {Verdict.FASTER, Verdict.NEW} else None


def _title(one: Judgement) -> str:
    return f"{one.verdict.value}: {visible(one.workload)}"


def _at_most(found: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    if len(found) <= MOST_ANNOTATIONS:
        return found
    more = len(found) - MOST_ANNOTATIONS + 1
    return [*found[: MOST_ANNOTATIONS - 1], ("more", f"{more} more of this kind: see the summary of the step.")]


_MOST_TITLE = 255
"""Characters (`title` of an annotation in GitHub's REST documentation of check runs)."""


def _command(level: Level, title: str, message: str) -> str:
    return f"::{level} title={_property(_cut(title, _MOST_TITLE))}::{_data(_cut(message, MOST_CHARACTERS))}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _data(text: str) -> str:
    """`text` as the runner reads it back (`escapeData` in actions/toolkit)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """`text` as the value of a property (`escapeProperty` in actions/toolkit)."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _append_summary(judged: Judged, path: Path, stream: TextIO) -> None:
    """Append to the file of the step, which other commands may have written to."""
    try:
        there = path.stat().st_size if path.exists() else 0
        with path.open("a", encoding="utf-8") as file:
            file.write(markdown(judged, MOST_SUMMARY_BYTES - there))
    except OSError as error:
        # The verdict must not depend on a file that only shows it.
        stream.write(_command("warning", "summary", f"The summary cannot be written: {error.strerror}.") + "\n")
