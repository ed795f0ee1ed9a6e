"""Timelines: summed up in numbers, and written as Perfetto reads them."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.reactor import Input, Output, Program, Reactor, ReactorError, Tag, Timer, bank, ms, reaction
from runtimes.reactor.observe import Notes
from runtimes.reactor.timeline import DECIDING, CriticalPath, Timeline, waiting_for

US = 1_000

# A hub on worker 0 sends to two members, one on each worker, and gathers from both; in tag 1 only the hub
# and the first member run. `hub.count` runs after `hub.gather`, in the same reactor.
SEND, FIRST, SECOND, GATHER, COUNT = range(5)

HUB = Timeline(
    spans={
        0: [
            (DECIDING, 0, 0, 10 * US),
            (SEND, 0, 10 * US, 20 * US),
            (FIRST, 0, 20 * US, 50 * US),
            (waiting_for(1), 0, 50 * US, 75 * US),
            (GATHER, 0, 80 * US, 85 * US),
            (COUNT, 0, 85 * US, 86 * US),
            (SEND, 1, 100 * US, 120 * US),
            (FIRST, 1, 120 * US, 150 * US),
            (GATHER, 1, 150 * US, 155 * US),
        ],
        1: [(waiting_for(0), 0, 5 * US, 22 * US), (SECOND, 0, 22 * US, 72 * US), (DECIDING, 1, 72 * US, 155 * US)],
    },
    reactions=["hub.send", "member[0].work", "member[1].work", "hub.gather", "hub.count"],
    home=[0, 0, 1, 0, 0],
    tags=[Tag(0, 0), Tag(5, 1)],
    predecessors=[[], [SEND], [SEND], [SEND, FIRST, SECOND], [GATHER]],
)

NOTHING = Timeline(spans={0: []}, reactions=[], home=[], tags=[], predecessors=[])


# ---------------------------------------------------------------------------------------- summary


def test_a_summary_tells_count_total_and_quantiles_of_every_reaction_the_costliest_first():
    found = {r.reaction: (r.worker, r.count, r.total_s, r.p50_s, r.p99_s) for r in HUB.summary().reactions}

    assert list(found) == ["member[0].work", "member[1].work", "hub.send", "hub.gather", "hub.count"]
    assert found["member[0].work"] == pytest.approx((0, 2, 60e-6, 30e-6, 30e-6))
    assert found["member[1].work"] == pytest.approx((1, 1, 50e-6, 50e-6, 50e-6))
    assert found["hub.send"] == pytest.approx((0, 2, 30e-6, 15e-6, 19.9e-6))


def test_a_summary_tells_of_every_worker_what_it_did_with_its_time():
    first, second = HUB.summary().workers

    assert (first.busy_s, first.waiting_s, first.other_s) == pytest.approx((101e-6, 35e-6, 19e-6))
    assert (second.busy_s, second.waiting_s, second.other_s) == pytest.approx((50e-6, 100e-6, 5e-6))


def test_the_critical_path_of_a_tag_is_its_longest_chain_of_reactions_that_ran():
    assert HUB.summary().critical_paths == (
        CriticalPath(
            reactions=("hub.send", "member[1].work", "hub.gather", "hub.count"), tags=1, median_s=pytest.approx(66e-6)
        ),
        CriticalPath(reactions=("hub.send", "member[0].work", "hub.gather"), tags=1, median_s=pytest.approx(55e-6)),
    )


def test_critical_paths_are_counted_the_most_frequent_first():
    spans = []
    for number, (first_us, second_us) in enumerate([(1, 9), (9, 1), (8, 1), (7, 1)]):
        begin_ns = 100 * US * number
        spans += [(0, number, begin_ns, begin_ns + first_us * US)]
        spans += [(1, number, begin_ns + 50 * US, begin_ns + (50 + second_us) * US)]
    timeline = Timeline(
        spans={0: spans}, reactions=["a.x", "b.x"], home=[0, 0], tags=[Tag(t) for t in range(4)], predecessors=[[], []]
    )

    paths = timeline.summary().critical_paths

    assert [(path.reactions, path.tags, path.median_s) for path in paths] == [
        (("a.x",), 3, pytest.approx(8e-6)),
        (("b.x",), 1, pytest.approx(9e-6)),
    ]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.data())
def test_no_chain_of_reactions_is_longer_than_the_critical_path(durations_ns, data):
    ranks = range(len(durations_ns))
    predecessors = [data.draw(st.sets(st.integers(0, rank - 1)) if rank else st.just(set())) for rank in ranks]
    timeline = Timeline(
        spans={0: [(rank, 0, 0, durations_ns[rank]) for rank in ranks]},
        reactions=[f"r{rank}.x" for rank in ranks],
        home=[0] * len(ranks),
        tags=[Tag(0)],
        predecessors=[sorted(sources) for sources in predecessors],
    )

    def longest(rank):
        return durations_ns[rank] + max(map(longest, predecessors[rank]), default=0)

    (path,) = timeline.summary().critical_paths
    assert path.median_s == pytest.approx(max(map(longest, ranks)) / 1e9)


AS_TEXT = """\
2 tags in 0.155 ms

