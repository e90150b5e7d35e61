"""Mending a run that its recorder did not close: everything sealed, what is damaged set aside, open stages ended, the end written down.

Every step leaves a run that reads the same or better, so a recovery that is cut off is simply done again. Nothing is deleted that has not
been stored elsewhere first.
"""

import os
from dataclasses import dataclass, field, replace

from gpucost.errors import DamagedRunError, UsageError
from gpucost.manifest import RECORDING, RECOVERED, Manifest
from gpucost.marks import OpenSpan
from gpucost.recording import Problem, ProblemLog
from gpucost.rundir import DAMAGED, host_dir, hosts, is_live, new_token, printable
from gpucost.schema import TABLES, StageRow
from gpucost.store.layout import Part, list_host
from gpucost.store.manifest_io import read_manifest, remove_stale, sync_directory, write_manifest
from gpucost.store.reader import END_BASIS_KEY, HostMarks, Loader
from gpucost.store.seal import remove_stage_file, seal_host, sealing


@dataclass(slots=True)
class RecoverResult:
    """What a recovery found and did.

    Attributes:
        run_id: the run.
        status: the run's status now: `recovered`, or `complete` for a run that its recorder had closed.
        changed: something was done; False when there was nothing to mend.
        segments_sealed: journal segments that became Parquet.
        rows_sealed: rows in them.
        parts_set_aside: damaged Parquet parts, as paths within the run before the move.
        segments_set_aside: unreadable journal segments, likewise.
        spans_added: finished stages that only the stage file knew.
        spans_truncated: stages that were open, ended where their process was last seen.
        problems: what cannot be read of what was there: torn lines, marks that are not marks.
        last_sample_time_ns: when the last sample was taken, UTC since the epoch; None if there is none.
        end_time_ns: the run's end as it is now written down, UTC since the epoch.
        end_basis: what that rests on: `exit`, `last_sample` or `last_mark`.
    """

    run_id: str
    status: str
    changed: bool = False
    segments_sealed: int = 0
    rows_sealed: int = 0
    parts_set_aside: list[str] = field(default_factory=list)
    segments_set_aside: list[str] = field(default_factory=list)
    spans_added: int = 0
    spans_truncated: int = 0
    problems: list[Problem] = field(default_factory=list)
    last_sample_time_ns: int | None = None
    end_time_ns: int | None = None
    end_basis: str = "exit"


def recover(path: str) -> RecoverResult:
    """Mend a run directory; a run that needs no mending stays as it is.

    Raises:
        UsageError: a recorder or a sealer is at work on the run, or it cannot be written to (then nothing is lost).
        DamagedRunError: `run.json` cannot be read.
        NewerSchemaError: a newer gpucost wrote the run.
    """
    manifest = read_manifest(path)
    if is_live(path):
        raise UsageError(f"{printable(path)} is still being recorded", hint="end the recorded command first")
    try:
        return _recover(path, manifest)
    except BlockingIOError as error:
        raise UsageError(f"another process is sealing {printable(path)}", hint="try again when it has ended") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot recover {printable(path)}: {reason}", hint="nothing was lost; mend that and try again"
        ) from error


def _recover(path: str, manifest: Manifest) -> RecoverResult:
    result = RecoverResult(manifest.run_id, manifest.status)
    remove_stale(path)
    for host in hosts(path):
        with sealing(host_dir(path, host), wait_s=0.0):
            _set_parts_aside(host_dir(path, host), result)
            _seal(host_dir(path, host), result)
    loader = Loader(path, None, dict.fromkeys(TABLES, ()))
    loader.read()
    _end_stages(path, loader, result)
    _close(path, loader, result)
    for host in hosts(path):
        with sealing(host_dir(path, host), wait_s=0.0):
            # Not before the end is written down: it may rest on a mark.
            result.changed |= remove_stage_file(host_dir(path, host))
    result.problems = [problem for problem in loader.problems.found() if problem.code != "set_aside"]
    return result


