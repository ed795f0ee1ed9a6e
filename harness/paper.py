"""The six experiments of the paper: what was published, and which cells of ours measure the same.

"Efficient Parallel Reinforcement Learning Framework Using the Reactor Model" (SPAA 2024). Its numbers are read from
`harness.reference`; what stands here is only which workload and parameters a published point belongs to, and how a
round of ours becomes a number in the published unit. Nothing is measured, judged or drawn here.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.records import Record

__all__ = ["Experiment", "Point", "Quantity", "experiment", "experiments", "headline", "published_machine"]

Quantity = Literal["overhead", "rate", "seconds"]
"""What a figure shows: milliseconds of a round beyond what its actors sleep, observations a second, or seconds."""

_DATA = "spaa2024.toml"
_KB, _MB = 1_000, 1_000_000
_FIGURE_1_BYTES = 1_310_720 * 8
_ENVS = 15
_ACTORS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One published pair of values, and the cell that measures it here."""

    label: str
    x: float
    """Where it stands on the figure's axis; of categories their number."""
    ray: float
    lf: float
    workload: str
    choices: tuple[Mapping[str, Any], ...]
    """Parameters that a cell must have; of several choices the first that was measured counts."""
    is_plotted: bool = True
    """In the paper; the artifact holds more points than its figure shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One figure of the paper."""

    number: int
    title: str
    quantity: Quantity
    unit: str
    """As the figure's axis says it."""
    axis: str
    """What the points differ in."""
    is_axis_real: bool
    """Points may be joined by lines: they stand along a number, not beside each other as categories do."""
    points: tuple[Point, ...]
    rounds: int = 1
    """Rounds that `seconds` stands for."""
    protocol: tuple[str, ...] = ()
    """What was measured otherwise here, and why."""
    here: str = ""
    """What of it a reader of the figure must know."""

    def published_ratio(self, point: Point) -> float:
        """How many times as fast as Ray Lingua Franca was at `point`."""
        return point.lf / point.ray if self.quantity == "rate" else point.ray / point.lf

    def value(self, units_per_s: float, units_per_round: int, parameters: Mapping[str, Any]) -> float:
        """A rate of ours in the figure's unit."""
        if self.quantity == "rate":
            return units_per_s
        round_s = units_per_round / units_per_s
        if self.quantity == "seconds":
            return round_s * self.rounds
        slept_s: float = parameters.get("sleep_s", 0.0)
        return (round_s - slept_s) * 1e3

    def speed(self, record: Record) -> float | None:
        """How well an invocation did, more is better; None where it measured nothing, or only what its actors slept."""
        units = (record.units_per_round or 0) * record.measured_rounds
        if not units or not record.measured_s:
            return None
        value = self.value(units / record.measured_s, record.units_per_round or 0, record.parameters)
        if value <= 0:
            return None
        return value if self.quantity == "rate" else 1 / value


def experiment(number: int) -> Experiment:
    """The experiment of figure `number`.

    Raises:
        UsageError: if the paper has no such figure.
    """
    found = next((one for one in experiments() if one.number == number), None)
    if found is None:
        numbers = [one.number for one in experiments()]
        raise UsageError(f"The paper has no figure {number}. Its figures are {numbers[0]} to {numbers[-1]}.")
    return found


@cache
def experiments() -> tuple[Experiment, ...]:
    """The six, in order."""
    data = _data()
    return (
        _broadcast_actors(data["broadcast_gather_actors"]),
        _broadcast_size(data["broadcast_gather_size"]),
        _simulation(
            3,
            "Gymnasium environments in lock-step, random actions",
            data["gym"],
            here="nothing is printed while rounds are timed; without that, ray-by-value is the same program as ray",
        ),
        _simulation(
            4,
            "Atari environments in lock-step, raw frames, random actions",
            data["atari"],
            here="nothing is printed, and no environment is reset before its episode ends; without these faults "
            "ray-by-value is the same program as ray, and scripts/ladder says what they cost",
        ),
        _q_learning(data["q_learning"]),
        _inference(data["multi_agent_inference"]),
    )


def headline(name: str) -> float:
    """A number of the abstract."""
    value: float = _data()["headline"][name]
    return value


def published_machine() -> str:
    """Where the paper measured, and on what."""
    machine = _data()["machine"]
    return f"{machine['cpu']}; {machine['lf']}; Ray: {machine['ray']}; {machine['runs_per_point']} run a point"


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(resources.files("harness.reference").joinpath(_DATA).read_text(encoding="utf-8"))


def _broadcast_actors(data: Mapping[str, Any]) -> Experiment:
    return Experiment(
        number=1,
        title="10.5 MB to N actors and back",
        quantity="overhead",
        unit="overhead of a round, ms",
        axis="actors",
        is_axis_real=True,
        points=tuple(
            Point(
                label=f"{actors} actors",
                x=actors,
                ray=ray,
                lf=lf,
                workload="broadcast_gather",
                choices=({"nbytes": _FIGURE_1_BYTES, "actors": actors},),
            )
            for actors, ray, lf in _columns(data, "actors", "ray_overhead_ms", "lf_overhead_ms")
        ),
        protocol=_protocol(1),
    )


