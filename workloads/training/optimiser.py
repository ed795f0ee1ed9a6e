"""The optimiser: adds up the learners' gradients in index order, and takes one step of Adam.

Kingma, Ba, Adam: A Method for Stochastic Optimization, ICLR 2015; with PyTorch's fused kernel, on the flat vector: one
pass over memory, and half the time of `torch.optim.Adam`, which is mostly what surrounds that kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.dataflow import ArraySpec, Task
from workloads.training.device import Mirror, one_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workloads.dataflow import Inputs, Outputs, TaskContext
    from workloads.training.algorithm import Algorithm

__all__ = ["Optimiser"]

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8
"""Adam's, as its authors propose."""


class Optimiser(Task):
    """Holds what is learnt, steps it, and sends it."""

    def __init__(self, context: TaskContext, *, algorithm: Algorithm[Any]) -> None:
        """Draw the first weights."""
        import torch
        from torch.optim.adam import adam

        one_thread()
        self._adam = adam
        device, layout = algorithm.arguments.device, algorithm.layout
        self._groups, self._acting = algorithm.groups, layout.slices[algorithm.acts_with].stop
        vector = ArraySpec((layout.length,), "float32")
        self._weights, self._gradient, self._first, self._second = (Mirror(vector, device) for _ in range(4))
        self._weights.load(layout.initial(context.rng("weights")))
        spans = [layout.span(group.parts) for group in self._groups]
        # Of each group its part of the weights, of the gradient, and of Adam's moments.
        self._parts = [
            tuple(mirror.tensor[span] for mirror in (self._weights, self._gradient, self._first, self._second))
            for span in spans
        ]
        self._steps = [torch.zeros((), device=device) for _ in self._groups]
        self._updates = 0

    def initial(self, port: str) -> Any:
        """The first weights."""
        weights = self._weights.pull().copy()
        return weights[: self._acting] if port == "policy" else weights

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Take a step, if there are gradients, and send the weights."""
        gradients = inputs["gradient"]
        if gradients[0] is not None:
            self._step(gradients)
        weights = self._weights.pull()
        outputs["parameters"][...] = weights
        outputs["policy"][...] = weights[: self._acting]

    def tallies(self) -> Mapping[str, Any]:
        """Updates so far, and the weights."""
        return {"updates": self._updates, "weights": self._weights.pull().copy()}

    def state(self) -> Mapping[str, Any]:
        """Weights, moments, and how often each group was stepped."""
        return {
            "updates": self._updates,
            "weights": self._weights.pull(),
            "first": self._first.pull(),
            "second": self._second.pull(),
            "steps": [step.item() for step in self._steps],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._updates = state["updates"]
        self._weights.load(state["weights"])
        self._first.load(state["first"])
        self._second.load(state["second"])
        for step, count in zip(self._steps, state["steps"], strict=True):
            step.fill_(count)

    def _step(self, gradients: Sequence[Any]) -> None:
        """Add up the gradients and step every group that is due."""
        total = self._gradient.array
        np.copyto(total, gradients[0])
        for gradient in gradients[1:]:
            np.add(total, gradient, out=total)
        self._gradient.push()
        self._updates += 1
        due = [number for number, group in enumerate(self._groups) if group.is_due(self._updates)]
        for rate in dict.fromkeys(self._groups[number].rate for number in due):
            together = [number for number in due if self._groups[number].rate == rate]
            weights, slopes, first, second = (
                list(parts) for parts in zip(*(self._parts[n] for n in together), strict=True)
            )
            self._adam(
                weights,
                slopes,
                first,
                second,
                [],
                [self._steps[number] for number in together],
                fused=True,
                amsgrad=False,
                beta1=FIRST_DECAY,
                beta2=SECOND_DECAY,
                lr=rate,
                weight_decay=0.0,
                eps=EPSILON,
                maximize=False,
            )
