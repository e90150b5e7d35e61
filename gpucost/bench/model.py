"""What a benchmark measured: the profile of one device, as it lies in `profile.json`.

Rates are decimal (TFLOP/s = 10^12, GB/s = 10^9), numbers are numbers, and **unknown is null, never 0**. `docs/bench.md` explains every field.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from types import UnionType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from gpucost.errors import DamagedRunError, NewerSchemaError

SCHEMA = "gpucost.bench"
VERSION = 1
_MOST = 1e300  # what is read as infinite, or as an integer of a thousand digits, is no figure

T = TypeVar("T")

OK = "ok"
UNSUPPORTED = "skipped_unsupported"
OUT_OF_MEMORY = "skipped_oom"
FAILED = "failed"
TIMEOUT = "timeout"
STATUSES = (OK, UNSUPPORTED, OUT_OF_MEMORY, FAILED, TIMEOUT)
"""How a test ended. Only `ok` has a rate."""

CONTENDED = "contended"
TOO_HIGH = "implausible_high"
TOO_LOW = "implausible_low"
NOT_MONOTONE = "not_monotone"
WRONG = "wrong_result"
GATES = (CONTENDED, TOO_HIGH, TOO_LOW, NOT_MONOTONE, WRONG)
"""Flags of a result that failed a gate: it is reported, and never a ceiling."""

UNSTABLE = "unstable"
DRIFTED = "drifted"
EMULATED = "emulated"
FEW_WINDOWS = "few_windows"
NOTES = (UNSTABLE, DRIFTED, EMULATED, FEW_WINDOWS)
"""Flags that say how to read a result, without taking its validity."""


class Window(NamedTuple):
    """One timed window of back-to-back launches.

    Attributes:
        end_ns: when it ended on the host's monotonic clock (for a device: when the host saw that it had).
        duration_ns: measured by the device's own events, or by the host's clock where the host does the work.
        iters: launches in it.
        work: FLOP or bytes of all of them (0 where the figure is a time).
        clean: nothing is known to have disturbed it.
    """

    end_ns: int
    duration_ns: int
    iters: int
    work: float
    clean: bool = True


@dataclass(slots=True)
class Device:
    """What was measured.

    Attributes:
        kind: `cuda`, `rocm`, or `cpu`.
        uuid: NVML's UUID; a CPU gets one made of its model and core count.
        parent_uuid: the physical GPU of a MIG device; power, energy and clocks are then the whole GPU's.
        llc_bytes: last-level cache (a GPU's L2, a CPU's L3).
        memory_bandwidth_props_gb_s: 2 x memory clock x bus width / 8, from the device's own properties.
        power_limit_w: enforced while the benchmark ran; a capped card is a different product.
        held_numa_node: the NUMA node that the worker was bound to, null where there is none to choose.
    """

    kind: str
    uuid: str
    name: str
    parent_uuid: str | None = None
    mig_profile: str | None = None
    pci_bus_id: str | None = None
    compute_capability: str | None = None
    sm_count: int | None = None
    llc_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_bandwidth_props_gb_s: float | None = None
    sm_clock_max_mhz: int | None = None
    memory_clock_max_mhz: int | None = None
    power_limit_w: float | None = None
    power_limit_default_w: float | None = None
    ecc: bool | None = None
    threads: int | None = None
    held_numa_node: int | None = None


@dataclass(slots=True)
class Result:
    """One test.

    Attributes:
        id: `gemm.bf16`, `mem.triad`, `link.h2d.pinned`, `launch.enqueue`, `power.idle_ctx`, `energy.per_flop.bf16`, ...
        unit: `TFLOP/s`, `TOP/s`, `GB/s`, `us`, `W`, `pJ/FLOP`, `pJ/B`, `ratio`.
        status: one of `STATUSES`.
        flags: of `GATES` and `NOTES`.
        ceiling: it may be used as a ceiling: status ok and no gate failed.
        sustained: median of the windows in steady state (on a CPU: of the clean ones). For times and energies: the median too.
        burst: 95th percentile of the windows, or of the kernel's first second where that is higher. A diagnostic, never a ceiling.
        n, n_clean: windows, and those that nothing disturbed.
        ci95: 95 % interval of `sustained` by the moving-block bootstrap.
        repeat: sustained figure of a repetition at the end of the run.
        efficiency_book: sustained / the book's dense peak.
        efficiency_max_clock: sustained / that peak scaled to the highest clock the driver allows.
        efficiency_measured_clock: sustained / that peak scaled to the clock measured during the test; what is lost here is lost to software or shape.
        error_fp64: relative Frobenius error of sampled rows against fp64; `error_freivalds`: largest row error of C x against A (B x).
        clocks, power, temperature, reasons, gpm: of the telemetry beside the test. `reasons` is the share of samples in which each clock-event reason held.
        work: FLOP or bytes over all windows; `window_s` their median length; `time_s` the time they cover.
        energy_j: over that time; `energy_basis` is `counter` or `integrated`; `energy_pj` is per unit of work; `energy_error` is relative.
        concurrent: other devices of the host were under the same test at the same time.
        points: parts of a sweep, each a small object with units in its names.
    """

    id: str
    unit: str
    status: str = OK
    flags: list[str] = field(default_factory=list)
    ceiling: bool = False
    message: str | None = None
    dtype: str | None = None
    shape: list[int] | None = None
    data: str | None = None
    precision: str | None = None
    sustained: float | None = None
    burst: float | None = None
    n: int = 0
    n_clean: int = 0
    median: float | None = None
    p5: float | None = None
    p95: float | None = None
    mad: float | None = None
    rel_iqr: float | None = None
    drift: float | None = None
    ci95: list[float] | None = None
    block_s: float | None = None
    repeat: float | None = None
    efficiency_book: float | None = None
    efficiency_max_clock: float | None = None
    efficiency_measured_clock: float | None = None
    error_fp64: float | None = None
    error_freivalds: float | None = None
    footprint_bytes: int | None = None
    work: float | None = None
    window_s: float | None = None
    time_s: float | None = None
    sm_clock_mhz: dict[str, float] | None = None
    memory_clock_mhz: float | None = None
    power_w: dict[str, float] | None = None
    temperature_c: dict[str, float] | None = None
    reasons: dict[str, float] | None = None
    gpm: dict[str, float] | None = None
    energy_j: float | None = None
    energy_basis: str | None = None
    energy_pj: float | None = None
    energy_error: float | None = None
    host_share: float | None = None
    concurrent: bool = False
    points: list[dict[str, Any]] | None = None

    @property
    def valid(self) -> bool:
        """It ran and failed no gate."""
        return self.status == OK and not set(self.flags) & set(GATES)


@dataclass(slots=True)
class PowerModel:
    """Power over the two rates that a roofline has: P = p0 + pj_per_byte x bytes/s + pj_per_flop x FLOP/s (least squares over the roofline's points).

    Attributes:
        mape: mean absolute error of the fit over its own points, relative: how well it describes them, not how well it predicts others.
        below_w: points at or above this power were left out, because the power limit held them; null where none was.
    """

    p0_w: float
    pj_per_byte: float
    pj_per_flop: float
    dtype: str
    mape: float
    points: int
    below_w: float | None = None


@dataclass(slots=True)
class Profile:
    """Everything that one benchmark of one device found; see `docs/bench.md`."""

    run_id: str
    started_utc: str
    mode: str
    device: Device
    tool: dict[str, str | None] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0
    import_s: float | None = None
    warm_up_s: float | None = None
    steady: bool | None = None
    contention: str = "unknown"  # none, found, unknown
    shared: bool = False
    power_scope: str | None = None  # gpu, parent_gpu
    seed: int | None = None
    theoretical: dict[str, Any] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)
    ceilings: dict[str, Any] = field(default_factory=dict)
    power_model: PowerModel | None = None
    warnings: list[str] = field(default_factory=list)
    schema: str = f"{SCHEMA}/{VERSION}"

    def result(self, test_id: str) -> Result | None:
        """The result with this id."""
        return next((one for one in self.results if one.id == test_id), None)

    def ceiling(self, test_id: str) -> Result | None:
        """The result with this id if it may be used as a ceiling."""
        found = self.result(test_id)
        return found if found is not None and found.ceiling else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, the schema first."""
        plain = asdict(self)
        return {"schema": plain.pop("schema"), **plain}

    @classmethod
    def from_json(cls, data: Any) -> Profile:
        """Read a profile of this or an older version; fields it does not know are ignored.

        Raises:
            NewerSchemaError: it was written by a newer gpucost.
            DamagedRunError: it is not a profile, or a field has the wrong shape.
        """
        _check_schema(data)
        try:
            device = _known(Device, data["device"])
            results = [_result(one) for one in data.get("results", [])]
            model = _known(PowerModel, data["power_model"]) if data.get("power_model") else None
            return _known(cls, {**data, "device": device, "results": results, "power_model": model})
        except (TypeError, KeyError, AttributeError) as error:
            raise DamagedRunError(f"the profile is damaged: {error}") from error


def _check_schema(data: Any) -> None:
    name, _, version = str(data.get("schema", "") if isinstance(data, dict) else "").partition("/")
    if name != SCHEMA or not version.isdecimal():
        raise DamagedRunError("it is not a gpucost profile")
    if int(version) > VERSION:
        raise NewerSchemaError(
            f"the profile has version {version}, this gpucost reads up to {VERSION}", hint="upgrade gpucost"
        )


def _result(data: dict[str, Any]) -> Result:
    found = _known(Result, data)
    if found.ci95 is not None and len(found.ci95) != 2:  # noqa: PLR2004 (both ends)
        raise TypeError("ci95 has two ends")
    return found


def _known(kind: type[T], data: dict[str, Any]) -> T:
    hints = get_type_hints(kind)
    names = [one.name for one in fields(kind) if one.name in data]  # type: ignore[arg-type]
    for name in names:
        if not _fits(data[name], hints[name]):
            raise TypeError(f"{name} cannot be {type(data[name]).__name__}")
    return kind(**{name: data[name] for name in names})


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value has the type of a field; profiles may come from others, and everything that reads them relies on their types."""
    if hint is Any:
        return True
    if isinstance(hint, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    origin = get_origin(hint) or hint
    if origin is list:
        return isinstance(value, list) and all(_fits(one, get_args(hint)[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(one, get_args(hint)[1]) for one in value.values())
    if origin is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
    return isinstance(value, origin) and (origin is bool or not isinstance(value, bool))
