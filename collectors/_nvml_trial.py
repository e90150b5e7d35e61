"""Finds out what a GPU can tell: every metric is tried once, in every way that drivers have had for it.

A metric that the driver refuses stays null on that device: it is not asked again, and it is never 0. An answer that cannot be (above
100 %, "not available" written as all ones, ten times the power limit) is null for that reading, and counted.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpucost.collectors._nvml_counters import EnergyCounter, Tally, WrappingCounter
from gpucost.collectors._nvml_devices import Device
from gpucost.collectors._nvml_fields import Fields
from gpucost.collectors._nvml_gpm import offer_gpm
from gpucost.collectors._nvml_library import (
    FUNCTION_NOT_FOUND,
    Nvml,
    as_pointer,
    check_alive,
    describe,
    refuses,
)
from gpucost.collectors._nvml_reader import COLUMN, GpuReader, Plain, Probe, Seldom, Special

_NO_LIMIT_MW = 10_000_000  # stands for the limit of a GPU that does not tell its own
_LARGEST_63 = (1 << 63) - 1
_MAX_PERCENT = 100
_MAX_MHZ = 100_000
_MAX_CELSIUS = 200
_LAST_PSTATE = 15
_THOUSANDTHS = 1000
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
    """A way to a metric: a call that writes a structure (layouts from nvml.h).

    Attributes:
        name: of the C function.
        args: between the device and the structure.
        size: of the structure.
        values: offset and `struct` letter of each number that is wanted of it.
        preset: what the structure holds before the call (its version).
    """

    name: str
    args: tuple[int, ...] = ()
    size: int = 4
    values: tuple[tuple[int, str], ...] = ((0, "I"),)
    preset: bytes = b""


_LINK_GENERATION = _Call("nvmlDeviceGetCurrPcieLinkGeneration")
_LINK_WIDTH = _Call("nvmlDeviceGetCurrPcieLinkWidth")
_POWER = _Call("nvmlDeviceGetPowerUsage")
_ENERGY_CALL = _Call("nvmlDeviceGetTotalEnergyConsumption", size=8, values=((0, "Q"),))
_UTILIZATION = _Call("nvmlDeviceGetUtilizationRates", size=8, values=((0, "I"), (4, "I")))  # GPU, memory
_MEMORY = (  # total, free
    _Call("nvmlDeviceGetMemoryInfo_v2", (), 40, ((8, "Q"), (24, "Q")), struct.pack("<I", 0x02000028)),
    _Call("nvmlDeviceGetMemoryInfo", size=24, values=((0, "Q"), (8, "Q"))),
)
_SM_CLOCK = (_Call("nvmlDeviceGetClockInfo", (1,)), _Call("nvmlDeviceGetClockInfo", (0,)))  # SM, else graphics
_MEMORY_CLOCK = _Call("nvmlDeviceGetClockInfo", (2,))
_PSTATE = _Call("nvmlDeviceGetPerformanceState")
_REASONS = tuple(
    _Call(f"nvmlDeviceGetCurrentClocks{word}Reasons", size=8, values=((0, "Q"),)) for word in ("Event", "Throttle")
)
_TEMPERATURE = (  # the older one is deprecated, the newer one is missing from older drivers
    _Call("nvmlDeviceGetTemperatureV", (), 12, ((8, "i"),), struct.pack("<II", 0x0100000C, 0)),
    _Call("nvmlDeviceGetTemperature", (0,), values=((0, "i"),)),
)


def open_reader(nvml: Nvml, device: Device, period_ns: int, tally: Tally) -> GpuReader:
    """A reader of everything that a device can tell.

    Args:
        nvml: the session.
        device: the device.
        period_ns: how far apart readings will be.
        tally: counts impossible values.

    Raises:
        GpuGoneError: the GPU is not there.
        SessionLostError: the session is closed.
    """
    trial = _Trial(nvml, device, tally)
    trial.power_and_energy()
    trial.pcie(period_ns)
    trial.state()
    reader = trial.reader
    reader.probes += trial.fields.probes(reader.answers, period_ns)
    reader.compile()
    seldom = _Trial(nvml, device, tally)
    seldom.counters()
    seldom.link()
    reader.absent.update(seldom.reader.unavailable)
    seldom.reader.probes += seldom.fields.probes(seldom.reader.answers, period_ns)
    seldom.reader.compile()
    if seldom.reader.probes:
        reader.apart.append(Seldom(seldom.reader, max(1, round(1e9 / period_ns))))
    offer_gpm(nvml, device, reader)
    return reader


class _Trial:
    """Tries the metrics of one device."""

    def __init__(self, nvml: Nvml, device: Device, tally: Tally) -> None:
        self.reader = GpuReader(nvml, device.uuid, tally)
        self._nvml = nvml
        self._device = device
        self._handle = as_pointer(device.handle)
        self.fields = Fields(nvml, self._handle)

    def power_and_energy(self) -> None:
        """Power now, power averaged by the driver, energy; of the module where the GPU alone has none."""
        averages = self._device.capability is None or self._device.capability > _GA100
        most_mw = 10 * (round((self._device.facts.get("power_limit_w") or 0) * 1000) or _NO_LIMIT_MW)
        for column, field_id, plain_call_is_this in (
            ("power_w", _POWER_INSTANT, not averages),
            ("power_average_w", _POWER_AVERAGE, averages),
        ):
            call: list[_Field | _Call] = [_POWER] if plain_call_is_this else []
            ways = [_Field(field_id), *call, _Field(field_id, _MODULE)]
            self._settle(column, ways, _plain(column, most_mw, _THOUSANDTHS))
        by_scope: list[_Field | _Call] = [_Field(_ENERGY_BY_SCOPE), _ENERGY_CALL, _Field(_ENERGY_BY_SCOPE, _MODULE)]
        self._settle("energy_j", [_Field(_ENERGY), *by_scope], lambda index: _Energy(self.reader, index, most_mw))

    def pcie(self, period_ns: int) -> None:
        """Bytes over the bus."""
        for column, field_id in (("pcie_tx_bytes", _PCIE_SENT), ("pcie_rx_bytes", _PCIE_RECEIVED)):
            counted = _Counted(COLUMN[column], WrappingCounter(self._device.link_bytes_per_s))
            offer = self.fields.offer(column, field_id, _GPU, counted.at)
            reason = offer.reason
            if not reason and not counted.counter.can_follow(period_ns, offer.kind):
                self.fields.drop(column)
                reason = f"the counter wraps too fast for this link; --hz {counted.counter.least_hz()} follows it"
            if reason:
                self.reader.unavailable[column] = reason

    def state(self) -> None:
        """Utilization, memory, clocks and why they are not higher, performance state, temperature."""
        both = ("gpu_util_pct", "memory_util_pct")
        self._try(
            both,
            [_UTILIZATION],
            lambda at: [_plain(name, _MAX_PERCENT, 1)(i) for name, i in zip(both, at, strict=True)],
        )
        if self._device.shares_memory:
            self.reader.unavailable["memory_used_bytes"] = "shared with the CPU, and the driver says 0 bytes"
        else:
            self._try(["memory_used_bytes"], _MEMORY, lambda at: [_MemoryUsed(self.reader, *at)])
        self._settle("sm_clock_mhz", _SM_CLOCK, _plain("sm_clock_mhz", _MAX_MHZ))
        self._settle("memory_clock_mhz", [_MEMORY_CLOCK], _plain("memory_clock_mhz", _MAX_MHZ))
        self._settle("pstate", [_PSTATE], _plain("pstate", _LAST_PSTATE))
        self._settle("clocks_event_reasons", _REASONS, _plain("clocks_event_reasons", _LARGEST_63))
        self._settle("temperature_c", _TEMPERATURE, _plain("temperature_c", _MAX_CELSIUS))

    def counters(self) -> None:
        """Time in which the clocks were held down, by reason, and bytes over NVLink; counters, so once a second loses nothing."""
        for column, field_id in _HELD_DOWN.items():
            self._settle(column, [_Field(field_id)], _plain(column, _LARGEST_63))
        for column, field_id in _NVLINK.items():
            offer = self.fields.offer(column, field_id, _ALL_LINKS, _Kib(COLUMN[column]).at)
            if offer.reason:
                self.reader.unavailable[column] = offer.reason

    def link(self) -> None:
        """The PCIe link as it is now."""
        self._settle("pcie_link_gen", [_LINK_GENERATION], _plain("pcie_link_gen", _MAX_GENERATION))
        self._settle("pcie_link_width", [_LINK_WIDTH], _plain("pcie_link_width", _MAX_LANES))

    def _settle(self, column: str, ways: Sequence[_Field | _Call], make: Callable[[int], Plain | Special]) -> None:
        """Take the first way to a number that the driver does not refuse."""
        reason = ""
        for way in ways:
            if isinstance(way, _Field):
                reason = self.fields.offer(column, way.field_id, way.scope, make).reason
                if not reason and way.scope == _MODULE:
                    self.reader.of_module.append(column)
            else:
                reason = self._offer([column], way, lambda at: [make(at[0])])
            if not reason:
                return
        self.reader.unavailable[column] = reason

    def _try(
        self, columns: Sequence[str], ways: Sequence[_Call], make: Callable[[list[int]], Sequence[Plain | Special]]
    ) -> None:
        """Take the first call that the driver does not refuse."""
        reason = ""
        for way in ways:
            reason = self._offer(columns, way, make)
            if not reason:
                return
        self.reader.unavailable.update(dict.fromkeys(columns, reason))

    def _offer(self, columns: Sequence[str], way: _Call, make: Callable[[list[int]], Sequence[Plain | Special]]) -> str:
        """Make a call once and take it up, unless the driver refuses: then say why."""
        answers = self.reader.answers
        offset = answers.take(way.size, way.preset)
        call = self._nvml.bind(way.name, self._handle, *way.args, answers.pointer(offset))
        if call is None:
            return describe(FUNCTION_NOT_FOUND)
        code, _ = self._nvml.timed(call, way.name)
        check_alive(code)
        if refuses(code):
            return describe(code)
        stores = make([answers.want(offset + at, letter) for at, letter in way.values])
        self.reader.probes.append(Probe(columns, call, stores))
        self.reader.probes[-1].histogram = self._nvml.costs.of(way.name)
        return ""


def _plain(column: str, highest: int, divide: int = 0) -> Callable[[int], Plain]:
    return lambda index: Plain(COLUMN[column], index, highest, divide)


class _Energy:
    """The energy counter, mJ to J."""

    def __init__(self, reader: GpuReader, index: int, most_mw: int) -> None:
        self._index = index
        self._counter = EnergyCounter(most_mw)
        self._discard = reader.tally.counter("energy_j")
        self._happened = reader.happened
        self._position = COLUMN["energy_j"]

    def store(self, row: list[Any], answers: tuple[Any, ...]) -> None:
        """Write the column, unless the reading cannot be."""
        value = answers[self._index]
        counter = self._counter
        restarts = counter.restarts
        if 0 <= value <= _LARGEST_63 and counter.believe(value, row[1]):
            row[self._position] = value / _THOUSANDTHS
        else:
            self._discard()
        if counter.restarts > restarts:
            text = "the energy counter started again; energy across this is unknown"
            self._happened.append(("energy_counter_reset", text))


class _MemoryUsed:
    """Total minus free: the first version counts the reserve as used and the second does not, but free is free in both."""

    def __init__(self, reader: GpuReader, total: int, free: int) -> None:
        self._total, self._free = total, free
        self._discard = reader.tally.counter("memory_used_bytes")
        self._position = COLUMN["memory_used_bytes"]

    def store(self, row: list[Any], answers: tuple[Any, ...]) -> None:
        """Write the column, unless the two do not fit together."""
        total, free = answers[self._total], answers[self._free]
        if 0 < total <= _LARGEST_63 and free <= total:
            row[self._position] = total - free
        else:
            self._discard()


class _Counted:
    """A counter of bytes that wraps."""

    def __init__(self, position: int, counter: WrappingCounter) -> None:
        self.counter = counter
        self._position = position
        self._index = 0

    def at(self, index: int) -> "_Counted":
        """Read the value at this place among the answers; its type is two places before it."""
        self._index = index
        return self

    def store(self, row: list[Any], answers: tuple[Any, ...]) -> None:
        """Write the column, unless bytes may have gone uncounted."""
        index = self._index
        row[self._position] = self.counter.follow(answers[index], answers[index - 2], row[1])


class _Kib:
    """A counter of KiB, as bytes."""

    def __init__(self, position: int) -> None:
        self._position = position
        self._index = 0

    def at(self, index: int) -> "_Kib":
        """Read the value at this place among the answers."""
        self._index = index
        return self

    def store(self, row: list[Any], answers: tuple[Any, ...]) -> None:
        """Write the column."""
        value = answers[self._index] * _KIB
        if 0 <= value <= _LARGEST_63:
            row[self._position] = value
