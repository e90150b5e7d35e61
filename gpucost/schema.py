"""The tables of a recording: the one place that knows their columns, units and version.

Every table is a `NamedTuple` row type. Collectors emit rows, the journal writes them as JSON arrays in column order, the sealer makes
Parquet of them, and the reader gives them back as frames with the same columns. **Unknown is `None`, never 0.**

Units are suffixes: `_ns`, `_bytes`, `_pct` (0 to 100), `_w`, `_j`, `_mhz`, `_c`, `_s`. `time_ns` is UTC since the epoch, `mono_ns` is the
host's monotonic clock. Columns called "cumulative" only ever grow while the counted thing lives; analyzers difference them.

A reader opens every version up to `SCHEMA_VERSION`: columns that an older recording lacks are null, and columns it does not know are
ignored. A change that an older reader would misread raises `SCHEMA_VERSION`.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, get_args, get_type_hints

from gpucost._version import SCHEMA_VERSION as SCHEMA_VERSION  # noqa: PLC0414 (handed on: it is the schema's, kept where it costs no import)


class GpuRow(NamedTuple):
    """One reading of one GPU (or MIG device) at one tick."""

    time_ns: int
    mono_ns: int
    gpu_uuid: str
    gpu_util_pct: float | None = None  # share of the driver's last sample period in which a kernel was executing
    memory_util_pct: float | None = None  # share of that period in which device memory was being read or written
    memory_used_bytes: int | None = None  # includes what the driver reserves
    power_w: float | None = None  # instantaneous
    power_average_w: float | None = None  # the driver's own average, 1 s where it has one
    energy_j: float | None = None  # cumulative, since the driver was loaded
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    pstate: int | None = None  # 0 (fastest) to 15
    clocks_event_reasons: int | None = None  # NVML's bits
    pcie_tx_bytes: int | None = None  # cumulative, from the GPU
    pcie_rx_bytes: int | None = None  # cumulative, to the GPU
    processes: int | None = (
        None  # processes on the GPU; null at ticks that did not ask, and where the list cannot be read
    )
    run_processes: int | None = None  # of those, how many belong to the run; null where `processes` is
    # True activity (GPM): means over the SM clock's cycles in a window that ends here; `sm_clock_mhz` stands beside them.
    activity_window_ns: int | None = None  # length of that window; null: none ends here, and all that follow are null
    gr_active_pct: float | None = None  # a graphics or compute context was working
    sm_active_pct: float | None = None  # SMs with at least one warp
    sm_occupancy_pct: float | None = None  # warps on the SMs, of the most that fit
    tensor_active_pct: float | None = None
    fp64_active_pct: float | None = None
    fp32_active_pct: float | None = None
    fp16_active_pct: float | None = None
    dram_active_pct: float | None = None  # of the memory's bandwidth
    pcie_tx_bytes_per_s: float | None = None  # from the GPU
    pcie_rx_bytes_per_s: float | None = None  # to the GPU
    nvlink_tx_bytes_per_s: float | None = None
    nvlink_rx_bytes_per_s: float | None = None
    # Counters and link states, about once a second.
    nvlink_tx_bytes: int | None = None  # cumulative, all links
    nvlink_rx_bytes: int | None = None  # cumulative, all links
    sw_power_cap_ns: int | None = None  # cumulative time in which the power limit held the clocks down
    sw_thermal_ns: int | None = None  # cumulative time in which the driver held them down for the temperature
    hw_thermal_ns: int | None = None  # cumulative time in which the hardware did
    hw_power_brake_ns: int | None = None  # cumulative time in which the power supply asked for it
    sync_boost_ns: int | None = None  # cumulative time in which another GPU of the sync boost group did
    pcie_link_gen: int | None = None  # as it is now: links slow down when nothing is to be carried
    pcie_link_width: int | None = None  # lanes


class GpuSampleRow(NamedTuple):
    """What one GPU's driver kept of itself between ticks; its own time stamp, so that nothing is there twice."""

    time_ns: int
    mono_ns: int
    gpu_uuid: str
    power_w: float | None = (
        None  # mean over a tenth of a second, or the driver's sample period where that is longer, around this time
    )
    module_power_w: float | None = None  # of a module that holds CPU and GPU
    gpu_util_pct: float | None = None  # of the driver's sample period that ends here
    memory_util_pct: float | None = None


class GpuProcessRow(NamedTuple):
    """One process on one GPU at one poll of the process list (about 1 Hz)."""

    time_ns: int
    mono_ns: int
    gpu_uuid: str
    pid: int
    start_time_ns: int | None = None  # start of the process, UTC since the epoch; a reused pid has another
    in_run: bool | None = (
        None  # descends from the recorded command; null when that cannot be told (another namespace, an MPS server)
    )
    kind: str | None = None  # compute, graphics, mps
    memory_used_bytes: int | None = None
    sm_util_pct: float | None = None  # mean of the driver's samples since the last poll
    memory_util_pct: float | None = None
    util_samples: int | None = None  # how many of the driver's samples that mean rests on


class ProcessRow(NamedTuple):
    """One process of the command's tree at one poll (about 1 Hz)."""

    time_ns: int
    mono_ns: int
    pid: int
    start_time_ns: int  # UTC since the epoch, from the boot time and the start in clock ticks
    ppid: int | None = None
    name: str | None = None
    state: str | None = None  # R, S, D, T, Z, I as in /proc
    cpu_s: float | None = None  # cumulative, user and system
    rss_bytes: int | None = None
    read_bytes: int | None = None  # cumulative, from storage
    write_bytes: int | None = None  # cumulative, to storage
    threads: int | None = None
    voluntary_switches: int | None = None  # cumulative
    involuntary_switches: int | None = None  # cumulative


