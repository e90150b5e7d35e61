"""The stage file of a run that is read after the fact: all its marks at once."""

import os
from typing import NamedTuple

from gpucost.errors import DamagedRunError
from gpucost.marks import LineBuffer, MarkReader
from gpucost.rundir import printable
from gpucost.schema import StageRow

_CHUNK_BYTES = 1 << 16


class Marks(NamedTuple):
    """What a stage file says.

    Attributes:
        reader: knows the spans that are still open, and what was wrong.
        finished: the spans that have ended.
        changed_ns: when the file was last changed, UTC since the epoch; no honest mark is later.
    """

    reader: MarkReader
    finished: list[StageRow]
    changed_ns: int


def fold_marks(path: str, now_time_ns: int, now_mono_ns: int) -> Marks | None:
    """Fold a stage file into spans; None if there is no such file.

    Args:
        path: the file.
        now_time_ns: the time of marks that have none of their own.
        now_mono_ns: the same instant on the host's monotonic clock.

    Raises:
        DamagedRunError: it cannot be read.
    """
    reader, lines = MarkReader(), LineBuffer()
    finished: list[StageRow] = []
    try:
        with open(path, "rb") as file:
            changed_ns = os.fstat(file.fileno()).st_mtime_ns
            while data := file.read(_CHUNK_BYTES):
                for line in lines.push(data):
                    row = reader.feed(line, now_time_ns, now_mono_ns)
                    if row is not None:
                        finished.append(row)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedRunError(f"{printable(path)} cannot be read: {error.strerror}") from error
    last = reader.feed(lines.rest(), now_time_ns, now_mono_ns)
    return Marks(reader, finished if last is None else [*finished, last], changed_ns)
