"""Reading a run: every table as a frame, whatever state its recorder left it in."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from gpucost.errors import DamagedRunError, UsageError
from gpucost.manifest import RECORDING, RECOVERED
from gpucost.marks import OpenSpan
from gpucost.recording import ProblemLog, Recording
from gpucost.rundir import DAMAGED, STAGES, host_dir, hosts, is_live, printable, safe_host
from gpucost.schema import TABLES, StageRow, Table
from gpucost.store.frames import FrameBuilder
from gpucost.store.layout import list_host
from gpucost.store.manifest_io import read_manifest
from gpucost.store.parquet import rows_to_arrow
from gpucost.store.stagefile import fold_marks
from gpucost.store.tables import read_table

END_BASIS_KEY = "end_basis"
"""Where the manifest of a recovered run keeps what its end rests on (in `recorder`)."""

STAGE_STARTED = "stage_started"
"""The kind of event by which the recorder notes when it first saw a stage that brought no time of its own; the subject is the stage's id."""

_BASES = ("exit", "last_sample", "last_mark")
_TRIES = 10
_MARK_SLACK_NS = 60_000_000_000


def load(
    path: str,
    *,
    tables: Collection[str] | None = None,
    columns: Mapping[str, Collection[str]] | None = None,
    grouped: Collection[str] = (),
) -> Recording:
    """Read a run directory.

    Args:
        path: the run directory, as `gpucost.rundir.find` gives it.
        tables: only these tables have rows; None for all.
        columns: for each table named here, the only columns that its frame has besides its keys and its times on the run's axis. The
            frame of a long run is then as small as what is asked of it.
        grouped: tables whose rows are to be in the order of what they are about (UUID, pid), and only within that in time order. A table
            of millions of rows is there sooner, and whoever looks at one GPU after the other finds its rows side by side. Numbers that
            float32 holds exactly are float32, and columns that are unknown in every row are left out.

    Raises:
        DamagedRunError: the manifest or a sealed part cannot be read.
        NewerSchemaError: a newer gpucost wrote the run.
        UsageError: there is no such table or column.
    """
    _check_selection([*(tables or ()), *grouped], columns or {})
    for _ in range(_TRIES):
        # The last sealer may remove the stage file meanwhile; then all of it is in the stage table.
        with suppress(FileNotFoundError):
            loader = Loader(path, tables, columns or {}, grouped)
            loader.read()
            return loader.recording()
    raise DamagedRunError(f"{printable(path)} changes faster than it can be read", hint="try again")


class HostClock(NamedTuple):
    """One instant of a host on both of its clocks, and what its monotonic clock needs to be the run's axis.

    Attributes:
        host: the host's name.
        folder: the same, as it stands in the path.
        time_ns: the instant, UTC since the epoch.
        mono_ns: the instant on the monotonic clock.
        shift_ns: what to add to the monotonic clock.
    """

    host: str
    folder: str
    time_ns: int
    mono_ns: int
    shift_ns: int


class HostMarks(NamedTuple):
    """What the stage file of a host says that its stage table does not.

    Attributes:
        clock: the host's clock.
        finished: spans that have ended.
        open: spans that have not.
    """

    clock: HostClock
    finished: list[StageRow]
    open: list[OpenSpan]


