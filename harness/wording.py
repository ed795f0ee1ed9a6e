"""How numbers, cells and runtimes are named wherever people read them: terminal, Markdown, figures.

Plain ASCII throughout, so that logs and narrow fonts show the same. Nothing here computes a result.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from harness.statistics import INTERVAL, RANGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness.statistics import Estimate

__all__ = [
    "DASH",
    "Labels",
    "compact_json",
    "estimate_columns",
    "in_bytes",
    "in_count",
    "in_file_names",
    "in_fraction",
    "in_ratio",
    "in_seconds",
    "in_si",
    "in_spread",
    "indented_json",
    "mean_form",
    "plural",
    "plural_of",
    "ratio_columns",
    "ratio_form",
    "sample_form",
]

DASH = "-"
"""Stands where there is no number."""

_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"), (1, "B"))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def compact_json(value: Any) -> str:
    """`value` as JSON without spaces, keys sorted: equal for equal parameters, whatever their order."""
    return msgspec.json.encode(value, order="sorted").decode()


def indented_json(value: Any) -> bytes:
    """`value` as JSON in lines for people, as files hold it."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def in_si(value: float) -> str:
    """Three significant digits with an SI prefix: `44.2k`."""
    number, prefix = _scaled(value, _SI)
    return number + prefix


def in_count(value: int) -> str:
    """Whole below a thousand, else three significant digits: `26`, `12.4k`."""
    return str(value) if value < 1000 else in_si(value)  # noqa: PLR2004 - where the first prefix begins


def in_fraction(value: float) -> str:
    """Three significant digits: `0.932`."""
    return _three_digits(value)


def in_ratio(value: float) -> str:
    """Three significant digits: `18.7x`, `0.0181x`, `1,230x`."""
    return f"{_three_digits(value)}x"


def in_spread(estimate: Estimate | None, spell: Callable[[float], str]) -> str:
    """`3.21x (3.01x to 3.44x)`, each number spelt by `spell`; of a single value itself."""
    if estimate is None:
        return DASH
    if estimate.n == 1:
        return spell(estimate.point)
    return f"{spell(estimate.point)} ({spell(estimate.low)} to {spell(estimate.high)})"


def in_seconds(value: float) -> str:
    """Three significant digits with their unit: `9.12 s`, `340 us`."""
    return " ".join(_scaled(value, _SECONDS))


def in_bytes(value: float) -> str:
    """Three significant digits with their unit, powers of ten: `1.02 GB`."""
    return " ".join(_scaled(value, _BYTES))


def in_file_names(*names: str) -> str:
    """`names` joined, with nothing in it that a file name had better not have: `simulation-ray-packed`."""
    return "-".join(re.sub(r"[^A-Za-z0-9_-]+", "_", name) for name in names)[:100]


