"""Figures of replay buffers: operations of each buffer, loops before and after, the tree by its size and as published.

Each comes as SVG, PNG and the CSV behind it; one without anything to show is left out.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.drawing import (
    End,
    dot,
    frame,
    label,
    log_axis,
    log_height,
    look_of,
    name_ends,
    new_figure,
    save,
    say,
    set_ticks,
)
from harness.pal import plugged_in, published_trees, tree_side
from harness.replay import PEERS, Side, Sweep, distinct, seconds_of
from harness.statistics import Estimate
from harness.summary import SEQUENTIAL, SUBJECT
from harness.wording import estimate_columns, in_ratio, in_seconds, mean_form, ratio_form

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.drawing import Look
    from harness.replay import ReplayRun

__all__ = ["write_figures"]

_OURS = look_of(SUBJECT)
_SIZES = ("#000000", "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7")
"""Of capacities, from the smallest."""
_OPERATIONS = ("insert", "sample", "update")
_FAN_OUT = 16
_USUAL_CAPACITY = 1_000_000
_PUBLISHED_LOOP = (1.1, 2.1)


def write_figures(run: ReplayRun, folder: Path, machine: str) -> list[Path]:
    """Write into `folder`, which is there, what `run` has something of; `machine` in a few words, for the captions."""
    written: list[Path] = []
    for name, make in (
        ("buffers", _buffers),
        ("loops", _loops),
        ("sum-tree", _published_tree),
        ("fan-out", _fan_outs),
    ):
        made = make(run, machine)
        if made is not None:
            written += save(made[0], folder / name, made[1])
    return written


# ------------------------------------------------------------------------------------------ buffers


def _buffers(run: ReplayRun, machine: str) -> tuple[Figure, list[dict[str, Any]]] | None:
    """A panel for each operation on trees and on buffers, a dot for each library."""
    lines = [
        {"what": what, "operation": operation, "runtime": runtime, **_ends("seconds", seconds), "lines": behind}
        for what in ("tree", "buffer")
        for operation in _OPERATIONS
        for runtime in PEERS
        for seconds, behind in [_measured(run, _usual(what, operation, runtime))]
        if seconds is not None
    ]
    if len({line["runtime"] for line in lines}) < 2:  # noqa: PLR2004 - alone, it is compared with nothing
        return None
    kinds = [what for what in ("tree", "buffer") if any(line["what"] == what for line in lines)]
    whose = {what: [name for name in PEERS if _has(lines, what, name)] for what in kinds}
    heights = [0.8 + 0.24 * len(whose[what]) for what in kinds]
    figure = new_figure(height_inches=1.3 + sum(heights))
    panels = figure.subplots(len(kinds), len(_OPERATIONS), sharey="row", squeeze=False, height_ratios=heights)
    for row, what in zip(panels, kinds, strict=True):
        names = whose[what]
        row[0].set_ylim(len(names) - 0.5, -0.5)
        for panel, operation in zip(row, _OPERATIONS, strict=True):
            own = {runtime: _estimate(line) for runtime, line in _by_runtime(lines, what, operation).items()}
            panel.set_title(f"{'tree alone' if what == 'tree' else '108-byte transitions'}: {operation}")
            panel.set_yticks(range(len(names)), [PEERS[name] for name in names])
            log_axis(panel, list(own.values()), in_seconds)
            for height, name in enumerate(names):
                if name not in own:
                    say(panel, height, "not measured")
                    continue
                dot(panel, height, own[name], _look(name), hollow=False)
                label(panel, height, own[name], in_seconds(own[name].point))
    form = mean_form([_estimate(line) for line in lines])
    caption = f"Time of an operation on 256 rows at a capacity of 1,000,000: {form}; log axes"
    frame(figure, _buffers_title(lines), caption, machine)
    return figure, lines


def _usual(what: str, operation: str, runtime: str) -> Side:
    parameters = {"what": what, "operation": operation, "capacity": 1_000_000, "batch": 256, "shared": False}
    return Side(parameters={**parameters, "beside": "none"}, runtime=runtime)


def _buffers_title(lines: Sequence[Mapping[str, Any]]) -> str:
    """How many times as long the quickest of the others takes, on whole buffers or else on trees."""
    clauses = []
    what = "buffer" if any(line["what"] == "buffer" for line in lines) else "tree"
    for operation in ("sample", "update", "insert"):
        own = {runtime: line["seconds"] for runtime, line in _by_runtime(lines, what, operation).items()}
        others = [seconds for runtime, seconds in own.items() if runtime != SEQUENTIAL]
        if SEQUENTIAL in own and others:
            clauses.append(f"{operation} {in_ratio(min(others) / own[SEQUENTIAL])}")
    return f"Ours over the quickest other {what}: {', '.join(clauses)}" if clauses else "What operations take"


def _has(lines: Sequence[Mapping[str, Any]], what: str, runtime: str) -> bool:
    return any((line["what"], line["runtime"]) == (what, runtime) for line in lines)


def _by_runtime(lines: Sequence[Mapping[str, Any]], what: str, operation: str) -> dict[str, Mapping[str, Any]]:
    return {line["runtime"]: line for line in lines if (line["what"], line["operation"]) == (what, operation)}


# -------------------------------------------------------------------------------------------- loops


def _loops(run: ReplayRun, machine: str) -> tuple[Figure, list[dict[str, Any]]] | None:
    """How many times as fast loops of other frameworks are with ours."""
    found = [(f"{PEERS[name]}, batch {batch}", name, one) for name, batch, one in plugged_in(run)]
    shown = [one for one in found if run.row(one[2].ours) is not None or run.row(one[2].theirs) is not None]
    ratios = [one.estimate for _, _, one in shown if one.estimate is not None]
    if not ratios:
        return None
    figure = new_figure(height_inches=1.3 + 0.27 * len(shown))
    panel = figure.subplots()
    panel.set_yticks(range(len(shown)), [name for name, _, _ in shown])
    log_axis(panel, ratios, in_ratio, contain=(1.0, *_PUBLISHED_LOOP))
    panel.set_ylim(len(shown) - 0.5, -0.5)
    panel.axvline(1, color="#808080", linewidth=1, zorder=1)
    panel.axvspan(*_PUBLISHED_LOOP, color="#EDEDED", zorder=0)
    for height, (_, runtime, one) in enumerate(shown):
        if one.estimate is None:
            say(panel, height, "not measured")
        else:
            dot(panel, height, one.estimate, _look(runtime), hollow=False)
            label(panel, height, one.estimate, in_ratio(one.estimate.point))
    low, high = in_ratio(min(e.point for e in ratios)), in_ratio(max(e.point for e in ratios))
    frame(
        figure,
        f"With our buffer in its place, loops of other frameworks are {low} to {high} as fast",
        f"{ratio_form(ratios)} of a training iteration after over before; grey: published, 1.1x to 2.1x; log axis",
        machine,
    )
    lines = [
        {"name": name, **_ends("ratio", one.estimate), "problem": one.problem, "lines": " ".join(map(str, one.lines))}
        for name, _, one in shown
    ]
    return figure, lines


# --------------------------------------------------------------------------------- as was published


_WHO = {"pal": SEQUENTIAL, "tianshou": "replay-tianshou", "rllib": "replay-rllib"}


def _published_tree(run: ReplayRun, machine: str) -> tuple[Figure, list[dict[str, Any]]] | None:
    """Time of 128 operations by capacity: published, hollow and dashed, and here."""
    lines: list[dict[str, Any]] = []
    for point in published_trees():
        for who, runtime in _WHO.items():
            seconds, behind = _measured(run, tree_side(point, runtime))
            place = {"operation": point.operation, "capacity": point.capacity, "tree": who}
            lines.append({**place, "published_s": point.seconds[who], **_ends("seconds", seconds), "lines": behind})
    measured = [line for line in lines if line["seconds"] is not None]
    if not measured:
        return None
    figure = new_figure(height_inches=4.2)
    panels = figure.subplots(1, 2, sharey=True)
    estimates = [_estimate(line) for line in measured]
    for panel, operation in zip(panels, ("insert", "sample"), strict=True):
        own = [line for line in lines if line["operation"] == operation]
        panel.set_title(operation)
        _capacity_axis(panel, distinct(line["capacity"] for line in own))
        log_height(panel, estimates, in_seconds, contain=[line["published_s"] for line in lines])
        _draw_published(panel, own)
    panels[0].set_ylabel("time of 128 operations", fontsize=8.5)
    ours = [line["seconds"] for line in measured if line["tree"] == "pal"]
    pal = [line["published_s"] for line in lines if line["tree"] == "pal"]
    here = f"takes {in_seconds(min(ours))} to {in_seconds(max(ours))}" if ours else "was not measured"
    frame(
        figure,
        f"128 operations: our tree {here}; published for PAL's: {in_seconds(min(pal))} to {in_seconds(max(pal))}",
        f"{mean_form(estimates)}; hollow and dashed: published, on another machine; log axes",
        machine,
    )
    return figure, lines


def _draw_published(panel: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    """Of each tree a line of what was measured, and one of what was published."""
    ends = []
    for who, runtime in _WHO.items():
        look, own = _look(runtime), [line for line in lines if line["tree"] == who]
        here = [(line["capacity"], line["seconds"]) for line in own if line["seconds"] is not None]
        there = [(line["capacity"], line["published_s"]) for line in own]
        name = "PAL" if who == "pal" else PEERS[runtime]
        for points, called, fill in ((here, PEERS[runtime], look.colour), (there, f"{name}, published", "white")):
            if points:
                xs, ys = zip(*points, strict=True)
                panel.plot(
                    xs,
                    ys,
                    color=look.colour,
                    marker=look.marker,
                    markersize=4.5,
                    markerfacecolor=fill,
                    linewidth=1.2,
                    linestyle="--" if fill == "white" else "-",
                )
                ends.append(End(name=called, x=xs[-1], y=ys[-1], colour=look.colour))
    name_ends(panel, ends, _beyond(panel))


# ---------------------------------------------------------------------------------------- its size


def _fan_outs(run: ReplayRun, machine: str) -> tuple[Figure, list[dict[str, Any]]] | None:
    """Above by fan-out, below by batch; left sampling, right updating; a line for each capacity."""
    sweeps = Sweep.all_of(run)
    lines = [
        {
            "operation": sweep.operation,
            "capacity": place[0],
            "batch": place[1],
            "fan_out": place[2],
            **_ends("seconds", sweep.seconds(*place)),
            "lines": " ".join(map(str, run.lines(row))),
        }
        for sweep in sweeps
        for place, row in sweep.places.items()
        if sweep.seconds(*place) is not None
    ]
    if not lines:
        return None
    figure = new_figure(height_inches=7.0)
    panels = figure.subplots(2, len(sweeps), squeeze=False)
    for column, sweep in enumerate(sweeps):
        batch = sweep.usual_batch
        _draw_sweep(
            panels[0, column],
            sweep,
            f"{sweep.operation}, batch {batch}",
            sweep.fan_outs,
            "fan-out",
            partial(_by_fan_out, sweep, batch),
        )
        fan_out = _FAN_OUT if _FAN_OUT in sweep.fan_outs else sweep.fan_outs[-1]
        _draw_sweep(
            panels[1, column],
            sweep,
            f"{sweep.operation}, fan-out {fan_out}",
            sweep.batches,
            "batch",
            partial(_by_batch, sweep, fan_out),
        )
    panels[0, 0].set_ylabel("time of an operation", fontsize=8.5)
    panels[1, 0].set_ylabel("time of an operation, for each leaf", fontsize=8.5)
    form = mean_form([_estimate(line) for line in lines])
    frame(figure, _sweep_title(sweeps), f"{form}; lines: capacities; one thread, float32; log axes", machine)
    return figure, lines


def _by_fan_out(sweep: Sweep, batch: int, capacity: int, fan_out: int) -> Estimate | None:
    return sweep.seconds(capacity, batch, fan_out)


def _by_batch(sweep: Sweep, fan_out: int, capacity: int, batch: int) -> Estimate | None:
    """For each leaf."""
    seconds = sweep.seconds(capacity, batch, fan_out)
    if seconds is None:
        return None
    ends = (seconds.point / batch, seconds.low / batch, seconds.high / batch)
    return Estimate(point=ends[0], low=ends[1], high=ends[2], n=seconds.n, kind=seconds.kind)


def _draw_sweep(  # noqa: PLR0913, PLR0917 - what a panel shows
    panel: Axes,
    sweep: Sweep,
    title: str,
    values: Sequence[int],
    axis: str,
    at: Callable[[int, int], Estimate | None],
) -> None:
    panel.set_title(title)
    panel.set_xlabel(axis, fontsize=8.5)
    panel.set_xscale("log")
    span = math.log(max(values) / min(values)) or 1.0
    panel.set_xlim(min(values) * math.exp(-0.04 * span), max(values) * math.exp(0.3 * span))
    set_ticks(panel.xaxis, values, lambda value: f"{value:.0f}")
    panel.tick_params(labelsize=8.5)
    found = {(capacity, value): at(capacity, value) for capacity in sweep.capacities for value in values}
    places = {place: time for place, time in found.items() if time is not None}
    if not places:
        say(panel, 0.5, "not measured")
        return
    log_height(panel, list(places.values()), _short)
    ends = []
    for number, capacity in enumerate(sweep.capacities):
        own = [(value, places[capacity, value]) for value in values if (capacity, value) in places]
        if not own:
            continue
        colour = _SIZES[number % len(_SIZES)]
        xs, ys = [value for value, _ in own], [time.point for _, time in own]
        panel.plot(xs, ys, color=colour, marker="o", markersize=3.5, linewidth=1.2)
        for x, time in own:
            panel.plot([x, x], [time.low, time.high], color=colour, linewidth=2)
        ends.append(End(name=f"{capacity:,}", x=own[-1][0], y=own[-1][1].point, colour=colour))
    name_ends(panel, ends, max(values) * math.exp(0.05 * span), gap=0.06)


def _sweep_title(sweeps: Sequence[Sweep]) -> str:
    """Which fan-out is the fastest at the usual capacity, where it was measured."""
    clauses = []
    for sweep in sweeps:
        fan_out = sweep.fastest(_USUAL_CAPACITY, sweep.usual_batch)
        time = None if fan_out is None else sweep.seconds(_USUAL_CAPACITY, sweep.usual_batch, fan_out)
        if time is not None:
            clauses.append(f"{sweep.operation} {fan_out} ({in_seconds(time.point)})")
    if not clauses:
        return "The sum tree by fan-out, capacity and batch"
    return f"The fastest fan-out at {_USUAL_CAPACITY:,} leaves: {', '.join(clauses)}"


def _short(seconds: float) -> str:
    """`150 ns`, `20.0 us`."""
    return f"{seconds * 1e9:.3g} ns" if seconds < 1e-6 else in_seconds(seconds)  # noqa: PLR2004 - a microsecond


# ------------------------------------------------------------------------------------------- shared


def _look(runtime: str) -> Look:
    """Of the runtime; ours, which the plain loop stands for, looks as what is ours in all figures."""
    return _OURS if runtime == SEQUENTIAL else look_of(runtime)


def _measured(run: ReplayRun, side: Side) -> tuple[Estimate | None, str]:
    """Seconds of an operation, and the lines of the records behind them."""
    row = run.row(side)
    if row is None or row.outcome != "ok":
        return None, ""
    return seconds_of(row), " ".join(map(str, run.lines(row)))


def _capacity_axis(panel: Axes, capacities: Sequence[int]) -> None:
    panel.set_xlabel("capacity", fontsize=8.5)
    panel.set_xscale("log")
    span = math.log(capacities[-1] / capacities[0])
    panel.set_xlim(capacities[0] * math.exp(-0.04 * span), capacities[-1] * math.exp(0.45 * span))
    set_ticks(panel.xaxis, capacities, lambda value: f"2^{round(math.log2(value))}")
    panel.tick_params(labelsize=8.5)


def _beyond(panel: Axes) -> float:
    """Where names stand, right of the last points."""
    low, high = (math.log(end) for end in panel.get_xlim())
    return math.exp(low + (high - low) * 0.73)


def _ends(column: str, estimate: Estimate | None) -> dict[str, Any]:
    return {
        **estimate_columns(column, estimate),
        "interval": None if estimate is None else estimate.kind,
        "n": None if estimate is None else estimate.n,
    }


def _estimate(line: Mapping[str, Any]) -> Estimate:
    """The estimate that `_ends` spelt out as seconds."""
    low, high = line["seconds_low"], line["seconds_high"]
    return Estimate(point=line["seconds"], low=low, high=high, n=line["n"], kind=line["interval"])
