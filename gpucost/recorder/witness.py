"""Who was meant by a signal: the recorder alone, or everybody beside it?

`timeout`, `kill -TERM -PGID`, systemd and Slurm send a signal to the recorder and to its command; `kill PID` to the recorder alone. What the
kernel tells of a signal is the same in both cases. So the recorder keeps a child in its process group (and session, and cgroup) that does nothing: `cat`
on a pipe that nobody writes to, started with every signal blocked. A signal sent to the group stays pending there, and the kernel shows it in
/proc/PID/status. No code of ours runs in it, it needs not be scheduled to answer, it costs no CPU and some 100 KiB, and the end of the pipe ends it, however
the recorder ends.

Without it (no /proc, no `cat`, somebody killed it) a signal counts as meant for the recorder alone.
"""

import os
import signal
import time

_PROGRAMS = ("/bin/cat", "/usr/bin/cat")
_PATIENCE_S = 0.03
"""So long after the recorder the others may get a signal that is sent to one process after the other."""

_LOOK_EVERY_S = 0.002
_SAME_S = 0.1
_STALE_S = 0.5
_NOT_ASKED = {int(signal.SIGWINCH)}  # comes in floods, and twice does no harm


class Witness:
    """A child that keeps the signals it gets.

    Attributes:
        pid: the child; None while there is none.
        pids: the same as a set, for those who must tell the recorder's own children from the command's.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        self.pids: set[int] = set()
        self._wanted = False
        self._pipe = -1
        self._carried: set[int] = set()
        self._told: dict[tuple[int, int], float] = {}
        self._stale: set[int] = set()
        self._swept_at = 0.0

    def start(self) -> bool:
        """Put the child there; returns whether it is (elsewhere than on Linux it never is)."""
        program = next((path for path in _PROGRAMS if os.access(path, os.X_OK)), None)
        self._wanted = program is not None and os.path.exists("/proc/self/status")
        if program is None or not self._wanted:
            return False
        import fcntl

        try:
            reading, writing = os.pipe2(os.O_CLOEXEC)
        except OSError:
            return False
        pipe = -1
        try:
            # Not below 3: the recorder lets go of its standard streams.
            pipe = fcntl.fcntl(writing, fcntl.F_DUPFD_CLOEXEC, 3)
            self.pid = os.posix_spawn(
                program, ["cat"], {}, setsigmask=signal.valid_signals(), file_actions=_streams(reading)
            )
        except OSError:
            if pipe >= 0:
                os.close(pipe)
            return False
        finally:
            os.close(reading)
            os.close(writing)
        self._pipe = pipe
        self.pids.add(self.pid)
        return True

    def got(self, number: int, sender: int) -> bool:
        """Whether this signal, which the recorder has just got, went to more than the recorder; waits a moment for it to come.

        The same signal of the same sender within a tenth of a second is the same wish: `timeout` sends it to its child, and then to the group.
        """
        if number in _NOT_ASKED:
            return False
        deadline = time.monotonic() + _PATIENCE_S
        self._told = _young(self._told)
        if (number, sender) in self._told:
            self.settle(number)
            return True
        while number not in self._pending():
            if self.pid is None or time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_EVERY_S)
        self._told[number, sender] = time.monotonic()
        self._forget({number})
        return True

    def settle(self, number: int) -> None:
        """The recorder knows already whom this signal was meant for: one that comes later must not be taken for it."""
        if number in self._pending():
            self._forget({number})

    def sweep(self) -> None:
        """Called now and then: a signal that has been here for a while, and was none of the recorder's, was meant for this child alone."""
        now = time.monotonic()
        if not self._wanted or now - self._swept_at < _STALE_S:
            return
        self._swept_at = now
        if self.pid is None:
            self.start()  # somebody killed it
        pending = self._pending() - _NOT_ASKED
        if stale := pending & self._stale:
            self._forget(stale)
        self._stale = pending - stale

    def ended(self, pid: int) -> bool:
        """A child with this pid has ended; returns whether it was this one."""
        if pid != self.pid:
            return False
        self._let_go()
        return True

    def stop(self) -> None:
        """End the child, and wait for its end."""
        self._wanted = False
        if self.pid is None:
            return
        pid = self.pid
        self._let_go()
        _end(pid)

    def _let_go(self) -> None:
        self.pids.discard(self.pid or 0)
        self.pid = None
        os.close(self._pipe)
        self._carried = set()

    def _forget(self, numbers: set[int]) -> None:
        """What is pending stays so; only a new child has none. What the old one got meanwhile, or is not asked for yet, is remembered."""
        old, pipe = self.pid, self._pipe
        carried = self._carried
        if old is None:
            return
        self.pid = None
        started = self.start()
        self._carried = (carried | _pending(old)) - numbers if started else set()
        _end(old)
        os.close(pipe)
        self.pids.discard(old)

    def _pending(self) -> set[int]:
        return self._carried | _pending(self.pid) if self.pid is not None else set()


def _streams(reading: int) -> list[tuple[int, ...]]:
    null = os.devnull
    return [
        (os.POSIX_SPAWN_DUP2, reading, 0),
        (os.POSIX_SPAWN_OPEN, 1, null, os.O_WRONLY, 0),  # type: ignore[list-item]
        (os.POSIX_SPAWN_OPEN, 2, null, os.O_WRONLY, 0),  # type: ignore[list-item]
    ]


def _young(told: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    since = time.monotonic() - _SAME_S
    return {key: when for key, when in told.items() if when > since}


def _pending(pid: int) -> set[int]:
    """The signals that a process has been sent and has not taken."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return set()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith((b"SigPnd:", b"ShdPnd:"))]
    return {number for number in range(1, 65) if any(mask >> (number - 1) & 1 for mask in masks)}


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
