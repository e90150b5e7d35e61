"""`gpucost ci` as a program: real processes, real recordings, and a server that speaks the forges' calls."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ci_builders import TOKEN
from forge_server import NOT_ACCESSIBLE, SHA, meet_once
from gpucost.ci import http
from gpucost.cli import main
from run_maker import make_run

PRICE = "3.60"  # 60 s of one GPU cost $0.06


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"), price_request=PRICE)


@pytest.fixture
def start(tmp_path):
    """Starts `gpucost ci` in a process of its own, with nothing of this one's environment but the path."""

    def call(*words, environ=None, **more) -> subprocess.Popen:
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **(environ or {})}
        return subprocess.Popen(
            [sys.executable, "-m", "gpucost", "ci", *map(str, words)],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    return call


@pytest.fixture
def ci(monkeypatch, tmp_path, capsys):
    """Runs `gpucost ci` in this process, with nothing of its environment but the path; gives its exit code, stdout and stderr."""

    def call(*words, environ=None) -> tuple[int, str, str]:
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **(environ or {})}
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr(os, "environ", env)
            patch.setattr(http, "FIRST_PAUSE_S", 0.001)
            code = main(["ci", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_without_a_ci_the_files_are_all_there_is(ci, run, tmp_path):
    code, out, err = ci(run, "--gate", "cost=1")
    assert (code, out) == (0, "")
    assert sorted(path.name for path in (tmp_path / "gpucost-report").iterdir()) == [
        "check.json",
        "junit.xml",
        "openmetrics.txt",
        "report.json",
        "report.md",
    ]
    assert all(line.startswith("gpucost: ") for line in err.splitlines())


def test_the_files_are_what_their_readers_take(ci, run, tmp_path):
    ci(run, "--gate", "cost=0.01", "--gate", "duration=1h")
    files = tmp_path / "gpucost-report"
    assert json.loads((files / "report.json").read_text())["total"]["money"]["usd"].startswith("0.06")
    assert json.loads((files / "check.json").read_text())["passed"] is False
    suite = ET.parse(files / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    families = {
        family.name: family for family in text_string_to_metric_families((files / "openmetrics.txt").read_text())
    }
    (cost,) = families["gpucost_run_cost_usd"].samples
    assert cost.value == pytest.approx(0.06)
    assert families["gpucost_run_cost_usd"].unit == "usd"
    for by in ("run_use", "stage"):
        assert sum(sample.value for sample in families[f"gpucost_{by}_cost_usd"].samples) == pytest.approx(0.06)
    gates = {sample.labels["gate"]: sample.value for sample in families["gpucost_gate_passed"].samples}
    assert gates == {"cost": 0, "duration": 1}


def test_a_run_without_a_price_has_no_money_in_its_metrics_and_never_a_zero(ci, tmp_path):
    run = make_run(tmp_path / "runs", gpu_name="GPU of nobody")
    ci(run)
    text = (tmp_path / "gpucost-report/openmetrics.txt").read_text()
    assert "_usd" not in text
    assert "gpucost_run_gpu_seconds 60" in text
    assert list(text_string_to_metric_families(text))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--gate", "cost=1"], 0),
        (["--gate", "cost=0.01"], 1),
        (["--gate", "cost=0.01", "--no-fail"], 0),
        (["--gate", "nonsense=1"], 2),
        (["--gate", "nonsense=1", "--no-fail"], 2),
        (["--provider", "sourceforge"], 2),
        (["--comment", "sometimes"], 2),
    ],
)
def test_the_exit_code_is_that_of_the_gates_or_two(ci, run, words, code):
    assert ci(run, *words)[0] == code


def test_a_pull_request_gets_all_there_is(ci, run, forge, github_env, tmp_path):
    code, out, err = ci(run, "--gate", "cost=0.01", "--keep-recording", environ=github_env)
    assert code == 1
    (line,) = out.splitlines()
    assert line.startswith("::error title=gpucost%3A cost")
    (body,) = forge.bodies()
    assert body.startswith("<!-- gpucost:gpu/train run=500.1 -->\n")
    assert "$0.06" in body
    assert len(body) < 65_536
    summary = Path(github_env["GITHUB_STEP_SUMMARY"]).read_text()
    assert "$0.06" in summary
    assert "<!-- gpucost:" not in summary
    assert (tmp_path / "gpucost-report/pull-request.txt").read_text() == "7\n"
    assert (tmp_path / f"gpucost-report/recording/{run.name}/run.json").exists()
    assert "comment created" in err
    assert TOKEN not in out + err


def test_the_recording_that_is_kept_gives_the_same_report(ci, run, tmp_path):
    ci(run, "--keep-recording")
    first = (tmp_path / "gpucost-report/report.json").read_text()
    ci(tmp_path / f"gpucost-report/recording/{run.name}", "--out", "again")
    assert (tmp_path / "again/report.json").read_text() == first


def test_a_link_in_a_recording_is_not_followed(ci, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    run = make_run(tmp_path / "runs", price_request=PRICE)
    (run / "link.txt").symlink_to(secret)
    (run / "folder").symlink_to(tmp_path)
    ci(run, "--keep-recording")
    kept = tmp_path / f"gpucost-report/recording/{run.name}"
    assert (kept / "run.json").exists()
    assert not (kept / "link.txt").exists()
    assert not (kept / "folder").exists()


def test_a_forks_job_ends_as_its_gates_do_and_says_what_to_do(ci, run, forge, github_env, tmp_path):
    forge.fail(403, NOT_ACCESSIBLE, method="POST")
    code, _, err = ci(run, "--gate", "cost=1", environ=github_env)
    assert code == 0
    assert "second workflow" in err
    assert (tmp_path / "gpucost-report/pull-request.txt").exists()


def test_the_second_workflow_comments_with_the_gates_of_its_own_branch(ci, run, forge, github_env, tmp_path):
    event = {"workflow_run": {"id": 400, "run_attempt": 1, "head_sha": SHA, "head_repository": {"full_name": "s/r"}}}
    Path(github_env["GITHUB_EVENT_PATH"]).write_text(json.dumps(event))
    forge.pulls[7] = {"head": {"sha": SHA, "repo": {"full_name": "s/r"}}}
    (tmp_path / "number").write_text("7")
    (tmp_path / "gpucost.toml").write_text("[check.run]\ncost = 0.01\n")
    code, out, _ = ci(run, "--pull-request-file", "number", "--key", "gpu/train", "--no-fail", environ=github_env)
    assert code == 0
    assert out.startswith("::warning")
    assert forge.bodies()[0].startswith("<!-- gpucost:gpu/train run=400.1 -->")


def test_two_jobs_at_once_leave_one_comment(start, run, forge, github_env, tmp_path):
    meet_once(forge, 2)
    processes = []
    for number in range(2):
        own = {"GITHUB_OUTPUT": str(tmp_path / f"out{number}"), "GITHUB_STEP_SUMMARY": str(tmp_path / f"sum{number}")}
        processes.append(start(run, "--out", f"files{number}", environ={**github_env, **own}))
    ended = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert len(forge.made("POST")) == 2  # both saw an empty list, and both made one
    (body,) = forge.bodies()
    assert forge.comments[0]["id"] == 1001
    assert "$0.06" in body


def test_a_server_that_stumbles_is_tried_again(ci, run, forge, github_env):
    forge.fail(502, None, times=1)
    assert "comment created" in ci(run, environ=github_env)[2]


def test_a_merge_request_gets_one_note(ci, run, forge, gitlab_env):
    assert ci(run, "--gate", "cost=1", environ=gitlab_env)[0] == 0
    assert ci(run, "--gate", "cost=1", environ=gitlab_env)[0] == 0
    (body,) = forge.bodies()
    assert "$0.06" in body


@pytest.mark.parametrize("damage", ["not json", '{"schema_version": 99}', None])
def test_a_run_that_cannot_be_read_is_shown_and_ends_with_two(ci, forge, github_env, tmp_path, damage):
    run = tmp_path / "broken"
    run.mkdir()
    if damage is not None:
        (run / "run.json").write_text(damage)
    code, out, err = ci(run, environ=github_env)
    assert code == 2
    assert out.startswith("::error title=gpucost%3A no report::")
    assert "made no report" in Path(github_env["GITHUB_STEP_SUMMARY"]).read_text()
    assert forge.comments == []
    assert len(err.splitlines()) <= 2


def test_a_baseline_that_is_not_there_yet_is_a_line_and_no_failure(ci, run):
    code, _, err = ci(run, "--baseline", "baseline/*", "--gate", "cost=1")
    assert code == 0
    assert "no baseline" in err


def test_a_baseline_is_compared_with(ci, run, tmp_path):
    for number in range(6):
        make_run(tmp_path / "baseline", started_ns=1_784_000_000_000_000_000 + number * 10**12, price_request=PRICE)
    code, _, _ = ci(run, "--baseline", f"{tmp_path}/baseline/*", "--gate", "cost_increase=10%")
    check = json.loads((tmp_path / "gpucost-report/check.json").read_text())
    assert code == 0
    assert check["comparison"]["method"]["base_runs"] == 6


def test_hostile_names_stay_data_wherever_they_go(ci, forge, github_env, tmp_path):
    evil = "x\r\n::error::pwn ##[set-env]a @everyone <script>alert(1)</script> | <!-- gpucost:gpu/train run=1 --> `"
    run = make_run(tmp_path / "runs", price_request=PRICE, name=evil, command=["sh", "-c", evil], gpu_name=evil)
    code, out, err = ci(run, "--gate", "cost=0.01", environ=github_env)
    assert code == 1
    for line in (out + err).splitlines():
        assert line.startswith(("::error title=gpucost%3A ", "gpucost: "))
        assert "##[" not in line
    (body,) = forge.bodies()
    assert len(body.split("\n<!-- gpucost:")) == 1
    assert list(text_string_to_metric_families((tmp_path / "gpucost-report/openmetrics.txt").read_text()))


def test_a_hostile_environment_breaks_nothing(ci, run, tmp_path):
    environ = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_API_URL": "file:///etc/passwd",
        "GITHUB_REPOSITORY": "../..",
        "GITHUB_EVENT_PATH": "/",
        "GITHUB_REF": "refs/pull/7/merge",
        "GITHUB_TOKEN": "a b\nc",
        "GITHUB_STEP_SUMMARY": "/",
        "GITHUB_OUTPUT": "/",
        "GITHUB_WORKFLOW": "::error::x",
        "GITHUB_RUN_ID": "9" * 500,
        "GPUCOST_CI_KEY": "--><script>",
    }
    code, out, err = ci(run, "--gate", "cost=1", environ=environ)
    assert (code, out) == (0, "")
    assert "no comment" in err
    assert "no summary" in err
