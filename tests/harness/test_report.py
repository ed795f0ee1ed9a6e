"""What `write_report` promises: files, table, warnings, status, and patience with odd folders."""

import csv
import io
import json
import subprocess
import sys

import msgspec
import pytest
from rich.console import Console

from harness.errors import ExitStatus, UsageError
from harness.records import RecordFile
from harness.report import machine_line, markdown_table, summary_table, write_report
from harness.summary import COLUMNS, summarise
from tests.harness import records_of
from tests.harness.records_of import MACHINE

CELL = {
    "parameters": {"env_id": "CartPole-v1", "envs": 15, "actions": "local"},
    "startup_s": 0.25,
    "pss_bytes": 123_000_000,
    "resets": 3,
}


def record(runtime, rate, block=0, **changes):
    return records_of.record(runtime, rate, block, **(CELL | changes))


def pairs(number):
    rates = {"sequential": 1000, "ray": 10, "reactor": 1800}
    return [record(name, rate * (1 + block / 100), block) for block in range(number) for name, rate in rates.items()]


@pytest.fixture
def folder(tmp_path):
    def fill(records):
        file = RecordFile(tmp_path)
        for item in records:
            file.append(item)
        return tmp_path

    return fill


def shown(rows, width=100):
    console = Console(width=width, file=io.StringIO())
    console.print(summary_table(rows, width=width))
    return console.file.getvalue()


def test_summary_csv_has_a_line_for_each_cell_and_runtime(folder):
    report = write_report(folder(pairs(3)), figures=False)
    with (report.folder / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert tuple(lines[0]) == COLUMNS
    assert [line["runtime"] for line in lines] == ["sequential", "ray", "reactor"]
    assert float(lines[2]["speedup_over_sequential"]) == pytest.approx(1.8)
    assert json.loads(lines[2]["parameters"]) == {"actions": "local", "env_id": "CartPole-v1", "envs": 15}


def test_whole_numbers_stay_whole_in_summary_csv_beside_gaps(folder):
    report = write_report(
        folder([record("sequential", 1), record("ray", 1, outcome="failed", digest=None)]), figures=False
    )
    with (report.folder / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["pss_bytes"] for line in lines] == ["123000000", ""]


def test_a_digest_mismatch_shows_no_speedup_and_gives_status_3(folder):
    records = [*pairs(2), record("ray-packed", 100, digest="other")]
    report = write_report(folder(records), figures=False)
    assert report.exit_status == ExitStatus.FAILED_OR_INVALID == 3
    with (report.folder / "summary.csv").open(newline="") as file:
        line = list(csv.DictReader(file))[-1]
    assert line["outcome"] == "invalid"
    assert {line[column] for column in COLUMNS if column.startswith("speedup")} == {""}
    assert float(line["units_per_s"]) == pytest.approx(100)
    row = next(
        text for text in (report.folder / "table.md").read_text().splitlines() if "| ray-packed (invalid)" in text
    )
    assert row.count(" - |") == 3
    assert "ray-packed: digest differs from the sequential runtime's for seed 0." in shown(report.rows)


def test_a_sound_report_has_status_0(folder):
    assert write_report(folder(pairs(1)), figures=False).exit_status == 0


@pytest.mark.parametrize(
    ("number", "phrase"),
    [
        (1, "Ratios: a single pair, so no range."),
        (3, "Ratios: geometric mean and range of 3 pairs."),
        (6, "Ratios: Hodges-Lehmann estimate and 95 % interval of 6 pairs."),
    ],
)
def test_the_table_says_what_its_limits_are(number, phrase):
    rows = summarise(pairs(number))
    assert phrase in shown(rows)
    assert phrase in markdown_table(rows)
    assert "environment steps" in shown(rows)


def test_the_table_shows_absolute_values_beside_ratios():
    (line,) = [line for line in shown(summarise(pairs(3))).splitlines() if line.startswith("reactor")]
    assert line.split() == ["reactor", "1.82k", "180x", "180x", "1.80x", "250", "ms", "123", "MB"]


def with_bound(number=3):
    bounds = [record("ceiling", 2000 * (1 + b / 100), b, is_bound=True, digest=None) for b in range(number)]
    return summarise([*pairs(number), *bounds])


def test_a_bound_is_marked_in_every_table(folder):
    report = write_report(folder([*pairs(1), record("ceiling", 2000, is_bound=True, digest=None)]), figures=False)
    lines = shown(report.rows).splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("ceiling ") and "2.00k" in line]
    assert lines[at + 1].split() == ["bound"]
    assert "| ceiling (bound) |" in (report.folder / "table.md").read_text()
    with (report.folder / "summary.csv").open(newline="") as file:
        assert [(line["runtime"], line["bound"]) for line in csv.DictReader(file)][2:] == [
            ("reactor", "False"),
            ("ceiling", "True"),
        ]
    assert [row["bound"] for row in report.to_json()["rows"]] == [False, False, False, True]


