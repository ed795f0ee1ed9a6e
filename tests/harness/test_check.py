"""`check`: two versions in turns, judged by pairs that were fixed beforehand."""

from __future__ import annotations

import io
import json
import signal

import msgspec
import pytest
from rich.console import Console

from harness.errors import UsageError
from harness.plan import Cell, Plan, PlanFile, RuntimeChoice, schedule
from harness.progress import PlainProgress
from harness.records import RecordFile
from harness.regression.check import Check, Design, DesignFile, judged_folder, plan_of_check, side_facts
from harness.regression.judging import Verdict
from harness.runner import Runner, prepare_folder
from harness.versions import version_at
from tests.harness.installations import ROOT, copy_of_plugins, install
from tests.harness.records_of import record
from tests.harness.test_running import wait_until

pytestmark = pytest.mark.usefixtures("guest")

SLOW = """def open_plain(graph, options, scratch):
    return Slow(graph)


class Slow(SequentialSession):
    def advance(self, rounds):
        durations = super().advance(rounds)
        time.sleep(0.005 * rounds)
        return durations + 5_000_000
"""

VARIANTS = {
    "same": [],
    # A hundred times as long as a round of the loop: no machine is as noisy.
    "slow": [
        ("plugin_kit.py", "def open_plain(graph, options, scratch):\n    return SequentialSession(graph)\n", SLOW),
        ("plugin_kit-1.0.dist-info/entry_points.txt", "other = plugin_kit:OTHER\n", ""),
    ],
}


@pytest.fixture(scope="module")
def pythons(plugins, tmp_path_factory):
    """Interpreters with this version and plug-ins that differ, by name."""
    folder = tmp_path_factory.mktemp("pythons")
    made = {}
    for name, changes in VARIANTS.items():
        kit = copy_of_plugins(plugins, folder / f"kit-{name}", changes)
        made[name] = install(folder / name, ROOT, kit)
    return made


def plan_with(*runtimes, rounds=4):
    return Plan(
        name="example",
        title="Example",
        invocations=2,
        timeout_s=60.0,
        seed=7,
        cells=(
            Cell(
                workload="counting",
                parameters={"width": 3, "step": 1.0, "direction": "up", "target": "here", "offsets": []},
                runtimes=tuple(RuntimeChoice(name=name, options={"workers": 0, "where": ""}) for name in runtimes),
                warmup_rounds=1,
                rounds=rounds,
                measure_s=0.0,
                name="counting",
            ),
        ),
    )


def check_of(folder, base, head, *runtimes, second=6, budget_s=None, output=None):  # noqa: PLR0913
    """A check that is as small as a check can be."""
    versions = {"base": version_at(str(base), "--base"), "head": version_at(str(head), "--head")}
    sides = {name: side_facts(name, version) for name, version in versions.items()}
    design = Design(first_pairs=6, second_pairs=second, sides=sides)
    plan = plan_of_check(plan_with(*runtimes), design)
    prepare_folder(folder, resume=True)
    PlanFile(folder).write(plan)
    DesignFile(folder).write(design)
    progress = PlainProgress(Console(file=output or io.StringIO(), width=150))
    return Check(
        plan=plan,
        design=design,
        folder=folder,
        progress=progress,
        versions=versions,
        resume="go on so",
        budget_s=budget_s,
    )


def test_sides_take_turns_with_everything_in_common_but_their_version(pythons, tmp_path):
    check_of(tmp_path, pythons["slow"], pythons["same"], "plain", "other", second=0).run()

    records = [record for record in RecordFile(tmp_path).read() if record.runtime == "plain"]
    assert len(records) == 2 * 6
    for first, second, third, fourth in zip(*(records[start::4] for start in range(4)), strict=True):
        assert first.side != second.side
        assert (third.side, fourth.side) == (second.side, first.side)
        assert (first.seed, first.block, first.digest) == (second.seed, second.block, second.digest)
        assert third.seed == first.seed + 1
    faster, new = judged_folder(tmp_path).judgements
    assert faster.verdict is Verdict.FASTER
    assert new.verdict is Verdict.NEW
    assert new.reasons == ("base was skipped in 6 of 6 invocations: this version has no runtime 'other'",)


