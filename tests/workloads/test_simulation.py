"""`simulation`: what the driver receives, round by round, from real environments."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import gymnasium
import msgspec
import numpy as np
import pytest

from workloads.dataflow import Digest, EdgeShape, Graph
from workloads.simulation import WORKLOAD, Parameters

RoundsOf = Callable[[Graph, int], list[dict[str, list[Any]]]]

TERMINATED, TRUNCATED = 1, 2


def graph_of(seed: int = 7, **parameters: Any) -> Graph:
    return WORKLOAD.build(Parameters(**parameters), seed)


def digest_of(rounds: Any) -> str:
    digest = Digest()
    digest.add(rounds)
    return digest.hexdigest()


def replay(graph: Graph, index: int, rounds: int) -> list[tuple[Any, float, int, Any]]:
    """What member `index` with local actions should give, from Gymnasium alone and the task's streams."""
    env = gymnasium.make(graph.parameters["env_id"])
    task = graph.node("env").build(index, graph.seed)
    context = task._context
    observation, _ = env.reset(seed=context.seed_int("environment"))
    draws = {p: iter(context.rng(p).integers(0, env.action_space.n, 1024).tolist()) for p in ("advance", "actions")}
    for _ in range(37 * index % 500):
        observation, _, terminated, truncated, _ = env.step(next(draws["advance"]))
        if terminated or truncated:
            observation, _ = env.reset()
    expected = []
    for _ in range(rounds):
        observation, reward, terminated, truncated, _ = env.step(next(draws["actions"]))
        final = None
        if terminated or truncated:
            final, (observation, _) = observation, env.reset()
        expected.append((observation, reward, TERMINATED * terminated + TRUNCATED * truncated, final))
    env.close()
    task.close()
    return expected


# ------------------------------------------------------------------------------------- the graph


def test_local_actions_give_one_undelayed_gather_for_each_port():
    graph = graph_of(envs=3)
    assert [str(edge.target) for edge in graph.edges] == [
        "driver.observation",
        "driver.reward",
        "driver.ended",
        "driver.final_observation",
    ]
    assert {(edge.shape, edge.delay) for edge in graph.edges} == {(EdgeShape.GATHER, 0)}
    assert graph.node("env").width == 3
    assert graph.node("driver").observed


def test_driver_actions_give_delayed_gathers_and_one_scatter():
    graph = graph_of(envs=3, actions="driver")
    assert {(edge.shape, edge.delay) for edge in graph.edges} == {(EdgeShape.GATHER, 1), (EdgeShape.SCATTER, 0)}
    assert [node.path for node in graph.tasks] == ["driver", "env"]


def test_a_lag_lengthens_every_delayed_edge_by_so_many_rounds():
    graph = graph_of(envs=3, actions="driver", lag=2)
    assert {edge.delay for edge in graph.edges if edge.shape is EdgeShape.GATHER} == {3}
    assert {edge.delay for edge in graph.edges if edge.shape is EdgeShape.SCATTER} == {0}


def test_a_unit_is_an_environment_step():
    graph = graph_of(envs=3, fragment=5)
    assert (graph.unit, graph.units_per_round) == ("environment step", 15)


def test_a_graph_carries_its_name_and_all_parameters():
    graph = graph_of(envs=3)
    assert graph.workload == WORKLOAD.name == "simulation"
    assert graph.parameters == {
        "env_id": "CartPole-v1",
        "envs": 3,
        "actions": "local",
        "policy": "linear",
        "fragment": 1,
        "lag": 0,
        "restart": "ended",
        "observation": "raw",
    }


@pytest.mark.parametrize(
    ("env_id", "fragment", "observation"),
    [
        ("CartPole-v1", 1, ((4,), "<f4")),
        ("CartPole-v1", 5, ((5, 4), "<f4")),
        ("FrozenLake-v1", 1, ((), "<i8")),
        ("FrozenLake-v1", 5, ((5,), "<i8")),
        ("Blackjack-v1", 1, ((3,), "<i8")),
        ("ALE/Pong-v5", 1, ((210, 160, 3), "|u1")),
    ],
)
def test_array_ports_declare_the_shape_of_the_observation_space(env_id, fragment, observation):
    env = graph_of(env_id=env_id, envs=1, fragment=fragment).node("env")
    declared = {port.name: port.array and (port.array.shape, port.array.dtype) for port in env.outputs}
    lead = () if fragment == 1 else (fragment,)
    assert declared == {
        "observation": observation,
        "reward": (lead, "<f8"),
        "ended": (lead, "|u1"),
        "final_observation": observation if fragment == 1 else None,
    }
    assert [port.name for port in env.outputs if port.optional] == (["final_observation"] if fragment == 1 else [])


