"""Workloads and runtimes of a distribution that is not ours: what the harness is tested with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from harness.metrics import Metric
from harness.reporters import Reporter
from runtimes.protocol import Runtime, Tracing
from runtimes.sequential import SequentialSession
from workloads.dataflow import ArraySpec, GraphBuilder, Output, Task, Workload

FIRINGS = []
"""One for each firing of a counter in this process."""


class CountingParameters(msgspec.Struct, frozen=True, kw_only=True):
    width: Annotated[int, msgspec.Meta(description="number of counters", ge=1)] = 3
    step: Annotated[float, msgspec.Meta(description="what is added in a round")] = 1.0
    direction: Annotated[Literal["up", "down"], msgspec.Meta(description="which way")] = "up"
    target: Annotated[str, msgspec.Meta(description="a place that exists: here")] = "here"
    offsets: Annotated[list[int], msgspec.Meta(description="added at first")] = []

    def __post_init__(self) -> None:
        if self.direction == "down" and self.step == 0:
            raise ValueError("direction=down needs a step that is not 0.")


class Counter(Task):
    def __init__(self, parameters, context) -> None:
        self.value = float(context.index + sum(parameters.offsets))
        self.step = parameters.step if parameters.direction == "up" else -parameters.step
        self.fired = 0

    def fire(self, inputs, outputs) -> None:
        FIRINGS.append(1)
        self.value += self.step
        self.fired += 1
        outputs["value"][...] = self.value

    def tallies(self):
        return {"resets": self.fired}


class RandomCounter(Task):
    def __init__(self, context) -> None:
        self.generator = np.random.default_rng()

    def fire(self, inputs, outputs) -> None:
        outputs["value"][...] = self.generator.random()


class FailingCounter(Task):
    def __init__(self, context) -> None:
        pass

    def fire(self, inputs, outputs) -> None:
        raise ArithmeticError("the counter overflowed\nwith a second line")


class Sink(Task):
    def __init__(self, context) -> None:
        pass

    def fire(self, inputs, outputs) -> None:
        pass


def graph_of(name, parameters, seed, width, factory):
    builder = GraphBuilder(
        workload=name, parameters=msgspec.to_builtins(parameters), seed=seed, unit="count", units_per_round=width
    )
    counters = builder.bank("counter", width, factory, outputs=[Output("value", ArraySpec((), "f8"))])
    sink = builder.task("sink", Sink, inputs=["values"], observed=True)
    builder.gather(counters["value"], sink["values"])
    return builder.build()


def build_counting(parameters, seed):
    return graph_of("counting", parameters, seed, parameters.width, partial(Counter, parameters))


def check_counting(parameters) -> None:
    if parameters.target != "here":
        raise ValueError(f"Target '{parameters.target}' does not exist. Use 'here'.")


class NoParameters(msgspec.Struct, frozen=True, kw_only=True):
    pass


def build_random(parameters, seed):
    return graph_of("global_randomness", parameters, seed, 2, RandomCounter)


def build_failing(parameters, seed):
    return graph_of("failing_task", parameters, seed, 2, FailingCounter)


def build_nothing(parameters, seed):
    raise LookupError("no graph today")


COUNTING = Workload(
    name="counting", summary="Counts.", parameters=CountingParameters, build=build_counting, check=check_counting
)
GLOBAL_RANDOMNESS = Workload(
    name="global_randomness", summary="Draws from a stream of nobody's.", parameters=NoParameters, build=build_random
)
FAILING_TASK = Workload(name="failing_task", summary="Raises.", parameters=NoParameters, build=build_failing)
UNBUILDABLE = Workload(name="unbuildable", summary="Cannot be built.", parameters=NoParameters, build=build_nothing)


class GrowingParameters(msgspec.Struct, frozen=True, kw_only=True):
    keeps_state: Annotated[bool, msgspec.Meta(description="whether it can be resumed")] = True
    fails_after: Annotated[int, msgspec.Meta(description="rounds after which no evaluation succeeds", ge=0)] = 1000
    is_global: Annotated[bool, msgspec.Meta(description="whether it draws from a stream of nobody's")] = False


class Growing(Task):
    """Learns one number, which grows by about 1 a round."""

    def __init__(self, parameters, context) -> None:
        self.keeps_state = parameters.keeps_state
        self.generator = np.random.default_rng() if parameters.is_global else context.rng("growth")
        self.value = 0.0
        self.updates = 0

    def fire(self, inputs, outputs) -> None:
        self.value += 0.9 + 0.2 * self.generator.random()
        self.updates += 2

    def tallies(self):
        return {"value": self.value, "updates": self.updates}

    def state(self):
        if not self.keeps_state:
            return super().state()
        return {"value": self.value, "updates": self.updates, "stream": self.generator.bit_generator.state}

    def restore(self, state) -> None:
        self.value, self.updates = state["value"], state["updates"]
        self.generator.bit_generator.state = state["stream"]


def build_growing(parameters, seed):
    builder = GraphBuilder(
        workload="growing", parameters=msgspec.to_builtins(parameters), seed=seed, unit="step", units_per_round=4
    )
    builder.task("grower", partial(Growing, parameters))
    return builder.build()


def evaluate_growing(parameters, tallies, episodes, seed):
    (grower,) = tallies["grower"]
    if grower["updates"] > 2 * parameters.fails_after:
        return [float("nan")] * episodes
    return [grower["value"] + offset / 100 for offset in range(episodes)]


GROWING = Workload(
    name="growing",
    summary="Learns a number.",
    parameters=GrowingParameters,
    build=build_growing,
    evaluate=evaluate_growing,
)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    workers: Annotated[int, msgspec.Meta(description="how many", ge=0)] = 0
    where: Annotated[str, msgspec.Meta(description="a file to write process ids to, or to wait for")] = ""


class Dying(SequentialSession):
    def advance(self, rounds):
        os.kill(os.getpid(), signal.SIGKILL)


STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)


def spawn_stubborn(where) -> None:
    """A process in a session of its own that ignores SIGTERM; returns once it does."""
    child = subprocess.Popen([sys.executable, "-c", STUBBORN], start_new_session=True, stdout=subprocess.PIPE)
    child.stdout.readline()
    if where:
        Path(where).write_text(str(child.pid), encoding="ascii")


class Hanging(SequentialSession):
    def advance(self, rounds):
        time.sleep(600)


class Pausing(SequentialSession):
    """Takes 20 ms for a round; if it has a file to wait for, it waits for that and is as fast as any other."""

    def __init__(self, graph, until):
        super().__init__(graph)
        self._until = until

    def advance(self, rounds):
        if not self._until:
            time.sleep(0.02 * rounds)
        while self._until and not Path(self._until).exists():
            time.sleep(0.01)
        return super().advance(rounds)


def open_plain(graph, options, scratch):
    return SequentialSession(graph)


def open_hanging(graph, options, scratch):
    spawn_stubborn(options.where)
    return Hanging(graph)


def open_littering(graph, options, scratch):
    spawn_stubborn(options.where)
    return SequentialSession(graph)


def open_deaf(graph, options, scratch):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return Hanging(graph)


def open_flooding(graph, options, scratch):
    line = b"water " * 10_000 + b"\n"
    for _ in range(2_000):
        os.write(1, line)
    return SequentialSession(graph)


def refuse(graph, options):
    return "it runs on Sundays only"


def notice(options):
    return f"{options.workers} workers" if options.workers else None


def run_traced(graph, options, rounds, timeline, trace):
    if options.workers > 2:
        raise OSError("no more than two")
    if options.where == "forever":
        time.sleep(600)
    session = SequentialSession(graph)
    session.advance(rounds)
    received = session.received()["sink"]["values"]
    session.close()
    timeline.write_text(f"{rounds} rounds with {options.workers} workers", encoding="utf-8")
    if trace is not None:
        trace.write_text(",".join(map(str, received)), encoding="utf-8")
    sys.stdout.write("not for the user's eyes\n")
    return f"{rounds} rounds took no time at all"


def compare_traces(first, second):
    one, other = first.read_text(encoding="utf-8"), second.read_text(encoding="utf-8")
    if "," not in one + other:
        raise ValueError("There is no comma in either.")
    return None if one == other else f"'{one}' is not '{other}'."


TRACED = Runtime(
    name="traced",
    summary="A loop that can be traced.",
    options=Options,
    open=open_plain,
    tracing=Tracing(run=run_traced, compare=compare_traces),
)
PLAIN = Runtime(
    name="plain",
    summary="A loop.",
    options=Options,
    open=open_plain,
    notice=notice,
    optional=(("a_module.that_is_not_there", "workers=2"),),
)
OTHER = Runtime(name="other", summary="The loop again.", options=Options, open=open_plain)
DIFFERING = Runtime(
    name="differing",
    summary="Counts otherwise.",
    options=Options,
    open=lambda graph, options, scratch: SequentialSession(graph_of("counting", graph.parameters, 0, 3, RandomCounter)),
    differs="it draws its numbers",
    limits="counting",
)
DYING = Runtime(name="dying", summary="Dies.", options=Options, open=lambda graph, options, scratch: Dying(graph))
HANGING = Runtime(name="hanging", summary="Hangs.", options=Options, open=open_hanging)
DEAF = Runtime(name="deaf", summary="Hangs, and ignores SIGTERM.", options=Options, open=open_deaf)
FLOODING = Runtime(name="flooding", summary="Prints 120 MB.", options=Options, open=open_flooding)
ODD = Runtime(name='odd | <b>&"ü"%; $(true)', summary="Has an odd name.", options=Options, open=open_plain)
LITTERING = Runtime(name="littering", summary="Leaves a process.", options=Options, open=open_littering)
REFUSING = Runtime(name="refusing", summary="Refuses.", options=Options, open=open_plain, refuses=refuse)
NEEDY = Runtime(
    name="needy", summary="Needs much.", options=Options, open=open_plain, requires=("a_module_that_is_not_there",)
)
PAUSING = Runtime(
    name="pausing",
    summary="Takes its time.",
    options=Options,
    open=lambda graph, options, scratch: Pausing(graph, options.where),
)


def fail(*_):
    raise ArithmeticError("no number today")


def metric(name, begin, end):
    return Metric(name=name, summary="Is for tests.", unit="firings", less_is_better=False, begin=begin, end=end)


FIRED = metric("fired", lambda: len(FIRINGS), lambda before: len(FIRINGS) - before)
NO_BEGIN = metric("no_begin", fail, lambda _: 1.0)
NO_END = metric("no_end", lambda: None, fail)
ENDLESS = metric("endless", lambda: None, lambda _: float("inf"))


def write_lines(folder, records, rows):
    path = folder / "lines.txt"
    path.write_text(f"{len(records)} records, {len(rows)} rows\n", encoding="utf-8")
    return [path]


LINES = Reporter(name="lines", summary="Counts.", write=write_lines)
FAILING_REPORTER = Reporter(name="failing", summary="Fails.", write=fail)