def test_an_interrupted_check_goes_on_where_it_was(pythons, tmp_path, monkeypatch):
    check = check_of(tmp_path, pythons["same"], pythons["same"], "plain", second=0)
    finished = PlainProgress.finished

    def interrupt(self, invocation, record):
        finished(self, invocation, record)
        if invocation.side and len(RecordFile(tmp_path).read()) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(PlainProgress, "finished", interrupt)
    with pytest.raises(Exception, match="go on so"):
        check.run()
    kept = RecordFile(tmp_path).read()
    monkeypatch.setattr(PlainProgress, "finished", finished)
    check.run()

    assert len(kept) == 3
    records = RecordFile(tmp_path).read()
    assert records[:3] == kept
    # The third began a pair that was not finished: both of it ran again, in turns.
    assert len(records) == 13
    assert {(r.side, r.block) for r in records[3:5]} == {("base", kept[2].block), ("head", kept[2].block)}


@pytest.mark.parametrize(("budget_s", "how"), [(0.0, "at the very least"), (0.5, "by a pilot")])
def test_a_budget_that_is_too_small_is_refused_before_anything_is_measured(pythons, tmp_path, budget_s, how):
    check = check_of(tmp_path, pythons["same"], pythons["same"], "plain", budget_s=budget_s)
    if how == "at the very least":
        cell = msgspec.structs.replace(check.plan.cells[0], measure_s=1.0)
        object.__setattr__(check, "plan", msgspec.structs.replace(check.plan, cells=(cell,)))

    with pytest.raises(UsageError, match=f"budget of .* is too small.*{how}.*--budget-s"):
        check.run()
    assert RecordFile(tmp_path).read() == []


# ------------------------------------------------------------------------------------- command line


def test_the_command_checks_reports_and_exits_with_the_verdict(in_this_process, pythons, monkeypatch, tmp_path):
    monkeypatch.setattr("harness.regression.commands.FIRST_PAIRS", 6)
    monkeypatch.setattr("harness.regression.commands.SECOND_PAIRS", 6)
    done = in_this_process(
        *("check", "--workload", "counting", "--runtime", "plain", "--base", pythons["same"]),
        *("--head", pythons["slow"], "--base-name", "v1", "--head-name", "v2"),
        *("--warmup-rounds", "1", "--rounds", "2", "--measure-s", "0", "--out", "mine", "--json"),
    )

    answer = json.loads(done.stdout)
    assert done.returncode == answer["exit_status"] == 1, done.stderr
    assert answer["judgements"][0]["verdict"] == "slower"
    assert "6 fresh pairs" in done.stderr
    (judged,) = judged_folder(tmp_path / "mine").judgements
    assert judged.ratio.high < 0.5
    assert [pair.seed for pair in judged.pairs] == list(range(6, 12))
    assert [pair.seed for pair in judged.first_pairs] == list(range(6))
    records = (tmp_path / "mine" / "records.jsonl").read_bytes()
    again = in_this_process("report", "mine")
    assert again.returncode == 1, again.stderr
    assert "slower" in again.stdout
    assert in_this_process("report", "mine", "--margin", "5").returncode == 2
    assert (tmp_path / "mine" / "records.jsonl").read_bytes() == records


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), 1),
        (("--margin", "0.06", "--beyond", "0.055"), 0),
        (("--margin", "0.01", "--beyond", "0.06", "--target", "0.04"), 4),
    ],
)
def test_what_was_measured_is_judged_again_by_other_margins_without_measuring(
    in_this_process, pythons, tmp_path, arguments, status
):
    check = check_of(tmp_path / "mine", pythons["same"], pythons["same"], "plain", second=0)
    folder, plan = check.folder, check.plan
    for block in range(6):
        for side, rate in (("base", 1000 + block), ("head", 955 + block)):
            made = record("plain", rate, block, seed=7 + block, side=side, workload="counting")
            fields = {"parameters": plan.cells[0].parameters, "options": plan.cells[0].runtimes[0].options}
            RecordFile(folder).append(msgspec.structs.replace(made, **fields))
    before = (folder / "records.jsonl").read_bytes()

    done = in_this_process("report", folder, *arguments)

    assert done.returncode == status, done.stdout
    assert (folder / "records.jsonl").read_bytes() == before


