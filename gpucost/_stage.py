"""`gpucost.stage`: named spans of time in a recorded program.

Inside a recording a span is two lines appended to `$GPUCOST_STAGE_FILE`, each with one `write` (the format is in docs/architecture.md).
Outside of one nothing happens. This module is imported into other people's programs: it imports next to nothing, and none of its own
failures (a full disk, a file that is gone, a descriptor that the program closed) may reach them.

Whether the program is being recorded is settled when it starts; a forked child is recorded like its parent.
"""

from __future__ import annotations

import os
import stat
import time
from _thread import RLock, get_ident
from contextvars import ContextVar
from itertools import count

try:
    from _json import (
        encode_basestring_ascii as _quote,
    )  # the json package would cost more than all the rest of this module
except ImportError:
    from json.encoder import py_encode_basestring_ascii as _quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any, Self, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

_LINE_LIMIT = 4000  # a mark is one write of under 4 KiB
_ID_LIMIT = 128
_NAME_LIMIT = 200
_NAMELESS = "(unnamed)"
_KEY_LIMIT = 64
_TEXT_LIMIT = 256
_ATTRIBUTES_LIMIT = 32
_QUOTED_LIMIT = 1024
_QUOTED_PER_CHARACTER = 12  # two escapes of six
_INT_LIMIT = 1 << 63

# The C library never frees a value that was put into the environment (about 80 bytes each), so a program with endless stages stops
# publishing them there: its children then nest under the stage that the program itself was started in.
_PUBLISHED_LIMIT = 100_000

_FILE_VARIABLE = "GPUCOST_STAGE_FILE"
_ID_VARIABLE = "GPUCOST_STAGE_ID"


