"""The progress bar of `gpucost bench`."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING

from gpucost.bench.progress import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpucost.bench.progress import Progress

_REFRESH_S = 0.5  # drawing takes a core for a moment, and a core may be what is measured


class Lines:
    """For logs and pipes: says what a person must know, and draws nothing."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def planned(self, device: str, seconds: float) -> None:
        """So much lies ahead of a device."""
        self.ledger.planned(device, seconds)

    def begin(self, device: str, label: str, seconds: float) -> None:
        """A device measures."""
        self.ledger.begin(device, label, seconds, time.monotonic())

    def end(self, device: str, seconds: float) -> None:
        """It has ended."""
        self.ledger.end(device, seconds)

    def say(self, line: str) -> None:
        """A line for a person."""
        from gpucost.render.safe import plain

        print(f"gpucost: {plain(line, 300)}", file=sys.stderr)


@contextlib.contextmanager
def shown() -> Iterator[Progress]:
    """Progress on stderr while it is open: a bar on a terminal, else only what a person must know."""
    lines = Lines()
    if not sys.stderr.isatty():
        yield lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True, markup=False), auto_refresh=False, transient=True)
    stop = threading.Event()
    with bar:
        task = bar.add_task("starting", total=None)

        def draw() -> None:
            while not stop.wait(_REFRESH_S):
                done, total, label = lines.ledger.done(time.monotonic())
                bar.update(task, completed=done, total=total or None, description=label or "preparing")
                bar.refresh()

        thread = threading.Thread(target=draw, daemon=True)
        thread.start()
        try:
            yield lines
        finally:
            stop.set()
            thread.join()