def test_a_check_that_was_not_finished_has_no_verdict(pythons, tmp_path):
    check = check_of(tmp_path, pythons["same"], pythons["same"], "plain")
    plan = msgspec.structs.replace(check.plan, invocations=6)
    for block in range(6):
        for side in ("base", "head"):
            made = record("plain", 1000 + block, block, seed=7 + block, side=side, workload="counting")
            fields = {"parameters": plan.cells[0].parameters, "options": plan.cells[0].runtimes[0].options}
            if (block, side) != (5, "head"):
                RecordFile(tmp_path).append(msgspec.structs.replace(made, **fields))

    judged = judged_folder(tmp_path)

    assert judged.judgements[0].verdict is Verdict.MISSING
    assert "5 of 6 pairs" in judged.judgements[0].reasons[0]
    assert judged.exit_status == 4


def test_a_base_that_is_too_old_for_a_cell_spoils_no_other(pythons, tmp_path):
    check = check_of(tmp_path, pythons["slow"], pythons["same"], "plain", second=0)
    cell = check.plan.cells[0]
    older = msgspec.structs.replace(cell, parameters={**cell.parameters, "direction": "sideways"}, name="older")
    versions = {"base": check.versions["base"], "head": check.versions["base"]}
    runner = Runner(
        plan=msgspec.structs.replace(check.plan, cells=(cell, older), sides=("base", "head")),
        folder=tmp_path,
        progress=check.progress,
        versions=versions,
    )
    due = [i for i in schedule(runner.plan) if i.side == "base"]

    checked = runner._checked_side("base", due)

    (refusal,) = checked.refusals.values()
    assert "this version refuses the cell" in refusal
    assert "sideways" in refusal or "Invalid enum value" in refusal
    with pytest.raises(UsageError):
        runner._checked_side("head", [i for i in schedule(runner.plan) if i.side == "head"])


def test_a_run_is_not_judged_by_margins(in_this_process, tmp_path):
    done = in_this_process("report", tmp_path, "--margin", "0.1")

    assert done.returncode == 2
    assert "holds no check" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--base", "/nowhere/python"), "--base /nowhere/python cannot be run"),
        (("--base", "{longer}"), "paths of different length"),
        (("--base", "{same}", "--head", "{same}", "--invocations", "3"), "number of pairs is fixed"),
        (("--base", "{same}", "--head", "{same}", "--margin", "5"), "fraction of 1, as 0.05"),
        (("--base", "{same}", "--head", "{same}", "--resume"), "Add --out DIR"),
        (
            ("--base", "{same}", "--head", "{same}", "--workload", "unheard", "--runtime", "plain"),
            "Unknown workload 'unheard'",
        ),
    ],
)
def test_bad_input_is_refused_by_name_before_anything_is_measured(in_this_process, pythons, tmp_path, arguments, said):
    longer = tmp_path / "a-rather-long-name-for-a-folder"
    if "{longer}" in arguments:
        (tmp_path / "link").symlink_to(ROOT)
        longer = install(longer, tmp_path / "link")
    words = [word.format(same=pythons["same"], longer=longer) for word in arguments]
    selected = () if "--workload" in words else ("--workload", "counting", "--runtime", "plain")

    done = in_this_process("check", *selected, *words)

    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "results").exists()


def test_a_check_is_resumed_with_the_versions_it_began_with(reactorbench, pythons, tmp_path):
    arguments = (
        *("check", "--workload", "counting", "--runtime", "pausing", "--base", pythons["same"]),
        *("--head", pythons["same"], "--warmup-rounds", "1", "--rounds", "2", "--measure-s", "0", "--out", "mine"),
    )
    process = reactorbench.start(*arguments)
    wait_until(lambda: len(RecordFile(tmp_path / "mine").read()) > 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "--workload=counting --runtime=pausing" in said
    assert f"--base={pythons['same']}" in said
    assert "--resume --out mine" in said
    other = reactorbench(*arguments, "--resume", "--head-name", "another")
    assert other.returncode == 2
    assert "compares other versions" in other.stderr
    begun = RecordFile(tmp_path / "mine").read()
    elsewhere = msgspec.structs.replace(begun[-1], machine={"fingerprint": {"cpu_model": "Testium 3"}})
    RecordFile(tmp_path / "mine").append(elsewhere)
    moved = reactorbench(*arguments, "--resume")
    assert moved.returncode == 2
    assert "was begun on another machine (cpu_model: Testium 3 there" in moved.stderr
