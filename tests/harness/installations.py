"""Interpreters that each have a version of this project, and of the plug-ins of the tests, installed."""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("harness", "runtimes", "workloads")


def install(folder: Path, *paths: Path) -> Path:
    """A virtual environment in `folder` that imports from `paths` first, then what this one has; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Lines of such a file are only paths: what is installed in place elsewhere does not come along.
    lines = [*map(str, paths), *site.getsitepackages()]
    (packages / "shared.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def copy_of_project(folder: Path, **changes: tuple[str, str]) -> Path:
    """The packages of this project in `folder`; in modules such as `harness_job` a text is replaced by another."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "results" / "reference", folder / "results" / "reference")
    for module, (text, other) in changes.items():
        path = folder / f"{module.replace('_', '/', 1)}.py"
        source = path.read_text(encoding="utf-8")
        assert text in source
        path.write_text(source.replace(text, other), encoding="utf-8")
    return folder


def copy_of_plugins(plugins: Path, folder: Path, changes: list[tuple[str, str, str]]) -> Path:
    """The plug-ins of the tests in `folder`; in each file of `changes` a text is replaced by another."""
    shutil.copytree(plugins, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text, other in changes:
        source = (folder / name).read_text(encoding="utf-8")
        assert text in source
        (folder / name).write_text(source.replace(text, other), encoding="utf-8")
    return folder
