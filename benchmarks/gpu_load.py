"""Loads for `gpu_check.py`, each a process of its own on the first GPU that CUDA shows it.

python benchmarks/gpu_load.py duty SHARE SECONDS      # products for this share of every second
python benchmarks/gpu_load.py pair SHARE SHARE SECONDS  # two processes, each with a duty of its own
python benchmarks/gpu_load.py work ROUNDS             # so many products; prints the seconds they took
python benchmarks/gpu_load.py hold SECONDS [BYTES]    # a context that does nothing, with so much memory
python benchmarks/gpu_load.py listed SECONDS          # a context that works, and what NVML says of it from here, as JSON
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

SIZE = 4096
"""A product of this size takes well under a millisecond on a card of today, so a duty ends where it should."""


def matrix() -> Any:
    """Something to multiply, on the GPU; the first product, which loads libraries, is done."""
    import torch

    made = torch.randn(SIZE, SIZE, device="cuda", dtype=torch.float16)
    multiply(made, 3)
    return made


def multiply(factor: Any, rounds: int) -> None:
    """Products, and wait for them."""
    import torch

    for _ in range(rounds):
        factor @ factor
    torch.cuda.synchronize()


def duty(share: float, seconds: float) -> None:
    """Work for a share of every second, on the clock's grid, so that no drift adds up."""
    factor = matrix()
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        if now % 1.0 < share:
            multiply(factor, 1)
        else:
            time.sleep(min(1.0 - now % 1.0, seconds - now))


def pair(first: str, second: str, seconds: str) -> None:
    """Two processes with duties of their own."""
    children = [subprocess.Popen([sys.executable, __file__, "duty", share, seconds]) for share in (first, second)]
    if any(child.wait() for child in children):
        sys.exit("a load failed")


def work(rounds: int) -> None:
    """Time a fixed amount of work."""
    factor = matrix()
    began = time.perf_counter()
    for _ in range(rounds):
        multiply(factor, 10)
    print(time.perf_counter() - began)


def hold(seconds: float, size_bytes: int = 0) -> None:
    """Keep a context, and say when it stands."""
    import torch

    kept = torch.empty(max(size_bytes, 1), dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    print("ready", flush=True)
    time.sleep(seconds)
    del kept


def listed(seconds: float) -> None:
    """Work, and tell what NVML lists: the pids of the process list and of the samples of utilization, and which pid this is."""
    import pynvml

    duty(0.9, seconds)
    factor = matrix()
    pynvml.nvmlInit()
    uuid = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    handle = pynvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else pynvml.nvmlDeviceGetHandleByIndex(0)
    found: dict[str, Any] = {"pid": os.getpid(), "list": [], "samples": []}
    for key, ask in (
        ("list", lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle)),
        ("samples", lambda: pynvml.nvmlDeviceGetProcessUtilization(handle, 0)),
    ):
        try:
            found[key] = sorted({int(one.pid) for one in ask()})
        except pynvml.NVMLError as error:
            found[key] = str(error)
    multiply(factor, 1)
    print(json.dumps(found))


if __name__ == "__main__":
    name, given = sys.argv[1], sys.argv[2:]
    if name == "pair":
        pair(*given)
    elif name == "work":
        work(int(given[0]))
    elif name == "hold":
        hold(float(given[0]), *(int(size) for size in given[1:]))
    else:
        {"duty": duty, "listed": listed}[name](*(float(value) for value in given))
