"""The scripts: when they install and when they do not, what they say, which commands they run, what they measure.

For the scripts that install and call, Python, pip and the tools are stand-ins that write down how they were
called: what is tested is the scripts' own logic. That an installation works is what running them shows. The
benchmarks run as they are, for a moment.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# All that the scripts may take from the machine.
UTILITIES = ("bash", "cat", "chmod", "cksum", "cp", "dirname", "env", "mkdir", "rm", "tr")
UTILITIES_OF_BUILDS = ("find", "getconf", "grep", "mktemp", "mv", "sed", "sort", "tail", "tar")
TOOLS = ("mypy", "pyright", "pytest", "reactorbench", "ruff")

# What an installation depends on.
INSTALLED_FROM = (
    "pyproject.toml",
    "constraints.txt",
    "runtimes/reactor/_native.c",
    "workloads/replay/_tree.pyx",
    "workloads/replay/native/tree.c",
)

# Makes an environment as `python -m venv` does, and fails where a file named after its command says so.
PYTHON = """#!/usr/bin/env bash
case $* in
    "-m venv "*)
        echo venv >>calls
        mkdir -p .venv/bin
        cp "$0" .venv/bin/python
        printf '#!/usr/bin/env bash\\necho "pip 1 from $(pwd -P)/.venv/lib"' >.venv/bin/pip
        chmod +x .venv/bin/pip
        for tool in mypy pyright pytest reactorbench ruff; do cp tool .venv/bin/$tool; done
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
# Stand-ins of what scripts/browser calls.
CHROMIUM = """#!/usr/bin/env bash
[ ! -e "${0##*/}-fails" ]
"""
NPM = """#!/usr/bin/env bash
echo "npm ${*: -1}" >>calls
[ ! -e npm-fails ] || exit 1
mkdir -p .venv/browser/node_modules/axe-core
echo axe >.venv/browser/node_modules/axe-core/axe.min.js
"""

