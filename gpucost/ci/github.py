"""GitHub Actions: the step summary, one comment on the pull request, annotations, outputs of the step.

Works with the job's own token and the permission `pull-requests: write`. A pull request from a fork has a token that may only read, whatever
the workflow asks for: the comment is then left to a second workflow (`workflow_run`), whose job knows only what the first one uploaded. The
number of the pull request in there was written by a stranger's job, so it must be a number, and the pull request must end in the very commit
that the first workflow ran for.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpucost.ci.comments import Comment, Marker, keep_one
from gpucost.ci.contract import Attachment, ForgeError, Options, Step
from gpucost.ci.http import Client
from gpucost.render.markdown import prose
from gpucost.render.pull_request import SUMMARY_BYTES
from gpucost.render.safe import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_PAGES = 100
MAX_EVENT_BYTES = 16 << 20
MAX_ANNOTATIONS = 10
"""Of one level in one step; GitHub drops the rest without a word."""
MIN_SUMMARY_BYTES = 8_000
API_VERSION = "2022-11-28"

_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_NOT_ALLOWED = {401, 403, 404}
_FORK_HINT = "a pull request from a fork has a token that may only read: see docs/ci.md, second workflow"


class GitHub:
    """The forge of GitHub Actions; see `gpucost.ci.contract.Forge`."""

    def number(self, environ: Mapping[str, str]) -> str | None:
        """The pull request that this job is about."""
        return _number_in(_event(environ), environ)

    def attach(
        self, attachment: Attachment, options: Options, environ: Mapping[str, str], say: Callable[[str], None]
    ) -> list[Step]:
        """Attach the report to the job and to its pull request."""
        steps = []
        event = _event(environ)
        link = options.link or _job_link(event, environ)
        if options.summary:
            steps.append(_summary(attachment, link, environ))
        if options.annotations:
            steps.append(annotate(attachment, options, say))
        comment = _comment(attachment, options, event, link, environ)
        steps.append(comment)
        outputs = _outputs(attachment, options, comment, environ)
        return [*steps, outputs] if outputs else steps

    def failed(self, message: str, options: Options, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        """An annotation, and a line in the summary."""
        if options.annotations:
            say(command("error", message, title="gpucost: no report"))
        path = environ.get("GITHUB_STEP_SUMMARY")
        if options.summary and path:
            _append(Path(path), f"**gpucost made no report**: {prose(message)}")


@dataclass(frozen=True, slots=True)
class _PullRequest:
    """The comments of one pull request that this token's owner wrote."""

    client: Client
    repository: str
    number: str
    login: str | None

    def list(self) -> list[Comment]:
        found = self.client.pages(f"/repos/{self.repository}/issues/{self.number}/comments", limit=MAX_PAGES)
        return [_comment_of(item) for item in found if isinstance(item, dict) and self._is_ours(item)]

    def create(self, body: str) -> Comment:
        path = f"/repos/{self.repository}/issues/{self.number}/comments"
        return _comment_of(self.client.call("POST", path, {"body": body}).body)

    def update(self, comment: Comment, body: str) -> Comment:
        path = f"/repos/{self.repository}/issues/comments/{comment.id}"
        return _comment_of(self.client.call("PATCH", path, {"body": body}).body)

    def delete(self, comment: Comment) -> None:
        self.client.call("DELETE", f"/repos/{self.repository}/issues/comments/{comment.id}")

    def _is_ours(self, item: dict[str, Any]) -> bool:
        """Anybody can write a marker: a person's comment is never ours, unless the token is that person's."""
        user = item.get("user")
        if not isinstance(user, dict):
            return False
        return user.get("type") == "Bot" if self.login is None else user.get("login") == self.login


def _comment(
    attachment: Attachment, options: Options, event: dict[str, Any], link: str | None, environ: Mapping[str, str]
) -> Step:
    if options.comment == "never":
        return Step("comment", done=False, text="no comment: not wanted")
    try:
        thread = _thread(options, event, environ)
        if thread is None:
            return Step("comment", done=False, text="no comment: this job is about no pull request")
        marker = Marker(options.key or _key(environ), _order(event, environ))
        return keep_one(thread, marker, attachment, options, link=link)
    except ForgeError as error:
        hint = error.hint or (_FORK_HINT if error.status in _NOT_ALLOWED else "")
        return Step("comment", done=False, text=f"no comment: {error}" + (f" ({hint})" if hint else ""))


