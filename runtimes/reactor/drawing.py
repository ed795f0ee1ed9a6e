"""Boxes, nodes and lines as text: DOT for Graphviz, Mermaid for pages that render it. Knows no reactors.

The text needs nothing; `render` runs Graphviz, which must be installed for that.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from runtimes.reactor.errors import ReactorError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Box", "Drawing", "Line", "Node", "NodeShape", "Stroke", "dot_of", "mermaid_of", "render"]

NodeShape = Literal[
    "input", "output", "reaction", "timer", "logical action", "physical action", "trigger", "watchdog", "entry"
]
Stroke = Literal["connection", "physical", "cause", "read", "transition", "order"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Something small with text."""

    key: str
    """Its name in the drawing, of which there is one. It begins with no word of Mermaid's (`end`, `default`)."""
    shape: NodeShape
    text: tuple[str, ...]
    """Line by line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Something that contains others."""

    key: str
    title: str
    dashed: bool = False
    nodes: tuple[Node, ...] = ()
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An arrow between two nodes, named by their keys."""

    source: str
    target: str
    stroke: Stroke
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A whole drawing: boxes in a box, and the lines between what is in them."""

    box: Box
    lines: tuple[Line, ...]


# ---------------------------------------------------------------------------------------------- DOT

_DOT_SHAPES: Final[dict[NodeShape, str]] = {
    "input": 'shape=box, style=filled, fillcolor="#d9ecf7"',
    "output": 'shape=box, style=filled, fillcolor="#fbe6c8"',
    "reaction": 'shape=box, style="filled,rounded", fillcolor="#e6e6e6"',
    "timer": "shape=ellipse",
    "logical action": "shape=hexagon",
    "physical action": "shape=hexagon, peripheries=2",
    "trigger": "shape=oval, style=dashed",
    "watchdog": "shape=octagon",
    "entry": "shape=oval, style=dotted",
}
_DOT_STROKES: Final[dict[Stroke, str]] = {
    "connection": "penwidth=2",
    "physical": "penwidth=2, style=dashed",
    "cause": 'color="#777777"',
    "read": 'color="#777777", style=dotted',
    "transition": 'color="#0072b2", fontcolor="#0072b2", style=dashed',
    "order": 'color="#777777", style=dashed',
}


def dot_of(drawing: Drawing) -> str:
    """The drawing in the DOT language."""
    parts = [
        "digraph {",
        "    rankdir=LR",
        '    fontname="Helvetica"',
        "    labeljust=l",
        '    node [fontname="Helvetica", fontsize=10]',
        '    edge [fontname="Helvetica", fontsize=9]',
        *_indented(_dot_box(drawing.box)),
        *_indented(_dot_line(line) for line in drawing.lines),
        "}",
    ]
    return "\n".join(parts) + "\n"


def _dot_box(box: Box) -> Iterator[str]:
    yield f"subgraph {_dot_quoted('cluster ' + box.key)} {{"
    yield f"    label={_dot_label(box.title)}"
    yield '    style="rounded,dashed"' if box.dashed else "    style=rounded"
    if not box.nodes and not box.boxes:
        # Graphviz draws no box without a node.
        yield f'    {_dot_quoted(box.key)} [label="", style=invis]'
    for node in box.nodes:
        yield f"    {_dot_quoted(node.key)} [label={_dot_label(*node.text)}, {_DOT_SHAPES[node.shape]}]"
    for inner in box.boxes:
        yield from _indented(_dot_box(inner))
    yield "}"


def _dot_line(line: Line) -> str:
    label = f"label={_dot_label(line.label)}, " if line.label else ""
    return f"{_dot_quoted(line.source)} -> {_dot_quoted(line.target)} [{label}{_DOT_STROKES[line.stroke]}]"


def _dot_quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _dot_label(*lines: str) -> str:
    # Labels, unlike names, may hold entities.
    return r"\n".join(_dot_quoted(line.replace("&", "&amp;"))[1:-1] for line in lines).join('""')


# ------------------------------------------------------------------------------------------ Mermaid

