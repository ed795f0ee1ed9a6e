"""The rules of the house, read from the sources: who may import whom, and what stays unimported until used."""

from __future__ import annotations

import ast
import configparser
import tomllib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROJECT = ("harness", "runtimes", "workloads")

# Below this path, the modules of this project that may not be imported, and exceptions to that. A name
# stands for itself and all below it. Every rule that a file falls under holds for it.
RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # The harness finds runtimes and workloads by name, through entry points.
    "harness/": (("runtimes", "workloads"), ("runtimes.protocol", "workloads.dataflow")),
    "runtimes/": (("harness", "workloads"), ("workloads.dataflow",)),
    # The reactor runtime stands alone: people use it without the rest.
    "runtimes/reactor/": (PROJECT, ("runtimes.reactor",)),
    "workloads/": (("harness", "runtimes"), ()),
    # The contract knows neither side.
    "workloads/dataflow/": (PROJECT, ("workloads.dataflow",)),
    # The replay buffer stands alone, as the reactor runtime does.
    "workloads/replay/": (PROJECT, ("workloads.replay",)),
}

# Each takes from a tenth of a second to seconds to import, so they wait for the function that needs them.
HEAVY = (
    "ale_py",
    "altair",
    "cpprb",
    "cv2",
    "gymnasium",
    "jinja2",
    "matplotlib",
    "pandas",
    "ray",
    "scipy",
    "seaborn",
    "stable_baselines3",
    "tensordict",
    "tianshou",
    "torch",
    "torchrl",
    "vl_convert",
)

# Whoever imports one of these has the framework of its name, and wants classes that derive from it.
ADAPTERS = "workloads/replay/adapters/"


def is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every module that `tree`, a module of `package`, imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: -(node.level - 1) or None] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "__import__"}:
            yield from ((node.lineno, a.value) for a in node.args[:1] if isinstance(a, ast.Constant))


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def run_on_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that importing a module runs: all but those in functions and under TYPE_CHECKING."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if is_type_checking(node):
            yield from run_on_import(node.orelse)
            continue
        yield node
        for name in ("body", "orelse", "finalbody"):
            yield from run_on_import(getattr(node, name, []))
        for handler in getattr(node, "handlers", []):
            yield from run_on_import(handler.body)


def package_of(path: str) -> str:
    return ".".join(path.split("/")[:-1])


def forbidden_imports(path: str, source: str) -> list[str]:
    """What `source`, the file at `path` below the repository, imports against RULES."""
    found = []
    for line, module in imports(ast.parse(source), package_of(path)):
        for prefix, (forbidden, allowed) in RULES.items():
            if (
                path.startswith(prefix)
                and any(is_below(module, name) for name in forbidden)
                and not any(is_below(module, name) for name in allowed)
            ):
                found.append(f"{path}:{line} imports {module}, which {prefix} must not")
    return found


def early_imports(path: str, source: str) -> list[str]:
    """The heavy modules that importing `source`, the file at `path`, would import."""
    return [
        f"{path}:{line} imports {module} when it is imported itself; import it in the function that needs it"
        for statement in run_on_import(ast.parse(source).body)
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for line, module in imports(statement, package_of(path))
        if any(is_below(module, name) for name in HEAVY)
    ]


def sources(repository: Path) -> Iterator[tuple[str, str]]:
    """Path below the repository, and text, of every module of the project."""
    for package in PROJECT:
        for path in sorted((repository / package).rglob("*.py")):
            yield path.relative_to(repository).as_posix(), path.read_text(encoding="utf-8")


def test_every_rule_has_files_that_it_holds_for(repository):
    paths = [path for path, _ in sources(repository)]

    assert [rule for rule in RULES if not any(path.startswith(rule) for path in paths)] == []


def test_imports_run_downwards_only(repository):
    assert [fault for path, source in sources(repository) for fault in forbidden_imports(path, source)] == []


def test_heavy_modules_are_imported_only_by_the_functions_that_need_them(repository):
    others = [(path, source) for path, source in sources(repository) if not path.startswith(ADAPTERS)]
    assert [fault for path, source in others for fault in early_imports(path, source)] == []