class stage:  # noqa: N801 (it reads like a statement: `with stage("plan"):`)
    """A named span of the program: a context manager, and a decorator for functions of every kind.

        with gpucost.stage("plan", model="large") as span:
            span.set(tokens=812)

        @gpucost.stage("tool:search")
        async def search(query): ...

    Spans nest by context: within a thread or an asyncio task under the span around them, in a thread that has none under the one that is
    open in the main thread, and in a child process under the one that was open when it was started. An exception passes through and leaves
    its type's name in the attribute `error`. A decorated generator is open from its first step to its end, also while it is suspended.

    Attribute values are strings, numbers, booleans or None; anything else is stored as its `repr`, and what is long is cut.

    Args:
        name: what the span is called, such as `plan`, `train/epoch` or `tool:search`; every call of a decorated function is a span.
        attributes: facts known at the start.
    """

    __slots__ = ("_attributes", "_name", "_spans")

    def __init__(self, name: str, /, **attributes: object) -> None:
        if name.__class__ is not str:
            name = _as_name(name)
        self._name = name
        self._attributes = attributes
        self._spans: list[_Span] | None = None

    def __enter__(self) -> Self:
        if _process is not None:
            _enter(self, _process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if _process is not None:
            _exit(self, _process, error)

    def __call__(self, function: F, /) -> F:
        """Make every call of `function` a span. Coroutines, generators and async generators are open while they run."""
        if isinstance(function, type) or not callable(function):
            raise TypeError(f"stage({self._name!r}) decorates functions and methods, not {function!r}")
        if _process is None:
            return function
        from gpucost import _stage_calls

        recorded: F = _stage_calls.decorated(function, self._name, self._attributes)
        return recorded

    def set(self, /, **attributes: object) -> None:
        """Add facts to the open span (written when it ends), or to the spans to come when it is not open. A later value wins."""
        if _process is None:
            return
        span = _open_span(self)
        if span is None:
            self._attributes = {**self._attributes, **attributes}
        elif span.attributes is None:
            span.attributes = attributes
        else:
            span.attributes.update(attributes)

    @property
    def id(self) -> str | None:
        """The open span's id, to hand to a child process as `GPUCOST_STAGE_ID`; None while it is not open, and outside a recording."""
        span = None if _process is None else _open_span(self)
        return None if span is None else span.id


class _Span:
    """One open span, linked to the one around it in its context."""

    __slots__ = ("above", "attributes", "closed", "id", "owner", "pid")

    def __init__(self, span_id: str, above: _Span | None, owner: stage | None, pid: int) -> None:
        self.id = span_id
        self.above = above
        self.owner = owner
        self.pid = pid
        self.attributes: dict[str, object] | None = None
        self.closed = False


current: ContextVar[_Span | None] = ContextVar("gpucost_stage", default=None)


class _Process:
    """What one recorded process writes with. A forked child gets its own, over the same open file."""

    def __init__(self, path: str, inherited: str | None, file: _MarkFile) -> None:
        self.path = path
        self.file = file
        self.inherited = inherited
        self.pid = os.getpid()
        self.main_thread = get_ident()
        self.prefix = os.urandom(6).hex()
        self.numbers = count(1)
        self.open: dict[str, None] = {}  # ordered: the last is the innermost, as far as one can say
        self.open_in_main: dict[str, None] = {}
        self.unpublished = _PUBLISHED_LIMIT
        self.lock = RLock()  # a signal handler may open a stage while its thread is in here

    def parent_of_thread(self) -> str | None:
        """Under what a span nests that has none around it in its own context: in another thread, under the main thread's."""
        if get_ident() == self.main_thread:
            return self.inherited
        return next(reversed(self.open_in_main), self.inherited)

    def opened(self, span_id: str) -> None:
        with self.lock:
            self.open[span_id] = None
            if get_ident() == self.main_thread:
                self.open_in_main[span_id] = None
            self.unpublished -= 1
            self._publish(span_id)

    def closed(self, span_id: str) -> None:
        with self.lock:
            self.open.pop(span_id, None)
            self.open_in_main.pop(span_id, None)
            self._publish(next(reversed(self.open), self.inherited))

    def _publish(self, span_id: str | None) -> None:
        """Let child processes nest under a span."""
        if self.unpublished < 0:
            if self.unpublished < -1:
                return
            span_id = self.inherited
        os.environ[_ID_VARIABLE] = span_id or ""


class _MarkFile:
    """The stage file, open for appending."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._identity: tuple[int, int] | None = None
        self._torn = False
        self._given_up = False

    def append(self, line: str) -> None:
        """Write one line. A mark that cannot be written is lost, and nothing else happens."""
        if self._given_up or not (self._is_ours() or self._open()):
            return
        data = line.encode("ascii")
        if self._torn:
            data = b"\n" + data
        try:
            self._torn = os.write(self._fd, data) != len(data)
        except OSError:
            pass  # no space, an I/O error: perhaps the next mark has more luck

    def _is_ours(self) -> bool:
        """Whether the descriptor is still the stage file's: the program may have closed it, and opened something of its own in its place."""
        if self._fd < 0:
            return False
        try:
            found = os.fstat(self._fd)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def _open(self) -> bool:
        # Only the first opening may create the file: later, its being gone means that the run is over.
        create = os.O_CREAT if self._identity is None else 0
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | create
        try:
            fd = os.open(self._path, flags, 0o600)
        except OSError:
            self._given_up = True
            return False
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            self._given_up = True
            return False
        self._fd, self._identity = fd, (found.st_dev, found.st_ino)
        return True


def _enter(owner: stage, process: _Process) -> None:
    try:
        span = _open(process, owner, owner._name, owner._attributes)  # noqa: SLF001 (one class in two halves)
        if owner._spans is None:  # noqa: SLF001
            owner._spans = []  # noqa: SLF001
        owner._spans.append(span)  # noqa: SLF001
    except Exception:  # noqa: BLE001, S110 (the program must not notice)
        pass


def _exit(owner: stage, process: _Process, error: BaseException | None) -> None:
    try:
        span = _open_span(owner)
        if span is not None:
            if owner._spans is not None:  # noqa: SLF001
                owner._spans.remove(span)  # noqa: SLF001
            _close(process, span, error)
    except Exception:  # noqa: BLE001, S110 (the program must not notice)
        pass


def _open_span(owner: stage) -> _Span | None:
    """The innermost open span of this object in this context; else (it was opened in another context) the last one anywhere."""
    span = current.get()
    while span is not None:
        if span.owner is owner and not span.closed:
            return span
        span = span.above
    return owner._spans[-1] if owner._spans else None  # noqa: SLF001


def _open(process: _Process, owner: stage | None, name: str, attributes: Mapping[str, object]) -> _Span:
    above = current.get()
    while above is not None and above.closed:
        above = above.above  # spans that were not closed in the order in which they were opened
    parent = process.parent_of_thread() if above is None else above.id
    span = _Span(f"{process.prefix}-{next(process.numbers):x}", above, owner, process.pid)
    head = (
        f'{{"event":"start","id":"{span.id}","name":{_text(name if name.strip() else _NAMELESS, _NAME_LIMIT)},'
        f'"parent":{_text(parent, _ID_LIMIT) if parent else "null"},"pid":{process.pid},{_now()},"source":"python"'
    )
    process.file.append(_line(head, attributes))
    current.set(span)
    process.opened(span.id)
    return span


def _close(process: _Process, span: _Span, error: BaseException | None) -> None:
    if span.closed:
        return
    span.closed = True
    if current.get() is span:
        current.set(span.above)
    if span.pid != process.pid:
        return  # a forked child leaves a block of its parent's; the span is the parent's to end
    attributes = span.attributes or {}
    if error is not None and _is_failure(error):
        attributes = {**attributes, "error": type(error).__name__}
    process.file.append(_line(f'{{"event":"end","id":"{span.id}",{_now()}', attributes))
    process.closed(span.id)


def _is_failure(error: BaseException) -> bool:
    """Closing a generator and leaving the program with success are no failures."""
    return not (isinstance(error, GeneratorExit) or (isinstance(error, SystemExit) and not error.code))


def _now(time_ns: Callable[[], int] = time.time_ns, mono_ns: Callable[[], int] = time.monotonic_ns) -> str:
    # The clocks are bound here and now, so that a test of the program's that freezes time does not freeze ours.
    return f'"time_ns":{time_ns()},"mono_ns":{mono_ns()}'


def _line(head: str, attributes: Mapping[str, object]) -> str:
    if not attributes:
        return head + "}\n"
    room = _LINE_LIMIT - len(head)
    parts: list[str] = []
    for key, value in attributes.items():
        part = f"{_text(key, _KEY_LIMIT)}:{_value(value)}"
        if len(part) < room and len(parts) < _ATTRIBUTES_LIMIT:
            parts.append(part)
            room -= len(part) + 1
    if len(parts) < len(attributes):
        parts.append(f'"attributes_dropped":{len(attributes) - len(parts)}')
    return f'{head},"attributes":{{{",".join(parts)}}}}}\n'


def _value(value: object) -> str:
    """An attribute as JSON."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, str):
        return _text(str.__str__(value), _TEXT_LIMIT)
    if isinstance(value, int) and -_INT_LIMIT <= value < _INT_LIMIT:
        return int.__repr__(value)
    if isinstance(value, float):
        text = float.__repr__(value)
        return text if text[-1].isdigit() else _quote(text)  # JSON has neither "inf" nor "nan"
    try:
        return _text(repr(value), _TEXT_LIMIT)
    except Exception:  # noqa: BLE001 (it is the program's own code, and it is none of its business that we call it)
        return _text(type(value).__name__, _TEXT_LIMIT)


def _text(text: str, limit: int) -> str:
    """A JSON string in ASCII, cut to `limit` characters and to what a mark has room for."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()  # lone surrogates could not be stored later
    quoted: str = _quote(text)
    if len(quoted) > _QUOTED_LIMIT:
        quoted = _quote(text[: _QUOTED_LIMIT // _QUOTED_PER_CHARACTER] + "…")
    return quoted


def _as_name(name: Any) -> str:
    if callable(name):
        raise TypeError('stage takes a name: @gpucost.stage("plan")')
    return str.__str__(name) if isinstance(name, str) else str(name)


def _start() -> _Process | None:
    path = os.environ.get(_FILE_VARIABLE)
    if not path:
        return None
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)
    inherited = os.environ.get(_ID_VARIABLE) or None
    if inherited is not None and len(inherited) > _ID_LIMIT:
        inherited = None
    return _Process(path, inherited, _MarkFile(path))


def _forked() -> None:
    """In a forked child: what it opens nests under what was open around the fork."""
    global _process  # noqa: PLW0603 (there is one process)
    if _process is not None:
        span = current.get()
        _process = _Process(_process.path, _process.inherited if span is None else span.id, _process.file)


_process = _start()
