"""A version compared with itself: noise, false alarms, and the noise between separate sessions."""

from __future__ import annotations

import json
import math
from random import Random
from statistics import stdev

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import Interrupted, UsageError
from harness.records import RecordFile
from harness.regression.aa import aa_cells, check_pairs, false_alarms, status_of
from harness.regression.judged import Judged, judge, samples_of
from harness.regression.judging import Margins, Verdict
from harness.regression.noise import NoiseFile, margin_of, noise_between, percent
from harness.regression.pairs import Pair
from harness.versions import Facts, Version
from tests.harness.records_of import record
from tests.harness.run_folders import ELSEWHERE, machine, rates, without_measuring

COUNTING = ("--workload", "counting", "--runtime", "plain", "--runtime", "other", "--warmup-rounds", "3")
FACTS = Facts(
    reactorbench="0",
    protocol=1,
    python="Python",
    packages={},
    path_length=1,
    workloads={"counting": ["width", "step", "direction", "target", "offsets"]},
    runtimes={name: ["workers", "where"] for name in ("plain", "other")},
)


def pairs(log_ratios):
    return [
        Pair(block=n, seed=n, rounds=1, base_s=1.0, head_s=math.exp(x), base_line=n, head_line=n)
        for n, x in enumerate(log_ratios)
    ]


def judged(base, head, outcome="ok"):
    """A check of speeds `base` against `head`; the last invocation of the head ended in `outcome`."""
    records = [record("plain", rate, block, side="base") for block, rate in enumerate(base)]
    records += [record("plain", rate, block, side="head") for block, rate in enumerate(head)]
    records[-1] = msgspec.structs.replace(records[-1], outcome=outcome, reason="a bad day")
    judgements = judge(samples_of(records, "base"), samples_of(records, "head"))
    return Judged(title="Tiny", base_name="A", head_name="A again", judgements=tuple(judgements))


# ------------------------------------------------------------------------------------------ aa itself


def test_the_noise_of_a_cell_is_what_its_pairs_vary_by():
    base, head = rates(24, noise=0.05), rates(24, noise=0.05, name="b")

    (cell,) = aa_cells(judged(base, head))

    log_ratios = [math.log(one / other) for one, other in zip(base, head, strict=True)]
    assert cell.noise == pytest.approx(stdev(log_ratios))
    assert cell.robust_noise == pytest.approx(1.4826 * np.median(np.abs(log_ratios - np.median(log_ratios))))
    assert 0 < cell.half_width < cell.noise
    assert cell.detectable > 0.03
    assert (cell.pairs, cell.ratio) == (24, pytest.approx(1, abs=0.05))


def test_single_disturbed_pairs_move_the_robust_noise_little():
    base, head = rates(24), rates(24, name="b")
    calm, disturbed = aa_cells(judged(base, head))[0], aa_cells(judged(base, [head[0] / 3, *head[1:]]))[0]

    assert disturbed.noise > 5 * calm.noise
    assert disturbed.robust_noise < 1.5 * calm.robust_noise


def test_a_quiet_machine_raises_no_false_alarm_and_finds_everything_the_same():
    counts = false_alarms(pairs(np.random.default_rng(0).normal(0, 0.005, 24)), Margins(), "cell")

    assert counts.share(Verdict.SAME) == 1
    assert counts.checks == 2_000


def test_false_alarms_of_a_noisy_machine_are_rare_and_grow_as_margins_shrink():
    noisy = pairs(np.random.default_rng(0).normal(0, 0.10, 400))

    usual = false_alarms(noisy, Margins(), "cell").share(Verdict.SLOWER, Verdict.FASTER)
    narrow = false_alarms(noisy, Margins(same=1e-6, beyond=1e-6), "cell").share(Verdict.SLOWER, Verdict.FASTER)

    # Five of a hundred 95 % intervals miss the truth, and without a margin that is a false alarm.
    assert usual < narrow
    assert narrow == pytest.approx(0.05, abs=0.02)


def test_a_side_that_is_slower_throughout_is_no_noise_since_a_coin_decides_which_side_is_the_base():
    counts = false_alarms(pairs([0.2] * 24), Margins(), "cell")

    assert counts.verdicts[Verdict.SLOWER] == pytest.approx(counts.verdicts[Verdict.FASTER], abs=60)


def test_what_is_simulated_is_the_same_every_time_and_another_for_another_cell():
    noisy = pairs(np.random.default_rng(0).normal(0, 0.05, 24))

    assert false_alarms(noisy, Margins(), "cell") == false_alarms(noisy, Margins(), "cell")
    assert false_alarms(noisy, Margins(), "cell") != false_alarms(noisy, Margins(), "another")


def test_blocks_are_drawn_by_twos_so_a_drift_that_turns_within_two_blocks_cancels():
    # A B B A on a machine that gets slower: the one pair favours the first, the other the second.
    drifting = pairs([0.3, -0.3] * 12)

    counts = false_alarms(drifting, Margins(), "cell")

    assert counts.share(Verdict.SLOWER, Verdict.FASTER) == 0


