"""The paper's figures, drawn anew: what was published beside what a run measured, in the published units.

Left the published quantity: lines along a real axis, dots for environments. Right what the paper claims: how many
times as fast as Ray, paired, over `ray-by-value`, over Ray in the paper's shape, and over the best Ray. Published
values are hollow and dashed. Of each figure there are an SVG, a PNG and a CSV, whose lines name the records that every
measured value comes from.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from harness.drawing import (
    BOUND,
    End,
    Look,
    dot,
    frame,
    label,
    log_axis,
    log_height,
    look_of,
    name_ends,
    new_figure,
    save,
    set_ticks,
    style,
)
from harness.errors import UsageError, writing
from harness.paper import experiment
from harness.records import RecordFile
from harness.report import machine_line
from harness.reproduction import REFERENCES, Reproduction
from harness.statistics import Estimate
from harness.summary import cells_of
from harness.wording import Labels, compact_json, in_ratio, in_si, mean_form, ratio_form

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.paper import Experiment, Point
    from harness.summary import SummaryRow

__all__ = ["cells_of_figures", "write_paper_figures"]

_PUBLISHED = {"Ray, published": look_of("ray"), "LF, published": look_of("reactor")}
_RATIO_LOOKS = {
    "LF over Ray, published": Look("#000000", "o"),
    "over ray-by-value": look_of("ray-by-value"),
    "over ray": look_of("ray"),
    "over best Ray": look_of("ray-compiled"),
}
_LEAST_TICK_GAP = 0.1
"""Ticks closer than this part of the axis would have names that overlap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Value:
    """One dot of a figure, and one line of its CSV."""

    series: str
    point: Point
    estimate: Estimate
    look: Look
    is_published: bool
    panel: str
    """`value` or `ratio`."""
    rows: tuple[SummaryRow, ...] = ()
    lines: tuple[int, ...] = ()


def write_paper_figures(folder: Path, numbers: Sequence[int]) -> list[Path]:
    """Draw figures `numbers` from the records in `folder`, into `folder/figures`.

    Raises:
        UsageError: if the paper has no such figure, or `folder` has no record of one of its cells, or cannot be
            written.
    """
    records = RecordFile(folder).read()
    run = Reproduction(records)
    machine = machine_line(record.machine for record in records)
    written: list[Path] = []
    for number in numbers:
        one = experiment(number)
        values = _values(one, run)
        if all(value.is_published for value in values):
            raise UsageError(
                f"There is nothing of figure {number} in {folder}. "
                f"Measure it first: reactorbench reproduce {number} --out {folder}"
            )
        with writing(f"Figure {number}", folder):
            (folder / "figures").mkdir(exist_ok=True)
            with style():
                drawn = _draw(one, values, _caption(one, run, values), machine)
                written += save(drawn, folder / "figures" / f"figure{number}", [_flat(one, value) for value in values])
    return written


# ------------------------------------------------------------------------------------------- values


def _values(one: Experiment, run: Reproduction) -> list[_Value]:
    """All that the figure shows: published and measured values, then published and measured ratios."""
    values = [
        _exact(name, point, number, look, "value")
        for point in one.points
        for (name, look), number in zip(_PUBLISHED.items(), (point.ray, point.lf), strict=True)
    ]
    rows = [row for point in one.points for row in run.rows(point)]
    labels = Labels(rows)
    for point in one.points:
        for row in run.rows(point):
            estimate = _in_unit(one, run, row)
            if row.outcome == "ok" and estimate is not None:
                look = BOUND if row.is_bound else look_of(row.runtime)
                name, lines = labels.runtime(row), tuple(run.records(row))
                values.append(
                    _Value(
                        series=name,
                        point=point,
                        estimate=estimate,
                        look=look,
                        is_published=False,
                        panel="value",
                        rows=(row,),
                        lines=lines,
                    )
                )
    return values + _ratios(one, run)


def _ratios(one: Experiment, run: Reproduction) -> list[_Value]:
    name, *_ = _RATIO_LOOKS
    values = [_exact(name, p, one.published_ratio(p), _RATIO_LOOKS[name], "ratio") for p in one.points]
    for point in one.points:
        for reference in REFERENCES:
            compared = run.compare(one, [point], reference)
            if compared.estimate is not None:
                values.append(
                    _Value(
                        series=f"over {reference}",
                        point=point,
                        estimate=compared.estimate,
                        look=_RATIO_LOOKS[f"over {reference}"],
                        is_published=False,
                        panel="ratio",
                        rows=(*compared.ours, *compared.theirs),
                        lines=compared.lines,
                    )
                )
    return values


def _exact(series: str, point: Point, number: float, look: Look, panel: str) -> _Value:
    """A published value: without interval, since the paper measured once."""
    estimate = Estimate(point=number, low=number, high=number, n=1, kind="range")
    return _Value(series=series, point=point, estimate=estimate, look=look, is_published=True, panel=panel)


