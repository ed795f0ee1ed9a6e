"""The scripts: when they install and when they do not, what they say, and which commands they run.

Python, pip and the tools are stand-ins that write down how they were called: what is tested here is the
scripts' own logic. That an installation works is what running them shows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# All that the scripts may take from the machine.
UTILITIES = ("bash", "cat", "chmod", "cksum", "cp", "dirname", "env", "mkdir", "rm", "tr")
TOOLS = ("coverage", "mypy", "pyright", "pytest", "reactorbench", "ruff")

# Makes an environment as `python -m venv` does, and fails where a file named after its command says so.
PYTHON = """#!/usr/bin/env bash
case $* in
    "-m venv "*)
        echo venv >>calls
        mkdir -p .venv/bin
        cp "$0" .venv/bin/python
        printf '#!/usr/bin/env bash\\necho "pip 1 from $(pwd -P)/.venv/lib"' >.venv/bin/pip
        chmod +x .venv/bin/pip
        for tool in coverage mypy pyright pytest reactorbench ruff; do cp tool .venv/bin/$tool; done
        ;;
    "-m pip "*)
        arguments=$*
        echo "pip ${arguments#*--quiet }" >>calls
        [ ! -e pip-fails ]
        ;;
    *find_spec*) [ ! -e native-fails ] ;;
    *"print(sys.version_info"*) echo 3.11 ;;
    *) [ ! -e python-is-old ] ;;
esac
"""
TOOL = """#!/usr/bin/env bash
echo "${0##*/} $*" >>calls
[ ! -e "${0##*/}-fails" ]
"""


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with the scripts and what they read, and commands to call them there."""

    folder: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.folder / "bin"), **variables}
        bash = self.folder / "bin" / "bash"
        return subprocess.run(
            [bash, *command], cwd=self.folder, env=environment, check=False, text=True, capture_output=True
        )

    def set_up(self, extras: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("-euo", "pipefail", "-c", f"source scripts/environment; set_up '{extras}'", **variables)

    def calls(self) -> list[str]:
        """What was called since the last time, oldest first."""
        path = self.folder / "calls"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def write(self, name: str, text: str = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
        return path


@pytest.fixture
def checkout(repository, tmp_path):
    checkout = Checkout(tmp_path.resolve())
    shutil.copytree(repository / "scripts", checkout.folder / "scripts")
    for name in ("pyproject.toml", "constraints.txt", "runtimes/reactor/_native.c"):
        checkout.write(name, name)
    checkout.write("bin/python3", PYTHON)
    checkout.write("bin/cc")
    checkout.write("tool", TOOL)
    for utility in UTILITIES:
        (checkout.folder / "bin" / utility).symlink_to(shutil.which(utility))
    return checkout


def test_an_environment_is_made_and_torch_comes_first_under_its_pin(checkout):
    done = checkout.set_up("test,lint")

    assert done.returncode == 0, done.stderr
    assert checkout.calls() == [
        "venv",
        "pip -c constraints.txt setuptools torch",
        "pip -c constraints.txt --no-build-isolation --editable .[test,lint]",
    ]


def test_nothing_is_installed_or_said_where_nothing_changed(checkout):
    checkout.set_up("test")
    checkout.calls()

    done = checkout.set_up("test")

    assert (checkout.calls(), done.stdout, done.stderr, done.returncode) == ([], "", "", 0)


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "runtimes/reactor/_native.c"])
def test_a_change_of_what_is_installed_installs_again_in_the_same_environment(checkout, name):
    checkout.set_up("test")
    checkout.calls()
    checkout.write(name, "changed")

    checkout.set_up("test")

    calls = checkout.calls()
    assert len(calls) == 2
    assert "venv" not in calls


def test_an_installation_that_failed_says_so_and_goes_on_the_next_time(checkout):
    failure = checkout.write("pip-fails")
    failed = checkout.set_up()
    failure.unlink()
    checkout.calls()

    again = checkout.set_up()

    assert failed.returncode != 0
    assert "The installation failed" in failed.stderr
    assert again.returncode == 0
    assert [call.split()[0] for call in checkout.calls()] == ["pip", "pip"]


def test_an_installation_that_failed_after_a_whole_one_is_not_taken_for_whole(checkout):
    checkout.set_up()
    checkout.write("constraints.txt", "changed")
    checkout.write("pip-fails")
    checkout.set_up()
    checkout.write("constraints.txt", "constraints.txt")
    checkout.calls()

    assert checkout.set_up().returncode != 0
    assert checkout.calls() != []


@pytest.mark.parametrize("part", ["python", "pip"])
def test_an_environment_that_lacks_a_part_is_made_anew(checkout, part):
    checkout.set_up()
    checkout.calls()
    (checkout.folder / ".venv" / "bin" / part).unlink()
    checkout.write("constraints.txt", "changed")

    done = checkout.set_up()

    assert checkout.calls()[0] == "venv"
    assert "making it anew" in done.stdout