def _thread(options: Options, event: dict[str, Any], environ: Mapping[str, str]) -> _PullRequest | None:
    token = (environ.get("GITHUB_TOKEN") or environ.get("GH_TOKEN") or "").strip()
    repository = environ.get("GITHUB_REPOSITORY", "")
    stranger = options.pull_request_file
    number = _read_number(stranger) if stranger else _number_in(event, environ)
    if number is None:
        return None
    if not token:
        raise ForgeError("there is no token", hint="set GITHUB_TOKEN, with the permission pull-requests: write")
    if not _REPOSITORY.fullmatch(repository) or ".." in repository:
        raise ForgeError("GITHUB_REPOSITORY is not OWNER/NAME")
    client = Client(
        environ.get("GITHUB_API_URL") or "https://api.github.com",
        {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "X-GitHub-Api-Version": API_VERSION,
        },
    )
    if stranger:
        _prove(client, repository, number, event)
    return _PullRequest(client, repository, number, _login(client, token))


def _prove(client: Client, repository: str, number: str, event: dict[str, Any]) -> None:
    """The pull request must end in the commit that the first workflow ran for, and come from where that came from.

    Raises:
        ForgeError: it does not.
    """
    run = event.get("workflow_run")
    sha = run.get("head_sha") if isinstance(run, dict) else None
    if not isinstance(run, dict) or not isinstance(sha, str) or not _SHA.fullmatch(sha):
        raise ForgeError("a number from a file is only taken in a workflow that runs on workflow_run")
    found = client.call("GET", f"/repos/{repository}/pulls/{number}").body
    head = found.get("head") if isinstance(found, dict) else None
    head = head if isinstance(head, dict) else {}
    if head.get("sha") != sha:
        raise ForgeError(f"pull request {number} does not end in the commit that was measured, or not any more")
    if _full_name(head.get("repo")) != _full_name(run.get("head_repository")):
        raise ForgeError(f"pull request {number} does not come from the repository that was measured")


def _full_name(repository: Any) -> str | None:
    name = repository.get("full_name") if isinstance(repository, dict) else None
    return name.lower() if isinstance(name, str) else None


def _login(client: Client, token: str) -> str | None:
    """Whose token it is; None for one of an app (the job's own is), which may not ask, and whose comments are a bot's."""
    if token.startswith("ghs_"):
        return None
    try:
        body = client.call("GET", "/user").body
    except ForgeError as error:
        if error.status in _NOT_ALLOWED:
            return None
        raise
    login = body.get("login") if isinstance(body, dict) else None
    return login if isinstance(login, str) else None


def _comment_of(item: Any) -> Comment:
    if not isinstance(item, dict) or not isinstance(item.get("id"), int):
        raise ForgeError("the answer is not a comment: is this GitHub's interface?")
    link = item.get("html_url")
    return Comment(item["id"], str(item.get("body") or ""), link if isinstance(link, str) else None)


