"""From what a page says to one HTML file: its template filled, its figures drawn, its rounds thinned until it fits.

Text of a run (names, reasons, parameters) is escaped by the template; JSON that stands in the page has no `<`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from harness import __version__
from harness.page import charts
from harness.page.model import BAD, LOOKS, QUANTILES, counts_of, round_quantiles
from harness.wording import compact_json, in_fraction, in_ratio, in_seconds, in_si, plural, plural_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness.page.model import Page, PageRecord, PageRow

__all__ = ["MOST_BYTES", "render"]

MOST_BYTES = 3_000_000
"""Of a page: some mail programs and issue trackers take no more."""

_HERE = Path(__file__).parent
_DASH = "\u2013"


@dataclass(frozen=True, slots=True)
class _Thinning:
    """How much of every invocation stands in the page."""

    strip: int
    """Medians of consecutive rounds, for the strip in run order."""
    quantiles: int
    """For the distribution."""
    records: bool = True
    """Whether every invocation has a line of its own in the table of its row."""


_THINNINGS = (
    _Thinning(100, 61),
    _Thinning(50, 41),
    _Thinning(24, 21),
    _Thinning(10, 11),
    _Thinning(4, 5),
    _Thinning(0, 0),
    _Thinning(0, 0, records=False),
)
"""Tried in this order until the page fits."""

_BYTES_A_VALUE = 7
_BYTES_A_RECORD = 420
"""About what a line of a table of invocations takes."""


def render(page: Page, *, most_bytes: int = MOST_BYTES) -> str:
    """`page` as HTML of at most `most_bytes`: rounds are thinned first, then tables of invocations go.

    A page that is still larger then, of thousands of rows, is given as it is.
    """
    figures = _figures(page)
    text = ""
    for thinning in _THINNINGS[_first_guess(page, most_bytes) :]:
        text = _filled(page, figures, thinning)
        if len(text.encode()) <= most_bytes:
            break
    return text


def _first_guess(page: Page, most_bytes: int) -> int:
    """The first thinning that may fit, so that a large page is not made five times."""
    invocations = len({(side, one.line) for row in page.rows for side, one in _invocations(page, row)})
    lines = sum(len(row.base_records) + len(row.head_records) for row in page.rows)
    left = most_bytes - len(_bundle()) - 60_000 - lines * _BYTES_A_RECORD
    for number, thinning in enumerate(_THINNINGS[:-2]):
        if invocations * (thinning.strip + thinning.quantiles) * _BYTES_A_VALUE <= left:
            return number
    return len(_THINNINGS) - 2


# ---------------------------------------------------------------------------------------- the parts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figure:
    """A figure of the page, drawn beforehand."""

    name: str
    spec: dict[str, Any]
    svg: str


def _figures(page: Page) -> dict[str, _Figure]:
    specs = {"forest": charts.forest(page.rows, band=page.band), "claims": charts.claims_chart(page.claims)}
    specs |= {f"scaling-{number}": charts.scaling_chart(one) for number, one in enumerate(page.scaling)}
    return {
        name: _Figure(name=name, spec=spec, svg=_named_apart(charts.as_svg(spec), name))
        for name, spec in specs.items()
        if spec is not None
    }


def _named_apart(svg: str, name: str) -> str:
    """`svg` with ids that no other drawing of the page has: a clip path is found by its id."""
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    return re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)


def _filled(page: Page, figures: dict[str, _Figure], thinning: _Thinning) -> str:
    trouble = [row for row in page.rows if row.verdict in BAD]
    text: str = _template().render(
        page=page,
        version=__version__,
        figures=figures,
        counts=counts_of(page.rows),
        looks=LOOKS,
        used=list(counts_of(page.rows)),
        drawn=list(counts_of([row for row in page.rows if row.ratio is not None])),
        trouble=trouble,
        runtimes=sorted({row.runtime for row in page.rows}),
        quantiles=QUANTILES,
        with_ray=any(row.over_best_ray is not None for row in page.rows),
        with_efficiency=any(row.efficiency is not None for row in page.rows),
        with_quantiles=any(value is not None for row in page.rows for value in row.quantiles_s.values()),
        with_records=thinning.records,
        thinned=_what_was_thinned(page, thinning),
        css=_static("page.css"),
        script=_in_script(_static("page.js")),
        tablesort=_in_script(_static("tablesort.min.js")),
        bundle=_bundle(),
        specs=_json({name: figure.spec for name, figure in figures.items()}),
        templates=_json(charts.detail_charts()),
        data=_json(_data(page, thinning)),
    )
    return text


def _what_was_thinned(page: Page, thinning: _Thinning) -> str:
    """One sentence, so that nobody takes a thinned strip for every round."""
    most = max((len(o.record.rounds_s) for row in page.rows for _, o in _invocations(page, row)), default=0)
    parts = []
    if thinning.strip == 0:
        parts.append(
            "This page has no durations of rounds, as it would be too large with them: records.jsonl has them."
        )
    elif most > thinning.strip:
        parts.append(
            f"Of each invocation's durations (up to {most:,}) this page has {thinning.strip} medians of consecutive "
            f"ones for the strip in run order, and {thinning.quantiles} quantiles for the distribution; records.jsonl "
            "has all of them. No invocation is left out."
        )
    if not thinning.records:
        parts.append("Invocations are named by their lines in records.jsonl, without a table of their own.")
    return " ".join(parts)


# ----------------------------------------------------------------------------------------- the data


def _invocations(page: Page, row: PageRow) -> Iterable[tuple[str, PageRecord]]:
    """Of both sides; for a run, whose plain loop stands in many rows, both are of one file."""
    yield from (("base" if page.kind == "check" else "", one) for one in row.base_records)
    yield from (("head" if page.kind == "check" else "", one) for one in row.head_records)


def _data(page: Page, thinning: _Thinning) -> dict[str, Any]:
    """What figures of a row are drawn from: durations by invocation, once each, and who belongs to a row."""
    durations: dict[str, Any] = {}
    rows: dict[str, Any] = {}
    for row in page.rows:
        for side, one in _invocations(page, row):
            key = f"{side}{one.line}"
            if key not in durations and one.record.rounds_s and thinning.strip:
                durations[key] = _thinned(one.record.rounds_s, thinning)
        prefix = ("base", "head") if page.kind == "check" else ("", "")
        rows[str(row.number)] = {
            "base": [f"{prefix[0]}{one.line}" for one in row.base_records],
            "head": [f"{prefix[1]}{one.line}" for one in row.head_records],
            "pairs": [
                [pair.seed, _digits(pair.base_units_per_s, 6), _digits(pair.head_units_per_s, 6), int(pair.counts)]
                for pair in row.pairs
            ],
            "ratio": None
            if row.ratio is None
            else [_digits(value, 6) for value in (row.ratio.point, row.ratio.low, row.ratio.high)],
            "unit": plural_of(row.unit),
        }
    return {
        "kind": page.kind,
        "base": page.base_name,
        "head": page.head_name,
        "durations": durations,
        "rows": rows,
    }


def _thinned(rounds_s: Sequence[float], thinning: _Thinning) -> dict[str, Any]:
    """Microseconds: `o` in order, medians of as many equal batches; `q` evenly spaced quantiles, both ends included."""
    import numpy as np

    values = np.asarray(rounds_s, dtype=np.float64) * 1e6
    if values.size <= thinning.strip:
        strip = values.tolist()
    else:
        strip = [float(np.median(batch)) for batch in np.array_split(values, thinning.strip)]
    spots = np.linspace(0, 1, min(thinning.quantiles, max(2, values.size)))
    return {
        "o": [_digits(value, 4) for value in strip],
        "q": [_digits(value, 4) for value in np.quantile(values, spots).tolist()],
    }


def _digits(value: float, digits: int) -> float | int:
    """`value` to so many digits, in the shortest form."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded  # noqa: PLR2004 - exact as a float


