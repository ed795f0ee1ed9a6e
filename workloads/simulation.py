"""Workload `simulation`: N environments step in lock-step, and a driver gathers what they give.

With `actions=local` every environment draws random actions of its own, as in the paper, and the driver
only receives: `env[N] -gather-> driver`. With `actions=driver` the driver computes the actions of all
from the observations of the round before, in one batch, and sends each its own:
`env[N] -gather, delayed-> driver -scatter-> env[N]`. With a `lag` it uses observations so many rounds
older, and a runtime may have so many rounds in flight.

A unit of work is one environment step; resets are counted apart (`resets`), and so are the frames that
an Atari emulator computes (`emulator_frames`: as many a step as it skips, four in the v5 ids, and fewer in a step that
ends an episode).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np

from workloads.dataflow import ArraySpec, GraphBuilder, Output, Task, Workload
from workloads.environments import (
    DrivenEnvironment,
    FragmentEnvironment,
    LocalEnvironment,
    RestartedEnvironment,
    array_of,
    is_ale,
    spaces_of,
)
from workloads.policies import PolicyName, aligned_empty, check_policy, make_policy

if TYPE_CHECKING:
    from gymnasium import Space

    from workloads.dataflow import Graph, Inputs, Outputs, TaskContext, TaskFactory, TaskNode

__all__ = ["WORKLOAD", "Parameters"]


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to simulate."""

    env_id: Annotated[
        str, msgspec.Meta(description="Gymnasium id of the environment, as CartPole-v1, ALE/Pong-v5 or module:Id-v0")
    ] = "CartPole-v1"
    envs: Annotated[int, msgspec.Meta(description="number of environments", ge=1)] = 15
    actions: Annotated[
        Literal["local", "driver"],
        msgspec.Meta(description="local: random, drawn by each environment; driver: computed for all by the driver"),
    ] = "local"
    policy: Annotated[
        PolicyName, msgspec.Meta(description="what computes the actions with actions=driver; fixed, not learnt")
    ] = "linear"
    fragment: Annotated[
        int, msgspec.Meta(description="steps of each environment in a round; more than 1 only with actions=local", ge=1)
    ] = 1
    lag: Annotated[
        int,
        msgspec.Meta(
            description="rounds more that observations are old when the driver computes with them, so that a runtime "
            "may have as many in flight; only with actions=driver",
            ge=0,
        ),
    ] = 0
    restart: Annotated[
        Literal["ended", "every_step"],
        msgspec.Meta(
            description="when an environment is reset: after an episode has ended, or after every step (a fault of "
            "the paper's Atari programs, to see what it costs); every_step only with actions=local and fragment=1"
        ),
    ] = "ended"
    observation: Annotated[
        Literal["raw", "gray84"],
        msgspec.Meta(description="raw: as the environment gives it; gray84: Atari screens as 84 x 84 grey pixels"),
    ] = "raw"

    def __post_init__(self) -> None:
        """Check the rules between parameters.

        Raises:
            ValueError: if a value does not go with another.
        """
        if self.actions == "driver" and self.fragment > 1:
            raise ValueError(
                f"fragment={self.fragment} does not go with actions='driver', where every step waits for an action "
                "of the driver. Set fragment=1, or actions='local'."
            )
        if self.actions == "local" and self.policy != "linear":
            raise ValueError(
                f"policy='{self.policy}' does not go with actions='local', where actions are random. "
                "Set actions='driver', or leave the policy out."
            )
        if self.actions == "local" and self.lag:
            raise ValueError(
                f"lag={self.lag} does not go with actions='local', where nothing is fed back that could be delayed. "
                "Set lag=0, or actions='driver'."
            )
        if self.restart == "every_step" and (self.actions == "driver" or self.fragment > 1):
            raise ValueError(
                f"restart='every_step' does not go with actions='{self.actions}' and fragment={self.fragment}: there "
                "would be no episodes. Set actions='local' and fragment=1, or restart='ended'."
            )
        if self.observation == "gray84" and not is_ale(self.env_id):
            raise ValueError(
                f"observation='gray84' does not go with env_id='{self.env_id}': it preprocesses Atari screens. "
                "Set observation='raw', or an env_id of the form ALE/Pong-v5."
            )


