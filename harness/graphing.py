"""`reactorbench graph`: a workload's dataflow graph, drawn as it is generated.

DOT and Mermaid text need nothing; SVG is drawn by Graphviz, which must be installed for that. The graph
is built in this process, since nothing is measured; its tasks are not.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec
import numpy as np

from harness import registry
from harness.arguments import check_writable, chosen_workload, parse_assignments
from harness.errors import HarnessError, UsageError
from workloads.dataflow import EdgeShape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from workloads.dataflow import Edge, Graph, TaskNode

__all__ = ["Format", "draw_workload", "graph_as_dot", "graph_as_mermaid"]

Format = Literal["mermaid", "dot", "svg"]

_SUFFIXES: Final[dict[str, Format]] = {".mmd": "mermaid", ".dot": "dot", ".gv": "dot", ".svg": "svg"}
_UNSAFE: Final = re.compile(
    # What is neither a letter, a digit nor harmless, and what Markdown would read as emphasis or a link.
    r"[^\w ,:=/()\[\].+-]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\("
)


def draw_workload(workload_name: str, assignments: Sequence[str], form: Format | None, output: Path | None) -> str:
    """The graph of a workload with these parameters (`NAME=VALUE`), as text; also written to `output`, if given.

    Without a `form`, the suffix of `output` says which; Mermaid if there is neither.

    Raises:
        UsageError: for bad input, or SVG without Graphviz.
        HarnessError: if the graph cannot be built, or Graphviz fails.
    """
    form = form or _form_of(output)
    if output is not None:
        check_writable(output)
    graph = _graph(workload_name, assignments)
    text = graph_as_mermaid(graph) if form == "mermaid" else graph_as_dot(graph)
    if form == "svg":
        text = _rendered(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    return text


def _form_of(output: Path | None) -> Format:
    if output is None:
        return "mermaid"
    if output.suffix.lower() not in _SUFFIXES:
        raise UsageError(
            f"{output} does not say what to draw. Name it {', '.join(_SUFFIXES)}, or add --format "
            f"{'|'.join(get_args(Format))}."
        )
    return _SUFFIXES[output.suffix.lower()]


def _graph(workload_name: str, assignments: Sequence[str]) -> Graph:
    """The graph of a workload with these parameters."""
    given = parse_assignments(assignments, flag="--set")
    workload, parameters = chosen_workload(workload_name, given, is_text=True)
    owner = f"workload '{workload.name}'"
    missing = registry.missing_module(workload.requires)
    if missing is not None:
        raise UsageError(f"The {owner} needs the module '{missing}', which is not installed. Install it.")
    try:
        # What a library prints while a graph is built is no part of the drawing.
        with contextlib.redirect_stdout(sys.stderr):
            if workload.check is not None:
                workload.check(parameters)
            return workload.build(parameters, 0)
    except ValueError as error:
        raise UsageError(f"Workload '{workload.name}': {error}") from error
    except Exception as error:
        raise HarnessError(
            f"The graph of {owner} cannot be built: {type(error).__name__}: {error}. Give other parameters, or "
            "repair the workload."
        ) from error


def _rendered(dot: str) -> str:
    """What Graphviz makes of DOT text."""
    try:
        done = subprocess.run(["dot", "-Tsvg"], input=dot, capture_output=True, text=True, check=False)  # noqa: S607 - wherever the user has it
    except FileNotFoundError as error:
        raise UsageError(
            "Graphviz is not installed: there is no program 'dot' to draw SVG with. Install it ('apt install "
            "graphviz', 'brew install graphviz' or 'conda install graphviz'), or take --format dot or mermaid."
        ) from error
    if done.returncode:
        raise HarnessError(f"Graphviz failed with status {done.returncode}: {done.stderr.strip()}. Take --format dot.")
    return done.stdout


# --------------------------------------------------------------------------------------------- text


def graph_as_dot(graph: Graph) -> str:
    """The graph in the DOT language: banks are boxes with depth, delayed edges are dashed."""
    lines = [
        f"// parameters: {_parameters(graph)}",
        "digraph {",
        f"    label={_dot_label(iter([_title(graph)]))}",
        "    rankdir=LR",
        '    node [fontname="Helvetica", fontsize=11]',
        '    edge [fontname="Helvetica", fontsize=9]',
    ]
    for node in graph.tasks:
        shape = "box" if node.width is None else "box3d"
        lines.append(f"    {_dot_quoted(node.path)} [label={_dot_label(_about_task(node))}, shape={shape}]")
    for edges in _bundles(graph):
        ends = f"{_dot_quoted(edges[0].source.task)} -> {_dot_quoted(edges[0].target.task)}"
        dashed = ", style=dashed" if edges[0].delay else ""
        lines.append(f"    {ends} [label={_dot_label(_about_edges(graph, edges))}{dashed}]")
    return "\n".join([*lines, "}"]) + "\n"


def graph_as_mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart: banks have double borders, delayed edges are dashed."""
    # Numbers, since a path may be a word of Mermaid's.
    names = {node.path: f"task{number}" for number, node in enumerate(graph.tasks)}
    lines = [
        "---",
        # A JSON string is one of YAML too.
        f"title: {msgspec.json.encode(_title(graph)).decode()}",
        "---",
        "flowchart LR",
        f"    %% parameters: {_parameters(graph)}",
    ]
    for node in graph.tasks:
        opening, closing = ("[", "]") if node.width is None else ("[[", "]]")
        lines.append(f"    {names[node.path]}{opening}{_mermaid_label(_about_task(node))}{closing}")
    for edges in _bundles(graph):
        arrow = "-.->" if edges[0].delay else "-->"
        label = _mermaid_label(_about_edges(graph, edges))
        lines.append(f"    {names[edges[0].source.task]} {arrow}|{label}| {names[edges[0].target.task]}")
    return "\n".join(lines) + "\n"


