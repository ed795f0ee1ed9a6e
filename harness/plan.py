"""What a run does, in order: cells, the runtimes that are compared on each, and blocks over them.

A *cell* is a workload with its parameters. A *block* is one pass over the runtimes of a cell. Blocks come
in twos: a random order of the runtimes and then its mirror image (A B B A), so that a slow drift of the
machine falls on all alike. The cells take turns after every two blocks, in an order that is drawn anew each
time, so that a slow spell of the machine falls on no cell alone. All orders follow from the plan's seed.
Block b uses seed + b on every runtime.

Where versions of the program are compared, each runtime of a cell runs on both *sides* in a block, and
they take the place of the runtimes in all this.

A plan may also say what is *trained*: cells whose learning is looked at while it goes on (`harness.learning`), in the
same order with seeds in place of blocks.
"""

from __future__ import annotations

import os
import shlex
from fnmatch import fnmatchcase
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from harness.errors import UsageError, did_you_mean
from harness.wording import compact_json, indented_json, plural

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from harness.learning.records import TrainingRecord
    from harness.records import Record

__all__ = [
    "Cell",
    "Invocation",
    "Key",
    "LearningCell",
    "LearningSettings",
    "PairingKey",
    "Plan",
    "PlanFile",
    "RuntimeChoice",
    "Settings",
    "in_plan_order",
    "key_of",
    "mirrored",
    "pairing_of",
    "pairing_with",
    "planned_pairings",
    "resume_command",
    "schedule",
    "select_cells",
    "select_learning",
]

Key = tuple[str, str, str, str, str, int, int]
"""What tells invocations of one run apart: workload, parameters, runtime, options, side, block, seed."""


PairingKey = tuple[str, str, str, str]
"""A cell on a runtime: workload, parameters, runtime, options."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run measures; a suite gives some of it, the command line overrides."""

    invocations: Annotated[int, Meta(description="blocks: passes over the runtimes of each cell", ge=1)] = 2
    warmup_rounds: Annotated[int, Meta(description="unmeasured rounds at first, equal for all runtimes", ge=0)] = 50
    rounds: Annotated[
        int, Meta(description="least number of measured rounds; the digest is taken after them", ge=1, le=5_000_000)
    ] = 20
    measure_s: Annotated[
        float,
        Meta(description="seconds of measured rounds; who is done with the rounds sooner goes on", ge=0, le=86_400),
    ] = 1.0
    timeout_s: Annotated[float, Meta(description="seconds after which an invocation is ended", gt=0, le=86_400)] = 300.0
    seed: Annotated[int, Meta(description="seed of block 0; block b uses seed + b", ge=0, lt=2**32)] = 0
    metrics: Annotated[list[str], Meta(description="what else is measured, by name")] = []


class LearningSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How learning is looked at; a suite gives some of it, the command line overrides."""

    seeds: Annotated[int, Meta(description="how many trainings on each runtime, from the plan's seed on", ge=1)] = 3
    every_rounds: Annotated[int, Meta(description="rounds from one evaluation to the next", ge=1)] = 100
    cap_rounds: Annotated[int, Meta(description="rounds after which a training ends", ge=1, le=100_000_000)] = 1000
    episodes: Annotated[int, Meta(description="episodes of an evaluation", ge=1)] = 20
    target: Annotated[float | None, Meta(description="the mean return of an evaluation that is aimed at")] = None
    stop_at_target: Annotated[
        bool, Meta(description="end a training with the first evaluation that reaches the target")
    ] = False
    timeout_s: Annotated[float, Meta(description="seconds after which a training is ended", gt=0, le=864_000)] = 3600.0


class RuntimeChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime with all its options, defaults included."""

    name: str
    options: dict[str, Any]
    is_bound: bool = False
    """It is no competitor but a bound on all of them."""
    differs: str | None = None
    """Why it computes something else than the plain loop, where it does: it is compared on units of work only."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A workload with all its parameters, and how each of `runtimes` is measured on it."""

    workload: str
    parameters: dict[str, Any]
    runtimes: tuple[RuntimeChoice, ...]
    warmup_rounds: int
    rounds: int
    measure_s: float
    metrics: tuple[str, ...] = ()
    """What else is measured, by name."""
    name: str = ""
    """How a suite calls it; `--cells` selects by it."""
    round_s: float = 0.0
    """About what a round takes without any communication, to guess how long a run takes; 0 where nobody said."""


