"""The contract of a collector, and what the recorder lends it.

A collector is a source of rows: it knows its driver or its corner of /proc, and nothing of money, files or other collectors. The
recorder gives each collector a thread of its own, so a call that hangs stops only that collector. To add one: write a file with a class
that satisfies `Collector`, and register it in `gpucost.collectors` (or, from another distribution, under the entry point group
`gpucost.collectors`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from gpucost.clock import Clock
from gpucost.errors import GpucostError


class SourceUnavailable(GpucostError):  # noqa: N818 (it is a state of the machine, and nobody's error)
    """Raised by `Collector.start`: what the collector reads is not there. The message is one clear line for a person.

    Attributes:
        permanent: nothing that may happen during the run brings it back, so there is no point in trying again.
    """

    def __init__(self, message: str, *, permanent: bool, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.permanent = permanent


class Tier(NamedTuple):
    """One rate at which a collector wants to be called.

    Attributes:
        name: what `sample` is told.
        period_ns: time between two deadlines; deadlines are absolute, so a slow sample never makes the series drift.
    """

    name: str
    period_ns: int


class Emit(Protocol):
    """Takes one row of a table; cheap, never blocks, never raises."""

    def __call__(self, table: str, row: tuple[Any, ...], /) -> None:
        """Hand over `row`, in the column order of `gpucost.schema.TABLES[table]`."""
        ...


class Report(Protocol):
    """Takes one event; repeated identical events within a minute are folded by the recorder."""

    def __call__(self, kind: str, message: str, *, subject: str | None = None) -> None:
        """Record that something happened."""
        ...


class Describe(Protocol):
    """Takes facts for the manifest that are known only once the source is open (GPUs, driver versions)."""

    def __call__(self, key: str, value: Any, /) -> None:
        """Set `key` of the manifest; a later call with the same key replaces it."""
        ...


@dataclass(slots=True)
class DriverMeter:
    """What a collector's calls into its driver have cost so far; the collector adds, the recorder reads."""

    calls: int = 0
    wall_ns: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """What the recorder lends to a collector for one run.

    Attributes:
        clock: the clocks of this run.
        emit: takes rows.
        report: takes events.
        describe: takes facts for the manifest.
        root_pid: the recorder's pid; every process of the run descends from it (it is a child subreaper).
        command_pid: the recorded command's pid.
        hz: ticks a second that the user asked for.
        gpus: the user's `--gpus` value ("" when not given): `all`, indices, UUIDs, or `sim:MODEL:N`.
        bill: `visible` or `node`.
        environ: the command's environment (for CUDA_VISIBLE_DEVICES and the like).
        stage_file: where the command writes stage marks.
        attached_pids: processes outside the command's tree that belong to the run all the same, with all below them.
        attached_names: the same, by the name of the program.
        call_budget_pct: share of a tick (above 0, up to 100) that all calls into a driver may take together.
        meter: cost of driver calls, kept by the collector itself.
        status: what the recorder tells of itself: collector name to a mapping with the keys of `gpucost.schema.RecorderRow`; "recorder" is the
            whole process, and its `own_pids` are the pids of the recorder's own children, which are not part of the command's tree.
    """

    clock: Clock
    emit: Emit
    report: Report
    describe: Describe
    root_pid: int
    command_pid: int
    hz: float
    gpus: str
    bill: str
    environ: Mapping[str, str]
    stage_file: str
    attached_pids: Sequence[int] = ()
    attached_names: Sequence[str] = ()
    call_budget_pct: float = 1.0
    meter: DriverMeter = field(default_factory=DriverMeter)
    status: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@runtime_checkable
class Collector(Protocol):
    """A source of rows.

    The recorder calls, always from the same thread: `start` once (it may take long, or raise), then `sample` for each tier at
    once and at its deadlines, a last `sample` of every tier when the command has ended, then `stop`. An exception in `sample` is recorded, and the
    collector is tried again after a back-off; an exception in `start` is retried in the same way.
    """

    name: str

    def start(self, context: Context) -> Sequence[Tier]:
        """Open the source and say at which rates to sample."""
        ...

    def sample(self, tier: str) -> None:
        """Take one sample of a tier and emit its rows."""
        ...

    def stop(self) -> None:
        """Close the source; called once, also after a failure."""
        ...
