"""Gymnasium environments as tasks: making them, drawing their actions, stepping them.

A step is one `env.step`. When an episode ends, the environment is reset in the same step
(`AutoresetMode.SAME_STEP`): `observation` is then the first of the next episode, and the last of the
old one goes to `final_observation`, a port that is absent in all other rounds. What the tasks give:

| port                | value                               | with a fragment of F steps            |
|---------------------|-------------------------------------|---------------------------------------|
| `observation`       | array of the observation space      | `(F, *shape)`                         |
| `reward`            | float64 scalar                      | `(F,)`                                |
| `ended`             | uint8 scalar, bits, as below        | `(F,)`                                |
| `final_observation` | as `observation`, not declared      | list of (step within F, observation)  |

An observation without fixed shape and dtype (a Dict, a Text) is no array: its port is not declared, and
a fragment carries a list of F.
"""

from __future__ import annotations

import copy
import difflib
import importlib
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.dataflow import ArraySpec, GraphError, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gymnasium import Env, Space
    from numpy.typing import NDArray

    from workloads.dataflow import Inputs, Outputs, TaskContext

__all__ = [
    "TERMINATED",
    "TRUNCATED",
    "DrivenEnvironment",
    "EnvironmentSpaces",
    "FragmentEnvironment",
    "LocalEnvironment",
    "RestartedEnvironment",
    "action_stream",
    "array_of",
    "is_ale",
    "make_environment",
    "spaces_of",
]

ADVANCE_STRIDE = 37
"""Environment i is advanced by (37 i) mod 500 steps at its first reset, so that episodes do not end in step."""
ADVANCE_MODULUS = 500
ACTIONS_PER_BLOCK = 1024
"""Random actions drawn at a time: drawn one by one, each would cost 2 us, a fifth of a step of CartPole."""

TERMINATED = 1
"""Bits of `ended`; 0 while the episode runs. A step can be the end for both reasons."""
TRUNCATED = 2


# ------------------------------------------------------------------------------------ environments


@dataclass(frozen=True, slots=True)
class EnvironmentSpaces:
    """What an environment observes and does."""

    observation: Space[Any]
    action: Space[Any]


def is_ale(env_id: str) -> bool:
    """Whether `env_id` names an Atari environment of the Arcade Learning Environment."""
    return env_id.rpartition(":")[2].startswith("ALE/")


def make_environment(env_id: str, observation: str) -> Env[Any, Any]:
    """Make `env_id` as it is registered; `observation` is `raw` or `gray84`.

    Raises:
        ValueError: for an id that is not registered.
    """
    import gymnasium

    name = _registered(env_id)
    if observation == "raw":
        return gymnasium.make(name, disable_env_checker=True)
    import cv2

    cv2.setNumThreads(1)  # every side of a comparison gets one thread; its pool would add one for each core
    # The preprocessing skips the frames itself, since it keeps the maximum of the last two.
    return gymnasium.wrappers.AtariPreprocessing(
        gymnasium.make(name, disable_env_checker=True, frameskip=1),
        noop_max=0,
        frame_skip=4,
        screen_size=84,
        terminal_on_life_loss=False,
        grayscale_obs=True,
        scale_obs=False,
    )


@lru_cache(maxsize=8)
def spaces_of(env_id: str, observation: str) -> EnvironmentSpaces:
    """The spaces of an environment, which is made to learn them and closed.

    Raises:
        ValueError: for an unknown id, or an environment that cannot be made here.
    """
    _ = _registered(env_id)
    try:
        env = make_environment(env_id, observation)
    except Exception as error:  # each environment has failures of its own; the user needs the reason, whatever it is
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"Environment '{env_id}' cannot be made here ({type(error).__name__}: {reason}). "
            "Install what it needs, or choose another."
        ) from error
    try:
        return EnvironmentSpaces(env.observation_space, env.action_space)
    finally:
        env.close()


def array_of(space: Space[Any]) -> ArraySpec | None:
    """The array that a value of `space` fits in, or None if it has no fixed shape and dtype."""
    from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Tuple

    if isinstance(space, Box | Discrete | MultiBinary | MultiDiscrete):
        assert space.shape is not None
        return ArraySpec(space.shape, space.dtype)
    if isinstance(space, Tuple) and len(space) and all(isinstance(item, Discrete) for item in space):
        return ArraySpec((len(space),), np.int64)
    return None


