"""GitLab CI: one note on the merge request. The pipeline's own page shows `junit.xml` and, on some tiers, `openmetrics.txt`.

The notes of a merge request want a project's or a person's access token (scope `api`) in `GITLAB_TOKEN`; the job's own token is tried where
there is no other, and GitLab refuses it today.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpucost.ci.comments import Comment, Marker, keep_one
from gpucost.ci.contract import Attachment, ForgeError, Options, Silent, Step
from gpucost.ci.http import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_PAGES = 100
_NUMBER = re.compile(r"[1-9][0-9]{0,11}")
_NOT_ALLOWED = {401, 403, 404}
_TOKEN_HINT = (
    "GITLAB_TOKEN must hold an access token of the project with the scope api; the job's own may not write notes"  # noqa: S105
)
_QUICK_ACTION = re.compile(r"^(\s*)/", re.MULTILINE)


class GitLab(Silent):
    """The forge of GitLab CI; see `gpucost.ci.contract.Forge`."""

    def number(self, environ: Mapping[str, str]) -> str | None:
        """The merge request that this job is about."""
        number = environ.get("CI_MERGE_REQUEST_IID", "")
        return number if _NUMBER.fullmatch(number) else None

    def attach(
        self,
        attachment: Attachment,
        options: Options,
        environ: Mapping[str, str],
        say: Callable[[str], None],  # noqa: ARG002 (GitLab's pages take files, no commands)
    ) -> list[Step]:
        """Attach the report to the merge request."""
        if options.comment == "never":
            return [Step("comment", done=False, text="no note: not wanted")]
        number = self.number(environ)
        if number is None:
            return [Step("comment", done=False, text="no note: this job is about no merge request")]
        try:
            marker = Marker(options.key or _key(environ), _order(environ))
            thread = _thread(number, environ)
            link = options.link or environ.get("CI_JOB_URL")
            return [keep_one(thread, marker, attachment, options, link=link, guard=without_actions)]
        except ForgeError as error:
            hint = error.hint or (_TOKEN_HINT if error.status in _NOT_ALLOWED else "")
            return [Step("comment", done=False, text=f"no note: {error}" + (f" ({hint})" if hint else ""))]


def without_actions(body: str) -> str:
    """The text with no line that GitLab would take for a quick action such as `/merge`."""
    return _QUICK_ACTION.sub("\\1\u200b/", body)


@dataclass(frozen=True, slots=True)
class _MergeRequest:
    """The notes of one merge request that this token's owner wrote."""

    client: Client
    path: str
    author: int

    def list(self) -> list[Comment]:
        notes = self.client.pages(f"{self.path}?sort=asc&order_by=created_at", limit=MAX_PAGES)
        return [_comment_of(note) for note in notes if isinstance(note, dict) and self._is_ours(note)]

    def create(self, body: str) -> Comment:
        return _comment_of(self.client.call("POST", self.path, {"body": body}).body)

    def update(self, comment: Comment, body: str) -> Comment:
        return _comment_of(self.client.call("PUT", f"{self.path}/{comment.id}", {"body": body}).body)

    def delete(self, comment: Comment) -> None:
        self.client.call("DELETE", f"{self.path}/{comment.id}")

    def _is_ours(self, note: dict[str, Any]) -> bool:
        author = note.get("author")
        return not note.get("system") and isinstance(author, dict) and author.get("id") == self.author


def _thread(number: str, environ: Mapping[str, str]) -> _MergeRequest:
    project = environ.get("CI_MERGE_REQUEST_PROJECT_ID") or environ.get("CI_PROJECT_ID", "")
    if not _NUMBER.fullmatch(project):
        raise ForgeError("CI_PROJECT_ID is not a number")
    own, job = environ.get("GITLAB_TOKEN", "").strip(), environ.get("CI_JOB_TOKEN", "").strip()
    if not own and not job:
        raise ForgeError("there is no token", hint=_TOKEN_HINT)
    header = {"PRIVATE-TOKEN": own} if own else {"JOB-TOKEN": job}
    client = Client(environ.get("CI_API_V4_URL") or "https://gitlab.com/api/v4", header)
    author = _own_id(client) if own else _started_by(environ)
    return _MergeRequest(client, f"/projects/{project}/merge_requests/{number}/notes", author)


def _own_id(client: Client) -> int:
    body = client.call("GET", "/user").body
    if not isinstance(body, dict) or not isinstance(body.get("id"), int):
        raise ForgeError("the answer is not a user: is this GitLab's interface?")
    return int(body["id"])


def _started_by(environ: Mapping[str, str]) -> int:
    """The user in whose name the job's own token acts."""
    user = environ.get("GITLAB_USER_ID", "")
    if not _NUMBER.fullmatch(user):
        raise ForgeError("GITLAB_USER_ID is not a number", hint=_TOKEN_HINT)
    return int(user)


def _comment_of(note: Any) -> Comment:
    if not isinstance(note, dict) or not isinstance(note.get("id"), int):
        raise ForgeError("the answer is not a note: is this GitLab's interface?")
    return Comment(note["id"], str(note.get("body") or ""))


def _key(environ: Mapping[str, str]) -> str:
    return environ.get("CI_JOB_NAME") or "gpucost"


def _order(environ: Mapping[str, str]) -> tuple[int, ...]:
    values = (environ.get("CI_PIPELINE_ID", ""), environ.get("CI_JOB_ID", ""))
    return tuple(int(value) for value in values if _NUMBER.fullmatch(value))
