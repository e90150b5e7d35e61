"""Stage marks: the lines that a recorded command appends to `$GPUCOST_STAGE_FILE`, folded into spans.

The same reader serves the recorder, which feeds it lines as they are written, and the store, which reads the file of a run that was not
closed. Lines are untrusted: a bad one is counted and passed over, and what is kept of the others is bounded.
"""

import json
import math
from collections import OrderedDict
from typing import Any, NamedTuple

from gpucost.recording import MAX_TIME_NS, Problem, ProblemLog
from gpucost.schema import StageRow

MAX_LINE_BYTES = 4096
MAX_ID_LENGTH = 128
MAX_NAME_LENGTH = 256
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTES_BYTES = 4096
MAX_OPEN_SPANS = 100_000
MAX_PENDING_ENDS = 10_000
MAX_KNOWN_IDS = 1 << 17

DEFAULT_SOURCE = "file"


class OpenSpan(NamedTuple):
    """A span that has started and not ended. Times as in `gpucost.schema.StageRow`."""

    stage_id: str
    name: str
    start_time_ns: int
    start_mono_ns: int
    parent_id: str | None
    pid: int | None
    attributes: str | None
    source: str

    def ended(self, end_time_ns: int, end_mono_ns: int, *, truncated: bool = False) -> StageRow:
        """The span as a row of the table `stage`; `truncated` says that it did not end by itself."""
        return StageRow(
            self.stage_id,
            self.name,
            self.start_time_ns,
            end_time_ns,
            self.start_mono_ns,
            end_mono_ns,
            self.parent_id,
            self.pid,
            self.attributes,
            self.source,
            truncated,
        )


class _Mark(NamedTuple):
    """One valid line."""

    event: str
    raw_id: str
    name: str
    time_ns: int
    mono_ns: int
    parent: str | None
    pid: int | None
    source: str
    attributes: dict[str, Any]
    timed: bool


class LineBuffer:
    """Cuts bytes into lines as they come, and never holds more than one line of a mark's length."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def push(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends. Of a line that is too long only so much comes that it shows."""
        lines: list[bytes] = []
        *whole, rest = (self._rest + data).split(b"\n")
        for line in whole:
            if not self._skipping:
                lines.append(line[: MAX_LINE_BYTES + 1])
            self._skipping = False
        if len(rest) > MAX_LINE_BYTES:
            if not self._skipping:
                lines.append(rest[: MAX_LINE_BYTES + 1])
            self._skipping = True
            rest = b""
        self._rest = b"" if self._skipping else rest
        return lines

    def rest(self) -> bytes:
        """What has come of a line that has no end yet."""
        return self._rest