def _registered(env_id: str) -> str:
    """`env_id` without its module, which is imported, once it is sure that the rest is registered."""
    import gymnasium

    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"Environment '{env_id}' is registered by module '{module}', which cannot be imported ({error}). "
                "Install it, or correct the name."
            ) from error
    if is_ale(name):
        try:
            _register_ale()
        except ImportError as error:
            raise ValueError(
                f"Environment '{env_id}' needs the module ale_py, which cannot be imported ({error}). "
                "Install ale-py, or choose another environment."
            ) from error
    known = gymnasium.registry
    if name not in known:
        # The Atari ids of older papers (`Pong-v4`) have no prefix to tell them by.
        with suppress(ImportError):
            _register_ale()
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else "gymnasium.pprint_registry() lists the known ones."
    raise ValueError(
        f"Unknown environment '{env_id}'. An id is one that Gymnasium has registered, with its version; "
        f"'module:id' imports the module first. {hint}"
    )


def _register_ale() -> None:
    """Have `ALE/...` ids registered, and the emulator's banner kept out of the logs."""
    import ale_py

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


# ------------------------------------------------------------------------------------------ actions


def action_stream(space: Space[Any], context: TaskContext, purpose: str) -> Iterator[Any]:
    """Random actions without end, uniform over `space`, from the task's stream for `purpose`.

    Drawn in blocks: ints for Discrete, rows of an array for a bounded Box, and samples of a copy of the
    space for any other (Gymnasium draws unbounded dimensions from a normal or an exponential).
    """
    return chain.from_iterable(_action_blocks(space, context, purpose))


def _action_blocks(space: Space[Any], context: TaskContext, purpose: str) -> Iterator[list[Any]]:
    from gymnasium.spaces import Box, Discrete

    rng = context.rng(purpose)
    if isinstance(space, Discrete):
        first, beyond = int(space.start), int(space.start + space.n)
        while True:
            yield rng.integers(first, beyond, ACTIONS_PER_BLOCK).tolist()
    if isinstance(space, Box) and space.is_bounded():
        shape = (ACTIONS_PER_BLOCK, *space.shape)
        while True:
            if np.issubdtype(space.dtype, np.floating):
                yield list(rng.uniform(space.low, space.high, shape).astype(space.dtype))
            else:
                yield list(rng.integers(space.low, space.high, shape, dtype=space.dtype, endpoint=True))
    sampler = copy.deepcopy(space)
    sampler.seed(context.seed_int(purpose))
    while True:
        yield [sampler.sample() for _ in range(ACTIONS_PER_BLOCK)]


# -------------------------------------------------------------------------------------------- tasks


class LocalEnvironment(Task):
    """An environment that takes one step a round with a random action of its own."""

    def __init__(self, context: TaskContext, *, env_id: str, observation: str) -> None:
        """Make the environment; it is reset only at its first use, which is no part of start-up."""
        self._context = context
        self._env = make_environment(env_id, observation)
        array = array_of(self._env.observation_space)
        self._dtype = None if array is None else np.dtype(array.dtype)
        self._ale: Any = getattr(self._env.unwrapped, "ale", None)
        self._resets = 0
        self._frames_not_stepped = 0
        self._next_action = action_stream(self._env.action_space, context, "actions").__next__
        # Replaced by `env.step` at the first call: saves a test in every step.
        self._step: Callable[[Any], tuple[Any, Any, Any, Any, Any]] = self._begin_and_step

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:  # noqa: ARG002 - only a driven environment has an input
        """Take one step.

        Written out in one piece: a function for the second half would cost CartPole 1 %.
        """
        observation, reward, terminated, truncated, _ = self._step(self._next_action())
        if terminated or truncated:
            if self._dtype is None:
                outputs["final_observation"] = self._copy(observation)
            else:
                outputs["final_observation"][...] = observation
            outputs["ended"][()] = _ended(terminated, truncated)
            observation = self._restart()
        else:
            outputs["ended"][()] = 0
        outputs["reward"][()] = reward
        if self._dtype is None:
            outputs["observation"] = observation
        else:
            outputs["observation"][...] = observation

    def tallies(self) -> Mapping[str, int]:
        """Episodes that ended; for Atari the frames that steps (not resets) have emulated."""
        if self._ale is None:
            return {"resets": self._resets}
        return {"resets": self._resets, "emulator_frames": self._ale.getFrameNumber() - self._frames_not_stepped}

    def state(self) -> Mapping[str, Any]:
        """It has none.

        Raises:
            GraphError: always.
        """
        raise GraphError(
            f"a {type(self).__name__} keeps no record of its actions, which would slow what it is there to measure. "
            "Nothing is learnt here that a later run could go on with; run it again instead."
        )

    def member(self) -> Env[Any, Any]:
        """This task's environment for a library that steps and resets environments itself, instead of `fire`.

        It begins and goes on as here: its first reset leaves it out of step with the others, and no reset takes
        a seed. `actions(n)` gives the next n random actions as an array of shape `(n, *action shape)`, and
        `tallies()` what the method here gives. A step goes to the environment itself.
        """
        import gymnasium

        begin, restart, stream, tallies = self._begin, self._restart, self._next_action, self.tallies

        class Member(gymnasium.Wrapper[Any, Any, Any, Any]):
            def __init__(self, env: Env[Any, Any]) -> None:
                super().__init__(env)
                self.step = env.step  # type: ignore[method-assign] # a method of the wrapper would cost CartPole 3 %
                self._reset: Callable[[], Any] = begin

            def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:  # noqa: ARG002 - Gymnasium's signature
                observation, self._reset = self._reset(), restart
                return observation, {}

            def actions(self, number: int) -> NDArray[Any]:
                return np.array([stream() for _ in range(number)], self.action_space.dtype)

            def tallies(self) -> Mapping[str, int]:
                return tallies()

        return Member(self._env)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _begin(self) -> Any:
        """Reset for the first time and advance out of step with the other members; the observation."""
        env = self._env
        observation, _ = env.reset(seed=self._context.seed_int("environment"))
        actions = action_stream(env.action_space, self._context, "advance")
        for action in islice(actions, ADVANCE_STRIDE * self._context.index % ADVANCE_MODULUS):
            observation, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                observation, _ = env.reset()
        if self._ale is not None:
            self._frames_not_stepped = self._ale.getFrameNumber()
        self._step = env.step
        return observation

    def _begin_and_step(self, action: Any) -> tuple[Any, Any, Any, Any, Any]:
        self._begin()
        return self._step(action)

    def _restart(self) -> Any:
        """Begin the next episode; its first observation."""
        self._resets += 1
        if self._ale is None:
            return self._env.reset()[0]
        frames_before = self._ale.getFrameNumber()
        observation = self._env.reset()[0]
        # Some games (Crossbow, Pooyan) emulate frames to get started.
        self._frames_not_stepped += self._ale.getFrameNumber() - frames_before
        return observation

    def _copy(self, observation: Any) -> Any:
        """`observation`, safe from an environment that reuses its memory."""
        return copy.deepcopy(observation) if self._dtype is None else np.array(observation, self._dtype)


