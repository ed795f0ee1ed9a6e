"""Training as users do it: `learn`, `run`, `report`, interruptions, what is refused. What is learnt is a number."""

from __future__ import annotations

import json
import os
import signal

import pytest
from rich.console import Console

from harness.errors import Interrupted, UsageError
from harness.job import Folder, LearnJob, Pairing
from harness.learning.progress import LearningProgress
from harness.learning.records import LearningFile
from harness.learning.runner import LearningRunner
from harness.learning.training import learn
from harness.learning.trainings import Unfinished, schedule_trainings
from harness.plan import PlanFile, resume_command
from harness.runner import prepare_folder
from harness.suite import LearningTable, Suite, plan_of

SUITE = """
runtimes = ["plain", "other"]
invocations = 1
warmup_rounds = 1
rounds = 1
measure_s = 0.0

[[cell]]
name = "throughput"
workload = "growing"

[[learning]]
name = "curve"
workload = "growing"
seeds = 1
every_rounds = 2
cap_rounds = 5
episodes = 3
target = 3.5
"""


def bits(trained):
    """What was learnt, whenever and wherever."""
    return [(one.round, one.updates, one.returns, one.digest) for one in trained.evaluations]


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SUITE, encoding="utf-8")
    return path


def test_a_training_is_evaluated_first_last_and_in_between_and_equal_on_equal_runtimes(in_this_process, suite):
    ended = in_this_process("learn", suite, "--out", "there", "--seeds", 2, "--no-figures")

    assert ended.returncode == 0, ended.stderr
    trainings = LearningFile(suite.parent / "there").trainings()
    assert {(t.record.runtime, t.record.seed) for t in trainings} == {
        (r, s) for r in ("plain", "other") for s in (0, 1)
    }
    for trained in trainings:
        assert trained.record.outcome == "ok"
        assert [(one.round, one.units, one.updates) for one in trained.evaluations] == [
            *((0, 0, 0), (2, 8, 4), (4, 16, 8), (5, 20, 10))
        ]
        assert [len(one.returns) for one in trained.evaluations] == [3] * 4
        assert trained.first_pass.round == 4
        assert bits(trained) == bits(next(t for t in trainings if t.record.seed == trained.record.seed))
    times = [one.wall_s for one in trainings[0].evaluations]
    assert times == sorted(times)
    assert times[0] == 0
    assert "2 of 2" in ended.stdout
    assert sorted(path.name for path in (suite.parent / "there").iterdir()) == [
        *("learning.csv", "learning.jsonl", "learning.md", "logs", "plan.json")
    ]


def test_run_measures_and_trains_and_report_shows_both(in_this_process, suite):
    there = suite.parent / "there"
    ended = in_this_process("run", suite, "--out", there, "--runtime", "plain", "--no-figures", "--json")

    assert ended.returncode == 0, ended.stderr
    shown = json.loads(ended.stdout)
    assert [row["runtime"] for row in shown["rows"]] == ["plain"]
    (row,) = shown["learning"]["rows"]
    assert (row["reached"], row["rounds_to_target"], row["units_to_target"]) == (1, 4, 16)
    again = in_this_process("report", there, "--no-figures")
    assert "updates/s" in again.stdout
    assert "last return" in again.stdout
    # There is nothing left of either to do.
    resumed = in_this_process("run", "--resume", "--out", there, "--no-figures")
    assert "0 invocations to run" in resumed.stdout
    assert "0 trainings to run, about 0 s; 1 finished already" in resumed.stdout


def test_a_training_may_stop_at_its_target_and_more_seeds_may_follow(in_this_process, tmp_path):
    flags = ("--every-rounds", 1, "--cap-rounds", 9, "--episodes", 1, "--target", 2.5, "--stop-at-target")
    training = ("learn", "--workload", "growing", "--runtime", "plain", *flags, "--no-figures", "--out", tmp_path)

    assert in_this_process(*training, "--seeds", 1).returncode == 0
    again = in_this_process(*training, "--seeds", 2, "--resume")

    assert "1 training to run, about" in again.stdout
    assert "1 finished already" in again.stdout
    trainings = LearningFile(tmp_path).trainings()
    assert [trained.evaluations[-1].round for trained in trainings] == [3, 3]
    assert [trained.record.seed for trained in trainings] == [0, 1]


