"""What a `FrameReplay` is given: is it images, and do the observations of its steps follow each other?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workloads.replay.fields import Field
    from workloads.replay.frame_rings import FrameRings

__all__ = ["checked_starts", "image_of"]


def image_of(fields: Mapping[str, Field], names: tuple[str, str], stack_size: int | None) -> Field:
    """The field of the image, and of the next one, which `names` call.

    Raises:
        ValueError: if there are no such fields, they differ, or have no stacks of this size.
    """
    for name in names:
        if name not in fields:
            raise ValueError(
                f"The fields {', '.join(fields)} have no '{name}'. An image has a field and one for the next: name "
                "the first by images='obs.camera'; several images, or none, are for PrioritizedReplay."
            )
    image, after = (fields[name] for name in names)
    if (image.shape, image.dtype) != (after.shape, after.dtype):
        raise ValueError(f"'{names[0]}' is {image}, but '{names[1]}' is {after}. Both are of one shape and dtype.")
    if stack_size is not None and (stack_size < 1 or image.shape[:1] != (stack_size,)):
        raise ValueError(
            f"'{names[0]}' has shape {image.shape}, but with stack_size={stack_size} its first axis is the frames of "
            "a stack. Give that number, or None if an observation is no stack."
        )
    return image


def checked_starts(
    rings: FrameRings,
    running: NDArray[np.bool_],
    images: tuple[str, str],
    envs: NDArray[np.int64],
    step: Mapping[str, NDArray[Any]],
) -> NDArray[np.bool_]:
    """Which of N steps begin an episode.

    Args:
        rings: what was stored before; the newest frame of each environment is compared.
        running: which environments are within an episode.
        images: names of the observations, which have the shape (N, stack_size, *frame) here.
        envs: which environment each step is of.
        step: all fields.

    Raises:
        ValueError: if an observation is not what was stored before it, or a stack is not as it must be.
    """
    obs, next_obs = (step[name] for name in images)
    before = _same_environment_before(envs)
    again = before >= 0
    starts = np.where(again, (step["terminated"] | step["truncated"])[before], ~running[envs])
    newest = rings.frames[rings.newest(envs)]
    newest[again] = next_obs[before[again], -1]
    wrong = np.flatnonzero(~starts & _differing(obs[:, -1], newest))
    if len(wrong):
        raise ValueError(
            f"Step {wrong[0]}, of environment {envs[wrong[0]]}: '{images[0]}' is not the '{images[1]}' of the step "
            "before, though its episode went on. Where an episode ended, say so by terminated or truncated; and give "
            "the steps of an environment in order."
        )
    first = np.flatnonzero(starts)
    padding = obs[first, -1:] if rings.repeats_first else rings.frames[-1]
    wrong = first[_differing(obs[first, :-1], padding)]
    if len(wrong):
        raise ValueError(
            f"Step {wrong[0]}, of environment {envs[wrong[0]]}, begins an episode, but its stack is not padded as "
            "padding_type says, the newest frame last. Give the padding_type of the environment's wrapper."
        )
    wrong = np.flatnonzero(_differing(next_obs[:, :-1][:, -1:], obs[:, 1:][:, -1:]))
    if len(wrong):
        raise ValueError(
            f"Step {wrong[0]}, of environment {envs[wrong[0]]}: the stack of '{images[1]}' is not that of "
            f"'{images[0]}' moved on by one frame, the newest last. Give the last observation of an episode itself, "
            "not the first of the next."
        )
    return starts


def _same_environment_before(envs: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each step, which of these steps is the one before it in its environment; -1 where none is."""
    order = np.argsort(envs, kind="stable")
    same = envs[order[1:]] == envs[order[:-1]]
    before = np.full(len(envs), -1)
    before[order[1:][same]] = order[:-1][same]
    return before


def _differing(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """In which rows `a` differs from `b`; NaN is equal to NaN."""
    differs: NDArray[np.bool_] = np.not_equal(a, b)
    if a.dtype.kind in "fc":
        differs &= ~((a != a) & (b != b))  # noqa: PLR0124 - only NaN is not itself
    rows: NDArray[np.bool_] = np.logical_or.reduce(differs.reshape(len(a), math.prod(differs.shape[1:])), axis=1)
    return rows
