"""A distribution of plug-in workloads and runtimes, as others would write it, and the command to run them with."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

MODULE = Path(__file__).with_name("plugin_kit.py")

ENTRY_POINTS = """
[reactorbench.workloads]
counting = plugin_kit:COUNTING
global_randomness = plugin_kit:GLOBAL_RANDOMNESS
unbuildable = plugin_kit:UNBUILDABLE
failing_task = plugin_kit:FAILING_TASK
growing = plugin_kit:GROWING

[reactorbench.runtimes]
plain = plugin_kit:PLAIN
other = plugin_kit:OTHER
differing = plugin_kit:DIFFERING
dying = plugin_kit:DYING
hanging = plugin_kit:HANGING
littering = plugin_kit:LITTERING
refusing = plugin_kit:REFUSING
needy = plugin_kit:NEEDY
pausing = plugin_kit:PAUSING
deaf = plugin_kit:DEAF
flooding = plugin_kit:FLOODING
odd | <b>&"ü"%; $(true) = plugin_kit:ODD
traced = plugin_kit:TRACED
broken = plugin_kit_that_is_not_there:RUNTIME
misnamed = plugin_kit:PLAIN
no_runtime = plugin_kit:COUNTING

[reactorbench.metrics]
fired = plugin_kit:FIRED
no_begin = plugin_kit:NO_BEGIN
no_end = plugin_kit:NO_END
endless = plugin_kit:ENDLESS

[reactorbench.reporters]
lines = plugin_kit:LINES
failing = plugin_kit:FAILING_REPORTER
"""


@pytest.fixture(scope="session")
def plugins(tmp_path_factory):
    """A folder that, on the path, is an installed distribution."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "plugin_kit.py").write_text(MODULE.read_text(encoding="utf-8"), encoding="utf-8")
    info = folder / "plugin_kit-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-kit\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    return folder


@pytest.fixture
def installed(plugins, monkeypatch):
    """The plug-ins are installed in this process."""
    monkeypatch.syspath_prepend(str(plugins))


class Command:
    """`reactorbench`, with the plug-ins installed and a folder of its own for temporary files."""

    def __init__(self, plugins: Path, cwd: Path, temporary: Path) -> None:
        self.temporary = temporary
        path = [str(plugins), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.options = {
            "cwd": cwd,
            "env": os.environ | {"PYTHONPATH": os.pathsep.join(path), "TMPDIR": str(self.temporary)},
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        }

    def __call__(self, *arguments) -> subprocess.CompletedProcess:
        return subprocess.run(self._line(arguments), check=False, **self.options)

    def start(self, *arguments) -> subprocess.Popen:
        return subprocess.Popen(self._line(arguments), **self.options)

    @staticmethod
    def _line(arguments) -> list[str]:
        return [sys.executable, "-m", "harness", *map(str, arguments)]


@pytest.fixture
def guest(installed, plugins, monkeypatch):
    """The harness may run in this process, with the plug-ins, which its child processes have too."""
    path = [str(plugins), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    # Only a process of its own may become the parent of all orphans.
    monkeypatch.setattr("harness.process_tree._prctl", lambda *_: None)
    # How busy the machine is, is looked at before every invocation, and of no interest here.
    monkeypatch.setattr("harness.machine._BUSY_SAMPLE_S", 0.01)


@pytest.fixture
def in_this_process(guest, tmp_path, monkeypatch, capsys):
    """`reactorbench` without a process of its own, which takes seconds to start with all that a report needs.

    What it measures has its processes all the same. For all but what ends, interrupts or limits the harness itself.
    """
    from harness.cli import main

    # Tables as wide as they are, whatever the width of the terminal that the tests are started from.
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> subprocess.CompletedProcess:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        out, error = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, end.value.code, out, error)

    return run


@pytest.fixture
def reactorbench(plugins, tmp_path):
    # Ray keeps sockets below it, whose paths may not be long: those of pytest are.
    with tempfile.TemporaryDirectory(prefix="t") as temporary:
        yield Command(plugins, tmp_path, Path(temporary))
