"""What a collector is lent in a test: a clock that stands still, a place for its rows, and a /proc made of files."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpucost.collectors import _proc
from gpucost.collectors.base import Context
from gpucost.schema import TABLES

SECOND = 1_000_000_000
KINDS = {
    "int64": int,
    "int32": int,
    "int16": int,
    "float64": (int, float),
    "float32": (int, float),
    "string": str,
    "bool": bool,
}


class FakeClock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.elapsed_ns = 0

    def time_ns(self) -> int:
        return 1_764_000_000 * SECOND + self.elapsed_ns

    def mono_ns(self) -> int:
        return 5000 * SECOND + self.elapsed_ns

    def advance(self, seconds: float) -> None:
        self.elapsed_ns += round(seconds * SECOND)


class Lent:
    """A context, and all that a collector hands over to it; a row that does not fit its table fails the test at once."""

    def __init__(self, **options: Any) -> None:
        self.clock = options.pop("clock", None) or FakeClock()
        self.rows: list[tuple[str, Any]] = []
        self.events: list[tuple[str, str, str | None]] = []
        self.facts: dict[str, Any] = {}
        defaults: dict[str, Any] = {
            "root_pid": os.getpid(),
            "command_pid": 0,
            "hz": 10.0,
            "gpus": "",
            "bill": "visible",
            "environ": {},
            "stage_file": "",
        }
        self.context = Context(
            clock=self.clock, emit=self._emit, report=self._report, describe=self._describe, **{**defaults, **options}
        )

    def _emit(self, table: str, row: tuple[Any, ...], /) -> None:
        check_row(table, row)
        self.rows.append((table, row))

    def _report(self, kind: str, message: str, *, subject: str | None = None) -> None:
        self.events.append((kind, message, subject))

    def _describe(self, key: str, value: Any, /) -> None:
        self.facts[key] = value

    def take(self, table: str) -> list[Any]:
        """The rows of a table that came since the last call."""
        found = [row for name, row in self.rows if name == table]
        self.rows = [(name, row) for name, row in self.rows if name != table]
        return found


def check_row(table: str, row: tuple[Any, ...]) -> None:
    """Assert that a row has its table's width, types and required columns."""
    columns, required = TABLES[table].kinds(), TABLES[table].required()
    assert len(row) == len(columns), f"{table}: {len(row)} values for {len(columns)} columns"
    for (name, kind), value in zip(columns.items(), row, strict=True):
        if value is None:
            assert name not in required, f"{table}.{name} is never null"
        else:
            assert isinstance(value, KINDS[kind]), f"{table}.{name} is {value!r}, not {kind}"
            assert kind == "bool" or not isinstance(value, bool), f"{table}.{name} is {value!r}, not {kind}"


class FakeProc(_proc.Proc):
    """A /proc of files, which counts how often a process was read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder
        self.reads: list[int] = []
        folder.mkdir(exist_ok=True)
        (folder / "self").symlink_to(str(os.getpid()))

    def stat(self, pid: int) -> _proc.Stat | None:
        self.reads.append(pid)
        return super().stat(pid)

    def process(
        self,
        pid: int,
        ppid: int,
        *,
        name: str = "python",
        state: str = "S",
        cpu_ticks: int = 0,
        threads: int = 1,
        start: int = 100,
        rss_pages: int = 10,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Add a process, or change it."""
        self.write(f"{pid}/stat", stat_line(pid, ppid, name, state, cpu_ticks, threads, start, rss_pages))
        for file, content in (files or {}).items():
            self.write(f"{pid}/{file}", content)

    def write(self, name: str, content: str) -> None:
        """Make a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def remove(self, pid: int) -> None:
        """The process ends."""
        shutil.rmtree(self.folder / str(pid))


def stat_line(
    pid: int, ppid: int, name: str, state: str, cpu_ticks: int, threads: int, start: int, rss_pages: int
) -> str:
    """A line of /proc/PID/stat; CPU time is split between user and system."""
    user = cpu_ticks // 2
    return (
        f"{pid} ({name}) {state} {ppid} 1 1 0 -1 4194304 10 0 0 0 {user} {cpu_ticks - user} 999 999 20 0 {threads} 0 "
        f"{start} 112984064 {rss_pages} 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n"
    )
