"""FrameReplay: against a naive buffer that keeps every observation whole, and against Gymnasium's own wrapper."""

from __future__ import annotations

from collections import deque

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import FrameStackObservation
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.replay import FrameReplay, PrioritizedReplay, transition_fields

FRAME = (2,)


def fields_of(stack_size):
    shape = FRAME if stack_size is None else (stack_size, *FRAME)
    return {
        "obs": (shape, "int16"),
        "action": ((), "int64"),
        "reward": ((), "float32"),
        "next_obs": (shape, "int16"),
        "terminated": ((), "bool"),
        "truncated": ((), "bool"),
    }


class Naive:
    """Keeps all observations of all steps, and says by the rules which rows there are, and which may be drawn."""

    def __init__(self, environments, stack_size, padding, n_steps, gamma):
        self.stack_size, self.padding, self.n_steps, self.gamma = stack_size or 1, padding, n_steps, gamma
        self.whole = stack_size is None
        self.frames = [0] * environments
        self.began = [None] * environments
        self.stacks = [None] * environments
        self.steps = []

    def observe(self, env, first):
        """The next frame of `env`, which no other is like, and the stack with it."""
        frame = np.array([env, self.frames[env]], np.int16)
        if first:
            self.began[env] = self.frames[env]
            padding = frame if isinstance(self.padding, str) and self.padding == "reset" else self.padding
            padding = np.zeros_like(frame) if isinstance(padding, str) else padding
            self.stacks[env] = deque([padding] * self.stack_size, self.stack_size)
        self.stacks[env].append(frame)
        self.frames[env] += 1
        return np.stack(self.stacks[env])[0 if self.whole else slice(None)].copy()

    def step(self, env, end):
        """One step of `env`, as `add` takes it."""
        if self.stacks[env] is None:
            self.latest = self.observe(env, first=True)
        else:
            stack = np.stack(self.stacks[env])
            self.latest = stack[0] if self.whole else stack
        begins_at = self.frames[env] - 1
        step = {
            "obs": self.latest,
            "action": len(self.steps),
            "reward": np.float32(len(self.steps) % 5 - 1.7),
            "next_obs": self.observe(env, first=False),
            "terminated": end == "terminated",
            "truncated": end == "truncated",
        }
        oldest = max(self.began[env], begins_at - self.stack_size + 1)
        self.steps.append(step | {"env": env, "oldest": oldest})
        if end:
            self.stacks[env] = None
        return step

    def rows(self):
        """All rows that have been whole, by the order in which they became so: (oldest frame, env, row)."""
        found = []
        for first, step in enumerate(self.steps):
            later = [i for i in range(first, len(self.steps)) if self.steps[i]["env"] == step["env"]]
            total, discount = 0.0, 1.0
            for count, i in enumerate(later[: self.n_steps], 1):
                last = self.steps[i]
                total += discount * float(last["reward"])
                discount *= self.gamma
                if last["terminated"] or last["truncated"] or count == self.n_steps:
                    row = step | {name: last[name] for name in ("next_obs", "terminated", "truncated")}
                    row["reward"] = np.float32(total)
                    row["discounts"] = np.float32(0 if last["terminated"] else discount)
                    found.append((i, first, row))
                    break
        return [row for _, _, row in sorted(found, key=lambda entry: entry[:2])]

    def drawable(self, slots, capacity):
        """Rows that may be drawn, by action."""
        return {
            row["action"]: row for row in self.rows()[-capacity:] if row["oldest"] >= self.frames[row["env"]] - slots
        }


def everything(replay):
    """All rows that can be drawn, by action: each n-th of their masses, all alike, has a row of its own in it."""
    if not len(replay):
        return {}
    batch = replay.sample(3 * len(replay), stratified=True)
    return {int(action): {name: batch[name][i] for name in batch} for i, action in enumerate(batch["action"])}


def same(row, expected):
    return all(
        np.array_equal(row[name], expected[name])
        for name in ("obs", "action", "reward", "next_obs", "terminated", "truncated", "discounts")
    )


ENDS = st.sampled_from(["", "", "", "", "terminated", "truncated"])
CUSTOM = np.array([-7, -8], np.int16)


@st.composite
def programs(draw):
    """What a buffer is made of, and the steps of environments that are added to it, in calls of several."""
    environments = draw(st.integers(1, 3))
    stack_size = draw(st.sampled_from([None, 1, 2, 3, 4]))
    n_steps = draw(st.integers(1, 4))
    slots = (stack_size or 1) + n_steps + 1 + draw(st.integers(0, 8))
    steps = st.tuples(st.integers(0, environments - 1), ENDS)
    calls = draw(st.lists(st.lists(steps, min_size=1, max_size=30), max_size=8))
    padding = draw(st.sampled_from(["reset", "zero", CUSTOM]))
    return environments, stack_size, n_steps, slots, padding, calls


