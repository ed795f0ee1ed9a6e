"""Frames of several environments, each stored once, in a ring for each environment; stacks are put together from them.

A frame is known by its slot: environment e owns slots e * S to (e + 1) * S - 1, and takes them in turn. With every
frame stands its history: how many frames of the same episode come before it and belong to its stack, at most
stack_size - 1. That is all that stacks, and the rules on overwriting, need to know about episodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workloads.replay.content import array_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["FrameRings"]


class FrameRings:
    """Rings of frames.

    Args:
        environments: how many rings.
        slots: frames in each ring, S.
        shape: of a frame.
        dtype: of a frame.
        stack_size: frames in a stack, the newest last.
        padding_type: what stands for frames before the first of an episode, as in Gymnasium's
            `FrameStackObservation`: "reset", the first frame again; "zero", zeros; or a frame of your own.

    Attributes:
        frames: shape (environments * S + 1, *shape); the last one is the padding.
        history: shape (environments * S,).
        counts: frames so far, for each environment; it takes its slot number count % S next.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all that a ring is made of
        self,
        environments: int,
        slots: int,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        stack_size: int,
        padding_type: str | ArrayLike,
    ) -> None:
        self.slots = slots
        self.stack_size = stack_size
        self.frames = np.zeros((environments * slots + 1, *shape), dtype)
        self.history = np.zeros(environments * slots, np.int32)
        self.counts = np.zeros(environments, np.int64)
        self.repeats_first = isinstance(padding_type, str) and padding_type == "reset"
        if not isinstance(padding_type, str):
            self._set_padding(np.asarray(padding_type))
        elif padding_type not in ("reset", "zero"):
            raise ValueError(
                f"padding_type is {padding_type!r}. It is 'reset' (the first frame of an episode again), 'zero', "
                f"or a frame of shape {shape}."
            )

    def _set_padding(self, frame: NDArray[Any]) -> None:
        if frame.shape != self.frames.shape[1:] or not np.can_cast(frame.dtype, self.frames.dtype, "same_kind"):
            raise ValueError(
                f"padding_type is a frame of shape {frame.shape} and dtype {frame.dtype}, but frames have shape "
                f"{self.frames.shape[1:]} and dtype {self.frames.dtype}. Give such a frame, 'reset' or 'zero'."
            )
        self.frames[-1] = frame

    @property
    def nbytes(self) -> int:
        """Bytes of the frames and of what stands with them."""
        return self.frames.nbytes + self.history.nbytes + self.counts.nbytes

    def stored(self) -> dict[str, NDArray[Any]]:
        """The frames that are there, of each environment: views, to be read or filled, by name."""
        begins = np.arange(len(self.counts)) * self.slots
        ends = begins + np.minimum(self.counts, self.slots)
        return {f"frames/{e}": self.frames[begin:end] for e, (begin, end) in enumerate(zip(begins, ends, strict=True))}

    def state(self) -> dict[str, NDArray[Any]]:
        """All but the frames: views by name."""
        return {"padding": self.frames[-1], "history": self.history, "counts": self.counts}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state` gave.

        Raises:
            KeyError, ValueError: if it is something else.
        """
        for name, array in self.state().items():
            array[...] = array_of(arrays, name, array.shape, array.dtype)
        if self.history.min() < 0 or self.history.max() >= self.stack_size:
            raise ValueError("before a frame there are fewer than none of its stack, or more than that holds.")

    def holds(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether there is a frame in each of `slots`, which may be any numbers."""
        inside = (slots >= 0) & (slots < len(self.history))
        known = np.where(inside, slots, 0)
        there: NDArray[np.bool_] = known % self.slots < self.counts[known // self.slots]
        return inside & there

    def neighbours(self, slots: NDArray[np.int64], distance: int | NDArray[np.int64]) -> NDArray[np.int64]:
        """The slots that are `distance` frames after `slots` (before, where negative) in their rings."""
        place = slots % self.slots
        return slots - place + (place + distance) % self.slots

    def newest(self, envs: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slots that `envs` took last."""
        return self.neighbours(envs * self.slots + self.counts[envs] % self.slots, -1)

    def take(self, envs: NDArray[np.int64], first: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take a slot for each of M frames to come; `first` says which begin an episode. Their `frames` are to be set.

        Returns:
            The slots, shape (M,); and the slots of those older frames whose stacks need what was in them.
        """
        order = np.argsort(envs, kind="stable")
        env, positions = envs[order], np.arange(len(envs))
        begins = np.searchsorted(env, env)
        slots = env * self.slots + (self.counts[env] + positions - begins) % self.slots
        latest_first = np.maximum.accumulate(np.where(first[order], positions, -1))
        history = np.where(
            latest_first >= begins,
            positions - latest_first,
            self.history[self.newest(env)] + positions - begins + 1,
        )
        reach = np.arange(self.stack_size)
        later = self.neighbours(slots[:, None], reach)
        retired = later[self.history[later] >= reach]
        self.history[slots] = np.minimum(history, self.stack_size - 1)
        self.counts += np.bincount(env, minlength=len(self.counts))
        taken = np.empty_like(slots)
        taken[order] = slots
        return taken, retired

    def stacks(self, slots: NDArray[np.int64], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """The stacks that end with the frames in `slots`, copied: shape (n, stack_size, *shape)."""
        reach = np.arange(self.stack_size - 1, -1, -1)
        history = self.history[slots][:, None]
        if self.repeats_first:
            wanted = self.neighbours(slots[:, None], -np.minimum(reach, history))
        else:
            wanted = np.where(reach <= history, self.neighbours(slots[:, None], -reach), len(self.frames) - 1)
        # Slots are never out of range; NumPy's check of that would make it gather into a buffer of its own first.
        return np.take(self.frames, wanted, axis=0, out=out, mode="clip")
