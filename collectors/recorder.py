"""What recording costs: the recorder measures itself, one row for each collector and one, named "recorder", for the whole process."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from gpucost.collectors._proc import Proc, page_bytes
from gpucost.collectors.base import Context, Tier
from gpucost.schema import RecorderRow

_HZ = 1.0
_WHOLE = "recorder"
_GIVEN = tuple(name for name in RecorderRow._fields if name not in ("time_ns", "mono_ns", "collector"))


class RecorderCollector:
    """Rows of `recorder`, from what the recorder's other parts publish in the context's `status`."""

    name = "recorder"

    def __init__(self, proc: Proc | None = None) -> None:
        self._proc = proc or Proc()
        self._context: Context | None = None

    def start(self, context: Context) -> Sequence[Tier]:
        """Nothing is opened."""
        self._context = context
        return [Tier("self", round(1e9 / min(_HZ, context.hz)))]

    def sample(self, tier: str) -> None:  # noqa: ARG002 (there is one)
        """Take down what every collector has cost and missed so far."""
        context = self._context
        if context is None:
            return
        time_ns, mono_ns = context.clock.time_ns(), context.clock.mono_ns()
        parts: dict[str, Mapping[str, Any]] = {_WHOLE: {}, **context.status}
        for name, given in parts.items():
            fields = {key: given[key] for key in _GIVEN if key in given}
            if name == _WHOLE:
                fields.update(self._self())
            context.emit("recorder", RecorderRow(time_ns, mono_ns, name, **fields))

    def stop(self) -> None:
        """Nothing is open."""
        self._context = None

    def _self(self) -> dict[str, Any]:
        """CPU seconds of all threads of this process so far, and its memory."""
        words = (self._proc.read("self/statm") or b"").split()
        return {"cpu_s": time.process_time(), "rss_bytes": int(words[1]) * page_bytes() if len(words) > 1 else None}
