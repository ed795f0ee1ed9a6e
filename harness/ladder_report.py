"""The ladder of a run for people: a table for each experiment, one figure for all, and the CSV behind both.

`reactorbench ladder` writes them; `ladder` says what the steps are and what was measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.drawing import BOUND, dot, frame, label, log_axis, look_of, new_figure, save, say, style
from harness.errors import UsageError, writing
from harness.ladder import ladders
from harness.records import RecordFile
from harness.report import machine_line, warning_lines
from harness.sections import pipe_table
from harness.wording import DASH, compact_json, estimate_columns, in_ratio, in_seconds, in_spread, mean_form, ratio_form

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.ladder import Ladder, Rung

__all__ = ["markdown_ladder", "write_ladder"]

_COLUMNS = 2
_WORDS = {"skipped": "skipped", "failed": "failed", "timeout": "timed out", "invalid": "invalid"}


def write_ladder(folder: Path) -> tuple[str, list[Path]]:
    """Write `ladder.md` into `folder`, and the figure and its CSV into `folder/figures`. The Markdown, and the files.

    Raises:
        UsageError: if there is no record of any step, or `folder` cannot be written.
    """
    file = RecordFile(folder)
    records = file.read()
    measured = [ladder for ladder in ladders(records) if ladder.is_measured]
    if not measured:
        raise UsageError(
            f"There is nothing of the ladder in {folder}. Measure it first: reactorbench ladder --out {folder}"
        )
    machine = machine_line(record.machine for record in records)
    text = markdown_ladder(measured, machine) + warning_lines(file, records)
    table = folder / "ladder.md"
    with writing("The ladder", folder):
        table.write_text(text, encoding="utf-8")
        (folder / "figures").mkdir(exist_ok=True)
        with style():
            lines = [_flat(ladder, rung) for ladder in measured for rung in ladder.rungs]
            files = save(_figure(measured, machine), folder / "figures" / "ladder", lines)
    return text, [table, *files]


# ------------------------------------------------------------------------------------------- words


_LEGEND = """\
Each step keeps what the ones before it mended. The factor is how many times as fast a round is as at the last step
that was measured, paired by block and seed; the share is log(factor) / log(published ratio), so that shares add up.
Up to the step `warm-up`, the first rounds count with the others, as many in all as were published.

- Printing, resets at every step and cold first rounds were faults of both sides. To mend them explains nothing of the
  published ratio, so these steps have no share.