def plural(number: int, noun: str) -> str:
    """`1 pair`, `3 pairs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural_of(noun)}"


def plural_of(noun: str) -> str:
    """`environment steps`, `echoes`, `batches`."""
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh", "o")) else "s")


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 100:  # noqa: PLR2004 - three digits stand before the point
        return f"{rounded:,.0f}"
    # "#" keeps trailing zeros, so that 1.80 does not pass for a rougher figure than 1.83.
    return f"{rounded:#.3g}"


def _scaled(value: float, scales: tuple[tuple[float, str], ...]) -> tuple[str, str]:
    """`value` in the largest unit of which there is at least one, as three digits and the unit."""
    rounded = float(f"{value:.3g}")
    factor, unit = next(((f, u) for f, u in scales if abs(rounded) >= f), scales[-1])
    if isinstance(factor, int) and factor == 1:
        return f"{rounded:.0f}", unit
    return _three_digits(rounded / factor), unit


def sample_form(estimates: Sequence[Estimate], mean: str, estimate: str, sample: str) -> str:
    """`geometric mean and range of 3 pairs`, for each kind of interval that occurs."""
    if all(e.n == 1 for e in estimates):
        return f"a single {sample}, so no range"
    forms = []
    for kind, point in ((RANGE, mean), (INTERVAL, estimate)):
        sizes = sorted({e.n for e in estimates if e.kind == kind})
        if sizes:
            number = plural(sizes[-1], sample) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} {plural_of(sample)}"
            forms.append(f"{point} and {kind} of {number}")
    return ", or ".join(forms)


def estimate_columns(column: str, estimate: Estimate | None) -> dict[str, float | None]:
    """An estimate in a row of a CSV file: `column`, and its ends beside it; empty cells where there is none."""
    names = (column, f"{column}_low", f"{column}_high")
    if estimate is None:
        return dict.fromkeys(names)
    return dict(zip(names, (estimate.point, estimate.low, estimate.high), strict=True))


def ratio_columns(estimate: Estimate | None) -> dict[str, Any]:
    """A ratio of pairs in a row of a CSV file; empty cells where there is none."""
    return {
        **estimate_columns("ratio", estimate),
        "interval": None if estimate is None else estimate.kind,
        "pairs": None if estimate is None else estimate.n,
    }


def ratio_form(ratios: Sequence[Estimate]) -> str:
    """`geometric mean and range of 3 pairs`: the form of paired ratios, wherever they stand."""
    return sample_form(ratios, "geometric mean", "Hodges-Lehmann estimate", "pair")


def mean_form(values: Sequence[Estimate]) -> str:
    """`mean and range of 3 invocations`: the form of rates and times, wherever they stand."""
    return sample_form(values, "mean", "mean", "invocation")


class Labelled(Protocol):
    """What has a cell and a runtime: a row of a summary, say."""

    @property
    def workload(self) -> str:
        """Name of the workload."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """All its parameters, as the workload declares them."""
        ...

    @property
    def runtime(self) -> str:
        """Name of the runtime."""
        ...

    @property
    def options(self) -> Mapping[str, Any]:
        """All its options."""
        ...

    @property
    def is_bound(self) -> bool:
        """Whether it is no competitor but a bound on all of them."""
        ...

    @property
    def differs(self) -> str | None:
        """Why it computes something else than the plain loop, where it does."""
        ...


class Labels:
    """Short names for the cells and runtimes of one report, which differ wherever these differ.

    A cell is named by its first two parameters, as the workload declares them, and by every other parameter that
    varies among the cells of its workload, but for those that are null; a runtime by its name, and by every option
    that varies among the rows of that name.
    """

    def __init__(self, rows: Iterable[Labelled]) -> None:
        """Learn from `rows` what varies."""
        self._parameters: dict[str, list[str]] = {}
        self._options: dict[str, list[str]] = {}
        rows = list(rows)
        for workload in {row.workload for row in rows}:
            self._parameters[workload] = _varying([row.parameters for row in rows if row.workload == workload])
        for runtime in {row.runtime for row in rows}:
            self._options[runtime] = _varying([row.options for row in rows if row.runtime == runtime])

    def cell(self, row: Labelled) -> str:
        """`CartPole-v1 x 15, fragment=128`; the workload's name for a cell without parameters."""
        varying = self._parameters.get(row.workload, [])
        given = {name: value for name, value in row.parameters.items() if value is not None}
        first_two = [name for name in list(row.parameters)[:2] if name in given]
        others = [name for name in varying if name in given and name not in first_two]
        parts = [_setting(name, given[name]) for name in (*first_two, *others)]
        if len(first_two) == 2 and _reads_as_times(first_two, row.parameters):  # noqa: PLR2004 - a pair
            parts[:2] = [f"{_value(first_two[0], row.parameters[first_two[0]])} x {row.parameters[first_two[1]]}"]
        return ", ".join(parts) or row.workload

    def full_cell(self, row: Labelled) -> str:
        """`broadcast_gather: 10 MB x 8`; without the workload's name where all cells are of one workload."""
        return f"{row.workload}: {self.cell(row)}" if len(self._parameters) > 1 else self.cell(row)

    def other_parameters(self, row: Labelled) -> str:
        """The parameters that `cell` leaves out, but for those that are null: `actions=local, policy=linear`."""
        named = {*list(row.parameters)[:2], *self._parameters.get(row.workload, [])}
        others = {name: value for name, value in row.parameters.items() if name not in named and value is not None}
        return ", ".join(f"{name}={_value(name, value)}" for name, value in others.items())

    def options(self, row: Labelled) -> str:
        """The options that tell rows of one runtime's name apart: `workers=2`; often nothing."""
        varying = self._options.get(row.runtime, [])
        return ", ".join(f"{name}={_value(name, row.options[name])}" for name in varying if name in row.options)

    def remarks(self, row: Labelled) -> str:
        """What stands beside the runtime's name: that it is a bound or computes something else, and its options."""
        kind = "bound" if row.is_bound else "units only" if row.differs else ""
        return ", ".join(filter(None, [kind, self.options(row)]))

    def runtime(self, row: Labelled) -> str:
        """`reactor`, or `reactor (workers=2)` where there are several; `ceiling (bound)`, `envpool (units only)`."""
        remarks = self.remarks(row)
        return f"{row.runtime} ({remarks})" if remarks else row.runtime


def _varying(settings: list[Mapping[str, Any]]) -> list[str]:
    """Names whose value differs, or is missing, among `settings`, in order of appearance."""
    names = dict.fromkeys(name for setting in settings for name in setting)
    missing = object()
    return [
        name
        for name in names
        if len({"" if setting.get(name, missing) is missing else compact_json(setting[name]) for setting in settings})
        > 1
    ]


def _reads_as_times(names: list[str], parameters: Mapping[str, Any]) -> bool:
    """Whether a pair reads well as `CartPole-v1 x 15` or `10 MB x 8`: a thing, and how many of it."""
    thing, number = (parameters[name] for name in names)
    return (isinstance(thing, str) or "bytes" in names[0]) and isinstance(number, int) and not isinstance(number, bool)


def _setting(name: str, value: Any) -> str:
    """`name=value`, or a string alone: `CartPole-v1` needs no `env_id=` before it."""
    return value if isinstance(value, str) and value else f"{name}={_value(name, value)}"


def _value(name: str, value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    if "bytes" in name and isinstance(value, int) and not isinstance(value, bool):
        lossless = float(f"{value:.3g}") == value
        return in_bytes(value).replace(".00", "").replace(".0 ", " ") if lossless else f"{value:,} B"
    return compact_json(value)
