"""The cookbook works as it stands: its files make a package, its commands print what it shows."""

from __future__ import annotations

import os
import shlex
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import code_blocks_in, commands_in, dead_links_in, files_in


@pytest.fixture(scope="module")
def page(repository):
    return repository / "docs" / "cookbook.md"


@pytest.fixture
def python(tmp_path, repository):
    """A Python that has what this one has, and can be installed into: what the page installs goes nowhere else."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    where = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True).stdout.strip()
    # By `addsitedir`, which reads the .pth files of that folder too, as those of what is installed in place.
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in site.getsitepackages()]
    (Path(where) / "ours.pth").write_text("".join([f"{repository}\n", *lines]), encoding="utf-8")
    return python


def words_of(line, python):
    """The command of a line, with what is installed into `python`."""
    modules = {"pip": "pip", "reactorbench": "harness", "pytest": "pytest"}
    name, *arguments = shlex.split(line)
    return [python, "-m", modules[name], *arguments] if name in modules else [name, *arguments]


def test_every_command_of_the_cookbook_prints_what_it_shows(page, python, tmp_path):
    folder = tmp_path / "walkers"
    folder.mkdir()
    for name, text in files_in(page).items():
        (folder / name).write_text(text, encoding="utf-8")
    without = {"PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"}
    variables = {name: value for name, value in os.environ.items() if name not in without} | {"COLUMNS": "160"}
    for command in commands_in(page):
        done = subprocess.run(
            words_of(command.line, python), cwd=folder, env=variables, check=False, capture_output=True, text=True
        )
        wrong = "Unknown" in command.output
        assert done.returncode == (2 if wrong else 0), f"{command.line}\n{done.stdout}\n{done.stderr}"
        printed = done.stderr if wrong else done.stdout
        assert command.agrees_with(printed), f"{command.line}\n{printed}"


def test_every_code_block_of_the_cookbook_is_a_file_of_the_package(page):
    files = files_in(page)

    assert set(files) == {
        "pyproject.toml",
        "walkers.py",
        "background.py",
        "page_faults.py",
        "rates.py",
        "walkers.toml",
    }
    assert code_blocks_in(page) == sum(name.endswith(".py") for name in files)


def test_every_link_of_the_cookbook_leads_somewhere(page):
    assert dead_links_in(page) == set()
