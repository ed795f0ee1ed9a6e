"""The forms of a comparison, in one place for the commands that show one: on a terminal, and as files of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import writing
from harness.regression.actions import annotate
from harness.regression.data import csv_text, to_json
from harness.regression.junit import junit_xml
from harness.regression.markdown import markdown
from harness.regression.terminal import plain_text, print_judged, verdict_table
from harness.wording import indented_json

if TYPE_CHECKING:
    from pathlib import Path

    from harness.regression.judged import Judged

__all__ = ["annotate", "print_judged", "to_json", "verdict_table", "write_outputs"]


def write_outputs(judged: Judged, folder: Path) -> list[Path]:
    """Write the forms that are files.

    Raises:
        UsageError: if they cannot be written.
    """
    contents = {
        "verdicts.csv": csv_text(judged).encode(),
        "verdicts.json": indented_json(to_json(judged)),
        "verdicts.md": markdown(judged).encode(),
        "verdicts.txt": plain_text(judged).encode(),
        "junit.xml": junit_xml(judged),
    }
    with writing("The verdicts", folder):
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    return [folder / name for name in contents]