def _set_parts_aside(folder: str, result: RecoverResult) -> None:
    """Move damaged parts away first: what they had shadowed counts again then."""
    from gpucost.store.parquet import PartFile

    files = list_host(folder)
    parts: list[Part] = [*files.parts, *(old for old, _ in files.shadowed_parts)]
    for part in parts:
        try:
            with PartFile(part.path, TABLES[part.table]) as file:
                file.verify()
        except DamagedRunError:
            _set_aside(folder, part.path)
            result.parts_set_aside.append(os.path.relpath(part.path, os.path.dirname(folder)))
            result.changed = True


def _seal(folder: str, result: RecoverResult) -> None:
    sealed = seal_host(folder, final=True)
    result.segments_sealed += sealed.segments
    result.rows_sealed += sealed.rows
    result.changed |= bool(sealed.segments or sealed.merged)
    for path in sealed.unreadable:
        _set_aside(folder, path)
        result.segments_set_aside.append(os.path.relpath(path, os.path.dirname(folder)))
        result.changed = True
    if sealed.unreadable:
        seal_host(folder, final=True)  # what lay on both sides of them can be one part now


def _set_aside(folder: str, path: str) -> None:
    """Move a file into the host's folder of damaged files, under a name that nothing there has."""
    aside = os.path.join(folder, DAMAGED)
    os.makedirs(aside, mode=0o700, exist_ok=True)
    table = os.path.basename(os.path.dirname(path))
    target = os.path.join(aside, f"{table}.{os.path.basename(path)}")
    if os.path.exists(target):
        target = f"{target}.{new_token(4)}"
    os.rename(path, target)
    sync_directory(aside)
    sync_directory(os.path.dirname(path))


def _end_stages(path: str, loader: Loader, result: RecoverResult) -> None:
    """Put into the stage table what only the stage file knows, open spans ended."""
    from gpucost.store.parquet import rows_to_arrow, write_part

    if not any(marks.finished or marks.open for marks in loader.marks):
        return
    ends = _Ends(loader)
    for marks in loader.marks:
        rows = [*marks.finished, *(ends.end(span, marks) for span in marks.open)]
        if rows:
            table, folder = TABLES["stage"], host_dir(path, marks.clock.folder)
            write_part(os.path.join(folder, "stage"), table, new_token(), (1, 1), [rows_to_arrow(table, rows)], [])
            result.changed = True
        result.spans_added += len(marks.finished)
        result.spans_truncated += len(marks.open)


class _Ends:
    """Where an open span ends: when its process was last seen, else at the last sample, and never before it starts."""

    def __init__(self, loader: Loader) -> None:
        frame = loader.builders["process"].frame(ProblemLog())
        self._last_ns = loader.last_sample() or 0
        self._processes = frame.groupby(["host", "pid"], observed=True)["t_ns"].max().to_dict()

    def end(self, span: OpenSpan, marks: HostMarks) -> StageRow:
        clock = marks.clock
        start_ns = span.start_mono_ns + clock.shift_ns
        seen = self._processes.get((clock.host, span.pid))
        t_ns = max(start_ns, self._last_ns if seen is None or seen < start_ns else int(seen))
        mono_ns = t_ns - clock.shift_ns
        return span.ended(max(span.start_time_ns, clock.time_ns + mono_ns - clock.mono_ns), mono_ns, truncated=True)


def _close(path: str, loader: Loader, result: RecoverResult) -> None:
    manifest = loader.manifest
    end_ns, basis = loader.end()
    last = loader.last_sample()
    result.last_sample_time_ns = None if last is None else manifest.start_time_ns + last
    result.end_basis = basis
    result.end_time_ns = manifest.start_time_ns + end_ns if manifest.end_time_ns is None else manifest.end_time_ns
    if manifest.status == RECORDING:
        recorder = {**manifest.recorder, END_BASIS_KEY: basis}
        end_mono_ns = manifest.start_mono_ns + end_ns if manifest.end_mono_ns is None else manifest.end_mono_ns
        write_manifest(
            path,
            replace(
                manifest, status=RECOVERED, recorder=recorder, end_time_ns=result.end_time_ns, end_mono_ns=end_mono_ns
            ),
        )
        result.status, result.changed = RECOVERED, True
