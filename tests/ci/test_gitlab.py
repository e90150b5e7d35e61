"""The note on a GitLab merge request, against a server that speaks GitLab's calls."""

import pytest

from ci_builders import attachment_of, gate
from forge_server import now
from gpucost.ci import forge as forge_of
from gpucost.ci import http
from gpucost.ci.contract import Options
from gpucost.ci.gitlab import without_actions

OURS = {"login": "", "kind": "User", "author": {"id": 99}}
MARKER = "<!-- gpucost:train run=500.900 -->"


@pytest.fixture
def attach(gitlab_env, report, monkeypatch):
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)

    def call(options=None, attachment=None, **environ):
        env = {name: value for name, value in {**gitlab_env, **environ}.items() if value is not None}
        (step,) = forge_of("gitlab").attach(attachment or attachment_of(report), options or Options(), env, print)
        return step

    return call


def test_the_first_job_makes_a_note_and_the_next_one_updates_it(forge, attach):
    assert attach().text == "comment created"
    assert attach(CI_PIPELINE_ID="501").text == "comment updated"
    (note,) = forge.comments
    assert note["body"].startswith("<!-- gpucost:train run=501.900 -->\n")
    assert [call.method for call in forge.calls if "notes/" in call.path] == ["PUT"]
    assert all(call.headers["private-token"] == "glpat-secret" for call in forge.calls)


def test_notes_of_others_and_of_gitlab_itself_are_left_alone(forge, attach):
    forge.add(f"{MARKER}\nmallory", author={"id": 5})
    forge.add(f"{MARKER}\nsystem", author={"id": 99}, system=True)
    assert attach().text == "comment created"
    assert forge.bodies()[:2] == [f"{MARKER}\nmallory", f"{MARKER}\nsystem"]


def test_the_note_is_found_on_any_page(forge, attach):
    for number in range(120):
        forge.add(f"remark {number}", author={"id": 5})
    forge.add(f"{MARKER}\nold", author={"id": 99})
    assert attach().text == "comment updated"


def test_the_note_goes_to_the_project_that_the_merge_request_is_of(forge, attach):
    attach(CI_MERGE_REQUEST_PROJECT_ID="77")
    assert all("/projects/77/" in call.path for call in forge.calls if "/projects/" in call.path)


def test_without_a_token_of_the_project_the_jobs_own_is_tried_and_refused_with_a_notice(forge, attach):
    forge.fail(401, {"message": "401 Unauthorized"}, times=9)
    step = attach(GITLAB_TOKEN=None, CI_JOB_TOKEN="job-secret")
    assert not step.done
    assert "GITLAB_TOKEN must hold" in step.text
    assert "job-secret" not in step.text
    assert forge.calls[0].headers["job-token"] == "job-secret"


def test_where_the_jobs_own_token_is_enough_it_is_used(forge, attach):
    forge.add(f"{MARKER}\nold", author={"id": 5})
    assert attach(GITLAB_TOKEN=None, CI_JOB_TOKEN="job-secret").text == "comment updated"


@pytest.mark.parametrize("status", [403, 404])
def test_a_token_that_may_not_write_is_a_notice(forge, attach, status):
    forge.fail(status, {"message": "403 Forbidden"}, method="POST")
    step = attach()
    assert not step.done
    assert "scope api" in step.text
    assert "glpat-secret" not in step.text


def test_a_rate_limit_is_waited_for(forge, attach):
    headers = {"RateLimit-Remaining": "0", "RateLimit-Reset": str(now())}
    forge.fail(429, {"message": "Retry later"}, headers=headers, times=2)
    forge.fail(503, None, headers={"Retry-After": "0"}, method="POST")
    assert attach().text == "comment created"


def test_a_note_that_gitlab_finds_too_long_is_shortened(forge, attach):
    forge.fail(400, {"message": {"note": ["is too long (maximum is 1000000 characters)"]}}, method="POST")
    assert attach().text == "comment created"
    assert [len(call.body["body"]) for call in forge.made("POST")] == [65_000, 32_500]


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({"CI_PROJECT_ID": "12/../13"}, "not a number"),
        ({"CI_API_V4_URL": "http://evil.example/api/v4"}, "not an https address"),
        ({"GITLAB_TOKEN": "a\nb"}, "characters that no token has"),
        ({"GITLAB_TOKEN": None}, "no token"),
        ({"CI_MERGE_REQUEST_IID": "7/../8"}, "no merge request"),
        ({"CI_MERGE_REQUEST_IID": None}, "no merge request"),
        ({"GITLAB_TOKEN": None, "CI_JOB_TOKEN": "x", "GITLAB_USER_ID": "me"}, "not a number"),
    ],
)
def test_a_hostile_or_bare_environment_is_a_notice_without_a_call(forge, attach, environ, word):
    assert word in attach(**environ).text
    assert forge.calls == []


def test_no_line_of_a_note_is_a_quick_action(forge, attach, report):
    attach(attachment=attachment_of(report, [gate()], text="fine\n/merge\n  /close\na/b"))
    body = forge.bodies()[0]
    assert not any(line.lstrip().startswith("/") for line in body.splitlines())
    assert without_actions("a/b\nc") == "a/b\nc"
