"""`inference`: who observes and does what, with which network, in each environment and on every runtime."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from runtimes import ray_packed
from runtimes.reactor_runtimes import AUTO, INLINE, PROCESSES, THREADS
from runtimes.sequential import RUNTIME as SEQUENTIAL
from workloads import team_environments
from workloads.dataflow import Digest, EdgeShape, Graph, Outputs, Session, TaskContext
from workloads.inference import WORKLOAD, Agent, Environment, Parameters
from workloads.traffic_junction import TrafficJunction

RoundsOf = Callable[[Graph, int], list[dict[str, list[Any]]]]

OTHERS = {"simple_spread": 3, "pursuit": 2, "rware": 2, "lbforaging": 2}


def graph_of(seed: int = 7, **parameters: Any) -> Graph:
    return WORKLOAD.build(Parameters(**parameters), seed)


def digest_of(session: Session, graph: Graph, rounds: int) -> str:
    """Everything that a run is compared by: the actions of each round, and all tallies."""
    digest = Digest()
    with session:
        for _ in range(rounds):
            session.advance(1)
            digest.add_received(graph, session.received())
        digest.add(session.tallies())
    return digest.hexdigest()


def scores_of(graph: Graph, index: int, observation: np.ndarray) -> np.ndarray:
    """What the network of agent `index` gives, in double precision."""
    agent = graph.node("agent").build(index, graph.seed)
    values = observation if observation.ndim == 1 else observation[index]
    for number, (weights, biases) in enumerate(agent.layers, start=1):
        values = weights.double().numpy() @ values + biases.double().numpy()
        if number < len(agent.layers):
            values = np.maximum(values, 0)
    return values


# ----------------------------------------------------------------------------------------- the graph


def test_observations_are_broadcast_a_round_later_and_actions_gathered():
    graph = graph_of()
    assert [(str(edge.source), str(edge.target), edge.shape, edge.delay) for edge in graph.edges] == [
        ("environment.observation", "agent.observation", EdgeShape.BROADCAST, 1),
        ("agent.action", "environment.action", EdgeShape.GATHER, 0),
    ]
    assert (graph.unit, graph.units_per_round) == ("environment step", 1)
    assert graph.node("environment").observed


def test_lag_lengthens_the_delayed_edge():
    assert [edge.delay for edge in graph_of(lag=3).edges] == [4, 0]


def test_what_all_observe_alike_is_sent_once_and_else_a_row_for_each():
    assert graph_of(agents=10).node("environment").output("observation").array.shape == (1350,)
    shape = graph_of(env="simple_spread", agents=3).node("environment").output("observation").array.shape
    assert shape == (3, 18)


def test_the_networks_have_the_layers_asked_for():
    agent = graph_of(agents=4, hidden=8, layers=3).node("agent").build(0, 7)
    assert [tuple(weights.shape) for weights, _ in agent.layers] == [(8, 324), (8, 8), (8, 8), (2, 8)]
    assert [tuple(biases.shape) for _, biases in agent.layers] == [(8,), (8,), (8,), (2,)]


def test_every_agent_has_a_network_of_its_own_fixed_by_the_seed():
    def weights_of(index: int, seed: int) -> bytes:
        return graph_of(seed).node("agent").build(index, seed).layers[0][0].numpy().tobytes()

    assert weights_of(0, seed=1) == weights_of(0, seed=1)
    assert len({weights_of(0, seed=1), weights_of(1, seed=1), weights_of(0, seed=2)}) == 3


# -------------------------------------------------------------------------------------------- rounds


@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize(("env", "agents", "layers"), [("traffic_junction", 4, 1), ("lbforaging", 2, 2)])
def test_actions_are_what_the_networks_choose_by_an_earlier_observation(env, agents, layers, lag, rounds_of: RoundsOf):
    graph = graph_of(env=env, agents=agents, layers=layers, lag=lag)
    environment = graph.node("environment").build(0, graph.seed)
    observed = [environment.initial("observation")] * (1 + lag)
    for ports in rounds_of(graph, 120):
        for index, action in enumerate(ports["action"]):
            scores = scores_of(graph, index, observed[-1 - lag])
            assert scores[action] == pytest.approx(scores.max(), abs=1e-5)
        joint = np.zeros_like(observed[0])
        environment.fire({"action": ports["action"]}, Outputs("environment", ["observation"], {"observation": joint}))
        observed.append(joint)
    environment.close()


def environment_task(env: str, agents: int) -> tuple[Environment, np.ndarray, Callable[[int], None]]:
    """The task, what it writes, and what steps it with the same action for all."""
    spec = graph_of(env=env, agents=agents).node("environment").output("observation").array
    is_shared, size = len(spec.shape) == 1, spec.shape[-1]
    context = TaskContext(path="environment", index=0, width=1, seed=5)
    task = Environment(context, env=env, agents=agents, is_shared=is_shared, size=size)
    joint = spec.zeros()
    outputs = Outputs("environment", ["observation"], {"observation": joint})
    joint[...] = task.initial("observation")
    return task, joint, lambda action: task.fire({"action": np.full(agents, action)}, outputs)


def test_an_episode_that_ends_is_reset_in_the_same_step():
    task, joint, step = environment_task("traffic_junction", 4)
    twin = TrafficJunction(4)
    twin.reset(seed=TaskContext(path="environment", index=0, width=1, seed=5).seed_int("environment"))
    for _ in range(2):
        while True:
            step(0)
            observations, *_ = twin.step(dict.fromkeys(twin.possible_agents, 0))
            if not twin.agents:
                break
            assert np.array_equal(joint, observations["car_0"])
        observations, _ = twin.reset()
        assert np.array_equal(joint, observations["car_0"])
    assert task.tallies()["resets"] == 2
    assert task.tallies()["arrivals"] == 8


@pytest.mark.parametrize("env", ["traffic_junction", "rware"])
def test_tallies_tell_states_apart_in_which_the_same_was_counted(env):
    (first, _, step), (second, _, step_second) = (environment_task(env, 2) for _ in range(2))
    step(1)
    step_second(1)
    assert first.tallies() == second.tallies()
    second._observations = {agent: values + 1 for agent, values in second._observations.items()}
    assert first.tallies() != second.tallies()


def test_steps_and_inferences_are_both_counted_and_rewards_added_up():
    task, _, step = environment_task("traffic_junction", 4)
    for _ in range(250):
        step(1)
    tallies = task.tallies()
    assert (tallies["environment_steps"], tallies["inferences"], tallies["resets"]) == (250, 1000, 2)
    assert tallies["return"] < 0
    assert tallies["collisions"] == tallies["arrivals"] == 0


@pytest.mark.parametrize("env", OTHERS)
def test_rows_are_what_the_environment_gives_each_agent(env):
    task, joint, step = environment_task(env, OTHERS[env])
    twin = team_environments.make_team_environment(env, OTHERS[env])
    observations, _ = twin.reset(seed=TaskContext(path="environment", index=0, width=1, seed=5).seed_int("environment"))
    total = 0.0
    for _ in range(30):
        assert np.array_equal(joint, np.stack([observations[agent].ravel() for agent in twin.possible_agents]))
        step(1)
        observations, rewards, *_ = twin.step(dict.fromkeys(twin.agents, 1))
        total += sum(rewards.values())
        if not twin.agents:
            observations, _ = twin.reset()
    assert task.tallies()["return"] == total
    task.close()
    twin.close()


class Leaving(ParallelEnv):
    """Agent i leaves after i + 1 steps, and all observe the number of the step."""

    def __init__(self, agents):
        self.possible_agents = [f"agent_{index}" for index in range(agents)]
        self.spaces = Box(0, 100, (2, 1)), Discrete(2)

    def observation_space(self, agent):
        return self.spaces[0]

    def action_space(self, agent):
        return self.spaces[1]

    def reset(self, seed=None, options=None):
        self.agents, self.steps = list(self.possible_agents), 0
        return {agent: np.full((2, 1), 9.0) for agent in self.agents}, {}

    def step(self, actions):
        assert list(actions) == self.agents
        self.steps += 1
        present = self.agents
        self.agents = present[1:]
        return {agent: np.full((2, 1), self.steps) for agent in present}, dict.fromkeys(present, 1), {}, {}, {}


def test_an_agent_that_has_left_observes_zeros_and_its_action_is_ignored(monkeypatch):
    monkeypatch.setitem(team_environments._MAKERS, "rware", Leaving)
    team_environments.team_of.cache_clear()
    try:
        task, joint, step = environment_task("rware", 3)
    finally:
        team_environments.team_of.cache_clear()
    seen = [joint.tolist()]
    for _ in range(3):
        step(1)
        seen.append(joint.tolist())
    start = [[9, 9]] * 3
    assert seen == [start, [[1, 1]] * 3, [[0, 0], [2, 2], [2, 2]], start]
    assert task.tallies()["return"] == 6


def test_an_action_is_the_first_of_the_highest_scores():
    agent = Agent(TaskContext(path="agent", index=0, width=1, seed=0), widths=(3, 2, 3), is_shared=True)
    for weights, biases in agent.layers:
        weights.zero_()
        biases.zero_()
    action = np.array(9)
    outputs = Outputs("agent", ["action"], {"action": action})
    agent.fire({"observation": np.ones(3)}, outputs)
    assert action == 0
    agent.layers[-1][1][1:] = 1.0
    agent.fire({"observation": np.ones(3)}, outputs)
    assert action == 1


# ------------------------------------------------------------------------------------------ runtimes


@contextlib.contextmanager
def short_folder():
    """A folder with a path that is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield Path(folder)


