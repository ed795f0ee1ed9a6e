"""Other interpreters with other versions of this project: found out about, refused, spoken to."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.errors import UsageError
from harness.job import PROTOCOL
from harness.plan import Cell, Invocation, RuntimeChoice
from harness.versions import Facts, Version, this_version, version_at
from tests.harness.installations import ROOT, copy_of_project, install

FACTS = Facts(
    reactorbench="1.0",
    protocol=1,
    python="CPython 3.11",
    packages={},
    path_length=10,
    workloads={"counting": ["width"]},
    runtimes={"plain": []},
)


def invocation(workload="counting", parameters=None, runtime="plain", options=None):
    choice = RuntimeChoice(name=runtime, options=options or {})
    cell = Cell(
        workload=workload,
        parameters={"width": 2} if parameters is None else parameters,
        runtimes=(choice,),
        warmup_rounds=0,
        rounds=1,
        measure_s=0,
    )
    return Invocation(number=1, cell=cell, runtime=choice, block=0, seed=0)


def test_this_version_is_asked_like_any_other(installed):
    facts = this_version().facts

    assert facts.protocol == PROTOCOL
    assert "simulation" in facts.workloads
    assert "workers" in facts.runtimes["reactor-processes"]
    assert facts.packages["numpy"] is not None


def test_another_installation_is_found_by_its_interpreter_whatever_the_path_of_this_process_says(tmp_path, monkeypatch):
    there = copy_of_project(tmp_path / "copy", harness___init__=('__version__ = "', '__version__ = "9.'))
    python = install(tmp_path / "venv", there)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    version = version_at(str(python), "--base")

    assert version.facts.reactorbench.startswith("9.")
    assert version.facts.path_length == len(str(there / "harness" / "__init__.py"))
    assert version.interpreter == str(python)


def test_a_version_that_does_not_name_its_protocol_speaks_the_first_one(tmp_path):
    old = copy_of_project(tmp_path / "old", harness_job=(f"PROTOCOL = {PROTOCOL}", "_PROTOCOL = 0"))

    assert version_at(str(install(tmp_path / "venv", old)), "--base").facts.protocol == 1


def test_a_version_that_speaks_a_later_protocol_is_refused(tmp_path):
    later = copy_of_project(tmp_path / "later", harness_job=(f"PROTOCOL = {PROTOCOL}", "PROTOCOL = 99"))

    with pytest.raises(UsageError, match=f"protocol 99.*up to {PROTOCOL}.*the newer of the two"):
        version_at(str(install(tmp_path / "venv", later)), "--base")


@pytest.mark.parametrize("interpreter", ["/nowhere/python", "/etc/hostname", "/bin/false"])
def test_what_is_no_python_is_refused_by_name(interpreter):
    with pytest.raises(UsageError, match=f"--base {interpreter} "):
        version_at(interpreter, "--base")


def test_a_python_without_this_project_is_refused_with_how_to_install_it(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)

    with pytest.raises(UsageError, match=r"No module named 'harness'.*-m pip install"):
        version_at(str(tmp_path / "bare" / "bin" / "python"), "--head")


@pytest.mark.parametrize(
    ("asked", "lacks"),
    [
        (invocation(), None),
        (invocation("unheard"), "no workload 'unheard'"),
        (invocation(runtime="unheard"), "no runtime 'unheard'"),
        (invocation(parameters={"width": 2, "step": 1.0}), None),
        (invocation(parameters={"width": 2, "step": 3.0}), "does not know step=3.0"),
        (invocation(options={"workers": 0}), None),
        (invocation(options={"workers": 2}), "does not know workers=2"),
    ],
)
def test_a_version_lacks_what_it_does_not_know_unless_that_has_its_default(installed, asked, lacks):
    found = Version(interpreter=None, facts=FACTS).lacks(asked)

    assert (found is None) if lacks is None else lacks in found


def test_a_job_names_only_what_the_version_knows(installed):
    version = Version(interpreter=None, facts=FACTS)
    asked = invocation(parameters={"width": 2, "step": 1.0}, options={"workers": 0})

    assert version.parameters(asked) == {"width": 2}
    assert version.options(asked) == {}
