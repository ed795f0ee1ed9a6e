"""Modules that take long to import, and are imported when a test first uses them: every process reads all tests."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Lazily:
    """Stands for a module: its attributes are those of the module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        """An attribute of the module, which is imported now if it was not; none of those that pytest looks for."""
        if attribute.startswith(("_", "pytest")):
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)
