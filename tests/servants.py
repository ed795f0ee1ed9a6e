"""Processes that fixtures keep for several tests, a browser say: with all below them they outlive a failed one."""

from __future__ import annotations

KEPT: set[int] = set()
"""Their ids."""
