"""The comment, the summary, the annotations and the outputs of a GitHub job, against a server that speaks GitHub's calls."""

import json
from pathlib import Path

import pytest

from ci_builders import TOKEN, attachment_of, gate
from forge_server import NOT_ACCESSIBLE, SECONDARY, SHA, Server, now
from gpucost.ci import forge as forge_of
from gpucost.ci import http
from gpucost.ci.contract import Options
from gpucost.ci.github import MAX_ANNOTATIONS

MARKER = "<!-- gpucost:gpu/train run=500.1 -->"


@pytest.fixture
def attach(forge, github_env, report, monkeypatch):
    """Attaches a report to pull request 7; gives the steps by what they are, and the lines for the forge."""
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)

    def call(options=None, attachment=None, **environ):
        said = []
        env = {**github_env, **environ}
        env = {name: value for name, value in env.items() if value is not None}
        steps = forge_of("github").attach(attachment or attachment_of(report), options or Options(), env, said.append)
        call.said = said
        return {step.what: step for step in steps}

    return call


def test_the_first_job_makes_a_comment_and_the_next_one_updates_it(forge, attach, github_env):
    first = attach()["comment"]
    second = attach(GITHUB_RUN_ID="501")["comment"]
    assert (first.text, second.text) == ("comment created", "comment updated")
    (comment,) = forge.comments
    assert comment["body"].startswith("<!-- gpucost:gpu/train run=501.1 -->\n")
    assert first.link == second.link == comment["html_url"]


def test_two_jobs_keep_a_comment_each(forge, attach):
    attach(GITHUB_JOB="train")
    attach(GITHUB_JOB="serve")
    attach(GITHUB_JOB="train", GPUCOST_CI_LEG="1")
    attach(Options(key="mine"))
    attach(GITHUB_JOB="serve")
    assert [body.split(" run=")[0] for body in forge.bodies()] == [
        "<!-- gpucost:gpu/train",
        "<!-- gpucost:gpu/serve",
        "<!-- gpucost:gpu/train/1",
        "<!-- gpucost:mine",
    ]


def test_a_job_that_took_longer_does_not_overwrite_a_newer_one(forge, attach):
    attach(GITHUB_RUN_ID="501")
    step = attach(GITHUB_RUN_ID="99")["comment"]
    assert not step.done
    assert "newer run" in step.text
    assert "run=501.1" in forge.bodies()[0]


def test_the_comment_is_found_on_any_page(forge, attach):
    for number in range(250):
        forge.add(f"remark {number}")
    forge.add(f"{MARKER}\nold")
    for number in range(60):
        forge.add(f"later remark {number}")
    assert attach()["comment"].text == "comment updated"
    assert len(forge.comments) == 311
    assert [call.path.split("&page=")[1] for call in forge.made("GET") if "page=" in call.path] == ["1", "2", "3", "4"]


def test_a_persons_comment_with_our_marker_is_left_alone(forge, attach):
    forge.add(f"{MARKER}\nnot yours", login="mallory", kind="User")
    assert attach()["comment"].text == "comment created"
    assert forge.bodies()[0] == f"{MARKER}\nnot yours"


def test_with_a_persons_token_only_that_persons_comments_are_ours(forge, attach):
    forge.logins["ghp_person"] = {"login": "ada", "type": "User", "id": 3}
    forge.add(f"{MARKER}\nanother bot")
    forge.add(f"{MARKER}\nmine", login="ada", kind="User")
    assert attach(GITHUB_TOKEN="ghp_person")["comment"].text == "comment updated"
    assert forge.bodies()[0] == f"{MARKER}\nanother bot"
    assert "xxx" in forge.bodies()[1]


def test_several_comments_with_one_key_become_one(forge, attach):
    for text in ("a", "b", "c"):
        forge.add(f"{MARKER}\n{text}")
    step = attach()["comment"]
    assert step.text == "comment updated, 2 more with the same key removed"
    assert [comment["id"] for comment in forge.comments] == [1001]


