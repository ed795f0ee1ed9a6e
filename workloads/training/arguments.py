"""Arguments that all algorithms have, and the rules between them; each algorithm's file adds its own.

An algorithm's arguments are one struct, every field described: it says what a run is, with nothing left open.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

__all__ = [
    "Arguments",
    "Capacity",
    "EnvId",
    "Gamma",
    "Hidden",
    "LearningStarts",
    "Rate",
    "RewardScale",
    "Tau",
    "check_clear",
]

Replay = Literal["uniform", "prioritized"]
Device = Literal["cpu", "cuda"]

# What several algorithms have with other defaults.
EnvId = Annotated[str, msgspec.Meta(description="Gymnasium id; 'module:id' imports the module first")]
Hidden = Annotated[
    str, msgspec.Meta(description="units of each hidden layer, as in 64,64", pattern=r"^[1-9][0-9]*(,[1-9][0-9]*)*$")
]
Capacity = Annotated[int, msgspec.Meta(description="transitions that the replay keeps", ge=1)]
LearningStarts = Annotated[
    int, msgspec.Meta(description="environment steps with random actions before the first update", ge=1)
]
RewardScale = Annotated[float, msgspec.Meta(description="what rewards are multiplied by before they are stored", gt=0)]
Tau = Annotated[float, msgspec.Meta(description="share of the way that targets go towards what is learnt", gt=0, le=1)]
Gamma = Annotated[float, msgspec.Meta(description="discount of one step", ge=0, le=1)]
Rate = Annotated[float, msgspec.Meta(gt=0)]


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is learnt from, and how fast, whatever the algorithm."""

    algorithm: ClassVar[str]

    env_id: EnvId = "Pendulum-v1"
    actors: Annotated[int, msgspec.Meta(description="actors, N", ge=1)] = 2
    environments: Annotated[int, msgspec.Meta(description="environments of each actor, E", ge=1)] = 2
    steps: Annotated[int, msgspec.Meta(description="steps in each environment between two updates", ge=1)] = 1
    learners: Annotated[int, msgspec.Meta(description="learners that share each minibatch, M", ge=1)] = 1
    minibatch: Annotated[int, msgspec.Meta(description="transitions of an update, B", ge=1)] = 128
    hidden: Hidden = "64,64"
    gamma: Gamma = 0.98
    reward_scale: RewardScale = 0.1
    capacity: Capacity = 100_000
    learning_starts: LearningStarts = 1000
    replay: Annotated[
        Replay, msgspec.Meta(description="draw transitions uniformly, or in proportion to priority^alpha")
    ] = "uniform"
    alpha: Annotated[float, msgspec.Meta(description="exponent of priorities, with replay=prioritized", ge=0)] = 0.6
    beta: Annotated[
        float, msgspec.Meta(description="exponent of importance weights at first, with replay=prioritized", ge=0, le=1)
    ] = 0.4
    beta_steps: Annotated[
        int,
        msgspec.Meta(
            description="environment steps in which beta rises to 1, with replay=prioritized; 0: it stays", ge=0
        ),
    ] = 0
    device: Annotated[Device, msgspec.Meta(description="where learners and optimiser compute")] = "cpu"

    @property
    def steps_per_round(self) -> int:
        """Environment steps in a round."""
        return self.actors * self.environments * self.steps

    @property
    def steps_of_a_return(self) -> int:
        """Steps whose rewards make a return."""
        return 1

    @property
    def layers(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return tuple(int(units) for units in self.hidden.split(","))

    def __post_init__(self) -> None:
        """Check the rules between arguments.

        Raises:
            ValueError: if a value does not go with another.
        """
        if self.minibatch % self.learners:
            fits = [m for m in range(1, self.minibatch + 1) if self.minibatch % m == 0]
            near = min(fits, key=lambda m: abs(m - self.learners))
            raise ValueError(
                f"minibatch={self.minibatch} cannot be shared equally by learners={self.learners}. "
                f"Set learners={near}, or minibatch={self.learners * -(-self.minibatch // self.learners)}."
            )
        if self.capacity < self.steps_per_round:
            raise ValueError(
                f"capacity={self.capacity} does not hold the {self.steps_per_round} transitions of a round (actors x "
                f"environments x steps), so some would never be drawn. Set capacity={self.steps_per_round} or more."
            )
        if self.capacity < self.learning_starts:
            raise ValueError(
                f"capacity={self.capacity} is never filled with the learning_starts={self.learning_starts} transitions "
                f"that learning waits for. Set capacity={self.learning_starts} or more, or learning_starts lower."
            )
        if self.replay == "uniform":
            check_clear(self, ("alpha", "beta", "beta_steps"), "replay='uniform'", "Set replay='prioritized'")


def check_clear(arguments: Arguments, names: tuple[str, ...], what: str, remedy: str) -> None:
    """Raise if one of `names`, about which `what` does not ask, is not what it is by default.

    Raises:
        ValueError: names the first such argument.
    """
    defaults = {field.name: field.default for field in msgspec.structs.fields(arguments)}
    for name in names:
        value: Any = getattr(arguments, name)
        if value != defaults[name]:
            raise ValueError(
                f"{name}={value} does not go with {what}, which does not use it. {remedy}, or leave it out."
            )
