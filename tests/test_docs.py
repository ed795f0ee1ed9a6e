"""What the pages under docs/ show works as it stands there."""

from __future__ import annotations

import ast
import html
import re
import shlex

import pytest

import runtimes.reactor
from runtimes.reactor import Tag, Timeline, ms
from runtimes.reactor.timeline import waiting_for
from tests.pages import (
    MADE,
    Command,
    code_blocks_in,
    commands_in,
    dead_links_in,
    examples_in,
    files_in,
    made_part,
    run,
    run_here,
    with_made_part,
)

RUNNING = (
    *("reactors-tutorial.md", "reactors-how-to.md", "reactors-explained.md"),
    *("replay.md", "resuming.md", "asynchronous.md", "training.md"),
)
FRAMEWORKS = "replay-frameworks.md"  # tests/workloads/replay run its files, each where its framework is imported
PAGES = (*RUNNING, FRAMEWORKS, "reactors-reference.md", "measuring.md")


@pytest.fixture
def docs(repository):
    return repository / "docs"


def modules_of(command):
    """The files that a command of a page runs."""
    return [word.removesuffix(".py") for word in shlex.split(command.line) if word.endswith((".py", ".toml"))]


def imported_by(text):
    tree = ast.parse(text)
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("page", RUNNING)
def test_every_command_of_a_page_prints_what_the_page_shows(docs, page, tmp_path, repository):
    for name, text in files_in(docs / page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for command in commands_in(docs / page):
        _python, *arguments = shlex.split(command.line)
        done = run(tmp_path, repository, *arguments)
        assert done.returncode == 0, f"{command.line}\n{done.stderr}"
        assert command.agrees_with(done.stdout), f"{command.line}\n{done.stdout}"


@pytest.mark.parametrize("page", [*RUNNING, FRAMEWORKS])
def test_every_code_block_of_a_page_is_a_file_that_its_commands_run(docs, page):
    files = {name.removesuffix(".py"): text for name, text in files_in(docs / page).items()}
    assert len([name for name in files if not name.endswith(".toml")]) == code_blocks_in(docs / page)
    reached = set()
    waiting = [module for command in commands_in(docs / page) for module in modules_of(command)]
    while waiting:
        module = waiting.pop()
        if module in files and module not in reached:
            reached.add(module)
            if not module.endswith(".toml"):
                waiting.extend(imported_by(files[module]))
    assert reached == set(files)


def test_every_file_of_the_page_on_frameworks_is_one_that_a_test_runs(docs):
    tested = ("own_loop", "stable_baselines3", "tianshou", "torchrl")
    assert [name for name in files_in(docs / FRAMEWORKS) if not name.startswith(tested)] == []


def test_the_loop_of_the_page_on_frameworks_prints_what_the_page_shows(docs):
    for name, command in examples_in(docs / FRAMEWORKS, "own_loop").items():
        assert run_here(docs / FRAMEWORKS, name)[0] == command.output


def test_another_output_does_not_agree_with_a_page():
    exact = Command(line="python a.py", output="1 tag\n", varies=False)
    assert exact.agrees_with("1 tag\n")
    assert not exact.agrees_with("2 tag\n")
    varying = Command(line="python a.py", output="1.5 ms in  3 tags\n...\n", varies=True)
    assert varying.agrees_with("title\n12 ms in 4 tags\n")
    assert not varying.agrees_with("title\n12 ms in all\n")


def test_a_link_to_a_file_or_heading_that_is_not_there_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# One thing\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md#one-thing) [b](other.md#two) [c](gone.md) [d](#here)\n# Here\n", encoding="utf-8")
    assert dead_links_in(page) == {"other.md#two", "gone.md"}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_of_the_docs_links_to_is_there(docs, page):
    assert dead_links_in(docs / page) == set()


def test_the_readme_leads_to_the_pages(repository):
    linked = re.findall(r"\]\(docs/([^)#]+)\)", (repository / "README.md").read_text(encoding="utf-8"))
    assert set(PAGES) <= set(linked)


def test_the_reference_is_what_the_docstrings_say(docs, repository, tmp_path):
    done = run(tmp_path, repository, str(repository / "scripts" / "reactor-reference"))
    assert done.returncode == 0, done.stderr
    assert (docs / "reactors-reference.md").read_text(encoding="utf-8") == done.stdout, (
        "Run scripts/refresh-docs reference."
    )


@pytest.mark.parametrize("part", MADE)
def test_what_a_page_says_of_measurements_is_what_the_published_records_say(docs, repository, part):
    text = (docs / MADE[part]).read_text(encoding="utf-8")
    assert text == with_made_part(text, part, made_part(repository, part)), f"Run scripts/refresh-docs {part}."


def test_every_public_name_of_the_library_stands_in_the_reference(docs):
    headings = re.findall(r"^### `(\w+)", (docs / "reactors-reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(runtimes.reactor.__all__) <= set(headings)


@pytest.fixture
def tutorial(docs, tmp_path):
    """A folder with the files of the tutorial."""
    for name, text in files_in(docs / "reactors-tutorial.md").items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("picture", "by_level"), [("training.svg", False), ("training-levels.svg", True)])
def test_a_diagram_of_the_docs_shows_the_program_of_the_tutorial(docs, tutorial, repository, picture, by_level):
    program = "from solve import UntilSolved; from runtimes.reactor import Program"
    done = run(tutorial, repository, "-c", f"{program}; print(Program(UntilSolved).diagram(by_level={by_level}).dot)")
    labels = [line for label in re.findall(r'label="(.*?)"', done.stdout) for line in label.split(r"\n")]
    assert labels, done.stderr
    assert sorted(texts_of(docs / "pictures" / picture)) == sorted(labels), "Run scripts/refresh-docs diagrams."


def test_the_timeline_of_the_docs_shows_both_workers_of_the_tutorial(docs):
    assert {"worker 0", "worker 1", "rollouts.play", "learner.learn", "waiting"} <= set(
        texts_of(docs / "pictures" / "timeline.svg")
    )


def texts_of(picture):
    """The texts of an SVG picture."""
    return [html.unescape(text).strip() for text in re.findall(r"<text[^>]*>(.*?)</text>", picture.read_text("utf-8"))]


@pytest.fixture
def timeline(tmp_path):
    """The file of a timeline of two workers and two tags: at each, two members of a bank and then a sink."""
    spans = {0: [(0, 0, 0, 4000), (2, 0, 9000, 9500), (0, 1, 10_000, 14_000)], 1: [(1, 0, 1000, 8000)]}
    spans[0].insert(1, (waiting_for(1), 0, 4000, 8500))
    path = tmp_path / "timeline.json"
    Timeline(
        spans=spans,
        reactions=["member[0].work", "member[1].work", "sink.take"],
        home=[0, 1, 0],
        tags=[Tag(0, 0), Tag(3 * ms, 1)],
        predecessors=[(), (), (0, 1)],
    ).save(path)
    return path


def test_a_timeline_is_drawn_with_its_workers_tags_and_reactions(timeline, tmp_path, repository):
    drawn = draw(timeline, repository, "picture.svg")
    assert drawn.returncode == 0, drawn.stderr
    texts = set(texts_of(tmp_path / "picture.svg"))
    assert {"worker 0", "worker 1", "tag (0 ms, 0)", "tag (3 ms, 1)"} <= texts
    assert {"member.work", "sink.take", "waiting"} <= texts


def test_a_part_of_a_timeline_shows_its_tags_alone(timeline, tmp_path, repository):
    drawn = draw(timeline, repository, "picture.svg", "--tags", "1:1")
    assert drawn.returncode == 0, drawn.stderr
    texts = set(texts_of(tmp_path / "picture.svg"))
    assert "tag (3 ms, 1)" in texts
    assert not {"tag (0 ms, 0)", "sink.take"} & texts


def test_a_file_without_a_timeline_is_refused_by_name(tmp_path, repository):
    path = tmp_path / "other.json"
    path.write_text("[]", encoding="utf-8")
    drawn = draw(path, repository, "picture.svg")
    assert drawn.returncode == 1
    assert drawn.stderr.startswith(f"{path} holds no timeline")


def draw(timeline, repository, *arguments):
    return run(timeline.parent, repository, str(repository / "scripts" / "draw-timeline"), str(timeline), *arguments)
