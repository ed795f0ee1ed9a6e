"""FrameReplay: a prioritized or uniform buffer for images, which stores every frame once.

A row refers to its frames by their slots in `FrameRings`; the references are fields of a `PrioritizedReplay`, which
does the rest: priorities, weights, generations. What is here is which rows may be drawn: those whose frames are all
still there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from workloads.replay.buffer import Buffer
from workloads.replay.content import array_of
from workloads.replay.fields import columns_of, fields_of, outputs_of
from workloads.replay.frame_rings import FrameRings
from workloads.replay.frame_steps import checked_starts, image_of
from workloads.replay.importance import checked_priorities
from workloads.replay.n_step import NStep, environments_of
from workloads.replay.prioritized import PrioritizedReplay
from workloads.replay.saving import Saved, restoring
from workloads.replay.tree_arguments import integer

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = ["FrameReplay"]


class FrameReplay(Buffer):
    """Stores steps of environments that observe images; takes and gives what a buffer of whole observations does.

    One field is the image, `obs` unless said otherwise, and with `next_obs` it is stored once a frame: the next
    observation of a step is the observation of the one after, and stacks of the last frames overlap. All other
    fields (vectors beside the image in a Dict space, `action`, `reward`) are stored whole in each row. Rows have
    n-step returns as `NStep` makes them, so there is a field `discounts` more; n_steps = 1 is plain transitions.

    Every environment has a ring of `capacity // environments` frames. The last observation of an episode takes a
    slot as well, at which no row begins. A row can be drawn from when its n successors are there, or its episode
    ended, until one of its frames is overwritten, or `capacity` rows were added after it.

    For one thread of one process.

    Attributes:
        capacity: frames that there is room for in all rings together; the oldest of a ring is overwritten first.
        fields: shape and dtype of each field that `sample` gives, by name.
        field_names: their names.
        environments: how many there are.
    """

    KIND = "frames"

    def __init__(  # noqa: PLR0913 - those of PrioritizedReplay, and those of frames
        self,
        capacity: int,
        fields: Mapping[str, tuple[int | tuple[int, ...], DTypeLike]],
        alpha: float = 0.6,
        eps: float = 0.0,
        seed: int = 0,
        *,
        images: str = "obs",
        stack_size: int | None = None,
        padding_type: str | ArrayLike = "reset",
        environments: int = 1,
        n_steps: int = 1,
        gamma: float = 0.99,
    ) -> None:
        """Make an empty buffer.

        Args:
            capacity: frames that there is room for.
            fields: of one step, as `transition_fields` gives them: `obs` and `next_obs` alike, of the shape that the
                environment gives (with stacks: (stack_size, *frame)); `reward`, `terminated` and `truncated`.
            alpha: exponent of priorities; 0 draws uniformly, and weights are ones.
            eps: added to every priority that is not 0.
            seed: of the generator, PCG64.
            images: name of the field that is an image; its next one is called `next_` and this.
            stack_size: how many frames an observation is a stack of, the newest last, as `FrameStackObservation`
                of Gymnasium makes them; None: it is a single frame, and no stack.
            padding_type: what that wrapper was given: "reset", "zero", or a frame; what a stack consists of before
                the first frame of an episode.
            environments: how many there are.
            n_steps: the most steps that a row goes.
            gamma: the discount of one step.

        Raises:
            TypeError: if an argument is of the wrong type.
            ValueError: if an argument is out of its range, or the fields are not as said here.
        """
        self._steps = fields_of(fields)
        by_name = {field.name: field for field in self._steps}
        self.images = (images, f"next_{images}")
        image = image_of(by_name, self.images, stack_size)
        self._has_stacks = stack_size is not None
        self.stack_size = 1 if stack_size is None else integer("stack_size", stack_size)
        # In a row, a frame is a reference to it.
        rows = {field.name: (field.shape, field.dtype) for field in self._steps}
        rows |= dict.fromkeys(self.images, ((), np.dtype(np.int64)))
        self._n_step = NStep(rows, n_steps, gamma, environments)
        self.environments = self._n_step.environments
        slots = integer("capacity", capacity) // self.environments
        least = self._n_step.n_steps + self.stack_size + 1
        if slots < least:
            raise ValueError(
                f"capacity is {capacity}, which is {slots} frames for each of {self.environments} environments. "
                f"A row and the step after it need up to {least}: give room for {least * self.environments}."
            )
        # So many steps, of two frames at most, leave all frames there that a row begun before them needs.
        self._at_once = (slots - least + 2) // 2
        self.capacity = slots * self.environments
        frame = image.shape[1:] if self._has_stacks else image.shape
        self._rings = FrameRings(self.environments, slots, frame, image.dtype, self.stack_size, padding_type)
        self._stack_shape = (self.stack_size, *frame)
        self._rows = PrioritizedReplay(self.capacity, self._n_step.fields, alpha, eps, seed)
        self.fields = self._rows.fields | dict.fromkeys(self.images, (image.shape, image.dtype))
        self.field_names = tuple(self.fields)
        self._running = np.zeros(self.environments, np.bool_)
        # A row that can be drawn, and the slot of its first frame: each knows the other, or -1.
        self._slot_of_row = np.full(self.capacity, -1, np.int64)
        self._row_of_slot = np.full(self.capacity, -1, np.int64)
        self._drawable = 0

    def __len__(self) -> int:
        """Rows that can be drawn."""
        return self._drawable

    def __repr__(self) -> str:
        """Says what is stored, and how much of it."""
        return (
            f"{type(self).__name__}({len(self)} rows, {self.capacity} frames of {', '.join(self.field_names)}; "
            f"environments={self.environments}, stack_size={self.stack_size})"
        )

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is stored, when all room is taken."""
        return self._rings.nbytes + self._rows.nbytes + self._slot_of_row.nbytes + self._row_of_slot.nbytes

    def add(
        self, *, priorities: ArrayLike | None = None, env: ArrayLike | None = None, **values: ArrayLike
    ) -> NDArray[np.int64]:
        """Store one step, or N.

        Observations are given whole, as to any other buffer: with their stacks. Frames are compared, so that what
        is drawn is what was given: the newest frame of an `obs` is that of the `next_obs` of its environment's
        step before, or begins an episode, then the stack is padded; and it is the newest but one of its own
        `next_obs`. With environments that reset themselves, the `next_obs` that ends an episode is its real last
        observation, not the first of the next.

        Args:
            priorities: of the row, or of each, where a row is one step; without them, the largest ever given. With
                more steps, rows come later: give theirs to `update_priorities` with the indices returned here.
            env: which environment each step is of, as in `NStep.push`.
            values: every field, of shape `shape` for one step, or (N, *shape); cast as `same_kind`.

        Returns:
            Where the rows are that are whole by this, int64, of shape (M,); M is N where a row is one step.

        Raises:
            TypeError: if a field is missing, unknown, or of a dtype that cannot be cast.
            ValueError: if a shape, an environment or a priority is not possible, or a frame is not what the step
                before said. Nothing is stored then.
        """
        columns, single = columns_of(self._steps, values)
        step = {field.name: column for field, column in zip(self._steps, columns, strict=True)}
        envs = environments_of(env, len(columns[0]), self.environments)
        if priorities is not None:
            if self._n_step.n_steps > 1:
                raise ValueError(
                    f"Priorities were given with steps, but a row goes {self._n_step.n_steps} steps and is added "
                    "later. Give them by update_priorities(add(...), priorities)."
                )
            priorities = checked_priorities(priorities, () if single else envs.shape)
        for name in self.images:
            step[name] = step[name].reshape(-1, *self._stack_shape)
        starts = checked_starts(self._rings, self._running, self.images, envs, step)
        pieces = (slice(i, i + self._at_once) for i in range(0, len(envs), self._at_once))
        added = [self._add_piece(envs[p], starts[p], {name: c[p] for name, c in step.items()}) for p in pieces]
        indices = np.concatenate([np.empty(0, np.int64), *added])
        if priorities is not None:
            self.update_priorities(indices, priorities)
        return indices

    def sample(
        self,
        n: int,
        beta: float = 0.4,
        normalise: Literal["batch", "buffer"] = "batch",
        stratified: bool = False,  # noqa: FBT001, FBT002 - part of the interface
        out: Mapping[str, NDArray[Any]] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Draw n rows as `PrioritizedReplay.sample` does; observations are put together from their frames.

        Raises:
            ValueError: if no row can be drawn, or an argument is out of its range.
        """
        given = {} if out is None else out
        batch = self._rows.sample(
            n, beta, normalise, stratified, {name: a for name, a in given.items() if name not in self.images}
        )
        images = outputs_of(
            {name: self.fields[name] for name in self.images},
            len(batch["indices"]),
            {name: a for name, a in given.items() if name in self.images},
        )
        for name, image in images.items():
            self._rings.stacks(batch[name], image.reshape(-1, *self._stack_shape))
        return batch | images

    def update_priorities(self, indices: ArrayLike, priorities: ArrayLike, generations: ArrayLike | None = None) -> int:
        """As `PrioritizedReplay.update_priorities`; rows that have lost a frame since stay out of reach."""
        updated = self._rows.update_priorities(indices, priorities, generations)
        where = np.asarray(indices, np.int64).reshape(-1)
        lost = self._slot_of_row[where] < 0
        if not lost.any():
            return updated
        versions = None if generations is None else np.asarray(generations).reshape(-1)[lost]
        return updated - self._rows.update_priorities(where[lost], np.zeros(lost.sum()), versions)

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Everything, as `PrioritizedReplay.state`: the steps that wait for their successors, too."""
        config, arrays = self._state()
        return config, {name: array.copy() for name, array in arrays.items()}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """As `Buffer.from_state` says."""
        replay = cls(**_arguments_of(config, arrays))
        replay._take_over(config, arrays)
        for name, frames in replay._rings.stored().items():
            frames[...] = array_of(arrays, name, frames.shape, frames.dtype)
        return replay

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """As `Buffer.load` says."""
        with Saved(path, cls.KIND) as saved, restoring(path):
            arrays = {name: saved.read(name) for name in saved.arrays if not name.startswith("frames/")}
            replay = cls(**_arguments_of(saved.config, arrays))
            replay._take_over(saved.config, arrays)
            # Into their place at once: they may fill most of the memory that there is.
            for name, frames in replay._rings.stored().items():
                saved.read_into(name, frames)
        return replay

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """What `state` gives, as views where that is possible."""
        rows_config, rows = self._rows.state()
        config = {
            "rows": rows_config,
            "fields": [[field.name, list(field.shape), field.dtype.name] for field in self._steps],
            "images": self.images[0],
            "stack_size": self.stack_size if self._has_stacks else None,
            "repeats_first": self._rings.repeats_first,
            "environments": self.environments,
            "n_steps": self._n_step.n_steps,
            "gamma": self._n_step.gamma,
        }
        arrays = {
            **{f"rows/{name}": array for name, array in rows.items()},
            **{f"waiting/{name}": array for name, array in self._n_step.state().items()},
            **self._rings.state(),
            **self._rings.stored(),
            "running": self._running,
            "slot_of_row": self._slot_of_row[: len(self._rows)],
        }
        return config, arrays

    def _take_over(self, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Be, except for the frames, what `state` gave, which is looked at closely: somebody may have made it up."""
        rows = PrioritizedReplay.from_state(config["rows"], _below("rows/", arrays))
        if (rows.capacity, rows.fields) != (self.capacity, self._rows.fields):
            raise ValueError(f"rows of {rows.fields} do not belong to such frames.")
        waiting = _below("waiting/", arrays)
        self._rings.restore(arrays)
        self._n_step.restore(waiting)
        self._rows = rows
        self._running[...] = array_of(arrays, "running", self._running.shape, self._running.dtype)
        slots = array_of(arrays, "slot_of_row", (len(rows),), np.dtype(np.int64))
        drawable = np.flatnonzero(slots >= 0)
        first, last = (arrays[f"rows/fields/{name}"][drawable] for name in self.images)
        if not (
            all(self._rings.holds(references).all() for references in (first, last, waiting[self.images[0]]))
            and np.array_equal(slots[drawable], first)
            and len(np.unique(first)) == len(first)
            and not arrays["rows/leaves"][slots < 0].any()
        ):
            raise ValueError("rows refer to frames that are not there, or that are of others.")
        self._slot_of_row[: len(rows)] = slots
        self._row_of_slot[first] = drawable
        self._drawable = len(drawable)

    def _add_piece(
        self, envs: NDArray[np.int64], starts: NDArray[np.bool_], step: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.int64]:
        """Store steps that are few enough for no ring to overwrite what the rows made of them need."""
        obs, next_obs = (step[name] for name in self.images)
        last = np.cumsum(1 + starts) - 1
        first = np.zeros(last[-1] + 1, np.bool_)
        first[last[starts] - 1] = True
        slots, retired = self._rings.take(np.repeat(envs, 1 + starts), first)
        self._retire(retired)
        self._rings.frames[slots[last]] = next_obs[:, -1]
        self._rings.frames[slots[first]] = obs[starts, -1]
        self._running[envs] = ~(step["terminated"] | step["truncated"])
        references = zip(self.images, (self._rings.neighbours(slots[last], -1), slots[last]), strict=True)
        rows = self._n_step.push(env=envs, **{**step, **dict(references)})
        first_slots = rows[self.images[0]]
        if not len(first_slots):
            return first_slots
        indices = self._rows.add(**rows)
        self._forget(indices)
        self._slot_of_row[indices] = first_slots
        self._row_of_slot[first_slots] = indices
        self._drawable += len(indices)
        return indices

    def _retire(self, slots: NDArray[np.int64]) -> None:
        """Make undrawable the rows that begin at `slots`."""
        rows = np.unique(self._row_of_slot[slots])
        rows = rows[rows >= 0]
        self._forget(rows)
        self._rows.update_priorities(rows, np.zeros(len(rows)))

    def _forget(self, rows: NDArray[np.int64]) -> None:
        """Part rows from the slots at which they begin."""
        slots = self._slot_of_row[rows]
        known = slots[slots >= 0]
        self._row_of_slot[known] = -1
        self._slot_of_row[rows] = -1
        self._drawable -= len(known)


def _arguments_of(config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What a `FrameReplay` was made with, of what its `state` gave."""
    if not config["n_steps"] <= config["rows"]["capacity"] == len(arrays["history"]):
        raise ValueError("it says that it is larger than it is.")  # before memory is taken for that
    return {
        **{name: config["rows"][name] for name in ("capacity", "alpha", "eps", "seed")},
        **{name: config[name] for name in ("images", "stack_size", "environments", "n_steps", "gamma")},
        "fields": {name: (tuple(shape), dtype) for name, shape, dtype in config["fields"]},
        "padding_type": "reset" if config["repeats_first"] else arrays["padding"],
    }


def _below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Those arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
