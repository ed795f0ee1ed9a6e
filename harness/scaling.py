"""How one runtime's throughput grows with its workers, on one cell: points, and two laws fitted to them.

Amdahl's law has a serial fraction sigma: with N workers C(N) = N / (1 + sigma (N - 1)) times the throughput of one
(Amdahl, Validity of the Single Processor Approach, AFIPS 1967). The Universal Scalability Law adds kappa, what every
pair of workers costs one another: C(N) = N / (1 + sigma (N - 1) + kappa N (N - 1)), which has a peak at
sqrt((1 - sigma) / kappa) workers (Gunther, Guerrilla Capacity Planning, 2007, chapters 4 to 6). He asks for half a
dozen points at least; with fewer there is no fit here. Pure: works on the rows of a cell that are there.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.statistics import Estimate, ratio_estimate
from harness.summary import usable
from harness.wording import compact_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.summary import SummaryRow

__all__ = ["LEAST_COUNTS", "OPTION", "Fit", "Point", "Scaling", "capacity", "scalings"]

OPTION = "workers"
"""The option that counts workers, whatever the runtime; 0 leaves the count to the runtime, and is no point."""
LEAST_COUNTS = 6

_DIGITS = 9
"""Of a parameter, behind the point: less is rounding, not a finding. A kappa of 1e-9 has its peak at 30,000 workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The throughput with so many workers."""

    workers: int
    over_one: Estimate
    """Times that of one worker, paired by block and seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A law fitted to points; both parameters have no unit."""

    sigma: float
    """Serial fraction, or contention: 0 to 1."""
    kappa: float
    """Cost of agreement between every two workers; 0 for Amdahl's law."""
    r_squared: float | None
    """Share of the points' variance that the law explains; None where they do not vary."""

    @property
    def peak(self) -> int | None:
        """The number of workers with the highest throughput; None where more are always faster."""
        if self.kappa == 0:
            return None
        below = max(1, math.floor(math.sqrt((1 - self.sigma) / self.kappa)))
        return max(below, below + 1, key=lambda workers: capacity(workers, self.sigma, self.kappa))

    def at(self, workers: int) -> float:
        """Times the throughput of one worker."""
        return float(capacity(workers, self.sigma, self.kappa))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """One runtime with several numbers of workers on one cell, all else equal."""

    runtime: str
    options: Mapping[str, Any]
    """All but the number of workers."""
    counts: tuple[int, ...]
    """Numbers of workers with a valid measurement."""
    points: tuple[Point, ...] = ()
    """Those of them that pair with one worker."""
    amdahl: Fit | None = None
    universal: Fit | None = None
    problem: str | None = None
    """Why there is no fit."""
    cores: int | None = None
    """Physical cores that the workers could use, where that is known."""


def capacity(workers: Any, sigma: Any, kappa: Any = 0.0) -> Any:
    """The Universal Scalability Law, for numbers or arrays: times the throughput of one worker."""
    return workers / (1 + sigma * (workers - 1) + kappa * workers * (workers - 1))


def scalings(cell: Sequence[SummaryRow]) -> list[Scaling]:
    """Of the rows of one cell, each runtime that has two or more numbers of workers, in order of appearance."""
    series: dict[tuple[str, str], dict[int, SummaryRow]] = {}
    for row in usable(cell):
        workers = row.options.get(OPTION)
        if isinstance(workers, int) and not isinstance(workers, bool) and workers > 0:
            key = row.runtime, compact_json(_others(row))
            series.setdefault(key, {})[workers] = row
    return [_scaling(dict(sorted(rows.items()))) for rows in series.values() if len(rows) > 1]


def _others(row: SummaryRow) -> dict[str, Any]:
    return {name: value for name, value in row.options.items() if name != OPTION}


def _scaling(rows: Mapping[int, SummaryRow]) -> Scaling:
    first = next(iter(rows.values()))
    one = rows.get(1)
    points = () if one is None else tuple(p for n, row in rows.items() if (p := _point(n, row, one)) is not None)
    fits = _fits(points) if len(points) >= LEAST_COUNTS else None
    return Scaling(
        runtime=first.runtime,
        options=_others(first),
        counts=tuple(rows),
        points=points,
        amdahl=fits[0] if fits else None,
        universal=fits[1] if fits else None,
        problem=None if fits else _problem(len(rows), points, has_one=one is not None),
        cores=first.cores,
    )


def _problem(counts: int, points: Sequence[Point], *, has_one: bool) -> str:
    """Why the points cannot be fitted."""
    if counts < LEAST_COUNTS:
        return f"measured with {counts} numbers of workers; a fit of its scaling needs {LEAST_COUNTS}"
    if not has_one:
        return "not measured with 1 worker, which a fit of its scaling refers to"
    if len(points) < LEAST_COUNTS:
        return f"only {len(points)} numbers of workers have a block in common with 1 worker; a fit needs {LEAST_COUNTS}"
    return "no fit of its scaling was found"


def _point(workers: int, row: SummaryRow, one: SummaryRow) -> Point | None:
    blocks = sorted(set(row.seconds_per_unit) & set(one.seconds_per_unit))
    log_ratios = [math.log(one.seconds_per_unit[block] / row.seconds_per_unit[block]) for block in blocks]
    return Point(workers=workers, over_one=ratio_estimate(log_ratios)) if log_ratios else None


def _fits(points: Sequence[Point]) -> tuple[Fit, Fit] | None:
    """Amdahl's law and the universal one; None where the solver finds no end."""
    workers = [float(point.workers) for point in points]
    ratios = [point.over_one.point for point in points]
    try:
        # As many parameters are fitted as have a start: without kappa it is Amdahl's law.
        (sigma,) = _least_squares(workers, ratios, [0.1])
        both = _least_squares(workers, ratios, [0.1, 0.001])
    except RuntimeError:
        return None
    return _fit(workers, ratios, sigma, 0.0), _fit(workers, ratios, *both)


def _least_squares(workers: Sequence[float], ratios: Sequence[float], start: list[float]) -> list[float]:
    """The parameters of `capacity`, each from 0 to 1, that come closest to `ratios`.

    Raises:
        RuntimeError: if the solver does not converge.
    """
    import numpy as np
    from scipy.optimize import OptimizeWarning, curve_fit

    with warnings.catch_warnings():
        # About the covariance, which is not used: of points on a law it cannot be estimated.
        warnings.simplefilter("ignore", OptimizeWarning)
        best, _ = curve_fit(
            capacity,
            np.asarray(workers),
            np.asarray(ratios),
            p0=start,
            bounds=(0.0, 1.0),
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
            x_scale=start,  # kappa is much smaller than sigma
        )
    return [round(float(value), _DIGITS) for value in best]


def _fit(workers: Sequence[float], ratios: Sequence[float], sigma: float, kappa: float) -> Fit:
    mean = fmean(ratios)
    total = math.fsum((ratio - mean) ** 2 for ratio in ratios)
    rest = math.fsum((r - capacity(n, sigma, kappa)) ** 2 for n, r in zip(workers, ratios, strict=True))
    return Fit(sigma=sigma, kappa=kappa, r_squared=1 - rest / total if total > 0 else None)