reaction        worker  count  total ms  p50 us  p99 us
member[0].work       0      2     0.060    30.0    30.0
member[1].work       1      1     0.050    50.0    50.0
hub.send             0      2     0.030    15.0    19.9
hub.gather           0      2     0.010     5.0     5.0
hub.count            0      1     0.001     1.0     1.0

          busy ms  waiting ms  other ms
worker 0    0.101       0.035     0.019
worker 1    0.050       0.100     0.005

critical path of a tag                              tags  median us
hub.send > member[1].work > hub.gather > hub.count     1       66.0
hub.send > member[0].work > hub.gather                 1       55.0"""


def test_a_summary_as_text_has_a_table_for_reactions_workers_and_critical_paths():
    assert str(HUB.summary()) == AS_TEXT


def test_a_long_table_is_cut_and_says_so():
    timeline = Timeline(
        spans={0: [(rank, 0, rank, rank + 1) for rank in range(64)]},
        reactions=[f"r[{rank}].x" for rank in range(64)],
        home=[0] * 64,
        tags=[Tag(0)],
        predecessors=[[]] * 64,
    )

    assert "and 44 more" in str(timeline.summary()).splitlines()
    assert len(timeline.summary().reactions) == 64


def test_a_program_that_ran_nothing_has_an_empty_summary():
    summary = NOTHING.summary()

    assert (summary.tags, summary.elapsed_s, summary.reactions, summary.critical_paths) == (0, 0.0, (), ())
    assert str(summary).startswith("0 tags")


def test_the_part_of_some_tags_has_nothing_of_the_others():
    part = HUB.of_tags(range(1, 2))

    assert part.spans == {0: HUB.spans[0][6:], 1: HUB.spans[1][2:]}
    assert part.summary().tags == 1
    check_format(part)


# --------------------------------------------------------------------------------------- Perfetto


def events(timeline, phase):
    return [event for event in timeline.perfetto()["traceEvents"] if event["ph"] == phase]


def tracks(timeline):
    """Names of process and thread, by their numbers."""
    named = events(timeline, "M")
    processes = {e["pid"]: e["args"]["name"] for e in named if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in named if e["name"] == "thread_name"}
    return {track: (processes[track[0]], name) for track, name in threads.items()}


def shown(timeline):
    """Track, name, begin and end of every slice, in microseconds."""
    names = tracks(timeline)
    return [
        (*names[e["pid"], e["tid"]], e["name"], e["ts"], e["ts"] + e["dur"], e["args"]) for e in events(timeline, "X")
    ]


def check_format(timeline):
    """Rules of the trace event format, and of how Perfetto reads it."""
    found = json.loads(json.dumps(timeline.perfetto()))
    assert isinstance(found["traceEvents"], list)
    names = tracks(timeline)
    assert len(set(names.values())) == len(names)
    processes = {pid for pid, _ in names}
    assert 0 not in processes
    assert not {tid for pid, tid in names if names[pid, tid][0] != "tags"} & processes
    for event in found["traceEvents"]:
        assert event["ph"] in {"M", "X", "s", "f"}
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["name"], str)
        if event["ph"] == "M":
            continue
        assert (event["pid"], event["tid"]) in names
        assert event["ts"] >= 0
        assert isinstance(event["cat"], str)
    check_slices(events(timeline, "X"))
    check_flows(timeline)


def check_slices(slices):
    by_track = defaultdict(list)
    for event in slices:
        assert event["dur"] > 0
        by_track[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for bounds in by_track.values():
        ordered = sorted(bounds)
        assert all(end <= begin + 1e-6 for (_, end), (begin, _) in itertools.pairwise(ordered))


def check_flows(timeline):
    starts = {event["id"]: event for event in events(timeline, "s")}
    ends = {event["id"]: event for event in events(timeline, "f")}
    assert len(starts) == len(events(timeline, "s"))
    assert len(ends) == len(events(timeline, "f"))
    assert starts.keys() == ends.keys()
    for identity, start in starts.items():
        end = ends[identity]
        assert (start["name"], start["cat"]) == (end["name"], end["cat"])
        assert start["ts"] <= end["ts"]
        assert end["bp"] == "e"
        for event in (start, end):
            around = [
                s
                for s in events(timeline, "X")
                if (s["pid"], s["tid"]) == (event["pid"], event["tid"])
                and s["ts"] - 1e-6 <= event["ts"] < s["ts"] + s["dur"]
            ]
            assert len(around) == 1
            assert around[0]["cat"] == "reaction"


@pytest.mark.parametrize("timeline", [HUB, NOTHING])
def test_a_timeline_keeps_the_rules_of_the_trace_event_format(timeline):
    check_format(timeline)


def test_workers_are_processes_and_reactors_and_waiting_are_their_threads():
    assert set(tracks(HUB).values()) == {
        ("tags", "tags"),
        ("worker 0", "waiting"),
        ("worker 0", "hub"),
        ("worker 0", "member[0]"),
        ("worker 1", "waiting"),
        ("worker 1", "member[1]"),
    }


def test_a_reaction_is_a_slice_in_the_track_of_its_reactor_with_its_tag():
    found = [slice_ for slice_ in shown(HUB) if slice_[1] == "hub"]

    assert [slice_[2] for slice_ in found] == ["send", "gather", "count", "send", "gather"]
    assert found[3][3:5] == pytest.approx((100.0, 120.0))
    assert found[3][5] == {"tag_number": 1, "time_ns": 5, "microstep": 1}


def test_waiting_is_apart_from_running_and_says_what_for():
    found = [(worker, name) for worker, track, name, *_ in shown(HUB) if track == "waiting"]

    assert found == [
        ("worker 0", "next tag"),
        ("worker 0", "wait for worker 1"),
        ("worker 1", "wait for worker 0"),
        ("worker 1", "next tag"),
    ]


def test_a_tag_is_a_slice_from_its_first_reaction_to_its_last():
    found = [(name, begin, end) for _, track, name, begin, end, _ in shown(HUB) if track == "tags"]

    assert found == [("tag (0 ns, 0)", 10.0, 86.0), ("tag (5 ns, 1)", 100.0, 155.0)]


def test_the_slice_of_a_tag_tells_its_critical_path():
    found = [args for _, track, *_, args in shown(HUB) if track == "tags"]

    assert [args["critical_path"] for args in found] == [
        "hub.send > member[1].work > hub.gather > hub.count",
        "hub.send > member[0].work > hub.gather",
    ]
    assert [args["critical_path_us"] for args in found] == [66.0, 55.0]


def test_flows_lead_from_reactions_to_those_of_other_reactors_that_depended_on_them():
    names = tracks(HUB)
    starts = {e["id"]: names[e["pid"], e["tid"]][1] for e in events(HUB, "s")}
    flows = [(starts[e["id"]], names[e["pid"], e["tid"]][1], e["name"]) for e in events(HUB, "f")]

    assert sorted(flows) == [
        ("hub", "member[0]", "tag (0 ns, 0)"),
        ("hub", "member[0]", "tag (5 ns, 1)"),
        ("hub", "member[1]", "tag (0 ns, 0)"),
        ("member[0]", "hub", "tag (0 ns, 0)"),
        ("member[0]", "hub", "tag (5 ns, 1)"),
        ("member[1]", "hub", "tag (0 ns, 0)"),
    ]


@st.composite
def timelines(draw):
    """Any timeline in which dependencies hold: each reaction begins after those that it depends on have ended."""
    ranks = range(draw(st.integers(1, 5)))
    workers = draw(st.integers(1, 3))
    home = [draw(st.integers(0, workers - 1)) for _ in ranks]
    predecessors = [sorted(draw(st.sets(st.integers(0, rank - 1)) if rank else st.just(set()))) for rank in ranks]
    spans = {worker: [] for worker in range(workers)}
    now = dict.fromkeys(spans, 10**15)
    for number in range(draw(st.integers(1, 3))):
        ends = {}
        for rank in draw(st.lists(st.sampled_from(ranks), unique=True, min_size=1).map(sorted)):
            worker = home[rank]
            begin_ns = max([now[worker], *(ends[p] for p in predecessors[rank] if p in ends)])
            spans[worker].append((waiting_for(0), number, now[worker], begin_ns))
            now[worker] = ends[rank] = begin_ns + draw(st.integers(0, 50))
            spans[worker].append((rank, number, begin_ns, now[worker]))
            # A slice that took no time is drawn for a nanosecond.
            now[worker] += 2
        now = dict.fromkeys(now, max(now.values()))
    return Timeline(
        spans=spans,
        reactions=[f"r{rank % 3}.x{rank}" if rank else "x" for rank in ranks],
        home=home,
        tags=[Tag(n, n) for n in range(3)],
        predecessors=predecessors,
    )


@given(timelines())
def test_any_timeline_keeps_the_rules_of_the_trace_event_format(timeline):
    check_format(timeline)


@given(timelines())
def test_busy_waiting_and_other_time_of_a_worker_make_up_all_of_it(timeline):
    summary = timeline.summary()

    for worker in summary.workers:
        assert worker.busy_s + worker.waiting_s + worker.other_s == pytest.approx(summary.elapsed_s)
        assert worker.other_s > -1e-12
    assert sum(worker.busy_s for worker in summary.workers) == pytest.approx(sum(r.total_s for r in summary.reactions))


def test_the_file_holds_the_events_as_json(tmp_path):
    HUB.save(tmp_path / "hub.json")

    assert json.loads((tmp_path / "hub.json").read_text(encoding="utf-8")) == HUB.perfetto()


# --------------------------------------------------------------------------------------- programs


class Source(Reactor):
    tick = Timer(1 * ms)
    order = Output[int]()

    @reaction(tick, effects=[order])
    def send(self):
        self.order.set(1)


class Member(Reactor):
    order = Input[int]()
    answer = Output[int]()

    @reaction(order, effects=[answer])
    def work(self):
        self.answer.set(sum(range(1000)))


class Sink(Reactor):
    answers = Input[int](width=4)

    @reaction(answers)
    def gather(self):
        sum(self.answers.values)


class Gathering(Reactor):
    def __init__(self):
        self.source = Source()
        self.members = bank(4, lambda _: Member())
        self.sink = Sink()
        self.connect(self.source.order, self.members.order, broadcast=True)
        self.connect(self.members.answer, self.sink.answers)


@pytest.mark.parametrize("fast", [True, False])
def test_the_timeline_of_a_program_has_every_reaction_in_the_worker_that_ran_it(way, fast):
    program = Program(Gathering, fast=fast, timeline=True, **way)
    program.run(5 * ms)
    timeline = program.timeline()
    check_format(timeline)

    summary = timeline.summary()

    assert {r.reaction: r.count for r in summary.reactions} == {
        "source.send": 6,
        "sink.gather": 6,
        **{f"members[{index}].work": 6 for index in range(4)},
    }
    assert {r.worker for r in summary.reactions} == set(range(program.workers))
    assert sum(path.tags for path in summary.critical_paths) == summary.tags == 6
    for path in summary.critical_paths:
        assert (len(path.reactions), path.reactions[0], path.reactions[2]) == (3, "source.send", "sink.gather")
    assert len(events(timeline, "s")) == 6 * (4 + 4)


def test_workers_of_a_program_wait_for_one_another(way):
    program = Program(Gathering, fast=True, timeline=True, **way)
    program.run(5 * ms)

    waited = {
        worker: {what for what, *_ in spans if what < 0 and what != DECIDING}
        for worker, spans in program.timeline().spans.items()
    }

    if program.workers == 1:
        assert waited == {0: set()}
    else:
        assert all(waiting_for(0) in waited[worker] for worker in range(1, program.workers))


def refuse(*_arguments, **_options):
    raise AssertionError("This costs time.")


def test_nothing_is_noted_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(Notes, "timed", refuse)
    monkeypatch.setattr(Notes, "stepping", refuse)
    program = Program(Gathering, fast=True, executor="inline")
    program.run(5 * ms)

    with pytest.raises(ReactorError, match="timeline=True"):
        program.timeline()
    for asked in ({"timeline": True}, {"recording": True}):
        with pytest.raises(AssertionError, match="costs time"):
            Program(Gathering, fast=True, executor="inline", **asked).run(5 * ms)
