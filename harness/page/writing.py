"""`report.html` in a results folder, made from what the folder holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import writing
from harness.plan import PlanFile, in_plan_order
from harness.records import RecordFile

if TYPE_CHECKING:
    from pathlib import Path

    from harness.page.model import Page
    from harness.regression.judged import Judged

__all__ = ["PAGE_NAME", "write_check_page", "write_run_page"]

PAGE_NAME = "report.html"


def write_check_page(folder: Path, judged: Judged) -> Path:
    """Write the page of the check in `folder`, which `judged` says all about.

    Raises:
        UsageError: if its records cannot be read, or the page cannot be written.
    """
    from harness.page.from_check import check_page
    from harness.regression.check import DesignFile

    records = RecordFile(folder).read()
    plan, design = PlanFile(folder).read_if_there(), DesignFile(folder).read()
    return _write(folder, check_page(judged, records, records, plan=plan, second_pairs=design.second_pairs))


def write_run_page(folder: Path) -> Path:
    """Write the page of the run in `folder`.

    Raises:
        UsageError: if its records cannot be read, or the page cannot be written.
    """
    from harness.page.from_run import run_page
    from harness.report import warnings_of
    from harness.summary import summarise

    file = RecordFile(folder)
    records, plan = file.read(), PlanFile(folder).read_if_there()
    rows = summarise(in_plan_order(records, plan))
    return _write(folder, run_page(rows, records, plan=plan, warnings=warnings_of(file, records)))


def _write(folder: Path, page: Page) -> Path:
    from harness.page.render import render

    path = folder / PAGE_NAME
    text = render(page)
    with writing("The page", folder):
        path.write_text(text, encoding="utf-8")
    return path
