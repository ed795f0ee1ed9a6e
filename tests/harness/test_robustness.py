"""What may go wrong around a run: nothing measured is lost, nothing is misreported, nothing stays behind."""

from __future__ import annotations

import ast
import json
import resource
import shutil
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

import harness
from harness.errors import UsageError
from harness.invocation import _KEPT_OF_LOG, _LONGEST_LOG
from harness.records import SCHEMA_VERSION, Record, RecordFile
from harness.report import write_report
from harness.runner import alone_in
from harness.scratch import remove_stale_folders, temporary_folder
from tests.harness.test_running import QUICK, children_of, outcomes_in, records_in, wait_until

EARLIER = Path(__file__).with_name("earlier_records")


# ----------------------------------------------------------------------------------------- full disk


def test_a_disk_that_fills_up_loses_nothing_that_was_measured_and_the_run_goes_on_after_room_was_made(
    reactorbench, tmp_path
):
    folder = tmp_path / "mine"
    arguments = (
        *("run", "--workload", "counting", "--runtime", "plain", "--runtime", "other", "--warmup-rounds", "3"),
        *("--rounds", "4", "--measure-s", "0", "--no-figures", "--out", folder),
    )
    assert reactorbench(*arguments, "--invocations", "1").returncode == 0
    size = (folder / "records.jsonl").stat().st_size

    def leave_room_for_half_a_record():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + size // 4, size + size // 4))

    reactorbench.options["preexec_fn"] = leave_room_for_half_a_record
    full = reactorbench(*arguments, "--resume", "--invocations", "2")
    reactorbench.options.pop("preexec_fn")

    assert full.returncode == 3, full.stderr
    assert "Make room" in full.stderr
    assert "Traceback" not in full.stderr
    assert len(RecordFile(folder).read()) == 2
    assert list(reactorbench.temporary.iterdir()) == []

    done = reactorbench("run", "--resume", "--out", folder, "--no-figures")

    assert done.returncode == 0, done.stderr
    assert "was cut in two" in done.stdout + done.stderr
    assert sorted(outcomes_in(folder)) == [(name, block, "ok") for name in ("other", "plain") for block in (0, 1)]


def test_a_record_that_finds_no_room_is_no_silent_loss(tmp_path):
    (tmp_path / "records.jsonl").symlink_to("/dev/full")
    file = RecordFile(tmp_path)

    with pytest.raises(OSError, match="No space left"):
        file.append(RecordFile(_copy_of(tmp_path / "earlier", "schema-1.jsonl")).read()[0])


# ------------------------------------------------------------------------------------ killed harness


def test_a_harness_that_is_killed_loses_nothing_but_what_ran_and_the_next_one_cleans_up_after_it(
    reactorbench, tmp_path
):
    folder = tmp_path / "mine"
    process = reactorbench.start(
        *("run", "--workload", "counting", "--runtime", "plain", "--runtime", f"pausing:where={tmp_path / 'go'}"),
        *(*QUICK, "--out", folder),
    )
    wait_until(lambda: len(records_in(folder)) == 1 and list((folder / "logs").glob("002-*")), process)
    process.kill()
    process.communicate()

    assert len(outcomes_in(folder)) == 1
    assert list(reactorbench.temporary.iterdir()) != []

    (tmp_path / "go").touch()
    done = reactorbench("run", "--resume", "--out", folder, "--no-figures")

    assert done.returncode == 0, done.stderr
    assert sorted(outcomes_in(folder)) == [("pausing", 0, "ok"), ("plain", 0, "ok")]
    assert list(reactorbench.temporary.iterdir()) == []
    assert children_of(reactorbench) == []