def made(program, **options):
    """An empty buffer as `program` says, and the naive one beside it."""
    environments, stack_size, n_steps, slots, padding, _ = program
    settings = {"environments": environments, "n_steps": n_steps, "gamma": 0.9, "padding_type": padding}
    replay = FrameReplay(slots * environments, fields_of(stack_size), stack_size=stack_size, **settings, **options)
    return replay, Naive(environments, stack_size, padding, n_steps, 0.9)


def arrays_of(steps):
    return {name: np.stack([step[name] for step in steps]) for name in steps[0]}


@settings(max_examples=60)
@given(programs())
def test_the_rows_that_the_rules_allow_can_be_drawn_as_they_were_given_and_no_others(program):
    replay, naive = made(program, alpha=0)
    slots = program[3]

    for call in program[-1]:
        steps = [naive.step(*step) for step in call]
        replay.add(env=[env for env, _ in call], **arrays_of(steps))

        drawn, allowed = everything(replay), naive.drawable(slots, replay.capacity)
        assert drawn.keys() == allowed.keys()
        assert len(replay) == len(allowed)
        assert all(same(row, allowed[action]) for action, row in drawn.items())


@settings(max_examples=30)
@given(programs(), st.integers(0, 2**32))
def test_no_row_that_has_lost_a_frame_comes_back_by_a_new_priority(program, seed):
    replay, naive = made(program, seed=seed)
    rng = np.random.default_rng(seed)
    slots, drawn = program[3], []

    for call in program[-1]:
        for env, end in call:
            replay.add(env=env, **naive.step(env, end))
        allowed = naive.drawable(slots, replay.capacity)
        for batch in drawn:
            updated = replay.update_priorities(batch["indices"], rng.random(8) + 0.1, batch["generations"])
            assert updated == sum(int(action) in allowed for action in batch["action"])
        if allowed:
            drawn.append(replay.sample(8))
            assert all(
                same({n: c[i] for n, c in drawn[-1].items()}, allowed[int(drawn[-1]["action"][i])]) for i in range(8)
            )


@settings(max_examples=30)
@given(programs())
def test_steps_added_together_leave_the_buffer_as_steps_added_one_by_one(program):
    together, naive = made(program)
    single, _ = made(program)

    for call in program[-1]:
        steps = [naive.step(*step) for step in call]
        indices = [single.add(env=env, **step) for (env, _), step in zip(call, steps, strict=True)]
        assert (
            together.add(env=[env for env, _ in call], **arrays_of(steps)).tolist() == np.concatenate(indices).tolist()
        )
    if len(together):
        assert_same(together.sample(50), single.sample(50))


def assert_same(batch, other):
    assert batch.keys() == other.keys()
    for name in batch:
        assert np.array_equal(batch[name], other[name]), name


@pytest.mark.parametrize(
    "padding_type", ["reset", "zero", np.full(4, 0.125, np.float32)], ids=["reset", "zero", "frame"]
)
def test_stacks_are_those_of_gymnasiums_wrapper(padding_type):
    env = FrameStackObservation(gymnasium.make("CartPole-v1", max_episode_steps=25), 4, padding_type=padding_type)
    fields = transition_fields(env.observation_space, env.action_space)
    replay = FrameReplay(1000, fields, 0.0, stack_size=4, padding_type=padding_type)
    whole = PrioritizedReplay(1000, replay.fields)
    env.action_space.seed(0)
    obs, _ = env.reset(seed=0)
    for _ in range(300):
        action = env.action_space.sample()
        next_obs, reward, terminated, truncated, _ = env.step(action)
        step = {"obs": obs, "action": action, "reward": reward, "next_obs": next_obs}
        step |= {"terminated": terminated, "truncated": truncated}
        replay.add(**step)
        whole.add(**step, discounts=0.99 * (not terminated))
        obs = env.reset()[0] if terminated or truncated else next_obs

    assert len(replay) == 300
    drawn = replay.sample(900, stratified=True)
    assert drawn["truncated"].any()
    assert drawn["terminated"].any()
    assert sorted(set(drawn["indices"].tolist())) == list(range(300))
    stored = whole.sample(900, stratified=True)
    naive = {int(i): {name: stored[name][k] for name in replay.fields} for k, i in enumerate(stored["indices"])}
    assert all(
        np.array_equal(drawn[name][k], naive[int(i)][name])
        for k, i in enumerate(drawn["indices"])
        for name in replay.fields
    )


