"""A small repository with the scripts that compare its revisions, for tests of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ANONYMOUS = {
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that is its own checkout, and a folder for temporary files of what runs there."""

    folder: Path
    temporary: Path

    @property
    def environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE", "GIT_"))
        }
        return inherited | ANONYMOUS | {"TMPDIR": str(self.temporary)}

    def start(self, *command: str | Path, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start `command` in a process group of its own, as a terminal does."""
        return subprocess.Popen(
            list(map(str, command)),
            cwd=cwd or self.folder,
            env=self.environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        with self.start(*command, cwd=cwd) as process:
            out, error = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, out, error)

    def git(self, *arguments: str) -> str:
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if text.startswith("#!"):
            path.chmod(0o755)
        return path

    def commit(self, message: str, **files: str) -> str:
        """Commit all there is, with `files`, whose names have no dots; the commit's name."""
        for name, text in files.items():
            self.write(name, text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def left_behind(self) -> list[str]:
        """What a script that has ended should have taken away: temporary files, trees, and traces of `git bisect`."""
        trees = self.git("worktree", "list", "--porcelain").count("worktree ")
        return [
            *(path.name for path in self.temporary.iterdir()),
            *(["another worktree"] if trees > 1 else []),
            *self.git("for-each-ref", "--format=%(refname)", "refs/bisect").splitlines(),
            *self.git("status", "--porcelain").splitlines(),
        ]


def repository_with(source: Path, folder: Path, names: tuple[str, ...]) -> Repository:
    """A repository below `folder` with `names` of `source`, nothing committed yet, and a `.venv` that counts as whole.

    That has this interpreter's packages but neither pip nor the project: `reactorbench` runs what lies in the folder.
    """
    this = Repository(folder / "repository", folder / "temporary")
    this.temporary.mkdir()
    native = ("runtimes/reactor/_native.c", "workloads/replay/_tree.pyx", "workloads/replay/native")
    for name in (*names, *native, "scripts", "pyproject.toml", "constraints.txt"):
        target = this.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
            shutil.copytree(source / name, target, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy2(source / name, target)
    this.git("init", "--quiet")
    this.write(".gitignore", ".venv/\n__pycache__/\nbuild/\n*.egg-info/\n*.so\ncalls\nresults/runs/\nfolder/\n")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", this.folder / ".venv"], check=True)
    (site,) = this.folder.glob(".venv/lib/python3*/site-packages")
    packages = [path for path in sys.path if path.endswith("-packages")]
    (site / "shared.pth").write_text("\n".join(packages), encoding="utf-8")
    this.write(
        ".venv/bin/reactorbench",
        f"#!{this.folder}/.venv/bin/python\nimport sys\nsys.path.insert(0, {str(this.folder)!r})\n"
        "from harness.cli import main\nmain()\n",
    )
    stamp = this.run("bash", "-c", 'source scripts/environment; echo "$(_fingerprint) "')
    this.write(".venv/installed", stamp.stdout)
    return this
