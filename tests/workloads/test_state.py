"""Where a program stands: told by a session, taken up by another, checked against its graph."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conformance.random_graphs import Plan, graph_of
from runtimes.protocol import RuntimeFailure
from runtimes.sequential import SequentialSession
from tests.runtimes.plans import plans
from workloads.dataflow import (
    ArraySpec,
    Digest,
    Gathered,
    Graph,
    GraphBuilder,
    GraphError,
    Inputs,
    Output,
    Outputs,
    Session,
    State,
    Task,
    TaskContext,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Counter(Task):
    """Sends its own sum, and hears it some rounds later."""

    def __init__(self, _context: TaskContext) -> None:
        self.total = np.zeros(2)
        self.closed = False

    def initial(self, port: str) -> Any:
        return np.full(2, 0.5) if port == "sum" else None

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        self.total += inputs["sum_in"] + 1
        outputs["sum"][...] = self.total
        if self.total[0] % 2 < 1:
            outputs["text"] = f"{self.total[0]} after {inputs['text_in']}"

    def state(self) -> Mapping[str, Any]:
        return {"total": self.total}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.total[...] = state["total"]

    def close(self) -> None:
        self.closed = True


def graph_of_counters(task: Callable[[TaskContext], Task] = Counter, **changed: Any) -> Graph:
    """Two counters; the sum is heard three rounds later, the text one."""
    how: dict[str, Any] = {"parameters": {"size": 2, "shape": (1, 2)}, "seed": 0, "width": 2, "delay": 3} | changed
    builder = GraphBuilder(
        workload="counted", parameters=how["parameters"], seed=how["seed"], unit="round", units_per_round=1
    )
    outputs = [Output("sum", ArraySpec((2,), "f8")), Output("text")]
    node = builder.bank("counter", how["width"], task, inputs=["sum_in", "text_in"], outputs=outputs)
    builder.connect(node["sum"], node["sum_in"], delay=how["delay"])
    builder.connect(node["text"], node["text_in"], delay=1)
    return builder.build()


def state_after(graph: Graph, rounds: int) -> State:
    with SequentialSession(graph) as session:
        session.advance(rounds)
        return session.state()


def digest_of(value: Any) -> str:
    digest = Digest()
    digest.add(value)
    return digest.hexdigest()


def digest_of_state(state: State) -> str:
    return digest_of({path: [[m.kept, m.in_flight] for m in members] for path, members in state.tasks.items()})


def rounds_of(session: Session, graph: Graph, rounds: int) -> list[str]:
    """A digest of what was received and tallied in each round."""
    digests = []
    for _ in range(rounds):
        session.advance(1)
        digest = Digest()
        digest.add_received(graph, session.received())
        digest.add(session.tallies())
        digests.append(digest.hexdigest())
    return digests


# ------------------------------------------------------------------------------------------ going on


@given(plan=plans(), seed=st.integers(0, 3), cut=st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_session_goes_on_where_another_stood(plan: Plan, seed: int, cut: int) -> None:
    graph = graph_of(plan, seed)
    with SequentialSession(graph) as session:
        whole = rounds_of(session, graph, 9)
    state = state_after(graph, cut)
    with SequentialSession(graph.resumed(state)) as session:
        assert digest_of_state(session.state()) == digest_of_state(state)
        assert rounds_of(session, graph, 9 - cut) == whole[cut:]


def test_rounds_go_on_as_if_nobody_had_asked_for_a_state():
    graph = graph_of_counters()
    with SequentialSession(graph) as session:
        session.advance(8)
        unasked = digest_of_state(session.state())
    with SequentialSession(graph) as session:
        states = []
        for _ in range(8):
            states.append(session.state())
            session.advance(1)
        assert digest_of_state(session.state()) == unasked
    assert len(set(map(digest_of_state, states))) == len(states)


def test_a_state_is_a_copy_whose_arrays_nobody_can_write_to():
    graph = graph_of_counters()
    with SequentialSession(graph) as session:
        session.advance(2)
        state = session.state()
        before = digest_of_state(state)
        session.advance(5)
    assert digest_of_state(state) == before
    with pytest.raises(ValueError, match="read-only"):
        state.tasks["counter"][0].kept["total"][0] = 1


def test_what_is_in_flight_is_one_value_for_each_round_of_delay_the_oldest_first():
    (member, _) = state_after(graph_of_counters(), 2).tasks["counter"]
    assert np.array_equal(np.array(member.in_flight["sum"]), [[0.5, 0.5], [1.5, 1.5], [3.0, 3.0]])
    assert member.in_flight["text"] == [None]


def test_a_state_of_a_resumed_session_counts_the_rounds_before():
    graph = graph_of_counters()
    with SequentialSession(graph.resumed(state_after(graph, 5))) as session:
        assert session.state().round == 5
        session.advance(2)
        assert session.state().round == 7


class Unheard(Counter):
    def initial(self, port: str) -> Any:
        raise AssertionError(f"asked for the initial value of {port}")


def test_a_resumed_task_is_not_asked_for_initial_values():
    state = state_after(graph_of_counters(), 1)
    with SequentialSession(graph_of_counters(Unheard).resumed(state)) as session:
        session.advance(5)


class FailsAtFive(Counter):
    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        super().fire(inputs, outputs)
        if self.total[0] > 9:
            raise ArithmeticError("more than nine")


def test_a_failure_of_a_resumed_session_names_the_round_counted_from_the_beginning():
    with SequentialSession(graph_of_counters(FailsAtFive)) as session, pytest.raises(RuntimeFailure) as uninterrupted:
        session.advance(9)
    graph = graph_of_counters(FailsAtFive)
    with (
        SequentialSession(graph.resumed(state_after(graph, 2))) as session,
        pytest.raises(RuntimeFailure) as resumed,
    ):
        session.advance(9)
    assert str(resumed.value) == str(uninterrupted.value)


# ---------------------------------------------------------------------------------- what has no state


class Silent(Counter):
    def state(self) -> Mapping[str, Any]:
        return Task.state(self)


class Deaf(Counter):
    def restore(self, state: Mapping[str, Any]) -> None:
        Task.restore(self, state)


def test_a_task_that_does_not_say_what_it_keeps_is_named_and_the_session_goes_on():
    with SequentialSession(graph_of_counters(Silent)) as session:
        session.advance(1)
        with pytest.raises(GraphError, match=r"'counter\[0\]' has no state .* Silent does not say .* Define state"):
            session.state()
        session.advance(1)


def test_a_task_that_gives_a_state_and_takes_none_cannot_be_resumed_unawares():
    graph = graph_of_counters(Deaf)
    with pytest.raises(RuntimeFailure, match=r"'counter\[0\]' could not be built: .* \(total\) .* Define restore"):
        SequentialSession(graph.resumed(state_after(graph, 1)))


class Listed(Deaf):
    made: list[Listed] = []  # noqa: RUF012 - what a test looks at

    def __init__(self, context: TaskContext) -> None:
        super().__init__(context)
        self.made.append(self)


def test_a_task_that_cannot_go_on_is_closed():
    graph = graph_of_counters(Listed)
    state = state_after(graph, 1)
    with pytest.raises(RuntimeFailure):
        SequentialSession(graph.resumed(state))
    assert Listed.made[-1].closed


class Odd(Counter):
    """Keeps what it is made with."""

    def __init__(self, context: TaskContext, kept: Any) -> None:
        super().__init__(context)
        self.kept = kept

    def state(self) -> Mapping[str, Any]:
        return {"odd": [self.kept]}


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({1}, r"state\['odd'\]\[0\] is a set"),
        (np.array([{}]), r"state\['odd'\]\[0\] is an array of dtype object"),
        (np.zeros(2, "i4,f4"), "is an array of dtype"),
        ({1: 2}, "a mapping with other keys than texts"),
        (object(), "is a object"),
    ],
)
def test_a_state_that_a_file_could_not_hold_is_refused_at_once(kept: Any, told: str) -> None:
    with (
        SequentialSession(graph_of_counters(partial(Odd, kept=kept))) as session,
        pytest.raises(GraphError, match=told),
    ):
        session.state()


def test_what_was_gathered_is_kept_as_a_list():
    gathered = Gathered([np.ones((1, 2)), np.zeros((2, 2))])
    with SequentialSession(graph_of_counters(partial(Odd, kept=gathered))) as session:
        kept = session.state().tasks["counter"][0].kept
    assert digest_of(kept) == digest_of({"odd": [list(gathered)]})


class Broken(Counter):
    def state(self) -> Mapping[str, Any]:
        raise ArithmeticError("cannot say")


def test_what_a_task_raises_when_it_is_asked_is_told():
    with (
        SequentialSession(graph_of_counters(Broken)) as session,
        pytest.raises(GraphError, match=r"'counter\[0\]' .* ArithmeticError: cannot say"),
    ):
        session.state()


# ------------------------------------------------------------------------------- which graph it is of


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 1}, "It is of seed 0, not 1"),
        ({"parameters": {"size": 3, "shape": (1, 2)}}, "of parameter 'size' 2, not 3"),
        ({"parameters": {"size": 2}}, r"of parameter 'shape' \[1, 2\], not \(none\)"),
        ({"width": 3}, "of width of 'counter' 2, not 3"),
        ({"delay": 2}, "of delay of 'counter.sum' 3, not 2"),
    ],
)
def test_a_state_of_another_graph_is_refused_and_says_what_differs(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(GraphError, match=rf"does not belong to this graph\. .*{told}"):
        graph_of_counters(**changed).resumed(state_after(graph_of_counters(), 1))


def test_a_parameter_may_have_been_a_tuple_and_now_be_a_list():
    state = state_after(graph_of_counters(), 1)
    graph_of_counters(parameters={"size": 2, "shape": [1, 2]}).resumed(state)


def test_a_runtime_that_does_not_say_where_it_stands_says_so():
    class Other(SequentialSession):
        def state(self) -> State:
            return Session.state(self)

    with Other(graph_of_counters()) as session, pytest.raises(GraphError, match=r"Other does not say .* sequential"):
        session.state()