def test_what_computes_something_else_is_marked_in_every_table_and_the_reason_is_given(folder):
    other = record("envpool", 3000, differs="streams of its own", digest=None)
    report = write_report(folder([*pairs(1), other]), figures=False)
    lines = shown(report.rows).splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("envpool ") and "3.00k" in line]
    assert lines[at + 1].split() == ["units", "only"]
    assert "compared on units of work only: streams of its own." in " ".join(shown(report.rows).split())
    table = (report.folder / "table.md").read_text()
    assert "| envpool (units only) |" in table
    assert "envpool computes something else than the plain loop" in table
    with (report.folder / "summary.csv").open(newline="") as file:
        assert [line["differs"] for line in csv.DictReader(file)][2:] == ["", "streams of its own"]


def test_what_computes_something_else_may_be_faster_than_the_bound():
    other = record("envpool", 3000, differs="streams of its own", digest=None)
    rows = summarise([record("sequential", 1000), record("ceiling", 2000, is_bound=True, digest=None), other])
    assert "faster than the bound" not in shown(rows)


def test_efficiency_stands_beside_the_ratios_of_a_page_with_a_bound():
    (line,) = [line for line in shown(with_bound()).splitlines() if line.startswith("reactor")]
    assert line.split() == ["reactor", "1.82k", "180x", "180x", "1.80x", "0.900", "250", "ms", "123", "MB"]
    assert "ceiling is a bound, not a competitor" in shown(with_bound())
    assert "efficiency" not in shown(summarise(pairs(3))).lower()
    assert "bound" not in markdown_table(summarise(pairs(3)))


def test_a_cell_without_a_bound_beside_one_with_has_a_dash():
    other = {"parameters": {"env_id": "CartPole-v1", "envs": 15, "actions": "driver"}}
    text = markdown_table([*with_bound(), *summarise([record("sequential", 1000, **other)])])
    lines = [line for line in text.split("all 2 cells")[0].splitlines() if line.startswith("| sequential")]
    headings = [line for line in text.splitlines() if line.startswith("| runtime") and "units/s" in line]
    assert [line.split("|")[6].strip() for line in headings] == ["efficiency"] * 2
    assert [line.split("|")[6].strip() for line in lines] == ["0.500 (0.500-0.500)", "-"]


def with_cores(cores=2):
    machine = MACHINE | {"physical_cores": cores}
    return [
        record(name, rate, machine=machine) for name, rate in (("sequential", 1000), ("ray", 10), ("reactor", 1800))
    ]


def test_efficiency_per_core_is_in_every_table(folder):
    report = write_report(folder(with_cores()), figures=False)
    (line,) = [line for line in shown(report.rows).splitlines() if line.startswith("reactor")]
    assert line.split()[4:6] == ["1.80x", "0.900"]
    table = (report.folder / "table.md").read_text()
    assert "| over sequential | per core |" in table
    assert "Per core: the speedup over sequential" in table
    with (report.folder / "summary.csv").open(newline="") as file:
        assert [float(line["efficiency_per_core"]) for line in csv.DictReader(file)] == pytest.approx([0.5, 0.005, 0.9])
    assert "per core" not in markdown_table(summarise(pairs(3))).lower()


def test_efficiency_per_core_gives_way_on_a_narrow_terminal():
    text = shown(summarise(with_cores()), 60)
    assert "core" not in text
    assert "memory" in text