class Receiver(Task):
    """The driver with `actions=local`: what it receives is gathered for it, and it leaves it at that."""

    def __init__(self, _context: TaskContext) -> None:
        """Keep nothing."""

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Do nothing."""


class Driver(Task):
    """The driver with `actions=driver`: one batch of observations in, one action for each environment out."""

    def __init__(
        self, context: TaskContext, *, policy: PolicyName, batch_shape: tuple[int, ...], action: Space[Any]
    ) -> None:
        """Make `policy` for batches of `batch_shape`, `(N, *observation shape)`."""
        self._batch = aligned_empty(batch_shape)
        self._rows = [self._batch[index, ...] for index in range(len(self._batch))]
        self._policy = make_policy(policy, context.rng("policy"), batch_shape, action)

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Compute the actions of all environments.

        Observations are copied first: the policy then reads memory aligned in one way, whoever runs it.
        """
        observations = inputs["observation"]
        if isinstance(observations, np.ndarray):
            self._batch[...] = observations
        else:
            for row, observation in zip(self._rows, observations, strict=True):
                row[...] = observation
        self._policy(self._batch, outputs["action"])


def build(parameters: Parameters, seed: int) -> Graph:
    """The graph for `parameters`.

    Raises:
        ValueError: as `check`.
    """
    check(parameters)
    spaces = spaces_of(parameters.env_id, parameters.observation)
    builder = GraphBuilder(
        workload="simulation",
        parameters=msgspec.to_builtins(parameters),
        seed=seed,
        unit="environment step",
        units_per_round=parameters.envs * parameters.fragment,
    )
    driven = parameters.actions == "driver"
    outputs = _environment_outputs(array_of(spaces.observation), parameters.fragment)
    env = builder.bank(
        "env", parameters.envs, _environment_factory(parameters), inputs=["action"] if driven else [], outputs=outputs
    )
    received = [port.name for port in outputs]
    if driven:
        driver = _add_driver(builder, parameters, spaces.action, received)
        builder.scatter(driver["action"], env["action"])
    else:
        driver = builder.task("driver", Receiver, inputs=received, observed=True)
    for port in received:
        builder.gather(env[port], driver[port], delay=1 + parameters.lag if driven else 0)
    return builder.build()


def check(parameters: Parameters) -> None:
    """Raise unless the environment can be made, and the policy can act in it.

    Raises:
        ValueError: for an environment that is unknown or cannot be made, or that the policy does not suit.
    """
    spaces = spaces_of(parameters.env_id, parameters.observation)
    if parameters.actions == "driver":
        check_policy(parameters.policy, parameters.env_id, array_of(spaces.observation), spaces.action)


def _environment_outputs(observation: ArraySpec | None, fragment: int) -> list[Output]:
    lead = () if fragment == 1 else (fragment,)
    # The last observation of an episode; of a fragment there may be several, in a list.
    final = observation if fragment == 1 else None
    return [
        Output("observation", observation and ArraySpec((*lead, *observation.shape), observation.dtype)),
        Output("reward", ArraySpec(lead, np.float64)),
        Output("ended", ArraySpec(lead, np.uint8)),
        Output("final_observation", final, optional=final is not None),
    ]


def _environment_factory(parameters: Parameters) -> TaskFactory:
    options: dict[str, Any] = {"env_id": parameters.env_id, "observation": parameters.observation}
    if parameters.actions == "driver":
        return partial(DrivenEnvironment, **options)
    if parameters.fragment > 1:
        return partial(FragmentEnvironment, **options, steps=parameters.fragment)
    if parameters.restart == "every_step":
        return partial(RestartedEnvironment, **options)
    return partial(LocalEnvironment, **options)


def _add_driver(builder: GraphBuilder, parameters: Parameters, action: Space[Any], received: list[str]) -> TaskNode:
    """Add the driver that computes actions."""
    observation = array_of(spaces_of(parameters.env_id, parameters.observation).observation)
    actions = array_of(action)
    assert observation is not None
    assert actions is not None
    factory = partial(
        Driver, policy=parameters.policy, batch_shape=(parameters.envs, *observation.shape), action=action
    )
    port = Output("action", ArraySpec((parameters.envs, *actions.shape), actions.dtype))
    return builder.task("driver", factory, inputs=received, outputs=[port], observed=True)


WORKLOAD = Workload(
    name="simulation",
    summary="N Gymnasium environments step in lock-step; a driver gathers observations, rewards and ends.",
    parameters=Parameters,
    build=build,
    check=check,
    requires=("gymnasium",),
    optional=(("ale_py", "env_id=ALE/..."), ("cv2", "observation=gray84"), ("torch", "policy=nature_cnn")),
)
