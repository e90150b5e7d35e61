"""A forge to talk to, and a report to attach."""

import json
from pathlib import Path

import pytest

from ci_builders import TOKEN
from forge_server import Forge, Server
from gpucost.report.model import Report
from report_factory import demo, report_of


@pytest.fixture
def forge():
    with Server() as running:
        yield running


@pytest.fixture(scope="session")
def report() -> Report:
    return report_of(demo(), price="2.49")


@pytest.fixture
def github_env(forge: Forge, tmp_path: Path) -> dict[str, str]:
    """The environment of a job on pull request 7."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"pull_request": {"number": 7}}), encoding="utf-8")
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": forge.url,
        "GITHUB_SERVER_URL": "https://forge.example",
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_RUN_ID": "500",
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_WORKFLOW": "gpu",
        "GITHUB_JOB": "train",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "GITHUB_OUTPUT": str(tmp_path / "output.txt"),
    }


@pytest.fixture
def gitlab_env(forge: Forge) -> dict[str, str]:
    """The environment of a job on merge request 7, with a project's token."""
    forge.logins["glpat-secret"] = {"id": 99, "username": "project_1_bot"}
    return {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": f"{forge.url}/api/v4",
        "CI_PROJECT_ID": "12",
        "CI_MERGE_REQUEST_IID": "7",
        "CI_PIPELINE_ID": "500",
        "CI_JOB_ID": "900",
        "CI_JOB_NAME": "train",
        "CI_JOB_URL": "https://forge.example/job/900",
        "GITLAB_TOKEN": "glpat-secret",
        "GITLAB_USER_ID": "5",
    }