def test_an_environment_whose_python_is_gone_is_noticed_though_nothing_changed(checkout):
    checkout.set_up()
    checkout.calls()
    (checkout.folder / ".venv" / "bin" / "python").unlink()
    (checkout.folder / ".venv" / "bin" / "pip").unlink()

    checkout.set_up()

    assert checkout.calls()[0] == "venv"


def test_no_extras_ask_for_no_more_than_is_there(checkout):
    checkout.set_up("test")
    checkout.calls()

    checkout.set_up("")

    assert checkout.calls() == []


def test_extras_that_are_not_there_are_installed(checkout):
    checkout.set_up("")
    checkout.calls()

    checkout.set_up("test")

    assert checkout.calls()[-1].endswith(".[test]")


def test_an_environment_of_another_python_than_the_one_asked_for_is_made_anew(checkout):
    checkout.set_up()
    checkout.calls()
    other = checkout.write("bin/other", PYTHON.replace("echo 3.11", "echo 3.12"))

    checkout.set_up(PYTHON=str(other))

    assert checkout.calls()[0] == "venv"


def test_where_no_python_is_new_enough_the_remedy_is_said(checkout):
    checkout.write("python-is-old")

    done = checkout.set_up()

    assert done.returncode != 0
    assert "No Python 3.11 or newer was found" in done.stderr
    assert checkout.calls() == []


def test_a_python_that_was_named_and_is_too_old_is_refused(checkout):
    checkout.write("python-is-old")

    done = checkout.set_up(PYTHON="python3")

    assert done.returncode != 0
    assert "PYTHON=python3 is no Python 3.11 or newer" in done.stderr


def test_the_absence_of_a_compiler_is_said_once_and_the_installation_succeeds(checkout):
    checkout.write("native-fails")
    (checkout.folder / "bin" / "cc").unlink()

    first, second = checkout.set_up(), checkout.set_up()

    assert (first.returncode, second.returncode) == (0, 0)
    assert "no C compiler was found" in first.stdout
    assert "compiler" not in second.stdout


def test_a_compiler_that_came_later_is_used(checkout):
    (checkout.folder / "bin" / "cc").unlink()
    checkout.set_up()
    checkout.calls()
    checkout.write("bin/cc")

    checkout.set_up()

    assert len(checkout.calls()) == 2


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        ((), "run quick"),
        (("--invocations", "6"), "run quick --invocations 6"),
        (("full",), "run full"),
        (("full", "--seed", "1"), "run full --seed 1"),
        (("--workload", "simulation", "--runtime", "ray"), "run --workload simulation --runtime ray"),
        (("--workload=simulation",), "run --workload=simulation"),
        (("--set", "env_id=a b", "--workload", "simulation"), "run --set env_id=a b --workload simulation"),
        (("--invocations", "6", "full"), "run --invocations 6 full"),
        (("--no-figures", "full"), "run --no-figures full"),
        (("--out", "mine"), "run quick --out mine"),
        (("--seed=1", "--json"), "run quick --seed=1 --json"),
        (("--resume", "--out", "mine"), "run --resume --out mine"),
    ],
)
def test_bench_passes_its_arguments_on_and_runs_the_quick_suite_unless_told_otherwise(checkout, given, passed_on):
    done = checkout.run("scripts/bench", *given)

    assert done.returncode == 0, done.stderr
    assert checkout.calls()[-1] == f"reactorbench {passed_on}"


def test_bench_hands_back_the_exit_status_of_the_run(checkout):
    checkout.write("reactorbench-fails")

    assert checkout.run("scripts/bench").returncode == 1


def test_bench_takes_relative_paths_from_where_it_is_called(checkout):
    done = checkout.run("-c", "mkdir elsewhere; cd elsewhere; bash ../scripts/bench --out mine")

    assert done.returncode == 0, done.stderr
    called = (checkout.folder / "elsewhere" / "calls").read_text(encoding="utf-8")
    assert called == "reactorbench run quick --out mine\n"


@pytest.mark.parametrize("tool", [tool for tool in TOOLS if tool != "reactorbench"])
def test_a_check_that_fails_is_named_and_stops_none_of_the_others(checkout, tool):
    checkout.write(f"{tool}-fails")

    done = checkout.run("scripts/test")

    called = {call.split()[0] for call in checkout.calls()}
    assert done.returncode == 1
    assert f"\n  {tool}" in done.stdout.split("Failed:")[1]
    assert called >= set(TOOLS) - {"reactorbench"}


def test_checks_that_all_pass_give_status_zero(checkout):
    done = checkout.run("scripts/test")

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("All checks passed.\n")


def test_continuous_integration_runs_the_test_script_and_nothing_else(repository):
    lines = (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if not line.startswith("#")] == ['exec "$(dirname "$0")/../scripts/test"']
    assert os.access(repository / ".ci" / "run", os.X_OK)