def test_too_few_twos_of_blocks_simulate_nothing():
    some = pairs([0.01] * 24)

    assert false_alarms(some[:12], Margins(), "cell") is not None
    assert false_alarms(some[:11], Margins(), "cell") is None
    assert false_alarms(some[::2], Margins(), "cell") is None


def test_a_false_alarm_is_no_failure_and_what_failed_is_one():
    slower = judged(rates(24), rates(24, speed=0.5))

    assert slower.judgements[0].verdict is Verdict.SLOWER
    assert status_of(slower) == 0
    assert status_of(judged(rates(24), rates(24), outcome="failed")) == 3
    assert status_of(judged(rates(24), rates(24), outcome="timeout")) == 124
    assert status_of(judged(rates(24), rates(4))) == 2


def test_fewer_than_twelve_pairs_are_refused():
    check_pairs(12)
    with pytest.raises(UsageError, match="12 or more"):
        check_pairs(11)


@pytest.fixture
def measured(monkeypatch):
    """What was measured, with a little noise, and in no time."""
    monkeypatch.setattr("harness.versions.this_version", lambda: Version(interpreter=None, facts=FACTS))
    random = Random(0)
    return without_measuring(monkeypatch, lambda _invocation, _number: 10_000 * random.uniform(0.99, 1.01))


def test_aa_measures_both_sides_in_turns_and_prints_a_line_for_each_cell(
    in_this_process, measured, tmp_path, monkeypatch
):
    monkeypatch.delenv("COLUMNS", raising=False)  # headings are as wide as they like
    done = in_this_process("aa", *COUNTING, "--pairs", "12", "--out", "mine")

    assert done.returncode == 0, done.stderr
    assert "false alarms" in done.stdout
    assert "one of 2 cells" in done.stdout
    records = RecordFile(tmp_path / "mine").read()
    assert len(records) == 2 * 12 * 2
    assert {record.side for record in records} == {"base", "head"}
    stored = json.loads((tmp_path / "mine" / "aa.json").read_bytes())
    assert [cell["pairs"] for cell in stored["cells"]] == [12, 12]
    assert all(0 <= cell["false_alarms"] <= 0.05 for cell in stored["cells"])


def test_aa_with_json_prints_nothing_else_and_resumes_without_measuring_again(in_this_process, measured, tmp_path):
    first = in_this_process("aa", *COUNTING, "--pairs", "12", "--out", "mine", "--json")
    number = len(measured)
    again = in_this_process("aa", *COUNTING, "--pairs", "12", "--out", "mine", "--resume", "--json")

    assert json.loads(first.stdout) == json.loads(again.stdout) == json.loads((tmp_path / "mine/aa.json").read_bytes())
    assert len(measured) == number == 2 * (12 * 2 + 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--pairs", "11"), "12 or more"),
        (("--pairs", "0"), "12 or more"),
        (("--invocations", "30"), "--pairs says how many"),
        (("--resume",), "Add --out DIR"),
        (("--cells", "nothing"), "nothing"),
        (("--sessions", "1"), "--sessions 1 are too few"),
        (("--head", "nowhere/python"), "nowhere/python"),
    ],
)
def test_arguments_of_aa_that_do_not_fit_are_refused(in_this_process, measured, arguments, said):
    done = in_this_process("aa", *COUNTING, *arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert measured == []


# ------------------------------------------------------------------------------------------- sessions


def session(speeds, **changes):
    return samples_of([record("plain", rate, block, **changes) for block, rate in enumerate(speeds)])


def test_noise_between_sessions_is_what_whole_sessions_differ_by_and_not_what_seeds_do():
    by_seed = rates(12, noise=0.5)

    (cell,) = noise_between([session([rate * speed for rate in by_seed]) for speed in (1.0, 1.1, 0.9)])

    assert cell.noise == pytest.approx(stdev(map(math.log, (1.0, 1.1, 0.9))))
    assert (cell.sessions, cell.degrees_of_freedom, cell.seeds) == (3, 2, 12)
    assert cell.margin == pytest.approx(math.expm1(4.4 * cell.noise))


@settings(max_examples=30, deadline=None)
@given(
    speeds=st.lists(st.floats(0.5, 2.0), min_size=2, max_size=6),
    factor=st.floats(0.01, 100),
    order=st.randoms(use_true_random=False),
)
def test_noise_depends_neither_on_the_order_of_sessions_nor_on_how_fast_the_machine_is(speeds, factor, order):
    sessions = [[10_000 * speed * (1 + seed / 100) for seed in range(8)] for speed in speeds]
    shuffled = [[rate * factor for rate in one] for one in sessions]
    order.shuffle(shuffled)

    (one,), (other,) = noise_between([*map(session, sessions)]), noise_between([*map(session, shuffled)])

    assert other.noise == pytest.approx(one.noise, rel=1e-6, abs=1e-9)


def test_a_session_that_was_disturbed_once_makes_little_noise():
    calm = rates(12)

    (cell,) = noise_between([session(calm), session(calm), session([calm[0] / 5, *calm[1:]])])

    assert cell.noise < 0.03


def test_cells_without_six_seeds_in_common_have_no_noise():
    assert noise_between([session(rates(12)), session(rates(5))]) == []
    assert noise_between([session(rates(12)), session(rates(12), outcome="failed")]) == []
    assert noise_between([session(rates(12))]) == []


def test_rounds_that_not_every_session_did_do_not_count():
    quick = {"rounds_s": [0.001] * 10 + [0.1] * 10, "measured_rounds": 20, "measured_s": 1.01}
    short = {"rounds_s": [0.001] * 10, "measured_rounds": 10, "measured_s": 0.01}

    (cell,) = noise_between([session(rates(6), **quick), session(rates(6), **short)])

    assert cell.noise == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("noise", "sessions", "margin"),
    [(0.0, 10, 0.05), (0.001, 3, 0.10), (0.01, 3, 0.10), (0.02, 4, math.expm1(0.088)), (0.5, 2, 0.95)],
)
def test_a_margin_is_never_below_what_is_sure_and_never_a_whole(noise, sessions, margin):
    assert margin_of(noise, sessions) == pytest.approx(margin)