class DrivenEnvironment(LocalEnvironment):
    """An environment that takes one step a round with the action it is sent."""

    def __init__(self, context: TaskContext, *, env_id: str, observation: str) -> None:
        """Make the environment."""
        from gymnasium.spaces import Discrete

        super().__init__(context, env_id=env_id, observation=observation)
        self._takes_int = isinstance(self._env.action_space, Discrete)
        self._sent: list[Any] = []
        self._next_action = self._sent.pop

    def initial(self, port: str) -> Any:
        """The first observation; no reward, nothing ended."""
        if port == "observation":
            return self._copy(self._begin())
        return {"reward": np.zeros(()), "ended": np.zeros((), np.uint8), "final_observation": None}[port]

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Take one step."""
        action = inputs["action"]
        # A copy, since an environment may keep or change what it is given, and inputs are read-only.
        self._sent.append(action.item() if self._takes_int else np.array(action))
        super().fire(inputs, outputs)


class RestartedEnvironment(LocalEnvironment):
    """An environment that is reset after every step, whether its episode has ended or not."""

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Take one step and reset."""
        super().fire(inputs, outputs)
        if not outputs["ended"]:
            observation = self._restart()
            if self._dtype is None:
                outputs["observation"] = observation
            else:
                outputs["observation"][...] = observation


class FragmentEnvironment(LocalEnvironment):
    """An environment that takes several steps a round with random actions of its own."""

    def __init__(self, context: TaskContext, *, env_id: str, observation: str, steps: int) -> None:
        """Make the environment, to take `steps` steps a round."""
        super().__init__(context, env_id=env_id, observation=observation)
        self._steps = range(steps)

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:  # noqa: ARG002 - it has no input
        """Take the steps of one fragment."""
        next_action, declared = self._next_action, self._dtype is not None
        rewards, ended = outputs["reward"], outputs["ended"]
        observations: Any = outputs["observation"] if declared else [None] * len(self._steps)
        finals: list[tuple[int, Any]] = []
        ended[...] = 0
        for at in self._steps:
            observation, reward, terminated, truncated, _ = self._step(next_action())
            if terminated or truncated:
                finals.append((at, self._copy(observation)))
                ended[at] = _ended(terminated, truncated)
                observation = self._restart()
            rewards[at] = reward
            observations[at] = observation if declared else self._copy(observation)
        if not declared:
            outputs["observation"] = observations
        if finals:
            outputs["final_observation"] = finals


def _ended(terminated: Any, truncated: Any) -> int:
    """What `ended` says of a step."""
    return (TERMINATED if terminated else 0) | (TRUNCATED if truncated else 0)
