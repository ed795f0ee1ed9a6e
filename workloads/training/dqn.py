"""DQN: Mnih et al., Human-level control through deep reinforcement learning, Nature 2015.

Errors are clipped to 1 as there (Huber's loss), the target is copied every so many updates, and exploration falls
linearly. Options, each of a paper of its own:

- `double`: the learnt network chooses the next action, the target values it (van Hasselt, Guez, Silver, Deep
  Reinforcement Learning with Double Q-learning, AAAI 2016);
- `dueling`: a stream for the value of a state and one for the advantages of actions, the latter less their mean (Wang
  et al., Dueling Network Architectures for Deep Reinforcement Learning, ICML 2016): the last hidden layer is there
  twice, what comes before it once;
- `n_step`: returns of n steps (Hessel et al., Rainbow, AAAI 2018); uncorrected for what exploration did, as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from workloads.training.algorithm import Algorithm, Group, Player
from workloads.training.arguments import Arguments, Capacity, EnvId, Gamma, Hidden, LearningStarts, Rate, RewardScale
from workloads.training.networks import Layout, Perceptron

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from workloads.training.algorithm import Batch, Study
    from workloads.training.networks import ActingPerceptron, Learning
    from workloads.training.spaces import Interface

__all__ = ["DQN", "DQNArguments"]


class DQNArguments(Arguments, frozen=True, kw_only=True):
    """Arguments of DQN."""

    algorithm = "dqn"

    env_id: EnvId = "CartPole-v1"
    hidden: Hidden = "120,84"
    gamma: Gamma = 0.99
    reward_scale: RewardScale = 1.0
    capacity: Capacity = 10_000
    learning_starts: LearningStarts = 1000
    rate: Annotated[Rate, msgspec.Meta(description="learning rate")] = 2.5e-4
    target_period: Annotated[int, msgspec.Meta(description="updates from one copy of the target to the next", ge=1)] = (
        50
    )
    epsilon: Annotated[float, msgspec.Meta(description="share of random actions at first", ge=0, le=1)] = 1.0
    epsilon_end: Annotated[float, msgspec.Meta(description="share of random actions at last", ge=0, le=1)] = 0.05
    epsilon_steps: Annotated[
        int, msgspec.Meta(description="environment steps in which that share falls to the last", ge=1)
    ] = 20_000
    double: Annotated[bool, msgspec.Meta(description="the learnt network chooses what the target values")] = False
    dueling: Annotated[bool, msgspec.Meta(description="a stream for the state, one for the advantages")] = False
    n_step: Annotated[int, msgspec.Meta(description="steps of a return", ge=1)] = 1

    @property
    def steps_of_a_return(self) -> int:
        """Steps whose rewards make a return."""
        return self.n_step

    def __post_init__(self) -> None:
        """Check the rules between arguments.

        Raises:
            ValueError: if a value does not go with another.
        """
        super().__post_init__()
        if self.epsilon_end > self.epsilon:
            raise ValueError(
                f"epsilon_end={self.epsilon_end} is more than epsilon={self.epsilon}, from where exploration falls. "
                f"Set epsilon={self.epsilon_end} or more, or epsilon_end lower."
            )


class DQN(Algorithm[DQNArguments]):
    """Deep Q-learning."""

    chooses = True

    def __init__(self, arguments: DQNArguments, interface: Interface) -> None:
        """Lay out one network, or a trunk with two streams."""
        super().__init__(arguments, interface)
        features, hidden, actions = interface.features, arguments.layers, interface.actions
        parts, self.acts_with = {"values": Perceptron((features, *hidden, actions))}, "values"
        if arguments.dueling:
            self.acts_with = "advantages"
            *shared, streams = hidden
            parts = {"trunk": Perceptron((features, *shared))} if shared else {}
            before = shared[-1] if shared else features
            parts |= {"advantages": Perceptron((before, streams, actions)), "state": Perceptron((before, streams, 1))}
        self.layout = Layout(parts)
        self.groups = (Group(parts=tuple(parts), rate=arguments.rate),)

    def player(self, rows: int) -> DQNPlayer:
        """Who acts in so many environments."""
        return DQNPlayer(self.layout, rows, self.arguments, self.interface.actions)

    def targets(self, study: Study, batch: Batch) -> Tensor:
        """What the target thinks of the next action: its own best, or the learnt network's."""
        values = self._values(study.target, batch.next_observation)
        if self.arguments.double:
            chosen = self._values(study.fixed, batch.next_observation).argmax(1, keepdim=True)
            value = values.gather(1, chosen).squeeze(1)
        else:
            value = values.amax(1)
        return batch.reward + batch.discounts * value

    def losses(self, study: Study, batch: Batch, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Huber's loss of the values of what was done."""
        values = self._values(study.now, batch.observation).gather(1, batch.action.unsqueeze(1)).squeeze(1)
        errors = values - targets
        size = errors.abs()
        clipped = size.clamp(max=1)
        return batch.weights * clipped * (size - 0.5 * clipped), errors.detach()

    def follow(self, target: Tensor, now: Tensor, update: int) -> None:
        """Copy it, every so many updates."""
        if update % self.arguments.target_period == 0:
            target.copy_(now)

    def _values(self, networks: Learning, observation: Tensor) -> Tensor:
        """The value of every action, `(b, actions)`."""
        if not self.arguments.dueling:
            return networks["values"](observation)
        features = networks["trunk"](observation).relu() if "trunk" in self.layout.parts else observation
        advantages = networks["advantages"](features)
        return networks["state"](features) + advantages - advantages.mean(1, keepdim=True)


class DQNPlayer(Player):
    """Takes the action of the highest value, or a random one; of dueling streams that of the highest advantage."""

    def __init__(self, layout: Layout, rows: int, arguments: DQNArguments, actions: int) -> None:
        """Act in so many environments."""
        last = "advantages" if arguments.dueling else "values"
        super().__init__(layout, last, rows)
        self._trunk: ActingPerceptron | None = self.networks.get("trunk")
        self._scores = self.networks[last]
        self._arguments, self._actions = arguments, actions
        self._explores = np.zeros((0, rows), np.bool_)
        self._explored = np.zeros((0, rows), np.int64)

    def best(self, observations: NDArray[np.float32]) -> NDArray[np.int64]:
        """The action of the highest value, the first of equals."""
        features = observations
        if self._trunk is not None:
            features = self._trunk(observations)
            np.maximum(features, 0, out=features)
        best: NDArray[np.int64] = self._scores(features).argmax(axis=1)
        return best

    def plan(self, rng: np.random.Generator, steps: int, taken: int) -> None:
        """Draw when to explore, and with which actions."""
        told = self._arguments
        epsilon = told.epsilon + (told.epsilon_end - told.epsilon) * min(1.0, taken / told.epsilon_steps)
        shape = (steps, self.rows)
        self._explores = rng.random(shape) < epsilon
        self._explored = rng.integers(self._actions, size=shape)

    def explore(self, observations: NDArray[np.float32], at: int) -> NDArray[np.int64]:
        """The best action, or a random one."""
        return np.where(self._explores[at], self._explored[at], self.best(observations))
