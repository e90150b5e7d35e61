"""Sealing: closed journal segments become Parquet parts, and many small parts become few large ones.

Each step leaves the disk so that the run reads the same, whenever the step is cut off: a part is in place before what it was made of
goes. Run as `python -m gpucost.store.seal RUN_DIR --host HOST [--final]` by the recorder, so that Parquet's library is never loaded in the
process that samples.
"""

import argparse
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gpucost.errors import DamagedRunError, GpucostError, UsageError
from gpucost.recording import ProblemLog
from gpucost.rundir import SEAL_LOCK, STAGES, hold_lock, host_dir, printable
from gpucost.schema import TABLES
from gpucost.store.compact import compact
from gpucost.store.layout import HostFiles, Part, Segment, list_host
from gpucost.store.manifest_io import remove_quietly
from gpucost.store.stagefile import fold_marks

_FINAL_WAIT_S = 60.0
_NICE = 5


@dataclass(slots=True)
class SealResult:
    """What a sealer did.

    Attributes:
        segments: segments turned into parts.
        rows: rows in them.
        merged: parts that went into larger ones.
        problems: what was wrong with the segments.
        unreadable: paths of segments that could not be read, and were left where they are.
        busy: another sealer was at work, and nothing was done.
        stage_file_removed: every mark of the stage file is in the stage table, and the file is gone.
    """

    segments: int = 0
    rows: int = 0
    merged: int = 0
    problems: ProblemLog = field(default_factory=ProblemLog)
    unreadable: list[str] = field(default_factory=list)
    busy: bool = False
    stage_file_removed: bool = False


def seal_run(run_dir: str, host: str, writers: Collection[str] | None = None, *, final: bool = False) -> SealResult:
    """Seal what one host of a run has closed.

    Args:
        run_dir: the run directory.
        host: the host's name.
        writers: only segments of these writers; None for all.
        final: the writers have closed their last segments too (otherwise the newest of each table is left alone), so all of it is sealed, the
            parts of a short run are folded into one a table, and the stage file goes if all of it is in the stage table. Waits for
            a sealer that is at work, for up to a minute.

    Raises:
        OSError: something cannot be written or removed. Nothing is lost; the next sealer goes on from there.
        NewerSchemaError: a newer gpucost wrote the run.
        UsageError: `final`, and another sealer does not finish.
    """
    folder = host_dir(run_dir, host)
    if not os.path.isdir(folder):
        raise DamagedRunError(f"{printable(run_dir)} has no folder for the host {printable(host)}")
    try:
        with sealing(folder, wait_s=_FINAL_WAIT_S if final else 0.0):
            result = seal_host(folder, writers, final=final)
            result.stage_file_removed = final and remove_stage_file(folder)
            return result
    except BlockingIOError as error:
        if final:
            raise UsageError(
                f"another process is sealing {printable(run_dir)}", hint="try again when it has ended"
            ) from error
        return SealResult(busy=True)


