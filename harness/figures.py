"""Figures of a report: throughput of every cell, and speedups over the best Ray, `ray` and the plain loop.

Dot and interval on log axes; one colour and marker for each runtime, the same in every figure; the
title states the finding, the caption what was measured how often and where. Each figure comes as SVG
(text stays text, and the same rows give the same bytes) and PNG, with the CSV of what it shows.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from harness.drawing import BOUND, ON_WHITE, dot, frame, label, log_axis, look_of, new_figure, save, say, style
from harness.summary import SUBJECT, cells_of, finding, flat, usable
from harness.wording import Labels, in_ratio, in_si, mean_form, plural_of, ratio_form

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.summary import SummaryRow

__all__ = ["remove_figures", "write_figures"]


def write_figures(rows: Sequence[SummaryRow], folder: Path, machine: str) -> list[Path]:
    """Write `throughput` and `speedups` as SVG, PNG and CSV into `folder`; a figure with nothing to show is left out.

    `machine` is the machine in a few words, for the caption.

    Raises:
        OSError: if `folder` cannot be written.
    """
    folder.mkdir(exist_ok=True)
    written: list[Path] = []
    if any(row.units_per_s is not None for row in rows):
        with style():
            written += save(_throughput(rows, machine), folder / "throughput", list(map(flat, rows)))
    competitors = [row for row in rows if not row.is_bound]
    compared = [row for cell in cells_of(competitors) if any(any(r.speedups.values()) for r in cell) for row in cell]
    if compared:
        with style():
            written += save(_speedups(compared, machine), folder / "speedups", list(map(flat, compared)))
    return written


def remove_figures(folder: Path) -> None:
    """Remove from `folder` what `write_figures` may have written there, and nothing else."""
    if folder.is_dir():
        for stem in ("throughput", "speedups"):
            for suffix in (".svg", ".png", ".csv"):
                (folder / stem).with_suffix(suffix).unlink(missing_ok=True)


# --------------------------------------------------------------------------------------- throughput


def _throughput(rows: Sequence[SummaryRow], machine: str) -> Figure:
    """Small multiples, one panel for each cell, since units and magnitudes differ from cell to cell."""
    labels = Labels(rows)
    cells = cells_of(rows)
    columns = min(3, len(cells))
    lines = -(-len(cells) // columns)
    names = list(dict.fromkeys(labels.runtime(row) for row in rows))
    figure = new_figure(height_inches=1.1 + lines * (0.95 + 0.27 * len(names)))
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel().tolist()
    for panel, cell in zip(panels, cells, strict=False):
        _draw_throughput(panel, cell, labels, names)
    for unused in panels[len(cells) :]:
        unused.remove()
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    rates = [row.units_per_s for row in rows if row.units_per_s is not None]
    frame(figure, _throughput_finding(rows), f"{mean_form(rates)}; log axes", machine)
    return figure


def _draw_throughput(panel: Axes, cell: Sequence[SummaryRow], labels: Labels, names: Sequence[str]) -> None:
    panel.set_title("\n".join(textwrap.wrap(labels.full_cell(cell[0]), 30)))
    unit = next((row.unit for row in cell if row.unit), "unit")
    panel.set_xlabel(f"{plural_of(unit)} per second", fontsize=8.5)
    panel.set_yticks(range(len(names)), names)
    shown = [row.units_per_s for row in cell if row.units_per_s is not None]
    log_axis(panel, shown, in_si)
    for row in cell:
        height = names.index(labels.runtime(row))
        if row.units_per_s is None:
            say(panel, height, row.outcome)
        else:
            look = BOUND if row.is_bound else look_of(row.runtime)
            dot(panel, height, row.units_per_s, look, hollow=row.outcome != "ok")
            wrong = "" if row.outcome == "ok" else f" {row.outcome}"
            label(panel, height, row.units_per_s, in_si(row.units_per_s.point) + wrong)


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
    figure = new_figure(height_inches=1.35 + 0.235 * depth)
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
            bbox=ON_WHITE,
            annotation_clip=False,
        ).set_in_layout(False)
    ratios = [estimate for row in rows for estimate in row.speedups.values() if estimate is not None]
    form = ratio_form(ratios)
    frame(figure, finding(rows), f"{form}; hollow: the reference itself; log axes", machine)
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
    log_axis(panel, shown, in_ratio, contain=(1.0,))
    panel.axvline(1, color="#808080", linewidth=1, zorder=1)
    for row in rows:
        estimate = row.speedups[reference]
        height = heights[*row.cell, *row.key]
        if estimate is None:
            if row.outcome != "ok":
                say(panel, height, row.outcome)
            continue
        itself = estimate.low == estimate.high == 1
        dot(panel, height, estimate, look_of(row.runtime), hollow=itself)
        if not itself:
            label(panel, height, estimate, in_ratio(estimate.point))
