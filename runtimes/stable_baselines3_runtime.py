"""Stable-Baselines3: its own DQN, DDPG, TD3 and SAC, on what a graph of workload `training` says.

It is no graph engine: of the graph it reads the parameters, and then runs its own loop, `learn`, in this process: all
environments in one vector environment, then an update. Environment, networks, minibatch, rates, noise and the ratio of
updates to steps are the workload's; so is the number of updates after any number of rounds (but for returns of n steps,
with which it begins n - 1 steps earlier). Random streams are its own, and it steps the critic before the policy, as the
papers do.

What it has learnt is told as the workload's optimiser tells it, so that the workload can evaluate it: the weights of
who acts, which come first there too.

Raffin et al., Stable-Baselines3: Reliable Reinforcement Learning Implementations, JMLR 22(268), 2021.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from runtimes.protocol import Runtime, RuntimeFailure, not_resumed
from workloads.dataflow import Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workloads.dataflow import Graph

__all__ = ["RUNTIME", "StableBaselines3Session"]

WORKLOAD: Final = "training"


class StableBaselines3Session(Session):
    """A model of Stable-Baselines3 that learns round by round."""

    def __init__(self, graph: Graph) -> None:
        """Make environments and model."""
        told = graph.parameters
        self._environments = _environments(told)
        self._model = _model(told, self._environments, graph.seed)
        self._stamps = _stamps()
        self._steps_per_round = graph.units_per_round
        self._rounds = 0
        self._open = True

    def advance(self, rounds: int) -> NDArray[np.int64]:
        """Run its loop for as many environment steps and updates as `rounds` have; their durations in nanoseconds.

        Raises:
            RuntimeFailure: if an environment or the model raises; says in which rounds.
        """
        self._stamps.begun_ns = []
        began_ns = perf_counter_ns()
        try:
            self._model.learn(
                rounds * self._steps_per_round, callback=self._stamps, log_interval=None, reset_num_timesteps=False
            )
        except Exception as error:
            raise RuntimeFailure(
                f"Stable-Baselines3 failed in round {self._rounds + len(self._stamps.begun_ns) - 1}: "
                f"{type(error).__name__}: {error}"
            ) from error
        self._rounds += rounds
        # The first round begins with what `learn` does before it.
        stamps = np.array([began_ns, *self._stamps.begun_ns[1:], perf_counter_ns()])
        return np.diff(stamps).astype(np.int64, copy=False)

    def received(self) -> Mapping[str, Mapping[str, Any]]:
        """Nothing: there are no tasks."""
        return {}

    def tallies(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Updates, the weights of who acts, and episodes that ended, as the workload's tasks tell them."""
        updates = self._model._n_updates  # noqa: SLF001 - it tells nobody otherwise
        return {
            "optimiser": [{"updates": updates, "weights": _acting_weights(self._model)}],
            "actor": [{"resets": self._environments.resets}],
        }

    def close(self) -> None:
        """Close the environments."""
        if self._open:
            self._open = False
            self._environments.close()


def _environments(told: Mapping[str, Any]) -> Any:
    """All environments as one, whose rewards are scaled and which counts the episodes that ended."""
    import gymnasium
    from stable_baselines3.common.vec_env import DummyVecEnv

    scale = told["reward_scale"]

    class Environments(DummyVecEnv):
        resets = 0

        def step_wait(self) -> Any:
            observations, rewards, dones, infos = super().step_wait()
            self.resets += int(dones.sum())
            return observations, rewards * scale, dones, infos

    number = told["actors"] * told["environments"]
    return Environments([lambda: gymnasium.make(told["env_id"], disable_env_checker=True)] * number)


