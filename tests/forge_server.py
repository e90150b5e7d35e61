"""A server on this machine that speaks the GitHub and GitLab calls that gpucost makes, with answers shaped as theirs are."""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MAX_CHARS = 65_536
SHA = "0123456789abcdef0123456789abcdef01234567"
NOT_ACCESSIBLE = {"message": "Resource not accessible by integration", "status": "403"}
SECONDARY = {"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}
TOO_LONG = {
    "message": "Validation Failed",
    "errors": [
        {
            "resource": "IssueComment",
            "code": "unprocessable",
            "field": "data",
            "message": "Body is too long (maximum is 65536 characters)",
        }
    ],
    "status": "422",
}


@dataclass
class Failure:
    """An answer other than the usual one, to the next calls of a method and path: `times` of them."""

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    method: str | None = None
    path: str = ""
    times: int = 1
    raw: bytes | None = None


@dataclass
class Call:
    """A call as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict | None


class Forge:
    """What the server knows: comments, pull requests, the calls it got, and how it shall fail."""

    def __init__(self) -> None:
        self.comments: list[dict] = []
        self.calls: list[Call] = []
        self.failures: list[Failure] = []
        self.pulls: dict[int, dict] = {}
        self.logins: dict[str, dict] = {}  # token to user; a token that is not here is an app's, and may not ask
        self.max_chars = MAX_CHARS
        self.lock = threading.Lock()
        self.together: threading.Barrier | None = None
        self.next_id = 1001
        self.url = ""

    def add(self, body: str, *, login: str = "github-actions[bot]", kind: str = "Bot", **more) -> dict:
        with self.lock:
            comment = self._comment(body, {"login": login, "type": kind, "id": 41898282}) | more
            self.comments.append(comment)
            return comment

    def bodies(self) -> list[str]:
        return [comment["body"] for comment in self.comments]

    def made(self, method: str) -> list[Call]:
        return [call for call in self.calls if call.method == method]

    def fail(self, status: int, body: object = None, **more) -> None:
        self.failures.append(Failure(status, body, **more))

    def failure_for(self, method: str, path: str) -> Failure | None:
        with self.lock:
            for failure in self.failures:
                if failure.times > 0 and failure.method in (None, method) and failure.path in path:
                    failure.times -= 1
                    return failure
        return None

    def answer(self, call: Call) -> tuple[int, object, dict[str, str]]:
        parts = urlsplit(call.path)
        for pattern, method in _ROUTES:
            found = re.fullmatch(pattern, parts.path)
            if found:
                return method(self, call, parse_qs(parts.query), *found.groups())
        return 404, {"message": "Not Found", "status": "404"}, {}

    def user(self, call: Call, query: dict) -> tuple:
        user = self.logins.get(_token(call))
        return (200, user, {}) if user else (403, NOT_ACCESSIBLE, {})

    def pull(self, call: Call, query: dict, number: str) -> tuple:
        found = self.pulls.get(int(number))
        return (200, found, {}) if found else (404, {"message": "Not Found"}, {})

    def collection(self, call: Call, query: dict, *_: str) -> tuple:
        if call.method == "POST":
            refused = self._refused(call)
            if refused:
                return refused
            author = self.logins.get(_token(call)) or {"login": "github-actions[bot]", "type": "Bot", "id": 41898282}
            with self.lock:
                comment = self._comment(call.body["body"], author)
                self.comments.append(comment)
            return 201, comment, {}
        barrier = self.together
        if barrier is not None:
            try:
                barrier.wait(30)
            except threading.BrokenBarrierError:
                pass
        size, page = int(query["per_page"][0]), int(query["page"][0])
        return 200, self.comments[(page - 1) * size : page * size], {}

    def single(self, call: Call, query: dict, identity: str) -> tuple:
        with self.lock:
            found = [comment for comment in self.comments if comment["id"] == int(identity)]
            if not found:
                return 404, {"message": "Not Found", "status": "404"}, {}
            if call.method == "DELETE":
                self.comments.remove(found[0])
                return 204, None, {}
        refused = self._refused(call)
        if refused:
            return refused
        found[0]["body"] = call.body["body"]
        return 200, found[0], {}

    def _refused(self, call: Call) -> tuple | None:
        return (422, TOO_LONG, {}) if len(call.body["body"]) > self.max_chars else None

    def _comment(self, body: str, user: dict) -> dict:
        identity, self.next_id = self.next_id, self.next_id + 1
        return {
            "id": identity,
            "body": body,
            "user": user,
            "author": user,
            "system": False,
            "html_url": f"https://forge.example/o/r/pull/7#issuecomment-{identity}",
        }


_ROUTES: list[tuple[str, Callable]] = [
    (r"(?:/api/v4)?/user", Forge.user),
    (r"/repos/o/r/pulls/(\d+)", Forge.pull),
    (r"/repos/o/r/issues/(\d+)/comments", Forge.collection),
    (r"/repos/o/r/issues/comments/(\d+)", Forge.single),
    (r"/api/v4/projects/(\d+)/merge_requests/(\d+)/notes", Forge.collection),
    (r"/api/v4/projects/\d+/merge_requests/\d+/notes/(\d+)", Forge.single),
]


def _token(call: Call) -> str:
    return call.headers.get("private-token") or call.headers.get("authorization", "").removeprefix("Bearer ")


def meet_once(forge: Forge, parties: int) -> None:
    """The first lists of this many callers are held back until all of them have asked; later ones are not."""

    def opened() -> None:
        forge.together = None

    forge.together = threading.Barrier(parties, action=opened)


class Server:
    """The server, from `with` to its end."""

    def __init__(self) -> None:
        self.forge = Forge()
        forge = self.forge

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_call(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                call = Call(self.command, self.path, headers, json.loads(raw) if raw else None)
                forge.calls.append(call)
                failure = forge.failure_for(call.method, call.path)
                if failure is None:
                    status, body, extra = forge.answer(call)
                    self.reply(status, b"" if body is None else json.dumps(body).encode(), extra)
                elif failure.status == 0:  # hang up
                    self.close_connection = True
                else:
                    body = failure.raw if failure.raw is not None else json.dumps(failure.body).encode()
                    self.reply(failure.status, body, failure.headers)

            def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_call  # noqa: N815 (the names are the library's)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        forge.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Forge:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self.forge

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def now() -> int:
    """Seconds since the epoch, as a forge states when its limit ends."""
    return int(time.time())