CELLS = [
    {"agents": 4},
    {"agents": 10, "lag": 2},
    {"agents": 3, "env": "simple_spread", "layers": 2},
]


def same_on(runtime: Any, parameters: dict[str, Any], options: dict[str, Any], rounds: int = 110) -> None:
    graph = graph_of(**parameters)
    with short_folder() as scratch:
        expected = digest_of(SEQUENTIAL.open(graph, SEQUENTIAL.options(), scratch), graph, rounds)
        got = digest_of(runtime.open(graph, runtime.options(**options), scratch), graph, rounds)
    assert got == expected


@pytest.mark.parametrize("parameters", CELLS, ids=str)
@pytest.mark.parametrize(
    ("runtime", "options"),
    [(AUTO, {}), (INLINE, {}), (THREADS, {"workers": 2}), (PROCESSES, {"workers": 2})],
    ids=["reactor", "reactor-inline", "reactor-threads", "reactor-processes"],
)
def test_reactors_compute_what_the_loop_computes(runtime, options, parameters):
    same_on(runtime, parameters, options)


@pytest.mark.ray
def test_ray_with_rounds_in_flight_computes_what_the_loop_computes():
    same_on(ray_packed.RUNTIME, {"agents": 10, "lag": 2}, {}, rounds=60)


@pytest.mark.parametrize("env", OTHERS)
def test_a_seed_gives_the_same_run_in_every_environment(env, open_session):
    graph = graph_of(env=env, agents=OTHERS[env])
    first, second = (digest_of(open_session(graph), graph, 60) for _ in range(2))
    other = graph_of(8, env=env, agents=OTHERS[env])
    assert first == second != digest_of(open_session(other), other, 60)


