"""Suites: TOML files that say which workloads run on which runtimes, and how they are measured.

A suite has the settings of `harness.plan.Settings` and `title` and `runtimes` at its top, and a
`[[cell]]` table for each workload with its parameters, which may override what stands at the top; with `vary` a
table stands for many cells. What is to be trained has a `[[learning]]` table with the settings of
`harness.plan.LearningSettings`.
Keys are strict. Options of the command line override the suite's, those of its cells too.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from importlib import resources
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from harness.arguments import bind, chosen_runtime, chosen_workload, spell
from harness.errors import UsageError, did_you_mean
from harness.plan import Cell, LearningCell, LearningSettings, Plan, RuntimeChoice, Settings
from harness.registry import metrics
from harness.wording import compact_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from importlib.resources.abc import Traversable

__all__ = [
    "CellTable",
    "LearningTable",
    "Suite",
    "plan_of",
    "read_suite",
    "suite_names",
    "suite_of_training",
    "suite_of_workload",
]


Part = TypeVar("Part", bound=msgspec.Struct)


class CellTable(msgspec.Struct, frozen=True, kw_only=True):
    """A `[[cell]]` of a suite; None where the top of the suite decides."""

    workload: str
    parameters: dict[str, Any] = {}
    runtimes: list[str] | None = None
    warmup_rounds: int | None = None
    rounds: int | None = None
    measure_s: float | None = None
    metrics: list[str] | None = None
    name: str = ""
    """What `--cells` selects it by."""
    round_s: float = 0.0
    """About how long a round takes without any communication, for the estimate of `plan`."""
    vary: dict[str, list[Any]] = {}
    """Parameters with several values: the table stands for a cell of each combination, the last one varying fastest.

    Their names end in the values: `sweep-16-1000`.
    """


class LearningTable(msgspec.Struct, frozen=True, kw_only=True):
    """A `[[learning]]` of a suite; None where the default decides, or of runtimes the top of the suite."""

    workload: str
    parameters: dict[str, Any] = {}
    runtimes: list[str] | None = None
    seeds: int | None = None
    every_rounds: int | None = None
    cap_rounds: int | None = None
    episodes: int | None = None
    target: float | None = None
    stop_at_target: bool | None = None
    timeout_s: float | None = None
    name: str = ""
    """What `--cells` selects it by."""
    round_s: float = 0.0
    """About how long a round takes without any communication, for the estimate of `plan`."""


class Suite(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite says, with nothing filled in or looked up yet."""

    title: str = ""
    runtimes: list[str] = []
    cell: list[CellTable] = []
    learning: list[LearningTable] = []
    invocations: int | None = None
    warmup_rounds: int | None = None
    rounds: int | None = None
    measure_s: float | None = None
    timeout_s: float | None = None
    seed: int | None = None
    metrics: list[str] | None = None
    name: str = ""
    """The name of its file; no key of the file."""
    is_text: bool = False
    """Parameters are text from the command line, not TOML values."""


_KEYS = [name for name in Suite.__struct_fields__ if name not in {"name", "is_text"}]


def suite_names() -> list[str]:
    """The suites that come with the project."""
    return sorted(file.name.removesuffix(".toml") for file in _shipped())


def read_suite(name_or_path: str) -> Suite:
    """The shipped suite of that name, or the one in the TOML file at that path.

    Raises:
        UsageError: if there is none, it is not TOML, or it has a wrong key or value.
    """
    text, name = _text_of(name_or_path)
    source = f"Suite {name_or_path}"
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not TOML: {error}. Repair that line.") from error
    _check_keys(table, _KEYS, source)
    for key, kind in (("cell", CellTable), ("learning", LearningTable)):
        cells = table.get(key, [])
        for number, cell in enumerate(cells if isinstance(cells, list) else [], start=1):
            if isinstance(cell, dict):
                where = f"{source}, {key} {number}"
                _check_keys(cell, kind.__struct_fields__, where)
                converted = _converted(cell, kind, where)
                if isinstance(converted, CellTable):
                    _check_varied(converted, where)
    suite = _converted(table | {"name": name}, Suite, source)
    suite = msgspec.structs.replace(suite, cell=[cell for table in suite.cell for cell in _combinations(table)])
    if not suite.cell and not suite.learning:
        raise UsageError(
            f"{source} has no [[cell]], nor any [[learning]], so there is nothing to run. Add one with a workload."
        )
    return suite


def suite_of_workload(workload: str, parameters: Mapping[str, str]) -> Suite:
    """A suite of one cell, from the command line."""
    return Suite(name=workload, cell=[CellTable(workload=workload, parameters=dict(parameters))], is_text=True)


def suite_of_training(workload: str, parameters: Mapping[str, str]) -> Suite:
    """The same, of one cell that is trained."""
    return Suite(name=workload, learning=[LearningTable(workload=workload, parameters=dict(parameters))], is_text=True)