@contextmanager
def sealing(folder: str, *, wait_s: float) -> Iterator[None]:
    """Be the only sealer of a host's folder.

    Raises:
        BlockingIOError: another process is, and still was after `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            handle = hold_lock(os.path.join(folder, SEAL_LOCK))
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
    try:
        yield
    finally:
        os.close(handle)


def seal_host(folder: str, writers: Collection[str] | None = None, *, final: bool = False) -> SealResult:
    """As `seal_run` for a caller that is the only sealer of this folder, but for the stage file."""
    result = SealResult()
    _remove_temporary(folder)
    files = list_host(folder)
    _remove_shadowed(files)
    open_ones = set() if final else set({(one.table, one.writer): one for one in files.segments}.values())
    for segment in files.segments:
        if segment not in open_ones and (writers is None or segment.writer in writers):
            _seal_segment(folder, segment, result)
    for table in TABLES:
        result.merged += compact(folder, table, final=final)
    return result


def _remove_temporary(folder: str) -> None:
    """Remove what a sealer that was killed left half written."""
    from gpucost.store.parquet import TEMPORARY_PREFIX

    for table in TABLES:
        try:
            names = os.listdir(os.path.join(folder, table))
        except OSError:
            continue
        for name in names:
            if name.startswith(TEMPORARY_PREFIX) and name.endswith(".tmp"):
                remove_quietly(os.path.join(folder, table, name))


def _remove_shadowed(files: HostFiles) -> None:
    """Finish what a sealer that was killed had begun, but only where the part that has the rows can be read."""
    from gpucost.store.parquet import PartFile

    sound: dict[str, bool] = {}
    shadowed = [(old.path, cover) for old, cover in files.shadowed_segments] + [
        (old.path, cover) for old, cover in files.shadowed_parts
    ]
    for path, cover in shadowed:
        if cover.path not in sound:
            try:
                with PartFile(cover.path, TABLES[cover.table]) as part:
                    part.verify()
                sound[cover.path] = True
            except DamagedRunError:
                sound[cover.path] = False
        if sound[cover.path]:
            os.unlink(path)


def _seal_segment(folder: str, segment: Segment, result: SealResult) -> None:
    from gpucost.store.parquet import rows_to_arrow, write_part
    from gpucost.store.segment import SegmentReader

    table = TABLES[segment.table]
    reader = SegmentReader(segment.path, expect=segment[:3])
    try:
        # As Arrow, a segment's rows are small; what was wrong with them is known only at its end.
        batches = [rows_to_arrow(table, rows) for rows in reader.batches()]
    except DamagedRunError:
        result.unreadable.append(segment.path)
        return
    if reader.torn_tail:
        reader.problems.add("torn_line", "a line of the journal is not whole")
    problems = reader.problems.found()
    if batches or problems:
        seqs = (segment.seq, segment.seq)
        result.rows += write_part(os.path.join(folder, segment.table), table, segment.writer, seqs, batches, problems)
    os.unlink(segment.path)
    result.segments += 1
    result.problems.extend(problems)


def remove_stage_file(folder: str) -> bool:
    """Remove the stage file if the stage table has every span of it, and nothing in it was wrong."""
    path = os.path.join(folder, STAGES)
    marks = fold_marks(path, 0, 0)
    if marks is None or marks.reader.problems:
        return False
    ids = {row.stage_id for row in marks.finished} | {span.stage_id for span in marks.reader.open_spans()}
    parts, segments = list_host(folder).of("stage")
    if segments or not ids <= sealed_stage_ids(parts):
        return False
    os.unlink(path)
    return True


def sealed_stage_ids(parts: list[Part]) -> set[str]:
    """The ids of all spans in these parts of the stage table; a damaged part has none."""
    from gpucost.store.parquet import PartFile

    ids: set[str] = set()
    for part in parts:
        try:
            with PartFile(part.path, TABLES["stage"]) as file:
                for batch in file.batches(["stage_id"]):
                    ids.update(batch.column("stage_id").to_pylist())
        except DamagedRunError:
            continue
    return ids


def main(argv: list[str] | None = None) -> int:
    """Seal once; returns 0, or 1 when not all of it could be done (nothing is lost then)."""
    parser = argparse.ArgumentParser(
        prog="python -m gpucost.store.seal", description="Seal the closed part of a run's journal."
    )
    parser.add_argument("run_dir", help="the run directory")
    parser.add_argument("--host", required=True, help="the host whose files to seal")
    parser.add_argument("--final", action="store_true", help="the writers have ended: seal everything")
    arguments = parser.parse_args(argv)
    os.nice(_NICE)
    try:
        result = seal_run(arguments.run_dir, arguments.host, final=arguments.final)
    except (GpucostError, OSError) as error:
        print(f"gpucost: not sealed: {error}", file=sys.stderr)
        return 1
    for path in result.unreadable:
        print(f"gpucost: {printable(path)} cannot be read and stays in the journal", file=sys.stderr)
    return 1 if result.unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
