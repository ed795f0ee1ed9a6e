"""scripts/compare-revisions: installs two revisions side by side, compares them, and leaves nothing behind.

What is installed and compared is a stand-in but for the last test, which does it with this project.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time

import pytest

from tests.revisions import repository_with

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

# Notes how it was called, and makes what the script looks for. What reads a program is the real one.
PYTHON = f"""#!/usr/bin/env bash
case $* in
    "-I "*) exec {sys.executable} "$@" ;;
    *"-m venv"*)
        echo "venv ${{*: -1}}" >>"$CALLS"
        folder=${{*: -1}}
        mkdir -p "$folder/bin" "$folder/lib/python3.11/site-packages"
        cp "$0" "$folder/bin/python"
        ;;
    *"-m pip"*" wheel "*)
        echo "wheel ${{PWD##*/}}" >>"$CALLS"
        mkdir -p .venv/wheel && touch .venv/wheel/a.whl
        ;;
    *"-m pip"*)
        arguments=$*
        echo "pip ${{arguments#*--quiet }}" >>"$CALLS"
        [ ! -e fails ]
        ;;
esac
"""
COMMAND = """#!/usr/bin/env bash
echo "reactorbench $*" >>"$CALLS"
echo "{}"
trap 'exit 130' INT
[ ! -e hangs ] || while :; do sleep 0.1; done
exit "$(cat status 2>/dev/null || echo 0)"
"""


@pytest.fixture
def small(repository, tmp_path, monkeypatch):
    """A repository with two revisions, tagged `old` and `new`, and stand-ins of Python and reactorbench."""
    this = repository_with(repository, tmp_path.resolve(), ())
    monkeypatch.setenv("CALLS", str(this.folder / "calls"))
    (this.folder / ".venv/bin/python").unlink()
    this.write(".venv/bin/python", PYTHON)
    this.write(".venv/bin/reactorbench", COMMAND)
    for name in ("old", "new"):
        this.commit(name)
        this.git("tag", name)
    return this


def compare(small, *arguments):
    return small.run("bash", "scripts/compare-revisions", *arguments)


def test_both_revisions_are_installed_and_given_to_check_with_their_names(small):
    done = compare(small, "old", "new", "quick", "--cells", "a b")

    assert done.returncode == 0, done.stderr
    (check,) = [call for call in small.lines("calls") if call.startswith("reactorbench")]
    words = check.split()
    base, head = words[words.index("--base") + 1], words[words.index("--head") + 1]
    assert len(base) == len(head)
    assert base.removesuffix("/a/.venv/bin/python") == head.removesuffix("/b/.venv/bin/python") != base
    old, new = small.git("rev-parse", "old"), small.git("rev-parse", "new")
    assert f"--base-name old ({old[:10]}) --head-name new ({new[:10]}) quick --cells a b" in check


def test_packages_are_shared_where_a_revision_asks_for_the_same(small):
    compare(small, "old", "new")

    calls = small.lines("calls")
    assert [call for call in calls if call.startswith("wheel")] == ["wheel a", "wheel b"]
    assert [call for call in calls if call.startswith("pip")] == ["pip --no-deps --no-index .venv/wheel/a.whl"] * 2


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("constraints.txt", "rich==15.0.0", "rich==14.0.0"),
        ("pyproject.toml", '"rich>=13.9",', '"rich>=13.9", "poor",'),
    ],
)
def test_a_revision_that_asks_for_other_packages_gets_an_installation_of_its_own(small, name, before, after):
    text = (small.folder / name).read_text(encoding="utf-8")
    assert before in text
    small.write(name, text.replace(before, after))
    small.commit("other packages")
    small.git("tag", "other")
    small.git("reset", "--quiet", "--hard", "new")

    done = compare(small, "other", "new")

    assert done.returncode == 0, done.stderr
    pips = [call for call in small.lines("calls") if call.startswith("pip")]
    assert pips == [
        "pip -c constraints.txt setuptools cython torch",
        "pip -c constraints.txt --no-build-isolation .",
        "pip --no-deps --no-index .venv/wheel/a.whl",
    ]
    assert "asks for other packages" in done.stderr


def test_a_revision_that_asks_for_less_shares_the_packages(small):
    text = (small.folder / "constraints.txt").read_text(encoding="utf-8")
    small.write("constraints.txt", text.replace("rich==15.0.0\n", ""))
    small.commit("fewer packages")
    small.git("tag", "fewer")
    small.git("reset", "--quiet", "--hard", "new")

    compare(small, "fewer", "new")

    assert [call for call in small.lines("calls") if call.startswith("wheel")] == ["wheel a", "wheel b"]


@pytest.mark.parametrize("status", [0, 1, 3, 4, 124])
def test_the_exit_status_is_that_of_the_check_and_nothing_is_left(small, status):
    small.write("status", str(status))
    small.git("add", "--all")

    done = compare(small, "old", "new")

    assert done.returncode == status
    assert small.left_behind() == ["A  status"]


def test_standard_output_holds_what_the_check_prints_and_nothing_else(small):
    assert compare(small, "old", "new", "--json").stdout == "{}\n"


def test_an_installation_that_fails_ends_it_and_nothing_is_left(small):
    (small.folder / "fails").touch()
    small.commit("an installation that fails")

    done = compare(small, "old", "HEAD")

    assert done.returncode == 3, "1 would mean a confirmed slowdown"
    assert not any(call.startswith("reactorbench") for call in small.lines("calls"))
    assert small.left_behind() == []


def test_ctrl_c_leaves_nothing_and_says_how_to_go_on(small):
    (small.folder / "hangs").touch()
    with small.start("bash", "scripts/compare-revisions", "old", "new") as process:
        while not any(call.startswith("reactorbench") for call in small.lines("calls")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate()
    (small.folder / "hangs").unlink()

    assert process.returncode == 130
    assert "--resume --out FOLDER" in error
    assert small.left_behind() == []


@pytest.mark.parametrize("revisions", [("old", "nonsense"), ("nonsense", "new"), ("--all", "new"), ("old",), ()])
def test_what_is_no_revision_is_refused_before_anything_happens(small, revisions):
    done = compare(small, *revisions)

    assert done.returncode == 2
    assert "revision" in done.stderr
    assert small.lines("calls") == []


def test_relative_paths_are_meant_from_where_it_is_called(small):
    elsewhere = small.folder / "folder"
    elsewhere.mkdir()
    (elsewhere / "status").write_text("3", encoding="utf-8")

    done = small.run("bash", "../scripts/compare-revisions", "old", "new", cwd=elsewhere)

    assert done.returncode == 3


@pytest.mark.timeout(600)
def test_each_side_runs_its_own_code_with_the_packages_of_the_checkout(repository, tmp_path, monkeypatch):
    # Native parts are optional, and take most of a build.
    monkeypatch.setenv("CC", "/no/such/compiler")
    this = repository_with(repository, tmp_path.resolve(), ("harness", "runtimes", "workloads", "results/reference"))
    for name in ("README.md", "LICENSE"):
        shutil.copy2(repository / name, this.folder / name)
    project = (this.folder / "pyproject.toml").read_text(encoding="utf-8")
    version = (this.folder / "harness/__init__.py").read_text(encoding="utf-8")
    pipes = 'processes-pipes = "runtimes.processes_pipes:RUNTIME"\n'
    assert pipes in project
    this.write("pyproject.toml", project.replace(pipes, ""))
    this.write("harness/__init__.py", version.replace('__version__ = "', '__version__ = "99.'))
    # Fewer pairs show as well whose code runs.
    commands = (this.folder / "harness/regression/commands.py").read_text(encoding="utf-8")
    assert "FIRST_PAIRS = 12\n" in commands
    this.write("harness/regression/commands.py", commands.replace("FIRST_PAIRS = 12\n", "FIRST_PAIRS = 6\n"))
    this.commit("old")
    this.write("pyproject.toml", project)
    this.write("harness/__init__.py", version)
    this.commit("new")
    selection = ("--workload", "broadcast_gather", "--set", "nbytes=8", "--runtime", "processes-pipes")

    done = this.run(
        "bash",
        "scripts/compare-revisions",
        "HEAD~1",
        "HEAD",
        *selection,
        *("--warmup-rounds", "1", "--rounds", "1", "--measure-s", "0.01", "--out", "folder"),
    )

    # Of what the base does not have, though the packages shared with it name it too, the head's is new.
    assert (done.returncode, "1 new" in done.stdout) == (4, True), done.stdout + done.stderr
    sides = json.loads((this.folder / "folder/check.json").read_bytes())["sides"]
    assert sides["base"]["reactorbench"] == f"99.{sides['head']['reactorbench']}"
    assert sides["base"]["packages"] == sides["head"]["packages"]
    assert all(sides["base"]["packages"].values())
    assert this.left_behind() == []