# -------------------------------------------------------------------------------- local actions


@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1", "Blackjack-v1", "Acrobot-v1"])
def test_every_member_gives_what_gymnasium_gives_for_its_seeds(env_id: str, rounds_of: RoundsOf):
    graph = graph_of(env_id=env_id, envs=3)
    received = rounds_of(graph, 60)
    for index in range(3):
        for at, (observation, reward, ended, final) in enumerate(replay(graph, index, 60)):
            assert np.array_equal(received[at]["observation"][index], observation)
            assert received[at]["reward"][index] == reward
            assert received[at]["ended"][index] == ended
            if final is None:
                assert received[at]["final_observation"][index] is None
            else:
                assert np.array_equal(received[at]["final_observation"][index], final)


def test_an_episode_that_ends_is_reset_in_the_same_step_and_its_last_observation_kept(rounds_of: RoundsOf):
    received = rounds_of(graph_of(envs=1), 100)
    ends = [at for at, ports in enumerate(received) if ports["ended"][0]]
    assert len(ends) >= 2
    for at in ends:
        assert received[at]["ended"][0] == TERMINATED
        final, first = received[at]["final_observation"][0], received[at]["observation"][0]
        assert abs(final[0]) > 2.4 or abs(final[2]) > 0.2095  # CartPole's bounds on position and angle
        assert np.all(np.abs(first) <= 0.05)  # where CartPole begins


def test_a_time_limit_counts_as_truncated(rounds_of: RoundsOf):
    received = rounds_of(graph_of(env_id="Pendulum-v1", envs=1), 400)
    ended = [int(ports["ended"][0]) for ports in received]
    assert [at for at, value in enumerate(ended) if value] == [199, 399]
    assert ended[199] == TRUNCATED


def test_the_final_observation_is_absent_while_episodes_run(rounds_of: RoundsOf):
    for ports in rounds_of(graph_of(envs=4), 60):
        for ended, final in zip(ports["ended"], ports["final_observation"], strict=True):
            assert (final is not None) == (ended != 0)


def test_resets_are_counted_and_the_first_is_not(open_session, rounds_of: RoundsOf):
    graph = graph_of(envs=3)
    ends = [sum(bool(ports["ended"][index]) for ports in rounds_of(graph, 120)) for index in range(3)]
    with open_session(graph) as session:
        assert [tallies["resets"] for tallies in session.tallies()["env"]] == [0, 0, 0]
        session.advance(120)
        assert [tallies["resets"] for tallies in session.tallies()["env"]] == ends
    assert min(ends) > 0


@pytest.mark.parametrize("env_id", ["Blackjack-v1", "FrozenLake-v1"])
def test_with_a_restart_at_every_step_one_sees_first_observations_alone(open_session, rounds_of: RoundsOf, env_id: str):
    graph = graph_of(env_id=env_id, envs=3, restart="every_step")
    usual = rounds_of(graph_of(env_id=env_id, envs=3), 1)[0]
    received = rounds_of(graph, 40)

    # The first step is that of an episode which is under way; every later one is the first of its episode.
    assert [port["ended"] for port in received[:1]] == [usual["ended"]]
    if env_id == "FrozenLake-v1":
        assert {int(value) for port in received for value in port["observation"]} == {0}
    with open_session(graph) as session:
        session.advance(40)
        assert [tallies["resets"] for tallies in session.tallies()["env"]] == [40, 40, 40]


def test_environments_are_advanced_out_of_step_at_their_first_use(open_session):
    graph = graph_of(env_id="Pendulum-v1", envs=15)
    with open_session(graph) as session:
        elapsed = [member.task._env.get_wrapper_attr("_elapsed_steps") for member in session._nodes["env"]]
        assert set(elapsed) == {None}  # not reset during start-up
        session.advance(1)
        elapsed = [member.task._env.get_wrapper_attr("_elapsed_steps") for member in session._nodes["env"]]
    # Pendulum's episodes have 200 steps, and the round took one.
    assert elapsed == [37 * index % 500 % 200 + 1 for index in range(15)]


def test_members_do_not_share_seeds_or_actions(rounds_of: RoundsOf):
    received = rounds_of(graph_of(env_id="Pendulum-v1", envs=6), 3)
    assert len({observation.tobytes() for observation in received[-1]["observation"]}) == 6


