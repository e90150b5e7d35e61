"""Compaction: a dozen parts of one level become one of the next, so that days of recording stay a handful of files."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpucost.errors import DamagedRunError
from gpucost.recording import ProblemLog
from gpucost.schema import TABLES
from gpucost.store.layout import Part, Segment, list_host
from gpucost.store.manifest_io import sync_directory

if TYPE_CHECKING:
    import pyarrow as pa

MERGE_COUNT = 12
"""So many neighbours of one level are merged."""

MAX_MERGE_BYTES = 128 << 20
"""Parts that are larger than this together stay as they are: to write them again would cost more than fewer files save."""

MAX_FINAL_BYTES = 16 << 20
"""The same at the end of a run, where somebody waits; below it, all of a writer's parts become one."""


def compact(folder: str, table: str, *, final: bool) -> int:
    """Merge the parts of one table of a host's folder, as far as it goes.

    Args:
        folder: the host's folder; the caller is its only sealer.
        table: the table's name.
        final: nothing more will come, so that all parts of a writer become one if they are small.

    Returns:
        How many parts went into larger ones.

    Raises:
        OSError: a file cannot be written or removed; nothing is lost.
        NewerSchemaError: a newer gpucost wrote a part.
    """
    merged = 0
    blocked: set[Part] = set()
    while True:
        parts, segments = list_host(folder).of(table)
        group = _next_group(parts, segments, blocked, final=final)
        if not group:
            return merged
        try:
            _merge(folder, group)
        except DamagedRunError:
            bad = {part for part in group if not _can_merge(part)}
            if not bad:
                raise
            blocked |= bad
        else:
            merged += len(group)


def _next_group(parts: list[Part], segments: list[Segment], blocked: set[Part], *, final: bool) -> list[Part]:
    limit = MAX_FINAL_BYTES if final else MAX_MERGE_BYTES
    for writer in sorted({part.writer for part in parts}):
        left = {segment.seq for segment in segments if segment.writer == writer}
        for run in _runs([part for part in parts if part.writer == writer], left, blocked):
            if final and len(run) > 1 and _bytes(run) <= limit:
                return run
            for start in range(len(run) - MERGE_COUNT + 1):
                group = run[start : start + MERGE_COUNT]
                if len({_level(part) for part in group}) == 1 and _bytes(group) <= limit:
                    return group
    return []


def _runs(parts: list[Part], left: set[int], blocked: set[Part]) -> Iterator[list[Part]]:
    """Parts in order, cut where a segment or a part that must stay lies between two: a part over both would hide its rows."""
    run: list[Part] = []
    for part in parts:
        if run and (
            part in blocked or part.first <= run[-1].last or any(run[-1].last < seq < part.first for seq in left)
        ):
            yield run
            run = []
        if part not in blocked:
            run.append(part)
    yield run


def _level(part: Part) -> int:
    level, size = 0, part.last - part.first + 1
    while size >= MERGE_COUNT:
        size //= MERGE_COUNT
        level += 1
    return level


def _bytes(parts: list[Part]) -> int:
    return sum(os.path.getsize(part.path) for part in parts)


def _merge(folder: str, group: list[Part]) -> None:
    """Write one part with the rows of several, then remove those."""
    from gpucost.store.parquet import PartFile, write_part

    table, seqs = TABLES[group[0].table], (group[0].first, group[-1].last)
    log, rows = ProblemLog(), 0
    for part in group:
        with PartFile(part.path, table) as file:
            if file.unknown:
                raise DamagedRunError(f"{part.path} has columns that a merge would lose")
            log.extend(file.problems)
            rows += file.rows
    batches = (batch for part in group for batch in _batches(part))
    write_part(os.path.join(folder, table.name), table, group[0].writer, seqs, batches, log.found(), expected_rows=rows)
    for part in group:
        os.unlink(part.path)
    sync_directory(os.path.join(folder, table.name))


def _batches(part: Part) -> Iterator["pa.Table"]:
    from gpucost.store.parquet import PartFile

    with PartFile(part.path, TABLES[part.table]) as file:
        yield from file.batches()


def _can_merge(part: Part) -> bool:
    from gpucost.store.parquet import PartFile

    try:
        with PartFile(part.path, TABLES[part.table]) as file:
            file.verify()
            return not file.unknown
    except DamagedRunError:
        return False
