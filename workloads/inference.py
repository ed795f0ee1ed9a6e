"""Workload `inference`: one environment, N agents, and a network of its own for each agent.

`environment -broadcast, delayed-> agent[N] -gather-> environment`. In each round every agent chooses an action by
what all observed a round before (`lag` rounds more with `lag`), and the environment takes a step with all of them.
When an episode ends, the environment is reset in the same step.

| port          | value                                                                                     |
|---------------|-------------------------------------------------------------------------------------------|
| `observation` | float32 `(size,)` where all agents observe the same, else `(N, size)`: agent i uses row i |
| `action`      | int64 scalar of each agent                                                                |

Networks are fixed: seeded and not trained. The action is the first one with the highest score; a softmax over the
scores would not change that, and is left out. Scores are no part of what is compared, since they may be added up in
another order; actions are, what the environment counts, and what is observed in the end. At the traffic junction
such networks often have all cars brake for ever; the episode is then cut off after 100 steps.

A unit of work is one environment step, as the paper counts; a round does one of them, and N inferences. An agent
that an environment has taken out of an episode observes zeros until the next, and its actions are ignored.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np

from workloads.dataflow import ArraySpec, Digest, GraphBuilder, GraphError, Output, Task, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from workloads.dataflow import Graph, Inputs, Outputs, TaskContext
    from workloads.team_environments import Team

__all__ = ["WORKLOAD", "Agent", "Environment", "Parameters"]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who acts where, and with how large a network."""

    env: Annotated[
        Literal["traffic_junction", "simple_spread", "pursuit", "rware", "lbforaging"],
        msgspec.Meta(description="the environment; all but the first need an optional package"),
    ] = "traffic_junction"
    agents: Annotated[int, msgspec.Meta(description="number of agents, each with a network of its own", ge=1)] = 4
    hidden: Annotated[int, msgspec.Meta(description="units of each hidden layer", ge=1)] = 64
    layers: Annotated[int, msgspec.Meta(description="hidden layers of each network", ge=1)] = 1
    lag: Annotated[
        int,
        msgspec.Meta(
            description="rounds more that observations are old when agents choose by them, so that a runtime may have "
            "as many in flight",
            ge=0,
        ),
    ] = 0


