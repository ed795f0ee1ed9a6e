"""The script that shows what a check finds: its kinds of noise, its tables, and the runtime that it slows down."""

from __future__ import annotations

import csv
import json
import math
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def power(repository: Path) -> Any:
    """The script as a module."""
    loader = SourceFileLoader("check_power_script", str(repository / "scripts" / "check-power"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


def test_the_promise_holds_in_a_tenth_of_the_published_simulation(power, tmp_path):
    power.main(["simulated", "--checks", "200", "--out", str(tmp_path)])

    with (tmp_path / "simulated.csv").open(encoding="utf-8") as file:
        rows = {row["noise"]: row for row in csv.DictReader(file)}
    page = (tmp_path / "simulated.md").read_text(encoding="utf-8")
    assert all(f"| {name}" in page for name in rows)
    assert float(rows["quiet"]["power"]) == 1.0
    assert float(rows["hopeless"]["power"]) < 0.9, "noise without bounds must show"
    assert all(float(row["slowdown_passed_as_same"]) == 0 for row in rows.values())


def test_a_broken_promise_ends_with_an_error(power, tmp_path, monkeypatch):
    hopeless = power.Noise(name="hopeless", what="30 %", draw=power.steady(0.3))
    monkeypatch.setattr(power, "KINDS", (hopeless,))

    with pytest.raises(SystemExit, match="not kept"):
        power.main(["simulated", "--checks", "100", "--out", str(tmp_path)])


def test_pairs_are_made_as_they_are_measured_so_that_a_drift_cancels(power):
    trend = power.Noise(name="trend", what="", draw=lambda random, cells, n: 0.01 * np.tile(np.arange(n), (cells, 1)))
    first, second = power.log_ratios(np.random.default_rng(0), trend, 50, 0.10)

    assert first.shape == (50, 12)
    assert second.shape == (50, 24)
    pairs = first.reshape(50, 6, 2) - math.log1p(0.10)
    assert np.allclose(np.abs(pairs), 0.01)
    assert np.allclose(pairs.sum(axis=2), 0), "the second pair of two is the mirror image of the first"
    assert {round(x, 9) for x in pairs[..., 0].ravel()} == {-0.01, 0.01}, "who begins is drawn"


@pytest.mark.parametrize("arguments", [["--checks", "0"], ["unheard"], ["--runs", "-1"], ["--at-once", "0"]])
def test_bad_arguments_are_refused(power, tmp_path, arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        power.main([*arguments, "--out", str(tmp_path)])

    assert ended.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_the_slowed_runtime_is_found_by_the_interpreter_that_it_is_installed_for(power, tmp_path):
    from harness.versions import version_at

    python = power.install(tmp_path / "a", 1.5)

    assert "slowed" in version_at(str(python), "--base").facts.runtimes
    assert "FACTOR = 1.5\n" in (tmp_path / "a" / "plugin" / "slowed_runtime.py").read_text(encoding="utf-8")


def test_the_slowed_runtime_computes_what_the_loop_does_and_counts_the_time_that_it_adds(repository, monkeypatch):
    from harness.registry import workloads
    from runtimes.sequential import SequentialSession
    from workloads.dataflow import Digest

    monkeypatch.syspath_prepend(str(repository / "scripts"))
    import slowed_runtime

    workload = workloads().get("broadcast_gather")
    graph = workload.build(workload.parameters(nbytes=1000), 0)
    monkeypatch.setattr(slowed_runtime, "FACTOR", 50.0)
    slowed, plain = slowed_runtime.SlowedSession(graph), SequentialSession(graph)

    durations, others = slowed.advance(120), plain.advance(120)

    assert len(durations) == 120
    assert durations.sum() > 5 * others.sum()
    digests = []
    for session in (slowed, plain):
        digest = Digest()
        digest.add_received(graph, session.received())
        digests.append(digest.hexdigest())
    assert digests[0] == digests[1]


def verdicts(slowdown, *rows):
    known = {"slowdown": slowdown, "status": 1, "pairs": 24, "ratio": 0.9, "low": 0.8, "high": 1.0, "detectable": 0.05}
    return [known | {"verdict": verdict} | ({} if ratio else {"ratio": None}) for verdict, ratio in rows]


def test_the_table_of_real_checks_counts_every_verdict(power):
    slowed = verdicts(0.1, ("slower", True), ("slower", True), ("inconclusive", True), ("failed", False))
    page = power.real_page([*verdicts(0.0, ("same", True)), *slowed])

    assert "| takes 10% longer | 4 | 2 | 0 | 1 | 0 | 1 | 4 | 0.900 | 5.0% |" in page
    assert "| unchanged | 1 | 0 | 1 | 0 | 0 | 0 | 1 | 0.900 | 5.0% |" in page
    assert "nan" in power.real_page(verdicts(0.1, ("failed", False)))


def test_real_checks_go_on_after_those_that_are_there_and_take_turns(power, tmp_path, monkeypatch):
    heads = []

    def check(folder, base, head, *, seed):
        heads.append((head, seed))
        return {"verdict": "slower" if head == "b" else "same", "status": 1, "pairs": 24} | dict.fromkeys(
            ("ratio", "low", "high", "detectable"), 1.0
        )

    monkeypatch.setattr(power, "install", lambda folder, factor: folder.name)
    monkeypatch.setattr(power, "checked", check)

    assert power.real(1, 0.5, 1, tmp_path)
    assert power.real(3, 0.5, 1, tmp_path)

    assert sorted(head for head, _ in heads[:2]) == ["a", "b"]
    assert sorted(head for head, _ in heads) == ["a"] * 3 + ["b"] * 3
    assert len({seed for _, seed in heads}) == 6
    assert "| takes 50% longer | 3 | 3 |" in (tmp_path / "real.md").read_text(encoding="utf-8")


def test_a_real_check_that_compared_nothing_is_a_row_like_any_other(power, tmp_path, monkeypatch):
    answer = {"judgements": [{"verdict": "failed", "ratio": None, "pairs": [], "detectable": None}]}

    def run(command, **_):
        (tmp_path / "check").mkdir()
        return power.subprocess.CompletedProcess(command, 3, json.dumps(answer), "")

    monkeypatch.setattr(power.subprocess, "run", run)

    row = power.checked(tmp_path / "check", "base", "head", seed=0)

    assert (row["verdict"], row["status"], row["ratio"]) == ("failed", 3, None)