def _json(value: Any) -> str:
    """JSON that can stand in a script element: no text in it can end that, nor be taken for markup."""
    text = msgspec.json.encode(value).decode()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


# ------------------------------------------------------------------------------------- the template


@cache
def _static(name: str) -> str:
    return (_HERE / "static" / name).read_text(encoding="utf-8")


def _in_script(text: str) -> str:
    """JavaScript that cannot end the element that it stands in, nor open a comment there."""
    return re.sub(r"</(?=script)", r"<\\/", text, flags=re.IGNORECASE).replace("<!--", "\\x3C!--")


@cache
def _bundle() -> str:
    return _in_script(charts.vega_bundle())


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "si": lambda value: _DASH if value is None else in_si(value),
        "times": _times,
        "seconds": lambda value: _DASH if value is None else _micro(in_seconds(value)),
        "ends": lambda e: _DASH if e is None or e.n == 1 else f"{in_fraction(e.low)} {_DASH} {in_fraction(e.high)}",
        "percent": lambda value: _DASH if value is None else f"{value * 100:.1f}\u202f%",
        "plural": plural,
        "sort": lambda value: "" if value is None else f"{value:.6g}",
        "setting": lambda value: value if isinstance(value, str) else compact_json(value),
        "pill": _pill,
        "q": round_quantiles,
        "quarters": _quarters,
        "fraction": lambda value: _DASH if value is None else in_fraction(value),
        "lines": _lines,
        "sentence": lambda text: text[:1].upper() + text[1:],
        # Written by this package or its dependencies, and made safe for where it stands.
        "trusted": Markup,
    }
    return environment.get_template("page.html.j2")


def _times(value: float | None) -> str:
    return _DASH if value is None else in_ratio(value).removesuffix("x") + "\u00d7"


def _micro(text: str) -> str:
    return text.replace(" us", "\u202f\u00b5s").replace(" ms", "\u202fms").replace(" s", "\u202fs")


_PILLS = (("rounds drift", "drift"), ("rounds take one of two", "two modes"), ("other programs", "busy machine"))


def _pill(flag: str) -> str:
    """A flag in two words; the detail has the whole of it."""
    return next((short for start, short in _PILLS if flag.startswith(start)), flag)


def _quarters(rounds_s: Sequence[float]) -> tuple[float, float] | None:
    """The medians of the first and the last quarter: where they differ, rounds drifted."""
    from statistics import median

    quarter = math.ceil(len(rounds_s) / 4)
    return (median(rounds_s[:quarter]), median(rounds_s[-quarter:])) if quarter else None


def _lines(records: Sequence[PageRecord]) -> str:
    """`1, 4-9, 12`."""
    runs: list[list[int]] = []
    for line in sorted(one.line for one in records):
        if runs and line == runs[-1][1] + 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    return ", ".join(str(first) if first == last else f"{first}\u2013{last}" for first, last in runs)