class Loader:
    """One attempt at reading a run; `load` is what others call.

    Attributes:
        manifest: what `run.json` says.
        live: a recorder is still writing the run.
        builders: the rows, by table.
        marks: what only the stage files know, one entry a host that has such a file.
        problems: what was wrong.
    """

    def __init__(
        self,
        path: str,
        tables: Collection[str] | None,
        columns: Mapping[str, Collection[str]],
        grouped: Collection[str] = (),
    ) -> None:
        # Whoever is gone before the manifest is read will not change it any more.
        locked = is_live(path)
        self.manifest = read_manifest(path)
        self.live = locked and self.manifest.status == RECORDING
        self.problems = ProblemLog()
        self.marks: list[HostMarks] = []
        self._path = path
        self._wanted = {name for name in TABLES if tables is None or name in tables}
        self._needed = set(TABLES) if self._closed_end() is None else self._wanted
        self.builders = {
            name: FrameBuilder(TABLES[name], columns.get(name) if name in self._wanted else (), grouped=name in grouped)
            for name in self._needed
        }
        self._last_mark_ns: int | None = None

    def recording(self) -> Recording:
        """The run, after `read`."""
        end_ns, basis = self.end()
        frames = {}
        for name, table in TABLES.items():
            builder = self.builders[name] if name in self._wanted else FrameBuilder(table)
            if name == "stage" and name in self._wanted:
                self._add_marks(builder)
            frames[name] = builder.frame(self.problems)
            pa.default_memory_pool().release_unused()  # what turning it took
        if self.manifest.status == RECORDING and not self.live:
            self.problems.add(
                "not_closed", "the recorder did not close this run: it was killed, or the machine went down"
            )
        return Recording(self.manifest, frames, end_ns, basis, self.live, self.problems.found(), self._path)

    def read(self) -> None:
        """Read every host's files.

        Raises:
            FileNotFoundError: a sealer removed a stage file meanwhile.
        """
        for host in hosts(self._path):
            folder = host_dir(self._path, host)
            # A stage file that goes away after this has put more into the table than is listed next.
            has_marks = "stage" in self._needed and os.path.exists(os.path.join(folder, STAGES))
            self._note_files(folder)
            clock = self._clock(host, folder)
            ids: set[str] = set()
            for table in TABLES.values():
                if table.name in self._needed:
                    ids.update(self._read_table(table, folder, clock))
            if has_marks:
                self._read_marks(folder, clock, ids)

    def end(self) -> tuple[int, str]:
        """The run's length and what it rests on, after `read`."""
        return self._closed_end() or self.last_known()

    def last_known(self) -> tuple[int, str]:
        """The last thing known to have happened, and whether it is a sample or a stage mark."""
        sample = self.last_sample() or 0
        if self._last_mark_ns is not None and self._last_mark_ns > sample:
            return self._last_mark_ns, "last_mark"
        return sample, "last_sample"

    def last_sample(self) -> int | None:
        """The time of the latest sample on the run's axis, after `read`; None if there is none."""
        found = [
            builder.last_ns
            for name, builder in self.builders.items()
            if name != "stage" and builder.last_ns is not None
        ]
        return max(0, *found) if found else None

    def _closed_end(self) -> tuple[int, str] | None:
        manifest = self.manifest
        if manifest.end_mono_ns is not None:
            end_ns = manifest.end_mono_ns - manifest.start_mono_ns
        elif manifest.end_time_ns is not None:
            end_ns = manifest.end_time_ns - manifest.start_time_ns
        else:
            return None
        kept = manifest.recorder.get(END_BASIS_KEY)
        return max(0, end_ns), kept if manifest.status == RECOVERED and kept in _BASES else "exit"

    def _note_files(self, folder: str) -> None:
        files = list_host(folder)
        self.problems.add(
            "foreign_file",
            f"{printable(files.foreign[0]) if files.foreign else ''} is not a file of gpucost",
            len(files.foreign),
        )
        with suppress(OSError):
            aside = len(os.listdir(os.path.join(folder, DAMAGED)))
            self.problems.add(
                "set_aside", f"damaged files were set aside in {printable(os.path.join(folder, DAMAGED))}", aside
            )

    def _clock(self, host: str, folder: str) -> HostClock:
        manifest = self.manifest
        known = next((entry for name, entry in manifest.hosts.items() if safe_host(name) == host), None)
        if known is not None:
            name, time_ns, mono_ns = known.name, known.start_time_ns, known.start_mono_ns
        else:
            name, time_ns, mono_ns = host, manifest.start_time_ns, manifest.start_mono_ns
            if manifest.hosts:
                self.problems.add(
                    "unknown_host",
                    f"the manifest does not know the host {host}; its clock is placed by the time of day",
                )
                time_ns, mono_ns = next(_readings(folder), (time_ns, mono_ns))
        return HostClock(name, host, time_ns, mono_ns, time_ns - manifest.start_time_ns - mono_ns)

    def _read_table(self, table: Table, folder: str, clock: HostClock) -> set[str]:
        """Read one table of one host; returns the ids of spans, if it is of stages."""
        builder, ids = self.builders[table.name], set()
        for rows in read_table(folder, table, builder.read, live=self.live):
            self.problems.extend(rows.problems.found())
            for batch in rows.batches:
                builder.add(batch, clock.host, clock.shift_ns)
                if table.name == "stage":
                    ids.update(batch.column("stage_id").to_pylist())
        return ids

    def _read_marks(self, folder: str, clock: HostClock, ids: set[str]) -> None:
        """Read what the stage file knows and the stage table does not.

        A mark that brought no time of its own has that at which the recorder first saw it, if the recorder noted it, else the run's last.
        """
        now_mono_ns = max(0, (self.last_sample() or 0) - clock.shift_ns)
        path = os.path.join(folder, STAGES)
        marks = fold_marks(path, clock.time_ns + now_mono_ns - clock.mono_ns, now_mono_ns)
        if marks is None:
            raise FileNotFoundError(path)
        self.problems.extend(marks.reader.problems)
        finished = [row for row in marks.finished if row.stage_id not in ids]
        spans = [span for span in marks.reader.open_spans() if span.stage_id not in ids]
        untimed = {span.stage_id for span in spans} & marks.reader.untimed
        seen = _seen_starts(folder) if untimed else {}
        self.problems.add(
            "untimed_stage", "a stage brought no time, and nobody noted when it started", len(untimed - seen.keys())
        )
        spans = [
            _started(span, *seen[span.stage_id]) if span.stage_id in untimed & seen.keys() else span for span in spans
        ]
        self.marks.append(HostMarks(clock, finished, spans))
        latest = marks.changed_ns + _MARK_SLACK_NS - self.manifest.start_time_ns
        times = [row.end_mono_ns for row in marks.finished] + [span.start_mono_ns for span in spans]
        honest = [t for t in (mono_ns + clock.shift_ns for mono_ns in times) if t <= latest]
        if honest:
            self._last_mark_ns = max(*honest, self._last_mark_ns or 0)

    def _add_marks(self, builder: FrameBuilder) -> None:
        for clock, finished, spans in self.marks:
            rows = [*finished, *(_unended(span) for span in spans)]
            builder.add(rows_to_arrow(TABLES["stage"], rows), clock.host, clock.shift_ns)


