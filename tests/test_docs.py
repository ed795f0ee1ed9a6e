"""What the pages under docs/ show works as it stands there."""

from __future__ import annotations

import ast
import re
import shlex

import pytest

from tests.pages import Command, code_blocks_in, commands_in, dead_links_in, files_in, run

PAGES = ("reactors-tutorial.md", "reactors-explained.md", "reactors-reference.md")
RUNNING = PAGES[:2]


@pytest.fixture
def docs(repository):
    return repository / "docs"


def modules_of(command):
    """The files that a command of a page runs."""
    return [word.removesuffix(".py") for word in shlex.split(command.line) if word.endswith(".py")]


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


@pytest.mark.parametrize("page", RUNNING)
def test_every_code_block_of_a_page_is_a_file_that_its_commands_run(docs, page):
    files = {name.removesuffix(".py"): text for name, text in files_in(docs / page).items()}
    assert len(files) == code_blocks_in(docs / page)
    reached = set()
    waiting = [module for command in commands_in(docs / page) for module in modules_of(command)]
    while waiting:
        module = waiting.pop()
        if module in files and module not in reached:
            reached.add(module)
            waiting.extend(imported_by(files[module]))
    assert reached == set(files)


def test_another_output_does_not_agree_with_a_page():
    exact = Command(line="python a.py", output="1 tag\n", varies=False)
    assert exact.agrees_with("1 tag\n")
    assert not exact.agrees_with("2 tag\n")
    varying = Command(line="python a.py", output="1.5 ms in  3 tags\n...\n", varies=True)
    assert varying.agrees_with("title\n12 ms in 4 tags\n")
    assert not varying.agrees_with("title\n12 ms in all\n")


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_of_the_docs_links_to_is_there(docs, page):
    assert dead_links_in(docs / page) == set()


def test_the_readme_leads_to_the_pages(repository):
    linked = re.findall(r"\]\(docs/([^)#]+)\)", (repository / "README.md").read_text(encoding="utf-8"))
    assert set(PAGES) <= set(linked)
