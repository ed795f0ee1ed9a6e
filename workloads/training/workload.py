"""The graph, and the workload that offers it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from workloads.dataflow import ArraySpec, GraphBuilder, Output, Workload
from workloads.training.actor import Actor, transitions
from workloads.training.evaluation import greedy_returns
from workloads.training.learner import Learner, results
from workloads.training.memory import DRAWN, Replay, held_bytes, minibatch
from workloads.training.optimiser import Optimiser
from workloads.training.parameters import Parameters, algorithm_of, arguments_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workloads.dataflow import Graph

__all__ = ["WORKLOAD", "build", "check", "evaluate"]


def build(parameters: msgspec.Struct, seed: int) -> Graph:
    """The graph for `parameters`; it says all arguments of the algorithm, those left out too.

    Raises:
        ValueError: as `check`.
    """
    told = arguments_of(parameters)
    algorithm = algorithm_of(told)
    builder = GraphBuilder(
        workload="training",
        parameters={"algorithm": told.algorithm, **msgspec.to_builtins(told)},
        seed=seed,
        unit="environment step",
        units_per_round=told.steps_per_round,
        held_bytes=held_bytes(told, algorithm.interface),
    )
    stepped = transitions((told.steps, told.environments), algorithm.interface)
    share = minibatch((told.minibatch // told.learners,), algorithm.interface)
    drawn = minibatch((told.learners, told.minibatch // told.learners), algorithm.interface)
    given = results(algorithm)
    # The replay comes first: learners wait for it, while actors play.
    replay = builder.task(
        "replay",
        partial(Replay, told=told, interface=algorithm.interface),
        inputs=[*stepped, "errors"],
        outputs=[Output(DRAWN + name, spec, optional=True) for name, spec in drawn.items()],
    )
    actor = builder.bank(
        "actor",
        told.actors,
        partial(Actor, algorithm=algorithm),
        inputs=["policy"],
        outputs=[Output(name, spec) for name, spec in stepped.items()],
        stateless=True,
    )
    learner = builder.bank(
        "learner",
        told.learners,
        partial(Learner, algorithm=algorithm),
        inputs=["parameters", *share],
        outputs=[Output(name, spec, optional=True) for name, spec in given.items()],
        stateless=True,
    )
    optimiser = builder.task(
        "optimiser",
        partial(Optimiser, algorithm=algorithm),
        inputs=["gradient"],
        outputs=[
            Output("parameters", given["gradient"]),
            Output("policy", ArraySpec((algorithm.layout.slices[algorithm.acts_with].stop,), "float32")),
        ],
        observed=True,
    )
    for name in share:
        builder.scatter(replay[DRAWN + name], learner[name])
    builder.gather(learner["gradient"], optimiser["gradient"])
    for name in stepped:
        builder.gather(actor[name], replay[name], delay=1)
    builder.gather(learner["errors"], replay["errors"], delay=1)
    builder.broadcast(optimiser["policy"], actor["policy"], delay=1)
    builder.broadcast(optimiser["parameters"], learner["parameters"], delay=1)
    return builder.build()


def check(parameters: msgspec.Struct) -> None:
    """Raise unless the algorithm can learn in the environment, on the device.

    Raises:
        ValueError: for an environment that is unknown, cannot be made or does not suit, or a device that is not there.
    """
    _ = algorithm_of(arguments_of(parameters))


def evaluate(
    parameters: msgspec.Struct, tallies: Mapping[str, Sequence[Mapping[str, Any]]], episodes: int, seed: int
) -> list[float]:
    """The returns of so many episodes, played without exploring with the optimiser's weights in `tallies`.

    Raises:
        ValueError: as `check`.
    """
    (optimiser,) = tallies["optimiser"]
    return greedy_returns(algorithm_of(arguments_of(parameters)), optimiser["weights"], episodes, seed)


WORKLOAD = Workload(
    name="training",
    summary="N actors, a replay, M learners and an optimiser in lock-step: DQN, DDPG, TD3 or SAC.",
    parameters=Parameters,
    build=build,
    check=check,
    requires=("gymnasium", "torch"),
    evaluate=evaluate,
)
