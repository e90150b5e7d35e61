"""Recordings made by hand, for tests of the analyzers."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from gpucost.manifest import Gpu, Host, Manifest
from gpucost.recording import Recording
from gpucost.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gpucost.analyzers import Analysis

S = 1_000_000_000
MS = 1_000_000
MIB = 1 << 20
HOST = "node1"
GPU = "GPU-0"

_TYPES = {"int64": "Int64", "int32": "float64", "int16": "float64", "string": "object", "bool": "boolean"}


def frame_of(table: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """A table as the reader gives it: all its columns, `host` and `t_ns`, and null where a row says nothing."""
    axis = ("start_t_ns", "end_t_ns") if table == "stage" else ("t_ns",)
    kinds = {**TABLES[table].kinds(), "host": "string", **dict.fromkeys(axis, "int64")}
    listed = [{"host": HOST, **row} for row in rows]
    columns = {}
    for name, kind in kinds.items():
        values = [row.get(name) for row in listed]
        full = kind == "int64" and name in {"t_ns", "start_t_ns"} and None not in values
        columns[name] = pd.Series(values, dtype="int64" if full else _TYPES.get(kind, kind))
    return pd.DataFrame(columns)


@functools.cache
def _empty_once(table: str) -> pd.DataFrame:
    return frame_of(table, ())


def _empty(table: str) -> pd.DataFrame:
    return _empty_once(table).copy()


def gpu_rows(
    times_s: Iterable[float], util: Any = 50.0, *, uuid: str = GPU, poll: bool = True, **columns: Any
) -> list[dict[str, Any]]:
    """Rows of the table `gpu`, one at each time; a column is one value for all rows or a list.

    By default every row asked for the processes and found one, the run's.
    """
    at = [round(t * S) for t in times_s]
    given = {"gpu_util_pct": util, **({"processes": 1, "run_processes": 1} if poll else {}), **columns}
    listed = {name: value if isinstance(value, list) else [value] * len(at) for name, value in given.items()}
    return [
        {"t_ns": t, "gpu_uuid": uuid, **{name: value[i] for name, value in listed.items()}} for i, t in enumerate(at)
    ]


def gpu_process(
    t_s: float, pid: int, *, in_run: bool | None, sm: float | None = None, uuid: str = GPU
) -> dict[str, Any]:
    """One row of the table `gpu_process`."""
    return {"t_ns": round(t_s * S), "gpu_uuid": uuid, "pid": pid, "in_run": in_run, "sm_util_pct": sm}


def stage(
    name: str, start_s: float, end_s: float | None, *, parent: str | None = None, **columns: Any
) -> dict[str, Any]:
    """One row of the table `stage`; its id is its name unless `stage_id` says otherwise."""
    row = {
        "stage_id": name,
        "name": name,
        "start_t_ns": round(start_s * S),
        "end_t_ns": None if end_s is None else round(end_s * S),
        "parent_id": parent,
        "pid": None,
        "attributes": json.dumps({}),
        "source": "python",
        "truncated": False,
    }
    return {**row, **columns}


def recording(
    end_s: float,
    gpu: Iterable[Mapping[str, Any]] = (),
    *,
    gpus: Iterable[Gpu] | None = None,
    hz: float | None = 10.0,
    end_basis: str = "exit",
    live: bool = False,
    **tables: Iterable[Mapping[str, Any]],
) -> Recording:
    """A recording of one host.

    Args:
        end_s: its length.
        gpu: rows of the table `gpu`.
        gpus: its GPUs; one held GPU by default.
        hz: the recorder's rate.
        end_basis: as in `Recording`.
        live: as in `Recording`.
        tables: rows of the other tables.
    """
    manifest = Manifest(
        run_id="20260101-000000-abcdef",
        command=["true"],
        start_time_ns=0,
        start_mono_ns=0,
        hosts={HOST: Host(HOST, 0, 0)},
        gpus=list(gpus) if gpus is not None else [Gpu(GPU, "Test GPU", HOST, 0, memory_reserved_bytes=500 * MIB)],
        recorder={} if hz is None else {"hz": hz},
    )
    given = {"gpu": gpu, **tables}
    frames = {name: frame_of(name, given[name]) if given.get(name) else _empty(name) for name in TABLES}
    return Recording(manifest, frames, round(end_s * S), end_basis, live)


def uses_ns(analysis: Analysis, uuid: str = GPU) -> dict[str, int]:
    """Nanoseconds of each use of one GPU that has any."""
    own = analysis.ledger[analysis.ledger["gpu_uuid"] == uuid]
    return {str(use): int(ns) for use, ns in own.groupby("use")["duration_ns"].sum().items()}


def stages_ns(analysis: Analysis) -> dict[str, int]:
    """Nanoseconds under each stage path that has any, over all GPUs."""
    return {str(path): int(ns) for path, ns in analysis.ledger.groupby("stage_path")["duration_ns"].sum().items()}


def tenths(start_s: float, end_s: float) -> list[float]:
    """Times of a 10 Hz series whose readings speak for (start, end]."""
    return [i / 10 for i in range(round(start_s * 10) + 1, round(end_s * 10) + 1)]
