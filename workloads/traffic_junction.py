"""The traffic junction of Sukhbaatar, Szlam and Fergus, Learning Multiagent Communication with Backpropagation, 2016.

Two roads of two lanes cross on a grid of 14 x 14 cells, and cars keep to the right. A car enters at one of
four gates, on a route that goes straight, right or left; each step it goes on by one cell (gas) or stays
(brake). At the last cell of its route it leaves the grid: it has arrived. Cars in one cell collide, which
costs them a reward and changes nothing else.

The paper leaves open what happens when; here a step is:

1. Cars on the grid move. Those that reach their destination have arrived, and are off the grid.
2. While cars wait, each gate without a car on it lets the next one in, with probability 0.5. Cars enter in
   index order, and their route is drawn then. A reset begins with an empty grid and this part alone.
3. Collisions are counted, as pairs of cars in one cell, in every step anew. A car on the grid gets -0.01 times
   the steps since it entered, and -10 if it shares its cell; the others get 0.

Every car is one agent, and makes one trip an episode. Before and after it there is nothing to decide: what it
observes is zero, and its actions are ignored. It stays an agent until the episode ends, for all at once:
*terminated* when all cars have arrived, *truncated* after 100 steps.

A car's own observation are the 3 x 3 cells around it, row by row. A cell with a car in it holds that car's
one-hot index (N), row / 13, column / 13 and one-hot route (3: straight, right, left); with several, all of their
ones; any other cell zeros. All agents observe the same: the own observations of all cars, one after the other.

This module imports PettingZoo; whoever wants to stay quick imports it where it is needed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pettingzoo import ParallelEnv

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gymnasium import Space
    from numpy.typing import NDArray

__all__ = [
    "ARRIVAL_PROBABILITY",
    "BRAKE",
    "COLLISION_REWARD",
    "GAS",
    "GATES",
    "MAX_STEPS",
    "ROUTES",
    "SIDE",
    "STEP_REWARD",
    "Route",
    "TrafficJunction",
    "observation_size",
]

GAS = 0
BRAKE = 1

SIDE = 14
GATES = ((7, 0), (13, 7), (6, 13), (0, 6))
"""Where cars enter, as (row, column): from the west, the south, the east and the north."""
DESTINATIONS = ((7, 13), (0, 7), (6, 0), (13, 6))
"""Where they leave: opposite gate 0, 1, 2 and 3."""
TURNS = (0, 3, 1)
"""Straight, right, left: a car from gate g leaves at destination (g + turn) modulo 4."""
ARRIVAL_PROBABILITY = 0.5
COLLISION_REWARD = -10.0
STEP_REWARD = -0.01
MAX_STEPS = 100

VISIBLE_CELLS = 9
_STRIDE = 16
"""A cell is the number row * 16 + column: wide enough that no neighbour of one is mistaken for another."""
_VISIBLE = tuple(_STRIDE * down + right for down in (-1, 0, 1) for right in (-1, 0, 1))


class Route(NamedTuple):
    """One of the twelve ways through the junction."""

    gate: int
    turn: int
    """0 straight, 1 right, 2 left."""
    cells: tuple[tuple[int, int], ...]
    """(row, column) from the gate to the destination, both included."""


def observation_size(cars: int) -> int:
    """How many values an observation of `cars` cars has."""
    return cars * VISIBLE_CELLS * (cars + 2 + len(TURNS))


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The cells after `start`, straight on to `end`."""
    down, right = np.sign(end[0] - start[0]), np.sign(end[1] - start[1])
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
    return [(int(start[0] + down * step), int(start[1] + right * step)) for step in range(1, steps + 1)]


def _route(gate: int, turn: int) -> Route:
    """From `gate` along its lane to the lane of the destination, and along that."""
    entry, destination = GATES[gate], DESTINATIONS[(gate + TURNS[turn]) % len(DESTINATIONS)]
    is_level = entry[1] in {0, SIDE - 1}
    corner = (entry[0], destination[1]) if is_level else (destination[0], entry[1])
    return Route(gate, turn, (entry, *_line(entry, corner), *_line(corner, destination)))


