"""Stored baselines: what is kept, what is refused, and that nothing is measured before a baseline has been checked."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.plan import PlanFile
from harness.records import RecordFile
from harness.regression.baseline import BaselineFile, stable_json, stored_seed, suite_hash
from harness.regression.compare import Yardstick, compare_finished, finished_run
from harness.regression.judging import Verdict
from harness.regression.pairs import time_of_rounds
from harness.regression.updating import Acceptance, save, update
from tests.harness.records_of import record
from tests.harness.run_folders import ELSEWHERE, machine, plan_of, rates, run_folder, without_measuring

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results" / "baselines"


@pytest.fixture
def stored(tmp_path, folder):
    """A baseline of two runtimes, from a run that is still there as `a`."""
    run = run_folder(tmp_path / "a", {"plain": rates(), "other": rates(name="b")})
    file = BaselineFile("main", folder)
    save(file, run)
    return file


def changed(file, change):
    """The stored file after `change`, a function of its plain values."""
    values = json.loads(file.path.read_bytes())
    change(values)
    file.path.write_text(json.dumps(values), encoding="utf-8")


def updated(file, run, *accept, reason="", force=False):
    acceptance = Acceptance(cells=accept, reason=reason)
    return update(file, run, acceptance, Yardstick(), now=NOW, force=force)[0]


def keys_are_sorted(value):
    if isinstance(value, dict):
        return list(value) == sorted(value) and all(map(keys_are_sorted, value.values()))
    return all(map(keys_are_sorted, value)) if isinstance(value, list) else True


def test_a_baseline_keeps_what_it_takes_to_compare_and_to_know_where_it_is_from(stored):
    values = json.loads(stored.path.read_bytes())

    assert {"schema_version", "commit", "tree_clean", "suite_hash", "fingerprint", "environment"} <= values.keys()
    assert values["commit"] == "c0ffee"
    assert values["tree_clean"] is True
    assert values["environment"]["kernel"] == "Linux 9"
    assert len(values["cells"]) == 2
    assert set(values["cells"][0]["seeds"]) == {str(seed) for seed in range(8)}
    assert values["cells"][0]["seeds"]["3"]["digest"] == "digest-3"


def test_its_form_is_always_the_same_with_sorted_keys_and_numbers_in_a_line(stored):
    text = stored.path.read_bytes()
    values = json.loads(text)

    assert keys_are_sorted(values)
    assert stable_json(msgspec.json.decode(text)) == text
    assert b'"rounds_s": [' in text
    assert max(map(len, text.splitlines())) < 1_000
    assert stable_json({"b": [1, 2.5, -3e-9], "a": "[\n1,\n2]", "c": []}) == (
        b'{\n "a": "[\\n1,\\n2]",\n "b": [1, 2.5, -3e-9],\n "c": []\n}\n'
    )


def test_a_run_is_the_same_as_the_baseline_made_of_it(stored, tmp_path):
    judged = compare_finished(stored.read().finished("main"), finished_run(tmp_path / "a"))

    assert [one.verdict for one in judged.judgements] == [Verdict.SAME, Verdict.SAME]
    assert {(one.ratio.point, one.ratio.low, one.ratio.high) for one in judged.judgements} == {(1, 1, 1)}
    assert all(pair.base_line == 0 < pair.head_line for one in judged.judgements for pair in one.pairs)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(1e-6, 1e-1), min_size=1, max_size=400),
    per_value=st.integers(1, 7),
    lacking=st.integers(0, 6),
    share=st.floats(0, 1),
)
def test_condensed_rounds_still_tell_how_long_any_number_of_them_took(values, per_value, lacking, share):
    rounds = len(values) * per_value - min(lacking, per_value - 1)
    last = rounds - (len(values) - 1) * per_value
    total_s = sum(values[:-1]) * per_value + values[-1] * last
    whole = record(
        "plain", 1.0, rounds_s=values, rounds_per_value=per_value, measured_rounds=rounds, measured_s=total_s
    )

    kept = stored_seed(whole)
    condensed = record("plain", 1.0, **msgspec.to_builtins(kept))

    assert len(kept.rounds_s) <= 50
    assert time_of_rounds(condensed, rounds) == total_s
    # Within a value each round counts as much as any other; where values end, nothing is lost.
    ends = round(share * (len(kept.rounds_s) - 1)) * kept.rounds_per_value
    assert time_of_rounds(condensed, ends) == pytest.approx(time_of_rounds(whole, ends), rel=1e-5)


def test_a_baseline_of_the_default_suite_stays_small():
    rounds = [1.2345678e-3] * 5_000
    one = stored_seed(record("plain", 1.0, rounds_s=rounds, measured_rounds=5_000, measured_s=6.0))
    cells = {str(seed): msgspec.to_builtins(one) for seed in range(24)}

    assert len(stable_json([cells] * 10)) < 300_000


@pytest.mark.parametrize(
    "name", ["", "..", "../main", "a/b", "/etc/passwd", ".hidden", "-flag", "a b", "main.json\n", "x" * 101]
)
def test_a_name_that_could_be_a_path_is_refused(name):
    with pytest.raises(UsageError, match="cannot be called"):
        BaselineFile(name)


def test_a_baseline_is_not_saved_over_another(stored, tmp_path):
    before = stored.path.read_bytes()

    with pytest.raises(UsageError, match="baseline update main"):
        save(stored, tmp_path / "a")
    assert stored.path.read_bytes() == before


def test_a_run_of_fewer_than_six_seeds_is_no_baseline(tmp_path, folder):
    with pytest.raises(UsageError, match="5 seeds of simulation on plain"):
        save(BaselineFile("main", folder), run_folder(tmp_path / "a", {"plain": rates(5)}))
    assert not folder.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"outcome": "failed", "reason": "it burnt"}, "on plain: failed: head failed in 1 of 8 invocations: it burnt"),
        ({"outcome": "timeout", "reason": "slow"}, "on plain: timeout: head timed out"),
        ({"digest": "another"}, "on plain: invalid: head: digest differs from the sequential runtime's for seed 8"),
    ],
)
def test_a_run_with_a_failed_or_invalid_cell_is_no_baseline_and_the_cell_is_named(tmp_path, folder, changes, said):
    run = run_folder(tmp_path / "a", {"sequential": rates(9), "plain": rates(7)})
    RecordFile(run).append(record("plain", 1e4, 8, machine=machine(), **changes))

    with pytest.raises(UsageError) as refusal:
        save(BaselineFile("main", folder), run)
    assert said in str(refusal.value)
    assert "CartPole-v1 x 15" in str(refusal.value)
    assert not folder.exists()


def test_a_run_with_a_planned_cell_that_was_not_measured_is_no_baseline(tmp_path, folder):
    run = run_folder(tmp_path / "a", {"sequential": rates(), "plain": []})

    with pytest.raises(UsageError, match="on plain: missing: head was not measured"):
        save(BaselineFile("main", folder), run)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"fingerprint": ELSEWHERE}, "2 different machines"),
        ({"commit": "decade"}, "2 different commits"),
        ({"packages": {"numpy": "1"}}, "2 different sets of packages"),
    ],
)
def test_a_run_of_several_machines_commits_or_packages_is_no_baseline(tmp_path, folder, facts, said):
    run = run_folder(tmp_path / "a", {"plain": rates()})
    RecordFile(run).append(record("plain", 1e4, 8, machine=machine(**facts)))

    with pytest.raises(UsageError, match=said):
        save(BaselineFile("main", folder), run)


def test_a_run_whose_machine_nobody_knows_is_no_baseline(tmp_path, folder):
    run = run_folder(tmp_path / "a", {"plain": rates()}, facts={"processors": 2})

    with pytest.raises(UsageError, match="no fingerprint"):
        save(BaselineFile("main", folder), run)


def test_a_folder_without_a_plan_is_no_baseline(tmp_path, folder):
    run = run_folder(tmp_path / "a", {"plain": rates()})
    PlanFile(run).path.unlink()

    with pytest.raises(UsageError, match=r"no plan\.json"):
        save(BaselineFile("main", folder), run)


def test_changes_that_were_not_committed_are_told(in_this_process, tmp_path):
    run_folder(tmp_path / "a", {"plain": rates()}, facts=machine(tree_clean=False))

    done = in_this_process("baseline", "save", "main", "a")

    assert done.returncode == 0
    assert "not those of the commit" in done.stderr
    assert "with changes" in in_this_process("baseline", "show", "main").stdout


def test_what_is_stored_is_shown(stored, in_this_process):
    shown = in_this_process("baseline", "show", "main").stdout

    assert "commit c0ffee" in shown
    assert "plain" in shown
    assert "environment steps/s" in shown
    assert "0-7" in shown
    assert json.loads(in_this_process("baseline", "show", "main", "--json").stdout)["suite"] == "tiny"


def without(name):
    return lambda values: values["cells"][0].pop(name)


def with_value(name, value):
    return lambda values: values.__setitem__(name, value)


def cut_seeds(values):
    values["cells"][1]["seeds"] = dict(list(values["cells"][1]["seeds"].items())[:5])


def no_seeds(values):
    values["cells"][1]["seeds"] = {}


def far_seeds(values):
    seeds = values["cells"][0]["seeds"]
    seeds["4000000000"] = seeds["0"]


def cut_rounds(values):
    values["cells"][0]["seeds"]["0"]["rounds_s"] = [0.1, 0.2]


BROKEN = [
    (with_value("schema_version", 2), "has schema 2; this version reads 1. Update"),
    (with_value("schema_version", "one"), "is not a baseline"),
    (with_value("surprise", 1), "unknown field `surprise`"),
    (without("rounds"), "missing required field `rounds`"),
    (with_value("cells", []), "has no cell"),
    (cut_seeds, "has 5 seeds of simulation"),
    (no_seeds, "has a cell without seeds"),
    (far_seeds, "has seeds from 0 to 4000000000"),
    (cut_rounds, "has 2 values of simulation"),
    (lambda values: values["cells"].append(values["cells"][0]), "twice"),
]


@pytest.mark.parametrize(("change", "said"), BROKEN)
def test_a_file_that_is_not_sound_is_refused(stored, change, said):
    changed(stored, change)

    with pytest.raises(UsageError) as refusal:
        stored.read()
    assert said in str(refusal.value)


def test_a_baseline_that_is_not_there_is_told_with_the_nearest_name(stored, folder):
    with pytest.raises(UsageError, match="Did you mean 'main'"):
        BaselineFile("mian", folder).read()


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(stored, folder, tmp_path, monkeypatch):
    before = stored.path.read_bytes()
    run = run_folder(tmp_path / "b", {"plain": rates(name="c"), "other": rates(name="d")})

    def refuse(_number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(UsageError, match="No space left on device"):
        updated(stored, run)
    monkeypatch.undo()
    assert stored.path.read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["main.json"]

    updated(stored, run)
    assert stored.path.read_bytes() != before
    assert [path.name for path in folder.iterdir()] == ["main.json"]


# --------------------------------------------------------------------------------------------- update


def test_a_run_that_is_no_worse_takes_the_place_of_the_stored_one(stored, tmp_path):
    run = run_folder(
        tmp_path / "b", {"plain": rates(speed=1.5), "other": rates(name="c")}, facts=machine(commit="decade")
    )

    updated(stored, run)

    found = stored.read()
    assert (found.commit, found.history) == ("decade", [])
    (one, _) = compare_finished(found.finished("main"), finished_run(run)).judgements
    assert one.ratio.point == 1


def test_a_slower_cell_is_refused_by_the_name_that_accepts_it(stored, tmp_path):
    run = run_folder(tmp_path / "b", {"plain": rates(speed=0.7), "other": rates(name="c")})
    before = stored.path.read_bytes()

    with pytest.raises(UsageError) as refusal:
        updated(stored, run)
    assert "CartPole-v1 x 15 on plain: slower, 0.7" in str(refusal.value)
    assert "--accept 'CartPole-v1 x 15 on plain' --reason TEXT" in str(refusal.value)
    assert "on other" not in str(refusal.value)
    assert stored.path.read_bytes() == before

    found = updated(stored, run, "CartPole-v1 x 15 on plain", reason=" checks more ")
    (change,) = found.history
    assert (change.date, change.commit, change.verdict) == ("2030-01-02T03:04:05+00:00", "c0ffee", "slower")
    assert (change.cell, change.reason) == ("CartPole-v1 x 15 on plain", "checks more")
    assert change.ratio == pytest.approx(0.7, rel=0.05)
    assert stored.read() == found


def test_what_was_accepted_once_stays_on_record(stored, tmp_path):
    for name, speed in (("b", 0.7), ("c", 0.5)):
        run = run_folder(tmp_path / name, {"plain": rates(speed=speed), "other": rates(name="b")})
        updated(stored, run, "*plain", reason=f"for {name}")

    assert [change.reason for change in stored.read().history] == ["for b", "for c"]


@pytest.mark.parametrize(
    ("accept", "reason", "said"),
    [
        (["*plain"], "", "Add --reason TEXT"),
        (["*plain"], "  ", "Add --reason TEXT"),
        ([], "because", "--accept CELL"),
        (["CartPole-v1 x 15 on plan"], "because", "Did you mean 'CartPole-v1 x 15 on plain'?"),
        (["CartPole"], "because", "fits 2 cells"),
        (["*other"], "because", "is same, so there is nothing to accept"),
    ],
)
def test_an_acceptance_that_says_too_little_is_refused(stored, tmp_path, accept, reason, said):
    run = run_folder(tmp_path / "b", {"plain": rates(speed=0.7), "other": rates(name="b")})

    with pytest.raises(UsageError) as refusal:
        updated(stored, run, *accept, reason=reason)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"outcome": "failed", "reason": "it burnt"}, "failed"),
        ({"outcome": "timeout", "reason": "slow"}, "timeout"),
        ({"outcome": "skipped", "reason": "Sunday"}, "missing"),
    ],
)
def test_a_cell_without_times_is_refused_and_where_accepted_leaves_the_baseline(stored, tmp_path, changes, verdict):
    run = run_folder(tmp_path / "b", {"plain": [], "other": rates(name="b")}, plan=plan_of(["plain", "other"]))
    for block in range(8):
        RecordFile(run).append(record("plain", 1e4, block, machine=machine(), **changes))

    with pytest.raises(UsageError, match=f"on plain: {verdict}"):
        updated(stored, run)
    found = updated(stored, run, "*plain", reason="gone")

    assert [cell.runtime for cell in found.cells] == ["other"]
    assert [(change.verdict, change.ratio) for change in found.history] == [(verdict, None)]


def test_a_cell_that_computes_something_else_is_refused_and_where_accepted_is_stored(stored, tmp_path):
    run = run_folder(tmp_path / "b", {"plain": rates(), "other": rates(name="b")}, digest="another")

    with pytest.raises(UsageError, match="not comparable: the two computed different things"):
        updated(stored, run)
    found = updated(stored, run, "*plain", "*other", reason="a new rule")

    assert {one.digest for cell in found.cells for one in cell.seeds.values()} == {"another"}


def test_another_machine_updates_a_baseline_only_by_force(stored, tmp_path):
    run = run_folder(tmp_path / "b", {"plain": rates(), "other": rates(name="b")}, facts=machine(fingerprint=ELSEWHERE))

    with pytest.raises(UsageError, match="another machine"):
        updated(stored, run)
    assert updated(stored, run, force=True).fingerprint == ELSEWHERE


def test_update_prints_the_comparison_and_where_the_baseline_is(stored, in_this_process, tmp_path):
    run_folder(tmp_path / "b", {"plain": rates(speed=1.4), "other": rates(name="b")})

    done = in_this_process("baseline", "update", "main", "b")

    assert done.returncode == 0
    assert "faster" in done.stdout
    assert done.stdout.endswith("results/baselines/main.json\n")
    assert in_this_process("baseline", "update", "mian", "b").returncode == 2


# -------------------------------------------------------------------------------------------- compare


def test_a_baseline_is_compared_with_a_run_by_its_name(stored, in_this_process, tmp_path):
    run_folder(tmp_path / "b", {"plain": rates(speed=0.7), "other": rates(name="b")})

    done = in_this_process("compare", "main", "b", "--json")

    assert done.returncode == 1
    verdicts = {one["runtime"]: one["verdict"] for one in json.loads(done.stdout)["judgements"]}
    assert verdicts == {"plain": "slower", "other": "same"}


def test_a_folder_wins_over_a_baseline_of_that_name_and_it_is_said(stored, in_this_process, tmp_path, monkeypatch):
    run_folder(tmp_path / "main", {"plain": rates(speed=0.5), "other": rates(name="b")})
    run_folder(tmp_path / "b", {"plain": rates(speed=0.5), "other": rates(name="b")})
    shown = []
    monkeypatch.setattr("harness.regression.outputs.print_judged", lambda judged, console: shown.append(judged))

    assert in_this_process("compare", "main", "b").returncode == 0
    assert "There is a baseline 'main' too" in shown[0].warnings[0]


def test_a_stored_cell_that_the_run_does_not_have_is_missing(stored, tmp_path):
    run = finished_run(run_folder(tmp_path / "b", {"plain": rates()}))

    judged = compare_finished(stored.read().finished("main"), run)

    assert [one.verdict for one in judged.judgements] == [Verdict.SAME, Verdict.MISSING]
    assert list(judged.judgements[1].parameters) == ["env_id", "envs", "fragment"]


# ---------------------------------------------------------------------------------------- suite hash


def test_the_hash_of_a_suite_is_of_what_is_measured_and_not_of_how_often():
    plan = plan_of(["plain", "other"])
    (cell,) = plan.cells
    same = [
        msgspec.structs.replace(plan, seed=7, invocations=99, name="else", title="Else"),
        msgspec.structs.replace(plan, cells=(msgspec.structs.replace(cell, name="x", measure_s=9.0),)),
        plan_of(["other", "plain"]),
    ]
    others = [
        plan_of(["plain"]),
        plan_of(["plain", "other"], rounds=51),
        msgspec.structs.replace(plan, cells=(msgspec.structs.replace(cell, warmup_rounds=1),)),
        msgspec.structs.replace(plan, cells=(msgspec.structs.replace(cell, parameters={"envs": 16}),)),
    ]

    assert {suite_hash(one) for one in same} == {suite_hash(plan)}
    assert len({suite_hash(one) for one in [plan, *others]}) == 5


# ---------------------------------------------------------------------------------- check --baseline

COUNTING = ("--workload", "counting", "--runtime", "plain", "--warmup-rounds", "3", "--rounds", "4", "--measure-s", "0")


@pytest.fixture
def unmeasured(monkeypatch):
    """Whatever measures, fails the test."""

    def refuse(*_, **__):
        raise AssertionError("something was measured")

    monkeypatch.setattr("harness.runner.measure", refuse)
    monkeypatch.setattr("harness.runner.check_pairings", refuse)


@pytest.mark.timeout(900)  # twelve real invocations, however busy the machine is
def test_a_run_is_saved_and_checked_against(in_this_process, tmp_path):
    run = in_this_process("run", *COUNTING, "--invocations", "6", "--seed", "3", "--no-figures", "--out", "a")
    assert run.returncode == 0, run.stderr
    saved = in_this_process("baseline", "save", "main", "a")
    assert saved.returncode == 0, saved.stderr

    done = in_this_process("check", *COUNTING, "--baseline", "main", "--out", "b", "--json")

    # How fast this machine happens to be now decides over the verdict, and is nothing to test.
    assert done.returncode in {0, 1, 4}, done.stderr
    (judgement,) = json.loads(done.stdout)["judgements"]
    assert judgement["interleaved"] is False
    assert [pair["seed"] for pair in judgement["pairs"]] == [3, 4, 5, 6, 7, 8]
    assert (tmp_path / "b" / "verdicts.json").is_file()
    assert len(RecordFile(tmp_path / "b").read()) == 6


@pytest.fixture
def of_counting(installed, tmp_path, folder):
    """A baseline of the workload `counting`."""
    from harness.options import Selection

    plan = Selection(
        workload="counting", runtime=["plain"], warmup_rounds=3, rounds=4, measure_s=0.0, invocations=8
    ).plan(None)
    (cell,) = plan.cells
    run = run_folder(
        tmp_path / "a",
        {"plain": rates()},
        plan=plan,
        workload="counting",
        parameters=cell.parameters,
        options=cell.runtimes[0].options,
        warmup_rounds=3,
        rounds=4,
    )
    file = BaselineFile("main", folder)
    save(file, run)
    return file


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(("change", "said"), BROKEN[:5])
def test_nothing_is_measured_against_a_baseline_that_is_not_sound(of_counting, in_this_process, tmp_path, change, said):
    changed(of_counting, change)

    done = in_this_process("check", *COUNTING, "--baseline", "main", "--out", "b")

    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "b").exists()


@pytest.mark.usefixtures("unmeasured", "of_counting")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--baseline", "mian"), "Did you mean 'main'?"),
        (("--baseline", "main", "--runtime", "other"), "is of suite 'counting' with hash"),
        (("--baseline", "main", "--set", "width=4"), "is of suite 'counting' with hash"),
        (("--baseline", "main", "--base", "python"), "Name what to compare with, once"),
        ((), "Name what to compare with, once"),
        (("--baseline", "main", "--beyond", "0.1"), "--beyond cannot go with --baseline"),
        (("--baseline", "main", "--base-name", "x"), "--base-name cannot go with --baseline"),
        (("--baseline", "main", "--budget-s", "9"), "--budget-s cannot go with --baseline"),
        (("--baseline", "main", "--seed", "9"), "--seed cannot go with --baseline"),
        (("--baseline", "main", "--resume"), "Add --out DIR"),
        (("--baseline", "main", "--noise", "nowhere"), "There is no noise in nowhere"),
        (("--base", "python", "--noise", "n"), "--noise cannot go with --base"),
        (("--base", "python", "--force"), "--force cannot go with --base"),
    ],
)
def test_nothing_is_measured_where_the_arguments_do_not_fit(in_this_process, arguments, said):
    done = in_this_process("check", *COUNTING, *arguments)

    assert done.returncode == 2
    assert said in done.stderr


def test_nothing_is_measured_against_a_baseline_of_another_machine(of_counting, in_this_process, unmeasured, tmp_path):
    changed(of_counting, with_value("fingerprint", ELSEWHERE))

    done = in_this_process("check", *COUNTING, "--baseline", "main", "--out", "b")

    assert done.returncode == 2
    assert "main was measured on another machine than this machine" in done.stderr
    assert "--force" in done.stderr
    assert not (tmp_path / "b").exists()


@pytest.fixture
def measured(monkeypatch):
    """Which invocations were measured, by which version; none takes any time."""
    return without_measuring(monkeypatch)


def test_the_head_alone_is_measured_with_the_seeds_of_each_stored_cell(of_counting, in_this_process, measured):
    def shorten(values):
        seeds = values["cells"][0]["seeds"]
        values["cells"][0]["seeds"] = {seed: seeds[seed] for seed in seeds if seed not in {"0", "4"}}

    changed(of_counting, shorten)

    done = in_this_process("check", *COUNTING, "--baseline", "main", "--out", "b", "--json")

    assert done.returncode == 0, done.stderr
    assert sorted(invocation.seed for invocation, _ in measured) == [1, 2, 3, 5, 6, 7]
    assert {(invocation.side, version) for invocation, version in measured} == {("", None)}
    (judgement,) = json.loads(done.stdout)["judgements"]
    assert judgement["verdict"] == "same"


def test_a_check_that_was_forced_onto_another_machine_is_stamped(of_counting, in_this_process, measured, monkeypatch):
    changed(of_counting, with_value("fingerprint", ELSEWHERE))
    shown = []
    monkeypatch.setattr("harness.regression.outputs.print_judged", lambda judged, console: shown.append(judged))

    done = in_this_process("check", *COUNTING, "--baseline", "main", "--out", "b", "--force")

    assert done.returncode == 0, done.stderr
    assert "another machine" in shown[0].stamps[0]
    assert shown[0].command.startswith("reactorbench check --workload=counting --runtime=plain")
    assert shown[0].command.endswith("--baseline=main --force --head-name=head --target=0.1")
    assert shown[0].head_name == "head"


def test_a_check_against_a_baseline_is_resumed_in_its_own_folder_only(of_counting, in_this_process, measured):
    assert in_this_process("check", *COUNTING, "--baseline", "main", "--out", "b").returncode == 0
    number = len(measured)

    assert in_this_process("check", *COUNTING, "--baseline", "main", "--out", "b", "--resume").returncode == 0
    assert len(measured) == number
    assert "--resume" in in_this_process("check", *COUNTING, "--baseline", "main", "--out", "b").stderr
    refused = in_this_process("check", *COUNTING, "--baseline", "main", "--out", "b", "--resume", "--timeout-s", "7")
    assert refused.returncode == 2
    assert "timeout_s is 300.0 there and 7.0 here" in refused.stderr
