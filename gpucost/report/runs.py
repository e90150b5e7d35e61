"""The list of runs, from their manifests alone: no table is opened, so hundreds of runs take a moment."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpucost.manifest import RECORDING, RECOVERED
from gpucost.report.model import NONE, Figure
from gpucost.report.text import duration, gpu_hours, utc

if TYPE_CHECKING:
    from gpucost.manifest import Manifest


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run of the list.

    Attributes:
        state: `complete`, `live`, `crashed`, `recovered` or `damaged` (then `problem` says why, and nothing else is known).
        duration_s: not known of a run that is still recorded or was never closed.
        gpus: how many GPUs the run held.
        gpu_hours: their number x the duration.
    """

    run_id: str
    name: str | None
    command: str
    started: str | None
    duration_s: Figure
    gpus: int | None
    gpu_hours: Figure
    exit_code: int | None
    state: str
    simulated: bool
    labels: dict[str, str]
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """The line as plain JSON values."""
        return asdict(self)


def list_lines(runs: str) -> list[RunLine]:
    """Every run of a folder, newest first."""
    from gpucost.rundir import is_live, list_runs

    lines = []
    for path, manifest in list_runs(runs):
        if isinstance(manifest, str):
            nothing = Figure(None, NONE)
            lines.append(
                RunLine(
                    Path(path).name,
                    None,
                    "",
                    None,
                    nothing,
                    None,
                    nothing,
                    None,
                    "damaged",
                    simulated=False,
                    labels={},
                    problem=manifest,
                )
            )
            continue
        unclosed = manifest.status == RECORDING
        state = "recovered" if manifest.status == RECOVERED else "complete"
        if unclosed:
            state = "live" if is_live(path) else "crashed"
        lines.append(_line(manifest, state))
    return lines


def _line(manifest: Manifest, state: str) -> RunLine:
    ns = _length_ns(manifest)
    held = sum(1 for gpu in manifest.gpus if gpu.held)
    return RunLine(
        run_id=manifest.run_id,
        name=manifest.name or None,
        command=shlex.join(manifest.command),
        started=utc(manifest.start_time_ns),
        duration_s=Figure(None, NONE) if ns is None else duration(ns),
        gpus=held,
        gpu_hours=Figure(None, NONE) if ns is None else gpu_hours(ns * held),
        exit_code=manifest.exit_code,
        state=state,
        simulated=manifest.simulated,
        labels=dict(manifest.labels),
    )


def _length_ns(manifest: Manifest) -> int | None:
    if manifest.end_mono_ns is not None:
        return max(0, manifest.end_mono_ns - manifest.start_mono_ns)
    if manifest.end_time_ns is not None:
        return max(0, manifest.end_time_ns - manifest.start_time_ns)
    return None
