"""Runs worker processes, one a device, and outlives whatever happens to them.

A request has a time limit. A worker that misses it is killed, one that dies or reports a sticky error is replaced at the next request, and the
request that it happened to gets a status instead of a result. Nothing raises but the end of the program.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from gpucost import _version
from gpucost.bench.model import FAILED, OK, TIMEOUT, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

START_LIMIT_S = 180.0
"""Importing torch from a cold disk takes a quarter of a minute; a first CUDA context on a many-GPU node may take longer than that."""

REQUEST_SLACK_S = 30.0
"""What a request may take beside its measuring time: operands, loading kernels, proofs."""

_MAX_STARTS_IN_VAIN = 2
_STDERR_TAIL = 300
_ROOT = str(Path(_version.__file__).resolve().parent.parent)
_BOOT = "import sys; sys.path.append(sys.argv.pop(1)); from gpucost.bench.worker import main; sys.exit(main())"

# Variables that would change what is measured: TF32 in fp32 products, launches that wait, no caching of memory.
_UNWANTED = (
    "NVIDIA_TF32_OVERRIDE",
    "CUDA_LAUNCH_BLOCKING",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def worker_command(kind: str) -> list[str]:
    """The command of a worker for `device` or `cpu`: this Python, never importing from the working directory, which is the user's."""
    return [sys.executable, "-P", "-c", _BOOT, _ROOT, kind]


def worker_environment(visible: Sequence[str] | None, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a worker that sees only the devices `visible` (UUIDs, in this order), or those that it would see anyway."""
    base = dict(os.environ if environ is None else environ)
    for name in _UNWANTED:
        base.pop(name, None)
    if visible is not None:
        base["CUDA_VISIBLE_DEVICES"] = ",".join(visible)
    return base


@dataclass(slots=True)
class Reply:
    """What became of a request.

    Attributes:
        status: one of `gpucost.bench.model.STATUSES`.
        message: one line when it is not `ok`.
        data: everything else that the worker said.
    """

    status: str
    message: str | None = None
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def windows(self) -> list[Window]:
        """The windows of a measurement."""
        return [Window(*one) for one in self.data.get("windows", [])]


class Worker:
    """A worker that is started when it is first needed, and again after it was lost.

    Attributes:
        hello: what the newest process said of itself and its device (`device`, `versions`, `import_s`).
        losses: how often a process was killed or died.
        gone: two starts in a row failed, or the first one was refused in words: the device cannot be used, and this object does not try again.
        pids: of all its processes so far.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._command, self._environ = list(command), dict(environ)
        self._restarted: Callable[[], None] | None = None
        self._process: subprocess.Popen[str] | None = None
        self._replies: Queue[str | None] = Queue()
        self._stderr: Any = None
        self._pump: threading.Thread | None = None
        self._ids = 0
        self._in_vain = 0
        self._reason = ""
        self._setup: list[dict[str, Any]] = []
        self._closed = False
        self.hello: dict[str, Any] = {}
        self.losses = 0
        self.pids: set[int] = set()

    def on_restart(self, call: Callable[[], None]) -> None:
        """Call this whenever a lost process was replaced."""
        self._restarted = call

    @property
    def gone(self) -> bool:
        """No further process will be started."""
        return self._in_vain >= _MAX_STARTS_IN_VAIN

    @property
    def running(self) -> bool:
        """A process is there, and was greeted."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Reply:
        """Have a process that said hello, starting one if there is none."""
        if self._closed:
            return Reply(FAILED, "the benchmark is over")
        if self.running:
            return Reply(OK, data=self.hello)
        again = self._process is not None or self._in_vain > 0
        while not self.gone:
            reply = self._start_once()
            if reply.status == OK:
                self._in_vain = 0
                self.hello = reply.data
                for request in self._setup:
                    self._exchange(request, REQUEST_SLACK_S)
                if again and self._restarted is not None:
                    self._restarted()
                return reply
            refused_at_once = "id" in reply.data and not self.hello
            self._in_vain += _MAX_STARTS_IN_VAIN if refused_at_once else 1
            self._reason = reply.message or reply.status
        return Reply(FAILED, f"the device cannot be used: {self._reason}")

    def _start_once(self) -> Reply:
        self._forget()
        self._stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (it lives as long as the process)
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
                env=self._environ,
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends the worker itself
            )
        except OSError as error:
            return Reply(FAILED, f"a worker could not be started: {error.strerror}")
        self.pids.add(self._process.pid)
        self._replies = Queue()
        self._pump = threading.Thread(target=_pump, args=(self._process, self._replies), daemon=True)
        self._pump.start()
        return self._receive(START_LIMIT_S)

    def setup(self, request: dict[str, Any]) -> Reply:
        """A request that every later process is given too, before anything else."""
        reply = self.ask(request)
        if reply.status == OK:
            self._setup.append(request)
        return reply

    def ask(self, request: dict[str, Any], *, limit_s: float | None = None) -> Reply:
        """Send a request and wait for its reply.

        Args:
            request: `kind` and what that kind takes; `seconds` of measuring set the limit where none is given.
            limit_s: after so many seconds the worker is killed.
        """
        started = self.start()
        if started.status != OK:
            return started
        return self._exchange(request, limit_s or REQUEST_SLACK_S + 3 * float(request.get("seconds", 0)))

    def _exchange(self, request: dict[str, Any], limit_s: float) -> Reply:
        process = self._process
        self._ids += 1
        try:
            if process is None or process.stdin is None:
                raise BrokenPipeError
            process.stdin.write(json.dumps({"id": self._ids, **request}) + "\n")
            process.stdin.flush()
        except OSError:
            return self._lost()
        reply = self._receive(limit_s)
        if reply.data.get("sticky"):
            self._end()
            self.losses += 1
        return reply

    def _receive(self, limit_s: float) -> Reply:
        try:
            line = self._replies.get(timeout=limit_s)
        except Empty:
            self.losses += 1
            self._end()
            return Reply(TIMEOUT, f"no answer within {limit_s:.0f} s; the worker was ended")
        if line is None:
            return self._lost()
        data = json.loads(line)
        return Reply(data.pop("status"), data.pop("message", None), data)

    def _lost(self) -> Reply:
        """The process died under a request."""
        self.losses += 1
        code = self._end()
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
        return Reply(FAILED, f"the worker {how}{self._last_words()}")

    def _last_words(self) -> str:
        if self._stderr is None or self._stderr.closed:
            return ""
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr.read()[-4096:].splitlines() if line.strip()]
        return f": {lines[-1][:_STDERR_TAIL]}" if lines else ""

    def _end(self) -> int | None:
        """Kill what is left of the process; returns how it ended."""
        process = self._process
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)  # a process in an uninterruptible driver call may stay; it is left to the system
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        return process.returncode

    def kill(self) -> None:
        """End the process now, from any thread; requests that wait for it, and those to come, fail at once."""
        self._closed = True
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                process.kill()

    def close(self) -> None:
        """End the process, kindly if it answers."""
        self._closed = True
        process = self._process
        if process is not None and process.poll() is None and process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.write(json.dumps({"id": 0, "kind": "quit"}) + "\n")
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        self._forget()

    def _forget(self) -> None:
        """Let everything of the last process go."""
        self._end()
        if self._pump is not None:
            self._pump.join(1)
        if self._stderr is not None:
            self._stderr.close()


def _pump(process: subprocess.Popen[str], replies: Queue[str | None]) -> None:
    """Lines of a process into a queue, and None at their end."""
    if process.stdout is not None:
        with process.stdout as lines:
            for line in lines:
                replies.put(line)
    replies.put(None)