def plan_of(
    suite: Suite,
    overrides: Mapping[str, Any],
    runtimes: Sequence[str],
    learning_overrides: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan for `suite`; what else is given overrides what it says, if it is anything.

    `overrides` are of `Settings`, `learning_overrides` of `LearningSettings`.

    Raises:
        UsageError: for an unknown workload, runtime, parameter, option or metric, a wrong value, no runtime at all,
            the same cell, runtime or metric twice, or training without a way to evaluate it.
    """
    top = {name: value for name in Settings.__struct_fields__ if (value := getattr(suite, name)) is not None}
    general = _settings(top | dict(overrides), "the run" if suite.is_text else f"suite '{suite.name}'")
    cells = [_cell(suite, table, number, top, overrides, runtimes) for number, table in enumerate(suite.cell, start=1)]
    trained = [
        _learning_cell(suite, table, number, learning_overrides or {}, runtimes)
        for number, table in enumerate(suite.learning, start=1)
    ]
    owner = f"Suite '{suite.name}'"
    _check_distinct([f"{cell.workload} {compact_json(cell.parameters)}" for cell in cells], owner, "cell")
    _check_distinct([f"{cell.workload} {compact_json(cell.parameters)}" for cell in trained], owner, "training cell")
    plan = Plan(
        name=suite.name,
        title=suite.title or suite.name,
        invocations=general.invocations,
        timeout_s=general.timeout_s,
        seed=general.seed,
        cells=tuple(cells),
        learning=tuple(trained),
    )
    _check_distinct([name for name in plan.names if name], owner, "name of a cell")
    return plan


def _shipped() -> Iterable[Traversable]:
    return [file for file in resources.files("harness.suites").iterdir() if file.name.endswith(".toml")]


def _text_of(name_or_path: str) -> tuple[str, str]:
    """The text of a suite and its name."""
    for file in _shipped():
        if file.name == f"{name_or_path}.toml":
            return file.read_text(encoding="utf-8"), name_or_path
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.is_file():
        raise UsageError(
            f"Unknown suite '{name_or_path}'. {did_you_mean(name_or_path, suite_names())} "
            "Or give the path of a TOML file, or --workload NAME."
        )
    try:
        return path.read_text(encoding="utf-8"), path.stem
    except OSError as error:
        raise UsageError(f"Suite {path} cannot be read: {error.strerror}. Give the path of a TOML file.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"Suite {path} is not TOML: it is not UTF-8 text. Give the path of a TOML file.") from error


def _check_keys(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{where} has an unknown key '{key}'. {did_you_mean(key, known)}")


def _check_varied(table: CellTable, where: str) -> None:
    """Raise unless what varies has values, and stands nowhere else.

    Raises:
        UsageError: for a parameter without any value, or one that is given twice.
    """
    for name, values in table.vary.items():
        if not values:
            raise UsageError(
                f"{where}: '{name}' varies over no value. Give at least one: vary = {{ {name} = [1, 2] }}."
            )
        if name in table.parameters:
            raise UsageError(f"{where}: '{name}' stands in 'parameters' and in 'vary'. Take it out of one.")


def _combinations(table: CellTable) -> list[CellTable]:
    """`table` with each combination of what varies, which then does not any more."""
    if not table.vary:
        return [table]
    return [
        msgspec.structs.replace(
            table,
            vary={},
            parameters={**table.parameters, **dict(zip(table.vary, values, strict=True))},
            name=table.name and "-".join([table.name, *map(str, values)]),
        )
        for values in product(*table.vary.values())
    ]


_IN_WORDS = {
    "title": """a text: title = "Small environments\"""",
    "runtimes": 'a list of names: runtimes = ["sequential"]',
    "cell": "tables of their own: [[cell]] on a line alone, its keys below it",
    "learning": "tables of their own: [[learning]] on a line alone, its keys below it",
    "workload": 'a name: workload = "simulation"',
    "parameters": "a table: parameters = { envs = 8 }",
    "measure_s": "a number of seconds: measure_s = 1.0",
    "metrics": 'a list of names: metrics = ["cpu_s"]',
    "name": 'a name, for --cells: name = "small"',
    "round_s": "a number of seconds: round_s = 0.005",
    "vary": "a table of lists: vary = { envs = [1, 2, 4] }",
    "timeout_s": "a number of seconds: timeout_s = 300",
    "target": "a number: target = -200.0",
    "stop_at_target": "true or false: stop_at_target = true",
}
"""What a key of a suite holds, for messages; the others hold whole numbers."""


def _converted(table: Mapping[str, Any], kind: type[Part], where: str) -> Part:
    """`table` as `kind`.

    Raises:
        UsageError: for a value of the wrong type, or a cell without a workload.
    """
    if kind in {CellTable, LearningTable} and "workload" not in table:
        raise UsageError(f"{where} has no workload. Add {_IN_WORDS['workload'].partition(': ')[2]}.")
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        found = re.search(r"`\$\.(\w+)", str(error))
        key = found[1] if found else "cell"
        rule = _IN_WORDS.get(key, f"a whole number: {key} = 10")
        raise UsageError(f"{where}: '{key}' cannot be {spell(table.get(key))}; it is {rule}.") from error


