"""Another version of this project, installed for an interpreter of its own, and how to have it measure.

`check` has two of them do the same jobs. What a version says of itself comes from a short program that its
interpreter runs; jobs and results are those of `harness.job`, whose `PROTOCOL` says how they look. A version may
not know a parameter that this one has: it is left out of the job where it has its default, which then is what the
other version does anyway, and else the cell cannot run there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from harness import registry
from harness.errors import UsageError
from harness.job import PROTOCOL
from harness.scratch import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.plan import Invocation

__all__ = ["Facts", "Version", "this_version", "version_at"]

_ASK_TIMEOUT_S = 60.0

_ASK = """
import hashlib, importlib.metadata, json, pathlib, platform, sys
import harness
from harness import job, registry
def fields(plugins, which):
    return {p.name: list(getattr(p.loaded, which).__struct_fields__) for p in plugins if p.loaded is not None}
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
def sources():
    digest = hashlib.sha256()
    root = pathlib.Path(harness.__file__).parents[1]
    for path in sorted(p for package in ("harness", "runtimes", "workloads") for p in (root / package).rglob("*")):
        if path.suffix in {".py", ".toml", ".c"}:
            digest.update(str(path.relative_to(root)).encode() + b" " + path.read_bytes())
    return digest.hexdigest()[:16]
facts = {
    "reactorbench": harness.__version__,
    "protocol": getattr(job, "PROTOCOL", 1),
    "python": platform.python_implementation() + " " + platform.python_version(),
    "packages": {name: version(name) for name in sys.argv[2:]},
    "path_length": len(harness.__file__),
    "sources": sources(),
    "metrics": [p.name for p in registry.metrics()] if hasattr(registry, "metrics") else [],
    "workloads": fields(registry.workloads(), "parameters"),
    "runtimes": fields(registry.runtimes(), "options"),
}
with open(sys.argv[1], "w", encoding="ascii") as file:
    json.dump(facts, file)
"""
"""Runs in any version: what it uses of the project has been there from the first."""

_PACKAGES = ("numpy", "ray", "gymnasium", "ale-py", "opencv-python-headless", "torch", "msgspec")
"""What may make a difference by itself."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What an installed version says of itself. No path."""

    reactorbench: str
    protocol: int
    """`harness.job.PROTOCOL` there."""
    python: str
    packages: dict[str, str | None]
    path_length: int
    """Characters of the path where it is installed; another length shifts where things lie in memory."""
    sources: str = ""
    """A digest of all files of the project there: another one is another program, whatever it calls itself."""
    metrics: list[str] = []
    workloads: dict[str, list[str]]
    """The parameters of each workload."""
    runtimes: dict[str, list[str]]
    """The options of each runtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """An interpreter with a version of this project."""

    interpreter: str | None
    """Its path, as it was given; None for this very interpreter and project."""
    facts: Facts

    def lacks(self, invocation: Invocation) -> str | None:
        """Why this version cannot run `invocation`, as far as names tell, or None."""
        cell, runtime = invocation.cell, invocation.runtime
        known = self.facts.workloads.get(cell.workload)
        if known is None:
            return f"this version has no workload '{cell.workload}'"
        options = self.facts.runtimes.get(runtime.name)
        if options is None:
            return f"this version has no runtime '{runtime.name}'"
        for metric in cell.metrics:
            if metric not in self.facts.metrics:
                return f"this version has no metric '{metric}'"
        news = _news(cell.parameters, known, _defaults("workload", cell.workload))
        news += _news(runtime.options, options, _defaults("runtime", runtime.name))
        return f"this version does not know {', '.join(news)}" if news else None

    def machine_facts(self) -> dict[str, Any]:
        """What records say of the software that was measured, where it is not this very project."""
        if self.interpreter is None:
            return {}
        packages = {"reactorbench": self.facts.reactorbench, **self.facts.packages}
        return {
            "python": self.facts.python,
            "packages": {name: version for name, version in packages.items() if version is not None},
            "commit": None,
            "tree_clean": None,
        }

    def parameters(self, invocation: Invocation) -> dict[str, Any]:
        """Those parameters of `invocation` that this version knows."""
        return _known(invocation.cell.parameters, self.facts.workloads[invocation.cell.workload])

    def options(self, invocation: Invocation) -> dict[str, Any]:
        """Those options of `invocation` that this version knows."""
        return _known(invocation.runtime.options, self.facts.runtimes[invocation.runtime.name])


def this_version() -> Version:
    """The one that runs now.

    Raises:
        UsageError: as `version_at`.
    """
    return Version(interpreter=None, facts=_asked(sys.executable, dict(os.environ) | _own_path(), "this Python"))


def version_at(interpreter: str, flag: str) -> Version:
    """The version that `interpreter`, a path, has installed; `flag` is what gave it.

    Raises:
        UsageError: if that is no Python, or has no version of this project that this one can drive.
    """
    variables = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    # Made absolute without following links: a virtual environment's interpreter is one, and is told by its place.
    path = os.path.abspath(interpreter)  # noqa: PTH100 - `resolve` would follow
    return Version(interpreter=path, facts=_asked(path, variables, f"{flag} {interpreter}"))


def _own_path() -> dict[str, str]:
    from harness.invocation import environment

    own = environment(os.environ, 0)
    return {"PYTHONPATH": own["PYTHONPATH"]} if "PYTHONPATH" in own else {}


def _asked(interpreter: str, variables: Mapping[str, str], name: str) -> Facts:
    """What `interpreter` says of the version that it has.

    Raises:
        UsageError: if it has none, or one that speaks a later protocol.
    """
    with temporary_folder() as folder:
        answer = folder / "facts.json"
        command = [interpreter, "-c", _ASK, str(answer), *_PACKAGES]
        try:
            run = subprocess.run(  # noqa: S603 - the interpreter that the user named
                command, cwd=folder, env=dict(variables), capture_output=True, timeout=_ASK_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = getattr(error, "strerror", None) or "it does not answer"
            raise UsageError(f"{name} cannot be run: {why}. Give the path of a Python with reactorbench.") from error
        if run.returncode != 0 or not answer.exists():
            said = run.stderr.decode(errors="replace").strip().splitlines()
            raise UsageError(
                f"{name} has no reactorbench that works: {said[-1] if said else f'status {run.returncode}'}. "
                f"Install it there: {interpreter} -m pip install ..."
            )
        facts = msgspec.convert(json.loads(answer.read_bytes()), Facts)
    if facts.protocol > PROTOCOL:
        raise UsageError(
            f"{name} has reactorbench {facts.reactorbench}, which speaks protocol {facts.protocol}; this version "
            f"drives up to {PROTOCOL}. Run `check` with the newer of the two."
        )
    return facts


@cache
def _defaults(kind: str, name: str) -> Mapping[str, Any]:
    """The defaults of this version's workload or runtime."""
    struct = registry.workloads().get(name).parameters if kind == "workload" else registry.runtimes().get(name).options
    found = {}
    for field in msgspec.structs.fields(struct):
        if field.default is not msgspec.NODEFAULT:
            found[field.name] = msgspec.to_builtins(field.default)
        elif field.default_factory is not msgspec.NODEFAULT:
            found[field.name] = msgspec.to_builtins(field.default_factory())
    return found


def _news(given: Mapping[str, Any], known: Sequence[str], defaults: Mapping[str, Any]) -> list[str]:
    """`name=value` of what is not `known` and not at its default."""
    missing = object()
    return [
        f"{name}={value}" for name, value in given.items() if name not in known and defaults.get(name, missing) != value
    ]


def _known(given: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name in known}
