"""What the driver tells by itself: XID errors, ECC errors, rows taken out of use. Waits in a thread of its own, because waiting blocks."""

import ctypes
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from gpucost.collectors._nvml_devices import Device
from gpucost.collectors._nvml_library import SUCCESS, UNINITIALIZED, Nvml, as_pointer
from gpucost.collectors.base import Report

WAIT_MS = 1000
_TIMED_OUT = 10
_UNKNOWN = 999
_NOT_MIG = 0xFFFFFFFF
_PAUSE_S = 1.0  # after an answer that is neither an event nor a time-out
_ENOUGH = 5  # such answers in a row

XID = 0x8
KINDS = {
    0x1: ("ecc_error", "a single-bit memory error was corrected (ECC)"),
    0x2: ("ecc_error", "a double-bit memory error could not be corrected (ECC)"),
    XID: ("xid", "XID"),
    0x200: ("ecc_error", "many single-bit memory errors (ECC)"),
    0x400: ("row_remap", "memory was taken out of use: a page was retired or a row remapped"),
    0x800: ("row_remap", "memory that should be taken out of use could not be"),
    0x1000: ("ecc_error", "poisoned data was found and contained"),
    0x2000: ("ecc_error", "poisoned data was found and could not be contained"),
    0x4000: ("gpu_unavailable", "the GPU became unavailable"),
    0x8000: ("gpu_recovery", "the GPU needs a recovery action"),
}
"""NVML's event types that are recorded: kind of our event, and what to say."""

XIDS = {
    13: "graphics engine exception, usually the program's own",
    31: "memory page fault, usually the program's own",
    32: "invalid or corrupted push buffer",
    43: "the GPU stopped processing a program's work",
    45: "pre-emptive cleanup after an earlier error",
    48: "double-bit ECC error",
    61: "internal microcontroller breakpoint",
    62: "internal microcontroller halt",
    63: "memory row remapped",
    64: "memory row could not be remapped",
    68: "video processor exception",
    69: "graphics engine class error",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    92: "high rate of single-bit ECC errors",
    94: "contained ECC error",
    95: "uncontained ECC error",
    119: "timeout of the GPU's system processor",
    120: "error of the GPU's system processor",
}
"""Well-known XID errors in words."""


class EventWatcher(threading.Thread):
    """Waits for the driver's events and reports them.

    Attributes:
        watched: GPUs that are watched.
    """

    def __init__(self, nvml: Nvml, devices: Sequence[Device], report: Report) -> None:
        super().__init__(name="gpucost-nvml-events", daemon=True)
        self.watched = 0
        self._nvml = nvml
        self._report = report
        self._ended = threading.Event()
        self._titles: dict[int, tuple[str, str]] = {}
        self._set = ctypes.c_void_p()
        if self._create():
            for device in devices:
                self._register(device)

    def end(self) -> bool:
        """Stop, without waiting for a wait that is under way; whether none is."""
        self._ended.set()
        return not self.is_alive()

    def run(self) -> None:
        """Wait, tell, wait again."""
        data = self._nvml.binding.c_nvmlEventData_t()
        wait = self._nvml.bind("nvmlEventSetWait_v2", self._set, ctypes.byref(data), ctypes.c_uint(WAIT_MS))
        odd = 0
        while wait is not None and not self._ended.is_set():
            code = wait()
            if self._ended.is_set() or code == UNINITIALIZED:
                return
            if code == SUCCESS:
                self._tell(data)
            odd = 0 if code in (SUCCESS, _TIMED_OUT) else odd + 1
            if odd >= _ENOUGH:
                return
            if odd:
                time.sleep(_PAUSE_S)

    def _create(self) -> bool:
        create = self._nvml.bind("nvmlEventSetCreate", ctypes.byref(self._set))
        return create is not None and self._nvml.timed(create, "nvmlEventSetCreate")[0] == SUCCESS

    def _register(self, device: Device) -> None:
        """Ask for a GPU's events; an unknown error leaves the set in no defined state, so then another one is made."""
        handle, types = as_pointer(device.handle), ctypes.c_ulonglong()
        supported = self._nvml.bind("nvmlDeviceGetSupportedEventTypes", handle, ctypes.byref(types))
        if supported is None or self._nvml.timed(supported, "nvmlDeviceGetSupportedEventTypes")[0] != SUCCESS:
            return
        wanted = types.value & sum(KINDS)
        register = self._nvml.bind("nvmlDeviceRegisterEvents", handle, ctypes.c_ulonglong(wanted), self._set)
        code = self._nvml.timed(register, "nvmlDeviceRegisterEvents")[0] if register and wanted else _TIMED_OUT
        if code == SUCCESS:
            self.watched += 1
            self._titles[ctypes.cast(device.handle, ctypes.c_void_p).value or 0] = (device.title, device.uuid)
        elif code == _UNKNOWN and not self.watched:
            free = self._nvml.bind("nvmlEventSetFree", self._set)
            self._nvml.timed(free or partial(int, 0), "nvmlEventSetFree")
            self._create()

    def _tell(self, data: Any) -> None:
        handle = ctypes.cast(data.device, ctypes.c_void_p).value or 0
        title, uuid = self._titles.get(handle, ("a GPU", None))
        kind, text = KINDS.get(int(data.eventType), ("driver_event", f"event type {int(data.eventType):#x}"))
        if int(data.eventType) == XID:
            number = int(data.eventData)
            text = f"XID {number}: {XIDS[number]}" if number in XIDS else f"XID {number}"
        where = "" if data.gpuInstanceId == _NOT_MIG else f" in GPU instance {data.gpuInstanceId}"
        self._report(kind, f"{title}: {text}{where}", subject=uuid)
