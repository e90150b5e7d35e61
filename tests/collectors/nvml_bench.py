"""Runs the NVML collector in a process of its own, against a stand-in driver whose time stands still between steps.

Used by `conftest.py` here: a test's statements find a `bench` in the middle of this script, and what it saw is printed as JSON.
"""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from gpucost.collectors.base import Context, SourceUnavailable
from gpucost.collectors.nvml import NvmlCollector
from gpucost.schema import TABLES

NS = 10**9


class Clock:
    """The time in the file that the driver reads too."""

    def __init__(self, path: str) -> None:
        self.path = path

    def mono_ns(self) -> int:
        """Nanoseconds since the scenario's time zero."""
        return int(struct.unpack("q", Path(self.path).read_bytes())[0])

    def time_ns(self) -> int:
        """The same, as the driver's UTC."""
        return 1_700_000_000 * NS + self.mono_ns()

    def set(self, seconds: float) -> None:
        """Move the time; the driver has the file mapped, so it is written in place."""
        with Path(self.path).open("r+b") as file:
            file.write(struct.pack("q", round(seconds * NS)))


class Bench:
    """A collector with everything that a recorder lends, keeping what comes out."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.clock = Clock(settings["clock"])
        self.collector = NvmlCollector()
        self.seen: dict[str, Any] = {
            "gpu": [],
            "gpu_process": [],
            "gpu_sample": [],
            "events": [],
            "described": {},
            "out": [],
        }
        self.context = Context(
            clock=self.clock,
            emit=self.emit,
            report=self.report,
            describe=self.seen["described"].__setitem__,
            root_pid=os.getpid(),
            command_pid=0,
            hz=settings["hz"],
            gpus=settings["gpus"],
            bill=settings["bill"],
            environ=settings["environ"],
            stage_file="",
        )

    def emit(self, table: str, row: tuple[Any, ...]) -> None:
        """Keep a row, by column."""
        self.seen[table].append(dict(zip(TABLES[table].columns, row, strict=True)))

    def report(self, kind: str, message: str, *, subject: str | None = None) -> None:
        """Keep an event."""
        self.seen["events"].append([kind, message, subject])

    def start(self) -> None:
        """Start the collector; keep its tiers, or why it has none."""
        try:
            self.seen["tiers"] = list(self.collector.start(self.context))
        except SourceUnavailable as error:
            self.seen["unavailable"] = [str(error), error.permanent]

    def fast(self, *seconds: float) -> None:
        """Sample the fast tier at these instants."""
        for instant in seconds:
            self.clock.set(instant)
            self.collector.sample("fast")

    def processes(self, *seconds: float) -> None:
        """Sample the processes tier at these instants."""
        for instant in seconds:
            self.clock.set(instant)
            self.collector.sample("processes")

    def samples(self, *seconds: float) -> None:
        """Drain the driver's samples at these instants."""
        for instant in seconds:
            self.clock.set(instant)
            self.collector.sample("samples")

    def child(self, pid_file: str = "") -> "subprocess.Popen[bytes]":
        """A process of the run, which ends when its stdin is closed; its pid is written where the scenario looks for it."""
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        if pid_file:
            Path(pid_file).write_text(str(process.pid))
        return process

    def result(self) -> dict[str, Any]:
        """All that was seen."""
        meter = self.context.meter
        return {**self.seen, "pid": os.getpid(), "calls": meter.calls, "wall_ns": meter.wall_ns}


if __name__ == "__main__":
    bench = Bench(json.loads(sys.argv[1]))
    exec(compile(sys.argv[2], "<test>", "exec"), {"bench": bench, "out": bench.seen["out"], "os": os})
    json.dump(bench.result(), sys.stdout)
