"""Memory for answers that are lists of structures, of which the driver alone knows how long they are."""

import ctypes
import struct
from collections.abc import Callable
from typing import Any

from gpucost.collectors._nvml_library import INSUFFICIENT_SIZE, Nvml

FIRST_BYTES = 64 * 40
"""Room for 64 structures of any kind that is listed here."""


class Entries:
    """A buffer that grows as long as it does not suffice.

    Attributes:
        count: capacity on the way in, entries on the way out.
        buffer: the entries.
        spent_ns: what the calls took since somebody set it to 0.
    """

    __slots__ = ("_nvml", "buffer", "count", "spent_ns")

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self.count = ctypes.c_uint()
        self.buffer = ctypes.create_string_buffer(FIRST_BYTES)
        self.spent_ns = 0

    def fill(self, size: int, call: Callable[[], int], name: str) -> int:
        """Make a call that fills the buffer with entries of a size; NVML's code."""
        while True:
            capacity = self.count.value = len(self.buffer) // size
            code, took_ns = self._nvml.timed(call, name)
            self.spent_ns += took_ns
            if code != INSUFFICIENT_SIZE or self.count.value <= capacity:
                return code
            self.buffer = ctypes.create_string_buffer(2 * self.count.value * size)

    def read(self, layout: struct.Struct) -> list[tuple[Any, ...]]:
        """The entries of the last answer."""
        filled = min(self.count.value, len(self.buffer) // layout.size) * layout.size
        return list(layout.iter_unpack(self.buffer.raw[:filled]))
