"""`reactorbench trace` and `reactorbench verify`, as people type them."""

from __future__ import annotations

import json

import pytest

TRACED = ("--runtime", "traced")


def test_a_trace_shows_the_summary_and_writes_the_timeline(in_this_process, tmp_path):
    done = in_this_process(
        "trace", "counting", "--runtime", "traced:workers=2", "--rounds", "7", "--output", "seen.json"
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "7 rounds took no time at all"
    assert "Open seen.json in https://ui.perfetto.dev" in done.stdout
    assert "not for the user's eyes" not in done.stdout
    assert (tmp_path / "seen.json").read_text(encoding="utf-8") == "7 rounds with 2 workers"


def test_a_trace_without_a_file_has_one_named_after_the_workload(in_this_process, tmp_path):
    done = in_this_process("trace", "counting", *TRACED)

    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("*.json")] == ["counting-timeline.json"]


@pytest.fixture
def recorded(in_this_process, tmp_path):
    """Records a run of the workload `counting`, with these arguments; gives the path of the recording."""

    def record(name, *arguments):
        done = in_this_process("trace", "counting", *TRACED, "--rounds", "3", "--record", name, *arguments)
        assert done.returncode == 0, done.stderr
        return tmp_path / name

    return record


def test_runs_that_computed_the_same_are_verified(in_this_process, recorded):
    one, other = recorded("a", "--set", "width=2"), recorded("b", "--set", "width=2")

    done = in_this_process("verify", one, other, *TRACED)

    assert (done.returncode, done.stdout) == (0, "The traces are equal.\n")


def test_a_difference_is_shown_and_gives_status_1(in_this_process, recorded):
    one, other = recorded("a", "--set", "width=2"), recorded("b", "--set", "width=2", "--set", "step=2")

    done = in_this_process("verify", one, other, *TRACED)

    assert (done.returncode, done.stdout) == (1, "'3.0,4.0' is not '6.0,7.0'.\n")


def test_a_file_that_is_no_trace_gives_status_2(in_this_process, tmp_path):
    (tmp_path / "a").write_text("a", encoding="utf-8")

    done = in_this_process("verify", "a", "a", *TRACED)

    assert (done.returncode, done.stdout, done.stderr) == (2, "", "There is no comma in either.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trace", "countng", *TRACED], "Did you mean 'counting'?"),
        (["trace", "counting", "--runtime", "tracd"], "Did you mean 'traced'?"),
        (["trace", "counting", "--runtime", "plain"], "The runtime 'plain' cannot be traced. Those that can: "),
        (["verify", "a", "b", "--runtime", "plain"], "The runtime 'plain' cannot be traced. Those that can: "),
        (["trace", "counting", "--runtime", "traced:worker=1"], "Did you mean 'workers'?"),
        (["trace", "counting", *TRACED, "--set", "width=0"], "it takes int >= 1"),
        (["trace", "counting", *TRACED, "--set", "target=there"], "Target 'there' does not exist. Use 'here'."),
        (["trace", "counting", *TRACED, "--rounds", "0"], "--rounds cannot be 0"),
        (["trace", "counting", *TRACED, "--seed", "-1"], "--seed cannot be -1"),
        (["trace", "counting", *TRACED, "--timeout-s", "0"], "--timeout-s cannot be 0"),
        (["trace", "counting", *TRACED, "--output", "nowhere/a.json"], "nowhere/a.json cannot be written"),
        (["trace", "counting", *TRACED, "--record", "."], ". cannot be written"),
    ],
)
def test_bad_input_is_told_in_one_message_and_nothing_runs(in_this_process, tmp_path, arguments, said):
    done = in_this_process(*arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("*.json")) == []


def test_a_run_that_fails_gives_status_3_with_its_last_output(in_this_process):
    done = in_this_process("trace", "counting", "--runtime", "traced:workers=3")

    assert done.returncode == 3
    assert "OSError: no more than two" in done.stderr.splitlines()
    assert done.stderr.splitlines()[-1] == "The run failed: OSError: no more than two"


def test_a_run_that_hangs_is_ended(in_this_process):
    done = in_this_process("trace", "counting", "--runtime", "traced:where=forever", "--timeout-s", "2")

    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == "The run failed: ended after 2 s; --timeout-s sets the limit"


def test_the_reactor_runtime_computes_the_same_with_any_executor_and_number_of_workers(in_this_process, tmp_path):
    runtimes = {"a": "reactor-inline", "b": "reactor-processes:workers=2", "c": "reactor-processes:workers=3"}
    for name, runtime in runtimes.items():
        seen = in_this_process("trace", "counting", "--runtime", runtime, "--rounds", "5", "--record", name)
        assert seen.returncode == 0, seen.stderr
        assert seen.stdout.startswith("5 tags in ")
        assert all(f"counter[{index}].fire" in seen.stdout for index in range(3))

    for name in ("b", "c"):
        done = in_this_process("verify", "a", name)
        assert (done.returncode, done.stdout) == (0, "The traces are equal.\n")


def test_the_first_difference_of_reactor_runs_is_named_with_tag_reaction_and_port(in_this_process):
    for name, setting in (("a", "step=1"), ("b", "step=2")):
        in_this_process(
            "trace", "counting", "--runtime", "reactor", "--set", setting, "--rounds", "5", "--record", name
        )

    done = in_this_process("verify", "a", "b")

    assert done.returncode == 1
    assert done.stdout.startswith("At tag (1 ns, 0), reaction 'counter[0].fire', port 'out_value': digest ")


def test_the_timeline_of_the_reactor_runtime_shows_rounds_alone(in_this_process, tmp_path):
    in_this_process(
        "trace", "counting", "--runtime", "reactor-processes:workers=2", "--rounds", "5", "--output", "a.json"
    )

    events = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["traceEvents"]

    fired = [event for event in events if event.get("cat") == "reaction"]
    assert {event["name"] for event in fired} == {"fire"}
    assert len(fired) == 5 * 4
    assert {e["args"]["name"] for e in events if e["name"] == "process_name"} == {"tags", "worker 0", "worker 1"}


@pytest.mark.parametrize("missing", ["a", "nowhere/a"])
def test_a_missing_trace_gives_status_2(in_this_process, missing):
    done = in_this_process("verify", missing, missing)

    assert done.returncode == 2
    assert done.stderr == f"Trace {missing} cannot be read: No such file or directory. Name another file.\n"


def test_help_names_both_commands(in_this_process):
    shown = in_this_process("--help").stdout

    assert " trace " in shown
    assert " verify " in shown
