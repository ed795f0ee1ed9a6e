"""How numbers and cells read: three digits, the right unit, names that tell apart what differs."""

import pytest

from harness.records import Record
from harness.summary import summarise
from harness.wording import Labels, compact_json, in_bytes, in_count, in_ratio, in_seconds, in_si, plural


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (in_si, 44_231, "44.2k"),
        (in_si, 999.7, "1.00k"),
        (in_si, 0.0123, "0.0123"),
        (in_si, 0, "0"),
        (in_si, 5e15, "5,000T"),
        (in_ratio, 18.66, "18.7x"),
        (in_ratio, 1.8, "1.80x"),
        (in_ratio, 0.018149, "0.0181x"),
        (in_ratio, 1234.5, "1,230x"),
        (in_seconds, 9.118, "9.12 s"),
        (in_seconds, 0.00034, "340 us"),
        (in_bytes, 1_023_400_000, "1.02 GB"),
        (in_bytes, 12, "12 B"),
        (in_count, 26, "26"),
        (in_count, 12_384, "12.4k"),
    ],
)
def test_numbers_have_three_significant_digits_and_a_unit(form, value, text):
    assert form(value) == text


def test_one_is_singular():
    assert (plural(1, "pair"), plural(3, "pair"), plural(1200, "round")) == ("1 pair", "3 pairs", "1,200 rounds")


def test_json_is_equal_for_equal_settings_in_any_order():
    assert compact_json({"b": [1], "a": {"d": 1, "c": 2}}) == compact_json({"a": {"c": 2, "d": 1}, "b": [1]})


def labels_of(*settings, workload="simulation"):
    rows = summarise(
        Record(workload=workload, parameters=p, runtime="reactor", options={}, seed=0, block=0, outcome="ok")
        for p in settings
    )
    labels = Labels(rows)
    return [labels.cell(row) for row in rows], [labels.other_parameters(row) for row in rows]


def test_a_cell_is_named_by_its_first_two_parameters_and_by_what_varies():
    base = {"env_id": "CartPole-v1", "envs": 15, "actions": "local", "fragment": 1}
    names, others = labels_of(base, base | {"fragment": 128})
    assert names == ["CartPole-v1 x 15, fragment=1", "CartPole-v1 x 15, fragment=128"]
    assert others == ["actions=local", "actions=local"]


def test_bytes_are_shortened_only_where_nothing_is_lost():
    names, _ = labels_of({"nbytes": 10_000_000, "actors": 8}, {"nbytes": 10_485_760, "actors": 8})
    assert names == ["10 MB x 8", "10,485,760 B x 8"]


def test_parameters_of_other_kinds_keep_their_names():
    names, _ = labels_of({"width": 3, "fast": True, "layers": [1, 2]}, {"width": 3, "fast": True, "layers": []})
    assert names == ["width=3, fast=true, layers=[1,2]", "width=3, fast=true, layers=[]"]


def test_a_cell_without_parameters_has_the_name_of_its_workload():
    assert labels_of({}, workload="ping") == (["ping"], [""])
