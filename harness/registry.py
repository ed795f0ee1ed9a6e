"""Finds runtimes, workloads, metrics and reporters by name, through entry points, so that anyone can plug in their own.

A distribution names them in the groups `reactorbench.runtimes`, `.workloads`, `.metrics` and `.reporters`. One that
cannot be imported is kept with the reason, and breaks nothing but itself.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Generic, TypeVar

from harness.errors import UsageError, did_you_mean
from harness.metrics import Metric
from harness.reporters import Reporter
from runtimes.protocol import Runtime
from workloads.dataflow import Workload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.metadata import EntryPoint, EntryPoints

__all__ = [
    "Plugin",
    "Plugins",
    "installable",
    "metrics",
    "missing_module",
    "reporters",
    "runtimes",
    "version_of",
    "workloads",
]

Kind = TypeVar("Kind", Runtime, Workload, Metric, Reporter)

_RUNTIMES = "reactorbench.runtimes"
_WORKLOADS = "reactorbench.workloads"
_METRICS = "reactorbench.metrics"
_REPORTERS = "reactorbench.reporters"

_OTHERWISE_NAMED = {"cv2": "opencv-python-headless"}
"""Distributions that a module's name does not lead to."""
_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9._-]+)[^;]*(?:;.*\bextra\s*==\s*[\"'](?P<extra>[^\"']+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin(Generic[Kind]):
    """One entry point: what it names, or why that cannot be used."""

    name: str
    loaded: Kind | None
    broken: str | None = None


class Plugins(Generic[Kind]):
    """All entry points of one group, each loaded when it is first asked for."""

    def __init__(self, group: str, kind: type[Kind]) -> None:
        """Look up the names in `group`; nothing is imported yet."""
        self._noun = kind.__name__.lower()
        self._kind: type[Kind] = kind
        self._entries: dict[str, list[EntryPoint]] = {}
        for entry in _entry_points(group):
            self._entries.setdefault(entry.name, []).append(entry)

    def __iter__(self) -> Iterator[Plugin[Kind]]:
        """All of them, sorted by name."""
        return (self._load(name) for name in sorted(self._entries))

    def get(self, name: str) -> Kind:
        """The runtime, workload, metric or reporter called `name`.

        Raises:
            UsageError: if there is none, or it cannot be loaded.
        """
        if name not in self._entries:
            raise UsageError(
                f"Unknown {self._noun} '{name}'. {did_you_mean(name, self._entries)} 'reactorbench list' shows all."
            )
        plugin = self._load(name)
        if plugin.loaded is None:
            raise UsageError(
                f"The {self._noun} '{name}' cannot be used: {plugin.broken}. Repair or uninstall what provides it."
            )
        return plugin.loaded

    def _load(self, name: str) -> Plugin[Kind]:
        first, *others = self._entries[name]
        if any(entry.value != first.value for entry in others):
            return Plugin(name=name, loaded=None, broken="several distributions provide it")
        try:
            loaded = first.load()
        except Exception as error:  # noqa: BLE001 - a foreign module may fail in any way
            return Plugin(name=name, loaded=None, broken=f"{first.value}: {type(error).__name__}: {error}")
        if not isinstance(loaded, self._kind):
            broken = f"{first.value} is of type {type(loaded).__name__} and no {self._kind.__name__}"
            return Plugin(name=name, loaded=None, broken=broken)
        if loaded.name != name:
            return Plugin(name=name, loaded=None, broken=f"{first.value} calls itself '{loaded.name}'")
        return Plugin(name=name, loaded=loaded)


def _entry_points(group: str) -> EntryPoints:
    """What is installed names in `group`."""
    return _entry_points_on(tuple(sys.path), group)


@lru_cache(maxsize=8)
def _entry_points_on(_path: tuple[str, ...], group: str) -> EntryPoints:
    """Read once: it takes 20 ms, and a plan asks hundreds of times."""
    return importlib.metadata.entry_points(group=group)


def runtimes() -> Plugins[Runtime]:
    """The runtimes that are installed."""
    return Plugins(_RUNTIMES, Runtime)


def workloads() -> Plugins[Workload]:
    """The workloads that are installed."""
    return Plugins(_WORKLOADS, Workload)


def metrics() -> Plugins[Metric]:
    """The metrics that are installed."""
    return Plugins(_METRICS, Metric)


def reporters() -> Plugins[Reporter]:
    """The reporters that are installed."""
    return Plugins(_REPORTERS, Reporter)


def missing_module(modules: Iterable[str]) -> str | None:
    """The first of `modules` that cannot be found; nothing is imported, not even the packages around one."""
    return next((module for module in modules if not _is_there(module)), None)


def installable(module: str) -> str:
    """What pip is to install for `module`: an extra of whoever provides a plug-in, where one has it; else its name."""
    package = module.partition(".")[0]
    wanted = _OTHERWISE_NAMED.get(package, package.replace("_", "-"))
    required = list(_requirements())
    exactly = [one for one in required if one[1] == wanted]
    # `pygame` comes from `pygame-ce` too.
    for distribution, name, extra in exactly or [one for one in required if one[1].startswith(f"{wanted}-")]:
        return f"{distribution}[{extra}]" if extra else name
    return wanted


def _requirements() -> Iterator[tuple[str, str, str | None]]:
    """Of each distribution with plug-ins: its name, and what it requires, for which of its extras."""
    entries = [entry for group in (_RUNTIMES, _WORKLOADS) for entry in _entry_points(group)]
    for provider in {entry.dist.name: entry.dist for entry in entries if entry.dist is not None}.values():
        for requirement in provider.requires or ():
            read = _REQUIREMENT.match(requirement)
            if read is not None and _normal(read["name"]) != _normal(provider.name):
                yield provider.name, _normal(read["name"]), read["extra"]


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def version_of(module: str) -> str | None:
    """The version of the distribution of the same name; None where there is none of that name."""
    return next(_versions([module, module.replace("_", "-"), module.replace(".", "-")]), None)


def _is_there(module: str) -> bool:
    package, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    name = package
    for part in inner:
        name = f"{name}.{part}"
        # `importlib.util.find_spec` would import the package to look into it.
        spec = spec and PathFinder.find_spec(name, spec.submodule_search_locations or [])
    return spec is not None


def _versions(distributions: Sequence[str]) -> Iterator[str]:
    for distribution in distributions:
        try:
            yield importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
