"""What pytest needs to run the suite: its options, its marker, and one subject for each runtime that was named."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from harness import registry
from harness.arguments import bind, parse_assignments, parse_runtime
from harness.conformance.evidence import Subject
from harness.conformance.leftovers import GRACE_S
from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["pytest_addoption", "pytest_collection_finish", "pytest_configure", "pytest_generate_tests", "subject"]

_CLUSTER = "ray"
"""The module that starts a cluster: tests of runtimes that need it are marked with its name."""
_SUBJECTS = pytest.StashKey[list[Subject]]()
"""The same objects for every test, so that what one has run the others need not run again."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which runtimes are checked, and with which options."""
    group = parser.getgroup("reactorbench", "conformance of a runtime")
    group.addoption(
        "--runtime",
        action="append",
        default=[],
        metavar="NAME",
        help="a runtime by name, or NAME:key=value,key=value; several times; all that are installed if not given",
    )
    group.addoption(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the runtime; several times"
    )
    group.addoption(
        "--grace-s",
        type=float,
        default=GRACE_S,
        metavar="SECONDS",
        help=f"what may still be there when a session has been closed gets so long to go ({GRACE_S:g})",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and look up the runtimes: a name that is misspelt ends everything at once."""
    config.addinivalue_line("markers", f"{_CLUSTER}: starts a Ray cluster; runs in a process of its own")
    try:
        config.stash[_SUBJECTS] = _chosen(config)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_collection_finish() -> None:
    """Leave what there is by now out of the searches for garbage: one follows every session, to see what it left."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of the suite on every subject."""
    if "subject" not in metafunc.fixturenames:
        return
    marked = [
        pytest.param(one, id=one.label, marks=[pytest.mark.ray] * (_CLUSTER in one.runtime.requires))
        for one in metafunc.config.stash[_SUBJECTS]
    ]
    metafunc.parametrize("subject", marked, indirect=True, scope="session")


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A runtime with its options."""
    chosen: Subject = request.param
    missing = registry.missing_module(chosen.runtime.requires)
    if missing is not None:
        pytest.skip(f"{chosen.runtime.name} needs the module '{missing}', which is not installed")
    yield chosen
    chosen.forget()


def _chosen(config: pytest.Config) -> list[Subject]:
    """The runtimes that the command line names, or all that can be loaded.

    Raises:
        UsageError: for an unknown runtime or option, or one that cannot be used.
    """
    given = parse_assignments(config.getoption("--option") or [], flag="--option")
    texts: list[str] = config.getoption("--runtime") or []
    names = texts or [plugin.name for plugin in registry.runtimes() if plugin.loaded is not None]
    return [_subject(text, given, float(config.getoption("--grace-s") or 0)) for text in names]


def _subject(text: str, given: Mapping[str, str], grace_s: float) -> Subject:
    name, own = parse_runtime(text)
    runtime = registry.runtimes().get(name)
    options = bind(runtime.options, {**given, **own}, noun="option", owner=f"runtime '{name}'", is_text=True)
    return Subject(runtime, options, label=text, grace_s=grace_s)
