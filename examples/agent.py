"""An agent at work, to be recorded: it plans, executes, verifies and reviews, and its GPUs wait more than one would think.

    gpucost record -- python examples/agent.py
    gpucost record --gpus sim:h100:2 -- python examples/agent.py       # without a GPU

The agent itself computes nothing on a GPU: it asks model servers (worker processes, one for each GPU) and runs tools. While a tool runs,
or waits for something far away, the GPUs are held and paid for, and idle. That is what a report is to show.

With a GPU and torch, a worker multiplies matrices on it. Without, it keeps a CPU core busy instead, which simulated GPUs follow.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from types import TracebackType
from typing import Self

import gpucost

Work = Callable[[float], None]
"""Keeps something busy for so many seconds."""

WEIGHTS_BYTES = 128 * 1024**2
SLICE_S = 0.05
ORCHESTRATOR_GPUS = "AGENT_GPUS"


class Worker:
    """A model server: a process that sees one GPU, holds the model there, and generates when it is asked to."""

    def __init__(self, gpu: str) -> None:
        """Start the process and wait until the model is loaded."""
        self.gpu = gpu
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": gpu},
        )
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes its input, which ends it

    def generate(self, seconds: float, *, load: float = 1.0) -> None:
        """Keep the GPU at work for so long; with a load below 1 there are gaps between the kernels."""
        with gpucost.stage("generate", gpu=self.gpu, load=load):
            if self._process.stdin is not None:
                self._process.stdin.write(f"{seconds} {load}\n")
                self._process.stdin.flush()
            self._answer()

    def _answer(self) -> None:
        if self._process.stdout is None or not self._process.stdout.readline():
            raise RuntimeError(f"the worker of GPU {self.gpu} has died")


def serve() -> None:
    """The worker's side: load the model, then serve one request a line until the input ends."""
    work_for = gpu_work() or cpu_work()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, load = map(float, line.split())
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            work_for(SLICE_S * load)
            time.sleep(max(0.0, min(now + SLICE_S, end) - time.monotonic()))
        print("done", flush=True)


def gpu_work() -> Work | None:
    """Work for the real GPU that this process sees; None when there is none, or no torch."""
    if not real_gpus():
        return None
    try:
        import torch  # noqa: PLC0415 (an example must run without it)
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    weights = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)

    def multiply(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            weights @ weights
            torch.cuda.synchronize()

    return multiply


def cpu_work() -> Work:
    """Work for one CPU core, with memory that stands for a model's weights."""
    weights = bytearray(b"\1") * WEIGHTS_BYTES

    def add_up(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sum(weights[:4096])

    return add_up


def real_gpus() -> list[str]:
    """What stands for each real GPU in CUDA_VISIBLE_DEVICES."""
    found = sorted(Path(path).name.removeprefix("nvidia") for path in glob("/dev/nvidia[0-9]*"))  # noqa: PTH207
    return ["0"] if not found and Path("/dev/dxg").exists() else [str(index) for index in range(len(found))]


def tool(name: str, seconds: float) -> None:
    """Run a tool that needs the CPU, as a process of its own, which makes a stage of its own inside this one."""
    with gpucost.stage(f"tool:{name}"):
        subprocess.run([sys.executable, __file__, "--tool", name, str(seconds)], check=True)


def run_tool(name: str, seconds: float) -> None:
    """The tool's side: one core is busy, and the GPUs wait."""
    with gpucost.stage(f"{name}:compute"):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sum(range(1000))


@gpucost.stage("plan")
def plan(worker: Worker) -> None:
    """Think about the task."""
    tool("prompt", 0.3)
    worker.generate(1.6)


@gpucost.stage("execute")
def execute(worker: Worker, second_gpu: str) -> None:
    """Work on two GPUs side by side, look something up, and put what was found in order."""
    with gpucost.stage("load-model"):
        second = Worker(second_gpu)
    with second:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda one: one.generate(2.2), (worker, second)))
        with gpucost.stage("tool:search", query="what others have done"):
            time.sleep(2.0)  # an answer from far away: nothing here is at work
        tool("rank", 1.5)
        worker.generate(1.0)


@gpucost.stage("verify")
def verify(worker: Worker) -> None:
    """Run the tests, then have the model judge the answer in many small steps."""
    tool("tests", 1.2)
    worker.generate(1.5, load=0.5)


@gpucost.stage("review")
def review(worker: Worker) -> None:
    """Read it all once more."""
    with gpucost.stage("summary") as summary:
        worker.generate(1.2)
        summary.set(verdict="good")


def main() -> None:
    """The agent."""
    if ORCHESTRATOR_GPUS not in os.environ:
        # Start again without a GPU in sight, so that only the workers are on one.
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(real_gpus()) or "0,1"
        environ = {**os.environ, "CUDA_VISIBLE_DEVICES": "", ORCHESTRATOR_GPUS: visible}
        os.execve(sys.executable, [sys.executable, *sys.argv], environ)  # noqa: S606 (it is this very program)
    gpus = os.environ[ORCHESTRATOR_GPUS].split(",")
    print(f"agent: at work on GPU {' and '.join(gpus[:2])}, for about 15 seconds")
    with gpucost.stage("load-model"):
        worker = Worker(gpus[0])
    with worker:
        print("agent: planning")
        plan(worker)
        print("agent: executing, with a search and a ranking in between")
        execute(worker, gpus[1 % len(gpus)])
        print("agent: verifying")
        verify(worker)
        print("agent: reviewing")
        review(worker)
    print("agent: done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--tool", nargs=2, metavar=("NAME", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker or options.tool:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # Ctrl-C reaches every process; only the agent has something to say
    if options.worker:
        serve()
    elif options.tool:
        run_tool(options.tool[0], float(options.tool[1]))
    else:
        try:
            main()
        except KeyboardInterrupt:
            sys.exit("agent: interrupted")