class MarkReader:
    """Folds marks into spans.

    A start and its end may come in either order. An id whose span is over may be used again: the second span is called `id#2`, the
    third `id#3`, and children started under it belong to the one that is current.

    Problems: `bad_mark` (not an object of the right shape), `long_mark`, `unknown_event`, `nameless_stage`, `duplicate_start` (the id is
    open already), `unmatched_end` (no such span is open), `backward_span` (it ends before it starts: its length is taken as zero),
    `capped_stage` (a name or attributes cut to size), `too_many_stages`.

    Attributes:
        untimed: stage ids of starts that brought no time of their own, so that theirs is when they were read.
    """

    def __init__(self) -> None:
        self.untimed: set[str] = set()
        self._open: dict[str, tuple[OpenSpan, dict[str, Any]]] = {}
        self._pending: OrderedDict[str, _Mark] = OrderedDict()
        self._current: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._log = ProblemLog()

    @property
    def problems(self) -> list[Problem]:
        """What was wrong so far, and the ends whose starts have not come."""
        log = ProblemLog()
        log.extend(self._log.found())
        log.add("unmatched_end", "a stage mark ends a stage that is not open", len(self._pending))
        return log.found()

    def open_spans(self) -> list[OpenSpan]:
        """The spans that have started and not ended, in the order of their starts' lines."""
        return [span for span, _ in self._open.values()]

    def feed(self, line: bytes, now_time_ns: int, now_mono_ns: int) -> StageRow | None:
        """Take one line.

        Args:
            line: with or without its end; a blank line is nothing.
            now_time_ns: UTC now: the time of a mark that has none of its own.
            now_mono_ns: the same instant on the monotonic clock, for translating one into the other.

        Returns:
            The span that this line completes, if it completes one.
        """
        mark = self._parse(line, now_time_ns, now_mono_ns)
        if mark is None:
            return None
        if mark.event == "end":
            return self._end(mark)
        return self._start(mark)

    def truncate(self, stage_id: str, end_time_ns: int, end_mono_ns: int) -> StageRow | None:
        """Close an open span that will not end by itself; None if it is not open. It never ends before it starts."""
        for raw_id, (span, _) in self._open.items():
            if span.stage_id == stage_id:
                del self._open[raw_id]
                self.untimed.discard(stage_id)
                return span.ended(
                    max(end_time_ns, span.start_time_ns), max(end_mono_ns, span.start_mono_ns), truncated=True
                )
        return None

    def _start(self, mark: _Mark) -> StageRow | None:
        if mark.raw_id in self._open:
            self._log.add("duplicate_start", "a stage mark starts a stage that is open already")
            return None
        if len(self._open) >= MAX_OPEN_SPANS:
            self._log.add("too_many_stages", f"more than {MAX_OPEN_SPANS} stages are open at once")
            return None
        parent = None if mark.parent is None else self._current.get(mark.parent, (1, mark.parent))[1]
        stage_id = self._take_id(mark.raw_id)
        attributes = self._dump(mark.attributes)
        span = OpenSpan(stage_id, mark.name, mark.time_ns, mark.mono_ns, parent, mark.pid, attributes, mark.source)
        self._open[mark.raw_id] = (span, mark.attributes)
        if not mark.timed:
            self.untimed.add(stage_id)
        end = self._pending.pop(mark.raw_id, None)
        return None if end is None else self._end(end)

    def _end(self, mark: _Mark) -> StageRow | None:
        if mark.raw_id not in self._open:
            if mark.raw_id in self._current or mark.raw_id in self._pending:
                self._log.add("unmatched_end", "a stage mark ends a stage that is not open")
                return None
            self._pending[mark.raw_id] = mark
            if len(self._pending) > MAX_PENDING_ENDS:
                self._pending.popitem(last=False)
                self._log.add("unmatched_end", "a stage mark ends a stage that is not open")
            return None
        span, attributes = self._open.pop(mark.raw_id)
        self.untimed.discard(span.stage_id)
        if mark.attributes:
            span = span._replace(attributes=self._dump({**attributes, **mark.attributes}))
        if mark.mono_ns < span.start_mono_ns:
            self._log.add("backward_span", "a stage ends before it starts")
            return span.ended(span.start_time_ns, span.start_mono_ns)
        return span.ended(mark.time_ns, mark.mono_ns)

    def _take_id(self, raw_id: str) -> str:
        """The stage id of a new span, different from those before it."""
        count, stage_id = self._current.pop(raw_id, (0, ""))[0] + 1, raw_id
        while count > 1 and (stage_id := f"{raw_id}#{count}") in self._current:
            count += 1
        self._current[raw_id] = (count, stage_id)
        while len(self._current) > MAX_KNOWN_IDS:
            oldest = next(iter(self._current))
            if oldest in self._open:
                self._current.move_to_end(oldest)
            else:
                del self._current[oldest]
        return stage_id

    def _parse(self, line: bytes, now_time_ns: int, now_mono_ns: int) -> _Mark | None:
        value = self._load(line)
        if value is None:
            return None
        event, raw_id, name = value.get("event"), value.get("id"), value.get("name")
        if not isinstance(raw_id, str) or not 0 < len(raw_id) <= MAX_ID_LENGTH:
            self._log.add("bad_mark", "a stage mark has no id, or one that is not text")
        elif event not in ("start", "end"):
            self._log.add("unknown_event", f"a stage mark has the event {ascii(event)[:40]}; it is start or end")
        elif event == "start" and not (isinstance(name, str) and name.strip()):
            self._log.add("nameless_stage", "a stage mark starts a stage without a name")
        else:
            return self._mark(value, event, raw_id, name, self._when(value, now_time_ns, now_mono_ns))
        return None

    def _mark(self, value: dict[str, Any], event: str, raw_id: str, name: Any, when: tuple[int, int, bool]) -> _Mark:
        time_ns, mono_ns, timed = when
        source = self._optional(value, "source", str)
        return _Mark(
            event=event,
            raw_id=_text(raw_id),
            name=self._short(_text(name)) if isinstance(name, str) else "",
            time_ns=time_ns,
            mono_ns=mono_ns,
            parent=self._optional(value, "parent", str),
            pid=self._optional(value, "pid", int),
            source=DEFAULT_SOURCE if source is None else source,
            attributes=self._optional(value, "attributes", dict) or {},
            timed=timed,
        )

    def _load(self, line: bytes) -> dict[str, Any] | None:
        if len(line.rstrip(b"\r\n")) > MAX_LINE_BYTES:
            self._log.add("long_mark", f"a stage mark is longer than {MAX_LINE_BYTES} bytes")
            return None
        text = line.strip(b"\0 \t\r\n")
        if not text:
            return None
        try:
            value = json.loads(text.decode("utf-8"), parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            self._log.add("bad_mark", "a stage mark is not a JSON object")
            return None
        return value

    def _when(self, value: dict[str, Any], now_time_ns: int, now_mono_ns: int) -> tuple[int, int, bool]:
        time_ns, mono_ns = self._time(value, "time_ns"), self._time(value, "mono_ns")
        if mono_ns is None:
            if time_ns is None:
                return now_time_ns, now_mono_ns, False
            return time_ns, max(0, now_mono_ns + time_ns - now_time_ns), True
        if time_ns is None:
            return max(0, now_time_ns + mono_ns - now_mono_ns), mono_ns, True
        return time_ns, mono_ns, True

    def _time(self, value: dict[str, Any], key: str) -> int | None:
        found = value.get(key)
        if isinstance(found, float) and math.isfinite(found):
            found = int(found)  # some languages write every number as a float
        if found is None or (type(found) is int and 0 <= found < MAX_TIME_NS):
            return found
        self._log.add("bad_mark", f"a stage mark has a {key} that is no time in nanoseconds")
        return None

    def _optional(self, value: dict[str, Any], key: str, kind: type) -> Any:
        """A value that a mark may have, or None (and a problem) if it is of another kind or out of bounds."""
        found = value.get(key)
        if found is None:
            return None
        bounded = type(found) is kind
        if bounded and kind is str:
            bounded = 0 < len(found) <= MAX_ID_LENGTH
        elif bounded and kind is int:
            bounded = 0 < found < 1 << 31
        if not bounded:
            self._log.add("bad_mark", f"a stage mark has a wrong {key}")
            return None
        return _text(found) if kind is str else found

    def _short(self, name: str) -> str:
        if len(name) > MAX_NAME_LENGTH:
            self._log.add("capped_stage", f"a stage's name is longer than {MAX_NAME_LENGTH} characters")
        return name[:MAX_NAME_LENGTH]

    def _dump(self, attributes: dict[str, Any]) -> str | None:
        """Attributes as a JSON object of bounded size, the last ones left out first."""
        kept: dict[str, Any] = {}
        size = 2
        for key, value in attributes.items():
            try:
                size += len(json.dumps({key: value}))
            except (ValueError, RecursionError):
                size = MAX_ATTRIBUTES_BYTES + 1
            if size > MAX_ATTRIBUTES_BYTES or len(kept) >= MAX_ATTRIBUTES:
                self._log.add("capped_stage", "a stage has more attributes than are kept")
                break
            kept[key] = value
        return json.dumps(kept) if kept else None


def _text(value: str) -> str:
    """Text without halves of surrogate pairs, which JSON allows and no file or terminal does."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
