"""The wheel: what is in it, and that it works where nothing else of this project is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

# What a build reads; everything else in a working tree (environments, caches, runs) stays behind.
BUILT_FROM = ("harness", "runtimes", "workloads", "results/reference", "pyproject.toml", "README.md", "LICENSE")
LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
NATIVE = {
    name + sysconfig.get_config_var("EXT_SUFFIX")
    for name in ("runtimes/reactor/_native", "workloads/replay/_tree", "workloads/replay/_ring")
}

HEADER = Path(sysconfig.get_path("include"), "Python.h")
COMPILER = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
CAN_COMPILE = COMPILER is not None and HEADER.is_file()


def run(*command: str | Path, cwd: Path, **variables: str) -> str:
    """The standard output of `command`, run in `cwd` with `variables` added to the environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=inherited | variables, check=False, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(repository: Path, folder: Path, **variables: str) -> Path:
    """A wheel built from a copy of the sources, so that the working tree stays as it is."""
    tree = folder / "tree"
    for name in BUILT_FROM:
        source, target = repository / name, tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=LEFT_BEHIND)
        else:
            shutil.copy2(source, target)
    command = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", tree)
    run(*command, cwd=folder, **variables)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    if COMPILER is None:
        return build_wheel(repository, folder)
    # What compiles for speed takes three times as long; the last option of several counts.
    hasty = folder / "hasty"
    hasty.write_text(f'#!/bin/sh\nexec {COMPILER} "$@" -O0\n', encoding="ascii")
    hasty.chmod(0o755)
    return build_wheel(repository, folder, CC=str(hasty))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A clean environment that holds the wheel; its dependencies are those of the outer environment.

    They come in as a folder of the path whose own .pth files are not read, and so without an editable
    installation of this project.
    """
    folder = tmp_path_factory.mktemp("environment").resolve()
    venv.create(folder, with_pip=False, symlinks=True)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel):
    top = {name.split("/")[0] for name in names_in(wheel)}

    assert {name for name in top if not name.endswith(".dist-info")} == {"harness", "runtimes", "workloads"}


@pytest.mark.parametrize("package", ["harness", "runtimes", "workloads"])
def test_the_wheel_holds_every_module_of_the_tree(repository, wheel, package):
    suffixes = {".py", ".pyi", ".typed"}
    paths = [path for path in (repository / package).rglob("*") if path.suffix in suffixes]
    in_tree = {path.relative_to(repository).as_posix() for path in paths}

    assert f"{package}/py.typed" in names_in(wheel)
    assert in_tree - names_in(wheel) == set()


def test_the_wheel_holds_what_a_page_is_made_of(repository, wheel):
    parts = {
        f"harness/page/{path.relative_to(repository / 'harness/page')}"
        for folder in ("templates", "static")
        for path in (repository / "harness/page" / folder).iterdir()
        if path.suffix != ".md"
    }

    assert {"harness/page/templates/page.html.j2", "harness/page/static/page.css"} <= parts
    assert parts - names_in(wheel) == set()


def test_the_wheel_holds_the_suites(repository, wheel):
    suites = {f"harness/suites/{path.name}" for path in (repository / "harness/suites").glob("*.toml")}

    assert "harness/suites/quick.toml" in suites
    assert suites - names_in(wheel) == set()


def test_the_wheel_holds_the_published_figures(repository, wheel):
    figures = {f"harness/reference/{path.name}" for path in (repository / "results/reference").glob("*.toml")}

    assert "harness/reference/spaa2024.toml" in figures
    assert figures - names_in(wheel) == set()


@pytest.mark.skipif(not CAN_COMPILE, reason="there is no C compiler, or Python's headers are missing")
def test_the_wheel_holds_the_native_parts(wheel):
    assert names_in(wheel) >= NATIVE


def test_a_wheel_is_built_without_a_compiler_and_lacks_the_native_parts_only(repository, wheel, tmp_path):
    without = build_wheel(repository, tmp_path, CC="/no/such/compiler")

    assert NATIVE & names_in(without) == set()
    assert names_in(wheel) - names_in(without) <= NATIVE


def test_the_installed_package_is_the_one_of_the_wheel(installed, tmp_path):
    where = run(installed / "bin" / "python", "-c", "import harness, runtimes; print(harness.__file__)", cwd=tmp_path)

    assert Path(where.strip()).is_relative_to(installed)


def test_the_installed_package_finds_its_published_figures(installed, tmp_path):
    program = "from importlib.resources import files; print((files('harness.reference') / 'spaa2024.toml').read_text())"

    figures = tomllib.loads(run(installed / "bin" / "python", "-c", program, cwd=tmp_path))

    assert figures["headline"]["gym_throughput_ratio"] == 1.21


def test_the_installed_command_lists_the_built_in_runtimes_and_workloads(repository, installed, tmp_path):
    groups = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    names = {name for group, named in groups.items() if group.startswith("reactorbench.") for name in named}

    listing = run(installed / "bin" / "reactorbench", "list", cwd=tmp_path, COLUMNS="200")

    assert names - set(re.findall(r"[\w-]+", listing)) == set()