def _settings(given: Mapping[str, Any], owner: str) -> Settings:
    bound = bind(Settings, given, noun="setting", owner=owner, is_text=False)
    assert isinstance(bound, Settings)
    return bound


def _learning_cell(
    suite: Suite, table: LearningTable, number: int, overrides: Mapping[str, Any], runtimes: Sequence[str]
) -> LearningCell:
    where = f"training cell {number} ({table.workload})"
    own = {name: getattr(table, name) for name in LearningSettings.__struct_fields__}
    given = {**{name: value for name, value in own.items() if value is not None}, **overrides}
    settings = bind(LearningSettings, given, noun="setting", owner=where, is_text=False)
    assert isinstance(settings, LearningSettings)
    if settings.stop_at_target and settings.target is None:
        raise UsageError(f"{_capitalised(where)} is to stop at its target but has none. Set target to a mean return.")
    workload, bound = chosen_workload(table.workload, table.parameters, is_text=suite.is_text)
    if workload.evaluate is None:
        raise UsageError(
            f"Workload '{workload.name}' does not say how what it has learnt is evaluated, so its learning cannot be "
            "shown. Choose one that learns, as q_learning."
        )
    named = _runtimes(suite, table.runtimes, where, runtimes)
    # Bounds compute less than a round, and so learn nothing; who asks for one means the cells that are measured.
    choices = tuple(choice for choice in named if not choice.is_bound)
    if not choices:
        raise UsageError(
            f"{_capitalised(where)} names '{named[0].name}' alone, a bound, which computes less than a round and so "
            "learns nothing. Name another runtime."
        )
    return LearningCell(
        workload=table.workload,
        parameters=msgspec.to_builtins(bound),
        runtimes=choices,
        name=table.name,
        round_s=table.round_s,
        **msgspec.structs.asdict(settings),
    )


def _cell(  # noqa: PLR0913, PLR0917 - all that decides over a cell, once
    suite: Suite,
    table: CellTable,
    number: int,
    top: Mapping[str, Any],
    overrides: Mapping[str, Any],
    runtimes: Sequence[str],
) -> Cell:
    own = {name: getattr(table, name) for name in ("warmup_rounds", "rounds", "measure_s", "metrics")}
    given = {name: value for name, value in own.items() if value is not None}
    settings = _settings({**top, **given, **overrides}, f"cell {number} ({table.workload})")
    _check_distinct(settings.metrics, f"Cell {number} ({table.workload})", "metric")
    return Cell(
        workload=table.workload,
        parameters=_parameters(table, is_text=suite.is_text),
        runtimes=_runtimes(suite, table.runtimes, f"cell {number} ({table.workload})", runtimes),
        warmup_rounds=settings.warmup_rounds,
        rounds=settings.rounds,
        measure_s=settings.measure_s,
        metrics=_metrics(settings.metrics),
        name=table.name,
        round_s=table.round_s,
    )


def _parameters(table: CellTable, *, is_text: bool) -> dict[str, Any]:
    """All parameters of a cell, defaults included, as plain values."""
    _, bound = chosen_workload(table.workload, table.parameters, is_text=is_text)
    plain: dict[str, Any] = msgspec.to_builtins(bound)
    return plain


def _runtimes(suite: Suite, own: Sequence[str] | None, where: str, instead: Sequence[str]) -> tuple[RuntimeChoice, ...]:
    """The runtimes of a cell: those that are given `instead`, else its `own`, else those of `suite`."""
    texts = instead or (suite.runtimes if own is None else own)
    if not texts:
        raise UsageError(f"{_capitalised(where)} names no runtime. Add --runtime NAME, or 'runtimes' in the suite.")
    choices = [_runtime(text) for text in texts]
    spelt = [f"{choice.name} {compact_json(choice.options)}" for choice in choices]
    _check_distinct(spelt, _capitalised(where), "runtime")
    return tuple(choices)


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _runtime(text: str) -> RuntimeChoice:
    runtime, options = chosen_runtime(text)
    return RuntimeChoice(
        name=runtime.name, options=msgspec.to_builtins(options), is_bound=runtime.is_bound, differs=runtime.differs
    )


def _metrics(names: Sequence[str]) -> tuple[str, ...]:
    """`names`, if all of them are metrics.

    Raises:
        UsageError: for one that is unknown or cannot be used.
    """
    known = metrics() if names else None
    return () if known is None else tuple(known.get(name).name for name in names)


def _check_distinct(spelt: Sequence[str], owner: str, noun: str) -> None:
    twice = [text for text, times in Counter(spelt).items() if times > 1]
    if twice:
        raise UsageError(f"{owner} has the same {noun} twice: {twice[0]}. Take one out, or change it.")
