"""The workflow of GitHub Actions: it can do no harm, whoever sends a pull request, and calls what there is."""

from __future__ import annotations

import os
import re

import pytest
import yaml


@pytest.fixture(scope="module")
def text(repository):
    return (repository / ".github/workflows/performance.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def workflow(text):
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_it_runs_for_pull_requests_and_by_hand_for_two_revisions(workflow):
    events = workflow[True]  # YAML reads `on` so

    assert set(events) == {"pull_request", "workflow_dispatch"}
    assert set(events["workflow_dispatch"]["inputs"]) == {"base", "head"}


def test_it_may_read_the_contents_and_nothing_else(workflow, text):
    assert workflow["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow["jobs"].values())
    assert "pull_request_target" not in text
    assert not re.search(r"\bsecrets\b", re.sub(r"#.*", "", text))


def test_no_text_from_outside_is_put_into_a_shell(steps):
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []


def test_every_action_is_pinned_to_a_commit_and_says_which_version_that_is(text):
    uses = re.findall(r"uses: (.*)", text)

    assert len(uses) == 3
    assert [line for line in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", line)] == []


def test_the_token_does_not_stay_in_the_checkout_which_has_the_whole_history(steps):
    (checkout,) = [step["with"] for step in steps if "checkout" in step.get("uses", "")]

    assert checkout["persist-credentials"] is False
    assert checkout["fetch-depth"] == 0


def test_it_ends_in_time_and_makes_way_for_a_newer_push(workflow):
    assert all(job["timeout-minutes"] <= 120 for job in workflow["jobs"].values())
    assert workflow["concurrency"]["cancel-in-progress"] is True
    assert "pull_request.number" in workflow["concurrency"]["group"]


def test_the_results_are_kept_whatever_became_of_them(steps):
    (upload,) = [step for step in steps if "upload-artifact" in step.get("uses", "")]
    (compare,) = [step for step in steps if "run" in step]

    assert upload["if"] == "always()"
    assert f"--out {upload['with']['path']}\n" in compare["run"]


def test_the_scripts_that_it_calls_are_there(steps, repository):
    called = {name for step in steps for name in re.findall(r"scripts/[\w-]+", step.get("run", ""))}

    assert called == {"scripts/compare-revisions"}
    assert all(os.access(repository / name, os.X_OK) for name in called)
