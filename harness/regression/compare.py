"""`compare`: two finished runs, which were not measured in turns, judged by pairs of one seed.

Of each seed the newest record that is `ok` counts. The machine may have changed between the two in ways that no
interval of the one or the other shows, so the margins are wider than those of `check` and every verdict says that
the sides were not interleaved. Runs of different machines are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from harness.errors import UsageError
from harness.fingerprint import Fingerprint, differences
from harness.plan import PlanFile, planned_pairings
from harness.records import RecordFile
from harness.regression.judged import Judged, judge, samples_of
from harness.regression.judging import Margins
from harness.regression.noise import NOT_INTERLEAVED, NoiseFile, percent
from harness.report import machine_line, warnings_of
from harness.wording import compact_json, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from harness.plan import PairingKey
    from harness.records import Record
    from harness.regression.judged import Samples
    from harness.regression.judging import Judgement

__all__ = [
    "Finished",
    "Yardstick",
    "compare_finished",
    "finished_run",
    "forced_across_machines",
]

_LISTED = ("kernel", "python", "packages", "thread_limits")
"""Facts in which two sides may differ without being refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One side of a comparison: a finished run, or a stored baseline made to look like one."""

    name: str
    title: str
    """What was measured, for people: a suite."""
    samples: Samples
    pairings: tuple[PairingKey, ...] = ()
    """What was planned, in order; nothing where no plan is known."""
    machines: tuple[Mapping[str, Any], ...] = ()
    """The different facts about the machine that its records have, oldest first."""
    warnings: tuple[str, ...] = ()

    @property
    def fingerprints(self) -> list[Mapping[str, Any]]:
        """Those that its records have, each once."""
        found = [fingerprint for machine in self.machines if (fingerprint := machine.get("fingerprint"))]
        return list({compact_json(fingerprint): fingerprint for fingerprint in found}.values())

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of its version and software."""
        newest = self.machines[-1] if self.machines else {}
        return {"name": self.name} | {name: newest.get(name) for name in ("commit", "tree_clean", *_LISTED)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """By what margins sides that did not take turns are judged."""

    margins: Margins = field(default_factory=lambda: Margins(same=NOT_INTERLEAVED, beyond=NOT_INTERLEAVED))
    """Where nothing is known of a cell's noise."""
    known: Mapping[PairingKey, float] = field(default_factory=dict)
    """The margin of cells whose noise between runs was measured."""
    fingerprint: Mapping[str, Any] | None = None
    """Of the machine that was measured on."""
    warnings: tuple[str, ...] = ()

    def of(self, pairing: PairingKey) -> Margins:
        """The margins of one cell."""
        margin = self.known.get(pairing)
        return self.margins if margin is None else Margins(same=margin, beyond=margin, target=self.margins.target)

    @classmethod
    def asked(cls, margin: float | None, target: float, noise: Path | None) -> Yardstick:
        """What options ask for: a margin for all, or the folder of `aa --sessions` that measured those of each cell.

        Raises:
            UsageError: for both, for no fraction, or if the folder has no noise.
        """
        if margin is not None and noise is not None:
            raise UsageError(
                f"--margin {margin:g} and --noise {noise} both say how far a ratio may lie from 1. Leave one out."
            )
        given = NOT_INTERLEAVED if margin is None else margin
        margins = Margins(same=given, beyond=given, target=target)
        if noise is None:
            return cls(margins=margins)
        found = NoiseFile(noise).read()
        known = {cell.pairing: cell.margin for cell in found.cells}
        warnings = tuple(
            f"The noise between runs in {noise} comes from {found.sessions} sessions only, so no margin is below "
            f"{percent(NOT_INTERLEAVED)}. Add some: reactorbench aa --sessions N --resume --out {noise}"
            for _ in range(found.sessions < found.enough)
        )
        return cls(margins=margins, known=known, fingerprint=found.fingerprint, warnings=warnings)


def finished_run(folder: Path) -> Finished:
    """The run in `folder`.

    Raises:
        UsageError: if it has no records, is no run but a check, or cannot be read.
    """
    file = RecordFile(folder)
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}. Name the results folder of a finished run.")
    records = file.read()
    sessions = sorted(found.parent.name for found in folder.glob("session-*/records.jsonl"))
    if not records and sessions:
        raise UsageError(
            f"{folder} has {plural(len(sessions), 'session')} of `aa`, each of which is a run. Name one of them: "
            f"{folder / sessions[-1]}; or use their noise: --noise {folder}"
        )
    if not records:
        raise UsageError(
            f"There is nothing to compare in {folder}: {file.path.name} is missing or holds no whole record. "
            f"Measure first: reactorbench run SUITE --out {folder}"
        )
    plan = PlanFile(folder).read_if_there()
    sides = sorted({record.side for record in records if record.side})
    if sides:
        raise UsageError(
            f"{folder} is no run but a check: its records have the sides {' and '.join(sides)}, which were measured "
            f"in turns and are judged as such. Show it with: reactorbench report {folder}"
        )
    return Finished(
        name=folder.name or str(folder),
        title=folder.name if plan is None else plan.title,
        samples=samples_of(records, prefer_ok=True),
        pairings=() if plan is None else tuple(planned_pairings(plan)),
        machines=_machines(records),
        warnings=tuple(f"{folder}: {warning}" for warning in warnings_of(file, records)),
    )