def test_an_image_of_a_dict_is_stored_once_and_what_is_beside_it_in_the_row():
    fields = {
        **fields_of(None),
        "obs.camera": ((4, 4), "uint8"),
        "next_obs.camera": ((4, 4), "uint8"),
        "obs": ((3,), "float32"),
        "next_obs": ((3,), "float32"),
    }
    replay = FrameReplay(20, fields, images="obs.camera")
    frames = np.arange(9 * 16, dtype=np.uint8).reshape(9, 4, 4)
    vectors = np.arange(27, dtype=np.float32).reshape(9, 3)

    replay.add(
        **{"obs.camera": frames[:-1], "next_obs.camera": frames[1:], "obs": vectors[:-1], "next_obs": vectors[1:]},
        action=np.arange(8),
        reward=np.zeros(8),
        terminated=np.zeros(8, bool),
        truncated=np.zeros(8, bool),
    )
    batch = replay.sample(64)

    assert np.array_equal(batch["obs.camera"], frames[batch["action"]])
    assert np.array_equal(batch["next_obs.camera"], frames[batch["action"] + 1])
    assert np.array_equal(batch["next_obs"], vectors[batch["action"] + 1])


ATARI = {
    "obs": ((4, 84, 84), "uint8"),
    "action": ((), "int64"),
    "reward": ((), "float32"),
    "next_obs": ((4, 84, 84), "uint8"),
    "terminated": ((), "bool"),
    "truncated": ((), "bool"),
}


def test_a_stack_of_four_with_its_next_observation_takes_an_eighth_of_the_memory():
    frames, whole = FrameReplay(1000, ATARI, stack_size=4), PrioritizedReplay(1000, ATARI)

    assert 1000 * 84 * 84 < frames.nbytes < 1.02 * whole.nbytes / 8


def cartpole(count):
    """Steps of one long episode without stacks."""
    frames = np.arange(2 * count + 2, dtype=np.int16).reshape(-1, 2)
    return {
        "obs": frames[:-1],
        "action": np.arange(count),
        "reward": np.ones(count),
        "next_obs": frames[1:],
        "terminated": np.zeros(count, bool),
        "truncated": np.zeros(count, bool),
    }


def test_batches_are_written_into_the_arrays_that_are_given():
    replay = FrameReplay(20, fields_of(None))
    replay.add(**cartpole(9))
    out = {"obs": np.zeros((5, 2), np.int16), "action": np.zeros(5, np.int64), "weights": np.zeros(5, np.float32)}

    batch = replay.sample(5, out=out)

    assert all(batch[name] is array for name, array in out.items())
    assert out["obs"].tolist() == [[2 * a, 2 * a + 1] for a in out["action"].tolist()]
    with pytest.raises(ValueError, match=r"out\['next_obs'\] is int16 of shape \(4, 2\)"):
        replay.sample(5, out={"next_obs": np.zeros((4, 2), np.int16)})
    with pytest.raises(ValueError, match="out has 'next'"):
        replay.sample(5, out={"next": np.zeros((5, 2), np.int16)})


def test_a_batch_becomes_tensors_without_a_copy():
    import torch

    replay = FrameReplay(100, ATARI, stack_size=4)
    stack = np.zeros((4, 84, 84), np.uint8)
    replay.add(obs=stack, action=1, reward=1.0, next_obs=stack, terminated=False, truncated=True)

    for array in replay.sample(3).values():
        assert array.flags.carray
        assert torch.from_numpy(array).data_ptr() == array.ctypes.data


def test_priorities_can_be_given_with_a_step_where_a_row_is_one_step():
    replay = FrameReplay(20, fields_of(None), alpha=1)

    indices = replay.add(**cartpole(9), priorities=[0, 0, 0, 1, 0, 0, 0, 0, 0])

    assert indices.tolist() == list(range(9))
    assert set(replay.sample(50)["action"].tolist()) == {3}
    longer = FrameReplay(20, fields_of(None), n_steps=2)
    with pytest.raises(ValueError, match=r"a row goes 2 steps and is added later"):
        longer.add(**cartpole(9), priorities=np.ones(9))
    longer.update_priorities(longer.add(**cartpole(9)), np.arange(8))
    assert 0 not in longer.sample(50)["action"]


