"""Workload `q_table`: synchronized parallel Q-learning with a table, the small variant of `q_learning`.

`average -broadcast, one round later-> actor[N] -gather-> average`. In a round every actor takes some steps,
epsilon-greedily with a copy of the table that it is sent, and updates its copy after each (Watkins, Dayan,
Q-learning, 1992); the tables of all actors are averaged, in index order. Among equal values an actor chooses at
random, since all begin at 0. As in `q_learning`, the value of what follows counts unless the environment terminated.

A unit of work is one environment step; resets are tallied. The tallies of `average` hold its table, and it is
observed: a digest covers all that was learnt.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from workloads.dataflow import ArraySpec, GraphBuilder, Output, Task, Workload
from workloads.episodes import Continued
from workloads.q_environment import discrete_interface_of, make_raw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workloads.dataflow import Graph, Inputs, Outputs, TaskContext

__all__ = ["WORKLOAD", "Parameters"]

DISCOUNT = 0.99


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to learn, and how."""

    env_id: Annotated[
        str, msgspec.Meta(description="Gymnasium id of an environment with Discrete actions and Discrete observations")
    ] = "FrozenLake-v1"
    actors: Annotated[int, msgspec.Meta(description="number of actors", ge=1)] = 16
    steps: Annotated[int, msgspec.Meta(description="steps of each actor in a round", ge=1)] = 100
    epsilon: Annotated[float, msgspec.Meta(description="share of actions that are random", ge=0, le=1)] = 0.1
    learning_rate: Annotated[
        float,
        msgspec.Meta(
            description="how far a value goes towards its target in an update; what only one actor has learnt, the "
            "average divides by their number",
            gt=0,
            le=1,
        ),
    ] = 0.5
    lag: Annotated[
        int,
        msgspec.Meta(
            description="rounds more that the table is old when actors play with it, so that a runtime may have as "
            "many in flight",
            ge=0,
        ),
    ] = 0


class Actor(Task):
    """Plays and learns with a table of its own, a copy of the one that it is sent."""

    def __init__(self, context: TaskContext, *, parameters: Parameters) -> None:
        """Make the environment and begin its first episode."""
        interface = discrete_interface_of(parameters.env_id)
        self._env = Continued(make_raw(parameters.env_id), context.seed_int("environment"))
        self._first_action, self._actions = interface.first_action, interface.actions
        self._first_state = int(self._env.env.observation_space.start)  # type: ignore[attr-defined] # it is Discrete
        self._parameters = parameters
        self._rng = context.rng("exploration")
        self._resets = 0
        self._reward = 0.0
        self._state = int(self._env.begin()) - self._first_state

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Take the steps of one round."""
        steps, rate = self._parameters.steps, self._parameters.learning_rate
        # Lists: reading and writing single values of an array would take longer than the rest.
        table: list[list[float]] = inputs["table"].tolist()
        explored = (self._rng.random(steps) < self._parameters.epsilon).tolist()
        actions_if_explored = self._rng.integers(self._actions, size=steps).tolist()
        choices = self._rng.random(steps).tolist()
        state, step, first_action, first_state = self._state, self._env.env.step, self._first_action, self._first_state
        taken: list[int] = []
        take = taken.append
        observation: Any = None
        for explore, action, choice in zip(explored, actions_if_explored, choices, strict=True):
            values = table[state]
            chosen = action if explore else _best(values, choice)
            acted = first_action + chosen
            take(acted)
            observation, reward, terminated, truncated, _ = step(acted)
            state = int(observation) - first_state
            target = float(reward) if terminated else float(reward) + DISCOUNT * max(table[state])
            values[chosen] += rate * (target - values[chosen])
            self._reward += float(reward)
            if terminated or truncated:
                self._resets += 1
                observation = self._env.begin_next(len(taken))
                state = int(observation) - first_state
        self._state = state
        self._env.took(taken, observation)
        outputs["learnt"][...] = table

    def tallies(self) -> Mapping[str, Any]:
        """Episodes that ended, and the sum of all rewards."""
        return {"resets": self._resets, "reward": self._reward}

    def state(self) -> Mapping[str, Any]:
        """Where the environment and the stream of explored actions are, and the tallies; tables are sent anew."""
        return {
            "environment": self._env.state(),
            "exploration": self._rng.bit_generator.state,
            "resets": self._resets,
            "reward": self._reward,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._state = int(self._env.restore(state["environment"])) - self._first_state
        self._rng.bit_generator.state = state["exploration"]
        self._resets, self._reward = state["resets"], state["reward"]

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class Average(Task):
    """Averages the tables of all actors and sends the result."""

    def __init__(self, _context: TaskContext, *, shape: tuple[int, int]) -> None:
        """Begin with a table of zeros."""
        self._table = np.zeros(shape)

    def initial(self, port: str) -> Any:  # noqa: ARG002 - it has one output
        """The first table."""
        return self._table.copy()

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Average, in index order."""
        tables = inputs["tables"]
        self._table[...] = 0
        for table in tables:
            self._table += table
        self._table /= len(tables)
        outputs["table"][...] = self._table

    def tallies(self) -> Mapping[str, Any]:
        """The table."""
        return {"table": self._table.copy()}

    def state(self) -> Mapping[str, Any]:
        """The table."""
        return {"table": self._table}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from it."""
        self._table[...] = state["table"]


def _best(values: Sequence[float], choice: float) -> int:
    """The action of the highest value; among equals the one that `choice`, from [0, 1), falls on."""
    highest = max(values)
    equals = [action for action, value in enumerate(values) if value == highest]
    return equals[int(choice * len(equals))]


def build(parameters: Parameters, seed: int) -> Graph:
    """The graph for `parameters`.

    Raises:
        ValueError: as `check`.
    """
    interface = discrete_interface_of(parameters.env_id)
    shape = (interface.features, interface.actions)
    table = Output("table", ArraySpec(shape, np.float64))
    builder = GraphBuilder(
        workload="q_table",
        parameters=msgspec.to_builtins(parameters),
        seed=seed,
        unit="environment step",
        units_per_round=parameters.actors * parameters.steps,
    )
    learnt = Output("learnt", table.array)
    actor = builder.bank(
        "actor", parameters.actors, partial(Actor, parameters=parameters), inputs=["table"], outputs=[learnt]
    )
    average = builder.task("average", partial(Average, shape=shape), inputs=["tables"], outputs=[table], observed=True)
    builder.gather(actor["learnt"], average["tables"])
    builder.broadcast(average["table"], actor["table"], delay=1 + parameters.lag)
    return builder.build()


def check(parameters: Parameters) -> None:
    """Raise unless there can be a table for the environment.

    Raises:
        ValueError: for an environment that is unknown, cannot be made or does not suit.
    """
    _ = discrete_interface_of(parameters.env_id)


WORKLOAD = Workload(
    name="q_table",
    summary="N actors learn with tables of their own, averaged every round: tabular Q-learning; FrozenLake.",
    parameters=Parameters,
    build=build,
    check=check,
    requires=("gymnasium",),
)
