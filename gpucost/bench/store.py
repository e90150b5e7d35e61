"""Where profiles are kept: the user's data folder, by device and driver, and how they are written, found and read.

<data>/gpucost/profiles/<device uuid>/<driver>/<run id>/profile.json, samples.parquet, telemetry.parquet
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpucost.bench.model import VERSION, Profile, Window
from gpucost.errors import DamagedRunError, GpucostError, RunNotFoundError, UsageError
from gpucost.rundir import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpucost.schema import GpuRow

PROFILE = "profile.json"
SAMPLES = "samples.parquet"
TELEMETRY = "telemetry.parquet"
NO_DRIVER = "no-driver"
_METADATA = {"gpucost.bench_version": str(VERSION)}

_MAX_BYTES = 8 << 20  # a profile has some 50 kB; what is much larger is no profile
_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True, slots=True)
class Sample:
    """One window of one test, as `samples.parquet` keeps it.

    Attributes:
        sm_clock_mhz: of the telemetry sample nearest to the window's middle; null without telemetry.
        reasons: NVML's clock-event bits that any sample inside the window had; a throttled window is kept, and labelled by this.
    """

    test_id: str
    index: int
    window: Window
    rate: float
    sm_clock_mhz: float | None
    reasons: int | None


@dataclass(slots=True)
class Stored:
    """A profile and where it lies."""

    profile: Profile
    path: Path


def folder() -> Path:
    """The folder of all profiles: `$GPUCOST_PROFILES`, else in the user's data folder as the platform has it."""
    own = os.environ.get("GPUCOST_PROFILES")
    if own:
        return Path(own)
    data = os.environ.get("XDG_DATA_HOME")
    if data:
        return Path(data) / "gpucost" / "profiles"
    home = Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".local/share")
    return home / "gpucost" / "profiles"


def safe(name: str) -> str:
    """A name as it may stand in a path."""
    text = "".join(char if char in _SAFE else "_" for char in name[:128]).lstrip(".-")
    return text or "unknown"


def place(root: Path, profile: Profile) -> Path:
    """Where a profile belongs under `root`."""
    driver = profile.tool.get("driver") or NO_DRIVER
    return root / safe(profile.device.uuid) / safe(driver) / safe(profile.run_id)


def write(
    target: Path, profile: Profile, samples: Sequence[Sample], telemetry: Sequence[tuple[str | None, GpuRow]]
) -> Path:
    """Write the three files of a profile into the folder `target`; it appears whole or not at all.

    Raises:
        UsageError: the folder cannot be written, or there is a profile in it already.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        aside.mkdir(parents=True, mode=0o700)
        text = json.dumps(profile.to_json(), indent=1, allow_nan=False, sort_keys=False)
        (aside / PROFILE).write_text(text + "\n", encoding="utf-8")
        _write_samples(aside / SAMPLES, profile, samples)
        _write_telemetry(aside / TELEMETRY, profile, telemetry)
        aside.rename(target)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot write a profile to {printable(str(target))}: {reason}", hint="choose a new folder with --out"
        ) from error
    return target


def _write_samples(path: Path, profile: Profile, samples: Sequence[Sample]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "run_id": pa.array([profile.run_id] * len(samples), pa.string()),
        "device_uuid": pa.array([profile.device.uuid] * len(samples), pa.string()),
        "test_id": pa.array([one.test_id for one in samples], pa.string()),
        "window_index": pa.array([one.index for one in samples], pa.int32()),
        "start_mono_ns": pa.array([one.window.end_ns - one.window.duration_ns for one in samples], pa.int64()),
        "duration_ns": pa.array([one.window.duration_ns for one in samples], pa.int64()),
        "iterations": pa.array([one.window.iters for one in samples], pa.int32()),
        "work": pa.array([one.window.work for one in samples], pa.float64()),
        "rate": pa.array([one.rate for one in samples], pa.float64()),
        "sm_clock_mhz": pa.array([one.sm_clock_mhz for one in samples], pa.float32()),
        "clocks_event_reasons": pa.array([one.reasons for one in samples], pa.int64()),
        "clean": pa.array([one.window.clean for one in samples], pa.bool_()),
    }
    pq.write_table(pa.table(columns, metadata=_METADATA), path, compression="zstd")


def _write_telemetry(path: Path, profile: Profile, telemetry: Sequence[tuple[str | None, GpuRow]]) -> None:
    """Every column that the collector has, and the test that ran."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from gpucost.schema import TABLES

    table = TABLES["gpu"]
    types = {
        "int64": pa.int64(),
        "int32": pa.int32(),
        "int16": pa.int16(),
        "float64": pa.float64(),
        "float32": pa.float32(),
        "string": pa.string(),
        "bool": pa.bool_(),
    }
    columns: dict[str, Any] = {
        "run_id": pa.array([profile.run_id] * len(telemetry), pa.string()),
        "test_id": pa.array([test for test, _ in telemetry], pa.string()),
    }
    for name, kind in table.kinds().items():
        columns[name] = pa.array([getattr(row, name) for _, row in telemetry], types[kind])
    pq.write_table(pa.table(columns, metadata=_METADATA), path, compression="zstd")


