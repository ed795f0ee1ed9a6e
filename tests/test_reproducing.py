"""The page about reproducing the paper: its commands exist, and its times and sizes are those of the suites."""

from __future__ import annotations

import os
import re
import shlex

import pytest

from harness import claims, estimate, ladder
from harness.cli import main
from harness.estimate import Estimator
from harness.plan import schedule
from harness.runner import check_plan
from harness.suite import plan_of, read_suite
from tests.pages import commands_in, dead_links_in, run


@pytest.fixture(scope="module")
def page(repository):
    return repository / "docs" / "reproducing.md"


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def commands(text):
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def help_of(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    return capsys.readouterr().out


def test_every_script_of_the_page_is_there_and_can_be_run(commands, repository):
    scripts = {words[0] for words in commands if words[0] != "reactorbench"}

    figures = {f"scripts/figure{number}" for number in range(1, 7)}
    assert scripts == {"scripts/figures", "scripts/ladder", "scripts/amortisation", "scripts/replay", *figures}
    assert all(os.access(repository / script, os.X_OK) for script in scripts)


def command_of(words):
    """The command that a line of the page calls, itself or by a script."""
    name = words[1] if words[0] == "reactorbench" else words[0].removeprefix("scripts/")
    return "reproduce" if name.startswith("figure") else name


def test_every_option_of_the_page_exists(commands, capsys):
    used = {(command_of(words), word) for words in commands for word in words if word.startswith("--")}
    texts = {command: help_of(command, capsys) for command in dict(used)}

    assert set(texts) == {"reproduce", "run", "ladder", "amortisation", "replay"}
    assert [(command, option) for command, option in used if option not in texts[command]] == []


def test_every_command_of_the_page_prints_what_the_page_shows(page, tmp_path, repository):
    commands = commands_in(page)

    assert commands
    for command in commands:
        _, *arguments = shlex.split(command.line)
        done = run(tmp_path, repository, "-m", "harness", *arguments)
        assert done.returncode == 0, done.stderr
        assert command.agrees_with(done.stdout), done.stdout


def rows_of(text):
    """Figure, minutes of both suites, and gigabytes, of the table on time and memory."""
    rows = re.findall(r"^\| (\d) \| .* \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    return {int(figure): tuple(map(float, numbers)) for figure, *numbers in rows}


@pytest.mark.parametrize(("suite", "column"), [("paper-small", 0), ("paper", 1)])
def test_times_and_memory_of_the_page_are_those_of_the_suites(text, suite, column, monkeypatch):
    plan = plan_of(read_suite(suite), {}, [])
    loads = check_plan(plan).loads
    monkeypatch.setattr(estimate, "processors", lambda: 2)
    estimator = Estimator(loads)
    minutes, gigabytes = dict.fromkeys(range(1, 7), 0.0), dict.fromkeys(range(1, 7), 0.0)
    for invocation in schedule(plan):
        figure = int(invocation.cell.name[len("figure")])
        minutes[figure] += estimator.seconds(invocation) / 60
        gigabytes[figure] = max(gigabytes[figure], loads[invocation.pairing].memory_bytes / 1e9)

    said = rows_of(text)
    assert set(said) == set(minutes)
    assert {figure: numbers[column] for figure, numbers in said.items()} == pytest.approx(minutes, rel=0.1)

    assert {figure: numbers[2] for figure, numbers in said.items()} == pytest.approx(gigabytes, rel=0.1)


@pytest.mark.parametrize("suite", ["ladder", "amortisation"])
def test_times_and_memory_of_the_two_other_suites_are_those_of_the_page(text, suite, monkeypatch):
    loads = check_plan(plan_of(read_suite(suite), {}, [])).loads
    monkeypatch.setattr(estimate, "processors", lambda: 2)
    estimator = Estimator(loads)

    (row,) = re.findall(rf"^\| `scripts/{suite}` \| (.*) \|$", text, re.MULTILINE)
    numbers = [float(number) for number in row.split(" | ")]
    for invocations, column in ((3, 0), (1, 1)):
        plan = plan_of(read_suite(suite), {"invocations": invocations}, [])
        assert numbers[column] == pytest.approx(sum(map(estimator.seconds, schedule(plan))) / 60, rel=0.1)
    assert numbers[2] == pytest.approx(max(load.memory_bytes for load in loads.values()) / 1e9, rel=0.1)


def test_the_steps_of_the_page_are_those_of_the_ladder_in_order_with_the_figures_that_have_them(text):
    rows = re.findall(r"^\| ([\w -]+) \| .* \| (all|[\d, ]*) ?\|$", text.partition("| step |")[2], re.MULTILINE)
    measured = {step.name: set() for step in ladder.steps_of(ladder.programs()[0])}
    for program in ladder.programs():
        for step in ladder.steps_of(program):
            measured[step.name] |= {program.figure} if step.left_out is None else set()

    said = {
        name: set(range(1, 7)) if where == "all" else set(map(int, re.findall(r"\d", where))) for name, where in rows
    }
    assert list(said.items()) == list(measured.items())


def test_the_definitions_of_the_verdicts_are_those_of_the_module(text):
    definitions = [line for line in claims.__doc__.splitlines() if line.startswith("| ")]

    assert len(definitions) == 5
    assert all(line in text.splitlines() for line in definitions)


def test_what_the_page_links_to_is_there(page):
    assert dead_links_in(page) == set()


@pytest.mark.parametrize("number", range(1, 7))
def test_the_script_of_a_figure_asks_for_that_figure_alone(repository, number):
    lines = (repository / "scripts" / f"figure{number}").read_text(encoding="utf-8").splitlines()

    assert lines[-1] == f'exec "$(dirname "$0")/figures" {number} "$@"'
