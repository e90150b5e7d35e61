"""The annotation of a Buildkite build, through a stand-in for the agent's program."""

import json

import pytest

from ci_builders import attachment_of, gate
from gpucost.ci import forge as forge_of
from gpucost.ci.contract import Options

AGENT = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["AGENT_LOG"], "w") as log:
    json.dump({"words": sys.argv[1:], "bytes": len(sys.stdin.buffer.read())}, log)
if os.environ.get("AGENT_FAILS"):
    sys.exit("no such build")
"""


@pytest.fixture
def attach(report, tmp_path):
    agent = tmp_path / "bin" / "buildkite-agent"
    agent.parent.mkdir()
    agent.write_text(AGENT)
    agent.chmod(0o755)

    def call(gates=(), options=None, **environ):
        env = {
            "PATH": f"{agent.parent}:/usr/local/bin:/usr/bin:/bin",
            "AGENT_LOG": str(tmp_path / "log"),
            "BUILDKITE": "true",
            "BUILDKITE_STEP_KEY": "train",
            **environ,
        }
        (step,) = forge_of("buildkite").attach(attachment_of(report, gates), options or Options(), env, print)
        log = tmp_path / "log"
        return step, json.loads(log.read_text()) if log.exists() else None

    return call


@pytest.mark.parametrize(
    ("gates", "options", "style"),
    [
        ([], Options(), "info"),
        ([gate(fails=False)], Options(), "success"),
        ([gate()], Options(), "error"),
        ([gate()], Options(gates_fail=False), "warning"),
    ],
)
def test_the_build_is_annotated_under_the_jobs_own_context(attach, gates, options, style):
    step, log = attach(gates, options)
    assert step.done
    assert log["words"] == ["annotate", "--context", "gpucost-train", "--style", style]
    assert 0 < log["bytes"] <= 1_000_000


def test_parallel_jobs_have_an_annotation_each(attach):
    _, log = attach(BUILDKITE_PARALLEL_JOB="3")
    assert log["words"][2] == "gpucost-train-3"


def test_a_name_of_a_job_cannot_be_an_option(attach):
    _, log = attach(BUILDKITE_STEP_KEY="--help $(x)")
    assert log["words"][2].startswith("gpucost-help-x")


def test_an_agent_that_fails_is_a_notice(attach):
    step, _ = attach(AGENT_FAILS="1")
    assert not step.done
    assert "no such build" in step.text


def test_no_agent_is_a_notice(attach):
    step, log = attach(PATH="/nowhere")
    assert not step.done
    assert "not on the path" in step.text
    assert log is None


def test_a_build_that_is_about_no_pull_request_has_no_number():
    forge = forge_of("buildkite")
    assert forge.number({"BUILDKITE_PULL_REQUEST": "false"}) is None
    assert forge.number({"BUILDKITE_PULL_REQUEST": "12"}) == "12"
