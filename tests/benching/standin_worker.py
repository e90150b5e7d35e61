"""A worker on the stand-in for CUDA, with faults on request: `python standin_worker.py device|cpu`."""

import os
import signal
import sys
import time
from pathlib import Path

if os.environ.get("STANDIN_REFUSES"):
    sys.exit("no such device")

import torch

sys.path.insert(0, str(Path(__file__).parent))

import standin_cuda

from gpucost.bench.worker import main

tried = {"oom_once": 0}


def hang(backend, request):
    time.sleep(3600)


def killed(backend, request):
    os.kill(os.getpid(), signal.SIGKILL)


def exits(backend, request):
    print("last words of a library", flush=True)
    os._exit(7)


def raises(backend, request):
    raise RuntimeError("a fault\nand advice on many lines")


def sticky(backend, request):
    def dead(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    backend.synchronize = dead
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def oom(backend, request):
    tried["oom_once"] += 1
    if request.get("m", 0) > request.get("fits", 0):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 TiB.")
    return {"m": request["m"], "tries": tried["oom_once"]}


def host_oom(backend, request):
    torch.empty(1 << 60, dtype=torch.uint8)


def cores(backend, request):
    return {"threads": torch.get_num_threads()}


def echo(backend, request):
    return {"echo": request["text"], "visible": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid()}


if __name__ == "__main__":
    standin_cuda.install(standin_cuda.visible(), int(os.environ.get("STANDIN_FREE_BYTES", str(4 << 30))))
    handlers = {f.__name__: f for f in (hang, killed, exits, raises, sticky, oom, host_oom, cores, echo)}
    hanging = os.environ.get("STANDIN_HANGS_IN")
    if hanging:
        handlers[hanging] = hang
    sys.exit(main(sys.argv[1:], handlers))