# ------------------------------------------------------------------------------------ what is rejected


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"env": "traffic"}, "Invalid enum value 'traffic'"),
        ({"agents": 0}, r"Expected `int` >= 1 - at `\$.agents`"),
        ({"hidden": 0}, r"Expected `int` >= 1 - at `\$.hidden`"),
        ({"layers": 0}, r"Expected `int` >= 1 - at `\$.layers`"),
        ({"lag": -1}, r"Expected `int` >= 0 - at `\$.lag`"),
    ],
)
def test_parameters_that_break_a_rule_are_rejected(parameters, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(parameters, Parameters)


@pytest.mark.parametrize(
    ("env", "module"),
    [("simple_spread", "mpe2"), ("pursuit", "pygame"), ("rware", "rware"), ("lbforaging", "lbforaging")],
)
def test_an_environment_that_is_not_installed_is_told_with_what_to_install(env, module, monkeypatch):
    for name in [module, *(name for name in sys.modules if name.startswith((f"{module}.", "pettingzoo.sisl")))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=rf"'{env}' cannot be made here .*pip install 'reactorbench\[multi-agent\]'"):
        WORKLOAD.check(Parameters(env=env, agents=5))


def test_a_number_of_agents_that_an_environment_cannot_have_is_told():
    with pytest.raises(ValueError, match=r"'lbforaging' cannot be made with agents=1 \(.*Give another number"):
        WORKLOAD.check(Parameters(env="lbforaging", agents=1))


def test_an_environment_with_another_number_of_agents_is_told(monkeypatch):
    monkeypatch.setitem(team_environments._MAKERS, "rware", lambda _: Leaving(3))
    with pytest.raises(ValueError, match=r"has 3 agents, but agents=17\. Set agents=3"):
        WORKLOAD.check(Parameters(env="rware", agents=17))


class Unlike(Leaving):
    """Agents that observe arrays of different lengths."""

    def observation_space(self, agent):
        return Box(0, 1, (1 + self.possible_agents.index(agent),))


def test_agents_that_observe_different_things_are_told(monkeypatch):
    monkeypatch.setitem(team_environments._MAKERS, "rware", Unlike)
    with pytest.raises(ValueError, match=r"Agents of 'rware' observe Box.*, Box.* Choose another environment"):
        WORKLOAD.check(Parameters(env="rware", agents=16))


def test_every_parameter_has_a_description_and_a_default():
    for field in msgspec.structs.fields(WORKLOAD.parameters):
        assert field.type.__metadata__[0].description
        assert field.default is not msgspec.NODEFAULT


def test_importing_the_workload_imports_nothing_heavy(repository):
    heavy = "{'torch', 'pettingzoo', 'gymnasium'}"
    program = f"import sys, workloads.inference, runtimes.stacked; print([*{heavy} & {{*sys.modules}}])"
    done = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_environment_that_can_be_asked_for_has_a_maker():
    asked = msgspec.inspect.type_info(Parameters).fields[0].type
    asked = asked.type if isinstance(asked, msgspec.inspect.Metadata) else asked
    assert set(asked.values) == {*team_environments._MAKERS} == {"traffic_junction", *OTHERS}