def test_percent_is_short():
    texts = [percent(x) for x in (0.0034, 0.062, 0.124, 0.994, 0.9975, 1.5)]

    assert texts == ["0.34 %", "6.2 %", "12 %", "99 %", "100 %", "150 %"]


def test_sessions_are_whole_runs_of_the_same_seeds_and_more_can_be_added(in_this_process, measured, tmp_path):
    done = in_this_process("aa", *COUNTING, "--sessions", "2", "--out", "mine")

    assert done.returncode == 0, done.stderr
    assert "2 sessions say little" in done.stdout
    assert [invocation.seed for invocation, _ in measured].count(0) == 2 * 2
    added = in_this_process("aa", *COUNTING, "--sessions", "4", "--out", "mine", "--resume", "--json")
    assert added.returncode == 0, added.stderr
    assert len(measured) == 4 * 12 * 2
    noise = NoiseFile(tmp_path / "mine").read()
    assert json.loads(added.stdout) == msgspec.to_builtins(noise)
    assert [(cell.runtime, cell.sessions, cell.seeds) for cell in noise.cells] == [("plain", 4, 12), ("other", 4, 12)]
    compared = in_this_process("compare", "mine/session-01", "mine/session-04", "--noise", "mine", "--json")
    assert compared.returncode == 0, compared.stdout + compared.stderr
    assert "mine/session-04" in in_this_process("compare", "mine", "mine/session-01").stderr


def test_sessions_of_another_plan_or_too_few_or_without_resume_are_refused(in_this_process, measured, tmp_path):
    assert in_this_process("aa", *COUNTING, "--sessions", "3", "--out", "mine").returncode == 0
    number = len(measured)

    for arguments, said in (
        (("--sessions", "4"), "Add --resume"),
        (("--sessions", "2", "--resume"), "has 3 already"),
        (("--sessions", "4", "--resume", "--rounds", "9"), "rounds of cell 1 (counting) differ"),
        (("--sessions", "4", "--resume", "--pairs", "14"), "invocations is 12 there and 14 here"),
    ):
        done = in_this_process("aa", *COUNTING, *arguments, "--out", "mine")
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert len(measured) == number


def test_sessions_of_another_machine_are_not_added_to(in_this_process, measured, monkeypatch):
    monkeypatch.setattr("harness.runner.machine_facts", lambda: machine(fingerprint=ELSEWHERE))
    assert in_this_process("aa", *COUNTING, "--sessions", "2", "--out", "mine").returncode == 0

    done = in_this_process("aa", *COUNTING, "--sessions", "3", "--out", "mine", "--resume")

    assert done.returncode == 2
    assert "of another machine" in done.stderr


def test_sessions_that_were_interrupted_go_on_where_they_were(in_this_process, monkeypatch, tmp_path):
    def interrupt(_invocation, number):
        if number == 30:
            raise KeyboardInterrupt
        return 10_000

    measured = without_measuring(monkeypatch, interrupt)
    done = in_this_process("aa", *COUNTING, "--sessions", "2", "--out", "mine")

    assert done.returncode == Interrupted.status
    assert "--sessions=2 --resume --out mine" in done.stderr
    again = in_this_process("aa", *COUNTING, "--sessions", "2", "--out", "mine", "--resume")
    assert again.returncode == 0, again.stderr
    assert len(measured) == 2 * 12 * 2 + 1


def test_a_cell_that_no_two_sessions_measured_is_told(in_this_process, monkeypatch, tmp_path):
    measured = without_measuring(monkeypatch)
    sound = in_this_process("aa", *COUNTING, "--sessions", "2", "--out", "mine")
    assert sound.returncode == 0
    for folder in ("session-01", "session-02"):
        file = RecordFile(tmp_path / "mine" / folder)
        kept = [one for one in file.read() if one.runtime == "plain"]
        file.path.unlink()
        for one in kept:
            file.append(one)
    monkeypatch.setattr("harness.regression.sessions.Runner.run", lambda _self: None)

    done = in_this_process("aa", *COUNTING, "--sessions", "2", "--out", "mine", "--resume")

    assert done.returncode == 4
    assert "counting on other: no two sessions have 6 good invocations" in done.stdout
    assert len(measured) == 48