def read(path: Path) -> Profile:
    """Read a profile from its folder or its file.

    Raises:
        RunNotFoundError: there is none.
        DamagedRunError: it cannot be read.
        NewerSchemaError: it was written by a newer gpucost.
    """
    file = path / PROFILE if path.is_dir() else path
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise DamagedRunError(f"{printable(str(file))} is too large for a profile")
        data = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except FileNotFoundError as error:
        raise RunNotFoundError(f"there is no profile at {printable(str(path))}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedRunError(f"{printable(str(file))} cannot be read: {error}") from error
    return Profile.from_json(data)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def samples(path: Path, test_id: str) -> list[float]:
    """Rates of the windows of one test, clean ones first choice; empty where the samples are not there or cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder_ = path if path.is_dir() else path.parent
    try:
        table = pq.read_table(
            folder_ / SAMPLES, columns=["test_id", "rate", "clean"], filters=[("test_id", "==", test_id)]
        )
    except (OSError, pa.ArrowException):
        return []
    rows = [
        (rate, clean)
        for rate, clean in zip(table["rate"].to_pylist(), table["clean"].to_pylist(), strict=True)
        if rate and rate > 0
    ]
    clean = [rate for rate, is_clean in rows if is_clean]
    return clean if len(clean) >= 8 else [rate for rate, _ in rows]  # noqa: PLR2004 (as many as an interval needs)


def every(root: Path | None = None) -> tuple[list[Stored], list[str]]:
    """Every profile that is kept, oldest first, and one line for each that cannot be read."""
    found, broken = [], []
    for path in _files(folder() if root is None else root):
        try:
            found.append(Stored(read(path), path.parent))
        except GpucostError as error:
            broken.append(f"{printable(str(path))}: {error}")
    found.sort(key=lambda one: (one.profile.started_utc, one.profile.run_id))
    return found, broken


def _files(root: Path) -> Iterator[Path]:
    yield from sorted(root.glob(f"*/*/*/{PROFILE}"))


def find(word: str, root: Path | None = None) -> Stored:
    """The profile that a user means: a path, a run id or the beginning of one, `latest`, or the beginning of a device's UUID (its newest).

    `~N` after the last two means the Nth before it.

    Raises:
        RunNotFoundError: none, or several, answer to the word.
    """
    path = Path(word)
    if path.is_file() or (path / PROFILE).is_file():
        return Stored(read(path), path if path.is_dir() else path.parent)
    kept, _ = every(root)
    hint = "`gpucost bench list` shows what there is" if kept else "`gpucost bench` makes one"
    matches = [one for one in kept if one.profile.run_id.startswith(word)]
    if len(matches) == 1:
        return matches[0]
    stem, _, back = word.partition("~")
    line = (
        kept if stem == "latest" else [one for one in kept if one.profile.device.uuid.lower().startswith(stem.lower())]
    )
    one_device = stem == "latest" or len({one.profile.device.uuid for one in line}) == 1
    steps = int(back) if back.isdecimal() else 0 if not back else len(line)
    if stem and one_device and steps < len(line) and not matches:
        return line[-1 - steps]
    how_many = "several profiles answer" if matches or (not one_device and line) else "no profile answers"
    raise RunNotFoundError(f"{how_many} to {printable(word)!r}", hint=hint)


def best_for(uuid: str, driver: str | None, root: Path | None = None) -> Profile | None:
    """The profile that speaks for a device: of the driver that it runs if there is one, full before quick, then the newest; None without any.

    Profiles of a shared device, and those without a single ceiling, speak for nothing.
    """
    base = folder() if root is None else root
    found = []
    for path in sorted((base / safe(uuid)).glob(f"*/*/{PROFILE}")):
        try:
            profile = read(path)
        except GpucostError:
            continue
        if profile.device.uuid == uuid and not profile.shared and any(one.ceiling for one in profile.results):
            found.append(profile)
    rank = lambda one: (one.tool.get("driver") == driver, one.mode == "full", one.started_utc)  # noqa: E731
    return max(found, key=rank, default=None)
