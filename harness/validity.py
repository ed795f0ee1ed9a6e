"""Whether the runtimes of a cell computed the same thing: digests against the sequential runtime's.

Derived anew for every report, never stored. Two digests are comparable only for the same seed, the
same warm-up and the same number of rounds up to the checkpoint. A runtime whose digest differs is invalid
and has no speedup in that cell; the other runtimes of the cell keep theirs.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from harness.records import Record

__all__ = ["Validity", "check_digests"]

Key = TypeVar("Key", bound="Hashable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """What the digests of one cell say."""

    invalid: Mapping[Hashable, str]
    """Why a runtime's results do not count, by the runtime's key; absent for one that computed the same."""
    notes: tuple[str, ...]
    """What could not be checked against a reference."""


def check_digests(measured: Mapping[Key, Sequence[Record]], reference: Key | None) -> Validity:
    """Judge one cell: `measured` holds each runtime's `ok` records, `reference` is the sequential runtime's key.

    Where the reference has no digest for a seed, all others must agree on it, else all of them are invalid.
    """
    comparable: dict[tuple[int, int, int], dict[Key, str | None]] = defaultdict(dict)
    for key, records in measured.items():
        for record in records:
            comparable[record.seed, record.warmup_rounds, record.rounds][key] = record.digest
    offences: dict[Key, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    gaps: dict[str, list[int]] = defaultdict(list)
    for (seed, _, _), digests in comparable.items():
        expected = digests.get(reference) if reference is not None else None
        wrong = _wrong(digests, expected)
        for key in wrong:
            offences[key][_DISAGREE if expected is None else _DIFFERS].append(seed)
        if expected is None and not wrong:
            gaps[_gap(list(digests.values()))].append(seed)
    return Validity(
        invalid={
            key: "; ".join(what.format(seeds=_seeds(seeds)) for what, seeds in kinds.items())
            for key, kinds in offences.items()
        },
        notes=tuple(what.format(seeds=_seeds(seeds)) for what, seeds in gaps.items()),
    )


_DIFFERS = "digest differs from the sequential runtime's for {seeds}"
_DISAGREE = "digests differ among the runtimes for {seeds}, and no sequential result says which is right"
_ABSENT = "Digests are not checked for {seeds}: no runtime recorded one."
_ALONE = "Digests are not checked for {seeds}: a single runtime has a result."
_AGREE = "No sequential result to check digests against for {seeds}; the runtimes agree with one another."


def _wrong(digests: Mapping[Key, str | None], expected: str | None) -> list[Key]:
    """Who computed something else; without a digest to expect, everyone as soon as two differ."""
    if expected is not None:
        return [key for key, digest in digests.items() if digest != expected]
    return list(digests) if len(set(digests.values())) > 1 else []


def _gap(digests: Sequence[str | None]) -> str:
    """What is missing where no digest of the sequential runtime was there and none contradicts another."""
    if None in digests:
        return _ABSENT
    return _ALONE if len(digests) == 1 else _AGREE


def _seeds(seeds: list[int]) -> str:
    few = 6
    numbers = sorted(set(seeds))
    shown = ", ".join(str(seed) for seed in numbers[:few])
    more = f" and {len(numbers) - few} more" if len(numbers) > few else ""
    return f"{'seed' if len(numbers) == 1 else 'seeds'} {shown}{more}"