def _broadcast_size(data: Mapping[str, Any]) -> Experiment:
    return Experiment(
        number=2,
        title=f"An array to {_ACTORS} actors and back",
        quantity="overhead",
        unit="overhead of a round, ms",
        axis="megabytes",
        is_axis_real=True,
        points=tuple(
            Point(
                label=f"{megabytes:g} MB" if megabytes >= 1 else f"{megabytes * _MB / _KB:g} kB",
                x=megabytes,
                ray=ray,
                lf=lf,
                workload="broadcast_gather",
                choices=({"nbytes": round(megabytes * _MB), "actors": _ACTORS},),
                is_plotted=is_plotted,
            )
            for (megabytes, ray, lf), is_plotted in zip(
                _columns(data, "size_mb", "ray_overhead_ms", "lf_overhead_ms"), data["plotted"], strict=True
            )
        ),
        protocol=_protocol(2),
    )


def _simulation(number: int, title: str, data: Mapping[str, Any], *, here: str) -> Experiment:
    columns = _columns(data, "environments", "ray_observations_per_s", "lf_observations_per_s")
    return Experiment(
        number=number,
        title=title,
        quantity="rate",
        unit="observations per second",
        axis="environment",
        is_axis_real=False,
        points=tuple(
            Point(
                label=_game(env_id),
                x=at,
                ray=ray,
                lf=lf,
                workload="simulation",
                choices=tuple(
                    {
                        "env_id": name,
                        "envs": _ENVS,
                        "actions": "local",
                        "fragment": 1,
                        "restart": "ended",
                        "observation": "raw",
                    }
                    for name in _ids(env_id)
                ),
            )
            for at, (env_id, ray, lf) in enumerate(columns)
        ),
        protocol=_protocol(number),
        here=here,
    )


def _q_learning(data: Mapping[str, Any]) -> Experiment:
    return Experiment(
        number=5,
        title=f"Parallel Q-learning on Blackjack, {data['rounds']} rounds",
        quantity="seconds",
        unit=f"seconds for {data['rounds']} rounds",
        axis="minibatch",
        is_axis_real=True,
        rounds=data["rounds"],
        points=tuple(
            Point(
                label=f"minibatch {minibatch}",
                x=minibatch,
                ray=ray,
                lf=lf,
                workload="q_learning",
                choices=(
                    {
                        "env_id": "Blackjack-v1",
                        "minibatch": minibatch,
                        "sampling": "oldest",
                        "actors": data["rollout_actors"],
                        "steps": data["steps_per_actor_per_round"],
                        "updates": 1,
                        "lag": 0,
                    },
                ),
            )
            for minibatch, ray, lf in _columns(data, "minibatch", "ray_seconds", "lf_seconds")
        ),
        protocol=_protocol(5),
        here="the replay gives its oldest transitions, as published; every actor has a seed of its own",
    )


_INFERENCE_STEPS = 100_000


def _inference(data: Mapping[str, Any]) -> Experiment:
    return Experiment(
        number=6,
        title=f"Multi-agent inference in a traffic junction, {_INFERENCE_STEPS:,} steps",
        quantity="seconds",
        unit=f"seconds for {_INFERENCE_STEPS:,} steps",
        axis="agents",
        is_axis_real=True,
        rounds=_INFERENCE_STEPS,
        points=tuple(
            Point(
                label=f"{agents} agents",
                x=agents,
                ray=ray,
                lf=lf,
                workload="inference",
                choices=({"env": "traffic_junction", "agents": agents, "hidden": 64, "layers": 1, "lag": 0},),
            )
            for agents, ray, lf in _columns(data, "agents", "ray_seconds", "lf_seconds")
        ),
        protocol=_protocol(6),
        here="networks are seeded and not trained",
    )


def _columns(data: Mapping[str, Any], *names: str) -> Iterable[tuple[Any, Any, Any]]:
    return zip(*(data[name] for name in names), strict=True)


def _ids(env_id: str) -> Sequence[str]:
    """The ids that an environment of the paper has here: the published v4 of an Atari game, then that of today."""
    if not env_id.startswith("ALE/"):
        return [env_id]
    return [f"{_game(env_id)}-v4", env_id]


def _game(env_id: str) -> str:
    return env_id.removeprefix("ALE/").removesuffix("-v5") if env_id.startswith("ALE/") else env_id


def _protocol(number: int) -> tuple[str, ...]:
    """What the reference says that was measured otherwise in figure `number`, and what we do instead."""
    return tuple(
        f"{note['problem']}; here: {note['instead']}"
        for note in _data()["validity"]
        if _is_about(note["where"], number)
    )


def _is_about(where: str, number: int) -> bool:
    """Whether `figures 1, 2`, `figure 4` or `all` speaks of figure `number`."""
    figures = where.removeprefix("figures").removeprefix("figure").replace(",", " ").split()
    return where == "all" or str(number) in figures
