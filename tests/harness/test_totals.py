"""What numbers over all cells of a workload promise: the same work on both sides, and no silent subset."""

import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.records import RecordFile
from harness.report import markdown_table, summary_table, write_report
from harness.summary import summarise
from harness.totals import COLUMNS, flat, totals
from tests.harness.records_of import CARTPOLE, record

BEST_RAY, PLAIN_LOOP = "best_ray", "sequential"


def cell(envs, block=0, /, *, changes=None, **rates):
    """A cell with `envs` environments, in which runtimes do so many units a second."""
    own = {"parameters": CARTPOLE | {"envs": envs}}
    names = {name: name.replace("_", "-") for name in rates}
    return [record(names[n], rate, block, **(own | (changes or {}).get(n, {}))) for n, rate in rates.items()]


def lines_of(records):
    return {line.row.runtime: line for line in totals(summarise(records))["simulation"].lines}


def shown(rows, width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(summary_table(rows, width=width))
    return console.file.getvalue()


TWO = [*cell(1, sequential=1_000, ray=100, reactor=1_000), *cell(2, sequential=10, ray=1, reactor=40)]


def test_the_total_is_summed_time_and_the_mean_counts_cells_alike():
    line = lines_of(TWO)["reactor"].over[PLAIN_LOOP]
    # A round of 15 units: 0.015 s + 1.5 s against 0.015 s + 0.375 s.
    assert line.total.point == pytest.approx(1.515 / 0.39)
    assert line.mean.point == pytest.approx(math.sqrt(1 * 4))


def test_the_best_ray_is_that_of_each_cell():
    records = [*cell(1, ray=100, ray_packed=50, reactor=100), *cell(2, ray=50, ray_packed=100, reactor=100)]
    lines = lines_of(records)
    assert lines["reactor"].over[BEST_RAY].total.point == pytest.approx(1)
    assert lines["ray"].over[BEST_RAY].mean.point == pytest.approx(math.sqrt(0.5))
    assert lines["ray"].over[BEST_RAY].total.point == pytest.approx(2 / 3)


def test_rounds_of_different_sizes_are_brought_to_the_same_work():
    half = {"units_per_round": 30, "measured_rounds": 50}
    records = [*TWO[:3], *cell(2, sequential=10, reactor=40, changes={"reactor": half})]
    assert lines_of(records)["reactor"].over[PLAIN_LOOP].total.point == pytest.approx(1.515 / 0.39)


def test_totals_and_means_are_paired_by_block():
    # Each block is three times as fast as the one before on both sides.
    records = [r for b in range(6) for r in cell(1, b, sequential=100 * 3**b, reactor=200 * 3**b)]
    records += [r for b in range(6) for r in cell(2, b, sequential=10 * 3**b, reactor=20 * 3**b)]
    across = lines_of(records)["reactor"].over[PLAIN_LOOP]
    for estimate in (across.total, across.mean):
        assert (estimate.point, estimate.low, estimate.high, estimate.n) == pytest.approx((2, 2, 2, 6))
        assert estimate.kind == "95 % interval"


def test_blocks_count_that_every_cell_has_on_both_sides():
    records = [r for b in range(3) for r in cell(1, b, sequential=100, reactor=100 * (b + 1))]
    records += [r for b in range(1, 3) for r in cell(2, b, sequential=100, reactor=100 * (b + 1))]
    across = lines_of(records)["reactor"].over[PLAIN_LOOP]
    assert (across.total.n, across.total.low, across.total.high) == pytest.approx((2, 2, 3))


def test_without_a_block_in_common_there_is_a_reason():
    records = [*cell(1, 0, sequential=1, reactor=1), *cell(2, 1, sequential=1, reactor=1)]
    assert lines_of(records)["reactor"].over[PLAIN_LOOP].problem == "no block was measured with both in every cell"


@given(st.lists(st.tuples(st.floats(0.01, 1e6), st.floats(0.01, 1e6)), min_size=2, max_size=6))
def test_both_lie_between_the_speedups_of_the_cells(rates):
    records = [r for envs, (ours, theirs) in enumerate(rates) for r in cell(envs, sequential=theirs, reactor=ours)]
    speedups = [ours / theirs for ours, theirs in rates]
    across = lines_of(records)["reactor"].over[PLAIN_LOOP]
    for estimate in (across.total, across.mean):
        assert min(speedups) * (1 - 1e-9) <= estimate.point <= max(speedups) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"outcome": "failed"}, "failed on CartPole-v1 x 2"),
        ({"outcome": "timeout"}, "timeout on CartPole-v1 x 2"),
        ({"outcome": "skipped"}, "skipped on CartPole-v1 x 2"),
        ({"digest": "other"}, "invalid on CartPole-v1 x 2"),
        ({"measured_s": 0.0}, "no round was measured on CartPole-v1 x 2"),
    ],
)
def test_a_runtime_that_is_not_ok_in_a_cell_has_a_dash_and_the_reason(change, reason):
    records = [
        *cell(1, sequential=1, ray=1, reactor=1),
        *cell(2, sequential=1, ray=1, reactor=1, changes={"reactor": change}),
    ]
    lines = lines_of(records)
    assert lines["reactor"].problem == reason
    for across in lines["reactor"].over.values():
        assert (across.total, across.mean, across.problem) == (None, None, reason)
    assert lines["ray"].over[PLAIN_LOOP].total is not None
    text = markdown_table(summarise(records)).split("all 2 cells")[1]
    (row,) = [line for line in text.splitlines() if line.startswith("| reactor")]
    assert row.count(" - |") == 4
    assert f"- reactor: {reason}." in text