def test_a_member_gives_the_same_however_many_others_there_are(rounds_of: RoundsOf):
    few, many = (rounds_of(graph_of(envs=envs), 50) for envs in (2, 5))
    for ports_few, ports_many in zip(few, many, strict=True):
        assert digest_of({port: values[:2] for port, values in ports_many.items()}) == digest_of(ports_few)


@pytest.mark.parametrize(
    "parameters",
    [
        {"env_id": "CartPole-v1"},
        {"env_id": "Pendulum-v1"},
        {"env_id": "Blackjack-v1", "fragment": 4},
        {"env_id": "ALE/Pong-v5"},
        {"env_id": "ALE/Pong-v5", "observation": "gray84"},
        {"env_id": "CartPole-v1", "actions": "driver"},
        {"env_id": "Pendulum-v1", "actions": "driver", "policy": "mlp64"},
    ],
    ids=lambda parameters: " ".join(map(str, parameters.values())),
)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(parameters, rounds_of: RoundsOf):
    one, again, other = (digest_of(rounds_of(graph_of(seed, envs=2, **parameters), 20)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


# ------------------------------------------------------------------------------------- fragments


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Blackjack-v1", "FrozenLake-v1", "Pendulum-v1"])
def test_fragments_give_the_same_stream_as_single_steps(env_id: str, rounds_of: RoundsOf):
    fragment, rounds, envs = 25, 4, 3
    single = rounds_of(graph_of(env_id=env_id, envs=envs), fragment * rounds)
    whole = rounds_of(graph_of(env_id=env_id, envs=envs, fragment=fragment), rounds)
    for index in range(envs):
        for port in ("observation", "reward", "ended"):
            steps = [ports[port][index] for ports in single]
            assert np.array_equal(np.concatenate([ports[port][index] for ports in whole]), np.array(steps))
        finals = [(at, ports["final_observation"][index]) for at, ports in enumerate(single)]
        in_fragments = [
            (at * fragment + step, final)
            for at, ports in enumerate(whole)
            for step, final in ports["final_observation"][index] or []
        ]
        assert digest_of(in_fragments) == digest_of([pair for pair in finals if pair[1] is not None])


def test_a_fragment_without_an_episode_end_has_no_final_observations(rounds_of: RoundsOf):
    (ports,) = rounds_of(graph_of(env_id="Pendulum-v1", envs=1, fragment=50), 1)
    assert ports["final_observation"] == [None]


# -------------------------------------------------------- observations and actions of other spaces


class Talker(gymnasium.Env):
    """Observes a mapping, and reuses the array in it; acts by two switches."""

    observation_space = gymnasium.spaces.Dict({"word": gymnasium.spaces.Text(8), "place": gymnasium.spaces.Box(0, 9)})
    action_space = gymnasium.spaces.MultiBinary(2)

    def __init__(self):
        self.place = np.zeros(1, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place[...] = 0
        return {"word": "begin", "place": self.place}, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.place += 1 + action.sum() / 4
        return {"word": "on", "place": self.place}, 0.5, bool(self.place[0] > 5), False, {}


@pytest.fixture
def talker():
    gymnasium.register("Talker-v0", Talker)
    yield "Talker-v0"
    del gymnasium.registry["Talker-v0"]


def test_observations_that_are_no_arrays_travel_as_they_are(talker, rounds_of: RoundsOf):
    graph = graph_of(env_id=talker, envs=2)
    assert graph.node("env").output("observation").array is None
    received = rounds_of(graph, 20)
    assert {ports["observation"][0]["word"] for ports in received} == {"begin", "on"}
    for ports in received:
        if ports["ended"][0]:
            assert ports["observation"][0]["place"] == 0
            assert ports["final_observation"][0]["place"] > 5


def test_fragments_of_such_observations_are_lists_of_values_that_do_not_change_later(talker, rounds_of: RoundsOf):
    single = rounds_of(graph_of(env_id=talker, envs=1), 20)
    (whole,) = rounds_of(graph_of(env_id=talker, envs=1, fragment=20), 1)
    assert digest_of(whole["observation"][0]) == digest_of([ports["observation"][0] for ports in single])


def test_policies_reject_observations_that_are_no_arrays(talker):
    with pytest.raises(ValueError, match=r"'Talker-v0' are no arrays.*'linear' needs. Use actions='local', or"):
        WORKLOAD.check(Parameters(env_id=talker, actions="driver"))


# -------------------------------------------------------------------------------- driver actions


def test_the_driver_begins_with_the_first_observation_and_no_reward(rounds_of: RoundsOf):
    graph = graph_of(env_id="Pendulum-v1", envs=2, actions="driver")
    first = rounds_of(graph, 1)[0]
    assert np.abs(first["observation"][0]).max() > 0
    assert [float(reward) for reward in first["reward"]] == [0, 0]
    assert [int(ended) for ended in first["ended"]] == [0, 0]
    assert first["final_observation"] == [None, None]


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_environments_do_what_the_driver_sends_them_after_its_lag(lag: int, rounds_of: RoundsOf):
    graph = graph_of(envs=1, actions="driver", lag=lag)
    received = rounds_of(graph, 80)
    driver, env = graph.node("driver").build(0, graph.seed), gymnasium.make("CartPole-v1")
    context = graph.node("env").build(0, graph.seed)._context
    observation, _ = env.reset(seed=context.seed_int("environment"))
    under_way = deque([observation] * lag)
    actions = np.zeros(1, np.int64)
    taken = set()
    for ports in received:
        under_way.append(observation)
        seen = under_way.popleft()
        assert np.array_equal(ports["observation"][0], seen)
        driver.fire({"observation": [seen]}, {"action": actions})
        taken.add(int(actions[0]))
        observation, _, terminated, truncated, _ = env.step(int(actions[0]))
        if terminated or truncated:
            observation, _ = env.reset()
    assert any(ports["ended"][0] for ports in received)
    assert taken == {0, 1}


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "Blackjack-v1", "Pendulum-v1", "Acrobot-v1"])
@pytest.mark.parametrize("policy", ["linear", "mlp64"])
def test_policies_drive_environments_of_every_kind(env_id: str, policy: str, rounds_of: RoundsOf):
    received = rounds_of(graph_of(env_id=env_id, envs=3, actions="driver", policy=policy), 10)
    assert len(received) == 10


@pytest.mark.parametrize("observation", ["raw", "gray84"])
def test_the_nature_network_drives_atari(observation: str, rounds_of: RoundsOf):
    parameters = {"env_id": "ALE/Pong-v5", "actions": "driver", "policy": "nature_cnn", "observation": observation}
    one, again = (digest_of(rounds_of(graph_of(envs=2, **parameters), 5)) for _ in range(2))
    assert one == again


# ----------------------------------------------------------------------------------------- Atari


def environment_of(session: Any) -> gymnasium.Env:
    return session._nodes["env"][0].task._env


@pytest.mark.parametrize("observation", ["raw", "gray84"])
def test_atari_keeps_its_registered_settings(observation: str, open_session):
    with open_session(graph_of(env_id="ALE/Pong-v5", envs=1, observation=observation)) as session:
        env = environment_of(session)
        assert env.unwrapped.ale.getFloat("repeat_action_probability") == 0.25
        assert env.unwrapped._frameskip * getattr(env, "frame_skip", 1) == 4
        assert env.action_space.n == len(env.unwrapped.ale.getMinimalActionSet()) == 6
        assert env.unwrapped.ale.getInt("max_num_frames_per_episode") == 108_000


def test_gray84_is_the_usual_preprocessing_without_noops_life_loss_or_stack(open_session, rounds_of: RoundsOf):
    graph = graph_of(env_id="ALE/Pong-v5", envs=1, observation="gray84")
    with open_session(graph) as session:
        env = environment_of(session)
        settings = (env.noop_max, env.frame_skip, env.screen_size, env.terminal_on_life_loss, env.scale_obs)
        assert settings == (0, 4, (84, 84), False, False)
    (ports,) = rounds_of(graph, 1)
    assert (ports["observation"][0].shape, ports["observation"][0].dtype) == ((84, 84), np.uint8)
    assert ports["observation"][0].max() > 100


@pytest.mark.parametrize("observation", ["raw", "gray84"])
def test_atari_counts_four_frames_a_step(observation: str, open_session):
    with open_session(graph_of(env_id="ALE/Pong-v5", envs=2, observation=observation)) as session:
        assert [tallies["emulator_frames"] for tallies in session.tallies()["env"]] == [0, 0]
        session.advance(10)
        assert session.tallies()["env"] == [{"resets": 0, "emulator_frames": 40}] * 2


def test_frames_that_resets_emulate_are_not_counted(open_session):
    # Berzerk emulates 40 frames at each reset, and random play ends in some 150 steps.
    with open_session(graph_of(env_id="ALE/Berzerk-v5", envs=1)) as session:
        session.advance(600)
        (tallies,) = session.tallies()["env"]
    assert tallies["resets"] >= 2
    # The step that ends an episode stops early: it emulates 1 to 4 frames.
    assert 2400 - 3 * tallies["resets"] <= tallies["emulator_frames"] <= 2400


def test_environments_without_an_emulator_report_no_frames(open_session):
    with open_session(graph_of(envs=1)) as session:
        session.advance(1)
        assert session.tallies()["env"] == [{"resets": 0}]


def test_the_emulators_banner_stays_out_of_the_log(open_session, capfd):
    with open_session(graph_of(env_id="ALE/Pong-v5", envs=1)) as session:
        session.advance(1)
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"actions": "driver", "fragment": 8}, "fragment=8 does not go with actions='driver'.*Set fragment=1, or"),
        ({"lag": 1}, "lag=1 does not go with actions='local'.*Set lag=0, or actions='driver'"),
        ({"actions": "driver", "lag": -1}, r"Expected `int` >= 0 - at `\$.lag`"),
        ({"policy": "mlp64"}, "policy='mlp64' does not go with actions='local'.*Set actions='driver', or"),
        ({"restart": "every_step", "fragment": 8}, "restart='every_step' does not go with.* fragment=8.*Set actions="),
        ({"restart": "every_step", "actions": "driver"}, "restart='every_step' does not go with actions='driver'"),
        ({"observation": "gray84"}, "observation='gray84' does not go with env_id='CartPole-v1'.*ALE/Pong-v5"),
        ({"envs": 0}, r"Expected `int` >= 1 - at `\$.envs`"),
        ({"fragment": 0}, r"Expected `int` >= 1 - at `\$.fragment`"),
        ({"actions": "both"}, "Invalid enum value 'both'"),
        ({"policy": "dqn"}, "Invalid enum value 'dqn'"),
        ({"env": "CartPole-v1"}, "unknown field `env`"),
    ],
)
def test_parameters_that_break_a_rule_are_rejected(parameters, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(parameters, Parameters)


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("CartPol-v1", "Unknown environment 'CartPol-v1'.*Did you mean 'CartPole-v1'"),
        ("CartPole", "Unknown environment 'CartPole'.*with its version.*Did you mean 'CartPole-v"),
        ("ALE/Pog-v5", "Unknown environment 'ALE/Pog-v5'.*Did you mean 'ALE/Pong-v5'"),
        ("Pong-v5", "Unknown environment 'Pong-v5'.*Did you mean '.*Pong-v"),
        ("qqqqq", r"Unknown environment 'qqqqq'.*gymnasium.pprint_registry\(\) lists the known ones"),
        ("no_such_module:CartPole-v1", "registered by module 'no_such_module', which cannot be imported.*Install it"),
    ],
)
def test_an_unknown_environment_is_rejected_with_the_nearest_id(env_id, message):
    with pytest.raises(ValueError, match=message):
        WORKLOAD.check(Parameters(env_id=env_id))


