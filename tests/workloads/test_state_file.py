"""A state as a file: exact, whole or not at all, and never misread."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from workloads.dataflow import Digest, Gathered, State, TaskState
from workloads.dataflow.state_file import FORMAT_VERSION, MAGIC

if TYPE_CHECKING:
    from pathlib import Path


def state_of(kept: Any, in_flight: Any = ()) -> State:
    member = TaskState(kept={"it": kept}, in_flight={"port": list(in_flight)})
    return State(
        workload="kept",
        parameters={"size": (1, 2.5)},
        seed=1 << 90,
        round=7,
        tasks={"one": [member], "all": [member] * 2},
    )


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(1 << 62, 1 << 66), st.floats(), st.text(), st.binary()
)
ARRAYS = scalar_dtypes().flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
VALUES = st.recursive(
    st.one_of(SCALARS, ARRAYS, ARRAYS.filter(lambda array: array.shape == ()).map(lambda array: array[()])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=6,
)


def form_of(value: Any) -> Any:
    """`value` so that `==` compares types, dtypes, shapes and bits."""
    if isinstance(value, np.ndarray | np.generic):
        return type(value).__name__, value.dtype.str, np.shape(value), value.tobytes()
    if isinstance(value, float):
        return "nan" if math.isnan(value) else ("float", value.hex())
    if isinstance(value, dict):
        return {key: form_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value).__name__, [form_of(item) for item in value]
    return type(value).__name__, value


@given(value=VALUES)
@settings(max_examples=100)
def test_what_is_read_is_what_was_written_bit_for_bit(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.state"
    state = state_of(value, [value, None])
    state.save(path)
    read = State.load(path)
    assert form_of(read.tasks["one"][0].kept) == form_of(state.tasks["one"][0].kept)
    assert form_of(read.tasks["all"][1].in_flight) == form_of(state.tasks["all"][1].in_flight)
    assert (read.workload, read.parameters, read.seed, read.round) == ("kept", {"size": (1, 2.5)}, 1 << 90, 7)


def test_arrays_that_are_not_contiguous_are_written_as_they_look(tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(4, 6)[::2, ::-3]
    state_of(array).save(tmp_path / "s")
    read = State.load(tmp_path / "s").tasks["one"][0].kept["it"]
    assert np.array_equal(read, array)
    assert not read.flags.writeable


def test_what_was_gathered_is_read_as_a_list(tmp_path: Path) -> None:
    gathered = Gathered([np.ones((1, 2)), np.zeros((2, 2))])
    state_of(0, [gathered]).save(tmp_path / "s")
    (read,) = State.load(tmp_path / "s").tasks["one"][0].in_flight["port"]
    first, second = Digest(), Digest()
    first.add(list(gathered))
    second.add(read)
    assert first.hexdigest() == second.hexdigest()


class Thing:
    """Something that no file can hold."""


def test_what_a_file_cannot_hold_is_named_and_the_file_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    state_of(1).save(path)
    with pytest.raises(TypeError, match=r"in flight from task 'one' \(0\): it has a Thing in it"):
        state_of(2, [[Thing()]]).save(path)
    assert State.load(path).tasks["one"][0].kept == {"it": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


def test_a_file_is_replaced_only_when_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    state_of(1).save(path)

    def full(_number: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="the disk is full"):
        state_of(2).save(path)
    monkeypatch.undo()
    assert State.load(path).tasks["one"][0].kept == {"it": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


# ------------------------------------------------------------------------------------------- damaged


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("written") / "s"
    state_of({"array": np.arange(5.0), "more": [1, "two", 3.0, b"four", 1 << 70]}, [np.float32(1), None]).save(path)
    return path.read_bytes()


def test_a_file_of_something_else_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(ValueError, match=r"is no saved state: it begins with b'PK"):
        State.load(tmp_path / "s")


def test_a_file_of_a_later_version_says_so(tmp_path: Path, written: bytes) -> None:
    later = (FORMAT_VERSION + 1).to_bytes(4, "little")
    (tmp_path / "s").write_bytes(MAGIC + later + written[len(MAGIC) + 4 :])
    with pytest.raises(ValueError, match=f"version {FORMAT_VERSION + 1} .* reads version {FORMAT_VERSION}"):
        State.load(tmp_path / "s")


@given(data=st.data())
@settings(max_examples=150)
def test_no_damage_goes_unnoticed(
    data: st.DataObject, written: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.state"
    damaged = bytearray(written)
    at = data.draw(st.integers(0, len(written) - 1))
    if data.draw(st.booleans()):
        damaged[at] ^= data.draw(st.integers(1, 255))
    else:
        del damaged[at:]
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="saved state"):
        State.load(path)


@given(data=st.data())
@settings(max_examples=150)
def test_nonsense_with_a_right_checksum_is_an_error_or_a_state(
    data: st.DataObject, written: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "nonsense.state"
    content = bytearray(written[:-16])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(len(MAGIC) + 4, len(content) - 1))
        content[at : at + 1] = data.draw(st.binary(max_size=3))
    path.write_bytes(content + xxhash.xxh3_128(content).digest())
    try:
        read = State.load(path)
    except ValueError as error:
        assert "saved state" in str(error)  # noqa: PT017 - it may also be a state
    else:
        assert all(isinstance(member, TaskState) for members in read.tasks.values() for member in members)


def test_a_state_that_was_read_can_be_written_again(tmp_path: Path, written: bytes) -> None:
    (tmp_path / "s").write_bytes(written)
    replace(State.load(tmp_path / "s")).save(tmp_path / "t")
    assert (tmp_path / "t").read_bytes() == written
