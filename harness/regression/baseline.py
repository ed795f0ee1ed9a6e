"""Stored baselines: what a finished run measured, small enough to be committed, and checked before it is used.

A baseline is `results/baselines/NAME.json`. Its keys are sorted and its form is always the same, so that a diff shows
what changed. It keeps of every invocation the digest and its rounds as at most 50 means, which is enough to tell how
long any number of first rounds took.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from harness import registry
from harness.errors import UsageError, did_you_mean, writing
from harness.records import Record
from harness.regression.compare import Finished
from harness.regression.pairs import Sample, rounds_of, time_of_rounds
from harness.statistics import LEAST_FOR_INTERVAL
from harness.wording import compact_json, plural

if TYPE_CHECKING:
    from harness.plan import PairingKey, Plan
    from harness.registry import Plugins

__all__ = [
    "FOLDER",
    "SCHEMA_VERSION",
    "Baseline",
    "BaselineFile",
    "Change",
    "Environment",
    "StoredCell",
    "StoredSeed",
    "stored_seed",
    "suite_hash",
]

FOLDER = Path("results", "baselines")
SCHEMA_VERSION = 1

_MOST_VALUES = 50
_MOST_SEEDS = 10_000
_HASH_LENGTH = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Nothing that could be a path, a hidden file or an option."""

_NUMBERS = re.compile(rb"\[\n\s*((?:[-+0-9.eE]+,\s+)*[-+0-9.eE]+)\s+\]")
"""A list of numbers, spread over lines; no text has a line break of its own in JSON."""


class StoredSeed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One invocation."""

    digest: str | None
    measured_rounds: Annotated[int, msgspec.Meta(ge=1)]
    measured_s: Annotated[float, msgspec.Meta(gt=0)]
    """Sum of the durations of all measured rounds."""
    rounds_per_value: Annotated[int, msgspec.Meta(ge=1)]
    rounds_s: list[Annotated[float, msgspec.Meta(ge=0)]]
    """At most 50 durations in order, each the mean over `rounds_per_value` rounds; the last may be over fewer."""


class StoredCell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell on one runtime."""

    workload: str
    parameters: dict[str, Any]
    runtime: str
    options: dict[str, Any]
    is_bound: bool
    differs: str | None
    warmup_rounds: Annotated[int, msgspec.Meta(ge=0)]
    rounds: Annotated[int, msgspec.Meta(ge=0)]
    """Measured rounds up to the checkpoint of the digest."""
    unit: str | None
    units_per_round: int | None
    seeds: dict[int, StoredSeed]

    @property
    def pairing(self) -> PairingKey:
        """Cell and runtime."""
        return self.workload, compact_json(self.parameters), self.runtime, compact_json(self.options)

    def records(self) -> dict[int, Record]:
        """The invocations as records, by seed."""
        parameters = _as_declared(self.parameters, registry.workloads(), self.workload, "parameters")
        options = _as_declared(self.options, registry.runtimes(), self.runtime, "options")
        return {
            seed: Record(
                workload=self.workload,
                parameters=parameters,
                runtime=self.runtime,
                options=options,
                is_bound=self.is_bound,
                differs=self.differs,
                seed=seed,
                block=block,
                outcome="ok",
                warmup_rounds=self.warmup_rounds,
                rounds=self.rounds,
                unit=self.unit,
                units_per_round=self.units_per_round,
                digest=stored.digest,
                measured_rounds=stored.measured_rounds,
                measured_s=stored.measured_s,
                rounds_per_value=stored.rounds_per_value,
                rounds_s=stored.rounds_s,
            )
            for block, (seed, stored) in enumerate(sorted(self.seeds.items()))
        }


