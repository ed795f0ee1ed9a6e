"""The script that shows learning: its estimates, its files, and that a seed that is done is not trained again."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

if TYPE_CHECKING:
    from pathlib import Path

SMALL = (
    *("--runtime", "sequential", "--seeds", "2", "--rounds", "3", "--every", "2", "--hands", "500"),
    *("--set", "actors=2", "--set", "steps=20", "--set", "minibatch=20"),
)


@pytest.fixture(scope="module")
def learning(repository: Path) -> Any:
    """The script as a module."""
    loader = SourceFileLoader("learning_script", str(repository / "scripts" / "learning"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


def run(repository: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = repository / "scripts" / "learning"
    return subprocess.run(
        [sys.executable, script, "--out", folder, *SMALL, *arguments], capture_output=True, text=True, check=False
    )


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end(learning):
    assert learning.interquartile_mean([-100, 1, 2, 3, 4, 5, 6, 100]).mean == 3.5
    assert learning.interquartile_mean([-100, -50, 1, 2, 3, 4, 5, 6, 50, 100]).mean == 3.5


def test_its_interval_is_that_of_tukey_and_mclaughlin(learning):
    values = [3.1, 2.2, 9.0, 4.4, 5.0, 3.8, 4.1, 0.5, 4.9, 4.0]
    middle = learning.interquartile_mean(values)
    # The formula by Wilcox, Introduction to Robust Estimation, section 3.3, with a trimmed share of 2 in 10.
    deviation = np.asarray(stats.mstats.winsorize(np.array(values), (0.2, 0.2))).std(ddof=1)
    half = stats.t.ppf(0.975, 5) * deviation * math.sqrt(9 * 10) / math.sqrt(6 * 5) / math.sqrt(10)
    assert middle.high - middle.mean == pytest.approx(half)
    assert middle.mean - middle.low == pytest.approx(half)


def test_fewer_than_six_seeds_have_a_range(learning):
    middle = learning.interquartile_mean([1, 2, 3, 4, 10])
    assert (middle.mean, middle.low, middle.high) == (3, 1, 10)


def test_the_interval_holds_the_true_value_as_often_as_it_says(learning):
    rng = np.random.default_rng(0)
    samples = [learning.interquartile_mean(rng.normal(size=10).tolist()) for _ in range(2000)]
    assert 0.93 < np.mean([sample.low <= 0 <= sample.high for sample in samples]) < 0.98


def test_seeds_that_did_not_reach_the_threshold_count_as_never(learning):
    reached = [learning.Point(rounds, rounds, rounds, 1.0, -0.05) for rounds in range(1, 9)]
    never = [learning.Point(60, 60, 60, 9.0, -0.5)] * 2
    rows = learning.to_threshold([[point] for point in (*reached, *never)])
    assert rows[0].startswith("| rounds | 5.5 |")
    assert rows[-1] == "| seeds that reached it | 8 of 10 | |"
    rows = learning.to_threshold([[point] for point in (*reached[:3], *never, *never)])
    assert rows[0] == "| rounds | not reached | |"


def test_a_run_leaves_a_file_for_each_seed_and_one_for_the_curve_and_is_resumed_seed_by_seed(repository, tmp_path):
    first = run(repository, tmp_path)
    assert first.returncode == 0, first.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "curve.csv",
        "seed-0.csv",
        "seed-1.csv",
        "settings.json",
        "table.md",
    ]
    with (tmp_path / "seed-1.csv").open(newline="", encoding="utf-8") as file:
        points = list(csv.DictReader(file))
    assert [(point["rounds"], point["steps"], point["updates"]) for point in points] == [
        ("2", "80", "16"),
        ("3", "120", "24"),
    ]
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == first.stdout
    (tmp_path / "seed-1.csv").unlink()

    second = run(repository, tmp_path)

    assert first.stderr.splitlines() == ["training seed 0", "training seed 1"]
    assert second.stderr.splitlines() == ["training seed 1"]
    with (tmp_path / "seed-1.csv").open(newline="", encoding="utf-8") as file:
        again = [point["mean_return"] for point in csv.DictReader(file)]
    assert again == [point["mean_return"] for point in points]


def test_other_settings_need_another_folder(repository, tmp_path):
    assert run(repository, tmp_path, "--seeds", "1").returncode == 0
    other = run(repository, tmp_path, "--set", "hidden=8")
    assert other.returncode == 1
    assert "holds seeds with other settings" in other.stderr
    assert "--out" in other.stderr


def test_numbers_below_one_are_refused(repository, tmp_path):
    refused = run(repository, tmp_path, "--rounds", "0")
    assert refused.returncode == 2
    assert "--rounds is 0; give 1 or more" in refused.stderr
