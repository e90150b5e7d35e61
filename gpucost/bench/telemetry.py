"""What the driver says while tests run: the NVML collector, in a thread of the parent, so that nothing samples inside a timed process."""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any

from gpucost.clock import SystemClock
from gpucost.collectors import create
from gpucost.collectors.base import Context
from gpucost.recorder.sampler import Runner

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gpucost.collectors.base import Collector
    from gpucost.schema import GpuProcessRow, GpuRow

HZ = 20.0
START_LIMIT_S = 20.0
_STOP_LIMIT_S = 2.0


class Telemetry:
    """Samples of every GPU that is benchmarked, and of the processes on them.

    Attributes:
        gpus: what the collector found, by UUID: the fields of `gpucost.manifest.Gpu`.
        driver: versions by name.
        unavailable: why there are no samples, or None.
        events: (kind, message, subject) of everything that the collector reported.
    """

    def __init__(
        self, gpus: str = "", *, environ: Mapping[str, str] | None = None, collector: Collector | None = None
    ) -> None:
        self.gpus: dict[str, dict[str, Any]] = {}
        self.driver: dict[str, str] = {}
        self.unavailable: str | None = None
        self.events: list[tuple[str, str, str | None]] = []
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[list[int], list[GpuRow]]] = {}
        self._processes: list[GpuProcessRow] = []
        if collector is None:
            made, broken = create(which=["nvml"])
            collector = made[0] if made else None
            self.unavailable = None if made else "; ".join(broken)
        clock = SystemClock()
        self._runner = (
            None if collector is None else Runner(collector, self._context(clock, gpus, environ), clock.mono_ns())
        )

    def _context(self, clock: SystemClock, gpus: str, environ: Mapping[str, str] | None) -> Context:
        return Context(
            clock=clock,
            emit=self._emit,
            report=self._report,
            describe=self._describe,
            root_pid=os.getpid(),
            command_pid=os.getpid(),
            hz=HZ,
            gpus=gpus,
            bill="visible",
            environ=os.environ if environ is None else environ,
            stage_file="",
        )

    def _emit(self, table: str, row: Any) -> None:
        with self._lock:
            if table == "gpu":
                times, rows = self._rows.setdefault(row.gpu_uuid, ([], []))
                times.append(row.mono_ns)
                rows.append(row)
            elif table == "gpu_process":
                self._processes.append(row)

    def _report(self, kind: str, message: str, *, subject: str | None = None) -> None:
        self.events.append((kind, message, subject))

    def _describe(self, key: str, value: Any) -> None:
        if key == "gpus":
            self.gpus = {one["uuid"]: one for one in value}
        elif key == "driver":
            self.driver = {str(name): str(version) for name, version in value.items()}

    def start(self, limit_s: float = START_LIMIT_S) -> bool:
        """Open the driver; whether there is one that lists GPUs. A driver that does not answer in time counts as none."""
        runner = self._runner
        if runner is None:
            return False
        runner.start()
        deadline = time.monotonic() + limit_s
        while runner.phase == "starting" and time.monotonic() < deadline:
            time.sleep(0.01)
        if runner.phase == "sampling":
            return True
        said = [message for _, message, _ in self.events]
        self.unavailable = said[-1] if said else f"the driver did not answer within {limit_s:.0f} s"
        runner.ask_to_stop()
        return False

    def stop(self) -> None:
        """Close the driver."""
        if self._runner is not None and self._runner.is_alive():
            self._runner.ask_to_stop()
            self._runner.join(_STOP_LIMIT_S)

    def between(self, uuid: str, start_ns: int, end_ns: int) -> list[GpuRow]:
        """Samples of a GPU from `start_ns` to `end_ns` of the monotonic clock, in time order."""
        with self._lock:
            times, rows = self._rows.get(uuid, ([], []))
            return rows[bisect_left(times, start_ns) : bisect_right(times, end_ns)]

    def all_rows(self, uuid: str) -> list[GpuRow]:
        """Every sample of a GPU."""
        with self._lock:
            return list(self._rows.get(uuid, ([], []))[1])

    def processes_known(self, uuid: str) -> bool:
        """Whether the driver has given a process list of this GPU."""
        return any(row.processes is not None for row in self.all_rows(uuid))

    def foreign(
        self, uuid: str, start_ns: int, end_ns: int, *, none_is_ours: bool = False, strangers: Collection[int] = ()
    ) -> set[int]:
        """Processes of others that computed on the GPU at a poll from `start_ns` to `end_ns`. Displays do not count.

        Args:
            uuid: the GPU.
            start_ns: on the monotonic clock, like `end_ns`.
            end_ns: the end.
            none_is_ours: nothing of ours was on the GPU, so whoever was is a stranger, also where the driver does not say whose a process is.
            strangers: pids that are known not to be ours.
        """
        with self._lock:
            return {
                row.pid
                for row in self._processes
                if row.gpu_uuid == uuid
                and start_ns <= row.mono_ns <= end_ns
                and row.kind != "graphics"
                and (row.in_run is False or row.pid in strangers or (none_is_ours and not row.in_run))
            }

    def parentage_known(self, uuid: str) -> bool:
        """Whether every process that was seen on the GPU could be told ours or not ours."""
        with self._lock:
            return all(row.in_run is not None for row in self._processes if row.gpu_uuid == uuid)

    def lost(self, uuid: str) -> str | None:
        """What the collector said when it lost a GPU, or None."""
        said = [
            (kind, message)
            for kind, message, subject in self.events
            if subject == uuid and kind in ("gpu_lost", "gpu_back")
        ]
        return said[-1][1] if said and said[-1][0] == "gpu_lost" else None
