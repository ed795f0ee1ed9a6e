"""ALE's own vector environment: Atari games stepped by threads of C++, which the GIL does not hold up.

Its defaults are those of a published agent; here they are overridden with what the workload asks for: no
stacked frames, no random no-ops, no fire after a reset, no clipped rewards, the environment's own sticky
actions and frame skip, reset in the same step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtimes.protocol import Runtime, processors
from runtimes.vector_environments import LIMITS, Options, VectorSession, out_of_step, random_batches, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gymnasium.envs.registration import EnvSpec

    from runtimes.vector_environments import Stepped
    from workloads.dataflow import Graph

__all__ = ["RUNTIME"]

_GRAY_FRAME_SKIP: Final = 4
"""Of the workload's observation=gray84, whatever the environment is registered with."""
_SETTINGS: Final = frozenset(
    {"game", "repeat_action_probability", "full_action_space", "frameskip", "max_num_frames_per_episode"}
)
"""What an environment may be registered with and the vector environment knows as well."""


class _AleSession(VectorSession):
    """Atari games in one object."""

    def _begin(self) -> Any:
        self._resets = np.zeros(len(self._contexts), np.int64)
        self._frame_numbers = np.zeros(len(self._contexts), np.int64)
        # ALE takes 0 and negative numbers for no seed at all.
        seeds = np.array([1 + c.seed_int("environment") % (2**31 - 1) for c in self._contexts], np.int32)
        observations = self._vector.reset(seed=seeds)[0]
        advance = random_batches(self._vector.single_action_space, self._contexts, "advance")
        for actions, restarted in out_of_step(advance, len(self._contexts)):
            observations = self._vector.step(actions)[0]
            if restarted.any():
                reset_mask: dict[str, Any] = {"reset_mask": restarted}
                observations = self._vector.reset(seed=seeds[restarted], options=reset_mask)[0]
        return observations

    def _drawn(self) -> Iterator[Any]:
        return random_batches(self._vector.single_action_space, self._contexts, "actions")

    def _step(self, actions: Any) -> Stepped:
        stepped = super()._step(actions)
        self._resets += stepped[2] | stepped[3]
        self._frame_numbers = stepped[4]["frame_number"]
        return stepped

    def _environment_tallies(self) -> Sequence[Mapping[str, Any]]:
        return [
            {"resets": int(resets), "emulator_frames": int(frames)}
            for resets, frames in zip(self._resets, self._frame_numbers, strict=True)
        ]


def _registered(graph: Graph) -> EnvSpec:
    """How the environment of `graph` is registered."""
    import ale_py
    import gymnasium

    # Keeps the emulator's banner out of the logs.
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    # Of `module:id` the module has been imported when the graph was built.
    return gymnasium.spec(graph.parameters["env_id"].rpartition(":")[2])


def _refuses(graph: Graph, _options: Options) -> str | None:
    reason = why_not(graph)
    if reason is not None:
        return reason
    env_id = graph.parameters["env_id"]
    registered = _registered(graph)
    if not str(registered.entry_point).startswith("ale_py"):
        return f"'{env_id}' is no Atari environment of ALE"
    settings = registered.kwargs
    if not isinstance(settings["frameskip"], int) and graph.parameters["observation"] == "raw":
        return f"'{env_id}' skips a random number of frames, {settings['frameskip']}; here it is fixed"
    unknown = sorted(settings.keys() - _SETTINGS)
    return f"'{env_id}' is registered with {', '.join(unknown)}, which it does not know" if unknown else None


def _open(graph: Graph, _options: Options, _scratch: Path) -> VectorSession:
    """Load the game into all emulators, and start a thread for each processor."""
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    settings = _registered(graph).kwargs
    observation = graph.node("env").output("observation").array
    assert observation is not None
    is_gray = graph.parameters["observation"] == "gray84"
    vector = AtariVectorEnv(
        settings["game"],
        graph.node("env").members,
        num_threads=processors(),
        max_num_frames_per_episode=settings["max_num_frames_per_episode"],
        repeat_action_probability=settings["repeat_action_probability"],
        full_action_space=settings["full_action_space"],
        autoreset_mode=AutoresetMode.SAME_STEP,
        img_height=observation.shape[0],
        img_width=observation.shape[1],
        grayscale=is_gray,
        stack_num=1,
        frameskip=_GRAY_FRAME_SKIP if is_gray else settings["frameskip"],
        maxpool=is_gray,
        noop_max=0,
        reward_clipping=False,
        use_fire_reset=False,
    )
    return _AleSession(graph, vector)


RUNTIME = Runtime(
    name="ale-vector",
    summary="ALE's AtariVectorEnv: Atari games stepped by a thread of C++ for each processor, set up as the loop's.",
    options=Options,
    open=_open,
    refuses=_refuses,
    limits=f"{LIMITS}, in Atari environments of ALE with a fixed frame skip",
    differs="sticky actions and random actions are drawn from streams of its own",
    requires=("ale_py", "gymnasium"),
)
