"""What documentation pages show: files, commands with what they print, links. And running them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
