"""scripts/bisect-slowdown: finds the first slow commit with the real `git bisect`; comparing two is a stand-in.

By hand: of this repository with a commit that sleeps in a task, which takes a minute for each commit that is looked at.
"""

from __future__ import annotations

import shutil
import sys

import pytest

from tests.revisions import repository_with

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

# Of the second revision a file of its tree says how it compares: `slow`, `noisy`, `broken`, `interrupts`.
COMPARE = """#!/usr/bin/env bash
echo "$*" >>"$CALLS"
is() { git cat-file -e "$revision:$1" 2>/dev/null; }
cd "$(dirname "$0")/.."
revision=$2 folder=${*: -1} verdict=same change=0.0
! is broken || exit 1
! is interrupts || exit 130
! is slow || verdict=slower change=0.44
! is noisy || verdict=inconclusive
mkdir -p "$folder"
echo "{\\"judgements\\": [{\\"verdict\\": \\"$verdict\\", \\"time_change_low\\": $change}]}" >"$folder/verdicts.json"
echo "the table of $revision: $verdict" >"$folder/verdicts.txt"
"""


@pytest.fixture
def history(repository, tmp_path, monkeypatch):
    """Makes a history of a commit for each word of a text: what `COMPARE` finds there from then on, or `fine`."""
    this = repository_with(repository, tmp_path.resolve(), ())
    monkeypatch.setenv("CALLS", str(this.folder / "calls"))
    (this.folder / ".venv/bin/python").unlink()
    (this.folder / ".venv/bin/python").symlink_to(sys.executable)
    this.write("scripts/compare-revisions", COMPARE)
    this.commit("start")

    def make(text):
        made = []
        for number, word in enumerate(text.split()):
            # These pass; a slowdown stays.
            for name in ("noisy", "broken", "interrupts"):
                (this.folder / name).unlink(missing_ok=True)
            made.append(this.commit(f"commit {number}, {word}", **({} if word == "fine" else {word: word})))
        return this, made

    return make


def bisect(this, *arguments):
    return this.run("bash", "scripts/bisect-slowdown", *arguments)


@pytest.mark.parametrize(
    "text", ["fine slow", "fine fine fine slow fine fine fine", "fine fine slow fine fine fine fine"]
)
def test_the_first_slow_commit_is_found_and_the_table_that_shows_it_printed(history, text):
    this, made = history(text)
    slow = made[text.split().index("slow")]

    done = bisect(this, made[0], "HEAD", "--cell", "small-values")

    assert done.returncode == 0, done.stdout + done.stderr
    _, _, found = done.stdout.partition("the first bad commit is")
    assert slow in found
    assert f"the table of {slow[:10]}: slower" in found


def test_commits_without_a_verdict_are_passed_over(history):
    this, made = history("fine noisy fine broken fine slow fine noisy fine")

    done = bisect(this, made[0], "HEAD", "--cell", "small-values")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"the table of {made[5][:10]}: slower" in done.stdout


def test_where_only_commits_without_a_verdict_are_left_they_are_listed(history):
    this, made = history("fine fine broken slow fine")
    this.git("reset", "--quiet", "--hard", made[1])
    (this.folder / "slow").write_text("", encoding="utf-8")
    made[2:] = [
        this.commit("both", broken=""),
        this.git("commit-tree", "-p", "HEAD", "-m", "late", f"{made[3]}^{{tree}}"),
    ]

    done = bisect(this, made[0], made[3], "--cell", "small-values")

    assert done.returncode == 4
    among = done.stdout.partition("is among:")[2]
    assert made[2][:7] in among
    assert made[3][:7] in among
    assert made[1][:7] not in among


def test_without_a_slowdown_nothing_is_looked_for(history):
    this, made = history("fine fine fine")

    done = bisect(this, made[0], "HEAD", "--cell", "small-values")

    assert done.returncode == 4
    assert "nothing to look for" in done.stderr
    assert len(this.lines("calls")) == 1


def test_a_cell_and_other_options_are_passed_on_and_commits_judged_halfway_to_the_slowdown(history):
    this, made = history("fine slow fine")

    bisect(this, made[0], "HEAD", "full", "--cell", "a b", "--runtime", "reactor")

    first, *others = this.lines("calls")
    assert "full --cells a b --runtime reactor --out" in first
    # The square root of 1.44.
    assert others
    assert all(
        "full --cells a b --runtime reactor --margin 0.200 --beyond 0.200 --target 0.200 --out" in line
        for line in others
    )


def test_margins_that_are_given_stay(history):
    this, made = history("fine slow fine")

    bisect(this, made[0], "HEAD", "--cell=x", "--margin", "0.3")

    assert {line.partition("--cells")[2].partition(" --out")[0] for line in this.lines("calls")} == {" x --margin 0.3"}


@pytest.mark.parametrize("text", ["fine fine slow fine", "fine fine broken slow fine", "fine fine fine"])
def test_the_checkout_is_left_as_it_is(history, text):
    this, made = history(text)
    (this.folder / "mine").write_text("not committed", encoding="utf-8")

    bisect(this, made[0], "HEAD", "--cell", "small-values")

    assert this.git("rev-parse", "HEAD") == made[-1]
    assert this.left_behind() == ["?? mine"]


def test_results_go_to_the_folder_asked_for_seen_from_where_it_is_called(history):
    this, made = history("fine slow")
    (this.folder / "folder").mkdir()

    done = this.run(
        "bash",
        "../scripts/bisect-slowdown",
        made[0],
        "HEAD",
        "--cell",
        "x",
        "--out",
        "here",
        cwd=this.folder / "folder",
    )

    assert done.returncode == 0, done.stderr
    assert (this.folder / "folder/here" / made[1][:10] / "verdicts.json").exists()


def test_an_interrupted_comparison_ends_it(history):
    this, made = history("fine interrupts slow")

    done = bisect(this, made[0], "HEAD", "--cell", "small-values")

    assert done.returncode == 130
    assert "first bad" not in done.stdout
    assert this.left_behind() == []


def test_a_good_revision_that_is_no_ancestor_is_refused(history):
    this, made = history("fine fine")

    done = bisect(this, "HEAD", made[0], "--cell", "small-values")

    assert done.returncode == 2
    assert "no ancestor" in done.stderr


@pytest.mark.parametrize(
    "arguments", [(), ("HEAD", "HEAD"), ("nonsense", "HEAD", "--cell", "x"), ("--cell", "x", "HEAD")]
)
def test_what_is_no_pair_of_revisions_is_refused(history, arguments):
    this, _ = history("fine")

    done = bisect(this, *arguments)

    assert done.returncode == 2
    assert "revision" in done.stderr