def test_the_atari_ids_of_older_papers_are_known():
    WORKLOAD.check(Parameters(env_id="PongNoFrameskip-v4"))


def test_atari_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(ValueError, match=r"'ALE/Asterix-v5' needs the module ale_py.*Install ale-py"):
        WORKLOAD.check(Parameters(env_id="ALE/Asterix-v5"))
    with pytest.raises(ValueError, match="Unknown environment 'CartPol-v1'"):
        WORKLOAD.check(Parameters(env_id="CartPol-v1"))


def test_an_environment_may_name_the_module_that_registers_it(rounds_of: RoundsOf):
    received = rounds_of(graph_of(env_id="gymnasium.envs:CartPole-v1", envs=1), 1)
    assert received[0]["observation"][0].shape == (4,)


def test_an_environment_that_cannot_be_made_is_rejected_with_the_reason():
    gymnasium.register("Broken-v0", "no_such_module:Env")
    try:
        with pytest.raises(ValueError, match=r"'Broken-v0' cannot be made here \(.*no_such_module.*\). Install what"):
            WORKLOAD.check(Parameters(env_id="Broken-v0"))
    finally:
        del gymnasium.registry["Broken-v0"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"policy": "nature_cnn"},
            r"'CartPole-v1' have shape \(4,\).*needs uint8 images of 36 x 36.*Use policy 'linear'",
        ),
        ({"env_id": "Talker-v0"}, "are no arrays"),
    ],
)
def test_a_policy_that_does_not_suit_the_environment_is_rejected(parameters, message, talker):
    with pytest.raises(ValueError, match=message):
        WORKLOAD.check(Parameters(actions="driver", **parameters))


def test_every_parameter_has_a_description_and_a_default():
    for field in msgspec.structs.fields(WORKLOAD.parameters):
        assert field.type.__metadata__[0].description
        assert field.default is not msgspec.NODEFAULT


def test_the_defaults_suit_each_other():
    WORKLOAD.check(WORKLOAD.parameters())
