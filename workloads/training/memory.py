"""The replay as a task: keeps what the actors did, and draws what the learners share.

In a round it first takes the priorities of what it drew last, then the transitions, by actor, then by time, then by
environment; then it draws, once there are `learning_starts`. So all that it does follows from the order of rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.dataflow import ArraySpec, Task
from workloads.replay import NStep, PrioritizedReplay, UniformReplay
from workloads.training.actor import transitions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workloads.dataflow import Inputs, Outputs, TaskContext
    from workloads.training.arguments import Arguments
    from workloads.training.spaces import Interface

__all__ = ["DRAWN", "Replay", "held_bytes", "minibatch"]

DRAWN = "drawn_"
"""Begins the names of outputs, to tell them from inputs."""

PRIORITY_EPSILON = 1e-6
"""Added to the size of an error, so that what has none can be drawn again: Schaul et al., section 3.3."""


def minibatch(lead: tuple[int, ...], interface: Interface) -> dict[str, ArraySpec]:
    """The arrays that learners receive, by port; the first axes are `lead`."""
    of_transitions = transitions(lead, interface)
    return {
        **{name: of_transitions[name] for name in ("observation", "action", "reward", "next_observation")},
        "discounts": ArraySpec(lead, np.float32),
        "weights": ArraySpec(lead, np.float32),
    }


def held_bytes(told: Arguments, interface: Interface) -> int:
    """About how much memory the stored transitions take."""
    row = sum(spec.nbytes for spec in transitions((), interface).values()) + np.dtype(np.float32).itemsize
    return told.capacity * row


class Replay(Task):
    """Keeps the last transitions, and draws a minibatch a round."""

    def __init__(self, context: TaskContext, *, told: Arguments, interface: Interface) -> None:
        """Make room for `told.capacity` transitions."""
        self._told = told
        self._names = list(transitions((), interface))
        environments = told.actors * told.environments
        self._steps = NStep(
            {name: (spec.shape, spec.dtype) for name, spec in transitions((), interface).items()},
            told.steps_of_a_return,
            told.gamma,
            environments,
        )
        seed = context.seed_int("sampling")
        self._rows: PrioritizedReplay | UniformReplay
        if told.replay == "prioritized":
            self._rows = PrioritizedReplay(told.capacity, self._steps.fields, alpha=told.alpha, seed=seed)
        else:
            self._rows = UniformReplay(told.capacity, self._steps.fields, seed=seed)
        # Of each transition of a round, in the order in which they are gathered, whose it is.
        numbers = np.arange(environments).reshape(told.actors, 1, told.environments)
        self._whose = np.broadcast_to(numbers, (told.actors, told.steps, told.environments)).reshape(-1)
        self._drawn: dict[str, NDArray[Any]] = {name: np.empty(0, np.int64) for name in ("indices", "generations")}
        self._rounds = 0

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Take priorities, keep transitions, draw."""
        if isinstance(self._rows, PrioritizedReplay) and inputs["errors"][0] is not None:
            # Not by the buffer's `eps`, to which a priority of 0 means never to be drawn.
            priorities = np.abs(np.concatenate(list(inputs["errors"]))) + np.float32(PRIORITY_EPSILON)
            self._rows.update_priorities(self._drawn["indices"], priorities, self._drawn["generations"])
        if self._rounds:
            self._keep({name: np.asarray(inputs[name]) for name in self._names})
        self._rounds += 1
        if len(self._rows) >= self._told.learning_starts:
            self._draw(outputs)

    def tallies(self) -> Mapping[str, Any]:
        """How many transitions are stored."""
        return {"stored": len(self._rows)}

    def state(self) -> Mapping[str, Any]:
        """What is stored, what waits for its return, and what was drawn last."""
        numbers, arrays = self._rows.state()
        return {
            "rounds": self._rounds,
            "rows": {"numbers": numbers, "arrays": arrays},
            "steps": self._steps.state(),
            "drawn": self._drawn,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._rounds = state["rounds"]
        self._rows = type(self._rows).from_state(state["rows"]["numbers"], state["rows"]["arrays"])
        self._steps.restore({name: np.array(array) for name, array in state["steps"].items()})
        self._drawn = {name: np.array(array) for name, array in state["drawn"].items()}

    def _keep(self, gathered: dict[str, NDArray[Any]]) -> None:
        """Store transitions, or those whose returns are whole."""
        count = len(self._whose)
        steps = {name: array.reshape(count, *array.shape[3:]) for name, array in gathered.items()}
        if self._steps.n_steps == 1:
            # What `push` gives too, in a tenth of its time.
            rows = steps | {"discounts": np.float32(self._told.gamma) * ~steps["terminated"]}
        else:
            rows = self._steps.push(env=self._whose, **steps)
        if len(rows["reward"]):
            self._rows.add(**rows)

    def _draw(self, outputs: Outputs) -> None:
        """Draw a minibatch into `outputs`."""
        told = self._told
        places = {
            name.removeprefix(DRAWN): outputs[name].reshape(told.minibatch, *outputs[name].shape[2:])
            for name in outputs.optional
        }
        if isinstance(self._rows, PrioritizedReplay):
            drawn = self._rows.sample(told.minibatch, beta=self._beta(), out=places)
        else:
            drawn = self._rows.sample(told.minibatch, out=places)
        self._drawn = {name: drawn[name] for name in self._drawn}

    def _beta(self) -> float:
        """The exponent of importance weights by now."""
        told = self._told
        if not told.beta_steps:
            return told.beta
        share = min(1.0, self._rounds * told.steps_per_round / told.beta_steps)
        return told.beta + (1 - told.beta) * share
