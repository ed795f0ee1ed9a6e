"""Suites: what they may say, and the plans they make."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.learning.trainings import schedule_trainings
from harness.plan import schedule
from harness.suite import plan_of, read_suite, suite_names, suite_of_workload

GOOD = """
title = "Two cells"
invocations = 3
rounds = 7
seed = 5
runtimes = ["plain", "other:workers=2"]

[[cell]]
workload = "counting"
parameters = { width = 4 }

[[cell]]
workload = "counting"
parameters = { offsets = [1, 2] }
runtimes = ["plain"]
rounds = 9
"""


@pytest.fixture
def write(tmp_path, installed):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_cells_take_from_the_top_what_they_do_not_say(write):
    plan = plan_of(read_suite(write(GOOD)), {}, [])

    assert (plan.name, plan.title, plan.invocations, plan.seed) == ("mine", "Two cells", 3, 5)
    assert [cell.rounds for cell in plan.cells] == [7, 9]
    assert [[r.name for r in cell.runtimes] for cell in plan.cells] == [["plain", "other"], ["plain"]]


def test_parameters_and_options_are_completed_with_their_defaults(write):
    first, second = plan_of(read_suite(write(GOOD)), {}, []).cells

    assert first.parameters == {"width": 4, "step": 1.0, "direction": "up", "target": "here", "offsets": []}
    assert second.parameters["offsets"] == [1, 2]
    assert first.runtimes[1].options == {"workers": 2, "where": ""}


def test_what_the_command_line_gives_wins_over_suite_and_cells(write):
    plan = plan_of(read_suite(write(GOOD)), {"rounds": 2, "invocations": 1}, ["other"])

    assert [cell.rounds for cell in plan.cells] == [2, 2]
    assert [[r.name for r in cell.runtimes] for cell in plan.cells] == [["other"], ["other"]]
    assert len(schedule(plan)) == 2


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("invocation = 3", "invocations = 3", "Did you mean 'invocations'?"),
        ("paramters = { width = 4 }", "parameters = { width = 4 }", "cell 1 has an unknown key 'paramters'"),
        ("parameters = { widht = 4 }", "parameters = { width = 4 }", "Did you mean 'width'?"),
        ("parameters = { width = 0 }", "parameters = { width = 4 }", "int >= 1"),
        ("parameters = { width = 4.5 }", "parameters = { width = 4 }", "'width'"),
        ("rounds = 0", "rounds = 7", "Setting 'rounds'"),
        ('rounds = "7"', "rounds = 7", """'rounds' cannot be "7"; it is a whole number: rounds = 10"""),
        ('runtimes = ["plaim", "other:workers=2"]', 'runtimes = ["plain", "other:workers=2"]', "'plain'"),
        ('runtimes = ["plain", "other:worker=2"]', 'runtimes = ["plain", "other:workers=2"]', "'workers'"),
        ('runtimes = ["plain", "plain"]', 'runtimes = ["plain", "other:workers=2"]', "same runtime twice"),
        ("runtimes = []", 'runtimes = ["plain", "other:workers=2"]', "names no runtime"),
        ("cell = 3", "[[cell]]", "cell"),
        ("title = ", 'title = "Two cells"', "is not TOML"),
        ('runtimes = "plain"', 'runtimes = ["plain", "other:workers=2"]', 'it is a list of names: runtimes = ["seq'),
        ("measure_s = inf", "rounds = 7", "cannot be inf: it takes float >= 0"),
        ("timeout_s = nan", "rounds = 7", "cannot be nan"),
        ("parameters = 3", "parameters = { width = 4 }", "cell 1: 'parameters' cannot be 3; it is a table"),
    ],
)
def test_a_mistake_is_named(write, wrong, right, said):
    assert right in GOOD
    with pytest.raises(UsageError) as caught:
        plan_of(read_suite(write(GOOD.replace(right, wrong, 1))), {}, [])
    assert said in str(caught.value)


def test_the_same_cell_twice_is_refused(write):
    with pytest.raises(UsageError, match="same cell twice"):
        plan_of(read_suite(write('runtimes = ["plain"]\n' + '[[cell]]\nworkload = "counting"\n' * 2)), {}, [])


VARYING = """
runtimes = ["plain"]
[[cell]]
name = "sweep"
workload = "counting"
parameters = { direction = "down" }
vary = { width = [2, 4], step = [1.0, 2.0, 3.0] }
[[cell]]
workload = "counting"
"""


def test_parameters_that_vary_stand_for_a_cell_of_each_combination(write):
    *swept, last = plan_of(read_suite(write(VARYING)), {}, []).cells

    found = [(cell.name, cell.parameters["width"], cell.parameters["step"]) for cell in swept]
    assert found == [(f"sweep-{w}-{s}", w, s) for w in (2, 4) for s in (1.0, 2.0, 3.0)]
    assert {cell.parameters["direction"] for cell in swept} == {"down"}
    assert (last.name, last.parameters["direction"]) == ("", "up")


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("width = []", "width = [2, 4]", "'width' varies over no value. Give at least one"),
        ("direction = [1]", "width = [2, 4]", "'direction' stands in 'parameters' and in 'vary'. Take it out of one"),
        ("width = 2", "width = [2, 4]", "'vary' cannot be {"),
        ("width = [2, 2]", "width = [2, 4]", "same cell twice"),
        ("width = [2, 0]", "width = [2, 4]", "int >= 1"),
    ],
)
def test_a_mistake_in_what_varies_is_named(write, wrong, right, said):
    with pytest.raises(UsageError) as caught:
        plan_of(read_suite(write(VARYING.replace(right, wrong))), {}, [])
    assert said in str(caught.value)


def test_a_cell_without_a_workload_is_named(write):
    with pytest.raises(UsageError, match=r'cell 1 has no workload. Add workload = "'):
        read_suite(write("[[cell]]\nrounds = 3"))


def test_a_suite_without_cells_is_refused(write):
    with pytest.raises(UsageError, match=r"no \[\[cell\]\]"):
        read_suite(write('title = "nothing"'))


def test_a_file_that_is_no_text_is_no_suite(tmp_path):
    path = tmp_path / "image.toml"
    path.write_bytes(b"\x89PNG\xff")

    with pytest.raises(UsageError, match="not UTF-8"):
        read_suite(str(path))


def test_a_path_without_a_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_suite(str(tmp_path / "none.toml"))


def test_a_misspelt_suite_gets_the_nearest_one():
    with pytest.raises(UsageError, match="Did you mean 'quick'"):
        read_suite("quik")


def test_every_shipped_suite_makes_a_plan():
    assert "quick" in suite_names()
    for name in suite_names():
        plan = plan_of(read_suite(name), {}, [])
        assert schedule(plan) or schedule_trainings(plan)


def test_the_quick_suite_has_its_cells_on_all_four_runtimes():
    plan = plan_of(read_suite("quick"), {}, [])

    named = [
        (c.parameters.get("env_id"), c.parameters.get("envs"), c.parameters.get("fragment"), c.parameters.get("nbytes"))
        for c in plan.cells
    ]
    assert named == [
        ("CartPole-v1", 15, 1, None),
        ("CartPole-v1", 15, 128, None),
        ("ALE/Pong-v5", 8, 1, None),
        (None, None, None, 1_000),
        (None, None, None, 10_000_000),
    ]
    assert all([r.name for r in c.runtimes] == ["sequential", "reactor", "ray", "ray-packed"] for c in plan.cells)


def test_the_simulation_suite_has_a_ceiling_wherever_environments_act_alone():
    cells = plan_of(read_suite("simulation"), {}, []).cells

    small = [("CartPole-v1", n, "raw") for n in (1, 2, 4, 15, 64)]
    others = [(name, 15, "raw") for name in ("Pendulum-v1", "Blackjack-v1", "Acrobot-v1")]
    screens = [("ALE/Pong-v5", n, observation) for observation in ("raw", "gray84") for n in (1, 8, 15)]
    for actions, runtimes in (("local", ["sequential", "reactor", "ceiling"]), ("driver", ["sequential", "reactor"])):
        own = [cell for cell in cells if cell.parameters["actions"] == actions]
        named = [tuple(cell.parameters[name] for name in ("env_id", "envs", "observation")) for cell in own]
        assert named == small + others + screens
        assert all([choice.name for choice in cell.runtimes] == runtimes for cell in own)
    assert len(cells) == 28


def test_a_plan_knows_which_runtimes_are_bounds():
    (cell,) = plan_of(suite_of_workload("simulation", {}), {}, ["sequential", "ceiling"]).cells

    assert [choice.is_bound for choice in cell.runtimes] == [False, True]


def test_a_workload_from_the_command_line_is_a_suite_of_one_cell(installed):
    plan = plan_of(suite_of_workload("counting", {"width": "2", "step": "0.5"}), {"seed": 9}, ["plain:workers=1"])

    (cell,) = plan.cells
    assert (plan.name, plan.seed, cell.parameters["width"], cell.parameters["step"]) == ("counting", 9, 2, 0.5)
    assert (cell.warmup_rounds, cell.measure_s) == (50, 1.0)
