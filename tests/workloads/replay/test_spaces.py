"""Fields from Gymnasium's own spaces, and what the package imports for that: nothing."""

from __future__ import annotations

import ast
import subprocess
import sys

import numpy as np
import pytest
from gymnasium import spaces

from workloads.replay import PrioritizedReplay, named_arrays, transition_fields
from workloads.replay.spaces import space_fields


@pytest.mark.parametrize(
    ("space", "field"),
    [
        (spaces.Box(-1, 1, (3, 2)), ((3, 2), "float32")),
        (spaces.Box(0, 255, (84, 84), np.uint8), ((84, 84), "uint8")),
        (spaces.Box(-np.inf, np.inf, (), np.float64), ((), "float64")),
        (spaces.Discrete(4, start=-1), ((), "int64")),
        (spaces.MultiDiscrete([3, 4], np.int32), ((2,), "int32")),
        (spaces.MultiBinary((2, 3)), ((2, 3), "int8")),
    ],
)
def test_a_space_of_arrays_is_one_field(space, field):
    assert space_fields("obs", space) == {"obs": field}
    assert np.asarray(space.sample()).shape == field[0]


NESTED = spaces.Dict(
    camera=spaces.Box(0, 255, (8, 8), np.uint8),
    arm=spaces.Tuple([spaces.Box(-1, 1, (3,)), spaces.Dict(grip=spaces.Discrete(2))]),
)


def test_parts_of_dicts_and_tuples_are_named_by_the_way_to_them():
    assert space_fields("obs", NESTED) == {
        "obs.arm.0": ((3,), "float32"),
        "obs.arm.1.grip": ((), "int64"),
        "obs.camera": ((8, 8), "uint8"),
    }


def test_the_fields_of_a_transition_are_those_of_an_agents_step():
    fields = transition_fields(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))

    assert fields == {
        "obs": ((3,), "float32"),
        "action": ((), "int64"),
        "reward": ((), "float32"),
        "next_obs": ((3,), "float32"),
        "terminated": ((), "bool"),
        "truncated": ((), "bool"),
    }


def test_what_a_nested_space_gives_can_be_stored_and_drawn():
    replay = PrioritizedReplay(4, transition_fields(NESTED, spaces.Discrete(2)))
    obs, next_obs = NESTED.sample(), NESTED.sample()

    replay.add(
        **named_arrays("obs", obs),
        **named_arrays("next_obs", next_obs),
        **named_arrays("action", 1),
        reward=0.5,
        terminated=False,
        truncated=False,
    )
    batch = replay.sample(1)

    assert np.array_equal(batch["obs.camera"][0], obs["camera"])
    assert batch["next_obs.arm.1.grip"][0] == next_obs["arm"][1]["grip"]


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (spaces.Sequence(spaces.Discrete(2)), "the length of its values differs"),
        (spaces.Text(5), "the length of its values differs"),
        (spaces.Graph(spaces.Discrete(2), None), "the number of nodes and edges of its values differs"),
        (spaces.OneOf([spaces.Discrete(2)]), "its values are of one space or of another"),
        ((3, 4), "it is no such space"),
    ],
)
def test_a_space_without_arrays_of_fixed_shape_is_refused_with_the_reason(space, reason):
    with pytest.raises(TypeError, match=rf"'obs.inner' has no arrays of fixed shape: {reason}. A buffer stores Box"):
        space_fields("obs.inner", space)


def test_two_parts_of_one_name_are_refused():
    twice = spaces.Dict({"a.b": spaces.Discrete(2), "a": spaces.Dict(b=spaces.Discrete(2))})

    with pytest.raises(ValueError, match=r"Two parts of 'obs' are both called 'obs.a.b'"):
        space_fields("obs", twice)


def test_the_package_is_imported_and_used_with_numpy_alone(repository):
    code = """
import sys; known = set(sys.modules)
from workloads.replay import FrameReplay, UniformReplay
replay = UniformReplay(4, {"obs": ((2,), "float32")})
replay.add(obs=[1, 2])
replay.sample(3)
print(*sorted(set(sys.modules) - known))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)

    imported = {name.partition(".")[0] for name in done.stdout.split() if "cython" not in name}
    assert imported - sys.stdlib_module_names == {"numpy", "workloads"}


def test_no_module_of_the_package_names_another_library_than_numpy(repository):
    package = repository / "workloads" / "replay"
    found = {
        (path.name, module)
        for path in package.rglob("*.py")
        if "adapters" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [a.name for a in getattr(node, "names", [])]
            if isinstance(node, ast.Import)
            else []
        )
    }

    assert {
        (file, module)
        for file, module in found
        if module.partition(".")[0] not in sys.stdlib_module_names | {"numpy"}
        and not module.startswith("workloads.replay")
    } == set()