def _stamps() -> Any:
    """A callback that notes when each round began."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Stamps(BaseCallback):
        begun_ns: list[int]

        def _on_rollout_start(self) -> None:
            self.begun_ns.append(perf_counter_ns())

        def _on_step(self) -> bool:
            return True

    return Stamps()


# ------------------------------------------------------------------------------------------ models


def _model(told: Mapping[str, Any], environments: Any, seed: int) -> Any:
    """The model that `told` asks for."""
    import stable_baselines3 as sb3
    import torch
    from stable_baselines3.common.logger import Logger

    torch.set_num_threads(1)  # every side of a comparison gets one thread
    steps_per_round = told["actors"] * told["environments"] * told["steps"]
    shared = {
        "policy": "MlpPolicy",
        "env": environments,
        "buffer_size": told["capacity"],
        # It updates in a round after which there are more steps than this: so both have as many updates at any time.
        "learning_starts": told["learning_starts"] + steps_per_round - 1,
        "batch_size": told["minibatch"],
        "gamma": told["gamma"],
        "train_freq": (told["steps"], "step"),
        "gradient_steps": 1,
        "policy_kwargs": {"net_arch": [int(units) for units in told["hidden"].split(",")]},
        "seed": seed,
        "device": told["device"],
    }
    algorithm = told["algorithm"]
    if algorithm == "dqn":
        model = _dqn(sb3.DQN, told, shared, steps_per_round)
    elif algorithm == "sac":
        temperature = f"auto_{told['temperature']}"
        model = sb3.SAC(**shared, learning_rate=told["policy_rate"], tau=told["tau"], ent_coef=temperature)
    else:
        shared |= {"learning_rate": told["policy_rate"], "tau": told["tau"], "action_noise": _noise(told, environments)}
        model = sb3.DDPG(**shared) if algorithm == "ddpg" else _td3(sb3.TD3, told, shared)
    # Nothing is logged while rounds are timed.
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def _dqn(kind: Any, told: Mapping[str, Any], shared: Mapping[str, Any], steps_per_round: int) -> Any:
    model = kind(
        **shared,
        learning_rate=told["rate"],
        n_steps=told["n_step"],
        # In environment steps.
        target_update_interval=told["target_period"] * steps_per_round,
        max_grad_norm=float("inf"),
    )
    first, last, fall = told["epsilon"], told["epsilon_end"], told["epsilon_steps"]
    # Its own falls with the share of the steps of one call of `learn`, which are as many as somebody advances by.
    model.exploration_schedule = lambda _: first + (last - first) * min(1.0, model.num_timesteps / fall)
    return model


def _td3(kind: Any, told: Mapping[str, Any], shared: Mapping[str, Any]) -> Any:
    return kind(
        **shared,
        policy_delay=told["policy_period"],
        target_policy_noise=told["smoothing"],
        target_noise_clip=told["smoothing_clip"],
    )


def _noise(told: Mapping[str, Any], environments: Any) -> Any:
    """What is added to the actions of DDPG and TD3, of all environments."""
    from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise, VectorizedActionNoise

    mean = np.zeros(environments.action_space.shape, np.float32)
    deviation = np.full_like(mean, told["noise"])
    noise: Any = NormalActionNoise(mean, deviation)
    if told["algorithm"] == "ddpg":
        noise = OrnsteinUhlenbeckActionNoise(mean, deviation, theta=told["noise_reversion"], dt=1.0)
    return VectorizedActionNoise(noise, environments.num_envs)


def _acting_weights(model: Any) -> NDArray[np.float32]:
    """The weights of who acts as one vector, layer by layer, the weights of each before its biases."""
    import torch

    policy = model.policy
    if hasattr(policy, "q_net"):
        tensors = list(policy.q_net.q_net.parameters())
    elif hasattr(policy.actor, "log_std"):
        # Two layers side by side that the workload has as one.
        middle, deviation = policy.actor.mu, policy.actor.log_std
        last = [torch.cat((middle.weight, deviation.weight)), torch.cat((middle.bias, deviation.bias))]
        tensors = [*policy.actor.latent_pi.parameters(), *last]
    else:
        tensors = list(policy.actor.mu.parameters())
    weights: NDArray[np.float32] = torch.cat([tensor.detach().flatten() for tensor in tensors]).cpu().numpy()
    return weights.copy()


# ------------------------------------------------------------------------------------- the runtime


class StableBaselines3Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """It is set up as the workload asks: there are no options."""


def _open(graph: Graph, _options: StableBaselines3Options, _scratch: Path) -> StableBaselines3Session:
    return StableBaselines3Session(graph)


def _refuses(graph: Graph, _options: StableBaselines3Options) -> str | None:
    """Why it cannot learn as `graph` says."""
    if graph.workload != WORKLOAD:
        return f"it learns what workload '{WORKLOAD}' does, and '{graph.workload}' is another. Choose another runtime"
    told = graph.parameters
    if told["replay"] != "uniform":
        return f"its replay is uniform, and not '{told['replay']}'. Set replay='uniform'"
    for option in ("double", "dueling"):
        if told.get(option):
            return f"its DQN is not {option}. Set {option}=false"
    rates = {name: told[name] for name in ("policy_rate", "critic_rate", "temperature_rate") if name in told}
    if len(set(rates.values())) > 1:
        spelt = ", ".join(f"{name}={rate:g}" for name, rate in rates.items())
        return f"it has one learning rate for all that it learns, and not {spelt}. Set them equal"
    return not_resumed(graph)


RUNTIME = Runtime(
    name="stable-baselines3",
    summary="Stable-Baselines3's own DQN, DDPG, TD3 and SAC, in one process; no graph engine.",
    options=StableBaselines3Options,
    open=_open,
    refuses=_refuses,
    limits=f"workload {WORKLOAD}, with one rate, a uniform replay, and neither double nor dueling networks",
    differs="it draws from random streams of its own and steps critics before policies, "
    "its DDPG gives actions to the critic's first layer, and whatever learners there are, it learns as one",
    requires=("stable_baselines3", "gymnasium"),
)
