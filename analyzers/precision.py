"""How far the energy of a stage can be trusted: a sensor that is renewed ten times a second says little about a stage of 0.2 s.

At each edge of a span the energy is known up to what the GPU used within one resolution of the sensor. A span of n resolutions is so
known to about one part in n; below two of them nothing can be told, and from ten on the edges no longer matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpucost.analyzers.arrays import FloatArray
    from gpucost.analyzers.stages import Spans
    from gpucost.analyzers.timeline import Ticks

TOO_SHORT = 2.0
"""A median span of fewer resolutions than this tells nothing about energy."""

CLEAR = 10.0
"""From this many resolutions on, the edges of a span no longer matter."""

_MOST_NAMED = 5


def resolution_ns(ticks: Ticks, measured: Mapping[str, Any] | None) -> int | None:
    """How finely the energy of one GPU is known in time; None where neither counter nor power is.

    The counter is no finer than its update period, as the recorder measured it, and no finer than it was read.

    Args:
        ticks: the GPU's readings.
        measured: the manifest's update periods of this GPU by column, nanoseconds.
    """
    counter = np.isfinite(ticks.energy_j)
    changed = np.flatnonzero(counter)
    if len(changed) > 1:
        values = ticks.energy_j[changed]
        changed = changed[np.append(True, values[1:] != values[:-1])]
        column = "energy_j"
    else:
        changed = np.flatnonzero(np.isfinite(ticks.power_w) | np.isfinite(ticks.power_average_w))
        column = "power_w"
    if len(changed) < 2:  # noqa: PLR2004 (a distance needs two)
        return None
    read = int(np.median(np.diff(ticks.t_ns[changed])))
    known = (measured or {}).get(column)
    return max(read, int(known)) if isinstance(known, (int, float)) and 0 < known < 1e11 else read  # noqa: PLR2004


def stage_energy(spans: Spans, resolutions: Sequence[int | None]) -> tuple[FloatArray, FloatArray]:
    """For every stage path (no stage last): the error of its energy in percent, and its median span in resolutions; NaN where unknown.

    Args:
        spans: the stages.
        resolutions: of every GPU; the coarsest counts.
    """
    known = [value for value in resolutions if value]
    error, lengths = np.full(len(spans.paths) + 1, np.nan), np.full(len(spans.paths) + 1, np.nan)
    if not known:
        return error, lengths
    medians = pd.Series(spans.end_ns - spans.start_ns).groupby(spans.path).median()
    lengths[medians.index.to_numpy()] = medians.to_numpy() / max(known)
    error = 100.0 / np.maximum(lengths, 1.0)
    return error, lengths


def notes(spans: Spans, error_pct: FloatArray, lengths: FloatArray) -> list[str]:
    """What a reader of the stages' energies must know."""
    names = [path.text for path in spans.paths]
    short = [names[place] for place in np.flatnonzero(lengths[:-1] < TOO_SHORT)]
    rough = [
        f"{names[place]} ±{error_pct[place]:.0f} %"
        for place in np.flatnonzero((lengths[:-1] >= TOO_SHORT) & (lengths[:-1] < CLEAR))
    ]
    found = []
    if short:
        found.append(f"energy of stages too short for the sensor to tell: {_some(short)}")
    if rough:
        found.append(f"energy of stages that last only a few updates of the sensor: {_some(rough)}")
    return found


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
