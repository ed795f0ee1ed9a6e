"""EnvPool: environments written anew in C++ and stepped by threads, as far as it has those of Gymnasium."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from runtimes.protocol import Runtime, processors
from runtimes.vector_environments import LIMITS, Options, VectorSession, out_of_step, random_batches, why_not

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from runtimes.vector_environments import Stepped
    from workloads.dataflow import Graph

__all__ = ["RUNTIME"]

_ATARI: Final = "ALE/"
_FRAME_SKIP: Final = 4
_STICKY: Final = 0.25
"""Of the environments that Gymnasium registers as `ALE/...-v5`."""


class _EnvPoolSession(VectorSession):
    """Environments of EnvPool in one pool."""

    def _begin(self) -> Any:
        self._resets = np.zeros(len(self._contexts), np.int64)
        observations = self._vector.reset()[0]
        advance = random_batches(self._vector.action_space, self._contexts, "advance")
        for actions, restarted in out_of_step(advance, len(self._contexts)):
            observations = self._vector.step(actions)[0]
            if restarted.any():
                observations = observations.copy()
                observations[restarted] = self._vector.reset(np.flatnonzero(restarted).astype(np.int32))[0]
        return observations

    def _drawn(self) -> Iterator[Any]:
        return random_batches(self._vector.action_space, self._contexts, "actions")

    def _step(self, actions: Any) -> Stepped:
        stepped = super()._step(actions)
        self._resets += stepped[2] | stepped[3]
        return stepped

    def _batch(self, observations: Any) -> NDArray[Any]:
        # Colours come first here.
        screens = np.moveaxis(observations, 1, -1) if _is_atari(self._graph) else observations
        return super()._batch(screens)

    def _environment_tallies(self) -> Sequence[Mapping[str, Any]]:
        return [{"resets": int(resets)} for resets in self._resets]


def _is_atari(graph: Graph) -> bool:
    return str(graph.parameters["env_id"]).startswith(_ATARI)


def _name_in_envpool(graph: Graph) -> str:
    return str(graph.parameters["env_id"]).removeprefix(_ATARI)


def _refuses(graph: Graph, _options: Options) -> str | None:
    reason = why_not(graph)
    if reason is not None:
        return reason
    import envpool  # pyright: ignore[reportMissingImports] - an extra

    known = _name_in_envpool(graph) in envpool.list_all_envs()
    return None if known else f"EnvPool has no '{graph.parameters['env_id']}'"


def _open(graph: Graph, _options: Options, _scratch: Path) -> VectorSession:
    """Make the environments, and start a thread for each processor."""
    import envpool  # pyright: ignore[reportMissingImports] - an extra

    settings: dict[str, Any] = {}
    if _is_atari(graph):
        observation = graph.node("env").output("observation").array
        assert observation is not None
        settings = {
            "img_height": observation.shape[0],
            "img_width": observation.shape[1],
            "gray_scale": graph.parameters["observation"] == "gray84",
            "stack_num": 1,
            "frame_skip": _FRAME_SKIP,
            "repeat_action_probability": _STICKY,
            "max_episode_steps": 108_000 // _FRAME_SKIP,
            # It draws from 0 to one fewer; with 0 it crashes.
            "noop_max": 1,
            "reward_clip": False,
            "use_fire_reset": False,
        }
    pool = envpool.make(
        _name_in_envpool(graph),
        env_type="gymnasium",
        num_envs=graph.node("env").members,
        num_threads=processors(),
        seed=graph.seed,
        **settings,
    )
    return _EnvPoolSession(graph, pool)


RUNTIME = Runtime(
    name="envpool",
    summary="EnvPool: environments written anew in C++, stepped by a thread for each processor.",
    options=Options,
    open=_open,
    refuses=_refuses,
    limits=f"{LIMITS}, in environments that it has",
    differs="its environments are other code with random streams of their own, and a reset counts as a step",
    requires=("envpool",),
)
