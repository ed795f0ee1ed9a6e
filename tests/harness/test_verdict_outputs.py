"""The forms of a comparison: each says the same, reads back whatever the names are, and agrees with the exit status."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import JUnitXml
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console

from harness.errors import ExitStatus, UsageError
from harness.regression.actions import MOST_ANNOTATIONS, MOST_CHARACTERS, MOST_SUMMARY_BYTES, workflow_commands
from harness.regression.data import CSV_COLUMNS
from harness.regression.judged import Judged
from harness.regression.judging import Judgement, Side, Verdict
from harness.regression.markdown import markdown
from harness.regression.outputs import annotate, print_judged, to_json, verdict_table, write_outputs
from harness.regression.pairs import Pair
from harness.regression.phrases import change_in_words, decided_by, interval_in_words, visible
from harness.statistics import INTERVAL, Estimate

COMPARED = {Verdict.FASTER, Verdict.SLOWER, Verdict.SAME, Verdict.INCONCLUSIVE}
ODD = 'a|b <i>&amp; "x" \\| `c` *d* _e_ \x00\x1b[31m\x07 \ufffe 1\n2 \u2028 \U0001f9ea ]] %0A:,'


def ratio_of(point, width=1.02):
    return Estimate(point=point, low=point / width, high=point * width, n=24, kind=INTERVAL)


def pair(number=0):
    return Pair(block=number, seed=number, rounds=10, base_s=1.0, head_s=1.1, base_line=2 * number + 1, head_line=2)


def judgement(verdict=Verdict.SAME, **changes):
    """One of `verdict`, with all that such a one has."""
    points = {Verdict.FASTER: 1.25, Verdict.SLOWER: 1 / 1.1, Verdict.SAME: 1.0, Verdict.INCONCLUSIVE: 0.95}
    side = Side(units_per_s=1234.0, quantiles_s={"p50": 0.001, "p95": 0.002, "p99": None})
    measured = {
        "ratio": ratio_of(points.get(verdict, 1.0)),
        "pairs": tuple(map(pair, range(24))),
        "base": side,
        "head": side,
        "detectable": 0.043,
    }
    known = {
        "workload": "simulation",
        "parameters": {"envs": 4},
        "runtime": "reactor",
        "options": {},
        "verdict": verdict,
        **(measured if verdict in COMPARED else {"reasons": (f"it is {verdict.value}",)}),
    }
    return Judgement(**(known | changes))


def judged(*judgements, **changes):
    return Judged(
        **({"title": "A check", "base_name": "main", "head_name": "topic", "judgements": judgements} | changes)
    )


def printed(this, width=160, *, terminal=False):
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system="standard" if terminal else None
    )
    print_judged(this, console)
    return console.file.getvalue()


def cases_of(this, folder):
    write_outputs(this, folder)
    return [case for suite in JUnitXml.fromfile(str(folder / "junit.xml")) for case in suite]


def csv_lines(folder):
    return list(csv.DictReader(io.StringIO((folder / "verdicts.csv").read_text(encoding="utf-8"), newline="")))


def table_of(text):
    """The fields of all tables in Markdown `text`, line by line, as they are read."""
    lines = []
    for token, inline in zip(tokens := MarkdownIt("commonmark").enable("table").parse(text), tokens[1:], strict=False):
        if token.type == "tr_open":
            lines.append([])
        elif token.type in {"td_open", "th_open"}:
            lines[-1].append("".join(child.content for child in inline.children))
    return lines


# ------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1 / 1.1, "takes 10.0 % longer"),
        (1.25, "takes 20.0 % less time"),
        (1.0, "takes as long"),
        (0.05, "takes 20.0 times as long"),
        (20.0, "takes 95.0 % less time"),
    ],
)
def test_a_ratio_of_speeds_is_said_as_a_change_of_the_time(ratio, words):
    assert change_in_words(ratio) == words


def test_the_interval_of_the_time_has_its_smaller_end_first():
    assert interval_in_words(Estimate(point=0.9, low=0.8, high=1.0, n=24, kind=INTERVAL)) == "+0.0 % to +25.0 %"
    assert interval_in_words(Estimate(point=0.2, low=0.1, high=0.25, n=24, kind=INTERVAL)) == "4.00 to 10.0 times"


@pytest.mark.parametrize(
    ("judgements", "said"),
    [
        ([judgement()], "Exit status 0: no cell is slower."),
        (
            [judgement(), judgement(Verdict.INCONCLUSIVE, runtime="ray")],
            "Exit status 0: no cell is slower; 1 cell inconclusive.",
        ),
        ([judgement(Verdict.SLOWER)], "Exit status 1: 1 cell is slower (envs=4, reactor)."),
        (
            [judgement(Verdict.SLOWER), judgement(Verdict.FAILED, runtime="ray"), judgement(Verdict.INVALID)],
            "Exit status 3: 2 cells failed or are invalid (envs=4, ray; envs=4, reactor).",
        ),
        (
            [judgement(Verdict.INCONCLUSIVE, hides_target=True)],
            "Exit status 4: 1 cell is inconclusive and may hide a slowdown of 10.0 % (envs=4, reactor).",
        ),
        ([judgement(Verdict.NEW)], "Exit status 4: nothing was compared."),
        ([], "Exit status 4: nothing was compared."),
    ],
)
def test_what_decided_over_the_exit_status_is_said(judgements, said):
    assert decided_by(judged(*judgements)) == said


# ---------------------------------------------------------------------------------------- terminal


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_terminal_shows_the_verdict_as_a_word_within_its_width(width, verdict):
    text = printed(judged(judgement(verdict), judgement(runtime="ray", q_value=0.01)), width)

    assert re.search(rf"\b{verdict.value}\b", text)
    assert max(map(cell_len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_shows_change_interval_pairs_and_quantiles_of_both_sides(width):
    text = printed(judged(judgement(Verdict.SLOWER)), width)

    for expected in ("takes 10.0 % longer", "+7.8 % to +12.2 %", "0.909x", "4.3 %", "24", "p50 1.00 ms", "p95 2.00 ms"):
        assert expected in text
    assert "p99" not in text  # of neither


def test_the_text_of_the_folder_is_what_a_terminal_shows_in_plain_characters(tmp_path):
    this = judged(judgement(Verdict.SLOWER), judgement(workload="other"))
    write_outputs(this, tmp_path)
    text = (tmp_path / "verdicts.txt").read_text(encoding="utf-8")

    assert text.isascii()
    assert all(line.rstrip() in text.splitlines() for line in printed(this, 120).splitlines() if line.isascii())


def test_colours_are_for_terminals_only():
    slower = judged(judgement(Verdict.SLOWER))

    assert "\x1b[1;31mslower" in printed(slower, terminal=True)
    assert "\x1b" not in printed(slower)


def test_the_columns_of_all_workloads_are_aligned():
    text = printed(judged(judgement(), judgement(Verdict.SLOWER, workload="broadcast_gather", parameters={"n": 10**9})))

    headings = [line for line in text.splitlines() if "verdict" in line]
    assert len(headings) == 2
    assert len({line.index("pairs") for line in headings}) == 1


def test_q_values_are_shown_where_several_cells_were_judged():
    assert " q " in printed(judged(judgement(q_value=0.0001), judgement(runtime="ray", q_value=0.2)))
    assert " q " not in printed(judged(judgement()))


def test_the_table_of_the_progress_shows_no_notes():
    console = Console(file=io.StringIO(), width=100)
    console.print(verdict_table([judgement(Verdict.FAILED, reasons=("it fell over",))], width=100))

    assert "fell over" not in console.file.getvalue()


def test_no_character_of_a_name_reaches_the_terminal_as_a_command():
    text = printed(judged(judgement(workload=ODD, reasons=(ODD,)), title=ODD, warnings=(ODD,)), terminal=True)

    assert "\x1b[31m\x07" not in text
    assert "\\x07" in text


# ------------------------------------------------------------------------------------------ forms


def odd_ones():
    """Every verdict with names that every form finds hard."""
    return judged(
        *[
            judgement(
                verdict,
                workload=f"w{ODD}",
                parameters={ODD: ODD, "n": number},
                runtime=f"r{ODD}",
                options={"o": ODD},
                reasons=(ODD,),
                flags=(ODD,),
                unit=ODD,
                profile=f"profiles/{ODD}",
            )
            for number, verdict in enumerate(Verdict)
        ],
        title=ODD,
        base_name=ODD,
        head_name=ODD,
        warnings=(ODD,),
        stamps=(ODD,),
        machine=ODD,
        command=ODD,
    )


def test_odd_names_come_back_from_junit_as_they_are_shown(tmp_path):
    cases = cases_of(odd_ones(), tmp_path)

    assert len(cases) == len(Verdict)
    assert all(visible(ODD) in case.name and visible(f"w{ODD}.r{ODD}") in case.classname for case in cases)
    assert all(visible(f"profiles/{ODD}") in case.system_out for case in cases)


def test_odd_names_come_back_from_markdown_as_they_are_shown(tmp_path):
    write_outputs(odd_ones(), tmp_path)
    text = (tmp_path / "verdicts.md").read_text(encoding="utf-8")

    heading, *lines = table_of(text)
    assert [len(line) for line in lines] == [len(heading)] * len(Verdict)
    assert all(visible(ODD) in line[0] for line in lines)
    assert [line[1] for line in lines] == [verdict.value for verdict in Verdict]


def test_odd_names_come_back_from_csv_and_json(tmp_path):
    write_outputs(odd_ones(), tmp_path)
    lines = csv_lines(tmp_path)
    stored = msgspec.json.decode((tmp_path / "verdicts.json").read_bytes())

    assert [line["verdict"] for line in lines] == [verdict.value for verdict in Verdict]
    assert all(msgspec.json.decode(line["parameters"])[ODD] == ODD for line in lines)
    assert [one["runtime"] for one in stored["judgements"]] == [f"r{ODD}"] * len(Verdict)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_any_name_comes_back_from_junit_and_markdown(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    this = judged(judgement(Verdict.SLOWER, runtime=text, reasons=(text,)))
    (case,) = cases_of(this, folder)
    shown = visible(text)

    assert case.name == f"envs=4, {shown}"
    _, line = table_of((folder / "verdicts.md").read_text(encoding="utf-8"))
    assert line[0] == f"envs=4 ({shown})"


def test_json_has_everything_and_says_which_schema_it_is_of():
    stored = msgspec.json.decode(
        msgspec.json.encode(to_json(judged(judgement(Verdict.SLOWER), command="x", stamps=("s",))))
    )

    assert stored["schema_version"] == 1
    assert stored["exit_status"] == 1
    assert (stored["command"], stored["stamps"]) == ("x", ["s"])
    (one,) = stored["judgements"]
    assert len(one["pairs"]) == 24
    assert one["pairs"][0]["base_line"] == 1
    assert one["time_change"] == pytest.approx(0.1)
    assert one["time_change_low"] < one["time_change"] < one["time_change_high"]


def test_csv_has_the_documented_columns_in_order(tmp_path, repository):
    write_outputs(judged(judgement(Verdict.SLOWER), judgement(Verdict.MISSING)), tmp_path)
    slower, missing = csv_lines(tmp_path)
    documented = (repository / "docs/measuring.md").read_text(encoding="utf-8")

    assert tuple(slower) == CSV_COLUMNS
    assert float(slower["time_change"]) == pytest.approx(0.1)
    assert missing["speed_ratio"] == ""
    assert [name for name in CSV_COLUMNS if f"`{name}`" not in documented] == []


def test_what_was_not_interleaved_says_so_in_every_form(tmp_path):
    this = judged(judgement(interleaved=False), interleaved=False)
    write_outputs(this, tmp_path)

    assert "Not interleaved" in printed(this)
    assert "not interleaved" in (tmp_path / "verdicts.md").read_text(encoding="utf-8")
    assert "not interleaved" in (tmp_path / "junit.xml").read_text(encoding="utf-8")
    assert csv_lines(tmp_path)[0]["interleaved"] == "False"
    assert to_json(this)["judgements"][0]["interleaved"] is to_json(this)["interleaved"] is False
    assert any("not interleaved" in line for line in workflow_commands(this))


def test_a_stamp_stands_on_every_form(tmp_path):
    this = judged(judgement(), stamps=("FORCED: the machines differ",))
    write_outputs(this, tmp_path)

    assert "FORCED" in printed(this)
    for name in ("verdicts.csv", "verdicts.json", "verdicts.md", "junit.xml"):
        assert "FORCED" in (tmp_path / name).read_text(encoding="utf-8"), name
    assert any("FORCED" in line for line in workflow_commands(this))


def test_a_profile_is_linked_from_every_form(tmp_path):
    this = judged(judgement(Verdict.SLOWER, profile="profiles/one.svg"))
    write_outputs(this, tmp_path)

    assert "profiles/one.svg" in printed(this)
    for name in ("verdicts.csv", "verdicts.json", "verdicts.md", "junit.xml"):
        assert "profiles/one.svg" in (tmp_path / name).read_text(encoding="utf-8"), name


def test_markdown_of_the_folder_links_a_profile_and_that_of_a_summary_names_it():
    this = judged(judgement(Verdict.SLOWER, profile="profiles/a_b.svg"))

    assert "[profiles/a\\_b.svg](profiles/a_b.svg)" in markdown(this)
    assert "profiles/a\\_b.svg." in markdown(this, MOST_SUMMARY_BYTES)
    assert "](" not in markdown(this, MOST_SUMMARY_BYTES)


def test_verdicts_that_cannot_be_written_are_a_message(tmp_path):
    (tmp_path / "junit.xml").mkdir()

    with pytest.raises(UsageError, match="cannot be written"):
        write_outputs(judged(judgement()), tmp_path)


# ------------------------------------------------------------------------------------------- junit

judgements = st.builds(
    lambda verdict, hides, number: judgement(
        verdict, parameters={"envs": number}, hides_target=hides and verdict is Verdict.INCONCLUSIVE
    ),
    st.sampled_from(Verdict),
    st.booleans(),
    st.integers(0, 3),
)


@given(found=st.lists(judgements, max_size=6))
@settings(deadline=None, max_examples=150)
def test_a_case_is_not_ok_exactly_where_the_exit_status_is_not_0(found, tmp_path_factory):
    this = judged(*found)
    cases = cases_of(this, tmp_path_factory.mktemp("junit"))

    assert any(case.result for case in cases) == (this.exit_status is not ExitStatus.OK)
    if any(one.status is not ExitStatus.OK for one in found):
        assert [bool(case.result) for case in cases if case.classname != "comparison"] == [
            one.status is not ExitStatus.OK for one in sorted(found, key=lambda one: one.workload)
        ]


@pytest.mark.parametrize(
    ("one", "tag"),
    [
        (judgement(Verdict.SLOWER), "failure"),
        (judgement(Verdict.FAILED), "error"),
        (judgement(Verdict.TIMEOUT), "error"),
        (judgement(Verdict.INVALID), "error"),
        (judgement(Verdict.MISSING), "error"),
        (judgement(Verdict.NOT_COMPARABLE), "error"),
        (judgement(Verdict.INCONCLUSIVE, hides_target=True), "error"),
        (judgement(Verdict.INCONCLUSIVE), None),
        (judgement(Verdict.NEW), None),
        (judgement(Verdict.FASTER), None),
    ],
)
def test_slower_is_a_failure_and_what_else_ends_badly_an_error(one, tag, tmp_path):
    case, *_ = cases_of(judged(one, judgement()), tmp_path)

    assert [result._tag for result in case.result] == ([tag] if tag else [])
    assert f"verdict: {one.verdict.value}" in case.system_out


def test_each_workload_is_a_suite_with_right_numbers(tmp_path):
    this = judged(judgement(), judgement(Verdict.SLOWER, workload="other"), judgement(Verdict.FAILED))
    write_outputs(this, tmp_path)
    first, second = JUnitXml.fromfile(str(tmp_path / "junit.xml"))

    assert (first.name, first.tests, first.failures, first.errors) == ("simulation", 2, 0, 1)
    assert (second.name, second.tests, second.failures, second.errors) == ("other", 1, 1, 0)


# --------------------------------------------------------------------------------- GitHub Actions


def read_back(line):
    """Level, title and message of a workflow command, as the runner reads them."""
    level, title, message = re.fullmatch(r"::(error|warning|notice) title=([^:,\r\n]*)::([^\r\n]*)", line).groups()
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ",")):
        title = title.replace(code, character)
    return level, title.replace("%25", "%"), message.replace("%25", "%")


def test_nothing_is_annotated_elsewhere(tmp_path):
    stream, summary = io.StringIO(), tmp_path / "summary"

    annotate(judged(judgement(Verdict.SLOWER)), {"GITHUB_STEP_SUMMARY": str(summary)}, stream)

    assert (stream.getvalue(), summary.exists()) == ("", False)


def test_github_gets_annotations_and_its_summary_is_appended_to(tmp_path):
    stream, summary = io.StringIO(), tmp_path / "summary"
    summary.write_text("before\n", encoding="utf-8")

    annotate(judged(judgement(Verdict.SLOWER)), {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}, stream)

    assert stream.getvalue().startswith("::error title=slower%3A simulation::envs=4, reactor is slower")
    assert summary.read_text(encoding="utf-8").startswith("before\n## A check")


def test_a_summary_that_cannot_be_written_does_not_change_the_verdict(tmp_path):
    stream = io.StringIO()

    annotate(judged(judgement()), {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path)}, stream)

    assert "The summary cannot be written" in stream.getvalue()


def test_odd_names_come_back_from_annotations_one_line_each():
    commands = workflow_commands(odd_ones())

    read = [read_back(line) for line in commands]
    assert all("\n" not in line and "\r" not in line for line in commands)
    assert ("stamp", visible(ODD)) in [(title, message) for _, title, message in read]
    assert any(title == f"slower: {visible(f'w{ODD}')}" for _, title, _ in read)


def test_of_each_level_there_are_no_more_than_github_shows_and_the_last_one_counts_the_rest():
    many = [judgement(Verdict.SLOWER, parameters={"envs": n}, ratio=ratio_of(1 / (1.1 + n / 100))) for n in range(30)]
    many += [judgement(Verdict.INCONCLUSIVE, parameters={"envs": n}) for n in range(30)]
    many += [judgement(Verdict.FAILED, parameters={"envs": 99})]

    read = [read_back(line) for line in workflow_commands(judged(*many))]

    errors = [message for level, _, message in read if level == "error"]
    warnings = [message for level, _, message in read if level == "warning"]
    assert len(errors) == len(warnings) == MOST_ANNOTATIONS
    assert errors[0].startswith("envs=99, reactor failed")
    assert errors[1].startswith("envs=29, reactor is slower")
    assert errors[-1].startswith("22 more")
    assert warnings[-1].startswith("21 more")


def test_a_message_is_no_longer_than_the_runner_takes():
    (error,) = [
        read_back(line)
        for line in workflow_commands(judged(judgement(Verdict.FAILED, reasons=("x" * 9000,)), judgement()))
        if line.startswith("::error")
    ]

    assert len(error[2]) == MOST_CHARACTERS


def test_where_nothing_was_compared_there_is_an_error():
    assert any(line.startswith("::error") for line in workflow_commands(judged(judgement(Verdict.NEW))))


def test_a_summary_that_would_be_too_large_is_cut_at_a_line_and_says_so(tmp_path):
    summary = tmp_path / "summary"
    summary.write_text("." * 300_000 + "\n", encoding="utf-8")
    many = judged(*[judgement(Verdict.FAILED, parameters={"envs": n}, reasons=("x" * 900,)) for n in range(1500)])

    annotate(many, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}, io.StringIO())

    text = summary.read_text(encoding="utf-8")
    assert MOST_SUMMARY_BYTES - 2000 < len(text.encode()) <= MOST_SUMMARY_BYTES
    assert "The rest is cut off here" in text.splitlines()[-1]


@given(most=st.integers(0, 3000))
def test_markdown_is_never_larger_than_asked_for(most):
    this = judged(judgement(), replace(judgement(), runtime="ray"))

    assert len(markdown(this, most).encode()) <= most
