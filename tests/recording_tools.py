"""Recordings as their user makes them: started, watched while they run, and looked at afterwards."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

GPUCOST = [sys.executable, "-m", "gpucost"]


def command_line(runs: Path | str, *argv: str, options: Sequence[str] = ()) -> list[str]:
    """`gpucost record` of a command."""
    return [*GPUCOST, "record", "--runs", str(runs), *options, "--", *argv]


def record(runs: Path | str, *argv: str, options: Sequence[str] = (), **more: Any) -> subprocess.CompletedProcess:
    """Record a command to its end."""
    line = command_line(runs, *argv, options=options)
    given = {"capture_output": True, "text": True, "timeout": 100, **more}
    return subprocess.run(line, check=False, **given)


def started(runs: Path | str, *argv: str, options: Sequence[str] = (), **more: Any) -> subprocess.Popen:
    """Start recording a command."""
    line = command_line(runs, *argv, options=options)
    return subprocess.Popen(line, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more})


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something to be so; what it gave."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
    return value


def run_folders(runs: Path | str) -> list[Path]:
    """The run directories of a folder of runs, oldest first."""
    try:
        return sorted(path for path in Path(runs).iterdir() if path.is_dir())
    except FileNotFoundError:
        return []


def only_run(runs: Path | str) -> str:
    """The one run of a folder."""
    (found,) = run_folders(runs)
    return str(found)


def manifest(run: Path | str) -> dict[str, Any]:
    """What a run's `run.json` says."""
    return json.loads(Path(run, "run.json").read_text(encoding="utf-8"))


def journal_lines(runs: Path | str, table: str = "gpu") -> int:
    """Lines of a table that lie in the journals of all runs."""
    paths = Path(runs).glob(f"*/host=*/journal/{table}.*.jsonl")
    return sum(_content(path).count(b"\n") for path in paths)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # sealed meanwhile
        return b""


def children(pid: int) -> list[int]:
    """The children of a process, of all its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return found


def with_environment(entry: str) -> list[int]:
    """Living processes in whose environment this entry (`NAME=value`) stands."""
    wanted, found = entry.encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def of_session(leader: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, _, _, session, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(session) == leader and state not in "ZX":
                found.append(int(folder.name))
    return found


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(handle, b"x" * 4096):
            pass
    except OSError:
        pass
    finally:
        os.close(handle)
