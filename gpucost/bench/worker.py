"""The worker: one process for one device, asked for one measurement at a time, over JSON lines.

It exists so that an out-of-memory, a sticky CUDA error, a hang or a crash ends one test and not the run. Requests come on stdin, replies go to what
was stdout; whatever libraries print goes to stderr. The end of stdin ends the worker, whatever it is doing.

    {"id": 1, "kind": "gemm", "seconds": 2.5, "window_s": 0.05, "dtype": "bf16", "m": 8192, "n": 8192, "k": 8192}
    {"id": 1, "status": "ok", "windows": [[end_ns, duration_ns, iters, work, clean], ...], "errors": {...}, ...}
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from gpucost.bench.model import FAILED, OK, OUT_OF_MEMORY, UNSUPPORTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpucost.bench.kernels.backend import Backend

    Handler = Callable[[Backend, dict[str, Any]], dict[str, Any]]

_ENDED_WITH_PARENT = 3
_STICKY = 4
_MESSAGE_CHARACTERS = 300


def main(argv: list[str] | None = None, handlers: dict[str, Handler] | None = None) -> int:
    """Serve requests until stdin ends.

    Args:
        argv: what to measure on, `device` or `cpu` (default: the process's first argument).
        handlers: kinds of requests beside those of `gpucost.bench.kernels.handlers`.

    Returns:
        0, or 4 when the device answers nothing any more.
    """
    arguments = sys.argv[1:] if argv is None else argv
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    requests = _listen()
    began = time.monotonic()
    try:
        from gpucost.bench.kernels.backend import open_backend
        from gpucost.bench.kernels.handlers import HANDLERS, versions

        backend = open_backend(arguments[0] if arguments else "device")
        hello = {"status": OK, "device": backend.describe(), "versions": versions()}
    except Exception as error:  # noqa: BLE001 (whatever torch or a driver throws: the supervisor must be told)
        _say(replies, {"id": 0, "status": FAILED, "message": _message(error)})
        return _STICKY
    _say(replies, {"id": 0, "import_s": time.monotonic() - began, **hello})
    return _serve(backend, requests, replies, {**HANDLERS, **(handlers or {})})


def _listen() -> queue.Queue[dict[str, Any]]:
    """A thread that reads requests, so that the end of stdin is seen even while a kernel hangs."""
    requests: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            requests.put(json.loads(line))
        os._exit(_ENDED_WITH_PARENT)

    threading.Thread(target=read, name="gpucost-bench-stdin", daemon=True).start()
    return requests


def _serve(backend: Backend, requests: queue.Queue[dict[str, Any]], replies: Any, handlers: dict[str, Handler]) -> int:
    while True:
        request = requests.get()
        if request["kind"] == "quit":
            return 0
        reply = _answer(backend, handlers[request["kind"]], request)
        sticky = reply["status"] == FAILED and not _alive(backend)
        _say(replies, {"id": request["id"], **reply, "sticky": sticky})
        if sticky:
            return _STICKY


def _answer(backend: Backend, handler: Handler, request: dict[str, Any]) -> dict[str, Any]:
    """What a handler replies; after an out-of-memory everything is let go, and it is asked once more for half the size."""
    from gpucost.bench.kernels.handlers import forget, smaller

    reply = _try(backend, handler, request)
    if reply["status"] != OUT_OF_MEMORY:
        return reply
    forget()
    half = smaller(request)
    return reply if half is None else _try(backend, handler, half)


def _try(backend: Backend, handler: Handler, request: dict[str, Any]) -> dict[str, Any]:
    """What a handler replies; its exceptions become a status."""
    import torch

    try:
        return {"status": OK, **handler(backend, request)}
    except (torch.OutOfMemoryError, MemoryError) as error:
        return {"status": OUT_OF_MEMORY, "message": _message(error)}
    except NotImplementedError as error:
        return {"status": UNSUPPORTED, "message": _message(error)}
    except Exception as error:  # noqa: BLE001 (torch raises nearly anything, and the supervisor must be told)
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):  # how torch says it of the host
            return {"status": OUT_OF_MEMORY, "message": _message(error)}
        return {"status": FAILED, "message": _message(error)}


def _alive(backend: Backend) -> bool:
    """Whether the device still computes: after a sticky error every call fails until the process is gone."""
    import torch

    try:
        backend.synchronize()
        return float(torch.ones(2, device=backend.device).sum()) == 2.0  # noqa: PLR2004 (1 + 1)
    except Exception:  # noqa: BLE001
        return False


def _message(error: BaseException) -> str:
    """The first line of an error, short: torch appends pages of advice."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:_MESSAGE_CHARACTERS]


def _say(replies: Any, message: dict[str, Any]) -> None:
    """JSON has no NaN; it is written as null where it may stand, and nothing else may be NaN."""
    replies.write(json.dumps(message, allow_nan=False) + "\n")
    replies.flush()


if __name__ == "__main__":
    sys.exit(main())
