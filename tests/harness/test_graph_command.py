"""`reactorbench graph`: any workload's dataflow graph, drawn as it is generated."""

from __future__ import annotations

import os
import shutil
import subprocess
from xml.etree import ElementTree as ET

import pytest

from harness.graphing import graph_as_dot, graph_as_mermaid
from workloads.dataflow import ArraySpec, GraphBuilder, Input, Output, Task

needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


class Nothing(Task):
    def __init__(self, context) -> None:
        pass

    def fire(self, inputs, outputs) -> None:
        pass


@pytest.fixture
def everything():
    """A graph with every shape of edge, and all that can be said of a task or a port."""
    builder = GraphBuilder(workload="all", parameters={"a": "b"}, seed=0, unit="thing", units_per_round=6)
    frame = ArraySpec((84, 84), "u1")
    outputs = [Output("frame", frame), Output("final", frame, optional=True), Output("score", ArraySpec((), "f8"))]
    player = builder.bank("player", 3, Nothing, inputs=["move", "rules"], outputs=outputs, stateless=True)
    critic = builder.bank("critic", 3, Nothing, inputs=["seen"], outputs=["opinion"])
    learner = builder.task(
        "learner", Nothing, inputs=[Input("frames", retain=2), "opinions"], outputs=["moves", "rules"], own_place=True
    )
    end = builder.task("end", Nothing, inputs=["rules"], observed=True)
    builder.connect(player["frame"], critic["seen"])
    builder.gather(player["final"], learner["frames"], delay=1)
    builder.gather(critic["opinion"], learner["opinions"], delay=1)
    builder.scatter(learner["moves"], player["move"])
    builder.broadcast(learner["rules"], player["rules"], delay=2)
    builder.connect(learner["rules"], end["rules"])
    return builder.build()


def test_mermaid_shows_tasks_banks_edge_shapes_delays_and_arrays(everything):
    assert graph_as_mermaid(everything) == (
        "---\n"
        'title: "all: a round is 6 x thing"\n'
        "---\n"
        "flowchart LR\n"
        '    %% parameters: {"a":"b"}\n'
        '    task0["learner<br/>in a place of its own"]\n'
        '    task1[["player<br/>bank of 3<br/>stateless"]]\n'
        '    task2[["critic<br/>bank of 3"]]\n'
        '    task3["end<br/>observed"]\n'
        '    task1 -->|"one to one<br/>frame to seen: uint8[84, 84]"| task2\n'
        '    task1 -.->|"gather, 1 round later<br/>'
        'final to frames: uint8[84, 84], in some rounds, kept for 2 more rounds"| task0\n'
        '    task2 -.->|"gather, 1 round later<br/>opinion to opinions: any value"| task0\n'
        '    task0 -->|"scatter<br/>moves to move: any value"| task1\n'
        '    task0 -.->|"broadcast, 2 rounds later<br/>rules: any value"| task1\n'
        '    task0 -->|"rules: any value"| task3\n'
    )


def test_dot_shows_the_same(everything):
    dot = graph_as_dot(everything)

    assert r'"player" [label="player\nbank of 3\nstateless", shape=box3d]' in dot
    assert r'"end" [label="end\nobserved", shape=box]' in dot
    assert r'"player" -> "critic" [label="one to one\nframe to seen: uint8[84, 84]"]' in dot
    assert r'"learner" -> "player" [label="broadcast, 2 rounds later\nrules: any value", style=dashed]' in dot


@pytest.fixture
def odd():
    """A graph whose names hold what ends a label."""
    builder = GraphBuilder(workload='a"b', parameters={}, seed=0, unit="<i>", units_per_round=1)
    one = builder.task('end"];', Nothing, outputs=["__x__"])
    other = builder.task(r"back\slash & `co`", Nothing, inputs=["#35;|"])
    builder.connect(one["__x__"], other["#35;|"])
    return builder.build()


def test_odd_names_are_escaped_in_mermaid(odd):
    assert graph_as_mermaid(odd).splitlines()[5:] == [
        '    task0["end#34;]#59;"]',
        '    task1["back#92;slash #38; #96;co#96;"]',
        '    task0 -->|"#95;#95;x#95;#95; to #35;35#59;#124;: any value"| task1',
    ]


@needs_graphviz
def test_odd_names_come_through_graphviz(odd):
    done = subprocess.run(["dot", "-Tsvg"], input=graph_as_dot(odd), capture_output=True, text=True, check=True)
    texts = {"".join(node.itertext()) for node in ET.fromstring(done.stdout).iter() if node.tag.endswith("text")}

    assert {'end"];', r"back\slash & `co`", "__x__ to #35;|: any value", 'a"b: a round is 1 x <i>'} <= texts


def test_a_workload_is_drawn_with_its_parameters(in_this_process):
    done = in_this_process("graph", "counting", "--set", "width=5")

    assert done.returncode == 0, done.stderr
    assert 'task0[["counter<br/>bank of 5"]]' in done.stdout
    assert '"gather<br/>value to values: float64"' in done.stdout


def test_the_format_can_be_chosen(in_this_process):
    done = in_this_process("graph", "counting", "--format", "dot")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "digraph {"


@pytest.mark.parametrize(
    ("name", "beginning"), [("a.mmd", "---\ntitle: "), ("a.dot", "// parameters: "), ("a.gv", "// parameters: ")]
)
def test_a_file_is_written_in_the_form_that_its_suffix_names(in_this_process, tmp_path, name, beginning):
    done = in_this_process("graph", "counting", "--output", name)

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(beginning)


@needs_graphviz
def test_graphviz_draws_the_svg(in_this_process, tmp_path):
    done = in_this_process("graph", "counting", "--output", "a.svg")

    assert done.returncode == 0, done.stderr
    classes = [node.get("class") for node in ET.parse(tmp_path / "a.svg").getroot().iter()]
    assert (classes.count("node"), classes.count("edge")) == (2, 1)


def test_without_graphviz_svg_says_what_to_install(reactorbench, tmp_path):
    reactorbench.options["env"] = reactorbench.options["env"] | {"PATH": os.fspath(tmp_path)}

    done = reactorbench("graph", "counting", "--format", "svg")

    assert (done.returncode, done.stdout) == (2, "")
    assert "apt install graphviz" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["countng"], "Did you mean 'counting'?"),
        (["counting", "--set", "widht=3"], "Did you mean 'width'?"),
        (["counting", "--set", "width=0"], "it takes int >= 1"),
        (["counting", "--set", "target=there"], "Target 'there' does not exist. Use 'here'."),
        (["counting", "--format", "pdf"], "--format"),
        (["counting", "--output", "a.pdf"], "a.pdf does not say what to draw"),
        (["counting", "--output", "nowhere/a.dot"], "nowhere/a.dot cannot be written"),
        (["counting", "--format", "dot", "--output", "."], ". cannot be written"),
    ],
)
def test_bad_input_is_told_in_one_message(in_this_process, tmp_path, arguments, said):
    done = in_this_process("graph", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("a.*"))


def test_a_graph_that_cannot_be_built_gives_status_3(in_this_process):
    done = in_this_process("graph", "unbuildable")

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("The graph of workload 'unbuildable' cannot be built: LookupError: no graph today.")
