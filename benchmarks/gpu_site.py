"""One GPU that `gpu_check.py` probes, and what its probes share: recordings, loads, questions to the driver, tables."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gpucost.recording import Recording

LOAD = Path(__file__).with_name("gpu_load.py")


@dataclass
class Check:
    """One thing that was checked on one GPU; `passed` is None where it could not be."""

    what: str
    passed: bool | None
    text: str


@dataclass
class Site:
    """One GPU that is probed.

    Attributes:
        uuid: of the GPU.
        folder: for recordings and whatever else a probe writes.
        has_load: torch can use the GPU.
        seconds: how long a recording lasts; shorter ones say less.
        pairs: runs with and without a recorder, at each rate.
        calls: how often each driver call is timed.
        checks: what the probes checked so far.
        kept: recordings worth keeping, by name.
    """

    uuid: str
    folder: Path
    has_load: bool
    seconds: float = 30.0
    pairs: int = 5
    calls: int = 1000
    checks: list[Check] = field(default_factory=list)
    kept: dict[str, Path] = field(default_factory=dict)

    @property
    def handle(self) -> Any:
        """The GPU, for the binding."""
        import pynvml

        return pynvml.nvmlDeviceGetHandleByUUID(self.uuid)

    @property
    def environ(self) -> dict[str, str]:
        """In which a load sees this GPU alone."""
        return {**os.environ, "CUDA_VISIBLE_DEVICES": self.uuid}

    def check(self, what: str, passed: bool | None, text: str) -> None:
        """Note a check."""
        self.checks.append(Check(what, passed, text))

    def record(self, name: str, *argv: str, hz: float = 10) -> Recording:
        """A recording of a command on this GPU, kept under a name."""
        from gpucost.store.reader import load

        runs = self.folder / f"{name}-{hz:g}hz"
        words = [*recorder(runs, self.uuid, hz), *argv]
        subprocess.run(words, check=True, env=self.environ, timeout=600 + 10 * self.seconds)
        (run,) = (path for path in runs.iterdir() if (path / "run.json").exists())
        self.kept[runs.name] = run
        return load(str(run))

    @contextmanager
    def loaded(self, *shares: float) -> Iterator[list[int]]:
        """While the block runs, a process for each of these shares works; gives their pids."""
        argv = [[*load_of("duty"), str(share), "100000"] for share in shares]
        children = [subprocess.Popen(one, env=self.environ) for one in argv]
        try:
            time.sleep(min(5.0, self.seconds / 3))
            yield [child.pid for child in children]
        finally:
            for child in children:
                child.terminate()
                child.wait()


def load_of(name: str) -> list[str]:
    """The beginning of the command line of a load."""
    return [sys.executable, str(LOAD), name]


def recorder(runs: Path, uuid: str, hz: float) -> list[str]:
    """What stands before a command so that it is recorded on this GPU."""
    gpucost = [sys.executable, "-m", "gpucost", "record", "--quiet", "--runs", str(runs)]
    return [*gpucost, "--gpus", uuid, "--hz", f"{hz:g}", "--"]


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table; what the driver says in a cell stays in it."""
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return lines + ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in rows]


def asked(call: Callable[..., Any], *args: Any) -> tuple[Any, str]:
    """An answer of the driver, and the error in its place."""
    import pynvml

    try:
        return call(*args), ""
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError) as error:
        return None, str(error)


def value_of(answer: Any) -> float:
    """The member of a field's union that its type names."""
    members = {0: "dVal", 1: "uiVal", 2: "ulVal", 4: "sllVal", 5: "siVal"}
    return float(getattr(answer.value, members.get(answer.valueType, "ullVal")))
