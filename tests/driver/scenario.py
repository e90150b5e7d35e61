"""What a stand-in driver says, as dataclasses, with the exact truth behind it.

A `Scenario` is written with `write` and read by the C library. Time is in seconds here (nanoseconds in the file), from the scenario's
time zero. A timeline is a step function: a plain number, or `[(second, value), ...]` in which each value holds until the next second and
the first value holds before it too.

The truth functions at the end of `Gpu` say what is so (`busy_seconds`, `energy_j`) and what the driver would answer at an instant
(`utilization_reading`, `energy_reading_mj`); both sides compute in integers, so they agree to the last digit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

NS = 1_000_000_000
GIB = 1 << 30
MIB = 1 << 20

Steps = float | Sequence[tuple[float, float]]
"""A number for all time, or (second, value) pairs in order."""


def ns(seconds: float) -> int:
    """Seconds in whole nanoseconds."""
    return round(Fraction(seconds).limit_denominator(NS) * NS)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A step function in integers: `values[i]` holds from `times_ns[i]` on, the first one also before it."""

    times_ns: tuple[int, ...]
    values: tuple[int, ...]

    @classmethod
    def of(cls, steps: Steps, scale: int = 1) -> "Timeline":
        """From steps in natural units; `scale` turns those into the file's integers."""
        pairs = [(0.0, float(steps))] if isinstance(steps, int | float) else list(steps)
        return cls(tuple(ns(time) for time, _ in pairs), tuple(round(Fraction(value) * scale) for _, value in pairs))

    def at(self, t_ns: int) -> int:
        """The value at an instant."""
        return self.values[sum(1 for time in self.times_ns[1:] if time <= t_ns)]

    def integral(self, from_ns: int, to_ns: int) -> int:
        """The exact integral: value x nanoseconds."""
        inner = self.times_ns[1:]
        starts, ends = (min(from_ns, self.times_ns[0]), *inner), (*inner, max(to_ns, self.times_ns[-1]))
        spans = zip(starts, ends, self.values, strict=True)
        return sum(value * max(0, min(end, to_ns) - max(start, from_ns)) for start, end, value in spans)

    def mean(self, from_ns: int, to_ns: int) -> int:
        """The mean over a stretch, rounded down."""
        return self.integral(from_ns, to_ns) // (to_ns - from_ns) if to_ns > from_ns else self.at(to_ns)

    def text(self) -> str:
        """As the library reads it."""
        return " ".join(f"{time}:{value}" for time, value in zip(self.times_ns, self.values, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process on a GPU from `start_s` to `end_s` (null: for all time).

    Give `pid`, or `pid_file`: a path in which the pid will be found as text. Such a process is on the GPU while the file names a living one.

    Attributes:
        kinds: some of `c` (compute), `g` (graphics), `m` (MPS client); one process may be in several lists.
        memory_bytes: null: the driver does not say.
        sm_util_pct: what the per-process samples say, which are those above zero.
        sample_pid: what the samples call it, where they speak of another PID namespace than the lists; 0: the same.
        elsewhere: the pid in the file is one of another namespace than the caller's: it is not asked whether it lives.
    """

    pid: int = 0
    pid_file: str | Path | None = None
    kinds: str = "c"
    memory_bytes: int | None = 0
    sm_util_pct: Steps = 0
    memory_util_pct: Steps = 0
    sample_pid: int = 0
    elsewhere: bool = False
    start_s: float | None = None
    end_s: float | None = None

    def lines(self) -> list[str]:
        """As the library reads it."""
        who = f"pid_file={quote(str(self.pid_file))}" if self.pid_file else f"pid={self.pid}"
        parts = [f"process {who} kinds={self.kinds} memory={-1 if self.memory_bytes is None else self.memory_bytes}"]
        parts += [f"sample_pid={self.sample_pid}"] if self.sample_pid else []
        parts += ["elsewhere=1"] if self.elsewhere else []
        parts += [f"start={ns(self.start_s)}"] if self.start_s is not None else []
        parts += [f"end={ns(self.end_s)}"] if self.end_s is not None else []
        used = {"sm": self.sm_util_pct, "mem": self.memory_util_pct}
        return [" ".join(parts), *(f"series {name} {Timeline.of(steps, 1000).text()}" for name, steps in used.items())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What GPM says of a GPU or a MIG device, percent of SM cycles; null: the metric does not exist.

    Attributes:
        graphics: null: the utilization.
    """

    graphics: Steps | None = None
    sm: Steps | None = 0
    occupancy: Steps | None = 0
    tensor: Steps | None = 0
    fp64: Steps | None = 0
    fp32: Steps | None = 0
    fp16: Steps | None = 0
    dram: Steps | None = 0

    def timelines(self) -> dict[str, "Timeline"]:
        """As the library names them."""
        given = {
            "gr_active": self.graphics,
            "sm_active": self.sm,
            "sm_occupancy": self.occupancy,
            "tensor": self.tensor,
            "fp64": self.fp64,
            "fp32": self.fp32,
            "fp16": self.fp16,
            "dram": self.dram,
        }
        return {name: Timeline.of(steps, 1000) for name, steps in given.items() if steps is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mig:
    """A MIG device of a GPU: one compute instance (`ci`) of a GPU instance (`gi`)."""

    uuid: str
    gi: int = 1
    ci: int = 0
    gi_slices: int = 1
    ci_slices: int = 1
    index: int | None = None
    name: str | None = None
    memory_bytes: int = 9856 * MIB
    reserved_bytes: int = 16 * MIB
    used_bytes: Steps | None = None
    activity: Activity | None = None
    processes: Sequence[Process] = ()

    def lines(self, position: int, gpu_name: str) -> list[str]:
        """As the library reads it."""
        head = (
            f"mig index={position if self.index is None else self.index} uuid={quote(self.uuid)} name={quote(self.name or gpu_name)} "
            f"gi={self.gi} ci={self.ci} gi_slices={self.gi_slices} ci_slices={self.ci_slices} "
            f"memory={self.memory_bytes} reserved={self.reserved_bytes}"
        )
        used = [] if self.used_bytes is None else [f"series memory {Timeline.of(self.used_bytes).text()}"]
        timelines = self.activity.timelines() if self.activity else {}
        active = [f"series {name} {timeline.text()}" for name, timeline in timelines.items()]
        return [head, *used, *active, *(line for process in self.processes for line in process.lines())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU: identity, how its sensors behave, and what it does over time.

    Attributes:
        used_bytes: memory allocated, without the driver's reserve; null: the sum of what its processes hold.
        module_power_w: power of a module that holds CPU and GPU; null where there is no such thing.
        module_scope_only: power and energy exist for the module alone.
        power_averages: the plain power call and the "average" field give a one-second mean (else the plain call is instantaneous, and
            the field does not exist).
        util_period_s: utilization is the mean over the last completed period of this length; 0: the instant.
        energy_period_s: the energy counter moves once in this time; 0: continuously.
        process_period_s: distance of per-process samples; 0: one average since the last call.
        process_ring: each of those samples names the one process that was caught on the SMs, and what all of them used together.
        power_period_s: the power sensor is renewed once in this time; 0: continuously.
        power_window_s: it then says the mean over this long before the renewal; null: over the period.
        power_sample_period_s: distance of the buffered power samples.
        buffered: the driver keeps buffered samples of power and utilization.
        activity: true activity (GPM); null: a GPU without it.
        nvlink_tx_bytes_per_s: over all links; null: no NVLink.
        pcie_counter_bits: 32 (wraps, and is a 32-bit value) or 64.
        privileged: the caller may ask a GPU in MIG mode for its sums.
    """

    uuid: str = ""
    name: str = "NVIDIA H100 80GB HBM3"
    pci: str = ""
    memory_bytes: int = 80 * GIB
    reserved_bytes: int = 512 * MIB
    power_limit_w: float = 700
    architecture: int = 9
    compute_capability: tuple[int, int] = (9, 0)
    pcie_gen: int = 4
    pcie_width: int = 16
    pcie_counter_bits: int = 32
    util_period_s: float = 0.2
    energy_period_s: float = 0.1
    energy_base_j: float = 0
    process_period_s: float = 0.125
    process_ring: bool = False
    power_period_s: float = 0
    power_window_s: float | None = None
    power_sample_period_s: float = 0.02
    buffered: bool = True
    module_scope_only: bool = False
    power_averages: bool = True
    privileged: bool = False
    mig_enabled: bool = False
    mig_max: int = 7
    util_pct: Steps = 0
    memory_util_pct: Steps = 0
    used_bytes: Steps | None = None
    power_w: Steps = 70
    module_power_w: Steps | None = None
    sm_clock_mhz: Steps = 1980
    memory_clock_mhz: Steps = 2619
    temperature_c: Steps = 40
    pstate: Steps = 0
    reasons: Steps = 0
    pcie_tx_bytes_per_s: Steps = 0
    pcie_rx_bytes_per_s: Steps = 0
    nvlink_tx_bytes_per_s: Steps | None = None
    nvlink_rx_bytes_per_s: Steps | None = None
    activity: Activity | None = None
    processes: Sequence[Process] = ()
    migs: Sequence[Mig] = ()

    def _series(self) -> dict[str, Timeline]:
        found = {
            "util": Timeline.of(self.util_pct, 1000),
            "memory_util": Timeline.of(self.memory_util_pct, 1000),
            "power": self.power_mw,
            "sm_clock": Timeline.of(self.sm_clock_mhz),
            "memory_clock": Timeline.of(self.memory_clock_mhz),
            "temperature": Timeline.of(self.temperature_c),
            "pstate": Timeline.of(self.pstate),
            "reasons": Timeline.of(self.reasons),
            "pcie_tx": Timeline.of(self.pcie_tx_bytes_per_s),
            "pcie_rx": Timeline.of(self.pcie_rx_bytes_per_s),
        }
        if self.used_bytes is not None:
            found["memory"] = Timeline.of(self.used_bytes)
        if self.module_power_w is not None:
            found["module_power"] = Timeline.of(self.module_power_w, 1000)
        if self.nvlink_tx_bytes_per_s is not None:
            found["nvlink_tx"] = Timeline.of(self.nvlink_tx_bytes_per_s)
        if self.nvlink_rx_bytes_per_s is not None:
            found["nvlink_rx"] = Timeline.of(self.nvlink_rx_bytes_per_s)
        return {**found, **(self.activity.timelines() if self.activity else {})}

    def lines(self) -> list[str]:
        """As the library reads it."""
        facts = {
            "uuid": quote(self.uuid),
            "name": quote(self.name),
            "pci": quote(self.pci),
            "memory": self.memory_bytes,
            "reserved": self.reserved_bytes,
            "limit_mw": round(self.power_limit_w * 1000),
            "arch": self.architecture,
            "cc_major": self.compute_capability[0],
            "cc_minor": self.compute_capability[1],
            "pcie_gen": self.pcie_gen,
            "pcie_width": self.pcie_width,
            "counter_bits": self.pcie_counter_bits,
            "util_period": ns(self.util_period_s),
            "energy_period": ns(self.energy_period_s),
            "energy_base_mj": round(self.energy_base_j * 1000),
            "process_period": ns(self.process_period_s),
            "module_scope_only": int(self.module_scope_only),
            "power_averages": int(self.power_averages),
            "privileged": int(self.privileged),
            "mig_enabled": int(self.mig_enabled),
            "mig_max": self.mig_max,
            "process_ring": int(self.process_ring),
            "power_period": ns(self.power_period_s),
            "power_window": ns(self.power_period_s if self.power_window_s is None else self.power_window_s),
            "power_sample_period": ns(self.power_sample_period_s),
            "buffered": int(self.buffered),
            "gpm": int(self.activity is not None or any(mig.activity for mig in self.migs)),
        }
        lines = ["gpu " + " ".join(f"{key}={value}" for key, value in facts.items())]
        lines += [f"series {name} {timeline.text()}" for name, timeline in self._series().items()]
        lines += [line for process in self.processes for line in process.lines()]
        return lines + [line for position, mig in enumerate(self.migs) for line in mig.lines(position, self.name)]

    # The truth.

    @property
    def power_mw(self) -> Timeline:
        """Power in milliwatts."""
        return Timeline.of(self.power_w, 1000)

    def busy_seconds(self, from_ns: int, to_ns: int) -> float:
        """Seconds of a stretch in which kernels were executing."""
        return float(Fraction(Timeline.of(self.util_pct, 1000).integral(from_ns, to_ns), 100_000 * NS))

    def energy_j(self, from_ns: int, to_ns: int) -> float:
        """Energy of a stretch: the exact integral of power."""
        return float(Fraction(self.power_mw.integral(from_ns, to_ns), 1000 * NS))

    def utilization_reading(self, t_ns: int) -> int:
        """What the driver answers as utilization at an instant, whole percent."""
        timeline, period = Timeline.of(self.util_pct, 1000), ns(self.util_period_s)
        end = t_ns // period * period if period else t_ns
        return (timeline.mean(end - period, end) + 500) // 1000

    def energy_reading_mj(self, t_ns: int, *, reset_at_ns: int | None = None) -> int:
        """What the driver's energy counter shows at an instant; after a reset it counts from there."""
        period = ns(self.energy_period_s)
        end = t_ns // period * period if period else t_ns
        start, base = (
            (reset_at_ns, 0)
            if reset_at_ns is not None and reset_at_ns <= end
            else (0, round(self.energy_base_j * 1000))
        )
        return base + (self.power_mw.integral(start, end) // NS if end > start else 0)

    def power_average_reading_mw(self, t_ns: int) -> int:
        """What the driver answers as one-second average power at an instant."""
        return self.power_mw.mean(t_ns - NS, t_ns)

    def power_reading_mw(self, t_ns: int) -> int:
        """What the driver answers as power at an instant."""
        period = ns(self.power_period_s)
        if not period:
            return self.power_mw.at(t_ns)
        end = t_ns // period * period
        return self.power_mw.mean(
            end - ns(self.power_period_s if self.power_window_s is None else self.power_window_s), end
        )

    def pcie_bytes(self, t_ns: int, *, sends: bool) -> int:
        """Bytes that went over the bus by an instant, however often the counter has wrapped."""
        timeline = Timeline.of(self.pcie_tx_bytes_per_s if sends else self.pcie_rx_bytes_per_s)
        return timeline.integral(0, t_ns) // NS if t_ns > 0 else 0


XID, SINGLE_BIT_ECC, DOUBLE_BIT_ECC, ROW_RETIRED = 0x8, 0x1, 0x2, 0x400
"""NVML's event types that tests need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that the driver tells those who wait for it: its type, and its data (of an XID error its number)."""

    at_s: float
    kind: int = XID
    data: int = 0
    gpu: int = 0
    gi: int | None = None
    ci: int | None = None

    def line(self) -> str:
        """As the library reads it."""
        instance = [f"{name}={value}" for name, value in (("gi", self.gi), ("ci", self.ci)) if value is not None]
        return " ".join([f"event gpu={self.gpu} at={ns(self.at_s)} type={self.kind} data={self.data}", *instance])


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong; made by the functions below."""

    kind: str
    facts: tuple[tuple[str, str | int], ...]

    def line(self) -> str:
        """As the library reads it."""
        return " ".join([f"fault {self.kind}", *(f"{key}={value}" for key, value in self.facts)])


def _fault(kind: str, *, from_s: float | None = None, to_s: float | None = None, **facts: str | float | None) -> Fault:
    when = {"from": None if from_s is None else ns(from_s), "to": None if to_s is None else ns(to_s)}
    given = {**facts, **when}
    return Fault(
        kind,
        tuple(
            (key, value if isinstance(value, str) else int(value)) for key, value in given.items() if value is not None
        ),
    )


def init_fails(code: int, *, times: int | None = None) -> Fault:
    """`nvmlInit` answers with a code (9 no module, 18 version mismatch, 4 no permission, ...), always or the first `times` times."""
    return _fault("init", code=code, times=times)


def init_hangs(seconds: float) -> Fault:
    """`nvmlInit` takes this long."""
    return _fault("init", sleep_ns=ns(seconds))


def gpu_lost(gpu: int, from_s: float, to_s: float | None = None, *, code: int = 15) -> Fault:
    """Every call about a GPU answers GPU_IS_LOST (or another code) from one instant to another."""
    return _fault("lost", gpu=gpu, code=code, from_s=from_s, to_s=to_s)


def call_fails(
    symbol: str, code: int, *, gpu: int | None = None, from_s: float | None = None, to_s: float | None = None
) -> Fault:
    """A call answers with a code; `*` is every call."""
    return _fault("code", symbol=symbol, code=code, gpu=gpu, from_s=from_s, to_s=to_s)


def field_fails(
    field_id: int,
    code: int,
    *,
    gpu: int | None = None,
    scope: int | None = None,
    from_s: float | None = None,
    to_s: float | None = None,
) -> Fault:
    """One field of a batch answers with a code."""
    return _fault("field", field=field_id, code=code, gpu=gpu, scope=scope, from_s=from_s, to_s=to_s)


def slow(
    symbol: str = "*", *, sleep_us: float = 0, spin_us: float = 0, gpu: int | None = None, times: int | None = None
) -> Fault:
    """A call (`*`: every call) sleeps, or burns CPU, always or the first `times` times."""
    return _fault("slow", symbol=symbol, sleep_ns=sleep_us * 1000, spin_ns=spin_us * 1000, gpu=gpu, times=times)


def slow_field(field_id: int, *, sleep_us: float = 0, spin_us: float = 0, gpu: int | None = None) -> Fault:
    """One field of a batch takes time."""
    return _fault("slow", field=field_id, sleep_ns=sleep_us * 1000, spin_ns=spin_us * 1000, gpu=gpu)


def garbage(
    what: str, value: int, *, gpu: int | None = None, from_s: float | None = None, to_s: float | None = None
) -> Fault:
    """A value is replaced by garbage, in the driver's own units.

    Args:
        what: `util`, `memory_util`, `memory`, `power`, `power_average`, `energy`, `sm_clock`, `memory_clock`, `temperature`, `pstate`, `reasons`,
            `pcie_tx`, `pcie_rx`, `process_pid`, `process_memory`, `process_sm`, `process_mem` or `virtualization`.
        value: what the driver says instead.
        gpu: on this GPU only.
        from_s: from this second on.
        to_s: until this second.
    """
    return _fault("garbage", what=what, value=value, gpu=gpu, from_s=from_s, to_s=to_s)


def energy_reset(at_s: float, *, gpu: int | None = None) -> Fault:
    """The energy counter starts again at zero."""
    return _fault("energy_reset", gpu=gpu, from_s=at_s)


def fewer_gpus(count: int, *, from_s: float | None = None) -> Fault:
    """The driver lists only the first `count` GPUs from an instant on."""
    return _fault("count", value=count, from_s=from_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that a stand-in driver says.

    Attributes:
        absent: symbols that this driver does not have, as an older one.
        epoch_mono_ns: time zero on CLOCK_MONOTONIC, so that several processes and the test agree; null: the first `nvmlInit` of a process.
        clock_file: a file of eight bytes (int64, nanoseconds) that is the time; it stands still until a test writes another.
    """

    gpus: Sequence[Gpu] = field(default_factory=lambda: (Gpu(),))
    faults: Sequence[Fault] = ()
    events: Sequence[Event] = ()
    absent: Sequence[str] = ()
    driver_version: str = "570.86.15"
    nvml_version: str = "12.570.86.15"
    cuda_version: int = 12080
    epoch_mono_ns: int | None = None
    clock_file: str | Path | None = None

    def uuid(self, index: int) -> str:
        """The UUID of a GPU; one is made up from the index where the scenario gives none."""
        return self.gpus[index].uuid or f"GPU-{index:08x}-5eed-4000-8000-{index:012x}"

    def text(self) -> str:
        """As the library reads it."""
        head = f"driver version={self.driver_version} nvml={self.nvml_version} cuda={self.cuda_version}"
        head += "" if self.epoch_mono_ns is None else f" epoch={self.epoch_mono_ns}"
        head += "" if self.clock_file is None else f" clock_file={quote(str(self.clock_file))}"
        lines = [head]
        for index, gpu in enumerate(self.gpus):
            first, *rest = gpu.lines()
            pci = gpu.pci or f"00000000:{index + 1:02X}:00.0"
            lines += [
                first.replace(" uuid= ", f" uuid={quote(self.uuid(index))} ").replace(" pci= ", f" pci={quote(pci)} "),
                *rest,
            ]
        lines += [fault.line() for fault in self.faults] + [event.line() for event in self.events]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> Path:
        """Write the file that `GPUCOST_DRIVER_SCENARIO` names."""
        path.write_text(self.text())
        return path
