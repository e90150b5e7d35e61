"""Finds out what a GPU can tell: every metric is tried once, in every way that drivers have had for it.

A metric that the driver refuses stays null on that device: it is not asked again, and it is never 0. An answer that cannot be (above
100 %, "not available" written as all ones, ten times the power limit) is null for that reading, and counted.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpucost.collectors._nvml_counters import EnergyCounter, WrappingCounter
from gpucost.collectors._nvml_devices import Device
from gpucost.collectors._nvml_fields import Fields, FieldStore
from gpucost.collectors._nvml_gpm import offer_gpm
from gpucost.collectors._nvml_library import (
    FUNCTION_NOT_FOUND,
    Nvml,
    as_pointer,
    check_alive,
    describe,
    refuses,
)
from gpucost.collectors._nvml_reader import COLUMN, GpuReader, Probe, Store

_NO_LIMIT_MW = 10_000_000  # stands for the limit of a GPU that does not tell its own
_LARGEST_63 = (1 << 63) - 1
_MAX_PERCENT = 100
_MAX_MHZ = 100_000
_MAX_CELSIUS = 200
_UNKNOWN_PSTATE = 32
_LAST_PSTATE = 15
_GA100 = (8, 0)  # up to here the plain power call is instantaneous; later ones give a one-second average
_GPU, _MODULE = 0, 1  # what a field is about

_POWER_AVERAGE, _POWER_INSTANT = 185, 186
_ENERGY, _ENERGY_BY_SCOPE = 83, 191
_PCIE_SENT, _PCIE_RECEIVED = 197, 198
_ALL_LINKS = 0xFFFFFFFF
_KIB = 1024
_NVLINK = {"nvlink_tx_bytes": 138, "nvlink_rx_bytes": 139}
_HELD_DOWN = {
    "sw_power_cap_ns": 74,
    "sync_boost_ns": 76,
    "sw_thermal_ns": 269,
    "hw_thermal_ns": 270,
    "hw_power_brake_ns": 271,
}
"""Column to the field that counts the time in which clocks were held down for this reason."""
_MAX_GENERATION = 32
_MAX_LANES = 64


@dataclass(frozen=True, slots=True)
class _Field:
    """A way to a metric: a field value."""

    field_id: int
    scope: int = _GPU


@dataclass(frozen=True, slots=True)
class _Call:
    """A way to a metric: a call that writes one number."""

    name: str
    args: tuple[Any, ...] = ()
    kind: type[Any] = ctypes.c_uint


def open_reader(nvml: Nvml, device: Device, period_ns: int) -> GpuReader:
    """A reader of everything that a device can tell.

    Args:
        nvml: the session.
        device: the device.
        period_ns: how far apart readings will be.

    Raises:
        GpuGoneError: the GPU is not there.
        SessionLostError: the session is closed.
    """
    trial = _Trial(nvml, device)
    trial.power_and_energy()
    trial.pcie(period_ns)
    trial.utilization()
    trial.memory()
    trial.clocks()
    trial.temperature()
    trial.counters()
    trial.link(period_ns)
    reader = trial.reader
    for batch, least_every in trial.fields.batches(period_ns):
        reader.probes.insert(
            0, Probe(batch.columns, batch.call, batch.store, failing=batch.failing, least_every=least_every)
        )
        reader.probes[0].histogram = nvml.costs.of("nvmlDeviceGetFieldValues")
    offer_gpm(nvml, device, reader)
    return reader


class _Trial:
    """Tries the metrics of one device."""

    def __init__(self, nvml: Nvml, device: Device) -> None:
        self.reader = GpuReader(nvml, device.uuid)
        self._nvml = nvml
        self._device = device
        self._handle = as_pointer(device.handle)
        self.fields = Fields(nvml, self._handle)

    def power_and_energy(self) -> None:
        """Power now, power averaged by the driver, energy; of the module where the GPU alone has none."""
        averages = self._device.capability is None or self._device.capability > _GA100
        plain: list[_Field | _Call] = [_Call("nvmlDeviceGetPowerUsage")]
        most_mw = 10 * (round((self._device.facts.get("power_limit_w") or 0) * 1000) or _NO_LIMIT_MW)
        instant, average = self._scaled("power_w", most_mw), self._scaled("power_average_w", most_mw)
        no_call: list[_Field | _Call] = []
        self._settle(
            "power_w",
            [_Field(_POWER_INSTANT), *(no_call if averages else plain), _Field(_POWER_INSTANT, _MODULE)],
            instant,
        )
        self._settle(
            "power_average_w",
            [_Field(_POWER_AVERAGE), *(plain if averages else no_call), _Field(_POWER_AVERAGE, _MODULE)],
            average,
        )
        counter = _Call("nvmlDeviceGetTotalEnergyConsumption", kind=ctypes.c_ulonglong)
        ways: list[_Field | _Call] = [_Field(_ENERGY), _Field(_ENERGY_BY_SCOPE), counter]
        self._settle("energy_j", [*ways, _Field(_ENERGY_BY_SCOPE, _MODULE)], self._energy(most_mw))

    def pcie(self, period_ns: int) -> None:
        """Bytes over the bus."""
        for column, field_id in (("pcie_tx_bytes", _PCIE_SENT), ("pcie_rx_bytes", _PCIE_RECEIVED)):
            counter = WrappingCounter(self._device.link_bytes_per_s)
            offer = self.fields.offer(column, field_id, _GPU, _counted(COLUMN[column], counter))
            reason = offer.reason
            if not reason and not counter.can_follow(period_ns, offer.kind):
                self.fields.drop(column)
                reason = f"the counter wraps too fast for this link; --hz {counter.least_hz()} follows it"
            if reason:
                self.reader.unavailable[column] = reason

    def utilization(self) -> None:
        """Share of time in which kernels ran, and in which memory was in use."""
        out = self._nvml.binding.c_nvmlUtilization_t()
        gpu, memory = (
            self._ranged("gpu_util_pct", _MAX_PERCENT, float),
            self._ranged("memory_util_pct", _MAX_PERCENT, float),
        )

        def store(row: list[Any]) -> None:
            gpu(row, out.gpu, 0)
            memory(row, out.memory, 0)

        self._try(["gpu_util_pct", "memory_util_pct"], [("nvmlDeviceGetUtilizationRates", (ctypes.byref(out),), store)])

    def memory(self) -> None:
        """Total minus free: the first version counts the reserve as used and the second does not, but free is free in both."""
        binding = self._nvml.binding
        ways = []
        for name, out in (
            ("nvmlDeviceGetMemoryInfo_v2", binding.c_nvmlMemory_v2_t(version=binding.nvmlMemory_v2)),
            ("nvmlDeviceGetMemoryInfo", binding.c_nvmlMemory_t()),
        ):
            ways.append((name, (ctypes.byref(out),), self._memory(out)))
        self._try(["memory_used_bytes"], ways)

    def clocks(self) -> None:
        """Clocks (SM, else graphics), the performance state, and why clocks are not higher."""
        self._settle(
            "sm_clock_mhz",
            [_Call("nvmlDeviceGetClockInfo", (which,)) for which in (1, 0)],
            self._ranged("sm_clock_mhz", _MAX_MHZ),
        )
        self._settle(
            "memory_clock_mhz", [_Call("nvmlDeviceGetClockInfo", (2,))], self._ranged("memory_clock_mhz", _MAX_MHZ)
        )
        state = self._ranged("pstate", _LAST_PSTATE)

        def store(row: list[Any], value: int, kind: int) -> None:
            if value != _UNKNOWN_PSTATE:
                state(row, value, kind)

        self._settle("pstate", [_Call("nvmlDeviceGetPerformanceState")], store)
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        reasons = self._ranged("clocks_event_reasons", _LARGEST_63)
        self._settle("clocks_event_reasons", [_Call(name, kind=ctypes.c_ulonglong) for name in names], reasons)

    def temperature(self) -> None:
        """Of the GPU's die; the older call is deprecated, the newer one is missing from older drivers."""
        binding = self._nvml.binding
        newer = binding.c_nvmlTemperature_v1_t(version=binding.nvmlTemperature_v1, sensorType=0)
        older = ctypes.c_int()
        ranged = self._ranged("temperature_c", _MAX_CELSIUS)
        ways = [
            ("nvmlDeviceGetTemperatureV", (ctypes.byref(newer),), lambda row: ranged(row, newer.temperature, 0)),
            ("nvmlDeviceGetTemperature", (0, ctypes.byref(older)), lambda row: ranged(row, older.value, 0)),
        ]
        self._try(["temperature_c"], ways)

    def counters(self) -> None:
        """Time in which the clocks were held down, by reason, and bytes over NVLink; counters, so once a second loses nothing."""
        for column, field_id in _HELD_DOWN.items():
            self._count(column, field_id, _GPU, 1)
        for column, field_id in _NVLINK.items():
            self._count(column, field_id, _ALL_LINKS, _KIB)

    def _count(self, column: str, field_id: int, scope: int, unit: int) -> None:
        position = COLUMN[column]

        def store(row: list[Any], value: int, kind: int) -> None:  # noqa: ARG001
            if 0 <= value * unit <= _LARGEST_63:
                row[position] = value * unit

        reason = self.fields.offer(column, field_id, scope, store, seldom=True).reason
        if reason:
            self.reader.absent[column] = reason

    def link(self, period_ns: int) -> None:
        """The PCIe link as it is now, once a second."""
        once_a_second = max(1, round(1e9 / period_ns))
        for column, name, most in (
            ("pcie_link_gen", "nvmlDeviceGetCurrPcieLinkGeneration", _MAX_GENERATION),
            ("pcie_link_width", "nvmlDeviceGetCurrPcieLinkWidth", _MAX_LANES),
        ):
            self._settle(column, [_Call(name)], self._ranged(column, most))
            if reason := self.reader.unavailable.pop(column, ""):
                self.reader.absent[column] = reason
            else:
                self.reader.probes[-1].every = self.reader.probes[-1].least_every = once_a_second

    # How a metric is settled, and how a value is stored.

    def _settle(self, column: str, ways: Sequence[_Field | _Call], store: FieldStore) -> None:
        """Take the first way to a number that the driver does not refuse."""
        reason = ""
        for way in ways:
            if isinstance(way, _Field):
                reason = self.fields.offer(column, way.field_id, way.scope, store).reason
                if not reason and way.scope == _MODULE:
                    self.reader.notes.append(f"{column} is of the whole module, CPU included")
            else:
                out = way.kind()
                reason = self._offer([column], way.name, (*way.args, ctypes.byref(out)), _unpacked(store, out))
            if not reason:
                return
        self.reader.unavailable[column] = reason

    def _try(self, columns: Sequence[str], ways: Sequence[tuple[str, tuple[Any, ...], Store]]) -> None:
        """Take the first call that the driver does not refuse."""
        reason = ""
        for name, args, store in ways:
            reason = self._offer(columns, name, args, store)
            if not reason:
                return
        self.reader.unavailable.update(dict.fromkeys(columns, reason))

    def _offer(self, columns: Sequence[str], name: str, args: tuple[Any, ...], store: Store) -> str:
        """Make a call once and take it up, unless the driver refuses: then say why."""
        call = self._nvml.bind(name, self._handle, *args)
        if call is None:
            return describe(FUNCTION_NOT_FOUND)
        code, _ = self._nvml.timed(call, name)
        check_alive(code)
        if refuses(code):
            return describe(code)
        self.reader.probes.append(Probe(columns, call, store))
        self.reader.probes[-1].histogram = self._nvml.costs.of(name)
        return ""

    def _ranged(self, column: str, highest: int, convert: Callable[[int], Any] = int) -> FieldStore:
        position, discard = COLUMN[column], self.reader.tally.counter(column)

        def store(row: list[Any], value: int, kind: int) -> None:  # noqa: ARG001 (the type matters to counters only)
            if 0 <= value <= highest:
                row[position] = convert(value)
            else:
                discard()

        return store

    def _scaled(self, column: str, highest: int) -> FieldStore:
        """Thousandths (mW, mJ) to the unit."""
        return self._ranged(column, highest, lambda value: value / 1000)

    def _energy(self, most_mw: int) -> FieldStore:
        position, discard = COLUMN["energy_j"], self.reader.tally.counter("energy_j")
        counter, happened = EnergyCounter(most_mw), self.reader.happened

        def store(row: list[Any], value: int, kind: int) -> None:  # noqa: ARG001
            restarts = counter.restarts
            if 0 <= value <= _LARGEST_63 and counter.believe(value, row[1]):
                row[position] = value / 1000
            else:
                discard()
            if counter.restarts > restarts:
                happened.append(
                    ("energy_counter_reset", "the energy counter started again; energy across this is unknown")
                )

        return store

    def _memory(self, out: Any) -> Store:
        position, discard = COLUMN["memory_used_bytes"], self.reader.tally.counter("memory_used_bytes")

        def store(row: list[Any]) -> None:
            total, free = out.total, out.free
            if 0 < total <= _LARGEST_63 and free <= total:
                row[position] = total - free
            else:
                discard()

        return store


def _unpacked(store: FieldStore, out: Any) -> Store:
    return lambda row: store(row, out.value, 0)


def _counted(position: int, counter: WrappingCounter) -> FieldStore:
    def store(row: list[Any], value: int, kind: int) -> None:
        row[position] = counter.follow(value, kind, row[1])

    return store