def test_a_comment_that_somebody_removes_meanwhile_is_made_again(forge, attach):
    forge.add(f"{MARKER}\nold")
    forge.fail(404, {"message": "Not Found"}, method="PATCH")
    assert "made" not in (step := attach()["comment"]).text
    assert step.done
    assert len(forge.made("POST")) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_token_that_may_not_write_is_a_notice_that_says_what_to_do(forge, attach, status):
    forge.fail(status, NOT_ACCESSIBLE, method="POST")
    steps = attach()
    assert not steps["comment"].done
    assert "Resource not accessible by integration" in steps["comment"].text
    assert "second workflow" in steps["comment"].text
    assert steps["summary"].done
    assert len(forge.made("POST")) == 1


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (429, {"message": "Too Many Requests"}, {"Retry-After": "0"}),
        (403, SECONDARY, {"Retry-After": "0"}),
        (403, SECONDARY, {}),
        (403, {"message": "API rate limit exceeded"}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}),
        (500, None, {}),
        (502, None, {}),
        (503, {"message": "unavailable"}, {"Retry-After": "0"}),
        (0, None, {}),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_passes_is_tried_again(forge, attach, status, body, headers, method):
    forge.fail(status, body, headers=headers, method=method, times=2)
    assert attach()["comment"].text == "comment created"
    assert len(forge.comments) == 1


def test_a_forge_that_asks_for_more_patience_than_there_is_gets_none(forge, attach):
    forge.fail(429, {"message": "Too Many Requests"}, headers={"Retry-After": "3600"}, times=9)
    step = attach()["comment"]
    assert not step.done
    assert "429" in step.text
    assert len(forge.calls) == 1


def test_a_limit_that_ends_far_off_is_not_waited_for(forge, attach):
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(now() + 3000)}
    forge.fail(403, {"message": "API rate limit exceeded"}, headers=reset, times=9)
    assert not attach()["comment"].done
    assert len(forge.calls) == 1


def test_tries_end(forge, attach):
    forge.fail(500, {"message": "oops"}, times=99)
    step = attach()["comment"]
    assert not step.done
    assert "500 oops" in step.text
    assert len(forge.calls) == http.MAX_TRIES


def test_a_post_whose_answer_got_lost_leaves_one_comment(forge, attach):
    lost = forge.answer

    def answer(call):
        reply = lost(call)
        if call.method == "POST" and len(forge.made("POST")) == 1:
            return 502, {"message": "Bad Gateway"}, {}
        return reply

    forge.answer = answer
    assert attach()["comment"].done
    assert len(forge.comments) == 1


def test_a_comment_that_the_forge_finds_too_long_is_shortened(forge, attach):
    forge.max_chars = 20_000
    assert attach()["comment"].text == "comment created"
    assert [len(call.body["body"]) for call in forge.made("POST")] == [65_000, 32_500, 16_250]


def test_a_comment_that_nothing_makes_short_enough_is_a_notice(forge, attach):
    forge.max_chars = 10
    step = attach()["comment"]
    assert not step.done
    assert "too long" in step.text
    assert len(forge.made("POST")) < 8


def test_the_token_does_not_go_to_another_host(forge, attach, github_env):
    with Server() as other:
        target = other.url.replace("127.0.0.1", "localhost")
        forge.fail(302, {}, headers={"Location": f"{target}/repos/o/r/issues/7/comments"}, times=9)
        step = attach()["comment"]
        assert not step.done
        assert "another host" in step.text
        assert other.calls == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_renamed_repository_is_followed_on_the_same_host(forge, attach, status):
    forge.fail(status, {}, headers={"Location": "/repos/o/r/issues/7/comments?per_page=100&page=1"}, method="GET")
    assert attach()["comment"].text == "comment created"


def test_a_circle_of_redirects_ends(forge, attach):
    forge.fail(307, {}, headers={"Location": "/user"}, times=99)
    assert not attach()["comment"].done
    assert len(forge.calls) < 8


