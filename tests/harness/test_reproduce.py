"""`reactorbench reproduce` and `claims`: cells are measured once, added to, and drawn."""

from __future__ import annotations

import pytest

SUITE = """
invocations = 1
warmup_rounds = 1
rounds = 2
measure_s = 0.0
runtimes = ["sequential", "reactor-inline"]

[[cell]]
name = "figure1-2-actors"
workload = "broadcast_gather"
parameters = { nbytes = 10_485_760, actors = 2 }

[[cell]]
name = "figure6-4-agents"
workload = "inference"
parameters = { agents = 4 }
"""


def records_in(folder):
    return (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "tiny.toml").write_text(SUITE, encoding="utf-8")
    return "tiny.toml"


def test_a_figure_is_measured_once_then_drawn_from_what_is_there_and_given_more_blocks_and_another_is_added(
    in_this_process, suite, tmp_path
):
    first = in_this_process("reproduce", "1", "--suite", suite, "--out", "mine")
    assert first.returncode == 0, first.stderr
    files = first.stdout.splitlines()
    assert files == [
        *(f"mine/figures/figure1.{kind}" for kind in ("svg", "png", "csv")),
        "mine/claims.md",
        "mine/claims.csv",
    ]
    assert len(records_in(tmp_path / "mine")) == 2

    again = in_this_process("reproduce", "1", "--suite", suite, "--out", "mine")
    assert again.returncode == 0, again.stderr
    assert len(records_in(tmp_path / "mine")) == 2

    more = in_this_process("reproduce", "1", "--suite", suite, "--out", "mine", "--invocations", "2")
    assert more.returncode == 0, more.stderr
    assert len(records_in(tmp_path / "mine")) == 4

    drawn = in_this_process("reproduce", "1", "--out", "mine", "--no-run")
    assert drawn.stdout == first.stdout
    judged = in_this_process("claims", "mine")
    assert judged.returncode == 0, judged.stderr
    assert "was not measured on ray-by-value" in judged.stdout

    another = in_this_process("reproduce", "6", "--suite", suite, "--out", "mine")
    assert another.returncode == 0, another.stderr
    assert len(records_in(tmp_path / "mine")) == 8
    assert (tmp_path / "mine" / "figures" / "figure6.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reproduce", "7"], "no figure 7"),
        (["reproduce", "1", "--no-run", "--out", "nowhere"], "nothing of figure 1"),
        (["claims", "nowhere"], "nothing to judge"),
        (["reproduce", "1", "--suite", "quick", "--out", "mine"], "No cell of 'quick'"),
    ],
)
def test_what_cannot_be_drawn_or_judged_is_refused_with_the_reason(in_this_process, arguments, said):
    done = in_this_process(*arguments)

    assert done.returncode == 2
    assert said in done.stderr
