"""A stand-in for `torch.cuda` on a machine without one: the code of the device path runs, on the CPU, with the host's clock for events.

It shows that the calls exist, fit together and end in a profile; it says nothing about any GPU. Used by `standin_worker.py` only.
"""

import contextlib
import os
import time
from types import SimpleNamespace

import torch
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")


def _here(value):
    """Devices of the stand-in lie in the host's memory."""
    return CPU if isinstance(value, torch.device) and value.type == "cuda" else value


class _OnTheHost(TorchFunctionMode):
    """Makes every tensor in the host's memory; while a graph is captured, notes calls instead of making them."""

    capturing = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = {name: _here(value) for name, value in (kwargs or {}).items() if name != "pin_memory"}
        args = tuple(map(_here, args))
        if self.capturing is not None:
            self.capturing.append(lambda: func(*args, **kwargs))
            return None
        return func(*args, **kwargs)


_mode = _OnTheHost()


class Event:
    def __init__(self, *, enable_timing):
        assert enable_timing
        self.at_ns = 0

    def record(self):
        self.at_ns = time.perf_counter_ns()

    def synchronize(self):
        assert self.at_ns

    def elapsed_time(self, other):
        return (other.at_ns - self.at_ns) / 1e6


class Stream:
    def __init__(self, device=None):
        self.device = device

    def wait_stream(self, other):
        assert isinstance(other, Stream)


class CUDAGraph:
    """Makes the calls that were noted."""

    def __init__(self):
        self.calls = []

    def replay(self):
        for call in self.calls:
            call()


@contextlib.contextmanager
def capture(graph):
    _mode.capturing = graph.calls
    try:
        yield
    finally:
        _mode.capturing = None


def install(names, free_bytes):
    """Make `torch.cuda` show these devices, each with so much free memory."""
    properties = [
        SimpleNamespace(
            name=name,
            major=9,
            minor=0,
            multi_processor_count=4,
            total_memory=free_bytes,
            L2_cache_size=1 << 18,
            memory_clock_rate=2_619_000,
            memory_bus_width=5120,
            clock_rate=1_980_000,
            uuid=f"00000000-0000-0000-0000-00000000000{index}",
        )
        for index, name in enumerate(names)
    ]
    cuda = torch.cuda
    cuda.is_available = lambda: bool(names)
    cuda.is_initialized = lambda: True
    cuda.device_count = lambda: len(names)
    cuda.set_device = cuda.synchronize = lambda device=None: None
    cuda.empty_cache = lambda: None
    cuda.get_device_properties = lambda device: properties[device.index]
    cuda.get_device_capability = lambda device: (9, 0)
    cuda.mem_get_info = lambda device: (free_bytes, free_bytes)
    cuda.memory_reserved = cuda.memory_allocated = lambda device: 0
    cuda.can_device_access_peer = lambda one, other: one.index != other.index
    cuda.Event, cuda.Stream = Event, Stream
    cuda.current_stream = lambda device=None: Stream(device)
    cuda.stream = lambda stream: contextlib.nullcontext()
    cuda._sleep = lambda cycles: None
    cuda.CUDAGraph, cuda.graph = CUDAGraph, capture
    cuda.cudart = lambda: SimpleNamespace(cudaHostRegister=lambda *_: 0, cudaHostUnregister=lambda *_: 0)
    real = torch.Generator
    torch.Generator = lambda device=CPU: real(_here(device))
    _mode.__enter__()


def visible():
    """Names of the devices that CUDA_VISIBLE_DEVICES leaves, one for each entry."""
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = (
        int(os.environ.get("STANDIN_DEVICES", "1")) if text is None else len([one for one in text.split(",") if one])
    )
    return [os.environ.get("STANDIN_NAME", "Stand-in GPU")] * count
