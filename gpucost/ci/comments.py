"""One comment that is kept up to date, on any forge that can list, make, change and remove comments.

The comment is found by its first line, a marker that no reader sees: `<!-- gpucost:KEY run=123.1 -->`. The key tells jobs apart; the run is
the one that wrote it, so that a job that took longer does not overwrite a newer one. Nobody but the forge decides who is first, so whoever
made a comment looks again afterwards: of several with one key the oldest stays, and the others go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from gpucost.ci.contract import Attachment, ForgeError, Options, Step, wants_comment
from gpucost.render.pull_request import COMMENT_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable

_KEY_CHARS = 60
_TOO_LONG = {400, 413, 422}
_GONE = {404, 410}
_MIN_CHARS = 4_000


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment of ours.

    Attributes:
        id: the forge's number for it; a smaller one is older.
        body: its text.
        link: where it can be looked at.
    """

    id: int
    body: str
    link: str | None = None


class Thread(Protocol):
    """The comments of one pull request that the token's owner wrote."""

    def list(self) -> list[Comment]:
        """All of them."""
        ...

    def create(self, body: str) -> Comment:
        """Write a new one."""
        ...

    def update(self, comment: Comment, body: str) -> Comment:
        """Change one."""
        ...

    def delete(self, comment: Comment) -> None:
        """Remove one."""
        ...


@dataclass(frozen=True, slots=True)
class Marker:
    """The hidden first line of a comment.

    Attributes:
        key: as the user gave it, or the forge's name of the job.
        order: of the run that writes, for example (123, 1): a higher one is newer.
    """

    key: str
    order: tuple[int, ...] = ()

    @property
    def start(self) -> str:
        """By which a comment with this key is found."""
        return f"<!-- gpucost:{safe_key(self.key)} "

    @property
    def line(self) -> str:
        """The whole line."""
        return f"{self.start}run={'.'.join(map(str, self.order)) or 0} -->"

    def found_in(self, body: str) -> bool:
        """Whether a comment has this key."""
        return body.startswith(self.start)

    def newer_in(self, body: str) -> bool:
        """Whether a comment with this key was written by a newer run."""
        found = re.match(r"run=([0-9.]{1,60}) -->", body[len(self.start) :])
        if not found:
            return False
        theirs = tuple(int(part) for part in found.group(1).split(".") if part)
        return theirs > self.order


def safe_key(key: str) -> str:
    """The key in characters that can stand in a marker; keys that differ stay different."""
    safe = re.sub(r"[^A-Za-z0-9._/]+", "-", key).strip("-")
    safe = re.sub(r"-{2,}", "-", safe)[:_KEY_CHARS].strip("-")
    return safe if safe == key else f"{safe or 'key'}.{sha256(key.encode(errors='replace')).hexdigest()[:8]}"


def keep_one(
    thread: Thread,
    marker: Marker,
    attachment: Attachment,
    options: Options,
    *,
    link: str | None,
    guard: Callable[[str], str] = str,
) -> Step:
    """Write the comment, or bring the one that is there up to date.

    Args:
        thread: the comments of the pull request.
        marker: by which the comment is found.
        attachment: the report.
        options: when to comment.
        link: of the full report.
        guard: makes a text harmless on this forge.

    Raises:
        ForgeError: the forge said no.
    """
    ours = _ours(thread, marker)
    if not wants_comment(attachment, options, there=bool(ours)):
        return Step("comment", done=False, text=f"no comment: nothing to say under --comment {options.comment}")
    newer = [comment for comment in ours if marker.newer_in(comment.body)]
    if newer:
        return Step("comment", done=False, text="a newer run has commented already", link=newer[0].link)
    writer = _Writer(thread, marker, attachment, link, guard)
    if ours:
        return _reconciled(thread, ours, writer, "updated")
    made = writer.write(thread.create)
    return _after_creation(thread, marker, made, writer)


@dataclass(frozen=True, slots=True)
class _Writer:
    thread: Thread
    marker: Marker
    attachment: Attachment
    link: str | None
    guard: Callable[[str], str]

    def write(self, send: Callable[[str], Comment]) -> Comment:
        """Send the text, shorter when the forge finds it too long."""
        chars = COMMENT_CHARS
        while True:
            body = self.attachment.markdown(marker=self.marker.line, link=self.link, max_chars=chars)
            try:
                return send(self.guard(body))
            except ForgeError as error:
                chars //= 2
                if error.status not in _TOO_LONG or "too long" not in str(error).lower() or chars < _MIN_CHARS:
                    raise


def _ours(thread: Thread, marker: Marker) -> list[Comment]:
    return sorted(
        (comment for comment in thread.list() if marker.found_in(comment.body)), key=lambda comment: comment.id
    )


def _after_creation(thread: Thread, marker: Marker, made: Comment, writer: _Writer) -> Step:
    """Look again: another job may have made one in the meantime."""
    try:
        ours = _ours(thread, marker)
    except ForgeError:
        ours = []
    if len(ours) < 2:  # noqa: PLR2004 (one is as it should be)
        return Step("comment", done=True, text="comment created", link=made.link)
    return _reconciled(thread, ours, writer, "created")


def _reconciled(thread: Thread, ours: list[Comment], writer: _Writer, verb: str) -> Step:
    """The oldest that is still there gets the text, the others go."""
    kept, rest = _first_updated(thread, ours, writer), ours
    if kept is None:
        made = writer.write(thread.create)
        return Step("comment", done=True, text="comment created, since the one before was removed", link=made.link)
    removed = 0
    for comment in rest:
        if comment.id > kept.id:
            removed += _removed(thread, comment)
    extra = f", {removed} more with the same key removed" if removed else ""
    return Step("comment", done=True, text=f"comment {verb}{extra}", link=kept.link)


def _first_updated(thread: Thread, ours: list[Comment], writer: _Writer) -> Comment | None:
    for comment in ours:
        try:
            return writer.write(lambda body, comment=comment: thread.update(comment, body))  # type: ignore[misc]
        except ForgeError as error:
            if error.status not in _GONE:
                raise
    return None


def _removed(thread: Thread, comment: Comment) -> bool:
    """Remove a comment; False where another job was quicker, or where that is not allowed."""
    try:
        thread.delete(comment)
    except ForgeError:
        return False
    return True
