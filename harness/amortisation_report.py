"""The amortisation of a run for people: tables, a figure with a panel for each environment, and the CSV behind both.

`reactorbench amortisation` writes them; `amortisation` computes what they show.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

from harness.amortisation import NEARLY_ALL, amortisation
from harness.drawing import End, frame, log_height, look_of, name_ends, new_figure, save, set_ticks, style
from harness.errors import UsageError, writing
from harness.plan import PlanFile
from harness.records import RecordFile
from harness.report import machine_line, warning_lines
from harness.sections import pipe_table
from harness.summary import SEQUENTIAL
from harness.wording import DASH, compact_json, ratio_form

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.amortisation import Crossing, Place, Series

__all__ = ["markdown_amortisation", "write_amortisation"]

_PANEL_INCHES = 2.9
_LABEL_GAP = 0.075
_CURVE_POINTS = 100


def write_amortisation(folder: Path) -> tuple[str, list[Path]]:
    """Write `amortisation.md` into `folder`, and the figure and its CSV into `folder/figures`.

    The Markdown, and the files.

    Raises:
        UsageError: if there is no record that can be compared with a ceiling, or `folder` cannot be written.
    """
    file = RecordFile(folder)
    records = file.read()
    series = amortisation(records, PlanFile(folder).read_if_there())
    if not series:
        raise UsageError(
            f"There is nothing in {folder} that could be compared with a ceiling. "
            f"Measure it first: reactorbench amortisation --out {folder}"
        )
    machine = machine_line(record.machine for record in records)
    text = markdown_amortisation(series, machine) + warning_lines(file, records)
    table = folder / "amortisation.md"
    with writing("The amortisation", folder):
        table.write_text(text, encoding="utf-8")
        (folder / "figures").mkdir(exist_ok=True)
        with style():
            lines = [_flat(one, place) for one in series for place in one.places]
            files = save(_figure(series, machine), folder / "figures" / "amortisation", lines)
    return text, [table, *files]


# ------------------------------------------------------------------------------------------- words


_LEGEND = """\
Throughput in percent of the ceiling's (the environments alone, on all processors, without any communication), by the
number of steps that each environment takes in one call. `as the loop from` and `90 % from` say from how many steps a
call on a runtime is as fast as the plain loop, and has 90 % of the ceiling, and stays so; between two measured numbers
the time of a step is taken to be a + b / steps.
"""


def markdown_amortisation(series: Sequence[Series], machine: str) -> str:
    """A table for each environment."""
    parts = ["# How much batching makes Ray free?\n", _LEGEND]
    for environment, own in groupby(series, key=lambda one: one.environment):
        parts += [f"## {environment}\n", _table(list(own))]
    absent = [
        f"- {one.environment} on {one.runtime}, {' '.join(why.split())}" for one in series for why in one.left_out
    ]
    parts += ["\n".join(["Left out:", "", *absent]) + "\n"] if absent else []
    beyond = [f"{one.runtime} ({one.environment})" for one in series if any(p.of_ceiling.low > 1 for p in one.places)]
    if beyond:
        parts.append(
            f"Faster than the ceiling, which cannot be: {', '.join(beyond)}. Something slowed the ceiling down. "
            "Measure again on a quiet machine.\n"
        )
    parts.append(f"{_form(series)}. Measured on: {machine or 'a machine that the records do not name'}.")
    return "\n".join(parts) + "\n"


def _table(series: Sequence[Series]) -> str:
    steps = sorted({place.steps for one in series for place in one.places})
    headings = ["runtime", *(f"{number:,}" for number in steps), "as the loop from", "90 % from"]
    lines = []
    for one in series:
        values = {place.steps: _percent(place.of_ceiling.point) for place in one.places}
        entries = [one.runtime, *(values.get(number, DASH) for number in steps)]
        lines.append([*entries, _from(one.as_the_loop), _from(one.nearly_all)])
    return "\n".join(pipe_table(headings, lines)) + "\n"


def _from(found: Crossing | None) -> str:
    """`37 steps`, `the start`, `never`."""
    if found is None:
        return DASH
    if found.steps is None:
        return "never"
    if found.is_from_start:
        return "the start"
    return f"{found.steps:.3g} steps" if found.steps < 1000 else f"{found.steps:,.0f} steps"  # noqa: PLR2004 - no exponent


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %" if share < 1 else f"{share * 100:.0f} %"


def _form(series: Sequence[Series]) -> str:
    estimates = [place.of_ceiling for one in series for place in one.places]
    return f"Ratios: {ratio_form(estimates)}"


def _flat(one: Series, place: Place) -> dict[str, Any]:
    """`place` as a line of the CSV; the crossings are those of its series."""
    loop, nearly_all = one.as_the_loop, one.nearly_all
    over, of_ceiling = place.over_loop, place.of_ceiling
    return {
        "environment": one.environment,
        "runtime": one.runtime,
        "steps": place.steps,
        "of_ceiling": of_ceiling.point,
        "of_ceiling_low": of_ceiling.low,
        "of_ceiling_high": of_ceiling.high,
        "interval": of_ceiling.kind,
        "pairs": of_ceiling.n,
        "over_loop": over.point if over else None,
        "over_loop_low": over.low if over else None,
        "over_loop_high": over.high if over else None,
        "as_the_loop_from_steps": loop.steps if loop else None,
        "nine_tenths_from_steps": nearly_all.steps,
        "cell": " ".join(place.row.cell),
        "options": compact_json(place.row.options),
        "record_lines": " ".join(map(str, place.lines)),
        "ceiling_lines": " ".join(map(str, place.ceiling_lines)),
        "loop_lines": " ".join(map(str, place.loop_lines)),
    }


# ----------------------------------------------------------------------------------------- drawing


def _figure(series: Sequence[Series], machine: str) -> Figure:
    """A panel for each environment, one below the other, since each has a ceiling of its own."""
    environments = list(dict.fromkeys(one.environment for one in series))
    figure = new_figure(height_inches=1.2 + _PANEL_INCHES * len(environments))
    panels = figure.subplots(len(environments), 1, squeeze=False).ravel().tolist()
    for panel, environment in zip(panels, environments, strict=True):
        _draw(panel, environment, [one for one in series if one.environment == environment])
    panels[-1].set_xlabel("steps of each environment in a call", fontsize=8.5)
    frame(figure, _title(series), _caption(series), machine)
    return figure


def _draw(panel: Axes, environment: str, series: Sequence[Series]) -> None:
    steps = sorted({place.steps for one in series for place in one.places})
    span = math.log(max(steps) / min(steps)) or 1.0
    panel.set_title(environment)
    panel.set_ylabel("% of the ceiling", fontsize=8.5)
    panel.set_xscale("log")
    # Room for the names at the ends of the lines.
    panel.set_xlim(min(steps) * math.exp(-0.03 * span), max(steps) * math.exp(0.22 * span))
    set_ticks(panel.xaxis, steps, lambda number: f"{number:.0f}")
    panel.tick_params(labelsize=8.5)
    shown = [place.of_ceiling for one in series for place in one.places]
    log_height(panel, shown, lambda share: f"{share * 100:.3g}", contain=(NEARLY_ALL, 1.0))
    panel.axhline(NEARLY_ALL, color="#808080", linewidth=1, linestyle="--", zorder=1)
    for one in series:
        _line(panel, one)
    ends = [
        End(
            name=one.runtime,
            x=one.places[-1].steps,
            y=one.places[-1].of_ceiling.point,
            colour=look_of(one.places[-1].row.runtime).colour,
        )
        for one in series
    ]
    name_ends(panel, ends, max(steps) * math.exp(0.05 * span), gap=_LABEL_GAP)


def _line(panel: Axes, one: Series) -> None:
    """A runtime's values joined, each with its interval, and rings where it crosses the loop and 90 %."""
    look = look_of(one.places[0].row.runtime)
    xs, ys = [place.steps for place in one.places], [place.of_ceiling.point for place in one.places]
    panel.plot(xs, ys, color=look.colour, marker=look.marker, markersize=4.5, linestyle="none", zorder=3)
    curve = _curve(xs)
    panel.plot(curve, [one.of_ceiling_at(steps) for steps in curve], color=look.colour, linewidth=1.2, zorder=3)
    for place in one.places:
        panel.plot([place.steps] * 2, [place.of_ceiling.low, place.of_ceiling.high], color=look.colour, linewidth=2)
    for found in (one.as_the_loop, one.nearly_all):
        if found is not None and found.steps is not None and not found.is_from_start:
            panel.plot(
                [found.steps],
                [one.of_ceiling_at(found.steps)],
                marker="o",
                markersize=9,
                markerfacecolor="none",
                markeredgecolor=look.colour,
                linestyle="none",
                zorder=5,
            )


