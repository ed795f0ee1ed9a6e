"""The paper's numbers as they are read, and the suites that measure the same again."""

from __future__ import annotations

import math

import pytest

from harness import estimate
from harness.errors import UsageError
from harness.estimate import Estimator
from harness.paper import experiment, experiments, headline, published_machine
from harness.paper_figures import cells_of_figures
from harness.plan import schedule, select_cells
from harness.runner import check_plan
from harness.suite import plan_of, read_suite

SUITES = ("paper", "paper-small")


def plan_named(suite):
    return plan_of(read_suite(suite), {}, [])


def mean_ratio(one):
    return math.exp(math.fsum(math.log(one.published_ratio(point)) for point in one.points) / len(one.points))


def test_the_points_of_the_figures_agree_with_the_headlines_of_the_paper():
    assert mean_ratio(experiment(3)) == pytest.approx(headline("gym_throughput_ratio"), rel=0.01)
    assert mean_ratio(experiment(4)) == pytest.approx(headline("atari_throughput_ratio"), rel=0.01)
    saved = 1 - 1 / experiment(5).published_ratio(experiment(5).points[0])
    assert saved == pytest.approx(headline("q_learning_time_reduction"), abs=0.001)
    last = experiment(6).points[-1]
    assert experiment(6).published_ratio(last) == pytest.approx(headline("multi_agent_inference_speedup"), abs=0.01)


def test_there_are_six_experiments_and_no_seventh():
    assert [one.number for one in experiments()] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(UsageError, match="no figure 7"):
        experiment(7)


def test_every_experiment_says_what_was_measured_otherwise():
    assert all(one.protocol for one in experiments())
    assert any("sleep" in note for note in experiment(1).protocol)
    assert not any("sleep" in note for note in experiment(3).protocol)
    assert "32 cores" in published_machine()


def test_a_round_becomes_milliseconds_beyond_sleep_observations_or_seconds():
    assert experiment(1).value(16 / 0.52, 16, {"sleep_s": 0.5}) == pytest.approx(20)
    assert experiment(1).value(16 / 0.02, 16, {"sleep_s": 0.0}) == pytest.approx(20)
    assert experiment(3).value(1500, 15, {}) == 1500
    assert experiment(5).value(1600 / 0.1, 1600, {}) == pytest.approx(500 * 0.1)
    assert experiment(6).value(1 / 0.002, 1, {}) == pytest.approx(100_000 * 0.002)


@pytest.mark.parametrize("suite", SUITES)
def test_every_published_point_is_a_cell_of_the_suite(suite):
    plan = plan_named(suite)

    for one in experiments():
        cells = select_cells(plan, cells_of_figures([one.number]))
        for point in one.points:
            fitting = [
                cell
                for cell in cells
                if cell.workload == point.workload
                and any(choice.items() <= cell.parameters.items() for choice in point.choices)
            ]
            assert fitting, f"{point.label} of figure {one.number}"


@pytest.mark.parametrize("suite", SUITES)
def test_every_cell_of_the_suites_belongs_to_a_figure_and_has_reactors_and_ray_as_published(suite):
    plan = plan_named(suite)

    assert {cell.name.partition("-")[0] for cell in plan.cells} == {f"figure{n}" for n in range(1, 7)}
    assert plan.invocations == 3
    for cell in plan.cells:
        names = {runtime.name for runtime in cell.runtimes}
        assert {"ray", "ray-by-value"} <= names
        assert any(name.startswith("reactor") for name in names)


def test_the_suite_paper_has_the_published_rounds_and_sleep():
    cells = {cell.name: cell for cell in plan_named("paper").cells}

    assert cells["figure1-16-actors"].parameters["sleep_s"] == 0.5
    assert cells["figure3-CartPole-v1"].rounds == 10_000
    assert cells["figure4-Pong-v4"].rounds == 1_000
    assert cells["figure5-500"].rounds == 500
    assert cells["figure6-10-agents"].rounds == 100_000


def test_every_cell_of_the_small_suite_can_run_and_all_take_an_hour_at_most_on_two_processors(monkeypatch):
    plan = plan_named("paper-small")
    checked = check_plan(plan)
    monkeypatch.setattr(estimate, "processors", lambda: 2)
    estimator = Estimator(checked.loads, checked.refusals)

    assert checked.refusals == {}
    assert set(checked.loads) == {invocation.pairing for invocation in schedule(plan)}
    assert 1800 < sum(map(estimator.seconds, schedule(plan))) < 3600
