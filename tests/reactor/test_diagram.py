"""Programs draw themselves: everything that is declared is there, like members once, in text that parses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from runtimes.reactor import (
    Input,
    LogicalAction,
    Mode,
    Output,
    PhysicalAction,
    PortBank,
    Program,
    Reactor,
    ReactorError,
    Timer,
    Watchdog,
    bank,
    interleaved,
    ms,
    ns,
    reaction,
    reset,
    s,
    shutdown,
    startup,
    stop,
    us,
)
from runtimes.reactor.assembly import assemble
from runtimes.reactor.diagram import Diagram
from tests.reactor.programs import Counter, Echo, Gather, PingPong, Pipeline, Sieve

GOLDEN = Path(__file__).with_name("diagrams")

needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


class Sensor(Reactor):
    """Has a physical action, a multiport, startup and shutdown."""

    arrived = PhysicalAction[float](2 * ms, min_spacing_ns=500 * us, policy="drop")
    values = Output[float](width=2)

    @reaction(startup, effects=[arrived])
    def open(self) -> None: ...

    @reaction(arrived, effects=[values])
    def read(self) -> None: ...

    @reaction(shutdown)
    def close(self) -> None: ...


class Filter(Reactor):
    """Has a deadline, a watchdog with a handler, arrays, a logical action, and may stop the program."""

    raw = Input[float](mutable=True)
    weights = Input[Any](shape=(130,), dtype="float32", retain=2)
    clean = Output[float]()
    again = LogicalAction[int](5 * ms)
    patience = Watchdog(20 * ms)

    @reaction(raw, sources=[weights], effects=[clean, again, patience], deadline_ns=2 * ms)
    def refine(self) -> None: ...

    @refine.late
    def pass_on(self) -> None: ...

    @patience.handler(effects=[again])
    def complain(self) -> None: ...

    @reaction(again, effects=[stop])
    def give_up(self) -> None: ...


class Light(Reactor):
    """Has modes, of which one contains a reactor."""

    off = Mode(initial=True)
    on = Mode()
    clean = Input[float](width=2)
    weights = Output[Any](shape=(130,), dtype="float32")
    blink = Timer(100 * ms, offset_ns=1 * s + 500 * ms, mode=on)
    first = Timer()

    def __init__(self) -> None:
        with self.on:
            self.inner = Echo()
            self.outer = Echo()
            self.connect(self.inner.said, self.outer.heard)

    @reaction(first, effects=[weights])
    def begin(self) -> None: ...

    @reaction(clean, effects=[on], mode=off)
    def switch_on(self) -> None: ...

    @reaction(blink, effects=[off], mode=on)
    def switch_off(self) -> None: ...

    @reaction(reset, mode=on)
    def restart(self) -> None: ...


class Everything(Reactor):
    """Has everything that a program may have."""

    def __init__(self) -> None:
        self.sensor = Sensor()
        self.filters = bank(2, lambda _: Filter())
        self.light = Light()
        self.connect(self.sensor.values, self.filters.raw, physical=True, after_ns=1 * ms)
        self.connect(self.filters.clean, self.light.clean)
        self.connect(self.light.weights, self.filters.weights, broadcast=True, after_ns=0)


class Anything(Reactor):
    """A main reactor without anything of its own."""


def labels_of(mermaid: str) -> list[str]:
    """What stands in quotes, as people read it: lines joined by a slash."""
    texts = re.findall(r'"([^"]*)"', mermaid)
    return [re.sub(r"#(\d+);", lambda found: chr(int(found[1])), text.replace("<br/>", " / ")) for text in texts]


def arrows_of(main: Reactor, *, by_level: bool = False) -> list[str]:
    """All arrows of the drawing: `counter.sent -> stages.heard: all to [0]`."""
    lines = Diagram(assemble(main, fast=False), by_level=by_level).dot.splitlines()
    found = [re.match(r'\s*"main\.?([^"]*)" -> "main\.?([^"]*)" \[(?:label="([^"]*)")?', line) for line in lines]
    return [f"{m[1]} -> {m[2]}{': ' + m[3] if m[3] else ''}" for m in found if m]


def nodes_of(dot: str) -> list[str]:
    """The labels of all nodes and boxes."""
    return re.findall(r'^(?! *".*" ->).*label="([^"]*)"', dot, re.MULTILINE)


@pytest.mark.parametrize("by_level", [False, True], ids=["nested", "by-level"])
@pytest.mark.parametrize("suffix", [".dot", ".mmd"])
def test_a_program_with_everything_is_drawn_as_it_was(tmp_path, by_level, suffix):
    name = f"everything{'-by-level' if by_level else ''}{suffix}"

    Program(Everything).diagram(by_level=by_level).save(tmp_path / name)

    assert (tmp_path / name).read_text(encoding="utf-8") == (GOLDEN / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "label",
    [
        "sensor: Sensor",
        "filters: Filter, bank of 2",
        "values[2]: float",
        "weights / float32[130] / retain 2",
        "raw: float / mutable",
        "timer blink / offset 1.5 s, period 100 ms",
        "timer first / offset 0, once",
        "logical action again / delay 5 ms",
        "physical action arrived / delay 2 ms / min spacing 500 us (drop)",
        "watchdog patience / 20 ms",
        "handler complain",
        "1 refine / deadline 2 ms",
        "2 give_up / may stop the program",
        "startup",
        "shutdown",
        "reset",
        "mode off, initial",
        "mode on",
    ],
)
def test_every_kind_of_part_is_drawn_with_what_it_declares(label):
    assert label in labels_of(Diagram(assemble(Everything())).mermaid)


@pytest.mark.parametrize(
    "arrow",
    [
        "sensor.(startup) -> sensor.open()",
        "sensor.arrived -> sensor.read()",
        "sensor.read() -> sensor.values",
        "filters.weights -> filters.refine(): reads",
        "filters.refine() -> filters.patience",
        "filters.patience -> filters.complain (handler): expires",
        "filters.complain (handler) -> filters.again",
        "light.switch_on() -> light.on.(enter): mode change",
        "light.on.(reset) -> light.restart()",
        "light.inner.said -> light.outer.heard: in mode on",
        "sensor.values -> filters.raw: physical, after 1 ms",
        "filters.clean -> light.clean",
        "light.weights -> filters.weights: broadcast, after a microstep",
    ],
)
def test_every_kind_of_relation_is_drawn(arrow):
    assert arrow in arrows_of(Everything())


def test_what_belongs_to_a_mode_stands_in_its_box():
    dot = Diagram(assemble(Everything())).dot
    box = dot[dot.index('label="mode on"') :]

    assert "timer blink" in box
    assert "switch_off" in box
    assert "inner: Echo" in box
    assert "switch_on" not in box.split('" -> "')[0]


def test_members_that_differ_are_drawn_apart():
    class Main(Reactor):
        def __init__(self) -> None:
            self.mixed = bank(4, lambda index: Counter(period_ns=2 * ms if index == 1 else 1 * ms))
            self.gather = Gather(4)
            self.connect(self.mixed.sent, self.gather.heard)

    titles = labels_of(Diagram(assemble(Main())).mermaid)

    assert [title for title in titles if "Counter" in title] == ["mixed[0, 2..3]: Counter", "mixed[1]: Counter"]
    assert "mixed[1].sent -> gather.heard: all to channel 1" in arrows_of(Main())
    assert "mixed[0, 2..3].sent -> gather.heard: all to channel 0, 2..3" in arrows_of(Main())


def test_connections_of_some_members_say_which():
    arrows = arrows_of(Pipeline(5))

    assert "counter.sent -> stages.heard: all to [0]" in arrows
    assert "stages.said -> stages.heard: [0..3] to [1..4], after 1 ms" in arrows


def test_connections_that_change_the_order_say_how():
    class Ring(Reactor):
        def __init__(self) -> None:
            self.echoes = bank(3, lambda _: Echo())
            for index in range(3):
                self.connect(self.echoes[index].said, self.echoes[(index + 1) % 3].heard, after_ns=10 * ns)

    assert "echoes.said -> echoes.heard: all to [1..2, 0], after 10 ns" in arrows_of(Ring())


def test_interleaved_connections_are_marked():
    class Two(Reactor):
        first = Output[int](width=2)

    class Main(Reactor):
        def __init__(self) -> None:
            self.senders = bank(2, lambda _: Two())
            self.gather = Gather(4)
            self.connect(interleaved(PortBank(two.first for two in self.senders)), self.gather.heard)

    assert "senders.first -> gather.heard: interleaved" in arrows_of(Main())


def test_banks_in_banks_are_drawn_once():
    class Inner(Reactor):
        def __init__(self) -> None:
            self.counters = bank(2, lambda _: Counter())

    class Main(Reactor):
        def __init__(self) -> None:
            self.inner = bank(3, lambda _: Inner())

    labels = labels_of(Diagram(assemble(Main())).mermaid)

    assert labels.count("1 send") == 1
    assert "inner: Inner, bank of 3" in labels
    assert "counters: Counter, bank of 2" in labels


def test_connections_of_a_reactors_own_ports_are_drawn():
    class Shell(Reactor):
        heard = Input[int]()
        said = Output[int]()

        def __init__(self) -> None:
            self.echo = Echo()
            self.connect(self.heard, self.echo.heard)
            self.connect(self.echo.said, self.said)

    class Main(Reactor):
        def __init__(self) -> None:
            self.shell = Shell()

    arrows = arrows_of(Main())

    assert "shell.heard -> shell.echo.heard" in arrows
    assert "shell.echo.said -> shell.said" in arrows


def test_levels_run_along_the_arrows():
    arrows = arrows_of(Sieve(3), by_level=True)

    assert "numbers.send() level 0 -> filters.sift() level 1" in arrows
    assert "filters.sift() level 2 -> filters.sift() level 3" in arrows
    assert "filters.sift() level 1 -> primes.say() level 4" in arrows


def test_levels_show_members_together_and_hidden_reactions_not_at_all():
    labels = nodes_of(Diagram(assemble(Pipeline(3)), by_level=True).dot)

    assert labels == [
        "Pipeline, by level",
        "level 0",
        "counter.send",
        "level 1",
        r"stages.add_number\nall 3 members",
    ]


def test_levels_tell_members_apart_that_run_at_different_levels():
    class Main(Reactor):
        def __init__(self) -> None:
            self.counter = Counter()
            self.echoes = bank(4, lambda _: Echo())
            for index in (0, 1, 2):
                self.connect(self.counter.sent, self.echoes[index].heard)
            self.connect(self.echoes[0].said, self.echoes[3].heard)

    labels = nodes_of(Diagram(assemble(Main()), by_level=True).dot)

    assert r"echoes.say\nmembers 0..2" in labels
    assert "echoes[3].say" in labels


def test_levels_count_members_of_banks_in_banks():
    class Inner(Reactor):
        def __init__(self) -> None:
            self.counter = Counter()
            self.echoes = bank(2, lambda _: Echo())
            self.connect(self.counter.sent, self.echoes[0].heard)
            self.connect(self.echoes[0].said, self.echoes[1].heard)

    class Main(Reactor):
        def __init__(self) -> None:
            self.inner = bank(3, lambda _: Inner())

    labels = nodes_of(Diagram(assemble(Main()), by_level=True).dot)

    assert labels.count(r"inner.echoes.say\n3 of 6 members") == 2
    assert r"inner.counter.send\nall 3 members" in labels


def test_levels_look_through_connections_that_change_with_the_mode():
    class Switch(Reactor):
        low = Mode(initial=True)
        high = Mode()

        def __init__(self) -> None:
            self.one, self.other, self.echo = Counter(), Counter(), Echo()
            with self.low:
                self.connect(self.one.sent, self.echo.heard)
            with self.high:
                self.connect(self.other.sent, self.echo.heard)

    arrows = [re.sub(r" level \d", "", arrow) for arrow in arrows_of(Switch(), by_level=True)]

    assert arrows == ["one.send() -> echo.say()", "other.send() -> echo.say()"]


def test_levels_show_the_deadlines_that_reactions_inherit():
    class Hurried(Reactor):
        heard = Input[Any]()

        @reaction(heard, deadline_ns=3 * ms)
        def hurry(self) -> None: ...

        @hurry.late
        def be_late(self) -> None: ...

    class Main(Reactor):
        def __init__(self) -> None:
            self.counter, self.hurried = Counter(), Hurried()
            self.connect(self.counter.sent, self.hurried.heard)

    labels = nodes_of(Diagram(assemble(Main()), by_level=True).dot)

    assert r"counter.send\ndeadline 3 ms, inferred" in labels
    assert r"hurried.hurry\ndeadline 3 ms" in labels


# ------------------------------------------------------------------------------------------- odd names

ODD = ["end", 'a"b', "<c>&lt;", r"back\slash\N", "__init__", "*d*", "1. e", "#35;", "[f](g)", "h|i;", "ä ß", "http://j"]


class Oddly(Reactor):
    def __init__(self) -> None:
        for name in ODD:
            timer = self.add(name, Timer())
            self.add_reaction(name, lambda: None, triggers=[timer])
        self.add("subgraph", bank(2, lambda _: Anything()))


def test_odd_names_are_escaped_in_mermaid():
    mermaid = Diagram(assemble(Oddly())).mermaid

    assert all(f"timer {name} / offset 0, once" in labels_of(mermaid) for name in ODD)
    # A backtick would make Markdown of a label, and these characters end it or what is around it.
    assert not [
        text for text in re.findall(r'"([^"]*)"', mermaid) if re.search(r"[`<>|{}*\\]", text.replace("<br/>", ""))
    ]
    names = re.findall(r"^ +(\w+)\(?\[", mermaid, re.MULTILINE)
    assert len(set(names)) == len(names) == 2 * len(ODD)


@needs_graphviz
def test_odd_names_come_through_graphviz():
    tree = ET.fromstring(Diagram(assemble(Oddly())).svg())
    texts = [
        "".join(node.itertext()).replace("\N{NO-BREAK SPACE}", " ") for node in tree.iter() if node.tag.endswith("text")
    ]

    assert [name for name in ODD if f"timer {name}" not in texts] == []


# --------------------------------------------------------------------------------------------- forms


@needs_graphviz
@pytest.mark.parametrize("by_level", [False, True])
@pytest.mark.parametrize("main", [Everything, Pipeline, PingPong, Sieve, Anything])
def test_graphviz_draws_every_node_and_arrow(main, by_level):
    diagram = Program(main).diagram(by_level=by_level)
    classes = [node.get("class") for node in ET.fromstring(diagram.svg()).iter() if node.get("class")]

    invisible = diagram.dot.count("style=invis")
    assert classes.count("node") == len(re.findall(r"^ *\"[^\"]*\" \[", diagram.dot, re.MULTILINE)) - invisible
    assert classes.count("edge") == diagram.dot.count('" -> "')
    assert classes.count("cluster") == diagram.dot.count("subgraph ")


def test_text_needs_no_graphviz_and_an_image_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    diagram = Program(Pipeline).diagram()

    assert diagram.dot.startswith("digraph {")
    assert diagram.mermaid.startswith("flowchart LR")
    with pytest.raises(ReactorError, match="apt install graphviz"):
        diagram.svg()


@needs_graphviz
def test_a_text_that_graphviz_does_not_take_is_an_error():
    from runtimes.reactor.drawing import render

    with pytest.raises(ReactorError, match="syntax error"):
        render("digraph {", "svg")


def test_the_suffix_says_what_is_saved(tmp_path):
    diagram = Program(Pipeline).diagram()
    for name in ("a.dot", "b.gv", "c.mmd", "d.md"):
        diagram.save(tmp_path / name)

    saved = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}

    assert saved["a.dot"] == saved["b.gv"] == diagram.dot
    assert saved["c.mmd"] == diagram.mermaid
    assert saved["d.md"] == f"```mermaid\n{diagram.mermaid}```\n"


@needs_graphviz
def test_images_are_saved(tmp_path):
    diagram = Program(Pipeline).diagram()
    diagram.save(tmp_path / "a.svg")
    diagram.save(str(tmp_path / "b.png"))

    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_suffix_is_an_error(tmp_path):
    with pytest.raises(ReactorError, match=r"Name it \.dot, \.gv, \.mmd, \.md, \.svg or \.png"):
        Program(Pipeline).diagram().save(tmp_path / "a.pdf")


@pytest.mark.parametrize(
    ("time_ns", "said"),
    [(7 * ns, "7 ns"), (1500 * us, "1.5 ms"), (90 * s, "90 s"), (1 * s + 1 * ns, "1.000000001 s"), (1 * ms, "1 ms")],
)
def test_times_are_exact_in_the_largest_unit(time_ns, said):
    class Main(Reactor):
        def __init__(self) -> None:
            self.timer = Timer(time_ns)

    assert f"timer timer / offset 0, period {said}" in labels_of(Diagram(assemble(Main())).mermaid)