def _title(graph: Graph) -> str:
    return f"{graph.workload}: a round is {graph.units_per_round} x {graph.unit}"


def _parameters(graph: Graph) -> str:
    return msgspec.json.encode(graph.parameters).decode()


def _about_task(node: TaskNode) -> Iterator[str]:
    """Its name, and what is special about it."""
    yield node.path
    if node.width is not None:
        yield f"bank of {node.width}"
    if node.observed:
        yield "observed"
    if node.own_place:
        yield "in a place of its own"
    if node.stateless:
        yield "stateless"


def _bundles(graph: Graph) -> list[list[Edge]]:
    """The edges, those together that join the same tasks in the same way."""
    bundles: dict[tuple[str, str, EdgeShape, int], list[Edge]] = {}
    for edge in graph.edges:
        bundles.setdefault((edge.source.task, edge.target.task, edge.shape, edge.delay), []).append(edge)
    return list(bundles.values())


def _about_edges(graph: Graph, edges: Sequence[Edge]) -> Iterator[str]:
    """How the members on both sides pair, how late, and what each edge carries."""
    first = edges[0]
    words = []
    if first.shape is not EdgeShape.ONE_TO_ONE or graph.node(first.source.task).width is not None:
        words.append(first.shape.value)
    if first.delay:
        words.append(f"{first.delay} round{'s' if first.delay > 1 else ''} later")
    if words:
        yield ", ".join(words)
    for edge in edges:
        yield _about_values(graph, edge)


def _about_values(graph: Graph, edge: Edge) -> str:
    """The ports that one edge joins, and what it carries."""
    output = graph.node(edge.source.task).output(edge.source.name)
    same = edge.source.name == edge.target.name
    ports = edge.source.name if same else f"{edge.source.name} to {edge.target.name}"
    values = "any value"
    if output.array is not None:
        lengths = ", ".join(map(str, output.array.shape))
        values = np.dtype(output.array.dtype).name + (f"[{lengths}]" if lengths else "")
    optional = ", in some rounds" if output.optional else ""
    retain = graph.retain_of(edge)
    kept = f", kept for {retain} more round{'s' if retain > 1 else ''}" if retain else ""
    return f"{ports}: {values}{optional}{kept}"


def _dot_quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _dot_label(lines: Iterator[str]) -> str:
    # Labels, unlike names, may hold entities.
    return '"' + r"\n".join(_dot_quoted(line.replace("&", "&amp;"))[1:-1] for line in lines) + '"'


def _mermaid_label(lines: Iterator[str]) -> str:
    return '"' + "<br/>".join(_UNSAFE.sub(lambda found: f"#{ord(found[0])};", line) for line in lines) + '"'
