"""What PAL claims, judged by runs: what a machine cannot show is not measured, and a projection is called one."""

from __future__ import annotations

import csv

import pytest

from harness.pal import Convergence, is_on_pal, judge_pal, published_trees
from harness.pal_report import write_pal
from harness.statistics import RANGE, Estimate
from tests.harness.records_of import MACHINE, record
from tests.harness.study_records import stored
from tests.harness.test_replay import records_of

TWO_CORES = {**MACHINE, "physical_cores": 2}


def trained(algorithm, workers, seconds, block=0, runtime="reactor", **changes):
    """An invocation of a training; `workers` is the option of the runtime."""
    return record(
        runtime,
        1500 / seconds,
        block,
        workload="training",
        parameters={"algorithm": algorithm, "env_id": "Pendulum-v1"},
        options={} if runtime == "sequential" else {"workers": workers},
        machine=TWO_CORES,
        **changes,
    )


def by_claim(judged, claim):
    return {one.cell: one for one in judged if claim in one.claim}


def test_the_published_table_has_three_trees_at_four_sizes():
    points = {(one.operation, one.capacity): one.seconds for one in published_trees()}

    assert len(points) == 8
    assert points["insert", 2**20] == pytest.approx({"rllib": 3.13e-3, "tianshou": 57e-6, "pal": 18e-6})


def test_without_any_record_the_claims_of_the_headline_are_not_measured():
    judged = judge_pal([])

    assert {one.verdict for one in judged} == {"not measured"}
    assert {one.claim for one in judged} == {
        "throughput grows linearly with cores",
        "time to converge, over a baseline approach",
        "our buffer plugged into another framework",
        "parallel algorithms",
    }


def test_loops_of_other_frameworks_are_judged_against_what_was_published():
    found = by_claim(judge_pal(records_of()), "plugged")

    assert len(found) == 8
    assert found["Tianshou, batch 32"].estimate.point == pytest.approx(2)
    assert {one.verdict for one in found.values()} == {"reproduced"}
    assert {one.published for one in found.values()} == {(1.1, 2.1)}


def test_trees_are_judged_by_their_ratios_to_others():
    found = by_claim(judge_pal(records_of()), "sum tree")

    assert len(found) == 16
    tianshou = found["128 insertions at 2^20, over Tianshou"]
    assert tianshou.published[0] == pytest.approx(57 / 18)
    assert (tianshou.estimate.point, tianshou.verdict) == (pytest.approx(12), "exceeded")
    assert found["128 insertions at 2^20, over RLlib"].verdict == "not reproduced"


def test_twice_as_fast_on_two_cores_is_linear_and_more_cores_than_there_are_is_not_measured():
    records = [trained("td3", n, 1.0 / n * 1.05, block) for block in range(3) for n in (1, 2)]
    found = by_claim(judge_pal(records), "linearly")

    measured = next(one for cell, one in found.items() if cell.endswith("2 workers"))
    assert (measured.verdict, measured.published) == ("reproduced", (2, 2))
    four = next(one for cell, one in found.items() if cell.endswith(" 4 workers"))
    assert (four.verdict, four.estimate) == ("not measured", None)
    assert four.reason.startswith("more cores than there are (2); projection by Amdahl's law from 2 workers, no meas")
    assert len(found) == 6


def test_a_second_worker_that_gains_little_does_not_reproduce_it():
    records = [trained("td3", n, s, block) for block in range(3) for n, s in ((1, 1.0), (2, 0.8))]

    found = by_claim(judge_pal(records), "linearly")
    assert next(one for cell, one in found.items() if cell.endswith("2 workers")).verdict == "not reproduced"
    # C(2) = 1.25 is a serial fraction of 0.6, with which 4 workers are 4 / (1 + 0.6 * 3) times as fast.
    assert any("1.43x" in one.reason for one in found.values())


def test_a_second_worker_that_gains_nothing_projects_no_gain():
    records = [trained("td3", n, s) for n, s in ((1, 1.0), (2, 1.5))]

    four = next(one for cell, one in by_claim(judge_pal(records), "linearly").items() if cell.endswith(" 4 workers"))
    assert four.verdict == "not measured"


def test_an_algorithm_that_runs_in_parallel_with_the_loops_digest_is_there():
    records = [
        trained("td3", 1, 1.0, runtime="sequential"),
        trained("td3", 2, 0.6),
        trained("sac", 1, 1.0, runtime="sequential"),
        trained("sac", 2, 0.6, digest="another"),
        trained("dqn", 1, 1.0, runtime="sequential"),
    ]
    found = by_claim(judge_pal(records), "algorithms")

    assert {cell: one.verdict for cell, one in found.items()} == {
        "DQN": "not measured",
        "DDPG": "not measured",
        "TD3": "reproduced",
        "SAC": "not reproduced",
    }


def test_runtimes_that_compute_something_else_or_did_not_run_say_nothing_of_an_algorithm():
    skipped = {"outcome": "skipped", "reason": "it shares no minibatch"}
    records = [
        trained("td3", 1, 1.0, runtime="sequential"),
        trained("td3", 2, 0.6),
        trained("td3", 2, 0.5, runtime="reactor-async", differs="at its own pace", digest=None),
        trained("td3", 2, 0.5, runtime="ray", **skipped),
        trained("sac", 1, 1.0, runtime="sequential"),
        trained("sac", 1, 1.0),
        trained("sac", 2, 0.5, runtime="reactor-async", differs="at its own pace", digest=None),
        trained("dqn", 1, 1.0, runtime="sequential"),
        trained("dqn", 2, 0.6, runtime="ray", **skipped),
    ]
    found = by_claim(judge_pal(records), "algorithms")

    assert found["TD3"].verdict == "reproduced"
    assert found["TD3"].reason == "runs on reactor, each with the digest of the plain loop"
    assert {found[name].verdict for name in ("DQN", "DDPG", "SAC")} == {"not measured"}


def test_times_to_converge_are_judged_where_trainings_are_there():
    estimate = Estimate(point=2.0, low=1.8, high=2.2, n=3, kind=RANGE)
    convergences = [
        Convergence(cell="td3", baseline="Ray", estimate=estimate),
        Convergence(cell="sac", baseline="Ray", estimate=None, problem="a seed did not get there"),
    ]
    found = by_claim(judge_pal([], convergences), "converge")

    assert {cell: one.verdict for cell, one in found.items()} == {
        "td3, over Ray": "not reproduced",
        "sac, over Ray": "not measured",
    }
    assert found["sac, over Ray"].reason == "a seed did not get there"


def test_the_table_and_its_csv_say_the_same_and_lead_to_the_records(tmp_path):
    folder = stored(records_of(invocations=1), tmp_path / "run")
    text, files = write_pal(folder)

    assert [file.name for file in files] == ["claims-pal.md", "claims-pal.csv"]
    assert "| our buffer plugged into another framework | RLlib, batch 32 | 1.10x to 2.10x | 2.00x, one pair |" in text
    with files[1].open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == text.count("\n| ") - 1
    assert all(line["record_lines"] for line in lines if line["ratio"])


@pytest.mark.parametrize(("workload", "expected"), [("replay", True), ("training", True), ("simulation", False)])
def test_records_of_replay_buffers_and_trainings_are_on_pal(workload, expected):
    assert is_on_pal(record("reactor", 1.0, workload=workload)) is expected