def _in_unit(one: Experiment, run: Reproduction, row: SummaryRow) -> Estimate | None:
    """The rate of `row` in the figure's unit; None where it has none, or nothing is left beyond what was slept."""
    newest = next(reversed(run.records(row).values()), None)
    rate = row.units_per_s
    if rate is None or newest is None or not newest.units_per_round:
        return None
    ends = [one.value(end, newest.units_per_round, row.parameters) for end in (rate.low, rate.high)]
    point = one.value(rate.point, newest.units_per_round, row.parameters)
    if min(*ends, point) <= 0:
        return None
    return Estimate(point=point, low=min(ends), high=max(ends), n=rate.n, kind=rate.kind)


def _flat(one: Experiment, value: _Value) -> dict[str, Any]:
    """`value` as a line of the figure's CSV."""
    estimate = value.estimate
    return {
        "figure": one.number,
        "point": value.point.label,
        "series": value.series,
        "published": value.is_published,
        "quantity": one.unit if value.panel == "value" else "times as fast",
        "value": estimate.point,
        "low": None if value.is_published else estimate.low,
        "high": None if value.is_published else estimate.high,
        "interval": None if value.is_published else estimate.kind,
        "n": 1 if value.is_published else estimate.n,
        "cell": "; ".join(dict.fromkeys(f"{w} {p}" for w, p in (row.cell for row in value.rows))),
        "runtimes": "; ".join(f"{row.runtime} {compact_json(row.options)}" for row in value.rows),
        "record_lines": " ".join(map(str, value.lines)),
    }


# ------------------------------------------------------------------------------------------- words


def _title(one: Experiment, values: Sequence[_Value]) -> str:
    """What was found: the geometric mean over the points that were compared with both Rays, and the published one."""
    ratios = {
        name: {v.point.label: v.estimate.point for v in values if v.panel == "ratio" and v.series == series}
        for series, name in (("over ray-by-value", "ray-by-value"), ("over best Ray", "the best Ray"))
    }
    measured = {name: of_point for name, of_point in ratios.items() if of_point}
    shared = set.intersection(*map(set, measured.values())) if measured else set()
    points = [point for point in one.points if point.label in shared] or list(one.points)
    found = [
        f"{in_ratio(geometric_mean([of_point[p.label] for p in points]))} {name}"
        for name, of_point in measured.items()
        if shared
    ]
    published = in_ratio(geometric_mean([one.published_ratio(point) for point in points]))
    speed = f"reactor is {' and '.join(found)}" if found else "reactor is not compared with Ray"
    where = f", at {len(points)} of {len(one.points)} points" if len(points) < len(one.points) else ""
    return f"Figure {one.number}. {one.title}: {speed} (published: {published}{where})"


def _caption(one: Experiment, run: Reproduction, values: Sequence[_Value]) -> str:
    """How often and how sure, what was skipped, and where the protocol is another."""
    ratios = [value.estimate for value in values if value.panel == "ratio" and not value.is_published]
    form = ratio_form(ratios) if ratios else "no pairs"
    rows = [row for point in one.points for row in run.rows(point)]
    rates = [row.units_per_s for row in rows if row.units_per_s is not None]
    parts = [f"Values: {mean_form(rates)}" if rates else "no values"]
    parts += [f"ratios: {form}; log axes; hollow: published, 32 cores, one run"]
    if one.quantity == "overhead":
        slept = {row.parameters.get("sleep_s", 0.0) for row in rows}
        parts.append(
            "published: each actor sleeps 0.5 s, which is taken off; here nobody sleeps, and the round is measured"
            if slept == {0.0}
            else "each actor sleeps 0.5 s a round as published, and that is taken off"
        )
    if one.quantity == "seconds":
        parts.append(f"seconds of {one.rounds:,} rounds, from the measured time of a round")
    parts += [one.here] if one.here else []
    rounds = [record.measured_rounds for row in rows for record in run.records(row).values()]
    parts += [f"{min(rounds):,} to {max(rounds):,} rounds measured in an invocation"] if rounds else []
    absent = [
        f"{row.outcome}: {point.label} on {row.runtime}{f' ({_in_short(row.reasons[0])})' if row.reasons else ''}"
        for point in one.points
        for row in run.rows(point)
        if row.outcome != "ok"
    ]
    ids = [str(row.parameters["env_id"]) for cell in cells_of(rows) for row in cell[:1] if "env_id" in row.parameters]
    parts += [f"ids: {', '.join(dict.fromkeys(ids))}"] if one.quantity == "rate" and ids else []
    parts += ["; ".join(absent)] if absent else []
    return "; ".join(parts)


def _in_short(reason: str) -> str:
    """`reason` without its remedy, which the table has."""
    return textwrap.shorten(reason.partition(";")[0], 80, placeholder=" ...")


# ------------------------------------------------------------------------------------------ drawing


def _draw(one: Experiment, values: Sequence[_Value], caption: str, machine: str) -> Figure:
    left = [value for value in values if value.panel == "value"]
    right = [value for value in values if value.panel == "ratio"]
    figure = _lines_figure(one, left, right) if one.is_axis_real else _dots_figure(one, left, right)
    frame(figure, _title(one, values), caption, machine)
    return figure


