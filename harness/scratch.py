"""Temporary folders of the harness, each named after its process, so that those of a killed one can be found."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["remove_stale_folders", "temporary_folder"]

_NAME = re.compile(r"rb-(\d+)-[a-z0-9_]+")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a short path, since engines keep sockets below it; gone afterwards with whatever is in it."""
    path = Path(tempfile.mkdtemp(prefix=f"rb-{os.getpid()}-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_stale_folders() -> None:
    """Remove the folders of this user's processes that were killed before they could."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(tempfile.gettempdir()):
            named = _NAME.fullmatch(entry.name)
            # Between a look and the next its process may end and remove it.
            with contextlib.suppress(OSError):
                own = entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid()
                if named is not None and own and not psutil.pid_exists(int(named[1])):
                    shutil.rmtree(entry.path, ignore_errors=True)
