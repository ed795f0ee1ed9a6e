"""Environments with several agents, as PettingZoo's `ParallelEnv`: those that `inference` knows by name.

Each is made for a number of agents. Those that follow Gymnasium's interface, with a tuple for what all agents
observe and do, get that of PettingZoo through an adapter.

This module imports PettingZoo; whoever wants to stay quick imports it where it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pettingzoo import ParallelEnv

from workloads.traffic_junction import TrafficJunction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gymnasium import Env, Space

__all__ = ["Team", "TupleEnvironment", "make_team_environment", "team_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """What the agents of an environment observe and do; the same for all of them."""

    observation_size: int
    """Values in an observation, flat."""
    is_shared: bool
    """All agents observe the same array."""
    actions: int
    """Each does one of so many things, numbered from 0."""


def make_team_environment(name: str, agents: int) -> ParallelEnv[str, Any, Any]:
    """Make the environment `name` for `agents` agents.

    Raises:
        ValueError: if what it needs is not installed, or it cannot have so many agents.
    """
    try:
        env = _MAKERS[name](agents)
    except ImportError as error:
        raise ValueError(
            f"Environment '{name}' cannot be made here ({error}). "
            "Install what it needs, with pip install 'reactorbench[multi-agent]', or choose another."
        ) from error
    except Exception as error:  # each has failures of its own; the user needs the reason, whatever it is
        reason = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"Environment '{name}' cannot be made with agents={agents} ({type(error).__name__}: {reason}). "
            "Give another number of agents, or choose another environment."
        ) from error
    if len(env.possible_agents) != agents:
        raise ValueError(
            f"Environment '{name}' has {len(env.possible_agents)} agents, but agents={agents}. "
            f"Set agents={len(env.possible_agents)}."
        )
    return env


@lru_cache(maxsize=8)
def team_of(name: str, agents: int) -> Team:
    """What the agents of an environment observe and do; it is made to learn that, and closed.

    Raises:
        ValueError: as `make_team_environment`, and if agents differ, or have no arrays to observe.
    """
    from gymnasium.spaces import Box, Discrete

    env = make_team_environment(name, agents)
    try:
        observed = {str(env.observation_space(agent)): env.observation_space(agent) for agent in env.possible_agents}
        done = {str(env.action_space(agent)): env.action_space(agent) for agent in env.possible_agents}
    finally:
        env.close()
    observation, action = next(iter(observed.values())), next(iter(done.values()))
    if len(observed) > 1 or len(done) > 1 or not isinstance(observation, Box) or not isinstance(action, Discrete):
        raise ValueError(
            f"Agents of '{name}' observe {', '.join(observed)} and do {', '.join(done)}, but their networks take one "
            "Box and give one Discrete, the same for all. Choose another environment."
        )
    return Team(
        observation_size=int(np.prod(observation.shape, dtype=np.int64)),
        is_shared=isinstance(env, TrafficJunction),
        actions=int(action.n),
    )


class TupleEnvironment(ParallelEnv[str, Any, Any]):  # type: ignore[misc] # PettingZoo ships no types
    """A Gymnasium environment that takes and gives tuples, one item for each agent, as PettingZoo has it.

    An episode ends for all agents at once.
    """

    metadata: dict[str, Any] = {"name": "tuple_environment_v0", "render_modes": []}  # noqa: RUF012 - as PettingZoo declares it
    render_mode = None

    def __init__(self, env: Env[Any, Any]) -> None:
        """Wrap `env`, whose spaces are tuples."""
        self._env = env
        observations, actions = list(env.observation_space), list(env.action_space)  # type: ignore[call-overload] # tuples
        self.possible_agents = [f"agent_{index}" for index in range(len(observations))]
        self.agents: list[str] = []
        self.observation_spaces: dict[str, Space[Any]] = dict(zip(self.possible_agents, observations, strict=True))
        self.action_spaces: dict[str, Space[Any]] = dict(zip(self.possible_agents, actions, strict=True))

    def observation_space(self, agent: str) -> Space[Any]:
        """What `agent` observes."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Space[Any]:
        """What `agent` can do."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """Begin an episode; with `seed` also the environment's random numbers."""
        observations, _ = self._env.reset(seed=seed, options=options)
        self.agents = list(self.possible_agents)
        return dict(zip(self.agents, observations, strict=True)), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[
        dict[str, Any],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Take the actions of all agents."""
        agents = self.agents
        taken = [actions[agent] for agent in agents]
        observations, rewards, terminated, truncated, _ = self._env.step(taken)
        if terminated or truncated:
            self.agents = []
        return (
            dict(zip(agents, observations, strict=True)),
            dict(zip(agents, map(float, rewards), strict=True)),  # type: ignore[call-overload] # one for each agent
            dict.fromkeys(agents, bool(terminated)),
            dict.fromkeys(agents, bool(truncated)),
            {agent: {} for agent in agents},
        )

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _simple_spread(agents: int) -> ParallelEnv[str, Any, Any]:
    from mpe2 import simple_spread_v3

    return simple_spread_v3.parallel_env(N=agents)


def _pursuit(agents: int) -> ParallelEnv[str, Any, Any]:
    from pettingzoo.sisl.pursuit import pursuit

    return pursuit.parallel_env(n_pursuers=agents)


def _rware(agents: int) -> ParallelEnv[str, Any, Any]:
    import gymnasium
    import rware  # noqa: F401 - registers its ids

    return TupleEnvironment(gymnasium.make(f"rware-tiny-{agents}ag-v2", disable_env_checker=True))


def _lbforaging(agents: int) -> ParallelEnv[str, Any, Any]:
    import gymnasium
    import lbforaging  # noqa: F401 - registers its ids

    return TupleEnvironment(gymnasium.make(f"Foraging-8x8-{agents}p-3f-v3", disable_env_checker=True))


_MAKERS: Mapping[str, Callable[[int], ParallelEnv[str, Any, Any]]] = {
    "traffic_junction": TrafficJunction,
    "simple_spread": _simple_spread,
    "pursuit": _pursuit,
    "rware": _rware,
    "lbforaging": _lbforaging,
}
