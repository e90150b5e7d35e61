"""A recording in memory: what the store reads and the analyzers take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

    from gpucost.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a recording, in one line.

    Attributes:
        code: a stable word for it: `torn_line`, `not_closed`, `damaged_part`, `newer_columns`, ...
        message: one line for a person.
        count: how many times.
    """

    code: str
    message: str
    count: int = 1


@dataclass(slots=True)
class Recording:
    """One run, read.

    The run's own time axis is `t_ns`: nanoseconds since the command's start, from each host's monotonic clock, so that steps of the
    wall clock do not move anything.

    Attributes:
        manifest: what `run.json` says.
        frames: table name to frame. Every table of `gpucost.schema.TABLES` is there, possibly empty, with all its columns and two more:
            `host`, and `t_ns` (int64; in `stage`: `start_t_ns` and `end_t_ns`, the latter null for a span still open). Nullable
            numbers are float64 with NaN, or pandas nullable integers where 53 bits do not suffice; nullable booleans are `boolean`. Rows are in time order.
        end_ns: the run's length: the command's end where it is known, else the last thing known to have happened.
        end_basis: `exit` (the recorder saw the command end), `last_sample` or `last_mark` (the recorder did not close the run).
        live: a recorder is still writing it.
        problems: what could not be read, or is not as it should be.
        path: the run directory.
    """

    manifest: Manifest
    frames: dict[str, DataFrame]
    end_ns: int
    end_basis: str = "exit"
    live: bool = False
    problems: list[Problem] = field(default_factory=list)
    path: str = ""
