"""A browser, and pages for it to show: made once for all tests of a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from harness.page import write_check_page, write_run_page
from harness.regression.check import judged_folder
from tests.page.folders import check_records, run_records, write_check, write_folder
from tests.servants import KEPT

if TYPE_CHECKING:
    from pathlib import Path

# As root Chromium has no sandbox; the rest keeps it from calling anyone, since the tests look for requests.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def got_by_script(repository: Path, name: str) -> Path:
    """What scripts/browser left at `name`."""
    path = repository / ".venv" / "browser" / name
    if not path.exists():
        pytest.fail(f"{path} is missing: run scripts/browser", pytrace=False)
    return path


@pytest.fixture(scope="module")
def browser(repository):
    from playwright.sync_api import sync_playwright

    executable = got_by_script(repository, "chromium-path").read_text(encoding="utf-8").strip()
    before = set(psutil.Process().children())
    with sync_playwright() as playwright:
        driver = {process.pid for process in set(psutil.Process().children()) - before}
        KEPT.update(driver)
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()
    KEPT.difference_update(driver)


@pytest.fixture(scope="module")
def axe(repository):
    """The text of axe-core."""
    return got_by_script(repository, "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def check_page_path(tmp_path_factory):
    """A check with a cell for each verdict, and few rounds."""
    folder = write_check(tmp_path_factory.mktemp("check"), check_records(values=60))
    return write_check_page(folder, judged_folder(folder))


@pytest.fixture(scope="module")
def run_page_path(tmp_path_factory):
    """A run with six pairs of each runtime, one of them with several numbers of workers, and one that failed."""
    records = run_records(pairs=6, values=60)
    for workers, rate in ((1, 600), (2, 1100), (4, 1900)):
        records += run_records(
            rates={"reactor-threads": rate}, pairs=6, values=60, options={"workers": workers, "pin": True}
        )
    records += run_records(rates={"ray-compiled": 5}, pairs=1, outcome="failed", reason="ImportError: <ray>", values=0)
    return write_run_page(write_folder(tmp_path_factory.mktemp("run"), records))
