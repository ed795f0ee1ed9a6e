"""Workload `q_learning`: synchronized parallel deep Q-learning.

`learner -broadcast, one round later-> rollout[N] -gather-> replay -> learner`. In a round every rollout actor
takes some steps, epsilon-greedily, with the weights that it is sent; the replay keeps their transitions and draws
minibatches; the learner updates its network on each (Mnih et al., Human-level control through deep reinforcement
learning, Nature 2015). While the replay holds less than a minibatch, nothing is drawn and nothing learnt.

A transition ends in the observation that its step gave, also where that was the last of an episode: the value of
what follows counts unless the environment terminated, so it counts where an episode was truncated.

A unit of work is one environment step; resets and updates are tallied. The learner's tallies hold its weights,
and it is observed: a digest covers every minibatch of the rounds it looks at, and all that was learnt.

As in the paper: `rounds` 500, and with the defaults of network and epsilon `capacity=20000 sampling=oldest`,
`minibatch` 500, 1000 and 2000, no `scale`, one update a round.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np

from workloads.blackjack import greedy_policy, returns_of
from workloads.dataflow import ArraySpec, GraphBuilder, Output, Task, Workload
from workloads.environments import spaces_of
from workloads.episodes import Continued
from workloads.policies import aligned_empty
from workloads.q_environment import BLACKJACK, BLACKJACK_SCALE, encoder_of, interface_of, make_raw
from workloads.q_network import ActingNetwork, NetworkShape, initial_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from workloads.dataflow import Graph, Inputs, Outputs, TaskContext
    from workloads.q_environment import Encoder

__all__ = ["WORKLOAD", "Parameters", "evaluate", "network_of"]

Sampling = Literal["uniform", "oldest"]

DISCOUNT = 0.99
LEARNING_RATE = 0.01
UPDATES_PER_TARGET = 10
"""The target network is copied from the learnt one after updates 0, 10, 20 and so on."""

_EVALUATION = 2**31
"""Begins the seed of evaluations, which no graph's seed follows."""

