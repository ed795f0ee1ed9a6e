"""Parts of a graph: where it is cut, who lives where, and that the rules of pace neither deadlock nor overwrite."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from harness.conformance.random_graphs import Plan, graph_of
from runtimes.layout import HOME
from runtimes.parts import Pace, is_newest, parts_layout, why_in_one
from tests.runtimes.plans import plans
from workloads.dataflow import ArraySpec, GraphBuilder, Input, Output, Task

if TYPE_CHECKING:
    from workloads.dataflow import Graph, Inputs, Outputs, TaskContext

ARRAY = ArraySpec((2,), "f8")


class Nothing(Task):
    """Never fires here."""

    def __init__(self, _context: TaskContext) -> None:
        """Be built."""

    def fire(self, inputs: Inputs, outputs: Outputs) -> None:
        """Do nothing."""


def training_like(actors: int = 4, *, delay: int = 1, retain: int = 0, always: bool = True) -> Graph:
    """Actors that give to a learner and receive from it, both delayed; the learner has helpers of its own."""
    builder = GraphBuilder(workload="parts", parameters={}, seed=0, unit="round", units_per_round=1)
    actor = builder.bank("actor", actors, Nothing, inputs=[Input("told", retain)], outputs=[Output("seen", ARRAY)])
    helper = builder.bank("helper", 2, Nothing, inputs=["work"], outputs=[Output("done", ARRAY)])
    told = Output("told", ARRAY, optional=not always)
    learner = builder.task(
        "learner", Nothing, inputs=["seen", "done"], outputs=[told, Output("work", ARRAY)], observed=True
    )
    builder.gather(actor["seen"], learner["seen"], delay=delay)
    builder.broadcast(learner["told"], actor["told"], delay=delay)
    builder.broadcast(learner["work"], helper["work"], delay=1)
    builder.gather(helper["done"], learner["done"])
    return builder.build()


def places_of(graph: Graph, places: int) -> dict[str, list[tuple[int, range]]]:
    layout = parts_layout(graph, places)
    return {path: [(piece.place, piece.members) for piece in pieces] for path, pieces in layout.pieces.items()}


def test_what_is_observed_lives_with_the_driver_and_banks_are_cut_into_slices():
    assert places_of(training_like(), 3) == {
        "actor": [(1, range(2)), (2, range(2, 4))],
        "helper": [(HOME, range(2))],
        "learner": [(HOME, range(1))],
    }


def test_there_are_no_more_places_than_parts():
    layout = parts_layout(training_like(2), 9)
    assert layout.names == ("driver", "host 1", "host 2")


def test_a_single_task_that_nobody_observes_has_a_place_of_its_own():
    builder = GraphBuilder(workload="parts", parameters={}, seed=0, unit="round", units_per_round=1)
    store = builder.task("store", Nothing, inputs=["from"], outputs=[Output("to", ARRAY)])
    reader = builder.task("reader", Nothing, inputs=["from"], outputs=[Output("to", ARRAY)], observed=True)
    builder.connect(store["to"], reader["from"], delay=1)
    builder.connect(reader["to"], store["from"], delay=1)
    assert places_of(builder.build(), 2) == {"store": [(1, range(1))], "reader": [(HOME, range(1))]}


def test_members_that_are_joined_one_to_one_are_cut_together():
    builder = GraphBuilder(workload="parts", parameters={}, seed=0, unit="round", units_per_round=1)
    first = builder.bank("first", 5, Nothing, outputs=[Output("to", ARRAY)])
    second = builder.bank("second", 5, Nothing, inputs=["from"])
    builder.connect(first["to"], second["from"])
    cut = [(1, range(2)), (2, range(2, 5))]
    assert places_of(builder.build(), 2) == {"first": cut, "second": cut}


@pytest.mark.parametrize(
    ("joined", "observed", "told"),
    [(True, True, "joined by edges without a delay"), (False, True, "all its parts are observed")],
)
def test_what_has_only_one_part_says_why(joined: bool, observed: bool, told: str) -> None:
    builder = GraphBuilder(workload="parts", parameters={}, seed=0, unit="round", units_per_round=1)
    first = builder.task("first", Nothing, outputs=[Output("to", ARRAY)], observed=observed)
    second = builder.task("second", Nothing, inputs=["from"], observed=observed)
    builder.connect(first["to"], second["from"], delay=0 if joined else 1)
    assert told in str(why_in_one(parts_layout(builder.build(), 4)))


def test_a_bank_that_would_live_in_one_process_asks_for_more():
    builder = GraphBuilder(workload="parts", parameters={}, seed=0, unit="round", units_per_round=1)
    builder.bank("only", 3, Nothing)
    assert why_in_one(parts_layout(builder.build(), 2)) is None
    assert "more workers" in str(why_in_one(parts_layout(builder.build(), 1)))


def test_only_what_is_broadcast_in_every_round_may_be_skipped():
    assert [e.source.name for e in training_like().edges if is_newest(training_like(), e)] == ["told", "work"]
    assert [e.source.name for e in training_like(always=False).edges if is_newest(training_like(always=False), e)] == [
        "work"
    ]


def test_a_learner_waits_for_transitions_and_an_actor_only_for_what_staleness_allows():
    pace = Pace(parts_layout(training_like(), 3), staleness=4)
    assert pace.waits_of(HOME) == {1: 0, 2: 0}
    assert pace.waits_of(1) == {HOME: 4}


# ------------------------------------------------------------------------------ a model of rounds


class Model:
    """Places that go on in any order that their pace allows, and what would lie in which slot."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.layout = pace.layout
        self.done = dict.fromkeys({p.place for pieces in self.layout.pieces.values() for p in pieces}, 0)
        """Rounds that each place has done."""
        self.within: dict[int, dict[Any, int]] = {}
        """Of places within a round what they read: link to the number of the round that it is of."""
        self.kept: dict[Any, dict[int, int]] = {}
        """Of each link what lies in which slot."""
        for link in pace.links():
            delay = self.layout.graph.delay_of(link[0])
            self.kept[link] = {number % pace.slots_of(link[0]): number for number in range(-delay, 0)}

    def may_begin(self, place: int) -> bool:
        waits = self.pace.waits_of(place).items()
        return place not in self.within and all(self.done[o] >= self.done[place] - behind for o, behind in waits)

    def begin(self, place: int) -> None:
        """Look up what is read, which must be there, and be as old as is promised."""
        reads: dict[Any, int] = {}
        number = self.done[place]
        for link, feeds in self.pace.links().items():
            for feed in feeds:
                if self.layout.pieces[feed.edge.target.task][feed.target].place != place:
                    continue
                giver = self.layout.pieces[link[0].task][link[1]].place
                newest = is_newest(self.layout.graph, feed.edge)
                read = self.done[giver] - 1 if newest else number - feed.edge.delay
                assert self.kept[link][read % self.pace.slots_of(link[0])] == read
                assert read >= number - 1 - self.pace.staleness or not newest
                retained = self.layout.graph.retain_of(feed.edge)
                reads[link, feed.edge.target, retained] = read
        self.within[place] = reads

    def end(self, place: int) -> None:
        """Give; nothing that anybody reads or retains may be overwritten."""
        del self.within[place]
        for link in self.pace.links():
            if self.layout.pieces[link[0].task][link[1]].place == place:
                slot, number = self.done[place] % self.pace.slots_of(link[0]), self.done[place]
                for reader, reads in self.within.items():
                    for (read_link, _, retained), read in reads.items():
                        if read_link == link:
                            assert self.kept[link].get(slot, -99) < read - retained, (reader, link)
                self.kept[link][slot] = number
        self.done[place] += 1