def _curve(xs: Sequence[float]) -> list[float]:
    """Numbers of steps from the first to the last of `xs`, evenly on a log axis and close enough for a smooth curve."""
    ratio = xs[-1] / xs[0]
    return [xs[0] * ratio ** (number / _CURVE_POINTS) for number in range(_CURVE_POINTS)] + [xs[-1]]


def _title(series: Sequence[Series]) -> str:
    """From where on the quickest Ray is as fast as the loop, and almost free."""
    environments = list(dict.fromkeys(one.environment for one in series))
    clauses = []
    for environment in environments:
        rays = [
            one for one in series if one.environment == environment and any(place.row.is_ray for place in one.places)
        ]
        if rays:
            loop = _earliest([one.as_the_loop for one in rays])
            free = _earliest([one.nearly_all for one in rays])
            clauses.append(f"{environment.partition(' ')[0].removeprefix('ALE/')} {loop} and {free}")
    if not clauses:
        return "Throughput by steps in a call"
    return f"Ray is as fast as the loop, and has 90 % of the ceiling, from so many steps a call: {'; '.join(clauses)}"


def _earliest(crossings: Sequence[Crossing | None]) -> str:
    """The fewest steps of `crossings`, in a word."""
    steps = [found.steps for found in crossings if found is not None and found.steps is not None]
    return f"{min(steps):.3g}" if steps else "never"


def _caption(series: Sequence[Series]) -> str:
    rings = (
        "dashed: 90 %; rings: where a runtime becomes as fast as the plain loop, and where it reaches 90 %, for good"
    )
    loop = "" if any(one.places[0].row.runtime == SEQUENTIAL for one in series) else "; the plain loop was not measured"
    absent = sum(len(one.left_out) for one in series)
    left_out = f"; {absent} values are left out, the table says why" if absent else ""
    return f"{_form(series)}; log axes; {rings}{loop}{left_out}"
