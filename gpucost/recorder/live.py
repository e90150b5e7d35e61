"""One status line on the terminal while the command runs (`--live`)."""

import os
from collections.abc import Callable
from typing import Any

from gpucost.clock import Clock
from gpucost.manifest import Manifest
from gpucost.schema import GpuRow

Emit = Callable[[str, tuple[Any, ...]], None]


class LiveLine:
    """Watches GPU rows go by and redraws one line on stderr."""

    def __init__(self, manifest: Manifest, clock: Clock, *, fd: int = 2) -> None:
        self._manifest = manifest
        self._clock = clock
        self._fd = fd
        self._latest: dict[str, GpuRow] = {}
        self._drawn = False

    def watch(self, emit: Emit) -> Emit:
        """The same emit, remembering each GPU's latest row."""

        def watched(table: str, row: tuple[Any, ...], /) -> None:
            if table == "gpu":
                latest = GpuRow(*row)
                self._latest[latest.gpu_uuid] = latest
            emit(table, row)

        return watched

    def line(self) -> str:
        """What the line says now: time, utilization and power of the held GPUs."""
        seconds = (self._clock.mono_ns() - self._manifest.start_mono_ns) // 1_000_000_000
        parts = [f"gpucost {seconds // 3600:d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"]
        rows = list(self._latest.values())
        utilization = [row.gpu_util_pct for row in rows if row.gpu_util_pct is not None]
        power = [row.power_w for row in rows if row.power_w is not None]
        if not rows:
            parts.append("no GPU readings yet")
        if utilization:
            parts.append(
                f"{len(rows)} GPU{'s' if len(rows) > 1 else ''} {sum(utilization) / len(utilization):3.0f} % busy"
            )
        if power:
            parts.append(f"{sum(power):,.0f} W")
        return "  ".join(parts)

    def draw(self) -> None:
        """Draw over the last line."""
        self._write(f"\r\x1b[2K{self.line()}\r")
        self._drawn = True

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self._drawn:
            self._write("\r\x1b[2K")

    def _write(self, text: str) -> None:
        try:
            os.write(self._fd, text.encode())
        except OSError:
            self._drawn = False
