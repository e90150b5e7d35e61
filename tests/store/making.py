"""Runs made by hand, through the store's own writers, and what tests of the store ask about them."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from gpucost import rundir
from gpucost.manifest import COMPLETE, RECORDING, Host, Manifest
from gpucost.schema import TABLES, GpuRow, ProcessRow
from gpucost.store.journal import JournalWriter
from gpucost.store.manifest_io import write_manifest
from gpucost.store.reader import load

S = 1_000_000_000
TIME_NS = 1_785_001_501 * S
MONO_NS = 500 * S
HOST = "node1"
WRITER = "abcdefgh"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = MONO_NS

    def time_ns(self) -> int:
        return TIME_NS + self.now_ns - MONO_NS

    def mono_ns(self) -> int:
        return self.now_ns


def gpu(seconds: float, uuid: str = "GPU-0", **values: object) -> GpuRow:
    """A reading `seconds` after the run's start."""
    offset = round(seconds * S)
    return GpuRow(TIME_NS + offset, MONO_NS + offset, uuid, **values)


def process(seconds: float, pid: int, **values: object) -> ProcessRow:
    """A process that was seen `seconds` after the run's start."""
    offset = round(seconds * S)
    return ProcessRow(TIME_NS + offset, MONO_NS + offset, pid, TIME_NS, **values)


def make_run(runs: Path, *, hosts: Sequence[str] = (HOST,), end_s: float | None = None, **fields: object) -> Path:
    """A run directory without rows; closed by its recorder if `end_s` is given."""
    path = rundir.create(str(runs), rundir.new_run_id(TIME_NS), hosts[0])
    for host in hosts[1:]:
        rundir.add_host(path, host)
    manifest = Manifest(Path(path).name, ["python", "train.py"], TIME_NS, MONO_NS)
    manifest.hosts = {host: Host(host, TIME_NS, MONO_NS) for host in hosts}
    manifest.status = RECORDING if end_s is None else COMPLETE
    if end_s is not None:
        manifest.end_time_ns, manifest.end_mono_ns = TIME_NS + round(end_s * S), MONO_NS + round(end_s * S)
    for name, value in fields.items():
        setattr(manifest, name, value)
    write_manifest(path, manifest)
    return Path(path)


def journal(run: Path, host: str = HOST, writer: str = WRITER, **options: int) -> JournalWriter:
    """A writer of one host's journal."""
    return JournalWriter(rundir.journal_dir(str(run), host), writer, Clock(), **options)


def write_rounds(run: Path, rounds: int, *, writer: str = WRITER, host: str = HOST, rows: int = 3) -> None:
    """`rounds` closed segments of two tables, of `rows` readings of two GPUs and a process each."""
    log = journal(run, host, writer)
    for number in range(rounds):
        for row in range(rows):
            at = number * rows + row
            log.append("gpu", [gpu(at, f"GPU-{i}", power_w=float(at * 10 + i), energy_j=at * 0.1) for i in (1, 0)])
            log.append("process", [process(at, 100 + at % 2, name="python", cpu_s=at * 0.5)])
        log.rotate()


def frames(run: Path) -> dict[str, pd.DataFrame]:
    """Every table, read."""
    return load(str(run)).frames


def assert_same_frames(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    """Every table has the same rows, columns, types and order."""
    for name in TABLES:
        pd.testing.assert_frame_equal(found[name], expected[name], obj=name)


def names_in(folder: Path | str) -> list[str]:
    """Names of everything in a folder, sorted."""
    return sorted(path.name for path in Path(folder).iterdir())


def files_of(run: Path, pattern: str = "**/*") -> list[str]:
    """Visible files of a run, as paths within it."""
    return sorted(str(path.relative_to(run)) for path in run.glob(pattern) if path.is_file() and path.name[0] != ".")


def problem_counts(run: Path) -> dict[str, int]:
    """Code to count of a run's problems."""
    return {problem.code: problem.count for problem in load(str(run)).problems}


def mutate(data: bytes, chance: random.Random) -> bytes:
    """A damaged copy: bits flipped, a piece cut out, zeroed, or doubled."""
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.choice([1, 1, 4, 64, 512]))
    damage: Sequence[Callable[[], bytes]] = (
        lambda: data[:start] + bytes(byte ^ chance.randrange(1, 256) for byte in data[start:end]) + data[end:],
        lambda: data[:start] + data[end:],
        lambda: data[:start] + bytes(end - start) + data[end:],
        lambda: data[:start] + data[start:end] * 2 + data[end:],
        lambda: data[:start],
    )
    return chance.choice(damage)()
