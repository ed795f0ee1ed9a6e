"""`check --profile`: where the slower side spends its time, by py-spy, or by cProfile where that is not to be had."""

from __future__ import annotations

import json
import pstats
import sys

import pytest

from harness.errors import Interrupted
from harness.plan import Cell, Plan, RuntimeChoice, planned_pairings
from harness.regression.judged import Judged
from harness.regression.judging import Judgement, Verdict
from harness.regression.profiling import Profiler, py_spy, to_be_profiled, with_profiles
from harness.versions import Facts, Version
from tests.harness.installations import ROOT, copy_of_plugins, install
from tests.harness.test_check import VARIANTS

PARAMETERS = {"width": 2, "step": 1.0, "direction": "up", "target": "here", "offsets": []}


class Said:
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def judgement(verdict, **changes):
    known = {"workload": "counting", "parameters": PARAMETERS, "runtime": "plain", "options": {}, "verdict": verdict}
    return Judgement(**(known | changes))


def judged(*judgements):
    return Judged(title="A check", base_name="main", head_name="topic", judgements=judgements)


def program(path, *lines):
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def profiler(plugins, installed, tmp_path, monkeypatch):
    """Makes a profiler of a workload on a runtime of the plug-ins, for as short as possible."""
    monkeypatch.setenv("PYTHONPATH", str(plugins), prepend=":")
    (tmp_path / "logs").mkdir()
    cell = Cell(
        workload="counting",
        parameters=PARAMETERS,
        runtimes=(RuntimeChoice(name="plain", options={}),),
        warmup_rounds=1,
        rounds=1,
        measure_s=0.2,
    )
    plan = Plan(name="p", title="P", invocations=1, timeout_s=60, seed=0, cells=(cell,))
    facts = Facts(reactorbench="0", protocol=2, python="", packages={}, path_length=0, workloads={}, runtimes={})
    facts.workloads["counting"], facts.runtimes["plain"] = list(PARAMETERS), []

    def make(*, spy=None, interpreter=None):
        return Profiler(
            folder=tmp_path,
            plan=plan,
            side="head",
            version=Version(interpreter=interpreter, facts=facts),
            progress=Said(),
            spy=spy,
            resume="reactorbench check --resume",
            least_s=0.2,
        )

    return make


def profile(profiler, one):
    """Profile `one`; the file that is shown with it, and what was said."""
    profiler.profile(judged(one), planned_pairings(profiler.plan))
    (shown,) = with_profiles(judged(one), profiler.folder).judgements
    return shown.profile, profiler.progress.messages[-1]


def test_what_is_slower_or_may_be_is_profiled_and_nothing_else():
    others = [judgement(verdict) for verdict in Verdict if verdict is not Verdict.SLOWER]
    slower, hiding = judgement(Verdict.SLOWER), judgement(Verdict.INCONCLUSIVE, hides_target=True)

    assert to_be_profiled([*others, slower, hiding]) == [slower, hiding]


@pytest.mark.skipif(py_spy() is None, reason="py-spy is not installed")
def test_py_spy_draws_a_flame_graph_or_cprofile_steps_in_where_that_is_forbidden(profiler):
    this = profiler(spy=py_spy())

    shown, said = profile(this, judgement(Verdict.SLOWER))

    assert shown is not None, said
    text = (this.folder / shown).read_text(encoding="utf-8")
    if shown.endswith(".svg"):
        assert "<svg" in text
    else:
        assert "forbids" in said


def test_the_child_lives_under_a_profiler_and_what_that_writes_is_shown(profiler, tmp_path):
    # `py-spy record --subprocesses --idle --rate R --format F --output FILE -- COMMAND...`
    spy = program(tmp_path / "spy", "file=$9", "shift 10", '"$@" && echo "<svg>ran</svg>" >"$file"')

    shown, said = profile(profiler(spy=spy), judgement(Verdict.SLOWER))

    assert shown is not None, said
    assert (tmp_path / shown).read_text(encoding="utf-8") == "<svg>ran</svg>\n"
    assert shown.startswith("profiles/counting-plain-")


def test_where_py_spy_is_refused_cprofile_watches_and_it_is_said(profiler, tmp_path):
    spy = program(tmp_path / "spy", "echo Permission denied >&2", "exit 1")

    shown, said = profile(profiler(spy=spy), judgement(Verdict.SLOWER))

    assert shown.endswith(".txt")
    assert "forbids" in said
    assert "Permission denied" in (tmp_path / "logs" / "profile.log").read_text(encoding="utf-8")


def test_without_py_spy_cprofile_leaves_a_table_and_its_data(profiler, tmp_path):
    shown, said = profile(profiler(), judgement(Verdict.INCONCLUSIVE, hides_target=True))

    assert "py-spy is not installed" in said
    assert "fire" in (tmp_path / shown).read_text(encoding="utf-8")
    data = pstats.Stats(str((tmp_path / shown).with_suffix(".pstats")))
    assert any(function == "fire" for _, _, function in data.stats)


def test_a_version_that_cannot_be_profiled_is_said_to_be_one(profiler, tmp_path):
    """As an older one that does not know the field of its job."""
    older = program(tmp_path / "python", "exit 0")

    shown, said = profile(profiler(interpreter=older), judgement(Verdict.SLOWER))

    assert shown is None
    assert said.startswith("There is no profile")


def test_a_profile_of_an_earlier_run_does_not_pass_for_one_of_this(profiler, tmp_path):
    shown, _ = profile(profiler(), judgement(Verdict.SLOWER))

    again, _ = profile(profiler(interpreter=program(tmp_path / "python", "exit 0")), judgement(Verdict.SLOWER))

    assert (shown is not None, again) == (True, None)


def test_cells_and_runtimes_have_profiles_of_their_own(profiler):
    shown, _ = profile(profiler(), judgement(Verdict.SLOWER))

    others = judged(judgement(Verdict.SLOWER, parameters=PARAMETERS | {"width": 3}), judgement(Verdict.SAME))
    assert [one.profile for one in with_profiles(others, profiler().folder).judgements] == [None, shown]


def test_check_profiles_the_slower_side_and_every_report_links_it(in_this_process, plugins, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.regression.commands.FIRST_PAIRS", 6)
    monkeypatch.setattr("harness.regression.commands.SECOND_PAIRS", 6)
    pythons = {}
    for name in ("same", "slow"):
        kit = copy_of_plugins(plugins, tmp_path / f"kit-{name}", VARIANTS[name])
        pythons[name] = install(tmp_path / name, ROOT, kit)

    done = in_this_process(
        *("check", "--workload", "counting", "--runtime", "plain", "--profile", "--out", "mine", "--json"),
        *("--base", pythons["same"], "--head", pythons["slow"]),
        *("--warmup-rounds", "1", "--rounds", "2", "--measure-s", "0"),
    )

    (one,) = json.loads(done.stdout)["judgements"]
    assert one["verdict"] == "slower", done.stderr
    assert (tmp_path / "mine" / one["profile"]).stat().st_size > 0
    # It counts for nothing.
    assert len((tmp_path / "mine" / "records.jsonl").read_text(encoding="utf-8").splitlines()) == 24
    assert one["profile"] in in_this_process("report", "mine").stdout


def test_ctrl_c_says_how_to_go_on(profiler, monkeypatch):
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.regression.profiling.measure", interrupt)

    with pytest.raises(Interrupted, match="reactorbench check --resume --profile"):
        profile(profiler(), judgement(Verdict.SLOWER))


def test_py_spy_of_this_environment_comes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    beside = program(tmp_path / "py-spy", "exit 0")

    assert py_spy() == beside
