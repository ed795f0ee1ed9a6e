"""Two finished runs compared: how they are matched, what is refused, and what is said of it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.records import RecordFile
from harness.regression.compare import Finished, Yardstick, compare_finished, finished_run
from harness.regression.judged import judge, samples_of
from harness.regression.judging import Margins, Verdict
from harness.regression.noise import CellNoise, Noise, NoiseFile
from tests.harness.records_of import CARTPOLE, record
from tests.harness.run_folders import ELSEWHERE, HERE, machine, rates, run_folder

MIRRORED = {
    Verdict.FASTER: Verdict.SLOWER,
    Verdict.SLOWER: Verdict.FASTER,
    Verdict.NEW: Verdict.MISSING,
    Verdict.MISSING: Verdict.NEW,
}


def finished(records):
    return Finished(name="run", title="Tiny", samples=samples_of(records, prefer_ok=True))


def verdicts(base, head, **given):
    return [one.verdict for one in compare_finished(base, head, **given).judgements]


def noise_file(folder, noises, sessions=5, fingerprint=HERE):
    folder.mkdir()
    cells = [
        CellNoise(
            workload="simulation",
            parameters=CARTPOLE,
            runtime=runtime,
            options={},
            seeds=12,
            sessions=sessions,
            degrees_of_freedom=sessions - 1,
            noise=margin / 4.4,
            margin=margin,
        )
        for runtime, margin in noises.items()
    ]
    NoiseFile(folder).write(Noise(suite="tiny", sessions=sessions, fingerprint=fingerprint, cells=cells))
    return folder


def test_cells_that_changed_by_more_than_a_tenth_are_told_and_the_status_says_so(in_this_process, tmp_path):
    run_folder(tmp_path / "a", {"sequential": rates(), "plain": rates(name="b")})
    run_folder(tmp_path / "b", {"sequential": rates(name="c"), "plain": rates(speed=0.8, name="d")})

    done = in_this_process("compare", "a", "b", "--json")

    found = json.loads(done.stdout)
    assert done.returncode == found["exit_status"] == 1
    assert {one["runtime"]: one["verdict"] for one in found["judgements"]} == {"sequential": "same", "plain": "slower"}
    assert all(one["interleaved"] is False for one in found["judgements"])


def test_a_change_of_a_few_percent_is_the_same_as_long_as_runs_did_not_take_turns(tmp_path):
    base = finished_run(run_folder(tmp_path / "a", {"plain": rates()}))
    head = finished_run(run_folder(tmp_path / "b", {"plain": rates(speed=0.94, name="b")}))

    assert verdicts(base, head) == [Verdict.SAME]
    narrow = Yardstick.asked(0.02, 0.10, None)
    assert verdicts(base, head, yardstick=narrow) == [Verdict.SLOWER]


def test_nothing_in_the_folders_changes_and_files_go_where_they_are_asked_for(in_this_process, tmp_path):
    run_folder(tmp_path / "a", {"plain": rates()})
    run_folder(tmp_path / "b", {"plain": rates(name="b")})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    assert in_this_process("compare", "a", "b").returncode == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert in_this_process("compare", "a", "b", "--out", "c").returncode == 0
    assert {path: path.read_bytes() for path in before} == before
    assert (tmp_path / "c" / "verdicts.json").is_file()


def test_verdicts_are_not_written_into_the_folder_of_a_run(in_this_process, tmp_path):
    run_folder(tmp_path / "a", {"plain": rates()})

    done = in_this_process("compare", "a", "a", "--out", "a")

    assert done.returncode == 2
    assert "already has records" in done.stderr


def test_of_each_seed_the_newest_good_record_counts_and_a_failure_only_where_it_was_never_made_good(tmp_path):
    folder = run_folder(tmp_path / "a", {"plain": rates()})
    for block, outcome in ((0, "failed"), (1, "failed")):
        RecordFile(folder).append(record("plain", 10_000, block, outcome=outcome, reason="a bad day"))
    slow = record("plain", 5_000, 1, machine=machine())
    RecordFile(folder).append(slow)
    run = finished_run(folder)

    ((pairing, samples),) = run.samples.items()
    assert pairing[2] == "plain"
    assert [sample.record.outcome for sample in samples.values()] == ["ok"] * 8
    assert samples[1].record == slow
    assert verdicts(run, run) == [Verdict.SAME]

    RecordFile(folder).append(record("plain", 10_000, 8, outcome="timeout", reason="never came back"))
    (judgement,) = compare_finished(run, finished_run(folder)).judgements
    assert judgement.verdict is Verdict.TIMEOUT
    assert "never came back" in judgement.reasons[0]


def test_without_six_common_seeds_two_runs_are_not_comparable():
    base = finished([record("plain", rate, block) for block, rate in enumerate(rates(8))])
    head = finished([record("plain", rate, block) for block, rate in enumerate(rates(8), start=3)])

    (judgement,) = compare_finished(base, head).judgements

    assert judgement.verdict is Verdict.NOT_COMPARABLE
    assert "5 common seeds; 6 are needed" in judgement.reasons[0]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"rounds": 60}, "50 rounds and the head 60"),
        ({"digest": "another"}, "digests differ for seed 0, 1, 2 and more"),
        ({"warmup_rounds": 10}, "50 warm-up rounds"),
    ],
)
def test_different_work_is_not_comparable(changes, why):
    base = finished([record("plain", rate, block) for block, rate in enumerate(rates())])
    head = finished([record("plain", rate, block, **changes) for block, rate in enumerate(rates())])

    judged = compare_finished(base, head)

    assert judged.judgements[0].verdict is Verdict.NOT_COMPARABLE
    assert why in judged.judgements[0].reasons[0]
    assert judged.exit_status == 2


@pytest.mark.parametrize("differing", [{"options": {"workers": 2}}, {"parameters": CARTPOLE | {"envs": 16}}])
def test_cells_match_by_parameters_and_options_so_others_are_new_and_missing(differing):
    base = finished([record("plain", rate, block) for block, rate in enumerate(rates())])
    head = finished([record("plain", rate, block, **differing) for block, rate in enumerate(rates())])

    assert verdicts(base, head) == [Verdict.NEW, Verdict.MISSING]


def test_what_was_planned_and_never_measured_is_missing(tmp_path):
    whole = finished_run(run_folder(tmp_path / "a", {"plain": rates(), "other": rates(name="b")}))
    half = run_folder(tmp_path / "b", {"plain": rates(), "other": []})

    assert verdicts(whole, finished_run(half)) == [Verdict.SAME, Verdict.MISSING]


def speeds():
    return st.lists(st.floats(1e2, 1e7), min_size=6, max_size=12)


@settings(max_examples=40, deadline=None)
@given(measured=speeds(), outcome=st.sampled_from(["ok", "ok", "failed", "timeout", "skipped"]))
def test_a_run_is_the_same_as_itself(measured, outcome):
    records = [record("plain", rate, block) for block, rate in enumerate(measured)]
    last = record("plain", 10.0, 0, outcome=outcome, measured_s=records[0].measured_s)
    run = finished([*records, last])

    (judgement,) = compare_finished(run, run).judgements

    assert judgement.verdict is Verdict.SAME
    assert (judgement.ratio.point, judgement.ratio.low, judgement.ratio.high) == (1, 1, 1)


@settings(max_examples=60, deadline=None)
@given(before=speeds(), after=speeds(), only_in=st.sampled_from([None, "base", "head"]))
def test_sides_that_change_places_get_mirrored_verdicts(before, after, only_in):
    one = [record("plain", rate, block) for block, rate in enumerate(before)]
    other = [record("plain", rate, block) for block, rate in enumerate(after)]
    alone = [record("alone", 1e4, block) for block in range(6)]
    base = finished(one + (alone if only_in == "base" else []))
    head = finished(other + (alone if only_in == "head" else []))

    there, back = compare_finished(base, head).judgements, compare_finished(head, base).judgements

    by_runtime = {judgement.runtime: judgement for judgement in back}
    for judgement in there:
        mirrored = by_runtime[judgement.runtime]
        assert mirrored.verdict is MIRRORED.get(judgement.verdict, judgement.verdict)
        if judgement.ratio is not None:
            assert math.isclose(mirrored.ratio.point, 1 / judgement.ratio.point, rel_tol=1e-9)
            assert math.isclose(mirrored.ratio.low, 1 / judgement.ratio.high, rel_tol=1e-9)


def test_runs_of_different_machines_are_refused_or_stamped(in_this_process, tmp_path):
    run_folder(tmp_path / "a", {"plain": rates()})
    run_folder(tmp_path / "b", {"plain": rates(name="b")}, facts=machine(fingerprint=ELSEWHERE))

    done = in_this_process("compare", "a", "b")
    assert done.returncode == 2
    assert "cpu_model:" in done.stderr
    assert "memory_gib:" in done.stderr
    assert "--force" in done.stderr

    forced = compare_finished(finished_run(tmp_path / "a"), finished_run(tmp_path / "b"), force=True)
    assert "another machine" in forced.stamps[0]
    assert "1 here" in forced.stamps[0]
    assert in_this_process("compare", "a", "b", "--force").returncode == 0
    assert compare_finished(finished_run(tmp_path / "a"), finished_run(tmp_path / "a"), force=True).stamps == ()


def test_a_machine_that_nobody_knows_is_told_and_not_refused():
    run = finished([record("plain", rate, block) for block, rate in enumerate(rates())])

    assert any("no fingerprint" in warning for warning in compare_finished(run, run).warnings)


def test_software_that_differs_is_listed_and_not_refused(tmp_path):
    base = finished_run(run_folder(tmp_path / "a", {"plain": rates()}))
    facts = machine(kernel="Linux 10", packages={"numpy": "8.8"}, commit="decade", load_average=3.0)
    head = finished_run(run_folder(tmp_path / "b", {"plain": rates(name="b")}, facts=facts))

    judged = compare_finished(base, head)

    (listed,) = [warning for warning in judged.warnings if "differ" in warning]
    assert "kernel: Linux 9 and Linux 10" in listed
    assert "numpy 9.9 and 8.8" in listed
    assert "decade" not in listed
    assert (judged.facts["base"]["commit"], judged.facts["head"]["commit"]) == ("c0ffee", "decade")
    assert judged.stamps == ()


def test_a_check_is_no_run_and_its_report_is_offered(in_this_process, tmp_path):
    folder = run_folder(tmp_path / "a", {"plain": rates()}, side="base")

    done = in_this_process("compare", "a", folder)

    assert done.returncode == 2
    assert f"reactorbench report {folder}" in in_this_process("compare", folder, folder).stderr


@pytest.mark.parametrize(
    ("base", "why"),
    [
        ("nowhere", "neither the results folder of a run nor a stored baseline"),
        ("empty", "nothing to compare"),
        ("sessions", "session-02"),
    ],
)
def test_what_is_no_run_is_refused(in_this_process, tmp_path, base, why):
    (tmp_path / "empty").mkdir()
    run_folder(tmp_path / "sessions" / "session-02", {"plain": rates()})

    done = in_this_process("compare", base, "sessions/session-02")

    assert done.returncode == 2
    assert why in done.stderr


def test_a_folder_that_is_not_there_is_refused(in_this_process, tmp_path):
    run_folder(tmp_path / "a", {"plain": rates()})

    done = in_this_process("compare", "a", "b")

    assert done.returncode == 2
    assert "There is no folder b" in done.stderr


def test_folders_of_one_name_are_told_apart_by_where_they_are(in_this_process, tmp_path, monkeypatch):
    for place in ("old", "new"):
        run_folder(tmp_path / place / "run", {"plain": rates()})
    shown = []
    monkeypatch.setattr("harness.regression.outputs.print_judged", lambda judged, console: shown.append(judged))

    in_this_process("compare", "old/run", "new/run")

    assert (shown[0].base_name, shown[0].head_name) == ("old/run", "new/run")


def test_cells_whose_noise_is_known_have_margins_of_their_own(tmp_path):
    runtimes = {"quiet": rates(), "noisy": rates(name="b"), "unknown": rates(name="c")}
    base = finished_run(run_folder(tmp_path / "a", runtimes))
    slower = {name: [0.93 * rate for rate in measured] for name, measured in runtimes.items()}
    head = finished_run(run_folder(tmp_path / "b", slower))
    noise = noise_file(tmp_path / "n", {"quiet": 0.05, "noisy": 0.3})

    judged = compare_finished(base, head, Yardstick.asked(None, 0.10, noise))

    assert {one.runtime: one.verdict for one in judged.judgements} == {
        "quiet": Verdict.SLOWER,
        "noisy": Verdict.SAME,
        "unknown": Verdict.SAME,
    }
    assert {one.runtime: one.margins.same for one in judged.judgements} == {"quiet": 0.05, "noisy": 0.3, "unknown": 0.1}
    assert any("5 % to 30 %; the others have 10 %" in warning for warning in judged.warnings)


def test_noise_of_another_machine_is_refused_or_stamped(tmp_path):
    run = finished_run(run_folder(tmp_path / "a", {"plain": rates()}))
    yardstick = Yardstick.asked(None, 0.10, noise_file(tmp_path / "n", {"plain": 0.2}, fingerprint=ELSEWHERE))

    with pytest.raises(UsageError, match="noise between runs was measured on another machine"):
        compare_finished(run, run, yardstick)
    assert "noise" in compare_finished(run, run, yardstick, force=True).stamps[0]


def test_noise_of_few_sessions_is_used_with_a_warning(tmp_path):
    run = finished_run(run_folder(tmp_path / "a", {"plain": rates()}))
    yardstick = Yardstick.asked(None, 0.10, noise_file(tmp_path / "n", {"plain": 0.2}, sessions=2))

    assert any("2 sessions only" in warning for warning in compare_finished(run, run, yardstick).warnings)


def test_a_margin_for_all_and_one_for_each_cell_do_not_go_together(tmp_path):
    with pytest.raises(UsageError, match="Leave one out"):
        Yardstick.asked(0.1, 0.1, noise_file(tmp_path / "n", {}))
    with pytest.raises(UsageError, match="aa --sessions 4"):
        Yardstick.asked(None, 0.1, tmp_path)
    with pytest.raises(UsageError, match="fraction of 1"):
        Yardstick.asked(1.5, 0.1, None)


@pytest.mark.parametrize("text", ["{}", "no json", '{"schema_version":9,"suite":"s","sessions":3,"cells":[]}'])
def test_a_file_that_is_no_noise_is_refused(tmp_path, text):
    (tmp_path / "noise.json").write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match="Measure it anew"):
        NoiseFile(tmp_path).read()


def test_one_margin_for_all_and_the_same_one_for_each_give_the_same_verdicts(tmp_path):
    base = finished_run(run_folder(tmp_path / "a", {"plain": rates(), "other": rates(name="b")}))
    head = finished_run(run_folder(tmp_path / "b", {"plain": rates(speed=0.8), "other": rates(name="c")}))
    margins = Margins(same=0.07, beyond=0.02)

    together = judge(base.samples, head.samples, margins=margins)
    each = judge(base.samples, head.samples, margins=lambda _pairing: margins)

    assert [one.verdict for one in together] == [one.verdict for one in each]
    assert [one.margins for one in together] == [None, None]
