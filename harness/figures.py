"""Figures of a report: throughput of every cell, and speedups over the best Ray, `ray` and the plain loop.

Dot and interval on log axes; one colour and marker for each runtime, the same in every figure; the
title states the finding, the caption what was measured how often and where. Each figure comes as SVG
(text stays text, and the same rows give the same bytes) and PNG, with the CSV of what it shows.

Drawn with matplotlib's object interface on the Agg canvas: no display, no state shared with a caller
who plots too.
"""

from __future__ import annotations

import hashlib
import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.summary import SUBJECT, cells_of, finding, flat, usable
from harness.wording import Labels, in_ratio, in_si, plural_of, sample_form

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.statistics import Estimate
    from harness.summary import SummaryRow

__all__ = ["Look", "look_of", "remove_figures", "write_figures"]


@dataclass(frozen=True, slots=True)
class Look:
    """Colour and marker of a runtime."""

    colour: str
    marker: str


_KNOWN = {
    "sequential": Look("#000000", "o"),
    "reactor": Look("#0072B2", "D"),
    "reactor-inline": Look("#56B4E9", "<"),
    "reactor-processes": Look("#009E73", ">"),
    "reactor-threads": Look("#F0E442", "h"),
    "ray": Look("#D55E00", "s"),
    "ray-compiled": Look("#E69F00", "^"),
    "ray-packed": Look("#CC79A7", "v"),
}
_BOUND = Look("#808080", "|")
"""Of every bound: no competitor's colour, and a bar where others stop short."""
_OTHER_COLOURS = ("#009E73", "#56B4E9")
_OTHER_MARKERS = ("P", "X", "p", "*", "d", "H", "8")

_LEAST_SPAN = math.log(3)
"""A log axis spans at least this, so that noise is not blown up to fill it."""
_MOST_TICKS = 5

_GREY = "#595959"
_FAINT = "#D9D9D9"
_ON_WHITE: dict[str, Any] = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
"""Behind text, so that neither grid nor the line at 1 runs through it."""
_WIDTH_INCHES = 9.0
_PIXELS_PER_INCH = 160

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#808080",
    "axes.facecolor": "none",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": _GREY,
    "xtick.color": _GREY,
    "ytick.left": False,
    "ytick.major.size": 0,
    "axes.axisbelow": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.7,
    "svg.fonttype": "none",
    "svg.hashsalt": "reactorbench",
}


