"""What a benchmark tells whoever is waiting: what it does now, and how much of the measuring is done. Counted in seconds of measuring that were planned."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Takes what happens; called from several threads at once, never raises."""

    def planned(self, device: str, seconds: float) -> None:
        """So much measuring lies ahead of a device; a later call replaces it, less what is done."""
        ...

    def begin(self, device: str, label: str, seconds: float) -> None:
        """A device measures for so long, at most."""
        ...

    def end(self, device: str, seconds: float) -> None:
        """It has ended, and its planned share was this: what was saved or skipped counts as done."""
        ...

    def say(self, line: str) -> None:
        """Something that a person should know now."""
        ...


class Silent:
    """Tells nobody."""

    def planned(self, device: str, seconds: float) -> None:
        """Nothing."""

    def begin(self, device: str, label: str, seconds: float) -> None:
        """Nothing."""

    def end(self, device: str, seconds: float) -> None:
        """Nothing."""

    def say(self, line: str) -> None:
        """Nothing."""


@dataclass(slots=True)
class State:
    """One device's part of the bar."""

    total_s: float = 0.0
    done_s: float = 0.0
    label: str = ""
    current_s: float = 0.0
    began_s: float = 0.0


class Ledger:
    """Keeps the figures of a bar; what draws it asks for `fraction` and `label`.

    Within a test the bar follows the clock up to the test's planned time, and waits there while operands are made and results are checked: it never
    claims measuring that has not happened, and never runs backwards.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, State] = {}

    def planned(self, device: str, seconds: float) -> None:
        """So much lies ahead of a device."""
        with self._lock:
            state = self._states.setdefault(device, State())
            state.total_s = state.done_s + seconds

    def begin(self, device: str, label: str, seconds: float, now_s: float) -> None:
        """A device measures."""
        with self._lock:
            state = self._states.setdefault(device, State())
            state.label, state.current_s, state.began_s = label, seconds, now_s

    def end(self, device: str, seconds: float) -> None:
        """It has ended; `seconds` of the plan are done."""
        with self._lock:
            state = self._states.setdefault(device, State())
            state.done_s += seconds
            state.current_s = 0.0

    def done(self, now_s: float) -> tuple[float, float, str]:
        """Seconds of the plan that are done, all seconds of it, and what is going on."""
        with self._lock:
            done = total = 0.0
            labels = []
            for device, state in self._states.items():
                running = min(max(0.0, now_s - state.began_s), state.current_s)
                done += state.done_s + running
                total += max(state.total_s, state.done_s + running)
                if state.current_s:
                    labels.append(f"{device}: {state.label}" if len(self._states) > 1 else state.label)
            return done, total, "; ".join(labels)