SAMPLED = "sampled_"
"""Begins the names of the replay's outputs, to tell them from its inputs."""


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to learn, and how."""

    env_id: Annotated[
        str,
        msgspec.Meta(description="Gymnasium id of an environment with Discrete actions and vector or Discrete states"),
    ] = BLACKJACK
    actors: Annotated[int, msgspec.Meta(description="number of rollout actors", ge=1)] = 16
    steps: Annotated[int, msgspec.Meta(description="steps of each actor in a round", ge=1)] = 100
    minibatch: Annotated[int, msgspec.Meta(description="transitions of an update", ge=1)] = 500
    capacity: Annotated[int, msgspec.Meta(description="transitions that the replay keeps", ge=1)] = 20_000
    hidden: Annotated[int, msgspec.Meta(description="hidden units of the network", ge=1)] = 32
    updates: Annotated[int, msgspec.Meta(description="updates of the network in a round", ge=1)] = 1
    epsilon: Annotated[float, msgspec.Meta(description="share of actions that are random", ge=0, le=1)] = 0.1
    sampling: Annotated[
        Sampling,
        msgspec.Meta(description="uniform: drawn with replacement; oldest: the oldest kept, the same for all updates"),
    ] = "uniform"
    scale: Annotated[
        bool, msgspec.Meta(description="divide Blackjack's sum, dealer's card and ace by 32, 11 and 1")
    ] = False
    lag: Annotated[
        int,
        msgspec.Meta(
            description="rounds more that weights are old when actors play with them, so that a runtime may have as "
            "many in flight",
            ge=0,
        ),
    ] = 0

    def __post_init__(self) -> None:
        """Check the rules between parameters.

        Raises:
            ValueError: if a value does not go with another.
        """
        gathered = self.actors * self.steps
        least = max(gathered, self.minibatch)
        if self.capacity < least:
            what = "transitions of a round" if least == gathered else "transitions of a minibatch"
            raise ValueError(
                f"capacity={self.capacity} does not hold the {least} {what}, so some would never be drawn. "
                f"Set capacity={least} or more."
            )
        if self.scale and self.env_id != BLACKJACK:
            raise ValueError(
                f"scale=true does not go with env_id='{self.env_id}': it is about what {BLACKJACK} shows. "
                "Leave it out, or choose that environment."
            )


def network_of(parameters: Parameters) -> NetworkShape:
    """The shape of the network for `parameters`.

    Raises:
        ValueError: for an environment that does not suit.
    """
    interface = interface_of(parameters.env_id)
    return NetworkShape(features=interface.features, hidden=parameters.hidden, actions=interface.actions)


def evaluate(
    parameters: Parameters, tallies: Mapping[str, Sequence[Mapping[str, Any]]], episodes: int, seed: int
) -> list[float]:
    """The rewards of so many hands of Blackjack, played greedily with the learner's weights in `tallies`.

    Other hands for every seed, or what is special about them would be the same in all and missing from an interval
    over seeds; and none of those that are trained on.

    Raises:
        ValueError: for another environment.
    """
    if parameters.env_id != BLACKJACK:
        raise ValueError(f"env_id='{parameters.env_id}' cannot be evaluated in hands. Set env_id='{BLACKJACK}'.")
    (learner,) = tallies["learner"]
    network = ActingNetwork(network_of(parameters))
    network.load(learner["weights"])
    encode = _encoder(parameters)

    def best_actions(states: NDArray[np.float32]) -> NDArray[np.int64]:
        features = np.empty_like(states)
        encode(states, features)
        return network.best_actions(features)

    rewards = returns_of(greedy_policy(best_actions), episodes, np.random.default_rng([_EVALUATION, seed]))
    return [float(reward) for reward in rewards]


def _encoder(parameters: Parameters) -> Encoder:
    """What writes the features of an observation, or of a batch of vectors."""
    space = spaces_of(parameters.env_id, "raw").observation
    return encoder_of(space, BLACKJACK_SCALE if parameters.scale else None)


def transitions(lead: tuple[int, ...], features: int) -> dict[str, ArraySpec]:
    """The arrays of transitions, by port; the first axes are `lead`."""
    return {
        "observations": ArraySpec((*lead, features), np.float32),
        "actions": ArraySpec(lead, np.int64),
        "rewards": ArraySpec(lead, np.float32),
        "next_observations": ArraySpec((*lead, features), np.float32),
        "terminated": ArraySpec(lead, np.bool_),
    }


# -------------------------------------------------------------------------------------------- tasks


class Rollout(Task):
    """Takes steps in an environment of its own, epsilon-greedily with the weights that it is sent."""

    def __init__(self, context: TaskContext, *, parameters: Parameters) -> None:
        """Make the environment and begin its first episode."""
        interface = interface_of(parameters.env_id)
        self._env = Continued(make_raw(parameters.env_id), context.seed_int("environment"))
        self._actions, self._first_action = interface.actions, interface.first_action
        self._steps, self._epsilon = parameters.steps, parameters.epsilon
        self._rng = context.rng("exploration")
        self._network = ActingNetwork(network_of(parameters))
        self._encode = _encoder(parameters)
        # Always the same memory, so that the network rounds in the same way wherever transitions are written to.
        self._features = aligned_empty((interface.features,))
        self._resets = 0
        self._reward = 0.0
        self._encode(self._env.begin(), self._features)

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Take the steps of one round."""
        self._network.load(inputs["weights"])
        features, encode, best_action = self._features, self._encode, self._network.best_action
        step = self._env.env.step
        observations, next_observations = outputs["observations"], outputs["next_observations"]
        actions, rewards, terminations = outputs["actions"], outputs["rewards"], outputs["terminated"]
        # Drawn for the whole round: one by one, they would cost as much as the network.
        explored = (self._rng.random(self._steps) < self._epsilon).tolist()
        actions_if_explored = self._rng.integers(self._actions, size=self._steps).tolist()
        observation: Any = None
        for at, (explore, action) in enumerate(zip(explored, actions_if_explored, strict=True)):
            observations[at] = features
            chosen = action if explore else best_action(features)
            observation, reward, terminated, truncated, _ = step(self._first_action + chosen)
            encode(observation, features)
            next_observations[at] = features
            actions[at], rewards[at], terminations[at] = chosen, reward, terminated
            if terminated or truncated:
                self._resets += 1
                observation = self._env.begin_next(at + 1)
                encode(observation, features)
        self._reward += float(rewards.sum(dtype=np.float64))
        self._env.took((self._first_action + actions).tolist(), observation)

    def tallies(self) -> Mapping[str, Any]:
        """Episodes that ended, and the sum of all rewards."""
        return {"resets": self._resets, "reward": self._reward}

    def state(self) -> Mapping[str, Any]:
        """Where the environment and the stream of explored actions are, and the tallies; weights are sent anew."""
        return {
            "environment": self._env.state(),
            "exploration": self._rng.bit_generator.state,
            "resets": self._resets,
            "reward": self._reward,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._encode(self._env.restore(state["environment"]), self._features)
        self._rng.bit_generator.state = state["exploration"]
        self._resets, self._reward = state["resets"], state["reward"]

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class Replay(Task):
    """Keeps the last transitions, and draws the minibatches of a round."""

    def __init__(self, context: TaskContext, *, parameters: Parameters, features: int) -> None:
        """Make room for `parameters.capacity` transitions."""
        self._capacity = parameters.capacity
        self._drawn = (parameters.updates, parameters.minibatch)
        self._uniform = parameters.sampling == "uniform"
        self._rng = context.rng("sampling")
        self._kept = {name: spec.zeros() for name, spec in transitions((self._capacity,), features).items()}
        self._size = 0
        self._next = 0

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Keep the transitions of all actors, in index order; draw, if there are enough."""
        arrived = {name: np.asarray(inputs[name]) for name in self._kept}
        count = arrived["actions"].size
        places = np.arange(self._next, self._next + count) % self._capacity
        for name, kept in self._kept.items():
            kept[places] = arrived[name].reshape(count, *kept.shape[1:])
        self._next = (self._next + count) % self._capacity
        self._size = min(self._size + count, self._capacity)
        if self._size < self._drawn[1]:
            return
        indices = self._draw()
        for name, kept in self._kept.items():
            # All indices are valid; any mode but `raise` writes straight into the output.
            np.take(kept, indices, axis=0, out=outputs[SAMPLED + name], mode="clip")

    def state(self) -> Mapping[str, Any]:
        """What it keeps of transitions, where the next goes, and the stream that it draws from."""
        return {
            "kept": {name: kept[: self._size] for name, kept in self._kept.items()},
            "next": self._next,
            "sampling": self._rng.bit_generator.state,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._size = len(state["kept"]["actions"])
        for name, kept in self._kept.items():
            kept[: self._size] = state["kept"][name]
        self._next = state["next"]
        self._rng.bit_generator.state = state["sampling"]

    def _draw(self) -> NDArray[np.int64]:
        """Indices of the minibatches, shape `(updates, minibatch)`."""
        if self._uniform:
            return self._rng.integers(self._size, size=self._drawn)
        oldest = self._next if self._size == self._capacity else 0
        return np.broadcast_to((oldest + np.arange(self._drawn[1])) % self._capacity, self._drawn)


class Learner(Task):
    """Learns the network's weights, with Adam on the mean squared error of one step, and sends them."""

    def __init__(self, context: TaskContext, *, parameters: Parameters, shape: NetworkShape) -> None:
        """Draw the first weights; the target network begins with the same."""
        import torch

        torch.set_num_threads(1)  # every side of a comparison gets one thread
        self._torch = torch
        self._shape = shape
        self._weights = torch.from_numpy(initial_weights(context.rng("weights"), shape)).clone().requires_grad_()
        self._target = self._weights.detach().clone()
        self._optimizer = torch.optim.Adam([self._weights], lr=LEARNING_RATE)
        # Memory of PyTorch's own: aligned in one way on every runtime, so that products round in one way.
        lead = (parameters.updates, parameters.minibatch)
        self._drawn = {
            name: torch.from_numpy(spec.zeros()).clone() for name, spec in transitions(lead, shape.features).items()
        }
        self._memory = {name: tensor.numpy() for name, tensor in self._drawn.items()}
        self._minibatches = range(parameters.updates)
        self._updates = 0

    def initial(self, port: str) -> Any:  # noqa: ARG002 - it has one output
        """The first weights."""
        return self._weights.detach().numpy().copy()

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Update the network on each minibatch, if there are any, and send the weights."""
        if inputs["actions"] is not None:
            for name, memory in self._memory.items():
                memory[...] = inputs[name]
            for number in self._minibatches:
                self._update(**{name: drawn[number] for name, drawn in self._drawn.items()})
        outputs["weights"][...] = self._weights.detach().numpy()

    def tallies(self) -> Mapping[str, Any]:
        """Updates so far, and the weights."""
        return {"updates": self._updates, "weights": self._weights.detach().numpy().copy()}

    def state(self) -> Mapping[str, Any]:
        """Both networks, and what Adam keeps: before the first update nothing."""
        adam = self._optimizer.state_dict()["state"].get(0, {})
        return {
            "weights": self._weights.detach().numpy(),
            "target": self._target.numpy(),
            "adam": {name: tensor.numpy() for name, tensor in adam.items()},
            "updates": self._updates,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        torch = self._torch
        with torch.no_grad():
            self._weights.copy_(torch.tensor(state["weights"]))
            self._target.copy_(torch.tensor(state["target"]))
        if state["adam"]:
            adam = {name: torch.tensor(array) for name, array in state["adam"].items()}
            self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": {0: adam}})
        self._updates = state["updates"]

    def _update(
        self, *, observations: Tensor, actions: Tensor, rewards: Tensor, next_observations: Tensor, terminated: Tensor
    ) -> None:
        """One step of the optimizer on a minibatch; the first axis is that of transitions."""
        torch = self._torch
        with torch.no_grad():
            following = self._values(self._target, next_observations).amax(dim=1).masked_fill_(terminated, 0)
            wanted = rewards + DISCOUNT * following
        predicted = self._values(self._weights, observations).gather(1, actions.unsqueeze(1)).squeeze(1)
        loss = torch.nn.functional.mse_loss(predicted, wanted)
        self._optimizer.zero_grad()
        # Only the learner goes backward, and it never moves to a forked process, where PyTorch would refuse to.
        torch.autograd.backward(loss)
        self._optimizer.step()
        if self._updates % UPDATES_PER_TARGET == 0:
            self._target.copy_(self._weights.detach())
        self._updates += 1

    def _values(self, weights: Tensor, observations: Tensor) -> Tensor:
        """The value of each action, shape `(N, actions)`, by the network with the flat `weights`."""
        linear = self._torch.nn.functional.linear
        first, biases, second, last_biases = self._torch.split(weights, list(self._shape.sizes))
        hidden = linear(observations, first.view(self._shape.hidden, -1), biases).relu()
        values: Tensor = linear(hidden, second.view(self._shape.actions, -1), last_biases)
        return values


# -------------------------------------------------------------------------------------------- graph


def build(parameters: Parameters, seed: int) -> Graph:
    """The graph for `parameters`.

    Raises:
        ValueError: as `check`.
    """
    shape = network_of(parameters)
    builder = GraphBuilder(
        workload="q_learning",
        parameters=msgspec.to_builtins(parameters),
        seed=seed,
        unit="environment step",
        units_per_round=parameters.actors * parameters.steps,
    )
    of_actor = transitions((parameters.steps,), shape.features)
    drawn = transitions((parameters.updates, parameters.minibatch), shape.features)
    rollout = builder.bank(
        "rollout",
        parameters.actors,
        partial(Rollout, parameters=parameters),
        inputs=["weights"],
        outputs=[Output(name, spec) for name, spec in of_actor.items()],
    )
    replay = builder.task(
        "replay",
        partial(Replay, parameters=parameters, features=shape.features),
        inputs=of_actor,
        outputs=[Output(SAMPLED + name, spec, optional=True) for name, spec in drawn.items()],
    )
    learner = builder.task(
        "learner",
        partial(Learner, parameters=parameters, shape=shape),
        inputs=drawn,
        outputs=[Output("weights", ArraySpec((shape.weights,), np.float32))],
        observed=True,
    )
    for name in of_actor:
        builder.gather(rollout[name], replay[name])
        builder.connect(replay[SAMPLED + name], learner[name])
    builder.broadcast(learner["weights"], rollout["weights"], delay=1 + parameters.lag)
    return builder.build()


def check(parameters: Parameters) -> None:
    """Raise unless Q-learning can act in the environment.

    Raises:
        ValueError: for an environment that is unknown, cannot be made or does not suit.
    """
    _ = network_of(parameters)


WORKLOAD = Workload(
    name="q_learning",
    summary="N actors play with the weights of a learner, one replay, deep Q-learning; Blackjack as in the paper.",
    parameters=Parameters,
    build=build,
    check=check,
    requires=("gymnasium", "torch"),
    evaluate=evaluate,
)
