"""Learning curves: the mean return by what was trained, and by the time that it took, a row of panels for each cell.

Every seed is a thin line, their mean a thick one. Runtimes that learn the same, bit for bit, are one line by what was
trained, and each has its own by time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.drawing import frame, look_of, new_figure, save, style
from harness.learning.summary import curve_of, finding
from harness.summary import cells_of
from harness.wording import Labels, compact_json, plural, plural_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.learning.records import Evaluation
    from harness.learning.summary import LearningRow

__all__ = ["remove_learning_figure", "write_learning_figure"]

_STEM = "learning"
_PANEL_INCHES = 2.4


def write_learning_figure(rows: Sequence[LearningRow], folder: Path, machine: str) -> list[Path]:
    """Write `learning` as SVG, PNG and CSV into `folder`; nothing where nothing was trained.

    Raises:
        OSError: if `folder` cannot be written.
    """
    drawn = [row for row in rows if row.trained]
    if not drawn:
        return []
    folder.mkdir(exist_ok=True)
    with style():
        return save(_figure(drawn, machine), folder / _STEM, _lines(drawn))


def remove_learning_figure(folder: Path) -> None:
    """Remove from `folder` what `write_learning_figure` may have written there, and nothing else."""
    if folder.is_dir():
        for suffix in (".svg", ".png", ".csv"):
            (folder / _STEM).with_suffix(suffix).unlink(missing_ok=True)


def _figure(rows: Sequence[LearningRow], machine: str) -> Figure:
    labels = Labels(rows)
    cells = cells_of(rows)
    figure = new_figure(height_inches=1.1 + _PANEL_INCHES * len(cells))
    panels = figure.subplots(len(cells), 2, squeeze=False, sharey="row")
    for (by_units, by_time), cell in zip(panels.tolist(), cells, strict=True):
        by_units.set_title(cell[0].name or labels.full_cell(cell[0]))
        by_units.set_ylabel("return", fontsize=8.5)
        by_units.set_xlabel(plural_of(cell[0].unit), fontsize=8.5)
        by_time.set_xlabel("seconds of training", fontsize=8.5)
        for row, name in _distinct(cell, labels):
            _draw(by_units, row, name, lambda one: one.units)
        for row in cell:
            _draw(by_time, row, labels.runtime(row), lambda one: one.wall_s)
        for panel in (by_units, by_time):
            _finish(panel, cell)
    seeds = sorted({len(row.trained) for row in rows})
    number = plural(seeds[-1], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    aim = "; dashed: the target" if any(row.target is not None for row in rows) else ""
    frame(
        figure, finding(rows), f"thick: mean of {number}, as far as all of them were trained; thin: each{aim}", machine
    )
    return figure


def _distinct(cell: Sequence[LearningRow], labels: Labels) -> list[tuple[LearningRow, str]]:
    """The rows of `cell` whose curves by what was trained differ, and what each stands for."""
    same = [row for row in cell if not row.differs and row.outcome == "ok"]
    others = [(row, labels.runtime(row)) for row in cell if row not in same]
    if not same:
        return others
    fullest = max(same, key=lambda row: len(row.trained))
    name = (
        labels.runtime(fullest) if len(same) == 1 else f"{labels.runtime(fullest)} and {len(same) - 1} with equal bits"
    )
    return [(fullest, name), *others]


def _draw(panel: Axes, row: LearningRow, name: str, what: Callable[[Evaluation], float]) -> None:
    look = look_of(row.runtime)
    for trained in row.trained:
        points = [(what(one), one.mean_return) for one in trained.evaluations]
        panel.plot(*zip(*points, strict=True), color=look.colour, linewidth=0.7, alpha=0.45, zorder=2)
    mean = curve_of(row, what)
    panel.plot(
        *zip(*mean, strict=True),
        color=look.colour,
        linewidth=2,
        marker=look.marker,
        markersize=4.5,
        markevery=max(1, len(mean) // 8),
        label=name,
        zorder=3,
    )


def _finish(panel: Axes, cell: Sequence[LearningRow]) -> None:
    for target in sorted({row.target for row in cell if row.target is not None}):
        panel.axhline(target, color="#808080", linewidth=1, linestyle="--", zorder=1)
    panel.set_xlim(left=0)
    panel.xaxis.set_major_formatter(lambda value, _position: _in_short(value))
    panel.grid(visible=True, axis="y")
    panel.tick_params(labelsize=8.5)
    panel.legend(fontsize=7.5, frameon=False, loc="lower right")


def _in_short(value: float) -> str:
    """`10k`, `0.5`."""
    thousands = abs(value) >= 1000  # noqa: PLR2004 - where the first prefix begins
    return f"{value / 1000:g}k" if thousands else f"{value:g}"


def _lines(rows: Sequence[LearningRow]) -> list[Mapping[str, Any]]:
    """Every evaluation, as the CSV has it."""
    return [
        {
            "name": row.name,
            "workload": row.workload,
            "parameters": compact_json(row.parameters),
            "runtime": row.runtime,
            "options": compact_json(row.options),
            "seed": trained.record.seed,
            "target": row.target,
            "round": one.round,
            "units": one.units,
            "updates": one.updates,
            "wall_s": one.wall_s,
            "mean_return": one.mean_return,
            "training": one.training,
        }
        for row in rows
        for trained in row.trained
        for one in trained.evaluations
    ]
