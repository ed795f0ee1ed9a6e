"""`reactorbench ladder`, `amortisation` and `replay`: measured once, added to, and shown from what is there."""

from __future__ import annotations

import pytest

LADDER = """
invocations = 2
warmup_rounds = 2
rounds = 2
measure_s = 0.0
runtimes = ["sequential", "reactor"]

[[cell]]
name = "figure2-1kB"
workload = "broadcast_gather"
parameters = { nbytes = 1_000, actors = 16 }
"""

AMORTISATION = """
invocations = 2
warmup_rounds = 2
rounds = 2
measure_s = 0.0
runtimes = ["sequential", "reactor", "ceiling"]

[[cell]]
name = "CartPole-v1-1"
workload = "simulation"
parameters = { env_id = "CartPole-v1", envs = 2, fragment = 1 }

[[cell]]
name = "CartPole-v1-8"
workload = "simulation"
parameters = { env_id = "CartPole-v1", envs = 2, fragment = 8 }
"""


REPLAY = """
invocations = 2
warmup_rounds = 2
rounds = 2
measure_s = 0.0
runtimes = ["sequential"]

[[cell]]
name = "tree"
workload = "replay"
parameters = { what = "tree", capacity = 1_000, batch = 32 }
vary = { operation = ["sample", "update"], fan_out = [8, 16] }
"""


def records_in(folder):
    return (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("command", "suite", "expected"),
    [("ladder", LADDER, (2, "| loop | `sequential` |")), ("amortisation", AMORTISATION, (6, "## CartPole-v1 x 2"))],
)
def test_a_small_run_is_shown_and_completed_by_a_larger_one(in_this_process, tmp_path, command, suite, expected):
    a_block, shown = expected
    (tmp_path / "tiny.toml").write_text(suite, encoding="utf-8")

    small = in_this_process(command, "--suite", "tiny.toml", "--small", "--out", "mine")
    assert small.returncode == 0, small.stderr
    assert shown in small.stdout
    assert len(records_in(tmp_path / "mine")) == a_block

    # The suite has two blocks.
    whole = in_this_process(command, "--suite", "tiny.toml", "--out", "mine")
    assert whole.returncode == 0, whole.stderr
    assert "range of 2 pairs" in whole.stdout
    assert len(records_in(tmp_path / "mine")) == 2 * a_block

    again = in_this_process(command, "--out", "mine", "--no-run")
    assert again.stdout == whole.stdout
    files = [f"mine/{command}.md", *(f"mine/figures/{command}.{kind}" for kind in ("svg", "png", "csv"))]
    assert again.stderr.splitlines() == files
    assert all((tmp_path / file).exists() for file in files)


def test_replay_buffers_are_shown_completed_and_judged(in_this_process, tmp_path):
    (tmp_path / "tiny.toml").write_text(REPLAY, encoding="utf-8")

    small = in_this_process("replay", "--suite", "tiny.toml", "--small", "--out", "mine")
    assert small.returncode == 0, small.stderr
    assert "## The sum tree by its size: update" in small.stdout
    whole = in_this_process("replay", "--suite", "tiny.toml", "--out", "mine")
    assert "mean and range of 2 invocations" in whole.stdout
    assert len(records_in(tmp_path / "mine")) == 8

    again = in_this_process("replay", "--out", "mine", "--no-run")
    assert again.stdout == whole.stdout
    figures = [f"mine/figures/fan-out.{kind}" for kind in ("svg", "png", "csv")]
    assert again.stderr.splitlines() == ["mine/replay.md", "mine/replay.csv", *figures]

    # What the first paper claims is of other workloads.
    claims = in_this_process("claims", "mine")
    assert claims.returncode == 0, claims.stderr
    assert claims.stdout.startswith("# What the paper on PAL claims")
    assert claims.stderr == "mine: claims-pal.md, claims-pal.csv\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "--no-run", "--out", "nowhere"], "nothing of replay buffers in nowhere"),
        (["ladder", "7"], "no figure 7"),
        (["ladder", "--small", "--invocations", "3"], "Leave one out"),
        (["ladder", "--no-run", "--out", "nowhere"], "nothing of the ladder"),
        (["amortisation", "--no-run", "--out", "nowhere"], "nothing in nowhere"),
        (["amortisation", "--cells", "Doom-*"], "No cell of 'amortisation' is called 'Doom-*'"),
    ],
)
def test_what_cannot_be_measured_or_shown_is_refused_with_the_reason(in_this_process, arguments, said):
    done = in_this_process(*arguments)

    assert done.returncode == 2
    assert said in done.stderr