def test_a_runtime_that_some_cell_lacks_has_a_dash_and_the_reason():
    records = [*TWO, *cell(3, sequential=10, ray=1)]
    assert lines_of(records)["reactor"].problem == "measured in 2 of 3 cells"
    assert lines_of(records)["sequential"].problem is None


def test_other_options_make_another_runtime():
    records = [*cell(1, sequential=1), *cell(2, sequential=1)]
    records += [record("reactor", 1, parameters=CARTPOLE | {"envs": n}, options={"workers": n}) for n in (1, 2)]
    (found,) = totals(summarise(records)).values()
    assert [line.problem for line in found.lines] == [None, *["measured in 1 of 2 cells"] * 2]


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("sequential", {"outcome": "failed"}, "no valid plain loop on CartPole-v1 x 2"),
        ("ray", {"outcome": "failed"}, "no valid Ray on CartPole-v1 x 2"),
    ],
)
def test_where_a_reference_is_not_ok_nothing_is_compared_with_it(name, change, reason):
    records = [*TWO[:3], *cell(2, sequential=10, ray=1, reactor=40, changes={name: change})]
    over = lines_of(records)["reactor"].over
    lacking, other = (PLAIN_LOOP, BEST_RAY) if name == "sequential" else (BEST_RAY, PLAIN_LOOP)
    assert (over[lacking].total, over[lacking].problem) == (None, reason)
    assert over[other].total is not None
    assert shown(summarise(records)).count(reason) == 1


def test_a_ray_that_is_valid_nowhere_is_said_too():
    bad = {"ray": {"outcome": "failed"}}
    records = [r for n in (1, 2) for r in cell(n, sequential=1, ray=1, reactor=1, changes=bad)]
    assert lines_of(records)["reactor"].over[BEST_RAY].problem == "no valid Ray in 2 of 2 cells"


def test_without_any_ray_there_is_a_dash_and_nothing_to_say():
    records = [r for n in (1, 2) for r in cell(n, sequential=1, reactor=1)]
    across = lines_of(records)["reactor"].over[BEST_RAY]
    assert (across.total, across.problem) == (None, None)
    assert "Nothing is compared" not in markdown_table(summarise(records))


def test_a_bound_is_left_out_and_what_differs_is_marked():
    changes = {
        "ceiling": {"is_bound": True, "digest": None},
        "envpool": {"differs": "streams of its own", "digest": None},
    }
    records = [r for n in (1, 2) for r in cell(n, sequential=1, ceiling=9, envpool=2, changes=changes)]
    lines = lines_of(records)
    assert list(lines) == ["sequential", "envpool"]
    assert lines["envpool"].over[PLAIN_LOOP].total.point == pytest.approx(2)
    assert "| envpool (units only) |" in markdown_table(summarise(records)).split("all 2 cells")[1]


@pytest.mark.parametrize("records", [[], cell(1, sequential=1, reactor=1), [*cell(1, reactor=1), *cell(2, reactor=1)]])
def test_a_single_cell_and_one_without_a_reference_have_no_totals(records):
    assert totals(summarise(records)) == {}


def test_each_workload_has_totals_of_its_own_below_its_last_cell():
    other = [record("sequential", 1, workload="echo", parameters={"size": n}) for n in (1, 2)]
    text = markdown_table(summarise([TWO[0], other[0], *TWO[1:], other[1]]))
    titles = [line for line in text.splitlines() if line.startswith("### ")]
    assert titles == [
        "### simulation: CartPole-v1 x 1",
        "### echo: size=1",
        "### simulation: CartPole-v1 x 2",
        "### simulation: all 2 cells",
        "### echo: size=2",
        "### echo: all 2 cells",
    ]


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_shows_both_beside_their_ranges_and_cuts_nothing(width):
    records = [r for b in range(3) for n in (1, 2) for r in cell(n, b, sequential=100, ray=10, reactor=180 + b)]
    text = shown(summarise(records), width).split("simulation: all 2 cells")[1]
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    lines = text.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("reactor")]
    assert lines[at].split() == ["reactor", "18.1x", "18.1x", "1.81x", "1.81x"]
    assert lines[at + 1].split() == ["18.0-18.2"] * 2 + ["1.80-1.82"] * 2
    assert "Ratios: geometric mean and range of 3 pairs." in text
    assert "Total: time that the reference takes" in text


def test_a_run_that_goes_on_shows_cells_only():
    console = Console(width=100, file=io.StringIO())
    console.print(summary_table(summarise(TWO), width=100, cells_only=True))
    assert "all 2 cells" not in console.file.getvalue()
    assert "Total:" not in console.file.getvalue()


def test_totals_are_written_as_csv_and_json(tmp_path):
    file = RecordFile(tmp_path)
    for item in TWO:
        file.append(item)
    report = write_report(tmp_path, figures=False)
    with (tmp_path / "totals.csv").open(newline="") as opened:
        lines = list(csv.DictReader(opened))
    assert tuple(lines[0]) == COLUMNS
    assert [(line["runtime"], line["reference"]) for line in lines][-2:] == [
        ("reactor", "best_ray"),
        ("reactor", "sequential"),
    ]
    assert float(lines[-1]["mean"]) == pytest.approx(2)
    answer = json.loads(json.dumps(report.to_json()))
    assert answer["totals"][-1]["total"] == pytest.approx(1.515 / 0.39)
    assert answer["files"] == ["summary.csv", "table.md", "totals.csv"]


def test_totals_of_an_earlier_report_go_where_there_are_none(tmp_path):
    (tmp_path / "totals.csv").write_text("stale")
    RecordFile(tmp_path).append(TWO[0])
    assert write_report(tmp_path, figures=False).to_json()["totals"] == []
    assert not (tmp_path / "totals.csv").exists()


def test_a_line_has_every_column():
    assert all(tuple(line) == COLUMNS for line in flat(totals(summarise(TWO)).values()))