@pytest.mark.parametrize(
    ("raw", "word"), [(b"<html>", "not JSON"), (b"{}", "not a list"), (b"[" * 100_000, "not JSON")]
)
def test_an_answer_that_is_none_is_a_notice(forge, attach, raw, word):
    forge.fail(200, raw=raw)
    assert word in attach()["comment"].text


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({"GITHUB_REPOSITORY": "../../admin"}, "OWNER/NAME"),
        ({"GITHUB_REPOSITORY": "o/r?x=1#"}, "OWNER/NAME"),
        ({"GITHUB_REPOSITORY": "o/.."}, "OWNER/NAME"),
        ({"GITHUB_API_URL": "http://evil.example"}, "not an https address"),
        ({"GITHUB_API_URL": "file:///etc/passwd"}, "not an https address"),
        ({"GITHUB_API_URL": "https://user:pass@evil.example"}, "not an https address"),
        ({"GITHUB_API_URL": "https://x y/"}, "address"),
        ({"GITHUB_TOKEN": f"{TOKEN}\r\nX-Evil: 1"}, "characters that no token has"),
        ({"GITHUB_TOKEN": f"{TOKEN}\N{SNOWMAN}"}, "characters that no token has"),
        ({"GITHUB_TOKEN": None}, "no token"),
    ],
)
def test_a_hostile_environment_is_a_notice_without_a_call(forge, attach, environ, word):
    steps = attach(**environ)
    assert word in steps["comment"].text
    assert forge.calls == []
    assert not any(TOKEN in step.text for step in steps.values())


@pytest.mark.parametrize(
    "event", [b"", b"[]", b"{", b'{"pull_request": 3}', b'{"pull_request": {"number": "7/../8"}}', b"[" * 100_000]
)
def test_an_event_that_names_no_pull_request_makes_no_comment(forge, attach, github_env, event):
    Path(github_env["GITHUB_EVENT_PATH"]).write_bytes(event)
    steps = attach()
    assert "no pull request" in steps["comment"].text
    assert steps["summary"].done
    assert forge.calls == []


def test_an_issue_is_no_pull_request_but_a_remark_on_one_is(attach, github_env):
    event = Path(github_env["GITHUB_EVENT_PATH"])
    event.write_text(json.dumps({"issue": {"number": 7}}))
    assert not attach()["comment"].done
    event.write_text(json.dumps({"issue": {"number": 7, "pull_request": {}}}))
    assert attach()["comment"].done


@pytest.mark.parametrize(
    ("rule", "failing", "made"),
    [("failed", False, 0), ("failed", True, 1), ("changed", False, 0), ("changed", True, 1), ("never", True, 0)],
)
def test_a_first_comment_is_made_only_where_it_is_wanted(forge, attach, report, rule, failing, made):
    attach(Options(comment=rule), attachment_of(report, [gate(fails=failing)]))
    assert len(forge.comments) == made


def test_a_comment_that_is_there_is_updated_even_when_all_is_well(forge, attach, report):
    attach(Options(comment="failed"), attachment_of(report, [gate()]))
    assert attach(Options(comment="failed"))["comment"].text == "comment updated"


# --- the second workflow, for forks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def second(forge, attach, github_env, tmp_path):
    """Attaches in a workflow that runs on workflow_run, with what a stranger's job says the number is."""
    run = {
        "id": 400,
        "run_attempt": 2,
        "head_sha": SHA,
        "head_repository": {"full_name": "Stranger/r"},
        "html_url": "https://forge.example/run/400",
    }
    Path(github_env["GITHUB_EVENT_PATH"]).write_text(json.dumps({"workflow_run": run}))
    forge.pulls[7] = {"number": 7, "head": {"sha": SHA, "repo": {"full_name": "stranger/r"}}}

    def call(number: bytes = b"7\n"):
        file = tmp_path / "pull-request.txt"
        file.write_bytes(number)
        return attach(Options(pull_request_file=str(file), key="gpu/train"))["comment"]

    return call


def test_a_second_workflow_comments_for_a_fork(forge, second):
    assert second().text == "comment created"
    assert forge.bodies()[0].startswith("<!-- gpucost:gpu/train run=400.2 -->")


def test_a_number_that_is_not_of_the_measured_commit_is_refused(forge, second):
    forge.pulls[8] = {"number": 8, "head": {"sha": "f" * 40, "repo": {"full_name": "stranger/r"}}}
    assert "does not end in the commit" in second(b"8").text
    assert forge.comments == []


def test_a_number_from_another_repository_is_refused(forge, second):
    forge.pulls[8] = {"number": 8, "head": {"sha": SHA, "repo": {"full_name": "somebody/else"}}}
    assert "does not come from the repository" in second(b"8").text


@pytest.mark.parametrize(
    "number", [b"", b"7/../8", b"-7", b"0", b"7 8", b"9" * 60, b"\xff\xfe", "٧".encode(), b"7\x00"]
)
def test_a_number_that_is_none_is_refused_without_a_call(forge, second, number):
    assert "something else" in second(number).text
    assert forge.calls == []


