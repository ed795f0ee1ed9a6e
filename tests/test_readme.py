"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from tests.pages import dead_links_in, files_in, run


@pytest.fixture(scope="module")
def files(repository):
    """The files that the README shows, by name."""
    return files_in(repository / "README.md")


@pytest.fixture
def folder(files, tmp_path):
    """A folder with these files, which on the path is an installed distribution."""
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    groups = tomllib.loads(files["pyproject.toml"])["project"]["entry-points"]
    info = tmp_path / "readme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: readme\nVersion: 1.0\n", encoding="utf-8")
    lines = [f"[{group}]\n" + "\n".join(f"{n} = {v}" for n, v in names.items()) for group, names in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_the_workload_and_the_runtime_of_the_readme_run_beside_ours(folder, repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    line = re.search(r"^\$ (reactorbench run --workload dice .*)$", text, re.MULTILINE)
    assert line is not None
    _, *arguments = shlex.split(line[1])
    quick = ["--invocations", "1", "--measure-s", "0.05", "--out", "out", "--no-figures"]
    done = run(folder, repository, "-m", "harness", *arguments, *quick)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = (folder / "out" / "summary.csv").read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in summary[1:]]
    assert len(rows) == 3
    assert all(",ok," in line for line in summary[1:])


def test_the_traces_of_the_readme_are_equal(folder, repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\$ reactorbench ((?:trace|verify) .*)$", text, re.MULTILINE)
    done = [run(folder, repository, "-m", "harness", *shlex.split(line)) for line in lines]
    assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
    assert done[-1].stdout == "The traces are equal.\n"
    assert (folder / "simulation-timeline.json").exists()


def test_the_reactor_program_of_the_readme_prints_squares(folder, repository):
    done = run(folder, repository, "count.py")
    assert done.stdout.splitlines() == [str([n * n] * 4) for n in range(4)], done.stderr


def test_the_drawings_of_the_readme_are_those_that_its_commands_print(folder, repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```mermaid\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    line = re.search(r"^\$ reactorbench (graph .*)$", text, re.MULTILINE)
    assert line is not None
    graph = run(folder, repository, "-m", "harness", *shlex.split(line[1]))
    program = run(folder, repository, "draw.py")
    assert [graph.stdout, program.stdout] == shown, graph.stderr + program.stderr


def test_every_option_in_the_readme_exists(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    help_texts = [
        subprocess.run([sys.executable, "-m", "harness", *command], capture_output=True, text=True, check=True).stdout
        for command in (
            ["run", "--help"],
            ["report", "--help"],
            ["plan", "--help"],
            ["trace", "--help"],
            ["graph", "--help"],
            ["check", "--help"],
        )
    ]
    assert shown
    assert {option for option in shown if not any(option in text for text in help_texts)} == set()


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "results/README.md"])
def test_what_a_page_links_to_is_there(repository, page):
    assert dead_links_in(repository / page) == set()