class Environment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is listed of the machine's software; a difference is told and never refused."""

    kernel: str | None = None
    python: str | None = None
    packages: dict[str, str] = {}
    thread_limits: dict[str, str] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that an update took over though it was no improvement, and why."""

    date: str
    """ISO 8601, UTC."""
    commit: str | None
    cell: str
    verdict: str
    ratio: float | None
    """The new speed over the old one, where it was measured."""
    reason: str


class Baseline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finished run, kept to compare others with."""

    schema_version: int = SCHEMA_VERSION
    suite: str
    title: str
    suite_hash: str
    commit: str | None
    tree_clean: bool | None
    fingerprint: dict[str, Any]
    environment: Environment
    cells: list[StoredCell]
    history: list[Change] = []

    @property
    def seeds(self) -> range:
        """From the least seed of any cell to the greatest."""
        found = [seed for cell in self.cells for seed in cell.seeds]
        return range(min(found), max(found) + 1)

    @property
    def machine(self) -> dict[str, Any]:
        """The facts about the machine and the software, as records have them."""
        named = {name: self.fingerprint.get(name) for name in ("cpu_model", "architecture", "processors")}
        facts = {"fingerprint": self.fingerprint, "commit": self.commit, "tree_clean": self.tree_clean}
        return {**msgspec.to_builtins(self.environment), **named, **facts}

    def finished(self, name: str) -> Finished:
        """This baseline as one side of a comparison."""
        return Finished(
            name=name,
            title=self.title,
            samples={
                cell.pairing: {seed: Sample(record=record, line=0) for seed, record in cell.records().items()}
                for cell in self.cells
            },
            pairings=tuple(cell.pairing for cell in self.cells),
            machines=(self.machine,),
        )

    def check(self, path: Path) -> None:
        """Make sure of what its types alone do not say; `path` is for messages.

        Raises:
            UsageError: if something is wrong.
        """
        if not self.cells:
            raise UsageError(f"The baseline {path} has no cell. Save it anew: reactorbench baseline save.")
        if not all(cell.seeds for cell in self.cells):
            raise UsageError(f"The baseline {path} has a cell without seeds. Save it anew.")
        if len(self.seeds) > _MOST_SEEDS or self.seeds.start < 0:
            raise UsageError(
                f"The baseline {path} has seeds from {self.seeds.start} to {self.seeds.stop - 1}; they are those of "
                f"consecutive blocks, from 0 on and at most {_MOST_SEEDS:,}. Save it anew."
            )
        pairings = [cell.pairing for cell in self.cells]
        for cell in self.cells:
            name = f"{cell.workload} {compact_json(cell.parameters)} on {cell.runtime}"
            if len(cell.seeds) < LEAST_FOR_INTERVAL:
                raise UsageError(
                    f"The baseline {path} has {plural(len(cell.seeds), 'seed')} of {name}; {LEAST_FOR_INTERVAL} are "
                    "needed for an interval. Save it anew from a longer run."
                )
            if pairings.count(cell.pairing) > 1:
                raise UsageError(f"The baseline {path} has {name} twice. Take one out, or save it anew.")
            for seed, stored in cell.seeds.items():
                values = math.ceil(stored.measured_rounds / stored.rounds_per_value)
                if len(stored.rounds_s) != values:
                    raise UsageError(
                        f"The baseline {path} has {plural(len(stored.rounds_s), 'value')} of {name} for seed {seed}; "
                        f"{stored.measured_rounds} rounds, {stored.rounds_per_value} in a value, make {values}. "
                        "Save it anew."
                    )

    def check_suite(self, plan: Plan, path: Path) -> None:
        """Make sure that `plan` measures what this baseline did.

        Raises:
            UsageError: if it does not.
        """
        here = suite_hash(plan)
        if here != self.suite_hash:
            raise UsageError(
                f"The baseline {path} is of suite '{self.suite}' with hash {self.suite_hash}; '{plan.name}' has {here} "
                "now: cells, parameters, runtimes, options or rounds are others. Give the suite that it was saved "
                "from, or take the change over: reactorbench baseline update."
            )


