"""Parameters and options, from text and from TOML."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.arguments import bind, fields_of, parse_assignments, parse_runtime
from harness.errors import UsageError


class Example(msgspec.Struct, frozen=True, kw_only=True):
    width: Annotated[int, msgspec.Meta(description="number of members", ge=1)] = 3
    rate: Annotated[float, msgspec.Meta(description="per second")] = 1.0
    mode: Annotated[Literal["fast", "slow"], msgspec.Meta(description="which way")] = "fast"
    quiet: Annotated[bool, msgspec.Meta(description="say nothing")] = False
    label: Annotated[str, msgspec.Meta(description="any name")] = ""
    limit: Annotated[int | None, msgspec.Meta(description="at most")] = None
    sizes: Annotated[list[int], msgspec.Meta(description="of the layers")] = []
    weights: Annotated[list[float], msgspec.Meta(description="of the layers")] = []

    def __post_init__(self) -> None:
        if self.mode == "slow" and self.quiet:
            raise ValueError("mode=slow is never quiet.")


def from_text(**values):
    return bind(Example, values, noun="parameter", owner="workload 'example'", is_text=True)


def from_toml(**values):
    return bind(Example, values, noun="parameter", owner="workload 'example'", is_text=False)


def message(call, **values):
    with pytest.raises(UsageError) as caught:
        call(**values)
    return str(caught.value)


def test_what_is_not_given_has_its_default():
    assert from_text() == Example()


def test_text_becomes_what_the_field_declares():
    made = from_text(width="7", rate="2", mode="slow", quiet="false", label="12", limit="null", sizes="[1, 2]")

    assert made == Example(width=7, rate=2.0, mode="slow", quiet=False, label="12", limit=None, sizes=[1, 2])


def test_a_whole_number_of_toml_may_stand_for_a_float():
    assert from_toml(rate=2) == Example(rate=2.0)


@pytest.mark.parametrize(("name", "value"), [("width", "7"), ("width", 1.5), ("width", True), ("quiet", 1)])
def test_toml_values_are_not_bent_into_another_type(name, value):
    assert f"'{name}'" in message(from_toml, **{name: value})


def test_a_wrong_value_is_named_with_its_rule_its_meaning_and_a_remedy():
    said = message(from_text, width="0")

    assert said == (
        "Parameter 'width' of workload 'example' cannot be '0': it takes int >= 1 (number of members). "
        "Give another value, or leave it out for the default, 3."
    )


@pytest.mark.parametrize("spelt", ["inf", "-Infinity", "nan"])
def test_a_number_that_is_not_finite_is_refused_in_the_words_of_the_user(spelt):
    said = message(from_text, rate=spelt)

    assert said == (
        f"Parameter 'rate' of workload 'example' cannot be '{spelt}': it takes float, finite (per second). "
        "Give another value, or leave it out for the default, 1.0."
    )
    assert f"cannot be {float(spelt)!r}: it takes float, finite" in message(from_toml, rate=float(spelt))


def test_a_list_may_not_hold_such_a_number_either():
    assert "cannot be [1.0, inf]" in message(from_toml, weights=[1.0, float("inf")])


def test_a_text_where_toml_needs_a_number_is_shown_in_its_own_quotes():
    assert 'cannot be "80": it takes' in message(from_toml, width="80")


def test_a_misspelt_choice_gets_the_nearest_one():
    assert "Did you mean 'fast'?" in message(from_text, mode="fats")


def test_a_misspelt_name_gets_the_nearest_one():
    assert message(from_text, widht="1") == "Unknown parameter 'widht' of workload 'example'. Did you mean 'width'?"


def test_a_list_that_is_no_json_is_a_wrong_value():
    assert "'sizes'" in message(from_text, sizes="[1, 2")


def test_values_that_do_not_go_together_are_told_in_the_words_of_the_struct():
    assert message(from_text, mode="slow", quiet="true") == "Workload 'example': mode=slow is never quiet."


def test_fields_are_shown_with_type_default_and_description():
    shown = {field.name: (field.type, field.default) for field in fields_of(Example)}

    assert shown["width"] == ("int >= 1", 3)
    assert shown["mode"] == ("fast | slow", "fast")
    assert shown["limit"] == ("int | null", None)
    assert shown["sizes"] == ("list of int", [])
    assert [field.description for field in fields_of(Example)][:2] == ["number of members", "per second"]


@given(
    st.builds(
        Example,
        width=st.integers(1, 10**9),
        rate=st.floats(allow_nan=False, allow_infinity=False),
        quiet=st.booleans(),
        label=st.text(),
        limit=st.none() | st.integers(-(2**63), 2**63 - 1),
        sizes=st.lists(st.integers(-9, 9)),
    )
)
def test_every_value_can_be_written_as_text_and_comes_back(example):
    plain = msgspec.to_builtins(example)
    spelt = {k: v if isinstance(v, str) else msgspec.json.encode(v).decode() for k, v in plain.items()}

    assert from_text(**spelt) == example


WORDS = st.text("abcdefghij-_", min_size=1)


@given(WORDS, st.dictionaries(WORDS, st.text("abc/.= 12")))
def test_a_runtime_is_read_back_from_its_name_and_options(name, options):
    spelt = name + ":" + ",".join(f"{key}={value}" for key, value in options.items())

    assert parse_runtime(spelt) == (name, options)


@pytest.mark.parametrize("text", ["reactor:", "reactor"])
def test_a_runtime_may_come_without_options(text):
    assert parse_runtime(text) == ("reactor", {})


@pytest.mark.parametrize("text", ["reactor:workers", "reactor:=2", ":workers=2", "reactor:a=1,a=2", ""])
def test_a_runtime_that_cannot_be_read_is_refused(text):
    with pytest.raises(UsageError):
        parse_runtime(text)


def test_an_option_without_a_value_is_shown_with_where_it_stands():
    with pytest.raises(
        UsageError, match=r"'workers' after '--runtime reactor:' is not an assignment\. Write NAME=VALUE"
    ):
        parse_runtime("reactor:workers")


def test_an_assignment_may_hold_an_equals_sign_in_its_value():
    assert parse_assignments(["a=b=c"], flag="--set") == {"a": "b=c"}


@pytest.mark.parametrize("texts", [["a"], ["=1"], ["a=1", "a=2"]])
def test_what_is_no_assignment_or_comes_twice_is_refused(texts):
    with pytest.raises(UsageError, match="--set"):
        parse_assignments(texts, flag="--set")
