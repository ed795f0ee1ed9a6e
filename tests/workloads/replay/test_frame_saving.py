"""FrameReplay and UniformReplay in files: they go on bit by bit, and what does not fit together is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.replay import FrameReplay, PrioritizedReplay, SavedReplayError, UniformReplay

FRAME = (2, 3)
FIELDS = {
    "obs": ((2, *FRAME), "uint8"),
    "action": ((), "int64"),
    "reward": ((), "float32"),
    "next_obs": ((2, *FRAME), "uint8"),
    "terminated": ((), "bool"),
    "truncated": ((), "bool"),
}


class Steps:
    """Random steps of two environments, zeros before the first frame."""

    def __init__(self):
        self.rng = np.random.default_rng(0)
        self.stack = [None, None]

    def frame(self):
        return self.rng.integers(0, 256, FRAME, np.uint8)

    def step(self):
        env = int(self.rng.integers(2))
        obs = np.stack([np.zeros(FRAME, np.uint8), self.frame()]) if self.stack[env] is None else self.stack[env]
        next_obs = np.stack([obs[1], self.frame()])
        ended = self.rng.random() < 0.1
        self.stack[env] = None if ended else next_obs
        return {
            "env": env,
            "obs": obs,
            "action": self.rng.integers(10),
            "reward": self.rng.normal(),
            "next_obs": next_obs,
            "terminated": ended and env == 0,
            "truncated": ended and env == 1,
        }


def filled(steps, count, seed=3):
    replay = FrameReplay(
        60, FIELDS, 0.7, 0.01, seed, stack_size=2, padding_type="zero", environments=2, n_steps=3, gamma=0.9
    )
    for _ in range(count):
        added = replay.add(**steps.step())
        replay.update_priorities(added, steps.rng.random(len(added)) * 3)
    return replay


def assert_goes_on_as(loaded, replay, steps):
    """Both draw the same, take the same, and draw the same again."""
    for _ in range(3):
        ours, theirs = (buffer.sample(20, stratified=True, normalise="buffer") for buffer in (replay, loaded))
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
        priorities = steps.rng.random(20)
        for buffer in (replay, loaded):
            buffer.update_priorities(ours["indices"], priorities, ours["generations"])
        for _ in range(15):
            step = steps.step()
            assert np.array_equal(replay.add(**step), loaded.add(**step))
        assert len(loaded) == len(replay)


@pytest.mark.parametrize("count", [10, 25, 300])
def test_a_loaded_buffer_of_frames_goes_on_bit_by_bit(tmp_path, count):
    steps = Steps()
    replay = filled(steps, count)
    replay.save(tmp_path / "replay")

    loaded = FrameReplay.load(tmp_path / "replay")

    assert (loaded.fields, loaded.capacity, loaded.nbytes) == (replay.fields, replay.capacity, replay.nbytes)
    assert_goes_on_as(loaded, replay, steps)


def test_an_empty_buffer_of_single_frames_can_be_saved(tmp_path):
    frames = FIELDS | dict.fromkeys(("obs", "next_obs"), (FRAME, "float32"))
    FrameReplay(9, frames).save(tmp_path / "replay")

    assert len(FrameReplay.load(tmp_path / "replay")) == 0


def test_a_state_is_of_its_moment():
    steps = Steps()
    replay = filled(steps, 100)
    config, arrays = replay.state()
    before = {name: array.copy() for name, array in arrays.items()}

    expected = replay.sample(50)
    for _ in range(100):
        replay.add(**steps.step())

    assert all(np.array_equal(arrays[name], array) for name, array in before.items())
    batch = FrameReplay.from_state(config, arrays).sample(50)
    assert all(np.array_equal(batch[name], expected[name]) for name in expected)


def test_only_what_was_filled_of_the_frames_is_saved(tmp_path):
    large = FrameReplay(10_000, FIELDS, stack_size=2)
    large.save(tmp_path / "replay")

    assert (tmp_path / "replay").stat().st_size < 10_000 * np.prod(FRAME)


def test_a_file_of_another_buffer_is_refused(tmp_path):
    filled(Steps(), 20).save(tmp_path / "replay")

    with pytest.raises(SavedReplayError, match=r"it holds a frames buffer, not a uniform one"):
        UniformReplay.load(tmp_path / "replay")
    with pytest.raises(SavedReplayError, match=r"it holds a frames buffer, not a prioritized one"):
        PrioritizedReplay.load(tmp_path / "replay")


CONFIG, ARRAYS = filled(Steps(), 150).state()


@settings(max_examples=60)
@given(st.sampled_from(sorted(ARRAYS)), st.integers(0, 2**32))
def test_a_state_that_somebody_made_up_is_refused_or_is_one(name, seed):
    rng = np.random.default_rng(seed)
    arrays = {key: array.copy() for key, array in ARRAYS.items()}
    damaged = arrays[name]
    if damaged.size and rng.random() < 0.8:
        damaged.flat[rng.integers(damaged.size)] = rng.choice([-1, 0, 1, 2, 59, 60, 10**6]).astype(damaged.dtype)
    else:
        arrays[name] = np.concatenate([damaged.reshape(-1), damaged.reshape(-1)[:1]])

    try:
        replay = FrameReplay.from_state(CONFIG, arrays)
    except (LookupError, TypeError, ValueError):
        return
    batch = replay.sample(50)
    assert (batch["generations"] < 150).all()


TWINS = ("slot_of_row", "rows/fields/obs")
"""By these, a row knows where it begins."""


@pytest.mark.parametrize(
    "change",
    [
        lambda config, arrays: config.update(n_steps=10**9),
        lambda config, arrays: config["rows"].update(capacity=10**12),
        lambda config, arrays: config.update(environments=7),
        lambda config, arrays: config.update(stack_size=None),
        lambda config, arrays: config.update(fields=[["obs", [2], "uint8"]]),
        lambda config, arrays: config.pop("gamma"),
        lambda config, arrays: arrays.pop("rows/leaves"),
        lambda config, arrays: arrays["counts"].__setitem__(0, 3),
        lambda config, arrays: arrays["counts"].__setitem__(0, -1),
        lambda config, arrays: arrays["history"].__setitem__(0, 2),
        lambda config, arrays: arrays["slot_of_row"].__setitem__(slice(-2, None), arrays["slot_of_row"][:-3:-1]),
        lambda config, arrays: [arrays[name].__setitem__(slice(-2, None), arrays[name][-1]) for name in TWINS],
        lambda config, arrays: arrays["slot_of_row"].__setitem__(slice(None), -1),
        lambda config, arrays: arrays["rows/fields/next_obs"].__setitem__(slice(None), 60),
        lambda config, arrays: arrays["waiting/obs"].__setitem__(slice(None), -1),
    ],
)
def test_what_does_not_fit_together_is_refused(change):
    config = CONFIG | {"rows": dict(CONFIG["rows"])}
    arrays = {name: array.copy() for name, array in ARRAYS.items()}
    change(config, arrays)

    with pytest.raises((LookupError, TypeError, ValueError)):
        FrameReplay.from_state(config, arrays)


def uniform(rows):
    replay = UniformReplay(10, {"action": ((), "int64")}, seed=4)
    replay.add(action=np.arange(rows))
    return replay


def test_a_loaded_uniform_buffer_goes_on_bit_by_bit(tmp_path):
    replay = uniform(14)
    replay.sample(3)
    replay.save(tmp_path / "replay")

    loaded = UniformReplay.load(tmp_path / "replay")

    for _ in range(2):
        ours, theirs = replay.sample(20), loaded.sample(20)
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
        assert loaded.add(action=99) == replay.add(action=99)


def test_copies_by_pickle_go_on_as_what_they_are_copies_of():
    steps = Steps()
    frames, rows = filled(steps, 100), uniform(14)

    assert_goes_on_as(pickle.loads(pickle.dumps(frames)), frames, steps)
    assert np.array_equal(pickle.loads(pickle.dumps(rows)).sample(20)["action"], rows.sample(20)["action"])


def test_rows_with_priorities_are_no_uniform_buffer():
    config, arrays = uniform(14).state()
    arrays["leaves"][2] = 0

    with pytest.raises(ValueError, match="its rows have priorities"):
        UniformReplay.from_state(config, arrays)
    with pytest.raises(ValueError, match="its rows have priorities"):
        UniformReplay.from_state(*PrioritizedReplay(3, {"action": ((), "int64")}).state())