- Here nobody sleeps in figures 1 and 2, and what is printed goes to the null device.
- Packing gains the more, the fewer processors there are: the paper had 32 for 15 or 16 actors.
- One round ahead computes something else (what is fed back is one round older), so it is no part of Ray at its best.
"""


def markdown_ladder(measured: Sequence[Ladder], machine: str) -> str:
    """A table for each of `measured`, and what it comes to."""
    parts = ["# Was Ray slow, or used badly?\n", _LEGEND]
    for ladder in measured:
        parts += [f"## {_heading(ladder)}\n", _table(ladder), f"{_outcome(ladder)}\n"]
    parts.append(f"{_form(measured)}. Measured on: {machine or 'a machine that the records do not name'}.")
    return "\n".join(parts) + "\n"


def _heading(ladder: Ladder) -> str:
    program = ladder.program
    return f"Figure {program.figure}: {program.experiment.title}: {program.label}"


def _table(ladder: Ladder) -> str:
    headings = ("step", "runtime", "time of a round", "factor", "share of the published ratio", "remark")
    return "\n".join(pipe_table(headings, map(_entries, ladder.rungs))) + "\n"


def _entries(rung: Rung) -> list[str]:
    step = rung.step
    options = ",".join(f"{name}={compact_json(value)}" for name, value in step.options.items())
    parameters = [f"{name}={value}" for name, value in step.parameters.items()]
    runtime = "" if step.left_out else f"{step.runtime}{':' if options else ''}{options}"
    return [
        step.name,
        " ".join(filter(None, [f"`{runtime}`" if runtime else DASH, *parameters])),
        in_spread(rung.round_s, in_seconds),
        in_spread(rung.factor, in_ratio),
        DASH if rung.share is None else _percent(rung.share),
        _remark(rung),
    ]


def _remark(rung: Rung) -> str:
    """Why something is not in the table, in one line."""
    if rung.problem is None:
        return "a fault of both sides" if rung.step.mends_both else ""
    return " ".join(rung.problem.split()).replace("|", "\\|")


def _percent(share: float) -> str:
    return f"{share * 100:+.0f} %"


def _outcome(ladder: Ladder) -> str:
    """How much of the published ratio was how Ray was used."""
    published = f"published: {in_ratio(ladder.published_ratio)}"
    used, rest, share = ladder.from_published_to_best, ladder.from_best_to_reactor, ladder.share_of_use
    if used is None or share is None:
        return f"Ray as published was not measured ({published})."
    text = f"Ray at its best ({ladder.best}) is {in_ratio(used.point)} Ray as published"
    text += f"; reactor is {in_ratio(rest.point)} that." if rest is not None else "; reactor was not measured."
    return f"{text} How Ray was used explains {_percent(share)} of the published ratio ({published})."


def _form(measured: Sequence[Ladder]) -> str:
    estimates = [rung.factor for ladder in measured for rung in ladder.rungs if rung.factor is not None]
    if not estimates:
        return "No two steps were measured in one block"
    return f"Factors: {ratio_form(estimates)}"


def _flat(ladder: Ladder, rung: Rung) -> dict[str, Any]:
    """`rung` as a line of the CSV."""
    row = rung.row
    return {
        "figure": ladder.program.figure,
        "point": ladder.program.label,
        "step": rung.step.name,
        **estimate_columns("round_s", rung.round_s),
        "interval": rung.round_s.kind if rung.round_s else None,
        "n": rung.round_s.n if rung.round_s else None,
        **estimate_columns("factor", rung.factor),
        "over": rung.over,
        "pairs": rung.factor.n if rung.factor else None,
        "published_ratio": ladder.published_ratio,
        "share_of_published_ratio": rung.share,
        "rounds_with_the_first": rung.step.cold_rounds or None,
        "remark": rung.problem,
        "cell": " ".join(row.cell) if row else None,
        "runtime": f"{row.runtime} {compact_json(row.options)}" if row else None,
        "record_lines": " ".join(map(str, rung.lines)),
    }


# ----------------------------------------------------------------------------------------- drawing


def _figure(measured: Sequence[Ladder], machine: str) -> Figure:
    """A panel for each experiment, a line for each step, from the published program down to the ceiling."""
    names = [rung.step.name for rung in measured[0].rungs]
    columns = min(_COLUMNS, len(measured))
    lines = -(-len(measured) // columns)
    figure = new_figure(height_inches=1.2 + lines * (0.75 + 0.19 * len(names)))
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False).ravel().tolist()
    for panel, ladder in zip(panels, measured, strict=False):
        _draw(panel, ladder, names)
    for unused in panels[len(measured) :]:
        unused.remove()
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    frame(figure, _title(measured), _caption(measured), machine)
    return figure


def _draw(panel: Axes, ladder: Ladder, names: Sequence[str]) -> None:
    program = ladder.program
    panel.set_title(f"Figure {program.figure}: {program.label} (published: {in_ratio(ladder.published_ratio)})")
    panel.set_xlabel("time of a round", fontsize=8.5)
    panel.set_yticks(range(len(names)), names)
    log_axis(panel, [rung.round_s for rung in ladder.rungs if rung.round_s is not None], in_seconds)
    for height, rung in enumerate(ladder.rungs):
        if rung.round_s is None:
            say(panel, height, _short(rung))
            continue
        is_bound = rung.row is not None and rung.row.is_bound
        dot(panel, height, rung.round_s, BOUND if is_bound else look_of(rung.step.runtime), hollow=False)
        factor = "" if rung.factor is None else f"  ({in_ratio(rung.factor.point)})"
        label(panel, height, rung.round_s, in_seconds(rung.round_s.point) + factor)


def _short(rung: Rung) -> str:
    """Why there is no dot, in a few words; the table has the reason."""
    if rung.step.left_out:
        return "does not apply"
    outcome = rung.row.outcome if rung.row is not None else ""
    return _WORDS.get(outcome, "not measured")


def _title(measured: Sequence[Ladder]) -> str:
    used = [ladder.from_published_to_best.point for ladder in measured if ladder.from_published_to_best]
    rest = [ladder.from_best_to_reactor.point for ladder in measured if ladder.from_best_to_reactor]
    if not used:
        return "From Ray as published to the best Ray"
    title = f"Used well, Ray is {_range(used)} Ray as published"
    return title + (f"; reactor is {_range(rest)} the best Ray" if rest else "")


def _range(factors: Sequence[float]) -> str:
    low, high = in_ratio(min(factors)), in_ratio(max(factors))
    return low if low == high else f"{low} to {high}"


def _caption(measured: Sequence[Ladder]) -> str:
    times = [rung.round_s for ladder in measured for rung in ladder.rungs if rung.round_s is not None]
    return (
        f"Times: {mean_form(times)}; log axes; in brackets how many times as fast as "
        "the last measured step before; up to warm-up, the first rounds count with the others; published: 32 cores, "
        "one run"
    )