# Stand-ins of what scripts/test-free-threaded calls. FOLDER is where they write down how they were called.
FREE_THREADED = """#!/usr/bin/env bash
case $* in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip"*install*)
        arguments=$*
        echo "pip ${arguments#*install }" >>FOLDER/calls
        [[ $* != *"-c constraints.txt hypothesis" ]] || [ ! -e FOLDER/pinned-hypothesis-fails ]
        ;;
    "-m pip"*) ;;
    "-c "*_native*) [ ! -e FOLDER/native-fails ] ;;
    "-m pytest"* | scripts/*)
        echo "$*" >>FOLDER/calls
        for word in "$@"; do [ ! -e "FOLDER/$word-fails" ] || exit 1; done
        ;;
    *) [ ! -e FOLDER/has-the-gil ] ;;
esac
"""
APT_GET = """#!/usr/bin/env bash
case $* in
    *--print-uris*) echo "'mirror://packages/dists/stable/InRelease' InRelease 0" ;;
    *update*)
        for word in "$@"; do
            case $word in Dir::Etc::SourceList=*) echo "apt-get $(cat "${word#*=}")" >>FOLDER/calls ;; esac
        done
        ;;
    *source*)
        echo "reading the archive"
        [ ! -e FOLDER/apt-get-fails ] && tar -cf python3.13_1.orig.tar.xz -C FOLDER .interpreter
        ;;
esac
"""
CONFIGURE = """#!/usr/bin/env bash
echo "configure $*" >>FOLDER/calls
for word in "$@"; do
    case $word in --prefix=*) echo "${word#*=}" >prefix ;; esac
done
[ ! -e FOLDER/configure-fails ]
"""
MAKE = """#!/usr/bin/env bash
echo "making it"
case $* in
    *altinstall*)
        bin=${4#DESTDIR=}$(cat "$2/prefix")/bin
        mkdir -p "$bin" && cp FOLDER/.interpreter/python "$bin/python3.13t"
        ;;
    *) [ ! -e FOLDER/make-fails ] ;;
esac
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
    for name in INSTALLED_FROM:
        checkout.write(name, name)
    checkout.write("bin/python3", PYTHON)
    checkout.write("bin/cc")
    checkout.write("bin/chromium", CHROMIUM)
    checkout.write("bin/npm", NPM)
    checkout.write("tool", TOOL)
    for utility in UTILITIES:
        (checkout.folder / "bin" / utility).symlink_to(shutil.which(utility))
    return checkout


def test_an_environment_is_made_and_torch_comes_first_under_its_pin(checkout):
    done = checkout.set_up("test,lint")

    assert done.returncode == 0, done.stderr
    assert checkout.calls() == [
        "venv",
        "pip -c constraints.txt setuptools cython torch",
        "pip -c constraints.txt --no-build-isolation --editable .[test,lint]",
    ]


def test_nothing_is_installed_or_said_where_nothing_changed(checkout):
    checkout.set_up("test")
    checkout.calls()

    done = checkout.set_up("test")

    assert (checkout.calls(), done.stdout, done.stderr, done.returncode) == ([], "", "", 0)


@pytest.mark.parametrize("name", INSTALLED_FROM)
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


@pytest.mark.parametrize(
    ("script", "given", "passed_on"),
    [
        ("figures", (), "reproduce"),
        ("figures", ("1", "4", "--no-run"), "reproduce 1 4 --no-run"),
        ("figure3", (), "reproduce 3"),
        ("figure6", ("--suite", "paper"), "reproduce 6 --suite paper"),
        ("ladder", (), "ladder"),
        ("ladder", ("3", "--small"), "ladder 3 --small"),
        ("amortisation", ("--cells", "Pong-v5-*"), "amortisation --cells Pong-v5-*"),
    ],
)
def test_the_scripts_about_the_paper_set_up_and_call_their_command(checkout, script, given, passed_on):
    done = checkout.run(f"scripts/{script}", *given)

    assert done.returncode == 0, done.stderr
    calls = checkout.calls()
    assert calls[0] == "venv"
    assert calls[-1] == f"reactorbench {passed_on}"


def test_the_script_on_replay_buffers_sets_up_their_peers_and_measures_both_suites_with_its_options(checkout):
    done = checkout.run("scripts/replay", "--small")

    assert done.returncode == 0, done.stderr
    calls = checkout.calls()
    assert any(".[replay-peers]" in call for call in calls)
    assert [call for call in calls if call.startswith("reactorbench")] == [
        "reactorbench replay --suite replay --small",
        "reactorbench replay --suite replay-sweep --small",
        "reactorbench claims results/runs/replay",
    ]


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


def axe_core(checkout: Checkout) -> str:
    """The version that scripts/browser asks for."""
    (version,) = re.findall(r"^axe_core=(.*)$", (checkout.folder / "scripts/browser").read_text(), re.MULTILINE)
    return version


def browser_path(checkout: Checkout) -> str:
    return (checkout.folder / ".venv/browser/chromium-path").read_text(encoding="utf-8").strip()


def test_the_browser_that_is_installed_is_taken_and_axe_core_fetched_in_one_version(checkout):
    done = checkout.run("scripts/browser")

    assert done.returncode == 0, done.stderr
    assert browser_path(checkout) == str(checkout.folder / "bin/chromium")
    assert checkout.calls() == [f"npm axe-core@{axe_core(checkout)}"]
    assert tuple(map(int, axe_core(checkout).split("."))) >= (4, 11)


def test_what_the_page_is_tested_with_is_fetched_once(checkout):
    checkout.run("scripts/browser")
    checkout.calls()

    done = checkout.run("scripts/browser")

    assert (done.returncode, done.stdout, done.stderr, checkout.calls()) == (0, "", "", [])


def test_another_version_of_axe_core_is_fetched_anew(checkout):
    checkout.run("scripts/browser")
    checkout.calls()
    checkout.write(".venv/browser/axe-core-version", "4.10.0")

    checkout.run("scripts/browser")

    assert len(checkout.calls()) == 1


def test_a_browser_that_is_named_comes_before_the_one_that_is_installed(checkout):
    named = checkout.write("mine", CHROMIUM)

    checkout.run("scripts/browser", CHROMIUM=str(named))

    assert browser_path(checkout) == str(named)


def test_a_browser_that_was_named_and_does_not_run_is_refused(checkout):
    done = checkout.run("scripts/browser", CHROMIUM="/nowhere/chromium")

    assert done.returncode == 1
    assert "CHROMIUM=/nowhere/chromium does not run" in done.stderr


def test_a_browser_that_does_not_run_is_passed_over(checkout):
    checkout.write("chromium-fails")
    checkout.write("bin/google-chrome", CHROMIUM)

    checkout.run("scripts/browser")

    assert browser_path(checkout) == str(checkout.folder / "bin/google-chrome")


def test_where_there_is_no_browser_root_gets_debians(checkout):
    (checkout.folder / "bin/chromium").unlink()
    checkout.write("bin/id", "#!/usr/bin/env bash\necho 0\n")
    installed = checkout.folder / "bin/chromium"
    checkout.write(
        "bin/apt-get",
        f'#!/usr/bin/env bash\necho "apt-get $1" >>calls\n[ "$1" = update ] || cp tool.chromium {installed}\n',
    )
    checkout.write("tool.chromium", CHROMIUM)

    done = checkout.run("scripts/browser")

    assert done.returncode == 0, done.stderr
    assert checkout.calls()[:2] == ["apt-get update", "apt-get install"]
    assert browser_path(checkout) == str(installed)


@pytest.mark.parametrize(
    ("lacking", "said"),
    [("chromium", "CHROMIUM=/path/to/chromium scripts/browser"), ("npm", "Install Node.js with npm")],
)
def test_what_is_missing_for_the_page_is_said_with_the_way_to_get_it(checkout, lacking, said):
    (checkout.folder / "bin" / lacking).unlink()
    if lacking == "chromium":
        checkout.write("npm-fails")

    done = checkout.run("scripts/browser")

    assert done.returncode == 1
    assert said in done.stderr


def test_a_browser_that_is_missing_fails_the_test_script_which_says_so_at_the_end(checkout):
    (checkout.folder / "bin/chromium").unlink()
    checkout.write("npm-fails")

    done = checkout.run("scripts/test")

    assert done.returncode == 1
    assert "No Chromium was found" in done.stdout.split("Failed:")[1]
    assert {call.split()[0] for call in checkout.calls()} >= {"ruff", "pytest"}


@pytest.fixture
def free_threaded(checkout):
    """A checkout with tests of its own, and all that building an interpreter takes."""
    for utility in UTILITIES_OF_BUILDS:
        (checkout.folder / "bin" / utility).symlink_to(shutil.which(utility))
    for name, text in [
        ("bin/apt-get", APT_GET),
        ("bin/make", MAKE),
        (".interpreter/configure", CONFIGURE),
        (".interpreter/python", FREE_THREADED),
    ]:
        checkout.write(name, text.replace("FOLDER", str(checkout.folder)))
    checkout.write("bin/xz")
    checkout.write("tests/reactor/test_modes.py")
    checkout.write("tests/workloads/replay/test_tree.py", "from workloads.replay import SumTree\n")
    checkout.write("tests/runtimes/test_reactor_ports.py", "from runtimes.reactor import Input\n")
    return checkout


def at_hand(checkout: Checkout) -> str:
    """An interpreter of the person's own."""
    return str(checkout.folder / ".interpreter" / "python")