class LearningCell(LearningSettings, frozen=True, kw_only=True):
    """A workload with all its parameters that is trained on each of `runtimes`, and how its learning is looked at."""

    workload: str
    parameters: dict[str, Any]
    runtimes: tuple[RuntimeChoice, ...]
    name: str = ""
    """As of a cell."""
    round_s: float = 0.0
    """As of a cell."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run; two runs with equal plans do the same."""

    name: str
    title: str
    invocations: int
    timeout_s: float
    seed: int
    cells: tuple[Cell, ...]
    sides: tuple[str, ...] = ()
    """The versions of the program that are compared, by name; none where runtimes are compared."""
    learning: tuple[LearningCell, ...] = ()
    """What is trained, after all cells have been measured."""

    @property
    def names(self) -> list[str]:
        """How its cells are called, those that are trained last; some may be empty."""
        return [cell.name for cell in self.cells] + [cell.name for cell in self.learning]


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """One cell on one runtime, once."""

    number: int
    """Position in the run, from 1."""
    cell: Cell
    runtime: RuntimeChoice
    block: int
    seed: int
    side: str = ""
    """The version of the program that runs, where versions are compared."""

    @property
    def pairing(self) -> PairingKey:
        """Its cell and runtime."""
        return pairing_with(self.cell, self.runtime)

    @property
    def key(self) -> Key:
        """What tells it apart from the other invocations of the run."""
        return *self.pairing, self.side, self.block, self.seed


def pairing_with(cell: Cell | LearningCell, runtime: RuntimeChoice) -> PairingKey:
    """A cell and a runtime, in a form to compare."""
    return cell.workload, compact_json(cell.parameters), runtime.name, compact_json(runtime.options)


def key_of(record: Record) -> Key:
    """The key of the invocation that `record` came from."""
    return *pairing_of(record), record.side, record.block, record.seed


def pairing_of(record: Record | TrainingRecord) -> PairingKey:
    """The cell and runtime that `record` came from."""
    return record.workload, compact_json(record.parameters), record.runtime, compact_json(record.options)


def schedule(plan: Plan) -> list[Invocation]:
    """All invocations in order: two blocks of each cell, the second a mirror image of the first, then two more."""
    order = mirrored([(cell, plan.invocations, members) for cell, members in _groups(plan)], f"order {plan.seed}")
    return [
        Invocation(number=number, cell=cell, runtime=runtime, side=side, block=block, seed=plan.seed + block)
        for number, (cell, (runtime, side), block) in enumerate(order, start=1)
    ]


Group = TypeVar("Group")
Member = TypeVar("Member")


def mirrored(groups: Sequence[tuple[Group, int, Sequence[Member]]], name: str) -> list[tuple[Group, Member, int]]:
    """The members of each group, in its number of blocks, in the order that the text above describes.

    The order follows from `name`; more blocks change nothing about those before.
    """
    order: list[tuple[Group, Member, int]] = []
    for block in range(0, max((blocks for _, blocks, _ in groups), default=0), 2):
        random = Random(f"{name} {block}")  # noqa: S311 - an order to reproduce
        turns = [(group, blocks, list(members)) for group, blocks, members in groups]
        random.shuffle(turns)
        for group, blocks, members in turns:
            random.shuffle(members)
            order += [(group, member, block) for member in members if block < blocks]
            order += [(group, member, block + 1) for member in reversed(members) if block + 1 < blocks]
    return order


def _groups(plan: Plan) -> list[tuple[Cell, list[tuple[RuntimeChoice, str]]]]:
    """What is compared with one another, and so runs one right after the other: the runtimes of a cell, or sides."""
    if plan.sides:
        return [(cell, [(runtime, side) for side in plan.sides]) for cell in plan.cells for runtime in cell.runtimes]
    return [(cell, [(runtime, "") for runtime in cell.runtimes]) for cell in plan.cells]


def planned_pairings(plan: Plan) -> dict[PairingKey, Invocation]:
    """Every cell and runtime of `plan`, in order, with its first invocation."""
    invocations = [
        Invocation(number=0, cell=cell, runtime=runtime, block=0, seed=plan.seed)
        for cell in plan.cells
        for runtime in cell.runtimes
    ]
    return {invocation.pairing: invocation for invocation in invocations}


def in_plan_order(records: Sequence[Record], plan: Plan | None) -> list[Record]:
    """`records` by cell and runtime, in the order of `plan`; what it does not have comes last.

    Those of one cell and runtime keep their order. Without a plan all do.
    """
    pairings = [] if plan is None else planned_pairings(plan)
    place = {pairing: number for number, pairing in enumerate(pairings)}
    return sorted(records, key=lambda record: place.get(pairing_of(record), len(place)))


def select_cells(plan: Plan, patterns: Sequence[str]) -> list[Cell]:
    """The cells of `plan` whose names match one of `patterns`, as file names do (`*`, `?`, `[...]`); all without any.

    Raises:
        UsageError: for a pattern that matches none, nor any of those that are trained.
    """
    _check_patterns(plan, patterns)
    return [cell for cell in plan.cells if _is_selected(cell.name, patterns)]


