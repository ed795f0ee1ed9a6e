"""Tells pytest of the options of the suite, where the suite is what it runs.

Pytest loads this from an entry point wherever this project is installed, since it parses its command line before it
would find a `conftest.py` in an installed package. It does nothing unless the suite is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_load_initial_conftests"]


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Load the options and fixtures of the suite if it is among what is to run."""
    named = early_config.known_args_namespace.file_or_dir or early_config.getini("testpaths")
    if any("harness.conformance" in name.replace("/", ".") for name in map(str, named)):
        early_config.pluginmanager.import_plugin("harness.conformance.suite")