def test_with_alpha_0_all_rows_are_drawn_alike_and_weights_are_ones():
    replay = FrameReplay(12, fields_of(None), alpha=0)
    replay.add(**cartpole(40))

    batch = replay.sample(11_000)

    counts = np.unique_counts(batch["action"])
    assert counts.values.tolist() == list(range(29, 40))
    assert ((counts.counts - 1000) ** 2 / 1000).sum() < 31.3  # 99.95 % of chi-square with 10 degrees of freedom
    assert (batch["weights"] == 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["obs"].__setitem__((4, -1), 99), "Step 4, of environment 0: 'obs' is not the 'next_obs' of the"),
        (lambda s: s["obs"].__setitem__((0, 0), 99), "Step 0, of environment 0, begins an episode, but its stack is"),
        (lambda s: s["next_obs"].__setitem__((3, 1), 99), "Step 3, of environment 0: the stack of 'next_obs' is not"),
        (lambda s: s["truncated"].__setitem__(2, 1), "Step 3, of environment 0, begins an episode"),
    ],
)
def test_observations_that_do_not_follow_each_other_are_refused_and_nothing_is_stored(change, message):
    naive = Naive(1, 3, "reset", 1, 0.9)
    steps = arrays_of([naive.step(0, "") for _ in range(6)])
    replay = FrameReplay(20, fields_of(3), stack_size=3)
    wrong = {name: column.copy() for name, column in steps.items()}
    change(wrong)

    with pytest.raises(ValueError, match=message):
        replay.add(**wrong)

    assert len(replay) == 0
    replay.add(**{name: column[:4] for name, column in steps.items()})
    with pytest.raises(ValueError, match="Step 0, of environment 0: 'obs' is not the 'next_obs'"):
        replay.add(**{name: column[5:] for name, column in steps.items()})
    replay.add(**{name: column[4:] for name, column in steps.items()})
    assert len(replay) == 6


def test_no_steps_at_all_may_be_added():
    replay = FrameReplay(20, fields_of(None), n_steps=2)

    assert replay.add(**cartpole(0)).shape == (0,)
    assert len(replay) == 0


def test_frames_may_be_nan():
    replay = FrameReplay(20, fields_of(None) | {"obs": (FRAME, "float32"), "next_obs": (FRAME, "float32")})
    steps = {name: column.astype(np.float32) if "obs" in name else column for name, column in cartpole(9).items()}
    steps["obs"][1:, 0] = steps["next_obs"][:, 0] = np.nan

    replay.add(**steps)

    assert len(replay) == 9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "camera"}, "have no 'camera'.*several images, or none, are for PrioritizedReplay"),
        ({"stack_size": 3}, r"'obs' has shape \(4, 84, 84\), but with stack_size=3 its first axis is the frames"),
        ({"stack_size": 0}, "stack_size=0"),
        ({"stack_size": 4, "padding_type": "edge"}, "padding_type is 'edge'. It is 'reset'"),
        ({"stack_size": 4, "padding_type": np.zeros((84, 84))}, "is a frame of shape .* and dtype float64"),
        ({"stack_size": 4, "environments": 3}, "capacity is 10, which is 3 frames.* need up to 6: give room for 18"),
        ({"fields": ATARI | {"next_obs": ((84, 84), "uint8")}}, "Both are of one shape and dtype"),
        ({"n_steps": 0}, "A row goes 1 step or more"),
    ],
)
def test_what_no_buffer_can_be_made_of_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FrameReplay(10, **({"fields": ATARI} | options))


def test_an_empty_buffer_says_that_nothing_can_be_drawn():
    replay = FrameReplay(10, fields_of(None))

    assert len(replay) == 0
    assert repr(replay).startswith("FrameReplay(0 rows, 10 frames of obs, action")
    with pytest.raises(ValueError, match="Nothing can be drawn"):
        replay.sample(1)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP], ids=lambda mode: mode.name)
def test_vector_environments_are_stored_whichever_way_they_reset(mode):
    def make():
        return FrameStackObservation(gymnasium.make("CartPole-v1", max_episode_steps=20), 3)

    envs = SyncVectorEnv([make] * 3, autoreset_mode=mode)
    fields = transition_fields(envs.single_observation_space, envs.single_action_space)
    replay = FrameReplay(600, fields, 0.0, stack_size=3, environments=3, n_steps=2)
    envs.action_space.seed(0)
    obs, _ = envs.reset(seed=0)
    steps, stored = np.ones(3, bool), 0
    for _ in range(80):
        action = envs.action_space.sample()
        next_obs, reward, terminated, truncated, info = envs.step(action)
        last_obs = next_obs.copy()
        for i in np.flatnonzero((terminated | truncated) & ("final_obs" in info)):
            last_obs[i] = info["final_obs"][i]
        step = {"obs": obs, "action": action, "reward": reward, "next_obs": last_obs}
        step |= {"terminated": terminated, "truncated": truncated}
        stored += len(replay.add(env=np.flatnonzero(steps), **{name: column[steps] for name, column in step.items()}))
        obs = next_obs
        if mode is AutoresetMode.NEXT_STEP:
            steps = ~(terminated | truncated)

    assert len(replay) == stored > 200
    batch = replay.sample(3 * stored, stratified=True)
    assert batch["terminated"].any()
    assert batch["truncated"].any()
    envs.close()