def test_only_folders_of_processes_that_ended_are_cleaned_up(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in (f"rb-{gone.pid}-abc", "rb-abc", "somebody's"):
        (tmp_path / name).mkdir()

    with temporary_folder() as own:
        remove_stale_folders()
        assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([own.name, "rb-abc", "somebody's"])
    assert not own.exists()


# ------------------------------------------------------------------------------- two runs, one folder


def test_a_second_run_into_a_folder_is_refused_and_the_first_one_is_not_disturbed(reactorbench, tmp_path):
    folder = tmp_path / "mine"
    first = reactorbench.start(
        *("run", "--workload", "counting", "--runtime", f"pausing:where={tmp_path / 'go'}", *QUICK, "--out", folder),
    )
    wait_until(lambda: list((folder / "logs").glob("001-*")), first)

    second = reactorbench("run", "--resume", "--out", folder)
    (tmp_path / "go").touch()
    _, said = first.communicate(timeout=60)

    assert second.returncode == 2
    assert f"Another run measures into {folder}" in second.stderr
    assert first.returncode == 0, said
    assert outcomes_in(folder) == [("pausing", 0, "ok")]


def test_a_folder_is_free_again_once_its_run_has_ended(tmp_path):
    (tmp_path / "logs").mkdir()

    with alone_in(tmp_path), pytest.raises(UsageError, match="Another run"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass


# ------------------------------------------------------------------------------------ older records


def _copy_of(folder, name):
    folder.mkdir()
    shutil.copy(EARLIER / name, folder / "records.jsonl")
    return folder


def test_every_schema_there_was_has_records_here():
    schemas = {record.schema_version for path in EARLIER.iterdir() for record in _records_of(path)}

    assert schemas == set(range(1, SCHEMA_VERSION + 1))


def _records_of(path):
    return [msgspec.json.decode(line, type=Record) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("name", sorted(path.name for path in EARLIER.iterdir()))
def test_records_of_every_earlier_schema_are_reported(tmp_path, name):
    folder = _copy_of(tmp_path / "earlier", name)

    report = write_report(folder, figures=False)

    records = RecordFile(folder).read()
    measured = {record.runtime for record in records if record.outcome == "ok"}
    assert {row.runtime for row in report.rows if row.units_per_s is not None} == measured
    assert {row.runtime for row in report.rows} == {record.runtime for record in records}
    reactor = next(row for row in report.rows if row.runtime == "reactor")
    assert reactor.over_sequential is not None


def test_a_record_of_a_later_schema_is_refused_with_the_remedy(tmp_path):
    folder = _copy_of(tmp_path / "later", "schema-1.jsonl")
    line = json.loads((folder / "records.jsonl").read_text(encoding="utf-8").splitlines()[0])
    later = json.dumps(line | {"schema_version": SCHEMA_VERSION + 1})
    (folder / "records.jsonl").write_text(later + "\n", encoding="utf-8")

    with pytest.raises(UsageError, match="Update reactorbench"):
        RecordFile(folder).read()


# --------------------------------------------------------------------------------- a clock that jumps


JUMPING = '''
import itertools, time
real, calls = time.time, itertools.count()
def jumped():
    """A day further back with every look at it, and after a thousand on again."""
    return real() - 86_400 * (next(calls) % 1000)
time.time = jumped
'''


def test_a_clock_that_jumps_changes_no_duration_and_ends_no_invocation(reactorbench, tmp_path):
    customised = tmp_path / "customised"
    customised.mkdir()
    (customised / "sitecustomize.py").write_text(JUMPING, encoding="utf-8")
    path = reactorbench.options["env"]["PYTHONPATH"]
    reactorbench.options["env"]["PYTHONPATH"] = f"{customised}:{path}"
    began_s = time.monotonic()

    done = reactorbench(
        *("run", "--workload", "counting", "--runtime", "plain", "--runtime", "other", "--invocations", "2"),
        *("--warmup-rounds", "3", "--rounds", "4", "--measure-s", "0.3", "--no-figures", "--out", "mine"),
    )

    took_s = time.monotonic() - began_s
    records = records_in(tmp_path / "mine")
    assert done.returncode == 0, done.stderr
    assert [record.outcome for record in records] == ["ok"] * 4
    assert all(0.3 <= record.measured_s <= took_s for record in records)
    assert all(0 <= record.startup_s <= took_s and 0 <= record.teardown_s <= took_s for record in records)
    assert len({record.started_at[:10] for record in records}) > 1, "the clock did not jump"


# ------------------------------------------------------------------------------------ unruly children


def test_a_child_that_ignores_sigterm_is_ended_by_force_and_the_rest_goes_on(reactorbench, tmp_path):
    done = reactorbench(
        *("run", "--workload", "counting", "--runtime", "deaf", "--runtime", "plain", "--timeout-s", "2"),
        *(*QUICK, "--out", "mine"),
    )

    assert done.returncode == 124
    assert sorted(outcomes_in(tmp_path / "mine")) == [("deaf", 0, "timeout"), ("plain", 0, "ok")]
    assert children_of(reactorbench) == []


def test_a_child_that_floods_its_output_does_not_fill_the_disk_and_its_measurement_counts(in_this_process, tmp_path):
    done = in_this_process("run", "--workload", "counting", "--runtime", "flooding", *QUICK, "--out", "mine")

    (record,) = records_in(tmp_path / "mine")
    log = tmp_path / "mine" / record.log
    assert done.returncode == 0, done.stderr
    assert record.outcome == "ok"
    assert log.stat().st_size <= _LONGEST_LOG
    assert b"The log grew too long" in log.read_bytes()
    assert log.read_bytes().startswith(b"water ")
    assert log.stat().st_size > _KEPT_OF_LOG


# ------------------------------------------------------------------------------------------ odd names


def test_an_odd_name_is_measured_and_reported_like_any_other(in_this_process, tmp_path):
    name = 'odd | <b>&"ü"%; $(true)'
    done = in_this_process(
        *("run", "--workload", "counting", "--runtime", "plain", "--runtime", name, *QUICK[:-1], "--out", "my runs/ä"),
    )

    folder = tmp_path / "my runs" / "ä"
    assert done.returncode == 0, done.stderr
    assert {runtime for runtime, _, _ in outcomes_in(folder)} == {"plain", name}
    assert all((folder / record.log).exists() for record in records_in(folder))
    assert name in (folder / "summary.csv").read_text(encoding="utf-8").replace('""', '"')
    assert "odd \\| \\<b>" in (folder / "table.md").read_text(encoding="utf-8")
    assert len(list((folder / "figures").glob("*.svg"))) > 0


# --------------------------------------------------------------------------------------------- pickle


def test_no_module_of_the_harness_can_load_a_pickle():
    """What lies in a results folder may come from anywhere; a pickle could run whatever its author likes."""
    loaders = {"pickle", "_pickle", "cloudpickle", "dill", "shelve", "joblib", "marshal"}
    found = []
    # The conformance suite pickles options, and reads no folder of results.
    modules = [path for path in Path(harness.__file__).parent.rglob("*.py") if not path.name.startswith("test_")]
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: {name}" for name in names if name.split(".")[0] in loaders]
            if isinstance(node, ast.Attribute) and node.attr in {"read_pickle", "loads_pickle"}:
                found.append(f"{path.name}: {node.attr}")
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                found.append(f"{path.name}: allow_pickle")
    assert found == []