class Agent(Task):
    """A network that turns each observation into an action."""

    def __init__(self, context: TaskContext, *, widths: tuple[int, ...], is_shared: bool) -> None:
        """Draw a network with layers of `widths`, inputs first and actions last.

        Weights and biases are uniform within 1 / sqrt(inputs), as PyTorch draws those of a linear layer.
        """
        import torch

        torch.set_num_threads(1)  # every side of a comparison gets one thread
        rng = context.rng("network")
        self.layers: list[tuple[Tensor, Tensor]] = []
        """Of each layer the weights, shape `(outputs, inputs)`, and the biases, `(outputs,)`."""
        for before, after in pairwise(widths):
            bound = 1 / np.sqrt(before)
            drawn = (rng.uniform(-bound, bound, shape).astype(np.float32) for shape in ((after, before), (after,)))
            # Copies, which PyTorch aligns: else a product might round differently from one process to the next.
            weights, biases = (torch.from_numpy(values).clone() for values in drawn)
            self.layers.append((weights, biases))
        # Memory for all values: made anew in every layer, it would cost a third of an inference.
        values = torch.zeros(widths[0])
        self._observation: NDArray[np.float32] = values.numpy()
        self._hidden: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for weights, biases in self.layers[:-1]:
            sums = torch.empty_like(biases)
            self._hidden.append((biases, weights, values, sums))
            values = sums
        weights, biases = self.layers[-1]
        last_sums = torch.empty_like(biases)
        self._last = (biases, weights, values, last_sums)
        self._scores: NDArray[np.float32] = last_sums.numpy()
        self._row = None if is_shared else context.index
        self._weighted_sum = torch.addmv

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Choose an action.

        The observation is copied first: a product may round differently for memory that is aligned otherwise.
        """
        observation = inputs["observation"]
        self._observation[...] = observation if self._row is None else observation[self._row]
        for biases, weights, values, sums in self._hidden:
            self._weighted_sum(biases, weights, values, out=sums).relu_()
        biases, weights, values, sums = self._last
        self._weighted_sum(biases, weights, values, out=sums)
        outputs["action"][()] = self._scores.argmax()

    def state(self) -> Mapping[str, Any]:
        """It keeps nothing: its network is drawn when it is built, and not trained."""
        return {}


class Environment(Task):
    """The environment, which takes one step a round with the actions of all agents."""

    def __init__(self, context: TaskContext, *, env: str, agents: int, is_shared: bool, size: int) -> None:
        """Make the environment; it is reset only when its first observation is asked for."""
        from workloads.team_environments import make_team_environment

        self._seed = context.seed_int("environment")
        self._env = make_team_environment(env, agents)
        self._agents: list[str] = self._env.possible_agents
        self._is_shared = is_shared
        self._shape = (size,) if is_shared else (agents, size)
        self._observations: Mapping[str, NDArray[Any]] = {}
        self._steps = 0
        self._resets = 0
        self._return = 0.0

    def initial(self, port: str) -> NDArray[np.float32]:  # noqa: ARG002 - it has one output
        """The first observation."""
        self._observations, _ = self._env.reset(seed=self._seed)
        return self._joint()

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Take one step, and where that ends the episode begin the next."""
        actions = dict(zip(self._agents, np.asarray(inputs["action"]).tolist(), strict=True))
        env = self._env
        if len(env.agents) < len(self._agents):
            actions = {agent: actions[agent] for agent in env.agents}
        observations, rewards, _, _, _ = env.step(actions)
        self._steps += 1
        self._return += sum(rewards.values())
        if not env.agents:
            self._resets += 1
            observations, _ = env.reset()
        self._observations = observations
        self._write(observations, outputs["observation"])

    def tallies(self) -> Mapping[str, Any]:
        """What was done, a hash of what is observed now, and what the environment itself counts, if it does."""
        observed = Digest()
        observed.add(self._joint())
        counted: Mapping[str, Any] = getattr(self._env, "tallies", dict)()
        return {
            "environment_steps": self._steps,
            "inferences": self._steps * len(self._agents),
            "resets": self._resets,
            "return": float(self._return),
            "observed": observed.hexdigest(),
            **counted,
        }

    def state(self) -> Mapping[str, Any]:
        """It has none.

        Raises:
            GraphError: always.
        """
        raise GraphError(
            "the environment of workload 'inference' keeps no record of its actions, which would slow what it is there "
            "to measure. Nothing is learnt here that a later run could go on with; run it again instead."
        )

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _joint(self) -> NDArray[np.float32]:
        """What all agents observe now; zeros before the first episode."""
        joint = np.zeros(self._shape, np.float32)
        if self._observations:
            self._write(self._observations, joint)
        return joint

    def _write(self, observations: Mapping[str, NDArray[Any]], joint: NDArray[np.float32]) -> None:
        """Write what all agents observe to `joint`; zeros for those that are out of the episode."""
        if self._is_shared:
            joint[...] = observations[self._agents[0]]
            return
        for row, agent in zip(joint, self._agents, strict=True):
            row[...] = observations[agent].reshape(-1) if agent in observations else 0


def build(parameters: Parameters, seed: int) -> Graph:
    """The graph for `parameters`.

    Raises:
        ValueError: as `check`.
    """
    team = _team(parameters)
    builder = GraphBuilder(
        workload="inference",
        parameters=msgspec.to_builtins(parameters),
        seed=seed,
        unit="environment step",
        units_per_round=1,
    )
    agents, size = parameters.agents, team.observation_size
    widths = (size, *[parameters.hidden] * parameters.layers, team.actions)
    environment = builder.task(
        "environment",
        partial(Environment, env=parameters.env, agents=agents, is_shared=team.is_shared, size=size),
        inputs=["action"],
        outputs=[Output("observation", ArraySpec((size,) if team.is_shared else (agents, size), np.float32))],
        observed=True,
    )
    # Not declared stateless, though they are: one batch does the work of all in less time than each its own, so that
    # the time of the members alone is no bound on all runtimes.
    agent = builder.bank(
        "agent",
        agents,
        partial(Agent, widths=widths, is_shared=team.is_shared),
        inputs=["observation"],
        outputs=[Output("action", ArraySpec((), np.int64))],
    )
    builder.broadcast(environment["observation"], agent["observation"], delay=1 + parameters.lag)
    builder.gather(agent["action"], environment["action"])
    return builder.build()


def check(parameters: Parameters) -> None:
    """Raise unless the environment can be made for so many agents.

    Raises:
        ValueError: for an environment that is not installed, or cannot have so many agents.
    """
    _team(parameters)


def _team(parameters: Parameters) -> Team:
    from workloads.team_environments import team_of

    return team_of(parameters.env, parameters.agents)


WORKLOAD = Workload(
    name="inference",
    summary="N agents, each with a network of its own, choose the actions of one environment that all observe.",
    parameters=Parameters,
    build=build,
    check=check,
    requires=("pettingzoo", "torch"),
    optional=(
        ("mpe2", "env=simple_spread"),
        ("pygame", "env=pursuit"),
        ("rware", "env=rware"),
        ("lbforaging", "env=lbforaging"),
    ),
)