def run_free_threaded(checkout: Checkout, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return checkout.run("scripts/test-free-threaded", *arguments, HOME=str(checkout.folder / ".home"), **variables)


def kept(checkout: Checkout) -> list[str]:
    """What the user's cache folder holds."""
    return sorted(path.name for path in (checkout.folder / ".home/.cache/reactorbench").glob("*"))


def test_the_librarys_tests_and_its_benchmark_run_on_the_free_threaded_interpreter_at_hand(free_threaded):
    done = run_free_threaded(free_threaded, "-k", "ports", FREE_THREADED_PYTHON=at_hand(free_threaded))

    calls = free_threaded.calls()
    tests = ("reactor/test_modes.py", "runtimes/test_reactor_ports.py", "workloads/replay/test_tree.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("All checks passed, without the GIL.\n")
    assert calls[-2:] == [
        f"-m pytest {' '.join(f'tests/{name}' for name in tests)} -k ports",
        "scripts/reactor-overhead --executors inline,threads --quick",
    ]
    assert {call.split()[0] for call in calls[:-2]} == {"pip"}
    assert kept(free_threaded) == []


@pytest.mark.parametrize("failing", ["pytest", "scripts/reactor-overhead"])
def test_a_check_that_fails_without_the_gil_is_named_and_does_not_stop_the_other(free_threaded, failing):
    free_threaded.write(f"{failing}-fails")

    done = run_free_threaded(free_threaded, FREE_THREADED_PYTHON=at_hand(free_threaded))

    assert done.returncode == 1
    assert failing in done.stdout.split("Failed:")[1]
    assert free_threaded.calls()[-1].startswith("scripts/reactor-overhead")


def test_a_native_part_that_cannot_be_imported_without_the_gil_is_an_error(free_threaded):
    free_threaded.write("native-fails")

    assert run_free_threaded(free_threaded, FREE_THREADED_PYTHON=at_hand(free_threaded)).returncode == 1
    assert not any("pytest tests" in call for call in free_threaded.calls())


@pytest.mark.parametrize(
    ("line", "is_left_out"),
    [
        ("from runtimes.reactor.errors import ReactorError", False),
        ("from tests.runtimes.reactors import Counter", False),
        ("import psutil", False),
        ("from runtimes.reactor_adapter import GraphReactor", True),
        ("from runtimes import sequential", True),
        ("from workloads.dataflow import Graph", True),
        ("    import gymnasium", True),
        ("import msgspec", True),
    ],
)
def test_tests_that_need_more_than_the_library_are_left_out_and_named(free_threaded, line, is_left_out):
    name = "tests/runtimes/test_reactor_more.py"
    free_threaded.write(name, f"from runtimes.reactor import Input\n{line}\n")

    done = run_free_threaded(free_threaded, FREE_THREADED_PYTHON=at_hand(free_threaded))

    (called,) = [call for call in free_threaded.calls() if call.startswith("-m pytest")]
    assert (name in called) is not is_left_out
    assert (f"more than the library: {name}\n" in done.stdout) is is_left_out


def test_a_package_whose_pinned_version_has_no_wheel_is_installed_in_another(free_threaded):
    free_threaded.write("pinned-hypothesis-fails")

    done = run_free_threaded(free_threaded, FREE_THREADED_PYTHON=at_hand(free_threaded))

    installed = [call.split(":all: ")[1] for call in free_threaded.calls() if ":all:" in call]
    assert done.returncode == 0, done.stdout + done.stderr
    assert [package for package in installed if "hypothesis" in package] == [
        "-c constraints.txt hypothesis",
        "hypothesis",
    ]
    assert "-c constraints.txt numpy" in installed
    assert "numpy" not in installed


def test_an_interpreter_that_has_the_gil_is_refused(free_threaded):
    free_threaded.write("has-the-gil")

    done = run_free_threaded(free_threaded, FREE_THREADED_PYTHON=at_hand(free_threaded))

    assert done.returncode == 1
    assert "is no free-threaded Python 3.13 or newer" in done.stderr
    assert free_threaded.calls() == []


def test_an_interpreter_is_built_from_the_servers_of_apt_where_none_is_at_hand_and_kept(free_threaded):
    first = run_free_threaded(free_threaded)
    calls = free_threaded.calls()
    again = run_free_threaded(free_threaded)

    assert first.returncode == 0, first.stdout + first.stderr
    assert again.returncode == 0, again.stdout + again.stderr
    assert calls[0].startswith("apt-get deb-src ")
    assert calls[0].endswith(" mirror://packages trixie main")
    assert "--disable-gil" in calls[1]
    assert not any(call.startswith(("apt-get", "configure")) for call in free_threaded.calls())
    assert kept(free_threaded) == ["python3.13t"]


@pytest.mark.parametrize(
    ("failing", "said"), [("apt-get", "Name an interpreter"), ("configure", "Configuring"), ("make", "making it")]
)
def test_a_build_that_fails_shows_why_and_leaves_nothing_behind(free_threaded, failing, said):
    free_threaded.write(f"{failing}-fails")

    done = run_free_threaded(free_threaded)

    assert done.returncode == 1
    assert said in done.stdout
    assert kept(free_threaded) == []


@pytest.mark.parametrize(("missing", "said"), [("apt-get", "apt-get"), ("xz", "xz"), ("cc", "a C compiler")])
def test_where_no_interpreter_can_be_built_what_is_missing_is_named(free_threaded, missing, said):
    (free_threaded.folder / "bin" / missing).unlink()

    done = run_free_threaded(free_threaded)

    assert done.returncode == 1
    assert f"\n  {said}\n" in done.stderr
    assert "FREE_THREADED_PYTHON=" in done.stderr
    assert kept(free_threaded) == []


MEASURED = ("ping-pong", "fan", "chain", "event-chain", "hub", "broadcast", "busy")
COMPARED = ("ping-pong", "fan", "chain")
AMONG_ITS_NAMES = """\
import sys

sys.path.insert(0, sys.argv[1])
sys.modules["script"] = module = type(sys)("script")
module.__file__ = sys.argv[2]
exec(compile(open(sys.argv[2]).read(), sys.argv[2], "exec"), module.__dict__)
exec(sys.argv[3], module.__dict__)
"""
BRIEFLY = ("--pairs", "2", "--reactions", "2000")
needs_xronos = pytest.mark.skipif(
    importlib.util.find_spec("xronos") is None,
    reason="xronos has wheels for Linux on x86-64 and Arm only; install the extra 'xronos' there",
)


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """The scripts of a folder `scripts`, run by this Python with the project of `repository`."""

    scripts: Path
    repository: Path

    def run(self, name: str, *arguments: str, found_first: Path | None = None) -> subprocess.CompletedProcess[str]:
        paths = [str(path) for path in (found_first, self.repository) if path is not None]
        return subprocess.run(
            [sys.executable, self.scripts / name, *arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            check=False,
            text=True,
            capture_output=True,
        )

    def inside(self, name: str, *statements: str) -> subprocess.CompletedProcess[str]:
        """Run statements among the names of a script, which is not run."""
        path = self.scripts / name
        return subprocess.run(
            [sys.executable, "-c", AMONG_ITS_NAMES, self.scripts, path, "\n".join(statements)],
            env=os.environ | {"PYTHONPATH": str(self.repository)},
            check=False,
            text=True,
            capture_output=True,
        )

    def lines(self, name: str, *arguments: str) -> list[list[str]]:
        """What was printed, line by line, in words."""
        done = self.run(name, *arguments)
        assert done.returncode == 0, done.stderr
        return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture
def benchmarks(repository):
    return Benchmarks(repository / "scripts", repository)


@pytest.fixture
def copied_benchmarks(repository, tmp_path):
    shutil.copytree(repository / "scripts", tmp_path / "scripts")
    return Benchmarks(tmp_path / "scripts", repository)


@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
def test_the_cost_of_every_program_is_measured_on_each_executor_in_time_and_empty_calls(benchmarks, executor):
    lines = benchmarks.lines("reactor-overhead", "--quick", "--executors", executor)

    (call_ns,) = [float(words[4]) for words in lines if words[:4] == ["An", "empty", "method", "call:"]]
    rows = [words for words in lines if words[1:2] == [executor]]
    assert tuple(row[0] for row in rows) == MEASURED
    for row in rows:
        reactions, us_a_tag, ns_a_reaction, calls, lowest, highest = map(float, [*row[2:7], row[8]])
        assert ns_a_reaction == pytest.approx(1000 * us_a_tag / reactions, rel=0.1)
        assert 0 < lowest <= calls <= highest
    assert call_ns > 0


def test_an_aim_is_said_to_be_missed_or_reached_with_its_figure(benchmarks):
    done = benchmarks.run("reactor-overhead", "--quick", "--executors", "inline", "--programs", "chain")

    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("chain")]
    assert row[9] == ("reached:" if float(row[5]) <= 8 else "missed:")
    assert row[10:] == ["at", "most", "8", "calls"]


def test_independent_reactions_are_compared_with_one_thread(benchmarks):
    lines = benchmarks.lines("reactor-overhead", "--quick", "--executors", "inline,processes", "--programs", "busy")

    _, processes = (words for words in lines if words[0] == "busy")
    ratio, low, high = (float(processes[at].strip("(x)")) for at in (9, 14, 16))
    assert processes[10:14] == ["the", "speed", "of", "inline"]
    assert 0 < low <= ratio <= high


def test_a_speed_is_compared_slice_by_slice(benchmarks):
    """The machine slows down by the half in every other slice, and the second executor always takes half as long."""
    done = benchmarks.inside(
        "reactor-overhead",
        "busy = next(benchmark for benchmark in PROGRAMS if benchmark.speedup)",
        "one = Cost(benchmark=busy, executor='inline', tag_ns=[8e3, 16e3, 8e3], call_ns=[50, 50, 50])",
        "two = Cost(benchmark=busy, executor='threads', tag_ns=[4e3, 8e3, 4e3], call_ns=[50, 50, 50])",
        "print(row(two, one)[-1])",
    )

    assert done.stdout == "2.00x the speed of inline (2.00 to 2.00)\n", done.stderr


def test_the_profile_names_the_reactions_and_how_often_each_ran(benchmarks):
    done = benchmarks.run("reactor-overhead", "--quick", "--profile", "--executors", "inline", "--programs", "chain")

    profile = done.stdout.split("Profile of 'chain' on inline")[1]
    (relay,) = [line.split() for line in profile.splitlines() if "Relay.relay" in line]
    assert float(relay[1]) == pytest.approx(100 / 102, abs=0.01)


@pytest.mark.parametrize("option", ["--programs", "--executors"])
def test_a_name_that_is_not_known_is_refused_with_those_that_are(benchmarks, option):
    done = benchmarks.run("reactor-overhead", option, "inlin,chains")

    assert done.returncode == 2
    assert "'inlin,chains' is none of " in done.stderr
    assert ("chain" if option == "--programs" else "inline") in done.stderr.split("is none of")[1]


def test_the_overhead_benchmark_imports_the_library_numpy_and_the_standard_library_only(repository):
    scripts = [repository / "scripts" / name for name in ("reactor-overhead", "reactor_programs.py")]
    modules = set()
    for script in scripts:
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
    foreign = {module for module in modules if module.split(".")[0] not in sys.stdlib_module_names}

    assert foreign - {"numpy", "reactor_programs"} == {m for m in foreign if re.match(r"runtimes\.reactor(\.|$)", m)}


@pytest.mark.parametrize(
    ("script", "arguments", "programs", "whose"),
    [
        ("reactor-overhead", ("--quick", "--executors", "inline"), "reactor_programs.py", "'chain' on 'inline'"),
        pytest.param("against-xronos", BRIEFLY, "reactor_programs.py", "'chain' of the reactor", marks=needs_xronos),
        pytest.param("against-xronos", BRIEFLY, "xronos_programs.py", "'chain' of xronos", marks=needs_xronos),
    ],
)
def test_no_figures_are_given_for_a_program_that_computes_something_else(
    copied_benchmarks, script, arguments, programs, whose
):
    path = copied_benchmarks.scripts / programs
    right = path.read_text(encoding="utf-8")
    wrong = right.replace("self.last = self.arrived.value", "self.last = 0").replace(
        "self.last = arrived.get()", "self.last = 0"
    )
    path.write_text(wrong, encoding="utf-8")

    done = copied_benchmarks.run(script, *arguments, "--programs", "chain")

    assert wrong != right
    assert done.returncode == 1
    assert f"Program {whose}" in done.stderr
    assert "has computed 0" in done.stderr
    assert not [line for line in done.stdout.splitlines() if line.startswith("chain")]


@needs_xronos
def test_the_comparison_with_xronos_gives_both_times_and_their_paired_ratio(benchmarks):
    lines = benchmarks.lines("against-xronos", *BRIEFLY)

    rows = [words for words in lines if words[0] in COMPARED]
    assert tuple(row[0] for row in rows) == COMPARED
    for row in rows:
        ours_ns, theirs_ns, ratio, lowest, highest = map(float, [*row[2:6], row[7]])
        assert 0 < lowest <= ratio <= highest
        assert lowest * 0.9 <= theirs_ns / ours_ns <= highest * 1.1


def test_where_xronos_is_missing_the_comparison_says_how_to_install_it(benchmarks, tmp_path):
    (tmp_path / "xronos.py").write_text("raise ImportError", encoding="utf-8")

    done = benchmarks.run("against-xronos", found_first=tmp_path)

    assert done.returncode == 2
    assert "pip install -e '.[xronos]'" in done.stderr