def select_learning(plan: Plan, patterns: Sequence[str]) -> list[LearningCell]:
    """As `select_cells`, of what `plan` trains.

    Raises:
        UsageError: for a pattern that matches none, nor any other cell.
    """
    _check_patterns(plan, patterns)
    return [cell for cell in plan.learning if _is_selected(cell.name, patterns)]


def _is_selected(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_patterns(plan: Plan, patterns: Sequence[str]) -> None:
    all_names = plan.names
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in all_names):
            names = [name for name in all_names if name]
            known = did_you_mean(pattern, names) if names else "Its cells have no names."
            raise UsageError(f"No cell of '{plan.name}' is called '{pattern}'. {known}")


def resume_command(folder: Path, patterns: Sequence[str] = (), *, command: str = "run") -> str:
    """What to type to go on with the run in `folder`, with the cells that match `patterns` if there are any."""
    selected = "".join(f" --cells {shlex.quote(pattern)}" for pattern in patterns)
    return f"reactorbench {command} --resume --out {shlex.quote(os.fspath(folder))}{selected}"


class PlanFile:
    """The file `plan.json` of a results folder: what its records belong to."""

    def __init__(self, folder: Path) -> None:
        """Name the file below `folder`; nothing is read or written yet."""
        self.path = folder / "plan.json"

    def write(self, plan: Plan) -> None:
        """Store `plan`."""
        self.path.write_bytes(indented_json(plan))

    def read(self) -> Plan:
        """The stored plan.

        Raises:
            UsageError: if there is none, or the file is not a plan.
        """
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Plan)
        except OSError as error:
            raise UsageError(
                f"There is no run to resume: {self.path} cannot be read ({error.strerror}). "
                "Name the --out folder of a run that was begun."
            ) from error
        except msgspec.DecodeError as error:
            raise UsageError(f"{self.path} is not a plan: {error}. Measure into another folder.") from error

    def read_if_there(self) -> Plan | None:
        """The stored plan; None where there is none that can be read, as in a folder of records alone."""
        try:
            return self.read()
        except UsageError:
            return None

    def keep(self, plan: Plan, *, resume: bool) -> None:
        """Store `plan`; on resume of what is stored, as `extend`.

        Raises:
            UsageError: as `extend`.
        """
        if resume and self.path.exists():
            self.extend(plan)
        else:
            self.write(plan)

    def extend(self, plan: Plan) -> None:
        """Make sure that `plan` is the stored one, or the stored one with more blocks or seeds, and store it then.

        Raises:
            UsageError: if it is another one; the message says what differs.
        """
        stored = self.read()
        smaller = _cut_to(plan, stored)
        self.check_equal(smaller)
        if smaller != plan:
            self.write(plan)

    def check_equal(self, plan: Plan) -> None:
        """Make sure that `plan` is the stored one.

        Raises:
            UsageError: if it is not; the message says what differs.
        """
        stored = self.read()
        differing = _differences(stored, msgspec.json.decode(msgspec.json.encode(plan), type=Plan))
        if differing:
            raise UsageError(
                f"The run in {self.path.parent} has another plan: {'; '.join(differing)}. Resume it without other "
                f"arguments ({resume_command(self.path.parent)}), or choose another folder."
            )


OneCell = TypeVar("OneCell", Cell, LearningCell)


def _cut_to(plan: Plan, stored: Plan) -> Plan:
    """`plan` with as many blocks and seeds as `stored` has, where it has more."""
    if len(plan.learning) == len(stored.learning):
        learning = tuple(
            msgspec.structs.replace(ours, seeds=min(ours.seeds, theirs.seeds))
            for ours, theirs in zip(plan.learning, stored.learning, strict=True)
        )
        plan = msgspec.structs.replace(plan, learning=learning)
    return msgspec.structs.replace(plan, invocations=min(plan.invocations, stored.invocations))


def _differences(stored: Plan, asked: Plan) -> Sequence[str]:
    """What differs, value there against value here; cells as a whole where their number or content differs."""
    differing = [
        f"{name} is {getattr(stored, name)!r} there and {getattr(asked, name)!r} here"
        for name in ("name", "invocations", "timeout_s", "seed", "sides")
        if getattr(stored, name) != getattr(asked, name)
    ]
    differing += _differing_cells("cell", stored.cells, asked.cells)
    return differing + _differing_cells("training cell", stored.learning, asked.learning)


def _differing_cells(noun: str, there: Sequence[OneCell], here: Sequence[OneCell]) -> list[str]:
    if len(there) != len(here):
        return [f"{plural(len(there), noun)} there and {len(here)} here"]
    return [
        f"{name} of {noun} {number} ({theirs.workload}) differ"
        for number, (theirs, ours) in enumerate(zip(there, here, strict=True), start=1)
        for name in theirs.__struct_fields__
        if getattr(theirs, name) != getattr(ours, name)
    ]