def _event(environ: Mapping[str, str]) -> dict[str, Any]:
    """What started the workflow; empty where that cannot be read."""
    path = environ.get("GITHUB_EVENT_PATH")
    if not path:
        return {}
    try:
        with Path(path).open("rb") as file:
            event = json.loads(file.read(MAX_EVENT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _number_in(event: dict[str, Any], environ: Mapping[str, str]) -> str | None:
    for name in ("pull_request", "issue"):
        subject = event.get(name)
        # An issue's comments start a workflow too; it is a pull request only where it says so.
        if isinstance(subject, dict) and (name == "pull_request" or "pull_request" in subject):
            number = str(subject.get("number"))
            return number if _NUMBER.fullmatch(number) else None
    found = re.fullmatch(r"refs/pull/([1-9][0-9]{0,9})/(merge|head)", environ.get("GITHUB_REF", ""))
    return found.group(1) if found else None


def _read_number(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            text = file.read(64).decode("ascii", "replace").strip()
    except OSError as error:
        raise ForgeError(f"the number of the pull request cannot be read: {error.strerror}") from error
    if not _NUMBER.fullmatch(text):
        raise ForgeError("the file that should hold the number of a pull request holds something else")
    return text


def _key(environ: Mapping[str, str]) -> str:
    """The job's name; the legs of a matrix are told apart by `GPUCOST_CI_LEG`, which the action sets."""
    parts = [environ.get("GITHUB_WORKFLOW", ""), environ.get("GITHUB_JOB", ""), environ.get("GPUCOST_CI_LEG", "")]
    return "/".join(part for part in parts if part) or "gpucost"


def _order(event: dict[str, Any], environ: Mapping[str, str]) -> tuple[int, ...]:
    run = event.get("workflow_run")
    first = run if isinstance(run, dict) else {}
    values = (
        first.get("id") or environ.get("GITHUB_RUN_ID"),
        first.get("run_attempt") or environ.get("GITHUB_RUN_ATTEMPT"),
    )
    return tuple(int(value) for value in map(str, values) if re.fullmatch(r"[0-9]{1,20}", value))


def _job_link(event: dict[str, Any], environ: Mapping[str, str]) -> str | None:
    run = event.get("workflow_run")
    if isinstance(run, dict):
        link = run.get("html_url")
        return link if isinstance(link, str) else None
    server, repository, run_id = (environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    known = server.startswith("https://") and _REPOSITORY.fullmatch(repository) and run_id.isdigit()
    return f"{server.rstrip('/')}/{repository}/actions/runs/{run_id}" if known else None


def _summary(attachment: Attachment, link: str | None, environ: Mapping[str, str]) -> Step:
    """Append to the step's summary; GitHub drops all of one that is too long, so what others wrote counts too."""
    path = environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return Step("summary", done=False, text="no summary: GITHUB_STEP_SUMMARY is not set")
    file = Path(path)
    room = SUMMARY_BYTES - _size(file) - 2
    if room < MIN_SUMMARY_BYTES:
        return Step("summary", done=False, text=f"no summary: {_size(file)} bytes are in it already")
    failure = _append(file, attachment.markdown(link=link, max_chars=room, max_bytes=room))
    if failure:
        return Step("summary", done=False, text=f"no summary: {failure}")
    return Step("summary", done=True, text="summary written")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except (OSError, ValueError):
        return 0


def _append(file: Path, text: str) -> str | None:
    """Write below what is there already, unless that would be too long; return why it could not be."""
    raw = (b"\n\n" if _size(file) else b"") + text.encode()
    if _size(file) + len(raw) > SUMMARY_BYTES:
        return "there is no room left in it"
    try:
        with file.open("ab") as out:
            out.write(raw)
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
    return None


def annotate(attachment: Attachment, options: Options, say: Callable[[str], None]) -> Step:
    """One annotation for each gate that fails, as many as GitHub shows."""
    failing = attachment.check.failing
    level = "error" if options.gates_fail else "warning"
    shown = failing if len(failing) <= MAX_ANNOTATIONS else failing[: MAX_ANNOTATIONS - 1]
    for gate in shown:
        say(command(level, gate.message, title=f"gpucost: {gate.title}"))
    if len(shown) < len(failing):
        say(command(level, f"{len(failing) - len(shown)} more gates failed; the summary has them all", title="gpucost"))
    return Step("annotations", done=bool(failing), text=f"{len(failing)} failed gates annotated")


def command(level: str, message: str, *, title: str) -> str:
    """A workflow command, in which nothing that comes from outside can start another."""
    text = plain(message, 1000).replace("%", "%25").replace("##[", "# #[")
    name = plain(title, 200).replace("%", "%25").replace(":", "%3A").replace(",", "%2C").replace("##[", "# #[")
    return f"::{level} title={name}::{text}"


def _outputs(attachment: Attachment, options: Options, comment: Step, environ: Mapping[str, str]) -> Step | None:
    path = environ.get("GITHUB_OUTPUT")
    if not path:
        return None
    total = attachment.report.total
    values = {
        "passed": "true" if attachment.check.passed else "false",
        "failed-gates": str(len(attachment.check.failing)),
        "run-id": attachment.report.run.run_id,
        "cost-usd": total.money.usd or "",
        "idle-cost-usd": total.waste.usd or "",
        "gpu-hours": "" if total.gpu_hours.value is None else str(total.gpu_hours.value),
        "report": options.files or "",
        "comment-url": comment.link or "",
    }
    # A fresh delimiter for each: no value can end early and set another output.
    lines = []
    for name, value in values.items():
        end = f"end-{secrets.token_hex(16)}"
        lines += [f"{name}<<{end}", plain(value, 4000), end]
    try:
        with Path(path).open("a", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")
    except OSError as error:
        return Step("outputs", done=False, text=f"no outputs: {error.strerror}")
    return Step("outputs", done=True, text="outputs set")
