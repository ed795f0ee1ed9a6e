"""The algorithms as a textbook has them: modules of PyTorch, its Adam, one process; for tests to compare with.

Each step takes all gradients before it moves anything, as the workload says that it does; with `critic_first` the
policy climbs critics that have just been stepped, as in the papers.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import huber_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy as np

    from workloads.training.algorithm import Algorithm


def perceptron(sizes: Iterable[int], *, ends_in_relu: bool = False) -> nn.Sequential:
    modules: list[nn.Module] = []
    for before, after in pairwise(sizes):
        modules += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*(modules if ends_in_relu else modules[:-1]))


class Joined(nn.Module):
    """A critic that is given the action beside the observation."""

    def __init__(self, sizes: Iterable[int]) -> None:
        super().__init__()
        self.layers = perceptron(sizes)

    def forward(self, observation: Any, action: Any) -> Any:
        return self.layers(torch.cat((observation, action), 1))[:, 0]


class LaterJoined(nn.Module):
    """A critic that is given the action at its second layer."""

    def __init__(self, features: int, actions: int, first: int, *more: int) -> None:
        super().__init__()
        self.first, self.rest = nn.Linear(features, first), perceptron((first + actions, *more, 1))

    def forward(self, observation: Any, action: Any) -> Any:
        return self.rest(torch.cat((self.first(observation).relu(), action), 1))[:, 0]


class Dueling(nn.Module):
    def __init__(self, features: int, shared: int, streams: int, actions: int) -> None:
        super().__init__()
        self.trunk = perceptron((features, shared), ends_in_relu=True)
        self.advantages, self.state = perceptron((shared, streams, actions)), perceptron((shared, streams, 1))

    def forward(self, observation: Any) -> Any:
        seen = self.trunk(observation)
        advantages = self.advantages(seen)
        return self.state(seen) + advantages - advantages.mean(1, keepdim=True)


class Textbook:
    """Networks in the order of the workload's vector, their targets, and an optimiser for each group."""

    def __init__(self, algorithm: Algorithm[Any], first: np.ndarray, *, critic_first: bool = False) -> None:
        self.told, self.critic_first = algorithm.arguments, critic_first
        features, actions, hidden = algorithm.interface.features, algorithm.interface.actions, self.told.layers
        self.actions = actions
        make: Callable[[], list[nn.Module]] = {
            "dqn": lambda: [
                Dueling(features, *hidden, actions) if self.told.dueling else perceptron((features, *hidden, actions))
            ],
            "ddpg": lambda: [perceptron((features, *hidden, actions)), LaterJoined(features, actions, *hidden)],
            "td3": lambda: [perceptron((features, *hidden, actions)), *self._twins(features, actions)],
            "sac": lambda: [perceptron((features, *hidden, 2 * actions)), *self._twins(features, actions)],
        }[self.told.algorithm]
        self.networks = make()
        self.log_temperature = nn.Parameter(torch.zeros(1))
        nn.utils.vector_to_parameters(torch.from_numpy(first.copy()), self.parameters())
        self.targets = copy.deepcopy(self.networks)
        self.updates = 0
        rates = (self.told.rate,) if self.told.algorithm == "dqn" else (self.told.policy_rate, self.told.critic_rate)
        members = ([self.networks[0]], self.networks[1:])
        self.optimisers = [
            torch.optim.Adam([p for network in group for p in network.parameters()], lr=rate)
            for group, rate in zip(members, rates, strict=False)
        ]
        if self.told.algorithm == "sac":
            self.optimisers.append(torch.optim.Adam([self.log_temperature], lr=self.told.temperature_rate))

    def parameters(self) -> list[Any]:
        own = [p for network in self.networks for p in network.parameters()]
        return [*own, self.log_temperature] if self.told.algorithm == "sac" else own

    @property
    def weights(self) -> np.ndarray:
        return nn.utils.parameters_to_vector(self.parameters()).detach().numpy()

    def update(self, batch: dict[str, Any], normal: Callable[[], Any]) -> np.ndarray:
        """One update; the temporal-difference errors."""
        self.updates += 1
        return getattr(self, self.told.algorithm)(SimpleNamespace(**batch), normal).detach().numpy()

    def _twins(self, features: int, actions: int) -> list[nn.Module]:
        return [Joined((features + actions, *self.told.layers, 1)) for _ in range(2)]

    def _step(self, losses: list[Any]) -> None:
        """Step each optimiser with its loss, if it has one: all at once, or the critics first."""
        groups = [group["params"] for optimiser in self.optimisers for group in optimiser.param_groups]
        slopes = [
            None if loss is None else torch.autograd.grad(loss, group, retain_graph=True)
            for loss, group in zip(losses, groups, strict=True)
        ]
        for optimiser, group, found in zip(self.optimisers, groups, slopes, strict=True):
            if found is not None:
                for parameter, slope in zip(group, found, strict=True):
                    parameter.grad = slope
                optimiser.step()

    def _follow(self, tau: float) -> None:
        for target, network in zip(self.targets, self.networks, strict=True):
            for slow, fast in zip(target.parameters(), network.parameters(), strict=True):
                slow.data.lerp_(fast.data, tau)

    def dqn(self, batch: Any, normal: Any) -> Any:
        network, target = self.networks[0], self.targets[0]
        with torch.no_grad():
            chosen = (network if self.told.double else target)(batch.next_observation).argmax(1)
            wanted = batch.reward + batch.discounts * target(batch.next_observation)[torch.arange(len(chosen)), chosen]
        values = network(batch.observation)[torch.arange(len(batch.action)), batch.action]
        self._step([(batch.weights * huber_loss(values, wanted, reduction="none")).mean()])
        if self.updates % self.told.target_period == 0:
            self._follow(1.0)
        return (values - wanted).abs()

    def ddpg(self, batch: Any, normal: Any) -> Any:
        (policy, critic), (slow_policy, slow_critic) = self.networks, self.targets
        with torch.no_grad():
            wanted = batch.reward + batch.discounts * slow_critic(
                batch.next_observation, slow_policy(batch.next_observation).tanh()
            )
        errors = critic(batch.observation, batch.action) - wanted
        critic_loss = (batch.weights * errors**2).mean()
        self._step([-critic(batch.observation, policy(batch.observation).tanh()).mean(), critic_loss])
        self._follow(self.told.tau)
        return errors.abs()

    def td3(self, batch: Any, normal: Any) -> Any:
        (policy, *critics), (slow_policy, *slow_critics) = self.networks, self.targets
        with torch.no_grad():
            noise = (normal() * self.told.smoothing).clamp(-self.told.smoothing_clip, self.told.smoothing_clip)
            following = (slow_policy(batch.next_observation).tanh() + noise).clamp(-1, 1)
            wanted = batch.reward + batch.discounts * torch.minimum(
                *[slow(batch.next_observation, following) for slow in slow_critics]
            )
        errors = [critic(batch.observation, batch.action) - wanted for critic in critics]
        critic_loss = sum((batch.weights * error**2).mean() for error in errors)
        due = self.updates % self.told.policy_period == 0
        if self.critic_first:
            self._step([None, critic_loss])
            if due:
                self._step([-critics[0](batch.observation, policy(batch.observation).tanh()).mean(), None])
        else:
            self._step(
                [-critics[0](batch.observation, policy(batch.observation).tanh()).mean() if due else None, critic_loss]
            )
        if due:
            self._follow(self.told.tau)
        return sum(error.abs() for error in errors) / 2

    def sac(self, batch: Any, normal: Any) -> Any:
        (policy, *critics), (_, *slow_critics) = self.networks, self.targets
        temperature = self.log_temperature.exp().detach()

        def drawn(seen: Any) -> Any:
            mean, log_deviation = policy(seen).split(self.actions, 1)
            base = torch.distributions.Normal(mean, log_deviation.clamp(-20, 2).exp())
            raw = base.mean + base.stddev * normal()
            squash = torch.distributions.transforms.TanhTransform()
            density = base.log_prob(raw) - squash.log_abs_det_jacobian(raw, raw.tanh())
            return raw.tanh(), density.sum(1)

        with torch.no_grad():
            following, density = drawn(batch.next_observation)
            value = torch.minimum(*[slow(batch.next_observation, following) for slow in slow_critics])
            wanted = batch.reward + batch.discounts * (value - temperature * density)
        errors = [critic(batch.observation, batch.action) - wanted for critic in critics]
        chosen, density = drawn(batch.observation)
        value = torch.minimum(*[critic(batch.observation, chosen) for critic in critics])
        self._step(
            [
                (temperature * density - value).mean(),
                sum((batch.weights * 0.5 * error**2).mean() for error in errors),
                -(self.log_temperature * (density.detach() - self.actions)).mean(),
            ]
        )
        self._follow(self.told.tau)
        return sum(error.abs() for error in errors) / 2
