"""What `reactorbench list` shows: what there is by name; of runtimes and workloads parameters, and what they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from harness import registry
from harness.arguments import fields_of
from harness.suite import read_suite, suite_names
from runtimes.protocol import Runtime

if TYPE_CHECKING:
    from rich.console import Console

    from harness.metrics import Metric
    from harness.registry import Plugin
    from harness.reporters import Reporter
    from workloads.dataflow import Workload

__all__ = ["listing", "print_listing"]


def listing() -> dict[str, Any]:
    """Everything as plain values; nothing that is measured is imported."""
    return {
        "suites": [{"name": name, "title": read_suite(name).title} for name in suite_names()],
        "workloads": [_entry(plugin, "parameters") for plugin in registry.workloads()],
        "runtimes": [_entry(plugin, "options") for plugin in registry.runtimes()],
        "metrics": [_metric(plugin) for plugin in registry.metrics()],
        "reporters": [_reporter(plugin) for plugin in registry.reporters()],
    }


def print_listing(console: Console) -> None:
    """The same for people."""
    entries = listing()
    _print_heading(console, "Suites")
    for suite in entries["suites"]:
        _print(console, f"{suite['name']}: {suite['title']}", indent=2)
    for group, settings in (("workloads", "parameters"), ("runtimes", "options")):
        _print_heading(console, group.capitalize())
        for entry in entries[group]:
            _print_entry(console, entry, settings)
    for group in ("metrics", "reporters"):
        _print_heading(console, group.capitalize())
        for entry in entries[group]:
            if "broken" in entry:
                _print_broken(console, entry)
            else:
                _print(console, f"{entry['name']}: {entry['summary']}", indent=2)


def _entry(plugin: Plugin[Runtime] | Plugin[Workload], settings: str) -> dict[str, Any]:
    if plugin.loaded is None:
        return {"name": plugin.name, "broken": plugin.broken}
    loaded = plugin.loaded
    return {
        "name": loaded.name,
        "summary": loaded.summary,
        **(
            {"is_bound": loaded.is_bound, "differs": loaded.differs, "limits": loaded.limits}
            if isinstance(loaded, Runtime)
            else {}
        ),
        settings: msgspec.to_builtins(fields_of(getattr(loaded, settings))),
        "requires": [_requirement(module) for module in loaded.requires],
        "optional": [_requirement(module) | {"needed_for": needed_for} for module, needed_for in loaded.optional],
    }


def _metric(plugin: Plugin[Metric]) -> dict[str, Any]:
    if plugin.loaded is None:
        return {"name": plugin.name, "broken": plugin.broken}
    metric = plugin.loaded
    return {
        "name": metric.name,
        "summary": metric.summary,
        "unit": metric.unit,
        "less_is_better": metric.less_is_better,
    }


def _reporter(plugin: Plugin[Reporter]) -> dict[str, Any]:
    if plugin.loaded is None:
        return {"name": plugin.name, "broken": plugin.broken}
    return {"name": plugin.loaded.name, "summary": plugin.loaded.summary}


def _requirement(module: str) -> dict[str, Any]:
    return {
        "module": module,
        "installed": registry.missing_module([module]) is None,
        "version": registry.version_of(module),
    }


def _print_broken(console: Console, entry: dict[str, Any]) -> None:
    _print(console, f"{entry['name']}: cannot be used: {entry['broken']}", indent=2, style="red")


def _print_entry(console: Console, entry: dict[str, Any], settings: str) -> None:
    if "broken" in entry:
        _print_broken(console, entry)
        return
    bound = " (bound)" if entry.get("is_bound") else ""
    _print(console, f"{entry['name']}{bound}: {entry['summary']}", indent=2)
    if entry.get("limits"):
        _print(console, f"runs only {entry['limits']}", indent=6)
    if entry.get("differs"):
        _print(console, f"compared on units of work only: {entry['differs']}", indent=6)
    for requirement in entry["requires"]:
        _print(console, _requirement_text(requirement), indent=6, style=None if requirement["installed"] else "red")
    for requirement in entry["optional"]:
        _print(console, _optional_text(requirement), indent=6, style=None if requirement["installed"] else "yellow")
    for field in entry[settings]:
        default = msgspec.json.encode(field["default"]).decode()
        _print(console, f"{field['name']}={default}  {field['type']}", indent=6, style="cyan")
        _print(console, field["description"], indent=10)


def _requirement_text(requirement: dict[str, Any]) -> str:
    if not requirement["installed"]:
        return f"needs {requirement['module']}, which is not installed: its cells are skipped"
    return f"needs {requirement['module']}: installed {requirement['version'] or ''}".rstrip()


def _optional_text(requirement: dict[str, Any]) -> str:
    installed = f"installed {requirement['version'] or ''}".rstrip() if requirement["installed"] else "not installed"
    return f"{requirement['needed_for']}: {requirement['module']}, {installed}"


def _print_heading(console: Console, text: str) -> None:
    console.print(text, style="bold", highlight=False, markup=False)


def _print(console: Console, text: str, *, indent: int, style: str | None = None) -> None:
    console.print(" " * indent + text, style=style, highlight=False, markup=False, soft_wrap=True)
