"""Replay buffers in a run, for people: tables, figures, and the CSV behind both.

`reactorbench replay` writes them; `replay` says what the bars are and compares, `replay_figures` draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.drawing import style
from harness.errors import UsageError, writing
from harness.pal import plugged_in, published_trees, tree_side
from harness.plan import PlanFile
from harness.records import RecordFile
from harness.replay import BARS, PEERS, ReplayRun, Side, Sweep, seconds_of
from harness.replay_figures import write_figures
from harness.report import machine_line, warning_lines
from harness.sections import pipe_table, write_csv
from harness.summary import SEQUENTIAL
from harness.wording import DASH, compact_json, in_ratio, in_seconds, in_spread, mean_form, ratio_columns, ratio_form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from harness.replay import Compared, Judged
    from harness.statistics import Estimate

__all__ = ["COLUMNS", "markdown_replay", "write_replay"]

_OPERATIONS = ("insert", "sample", "update")


def write_replay(folder: Path) -> tuple[str, list[Path]]:
    """Write `replay.md` and `replay.csv` into `folder`, and figures with their CSV into `folder/figures`.

    The Markdown, and the files.

    Raises:
        UsageError: if there is no record of workload `replay`, or `folder` cannot be written.
    """
    file = RecordFile(folder)
    records = file.read()
    run = ReplayRun(records, PlanFile(folder).read_if_there())
    if not any(row.units_per_s is not None for row in run.rows):
        raise UsageError(
            f"There is nothing of replay buffers in {folder}. Measure it first: reactorbench replay --out {folder}"
        )
    machine = machine_line(record.machine for record in records)
    text = markdown_replay(run, machine) + warning_lines(file, records)
    table, lines = folder / "replay.md", folder / "replay.csv"
    with writing("What is said of replay buffers", folder):
        table.write_text(text, encoding="utf-8")
        write_csv(lines, COLUMNS, _flat(run))
        (folder / "figures").mkdir(exist_ok=True)
        with style():
            figures = write_figures(run, folder / "figures", machine)
    return text, [table, lines, *figures]


def markdown_replay(run: ReplayRun, machine: str) -> str:
    """A section for everything that `run` has something of."""
    sections = [_bars(run), _operations(run), _processes(run), _loops(run), _trees(run), *_sweeps(run)]
    times = [seconds for row in run.rows if (seconds := seconds_of(row)) is not None]
    closing = f"Times: {mean_form(times)}. Measured on: {machine or 'a machine that the records do not name'}."
    return "\n".join(["# Replay buffers\n", *filter(None, sections), closing]) + "\n"


# ---------------------------------------------------------------------------------------- comparing


def _bars(run: ReplayRun) -> str:
    """What ours has to be, and is."""
    judged = [run.judge(bar) for bar in BARS]
    estimates = [one.compared.estimate for one in judged if one.compared.estimate is not None]
    if not estimates:
        return ""
    return _section(
        "Bars",
        f"At a capacity of 1,000,000 and a batch of 256; how many times as fast ours is. {_form(estimates)}",
        ("bar", "ours", "the other", "ratio", "at least", "verdict"),
        [_bar_line(run, one) for one in judged],
        [f"{one.bar.name}: {one.compared.problem}." for one in judged if one.compared.problem],
    )


def _bar_line(run: ReplayRun, one: Judged) -> list[str]:
    compared = one.compared
    other = PEERS.get(compared.theirs.runtime, compared.theirs.runtime)
    return [
        one.bar.name,
        _time(run, compared.ours),
        f"{'alone' if compared.theirs.runtime == SEQUENTIAL else other}: {_time(run, compared.theirs)}",
        in_spread(compared.estimate, in_ratio),
        in_ratio(one.ratio),
        one.verdict,
    ]


def _operations(run: ReplayRun) -> str:
    """Whose operations take how long, at the bars' size; RLlib's buffer at a tenth of the capacity."""
    lines: list[list[str]] = []
    for what in ("tree", "buffer"):
        for runtime in PEERS:
            small = what == "buffer" and runtime == "replay-rllib"
            size = {"capacity": 100_000 if small else 1_000_000, "batch": 256, "shared": False, "beside": "none"}
            sides = [Side(parameters={**size, "what": what, "operation": o}, runtime=runtime) for o in _OPERATIONS]
            entries = [_time(run, side) for side in sides]
            if any(entry != DASH for entry in entries):
                name = PEERS[runtime] + (" (capacity 100,000)" if small else "")
                lines.append([f"{'tree alone' if what == 'tree' else '108-byte transitions'}: {name}", *entries])
    return _section(
        "Operations",
        "Time of one operation on 256 rows at a capacity of 1,000,000.",
        ("buffer", *_OPERATIONS),
        # Ours alone is compared with nothing.
        lines if len(lines) > 1 else [],
    )


_TOGETHER: Mapping[str, Mapping[str, Any]] = {
    "learner alone": {"operation": "loop", "beside": "none"},
    "learner beside an inserter of 100,000 rows/s": {
        "operation": "loop",
        "beside": "inserter",
        "beside_rows_per_s": 100_000,
    },
    "learner beside an inserter without pace": {"operation": "loop", "beside": "inserter", "beside_rows_per_s": 0},
    "inserter beside a learner": {"operation": "insert", "beside": "learner"},
}


def _processes(run: ReplayRun) -> str:
    """Two processes on one buffer."""
    lines = []
    for name, parameters in _TOGETHER.items():
        sides = [Side(parameters={**parameters, "shared": True}, runtime=r) for r in (SEQUENTIAL, "replay-cpprb")]
        if any(run.row(side) is not None for side in sides):
            ratio = run.compare(*sides).estimate
            lines.append([name, *(_rate(run, side) for side in sides), in_spread(ratio, in_ratio)])
    return _section(
        "Two processes",
        "Loops a second: a learner samples and updates 256 rows, an inserter inserts 32; of the one named first.",
        ("", "ours", "cpprb", "ratio"),
        lines,
    )


def _loops(run: ReplayRun) -> str:
    """Other frameworks' loops before and after."""
    found = [(PEERS[name], batch, compared) for name, batch, compared in plugged_in(run)]
    shown = [one for one in found if run.row(one[2].ours) is not None or run.row(one[2].theirs) is not None]
    return _section(
        "Plugged into other frameworks",
        "Time of a training iteration (insert a row, sample, one step of a small network, update) with the framework's "
        "own buffer and with ours in its place. Published: 1.1x to 2.1x.",
        ("framework", "batch", "before", "after", "ratio"),
        [
            [name, str(batch), _time(run, one.theirs), _time(run, one.ours), in_spread(one.estimate, in_ratio)]
            for name, batch, one in shown
        ],
        [f"{name}, batch {batch}: {one.problem}." for name, batch, one in shown if one.problem],
    )


