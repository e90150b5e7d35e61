"""A recording in memory: what the store reads and the analyzers take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pandas import DataFrame

    from gpucost.manifest import Manifest


MAX_TIME_NS = 1 << 62
"""Times beyond this (the year 2116) are damage; the difference of two times below it always fits 64 bits."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a recording, in one line.

    Attributes:
        code: a stable word for it. Of the store: `torn_line` (a line of the journal that is not whole), `wrong_row` (a line that does not fit its
            table), `long_line`, `damaged_segment`, `foreign_file`, `newer_columns`, `before_start` (rows from before the run), `duplicate_rows`,
            `not_closed` (the recorder did not close the run), `unknown_host`; of stage marks, those of `gpucost.marks`.
        message: one line for a person.
        count: how many times.
    """

    code: str
    message: str
    count: int = 1


class ProblemLog:
    """Collects problems; those of one code become one, with the first message and a count."""

    def __init__(self) -> None:
        self._found: dict[str, Problem] = {}

    def add(self, code: str, message: str, count: int = 1) -> None:
        """Note a problem `count` times; not at all for a count of 0."""
        known = self._found.get(code)
        if count > 0:
            self._found[code] = Problem(
                code, message if known is None else known.message, count + (0 if known is None else known.count)
            )

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note the problems that somebody else found."""
        for problem in problems:
            self.add(problem.code, problem.message, problem.count)

    def found(self) -> list[Problem]:
        """All of them, in the order in which their codes first came."""
        return list(self._found.values())


@dataclass(slots=True)
class Recording:
    """One run, read.

    The run's own time axis is `t_ns`: nanoseconds since the command's start, from each host's monotonic clock, so that steps of the
    wall clock do not move anything.

    Attributes:
        manifest: what `run.json` says.
        frames: table name to frame. Every table of `gpucost.schema.TABLES` is there, possibly empty, with all its columns and two more:
            `host`, and `t_ns` (int64; in `stage`: `start_t_ns` and `end_t_ns`, the latter null for a span still open). Nullable
            numbers are float64 with NaN, or `Int64` where 53 bits do not suffice (times of a span still open, `start_time_ns` in `gpu_process`);
            nullable booleans are `boolean`. `host` and `gpu_uuid` are categorical (their categories sorted strings), other text is pandas' own
            string type. Rows are in time order, and those of one instant in the order of what they are about (UUID, pid), index 0 to n-1;
            a table that was loaded `grouped` is in the order of what its rows are about, then of time, and narrower.
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
