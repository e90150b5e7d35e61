"""The end of a run: a short-lived child seals the journal, resolves the price, and prints the four lines."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpucost.recorder.machinery import Machinery

_SEALER_PATIENCE_S = 5.0
_TIMEOUT_S = 120.0
_IMPATIENT = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


def close(machinery: Machinery, *, written: bool) -> None:
    """Seal and summarize in a child, so that a failure or a shortage of memory there harms neither the recording nor the exit code.

    The command has ended: a signal now means that somebody is in a hurry, and ends the child. The journal stays readable.
    """
    options, run_dir = machinery.options, machinery.run_dir
    if not written:
        _say(quiet=options.quiet, line=f"gpucost: not everything could be written; see: gpucost report {run_dir}")
    _wait_for(machinery, machinery.sealer, _SEALER_PATIENCE_S)
    arguments = [run_dir, "--host", machinery.host, *(["--quiet"] if options.quiet else [])]
    if machinery.writer.is_alive():
        arguments.append("--keep-journal")  # it still writes there: sealing is left to `gpucost recover`
    pid = machinery.start_own("gpucost.recorder.epilogue", *arguments)
    if not _wait_for(machinery, pid, _TIMEOUT_S):
        _say(quiet=options.quiet, line=f"gpucost: recorded, not sealed yet; see: gpucost report {run_dir}")


def _wait_for(machinery: Machinery, pid: int | None, seconds: float) -> bool:
    """Wait for an own child; kill it when a signal says to hurry or the time is up. Returns whether it ended by itself, and well."""
    if pid is None:
        return False
    deadline = time.monotonic() + seconds
    while (status := machinery.supervisor.ended(pid)) is None:
        number = machinery.supervisor.wait(min(1.0, max(0.0, deadline - time.monotonic())))
        if number in _IMPATIENT or time.monotonic() >= deadline:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            machinery.supervisor.reap()
            return False
    return os.waitstatus_to_exitcode(status) == 0


def _say(*, quiet: bool, line: str) -> None:
    if not quiet:
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:
            pass