_MERMAID_SHAPES: Final[dict[NodeShape, tuple[str, str]]] = {
    "input": (">", "]"),
    "output": ("[", "]"),
    "reaction": ("[[", "]]"),
    "timer": ("([", "])"),
    "logical action": ("{{", "}}"),
    "physical action": ("[/", "/]"),
    "trigger": ("((", "))"),
    "watchdog": ("[(", ")]"),
    "entry": ("(", ")"),
}
_MERMAID_STROKES: Final[dict[Stroke, str]] = {
    "connection": "==>",
    "physical": "-.->",
    "cause": "-->",
    "read": "-.->",
    "transition": "-.->",
    "order": "-.->",
}
_UNSAFE: Final = re.compile(
    # What is neither a letter, a digit nor harmless. Then what Markdown would read: emphasis at the border of a
    # word, the beginning of a list, a link.
    r"[^\w ,:=/()\[\].+-]|(?<![^\W_])_|_(?![^\W_])|^[+-]|(?<=^\d)[.)]|(?<=^\d\d)[.)]|(?<=\])\("
)


def mermaid_of(drawing: Drawing) -> str:
    """The drawing as a Mermaid flowchart."""
    names: dict[str, str] = {}
    for key in _keys(drawing.box):
        name = re.sub(r"[^A-Za-z0-9]+", "_", key).strip("_")
        taken = set(names.values())
        names[key] = next(n for n in (name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))) if n not in taken)
    parts = [
        "flowchart LR",
        *_indented(_mermaid_box(drawing.box, names)),
        *_indented(_mermaid_line(line, names) for line in drawing.lines),
    ]
    return "\n".join(parts) + "\n"


def _keys(box: Box) -> Iterator[str]:
    yield "box " + box.key
    yield from (node.key for node in box.nodes)
    for inner in box.boxes:
        yield from _keys(inner)


def _mermaid_box(box: Box, names: dict[str, str]) -> Iterator[str]:
    name = names["box " + box.key]
    yield f"subgraph {name}[{_mermaid_quoted(box.title)}]"
    # A box that no arrow enters or leaves takes no direction from outside.
    yield "    direction LR"
    for node in box.nodes:
        opening, closing = _MERMAID_SHAPES[node.shape]
        yield f"    {names[node.key]}{opening}{_mermaid_quoted(*node.text)}{closing}"
    for inner in box.boxes:
        yield from _indented(_mermaid_box(inner, names))
    yield "end"
    if box.dashed:
        yield f"style {name} stroke-dasharray: 5 5"


def _mermaid_line(line: Line, names: dict[str, str]) -> str:
    label = f"|{_mermaid_quoted(line.label)}|" if line.label else ""
    return f"{names[line.source]} {_MERMAID_STROKES[line.stroke]}{label} {names[line.target]}"


def _mermaid_quoted(*lines: str) -> str:
    escaped = (_UNSAFE.sub(lambda found: f"#{ord(found[0])};", line) for line in lines)
    return '"' + "<br/>".join(escaped) + '"'


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"    {line}" for line in lines)


# ----------------------------------------------------------------------------------------- Graphviz


def render(dot: str, image: Literal["svg", "png"]) -> bytes:
    """What Graphviz makes of DOT text.

    Raises:
        ReactorError: if Graphviz is not installed, or fails.
    """
    try:
        # Wherever the user has it.
        done = subprocess.run(["dot", f"-T{image}"], input=dot.encode(), capture_output=True, check=False)  # noqa: S603, S607 - no shell, no file names
    except FileNotFoundError as error:
        raise ReactorError(
            f"Graphviz is not installed: there is no program 'dot' to draw {image.upper()} with. Install it "
            "('apt install graphviz', 'brew install graphviz' or 'conda install graphviz'), or take DOT or Mermaid "
            "text, which need nothing."
        ) from error
    if done.returncode:
        raise ReactorError(
            f"Graphviz failed with status {done.returncode}: {done.stderr.decode(errors='replace').strip()}. "
            "Take DOT or Mermaid text instead."
        )
    return done.stdout