def test_what_fails_or_is_refused_is_on_record_with_the_reason(in_this_process, tmp_path):
    ended = in_this_process(
        *("learn", "--workload", "growing", "--set", "fails_after=2", "--out", tmp_path, "--no-figures"),
        *("--runtime", "plain", "--runtime", "refusing", "--seeds", 1, "--every-rounds", 1, "--cap-rounds", 4),
    )

    assert ended.returncode == 3
    failed, skipped = sorted(LearningFile(tmp_path).trainings(), key=lambda trained: trained.record.runtime)
    assert (failed.record.outcome, skipped.record.outcome) == ("failed", "skipped")
    assert "After 3 rounds the evaluation gave" in failed.record.reason
    assert [one.round for one in failed.evaluations] == [0, 1, 2]
    assert "Sundays" in skipped.record.reason
    assert "not finite" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--workload", "counting", "--runtime", "plain"), "does not say how what it has learnt is evaluated"),
        (("--workload", "growing", "--runtime", "ceiling"), "a bound, which computes less"),
        (("--workload", "growing", "--runtime", "plain", "--stop-at-target"), "Set target to a mean return"),
        (("--workload", "growing"), "names no runtime"),
        (("--workload", "growing", "--runtime", "plain", "--cap-rounds", "0"), "'cap_rounds'"),
        (("quick",), "trains nothing"),
        ((), "Name either a suite or a workload"),
        (("--resume",), "Add --out DIR"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_runs(in_this_process, arguments, said):
    ended = in_this_process("learn", *arguments)

    assert ended.returncode == 2
    assert said in ended.stderr


def test_a_suite_that_only_trains_is_planned_and_cannot_be_checked(in_this_process, suite):
    before, _, rest = SUITE.partition("[[cell]]")
    suite.write_text(before + rest[rest.index("[[learning]]") :], encoding="utf-8")

    assert "there is no cell to measure" in in_this_process("aa", suite).stderr
    planned = in_this_process("plan", suite, "--json")
    assert [one["cell"] for one in json.loads(planned.stdout)["trainings"]] == ["curve", "curve"]


# ------------------------------------------------------------------------------------ interruptions


def plan(**changes):
    table = LearningTable(workload="growing", seeds=1, every_rounds=1, cap_rounds=6, episodes=1, **changes)
    return plan_of(Suite(name="growing", runtimes=["plain"], learning=[table]), {}, [])


class Interrupting(LearningProgress):
    """Sends a signal, as Ctrl-C does, once a training has come to a round."""

    def __init__(self, at_round):
        super().__init__(Console(quiet=True))
        self.at_round = at_round

    def phase(self, phase, elapsed_s):
        _, unfinished = self._current
        evaluations = unfinished.evaluations()
        if evaluations and evaluations[-1].round >= self.at_round:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def train_in(guest):
    def train(folder, plan, progress=None):
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        progress = progress or LearningProgress(Console(quiet=True))
        LearningRunner(plan=plan, folder=folder, progress=progress, checkpoint_s=0.0).run()
        return LearningFile(folder).trainings()

    return train


def test_an_interrupted_training_goes_on_where_it_was_with_the_same_bits_and_leaves_nothing(train_in, tmp_path):
    slow = plan_of(
        Suite(
            name="growing",
            runtimes=["pausing"],
            learning=[LearningTable(workload="growing", seeds=1, every_rounds=20, cap_rounds=60, episodes=1)],
        ),
        {},
        [],
    )
    with pytest.raises(Interrupted, match="reactorbench learn --resume --out"):
        train_in(tmp_path, slow, Interrupting(at_round=20))
    assert LearningFile(tmp_path).trainings() == []
    assert len(list((tmp_path / "unfinished").iterdir())) == 2
    with pytest.raises(UsageError, match="already has records"):
        prepare_folder(tmp_path, resume=False)

    (resumed,) = train_in(tmp_path, slow)

    (whole,) = train_in(tmp_path / "whole", slow)
    assert resumed.record.resumed_at >= 20
    assert whole.record.resumed_at == 0
    assert bits(resumed) == bits(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["learning.jsonl", "logs", "whole"]


@pytest.fixture
def job_in(installed, tmp_path):
    """A training in this process, and what it leaves for the next attempt."""
    (training,) = schedule_trainings(plan())
    unfinished = Unfinished.of(training, tmp_path)
    unfinished.journal.parent.mkdir()

    def job(cap_rounds, checkpoint_s=0.0, **parameters):
        scratch = Folder(tmp_path)
        scratch.scratch.mkdir(exist_ok=True)
        result = learn(
            LearnJob(
                parent_pid=os.getpid(),
                pairing=Pairing(workload="growing", parameters=parameters, runtime="plain", options={}),
                seed=0,
                every_rounds=1,
                cap_rounds=cap_rounds,
                episodes=1,
                target=None,
                stop_at_target=False,
                journal=str(unfinished.journal),
                checkpoint=str(unfinished.checkpoint),
                checkpoint_s=checkpoint_s,
            ),
            scratch,
        )
        return result, unfinished

    return job


def test_what_was_evaluated_after_the_last_state_is_done_again(job_in):
    job_in(4)
    # The state is of round 3: after the last evaluation there is nothing to go on to.
    result, unfinished = job_in(6)

    assert result.resumed_at == 3
    assert [one.round for one in unfinished.evaluations()] == [0, 1, 2, 3, 4, 5, 6]


def test_seconds_go_on_to_be_counted(job_in):
    _, unfinished = job_in(4)
    before = unfinished.evaluations()[3].wall_s
    job_in(6)

    assert unfinished.evaluations()[3].wall_s == before
    assert unfinished.evaluations()[4].wall_s > before


@pytest.mark.parametrize("parameters", [{"keeps_state": False}, {}])
def test_without_a_state_that_can_be_used_it_begins_anew(job_in, parameters, capsys):
    _, unfinished = job_in(3, **parameters)
    if not parameters:
        unfinished.checkpoint.write_bytes(b"damaged")
    result, _ = job_in(5, **parameters)

    assert result.resumed_at == 0
    assert [one.round for one in unfinished.evaluations()] == [0, 1, 2, 3, 4, 5]
    assert "begins anew" in capsys.readouterr().err


def test_a_state_is_kept_only_so_often(job_in):
    _, unfinished = job_in(5, checkpoint_s=3600.0)

    assert not unfinished.checkpoint.exists()


def test_what_is_to_be_typed_names_the_command_that_was_interrupted(tmp_path):
    assert (
        resume_command(tmp_path, ["a*"], command="learn")
        == f"reactorbench learn --resume --out {tmp_path} --cells 'a*'"
    )


def test_a_plan_of_before_there_was_training_is_read(tmp_path):
    file = PlanFile(tmp_path)
    file.path.write_text(
        '{"name": "old", "title": "Old", "invocations": 1, "timeout_s": 1.0, "seed": 0, "cells": []}', encoding="utf-8"
    )

    assert file.read().learning == ()