def _lines_figure(one: Experiment, left: Sequence[_Value], right: Sequence[_Value]) -> Figure:
    """Two panels along the figure's axis: the published quantity, and how many times as fast."""
    figure = new_figure(height_inches=4.9)
    panels = figure.subplots(1, 2, squeeze=False)[0]
    panels[0].set_title(one.unit)
    _line_panel(panels[0], one, left, in_si, contain=())
    panels[1].set_title("times as fast as Ray")
    _line_panel(panels[1], one, right, in_ratio, contain=(1.0,))
    panels[1].axhline(1, color="#808080", linewidth=1, zorder=1)
    return figure


def _line_panel(
    panel: Axes,
    one: Experiment,
    values: Sequence[_Value],
    name: Callable[[float], str],
    *,
    contain: Sequence[float],
) -> None:
    xs = [point.x for point in one.points]
    span = math.log(max(xs) / min(xs))
    panel.set_xscale("log")
    # Room for the names at the ends of the lines.
    panel.set_xlim(min(xs) * math.exp(-0.06 * span), max(xs) * math.exp(0.8 * span))
    set_ticks(panel.xaxis, _apart(xs), lambda x: f"{x:g}")
    panel.set_xlabel(one.axis, fontsize=8.5)
    panel.tick_params(labelsize=8.5)
    log_height(panel, [value.estimate for value in values], name, contain=contain)
    ends = []
    for series in dict.fromkeys(value.series for value in values):
        own = sorted((value for value in values if value.series == series), key=lambda value: value.point.x)
        _line(panel, own)
        last = own[-1]
        ends.append(End(name=series, x=last.point.x, y=last.estimate.point, colour=last.look.colour))
    name_ends(panel, ends, max(xs) * math.exp(0.08 * span))


def _apart(xs: Sequence[float]) -> list[float]:
    """Those of `xs`, from the first, whose names do not overlap on a log axis."""
    least = math.log(max(xs) / min(xs)) * _LEAST_TICK_GAP
    kept = [xs[0]]
    for x in xs[1:]:
        if math.log(x / kept[-1]) >= least:
            kept.append(x)
    return kept


def _line(panel: Axes, values: Sequence[_Value]) -> None:
    """One series: its points joined, each with its interval."""
    look, is_published = values[0].look, values[0].is_published
    xs, ys = [v.point.x for v in values], [v.estimate.point for v in values]
    panel.plot(
        xs,
        ys,
        color=look.colour,
        marker=look.marker,
        markersize=5,
        markerfacecolor="white" if is_published else look.colour,
        linestyle="--" if is_published else "-",
        linewidth=1.2,
        zorder=3,
    )
    for value in values:
        panel.plot([value.point.x] * 2, [value.estimate.low, value.estimate.high], color=look.colour, linewidth=2)


def _dots_figure(one: Experiment, left: Sequence[_Value], right: Sequence[_Value]) -> Figure:
    """A panel for each environment, and one for the ratios: categories stand beside each other, never joined."""
    names = list(dict.fromkeys(value.series for value in left))
    figure = new_figure(height_inches=1.5 + 2 * (0.6 + 0.21 * len(names)))
    panels = figure.subplots(2, 2, squeeze=False).ravel().tolist()
    for panel, point in zip(panels, one.points, strict=False):
        own = [value for value in left if value.point is point]
        _dot_panel(panel, point.label, names, own, in_si)
        panel.set_xlabel(one.unit, fontsize=8.5)
    _ratio_panel(panels[-1], one, right)
    return figure


def _dot_panel(
    panel: Axes, title: str, names: Sequence[str], values: Sequence[_Value], spell: Callable[[float], str]
) -> None:
    panel.set_title(title)
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    log_axis(panel, [value.estimate for value in values], spell)
    for value in values:
        height = names.index(value.series)
        dot(panel, height, value.estimate, value.look, hollow=value.is_published)
        label(panel, height, value.estimate, spell(value.estimate.point))


def _ratio_panel(panel: Axes, one: Experiment, values: Sequence[_Value]) -> None:
    """A line for each environment and series."""
    names = [f"{point.label}: {series}" for point in one.points for series in _RATIO_LOOKS]
    panel.set_title("times as fast as Ray")
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    log_axis(panel, [value.estimate for value in values], in_ratio, contain=(1.0,))
    panel.axvline(1, color="#808080", linewidth=1, zorder=1)
    panel.tick_params(labelsize=7.5, axis="y")
    for value in values:
        height = names.index(f"{value.point.label}: {value.series}")
        dot(panel, height, value.estimate, value.look, hollow=value.is_published)
        label(panel, height, value.estimate, in_ratio(value.estimate.point))


def cells_of_figures(numbers: Sequence[int]) -> list[str]:
    """Patterns of the names that the cells of figures `numbers` have in the suites `paper` and `paper-small`.

    Raises:
        UsageError: if the paper has no such figure.
    """
    return [f"figure{experiment(number).number}-*" for number in numbers]