def test_the_replay_buffer_needs_none_of_its_adapters(repository):
    found = {
        (path, module)
        for path, source in sources(repository)
        if path.startswith("workloads/replay/") and not path.startswith(ADAPTERS)
        for _, module in imports(ast.parse(source), package_of(path))
        if is_below(module, "workloads.replay.adapters")
    }
    assert found == set()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("harness/cli.py", "import runtimes.ray_actors"),
        ("harness/cli.py", "from runtimes import ray_actors"),
        ("harness/cli.py", "def f():\n    from workloads.simulation import WORKLOAD"),
        ("harness/cli.py", "import importlib\nimportlib.import_module('workloads.simulation')"),
        ("harness/cli.py", "if TYPE_CHECKING:\n    from runtimes.reactor import Program"),
        ("runtimes/ray_actors.py", "from harness.records import Record"),
        ("runtimes/ray_actors.py", "from workloads.simulation import WORKLOAD"),
        ("runtimes/reactor/program.py", "from workloads.dataflow import Graph"),
        ("runtimes/reactor/program.py", "from runtimes.protocol import Runtime"),
        ("runtimes/reactor/program.py", "from ..protocol import Runtime"),
        ("runtimes/reactor/program.py", "from .. import protocol"),
        ("workloads/simulation.py", "from runtimes.protocol import processors"),
        ("workloads/simulation.py", "import harness"),
        ("workloads/dataflow/graph.py", "from workloads.simulation import WORKLOAD"),
        ("workloads/dataflow/graph.py", "from .. import simulation"),
    ],
)
def test_an_import_that_runs_upwards_is_found(path, source):
    assert len(forbidden_imports(path, source)) >= 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("harness/cli.py", "from runtimes.protocol import Runtime\nfrom workloads.dataflow import Graph"),
        ("harness/cli.py", "from harness.errors import UsageError\nimport numpy"),
        ("runtimes/reactor_adapter.py", "from runtimes.reactor.program import Program"),
        (
            "runtimes/reactor/program.py",
            "from runtimes.reactor import _native\nfrom .tags import Tag\nfrom . import levels",
        ),
        ("workloads/simulation.py", "from workloads.dataflow import Graph"),
    ],
)
def test_an_import_that_runs_downwards_is_allowed(path, source):
    assert forbidden_imports(path, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import ray",
        "import matplotlib.pyplot as plt",
        "from torch import nn",
        "try:\n    import cv2\nexcept ImportError:\n    cv2 = None",
        "try:\n    import json\nexcept ImportError:\n    import pandas",
        "class Environment:\n    import gymnasium",
        "if TYPE_CHECKING:\n    pass\nelse:\n    import ale_py",
        "with quiet():\n    import seaborn",
    ],
)
def test_a_heavy_import_at_module_level_is_found(source):
    assert len(early_imports("harness/report.py", source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    import ray",
        "class A:\n    def f(self):\n        import torch",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas",
        "import rays",
    ],
)
def test_a_heavy_import_inside_a_function_or_for_types_is_allowed(source):
    assert early_imports("harness/report.py", source) == []


def test_every_entry_point_names_a_module_of_the_project(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    targets = [target for group in project["entry-points"].values() for target in group.values()]
    targets += project["scripts"].values()

    files = {target: repository / target.split(":")[0].replace(".", "/") for target in targets}
    missing = [t for t, at in files.items() if not (at.with_suffix(".py").is_file() or (at / "__init__.py").is_file())]

    assert missing == []


def test_tox_runs_the_same_commands_as_the_script(repository):
    tox = configparser.ConfigParser()
    tox.read(repository / "tox.ini", encoding="utf-8")
    of_tox = {
        line
        for section in set(tox.sections()) - {"testenv:coverage"}
        for line in tox.get(section, "commands", fallback="").splitlines()
        if line
    }
    script = (repository / "scripts/test").read_text(encoding="utf-8").splitlines()

    assert of_tox == {line.removeprefix("check ") for line in script if line.startswith("check ")}


def test_every_direct_dependency_is_pinned(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(r for rs in project["optional-dependencies"].values() for r in rs)]
    names = {r.split(">=")[0].split("[")[0] for r in wanted} - {"reactorbench"}
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line and not line.startswith("#")}

    assert names - pinned == set()


def test_the_page_on_the_house_names_every_module_and_script(repository):
    page = (repository / "ARCHITECTURE.md").read_text(encoding="utf-8")
    modules = [
        path.name
        for package in ("harness", "runtimes", "workloads")
        for path in (repository / package).rglob("*.py")
        if not path.name.startswith("__")
    ]
    scripts = [path.name for path in (repository / "scripts").iterdir() if path.is_file()]
    figures = {f"figure{number}" for number in range(2, 6)}  # "`figure1` to `figure6`"

    assert [name for name in sorted({*modules, *scripts} - figures) if name not in page] == []