def test_a_number_from_a_file_is_refused_in_any_other_workflow(forge, attach, tmp_path):
    file = tmp_path / "pull-request.txt"
    file.write_text("8")
    step = attach(Options(pull_request_file=str(file)))["comment"]
    assert "workflow_run" in step.text
    assert forge.comments == []


# --- summary, annotations, outputs ----------------------------------------------------------------------------------------------------------------


def test_the_summary_keeps_what_is_there_and_stays_under_githubs_limit(attach, github_env):
    file = Path(github_env["GITHUB_STEP_SUMMARY"])
    file.write_bytes(b"another step\n" * 50_000)
    assert attach()["summary"].done
    assert file.read_bytes().startswith(b"another step\n" * 50_000)
    assert 990_000 < file.stat().st_size <= 1_000_000


def test_a_summary_that_has_no_room_is_left_as_it_is(attach, github_env):
    file = Path(github_env["GITHUB_STEP_SUMMARY"])
    file.write_bytes(b"x" * 999_000)
    step = attach()["summary"]
    assert not step.done
    assert file.stat().st_size == 999_000


@pytest.mark.parametrize("path", ["/", "/nowhere/summary.md", "/dev/full", "a\x00b"])
def test_a_summary_that_cannot_be_written_is_a_notice(attach, path):
    assert not attach(GITHUB_STEP_SUMMARY=path)["summary"].done


def test_each_failed_gate_is_one_annotation(attach, report):
    attach(
        attachment=attachment_of(
            report, [gate(), gate("energy", fails=False), gate("idle", message="idle, 79 % : too much")]
        )
    )
    assert attach.said == [
        "::error title=gpucost%3A cost of the run::cost of the run is $0.10, over $0.05",
        "::error title=gpucost%3A idle of the run::idle, 79 %25 : too much",
    ]


def test_gates_that_may_not_fail_the_job_are_warnings(attach, report):
    attach(Options(gates_fail=False), attachment_of(report, [gate()]))
    assert attach.said[0].startswith("::warning ")


def test_nothing_in_a_gate_can_start_another_command(attach, report):
    evil = "x\r\n::set-output name=a::b\n##[add-path]/tmp %0A::stop-commands::z"
    attach(attachment=attachment_of(report, [gate(message=evil, title="a,b::c\n::error::d")]))
    (line,) = attach.said
    assert "\n" not in line
    assert "\r" not in line
    assert "##[" not in line
    assert "%0A" not in line.replace("%250A", "")
    assert line.startswith("::error title=gpucost%3A a%2Cb%3A%3Ac %3A%3Aerror%3A%3Ad::")


def test_no_more_annotations_than_github_shows(attach, report):
    attach(attachment=attachment_of(report, [gate(f"g{number}") for number in range(40)]))
    assert len(attach.said) == MAX_ANNOTATIONS
    assert "31 more gates failed" in attach.said[-1]


def test_outputs_cannot_be_forged(attach, report, github_env):
    attach(Options(files="out\npassed=true"), attachment_of(report, [gate()]))
    outputs = _outputs(Path(github_env["GITHUB_OUTPUT"]).read_text())
    assert outputs["passed"] == "false"
    assert outputs["failed-gates"] == "1"
    assert outputs["run-id"] == report.run.run_id
    assert outputs["cost-usd"] == report.total.money.usd
    assert outputs["report"] == "out passed=true"
    assert outputs["comment-url"].startswith("https://forge.example/")


def _outputs(text: str) -> dict[str, str]:
    """As the runner reads the file."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, end = line.split("<<")
        value = []
        for inner in lines:
            if inner == end:
                break
            value.append(inner)
        found[name] = "\n".join(value)
    return found


def test_a_report_that_could_not_be_made_is_shown_where_people_look(github_env):
    said = []
    forge_of("github").failed("run.json is damaged: <b>@all\n::error::x", Options(), github_env, said.append)
    assert said == ["::error title=gpucost%3A no report::run.json is damaged: <b>@all ::error::x"]
    summary = Path(github_env["GITHUB_STEP_SUMMARY"]).read_text()
    assert "made no report" in summary
    assert "<b>" not in summary
    assert "@all" not in summary