def compare_finished(
    base: Finished,
    head: Finished,
    yardstick: Yardstick | None = None,
    *,
    force: bool = False,
    only: Collection[PairingKey] | None = None,
) -> Judged:
    """The verdicts on `head` against `base`, cell by cell, on those of `only` if given.

    Raises:
        UsageError: if the two are of different machines, and `force` is false.
    """
    yardstick = yardstick or Yardstick()
    stamps = forced_across_machines(base, head, yardstick, force=force)
    before, after = _chosen(base.samples, only), _chosen(head.samples, only)
    order = dict.fromkeys([*head.pairings, *base.pairings])
    margins: Margins | Callable[[PairingKey], Margins] = yardstick.of if yardstick.known else yardstick.margins
    judgements = judge(
        before,
        after,
        order=[pairing for pairing in order if only is None or pairing in only],
        margins=margins,
        interleaved=False,
    )
    warnings = [*_once(base.warnings, head.warnings), *yardstick.warnings, *_unlike_software(base, head)]
    warnings += [*_unknown_machines(base, head), *_own_margins(judgements, yardstick)]
    return Judged(
        title=head.title,
        base_name=base.name,
        head_name=head.name,
        judgements=tuple(judgements),
        margins=yardstick.margins,
        interleaved=False,
        machine=machine_line(head.machines),
        warnings=tuple(warnings),
        stamps=stamps,
        facts={"base": base.facts, "head": head.facts},
    )


def forced_across_machines(base: Finished, head: Finished, yardstick: Yardstick, *, force: bool) -> tuple[str, ...]:
    """What must stand on a comparison that was forced although machines differ; nothing where they do not.

    Raises:
        UsageError: if they do, and `force` is false.
    """
    named: list[tuple[str, str, list[str]]] = [
        (base.name, head.name, _differences(base.fingerprints, head.fingerprints))
    ]
    if yardstick.fingerprint is not None:
        found = _differences([yardstick.fingerprint], head.fingerprints)
        named.append(("The noise between runs", head.name, found))
    said = tuple(
        f"{there} was measured on another machine than {here} ({'; '.join(found)})"
        for there, here, found in named
        if found
    )
    if said and not force:
        raise UsageError(
            f"{'. '.join(said)}. Times of different machines say nothing about the program. Measure both on one, or "
            "add --force to have it all the same, and marked as such."
        )
    return tuple(f"Forced: {one}." for one in said)


def _differences(there: Sequence[Mapping[str, Any]], here: Sequence[Mapping[str, Any]]) -> list[str]:
    """In what any machine of the one side differs from any of the other."""
    found = [
        sentence
        for stored in there
        for fingerprint in here
        for sentence in differences(stored, msgspec.convert(fingerprint, Fingerprint))
    ]
    return list(dict.fromkeys(found))


def _unknown_machines(base: Finished, head: Finished) -> list[str]:
    """That nobody can tell whether the machine was the same, where it is so."""
    without = [f"'{side.name}'" for side in (base, head) if not side.fingerprints]
    if not without:
        return []
    named = " and ".join(dict.fromkeys(without))
    return [f"The records of {named} have no fingerprint: nobody can tell whether the machine was the same."]


def _own_margins(judgements: Sequence[Judgement], yardstick: Yardstick) -> list[str]:
    """Which margins come from noise that was measured."""
    own = [one.margins.same for one in judgements if one.margins is not None and one.margins != yardstick.margins]
    if not own:
        return []
    others = f"; the others have {percent(yardstick.margins.same)}" if len(own) < len(judgements) else ""
    ends = f"{percent(min(own))} to {percent(max(own))}"
    return [f"The margins of {plural(len(own), 'cell')} come from the noise between runs: {ends}{others}."]


def _unlike_software(base: Finished, head: Finished) -> list[str]:
    """In what the sides differ besides the version of this project; listed, never refused."""
    there, here = base.facts, head.facts
    unlike = [
        f"{name.replace('_', ' ')}: {_unlike(there[name], here[name])}"
        for name in _LISTED
        if there[name] is not None and here[name] is not None and there[name] != here[name]
    ]
    return [f"The sides differ in {'; '.join(unlike)}. A change may come from there."] if unlike else []


def _unlike(there: Any, here: Any) -> str:
    if not isinstance(there, dict) or not isinstance(here, dict):
        return f"{there} and {here}"
    names = [name for name in dict.fromkeys([*there, *here]) if there.get(name) != here.get(name)]
    return ", ".join(f"{name} {there.get(name, 'none')} and {here.get(name, 'none')}" for name in names)


def _machines(records: Sequence[Record]) -> tuple[Mapping[str, Any], ...]:
    """What does not change with every invocation of the facts of `records`, each once, oldest first."""
    kept = ("cpu_model", "architecture", "processors", "fingerprint", "commit", "tree_clean", *_LISTED)
    found = [{name: record.machine[name] for name in kept if name in record.machine} for record in records]
    return tuple({compact_json(machine): machine for machine in found if machine}.values())


def _chosen(samples: Samples, only: Collection[PairingKey] | None) -> Samples:
    return {pairing: of_seed for pairing, of_seed in samples.items() if only is None or pairing in only}


def _once(*warnings: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(warning for of_side in warnings for warning in of_side))