def test_the_round_at_which_a_startup_is_earned_back_is_in_every_table(folder):
    # 15 ms a round against 7.5 ms: 1.5 s more of start-up is earned back after 200 rounds.
    records = [record("sequential", 1000, startup_s=0.5), record("reactor", 2000, startup_s=2.0)]
    report = write_report(folder(records), figures=False)
    assert "200 rounds" in shown(report.rows)
    table = (report.folder / "table.md").read_text()
    assert "2.00 s (200 rounds)" in table
    assert "Rounds below a start-up" in table
    with (report.folder / "summary.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["startup_s"], line["startup_earned_back_rounds"]) for line in lines] == [("0.5", ""), ("2.0", "200")]


@pytest.mark.parametrize(("rates", "noted"), [((1790, 1900), False), ((1900, 1900), True)])
def test_what_was_faster_than_the_bound_in_every_pair_is_noted(rates, noted):
    bounds = [record("ceiling", 1800, b, is_bound=True, digest=None) for b in range(2)]
    rows = summarise([*bounds, *(record("reactor", rate, b) for b, rate in enumerate(rates))])
    assert ("reactor was faster than the bound" in markdown_table(rows)) is noted


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_with_a_bound_keeps_within_its_width_and_cuts_nothing(width):
    text = shown(with_bound(), width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "\u2026" not in text
    assert "memory" in text


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_keeps_within_its_width_and_cuts_nothing(width):
    rates = {"sequential": 91234, "ray": 985.4, "ray-compiled": 15987.6, "reactor": 170123}
    names = [(name, rate * (1 + b / 20), b) for b in range(3) for name, rate in rates.items()]
    text = shown(summarise([record(name, rate, b, startup_s=9.87) for name, rate, b in names]), width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "\u2026" not in text
    assert "memory" in text


def test_nothing_is_coloured_where_there_is_no_terminal():
    assert "\x1b[" not in shown(summarise(pairs(3)))


def test_options_show_only_where_rows_of_one_name_differ():
    alike = summarise([record("reactor", 100, options={"workers": 2}), record("ray", 1, options={"cpus": 2})])
    assert "workers" not in shown(alike)
    differing = summarise([record("reactor", 100, options={"workers": n, "executor": "inline"}) for n in (1, 2)])
    assert "workers=1" in shown(differing)
    assert "executor" not in shown(differing)


def test_a_notice_stands_below_the_table_once():
    records = [record("ray-packed", 100, b, notice="private settings") for b in range(2)]
    rows = summarise(records)
    assert shown(rows).count("ray-packed: private settings") == 1
    assert markdown_table(rows).count("ray-packed: private settings") == 1


def test_text_with_markup_characters_is_shown_as_it_is(folder):
    reason = "KeyError: env[bold] | <b> *x*"
    report = write_report(folder([record("reactor", 1, outcome="failed", reason=reason)]), figures=False)
    console = Console(width=200, file=io.StringIO())
    report.print(console)
    assert reason in console.file.getvalue()
    assert r"env[bold] \| \<b> \*x\*" in (report.folder / "table.md").read_text()


def test_printing_names_the_finding_and_the_files(folder):
    report = write_report(folder(pairs(3)), figures=False)
    console = Console(width=100, file=io.StringIO())
    report.print(console)
    assert "reactor is 1.8x the plain loop and 180x the best Ray on CartPole-v1 x 15." in console.file.getvalue()
    assert "summary.csv, table.md" in console.file.getvalue()


def test_json_holds_rows_status_and_files(folder):
    report = write_report(folder(pairs(3)), figures=False)
    answer = json.loads(json.dumps(report.to_json()))
    assert answer["exit_status"] == 0
    assert answer["files"] == ["summary.csv", "table.md"]
    assert answer["rows"][2]["parameters"]["envs"] == 15
    assert answer["rows"][2]["speedup_over_best_ray"] == pytest.approx(180)


def test_figures_are_written_unless_refused(folder):
    path = folder(pairs(3))
    report = write_report(path)
    assert {file.name for file in report.files} >= {"throughput.svg", "speedups.png", "speedups.csv"}
    assert all(file.stat().st_size > 0 for file in report.files)


@pytest.mark.parametrize("wanted", [True, False])
def test_figures_of_an_earlier_report_go_and_those_of_others_stay(folder, wanted):
    path = folder([record("reactor", 100)])
    (path / "figures").mkdir()
    for name in ("speedups.svg", "throughput.csv", "mine.svg"):
        (path / "figures" / name).write_text("stale")
    write_report(path, figures=wanted)
    kept = {file.name for file in (path / "figures").iterdir()}
    drawn = {f"throughput.{kind}" for kind in ("svg", "png", "csv")} if wanted else set()
    assert kept == {"mine.svg"} | drawn


def test_a_file_where_the_figures_belong_is_named(folder):
    path = folder(pairs(1))
    (path / "figures").write_text("")
    with pytest.raises(UsageError, match=r"figures: .*Move that away"):
        write_report(path)
    write_report(path, figures=False)


def test_a_folder_without_records_says_what_to_run(tmp_path):
    with pytest.raises(UsageError, match=r"nothing to report.*reactorbench run SUITE --out"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="nothing to report"):
        write_report(tmp_path / "absent")


def test_a_folder_that_cannot_be_written_is_a_usage_error(folder):
    path = folder(pairs(1))
    (path / "summary.csv").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_report(path, figures=False)


def test_a_line_cut_in_two_does_not_count_and_is_left_alone(folder):
    path = folder(pairs(1))
    with (path / "records.jsonl").open("ab") as file:
        file.write(b'{"schema_version":1,"work')
    before = (path / "records.jsonl").read_bytes()
    report = write_report(path, figures=False)
    assert "cut in two" in report.warnings[0]
    assert len(report.rows) == 3
    assert (path / "records.jsonl").read_bytes() == before


def test_a_record_with_only_the_oldest_fields_is_reported(tmp_path):
    oldest = ("workload", "parameters", "runtime", "options", "seed", "block", "outcome")
    fields = {name: value for name, value in msgspec.to_builtins(record("reactor", 1)).items() if name in oldest}
    (tmp_path / "records.jsonl").write_text(
        json.dumps(fields | {"rounds_s": [0.1, 0.1], "units_per_round": 15})
        + "\n"
        + json.dumps(fields | {"block": 1})
        + "\n"
    )
    (row,) = write_report(tmp_path).rows
    assert row.units_per_s.point == pytest.approx(150)


def test_records_of_different_machines_are_warned_about(folder):
    other = {"cpu_model": "Otherium", "processors": 64}
    report = write_report(folder([record("sequential", 1), record("reactor", 2, machine=other)]), figures=False)
    assert "different machines" in report.warnings[0]


def test_records_of_different_versions_of_packages_are_warned_about(folder):
    versions = [{"python": "CPython 3.11.7", "packages": {"ray": version}} for version in ("2.50.0", "2.51.0")]
    records = [record("sequential", 1, machine=versions[0]), record("ray", 2, machine=versions[1])]
    (warning,) = write_report(folder(records), figures=False).warnings
    assert "different versions" in warning


@pytest.mark.parametrize(("busy", "warned"), [((0.2, 0.1), False), ((0.31, 0.874), True), ((None, "x"), False)])
def test_invocations_that_began_on_a_busy_machine_are_warned_about(folder, busy, warned):
    machines = [MACHINE | {"busy_before": fraction} for fraction in (*busy, 0.0)]
    path = folder([record("reactor", 1, block, machine=machine) for block, machine in enumerate(machines)])
    report = write_report(path, figures=False)
    said = "2 of 3 invocations began while other programs were busy, with up to 87 % of all processors"
    console = Console(width=300, file=io.StringIO())
    report.print(console)
    texts = (console.file.getvalue(), (path / "table.md").read_text(), str(report.to_json()["warnings"]))
    assert [said in text for text in texts] == [warned] * 3


def test_a_busy_begin_no_longer_counts_once_the_invocation_ran_again(folder):
    busy, quiet = (record("reactor", 1, machine=MACHINE | {"busy_before": b}) for b in (0.9, 0.0))
    assert write_report(folder([busy, quiet]), figures=False).warnings == ()


@pytest.mark.parametrize(
    ("rate", "changes", "said"),
    [
        (5, {"outcome": "failed"}, "ray-packed failed and is not counted among the best Ray."),
        (5, {"outcome": "timeout"}, "ray-packed timed out and is not counted among the best Ray."),
        (5, {"digest": "other"}, "ray-packed is invalid and is not counted among the best Ray."),
        (
            500,
            {"digest": "other"},
            "ray-packed is invalid and is not counted among the best Ray, though its measured rate was higher.",
        ),
    ],
)
def test_a_ray_that_is_left_out_of_the_best_is_named(rate, changes, said):
    rows = summarise([*pairs(1), record("ray-packed", rate, **changes)])
    assert said in markdown_table(rows).replace("\\", "")
    assert "not counted" not in markdown_table(summarise(pairs(1)))


@pytest.mark.parametrize(("number", "coloured"), [(5, False), (6, True)])
def test_only_an_interval_is_coloured(number, coloured):
    console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(summary_table(summarise(pairs(number)), width=100))
    assert ("\x1b[32m" in console.file.getvalue()) is coloured


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ([MACHINE], "Testium 3, 2 processors"),
        ([{"processors": 1}], "1 processor"),
        ([MACHINE, {}], "Testium 3, 2 processors"),
        ([{"processors": "two"}], ""),
        ([], ""),
    ],
)
def test_the_machine_in_a_few_words(facts, line):
    assert machine_line(facts) == line


def test_an_empty_table_can_be_shown_before_the_first_record():
    assert shown([]).strip() == ""


def test_importing_the_report_loads_nothing_heavy():
    program = "import sys, harness.report; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"pandas", "matplotlib", "seaborn", "scipy", "numpy", "rich"}.isdisjoint(answer.stdout.split())