ROUTES = tuple(_route(gate, turn) for gate in range(len(GATES)) for turn in range(len(TURNS)))
"""Route `3 * gate + turn`."""
_CELLS = tuple(tuple(row * _STRIDE + column for row, column in route.cells) for route in ROUTES)
_GATE_CELLS = tuple(row * _STRIDE + column for row, column in GATES)


class TrafficJunction(ParallelEnv[str, Any, Any]):  # type: ignore[misc] # PettingZoo ships no types
    """Cars `car_0` ... at a junction; see the module for the rules.

    Observations are read-only float32 arrays of `observation_size(cars)` values in [0, 1]; all agents are given the
    same array. Actions are 0 (gas) and 1 (brake).

    Plain Python, since there are few cars: NumPy would take two to six times as long for what four to ten observe.
    """

    metadata: dict[str, Any] = {"name": "traffic_junction_v1", "render_modes": []}  # noqa: RUF012 - as PettingZoo declares it
    render_mode = None

    def __init__(self, cars: int) -> None:
        """Make a junction for `cars` cars; `reset` begins.

        Raises:
            ValueError: for less than one car.
        """
        from gymnasium.spaces import Box, Discrete

        if cars < 1:
            raise ValueError(f"A junction of {cars} cars has nothing to observe. Give 1 or more.")
        self.possible_agents = [f"car_{index}" for index in range(cars)]
        self.agents: list[str] = []
        self.arrivals = 0
        """Cars that have reached their destination since the environment was made."""
        self.collisions = 0
        """Pairs of cars in one cell, counted in every step since the environment was made."""
        observation = Box(0.0, 1.0, (observation_size(cars),), np.float32)
        self.observation_spaces: dict[str, Space[Any]] = dict.fromkeys(self.possible_agents, observation)
        self.action_spaces: dict[str, Space[Any]] = {agent: Discrete(2) for agent in self.possible_agents}
        self._random = random.Random()  # noqa: S311 - a simulation; scalar draws take a tenth of NumPy's time
        self._records = [_records_of(car, cars) for car in range(cars)]
        record_bytes = 4 * (cars + 2 + len(TURNS))
        self._empty = bytes(record_bytes)
        self._unseen = [bytes(record_bytes * VISIBLE_CELLS)]
        self._begin()

    def observation_space(self, agent: str) -> Space[Any]:
        """What `agent` observes."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Space[Any]:
        """What `agent` can do."""
        return self.action_spaces[agent]

    @property
    def positions(self) -> list[tuple[int, int] | None]:
        """Of every car the (row, column), or None while it waits and when it has arrived."""
        return [None if cell is None else divmod(cell, _STRIDE) for cell in self._cells]

    @property
    def routes(self) -> list[Route | None]:
        """Of every car its route, or None while it waits."""
        return [None if route is None else ROUTES[route] for route in self._routes]

    @property
    def waiting(self) -> int:
        """How many cars have not entered yet."""
        return len(self.possible_agents) - self._entered

    def reset(
        self,
        seed: int | None = None,
        options: dict[str, Any] | None = None,  # noqa: ARG002 - part of the interface; there are none
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, dict[str, Any]]]:
        """Begin an episode; with `seed` also the one stream of random numbers."""
        if seed is not None:
            self._random.seed(seed)
        self._begin()
        self.agents = list(self.possible_agents)
        self._let_in()
        occupied, _ = self._occupied()
        return dict.fromkeys(self.agents, self._observed(occupied)), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[
        dict[str, NDArray[np.float32]],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Take the actions of all agents; those of cars that are not on the grid are ignored and may be left out.

        Raises:
            KeyError: if the action of a car on the grid is missing.
            ValueError: if it is neither 0 nor 1.
        """
        agents = self.agents
        self._steps += 1
        self._move(actions)
        self._let_in()
        occupied, sharing = self._occupied()
        rewards = dict.fromkeys(agents, 0.0)
        for car, cell in enumerate(self._cells):
            if cell is not None:
                collision = COLLISION_REWARD if cell in sharing else 0.0
                rewards[agents[car]] = STEP_REWARD * (self._steps - self._entered_at[car]) + collision
        have_arrived = self._arrived == len(agents)
        is_late = self._steps >= MAX_STEPS and not have_arrived
        if have_arrived or is_late:
            self.agents = []
        return (
            dict.fromkeys(agents, self._observed(occupied)),
            rewards,
            dict.fromkeys(agents, have_arrived),
            dict.fromkeys(agents, is_late),
            {agent: {} for agent in agents},
        )

    def tallies(self) -> dict[str, Any]:
        """What has happened since the environment was made, and where the cars are."""
        return {
            "arrivals": self.arrivals,
            "collisions": self.collisions,
            "positions": self.positions,
            "routes": list(self._routes),
            "steps": self._steps,
        }

    def _begin(self) -> None:
        """Empty the grid."""
        cars = len(self.possible_agents)
        self._steps = 0
        self._entered = 0
        self._arrived = 0
        # Cars enter in index order, so that those from `_entered` on wait.
        self._cells: list[int | None] = [None] * cars
        self._routes: list[int | None] = [None] * cars
        self._progress = [0] * cars
        self._entered_at = [0] * cars

    def _move(self, actions: Mapping[str, int]) -> None:
        cells, agents = self._cells, self.possible_agents
        for car in range(self._entered):
            if cells[car] is None:
                continue
            action = actions[agents[car]]
            if action == GAS:
                route = self._routes[car]
                assert route is not None
                path = _CELLS[route]
                self._progress[car] = at = self._progress[car] + 1
                cells[car] = path[at]
                if at == len(path) - 1:
                    cells[car] = None
                    self._arrived += 1
                    self.arrivals += 1
            elif action != BRAKE:
                raise ValueError(
                    f"Action {action} of '{agents[car]}' is neither 0 (gas) nor 1 (brake). Give one of them."
                )

    def _let_in(self) -> None:
        for gate, cell in enumerate(_GATE_CELLS):
            car = self._entered
            if car == len(self._cells):
                return
            if cell not in self._cells and self._random.random() < ARRIVAL_PROBABILITY:
                self._cells[car] = cell
                self._routes[car] = len(TURNS) * gate + int(len(TURNS) * self._random.random())
                self._entered_at[car] = self._steps
                self._entered += 1

    def _occupied(self) -> tuple[dict[int, bytes], set[int]]:
        """What is seen in each cell with cars, and the cells with several, whose collisions are counted."""
        occupied: dict[int, bytes] = {}
        sharing: set[int] = set()
        for car, cell in enumerate(self._cells):
            if cell is None:
                continue
            route = self._routes[car]
            assert route is not None
            record = self._records[car][route][self._progress[car]]
            if cell in occupied:
                record = _united(occupied[cell], record)
                sharing.add(cell)
            occupied[cell] = record
        for cell in sharing:
            cars = self._cells.count(cell)
            self.collisions += cars * (cars - 1) // 2
        return occupied, sharing

    def _observed(self, occupied: Mapping[int, bytes]) -> NDArray[np.float32]:
        """What all agents observe, put together from the bytes of its cells: quicker than filling an array."""
        records: list[bytes] = []
        seen, empty = occupied.get, self._empty
        for cell in self._cells:
            records += self._unseen if cell is None else [seen(cell + offset, empty) for offset in _VISIBLE]
        return np.frombuffer(b"".join(records), np.float32)


def _records_of(car: int, cars: int) -> list[list[bytes]]:
    """What is seen of `car`, by route and cells gone."""
    return [[_record(car, cars, route.turn, row, column) for row, column in route.cells] for route in ROUTES]


def _record(car: int, cars: int, turn: int, row: int, column: int) -> bytes:
    record = np.zeros(cars + 2 + len(TURNS), np.float32)
    record[car] = 1
    record[cars : cars + 2] = row / (SIDE - 1), column / (SIDE - 1)
    record[cars + 2 + turn] = 1
    return record.tobytes()


def _united(first: bytes, second: bytes) -> bytes:
    """What is seen of cars in one cell: as their numbers agree but for ones and zeros, so do their bits."""
    return (np.frombuffer(first, np.uint8) | np.frombuffer(second, np.uint8)).tobytes()
