"""One session with NVIDIA's driver, through nvidia-ml-py, and its errors in words.

Identity is asked through the binding's own wrappers. What is asked again and again goes straight to the C functions, with arguments made
once: a wrapper costs several times its call.
"""

import ctypes
import warnings
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any

from gpucost.collectors._nvml_costs import Costs
from gpucost.collectors.base import DriverMeter, SourceUnavailable

SUCCESS = 0
UNINITIALIZED = 1
INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
INSUFFICIENT_SIZE = 7
FUNCTION_NOT_FOUND = 13

ERRORS = {
    1: "the session with the driver was closed",
    2: "invalid argument",
    3: "not supported",
    4: "no permission",
    5: "already initialized",
    6: "not found",
    7: "insufficient size",
    8: "a power cable of the GPU is not attached",
    9: "the driver is not loaded",
    10: "timed out",
    11: "an interrupt of the GPU was not delivered",
    12: "no driver library",
    13: "the driver has no such function",
    14: "the GPU's inforom is corrupted",
    15: "the GPU is lost: it fell off the bus or became inaccessible",
    16: "the GPU must be reset",
    17: "blocked by the operating system",
    18: "library and kernel module of the driver are of different versions",
    19: "in use",
    20: "out of memory",
    21: "no data",
    22: "ECC is not available to a virtual GPU",
    23: "out of resources",
    24: "clock frequency not supported",
    25: "the driver has another version of this call",
    26: "deprecated",
    27: "not ready",
    28: "no such GPU",
    29: "invalid state",
    30: "this kind of reset is not supported",
    999: "unknown driver error",
}
"""NVML's return codes in a person's words."""

UNSUPPORTED = frozenset({3, 13, 25, 26})
"""Codes that will not change for a metric: do not ask again."""

NOTHING_NEW = frozenset({6, 10, 21, 27})
"""Codes that say there is nothing to report just now."""

GONE = frozenset({15, 16})
"""Codes that say the GPU itself is not there."""

_CLOSED_DOORS = {
    4: "no permission to talk to the NVIDIA driver: GPUs are not recorded",
    9: "the kernel module of the NVIDIA driver is not loaded: GPUs are not recorded",
    12: "no NVIDIA driver found (libnvidia-ml.so.1): GPUs are not recorded",
    13: "the NVIDIA driver is too old (it has no nvmlInitWithFlags): GPUs are not recorded",
    17: "the operating system blocks the GPUs (a container or cgroup without GPU devices): GPUs are not recorded",
    18: "the NVIDIA driver was updated and not yet reloaded (library and kernel module differ): reboot to record GPUs",
}
"""Why there is no session, where nothing that happens during a run could open one."""


class CallFailedError(Exception):
    """A call to the driver answered with a code."""

    def __init__(self, code: int) -> None:
        super().__init__(describe(code))
        self.code = code


class GpuGoneError(CallFailedError):
    """The GPU is lost, or must be reset."""


class SessionLostError(CallFailedError):
    """The driver no longer knows of our session."""


def describe(code: int) -> str:
    """A return code in words."""
    return ERRORS.get(code, f"driver error {code}")


def refuses(code: int) -> bool:
    """Whether a first answer means that there is no point in asking again: not there, or not for us."""
    return code in UNSUPPORTED or code in (INVALID_ARGUMENT, NO_PERMISSION)


def check_alive(code: int) -> None:
    """Raise for codes that concern more than the one call.

    Raises:
        GpuGoneError: the GPU is lost or must be reset.
        SessionLostError: the session is closed.
    """
    if code in GONE:
        raise GpuGoneError(code)
    if code == UNINITIALIZED:
        raise SessionLostError(code)


class Nvml:
    """An open session. Every call made through it, or told to it with `count`, is on the meter."""

    def __init__(self, binding: Any, meter: DriverMeter) -> None:
        self.binding = binding
        self.meter = meter
        self.costs = Costs()

    @classmethod
    def open(cls, meter: DriverMeter) -> "Nvml":
        """Load the driver's library and open a session; may hang as long as the driver does.

        Raises:
            SourceUnavailable: there is no driver, or it refuses.
        """
        binding = _import_binding()
        nvml = cls(binding, meter)
        try:
            nvml.ask("nvmlInit")
        except CallFailedError as error:
            text = _CLOSED_DOORS.get(error.code)
            message = text or f"the NVIDIA driver does not open: {error}"
            raise SourceUnavailable(message, permanent=text is not None) from error
        return nvml

    def close(self) -> None:
        """Close the session; the library stays loaded."""
        self.attempt("nvmlShutdown")

    def count(self, calls: int, wall_ns: int) -> None:
        """Put calls that were made directly on the meter."""
        self.meter.calls += calls
        self.meter.wall_ns += wall_ns

    def ask(self, name: str, *args: Any) -> Any:
        """Call one of the binding's wrappers.

        Raises:
            CallFailedError: the driver answered with a code.
        """
        binding = self.binding
        began_ns = perf_counter_ns()
        try:
            return getattr(binding, name)(*args)
        except binding.NVMLError as error:
            raise CallFailedError(int(error.value)) from error
        finally:
            took_ns = perf_counter_ns() - began_ns
            self.count(1, took_ns)
            self.costs.of(name).add(took_ns)

    def attempt(self, name: str, *args: Any) -> Any:
        """Call one of the binding's wrappers; None when the driver has no answer."""
        try:
            return self.ask(name, *args)
        except CallFailedError:
            return None

    def bind(self, name: str, *args: Any) -> Callable[..., int] | None:
        """A C function with its arguments, ready to be called again and again; None when the driver does not have it."""
        function = getattr(self.binding.nvmlLib, name, None)
        return None if function is None else partial(function, *args)

    def timed(self, call: Callable[[], int], name: str) -> tuple[int, int]:
        """Make one bound call of this name: its return code, and the nanoseconds it took."""
        began_ns = perf_counter_ns()
        code = call()
        took_ns = perf_counter_ns() - began_ns
        self.count(1, took_ns)
        self.costs.of(name).add(took_ns)
        return code, took_ns

    def versions(self) -> dict[str, str]:
        """What is installed: `driver`, `nvml` and `cuda`, as far as they are known."""
        cuda = self.attempt("nvmlSystemGetCudaDriverVersion_v2")
        found = {
            "driver": self.attempt("nvmlSystemGetDriverVersion"),
            "nvml": self.attempt("nvmlSystemGetNVMLVersion"),
            "cuda": f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None,
        }
        return {name: str(value) for name, value in found.items() if value}


def _import_binding() -> Any:
    """The module `pynvml`, if it is NVIDIA's.

    A deprecated distribution of that name warns at import, and an old one of others has the name without the content.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pynvml
    except ImportError as error:
        raise SourceUnavailable("nvidia-ml-py is not installed: GPUs are not recorded", permanent=True) from error
    if not hasattr(pynvml, "_nvmlGetFunctionPointer") or not hasattr(pynvml, "nvmlInitWithFlags"):
        where = getattr(pynvml, "__file__", "?")
        message = f"{where} is not NVIDIA's nvidia-ml-py (uninstall `pynvml`): GPUs are not recorded"
        raise SourceUnavailable(message, permanent=True)
    return pynvml


def as_pointer(handle: Any) -> Any:
    """A device handle of the binding as the form of it that is cheapest to pass to a C function."""
    return ctypes.byref(handle.contents)
