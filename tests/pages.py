"""What documentation pages show: files, commands with what they print, links. And running them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"^```(?:python|toml)\n# (?P<name>\S+)\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE)
_CONSOLE = re.compile(
    r"^(?P<varies><!-- numbers vary -->\n)?```console\n\$ (?P<line>[^\n]*)\n(?P<output>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that a page shows in a block of its own, with what it prints."""

    line: str
    output: str
    varies: bool
    """Whether numbers in the output differ from run to run, and `...` stands for lines left out."""

    def agrees_with(self, printed: str) -> bool:
        """Whether `printed` is what the page shows: the same text, or lines of the same shape."""
        if not self.varies:
            return printed == self.output
        shapes = {_shape(line) for line in printed.splitlines()}
        return all(_shape(line) in shapes for line in self.output.splitlines() if line != "...")


def files_in(page: Path) -> dict[str, str]:
    """The files that a page shows, by the name in their first line."""
    return {match["name"]: match["text"] for match in _FILE.finditer(page.read_text(encoding="utf-8"))}


def commands_in(page: Path) -> list[Command]:
    """The commands that a page shows with their output, in order."""
    return [
        Command(line=match["line"], output=match["output"], varies=match["varies"] is not None)
        for match in _CONSOLE.finditer(page.read_text(encoding="utf-8"))
    ]


def examples_in(page: Path, prefix: str) -> dict[str, Command]:
    """The files of a page whose names begin with `prefix`, with the commands that run them."""
    commands = {command.line.split()[-1]: command for command in commands_in(page)}
    return {name: commands[name] for name in files_in(page) if name.startswith(prefix)}


def run_here(page: Path, name: str) -> tuple[str, dict[str, Any]]:
    """Run a file of a page in this process, which has imported already what takes long: what it prints, and names."""
    printed, names = io.StringIO(), {"__name__": "__main__"}
    with contextlib.redirect_stdout(printed):
        exec(compile(files_in(page)[name], name, "exec"), names)
    return printed.getvalue(), names


def code_blocks_in(page: Path) -> int:
    """How many blocks of Python code a page shows."""
    return len(re.findall(r"^```python$", page.read_text(encoding="utf-8"), re.MULTILINE))


def dead_links_in(page: Path) -> set[str]:
    """Links of a page to files that are not there, or to headings that these do not have; links in code aside."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    dead = set()
    for link in re.findall(r"\]\((?!https?:)([^)]+)", text):
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (heading and heading not in _headings_of(target)):
            dead.add(link)
    return dead


def run(folder: Path, repository: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python with `command` in `folder`, where the project and what lies in the folder can be imported."""
    path = os.pathsep.join([str(folder), str(repository)])
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        # As wide as the lines of a page.
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )


def _headings_of(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _shape(line: str) -> str:
    """A line without its numbers and with single spaces."""
    return " ".join(_NUMBER.sub("#", line).split())


MADE = {"replay": "replay.md", "learning": "training.md", "training": "training.md"}
"""Parts of pages that are made from published records, and the page of each."""


def with_made_part(text, part, made):
    """A page with `made` between the two comments that say what is made."""
    between = re.compile(
        rf"(?<=<!-- made by scripts/refresh-docs {part} -->\n).*?(?=<!-- end of what is made -->\n)", re.DOTALL
    )
    assert between.search(text), "The page lost its comments."
    return between.sub(lambda _: made, text, count=1)


def made_part(repository, part):
    """What the published records say of a part, as its page shows it; nothing where there are none."""
    made = {"replay": _replay, "learning": _learning, "training": _training}[part]
    return made(repository / "results" / "published")


def _replay(published):
    """How fast replay buffers are."""
    from harness.plan import PlanFile
    from harness.records import RecordFile
    from harness.replay import ReplayRun
    from harness.replay_report import markdown_replay
    from harness.report import machine_line

    parts = []
    for folder in (published / "replay", published / "replay-sweep"):
        records = RecordFile(folder).read()
        if records:
            run = ReplayRun(records, PlanFile(folder).read_if_there())
            text = markdown_replay(run, machine_line(record.machine for record in records))
            parts.append(_sunk(text))
    return "\n".join(parts)


def _learning(published):
    """How returns grow."""
    from harness.learning.records import LearningFile
    from harness.learning.report import markdown_learning
    from harness.learning.summary import summarise_learning
    from harness.plan import PlanFile
    from harness.report import machine_line

    folder = published / "training-learning"
    trainings = LearningFile(folder).trainings()
    if not trainings:
        return ""
    rows = summarise_learning(trainings, PlanFile(folder).read_if_there())
    text = markdown_learning(rows, (), machine_line(trained.record.machine for trained in trainings))
    picture = f"../results/published/{folder.name}/figures/learning.png"
    return f"![Returns by environment steps, and by seconds of training]({picture})\n\n{text}"


def _training(published):
    """How fast actors and learners are."""
    from harness.plan import PlanFile, in_plan_order
    from harness.records import RecordFile
    from harness.report import machine_line, markdown_table
    from harness.summary import summarise

    folder = published / "training"
    records = RecordFile(folder).read()
    if not records:
        return ""
    rows = summarise(in_plan_order(records, PlanFile(folder).read_if_there()))
    machine = machine_line(record.machine for record in records)
    return f"{markdown_table(rows)}\nMeasured on: {machine}.\n"


def _sunk(text):
    """Tables without their title, their headings one level down."""
    return re.sub(r"^## ", "### ", text.partition("\n\n")[2], flags=re.MULTILINE)