class BaselineFile:
    """`NAME.json` in a folder of baselines."""

    def __init__(self, name: str, folder: Path = FOLDER) -> None:
        """Name the file; nothing is read or written yet.

        Raises:
            UsageError: if `name` is none for a file.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"A baseline cannot be called '{name}': its name is letters, digits, '.', '_' and '-', the first of "
                "them a letter or digit, and no path. Choose another name."
            )
        self.name = name
        self.path = folder / f"{name}.json"

    @classmethod
    def is_name(cls, text: str, folder: Path = FOLDER) -> bool:
        """Whether there is a baseline called `text` in `folder`."""
        return bool(_NAME.fullmatch(text)) and (folder / f"{text}.json").is_file()

    @staticmethod
    def names(folder: Path = FOLDER) -> list[str]:
        """The baselines in `folder`."""
        return sorted(file.stem for file in folder.glob("*.json"))

    def read(self) -> Baseline:
        """The stored one, checked.

        Raises:
            UsageError: if there is none, or it is not sound.
        """
        try:
            text = self.path.read_bytes()
        except OSError as error:
            if not self.path.exists():
                known = did_you_mean(self.name, self.names(self.path.parent))
                raise UsageError(f"There is no baseline '{self.name}' in {self.path.parent}. {known}") from error
            raise UsageError(f"The baseline {self.path} cannot be read: {error.strerror}. Make it readable.") from error
        remedy = "Restore it from git, or save it anew."
        try:
            schema = msgspec.json.decode(text, type=_Schema).schema_version
        except msgspec.DecodeError as error:
            raise UsageError(f"{self.path} is not a baseline: {error}. {remedy}") from error
        if schema != SCHEMA_VERSION:
            raise UsageError(
                f"The baseline {self.path} has schema {schema}; this version reads {SCHEMA_VERSION}. "
                f"{'Update reactorbench.' if schema > SCHEMA_VERSION else 'Save it anew.'}"
            )
        try:
            found = msgspec.json.decode(text, type=Baseline)
        except msgspec.DecodeError as error:
            raise UsageError(f"{self.path} is not a baseline: {error}. {remedy}") from error
        found.check(self.path)
        return found

    def write(self, baseline: Baseline) -> None:
        """Store `baseline`: whoever reads meanwhile finds the old file or the new one, whole.

        Raises:
            UsageError: if it cannot be written.
        """
        baseline.check(self.path)
        with writing(f"Baseline {self.name}", self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            number, beside = tempfile.mkstemp(prefix=f".{self.name}.", dir=self.path.parent)
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(stable_json(baseline))
                    file.flush()
                    os.fsync(file.fileno())
                # Not readable by others as `mkstemp` leaves it, though it is to be shared.
                Path(beside).chmod(0o644)
                Path(beside).replace(self.path)
            except BaseException:
                Path(beside).unlink(missing_ok=True)
                raise


class _Schema(msgspec.Struct):
    """What is read of a baseline first."""

    schema_version: int


def stable_json(value: Any) -> bytes:
    """`value` as JSON with sorted keys, an element a line, but lists of numbers on one line."""
    plain = msgspec.to_builtins(value, str_keys=True)
    spread = msgspec.json.format(msgspec.json.encode(plain, order="sorted"), indent=1)
    return _NUMBERS.sub(lambda found: b"[" + b", ".join(re.split(rb",\s+", found[1])) + b"]", spread) + b"\n"


def _as_declared(given: dict[str, Any], plugins: Plugins[Any], name: str, which: str) -> dict[str, Any]:
    """`given` in the order in which `name` declares them, which is how people know it; as it is if nobody knows."""
    try:
        declared = getattr(plugins.get(name), which).__struct_fields__
    except UsageError:
        return given
    return {key: given[key] for key in dict.fromkeys([*declared, *given]) if key in given}


def suite_hash(plan: Plan) -> str:
    """What the cells of `plan` do, in a few hexadecimal digits: workloads, parameters, runtimes, options and rounds.

    Not how often and how long: seeds, blocks and seconds; nor in which order, nor how cells are called.
    """
    cells = sorted(
        compact_json(
            [
                cell.workload,
                cell.parameters,
                sorted(compact_json([choice.name, choice.options]) for choice in cell.runtimes),
                cell.warmup_rounds,
                cell.rounds,
            ]
        )
        for cell in plan.cells
    )
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()[:_HASH_LENGTH]


def stored_seed(record: Record) -> StoredSeed:
    """What is kept of `record`, which is `ok`."""
    rounds = rounds_of(record)
    if not record.rounds_s:
        # No rounds were kept: each counts as the mean of all.
        record = msgspec.structs.replace(record, rounds_s=[record.measured_s / rounds], rounds_per_value=rounds)
    together = math.ceil(len(record.rounds_s) / _MOST_VALUES)
    rounds_per_value = record.rounds_per_value * max(together, 1)
    ends = [*range(rounds_per_value, rounds, rounds_per_value), rounds]
    before = [0, *ends[:-1]]
    return StoredSeed(
        digest=record.digest,
        measured_rounds=rounds,
        measured_s=time_of_rounds(record, rounds),
        rounds_per_value=rounds_per_value,
        rounds_s=[_mean(record, start, end) for start, end in zip(before, ends, strict=True)],
    )


def _mean(record: Record, start: int, end: int) -> float:
    """The mean duration of the rounds from `start` to `end`, to six digits."""
    values = record.rounds_s[start // record.rounds_per_value : math.ceil(end / record.rounds_per_value)]
    per_value = record.rounds_per_value
    # The last value may stand for fewer rounds than the others.
    weights = [min(per_value, end - first) for first in range(start, end, per_value)]
    total_s = math.fsum(value * weight for value, weight in zip(values, weights, strict=True))
    return float(f"{total_s / (end - start):.6g}")
