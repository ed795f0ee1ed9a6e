"""`TrafficJunction`: PettingZoo's own checks, and the rules of the junction against a second reading of them."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.traffic_junction import BRAKE, GAS, GATES, ROUTES, TrafficJunction, observation_size

STRAIGHT, RIGHT, LEFT = 0, 1, 2


def restarted(cars: int, seed: int) -> TrafficJunction:
    env = TrafficJunction(cars)
    env.reset(seed=seed)
    return env


def always(env: TrafficJunction, action: int) -> dict[str, int]:
    return dict.fromkeys(env.possible_agents, action)


def on_grid(env: TrafficJunction) -> list[int]:
    return [car for car, position in enumerate(env.positions) if position is not None]


# --------------------------------------------------------------------------------- PettingZoo's checks


@pytest.fixture(scope="module")
def checks():
    with warnings.catch_warnings():
        # Importing its checks makes an environment in a way that PettingZoo itself has deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        import pettingzoo.test
    return pettingzoo.test


@pytest.mark.parametrize("cars", [1, 4, 10])
def test_the_check_of_parallel_environments_passes(checks, cars):
    checks.parallel_api_test(TrafficJunction(cars), num_cycles=300)


@pytest.mark.parametrize("cars", [4, 10])
def test_the_check_of_seeds_passes(checks, cars):
    checks.parallel_seed_test(lambda: TrafficJunction(cars))


def test_observations_lie_in_their_space():
    env = TrafficJunction(4)
    observations, _ = env.reset(seed=3)
    assert env.observation_space("car_0").contains(observations["car_0"])
    assert observations["car_0"].shape == (observation_size(4),) == (324,)
    assert observation_size(10) == 1350


def test_all_agents_are_given_one_array_that_cannot_be_written():
    env = restarted(4, seed=3)
    observations, *_ = env.step(always(env, GAS))
    first, *others = observations.values()
    assert all(other is first for other in others)
    assert not first.flags.writeable


# -------------------------------------------------------------------------------------------- routes


def test_each_gate_has_a_route_straight_right_and_left():
    assert [(route.gate, route.turn) for route in ROUTES] == [(gate, turn) for gate in range(4) for turn in range(3)]
    assert all(route.cells[0] == GATES[route.gate] for route in ROUTES)
    from_the_west = {route.turn: route.cells[-1] for route in ROUTES if route.gate == 0}
    assert from_the_west == {STRAIGHT: (7, 13), RIGHT: (13, 6), LEFT: (0, 7)}


def test_routes_of_all_gates_are_the_same_but_turned():
    def turned(cells):
        return tuple((13 - column, row) for row, column in cells)

    for gate in range(3):
        for turn in range(3):
            assert ROUTES[3 * (gate + 1) + turn].cells == turned(ROUTES[3 * gate + turn].cells)
    assert [len(ROUTES[turn].cells) for turn in (STRAIGHT, RIGHT, LEFT)] == [14, 13, 15]


def test_cars_keep_to_the_right_lane_and_never_meet_head_on():
    moves = {move for route in ROUTES for move in pairwise(route.cells)}
    heading = {(7, None): (0, 1), (6, None): (0, -1), (None, 7): (-1, 0), (None, 6): (1, 0)}
    for (row, column), (next_row, next_column) in moves:
        lane = (row, None) if row == next_row else (None, column)
        assert heading[lane] == (next_row - row, next_column - column)
    assert all((end, start) not in moves for start, end in moves)


# --------------------------------------------------------------------------------- what a step must do


def expected_observation(env: TrafficJunction) -> np.ndarray:
    """The observation, cell by cell from positions and routes."""
    cars = len(env.possible_agents)
    joint = np.zeros((cars, 9, cars + 5), np.float32)
    for car in on_grid(env):
        row, column = env.positions[car]
        for seen in on_grid(env):
            down, right = env.positions[seen][0] - row, env.positions[seen][1] - column
            if max(abs(down), abs(right)) <= 1:
                cell = joint[car, 3 * (down + 1) + right + 1]
                cell[seen] = 1
                cell[cars : cars + 2] = np.array(env.positions[seen]) / 13
                cell[cars + 2 + env.routes[seen].turn] = 1
    return joint.ravel()


def check_moves(before: TrafficJunction, positions: list, routes: list, actions: dict[str, int]) -> set[int]:
    """Every car that was on the grid did as it was told; those that arrived by that."""
    arrived = set()
    for car, (position, route) in enumerate(zip(positions, routes, strict=True)):
        if position is None:
            continue
        told = route.cells[route.cells.index(position) + (actions[f"car_{car}"] == GAS)]
        if told == route.cells[-1]:
            arrived.add(car)
            assert before.positions[car] is None
        else:
            assert before.positions[car] == told
    return arrived


@given(cars=st.integers(1, 12), seed=st.integers(0, 2**31), braking=st.floats(0, 1), choices=st.randoms())
@settings(max_examples=60)
def test_every_step_keeps_the_rules(cars, seed, braking, choices):
    env = restarted(cars, seed)
    entered_at = dict.fromkeys(on_grid(env), 0)
    arrived, collisions, steps = set(), env.collisions, 0
    while env.agents:
        positions, routes, waiting = env.positions, env.routes, env.waiting
        actions = {agent: BRAKE if choices.random() < braking else GAS for agent in env.agents}
        observations, rewards, terminated, truncated, _ = env.step(actions)
        steps += 1
        # Cars move, and none is lost.
        arrived |= check_moves(env, positions, routes, actions)
        assert env.waiting + len(on_grid(env)) + len(arrived) == cars
        assert env.arrivals == len(arrived)
        # Cars enter in index order, each at a gate of its own.
        entering = [car for car in on_grid(env) if positions[car] is None]
        assert entering == list(range(cars - waiting, cars - env.waiting))
        entered_at |= dict.fromkeys(entering, steps)
        gates = [env.positions[car] for car in entering]
        assert len(set(gates)) == len(gates)
        assert all(env.positions[car] == env.routes[car].cells[0] for car in entering)
        occupied = Counter(filter(None, env.positions))
        assert all(occupied[gate] == 1 for gate in gates)
        # Collisions are pairs, and cost those who have one.
        collisions += sum(times * (times - 1) // 2 for times in occupied.values())
        assert env.collisions == collisions
        for car, agent in enumerate(env.possible_agents):
            cell = env.positions[car]
            late = 0.0 if cell is None else -0.01 * (steps - entered_at[car])
            assert rewards[agent] == pytest.approx(late - 10.0 * (occupied[cell] > 1 if cell else 0))
        # All see what is around the cars on the grid, and nothing else.
        assert np.array_equal(observations["car_0"], expected_observation(env))
        assert set(terminated.values()) == {len(arrived) == cars}
        assert set(truncated.values()) == {steps == 100 and len(arrived) < cars}
    assert steps == 100 or len(arrived) == cars


def test_what_waits_or_has_arrived_observes_zeros_and_is_not_seen():
    env = restarted(10, seed=0)
    observations = {}
    while env.waiting or len(on_grid(env)) > 5:
        observations, *_ = env.step(always(env, GAS))
    own = observations["car_0"].reshape(10, 9, 15)
    off_grid = [car for car in range(10) if car not in on_grid(env)]
    assert off_grid
    assert not own[off_grid].any()
    assert not own[:, :, off_grid].any()
    assert own[on_grid(env)].any(axis=(1, 2)).all()


@given(seed=st.integers(0, 1000), choices=st.randoms())
@settings(max_examples=30)
def test_actions_of_cars_off_the_grid_are_ignored_and_may_be_left_out(seed, choices):
    whole, partial, other = (restarted(6, seed) for _ in range(3))
    while whole.agents:
        actions = {agent: choices.randrange(2) for agent in whole.agents}
        needed = {f"car_{car}": actions[f"car_{car}"] for car in on_grid(whole)}
        results = [env.step(a) for env, a in ((whole, actions), (partial, needed), (other, always(other, 7) | needed))]
        for result in results[1:]:
            assert np.array_equal(result[0]["car_0"], results[0][0]["car_0"])
            assert result[1:] == results[0][1:]


def test_cars_that_meet_in_a_cell_are_both_seen_there():
    env = restarted(10, seed=0)
    observations = {}
    while not any(times > 1 for times in Counter(filter(None, env.positions)).values()):
        observations, *_ = env.step(always(env, GAS))
    (cell, times), *_ = Counter(filter(None, env.positions)).most_common()
    together = [car for car in on_grid(env) if env.positions[car] == cell]
    middle = observations["car_0"].reshape(10, 9, 15)[together[0], 4]
    assert np.flatnonzero(middle[:10]).tolist() == together
    assert len(together) == times
    assert middle[10:12] == pytest.approx(np.array(cell) / 13)


# ---------------------------------------------------------------------------------- beginning and end


def test_cars_that_never_brake_all_arrive():
    env = restarted(10, seed=1)
    while env.agents:
        _, _, terminated, truncated, _ = env.step(always(env, GAS))
    assert all(terminated.values())
    assert not any(truncated.values())
    assert env.arrivals == 10


def test_an_episode_in_which_all_brake_is_cut_off_after_100_steps():
    env = restarted(10, seed=1)
    for step in range(100):
        assert env.agents, f"ended after {step} steps"
        _, _, terminated, truncated, _ = env.step(always(env, BRAKE))
    assert env.agents == []
    assert all(truncated.values())
    assert not any(terminated.values())
    assert env.waiting == 10 - 4


def test_a_gate_lets_a_car_in_with_probability_one_half_and_routes_are_uniform():
    env, episodes = restarted(10, seed=5), 2000
    entered, turns = 0, Counter()
    for _ in range(episodes):
        env.reset()
        entered += len(on_grid(env))
        turns.update(env.routes[car].turn for car in on_grid(env))
    # Within five standard deviations.
    assert entered / (4 * episodes) == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(4 * episodes))
    for turn in (STRAIGHT, RIGHT, LEFT):
        assert turns[turn] / entered == pytest.approx(1 / 3, abs=5 * np.sqrt(2 / 9 / entered))


@given(seed=st.integers(0, 2**31), choices=st.randoms())
@settings(max_examples=20)
def test_one_seed_determines_all_episodes_after_it(seed, choices):
    first, second = restarted(5, seed), restarted(5, seed)
    for _ in range(250):
        actions = {agent: choices.randrange(2) for agent in first.agents}
        assert np.array_equal(first.step(actions)[0]["car_0"], second.step(actions)[0]["car_0"])
        if not first.agents:
            first.reset()
            second.reset()
    assert first.tallies() == second.tallies()


def test_a_reset_without_a_seed_goes_on_with_the_stream():
    env = restarted(10, seed=2)
    starts = []
    for _ in range(20):
        starts.append(tuple(route and route[:2] for route in env.routes))
        env.reset()
    assert len(set(starts)) > 10


def test_the_state_of_pythons_own_random_numbers_is_left_alone():
    state = random.getstate()
    env = restarted(10, seed=2)
    env.step(always(env, GAS))
    assert random.getstate() == state


def test_a_reset_in_mid_episode_brings_all_cars_back():
    env = restarted(4, seed=0)
    for _ in range(10):
        env.step(always(env, GAS))
    env.reset()
    assert env.waiting + len(on_grid(env)) == 4
    assert all(env.positions[car] == env.routes[car].cells[0] for car in on_grid(env))


def test_tallies_count_over_episodes():
    env = restarted(3, seed=0)
    for _ in range(2):
        while env.agents:
            env.step(always(env, GAS))
        env.reset()
    assert env.tallies()["arrivals"] == 6
    assert env.tallies()["positions"] == env.positions


# --------------------------------------------------------------------------------------------- errors


def test_an_action_that_does_not_exist_is_rejected():
    env = restarted(4, seed=0)
    with pytest.raises(ValueError, match=r"Action 2 of 'car_0' is neither 0 \(gas\) nor 1 \(brake\)"):
        env.step(always(env, 2))


def test_a_missing_action_of_a_car_on_the_grid_is_an_error():
    env = restarted(4, seed=0)
    with pytest.raises(KeyError, match="car_0"):
        env.step({})


def test_a_junction_needs_a_car():
    with pytest.raises(ValueError, match=r"0 cars has nothing to observe\. Give 1 or more"):
        TrafficJunction(0)