JOINED_BY_INDEX_WITH_A_BANK_THAT_IS_GATHERED_AT_ONCE = Plan(
    widths=(2, 2, None),
    edges=((0, 2, 0, False, 0, False), *[(0, 0, 1, False, 0, False)] * 4, (0, 1, 1, False, 0, False)),
    optional=frozenset(),
    apart=frozenset(),
)


@given(plan=plans(), staleness=st.integers(0, 3), places=st.integers(2, 4), order=st.integers(0, 1 << 30))
@example(plan=JOINED_BY_INDEX_WITH_A_BANK_THAT_IS_GATHERED_AT_ONCE, staleness=0, places=3, order=0)
@settings(max_examples=150)
def test_whoever_goes_first_nobody_waits_for_ever_and_nothing_is_overwritten(
    plan: Plan, staleness: int, places: int, order: int
) -> None:
    graph = graph_of(plan, 0)
    layout = parts_layout(graph, places)
    assume(why_in_one(layout) is None)
    model = Model(Pace(layout, staleness))
    # Some places are quick, others slow.
    random = Random(order)
    weights = {place: random.choice([1, 1, 10]) for place in model.done}
    for _ in range(60):
        able = [("begin", place) for place in model.done if model.may_begin(place)]
        able += [("end", place) for place in model.within]
        assert able, "all wait for one another"
        (what, place), *_ = random.choices(able, [weights[place] for _, place in able])
        (model.begin if what == "begin" else model.end)(place)
        ahead = [model.done[one] - model.done[other] for one in model.done for other in model.pace.waits_of(one)]
        assert max(ahead, default=0) <= staleness + 1