def _trees(run: ReplayRun) -> str:
    """The published sum tree beside ours."""
    lines = []
    for point in published_trees():
        measured = [_time(run, tree_side(point, runtime)) for runtime in _PUBLISHED.values()]
        if any(entry != DASH for entry in measured):
            published = [in_seconds(point.seconds[who]) for who in _PUBLISHED]
            pairs = [f"{theirs} / {here}" for theirs, here in zip(published, measured, strict=True)]
            lines.append([point.operation, f"{point.capacity:,}", *pairs])
    return _section(
        "The published sum tree",
        "Time of 128 operations, published / here; the machines differ.",
        ("operation", "capacity", "PAL / ours", "Tianshou", "RLlib"),
        lines,
    )


_PUBLISHED = {"pal": SEQUENTIAL, "tianshou": "replay-tianshou", "rllib": "replay-rllib"}


# ------------------------------------------------------------------------------------------- sweeps


def _sweeps(run: ReplayRun) -> list[str]:
    """Of each operation the tree by fan-out and capacity, and which fan-out is the fastest at which batch."""
    sections = []
    for sweep in Sweep.all_of(run):
        batch = sweep.usual_batch
        lines = []
        for capacity in sweep.capacities:
            times = [sweep.seconds(capacity, batch, fan_out) for fan_out in sweep.fan_outs]
            best = [f"{b}: {fan_out}" for b in sweep.batches if (fan_out := sweep.fastest(capacity, b)) is not None]
            entries = [DASH if time is None else in_seconds(time.point) for time in times]
            lines.append([f"{capacity:,}", *entries, ", ".join(best)])
        sections.append(
            _section(
                f"The sum tree by its size: {sweep.operation}",
                f"Time of an operation on {batch} leaves, by capacity and fan-out; then the fastest fan-out by batch.",
                ("capacity", *map(str, sweep.fan_outs), "fastest fan-out at a batch of"),
                lines,
                sweep.missing,
            )
        )
    return sections


# ------------------------------------------------------------------------------------------- tables


def _section(
    title: str, text: str, headings: Sequence[str], lines: Sequence[Sequence[str]], notes: Iterable[str] = ()
) -> str:
    """A table with what it is; nothing without any line."""
    if not lines:
        return ""
    table = pipe_table(headings, lines)
    told = [f"- {' '.join(note.split())}" for note in notes]
    return "\n".join([f"## {title}\n", f"{text}\n", *table, *(["", *told] if told else []), ""])


def _time(run: ReplayRun, side: Side) -> str:
    """Seconds of an operation."""
    return _of_row(run, side, lambda seconds: in_seconds(seconds.point))


def _rate(run: ReplayRun, side: Side) -> str:
    """Operations a second."""
    return _of_row(run, side, lambda seconds: f"{1 / seconds.point:,.0f}")


def _of_row(run: ReplayRun, side: Side, spell: Callable[[Estimate], str]) -> str:
    row = run.row(side)
    seconds = None if row is None or row.outcome != "ok" else seconds_of(row)
    return DASH if seconds is None else spell(seconds)


def _form(estimates: Sequence[Estimate]) -> str:
    return f"Ratios: {ratio_form(estimates)}." if estimates else ""


# ---------------------------------------------------------------------------------------------- CSV


COLUMNS: tuple[str, ...] = (
    "table",
    "name",
    "ratio",
    "ratio_low",
    "ratio_high",
    "interval",
    "pairs",
    "at_least",
    "verdict",
    "problem",
    "ours",
    "theirs",
    "record_lines",
)
"""The columns of `replay.csv`: a line for each ratio. `record_lines` are lines of `records.jsonl`, from 1."""


def _flat(run: ReplayRun) -> list[dict[str, Any]]:
    judged = [run.judge(bar) for bar in BARS]
    loops = [(f"{PEERS[name]}, batch {batch}", compared) for name, batch, compared in plugged_in(run)]
    return [
        *(
            _line(run, "bar", one.bar.name, one.compared) | {"at_least": one.ratio, "verdict": one.verdict}
            for one in judged
        ),
        *(_line(run, "plug-in", name, compared) for name, compared in loops),
    ]


def _line(run: ReplayRun, table: str, name: str, compared: Compared) -> dict[str, Any]:
    return {
        "table": table,
        "name": name,
        **ratio_columns(compared.estimate),
        "problem": compared.problem,
        "ours": _name(run, compared.ours),
        "theirs": _name(run, compared.theirs),
        "record_lines": " ".join(map(str, compared.lines)),
    }


def _name(run: ReplayRun, side: Side) -> str:
    row = run.row(side)
    return "" if row is None else f"{row.runtime} {compact_json(row.options)} {compact_json(row.parameters)}"
