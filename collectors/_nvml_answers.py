"""One block of memory that all calls about a GPU write their answers into, so that all of them are read with one unpacking."""

import ctypes
import struct
from typing import Any

_ALIGNMENT = 8


class Answers:
    """The block. Space is taken first; which numbers in it are wanted is said afterwards, in rising order of their offsets."""

    def __init__(self, capacity: int = 2048) -> None:
        self._block = ctypes.create_string_buffer(capacity)
        self._used = 0
        self._wanted: list[tuple[int, str]] = []
        self._struct = struct.Struct("<")

    def take(self, size: int, preset: bytes = b"") -> int:
        """The offset of space for one answer; `preset` is what a call expects to find there."""
        offset = self._used
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        if self._used > len(self._block):
            raise ValueError("more answers than the block has space for")
        ctypes.memmove(self.pointer(offset), preset, len(preset))
        return offset

    def pointer(self, offset: int) -> Any:
        """The address of an offset, as a call takes it."""
        return ctypes.byref(self._block, offset)

    def want(self, offset: int, letter: str) -> int:
        """Want the number at an offset, of a type of `struct`; returns its position in what `read` gives."""
        self._wanted.append((offset, letter))
        return len(self._wanted) - 1

    def change(self, position: int, letter: str) -> None:
        """A wanted number turns out to be of another type."""
        self._wanted[position] = (self._wanted[position][0], letter)
        self.compile()

    def compile(self) -> None:
        """Prepare the unpacking of everything wanted so far."""
        layout, end = "<", 0
        for offset, letter in self._wanted:
            layout += f"{offset - end}x{letter}"
            end = offset + struct.calcsize(f"<{letter}")
        self._struct = struct.Struct(layout)

    def read(self) -> tuple[Any, ...]:
        """Every wanted number, as the last calls left it."""
        return self._struct.unpack_from(self._block)
