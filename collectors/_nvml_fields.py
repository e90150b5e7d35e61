"""Field values: many readings in one call to the driver, with one prepared array."""

import ctypes
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from gpucost.collectors._nvml_counters import UNSIGNED_INT, UNSIGNED_LONG_LONG
from gpucost.collectors._nvml_library import SUCCESS, Nvml, check_alive, describe, refuses

FieldStore = Callable[[list[Any], int, int], None]
"""Takes a row, a value and NVML's type of it, and writes a column."""

_CALL = "nvmlDeviceGetFieldValues"
_SIZE = 7  # numbers in one nvmlFieldValue_t: id, scope, time, latency, type, code, value
_TYPE, _CODE, _VALUE = 4, 5, 6
_FIELD = "IIqqIIQ"
_TRIES = 5  # to find a field cheap: the first asking may do more than later ones, and any may be interrupted

# A field that takes longer than the first is asked by itself, so that it can be asked less often than the others; one that takes longer
# than the second, once a second. On some cards PCIe counters take 0.3 ms, and average power 3 ms.
_DEAR_NS = 200_000
_VERY_DEAR_NS = 1_000_000


class Offer(NamedTuple):
    """How the driver took to a field: why it refuses it (or an empty string), and the type of its value."""

    reason: str
    kind: int = UNSIGNED_LONG_LONG


class _Entry(NamedTuple):
    column: str
    field_id: int
    scope: int
    store: FieldStore
    cost_ns: int
    seldom: bool


class FieldBatch:
    """Some fields of one device, asked with one call."""

    def __init__(self, function: Callable[..., int], handle: Any, array: Any, entries: Sequence[_Entry]) -> None:
        for slot, entry in zip(array, entries, strict=True):
            slot.fieldId, slot.scopeId = entry.field_id, entry.scope
        self.columns = tuple(entry.column for entry in entries)
        self.cost_ns = sum(entry.cost_ns for entry in entries)
        self.call: Callable[[], int] = partial(function, handle, ctypes.c_int(len(entries)), ctypes.byref(array))
        self.failing: dict[str, int] = {}
        self._array = array
        self._unpack = struct.Struct("<" + _FIELD * len(entries)).unpack_from
        self._stores = [(entry.column, entry.store) for entry in entries]

    def store(self, row: list[Any]) -> None:
        """Read the answers of the last call into a row; `failing` holds columns and codes of those that did not answer.

        Raises:
            GpuGoneError: a field says that the GPU is not there.
        """
        data = self._unpack(self._array)
        self.failing.clear()
        at = 0
        for column, store in self._stores:
            code = data[at + _CODE]
            if code == SUCCESS:
                kind, value = data[at + _TYPE], data[at + _VALUE]
                if kind == UNSIGNED_INT:
                    value &= 0xFFFFFFFF  # the union's other half is not written
                elif kind != UNSIGNED_LONG_LONG:
                    value = whole_number(kind, value)
                store(row, value, kind)
            else:
                check_alive(code)
                self.failing[column] = code
            at += _SIZE


class Fields:
    """Finds out which fields a device has, and makes batches of them."""

    def __init__(self, nvml: Nvml, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._bound = nvml.bind(_CALL)
        self._entries: list[_Entry] = []

    def offer(self, column: str, field_id: int, scope: int, store: FieldStore, *, seldom: bool = False) -> Offer:
        """Ask for one field by itself, and take it up unless the driver refuses it; `seldom` means once a second.

        Raises:
            GpuGoneError: the GPU is not there.
        """
        if self._bound is None:
            return Offer(describe(13))
        array = self._array(1)
        array[0].fieldId, array[0].scopeId = field_id, scope
        call = partial(self._bound, self._handle, ctypes.c_int(1), ctypes.byref(array))
        costs: list[int] = []
        code = SUCCESS
        while not costs or (min(costs) > _DEAR_NS and len(costs) < _TRIES):
            code, took_ns = self._nvml.timed(call, _CALL)
            code = code or int(array[0].nvmlReturn)
            check_alive(code)
            if refuses(code):
                return Offer(describe(code))
            costs.append(took_ns)
        self._entries.append(_Entry(column, field_id, scope, store, min(costs), seldom))
        return Offer("", int(array[0].valueType) if code == SUCCESS else UNSIGNED_LONG_LONG)

    def drop(self, column: str) -> None:
        """Do not ask for a column after all."""
        self._entries = [entry for entry in self._entries if entry.column != column]

    def batches(self, period_ns: int) -> list[tuple[FieldBatch, int]]:
        """The fields in as few calls as possible, and at every how many ticks each call is to be made: dear fields stand alone."""
        if self._bound is None:
            return []
        cheap = [entry for entry in self._entries if entry.cost_ns <= _DEAR_NS]
        groups = [[entry for entry in cheap if not entry.seldom]]
        groups += [[entry] for entry in self._entries if entry.cost_ns > _DEAR_NS]
        groups.append([entry for entry in cheap if entry.seldom])
        once_a_second = max(1, round(1e9 / period_ns))
        found = []
        for group in filter(None, groups):
            batch = FieldBatch(self._bound, self._handle, self._array(len(group)), group)
            alone_and_very_dear = len(group) == 1 and batch.cost_ns > _VERY_DEAR_NS
            seldom = alone_and_very_dear or group[0].seldom
            found.append((batch, once_a_second if seldom else 1))
        return found

    def _array(self, length: int) -> Any:
        return (self._nvml.binding.c_nvmlFieldValue_t * length)()


def whole_number(kind: int, bits: int) -> int:
    """The value of a union's eight bytes as a whole number, by NVML's types."""
    raw = bits.to_bytes(8, "little")
    layout = {0: "<d", 2: "<Q", 4: "<q", 5: "<i", 6: "<H"}.get(kind)
    return int(struct.unpack_from(layout, raw)[0]) if layout else bits