class MachineRow(NamedTuple):
    """The host at one tick (about 1 Hz)."""

    time_ns: int
    mono_ns: int
    cpu_util_pct: float | None = None  # all cores together, 0 to 100, since the last row
    cpu_max_core_util_pct: float | None = None  # the busiest core
    load_1m: float | None = None
    memory_available_bytes: int | None = None
    memory_used_bytes: int | None = None
    swap_used_bytes: int | None = None
    swap_in_bytes: int | None = None  # cumulative
    swap_out_bytes: int | None = None  # cumulative
    disk_read_bytes: int | None = None  # cumulative
    disk_write_bytes: int | None = None  # cumulative
    net_rx_bytes: int | None = None  # cumulative, without loopback
    net_tx_bytes: int | None = None  # cumulative, without loopback
    psi_cpu_some_s: float | None = None  # cumulative time in which some task waited (pressure stall information)
    psi_memory_some_s: float | None = None
    psi_memory_full_s: float | None = None
    psi_io_some_s: float | None = None
    psi_io_full_s: float | None = None


class StageRow(NamedTuple):
    """One finished span of a stage. A span still open is only in the stage file."""

    stage_id: str
    name: str
    start_time_ns: int
    end_time_ns: int
    start_mono_ns: int
    end_mono_ns: int
    parent_id: str | None = None
    pid: int | None = None
    attributes: str | None = None  # a JSON object
    source: str = "python"  # python, file, command, ...
    truncated: bool = False  # closed by its process's end, not by itself


class EventRow(NamedTuple):
    """Something that happened once."""

    time_ns: int
    mono_ns: int
    kind: str  # collector_failed, collector_recovered, gpu_lost, clock_stepped, ticks_missed, journal_failed, ...
    source: str  # who says so: a collector's name, or "recorder"
    subject: str | None = None  # what it is about: a GPU's UUID, a pid, a path
    message: str | None = None  # one line for a person


class RecorderRow(NamedTuple):
    """What one collector of the recorder cost and missed, cumulative; the row named "recorder" is the whole process."""

    time_ns: int
    mono_ns: int
    collector: str
    cpu_s: float | None = None  # cumulative CPU of the whole recorder process; only in the row "recorder"
    rss_bytes: int | None = None
    ticks: int | None = None  # cumulative
    ticks_late: int | None = None  # started more than half a period after their deadline
    ticks_missed: int | None = None  # deadlines that passed without a sample
    errors: int | None = None
    sample_s: float | None = None  # cumulative wall time inside sample()
    driver_s: float | None = None  # cumulative wall time inside the driver's calls
    driver_calls: int | None = None
    journal_bytes: int | None = None
    rows_dropped: int | None = None  # rows that could not be written


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its folder's name, its row type, and how its columns are stored."""

    name: str
    row: type[Any]
    narrow: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(self.row._fields)

    def kinds(self) -> dict[str, str]:
        """Column name to one of int64, int32, int16, float64, float32, string, bool."""
        plain = {int: "int64", float: "float64", str: "string", bool: "bool"}
        hints = get_type_hints(self.row)
        found = {}
        for name in self.columns:
            types = [t for t in (get_args(hints[name]) or (hints[name],)) if t is not type(None)]
            found[name] = self.narrow.get(name, plain[types[0]])
        return found

    def required(self) -> frozenset[str]:
        """Columns that are never null."""
        hints = get_type_hints(self.row)
        return frozenset(name for name in self.columns if type(None) not in get_args(hints[name]))


_GPU_NARROW = {
    "gpu_util_pct": "float32",
    "memory_util_pct": "float32",
    "power_w": "float32",
    "power_average_w": "float32",
    "sm_clock_mhz": "int32",
    "memory_clock_mhz": "int32",
    "temperature_c": "int16",
    "pstate": "int16",
    "processes": "int32",
    "run_processes": "int32",
    "gr_active_pct": "float32",
    "sm_active_pct": "float32",
    "sm_occupancy_pct": "float32",
    "tensor_active_pct": "float32",
    "fp64_active_pct": "float32",
    "fp32_active_pct": "float32",
    "fp16_active_pct": "float32",
    "dram_active_pct": "float32",
    "pcie_tx_bytes_per_s": "float32",
    "pcie_rx_bytes_per_s": "float32",
    "nvlink_tx_bytes_per_s": "float32",
    "nvlink_rx_bytes_per_s": "float32",
    "pcie_link_gen": "int16",
    "pcie_link_width": "int16",
}

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table("gpu", GpuRow, _GPU_NARROW),
        Table(
            "gpu_sample",
            GpuSampleRow,
            {
                "power_w": "float32",
                "module_power_w": "float32",
                "gpu_util_pct": "float32",
                "memory_util_pct": "float32",
            },
        ),
        Table(
            "gpu_process",
            GpuProcessRow,
            {"sm_util_pct": "float32", "memory_util_pct": "float32", "util_samples": "int32"},
        ),
        Table("process", ProcessRow, {"threads": "int32"}),
        Table(
            "machine", MachineRow, {"cpu_util_pct": "float32", "cpu_max_core_util_pct": "float32", "load_1m": "float32"}
        ),
        Table("stage", StageRow),
        Table("event", EventRow),
        Table("recorder", RecorderRow),
    )
}
"""Every table by the name of its folder."""
