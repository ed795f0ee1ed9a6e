"""The facts that stand in every record: of the machine, of the software, and of this project's own files."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from harness import machine
from harness.fingerprint import differences, fingerprint
from harness.invocation import THREAD_LIMITS, environment


def git(folder, *words):
    if shutil.which("git") is None:
        pytest.skip("needs git")
    settings = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *settings, *words], cwd=folder, env=variables, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one commit."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "file").write_text("one", encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "One")
    return folder


def test_the_facts_hold_a_fingerprint_that_is_equal_here():
    facts = machine.machine_facts()

    assert differences(facts["fingerprint"], fingerprint()) == []
    assert facts["cpu_model"] == facts["fingerprint"]["cpu_model"]


def test_the_thread_limits_are_those_that_a_child_gets():
    limits = machine.machine_facts()["thread_limits"]

    assert limits == dict(THREAD_LIMITS)
    assert limits.items() <= environment({"OMP_NUM_THREADS": "8"}, 0).items()


def test_a_clean_checkout_has_its_commit(checkout):
    facts = machine._checkout_facts(checkout)

    assert facts == {"commit": git(checkout, "rev-parse", "HEAD"), "tree_clean": True}


def test_a_changed_file_makes_the_tree_unclean_and_an_unknown_one_does_not(checkout):
    (checkout / "results").write_text("of a run", encoding="utf-8")
    assert machine._checkout_facts(checkout)["tree_clean"] is True

    (checkout / "file").write_text("two", encoding="utf-8")

    assert machine._checkout_facts(checkout)["tree_clean"] is False


def test_a_checkout_without_a_commit_has_none(tmp_path):
    git(tmp_path, "init", "--quiet")

    assert machine._checkout_facts(tmp_path)["commit"] is None


def test_a_folder_inside_another_checkout_is_none_itself(checkout):
    (checkout / "inside").mkdir()

    assert machine._checkout_facts(checkout / "inside") == {"commit": None, "tree_clean": None}


def test_a_broken_checkout_and_a_missing_git_fail_nothing(checkout, tmp_path, monkeypatch):
    (tmp_path / ".git").write_text("gitdir: nowhere", encoding="utf-8")
    assert machine._checkout_facts(tmp_path) == {"commit": None, "tree_clean": None}

    monkeypatch.setenv("PATH", str(tmp_path))

    assert machine._checkout_facts(checkout) == {"commit": None, "tree_clean": None}


def test_a_hook_of_another_repository_does_not_mislead(checkout, monkeypatch):
    monkeypatch.setenv("GIT_DIR", "/nowhere")

    assert machine._checkout_facts(checkout)["tree_clean"] is True
