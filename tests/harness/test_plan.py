"""The order of a run, and the plan that a results folder keeps."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.plan import (
    Cell,
    Plan,
    PlanFile,
    RuntimeChoice,
    in_plan_order,
    resume_command,
    schedule,
    select_cells,
)
from harness.records import Record


def plan_with(runtimes, invocations=2, cells=1, seed=0):
    return Plan(
        name="example",
        title="Example",
        invocations=invocations,
        timeout_s=10.0,
        seed=seed,
        cells=tuple(
            Cell(
                workload="counting",
                parameters={"width": width, "step": 1.0},
                runtimes=tuple(RuntimeChoice(name=name, options={}) for name in runtimes),
                warmup_rounds=1,
                rounds=1,
                measure_s=0.0,
            )
            for width in range(1, cells + 1)
        ),
    )


def test_two_blocks_are_a_random_order_and_its_mirror_image():
    order = [(i.runtime.name, i.block) for i in schedule(plan_with("ABCD", invocations=4))]
    one, two = order[:8], order[8:]

    for first, second, block in ((one[:4], one[4:], 0), (two[:4], two[4:], 2)):
        assert sorted(name for name, _ in first) == list("ABCD")
        assert second == [(name, block + 1) for name, _ in reversed(first)]
        assert {number for _, number in first} == {block}


def test_the_cells_take_turns_after_every_two_blocks_in_an_order_that_is_drawn_anew():
    planned = schedule(plan_with("AB", invocations=12, cells=6))
    turns = [[i.cell.parameters["width"] for i in planned[start : start + 24 : 4]] for start in range(0, 144, 24)]

    assert all(sorted(turn) == [1, 2, 3, 4, 5, 6] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 1
    assert all(len({i.cell.parameters["width"] for i in planned[start : start + 4]}) == 1 for start in range(0, 144, 4))


def test_the_order_follows_from_the_seed():
    def order(seed):
        return [(i.cell.parameters["width"], i.runtime.name) for i in schedule(plan_with("ABC", 6, 4, seed))]

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(5)}) == 5


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_more_blocks_change_nothing_about_the_order_of_those_before(invocations, more, seed):
    whole_pairs = invocations // 2 * 2
    few, many = (
        [i for i in schedule(plan_with("ABC", number, 3, seed)) if i.block < whole_pairs]
        for number in (invocations, invocations + more)
    )

    assert [i.key for i in few] == [i.key for i in many]


def test_sides_take_the_place_of_runtimes_where_versions_are_compared():
    plan = msgspec.structs.replace(plan_with("AB", invocations=2), sides=("base", "head"))
    planned = schedule(plan)

    for start in (0, 4):
        assert len({i.runtime.name for i in planned[start : start + 4]}) == 1
        first, second, *mirrored = [i.side for i in planned[start : start + 4]]
        assert {first, second} == {"base", "head"}
        assert mirrored == [second, first]
    assert len({i.key for i in planned}) == 8


def test_records_are_shown_in_the_order_of_the_plan_however_they_were_measured():
    plan = plan_with("ABC", invocations=2, cells=3)
    records = [record_of(invocation) for invocation in schedule(plan)]
    stranger = record_of(schedule(plan_with("Z"))[0])

    shown = [(r.parameters["width"], r.runtime) for r in in_plan_order([stranger, *records], plan)]

    assert shown == [(width, name) for width in (1, 2, 3) for name in "AABBCC"] + [(1, "Z")]
    assert in_plan_order(records, None) == records


def record_of(invocation):
    return Record(
        workload=invocation.cell.workload,
        parameters=invocation.cell.parameters,
        runtime=invocation.runtime.name,
        options=invocation.runtime.options,
        seed=invocation.seed,
        block=invocation.block,
        outcome="ok",
    )


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**31))
def test_every_runtime_meets_every_seed_of_every_cell_once(runtimes, invocations, cells, seed):
    planned = schedule(plan_with("ABCDE"[:runtimes], invocations, cells, seed))

    assert [i.number for i in planned] == list(range(1, runtimes * invocations * cells + 1))
    assert len({i.key for i in planned}) == len(planned)
    assert all(i.seed == seed + i.block for i in planned)


@given(st.integers(2, 5), st.integers(1, 5))
def test_a_linear_drift_falls_on_all_runtimes_alike_after_whole_pairs_of_blocks(runtimes, pairs):
    planned = schedule(plan_with("ABCDE"[:runtimes], invocations=2 * pairs))

    drift = {}
    for invocation in planned:
        drift.setdefault(invocation.runtime.name, []).append(invocation.number)
    assert len({sum(numbers) for numbers in drift.values()}) == 1


def test_a_stored_plan_equals_the_one_that_was_stored(tmp_path):
    file = PlanFile(tmp_path)
    file.write(plan_with("AB"))

    file.check_equal(plan_with("AB"))
    assert file.read() == plan_with("AB")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (plan_with("AB", invocations=4), "invocations is 2 there and 4 here"),
        (plan_with("AB", cells=2), "1 cell there and 2 here"),
        (plan_with("ABC"), "runtimes of cell 1 (counting) differ"),
        (plan_with("AB", seed=1), "seed is 0 there and 1 here"),
    ],
)
def test_another_plan_is_refused_with_what_differs(tmp_path, other, said):
    file = PlanFile(tmp_path)
    file.write(plan_with("AB"))

    with pytest.raises(UsageError) as caught:
        file.check_equal(other)
    assert said in str(caught.value)


def test_a_stored_plan_can_be_given_more_blocks_and_nothing_else(tmp_path):
    file = PlanFile(tmp_path)
    file.write(plan_with("AB", invocations=2))

    file.extend(plan_with("AB", invocations=6))
    assert file.read().invocations == 6
    with pytest.raises(UsageError, match="invocations is 6 there and 3 here"):
        file.extend(plan_with("AB", invocations=3))
    with pytest.raises(UsageError, match="runtimes of cell 1"):
        file.extend(plan_with("ABC", invocations=8))
    assert file.read() == plan_with("AB", invocations=6)


def named(*names):
    plan = plan_with("A", cells=len(names))
    cells = [msgspec.structs.replace(cell, name=name) for cell, name in zip(plan.cells, names, strict=True)]
    return msgspec.structs.replace(plan, cells=tuple(cells))


@pytest.mark.parametrize(
    ("patterns", "selected"),
    [
        ([], ["one-a", "one-b", "two"]),
        (["one-*"], ["one-a", "one-b"]),
        (["two", "*-a"], ["one-a", "two"]),
    ],
)
def test_cells_are_selected_by_patterns_of_their_names_in_the_order_of_the_plan(patterns, selected):
    assert [cell.name for cell in select_cells(named("one-a", "one-b", "two"), patterns)] == selected


def test_a_pattern_that_no_cell_has_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="Did you mean 'one-a'"):
        select_cells(named("one-a", "two"), ["one-x"])
    with pytest.raises(UsageError, match="have no names"):
        select_cells(plan_with("A"), ["one"])


@pytest.mark.parametrize("content", [None, "{", '{"name": 1}'])
def test_a_folder_without_a_plan_has_no_run_to_resume(tmp_path, content):
    if content is not None:
        (tmp_path / "plan.json").write_text(content, encoding="utf-8")

    with pytest.raises(UsageError):
        PlanFile(tmp_path).read()


def test_the_folder_of_a_run_to_resume_can_be_pasted_into_a_shell():
    assert resume_command(Path("my results")) == "reactorbench run --resume --out 'my results'"


def test_the_cells_that_were_selected_are_selected_again_on_resume():
    said = resume_command(Path("mine"), ["figure1-*", "one"])

    assert said == "reactorbench run --resume --out mine --cells 'figure1-*' --cells one"


def test_a_stored_plan_can_be_read_by_people(tmp_path):
    PlanFile(tmp_path).write(plan_with("AB"))

    assert msgspec.json.decode((tmp_path / "plan.json").read_bytes())["cells"][0]["workload"] == "counting"
    assert len((tmp_path / "plan.json").read_text(encoding="utf-8").splitlines()) > 10