def look_of(runtime: str) -> Look:
    """The look of `runtime`: fixed for the known ones, for any other one a function of its name alone."""
    if runtime in _KNOWN:
        return _KNOWN[runtime]
    number = int.from_bytes(hashlib.sha256(runtime.encode()).digest()[:4])
    colours, markers = len(_OTHER_COLOURS), len(_OTHER_MARKERS)
    return Look(_OTHER_COLOURS[number % colours], _OTHER_MARKERS[number // colours % markers])


def write_figures(rows: Sequence[SummaryRow], folder: Path, machine: str) -> list[Path]:
    """Write `throughput` and `speedups` as SVG, PNG and CSV into `folder`; a figure with nothing to show is left out.

    `machine` is the machine in a few words, for the caption.

    Raises:
        OSError: if `folder` cannot be written.
    """
    folder.mkdir(exist_ok=True)
    written: list[Path] = []
    if any(row.units_per_s is not None for row in rows):
        with _style():
            written += _save(_throughput(rows, machine), folder / "throughput", rows)
    competitors = [row for row in rows if not row.is_bound]
    compared = [row for cell in cells_of(competitors) if any(any(r.speedups.values()) for r in cell) for row in cell]
    if compared:
        with _style():
            written += _save(_speedups(compared, machine), folder / "speedups", compared)
    return written


def remove_figures(folder: Path) -> None:
    """Remove from `folder` what `write_figures` may have written there, and nothing else."""
    if folder.is_dir():
        for stem in ("throughput", "speedups"):
            for suffix in (".svg", ".png", ".csv"):
                (folder / stem).with_suffix(suffix).unlink(missing_ok=True)


def _style() -> AbstractContextManager[None]:
    import seaborn as sns
    from matplotlib import rc_context

    style: dict[Any, Any] = {**sns.axes_style("ticks"), **_STYLE}
    return rc_context(style)


def _save(figure: Figure, stem: Path, rows: Sequence[SummaryRow]) -> list[Path]:
    import pandas as pd

    svg, png, csv = (stem.with_suffix(suffix) for suffix in (".svg", ".png", ".csv"))
    # Without dates, the same rows give the same files.
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    figure.savefig(png, dpi=_PIXELS_PER_INCH, metadata={"Software": None})
    pd.DataFrame([flat(row) for row in rows], dtype=object).to_csv(csv, index=False)
    return [svg, png, csv]


# --------------------------------------------------------------------------------------- throughput


def _throughput(rows: Sequence[SummaryRow], machine: str) -> Figure:
    """Small multiples, one panel for each cell, since units and magnitudes differ from cell to cell."""
    labels = Labels(rows)
    cells = cells_of(rows)
    columns = min(3, len(cells))
    lines = -(-len(cells) // columns)
    names = list(dict.fromkeys(labels.runtime(row) for row in rows))
    figure = _figure(height_inches=1.1 + lines * (0.95 + 0.27 * len(names)))
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel().tolist()
    for panel, cell in zip(panels, cells, strict=False):
        _draw_throughput(panel, cell, labels, names)
    for unused in panels[len(cells) :]:
        unused.remove()
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    rates = [row.units_per_s for row in rows if row.units_per_s is not None]
    _frame(figure, _throughput_finding(rows), f"{sample_form(rates, 'mean', 'mean', 'invocation')}; log axes", machine)
    return figure


def _draw_throughput(panel: Axes, cell: Sequence[SummaryRow], labels: Labels, names: Sequence[str]) -> None:
    panel.set_title("\n".join(textwrap.wrap(labels.full_cell(cell[0]), 30)))
    unit = next((row.unit for row in cell if row.unit), "unit")
    panel.set_xlabel(f"{plural_of(unit)} per second", fontsize=8.5)
    panel.set_yticks(range(len(names)), names)
    shown = [row.units_per_s for row in cell if row.units_per_s is not None]
    _log_axis(panel, shown, in_si)
    for row in cell:
        height = names.index(labels.runtime(row))
        if row.units_per_s is None:
            _say(panel, height, row.outcome)
        else:
            look = _BOUND if row.is_bound else look_of(row.runtime)
            _dot(panel, height, row.units_per_s, look, hollow=row.outcome != "ok")
            wrong = "" if row.outcome == "ok" else f" {row.outcome}"
            _label(panel, height, row.units_per_s, in_si(row.units_per_s.point) + wrong)


def _throughput_finding(rows: Sequence[SummaryRow]) -> str:
    """Who is fastest, and where."""
    ranked = [sorted(valid, key=_units_per_s) for cell in cells_of(rows) if (valid := usable(cell))]
    if not ranked:
        return "No throughput is valid"
    runtimes = {row.runtime for row in rows if not row.is_bound}
    if len(runtimes) == 1:
        return f"Throughput of {runtimes.pop()}"
    winners = [cell[-1].runtime for cell in ranked]
    winner = SUBJECT if SUBJECT in winners else max(sorted(set(winners)), key=winners.count)
    if len(ranked) > 1:
        return f"{winner} has the highest throughput in {winners.count(winner)} of {len(ranked)} cells"
    best = ranked[0][-1]
    rate = f"{in_si(_units_per_s(best))} {plural_of(best.unit or 'unit')} per second"
    return f"{winner} is fastest on {Labels(rows).cell(best)}: {rate}"


def _units_per_s(row: SummaryRow) -> float:
    return row.units_per_s.point if row.units_per_s is not None else 0.0


# ----------------------------------------------------------------------------------------- speedups


_PANELS = {"best_ray": "over the best Ray", "ray": "over ray", "sequential": "over the plain loop"}


def _speedups(rows: Sequence[SummaryRow], machine: str) -> Figure:
    """A forest plot: a line for each runtime below the name of its cell, a panel for each reference."""
    labels = Labels(rows)
    heights, headings = _forest(rows, labels)
    depth = max(heights.values()) + 1
    references = [name for name in _PANELS if any(row.speedups[name] for row in rows)]
    figure = _figure(height_inches=1.35 + 0.235 * depth)
    panels = figure.subplots(1, len(references), sharey=True, squeeze=False)[0]
    panels[0].set_ylim(depth - 0.4, -0.7)
    panels[0].set_yticks([heights[*row.cell, *row.key] for row in rows], [labels.runtime(row) for row in rows])
    for panel, reference in zip(panels, references, strict=True):
        _draw_speedups(panel, rows, reference, heights)
    for height, heading in headings.items():
        # On the last panel, so that it is drawn over the grid of all: it may be longer than the first is wide.
        panels[-1].annotate(
            heading,
            (0, height),
            xycoords=panels[0].get_yaxis_transform(),
            va="center_baseline",
            fontweight="bold",
            bbox=_ON_WHITE,
            annotation_clip=False,
        ).set_in_layout(False)
    ratios = [estimate for row in rows for estimate in row.speedups.values() if estimate is not None]
    form = sample_form(ratios, "geometric mean", "Hodges-Lehmann estimate", "pair")
    _frame(figure, finding(rows), f"{form}; hollow: the reference itself; log axes", machine)
    return figure


def _forest(rows: Sequence[SummaryRow], labels: Labels) -> tuple[dict[tuple[str, ...], float], dict[float, str]]:
    """The height of each row, by cell and runtime, and the headings: names of cells by their height."""
    heights: dict[tuple[str, ...], float] = {}
    headings: dict[float, str] = {}
    height = 0.0
    for cell in cells_of(rows):
        headings[height] = labels.full_cell(cell[0])
        for row in cell:
            height += 1
            heights[*row.cell, *row.key] = height
        height += 1.3
    return heights, headings


def _draw_speedups(
    panel: Axes, rows: Sequence[SummaryRow], reference: str, heights: Mapping[tuple[str, ...], float]
) -> None:
    panel.set_title(_PANELS[reference])
    shown = [estimate for row in rows if (estimate := row.speedups[reference]) is not None]
    _log_axis(panel, shown, in_ratio, contain=(1.0,))
    panel.axvline(1, color="#808080", linewidth=1, zorder=1)
    for row in rows:
        estimate = row.speedups[reference]
        height = heights[*row.cell, *row.key]
        if estimate is None:
            if row.outcome != "ok":
                _say(panel, height, row.outcome)
            continue
        itself = estimate.low == estimate.high == 1
        _dot(panel, height, estimate, look_of(row.runtime), hollow=itself)
        if not itself:
            _label(panel, height, estimate, in_ratio(estimate.point))


# ------------------------------------------------------------------------------------------- pieces


def _figure(height_inches: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.07)
    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _frame(figure: Figure, title: str, caption: str, machine: str) -> None:
    """Title and caption, both from the left edge."""
    figure.suptitle("\n".join(textwrap.wrap(title, 84)), x=0.008, ha="left", fontsize=12.5, fontweight="bold")
    text = f"{caption[0].upper()}{caption[1:]}." + (f" {machine}." if machine else "")
    figure.supxlabel("\n".join(textwrap.wrap(text, 150)), x=0.008, ha="left", fontsize=8, color=_GREY)


def _log_axis(
    panel: Axes,
    estimates: Sequence[Estimate],
    name: Callable[[float], str],
    *,
    contain: Sequence[float] = (),
) -> None:
    """A log axis that holds `estimates` and the values `contain`, with room for a label right of each."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    ends = [end for estimate in estimates for end in (estimate.low, estimate.high)] + list(contain)
    low, high = min(ends, default=1.0), max(ends, default=1.0)
    span = max(math.log(high / low), _LEAST_SPAN)
    panel.set_xscale("log")
    panel.set_xlim(low * math.exp(-0.12 * span), high * math.exp(0.45 * span))
    panel.xaxis.set_major_locator(FixedLocator(_round_values(*panel.get_xlim())))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, name)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.grid(visible=True, axis="both")
    panel.tick_params(labelsize=8.5, axis="x")


def _round_values(low: float, high: float) -> list[float]:
    """Ticks between `low` and `high`: of all step patterns the one with most ticks that still leaves room for labels.

    matplotlib's own locator turns to a linear one within a decade, with ticks that are not round.
    """
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    patterns = [
        *([float(f"1e{e}") for e in exponents if e % stride == 0] for stride in (4, 3, 2, 1)),
        *([float(f"{s}e{e}") for e in exponents for s in steps] for steps in ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))),
    ]
    fitting = [[value for value in pattern if low <= value <= high] for pattern in patterns]
    return max((ticks for ticks in fitting if len(ticks) <= _MOST_TICKS), key=len)


def _tick(value: float, name: Callable[[float], str]) -> str:
    """`name` of a round value, without the zeros that stand for precision: `10k`, `0.5x`."""
    text = name(value)
    digits = text.rstrip("kMGTx")
    suffix = text[len(digits) :]
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits) + suffix


def _dot(panel: Axes, height: float, estimate: Estimate, look: Look, *, hollow: bool) -> None:
    panel.plot([estimate.low, estimate.high], [height, height], color=look.colour, linewidth=2, zorder=3)
    panel.plot(
        [estimate.point],
        [height],
        marker=look.marker,
        markersize=5.5,
        markeredgewidth=1.3,
        markeredgecolor=look.colour,
        markerfacecolor="white" if hollow else look.colour,
        linestyle="none",
        zorder=4,
    )


def _label(panel: Axes, height: float, estimate: Estimate, text: str) -> None:
    """Write `text` right of the interval."""
    panel.annotate(
        text,
        (estimate.high, height),
        xytext=(6, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=8.5,
        color="#262626",
        bbox=_ON_WHITE,
        zorder=2,
    )


def _say(panel: Axes, height: float, outcome: str) -> None:
    """Write `outcome` where a value would stand."""
    panel.annotate(
        outcome,
        (0.02, height),
        xycoords=("axes fraction", "data"),
        va="center_baseline",
        fontsize=8.5,
        style="italic",
        color=_GREY,
    )
