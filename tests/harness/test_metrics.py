"""What else is measured: metrics by name, our own and those of a plug-in."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest

from harness.metrics import CONTEXT_SWITCHES, CPU_S
from harness.records import RecordFile

RUN = ["--workload", "counting", "--runtime", "plain", "--invocations", "1", "--warmup-rounds", "7", "--rounds", "5"]


def measure(in_this_process, tmp_path, *arguments):
    done = in_this_process("run", *RUN, "--measure-s", "0.01", "--no-figures", "--out", tmp_path / "out", *arguments)
    assert done.returncode == 0, done.stderr
    (record,) = RecordFile(tmp_path / "out").read()
    return done, record


def test_a_metric_covers_the_measured_rounds_and_no_others(in_this_process, tmp_path):
    done, record = measure(in_this_process, tmp_path, "--metric", "fired")

    assert record.metrics == {"fired": 3 * record.measured_rounds}
    assert "fired: Is for tests. (firings; more is better), the median." in done.stdout


def test_a_metric_that_fails_costs_its_value_only_and_the_log_says_why(in_this_process, tmp_path):
    chosen = [word for name in ("no_begin", "fired", "no_end", "endless") for word in ("--metric", name)]

    _, record = measure(in_this_process, tmp_path, *chosen)

    assert record.outcome == "ok"
    assert set(record.metrics) == {"fired"}
    log = (tmp_path / "out" / record.log).read_text(encoding="utf-8")
    assert "ArithmeticError: no number today" in log
    assert all(f"Metric '{name}' failed" in log for name in ("no_begin", "no_end", "endless"))


def test_processor_time_and_context_switches_are_columns_of_every_table(in_this_process, tmp_path):
    done, record = measure(in_this_process, tmp_path, "--metric", "cpu_s", "--metric", "context_switches")

    assert set(record.metrics) == {"cpu_s", "context_switches"}
    assert all(value >= 0 for value in record.metrics.values())
    heading = next(line for line in done.stdout.splitlines() if "memory" in line)
    assert heading.split()[-3:] == ["memory", "switches", "s"]
    page = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert re.search(r"\| +memory \| +context_switches \| +cpu_s \|", page)
    shown = json.loads(in_this_process("report", tmp_path / "out", "--json", "--no-figures").stdout)
    assert shown["rows"][0]["metrics"] == record.metrics


def test_without_a_metric_there_is_no_column_for_one(in_this_process, tmp_path):
    done, record = measure(in_this_process, tmp_path)

    assert record.metrics == {}
    assert "cpu_s" not in done.stdout


def test_a_cell_measures_what_its_suite_says_or_what_it_says_itself(in_this_process, tmp_path):
    suite = tmp_path / "suite.toml"
    suite.write_text(
        'runtimes = ["plain"]\nmetrics = ["fired"]\ninvocations = 1\nwarmup_rounds = 0\nrounds = 2\nmeasure_s = 0\n'
        '[[cell]]\nworkload = "counting"\n'
        '[[cell]]\nworkload = "counting"\nparameters = { width = 2 }\nmetrics = ["cpu_s"]\n',
        encoding="utf-8",
    )

    done = in_this_process("run", suite, "--no-figures", "--out", tmp_path / "out")

    assert done.returncode == 0, done.stderr
    measured = {record.parameters["width"]: set(record.metrics) for record in RecordFile(tmp_path / "out").read()}
    assert measured == {3: {"fired"}, 2: {"cpu_s"}}


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (["--metric", "cpu"], "Unknown metric 'cpu'. Did you mean 'cpu_s'?"),
        (["--metric", "cpu_s", "--metric", "cpu_s"], "the same metric twice: cpu_s"),
    ],
)
def test_a_wrong_metric_is_said_before_anything_runs(in_this_process, tmp_path, chosen, said):
    done = in_this_process("run", *RUN, "--out", tmp_path / "out", *chosen)

    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_processor_time_is_that_of_the_work_done():
    before = CPU_S.begin()
    end_s = time.process_time() + 0.2
    while time.process_time() < end_s:
        pass

    assert 0.15 < CPU_S.end(before) < 10


def test_context_switches_of_all_threads_count():
    before = CONTEXT_SWITCHES.begin()
    done = threading.Event()

    def sleep():
        for _ in range(50):
            time.sleep(0.001)
        done.wait()

    thread = threading.Thread(target=sleep)
    thread.start()
    time.sleep(0.3)
    counted = CONTEXT_SWITCHES.end(before)
    done.set()
    thread.join()

    assert counted >= 50
