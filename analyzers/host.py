"""What the hosts of a run did: CPU, memory, and the tree of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpucost.analyzers.arrays import distinct_texts, floats, times

if TYPE_CHECKING:
    import pandas as pd

    from gpucost.recording import Recording

COLUMNS = ("host", "cpu_util_mean_pct", "memory_used_peak_bytes", "processes_peak", "rss_peak_bytes", "cpu_s")


def hosts(recording: Recording) -> dict[str, Any]:
    """CPU, memory and the tree of every host, as columns; NaN where nothing was measured."""
    machine, process = recording.frames.get("machine"), recording.frames.get("process")
    named = {name for frame in (machine, process) if frame is not None for name in distinct_texts(frame, "host")}
    names = sorted(named | set(recording.manifest.hosts))
    rows = [{**_machine_of(machine, name), **_tree_of(process, name)} for name in names]
    figures = {column: np.array([row[column] for row in rows], np.float64) for column in COLUMNS[1:]}
    return {"host": names, **figures}


def _machine_of(frame: pd.DataFrame | None, host: str) -> dict[str, float]:
    """Mean CPU use, weighted by the time since the row before, and the most memory in use."""
    found = {"cpu_util_mean_pct": float("nan"), "memory_used_peak_bytes": float("nan")}
    if frame is None or "host" not in frame.columns:
        return found
    rows = np.flatnonzero((frame["host"] == host).to_numpy(dtype=bool)).astype(np.int64)
    t_ns, known = times(frame, "t_ns", rows)
    cpu = floats(frame, "cpu_util_pct", rows, low=0, high=100)
    weight = np.maximum(np.diff(t_ns, prepend=t_ns[:1]), 0) * np.isfinite(cpu) * known
    if len(rows) and not weight.any():
        weight = np.isfinite(cpu).astype(np.int64)
    memory = floats(frame, "memory_used_bytes", rows, low=0)
    if weight.any():
        found["cpu_util_mean_pct"] = float((np.nan_to_num(cpu) * weight).sum() / weight.sum())
    if np.isfinite(memory).any():
        found["memory_used_peak_bytes"] = float(np.nanmax(memory))
    return found


def _tree_of(frame: pd.DataFrame | None, host: str) -> dict[str, float]:
    """The most processes and resident memory at one poll, and the CPU seconds of all processes ever seen."""
    found = dict.fromkeys(("processes_peak", "rss_peak_bytes", "cpu_s"), float("nan"))
    if frame is None or not {"host", "t_ns", "pid"} <= set(frame.columns):
        return found
    own = frame[(frame["host"] == host).to_numpy(dtype=bool)]
    if not len(own):
        return found
    poll, count = np.unique(times(own, "t_ns")[0], return_inverse=True)
    rss, cpu = floats(own, "rss_bytes", low=0), floats(own, "cpu_s", low=0)
    found["processes_peak"] = float(np.bincount(count).max())
    if np.isfinite(rss).any():
        found["rss_peak_bytes"] = float(np.bincount(count, np.nan_to_num(rss), minlength=len(poll)).max())
    if np.isfinite(cpu).any():
        lives = (
            own.groupby(["pid"] + ["start_time_ns"] * ("start_time_ns" in own.columns), dropna=False)
            .ngroup()
            .to_numpy()
        )
        most = np.zeros(int(lives.max()) + 1)
        np.maximum.at(most, lives, np.nan_to_num(cpu))
        found["cpu_s"] = float(most.sum())
    return found
