"""A small client for a forge's REST interface: JSON, bounded in every way, and the token goes to one host only."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from gpucost.ci.contract import ForgeError
from gpucost.render.safe import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from email.message import Message

TIMEOUT_S = 20.0
MAX_ANSWER_BYTES = 32 << 20
MAX_TRIES = 5
MAX_WAIT_S = 60.0
"""In all, of one call: a forge that asks for more patience than that is left alone."""
MAX_REDIRECTS = 3
FIRST_PAUSE_S = 1.0

_REDIRECTS = {301, 302, 303, 307, 308}
_PASSING = {429, 500, 502, 503, 504}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A forge's answer: the JSON of its body (None when empty) and its headers, their names in lower case."""

    status: int
    body: Any
    headers: Mapping[str, str]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves redirects to the client, which knows where the token may go."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002 (urllib's signature)
        fp: IO[bytes],  # noqa: ARG002
        code: int,  # noqa: ARG002
        msg: str,  # noqa: ARG002
        headers: Message,  # noqa: ARG002
        newurl: str,  # noqa: ARG002
    ) -> None:
        """Follow nothing."""
        return


class Client:
    """Calls one forge.

    Args:
        base: the address of its interface, https (plain http only on this machine itself).
        headers: sent with every call; among them the token.
        sleep: waits for some seconds.
        wall: seconds since the epoch, for a forge that says when its limit ends.

    Raises:
        ForgeError: the address or a header cannot be used.
    """

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        *,
        sleep: Callable[[float], None] = time.sleep,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._base = _checked_base(base)
        for value in headers.values():
            if not value.isascii() or not value.isprintable():
                raise ForgeError("the token holds characters that no token has; it was not used")
        self._headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "gpucost",
            **headers,
        }
        self._sleep = sleep
        self._wall = wall
        self._opener = urllib.request.build_opener(_NoRedirect)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Call `path` below the base and return the answer.

        Passing failures (no connection, 5xx, rate limits) are tried again with doubled pauses, and as long as the forge asks, within
        `MAX_TRIES` and `MAX_WAIT_S`.

        Raises:
            ForgeError: the forge said no, or nothing.
        """
        waited, pause = 0.0, FIRST_PAUSE_S
        for attempt in range(1, MAX_TRIES + 1):
            try:
                answer = self._once(method, self._base + path, body)
                failure = None if answer.status < 300 else _refusal(method, path, answer)  # noqa: PLR2004 (HTTP's success)
            except (OSError, HTTPException) as error:
                answer, failure = None, ForgeError(f"{method} {path}: {_reason(error)}")
            if failure is None and answer is not None:
                return answer
            wait = pause if answer is None else self._wait(answer, pause)
            if wait is None or attempt == MAX_TRIES or waited + wait > MAX_WAIT_S:
                break
            self._sleep(wait)
            waited, pause = waited + wait, pause * 2
        raise failure or ForgeError(f"{method} {path}: no answer")

    def pages(self, path: str, *, limit: int, page_size: int = 100) -> list[Any]:
        """The items of a list that comes in pages, at most `limit` pages of it.

        Raises:
            ForgeError: the forge said no, or the list is not one.
        """
        items: list[Any] = []
        joint = "&" if "?" in path else "?"
        for page in range(1, limit + 1):
            body = self.call("GET", f"{path}{joint}per_page={page_size}&page={page}").body
            if not isinstance(body, list):
                raise ForgeError(f"GET {path}: the answer is not a list")
            items += body
            if len(body) < page_size:
                break
        return items

    def _once(self, method: str, url: str, body: Mapping[str, Any] | None) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._send(method, url, data)
            target = answer.headers.get("location")
            if answer.status not in _REDIRECTS or not target:
                return answer
            url = urljoin(url, target)
            if _origin(url) != _origin(self._base):
                raise ForgeError(
                    f"{method}: redirected to another host, {plain(urlsplit(url).netloc, 80)}; the token does not go there",
                    status=answer.status,
                )
            if answer.status not in (307, 308) and method != "GET":
                return answer
        raise ForgeError(f"{method}: redirected more than {MAX_REDIRECTS} times")

    def _send(self, method: str, url: str, data: bytes | None) -> Answer:
        request = urllib.request.Request(url, data=data, method=method, headers=self._headers)  # noqa: S310 (the scheme is checked)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                return _answer(response.status, response.headers, response.read(MAX_ANSWER_BYTES + 1))
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.headers, error.read(MAX_ANSWER_BYTES + 1))

    def _wait(self, answer: Answer, pause: float) -> float | None:
        """Seconds before the next try, None when there is no use in one."""
        headers = answer.headers
        asked = _number(headers.get("retry-after"))
        if asked is None and headers.get("x-ratelimit-remaining", headers.get("ratelimit-remaining")) == "0":
            reset = _number(headers.get("x-ratelimit-reset", headers.get("ratelimit-reset")))
            asked = None if reset is None else max(0.0, reset - self._wall())
        if answer.status in _PASSING:
            return pause if asked is None else asked
        limited = answer.status == 403 and (asked is not None or "rate limit" in _message(answer).lower())  # noqa: PLR2004
        return (pause if asked is None else asked) if limited else None


def _checked_base(base: str) -> str:
    parts = urlsplit(base)
    plain_http = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not (parts.scheme == "https" or plain_http) or not parts.hostname or parts.username or parts.query:
        raise ForgeError(f"the forge's address {plain(base, 80)!r} is not an https address; the token was not sent")
    if not base.isascii() or not base.isprintable() or " " in base:
        raise ForgeError("the forge's address is not an address; the token was not sent")
    return base.rstrip("/")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _answer(status: int, headers: Message, raw: bytes) -> Answer:
    if len(raw) > MAX_ANSWER_BYTES:
        raise ForgeError(f"the answer is longer than {MAX_ANSWER_BYTES >> 20} MiB", status=status)
    named = {name.lower(): value for name, value in headers.items()}
    try:
        body = json.loads(raw) if raw.strip() else None
    except (ValueError, RecursionError):
        if status < 300:  # noqa: PLR2004
            raise ForgeError("the answer is not JSON: is this the forge's interface?", status=status) from None
        body = None
    return Answer(status, body, named)


def _refusal(method: str, path: str, answer: Answer) -> ForgeError:
    return ForgeError(f"{method} {path}: {answer.status} {_message(answer)}".rstrip(), status=answer.status)


def _message(answer: Answer) -> str:
    body = answer.body
    if not isinstance(body, dict):
        return ""
    errors = body.get("errors")
    details = [
        error.get("message") if isinstance(error, dict) else error
        for error in (errors if isinstance(errors, list) else [])
    ]
    parts = [body.get("message") or body.get("error"), *details]
    return plain("; ".join(str(part) for part in parts if part), 200)


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return plain(str(reason) or type(error).__name__, 200)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e12 else None  # noqa: PLR2004 (neither nan nor endless)
