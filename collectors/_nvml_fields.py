"""Field values: many readings in one call to the driver."""

import ctypes
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from gpucost.collectors._nvml_answers import Answers
from gpucost.collectors._nvml_counters import UNSIGNED_LONG_LONG
from gpucost.collectors._nvml_library import FUNCTION_NOT_FOUND, SUCCESS, Nvml, check_alive, describe, refuses
from gpucost.collectors._nvml_reader import VALUE_LETTERS, Plain, Probe, Slot, Special

Make = Callable[[int], Plain | Special]
"""Makes a column, given where its value will be among the answers."""

# nvmlFieldValue_t: id, scope, time, latency (u32, u32, i64, i64), then type and code (u32), then eight bytes of value.
_FIELD = struct.Struct("<IIqqIIQ")
_TYPE_AT, _CODE_AT, _VALUE_AT = 24, 28, 32

_CALL = "nvmlDeviceGetFieldValues"
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
    kind: int
    make: Make
    cost_ns: int


class Fields:
    """Finds out which fields a device has, and makes calls for them."""

    def __init__(self, nvml: Nvml, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._function = nvml.bind(_CALL)
        self._entries: list[_Entry] = []

    def offer(self, column: str, field_id: int, scope: int, make: Make) -> Offer:
        """Ask for one field by itself, and take it up unless the driver refuses it.

        Raises:
            GpuGoneError: the GPU is not there.
        """
        if self._function is None:
            return Offer(describe(FUNCTION_NOT_FOUND))
        field = ctypes.create_string_buffer(_FIELD.pack(field_id, scope, 0, 0, 0, 0, 0), _FIELD.size)
        call = partial(self._function, self._handle, 1, field)
        costs: list[int] = []
        kind = code = 0
        while not costs or (min(costs) > _DEAR_NS and len(costs) < _TRIES):
            code, took_ns = self._nvml.timed(call, _CALL)
            *_, kind, own_code, _ = _FIELD.unpack(field.raw)
            code = code or own_code
            check_alive(code)
            if refuses(code):
                return Offer(describe(code))
            costs.append(took_ns)
        kind = kind if code == SUCCESS else UNSIGNED_LONG_LONG
        self._entries.append(_Entry(column, field_id, scope, kind, make, min(costs)))
        return Offer("", kind)

    def drop(self, column: str) -> None:
        """Do not ask for a column after all."""
        self._entries = [entry for entry in self._entries if entry.column != column]

    def probes(self, answers: Answers, period_ns: int) -> list[Probe]:
        """As few calls as possible; dear fields have calls of their own."""
        groups = [[entry for entry in self._entries if entry.cost_ns <= _DEAR_NS]]
        groups += [[entry] for entry in self._entries if entry.cost_ns > _DEAR_NS]
        once_a_second = max(1, round(1e9 / period_ns))
        found = []
        for group in filter(None, groups):
            offset = answers.take(_FIELD.size * len(group), b"".join(_preset(entry) for entry in group))
            slots = [_slot(answers, entry, offset + position * _FIELD.size) for position, entry in enumerate(group)]
            call = partial(self._bound, self._handle, len(group), answers.pointer(offset))
            least_every = once_a_second if group[0].cost_ns > _VERY_DEAR_NS else 1
            found.append(Probe([entry.column for entry in group], call, slots=slots, least_every=least_every))
            found[-1].histogram = self._nvml.costs.of(_CALL)
        return found

    @property
    def _bound(self) -> Callable[..., int]:
        if self._function is None:
            raise LookupError("there are no fields to ask for")
        return self._function


def _preset(entry: _Entry) -> bytes:
    return _FIELD.pack(entry.field_id, entry.scope, 0, 0, 0, 0, 0)


def _slot(answers: Answers, entry: _Entry, offset: int) -> Slot:
    index = answers.want(offset + _TYPE_AT, "I")
    answers.want(offset + _CODE_AT, "I")
    value = answers.want(offset + _VALUE_AT, VALUE_LETTERS.get(entry.kind, "Q"))
    return Slot(entry.column, index, entry.kind, entry.make(value))
