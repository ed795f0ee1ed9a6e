"""What all figures share: looks of runtimes, style, axes, dots and labels, and how a figure is written.

One colour and marker for each runtime, the same in every figure. Drawn with matplotlib's object interface on the
Agg canvas: no display, no state shared with a caller who plots too.
"""

from __future__ import annotations

import hashlib
import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from harness.statistics import Estimate

__all__ = [
    "BOUND",
    "GREY",
    "ON_WHITE",
    "End",
    "Look",
    "dot",
    "frame",
    "label",
    "log_axis",
    "log_height",
    "look_of",
    "name_ends",
    "new_figure",
    "save",
    "say",
    "set_ticks",
    "style",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The last point of a line, and what the line is called."""

    name: str
    x: float
    y: float
    colour: str


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
    "reactor-async": Look("#0072B2", "*"),
    "ray": Look("#D55E00", "s"),
    "ray-compiled": Look("#E69F00", "^"),
    "ray-packed": Look("#CC79A7", "v"),
    "ray-by-value": Look("#D55E00", "X"),
    "ray-async": Look("#D55E00", "p"),
    "processes-pipes": Look("#009E73", "P"),
    "gymnasium-sync": Look("#56B4E9", "p"),
    "gymnasium-async": Look("#56B4E9", "*"),
    "ale-vector": Look("#009E73", "d"),
    "stacked": Look("#009E73", "H"),
    "stable-baselines3": Look("#56B4E9", "H"),
    "envpool": Look("#CC79A7", "8"),
    "xronos": Look("#E69F00", "P"),
    "replay-cpprb": Look("#D55E00", "s"),
    "replay-rllib": Look("#CC79A7", "v"),
    "replay-stable-baselines3": Look("#E69F00", "^"),
    "replay-tianshou": Look("#009E73", "P"),
    "replay-torchrl": Look("#56B4E9", "X"),
}
BOUND = Look("#808080", "|")
"""Of every bound: no competitor's colour, and a bar where others stop short."""
_OTHER_COLOURS = ("#009E73", "#56B4E9")
_OTHER_MARKERS = ("P", "X", "p", "*", "d", "H", "8")

_LEAST_SPAN = math.log(3)
"""A log axis spans at least this, so that noise is not blown up to fill it."""
_MOST_TICKS = 5

GREY = "#595959"
_FAINT = "#D9D9D9"
ON_WHITE: dict[str, Any] = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
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
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
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


def style() -> AbstractContextManager[None]:
    """The style of all figures, for as long as the context lasts."""
    import seaborn as sns
    from matplotlib import rc_context

    together: dict[Any, Any] = {**sns.axes_style("ticks"), **_STYLE}
    return rc_context(together)


def save(figure: Figure, stem: Path, lines: Sequence[Mapping[str, Any]]) -> list[Path]:
    """Write `figure` as `stem`.svg and .png, and `lines`, what it shows, as .csv."""
    import pandas as pd

    svg, png, csv = (stem.with_suffix(suffix) for suffix in (".svg", ".png", ".csv"))
    # Without dates, the same lines give the same files.
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    figure.savefig(png, dpi=_PIXELS_PER_INCH, metadata={"Software": None})
    pd.DataFrame(lines, dtype=object).to_csv(csv, index=False)
    return [svg, png, csv]


def new_figure(height_inches: float) -> Figure:
    """An empty figure of the usual width."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.07)
    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def frame(figure: Figure, title: str, caption: str, machine: str) -> None:
    """Title and caption, both from the left edge."""
    figure.suptitle("\n".join(textwrap.wrap(title, 84)), x=0.008, ha="left", fontsize=12.5, fontweight="bold")
    text = f"{caption[0].upper()}{caption[1:]}." + (f" {machine}." if machine else "")
    figure.supxlabel("\n".join(textwrap.wrap(text, 150)), x=0.008, ha="left", fontsize=8, color=GREY)


def log_axis(
    panel: Axes,
    estimates: Sequence[Estimate],
    name: Callable[[float], str],
    *,
    contain: Sequence[float] = (),
) -> None:
    """A log axis that holds `estimates` and the values `contain`, with room for a label right of each."""
    ends = [end for estimate in estimates for end in (estimate.low, estimate.high)] + list(contain)
    low, high = min(ends, default=1.0), max(ends, default=1.0)
    span = max(math.log(high / low), _LEAST_SPAN)
    panel.set_xscale("log")
    panel.set_xlim(low * math.exp(-0.12 * span), high * math.exp(0.45 * span))
    set_ticks(panel.xaxis, _round_values(*panel.get_xlim()), name)
    panel.grid(visible=True, axis="both")
    panel.tick_params(labelsize=8.5, axis="x")


def log_height(
    panel: Axes, estimates: Sequence[Estimate], name: Callable[[float], str], *, contain: Sequence[float] = ()
) -> None:
    """A log axis from bottom to top that holds `estimates` and the values `contain`."""
    ends = [end for estimate in estimates for end in (estimate.low, estimate.high)] + list(contain)
    low, high = min(ends), max(ends)
    room = max(math.log(high / low), _LEAST_SPAN) * 0.06
    panel.set_yscale("log")
    panel.set_ylim(low * math.exp(-room), high * math.exp(room))
    set_ticks(panel.yaxis, _round_values(*panel.get_ylim()), name)
    panel.grid(visible=True, axis="y")


def set_ticks(axis: Axis, values: Sequence[float], name: Callable[[float], str]) -> None:
    """Ticks at `values` and nowhere else, each with its `name` without the zeros that stand for precision."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, name)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


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
    """`name` of a round value, without the zeros that stand for precision: `10k`, `0.5x`, `30 ms`."""
    text = name(value)
    suffix = text.lstrip("0123456789,.")
    digits = text.removesuffix(suffix)
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits) + suffix


