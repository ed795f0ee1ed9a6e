"""Learners share a minibatch, and give gradients.

A learner's loss is the sum over its transitions divided by B, the length of the whole minibatch: so the gradients of
all learners need only be added up.

Every learner keeps targets of its own, which follow what it is sent by the same arithmetic everywhere: so they need not
travel. They follow when the next minibatch is there; between updates nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workloads.dataflow import ArraySpec, Task
from workloads.training.algorithm import Batch, Study
from workloads.training.device import Mirror, one_thread
from workloads.training.memory import minibatch
from workloads.training.networks import Learning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from workloads.dataflow import Inputs, Outputs, TaskContext
    from workloads.training.algorithm import Algorithm

__all__ = ["Learner", "results"]


def results(algorithm: Algorithm[Any]) -> dict[str, ArraySpec]:
    """What a learner gives, by port."""
    told = algorithm.arguments
    return {
        "gradient": ArraySpec((algorithm.layout.length,), "float32"),
        "errors": ArraySpec((told.minibatch // told.learners,), "float32"),
    }


class Learner(Task):
    """Gives the gradient of its share of a minibatch, and the errors of its transitions."""

    def __init__(self, context: TaskContext, *, algorithm: Algorithm[Any]) -> None:
        """Make room for weights, targets, gradient and share, on the device."""
        import torch

        one_thread()
        self._no_grad, self._backward = torch.no_grad, torch.autograd.backward
        told, interface, layout = algorithm.arguments, algorithm.interface, algorithm.layout
        self._algorithm, self._whole = algorithm, told.minibatch
        lead = (told.minibatch // told.learners,)
        vector = ArraySpec((layout.length,), "float32")
        self._weights, self._target, self._gradient = (Mirror(vector, told.device) for _ in range(3))
        self._share = {name: Mirror(spec, told.device) for name, spec in minibatch(lead, interface).items()}
        self._batch = Batch(**{name: mirror.tensor for name, mirror in self._share.items()})
        self._now = Learning(layout, self._weights.tensor, self._gradient.tensor)
        self._fixed = Learning(layout, self._weights.tensor, None)
        self._follower = Learning(layout, self._target.tensor, None)
        self._noise = Mirror(ArraySpec((*lead, interface.actions), "float32"), told.device)
        self._rng = context.rng("noise")
        self._updates = 0

    def initial(self, port: str) -> Any:
        """Nothing: there are no errors before there was an update."""

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Give gradient and errors, if there is a share."""
        if inputs["observation"] is None:
            return
        self._weights.load(inputs["parameters"])
        for name, mirror in self._share.items():
            mirror.load(inputs[name])
        if self._updates:
            self._algorithm.follow(self._target.tensor, self._weights.tensor, self._updates)
        else:
            self._target.tensor.copy_(self._weights.tensor)
        self._updates += 1
        errors = self._learn()
        outputs["gradient"][...] = self._gradient.pull()
        outputs["errors"][...] = errors

    def tallies(self) -> Mapping[str, Any]:
        """The targets."""
        return {"targets": self._target.pull().copy()}

    def state(self) -> Mapping[str, Any]:
        """Updates, targets and the stream."""
        return {"updates": self._updates, "targets": self._target.pull(), "noise": self._rng.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._updates = state["updates"]
        self._target.load(state["targets"])
        self._rng.bit_generator.state = state["noise"]

    def _learn(self) -> Any:
        """Compute the gradient; the errors."""
        algorithm, batch = self._algorithm, self._batch
        study = Study(self._updates, self._now, self._fixed, self._follower, self._normal)
        with self._no_grad():
            targets = algorithm.targets(study, batch)
        losses, errors = algorithm.losses(study, batch, targets)
        self._gradient.tensor.zero_()
        self._backward(losses.sum() / self._whole)
        return errors.cpu().numpy()

    def _normal(self) -> Tensor:
        """Normal numbers, others at each call."""
        self._rng.standard_normal(dtype="float32", out=self._noise.array)
        self._noise.push()
        return self._noise.tensor.clone()