def _unended(span: OpenSpan) -> tuple[Any, ...]:
    """A row of the stage table whose end is unknown."""
    row: dict[str, Any] = span.ended(0, 0)._asdict()
    return tuple({**row, "end_time_ns": None, "end_mono_ns": None}.values())


def _check_selection(tables: Collection[str] | None, columns: Mapping[str, Collection[str]]) -> None:
    unknown = sorted({*(tables or ()), *columns} - TABLES.keys())
    if unknown:
        raise UsageError(f"there is no table {printable(unknown[0])}", hint=f"tables are {', '.join(TABLES)}")
    for name, wanted in columns.items():
        missing = sorted(set(wanted) - set(TABLES[name].columns))
        if missing:
            raise UsageError(f"the table {name} has no column {printable(missing[0])}")


def _readings(folder: str) -> Iterator[tuple[int, int]]:
    """Instants of a host on both of its clocks, from its samples."""
    for table in TABLES.values():
        if table.name != "stage":
            for rows in read_table(folder, table, ["time_ns", "mono_ns"]):
                for batch in rows.batches:
                    yield from zip(
                        batch.column("time_ns").to_pylist(), batch.column("mono_ns").to_pylist(), strict=True
                    )


def _started(span: OpenSpan, time_ns: int, mono_ns: int) -> OpenSpan:
    return span._replace(start_time_ns=time_ns, start_mono_ns=mono_ns)


def _seen_starts(folder: str) -> dict[str, tuple[int, int]]:
    """When the recorder first saw the stages whose starts brought no time."""
    files = read_table(folder, TABLES["event"], ["kind", "subject", "time_ns", "mono_ns"])
    return {
        row["subject"]: (row["time_ns"], row["mono_ns"])
        for rows in files
        for batch in rows.batches
        for row in batch.filter(pc.equal(batch.column("kind"), STAGE_STARTED)).to_pylist()
    }