def dot(panel: Axes, height: float, estimate: Estimate, look: Look, *, hollow: bool) -> None:
    """Draw `estimate` with its interval; a bound is a line through the whole panel too, which others stop short of."""
    if look is BOUND:
        panel.axvline(estimate.point, color=look.colour, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
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


def label(panel: Axes, height: float, estimate: Estimate, text: str) -> None:
    """Write `text` right of the interval."""
    panel.annotate(
        text,
        (estimate.high, height),
        xytext=(6, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=8.5,
        color="#262626",
        bbox=ON_WHITE,
        zorder=2,
    )


def say(panel: Axes, height: float, outcome: str) -> None:
    """Write `outcome` where a value would stand."""
    panel.annotate(
        outcome,
        (0.02, height),
        xycoords=("axes fraction", "data"),
        va="center_baseline",
        fontsize=8.5,
        style="italic",
        color=GREY,
    )


def name_ends(panel: Axes, ends: Sequence[End], names_x: float, *, gap: float = 0.045) -> None:
    """Write the name of every line at `names_x`, right of its last point, on a log height.

    Names that would overlap are moved apart: they stand `gap` of the panel's height from one another.
    """
    low, high = (math.log(end) for end in panel.get_ylim())
    ordered = sorted(ends, key=lambda end: (end.y, end.name))
    places = [(math.log(end.y) - low) / (high - low) for end in ordered]
    heights: list[float] = []
    for place in places:
        heights.append(max(place, heights[-1] + gap) if heights else place)
    # Where the topmost would leave the panel, all that touch it move down.
    ceiling = 0.99
    for index in range(len(heights) - 1, -1, -1):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - gap
    for end, height in zip(ordered, heights, strict=True):
        panel.annotate(
            end.name,
            (end.x, end.y),
            xytext=(names_x, math.exp(low + height * (high - low))),
            textcoords="data",
            va="center",
            fontsize=8,
            color=end.colour,
            # Grey and dotted, or a line that ends early would seem to go on.
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "linestyle": ":"},
            bbox=ON_WHITE,
            annotation_clip=False,
        )
