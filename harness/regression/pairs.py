"""Pairs of invocations that did the same work, and what they say: the time of the one over that of the other.

The two of a pair have the cell, the runtime, the block and the seed in common, so they do the same things in the
same order. An invocation goes on until its time is filled, so the faster one does more rounds: what is compared is
the total time over the rounds that both did.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.records import Record

__all__ = ["Pair", "Sample", "common_times", "pairs_of", "rounds_of", "time_of_rounds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An invocation that ended `ok`, and where its record is."""

    record: Record
    line: int
    """In `records.jsonl`, from 1; 0 where it is no record of a run but from a stored baseline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two invocations of one seed, and how long their common rounds took."""

    block: int
    seed: int
    rounds: int
    base_s: float
    head_s: float
    base_line: int
    """The line in `records.jsonl` of its run, from 1; 0 where the base is a stored baseline."""
    head_line: int

    @property
    def log_ratio(self) -> float:
        """The natural logarithm of the head's time over the base's: positive where the head is slower."""
        return math.log(self.head_s / self.base_s)


def pairs_of(base: Mapping[int, Sample], head: Mapping[int, Sample]) -> list[Pair]:
    """The pairs of two mappings from seed to sample, by seed, both `ok`; those without a common round are left out."""
    pairs = []
    for seed in sorted(base.keys() & head.keys()):
        before, after = base[seed], head[seed]
        if not before.record.outcome == after.record.outcome == "ok":
            continue
        rounds, base_s, head_s = common_times(before.record, after.record)
        if base_s > 0 and head_s > 0:
            pairs.append(
                Pair(
                    block=after.record.block,
                    seed=seed,
                    rounds=rounds,
                    base_s=base_s,
                    head_s=head_s,
                    base_line=before.line,
                    head_line=after.line,
                )
            )
    return pairs


def common_times(first: Record, second: Record) -> tuple[int, float, float]:
    """How many measured rounds both did, and how long each took over them, in seconds."""
    rounds = min(rounds_of(first), rounds_of(second))
    return rounds, time_of_rounds(first, rounds), time_of_rounds(second, rounds)


def time_of_rounds(record: Record, rounds: int) -> float:
    """How long the first `rounds` measured rounds took, in seconds; a value cut in two counts in proportion."""
    if rounds >= rounds_of(record) and record.measured_s:
        return record.measured_s
    whole, rest = divmod(rounds, record.rounds_per_value)
    total_s = math.fsum(record.rounds_s[:whole]) * record.rounds_per_value
    return total_s + (record.rounds_s[whole] * rest if rest else 0.0)


def rounds_of(record: Record) -> int:
    """How many rounds were measured."""
    # Records of the first versions have no sum, but a value for each so many rounds.
    return record.measured_rounds or len(record.rounds_s) * record.rounds_per_value
